/* SPDX-License-Identifier: Apache-2.0 */
#include "base/ring.h"

#include <pthread.h>
#include <sched.h>

#include "tests/lib/test.h"

static void values_come_out_in_order_and_all_slots_are_used(void **state)
{
	uint64_t slots[4];
	uint64_t value = 77;
	struct ring r;

	(void)state;
	ring_init(&r, slots, 4);
	assert_int_equal(ring_take(&r, &value), -EAGAIN);
	assert_int_equal(value, 77);
	/* Also when the counters wrap. */
	r.head = r.tail = r.tail_seen = r.head_seen = UINT32_MAX - 5;
	for (uint64_t round = 0; round < 10; round++) {
		for (uint64_t i = 0; i < 4; i++) {
			assert_int_equal(ring_fill(&r), i);
			assert_int_equal(ring_put(&r, 4 * round + i), 0);
		}
		assert_int_equal(ring_put(&r, 99), -EAGAIN);
		for (uint64_t i = 0; i < 4; i++) {
			assert_int_equal(ring_take(&r, &value), 0);
			assert_int_equal(value, 4 * round + i);
		}
		assert_int_equal(ring_take(&r, &value), -EAGAIN);
	}
}

static void a_ring_of_one_works(void **state)
{
	uint64_t slot;
	struct ring r;
	void *ptr = NULL;

	(void)state;
	ring_init(&r, &slot, 1);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(ring_put_ptr(&r, &r), 0);
		assert_int_equal(ring_put_ptr(&r, &slot), -EAGAIN);
		assert_int_equal(ring_take_ptr(&r, &ptr), 0);
		assert_ptr_equal(ptr, &r);
		assert_int_equal(ring_take_ptr(&r, &ptr), -EAGAIN);
	}
}

#define MESSAGES 100000u

/* Not atomic on purpose: the ring alone must order the accesses (ThreadSanitizer looks). */
static struct message {
	uint32_t number;
	uint32_t inverse;
} messages[64];

static void *producer(void *arg)
{
	struct ring *r = arg;

	for (uint32_t i = 0; i < MESSAGES; i++) {
		/* 64 messages for a ring of 16: one that is written is not being read. */
		struct message *m = &messages[i % 64];

		while (ring_fill(r) >= 16) {
			(void)sched_yield();
		}
		m->number = i;
		m->inverse = ~i;
		while (ring_put_ptr(r, m) != 0) {
			(void)sched_yield();
		}
	}
	return NULL;
}

static void two_threads_need_no_lock(void **state)
{
	uint64_t slots[16];
	struct ring r;
	pthread_t thread;
	uint32_t bad = 0;

	(void)state;
	ring_init(&r, slots, 16);
	assert_int_equal(pthread_create(&thread, NULL, producer, &r), 0);
	for (uint32_t i = 0; i < MESSAGES; i++) {
		void *ptr;

		while (ring_take_ptr(&r, &ptr) != 0) {
			(void)sched_yield();
		}

		const struct message *m = ptr;

		bad += m->number != i || m->inverse != ~i;
	}
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(bad, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(values_come_out_in_order_and_all_slots_are_used),
		cmocka_unit_test(a_ring_of_one_works),
		cmocka_unit_test(two_threads_need_no_lock),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
