/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/role/role_save.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/errbuf.h"
#include "base/fault.h"
#include "cluster/role/role_int.h"
#include "cluster/role/role_wire.h"

static const uint8_t magic[3] = {'g', 'r', 'l'};

static struct role_key_wire key_of(uint8_t kind, uint32_t id)
{
	struct role_key_wire key = {.kind = kind, .id = be32_make(id)};

	memcpy(key.magic, magic, sizeof(magic));
	return key;
}

/* ---- out ---- */

static void save_times(const struct role_times *times, struct role_times_wire *w)
{
	for (uint32_t i = 0; i < ROLE_TIMES_MAX; i++) {
		w->at_ms[i] = le64_make(times->at_ms[i]);
	}
	w->count = le32_make(times->count);
}

static void save_policy(const struct role_policy *p, struct role_policy_wire *w)
{
	*w = (struct role_policy_wire){
		.priority = (uint8_t)p->priority,
		.fallback = (uint8_t)p->fallback,
		.flags = (uint8_t)(p->isolated_ok | p->strict << 1 | p->patient << 2),
		.cpus = le32_make(p->cpus),
		.possible = le64_make(p->possible),
		.volumes = le64_make(p->volumes),
		.memory_bytes = le64_make(p->memory_bytes),
		.restart_max = le32_make(p->restart_max),
		.restart_window_s = le32_make(p->restart_window_s),
		.failover_max = le32_make(p->failover_max),
		.failover_window_s = le32_make(p->failover_window_s),
		.resiliency_ms = le32_make(p->resiliency_ms),
	};
	for (uint32_t i = 0; i < ROLE_PREFERRED_MAX; i++) {
		w->preferred[i] = le32_make(p->preferred[i]);
	}
	for (uint32_t i = 0; i < ROLE_GROUPS_MAX; i++) {
		w->groups[i] = le32_make(p->groups[i]);
		w->after[i] = le32_make(p->after[i]);
	}
}

static void save_role(const struct role *r, struct role_role_wire *w)
{
	*w = (struct role_role_wire){
		.version = le32_make(ROLE_PAIR_VERSION),
		.state = (uint8_t)r->state,
		.before = (uint8_t)r->before,
		.want = (uint8_t)r->want,
		.why = (uint8_t)r->why,
		.flags = (uint8_t)(r->frozen | r->incoming << 1),
		.owner_node = le32_make(r->owner.node),
		.owner_inc = le64_make(r->owner.inc),
		.dest_node = le32_make(r->dest.node),
		.dest_inc = le64_make(r->dest.inc),
		.in_place = le32_make(r->in_place),
		.token = le64_make(r->token),
		.acked = le64_make(r->acked),
		.since_ms = le64_make(r->since_ms),
		.until_ms = le64_make(r->until_ms),
		.tried = le64_make(r->tried),
	};
	memcpy(w->name, r->name, strlen(r->name));
	save_policy(&r->policy, &w->policy);
	save_times(&r->restarts, &w->restarts);
	save_times(&r->failovers, &w->failovers);
}

static void save_node(const struct role_node *n, struct role_node_wire *w)
{
	*w = (struct role_node_wire){
		.version = le32_make(ROLE_PAIR_VERSION),
		.state = (uint8_t)n->state,
		.drain = (uint8_t)n->drain,
		.proof = (uint8_t)n->proof,
		.flags = (uint8_t)(n->slots_alive | n->lease_proof << 1),
		.inc = le64_make(n->inc),
		.proof_volumes = le64_make(n->proof_volumes),
		.since_ms = le64_make(n->since_ms),
		.quarantine_until_ms = le64_make(n->quarantine_until_ms),
		.renew_seq = le64_make(n->renew_seq),
		.lease_ms = le32_make(n->lease_ms),
		.cpus = le32_make(n->cpus),
		.paths = le64_make(n->paths),
		.memory_bytes = le64_make(n->memory_bytes),
	};
	for (uint32_t i = 0; i < ROLE_EXITS_MAX; i++) {
		w->exits_ms[i] = le64_make(n->exits_ms[i]);
	}
}

static void flush_roles(struct role_table *t, role_pair_fn fn, void *arg)
{
	uint32_t from = t->dirty_all ? 1 : t->dirty_role;
	uint32_t to = t->dirty_all ? t->size : t->dirty_role;

	for (uint32_t id = from; id >= 1 && id <= to && id <= t->size; id++) {
		struct role_key_wire key = key_of('r', id);
		struct role_role_wire w;

		if (t->roles[id - 1] != NULL && t->roles[id - 1]->dirty) {
			save_role(t->roles[id - 1], &w);
			fn(arg, &key, &w, sizeof(w));
			t->roles[id - 1]->dirty = false;
		}
	}
}

void role_table_flush(struct role_table *t, role_pair_fn fn, void *arg)
{
	for (uint32_t id = 1; id <= ROLE_NODES_MAX && t->dirty_nodes != 0; id++) {
		struct role_key_wire key = key_of('n', id);
		struct role_node_wire w;

		if ((t->dirty_nodes & role_bit(id)) != 0) {
			save_node(&t->nodes[id - 1], &w);
			fn(arg, &key, &w, sizeof(w));
		}
	}
	for (uint32_t i = 0; i < t->gone_count; i++) {
		struct role_key_wire key = key_of('r', t->gone[i]);

		if (role_table_role(t, t->gone[i]) == NULL) {
			fn(arg, &key, NULL, 0);
		}
	}
	flush_roles(t, fn, arg);
	if (t->dirty) {
		struct role_key_wire key = key_of('t', 0);
		struct role_table_wire w = {.version = le32_make(ROLE_PAIR_VERSION),
		                            .epoch = le64_make(t->epoch),
		                            .now_ms = le64_make(t->now_ms)};

		fn(arg, &key, &w, sizeof(w));
	}
	t->dirty = t->dirty_all = false;
	t->dirty_role = t->gone_count = 0;
	t->dirty_nodes = 0;
}

void role_table_touch_all(struct role_table *t)
{
	t->dirty = t->dirty_all = true;
	for (uint32_t i = 0; i < t->size; i++) {
		if (t->roles[i] != NULL) {
			t->roles[i]->dirty = true;
		}
	}
	for (uint32_t id = 1; id <= ROLE_NODES_MAX; id++) {
		if (t->nodes[id - 1].state != ROLE_NODE_ABSENT) {
			t->dirty_nodes |= role_bit(id);
		}
	}
}

/* ---- in ---- */

static void load_times(const struct role_times_wire *w, struct role_times *times)
{
	for (uint32_t i = 0; i < ROLE_TIMES_MAX; i++) {
		times->at_ms[i] = le64_get(w->at_ms[i]);
	}
	times->count = le32_get(w->count);
}

static int load_policy(const struct role_policy_wire *w, struct role_policy *p)
{
	*p = (struct role_policy){
		.priority = (enum role_priority)w->priority,
		.fallback = (enum role_fallback)w->fallback,
		.isolated_ok = (w->flags & 1) != 0,
		.strict = (w->flags & 2) != 0,
		.patient = (w->flags & 4) != 0,
		.cpus = le32_get(w->cpus),
		.possible = le64_get(w->possible),
		.volumes = le64_get(w->volumes),
		.memory_bytes = le64_get(w->memory_bytes),
		.restart_max = le32_get(w->restart_max),
		.restart_window_s = le32_get(w->restart_window_s),
		.failover_max = le32_get(w->failover_max),
		.failover_window_s = le32_get(w->failover_window_s),
		.resiliency_ms = le32_get(w->resiliency_ms),
	};
	for (uint32_t i = 0; i < ROLE_PREFERRED_MAX; i++) {
		p->preferred[i] = le32_get(w->preferred[i]);
	}
	for (uint32_t i = 0; i < ROLE_GROUPS_MAX; i++) {
		p->groups[i] = le32_get(w->groups[i]);
		p->after[i] = le32_get(w->after[i]);
	}
	return w->flags > 7 || w->reserved != 0 || role_policy_check(p) != NULL ? -EBADMSG : 0;
}

static int load_role(uint32_t id, const struct role_role_wire *w, struct role *r)
{
	*r = (struct role){
		.id = id,
		.state = (enum role_state)w->state,
		.before = (enum role_state)w->before,
		.want = (enum role_want)w->want,
		.why = (enum role_why)w->why,
		.frozen = (w->flags & 1) != 0,
		.incoming = (w->flags & 2) != 0,
		.owner = {.node = le32_get(w->owner_node), .inc = le64_get(w->owner_inc)},
		.dest = {.node = le32_get(w->dest_node), .inc = le64_get(w->dest_inc)},
		.in_place = le32_get(w->in_place),
		.token = le64_get(w->token),
		.acked = le64_get(w->acked),
		.since_ms = le64_get(w->since_ms),
		.until_ms = le64_get(w->until_ms),
		.tried = le64_get(w->tried),
	};
	size_t len = strnlen((const char *)w->name, sizeof(w->name));

	for (size_t i = len; i < sizeof(w->name); i++) {
		if (w->name[i] != 0) {
			return -EBADMSG;
		}
	}
	if (len == sizeof(w->name) || w->flags > 3 || w->reserved[0] != 0 || w->reserved[1] != 0 ||
	    w->reserved[2] != 0 || w->before >= ROLE_STATE_COUNT || w->want > ROLE_WANT_ONLINE ||
	    w->why >= ROLE_WHY_COUNT || r->owner.node > ROLE_NODES_MAX ||
	    r->dest.node > ROLE_NODES_MAX || r->in_place > ROLE_NODES_MAX) {
		return -EBADMSG;
	}
	memcpy(r->name, w->name, len);
	load_times(&w->restarts, &r->restarts);
	load_times(&w->failovers, &r->failovers);
	return load_policy(&w->policy, &r->policy) < 0 || role_check(r) != NULL ? -EBADMSG : 0;
}

static int add_role(struct role_table *t, uint32_t id, const struct role_role_wire *w)
{
	struct role r;

	if (id == 0 || id > ROLE_COUNT_MAX || load_role(id, w, &r) < 0) {
		return -EBADMSG;
	}
	if (role_table_role(t, id) != NULL) {
		return -EEXIST;
	}
	struct role *copy = gw_malloc(sizeof(*copy));

	if (copy == NULL || role_table_room(t, id) < 0) {
		free(copy);
		return -ENOMEM;
	}
	*copy = r;
	t->roles[id - 1] = copy;
	t->count++;
	return 0;
}

static int set_node(struct role_table *t, uint32_t id, const struct role_node_wire *w)
{
	if (id == 0 || id > ROLE_NODES_MAX || w->state == ROLE_NODE_ABSENT ||
	    w->state >= ROLE_NODE_STATE_COUNT || w->drain >= ROLE_DRAIN_COUNT ||
	    w->proof >= ROLE_PROOF_COUNT || w->flags > 3 || le64_get(w->inc) == 0) {
		return -EBADMSG;
	}
	struct role_node *n = &t->nodes[id - 1];

	if (n->state != ROLE_NODE_ABSENT) {
		return -EEXIST;
	}
	*n = (struct role_node){
		.id = id,
		.state = (enum role_node_state)w->state,
		.drain = (enum role_drain)w->drain,
		.proof = (enum role_proof)w->proof,
		.slots_alive = (w->flags & 1) != 0,
		.lease_proof = (w->flags & 2) != 0,
		.inc = le64_get(w->inc),
		.proof_volumes = le64_get(w->proof_volumes),
		.since_ms = le64_get(w->since_ms),
		.quarantine_until_ms = le64_get(w->quarantine_until_ms),
		.renew_seq = le64_get(w->renew_seq),
		.lease_ms = le32_get(w->lease_ms),
		.cpus = le32_get(w->cpus),
		.paths = le64_get(w->paths),
		.memory_bytes = le64_get(w->memory_bytes),
	};
	for (uint32_t i = 0; i < ROLE_EXITS_MAX; i++) {
		n->exits_ms[i] = le64_get(w->exits_ms[i]);
	}
	return 0;
}

static int set_table(struct role_table *t, uint32_t id, const struct role_table_wire *w)
{
	if (id != 0 || le32_get(w->reserved) != 0) {
		return -EBADMSG;
	}
	if (t->epoch != 0 || t->now_ms != 0) {
		return -EEXIST;
	}
	t->epoch = le64_get(w->epoch);
	t->now_ms = le64_get(w->now_ms);
	return 0;
}

int role_table_load(struct role_table *t, const void *key, size_t key_len, const void *value,
                    size_t value_len, struct errbuf *eb)
{
	struct role_key_wire k;
	union {
		le32 version;
		struct role_table_wire table;
		struct role_node_wire node;
		struct role_role_wire role;
	} w;
	int err = -EBADMSG;

	if (key_len != sizeof(k) || value_len < sizeof(w.version) || value_len > sizeof(w)) {
		return errbuf_set(eb, -EBADMSG, "roles: a pair of %zu and %zu bytes", key_len,
		                  value_len);
	}
	memcpy(&k, key, sizeof(k));
	memcpy(&w, value, value_len);

	uint32_t id = be32_get(k.id);

	if (memcmp(k.magic, magic, sizeof(magic)) != 0 ||
	    le32_get(w.version) != ROLE_PAIR_VERSION) {
		return errbuf_set(eb, -EBADMSG,
		                  "roles: not one of our pairs, or of a later version");
	}
	if (k.kind == 't' && value_len == sizeof(w.table)) {
		err = set_table(t, id, &w.table);
	} else if (k.kind == 'n' && value_len == sizeof(w.node)) {
		err = set_node(t, id, &w.node);
	} else if (k.kind == 'r' && value_len == sizeof(w.role)) {
		err = add_role(t, id, &w.role);
	}
	return err == 0 ? 0
	                : errbuf_set(eb, err, "roles: pair %c%u is damaged or there twice",
	                             k.kind >= 'a' && k.kind <= 'z' ? k.kind : '?', id);
}
