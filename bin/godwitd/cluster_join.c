/* SPDX-License-Identifier: Apache-2.0 */

/*
 * cluster_join - both ends of an admission.
 *
 *	new node                                  node that holds the CA
 *	                                          node token NAME: secret, hash kept
 *	node add NAME --addr A --token T
 *	key, request, uuid -> STATE/join.json
 *	POST /v1/join {secret, csr, ...} -------> token is NAME's, or this key's already
 *	                                          node NAME in the database, without a vote
 *	                                          all corosyncs know it
 *	certificate, authkey, list of nodes <---- certificate signed
 *	identity, STATE/cluster, corosync
 *
 * Until the answer is on disk the new node is nobody and may ask again, with the same key; the
 * answer is then the same. Votes follow when it is seen (cluster_sync.c).
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/api/client.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/tls.h"
#include "bin/godwitd/cert_api.h"
#include "bin/godwitd/cluster_int.h"

#define JOIN_TIMEOUT_MS 60000u
#define JOIN_WAIT_NS (90 * NS_PER_S)
#define ADMIT_WAIT_NS (40 * NS_PER_S) /* below JOIN_TIMEOUT_MS */
#define AUTHKEY_HEX ((size_t)2 * CLUSTER_AUTHKEY_BYTES)
#define JOIN_FILE_MAX (256u << 10)

/* On the new node. The thread owns answer, err and eb while running. */
struct cluster_join {
	struct cluster_api *api;
	bool running;
	struct cluster_token token;
	json_t *file; /* owned; as in STATE/join.json: name, addrs, token, uuid, key, csr */
	json_t *answer;
	int err;
	struct errbuf eb;
};

static void join_path(const struct cluster_api *api, char path[CLUSTER_PATH_MAX])
{
	(void)snprintf(path, CLUSTER_PATH_MAX, "%.4000s/join.json", api->state_dir);
}

void cluster_join_free(struct cluster_api *api)
{
	struct cluster_join *join = api->join;

	api->join = NULL;
	if (join != NULL) {
		json_decref(join->file);
		json_decref(join->answer);
		free(join);
	}
}

/* ---- the new node ---- */

/* On a thread. What it reads nobody changes meanwhile. */
static int join_run(void *arg, struct errbuf *eb)
{
	struct cluster_join *join = arg;
	char url[64];
	char addr[INET6_ADDRSTRLEN + 2];
	bool v6 = strchr(join->token.addr, ':') != NULL;
	const struct api_client_cfg cfg = {
		.url = url, .connect_addr = addr, .pin = join->token.pin};
	struct api_call call = {
		.method = API_POST, .path = "/v1/join", .timeout_ms = JOIN_TIMEOUT_MS};
	struct api_client *client = NULL;
	struct api_result result = {0};
	json_t *addrs = json_deep_copy(json_object_get(join->file, "addrs"));
	json_t *body = json_pack("{s:s,s:s,s:o,s:s,s:s,s:i}", "secret", join->token.secret, "name",
	                         cluster_text(join->file, "name"), "addrs", addrs, "uuid",
	                         cluster_text(join->file, "uuid"), "csr",
	                         cluster_text(join->file, "csr"), "port", (int)join->api->cfg.port);
	int err = body == NULL ? errbuf_sys(eb, -ENOMEM, "join") : 0;

	(void)snprintf(url, sizeof(url), "https://cluster:%u", (unsigned)join->token.port);
	(void)snprintf(addr, sizeof(addr), v6 ? "[%s]" : "%s", join->token.addr);
	call.body = body;
	if (err == 0) {
		err = api_client_create(&cfg, &client, eb);
	}
	if (err == 0) {
		err = api_client_call(client, &call, &result, eb);
		if (err == 0) {
			join->answer = json_deep_copy(result.body);
		}
		api_result_fini(&result);
	}
	api_client_destroy(client);
	json_decref(body);
	return err;
}

static int take_authkey(struct cluster_api *api, const char *hex, struct errbuf *eb)
{
	uint8_t key[CLUSTER_AUTHKEY_BYTES];
	char path[CLUSTER_PATH_MAX + 16];
	unsigned byte;
	int err;

	if (strlen(hex) != 2 * sizeof(key) || strspn(hex, "0123456789abcdef") != 2 * sizeof(key)) {
		return errbuf_set(eb, -EBADMSG, "the cluster's key is malformed");
	}
	for (size_t i = 0; i < sizeof(key); i++) {
		char two[3] = {hex[2 * i], hex[2 * i + 1], '\0'};

		byte = (unsigned)strtoul(two, NULL, 16);
		key[i] = (uint8_t)byte;
	}
	(void)snprintf(path, sizeof(path), "%s/authkey", api->dir);
	err = fs_mkdirs(api->dir, 0700, eb);
	if (err == 0) {
		err = fs_write(path, key, sizeof(key), 0400, eb);
	}
	hash_wipe(key, sizeof(key));
	return err;
}

/* The cluster has said yes. cluster.json last: with it we are in. */
static int join_take(struct cluster_join *join, struct errbuf *eb)
{
	struct cluster_api *api = join->api;
	const char *name = cluster_text(join->file, "name");
	struct json_at at = json_root(join->answer, "the cluster's answer");
	struct json_at conf_at;
	struct cluster_conf conf;
	const char *ca = NULL;
	const char *pem = NULL;
	const char *authkey = NULL;
	int err = json_get_str(&at, "ca_pem", TLS_PEM_MAX, &ca, eb);

	if (err == 0) {
		err = json_get_str(&at, "node_pem", TLS_PEM_MAX, &pem, eb);
	}
	if (err == 0) {
		err = json_get_str(&at, "authkey", AUTHKEY_HEX, &authkey, eb);
	}
	if (err == 0) {
		err = json_get_object(&at, "conf", &conf_at, eb);
	}
	if (err == 0) {
		err = cluster_conf_read(&conf_at, &conf, eb);
	}
	if (err == 0 && (strcmp(conf.node, name) != 0 || cluster_node_find(&conf, name) == NULL ||
	                 conf.founder)) {
		err = errbuf_set(eb, -EBADMSG, "the cluster's answer is for another node");
	}
	if (err == 0) {
		const struct cert_bundle bundle = {
			.ca_pem = ca, .node_pem = pem, .node_key = cluster_text(join->file, "key")};

		err = cert_api_install(api->cfg.certs, name, &bundle, eb);
	}
	if (err == 0) {
		err = take_authkey(api, authkey, eb);
	}
	if (err == 0) {
		err = cluster_conf_save(api->dir, &conf, eb);
	}
	if (err == 0) {
		api->conf = conf;
	}
	return err;
}

static void join_done(void *arg, int err, const struct errbuf *eb)
{
	struct cluster_join *join = arg;
	struct cluster_api *api = join->api;
	char path[CLUSTER_PATH_MAX];

	join->running = false;
	join->eb = *eb;
	if (api->stopped) {
		return;
	}
	join_path(api, path);
	if (err == 0) {
		err = join_take(join, &join->eb);
	}
	if (err == 0 || err == -EACCES) {
		(void)unlink(path); /* with our key in it; refused: it will not help again */
	}
	if (err == 0) {
		err = cluster_begin(api, &join->eb);
	}
	join->err = err;
	if (err != 0) {
		log_err(CLUSTER_TAG, "not admitted text=\"%s\"", errbuf_text(&join->eb, err));
	} else {
		log_info(CLUSTER_TAG, "admitted cluster=%s as=%s", api->conf.name, api->conf.node);
	}
	loop_timer_arm(api->tick, 0);
}

static int join_start(struct cluster_api *api, json_t *file, struct errbuf *eb)
{
	struct cluster_join *join = gw_calloc(1, sizeof(*join));
	int err;

	cluster_join_free(api);
	if (join == NULL) {
		json_decref(file);
		return errbuf_sys(eb, -ENOMEM, "join");
	}
	join->api = api;
	join->file = file;
	api->join = join;
	err = cluster_token_parse(cluster_text(file, "token"), &join->token, eb);
	if (err == 0) {
		err = cluster_work_start(api->works, join_run, join_done, join);
		if (err != 0) {
			(void)errbuf_sys(eb, err, "join");
		}
	}
	if (err != 0) {
		cluster_join_free(api);
		return err;
	}
	join->running = true;
	return 0;
}

/* The key and name that we asked with before stay, if it is the same name. */
static int join_prepare(struct cluster_api *api, const struct json_at *at, json_t **out,
                        struct errbuf *eb)
{
	const struct json_limits limits = {
		.bytes_max = JOIN_FILE_MAX, .depth_max = 4, .values_max = 64};
	const char *token = cluster_text(at->value, "token");
	const char *name = cluster_text(at->value, "name");
	char path[CLUSTER_PATH_MAX];
	char uuid[GUID_TEXT_SIZE];
	struct guid guid;
	char *key = NULL;
	char *csr = NULL;
	json_t *file = NULL;
	int err;

	join_path(api, path);
	if (json_read_file(path, &limits, &file, NULL) == 0 &&
	    strcmp(cluster_text(file, "name"), name) == 0) {
		err = json_object_set(file, "addrs", json_object_get(at->value, "addrs")) != 0 ||
		                      json_object_set_new(file, "token", json_string(token)) != 0
		              ? errbuf_sys(eb, -ENOMEM, "join")
		              : 0;
	} else {
		json_decref(file);
		guid_random(&guid);
		err = tls_key_create(&key, eb);
		if (err == 0) {
			err = tls_csr_create(key, name, &csr, eb);
		}
		file = err != 0 ? NULL
		                : json_pack("{s:s,s:O,s:s,s:s,s:s,s:s}", "name", name, "addrs",
		                            json_object_get(at->value, "addrs"), "token", token,
		                            "uuid", guid_format(&guid, uuid), "key", key, "csr",
		                            csr);
		tls_pem_free(key);
		tls_pem_free(csr);
		if (err == 0 && file == NULL) {
			err = errbuf_sys(eb, -ENOMEM, "join");
		}
	}
	if (err == 0) {
		err = json_write_file(path, file, 0600, eb);
	}
	if (err != 0) {
		json_decref(file);
		file = NULL;
	}
	*out = file;
	return err;
}

void cluster_join_resume(struct cluster_api *api)
{
	const struct json_limits limits = {
		.bytes_max = JOIN_FILE_MAX, .depth_max = 4, .values_max = 64};
	char path[CLUSTER_PATH_MAX];
	struct errbuf eb = {0};
	json_t *file = NULL;
	int err;

	join_path(api, path);
	if (api->present) {
		(void)unlink(path); /* died between cluster.json and here */
		return;
	}
	err = json_read_file(path, &limits, &file, &eb);
	if (err == 0) {
		err = join_start(api, file, &eb);
	}
	if (err != 0 && err != -ENOENT) {
		log_err(CLUSTER_TAG, "joining not taken up again text=\"%s\"",
		        errbuf_text(&eb, err));
	}
}

static int poll_join(struct cluster_waiter *w, json_t **answer, struct errbuf *eb)
{
	struct cluster_api *api = w->api;
	const struct db_object *o;

	if (api->join != NULL && api->join->running) {
		return 0;
	}
	if (api->join != NULL && api->join->err != 0) {
		*eb = api->join->eb;
		return api->join->err;
	}
	if (api->member == NULL) {
		return errbuf_set(eb, -EIO, "%s", api->trouble.text);
	}
	o = db_get(member_db(api->member), DB_NODE, api->conf.node);
	if (!cluster_is_active(api, NULL) || o == NULL ||
	    strcmp(cluster_text(o->doc, "state"), NODE_MEMBER) != 0) {
		return 0;
	}
	*answer = cluster_show(api);
	return *answer != NULL ? 1 : -ENOMEM;
}

static int join_check(struct cluster_api *api, const struct json_at *at, struct cluster_node *node,
                      struct errbuf *eb)
{
	static const char *const known[] = {"name", "addrs", "token"};
	struct cluster_token token;
	const char *text = NULL;
	int err = json_check_members(at, known, ARRAY_LEN(known), eb);

	if (err == 0) {
		err = cluster_node_read(at, node, eb);
	}
	if (err == 0) {
		err = json_get_str(at, "token", CLUSTER_TOKEN_MAX, &text, eb);
	}
	if (err == 0) {
		err = cluster_token_parse(text, &token, eb);
	}
	for (uint32_t i = 0; err == 0 && i < CLUSTER_LINKS_MAX && node->addr[i][0] != '\0'; i++) {
		if (!cluster_addr_local(node->addr[i])) {
			err = errbuf_set(eb, -EADDRNOTAVAIL, "%s is no address of this host",
			                 node->addr[i]);
			errbuf_hint(eb, "run godwit node add on the node that is to be added");
		}
	}
	if (err == 0 && cert_api_authority(api->cfg.certs)) {
		err = errbuf_set(eb, -EEXIST, "this node has a CA of its own");
		errbuf_hint(eb,
		            "those who trust it would not know this node any more; move %s away",
		            cert_api_dir(api->cfg.certs));
	}
	return err;
}

enum api_then cluster_on_join(struct api_req *req, void *arg)
{
	struct cluster_api *api = arg;
	struct json_at at = json_root(api_req_body(req), "");
	const struct cluster_waiter wait = {
		.poll = poll_join, .what = "joining the cluster", .deadline_ns = JOIN_WAIT_NS};
	struct cluster_node node;
	struct errbuf eb = {0};
	json_t *file = NULL;
	int err;

	if (!cluster_is_local(req)) {
		return API_ANSWERED;
	}
	err = join_check(api, &at, &node, &eb);
	if (err == 0 && api->leaving) {
		err = errbuf_set(&eb, -EBUSY, "this node is leaving cluster %s", api->conf.name);
	}
	if (err == 0 && api->present && strcmp(api->conf.node, node.name) != 0) {
		err = errbuf_set(&eb, -EEXIST, "this node is %s of cluster %s", api->conf.node,
		                 api->conf.name);
	}
	if (err == 0 && !api->present && (api->join == NULL || !api->join->running)) {
		err = join_prepare(api, &at, &file, &eb);
		if (err == 0) {
			err = join_start(api, file, &eb);
		}
	}
	return err != 0 ? api_reply_errno(req, err, &eb) : cluster_wait(api, req, &wait, NULL);
}

/* ---- the cluster ---- */

int cluster_token_make(struct cluster_api *api, const char *node, char text[CLUSTER_TOKEN_MAX],
                       struct errbuf *eb)
{
	const struct cluster_node *self = cluster_node_find(&api->conf, api->conf.node);
	struct cluster_token token = {.port = api->cfg.join_port};
	char path[CLUSTER_PATH_MAX + 16];
	char *pem = NULL;
	size_t len = 0;
	int err = 0;

	if (self == NULL || !cert_api_can_sign(api->cfg.certs)) {
		err = errbuf_set(eb, -ENOENT, "this node does not have the key of the CA yet");
		errbuf_hint(eb, "make tokens on the node that ran godwit cluster create");
		return err;
	}
	(void)snprintf(path, sizeof(path), "%s/node.pem", cert_api_dir(api->cfg.certs));
	(void)snprintf(token.addr, sizeof(token.addr), "%s", self->addr[0]);
	err = fs_read(path, TLS_PEM_MAX, &pem, &len, eb);
	if (err == 0) {
		err = tls_cert_pin(pem, token.pin, eb);
	}
	if (err == 0) {
		err = cluster_tokens_add(api->dir, node, cluster_now_s(), token.secret, eb);
	}
	if (err == 0) {
		err = cluster_admissions_open(api, eb);
	}
	if (err == 0) {
		(void)cluster_token_text(&token, text);
		log_info(CLUSTER_TAG, "token made for=%s", node);
	}
	hash_wipe(token.secret, sizeof(token.secret));
	free(pem);
	return err;
}

enum api_then cluster_on_token(struct api_req *req, void *arg)
{
	struct cluster_api *api = arg;
	const char *name = api_req_param(req, "name");
	char text[CLUSTER_TOKEN_MAX];
	struct errbuf eb = {0};
	int err = 0;

	if (!cluster_is_local(req)) {
		return API_ANSWERED;
	}
	if (api->member == NULL) {
		err = cluster_none(&eb);
		errbuf_hint(&eb, "godwit cluster create forms one");
	} else if (!tls_name_valid(name)) {
		err = errbuf_set(&eb, -EINVAL, "'%s' cannot be a node's name", name);
	} else if (db_get(member_db(api->member), DB_NODE, name) != NULL &&
	           strcmp(cluster_text(db_get(member_db(api->member), DB_NODE, name)->doc, "state"),
	                  NODE_JOINING) != 0) {
		err = errbuf_set(&eb, -EEXIST, "node %s is in the cluster", name);
		errbuf_hint(&eb, "if it has lost its disk: godwit node evict %s first", name);
	} else {
		err = cluster_token_make(api, name, text, &eb);
	}
	return err != 0 ? api_reply_errno(req, err, &eb)
	                : api_reply(req, 201,
	                            json_pack("{s:s,s:s,s:i}", "node", name, "token", text,
	                                      "valid_s", (int)CLUSTER_TOKEN_S));
}

static void propose_node(struct cluster_api *api, const struct db_object *setting,
                         const struct json_t *want)
{
	json_int_t version = json_integer_value(json_object_get(setting->doc, "conf_version"));
	json_int_t nodeid = json_integer_value(json_object_get(setting->doc, "next_nodeid"));
	json_t *node = json_pack(
		"{s:s,s:I,s:s,s:O,s:O,s:i,s:s,s:i,s:[s]}", "name", cluster_text(want, "name"),
		"nodeid", nodeid, "uuid", cluster_text(want, "uuid"), "addrs",
		json_object_get(want, "addrs"), "port", json_object_get(want, "port"), "votes", 0,
		"state", NODE_JOINING, "conf_version", 0, "keys", cluster_text(want, "pin"));
	json_t *next =
		json_pack("{s:I,s:I}", "conf_version", version + 1, "next_nodeid", nodeid + 1);
	struct db_cmd cmd;

	db_cmd_init(&cmd);
	db_cmd_put(&cmd, DB_NODE, cluster_text(want, "name"), node);
	db_cmd_if_absent(&cmd);
	db_cmd_merge(&cmd, DB_SETTING, "cluster", next);
	db_cmd_if_version(&cmd, setting->version);
	json_decref(node);
	json_decref(next);
	cluster_propose(api, &cmd, "a node joins");
}

/* Would corosync take the list with this node? */
static int admit_fits(const struct cluster_api *api, const json_t *want, struct errbuf *eb)
{
	struct cluster_conf conf = api->conf;
	struct json_at at = json_root(want, "");
	char text[CORO_CONF_TEXT_MAX];
	int err = cluster_conf_from_db(member_db(api->member), &conf, eb);

	if (err == 0 && conf.count == CLUSTER_NODES_MAX) {
		err = errbuf_set(eb, -ENOSPC, "the cluster has %u nodes, the most it can",
		                 CLUSTER_NODES_MAX);
	}
	if (err == 0) {
		err = cluster_node_read(&at, &conf.nodes[conf.count], eb);
	}
	if (err == 0) {
		conf.nodes[conf.count].nodeid = UINT32_MAX;
		conf.count++;
		err = cluster_conf_text(&conf, api->dir, text, eb);
	}
	return err < 0 ? err : 0;
}

/* The certificate comes first: the database must know its key before it is handed out. */
static int admit_sign(const struct cluster_api *api, json_t *want, struct errbuf *eb)
{
	char pin[TLS_PIN_MAX];
	char *node_pem = NULL;
	char *ca_pem = NULL;
	int err;

	if (json_object_get(want, "pin") != NULL) {
		return 0;
	}
	err = cert_api_sign(api->cfg.certs, cluster_text(want, "name"), cluster_text(want, "csr"),
	                    &node_pem, &ca_pem, eb);
	if (err == 0) {
		err = tls_cert_pin(node_pem, pin, eb);
	}
	if (err == 0 && (json_object_set_new(want, "node_pem", json_string(node_pem)) != 0 ||
	                 json_object_set_new(want, "ca_pem", json_string(ca_pem)) != 0 ||
	                 json_object_set_new(want, "pin", json_string(pin)) != 0)) {
		err = errbuf_sys(eb, -ENOMEM, "certificate");
	}
	tls_pem_free(node_pem);
	tls_pem_free(ca_pem);
	return err;
}

static json_t *admit_answer(const struct cluster_api *api, const json_t *want, struct errbuf *eb)
{
	struct cluster_conf conf = api->conf;
	char path[CLUSTER_PATH_MAX + 16];
	char hex[AUTHKEY_HEX + 1];
	char *authkey = NULL;
	json_t *out = NULL;
	const struct cluster_node *n;
	size_t len = 0;
	int err = cluster_conf_from_db(member_db(api->member), &conf, eb);

	(void)snprintf(path, sizeof(path), "%s/authkey", api->dir);
	(void)snprintf(conf.node, sizeof(conf.node), "%s", cluster_text(want, "name"));
	n = cluster_node_find(&conf, conf.node);
	if (err == 0 && (n == NULL || guid_parse(cluster_text(want, "uuid"), &conf.uuid) != 0)) {
		err = errbuf_set(eb, -EINVAL, "the request makes no sense");
	}
	if (err == 0) {
		err = fs_read(path, CLUSTER_AUTHKEY_BYTES, &authkey, &len, eb);
	}
	if (err == 0 && n != NULL && len == CLUSTER_AUTHKEY_BYTES) {
		hash_hex(authkey, len, hex);
		conf.nodeid = n->nodeid;
		conf.founder = false;
		out = json_pack("{s:o?,s:s,s:s,s:s}", "conf", cluster_conf_json(&conf), "ca_pem",
		                cluster_text(want, "ca_pem"), "node_pem",
		                cluster_text(want, "node_pem"), "authkey", hex);
		hash_wipe(hex, sizeof(hex));
	}
	if (authkey != NULL) {
		hash_wipe(authkey, len);
	}
	free(authkey);
	return out;
}

static int poll_admit(struct cluster_waiter *w, json_t **answer, struct errbuf *eb)
{
	struct cluster_api *api = w->api;
	const struct db_object *setting;
	const struct db_object *node;
	const char *who;
	int err;

	if (api->member == NULL) {
		return cluster_none(eb);
	}
	setting = db_get(member_db(api->member), DB_SETTING, "cluster");
	if (!cluster_is_active(api, NULL) || setting == NULL) {
		return 0;
	}
	err = admit_sign(api, w->args, eb);
	if (err != 0) {
		return err;
	}
	node = db_get(member_db(api->member), DB_NODE, w->name);
	if (node == NULL) {
		err = admit_fits(api, w->args, eb);
		if (err == 0 && !api->proposing && cluster_settled(api, &who)) {
			propose_node(api, setting, w->args);
		}
		return err;
	}
	if (strcmp(cluster_text(node->doc, "uuid"), cluster_text(w->args, "uuid")) != 0) {
		(void)errbuf_set(eb, -EEXIST, "another node is %s already", w->name);
		errbuf_hint(eb, "if it is this one and lost its disk: godwit node evict %s there",
		            w->name);
		return -EEXIST;
	}
	if (!cluster_settled(api, &who)) {
		return 0;
	}
	*answer = admit_answer(api, w->args, eb);
	return *answer != NULL ? 1 : errbuf_set(eb, -EIO, "cannot admit: %s", eb->text);
}

static enum api_then on_admit(struct api_req *req, void *arg)
{
	static const char *const known[] = {"secret", "name", "addrs", "uuid", "csr", "port"};
	struct cluster_api *api = arg;
	struct json_at at = json_root(api_req_body(req), "");
	struct cluster_waiter wait = {
		.poll = poll_admit, .what = "admitting the node", .deadline_ns = ADMIT_WAIT_NS};
	struct cluster_node node;
	const char *secret = NULL;
	const char *uuid = NULL;
	const char *csr = NULL;
	uint64_t port = 0;
	struct guid guid;
	struct errbuf eb = {0};
	int err = json_check_members(&at, known, ARRAY_LEN(known), &eb);

	if (err == 0) {
		err = cluster_node_read(&at, &node, &eb);
	}
	if (err == 0) {
		err = json_get_u64(&at, "port", 0, UINT16_MAX, &port, &eb);
	}
	if (err == 0) {
		err = json_get_str(&at, "secret", CLUSTER_SECRET_HEX - 1, &secret, &eb);
	}
	if (err == 0) {
		err = json_get_str(&at, "uuid", GUID_TEXT_SIZE - 1, &uuid, &eb);
	}
	if (err == 0 && (guid_parse(uuid, &guid) != 0 || guid_is_nil(&guid))) {
		err = errbuf_set(&eb, -EINVAL, "uuid: not a GUID");
	}
	if (err == 0) {
		err = json_get_str(&at, "csr", TLS_PEM_MAX, &csr, &eb);
	}
	if (err == 0) {
		const struct cluster_claim claim = {
			.node = node.name, .secret = secret, .csr = csr};

		err = cluster_tokens_use(api->dir, &claim, cluster_now_s(), &eb);
	}
	if (err != 0) {
		log_warn(CLUSTER_TAG, "admission refused addr=%s text=\"%s\"",
		         api_req_peer(req)->addr, errbuf_text(&eb, err));
		return api_reply_errno(req, err, &eb);
	}
	(void)snprintf(wait.name, sizeof(wait.name), "%s", node.name);
	log_info(CLUSTER_TAG, "a node asks for admission name=%s addr=%s", node.name,
	         api_req_peer(req)->addr);
	return cluster_wait(api, req, &wait, json_deep_copy(api_req_body(req)));
}

static const struct api_route admit_routes[] = {
	{API_POST, "/v1/join", on_admit},
};

int cluster_admissions_open(struct cluster_api *api, struct errbuf *eb)
{
	const struct api_server_cfg cfg = {
		.loop = api->cfg.loop, .conn_max = 16, .body_bytes_max = TLS_PEM_MAX};
	const char *dir = cert_api_dir(api->cfg.certs);
	char cert[CLUSTER_PATH_MAX];
	char key[CLUSTER_PATH_MAX];
	char ca[CLUSTER_PATH_MAX];
	const struct tls_cfg tls = {
		.cert_file = cert, .key_file = key, .ca_file = ca, .strangers = true};
	int err;

	if (api->admissions != NULL) {
		return 0;
	}
	(void)snprintf(cert, sizeof(cert), "%.4000s/node.pem", dir);
	(void)snprintf(key, sizeof(key), "%.4000s/node.key", dir);
	(void)snprintf(ca, sizeof(ca), "%.4000s/ca.pem", dir);
	err = tls_ctx_create(&tls, &api->admissions_tls, eb);
	if (err == 0) {
		err = api_server_create(&cfg, &api->admissions, eb);
	}
	if (err == 0) {
		err = api_server_routes(api->admissions, admit_routes, ARRAY_LEN(admit_routes),
		                        api);
	}
	if (err == 0) {
		err = api_server_listen_tls(api->admissions, api->listen_addr, api->cfg.join_port,
		                            api->admissions_tls, eb);
	}
	if (err != 0) {
		cluster_admissions_close(api);
	} else {
		log_info(CLUSTER_TAG, "admitting nodes port=%u", (unsigned)api->cfg.join_port);
	}
	return err;
}

void cluster_admissions_close(struct cluster_api *api)
{
	api_server_destroy(api->admissions);
	api->admissions = NULL;
	tls_ctx_destroy(api->admissions_tls);
	api->admissions_tls = NULL;
}
