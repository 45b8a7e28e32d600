/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdbool.h>

#include "base/check.h"
#include "cluster/role/role_int.h"

#define HOLD_MS 60000ull    /* a third failure within so long waits for its end */
#define BACKOFF_MS 10000ull /* no node could start it: try all again after that */

/* The states in which a verb means something. Everything else is -ESTALE, not an error: the
 * proposer did not know yet. */
#define IN(state) (1u << (state))
#define OWNED                                                                           \
	(IN(ROLE_STARTING) | IN(ROLE_ONLINE) | IN(ROLE_STOPPING) | IN(ROLE_MIGRATING) | \
	 IN(ROLE_UNMONITORED) | IN(ROLE_FENCING))
#define UNOWNED (IN(ROLE_OFFLINE) | IN(ROLE_RAISING) | IN(ROLE_PLACING) | IN(ROLE_FAILED))

static const struct {
	enum role_verb verb;
	uint32_t from;
	bool token; /* must be the role's */
	bool owner; /* at must be the owner */
} rules[] = {
	{ROLE_CMD_WANT, OWNED | UNOWNED, false, false},
	{ROLE_CMD_ACK, IN(ROLE_RAISING), true, false},
	{ROLE_CMD_START, IN(ROLE_PLACING), true, false},
	{ROLE_CMD_STARTED, IN(ROLE_STARTING), true, true},
	{ROLE_CMD_START_FAILED, IN(ROLE_STARTING) | IN(ROLE_STOPPING), true, true},
	{ROLE_CMD_STOPPED, OWNED, true, true},
	{ROLE_CMD_MIGRATE, IN(ROLE_ONLINE), true, false},
	{ROLE_CMD_MIGRATE_CANCEL, IN(ROLE_MIGRATING), true, false},
	{ROLE_CMD_SWITCH, IN(ROLE_MIGRATING), true, false},
	{ROLE_CMD_EXPIRE, IN(ROLE_UNMONITORED), true, false},
	{ROLE_CMD_FREEZE, OWNED | UNOWNED, false, false},
	{ROLE_CMD_RELOCATE, IN(ROLE_ONLINE), true, false},
};

static void enter(struct role *r, enum role_state state, enum role_why why, uint64_t now_ms)
{
	r->state = state;
	r->dirty = true;
	r->since_ms = now_ms;
	r->why = why != ROLE_WHY_NONE ? why : r->why;
	if (state != ROLE_MIGRATING) {
		r->dest = (struct role_at){0};
	}
}

static void remember(struct role_times *times, uint64_t now_ms)
{
	times->at_ms[times->count++ % ROLE_TIMES_MAX] = now_ms;
}

static uint32_t recent(const struct role_times *times, uint64_t now_ms, uint64_t window_ms)
{
	uint32_t kept = times->count < ROLE_TIMES_MAX ? times->count : ROLE_TIMES_MAX;
	uint32_t found = 0;

	for (uint32_t i = 0; i < kept; i++) {
		if (now_ms - times->at_ms[i] < window_ms) {
			found++;
		}
	}
	return found;
}

/* Nobody owns it. A new token begins its way to the volumes. */
static void raise_token(struct role *r, enum role_why why, uint64_t now_ms)
{
	r->token++;
	r->acked = 0;
	enter(r, r->policy.volumes != 0 ? ROLE_RAISING : ROLE_PLACING, why, now_ms);
}

static void disown(struct role *r)
{
	r->owner = (struct role_at){0};
	r->incoming = false;
	r->until_ms = 0; /* what it waited for, it does not any more */
}

/* It shall go on on another node, if it did not do so too often already. */
static void fail_over(struct role *r, enum role_why why, uint64_t now_ms)
{
	uint64_t window_ms = r->policy.failover_window_s * 1000ull;

	r->in_place = 0;
	if (recent(&r->failovers, now_ms, window_ms) >= r->policy.failover_max) {
		enter(r, ROLE_FAILED, ROLE_WHY_LIMIT, now_ms);
		return;
	}
	if (recent(&r->failovers, now_ms, HOLD_MS) >= 2) {
		r->until_ms = now_ms + HOLD_MS;
	}
	remember(&r->failovers, now_ms);
	raise_token(r, why, now_ms);
}

static void crashed(struct role *r, uint32_t node, uint64_t now_ms)
{
	uint64_t window_ms = r->policy.restart_window_s * 1000ull;

	if (recent(&r->restarts, now_ms, window_ms) < r->policy.restart_max) {
		remember(&r->restarts, now_ms);
		r->in_place = node;
		raise_token(r, ROLE_WHY_CRASHED, now_ms);
		return;
	}
	r->tried |= role_bit(node);
	fail_over(r, ROLE_WHY_CRASHED, now_ms);
}

/* It would rather be started where it was: not elsewhere before its patience is over. */
static void wait_for_node(struct role *r, uint32_t node, uint64_t until_ms)
{
	if (r->state == ROLE_RAISING || r->state == ROLE_PLACING) {
		r->in_place = node;
		r->until_ms = until_ms > r->until_ms ? until_ms : r->until_ms;
	}
}

void role_hurried(struct role *r, uint64_t now_ms)
{
	bool waits = r->state == ROLE_UNMONITORED || r->state == ROLE_FENCING;

	if (r->policy.patient && waits && r->until_ms > now_ms) {
		r->until_ms = now_ms;
		r->dirty = true;
	}
	if (r->in_place != 0) {
		role_awaited(r, r->in_place);
	}
}

void role_awaited(struct role *r, uint32_t node)
{
	if (r->policy.patient && r->in_place == node &&
	    (r->state == ROLE_RAISING || r->state == ROLE_PLACING)) {
		r->until_ms = 0;
		r->dirty = true;
	}
}

void role_proven(struct role *r, enum role_why why, uint64_t now_ms)
{
	uint32_t node = r->owner.node;
	uint64_t until_ms = r->state == ROLE_FENCING && r->policy.patient ? r->until_ms : 0;

	disown(r);
	if (r->want == ROLE_WANT_OFFLINE) {
		enter(r, ROLE_OFFLINE, why, now_ms);
	} else if (r->policy.priority == ROLE_PRIORITY_NONE) {
		r->want = ROLE_WANT_OFFLINE;
		enter(r, ROLE_OFFLINE, ROLE_WHY_NO_AUTO, now_ms);
	} else {
		fail_over(r, why, now_ms);
	}
	if (until_ms > now_ms) {
		wait_for_node(r, node, until_ms);
	}
}

void role_if_proven(const struct role *r, uint64_t now_ms, struct role *out)
{
	*out = *r;
	role_proven(out, ROLE_WHY_FENCED, now_ms);
}

void role_lost(struct role *r, const struct role_node *node, uint64_t now_ms)
{
	struct role_at at = {.node = node->id, .inc = node->inc};

	if (r->state == ROLE_MIGRATING && r->dest.node == node->id) {
		enter(r, ROLE_ONLINE, ROLE_WHY_NONE, now_ms);
		return;
	}
	if (!role_is_at(r, at) || r->state == ROLE_UNMONITORED || r->state == ROLE_FENCING) {
		return;
	}
	r->before = r->state == ROLE_MIGRATING ? ROLE_ONLINE : r->state;
	if ((node->slots_alive || r->policy.patient) && r->policy.resiliency_ms > 0) {
		r->until_ms = now_ms + r->policy.resiliency_ms;
		enter(r, ROLE_UNMONITORED, ROLE_WHY_LOST, now_ms);
	} else {
		enter(r, ROLE_FENCING, ROLE_WHY_LOST, now_ms);
	}
}

void role_back(struct role *r, struct role_at at, uint64_t now_ms)
{
	if (role_is_at(r, at) && (r->state == ROLE_UNMONITORED || r->state == ROLE_FENCING)) {
		r->until_ms = 0;
		enter(r, r->want == ROLE_WANT_OFFLINE ? ROLE_STOPPING : r->before, ROLE_WHY_NONE,
		      now_ms);
	}
}

void role_doomed(struct role *r, struct role_at at, uint64_t now_ms)
{
	if (role_is_at(r, at) && r->state == ROLE_UNMONITORED) {
		/* Somebody else needs the proof; its patience may go beyond that. */
		r->until_ms = r->policy.patient ? r->until_ms : 0;
		enter(r, ROLE_FENCING, ROLE_WHY_NONE, now_ms);
	}
}

/* ---- one command ---- */

static int want(struct role *r, const struct role_cmd *cmd)
{
	r->want = (enum role_want)cmd->arg[0];
	role_hurried(r, cmd->now_ms); /* a person does not want to wait */
	if (r->want == ROLE_WANT_ONLINE) {
		if (r->state == ROLE_OFFLINE || r->state == ROLE_FAILED) {
			/* A person looked at it: it starts from a clean sheet. */
			r->tried = 0;
			r->in_place = 0;
			r->until_ms = 0;
			r->restarts = (struct role_times){0};
			r->failovers = (struct role_times){0};
			raise_token(r, ROLE_WHY_WANTED, cmd->now_ms);
		}
		return 0;
	}
	switch (r->state) {
	case ROLE_RAISING:
	case ROLE_PLACING:
	case ROLE_FAILED:
		enter(r, ROLE_OFFLINE, ROLE_WHY_WANTED, cmd->now_ms);
		break;
	case ROLE_STARTING:
	case ROLE_ONLINE:
	case ROLE_MIGRATING:
		enter(r, ROLE_STOPPING, ROLE_WHY_WANTED, cmd->now_ms);
		break;
	case ROLE_OFFLINE:
	case ROLE_STOPPING:
	case ROLE_UNMONITORED: /* its node cannot hear it; the proof will find the wish */
	case ROLE_FENCING:
	case ROLE_STATE_COUNT:
		break;
	}
	return 0;
}

static int ack(struct role *r, const struct role_cmd *cmd)
{
	uint64_t bit = role_bit((uint32_t)cmd->arg[0]);

	if ((r->policy.volumes & bit) == 0 || (r->acked & bit) != 0) {
		return -ESTALE;
	}
	r->acked |= bit;
	if ((r->policy.volumes & ~r->acked) == 0) {
		enter(r, ROLE_PLACING, ROLE_WHY_NONE, cmd->now_ms);
	}
	return 0;
}

/* May this run of a node be given the role? */
static bool can_own(const struct role_table *t, const struct role *r, struct role_at at)
{
	const struct role_node *n = role_table_node(t, at.node);

	return n != NULL && n->state == ROLE_NODE_UP && n->inc == at.inc &&
	       (r->policy.possible == 0 || (r->policy.possible & role_bit(at.node)) != 0);
}

static int start_failed(const struct role_table *t, struct role *r, const struct role_cmd *cmd)
{
	uint64_t up = 0;

	r->tried |= role_bit(r->owner.node);
	r->in_place = 0;
	disown(r);
	if (r->want == ROLE_WANT_OFFLINE) {
		enter(r, ROLE_OFFLINE, ROLE_WHY_START_FAILED, cmd->now_ms);
		return 0;
	}
	for (uint32_t id = 1; id <= ROLE_NODES_MAX; id++) {
		const struct role_node *n = role_table_node(t, id);

		up |= can_own(t, r, (struct role_at){id, n->inc}) ? role_bit(id) : 0;
	}
	if ((up & ~r->tried) != 0) {
		raise_token(r, ROLE_WHY_START_FAILED, cmd->now_ms);
		return 0;
	}
	/* All of them: the cause may pass (a volume that is away). One round counts as one. */
	r->tried = 0;
	r->until_ms = cmd->now_ms + BACKOFF_MS;
	fail_over(r, ROLE_WHY_START_FAILED, cmd->now_ms);
	return 0;
}

static int stopped(struct role *r, const struct role_cmd *cmd)
{
	uint32_t node = r->owner.node;
	/* It was asked to, to start elsewhere; its node may have forgotten that meanwhile. */
	bool relocates = r->state == ROLE_STOPPING && r->want == ROLE_WANT_ONLINE;

	disown(r);
	if (cmd->arg[0] == ROLE_STOP_GUEST && !relocates) {
		r->want = ROLE_WANT_OFFLINE;
		enter(r, ROLE_OFFLINE, ROLE_WHY_GUEST_OFF, cmd->now_ms);
	} else if (r->want == ROLE_WANT_OFFLINE) {
		enter(r, ROLE_OFFLINE, ROLE_WHY_NONE, cmd->now_ms);
	} else if (cmd->arg[0] == ROLE_STOP_CRASH) {
		crashed(r, node, cmd->now_ms);
	} else {
		raise_token(r, ROLE_WHY_WANTED, cmd->now_ms);
	}
	return 0;
}

static int started(struct role *r, const struct role_cmd *cmd)
{
	r->incoming = false;
	r->acked = r->policy.volumes; /* or the owner would not have started it */
	r->tried = 0;
	r->in_place = 0;
	enter(r, ROLE_ONLINE, ROLE_WHY_NONE, cmd->now_ms);
	return 0;
}

static int start(const struct role_table *t, struct role *r, const struct role_cmd *cmd)
{
	if (!can_own(t, r, cmd->at)) {
		return -ESTALE;
	}
	r->owner = cmd->at;
	r->incoming = false;
	enter(r, ROLE_STARTING, ROLE_WHY_NONE, cmd->now_ms);
	return 0;
}

static int migrate(const struct role_table *t, struct role *r, const struct role_cmd *cmd)
{
	if (!can_own(t, r, cmd->at) || cmd->at.node == r->owner.node) {
		return -ESTALE;
	}
	r->dest = cmd->at;
	enter(r, ROLE_MIGRATING, ROLE_WHY_NONE, cmd->now_ms);
	return 0;
}

static int hand_over(const struct role_table *t, struct role *r, const struct role_cmd *cmd)
{
	bool of_this = cmd->arg[0] == 0 || cmd->arg[0] == r->since_ms;

	/* One that was cancelled meanwhile and begun anew, to the same node, is another move: what
	 * was sent in the first is old. */
	if (!of_this || r->dest.node != cmd->at.node || r->dest.inc != cmd->at.inc ||
	    !can_own(t, r, cmd->at)) {
		return -ESTALE;
	}
	r->owner = cmd->at;
	r->token++;
	r->acked = 0;
	r->incoming = true;
	enter(r, ROLE_STARTING, ROLE_WHY_MOVED, cmd->now_ms);
	return 0;
}

static int expire(struct role *r, const struct role_cmd *cmd)
{
	if (cmd->now_ms < r->until_ms) {
		return -ESTALE;
	}
	r->until_ms = 0;
	enter(r, ROLE_FENCING, ROLE_WHY_NONE, cmd->now_ms);
	return 0;
}

static int dispatch(const struct role_table *t, struct role *r, const struct role_cmd *cmd)
{
	switch ((int)cmd->verb) {
	case ROLE_CMD_WANT:
		return want(r, cmd);
	case ROLE_CMD_ACK:
		return ack(r, cmd);
	case ROLE_CMD_START:
		return start(t, r, cmd);
	case ROLE_CMD_STARTED:
		return started(r, cmd);
	case ROLE_CMD_START_FAILED:
		return start_failed(t, r, cmd);
	case ROLE_CMD_STOPPED:
		return stopped(r, cmd);
	case ROLE_CMD_MIGRATE:
		return migrate(t, r, cmd);
	case ROLE_CMD_MIGRATE_CANCEL:
		enter(r, ROLE_ONLINE, ROLE_WHY_NONE, cmd->now_ms);
		return 0;
	case ROLE_CMD_SWITCH:
		return hand_over(t, r, cmd);
	case ROLE_CMD_EXPIRE:
		return expire(r, cmd);
	case ROLE_CMD_FREEZE:
		r->frozen = cmd->arg[0] != 0;
		return 0;
	case ROLE_CMD_RELOCATE: /* still wanted online: stopped() goes on with it */
		enter(r, ROLE_STOPPING, ROLE_WHY_MOVED, cmd->now_ms);
		return 0;
	default:
		return -EINVAL;
	}
}

int role_step(const struct role_table *t, struct role *r, const struct role_cmd *cmd)
{
	for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
		if (rules[i].verb != cmd->verb) {
			continue;
		}
		if ((rules[i].from & IN(r->state)) == 0 ||
		    (rules[i].token && cmd->token != r->token) ||
		    (rules[i].owner && !role_is_at(r, cmd->at))) {
			return -ESTALE;
		}
		int err = dispatch(t, r, cmd);

		CHECK(role_check(r) == NULL);
		return err;
	}
	return -EINVAL;
}
