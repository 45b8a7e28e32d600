/* SPDX-License-Identifier: Apache-2.0 */

/* csv_api - /v1/volumes: which shared volumes the cluster has. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/guid.h"
#include "bin/godwitd/csv_wire_int.h"

#define LABEL_MAX 63u

static void volumes_taken(const char *name, struct errbuf *eb)
{
	(void)name;
	(void)errbuf_set(eb, -EBUSY, "the cluster's volumes changed at the same time");
}

void csv_wire_stop(struct csv_wire *w)
{
	if (w != NULL) {
		asked_changes_stop(&w->changes, w->place.member);
	}
}

/* Nothing came or went since we looked. */
void csv_wire_count(const struct db *db, struct db_cmd *cmd)
{
	const struct db_object *o = db_get(db, DB_SETTING, CSV_COUNTER);
	json_t *doc = json_pack("{s:I}", "changes",
	                        (json_int_t)(o != NULL ? csv_number(o->doc, "changes") + 1 : 1));

	db_cmd_put(cmd, DB_SETTING, CSV_COUNTER, doc);
	if (o != NULL) {
		db_cmd_if_version(cmd, o->version);
	} else {
		db_cmd_if_absent(cmd);
	}
	json_decref(doc);
}

/* ---- requests ---- */

static bool in_cluster(const struct csv_wire *w, struct api_req *req)
{
	return asked_in_cluster(w->place.member, req,
	                        "godwit csv add uses a volume on this host alone");
}

static enum api_then on_list(struct api_req *req, void *arg)
{
	struct csv_wire *w = arg;
	const struct db *db = w->place.member != NULL ? member_db(w->place.member) : NULL;
	json_t *list = json_array();

	for (size_t i = 0; db != NULL && i < db_count(db, DB_VOLUME); i++) {
		const struct db_object *o = db_at(db, DB_VOLUME, i);
		json_t *row = json_deep_copy(o->doc);

		(void)json_object_set_new(row, "name", json_string(o->key));
		(void)json_array_append_new(list, row);
	}
	return api_reply(req, 200,
	                 json_pack("{s:b,s:o,s:o}", "cluster", (int)(db != NULL), "volumes", list,
	                           "left",
	                           db != NULL ? csv_left_list(w->place.member) : json_array()));
}

static int parse(const json_t *body, const char **name, const char **device, const char **id,
                 struct errbuf *eb)
{
	static const char *const known[] = {"name", "device", "id"};
	const struct json_at root = json_root(body, "");
	struct guid guid;
	int err;

	if (body == NULL) {
		return errbuf_set(eb, -EINVAL, "there is no body");
	}
	err = json_check_members(&root, known, ARRAY_LEN(known), eb);
	if (err == 0) {
		err = json_get_str(&root, "name", LABEL_MAX, name, eb);
	}
	if (err == 0) {
		err = json_get_str(&root, "device", CSV_WIRE_PATH_MAX - 1, device, eb);
	}
	if (err == 0) {
		err = json_get_str(&root, "id", GUID_TEXT_SIZE, id, eb);
	}
	if (err == 0 && (!db_key_valid(*name, strlen(*name)) || strchr(*name, '/') != NULL)) {
		err = json_error(&root, eb, -EINVAL, "\"%s\" cannot be a volume's name", *name);
	}
	if (err == 0 && (*device)[0] != '/') {
		err = json_error(&root, eb, -EINVAL, "the device is not an absolute path");
	}
	if (err == 0 && guid_parse(*id, &guid) != 0) {
		err = json_error(&root, eb, -EINVAL, "\"%s\" is no volume's id", *id);
	}
	return err;
}

/* A number that no volume has; 0 and @eb: it cannot be. */
static uint32_t free_number(const struct db *db, const char *name, const char *id,
                            struct errbuf *eb)
{
	uint64_t used = 0;
	uint32_t number = 1;

	for (size_t i = 0; i < db_count(db, DB_VOLUME); i++) {
		const struct db_object *o = db_at(db, DB_VOLUME, i);
		const char *other = json_string_value(json_object_get(o->doc, "id"));
		uint64_t n = csv_number(o->doc, "number");

		if (strcmp(o->key, name) == 0 || (other != NULL && strcmp(other, id) == 0)) {
			(void)errbuf_set(eb, -EEXIST, "the cluster has volume %s with id %s",
			                 o->key, other != NULL ? other : "?");
			return 0;
		}
		used |= n >= 1 && n <= 64 ? 1ull << (n - 1) : 0;
	}
	while (number <= CSV_WIRE_VOLUMES && (used & (1ull << (number - 1))) != 0) {
		number++;
	}
	if (number > CSV_WIRE_VOLUMES) {
		(void)errbuf_set(eb, -EEXIST, "the cluster has %u volumes already",
		                 CSV_WIRE_VOLUMES);
		return 0;
	}
	return number;
}

/* It was evicted before, and may be used again. Returns 0; -EBUSY. */
static int check_left(struct member *m, const struct db_object *left, struct errbuf *eb)
{
	uint32_t nodeid = 0;

	if (left == NULL || csv_left_clear(m, left, &nodeid)) {
		return 0;
	}
	(void)errbuf_set(eb, -EBUSY, "it was evicted, and node %u may still have it open", nodeid);
	errbuf_hint(eb, "A node that answers has closed it within seconds: ask again. One that "
	                "does not must come back or be fenced.");
	return -EBUSY;
}

static enum api_then on_create(struct api_req *req, void *arg)
{
	struct csv_wire *w = arg;
	const char *name = "";
	const char *device = "";
	const char *id = "";
	struct errbuf eb = {0};
	struct db_cmd cmd;
	const struct db_object *left;
	uint64_t term;
	uint32_t number;
	json_t *doc;
	int err;

	if (!in_cluster(w, req)) {
		return API_ANSWERED;
	}
	err = parse(api_req_body(req), &name, &device, &id, &eb);
	if (err != 0) {
		return api_reply_errno(req, err, &eb);
	}
	number = free_number(member_db(w->place.member), name, id, &eb);
	if (number == 0) {
		return api_reply_errno(req, -EEXIST, &eb);
	}
	left = csv_left_find(member_db(w->place.member), id);
	err = check_left(w->place.member, left, &eb);
	if (err != 0) {
		return api_reply_errno(req, err, &eb);
	}
	term = left != NULL ? csv_number(left->doc, "term") : 1;
	doc = json_pack("{s:s,s:s,s:I,s:I,s:I,s:I}", "device", device, "id", id, "number",
	                (json_int_t)number, "term", (json_int_t)term, "coordinator", (json_int_t)0,
	                "run", (json_int_t)0);
	db_cmd_init(&cmd);
	db_cmd_put(&cmd, DB_VOLUME, name, doc);
	db_cmd_if_absent(&cmd);
	if (left != NULL) {
		db_cmd_delete(&cmd, DB_SETTING, left->key);
		db_cmd_if_version(&cmd, left->version);
	}
	csv_wire_count(member_db(w->place.member), &cmd);
	json_decref(doc);
	return asked_change_begin(&w->changes, w->place.member, req, name, &cmd);
}

/* Does the document of a VM say that it uses the volume? */
static bool notes(const json_t *doc, uint64_t number)
{
	const json_t *list = json_object_get(json_object_get(doc, "ha"), "volumes");
	bool found = false;

	for (size_t i = 0; number != 0 && i < json_array_size(list); i++) {
		found = found || json_integer_value(json_array_get(list, i)) == (json_int_t)number;
	}
	return found;
}

/* A VM of the cluster with a file of this volume, or NULL. */
static const char *used_by(const struct db *db, const char *name)
{
	const struct db_object *volume = db_get(db, DB_VOLUME, name);
	uint64_t number = volume != NULL ? csv_number(volume->doc, "number") : 0;
	char path[LABEL_MAX + 32];

	(void)snprintf(path, sizeof(path), "/godwit/csv/%.63s/", name);
	for (size_t i = 0; i < db_count(db, DB_VM); i++) {
		const struct db_object *o = db_at(db, DB_VM, i);
		char *text = json_dumps(o->doc, JSON_COMPACT);
		bool uses = text == NULL || strstr(text, path) != NULL || notes(o->doc, number);

		free(text);
		if (uses) {
			return o->key;
		}
	}
	return NULL;
}

static enum api_then on_delete(struct api_req *req, void *arg)
{
	struct csv_wire *w = arg;
	const char *name = api_req_param(req, "name");
	const struct db_object *o;
	const char *vm;
	struct errbuf eb = {0};
	struct db_cmd cmd;
	int err;

	if (!in_cluster(w, req)) {
		return API_ANSWERED;
	}
	o = db_get(member_db(w->place.member), DB_VOLUME, name);
	vm = o != NULL ? used_by(member_db(w->place.member), name) : NULL;
	if (o == NULL) {
		(void)errbuf_set(&eb, -ENOENT, "the cluster has no volume %s", name);
		return api_reply_errno(req, -ENOENT, &eb);
	}
	if (vm != NULL) {
		(void)errbuf_set(&eb, -EBUSY, "VM %s has files on %s", vm, name);
		return api_reply_errno(req, -EBUSY, &eb);
	}
	db_cmd_init(&cmd);
	db_cmd_delete(&cmd, DB_VOLUME, name);
	db_cmd_if_version(&cmd, o->version);
	err = csv_left_add(w->place.member, o, &cmd, &eb);
	if (err != 0) {
		db_cmd_fini(&cmd);
		return api_reply_errno(req, err, &eb);
	}
	csv_wire_count(member_db(w->place.member), &cmd);
	return asked_change_begin(&w->changes, w->place.member, req, name, &cmd);
}

static const struct api_route routes[] = {
	{API_GET, "/v1/volumes", on_list},
	{API_POST, "/v1/volumes", on_create},
	{API_DELETE, "/v1/volumes/{name}", on_delete},
};

int csv_api_routes(struct csv_wire *w, struct api_server *server)
{
	w->changes.taken = volumes_taken;
	return api_server_routes(server, routes, ARRAY_LEN(routes), w);
}
