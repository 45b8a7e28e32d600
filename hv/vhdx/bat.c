/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "base/errbuf.h"
#include "hv/vhdx/format_int.h"

/* [MS-VHDX] 2.4: a sector bitmap block of 1 MiB has one bit for each of 2^23 sectors. */
#define BAT_CHUNK_SECTORS_SHIFT 23u

static uint32_t bat_log2(uint32_t power)
{
	return (uint32_t)__builtin_ctz(power);
}

void vhdx_geometry_init(const struct vhdx_metadata *metadata, struct vhdx_geometry *out)
{
	uint32_t block_shift = bat_log2(metadata->block_bytes);
	uint32_t logical_shift = bat_log2(metadata->logical_bytes);
	uint32_t chunk_shift = BAT_CHUNK_SECTORS_SHIFT + logical_shift - block_shift;
	uint64_t blocks = (metadata->size_bytes + metadata->block_bytes - 1) >> block_shift;
	uint64_t chunks = (blocks + (1ull << chunk_shift) - 1) >> chunk_shift;

	*out = (struct vhdx_geometry){
		.size_bytes = metadata->size_bytes,
		.logical_bytes = metadata->logical_bytes,
		.block_bytes = metadata->block_bytes,
		.block_shift = block_shift,
		.logical_shift = logical_shift,
		.chunk_shift = chunk_shift,
		.block_count = blocks,
		.chunk_count = chunks,
		/* A disk with a parent has a bitmap entry after each chunk, the last one too. */
		.entry_count = metadata->has_parent ? chunks * ((1ull << chunk_shift) + 1)
	                                            : blocks + ((blocks - 1) >> chunk_shift),
		.has_parent = metadata->has_parent,
	};
}

bool vhdx_bat_is_payload(const struct vhdx_geometry *g, uint64_t index, uint64_t *number)
{
	uint64_t period = (1ull << g->chunk_shift) + 1;
	uint64_t chunk = index / period;
	uint64_t within = index % period;

	if (within == period - 1) {
		*number = chunk;
		return false;
	}
	*number = (chunk << g->chunk_shift) + within;
	return true;
}

static bool bat_legal(const struct vhdx_geometry *g, bool payload, uint64_t number,
                      enum vhdx_state state)
{
	if (!payload) {
		return state == VHDX_NOT_PRESENT || state == VHDX_PRESENT;
	}
	return state <= VHDX_UNMAPPED || (state == VHDX_PRESENT && number < g->block_count) ||
	       (state == VHDX_PARTIAL && g->has_parent && number < g->block_count);
}

int vhdx_bat_entry_check(const struct vhdx_geometry *g, uint64_t index, uint64_t entry,
                         uint64_t file_bytes, struct errbuf *eb)
{
	uint64_t number;
	bool payload = vhdx_bat_is_payload(g, index, &number);
	enum vhdx_state state = vhdx_bat_state(entry);
	const char *what = payload ? "block" : "sector bitmap block";

	if (!payload && !g->has_parent) {
		return 0; /* without meaning there; older versions of qemu-img left garbage there */
	}
	if ((entry & VHDX_BAT_RESERVED_MASK) != 0) {
		return errbuf_set(eb, -EBADMSG, "%s %llu: reserved bits in 0x%llx", what,
		                  (unsigned long long)number, (unsigned long long)entry);
	}
	if (!bat_legal(g, payload, number, state)) {
		return errbuf_set(eb, -EBADMSG, "%s %llu: state %u", what,
		                  (unsigned long long)number, (unsigned)state);
	}
	if (!vhdx_bat_has_data(entry)) {
		return 0;
	}

	/* The file may end with the disk, inside the last block. */
	uint64_t bytes = payload ? vhdx_block_bytes(g, number) : VHDX_MIB;

	if (vhdx_bat_offset(entry) < VHDX_MIB || vhdx_bat_offset(entry) > file_bytes ||
	    bytes > file_bytes - vhdx_bat_offset(entry)) {
		return errbuf_set(
			eb, -EBADMSG, "%s %llu at 0x%llx: outside the file of 0x%llx bytes", what,
			(unsigned long long)number, (unsigned long long)vhdx_bat_offset(entry),
			(unsigned long long)file_bytes);
	}
	return 0;
}
