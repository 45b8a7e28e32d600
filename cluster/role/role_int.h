/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLUSTER_ROLE_ROLE_INT_H
#define CLUSTER_ROLE_ROLE_INT_H

/* role_int - between the files of this folder. */

#include <stdint.h>

#include "base/attr.h"
#include "cluster/role/role.h"
#include "cluster/role/role_cmd.h"
#include "cluster/role/role_table.h"

#define ROLE_GONE_MAX 64u /* removals between two flushes: one command removes one */

struct role_table {
	uint64_t epoch;
	uint64_t now_ms;
	bool dirty;                   /* epoch or time changed since the last flush */
	bool dirty_all;               /* any role may have; else only .dirty_role */
	uint32_t dirty_role;          /* 0 = none */
	uint64_t dirty_nodes;         /* set */
	uint32_t gone[ROLE_GONE_MAX]; /* removed since the last flush */
	uint32_t gone_count;
	uint32_t count;                         /* of roles */
	uint32_t size;                          /* of roles[] */
	struct role **roles;                    /* owned; [id - 1], NULL = none */
	struct role_node nodes[ROLE_NODES_MAX]; /* [id - 1] */
};

/* role_table_touch() - role @id has changed. */
void role_table_touch(struct role_table *t, uint32_t id);

/* role_table_room() - make room for role @id. Returns 0; -ENOMEM. */
MUST_USE int role_table_room(struct role_table *t, uint32_t id);

/* role_step() - a command about one role. The table is only read. As role_table_apply(). */
MUST_USE int role_step(const struct role_table *t, struct role *r, const struct role_cmd *cmd);

/* role_lost() - the node @node has left the view: what that means for the role. */
void role_lost(struct role *r, const struct role_node *node, uint64_t now_ms);

/* role_back() - the same run of the node is in the view again. */
void role_back(struct role *r, struct role_at at, uint64_t now_ms);

/* role_doomed() - its node will be fenced: there is no way back any more. */
void role_doomed(struct role *r, struct role_at at, uint64_t now_ms);

/* role_proven() - its owner is proven stopped: nobody owns it now. */
void role_proven(struct role *r, enum role_why why, uint64_t now_ms);

/* role_hurried() - a person does not want it to wait for a lost node any longer. */
void role_hurried(struct role *r, uint64_t now_ms);

/* role_awaited() - a new run of @node: what waits for it need not wait any longer. */
void role_awaited(struct role *r, uint32_t node);

/* role_node_step() - a command about a node, and what follows for its roles. */
MUST_USE int role_node_step(struct role_table *t, const struct role_cmd *cmd);

#endif
