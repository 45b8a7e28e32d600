/* SPDX-License-Identifier: Apache-2.0 */

/* What runs on a node: its agent, the leader if it is that, and what they ask for. */
#include <errno.h>
#include <string.h>

#include "base/check.h"
#include "tests/sim/cluster/csim_int.h"

uint64_t csim_now_ms(const struct csim *s, uint32_t node)
{
	const struct csim_node *n = &s->nodes[node - 1];

	return n->now_ms_base + (csim_local(s, node) - n->now_ns_base) / CSIM_MS;
}

static void pet(struct csim *s, uint32_t node)
{
	struct csim_node *n = csim_node(s, node);
	bool may = n->agent->self.inc == 0 || s->cfg.mutation == CSIM_MUTATE_PET ||
	           agent_pettable(n->agent, n->table, &s->timing, csim_local(s, node));

	if (n->watchdog && may) {
		uint64_t dog_ns = (uint64_t)(s->timing.cfg.watchdog_ms * 1e6 / n->rate);

		n->pet_ns = s->now_ns;
		csim_at(CSIM_DOG, node, s, dog_ns)->b = s->now_ns;
	}
}

static void join(struct csim *s, uint32_t node)
{
	struct csim_node *n = csim_node(s, node);
	struct role_cmd cmd = {
		.verb = ROLE_CMD_JOIN,
		.epoch = n->epoch,
		.now_ms = csim_now_ms(s, node),
		.at = {node, role_table_node(n->table, node)->inc + 1},
		.arg = {64ull << 30, 64, n->paths, n->watchdog ? ROLE_NODE_LEASE_PROOF : 0}};

	if (n->epoch != 0 && role_table_epoch(n->table) == n->epoch &&
	    (n->joining_ns == 0 || s->now_ns > n->joining_ns + CSIM_S)) {
		n->joining_ns = s->now_ns;
		csim_send(s, node, &cmd);
	}
}

static void renew(struct csim *s, uint32_t node, uint64_t local)
{
	struct csim_node *n = csim_node(s, node);

	if (local >= n->next_renew_ns) {
		struct role_cmd cmd = {.verb = ROLE_CMD_RENEW,
		                       .epoch = n->epoch,
		                       .now_ms = csim_now_ms(s, node),
		                       .at = n->agent->self};

		n->next_renew_ns = local + s->timing.renew_ns;
		cmd.arg[0] = lease_send(&n->agent->node, &s->timing, local);
		cmd.arg[1] = s->timing.cfg.lease_ms;
		if (n->epoch != 0) {
			csim_send(s, node, &cmd);
		}
	}
	if (local < n->next_slot_ns) {
		return;
	}
	n->next_slot_ns = local + s->timing.slot_ns;
	for (uint32_t v = 1; v <= s->cfg.volumes; v++) {
		uint64_t seq = lease_send(&n->agent->volumes[v - 1], &s->timing, local);

		if ((n->paths & role_bit(v)) != 0) {
			struct csim_event *e =
				csim_at(CSIM_SLOT, node, s, csim_between(s, CSIM_MS, 50 * CSIM_MS));

			e->a = v;
			e->b = seq;
		}
	}
}

/* The write of a slot has come to its end; then the verdict is read. */
void csim_slot(struct csim *s, const struct csim_event *e)
{
	struct csim_node *n = csim_node(s, e->node);
	struct csim_volume *v = &s->volumes[e->a - 1];

	if (n->agent->self.inc == 0 || (n->paths & role_bit(e->a)) == 0 || n->agent->doomed) {
		return;
	}
	if (v->reserves && (v->keys & role_bit(e->node)) == 0) {
		csim_say(s, "n%u finds its key gone from volume %u", e->node, e->a);
		agent_doom(n->agent);
		return;
	}
	v->slot_inc[e->node - 1] = n->agent->self.inc;
	v->slot_seq[e->node - 1] = e->b;
	if (v->sentence[e->node - 1] >= n->agent->self.inc) {
		csim_say(s, "n%u reads its sentence on volume %u", e->node, e->a);
		agent_doom(n->agent);
		return;
	}
	if (s->cfg.mutation == CSIM_MUTATE_REPLY) {
		(void)!lease_confirm(&n->agent->volumes[e->a - 1],
		                     lease_send(&n->agent->volumes[e->a - 1], &s->timing,
		                                csim_local(s, e->node)));
		return;
	}
	(void)!lease_confirm(&n->agent->volumes[e->a - 1], e->b);
}

void csim_read_slots(struct csim *s, uint32_t node)
{
	struct csim_node *n = csim_node(s, node);

	csim_at(CSIM_READ, node, s, csim_between(s, 450 * CSIM_MS, 550 * CSIM_MS));
	for (uint32_t v = 1; v <= s->cfg.volumes; v++) {
		for (uint32_t id = 1; id <= s->cfg.nodes && (n->paths & role_bit(v)) != 0; id++) {
			struct role_at at = {id, s->volumes[v - 1].slot_inc[id - 1]};

			lead_slot(n->lead, &s->watch, at, v, s->volumes[v - 1].slot_seq[id - 1],
			          csim_local(s, node));
		}
	}
}

static void reset_run(struct csim *s, uint32_t node)
{
	struct csim_node *n = csim_node(s, node);

	/* Its workers are killed and their I/O waited for; then it joins anew, as from a boot. */
	memset(n->running, 0, sizeof(n->running));
	csim_stop_node(s, node, false, "gives up its run and restarts");
}

static void send(struct csim *s, uint32_t node, uint32_t role)
{
	struct csim_event *e = csim_at(CSIM_SENT, node, s, csim_between(s, CSIM_S, 3 * CSIM_S));

	e->a = role;
	e->b = ++csim_node(s, node)->sends[role - 1];
}

static void act(struct csim *s, uint32_t node, const struct agent_action *a)
{
	struct csim_node *n = csim_node(s, node);
	struct csim_event *e;

	switch (a->what) {
	case AGENT_PROPOSE:
		csim_send(s, node, &a->cmd);
		break;
	case AGENT_VM_START:
		/* A hand-over: the new owner itself tells the volumes, and waits for their word. */
		for (uint32_t v = 1; a->incoming && v <= s->cfg.volumes; v++) {
			uint64_t *known = &s->volumes[v - 1].known[a->role - 1];

			*known = a->token > *known ? a->token : *known;
		}
		e = csim_at(CSIM_STARTED, node, s, csim_between(s, 50 * CSIM_MS, 400 * CSIM_MS));
		e->a = a->role;
		e->b = a->token;
		e->c = a->incoming;
		break;
	case AGENT_VM_STOP:
		csim_at(CSIM_EXITED, node, s, csim_between(s, CSIM_S, 3 * CSIM_S))->a = a->role;
		break;
	case AGENT_VM_KILL:
		if (n->stuck) {
			break;
		}
		n->running[a->role - 1] = false;
		csim_at(CSIM_EXITED, node, s, csim_between(s, CSIM_MS, 20 * CSIM_MS))->a = a->role;
		break;
	case AGENT_VM_PAUSE:
		csim_say(s, "n%u pauses vm%u", node, a->role);
		n->paused[a->role - 1] = !n->stuck;
		break;
	case AGENT_VM_RESUME:
		n->paused[a->role - 1] = false;
		n->running[a->role - 1] = true;
		csim_say(s, "n%u resumes vm%u", node, a->role);
		break;
	case AGENT_VM_SEND:
		send(s, node, a->role);
		break;
	case AGENT_RESET:
		reset_run(s, node);
		break;
	}
}

void csim_tick(struct csim *s, uint32_t node)
{
	struct agent_action acts[AGENT_ACTIONS_MAX];
	struct csim_node *n = csim_node(s, node);
	uint64_t local = csim_local(s, node);
	uint32_t boot = n->boot;

	csim_at(CSIM_TICK, node, s, csim_between(s, 90 * CSIM_MS, 110 * CSIM_MS));
	if (n->agent->self.inc == 0) {
		join(s, node);
	} else {
		renew(s, node, local);
	}
	uint32_t count =
		agent_step(n->agent, n->table, &s->timing, local, csim_now_ms(s, node), acts);

	for (uint32_t i = 0; i < count && n->boot == boot; i++) {
		act(s, node, &acts[i]);
	}
	if (n->boot == boot) {
		pet(s, node);
		csim_lead(s, node);
	}
}

void csim_started(struct csim *s, const struct csim_event *e)
{
	struct csim_node *n = csim_node(s, e->node);
	struct agent_vm *vm = &n->agent->vms[e->a - 1];

	if (vm->state != AGENT_STARTING || vm->token != e->b || vm->killing) {
		return;
	}
	/* The worker asks for the lease once more before its first instruction. */
	if (agent_rung(n->agent, n->table, &s->timing, e->a, csim_local(s, e->node)) != LEASE_OK) {
		agent_vm_event(n->agent, e->a, AGENT_START_FAILED);
		return;
	}
	if (e->c && s->cfg.mutation != CSIM_MUTATE_NORAISE) {
		for (uint32_t v = 1; v <= s->cfg.volumes; v++) {
			struct lead_raise raise = {.role = e->a, .volume = v, .token = e->b};

			if (csim_older_redirected(s, &raise)) {
				struct csim_event *again =
					csim_at(CSIM_STARTED, e->node, s, 5 * CSIM_MS);

				again->a = e->a;
				again->b = e->b;
				again->c = e->c;
				return;
			}
		}
	}
	csim_say(s, "n%u runs vm%u with token %llu", e->node, e->a, (unsigned long long)e->b);
	n->running[e->a - 1] = true;
	n->paused[e->a - 1] = false;
	n->token[e->a - 1] = e->b;
	agent_vm_event(n->agent, e->a, AGENT_STARTED);
}

void csim_exited(struct csim *s, uint32_t node, uint32_t role)
{
	struct csim_node *n = csim_node(s, node);

	n->running[role - 1] = false;
	n->paused[role - 1] = false;
	if (csim_own_writes(s, node, role)) { /* a process ends when its I/O has */
		csim_at(CSIM_EXITED, node, s, 5 * CSIM_MS)->a = role;
		return;
	}
	if (n->agent->vms[role - 1].state != AGENT_NONE) {
		agent_vm_event(n->agent, role, AGENT_EXITED);
	}
}

/* .c of the event: it stands still already, its writes end. */
void csim_sent(struct csim *s, const struct csim_event *e)
{
	struct csim_node *n = csim_node(s, e->node);
	const struct agent_vm *vm = &n->agent->vms[e->a - 1];

	if (!vm->sending || n->sends[e->a - 1] != e->b) { /* cancelled */
		n->running[e->a - 1] = n->running[e->a - 1] ||
		                       (e->c != 0 && vm->state == AGENT_RUNNING && !vm->killing);
		return;
	}
	n->running[e->a - 1] = false;
	if (csim_own_writes(s, e->node, e->a)) {
		struct csim_event *again = csim_at(CSIM_SENT, e->node, s, 5 * CSIM_MS);

		again->a = e->a;
		again->b = e->b;
		again->c = 1;
		return;
	}
	agent_vm_event(n->agent, e->a, AGENT_SENT);
}

/* ---- the log ---- */

static void learn(struct csim *s, uint32_t node, const struct role_cmd *cmd)
{
	struct csim_node *n = csim_node(s, node);
	uint64_t local = csim_local(s, node);

	if (cmd->verb == ROLE_CMD_JOIN) {
		lead_joined(n->lead, &s->watch, cmd->at, s->timing.cfg.lease_ms, local);
		n->run[cmd->at.node - 1] = cmd->at.inc;
		if (cmd->at.node == node && n->joining_ns != 0 && n->agent->self.inc == 0) {
			agent_begin(n->agent, cmd->at.inc);
			n->next_renew_ns = n->next_slot_ns = 0;
			for (uint32_t v = 0; v < s->cfg.volumes; v++) {
				s->volumes[v].keys |= role_bit(node);
			}
		}
	} else if (cmd->verb == ROLE_CMD_RENEW) {
		lead_renewed(n->lead, &s->watch, cmd->at, cmd->arg[0],
		             (uint32_t)s->watch.cfg.lease_ms, local);
		if (cmd->at.node == node && cmd->at.inc == n->agent->self.inc) {
			uint64_t seq = cmd->arg[0];

			if (s->cfg.mutation == CSIM_MUTATE_REPLY) {
				seq = lease_send(&n->agent->node, &s->timing, local);
			}
			(void)!lease_confirm(&n->agent->node, seq);
		}
	}
}

void csim_apply(struct csim *s, uint32_t node, uint32_t upto)
{
	struct csim_node *n = csim_node(s, node);

	for (; n->applied < upto; n->applied++) {
		const struct role_cmd *cmd = &s->entries[n->applied];

		if (cmd->verb == 0) {
			CHECK(role_table_view(n->table, cmd->epoch) == 0);
			n->now_ms_base = role_table_now_ms(n->table);
			n->now_ns_base = csim_local(s, node);
			lead_begin(n->lead, csim_local(s, node));
			continue;
		}
		if (role_table_apply(n->table, cmd) == 0) {
			learn(s, node, cmd);
		}
	}
	csim_lead(s, node);
}

/* ---- the leader ---- */

static bool leads(struct csim *s, uint32_t node)
{
	struct csim_node *n = csim_node(s, node);

	/* The lowest that is a member, if it knows the whole log of the view. */
	return n->epoch != 0 && role_table_epoch(n->table) == n->epoch && n->agent->self.inc != 0 &&
	       (n->members & (role_bit(node) - 1)) == 0;
}

/* A VM of the run writes elsewhere as well: volumes prove nothing about it. */
static bool writes_elsewhere(const struct csim *s, const struct role_table *t, uint32_t node)
{
	const struct role_at at = {node, role_table_node(t, node)->inc};

	for (uint32_t id = 1; id <= s->cfg.roles && s->cfg.mutation != CSIM_MUTATE_LOCAL; id++) {
		if ((s->cfg.local & role_bit(id)) != 0 && role_is_at(role_table_role(t, id), at)) {
			return true;
		}
	}
	return false;
}

static void view_of(struct csim *s, uint32_t node, struct lead_view *view)
{
	struct csim_node *n = csim_node(s, node);
	uint64_t volumes = (1u << s->cfg.volumes) - 1;

	memset(view, 0, sizeof(*view));
	view->table = n->table;
	view->timing = &s->watch;
	view->members = n->members;
	for (uint32_t id = 1; id <= s->cfg.nodes; id++) {
		view->run[id - 1] = n->run[id - 1];
		view->devices[id - 1][0] = s->cfg.power != CSIM_POWER_NONE;
	}
	view->preemptable = s->cfg.reserves ? volumes & ~s->cfg.plain : 0;
	view->storage_whole = s->cfg.whole;
	for (uint32_t id = 1; s->cfg.whole && id <= s->cfg.nodes; id++) {
		view->storage[id - 1] = writes_elsewhere(s, n->table, id) ? 0 : volumes;
	}
	view->action_ns = 20 * CSIM_S;
	view->starts_per_node = 2;
	view->moves_per_node = 2;
}

/* Mutated: whoever is out of sight counts as stopped. */
static void no_proof(struct csim *s, uint32_t node)
{
	struct csim_node *n = csim_node(s, node);

	for (uint32_t id = 1; id <= s->cfg.nodes; id++) {
		const struct role_node *other = role_table_node(n->table, id);

		if (other->state == ROLE_NODE_FENCING) {
			struct role_cmd cmd = {.verb = ROLE_CMD_FENCED,
			                       .epoch = n->epoch,
			                       .now_ms = csim_now_ms(s, node),
			                       .at = {id, other->inc},
			                       .arg = {ROLE_PROOF_OPERATOR}};

			csim_send(s, node, &cmd);
		}
	}
}

void csim_lead(struct csim *s, uint32_t node)
{
	static struct lead_out out; /* large; used within this call only */
	struct csim_node *n = csim_node(s, node);
	struct lead_view view;

	if (!leads(s, node)) {
		return;
	}
	view_of(s, node, &view);
	lead_step(n->lead, &view, csim_local(s, node), csim_now_ms(s, node), &out);
	for (uint32_t i = 0; i < out.cmd_count; i++) {
		csim_send(s, node, &out.cmds[i]);
	}
	for (uint32_t i = 0; i < out.raise_count; i++) {
		struct csim_event *e =
			csim_at(CSIM_RAISE, node, s, csim_between(s, CSIM_MS, 5 * CSIM_MS));

		e->a = out.raises[i].volume;
		e->b = out.raises[i].role;
		e->c = out.raises[i].token;
	}
	for (uint32_t i = 0; i < out.fence_count; i++) {
		bool power = out.fences[i].action.what == FENCE_OFF;
		struct csim_event *e = csim_at(CSIM_FENCE, node, s,
		                               power ? csim_between(s, CSIM_S, 3 * CSIM_S)
		                                     : csim_between(s, 5 * CSIM_MS, 100 * CSIM_MS));

		e->fence = out.fences[i].action;
		e->fence_gen = out.fences[i].gen;
		e->a = out.fences[i].at.node;
		e->b = out.fences[i].at.inc;
	}
	if (s->cfg.mutation == CSIM_MUTATE_NOPROOF) {
		no_proof(s, node);
	}
}

/* Some node of ours reaches the volume. */
static bool reached(struct csim *s, uint32_t node, uint32_t volume)
{
	for (uint32_t id = 1; id <= s->cfg.nodes; id++) {
		if ((id == node || csim_hears(s, node, id)) &&
		    (csim_node(s, id)->paths & role_bit(volume)) != 0) {
			return true;
		}
	}
	return false;
}

void csim_raise(struct csim *s, const struct csim_event *e)
{
	struct csim_node *n = csim_node(s, e->node);
	struct lead_raise raise = {.role = (uint32_t)e->b, .volume = e->a, .token = e->c};
	uint64_t *known = &s->volumes[e->a - 1].known[e->b - 1];
	struct lead_view view;
	struct role_cmd cmd;

	if (!reached(s, e->node, e->a)) {
		return;
	}
	if (s->cfg.mutation != CSIM_MUTATE_NORAISE) {
		*known = e->c > *known ? e->c : *known;
		/* The word is given when what was accepted under older tokens is answered. */
		if (csim_older_redirected(s, &raise)) {
			struct csim_event *again = csim_at(CSIM_RAISE, e->node, s, 5 * CSIM_MS);

			again->a = e->a;
			again->b = e->b;
			again->c = e->c;
			return;
		}
	}
	view_of(s, e->node, &view);
	lead_raised(&raise, &view, csim_now_ms(s, e->node), &cmd);
	if (n->epoch != 0) {
		csim_send(s, e->node, &cmd);
	}
}

static int power_off(struct csim *s, uint32_t node)
{
	if (s->cfg.power == CSIM_POWER_FAILS) {
		return -EIO;
	}
	if (s->cfg.mutation != CSIM_MUTATE_LIAR) {
		csim_off(s, node);
	}
	return 0;
}

void csim_fence(struct csim *s, const struct csim_event *e)
{
	struct csim_node *n = csim_node(s, e->node);
	struct lead_fence done = {.at = {e->a, e->b}, .gen = e->fence_gen, .action = e->fence};
	struct csim_volume *v = &s->volumes[e->fence.volume > 0 ? e->fence.volume - 1 : 0];
	int err = 0;

	if (e->fence.what == FENCE_OFF && s->cfg.power == CSIM_POWER_HANGS) {
		return;
	}
	if (e->fence.what != FENCE_OFF && !reached(s, e->node, e->fence.volume)) {
		err = -EIO;
	} else if (e->fence.what == FENCE_OFF) {
		err = power_off(s, e->a);
	} else if (e->fence.what == FENCE_VERDICT) {
		v->sentence[e->a - 1] = e->b > v->sentence[e->a - 1] ? e->b : v->sentence[e->a - 1];
	} else if (csim_node(s, e->a)->agent != NULL &&
	           csim_node(s, e->a)->agent->self.inc > e->b) {
		err = -ESTALE; /* its key is of another incarnation by now */
	} else if (s->cfg.whole && (v->keys & role_bit(e->a)) == 0) {
		err = -ENOKEY; /* somebody else took it away, or it comes only now: no proof */
	} else {
		v->keys &= ~role_bit(e->a);
		err = v->aborts ? FENCE_ABORTED : 0;
		if (v->aborts && s->cfg.mutation != CSIM_MUTATE_NOABORT) {
			csim_abort(s, e->fence.volume, e->a);
		}
	}
	lead_fenced(n->lead, &done, err, csim_local(s, e->node));
	csim_lead(s, e->node);
}
