/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/errbuf.h"
#include "csv/format/csv_format.h"
#include "tests/lib/hexfile.h"
#include "tests/lib/test.h"
#include "tests/unit/csv/format/sample.h"

static uint8_t block[CSV_BLOCK_BYTES];
static uint8_t other[CSV_BLOCK_BYTES];

static void every_type_of_block_is_as_it_always_was(void **state)
{
	struct csv_block_id id;
	const char *name;

	(void)state;
	for (uint32_t i = 0; (name = csv_sample(i, block, &id)) != NULL; i++) {
		char path[256];
		size_t len;

		(void)snprintf(path, sizeof(path), "%s/%s.hex", VECTORS, name);

		uint8_t *want = hexfile_load(path, &len);

		assert_int_equal(len, CSV_BLOCK_BYTES);
		assert_memory_equal(block, want, len);
		assert_int_equal(csv_sample_decode(want, &id, NULL), 0);
		if (csv_sample_again(want, &id, other)) {
			assert_memory_equal(other, want, len);
		}
		free(want);
	}
}

static void every_flipped_bit_is_noticed(void **state)
{
	struct csv_block_id id;

	(void)state;
	for (uint32_t i = 0; csv_sample(i, block, &id) != NULL; i++) {
		/* All of what means something, and a part of the padding. */
		for (uint32_t bit = 0; bit < CSV_BLOCK_BYTES * 8; bit += bit < 400 * 8 ? 1 : 61) {
			struct errbuf eb = {0};

			block[bit / 8] ^= (uint8_t)(1u << bit % 8);
			int err = csv_sample_decode(block, &id, &eb);

			assert_true(err == -EUCLEAN);
			assert_non_null(strstr(eb.text, "block "));
			block[bit / 8] ^= (uint8_t)(1u << bit % 8);
		}
	}
}

static void a_block_that_ends_early_is_noticed(void **state)
{
	struct csv_block_id id;

	(void)state;
	for (uint32_t i = 0; csv_sample(i, block, &id) != NULL; i++) {
		for (uint32_t len = 0; len < CSV_BLOCK_BYTES; len += len < 400 ? 1 : 67) {
			memcpy(other, block, len);
			memset(other + len, 0, CSV_BLOCK_BYTES - len);
			if (memcmp(other, block, CSV_BLOCK_BYTES) == 0) {
				break; /* the rest is 0 anyway */
			}

			int err = csv_sample_decode(other, &id, NULL);

			assert_true(err == -EUCLEAN || (len == 0 && err == -ENOENT));
		}
	}
}

/* Somebody who can make a checksum: what is accepted is what its encoder would write. */
static void lies_with_a_good_checksum_do_not_pass_as_something_else(void **state)
{
	struct csv_block_id id;

	(void)state;
	for (uint32_t i = 0; csv_sample(i, block, &id) != NULL; i++) {
		const struct csv_block_wire *w = (const void *)other;

		for (uint32_t at = 64; at < CSV_BLOCK_BYTES; at += at < 480 ? 1 : 37) {
			const uint8_t values[] = {0, 1, 0x7f, 0x80, 0xff};

			for (uint32_t v = 0; v < ARRAY_LEN(values); v++) {
				memcpy(other, block, CSV_BLOCK_BYTES);
				other[at] = values[v];

				struct csv_block_id seal = id;

				seal.owner = le64_get(w->owner);
				csv_block_seal(other, &seal, le64_get(w->term), le64_get(w->seq));

				uint8_t again[CSV_BLOCK_BYTES];

				if (csv_sample_again(other, &id, again)) {
					assert_memory_equal(again, other, CSV_BLOCK_BYTES);
				}
			}
		}
	}
}

static void a_block_in_the_wrong_place_is_named(void **state)
{
	const struct guid stranger = {{1}};
	struct errbuf eb = {0};
	struct csv_block_id id;
	struct csv_layout l;

	(void)state;
	csv_sample_layout(&l);
	(void)csv_sample(10, block, &id);

	struct csv_block_id wrong = id;

	wrong.block++;
	assert_int_equal(csv_block_open(block, &wrong, NULL, &eb), -EUCLEAN);
	assert_non_null(strstr(eb.text, "belongs to block"));
	wrong = id;
	wrong.owner++;
	assert_int_equal(csv_meta_verify(block, &l, &wrong, &eb), -EUCLEAN);
	assert_non_null(strstr(eb.text, "is of owner"));
	wrong = id;
	wrong.type = CSV_NODE;
	assert_int_equal(csv_meta_verify(block, &l, &wrong, &eb), -EUCLEAN);
	assert_non_null(strstr(eb.text, "of type \"inode\""));
	wrong = id;
	wrong.volume = &stranger;
	assert_int_equal(csv_meta_verify(block, &l, &wrong, &eb), -EUCLEAN);
	assert_non_null(strstr(eb.text, "another volume"));
	wrong = id;
	wrong.block = 3;
	assert_int_equal(csv_meta_verify(block, &l, &wrong, &eb), -EUCLEAN);
	assert_non_null(strstr(eb.text, "block 3: no metadata lies here"));
}

static void unknown_features_are_refused_by_name(void **state)
{
	struct errbuf eb = {0};
	struct csv_block_id id;
	struct csv_super super;
	struct csv_super out;

	(void)state;
	(void)csv_sample(0, block, &id);
	assert_int_equal(csv_super_decode(block, id.block, false, &super, NULL), 0);
	super.incompat = 0x40;
	csv_super_encode(&super, block);
	assert_int_equal(csv_super_decode(block, id.block, true, &out, &eb), -EPROTONOSUPPORT);
	assert_non_null(strstr(eb.text, "incompatible feature 0x40"));
	super.incompat = 0;
	super.ro_compat = 0x8;
	csv_super_encode(&super, block);
	assert_int_equal(csv_super_decode(block, id.block, false, &out, &eb), -EROFS);
	assert_non_null(strstr(eb.text, "0x8"));
	assert_int_equal(csv_super_decode(block, id.block, true, &out, NULL), 0);
	super.ro_compat = 0;
	super.compat = 0x1000;
	csv_super_encode(&super, block);
	assert_int_equal(csv_super_decode(block, id.block, false, &out, NULL), 0);

	/* A version is no damage either. */
	struct csv_block_wire *w = (void *)block;

	(void)csv_sample(0, block, &id);
	w->version = le16_make(2);
	assert_int_equal(csv_super_decode(block, id.block, false, &out, &eb), -EUCLEAN);
}

static void sizes_from_64_mib_to_256_tib_have_a_layout(void **state)
{
	(void)state;
	for (uint32_t shift = 26; shift <= 48; shift++) {
		for (uint64_t more = 0; more < 3; more++) {
			const struct csv_layout_cfg cfg = {
				.size_bytes = (1ull << shift) + (shift == 48 ? 0 : more * 12345678),
			};
			struct csv_layout l;
			struct errbuf eb = {0};

			assert_int_equal(csv_layout_make(&cfg, &l, &eb), 0);
			assert_int_equal(csv_layout_check(&l, NULL), 0);
			/* At least nine tenths are for files, of a volume that is not tiny. */
			if (shift > 33) {
				assert_true(csv_layout_data_unit(&l) < csv_layout_units(&l) / 10);
			}
			assert_true(csv_layout_fixed(&l, 0));
			assert_true(csv_layout_fixed(&l, csv_layout_units(&l) - 1));
			assert_false(csv_layout_fixed(&l, csv_layout_units(&l) - 2));
		}
	}

	const struct csv_layout_cfg bad[] = {
		{.size_bytes = CSV_SIZE_MIN_BYTES - 1},
		{.size_bytes = CSV_SIZE_MAX_BYTES + CSV_UNIT_BYTES},
		{.size_bytes = CSV_SIZE_MIN_BYTES, .area_bytes = 4096},
		{.size_bytes = CSV_SIZE_MIN_BYTES, .area_bytes = 40u << 20},
		{.size_bytes = CSV_SIZE_MIN_BYTES, .pool_bytes = 60u << 20},
		{.size_bytes = UINT64_MAX},
	};

	for (uint32_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct errbuf eb = {0};
		struct csv_layout l;

		assert_int_equal(csv_layout_make(&bad[i], &l, &eb), -EINVAL);
		assert_true(eb.text[0] != '\0');
	}
}

static void names_are_checked_and_hashed(void **state)
{
	uint8_t key[16];
	uint8_t text[15];

	(void)state;
	/* The vector of the paper, appendix A. */
	for (uint8_t i = 0; i < 16; i++) {
		key[i] = i;
	}
	for (uint8_t i = 0; i < 15; i++) {
		text[i] = i;
	}
	assert_true(csv_siphash(key, text, 15) == 0xa129ca6149be45e5u);
	assert_int_equal(csv_name_key(key, "disk.vhdx", 9) & 0xff, 0);
	assert_true(csv_name_key(key, "a", 1) != csv_name_key(key, "b", 1));

	assert_int_equal(csv_name_check("disk.vhdx", 9), 0);
	assert_int_equal(csv_name_check("...", 3), 0);
	assert_int_equal(csv_name_check("", 0), -EINVAL);
	assert_int_equal(csv_name_check(".", 1), -EINVAL);
	assert_int_equal(csv_name_check("..", 2), -EINVAL);
	assert_int_equal(csv_name_check("a/b", 3), -EINVAL);
	assert_int_equal(csv_name_check("a\0b", 3), -EINVAL);

	char longest[256];

	memset(longest, 'x', sizeof(longest));
	assert_int_equal(csv_name_check(longest, 255), 0);
	assert_int_equal(csv_name_check(longest, 256), -ENAMETOOLONG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_type_of_block_is_as_it_always_was),
		cmocka_unit_test(every_flipped_bit_is_noticed),
		cmocka_unit_test(a_block_that_ends_early_is_noticed),
		cmocka_unit_test(lies_with_a_good_checksum_do_not_pass_as_something_else),
		cmocka_unit_test(a_block_in_the_wrong_place_is_named),
		cmocka_unit_test(unknown_features_are_refused_by_name),
		cmocka_unit_test(sizes_from_64_mib_to_256_tib_have_a_layout),
		cmocka_unit_test(names_are_checked_and_hashed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
