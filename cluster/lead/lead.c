/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/lead/lead.h"

#include <errno.h>
#include <stdlib.h>

#include "base/fault.h"
#include "base/fmt.h"
#include "base/text.h"
#include "cluster/lead/lead_int.h"
#include "cluster/timing/timing.h"

int lead_create(uint32_t role_max, struct lead **out)
{
	struct lead *l = gw_calloc(1, sizeof(*l));

	*out = NULL;
	if (l == NULL) {
		return -ENOMEM;
	}
	l->role_max = role_max;
	l->once = gw_calloc(role_max + 1, sizeof(*l->once));
	l->drained = gw_calloc(role_max + 1, sizeof(*l->drained));
	l->place_nodes = gw_calloc(ROLE_NODES_MAX, sizeof(*l->place_nodes));
	l->place_vms = gw_calloc(role_max + 1, sizeof(*l->place_vms));
	l->choices = gw_calloc(role_max + 1, sizeof(*l->choices));
	l->work = gw_malloc(place_work_bytes(role_max));
	if (l->once == NULL || l->drained == NULL || l->place_nodes == NULL ||
	    l->place_vms == NULL || l->choices == NULL || l->work == NULL) {
		lead_destroy(l);
		return -ENOMEM;
	}
	*out = l;
	return 0;
}

void lead_destroy(struct lead *l)
{
	if (l == NULL) {
		return;
	}
	free(l->once);
	free(l->drained);
	free(l->place_nodes);
	free(l->place_vms);
	free(l->choices);
	free(l->work);
	free(l);
}

void lead_begin(struct lead *l, uint64_t now_ns)
{
	(void)now_ns;
	for (uint32_t i = 0; i < ROLE_NODES_MAX; i++) {
		l->nodes[i].fencing = false;
		l->nodes[i].gen = ++l->gen;
		l->nodes[i].once = (struct lead_once){0};
	}
	for (uint32_t i = 0; i < l->role_max; i++) {
		l->once[i] = (struct lead_once){0};
		l->drained[i] = (struct lead_drained){0};
	}
}

static struct lead_node *node_of(struct lead *l, struct role_at at)
{
	return &l->nodes[at.node - 1];
}

static bool watched(const struct lead_node *n, struct role_at at)
{
	return n->at.node == at.node && n->at.inc == at.inc;
}

void lead_joined(struct lead *l, const struct timing *t, struct role_at at, uint32_t lease_ms,
                 uint64_t now_ns)
{
	struct lead_node *n = node_of(l, at);

	n->at = at;
	n->fencing = false;
	lease_watch_start(&n->watch, t, lease_ms, now_ns);
	for (uint32_t v = 0; v < ROLE_VOLUMES_MAX; v++) {
		lease_watch_start(&n->slots[v], t, lease_ms, now_ns);
		n->slot_read_ns[v] = 0;
	}
}

void lead_renewed(struct lead *l, const struct timing *t, struct role_at at, uint64_t seq,
                  uint32_t lease_ms, uint64_t now_ns)
{
	if (watched(node_of(l, at), at)) {
		lease_watch_seen(&node_of(l, at)->watch, t, seq, lease_ms, now_ns);
	}
}

void lead_slot(struct lead *l, const struct timing *t, struct role_at at, uint32_t volume,
               uint64_t seq, uint64_t now_ns)
{
	struct lead_node *n = node_of(l, at);

	if (watched(n, at)) {
		lease_watch_seen(&n->slots[volume - 1], t, seq, t->cfg.lease_ms, now_ns);
		n->slot_read_ns[volume - 1] = now_ns;
	}
}

void lead_propose(struct lead_out *out, const struct lead_view *view, uint64_t now_ms,
                  struct role_cmd cmd)
{
	if (out->cmd_count < LEAD_CMDS_MAX) {
		cmd.epoch = role_table_epoch(view->table);
		cmd.now_ms = now_ms;
		out->cmds[out->cmd_count++] = cmd;
	}
}

bool lead_due(struct lead_once *once, uint64_t what, uint64_t now_ns)
{
	if (once->at_ns != 0 && once->what == what && now_ns < once->at_ns + LEAD_AGAIN_NS) {
		return false;
	}
	*once = (struct lead_once){.at_ns = now_ns, .what = what};
	return true;
}

uint64_t lead_role_state(const struct role *r)
{
	return r->token << 8 | (uint64_t)r->state;
}

uint64_t lead_node_state(const struct role_node *n)
{
	return n->inc << 16 | (uint64_t)n->proof << 8 | (uint64_t)n->state;
}

/* Has one of its slots moved lately, as far as we can see? */
static bool slots_alive(const struct lead_node *n, const struct timing *t, uint64_t now_ns)
{
	for (uint32_t v = 0; v < ROLE_VOLUMES_MAX; v++) {
		uint64_t full =
			timing_expire_ns(t, t->cfg.lease_ms) + t->cfg.inflight_ms * 1000000ull;

		/* Three intervals without a change: it does not write any more. */
		if (n->slots[v].seq > 0 && now_ns + full < n->slots[v].end_ns + 3 * t->slot_ns) {
			return true;
		}
	}
	return false;
}

/* Nodes that left the view or are back in it. */
static void members(struct lead *l, const struct lead_view *view, uint64_t now_ns, uint64_t now_ms,
                    struct lead_out *out)
{
	for (uint32_t id = 1; id <= ROLE_NODES_MAX; id++) {
		const struct role_node *n = role_table_node(view->table, id);
		struct role_cmd cmd = {.at = {.node = id, .inc = n->inc}};
		bool here = (view->members & role_bit(id)) != 0 && view->run[id - 1] == n->inc;

		if (n->state == ROLE_NODE_UP && !here) {
			cmd.verb = ROLE_CMD_LOST;
			cmd.arg[0] = slots_alive(&l->nodes[id - 1], view->timing, now_ns);
		} else if (n->state == ROLE_NODE_LOST && here) {
			cmd.verb = ROLE_CMD_BACK;
		} else {
			continue;
		}
		if (lead_due(&l->nodes[id - 1].once, lead_node_state(n), now_ns)) {
			lead_propose(out, view, now_ms, cmd);
		}
	}
}

/* Roles that wait for their volumes or for their patience to end. */
static void roles(struct lead *l, const struct lead_view *view, uint64_t now_ns, uint64_t now_ms,
                  struct lead_out *out)
{
	for (const struct role *r = role_table_next(view->table, 0); r != NULL;
	     r = role_table_next(view->table, r->id)) {
		if (r->id > l->role_max || r->frozen) {
			continue;
		}
		if (r->state == ROLE_UNMONITORED && now_ms >= r->until_ms) {
			struct role_cmd cmd = {
				.verb = ROLE_CMD_EXPIRE, .role = r->id, .token = r->token};

			if (lead_due(&l->once[r->id - 1], lead_role_state(r), now_ns)) {
				lead_propose(out, view, now_ms, cmd);
			}
		}
		if (r->state != ROLE_RAISING ||
		    out->raise_count + ROLE_VOLUMES_MAX / 8 > LEAD_CMDS_MAX ||
		    !lead_due(&l->once[r->id - 1], lead_role_state(r), now_ns)) {
			continue;
		}
		for (uint32_t v = 1; v <= ROLE_VOLUMES_MAX && out->raise_count < LEAD_CMDS_MAX;
		     v++) {
			if ((r->policy.volumes & ~r->acked & role_bit(v)) != 0) {
				out->raises[out->raise_count++] = (struct lead_raise){
					.role = r->id, .volume = v, .token = r->token};
			}
		}
	}
}

void lead_step(struct lead *l, const struct lead_view *view, uint64_t now_ns, uint64_t now_ms,
               struct lead_out *out)
{
	out->cmd_count = 0;
	out->raise_count = 0;
	out->fence_count = 0;
	members(l, view, now_ns, now_ms, out);
	lead_fences(l, view, now_ns, now_ms, out);
	roles(l, view, now_ns, now_ms, out);
	lead_starts(l, view, now_ns, now_ms, out);
	lead_drains(l, view, now_ns, now_ms, out);
}

void lead_raised(const struct lead_raise *raise, const struct lead_view *view, uint64_t now_ms,
                 struct role_cmd *out)
{
	*out = (struct role_cmd){.verb = ROLE_CMD_ACK,
	                         .role = raise->role,
	                         .epoch = role_table_epoch(view->table),
	                         .now_ms = now_ms,
	                         .token = raise->token,
	                         .arg = {raise->volume}};
}

void lead_fenced(struct lead *l, const struct lead_fence *fence, int err, uint64_t now_ns)
{
	struct lead_node *n = node_of(l, fence->at);

	if (n->fencing && n->gen == fence->gen && n->fence.at.inc == fence->at.inc) {
		fence_done(&n->fence, &fence->action, err, now_ns);
	}
}

void lead_power_changed(struct lead *l, uint32_t node)
{
	fence_power_changed(&l->nodes[node - 1].fence);
}

void lead_storage_changed(struct lead *l, uint32_t node)
{
	fence_storage_changed(&l->nodes[node - 1].fence);
}

uint64_t lead_next_ns(const struct lead *l, const struct lead_view *view, uint64_t now_ns)
{
	uint64_t next = now_ns + LEAD_AGAIN_NS; /* what was proposed and lost */

	for (uint32_t i = 0; i < ROLE_NODES_MAX; i++) {
		const struct role_node *n = role_table_node(view->table, i + 1);
		struct fence_view fv;

		if (l->nodes[i].fencing) {
			lead_fence_view(l, view, n, now_ns, &fv);
			uint64_t at = fence_next_ns(&l->nodes[i].fence, &fv, now_ns);

			next = at < next ? at : next;
		}
	}
	return next;
}

/* Which one starts before it, and for how long it waits for that. */
static void add_wait(struct text *text, const struct role_table *t, const struct role *r,
                     uint64_t now_ms)
{
	const struct role *need = lead_waits_for(t, r, now_ms);
	char span[FMT_MAX];

	if (need != NULL) {
		text_add(text, "; it starts after %s, which is %s, in %s at the latest", need->name,
		         role_state_name(need->state),
		         fmt_duration((r->since_ms + LEAD_AFTER_MS - now_ms) * 1000000ull, span));
	}
}

void lead_explain(struct lead *l, uint32_t id, const struct lead_view *view, uint64_t now_ns,
                  uint64_t now_ms, char *buf, size_t size)
{
	const struct role *r = role_table_role(view->table, id);
	char part[400];
	struct text text;

	text_init(&text, buf, size);
	if (r == NULL) {
		text_add(&text, "no such role");
		return;
	}
	role_describe(r, now_ms, part, sizeof(part));
	text_add(&text, "%s: %s", r->name, part);
	if (r->state == ROLE_FENCING && l->nodes[r->owner.node - 1].fencing) {
		struct fence_view fv;

		lead_fence_view(l, view, role_table_node(view->table, r->owner.node), now_ns, &fv);
		fence_describe(&l->nodes[r->owner.node - 1].fence, &fv, now_ns, part, sizeof(part));
		text_add(&text, ": %s", part);
	}
	if (r->state == ROLE_PLACING) {
		struct place_summary sum;
		struct place_in in;

		lead_input(l, view, now_ms, &in);
		place_run(&in, l->work, l->choices, &sum);
		uint32_t index = 0;

		while (index < in.vm_count && in.vms[index].id != id) {
			index++;
		}
		if (index < in.vm_count) {
			place_explain(&in, l->choices, index, part, sizeof(part));
			text_add(&text, ": %s", part);
		}
		add_wait(&text, view->table, r, now_ms);
	}
}
