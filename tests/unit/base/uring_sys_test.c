/* SPDX-License-Identifier: Apache-2.0 */

/* uring_sys_test - where the kernel refuses io_uring, the other backend is taken by itself. */

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/uring.h"
#include "tests/unit/base/uring_fixture.h"

/* Let io_uring_setup() fail with @err from here on. */
static int forbid_io_uring(int err)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)err),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog prog = {.len = ARRAY_LEN(code), .filter = code};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
		return -errno;
	}
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) != 0 ? -errno : 0;
}

/* In a child: its exit status says what happened. */
static int backend_when_forbidden(int err)
{
	const struct uring_cfg cfg = {.entries = 4};
	struct uring *ring = NULL;
	struct probe p;

	if (forbid_io_uring(err) != 0) {
		return 77;
	}

	int ret = uring_create(&cfg, &ring, NULL);

	if (ret != 0) {
		return ret == -err ? 1 : 2;
	}
	if (strcmp(uring_backend(ring), "syscalls") != 0) {
		return 3;
	}
	if (uring_prep_nop(ring, probe_op(&p)) != 0 || uring_wait(ring, UINT64_MAX) != 1 ||
	    p.calls != 1) {
		return 4;
	}
	uring_destroy(ring);
	return 0;
}

static int status_when_forbidden(int err)
{
	int status = 0;
	pid_t child = fork();

	assert_true(child >= 0);
	if (child == 0) {
		_exit(backend_when_forbidden(err));
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77) {
		skip(); /* no seccomp here */
	}
	return WEXITSTATUS(status);
}

static void a_kernel_without_io_uring_gets_system_calls(void **state)
{
	(void)state;
	assert_int_equal(status_when_forbidden(ENOSYS), 0);
}

static void a_policy_against_io_uring_gets_system_calls(void **state)
{
	(void)state;
	assert_int_equal(status_when_forbidden(EPERM), 0);
	assert_int_equal(status_when_forbidden(EACCES), 0);
}

static void another_failure_is_an_error_not_a_silent_fallback(void **state)
{
	(void)state;
	assert_int_equal(status_when_forbidden(EMFILE), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_kernel_without_io_uring_gets_system_calls),
		cmocka_unit_test(a_policy_against_io_uring_gets_system_calls),
		cmocka_unit_test(another_failure_is_an_error_not_a_silent_fallback),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
