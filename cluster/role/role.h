/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLUSTER_ROLE_ROLE_H
#define CLUSTER_ROLE_ROLE_H

/*
 * role - one VM as the cluster's business: who may run it, and every way that can change.
 *
 *            want online        all volumes acknowledged      START      STARTED
 *   OFFLINE ------------> RAISING ----------------> PLACING ------> STARTING ------> ONLINE
 *      ^                  ^  ^  (token + 1)           ^              |  |  ^          |  |
 *      |   proof, or      |  |  start failed          |   (stopped)  |  |  | SWITCH   |  | MIGRATE
 *      |   worker crashed |  +------------------------|--------------+  |  | token+1  |  v
 *      |                  |                           |                 |  +------- MIGRATING
 *   STOPPING              +-- FENCING <-- UNMONITORED <--- owner left --+-------------+  |
 *      ^                         ^          | owner is back: ONLINE                      |
 *      +-- want offline          +----------+ period over                    owner left -+
 *
 *   RELOCATE: ONLINE to STOPPING, still wanted online: from there to RAISING, and elsewhere.
 *
 *   FAILED: restart limits used up; leaves it when a person wants it online.
 *
 * Invariants, role_check():
 *   OFFLINE RAISING PLACING FAILED      nobody owns it: nothing of it runs, proven
 *   STARTING ONLINE STOPPING MIGRATING UNMONITORED FENCING
 *                                       exactly one (node, incarnation) owns it and may run it
 *   PLACING, STARTING (not incoming)    every volume has acknowledged the current token
 *   the token never shrinks and grows with each new owner
 *
 * All changes are struct role_cmd, entries of the cluster database. Each states what it expects
 * (epoch, token, owner); if that is not so any more it does nothing: late, doubled and stale
 * commands are harmless. Only role_table_apply() (cluster/role/role_table.h) changes a role.
 *
 * Time is cluster time [ms]: it travels in the entries, only grows, and stands while there is no
 * primary view (docs/decisions/0141). Pure: no clock, no allocation here. Value types.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ROLE_NODES_MAX 64u           /* node ids are 1..64: a set of nodes is one word */
#define ROLE_VOLUMES_MAX 64u         /* volume ids are 1..64, for the same reason */
#define ROLE_COUNT_MAX 16384u        /* ids of roles; twice what Failover Clustering allows */
#define ROLE_MEMORY_MAX (1ull << 48) /* bytes of one VM: sums of all stay within 64 bits */
#define ROLE_CPUS_MAX 4096u
#define ROLE_NAME_MAX 64u /* with NUL */
#define ROLE_PREFERRED_MAX 8u
#define ROLE_GROUPS_MAX 4u /* anti-affinity groups of one VM */
#define ROLE_AFTER_MAX 4u  /* VMs that must be online before it */
#define ROLE_TIMES_MAX 8u  /* restarts remembered; limits are at most this */

enum role_state {
	ROLE_OFFLINE,
	ROLE_RAISING,     /* a new token is on its way to the volumes */
	ROLE_PLACING,     /* may be started, on any one node */
	ROLE_STARTING,    /* owned; the owner's agent starts it */
	ROLE_ONLINE,      /* owned; runs */
	ROLE_STOPPING,    /* owned; the owner's agent stops it */
	ROLE_MIGRATING,   /* owned by the source; the destination prepares */
	ROLE_UNMONITORED, /* owned by a node that is out of sight; it may still run: we wait */
	ROLE_FENCING,     /* as before, but a proof is being made */
	ROLE_FAILED,      /* given up: too many restarts */
	ROLE_STATE_COUNT
};

enum role_want { ROLE_WANT_OFFLINE, ROLE_WANT_ONLINE };

enum role_priority {
	ROLE_PRIORITY_NONE, /* is not restarted by itself */
	ROLE_PRIORITY_LOW,
	ROLE_PRIORITY_MEDIUM,
	ROLE_PRIORITY_HIGH,
	ROLE_PRIORITY_COUNT
};

/* What a drain does with a VM that cannot be moved live. */
enum role_fallback {
	ROLE_FALLBACK_LEAVE,    /* it stays and blocks the drain */
	ROLE_FALLBACK_QUICK,    /* save, move, restore */
	ROLE_FALLBACK_SHUTDOWN, /* shut the guest down, start it elsewhere */
	ROLE_FALLBACK_COUNT
};

/* The last thing that happened to a role, for people. */
enum role_why {
	ROLE_WHY_NONE,
	ROLE_WHY_WANTED,       /* a person asked for it */
	ROLE_WHY_GUEST_OFF,    /* the guest shut itself down */
	ROLE_WHY_CRASHED,      /* its worker ended unexpectedly */
	ROLE_WHY_START_FAILED, /* the owner could not start it */
	ROLE_WHY_LOST,         /* its node left the cluster */
	ROLE_WHY_FENCED,       /* its node is proven stopped */
	ROLE_WHY_LEFT,         /* its node left in order */
	ROLE_WHY_LIMIT,        /* restarted too often */
	ROLE_WHY_NO_AUTO,      /* priority none: not restarted by itself */
	ROLE_WHY_MOVED,        /* a migration ended */
	ROLE_WHY_COUNT
};

/* A run of a node. Incarnations are numbers that the database gives out, 1, 2, ... per node. */
struct role_at {
	uint32_t node; /* 1..ROLE_NODES_MAX; 0 = nowhere */
	uint64_t inc;
};

/* What a person decides about a VM. Changes at any time. */
struct role_policy {
	enum role_priority priority;
	enum role_fallback fallback;
	uint64_t possible;                      /* set of nodes; 0 = all */
	uint32_t preferred[ROLE_PREFERRED_MAX]; /* nodes, best first; 0 = end */
	uint32_t groups[ROLE_GROUPS_MAX];       /* keep apart from others of the group; 0 = none */
	uint32_t after[ROLE_AFTER_MAX];         /* roles; 0 = none */
	uint64_t volumes;                       /* set of volumes it writes to */
	uint64_t memory_bytes;
	uint32_t cpus;
	uint32_t restart_max; /* restarts in place within the window; then another node */
	uint32_t restart_window_s;
	uint32_t failover_max; /* moves after failures within the window; then FAILED */
	uint32_t failover_window_s;
	uint32_t resiliency_ms; /* wait so long for a lost node whose disk lease goes on; 0 = not */
	bool isolated_ok;       /* may go on on its disk leases when its node is cut off */
	bool strict;            /* a proof by storage alone is not enough: also silence */
	bool patient;           /* resiliency_ms for any lost node, whatever its disk leases do */
};

/* Times of the last restarts, a ring. */
struct role_times {
	uint64_t at_ms[ROLE_TIMES_MAX];
	uint32_t count; /* ever */
};

struct role {
	uint32_t id; /* 1.. */
	char name[ROLE_NAME_MAX];
	struct role_policy policy;
	enum role_state state;
	enum role_state before; /* UNMONITORED, FENCING: what it was when its node was lost */
	enum role_want want;
	enum role_why why;
	bool frozen;   /* the leader does nothing with it; facts are still recorded */
	bool dirty;    /* changed since role_table_flush() */
	bool incoming; /* STARTING by hand-over: the owner itself gathers the volumes' words */
	struct role_at owner; /* who may run it */
	struct role_at dest;  /* MIGRATING: where to */
	uint64_t token;       /* of the owner; only grows */
	uint64_t acked;       /* set of volumes that refuse older tokens */
	uint64_t since_ms;    /* in this state since */
	uint64_t until_ms;    /* UNMONITORED: until; RAISING, PLACING: not to be started before */
	uint64_t tried;       /* nodes where it failed to start since it was last online */
	uint32_t in_place;    /* the node on which to restart it if possible; 0 = any */
	struct role_times restarts;
	struct role_times failovers;
};

/* role_policy_default() - medium, any node, two restarts in place per 15 min, 4 moves per 6 h. */
void role_policy_default(struct role_policy *p);

/* role_owned() - does somebody own it in this state? */
bool role_owned(enum role_state state);

/* role_is_at() - is it owned by this run of a node? */
bool role_is_at(const struct role *r, struct role_at at);

/*
 * role_may_run() - the one question an agent asks before it starts a VM and while it runs it:
 * does the database say that @self may run it? (The lease is asked beside it.)
 */
bool role_may_run(const struct role *r, struct role_at self);

/* role_policy_check() - is it in range? Returns NULL, or what is wrong. */
const char *role_policy_check(const struct role_policy *p);

/* role_check() - the invariants. Returns NULL, or what is broken. */
const char *role_check(const struct role *r);

/* role_describe() - one line for people: state, where, since when, why, what it waits for. */
void role_describe(const struct role *r, uint64_t now_ms, char *buf, size_t size);

/* Words as the command line uses them. */
const char *role_state_name(enum role_state state);
const char *role_why_name(enum role_why why);
const char *role_priority_name(enum role_priority priority);
const char *role_fallback_name(enum role_fallback fallback);

/* role_bit() - the set with node or volume @id alone; 0 for 0 and for what is out of range. */
static inline uint64_t role_bit(uint32_t id)
{
	return id >= 1 && id <= 64 ? 1ull << (id - 1) : 0;
}

#endif
