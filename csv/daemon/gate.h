/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CSV_DAEMON_GATE_H
#define CSV_DAEMON_GATE_H

/*
 * gate - redirected I/O: the coordinator's node reads and writes for a node that has lost its path
 * to the device.
 *
 * Judged before it is submitted: the coordinator's term, the run of the node that asks (a member,
 * not fenced, connected as that run), the lease that it names and its right to write, the file's
 * token, the place on the device, and this node's own lease.
 *
 * Once: a write has the number of its request. One that comes again while it is carried out is
 * answered with it, one that was carried out is answered at once. (A new coordinator may carry it
 * out again: the one before has drained its gate, or is proven gone with all that it had sent; and
 * whoever asks has not heard of its end, so that nothing newer can lie there.)
 *
 * In order: what would let others have the blocks (the return of a lease, the end of a handle, a
 * greater token, a proof that a run is gone, the end of this term) waits for the writes that were
 * accepted under it. Record: docs/decisions/0211.
 *
 * Bounded: GATE_MAX requests, GATE_NODE_BYTES of one node; more is answered with -EAGAIN, which
 * asks for it again. Thread: the loop's.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "csv/proto/csv_proto.h"

struct csv_volume;

#define GATE_MAX 64u                 /* under way on one volume, for all nodes */
#define GATE_NODE_BYTES (4ull << 20) /* twice what a node asks for at a time */
#define GATE_DONE 64u /* last writes of a node; four times what it may have in doubt */

struct gate_node {
	uint64_t run; /* whose numbers these are */
	uint64_t done[GATE_DONE];
	uint32_t next;
	uint64_t bytes;       /* under way */
	uint64_t told_fenced; /* to the coordinator */
};

struct gate {
	struct list ios; /* struct gate_io */
	uint32_t count;
	bool members_due; /* a proof waits for writes */
	struct gate_node nodes[CSV_MSG_NODES];
	uint64_t requests; /* since the volume was opened */
	uint64_t bytes;    /* read and written for others */
};

/*
 * gate_receive() - a message to the coordinator that is here.
 * Returns 0: it is not the gate's, pass it on; 1: it was taken; -EPROTO nonsense.
 */
int gate_receive(struct csv_volume *v, uint32_t node, const struct csv_msg *msg);

/* gate_members() - tell the coordinator the members: of a run that is proven gone only when nothing
 * that it asked for can still be written. */
void gate_members(struct csv_volume *v);

/* gate_is_idle() - is nothing under way? */
bool gate_is_idle(const struct csv_volume *v);

#endif
