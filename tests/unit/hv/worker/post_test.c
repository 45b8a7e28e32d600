/* SPDX-License-Identifier: Apache-2.0 */
#include "hv/worker/post.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "base/uring.h"
#include "tests/lib/test.h"

#define POSTS 2000u
#define DEADLINE_NS (30ull * NS_PER_S)

struct fixture {
	struct uring *ring;
	struct post *post;
	pthread_t device;
	struct post_item items[3];
	uint32_t order[3];
	uint32_t count;
	struct post_item again;
	_Atomic uint32_t begun; /* how often the item's function has begun */
};

struct call {
	struct fixture *f;
	uint32_t number;
};

static void create(struct fixture *f)
{
	const struct uring_cfg ring = {.entries = 16};
	struct errbuf eb = {0};

	*f = (struct fixture){.device = pthread_self()};
	assert_int_equal(uring_create(&ring, &f->ring, &eb), 0);
	assert_int_equal(post_create(f->ring, &f->post), 0);
}

static void destroy(struct fixture *f)
{
	post_destroy(f->post);
	uring_destroy(f->ring);
}

static void wait_until(struct fixture *f, const _Atomic uint32_t *value, uint32_t wanted)
{
	uint64_t deadline_ns = clock_now_ns() + DEADLINE_NS;

	while (atomic_load(value) < wanted) {
		assert_true(uring_wait(f->ring, NS_PER_S / 100) >= 0);
		assert_true(clock_now_ns() < deadline_ns);
	}
}

static void note(void *arg)
{
	struct call *c = arg;

	c->f->order[c->f->count++] = c->number;
	atomic_fetch_add(&c->f->begun, 1);
}

static void functions_run_in_order_and_only_from_the_ring(void **state)
{
	struct fixture f;
	struct call calls[3] = {{&f, 1}, {&f, 2}, {&f, 3}};

	(void)state;
	create(&f);
	for (uint32_t i = 0; i < 3; i++) {
		post_call(f.post, &f.items[i], note, &calls[i]);
	}
	post_call(f.post, &f.items[0], note, &calls[0]); /* it waits already */
	assert_int_equal(f.count, 0);
	wait_until(&f, &f.begun, 3);
	assert_int_equal(uring_wait(f.ring, 0) >= 0, 1);
	assert_int_equal(f.count, 3);
	for (uint32_t i = 0; i < 3; i++) {
		assert_int_equal(f.order[i], i + 1);
	}
	destroy(&f);
}

static void count_up(void *arg)
{
	struct fixture *f = arg;

	assert_true(pthread_equal(pthread_self(), f->device) != 0);
	atomic_fetch_add(&f->begun, 1);
}

/* One post after the other, each when the one before has begun: none is lost. */
static void *post_many(void *arg)
{
	struct fixture *f = arg;

	for (uint32_t i = 0; i < POSTS; i++) {
		post_call(f->post, &f->again, count_up, f);
		while (atomic_load(&f->begun) <= i) {
			sched_yield();
		}
	}
	return NULL;
}

static void none_is_lost_from_another_thread(void **state)
{
	struct fixture f;
	pthread_t thread;

	(void)state;
	create(&f);
	assert_int_equal(pthread_create(&thread, NULL, post_many, &f), 0);
	wait_until(&f, &f.begun, POSTS);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(atomic_load(&f.begun), POSTS);
	destroy(&f);
}

static void what_waits_at_the_end_is_dropped(void **state)
{
	struct fixture f;

	(void)state;
	create(&f);
	post_call(f.post, &f.again, count_up, &f);
	destroy(&f);
	assert_int_equal(atomic_load(&f.begun), 0);
}

static void nothing_leaks_when_memory_runs_out(void **state)
{
	const struct uring_cfg cfg = {.entries = 16};
	struct uring *ring;
	struct errbuf eb = {0};
	int err = -ENOMEM;

	(void)state;
	assert_int_equal(uring_create(&cfg, &ring, &eb), 0);
	for (uint32_t k = 1; err != 0; k++) {
		struct post *post;

		fault_arm(FAULT_ALLOC, k);
		err = post_create(ring, &post);
		fault_arm(FAULT_ALLOC, 0);
		assert_true(err == 0 || err == -ENOMEM);
		post_destroy(post);
	}
	uring_destroy(ring);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(functions_run_in_order_and_only_from_the_ring),
		cmocka_unit_test(none_is_lost_from_another_thread),
		cmocka_unit_test(what_waits_at_the_end_is_dropped),
		cmocka_unit_test(nothing_leaks_when_memory_runs_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
