/* SPDX-License-Identifier: Apache-2.0 */

/*
 * db_apply - one command: check and prepare every operation, then change the tables, then tell.
 *
 * Preparing allocates all that changing needs (documents, items, room in the tables, the bytes for
 * the sink), so that changing cannot fail halfway.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/fault.h"
#include "cluster/db/db.h"
#include "cluster/db/db_cmd.h"
#include "cluster/db/db_int.h"
#include "cluster/db/db_wire.h"

/* What one operation will do. */
struct change {
	struct db_op op;
	json_t *before;       /* ref, or NULL */
	json_t *after;        /* ref, or NULL: deleted, or only checked */
	struct db_item *item; /* owned until inserted: a new object */
	uint8_t *pair;        /* owned: the value for the sink */
	size_t pair_len;
};

struct apply {
	struct db *db;
	const struct db_entry *entry;
	struct change *changes; /* owned [DB_OPS_MAX] */
	uint32_t count;
};

static const struct json_limits doc_limits = {
	.bytes_max = DB_DOC_MAX, .depth_max = JSON_DEPTH_MAX - 2, .values_max = DB_DOC_MAX};

static const json_t *member_at(const json_t *doc, const char *path)
{
	char name[DB_PATH_MAX + 1];

	while (doc != NULL) {
		size_t len = strcspn(path, ".");

		memcpy(name, path, len);
		name[len] = '\0';
		doc = json_object_get(doc, name); /* NULL if doc is no object */
		if (path[len] == '\0') {
			return doc;
		}
		path += len + 1;
	}
	return NULL;
}

static bool compare_integers(enum db_compare compare, const json_t *a, const json_t *b)
{
	if (!json_is_integer(a) || !json_is_integer(b)) {
		return false;
	}

	json_int_t x = json_integer_value(a);
	json_int_t y = json_integer_value(b);

	switch (compare) {
	case DB_LT:
		return x < y;
	case DB_LE:
		return x <= y;
	case DB_GT:
		return x > y;
	case DB_GE:
		return x >= y;
	case DB_EQ:
	case DB_NE:
	case DB_HAS:
	case DB_LACKS:
	case DB_COMPARE_COUNT:
		break;
	}
	return false;
}

/* Returns 0; -ESTALE it does not hold; -EBADMSG; -ENOMEM. */
static int check_cond(const struct db_cond *cond, const json_t *doc)
{
	const json_t *member = member_at(doc, cond->path);
	json_t *array = NULL;
	bool holds;

	if (cond->compare == DB_HAS || cond->compare == DB_LACKS) {
		return (member != NULL) == (cond->compare == DB_HAS) ? 0 : -ESTALE;
	}

	int err = json_parse(cond->value, cond->value_len, &doc_limits, &array, NULL);

	if (err != 0 || !json_is_array(array) || json_array_size(array) != 1) {
		json_decref(array);
		return err == -ENOMEM ? err : -EBADMSG;
	}

	const json_t *value = json_array_get(array, 0);

	if (cond->compare == DB_EQ || cond->compare == DB_NE) {
		holds = (member != NULL && json_equal(member, value) != 0) ==
		        (cond->compare == DB_EQ);
	} else {
		holds = compare_integers(cond->compare, member, value);
	}
	json_decref(array);
	return holds ? 0 : -ESTALE;
}

static int check_expect(const struct db_op *op, const struct db_item *item)
{
	bool holds = true;

	switch (op->expect) {
	case DB_ABSENT:
		holds = item == NULL;
		break;
	case DB_PRESENT:
		holds = item != NULL;
		break;
	case DB_VERSION:
		holds = item != NULL && item->pub.version == op->version;
		break;
	case DB_ANY:
	case DB_EXPECT_COUNT:
		break;
	}
	if ((op->action == DB_MERGE || op->action == DB_DELETE) && item == NULL) {
		holds = false;
	}
	return holds ? 0 : -ESTALE;
}

/* RFC 7396; @patch is an object. Depth is bounded by the parser's limit on both documents. */
/* NOLINTNEXTLINE(misc-no-recursion): a tree */
static int merge(json_t *doc, json_t *patch)
{
	for (void *i = json_object_iter(patch); i != NULL; i = json_object_iter_next(patch, i)) {
		const char *name = json_object_iter_key(i);
		json_t *value = json_object_iter_value(i);
		int err = 0;

		if (json_is_null(value)) {
			(void)json_object_del(doc, name);
			continue;
		}
		if (!json_is_object(value)) {
			if (json_object_set_new(doc, name, json_deep_copy(value)) != 0) {
				return -ENOMEM;
			}
			continue;
		}

		json_t *inner = json_object_get(doc, name);

		if (!json_is_object(inner)) {
			inner = json_object();
			if (json_object_set_new(doc, name, inner) != 0) {
				return -ENOMEM;
			}
		}
		err = merge(inner, value);
		if (err != 0) {
			return err;
		}
	}
	return 0;
}

/* The document after the operation. Returns 0; -EINVAL; -ENOMEM. */
static int make_doc(struct change *c, const struct db_item *item)
{
	json_t *doc = NULL;
	int err = json_parse(c->op.doc, c->op.doc_len, &doc_limits, &doc, NULL);

	if (err != 0) {
		return err == -ENOMEM ? err : -EINVAL;
	}
	if (db_doc_check(doc) != 0) {
		json_decref(doc);
		return -EINVAL;
	}
	if (c->op.action != DB_MERGE) {
		c->after = doc;
		return 0;
	}
	c->after = json_deep_copy(item->doc);
	err = c->after == NULL ? -ENOMEM : merge(c->after, doc);
	json_decref(doc);
	return err;
}

/* The bytes for the sink. Returns 0; -ENOSPC the document grew too large; -ENOMEM. */
static int make_pair(struct apply *a, struct change *c, uint64_t created)
{
	char *text = json_text(c->after, JSON_TEXT_SORTED);
	struct db_pair_wire w = {.version = le64_make(a->entry->index),
	                         .created = le64_make(created),
	                         .changed_ns = le64_make(a->entry->time_ns)};

	if (text == NULL) {
		return -ENOMEM;
	}

	size_t len = strlen(text);
	int err = 0;

	if (len > DB_DOC_MAX) {
		err = -ENOSPC;
	} else if ((c->pair = gw_malloc(sizeof(w) + len)) == NULL) {
		err = -ENOMEM;
	} else {
		memcpy(c->pair, &w, sizeof(w));
		memcpy(c->pair + sizeof(w), text, len);
		c->pair_len = sizeof(w) + len;
	}
	free(text);
	return err;
}

static bool changes_before(const struct apply *a, const struct db_op *op)
{
	for (uint32_t i = 0; i < a->count; i++) {
		const struct db_op *other = &a->changes[i].op;

		if (other->action != DB_CHECK && other->kind == op->kind &&
		    strcmp(other->key, op->key) == 0) {
			return true;
		}
	}
	return false;
}

static int check_conds(const struct db_op *op, const json_t *doc)
{
	size_t offset = 0;
	struct db_cond cond;
	int rc;

	while ((rc = db_op_cond(op, &offset, &cond)) == 1) {
		rc = check_cond(&cond, doc);
		if (rc != 0) {
			return rc;
		}
	}
	return rc;
}

/* Room for one more object of the kind, and the object. */
static int make_item(struct apply *a, struct change *c)
{
	struct db_table *table = &a->db->tables[c->op.kind];

	if (table->count + a->count >= DB_OBJECTS_MAX) {
		return -ENOSPC;
	}
	if (db_reserve(table, a->count + 1) != 0) {
		return -ENOMEM;
	}
	c->item = db_item_create(c->op.kind, c->op.key, c->after);
	return c->item == NULL ? -ENOMEM : 0;
}

/* Check and prepare one operation: a->changes[a->count]. */
static int prepare(struct apply *a, struct change *c)
{
	struct db_op *op = &c->op;
	const struct db_table *table = &a->db->tables[op->kind];
	const struct db_item *item = NULL;
	int found;
	int err;

	if (op->action == DB_LOG) {
		(void)snprintf(op->key, sizeof(op->key), "%016" PRIx64 "-%02x", a->entry->index,
		               a->count);
	}

	size_t at = db_find(table, op->key, &found);

	if (found != 0) {
		item = table->items[at];
		c->before = json_incref(item->doc);
	}
	err = check_expect(op, item);
	if (err == 0) {
		err = check_conds(op, c->before);
	}
	if (err != 0 || op->action == DB_CHECK) {
		return err;
	}
	if (changes_before(a, op)) {
		return -EINVAL;
	}
	if (op->action == DB_DELETE) {
		return 0;
	}
	err = make_doc(c, item);
	if (err == 0) {
		err = make_pair(a, c, item != NULL ? item->pub.created : a->entry->index);
	}
	if (err == 0 && item == NULL) {
		err = make_item(a, c);
	}
	return err;
}

static size_t pair_key(const struct db_op *op, char out[DB_PAIR_KEY_MAX + 1])
{
	size_t len = strlen(op->key);

	out[0] = (char)op->kind;
	out[1] = '/';
	memcpy(out + 2, op->key, len);
	return len + 2;
}

static void change_tables(struct apply *a, struct change *c, const struct db_sink *sink)
{
	struct db_table *table = &a->db->tables[c->op.kind];
	char key[DB_PAIR_KEY_MAX + 1];
	size_t key_len = pair_key(&c->op, key);
	int found;

	if (c->op.action == DB_CHECK) {
		return;
	}
	if (c->op.action == DB_DELETE) {
		size_t at = db_find(table, c->op.key, &found);

		CHECK(found != 0);
		db_item_destroy(db_remove(table, at));
		if (sink != NULL) {
			sink->del(sink->arg, key, key_len);
		}
		return;
	}

	struct db_item *item = c->item;

	if (item != NULL) {
		item->pub.created = a->entry->index;
		db_insert(table, item);
		c->item = NULL;
	} else {
		size_t at = db_find(table, c->op.key, &found);

		CHECK(found != 0);
		item = table->items[at];
		json_decref(item->doc);
		item->doc = json_incref(c->after);
		item->pub.doc = c->after;
	}
	item->pub.version = a->entry->index;
	item->pub.changed_ns = a->entry->time_ns;
	if (sink != NULL) {
		sink->put(sink->arg, key, key_len, c->pair, c->pair_len);
	}
}

/* Events are a ring: the oldest go. Their keys ascend, so they are the first of the table. */
static void trim_events(struct db *db, const struct db_sink *sink)
{
	struct db_table *table = &db->tables[DB_EVENT];
	struct db_op op = {.kind = DB_EVENT};
	char key[DB_PAIR_KEY_MAX + 1];

	while (table->count > DB_EVENTS_MAX) {
		struct db_item *item = db_remove(table, 0);

		memcpy(op.key, item->key, sizeof(op.key));
		db_item_destroy(item);

		size_t key_len = pair_key(&op, key);

		if (sink != NULL) {
			sink->del(sink->arg, key, key_len);
		}
	}
}

static void tell(struct apply *a)
{
	for (uint32_t i = 0; i < a->count; i++) {
		const struct change *c = &a->changes[i];
		struct db_change told = {.kind = c->op.kind,
		                         .key = c->op.key,
		                         .index = a->entry->index,
		                         .before = c->before,
		                         .after = c->after};

		if (c->op.action == DB_CHECK) {
			continue;
		}
		list_for_each(link, &a->db->watches)
		{
			struct db_watch *w = list_entry(link, struct db_watch, link);

			if (w->kind == DB_KIND_COUNT || w->kind == c->op.kind) {
				w->fn(w->arg, &told);
			}
		}
	}
}

static void drop(struct change *c)
{
	json_decref(c->before);
	json_decref(c->after);
	db_item_destroy(c->item);
	free(c->pair);
}

/* Walk through the command. Returns the status; a->count is the operation it is about. */
static int prepare_all(struct apply *a)
{
	struct db_cursor cursor;
	int rc = db_cursor_init(&cursor, a->entry->command, a->entry->len);

	if (rc != 0) {
		return -EBADMSG;
	}
	for (;;) {
		struct change *c = &a->changes[a->count];

		*c = (struct change){0};
		rc = db_cursor_op(&cursor, &c->op);
		if (rc <= 0) {
			return rc;
		}
		rc = prepare(a, c);
		if (rc != 0) {
			drop(c);
			return rc;
		}
		a->count++;
	}
}

int db_apply(struct db *db, const struct db_entry *entry, const struct db_sink *sink,
             struct db_result *out)
{
	/* One more than the operations: the cursor looks for an end behind the last. */
	struct apply a = {
		.db = db, .entry = entry, .changes = gw_calloc(DB_OPS_MAX + 1, sizeof(*a.changes))};

	if (a.changes == NULL) {
		return -ENOMEM;
	}

	int status = prepare_all(&a);

	if (status == 0) {
		for (uint32_t i = 0; i < a.count; i++) {
			change_tables(&a, &a.changes[i], sink);
		}
		trim_events(db, sink);
	}
	if (status != -ENOMEM) {
		db->index = entry->index;
		*out = (struct db_result){.status = status, .op_index = status == 0 ? 0 : a.count};
	}
	if (status == 0) {
		tell(&a);
	}
	for (uint32_t i = 0; i < a.count; i++) {
		drop(&a.changes[i]);
	}
	free(a.changes);
	return status == -ENOMEM ? -ENOMEM : 0;
}

int db_log(struct db *db, const struct db_entry *entry, uint32_t number, json_t *doc,
           const struct db_sink *sink)
{
	struct change change = {.op = {.kind = DB_EVENT, .action = DB_LOG}, .after = doc};
	struct apply a = {.db = db, .entry = entry, .changes = &change};
	int err = db_doc_check(doc);

	CHECK(number >= DB_LOG_FIRST && number <= DB_LOG_LAST);
	if (err == 0) {
		(void)snprintf(change.op.key, sizeof(change.op.key), "%016" PRIx64 "-%02x",
		               entry->index, number);
		err = make_pair(&a, &change, entry->index);
	}
	if (err == 0) {
		err = make_item(&a, &change);
	}
	if (err == 0) {
		change_tables(&a, &change, sink);
		trim_events(db, sink);
		db->index = entry->index;
		a.count = 1;
		tell(&a);
	}
	change.after = NULL; /* the caller's */
	drop(&change);
	return err == -ENOSPC ? -EINVAL : err;
}
