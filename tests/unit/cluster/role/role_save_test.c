/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/role/role_save.h"

#include <errno.h>
#include <string.h>

#include "base/errbuf.h"
#include "base/fault.h"
#include "tests/unit/cluster/role/role_test.h"

#define PAIRS_MAX 8u

static struct {
	uint8_t key[ROLE_KEY_BYTES];
	uint8_t value[ROLE_VALUE_MAX];
	size_t len;
} pairs[PAIRS_MAX];
static uint32_t pair_count;

static void keep(void *arg, const void *key, const void *value, size_t len)
{
	(void)arg;
	assert_true(pair_count < PAIRS_MAX);
	memcpy(pairs[pair_count].key, key, ROLE_KEY_BYTES);
	if (value != NULL) {
		memcpy(pairs[pair_count].value, value, len);
	}
	pairs[pair_count++].len = len;
}

static void flush(void)
{
	pair_count = 0;
	role_table_flush(table, keep, NULL);
}

static void only_what_changed_is_handed_out(void **state)
{
	(void)state;
	flush();
	assert_int_equal(pair_count, 5); /* three nodes, the role, the table */
	flush();
	assert_int_equal(pair_count, 0);
	must(ROLE_CMD_WANT, WEB, 0, ROLE_WANT_ONLINE);
	flush();
	assert_int_equal(pair_count, 1);
	assert_memory_equal(pairs[0].key, "grlr\0\0\0\1", ROLE_KEY_BYTES);
	clock_ms += 1;
	assert_int_equal(give(ROLE_CMD_RENEW, 0, 2, 1, 10000), 0);
	flush();
	assert_int_equal(pair_count, 2);
	assert_memory_equal(pairs[0].key, "grln\0\0\0\2", ROLE_KEY_BYTES);
	assert_memory_equal(pairs[1].key, "grlt\0\0\0\0", ROLE_KEY_BYTES);
	must(ROLE_CMD_WANT, WEB, 0, ROLE_WANT_OFFLINE);
	assert_int_equal(role_table_remove(table, WEB, NULL), 0);
	flush();
	assert_int_equal(pair_count, 1);
	assert_int_equal(pairs[0].len, 0); /* gone */
}

static void the_bytes_are_as_the_format_says(void **state)
{
	(void)state;
	online_on(2);
	flush();
	assert_int_equal(pair_count, 5);
	const uint8_t *v = pairs[3].value;

	assert_int_equal(pairs[3].len, 396);
	assert_int_equal(v[0], 1); /* version */
	assert_int_equal(v[4], ROLE_ONLINE);
	assert_int_equal(v[12], 2);           /* owner */
	assert_int_equal(v[16], 1);           /* its incarnation */
	assert_int_equal(v[40], 1);           /* token */
	assert_int_equal(v[48], ALL_VOLUMES); /* acked */
	assert_string_equal((const char *)v + 80, "web1");
	assert_int_equal(v[144], ROLE_PRIORITY_MEDIUM);
	assert_int_equal(pairs[0].len, 96);
	assert_int_equal(pairs[0].value[4], ROLE_NODE_UP);
	assert_int_equal(pairs[0].value[7], 2); /* its silence is a proof */
}

static void all_of_a_policy_comes_back(void **state)
{
	struct role_table *t;
	struct role_policy p;
	const struct role_policy *q;

	(void)state;
	role_policy_default(&p);
	p.volumes = ALL_VOLUMES;
	p.isolated_ok = false;
	p.strict = p.patient = true;
	p.resiliency_ms = 86400000;
	p.after[0] = 7;
	p.groups[3] = UINT32_MAX;
	p.preferred[7] = ROLE_NODES_MAX;
	assert_int_equal(role_table_set(table, WEB, &p, NULL), 0);
	flush();
	assert_int_equal(role_table_create(&t), 0);
	for (uint32_t i = 0; i < pair_count; i++) {
		assert_int_equal(role_table_load(t, pairs[i].key, ROLE_KEY_BYTES, pairs[i].value,
		                                 pairs[i].len, NULL),
		                 0);
	}
	q = &role_table_role(t, WEB)->policy;
	assert_true(q->strict && q->patient && !q->isolated_ok);
	assert_int_equal(q->resiliency_ms, 86400000);
	assert_int_equal(q->after[0], 7);
	assert_int_equal(q->groups[3], UINT32_MAX);
	assert_int_equal(q->preferred[7], ROLE_NODES_MAX);
	role_table_destroy(t);
}

/* What loads keeps the role's invariants; everything else is refused. */
static void every_length_and_flipped_bit_is_refused_or_legal(void **state)
{
	uint32_t refused = 0;

	(void)state;
	online_on(2);
	flush();
	for (uint32_t p = 0; p < pair_count; p++) {
		for (size_t len = 0; len < pairs[p].len; len++) {
			struct role_table *t;

			assert_int_equal(role_table_create(&t), 0);
			assert_int_equal(role_table_load(t, pairs[p].key, ROLE_KEY_BYTES,
			                                 pairs[p].value, len, NULL),
			                 -EBADMSG);
			role_table_destroy(t);
		}
		for (size_t bit = 0; bit < (ROLE_KEY_BYTES + pairs[p].len) * 8; bit++) {
			uint8_t key[ROLE_KEY_BYTES];
			uint8_t value[ROLE_VALUE_MAX];
			struct role_table *t;
			size_t byte = bit / 8;
			uint8_t *at = byte < sizeof(key) ? &key[byte] : &value[byte - sizeof(key)];

			memcpy(key, pairs[p].key, sizeof(key));
			memcpy(value, pairs[p].value, pairs[p].len);
			*at ^= (uint8_t)(1u << (bit % 8));
			assert_int_equal(role_table_create(&t), 0);
			int err = role_table_load(t, key, sizeof(key), value, pairs[p].len, NULL);

			refused += err < 0;
			for (const struct role *r = role_table_next(t, 0); r != NULL;
			     r = role_table_next(t, r->id)) {
				assert_null(role_check(r));
			}
			role_table_destroy(t);
		}
	}
	assert_true(refused > 700);
}

static void a_pair_is_taken_once_and_memory_may_be_missing(void **state)
{
	struct role_table *t;
	struct errbuf eb = {0};
	uint32_t k = 0;
	int err;

	(void)state;
	flush();
	assert_int_equal(role_table_create(&t), 0);
	for (uint32_t p = 0; p < pair_count; p++) {
		do {
			fault_arm(FAULT_ALLOC, ++k);
			err = role_table_load(t, pairs[p].key, ROLE_KEY_BYTES, pairs[p].value,
			                      pairs[p].len, &eb);
			fault_arm(FAULT_ALLOC, 0);
		} while (err == -ENOMEM);
		assert_int_equal(err, 0);
		assert_int_equal(role_table_load(t, pairs[p].key, ROLE_KEY_BYTES, pairs[p].value,
		                                 pairs[p].len, &eb),
		                 -EEXIST);
		assert_non_null(strstr(eb.text, "there twice"));
	}
	assert_null(role_table_check(t));
	assert_string_equal(role_table_role(t, WEB)->name, "web1");
	role_table_destroy(t);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(only_what_changed_is_handed_out),
		T(the_bytes_are_as_the_format_says),
		T(all_of_a_policy_comes_back),
		T(every_length_and_flipped_bit_is_refused_or_legal),
		T(a_pair_is_taken_once_and_memory_may_be_missing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
