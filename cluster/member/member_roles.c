/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/member/member_roles.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/errbuf.h"
#include "base/fault.h"
#include "base/log.h"
#include "cluster/member/member_events.h"
#include "cluster/member/vm_doc.h"
#include "cluster/role/role_cmd.h"
#include "cluster/role/role_save.h"
#include "cluster/role/role_wire.h"

#define TAG "member"
#define REMOVE_MAX 32u /* with one entry: between two flushes the table remembers 64 */

struct member_roles {
	struct db *db;          /* borrowed */
	struct db_watch *watch; /* owned, as the next */
	struct role_table *table;
	const struct member_role_ops *ops; /* borrowed; NULL = nobody listens */
	void *arg;
	bool touched; /* documents changed roles, in this entry */
	bool orphans; /* there may be roles without a document */
	int err;      /* -ENOMEM on the way */
};

uint32_t member_roles_find(const struct member_roles *r, const char *name)
{
	for (const struct role *role = role_table_next(r->table, 0); role != NULL;
	     role = role_table_next(r->table, role->id)) {
		if (strcmp(role->name, name) == 0) {
			return role->id;
		}
	}
	return 0;
}

/* The lowest: the tables that agents and leaders have stay small. */
static uint32_t free_id(const struct role_table *t)
{
	uint32_t id = 1;

	while (role_table_role(t, id) != NULL) {
		id++;
	}
	return id;
}

static bool has_document(const struct member_roles *r, const char *name)
{
	const struct db_object *o = db_get(r->db, DB_VM, name);

	return o != NULL && vm_doc_is_role(o->doc);
}

/* Its document is gone: it goes, or stops and goes then. */
static void end_role(struct member_roles *r, uint32_t id)
{
	const struct role_cmd stop = {.verb = ROLE_CMD_WANT,
	                              .role = id,
	                              .epoch = role_table_epoch(r->table),
	                              .now_ms = role_table_now_ms(r->table),
	                              .arg = {ROLE_WANT_OFFLINE}};

	if (role_table_remove(r->table, id, NULL) == -EBUSY) {
		r->orphans = true;
		if (role_table_apply(r->table, &stop) == 0 &&
		    role_table_remove(r->table, id, NULL) == 0) {
			return; /* it had only waited for a node */
		}
	}
}

static void end_orphans(struct member_roles *r)
{
	uint32_t removed = 0;
	bool left = false;

	for (const struct role *role = role_table_next(r->table, 0); role != NULL;) {
		uint32_t id = role->id;

		if (!has_document(r, role->name)) {
			bool gone =
				removed < REMOVE_MAX && role_table_remove(r->table, id, NULL) == 0;

			removed += gone;
			left = left || !gone;
		}
		role = role_table_next(r->table, id);
	}
	r->orphans = left;
}

/* The roles that @doc wants to run before its own: those that have a document. */
static void find_after(const struct member_roles *r, const json_t *doc, uint32_t self,
                       uint32_t after[ROLE_AFTER_MAX])
{
	const char *name;
	uint32_t count = 0;

	for (uint32_t i = 0; i < ROLE_AFTER_MAX; i++) {
		after[i] = 0;
	}
	for (uint32_t i = 0; (name = vm_doc_after(doc, i)) != NULL; i++) {
		uint32_t id = has_document(r, name) ? member_roles_find(r, name) : 0;

		if (id != 0 && id != self) {
			after[count++] = id;
		}
	}
}

static bool names_after(const json_t *doc, const char *name)
{
	const char *one;

	for (uint32_t i = 0; (one = vm_doc_after(doc, i)) != NULL; i++) {
		if (strcmp(one, name) == 0) {
			return true;
		}
	}
	return false;
}

/* The role called @name has come or gone: those that are to start after it. A number may be
 * another role's later. */
static void refer_to(struct member_roles *r, const char *name)
{
	for (size_t i = 0; i < db_count(r->db, DB_VM); i++) {
		const struct db_object *o = db_at(r->db, DB_VM, i);
		uint32_t id = names_after(o->doc, name) ? member_roles_find(r, o->key) : 0;
		struct role_policy policy;

		if (id == 0 || !vm_doc_is_role(o->doc)) {
			continue;
		}
		policy = role_table_role(r->table, id)->policy;
		find_after(r, o->doc, id, policy.after);
		(void)!role_table_set(r->table, id, &policy, NULL); /* in range, as it was */
		r->touched = true;
	}
}

static void on_document(void *arg, const struct db_change *c)
{
	struct member_roles *r = arg;
	uint32_t id = member_roles_find(r, c->key);
	struct role_policy policy;
	struct errbuf eb = {0};
	int err;

	if (!vm_doc_is_role(c->after)) {
		if (id != 0) {
			end_role(r, id);
			r->touched = true;
			refer_to(r, c->key);
		}
		return;
	}
	err = vm_doc_policy(c->after, &policy, &eb);
	if (err == 0) {
		find_after(r, c->after, id, policy.after);
	}
	if (err == 0 && id != 0) {
		err = role_table_set(r->table, id, &policy, &eb);
	} else if (err == 0) {
		id = free_id(r->table);
		err = role_table_add(r->table, id, c->key, &policy, c->index, &eb);
	}
	r->touched = r->touched || err == 0;
	if (err == 0 && !vm_doc_is_role(c->before)) {
		refer_to(r, c->key);
	}
	if (err == -ENOMEM) {
		r->err = err;
	} else if (err != 0) {
		log_warn(TAG, "role not as its document vm=%s why=\"%s\"", c->key, eb.text);
	}
}

int member_roles_create(struct db *db, struct member_roles **out)
{
	struct member_roles *r = gw_calloc(1, sizeof(*r));

	*out = NULL;
	if (r == NULL) {
		return -ENOMEM;
	}
	r->db = db;
	if (role_table_create(&r->table) != 0 ||
	    db_watch_add(db, DB_VM, on_document, r, &r->watch) != 0) {
		member_roles_destroy(r);
		return -ENOMEM;
	}
	*out = r;
	return 0;
}

void member_roles_destroy(struct member_roles *r)
{
	if (r != NULL) {
		db_watch_del(r->watch);
		role_table_destroy(r->table);
		free(r);
	}
}

const struct role_table *member_roles_table(const struct member_roles *r)
{
	return r->table;
}

void member_roles_watch(struct member_roles *r, const struct member_role_ops *ops, void *arg)
{
	r->ops = ops;
	r->arg = arg;
}

bool member_roles_is_cmd(const void *payload, size_t len)
{
	le16 version;

	if (len != ROLE_CMD_BYTES) {
		return false;
	}
	memcpy(&version, payload, sizeof(version));
	return le16_get(version) == ROLE_CMD_VERSION; /* commands of cluster/db begin with GD */
}

bool member_roles_is_key(const void *key, size_t len)
{
	return len == ROLE_KEY_BYTES && memcmp(key, "grl", 3) == 0;
}

void member_roles_epoch(struct member_roles *r, uint64_t epoch)
{
	if (epoch > role_table_epoch(r->table)) {
		(void)!role_table_view(r->table, epoch); /* it grows */
	}
}

int member_roles_apply(struct member_roles *r, const struct rsm_entry *entry, json_t **event)
{
	struct member_before before;
	struct role_cmd cmd;
	int err = role_cmd_decode(entry->payload, entry->len, &cmd, NULL);

	*event = NULL;
	if (err == 0 && cmd.verb == ROLE_CMD_RENEW && r->ops != NULL) {
		r->ops->said(r->arg, &cmd, entry->epoch);
	}
	if (err == 0) {
		member_events_before(r->table, &cmd, &before);
		err = role_table_apply(r->table, &cmd);
	}
	if (err == 0 && member_events_role(r->db, r->table, &cmd, &before, event) != 0) {
		r->err = -ENOMEM;
	}
	if (err == 0 && r->orphans) {
		end_orphans(r);
	}
	if (err == 0 && r->ops != NULL) {
		r->ops->applied(r->arg, &cmd, entry->epoch);
	}
	return err;
}

static void put_pair(void *arg, const void *key, const void *value, size_t value_len)
{
	const struct rsm_sink *sink = arg;

	if (value != NULL) {
		sink->put(sink->arg, key, ROLE_KEY_BYTES, value, value_len);
	} else {
		sink->del(sink->arg, key, ROLE_KEY_BYTES);
	}
}

int member_roles_flush(struct member_roles *r, const struct rsm_sink *sink)
{
	struct rsm_sink s = *sink;

	role_table_flush(r->table, put_pair, &s);
	if (r->touched && r->ops != NULL) {
		r->ops->changed(r->arg);
	}
	r->touched = false;
	return r->err;
}

void member_roles_clear(struct member_roles *r)
{
	role_table_clear(r->table);
}

int member_roles_load(struct member_roles *r, const void *key, size_t key_len, const void *value,
                      size_t value_len, struct errbuf *eb)
{
	return role_table_load(r->table, key, key_len, value, value_len, eb);
}

void member_roles_loaded(struct member_roles *r)
{
	r->orphans = true; /* perhaps: the next command looks */
	if (r->ops != NULL) {
		r->ops->loaded(r->arg);
	}
}
