/* SPDX-License-Identifier: Apache-2.0 */

/* The guard as a process of its own, with a child of the test as the worker. */

#include "bin/godwitd/ha_guard.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "cluster/vmops.h"
#include "tests/lib/test.h"
#include "tests/lib/tree.h"

#define DEADLINE_NS (60 * NS_PER_S)

struct fixture {
	struct tree tree;
	struct guard *guard;
	struct guard_vm vm;
	pid_t worker;
};

static struct guard_cfg cfg_of(const struct fixture *f)
{
	return (struct guard_cfg){.run_dir = f->tree.root, .watchdog_s = 4, .nodeid = 3};
}

/* State and start time of a process; 'X' if there is none. */
static char look(pid_t pid, unsigned long long *start)
{
	char path[64];
	char buf[512];
	char state = 'X';
	FILE *file;
	char *at;

	(void)snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	file = fopen(path, "re");
	if (file == NULL) {
		return state;
	}
	if (fgets(buf, sizeof(buf), file) != NULL && (at = strrchr(buf, ')')) != NULL) {
		state = at[2];
		for (int i = 2; i < 22; i++) {
			at = strchr(at + 1, ' ');
			assert_non_null(at);
		}
		*start = strtoull(at + 1, NULL, 10);
	}
	(void)fclose(file);
	return state;
}

static void write_pid(const struct fixture *f, unsigned long long start)
{
	FILE *file = fopen(f->vm.pid_path, "we");

	assert_non_null(file);
	assert_true(fprintf(file, "%d %llu\n", f->worker, start) > 0);
	assert_int_equal(fclose(file), 0);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct guard_cfg cfg;
	unsigned long long start = 0;

	assert_non_null(f);
	tree_init(&f->tree);
	cfg = cfg_of(f);
	assert_int_equal(guard_open(&cfg, &f->guard, NULL), 0);
	guard_begin(f->guard, 7);
	f->worker = fork();
	assert_true(f->worker >= 0);
	if (f->worker == 0) {
		for (;;) {
			(void)pause();
		}
	}
	(void)look(f->worker, &start);
	f->vm = (struct guard_vm){.role = 5, .token = 9};
	(void)snprintf(f->vm.pid_path, sizeof(f->vm.pid_path), "%s/worker.pid", f->tree.root);
	write_pid(f, start);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	(void)kill(f->worker, SIGKILL);
	(void)waitpid(f->worker, NULL, 0);
	guard_begin(f->guard, 0); /* nothing left: it ends when we have */
	guard_close(f->guard);
	tree_fini(&f->tree);
	free(f);
	return 0;
}

static void until_state(const struct fixture *f, const char *states)
{
	const struct timespec tick = {.tv_nsec = 5000000};
	uint64_t end_ns = clock_now_ns() + DEADLINE_NS;
	unsigned long long start;

	while (strchr(states, look(f->worker, &start)) == NULL) {
		assert_true(clock_now_ns() < end_ns);
		(void)nanosleep(&tick, NULL);
	}
}

static void lease_for(const struct fixture *f, int64_t pause_ms, int64_t kill_ms)
{
	uint64_t now_ns = clock_boot_ns();
	const struct vmops_lease lease = {
		.since_ns = now_ns,
		.lease_ns = 10 * NS_PER_S,
		.pause_ns = now_ns + (uint64_t)(pause_ms * (int64_t)NS_PER_MS),
		.kill_ns = now_ns + (uint64_t)(kill_ms * (int64_t)NS_PER_MS),
		.pet_until_ns = now_ns + NS_PER_S,
	};

	guard_lease(f->guard, &lease);
}

static void a_worker_stands_still_and_is_killed_as_its_lease_ends(void **state)
{
	struct fixture *f = *state;

	lease_for(f, 600000, 600000);
	assert_int_equal(guard_add(f->guard, &f->vm), 0);
	lease_for(f, 0, 600000);
	until_state(f, "T");
	lease_for(f, 600000, 600000); /* renewed in time */
	until_state(f, "SR");
	lease_for(f, 0, 600000);
	until_state(f, "T");
	lease_for(f, 0, 0);
	until_state(f, "ZX");
	assert_true(guard_alive(f->guard));
}

static void without_a_lease_nothing_runs(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(guard_add(f->guard, &f->vm), 0);
	until_state(f, "ZX");
}

static void another_process_with_the_workers_number_is_left_alone(void **state)
{
	struct fixture *f = *state;
	const struct timespec some = {.tv_nsec = 10 * GUARD_TICK_MS * 1000000l};
	unsigned long long start = 0;

	(void)look(f->worker, &start);
	write_pid(f, start + 1);
	assert_int_equal(guard_add(f->guard, &f->vm), 0);
	(void)nanosleep(&some, NULL); /* what must not happen has no event to wait for */
	assert_non_null(strchr("SR", look(f->worker, &start)));
	write_pid(f, start);
	until_state(f, "ZX");
}

static void the_page_is_there_for_the_next_service(void **state)
{
	struct fixture *f = *state;
	struct guard_cfg cfg = cfg_of(f);
	struct guard *next;
	struct vmops_lease lease;
	struct guard_vm vm;

	lease_for(f, 600000, 600000);
	assert_int_equal(guard_add(f->guard, &f->vm), 0);
	assert_int_equal(guard_open(&cfg, &next, NULL), 0);
	assert_int_equal(guard_run(next, &lease), 7);
	assert_int_equal(lease.lease_ns, 10 * NS_PER_S);
	assert_true(guard_find(next, 5, &vm));
	assert_int_equal(vm.token, 9);
	assert_string_equal(vm.pid_path, f->vm.pid_path);
	assert_false(guard_find(next, 6, &vm));
	guard_del(next, 5);
	assert_false(guard_find(f->guard, 5, &vm));
	guard_close(next);
	/* Of another node it is worth nothing. */
	cfg.nodeid = 4;
	assert_int_equal(guard_open(&cfg, &next, NULL), 0);
	assert_int_equal(guard_run(next, &lease), 0);
	assert_int_equal(lease.since_ns, 0);
	guard_close(next);
}

static void there_is_room_for_as_many_as_a_host_has(void **state)
{
	struct fixture *f = *state;
	struct guard_vm vm = {.token = 1, .pid_path = "/nowhere"};

	for (vm.role = 1; vm.role <= GUARD_VMS_MAX; vm.role++) {
		assert_true(guard_add(f->guard, &vm) >= 0);
	}
	assert_int_equal(guard_add(f->guard, &vm), -ENOSPC);
	vm.role = 17; /* again: in its own place */
	assert_true(guard_add(f->guard, &vm) >= 0);
}

/* Nobody holds the lock: no guard lives. */
static bool nobody_guards(const char *dir)
{
	char path[256];
	bool nobody;
	int fd;

	(void)snprintf(path, sizeof(path), "%s/ha-guard.lock", dir);
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	nobody = flock(fd, LOCK_EX | LOCK_NB) == 0;
	(void)close(fd);
	return nobody;
}

/* One whose service has gone leaves when its lease is over, in the same moment in which the next
 * service starts a VM. */
static void a_guard_that_has_left_is_replaced_before_a_worker_runs(void **state)
{
	const struct timespec tick = {.tv_nsec = 1000000};
	struct fixture *f = *state;
	struct guard *first = f->guard;
	struct guard_cfg cfg = cfg_of(f);
	uint64_t end_ns = clock_now_ns() + DEADLINE_NS;
	char dir[128];
	pid_t service;
	int status = -1;

	(void)snprintf(dir, sizeof(dir), "%s/next", f->tree.root);
	tree_dir(&f->tree, "/next");
	cfg.run_dir = dir;
	service = fork();
	assert_true(service >= 0);
	if (service == 0) {
		if (guard_open(&cfg, &f->guard, NULL) == 0) {
			guard_begin(f->guard, 7);
			lease_for(f, 600000, 600000);
		}
		_exit(0);
	}
	assert_int_equal(waitpid(service, &status, 0), service);
	while (nobody_guards(dir)) {
		assert_true(clock_now_ns() < end_ns);
		(void)nanosleep(&tick, NULL);
	}
	assert_int_equal(guard_open(&cfg, &f->guard, NULL), 0);
	lease_for(f, 0, 0);
	while (!nobody_guards(dir)) {
		assert_true(clock_now_ns() < end_ns);
		(void)nanosleep(&tick, NULL);
	}
	assert_true(guard_add(f->guard, &f->vm) >= 0);
	until_state(f, "ZX");
	guard_begin(f->guard, 0);
	guard_close(f->guard);
	f->guard = first;
}

static void the_watchdog_is_not_petted_after_a_standstill(void **state)
{
	(void)state;
	assert_true(guard_may_pet(1000, 2000, false, 0));
	assert_true(guard_may_pet(1000, 2000, true, 2001));
	assert_false(guard_may_pet(1000, 2000, true, 2000));
	assert_false(guard_may_pet(0, NS_PER_S, false, 0));
	assert_false(guard_may_pet(0, NS_PER_S, true, UINT64_MAX));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_worker_stands_still_and_is_killed_as_its_lease_ends),
		TEST(without_a_lease_nothing_runs),
		TEST(another_process_with_the_workers_number_is_left_alone),
		TEST(the_page_is_there_for_the_next_service),
		TEST(there_is_room_for_as_many_as_a_host_has),
		TEST(a_guard_that_has_left_is_replaced_before_a_worker_runs),
		cmocka_unit_test(the_watchdog_is_not_petted_after_a_standstill),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
