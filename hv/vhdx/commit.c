/* SPDX-License-Identifier: Apache-2.0 */

/*
 * commit - what changed becomes durable, in cycles that serve all flushes that wait.
 *
 *	IDLE --new GUIDs wanted--> HEADER_WRITE -> HEADER_FLUSH -> IDLE
 *	IDLE --nothing dirty-----> FLUSH -> IDLE
 *	IDLE --dirty pages-------> DATA_FLUSH -> LOG_WRITE -> LOG_FLUSH
 *	          [-> HEADER_WRITE -> HEADER_FLUSH, the first time: the log's GUID] -> APPLY -> IDLE
 *
 * The flushes are answered before APPLY: from the log entry on, nothing can be lost. Pages that
 * change meanwhile belong to the next cycle. One cycle runs at a time, so the data flush of the
 * next one makes durable what this one applied, and a log entry needs no other: its tail is
 * itself. A failed write or flush of metadata ends all writing (v->failed): what is on disk then
 * is unknown until the log is replayed.
 */

#include <errno.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "hv/vhdx/vhdx_int.h"

static void commit_step_done(struct vhdx *v);

static void commit_req_done(struct blk_req *req, int result)
{
	struct vhdx *v = req->arg;
	struct vhdx_commit *c = &v->commit;

	CHECK(c->outstanding > 0);
	c->outstanding--;
	if (result != 0 && c->error == 0) {
		c->error = result;
	}
	if (c->outstanding == 0) {
		commit_step_done(v);
	}
}

/* Start one I/O of the current step; @slot tells those of a step apart. */
static void commit_submit(struct vhdx *v, uint32_t slot, enum blk_op op, uint64_t offset,
                          /* NOLINTNEXTLINE(readability-non-const-parameter): reads write to it */
                          uint8_t *buf, uint32_t len)
{
	struct vhdx_commit *c = &v->commit;

	CHECK(slot < VHDX_APPLY_MAX);
	c->iov[slot] = (struct iovec){.iov_base = buf, .iov_len = len};
	c->req[slot] = (struct blk_req){.op = op,
	                                .offset_bytes = offset,
	                                .len_bytes = len,
	                                .iov = buf != NULL ? &c->iov[slot] : NULL,
	                                .iov_count = buf != NULL ? 1 : 0,
	                                .done = commit_req_done,
	                                .arg = v};
	c->outstanding++;
	blk_submit(v->file, &c->req[slot]);
}

static void commit_end_flushes(struct vhdx *v, struct list *list, int result)
{
	for (struct list *link = list_pop(list); link != NULL; link = list_pop(list)) {
		struct vhdx_io *io = list_entry(link, struct vhdx_io, link);

		blk_complete_later(&v->blk, io->req, result);
	}
}

static void commit_fail(struct vhdx *v, int err)
{
	struct vhdx_commit *c = &v->commit;

	log_err("vhdx", "cannot write metadata, no more writes until reopened err=%d step=%d", err,
	        (int)c->step);
	v->failed = err;
	c->step = VHDX_COMMIT_IDLE;
	commit_end_flushes(v, &c->cycle, err);
	commit_end_flushes(v, &c->waiting, err);
	vhdx_alloc_advance(v);
	vhdx_wake_failed(v, VHDX_WAIT_ALLOC | VHDX_WAIT_DIRTY | VHDX_WAIT_ACTIVATE, UINT64_MAX,
	                 err);
}

/* ---- the header ---- */

static void commit_header(struct vhdx *v, bool in_entry)
{
	struct vhdx_commit *c = &v->commit;
	struct vhdx_header_wire w;

	c->header.sequence = v->header.sequence + 1;
	vhdx_header_encode(&c->header, &w);
	memcpy(c->header_buf, &w, sizeof(w));
	c->in_entry = in_entry;
	c->step = VHDX_COMMIT_HEADER_WRITE;
	/* Over the copy that is not current: if this tears, the other one still stands. */
	commit_submit(v, 0, BLK_WRITE,
	              v->header_slot == 0 ? VHDX_HEADER_2_OFFSET : VHDX_HEADER_1_OFFSET,
	              c->header_buf, VHDX_HEADER_BYTES);
}

static void commit_activate(struct vhdx *v)
{
	struct vhdx_commit *c = &v->commit;

	c->header = v->header;
	guid_random(&c->header.file_write);
	if (guid_is_nil(&v->next_data_write)) {
		guid_random(&c->header.data_write);
	} else {
		c->header.data_write = v->next_data_write;
	}
	c->again = true;
	commit_header(v, false);
}

/* ---- dirty pages ---- */

bool vhdx_dirty_room(struct vhdx *v, uint32_t count)
{
	if (v->dirty_slots + count <= VHDX_DIRTY_MAX) {
		return true;
	}
	vhdx_commit_want(v);
	return false;
}

bool vhdx_dirty_bat(struct vhdx *v, uint64_t index)
{
	uint32_t page = (uint32_t)(index / VHDX_PAGE_ENTRIES);
	uint64_t bit = 1ull << page % 64;

	if ((v->bat_dirty[page / 64] & bit) != 0) {
		return true;
	}
	if (!vhdx_dirty_room(v, 1)) {
		return false;
	}
	v->bat_dirty[page / 64] |= bit;
	v->dirty_bat[v->dirty_bat_count++] = page;
	v->dirty_slots++;
	return true;
}

/* The bytes of a page of the BAT, from the entries in memory. */
static void commit_bat_page(const struct vhdx *v, uint32_t page, uint8_t *out)
{
	uint64_t first = (uint64_t)page * VHDX_PAGE_ENTRIES;

	for (uint32_t i = 0; i < VHDX_PAGE_ENTRIES; i++) {
		le64 entry = le64_make(first + i < v->geo.entry_count ? v->bat[first + i] : 0);

		memcpy(out + i * sizeof(entry), &entry, sizeof(entry));
	}
}

/*
 * Take the dirty pages: the caller's arrays get their places and copies, and they count as clean.
 * The copies start behind the largest descriptor area, where the entry's data sectors will be.
 */
static void commit_take(struct vhdx *v)
{
	struct vhdx_commit *c = &v->commit;
	uint8_t *at = c->buf + VHDX_LOG_SECTOR_BYTES;

	c->pages = 0;
	for (uint32_t i = 0; v->dirty_pages != 0 && i < VHDX_PAGES_MAX; i++) {
		struct vhdx_page *page = &v->pages[i];

		if (!page->dirty) {
			continue;
		}
		CHECK(c->pages < VHDX_DIRTY_MAX);
		memcpy(at, page->data, VHDX_PAGE_BYTES);
		at += VHDX_PAGE_BYTES;
		c->page_offset[c->pages++] = page->offset;
		page->dirty = false;
		v->dirty_pages--;
		page->committing = true;
		if (page->pins == 0) {
			page->slot = false;
			v->dirty_slots--;
		}
	}
	for (uint32_t i = 0; i < v->dirty_bat_count; i++) {
		uint32_t page = v->dirty_bat[i];

		CHECK(c->pages < VHDX_DIRTY_MAX);
		commit_bat_page(v, page, at);
		at += VHDX_PAGE_BYTES;
		c->page_offset[c->pages++] =
			v->regions.bat.offset + (uint64_t)page * VHDX_PAGE_BYTES;
		v->bat_dirty[page / 64] &= ~(1ull << page % 64);
		v->dirty_slots--;
	}
	v->dirty_bat_count = 0;
}

/* ---- the log entry ---- */

static void commit_log_write(struct vhdx *v)
{
	struct vhdx_commit *c = &v->commit;
	struct vhdx_log_page list[VHDX_DIRTY_MAX];
	uint32_t log_bytes = v->header.log_bytes;
	uint32_t bytes = vhdx_log_entry_bytes(c->pages);
	const struct vhdx_log_entry entry = {
		.sequence = c->sequence++,
		.tail = c->log_head,
		.flushed_size = c->file_bytes,
		.last_size = c->file_bytes,
	};

	for (uint32_t i = 0; i < c->pages; i++) {
		list[i].offset = c->page_offset[i];
		list[i].data = c->buf + (size_t)(i + 1) * VHDX_LOG_SECTOR_BYTES;
	}
	vhdx_log_entry_encode(&entry, &v->log_guid, list, c->pages, c->buf);
	c->step = VHDX_COMMIT_LOG_WRITE;

	uint32_t first = log_bytes - c->log_head < bytes ? log_bytes - c->log_head : bytes;

	commit_submit(v, 0, BLK_WRITE, v->header.log_offset + c->log_head, c->buf, first);
	if (first < bytes) {
		commit_submit(v, 1, BLK_WRITE, v->header.log_offset, c->buf + first, bytes - first);
	}
	c->log_head = (c->log_head + bytes) % log_bytes;
}

/* The entry is durable and the header says so: what waited for it may know. */
static void commit_durable(struct vhdx *v)
{
	struct vhdx_commit *c = &v->commit;

	v->commits++;
	commit_end_flushes(v, &c->cycle, 0);
	v->leaving_committed = v->space.leaving_count != 0;
	/* The pages again, where the entry had put its own words over their ends. */
	for (uint32_t i = 0; i < c->pages; i++) {
		vhdx_log_page_restore(c->buf, i);
	}
	c->step = VHDX_COMMIT_APPLY;
	c->applied = 0;
}

/* Write pages in place, as many at a time as there are requests, runs of pages in one. */
static void commit_apply(struct vhdx *v)
{
	struct vhdx_commit *c = &v->commit;

	for (uint32_t slot = 0; slot < VHDX_APPLY_MAX && c->applied < c->pages; slot++) {
		uint32_t first = c->applied;
		uint32_t n = 1;

		while (first + n < c->pages &&
		       c->page_offset[first + n] ==
		               c->page_offset[first] + (uint64_t)n * VHDX_PAGE_BYTES) {
			n++;
		}
		c->applied += n;
		commit_submit(v, slot, BLK_WRITE, c->page_offset[first],
		              c->buf + (size_t)(first + 1) * VHDX_LOG_SECTOR_BYTES,
		              n * VHDX_PAGE_BYTES);
	}
}

static void commit_applied(struct vhdx *v)
{
	struct vhdx_commit *c = &v->commit;

	for (uint32_t i = 0; v->pages != NULL && i < VHDX_PAGES_MAX; i++) {
		v->pages[i].committing = false;
	}
	c->step = VHDX_COMMIT_IDLE;
	vhdx_reclaim(v);
	vhdx_alloc_advance(v);
	vhdx_wake(v, VHDX_WAIT_PAGE);
	vhdx_commit_kick(v);
}

/* ---- the cycle ---- */

static void commit_header_done(struct vhdx *v)
{
	struct vhdx_commit *c = &v->commit;

	v->header = c->header;
	v->header_slot ^= 1;
	if (c->again) {
		c->again = false;
		commit_header(v, c->in_entry); /* the copies shall say the same */
		return;
	}
	if (c->in_entry) {
		commit_durable(v);
		commit_apply(v);
		return;
	}
	v->active = true;
	c->want_activate = false;
	c->step = VHDX_COMMIT_IDLE;
	vhdx_wake(v, VHDX_WAIT_ACTIVATE);
	vhdx_commit_kick(v);
}

static void commit_step_done(struct vhdx *v)
{
	struct vhdx_commit *c = &v->commit;
	int err = c->error;

	c->error = 0;
	if (err != 0 && c->step != VHDX_COMMIT_FLUSH) {
		commit_fail(v, err);
		return;
	}
	switch (c->step) {
	case VHDX_COMMIT_IDLE:
		CHECK(false);
		break;
	case VHDX_COMMIT_HEADER_WRITE:
		c->step = VHDX_COMMIT_HEADER_FLUSH;
		commit_submit(v, 0, BLK_FLUSH, 0, NULL, 0);
		break;
	case VHDX_COMMIT_HEADER_FLUSH:
		commit_header_done(v);
		break;
	case VHDX_COMMIT_FLUSH:
		commit_end_flushes(v, &c->cycle, err);
		c->step = VHDX_COMMIT_IDLE;
		vhdx_commit_kick(v);
		break;
	case VHDX_COMMIT_DATA_FLUSH:
		commit_log_write(v);
		break;
	case VHDX_COMMIT_LOG_WRITE:
		c->step = VHDX_COMMIT_LOG_FLUSH;
		commit_submit(v, 0, BLK_FLUSH, 0, NULL, 0);
		break;
	case VHDX_COMMIT_LOG_FLUSH:
		if (guid_is_nil(&v->header.log)) {
			c->header = v->header;
			c->header.log = v->log_guid;
			c->again = true;
			commit_header(v, true);
			break;
		}
		commit_durable(v);
		commit_apply(v);
		break;
	case VHDX_COMMIT_APPLY:
		if (c->applied < c->pages) {
			commit_apply(v);
		} else {
			commit_applied(v);
		}
		break;
	}
}

/* Is something changed that the log does not have? Pinned pages are not yet. */
static bool commit_dirty(const struct vhdx *v)
{
	return v->dirty_bat_count + v->dirty_pages != 0;
}

void vhdx_commit_kick(struct vhdx *v)
{
	struct vhdx_commit *c = &v->commit;

	if (c->step != VHDX_COMMIT_IDLE || v->failed != 0) {
		return;
	}
	if (c->want_activate && !v->active) {
		commit_activate(v);
		return;
	}
	if (!commit_dirty(v) && !v->leaving_committed && vhdx_space_take(&v->space)) {
		/* Freed while other storage was leaving; the BAT on disk has long forgotten it. */
		v->leaving_seq = v->frag_seq;
		v->leaving_committed = true;
		vhdx_reclaim(v);
	}
	if (!c->wanted && list_empty(&c->waiting)) {
		return;
	}
	list_splice_tail(&c->cycle, &c->waiting);
	c->wanted = false;
	if (!commit_dirty(v)) {
		if (!list_empty(&c->cycle)) {
			c->step = VHDX_COMMIT_FLUSH;
			commit_submit(v, 0, BLK_FLUSH, 0, NULL, 0);
		}
		return;
	}
	commit_take(v);
	/* Not while earlier storage leaves: what leaves now must wait for this cycle. */
	if (!v->leaving_committed && vhdx_space_take(&v->space)) {
		v->leaving_seq = v->frag_seq;
	}
	c->file_bytes = v->file_bytes;
	c->step = VHDX_COMMIT_DATA_FLUSH;
	commit_submit(v, 0, BLK_FLUSH, 0, NULL, 0);
	vhdx_alloc_advance(v);
	vhdx_wake(v, VHDX_WAIT_DIRTY);
}

static void commit_wanted(struct uring_op *op, int32_t res, bool more)
{
	struct vhdx *v = op->arg;

	(void)res;
	(void)more;
	v->commit.kick_pending = false;
	vhdx_commit_kick(v);
}

void vhdx_commit_want(struct vhdx *v)
{
	struct vhdx_commit *c = &v->commit;

	c->wanted = true;
	if (!c->kick_pending) {
		c->kick_pending = true;
		c->kick_op = (struct uring_op){.fn = commit_wanted, .arg = v};
		uring_defer(v->blk.ring, &c->kick_op, 0);
	}
}

void vhdx_commit_flush(struct vhdx *v, struct blk_req *req)
{
	struct vhdx_io *io = vhdx_io_of(req);

	if (v->failed != 0) {
		blk_complete_later(&v->blk, req, v->failed);
		return;
	}
	list_add_tail(&v->commit.waiting, &io->link);
	vhdx_commit_kick(v);
}

/* ---- storage that nothing points to any more ---- */

static void commit_discarded(struct blk_req *req, int result)
{
	struct vhdx *v = req->arg;

	(void)result; /* a hint; the space is free all the same */
	v->discarding = false;
	vhdx_space_cancel(&v->space, v->discard_offset, v->discard_bytes);
	vhdx_reclaim(v);
}

void vhdx_reclaim(struct vhdx *v)
{
	struct list *oldest = list_first(&v->frags_busy);

	if (!v->leaving_committed || v->discarding || v->failed != 0 ||
	    (oldest != NULL && list_entry(oldest, struct vhdx_frag, link)->seq < v->leaving_seq)) {
		return;
	}
	while (vhdx_space_pop(&v->space, &v->discard_offset, &v->discard_bytes)) {
		uint64_t end = v->discard_offset + v->discard_bytes;

		if (!v->file_discards || end > v->file_bytes) {
			vhdx_space_cancel(&v->space, v->discard_offset, v->discard_bytes);
			continue;
		}
		v->discarding = true;
		v->discard_req = (struct blk_req){.op = BLK_DISCARD,
		                                  .offset_bytes = v->discard_offset,
		                                  .len_bytes = v->discard_bytes,
		                                  .done = commit_discarded,
		                                  .arg = v};
		blk_submit(v->file, &v->discard_req);
		return;
	}
	v->leaving_committed = false;
}

bool vhdx_idle(const struct vhdx *v)
{
	return v->commit.step == VHDX_COMMIT_IDLE && !v->commit.kick_pending && v->grow_to == 0 &&
	       !v->discarding && list_empty(&v->frags_busy) && v->allocs_busy == 0 &&
	       v->stalled_count == 0 && (v->failed != 0 || !commit_dirty(v));
}
