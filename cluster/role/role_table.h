/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLUSTER_ROLE_ROLE_TABLE_H
#define CLUSTER_ROLE_ROLE_TABLE_H

/*
 * role_table - all roles and nodes of a cluster as the database knows them: the state machine
 * whose input is the log.
 *
 * A node:   JOIN        LOST          FENCING          FENCED
 *   ABSENT -----> UP ----------> LOST --------> FENCING ------> DOWN
 *                 ^ |             | |                             ^
 *                 | +-- LEAVE ----|-+---------- FENCED -----------+
 *                 +---- BACK -----+          JOIN with the next incarnation: UP from anywhere
 *
 * JOIN with the next incarnation is a proof for all earlier ones: a node that joins has first made
 * sure that nothing of an earlier run is left (it booted, or it killed its workers).
 *
 * Equal tables that apply equal commands stay equal: nothing but the log goes in. Threads: the
 * owner's. role_table_add() allocates, role_table_apply() does not.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "cluster/role/role.h"
#include "cluster/role/role_cmd.h"

struct errbuf;
struct role_table;

#define ROLE_EXITS_MAX 3u /* so many losses within an hour: quarantine */
#define ROLE_EXITS_WINDOW_MS 3600000ull
#define ROLE_QUARANTINE_MS 7200000ull

enum role_node_state {
	ROLE_NODE_ABSENT, /* never joined */
	ROLE_NODE_UP,
	ROLE_NODE_LOST,
	ROLE_NODE_FENCING,
	ROLE_NODE_DOWN,
	ROLE_NODE_STATE_COUNT
};

/* Visible for reading; changed by role_table_apply() only. */
struct role_node {
	uint32_t id;
	enum role_node_state state;
	uint64_t inc; /* the newest; 0 = none yet */
	enum role_drain drain;
	enum role_proof proof;  /* DOWN, LOST, FENCING: what was proven about inc */
	uint64_t proof_volumes; /* of ROLE_PROOF_STORAGE */
	bool slots_alive;       /* LOST: its slots were still written */
	bool lease_proof;       /* its silence may be taken as a proof */
	uint64_t since_ms;
	uint64_t quarantine_until_ms;      /* 0 = not */
	uint64_t exits_ms[ROLE_EXITS_MAX]; /* of the last losses; newest first */
	uint64_t renew_seq;
	uint32_t lease_ms; /* the longest length that inc announced */
	uint64_t paths;    /* volumes it reaches directly */
	uint64_t memory_bytes;
	uint32_t cpus;
};

/* role_table_create() - empty, epoch 0. Returns 0; -ENOMEM. */
MUST_USE int role_table_create(struct role_table **out);
void role_table_destroy(struct role_table *t);

/* role_table_clear() - empty, epoch 0, again; nothing counts as changed. */
void role_table_clear(struct role_table *t);

/*
 * role_table_add() - define a role; it is OFFLINE, its token is @token (0 for a new one; a VM that
 * was in a cluster before keeps its token).
 * Returns 0; -EEXIST the id is taken; -EINVAL bad id or policy; -ENOSPC; -ENOMEM.
 */
MUST_USE int role_table_add(struct role_table *t, uint32_t id, const char *name,
                            const struct role_policy *policy, uint64_t token, struct errbuf *eb);

/* role_table_set() - change a policy. Returns 0; -ENOENT; -EINVAL; -EBUSY volumes cannot change
 * while it is owned. */
MUST_USE int role_table_set(struct role_table *t, uint32_t id, const struct role_policy *policy,
                            struct errbuf *eb);

/* role_table_remove() - forget a role. Returns 0; -ENOENT; -EBUSY it is not offline or failed. */
MUST_USE int role_table_remove(struct role_table *t, uint32_t id, struct errbuf *eb);

/* role_table_view() - a new primary view: commands of earlier epochs do nothing from now on.
 * Returns 0; -EINVAL the epoch does not grow. */
MUST_USE int role_table_view(struct role_table *t, uint64_t epoch);

/*
 * role_table_apply() - apply one committed command.
 * Returns 0; -ESTALE what it expects is not so (any more), nothing changed: no error of the
 * proposer's; -ENOENT no such role or node; -EINVAL it never makes sense.
 */
MUST_USE int role_table_apply(struct role_table *t, const struct role_cmd *cmd);

/* Reading. Borrowed until the next change. */
const struct role *role_table_role(const struct role_table *t, uint32_t id);       /* NULL = none */
const struct role *role_table_next(const struct role_table *t, uint32_t after_id); /* by id */
const struct role_node *role_table_node(const struct role_table *t,
                                        uint32_t id); /* NULL = bad id */
uint64_t role_table_epoch(const struct role_table *t);
uint64_t role_table_now_ms(const struct role_table *t);
uint32_t role_table_count(const struct role_table *t);

/* role_table_proven() - is (at) proven stopped, for a role that uses @volumes? @strict: see
 * struct role_policy. */
bool role_table_proven(const struct role_table *t, struct role_at at, uint64_t volumes,
                       bool strict);

/* role_if_proven() - what @r would be if its owner, which it must have, were proven stopped at
 * @now_ms. */
void role_if_proven(const struct role *r, uint64_t now_ms, struct role *out);

/* role_node_usable() - may it be given roles now? Up, not drained, not in quarantine. */
bool role_node_usable(const struct role_node *n, uint64_t now_ms);

/* role_table_check() - the invariants of everything. Returns NULL, or what is broken. */
const char *role_table_check(const struct role_table *t);

const char *role_node_state_name(enum role_node_state state);

#endif
