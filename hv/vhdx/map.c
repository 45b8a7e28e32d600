/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "hv/vhdx/vhdx_int.h"

static uint64_t map_min(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* What a BAT entry says of a whole block; VHDX_PARTIAL is for the caller. */
static enum vhdx_where map_where(const struct vhdx *v, uint64_t entry)
{
	switch (vhdx_bat_state(entry)) {
	case VHDX_PRESENT:
	case VHDX_PARTIAL:
		return VHDX_AT_FILE;
	case VHDX_NOT_PRESENT:
		return v->parent != NULL ? VHDX_AT_PARENT : VHDX_AT_NOTHING;
	case VHDX_UNDEFINED:
	case VHDX_ZERO:
	case VHDX_UNMAPPED:
		break;
	}
	return VHDX_AT_NOTHING;
}

uint64_t vhdx_map_page(const struct vhdx *v, uint64_t pos, uint32_t *bit)
{
	const struct vhdx_geometry *g = &v->geo;
	uint64_t block = pos >> g->block_shift;
	uint64_t chunk = block >> g->chunk_shift;
	uint64_t first = chunk << (g->chunk_shift + g->block_shift);
	uint64_t sector = (pos - first) >> g->logical_shift;
	uint64_t entry = v->bat[vhdx_bat_chunk_index(g, chunk)];

	*bit = (uint32_t)(sector % VHDX_PAGE_BITS);
	return vhdx_bat_offset(entry) + sector / VHDX_PAGE_BITS * VHDX_PAGE_BYTES;
}

static int map_partial(struct vhdx *v, uint64_t pos, uint64_t len, struct vhdx_run *out)
{
	const struct vhdx_geometry *g = &v->geo;
	uint64_t within = pos & (g->block_bytes - 1);
	uint64_t left = map_min(len, g->block_bytes - within);
	uint32_t bit;
	bool here;
	struct vhdx_page *page;
	int err = vhdx_page_get(v, vhdx_map_page(v, pos, &bit), &page);

	if (err != 0) {
		return err;
	}

	uint64_t sectors = map_min(left >> g->logical_shift, VHDX_PAGE_BITS - bit);

	sectors = vhdx_bits_run(page->data, bit, (uint32_t)sectors, &here);
	out->len = sectors << g->logical_shift;
	out->where = here ? VHDX_AT_FILE : VHDX_AT_PARENT;
	out->offset =
		here ? vhdx_bat_offset(v->bat[vhdx_bat_index(g, pos >> g->block_shift)]) + within
		     : pos;
	return 0;
}

int vhdx_map(struct vhdx *v, uint64_t pos, uint64_t len, struct vhdx_run *out)
{
	const struct vhdx_geometry *g = &v->geo;
	uint64_t block = pos >> g->block_shift;
	uint64_t within = pos & (g->block_bytes - 1);
	uint64_t entry = v->bat[vhdx_bat_index(g, block)];

	if (vhdx_bat_state(entry) == VHDX_PARTIAL) {
		return map_partial(v, pos, len, out);
	}

	enum vhdx_where where = map_where(v, entry);

	*out = (struct vhdx_run){.where = where, .len = g->block_bytes - within};
	if (where == VHDX_AT_FILE) {
		out->offset = vhdx_bat_offset(entry) + within;
	} else if (where == VHDX_AT_PARENT) {
		out->offset = pos;
	}
	/* The blocks behind it, as long as they go on where this one ends. */
	while (out->len < len) {
		entry = v->bat[vhdx_bat_index(g, ++block)];
		if (vhdx_bat_state(entry) == VHDX_PARTIAL || map_where(v, entry) != where ||
		    (where == VHDX_AT_FILE && vhdx_bat_offset(entry) != out->offset + out->len)) {
			break;
		}
		out->len += g->block_bytes;
	}
	out->len = map_min(out->len, len);
	return 0;
}

uint64_t vhdx_map_present(const struct vhdx *v, uint64_t pos, uint64_t len, uint64_t *offset)
{
	const struct vhdx_geometry *g = &v->geo;
	uint64_t block = pos >> g->block_shift;
	uint64_t within = pos & (g->block_bytes - 1);
	uint64_t entry = v->bat[vhdx_bat_index(g, block)];
	uint64_t run = g->block_bytes - within;

	if (vhdx_bat_state(entry) != VHDX_PRESENT) {
		return 0;
	}
	*offset = vhdx_bat_offset(entry) + within;
	while (run < len) {
		entry = v->bat[vhdx_bat_index(g, ++block)];
		if (entry != vhdx_bat_make(VHDX_PRESENT, *offset + run)) {
			break;
		}
		run += g->block_bytes;
	}
	return map_min(run, len);
}
