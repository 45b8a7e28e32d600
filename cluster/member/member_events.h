/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLUSTER_MEMBER_MEMBER_EVENTS_H
#define CLUSTER_MEMBER_MEMBER_EVENTS_H

/*
 * member_events - what a person would tell of an entry of the log, as events of the database.
 *
 * Events are not written by whoever saw something, but follow from the entry itself, on every node
 * alike: they are in the cluster's order, there is one of each, and none is lost with the node that
 * led. docs/formats/cluster-event.md, docs/decisions/0231.
 *
 * Pure: entry and tables in, documents out. Thread: the member's.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/json.h"
#include "cluster/db/db.h"
#include "cluster/role/role_table.h"

#define MEMBER_EVENTS_MAX 64u /* of one entry: each operation of a command has one at most */

/* What a command about a role or node finds. Value type. */
struct member_before {
	enum role_state state; /* of the role */
	struct role_at owner;
	struct role_at dest;
	enum role_drain drain; /* of the node */
	bool quarantined;
};

/* member_events_before() - look, before @cmd is applied. */
void member_events_before(const struct role_table *t, const struct role_cmd *cmd,
                          struct member_before *out);

/*
 * member_events_role() - @cmd was applied and did something.
 * @db: names of nodes, reasons. *@out: a new reference; NULL = nothing to tell.
 * Returns 0; -ENOMEM.
 */
MUST_USE int member_events_role(const struct db *db, const struct role_table *t,
                                const struct role_cmd *cmd, const struct member_before *before,
                                json_t **out);

/* member_events_change() - a document changed. As above. */
MUST_USE int member_events_change(const struct db_change *change, json_t **out);

#endif
