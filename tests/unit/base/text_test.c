/* SPDX-License-Identifier: Apache-2.0 */
#include "base/text.h"

#include <string.h>

#include "base/attr.h"
#include "tests/lib/test.h"

static void text_is_built_piece_by_piece(void **state)
{
	char buf[16];
	struct text t;

	(void)state;
	text_init(&t, buf, sizeof(buf));
	assert_string_equal(buf, "");
	text_add(&t, "%s=%d", "vm", 7);
	text_add(&t, " ok");
	assert_string_equal(buf, "vm=7 ok");
	assert_int_equal(t.len, 7);
	assert_false(t.cut);
}

static void what_does_not_fit_is_cut_between_characters(void **state)
{
	/* ASCII, and characters of 2, 3 and 4 bytes. */
	static const char all[] = "a\xc3\xa4\xe2\x82\xac\xf0\x9f\x90\xa6z";

	(void)state;
	for (size_t size = 1; size <= sizeof(all); size++) {
		char buf[32];
		char clean[32];
		struct text t;
		struct text c;
		size_t want = 0;

		for (size_t step;
		     (step = text_utf8_step(all + want, sizeof(all) - 1 - want)) != 0 &&
		     want + step < size;) {
			want += step;
		}
		memset(buf, 'x', sizeof(buf));
		text_init(&t, buf, size);
		text_add(&t, "%s", all);
		text_init(&c, clean, size);
		text_add_clean(&c, all, sizeof(all) - 1);
		assert_int_equal(t.len, want);
		assert_int_equal(c.len, want);
		assert_int_equal(strlen(buf), want);
		assert_memory_equal(buf, all, want);
		assert_memory_equal(clean, buf, want + 1);
		assert_int_equal(t.cut, want != sizeof(all) - 1);
		assert_int_equal(c.cut, t.cut);
		text_add(&t, "more");
		assert_true(t.len < size && buf[t.len] == '\0');
	}
}

static void strangers_cannot_send_control_characters(void **state)
{
	static const char hostile[] = "ok\n\x1b[2J\x7f\0\xff\xc2\x9b\xc2\xa0\xed\xa0\x80.";
	char buf[64];
	struct text t;

	(void)state;
	text_init(&t, buf, sizeof(buf));
	text_add_clean(&t, hostile, sizeof(hostile) - 1);
	assert_string_equal(buf, "ok??[2J????\xc2\xa0???.");
	assert_false(t.cut);
}

static void utf8_steps_follow_the_table(void **state)
{
	static const struct {
		const char *bytes;
		size_t step;
	} cases[] = {
		{"a", 1},
		{"\x7f", 1},
		{"\x80", 0},
		{"\xbf", 0},
		{"\xc0\x80", 0},
		{"\xc1\xbf", 0},
		{"\xc2\x80", 2},
		{"\xdf\xbf", 2},
		{"\xe0\x9f\xbf", 0},
		{"\xe0\xa0\x80", 3},
		{"\xed\x9f\xbf", 3},
		{"\xed\xa0\x80", 0},
		{"\xed\xbf\xbf", 0},
		{"\xee\x80\x80", 3},
		{"\xef\xbf\xbf", 3},
		{"\xf0\x8f\xbf\xbf", 0},
		{"\xf0\x90\x80\x80", 4},
		{"\xf4\x8f\xbf\xbf", 4},
		{"\xf4\x90\x80\x80", 0},
		{"\xf5\x80\x80\x80", 0},
		{"\xff", 0},
		{"\xe2\x28\xa1", 0},
		{"\xe2\x82\x28", 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		size_t len = strlen(cases[i].bytes);

		assert_int_equal(text_utf8_step(cases[i].bytes, len), cases[i].step);
		for (size_t cut = 0; cut < cases[i].step; cut++) {
			assert_int_equal(text_utf8_step(cases[i].bytes, cut), 0);
		}
	}
}

static void distances_count_slips(void **state)
{
	char word[TEXT_WORD_MAX + 2];

	(void)state;
	assert_int_equal(text_distance("", ""), 0);
	assert_int_equal(text_distance("start", "start"), 0);
	assert_int_equal(text_distance("strat", "start"), 1); /* a swap */
	assert_int_equal(text_distance("tsart", "start"), 1);
	assert_int_equal(text_distance("star", "start"), 1);
	assert_int_equal(text_distance("startt", "start"), 1);
	assert_int_equal(text_distance("stbrt", "start"), 1);
	assert_int_equal(text_distance("kitten", "sitting"), 3);
	assert_int_equal(text_distance("", "abc"), 3);
	assert_int_equal(text_distance("abc", ""), 3);
	memset(word, 'a', sizeof(word));
	word[TEXT_WORD_MAX + 1] = '\0';
	assert_int_equal(text_distance(word, "a"), UINT32_MAX);
	assert_int_equal(text_distance("a", word), UINT32_MAX);
	word[TEXT_WORD_MAX] = '\0';
	assert_int_equal(text_distance(word, "a"), TEXT_WORD_MAX - 1);
}

static void the_nearest_word_is_proposed_only_if_it_is_near(void **state)
{
	static const char *const words[] = {"start", "stop", "restart", "memory", "cpus"};

	(void)state;
	assert_string_equal(text_nearest("strat", words, ARRAY_LEN(words)), "start");
	assert_string_equal(text_nearest("memroy", words, ARRAY_LEN(words)), "memory");
	assert_string_equal(text_nearest("mem", words, ARRAY_LEN(words)), "memory");
	assert_string_equal(text_nearest("cpu", words, ARRAY_LEN(words)), "cpus");
	assert_null(text_nearest("xyzzy", words, ARRAY_LEN(words)));
	assert_null(text_nearest("", words, ARRAY_LEN(words)));
	assert_null(text_nearest("a", words, ARRAY_LEN(words)));
	assert_null(text_nearest("start", words, 0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(text_is_built_piece_by_piece),
		cmocka_unit_test(what_does_not_fit_is_cut_between_characters),
		cmocka_unit_test(strangers_cannot_send_control_characters),
		cmocka_unit_test(utf8_steps_follow_the_table),
		cmocka_unit_test(distances_count_slips),
		cmocka_unit_test(the_nearest_word_is_proposed_only_if_it_is_near),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
