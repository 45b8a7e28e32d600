/* SPDX-License-Identifier: Apache-2.0 */
#include "base/proc.h"

#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/lib/test.h"

static void a_process_keeps_its_start_whatever_it_is_called(void **state)
{
	uint64_t start = proc_start(getpid());

	(void)state;
	assert_true(start != 0);
	assert_int_equal(prctl(PR_SET_NAME, "a) b 1 (2 ) 3"), 0);
	assert_true(proc_start(getpid()) == start);
	assert_true(proc_start(1) != 0);
	assert_true(proc_start(1) <= start);
}

static void who_has_ended_has_none(void **state)
{
	pid_t pid = fork();

	(void)state;
	assert_true(pid >= 0);
	if (pid == 0) {
		_exit(0);
	}
	assert_true(proc_start(pid) != 0); /* it was not waited for yet */
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_true(proc_start(pid) == 0);
	assert_true(proc_start(-1) == 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_process_keeps_its_start_whatever_it_is_called),
		cmocka_unit_test(who_has_ended_has_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
