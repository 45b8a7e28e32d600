/* SPDX-License-Identifier: Apache-2.0 */
#include "base/ui/ui.h"

#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "tests/lib/test.h"

static const struct ui_style pipe_style = {.utf8 = true};
static const struct ui_style terminal = {.columns = 80, .utf8 = true, .color = true};
static const struct ui_style narrow = {.columns = 30, .utf8 = true};
static const struct ui_style ascii = {.columns = 30};

/* The buffer's text, until the next call. */
static const char *text_of(struct ui_buf *buf)
{
	static char *last;

	free(last);
	assert_int_equal(ui_buf_end(buf, &last), 0);
	return last;
}

static const char *fitted(const struct ui_style *style, const char *text, size_t columns)
{
	struct ui_buf buf = {0};

	assert_true(ui_fit(&buf, style, text, columns) <= columns);
	return text_of(&buf);
}

/* ---- text ---- */

static void text_is_cut_with_an_ellipsis_at_a_character(void **state)
{
	(void)state;
	assert_string_equal(fitted(&terminal, "hello", 5), "hello");
	assert_string_equal(fitted(&terminal, "hello", 4), "hel…");
	assert_string_equal(fitted(&terminal, "hello", 1), "…");
	assert_string_equal(fitted(&terminal, "hello", 0), "");
	assert_string_equal(fitted(&terminal, "äöüß", 3), "äö…");
	assert_string_equal(fitted(&ascii, "hello", 4), "hel~");
	assert_string_equal(fitted(&ascii, "äb", 9), "?b");
	/* Wide characters take two columns and are not halved. */
	assert_int_equal(ui_width("日本", &terminal), 4);
	assert_string_equal(fitted(&terminal, "日本語", 4), "日…");
	assert_string_equal(fitted(&terminal, "日本語", 5), "日本…");
	/* Combining ones none. */
	assert_int_equal(ui_width("e\xcc\x81", &terminal), 1);
	assert_string_equal(fitted(&terminal, "e\xcc\x81", 1), "e\xcc\x81");
}

static void nothing_in_a_text_drives_the_terminal(void **state)
{
	/* Turns the direction of writing; spelled out, for the reader of this file. */
	static const char rlo[] = {'a', '\xe2', '\x80', '\xae', 'b', '\0'};

	(void)state;
	assert_string_equal(fitted(&terminal, "a\033[31mb\r\n\tc\x7f", 99), "a?[31mb???c?");
	assert_string_equal(fitted(&terminal,
	                           "\xc2\x9b"
	                           "31m",
	                           99),
	                    "?31m"); /* C1 CSI */
	assert_string_equal(fitted(&terminal, rlo, 99), "a?b");
	assert_string_equal(fitted(&terminal, "\xff\xc0\x80\xed\xa0\x80", 99), "??????");
	assert_string_equal(fitted(&pipe_style, "a\033b\xff", 99), "a?b?");
	assert_string_equal(fitted(&terminal, "\xe2\x82", 99), "??"); /* cut short */
}

/* ---- tables ---- */

static const struct ui_column columns[] = {
	{.title = "NAME", .columns_min = 6},
	{.title = "MEMORY", .right = true},
	{.title = "STATUS", .columns_min = 8},
};

static const char *rendered(const struct ui_style *style)
{
	struct ui_table *table = NULL;
	struct ui_buf buf = {0};

	assert_int_equal(ui_table_create(columns, ARRAY_LEN(columns), &table), 0);
	ui_table_cell(table, UI_PLAIN, "%s", "web1");
	ui_table_cell(table, UI_PLAIN, "%d MiB", 512);
	ui_table_cell(table, UI_GOOD, "%s", "running");
	ui_table_cell(table, UI_PLAIN, "%s", "a-name-that-is-long");
	ui_table_cell(table, UI_PLAIN, "%s", "4 GiB");
	ui_table_cell(table, UI_BAD, "%s", "");
	ui_table_render(table, style, &buf);
	ui_table_destroy(table);
	return text_of(&buf);
}

static void a_table_in_a_pipe_is_whole_and_plain(void **state)
{
	(void)state;
	assert_string_equal(rendered(&pipe_style), "NAME                  MEMORY  STATUS\n"
	                                           "web1                 512 MiB  running\n"
	                                           "a-name-that-is-long    4 GiB  -\n");
}

static void a_table_on_a_terminal_is_cut_to_its_width(void **state)
{
	(void)state;
	assert_string_equal(rendered(&narrow), "NAME           MEMORY  STATUS\n"
	                                       "web1          512 MiB  running\n"
	                                       "a-name-that…    4 GiB  -\n");
}

static void a_terminal_has_colours(void **state)
{
	(void)state;
	assert_string_equal(
		rendered(&terminal),
		"\033[1mNAME\033[0m                  \033[1mMEMORY\033[0m  \033[1mSTATUS\033[0m\n"
		"web1                 512 MiB  \033[32mrunning\033[0m\n"
		"a-name-that-is-long    4 GiB  \033[1;31m-\033[0m\n");
}

static void columns_that_may_not_be_cut_are_whole_however_narrow(void **state)
{
	const struct ui_style tiny = {.columns = 20, .utf8 = true};
	const char *text = rendered(&tiny);

	(void)state;
	assert_non_null(strstr(text, "512 MiB"));
	assert_non_null(strstr(text, "a-nam…"));
}

static void an_empty_table_is_its_title(void **state)
{
	struct ui_table *table = NULL;
	struct ui_buf buf = {0};

	(void)state;
	assert_int_equal(ui_table_create(columns, ARRAY_LEN(columns), &table), 0);
	ui_table_render(table, &pipe_style, &buf);
	ui_table_destroy(table);
	assert_string_equal(text_of(&buf), "NAME  MEMORY  STATUS\n");
}

/* Any bytes in any width: no line is wider than the terminal, if the columns can give. */
static void no_line_is_wider_than_the_terminal(void **state)
{
	static const struct ui_column soft[] = {{.title = "A", .columns_min = 1},
	                                        {.title = "B", .right = true, .columns_min = 1},
	                                        {.title = "C", .columns_min = 1}};
	uint32_t seed = 12345;

	(void)state;
	for (uint32_t width = 20; width < 100; width += 3) {
		const struct ui_style style = {.columns = width, .utf8 = width % 2 == 0};
		struct ui_table *table = NULL;
		struct ui_buf buf = {0};
		char cell[80];

		assert_int_equal(ui_table_create(soft, ARRAY_LEN(soft), &table), 0);
		for (int i = 0; i < 30; i++) {
			size_t len = 0;

			for (; len < sizeof(cell) - 4 && seed % 60 != 0; seed = seed * 69069 + 1) {
				static const char *const bits[] = {"x",    "日",   "e\xcc\x81",
				                                   "\xff", "\033", "ä"};
				const char *bit = bits[seed >> 20 & 3 ? (seed >> 24) % 6 : 0];

				memcpy(cell + len, bit, strlen(bit));
				len += strlen(bit);
			}
			seed = seed * 69069 + 1;
			cell[len] = '\0';
			ui_table_cell(table, UI_PLAIN, "%s", cell);
		}
		ui_table_render(table, &style, &buf);
		ui_table_destroy(table);

		char *text = NULL;
		char *rest = NULL;

		assert_int_equal(ui_buf_end(&buf, &text), 0);
		for (char *line = strtok_r(text, "\n", &rest); line != NULL;
		     line = strtok_r(NULL, "\n", &rest)) {
			const struct ui_style any = {.columns = 1, .utf8 = true};

			assert_true(ui_width(line, &any) <= width);
			assert_null(strchr(line, '\033'));
		}
		free(text);
	}
}

/* ---- details, verdicts ---- */

static const char *details_of(const struct ui_style *style)
{
	struct ui_details *details = NULL;
	struct ui_buf buf = {0};

	assert_int_equal(ui_details_create(&details), 0);
	ui_details_add(details, "Name", UI_PLAIN, "%s", "web1");
	ui_details_add(details, "State", UI_GOOD, "%s", "running");
	ui_details_section(details, "Disks");
	ui_details_add(details, "0", UI_PLAIN, "a.vhdx\nb.vhdx");
	ui_details_add(details, "Description", UI_PLAIN, "%s", "one two three four five six seven");
	ui_details_add(details, "Note", UI_PLAIN, "%s", "");
	ui_details_render(details, style, &buf);
	ui_details_destroy(details);
	return text_of(&buf);
}

static void details_are_aligned_and_continue_under_themselves(void **state)
{
	(void)state;
	assert_string_equal(details_of(&pipe_style),
	                    "Name         web1\n"
	                    "State        running\n"
	                    "\n"
	                    "Disks\n"
	                    "0            a.vhdx\n"
	                    "             b.vhdx\n"
	                    "Description  one two three four five six seven\n"
	                    "Note         -\n");
}

static void details_are_folded_at_spaces_on_a_terminal(void **state)
{
	const struct ui_style style = {.columns = 35, .utf8 = true};

	(void)state;
	assert_non_null(strstr(details_of(&style), "Description  one two three four\n"
	                                           "             five six seven\n"));
}

static void verdicts_are_lines_with_a_hint(void **state)
{
	struct ui_buf buf = {0};

	(void)state;
	ui_verdict(&buf, &pipe_style, UI_OK, "KVM", NULL);
	ui_verdict(&buf, &pipe_style, UI_FAILED, "memory\033", "buy more");
	assert_string_equal(text_of(&buf), "  ok    KVM\n"
	                                   "  FAIL  memory?\n"
	                                   "        -> buy more\n");
	ui_verdict(&buf, &terminal, UI_WARNING, "x", "");
	assert_string_equal(text_of(&buf), "  \033[33mwarn \033[0m x\n");
}

/* ---- progress ---- */

static const char *step_of(struct ui_progress *p, const struct ui_style *style, const char *what,
                           int percent, uint64_t now_ms)
{
	const struct ui_step step = {.what = what, .percent = percent, .detail = "1 GiB/s"};
	struct ui_buf buf = {0};

	ui_progress(p, style, &step, now_ms * NS_PER_MS, &buf);
	return text_of(&buf);
}

static void in_a_pipe_progress_is_a_line_now_and_then(void **state)
{
	struct ui_progress p = {0};
	struct ui_buf buf = {0};
	const struct ui_step last = {.what = "moving", .percent = 100, .last = true};

	(void)state;
	assert_string_equal(step_of(&p, &pipe_style, "moving", 0, 0), "moving: 0%, 1 GiB/s\n");
	assert_string_equal(step_of(&p, &pipe_style, "moving", 9, 5000), "");
	assert_string_equal(step_of(&p, &pipe_style, "moving", 12, 5001), "moving: 12%, 1 GiB/s\n");
	assert_string_equal(step_of(&p, &pipe_style, "moving", 21, 5002), "");
	assert_string_equal(step_of(&p, &pipe_style, "waiting", -1, 5003), "waiting: 1 GiB/s\n");
	assert_string_equal(step_of(&p, &pipe_style, "moving", 95, 5004), "moving: 95%, 1 GiB/s\n");
	ui_progress(&p, &pipe_style, &last, 5005 * NS_PER_MS, &buf);
	ui_progress(&p, &pipe_style, &last, 5006 * NS_PER_MS, &buf);
	ui_progress_end(&p, &pipe_style, false, &buf);
	assert_string_equal(text_of(&buf), "moving: 100%\n");
}

static void on_a_terminal_progress_is_one_line_drawn_again(void **state)
{
	const struct ui_style wide = {.columns = 60};
	struct ui_progress p = {0};
	struct ui_buf buf = {0};

	(void)state;
	assert_string_equal(step_of(&p, &wide, "moving", 50, 0),
	                    "\rmoving [##########..........]  50%  1 GiB/s\033[K");
	assert_string_equal(step_of(&p, &wide, "moving", 51, 50), ""); /* too soon */
	assert_string_equal(step_of(&p, &wide, "moving", 250, 101),
	                    "\rmoving [####################] 100%  1 GiB/s\033[K");
	assert_string_equal(step_of(&p, &narrow, "moving", 7, 300), "\rmoving   7%  1 GiB/s\033[K");
	ui_progress_end(&p, &wide, false, &buf);
	assert_string_equal(text_of(&buf), "\n");
	(void)step_of(&p, &wide, "x", 1, 0);
	ui_progress_end(&p, &wide, true, &buf);
	assert_string_equal(text_of(&buf), "\r\033[K");
	ui_progress_end(&p, &wide, true, &buf); /* nothing stands there */
	assert_string_equal(text_of(&buf), "");
}

static void progress_never_reaches_the_last_column(void **state)
{
	char what[200];

	(void)state;
	memset(what, 'w', sizeof(what) - 1);
	what[sizeof(what) - 1] = '\0';
	for (uint32_t width = UI_COLUMNS_MIN; width < 150; width++) {
		const struct ui_style style = {.columns = width, .utf8 = true};
		const struct ui_style any = {.columns = 1, .utf8 = true};

		for (size_t len = 0; len < sizeof(what); len += 13) {
			struct ui_progress p = {0};
			const char *text =
				step_of(&p, &style, what + sizeof(what) - 1 - len, (int)len / 2, 0);
			size_t columns_used = ui_width(text + 1, &any) - 3; /* "\r", "\033[K" */

			assert_true(columns_used < width);
		}
	}
}

/* ---- the terminal ---- */

static void style_follows_terminal_and_environment(void **state)
{
	const struct winsize size = {.ws_row = 24, .ws_col = 123};
	struct ui_style style;
	int master = -1;
	int slave = -1;
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

	(void)state;
	ui_style_get(null, &style);
	assert_int_equal(style.columns, 0);
	assert_false(style.color);
	(void)close(null);
	assert_int_equal(openpty(&master, &slave, NULL, NULL, &size), 0);
	assert_int_equal(setenv("TERM", "xterm", 1), 0);
	assert_int_equal(unsetenv("NO_COLOR"), 0);
	assert_int_equal(setenv("LC_ALL", "de_DE.UTF-8", 1), 0);
	ui_style_get(slave, &style);
	assert_int_equal(style.columns, 123);
	assert_true(style.color);
	assert_true(style.utf8);
	assert_int_equal(setenv("NO_COLOR", "1", 1), 0);
	assert_int_equal(setenv("LC_ALL", "C", 1), 0);
	ui_style_get(slave, &style);
	assert_false(style.color);
	assert_false(style.utf8);
	assert_int_equal(setenv("NO_COLOR", "", 1), 0);
	assert_int_equal(setenv("TERM", "dumb", 1), 0);
	ui_style_get(slave, &style);
	assert_false(style.color);
	assert_int_equal(ioctl(slave, TIOCSWINSZ, &(struct winsize){.ws_col = 3}), 0);
	ui_style_get(slave, &style);
	assert_int_equal(style.columns, UI_COLUMNS_MIN);
	(void)close(master);
	(void)close(slave);
}

/* ---- allocation ---- */

static int everything(void)
{
	struct ui_table *table = NULL;
	struct ui_details *details = NULL;
	struct ui_buf buf = {0};
	char *text = NULL;
	int err = ui_table_create(columns, ARRAY_LEN(columns), &table);

	if (err == 0) {
		err = ui_details_create(&details);
	}
	if (err == 0) {
		for (int i = 0; i < 90; i++) {
			ui_table_cell(table, UI_PLAIN, "%d", i);
		}
		ui_details_section(details, "x");
		ui_details_add(details, "k", UI_PLAIN, "%s", "v");
		ui_table_render(table, &narrow, &buf);
		ui_details_render(details, &narrow, &buf);
	}

	int end = ui_buf_end(&buf, &text);

	assert_true((end == 0) == (text != NULL));
	free(text);
	ui_table_destroy(table);
	ui_details_destroy(details);
	return err != 0 ? err : end;
}

static void every_allocation_failure_is_told_at_the_end(void **state)
{
	uint32_t k = 1;

	(void)state;
	for (; fault_arm(FAULT_ALLOC, k), everything() == -ENOMEM; k++) {
	}
	assert_false(fault_hit(FAULT_ALLOC));
	fault_arm(FAULT_ALLOC, 0);
	assert_true(k > 8);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(text_is_cut_with_an_ellipsis_at_a_character),
		cmocka_unit_test(nothing_in_a_text_drives_the_terminal),
		cmocka_unit_test(a_table_in_a_pipe_is_whole_and_plain),
		cmocka_unit_test(a_table_on_a_terminal_is_cut_to_its_width),
		cmocka_unit_test(a_terminal_has_colours),
		cmocka_unit_test(columns_that_may_not_be_cut_are_whole_however_narrow),
		cmocka_unit_test(an_empty_table_is_its_title),
		cmocka_unit_test(no_line_is_wider_than_the_terminal),
		cmocka_unit_test(details_are_aligned_and_continue_under_themselves),
		cmocka_unit_test(details_are_folded_at_spaces_on_a_terminal),
		cmocka_unit_test(verdicts_are_lines_with_a_hint),
		cmocka_unit_test(in_a_pipe_progress_is_a_line_now_and_then),
		cmocka_unit_test(on_a_terminal_progress_is_one_line_drawn_again),
		cmocka_unit_test(progress_never_reaches_the_last_column),
		cmocka_unit_test(style_follows_terminal_and_environment),
		cmocka_unit_test(every_allocation_failure_is_told_at_the_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
