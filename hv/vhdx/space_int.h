/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_VHDX_SPACE_INT_H
#define HV_VHDX_SPACE_INT_H

/*
 * space - which MiB of the file are taken, in memory only: the BAT and the region table are the
 * truth, this map is computed from them at open.
 *
 *	free --alloc--> used --free--> freed --take--> leaving --pop, release--> free
 *
 * What is freed must stay untouched until the BAT that no longer points there is durable (a crash
 * brings the old BAT back) and until requests that were under way are done; then its storage is
 * discarded, and only then it can be given out again. freed = freed before the next commit,
 * leaving = that commit is under way or done.
 *
 * Pure, except that init allocates. Threads: the owner's.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"

struct vhdx_space {
	uint64_t *used; /* owned, as the other two; bit per MiB */
	uint64_t *freed;
	uint64_t *leaving;
	uint32_t units;       /* bits in each */
	uint32_t end;         /* all units from here on are free; only grows */
	uint32_t hint;        /* where the search for a hole goes on */
	uint32_t holes;       /* free units below end */
	uint32_t no_run;      /* no hole has this many units (0: unknown) */
	uint32_t freed_count; /* bits set in freed, leaving */
	uint32_t leaving_count;
	uint32_t leaving_next; /* pop goes on here */
};

/* vhdx_space_init() - a map of @units MiB, all free. Returns 0; -ENOMEM. */
MUST_USE int vhdx_space_init(struct vhdx_space *s, uint32_t units);

/* vhdx_space_fini() - also of a zeroed struct. */
void vhdx_space_fini(struct vhdx_space *s);

/*
 * vhdx_space_use() - take [offset, offset+bytes), rounded out to whole MiB.
 * Returns 0; -EEXIST part of it is taken; -ENOSPC beyond the map. Then nothing is taken.
 */
MUST_USE int vhdx_space_use(struct vhdx_space *s, uint64_t offset, uint64_t bytes);

/*
 * vhdx_space_alloc() - take a run of @bytes (multiple of 1 MiB): a hole if there is one, else at
 * the end.
 * Returns 0; -ENOSPC the map is full.
 */
MUST_USE int vhdx_space_alloc(struct vhdx_space *s, uint64_t bytes, uint64_t *offset);

/* vhdx_space_free() - give back what was taken, at the next commit. */
void vhdx_space_free(struct vhdx_space *s, uint64_t offset, uint64_t bytes);

/* vhdx_space_cancel() - give back at once what was never in a BAT. */
void vhdx_space_cancel(struct vhdx_space *s, uint64_t offset, uint64_t bytes);

/* vhdx_space_take() - a commit starts: what is freed by now leaves with it.
 * Returns false if there is nothing, or earlier storage has not left entirely. */
bool vhdx_space_take(struct vhdx_space *s);

/*
 * vhdx_space_pop() - the next run that leaves; it stays taken until vhdx_space_cancel() of it.
 * Returns false if there is none.
 */
bool vhdx_space_pop(struct vhdx_space *s, uint64_t *offset, uint64_t *bytes);

/* vhdx_space_end_bytes() - the shortest file that holds all that is taken. */
uint64_t vhdx_space_end_bytes(const struct vhdx_space *s);

#endif
