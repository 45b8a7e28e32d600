/* SPDX-License-Identifier: Apache-2.0 */

/*
 * csv_direct_bench MOUNTED SOCKET BESIDE [SECONDS] - a disk on a shared volume as a VM's worker has
 * it (hv/raw): MOUNTED by the device (device), MOUNTED.slow by the mounted file only (mount), and
 * the file BESIDE, on the storage that the volume is on (raw). They take turns in short slices.
 * Ratios are to raw. Files are made, 256 MiB each, all written. csv_direct_bench.py makes the rest.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/blk.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/errbuf.h"
#include "base/shared_direct.h"
#include "hv/raw/raw.h"
#include "tests/bench/bench.h"

#define FILE_BYTES (256ull << 20)
#define STEP_BYTES (1u << 20)
#define SLICES 10u
#define SIDES 3u

struct slot {
	struct blk_req req;
	struct iovec iov;
	struct side *side;
};

struct side {
	const char *name;
	struct blk *blk;
	struct uring *ring;
	const struct bench_load *load;
	struct bench_place place;
	uint64_t count;
	uint64_t spent_ns;
	uint32_t flying;
	bool stopping;
	struct slot slots[BENCH_LOAD_DEPTH_MAX];
};

static void start(struct slot *slot);

static void ended(struct blk_req *req, int result)
{
	struct slot *slot = req->arg;
	struct side *s = slot->side;

	CHECK(result == 0);
	s->flying--;
	s->count++;
	if (!s->stopping) {
		start(slot);
	}
}

static void start(struct slot *slot)
{
	struct side *s = slot->side;

	slot->iov.iov_len = s->load->block_bytes;
	slot->req = (struct blk_req){
		.op = s->load->write ? BLK_WRITE : BLK_READ,
		.offset_bytes = bench_load_offset(s->load, FILE_BYTES, &s->place),
		.len_bytes = s->load->block_bytes,
		.iov = &slot->iov,
		.iov_count = 1,
		.done = ended,
		.arg = slot,
	};
	s->flying++;
	blk_submit(s->blk, &slot->req);
}

static void slice(struct side *s, uint64_t slice_ns)
{
	uint64_t begin = clock_now_ns();

	s->stopping = false;
	for (uint32_t i = 0; i < s->load->depth; i++) {
		start(&s->slots[i]);
	}
	while (s->flying != 0) {
		CHECK(uring_wait(s->ring, UINT64_MAX) >= 0);
		s->stopping = clock_now_ns() - begin >= slice_ns;
	}
	s->spent_ns += clock_now_ns() - begin;
}

/* Written and flushed, so that nothing of it is new any more. */
static void fill(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	uint8_t *buf = bench_pages(STEP_BYTES);
	uint64_t state = 1;

	CHECK(fd >= 0);
	for (uint32_t i = 0; i < STEP_BYTES / 8; i++) {
		uint64_t v = bench_random(&state);

		memcpy(buf + 8 * (size_t)i, &v, 8);
	}
	for (uint64_t at = 0; at < FILE_BYTES; at += STEP_BYTES) {
		CHECK(pwrite(fd, buf, STEP_BYTES, (off_t)at) == (ssize_t)STEP_BYTES);
	}
	CHECK(fsync(fd) == 0 && close(fd) == 0);
	free(buf);
}

static void open_side(struct side *s, const char *path, const char *socket)
{
	struct raw_cfg cfg = {.logical_bytes = 4096};
	struct errbuf eb = {0};
	int err;

	fill(path);
	s->ring = bench_ring(128, false);
	cfg.fd = raw_open_fd(path, false, &eb);
	if (cfg.fd >= 0 && socket != NULL) {
		cfg.direct_fd = shared_direct_connect(cfg.fd, socket, true);
		CHECK(cfg.direct_fd > 0);
	}
	err = cfg.fd < 0 ? cfg.fd : raw_open(&cfg, s->ring, &s->blk, &eb);
	if (err != 0) {
		(void)fprintf(stderr, "%s: %s\n", path, errbuf_text(&eb, err));
		exit(1);
	}
	for (uint32_t i = 0; i < BENCH_LOAD_DEPTH_MAX; i++) {
		s->slots[i].side = s;
		s->slots[i].iov.iov_base = bench_pages(STEP_BYTES);
		memset(s->slots[i].iov.iov_base, (int)i, STEP_BYTES);
	}
}

static void run(struct side *sides, const struct bench_load *load, double seconds)
{
	uint64_t slice_ns = (uint64_t)(seconds * (double)NS_PER_S / SLICES);
	double rate[SIDES];

	for (uint32_t i = 0; i < SIDES; i++) {
		sides[i].load = load;
		slice(&sides[i], slice_ns / 4); /* it knows where things lie */
		sides[i].count = 0;
		sides[i].spent_ns = 0;
	}
	for (uint32_t i = 0; i < SLICES * SIDES; i++) {
		slice(&sides[(i + i / SIDES) % SIDES], slice_ns);
	}
	for (uint32_t i = 0; i < SIDES; i++) {
		rate[i] = bench_load_rate(sides[i].name, load,
		                          (double)sides[i].count * (double)NS_PER_S /
		                                  (double)sides[i].spent_ns);
	}
	bench_load_figure("ratio.device", load, 100 * rate[0] / rate[2], "%");
	bench_load_figure("ratio.mount", load, 100 * rate[1] / rate[2], "%");
}

int main(int argc, char **argv)
{
	static const struct bench_load loads[] = {
		{"read4k", 4096, true, false, 1},      {"read4k", 4096, true, false, 32},
		{"write4k", 4096, true, true, 1},      {"write4k", 4096, true, true, 32},
		{"read1m", 1u << 20, false, false, 4}, {"write1m", 1u << 20, false, true, 4},
	};
	static struct side sides[SIDES] = {{.name = "device"}, {.name = "mount"}, {.name = "raw"}};
	double seconds = argc > 4 ? strtod(argv[4], NULL) : 3;
	struct raw_stats stats;
	char slow[4096];

	if (argc < 4) {
		(void)fprintf(stderr, "usage: csv_direct_bench MOUNTED SOCKET BESIDE [SECONDS]\n");
		return 2;
	}
	(void)snprintf(slow, sizeof(slow), "%s.slow", argv[1]);
	open_side(&sides[0], argv[1], argv[2]);
	open_side(&sides[1], slow, NULL);
	open_side(&sides[2], argv[3], NULL);
	for (size_t i = 0; i < sizeof(loads) / sizeof(loads[0]); i++) {
		run(sides, &loads[i], seconds);
	}
	raw_get_stats(sides[0].blk, &stats);
	bench_figure("device.transfers", (double)stats.on_device, "on the device");
	for (uint32_t i = 0; i < SIDES; i++) {
		CHECK(blk_close(sides[i].blk, NULL) == 0);
	}
	return 0;
}
