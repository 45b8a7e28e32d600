/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_HV_RAW_RAW_FIXTURE_H
#define TESTS_UNIT_HV_RAW_RAW_FIXTURE_H

/* raw_fixture - a ring, a directory and the path of a file in it, for tests of raw devices. */

#include <stdbool.h>
#include <stdint.h>

#include "base/blk.h"
#include "base/uring.h"
#include "hv/raw/raw.h"
#include "tests/lib/test.h"

#define RAW_FIXTURE_BYTES (4ull << 20)

struct raw_fixture {
	struct uring *ring;
	char dir[32];
	char path[64]; /* a sparse file of RAW_FIXTURE_BYTES */
};

/* Where the test runs; the initial state of a case. */
struct raw_place {
	const char *parent; /* a directory */
	bool buffered;
	bool fallback; /* the ring's backend */
	bool in_loop;  /* see uring_cfg */
	uint32_t entries;
};

int raw_fixture_setup(void **state);
int raw_fixture_teardown(void **state);

/* raw_fixture_open() - open the file; fails the test if that fails. */
struct blk *raw_fixture_open(struct raw_fixture *f, const struct raw_cfg *how);

/* A request that remembers what became of it. */
struct raw_probe {
	struct blk_req req;
	struct iovec iov;
	int calls;
	int result;
};

/* raw_probe_start() - submit the request that @p->req describes. */
void raw_probe_start(struct blk *blk, struct raw_probe *p);

/* raw_probe_wait() - its result. */
int raw_probe_wait(struct blk *blk, struct raw_probe *p);

#endif
