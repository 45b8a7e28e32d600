/* SPDX-License-Identifier: Apache-2.0 */
/* Looking at the cluster: from this node's copy of the database, with a mark if it may be old. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "bin/godwitd/cluster_int.h"
#include "bin/godwitd/peer.h"
#include "cluster/ha/maint.h"
#include "cluster/role/role_table.h"

#define CHECK_CALL_MS 5000u
#define CHECK_ROUNDS 10u /* nodes that are not at the same entry are asked again */

static const char *const state_word[] = {[RSM_OFF] = "off",
                                         [RSM_STARTING] = "starting",
                                         [RSM_ACTIVE] = "active",
                                         [RSM_HALTED] = "halted"};

static const struct view_member *view_of(const struct cluster_api *api, const json_t *node)
{
	return !cluster_in_view(api, node)
	               ? NULL
	               : view_find(member_view(api->member),
	                           (uint32_t)json_integer_value(json_object_get(node, "nodeid")));
}

/* What it is in the table of those who run the cluster's VMs; NULL = not in it. */
static json_t *show_runs(const struct cluster_api *api, const json_t *node)
{
	static const char *const drains[ROLE_DRAIN_COUNT] = {"none", "active", "done"};
	const struct role_table *t = member_roles(api->member);
	json_int_t id = json_integer_value(json_object_get(node, "nodeid"));
	const struct role_node *n =
		id > 0 && id <= ROLE_NODES_MAX ? role_table_node(t, (uint32_t)id) : NULL;
	json_int_t vms = 0;

	if (n == NULL || n->state == ROLE_NODE_ABSENT) {
		return NULL;
	}
	for (const struct role *r = role_table_next(t, 0); r != NULL;
	     r = role_table_next(t, r->id)) {
		vms += r->owner.node == n->id;
	}
	struct maint_drain drain = {0};

	if (n->drain != ROLE_DRAIN_NONE) {
		(void)maint_drain_get(member_db(api->member), n->id, &drain);
	}
	return json_pack("{s:s,s:I,s:s,s:I,s:I,s:b}", "state", role_node_state_name(n->state),
	                 "run", (json_int_t)n->inc, "drain", drains[n->drain], "drain_total",
	                 (json_int_t)json_array_size(drain.vms), "vms", vms, "lease_proof",
	                 n->lease_proof);
}

/* A node as the API shows it. */
static json_t *show_node(const struct cluster_api *api, const struct db_object *o)
{
	const struct view_member *m = view_of(api, o->doc);
	json_t *out = json_deep_copy(o->doc);
	char text[GUID_TEXT_SIZE];
	bool up = m != NULL;

	if (out == NULL ||
	    json_object_set_new(out, "here", json_boolean(strcmp(o->key, api->conf.node) == 0)) !=
	            0 ||
	    json_object_set_new(out, "up", json_boolean(up)) != 0 ||
	    json_object_set_new(out, "incarnation",
	                        up ? json_string(guid_format(&m->hello.incarnation, text))
	                           : json_null()) != 0 ||
	    json_object_set_new(out, "level_max",
	                        up ? json_integer((json_int_t)m->hello.level_max) : json_null()) !=
	            0) {
		json_decref(out);
		return NULL;
	}
	json_t *runs = show_runs(api, o->doc);

	if (runs != NULL) {
		(void)json_object_set_new(out, "ha", runs);
	}
	return out;
}

static void show_nodes(const struct cluster_api *api, struct json_build *b)
{
	const struct db *db = member_db(api->member);
	struct json_build list;

	json_build_array(&list);
	for (size_t i = 0; i < db_count(db, DB_NODE); i++) {
		json_add(&list, NULL, show_node(api, db_at(db, DB_NODE, i)));
	}
	json_add_build(b, "nodes", &list);
}

const char *cluster_node_name(const struct cluster_api *api, uint32_t nodeid)
{
	const struct db *db = member_db(api->member);

	for (size_t i = 0; i < db_count(db, DB_NODE); i++) {
		const struct db_object *o = db_at(db, DB_NODE, i);

		if (json_integer_value(json_object_get(o->doc, "nodeid")) == (json_int_t)nodeid) {
			return o->key;
		}
	}
	return NULL;
}

static void show_quorum(const struct cluster_api *api, struct json_build *b)
{
	const struct view *view = member_view(api->member);
	uint32_t total = view_config_total(member_config(api->member));
	struct rsm_status s;

	member_status(api->member, &s);
	json_add_str(b, "state", state_word[s.state]);
	json_add_str(b, "why", s.state == RSM_OFF || s.state == RSM_HALTED ? s.why : NULL);
	json_add_bool(b, "stale", s.stale);
	json_add_bool(b, "quorate", view->quorate && view->state != VIEW_DOWN);
	json_add_bool(b, "corosync", view->state != VIEW_DOWN);
	json_add_u64(b, "votes", cluster_votes_here(api, 0));
	json_add_u64(b, "votes_total", total);
	json_add_u64(b, "votes_needed", total / 2 + 1);
	json_add_u64(b, "epoch", s.epoch);
	json_add_str(b, "leader", cluster_node_name(api, s.leader));
	json_add_u64(b, "ring", view->ring.seq);
	json_add(b, "witness", cluster_quorum_show(api->quorum));
}

static void show_log(const struct cluster_api *api, struct json_build *b)
{
	struct rsm_status s;

	member_status(api->member, &s);
	json_add_u64(b, "level", s.level);
	json_add_u64(b, "level_max", MEMBER_LEVEL);
	json_add_u64(b, "last", s.last_index);
	json_add_u64(b, "committed", s.commit_index);
	json_add_u64(b, "applied", s.applied_index);
	json_add_bool(b, "fetching", s.fetching);
}

json_t *cluster_show(const struct cluster_api *api)
{
	struct json_build b;
	char text[GUID_TEXT_SIZE];
	const char *who = NULL;
	json_t *out = NULL;

	json_build_object(&b);
	json_add_bool(&b, "present", api->present);
	json_add_str(&b, "trouble", api->trouble.text[0] != '\0' ? api->trouble.text : NULL);
	if (api->present) {
		json_add_str(&b, "name", api->conf.name);
		json_add_str(&b, "uuid", guid_format(&api->conf.cluster, text));
		json_add_str(&b, "node", api->conf.node);
		json_add_u64(&b, "token_ms", api->conf.token_ms);
		json_add_u64(&b, "conf_version", api->conf.version);
	}
	if (api->member != NULL) {
		show_quorum(api, &b);
		show_log(api, &b);
		json_add_str(&b, "waiting_for",
		             cluster_conf_version(api) != 0 && !cluster_settled(api, &who) ? who
		                                                                           : NULL);
		show_nodes(api, &b);
	}
	return json_build_end(&b, &out) == 0 ? out : NULL;
}

enum api_then cluster_on_show(struct api_req *req, void *arg)
{
	return api_reply(req, 200, cluster_show(arg));
}

/* Answers, and returns false, if there is no database to look at. */
static bool show_ready(const struct cluster_api *api, struct api_req *req)
{
	struct errbuf eb = {0};

	if (api->member != NULL) {
		return true;
	}
	(void)errbuf_set(&eb, -ENOENT, "%s",
	                 api->trouble.text[0] != '\0' ? api->trouble.text
	                                              : "this node is in no cluster");
	errbuf_hint(&eb, "godwit cluster create forms one");
	(void)api_reply_errno(req, -ENOENT, &eb);
	return false;
}

enum api_then cluster_on_nodes(struct api_req *req, void *arg)
{
	struct cluster_api *api = arg;
	struct rsm_status s;
	struct json_build b;
	json_t *out = NULL;

	if (!show_ready(api, req)) {
		return API_ANSWERED;
	}
	member_status(api->member, &s);
	json_build_object(&b);
	json_add_bool(&b, "stale", s.stale);
	show_nodes(api, &b);
	return api_reply(req, 200, json_build_end(&b, &out) == 0 ? out : NULL);
}

enum api_then cluster_on_node(struct api_req *req, void *arg)
{
	struct cluster_api *api = arg;
	const char *name = api_req_param(req, "name");
	const struct db_object *o;
	struct rsm_status s;
	struct errbuf eb = {0};
	json_t *out;

	if (!show_ready(api, req)) {
		return API_ANSWERED;
	}
	o = db_get(member_db(api->member), DB_NODE, name);
	if (o == NULL) {
		(void)errbuf_set(&eb, -ENOENT, "there is no node %s in the cluster", name);
		errbuf_hint(&eb, "godwit node list shows those there are");
		return api_reply_errno(req, -ENOENT, &eb);
	}
	member_status(api->member, &s);
	out = show_node(api, o);
	(void)json_object_set_new(out, "stale", json_boolean(s.stale));
	return api_reply(req, 200, out);
}

enum api_then cluster_on_quorum(struct api_req *req, void *arg)
{
	struct cluster_api *api = arg;
	struct json_build b;
	json_t *out = NULL;

	if (!show_ready(api, req)) {
		return API_ANSWERED;
	}
	json_build_object(&b);
	show_quorum(api, &b);
	return api_reply(req, 200, json_build_end(&b, &out) == 0 ? out : NULL);
}

/* For a node that was away: who is in the cluster. */
enum api_then cluster_on_conf(struct api_req *req, void *arg)
{
	struct cluster_api *api = arg;

	if (!show_ready(api, req)) {
		return API_ANSWERED;
	}
	return api_reply(req, 200, cluster_conf_json(&api->conf));
}

/* ---- check ---- */

/* What must be equal on all nodes that have applied the same entries. */
static json_t *digest(const struct cluster_api *api)
{
	struct rsm_status s;
	struct json_build b;
	json_t *out = NULL;

	member_status(api->member, &s);
	json_build_object(&b);
	json_add_str(&b, "node", api->conf.node);
	json_add_str(&b, "state", state_word[s.state]);
	json_add_u64(&b, "epoch", s.epoch);
	json_add_u64(&b, "applied", s.applied_index);
	json_add_fmt(&b, "log_hash", "%016llx", (unsigned long long)s.applied_hash);
	json_add_fmt(&b, "objects_hash", "%016llx",
	             (unsigned long long)db_hash(member_db(api->member)));
	return json_build_end(&b, &out) == 0 ? out : NULL;
}

enum api_then cluster_on_digest(struct api_req *req, void *arg)
{
	struct cluster_api *api = arg;

	return show_ready(api, req) ? api_reply(req, 200, digest(api)) : API_ANSWERED;
}

/* Each node is asked for its digest, and again as long as they are at different entries. */
struct cluster_check {
	struct cluster_api *api;
	struct api_req *req; /* owned; NULL: who asked has gone */
	json_t *digests;     /* owned; by name: the digest, or {"error"} */
	uint32_t under_way;
	uint32_t round;
	struct check_call {
		struct cluster_check *check;
		char name[TLS_NAME_MAX];
	} calls[CLUSTER_NODES_MAX];
};

static void check_round(struct cluster_check *c);

static bool digests_equal(const json_t *a, const json_t *b)
{
	return strcmp(cluster_text(a, "log_hash"), cluster_text(b, "log_hash")) == 0 &&
	       strcmp(cluster_text(a, "objects_hash"), cluster_text(b, "objects_hash")) == 0;
}

/* Every two that are at the same entry are compared; *settled: all are. */
static const char *check_verdict(json_t *digests, bool *missing, bool *settled)
{
	const json_t *first = NULL;
	const char *verdict = "equal";
	const char *name;
	json_t *one;

	*missing = false;
	*settled = true;
	json_object_foreach(digests, name, one)
	{
		if (json_object_get(one, "applied") == NULL) {
			*missing = true;
			continue;
		}
		if (first == NULL) {
			first = one;
		} else if (!json_equal(json_object_get(first, "applied"),
		                       json_object_get(one, "applied"))) {
			*settled = false;
		} else if (!digests_equal(first, one)) {
			verdict = "different";
		}
	}
	return verdict;
}

void cluster_check_free(struct cluster_api *api)
{
	if (api->check != NULL) {
		json_decref(api->check->digests);
		free(api->check);
		api->check = NULL;
	}
}

static void check_end(struct cluster_check *c)
{
	bool missing;
	bool settled;
	const char *verdict = check_verdict(c->digests, &missing, &settled);

	if (strcmp(verdict, "equal") == 0 && !settled) {
		verdict = "busy";
	} else if (strcmp(verdict, "equal") == 0 && missing) {
		verdict = "partial";
	}
	if (c->req != NULL) {
		(void)api_reply(c->req, 200,
		                json_pack("{s:s,s:O}", "verdict", verdict, "nodes", c->digests));
	}
	cluster_check_free(c->api);
}

static void check_done(struct cluster_check *c)
{
	bool missing;
	bool settled;
	const char *verdict = check_verdict(c->digests, &missing, &settled);

	if (c->req != NULL && c->api->member != NULL && !c->api->stopped &&
	    strcmp(verdict, "equal") == 0 && !settled && ++c->round < CHECK_ROUNDS) {
		check_round(c);
	} else {
		check_end(c);
	}
}

static void check_answer(void *arg, int err, json_t *answer, const struct errbuf *eb)
{
	struct check_call *call = arg;
	struct cluster_check *c = call->check;
	json_t *one = err == 0 ? json_deep_copy(answer)
	                       : json_pack("{s:s}", "error", errbuf_text(eb, err));

	(void)json_object_set_new(c->digests, call->name, one);
	if (--c->under_way == 0) {
		check_done(c);
	}
}

static void check_ask(struct cluster_check *c, const struct cluster_node *n, struct check_call *arg)
{
	const struct peer_call call = {
		.node = n->name,
		.addr = n->addr[0],
		.port = n->port != 0 ? n->port : c->api->cfg.port,
		.method = API_GET,
		.path = "/v1/cluster/digest",
		.timeout_ms = CHECK_CALL_MS,
	};
	struct errbuf eb = {0};
	int err;

	arg->check = c;
	(void)snprintf(arg->name, sizeof(arg->name), "%s", n->name);
	err = peer_call(c->api->cfg.peers, &call, check_answer, arg, &eb);
	if (err == 0) {
		c->under_way++;
		return;
	}
	(void)json_object_set_new(c->digests, n->name,
	                          json_pack("{s:s}", "error", errbuf_text(&eb, err)));
}

static void check_round(struct cluster_check *c)
{
	const struct cluster_conf *conf = &c->api->conf;

	(void)json_object_clear(c->digests);
	(void)json_object_set_new(c->digests, conf->node, digest(c->api));
	for (uint32_t i = 0; i < conf->count; i++) {
		if (strcmp(conf->nodes[i].name, conf->node) != 0) {
			check_ask(c, &conf->nodes[i], &c->calls[i]);
		}
	}
	if (c->under_way == 0) {
		check_end(c);
	}
}

static void check_gone(void *arg)
{
	struct cluster_check *c = arg;

	(void)api_reply_errno(c->req, -ECANCELED, NULL);
	c->req = NULL;
}

enum api_then cluster_on_check(struct api_req *req, void *arg)
{
	struct cluster_api *api = arg;
	struct cluster_check *c;
	struct errbuf eb = {0};

	if (!show_ready(api, req)) {
		return API_ANSWERED;
	}
	if (api->check != NULL) {
		(void)errbuf_set(&eb, -EBUSY, "another check is under way");
		return api_reply_errno(req, -EBUSY, &eb);
	}
	c = gw_calloc(1, sizeof(*c));
	if (c == NULL || (c->digests = json_object()) == NULL) {
		free(c);
		return api_reply_errno(req, -ENOMEM, NULL);
	}
	api->check = c;
	c->api = api;
	c->req = req;
	api_req_on_gone(req, check_gone, c);
	check_round(c);
	return API_LATER;
}
