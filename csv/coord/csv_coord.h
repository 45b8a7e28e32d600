/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CSV_COORD_CSV_COORD_H
#define CSV_COORD_CSV_COORD_H

/*
 * csv_coord - the coordinator of a shared volume for one term: it owns the metadata (csv_meta) and
 * the locks (csv_lock), and answers the messages of the nodes (csv_proto).
 *
 * Pure: messages, results of I/O, members and time go in; messages, I/O requests and events come
 * out. The owner pumps it: after each call of any function that changes something it takes I/O
 * requests with csv_coord_next_io() and messages with csv_coord_next_message() until there are
 * none, and asks with csv_coord_waits_for() who is in the way.
 *
 * Opens, layout leases and locks of clients are locks of csv_lock: opens by share mode, leases by
 * the range of the file that they cover. Truncating and punching wait until no lease is left on
 * what they free; the holders get notices like anybody in the way. What belongs to a run of a node
 * goes away by its word or by a fence proof, never by a broken connection.
 *
 * Exactly once: csv_meta records done requests in the transaction that does them, so that there
 * is no cache of replies to lose: a repeated request that was done succeeds, all others are
 * idempotent by the numbers that the client chose.
 *
 * Grace: it begins with those runs that may hold something of the term before (@holders). Until
 * all of them have reclaimed, said goodbye, or are proven gone, new opens, locks and leases are
 * refused (-EAGAIN), nothing is freed and nothing is cut. After @grace_ns it says who is missing,
 * after @fence_ns that they have to be fenced: a service whose node is up may need some time.
 *
 * States:
 *
 *	OPENING -> GRACE -> ACTIVE -> CLOSING -> CLOSED       any -> FAILED
 *	    `--------------->'  (no holders)
 *
 * Memory: all of it is allocated in csv_coord_create(). One thread, the owner's. Time [ns] is of a
 * clock that does not go backwards. docs/formats/csv-protocol.md, docs/decisions/0153.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "csv/lock/csv_lock.h"
#include "csv/meta/csv_meta.h"
#include "csv/proto/csv_proto.h"

struct csv_coord;
struct errbuf;

#define CSV_COORD_HOLDERS_MAX 128u
#define CSV_COORD_WINDOW 64u /* requests of a client under way */
#define CSV_COORD_GRACE_NS 3000000000ull
#define CSV_COORD_FENCE_NS 30000000000ull

/* What the cluster's database says, as one copy. */
struct csv_members {
	uint64_t epoch;
	uint64_t run[CSV_MSG_NODES];    /* incarnation of each node that is a member; 0 = none */
	uint64_t fenced[CSV_MSG_NODES]; /* proven gone: all runs up to this one; 0 = none */
};

struct csv_coord_cfg {
	const struct csv_super *super;     /* borrowed for the call */
	uint64_t term;                     /* of the volume, committed in the cluster's database */
	bool quiet;                        /* earlier coordinators are proven silent */
	uint32_t node;                     /* this one */
	const struct csv_members *members; /* borrowed for the call */
	const struct csv_lock_owner *holders; /* borrowed for the call */
	uint32_t holders_count;               /* <= CSV_COORD_HOLDERS_MAX */
	uint64_t grace_ns;                    /* 0 = CSV_COORD_GRACE_NS */
	uint64_t fence_ns; /* a member that is missing in grace; 0 = CSV_COORD_FENCE_NS */
	/* How many there may be; one run of a node gets at most half of each. */
	uint32_t locks_max;    /* 0 = 65536; with opens and leases */
	uint32_t handles_max;  /* 0 = 4096 */
	uint32_t leases_max;   /* 0 = 8192 */
	uint32_t cache_blocks; /* 0 = CSV_META_CACHE_MIN */
};

/* csv_coord_create() - allocate, and begin to open the volume. -EINVAL cfg; -ENOMEM. */
MUST_USE int csv_coord_create(const struct csv_coord_cfg *cfg, uint64_t now_ns,
                              struct csv_coord **out, struct errbuf *eb);

/* csv_coord_destroy() - free it; I/O in flight must be over. NULL is fine. */
void csv_coord_destroy(struct csv_coord *c);

enum csv_coord_state {
	CSV_COORD_OPENING, /* reads the journal; nobody is welcome yet */
	CSV_COORD_GRACE,   /* what was held is claimed again */
	CSV_COORD_ACTIVE,
	CSV_COORD_CLOSING, /* hands over: finishes what it began, takes nothing new */
	CSV_COORD_CLOSED,  /* all is in place: the next term may begin */
	CSV_COORD_FAILED,  /* the volume cannot be read or written, or is not ours */
};

/* csv_coord_state() - @eb: why it failed. */
enum csv_coord_state csv_coord_state(const struct csv_coord *c, struct errbuf *eb);
const char *csv_coord_state_name(enum csv_coord_state state);

/* The disk: see csv_meta_next_io(), csv_meta_io_done(), csv_meta_quiet(). */
bool csv_coord_next_io(struct csv_coord *c, struct csv_io *out);
void csv_coord_io_done(struct csv_coord *c, uint32_t id, int result);
void csv_coord_quiet(struct csv_coord *c);

/* csv_coord_set_members() - members came, left, or were proven gone: what they held goes away. */
void csv_coord_set_members(struct csv_coord *c, const struct csv_members *members, uint64_t now_ns);

/*
 * csv_coord_receive() - a message of @node, which the connection proved to be.
 * @msg: decoded; borrowed for the call.
 * Returns 0; -EPROTO it says what no client may say now: close the connection; -EAGAIN nothing was
 * done: take messages with csv_coord_next_message() first.
 */
MUST_USE int csv_coord_receive(struct csv_coord *c, uint32_t node, const struct csv_msg *msg,
                               uint64_t now_ns);

/* csv_coord_run() - the run that @node's connection speaks for; 0 = it has none. */
uint64_t csv_coord_run(const struct csv_coord *c, uint32_t node);

/*
 * csv_coord_may_io() - may it have this read, write or flush done now, by who has @c? Nothing is
 * noted: what is under way when a lease, a handle or a run ends is the caller's to wait for.
 * Returns 0; -ESTALE another term, the lease or its token is over, the run is fenced; -EBADF the
 * lease is another file's or handle's; -EACCES it is for reading; -ESHUTDOWN this coordinator
 * answers nothing any more; -EPROTO it has not said hello.
 */
MUST_USE int csv_coord_may_io(const struct csv_coord *c, uint32_t node, const struct csv_msg *msg);

/* csv_coord_disconnected() - the connection of @node is gone, or replaced. What it holds stays. */
void csv_coord_disconnected(struct csv_coord *c, uint32_t node);

/* csv_coord_next_message() - what is to be sent to *node. Borrowed until the next call. */
const struct csv_msg *csv_coord_next_message(struct csv_coord *c, uint32_t *node);

/* csv_coord_tick() - time has passed. csv_coord_next_ns(): call it then; UINT64_MAX = no need. */
void csv_coord_tick(struct csv_coord *c, uint64_t now_ns);
uint64_t csv_coord_next_ns(const struct csv_coord *c);

/* csv_coord_hand_over() - finish and close, for @node to go on in the next term: clients are told.
 * Wait for CSV_COORD_CLOSED. */
void csv_coord_hand_over(struct csv_coord *c, uint32_t node);

/*
 * csv_coord_waits_for() - is a run of @node in the way *now*? It has not come back in grace, or not
 * given back what it has to.
 * *fence: for so long that only a proof lets others go on.
 * Returns the run; 0 = none (any more).
 */
uint64_t csv_coord_waits_for(const struct csv_coord *c, uint32_t node, bool *fence);

/* csv_coord_postpone() - nobody pumped it for @by_ns, though it should have been: who was to answer
 * in this time could not be heard, and has that much more. */
void csv_coord_postpone(struct csv_coord *c, uint64_t by_ns);

struct csv_coord_stats {
	uint64_t requests;
	uint64_t repeated; /* that had been done before */
	uint64_t refused_grace;
	uint64_t full;
	uint32_t handles; /* now */
	uint32_t leases;
	uint32_t under_way;
	uint32_t missing; /* in grace: runs that have not reclaimed yet */
};

void csv_coord_get_stats(const struct csv_coord *c, struct csv_coord_stats *out);

/* csv_coord_locks(), csv_coord_meta() - to look at. Borrowed: as long as @c. */
const struct csv_lock *csv_coord_locks(const struct csv_coord *c);
const struct csv_meta *csv_coord_meta(const struct csv_coord *c);

#endif
