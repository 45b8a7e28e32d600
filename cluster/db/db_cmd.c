/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/db/db_cmd.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "cluster/db/db_wire.h"

#define DB_VALUE_MAX 1024u /* bytes of a condition's value: states, tokens, ids */

bool db_key_valid(const char *key, size_t len)
{
	if (len == 0 || len > DB_KEY_MAX || key[0] == '.' || key[0] == '/') {
		return false;
	}
	for (size_t i = 0; i < len; i++) {
		char c = key[i];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		      (c != '\0' && strchr("._:-@/+", c) != NULL))) {
			return false;
		}
	}
	return true;
}

void db_cmd_init(struct db_cmd *cmd)
{
	*cmd = (struct db_cmd){.len = sizeof(struct db_cmd_wire)};
}

void db_cmd_fini(struct db_cmd *cmd)
{
	free(cmd->buf);
	*cmd = (struct db_cmd){0};
}

static void cmd_fail(struct db_cmd *cmd, int err)
{
	if (cmd->err == 0) {
		cmd->err = err;
	}
}

/* Append @len bytes; the place where they are, or NULL after an error. */
static uint8_t *cmd_add(struct db_cmd *cmd, const void *bytes, size_t len)
{
	if (cmd->err != 0) {
		return NULL;
	}
	if (len > DB_COMMAND_MAX - cmd->len) {
		cmd_fail(cmd, -E2BIG);
		return NULL;
	}
	if (cmd->len + len > cmd->size) {
		size_t size = cmd->size == 0 ? 512 : cmd->size * 2;

		while (size < cmd->len + len) {
			size *= 2;
		}

		uint8_t *buf = gw_realloc_array(cmd->buf, size, 1);

		if (buf == NULL) {
			cmd_fail(cmd, -ENOMEM);
			return NULL;
		}
		cmd->buf = buf;
		cmd->size = size;
	}

	uint8_t *at = cmd->buf + cmd->len;

	if (len != 0) {
		memcpy(at, bytes, len);
	}
	cmd->len += len;
	return at;
}

static struct db_op_wire *cmd_last(struct db_cmd *cmd)
{
	if (cmd->err == 0 && cmd->op == 0) {
		cmd_fail(cmd, -EINVAL);
	}
	return cmd->err == 0 ? (struct db_op_wire *)(void *)(cmd->buf + cmd->op) : NULL;
}

/* The document is kept apart until the operation's conditions are known: conditions are inserted
 * before it. */
static void cmd_insert(struct db_cmd *cmd, const void *bytes, size_t len)
{
	struct db_op_wire *op = cmd_last(cmd);

	if (op == NULL) {
		return;
	}

	size_t doc_len = le32_get(op->doc_len);

	if (cmd_add(cmd, bytes, len) == NULL) {
		return;
	}
	op = cmd_last(cmd);

	uint8_t *doc = cmd->buf + cmd->len - len - doc_len;

	memmove(doc + len, doc, doc_len);
	memcpy(doc, bytes, len);
	op->conds_len = le32_make(le32_get(op->conds_len) + (uint32_t)len);
}

static void cmd_op(struct db_cmd *cmd, struct db_op_wire op, const char *key, const json_t *doc)
{
	char *text = NULL;
	size_t key_len = key == NULL ? 0 : strlen(key);
	size_t at = cmd->len;

	if (cmd->op_count == 0 && cmd->buf == NULL) {
		struct db_cmd_wire head = {0};

		cmd->len = 0;
		at = sizeof(head);
		(void)cmd_add(cmd, &head, sizeof(head));
	}
	if (cmd->op_count == DB_OPS_MAX) {
		cmd_fail(cmd, -E2BIG);
	}
	if (op.kind >= DB_KIND_COUNT || (key != NULL && !db_key_valid(key, key_len))) {
		cmd_fail(cmd, -EINVAL);
	}
	if (doc != NULL) {
		if (!json_is_object(doc)) {
			cmd_fail(cmd, -EINVAL);
		} else if ((text = json_text(doc, JSON_TEXT_SORTED)) == NULL) {
			cmd_fail(cmd, -ENOMEM);
		} else if (strlen(text) > DB_DOC_MAX) {
			cmd_fail(cmd, -E2BIG);
		} else {
			op.doc_len = le32_make((uint32_t)strlen(text));
		}
	}
	op.key_len = le16_make((uint16_t)key_len);
	(void)cmd_add(cmd, &op, sizeof(op));
	(void)cmd_add(cmd, key, key_len);
	(void)cmd_add(cmd, text, le32_get(op.doc_len));
	free(text);
	if (cmd->err == 0) {
		cmd->op = at;
		cmd->op_count++;
	}
}

void db_cmd_check(struct db_cmd *cmd, enum db_kind kind, const char *key)
{
	cmd_op(cmd, (struct db_op_wire){.kind = (uint8_t)kind, .action = DB_CHECK}, key, NULL);
}

void db_cmd_put(struct db_cmd *cmd, enum db_kind kind, const char *key, const json_t *doc)
{
	if (doc == NULL) {
		cmd_fail(cmd, -EINVAL);
	}
	cmd_op(cmd, (struct db_op_wire){.kind = (uint8_t)kind, .action = DB_PUT}, key, doc);
}

void db_cmd_merge(struct db_cmd *cmd, enum db_kind kind, const char *key, const json_t *patch)
{
	if (patch == NULL) {
		cmd_fail(cmd, -EINVAL);
	}
	cmd_op(cmd, (struct db_op_wire){.kind = (uint8_t)kind, .action = DB_MERGE}, key, patch);
}

void db_cmd_delete(struct db_cmd *cmd, enum db_kind kind, const char *key)
{
	cmd_op(cmd, (struct db_op_wire){.kind = (uint8_t)kind, .action = DB_DELETE}, key, NULL);
}

void db_cmd_log(struct db_cmd *cmd, const json_t *doc)
{
	if (doc == NULL) {
		cmd_fail(cmd, -EINVAL);
	}
	cmd_op(cmd, (struct db_op_wire){.kind = DB_EVENT, .action = DB_LOG}, NULL, doc);
}

static void cmd_expect(struct db_cmd *cmd, enum db_expect expect, uint64_t version)
{
	struct db_op_wire *op = cmd_last(cmd);

	if (op != NULL) {
		op->expect = (uint8_t)expect;
		op->version = le64_make(version);
	}
}

void db_cmd_if_absent(struct db_cmd *cmd)
{
	cmd_expect(cmd, DB_ABSENT, 0);
}

void db_cmd_if_present(struct db_cmd *cmd)
{
	cmd_expect(cmd, DB_PRESENT, 0);
}

void db_cmd_if_version(struct db_cmd *cmd, uint64_t version)
{
	cmd_expect(cmd, DB_VERSION, version);
}

static void cmd_cond(struct db_cmd *cmd, const char *path, enum db_compare compare,
                     const char *value)
{
	struct db_op_wire *op = cmd_last(cmd);
	size_t path_len = strlen(path);
	size_t value_len = value == NULL ? 0 : strlen(value);

	if (path_len == 0 || path_len > DB_PATH_MAX) {
		cmd_fail(cmd, -EINVAL);
	}
	if (value_len > DB_VALUE_MAX || (op != NULL && op->cond_count == DB_CONDS_MAX)) {
		cmd_fail(cmd, -E2BIG);
	}
	if (cmd->err != 0) {
		return;
	}

	struct db_cond_wire cond = {.compare = (uint8_t)compare,
	                            .path_len = (uint8_t)path_len,
	                            .value_len = le16_make((uint16_t)value_len)};

	cmd_insert(cmd, &cond, sizeof(cond));
	cmd_insert(cmd, path, path_len);
	if (value_len != 0) {
		cmd_insert(cmd, value, value_len);
	}
	op = cmd_last(cmd);
	if (op != NULL) {
		op->cond_count++;
	}
}

void db_cmd_if(struct db_cmd *cmd, const char *path, enum db_compare compare, const json_t *value)
{
	struct json_build b;
	json_t *array = NULL;
	char *text = NULL;

	json_build_array(&b);
	json_add(&b, NULL, json_deep_copy(value));

	int err = json_build_end(&b, &array);

	if (err == 0) {
		text = json_text(array, JSON_TEXT_SORTED);
		err = text == NULL ? -ENOMEM : 0;
	}
	if (err != 0) {
		cmd_fail(cmd, err);
	} else {
		cmd_cond(cmd, path, compare, text);
	}
	free(text);
	json_decref(array);
}

/* As db_cmd_if(); takes @value. */
static void cmd_if_new(struct db_cmd *cmd, const char *path, enum db_compare compare, json_t *value)
{
	if (value == NULL) {
		cmd_fail(cmd, -ENOMEM);
		return;
	}
	db_cmd_if(cmd, path, compare, value);
	json_decref(value);
}

void db_cmd_if_str(struct db_cmd *cmd, const char *path, const char *value)
{
	cmd_if_new(cmd, path, DB_EQ, json_string(value));
}

void db_cmd_if_u64(struct db_cmd *cmd, const char *path, enum db_compare compare, uint64_t value)
{
	if (value > INT64_MAX) {
		cmd_fail(cmd, -EINVAL);
		return;
	}
	cmd_if_new(cmd, path, compare, json_integer((json_int_t)value));
}

void db_cmd_if_has(struct db_cmd *cmd, const char *path)
{
	cmd_cond(cmd, path, DB_HAS, NULL);
}

void db_cmd_if_lacks(struct db_cmd *cmd, const char *path)
{
	cmd_cond(cmd, path, DB_LACKS, NULL);
}

int db_cmd_end(struct db_cmd *cmd)
{
	if (cmd->err == 0 && cmd->op_count == 0) {
		cmd->err = -EINVAL;
	}
	if (cmd->err == 0) {
		struct db_cmd_wire *head = (struct db_cmd_wire *)(void *)cmd->buf;

		head->magic = le32_make(DB_CMD_MAGIC);
		head->version = le16_make(DB_CMD_VERSION);
		head->op_count = le16_make((uint16_t)cmd->op_count);
	}
	return cmd->err;
}

/* ---- taking apart ---- */

int db_cursor_init(struct db_cursor *c, const void *buf, size_t len)
{
	const struct db_cmd_wire *head = buf;

	if (len < sizeof(*head) || len > DB_COMMAND_MAX || le32_get(head->magic) != DB_CMD_MAGIC) {
		return -EBADMSG;
	}
	if (le16_get(head->version) != DB_CMD_VERSION) {
		return -EPROTONOSUPPORT;
	}

	uint32_t count = le16_get(head->op_count);

	if (count == 0 || count > DB_OPS_MAX) {
		return -EBADMSG;
	}
	*c = (struct db_cursor){.at = (const uint8_t *)buf + sizeof(*head),
	                        .left = len - sizeof(*head),
	                        .ops_left = count};
	return 0;
}

/* Is everything about @op allowed that does not need the rest of the message? */
static bool op_valid(const struct db_op_wire *op, size_t left)
{
	uint64_t key_len = le16_get(op->key_len);
	uint64_t doc_len = le32_get(op->doc_len);
	bool doc = op->action == DB_PUT || op->action == DB_MERGE || op->action == DB_LOG;

	return op->kind < DB_KIND_COUNT && op->action < DB_ACTION_COUNT &&
	       op->expect < DB_EXPECT_COUNT && op->cond_count <= DB_CONDS_MAX &&
	       op->reserved[0] == 0 && op->reserved[1] == 0 &&
	       (op->expect == DB_VERSION || le64_get(op->version) == 0) && doc_len <= DB_DOC_MAX &&
	       (doc_len != 0) == doc &&
	       (op->action == DB_LOG ? op->kind == DB_EVENT && key_len == 0 &&
	                                       op->expect == DB_ANY && op->cond_count == 0
	                             : key_len != 0) &&
	       (op->cond_count != 0 || le32_get(op->conds_len) == 0) &&
	       key_len + le32_get(op->conds_len) + doc_len <= left;
}

int db_cursor_op(struct db_cursor *c, struct db_op *out)
{
	struct db_op_wire op;

	if (c->ops_left == 0) {
		return c->left == 0 ? 0 : -EBADMSG;
	}
	if (c->left < sizeof(op)) {
		return -EBADMSG;
	}
	memcpy(&op, c->at, sizeof(op));
	if (!op_valid(&op, c->left - sizeof(op))) {
		return -EBADMSG;
	}

	size_t key_len = le16_get(op.key_len);
	const uint8_t *key = c->at + sizeof(op);

	if (op.action != DB_LOG && !db_key_valid((const char *)key, key_len)) {
		return -EBADMSG;
	}
	*out = (struct db_op){
		.kind = (enum db_kind)op.kind,
		.action = (enum db_action)op.action,
		.expect = (enum db_expect)op.expect,
		.cond_count = op.cond_count,
		.version = le64_get(op.version),
		.conds = key + key_len,
		.conds_len = le32_get(op.conds_len),
		.doc = (const char *)key + key_len + le32_get(op.conds_len),
		.doc_len = le32_get(op.doc_len),
	};
	memcpy(out->key, key, key_len);

	size_t used = sizeof(op) + key_len + out->conds_len + out->doc_len;
	size_t offset = 0;
	struct db_cond cond;
	int rc;

	do {
		rc = db_op_cond(out, &offset, &cond);
	} while (rc == 1);
	if (rc < 0) {
		return rc;
	}
	c->at += used;
	c->left -= used;
	c->ops_left--;
	return 1;
}

/* The number of conditions must be what fills conds_len: counted along the way by the offset. */
static uint32_t cond_position(const struct db_op *op, size_t offset)
{
	uint32_t n = 0;
	size_t at = 0;

	while (at < offset) {
		const struct db_cond_wire *w = (const struct db_cond_wire *)(op->conds + at);

		at += sizeof(*w) + w->path_len + le16_get(w->value_len);
		n++;
	}
	return n;
}

int db_op_cond(const struct db_op *op, size_t *offset, struct db_cond *out)
{
	size_t left = op->conds_len - *offset;
	uint32_t n = cond_position(op, *offset);
	struct db_cond_wire w;

	if (left == 0 || n == op->cond_count) {
		return left == 0 && n == op->cond_count ? 0 : -EBADMSG;
	}
	if (left < sizeof(w)) {
		return -EBADMSG;
	}
	memcpy(&w, op->conds + *offset, sizeof(w));

	size_t value_len = le16_get(w.value_len);
	bool value = w.compare != DB_HAS && w.compare != DB_LACKS;

	if (w.compare >= DB_COMPARE_COUNT || w.path_len == 0 || w.path_len > DB_PATH_MAX ||
	    (value_len != 0) != value || value_len > DB_VALUE_MAX ||
	    sizeof(w) + w.path_len + value_len > left) {
		return -EBADMSG;
	}

	const char *path = (const char *)op->conds + *offset + sizeof(w);

	if (memchr(path, '\0', w.path_len) != NULL) {
		return -EBADMSG;
	}
	*out = (struct db_cond){.compare = (enum db_compare)w.compare,
	                        .value = path + w.path_len,
	                        .value_len = value_len};
	memcpy(out->path, path, w.path_len);
	*offset += sizeof(w) + w.path_len + value_len;
	return 1;
}
