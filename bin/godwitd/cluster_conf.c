/* SPDX-License-Identifier: Apache-2.0 */
#include "bin/godwitd/cluster_conf.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/errbuf.h"
#include "base/fs.h"
#include "base/log.h"
#include "cluster/db/db.h"

#define TAG "cluster"
#define CONF_FILE_MAX (64u << 10) /* 32 nodes are some 5 KiB */
#define COROSYNC_DIR "/etc/corosync"
#define COROSYNC_CONF COROSYNC_DIR "/corosync.conf"
#define COROSYNC_KEPT COROSYNC_DIR "/corosync.conf.before-godwit"
#define CONF_OURS "# Written by godwitd"
#define VERSION_MAX ((uint64_t)INT64_MAX)

/* ---- JSON ---- */

json_t *cluster_node_addrs(const struct cluster_node *node)
{
	struct json_build b;
	json_t *out = NULL;

	json_build_array(&b);
	for (uint32_t i = 0; i < CLUSTER_LINKS_MAX && node->addr[i][0] != '\0'; i++) {
		json_add_str(&b, NULL, node->addr[i]);
	}
	return json_build_end(&b, &out) == 0 ? out : NULL;
}

static void conf_add_node(struct json_build *nodes, const struct cluster_node *n)
{
	struct json_build b;

	json_build_object(&b);
	json_add_str(&b, "name", n->name);
	json_add_u64(&b, "nodeid", n->nodeid);
	json_add_u64(&b, "votes", n->votes);
	json_add_u64(&b, "port", n->port);
	json_add(&b, "addrs", cluster_node_addrs(n));
	json_add_build(nodes, NULL, &b);
}

json_t *cluster_conf_json(const struct cluster_conf *conf)
{
	char text[GUID_TEXT_SIZE];
	struct json_build b;
	struct json_build nodes;
	json_t *out = NULL;

	json_build_object(&b);
	json_add_str(&b, "name", conf->name);
	json_add_str(&b, "cluster", guid_format(&conf->cluster, text));
	json_add_str(&b, "uuid", guid_format(&conf->uuid, text));
	json_add_str(&b, "node", conf->node);
	json_add_u64(&b, "nodeid", conf->nodeid);
	json_add_bool(&b, "founder", conf->founder);
	json_add_u64(&b, "token_ms", conf->token_ms);
	json_add_u64(&b, "version", conf->version);
	json_add_u64(&b, "witness", conf->witness);
	json_build_array(&nodes);
	for (uint32_t i = 0; i < conf->count; i++) {
		conf_add_node(&nodes, &conf->nodes[i]);
	}
	json_add_build(&b, "nodes", &nodes);
	return json_build_end(&b, &out) == 0 ? out : NULL;
}

static int read_name(const struct json_at *at, const char *key, char out[TLS_NAME_MAX],
                     struct errbuf *eb)
{
	const char *text = NULL;
	int err = json_get_str(at, key, TLS_NAME_MAX - 1, &text, eb);

	if (err == 0 && !tls_name_valid(text)) {
		err = json_error(at, eb, -EINVAL, "%s: '%s' cannot be a name", key, text);
		errbuf_hint(eb, "letters, digits, '-', '.' and '_'; at most 63");
	}
	if (err == 0) {
		memcpy(out, text, strlen(text) + 1);
	}
	return err;
}

static int read_guid(const struct json_at *at, const char *key, struct guid *out, struct errbuf *eb)
{
	const char *text = NULL;
	int err = json_get_str(at, key, GUID_TEXT_SIZE, &text, eb);

	return err == 0 && guid_parse(text, out) != 0
	               ? json_error(at, eb, -EINVAL, "%s: not a GUID", key)
	               : err;
}

static int read_addrs(const struct json_at *at, struct cluster_node *out, struct errbuf *eb)
{
	struct json_at list;
	struct in6_addr binary;
	const char *text = NULL;
	int err = json_get_array(at, "addrs", CLUSTER_LINKS_MAX, &list, eb);

	if (err == 0 && json_array_size(list.value) == 0) {
		err = json_error(&list, eb, -EINVAL, "one or two addresses");
	}
	for (size_t i = 0; err == 0 && i < json_array_size(list.value); i++) {
		struct json_at one = json_element(&list, i);

		err = json_as_str(&one, INET6_ADDRSTRLEN - 1, &text, eb);
		if (err == 0 && inet_pton(AF_INET, text, &binary) != 1 &&
		    inet_pton(AF_INET6, text, &binary) != 1) {
			err = json_error(&one, eb, -EINVAL, "'%s' is no numeric address", text);
			errbuf_hint(eb, "names would need a resolver when the network fails");
		}
		if (err == 0) {
			(void)snprintf(out->addr[i], sizeof(out->addr[i]), "%s", text);
		}
	}
	return err;
}

int cluster_node_read(const struct json_at *at, struct cluster_node *out, struct errbuf *eb)
{
	struct cluster_node n = {.votes = 0};
	uint64_t nodeid = 0;
	uint64_t votes = 0;
	uint64_t port = 0;
	int err = read_name(at, "name", n.name, eb);

	if (err == 0) {
		err = read_addrs(at, &n, eb);
	}
	if (err == 0) {
		err = json_opt_u64(at, "nodeid", 1, UINT32_MAX, &nodeid, eb);
	}
	if (err == 0) {
		err = json_opt_u64(at, "votes", 0, 255, &votes, eb);
	}
	if (err == 0) {
		err = json_opt_u64(at, "port", 0, UINT16_MAX, &port, eb);
	}
	if (err == 0) {
		n.nodeid = (uint32_t)nodeid;
		n.votes = (uint32_t)votes;
		n.port = (uint16_t)port;
		*out = n;
	}
	return err;
}

static int read_nodes(const struct json_at *at, struct cluster_conf *out, struct errbuf *eb)
{
	struct json_at list;
	int err = json_get_array(at, "nodes", CLUSTER_NODES_MAX, &list, eb);

	for (size_t i = 0; err == 0 && i < json_array_size(list.value); i++) {
		struct json_at one = json_element(&list, i);

		err = cluster_node_read(&one, &out->nodes[i], eb);
		if (err == 0 && out->nodes[i].nodeid == 0) {
			err = json_error(&one, eb, -EINVAL, "has no number");
		}
		out->count = (uint32_t)i + 1;
	}
	return err;
}

int cluster_conf_read(const struct json_at *at, struct cluster_conf *out, struct errbuf *eb)
{
	struct cluster_conf c = {.count = 0};
	uint64_t nodeid = 0;
	uint64_t token_ms = 0;
	uint64_t witness = 0;
	int err = read_name(at, "name", c.name, eb);

	if (err == 0) {
		err = read_guid(at, "cluster", &c.cluster, eb);
	}
	if (err == 0) {
		err = read_guid(at, "uuid", &c.uuid, eb);
	}
	if (err == 0) {
		err = read_name(at, "node", c.node, eb);
	}
	if (err == 0) {
		err = json_get_u64(at, "nodeid", 1, UINT32_MAX, &nodeid, eb);
	}
	if (err == 0) {
		err = json_opt_bool(at, "founder", &c.founder, eb);
	}
	if (err == 0) {
		err = json_get_u64(at, "token_ms", CORO_CONF_TOKEN_MIN_MS, CORO_CONF_TOKEN_MAX_MS,
		                   &token_ms, eb);
	}
	if (err == 0) {
		err = json_get_u64(at, "version", 1, VERSION_MAX, &c.version, eb);
	}
	if (err == 0) {
		err = json_opt_u64(at, "witness", 0, 1, &witness, eb);
	}
	if (err == 0) {
		err = read_nodes(at, &c, eb);
	}
	if (err == 0) {
		c.nodeid = (uint32_t)nodeid;
		c.token_ms = (uint32_t)token_ms;
		c.witness = (uint32_t)witness;
		*out = c;
	}
	return err;
}

/* ---- the file ---- */

static void conf_path(const char *dir, char path[CLUSTER_PATH_MAX])
{
	(void)snprintf(path, CLUSTER_PATH_MAX, "%.4000s/cluster.json", dir);
}

int cluster_conf_load(const char *dir, struct cluster_conf *out, struct errbuf *eb)
{
	const struct json_limits limits = {
		.bytes_max = CONF_FILE_MAX, .depth_max = 8, .values_max = 4096};
	char path[CLUSTER_PATH_MAX];
	json_t *json = NULL;
	int err;

	conf_path(dir, path);
	err = json_read_file(path, &limits, &json, eb);
	if (err == 0) {
		struct json_at at = json_root(json, path);

		err = cluster_conf_read(&at, out, eb);
	}
	json_decref(json);
	return err;
}

int cluster_conf_save(const char *dir, const struct cluster_conf *conf, struct errbuf *eb)
{
	char path[CLUSTER_PATH_MAX];
	json_t *json = cluster_conf_json(conf);
	int err;

	conf_path(dir, path);
	err = json == NULL ? errbuf_sys(eb, -ENOMEM, "%s", path) : fs_mkdirs(dir, 0700, eb);
	if (err == 0) {
		err = json_write_file(path, json, 0600, eb);
	}
	json_decref(json);
	return err;
}

int cluster_conf_from_db(const struct db *db, struct cluster_conf *conf, struct errbuf *eb)
{
	const struct db_object *setting = db_get(db, DB_SETTING, "cluster");
	const struct db_object *witness = db_get(db, DB_WITNESS, "witness");
	uint64_t token_ms = 0;
	uint64_t version = 0;
	uint32_t count = 0;
	int err;

	if (setting == NULL) {
		return errbuf_set(eb, -ENOENT, "the cluster database has no nodes yet");
	}
	if (db_count(db, DB_NODE) > CLUSTER_NODES_MAX) {
		return errbuf_set(eb, -EBADMSG, "the cluster database has too many nodes");
	}
	const struct json_at root = json_root(setting->doc, "cluster");

	err = json_get_u64(&root, "conf_version", 1, VERSION_MAX, &version, eb);
	if (err == 0) {
		err = json_get_u64(&root, "token_ms", CORO_CONF_TOKEN_MIN_MS,
		                   CORO_CONF_TOKEN_MAX_MS, &token_ms, eb);
	}
	struct cluster_node nodes[CLUSTER_NODES_MAX];

	for (size_t i = 0; err == 0 && i < db_count(db, DB_NODE); i++) {
		const struct db_object *o = db_at(db, DB_NODE, i);
		const struct json_at at = json_root(o->doc, o->key);

		err = cluster_node_read(&at, &nodes[count], eb);
		count++;
	}
	if (err != 0) {
		return -EBADMSG;
	}
	memcpy(conf->nodes, nodes, count * sizeof(nodes[0]));
	conf->count = count;
	conf->version = version;
	conf->token_ms = (uint32_t)token_ms;
	conf->witness =
		witness != NULL && json_integer_value(json_object_get(witness->doc, "votes")) > 0;
	return 0;
}

/* ---- corosync.conf ---- */

int cluster_conf_text(const struct cluster_conf *conf, const char *dir, char *buf,
                      struct errbuf *eb)
{
	struct coro_conf_node nodes[CLUSTER_NODES_MAX];
	char keyfile[CLUSTER_PATH_MAX];
	const struct coro_conf c = {
		.cluster = conf->name,
		.keyfile = keyfile,
		.config_version = conf->version,
		.token_ms = conf->token_ms,
		.count = conf->count,
		.nodes = nodes,
		.witness = conf->witness,
	};

	(void)snprintf(keyfile, sizeof(keyfile), "%.4000s/authkey", dir);
	for (uint32_t i = 0; i < conf->count; i++) {
		const struct cluster_node *n = &conf->nodes[i];

		nodes[i] = (struct coro_conf_node){
			.name = n->name,
			.addr = {n->addr[0], n->addr[1][0] != '\0' ? n->addr[1] : NULL},
			.nodeid = n->nodeid,
			.votes = n->votes};
	}
	return coro_conf_text(&c, buf, eb);
}

static uint32_t count_word(const char *text, const char *word)
{
	uint32_t count = 0;

	for (const char *at = strstr(text, word); at != NULL; at = strstr(at + 1, word)) {
		count++;
	}
	return count;
}

/* Debian's package brings one of a single node, which nobody misses. */
static int conf_keep_other(struct errbuf *eb)
{
	char *text = NULL;
	size_t len = 0;
	int err = fs_read(COROSYNC_CONF, 1u << 20, &text, &len, eb);
	bool ours = err == 0 && strncmp(text, CONF_OURS, sizeof(CONF_OURS) - 1) == 0;
	bool many = err == 0 && count_word(text, "ring0_addr") > 1;

	free(text);
	if (err == -ENOENT || ours) {
		return 0;
	}
	if (err == 0 && many) {
		(void)errbuf_set(eb, -EEXIST, COROSYNC_CONF " belongs to another cluster");
		errbuf_hint(eb, "if that cluster is no more: stop corosync and move the file away");
		return -EEXIST;
	}
	if (err == 0 && rename(COROSYNC_CONF, COROSYNC_KEPT) != 0) {
		err = errbuf_sys(eb, -errno, "cannot keep " COROSYNC_CONF);
	}
	if (err == 0) {
		log_warn(TAG, "another corosync.conf was kept file=" COROSYNC_KEPT);
	}
	return err;
}

int cluster_conf_apply(const struct cluster_conf *conf, const char *dir, struct errbuf *eb)
{
	char text[CORO_CONF_TEXT_MAX];
	int len = cluster_conf_text(conf, dir, text, eb);
	int err = len < 0 ? len : conf_keep_other(eb);

	if (err == 0) {
		err = fs_mkdirs(COROSYNC_DIR, 0755, eb);
	}
	return err != 0 ? err : fs_write(COROSYNC_CONF, text, (size_t)len, 0644, eb);
}

/* ---- looking ---- */

const struct cluster_node *cluster_node_find(const struct cluster_conf *conf, const char *name)
{
	for (uint32_t i = 0; i < conf->count; i++) {
		if (strcmp(conf->nodes[i].name, name) == 0) {
			return &conf->nodes[i];
		}
	}
	return NULL;
}

bool cluster_addr_local(const char *addr)
{
	struct sockaddr_in in = {.sin_family = AF_INET};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
	bool v4 = inet_pton(AF_INET, addr, &in.sin_addr) == 1;
	int fd;
	bool local;

	if (!v4 && inet_pton(AF_INET6, addr, &in6.sin6_addr) != 1) {
		return false;
	}
	/* The kernel lets a socket be bound to the addresses of the host only. */
	fd = socket(v4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	local = fd >= 0 &&
	        bind(fd, v4 ? (const struct sockaddr *)&in : (const struct sockaddr *)&in6,
	             v4 ? sizeof(in) : sizeof(in6)) == 0;
	if (fd >= 0) {
		(void)close(fd);
	}
	return local;
}
