/* SPDX-License-Identifier: Apache-2.0 */

/*
 * vhdx_bench [SECONDS [DIR]] - the same loads on a raw file (raw), a fixed VHDX (fixed), a dynamic
 * one that is full (dynamic) and, for sequential loads, qemu-img bench on the very same dynamic
 * VHDX (qemu). All past the page cache; they take turns in short slices, so that what else the
 * machine does hits them alike. Then disks that grow: a sparse raw file and a new dynamic VHDX,
 * written in sequence and at random. "fixed/raw" and so on are ratios of the rates.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/blk.h"
#include "base/blk_sync.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/errbuf.h"
#include "base/run.h"
#include "base/uring.h"
#include "hv/raw/raw.h"
#include "hv/vhdx/vhdx_tool.h"
#include "tests/bench/bench.h"

#define DISK_BYTES (256ull << 20)
#define GROW_BYTES (192ull << 20)
#define SLICES 6u
#define ROUNDS 3u
#define QEMU_IMG "/usr/bin/qemu-img"

struct slot {
	struct blk_req req;
	struct iovec iov;
	struct side *side;
};

struct side {
	const char *name;
	struct blk *blk;
	const struct bench_load *load;
	struct bench_place place;
	uint64_t limit; /* stop starting at this many; 0 = by time */
	uint64_t started;
	uint64_t count;
	uint64_t spent_ns;
	bool stopping;
	struct slot slot[BENCH_LOAD_DEPTH_MAX];
};

struct place {
	char dir[200];
	char path[3][256];
	struct uring *ring;
	struct vhdx_files files;
	void *buffer[BENCH_LOAD_DEPTH_MAX];
	double seconds;
};

enum { RAW, FIXED, DYNAMIC, SIDES };

static void start(struct slot *s)
{
	struct side *side = s->side;

	side->started++;
	s->req.offset_bytes = bench_load_offset(side->load, DISK_BYTES, &side->place);
	blk_submit(side->blk, &s->req);
}

static void done(struct blk_req *req, int result)
{
	struct slot *s = req->arg;
	struct side *side = s->side;

	CHECK(result == 0);
	side->count++;
	if (!side->stopping && (side->limit == 0 || side->started < side->limit)) {
		start(s);
	}
}

/* One slice of @side's load; @slice_ns 0: until its limit. */
static void slice(const struct place *p, struct side *side, uint64_t slice_ns)
{
	const struct bench_load *load = side->load;
	uint64_t begin = clock_now_ns();

	side->stopping = false;
	for (uint32_t i = 0; i < load->depth; i++) {
		struct slot *s = &side->slot[i];

		s->side = side;
		s->iov = (struct iovec){p->buffer[i], load->block_bytes};
		s->req = (struct blk_req){
			.op = load->write ? BLK_WRITE : BLK_READ,
			.len_bytes = load->block_bytes,
			.iov = &s->iov,
			.iov_count = 1,
			.done = done,
			.arg = s,
		};
		start(s);
	}
	while (side->blk->in_flight != 0) {
		CHECK(uring_wait(p->ring, UINT64_MAX) >= 0);
		side->stopping = slice_ns != 0 && clock_now_ns() - begin >= slice_ns;
	}
	side->spent_ns += clock_now_ns() - begin;
}

static double rate_of(const struct side *side)
{
	return (double)side->count * (double)NS_PER_S / (double)side->spent_ns;
}

/* qemu-img bench with the same requests on @path. Returns the rate; 0: it cannot be run. */
static double qemu(const struct place *p, const struct bench_load *load, const char *path,
                   double rate)
{
	char count[32];
	char depth[16];
	char size[16];
	char said[4096];
	const char *argv[] = {QEMU_IMG, "bench", "-f",  "vhdx", "-t", "none", "-n", "-c",
	                      count,    "-d",    depth, "-s",   size, path,   NULL, NULL};
	const char *text;
	double seconds;

	(void)snprintf(count, sizeof(count), "%.0f", rate * p->seconds + 1);
	(void)snprintf(depth, sizeof(depth), "%u", load->depth);
	(void)snprintf(size, sizeof(size), "%u", load->block_bytes);
	if (load->write) {
		argv[14] = argv[13];
		argv[13] = "-w";
	}
	if (run_capture(argv, 60 * NS_PER_S, said, sizeof(said)) != 0) {
		return 0;
	}
	text = strstr(said, "completed in ");
	seconds = text != NULL ? strtod(text + strlen("completed in "), NULL) : 0;
	return seconds > 0 ? strtod(count, NULL) / seconds : 0;
}

static void no_error(int err, const struct errbuf *eb)
{
	if (err != 0) {
		(void)fprintf(stderr, "vhdx_bench: %s\n", errbuf_text(eb, err));
		exit(1);
	}
}

static struct blk *open_disk(const struct place *p, int which)
{
	const struct raw_cfg raw = {.path = p->path[RAW]};
	struct errbuf eb = {.text = ""};
	struct blk *blk;
	int err = which == RAW ? raw_open(&raw, p->ring, &blk, &eb)
	                       : vhdx_open_path(&p->files, p->path[which], false, &blk, &eb);

	no_error(err, &eb);
	return blk;
}

static void create_disk(const struct place *p, int which)
{
	const struct raw_create_cfg raw = {.path = p->path[RAW], .size_bytes = DISK_BYTES};
	const struct vhdx_create_cfg vhdx = {.kind = which == FIXED ? VHDX_FIXED : VHDX_DYNAMIC,
	                                     .size_bytes = DISK_BYTES};
	struct errbuf eb = {.text = ""};

	(void)unlink(p->path[which]);
	no_error(which == RAW ? raw_create(&raw, &eb)
	                      : vhdx_create(&p->files, p->path[which], NULL, &vhdx, NULL, &eb),
	         &eb);
}

static void fill(const struct place *p, int which)
{
	struct blk *blk = open_disk(p, which);

	for (uint64_t at = 0; at < DISK_BYTES; at += 1 << 20) {
		CHECK(blk_sync_write(blk, at, p->buffer[0], 1 << 20) == 0);
	}
	CHECK(blk_sync_flush(blk) == 0);
	CHECK(blk_close(blk, NULL) == 0);
}

/* One load on the full disks. */
static void run_load(const struct place *p, const struct bench_load *load)
{
	static struct side side[SIDES];
	static const char *const names[SIDES] = {"raw", "fixed", "dynamic"};
	uint64_t slice_ns = (uint64_t)(p->seconds * (double)NS_PER_S / SLICES);
	double rate[SIDES];
	double theirs = 0;

	for (int i = 0; i < SIDES; i++) {
		side[i] = (struct side){.name = names[i],
		                        .blk = open_disk(p, i),
		                        .load = load,
		                        .place = {.rng = 1}};
	}
	for (uint32_t n = 0; n < SLICES; n++) {
		for (int i = 0; i < SIDES; i++) {
			slice(p, &side[i], slice_ns);
		}
	}
	for (int i = 0; i < SIDES; i++) {
		rate[i] = bench_load_rate(names[i], load, rate_of(&side[i]));
		CHECK(blk_close(side[i].blk, NULL) == 0);
	}
	bench_load_figure("fixed/raw", load, 100 * rate[FIXED] / rate[RAW], "%");
	bench_load_figure("dynamic/raw", load, 100 * rate[DYNAMIC] / rate[RAW], "%");
	if (!load->random) {
		theirs = qemu(p, load, p->path[DYNAMIC], rate[DYNAMIC]);
	}
	if (theirs > 0) {
		(void)bench_load_rate("qemu", load, theirs);
		bench_load_figure("dynamic/qemu", load, 100 * rate[DYNAMIC] / theirs, "%");
	}
}

/* Writes to new disks, and a flush: how fast they take GROW_BYTES. */
static void run_grow(const struct place *p, const struct bench_load *load)
{
	static struct side side[SIDES];
	double rate[SIDES];

	for (int i = 0; i < SIDES; i++) {
		side[i] = (struct side){.load = load, .place = {.rng = 1}};
	}
	for (uint32_t n = 0; n < ROUNDS; n++) {
		for (int i = RAW; i < SIDES; i += DYNAMIC) {
			uint64_t begin;

			create_disk(p, i);
			side[i].blk = open_disk(p, i);
			side[i].place.next = 0;
			side[i].started = 0;
			side[i].limit = GROW_BYTES / load->block_bytes / (load->random ? 16 : 1);
			slice(p, &side[i], 0);
			begin = clock_now_ns();
			CHECK(blk_sync_flush(side[i].blk) == 0);
			side[i].spent_ns += clock_now_ns() - begin;
			CHECK(blk_close(side[i].blk, NULL) == 0);
		}
	}
	rate[RAW] = bench_load_rate("raw.new", load, rate_of(&side[RAW]));
	rate[DYNAMIC] = bench_load_rate("dynamic.new", load, rate_of(&side[DYNAMIC]));
	bench_load_figure("dynamic.new/raw.new", load, 100 * rate[DYNAMIC] / rate[RAW], "%");
}

int main(int argc, char **argv)
{
	static const struct bench_load loads[] = {
		{"read4k.random", 4096, true, false, 1},
		{"read4k.random", 4096, true, false, 32},
		{"write4k.random", 4096, true, true, 1},
		{"write4k.random", 4096, true, true, 32},
		{"read4k.sequential", 4096, false, false, 32},
		{"write4k.sequential", 4096, false, true, 32},
		{"read1m.sequential", 1u << 20, false, false, 4},
		{"write1m.sequential", 1u << 20, false, true, 4},
	};
	static const struct bench_load grows[] = {
		{"write1m.sequential", 1u << 20, false, true, 4},
		{"write64k.sequential", 64u << 10, false, true, 8},
		{"write4k.random", 4096, true, true, 32},
	};
	static const char *const names[SIDES] = {"disk.raw", "fixed.vhdx", "dynamic.vhdx"};
	struct place p = {.seconds = argc > 1 ? strtod(argv[1], NULL) : 1.0,
	                  .ring = bench_ring(128, false)};

	(void)snprintf(p.dir, sizeof(p.dir), "%s/godwit-bench-XXXXXX",
	               argc > 2 ? argv[2] : "/var/tmp");
	CHECK(mkdtemp(p.dir) != NULL);
	p.files = vhdx_files_raw(p.ring);
	for (uint32_t n = 0; n < BENCH_LOAD_DEPTH_MAX; n++) {
		p.buffer[n] = bench_pages(1u << 20);
	}
	(void)printf("# backend: %s\n", uring_backend(p.ring));
	for (int i = 0; i < SIDES; i++) {
		(void)snprintf(p.path[i], sizeof(p.path[i]), "%s/%s", p.dir, names[i]);
		create_disk(&p, i);
		fill(&p, i);
	}
	for (size_t i = 0; i < ARRAY_LEN(loads); i++) {
		run_load(&p, &loads[i]);
	}
	for (size_t i = 0; i < ARRAY_LEN(grows); i++) {
		run_grow(&p, &grows[i]);
	}
	for (int i = 0; i < SIDES; i++) {
		(void)unlink(p.path[i]);
	}
	(void)rmdir(p.dir);
	for (uint32_t n = 0; n < BENCH_LOAD_DEPTH_MAX; n++) {
		free(p.buffer[n]);
	}
	uring_destroy(p.ring);
	return 0;
}
