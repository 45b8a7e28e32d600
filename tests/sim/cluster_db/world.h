/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SIM_CLUSTER_DB_WORLD_H
#define TESTS_SIM_CLUSTER_DB_WORLD_H

/*
 * world - a whole cluster's database in one process: n nodes with the real view and log cores, on a
 * simulated corosync (tests/lib/corosim.h) and disks that lose what was not synced. Clients propose
 * and read; faults come by chance; oracles look at every entry that any node applies.
 *
 * Oracles: the entry at an index is the same on all nodes, forever, and so is the state after
 * it; a proposal that was answered "done" is there, at the index it was told; one that was refused
 * never is; none is applied twice; what was invoked after another one was done has a higher
 * index (with reads as entries that is linearizability); when faults stop, all nodes become
 * active again with the same log.
 */

#include <stdbool.h>
#include <stdint.h>

enum world_bug {
	WORLD_SOUND,
	WORLD_SELF_DELIVERY, /* hearing an entry counts as everybody's acknowledgement */
	WORLD_LYING_DISK,    /* sync is answered before anything is durable */
	WORLD_LOST_SESSIONS, /* the disk forgets which requests were done */
	WORLD_BUG_COUNT
};

struct world_cfg {
	uint64_t seed;
	uint32_t nodes;
	enum world_bug bug;
	bool verbose;
};

struct world_report {
	char violation[256]; /* "" = none */
	uint64_t applied;    /* entries */
	uint64_t done;       /* proposals */
	uint64_t unknown;
	uint64_t refused;
	uint64_t retried; /* by clients that had no answer */
	uint64_t epochs;
	uint64_t snapshots; /* whole states fetched */
};

/* Run one seed: faults for a while, then healing. */
void world_run(const struct world_cfg *cfg, struct world_report *out);

const char *world_bug_name(enum world_bug bug);

#endif
