/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/compat/compat.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/errbuf.h"
#include "base/fault.h"
#include "tests/lib/test.h"

static struct compat one; /* too large for a stack */
static struct compat two;

static void setup_two_reasons(void)
{
	memset(&one, 0, sizeof(one));
	compat_add(&one, COMPAT_BLOCKER, "cpu-feature", "the processor here lacks %s", "avx512f");
	compat_hint(&one, "Lower the VM's processor.");
	compat_add(&one, COMPAT_WARNING, "memory-tight", "only %u MiB would be free", 12u);
	compat_add(&one, COMPAT_BLOCKER, "disk-unreachable", "no file /vm/a.vhdx");
}

static void all_reasons_travel_at_once(void **state)
{
	char *text;
	char line[200];
	size_t len;

	(void)state;
	setup_two_reasons();
	assert_false(compat_movable(&one));
	assert_string_equal(compat_summary(&one, line, sizeof(line)),
	                    "2 reasons against it: the processor here lacks avx512f; no file "
	                    "/vm/a.vhdx");
	assert_int_equal(compat_encode(&one, &text, &len), 0);
	assert_int_equal(compat_decode(text, len, &two, NULL), 0);
	assert_int_equal(two.count, 3);
	assert_int_equal(two.blockers, 2);
	assert_int_equal(two.items[1].level, COMPAT_WARNING);
	assert_string_equal(two.items[0].code, "cpu-feature");
	assert_string_equal(two.items[0].hint, "Lower the VM's processor.");
	assert_string_equal(two.items[1].text, "only 12 MiB would be free");
	free(text);
}

static void an_empty_report_is_a_yes(void **state)
{
	char *text;
	char line[64];
	size_t len;

	(void)state;
	memset(&one, 0, sizeof(one));
	assert_true(compat_movable(&one));
	assert_string_equal(compat_summary(&one, line, sizeof(line)), "nothing speaks against it");
	assert_int_equal(compat_encode(&one, &text, &len), 0);
	assert_string_equal(text, "{\"blockers\":0,\"dropped\":0,\"items\":[]}");
	assert_int_equal(compat_decode(text, len, &two, NULL), 0);
	assert_true(compat_movable(&two));
	free(text);
}

static void a_blocker_is_never_lost_for_lack_of_room(void **state)
{
	char *text;
	size_t len;

	(void)state;
	memset(&one, 0, sizeof(one));
	for (uint32_t i = 0; i < COMPAT_ITEMS_MAX + 10; i++) {
		compat_add(&one, COMPAT_WARNING, "w", "warning %u", i);
	}
	assert_true(compat_movable(&one));
	compat_add(&one, COMPAT_BLOCKER, "b", "no");
	assert_false(compat_movable(&one));
	assert_int_equal(one.items[0].level, COMPAT_BLOCKER);
	for (uint32_t i = 0; i < COMPAT_ITEMS_MAX + 10; i++) {
		compat_add(&one, COMPAT_BLOCKER, "b", "no %u", i);
	}
	assert_int_equal(compat_encode(&one, &text, &len), 0);
	assert_int_equal(compat_decode(text, len, &two, NULL), 0);
	assert_int_equal(two.blockers, COMPAT_ITEMS_MAX + 11);
	assert_int_equal(two.count, COMPAT_ITEMS_MAX);
	free(text);
}

static void a_peers_words_are_checked(void **state)
{
	static const char *const bad[] = {
		"",
		"[]",
		"{}",
		"{\"blockers\":0,\"dropped\":0}",
		/* a yes that holds a no */
		"{\"blockers\":0,\"dropped\":0,\"items\":[{\"blocker\":true,\"code\":\"a\","
		"\"text\":\"t\"}]}",
		"{\"blockers\":1,\"dropped\":0,\"items\":[]}",
		"{\"blockers\":1,\"dropped\":0,\"items\":[{\"blocker\":true,\"code\":\"A B\","
		"\"text\":\"t\"}]}",
		"{\"blockers\":1,\"dropped\":0,\"items\":[{\"blocker\":true,\"code\":\"a\"}]}",
	};
	const char *strange = "{\"blockers\":1,\"dropped\":0,\"items\":[{\"blocker\":true,\"code\":"
			      "\"a\",\"text\":\"\\u001b[2J\"}]}";

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct errbuf eb = {0};

		assert_int_equal(compat_decode(bad[i], strlen(bad[i]), &two, &eb), -EBADMSG);
		assert_string_not_equal(eb.text, "");
	}
	assert_int_equal(compat_decode(strange, strlen(strange), &two, NULL), 0);
	assert_string_equal(two.items[0].text, "?[2J");
}

static void every_truncation_is_refused(void **state)
{
	char *text;
	size_t len;

	(void)state;
	setup_two_reasons();
	assert_int_equal(compat_encode(&one, &text, &len), 0);
	for (size_t cut = 0; cut < len; cut++) {
		assert_int_equal(compat_decode(text, cut, &two, NULL), -EBADMSG);
	}
	for (size_t bit = 0; bit < len * 8; bit++) { /* no CRC here: anything but a crash */
		text[bit / 8] = (char)(text[bit / 8] ^ 1 << (bit % 8));
		assert_true(compat_decode(text, len, &two, NULL) <= 0);
		text[bit / 8] = (char)(text[bit / 8] ^ 1 << (bit % 8));
	}
	free(text);
}

static void lost_memory_is_reported(void **state)
{
	uint32_t k = 1;
	int err;

	(void)state;
	setup_two_reasons();
	for (;; k++) {
		char *text;
		size_t len;

		fault_arm(FAULT_ALLOC, k);
		err = compat_encode(&one, &text, &len);
		if (err == 0) {
			err = compat_decode(text, len, &two, NULL);
			free(text);
		}
		if (!fault_hit(FAULT_ALLOC)) {
			break;
		}
		assert_true(err == -ENOMEM || err == -EBADMSG); /* as json_parse() says */
	}
	fault_arm(FAULT_ALLOC, 0);
	assert_int_equal(err, 0);
	assert_true(k > 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_reasons_travel_at_once),
		cmocka_unit_test(an_empty_report_is_a_yes),
		cmocka_unit_test(a_blocker_is_never_lost_for_lack_of_room),
		cmocka_unit_test(a_peers_words_are_checked),
		cmocka_unit_test(every_truncation_is_refused),
		cmocka_unit_test(lost_memory_is_reported),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
