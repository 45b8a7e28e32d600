/* SPDX-License-Identifier: Apache-2.0 */

/*
 * ha_whatif - GET /v1/cluster/simulate: what would happen if nodes died now (?dies=n1,n2), or one
 * were emptied (?drain=n1): cluster/lead/whatif.h, with names. On any node, nothing changes.
 */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/api/server.h"
#include "base/clock.h"
#include "bin/godwitd/ha_int.h"
#include "cluster/db/db.h"
#include "cluster/lead/whatif.h"
#include "cluster/timing/timing.h"
#include "cluster/view/view.h"

#define TEXT_SIZE 700

/* Numbers of the named nodes, parted by commas. Returns 0; -ENOENT; -EINVAL: none. */
static int nodes_named(const struct ha_api *api, const char *names, uint64_t *set,
                       struct errbuf *eb)
{
	*set = 0;
	for (const char *at = names; at != NULL && *at != '\0';) {
		size_t len = strcspn(at, ",");
		char name[64];

		(void)snprintf(name, sizeof(name), "%.*s", (int)(len < 63 ? len : 63), at);

		const struct db_object *o = db_get(member_db(api->place.member), DB_NODE, name);
		json_int_t id =
			o != NULL ? json_integer_value(json_object_get(o->doc, "nodeid")) : 0;

		if (id < 1 || id > ROLE_NODES_MAX ||
		    role_table_node(member_roles(api->place.member), (uint32_t)id)->state ==
		            ROLE_NODE_ABSENT) {
			(void)errbuf_set(eb, -ENOENT, "there is no node %s that runs VMs", name);
			errbuf_hint(eb, "godwit node list shows those there are");
			return -ENOENT;
		}
		*set |= role_bit((uint32_t)id);
		at += len + (at[len] == ',');
	}
	return *set != 0 ? 0 : errbuf_set(eb, -EINVAL, "?dies=NODE[,NODE] or ?drain=NODE");
}

static uint32_t id_of(uint64_t set)
{
	return (uint32_t)__builtin_ctzll(set) + 1;
}

/* Votes of those who would be left, and of all. */
static void votes(const struct ha_api *api, uint64_t dead, uint32_t *left, uint32_t *total)
{
	const struct view *view = member_view(api->place.member);
	const struct view_config *config = member_config(api->place.member);
	uint32_t witness = view_config_witness(config);

	*left = view->witness ? witness : 0;
	*total = 0;
	for (uint32_t i = 0; i < config->count; i++) {
		*total += config->nodes[i].votes;
	}
	for (uint32_t i = 0; i < view->count; i++) {
		const struct view_member *m = &view->members[i];

		if (m->said && !m->skipped && (dead & role_bit(m->peer.nodeid)) == 0) {
			*left += view_config_votes(config, m->peer.nodeid, &m->hello.uuid);
		}
	}
}

static void add_span(struct json_build *b, const char *key, uint64_t min_ns, uint64_t max_ns)
{
	json_add(b, key, json_pack("[I,I]", (json_int_t)min_ns, (json_int_t)max_ns));
}

static void add_nodes(const struct ha_api *api, const struct lead_view *view, uint64_t dead,
                      struct json_build *b)
{
	struct json_build list;

	json_build_array(&list);
	for (uint32_t id = 1; id <= ROLE_NODES_MAX; id++) {
		struct whatif_node n;
		struct json_build row;

		if ((dead & role_bit(id)) == 0) {
			continue;
		}
		whatif_node(view, id, &n);
		json_build_object(&row);
		json_add_str(&row, "node", ha_node_name(api, id));
		add_span(&row, "detected_ns", n.detect_min_ns, n.detect_max_ns);
		json_add_str(&row, "proof", role_proof_name(n.proof));
		if (n.proof != ROLE_PROOF_NONE) {
			add_span(&row, "proven_ns", n.proof_min_ns, n.proof_max_ns);
		}
		json_add_build(&list, NULL, &row);
	}
	json_add_build(b, "nodes", &list);
}

static void add_vm(const struct ha_api *api, const struct lead_view *view, const struct whatif *w,
                   const struct whatif_vm *vm, uint32_t index, struct json_build *list)
{
	struct json_build row;
	struct whatif_node n;
	char text[TEXT_SIZE];

	whatif_vm_text(w, vm, index, text, sizeof(text));
	json_build_object(&row);
	json_add_str(&row, "vm", vm->role->name);
	json_add_str(&row, "node", ha_node_name(api, vm->role->owner.node));
	json_add_str(&row, "state", role_state_name(vm->role->state));
	json_add_str(&row, "fate", whatif_fate_name(vm->fate));
	json_add_str(&row, "to", ha_node_name(api, vm->to));
	json_add_u64(&row, "wave", vm->wave);
	if (vm->fate == WHATIF_STARTS) {
		uint64_t held_ns = vm->held_ms * NS_PER_MS;

		whatif_node(view, vm->role->owner.node, &n);
		add_span(&row, "after_ns", n.proof_min_ns > held_ns ? n.proof_min_ns : held_ns,
		         n.proof_max_ns > held_ns ? n.proof_max_ns : held_ns);
	}
	json_add_str(&row, "text", text);
	json_add_build(list, NULL, &row);
}

/* @counts[WHATIF_FATE_COUNT] */
static void add_vms(const struct ha_api *api, const struct lead_view *view, const struct whatif *w,
                    const struct whatif_ask *ask, uint32_t *counts, struct json_build *b)
{
	struct json_build list;

	json_build_array(&list);
	for (uint32_t v = 0; v < w->in.vm_count; v++) {
		struct whatif_vm vm;

		whatif_vm(w, view, ask, v, &vm);
		counts[vm.fate]++;
		if (vm.fate != WHATIF_UNTOUCHED) {
			add_vm(api, view, w, &vm, v, &list);
		}
	}
	json_add_build(b, "vms", &list);
}

static int answer(const struct ha_api *api, struct whatif_ask *ask, json_t **out)
{
	uint32_t counts[WHATIF_FATE_COUNT] = {0};
	struct lead_view view;
	struct lead *lead = ha_view(api->ha, &view);
	uint64_t begin_ns = clock_now_ns();
	struct json_build b;
	struct whatif w;
	uint32_t left;
	uint32_t total;

	votes(api, ask->dead, &left, &total);
	ask->majority = left > total / 2;
	whatif_run(lead, &view, ask, ha_now_ms(api->ha), &w);

	uint64_t plan_ns = clock_now_ns() - begin_ns;

	json_build_object(&b);
	json_add_u64(&b, "votes_left", left);
	json_add_u64(&b, "votes_needed", total / 2 + 1);
	json_add_bool(&b, "majority", ask->majority);
	add_nodes(api, &view, ask->dead, &b);
	add_vms(api, &view, &w, ask, counts, &b);
	for (uint32_t fate = 0; fate < WHATIF_FATE_COUNT; fate++) {
		json_add_u64(&b, whatif_fate_name((enum whatif_fate)fate), counts[fate]);
	}
	json_add_u64(&b, "waves", w.sum.waves);
	json_add_u64(&b, "plan_ns", plan_ns);
	return json_build_end(&b, out);
}

static enum api_then on_simulate(struct api_req *req, void *arg)
{
	struct ha_api *api = arg;
	const char *dies = api_req_query(req, "dies");
	const char *drain = api_req_query(req, "drain");
	const char *names = dies != NULL ? dies : drain;
	struct whatif_ask ask = {.dead = 0};
	struct errbuf eb = {0};
	uint64_t set = 0;
	json_t *out = NULL;
	int err;

	if (api->ha == NULL) {
		(void)errbuf_set(&eb, -ENOTCONN, "this host runs no VMs for a cluster");
		return api_reply_errno(req, -ENOTCONN, &eb);
	}
	if (names == NULL || (dies != NULL && drain != NULL)) {
		(void)errbuf_set(&eb, -EINVAL, "?dies=NODE[,NODE] or ?drain=NODE");
		return api_reply_errno(req, -EINVAL, &eb);
	}
	err = nodes_named(api, names, &set, &eb);
	if (err == 0 && dies == NULL && set != role_bit(id_of(set))) {
		err = errbuf_set(&eb, -EINVAL, "one node at a time is emptied");
	}
	if (err != 0) {
		return api_reply_errno(req, err, &eb);
	}
	if (dies != NULL) {
		ask.dead = set;
	} else {
		ask.drain = id_of(set);
	}
	err = answer(api, &ask, &out);
	return err != 0 ? api_reply_errno(req, err, NULL) : api_reply(req, 200, out);
}

static const struct api_route routes[] = {
	{API_GET, "/v1/cluster/simulate", on_simulate},
};

int ha_whatif_routes(struct ha_api *api)
{
	return api_server_routes(api->cfg.server, routes, ARRAY_LEN(routes), api);
}
