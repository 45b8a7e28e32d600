/* SPDX-License-Identifier: Apache-2.0 */

/* maps - what the maps and the volume's state say, against what was found. */
#include <inttypes.h>
#include <string.h>

#include "base/bitmap.h"
#include "csv/check/check_int.h"

static bool in_use(const struct check *c, enum csv_block_type type, uint64_t n)
{
	if (type == CSV_POOL_MAP) {
		return bitmap_test(c->pool, n);
	}
	return bitmap_test(c->units, n) || csv_layout_fixed(&c->super.layout, n);
}

/* One block of a map. Returns how many bits are free, as found. */
static uint64_t compare_map(struct check *c, enum csv_block_type type, uint64_t index)
{
	const struct csv_layout *l = &c->super.layout;
	uint64_t block = (type == CSV_UNIT_MAP ? l->unit_map_at : l->pool_map_at) + index;
	const struct csv_block_id id = {type, block, index, &c->super.volume};
	uint32_t bits = csv_layout_map_bits(l, type, index);
	struct errbuf eb = {0};
	struct csv_map_wire want = {0};
	struct csv_map_wire have;
	uint64_t leaked = 0;
	uint64_t unsafe = 0;
	uint32_t free = 0;

	if (check_read(c, block, &have) != 0) {
		return 0;
	}

	bool good = csv_meta_verify(&have, l, &id, &eb) == 0;

	if (!good) {
		check_fault(c, "%s", eb.text);
	}
	for (uint32_t i = 0; i < bits; i++) {
		bool used = in_use(c, type, index * CSV_MAP_BITS + i);
		bool marked = good && (have.map[i / 8] >> (i % 8) & 1) != 0;

		if (used) {
			want.map[i / 8] = (uint8_t)(want.map[i / 8] | 1u << i % 8);
		} else {
			free++;
		}
		leaked += marked && !used;
		unsafe += good && used && !marked;
	}
	if (leaked + unsafe != 0) {
		check_fault(c,
		            "%s at block %" PRIu64 ": %" PRIu64
		            " are taken that nobody has, %" PRIu64 " are free that somebody has",
		            csv_block_type_name(type), block, leaked, unsafe);
	}
	if (!good || leaked + unsafe != 0) {
		want.head.owner = le64_make(index);
		want.bits = le32_make(bits);
		want.free = le32_make(free);
		check_write(c, type, block, &want);
		if (c->repair) {
			check_did(c, "block %" PRIu64 ": map written anew", block);
		}
	}
	return free;
}

static void compare_state(struct check *c, uint64_t free_units, uint64_t pool_free)
{
	const struct csv_layout *l = &c->super.layout;
	const struct csv_block_id id = {CSV_STATE, l->state_at, 0, &c->super.volume};
	struct errbuf eb = {0};
	struct csv_state_wire have;
	struct csv_state_wire want = {
		.free_units = le64_make(free_units),
		.reserved_units = le64_make(c->reserved_units),
		.pool_free = le64_make(pool_free),
		.files = le64_make(c->files),
		.directories = le64_make(c->directories),
		.pending = le64_make(c->pending),
		.next_generation = le64_make(c->generation_max + 1),
	};

	if (check_read(c, l->state_at, &have) != 0) {
		return;
	}
	if (csv_meta_verify(&have, l, &id, &eb) != 0) {
		check_fault(c, "%s", eb.text);
		/* Removed files may have had greater ones. */
		want.next_generation = le64_make(c->generation_max + (1u << 20));
	} else {
		if (le64_get(have.next_generation) > c->generation_max) {
			want.next_generation = have.next_generation;
		}
		want.head = have.head;
		/* Nothing else says what was done; repairing a damaged state forgets it. */
		memcpy(want.done, have.done, sizeof(want.done));
		if (memcmp(&want, &have, sizeof(want)) == 0) {
			return;
		}
		check_fault(c,
		            "volume state at block %" PRIu64 ": it says %" PRIu64
		            " units free, %" PRIu64 " reserved, %" PRIu64 " files, %" PRIu64
		            " directories, and there are "
		            "%" PRIu64 ", %" PRIu64 ", %" PRIu64 ", %" PRIu64,
		            l->state_at, le64_get(have.free_units), le64_get(have.reserved_units),
		            le64_get(have.files), le64_get(have.directories), free_units,
		            c->reserved_units, c->files, c->directories);
	}
	check_write(c, CSV_STATE, l->state_at, &want);
	if (c->repair) {
		check_did(c, "block %" PRIu64 ": counts of the volume written anew", l->state_at);
	}
}

void maps_compare(struct check *c)
{
	const struct csv_layout *l = &c->super.layout;
	uint64_t free_units = 0;
	uint64_t pool_free = 0;

	for (uint64_t i = 0; i < l->unit_map_blocks && c->err == 0; i++) {
		free_units += compare_map(c, CSV_UNIT_MAP, i);
	}
	for (uint64_t i = 0; i < l->pool_map_blocks && c->err == 0; i++) {
		pool_free += compare_map(c, CSV_POOL_MAP, i);
	}
	if (c->err == 0) {
		compare_state(c, free_units, pool_free);
	}
}
