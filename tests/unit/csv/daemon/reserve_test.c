/* SPDX-License-Identifier: Apache-2.0 */

/* Keys of a volume on a model of a LUN: what the thread for it finds out, and when. */

#include "csv/daemon/reserve.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "base/loop.h"
#include "tests/lib/test.h"
#include "tests/unit/csv/pr/fake_target.h"

#define OURS 0x11u
#define OTHER 0x22u
#define WAIT_NS (60 * NS_PER_S)

/* One target for the threads of two reservations. */
struct lun {
	pthread_mutex_t lock;
	struct fake_target target;
};

struct path {
	struct lun *lun;
	struct fake_path path;
	uint32_t fail_at; /* the n-th command on it gets no answer; 0 = all do */
};

struct world {
	struct lun lun;
	struct path paths[2];
	struct loop *loop;
	struct reserve *r[2];
	struct reserve_state state[2];
	int preempts;
	int err;
	bool aborted;
};

static int run(void *arg, const uint8_t *cdb, bool out, void *data, size_t len, size_t *got,
               struct csv_pr_status *status)
{
	struct path *p = arg;
	int err;

	(void)pthread_mutex_lock(&p->lun->lock);
	if (p->fail_at != 0 && --p->fail_at == 0) {
		p->lun->target.fail = 1;
	}
	err = fake_door.run(&p->path, cdb, out, data, len, got, status);
	(void)pthread_mutex_unlock(&p->lun->lock);
	return err;
}

static const struct csv_pr_door door = {.run = run};

static void changed(void *arg)
{
	struct world *w = arg;

	for (uint32_t i = 0; i < 2; i++) {
		if (w->r[i] != NULL) {
			reserve_get(w->r[i], &w->state[i]);
		}
	}
	loop_stop(w->loop);
}

static struct reserve_cfg cfg_of(struct world *w, uint32_t i)
{
	return (struct reserve_cfg){
		.loop = w->loop,
		.fd = STDIN_FILENO,
		.key = i == 0 ? OURS : OTHER,
		.door = &door,
		.door_arg = &w->paths[i],
		.check_ns = 5 * NS_PER_MS,
		.changed = changed,
		.arg = w,
	};
}

static void late(void *arg)
{
	(void)arg;
	fail_msg("nothing happens");
}

static void turn(struct world *w)
{
	struct loop_timer *limit;

	assert_int_equal(loop_timer_add(w->loop, WAIT_NS, late, w, &limit), 0);
	loop_run(w->loop);
	loop_timer_del(limit);
}

static void enter(struct world *w, uint32_t i, bool registered)
{
	struct reserve_cfg cfg = cfg_of(w, i);

	cfg.registered = registered;
	w->state[i] = (struct reserve_state){0};
	assert_int_equal(reserve_create(&cfg, &w->r[i], NULL), 0);
	while (!w->state[i].known) {
		turn(w);
	}
}

static void begin(struct world *w)
{
	memset(w, 0, sizeof(*w));
	(void)pthread_mutex_init(&w->lun.lock, NULL);
	for (uint32_t i = 0; i < 2; i++) {
		w->paths[i] = (struct path){.lun = &w->lun, .path = {&w->lun.target, i}};
	}
	assert_int_equal(loop_create(&w->loop), 0);
}

/* The threads end on their own: not before the target is free. */
static void end(struct world *w)
{
	for (uint32_t i = 0; i < 2; i++) {
		if (w->r[i] != NULL && !w->state[i].left) {
			reserve_leave(w->r[i]);
		}
		while (w->r[i] != NULL && !w->state[i].left) {
			turn(w);
		}
		reserve_destroy(w->r[i]);
		w->r[i] = NULL;
	}
	loop_destroy(w->loop);
	/* A thread that left does nothing more with the target. */
}

static bool may_write(struct world *w, uint32_t i)
{
	bool may;

	(void)pthread_mutex_lock(&w->lun.lock);
	may = fake_may_write(&w->lun.target, i);
	(void)pthread_mutex_unlock(&w->lun.lock);
	return may;
}

static void preempted(void *arg, int err, bool aborted)
{
	struct world *w = arg;

	w->preempts++;
	w->err = err;
	w->aborted = aborted;
}

static void whose_key_is_taken_away_finds_out(void **state)
{
	static struct world w;

	(void)state;
	begin(&w);
	enter(&w, 0, false);
	assert_int_equal(w.state[0].level, CSV_PR_ABORT);
	assert_false(may_write(&w, 1));
	enter(&w, 1, false);
	assert_true(may_write(&w, 0) && may_write(&w, 1));

	assert_int_equal(reserve_preempt(w.r[0], OTHER, preempted, &w), 0);
	assert_int_equal(reserve_preempt(w.r[0], OTHER, preempted, &w), -EBUSY);
	while (w.preempts == 0 || !w.state[1].fenced) {
		turn(&w);
	}
	assert_int_equal(w.err, 0);
	assert_true(w.aborted);
	assert_false(may_write(&w, 1));
	/* It cannot do the same. */
	assert_int_equal(reserve_preempt(w.r[1], OURS, preempted, &w), -EAGAIN);
	/* Once more is no proof. */
	assert_int_equal(reserve_preempt(w.r[0], OTHER, preempted, &w), 0);
	while (w.preempts == 1) {
		turn(&w);
	}
	assert_int_equal(w.err, -EALREADY);
	assert_false(w.aborted);

	/* Opened again in the same run it stays out; a new run is let in. */
	reserve_destroy(w.r[1]);
	w.r[1] = NULL;
	enter(&w, 1, true);
	assert_true(w.state[1].fenced);
	assert_false(may_write(&w, 1));
	reserve_destroy(w.r[1]);
	w.r[1] = NULL;
	enter(&w, 1, false);
	assert_false(w.state[1].fenced);
	assert_true(may_write(&w, 1));
	end(&w);
}

/* The LUN registered it, and then did not answer: who opens the volume again in this run must not
 * put a key back that was taken away meanwhile. */
static void a_key_that_may_have_been_there_is_not_made_again(void **state)
{
	static struct world worlds[8]; /* threads of the last one may still be on their way out */
	uint32_t there = 0;

	(void)state;
	for (uint32_t k = 1; k <= ARRAY_LEN(worlds); k++) {
		struct world *w = &worlds[k - 1];

		begin(w);
		enter(w, 0, false);
		w->paths[1].fail_at = k;
		enter(w, 1, false);
		reserve_destroy(w->r[1]);
		w->r[1] = NULL;
		assert_int_equal(reserve_preempt(w->r[0], OTHER, preempted, w), 0);
		while (w->preempts == 0) {
			turn(w);
		}
		w->paths[1].fail_at = 0;
		if (w->err == 0) { /* it was there, and is gone: for this run for good */
			there++;
			assert_true(w->state[1].entered);
			enter(w, 1, w->state[1].entered);
			assert_true(w->state[1].fenced);
			assert_false(may_write(w, 1));
		}
		reserve_destroy(w->r[1]);
		w->r[1] = NULL;
		end(w);
	}
	assert_true(there > 3); /* after the registration, in several places */
}

static void the_same_run_goes_on_with_its_key(void **state)
{
	static struct world w;

	(void)state;
	begin(&w);
	enter(&w, 0, false);
	reserve_destroy(w.r[0]); /* without leaving */
	w.r[0] = NULL;
	enter(&w, 0, true);
	assert_int_equal(w.state[0].err, 0);
	assert_int_equal(w.state[0].level, CSV_PR_ABORT);
	assert_true(may_write(&w, 0));
	end(&w);
	assert_true(may_write(&w, 1)); /* nobody is left: the LUN is open */
}

static void what_a_lun_cannot_do_is_said(void **state)
{
	static struct world w;

	(void)state;
	begin(&w);
	w.lun.target.unused_target = true;
	enter(&w, 0, false);
	assert_int_equal(w.state[0].err, 0);
	assert_int_equal(w.state[0].level, CSV_PR_NONE);
	assert_non_null(strstr(w.state[0].why, "no SCSI device"));
	assert_int_equal(reserve_preempt(w.r[0], OTHER, preempted, &w), -ENOTSUP);
	end(&w);

	begin(&w);
	w.lun.target.no_abort = true;
	enter(&w, 0, false);
	assert_int_equal(w.state[0].level, CSV_PR_PREEMPT_ONLY);
	enter(&w, 1, false);
	assert_int_equal(reserve_preempt(w.r[0], OTHER, preempted, &w), 0);
	while (w.preempts == 0) {
		turn(&w);
	}
	assert_int_equal(w.err, 0);
	assert_false(w.aborted);
	end(&w);
}

/* The array was started again without what it knew: nobody fenced us, but nobody knows that. */
static void a_target_that_forgot_counts_as_a_fence(void **state)
{
	static struct world w;

	(void)state;
	begin(&w);
	enter(&w, 0, false);
	(void)pthread_mutex_lock(&w.lun.lock);
	memset(w.lun.target.keys, 0, sizeof(w.lun.target.keys));
	w.lun.target.type = 0;
	(void)pthread_mutex_unlock(&w.lun.lock);
	while (!w.state[0].fenced) {
		turn(&w);
	}
	end(&w);
}

static void who_waits_for_a_preemption_hears_that_it_ends(void **state)
{
	static struct world w;

	(void)state;
	begin(&w);
	enter(&w, 0, false);
	(void)pthread_mutex_lock(&w.lun.lock); /* it hangs */
	assert_int_equal(reserve_preempt(w.r[0], OTHER, preempted, &w), 0);
	reserve_destroy(w.r[0]); /* does not */
	w.r[0] = NULL;
	assert_int_equal(w.preempts, 1);
	assert_int_equal(w.err, -ECANCELED);
	(void)pthread_mutex_unlock(&w.lun.lock);
	end(&w);
}

static void it_survives_lack_of_memory(void **state)
{
	static struct world w;
	struct reserve_cfg cfg;
	uint32_t k = 0;
	int err;

	(void)state;
	begin(&w);
	cfg = cfg_of(&w, 0);
	do {
		fault_arm(FAULT_ALLOC, ++k);
		err = reserve_create(&cfg, &w.r[0], NULL);
		fault_arm(FAULT_ALLOC, 0);
	} while (err == -ENOMEM);
	assert_int_equal(err, 0);
	assert_true(k > 1);
	while (!w.state[0].known) {
		turn(&w);
	}
	end(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whose_key_is_taken_away_finds_out),
		cmocka_unit_test(a_key_that_may_have_been_there_is_not_made_again),
		cmocka_unit_test(the_same_run_goes_on_with_its_key),
		cmocka_unit_test(what_a_lun_cannot_do_is_said),
		cmocka_unit_test(a_target_that_forgot_counts_as_a_fence),
		cmocka_unit_test(who_waits_for_a_preemption_hears_that_it_ends),
		cmocka_unit_test(it_survives_lack_of_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
