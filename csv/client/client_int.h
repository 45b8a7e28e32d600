/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CSV_CLIENT_CLIENT_INT_H
#define CSV_CLIENT_CLIENT_INT_H

/* client.c: states, requests. held.c: what the node has, and how it gets it back. */

#include "csv/client/csv_client.h"

#define CSV_CLIENT_WINDOW 64u /* as docs/formats/csv-protocol.md */

enum held_state {
	HELD_FREE,
	HELD_ASKED, /* its request was not granted yet */
	HELD_OURS,
	HELD_ENDING, /* its end was asked for: it is not used any more */
	HELD_LOST,   /* the owner has not heard of it yet */
};

/* What handles, leases and locks have in common; the first member of each. */
struct held {
	enum held_state state;
	uint64_t number;
	uint64_t reclaim; /* the request that claims it again; 0 = none */
	bool claimed;     /* in this term */
	bool noticed;
	bool say_notice;
	bool say_revoked;
	bool say_lost;
	uint32_t mode; /* of the notice */
};

struct client_handle {
	struct held held;
	uint64_t ino;
	uint64_t generation;
	uint32_t share;
};

struct client_lease {
	struct held held;
	struct csv_layout_lease lease;
	uint64_t from_bytes; /* as asked for */
	uint64_t to_bytes;
	uint64_t handle;
	bool write;
};

struct client_lock {
	struct held held;
	struct csv_msg_lock lock;
	uint64_t claim_term; /* the claim of this term says this mode, also when it is repeated */
	uint32_t claim_mode;
};

struct csv_client {
	struct csv_client_cfg cfg;
	enum csv_client_state state;
	uint64_t term;
	uint64_t objects;  /* numbers given */
	uint64_t requests; /* likewise */
	uint64_t until_ns;
	struct list queue; /* struct csv_client_req: without a number */
	struct list asked; /* with one, and no reply; ascending */
	struct list done;
	bool hello_due;
	bool reclaiming; /* the reply to our "reclaimed" of this term is missing */
	uint64_t pong_due;
	uint64_t reclaimed_request;
	uint32_t phase;                /* of reclaiming: handles, locks, leases, over */
	uint32_t claims;               /* under way */
	struct held *claiming;         /* borrowed: the one that is being sent */
	struct client_handle *handles; /* owned */
	struct client_lease *leases;   /* owned */
	struct client_lock *locks;     /* owned */
	uint32_t handles_count;
	uint32_t leases_count;
	uint32_t locks_count;
	bool events; /* there may be something to say: else the tables are not walked */
};

int held_prepare(struct csv_client *c, const struct csv_msg *msg);
void held_answered(struct csv_client *c, const struct csv_msg *msg, const struct csv_msg *reply);
void held_failed(struct csv_client *c, const struct csv_msg *msg);
void held_event(struct csv_client *c, const struct csv_msg *msg);
void held_lose_all(struct csv_client *c);
void held_reclaim_start(struct csv_client *c, bool same_term);
bool held_reclaim_next(struct csv_client *c, struct csv_msg *out);
void held_reclaim_sent(struct csv_client *c, uint64_t request);
bool held_reclaim_over(struct csv_client *c);
bool held_reclaimed(struct csv_client *c, const struct csv_msg *reply);

#endif
