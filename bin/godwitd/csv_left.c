/* SPDX-License-Identifier: Apache-2.0 */

/*
 * csv_left - volumes that were evicted. Their terms stay in the log, and whether some godwit-csvd
 * may still have them open: a coordinator that closes, or hangs, writes as long as it has one.
 *
 * Each removal has its number in the count of changes. A node writes down up to which number its
 * service, in which run, has nothing open any more of what was removed. A run that was proven gone
 * has nothing open; one that began later was never told.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/guid.h"
#include "base/log.h"
#include "bin/godwitd/csv_wire_int.h"

#define LEFT_PREFIX "csv-left/"
#define LEFT_KEY_MAX (sizeof(LEFT_PREFIX) + GUID_TEXT_SIZE)
#define LEFT_MAX 64u /* the oldest that are closed go first: their term is on the device, too */

uint64_t csv_changes(const struct db *db)
{
	const struct db_object *o = db_get(db, DB_SETTING, CSV_COUNTER);

	return o != NULL ? csv_number(o->doc, "changes") : 0;
}

static const char *left_key(const struct guid *id, char buf[LEFT_KEY_MAX])
{
	char text[GUID_TEXT_SIZE];

	(void)snprintf(buf, LEFT_KEY_MAX, LEFT_PREFIX "%s", guid_format(id, text));
	return buf;
}

static const char *clear_key(uint32_t nodeid, char buf[CSV_RUN_KEY_MAX])
{
	(void)snprintf(buf, CSV_RUN_KEY_MAX, "csv-clear/%" PRIu32, nodeid);
	return buf;
}

static bool is_left(const struct db_object *o)
{
	return strncmp(o->key, LEFT_PREFIX, strlen(LEFT_PREFIX)) == 0;
}

const struct db_object *csv_left_find(const struct db *db, const char *id)
{
	char key[LEFT_KEY_MAX];
	struct guid guid;

	return guid_parse(id, &guid) == 0 ? db_get(db, DB_SETTING, left_key(&guid, key)) : NULL;
}

/* Has that run closed all that was removed up to @count? */
static bool closed(const struct db *db, uint32_t nodeid, uint64_t run, uint64_t count)
{
	char key[CSV_RUN_KEY_MAX];
	const struct db_object *o = db_get(db, DB_SETTING, clear_key(nodeid, key));

	return o != NULL && csv_number(o->doc, "run") == run &&
	       csv_number(o->doc, "changes") >= count;
}

bool csv_left_clear(struct member *m, const struct db_object *left, uint32_t *nodeid)
{
	uint64_t count = csv_number(left->doc, "changes");

	for (uint32_t id = 1; id < CSV_WIRE_NODES; id++) {
		uint64_t gone;
		uint64_t run = csv_run_of(m, id, &gone);

		if (run != 0 && !closed(member_db(m), id, run, count)) {
			*nodeid = id;
			return false;
		}
	}
	return true;
}

bool csv_left_open(struct member *m, uint32_t nodeid, uint64_t run)
{
	const struct db *db = member_db(m);

	for (size_t i = 0; i < db_count(db, DB_SETTING); i++) {
		const struct db_object *o = db_at(db, DB_SETTING, i);

		if (is_left(o) && !closed(db, nodeid, run, csv_number(o->doc, "changes"))) {
			return true;
		}
	}
	return false;
}

bool csv_left_any(struct member *m)
{
	const struct db *db = member_db(m);

	for (size_t i = 0; i < db_count(db, DB_SETTING); i++) {
		const struct db_object *o = db_at(db, DB_SETTING, i);
		uint32_t nodeid;

		if (is_left(o) && !csv_left_clear(m, o, &nodeid)) {
			return true;
		}
	}
	return false;
}

/* ---- this node ---- */

static bool same_id(const json_t *text, const struct guid *id)
{
	struct guid other;

	return json_is_string(text) && guid_parse(json_string_value(text), &other) == 0 &&
	       guid_equal(&other, id);
}

/* Does the answer of the service name it? */
static bool has_open(const json_t *answer, const char *id)
{
	struct guid guid;
	json_t *row;
	size_t i;

	if (guid_parse(id, &guid) != 0) {
		return true;
	}
	json_array_foreach(json_object_get(answer, "volumes"), i, row)
	{
		if (same_id(json_object_get(row, "id"), &guid)) {
			return true;
		}
	}
	json_array_foreach(json_object_get(answer, "closing"), i, row)
	{
		if (same_id(row, &guid)) {
			return true;
		}
	}
	return false;
}

/* Up to which change of the volumes nothing is open that was removed. */
static uint64_t closed_up_to(const struct csv_wire *w, const json_t *answer, bool *any)
{
	const struct db *db = member_db(w->place.member);
	uint64_t count = w->told_count;

	*any = false;
	for (size_t i = 0; i < db_count(db, DB_SETTING); i++) {
		const struct db_object *o = db_at(db, DB_SETTING, i);
		uint64_t at = is_left(o) ? csv_number(o->doc, "changes") : 0;

		if (at == 0 || closed(db, w->place.nodeid, w->pid_run, at)) {
			continue;
		}
		*any = true;
		if (has_open(answer, o->key + strlen(LEFT_PREFIX)) && at <= count) {
			count = at - 1;
		}
	}
	return count;
}

void csv_left_seen(struct csv_wire *w, const json_t *answer)
{
	const struct db *db = member_db(w->place.member);
	char key[CSV_RUN_KEY_MAX];
	const struct db_object *o = db_get(db, DB_SETTING, clear_key(w->place.nodeid, key));
	uint64_t count;
	json_t *doc;
	bool any;

	/* Only who lists what is being closed says something; and only after it was told. */
	if (w->told_run != w->pid_run || w->proposing ||
	    !json_is_array(json_object_get(answer, "closing"))) {
		return;
	}
	count = closed_up_to(w, answer, &any);
	if (!any || closed(db, w->place.nodeid, w->pid_run, count)) {
		return;
	}
	log_info(CSV_WIRE_TAG, "evicted volumes are closed here run=%" PRIu64 " changes=%" PRIu64,
	         w->pid_run, count);
	doc = json_pack("{s:I,s:I}", "run", (json_int_t)w->pid_run, "changes", (json_int_t)count);
	csv_wire_put(w, key, doc, o, "that evicted volumes are closed");
	json_decref(doc);
}

/* ---- remembering ---- */

/* Room for one more. */
static int make_room(struct member *m, struct db_cmd *cmd, struct errbuf *eb)
{
	const struct db *db = member_db(m);
	const struct db_object *oldest = NULL;
	uint32_t count = 0;
	uint32_t nodeid;

	for (size_t i = 0; i < db_count(db, DB_SETTING); i++) {
		const struct db_object *o = db_at(db, DB_SETTING, i);

		if (!is_left(o)) {
			continue;
		}
		count++;
		if (csv_left_clear(m, o, &nodeid) &&
		    (oldest == NULL ||
		     csv_number(o->doc, "changes") < csv_number(oldest->doc, "changes"))) {
			oldest = o;
		}
	}
	if (count < LEFT_MAX) {
		return 0;
	}
	if (oldest == NULL) {
		(void)errbuf_set(eb, -EBUSY, "%u volumes that were evicted are still being closed",
		                 count);
		errbuf_hint(eb, "godwit csv list says on each node what it has open");
		return -EBUSY;
	}
	db_cmd_delete(cmd, DB_SETTING, oldest->key);
	db_cmd_if_version(cmd, oldest->version);
	return 0;
}

int csv_left_add(struct member *m, const struct db_object *o, struct db_cmd *cmd, struct errbuf *eb)
{
	const char *id = json_string_value(json_object_get(o->doc, "id"));
	const char *device = json_string_value(json_object_get(o->doc, "device"));
	uint64_t count = csv_changes(member_db(m)) + 1; /* csv_api.c sees that it is this one */
	char key[LEFT_KEY_MAX];
	struct guid guid;
	json_t *doc;
	int err;

	if (id == NULL || guid_parse(id, &guid) != 0) {
		return errbuf_set(eb, -EINVAL, "volume %s has no id", o->key);
	}
	err = make_room(m, cmd, eb);
	if (err != 0) {
		return err;
	}
	doc = json_pack("{s:s,s:s,s:I,s:I}", "name", o->key, "device", device != NULL ? device : "",
	                "term", (json_int_t)csv_number(o->doc, "term"), "changes",
	                (json_int_t)count);
	db_cmd_put(cmd, DB_SETTING, left_key(&guid, key), doc);
	json_decref(doc);
	return 0;
}

json_t *csv_left_list(struct member *m)
{
	const struct db *db = member_db(m);
	json_t *list = json_array();

	for (size_t i = 0; i < db_count(db, DB_SETTING); i++) {
		const struct db_object *o = db_at(db, DB_SETTING, i);
		uint32_t nodeid = 0;
		json_t *row;

		if (!is_left(o)) {
			continue;
		}
		row = json_deep_copy(o->doc);
		(void)json_object_set_new(row, "id", json_string(o->key + strlen(LEFT_PREFIX)));
		if (!csv_left_clear(m, o, &nodeid)) {
			(void)json_object_set_new(row, "open_on", json_integer(nodeid));
		}
		(void)json_array_append_new(list, row);
	}
	return list;
}
