/* SPDX-License-Identifier: Apache-2.0 */

/*
 * cluster_trust - who may speak, and the keys that say so.
 *
 * A node is who holds a certificate of the CA for a name and a key that the database lists for that
 * node ("keys" of its object: pins as of tls_cert_pin()). So a certificate alone is worth nothing:
 * an evicted node is out as soon as the others have heard, whatever it still holds, the CA's key
 * included. Each node keeps its own list right:
 *
 *	admission        keys = [new]                      before the certificate is handed out
 *	renewal is due   keys = [old, new] --2 s--> files, TLS --> keys = [new]
 *	another key was installed by hand                  keys = [that]
 *
 * The CA's key is in the database, too, sealed with a key made from corosync's, which only nodes
 * have and which is not in the database: each node can sign, and a copy of the database tells
 * nobody anything. docs/decisions/0162, docs/formats/certs.md.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/tls_seal.h"
#include "bin/godwitd/cert_api.h"
#include "bin/godwitd/cluster_int.h"
#include "bin/godwitd/peer.h"

#define CA_SETTING "ca"
#define CA_LABEL "godwit cluster CA key"
#define KEYS_MAX 4u
#define FRESH_SETTLE_NS (2 * NS_PER_S) /* until all nodes have applied what they acknowledged */
#define RENEW_AGAIN_NS (60 * NS_PER_S)
#define RENEW_WAIT_NS (60 * NS_PER_S)
#define PRUNE_NS (1 * NS_PER_S)

_Static_assert(KEYS_MAX *TLS_PIN_MAX <= PEER_PINS_MAX, "all keys of a node fit");

/* ---- who may speak ---- */

static bool has_key(const json_t *keys, const char *pin)
{
	const json_t *one;
	size_t i;

	json_array_foreach(keys, i, one)
	{
		const char *text = json_string_value(one);

		if (text != NULL && strcmp(text, pin) == 0) {
			return true;
		}
	}
	return false;
}

/* The node's object; NULL: none, and *listed says whether it counts for lack of any list. */
static const struct db_object *trust_find(const struct cluster_api *api, const char *name,
                                          bool *listed)
{
	const struct db *db = api->member != NULL ? member_db(api->member) : NULL;
	const struct db_object *o;

	if (!api->present) {
		*listed = true; /* no cluster: whoever has a certificate of the CA */
		return NULL;
	}
	if (db == NULL || db_count(db, DB_NODE) == 0) {
		*listed = cluster_node_find(&api->conf, name) != NULL; /* not told more yet */
		return NULL;
	}
	o = db_get(db, DB_NODE, name);
	*listed = o != NULL && strcmp(cluster_text(o->doc, "state"), NODE_LEFT) != 0;
	return *listed ? o : NULL;
}

static bool trust_node(const struct cluster_api *api, const char *name, const char *pin)
{
	bool listed = false;
	const struct db_object *o = trust_find(api, name, &listed);
	const json_t *keys = o != NULL ? json_object_get(o->doc, "keys") : NULL;

	return listed && (!json_is_array(keys) || has_key(keys, pin));
}

static bool trust_tls(const struct tls_peer *peer, void *arg)
{
	return peer->kind != TLS_KIND_NODE || trust_node(arg, peer->name, peer->pin);
}

static bool trust_api(const struct api_peer *peer, void *arg)
{
	return !peer->node || trust_node(arg, peer->name, peer->pin);
}

/* Whom we call must have the key that the database knows; while ours may be old, a certificate will
 * do: it may have been renewed, and we would never hear of it. */
static int trust_known(void *arg, const char *node, char *pins, struct errbuf *eb)
{
	const struct cluster_api *api = arg;
	bool listed = false;
	const struct db_object *o = trust_find(api, node, &listed);
	const json_t *keys = o != NULL ? json_object_get(o->doc, "keys") : NULL;
	size_t len = 0;

	pins[0] = '\0';
	if (!listed || (json_is_array(keys) && json_array_size(keys) == 0)) {
		(void)errbuf_set(eb, -EACCES, "%s is not a node of cluster %s", node,
		                 api->conf.name);
		errbuf_hint(eb, "godwit node list shows which are");
		return -EACCES;
	}
	for (size_t i = 0;
	     cluster_is_active(api, NULL) && i < json_array_size(keys) && i < KEYS_MAX; i++) {
		const char *text = json_string_value(json_array_get(keys, i));

		if (text != NULL && strlen(text) < TLS_PIN_MAX) {
			len += (size_t)snprintf(pins + len, PEER_PINS_MAX - len, "%s%s",
			                        len != 0 ? ";" : "", text);
		}
	}
	return 0;
}

void cluster_trust_expel(struct cluster_api *api)
{
	uint64_t index = api->member != NULL ? db_index(member_db(api->member)) : 0;

	if (index != api->trust_index) {
		api->trust_index = index;
		api_server_expel(api->cfg.server);
	}
}

/* ---- the CA's key ---- */

int cluster_seal_key(const char *dir, const char *label, struct tls_seal *seal, struct errbuf *eb)
{
	char path[CLUSTER_PATH_MAX + 16];
	char *authkey = NULL;
	size_t len = 0;
	int err;

	(void)snprintf(path, sizeof(path), "%s/authkey", dir);
	seal->label = label;
	err = fs_read(path, CLUSTER_AUTHKEY_BYTES, &authkey, &len, eb);
	if (err == 0) {
		err = hash_hmac_sha256(authkey, len, label, strlen(label), seal->key);
		hash_wipe(authkey, len);
	}
	free(authkey);
	return err;
}

static int ca_key(void *arg, char **pem, struct errbuf *eb)
{
	const struct cluster_api *api = arg;
	const struct db_object *o = api->present && api->member != NULL
	                                    ? db_get(member_db(api->member), DB_SETTING, CA_SETTING)
	                                    : NULL;
	struct tls_seal seal = {{0}, NULL};
	int err;

	if (o == NULL) {
		return -ENOENT;
	}
	err = cluster_seal_key(api->dir, CA_LABEL, &seal, eb);
	if (err == 0) {
		err = tls_unseal(&seal, cluster_text(o->doc, "sealed"), pem, eb);
	}
	hash_wipe(seal.key, sizeof(seal.key));
	if (err != 0) {
		errbuf_prepend(eb, "the CA's key in the cluster database");
	}
	return err;
}

bool cluster_ca_shared(const struct cluster_api *api)
{
	return api->member != NULL &&
	       db_get(member_db(api->member), DB_SETTING, CA_SETTING) != NULL;
}

/* Who has it in a file gives it to all. */
static void sync_ca(struct cluster_api *api)
{
	struct tls_seal seal = {{0}, NULL};
	struct errbuf eb = {0};
	char *sealed = NULL;
	char *pem = NULL;
	struct db_cmd cmd;
	json_t *doc;
	int err;

	if (cluster_ca_shared(api) || !cert_api_authority(api->cfg.certs) ||
	    cluster_conf_version(api) == 0) {
		return;
	}
	err = cert_api_ca_key(api->cfg.certs, &pem, &eb);
	if (err == 0) {
		err = cluster_seal_key(api->dir, CA_LABEL, &seal, &eb);
	}
	if (err == 0) {
		err = tls_seal(&seal, pem, &sealed, &eb);
	}
	hash_wipe(seal.key, sizeof(seal.key));
	tls_pem_free(pem);
	if (err != 0) {
		log_err(CLUSTER_TAG, "the CA's key is not shared text=\"%s\"",
		        errbuf_text(&eb, err));
		return;
	}
	doc = json_pack("{s:s}", "sealed", sealed);
	db_cmd_init(&cmd);
	db_cmd_put(&cmd, DB_SETTING, CA_SETTING, doc);
	db_cmd_if_absent(&cmd);
	json_decref(doc);
	free(sealed);
	cluster_propose(api, &cmd, "the CA's key, sealed");
}

/* ---- our own key ---- */

static void propose_keys(struct cluster_api *api, const struct db_object *o, const char *second)
{
	const char *own = cert_api_pin(api->cfg.certs);
	json_t *doc = second != NULL ? json_pack("{s:[s,s]}", "keys", own, second)
	                             : json_pack("{s:[s]}", "keys", own);
	struct db_cmd cmd;

	db_cmd_init(&cmd);
	db_cmd_merge(&cmd, DB_NODE, o->key, doc);
	db_cmd_if_version(&cmd, o->version);
	json_decref(doc);
	cluster_propose(api, &cmd, "our key");
}

/* All know the new key: it is ours now. */
static void renew_take(struct cluster_api *api)
{
	const struct cert_bundle bundle = {.ca_pem = api->fresh.ca_pem,
	                                   .node_pem = api->fresh.node_pem,
	                                   .node_key = api->fresh.key_pem};
	struct errbuf eb = {0};
	int err = cert_api_install(api->cfg.certs, api->conf.node, &bundle, &eb);

	cert_fresh_fini(&api->fresh);
	api->renewing = false;
	api->renew_wanted = false;
	api->fresh_since_ns = 0;
	api->renew_next_ns = clock_now_ns() + RENEW_AGAIN_NS;
	if (err != 0) {
		log_err(CLUSTER_TAG, "certificate not renewed text=\"%s\"", errbuf_text(&eb, err));
	} else {
		log_info(CLUSTER_TAG, "certificate renewed node=%s", api->conf.node);
	}
}

static void renew_make(struct cluster_api *api)
{
	struct errbuf eb = {0};
	int err = cert_api_fresh(api->cfg.certs, &api->fresh, &eb);

	api->renewing = err == 0;
	if (err != 0) {
		api->renew_wanted = false;
		api->renew_next_ns = clock_now_ns() + RENEW_AGAIN_NS;
		log_err(CLUSTER_TAG, "certificate cannot be renewed text=\"%s\"",
		        errbuf_text(&eb, err));
		api->trouble = eb;
	}
}

static void sync_own(struct cluster_api *api)
{
	const struct db_object *o = db_get(member_db(api->member), DB_NODE, api->conf.node);
	const json_t *keys = o != NULL ? json_object_get(o->doc, "keys") : NULL;
	uint64_t now_ns = clock_now_ns();

	if (o == NULL || cert_api_pin(api->cfg.certs)[0] == '\0') {
		return;
	}
	if (!api->renewing && now_ns >= api->renew_next_ns && api->admissions == NULL &&
	    (api->renew_wanted || cert_api_renew_due(api->cfg.certs))) {
		renew_make(api); /* not while tokens name the old key */
	}
	if (api->renewing && !has_key(keys, api->fresh.pin)) {
		propose_keys(api, o, api->fresh.pin);
	} else if (api->renewing && api->fresh_since_ns == 0) {
		api->fresh_since_ns = now_ns;
	} else if (api->renewing && now_ns - api->fresh_since_ns >= FRESH_SETTLE_NS) {
		renew_take(api);
	} else if (!api->renewing &&
	           (!has_key(keys, cert_api_pin(api->cfg.certs)) || json_array_size(keys) != 1)) {
		propose_keys(api, o, NULL);
	}
}

void cluster_trust_sync(struct cluster_api *api)
{
	sync_own(api);
	if (!api->proposing) {
		sync_ca(api);
	}
}

/* ---- a renewal by hand ---- */

static int poll_renew(struct cluster_waiter *w, json_t **answer, struct errbuf *eb)
{
	struct cluster_api *api = w->api;
	const char *old = json_string_value(json_object_get(w->args, "old"));

	if (api->member == NULL) {
		return errbuf_set(eb, -ENOENT, "this node is in no cluster");
	}
	if (strcmp(cert_api_pin(api->cfg.certs), old) == 0) {
		return api->renew_wanted
		               ? 0
		               : errbuf_set(eb, -EIO, "not renewed: %s", api->trouble.text);
	}
	*answer =
		json_pack("{s:s,s:s}", "node", api->conf.node, "key", cert_api_pin(api->cfg.certs));
	return *answer != NULL ? 1 : -ENOMEM;
}

enum api_then cluster_on_renew(struct api_req *req, void *arg)
{
	const struct cluster_waiter wait = {.poll = poll_renew,
	                                    .what = "renewing the certificate",
	                                    .deadline_ns = RENEW_WAIT_NS};
	struct cluster_api *api = arg;
	struct errbuf eb = {0};
	int err = 0;

	if (!cluster_is_local(req)) {
		return API_ANSWERED;
	}
	if (api->member == NULL) {
		err = errbuf_set(&eb, -ENOENT, "this node is in no cluster");
		errbuf_hint(&eb, "godwit cert issue, where the CA is, makes a certificate");
	} else if (!cluster_is_active(api, &eb)) {
		err = -EAGAIN;
	} else if (api->admissions != NULL) {
		err = errbuf_set(&eb, -EBUSY, "tokens of this node wait for their nodes");
		errbuf_hint(&eb, "they name the key that would go; let the nodes join first");
	}
	if (err != 0) {
		return api_reply_errno(req, err, &eb);
	}
	api->renew_wanted = true;
	api->renew_next_ns = 0;
	return cluster_wait(api, req, &wait,
	                    json_pack("{s:s}", "old", cert_api_pin(api->cfg.certs)));
}

/* ---- admissions ---- */

/* A node that used its token and is in asks no more. */
static bool token_done(void *arg, const char *node)
{
	const struct cluster_api *api = arg;
	const struct db_object *o = db_get(member_db(api->member), DB_NODE, node);

	return o != NULL && strcmp(cluster_text(o->doc, "state"), NODE_MEMBER) == 0;
}

void cluster_admissions_sync(struct cluster_api *api)
{
	struct errbuf eb = {0};
	uint64_t now_ns = clock_now_ns();
	int left;

	if (api->admissions == NULL || api->member == NULL || now_ns < api->prune_next_ns) {
		return;
	}
	api->prune_next_ns = now_ns + PRUNE_NS;
	left = cluster_tokens_prune(api->dir, cluster_now_s(), token_done, api, &eb);
	if (left < 0) {
		log_warn(CLUSTER_TAG, "tokens cannot be read text=\"%s\"", errbuf_text(&eb, left));
	} else if (left == 0) {
		log_info(CLUSTER_TAG, "no token waits: admissions closed");
		cluster_admissions_close(api);
	}
}

void cluster_trust_begin(struct cluster_api *api)
{
	const struct cert_hooks hooks = {.allow = trust_tls, .ca_key = ca_key, .arg = api};

	cert_api_hook(api->cfg.certs, &hooks);
	api_server_guard(api->cfg.server, trust_api, api);
	peers_known(api->cfg.peers, trust_known, api);
}
