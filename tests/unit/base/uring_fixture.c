/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/base/uring_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/errbuf.h"

bool uring_fixture_fallback = true;

int uring_fixture_setup(void **state)
{
	const struct uring_cfg cfg = {
		.entries = FIXTURE_ENTRIES,
		.files_max = FIXTURE_SLOTS,
		.buffers_max = FIXTURE_SLOTS,
		.force_fallback = *state == &uring_fixture_fallback,
	};
	struct errbuf eb = {0};
	struct uring *ring = NULL;
	int err = uring_create(&cfg, &ring, &eb);

	if (err != 0) {
		print_error("ring: %s\n", errbuf_text(&eb, err));
		return err;
	}
	*state = ring;
	return 0;
}

int uring_fixture_teardown(void **state)
{
	if (uring_in_flight(*state) != 0) {
		print_error("operations left in flight: %u\n", uring_in_flight(*state));
		return -1;
	}
	uring_destroy(*state);
	return 0;
}

static void probe_done(struct uring_op *op, int32_t res, bool more)
{
	static _Thread_local uint32_t order;
	struct probe *p = op->arg;

	p->calls++;
	p->order = ++order;
	p->res = res;
	p->more = more;
}

struct uring_op *probe_op(struct probe *p)
{
	*p = (struct probe){.op = {.fn = probe_done, .arg = p}};
	return &p->op;
}

void probe_wait(struct uring *ring, struct probe *p, uint32_t calls)
{
	uint64_t deadline = clock_now_ns() + FIXTURE_DEADLINE_NS;

	while (p->calls < calls) {
		assert_true(uring_wait(ring, NS_PER_S) >= 0);
		assert_true(clock_now_ns() < deadline);
	}
	assert_int_equal(p->calls, calls);
}

int32_t probe_result(struct uring *ring, struct probe *p)
{
	probe_wait(ring, p, 1);
	assert_false(p->more);
	return p->res;
}

int fixture_temp(uint64_t bytes)
{
	char path[] = "/tmp/godwit-test-XXXXXX";
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
	return fd;
}
