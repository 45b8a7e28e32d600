/* SPDX-License-Identifier: Apache-2.0 */
#include "base/tls_seal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/tls_pki.h"
#include "tests/lib/test.h"

static const struct tls_seal seal = {.key = {1, 2, 3}, .label = "a purpose"};
static const char secret[] = "-----BEGIN PRIVATE KEY-----\nsecret\n";

static void what_was_sealed_is_opened(void **state)
{
	char *one = NULL;
	char *two = NULL;
	char *text = NULL;

	(void)state;
	assert_int_equal(tls_seal(&seal, secret, &one, NULL), 0);
	assert_int_equal(tls_seal(&seal, secret, &two, NULL), 0);
	assert_string_not_equal(one, two); /* another nonce */
	assert_null(strstr(one, "secret"));
	assert_int_equal(tls_unseal(&seal, one, &text, NULL), 0);
	assert_string_equal(text, secret);
	tls_pem_free(text);
	free(one);
	free(two);
	assert_int_equal(tls_seal(&seal, "", &one, NULL), 0);
	assert_int_equal(tls_unseal(&seal, one, &text, NULL), 0);
	assert_string_equal(text, "");
	tls_pem_free(text);
	free(one);
}

/* Made once by OpenSSL's own functions: what is in databases must stay readable. */
static void an_old_seal_is_opened(void **state)
{
	static const char old[] = "1.000102030405060708090a0bedaabdfc813499"
				  "e9fe59c59f1aba14c568f911c8c2";
	char *text = NULL;

	(void)state;
	assert_int_equal(tls_unseal(&seal, old, &text, NULL), 0);
	assert_string_equal(text, "hello");
	tls_pem_free(text);
}

static void another_key_or_label_does_not_open_it(void **state)
{
	struct tls_seal other = seal;
	char *sealed = NULL;
	char *text = NULL;

	(void)state;
	assert_int_equal(tls_seal(&seal, secret, &sealed, NULL), 0);
	other.key[31] ^= 1;
	assert_int_equal(tls_unseal(&other, sealed, &text, NULL), -EBADMSG);
	other = seal;
	other.label = "another purpose";
	assert_int_equal(tls_unseal(&other, sealed, &text, NULL), -EBADMSG);
	assert_null(text);
	free(sealed);
}

static void what_was_cut_or_changed_is_refused(void **state)
{
	char *sealed = NULL;
	char *text = NULL;
	char *bent;
	size_t len;

	(void)state;
	assert_int_equal(tls_seal(&seal, secret, &sealed, NULL), 0);
	len = strlen(sealed);
	bent = strdup(sealed);
	assert_non_null(bent);
	for (size_t at = 0; at < len; at++) {
		bent[at] = '\0';
		assert_int_equal(tls_unseal(&seal, bent, &text, NULL), -EBADMSG);
		bent[at] = sealed[at];
	}
	for (size_t bit = 0; bit < len * 8; bit++) {
		bent[bit / 8] = (char)(sealed[bit / 8] ^ (1 << bit % 8));
		assert_int_equal(tls_unseal(&seal, bent, &text, NULL), -EBADMSG);
		bent[bit / 8] = sealed[bit / 8];
	}
	assert_null(text);
	free(bent);
	free(sealed);
}

static void too_much_is_refused(void **state)
{
	char *much = calloc(1, TLS_SEAL_TEXT_MAX + 2);
	char *sealed = NULL;
	char *text = NULL;

	(void)state;
	assert_non_null(much);
	memset(much, 'x', TLS_SEAL_TEXT_MAX + 1);
	assert_int_equal(tls_seal(&seal, much, &sealed, NULL), -E2BIG);
	much[TLS_SEAL_TEXT_MAX] = '\0';
	assert_int_equal(tls_seal(&seal, much, &sealed, NULL), 0);
	assert_int_equal(tls_unseal(&seal, sealed, &text, NULL), 0);
	assert_string_equal(text, much);
	tls_pem_free(text);
	free(sealed);
	free(much);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_sealed_is_opened),
		cmocka_unit_test(an_old_seal_is_opened),
		cmocka_unit_test(another_key_or_label_does_not_open_it),
		cmocka_unit_test(what_was_cut_or_changed_is_refused),
		cmocka_unit_test(too_much_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
