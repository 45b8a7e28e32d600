/* SPDX-License-Identifier: Apache-2.0 */

/*
 * ha_volumes - the shared volumes of a VM of the cluster: found in the paths of its definition,
 * noted by number in its document ("ha.volumes"), and what a start waits for there.
 *
 * A volume's word that it refuses earlier runs comes from the node that coordinates it: csv_wire.h.
 */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "bin/godwitd/ha_int.h"
#include "cluster/db/db.h"
#include "cluster/db/db_cmd.h"

#define NAME_MAX_BYTES 128u
#define DEPTH_MAX 5u

struct found {
	const struct ha_api *api;
	json_t *numbers; /* owned */
	struct db_cmd *cmd;
	struct errbuf *eb;
	uint64_t set;
	char prefix[512];
};

/* A path on a volume: that has to be in the cluster, now and when the VM is written down. */
static int path_add(struct found *f, const char *path)
{
	const char *at = path + strlen(f->prefix);
	size_t len = strcspn(at, "/");
	const struct db_object *o;
	char name[NAME_MAX_BYTES];
	json_int_t number;

	(void)snprintf(name, sizeof(name), "%.*s", (int)(len < sizeof(name) ? len : 0), at);
	o = db_get(member_db(f->api->place.member), DB_VOLUME, name);
	number = o != NULL ? json_integer_value(json_object_get(o->doc, "number")) : 0;
	if (number < 1 || number > (json_int_t)ROLE_VOLUMES_MAX) {
		(void)errbuf_set(f->eb, -ENOENT, "%s: the cluster has no volume %s", path, name);
		errbuf_hint(f->eb, "godwit csv list shows those there are");
		return -ENOENT;
	}
	if ((f->set & role_bit((uint32_t)number)) == 0) {
		f->set |= role_bit((uint32_t)number);
		(void)json_array_append_new(f->numbers, json_integer(number));
		db_cmd_check(f->cmd, DB_VOLUME, name);
		db_cmd_if_u64(f->cmd, "number", DB_EQ, (uint64_t)number);
	}
	return 0;
}

/* Values of one object or array that were looked at so far. */
struct level {
	json_t *value; /* borrowed */
	void *member;  /* of an object: the next; NULL = none is left */
	size_t index;  /* of an array: the next */
};

static struct level level_of(json_t *value)
{
	return (struct level){.value = value, .member = json_object_iter(value)};
}

/* The next value; NULL = that was the last. */
static json_t *level_next(struct level *l)
{
	json_t *next = NULL;

	if (json_is_array(l->value)) {
		return json_array_get(l->value, l->index++);
	}
	if (l->member != NULL) {
		next = json_object_iter_value(l->member);
		l->member = json_object_iter_next(l->value, l->member);
	}
	return next;
}

/* All texts of a definition, DEPTH_MAX levels deep: it has been checked and has fewer. */
static int walk(struct found *f, json_t *definition)
{
	struct level levels[DEPTH_MAX] = {level_of(definition)};
	size_t depth = 1;

	while (depth > 0) {
		json_t *value = level_next(&levels[depth - 1]);
		const char *text = json_string_value(value);
		int err = 0;

		if (value == NULL) {
			depth--;
		} else if (text != NULL && strncmp(text, f->prefix, strlen(f->prefix)) == 0) {
			err = path_add(f, text);
		} else if (text == NULL && depth < DEPTH_MAX) {
			levels[depth++] = level_of(value);
		}
		if (err != 0) {
			return err;
		}
	}
	return 0;
}

int ha_volumes_note(const struct ha_api *api, json_t *definition, json_t *ha, struct db_cmd *cmd,
                    struct errbuf *eb)
{
	struct found f = {.api = api, .numbers = json_array(), .cmd = cmd, .eb = eb};
	int err;

	(void)json_object_del(ha, "volumes"); /* nobody else says which */
	(void)snprintf(f.prefix, sizeof(f.prefix), "%.500s/csv/", api->cfg.state_dir);
	err = walk(&f, definition);
	if (err == 0 && f.set != 0) {
		/* It is not evicted at the same time. */
		csv_wire_count(member_db(api->place.member), cmd);
		err = json_object_set(ha, "volumes", f.numbers) == 0 ? 0 : -ENOMEM;
	}
	json_decref(f.numbers);
	return err;
}

bool ha_volumes_only(const struct ha_api *api, const json_t *doc)
{
	const json_t *disks = json_object_get(json_object_get(doc, "definition"), "disks");
	char prefix[512];
	json_t *disk;
	size_t i;

	(void)snprintf(prefix, sizeof(prefix), "%.500s/csv/", api->cfg.state_dir);
	json_array_foreach(disks, i, disk)
	{
		const char *path = json_string_value(json_object_get(disk, "path"));
		const char *kind = json_string_value(json_object_get(disk, "kind"));

		if (path == NULL || json_is_true(json_object_get(disk, "read_only")) ||
		    (kind != NULL && strcmp(kind, "dvd") == 0)) {
			continue;
		}
		if (strncmp(path, prefix, strlen(prefix)) != 0 || strstr(path, "/../") != NULL) {
			return false;
		}
	}
	return true;
}

void ha_volumes_text(const struct ha_api *api, const struct role *r, char *buf, size_t size)
{
	const struct db *db = member_db(api->place.member);
	struct text text;

	text_init(&text, buf, size);
	if (r->state != ROLE_RAISING) {
		return;
	}
	for (size_t i = 0; i < db_count(db, DB_VOLUME); i++) {
		const struct db_object *o = db_at(db, DB_VOLUME, i);
		uint32_t number = (uint32_t)json_integer_value(json_object_get(o->doc, "number"));
		uint32_t node =
			(uint32_t)json_integer_value(json_object_get(o->doc, "coordinator"));

		if ((r->policy.volumes & ~r->acked & role_bit(number)) == 0) {
			continue;
		}
		if (ha_node_name(api, node)[0] == '\0') {
			text_add(&text, "; volume %s has no coordinator yet", o->key);
		} else {
			text_add(&text,
			         "; volume %s: its coordinator on %s has not said yet that it "
			         "refuses earlier runs",
			         o->key, ha_node_name(api, node));
		}
	}
}
