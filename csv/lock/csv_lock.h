/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CSV_LOCK_CSV_LOCK_H
#define CSV_LOCK_CSV_LOCK_H

/*
 * csv_lock - the lock manager of a shared volume: who may do what to which object, as a function
 * of requests and time. It knows no nodes' connections and no disk; the coordinator drives it.
 *
 * A lock is on a range of a resource (an object and a space within it: its data, its opens, its
 * attributes, ...), and belongs to one run of one node. All locks of a resource are of one class:
 *
 *  - CSV_LOCK_MODES: NL CR CW PR PW EX, with the compatibility that VMS gave them;
 *  - CSV_LOCK_SHARES: the opens of a file: what each does (read, write, delete) and what it lets
 *    others do. Two agree if neither does what the other does not let it.
 *
 * Two locks are in each other's way if their ranges overlap and their modes disagree, whoever
 * owns them.
 *
 * Order. A new request waits for what is granted in its way, and for all that wait in its way: it
 * overtakes nobody whom it could delay. A conversion goes in front of those who wait for the mode
 * that it has (they would wait for it forever), and behind all others who came before. So those
 * who hold locks cannot keep one who waits out by turns. A conversion that closes a circle of
 * waiting is refused. Circles over several resources are not looked for; revoking ends them.
 *
 * Time. Who is in the way of somebody gets a notice, once per mode that is waited for. If it is in
 * the way still @revoke_ns after the first notice, the lock is revoked: its owner must drop what
 * rests on it and release it. It counts as held until then; if that takes longer than @fence_ns,
 * the owner should be fenced. A lock goes away by its owner's word, or by csv_lock_purge() after a
 * fence proof, and by nothing else: not by a broken connection, not by time.
 *
 * After a change of the coordinator the manager starts empty, in grace: only reclaimed locks are
 * taken, and refused if they contradict one that was reclaimed before.
 *
 * All of it is allocated in csv_lock_create(); what is full is refused and changes nothing. Time
 * [ns] is an input, of any clock that does not go backwards. One thread, the owner's.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"

struct csv_lock;
struct errbuf;

#define CSV_LOCK_MAX 1048576u
#define CSV_LOCK_PER_RESOURCE_MAX 4096u /* walked one by one */
#define CSV_LOCK_CLIENTS_MAX 128u       /* 64 nodes, each with a run that is not yet gone */
#define CSV_LOCK_REVOKE_NS 5000000000ull
#define CSV_LOCK_FENCE_NS 10000000000ull
#define CSV_LOCK_END UINT64_MAX /* the end of a range that has none */

enum csv_lock_class { CSV_LOCK_MODES, CSV_LOCK_SHARES };

enum csv_lock_mode {
	CSV_LOCK_NL, /* nothing, but keeps its place */
	CSV_LOCK_CR, /* reads what others may be writing */
	CSV_LOCK_CW, /* writes together with others who do */
	CSV_LOCK_PR, /* reads; nobody writes */
	CSV_LOCK_PW, /* writes; others may read what is being written */
	CSV_LOCK_EX, /* alone */
};

/* What an open does, and what it lets others do. */
#define CSV_LOCK_READ 1u
#define CSV_LOCK_WRITE 2u
#define CSV_LOCK_DELETE 4u
#define CSV_LOCK_ALL 7u
/* The mode of a lock of CSV_LOCK_SHARES. */
#define CSV_LOCK_SHARE_MODE(does, lets) ((does) | (lets) << 4)

struct csv_lock_cfg {
	uint32_t locks_max;      /* 1..CSV_LOCK_MAX; 0 = 65536 */
	uint32_t per_client_max; /* 0 = locks_max */
	uint64_t revoke_ns;      /* 0 = CSV_LOCK_REVOKE_NS */
	uint64_t fence_ns;       /* 0 = CSV_LOCK_FENCE_NS */
	bool grace;              /* begin in it */
};

struct csv_lock_owner {
	uint32_t node;
	uint64_t incarnation;
};

/* Numbers are the owner's; it uses each for one lock at a time. */
struct csv_lock_id {
	struct csv_lock_owner owner;
	uint64_t number;
};

struct csv_lock_name {
	uint64_t object; /* an inode */
	uint64_t space;
};

struct csv_lock_req {
	struct csv_lock_id id;
	struct csv_lock_name name;
	enum csv_lock_class class;
	uint32_t mode; /* of its class */
	uint64_t from; /* the range is [from, to) */
	uint64_t to;
	bool try_only; /* do not wait */
	bool reclaim;  /* it was held under the coordinator before */
	uint64_t arg;  /* the caller's; comes back with the grant */
};

/* Somebody in the way. */
struct csv_lock_conflict {
	struct csv_lock_id id;
	uint32_t mode;
	bool waiting; /* it is not granted either, but came before */
};

/*
 * csv_lock_create() - allocate.
 * Returns 0; -EINVAL cfg; -ENOMEM.
 */
MUST_USE int csv_lock_create(const struct csv_lock_cfg *cfg, struct csv_lock **out,
                             struct errbuf *eb);
void csv_lock_destroy(struct csv_lock *l); /* NULL is fine */

/* csv_lock_memory() - bytes that csv_lock_create() allocated. */
size_t csv_lock_memory(const struct csv_lock *l);

/*
 * csv_lock_request() - a new lock. The same request again is answered as it stands.
 * @conflict: may be NULL; filled in with -EBUSY.
 * Returns 0 granted; -EINPROGRESS it waits, CSV_LOCK_GRANTED follows; -EBUSY somebody is in the way
 * (try_only, reclaim); -EAGAIN in grace only what was held before is taken; -ESTALE reclaim, and
 * grace is over; -EEXIST the number is in use for another lock; -EINVAL mode, range, or the
 * resource is of the other class; -ENOSPC no room, or too many on this resource; -EDQUOT too many
 * of this client; -EUSERS too many clients.
 * Take the actions soon after each call of a function that changes something.
 */
MUST_USE int csv_lock_request(struct csv_lock *l, const struct csv_lock_req *req, uint64_t now_ns,
                              struct csv_lock_conflict *conflict);

struct csv_lock_change {
	uint32_t mode;
	bool try_only;
	uint64_t arg;
};

/*
 * csv_lock_convert() - another mode for a lock that is granted. To one that is in nobody's way is
 * granted at once, in grace as well.
 * Returns as csv_lock_request(); -ENOENT no such lock; -EINPROGRESS also: the same conversion waits
 * already, or its grant does; -EALREADY the lock, or another conversion of it, is waiting;
 * -EDEADLK somebody waits, over some others, for this one; -ESTALE it is revoked.
 */
MUST_USE int csv_lock_convert(struct csv_lock *l, const struct csv_lock_id *id,
                              const struct csv_lock_change *change, uint64_t now_ns,
                              struct csv_lock_conflict *conflict);

/* csv_lock_cancel() - wait no longer: a new request is gone, a conversion leaves what was granted.
 * Returns 0; -ENOENT; -EALREADY it does not wait (any more). */
MUST_USE int csv_lock_cancel(struct csv_lock *l, const struct csv_lock_id *id, uint64_t now_ns);

/* csv_lock_release() - the lock is gone, granted, waiting or revoked. Returns 0; -ENOENT. */
MUST_USE int csv_lock_release(struct csv_lock *l, const struct csv_lock_id *id, uint64_t now_ns);

/* csv_lock_purge() - *there is a fence proof* for this run of the node, or it said itself that it
 * has ended: all its locks, and those of its earlier runs, are gone. Returns how many. */
uint32_t csv_lock_purge(struct csv_lock *l, const struct csv_lock_owner *owner, uint64_t now_ns);

/* csv_lock_remind() - this client may not have heard the last notices and revocations: say those
 * that still hold again. */
void csv_lock_remind(struct csv_lock *l, const struct csv_lock_owner *owner);

/* csv_lock_set_grace() - grace ends when all who may hold locks have reclaimed them or are gone. */
void csv_lock_set_grace(struct csv_lock *l, bool grace);

/* csv_lock_tick() - time has passed; call it not before csv_lock_next_ns(), and then soon. */
void csv_lock_tick(struct csv_lock *l, uint64_t now_ns);

/* csv_lock_next_ns() - when csv_lock_tick() has something to do; UINT64_MAX = not by itself. */
uint64_t csv_lock_next_ns(const struct csv_lock *l);

/* csv_lock_postpone() - the caller could not listen for @by_ns: what is due is so later by that. */
void csv_lock_postpone(struct csv_lock *l, uint64_t by_ns);

/* csv_lock_overdue() - the newest run of @node that CSV_LOCK_FENCE was said of, and that still has
 * not released it; 0 = none. */
uint64_t csv_lock_overdue(const struct csv_lock *l, uint32_t node);

enum csv_lock_action_type {
	CSV_LOCK_GRANTED, /* what waited; mode, arg */
	CSV_LOCK_NOTICE,  /* somebody waits for @mode, and this lock is in the way */
	CSV_LOCK_REVOKE,  /* release it; nothing that rests on it may go on */
	CSV_LOCK_FENCE,   /* its owner did not: only a fence proof helps */
};

struct csv_lock_action {
	enum csv_lock_action_type type;
	struct csv_lock_id id;
	struct csv_lock_name name;
	uint32_t mode;
	uint64_t arg;
};

/* csv_lock_next_action() - what has to be said to somebody, if there is something. */
bool csv_lock_next_action(struct csv_lock *l, struct csv_lock_action *out);

enum csv_lock_state {
	CSV_LOCK_NEW,     /* waits, holds nothing */
	CSV_LOCK_HELD,    /* perhaps a conversion waits */
	CSV_LOCK_NOTICED, /* held, and in somebody's way */
	CSV_LOCK_REVOKED, /* held, until its owner releases it */
};

struct csv_lock_info {
	struct csv_lock_id id;
	struct csv_lock_name name;
	enum csv_lock_class class;
	enum csv_lock_state state;
	bool waiting;
	uint32_t granted; /* if not CSV_LOCK_NEW */
	uint32_t wanted;  /* if waiting */
	uint64_t from;
	uint64_t to;
	uint64_t since_ns; /* granted or, if waiting, asked for */
};

/* csv_lock_find() - how a lock stands. Returns 0; -ENOENT. */
MUST_USE int csv_lock_find(const struct csv_lock *l, const struct csv_lock_id *id,
                           struct csv_lock_info *out);

/* csv_lock_walk() - @see(arg) each lock of a client, or (@owner NULL) of all. It must not change
 * anything. */
typedef void (*csv_lock_see_fn)(void *arg, const struct csv_lock_info *info);
void csv_lock_walk(const struct csv_lock *l, const struct csv_lock_owner *owner,
                   csv_lock_see_fn see, void *arg);

struct csv_lock_stats {
	uint32_t locks; /* now */
	uint32_t waiting;
	uint32_t resources;
	uint32_t clients;
	uint64_t requests; /* since the start, with conversions */
	uint64_t granted_at_once;
	uint64_t granted_later;
	uint64_t busy;
	uint64_t deadlocks;
	uint64_t in_grace;
	uint64_t full;
	uint64_t reclaimed;
	uint64_t reclaim_conflicts;
	uint64_t notices;
	uint64_t revoked;
	uint64_t fences;
	uint64_t purged;
	uint64_t wait_max_ns;
};

void csv_lock_get_stats(const struct csv_lock *l, struct csv_lock_stats *out);

/* csv_lock_wait_ns() - of those that had to wait, how long at most the @permille luckiest waited,
 * rounded up by at most a quarter; 0 = nobody waited. 500 = median, 990 = p99. */
uint64_t csv_lock_wait_ns(const struct csv_lock *l, uint32_t permille);

/* csv_lock_compatible() - may these two be granted together? */
bool csv_lock_compatible(enum csv_lock_class class, uint32_t a, uint32_t b);

/* csv_lock_mode_name() - "NL", "CR", ... */
const char *csv_lock_mode_name(enum csv_lock_mode mode);

/* csv_lock_verify() - CHECK the invariants: for tests. */
void csv_lock_verify(const struct csv_lock *l);

#endif
