/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/lead/lead_int.h"

#define DRAINED_NS (10 * LEAD_AGAIN_NS) /* until then a proposal may still get into the log */

void lead_input(struct lead *l, const struct lead_view *view, uint64_t now_ms, struct place_in *in)
{
	const struct role_table *t = view->table;
	uint32_t nodes = 0;
	uint32_t vms = 0;

	for (uint32_t id = 1; id <= ROLE_NODES_MAX; id++) {
		const struct role_node *n = role_table_node(t, id);
		bool up = n->state == ROLE_NODE_UP && (view->members & role_bit(id)) != 0;

		if (n->state == ROLE_NODE_ABSENT) {
			continue;
		}
		l->place_nodes[nodes++] = (struct place_node){
			.id = id,
			.state = !up                               ? PLACE_NODE_DOWN
		                 : n->drain != ROLE_DRAIN_NONE     ? PLACE_NODE_DRAIN
		                 : n->quarantine_until_ms > now_ms ? PLACE_NODE_QUARANTINE
		                                                   : PLACE_NODE_UP,
			.cpus = n->cpus,
			.memory_bytes = n->memory_bytes,
			.paths = n->paths,
		};
	}
	for (const struct role *r = role_table_next(t, 0); r != NULL && r->id <= l->role_max;
	     r = role_table_next(t, r->id)) {
		l->place_vms[vms++] = (struct place_vm){
			.id = r->id,
			.name = r->name,
			.node = r->owner.node,
			.wanted = r->state == ROLE_PLACING && !r->frozen && now_ms >= r->until_ms,
			.live = true,
			.in_place = r->in_place,
			.tried = r->tried,
			.policy = r->policy,
		};
		if (view->hints != NULL && r->owner.node != 0) {
			l->place_vms[vms - 1].live = !view->hints[r->id - 1].no_live;
			l->place_vms[vms - 1].tried |= view->hints[r->id - 1].avoid;
		}
		/* A migration has memory at both ends. */
		for (uint32_t n = 0; r->dest.node != 0 && n < nodes; n++) {
			if (l->place_nodes[n].id == r->dest.node) {
				uint64_t room = l->place_nodes[n].memory_bytes;
				uint64_t used = r->policy.memory_bytes;

				l->place_nodes[n].memory_bytes -= used < room ? used : room;
			}
		}
	}
	*in = (struct place_in){
		.nodes = l->place_nodes,
		.node_count = nodes,
		.vms = l->place_vms,
		.vm_count = vms,
		.apart_hard = view->apart_hard,
		.paths_hard = view->paths_hard,
		.starts_per_node = view->starts_per_node,
		.moves_per_node = view->moves_per_node,
		.now_ms = now_ms,
		.epoch = role_table_epoch(t),
	};
}

/* Not for one that nobody wants or that was given up, and not for ever. */
const struct role *lead_waits_for(const struct role_table *t, const struct role *r, uint64_t now_ms)
{
	if (now_ms >= r->since_ms + LEAD_AFTER_MS) {
		return NULL;
	}
	for (uint32_t i = 0; i < ROLE_AFTER_MAX; i++) {
		const struct role *need =
			r->policy.after[i] != 0 ? role_table_role(t, r->policy.after[i]) : NULL;

		if (need != NULL && need->want == ROLE_WANT_ONLINE && need->state != ROLE_ONLINE &&
		    need->state != ROLE_MIGRATING && need->state != ROLE_FAILED &&
		    need->policy.after[0] != r->id) {
			return need;
		}
	}
	return NULL;
}

/* How many roles a node starts, or sends, receives and shuts down, now. */
static void count_busy(const struct role_table *t, uint32_t starts[ROLE_NODES_MAX],
                       uint32_t moves[ROLE_NODES_MAX], bool *placing)
{
	*placing = false;
	for (uint32_t i = 0; i < ROLE_NODES_MAX; i++) {
		starts[i] = moves[i] = 0;
	}
	for (const struct role *r = role_table_next(t, 0); r != NULL;
	     r = role_table_next(t, r->id)) {
		*placing = *placing || r->state == ROLE_PLACING;
		if (r->state == ROLE_STARTING) {
			starts[r->owner.node - 1]++;
		}
		if (r->state == ROLE_MIGRATING) {
			moves[r->owner.node - 1]++;
			moves[r->dest.node - 1]++;
		} else if (r->state == ROLE_STOPPING) {
			moves[r->owner.node - 1]++;
		}
	}
}

static uint32_t limit(uint32_t value)
{
	return value > 0 ? value : 1;
}

void lead_starts(struct lead *l, const struct lead_view *view, uint64_t now_ns, uint64_t now_ms,
                 struct lead_out *out)
{
	uint32_t starts[ROLE_NODES_MAX];
	uint32_t moves[ROLE_NODES_MAX];
	struct place_summary sum;
	struct place_in in;
	bool placing;

	count_busy(view->table, starts, moves, &placing);
	if (!placing) {
		return;
	}
	lead_input(l, view, now_ms, &in);
	place_run(&in, l->work, l->choices, &sum);
	for (int32_t priority = ROLE_PRIORITY_COUNT - 1; priority >= 0; priority--) {
		for (uint32_t v = 0; v < in.vm_count; v++) {
			const struct role *r = role_table_role(view->table, in.vms[v].id);
			uint32_t node = l->choices[v].node;

			if ((int32_t)r->policy.priority != priority || !in.vms[v].wanted ||
			    node == 0 || starts[node - 1] >= limit(view->starts_per_node) ||
			    lead_waits_for(view->table, r, now_ms) != NULL) {
				continue;
			}
			starts[node - 1]++; /* also if it was proposed and is not committed yet */
			if (!lead_due(&l->once[r->id - 1], lead_role_state(r), now_ns)) {
				continue;
			}
			lead_propose(
				out, view, now_ms,
				(struct role_cmd){
					.verb = ROLE_CMD_START,
					.role = r->id,
					.token = r->token,
					.at = {.node = node,
			                       .inc = role_table_node(view->table, node)->inc}});
		}
	}
}

static bool is_empty(const struct role_table *t, uint32_t node)
{
	for (const struct role *r = role_table_next(t, 0); r != NULL;
	     r = role_table_next(t, r->id)) {
		if (r->owner.node == node || r->dest.node == node) {
			return false;
		}
	}
	return true;
}

/* Where the VMs of @n go, and how. @in: its nodes and VMs are the lead's. */
static void drain_choose(struct lead *l, const struct lead_view *view, uint32_t node,
                         uint64_t now_ms, struct place_in *in, struct place_summary *sum)
{
	const struct lead_drain *d = &view->drains[node - 1];

	lead_input(l, view, now_ms, in);
	for (uint32_t v = 0; d->forced && v < in->vm_count; v++) {
		l->place_vms[v].policy.fallback = d->fallback;
	}
	in->moves_per_node = d->moves != 0 ? d->moves : view->moves_per_node;
	place_drain(in, node, l->work, l->choices, sum);
}

/* What makes VM @r go the way that was chosen for it. */
static struct role_cmd drain_cmd(const struct lead_view *view, const struct role *r,
                                 const struct place_choice *c)
{
	struct role_cmd cmd = {.role = r->id, .token = r->token};

	if (c->how == PLACE_SHUTDOWN) {
		cmd.verb = ROLE_CMD_RELOCATE;
	} else {
		cmd.verb = ROLE_CMD_MIGRATE;
		cmd.at.node = c->node;
		cmd.at.inc = role_table_node(view->table, c->node)->inc;
	}
	return cmd;
}

/* What is to be taken back with the wish. A shutdown cannot be. */
static void drain_note(struct lead *l, const struct role *r, const struct place_choice *c,
                       uint64_t now_ns)
{
	struct lead_drained *d = &l->drained[r->id - 1];

	if (c->how == PLACE_SHUTDOWN) {
		return;
	}
	/* One that was proposed before may still get into the log instead. */
	*d = (struct lead_drained){
		.at_ns = now_ns,
		.token = r->token,
		.to = (d->at_ns != 0 && d->token == r->token ? d->to : 0) | role_bit(c->node),
	};
}

static void drain_done(struct lead *l, const struct lead_view *view, const struct role_node *n,
                       uint64_t now_ns, uint64_t now_ms, struct lead_out *out)
{
	if (lead_due(&l->nodes[n->id - 1].once, lead_node_state(n), now_ns)) {
		lead_propose(out, view, now_ms,
		             (struct role_cmd){.verb = ROLE_CMD_DRAIN,
		                               .at = {.node = n->id, .inc = n->inc},
		                               .arg = {ROLE_DRAIN_DONE}});
	}
}

static void drain_one(struct lead *l, const struct lead_view *view, const struct role_node *n,
                      uint64_t now_ns, uint64_t now_ms, struct lead_out *out)
{
	uint32_t starts[ROLE_NODES_MAX];
	uint32_t moves[ROLE_NODES_MAX];
	struct place_summary sum;
	struct place_in in;
	bool placing;

	if (view->drains[n->id - 1].hold) {
		return;
	}
	if (is_empty(view->table, n->id)) {
		drain_done(l, view, n, now_ns, now_ms, out);
		return;
	}
	count_busy(view->table, starts, moves, &placing);
	drain_choose(l, view, n->id, now_ms, &in, &sum);
	for (uint32_t wave = 1; wave <= sum.waves; wave++) {
		for (uint32_t v = 0; v < in.vm_count; v++) {
			const struct role *r = role_table_role(view->table, in.vms[v].id);
			const struct place_choice *c = &l->choices[v];

			if (c->wave != wave || r->state != ROLE_ONLINE || r->frozen ||
			    (c->node == 0 && c->how != PLACE_SHUTDOWN) ||
			    moves[n->id - 1] >= limit(in.moves_per_node) ||
			    (c->node != 0 && moves[c->node - 1] >= limit(in.moves_per_node))) {
				continue;
			}
			moves[n->id - 1]++;
			if (c->node != 0) {
				moves[c->node - 1]++;
			}
			if (lead_due(&l->once[r->id - 1], lead_role_state(r), now_ns)) {
				lead_propose(out, view, now_ms, drain_cmd(view, r, c));
				drain_note(l, r, c, now_ns);
			}
		}
	}
}

/*
 * The wish to empty a node was taken back: so are the moves that were proposed for it, wherever
 * they and the end of the wish came in the log. Whoever took it back cancels those it saw itself.
 */
static void drain_undone(struct lead *l, const struct lead_view *view, const struct role *r,
                         uint64_t now_ns, uint64_t now_ms, struct lead_out *out)
{
	struct lead_drained *d = &l->drained[r->id - 1];
	bool moves = r->state == ROLE_MIGRATING && (d->to & role_bit(r->dest.node)) != 0;

	if (d->at_ns == 0) {
		return;
	}
	if (r->owner.node == 0 || r->token != d->token || (!moves && d->seen)) {
		d->at_ns = 0; /* it is elsewhere, or stays */
		return;
	}
	d->seen = d->seen || moves;
	if (role_table_node(view->table, r->owner.node)->drain != ROLE_DRAIN_NONE) {
		return;
	}
	if (moves && lead_due(&l->once[r->id - 1], lead_role_state(r), now_ns)) {
		lead_propose(out, view, now_ms,
		             (struct role_cmd){.verb = ROLE_CMD_MIGRATE_CANCEL,
		                               .role = r->id,
		                               .token = r->token});
	} else if (!moves && now_ns >= d->at_ns + DRAINED_NS) {
		d->at_ns = 0; /* it was lost; a later move is somebody else's */
	}
}

void lead_plan_drain(struct lead *l, const struct lead_view *view, uint32_t node, uint64_t now_ms,
                     lead_plan_fn fn, void *arg)
{
	struct place_summary sum;
	struct place_in in;

	drain_choose(l, view, node, now_ms, &in, &sum);
	for (uint32_t v = 0; v < in.vm_count; v++) {
		if (in.vms[v].node == node) {
			fn(arg, role_table_role(view->table, in.vms[v].id), &l->choices[v]);
		}
	}
}

void lead_drains(struct lead *l, const struct lead_view *view, uint64_t now_ns, uint64_t now_ms,
                 struct lead_out *out)
{
	for (uint32_t id = 1; id <= ROLE_NODES_MAX; id++) {
		const struct role_node *n = role_table_node(view->table, id);

		if (n->state == ROLE_NODE_UP && n->drain == ROLE_DRAIN_ACTIVE) {
			drain_one(l, view, n, now_ns, now_ms, out);
		} else if ((n->state == ROLE_NODE_DOWN || n->state == ROLE_NODE_FENCING) &&
		           n->drain == ROLE_DRAIN_ACTIVE && is_empty(view->table, id)) {
			drain_done(l, view, n, now_ns, now_ms, out); /* it died over it */
		}
	}
	for (const struct role *r = role_table_next(view->table, 0);
	     r != NULL && r->id <= l->role_max; r = role_table_next(view->table, r->id)) {
		drain_undone(l, view, r, now_ns, now_ms, out);
	}
}
