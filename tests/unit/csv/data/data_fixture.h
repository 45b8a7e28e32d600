/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_CSV_DATA_DATA_FIXTURE_H
#define TESTS_UNIT_CSV_DATA_DATA_FIXTURE_H

/*
 * data_fixture - a LUN in a file, and a provider that plays coordinator, lease keeper and
 * redirecting node: it knows which block of the file is a hole, unwritten or written, answers
 * asks later and in random order, refuses some for now, and carries out redirected operations
 * once per id, whatever it says about them.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/blk.h"
#include "base/uring.h"
#include "csv/data/csv_data.h"
#include "tests/lib/test.h"

#define FIX_FILE_BYTES (2ull << 20)
#define FIX_BLOCKS (FIX_FILE_BYTES / 4096)
#define FIX_RUN 16u /* blocks that lie together on the LUN */
#define FIX_LUN_BYTES (8ull << 20)
#define FIX_ASKS 256u
#define FIX_IDS 65536u

enum fix_block { FIX_HOLE, FIX_UNWRITTEN, FIX_WRITTEN };

struct fix {
	struct uring *ring;
	struct blk *blk;
	char path[64];
	int fd; /* of our own: the other node's way to the LUN */
	uint64_t rng;
	uint64_t now_ns; /* 0 = the real clock */
	struct csv_data_rights rights;

	/* The coordinator. */
	enum fix_block blocks[FIX_BLOCKS];
	uint64_t size_bytes;
	bool meta_down;     /* answers -EAGAIN */
	bool redirect_down; /* answers -EHOSTUNREACH */
	int redirect_err;   /* answers this, once */
	uint32_t moody;     /* one in so many asks is refused for now; 0 = none */
	int layout_err;
	bool fenced; /* answers -ESTALE */
	bool hold;   /* answers nothing */
	struct csv_data_ask *asks[FIX_ASKS];
	struct csv_layout_lease *said[FIX_ASKS]; /* looked at when it was asked for; or NULL */
	uint32_t asks_count;
	bool done_ids[FIX_IDS]; /* operations that were carried out */
	uint64_t executed;
	uint64_t repeated;

	bool closing; /* answers come from the ring's dispatch */
	bool deferred;
	struct uring_op op;

	/* The path to the LUN. */
	bool path_down;
	bool flush_fails; /* the next thing that comes back fails; then false */

	enum csv_data_state state;
	enum csv_data_reason reason;
	uint32_t events;
};

int fix_setup(void **state);
int fix_teardown(void **state);

struct csv_data_cfg fix_cfg(struct fix *f);
void fix_open(struct fix *f, const struct csv_data_cfg *cfg);

/* fix_close() - close the device, which may ask the provider. */
int fix_close(struct fix *f);

/* fix_device() - where a block of the file lies on the LUN [bytes]. */
uint64_t fix_device(uint64_t block);

/* fix_answer_kind() - one of that kind, although f->hold. Returns false: there is none. */
bool fix_answer_kind(struct fix *f, enum csv_data_what what);

/* fix_pump() - one step: answers, completions. */
void fix_pump(struct fix *f);

/* fix_seen() - what another node sees of the file: what is not converted is zero. */
void fix_seen(struct fix *f, uint8_t *out);

uint64_t fix_random(struct fix *f);

struct fix_req {
	struct blk_req req;
	struct iovec iov;
	int calls;
	int result;
};

void fix_start(struct fix *f, struct fix_req *r);
int fix_wait(struct fix *f, struct fix_req *r);
/* fix_io() - one request with one buffer, to its end. */
int fix_io(struct fix *f, enum blk_op op, uint64_t offset, void *buf, uint64_t len);

#endif
