/* SPDX-License-Identifier: Apache-2.0 */

/*
 * raw_bench [SECONDS [DIR]] - the raw driver (raw), the ring without the driver at the same depth
 * (uring) and plain system calls one at a time (plain) on the same file: 4 KiB random and 1 MiB
 * sequential, past the page cache. They take turns in short slices, so that what else the machine
 * does hits them alike. "driver" lines are raw / uring, "ratio" lines raw / plain.
 *
 * A write of the ring may need a kernel thread (to update times, to complete), so a busy machine
 * slows it at depth 1; chrt -f 10 shows what a quiet one would give.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/blk.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/uring.h"
#include "hv/raw/raw.h"
#include "tests/bench/bench.h"

#define FILE_BYTES (256ull << 20)
#define SLICES 6u

struct slot {
	struct blk_req req;
	struct uring_op op;
	struct iovec iov;
	struct bench *bench;
};

struct bench {
	const struct bench_load *load;
	struct blk *blk;
	struct uring *ring;
	int fd;
	struct bench_place place;
	uint64_t count;
	uint64_t spent_ns;
	bool stopping;
	struct slot slots[BENCH_LOAD_DEPTH_MAX];
	void *buffers[BENCH_LOAD_DEPTH_MAX];
};

static void start(struct slot *s)
{
	s->req.offset_bytes = bench_load_offset(s->bench->load, FILE_BYTES, &s->bench->place);
	blk_submit(s->bench->blk, &s->req);
}

static void done(struct blk_req *req, int result)
{
	struct slot *s = req->arg;

	CHECK(result == 0);
	s->bench->count++;
	if (!s->bench->stopping) {
		start(s);
	}
}

/* One slice through the driver. */
static void slice_raw(struct bench *b, uint64_t slice_ns)
{
	uint64_t begin = clock_now_ns();

	b->stopping = false;
	for (uint32_t i = 0; i < b->load->depth; i++) {
		struct slot *s = &b->slots[i];

		s->bench = b;
		s->iov = (struct iovec){b->buffers[i], b->load->block_bytes};
		s->req = (struct blk_req){
			.op = b->load->write ? BLK_WRITE : BLK_READ,
			.len_bytes = b->load->block_bytes,
			.iov = &s->iov,
			.iov_count = 1,
			.done = done,
			.arg = s,
		};
		start(s);
	}
	while (b->blk->in_flight != 0) {
		CHECK(uring_wait(b->ring, UINT64_MAX) >= 0);
		b->stopping = clock_now_ns() - begin >= slice_ns;
	}
	b->spent_ns += clock_now_ns() - begin;
}

static void op_start(struct slot *s)
{
	struct bench *b = s->bench;
	uint64_t at = bench_load_offset(b->load, FILE_BYTES, &b->place);
	int err = b->load->write ? uring_prep_writev(b->ring, &s->op, b->fd, &s->iov, 1, at)
	                         : uring_prep_readv(b->ring, &s->op, b->fd, &s->iov, 1, at);

	CHECK(err == 0);
}

static void op_done(struct uring_op *op, int32_t res, bool more)
{
	struct slot *s = op->arg;

	(void)more;
	CHECK(res == (int32_t)s->bench->load->block_bytes);
	s->bench->count++;
	if (!s->bench->stopping) {
		op_start(s);
	}
}

/* One slice of the ring alone. */
static void slice_uring(struct bench *b, uint64_t slice_ns)
{
	uint64_t begin = clock_now_ns();

	b->stopping = false;
	for (uint32_t i = 0; i < b->load->depth; i++) {
		struct slot *s = &b->slots[i];

		s->bench = b;
		s->iov = (struct iovec){b->buffers[i], b->load->block_bytes};
		s->op.fn = op_done;
		s->op.arg = s;
		op_start(s);
	}
	while (uring_in_flight(b->ring) != 0) {
		CHECK(uring_wait(b->ring, UINT64_MAX) >= 0);
		b->stopping = clock_now_ns() - begin >= slice_ns;
	}
	b->spent_ns += clock_now_ns() - begin;
}

/* One slice of system calls, one at a time. */
static void slice_plain(struct bench *b, uint64_t slice_ns)
{
	uint64_t begin = clock_now_ns();
	const struct iovec iov = {b->buffers[0], b->load->block_bytes};

	do {
		off_t at = (off_t)bench_load_offset(b->load, FILE_BYTES, &b->place);
		ssize_t n =
			b->load->write ? pwritev(b->fd, &iov, 1, at) : preadv(b->fd, &iov, 1, at);

		CHECK(n == (ssize_t)b->load->block_bytes);
		b->count++;
	} while (clock_now_ns() - begin < slice_ns);
	b->spent_ns += clock_now_ns() - begin;
}

static double report(const struct bench *b, const char *side, uint32_t depth)
{
	struct bench_load load = *b->load;

	load.depth = depth;
	return bench_load_rate(side, &load,
	                       (double)b->count * (double)NS_PER_S / (double)b->spent_ns);
}

enum side { SIDE_RAW, SIDE_URING, SIDE_PLAIN, SIDE_COUNT };

static void run(struct bench sides[SIDE_COUNT], const struct bench_load *load, double seconds)
{
	uint64_t slice_ns = (uint64_t)(seconds * (double)NS_PER_S / SLICES);

	for (int i = 0; i < SIDE_COUNT; i++) {
		sides[i].load = load;
		sides[i].count = 0;
		sides[i].spent_ns = 0;
	}
	for (uint32_t i = 0; i < SLICES; i++) {
		slice_raw(&sides[SIDE_RAW], slice_ns);
		slice_uring(&sides[SIDE_URING], slice_ns);
		slice_plain(&sides[SIDE_PLAIN], slice_ns);
	}

	double raw = report(&sides[SIDE_RAW], "raw", load->depth);
	double ring = report(&sides[SIDE_URING], "uring", load->depth);
	double plain = report(&sides[SIDE_PLAIN], "plain", 1);

	bench_load_figure("driver", load, 100 * raw / ring, "%");
	bench_load_figure("ratio", load, 100 * raw / plain, "%");
}

int main(int argc, char **argv)
{
	static const struct bench_load loads[] = {
		{"read4k.random", 4096, true, false, 1},
		{"read4k.random", 4096, true, false, 32},
		{"write4k.random", 4096, true, true, 1},
		{"write4k.random", 4096, true, true, 32},
		{"read1m.sequential", 1u << 20, false, false, 1},
		{"read1m.sequential", 1u << 20, false, false, 4},
		{"write1m.sequential", 1u << 20, false, true, 1},
		{"write1m.sequential", 1u << 20, false, true, 4},
	};
	static struct bench sides[SIDE_COUNT];
	double seconds = argc > 1 ? strtod(argv[1], NULL) : 1.0;
	int fd = bench_file(argc > 2 ? argv[2] : "/var/tmp", FILE_BYTES, true);
	const struct raw_cfg cfg = {.fd = fcntl(fd, F_DUPFD_CLOEXEC, 0)};
	struct uring *ring = bench_ring(64, false);
	struct raw_stats stats;
	struct blk *blk;

	CHECK(raw_open(&cfg, ring, &blk, NULL) == 0);
	for (int i = 0; i < SIDE_COUNT; i++) {
		sides[i] = (struct bench){.blk = blk, .ring = ring, .fd = fd, .place = {.rng = 1}};
	}
	for (uint32_t n = 0; n < BENCH_LOAD_DEPTH_MAX; n++) {
		void *buffer = bench_pages(1u << 20);

		for (int i = 0; i < SIDE_COUNT; i++) {
			sides[i].buffers[n] = buffer;
		}
	}
	raw_get_stats(blk, &stats);
	(void)printf("# backend: %s, %s\n", uring_backend(ring),
	             stats.direct ? "O_DIRECT" : "page cache");
	for (size_t i = 0; i < ARRAY_LEN(loads); i++) {
		run(sides, &loads[i], seconds);
	}
	for (uint32_t n = 0; n < BENCH_LOAD_DEPTH_MAX; n++) {
		free(sides[0].buffers[n]);
	}
	CHECK(blk_close(blk, NULL) == 0);
	uring_destroy(ring);
	(void)close(fd);
	return 0;
}
