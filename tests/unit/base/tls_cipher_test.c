/* SPDX-License-Identifier: Apache-2.0 */
#include "base/tls_cipher.h"

#include <stddef.h>
#include <string.h>

#include "base/attr.h"
#include "tests/lib/test.h"

static void the_faster_one_is_offered_first(void **state)
{
	static const struct {
		struct tls_cipher_cost cost;
		bool chacha;
	} cases[] = {
		{{.aes_ns = 4000, .chacha_ns = 9000}, false},     /* with instructions for AES */
		{{.aes_ns = 150000, .chacha_ns = 50000}, true},   /* without */
		{{.aes_ns = 1490000, .chacha_ns = 160000}, true}, /* emulated ones */
		{{.aes_ns = 10000, .chacha_ns = 9000}, false},    /* may be an accident */
		{{.aes_ns = 0, .chacha_ns = 9000}, false},
		{{.aes_ns = 9000, .chacha_ns = 0}, false}, /* there is none */
		{{.aes_ns = UINT64_MAX, .chacha_ns = UINT64_MAX}, false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		assert_int_equal(tls_cipher_chacha_first(&cases[i].cost), cases[i].chacha);
	}
	assert_true(strncmp(tls_cipher_list(false), "TLS_AES_128_GCM_SHA256:", 23) == 0);
	assert_true(strncmp(tls_cipher_list(true), "TLS_CHACHA20_POLY1305_SHA256:", 29) == 0);
}

static void both_are_tried(void **state)
{
	struct tls_cipher_cost cost = {0};
	bool best = tls_cipher_chacha_best();

	(void)state;
	tls_cipher_measure(&cost);
	assert_int_not_equal(cost.aes_ns, 0);
	assert_int_not_equal(cost.chacha_ns, 0);
	assert_int_equal(tls_cipher_chacha_best(), best); /* a process does not change its mind */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_faster_one_is_offered_first),
		cmocka_unit_test(both_are_tried),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
