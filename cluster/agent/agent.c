/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/agent/agent.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "cluster/role/role_table.h"
#include "cluster/timing/timing.h"

int agent_create(uint32_t node, uint32_t role_max, struct agent **out)
{
	struct agent *a = gw_calloc(1, sizeof(*a));

	*out = NULL;
	if (a == NULL) {
		return -ENOMEM;
	}
	a->vms = gw_calloc(role_max + 1, sizeof(*a->vms));
	if (a->vms == NULL) {
		free(a);
		return -ENOMEM;
	}
	a->self.node = node;
	a->role_max = role_max;
	*out = a;
	return 0;
}

void agent_destroy(struct agent *a)
{
	if (a != NULL) {
		free(a->vms);
		free(a);
	}
}

void agent_begin(struct agent *a, uint64_t inc)
{
	a->self.inc = inc;
	a->doomed = false;
	lease_drop(&a->node);
	for (uint32_t v = 0; v < ROLE_VOLUMES_MAX; v++) {
		lease_drop(&a->volumes[v]);
	}
	memset(a->vms, 0, a->role_max * sizeof(*a->vms));
}

void agent_doom(struct agent *a)
{
	a->doomed = true;
	lease_drop(&a->node);
	for (uint32_t v = 0; v < ROLE_VOLUMES_MAX; v++) {
		lease_drop(&a->volumes[v]);
	}
}

static void gone(struct agent_vm *vm, enum role_verb report, enum role_stop stop)
{
	*vm = (struct agent_vm){.token = vm->token, .report = report, .stop = stop};
}

void agent_vm_event(struct agent *a, uint32_t role, enum agent_event event)
{
	struct agent_vm *vm = &a->vms[role - 1];

	switch (event) {
	case AGENT_STARTED:
		vm->state = AGENT_RUNNING;
		break;
	case AGENT_START_FAILED:
		gone(vm, ROLE_CMD_START_FAILED, ROLE_STOP_ASKED);
		break;
	case AGENT_EXITED:
		gone(vm, ROLE_CMD_STOPPED, vm->stopping ? ROLE_STOP_ASKED : ROLE_STOP_CRASH);
		break;
	case AGENT_GUEST_OFF:
		gone(vm, ROLE_CMD_STOPPED, ROLE_STOP_GUEST);
		break;
	case AGENT_SENT:
		vm->sent = vm->sending;
		break;
	case AGENT_SEND_FAILED:
		vm->report = ROLE_CMD_MIGRATE_CANCEL;
		vm->proposed_ns = 0;
		break;
	}
}

static const struct lease *lease_of(const struct agent *a, const struct role *r)
{
	const struct lease *worst = NULL;

	if (!r->policy.isolated_ok || r->policy.volumes == 0) {
		return &a->node;
	}
	for (uint32_t v = 1; v <= ROLE_VOLUMES_MAX; v++) {
		if ((r->policy.volumes & role_bit(v)) != 0) {
			worst = worst == NULL ? &a->volumes[v - 1]
			                      : lease_worst(worst, &a->volumes[v - 1]);
		}
	}
	return lease_best(&a->node, worst);
}

enum lease_rung agent_rung(const struct agent *a, const struct role_table *table,
                           const struct timing *t, uint32_t role, uint64_t now_ns)
{
	const struct role *r = role_table_role(table, role);

	return r != NULL ? lease_rung(lease_of(a, r), t, now_ns) : LEASE_OVER;
}

bool agent_pettable(const struct agent *a, const struct role_table *table, const struct timing *t,
                    uint64_t now_ns)
{
	for (uint32_t i = 0; i < a->role_max; i++) {
		const struct role *r = role_table_role(table, i + 1);

		if (a->vms[i].state != AGENT_NONE &&
		    (r == NULL || !lease_pettable(lease_of(a, r), t, now_ns))) {
			return false;
		}
	}
	return true;
}

/* One step, as it is written down. */
struct step {
	struct agent *a;
	const struct role_table *table;
	const struct timing *t;
	uint64_t now_ns;
	uint64_t now_ms;
	struct agent_action *out;
	uint32_t count;
};

static struct agent_action *add(struct step *s, enum agent_do what, uint32_t role)
{
	static const struct agent_action none;

	if (s->count == AGENT_ACTIONS_MAX) {
		return NULL;
	}
	s->out[s->count] = none;
	s->out[s->count].what = what;
	s->out[s->count].role = role;
	return &s->out[s->count++];
}

static void propose(struct step *s, const struct role *r, enum role_verb verb, struct role_at at,
                    uint64_t arg)
{
	struct agent_vm *vm = &s->a->vms[r->id - 1];

	if (vm->proposed_ns != 0 && s->now_ns < vm->proposed_ns + AGENT_AGAIN_NS) {
		return;
	}
	struct agent_action *action = add(s, AGENT_PROPOSE, r->id);

	if (action != NULL) {
		vm->proposed_ns = s->now_ns;
		action->cmd = (struct role_cmd){.verb = verb,
		                                .role = r->id,
		                                .epoch = role_table_epoch(s->table),
		                                .now_ms = s->now_ms,
		                                .token = r->token,
		                                .at = at,
		                                .arg = {arg}};
	}
}

static void kill_vm(struct step *s, const struct role *r, struct agent_vm *vm)
{
	if (!vm->killing && add(s, AGENT_VM_KILL, r->id) != NULL) {
		vm->killing = true;
	}
}

/* The VM is here and ours: the lease decides whether it may do anything. */
static void ladder(struct step *s, const struct role *r, struct agent_vm *vm)
{
	enum lease_rung rung = lease_rung(lease_of(s->a, r), s->t, s->now_ns);

	if (rung >= LEASE_KILL) {
		kill_vm(s, r, vm);
	} else if (rung >= LEASE_PAUSE && !vm->paused) {
		vm->paused = add(s, AGENT_VM_PAUSE, r->id) != NULL;
	} else if (rung < LEASE_PAUSE && vm->paused && !vm->sent) {
		vm->paused = add(s, AGENT_VM_RESUME, r->id) == NULL;
	}
}

/* What is under way is the move that the log means now. */
static bool goes_there(const struct role *r, const struct agent_vm *vm)
{
	return vm->dest.node == r->dest.node && vm->dest.inc == r->dest.inc &&
	       vm->dest_since_ms == r->since_ms;
}

static void send_away(struct step *s, const struct role *r, struct agent_vm *vm)
{
	bool elsewhere = vm->sending && !goes_there(r, vm);

	if (elsewhere && vm->report != ROLE_CMD_MIGRATE_CANCEL) {
		/* Cancelled and begun anew between two of our steps. What has stopped for the first
		 * stands still until the log says that it stays. */
		vm->report = ROLE_CMD_MIGRATE_CANCEL;
		vm->proposed_ns = 0;
	}
	if (vm->state == AGENT_RUNNING && !vm->sending && vm->report == 0) {
		struct agent_action *action = add(s, AGENT_VM_SEND, r->id);

		if (action != NULL) {
			action->node = r->dest.node;
			vm->sending = true;
			vm->dest = r->dest;
			vm->dest_since_ms = r->since_ms;
			vm->proposed_ns = 0;
		}
	}
	if (vm->sent && !elsewhere) {
		propose(s, r, ROLE_CMD_SWITCH, r->dest, vm->dest_since_ms);
	} else if (vm->report == ROLE_CMD_MIGRATE_CANCEL) {
		propose(s, r, ROLE_CMD_MIGRATE_CANCEL, (struct role_at){0}, 0);
	}
}

/* A migration came to nothing: the database says that it stays. */
static void keep(struct step *s, const struct role *r, struct agent_vm *vm)
{
	bool stands = vm->sent || vm->paused;

	vm->sending = vm->sent = false;
	vm->report = 0;
	vm->proposed_ns = 0;
	if (stands && lease_rung(lease_of(s->a, r), s->t, s->now_ns) < LEASE_PAUSE) {
		vm->paused = add(s, AGENT_VM_RESUME, r->id) == NULL;
	} else {
		vm->paused = stands;
	}
}

static void here(struct step *s, const struct role *r, struct agent_vm *vm)
{
	if (r->state != ROLE_MIGRATING && (vm->sending || vm->report == ROLE_CMD_MIGRATE_CANCEL)) {
		keep(s, r, vm);
	}
	ladder(s, r, vm);
	if (vm->killing) {
		return;
	}
	if (r->state == ROLE_STARTING && vm->state == AGENT_RUNNING) {
		propose(s, r, ROLE_CMD_STARTED, s->a->self, 0);
	} else if (r->state == ROLE_STOPPING && !vm->stopping) {
		vm->stopping = add(s, AGENT_VM_STOP, r->id) != NULL;
	} else if (r->state == ROLE_MIGRATING) {
		send_away(s, r, vm);
	}
}

/* Ours, but it is not here. */
static void missing(struct step *s, const struct role *r, struct agent_vm *vm)
{
	if (vm->report != 0) {
		propose(s, r, vm->report, s->a->self,
		        vm->report == ROLE_CMD_STOPPED ? vm->stop : 0);
		return;
	}
	if (r->state != ROLE_STARTING) {
		enum role_stop stop = r->state == ROLE_STOPPING ? ROLE_STOP_ASKED : ROLE_STOP_CRASH;

		propose(s, r, ROLE_CMD_STOPPED, s->a->self, stop);
		return;
	}
	if (lease_rung(lease_of(s->a, r), s->t, s->now_ns) != LEASE_OK) {
		return;
	}
	struct agent_action *action = add(s, AGENT_VM_START, r->id);

	if (action != NULL) {
		action->token = r->token;
		action->incoming = r->incoming;
		*vm = (struct agent_vm){.state = AGENT_STARTING, .token = r->token};
	}
}

static void one(struct step *s, const struct role *r)
{
	struct agent_vm *vm = &s->a->vms[r->id - 1];
	bool mine = role_may_run(r, s->a->self);

	if (vm->state != AGENT_NONE && (!mine || vm->token != r->token)) {
		kill_vm(s, r, vm);
		return;
	}
	if (!mine || vm->token != r->token) {
		/* What was to be reported is known. It may be ours again meanwhile, by another
		 * token: an old report must not become one about that. */
		*vm = (struct agent_vm){.token = mine ? r->token : 0};
	}
	if (!mine) {
		return;
	}
	if (vm->state == AGENT_NONE) {
		missing(s, r, vm);
	} else {
		here(s, r, vm);
	}
}

uint32_t agent_step(struct agent *a, const struct role_table *table, const struct timing *t,
                    uint64_t now_ns, uint64_t now_ms, struct agent_action *out)
{
	const struct role_node *n = role_table_node(table, a->self.node);
	struct step s = {
		.a = a, .table = table, .t = t, .now_ns = now_ns, .now_ms = now_ms, .out = out};

	if (a->self.inc == 0) {
		return 0;
	}
	if (a->doomed || n->inc > a->self.inc || n->state == ROLE_NODE_FENCING ||
	    n->state == ROLE_NODE_DOWN) {
		(void)add(&s, AGENT_RESET, 0);
		return s.count;
	}
	for (const struct role *r = role_table_next(table, 0); r != NULL && r->id <= a->role_max;
	     r = role_table_next(table, r->id)) {
		one(&s, r);
	}
	return s.count;
}
