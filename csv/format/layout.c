/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>

#include "base/errbuf.h"
#include "base/fmt.h"
#include "csv/format/csv_format.h"

#define AREA_UNITS_MAX 256u        /* more than a volume's coordinator writes in minutes */
#define POOL_UNITS_MAX (64u << 10) /* 64 GiB: 16 million inodes and tree nodes */
#define POOL_UNITS_MIN 4u
#define SECOND_SUPER_UNIT 1024u /* at 1 GiB, if the volume reaches that far */

static uint64_t blocks_for(uint64_t bits)
{
	return (bits + CSV_MAP_BITS - 1) / CSV_MAP_BITS;
}

static uint64_t clamp(uint64_t value, uint32_t low, uint32_t high)
{
	if (value < low) {
		return low;
	}
	return value > high ? high : value;
}

static uint64_t round_up(uint64_t blocks)
{
	return (blocks + CSV_UNIT_BLOCKS - 1) / CSV_UNIT_BLOCKS * CSV_UNIT_BLOCKS;
}

int csv_layout_super_places(uint64_t size_bytes, uint64_t *out)
{
	uint64_t units = size_bytes / CSV_UNIT_BYTES;

	if (size_bytes < CSV_SIZE_MIN_BYTES || units > CSV_SIZE_MAX_BYTES / CSV_UNIT_BYTES) {
		return -EINVAL;
	}
	/* Small volumes have it in their second half: behind the metadata, before the last. */
	uint64_t second = units > 2ull * SECOND_SUPER_UNIT ? SECOND_SUPER_UNIT : units / 2;

	out[0] = CSV_SUPER_AT;
	out[1] = second * CSV_UNIT_BLOCKS;
	out[2] = units * CSV_UNIT_BLOCKS - 1;
	return 0;
}

/* Where everything is follows from three sizes, so that there is nothing to disagree about. */
static int place(uint64_t size, uint64_t area_blocks, uint64_t pool_blocks, struct csv_layout *out)
{
	struct csv_layout l = {.size = size, .area_blocks = area_blocks};
	uint64_t units = size / CSV_UNIT_BLOCKS;

	if (csv_layout_super_places(size * CSV_BLOCK_BYTES, l.copies) != 0) {
		return -EINVAL;
	}
	l.pool_blocks = pool_blocks;
	l.state_at = CSV_JOURNAL_AT + 2 * area_blocks;
	l.unit_map_at = l.state_at + 1;
	l.unit_map_blocks = blocks_for(units);
	l.pool_map_at = l.unit_map_at + l.unit_map_blocks;
	l.pool_map_blocks = blocks_for(pool_blocks);
	l.pool_at = round_up(l.pool_map_at + l.pool_map_blocks);
	if (l.copies[1] >= CSV_JOURNAL_AT && l.copies[1] < l.pool_at + pool_blocks) {
		/* Everything moves behind the copy, or stays before it: never around it. */
		if (l.copies[1] < l.pool_at) {
			return -EINVAL;
		}
		l.pool_at = l.copies[1] + CSV_UNIT_BLOCKS;
	}
	/* The last unit has a copy, and a volume without room for files is none. */
	if (l.pool_at + pool_blocks + 2ull * CSV_UNIT_BLOCKS > size) {
		return -EINVAL;
	}
	*out = l;
	return 0;
}

int csv_layout_make(const struct csv_layout_cfg *cfg, struct csv_layout *out, struct errbuf *eb)
{
	char size[FMT_MAX];
	uint64_t units = cfg->size_bytes / CSV_UNIT_BYTES;
	uint64_t area = clamp(units / 1024, 1, 32);
	uint64_t pool = clamp(units / 1024, POOL_UNITS_MIN, POOL_UNITS_MAX);

	if (cfg->size_bytes < CSV_SIZE_MIN_BYTES || units > CSV_SIZE_MAX_BYTES / CSV_UNIT_BYTES) {
		errbuf_set(eb, -EINVAL, "a volume has 64 MiB to 256 TiB, not %s",
		           fmt_size(cfg->size_bytes, size));
		return -EINVAL;
	}
	if (cfg->area_bytes != 0) {
		area = cfg->area_bytes / CSV_UNIT_BYTES;
		if (cfg->area_bytes % CSV_UNIT_BYTES != 0 || area > AREA_UNITS_MAX) {
			return errbuf_set(eb, -EINVAL, "an area of the journal has 1 to %u MiB",
			                  AREA_UNITS_MAX);
		}
	}
	if (cfg->pool_bytes != 0) {
		pool = cfg->pool_bytes / CSV_UNIT_BYTES;
		if (cfg->pool_bytes % CSV_UNIT_BYTES != 0 || pool > POOL_UNITS_MAX) {
			return errbuf_set(eb, -EINVAL, "the pool has 1 to %u MiB", POOL_UNITS_MAX);
		}
	}
	if (place(units * CSV_UNIT_BLOCKS, area * CSV_UNIT_BLOCKS, pool * CSV_UNIT_BLOCKS, out) !=
	    0) {
		return errbuf_set(eb, -EINVAL, "the metadata leaves no room on %" PRIu64 " MiB",
		                  units);
	}
	return 0;
}

int csv_layout_check(const struct csv_layout *l, struct errbuf *eb)
{
	struct csv_layout want;

	if (l->size % CSV_UNIT_BLOCKS != 0 || l->size > CSV_SIZE_MAX_BYTES / CSV_BLOCK_BYTES) {
		return errbuf_set(eb, -EUCLEAN, "a volume of %" PRIu64 " blocks", l->size);
	}
	if (l->area_blocks == 0 || l->area_blocks % CSV_UNIT_BLOCKS != 0 ||
	    l->area_blocks > (uint64_t)AREA_UNITS_MAX * CSV_UNIT_BLOCKS) {
		return errbuf_set(eb, -EUCLEAN, "a journal of twice %" PRIu64 " blocks",
		                  l->area_blocks);
	}
	if (l->pool_blocks == 0 || l->pool_blocks % CSV_UNIT_BLOCKS != 0 ||
	    l->pool_blocks > (uint64_t)POOL_UNITS_MAX * CSV_UNIT_BLOCKS) {
		return errbuf_set(eb, -EUCLEAN, "a pool of %" PRIu64 " blocks", l->pool_blocks);
	}
	if (place(l->size, l->area_blocks, l->pool_blocks, &want) != 0) {
		return errbuf_set(eb, -EUCLEAN, "regions do not fit into %" PRIu64 " blocks",
		                  l->size);
	}
	if (l->state_at != want.state_at || l->unit_map_at != want.unit_map_at ||
	    l->unit_map_blocks != want.unit_map_blocks || l->pool_map_at != want.pool_map_at ||
	    l->pool_map_blocks != want.pool_map_blocks || l->pool_at != want.pool_at ||
	    l->copies[0] != want.copies[0] || l->copies[1] != want.copies[1] ||
	    l->copies[2] != want.copies[2]) {
		return errbuf_set(eb, -EUCLEAN, "regions are not where they belong");
	}
	return 0;
}

uint64_t csv_layout_area(const struct csv_layout *layout, uint32_t area)
{
	return CSV_JOURNAL_AT + area * layout->area_blocks;
}

uint64_t csv_layout_data_unit(const struct csv_layout *layout)
{
	return (layout->pool_at + layout->pool_blocks) / CSV_UNIT_BLOCKS;
}

bool csv_layout_fixed(const struct csv_layout *layout, uint64_t unit)
{
	return unit < csv_layout_data_unit(layout) || unit == layout->copies[1] / CSV_UNIT_BLOCKS ||
	       unit == layout->copies[2] / CSV_UNIT_BLOCKS;
}

uint32_t csv_layout_map_bits(const struct csv_layout *layout, enum csv_block_type type,
                             uint64_t index)
{
	uint64_t all = type == CSV_UNIT_MAP ? csv_layout_units(layout) : layout->pool_blocks;
	uint64_t before = index * CSV_MAP_BITS;

	if (before >= all) {
		return 0;
	}
	return all - before < CSV_MAP_BITS ? (uint32_t)(all - before) : CSV_MAP_BITS;
}

uint32_t csv_meta_at(const struct csv_layout *layout, uint64_t block)
{
	if (block == layout->state_at) {
		return CSV_STATE;
	}
	if (block >= layout->unit_map_at && block < layout->unit_map_at + layout->unit_map_blocks) {
		return CSV_UNIT_MAP;
	}
	if (block >= layout->pool_map_at && block < layout->pool_map_at + layout->pool_map_blocks) {
		return CSV_POOL_MAP;
	}
	return csv_layout_in_pool(layout, block) ? CSV_INODE : 0;
}
