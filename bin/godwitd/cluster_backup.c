/* SPDX-License-Identifier: Apache-2.0 */

/*
 * cluster_backup - a copy of the cluster database as of one entry, and the way back.
 *
 * The copy has all objects. Given back are those that people made: VMs, volumes, networks and
 * settings. Who is in the cluster, the keys of nodes, the CA, the witness, jobs and events stay as
 * they are: they describe what is, not what somebody wanted.
 *
 * Giving back compares and changes what differs, some objects at a time, until nothing does: a
 * restore that died on the way is finished by another one. Not while a VM of the cluster runs.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "bin/godwitd/cluster_int.h"
#include "bin/godwitd/cluster_level.h"
#include "cluster/role/role.h"
#include "cluster/role/role_table.h"

#define BACKUP_FORMAT 1
#define BACKUP_BYTES_MAX (64u << 20) /* 10,000 VMs, and room */
#define BACKUP_VALUES_MAX 4000000u
#define BACKUP_PATH_MAX 4000u
#define RESTORE_WAIT_NS (600 * NS_PER_S)
#define RESTORE_BYTES (40u << 10) /* of documents in a command; below DB_COMMAND_MAX */

/* ---- the copy ---- */

static void backup_objects(const struct db *db, struct json_build *b)
{
	struct json_build list;

	json_build_array(&list);
	for (int kind = 0; kind < DB_KIND_COUNT; kind++) {
		for (size_t i = 0; i < db_count(db, (enum db_kind)kind); i++) {
			const struct db_object *o = db_at(db, (enum db_kind)kind, i);

			json_add(&list, NULL,
			         json_pack("{s:s,s:s,s:o}", "kind",
			                   db_kind_name((enum db_kind)kind), "key", o->key, "doc",
			                   json_deep_copy(o->doc)));
		}
	}
	json_add_build(b, "objects", &list);
}

enum api_then cluster_on_backup(struct api_req *req, void *arg)
{
	struct cluster_api *api = arg;
	char text[GUID_TEXT_SIZE];
	struct errbuf eb = {0};
	struct rsm_status s;
	struct json_build b;
	json_t *out = NULL;

	if (!cluster_is_local(req)) {
		return API_ANSWERED;
	}
	if (api->member == NULL) {
		(void)cluster_none(&eb);
		return api_reply_errno(req, -ENOENT, &eb);
	}
	member_status(api->member, &s);
	json_build_object(&b);
	json_add_u64(&b, "format", BACKUP_FORMAT);
	json_add_str(&b, "cluster", guid_format(&api->conf.cluster, text));
	json_add_str(&b, "name", api->conf.name);
	json_add_i64(&b, "time_s", cluster_now_s());
	json_add_u64(&b, "entry", db_index(member_db(api->member)));
	json_add_u64(&b, "level", s.level);
	json_add_bool(&b, "stale", s.stale);
	backup_objects(member_db(api->member), &b);
	return api_reply(req, 200, json_build_end(&b, &out) == 0 ? out : NULL);
}

/* ---- the way back ---- */

/* What people made. */
static bool is_given_back(enum db_kind kind, const char *key)
{
	return kind == DB_VM || kind == DB_VOLUME || kind == DB_NETWORK ||
	       (kind == DB_SETTING && strcmp(key, "cluster") != 0 && strcmp(key, "ca") != 0);
}

/* A command that is being filled, and what is left for the next ones. */
struct restore_step {
	struct db_cmd cmd;
	uint32_t ops;
	size_t bytes;
	uint32_t differ; /* objects that are to be changed, in this step or later */
};

static bool step_has_room(struct restore_step *step, const json_t *doc)
{
	char *text = doc != NULL ? json_dumps(doc, JSON_COMPACT) : NULL;
	size_t len = text != NULL ? strlen(text) : 0;

	free(text);
	step->differ++;
	if (step->ops != 0 && (step->ops >= DB_OPS_MAX || step->bytes + len > RESTORE_BYTES)) {
		return false;
	}
	step->ops++;
	step->bytes += len;
	return true;
}

static void step_put(struct restore_step *step, const struct db *db, enum db_kind kind,
                     const char *key, const json_t *doc)
{
	const struct db_object *o = db_get(db, kind, key);

	if (o != NULL && json_equal(o->doc, doc)) {
		return;
	}
	if (step_has_room(step, doc)) {
		db_cmd_put(&step->cmd, kind, key, doc);
		if (o != NULL) {
			db_cmd_if_version(&step->cmd, o->version);
		} else {
			db_cmd_if_absent(&step->cmd);
		}
	}
}

/* By kind and key: {"vm": {"web1": doc, ...}, ...}. */
static const json_t *wanted_doc(const json_t *wanted, enum db_kind kind, const char *key)
{
	return json_object_get(json_object_get(wanted, db_kind_name(kind)), key);
}

static void step_make(struct restore_step *step, const struct db *db, json_t *wanted)
{
	*step = (struct restore_step){.ops = 0};
	db_cmd_init(&step->cmd);
	for (int k = 0; k < DB_KIND_COUNT; k++) {
		enum db_kind kind = (enum db_kind)k;
		const char *key;
		json_t *doc;

		for (size_t i = 0; i < db_count(db, kind); i++) {
			const struct db_object *o = db_at(db, kind, i);

			if (is_given_back(kind, o->key) &&
			    wanted_doc(wanted, kind, o->key) == NULL && step_has_room(step, NULL)) {
				db_cmd_delete(&step->cmd, kind, o->key);
				db_cmd_if_version(&step->cmd, o->version);
			}
		}
		json_object_foreach(json_object_get(wanted, db_kind_name(kind)), key, doc)
		{
			step_put(step, db, kind, key, doc);
		}
	}
}

/* A VM whose definition goes while it runs would be nobody's. */
static int restore_idle(const struct cluster_api *api, struct errbuf *eb)
{
	const struct role_table *t = member_roles(api->member);

	for (const struct role *r = role_table_next(t, 0); r != NULL;
	     r = role_table_next(t, r->id)) {
		if (r->state != ROLE_OFFLINE && r->state != ROLE_FAILED) {
			(void)errbuf_set(eb, -EBUSY, "VM %s is %s", r->name,
			                 role_state_name(r->state));
			errbuf_hint(eb, "stop the VMs of the cluster first: godwit vm stop %s",
			            r->name);
			return -EBUSY;
		}
	}
	return 0;
}

static int poll_restore(struct cluster_waiter *w, json_t **answer, struct errbuf *eb)
{
	struct cluster_api *api = w->api;
	json_t *wanted = json_object_get(w->args, "wanted");
	json_int_t changed = json_integer_value(json_object_get(w->args, "changed"));
	struct restore_step step;
	int err;

	if (api->member == NULL) {
		return cluster_none(eb);
	}
	if (api->proposing || !cluster_is_active(api, NULL)) {
		return 0;
	}
	err = restore_idle(api, eb);
	if (err != 0) {
		return err;
	}
	step_make(&step, member_db(api->member), wanted);
	if (step.differ == 0) {
		db_cmd_fini(&step.cmd);
		*answer = json_pack("{s:I}", "changed", changed);
		return *answer != NULL ? 1 : -ENOMEM;
	}
	if (changed == 0) { /* the first step knows all */
		(void)json_object_set_new(w->args, "changed",
		                          json_integer((json_int_t)step.differ));
	}
	cluster_propose(api, &step.cmd, "objects of a backup");
	return 0;
}

static int restore_object(const struct member *m, const struct json_at *at, json_t *wanted,
                          struct errbuf *eb)
{
	const char *word = NULL;
	const char *key = NULL;
	enum db_kind kind = DB_KIND_COUNT;
	json_t *of_kind;
	json_t *doc;
	int err = json_get_str(at, "kind", 32, &word, eb);

	if (err == 0) {
		err = json_get_str(at, "key", DB_KEY_MAX, &key, eb);
	}
	doc = json_object_get(at->value, "doc");
	if (err == 0 && (db_kind_parse(word, &kind) != 0 || !db_key_valid(key, strlen(key)) ||
	                 !json_is_object(doc))) {
		err = json_error(at, eb, -EBADMSG, "is no object of a cluster database");
	}
	if (err == 0 && kind == DB_VM) {
		err = cluster_level_doc(m, NULL, doc, eb);
	}
	if (err != 0 || !is_given_back(kind, key)) {
		return err;
	}
	of_kind = json_object_get(wanted, word);
	if (of_kind == NULL) {
		of_kind = json_object();
		err = json_object_set_new(wanted, word, of_kind) != 0 ? -ENOMEM : 0;
	}
	return err == 0 && json_object_set(of_kind, key, doc) != 0 ? -ENOMEM : err;
}

/* @out: what is wanted, by kind and key. */
static int restore_read(const struct cluster_api *api, const char *path, bool force, json_t **out,
                        struct errbuf *eb)
{
	const struct json_limits limits = {
		.bytes_max = BACKUP_BYTES_MAX, .depth_max = 64, .values_max = BACKUP_VALUES_MAX};
	struct json_at list;
	struct guid cluster;
	const char *uuid = NULL;
	uint64_t format = 0;
	json_t *file = NULL;
	int err = json_read_file(path, &limits, &file, eb);
	struct json_at at = json_root(file, path);

	*out = json_object();
	if (err == 0) {
		err = json_get_u64(&at, "format", 0, UINT32_MAX, &format, eb);
	}
	if (err == 0 && format != BACKUP_FORMAT) {
		err = errbuf_set(eb, -EPROTONOSUPPORT, "%s: format %llu is not known here", path,
		                 (unsigned long long)format);
	}
	if (err == 0) {
		err = json_get_str(&at, "cluster", GUID_TEXT_SIZE - 1, &uuid, eb);
	}
	if (err == 0 && !force &&
	    (guid_parse(uuid, &cluster) != 0 || !guid_equal(&cluster, &api->conf.cluster))) {
		err = errbuf_set(eb, -EXDEV, "%s is of another cluster, %s", path,
		                 cluster_text(file, "name"));
		errbuf_hint(eb, "--force makes its VMs, volumes, networks and settings ours");
	}
	if (err == 0) {
		err = json_get_array(&at, "objects", BACKUP_VALUES_MAX, &list, eb);
	}
	for (size_t i = 0; err == 0 && i < json_array_size(list.value); i++) {
		struct json_at one = json_element(&list, i);

		err = restore_object(api->member, &one, *out, eb);
	}
	json_decref(file);
	if (err != 0) {
		json_decref(*out);
		*out = NULL;
	}
	return err;
}

static enum api_then restore_dry_run(const struct cluster_api *api, struct api_req *req,
                                     json_t *wanted)
{
	struct restore_step step;

	step_make(&step, member_db(api->member), wanted);
	db_cmd_fini(&step.cmd);
	json_decref(wanted);
	return api_reply(req, 200, json_pack("{s:i}", "changed", (int)step.differ));
}

enum api_then cluster_on_restore(struct api_req *req, void *arg)
{
	static const char *const known[] = {"path", "force"};
	struct cluster_api *api = arg;
	struct json_at at = json_root(api_req_body(req), "");
	const struct cluster_waiter wait = {.poll = poll_restore,
	                                    .what = "restoring the database",
	                                    .deadline_ns = RESTORE_WAIT_NS};
	const char *path = NULL;
	bool force = false;
	struct errbuf eb = {0};
	json_t *wanted = NULL;
	int err;

	if (!cluster_is_local(req)) {
		return API_ANSWERED;
	}
	err = json_check_members(&at, known, ARRAY_LEN(known), &eb);
	if (err == 0) {
		err = json_get_str(&at, "path", BACKUP_PATH_MAX, &path, &eb);
	}
	if (err == 0) {
		err = json_opt_bool(&at, "force", &force, &eb);
	}
	if (err == 0 && api->member == NULL) {
		err = cluster_none(&eb);
	} else if (err == 0 && !cluster_is_active(api, &eb)) {
		err = -EAGAIN;
	}
	if (err == 0) {
		err = restore_idle(api, &eb);
	}
	if (err == 0) {
		err = restore_read(api, path, force, &wanted, &eb);
	}
	if (err != 0) {
		return api_reply_errno(req, err, &eb);
	}
	if (api_req_query(req, "dry_run") != NULL) {
		return restore_dry_run(api, req, wanted);
	}
	log_warn(CLUSTER_TAG, "restoring the database file=%s uid=%u", path,
	         (unsigned)api_req_peer(req)->uid);
	return cluster_wait(api, req, &wait,
	                    json_pack("{s:o,s:i}", "wanted", wanted, "changed", 0));
}
