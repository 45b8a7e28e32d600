/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/role/role_table.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "cluster/role/role_int.h"

#define GROW 64u /* ids come in order; few clusters have more roles than that */

static void number_nodes(struct role_table *t)
{
	for (uint32_t i = 0; i < ROLE_NODES_MAX; i++) {
		t->nodes[i].id = i + 1;
	}
}

int role_table_create(struct role_table **out)
{
	struct role_table *t = gw_calloc(1, sizeof(*t));

	*out = t;
	if (t == NULL) {
		return -ENOMEM;
	}
	number_nodes(t);
	return 0;
}

void role_table_clear(struct role_table *t)
{
	for (uint32_t i = 0; i < t->size; i++) {
		free(t->roles[i]);
	}
	free(t->roles);
	memset(t, 0, sizeof(*t));
	number_nodes(t);
}

void role_table_destroy(struct role_table *t)
{
	if (t != NULL) {
		role_table_clear(t);
		free(t);
	}
}

void role_table_touch(struct role_table *t, uint32_t id)
{
	t->roles[id - 1]->dirty = true;
	t->dirty_all = t->dirty_all || (t->dirty_role != 0 && t->dirty_role != id);
	t->dirty_role = id;
}

int role_table_room(struct role_table *t, uint32_t id)
{
	uint32_t size = t->size;

	while (size < id) {
		size = size == 0 ? GROW : 2 * size;
	}
	if (size == t->size) {
		return 0;
	}

	struct role **roles = gw_realloc_array(t->roles, size, sizeof(void *));

	if (roles == NULL) {
		return -ENOMEM;
	}
	for (uint32_t i = t->size; i < size; i++) {
		roles[i] = NULL;
	}
	t->roles = roles;
	t->size = size;
	return 0;
}

int role_table_add(struct role_table *t, uint32_t id, const char *name,
                   const struct role_policy *policy, uint64_t token, struct errbuf *eb)
{
	const char *wrong = role_policy_check(policy);

	if (id == 0 || id > ROLE_COUNT_MAX) {
		return errbuf_set(eb, -EINVAL, "role %s: %u is no id", name, id);
	}
	if (wrong != NULL) {
		return errbuf_set(eb, -EINVAL, "role %s: %s", name, wrong);
	}
	if (strlen(name) >= ROLE_NAME_MAX) {
		return errbuf_set(eb, -EINVAL, "role %.20s...: the name is too long", name);
	}
	if (role_table_role(t, id) != NULL) {
		return errbuf_set(eb, -EEXIST, "role %s: the id %u is taken", name, id);
	}
	if (role_table_room(t, id) < 0) {
		return -ENOMEM;
	}

	struct role *r = gw_calloc(1, sizeof(*r));

	if (r == NULL) {
		return -ENOMEM;
	}
	r->id = id;
	(void)snprintf(r->name, sizeof(r->name), "%s", name);
	r->policy = *policy;
	r->token = token;
	r->since_ms = t->now_ms;
	t->roles[id - 1] = r;
	t->count++;
	role_table_touch(t, id);
	return 0;
}

int role_table_set(struct role_table *t, uint32_t id, const struct role_policy *policy,
                   struct errbuf *eb)
{
	const char *wrong = role_policy_check(policy);

	if (role_table_role(t, id) == NULL) {
		return errbuf_set(eb, -ENOENT, "role %u does not exist", id);
	}

	struct role *r = t->roles[id - 1];

	if (wrong != NULL) {
		return errbuf_set(eb, -EINVAL, "role %s: %s", r->name, wrong);
	}
	if (policy->volumes != r->policy.volumes && r->state != ROLE_OFFLINE &&
	    r->state != ROLE_FAILED) {
		/* Proofs and tokens were asked of the volumes that it had. */
		return errbuf_set(eb, -EBUSY, "role %s: its volumes can change when it is offline",
		                  r->name);
	}
	if (!policy->patient) {
		role_hurried(r, t->now_ms);
	}
	r->policy = *policy;
	role_table_touch(t, id);
	return 0;
}

int role_table_remove(struct role_table *t, uint32_t id, struct errbuf *eb)
{
	const struct role *r = role_table_role(t, id);

	if (r == NULL) {
		return errbuf_set(eb, -ENOENT, "role %u does not exist", id);
	}
	if (r->state != ROLE_OFFLINE && r->state != ROLE_FAILED) {
		return errbuf_set(eb, -EBUSY, "role %s is %s", r->name, role_state_name(r->state));
	}
	free(t->roles[id - 1]);
	t->roles[id - 1] = NULL;
	t->count--;
	CHECK(t->gone_count < ROLE_GONE_MAX); /* flush between removals */
	t->gone[t->gone_count++] = id;
	return 0;
}

int role_table_view(struct role_table *t, uint64_t epoch)
{
	if (epoch <= t->epoch) {
		return -EINVAL;
	}
	t->epoch = epoch;
	t->dirty = true;
	return 0;
}

static int apply_to_node(struct role_table *t, const struct role_cmd *cmd)
{
	int err = cmd->at.node >= 1 && cmd->at.node <= ROLE_NODES_MAX ? role_node_step(t, cmd)
	                                                              : -EINVAL;

	if (err == 0) {
		t->dirty_nodes |= role_bit(cmd->at.node);
		t->dirty_all = t->dirty_all ||
		               (cmd->verb != ROLE_CMD_RENEW && cmd->verb != ROLE_CMD_PATHS);
	}
	return err;
}

int role_table_apply(struct role_table *t, const struct role_cmd *cmd)
{
	struct role_cmd c = *cmd;

	if (c.epoch != t->epoch) {
		return -ESTALE;
	}
	if (c.now_ms > t->now_ms) {
		t->now_ms = c.now_ms;
		t->dirty = true;
	}
	c.now_ms = t->now_ms; /* a new leader may be a little behind: time only grows */
	if (c.role == 0) {
		return apply_to_node(t, &c);
	}
	if (role_table_role(t, c.role) == NULL) {
		return -ENOENT;
	}
	int err = role_step(t, t->roles[c.role - 1], &c);

	if (err == 0) {
		role_table_touch(t, c.role);
	}
	return err;
}

const struct role *role_table_role(const struct role_table *t, uint32_t id)
{
	return id >= 1 && id <= t->size ? t->roles[id - 1] : NULL;
}

const struct role *role_table_next(const struct role_table *t, uint32_t after_id)
{
	for (uint32_t i = after_id; i < t->size; i++) {
		if (t->roles[i] != NULL) {
			return t->roles[i];
		}
	}
	return NULL;
}

const struct role_node *role_table_node(const struct role_table *t, uint32_t id)
{
	return id >= 1 && id <= ROLE_NODES_MAX ? &t->nodes[id - 1] : NULL;
}

uint64_t role_table_epoch(const struct role_table *t)
{
	return t->epoch;
}

uint64_t role_table_now_ms(const struct role_table *t)
{
	return t->now_ms;
}

uint32_t role_table_count(const struct role_table *t)
{
	return t->count;
}

bool role_table_proven(const struct role_table *t, struct role_at at, uint64_t volumes, bool strict)
{
	const struct role_node *n = role_table_node(t, at.node);

	if (n == NULL || at.inc > n->inc) {
		return false;
	}
	if (at.inc < n->inc || n->state == ROLE_NODE_DOWN) {
		return true;
	}
	return n->proof == ROLE_PROOF_STORAGE && !strict && volumes != 0 &&
	       (volumes & ~n->proof_volumes) == 0;
}

const char *role_table_check(const struct role_table *t)
{
	for (const struct role *r = role_table_next(t, 0); r != NULL;
	     r = role_table_next(t, r->id)) {
		const char *broken = role_check(r);

		if (broken != NULL) {
			return broken;
		}
		if (!role_owned(r->state)) {
			continue;
		}
		if (role_table_proven(t, r->owner, r->policy.volumes, r->policy.strict)) {
			return "owned by a run of a node that is proven stopped";
		}

		const struct role_node *n = role_table_node(t, r->owner.node);
		bool out = r->state == ROLE_UNMONITORED || r->state == ROLE_FENCING;

		if (out != (n->state == ROLE_NODE_LOST || n->state == ROLE_NODE_FENCING)) {
			return "watched although its node is out of sight, or the other way round";
		}
	}
	return NULL;
}
