/* SPDX-License-Identifier: Apache-2.0 */
#include "base/run.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "tests/lib/test.h"

#define LONG_NS (20 * NS_PER_S)

static int sh(const char *script, uint64_t timeout_ns, char *buf, size_t len)
{
	const char *argv[] = {"/bin/sh", "-c", script, NULL};

	return run_capture(argv, timeout_ns, buf, len);
}

static void output_and_status_come_back(void **state)
{
	char buf[64];

	(void)state;
	assert_int_equal(sh("echo out; echo err >&2; exit 3", LONG_NS, buf, sizeof(buf)), 3);
	assert_string_equal(buf, "out\nerr\n");
	assert_int_equal(sh("exit 0", LONG_NS, buf, sizeof(buf)), 0);
	assert_string_equal(buf, "");
}

static void the_input_is_what_it_reads(void **state)
{
	const char *argv[] = {"/bin/cat", NULL};
	char buf[64];

	(void)state;
	assert_int_equal(run_capture_input(argv, "one\ntwo", 7, LONG_NS, buf, sizeof(buf)), 0);
	assert_string_equal(buf, "one\ntwo");
	assert_int_equal(run_capture_input(argv, "", 0, LONG_NS, buf, sizeof(buf)), 0);
	assert_string_equal(buf, "");
}

static void long_output_is_cut_and_does_not_block(void **state)
{
	char buf[8];

	(void)state;
	assert_int_equal(sh("i=0; while [ $i -lt 20000 ]; do echo 0123456789; i=$((i+1)); done",
	                    LONG_NS, buf, sizeof(buf)),
	                 0);
	assert_string_equal(buf, "0123456");
}

static void the_deadline_kills_the_whole_group(void **state)
{
	uint64_t begin = clock_now_ns();
	char buf[64];

	(void)state;
	assert_int_equal(
		sh("echo started; sleep 1000 & sleep 1000", NS_PER_S / 2, buf, sizeof(buf)),
		-ETIMEDOUT);
	assert_string_equal(buf, "started\n");
	assert_true(clock_now_ns() - begin < LONG_NS);
}

static void a_child_left_behind_is_not_waited_for(void **state)
{
	uint64_t begin = clock_now_ns();
	char buf[64];

	(void)state;
	/* The grandchild keeps our pipe open. It ends by itself. */
	assert_int_equal(sh("sleep 30 & echo done", LONG_NS, buf, sizeof(buf)), 0);
	assert_string_equal(buf, "done\n");
	assert_true(clock_now_ns() - begin < LONG_NS);
}

static void *stop_soon(void *arg)
{
	struct timespec pause = {.tv_nsec = 20000000};

	(void)nanosleep(&pause, NULL);
	atomic_store((atomic_bool *)arg, true);
	return NULL;
}

static void it_can_be_stopped_from_outside(void **state)
{
	const char *const argv[] = {"/bin/sleep", "1000", NULL};
	atomic_bool stop = false;
	const struct run_input input = {.bytes = "", .stop = &stop};
	pthread_t thread;
	char said[16];

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, stop_soon, &stop), 0);
	assert_int_equal(run_capture_stop(argv, &input, 1000 * NS_PER_S, said, sizeof(said)),
	                 -ECANCELED);
	assert_int_equal(pthread_join(thread, NULL), 0);
}

static void what_cannot_run_is_told(void **state)
{
	const char *missing[] = {"/no/such/program", NULL};
	const char *data[] = {"/etc/passwd", NULL};
	char buf[64];

	(void)state;
	assert_int_equal(run_capture(missing, LONG_NS, buf, sizeof(buf)), -ENOENT);
	assert_int_equal(run_capture(data, LONG_NS, buf, sizeof(buf)), -EACCES);
	assert_int_equal(sh("kill -9 $$", LONG_NS, buf, sizeof(buf)), -EINTR);
}

static void input_and_environment_are_empty(void **state)
{
	char buf[256];

	(void)state;
	assert_int_equal(sh("cat; env | cut -d= -f1 | grep -v -e '^_$' -e PWD -e SHLVL | sort",
	                    LONG_NS, buf, sizeof(buf)),
	                 0);
	assert_string_equal(buf, "LC_ALL\nPATH\n");
}

static void blocked_signals_are_not_inherited(void **state)
{
	sigset_t set;
	char buf[64];

	(void)state;
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGTERM);
	assert_int_equal(sigprocmask(SIG_BLOCK, &set, NULL), 0);
	assert_int_equal(sh("kill -TERM $$; echo survived", LONG_NS, buf, sizeof(buf)), -EINTR);
	assert_int_equal(sigprocmask(SIG_UNBLOCK, &set, NULL), 0);
	assert_string_equal(buf, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(output_and_status_come_back),
		cmocka_unit_test(the_input_is_what_it_reads),
		cmocka_unit_test(long_output_is_cut_and_does_not_block),
		cmocka_unit_test(the_deadline_kills_the_whole_group),
		cmocka_unit_test(a_child_left_behind_is_not_waited_for),
		cmocka_unit_test(it_can_be_stopped_from_outside),
		cmocka_unit_test(what_cannot_run_is_told),
		cmocka_unit_test(input_and_environment_are_empty),
		cmocka_unit_test(blocked_signals_are_not_inherited),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
