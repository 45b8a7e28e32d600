/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLUSTER_LEAD_WHATIF_H
#define CLUSTER_LEAD_WHATIF_H

/*
 * whatif - what the leader would do if nodes died now, or one were emptied: by the functions that
 * it would use then, on the tables as they are. Nothing is proposed.
 *
 * Times count from the death and are bounds of what is certain: a ring without the node, the proof
 * that it has stopped. How long a fence device, the volumes' acknowledgements and the starts
 * themselves take is not known beforehand. Thread: the owner of the struct lead.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "cluster/lead/lead.h"
#include "cluster/place/place.h"

struct whatif_ask {
	uint64_t dead;  /* set of nodes that die now; or: */
	uint32_t drain; /* node that is emptied; 0 = none */
	bool majority;  /* those who are left have one */
};

enum whatif_fate {
	WHATIF_UNTOUCHED,
	WHATIF_STARTS,    /* elsewhere, in a wave */
	WHATIF_NOWHERE,   /* no node takes it */
	WHATIF_OFF,       /* nobody wants it online, or it is not restarted by itself */
	WHATIF_GIVEN_UP,  /* it failed too often lately */
	WHATIF_WAITS,     /* for a proof that does not come by itself, or for a majority */
	WHATIF_MOVES,     /* alive */
	WHATIF_QUICK,     /* saved, moved, resumed */
	WHATIF_SHUT_DOWN, /* and started elsewhere */
	WHATIF_BLOCKED,   /* it stays, and with it the drain */
	WHATIF_FATE_COUNT
};

/* One VM's part. */
struct whatif_vm {
	const struct role *role; /* borrowed from the table */
	enum whatif_fate fate;
	uint32_t to;      /* node; 0 = none */
	uint32_t wave;    /* 0 = none */
	uint64_t held_ms; /* not before so long: it failed over twice within a minute */
};

/* Which proof about a node comes, and when. */
struct whatif_node {
	uint64_t detect_min_ns;
	uint64_t detect_max_ns;
	enum role_proof proof; /* POWER, LEASE or NONE: a person, or its return */
	uint64_t proof_min_ns; /* of POWER: without the device's own time */
	uint64_t proof_max_ns; /* of POWER: by the lease, if that is one; else as _min_ */
};

/* Borrowed until the next call with the same struct lead. */
struct whatif {
	struct place_in in;
	const struct place_choice *choices; /* [in.vm_count] */
	struct place_summary sum;
};

/* whatif_run() - plan. @view: borrowed for the call. */
void whatif_run(struct lead *l, const struct lead_view *view, const struct whatif_ask *ask,
                uint64_t now_ms, struct whatif *out);

/* whatif_vm() - what becomes of VM @index of w->in. */
void whatif_vm(const struct whatif *w, const struct lead_view *view, const struct whatif_ask *ask,
               uint32_t index, struct whatif_vm *out);

/* whatif_vm_text() - why, one line for people; names of nodes as n1, n2. */
void whatif_vm_text(const struct whatif *w, const struct whatif_vm *vm, uint32_t index, char *buf,
                    size_t size);

/* whatif_node() - the proof about @node. */
void whatif_node(const struct lead_view *view, uint32_t node, struct whatif_node *out);

const char *whatif_fate_name(enum whatif_fate fate);

#endif
