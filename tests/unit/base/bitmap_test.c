/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bitmap.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/test.h"

#define BITS 200 /* not a multiple of 64 */
#define WORDS BITMAP_WORDS(BITS)

static uint32_t random_below(uint32_t *seed, uint32_t limit)
{
	*seed = *seed * 1664525u + 1013904223u;
	return (*seed >> 8) % limit;
}

/* The same operations on an array of bool, compared after each step. */
static void compare(const uint64_t *map, const bool *model)
{
	size_t count = 0;

	for (size_t i = 0; i < BITS; i++) {
		assert_int_equal(bitmap_test(map, i), model[i]);
		count += model[i];
	}
	assert_int_equal(bitmap_count(map, BITS), count);
	for (size_t from = 0; from <= BITS; from++) {
		size_t set = from;
		size_t clear = from;
		size_t first;

		while (set < BITS && !model[set]) {
			set++;
		}
		while (clear < BITS && model[clear]) {
			clear++;
		}
		assert_int_equal(bitmap_find_set(map, BITS, from), set);
		assert_int_equal(bitmap_find_clear(map, BITS, from), clear);

		size_t end = set;

		while (end < BITS && model[end]) {
			end++;
		}
		assert_int_equal(bitmap_next_range(map, BITS, from, &first), end - set);
		assert_int_equal(first, set);
	}
}

static size_t model_clear_range(const bool *model, size_t from, size_t count)
{
	for (size_t at = from; at + count <= BITS; at++) {
		size_t n = 0;

		while (n < count && !model[at + n]) {
			n++;
		}
		if (n == count) {
			return at;
		}
	}
	return BITS;
}

static void random_operations_agree_with_a_plain_model(void **state)
{
	uint64_t map[WORDS] = {0};
	bool model[BITS] = {false};
	uint32_t seed = 3;

	(void)state;
	compare(map, model);
	for (int round = 0; round < 500; round++) {
		size_t first = random_below(&seed, BITS);
		size_t count = random_below(&seed, (uint32_t)(BITS - first) + 1);
		bool value = random_below(&seed, 2) != 0;

		switch (random_below(&seed, 4)) {
		case 0:
			assert_int_equal(value ? bitmap_set_atomic(map, first)
			                       : bitmap_clear_atomic(map, first),
			                 model[first]);
			model[first] = value;
			break;
		case 1:
			(value ? bitmap_set : bitmap_clear)(map, first);
			model[first] = value;
			break;
		case 2:
			bitmap_set_range_atomic(map, first, count);
			memset(model + first, 1, count);
			break;
		default:
			(value ? bitmap_set_range : bitmap_clear_range)(map, first, count);
			memset(model + first, value, count);
		}
		compare(map, model);
		assert_int_equal(bitmap_find_clear_range(map, BITS, first, 1 + count % 20),
		                 model_clear_range(model, first, 1 + count % 20));
	}
}

static void every_range_is_exact(void **state)
{
	(void)state;
	for (size_t first = 0; first <= BITS; first++) {
		for (size_t count = 0; first + count <= BITS; count += 1 + count / 7) {
			uint64_t set[WORDS + 1] = {0};
			uint64_t cleared[WORDS + 1];
			uint64_t atomic[WORDS + 1] = {0};

			memset(cleared, 0xff, sizeof(cleared));
			bitmap_set_range(set, first, count);
			bitmap_clear_range(cleared, first, count);
			bitmap_set_range_atomic(atomic, first, count);
			for (size_t bit = 0; bit < (WORDS + 1) * 64; bit++) {
				bool in = bit >= first && bit < first + count;

				assert_int_equal(bitmap_test(set, bit), in);
				assert_int_equal(bitmap_test(cleared, bit), !in);
				assert_int_equal(bitmap_test(atomic, bit), in);
			}
		}
	}
}

static void bits_past_the_end_do_not_count(void **state)
{
	uint64_t map[2] = {0, UINT64_MAX << 10};
	uint64_t to[2] = {0};
	size_t first;

	(void)state;
	assert_int_equal(bitmap_find_set(map, 74, 0), 74);
	assert_int_equal(bitmap_next_range(map, 74, 0, &first), 0);
	assert_int_equal(bitmap_count(map, 74), 0);
	assert_int_equal(bitmap_count(map, 75), 1);
	assert_int_equal(bitmap_move_atomic(to, map, 74), 0);
	assert_int_equal(to[1], 0);
	assert_int_equal(bitmap_count(map, 0), 0);
	assert_int_equal(bitmap_find_set(map, 0, 0), 0);
}

/* A page per bit: setters write the page, then the bit; the collector takes bits, reads pages. */
#define PAGES 256
#define SETTERS 3
#define ROUNDS 3000

struct board {
	uint64_t dirty[BITMAP_WORDS(PAGES)];
	_Atomic uint32_t page[PAGES];
	_Atomic uint32_t running;
};

static void *setter(void *arg)
{
	struct board *b = arg;
	uint32_t seed = (uint32_t)(uintptr_t)&seed;

	for (int i = 0; i < ROUNDS; i++) {
		size_t n = random_below(&seed, PAGES);

		atomic_fetch_add_explicit(&b->page[n], 1, memory_order_relaxed);
		(void)bitmap_set_atomic(b->dirty, n);
	}
	b->running--;
	return NULL;
}

static void no_write_is_lost_between_setters_and_the_collector(void **state)
{
	static struct board b;
	uint32_t copy[PAGES] = {0};
	uint64_t taken[BITMAP_WORDS(PAGES)];
	pthread_t threads[SETTERS];
	uint64_t total = 0;
	bool last;

	(void)state;
	b.running = SETTERS;
	for (int i = 0; i < SETTERS; i++) {
		assert_int_equal(pthread_create(&threads[i], NULL, setter, &b), 0);
	}
	do {
		last = b.running == 0;
		memset(taken, 0, sizeof(taken));
		(void)bitmap_move_atomic(taken, b.dirty, PAGES);
		for (size_t n = bitmap_find_set(taken, PAGES, 0); n < PAGES;
		     n = bitmap_find_set(taken, PAGES, n + 1)) {
			copy[n] = atomic_load_explicit(&b.page[n], memory_order_relaxed);
		}
	} while (!last);
	for (int i = 0; i < SETTERS; i++) {
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	}
	for (size_t n = 0; n < PAGES; n++) {
		assert_int_equal(copy[n], b.page[n]);
		total += copy[n];
	}
	assert_int_equal(total, SETTERS * ROUNDS);
	assert_int_equal(bitmap_count(b.dirty, PAGES), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_operations_agree_with_a_plain_model),
		cmocka_unit_test(every_range_is_exact),
		cmocka_unit_test(bits_past_the_end_do_not_count),
		cmocka_unit_test(no_write_is_lost_between_setters_and_the_collector),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
