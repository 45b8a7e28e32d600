/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_BITMAP_H
#define BASE_BITMAP_H

/*
 * bitmap - bits in an array of 64-bit words: bit n is bit n % 64 of word n / 64, as in KVM's dirty
 * logs. The array is the caller's, BITMAP_WORDS(bits) long; bits past the end in the last word are
 * ignored by the searches and counts, and never set here. Bit numbers out of range are the
 * caller's error and not checked.
 *
 * Two kinds of access. The plain functions: one thread, or the owner's lock. Those with _atomic:
 * any number of threads, for dirty bitmaps that devices set while a migration collects; setting
 * releases what was written before, taking acquires it.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BITMAP_WORDS(bits) (((bits) + 63) / 64)

static inline bool bitmap_test(const uint64_t *map, size_t bit)
{
	return (map[bit / 64] >> (bit % 64) & 1u) != 0;
}

static inline void bitmap_set(uint64_t *map, size_t bit)
{
	map[bit / 64] |= 1ull << (bit % 64);
}

static inline void bitmap_clear(uint64_t *map, size_t bit)
{
	map[bit / 64] &= ~(1ull << (bit % 64));
}

/* bitmap_set_range(), bitmap_clear_range() - @count bits from @first. */
void bitmap_set_range(uint64_t *map, size_t first, size_t count);
void bitmap_clear_range(uint64_t *map, size_t first, size_t count);

/* bitmap_find_set() - the first set bit at or after @from; @bits if there is none. */
size_t bitmap_find_set(const uint64_t *map, size_t bits, size_t from);

/* bitmap_find_clear() - the first clear bit at or after @from; @bits if there is none. */
size_t bitmap_find_clear(const uint64_t *map, size_t bits, size_t from);

/*
 * bitmap_next_range() - the next run of set bits at or after @from.
 * Returns its length, 0 if there is none; *first is its start.
 */
size_t bitmap_next_range(const uint64_t *map, size_t bits, size_t from, size_t *first);

/*
 * bitmap_find_clear_range() - the first run of at least @count clear bits at or after @from.
 * Returns its start; @bits if there is none.
 */
size_t bitmap_find_clear_range(const uint64_t *map, size_t bits, size_t from, size_t count);

/* bitmap_count() - how many of the first @bits are set. */
size_t bitmap_count(const uint64_t *map, size_t bits);

/* bitmap_set_atomic() - returns whether the bit was set already. */
static inline bool bitmap_set_atomic(uint64_t *map, size_t bit)
{
	uint64_t mask = 1ull << (bit % 64);

	/* No look at the bit first: without a fence as dear as this it could be stale, and the
	 * caller's write would be missed by the one who cleared it. */
	return (__atomic_fetch_or(&map[bit / 64], mask, __ATOMIC_ACQ_REL) & mask) != 0;
}

/* bitmap_clear_atomic() - returns whether the bit was set. */
static inline bool bitmap_clear_atomic(uint64_t *map, size_t bit)
{
	uint64_t mask = 1ull << (bit % 64);

	return (__atomic_fetch_and(&map[bit / 64], ~mask, __ATOMIC_ACQ_REL) & mask) != 0;
}

/* bitmap_take_atomic() - read word @word and clear it, in one step. */
static inline uint64_t bitmap_take_atomic(uint64_t *map, size_t word)
{
	return __atomic_load_n(&map[word], __ATOMIC_RELAXED) == 0
	               ? 0
	               : __atomic_exchange_n(&map[word], 0, __ATOMIC_ACQ_REL);
}

/* bitmap_set_range_atomic() - @count bits from @first, a word at a time. */
void bitmap_set_range_atomic(uint64_t *map, size_t first, size_t count);

/*
 * bitmap_move_atomic() - take all of @from, leave it empty, and add it to @to (plain, the
 * caller's). Returns how many bits were taken.
 */
size_t bitmap_move_atomic(uint64_t *to, uint64_t *from, size_t bits);

#endif
