/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bitmap.h"

#define WORD_BITS ((size_t)64)

/* The bits of word @word that lie in [first, end), which is not empty there. */
static uint64_t bitmap_mask(size_t word, size_t first, size_t end)
{
	uint64_t mask = UINT64_MAX;

	if (first > word * WORD_BITS) {
		mask &= UINT64_MAX << (first % WORD_BITS);
	}
	if (end < (word + 1) * WORD_BITS) {
		mask &= UINT64_MAX >> (WORD_BITS - end % WORD_BITS);
	}
	return mask;
}

void bitmap_set_range(uint64_t *map, size_t first, size_t count)
{
	size_t end = first + count;

	for (size_t w = first / WORD_BITS; w < BITMAP_WORDS(end) && count != 0; w++) {
		map[w] |= bitmap_mask(w, first, end);
	}
}

void bitmap_clear_range(uint64_t *map, size_t first, size_t count)
{
	size_t end = first + count;

	for (size_t w = first / WORD_BITS; w < BITMAP_WORDS(end) && count != 0; w++) {
		map[w] &= ~bitmap_mask(w, first, end);
	}
}

/* NOLINTNEXTLINE(readability-non-const-parameter): it does not see that the builtin writes */
void bitmap_set_range_atomic(uint64_t *map, size_t first, size_t count)
{
	size_t end = first + count;

	for (size_t w = first / WORD_BITS; w < BITMAP_WORDS(end) && count != 0; w++) {
		(void)__atomic_fetch_or(&map[w], bitmap_mask(w, first, end), __ATOMIC_ACQ_REL);
	}
}

/* The first bit at or after @from that differs from those of @invert (all 0 or all 1). */
static size_t bitmap_find(const uint64_t *map, size_t bits, size_t from, uint64_t invert)
{
	if (from >= bits) {
		return bits;
	}

	size_t w = from / WORD_BITS;
	uint64_t word = (map[w] ^ invert) & UINT64_MAX << (from % WORD_BITS);

	while (word == 0) {
		if (++w >= BITMAP_WORDS(bits)) {
			return bits;
		}
		word = map[w] ^ invert;
	}

	size_t bit = w * WORD_BITS + (size_t)__builtin_ctzll(word);

	return bit < bits ? bit : bits;
}

size_t bitmap_find_set(const uint64_t *map, size_t bits, size_t from)
{
	return bitmap_find(map, bits, from, 0);
}

size_t bitmap_find_clear(const uint64_t *map, size_t bits, size_t from)
{
	return bitmap_find(map, bits, from, UINT64_MAX);
}

size_t bitmap_next_range(const uint64_t *map, size_t bits, size_t from, size_t *first)
{
	*first = bitmap_find_set(map, bits, from);
	return bitmap_find_clear(map, bits, *first) - *first;
}

size_t bitmap_find_clear_range(const uint64_t *map, size_t bits, size_t from, size_t count)
{
	size_t first = bitmap_find_clear(map, bits, from);

	while (first < bits) {
		size_t end = bitmap_find_set(map, bits, first);

		if (end - first >= count) {
			return first;
		}
		first = bitmap_find_clear(map, bits, end);
	}
	return bits;
}

size_t bitmap_count(const uint64_t *map, size_t bits)
{
	size_t count = 0;

	for (size_t w = 0; w < BITMAP_WORDS(bits); w++) {
		count += (size_t)__builtin_popcountll(map[w] & bitmap_mask(w, 0, bits));
	}
	return count;
}

size_t bitmap_move_atomic(uint64_t *to, uint64_t *from, size_t bits)
{
	size_t count = 0;

	for (size_t w = 0; w < BITMAP_WORDS(bits); w++) {
		uint64_t word = bitmap_take_atomic(from, w) & bitmap_mask(w, 0, bits);

		to[w] |= word;
		count += (size_t)__builtin_popcountll(word);
	}
	return count;
}
