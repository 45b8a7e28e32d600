/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLUSTER_PLACE_PLACE_H
#define CLUSTER_PLACE_PLACE_H

/*
 * place - which node runs which VM: a pure function of what is given, so that it can be saved,
 * replayed and explained.
 *
 * VMs are placed by priority, then by size. A node is out for a VM by one of enum place_out, the
 * first that applies; of the others the best by, in this order: reaches all its volumes itself;
 * is where it ran (restart in place); is preferred, by rank; has no VM of its anti-affinity groups;
 * has the largest share of memory free afterwards; the least vCPUs per processor; the lowest id.
 *
 * Three questions: place_run() (where to), place_failover() (what if these nodes die, and when is
 * each VM back), place_drain() (how to empty a node). Each VM gets a struct place_choice which
 * holds enough to say why: place_explain().
 *
 * Pure: no clock, no allocation; the caller gives the working memory.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "cluster/role/role.h"

/* Why a node is out for a VM. */
enum place_out {
	PLACE_OUT_NONE,
	PLACE_OUT_DOWN,       /* not up */
	PLACE_OUT_DRAIN,      /* in maintenance */
	PLACE_OUT_QUARANTINE, /* failed too often lately */
	PLACE_OUT_POSSIBLE,   /* not a possible owner */
	PLACE_OUT_TRIED,      /* failed to start there */
	PLACE_OUT_CPU_LEVEL,  /* its processors lack features the VM was given */
	PLACE_OUT_CPUS,       /* fewer processors than the VM has */
	PLACE_OUT_MEMORY,     /* not enough memory left */
	PLACE_OUT_APART,      /* a VM of the same group is there, and apart is a must */
	PLACE_OUT_PATH,       /* does not reach its volumes itself, and that is a must */
	PLACE_OUT_COUNT
};

enum place_node_state { PLACE_NODE_UP, PLACE_NODE_DOWN, PLACE_NODE_DRAIN, PLACE_NODE_QUARANTINE };

struct place_node {
	uint32_t id; /* 1..ROLE_NODES_MAX, each once */
	enum place_node_state state;
	uint32_t cpus;
	uint32_t cpu_level;    /* 0 = lowest; a VM needs at least its own */
	uint64_t memory_bytes; /* for VMs; what the host keeps is not in it */
	uint64_t paths;        /* set of volumes it reaches itself */
};

struct place_vm {
	uint32_t id;
	const char *name; /* borrowed */
	uint32_t node;    /* where it is (it uses memory there); 0 = nowhere */
	bool wanted;      /* place_run(): find a node for it */
	bool live;        /* can be moved while it runs */
	uint32_t cpu_level;
	uint32_t in_place; /* the node to prefer for a restart; 0 = none */
	uint64_t tried;    /* set of nodes where it failed to start */
	struct role_policy policy;
};

struct place_in {
	const struct place_node *nodes; /* borrowed: [node_count], ordered by id */
	uint32_t node_count;
	const struct place_vm *vms; /* borrowed: [vm_count], ordered by id */
	uint32_t vm_count;
	uint64_t reserve_bytes;   /* of each node: kept free for failovers; 0 in a failover */
	bool apart_hard;          /* anti-affinity is a must, not a wish */
	bool paths_hard;          /* nobody does I/O for another node */
	uint32_t starts_per_node; /* at the same time; storm control */
	uint32_t moves_per_node;  /* at the same time, drains */
	uint64_t now_ms;          /* for records only */
	uint64_t epoch;
};

/* What was decided for one VM. */
struct place_choice {
	uint32_t node; /* where to; 0 = nowhere */
	uint32_t wave; /* plans: 1, 2, ...: those of a wave go at the same time; 0 = not at all */
	enum {
		PLACE_STAY,
		PLACE_START,
		PLACE_LIVE,
		PLACE_QUICK,
		PLACE_SHUTDOWN,
		PLACE_BLOCKED
	} how;
	bool direct;                   /* the node reaches all its volumes itself */
	bool preferred;                /* it is one of the preferred owners */
	bool together;                 /* a VM of the same group is there: a wish not fulfilled */
	uint16_t free_permille;        /* of its memory afterwards */
	uint32_t waits_for;            /* plans: the VM that must be online first; 0 = none */
	uint64_t out[PLACE_OUT_COUNT]; /* sets of nodes, by why they are out */
};

struct place_summary {
	uint32_t placed;
	uint32_t nowhere; /* wanted, but no node takes it */
	uint32_t waves;
};

/* place_work_bytes() - working memory for so many VMs; any alignment of malloc(). */
size_t place_work_bytes(uint32_t vm_count);

/* place_run() - a node for each wanted VM that is nowhere. @out[vm_count]; @work: see above. */
void place_run(const struct place_in *in, void *work, struct place_choice *out,
               struct place_summary *sum);

/*
 * place_failover() - if all nodes of the set @dead died now: where and in which wave each of their
 * VMs starts. VMs of priority none stay off. Waves respect starts_per_node and policy.after.
 */
void place_failover(const struct place_in *in, uint64_t dead, void *work, struct place_choice *out,
                    struct place_summary *sum);

/*
 * place_drain() - how to empty @node: live if the VM can, else what its policy allows;
 * PLACE_BLOCKED with the reasons in .out if nothing does. Waves respect moves_per_node here and
 * there.
 */
void place_drain(const struct place_in *in, uint32_t node, void *work, struct place_choice *out,
                 struct place_summary *sum);

/* place_explain() - why VM @index is placed as it is, one line for people. */
void place_explain(const struct place_in *in, const struct place_choice *out, uint32_t index,
                   char *buf, size_t size);

/* place_out_name() - "down", "memory"... */
const char *place_out_name(enum place_out out);

#endif
