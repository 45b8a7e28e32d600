/* SPDX-License-Identifier: Apache-2.0 */

/*
 * csv_bench [SECONDS [FILE-OR-DEVICE]] - the data path of a shared volume (csv) beside the ring
 * alone on the same LUN (uring): 4 KiB random and 1 MiB sequential, past the page cache. They take
 * turns in short slices, so that what else the machine does hits them alike. "ratio" lines are
 * csv / uring. The content of what is named is overwritten; without a name it is a file of 256 MiB
 * in /var/tmp.
 *
 * The provider knows all extents and grants all rights: what is measured is what a running VM pays.
 * Its extents are units of 1 MiB that lie in a mixed order, as on a volume that is in use.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/blk.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/uring.h"
#include "csv/data/csv_data.h"
#include "tests/bench/bench.h"

#define LUN_BYTES (256ull << 20)
#define UNIT_BYTES (1ull << 20)
#define UNITS (LUN_BYTES / UNIT_BYTES)
#define SLICES 10u

struct slot {
	struct blk_req req;
	struct uring_op op;
	struct iovec iov;
	struct side *side;
};

struct side {
	const struct bench_load *load;
	struct blk *blk; /* NULL: the ring alone */
	struct uring *ring;
	int fd;
	struct bench_place place;
	uint64_t count;
	uint64_t spent_ns;
	uint32_t flying;
	bool stopping;
	struct slot slots[BENCH_LOAD_DEPTH_MAX];
};

/* ---- the provider ---- */

struct provider {
	struct uring *ring;
	struct uring_op op;
	struct csv_data_ask *ask; /* one at a time is asked for: nothing else waits */
};

static uint64_t unit_at(uint64_t unit)
{
	return (unit * 37 + 5) % UNITS; /* 37 is odd: each has a place of its own */
}

static void answer(struct uring_op *op, int32_t res, bool more)
{
	static struct csv_layout_lease lease;
	struct provider *p = op->arg;
	uint64_t first = p->ask->file_bytes / UNIT_BYTES;

	(void)res;
	(void)more;
	CHECK(p->ask->what == CSV_DATA_LAYOUT);
	lease = (struct csv_layout_lease){
		.number = 1,
		.expires_ns = UINT64_MAX,
		.from_bytes = first * UNIT_BYTES,
		.write = true,
	};
	for (uint64_t u = first; u < UNITS && lease.extents_count < CSV_LAYOUT_EXTENTS_MAX; u++) {
		lease.extents[lease.extents_count++] = (struct csv_layout_extent){
			.file_bytes = u * UNIT_BYTES,
			.device_bytes = unit_at(u) * UNIT_BYTES,
			.length_bytes = UNIT_BYTES,
		};
		lease.to_bytes = (u + 1) * UNIT_BYTES;
	}
	csv_data_answer(p->ask, 0, &lease);
}

static void ask(void *arg, struct csv_data_ask *a)
{
	struct provider *p = arg;

	p->ask = a;
	p->op = (struct uring_op){.fn = answer, .arg = p};
	uring_defer(p->ring, &p->op, 0);
}

static void rights(void *arg, struct csv_data_rights *out)
{
	(void)arg;
	*out = (struct csv_data_rights){.until_ns = UINT64_MAX, .token = 1};
}

static void event(void *arg, enum csv_data_state state, enum csv_data_reason reason)
{
	(void)arg;
	(void)fprintf(stderr, "state %s: %s\n", csv_data_state_name(state),
	              csv_data_reason_name(reason));
}

static const struct csv_data_ops provider_ops = {.ask = ask, .rights = rights, .event = event};

/* ---- both sides ---- */

static void start(struct slot *slot)
{
	struct side *s = slot->side;
	uint64_t at = bench_load_offset(s->load, LUN_BYTES, &s->place);
	int err;

	s->flying++;
	if (s->blk != NULL) {
		slot->req.offset_bytes = at;
		blk_submit(s->blk, &slot->req);
		return;
	}
	/* The same places on the LUN in the same order. */
	at = unit_at(at / UNIT_BYTES) * UNIT_BYTES + at % UNIT_BYTES;
	err = s->load->write ? uring_prep_writev(s->ring, &slot->op, s->fd, &slot->iov, 1, at)
	                     : uring_prep_readv(s->ring, &slot->op, s->fd, &slot->iov, 1, at);
	CHECK(err == 0);
}

static void ended(struct slot *slot)
{
	struct side *s = slot->side;

	s->flying--;
	s->count++;
	if (!s->stopping) {
		start(slot);
	}
}

static void blk_ended(struct blk_req *req, int result)
{
	CHECK(result == 0);
	ended(req->arg);
}

static void op_ended(struct uring_op *op, int32_t res, bool more)
{
	struct slot *slot = op->arg;

	(void)more;
	CHECK(res == (int32_t)slot->side->load->block_bytes);
	ended(slot);
}

static void slice(struct side *s, uint64_t slice_ns)
{
	uint64_t begin = clock_now_ns();

	s->stopping = false;
	for (uint32_t i = 0; i < s->load->depth; i++) {
		struct slot *slot = &s->slots[i];

		slot->side = s;
		slot->iov.iov_len = s->load->block_bytes;
		slot->op = (struct uring_op){.fn = op_ended, .arg = slot};
		slot->req = (struct blk_req){
			.op = s->load->write ? BLK_WRITE : BLK_READ,
			.len_bytes = s->load->block_bytes,
			.iov = &slot->iov,
			.iov_count = 1,
			.done = blk_ended,
			.arg = slot,
		};
		start(slot);
	}
	while (s->flying != 0) {
		CHECK(uring_wait(s->ring, UINT64_MAX) >= 0);
		s->stopping = clock_now_ns() - begin >= slice_ns;
	}
	s->spent_ns += clock_now_ns() - begin;
}

static double report(const struct side *s, const char *name)
{
	return bench_load_rate(name, s->load,
	                       (double)s->count * (double)NS_PER_S / (double)s->spent_ns);
}

static void run(struct side *csv, struct side *plain, const struct bench_load *load, double seconds)
{
	struct side *sides[] = {csv, plain};
	uint64_t slice_ns = (uint64_t)(seconds * (double)NS_PER_S / SLICES);

	for (int i = 0; i < 2; i++) {
		sides[i]->load = load;
		sides[i]->count = 0;
		sides[i]->spent_ns = 0;
	}
	for (uint32_t i = 0; i < SLICES; i++) {
		/* Who begins takes turns, too. */
		slice(sides[i % 2], slice_ns);
		slice(sides[1 - i % 2], slice_ns);
	}

	double ours = report(csv, "csv");
	double limit = report(plain, "uring");

	bench_load_figure("ratio", load, 100 * ours / limit, "%");
}

int main(int argc, char **argv)
{
	static const struct bench_load loads[] = {
		{"read4k.random", 4096, true, false, 1},
		{"read4k.random", 4096, true, false, 32},
		{"write4k.random", 4096, true, true, 1},
		{"write4k.random", 4096, true, true, 32},
		{"read1m.sequential", 1u << 20, false, false, 4},
		{"write1m.sequential", 1u << 20, false, true, 4},
	};
	static struct side csv;
	static struct side plain;
	double seconds = argc > 1 ? strtod(argv[1], NULL) : 1.0;
	int fd = argc > 2 ? open(argv[2], O_RDWR | O_DIRECT | O_CLOEXEC)
	                  : bench_file("/var/tmp", LUN_BYTES, true);
	struct provider provider = {.ring = bench_ring(64, false)};
	const struct csv_data_cfg cfg = {
		.fd = fcntl(fd, F_DUPFD_CLOEXEC, 0),
		.size_bytes = LUN_BYTES,
		.logical_bytes = 4096,
		.token = 1,
		.ops = &provider_ops,
		.arg = &provider,
	};

	CHECK(csv_data_open(&cfg, provider.ring, &csv.blk, NULL) == 0);
	csv.ring = provider.ring;
	csv.place.rng = 1;
	plain.ring = provider.ring;
	plain.place.rng = 1;
	plain.fd = fd;
	for (uint32_t i = 0; i < BENCH_LOAD_DEPTH_MAX; i++) {
		csv.slots[i].iov.iov_base = bench_pages(1u << 20);
		plain.slots[i].iov.iov_base = csv.slots[i].iov.iov_base;
	}
	(void)printf("# backend: %s\n", uring_backend(provider.ring));
	for (size_t i = 0; i < sizeof(loads) / sizeof(loads[0]); i++) {
		run(&csv, &plain, &loads[i], seconds);
	}
	CHECK(blk_close(csv.blk, NULL) == 0);
	for (uint32_t i = 0; i < BENCH_LOAD_DEPTH_MAX; i++) {
		free(csv.slots[i].iov.iov_base);
	}
	uring_destroy(provider.ring);
	(void)close(fd);
	return 0;
}
