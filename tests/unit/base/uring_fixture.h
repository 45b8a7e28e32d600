/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_BASE_URING_FIXTURE_H
#define TESTS_UNIT_BASE_URING_FIXTURE_H

/* uring_fixture - every case runs on a ring of each backend: list it with URING_BOTH(). */

#include <stdbool.h>
#include <stdint.h>

#include "base/uring.h"
#include "tests/lib/test.h"

#define URING_BOTH(test)                                                                \
	{#test " [io_uring]", test, uring_fixture_setup, uring_fixture_teardown, NULL}, \
	{                                                                               \
#test " [syscalls]", test, uring_fixture_setup, uring_fixture_teardown, \
			&uring_fixture_fallback                                         \
	}

#define FIXTURE_ENTRIES 8u
#define FIXTURE_SLOTS 4u
#define FIXTURE_DEADLINE_NS (20ull * 1000 * 1000 * 1000) /* a hang, also under sanitizers */

/* An operation that remembers what became of it. */
struct probe {
	struct uring_op op;
	uint32_t calls;
	uint32_t order; /* 1 = completed first, ... */
	int32_t res;
	bool more;
};

extern bool uring_fixture_fallback;

int uring_fixture_setup(void **state);
int uring_fixture_teardown(void **state);

/* probe_op() - set up @p for one operation. */
struct uring_op *probe_op(struct probe *p);

/* probe_wait() - drive @ring until @p was called @calls times; fails the test at the deadline. */
void probe_wait(struct uring *ring, struct probe *p, uint32_t calls);

/* probe_result() - drive @ring until @p completed once. Returns its result. */
int32_t probe_result(struct uring *ring, struct probe *p);

/* fixture_temp() - an unlinked file of @bytes zeroes. */
int fixture_temp(uint64_t bytes);

#endif
