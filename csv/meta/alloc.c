/* SPDX-License-Identifier: Apache-2.0 */

/*
 * alloc - units for files and blocks of the pool, from the two maps. Per block of a map the number
 * of free bits is kept in memory, so that full ones are not read.
 */
#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <string.h>

#include "csv/meta/meta_int.h"

static bool bit_test(const struct csv_map_wire *w, uint32_t bit)
{
	return (w->map[bit / 8] >> (bit % 8) & 1) != 0;
}

static void bit_put(struct csv_map_wire *w, uint32_t bit, bool used)
{
	uint8_t mask = (uint8_t)(1u << bit % 8);

	w->map[bit / 8] = (uint8_t)(used ? w->map[bit / 8] | mask : w->map[bit / 8] & ~mask);
}

static int map_get(struct csv_meta *m, const struct map_info *map, uint32_t index,
                   struct cblock **out)
{
	const struct csv_block_id id = {map->type, map->at + index, index, NULL};

	return cache_get(m, &id, out);
}

void alloc_refresh(struct csv_meta *m, const struct cblock *b)
{
	const struct csv_map_wire *w = (const void *)b->buf;
	uint32_t type = le16_get(w->head.type);

	if (type == CSV_UNIT_MAP) {
		m->units.free[b->block - m->units.at] = (uint16_t)le32_get(w->free);
	} else if (type == CSV_POOL_MAP) {
		m->pool.free[b->block - m->pool.at] = (uint16_t)le32_get(w->free);
	}
}

int alloc_state(struct csv_meta *m, struct cblock **out)
{
	const struct csv_block_id id = {CSV_STATE, m->super.layout.state_at, 0, NULL};

	return cache_get(m, &id, out);
}

/* Change a count of the state; @offset of a le64. */
int state_add(struct csv_meta *m, size_t offset, int64_t delta)
{
	struct cblock *b;
	int err = alloc_state(m, &b);
	le64 count;

	if (err != 0) {
		return err;
	}
	memcpy(&count, b->buf + offset, sizeof(count));
	if (delta < 0 && le64_get(count) < (uint64_t)-delta) {
		return errbuf_set(&m->eb, -EUCLEAN, "volume state at block %llu: it has miscounted",
		                  (unsigned long long)b->block);
	}
	cache_touch(m, b);
	count = le64_make(le64_get(count) + (uint64_t)delta);
	memcpy(b->buf + offset, &count, sizeof(count));
	return 0;
}

/* The first run of free bits at or after @from, at most @want long; 0 = none. */
static uint32_t find_run(const struct csv_map_wire *w, uint32_t *from, uint64_t want)
{
	uint32_t bits = le32_get(w->bits);
	uint32_t count = 0;

	while (*from < bits && bit_test(w, *from)) {
		*from += *from % 8 == 0 && w->map[*from / 8] == 0xff ? 8 : 1;
	}
	while (*from + count < bits && count < want && !bit_test(w, *from + count)) {
		count++;
	}
	return count;
}

/* The longest run, but the first that is long enough. */
static uint32_t best_run(const struct csv_map_wire *w, uint64_t want, uint32_t *first)
{
	uint32_t best = 0;
	uint32_t at = 0;

	while (best < want) {
		uint32_t count = find_run(w, &at, want);

		if (count == 0) {
			break;
		}
		if (count > best) {
			best = count;
			*first = at;
		}
		at += count;
	}
	return best;
}

static int take(struct csv_meta *m, struct cblock *b, uint32_t first, uint32_t count)
{
	struct csv_map_wire *w = (void *)b->buf;

	cache_touch(m, b);
	for (uint32_t i = 0; i < count; i++) {
		bit_put(w, first + i, true);
	}
	w->free = le32_make(le32_get(w->free) - count);
	return 0;
}

static int give(struct csv_meta *m, struct cblock *b, uint32_t first, uint32_t count)
{
	struct csv_map_wire *w = (void *)b->buf;

	for (uint32_t i = 0; i < count; i++) {
		if (first + i >= le32_get(w->bits) || !bit_test(w, first + i)) {
			return errbuf_set(&m->eb, -EUCLEAN,
			                  "%s at block %llu: bit %u is free already",
			                  csv_block_type_name(le16_get(w->head.type)),
			                  (unsigned long long)b->block, first + i);
		}
	}
	cache_touch(m, b);
	for (uint32_t i = 0; i < count; i++) {
		bit_put(w, first + i, false);
	}
	w->free = le32_make(le32_get(w->free) + count);
	return 0;
}

static int claim_units(struct csv_meta *m, struct cblock *b, uint32_t index, struct unit_run *run)
{
	for (uint64_t i = 0; i < run->count; i++) {
		if (csv_layout_fixed(&m->super.layout, run->first + i)) {
			return errbuf_set(&m->eb, -EUCLEAN,
			                  "map of units at block %" PRIu64 ": unit %" PRIu64
			                  " is not free for files",
			                  b->block, run->first + i);
		}
	}

	int err = take(m, b, (uint32_t)(run->first - (uint64_t)index * CSV_MAP_BITS),
	               (uint32_t)run->count);

	return err != 0 ? err
	                : state_add(m, offsetof(struct csv_state_wire, free_units),
	                            -(int64_t)run->count);
}

/* Behind the hint if that is free; else the first block of the map with a run that is long enough,
 * or the longest run of the first few that have anything. */
int alloc_units(struct csv_meta *m, struct unit_run *run)
{
	struct map_info *map = &m->units;
	struct cblock *b;

	if (run->hint != 0 && run->hint < csv_layout_units(&m->super.layout)) {
		uint32_t index = (uint32_t)(run->hint / CSV_MAP_BITS);
		uint32_t first = (uint32_t)(run->hint % CSV_MAP_BITS);
		int err = map_get(m, map, index, &b);

		if (err != 0) {
			return err;
		}
		run->count = find_run((const void *)b->buf, &first, run->want);
		if (run->count != 0 && first == run->hint % CSV_MAP_BITS) {
			run->first = run->hint;
			return claim_units(m, b, index, run);
		}
	}
	for (uint32_t i = 0; i < map->blocks; i++) {
		uint32_t index = (map->rover + i) % map->blocks;
		uint32_t first = 0;

		if (map->free[index] == 0) {
			continue;
		}

		int err = map_get(m, map, index, &b);

		if (err != 0) {
			return err;
		}
		run->count = best_run((const void *)b->buf, run->want, &first);
		if (run->count != 0) {
			run->first = (uint64_t)index * CSV_MAP_BITS + first;
			map->rover = index;
			return claim_units(m, b, index, run);
		}
	}
	return -ENOSPC;
}

/* Free units, in one block of the map; *done says how many. */
int free_units(struct csv_meta *m, uint64_t first, uint64_t count, uint64_t *done)
{
	uint32_t index = (uint32_t)(first / CSV_MAP_BITS);
	uint32_t bit = (uint32_t)(first % CSV_MAP_BITS);
	uint32_t now = count < CSV_MAP_BITS - bit ? (uint32_t)count : CSV_MAP_BITS - bit;
	struct cblock *b;
	int err = map_get(m, &m->units, index, &b);

	if (err == 0) {
		err = give(m, b, bit, now);
	}
	if (err == 0) {
		err = state_add(m, offsetof(struct csv_state_wire, free_units), now);
	}
	*done = now;
	return err;
}

int alloc_block(struct csv_meta *m, struct cblock **out)
{
	struct map_info *map = &m->pool;
	struct cblock *state;
	struct cblock *b;
	int err = alloc_state(m, &state);

	if (err != 0) {
		return err;
	}

	const struct csv_state_wire *w = (const void *)state->buf;

	if (!m->privileged && le64_get(w->pool_free) <= POOL_RESERVE) {
		return -ENOSPC;
	}
	for (uint32_t i = 0; i < map->blocks; i++) {
		uint32_t index = (map->rover + i) % map->blocks;
		uint32_t first = 0;

		if (map->free[index] == 0) {
			continue;
		}
		err = map_get(m, map, index, &b);
		if (err != 0) {
			return err;
		}
		if (find_run((const void *)b->buf, &first, 1) == 0) {
			continue;
		}
		if (index == 0 && first < 2) {
			return errbuf_set(&m->eb, -EUCLEAN,
			                  "map of the pool at block %llu: the root is free",
			                  (unsigned long long)b->block);
		}
		map->rover = index;
		err = take(m, b, first, 1);
		if (err == 0) {
			err = state_add(m, offsetof(struct csv_state_wire, pool_free), -1);
		}
		return err != 0 ? err
		                : cache_fresh(m,
		                              m->super.layout.pool_at +
		                                      (uint64_t)index * CSV_MAP_BITS + first,
		                              out);
	}
	return -ENOSPC;
}

int free_block(struct csv_meta *m, uint64_t block)
{
	uint64_t n = block - m->super.layout.pool_at;
	struct cblock *b;
	int err = map_get(m, &m->pool, (uint32_t)(n / CSV_MAP_BITS), &b);

	if (err == 0) {
		err = give(m, b, (uint32_t)(n % CSV_MAP_BITS), 1);
	}
	return err != 0 ? err : state_add(m, offsetof(struct csv_state_wire, pool_free), 1);
}

/* Is this block of the pool in use? 1, 0, -errno. */
int alloc_is_used(struct csv_meta *m, uint64_t block)
{
	uint64_t n = block - m->super.layout.pool_at;
	struct cblock *b;
	int err = map_get(m, &m->pool, (uint32_t)(n / CSV_MAP_BITS), &b);

	return err != 0                                                       ? err
	       : bit_test((const void *)b->buf, (uint32_t)(n % CSV_MAP_BITS)) ? 1
	                                                                      : 0;
}
