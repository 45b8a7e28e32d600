/* SPDX-License-Identifier: Apache-2.0 */
#include "bin/godwitd/cluster_token.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/errbuf.h"
#include "tests/lib/test.h"

#define NOW_S 1700000000

static const char sample[] = "AbCdEfGhIjKlMnOpQrStUvWxYz0123456789+/AbCdE=."
			     "00112233445566778899aabbccddeeff@fd00::1:7444";

static void a_token_is_read_back(void **state)
{
	struct cluster_token t;
	char text[CLUSTER_TOKEN_MAX];

	(void)state;
	assert_int_equal(cluster_token_parse(sample, &t, NULL), 0);
	assert_string_equal(t.pin, "sha256//AbCdEfGhIjKlMnOpQrStUvWxYz0123456789+/AbCdE=");
	assert_string_equal(t.secret, "00112233445566778899aabbccddeeff");
	assert_string_equal(t.addr, "fd00::1");
	assert_int_equal(t.port, 7444);
	assert_string_equal(cluster_token_text(&t, text), sample);
}

static void what_is_cut_or_bent_is_no_token(void **state)
{
	struct cluster_token t;
	char text[sizeof(sample)];
	char again[CLUSTER_TOKEN_MAX];

	(void)state;
	for (size_t len = 0; len < sizeof(sample) - 4; len++) { /* then the port is shorter */
		memcpy(text, sample, sizeof(text));
		text[len] = '\0';
		assert_int_equal(cluster_token_parse(text, &t, NULL), -EINVAL);
	}
	for (size_t bit = 0; bit < (sizeof(sample) - 1) * 8; bit++) {
		memcpy(text, sample, sizeof(text));
		text[bit / 8] = (char)(text[bit / 8] ^ (1 << bit % 8));
		if (cluster_token_parse(text, &t, NULL) == 0) { /* another token, not a bad one */
			assert_string_equal(cluster_token_text(&t, again), text);
		}
	}
}

static int setup(void **state)
{
	char *dir = strdup("/tmp/godwit-token-XXXXXX");

	*state = dir;
	return dir == NULL || mkdtemp(dir) == NULL;
}

static int teardown(void **state)
{
	char path[64];

	(void)snprintf(path, sizeof(path), "%s/tokens.json", (const char *)*state);
	(void)unlink(path);

	int err = rmdir(*state);

	free(*state);
	return err;
}

static int use(const char *dir, const char *node, const char *secret, const char *csr,
               int64_t now_s)
{
	const struct cluster_claim claim = {.node = node, .secret = secret, .csr = csr};

	return cluster_tokens_use(dir, &claim, now_s, NULL);
}

static void a_token_belongs_to_its_name_and_first_key(void **state)
{
	const char *dir = *state;
	char one[CLUSTER_SECRET_HEX];
	char two[CLUSTER_SECRET_HEX];

	assert_false(cluster_tokens_any(dir, NOW_S));
	assert_int_equal(use(dir, "n2", "00112233445566778899aabbccddeeff", "k", NOW_S), -EACCES);
	assert_int_equal(cluster_tokens_add(dir, "n2", NOW_S, one, NULL), 0);
	assert_int_equal(cluster_tokens_add(dir, "n3", NOW_S, two, NULL), 0);
	assert_string_not_equal(one, two);
	assert_int_equal(use(dir, "n3", one, "k", NOW_S), -EACCES);
	assert_int_equal(use(dir, "n2", one, "k", NOW_S), 0);
	assert_int_equal(use(dir, "n2", one, "k", NOW_S), 0); /* its answer was lost */
	assert_int_equal(use(dir, "n2", one, "other", NOW_S), -EACCES);
	assert_int_equal(use(dir, "n2", one, "k", NOW_S + CLUSTER_TOKEN_S), -EACCES);
	assert_true(cluster_tokens_any(dir, NOW_S));
	assert_false(cluster_tokens_any(dir, NOW_S + CLUSTER_TOKEN_S));
	/* A new one for the name makes the old one void. */
	assert_int_equal(cluster_tokens_add(dir, "n3", NOW_S, one, NULL), 0);
	assert_int_equal(use(dir, "n3", two, "k", NOW_S), -EACCES);
	assert_int_equal(use(dir, "n3", one, "k", NOW_S), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_token_is_read_back),
		cmocka_unit_test(what_is_cut_or_bent_is_no_token),
		cmocka_unit_test_setup_teardown(a_token_belongs_to_its_name_and_first_key, setup,
	                                        teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
