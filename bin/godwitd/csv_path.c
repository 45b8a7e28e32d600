/* SPDX-License-Identifier: Apache-2.0 */

/*
 * csv_path - which volumes each node reaches itself, as its volume service says: in the log, so
 * that whoever looks for a coordinator finds one that can write.
 *
 * csv-path/N: {"run", "good": [numbers], "lost": [numbers]}, written by node N. What is in neither
 * was not tried yet, and what another run has said counts for nothing.
 *
 * csv-held/N: {"run", "volumes": [numbers]}: what this run has opened, or is about to. It stands in
 * the log before the service connects to a coordinator, so whoever coordinates later waits for
 * those only that may hold something.
 */

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "bin/godwitd/csv_wire_int.h"

static const char *path_key(uint32_t nodeid, char buf[CSV_RUN_KEY_MAX])
{
	(void)snprintf(buf, CSV_RUN_KEY_MAX, "csv-path/%" PRIu32, nodeid);
	return buf;
}

static bool has(const json_t *list, uint64_t number)
{
	for (size_t i = 0; i < json_array_size(list); i++) {
		if (json_integer_value(json_array_get(list, i)) == (json_int_t)number) {
			return true;
		}
	}
	return false;
}

enum csv_path csv_path_of(struct member *m, uint32_t nodeid, uint64_t number)
{
	char key[CSV_RUN_KEY_MAX];
	const struct db_object *o = db_get(member_db(m), DB_SETTING, path_key(nodeid, key));
	uint64_t gone;
	uint64_t run = csv_run_of(m, nodeid, &gone);

	if (o == NULL || run == 0 || csv_number(o->doc, "run") != run) {
		return CSV_PATH_UNKNOWN;
	}
	if (has(json_object_get(o->doc, "lost"), number)) {
		return CSV_PATH_LOST;
	}
	return has(json_object_get(o->doc, "good"), number) ? CSV_PATH_GOOD : CSV_PATH_UNKNOWN;
}

/* In the order of the database, so that what says the same is the same. */
static json_t *document(const struct csv_wire *w, const json_t *volumes)
{
	const struct db *db = member_db(w->place.member);
	json_t *good = json_array();
	json_t *lost = json_array();
	json_t *row;
	size_t k;

	for (size_t i = 0; i < db_count(db, DB_VOLUME); i++) {
		const struct db_object *o = db_at(db, DB_VOLUME, i);
		json_int_t number = (json_int_t)csv_number(o->doc, "number");

		json_array_foreach(volumes, k, row)
		{
			const char *name = json_string_value(json_object_get(row, "name"));
			const char *way = json_string_value(json_object_get(row, "way"));

			if (name == NULL || way == NULL || strcmp(name, o->key) != 0) {
				continue;
			}
			if (strcmp(way, "good") == 0) {
				(void)json_array_append_new(good, json_integer(number));
			} else if (strcmp(way, "lost") == 0) {
				(void)json_array_append_new(lost, json_integer(number));
			}
		}
	}
	return json_pack("{s:I,s:o,s:o}", "run", (json_int_t)w->pid_run, "good", good, "lost",
	                 lost);
}

static const char *held_key(uint32_t nodeid, char buf[CSV_RUN_KEY_MAX])
{
	(void)snprintf(buf, CSV_RUN_KEY_MAX, "csv-held/%" PRIu32, nodeid);
	return buf;
}

/* What its run that is now has said; NULL = nothing. */
static const json_t *held_list(struct member *m, uint32_t nodeid)
{
	char key[CSV_RUN_KEY_MAX];
	const struct db_object *o = db_get(member_db(m), DB_SETTING, held_key(nodeid, key));
	uint64_t gone;
	uint64_t run = csv_run_of(m, nodeid, &gone);

	return o != NULL && run != 0 && csv_number(o->doc, "run") == run
	               ? json_object_get(o->doc, "volumes")
	               : NULL;
}

bool csv_holds(struct member *m, uint32_t nodeid, uint64_t number)
{
	const json_t *list = held_list(m, nodeid);

	return list == NULL || has(list, number);
}

bool csv_holds_said(struct member *m, uint32_t nodeid, uint64_t number)
{
	return has(held_list(m, nodeid), number);
}

/* Does it have its slot there? Then it wants to go on. One that has a client already (and says the
 * volume's id) was told so by a version of godwitd that did not ask. */
static bool wants(const json_t *volumes, const char *name)
{
	json_t *row;
	size_t i;

	json_array_foreach(volumes, i, row)
	{
		const char *is = json_string_value(json_object_get(row, "name"));
		const char *slot = json_string_value(json_object_get(row, "slot"));

		if (is != NULL && slot != NULL && strcmp(is, name) == 0) {
			return strcmp(slot, "held") == 0 ||
			       json_is_string(json_object_get(row, "id"));
		}
	}
	return false;
}

static void held_seen(struct csv_wire *w, const json_t *volumes)
{
	struct member *m = w->place.member;
	const struct db *db = member_db(m);
	char key[CSV_RUN_KEY_MAX];
	const struct db_object *o = db_get(db, DB_SETTING, held_key(w->place.nodeid, key));
	json_t *list = json_array();
	json_t *doc;

	for (size_t i = 0; i < db_count(db, DB_VOLUME); i++) {
		const struct db_object *v = db_at(db, DB_VOLUME, i);
		uint64_t number = csv_number(v->doc, "number");

		if (csv_holds_said(m, w->place.nodeid, number) || wants(volumes, v->key)) {
			(void)json_array_append_new(list, json_integer((json_int_t)number));
		}
	}
	doc = json_pack("{s:I,s:o}", "run", (json_int_t)w->pid_run, "volumes", list);
	if (doc != NULL && !w->proposing && (o == NULL || !json_equal(o->doc, doc)) &&
	    (o != NULL || db_count(db, DB_VOLUME) != 0)) {
		csv_wire_put(w, key, doc, o, "which volumes this node opens");
	}
	json_decref(doc);
}

void csv_path_seen(struct csv_wire *w, const json_t *volumes)
{
	const struct db *db = member_db(w->place.member);
	char key[CSV_RUN_KEY_MAX];
	const struct db_object *o = db_get(db, DB_SETTING, path_key(w->place.nodeid, key));
	json_t *doc = document(w, volumes);
	bool any = json_array_size(json_object_get(doc, "good")) != 0 ||
	           json_array_size(json_object_get(doc, "lost")) != 0;

	if (doc != NULL && !w->proposing && (o != NULL ? !json_equal(o->doc, doc) : any)) {
		csv_wire_put(w, key, doc, o, "which volumes this node reaches");
	}
	json_decref(doc);
	held_seen(w, volumes);
}
