/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/lead/whatif.h"

#include "base/text.h"
#include "cluster/lead/lead_int.h"
#include "cluster/timing/timing.h"

#define NS_PER_MS 1000000ull

static bool touched(const struct role *r, const struct whatif_ask *ask)
{
	return (ask->dead & role_bit(r->owner.node)) != 0 ||
	       (ask->drain != 0 && r->owner.node == ask->drain);
}

/* What the state machine makes of it when its node is proven stopped. */
static enum whatif_fate after_proof(const struct role *r, uint64_t now_ms, uint64_t *held_ms)
{
	struct role then;

	role_if_proven(r, now_ms, &then);
	*held_ms = then.until_ms > now_ms ? then.until_ms - now_ms : 0;
	if (then.state == ROLE_FAILED) {
		return WHATIF_GIVEN_UP;
	}
	return then.state == ROLE_OFFLINE ? WHATIF_OFF : WHATIF_STARTS;
}

void whatif_run(struct lead *l, const struct lead_view *view, const struct whatif_ask *ask,
                uint64_t now_ms, struct whatif *out)
{
	uint64_t held_ms;

	lead_input(l, view, now_ms, &out->in);
	for (uint32_t v = 0; v < out->in.vm_count; v++) {
		const struct role *r = role_table_role(view->table, l->place_vms[v].id);

		/* What is not started again takes no room from those that are. */
		if (touched(r, ask) && ask->dead != 0 &&
		    after_proof(r, now_ms, &held_ms) != WHATIF_STARTS) {
			l->place_vms[v].policy.priority = ROLE_PRIORITY_NONE;
		}
	}
	out->choices = l->choices;
	if (ask->drain != 0) {
		place_drain(&out->in, ask->drain, l->work, l->choices, &out->sum);
	} else {
		place_failover(&out->in, ask->dead, l->work, l->choices, &out->sum);
	}
}

static enum whatif_fate drained(const struct place_choice *c)
{
	switch (c->how) {
	case PLACE_LIVE:
		return WHATIF_MOVES;
	case PLACE_QUICK:
		return WHATIF_QUICK;
	case PLACE_SHUTDOWN:
		return WHATIF_SHUT_DOWN;
	case PLACE_STAY:
	case PLACE_START:
	case PLACE_BLOCKED:
		break;
	}
	return WHATIF_BLOCKED;
}

void whatif_vm(const struct whatif *w, const struct lead_view *view, const struct whatif_ask *ask,
               uint32_t index, struct whatif_vm *out)
{
	const struct place_choice *c = &w->choices[index];
	const struct role *r = role_table_role(view->table, w->in.vms[index].id);
	struct whatif_node node;

	*out = (struct whatif_vm){.role = r, .fate = WHATIF_UNTOUCHED};
	if (!touched(r, ask)) {
		return;
	}
	if (ask->drain != 0) {
		out->fate = drained(c);
	} else {
		out->fate = after_proof(r, w->in.now_ms, &out->held_ms);
		whatif_node(view, r->owner.node, &node);
		if (r->policy.patient && out->held_ms < r->policy.resiliency_ms) {
			out->held_ms = r->policy.resiliency_ms;
		}
		if (out->fate == WHATIF_STARTS && c->node == 0) {
			out->fate = WHATIF_NOWHERE;
		} else if (out->fate == WHATIF_STARTS &&
		           (!ask->majority || node.proof == ROLE_PROOF_NONE)) {
			out->fate = WHATIF_WAITS;
		}
	}
	if (out->fate != WHATIF_OFF && out->fate != WHATIF_GIVEN_UP) {
		out->to = c->node;
		out->wave = c->wave;
	}
}

void whatif_vm_text(const struct whatif *w, const struct whatif_vm *vm, uint32_t index, char *buf,
                    size_t size)
{
	struct text t;

	text_init(&t, buf, size);
	switch (vm->fate) {
	case WHATIF_OFF:
		text_add(&t, vm->role->want == ROLE_WANT_OFFLINE
		                     ? "nobody wants it online"
		                     : "its priority is none: it is not started by itself");
		return;
	case WHATIF_GIVEN_UP:
		text_add(&t,
		         "it has failed over %u times within %u s: it stays off until a person "
		         "starts it",
		         vm->role->policy.failover_max, vm->role->policy.failover_window_s);
		return;
	case WHATIF_UNTOUCHED:
		text_add(&t, "it goes on");
		return;
	case WHATIF_STARTS:
	case WHATIF_NOWHERE:
	case WHATIF_WAITS:
	case WHATIF_MOVES:
	case WHATIF_QUICK:
	case WHATIF_SHUT_DOWN:
	case WHATIF_BLOCKED:
	case WHATIF_FATE_COUNT:
		place_explain(&w->in, w->choices, index, buf, size);
		return;
	}
}

static bool has_device(const struct lead_view *view, uint32_t node)
{
	for (uint32_t level = 0; level < FENCE_LEVELS_MAX; level++) {
		if (view->devices[node - 1][level] > 0) {
			return true;
		}
	}
	return false;
}

void whatif_node(const struct lead_view *view, uint32_t node, struct whatif_node *out)
{
	const struct role_node *n = role_table_node(view->table, node);
	const struct timing *t = view->timing;
	uint64_t install_ns = t->cfg.install_ms * NS_PER_MS;
	/* Its last renewal was seen up to one interval before it died. */
	uint64_t lease_min = t->quiet_ns - (t->renew_ns < t->quiet_ns ? t->renew_ns : 0);
	uint64_t lease_max = t->quiet_ns;

	*out = (struct whatif_node){
		.detect_min_ns = t->detect_min_ns,
		.detect_max_ns = t->detect_max_ns + install_ns,
		.proof = ROLE_PROOF_NONE,
	};
	/* The proof comes after the loss in any case. */
	lease_min = lease_min > out->detect_min_ns ? lease_min : out->detect_min_ns;
	lease_max = lease_max > out->detect_max_ns ? lease_max : out->detect_max_ns;
	if (has_device(view, node)) {
		out->proof = ROLE_PROOF_POWER;
		out->proof_min_ns = out->detect_min_ns + t->cfg.inflight_ms * NS_PER_MS;
		out->proof_max_ns = n->lease_proof
		                            ? lease_max
		                            : out->detect_max_ns + t->cfg.inflight_ms * NS_PER_MS;
	} else if (n->lease_proof) {
		out->proof = ROLE_PROOF_LEASE;
		out->proof_min_ns = lease_min;
		out->proof_max_ns = lease_max;
	}
}

const char *whatif_fate_name(enum whatif_fate fate)
{
	static const char *const names[WHATIF_FATE_COUNT] = {
		[WHATIF_UNTOUCHED] = "untouched", [WHATIF_STARTS] = "starts",
		[WHATIF_NOWHERE] = "nowhere",     [WHATIF_OFF] = "off",
		[WHATIF_GIVEN_UP] = "given-up",   [WHATIF_WAITS] = "waits",
		[WHATIF_MOVES] = "moves",         [WHATIF_QUICK] = "moves-quickly",
		[WHATIF_SHUT_DOWN] = "shut-down", [WHATIF_BLOCKED] = "blocked",
	};

	return (uint32_t)fate < WHATIF_FATE_COUNT ? names[fate] : "?";
}
