/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/member/vm_doc.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/errbuf.h"
#include "tests/lib/test.h"

#define DEFINITION "\"definition\":{\"memory_bytes\":67108864,\"cpus\":2,\"name\":\"web1\"}"

static int policy_of(const char *text, struct role_policy *out, struct errbuf *eb)
{
	json_t *doc = NULL;
	int err;

	assert_int_equal(json_parse(text, strlen(text), NULL, &doc, NULL), 0);
	err = vm_doc_policy(doc, out, eb);
	json_decref(doc);
	return err;
}

static void only_documents_with_ha_are_roles(void **state)
{
	json_t *doc = json_pack("{s:{}}", "ha");

	(void)state;
	assert_true(vm_doc_is_role(doc));
	(void)json_object_set_new(doc, "ha", json_true());
	assert_false(vm_doc_is_role(doc));
	(void)json_object_del(doc, "ha");
	assert_false(vm_doc_is_role(doc));
	assert_false(vm_doc_is_role(NULL));
	json_decref(doc);
}

static void a_document_becomes_a_policy(void **state)
{
	struct role_policy p;
	struct role_policy other;

	(void)state;
	assert_int_equal(policy_of("{" DEFINITION
	                           ",\"ha\":{\"priority\":\"high\",\"possible\":[1,64],"
	                           "\"preferred\":[64,1],\"groups\":[\"web\",\"db\"],"
	                           "\"volumes\":[2,64]}}",
	                           &p, NULL),
	                 0);
	assert_int_equal(p.priority, ROLE_PRIORITY_HIGH);
	assert_int_equal(p.possible, 1ull | 1ull << 63);
	assert_int_equal(p.preferred[0], 64);
	assert_int_equal(p.preferred[1], 1);
	assert_int_equal(p.preferred[2], 0);
	assert_int_equal(p.memory_bytes, 64 << 20);
	assert_int_equal(p.cpus, 2);
	assert_true(p.volumes == (role_bit(2) | role_bit(64)));
	assert_true(p.groups[0] != 0 && p.groups[1] != 0 && p.groups[0] != p.groups[1]);
	/* The same group has the same number in every VM. */
	assert_int_equal(policy_of("{" DEFINITION ",\"ha\":{\"groups\":[\"db\"]}}", &other, NULL),
	                 0);
	assert_int_equal(other.groups[0], p.groups[1]);
	assert_int_equal(other.priority, ROLE_PRIORITY_MEDIUM);
	assert_int_equal(other.possible, 0);
	assert_int_equal(other.fallback, ROLE_FALLBACK_LEAVE);
	assert_int_equal(policy_of("{" DEFINITION
	                           ",\"ha\":{\"fallback\":\"shutdown\",\"blackout_max_ns\":1}}",
	                           &other, NULL),
	                 0);
	assert_int_equal(other.fallback, ROLE_FALLBACK_SHUTDOWN);
}

static void wishes_for_starts_and_failovers_are_read(void **state)
{
	static const char text[] = "{" DEFINITION ",\"ha\":{\"after\":[\"db1\",\"dns\"],"
				   "\"wait_ms\":240000}}";
	struct role_policy p;
	json_t *doc = NULL;

	(void)state;
	assert_int_equal(json_parse(text, strlen(text), NULL, &doc, NULL), 0);
	assert_int_equal(vm_doc_policy(doc, &p, NULL), 0);
	assert_true(p.patient);
	assert_int_equal(p.resiliency_ms, 240000);
	assert_int_equal(p.after[0], 0);
	assert_string_equal(vm_doc_after(doc, 1), "dns");
	assert_null(vm_doc_after(doc, 2));
	assert_null(vm_doc_after(doc, ROLE_AFTER_MAX));
	json_decref(doc);
	assert_int_equal(
		policy_of("{" DEFINITION ",\"ha\":{\"restart_within_ms\":15000}}", &p, NULL), 0);
	assert_false(p.patient);
	assert_int_equal(p.resiliency_ms, 0);
	assert_null(vm_doc_after(NULL, 0));
}

static void what_makes_no_sense_is_refused(void **state)
{
	static const char *const bad[] = {
		"{" DEFINITION ",\"ha\":{\"after\":\"db1\"}}",
		"{" DEFINITION ",\"ha\":{\"after\":[1]}}",
		"{" DEFINITION ",\"ha\":{\"after\":[\"\"]}}",
		"{" DEFINITION ",\"ha\":{\"after\":[\"a\",\"b\",\"c\",\"d\",\"e\"]}}",
		"{" DEFINITION ",\"ha\":{\"wait_ms\":0}}",
		"{" DEFINITION ",\"ha\":{\"restart_within_ms\":3600001}}",
		"{" DEFINITION ",\"ha\":{\"wait_ms\":5000,\"restart_within_ms\":5000}}",
		"{}",
		"{" DEFINITION "}",
		"{\"ha\":{}}",
		"{\"ha\":{},\"definition\":{\"cpus\":1}}",
		"{\"ha\":{},\"definition\":{\"memory_bytes\":1,\"cpus\":0}}",
		"{\"ha\":{},\"definition\":{\"memory_bytes\":-1,\"cpus\":1}}",
		"{" DEFINITION ",\"ha\":{\"volumes\":[0]}}",
		"{" DEFINITION ",\"ha\":{\"volumes\":[65]}}",
		"{" DEFINITION ",\"ha\":{\"volumes\":[\"vol1\"]}}",
		"{" DEFINITION ",\"ha\":{\"priority\":\"urgent\"}}",
		"{" DEFINITION ",\"ha\":{\"fallback\":\"slow\"}}",
		"{" DEFINITION ",\"ha\":{\"blackout_max_ns\":0}}",
		"{" DEFINITION ",\"ha\":{\"blackout_max_ns\":60000000001}}",
		"{" DEFINITION ",\"ha\":{\"possible\":[0]}}",
		"{" DEFINITION ",\"ha\":{\"possible\":[65]}}",
		"{" DEFINITION ",\"ha\":{\"possible\":[\"n1\"]}}",
		"{" DEFINITION ",\"ha\":{\"possible\":1}}",
		"{" DEFINITION ",\"ha\":{\"preferred\":[1,2,3,4,5,6,7,8,9]}}",
		"{" DEFINITION ",\"ha\":{\"groups\":[\"a\",\"b\",\"c\",\"d\",\"e\"]}}",
		"{" DEFINITION ",\"ha\":{\"groups\":[1]}}",
		"{" DEFINITION ",\"ha\":{\"colour\":\"red\"}}",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct role_policy p = {.cpus = 77};
		struct errbuf eb = {0};

		assert_int_equal(policy_of(bad[i], &p, &eb), -EINVAL);
		assert_true(eb.text[0] != '\0');
		assert_int_equal(p.cpus, 77);
	}
}

static uint32_t level_of(const char *ha, const char **what)
{
	char text[200];
	json_t *doc = NULL;
	uint32_t level;

	(void)snprintf(text, sizeof(text), "{" DEFINITION ",\"ha\":{%s}}", ha);
	assert_int_equal(json_parse(text, strlen(text), NULL, &doc, NULL), 0);
	level = vm_doc_level(doc, what);
	json_decref(doc);
	return level;
}

/* What the first version's programs refuse: docs/decisions/0290. */
static void new_members_need_a_level(void **state)
{
	const char *what = "";

	(void)state;
	assert_int_equal(vm_doc_level(NULL, NULL), 1);
	assert_int_equal(level_of("\"priority\":\"high\",\"possible\":[1],\"preferred\":[2],"
	                          "\"groups\":[\"a\"],\"volumes\":[1],\"fallback\":\"quick\","
	                          "\"blackout_max_ns\":5",
	                          &what),
	                 1);
	assert_null(what);
	assert_int_equal(level_of("\"after\":[\"db1\"]", &what), 2);
	assert_string_equal(what, "--start-after");
	assert_int_equal(level_of("\"wait_ms\":5000", &what), 2);
	assert_string_equal(what, "--objective");
	assert_int_equal(level_of("\"restart_within_ms\":5000", NULL), 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_documents_with_ha_are_roles),
		cmocka_unit_test(a_document_becomes_a_policy),
		cmocka_unit_test(wishes_for_starts_and_failovers_are_read),
		cmocka_unit_test(what_makes_no_sense_is_refused),
		cmocka_unit_test(new_members_need_a_level),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
