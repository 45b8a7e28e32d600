/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "csv/data/csv_data.h"
#include "csv/data/data_int.h"
#include "tests/unit/csv/data/data_fixture.h"

static _Alignas(4096) uint8_t page[FIX_FILE_BYTES];
static _Alignas(4096) uint8_t other[FIX_FILE_BYTES];

static void open_usual(struct fix *f)
{
	const struct csv_data_cfg cfg = fix_cfg(f);

	fix_open(f, &cfg);
}

static struct csv_data_stats stats_of(const struct fix *f)
{
	struct csv_data_stats s;

	csv_data_get_stats(f->blk, &s);
	return s;
}

static bool all_are(const uint8_t *buf, uint8_t value, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (buf[i] != value) {
			return false;
		}
	}
	return true;
}

/* ---- what is written, and what is seen of it ---- */

static void what_was_never_written_is_zero(void **state)
{
	struct fix *f = *state;

	for (uint32_t b = 0; b < FIX_BLOCKS; b++) {
		f->blocks[b] = b % 3 == 0 ? FIX_HOLE : FIX_UNWRITTEN;
	}
	open_usual(f);
	memset(page, 1, sizeof(page));
	assert_int_equal(fix_io(f, BLK_READ, 0, page, FIX_FILE_BYTES), 0);
	assert_true(all_are(page, 0, FIX_FILE_BYTES));
	assert_int_equal(stats_of(f).direct, 0);
	assert_int_equal(fix_close(f), 0);
}

static void a_flush_is_answered_after_the_conversion(void **state)
{
	struct fix *f = *state;
	struct fix_req flush = {.req = {.op = BLK_FLUSH}};
	uint64_t conversions;

	open_usual(f);
	memset(page, 7, 65536);
	assert_int_equal(fix_io(f, BLK_WRITE, 8192, page, 65536), 0);
	assert_int_equal(stats_of(f).fresh_bytes, 65536);
	/* We see it, nobody else does. */
	assert_int_equal(fix_io(f, BLK_READ, 8192, other, 65536), 0);
	assert_true(all_are(other, 7, 65536));
	fix_seen(f, other);
	assert_true(all_are(other, 0, FIX_FILE_BYTES));

	f->meta_down = true;
	fix_start(f, &flush);
	for (int i = 0; i < 20; i++) {
		fix_pump(f);
	}
	assert_int_equal(flush.calls, 0);
	f->meta_down = false;
	assert_int_equal(fix_wait(f, &flush), 0);
	assert_int_equal(stats_of(f).fresh_bytes, 0);
	fix_seen(f, other);
	assert_true(all_are(other + 8192, 7, 65536));
	assert_true(all_are(other, 0, 8192));
	/* Again: nothing to convert. */
	conversions = stats_of(f).conversions;
	assert_int_equal(fix_io(f, BLK_FLUSH, 0, NULL, 0), 0);
	assert_int_equal(stats_of(f).conversions, conversions);
	assert_int_equal(fix_close(f), 0);
}

static void a_write_with_fua_is_converted_too(void **state)
{
	struct fix *f = *state;
	struct fix_req r = {
		.req = {.op = BLK_WRITE, .flags = BLK_FUA, .len_bytes = 4096, .iov_count = 1},
		.iov = {page, 4096},
	};

	open_usual(f);
	r.req.iov = &r.iov;
	memset(page, 9, 4096);
	fix_start(f, &r);
	assert_int_equal(fix_wait(f, &r), 0);
	assert_int_equal(f->blocks[0], FIX_WRITTEN);
	fix_start(f, &r);
	assert_int_equal(fix_wait(f, &r), 0);
	assert_int_equal(stats_of(f).conversions, 1);
	assert_int_equal(fix_close(f), 0);
}

/* The device may have lost what it had: that the next flush succeeds says nothing about it. */
static void a_flush_that_failed_is_told(void **state)
{
	struct fix *f = *state;

	open_usual(f);
	memset(page, 7, 4096);
	assert_int_equal(fix_io(f, BLK_WRITE, 0, page, 4096), 0);
	f->flush_fails = true;
	assert_int_equal(fix_io(f, BLK_FLUSH, 0, NULL, 0), -EIO);
	assert_int_equal(f->blocks[0], FIX_UNWRITTEN);
	assert_int_equal(fix_io(f, BLK_FLUSH, 0, NULL, 0), 0);
	assert_int_equal(f->blocks[0], FIX_WRITTEN);
	assert_int_equal(fix_close(f), 0);
}

static void recalled_fn(void *arg)
{
	*(bool *)arg = true;
}

static void a_flush_that_failed_unasked_is_told_to_the_next(void **state)
{
	struct fix *f = *state;
	bool recalled = false;

	open_usual(f);
	memset(page, 7, 4096);
	assert_int_equal(fix_io(f, BLK_WRITE, 0, page, 4096), 0);
	f->flush_fails = true;
	/* What is recalled is flushed first. */
	assert_int_equal(csv_data_recall(f->blk, 0, FIX_FILE_BYTES, recalled_fn, &recalled), 0);
	while (!recalled) {
		fix_pump(f);
	}
	assert_false(f->flush_fails);
	assert_int_equal(fix_io(f, BLK_FLUSH, 0, NULL, 0), -EIO);
	assert_int_equal(fix_io(f, BLK_FLUSH, 0, NULL, 0), 0);
	assert_int_equal(fix_close(f), 0);
}

static void it_is_idle_when_nothing_is_under_way(void **state)
{
	struct fix *f = *state;
	struct fix_req flush = {.req = {.op = BLK_FLUSH}};

	open_usual(f);
	memset(page, 7, 4096);
	assert_int_equal(fix_io(f, BLK_WRITE, 0, page, 4096), 0);
	assert_true(csv_data_idle(f->blk));
	f->hold = true;
	fix_start(f, &flush);
	while (f->asks_count == 0) {
		fix_pump(f);
		assert_false(csv_data_idle(f->blk));
	}
	f->hold = false;
	assert_int_equal(fix_wait(f, &flush), 0);
	assert_true(csv_data_idle(f->blk));
	assert_int_equal(fix_close(f), 0);
}

static void closing_saves_what_was_not_flushed(void **state)
{
	struct fix *f = *state;

	open_usual(f);
	memset(page, 3, 4096);
	assert_int_equal(fix_io(f, BLK_WRITE, 4096, page, 4096), 0);
	assert_int_equal(fix_close(f), 0);
	assert_int_equal(f->blocks[1], FIX_WRITTEN);

	open_usual(f);
	f->rights.until_ns = 0;
	assert_int_equal(f->blocks[2], FIX_UNWRITTEN);
	f->rights.until_ns = UINT64_MAX;
	assert_int_equal(fix_io(f, BLK_WRITE, 8192, page, 4096), 0);
	f->meta_down = true;
	assert_int_equal(fix_close(f), -EIO);
	assert_int_equal(f->blocks[2], FIX_UNWRITTEN);
}

static void sectors_around_a_small_write_are_zero(void **state)
{
	struct fix *f = *state;
	struct csv_data_cfg cfg = fix_cfg(f);
	struct errbuf eb = {0};
	struct fix_req r[8];

	cfg.logical_bytes = 512;
	if (csv_data_open(&cfg, f->ring, &f->blk, &eb) != 0) {
		(void)close(cfg.fd); /* storage of 4096-byte sectors */
		return;
	}
	for (uint32_t i = 0; i < 8; i++) { /* all at once, into one block and a half */
		memset(page + i * 512, (int)i + 1, 512);
		r[i] = (struct fix_req){
			.req = {.op = BLK_WRITE,
		                .offset_bytes = 3072 + i * 512,
		                .len_bytes = 512,
		                .iov_count = 1},
			.iov = {page + i * 512, 512},
		};
		r[i].req.iov = &r[i].iov;
		fix_start(f, &r[i]);
	}
	for (uint32_t i = 0; i < 8; i++) {
		assert_int_equal(fix_wait(f, &r[i]), 0);
	}
	assert_int_equal(fix_io(f, BLK_READ, 0, other, 12288), 0);
	assert_true(all_are(other, 0, 3072));
	assert_memory_equal(other + 3072, page, 4096);
	assert_true(all_are(other + 7168, 0, 12288 - 7168));
	/* A piece in the middle of what is unwritten, with both ends in part of a block. */
	memset(page, 0x55, 16384);
	assert_int_equal(fix_io(f, BLK_WRITE, 65536 + 512, page, 16384), 0);
	assert_int_equal(fix_io(f, BLK_READ, 65536, other, 24576), 0);
	assert_true(all_are(other, 0, 512) && all_are(other + 512, 0x55, 16384));
	assert_true(all_are(other + 512 + 16384, 0, 24576 - 512 - 16384));
	assert_int_equal(fix_io(f, BLK_FLUSH, 0, NULL, 0), 0);
	fix_seen(f, other);
	assert_true(all_are(other + 65536, 0, 512) && all_are(other + 66048, 0x55, 16384));
	assert_int_equal(fix_close(f), 0);
}

/* ---- random requests against an array ---- */

#define DEPTH 12u
#define SLICE (FIX_FILE_BYTES / DEPTH / 4096 * 4096)
#define LEN_MAX (96u << 10)

struct slot {
	struct fix_req r;
	struct iovec iov[3];
	uint8_t *memory;
	uint64_t start;
	bool busy;
};

struct model {
	struct fix *f;
	uint8_t *expect;
	uint32_t unit;
	bool faults;
	struct slot slots[DEPTH];
};

static void model_start(struct model *m, struct slot *s)
{
	static const enum blk_op ops[] = {BLK_READ,  BLK_READ, BLK_WRITE,   BLK_WRITE,
	                                  BLK_WRITE, BLK_ZERO, BLK_DISCARD, BLK_FLUSH};
	struct fix *f = m->f;
	enum blk_op op = ops[fix_random(f) % ARRAY_LEN(ops)];
	uint64_t len = (1 + fix_random(f) % (LEN_MAX / m->unit)) * m->unit;
	uint64_t at = s->start + fix_random(f) % ((SLICE - len) / m->unit + 1) * m->unit;
	uint8_t *memory = s->memory + (fix_random(f) % 4 == 0 ? 3 : 0);
	uint64_t cut = len / m->unit > 1 ? len / m->unit / 2 * m->unit : 0;
	bool fua = (op == BLK_WRITE || op == BLK_ZERO) && fix_random(f) % 8 == 0;

	s->r.req = (struct blk_req){.op = op, .flags = fua ? BLK_FUA : 0};
	s->busy = true;
	if (op != BLK_FLUSH) {
		s->r.req.offset_bytes = at;
		s->r.req.len_bytes = len;
	}
	if (op == BLK_READ || op == BLK_WRITE) {
		for (uint64_t i = 0; i < len; i++) {
			memory[i] = (uint8_t)(1 + fix_random(f) % 255);
		}
		s->iov[0] = (struct iovec){memory, cut};
		s->iov[1] = (struct iovec){memory + cut, len - cut};
		s->r.req.iov = s->iov;
		s->r.req.iov_count = 2;
	}
	if (op == BLK_WRITE) {
		memcpy(m->expect + at, memory, len);
	} else if (op == BLK_ZERO) {
		memset(m->expect + at, 0, len);
	}
	fix_start(f, &s->r);
}

static void model_finish(struct model *m, struct slot *s)
{
	const struct blk_req *req = &s->r.req;

	int err = fix_wait(m->f, &s->r);

	/* A device whose flush fails says so; what was written is to be seen all the same. */
	if (!m->faults || err != -EIO || (req->op != BLK_FLUSH && (req->flags & BLK_FUA) == 0)) {
		assert_int_equal(err, 0);
	}
	s->busy = false;
	if (req->op == BLK_READ) {
		assert_memory_equal(s->iov[0].iov_base, m->expect + req->offset_bytes,
		                    req->len_bytes);
	}
}

static void model_faults(struct fix *f)
{
	switch (fix_random(f) % 12) {
	case 0:
		f->path_down = true;
		break;
	case 1:
	case 2:
		f->path_down = false;
		break;
	case 3:
		f->redirect_down = fix_random(f) % 3 == 0;
		break;
	case 4:
		f->meta_down = fix_random(f) % 3 == 0;
		break;
	case 5:
		f->rights.until_ns = fix_random(f) % 3 == 0 ? 0 : UINT64_MAX;
		break;
	default:
		break;
	}
}

static void model_heal(struct fix *f)
{
	f->path_down = false;
	f->redirect_down = false;
	f->meta_down = false;
	f->rights.until_ns = UINT64_MAX;
}

static void model_run(struct fix *f, uint32_t rounds, bool faults, uint32_t extents_max)
{
	struct model *m = calloc(1, sizeof(*m));
	struct csv_data_cfg cfg = fix_cfg(f);
	struct blk_info info;

	assert_non_null(m);
	m->f = f;
	m->faults = faults;
	m->expect = calloc(1, FIX_FILE_BYTES);
	assert_non_null(m->expect);
	cfg.extents_max = extents_max;
	fix_open(f, &cfg);
	blk_get_info(f->blk, &info);
	m->unit = info.logical_bytes;
	for (uint32_t i = 0; i < DEPTH; i++) {
		m->slots[i].start = i * SLICE;
		m->slots[i].memory = aligned_alloc(4096, LEN_MAX + 4096);
		assert_non_null(m->slots[i].memory);
	}
	for (uint32_t round = 0; round < rounds; round++) {
		struct slot *s = &m->slots[fix_random(f) % DEPTH];

		if (faults) {
			model_faults(f);
		}
		if (s->busy) {
			/* What waits for something that does not come back would wait for ever. */
			if (faults && fix_random(f) % 2 == 0) {
				for (int i = 0; i < 3; i++) {
					fix_pump(f);
				}
				if (s->r.calls == 0) {
					continue;
				}
			}
			model_heal(f);
			model_finish(m, s);
		}
		model_start(m, s);
	}
	model_heal(f);
	for (uint32_t i = 0; i < DEPTH; i++) {
		if (m->slots[i].busy) {
			model_finish(m, &m->slots[i]);
		}
		free(m->slots[i].memory);
	}
	f->moody = 0;
	if (faults) {
		(void)fix_io(f, BLK_FLUSH, 0, NULL,
		             0); /* may tell of one that nobody had asked for */
	}
	assert_int_equal(fix_io(f, BLK_FLUSH, 0, NULL, 0), 0);
	fix_seen(f, other);
	assert_memory_equal(other, m->expect, FIX_FILE_BYTES);
	assert_int_equal(fix_close(f), 0);
	free(m->expect);
	free(m);
}

static void random_requests_agree_with_an_array(void **state)
{
	model_run(*state, 600, false, 0);
}

static void they_do_so_when_little_is_remembered(void **state)
{
	model_run(*state, 300, false, 64);
}

static void they_do_so_while_everything_fails_for_some_time(void **state)
{
	struct fix *f = *state;

	f->moody = 4;
	model_run(f, 500, true, 0);
	assert_true(f->executed != 0 && f->repeated != 0);
}

/* ---- paths ---- */

static void pump_until(struct fix *f, enum csv_data_state state)
{
	uint64_t end = clock_now_ns() + 60 * NS_PER_S;

	while (f->state != state) {
		assert_true(clock_now_ns() < end);
		fix_pump(f);
	}
}

static void a_lost_path_is_redirected_and_found_again(void **state)
{
	struct fix *f = *state;

	open_usual(f);
	memset(page, 1, 65536);
	assert_int_equal(fix_io(f, BLK_WRITE, 0, page, 65536), 0);
	f->path_down = true;
	memset(page, 2, 65536);
	assert_int_equal(fix_io(f, BLK_WRITE, 0, page, 65536), 0);
	assert_int_equal(f->state, CSV_DATA_REDIRECTED);
	assert_int_equal(f->reason, CSV_DATA_PATH);
	assert_true(f->executed != 0);
	assert_int_equal(fix_io(f, BLK_READ, 0, other, 65536), 0);
	assert_memory_equal(page, other, 65536);
	assert_int_equal(fix_io(f, BLK_FLUSH, 0, NULL, 0), 0);
	assert_int_equal(stats_of(f).path_losses, 1);
	f->path_down = false;
	pump_until(f, CSV_DATA_DIRECT);
	assert_int_equal(fix_io(f, BLK_READ, 0, other, 65536), 0);
	assert_memory_equal(page, other, 65536);
	assert_int_equal(fix_close(f), 0);
}

static void what_the_other_nodes_device_says_is_told(void **state)
{
	struct fix *f = *state;

	open_usual(f);
	f->path_down = true;
	memset(page, 2, 4096);
	assert_int_equal(fix_io(f, BLK_WRITE, 0, page, 4096), 0);
	assert_int_equal(f->state, CSV_DATA_REDIRECTED);
	f->redirect_err = -ENOSPC;
	assert_int_equal(fix_io(f, BLK_WRITE, 4096, page, 4096), -ENOSPC);
	f->redirect_err = -EROFS;
	assert_int_equal(fix_io(f, BLK_WRITE, 4096, page, 4096), -EROFS);
	f->redirect_err = -EROFS;
	assert_int_equal(fix_io(f, BLK_FLUSH, 0, NULL, 0), -EROFS);
	f->redirect_err = -EIO;
	assert_int_equal(fix_io(f, BLK_FLUSH, 0, NULL, 0), -EIO);
	assert_int_equal(f->blocks[0], FIX_UNWRITTEN);
	assert_int_equal(fix_io(f, BLK_FLUSH, 0, NULL, 0), 0);
	assert_int_equal(f->blocks[0], FIX_WRITTEN);
	f->path_down = false;
	assert_int_equal(fix_close(f), 0);
}

static void without_any_way_requests_wait_and_then_go_on(void **state)
{
	struct fix *f = *state;
	struct fix_req r = {.req = {.op = BLK_WRITE, .len_bytes = 4096, .iov_count = 1},
	                    .iov = {page, 4096}};

	open_usual(f);
	r.req.iov = &r.iov;
	assert_int_equal(fix_io(f, BLK_WRITE, 0, page, 4096), 0);
	f->path_down = true;
	f->redirect_down = true;
	memset(page, 4, 4096);
	fix_start(f, &r);
	pump_until(f, CSV_DATA_PAUSED);
	assert_int_equal(r.calls, 0);
	assert_int_equal(stats_of(f).waiting, 1);
	f->redirect_down = false;
	assert_int_equal(fix_wait(f, &r), 0);
	pump_until(f, CSV_DATA_REDIRECTED);
	f->path_down = false;
	pump_until(f, CSV_DATA_DIRECT);
	assert_int_equal(fix_io(f, BLK_READ, 0, other, 4096), 0);
	assert_true(all_are(other, 4, 4096));
	assert_int_equal(fix_close(f), 0);
}

static void patience_has_an_end(void **state)
{
	struct fix *f = *state;
	struct csv_data_cfg cfg = fix_cfg(f);
	struct fix_req r = {.req = {.op = BLK_WRITE, .len_bytes = 4096, .iov_count = 1},
	                    .iov = {page, 4096}};

	f->now_ns = 1000 * NS_PER_S;
	cfg.pause_ns = 60 * NS_PER_S;
	fix_open(f, &cfg);
	r.req.iov = &r.iov;
	f->rights.until_ns = 0;
	fix_start(f, &r);
	for (int i = 0; i < 20; i++) {
		fix_pump(f);
	}
	assert_int_equal(r.calls, 0);
	f->now_ns += 59 * NS_PER_S;
	pump_until(f, CSV_DATA_PAUSED);
	assert_int_equal(f->reason, CSV_DATA_RIGHTS);
	assert_int_equal(r.calls, 0);
	f->now_ns += 2 * NS_PER_S;
	assert_int_equal(fix_wait(f, &r), -EIO);
	f->rights.until_ns = UINT64_MAX;
	assert_int_equal(fix_io(f, BLK_WRITE, 0, page, 4096), 0);
	pump_until(f, CSV_DATA_DIRECT);
	assert_int_equal(fix_close(f), 0);
}

static void what_hangs_sends_the_others_another_way(void **state)
{
	struct fix *f = *state;
	struct csv_data_cfg cfg = fix_cfg(f);
	struct fix_req slow = {.req = {.op = BLK_WRITE, .len_bytes = 4096, .iov_count = 1},
	                       .iov = {page, 4096}};
	struct fix_req next = {
		.req = {.op = BLK_WRITE, .offset_bytes = 8192, .len_bytes = 4096, .iov_count = 1},
		.iov = {page, 4096}};

	f->now_ns = 1000 * NS_PER_S;
	cfg.hang_ns = 2 * NS_PER_S;
	cfg.tick_ns = 3600 * NS_PER_S; /* ticks come when we say so */
	fix_open(f, &cfg);
	assert_int_equal(fix_io(f, BLK_WRITE, 0, page, 65536), 0);
	slow.req.iov = &slow.iov;
	next.req.iov = &next.iov;
	fix_start(f, &slow); /* not even submitted yet */
	f->now_ns += 1900 * NS_PER_MS;
	data_tick(container_of(f->blk, struct csv_data, blk));
	assert_int_equal(f->state, CSV_DATA_DIRECT);
	f->now_ns += 200 * NS_PER_MS;
	data_tick(container_of(f->blk, struct csv_data, blk));
	assert_int_equal(f->state, CSV_DATA_REDIRECTED);
	assert_int_equal(f->reason, CSV_DATA_HANG);
	assert_int_equal(stats_of(f).in_flight, 1);
	fix_start(f, &next);
	assert_int_equal(stats_of(f).in_flight, 1);
	assert_int_equal(fix_wait(f, &next), 0);
	assert_int_equal(f->executed, 1);
	assert_int_equal(fix_wait(f, &slow), 0);
	assert_int_equal(fix_close(f), 0);
}

/* Others of this node wait for the device: who comes now does not. */
static void where_others_hang_nothing_more_is_sent(void **state)
{
	struct fix *f = *state;

	f->rights.hangs = true;
	f->rights.redirect_until_ns = UINT64_MAX;
	open_usual(f);
	memset(page, 5, 65536);
	assert_int_equal(fix_io(f, BLK_WRITE, 0, page, 65536), 0);
	assert_int_equal(f->state, CSV_DATA_REDIRECTED);
	assert_int_equal(f->reason, CSV_DATA_HANG);
	assert_int_equal(stats_of(f).direct, 0);
	assert_int_equal(fix_io(f, BLK_FLUSH, 0, NULL, 0), 0);
	assert_true(f->executed != 0);

	/* The device answers this one's trials; it waits for the others' word. */
	for (int i = 0; i < 20; i++) {
		data_tick(container_of(f->blk, struct csv_data, blk));
		fix_pump(f);
	}
	assert_int_equal(f->state, CSV_DATA_REDIRECTED);
	f->rights.hangs = false;
	pump_until(f, CSV_DATA_DIRECT);
	assert_int_equal(fix_io(f, BLK_READ, 0, other, 65536), 0);
	assert_memory_equal(page, other, 65536);
	assert_true(stats_of(f).direct != 0);

	/* There is nobody to go through: it may as well be tried. */
	f->rights.hangs = true;
	f->rights.redirect_until_ns = 0;
	assert_int_equal(fix_io(f, BLK_READ, 0, other, 65536), 0);
	assert_int_equal(f->state, CSV_DATA_DIRECT);
	assert_int_equal(fix_close(f), 0);
}

/* ---- rights ---- */

static void an_expired_lease_submits_nothing(void **state)
{
	struct fix *f = *state;
	struct fix_req a = {.req = {.op = BLK_WRITE, .len_bytes = 4096, .iov_count = 1},
	                    .iov = {page, 4096}};
	struct fix_req b = a;
	uint64_t direct;

	f->now_ns = 1000 * NS_PER_S;
	open_usual(f);
	assert_int_equal(fix_io(f, BLK_WRITE, 0, page, 65536), 0);
	a.req.iov = &a.iov;
	b.req.iov = &b.iov;
	f->rights.until_ns = f->now_ns + NS_PER_S;
	fix_start(f, &a); /* in time */
	assert_int_equal(stats_of(f).in_flight, 1);
	f->now_ns += NS_PER_S;
	direct = stats_of(f).direct;
	fix_start(f, &b); /* too late */
	assert_int_equal(stats_of(f).in_flight, 1);
	assert_int_equal(fix_wait(f, &a), 0);
	assert_int_equal(stats_of(f).late, 1);
	for (int i = 0; i < 20; i++) {
		fix_pump(f);
	}
	assert_int_equal(b.calls, 0);
	assert_int_equal(stats_of(f).direct, direct);
	assert_int_equal(f->executed, 0); /* nor through somebody else */
	f->rights.until_ns = UINT64_MAX;
	csv_data_kick(f->blk);
	assert_int_equal(fix_wait(f, &b), 0);
	assert_int_equal(fix_close(f), 0);
}

static void an_outdated_token_ends_everything(void **state)
{
	struct fix *f = *state;
	struct fix_req r = {.req = {.op = BLK_WRITE, .len_bytes = 4096, .iov_count = 1},
	                    .iov = {page, 4096}};

	open_usual(f);
	assert_int_equal(fix_io(f, BLK_WRITE, 0, page, 65536), 0);
	f->rights.until_ns = 0;
	r.req.iov = &r.iov;
	fix_start(f, &r);
	fix_pump(f);
	assert_int_equal(r.calls, 0);
	f->rights = (struct csv_data_rights){.until_ns = UINT64_MAX, .token = 6};
	assert_int_equal(fix_wait(f, &r), -ESTALE);
	assert_int_equal(f->state, CSV_DATA_DEAD);
	assert_int_equal(fix_io(f, BLK_READ, 0, page, 4096), -ESTALE);
	assert_int_equal(fix_io(f, BLK_FLUSH, 0, NULL, 0), -ESTALE);
	assert_int_equal(fix_close(f), 0);
	assert_int_equal(f->blocks[0], FIX_UNWRITTEN); /* nor was it converted */
}

static void a_coordinator_that_knows_better_ends_everything(void **state)
{
	struct fix *f = *state;

	open_usual(f);
	assert_int_equal(fix_io(f, BLK_WRITE, 0, page, 4096), 0);
	f->fenced = true;
	assert_int_equal(fix_io(f, BLK_FLUSH, 0, NULL, 0), -ESTALE);
	assert_int_equal(f->state, CSV_DATA_DEAD);
	assert_int_equal(fix_close(f), 0);
}

static void a_write_in_doubt_is_not_overtaken_on_the_own_path(void **state)
{
	struct fix *f = *state;
	struct csv_data_cfg cfg = fix_cfg(f);
	struct fix_req r = {.req = {.op = BLK_WRITE, .len_bytes = 4096, .iov_count = 1},
	                    .iov = {page, 4096}};
	uint64_t direct;

	cfg.patience_ns = 3600 * NS_PER_S; /* it waits, and that is not what this is about */
	fix_open(f, &cfg);
	r.req.iov = &r.iov;
	assert_int_equal(fix_io(f, BLK_WRITE, 0, page, 4096), 0);
	f->path_down = true;
	(void)fix_io(f, BLK_READ, 0, other, 4096);
	assert_int_equal(f->state, CSV_DATA_REDIRECTED);
	f->hold = true;
	fix_start(f, &r);
	assert_int_equal(f->asks_count, 1);

	struct csv_data_ask *ask = f->asks[0];
	uint64_t id = ask->id;

	f->asks_count = 0;
	csv_data_answer(ask, -ENOTCONN, NULL);
	f->path_down = false;
	pump_until(f, CSV_DATA_DIRECT);
	direct = stats_of(f).direct;
	for (int i = 0; i < 20 && f->asks_count == 0; i++) {
		fix_pump(f);
	}
	assert_int_equal(f->asks_count, 1);
	assert_int_equal(f->asks[0]->id, id);
	f->hold = false;
	assert_int_equal(fix_wait(f, &r), 0);
	assert_int_equal(stats_of(f).direct, direct);
	assert_int_equal(fix_close(f), 0);
}

/* ---- layouts ---- */

/* The answer says how it was; what was converted meanwhile, and forgotten for lack of room, is not
 * unwritten again. */
static void an_old_answer_does_not_undo_a_conversion(void **state)
{
	struct fix *f = *state;
	struct csv_data_cfg cfg = fix_cfg(f);
	struct fix_req look = {.req = {.op = BLK_READ, .len_bytes = 4096, .iov_count = 1},
	                       .iov = {other, 4096}};
	struct fix_req flush = {.req = {.op = BLK_FLUSH}};
	uint64_t at = 10 * 4096;

	cfg.extents_max = 64;
	fix_open(f, &cfg);
	memset(page, 'x', 4096);
	look.req.iov = &look.iov;
	for (; stats_of(f).extents <= 52; at += 8192) {
		assert_int_equal(fix_io(f, BLK_WRITE, at, page, 4096), 0);
	}
	f->hold = true;
	fix_start(f, &look); /* of the first block: nothing is known there */
	assert_int_equal(f->asks_count, 1);
	fix_start(f, &flush);
	while (flush.calls == 0) {
		fix_pump(f);
		(void)fix_answer_kind(f, CSV_DATA_CONVERT);
	}
	assert_int_equal(flush.result, 0);
	assert_int_equal(f->asks_count, 1);
	/* It needs room: what is written is forgotten. */
	assert_int_equal(fix_io(f, BLK_WRITE, at - 4096, page, 4096), 0);
	assert_true(fix_answer_kind(f, CSV_DATA_LAYOUT));
	f->hold = false;
	assert_int_equal(fix_wait(f, &look), 0);
	assert_int_equal(other[0], 0);
	for (uint64_t b = 10 * 4096; b < at; b += 8192) {
		assert_int_equal(fix_io(f, BLK_READ, b, other, 4096), 0);
		assert_memory_equal(other, page, 4096);
	}
	assert_int_equal(fix_close(f), 0);
}

/* Each write cuts what is unwritten in two. */
static void small_writes_all_over_find_room(void **state)
{
	struct fix *f = *state;
	struct csv_data_cfg cfg = fix_cfg(f);

	cfg.extents_max = 64;
	fix_open(f, &cfg);
	memset(page, 'p', 4096);
	for (uint64_t b = 0; b < 400; b += 2) {
		assert_int_equal(fix_io(f, BLK_WRITE, b * 4096, page, 4096), 0);
		assert_int_not_equal(f->state, CSV_DATA_PAUSED);
	}
	for (uint64_t b = 0; b < 400; b += 2) {
		assert_int_equal(fix_io(f, BLK_READ, b * 4096, other, 4096), 0);
		assert_memory_equal(other, page, 4096);
		assert_int_equal(fix_io(f, BLK_READ, (b + 1) * 4096, other, 4096), 0);
		assert_int_equal(other[0], 0);
	}
	assert_int_equal(fix_close(f), 0);
}

static void recalled(void *arg)
{
	(*(int *)arg)++;
}

static void a_recall_waits_for_what_is_in_flight_and_converts(void **state)
{
	struct fix *f = *state;
	struct fix_req r = {.req = {.op = BLK_WRITE, .len_bytes = 4096, .iov_count = 1},
	                    .iov = {page, 4096}};
	struct fix_req later = {.req = {.op = BLK_READ, .len_bytes = 4096, .iov_count = 1},
	                        .iov = {other, 4096}};
	uint64_t layouts;
	int calls = 0;

	open_usual(f);
	r.req.iov = &r.iov;
	later.req.iov = &later.iov;
	assert_int_equal(fix_io(f, BLK_WRITE, 0, page, 65536), 0);
	layouts = stats_of(f).layouts;
	memset(page, 0x66, 4096);
	fix_start(f, &r);
	assert_int_equal(csv_data_recall(f->blk, 0, FIX_FILE_BYTES, recalled, &calls), 0);
	assert_int_equal(csv_data_recall(f->blk, 0, 4096, recalled, &calls), -EBUSY);
	fix_start(f, &later);
	assert_int_equal(calls, 0);
	while (calls == 0) {
		fix_pump(f);
		assert_int_equal(later.calls, 0);
	}
	assert_int_equal(r.calls, 1);
	assert_int_equal(f->blocks[0], FIX_WRITTEN);
	assert_int_equal(f->blocks[15], FIX_WRITTEN);
	assert_int_equal(fix_wait(f, &later), 0);
	assert_true(all_are(other, 0x66, 4096));
	assert_int_equal(stats_of(f).layouts, layouts + 1);
	assert_int_equal(fix_close(f), 0);
}

static void a_full_volume_is_told_to_the_writer_only(void **state)
{
	struct fix *f = *state;

	open_usual(f);
	assert_int_equal(fix_io(f, BLK_READ, 0, page, 4096), 0);
	f->layout_err = -ENOSPC;
	assert_int_equal(fix_io(f, BLK_WRITE, 0, page, 4096), -ENOSPC);
	assert_int_equal(fix_io(f, BLK_READ, 4096, page, 4096), 0);
	f->layout_err = -EUCLEAN;
	assert_int_equal(fix_io(f, BLK_WRITE, 0, page, 4096), -EIO);
	f->layout_err = 0;
	assert_int_equal(fix_io(f, BLK_WRITE, 0, page, 4096), 0);
	assert_int_equal(fix_close(f), 0);
}

static void a_file_grows(void **state)
{
	struct fix *f = *state;
	struct csv_data_cfg cfg = fix_cfg(f);
	struct fix_req r = {.req = {.op = BLK_RESIZE, .offset_bytes = FIX_FILE_BYTES}};
	struct blk_info info;

	cfg.size_bytes = FIX_FILE_BYTES / 2;
	fix_open(f, &cfg);
	assert_int_equal(fix_io(f, BLK_WRITE, FIX_FILE_BYTES / 2, page, 4096), -EINVAL);
	f->meta_down = true;
	fix_start(f, &r);
	for (int i = 0; i < 10; i++) {
		fix_pump(f);
	}
	f->meta_down = false;
	assert_int_equal(fix_wait(f, &r), 0);
	assert_int_equal(f->size_bytes, FIX_FILE_BYTES);
	blk_get_info(f->blk, &info);
	assert_int_equal(info.size_bytes, FIX_FILE_BYTES);
	assert_string_equal(info.driver, "csv");
	assert_int_equal(fix_io(f, BLK_WRITE, FIX_FILE_BYTES / 2, page, 4096), 0);
	assert_int_equal(fix_close(f), 0);
}

/* ---- open ---- */

static void every_allocation_may_fail(void **state)
{
	struct fix *f = *state;
	struct csv_data_cfg cfg = fix_cfg(f);
	int err;

	for (uint32_t k = 1;; k++) {
		fault_arm(FAULT_ALLOC, k);
		err = csv_data_open(&cfg, f->ring, &f->blk, NULL);
		if (err == 0) {
			break;
		}
		assert_int_equal(err, -ENOMEM);
		assert_null(f->blk);
	}
	fault_arm(FAULT_ALLOC, 0);
	assert_int_equal(fix_close(f), 0);
}

static void wrong_configurations_are_refused(void **state)
{
	struct fix *f = *state;
	const struct csv_data_cfg good = fix_cfg(f);
	struct csv_data_cfg cfg = good;
	struct errbuf eb = {0};
	int pipe_fd[2];

	cfg.logical_bytes = 1024;
	assert_int_equal(csv_data_open(&cfg, f->ring, &f->blk, &eb), -EINVAL);
	cfg = good;
	cfg.size_bytes = 100;
	assert_int_equal(csv_data_open(&cfg, f->ring, &f->blk, &eb), -EINVAL);
	assert_non_null(strstr(eb.text, "no whole sectors"));
	cfg = good;
	cfg.extents_max = 3;
	assert_int_equal(csv_data_open(&cfg, f->ring, &f->blk, &eb), -EINVAL);
	assert_int_equal(pipe(pipe_fd), 0);
	cfg = good;
	cfg.fd = pipe_fd[0];
	assert_int_equal(csv_data_open(&cfg, f->ring, &f->blk, &eb), -EINVAL);
	assert_non_null(strstr(eb.text, "neither"));
	(void)close(pipe_fd[0]);
	(void)close(pipe_fd[1]);
	(void)close(good.fd);
	assert_string_equal(csv_data_state_name(CSV_DATA_PAUSED), "paused");
	assert_string_equal(csv_data_reason_name(CSV_DATA_META), "meta");
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, fix_setup, fix_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(what_was_never_written_is_zero),
		CASE(a_flush_is_answered_after_the_conversion),
		CASE(a_write_with_fua_is_converted_too),
		CASE(a_flush_that_failed_is_told),
		CASE(a_flush_that_failed_unasked_is_told_to_the_next),
		CASE(it_is_idle_when_nothing_is_under_way),
		CASE(closing_saves_what_was_not_flushed),
		CASE(sectors_around_a_small_write_are_zero),
		CASE(random_requests_agree_with_an_array),
		CASE(they_do_so_when_little_is_remembered),
		CASE(they_do_so_while_everything_fails_for_some_time),
		CASE(an_old_answer_does_not_undo_a_conversion),
		CASE(small_writes_all_over_find_room),
		CASE(a_lost_path_is_redirected_and_found_again),
		CASE(where_others_hang_nothing_more_is_sent),
		CASE(what_the_other_nodes_device_says_is_told),
		CASE(without_any_way_requests_wait_and_then_go_on),
		CASE(patience_has_an_end),
		CASE(what_hangs_sends_the_others_another_way),
		CASE(an_expired_lease_submits_nothing),
		CASE(an_outdated_token_ends_everything),
		CASE(a_coordinator_that_knows_better_ends_everything),
		CASE(a_write_in_doubt_is_not_overtaken_on_the_own_path),
		CASE(a_recall_waits_for_what_is_in_flight_and_converts),
		CASE(a_full_volume_is_told_to_the_writer_only),
		CASE(a_file_grows),
		CASE(every_allocation_may_fail),
		CASE(wrong_configurations_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
