/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/lead/lead_int.h"
#include "cluster/timing/timing.h"

#define NS_PER_MS 1000000ull

/* Volumes of the roles that wait for the proof about this run; and may any of them be isolated? */
static uint64_t waiting(const struct lead_view *view, const struct role_node *n, bool *any,
                        uint64_t *isolated)
{
	struct role_at at = {.node = n->id, .inc = n->inc};
	uint64_t volumes = 0;

	*any = false;
	*isolated = 0;
	for (const struct role *r = role_table_next(view->table, 0); r != NULL;
	     r = role_table_next(view->table, r->id)) {
		if (role_is_at(r, at)) {
			*any = true;
			volumes |= r->policy.volumes;
			*isolated |= r->policy.isolated_ok ? r->policy.volumes : 0;
		}
	}
	return volumes;
}

static uint64_t reached(const struct lead_view *view)
{
	uint64_t volumes = 0;

	for (uint32_t id = 1; id <= ROLE_NODES_MAX; id++) {
		if ((view->members & role_bit(id)) != 0) {
			volumes |= role_table_node(view->table, id)->paths;
		}
	}
	return volumes;
}

/*
 * When all leases of the run are over for certain. A VM that may be isolated lives on the leases of
 * its volumes as well; those end too, or ended with the sentence: what is renewed after it does
 * not count. A slot that cannot be read now may have been renewed: its end is not known.
 */
static uint64_t lease_end(const struct lead *l, const struct lead_view *view,
                          const struct role_node *n, uint64_t isolated, uint64_t now_ns)
{
	const struct lead_node *ln = &l->nodes[n->id - 1];
	uint64_t end = ln->watch.end_ns;

	if (ln->at.inc != n->inc) {
		return UINT64_MAX; /* we did not watch it; lead_joined() comes with its JOIN */
	}
	for (uint32_t v = 1; v <= ROLE_VOLUMES_MAX; v++) {
		uint64_t slot_end = ln->slots[v - 1].end_ns;

		if ((isolated & role_bit(v)) == 0) {
			continue;
		}
		uint64_t sentence = ln->fencing ? fence_sentenced(&ln->fence, v) : UINT64_MAX;

		/* To be believed it must have been read after its end. Until then the time is a
		 * forecast, good enough to wake up at. */
		if (ln->slot_read_ns[v - 1] < slot_end && now_ns >= slot_end) {
			slot_end = UINT64_MAX;
		}
		if (sentence != UINT64_MAX) {
			uint64_t last = sentence +
			                timing_expire_ns(view->timing, view->timing->cfg.lease_ms) +
			                view->timing->cfg.inflight_ms * NS_PER_MS;

			slot_end = last < slot_end ? last : slot_end;
		}
		end = slot_end > end ? slot_end : end;
	}
	return end;
}

void lead_fence_view(const struct lead *l, const struct lead_view *view, const struct role_node *n,
                     uint64_t now_ns, struct fence_view *out)
{
	uint64_t isolated;
	bool any;

	*out = (struct fence_view){
		.timing = view->timing,
		.volumes = waiting(view, n, &any, &isolated),
		.reachable = reached(view),
		.preemptable = view->preemptable,
		.action_ns = view->action_ns,
		.lease_proof = n->lease_proof,
	};
	if (view->storage_whole) {
		uint64_t whole = view->storage[n->id - 1];

		out->volumes |= whole;
		out->whole = whole != 0 ? whole : UINT64_MAX;
		/* No key is taken away for nothing. */
		out->preemptable &= whole;
		/* Who has a key there reaches it, whether VMs can use it or not. */
		out->reachable |= out->preemptable;
	}
	for (uint32_t level = 0; any && level < FENCE_LEVELS_MAX; level++) {
		out->devices[level] = view->devices[n->id - 1][level];
	}
	/* If nobody waits any more, there is time to see all its leases end: what storage has
	 * fenced may still compute on one of them. */
	out->lease_end_ns = lease_end(l, view, n,
	                              view->node_leases_only ? 0
	                              : any                  ? isolated
	                                                     : n->paths,
	                              now_ns);
}

static void one(struct lead *l, const struct lead_view *view, const struct role_node *n,
                uint64_t now_ns, uint64_t now_ms, struct lead_out *out)
{
	struct role_at at = {.node = n->id, .inc = n->inc};
	struct fence_action acts[FENCE_ACTIONS_MAX];
	struct lead_node *ln = &l->nodes[n->id - 1];
	struct fence_view fv;
	uint64_t volumes;

	if (!ln->fencing || ln->fence.at.inc != n->inc) {
		ln->fencing = true;
		ln->gen = ++l->gen;
		fence_init(&ln->fence, at, 0, now_ns);
	}
	lead_fence_view(l, view, n, now_ns, &fv);
	if (out->fence_count + FENCE_ACTIONS_MAX <= LEAD_CMDS_MAX) {
		size_t count = fence_step(&ln->fence, &fv, now_ns, acts);

		for (size_t i = 0; i < count; i++) {
			out->fences[out->fence_count++] =
				(struct lead_fence){.at = at, .gen = ln->gen, .action = acts[i]};
		}
	}
	enum role_proof proof = fence_proof(&ln->fence, &fv, now_ns, &volumes);

	if (proof == ROLE_PROOF_NONE ||
	    (proof == ROLE_PROOF_STORAGE && (volumes & ~n->proof_volumes) == 0) ||
	    !lead_due(&ln->once, lead_node_state(n) + ((uint64_t)proof << 12), now_ns)) {
		return;
	}
	lead_propose(out, view, now_ms,
	             (struct role_cmd){.verb = ROLE_CMD_FENCED, .at = at, .arg = {proof, volumes}});
}

void lead_fences(struct lead *l, const struct lead_view *view, uint64_t now_ns, uint64_t now_ms,
                 struct lead_out *out)
{
	uint64_t doomed = 0; /* set of nodes whose VMs wait for a fence */

	for (const struct role *r = role_table_next(view->table, 0); r != NULL;
	     r = role_table_next(view->table, r->id)) {
		if (r->state == ROLE_FENCING && !r->frozen) {
			doomed |= role_bit(r->owner.node);
		}
	}
	for (uint32_t id = 1; id <= ROLE_NODES_MAX; id++) {
		const struct role_node *n = role_table_node(view->table, id);

		if (n->state == ROLE_NODE_FENCING) {
			one(l, view, n, now_ns, now_ms, out);
			continue;
		}
		l->nodes[id - 1].fencing = false;
		/* A node without VMs is not fenced: it does no harm. */
		if (n->state == ROLE_NODE_LOST && (doomed & role_bit(id)) != 0 &&
		    (view->members & role_bit(id)) == 0 &&
		    lead_due(&l->nodes[id - 1].once, lead_node_state(n), now_ns)) {
			lead_propose(out, view, now_ms,
			             (struct role_cmd){.verb = ROLE_CMD_FENCING,
			                               .at = {.node = id, .inc = n->inc}});
		}
	}
}
