/* SPDX-License-Identifier: Apache-2.0 */
#include "base/json.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/attr.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "tests/lib/test.h"

static json_t *parse(const char *text)
{
	struct errbuf eb = {0};
	json_t *value;
	int err = json_parse(text, strlen(text), NULL, &value, &eb);

	if (err != 0) {
		fail_msg("%s: %s", text, eb.text);
	}
	return value;
}

/* ---- parsing ---- */

static void errors_say_line_column_byte_and_what(void **state)
{
	static const struct {
		const char *text;
		const char *error;
		const char *hint;
	} cases[] = {
		{"{\"a\":1,\n \"a\":2}",
	         "line 2, column 4 (byte 11): duplicate object key near '\"a\"'", ""},
		{"{\"a\":1, }", "line 1, column 9 (byte 8): string or '}' expected near '}'",
	         "remove the comma before the closing bracket"},
		{"[1,\n\n]", "line 3, column 1 (byte 5): unexpected token near ']'",
	         "remove the comma before the closing bracket"},
		{"{\"a\" 1}", "line 1, column 6 (byte 5): ':' expected near '1'", ""},
		{"{\"\xc3\xa4\":1,\"\xc3\xb6\" 2}",
	         "line 1, column 12 (byte 13): ':' expected near '2'", ""},
		{"{'a':1}", "line 1, column 2 (byte 1): string or '}' expected near '''",
	         "JSON has double quotes only"},
		{"// x\n{}", "line 1, column 1 (byte 0): '[' or '{' expected near '/'",
	         "JSON has no comments"},
		{"[1,2", "line 1, column 5 (byte 4): the text ends too early", ""},
		{"", "line 1, column 1 (byte 0): the text ends too early", ""},
		{"{\"a\":1} x", "line 1, column 9 (byte 8): end of file expected near 'x'", ""},
		{"\"top\"", "line 1, column 5 (byte 4): '[' or '{' expected near '\"top\"'", ""},
		{"[\"\\u0000\"]", "line 1, column 9 (byte 8): the character \\u0000 is not allowed",
	         ""},
		{"[\"\xff\"]", "line 1, column 2 (byte 1): unable to decode byte 0xff near '\"'",
	         ""},
		{"[\"\x1b[2J\"]", "line 1, column 2 (byte 1): control character 0x1b near '\"'",
	         ""},
		{"[99999999999999999999]",
	         "line 1, column 21 (byte 20): too big integer near '99999999999999999999'", ""},
		{"[1e999]", "line 1, column 6 (byte 5): real number overflow near '1e999'", ""},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct errbuf eb = {0};
		json_t *value = (json_t *)&eb;

		assert_int_equal(
			json_parse(cases[i].text, strlen(cases[i].text), NULL, &value, &eb),
			-EBADMSG);
		assert_null(value);
		assert_string_equal(eb.text, cases[i].error);
		assert_string_equal(eb.hint, cases[i].hint);
		assert_int_equal(
			json_parse(cases[i].text, strlen(cases[i].text), NULL, &value, NULL),
			-EBADMSG);
	}
}

static void limits_hold_before_anything_is_allocated(void **state)
{
	const struct json_limits limits = {.bytes_max = 40, .depth_max = 2, .values_max = 6};
	struct errbuf eb = {0};
	json_t *value;
	char long_text[64];

	(void)state;
	assert_int_equal(json_parse("[[1,2,3,4]]", 11, &limits, &value, &eb), 0);
	json_decref(value);
	fault_arm(FAULT_ALLOC, 1); /* jansson allocates through it: see main() */
	assert_int_equal(json_parse("[[1,2],\n[[1]]]", 14, &limits, &value, &eb), -E2BIG);
	assert_string_equal(eb.text, "line 2, column 2 (byte 9): nested too deeply");
	assert_int_equal(json_parse("[1,2,3,4,5,6,7]", 15, &limits, &value, &eb), -E2BIG);
	assert_string_equal(eb.text, "line 1, column 13 (byte 12): too many values");
	memset(long_text, ' ', sizeof(long_text));
	assert_int_equal(json_parse(long_text, 41, &limits, &value, &eb), -E2BIG);
	assert_string_equal(eb.text, "41 bytes of JSON are too much, the limit is 40");
	assert_false(fault_hit(FAULT_ALLOC));
	fault_arm(FAULT_ALLOC, 0);
	/* Brackets in strings are no nesting, also after escaped quotes. */
	assert_int_equal(json_parse("[\"\\\\\\\"[[[,,,,,,,,\"]", 19, &limits, &value, &eb), 0);
	json_decref(value);
}

static void every_truncation_is_an_error(void **state)
{
	static const char text[] =
		"{\"a\":[1,-2.5e3,\"x\\u00e4\\n\"],\"b\":{\"c\":null,\"d\":[true,false]}}";
	json_t *value;

	(void)state;
	for (size_t len = 0; len < sizeof(text) - 1; len++) {
		/* An exact copy, so that AddressSanitizer sees a read past the end. */
		char *exact = malloc(len != 0 ? len : 1);

		assert_non_null(exact);
		memcpy(exact, text, len);
		assert_int_equal(json_parse(exact, len, NULL, &value, NULL), -EBADMSG);
		free(exact);
	}
	assert_int_equal(json_parse(text, sizeof(text) - 1, NULL, &value, NULL), 0);
	json_decref(value);
}

/* ---- reading ---- */

#define VM                                                                                         \
	"{\"name\":\"web1\",\"cpus\":2,\"offset\":-7,\"ha\":true,\"state\":\"runing\",\"x\":null," \
	"\"disks\":[{\"path\":\"/a\",\"size\":1},{\"path\":\"/b\",\"size\":\"big\"}],\"odd "       \
	"key\":{"                                                                                  \
	"\"\\u001b\":1.5}}"

static void getters_read_what_is_there(void **state)
{
	json_t *value = parse(VM);
	struct json_at vm = json_root(value, "vm");
	struct json_at disks;
	const char *name;
	uint64_t cpus;
	int64_t offset;
	uint64_t absent = 42;
	const char *none = "default";
	bool ha = false;
	char path[32];

	(void)state;
	assert_int_equal(json_get_str(&vm, "name", 4, &name, NULL), 0);
	assert_string_equal(name, "web1");
	assert_int_equal(json_get_u64(&vm, "cpus", 2, 2, &cpus, NULL), 0);
	assert_int_equal(cpus, 2);
	assert_int_equal(json_get_i64(&vm, "offset", -7, 0, &offset, NULL), 0);
	assert_int_equal(offset, -7);
	assert_int_equal(json_opt_bool(&vm, "ha", &ha, NULL), 0);
	assert_true(ha);
	assert_int_equal(json_opt_u64(&vm, "absent", 0, 1, &absent, NULL), 0);
	assert_int_equal(absent, 42);
	assert_int_equal(json_opt_str(&vm, "absent", 0, &none, NULL), 0);
	assert_string_equal(none, "default");
	assert_int_equal(json_get_array(&vm, "disks", 2, &disks, NULL), 0);

	struct json_at disk = json_element(&disks, 1);
	struct json_at size;

	assert_int_equal(json_get(&disk, "size", &size, NULL), 0);
	assert_string_equal(json_path(&size, path, sizeof(path)), "vm.disks[1].size");
	assert_string_equal(json_path(&size, path, 8), "vm.disk");
	json_decref(value);
}

static void errors_name_the_way_to_the_value(void **state)
{
	static const char *const states[] = {"off", "running", "paused"};
	json_t *value = parse(VM);
	struct json_at vm = json_root(value, "vm");
	struct json_at at;
	struct json_at disk;
	struct errbuf eb = {0};
	const char *text = "untouched";
	uint64_t u = 1;
	int64_t i = 1;
	size_t word = 9;
	bool b = true;

	(void)state;
	assert_int_equal(json_get_array(&vm, "disks", 8, &at, &eb), 0);
	disk = json_element(&at, 1);
	assert_int_equal(json_get_u64(&disk, "size", 0, 9, &u, &eb), -EINVAL);
	assert_string_equal(eb.text, "vm.disks[1].size: expected an integer, got a string");
	assert_int_equal(json_get_u64(&disk, "sise", 0, 9, &u, &eb), -EINVAL);
	assert_string_equal(eb.text, "vm.disks[1]: member \"sise\" is missing");
	assert_int_equal(json_get_u64(&vm, "cpus", 4, 64, &u, &eb), -EINVAL);
	assert_string_equal(eb.text, "vm.cpus: 2 is out of range, 4 to 64 are allowed");
	assert_int_equal(json_get_u64(&vm, "offset", 0, UINT64_MAX, &u, &eb), -EINVAL);
	assert_string_equal(eb.text,
	                    "vm.offset: -7 is out of range, 0 to 18446744073709551615 are allowed");
	assert_int_equal(json_opt_i64(&vm, "offset", -5, 5, &i, &eb), -EINVAL);
	assert_string_equal(eb.text, "vm.offset: -7 is out of range, -5 to 5 are allowed");
	assert_int_equal(json_opt_str(&vm, "x", 9, &text, &eb), -EINVAL);
	assert_string_equal(eb.text, "vm.x: expected a string, got null");
	assert_int_equal(json_get_str(&vm, "name", 3, &text, &eb), -EINVAL);
	assert_string_equal(eb.text, "vm.name: 4 bytes are too long, the limit is 3");
	assert_int_equal(json_get_array(&vm, "disks", 1, &at, &eb), -EINVAL);
	assert_string_equal(eb.text, "vm.disks: 2 elements are too many, the limit is 1");
	assert_int_equal(json_get_bool(&vm, "disks", &b, &eb), -EINVAL);
	assert_string_equal(eb.text, "vm.disks: expected true or false, got an array");
	assert_int_equal(json_get_object(&vm, "ha", &at, &eb), -EINVAL);
	assert_string_equal(eb.text, "vm.ha: expected an object, got true");
	assert_int_equal(json_get_word(&vm, "state", states, 3, &word, &eb), -EINVAL);
	assert_string_equal(eb.text, "vm.state: \"runing\" is none of off, running, paused");
	assert_string_equal(eb.hint, "did you mean \"running\"?");
	assert_int_equal(json_get_object(&vm, "odd key", &at, &eb), 0);
	assert_int_equal(json_get_u64(&at, "\x1b", 0, 9, &u, &eb), -EINVAL);
	assert_string_equal(eb.text, "vm[\"odd key\"][\"?\"]: expected an integer, got a fraction");
	vm = json_root(json_array_get(json_object_get(value, "disks"), 0), "");
	assert_int_equal(json_get_u64(&vm, "path", 0, 9, &u, &eb), -EINVAL);
	assert_string_equal(eb.text, "path: expected an integer, got a string");
	/* Nothing was touched by all this. */
	assert_string_equal(text, "untouched");
	assert_int_equal(u + (uint64_t)i + b, 3);
	assert_int_equal(word, 9);
	json_decref(value);
}

static void unknown_members_are_refused_with_a_proposal(void **state)
{
	static const char *const known[] = {"name", "memory", "cpus"};
	json_t *value = parse("{\"name\":\"a\",\"memry\":1}");
	struct json_at vm = json_root(value, "vm");
	struct errbuf eb = {0};

	(void)state;
	assert_int_equal(json_check_members(&vm, known, 3, &eb), -EINVAL);
	assert_string_equal(eb.text, "vm: unknown member \"memry\"");
	assert_string_equal(eb.hint, "did you mean \"memory\"?");
	assert_int_equal(json_check_members(&vm, known, 1, &eb), -EINVAL);
	assert_string_equal(eb.hint, "known members: name");
	json_decref(value);
	value = parse("{\"cpus\":1}");
	vm = json_root(value, "vm");
	assert_int_equal(json_check_members(&vm, known, 3, &eb), 0);
	json_decref(value);
	value = parse("[]");
	vm = json_root(value, "vm");
	assert_int_equal(json_check_members(&vm, known, 3, &eb), -EINVAL);
	assert_string_equal(eb.text, "vm: expected an object, got an array");
	json_decref(value);
}

/* ---- writing ---- */

static void built_values_print_and_parse_back(void **state)
{
	struct json_build b;
	struct json_build disks;
	json_t *value;
	json_t *back;

	(void)state;
	json_build_object(&b);
	json_add_str(&b, "name", "web\"1\"\n");
	json_add_str(&b, "none", NULL);
	json_add_strn(&b, "guest", "a\xff\xc3(\0b\xed\xa0\x80", 9);
	json_add_fmt(&b, "text", "%d of %d", 1, 2);
	json_add_u64(&b, "max", INT64_MAX);
	json_add_i64(&b, "min", INT64_MIN);
	json_add_real(&b, "load", 0.5);
	json_add_bool(&b, "ha", true);
	json_build_array(&disks);
	json_add_u64(&disks, NULL, 7);
	json_add_null(&disks, NULL);
	json_add_build(&b, "disks", &disks);
	assert_int_equal(json_build_end(&b, &value), 0);

	char *text = json_text(value, 0);

	assert_string_equal(text, "{\"name\":\"web\\\"1\\\"\\n\",\"none\":null,"
	                          "\"guest\":\"a\xef\xbf\xbd\xef\xbf\xbd(\xef\xbf\xbd"
	                          "b"
	                          "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\","
	                          "\"text\":\"1 of 2\",\"max\":9223372036854775807,"
	                          "\"min\":-9223372036854775808,\"load\":0.5,\"ha\":true,"
	                          "\"disks\":[7,null]}");
	back = parse(text);
	assert_true(json_equal(value, back));
	json_decref(back);
	free(text);
	json_decref(value);
}

static void printing_can_be_sorted_and_pretty(void **state)
{
	json_t *value = parse("{\"b\":[1],\"a\":{}}");
	char *text = json_text(value, JSON_TEXT_SORTED);
	char *pretty = json_text(value, JSON_TEXT_PRETTY | JSON_TEXT_SORTED);
	char *alone = json_text(json_object_get(value, "b"), 0);

	(void)state;
	assert_string_equal(text, "{\"a\":{},\"b\":[1]}");
	assert_string_equal(pretty, "{\n  \"a\": {},\n  \"b\": [\n    1\n  ]\n}");
	assert_string_equal(alone, "[1]");
	free(text);
	free(pretty);
	free(alone);
	json_decref(value);
}

static void the_first_error_of_a_builder_comes_out_at_its_end(void **state)
{
	struct json_build b;
	struct json_build inner;
	json_t *value;

	(void)state;
	json_build_object(&b);
	json_add_u64(&b, "x", UINT64_MAX);
	json_add_u64(&b, "y", 1);
	assert_int_equal(json_build_end(&b, &value), -ERANGE);
	assert_null(value);
	json_build_object(&b);
	json_add_u64(&b, "x", 1);
	json_add_str(&b, "x", "twice");
	assert_int_equal(json_build_end(&b, &value), -EEXIST);
	json_build_object(&b);
	json_build_array(&inner);
	json_add_real(&inner, NULL, __builtin_inf());
	json_add_build(&b, "inner", &inner);
	assert_int_equal(json_build_end(&b, &value), -ERANGE);
	json_build_object(&b);
	json_add(&b, "x", NULL);
	json_add_u64(&b, "y", UINT64_MAX);
	assert_int_equal(json_build_end(&b, &value), -ENOMEM);
	assert_null(value);
}

/* ---- no memory ---- */

static int build_something(void)
{
	struct json_build b;
	struct json_build list;
	json_t *value;
	int err;

	json_build_object(&b);
	json_add_str(&b, "name", "x");
	json_add_strn(&b, "broken", "\xff", 1);
	json_build_array(&list);
	for (uint64_t i = 0; i < 20; i++) {
		json_add_u64(&list, NULL, i);
	}
	json_add_build(&b, "list", &list);
	err = json_build_end(&b, &value);
	if (err == 0) {
		char *text = json_text(value, JSON_TEXT_SORTED);

		err = text != NULL ? 0 : -ENOMEM;
		free(text);
	}
	json_decref(value);
	return err;
}

static int parse_something(void)
{
	static const char text[] = "{\"a\":[1,2.5,\"long enough to grow a buffer beyond its "
				   "start\",{\"b\":null}],\"c\":true,\"d\":\"\\u00e4\"}";
	struct errbuf eb = {0};
	json_t *value;
	int err = json_parse(text, sizeof(text) - 1, NULL, &value, &eb);

	assert_int_equal(err == 0, value != NULL);
	json_decref(value);
	/* jansson takes a key it has no memory for to be missing. */
	return err == -EBADMSG && fault_hit(FAULT_ALLOC) ? -ENOMEM : err;
}

static void every_allocation_may_fail(void **state)
{
	int (*const runs[])(void) = {build_something, parse_something};

	(void)state;
	for (size_t r = 0; r < ARRAY_LEN(runs); r++) {
		uint32_t failures = 0;
		uint32_t k = 0;
		int err;

		do {
			fault_arm(FAULT_ALLOC, ++k);
			err = runs[r]();
			/* A hash table that cannot grow still works: success is possible too. */
			assert_true(err == 0 || (err == -ENOMEM && fault_hit(FAULT_ALLOC)));
			failures += err != 0;
		} while (fault_hit(FAULT_ALLOC));
		fault_arm(FAULT_ALLOC, 0);
		assert_in_range(failures, 8, 200); /* it did count */
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(errors_say_line_column_byte_and_what),
		cmocka_unit_test(limits_hold_before_anything_is_allocated),
		cmocka_unit_test(every_truncation_is_an_error),
		cmocka_unit_test(getters_read_what_is_there),
		cmocka_unit_test(errors_name_the_way_to_the_value),
		cmocka_unit_test(unknown_members_are_refused_with_a_proposal),
		cmocka_unit_test(built_values_print_and_parse_back),
		cmocka_unit_test(printing_can_be_sorted_and_pretty),
		cmocka_unit_test(the_first_error_of_a_builder_comes_out_at_its_end),
		cmocka_unit_test(every_allocation_may_fail),
	};

	json_set_alloc_funcs(gw_malloc, free);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
