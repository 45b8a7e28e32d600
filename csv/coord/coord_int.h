/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CSV_COORD_COORD_INT_H
#define CSV_COORD_COORD_INT_H

/*
 * The parts of csv_coord and who calls whom:
 *
 *	coord.c    create, states, time, members, events
 *	session.c  connections: hello, reclaimed, bye, dispatch, what is sent
 *	file.c     opens, leases            lock.c  locks, what the lock manager says
 *	op.c       operations on metadata: the pool of requests under way
 */

#include "base/errbuf.h"
#include "csv/coord/csv_coord.h"

#define REQUESTS 256u /* under way in csv_meta, or waiting for leases to come back */
#define NAMES 16u     /* in one reply */
#define OUT 320u      /* messages that one call may make: a closed handle may cancel all requests */
#define SELF 0xffffffffu /* the node of locks that the coordinator takes itself */

/* What a lock of csv_lock is: the low bits of its number and of its space. */
enum kind { KIND_LOCK = 1, KIND_HANDLE = 2, KIND_LEASE = 3, KIND_CUT = 0 };

enum stage { STAGE_LOCK, STAGE_META };

/* A request that cannot be answered at once. */
struct request {
	bool used;
	enum stage stage;
	enum csv_msg_type type;
	struct csv_lock_owner owner;
	uint64_t number;
	uint64_t lease; /* layout: its number */
	uint64_t from_bytes;
	uint64_t to_bytes;
	uint32_t flags;
	struct csv_op op;
	char name[CSV_NAME_MAX];
	char name2[CSV_NAME_MAX];
	struct csv_extent extents[CSV_LAYOUT_EXTENTS_MAX];
	struct csv_name names[NAMES];
	uint8_t names_buf[NAMES * (sizeof(struct csv_msg_name_wire) + CSV_NAME_MAX)];
};

struct handle {
	bool used;
	struct csv_lock_owner owner;
	uint64_t number;
	uint64_t ino;
	uint64_t generation;
	uint32_t share;
	bool opened;  /* in csv_meta */
	bool closing; /* its owner does not have it any more */
	bool busy;    /* an open or close of it is under way */
};

struct lease {
	bool used;
	struct csv_lock_owner owner;
	uint64_t number;
	uint64_t handle;
	uint64_t ino;
	uint64_t generation;
	uint64_t from_bytes;
	uint64_t to_bytes;
	uint64_t token; /* of the file, as far as it was said */
	bool write;
};

struct session {
	uint64_t incarnation; /* 0 = none yet */
	bool connected;
	bool reclaimed;
	bool told_moved;
};

struct holder {
	struct csv_lock_owner owner;
	bool over; /* reclaimed, said goodbye, proven gone */
};

struct csv_coord {
	enum csv_coord_state state;
	struct errbuf eb;
	uint32_t node;
	uint64_t term;
	struct guid volume;
	uint64_t now_ns;
	uint64_t grace_began_ns;
	uint64_t grace_ns;
	uint64_t fence_ns;
	struct csv_meta *meta; /* owned */
	struct csv_lock *lock; /* owned */
	struct csv_members members;
	struct session sessions[CSV_MSG_NODES];
	struct holder holders[CSV_COORD_HOLDERS_MAX];
	uint32_t holders_count;
	struct request *requests; /* owned: REQUESTS */
	struct handle *handles;   /* owned */
	uint32_t handles_max;
	struct lease *leases; /* owned */
	uint32_t leases_max;
	bool handles_closing; /* one of them may be ready for it */
	struct csv_msg *out;  /* owned: OUT messages, a ring */
	uint32_t out_node[OUT];
	uint32_t out_first;
	uint32_t out_count;
	uint32_t moved_to;
	bool meta_closing;
	struct csv_coord_stats stats;
};

/* coord.c */
void coord_check_grace(struct csv_coord *c);
void coord_purge(struct csv_coord *c, const struct csv_lock_owner *owner);
void coord_poll(struct csv_coord *c);
bool coord_same(const struct csv_lock_owner *a, const struct csv_lock_owner *b);

/* session.c: NULL = nobody hears it. */
struct csv_msg *session_say(struct csv_coord *c, const struct csv_lock_owner *owner,
                            enum csv_msg_type type);
struct csv_msg *session_reply(struct csv_coord *c, const struct csv_lock_owner *owner,
                              uint64_t number, int status);

/* op.c */
struct request *op_slot(struct csv_coord *c);
struct request *op_new(struct csv_coord *c, const struct csv_lock_owner *owner,
                       const struct csv_msg *msg);
void op_free(struct csv_coord *c, struct request *r);
void op_submit(struct csv_coord *c, struct request *r);
void op_ask(struct csv_coord *c, const struct csv_lock_owner *owner, const struct csv_msg *msg);
bool op_take(struct csv_coord *c);
bool op_idle(const struct csv_coord *c);
void op_granted(struct csv_coord *c, const struct csv_lock_id *id);
void op_drop_layout(struct csv_coord *c, const struct csv_lock_owner *owner, uint64_t lease);
void op_purge(struct csv_coord *c, const struct csv_lock_owner *owner);

/* file.c */
void file_open(struct csv_coord *c, const struct csv_lock_owner *owner, const struct csv_msg *msg);
void file_opened(struct csv_coord *c, struct request *r);
void file_close(struct csv_coord *c, const struct csv_lock_owner *owner, const struct csv_msg *msg);
void file_layout(struct csv_coord *c, const struct csv_lock_owner *owner,
                 const struct csv_msg *msg);
void file_layout_granted(struct csv_coord *c, struct request *r);
void file_layout_done(struct csv_coord *c, struct request *r);
void file_return(struct csv_coord *c, const struct csv_lock_owner *owner,
                 const struct csv_msg *msg);
int file_may(struct csv_coord *c, const struct csv_lock_owner *owner, const struct csv_msg_op *op);
void file_purge(struct csv_coord *c, const struct csv_lock_owner *owner);
void file_token(struct csv_coord *c, const struct csv_attr *attr);
bool file_close_some(struct csv_coord *c);
void file_closed(struct csv_coord *c, struct request *r);

/* lock.c */
struct csv_lock_id lock_id(const struct csv_lock_owner *owner, enum kind kind, uint64_t number);
void lock_ask(struct csv_coord *c, const struct csv_lock_owner *owner, const struct csv_msg *msg);
void lock_drop(struct csv_coord *c, const struct csv_lock_owner *owner, const struct csv_msg *msg);
bool lock_take(struct csv_coord *c);
struct csv_lock_id lock_cut_id(const struct csv_coord *c, const struct request *r);

#endif
