/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/cluster/csim.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/text.h"
#include "tests/sim/cluster/csim_int.h"

uint64_t csim_random(struct csim *s, uint64_t below)
{
	s->rng ^= s->rng << 13;
	s->rng ^= s->rng >> 7;
	s->rng ^= s->rng << 17;
	return (s->rng >> 11) % below;
}

uint64_t csim_between(struct csim *s, uint64_t low_ns, uint64_t high_ns)
{
	return low_ns + csim_random(s, high_ns - low_ns + 1);
}

struct csim_node *csim_node(struct csim *s, uint32_t id)
{
	return &s->nodes[id - 1];
}

uint64_t csim_local(const struct csim *s, uint32_t node)
{
	const struct csim_node *n = &s->nodes[node - 1];

	return n->offset_ns + (uint64_t)((double)s->now_ns * n->rate);
}

bool csim_hears(const struct csim *s, uint32_t a, uint32_t b)
{
	const struct csim_node *x = &s->nodes[a - 1];
	const struct csim_node *y = &s->nodes[b - 1];

	return x->alive && y->alive && !x->frozen && !y->frozen && !x->deaf && !y->deaf &&
	       x->net == y->net;
}

void csim_say(struct csim *s, const char *fmt, ...)
{
	va_list ap;

	if (s->cfg.log == NULL) {
		return;
	}
	(void)fprintf(s->cfg.log, "%7.1f  ", (double)s->now_ns / 1e9);
	va_start(ap, fmt);
	(void)vfprintf(s->cfg.log, fmt, ap);
	va_end(ap);
	(void)fputc('\n', s->cfg.log);
}

void csim_break(struct csim *s, const char *oracle, const char *fmt, ...)
{
	struct text text;
	va_list ap;

	if (s->broken != NULL) {
		return;
	}
	s->broken = oracle;
	text_init(&text, s->broken_text, sizeof(s->broken_text));
	text_add(&text, "seed %llu at %.3f s: %s: ", (unsigned long long)s->cfg.seed,
	         (double)s->now_ns / 1e9, oracle);
	va_start(ap, fmt);
	text_addv(&text, fmt, ap);
	va_end(ap);
}

/* ---- events: a heap by time, then by the order in which they were made ---- */

static bool before(const struct csim_event *a, const struct csim_event *b)
{
	return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->order < b->order;
}

static void swap(struct csim_event *a, struct csim_event *b)
{
	struct csim_event t = *a;

	*a = *b;
	*b = t;
}

struct csim_event *csim_at(enum csim_what what, uint32_t node, struct csim *s, uint64_t delay_ns)
{
	uint32_t i = s->event_count++;

	CHECK(s->event_count <= CSIM_EVENTS);
	memset(&s->events[i], 0, sizeof(s->events[i]));
	s->events[i].at_ns = s->now_ns + delay_ns;
	s->events[i].order = s->order++;
	s->events[i].what = what;
	s->events[i].node = node;
	s->events[i].boot = node != 0 ? csim_node(s, node)->boot : 0;
	while (i > 0 && before(&s->events[i], &s->events[(i - 1) / 2])) {
		swap(&s->events[i], &s->events[(i - 1) / 2]);
		i = (i - 1) / 2;
	}
	return &s->events[i];
}

static struct csim_event take(struct csim *s)
{
	struct csim_event first = s->events[0];
	uint32_t i = 0;

	s->events[0] = s->events[--s->event_count];
	for (;;) {
		uint32_t least = i;

		for (uint32_t c = 2 * i + 1; c <= 2 * i + 2 && c < s->event_count; c++) {
			least = before(&s->events[c], &s->events[least]) ? c : least;
		}
		if (least == i) {
			return first;
		}
		swap(&s->events[i], &s->events[least]);
		i = least;
	}
}

/* What user space does waits while it stands still; the rest is hardware or somebody else. */
static bool waits(struct csim *s, const struct csim_event *e)
{
	const struct csim_node *n = e->node != 0 ? csim_node(s, e->node) : NULL;

	if (n == NULL || e->what == CSIM_DOG || e->what == CSIM_BOOT || e->what == CSIM_COMMIT) {
		return false;
	}
	return n->frozen || (n->stalled && e->what != CSIM_WRITE && e->what != CSIM_VIEW);
}

void csim_dispatch(struct csim *s, const struct csim_event *e)
{
	struct csim_node *n = e->node != 0 ? csim_node(s, e->node) : NULL;

	if (n != NULL && (n->boot != e->boot || (!n->alive && e->what != CSIM_BOOT))) {
		return; /* of a machine that is no more */
	}
	if (waits(s, e)) {
		struct csim_event *again =
			csim_at((enum csim_what)e->what, e->node, s, 100 * CSIM_MS);
		uint64_t at = again->at_ns;
		uint64_t order = again->order;

		*again = *e;
		again->at_ns = at;
		again->order = order;
		return;
	}
	switch ((enum csim_what)e->what) {
	case CSIM_TICK:
		csim_tick(s, e->node);
		break;
	case CSIM_VIEW:
		csim_view(s, e->node);
		break;
	case CSIM_COMMIT:
		csim_commit(s, e);
		break;
	case CSIM_APPLY:
		csim_apply(s, e->node, e->a);
		break;
	case CSIM_BOOT:
		csim_boot(s, e->node);
		break;
	case CSIM_DOG:
		if (n != NULL && n->pet_ns == e->b) {
			csim_stop_node(s, e->node, false, "is reset by its watchdog");
		}
		break;
	case CSIM_STARTED:
		csim_started(s, e);
		break;
	case CSIM_EXITED:
		csim_exited(s, e->node, e->a);
		break;
	case CSIM_SENT:
		csim_sent(s, e);
		break;
	case CSIM_SLOT:
		csim_slot(s, e);
		break;
	case CSIM_READ:
		csim_read_slots(s, e->node);
		break;
	case CSIM_RAISE:
		csim_raise(s, e);
		break;
	case CSIM_FENCE:
		csim_fence(s, e);
		break;
	case CSIM_WRITE:
		csim_write_all(s, e->node);
		break;
	case CSIM_REDIRECT:
		csim_redirect(s, e->a);
		break;
	case CSIM_DISK:
		csim_disk(s, e->a);
		break;
	}
}

void csim_run(struct csim *s, uint64_t until_ns)
{
	while (s->broken == NULL && s->event_count > 0 && s->events[0].at_ns <= until_ns) {
		struct csim_event e = take(s);

		s->now_ns = e.at_ns;
		s->events_done++;
		csim_dispatch(s, &e);
		csim_look_twice(s);
	}
	if (s->broken == NULL) {
		s->now_ns = until_ns;
	}
}

/* ---- making one ---- */

static void make_roles(struct csim *s, struct role_table *t)
{
	CHECK(role_table_view(t, 1) == 0);
	for (uint32_t id = 1; id <= s->cfg.roles; id++) {
		struct role_policy p;
		char name[16];

		role_policy_default(&p);
		p.restart_max = ROLE_TIMES_MAX;
		p.restart_window_s = 60;
		p.failover_max = ROLE_TIMES_MAX;
		p.failover_window_s = 60;
		p.priority = (enum role_priority)(1 + id % 3);
		p.volumes = 1 + id % ((1u << s->cfg.volumes) - 1);
		p.preferred[0] = 1 + (id - 1) % s->cfg.nodes;
		p.strict = s->cfg.strict;
		p.isolated_ok = s->cfg.isolated_ok;
		p.resiliency_ms = s->cfg.resiliency_ms;
		p.patient = p.resiliency_ms != 0 && id % 2 == 0;
		if (s->cfg.policies != NULL) {
			p = s->cfg.policies[id - 1];
		}
		(void)snprintf(name, sizeof(name), "vm%u", id);
		CHECK(role_table_add(t, id, name, &p, 0, NULL) == 0);
	}
}

static void make_node(struct csim *s, uint32_t id)
{
	struct csim_node *n = csim_node(s, id);
	int64_t ppm = (int64_t)csim_random(s, 2001) - 1000;

	n->rate = 1.0 + (double)ppm / 1e6;
	n->offset_ns = csim_random(s, 1000) * CSIM_S;
	n->watchdog = s->cfg.watchdogs;
	n->paths = (1u << s->cfg.volumes) - 1;
	CHECK(lead_create(CSIM_ROLES, &n->lead) == 0);
	csim_at(CSIM_BOOT, id, s, 0);
}

struct csim *csim_create(const struct csim_cfg *cfg)
{
	struct csim *s = calloc(1, sizeof(*s));
	struct timing_cfg timing;

	CHECK(s != NULL);
	s->cfg = *cfg;
	s->rng = cfg->seed * 0x9e3779b97f4a7c15ull + 0x2545f4914f6cdd1dull;
	s->events = calloc(CSIM_EVENTS, sizeof(*s->events));
	s->entries = calloc(CSIM_LOG_MAX, sizeof(*s->entries));
	CHECK(s->events != NULL && s->entries != NULL);
	timing_default(&timing);
	CHECK(timing_init(&timing, &s->timing, NULL) == 0);
	s->watch = s->timing;
	if (cfg->mutation == CSIM_MUTATE_EARLY) {
		s->watch.cfg.lease_ms /= 2;
	}
	if (cfg->mutation == CSIM_MUTATE_INFLIGHT) {
		s->watch.cfg.inflight_ms = 0;
	}
	CHECK(role_table_create(&s->truth) == 0);
	make_roles(s, s->truth);
	s->epoch = 1;
	for (uint32_t v = 0; v < cfg->volumes; v++) {
		s->volumes[v].reserves = cfg->reserves && (cfg->plain & role_bit(v + 1)) == 0;
		s->volumes[v].aborts = cfg->aborts;
	}
	for (uint32_t id = 1; id <= cfg->nodes; id++) {
		make_node(s, id);
	}
	for (uint32_t id = 1; id <= cfg->roles && !cfg->idle; id++) {
		csim_propose(s, (struct role_cmd){.verb = ROLE_CMD_WANT,
		                                  .role = id,
		                                  .arg = {ROLE_WANT_ONLINE}});
	}
	return s;
}

void csim_destroy(struct csim *s)
{
	for (uint32_t i = 0; i < CSIM_NODES; i++) {
		role_table_destroy(s->nodes[i].table);
		agent_destroy(s->nodes[i].agent);
		lead_destroy(s->nodes[i].lead);
	}
	role_table_destroy(s->truth);
	free(s->events);
	free(s->entries);
	free(s);
}

/* csim_boot() needs a table as it is before the log. */
void csim_boot(struct csim *s, uint32_t node)
{
	struct csim_node *n = csim_node(s, node);

	if (n->off || n->alive) {
		return;
	}
	role_table_destroy(n->table);
	agent_destroy(n->agent);
	CHECK(role_table_create(&n->table) == 0 && agent_create(node, CSIM_ROLES, &n->agent) == 0);
	make_roles(s, n->table);
	n->alive = true;
	n->frozen = n->stalled = n->deaf = n->stuck = false;
	n->lag_ns = 0;
	n->applied = 0;
	n->epoch = 0;
	n->joining_ns = 0;
	n->pet_ns = 0;
	memset(n->running, 0, sizeof(n->running));
	memset(n->paused, 0, sizeof(n->paused));
	csim_say(s, "n%u boots", node);
	csim_at(CSIM_TICK, node, s, csim_random(s, 100 * CSIM_MS));
	csim_at(CSIM_WRITE, node, s, csim_random(s, 250 * CSIM_MS));
	csim_at(CSIM_READ, node, s, csim_random(s, 500 * CSIM_MS));
	csim_ring_changed(s);
}

bool csim_settled(const struct csim *s)
{
	for (uint32_t id = 1; id <= s->cfg.roles; id++) {
		const struct role *r = role_table_role(s->truth, id);
		uint32_t runs = 0;

		for (uint32_t node = 1; node <= s->cfg.nodes; node++) {
			runs += csim_runs(s, node, id);
		}
		if (r->want == ROLE_WANT_ONLINE &&
		    (r->state != ROLE_ONLINE || runs != 1 || !csim_runs(s, r->owner.node, id))) {
			return false;
		}
		if (r->want == ROLE_WANT_OFFLINE && (r->state != ROLE_OFFLINE || runs != 0)) {
			return false;
		}
	}
	return true;
}

/* ---- faults ---- */

void csim_stop_node(struct csim *s, uint32_t node, bool stays_off, const char *why)
{
	struct csim_node *n = csim_node(s, node);

	n->off = n->off || stays_off;
	if (!n->alive) {
		return;
	}
	csim_say(s, "n%u %s", node, why);
	n->alive = false;
	n->boot++;
	n->epoch = 0;
	if (!n->off) {
		csim_at(CSIM_BOOT, node, s, csim_between(s, 4 * CSIM_S, 12 * CSIM_S));
	}
	csim_ring_changed(s);
}

void csim_crash(struct csim *s, uint32_t node)
{
	csim_stop_node(s, node, false, "crashes");
}

void csim_off(struct csim *s, uint32_t node)
{
	csim_stop_node(s, node, true, "loses power");
}

void csim_on(struct csim *s, uint32_t node)
{
	if (csim_node(s, node)->off) {
		csim_node(s, node)->off = false;
		csim_at(CSIM_BOOT, node, s, csim_between(s, 4 * CSIM_S, 12 * CSIM_S));
	}
}

void csim_freeze(struct csim *s, uint32_t node, bool frozen)
{
	if (csim_node(s, node)->alive && csim_node(s, node)->frozen != frozen) {
		csim_say(s, "n%u %s", node, frozen ? "freezes" : "goes on");
		csim_node(s, node)->frozen = frozen;
		csim_ring_changed(s);
	}
}

void csim_stall(struct csim *s, uint32_t node, bool stalled)
{
	if (csim_node(s, node)->alive && csim_node(s, node)->stalled != stalled) {
		csim_say(s, "n%u's user space %s", node, stalled ? "stands still" : "goes on");
		csim_node(s, node)->stalled = stalled;
	}
}

void csim_deafen(struct csim *s, uint32_t node, bool deaf)
{
	if (csim_node(s, node)->alive && csim_node(s, node)->deaf != deaf) {
		csim_say(s, "n%u's corosync %s", node, deaf ? "stands still" : "goes on");
		csim_node(s, node)->deaf = deaf;
		csim_ring_changed(s);
	}
}

void csim_stick(struct csim *s, uint32_t node, bool stuck)
{
	struct csim_node *n = csim_node(s, node);

	if (!n->alive || n->stuck == stuck) {
		return;
	}
	csim_say(s, "n%u's workers %s", node, stuck ? "hang" : "react again");
	n->stuck = stuck;
	for (uint32_t role = 1; !stuck && role <= s->cfg.roles; role++) {
		n->paused[role - 1] = n->paused[role - 1] || n->agent->vms[role - 1].paused;
		if (n->agent->vms[role - 1].killing) {
			csim_at(CSIM_EXITED, node, s, CSIM_MS)->a = role;
		}
	}
}

void csim_lag(struct csim *s, uint32_t node, uint64_t lag_ns)
{
	struct csim_node *n = csim_node(s, node);

	if (n->alive && n->lag_ns != lag_ns) {
		csim_say(s, "n%u learns %s", node, lag_ns > 0 ? "late" : "in time again");
		n->lag_ns = lag_ns;
	}
}

void csim_net(struct csim *s, uint32_t node, uint32_t net)
{
	if (csim_node(s, node)->net != net) {
		csim_say(s, "n%u is %s", node, net != 0 ? "cut off" : "connected again");
		csim_node(s, node)->net = net;
		csim_ring_changed(s);
	}
}

void csim_path(struct csim *s, uint32_t node, uint32_t volume, bool there)
{
	struct csim_node *n = csim_node(s, node);

	if (((n->paths & role_bit(volume)) != 0) != there) {
		csim_say(s, "n%u %s volume %u", node, there ? "reaches again" : "loses its path to",
		         volume);
		n->paths ^= role_bit(volume);
	}
}

void csim_kill_vm(struct csim *s, uint32_t role)
{
	for (uint32_t node = 1; node <= s->cfg.nodes; node++) {
		if (csim_runs(s, node, role)) {
			csim_say(s, "vm%u's worker on n%u crashes", role, node);
			csim_node(s, node)->running[role - 1] = false;
			csim_at(CSIM_EXITED, node, s, 5 * CSIM_MS)->a = role;
		}
	}
}

void csim_heal(struct csim *s)
{
	csim_say(s, "all faults end");
	for (uint32_t node = 1; node <= s->cfg.nodes; node++) {
		csim_on(s, node);
		csim_freeze(s, node, false);
		csim_stall(s, node, false);
		csim_deafen(s, node, false);
		csim_stick(s, node, false);
		csim_lag(s, node, 0);
		csim_net(s, node, 0);
		for (uint32_t v = 1; v <= s->cfg.volumes; v++) {
			csim_path(s, node, v, true);
		}
	}
}
