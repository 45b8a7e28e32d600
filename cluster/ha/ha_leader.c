/* SPDX-License-Identifier: Apache-2.0 */

/* ha_leader - what the leader of the view sees of the cluster, and what it does about it. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "cluster/ha/ha_int.h"
#include "cluster/ha/maint.h"
#include "cluster/lead/lead.h"
#include "cluster/member/member.h"
#include "cluster/role/role_table.h"

#define PER_NODE_MAX 2u /* starts of a node at the same time */

static bool in_ring(const struct view *view, uint32_t id)
{
	for (uint32_t i = 0; i < view->ring_count; i++) {
		if (view->ring_members[i] == id) {
			return true;
		}
	}
	return false;
}

/* What the leader sees of a node: is it here, and as which run? */
static void look_at(const struct ha *ha, uint32_t id, uint64_t now_ns, struct lead_view *out)
{
	const struct view *view = member_view(ha->cfg.member);
	const struct view_member *m = view_find(view, id);
	const struct ha_peer *peer = &ha->peers[id - 1];
	const struct role_node *n = role_table_node(ha_table(ha), id);
	/* Once lost, only its own word that it is the same run brings it back. */
	bool patient = n->state == ROLE_NODE_UP && now_ns - peer->heard_ns < ha->timing.pause_ns;

	if (m != NULL && m->said && !m->skipped) {
		out->members |= role_bit(id);
		/* A process that has not said yet which run it is: it was started just now. */
		out->run[id - 1] = guid_equal(&peer->process, &m->hello.incarnation) ? peer->inc
		                   : patient                                         ? n->inc
		                                                                     : 0;
	} else if (patient && in_ring(view, id)) {
		out->members |= role_bit(id); /* its service is away, the node is not */
		out->run[id - 1] = n->inc;
	}
}

/* What is known of moves of VMs from @node since it is being emptied. */
static void hints_of(const struct ha *ha, uint32_t node)
{
	const struct db *db = member_db(ha->cfg.member);
	struct maint_drain d = {0};

	(void)maint_drain_get(db, node, &d);
	for (const struct role *r = role_table_next(ha_table(ha), 0);
	     r != NULL && r->id <= HA_ROLES_MAX; r = role_table_next(ha_table(ha), r->id)) {
		const struct db_object *o =
			r->owner.node == node ? db_get(db, DB_VM, r->name) : NULL;

		if (o != NULL) {
			maint_hint(o->doc, d.since_ms, ha_now_ms(ha), &ha->hints[r->id - 1]);
		}
	}
}

/* Nodes that are emptied, and how. */
static void look_at_drains(const struct ha *ha, struct lead_view *out)
{
	bool any = false;

	for (uint32_t id = 1; id <= ROLE_NODES_MAX; id++) {
		const struct role_node *n = role_table_node(out->table, id);

		if (n->state != ROLE_NODE_UP || n->drain != ROLE_DRAIN_ACTIVE) {
			continue;
		}
		if (!any) {
			memset(ha->hints, 0, HA_ROLES_MAX * sizeof(*ha->hints));
			out->hints = ha->hints;
			any = true;
		}
		maint_lead_drain(member_db(ha->cfg.member), id, ha_now_ms(ha),
		                 &out->drains[id - 1]);
		hints_of(ha, id);
	}
}

/* Nodes that are being fenced: what storage can prove about them. */
static void look_at_storage(const struct ha *ha, struct lead_view *out)
{
	const struct ha_storage *storage = ha->cfg.storage;
	struct ha_whole whole;

	out->storage_whole = true;
	for (uint32_t id = 1; storage != NULL && id <= ROLE_NODES_MAX; id++) {
		if (role_table_node(out->table, id)->state == ROLE_NODE_FENCING) {
			(void)storage->whole(storage->arg, id, false, &whole);
			out->storage[id - 1] = whole.volumes;
			out->preemptable |= whole.preemptable;
		}
	}
}

void ha_make_view(const struct ha *ha, uint64_t now_ns, struct lead_view *out)
{
	memset(out, 0, sizeof(*out));
	out->table = ha_table(ha);
	out->timing = &ha->timing;
	out->action_ns = HA_FENCE_NS;
	out->starts_per_node = PER_NODE_MAX;
	out->paths_hard = true;
	out->node_leases_only = true; /* documents have no isolated_ok */
	out->moves_per_node = maint_moves(member_db(ha->cfg.member));
	for (uint32_t id = 1; id <= ROLE_NODES_MAX; id++) {
		if (role_table_node(out->table, id)->state == ROLE_NODE_ABSENT) {
			continue;
		}
		look_at(ha, id, now_ns, out);
		if (ha->cfg.power != NULL) {
			(void)ha->cfg.power->devices(ha->cfg.power->arg, id, out->devices[id - 1]);
		}
	}
	look_at_drains(ha, out);
	look_at_storage(ha, out);
}

/* Devices that people changed meanwhile. */
static void look_at_power(struct ha *ha)
{
	uint32_t levels[FENCE_LEVELS_MAX];

	for (uint32_t id = 1; ha->cfg.power != NULL && id <= ROLE_NODES_MAX; id++) {
		uint64_t now = ha->cfg.power->devices(ha->cfg.power->arg, id, levels);

		if (now != ha->devices[id - 1]) {
			ha->devices[id - 1] = now;
			lead_power_changed(ha->lead, id);
		}
	}
}

/* Keys that are others meanwhile; and what is to be fenced is made ready for it. */
static void look_at_keys(struct ha *ha)
{
	const struct ha_storage *storage = ha->cfg.storage;
	struct ha_whole whole;

	for (uint32_t id = 1; storage != NULL && id <= ROLE_NODES_MAX; id++) {
		uint64_t now = role_table_node(ha_table(ha), id)->state == ROLE_NODE_FENCING
		                       ? storage->whole(storage->arg, id, true, &whole)
		                       : 0;

		if (now != ha->wholes[id - 1]) {
			ha->wholes[id - 1] = now;
			lead_storage_changed(ha->lead, id);
		}
	}
}

/* Slots are not written for fencing, and volumes raise tokens by themselves (ha_volumes()). */
static void begin_fence(struct ha *ha, const struct lead_fence *what)
{
	switch (what->action.what) {
	case FENCE_OFF:
		if (ha->cfg.power != NULL) {
			ha->cfg.power->off(ha->cfg.power->arg, what);
		}
		break;
	case FENCE_PREEMPT:
		if (ha->cfg.storage != NULL) {
			ha->cfg.storage->preempt(ha->cfg.storage->arg, what);
		}
		break;
	case FENCE_VERDICT:
		break;
	}
}

void ha_run_lead(struct ha *ha, uint64_t now_ns)
{
	struct lead_view view;

	look_at_power(ha);
	look_at_keys(ha);
	ha_make_view(ha, now_ns, &view);
	lead_step(ha->lead, &view, now_ns, ha_now_ms(ha), ha->out);
	for (uint32_t i = 0; i < ha->out->cmd_count; i++) {
		ha_propose(ha, &ha->out->cmds[i], HA_PROPOSE_NS);
	}
	for (uint32_t i = 0; i < ha->out->fence_count; i++) {
		begin_fence(ha, &ha->out->fences[i]);
	}
}

struct lead *ha_view(struct ha *ha, struct lead_view *out)
{
	ha_make_view(ha, clock_boot_ns(), out);
	return ha->lead;
}

void ha_fenced(struct ha *ha, const struct lead_fence *what, int err)
{
	lead_fenced(ha->lead, what, err, clock_boot_ns());
	ha_kick(ha);
}

void ha_plan_drain(struct ha *ha, uint32_t node, const struct lead_drain *how, lead_plan_fn fn,
                   void *arg)
{
	uint64_t now_ns = clock_boot_ns();
	struct lead_view view;

	ha_make_view(ha, now_ns, &view);
	if (how != NULL) {
		view.drains[node - 1] = *how;
	}
	lead_plan_drain(ha->lead, &view, node, ha_now_ms(ha), fn, arg);
}

/* Why no proof by storage comes. */
static void explain_storage(const struct ha *ha, uint32_t role, char *buf, size_t size)
{
	const struct role *r = role_table_role(ha_table(ha), role);
	struct ha_whole whole = {0};

	if (r != NULL && r->state == ROLE_FENCING && ha->cfg.storage != NULL &&
	    role_table_node(ha_table(ha), r->owner.node)->state == ROLE_NODE_FENCING) {
		(void)ha->cfg.storage->whole(ha->cfg.storage->arg, r->owner.node, false, &whole);
		(void)snprintf(buf, size,
		               whole.why[0] != '\0' ? "; storage proves nothing: %s" : "%s",
		               whole.why);
	}
}

void ha_explain(struct ha *ha, uint32_t role, char *buf, size_t size)
{
	uint64_t now_ns = clock_boot_ns();
	struct lead_view view;

	ha_make_view(ha, now_ns, &view);
	lead_explain(ha->lead, role, &view, now_ns, ha_now_ms(ha), buf, size);
	explain_storage(ha, role, buf + strlen(buf), size - strlen(buf));
}
