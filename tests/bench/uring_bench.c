/* SPDX-License-Identifier: Apache-2.0 */

/* uring_bench [SECONDS [DIR]] - the cost of one operation, with each backend and without any. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/uring.h"
#include "tests/bench/bench.h"

#define FILE_BYTES (64ull << 20)
#define BLOCK_BYTES 4096u
#define DEPTH_MAX 64u

struct bench;

struct slot {
	struct uring_op op;
	struct bench *bench;
	void *buf;
	struct iovec iov;
};

struct bench {
	struct uring *ring;
	int fd; /* -1 = nops */
	uint64_t rng;
	uint64_t count;
	uint64_t deadline_ns;
	bool stopping;
	struct slot slots[DEPTH_MAX];
};

static uint64_t random_offset(uint64_t *rng)
{
	return bench_random(rng) % (FILE_BYTES / BLOCK_BYTES) * BLOCK_BYTES;
}

static void start(struct slot *s)
{
	struct bench *b = s->bench;

	if (b->fd < 0) {
		CHECK(uring_prep_nop(b->ring, &s->op) == 0);
	} else {
		CHECK(uring_prep_readv(b->ring, &s->op, b->fd, &s->iov, 1,
		                       random_offset(&b->rng)) == 0);
	}
}

static void done(struct uring_op *op, int32_t res, bool more)
{
	struct slot *s = op->arg;

	(void)more;
	CHECK(res == (s->bench->fd < 0 ? 0 : (int32_t)BLOCK_BYTES));
	s->bench->count++;
	if (!s->bench->stopping) {
		start(s);
	}
}

static void run(const char *name, int fd, uint32_t depth, bool fallback, double seconds)
{
	static struct bench b;
	uint64_t begin = clock_now_ns();

	memset(&b, 0, sizeof(b));
	b.ring = bench_ring(DEPTH_MAX, fallback);
	b.fd = fd;
	b.rng = 1;
	b.deadline_ns = begin + (uint64_t)(seconds * (double)NS_PER_S);
	for (uint32_t i = 0; i < depth; i++) {
		struct slot *s = &b.slots[i];

		s->op.fn = done;
		s->op.arg = s;
		s->bench = &b;
		s->buf = bench_pages(BLOCK_BYTES);
		s->iov = (struct iovec){s->buf, BLOCK_BYTES};
		start(s);
	}
	while (uring_in_flight(b.ring) != 0) {
		CHECK(uring_wait(b.ring, UINT64_MAX) >= 0);
		b.stopping = clock_now_ns() >= b.deadline_ns;
	}
	(void)bench_rate(name, (double)b.count, begin, "ops/s");
	for (uint32_t i = 0; i < depth; i++) {
		free(b.slots[i].buf);
	}
	uring_destroy(b.ring);
}

static void run_preadv(const char *name, int fd, double seconds)
{
	uint64_t begin = clock_now_ns();
	uint64_t deadline = begin + (uint64_t)(seconds * (double)NS_PER_S);
	uint64_t count = 0;
	uint64_t rng = 1;
	struct iovec iov = {bench_pages(BLOCK_BYTES), BLOCK_BYTES};

	do {
		for (int i = 0; i < 32; i++) {
			CHECK(preadv(fd, &iov, 1, (off_t)random_offset(&rng)) == BLOCK_BYTES);
			count++;
		}
	} while (clock_now_ns() < deadline);
	(void)bench_rate(name, (double)count, begin, "ops/s");
	free(iov.iov_base);
}

int main(int argc, char **argv)
{
	double seconds = argc > 1 ? strtod(argv[1], NULL) : 1.0;
	int fd = bench_file(argc > 2 ? argv[2] : "/var/tmp", FILE_BYTES, false);
	struct uring *ring = bench_ring(1, false);

	(void)printf("# backend: %s; reads hit the page cache\n", uring_backend(ring));
	uring_destroy(ring);
	run("uring.nop.depth32", -1, 32, false, seconds);
	run("syscalls.nop.depth32", -1, 32, true, seconds);
	run_preadv("preadv.read4k", fd, seconds);
	run("uring.read4k.depth1", fd, 1, false, seconds);
	run("uring.read4k.depth32", fd, 32, false, seconds);
	run("syscalls.read4k.depth1", fd, 1, true, seconds);
	run("syscalls.read4k.depth32", fd, 32, true, seconds);
	(void)close(fd);
	return 0;
}
