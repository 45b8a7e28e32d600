/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLUSTER_HA_MAINT_H
#define CLUSTER_HA_MAINT_H

/*
 * maint - what the database's documents say about maintenance: how VMs are moved, what a drain is
 * to do, and what became of moves.
 *
 *	DB_SETTING  "moves"    {"blackout_max_ns", "per_node"}: of all VMs of the cluster
 *	DB_JOB      "drain/2"  the drain of node 2: struct maint_drain
 *	DB_VM       NAME       "ha": {"blackout_max_ns", "fallback"}; "moved", "unmoved": what
 *	                       became of its last moves
 *
 * Reading only, nothing is kept: what is returned lives as long as the documents. Documents are
 * written by people's services; what makes no sense counts as not said.
 * docs/formats/cluster-vm.md, docs/decisions/0220.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/json.h"
#include "cluster/role/role.h"

struct db;
struct lead_drain;
struct lead_hint;

#define MAINT_SETTING "moves"
#define MAINT_MOVES_DEFAULT 2u
#define MAINT_MOVES_MAX 8u /* leaving a node at once; each takes a share of the network */
#define MAINT_BLACKOUT_MAX_NS (60 * 1000000000ull)
#define MAINT_AGAIN_MS 60000u /* a node that refused a VM is asked again after that */
#define MAINT_KEY_MAX 24u
#define MAINT_COORDINATORS_MS 10000u /* VMs wait so long for a volume's coordinator to go first */

/* What a drain does with a VM that does not move alive. */
enum maint_fallback {
	MAINT_BY_VM,    /* what its document says; that it says nothing is LIVE */
	MAINT_LIVE,     /* alive or not at all: the drain waits and tries again */
	MAINT_QUICK,    /* it stands still while it is copied */
	MAINT_SHUTDOWN, /* the guest is shut down, and started elsewhere */
	MAINT_LEAVE,    /* it stays; the drain does not wait for it */
	MAINT_FALLBACK_COUNT
};

struct maint_drain {
	uint64_t since_ms; /* cluster time */
	uint64_t version;  /* of the document */
	uint64_t inc;      /* run of the node that was to be emptied */
	enum maint_fallback fallback;
	uint32_t moves;       /* at once; 0 = as the setting says */
	bool shutdown;        /* the node goes down for a while: back is back */
	const char *boot;     /* with shutdown: which boot of the node it was; "" = not known */
	const char *failback; /* with shutdown: "none", "now", "policy" */
	const json_t *vms;    /* names of those it had: where they belong; may be NULL */
};

/* maint_blackout_ns() - for how long VM @name may stand still for a move: its own limit, else that
 * of the cluster; 0: nobody has said. */
uint64_t maint_blackout_ns(const struct db *db, const char *name);

/* maint_moves() - how many VMs leave a node at once, 1..MAINT_MOVES_MAX. */
uint32_t maint_moves(const struct db *db);

/* maint_key() - of the drain of @node in DB_JOB. */
const char *maint_key(uint32_t node, char buf[MAINT_KEY_MAX]);

/* maint_drain_get() - the drain of @node, also one that is over and whose VMs have not come back.
 * Returns false: none. */
bool maint_drain_get(const struct db *db, uint32_t node, struct maint_drain *out);

/* maint_fallback_of() - for a VM with @doc; never MAINT_BY_VM. @drain: what was asked for. */
enum maint_fallback maint_fallback_of(enum maint_fallback drain, const json_t *doc);

/* maint_fallback_parse() - "live"...; "": MAINT_BY_VM; MAINT_FALLBACK_COUNT: no such word. */
enum maint_fallback maint_fallback_parse(const char *word);
const char *maint_fallback_name(enum maint_fallback fallback);

/* maint_to_role() - what the role machine calls it: both LIVE and LEAVE are "leave". */
enum role_fallback maint_to_role(enum maint_fallback fallback);

/*
 * maint_hint() - where a VM with @doc could not go since @since_ms, and whether its guest writes
 * too fast to be moved alive. What is older than MAINT_AGAIN_MS is forgotten.
 */
void maint_hint(const json_t *doc, uint64_t since_ms, uint64_t now_ms, struct lead_hint *out);

/* maint_lead_drain() - what the leader has to know about the drain of @node. */
void maint_lead_drain(const struct db *db, uint32_t node, uint64_t now_ms, struct lead_drain *out);

/* maint_coordinates() - a volume that @node coordinates, or NULL. */
const char *maint_coordinates(const struct db *db, uint32_t node);

#endif
