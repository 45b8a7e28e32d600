/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CSV_SLOT_CSV_SLOT_IO_H
#define CSV_SLOT_CSV_SLOT_IO_H

/*
 * csv_slot_io - csv_slot on a device: a round per slot_ms on the caller's loop, with a ring of its
 * own, so that a full queue of other I/O does not delay the slot; no thread.
 *
 * One round is under way at a time. While the disk does not answer, rounds are left out and the
 * lease gets old; the clock is looked at all the same. Everything happens on the loop's thread,
 * the event callback too.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "csv/slot/csv_slot.h"

struct csv_slot_io;
struct errbuf;
struct loop;

#define CSV_SLOT_IO_JOBS_MAX 8u /* sentences and messages under way */

/* @did: CSV_SLOT_DID_...; the slot itself says more. May not destroy the driver. */
typedef void (*csv_slot_event_fn)(void *arg, uint32_t did);
/* @err: 0 written and read back; -errno. May not destroy the driver. */
typedef void (*csv_slot_done_fn)(void *arg, int err);

struct csv_slot_io_cfg {
	const char *path; /* of the device (tests: a file) */
	struct csv_slot_cfg slot;
	csv_slot_event_fn event;
	void *arg;
	bool force_fallback; /* no io_uring (tests) */
};

/*
 * csv_slot_io_create() - open the device and begin; the first round starts from the loop.
 * @loop: borrowed until csv_slot_io_destroy().
 * Returns 0; -EINVAL cfg, or too small a device; -ENOMEM; -errno of open and the ring.
 */
MUST_USE int csv_slot_io_create(const struct csv_slot_io_cfg *cfg, struct loop *loop,
                                struct csv_slot_io **out, struct errbuf *eb);

/* csv_slot_io_stop() - nothing more is begun or told; jobs that are not done are forgotten. Not in
 * order: csv_slot_io_leave() is that. NULL is fine, and again. */
void csv_slot_io_stop(struct csv_slot_io *io);

/* csv_slot_io_idle() - nothing is under way. NULL: true. */
bool csv_slot_io_idle(const struct csv_slot_io *io);

/* csv_slot_io_destroy() - stop and free; blocks until the disk answered what is under way. NULL is
 * fine. */
void csv_slot_io_destroy(struct csv_slot_io *io);

/* csv_slot_io_slot() - the slot: to read it, to set what travels with the writes, to readmit or
 * fence it. */
struct csv_slot *csv_slot_io_slot(struct csv_slot_io *io);

/*
 * csv_slot_io_sentence() - write a verdict on a run of another node, durably, and read it back.
 * @fn: may be NULL. Its error besides -EIO: -ESTALE a later run was sentenced already; -EBUSY what
 * was read back is not what was written: somebody else wrote too.
 * Returns 0; -EAGAIN too many jobs under way.
 */
MUST_USE int csv_slot_io_sentence(struct csv_slot_io *io, uint32_t about, uint64_t incarnation,
                                  csv_slot_done_fn fn, void *arg);

/* csv_slot_io_message() - put a command into another node's mailbox; as csv_slot_io_sentence(). */
MUST_USE int csv_slot_io_message(struct csv_slot_io *io, uint32_t to, uint64_t incarnation,
                                 enum csv_command command, uint64_t argument, csv_slot_done_fn fn,
                                 void *arg);

/* csv_slot_io_leave() - give the slot back (csv_slot_leave()) after the round under way; @fn when
 * it is written. Once. */
void csv_slot_io_leave(struct csv_slot_io *io, csv_slot_done_fn fn, void *arg);

/* csv_slot_io_lost_ns() - since when the device gives errors or does not answer, as far as the
 * rounds say; 0 = it answers. */
uint64_t csv_slot_io_lost_ns(const struct csv_slot_io *io, uint64_t now_ns);

/* What it did, for inspection and tests. */
struct csv_slot_io_stats {
	uint64_t rounds;
	uint64_t left_out; /* rounds that did not start because one was under way */
	uint64_t errors;   /* reads and writes that failed */
	uint64_t write_max_ns;
};

void csv_slot_io_get_stats(const struct csv_slot_io *io, struct csv_slot_io_stats *out);

#endif
