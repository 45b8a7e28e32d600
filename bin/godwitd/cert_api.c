/* SPDX-License-Identifier: Apache-2.0 */
#include "bin/godwitd/cert_api.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/api/server.h"
#include "base/clock.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/log.h"
#include "base/tls.h"

#define TAG "cert-api"
#define CERT_DIR_MAX 3900u
#define CERT_PATH_MAX 4000u

struct cert_api {
	struct api_server *server; /* borrowed */
	char dir[CERT_DIR_MAX];
	char addr[64];
	uint16_t port;
	struct tls_ctx *tls;   /* owned; NULL = no identity yet */
	char pin[TLS_PIN_MAX]; /* of our key; "" = no identity yet */
	struct cert_hooks hooks;
};

/* A file of the identity, as text. */
struct cert_text {
	char *ca_pem, *ca_key, *node_pem, *node_key; /* owned; NULL = not there */
};

static int64_t cert_now_s(void)
{
	return (int64_t)(clock_wall_ns() / NS_PER_S);
}

static void cert_path(const struct cert_api *api, const char *file, char *path)
{
	(void)snprintf(path, CERT_PATH_MAX, "%s/%s", api->dir, file);
}

static void cert_text_free(struct cert_text *t)
{
	tls_pem_free(t->ca_pem);
	tls_pem_free(t->ca_key);
	tls_pem_free(t->node_pem);
	tls_pem_free(t->node_key);
	*t = (struct cert_text){0};
}

/* ---- becoming somebody ---- */

static int cert_put(const struct cert_api *api, const char *file, const char *pem, mode_t mode,
                    struct errbuf *eb)
{
	char path[CERT_PATH_MAX];

	cert_path(api, file, path);
	return fs_write(path, pem, strlen(pem), mode, eb);
}

/* Certificate last: without it there is no identity, whatever else is there. */
static int cert_store(const struct cert_api *api, const struct cert_text *t, struct errbuf *eb)
{
	int err = fs_mkdirs(api->dir, 0700, eb);

	if (err == 0 && t->ca_key != NULL) {
		err = cert_put(api, "ca.key", t->ca_key, 0600, eb);
	}
	if (err == 0) {
		err = cert_put(api, "ca.pem", t->ca_pem, 0644, eb);
	}
	if (err == 0) {
		err = cert_put(api, "node.key", t->node_key, 0600, eb);
	}
	return err != 0 ? err : cert_put(api, "node.pem", t->node_pem, 0644, eb);
}

static bool cert_allow(const struct tls_peer *peer, void *arg)
{
	const struct cert_api *api = arg;

	return api->hooks.allow == NULL || api->hooks.allow(peer, api->hooks.arg);
}

static int cert_pin_read(struct cert_api *api, struct errbuf *eb)
{
	char path[CERT_PATH_MAX];
	char *pem = NULL;
	size_t len;
	int err;

	cert_path(api, "node.pem", path);
	err = fs_read(path, TLS_PEM_MAX, &pem, &len, eb);
	if (err == 0) {
		err = tls_cert_pin(pem, api->pin, eb);
	}
	tls_pem_free(pem);
	return err;
}

static int cert_listen(struct cert_api *api, struct errbuf *eb)
{
	char cert[CERT_PATH_MAX];
	char key[CERT_PATH_MAX];
	char ca[CERT_PATH_MAX];
	const struct tls_cfg cfg = {
		.cert_file = cert, .key_file = key, .ca_file = ca, .allow = cert_allow, .arg = api};
	int err;

	cert_path(api, "node.pem", cert);
	cert_path(api, "node.key", key);
	cert_path(api, "ca.pem", ca);
	if (api->tls != NULL) {
		err = tls_ctx_reload(api->tls, eb);
		return err != 0 ? err : cert_pin_read(api, eb);
	}
	err = tls_ctx_create(&cfg, &api->tls, eb);
	if (err != 0) {
		api->tls = NULL;
		return err;
	}
	err = cert_pin_read(api, eb);
	if (err != 0) {
		return err;
	}
	err = api_server_listen_tls(api->server, api->addr, api->port, api->tls, eb);
	if (err == 0) {
		log_info(TAG, "listening for nodes addr=%s port=%u as=%s", api->addr, api->port,
		         tls_ctx_self(api->tls)->name);
	}
	return err;
}

/* The certificate of @ca for the key of @csr. */
static int cert_sign(const struct cert_text *ca, const char *node, const char *csr, char **pem,
                     struct errbuf *eb)
{
	const struct tls_issue issue = {
		.ca_cert_pem = ca->ca_pem,
		.ca_key_pem = ca->ca_key,
		.csr_pem = csr,
		.kind = TLS_KIND_NODE,
		.name = node,
		.days = CERT_DAYS_NODE,
		.now_s = cert_now_s(),
	};

	return tls_cert_issue(&issue, pem, eb);
}

/* A key and the certificate of @ca for it. */
static int cert_issue(const struct cert_text *ca, const char *node, char **pem, char **key,
                      struct errbuf *eb)
{
	char *csr = NULL;
	int err = tls_key_create(key, eb);

	if (err == 0) {
		err = tls_csr_create(*key, node, &csr, eb);
	}
	if (err == 0) {
		err = cert_sign(ca, node, csr, pem, eb);
	}
	tls_pem_free(csr);
	return err;
}

/* ---- requests ---- */

/* Answers, and returns false, if @req is not from this host itself. */
static bool cert_is_local(struct api_req *req)
{
	struct errbuf eb = {0};

	if (api_req_peer(req)->local) {
		return true;
	}
	(void)errbuf_set(&eb, -EACCES, "a node's certificates are changed on the node itself");
	(void)api_reply_errno(req, -EACCES, &eb);
	return false;
}

static json_t *cert_answer(const struct cert_api *api)
{
	const struct tls_cert_info *self = api->tls != NULL ? tls_ctx_self(api->tls) : NULL;
	struct json_build b;
	json_t *out = NULL;

	json_build_object(&b);
	json_add_bool(&b, "present", self != NULL);
	json_add_str(&b, "directory", api->dir);
	if (self != NULL) {
		json_add_str(&b, "node", self->name);
		json_add_str(&b, "serial", self->serial);
		json_add_i64(&b, "not_before", self->not_before_s);
		json_add_i64(&b, "not_after", self->not_after_s);
		json_add_bool(&b, "renew_due", tls_cert_renew_due(self, cert_now_s()));
		json_add_u64(&b, "port", api_server_tls_port(api->server));
	}
	json_add_bool(&b, "authority", cert_api_can_sign(api));
	return json_build_end(&b, &out) == 0 ? out : NULL;
}

static enum api_then on_show(struct api_req *req, void *arg)
{
	return api_reply(req, 200, cert_answer(arg));
}

/* Take over @t: files, then the socket. Answers @req. */
static int cert_take(struct cert_api *api, const struct cert_text *t, struct errbuf *eb)
{
	int err = cert_store(api, t, eb);

	return err != 0 ? err : cert_listen(api, eb);
}

static enum api_then cert_become(struct cert_api *api, struct api_req *req,
                                 const struct cert_text *t, struct errbuf *eb)
{
	int err = cert_take(api, t, eb);

	return err != 0 ? api_reply_errno(req, err, eb) : api_reply(req, 201, cert_answer(api));
}

static int cert_init_read(const struct api_req *req, const char **name, const char **node,
                          struct errbuf *eb)
{
	static const char *const known[] = {"name", "node"};
	struct json_at at = json_root(api_req_body(req), "");
	int err = json_check_members(&at, known, ARRAY_LEN(known), eb);

	if (err == 0) {
		err = json_get_str(&at, "name", TLS_NAME_MAX - 1, name, eb);
	}
	if (err == 0) {
		err = json_get_str(&at, "node", TLS_NAME_MAX - 1, node, eb);
	}
	if (err == 0 && (!tls_name_valid(*name) || !tls_name_valid(*node))) {
		err = errbuf_set(eb, -EINVAL, "'%s' cannot be a name",
		                 tls_name_valid(*name) ? *node : *name);
		errbuf_hint(eb, "letters, digits, '-', '.' and '_'; at most 63");
	}
	return err;
}

/* A CA of our own, and its first certificate. */
static int cert_found(const char *name, const char *node, struct cert_text *t, struct errbuf *eb)
{
	int err = tls_ca_create(name, CERT_DAYS_CA, cert_now_s(), &t->ca_key, &t->ca_pem, eb);

	return err != 0 ? err : cert_issue(t, node, &t->node_pem, &t->node_key, eb);
}

int cert_api_init(struct cert_api *api, const char *name, const char *node, struct errbuf *eb)
{
	struct cert_text t = {0};
	int err = cert_found(name, node, &t, eb);

	if (err == 0) {
		err = cert_take(api, &t, eb);
	}
	cert_text_free(&t);
	return err;
}

static enum api_then on_init(struct api_req *req, void *arg)
{
	struct cert_api *api = arg;
	struct cert_text t = {0};
	const char *name = NULL;
	const char *node = NULL;
	struct errbuf eb = {0};
	enum api_then then;
	int err;

	if (!cert_is_local(req)) {
		return API_ANSWERED;
	}
	if (api->tls != NULL) {
		(void)errbuf_set(&eb, -EEXIST, "this node already is %s", cert_api_node(api));
		errbuf_hint(&eb, "godwit cert show; to begin anew stop godwitd and move %s away",
		            api->dir);
		return api_reply_errno(req, -EEXIST, &eb);
	}
	err = cert_init_read(req, &name, &node, &eb);
	if (err == 0) {
		err = cert_found(name, node, &t, &eb);
	}
	then = err != 0 ? api_reply_errno(req, err, &eb) : cert_become(api, req, &t, &eb);
	cert_text_free(&t);
	return then;
}

int cert_api_ca_key(const struct cert_api *api, char **pem, struct errbuf *eb)
{
	char path[CERT_PATH_MAX];
	size_t len;
	int err;

	*pem = NULL;
	cert_path(api, "ca.key", path);
	err = fs_read(path, TLS_PEM_MAX, pem, &len, eb);
	if (err == -ENOENT && api->hooks.ca_key != NULL) {
		err = api->hooks.ca_key(api->hooks.arg, pem, eb);
	}
	if (err == -ENOENT) {
		(void)errbuf_set(eb, err, "this node does not hold the key of the CA");
		errbuf_hint(eb, "issue certificates on the node that ran godwit cert init");
	}
	return err;
}

bool cert_api_can_sign(const struct cert_api *api)
{
	char *pem = NULL;
	bool can = cert_api_ca_key(api, &pem, NULL) == 0;

	tls_pem_free(pem);
	return can;
}

static int cert_ca_read(const struct cert_api *api, struct cert_text *t, struct errbuf *eb)
{
	char path[CERT_PATH_MAX];
	size_t len;
	int err = cert_api_ca_key(api, &t->ca_key, eb);

	if (err == 0) {
		cert_path(api, "ca.pem", path);
		err = fs_read(path, TLS_PEM_MAX, &t->ca_pem, &len, eb);
	}
	return err;
}

int cert_api_sign(const struct cert_api *api, const char *node, const char *csr_pem,
                  char **node_pem, char **ca_pem, struct errbuf *eb)
{
	struct cert_text t = {0};
	int err = cert_ca_read(api, &t, eb);

	*node_pem = NULL;
	*ca_pem = NULL;
	if (err == 0) {
		err = cert_sign(&t, node, csr_pem, node_pem, eb);
	}
	if (err == 0) {
		*ca_pem = t.ca_pem;
		t.ca_pem = NULL;
		log_info(TAG, "certificate issued node=%s", node);
	}
	cert_text_free(&t);
	return err;
}

static enum api_then on_issue(struct api_req *req, void *arg)
{
	static const char *const known[] = {"node"};
	struct json_at at = json_root(api_req_body(req), "");
	struct cert_text t = {0};
	const char *node = NULL;
	struct errbuf eb = {0};
	json_t *answer = NULL;
	int err;

	if (!cert_is_local(req)) {
		return API_ANSWERED;
	}
	err = json_check_members(&at, known, ARRAY_LEN(known), &eb);
	if (err == 0) {
		err = json_get_str(&at, "node", TLS_NAME_MAX - 1, &node, &eb);
	}
	if (err == 0 && !tls_name_valid(node)) {
		err = errbuf_set(&eb, -EINVAL, "'%s' cannot be a node's name", node);
	}
	if (err == 0) {
		err = cert_ca_read(arg, &t, &eb);
	}
	if (err == 0) {
		err = cert_issue(&t, node, &t.node_pem, &t.node_key, &eb);
	}
	if (err == 0) {
		answer = json_pack("{s:s,s:s,s:s,s:s}", "node", node, "ca_pem", t.ca_pem,
		                   "node_pem", t.node_pem, "node_key", t.node_key);
		log_info(TAG, "certificate issued node=%s", node);
	}
	cert_text_free(&t);
	return err != 0 ? api_reply_errno(req, err, &eb) : api_reply(req, 201, answer);
}

/* Do the pieces belong together, and are they those of @node? Copies them. */
static int cert_check(const char *node, const struct cert_bundle *b, struct cert_text *t,
                      struct errbuf *eb)
{
	struct tls_cert_info info;
	int err = tls_cert_info(b->node_pem, &info, eb);

	if (err == 0 && (info.kind != TLS_KIND_NODE || strcmp(info.name, node) != 0)) {
		err = errbuf_set(eb, -EBADMSG, "the certificate is not that of node %s", node);
	}
	if (err == 0) {
		err = tls_cert_verify(b->node_pem, b->ca_pem, cert_now_s(), eb);
	}
	if (err == 0) {
		err = tls_cert_has_key(b->node_pem, b->node_key, eb);
	}
	if (err == 0) {
		t->ca_pem = gw_strdup(b->ca_pem);
		t->node_pem = gw_strdup(b->node_pem);
		t->node_key = gw_strdup(b->node_key);
		err = t->ca_pem == NULL || t->node_pem == NULL || t->node_key == NULL ? -ENOMEM : 0;
	}
	return err;
}

int cert_api_install(struct cert_api *api, const char *node, const struct cert_bundle *bundle,
                     struct errbuf *eb)
{
	struct cert_text t = {0};
	int err = cert_check(node, bundle, &t, eb);

	if (err == 0) {
		err = cert_take(api, &t, eb);
	}
	cert_text_free(&t);
	return err;
}

/* What `issue` made on the CA's node. */
static int cert_install_read(const struct api_req *req, struct cert_text *t, struct errbuf *eb)
{
	static const char *const known[] = {"node", "ca_pem", "node_pem", "node_key"};
	struct json_at at = json_root(api_req_body(req), "");
	const char *node = NULL;
	const char *text[3] = {NULL, NULL, NULL};
	int err = json_check_members(&at, known, ARRAY_LEN(known), eb);

	if (err == 0) {
		err = json_get_str(&at, "node", TLS_NAME_MAX - 1, &node, eb);
	}
	for (uint32_t i = 0; err == 0 && i < ARRAY_LEN(text); i++) {
		err = json_get_str(&at, known[i + 1], TLS_PEM_MAX, &text[i], eb);
	}
	if (err == 0) {
		const struct cert_bundle b = {
			.ca_pem = text[0], .node_pem = text[1], .node_key = text[2]};

		err = cert_check(node, &b, t, eb);
	}
	return err;
}

static enum api_then on_install(struct api_req *req, void *arg)
{
	struct cert_api *api = arg;
	struct cert_text t = {0};
	struct errbuf eb = {0};
	char path[CERT_PATH_MAX];
	enum api_then then;
	int err;

	if (!cert_is_local(req)) {
		return API_ANSWERED;
	}
	cert_path(api, "ca.key", path);
	if (access(path, F_OK) == 0) {
		(void)errbuf_set(&eb, -EEXIST, "this node has a CA of its own");
		errbuf_hint(&eb, "its certificates would be worth nothing; move %s away first",
		            api->dir);
		return api_reply_errno(req, -EEXIST, &eb);
	}
	err = cert_install_read(req, &t, &eb);
	then = err != 0 ? api_reply_errno(req, err, &eb) : cert_become(api, req, &t, &eb);
	cert_text_free(&t);
	return then;
}

/* ---- life of the module ---- */

static const struct api_route cert_routes[] = {
	{API_GET, "/v1/certs", on_show},
	{API_POST, "/v1/certs/init", on_init},
	{API_POST, "/v1/certs/issue", on_issue},
	{API_POST, "/v1/certs/install", on_install},
};

int cert_api_create(const struct cert_api_cfg *cfg, struct cert_api **out, struct errbuf *eb)
{
	struct cert_api *api = gw_calloc(1, sizeof(*api));
	char path[CERT_PATH_MAX];
	struct errbuf why = {0};
	int err;

	*out = NULL;
	if (api == NULL) {
		return errbuf_sys(eb, -ENOMEM, "cannot serve certificates");
	}
	api->server = cfg->server;
	api->port = cfg->listen_port != 0 ? cfg->listen_port : API_TLS_PORT;
	(void)snprintf(api->dir, sizeof(api->dir), "%.3800s/cert", cfg->state_dir);
	(void)snprintf(api->addr, sizeof(api->addr), "%s", cfg->listen_addr);
	err = api_server_routes(cfg->server, cert_routes, ARRAY_LEN(cert_routes), api);
	if (err != 0) {
		cert_api_destroy(api);
		return errbuf_sys(eb, err, "cannot serve certificates");
	}
	cert_path(api, "node.pem", path);
	if (access(path, F_OK) == 0) {
		err = cert_listen(api, &why);
	}
	if (err != 0) {
		log_err(TAG, "other nodes cannot reach us reason=\"%s\"", errbuf_text(&why, err));
	}
	*out = api;
	return 0;
}

void cert_api_destroy(struct cert_api *api)
{
	if (api != NULL) {
		tls_ctx_destroy(api->tls);
		free(api);
	}
}

const char *cert_api_dir(const struct cert_api *api)
{
	return api->dir;
}

bool cert_api_authority(const struct cert_api *api)
{
	char path[CERT_PATH_MAX];

	cert_path(api, "ca.key", path);
	return access(path, R_OK) == 0;
}

const char *cert_api_node(const struct cert_api *api)
{
	return api->tls != NULL ? tls_ctx_self(api->tls)->name : NULL;
}

void cert_api_hook(struct cert_api *api, const struct cert_hooks *hooks)
{
	api->hooks = *hooks;
}

const char *cert_api_pin(const struct cert_api *api)
{
	return api->pin;
}

bool cert_api_renew_due(const struct cert_api *api)
{
	return api->tls != NULL && tls_cert_renew_due(tls_ctx_self(api->tls), cert_now_s());
}

int cert_api_fresh(const struct cert_api *api, struct cert_fresh *out, struct errbuf *eb)
{
	struct cert_fresh fresh = {0};
	struct cert_text t = {0};
	const char *node = cert_api_node(api);
	int err = node != NULL ? cert_ca_read(api, &t, eb)
	                       : errbuf_set(eb, -ENOENT, "this node has no certificate yet");

	*out = fresh;
	if (err == 0) {
		err = cert_issue(&t, node, &fresh.node_pem, &fresh.key_pem, eb);
	}
	if (err == 0) {
		err = tls_cert_pin(fresh.node_pem, fresh.pin, eb);
	}
	if (err == 0) {
		fresh.ca_pem = t.ca_pem;
		t.ca_pem = NULL;
		*out = fresh;
	} else {
		cert_fresh_fini(&fresh);
	}
	cert_text_free(&t);
	return err;
}

void cert_fresh_fini(struct cert_fresh *fresh)
{
	tls_pem_free(fresh->key_pem);
	tls_pem_free(fresh->node_pem);
	tls_pem_free(fresh->ca_pem);
	*fresh = (struct cert_fresh){0};
}
