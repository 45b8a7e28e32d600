/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/db/db.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "cluster/db/db_cmd.h"
#include "cluster/db/db_int.h"
#include "cluster/db/db_wire.h"

static const char *const kind_names[DB_KIND_COUNT] = {
	[DB_NODE] = "node",       [DB_VM] = "vm",           [DB_VOLUME] = "volume",
	[DB_NETWORK] = "network", [DB_WITNESS] = "witness", [DB_JOB] = "job",
	[DB_EVENT] = "event",     [DB_SETTING] = "setting",
};

const char *db_kind_name(enum db_kind kind)
{
	CHECK(kind < DB_KIND_COUNT);
	return kind_names[kind];
}

int db_kind_parse(const char *name, enum db_kind *out)
{
	for (size_t i = 0; i < DB_KIND_COUNT; i++) {
		if (strcmp(name, kind_names[i]) == 0) {
			*out = (enum db_kind)i;
			return 0;
		}
	}
	return -ENOENT;
}

int db_create(struct db **out)
{
	struct db *db = gw_calloc(1, sizeof(*db));

	*out = NULL;
	if (db == NULL) {
		return -ENOMEM;
	}
	list_init(&db->watches);
	*out = db;
	return 0;
}

void db_clear(struct db *db)
{
	for (size_t k = 0; k < DB_KIND_COUNT; k++) {
		struct db_table *t = &db->tables[k];

		for (size_t i = 0; i < t->count; i++) {
			db_item_destroy(t->items[i]);
		}
		free(t->items);
		*t = (struct db_table){0};
	}
	db->index = 0;
}

void db_destroy(struct db *db)
{
	if (db == NULL) {
		return;
	}
	CHECK(list_empty(&db->watches));
	db_clear(db);
	free(db);
}

size_t db_find(const struct db_table *table, const char *key, int *found)
{
	size_t low = 0;
	size_t high = table->count;

	*found = 0;
	while (low < high) {
		size_t mid = low + (high - low) / 2;
		int order = strcmp(table->items[mid]->key, key);

		if (order == 0) {
			*found = 1;
			return mid;
		}
		if (order < 0) {
			low = mid + 1;
		} else {
			high = mid;
		}
	}
	return low;
}

int db_reserve(struct db_table *table, size_t more)
{
	size_t need = table->count + more;
	size_t room = table->room;

	if (need <= room) {
		return 0;
	}
	while (room < need) {
		room = room == 0 ? 16 : room * 2;
	}

	struct db_item **items = gw_realloc_array(table->items, room, sizeof(struct db_item *));

	if (items == NULL) {
		return -ENOMEM;
	}
	table->items = items;
	table->room = room;
	return 0;
}

void db_insert(struct db_table *table, struct db_item *item)
{
	int found;
	size_t at = db_find(table, item->key, &found);

	CHECK(found == 0 && table->count < table->room);
	memmove(table->items + at + 1, table->items + at,
	        (table->count - at) * sizeof(struct db_item *));
	table->items[at] = item;
	table->count++;
}

struct db_item *db_remove(struct db_table *table, size_t at)
{
	struct db_item *item = table->items[at];

	table->count--;
	memmove(table->items + at, table->items + at + 1,
	        (table->count - at) * sizeof(struct db_item *));
	return item;
}

struct db_item *db_item_create(enum db_kind kind, const char *key, json_t *doc)
{
	struct db_item *item = gw_calloc(1, sizeof(*item));

	if (item == NULL) {
		return NULL;
	}
	memcpy(item->key, key, strlen(key));
	item->doc = json_incref(doc);
	item->pub = (struct db_object){.key = item->key, .doc = doc, .kind = kind};
	return item;
}

void db_item_destroy(struct db_item *item)
{
	if (item != NULL) {
		json_decref(item->doc);
		free(item);
	}
}

const struct db_object *db_get(const struct db *db, enum db_kind kind, const char *key)
{
	CHECK(kind < DB_KIND_COUNT);

	int found;
	size_t at = db_find(&db->tables[kind], key, &found);

	return found != 0 ? &db->tables[kind].items[at]->pub : NULL;
}

size_t db_count(const struct db *db, enum db_kind kind)
{
	CHECK(kind < DB_KIND_COUNT);
	return db->tables[kind].count;
}

const struct db_object *db_at(const struct db *db, enum db_kind kind, size_t index)
{
	CHECK(kind < DB_KIND_COUNT && index < db->tables[kind].count);
	return &db->tables[kind].items[index]->pub;
}

uint64_t db_index(const struct db *db)
{
	return db->index;
}

/* FNV-1a: a comparison of nodes, no defence against anybody. */
static uint64_t hash_add(uint64_t hash, const void *bytes, size_t len)
{
	const uint8_t *b = bytes;

	for (size_t i = 0; i < len; i++) {
		hash = (hash ^ b[i]) * 1099511628211ull;
	}
	return hash;
}

uint64_t db_hash(const struct db *db)
{
	uint64_t hash = 14695981039346656037ull;

	for (size_t k = 0; k < DB_KIND_COUNT; k++) {
		for (size_t i = 0; i < db->tables[k].count; i++) {
			const struct db_object *o = &db->tables[k].items[i]->pub;
			char *text = json_text(o->doc, JSON_TEXT_SORTED);
			le64 numbers[4] = {le64_make(k), le64_make(o->version),
			                   le64_make(o->created), le64_make(o->changed_ns)};

			hash = hash_add(hash, numbers, sizeof(numbers));
			hash = hash_add(hash, o->key, strlen(o->key) + 1);
			if (text != NULL) {
				hash = hash_add(hash, text, strlen(text) + 1);
			}
			free(text);
		}
	}
	return hash;
}

/* Depth is bounded by the parser. */
/* NOLINTNEXTLINE(misc-no-recursion): a tree */
static bool doc_allowed(json_t *value)
{
	json_t *member;
	size_t i;

	if (json_is_real(value)) {
		return false;
	}
	if (json_is_array(value)) {
		json_array_foreach(value, i, member)
		{
			if (!doc_allowed(member)) {
				return false;
			}
		}
	} else if (json_is_object(value)) {
		for (void *iter = json_object_iter(value); iter != NULL;
		     iter = json_object_iter_next(value, iter)) {
			if (!doc_allowed(json_object_iter_value(iter))) {
				return false;
			}
		}
	}
	return true;
}

int db_doc_check(json_t *doc)
{
	return json_is_object(doc) && doc_allowed(doc) ? 0 : -EINVAL;
}

int db_load(struct db *db, const void *key, size_t key_len, const void *value, size_t value_len,
            struct errbuf *eb)
{
	static const struct json_limits limits = {
		.bytes_max = DB_DOC_MAX, .depth_max = JSON_DEPTH_MAX, .values_max = DB_DOC_MAX};
	const uint8_t *k = key;
	struct db_pair_wire w;
	char text[DB_KEY_MAX + 1] = {0};
	json_t *doc = NULL;
	int found;

	if (key_len < 3 || key_len > DB_PAIR_KEY_MAX || k[0] >= DB_KIND_COUNT || k[1] != '/' ||
	    !db_key_valid((const char *)k + 2, key_len - 2) || value_len < sizeof(w)) {
		return errbuf_set(eb, -EBADMSG, "cluster database: not the pair of an object");
	}
	memcpy(text, k + 2, key_len - 2);
	memcpy(&w, value, sizeof(w));

	struct db_table *table = &db->tables[k[0]];
	int err = json_parse((const uint8_t *)value + sizeof(w), value_len - sizeof(w), &limits,
	                     &doc, eb);

	if (err == 0 && db_doc_check(doc) != 0) {
		err = errbuf_set(eb, -EBADMSG, "a real number, or no object");
	}
	if (err != 0) {
		json_decref(doc);
		errbuf_prepend(eb, "cluster database: %s %s", kind_names[k[0]], text);
		return err == -ENOMEM ? err : -EBADMSG;
	}
	(void)db_find(table, text, &found);

	struct db_item *item = NULL;

	if (found != 0) {
		err = errbuf_set(eb, -EEXIST, "cluster database: %s %s twice", kind_names[k[0]],
		                 text);
	} else if (db_reserve(table, 1) != 0 ||
	           (item = db_item_create((enum db_kind)k[0], text, doc)) == NULL) {
		err = errbuf_sys(eb, -ENOMEM, "cluster database");
	} else {
		item->pub.version = le64_get(w.version);
		item->pub.created = le64_get(w.created);
		item->pub.changed_ns = le64_get(w.changed_ns);
		db_insert(table, item);
	}
	json_decref(doc);
	return err;
}

void db_loaded(struct db *db, uint64_t index)
{
	db->index = index;
}

int db_watch_add(struct db *db, enum db_kind kind, db_watch_fn fn, void *arg, struct db_watch **out)
{
	struct db_watch *w = gw_calloc(1, sizeof(*w));

	*out = NULL;
	if (w == NULL) {
		return -ENOMEM;
	}
	*w = (struct db_watch){.kind = kind, .fn = fn, .arg = arg};
	list_add_tail(&db->watches, &w->link);
	*out = w;
	return 0;
}

void db_watch_del(struct db_watch *watch)
{
	if (watch != NULL) {
		list_del(&watch->link);
		free(watch);
	}
}
