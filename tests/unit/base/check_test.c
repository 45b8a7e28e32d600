/* SPDX-License-Identifier: Apache-2.0 */
#include "base/check.h"

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "tests/lib/child.h"
#include "tests/lib/test.h"

static int check_fails(void *arg)
{
	const int *zero = arg;

	CHECK(*zero == 0);
	CHECK(*zero == 1);
	return 0;
}

static void a_failed_check_names_itself_and_aborts(void **state)
{
	struct child c;
	int zero = 0;

	(void)state;
	assert_int_equal(child_run(check_fails, &zero, &c), 0);
	assert_int_equal(c.signo, SIGABRT);
	assert_non_null(strstr(c.text, "check_test.c:"));
	assert_non_null(strstr(c.text, "CHECK(*zero == 1) failed\n"));
	assert_null(strstr(c.text, "CHECK(*zero == 0)"));
}

struct paths {
	char dir[64];
	char log[96];
	char dump[96];
};

static int check_fails_with_log(void *arg)
{
	const struct paths *p = arg;
	const struct log_cfg cfg = {.name = "check-test",
	                            .level = LOG_LEVEL_WARN,
	                            .to_stderr = true,
	                            .file = p->log,
	                            .blackbox_bytes = 64 << 10};
	int zero = 0;

	if (log_open(&cfg) != 0) {
		return 1;
	}
	log_blackbox_path(p->dump);
	log_debug("test", "only the blackbox remembers n=%d", 4711);
	return check_fails(&zero);
}

static bool file_has(const char *path, const char *text)
{
	static char buf[256 << 10];
	FILE *f = fopen(path, "rbe");

	if (f == NULL) {
		return false;
	}

	size_t n = fread(buf, 1, sizeof(buf), f);

	(void)fclose(f);
	return memmem(buf, n, text, strlen(text)) != NULL;
}

static void a_failed_check_leaves_a_line_in_the_log_and_the_blackbox_on_disk(void **state)
{
	struct paths p = {.dir = "/tmp/godwit-check-XXXXXX"};
	struct child c;

	(void)state;
	assert_non_null(mkdtemp(p.dir));
	(void)snprintf(p.log, sizeof(p.log), "%s/log", p.dir);
	(void)snprintf(p.dump, sizeof(p.dump), "%s/dump", p.dir);
	assert_int_equal(child_run(check_fails_with_log, &p, &c), 0);
	assert_int_equal(c.signo, SIGABRT);
	assert_true(file_has(p.log, " err   check: failed cond=\"*zero == 1\" file="));
	assert_false(file_has(p.log, "only the blackbox"));
	assert_true(file_has(p.dump, "test: only the blackbox remembers n=4711"));
	assert_true(file_has(p.dump, "check: failed cond="));
	(void)unlink(p.log);
	(void)unlink(p.dump);
	assert_int_equal(rmdir(p.dir), 0); /* nothing else was left there */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_failed_check_names_itself_and_aborts),
		cmocka_unit_test(a_failed_check_leaves_a_line_in_the_log_and_the_blackbox_on_disk),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
