/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SIM_CSV_COORD_WORLD_H
#define TESTS_SIM_CSV_COORD_WORLD_H

/*
 * world - a shared volume, some nodes with a client each, one of them coordinating, connections
 * that delay and break, a device that takes its time, and a cluster that fences and appoints. All
 * in virtual time, from one seed.
 *
 *	world.c  nodes, connections, device, cluster, faults      acts.c  what the nodes do, oracles
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "csv/client/csv_client.h"
#include "csv/coord/csv_coord.h"
#include "tests/sim/csv/sim_disk.h"

#define NODES 4u
#define MS 1000000ull
#define SEC (1000 * MS)
#define LEASE_NS (10 * SEC)
#define WIRE_MAX 1024u /* messages on their way */
#define WIRE_BYTES 6144u
#define WRITES_MAX 64u /* data on its way to the device */
#define UNITS 64u
#define FILES 3u
#define LOCKS 2u

/* What the world does wrong on purpose; the oracles must see it. */
enum lie {
	LIE_NONE,
	LIE_PROOF,   /* a fence proof for a node whose writes still go on */
	LIE_RETURN,  /* a lease is returned while writes of it are on their way */
	LIE_HOLDERS, /* the list of holders misses a run */
	LIE_PURGE,   /* a broken connection counts as a proof */
	LIE_COUNT
};

struct name_act {
	struct csv_client_req req;
	bool busy;
	bool exists;
	uint32_t serial; /* of the name that exists, or existed last */
	uint32_t kind;   /* 0 create, 1 rename, 2 unlink */
	char name[32];
	char name2[32];
};

enum file_step {
	FILE_IDLE,
	FILE_LOOKUP,
	FILE_OPEN,
	FILE_LAYOUT,
	FILE_WRITING,
	FILE_CONVERT,
	FILE_DRAIN,
	FILE_RETURN,
	FILE_TRUNCATE,
	FILE_CLOSE,
	FILE_UNLINK,
};

struct file_act {
	struct csv_client_req req;
	bool busy;
	enum file_step step;
	uint32_t file;
	uint32_t share;
	uint64_t ino;
	uint64_t generation;
	uint64_t handle; /* opened: counts for the oracle */
	uint64_t lease;
	bool opened;
	bool leased;
	bool give_up; /* somebody waits for the lease */
	bool truncates;
	uint32_t to_write;
	uint64_t wrote_unit;
	char name[8];
};

struct lock_act {
	struct csv_client_req req;
	bool busy;
	bool held;
	bool unlocking;
	uint64_t number;
	uint32_t object;
	uint32_t mode;
	uint64_t from;
	uint64_t to;
	uint64_t until;
	bool give_up;
};

struct node {
	uint64_t incarnation; /* 0 = not up */
	bool up;
	uint64_t frozen_until; /* of its user space */
	uint64_t boot_at;      /* if down */
	uint64_t fence_at;     /* 0 = not decided */
	uint64_t connect_at;
	uint64_t connection; /* number of the current one; 0 = none */
	uint64_t renewed_ns;
	struct csv_client *client; /* owned */
	struct name_act names;
	struct file_act file;
	struct lock_act locks[2];
};

struct wire {
	bool to_coord;
	uint32_t node;
	uint64_t connection;
	uint64_t at;
	uint64_t order;
	int len;
	uint8_t *bytes; /* owned */
};

struct data {
	bool used;
	uint32_t node;
	uint64_t incarnation;
	uint64_t unit;
	uint64_t file; /* whose it was when it was leased */
	uint64_t at;
};

/* A name that a run which is gone may have left. */
struct left {
	char name[32];
	char other[32]; /* or this; "" = or none */
	bool may_miss;
};

struct world {
	uint64_t random;
	uint64_t now;
	enum lie lie;
	struct sim_disk *disk;
	struct csv_super super;
	struct csv_members members;
	struct csv_coord *coord; /* owned; NULL = none */
	uint32_t coord_node;
	uint64_t coord_at;   /* when there is to be one */
	uint64_t coord_next; /* node that a planned move named; NODES = any */
	bool quiet;
	uint64_t quiet_at;
	uint64_t term;
	bool faults;
	struct node nodes[NODES];
	struct wire wires[WIRE_MAX];
	uint32_t wires_count;
	uint64_t order;
	uint64_t last_at[NODES][2]; /* connections keep the order */
	uint64_t connections;
	struct data data[WRITES_MAX];
	uint64_t unit_of[UNITS]; /* which file a unit was leased for last */
	struct left left[1024];
	uint32_t left_count;
	struct csv_lock_owner holders[CSV_COORD_HOLDERS_MAX];
	uint32_t holders_count;

	uint64_t violations;
	char why[300];
	uint64_t acknowledged;
	uint64_t repeated;
	uint64_t writes;
	uint64_t aborted;
	uint64_t terms;
	uint64_t moves;
	uint64_t fenced;
	uint64_t grants;
	uint64_t opens;
	uint64_t leases;
	uint64_t lost;
	uint64_t full;
	uint64_t alone; /* writes submitted while nobody coordinated */
};

uint32_t dice(struct world *w, uint32_t below);
void violation(struct world *w, const char *what, uint64_t a, uint64_t b);

/* world_run() - for so long, with faults; then without until all is quiet, and everything is
 * looked at. */
void world_init(struct world *w, uint64_t seed, enum lie lie);
void world_run(struct world *w, uint64_t for_ns);
void world_fini(struct world *w);

/* Does user space of this node run? */
bool node_runs(const struct world *w, const struct node *n);

/* acts.c */
void acts_boot(struct world *w, struct node *n);
void acts_take(struct world *w, struct node *n);
void acts_step(struct world *w, struct node *n, bool more);
void acts_dead(struct world *w, struct node *n);
bool acts_idle(const struct node *n);
void acts_lease_said(struct world *w, const struct csv_msg *msg);
void acts_names(const struct world *w, struct left *out, uint32_t *count);

#endif
