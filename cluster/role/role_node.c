/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "cluster/role/role_int.h"

static struct role_at run_of(const struct role_node *n)
{
	return (struct role_at){.node = n->id, .inc = n->inc};
}

static void enter(struct role_node *n, enum role_node_state state, uint64_t now_ms)
{
	n->state = state;
	n->since_ms = now_ms;
}

/* Every role that a run of the node up to @inc still owns, and for which that is proven. */
static void release(struct role_table *t, const struct role_node *n, enum role_why why)
{
	for (uint32_t i = 0; i < t->size; i++) {
		struct role *r = t->roles[i];

		if (r == NULL) {
			continue;
		}
		if (role_owned(r->state) && r->owner.node == n->id &&
		    role_table_proven(t, r->owner, r->policy.volumes, r->policy.strict)) {
			role_proven(r, why, t->now_ms);
		} else if (r->state == ROLE_MIGRATING && r->dest.node == n->id) {
			role_lost(r, n, t->now_ms);
		}
	}
}

static int join(struct role_table *t, struct role_node *n, const struct role_cmd *cmd)
{
	if (cmd->at.inc != n->inc + 1 || n->inc + 1 == 0) {
		return -ESTALE;
	}
	n->inc = cmd->at.inc;
	n->proof = ROLE_PROOF_NONE;
	n->proof_volumes = 0;
	n->slots_alive = false;
	n->renew_seq = 0;
	n->lease_ms = 0;
	n->memory_bytes = cmd->arg[0];
	n->cpus = (uint32_t)cmd->arg[1];
	n->paths = cmd->arg[2];
	n->lease_proof = (cmd->arg[3] & ROLE_NODE_LEASE_PROOF) != 0;
	enter(n, ROLE_NODE_UP, t->now_ms);
	release(t, n, ROLE_WHY_FENCED);
	for (uint32_t i = 0; i < t->size; i++) {
		if (t->roles[i] != NULL) {
			role_awaited(t->roles[i], n->id);
		}
	}
	return 0;
}

/* Three losses within an hour: no roles for two, but never for more than a quarter of the nodes. */
static void judge(struct role_table *t, struct role_node *n)
{
	uint64_t now_ms = t->now_ms;
	uint32_t known = 0;
	uint32_t kept_out = 0;

	memmove(&n->exits_ms[1], &n->exits_ms[0], sizeof(n->exits_ms) - sizeof(n->exits_ms[0]));
	n->exits_ms[0] = now_ms + 1; /* 0 = none */
	for (uint32_t i = 0; i < ROLE_NODES_MAX; i++) {
		known += t->nodes[i].state != ROLE_NODE_ABSENT;
		kept_out += t->nodes[i].quarantine_until_ms > now_ms;
	}
	uint64_t oldest = n->exits_ms[ROLE_EXITS_MAX - 1];

	if (oldest != 0 && now_ms + 1 - oldest < ROLE_EXITS_WINDOW_MS && known >= 3 &&
	    kept_out < (known < 4 ? 1 : known / 4)) {
		n->quarantine_until_ms = now_ms + ROLE_QUARANTINE_MS;
	}
}

static int lost(struct role_table *t, struct role_node *n, const struct role_cmd *cmd)
{
	if (n->state != ROLE_NODE_UP) {
		return -ESTALE;
	}
	n->slots_alive = cmd->arg[0] != 0;
	enter(n, ROLE_NODE_LOST, t->now_ms);
	judge(t, n);
	for (uint32_t i = 0; i < t->size; i++) {
		if (t->roles[i] != NULL) {
			role_lost(t->roles[i], n, t->now_ms);
		}
	}
	return 0;
}

static int back(struct role_table *t, struct role_node *n)
{
	if (n->state != ROLE_NODE_LOST || n->proof != ROLE_PROOF_NONE) {
		return -ESTALE;
	}
	enter(n, ROLE_NODE_UP, t->now_ms);
	n->slots_alive = false;
	for (uint32_t i = 0; i < t->size; i++) {
		if (t->roles[i] != NULL) {
			role_back(t->roles[i], run_of(n), t->now_ms);
		}
	}
	return 0;
}

static int fencing(struct role_table *t, struct role_node *n)
{
	if (n->state != ROLE_NODE_LOST) {
		return -ESTALE;
	}
	enter(n, ROLE_NODE_FENCING, t->now_ms);
	for (uint32_t i = 0; i < t->size; i++) {
		if (t->roles[i] != NULL) {
			role_doomed(t->roles[i], run_of(n), t->now_ms);
		}
	}
	return 0;
}

static int fenced(struct role_table *t, struct role_node *n, const struct role_cmd *cmd)
{
	enum role_proof proof = (enum role_proof)cmd->arg[0];

	/* Intent first: without it the node could be let back while it is being shot. */
	if (n->state != ROLE_NODE_FENCING) {
		return -ESTALE;
	}
	if (proof == ROLE_PROOF_NONE || proof == ROLE_PROOF_CLEAN ||
	    (proof == ROLE_PROOF_LEASE && !n->lease_proof)) {
		return -EINVAL;
	}
	if (proof == ROLE_PROOF_STORAGE) {
		if ((cmd->arg[1] & ~n->proof_volumes) == 0) {
			return -ESTALE;
		}
		n->proof_volumes |= cmd->arg[1];
		n->proof = ROLE_PROOF_STORAGE;
	} else {
		n->proof = proof;
		enter(n, ROLE_NODE_DOWN, t->now_ms);
	}
	release(t, n, ROLE_WHY_FENCED);
	return 0;
}

static int leave(struct role_table *t, struct role_node *n)
{
	if (n->state != ROLE_NODE_UP) {
		return -ESTALE;
	}
	n->proof = ROLE_PROOF_CLEAN;
	enter(n, ROLE_NODE_DOWN, t->now_ms);
	release(t, n, ROLE_WHY_LEFT);
	return 0;
}

static int renew(struct role_node *n, const struct role_cmd *cmd)
{
	if (n->state != ROLE_NODE_UP || cmd->arg[0] <= n->renew_seq) {
		return -ESTALE;
	}
	n->renew_seq = cmd->arg[0];
	if (cmd->arg[1] > n->lease_ms) {
		n->lease_ms = (uint32_t)cmd->arg[1];
	}
	if ((cmd->arg[3] & ROLE_NODE_SAID) != 0) {
		n->lease_proof = (cmd->arg[3] & ROLE_NODE_LEASE_PROOF) != 0;
	}
	return 0;
}

static int set_drain(struct role_table *t, struct role_node *n, const struct role_cmd *cmd)
{
	enum role_drain drain = (enum role_drain)cmd->arg[0];

	if (drain == ROLE_DRAIN_DONE) { /* verified: that word is relied upon before a reboot */
		if (n->drain != ROLE_DRAIN_ACTIVE) {
			return -ESTALE;
		}
		for (uint32_t i = 0; i < t->size; i++) {
			const struct role *r = t->roles[i];

			if (r != NULL && (r->owner.node == n->id || r->dest.node == n->id)) {
				return -ESTALE;
			}
		}
	}
	n->drain = drain;
	return 0;
}

int role_node_step(struct role_table *t, const struct role_cmd *cmd)
{
	struct role_node *n = &t->nodes[cmd->at.node - 1];

	if (cmd->verb == ROLE_CMD_JOIN) {
		return join(t, n, cmd);
	}
	if (n->state == ROLE_NODE_ABSENT) {
		return -ENOENT;
	}
	if (n->inc != cmd->at.inc) {
		return -ESTALE;
	}
	switch ((int)cmd->verb) {
	case ROLE_CMD_LOST:
		return lost(t, n, cmd);
	case ROLE_CMD_BACK:
		return back(t, n);
	case ROLE_CMD_FENCING:
		return fencing(t, n);
	case ROLE_CMD_FENCED:
		return fenced(t, n, cmd);
	case ROLE_CMD_LEAVE:
		return leave(t, n);
	case ROLE_CMD_RENEW:
		return renew(n, cmd);
	case ROLE_CMD_PATHS:
		if (n->state != ROLE_NODE_UP) {
			return -ESTALE;
		}
		n->paths = cmd->arg[0];
		return 0;
	case ROLE_CMD_DRAIN:
		return set_drain(t, n, cmd);
	case ROLE_CMD_UNQUARANTINE:
		n->quarantine_until_ms = 0;
		memset(n->exits_ms, 0, sizeof(n->exits_ms));
		return 0;
	default:
		return -EINVAL;
	}
}

bool role_node_usable(const struct role_node *n, uint64_t now_ms)
{
	return n->state == ROLE_NODE_UP && n->drain == ROLE_DRAIN_NONE &&
	       n->quarantine_until_ms <= now_ms;
}

const char *role_node_state_name(enum role_node_state state)
{
	static const char *const names[ROLE_NODE_STATE_COUNT] = {"absent", "up", "lost", "fencing",
	                                                         "down"};

	return (uint32_t)state < ROLE_NODE_STATE_COUNT ? names[state] : "?";
}
