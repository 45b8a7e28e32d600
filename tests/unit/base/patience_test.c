/* SPDX-License-Identifier: Apache-2.0 */
#include "base/patience.h"

#include <errno.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "tests/lib/test.h"

struct work {
	sem_t go;
	sem_t dropped;
	int ran;
};

static void work_init(struct work *w)
{
	*w = (struct work){0};
	assert_int_equal(sem_init(&w->go, 0, 0), 0);
	assert_int_equal(sem_init(&w->dropped, 0, 0), 0);
}

static void work_fini(struct work *w)
{
	(void)sem_destroy(&w->go);
	(void)sem_destroy(&w->dropped);
}

static void hang(void *arg)
{
	struct work *w = arg;

	while (sem_wait(&w->go) != 0) {
	}
	w->ran++;
}

static void drop(void *arg)
{
	struct work *w = arg;

	(void)sem_post(&w->dropped);
}

static void what_ends_in_time_is_the_callers_again(void **state)
{
	struct work w;

	(void)state;
	work_init(&w);
	assert_int_equal(sem_post(&w.go), 0);
	assert_int_equal(patience_run(hang, drop, &w, 60 * PATIENCE_NS), 0);
	assert_int_equal(w.ran, 1);
	assert_int_equal(sem_trywait(&w.dropped), -1);
	work_fini(&w);
}

static void what_hangs_is_left_and_dropped_when_it_ends(void **state)
{
	struct work w;

	(void)state;
	work_init(&w);
	assert_int_equal(patience_run(hang, drop, &w, 1000000), -ETIMEDOUT);
	assert_int_equal(sem_trywait(&w.dropped), -1);
	assert_int_equal(sem_post(&w.go), 0);
	while (sem_wait(&w.dropped) != 0) {
	}
	assert_int_equal(w.ran, 1);
	work_fini(&w);
}

static void many_that_hang_are_waited_for_once(void **state)
{
	struct work w;
	struct errbuf eb = {0};
	uint64_t began_ns;

	(void)state;
	work_init(&w);
	assert_int_equal(patience_run(hang, drop, &w, 1000000), -ETIMEDOUT);
	began_ns = clock_now_ns();
	for (uint32_t i = 1; i < PATIENCE_LEFT_MAX; i++) {
		assert_int_equal(patience_run(hang, drop, &w, 3600 * NS_PER_S), -ETIMEDOUT);
	}
	assert_true(clock_now_ns() - began_ns < 1800 * NS_PER_S);
	assert_int_equal(patience_run(hang, drop, &w, 3600 * NS_PER_S), -EBUSY);
	assert_int_equal(patience_stat("/", &eb), -ETIMEDOUT);
	assert_non_null(strstr(eb.text, "does not answer"));
	for (uint32_t i = 0; i < PATIENCE_LEFT_MAX; i++) {
		assert_int_equal(sem_post(&w.go), 0);
		while (sem_wait(&w.dropped) != 0) {
		}
	}
	assert_int_equal(patience_stat("/", &eb), 0);
	work_fini(&w);
}

static void what_is_there_is_told_from_what_is_not(void **state)
{
	struct errbuf eb = {0};

	(void)state;
	assert_int_equal(patience_stat("/", &eb), 0);
	assert_int_equal(patience_stat("/nowhere/to/be/seen", &eb), -ENOENT);
	assert_non_null(strstr(eb.text, "/nowhere/to/be/seen"));
	assert_int_equal(patience_file("/", &eb), -EISDIR);
	assert_int_equal(patience_file("/dev/null", &eb), 0);
}

static void without_memory_it_says_so(void **state)
{
	int err = -ENOMEM;

	(void)state;
	for (uint32_t k = 1; err == -ENOMEM; k++) {
		fault_arm(FAULT_ALLOC, k);
		err = patience_stat("/", NULL);
		assert_true(err == 0 || err == -ENOMEM);
	}
	fault_arm(FAULT_ALLOC, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_ends_in_time_is_the_callers_again),
		cmocka_unit_test(what_hangs_is_left_and_dropped_when_it_ends),
		cmocka_unit_test(many_that_hang_are_waited_for_once),
		cmocka_unit_test(what_is_there_is_told_from_what_is_not),
		cmocka_unit_test(without_memory_it_says_so),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
