/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLUSTER_DB_DB_CMD_H
#define CLUSTER_DB_DB_CMD_H

/*
 * db_cmd - builds the commands that db_apply() understands, and takes them apart.
 *
 *	struct db_cmd c;
 *	db_cmd_init(&c);
 *	db_cmd_merge(&c, DB_VM, "web1", patch);       // what to do ...
 *	db_cmd_if_str(&c, "role.state", "online");    // ... and what must be true of it
 *	db_cmd_if_u64(&c, "role.token", DB_EQ, 7);
 *	err = db_cmd_end(&c);                         // first error of all, once
 *	... propose c.buf[c.len] ...
 *	db_cmd_fini(&c);
 *
 * An operation without a condition is applied in any case. An object may be changed by one
 * operation of a command only; it may be looked at by others.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/json.h"
#include "cluster/db/db.h"

enum db_action {
	DB_CHECK,  /* only the conditions */
	DB_PUT,    /* the document as a whole */
	DB_MERGE,  /* RFC 7396: members replaced, null removes; the object must exist */
	DB_DELETE, /* the object must exist */
	DB_LOG,    /* a new event; its key is made from the entry's index: keys ascend with time */
	DB_ACTION_COUNT
};

enum db_expect {
	DB_ANY,
	DB_ABSENT,  /* no such object */
	DB_PRESENT, /* any version */
	DB_VERSION, /* exactly this version */
	DB_EXPECT_COUNT
};

enum db_compare {
	DB_EQ, /* equal, of the same type; an absent member is equal to nothing */
	DB_NE, /* not DB_EQ */
	DB_LT, /* integers; false if the member is no integer */
	DB_LE,
	DB_GT,
	DB_GE,
	DB_HAS,   /* the member is there (null counts as there) */
	DB_LACKS, /* it is not */
	DB_COMPARE_COUNT
};

/* Value type, one owner; visible to be embedded. */
struct db_cmd {
	uint8_t *buf; /* owned: the command, after db_cmd_end() */
	size_t len;
	size_t size;
	size_t op; /* where the last operation begins; 0 = none yet */
	uint32_t op_count;
	int err; /* the first error */
};

void db_cmd_init(struct db_cmd *cmd);
void db_cmd_fini(struct db_cmd *cmd);

/* Operations. Documents are borrowed for the call; an event has no key. */
void db_cmd_check(struct db_cmd *cmd, enum db_kind kind, const char *key);
void db_cmd_put(struct db_cmd *cmd, enum db_kind kind, const char *key, const json_t *doc);
void db_cmd_merge(struct db_cmd *cmd, enum db_kind kind, const char *key, const json_t *patch);
void db_cmd_delete(struct db_cmd *cmd, enum db_kind kind, const char *key);
void db_cmd_log(struct db_cmd *cmd, const json_t *doc);

/* Conditions on the object of the last operation, as it was before the command. @path: members
 * separated by dots, "role.token". */
void db_cmd_if_absent(struct db_cmd *cmd);
void db_cmd_if_present(struct db_cmd *cmd);
void db_cmd_if_version(struct db_cmd *cmd, uint64_t version);
void db_cmd_if(struct db_cmd *cmd, const char *path, enum db_compare compare, const json_t *value);
void db_cmd_if_str(struct db_cmd *cmd, const char *path, const char *value);
void db_cmd_if_u64(struct db_cmd *cmd, const char *path, enum db_compare compare, uint64_t value);
void db_cmd_if_has(struct db_cmd *cmd, const char *path);
void db_cmd_if_lacks(struct db_cmd *cmd, const char *path);

/*
 * db_cmd_end() - cmd->buf[cmd->len] is complete.
 * Returns 0; the first error: -ENOMEM; -E2BIG too many operations, conditions or bytes; -EINVAL a
 * key, path or document that is not allowed, a condition before any operation.
 */
MUST_USE int db_cmd_end(struct db_cmd *cmd);

/* One operation as decoded; pointers into the command. */
struct db_op {
	enum db_kind kind;
	enum db_action action;
	enum db_expect expect;
	uint32_t cond_count;
	uint64_t version;
	char key[DB_KEY_MAX + 1];
	const char *doc; /* [doc_len], JSON text; not parsed yet */
	size_t doc_len;
	const uint8_t *conds;
	size_t conds_len;
};

struct db_cond {
	enum db_compare compare;
	char path[DB_PATH_MAX + 1];
	const char *value; /* [value_len]: "[...]", the value as the one element of an array */
	size_t value_len;
};

/* Walks through a command. Value type; borrows the command. */
struct db_cursor {
	const uint8_t *at;
	size_t left;
	uint32_t ops_left;
};

/* db_cursor_init() - Returns 0; -EBADMSG no command; -EPROTONOSUPPORT of a newer version. */
MUST_USE int db_cursor_init(struct db_cursor *c, const void *buf, size_t len);

/* db_cursor_op() - the next operation. Returns 1; 0 the end, nothing is left over; -EBADMSG. */
MUST_USE int db_cursor_op(struct db_cursor *c, struct db_op *out);

/* db_op_cond() - the condition at *@offset (0 first), which moves on. Returns 1; 0 no more;
 * -EBADMSG. */
MUST_USE int db_op_cond(const struct db_op *op, size_t *offset, struct db_cond *out);

/* db_key_valid() - 1..DB_KEY_MAX letters, digits and "._:-@/+", not beginning with . or /. */
bool db_key_valid(const char *key, size_t len);

#endif
