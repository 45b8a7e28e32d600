/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLUSTER_DB_DB_INT_H
#define CLUSTER_DB_DB_INT_H

/* db, inside: tables are arrays of pointers sorted by key. */

#include "base/list.h"
#include "cluster/db/db.h"

struct db_item {
	struct db_object pub;
	json_t *doc; /* ref: pub.doc */
	char key[DB_KEY_MAX + 1];
};

struct db_table {
	struct db_item **items; /* owned [count], room for [room] */
	size_t count;
	size_t room;
};

struct db {
	struct db_table tables[DB_KIND_COUNT];
	struct list watches; /* of struct db_watch */
	uint64_t index;
};

struct db_watch {
	struct list link;
	enum db_kind kind; /* DB_KIND_COUNT = all */
	db_watch_fn fn;
	void *arg;
};

/* db_find() - where @key is in @table (*found) or would be. */
size_t db_find(const struct db_table *table, const char *key, int *found);

/* db_reserve() - room for @more items. Returns 0; -ENOMEM. */
MUST_USE int db_reserve(struct db_table *table, size_t more);

/* db_insert() - takes @item; there is room, and no such key yet. */
void db_insert(struct db_table *table, struct db_item *item);

/* db_remove() - take the item at @at out; the caller frees it. */
struct db_item *db_remove(struct db_table *table, size_t at);

/* db_item_create() - takes a new reference of @doc. NULL = no memory. */
struct db_item *db_item_create(enum db_kind kind, const char *key, json_t *doc);
void db_item_destroy(struct db_item *item);

/* db_doc_check() - 0; -EINVAL it is no object, or has a real number in it. */
MUST_USE int db_doc_check(json_t *doc);

#endif
