/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CSV_CLIENT_CSV_CLIENT_H
#define CSV_CLIENT_CSV_CLIENT_H

/*
 * csv_client - a node's side of a shared volume: what this run of the node holds, what it asked
 * for, and how both survive connections and coordinators. The counterpart of csv_coord, and as
 * pure.
 *
 * Requests go in with csv_client_submit() and come out of csv_client_completed() when they are
 * answered, by whichever coordinator. Opens, leases and locks that were granted are kept, and
 * claimed again from the next coordinator. Direct I/O at leases goes on meanwhile.
 *
 *	OFFLINE -> HELLO -> ACTIVE        the same term: only what has no reply is asked again
 *	             `-> RECLAIM -> ACTIVE   a new term
 *	any -> DEAD: nothing that was held may be used
 *
 * A lease may be used while csv_client_lease() finds it. After a notice or a revocation it does
 * not; the owner then lets the I/O end that was submitted, and returns it (CSV_MSG_RETURN): not
 * earlier, since its blocks may be somebody else's from then on.
 *
 * All memory is allocated in csv_client_create(); requests are the caller's. One thread. Time [ns]
 * is CLOCK_BOOTTIME of this node.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/guid.h"
#include "base/list.h"
#include "csv/proto/csv_proto.h"

struct csv_client;
struct errbuf;

#define CSV_CLIENT_RETRY_NS 100000000ull /* what was refused in grace is asked again */

struct csv_client_cfg {
	struct guid volume;
	uint32_t node;
	uint64_t incarnation;
	uint32_t handles_max; /* 0 = 256 */
	uint32_t leases_max;  /* 0 = 1024 */
	uint32_t locks_max;   /* 0 = 1024 */
	/* Above it the numbers of requests and objects begin: greater than all that an earlier
	 * client of this run used. */
	uint64_t numbers;
};

enum csv_client_state {
	CSV_CLIENT_OFFLINE,
	CSV_CLIENT_HELLO,
	CSV_CLIENT_RECLAIM,
	CSV_CLIENT_ACTIVE,
	CSV_CLIENT_DEAD,
};

/*
 * Fill in @msg: its type (op, open, close, layout, return, lock, unlock, cancel, bye) and body;
 * numbers of new handles, leases and locks from csv_client_number(). Keep it, and what it points
 * to, until it comes out.
 */
struct csv_client_req {
	struct csv_msg msg;
	void *arg; /* for the owner */

	int result; /* 0; -errno of the reply; -ESTALE the client is dead; -EMFILE a table is full;
	             * -ECANCELED */
	const struct csv_msg *reply; /* NULL, or borrowed: until the next csv_client_receive() */

	struct list link; /* private */
	uint64_t retry_ns;
	bool sent;
};

MUST_USE int csv_client_create(const struct csv_client_cfg *cfg, struct csv_client **out,
                               struct errbuf *eb);
/* Requests that are under way are forgotten. NULL is fine. */
void csv_client_destroy(struct csv_client *c);

enum csv_client_state csv_client_state(const struct csv_client *c);
uint64_t csv_client_term(const struct csv_client *c);

/* csv_client_number() - for a new handle, lease or lock: 1, 2, ... */
uint64_t csv_client_number(struct csv_client *c);

void csv_client_submit(struct csv_client *c, struct csv_client_req *req);

/* csv_client_completed() - a request that is over, or NULL. Take them after each call. */
struct csv_client_req *csv_client_completed(struct csv_client *c);

/* A connection to a coordinator is there; is gone. */
void csv_client_connected(struct csv_client *c);
void csv_client_disconnected(struct csv_client *c);

/* csv_client_receive() - a decoded message. Returns 0; -EPROTO the peer makes no sense, -ESTALE it
 * coordinates in an older term: close the connection. */
MUST_USE int csv_client_receive(struct csv_client *c, const struct csv_msg *msg, uint64_t now_ns);

/* csv_client_next_message() - what is to be sent. Returns false if there is nothing (now). */
bool csv_client_next_message(struct csv_client *c, uint64_t now_ns, struct csv_msg *out);

/* csv_client_next_ns() - when there may be something to send without a reason from outside. */
uint64_t csv_client_next_ns(const struct csv_client *c);

/* csv_client_set_until() - this node's lease on the volume lasts until then. */
void csv_client_set_until(struct csv_client *c, uint64_t until_ns);

/* csv_client_die() - this run was fenced, or gives up: everything it held is gone. */
void csv_client_die(struct csv_client *c);

/* csv_client_lease() - a lease that may be used (for the rest: csv_layout_lease_usable()), or
 * NULL. Borrowed: until the next call that changes something. */
const struct csv_layout_lease *csv_client_lease(const struct csv_client *c, uint64_t number);

enum csv_client_event_type {
	CSV_CLIENT_NOTICE,  /* somebody waits for it: convert or give it up */
	CSV_CLIENT_REVOKED, /* give it up now */
	CSV_CLIENT_LOST,    /* it is gone already: the next coordinator gave it to somebody else */
};

struct csv_client_event {
	enum csv_client_event_type type;
	enum csv_msg_what what;
	uint64_t number;
	uint32_t mode;
};

bool csv_client_next_event(struct csv_client *c, struct csv_client_event *out);

#endif
