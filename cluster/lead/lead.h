/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLUSTER_LEAD_LEAD_H
#define CLUSTER_LEAD_LEAD_H

/*
 * lead - what the leader of a primary view does next: who is lost, who is fenced, which tokens are
 * raised, which VM starts where, which moves from a node in maintenance.
 *
 * Every member has a struct lead and tells it of renewals as it learns of them, so that a new
 * leader does not begin to wait anew. Only the leader calls lead_step(), whenever something
 * changed and at lead_next_ns(). It proposes commands and asks for actions; about a state of a role
 * or node it says the same again only after LEAD_AGAIN_NS. Safety does not rest on it:
 * role_table_apply() checks what each command expects, and a proof is only what fence_proof() says.
 *
 * Pure but for the memory of lead_create(). One thread.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "cluster/fence/fence.h"
#include "cluster/role/role_cmd.h"

struct lead;
struct place_choice;
struct role_table;
struct timing;

#define LEAD_AGAIN_NS 1000000000ull /* a proposal is lost with its view, or slow */
#define LEAD_AFTER_MS 300000u       /* a VM waits for others that start before it; then it starts */
#define LEAD_CMDS_MAX 64u           /* from one step; the rest comes with the next */

/* How a node is emptied. */
struct lead_drain {
	bool forced; /* for VMs that cannot be moved alive: .fallback, not their policies' */
	enum role_fallback fallback;
	uint32_t moves; /* at the same time; 0 = moves_per_node */
	bool hold;      /* no VM leaves yet: something else goes first */
};

/* What is known of earlier attempts to move a VM. */
struct lead_hint {
	uint64_t avoid; /* set of nodes that it cannot go to */
	bool no_live;   /* its guest writes too fast */
};

/* What the leader sees, beside the database. */
struct lead_view {
	const struct role_table *table; /* borrowed for the call, as are the others */
	const struct timing *timing;
	uint64_t members;             /* set of nodes in the primary view */
	uint64_t run[ROLE_NODES_MAX]; /* [id - 1]: incarnation that a member says it is; 0 = new */
	uint64_t preemptable;         /* set: volumes where keys can be taken away */
	uint32_t devices[ROLE_NODES_MAX][FENCE_LEVELS_MAX]; /* power devices of each node */
	uint64_t action_ns;       /* a fence action is given up after so long */
	uint32_t starts_per_node; /* at the same time */
	uint32_t moves_per_node;
	bool apart_hard;
	bool paths_hard;       /* nobody does I/O for another node */
	bool node_leases_only; /* no VM lives on leases of volumes: nobody reads their slots */
	/* A proof by storage is one of all that the run could write, or none: .storage[id - 1], of
	 * nodes that are being fenced; 0 = storage proves nothing about it. */
	bool storage_whole;
	uint64_t storage[ROLE_NODES_MAX];
	struct lead_drain drains[ROLE_NODES_MAX]; /* [id - 1] of nodes that are emptied */
	const struct lead_hint *hints; /* [role id - 1], of VMs that somebody owns; NULL = none */
};

struct lead_raise {
	uint32_t role;
	uint32_t volume;
	uint64_t token;
};

struct lead_fence {
	struct role_at at;
	uint64_t gen; /* of the case: one that begins again counts its tries from 1 again */
	struct fence_action action;
};

/* What to do. Everything may be done at the same time. */
struct lead_out {
	struct role_cmd cmds[LEAD_CMDS_MAX]; /* propose */
	uint32_t cmd_count;
	struct lead_raise
		raises[LEAD_CMDS_MAX]; /* have the volume refuse older tokens, then lead_raised() */
	uint32_t raise_count;
	struct lead_fence fences[LEAD_CMDS_MAX]; /* run, then lead_fenced() */
	uint32_t fence_count;
};

/* lead_create() - for roles with ids up to @role_max. Returns 0; -ENOMEM. */
MUST_USE int lead_create(uint32_t role_max, struct lead **out);
void lead_destroy(struct lead *l);

/* lead_begin() - this node leads a view from now on: nothing of an earlier time counts but what was
 * learned of renewals. */
void lead_begin(struct lead *l, uint64_t now_ns);

/* lead_joined() - @at has joined: its node lease may last @lease_ms from now. */
void lead_joined(struct lead *l, const struct timing *t, struct role_at at, uint32_t lease_ms,
                 uint64_t now_ns);

/* lead_renewed() - renewal @seq of the node lease of @at was applied. */
void lead_renewed(struct lead *l, const struct timing *t, struct role_at at, uint64_t seq,
                  uint32_t lease_ms, uint64_t now_ns);

/* lead_slot() - the liveness slot of @at on @volume was read, now: it stands at @seq. */
void lead_slot(struct lead *l, const struct timing *t, struct role_at at, uint32_t volume,
               uint64_t seq, uint64_t now_ns);

/* lead_step() - decide. @now_ms: cluster time. */
void lead_step(struct lead *l, const struct lead_view *view, uint64_t now_ns, uint64_t now_ms,
               struct lead_out *out);

/* lead_raised() - the volume refuses tokens below @raise->token: commit that. @out: one command. */
void lead_raised(const struct lead_raise *raise, const struct lead_view *view, uint64_t now_ms,
                 struct role_cmd *out);

/* lead_fenced() - a fence action came to its end; call lead_step() after it. @err: as
 * fence_done(). Nothing happens if it is of a case that is over: of an earlier time as the leader,
 * or of the node's. */
void lead_fenced(struct lead *l, const struct lead_fence *fence, int err, uint64_t now_ns);

/* lead_power_changed() - @node has other power devices now: nothing that was done with the old ones
 * proves anything. */
void lead_power_changed(struct lead *l, uint32_t node);

/* lead_storage_changed() - what storage has to prove about @node, or with which keys, is something
 * else now. */
void lead_storage_changed(struct lead *l, uint32_t node);

/* lead_next_ns() - when to call lead_step() at the latest. */
uint64_t lead_next_ns(const struct lead *l, const struct lead_view *view, uint64_t now_ns);

/* Where VM @r of a node goes that is emptied, or why not. */
typedef void (*lead_plan_fn)(void *arg, const struct role *r, const struct place_choice *c);

/* lead_plan_drain() - how @node would be emptied now, VM by VM in the order of their ids. */
void lead_plan_drain(struct lead *l, const struct lead_view *view, uint32_t node, uint64_t now_ms,
                     lead_plan_fn fn, void *arg);

/* lead_explain() - why role @id is not online, and which timer runs; one line. */
void lead_explain(struct lead *l, uint32_t id, const struct lead_view *view, uint64_t now_ns,
                  uint64_t now_ms, char *buf, size_t size);

#endif
