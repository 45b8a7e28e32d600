/* SPDX-License-Identifier: Apache-2.0 */

/* ha_settings - what is true of the whole cluster: GET and PATCH /v1/cluster/settings. */

#include <errno.h>

#include "base/api/server.h"
#include "bin/godwitd/asked_change.h"
#include "bin/godwitd/cluster_level.h"
#include "bin/godwitd/cluster_timing.h"
#include "bin/godwitd/ha_int.h"
#include "cluster/db/db.h"
#include "cluster/db/db_cmd.h"
#include "cluster/ha/maint.h"

/* corosync's token, and what a change of it waits for. */
static void add_timing(const struct ha_api *api, struct json_build *b)
{
	const struct db *db = member_db(api->place.member);
	struct cluster_timing_seen seen;
	struct cluster_timing ct;
	struct timing_cfg cfg;
	char wait[200];

	if (!cluster_timing_get(db, &ct)) {
		return;
	}
	cluster_timing_look(db, member_view(api->place.member), ct.token_ms, &seen);
	cluster_timing_wait(&ct, &seen, wait, sizeof(wait));
	cluster_timing_cfg(&ct, &cfg);
	json_add_u64(b, "token_ms", ct.token_ms);
	json_add_u64(b, "lease_ms", cfg.lease_ms);
	if (ct.changing) {
		json_add_u64(b, "token_goal_ms", ct.goal_ms);
		json_add_str(b, "token_waits", wait);
	}
}

static json_t *settings_json(const struct ha_api *api)
{
	const struct db *db = member_db(api->place.member);
	const struct db_object *o = db_get(db, DB_SETTING, MAINT_SETTING);
	json_int_t blackout =
		o != NULL ? json_integer_value(json_object_get(o->doc, "blackout_max_ns")) : 0;
	struct json_build b;
	json_t *out = NULL;

	json_build_object(&b);
	json_add(&b, "blackout_max_ns", blackout > 0 ? json_integer(blackout) : json_null());
	json_add_u64(&b, "moves_per_node", maint_moves(db));
	add_timing(api, &b);
	return json_build_end(&b, &out) == 0 ? out : NULL;
}

static enum api_then on_get(struct api_req *req, void *arg)
{
	const struct ha_api *api = arg;

	return asked_in_cluster(api->place.member, req, NULL)
	               ? api_reply(req, 200, settings_json(api))
	               : API_ANSWERED;
}

/* Members of the body replace those there are; null: as if it had never been said. */
static int settings_merge(const json_t *body, json_t *doc, struct errbuf *eb)
{
	static const char *const known[] = {"blackout_max_ns", "moves_per_node", "token_ms"};
	const struct json_at at = json_root(body, "");
	uint64_t blackout = 0;
	uint64_t moves = 0;
	int err = json_check_members(&at, known, ARRAY_LEN(known), eb);

	if (err == 0 && json_is_null(json_object_get(body, "blackout_max_ns"))) {
		(void)json_object_del(doc, "blackout_max_ns");
	} else if (err == 0) {
		err = json_opt_u64(&at, "blackout_max_ns", 1, MAINT_BLACKOUT_MAX_NS, &blackout, eb);
	}
	if (err == 0 && json_is_null(json_object_get(body, "moves_per_node"))) {
		(void)json_object_del(doc, "per_node");
	} else if (err == 0) {
		err = json_opt_u64(&at, "moves_per_node", 1, MAINT_MOVES_MAX, &moves, eb);
	}
	if (err == 0 && blackout != 0) {
		err = json_object_set_new(doc, "blackout_max_ns",
		                          json_integer((json_int_t)blackout));
	}
	if (err == 0 && moves != 0) {
		err = json_object_set_new(doc, "per_node", json_integer((json_int_t)moves));
	}
	return err;
}

/* The token is another object's. Returns 1 something is to be changed; 0; -errno. */
static int change_token(const struct ha_api *api, const json_t *body, struct db_cmd *cmd,
                        struct errbuf *eb)
{
	const struct json_at at = json_root(body, "");
	uint64_t token = 0;
	int err = json_opt_u64(&at, "token_ms", 1, UINT32_MAX, &token, eb);

	if (err != 0 || token == 0) {
		return err;
	}
	/* An older node would hold the change up, or not know what it is. */
	err = cluster_level_needs(api->place.member, MEMBER_LEVEL_TOKEN, "--detect", eb);
	return err == 0 ? cluster_timing_change(member_db(api->place.member), token, cmd, eb) : err;
}

static enum api_then on_patch(struct api_req *req, void *arg)
{
	struct ha_api *api = arg;
	const json_t *body = api_req_body(req);
	const struct db_object *o;
	struct errbuf eb = {0};
	struct db_cmd cmd;
	json_t *doc;
	int err;

	if (!asked_in_cluster(api->place.member, req, NULL)) {
		return API_ANSWERED;
	}
	o = db_get(member_db(api->place.member), DB_SETTING, MAINT_SETTING);
	doc = o != NULL ? json_deep_copy(o->doc) : json_object();
	err = doc == NULL    ? -ENOMEM
	      : body == NULL ? errbuf_set(&eb, -EINVAL, "there is no body")
	                     : settings_merge(body, doc, &eb);
	db_cmd_init(&cmd);
	if (err == 0) {
		err = change_token(api, body, &cmd, &eb);
	}
	if (err < 0) {
		json_decref(doc);
		db_cmd_fini(&cmd);
		return api_reply_errno(req, err, &eb);
	}
	db_cmd_put(&cmd, DB_SETTING, MAINT_SETTING, doc);
	if (o != NULL) {
		db_cmd_if_version(&cmd, o->version);
	} else {
		db_cmd_if_absent(&cmd);
	}
	json_decref(doc);
	ha_change(api, req, "the setting", &cmd);
	return API_LATER;
}

static const struct api_route routes[] = {
	{API_GET, "/v1/cluster/settings", on_get},
	{API_PATCH, "/v1/cluster/settings", on_patch},
};

int ha_settings_routes(struct ha_api *api)
{
	return api_server_routes(api->cfg.server, routes, ARRAY_LEN(routes), api);
}
