/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BIN_GODWITD_CLUSTER_TIMING_H
#define BIN_GODWITD_CLUSTER_TIMING_H

/*
 * cluster_timing - corosync's token is changed in a cluster that runs, and with it the leases of
 * the nodes, in an order in which survivors of a failure keep their VMs at every moment:
 *
 *	longer	leases are for the goal --all who are here hold such--> corosync's token is the goal
 *	shorter	corosync's token is the goal --all who are here run with it--> leases are for it
 *
 * So leases are at all times made for a token that is not shorter than any that a corosync of the
 * view runs with. Setting "cluster" of the database: token_ms, that of corosync.conf; while it is
 * being changed lease_token_ms, that for which leases are made, and token_goal_ms, what was asked
 * for. Each node says in its own document what it has: "timing" {lease_ms, token_ms, process}.
 *
 * A goal can be replaced by another one at any moment. docs/decisions/0270.
 *
 * Pure but for reading the database; loop's thread.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/json.h"

struct db;
struct db_cmd;
struct errbuf;
struct timing_cfg;
struct view;

/* What the database says. Value type. */
struct cluster_timing {
	uint32_t token_ms;       /* corosync.conf's */
	uint32_t lease_token_ms; /* leases are made for this one */
	uint32_t goal_ms;        /* = token_ms: nothing is asked for */
	bool changing;
};

/* What the nodes of the view say. Value type; names borrowed from the database. */
struct cluster_timing_seen {
	uint32_t lease_min_ms;   /* UINT32_MAX: nobody here holds any */
	uint32_t same_token_ms;  /* all corosyncs run with it; 0 = with different ones */
	bool all_said;           /* both are known of everybody */
	const char *short_lease; /* who has the shortest, or has not said; NULL = nobody */
	const char *other_token; /* whose corosync has another token than the first one's, or ... */
};

/* cluster_timing_get() - false: the database says nothing yet. */
bool cluster_timing_get(const struct db *db, struct cluster_timing *out);

/* cluster_timing_cfg() - the delays of leases now. */
void cluster_timing_cfg(const struct cluster_timing *ct, struct timing_cfg *out);

/* cluster_timing_look() - what the nodes of @view say. @token_ms: that of corosync.conf. */
void cluster_timing_look(const struct db *db, const struct view *view, uint32_t token_ms,
                         struct cluster_timing_seen *out);

/*
 * cluster_timing_change() - @cmd: the goal is @goal_ms from now on.
 * Returns 1; 0 it is that already, @cmd is untouched; -EINVAL no lease goes with it; -ENOENT the
 * database says nothing yet.
 */
MUST_USE int cluster_timing_change(const struct db *db, uint64_t goal_ms, struct db_cmd *cmd,
                                   struct errbuf *eb);

/* cluster_timing_step() - the leader: what comes next. @settled: all who are here have loaded the
 * corosync.conf of the database. Returns what is to be proposed as @cmd, for the log; NULL: it is
 * to wait, or there is nothing to do. */
const char *cluster_timing_step(const struct db *db, const struct cluster_timing_seen *seen,
                                bool settled, struct db_cmd *cmd);

/* cluster_timing_wait() - for people: what a change waits for; "" no change is under way. */
void cluster_timing_wait(const struct cluster_timing *ct, const struct cluster_timing_seen *seen,
                         char *buf, size_t size);

/* cluster_timing_told() - what node document @node says of itself is another thing than this; then
 * *out is what to merge into it. @process: ours, as in the view. */
bool cluster_timing_told(const json_t *node, uint32_t lease_ms, uint32_t token_ms,
                         const char *process, json_t **out);

#endif
