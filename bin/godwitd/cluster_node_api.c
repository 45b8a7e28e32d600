/* SPDX-License-Identifier: Apache-2.0 */
/* Requests that change the cluster: it is formed, a node is evicted, the last one leaves. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/hash.h"
#include "base/log.h"
#include "bin/godwitd/cert_api.h"
#include "bin/godwitd/cluster_int.h"
#include "cluster/role/role_table.h"

#define CREATE_WAIT_NS (60 * NS_PER_S)
#define EVICT_WAIT_NS (60 * NS_PER_S)

/* ---- create ---- */

/* Which of the nodes is this one? */
static const struct cluster_node *create_self(const struct cluster_conf *want, struct errbuf *eb)
{
	for (uint32_t i = 0; i < want->count; i++) {
		if (cluster_addr_local(want->nodes[i].addr[0])) {
			return &want->nodes[i];
		}
	}
	(void)errbuf_set(eb, -EADDRNOTAVAIL, "none of these addresses is this host's");
	errbuf_hint(eb, "run godwit cluster create on one of the nodes");
	return NULL;
}

static int create_read(const struct json_at *at, struct cluster_conf *want, struct errbuf *eb)
{
	static const char *const known[] = {"name", "nodes", "token_ms"};
	uint64_t token_ms = CORO_CONF_TOKEN_MS;
	char text[CORO_CONF_TEXT_MAX];
	const char *name = NULL;
	struct json_at list;
	int err = json_check_members(at, known, ARRAY_LEN(known), eb);

	if (err == 0) {
		err = json_get_str(at, "name", TLS_NAME_MAX - 1, &name, eb);
	}
	if (err == 0 && !tls_name_valid(name)) {
		err = errbuf_set(eb, -EINVAL, "'%s' cannot be a cluster's name", name);
	}
	if (err == 0) {
		err = json_opt_u64(at, "token_ms", CORO_CONF_TOKEN_MIN_MS, CORO_CONF_TOKEN_MAX_MS,
		                   &token_ms, eb);
	}
	if (err == 0) {
		err = json_get_array(at, "nodes", CLUSTER_NODES_MAX, &list, eb);
	}
	for (size_t i = 0; err == 0 && i < json_array_size(list.value); i++) {
		struct json_at one = json_element(&list, i);

		err = cluster_node_read(&one, &want->nodes[i], eb);
		want->nodes[i].nodeid = (uint32_t)i + 1;
		want->nodes[i].votes = 1;
		want->nodes[i].port = 0;
		want->count = (uint32_t)i + 1;
	}
	if (err == 0) {
		(void)snprintf(want->name, sizeof(want->name), "%s", name);
		want->token_ms = (uint32_t)token_ms;
		want->version = 1;
		err = cluster_conf_text(want, "", text, eb); /* would corosync take them all? */
	}
	return err < 0 ? err : 0;
}

/* This node's identity: there is one, or it is made now. */
static int create_identity(struct cluster_api *api, const char *cluster, const char *node,
                           struct errbuf *eb)
{
	const char *is = cert_api_node(api->cfg.certs);

	if (is == NULL) {
		return cert_api_init(api->cfg.certs, cluster, node, eb);
	}
	if (strcmp(is, node) != 0) {
		(void)errbuf_set(eb, -EEXIST, "this node's certificate says %s, not %s", is, node);
		errbuf_hint(eb, "call the node %s, or move %s away", is,
		            cert_api_dir(api->cfg.certs));
		return -EEXIST;
	}
	if (!cert_api_authority(api->cfg.certs)) {
		(void)errbuf_set(eb, -ENOENT, "this node does not hold the key of its CA");
		errbuf_hint(eb, "form the cluster on the node that ran godwit cert init");
		return -ENOENT;
	}
	return 0;
}

static int create_authkey(const struct cluster_api *api, struct errbuf *eb)
{
	uint8_t key[CLUSTER_AUTHKEY_BYTES];
	char path[CLUSTER_PATH_MAX + 16];
	int err = hash_random(key, sizeof(key));

	(void)snprintf(path, sizeof(path), "%s/authkey", api->dir);
	if (err == 0) {
		err = fs_mkdirs(api->dir, 0700, eb);
	}
	if (err == 0) {
		err = fs_write(path, key, sizeof(key), 0400, eb);
	}
	hash_wipe(key, sizeof(key));
	return err;
}

/* cluster.json last: with it we are in, and a service that dies goes on. */
static int create_begin(struct cluster_api *api, const struct cluster_conf *want,
                        const struct cluster_node *self, struct errbuf *eb)
{
	struct cluster_conf conf = {
		.nodeid = 1, .founder = true, .token_ms = want->token_ms, .version = 1, .count = 1};
	int err = create_identity(api, want->name, self->name, eb);

	memcpy(conf.name, want->name, sizeof(conf.name));
	memcpy(conf.node, self->name, sizeof(conf.node));
	conf.nodes[0] = *self;
	conf.nodes[0].nodeid = 1;
	conf.nodes[0].port = api->cfg.port;
	guid_random(&conf.cluster);
	guid_random(&conf.uuid);
	if (err == 0) {
		err = cluster_conf_apply(&conf, api->dir, eb);
	}
	if (err == 0) {
		err = create_authkey(api, eb);
	}
	if (err == 0) {
		err = cluster_conf_save(api->dir, &conf, eb);
	}
	if (err != 0) {
		return err;
	}
	api->conf = conf;
	return cluster_begin(api, eb);
}

/* What is to be run where, for those of the nodes that are not here yet. */
static json_t *create_invite(struct cluster_api *api, const json_t *nodes, struct errbuf *eb)
{
	json_t *out = json_array();
	char token[CLUSTER_TOKEN_MAX];
	const json_t *one;
	size_t i;

	json_array_foreach(nodes, i, one)
	{
		const char *name = cluster_text(one, "name");
		const struct db_object *o = db_get(member_db(api->member), DB_NODE, name);

		if (o != NULL && strcmp(cluster_text(o->doc, "state"), NODE_JOINING) != 0) {
			continue;
		}
		if (cluster_token_make(api, name, token, eb) != 0 ||
		    json_array_append_new(out, json_pack("{s:s,s:O,s:s}", "name", name, "addrs",
		                                         json_object_get(one, "addrs"), "token",
		                                         token)) != 0) {
			json_decref(out);
			return NULL;
		}
	}
	return out;
}

static int poll_create(struct cluster_waiter *w, json_t **answer, struct errbuf *eb)
{
	struct cluster_api *api = w->api;
	json_t *invited;
	json_t *shown;

	if (api->member == NULL) {
		return errbuf_set(eb, -EIO, "%s", api->trouble.text);
	}
	if (!cluster_is_active(api, NULL) || cluster_conf_version(api) == 0) {
		return 0;
	}
	invited = create_invite(api, json_object_get(w->args, "nodes"), eb);
	if (invited == NULL) {
		return eb->text[0] != '\0' ? -EIO : -ENOMEM;
	}
	shown = cluster_show(api);
	if (shown == NULL || json_object_set_new(shown, "invited", invited) != 0) {
		json_decref(shown);
		return -ENOMEM;
	}
	*answer = shown;
	return 1;
}

/* The same command again: what it began goes on. */
static int create_again(const struct cluster_api *api, const struct cluster_conf *want,
                        struct errbuf *eb)
{
	const struct cluster_node *self = cluster_node_find(want, api->conf.node);
	const struct cluster_node *now = cluster_node_find(&api->conf, api->conf.node);

	if (!api->leaving && api->conf.founder && strcmp(api->conf.name, want->name) == 0 &&
	    self != NULL && now != NULL && strcmp(self->addr[0], now->addr[0]) == 0 &&
	    strcmp(self->addr[1], now->addr[1]) == 0) {
		return 0;
	}
	(void)errbuf_set(eb, -EEXIST, "this node is %s of cluster %s", api->conf.node,
	                 api->conf.name);
	errbuf_hint(eb, "godwit node token NAME admits another node to it");
	return -EEXIST;
}

enum api_then cluster_on_create(struct api_req *req, void *arg)
{
	struct cluster_api *api = arg;
	struct json_at at = json_root(api_req_body(req), "");
	const struct cluster_waiter wait = {
		.poll = poll_create, .what = "forming the cluster", .deadline_ns = CREATE_WAIT_NS};
	const struct cluster_node *self;
	struct cluster_conf want = {.count = 0};
	struct errbuf eb = {0};
	int err;

	if (!cluster_is_local(req)) {
		return API_ANSWERED;
	}
	err = create_read(&at, &want, &eb);
	if (err == 0 && api->present) {
		err = create_again(api, &want, &eb);
	} else if (err == 0) {
		self = create_self(&want, &eb);
		err = self == NULL ? -EADDRNOTAVAIL : create_begin(api, &want, self, &eb);
	}
	if (err != 0) {
		return api_reply_errno(req, err, &eb);
	}
	return cluster_wait(api, req, &wait, json_deep_copy(api_req_body(req)));
}

/* ---- evict ---- */

static int poll_evict(struct cluster_waiter *w, json_t **answer, struct errbuf *eb)
{
	struct cluster_api *api = w->api;
	const struct db_object *o;
	json_t *doc;
	struct db_cmd cmd;

	if (api->member == NULL) {
		return errbuf_set(eb, -ENOENT, "this node is in no cluster any more");
	}
	o = db_get(member_db(api->member), DB_NODE, w->name);
	if (o == NULL) {
		*answer = json_pack("{s:s,s:s}", "name", w->name, "state", "gone");
		return *answer != NULL ? 1 : -ENOMEM;
	}
	if (strcmp(cluster_text(o->doc, "state"), NODE_LEAVING) == 0 ||
	    strcmp(cluster_text(o->doc, "state"), NODE_LEFT) == 0 || api->proposing ||
	    !cluster_is_active(api, NULL)) {
		return 0;
	}
	doc = json_pack("{s:s}", "state", NODE_LEAVING);
	db_cmd_init(&cmd);
	db_cmd_merge(&cmd, DB_NODE, w->name, doc);
	db_cmd_if_version(&cmd, o->version);
	json_decref(doc);
	cluster_propose(api, &cmd, "a node leaves");
	return 0;
}

/* VMs of the cluster that the node has, or may have. */
static uint32_t vms_of(const struct cluster_api *api, const json_t *node)
{
	const struct role_table *t = member_roles(api->member);
	json_int_t id = json_integer_value(json_object_get(node, "nodeid"));
	uint32_t count = 0;

	for (const struct role *r = role_table_next(t, 0); r != NULL;
	     r = role_table_next(t, r->id)) {
		count += r->owner.node == id || r->dest.node == id;
	}
	return count;
}

/* Nobody may be without what he needs when @name is gone. */
static int evict_check(const struct cluster_api *api, const char *name, struct errbuf *eb)
{
	const struct db_object *o;

	if (api->member == NULL || api->leaving) {
		return cluster_none(eb);
	}
	if (!cluster_is_active(api, eb)) {
		return -EAGAIN;
	}
	if (db_get(member_db(api->member), DB_NODE, name) == NULL) {
		(void)errbuf_set(eb, -ENOENT, "there is no node %s in the cluster", name);
		errbuf_hint(eb, "godwit node list shows those there are");
		return -ENOENT;
	}
	if (db_count(member_db(api->member), DB_NODE) == 1) {
		(void)errbuf_set(eb, -EBUSY, "%s is the last node", name);
		errbuf_hint(eb, "godwit cluster remove");
		return -EBUSY;
	}
	if (strcmp(name, api->conf.node) == 0) {
		(void)errbuf_set(eb, -EBUSY, "a node cannot evict itself");
		errbuf_hint(eb, "run godwit node evict %s on another node", name);
		return -EBUSY;
	}
	o = db_get(member_db(api->member), DB_NODE, name);
	if (vms_of(api, o->doc) != 0) {
		(void)errbuf_set(eb, -EBUSY, "%s has %u VMs of the cluster", name,
		                 vms_of(api, o->doc));
		errbuf_hint(eb,
		            "godwit node drain %s; if it is down for good: godwit node confirm "
		            "%s --off",
		            name, name);
		return -EBUSY;
	}
	if (!cluster_can_lose(api,
	                      (uint32_t)json_integer_value(json_object_get(o->doc, "nodeid")))) {
		(void)errbuf_set(eb, -EBUSY, "without %s no majority of the nodes would be here",
		                 name);
		errbuf_hint(eb, "start the nodes that are down, or evict those first");
		return -EBUSY;
	}
	if (!cluster_ca_shared(api) &&
	    strcmp(name, cluster_text(db_get(member_db(api->member), DB_SETTING, "cluster")->doc,
	                              "ca_node")) == 0) {
		(void)errbuf_set(eb, -EBUSY, "%s holds the cluster's CA", name);
		errbuf_hint(eb, "it is about to give it to all; try again");
		return -EBUSY;
	}
	return 0;
}

enum api_then cluster_on_evict(struct api_req *req, void *arg)
{
	struct cluster_api *api = arg;
	const char *name = api_req_param(req, "name");
	struct cluster_waiter wait = {
		.poll = poll_evict, .what = "evicting the node", .deadline_ns = EVICT_WAIT_NS};
	struct errbuf eb = {0};
	int err;

	if (!cluster_is_local(req)) {
		return API_ANSWERED;
	}
	err = evict_check(api, name, &eb);
	if (err != 0) {
		return api_reply_errno(req, err, &eb);
	}
	(void)snprintf(wait.name, sizeof(wait.name), "%s", name);
	return cluster_wait(api, req, &wait, NULL);
}

/* ---- remove ---- */

static int poll_remove(struct cluster_waiter *w, json_t **answer, struct errbuf *eb)
{
	struct cluster_api *api = w->api;

	*answer = NULL;
	if (!api->present) {
		return 1;
	}
	if (!api->leaving) {
		return errbuf_set(eb, -EIO, "not removed");
	}
	return api->trouble.text[0] != '\0' ? errbuf_set(eb, -EIO, "%s", api->trouble.text) : 0;
}

enum api_then cluster_on_remove(struct api_req *req, void *arg)
{
	struct cluster_api *api = arg;
	const struct cluster_waiter wait = {
		.poll = poll_remove, .what = "leaving the cluster", .deadline_ns = EVICT_WAIT_NS};
	bool force = api_req_query(req, "force") != NULL;
	struct errbuf eb = {0};
	int err = 0;

	if (!cluster_is_local(req)) {
		return API_ANSWERED;
	}
	if (!api->present) {
		err = cluster_none(&eb);
	} else if (!force && api->conf.count > 1) {
		err = errbuf_set(&eb, -EBUSY, "cluster %s has %u nodes", api->conf.name,
		                 api->conf.count);
		errbuf_hint(&eb, "godwit node evict the others first; --force takes this node out "
		                 "without telling them");
	}
	if (err != 0) {
		return api_reply_errno(req, err, &eb);
	}
	if (!api->leaving) {
		api->trouble = (struct errbuf){0};
		cluster_leave(api, force ? "removed by force" : "the cluster is removed");
	}
	return cluster_wait(api, req, &wait, NULL);
}
