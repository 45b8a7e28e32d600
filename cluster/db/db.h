/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLUSTER_DB_DB_H
#define CLUSTER_DB_DB_H

/*
 * db - the objects of the cluster: typed tables of JSON documents with versions.
 *
 * A change is a command (db_cmd.h): up to DB_OPS_MAX operations with preconditions, applied all or
 * not at all. Commands travel through the replicated log (cluster/rsm); every node applies the same
 * commands in the same order by db_apply() and so has the same tables. Preconditions are looked at
 * there, not where the command was made: a late or doubled command finds its precondition no longer
 * true and changes nothing.
 *
 * db_apply() is deterministic: no clock (time comes with the entry), no real numbers in documents
 * (-EINVAL), no order of hashing. What it changes it also hands to a sink as key/value pairs, which
 * db_load() reads back: that is how the tables are kept on disk and sent to a joining node.
 *
 * Threads: one owner. docs/formats/cluster-db.md has commands and pairs as bytes.
 */

#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/json.h"

struct db;
struct db_watch;
struct errbuf;

enum db_kind {
	DB_NODE,
	DB_VM,
	DB_VOLUME,
	DB_NETWORK,
	DB_WITNESS,
	DB_JOB,
	DB_EVENT,
	DB_SETTING, /* of the cluster as a whole, by name */
	DB_KIND_COUNT
};

#define DB_KEY_MAX 128u            /* bytes of a key, without NUL: names of VMs, ids of jobs */
#define DB_DOC_MAX (48u << 10)     /* bytes of a document as text: a command must fit a log entry */
#define DB_COMMAND_MAX (56u << 10) /* bytes; below the largest log entry */
#define DB_OPS_MAX 64u             /* in a command: raising the tokens of one VM's volumes fits */
#define DB_CONDS_MAX 16u           /* of one operation */
#define DB_PATH_MAX 96u            /* bytes of a condition's path */
#define DB_OBJECTS_MAX 100000u     /* of a kind; 8,000 VMs with their jobs stay far below */
#define DB_EVENTS_MAX 10000u       /* events kept; the oldest go first */
#define DB_PAIR_KEY_MAX (DB_KEY_MAX + 2)
#define DB_PAIR_VALUE_MAX (DB_DOC_MAX + 24)

/* db_kind_name() - "node", "vm"...; the word of the API. */
const char *db_kind_name(enum db_kind kind);

/* db_kind_parse() - the kind called @name. Returns 0; -ENOENT. */
MUST_USE int db_kind_parse(const char *name, enum db_kind *out);

/* An object. Value type; the pointers live until the next db_apply(), db_load() or db_clear(). */
struct db_object {
	const char *key;
	const json_t *doc; /* an object; read only: hold your own reference to keep it */
	uint64_t version;  /* index of the log entry that changed it last; grows with each change */
	uint64_t created;  /* index of the log entry that made it */
	uint64_t changed_ns; /* wall clock of the entry that changed it last, for people */
	enum db_kind kind;
};

/* db_create() - empty tables. Returns 0; -ENOMEM. */
MUST_USE int db_create(struct db **out);

/* db_destroy() - NULL is fine. Watches must be gone. */
void db_destroy(struct db *db);

/* db_clear() - empty tables again, before a full copy is loaded. Watches stay and hear nothing. */
void db_clear(struct db *db);

/* db_get() - the object of that kind and key, or NULL. */
const struct db_object *db_get(const struct db *db, enum db_kind kind, const char *key);

/* db_count() - objects of a kind. */
size_t db_count(const struct db *db, enum db_kind kind);

/* db_at() - object @index of a kind in the order of keys (bytes); index < db_count(). */
const struct db_object *db_at(const struct db *db, enum db_kind kind, size_t index);

/* db_index() - index of the last entry that was applied; 0: none. */
uint64_t db_index(const struct db *db);

/* db_hash() - of all objects; equal on nodes that applied the same entries. Walks everything. */
uint64_t db_hash(const struct db *db);

/* An entry of the log whose payload is a command. */
struct db_entry {
	uint64_t index;   /* of the entry, above db_index() */
	uint64_t time_ns; /* wall clock of the node that proposed it */
	const void *command;
	size_t len;
};

/* What a command did. All or nothing: status is 0 or nothing changed. */
struct db_result {
	int32_t status; /* 0; -ESTALE a precondition does not hold; -EBADMSG not a command; -EINVAL
	                    * document, key or operation not allowed; -ENOSPC a limit */
	uint32_t op_index; /* the operation that status is about */
};

/* Where changes go, to be kept: called by db_apply() in order, after the tables changed. */
struct db_sink {
	void (*put)(void *arg, const void *key, size_t key_len, const void *value,
	            size_t value_len);
	void (*del)(void *arg, const void *key, size_t key_len);
	void *arg;
};

/*
 * db_apply() - apply one entry. Calls the sink, then the watches.
 * @sink: NULL = keep nothing.
 * Returns 0, *out says what came of it; -ENOMEM: nothing was changed and this node can not go on
 * with the log (it would differ from the others): stop, or call again with the same entry.
 */
MUST_USE int db_apply(struct db *db, const struct db_entry *entry, const struct db_sink *sink,
                      struct db_result *out);

#define DB_LOG_FIRST 0x80u /* events that no command made have numbers from here on */
#define DB_LOG_LAST 0xffu

/*
 * db_log() - an event that follows from entry @entry, which is no command of this kind, or was
 * applied just before: as the operation "log" would add it. Every node must do the same.
 * @entry: its command is not looked at. @number: of the event among those of the entry,
 * DB_LOG_FIRST..DB_LOG_LAST. @doc: borrowed.
 * Returns 0; -EINVAL @doc is not allowed, or too large; -ENOMEM: as db_apply().
 */
MUST_USE int db_log(struct db *db, const struct db_entry *entry, uint32_t number, json_t *doc,
                    const struct db_sink *sink);

/*
 * db_load() - one pair that a sink was given, in any order, into empty tables.
 * Returns 0; -EBADMSG not such a pair; -EEXIST loaded before; -ENOMEM.
 */
MUST_USE int db_load(struct db *db, const void *key, size_t key_len, const void *value,
                     size_t value_len, struct errbuf *eb);

/* db_loaded() - after the pairs: they are the tables as of the entry @index. */
void db_loaded(struct db *db, uint64_t index);

/* A change, as a watch hears it. @before/@after: NULL = was not there, is gone. */
struct db_change {
	enum db_kind kind;
	const char *key;
	uint64_t index;       /* of the entry */
	const json_t *before; /* borrowed for the call */
	const json_t *after;
};

/* Must not call db_apply(), nor add or delete watches. */
typedef void (*db_watch_fn)(void *arg, const struct db_change *change);

/*
 * db_watch_add() - call @fn for each changed object, after the whole entry was applied.
 * @kind: DB_KIND_COUNT = all kinds.
 * Returns 0; -ENOMEM.
 */
MUST_USE int db_watch_add(struct db *db, enum db_kind kind, db_watch_fn fn, void *arg,
                          struct db_watch **out);

/* db_watch_del() - NULL is fine. */
void db_watch_del(struct db_watch *watch);

#endif
