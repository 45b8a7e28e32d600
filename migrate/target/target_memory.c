/* SPDX-License-Identifier: Apache-2.0 */

/*
 * target_memory - pages into the guest's memory. Everything a frame says is checked against the
 * ranges before a byte is received. Pages that were never written are still zero and not touched
 * by zero runs, so that an empty guest costs no memory.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bitmap.h"
#include "base/check.h"
#include "base/crc32c.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "migrate/target/target_int.h"

int target_map(struct target *t, struct errbuf *eb)
{
	uint64_t end = 0;

	t->range_count = t->cfg.ops->map(t->cfg.guest, t->ranges);
	CHECK(t->range_count >= 1 && t->range_count <= MOVE_RANGES_MAX);
	for (uint32_t i = 0; i < t->range_count; i++) {
		const struct move_range *r = &t->ranges[i];

		CHECK(r->gpa >= end && r->len_bytes != 0 &&
		      (r->gpa | r->len_bytes | (uintptr_t)r->host) % STREAM_PAGE_BYTES == 0);
		end = r->gpa + r->len_bytes;
		t->range_word[i] = t->words;
		t->words += BITMAP_WORDS(r->len_bytes / STREAM_PAGE_BYTES);
		t->memory_pages += r->len_bytes / STREAM_PAGE_BYTES;
	}
	t->written = gw_calloc(t->words, sizeof(t->written[0]));
	return t->written != NULL ? 0 : errbuf_sys(eb, -ENOMEM, "move");
}

int target_map_check(const struct target *t, struct errbuf *eb)
{
	uint64_t bytes = t->memory_pages * STREAM_PAGE_BYTES;

	if (bytes == t->hello.memory_bytes) {
		return 0;
	}
	return errbuf_set(eb, -EPROTO, "the guest has %llu bytes of memory there, %llu here",
	                  (unsigned long long)t->hello.memory_bytes, (unsigned long long)bytes);
}

/* The range that holds all of a run, or NULL. */
static const struct move_range *target_range(const struct target *t, const struct stream_run *run,
                                             uint32_t *index)
{
	uint64_t len = (uint64_t)run->pages * STREAM_PAGE_BYTES;

	for (uint32_t i = 0; i < t->range_count; i++) {
		const struct move_range *r = &t->ranges[i];

		if (run->gpa >= r->gpa && run->gpa - r->gpa < r->len_bytes) {
			*index = i;
			return len <= r->len_bytes - (run->gpa - r->gpa) ? r : NULL;
		}
	}
	return NULL;
}

static uint64_t target_word(const uint64_t *map, size_t word)
{
	return __atomic_load_n(&map[word], __ATOMIC_RELAXED);
}

/* Zeros: only where something was written before. */
static void target_zero(struct target *t, uint32_t range, uint64_t page, uint32_t pages)
{
	const uint64_t *map = t->written + t->range_word[range];
	uint8_t *host = t->ranges[range].host;

	for (uint64_t end = page + pages; page < end;) {
		uint64_t word = target_word(map, page / 64);

		if (word == 0) {
			page += 64 - page % 64;
			continue;
		}
		if ((word >> (page % 64) & 1) != 0) {
			memset(host + page * STREAM_PAGE_BYTES, 0, STREAM_PAGE_BYTES);
		}
		page++;
	}
}

/* Pages that appear for the first time: all at once, not one fault after the other. */
static void target_populate(struct target *t, uint32_t range, uint64_t page, uint32_t pages)
{
	uint64_t *map = t->written + t->range_word[range];
	bool fresh = false;

	for (uint64_t p = page; p < page + pages && !fresh; p++) {
		fresh = (target_word(map, p / 64) >> (p % 64) & 1) == 0;
	}
	if (!fresh) {
		return;
	}
	if (pages > 1 && !target_filled(t, range, page, pages)) {
		(void)target_fault_in(t, t->ranges[range].host + page * STREAM_PAGE_BYTES,
		                      (size_t)pages * STREAM_PAGE_BYTES);
	}
	bitmap_set_range_atomic(map, page, pages);
	target_fill_front(t, range, page + pages - 1);
}

/* Where a frame's data goes; zero runs are done at once. Returns the number of pieces. */
static int target_place(struct target_conn *c, struct iovec *iov, struct errbuf *eb)
{
	struct target *t = c->t;
	const struct stream_memory *m = c->frame;
	uint32_t range = 0;
	int count = 0;

	for (uint32_t i = 0; i < m->run_count; i++) {
		if (target_range(t, &m->runs[i], &range) == NULL) {
			return errbuf_set(eb, -EBADMSG,
			                  "pages at 0x%llx are outside the guest's memory",
			                  (unsigned long long)m->runs[i].gpa);
		}
	}
	for (uint32_t i = 0; i < m->run_count; i++) {
		const struct stream_run *run = &m->runs[i];
		const struct move_range *r = target_range(t, run, &range);
		uint64_t page;

		CHECK(r != NULL); /* as a moment ago */
		page = (run->gpa - r->gpa) / STREAM_PAGE_BYTES;
		if (run->kind == STREAM_RUN_ZERO) {
			target_zero(t, range, page, run->pages);
			c->counts.zero_pages += run->pages;
			continue;
		}
		target_populate(t, range, page, run->pages);
		c->counts.data_pages += run->pages;
		iov[count++] = (struct iovec){
			.iov_base = r->host + page * STREAM_PAGE_BYTES,
			.iov_len = (size_t)run->pages * STREAM_PAGE_BYTES,
		};
	}
	return count;
}

static int target_crc(const struct target_conn *c, const struct iovec *iov, int count,
                      struct errbuf *eb)
{
	uint32_t crc = 0;

	if (!c->frame->has_crc) {
		return 0;
	}
	for (int i = 0; i < count; i++) {
		crc = crc32c_update(crc, iov[i].iov_base, iov[i].iov_len);
	}
	return crc == c->frame->bulk_crc ? 0 : errbuf_set(eb, -EBADMSG, "pages: bad CRC");
}

static struct pack *target_packer(struct target_conn *c)
{
	bool lz4 = c->frame->coding == STREAM_CODING_LZ4;
	struct pack **p = lz4 ? &c->lz4 : &c->zstd;

	if (*p == NULL && pack_create(c->frame->coding, p) != 0) {
		return NULL;
	}
	if (c->packed == NULL) {
		c->packed = gw_malloc(STREAM_BULK_MAX);
	}
	if (c->unpacked == NULL) {
		c->unpacked = gw_malloc(STREAM_BULK_MAX);
	}
	return c->packed != NULL && c->unpacked != NULL ? *p : NULL;
}

static int target_unpack(struct target_conn *c, uint32_t bulk_bytes, const struct iovec *iov,
                         int count, struct errbuf *eb)
{
	struct pack *p = target_packer(c);

	if (p == NULL) {
		return errbuf_sys(eb, -ENOMEM, "pages");
	}

	const struct iovec in = {.iov_base = c->packed, .iov_len = bulk_bytes};
	const uint8_t *from = c->unpacked;
	int err = link_recv_bulk(&c->link, &in, 1);

	if (err == 0) {
		err = target_crc(c, &in, 1, eb);
	}
	if (err == 0 &&
	    pack_unpack(p, c->packed, bulk_bytes, c->unpacked, c->frame->data_bytes) != 0) {
		err = errbuf_set(eb, -EBADMSG, "pages cannot be unpacked");
	}
	for (int i = 0; i < count && err == 0; i++) {
		CHECK(iov[i].iov_base != NULL); /* target_place() filled it */
		memcpy(iov[i].iov_base, from, iov[i].iov_len);
		from += iov[i].iov_len;
	}
	return err;
}

/* What was not agreed on in HELLO and ANSWER. */
static bool target_agreed(const struct target_conn *c, uint32_t bulk_bytes)
{
	const struct stream_memory *m = c->frame;
	bool crc = (c->capabilities & STREAM_CAP_BULK_CRC) != 0 && bulk_bytes != 0;

	if (m->has_crc != crc) {
		return false;
	}
	switch (m->coding) {
	case STREAM_CODING_RAW:
		return true;
	case STREAM_CODING_LZ4:
		return (c->capabilities & STREAM_CAP_LZ4) != 0;
	case STREAM_CODING_ZSTD:
		return (c->capabilities & STREAM_CAP_ZSTD) != 0;
	}
	return false;
}

int target_pages(struct target_conn *c, const struct stream_frame *f, struct errbuf *eb)
{
	struct iovec iov[STREAM_RUNS_MAX] = {0};
	struct stream_memory *m = c->frame;
	int err = stream_memory_decode(c->link.payload, f->payload_bytes, f->bulk_bytes, m, eb);
	int count;

	_Static_assert(STREAM_RUNS_MAX <= TRANSPORT_IOV_MAX, "one call per frame");
	if (err != 0) {
		return err;
	}
	if (m->round != c->counts.round) {
		return errbuf_set(eb, -EBADMSG, "pages of round %u in round %u", m->round,
		                  c->counts.round);
	}
	if (!target_agreed(c, f->bulk_bytes)) {
		return errbuf_set(eb, -EBADMSG, "pages in a form that was not agreed on");
	}
	count = target_place(c, iov, eb);
	if (count < 0) {
		return count;
	}
	c->counts.frames++;
	if (m->coding != STREAM_CODING_RAW) {
		return target_unpack(c, f->bulk_bytes, iov, count, eb);
	}
	err = link_recv_bulk(&c->link, iov, count);
	return err != 0 ? err : target_crc(c, iov, count, eb);
}
