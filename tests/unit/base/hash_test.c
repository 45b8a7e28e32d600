/* SPDX-License-Identifier: Apache-2.0 */
#include "base/hash.h"

#include <errno.h>
#include <string.h>

#include "base/fault.h"
#include "tests/lib/test.h"

/* FIPS 180-4 examples. */
static const char hash_abc[] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
static const char hash_empty[] = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

static void sha256_matches_the_published_examples(void **state)
{
	uint8_t out[HASH_SHA256_BYTES];
	char hex[HASH_SHA256_HEX];

	(void)state;
	assert_int_equal(hash_sha256_of("abc", 3, out), 0);
	hash_hex(out, sizeof(out), hex);
	assert_string_equal(hex, hash_abc);
	assert_int_equal(hash_sha256_of("", 0, out), 0);
	hash_hex(out, sizeof(out), hex);
	assert_string_equal(hex, hash_empty);
}

static void feeding_in_pieces_gives_the_same_and_may_go_on_after_a_look(void **state)
{
	struct hash_sha256 *hash = NULL;
	uint8_t out[HASH_SHA256_BYTES];
	char hex[HASH_SHA256_HEX];

	(void)state;
	assert_int_equal(hash_sha256_create(&hash), 0);
	assert_int_equal(hash_sha256_get(hash, out), 0);
	hash_hex(out, sizeof(out), hex);
	assert_string_equal(hex, hash_empty);
	assert_int_equal(hash_sha256_add(hash, "a", 1), 0);
	assert_int_equal(hash_sha256_add(hash, "bc", 2), 0);
	assert_int_equal(hash_sha256_get(hash, out), 0);
	hash_hex(out, sizeof(out), hex);
	assert_string_equal(hex, hash_abc);
	hash_sha256_destroy(hash);
	hash_sha256_destroy(NULL);
}

static void hmac_matches_rfc_4231_case_2(void **state)
{
	const char *text = "what do ya want for nothing?";
	uint8_t out[HASH_SHA256_BYTES];
	char hex[HASH_SHA256_HEX];

	(void)state;
	assert_int_equal(hash_hmac_sha256("Jefe", 4, text, strlen(text), out), 0);
	hash_hex(out, sizeof(out), hex);
	assert_string_equal(hex,
	                    "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
}

static void equal_looks_at_every_byte(void **state)
{
	uint8_t a[32] = {0};
	uint8_t b[32] = {0};

	(void)state;
	assert_true(hash_equal(a, b, sizeof(a)));
	for (size_t i = 0; i < sizeof(a); i++) {
		b[i] = 1;
		assert_false(hash_equal(a, b, sizeof(a)));
		b[i] = 0;
	}
	assert_true(hash_equal(a, b, 0));
}

static void random_bytes_differ_and_a_wiped_secret_is_gone(void **state)
{
	uint8_t a[300] = {0};
	uint8_t b[300] = {0};
	const uint8_t zero[300] = {0};

	(void)state;
	assert_int_equal(hash_random(a, sizeof(a)), 0);
	assert_int_equal(hash_random(b, sizeof(b)), 0);
	assert_memory_not_equal(a, b, sizeof(a));
	hash_wipe(a, sizeof(a));
	assert_memory_equal(a, zero, sizeof(a));
}

static void creation_survives_every_allocation_failure(void **state)
{
	struct hash_sha256 *hash = NULL;
	uint32_t k = 1;

	(void)state;
	for (fault_arm(FAULT_ALLOC, k); hash_sha256_create(&hash) == -ENOMEM; k++) {
		assert_null(hash);
		fault_arm(FAULT_ALLOC, k + 1);
	}
	fault_arm(FAULT_ALLOC, 0);
	assert_true(k > 1);
	assert_non_null(hash);
	hash_sha256_destroy(hash);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sha256_matches_the_published_examples),
		cmocka_unit_test(feeding_in_pieces_gives_the_same_and_may_go_on_after_a_look),
		cmocka_unit_test(hmac_matches_rfc_4231_case_2),
		cmocka_unit_test(equal_looks_at_every_byte),
		cmocka_unit_test(random_bytes_differ_and_a_wiped_secret_is_gone),
		cmocka_unit_test(creation_survives_every_allocation_failure),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
