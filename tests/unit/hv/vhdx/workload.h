/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_HV_VHDX_WORKLOAD_H
#define TESTS_UNIT_HV_VHDX_WORKLOAD_H

/*
 * workload - random requests on a disk, and what its sectors may hold.
 *
 * Every write stamps its sectors with a number of its own. For each sector the model keeps the
 * value that is durable for sure and all that were written since: after a crash one of these must
 * be there. Requests in flight never overlap, as a file system would have it.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/blk.h"

#define WORKLOAD_DEPTH 24u
#define WORKLOAD_VERSIONS 32u
#define WORKLOAD_DISCARDED UINT32_MAX     /* as before, or zeros, or garbage; not another's data */
#define WORKLOAD_GARBAGE (UINT32_MAX - 1) /* found: what discarding left */
#define WORKLOAD_NONE (UINT32_MAX - 2)    /* found: nothing that belongs there */

struct workload_version {
	uint32_t stamp;   /* 0: zeros */
	uint64_t done_at; /* event when its request completed; UINT64_MAX: not yet, or it failed */
};

struct workload_sector {
	uint32_t count;
	struct workload_version version[WORKLOAD_VERSIONS]; /* [0] is durable */
};

struct workload;

struct workload_slot {
	struct workload *w;
	struct blk_req req;
	struct iovec iov[7];
	uint8_t *buf; /* owned */
	bool busy;
	uint32_t stamp;
	uint64_t flush_at; /* event at the submission of a flush */
};

struct workload {
	struct blk *blk; /* borrowed */
	uint64_t sectors;
	uint32_t sector_bytes;
	uint32_t block_bytes;
	uint32_t len_max; /* bytes of a read or write */
	uint64_t rng;
	uint32_t stamp;
	uint64_t event;
	uint32_t in_flight;
	uint32_t completed;
	int error; /* the first failure of a request */
	bool no_trim;
	bool no_reads;                  /* writes instead */
	struct workload_sector *sector; /* owned */
	struct workload_slot slot[WORKLOAD_DEPTH];
};

/* workload_init() - of a disk whose sectors are all zero, or as workload_fill() left another. */
void workload_init(struct workload *w, uint64_t size_bytes, uint32_t sector_bytes,
                   uint32_t block_bytes, uint64_t seed);
void workload_fini(struct workload *w);

/* workload_inherit() - the sectors of a child at first: what @parent holds now, durably. */
void workload_inherit(struct workload *w, const struct workload *parent);

/* workload_run() - @count random requests on @blk, @depth (..WORKLOAD_DEPTH) at a time; stops
 * early when one fails. Nothing is in flight when it returns. Returns w->error. */
int workload_run(struct workload *w, struct blk *blk, uint32_t count, uint32_t depth);

/* workload_flush() - one flush, waited for. Returns its result. */
int workload_flush(struct workload *w, struct blk *blk);

/* workload_settle() - the disk was closed properly: what was completed is durable. */
void workload_settle(struct workload *w);

/* workload_verify() - read everything; every sector holds a version that it may. On a difference
 * prints it and fails the test. The versions found become the only ones. */
void workload_verify(struct workload *w, struct blk *blk);

/* Random numbers: xorshift, the same everywhere. */
uint64_t workload_random(uint64_t *state);

#endif
