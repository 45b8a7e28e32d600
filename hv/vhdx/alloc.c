/* SPDX-License-Identifier: Apache-2.0 */

/*
 * alloc - storage for payload blocks and sector bitmap blocks.
 *
 * GROW the file if it is too short; ZERO storage that was used before (what is fresh at the end of
 * the file is zero); CLEAR stale bits in the sector bitmap; ENTER the block into the BAT in memory.
 * From then on the block may be logged at any time: its content is right, whether or not the data
 * that it was wanted for has been written yet.
 */

#include <errno.h>

#include "base/check.h"
#include "hv/vhdx/vhdx_int.h"

#define ALLOC_SPARE_BLOCKS 2u /* the file grows in steps: an eighth of it, within these */
#define ALLOC_SPARE_MAX (1ull << 30)

static int alloc_run(struct vhdx_alloc *a);

static void alloc_end(struct vhdx_alloc *a)
{
	a->step = VHDX_ALLOC_IDLE;
	a->v->allocs_busy--;
}

static void alloc_fail(struct vhdx_alloc *a, int err)
{
	if (!a->kept) {
		vhdx_space_cancel(&a->v->space, a->offset, a->bytes);
	}
	alloc_end(a);
	vhdx_wake_failed(a->v, VHDX_WAIT_ALLOC, a->index, err);
	vhdx_wake(a->v, VHDX_WAIT_ALLOC); /* others want the slot */
}

/* Go on as far as it goes; tell those who wait when it is over. */
static void alloc_continue(struct vhdx_alloc *a)
{
	int err = a->v->failed != 0 ? a->v->failed : alloc_run(a);

	if (err == -EAGAIN) {
		return;
	}
	if (err != 0) {
		alloc_fail(a, err);
	} else {
		alloc_end(a);
		vhdx_wake(a->v, VHDX_WAIT_ALLOC);
	}
}

void vhdx_alloc_advance(struct vhdx *v)
{
	for (uint32_t i = 0; v->allocs_busy != 0 && i < VHDX_ALLOCS_MAX; i++) {
		struct vhdx_alloc *a = &v->allocs[i];

		if (a->step != VHDX_ALLOC_IDLE && !a->io) {
			alloc_continue(a);
		}
	}
}

/* ---- growing ---- */

static void alloc_grown(struct blk_req *req, int result);

/* Make the file @bytes + @spare long. */
static void alloc_grow(struct vhdx *v, uint64_t bytes, uint64_t spare)
{
	v->grow_to = bytes + spare;
	v->grow_spare = spare;
	v->grow_req = (struct blk_req){
		.op = BLK_RESIZE, .offset_bytes = v->grow_to, .done = alloc_grown, .arg = v};
	blk_submit(v->file, &v->grow_req);
}

static void alloc_grown(struct blk_req *req, int result)
{
	struct vhdx *v = req->arg;
	uint64_t size = v->grow_to;

	v->grow_to = 0;
	if (result == 0) {
		v->file_bytes = size;
	} else if (v->grow_spare != 0) {
		alloc_grow(v, size - v->grow_spare, 0); /* perhaps there is room for just that */
		return;
	} else {
		for (uint32_t i = 0; i < VHDX_ALLOCS_MAX; i++) {
			struct vhdx_alloc *a = &v->allocs[i];

			if (a->step == VHDX_ALLOC_GROW && a->offset + a->bytes > v->file_bytes) {
				alloc_fail(a, result);
			}
		}
	}
	vhdx_alloc_advance(v);
}

static uint64_t alloc_spare(const struct vhdx *v)
{
	uint64_t spare = v->file_bytes / 8;
	uint64_t least = (uint64_t)v->geo.block_bytes * ALLOC_SPARE_BLOCKS;

	spare = spare < least ? least : spare;
	spare = spare > ALLOC_SPARE_MAX ? ALLOC_SPARE_MAX : spare;
	return spare & ~(uint64_t)(VHDX_MIB - 1);
}

/* ---- the steps ---- */

static void alloc_zeroed(struct blk_req *req, int result)
{
	struct vhdx_alloc *a = req->arg;

	a->io = false;
	if (result != 0) {
		alloc_fail(a, result);
		return;
	}
	a->step = VHDX_ALLOC_CLEAR;
	alloc_continue(a);
}

/* Clear the block's bits: they mean nothing yet, but something may have been left in them. */
static int alloc_clear(struct vhdx_alloc *a)
{
	struct vhdx *v = a->v;
	const struct vhdx_geometry *g = &v->geo;

	if (vhdx_bat_state(a->entry) != VHDX_PARTIAL) {
		return 0;
	}
	while (a->clear_pos < a->clear_end) {
		struct vhdx_page *page;
		uint32_t bit;
		int err = vhdx_page_get(v, vhdx_map_page(v, a->clear_pos, &bit), &page);
		uint64_t left = (a->clear_end - a->clear_pos) >> g->logical_shift;
		uint32_t count =
			left < VHDX_PAGE_BITS - bit ? (uint32_t)left : VHDX_PAGE_BITS - bit;
		bool set;

		if (err != 0) {
			return err;
		}
		if (vhdx_bits_run(page->data, bit, count, &set) != count || set) {
			if (!vhdx_page_pin(v, page)) {
				return -EAGAIN;
			}
			vhdx_bits_set(page->data, bit, count, false);
			vhdx_page_unpin(v, page, true);
		}
		a->clear_pos += (uint64_t)count << g->logical_shift;
	}
	return 0;
}

/* Returns 0 it is in the BAT; -EAGAIN something must happen first; -errno. */
static int alloc_run(struct vhdx_alloc *a)
{
	struct vhdx *v = a->v;
	int err;

	if (a->step == VHDX_ALLOC_GROW) {
		if (a->offset + a->bytes > v->file_bytes) {
			if (!v->can_grow) {
				return -ENOSPC;
			}
			if (v->grow_to == 0) {
				alloc_grow(v, a->offset + a->bytes, alloc_spare(v));
			}
			return -EAGAIN;
		}
		a->step = VHDX_ALLOC_CLEAR;
		if (a->zero) {
			a->step = VHDX_ALLOC_ZERO;
			a->io = true;
			a->req = (struct blk_req){.op = BLK_ZERO,
			                          .offset_bytes = a->offset,
			                          .len_bytes = a->bytes,
			                          .done = alloc_zeroed,
			                          .arg = a};
			blk_submit(v->file, &a->req);
			return -EAGAIN;
		}
	}
	if (a->step == VHDX_ALLOC_CLEAR) {
		err = alloc_clear(a);
		if (err != 0) {
			return err;
		}
		a->step = VHDX_ALLOC_ENTER;
	}
	if (!vhdx_dirty_bat(v, a->index)) {
		return -EAGAIN;
	}
	v->bat[a->index] = a->entry;
	v->allocated++;
	return 0;
}

static struct vhdx_alloc *alloc_find(struct vhdx *v, uint64_t index)
{
	struct vhdx_alloc *idle = NULL;

	for (uint32_t i = 0; i < VHDX_ALLOCS_MAX; i++) {
		struct vhdx_alloc *a = &v->allocs[i];

		if (a->step == VHDX_ALLOC_IDLE) {
			idle = idle == NULL ? a : idle;
		} else if (a->index == index) {
			return a;
		}
	}
	return idle;
}

/* Choose the storage of @a, and whether it must be zeroed. */
static int alloc_place(struct vhdx_alloc *a, uint64_t old)
{
	struct vhdx *v = a->v;
	uint64_t fresh = v->zero_from;

	/* A trimmed block may have kept its place. */
	a->kept = vhdx_bat_offset(old) != 0 &&
	          (vhdx_bat_state(old) == VHDX_UNMAPPED || vhdx_bat_state(old) == VHDX_UNDEFINED);
	if (a->kept) {
		a->offset = vhdx_bat_offset(old);
		a->zero = true;
		return 0;
	}
	if (fresh < (uint64_t)v->space.end << 20) {
		fresh = (uint64_t)v->space.end << 20;
	}

	int err = vhdx_space_alloc(&v->space, a->bytes, &a->offset);

	a->zero = a->offset < fresh;
	return err;
}

bool vhdx_alloc_busy(struct vhdx *v, uint64_t index)
{
	struct vhdx_alloc *a = v->allocs_busy != 0 ? alloc_find(v, index) : NULL;

	return a != NULL && a->step != VHDX_ALLOC_IDLE;
}

/* NOLINTNEXTLINE(misc-no-recursion): only by what waited, once a block */
int vhdx_alloc_start(struct vhdx *v, struct blk_req *req, uint64_t index)
{
	const struct vhdx_geometry *g = &v->geo;
	uint64_t old = v->bat[index];
	uint64_t number;
	bool payload = vhdx_bat_is_payload(g, index, &number);
	bool partial = payload && v->parent != NULL && vhdx_bat_state(old) == VHDX_NOT_PRESENT;

	if (partial) {
		uint64_t chunk = vhdx_bat_chunk_index(g, number >> g->chunk_shift);

		if (vhdx_bat_state(v->bat[chunk]) != VHDX_PRESENT) {
			return vhdx_alloc_start(v, req, chunk);
		}
	}

	struct vhdx_alloc *a = alloc_find(v, index);

	if (a == NULL || a->step != VHDX_ALLOC_IDLE) {
		return vhdx_stall(req, VHDX_WAIT_ALLOC, index);
	}
	*a = (struct vhdx_alloc){
		.v = v,
		.index = index,
		.bytes = payload ? g->block_bytes : VHDX_MIB,
	};

	int err = alloc_place(a, old);

	if (err != 0) {
		return err;
	}
	a->entry = vhdx_bat_make(partial ? VHDX_PARTIAL : VHDX_PRESENT, a->offset);
	a->zero = a->zero && !partial; /* there the bits say what is data */
	if (partial) {
		a->clear_pos = number << g->block_shift;
		a->clear_end = a->clear_pos + vhdx_block_bytes(g, number);
	}
	a->step = VHDX_ALLOC_GROW;
	v->allocs_busy++;
	err = alloc_run(a);
	if (err == -EAGAIN) {
		return vhdx_stall(req, VHDX_WAIT_ALLOC, index);
	}
	if (err != 0 && !a->kept) {
		vhdx_space_cancel(&v->space, a->offset, a->bytes);
	}
	alloc_end(a);
	return err;
}
