/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLUSTER_LEAD_LEAD_INT_H
#define CLUSTER_LEAD_LEAD_INT_H

/* lead_int - between the files of this folder. */

#include "cluster/lead/lead.h"
#include "cluster/lease/lease.h"
#include "cluster/place/place.h"
#include "cluster/role/role_table.h"

/* What was proposed last about a role or node: the same again only after LEAD_AGAIN_NS. */
struct lead_once {
	uint64_t at_ns; /* 0 = nothing */
	uint64_t what;  /* of which state */
};

struct lead_node {
	struct role_at at;        /* the run that is watched */
	struct lease_watch watch; /* of its node lease */
	struct lease_watch slots[ROLE_VOLUMES_MAX];
	uint64_t slot_read_ns[ROLE_VOLUMES_MAX]; /* last successful read; 0 = never */
	struct lead_once once;
	bool fencing; /* .fence is in use */
	uint64_t gen; /* of .fence: never twice the same */
	struct fence fence;
};

/* A move that was proposed for a node that is emptied. */
struct lead_drained {
	uint64_t at_ns; /* 0 = none */
	uint64_t token; /* of the role then */
	uint64_t to;    /* nodes it may go to: a set */
	bool seen;      /* in the table */
};

struct lead {
	uint32_t role_max;
	uint64_t gen; /* the last one that was given to a fence */
	struct lead_node nodes[ROLE_NODES_MAX];
	struct lead_once *once;         /* owned: [role id - 1] */
	struct lead_drained *drained;   /* owned: [role id - 1] */
	struct place_node *place_nodes; /* owned: [ROLE_NODES_MAX] */
	struct place_vm *place_vms;     /* owned: [role_max] */
	struct place_choice *choices;   /* owned: [role_max] */
	void *work;                     /* owned */
};

/* lead_propose() - one more command, unless there is no room. */
void lead_propose(struct lead_out *out, const struct lead_view *view, uint64_t now_ms,
                  struct role_cmd cmd);

/* lead_due() - is it time to propose something about the state @what (any number that differs from
 * state to state)? Then it counts as done. */
bool lead_due(struct lead_once *once, uint64_t what, uint64_t now_ns);

/* lead_role_state(), lead_node_state() - such numbers. */
uint64_t lead_role_state(const struct role *r);
uint64_t lead_node_state(const struct role_node *n);

/* lead_fences() - nodes that are being fenced. */
void lead_fences(struct lead *l, const struct lead_view *view, uint64_t now_ns, uint64_t now_ms,
                 struct lead_out *out);
void lead_fence_view(const struct lead *l, const struct lead_view *view, const struct role_node *n,
                     uint64_t now_ns, struct fence_view *out);

/* lead_waits_for() - the role that is to run before @r and does not yet; NULL: it may start. */
const struct role *lead_waits_for(const struct role_table *t, const struct role *r,
                                  uint64_t now_ms);

/* lead_starts(), lead_drains() - roles that wait for a node; nodes that are emptied. */
void lead_starts(struct lead *l, const struct lead_view *view, uint64_t now_ns, uint64_t now_ms,
                 struct lead_out *out);
void lead_drains(struct lead *l, const struct lead_view *view, uint64_t now_ns, uint64_t now_ms,
                 struct lead_out *out);
/* lead_input() - the table as input of a placement. Returns the number of VMs. */
void lead_input(struct lead *l, const struct lead_view *view, uint64_t now_ms, struct place_in *in);

#endif
