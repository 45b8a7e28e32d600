/* SPDX-License-Identifier: Apache-2.0 */

/* What VMs write, how it gets to the disks, and the two oracles about it. */
#include "tests/sim/cluster/csim_int.h"

static struct csim_write *new_write(struct csim *s, uint32_t *index)
{
	for (uint32_t i = 0; i < CSIM_WRITES; i++) {
		if (!s->writes[i].used) {
			*index = i;
			return &s->writes[i];
		}
	}
	return NULL; /* as many as there can be: the VM waits */
}

static uint64_t disk_delay(struct csim *s)
{
	uint64_t most = s->timing.cfg.inflight_ms * CSIM_MS;

	if (s->cfg.slow_io && csim_random(s, 4) == 0) {
		return most - most / 50;
	}
	return csim_between(s, CSIM_MS / 10, 20 * CSIM_MS);
}

/* The target port of the node @by takes it, or refuses. */
static bool accept(struct csim *s, uint32_t index, uint32_t by)
{
	struct csim_write *w = &s->writes[index];
	const struct csim_volume *v = &s->volumes[w->volume - 1];

	if (v->reserves && (v->keys & role_bit(by)) == 0) {
		w->used = false;
		return false;
	}
	w->by = by;
	csim_at(CSIM_DISK, 0, s, disk_delay(s))->a = index;
	return true;
}

/* Through some other node that it can reach and that reaches the volume. */
static void send_redirected(struct csim *s, uint32_t index)
{
	struct csim_write *w = &s->writes[index];
	uint32_t begin = (uint32_t)csim_random(s, s->cfg.nodes);

	for (uint32_t i = 0; i < s->cfg.nodes; i++) {
		uint32_t id = 1 + (begin + i) % s->cfg.nodes;
		const struct csim_node *n = csim_node(s, id);

		if (id != w->from && n->alive && (n->paths & role_bit(w->volume)) != 0 &&
		    n->net == csim_node(s, w->from)->net) {
			bool slow = s->cfg.slow_io && csim_random(s, 4) == 0;

			w->by = id;
			csim_at(CSIM_REDIRECT, 0, s,
			        slow ? csim_between(s, CSIM_S, 20 * CSIM_S)
			             : csim_between(s, CSIM_MS, 20 * CSIM_MS))
				->a = index;
			return;
		}
	}
	w->used = false;
}

static void write_one(struct csim *s, uint32_t node, uint32_t role, uint32_t volume)
{
	struct csim_node *n = csim_node(s, node);
	uint32_t index;
	struct csim_write *w = new_write(s, &index);

	if (w == NULL) {
		return;
	}
	*w = (struct csim_write){.used = true,
	                         .role = role,
	                         .volume = volume,
	                         .from = node,
	                         .token = n->token[role - 1]};
	if ((n->paths & role_bit(volume)) == 0) {
		send_redirected(s, index);
		return;
	}
	if (!accept(s, index, node)) {
		/* A reservation conflict: the VM stands still, and its node is fenced. */
		csim_say(s, "n%u: vm%u meets a reservation conflict", node, role);
		n->paused[role - 1] = true;
		agent_doom(n->agent);
	}
}

void csim_write_all(struct csim *s, uint32_t node)
{
	csim_at(CSIM_WRITE, node, s, csim_between(s, 200 * CSIM_MS, 300 * CSIM_MS));
	for (uint32_t role = 1; role <= s->cfg.roles; role++) {
		uint64_t volumes = role_table_role(s->truth, role)->policy.volumes;

		for (uint32_t v = 1; v <= s->cfg.volumes && csim_runs(s, node, role); v++) {
			if ((volumes & role_bit(v)) != 0) {
				write_one(s, node, role, v);
			}
		}
	}
}

void csim_redirect(struct csim *s, uint32_t index)
{
	struct csim_write *w = &s->writes[index];
	const struct csim_node *n = csim_node(s, w->by);
	bool stale = w->token < s->volumes[w->volume - 1].known[w->role - 1];

	if (!n->alive || (n->paths & role_bit(w->volume)) == 0 ||
	    (stale && s->cfg.mutation != CSIM_MUTATE_NOCHECK)) {
		w->used = false;
		return;
	}
	w->redirected = true;
	(void)accept(s, index, w->by);
}

bool csim_older_redirected(const struct csim *s, const struct lead_raise *raise)
{
	for (uint32_t i = 0; i < CSIM_WRITES; i++) {
		const struct csim_write *w = &s->writes[i];

		if (w->used && w->redirected && w->volume == raise->volume &&
		    w->role == raise->role && w->token < raise->token) {
			return true;
		}
	}
	return false;
}

bool csim_own_writes(const struct csim *s, uint32_t node, uint32_t role)
{
	for (uint32_t i = 0; i < CSIM_WRITES; i++) {
		const struct csim_write *w = &s->writes[i];

		if (w->used && w->by == node && w->from == node && w->role == role) {
			return true;
		}
	}
	return false;
}

void csim_abort(struct csim *s, uint32_t volume, uint32_t node)
{
	for (uint32_t i = 0; i < CSIM_WRITES; i++) {
		struct csim_write *w = &s->writes[i];

		if (w->used && w->volume == volume && w->by == node && !w->redirected) {
			w->token = 0; /* its completion will find that it was aborted */
		}
	}
}

void csim_disk(struct csim *s, uint32_t index)
{
	struct csim_write *w = &s->writes[index];
	uint64_t *newest = &s->volumes[w->volume - 1].written[w->role - 1];

	w->used = false;
	if (w->token == 0) {
		return;
	}
	if (w->token < *newest) {
		csim_break(s, "stale write",
		           "vm%u from n%u with token %llu after %llu on volume %u", w->role,
		           w->from, (unsigned long long)w->token, (unsigned long long)*newest,
		           w->volume);
	}
	*newest = w->token > *newest ? w->token : *newest;
}

bool csim_runs(const struct csim *s, uint32_t node, uint32_t role)
{
	const struct csim_node *n = &s->nodes[node - 1];

	return n->alive && !n->frozen && n->running[role - 1] && !n->paused[role - 1];
}

/*
 * A VM computes on two nodes: never, with one exception. Storage may have fenced one of them, so
 * that it writes no more but does not know it yet; then it must end with its lease.
 */
void csim_look_twice(struct csim *s)
{
	for (uint32_t role = 1; role <= s->cfg.roles; role++) {
		const struct role *r = role_table_role(s->truth, role);
		uint64_t where = 0;
		uint32_t runs = 0;

		for (uint32_t node = 1; node <= s->cfg.nodes; node++) {
			if (csim_runs(s, node, role)) {
				where |= role_bit(node);
				runs++;
			}
		}
		if (runs < 2) {
			s->overlap_ns[role - 1] = 0;
			continue;
		}
		for (uint32_t node = 1; node <= s->cfg.nodes; node++) {
			const struct role_node *n = role_table_node(s->truth, node);
			bool fenced = (r->policy.volumes & ~n->proof_volumes) == 0 &&
			              !r->policy.strict && (s->cfg.local & role_bit(role)) == 0;

			if ((where & role_bit(node)) != 0 && r->owner.node != node && !fenced) {
				csim_break(s, "double run", "vm%u on n%u, owned by n%u", role, node,
				           r->owner.node);
			}
		}
		if (s->overlap_ns[role - 1] == 0) {
			s->overlap_ns[role - 1] = s->now_ns;
		}
		uint64_t span = s->now_ns - s->overlap_ns[role - 1];

		s->overlap_max_ns = span > s->overlap_max_ns ? span : s->overlap_max_ns;
		/* Hanging workers and no watchdog: nothing ends it. They write nothing. */
		if (s->cfg.watchdogs && span > s->timing.quiet_ns) {
			csim_break(s, "double run", "vm%u is heard twice for too long", role);
		}
	}
}
