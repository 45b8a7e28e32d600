/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/fence/fence_agent.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/errbuf.h"
#include "tests/lib/test.h"
#include "tests/lib/tree.h"

static struct tree tree;
static struct fence_agent agent;
static char dir[128];

/* An agent like those of the package: options from standard input, state in a file beside it. */
static const char good[] = "#!/bin/sh\n"
			   "d=${0%/*}\n"
			   "while read -r line; do case $line in\n"
			   "action=*) action=${line#action=} ;;\n"
			   "passwd=*) passwd=${line#passwd=} ;;\n"
			   "esac; done\n"
			   "echo \"$# $action $passwd\" >>$d/asked\n"
			   "case $action in\n"
			   "off) [ -e $d/deaf ] || touch $d/off ;;\n"
			   "status) [ ! -e $d/off ] || exit 2 ;;\n"
			   "*) exit 1 ;;\n"
			   "esac\n";

static int setup(void **state)
{
	(void)state;
	tree_init(&tree);
	(void)snprintf(dir, sizeof(dir), "%s/sbin", tree.root);
	tree_program(&tree, "/sbin/fence_good", good);
	agent = (struct fence_agent){
		.dir = dir,
		.name = "fence_good",
		.options = "ip=192.0.2.1\npasswd=secret",
		.timeout_ns = 20 * NS_PER_S,
		.poll_ns = 20 * NS_PER_MS,
	};
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	tree_fini(&tree);
	return 0;
}

static void asked(const char *text)
{
	char path[160];
	char buf[256] = "";

	(void)snprintf(path, sizeof(path), "%s/asked", dir);
	FILE *f = fopen(path, "re");

	assert_non_null(f);
	assert_true(fread(buf, 1, sizeof(buf) - 1, f) > 0);
	(void)fclose(f);
	assert_string_equal(buf, text);
}

static void off_is_read_back_and_no_secret_is_an_argument(void **state)
{
	struct errbuf eb = {0};

	(void)state;
	assert_int_equal(fence_agent_off(&agent, &eb), 0);
	asked("0 off secret\n0 status secret\n");
}

static void the_status_is_what_the_agent_says(void **state)
{
	enum fence_power power;

	(void)state;
	assert_int_equal(fence_agent_status(&agent, &power, NULL), 0);
	assert_int_equal(power, FENCE_POWER_ON);
	tree_file(&tree, "/sbin/off", "");
	assert_int_equal(fence_agent_status(&agent, &power, NULL), 0);
	assert_int_equal(power, FENCE_POWER_OFF);
}

static void an_agent_that_only_says_so_proves_nothing(void **state)
{
	struct errbuf eb = {0};

	(void)state;
	tree_file(&tree, "/sbin/deaf", "");
	agent.timeout_ns = NS_PER_S;
	int err = fence_agent_off(&agent, &eb);

	assert_true(err == -EBUSY || err == -ETIMEDOUT); /* a slow machine: in the middle of one */
	if (err == -EBUSY) {
		assert_non_null(strstr(eb.text, "still on"));
	}
}

static void a_failure_comes_with_the_agents_words(void **state)
{
	struct errbuf eb = {0};

	(void)state;
	tree_program(&tree, "/sbin/fence_bad",
	             "#!/bin/sh\necho 'Unable to connect\033[2J'\nexit 1\n");
	agent.name = "fence_bad";
	assert_int_equal(fence_agent_off(&agent, &eb), -EIO);
	assert_string_equal(eb.text, "fence_bad off: exit status 1: Unable to connect?[2J");
	assert_null(strstr(eb.text, "secret"));
}

static void no_value_is_left_in_a_text(void **state)
{
	static const struct {
		const char *options;
		const char *before;
		const char *after;
	} all[] = {
		{"ip=1.2.3.4\npasswd=tiger42\nx=ab\nempty=\nlast",
	         "login root/tiger42 failed, tiger42 is wrong, ab",
	         "login root/******* failed, ******* is wrong, ab"},
		/* One that is a part of another, whichever comes first. */
		{"username=admin\npasswd=admin123\n", "admin: admin123 is wrong",
	         "*****: ******** is wrong"},
		{"passwd=admin123\nusername=admin\n", "admin: admin123 is wrong",
	         "*****: ******** is wrong"},
		/* They overlap, or one overlaps itself. */
		{"a=xyzabc\nb=abc123\n", "is xyzabc123.", "is *********."},
		{"a=aba\n", "ababa!", "*****!"},
		/* What a blotted one looks like. */
		{"passwd=****\n", "it is *****, no", "it is *****, no"},
		/* The text ends within one. */
		{"passwd=tiger42\n", "wrong: tige", "wrong: ****"},
		{"passwd=tiger42\n", "what a ti", "what a ti"},
		{"", "tiger42", "tiger42"},
		{"passwd=tiger42\n", "", ""},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		char text[128];

		(void)snprintf(text, sizeof(text), "%s", all[i].before);
		fence_agent_scrub(all[i].options, text);
		assert_string_equal(text, all[i].after);
	}
}

/* The secret lies over the end of what is kept of the agent's words, and has a byte that is not
 * shown as it is. */
static void a_secret_is_not_shown_by_halves(void **state)
{
	struct errbuf eb = {0};

	(void)state;
	tree_program(
		&tree, "/sbin/fence_long",
		"#!/bin/sh\nprintf '%0440d%s\\n' 0 \"$(printf 'hush\\033hush-hush')\"\nexit 1\n");
	agent.name = "fence_long";
	agent.options = "passwd=hush\033hush-hush\n";
	assert_int_equal(fence_agent_off(&agent, &eb), -EIO);
	assert_null(strstr(eb.text, "hush"));
	tree_program(&tree, "/sbin/fence_long",
	             "#!/bin/sh\nprintf 'no: %s\\n' \"$(printf 'hush\\033hush-hush')\"\nexit 1\n");
	assert_int_equal(fence_agent_off(&agent, &eb), -EIO);
	assert_string_equal(eb.text, "fence_long off: exit status 1: no: **************");
}

static void a_hanging_agent_is_ended_at_the_deadline(void **state)
{
	struct errbuf eb = {0};

	(void)state;
	tree_program(&tree, "/sbin/fence_hang", "#!/bin/sh\nsleep 1000\n");
	agent.name = "fence_hang";
	agent.timeout_ns = NS_PER_S / 5;
	assert_int_equal(fence_agent_off(&agent, &eb), -ETIMEDOUT);
}

static void a_missing_agent_says_what_to_install(void **state)
{
	struct errbuf eb = {0};

	(void)state;
	agent.name = "fence_none";
	assert_int_equal(fence_agent_off(&agent, &eb), -ENOENT);
	assert_non_null(strstr(eb.hint, "fence-agents"));
}

static void refuse(const char *name, const char *options)
{
	struct errbuf eb = {0};

	agent.name = name;
	agent.options = options;
	assert_int_equal(fence_agent_off(&agent, &eb), -EINVAL);
	assert_null(strstr(eb.text, "secret"));
}

static void names_and_options_cannot_become_something_else(void **state)
{
	(void)state;
	refuse("../bin/sh", "");
	refuse("fence_../sh", "");
	refuse("reboot", "");
	refuse("", "");
	refuse("fence_good", "passwd");
	refuse("fence_good", "=secret");
	refuse("fence_good", "ip=1\n\npasswd=secret");
	refuse("fence_good", "ip=1\naction=on\npasswd=secret");
	refuse("fence_good", "option=reboot");
	agent.name = "fence_good";
	agent.options = "";
	assert_int_equal(fence_agent_check(&agent, NULL), 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(off_is_read_back_and_no_secret_is_an_argument),
		T(the_status_is_what_the_agent_says),
		T(an_agent_that_only_says_so_proves_nothing),
		T(a_failure_comes_with_the_agents_words),
		T(no_value_is_left_in_a_text),
		T(a_secret_is_not_shown_by_halves),
		T(a_hanging_agent_is_ended_at_the_deadline),
		T(a_missing_agent_says_what_to_install),
		T(names_and_options_cannot_become_something_else),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
