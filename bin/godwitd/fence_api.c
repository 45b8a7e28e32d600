/* SPDX-License-Identifier: Apache-2.0 */
#include "bin/godwitd/fence_api.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/tls_seal.h"
#include "bin/godwitd/fence_int.h"

#define KEY_MAX (FENCE_DEV_NAME_MAX + sizeof(FENCE_DEV_PREFIX))

static void device_taken(const char *name, struct errbuf *eb)
{
	(void)errbuf_set(eb, -EBUSY, "fence device %s was changed at the same time", name);
}

/* ---- requests ---- */

/* Answers, and returns false, if there is no cluster here. */
static bool in_cluster(const struct fence_api *api, struct api_req *req)
{
	return asked_in_cluster(api->place.member, req, NULL);
}

/* The same for what only people on a node itself may do. */
static bool may_change(const struct fence_api *api, struct api_req *req)
{
	struct errbuf eb = {0};

	if (!api_req_peer(req)->local) {
		(void)errbuf_set(&eb, -EACCES, "fence devices are changed on a node itself");
		(void)api_reply_errno(req, -EACCES, &eb);
		return false;
	}
	return in_cluster(api, req);
}

/* @tried: fence_run_tried(). */
static json_t *row_of(const struct fence_api *api, const struct db_object *o, const json_t *tried)
{
	const char *name = o->key + strlen(FENCE_DEV_PREFIX);
	json_t *row = fence_dev_show(o->doc, name);
	json_t *last = json_object_get(tried, name);
	struct fence_dev dev;
	struct errbuf eb = {0};
	bool good = fence_dev_decode(o->doc, &dev, &eb) == 0;

	if (good && !fence_run_fits(api, &dev, NULL)) {
		good = false;
		(void)errbuf_set(&eb, -ESTALE, "%s is another machine now, or gone", dev.node);
	}
	if (row != NULL) {
		(void)json_object_set_new(row, "counts", json_boolean(good));
		(void)json_object_set_new(row, "why", json_string(good ? "" : eb.text));
		(void)json_object_set_new(row, "last",
		                          last != NULL ? json_incref(last) : json_null());
	}
	return row;
}

static enum api_then on_list(struct api_req *req, void *arg)
{
	struct fence_api *api = arg;
	const struct db *db = api->place.member != NULL ? member_db(api->place.member) : NULL;
	json_t *tried = db != NULL ? fence_run_tried(api) : NULL;
	json_t *list = json_array();

	for (size_t i = 0; db != NULL && i < db_count(db, DB_SETTING); i++) {
		const struct db_object *o = db_at(db, DB_SETTING, i);

		if (strncmp(o->key, FENCE_DEV_PREFIX, strlen(FENCE_DEV_PREFIX)) == 0) {
			(void)json_array_append_new(list, row_of(api, o, tried));
		}
	}
	json_decref(tried);
	return api_reply(req, 200, json_pack("{s:o}", "fences", list));
}

/* The device of the path; NULL: the request was answered. */
static const struct db_object *asked(const struct fence_api *api, struct api_req *req)
{
	const char *name = api_req_param(req, "name");
	const struct db_object *o = NULL;
	char key[KEY_MAX];
	struct errbuf eb = {0};

	if (fence_dev_name_check(name, NULL) == 0) {
		(void)snprintf(key, sizeof(key), FENCE_DEV_PREFIX "%s", name);
		o = db_get(member_db(api->place.member), DB_SETTING, key);
	}
	if (o == NULL) {
		(void)errbuf_set(&eb, -ENOENT, "there is no fence device %s", name);
		errbuf_hint(&eb, "godwit fence list shows those there are");
		(void)api_reply_errno(req, -ENOENT, &eb);
	}
	return o;
}

static enum api_then on_show(struct api_req *req, void *arg)
{
	struct fence_api *api = arg;
	const struct db_object *o = in_cluster(api, req) ? asked(api, req) : NULL;
	enum api_then then = API_ANSWERED;
	json_t *tried;

	if (o != NULL) {
		tried = fence_run_tried(api);
		then = api_reply(req, 200, row_of(api, o, tried));
		json_decref(tried);
	}
	return then;
}

/* How many devices that level of that node has. */
static uint32_t beside(const struct fence_api *api, const struct fence_dev *dev)
{
	const struct db *db = member_db(api->place.member);
	uint32_t count = 0;

	for (size_t i = 0; i < db_count(db, DB_SETTING); i++) {
		const struct db_object *o = db_at(db, DB_SETTING, i);
		struct fence_dev other;

		count += strncmp(o->key, FENCE_DEV_PREFIX, strlen(FENCE_DEV_PREFIX)) == 0 &&
		         fence_dev_decode(o->doc, &other, NULL) == 0 &&
		         strcmp(other.uuid, dev->uuid) == 0 && other.level == dev->level;
	}
	return count;
}

static int check_new(const struct fence_api *api, const char *name, const json_t *doc,
                     struct errbuf *eb)
{
	char key[KEY_MAX];
	struct fence_dev dev;
	int err = fence_dev_decode(doc, &dev, eb);

	(void)snprintf(key, sizeof(key), FENCE_DEV_PREFIX "%s", name);
	if (err == 0 && db_get(member_db(api->place.member), DB_SETTING, key) != NULL) {
		err = errbuf_set(eb, -EEXIST, "there is a fence device %s already", name);
	}
	if (err == 0 && beside(api, &dev) >= FENCE_DEVICES_MAX) {
		err = errbuf_set(eb, -EINVAL, "level %u of %s has %u devices already",
		                 dev.level + 1, dev.node, FENCE_DEVICES_MAX);
	}
	return err;
}

/* The document of what @body asks for. */
static int make(const struct fence_api *api, const json_t *body, const char *name, json_t **doc,
                struct errbuf *eb)
{
	const struct json_at at = json_root(body, "");
	struct tls_seal seal = {{0}, NULL};
	const struct db_object *node;
	const char *node_name = "";
	const char *uuid;
	int err = json_get_str(&at, "node", 63, &node_name, eb);

	*doc = NULL;
	if (err != 0) {
		return err;
	}
	node = db_get(member_db(api->place.member), DB_NODE, node_name);
	uuid = node != NULL ? json_string_value(json_object_get(node->doc, "uuid")) : NULL;
	if (uuid == NULL) {
		(void)errbuf_set(eb, -ENOENT, "there is no node %.63s", node_name);
		errbuf_hint(eb, "godwit node list shows those there are");
		return -ENOENT;
	}
	err = cluster_seal_key(api->dir, FENCE_SEAL_LABEL, &seal, eb);
	if (err == 0) {
		err = fence_dev_make(body, name, uuid, &seal, doc, eb);
	}
	hash_wipe(seal.key, sizeof(seal.key));
	if (err == 0) {
		err = check_new(api, name, *doc, eb);
	}
	return err;
}

static enum api_then on_create(struct api_req *req, void *arg)
{
	struct fence_api *api = arg;
	const json_t *body = api_req_body(req);
	const struct json_at at = json_root(body, "");
	const char *name = "";
	char key[KEY_MAX];
	struct errbuf eb = {0};
	struct db_cmd cmd;
	json_t *doc = NULL;
	int err;

	if (!may_change(api, req)) {
		return API_ANSWERED;
	}
	err = body != NULL ? json_get_str(&at, "name", FENCE_DEV_NAME_MAX - 1, &name, &eb)
	                   : errbuf_set(&eb, -EINVAL, "there is no body");
	if (err == 0) {
		err = fence_dev_name_check(name, &eb);
	}
	if (err == 0) {
		err = make(api, body, name, &doc, &eb);
	}
	if (err != 0) {
		json_decref(doc);
		return api_reply_errno(req, err, &eb);
	}
	(void)snprintf(key, sizeof(key), FENCE_DEV_PREFIX "%s", name);
	db_cmd_init(&cmd);
	db_cmd_put(&cmd, DB_SETTING, key, doc);
	db_cmd_if_absent(&cmd);
	json_decref(doc);
	return asked_change_begin(&api->changes, api->place.member, req, name, &cmd);
}

static enum api_then on_delete(struct api_req *req, void *arg)
{
	struct fence_api *api = arg;
	const struct db_object *o = may_change(api, req) ? asked(api, req) : NULL;
	struct db_cmd cmd;

	if (o == NULL) {
		return API_ANSWERED;
	}
	db_cmd_init(&cmd);
	db_cmd_delete(&cmd, DB_SETTING, o->key);
	db_cmd_if_version(&cmd, o->version);
	return asked_change_begin(&api->changes, api->place.member, req, api_req_param(req, "name"),
	                          &cmd);
}

/* What does it say about its node's power? From here: the leader may be another node. */
static enum api_then on_test(struct api_req *req, void *arg)
{
	struct fence_api *api = arg;
	const struct db_object *o = may_change(api, req) ? asked(api, req) : NULL;
	struct fence_dev dev;
	struct errbuf eb = {0};
	int err;

	if (o == NULL) {
		return API_ANSWERED;
	}
	err = fence_dev_decode(o->doc, &dev, &eb);
	if (err == 0) {
		err = fence_run_start(api, api_req_param(req, "name"), &dev, req, NULL, &eb);
	}
	return err != 0 ? api_reply_errno(req, err, &eb) : API_LATER;
}

static const struct api_route routes[] = {
	{API_GET, "/v1/fences", on_list},
	{API_POST, "/v1/fences", on_create},
	{API_GET, "/v1/fences/{name}", on_show},
	{API_DELETE, "/v1/fences/{name}", on_delete},
	{API_POST, "/v1/fences/{name}/test", on_test},
};

/* ---- life ---- */

int fence_api_create(const struct fence_api_cfg *cfg, struct fence_api **out, struct errbuf *eb)
{
	struct fence_api *api = gw_calloc(1, sizeof(*api));
	int err = -ENOMEM;

	*out = NULL;
	if (api != NULL) {
		api->cfg = *cfg;
		list_init(&api->runs);
		api->changes.look = "godwit fence list shows it";
		api->changes.taken = device_taken;
		fence_run_power(api);
		err = cluster_works_create(cfg->loop, &api->works);
	}
	if (err == 0) {
		err = api_server_routes(cfg->server, routes, ARRAY_LEN(routes), api);
	}
	if (err != 0) {
		fence_api_destroy(api);
		return errbuf_sys(eb, err, "fence devices");
	}
	*out = api;
	return 0;
}

const struct ha_power *fence_api_power(struct fence_api *api)
{
	return &api->power;
}

void fence_api_open(struct fence_api *api, const struct cluster_place *place, struct ha *ha)
{
	api->place = *place;
	(void)snprintf(api->dir, sizeof(api->dir), "%s", place->dir);
	(void)snprintf(api->node, sizeof(api->node), "%s", place->node);
	api->ha = ha;
	api->open_count++;
	api->fresh = false;
}

void fence_api_close(struct fence_api *api)
{
	fence_run_end(api, true);
	api->place.member = NULL;
	api->ha = NULL;
}

void fence_api_look(struct fence_api *api)
{
	fence_run_end(api, false);
}

void fence_api_stop(struct fence_api *api)
{
	if (api == NULL) {
		return;
	}
	fence_run_end(api, true);
	list_for_each(link, &api->runs)
	{
		struct fence_run *run = list_entry(link, struct fence_run, link);
		struct errbuf eb = {0};

		if (run->req != NULL) {
			struct api_req *req = run->req;

			run->req = NULL;
			(void)errbuf_set(&eb, -ECANCELED, "godwitd is stopping");
			(void)api_reply_errno(req, -ECANCELED, &eb);
		}
	}
	asked_changes_stop(&api->changes, api->place.member);
}

void fence_api_destroy(struct fence_api *api)
{
	if (api != NULL) {
		fence_run_end(api, true);
		cluster_works_destroy(api->works);
		free(api);
	}
}
