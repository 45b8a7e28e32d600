/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/fault.h"
#include "hv/vhdx/space_int.h"

#define UNIT_SHIFT 20u
#define WORD_BITS 64u

int vhdx_space_init(struct vhdx_space *s, uint32_t units)
{
	size_t words = (units + (size_t)WORD_BITS - 1) / WORD_BITS;

	*s = (struct vhdx_space){
		.used = gw_calloc(words, sizeof(uint64_t)),
		.freed = gw_calloc(words, sizeof(uint64_t)),
		.leaving = gw_calloc(words, sizeof(uint64_t)),
		.units = units,
	};
	if (s->used == NULL || s->freed == NULL || s->leaving == NULL) {
		vhdx_space_fini(s);
		return -ENOMEM;
	}
	return 0;
}

void vhdx_space_fini(struct vhdx_space *s)
{
	free(s->used);
	free(s->freed);
	free(s->leaving);
	*s = (struct vhdx_space){0};
}

static bool space_get(const uint64_t *bits, uint32_t unit)
{
	return (bits[unit / WORD_BITS] >> unit % WORD_BITS & 1) != 0;
}

static void space_set(uint64_t *bits, uint32_t from, uint32_t count)
{
	for (uint32_t i = from; i < from + count; i++) {
		bits[i / WORD_BITS] |= 1ull << i % WORD_BITS;
	}
}

static void space_clear(uint64_t *bits, uint32_t from, uint32_t count)
{
	for (uint32_t i = from; i < from + count; i++) {
		bits[i / WORD_BITS] &= ~(1ull << i % WORD_BITS);
	}
}

/* The first unit from @from below @end whose bit is @value; @end if there is none. */
static uint32_t space_find(const uint64_t *bits, uint32_t from, uint32_t end, bool value)
{
	while (from < end) {
		uint64_t word = bits[from / WORD_BITS];

		word = (value ? word : ~word) >> from % WORD_BITS;
		if (word != 0) {
			from += (uint32_t)__builtin_ctzll(word);
			return from < end ? from : end;
		}
		from += WORD_BITS - from % WORD_BITS;
	}
	return end;
}

static bool space_range(const struct vhdx_space *s, uint64_t offset, uint64_t bytes, uint32_t *from,
                        uint32_t *count)
{
	uint64_t first = offset >> UNIT_SHIFT;
	uint64_t last = (offset + bytes + (1u << UNIT_SHIFT) - 1) >> UNIT_SHIFT;

	if (last < first || last > s->units) {
		return false;
	}
	*from = (uint32_t)first;
	*count = (uint32_t)(last - first);
	return true;
}

/* Units that are not used become used. */
static void space_take_units(struct vhdx_space *s, uint32_t from, uint32_t count)
{
	space_set(s->used, from, count);
	if (from >= s->end) {
		s->holes += from - s->end;
		s->end = from + count;
	} else if (from + count > s->end) {
		s->holes -= s->end - from;
		s->end = from + count;
	} else {
		s->holes -= count;
	}
}

int vhdx_space_use(struct vhdx_space *s, uint64_t offset, uint64_t bytes)
{
	uint32_t from;
	uint32_t count;

	if (!space_range(s, offset, bytes, &from, &count)) {
		return -ENOSPC;
	}
	if (space_find(s->used, from, from + count, true) != from + count) {
		return -EEXIST;
	}
	space_take_units(s, from, count);
	return 0;
}

/* A hole of @count units between @from and @end; returns where, or UINT32_MAX. */
static uint32_t space_hole(const struct vhdx_space *s, uint32_t from, uint32_t end, uint32_t count)
{
	while (from < end) {
		uint32_t start = space_find(s->used, from, end, false);
		uint32_t stop = space_find(s->used, start, end, true);

		if (stop - start >= count) {
			return start;
		}
		from = stop;
	}
	return UINT32_MAX;
}

int vhdx_space_alloc(struct vhdx_space *s, uint64_t bytes, uint64_t *offset)
{
	uint32_t count = (uint32_t)(bytes >> UNIT_SHIFT);
	uint32_t at = UINT32_MAX;

	if (s->holes >= count && (s->no_run == 0 || count < s->no_run)) {
		at = space_hole(s, s->hint, s->end, count);
		if (at == UINT32_MAX) {
			at = space_hole(s, 0, s->end, count);
		}
		if (at == UINT32_MAX) {
			s->no_run = count;
		}
	}
	if (at == UINT32_MAX) {
		if (s->units - s->end < count) {
			return -ENOSPC;
		}
		at = s->end;
	} else {
		s->hint = at + count;
	}
	space_take_units(s, at, count);
	*offset = (uint64_t)at << UNIT_SHIFT;
	return 0;
}

void vhdx_space_free(struct vhdx_space *s, uint64_t offset, uint64_t bytes)
{
	uint32_t from;
	uint32_t count;

	CHECK(space_range(s, offset, bytes, &from, &count));
	space_set(s->freed, from, count);
	s->freed_count += count;
}

void vhdx_space_cancel(struct vhdx_space *s, uint64_t offset, uint64_t bytes)
{
	uint32_t from;
	uint32_t count;

	CHECK(space_range(s, offset, bytes, &from, &count));
	space_clear(s->used, from, count);
	s->holes += count;
	s->no_run = 0;
}

bool vhdx_space_take(struct vhdx_space *s)
{
	if (s->leaving_count != 0 || s->freed_count == 0) {
		return false;
	}

	uint64_t *empty = s->leaving;

	s->leaving = s->freed;
	s->leaving_count = s->freed_count;
	s->leaving_next = 0;
	s->freed = empty;
	s->freed_count = 0;
	return true;
}

bool vhdx_space_pop(struct vhdx_space *s, uint64_t *offset, uint64_t *bytes)
{
	if (s->leaving_count == 0) {
		return false;
	}

	uint32_t from = space_find(s->leaving, s->leaving_next, s->end, true);
	uint32_t to = space_find(s->leaving, from, s->end, false);

	CHECK(from < to && space_get(s->used, from));
	space_clear(s->leaving, from, to - from);
	s->leaving_count -= to - from;
	s->leaving_next = to;
	*offset = (uint64_t)from << UNIT_SHIFT;
	*bytes = (uint64_t)(to - from) << UNIT_SHIFT;
	return true;
}

uint64_t vhdx_space_end_bytes(const struct vhdx_space *s)
{
	uint32_t end = s->end;

	while (end > 0 && !space_get(s->used, end - 1)) {
		end--;
	}
	return (uint64_t)end << UNIT_SHIFT;
}
