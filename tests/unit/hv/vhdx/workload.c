/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/hv/vhdx/workload.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/blk_sync.h"
#include "base/check.h"
#include "tests/lib/test.h"

uint64_t workload_random(uint64_t *state)
{
	uint64_t x = *state;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	*state = x;
	return x * 0x2545f4914f6cdd1dull >> 16;
}

static uint32_t pick(struct workload *w, uint64_t below)
{
	return (uint32_t)(workload_random(&w->rng) % below);
}

void workload_init(struct workload *w, uint64_t size_bytes, uint32_t sector_bytes,
                   uint32_t block_bytes, uint64_t seed)
{
	*w = (struct workload){
		.sectors = size_bytes / sector_bytes,
		.sector_bytes = sector_bytes,
		.block_bytes = block_bytes,
		.len_max = block_bytes + block_bytes / 2,
		.rng = seed * 0x9e3779b97f4a7c15ull + 1,
	};
	w->sector = calloc(w->sectors, sizeof(*w->sector));
	CHECK(w->sector != NULL);
	for (uint64_t i = 0; i < w->sectors; i++) {
		w->sector[i].count = 1;
	}
	for (uint32_t i = 0; i < WORKLOAD_DEPTH; i++) {
		w->slot[i].w = w;
		w->slot[i].buf = malloc(w->len_max);
		CHECK(w->slot[i].buf != NULL);
	}
}

void workload_fini(struct workload *w)
{
	for (uint32_t i = 0; i < WORKLOAD_DEPTH; i++) {
		free(w->slot[i].buf);
	}
	free(w->sector);
}

void workload_inherit(struct workload *w, const struct workload *parent)
{
	for (uint64_t i = 0; i < w->sectors; i++) {
		w->sector[i].count = 1;
		w->sector[i].version[0].stamp = 0;
		if (i < parent->sectors) {
			const struct workload_sector *s = &parent->sector[i];

			w->sector[i].version[0] = s->version[s->count - 1];
		}
	}
	w->stamp = parent->stamp + 1000000;
}

/* ---- content ---- */

static void fill(const struct workload *w, uint64_t sector, uint32_t stamp, uint8_t *buf)
{
	uint64_t word[2] = {stamp, sector};

	for (uint32_t at = 0; at < w->sector_bytes; at += sizeof(word)) {
		if (stamp == 0) {
			memset(buf + at, 0, sizeof(word));
		} else {
			memcpy(buf + at, word, sizeof(word));
		}
	}
}

/* Which stamp a sector holds; WORKLOAD_NONE: nothing that was ever written there. */
static uint32_t stamp_of(const struct workload *w, uint64_t sector, const uint8_t *buf)
{
	uint64_t word[2];

	memcpy(word, buf, sizeof(word));
	for (uint32_t at = 0; at < w->sector_bytes; at += sizeof(word)) {
		if (memcmp(buf + at, word, sizeof(word)) != 0) {
			return WORKLOAD_NONE;
		}
	}
	if (word[0] == 0 && word[1] == 0) {
		return 0;
	}
	if (word[0] == 0xdbdbdbdbdbdbdbdbull && word[1] == word[0]) {
		return WORKLOAD_GARBAGE; /* what a fake_disk makes of discarded sectors */
	}
	return word[1] == sector && word[0] != 0 && word[0] < WORKLOAD_NONE ? (uint32_t)word[0]
	                                                                    : WORKLOAD_NONE;
}

/* The version that was there before the discards that led to version @i, or @i itself. */
static uint32_t before_discard(const struct workload_sector *s, uint32_t i)
{
	/* cppcheck-suppress arrayIndexOutOfBoundsCond ; i is below the array's size */
	while (i > 0 && s->version[i].stamp == WORKLOAD_DISCARDED) {
		i--;
	}
	return i;
}

/* Is what was read what a sector may hold, from version @from on? */
static bool allowed(const struct workload_sector *s, uint32_t from, uint32_t stamp)
{
	for (uint32_t i = before_discard(s, from); i < s->count; i++) {
		uint32_t may = s->version[i].stamp;

		if (may == stamp ||
		    (may == WORKLOAD_DISCARDED && (stamp == 0 || stamp == WORKLOAD_GARBAGE))) {
			return true;
		}
	}
	return false;
}

static uint32_t expect(const struct workload *w, uint64_t sector, uint32_t from, const uint8_t *buf)
{
	const struct workload_sector *s = &w->sector[sector];
	uint32_t stamp = stamp_of(w, sector, buf);

	if (!allowed(s, from, stamp)) {
		print_error("sector %llu (block %llu) holds %u %02x%02x%02x%02x; may hold:",
		            (unsigned long long)sector,
		            (unsigned long long)(sector * w->sector_bytes / w->block_bytes), stamp,
		            buf[0], buf[1], buf[2], buf[3]);
		for (uint32_t i = before_discard(s, from); i < s->count; i++) {
			print_error(" %u", s->version[i].stamp);
		}
		print_error("\n");
		fail();
	}
	return stamp;
}

/* ---- the model ---- */

static void sectors_of(const struct workload *w, const struct blk_req *req, uint64_t *first,
                       uint64_t *end)
{
	*first = req->offset_bytes / w->sector_bytes;
	*end = *first + req->len_bytes / w->sector_bytes;
}

static bool overlaps(const struct workload *w, uint64_t offset, uint64_t len)
{
	for (uint32_t i = 0; i < WORKLOAD_DEPTH; i++) {
		const struct blk_req *req = &w->slot[i].req;

		if (w->slot[i].busy && req->op != BLK_FLUSH && req->offset_bytes < offset + len &&
		    offset < req->offset_bytes + req->len_bytes) {
			return true;
		}
	}
	return false;
}

/* Is there room for another version in each sector? */
static bool has_room(const struct workload *w, uint64_t offset, uint64_t len)
{
	for (uint64_t i = offset / w->sector_bytes; i < (offset + len) / w->sector_bytes; i++) {
		if (w->sector[i].count == WORKLOAD_VERSIONS) {
			return false;
		}
	}
	return true;
}

static void push(struct workload *w, const struct blk_req *req, uint32_t stamp)
{
	uint64_t first;
	uint64_t end;

	sectors_of(w, req, &first, &end);
	for (uint64_t i = first; i < end; i++) {
		struct workload_sector *s = &w->sector[i];

		s->version[s->count++] =
			(struct workload_version){.stamp = stamp, .done_at = UINT64_MAX};
	}
}

/* The newest version completed by @event is durable: forget those before. */
static void durable(struct workload_sector *s, uint64_t event)
{
	uint32_t keep = s->count - 1;

	while (keep > 0 && s->version[keep].done_at > event) {
		keep--;
	}
	keep = before_discard(s, keep);
	memmove(s->version, s->version + keep, (s->count - keep) * sizeof(s->version[0]));
	s->count -= keep;
}

static void completed_change(struct workload *w, const struct workload_slot *slot)
{
	uint64_t first;
	uint64_t end;

	sectors_of(w, &slot->req, &first, &end);
	for (uint64_t i = first; i < end; i++) {
		struct workload_sector *s = &w->sector[i];

		s->version[s->count - 1].done_at = w->event;
		if ((slot->req.flags & BLK_FUA) != 0) {
			durable(s, w->event);
		}
	}
}

static void completed_read(struct workload *w, const struct workload_slot *slot)
{
	uint64_t first;
	uint64_t end;

	sectors_of(w, &slot->req, &first, &end);
	for (uint64_t i = first; i < end; i++) {
		(void)expect(w, i, w->sector[i].count - 1,
		             slot->buf + (i - first) * w->sector_bytes);
	}
}

static void done(struct blk_req *req, int result)
{
	struct workload_slot *slot = req->arg;
	struct workload *w = slot->w;

	slot->busy = false;
	w->in_flight--;
	w->completed++;
	w->event++;
	if (result != 0) {
		w->error = w->error != 0 ? w->error : result;
		return;
	}
	if (req->op == BLK_READ) {
		completed_read(w, slot);
	} else if (req->op == BLK_FLUSH) {
		for (uint64_t i = 0; i < w->sectors; i++) {
			durable(&w->sector[i], slot->flush_at);
		}
	} else {
		completed_change(w, slot);
	}
}

/* ---- requests ---- */

static void choose_range(struct workload *w, enum blk_op op, uint64_t *offset, uint64_t *len)
{
	uint64_t count = 1 + pick(w, 64);
	uint64_t first;

	if (pick(w, 12) == 0) {
		count = 1 + pick(w, w->len_max / w->sector_bytes);
	}
	if ((op == BLK_ZERO || op == BLK_DISCARD) && pick(w, 2) == 0) {
		count = w->block_bytes / w->sector_bytes * (1 + pick(w, 2));
	}
	first = pick(w, w->sectors);
	if (pick(w, 3) == 0) {
		first -= first % (w->block_bytes / w->sector_bytes);
	}
	count = count < w->sectors - first ? count : w->sectors - first;
	*offset = first * w->sector_bytes;
	*len = count * w->sector_bytes;
}

static enum blk_op choose_op(struct workload *w)
{
	uint32_t dice = pick(w, 100);

	if (dice < 10) {
		return BLK_FLUSH;
	}
	if (dice < 30 && !w->no_reads) {
		return BLK_READ;
	}
	if (dice >= 30 && dice < 42 && !w->no_trim) {
		return BLK_ZERO;
	}
	return dice >= 42 && dice < 52 && !w->no_trim ? BLK_DISCARD : BLK_WRITE;
}

/* The buffer as several pieces of odd lengths. */
static void cut_iov(struct workload *w, struct workload_slot *slot)
{
	size_t left = slot->req.len_bytes;
	uint8_t *at = slot->buf;
	uint32_t n = 0;

	while (n < ARRAY_LEN(slot->iov) - 1 && left > 1 && pick(w, 2) == 0) {
		size_t part = 1 + pick(w, left - 1);

		slot->iov[n++] = (struct iovec){.iov_base = at, .iov_len = part};
		at += part;
		left -= part;
	}
	slot->iov[n++] = (struct iovec){.iov_base = at, .iov_len = left};
	slot->req.iov = slot->iov;
	slot->req.iov_count = n;
}

static void prepare_write(struct workload *w, struct workload_slot *slot)
{
	uint64_t first;
	uint64_t end;

	sectors_of(w, &slot->req, &first, &end);
	for (uint64_t i = first; i < end; i++) {
		fill(w, i, slot->stamp, slot->buf + (i - first) * w->sector_bytes);
	}
	cut_iov(w, slot);
}

static void start(struct workload *w, struct blk *blk, struct workload_slot *slot)
{
	enum blk_op op = choose_op(w);
	uint64_t offset = 0;
	uint64_t len = 0;

	if (op != BLK_FLUSH) {
		choose_range(w, op, &offset, &len);
		if (overlaps(w, offset, len) || !has_room(w, offset, len)) {
			op = BLK_FLUSH;
			offset = len = 0;
		}
	}
	slot->req = (struct blk_req){
		.op = op, .offset_bytes = offset, .len_bytes = len, .done = done, .arg = slot};
	slot->flush_at = w->event;
	slot->stamp = ++w->stamp;
	if (op == BLK_WRITE) {
		prepare_write(w, slot);
		push(w, &slot->req, slot->stamp);
	} else if (op == BLK_READ) {
		memset(slot->buf, 0xee, len);
		cut_iov(w, slot);
	} else if (op == BLK_ZERO || op == BLK_DISCARD) {
		push(w, &slot->req, op == BLK_ZERO ? 0 : WORKLOAD_DISCARDED);
	}
	if ((op == BLK_WRITE || op == BLK_ZERO) && pick(w, 16) == 0) {
		slot->req.flags = BLK_FUA;
	}
	slot->busy = true;
	w->in_flight++;
	blk_submit(blk, &slot->req);
}

static void wait_once(struct blk *blk)
{
	CHECK(uring_wait(blk->ring, UINT64_MAX) >= 0);
}

int workload_run(struct workload *w, struct blk *blk, uint32_t count, uint32_t depth)
{
	uint32_t started = 0;

	while (started < count && w->error == 0) {
		for (uint32_t i = 0; i < depth && started < count; i++) {
			if (!w->slot[i].busy && pick(w, 4) != 0) {
				start(w, blk, &w->slot[i]);
				started++;
			}
		}
		if (w->in_flight != 0) {
			wait_once(blk);
		}
	}
	while (w->in_flight != 0) {
		wait_once(blk);
	}
	return w->error;
}

int workload_flush(struct workload *w, struct blk *blk)
{
	int err = blk_sync_flush(blk);

	if (err == 0) {
		workload_settle(w);
	}
	return err;
}

void workload_settle(struct workload *w)
{
	for (uint64_t i = 0; i < w->sectors; i++) {
		durable(&w->sector[i], w->event);
	}
}

void workload_verify(struct workload *w, struct blk *blk)
{
	uint32_t per = w->len_max / w->sector_bytes;
	uint8_t *buf = malloc((size_t)per * w->sector_bytes);

	CHECK(buf != NULL);
	for (uint64_t first = 0; first < w->sectors; first += per) {
		uint64_t n = w->sectors - first < per ? w->sectors - first : per;

		assert_int_equal(
			blk_sync_read(blk, first * w->sector_bytes, buf, n * w->sector_bytes), 0);
		for (uint64_t i = 0; i < n; i++) {
			struct workload_sector *s = &w->sector[first + i];

			s->version[0].stamp = expect(w, first + i, 0, buf + i * w->sector_bytes);
			s->version[0].done_at = 0;
			s->count = 1;
		}
	}
	free(buf);
}
