/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "base/check.h"
#include "hv/vhdx/vhdx_int.h"

/* Hand a run of a partial block to the file; its bits are set when the data is there. */
static int64_t change_partial(struct vhdx *v, struct blk_req *req, uint64_t pos, uint64_t len)
{
	const struct vhdx_geometry *g = &v->geo;
	uint64_t block = pos >> g->block_shift;
	uint64_t within = pos & (g->block_bytes - 1);
	uint64_t left = g->block_bytes - within;
	uint64_t base = vhdx_bat_offset(v->bat[vhdx_bat_index(g, block)]);
	struct vhdx_page *page;
	uint32_t bit;
	int err = vhdx_page_get(v, vhdx_map_page(v, pos, &bit), &page);

	if (err != 0) {
		return err == -EAGAIN ? vhdx_stall(req, VHDX_WAIT_PAGE, 0) : err;
	}
	left = len < left ? len : left;
	if (left >> g->logical_shift > VHDX_PAGE_BITS - bit) {
		left = (uint64_t)(VHDX_PAGE_BITS - bit) << g->logical_shift;
	}
	if (!vhdx_page_pin(v, page)) {
		return vhdx_stall(req, VHDX_WAIT_DIRTY, 0);
	}

	struct vhdx_frag *frag = vhdx_frag_start(v, req, v->file, base + within, left);

	if (frag == NULL) {
		vhdx_page_unpin(v, page, false);
		return vhdx_stall(req, VHDX_WAIT_POOL, 0);
	}
	frag->page = page;
	frag->block = block;
	frag->bit = bit;
	frag->bits = (uint32_t)(left >> g->logical_shift);
	return (int64_t)left;
}

void vhdx_change_complete(struct vhdx *v, uint64_t block)
{
	const struct vhdx_geometry *g = &v->geo;
	uint64_t index = vhdx_bat_index(g, block);
	uint64_t pos = block << g->block_shift;
	uint64_t end = pos + vhdx_block_bytes(g, block);

	/* Only what is in memory is looked at: it is not worth a read, the block works as it is. */
	while (pos < end) {
		uint32_t bit;
		struct vhdx_page *page = vhdx_page_peek(v, vhdx_map_page(v, pos, &bit));
		uint64_t left = (end - pos) >> g->logical_shift;
		uint32_t count =
			left < VHDX_PAGE_BITS - bit ? (uint32_t)left : VHDX_PAGE_BITS - bit;
		bool set;

		if (page == NULL || vhdx_bits_run(page->data, bit, count, &set) != count || !set) {
			return;
		}
		pos += (uint64_t)count << g->logical_shift;
	}
	if (vhdx_dirty_bat(v, index)) {
		v->bat[index] = vhdx_bat_make(VHDX_PRESENT, vhdx_bat_offset(v->bat[index]));
	}
}

/* Bytes from @pos that go to storage in the file, which must be allocated first. */
static int64_t change_data(struct vhdx *v, struct blk_req *req, uint64_t pos, uint64_t len)
{
	uint64_t index = vhdx_bat_index(&v->geo, pos >> v->geo.block_shift);
	uint64_t offset;
	uint64_t run;

	while (!vhdx_bat_has_data(v->bat[index])) {
		int err = vhdx_alloc_start(v, req, index);

		if (err != 0) {
			return err;
		}
	}
	if (vhdx_bat_state(v->bat[index]) == VHDX_PARTIAL) {
		return change_partial(v, req, pos, len);
	}
	run = vhdx_map_present(v, pos, len, &offset);
	if (vhdx_frag_start(v, req, v->file, offset, run) == NULL) {
		return vhdx_stall(req, VHDX_WAIT_POOL, 0);
	}
	return (int64_t)run;
}

int64_t vhdx_step_write(struct vhdx *v, struct blk_req *req, uint64_t pos, uint64_t len)
{
	return change_data(v, req, pos, len);
}

/* How much of @len from @pos lies in the block of @pos, and is that all of the block? */
static uint64_t change_in_block(const struct vhdx *v, uint64_t pos, uint64_t len, bool *whole)
{
	const struct vhdx_geometry *g = &v->geo;
	uint64_t block = pos >> g->block_shift;
	uint64_t within = pos & (g->block_bytes - 1);
	uint64_t bytes = vhdx_block_bytes(g, block);
	uint64_t part = len < bytes - within ? len : bytes - within;

	*whole = part == bytes;
	return part;
}

/* Make the whole block of @pos a block without data, in @state. */
/* NOLINTNEXTLINE(bugprone-easily-swappable-parameters): a range and its state */
static int64_t change_drop(struct vhdx *v, struct blk_req *req, uint64_t pos, uint64_t len,
                           enum vhdx_state state)
{
	uint64_t index = vhdx_bat_index(&v->geo, pos >> v->geo.block_shift);
	uint64_t old = v->bat[index];

	if (vhdx_alloc_busy(v, index)) {
		return vhdx_stall(req, VHDX_WAIT_ALLOC, index);
	}
	if (!vhdx_dirty_bat(v, index)) {
		return vhdx_stall(req, VHDX_WAIT_DIRTY, 0);
	}
	if (vhdx_bat_has_data(old)) {
		vhdx_space_free(&v->space, vhdx_bat_offset(old), v->geo.block_bytes);
		v->bat[index] = vhdx_bat_make(state, 0);
	} else {
		/* A place that the block has kept stays its own. */
		uint64_t kept = vhdx_bat_state(old) == VHDX_UNMAPPED ||
		                                vhdx_bat_state(old) == VHDX_UNDEFINED
		                        ? vhdx_bat_offset(old)
		                        : 0;

		v->bat[index] = vhdx_bat_make(kept != 0 ? VHDX_UNMAPPED : state, kept);
	}
	return (int64_t)len;
}

/* Does reading the block give zeros already? */
static bool change_is_zero(const struct vhdx *v, uint64_t entry)
{
	return !vhdx_bat_has_data(entry) &&
	       (v->parent == NULL || vhdx_bat_state(entry) != VHDX_NOT_PRESENT);
}

int64_t vhdx_step_zero(struct vhdx *v, struct blk_req *req, uint64_t pos, uint64_t len)
{
	bool whole;
	uint64_t part = change_in_block(v, pos, len, &whole);
	uint64_t entry = v->bat[vhdx_bat_index(&v->geo, pos >> v->geo.block_shift)];

	if (change_is_zero(v, entry)) {
		return (int64_t)part;
	}
	if (whole && !v->metadata.fixed) {
		return change_drop(v, req, pos, part, VHDX_ZERO);
	}
	return change_data(v, req, pos, v->metadata.fixed ? len : part);
}

int64_t vhdx_step_discard(struct vhdx *v, struct blk_req *req, uint64_t pos, uint64_t len)
{
	bool whole;
	uint64_t part = change_in_block(v, pos, len, &whole);
	uint64_t entry = v->bat[vhdx_bat_index(&v->geo, pos >> v->geo.block_shift)];

	if (v->metadata.fixed) {
		return (int64_t)len; /* a fixed disk keeps its storage */
	}
	if (change_is_zero(v, entry)) {
		return (int64_t)part;
	}
	if (whole) {
		return change_drop(v, req, pos, part, VHDX_UNMAPPED);
	}
	if (vhdx_bat_state(entry) == VHDX_PRESENT && v->file_discards) {
		return change_data(v, req, pos, part);
	}
	return (int64_t)part;
}
