/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "csv/layout/csv_layout.h"
#include "tests/lib/test.h"

#define BLOCK 4096ull

/* 0..4 a hole, 4..8 written, 8..12 unwritten elsewhere, 12..16 a hole. */
static void sample(struct csv_layout_lease *l)
{
	*l = (struct csv_layout_lease){
		.term = 3,
		.ino = 77,
		.number = 1,
		.expires_ns = 100,
		.to_bytes = 16 * BLOCK,
		.extents_count = 2,
		.extents = {{4 * BLOCK, 1000 * BLOCK, 4 * BLOCK, false},
	                    {8 * BLOCK, 2000 * BLOCK, 4 * BLOCK, true}},
	};
}

static void each_byte_is_found(void **state)
{
	struct csv_layout_extent e;
	struct csv_layout_lease l;

	(void)state;
	sample(&l);
	assert_true(csv_layout_lease_valid(&l));
	assert_int_equal(csv_layout_lease_find(&l, 0, &e), 0);
	assert_true(e.device_bytes == UINT64_MAX && e.length_bytes == 4 * BLOCK);
	assert_int_equal(csv_layout_lease_find(&l, 4 * BLOCK + 7, &e), 0);
	assert_true(e.device_bytes == 1000 * BLOCK + 7 && e.length_bytes == 4 * BLOCK - 7);
	assert_false(e.unwritten);
	assert_int_equal(csv_layout_lease_find(&l, 8 * BLOCK, &e), 0);
	assert_true(e.device_bytes == 2000 * BLOCK && e.unwritten);
	assert_int_equal(csv_layout_lease_find(&l, 12 * BLOCK, &e), 0);
	assert_true(e.device_bytes == UINT64_MAX && e.length_bytes == 4 * BLOCK);
	assert_int_equal(csv_layout_lease_find(&l, 16 * BLOCK, &e), -ENXIO);
	l.from_bytes = 4 * BLOCK;
	assert_int_equal(csv_layout_lease_find(&l, 3 * BLOCK, &e), -ENXIO);
}

static void lies_are_not_valid(void **state)
{
	struct csv_layout_lease l;

	(void)state;
	sample(&l);
	l.number = 0;
	assert_false(csv_layout_lease_valid(&l));
	sample(&l);
	l.extents[1].file_bytes -= BLOCK;
	assert_false(csv_layout_lease_valid(&l));
	sample(&l);
	l.extents[1].length_bytes += 5 * BLOCK;
	assert_false(csv_layout_lease_valid(&l));
	sample(&l);
	l.extents[1].length_bytes = UINT64_MAX - BLOCK + 1;
	assert_false(csv_layout_lease_valid(&l));
	sample(&l);
	l.extents[0].device_bytes++;
	assert_false(csv_layout_lease_valid(&l));
	sample(&l);
	l.extents[0].length_bytes = 0;
	assert_false(csv_layout_lease_valid(&l));
	sample(&l);
	l.extents_count = CSV_LAYOUT_EXTENTS_MAX + 1;
	assert_false(csv_layout_lease_valid(&l));
	sample(&l);
	l.to_bytes = l.from_bytes;
	assert_false(csv_layout_lease_valid(&l));
}

static void nothing_is_used_at_its_end_or_beyond_its_right(void **state)
{
	struct csv_layout_lease l;

	(void)state;
	sample(&l);
	assert_true(csv_layout_lease_usable(&l, false, 99));
	assert_false(csv_layout_lease_usable(&l, false, 100));
	assert_false(csv_layout_lease_usable(&l, true, 99));
	l.write = true;
	assert_true(csv_layout_lease_usable(&l, true, 99));
	l.number = 0;
	assert_false(csv_layout_lease_usable(&l, false, 99));
}

static void what_is_converted_splits_and_joins(void **state)
{
	struct csv_layout_lease l;

	(void)state;
	sample(&l);
	l.extents[1].device_bytes = 1004 * BLOCK; /* one piece with the first */
	assert_int_equal(csv_layout_lease_written(&l, 9 * BLOCK, 10 * BLOCK), 0);
	assert_int_equal(l.extents_count, 4);
	assert_true(csv_layout_lease_valid(&l));
	assert_int_equal(csv_layout_lease_written(&l, 8 * BLOCK, 12 * BLOCK), 0);
	assert_int_equal(l.extents_count, 1);
	assert_true(l.extents[0].length_bytes == 8 * BLOCK && !l.extents[0].unwritten);

	/* Every second block: at some point there is no room. */
	int err = 0;
	uint64_t at;

	l.to_bytes = 1024 * BLOCK;
	l.extents_count = 1;
	l.extents[0] = (struct csv_layout_extent){0, 0, 1024 * BLOCK, true};
	for (at = 1; err == 0; at += 2) {
		err = csv_layout_lease_written(&l, at * BLOCK, (at + 1) * BLOCK);
	}
	assert_int_equal(err, -ENOSPC);
	assert_int_equal(l.extents_count, CSV_LAYOUT_EXTENTS_MAX - 1);
	assert_true(csv_layout_lease_valid(&l));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_byte_is_found),
		cmocka_unit_test(lies_are_not_valid),
		cmocka_unit_test(nothing_is_used_at_its_end_or_beyond_its_right),
		cmocka_unit_test(what_is_converted_splits_and_joins),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
