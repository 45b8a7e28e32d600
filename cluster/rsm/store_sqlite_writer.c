/* SPDX-License-Identifier: Apache-2.0 */

/* store_sqlite_writer - what is queued for the file, and the thread that makes it durable. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/errbuf.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/loop.h"
#include "cluster/rsm/rsm_msg.h"
#include "cluster/rsm/store_sqlite_int.h"

static const char *const op_sql[STORE_OP_COUNT] = {
	[STORE_META] = "INSERT OR REPLACE INTO meta (key, value) VALUES (?2, ?3)",
	[STORE_APPEND] = "INSERT INTO log (idx, hash, entry) VALUES (?1, ?2, ?3)",
	[STORE_TRUNCATE] = "DELETE FROM log WHERE idx > ?1",
	[STORE_TRIM] = "DELETE FROM log WHERE idx <= ?1",
	[STORE_PUT] = "INSERT OR REPLACE INTO pair (key, value) VALUES (?2, ?3)",
	[STORE_DEL] = "DELETE FROM pair WHERE key = ?2",
	[STORE_STAGE_BEGIN] = "DELETE FROM staged",
	[STORE_STAGE_PUT] = "INSERT OR REPLACE INTO staged (key, value) VALUES (?2, ?3)",
	[STORE_STAGE_COMMIT] = NULL, /* several statements */
};

int store_rc(int rc)
{
	switch (rc & 0xff) {
	case SQLITE_OK:
	case SQLITE_ROW:
	case SQLITE_DONE:
		return 0;
	case SQLITE_NOMEM:
		return -ENOMEM;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		return -EBADMSG;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return -EBUSY;
	case SQLITE_CANTOPEN:
		return -ENOENT;
	default: /* SQLite's numbers */
		return -EIO;
	}
}

/* ---- the writer ---- */

static int write_one(struct store *s, sqlite3_stmt **stmts, const struct store_op *op)
{
	sqlite3_stmt *stmt = stmts[op->kind];
	int rc = SQLITE_OK;

	if (op->kind == STORE_STAGE_COMMIT) {
		return sqlite3_exec(s->writer,
		                    "DELETE FROM pair; DELETE FROM log;"
		                    "INSERT INTO pair SELECT key, value FROM staged;"
		                    "DELETE FROM staged",
		                    NULL, NULL, NULL);
	}
	if (sqlite3_bind_parameter_count(stmt) >= 1) {
		rc = sqlite3_bind_int64(stmt, 1, (sqlite3_int64)op->number);
	}
	if (rc == SQLITE_OK && op->key_len != 0) {
		rc = sqlite3_bind_blob64(stmt, 2, op->bytes, op->key_len, SQLITE_STATIC);
	}
	if (rc == SQLITE_OK && sqlite3_bind_parameter_count(stmt) >= 3) {
		rc = sqlite3_bind_blob64(stmt, 3, op->bytes + op->key_len, op->value_len,
		                         SQLITE_STATIC);
	}
	if (rc == SQLITE_OK) {
		rc = sqlite3_step(stmt);
	}
	(void)sqlite3_reset(stmt);
	(void)sqlite3_clear_bindings(stmt);
	return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

/* One transaction, durable when this returns SQLITE_OK. */
static int write_batch(struct store *s, sqlite3_stmt **stmts, struct list *batch)
{
	int rc = sqlite3_exec(s->writer, "BEGIN IMMEDIATE", NULL, NULL, NULL);

	list_for_each(link, batch)
	{
		if (rc == SQLITE_OK) {
			rc = write_one(s, stmts, list_entry(link, struct store_op, link));
		}
	}
	if (rc == SQLITE_OK) {
		rc = sqlite3_exec(s->writer, "COMMIT", NULL, NULL, NULL);
	}
	if (rc != SQLITE_OK) {
		log_err("rsm", "store failed path=%s what=\"%s\"", s->path,
		        sqlite3_errmsg(s->writer));
		(void)sqlite3_exec(s->writer, "ROLLBACK", NULL, NULL, NULL);
	}
	return rc;
}

void store_ops_free(struct list *ops)
{
	list_for_each_safe(link, ops)
	{
		free(list_entry(link, struct store_op, link));
	}
	list_init(ops);
}

static int prepare_all(struct store *s, sqlite3_stmt **stmts)
{
	for (size_t i = 0; i < STORE_OP_COUNT; i++) {
		int rc = op_sql[i] == NULL
		                 ? SQLITE_OK
		                 : sqlite3_prepare_v2(s->writer, op_sql[i], -1, &stmts[i], NULL);

		if (rc != SQLITE_OK) {
			return rc;
		}
	}
	return SQLITE_OK;
}

static void *writer_main(void *arg)
{
	struct store *s = arg;
	sqlite3_stmt *stmts[STORE_OP_COUNT] = {NULL};
	int prepared = prepare_all(s, stmts);

	(void)pthread_mutex_lock(&s->lock);
	for (;;) {
		struct list batch;
		uint64_t token;

		while (!s->stop && s->token == s->done_token) {
			(void)pthread_cond_wait(&s->wake, &s->lock);
		}
		if (s->stop) {
			break;
		}
		token = s->token;
		list_init(&batch);
		list_splice_tail(&batch, &s->batch);
		(void)pthread_mutex_unlock(&s->lock);

		int rc = prepared == SQLITE_OK ? write_batch(s, stmts, &batch) : prepared;

		store_ops_free(&batch);
		(void)pthread_mutex_lock(&s->lock);
		s->done_token = token;
		s->done_err = store_rc(rc);
		(void)eventfd_write(s->event_fd, 1);
	}
	(void)pthread_mutex_unlock(&s->lock);
	for (size_t i = 0; i < STORE_OP_COUNT; i++) {
		(void)sqlite3_finalize(stmts[i]);
	}
	return NULL;
}

/* On the loop: the batch is durable, or failed. */
static void on_event(int fd, uint32_t events, void *arg)
{
	struct store *s = arg;
	eventfd_t count;

	(void)events;
	if (eventfd_read(fd, &count) != 0) {
		return;
	}
	(void)pthread_mutex_lock(&s->lock);

	uint64_t token = s->done_token;
	int err = s->done_err;

	(void)pthread_mutex_unlock(&s->lock);
	s->durable = s->syncing;
	s->cfg.synced(s->cfg.arg, token, err);
}

/* ---- queueing ---- */

int store_queue(struct store *s, enum store_op_kind kind, uint64_t number, struct store_bytes key,
                struct store_bytes value)
{
	struct store_op *op = gw_malloc(sizeof(*op) + key.len + value.len);

	if (op == NULL) {
		return -ENOMEM;
	}
	op->kind = kind;
	op->number = number;
	op->key_len = key.len;
	op->value_len = value.len;
	if (key.len != 0) {
		memcpy(op->bytes, key.at, key.len);
	}
	if (value.len != 0) {
		memcpy(op->bytes + key.len, value.at, value.len);
	}
	list_add_tail(&s->queued, &op->link);
	return 0;
}

int store_queue_meta(struct store *s, const char *key, const void *value, size_t len)
{
	return store_queue(s, STORE_META, 0, (struct store_bytes){key, strlen(key)},
	                   (struct store_bytes){value, len});
}

int store_queue_base(struct store *s)
{
	const struct store_pos_wire w = {.index = le64_make(s->boot.base.index),
	                                 .epoch = le64_make(s->boot.base.epoch),
	                                 .hash = le64_make(s->boot.base.hash)};

	return store_queue_meta(s, "base", &w, sizeof(w));
}

int store_queue_mark(struct store *s, const struct rsm_mark *mark)
{
	uint8_t buf[RSM_MARK_MAX];

	s->boot.mark = *mark;
	return store_queue_meta(s, "mark", buf, rsm_mark_put(mark, buf));
}

int store_write_queued(struct store *s)
{
	sqlite3_stmt *stmts[STORE_OP_COUNT] = {NULL};
	int rc = prepare_all(s, stmts);

	if (rc == SQLITE_OK) {
		rc = write_batch(s, stmts, &s->queued);
	}
	for (size_t i = 0; i < STORE_OP_COUNT; i++) {
		(void)sqlite3_finalize(stmts[i]);
	}
	return store_rc(rc);
}

int store_start(struct store *s, struct errbuf *eb)
{
	int err;

	s->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->event_fd < 0) {
		return errbuf_sys(eb, -errno, "eventfd");
	}
	err = loop_fd_add(s->cfg.loop, s->event_fd, LOOP_READ, on_event, s, &s->event);
	if (err == 0) {
		err = -pthread_create(&s->thread, NULL, writer_main, s);
	}
	s->thread_up = err == 0;
	return err == 0 ? 0 : errbuf_sys(eb, err, "writer thread");
}

void store_stop(struct store *s)
{
	if (s->thread_up) {
		(void)pthread_mutex_lock(&s->lock);
		s->stop = true;
		(void)pthread_cond_signal(&s->wake);
		(void)pthread_mutex_unlock(&s->lock);
		(void)pthread_join(s->thread, NULL);
	}
	loop_fd_del(s->event);
	if (s->event_fd >= 0) {
		(void)close(s->event_fd);
	}
}
