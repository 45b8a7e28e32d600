/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/rsm/store_sqlite.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/errbuf.h"
#include "base/fault.h"
#include "base/list.h"
#include "base/log.h"
#include "base/loop.h"
#include "cluster/rsm/rsm_msg.h"

#define STORE_SCHEMA_VERSION 1
#define STORE_TAIL_MAX 4096u /* entries in memory: what members that fetch ask for */
#define STORE_BUSY_MS 2000

enum store_op_kind {
	STORE_META,
	STORE_APPEND,
	STORE_TRUNCATE,
	STORE_TRIM,
	STORE_PUT,
	STORE_DEL,
	STORE_STAGE_BEGIN,
	STORE_STAGE_PUT,
	STORE_STAGE_COMMIT,
	STORE_OP_COUNT
};

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

struct store_op {
	struct list link;
	enum store_op_kind kind;
	uint64_t number;
	size_t key_len;
	size_t value_len;
	uint8_t bytes[]; /* key, value */
};

struct tail_entry {
	uint64_t hash;
	uint64_t epoch;
	size_t len;
	uint8_t bytes[]; /* as in the file */
};

struct store {
	struct rsm_store store; /* first */
	struct rsm_sqlite_cfg cfg;
	char *path; /* owned */
	int lock_fd;
	sqlite3 *writer; /* the thread's */
	sqlite3 *reader; /* the loop's */
	struct guid cluster;
	struct guid uuid;
	struct rsm_boot boot;     /* as queued */
	struct tail_entry **tail; /* owned [tail_room]; entries tail_first... */
	uint64_t tail_first;
	size_t tail_count;
	size_t tail_room;
	uint64_t syncing; /* the running sync makes entries durable up to here */
	uint64_t durable;
	struct list queued; /* of struct store_op */
	int event_fd;
	struct loop_fd *event;
	pthread_t thread;
	bool thread_up;

	pthread_mutex_t lock; /* the rest */
	pthread_cond_t wake;
	struct list batch; /* being written */
	uint64_t token;    /* of the batch; 0 = none */
	uint64_t done_token;
	int done_err;
	bool stop;
};

struct snap {
	sqlite3 *db;
	sqlite3_stmt *stmt;
};

static struct store *store_of(struct rsm_store *s)
{
	return (struct store *)(void *)s;
}

static int store_rc(int rc)
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

static void ops_free(struct list *ops)
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

		ops_free(&batch);
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

struct bytes {
	const void *at;
	size_t len;
};

static int queue(struct store *s, enum store_op_kind kind, uint64_t number, struct bytes key,
                 struct bytes value)
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

static int queue_meta(struct store *s, const char *key, const void *value, size_t len)
{
	return queue(s, STORE_META, 0, (struct bytes){key, strlen(key)},
	             (struct bytes){value, len});
}

struct pos_wire {
	le64 index;
	le64 epoch;
	le64 hash;
};

static int queue_base(struct store *s)
{
	const struct pos_wire w = {.index = le64_make(s->boot.base.index),
	                           .epoch = le64_make(s->boot.base.epoch),
	                           .hash = le64_make(s->boot.base.hash)};

	return queue_meta(s, "base", &w, sizeof(w));
}

static int queue_mark(struct store *s, const struct rsm_mark *mark)
{
	uint8_t buf[RSM_MARK_MAX];

	s->boot.mark = *mark;
	return queue_meta(s, "mark", buf, rsm_mark_put(mark, buf));
}

/* ---- entries in memory ---- */

static void tail_drop(struct store *s, size_t from, size_t count)
{
	if (count == 0) {
		return; /* there may be no array yet */
	}
	for (size_t i = from; i < from + count; i++) {
		free(s->tail[i]);
	}
	memmove(s->tail + from, s->tail + from + count,
	        (s->tail_count - from - count) * sizeof(struct tail_entry *));
	s->tail_count -= count;
}

static const struct tail_entry *tail_at(const struct store *s, uint64_t index)
{
	return index >= s->tail_first && index - s->tail_first < s->tail_count
	               ? s->tail[index - s->tail_first]
	               : NULL;
}

static int tail_add(struct store *s, struct tail_entry *e, uint64_t index)
{
	if (s->tail_count >= (size_t)2 * STORE_TAIL_MAX &&
	    s->tail_first + STORE_TAIL_MAX <= s->durable) {
		tail_drop(s, 0, STORE_TAIL_MAX);
		s->tail_first += STORE_TAIL_MAX;
	}
	if (s->tail_count == 0) {
		s->tail_first = index;
	}
	if (s->tail_count == s->tail_room) {
		size_t room = s->tail_room == 0 ? 256 : s->tail_room * 2;
		struct tail_entry **tail =
			gw_realloc_array(s->tail, room, sizeof(struct tail_entry *));

		if (tail == NULL) {
			return -ENOMEM;
		}
		s->tail = tail;
		s->tail_room = room;
	}
	s->tail[s->tail_count++] = e;
	return 0;
}

/* ---- the table ---- */

static void store_boot(struct rsm_store *rs, struct rsm_boot *out)
{
	*out = store_of(rs)->boot;
}

static int store_promise(struct rsm_store *rs, uint64_t epoch)
{
	struct store *s = store_of(rs);
	le64 w = le64_make(epoch);

	s->boot.promised = epoch;
	return queue_meta(s, "promised", &w, sizeof(w));
}

static int store_append(struct rsm_store *rs, const struct rsm_entry *entry, uint64_t hash)
{
	struct store *s = store_of(rs);
	size_t len = sizeof(struct rsm_entry_wire) + entry->len;
	struct tail_entry *e = gw_malloc(sizeof(*e) + len);
	le64 w = le64_make(hash);

	if (e == NULL) {
		return -ENOMEM;
	}
	*e = (struct tail_entry){.hash = hash, .epoch = entry->epoch, .len = len};
	(void)rsm_entry_put(entry, e->bytes);
	if (queue(s, STORE_APPEND, entry->index, (struct bytes){&w, sizeof(w)},
	          (struct bytes){e->bytes, len}) != 0 ||
	    tail_add(s, e, entry->index) != 0) {
		free(e);
		return -ENOMEM;
	}
	s->boot.last = (struct rsm_pos){.index = entry->index, .epoch = entry->epoch, .hash = hash};
	return 0;
}

/* An entry that is not in memory. 1 = row; its columns: entry, hash. */
static int reader_entry(struct store *s, uint64_t index, sqlite3_stmt **out)
{
	int rc = sqlite3_prepare_v2(s->reader, "SELECT entry, hash FROM log WHERE idx = ?", -1, out,
	                            NULL);

	if (rc == SQLITE_OK) {
		rc = sqlite3_bind_int64(*out, 1, (sqlite3_int64)index);
	}
	if (rc == SQLITE_OK) {
		rc = sqlite3_step(*out);
	}
	if (rc == SQLITE_DONE) {
		return -EIO; /* between base and last there is no gap */
	}
	return rc == SQLITE_ROW ? 1 : store_rc(rc) == 0 ? -EIO : store_rc(rc);
}

static int store_read(struct rsm_store *rs, uint64_t index, struct rsm_entry *out, uint8_t *buf)
{
	struct store *s = store_of(rs);
	const struct tail_entry *e = tail_at(s, index);
	sqlite3_stmt *stmt = NULL;
	const uint8_t *bytes = e == NULL ? NULL : e->bytes;
	size_t len = e == NULL ? 0 : e->len;
	int err = 0;

	if (index <= s->boot.base.index || index > s->boot.last.index) {
		return -ENOENT;
	}
	if (e == NULL) {
		err = reader_entry(s, index, &stmt);
		if (err == 1) {
			bytes = sqlite3_column_blob(stmt, 0);
			len = (size_t)sqlite3_column_bytes(stmt, 0);
			err = 0;
		}
	}
	if (err == 0 &&
	    (bytes == NULL || rsm_msg_entry(&bytes, &len, out) != 0 || out->index != index)) {
		err = -EIO;
	}
	if (err == 0) {
		memcpy(buf, out->payload, out->len);
		out->payload = buf;
	}
	(void)sqlite3_finalize(stmt);
	return err;
}

static int store_pos(struct rsm_store *rs, uint64_t index, struct rsm_pos *out)
{
	struct store *s = store_of(rs);
	const struct tail_entry *e = tail_at(s, index);
	sqlite3_stmt *stmt = NULL;
	struct rsm_entry entry;
	le64 hash;

	if (index == s->boot.base.index) {
		*out = s->boot.base;
		return 0;
	}
	if (index < s->boot.base.index || index > s->boot.last.index) {
		return -ENOENT;
	}
	if (e != NULL) {
		*out = (struct rsm_pos){.index = index, .epoch = e->epoch, .hash = e->hash};
		return 0;
	}

	int err = reader_entry(s, index, &stmt);

	if (err == 1) {
		const uint8_t *bytes = sqlite3_column_blob(stmt, 0);
		size_t len = (size_t)sqlite3_column_bytes(stmt, 0);

		err = -EIO;
		if (bytes != NULL && rsm_msg_entry(&bytes, &len, &entry) == 0 &&
		    sqlite3_column_bytes(stmt, 1) == (int)sizeof(hash)) {
			memcpy(&hash, sqlite3_column_blob(stmt, 1), sizeof(hash));
			*out = (struct rsm_pos){
				.index = index, .epoch = entry.epoch, .hash = le64_get(hash)};
			err = 0;
		}
	}
	(void)sqlite3_finalize(stmt);
	return err;
}

static int store_truncate(struct rsm_store *rs, uint64_t index)
{
	struct store *s = store_of(rs);
	struct rsm_pos last;
	int err = store_pos(rs, index, &last);

	if (err != 0) {
		return err;
	}
	if (s->tail_count != 0) {
		size_t keep = index < s->tail_first ? 0 : (size_t)(index - s->tail_first + 1);

		if (keep < s->tail_count) {
			tail_drop(s, keep, s->tail_count - keep);
		}
	}
	s->boot.last = last;
	return queue(s, STORE_TRUNCATE, index, (struct bytes){0}, (struct bytes){0});
}

static int store_trim(struct rsm_store *rs, uint64_t index)
{
	struct store *s = store_of(rs);
	struct rsm_pos base;
	int err = store_pos(rs, index, &base);

	if (err != 0) {
		return err;
	}
	if (s->tail_count != 0 && index >= s->tail_first) {
		size_t drop = (size_t)(index - s->tail_first + 1);

		tail_drop(s, 0, drop < s->tail_count ? drop : s->tail_count);
		s->tail_first = index + 1;
	}
	s->boot.base = base;
	err = queue(s, STORE_TRIM, index, (struct bytes){0}, (struct bytes){0});
	return err == 0 ? queue_base(s) : err;
}

static int store_put(struct rsm_store *rs, const void *key, size_t key_len, const void *value,
                     size_t value_len)
{
	return queue(store_of(rs), STORE_PUT, 0, (struct bytes){key, key_len},
	             (struct bytes){value, value_len});
}

static int store_del(struct rsm_store *rs, const void *key, size_t key_len)
{
	return queue(store_of(rs), STORE_DEL, 0, (struct bytes){key, key_len}, (struct bytes){0});
}

static int store_mark(struct rsm_store *rs, const struct rsm_mark *mark)
{
	return queue_mark(store_of(rs), mark);
}

static int store_stage_begin(struct rsm_store *rs)
{
	return queue(store_of(rs), STORE_STAGE_BEGIN, 0, (struct bytes){0}, (struct bytes){0});
}

static int store_stage_put(struct rsm_store *rs, const void *key, size_t key_len, const void *value,
                           size_t value_len)
{
	return queue(store_of(rs), STORE_STAGE_PUT, 0, (struct bytes){key, key_len},
	             (struct bytes){value, value_len});
}

static int store_stage_commit(struct rsm_store *rs, const struct rsm_mark *mark)
{
	struct store *s = store_of(rs);
	int err = queue(s, STORE_STAGE_COMMIT, 0, (struct bytes){0}, (struct bytes){0});

	tail_drop(s, 0, s->tail_count);
	s->boot.base = mark->applied;
	s->boot.last = mark->applied;
	err = err == 0 ? queue_mark(s, mark) : err;
	return err == 0 ? queue_base(s) : err;
}

static int store_sync(struct rsm_store *rs, uint64_t token)
{
	struct store *s = store_of(rs);

	(void)pthread_mutex_lock(&s->lock);
	list_splice_tail(&s->batch, &s->queued);
	s->token = token;
	s->syncing = s->boot.last.index;
	(void)pthread_cond_signal(&s->wake);
	(void)pthread_mutex_unlock(&s->lock);
	return 0;
}

static int store_each(struct rsm_store *rs, rsm_pair_fn fn, void *arg)
{
	struct store *s = store_of(rs);
	sqlite3_stmt *stmt = NULL;
	int rc = sqlite3_prepare_v2(s->reader, "SELECT key, value FROM pair", -1, &stmt, NULL);
	int err = 0;

	while (rc == SQLITE_OK && err == 0 && (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
		err = fn(arg, sqlite3_column_blob(stmt, 0), (size_t)sqlite3_column_bytes(stmt, 0),
		         sqlite3_column_blob(stmt, 1), (size_t)sqlite3_column_bytes(stmt, 1));
		rc = SQLITE_OK;
	}
	(void)sqlite3_finalize(stmt);
	return err != 0 ? err : store_rc(rc);
}

/* ---- opening ---- */

static int open_db(const char *path, sqlite3 **out)
{
	int rc = sqlite3_open_v2(path, out, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL);

	if (rc == SQLITE_OK) {
		(void)sqlite3_busy_timeout(*out, STORE_BUSY_MS);
		rc = sqlite3_exec(*out, "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL",
		                  NULL, NULL, NULL);
	}
	return store_rc(rc);
}

/* @buf[size] = a value of meta. Returns its length; 0 not there; -errno. */
static int meta_get(sqlite3 *db, const char *key, void *buf, size_t size)
{
	sqlite3_stmt *stmt = NULL;
	int len = 0;
	int rc = sqlite3_prepare_v2(db, "SELECT value FROM meta WHERE key = CAST(? AS BLOB)", -1,
	                            &stmt, NULL);

	if (rc == SQLITE_OK) {
		rc = sqlite3_bind_text(stmt, 1, key, -1, SQLITE_STATIC);
	}
	if (rc == SQLITE_OK && (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
		len = sqlite3_column_bytes(stmt, 0);
		if ((size_t)len > size) {
			len = -EBADMSG;
		} else if (len != 0) {
			memcpy(buf, sqlite3_column_blob(stmt, 0), (size_t)len);
		}
	}
	(void)sqlite3_finalize(stmt);
	return store_rc(rc) != 0 ? store_rc(rc) : len;
}

static int snap_open(struct rsm_store *rs, void **out, struct rsm_mark *mark)
{
	struct store *s = store_of(rs);
	struct snap *snap = gw_calloc(1, sizeof(*snap));
	uint8_t buf[RSM_MARK_MAX];
	int err;

	*out = NULL;
	if (snap == NULL) {
		return -ENOMEM;
	}
	err = open_db(s->path, &snap->db);
	if (err == 0) {
		err = store_rc(sqlite3_exec(snap->db, "BEGIN", NULL, NULL, NULL));
	}
	if (err == 0) {
		err = meta_get(snap->db, "mark", buf, sizeof(buf));
		err = err < 0 ? err : rsm_mark_get(buf, (size_t)err, mark);
	}
	if (err == 0) {
		err = store_rc(sqlite3_prepare_v2(snap->db, "SELECT key, value FROM pair", -1,
		                                  &snap->stmt, NULL));
	}
	if (err != 0) {
		(void)sqlite3_close(snap->db);
		free(snap);
		return err;
	}
	*out = snap;
	return 0;
}

static int snap_next(struct rsm_store *rs, void *arg, const uint8_t **key, size_t *key_len,
                     const uint8_t **value, size_t *value_len)
{
	const struct snap *snap = arg;
	int rc = sqlite3_step(snap->stmt);

	(void)rs;
	if (rc != SQLITE_ROW) {
		return rc == SQLITE_DONE ? 0 : -EIO;
	}
	*key = sqlite3_column_blob(snap->stmt, 0);
	*key_len = (size_t)sqlite3_column_bytes(snap->stmt, 0);
	*value = sqlite3_column_blob(snap->stmt, 1);
	*value_len = (size_t)sqlite3_column_bytes(snap->stmt, 1);
	return 1;
}

static void snap_close(struct rsm_store *rs, void *arg)
{
	struct snap *snap = arg;

	(void)rs;
	(void)sqlite3_finalize(snap->stmt);
	(void)sqlite3_close(snap->db);
	free(snap);
}

/* What a new file begins with. */
static int store_new(struct store *s)
{
	struct rsm_mark none = {0};
	sqlite3_stmt *stmts[STORE_OP_COUNT] = {NULL};
	int err = queue_mark(s, s->cfg.mark == NULL ? &none : s->cfg.mark);

	s->boot.base = s->boot.mark.applied;
	s->boot.last = s->boot.base;
	if (err == 0) {
		err = queue_base(s);
	}
	if (err == 0) {
		err = queue_meta(s, "cluster", &s->cfg.cluster, sizeof(s->cfg.cluster));
	}
	if (err == 0) {
		err = queue_meta(s, "uuid", &s->cfg.uuid, sizeof(s->cfg.uuid));
	}
	if (err == 0) {
		err = store_rc(prepare_all(s, stmts));
	}
	if (err == 0) {
		err = store_rc(write_batch(s, stmts, &s->queued));
	}
	for (size_t i = 0; i < STORE_OP_COUNT; i++) {
		(void)sqlite3_finalize(stmts[i]);
	}
	ops_free(&s->queued);
	s->cluster = s->cfg.cluster;
	s->uuid = s->cfg.uuid;
	return err;
}

static int load_last(struct store *s)
{
	sqlite3_stmt *stmt = NULL;
	int rc = sqlite3_prepare_v2(s->reader, "SELECT max(idx) FROM log", -1, &stmt, NULL);
	uint64_t last = 0;

	if (rc == SQLITE_OK && (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
		last = (uint64_t)sqlite3_column_int64(stmt, 0);
	}
	(void)sqlite3_finalize(stmt);
	s->boot.last = s->boot.base;
	if (store_rc(rc) != 0 || last <= s->boot.base.index) {
		return store_rc(rc);
	}
	s->boot.last.index = last; /* so that it may be read */
	return store_pos(&s->store, last, &s->boot.last);
}

static int store_load(struct store *s)
{
	uint8_t buf[RSM_MARK_MAX];
	struct pos_wire base;
	le64 promised = {{0}};
	int mark = meta_get(s->reader, "mark", buf, sizeof(buf));

	if (mark == 0) {
		return store_new(s);
	}
	if (mark < 0 || rsm_mark_get(buf, (size_t)mark, &s->boot.mark) != 0 ||
	    meta_get(s->reader, "base", &base, sizeof(base)) != (int)sizeof(base) ||
	    meta_get(s->reader, "promised", &promised, sizeof(promised)) < 0 ||
	    meta_get(s->reader, "cluster", &s->cluster, sizeof(s->cluster)) != 16 ||
	    meta_get(s->reader, "uuid", &s->uuid, sizeof(s->uuid)) != 16) {
		return mark < 0 ? mark : -EBADMSG;
	}
	s->boot.promised = le64_get(promised);
	s->boot.base = (struct rsm_pos){.index = le64_get(base.index),
	                                .epoch = le64_get(base.epoch),
	                                .hash = le64_get(base.hash)};

	int err = load_last(s);

	return err != 0 ? err : s->boot.mark.applied.index > s->boot.last.index ? -EBADMSG : 0;
}

static int store_schema(struct store *s, struct errbuf *eb)
{
	sqlite3_stmt *stmt = NULL;
	int version = 0;
	int rc = sqlite3_prepare_v2(s->reader, "PRAGMA user_version", -1, &stmt, NULL);

	if (rc == SQLITE_OK && (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
		version = sqlite3_column_int(stmt, 0);
	}
	(void)sqlite3_finalize(stmt);
	if (store_rc(rc) != 0) {
		return errbuf_set(eb, store_rc(rc), "%s", sqlite3_errmsg(s->reader));
	}
	if (version > STORE_SCHEMA_VERSION) {
		(void)errbuf_set(eb, -EBADMSG, "version %d is newer than this program", version);
		errbuf_hint(eb, "update this node");
		return -EBADMSG;
	}
	rc = sqlite3_exec(s->writer,
	                  "CREATE TABLE IF NOT EXISTS meta (key BLOB PRIMARY KEY, value BLOB) "
	                  "WITHOUT ROWID;"
	                  "CREATE TABLE IF NOT EXISTS log (idx INTEGER PRIMARY KEY, hash BLOB, "
	                  "entry BLOB);"
	                  "CREATE TABLE IF NOT EXISTS pair (key BLOB PRIMARY KEY, value BLOB) "
	                  "WITHOUT ROWID;"
	                  "CREATE TABLE IF NOT EXISTS staged (key BLOB PRIMARY KEY, value BLOB) "
	                  "WITHOUT ROWID;"
	                  "PRAGMA user_version = 1",
	                  NULL, NULL, NULL);
	return rc == SQLITE_OK ? 0 : errbuf_set(eb, store_rc(rc), "%s", sqlite3_errmsg(s->writer));
}

static int store_lock(struct store *s, struct errbuf *eb)
{
	char *name = gw_asprintf("%s.lock", s->path);

	if (name == NULL) {
		return errbuf_sys(eb, -ENOMEM, "open");
	}
	s->lock_fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	free(name);

	/* SQLite makes its other files with the rights of this one. */
	int fd = open(s->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	if (fd >= 0) {
		(void)close(fd);
	}
	if (s->lock_fd < 0) {
		return errbuf_sys(eb, -errno, "lock file");
	}
	if (flock(s->lock_fd, LOCK_EX | LOCK_NB) != 0) {
		return errbuf_set(eb, -EBUSY, "another process uses it");
	}
	return 0;
}

static int store_start(struct store *s, struct errbuf *eb)
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

void rsm_sqlite_close(struct rsm_store *store)
{
	struct store *s = store_of(store);

	if (store == NULL) {
		return;
	}
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
	ops_free(&s->queued);
	ops_free(&s->batch);
	tail_drop(s, 0, s->tail_count);
	free(s->tail);
	(void)sqlite3_close(s->reader);
	(void)sqlite3_close(s->writer);
	if (s->lock_fd >= 0) {
		(void)close(s->lock_fd);
	}
	(void)pthread_mutex_destroy(&s->lock);
	(void)pthread_cond_destroy(&s->wake);
	free(s->path);
	free(s);
}

void rsm_sqlite_identity(const struct rsm_store *store, struct guid *cluster, struct guid *uuid)
{
	const struct store *s = (const struct store *)(const void *)store;

	*cluster = s->cluster;
	*uuid = s->uuid;
}

int rsm_sqlite_open(const struct rsm_sqlite_cfg *cfg, struct rsm_store **out, struct errbuf *eb)
{
	static const struct rsm_store_ops ops = {
		.boot = store_boot,
		.promise = store_promise,
		.append = store_append,
		.truncate = store_truncate,
		.trim = store_trim,
		.put = store_put,
		.del = store_del,
		.mark = store_mark,
		.stage_begin = store_stage_begin,
		.stage_put = store_stage_put,
		.stage_commit = store_stage_commit,
		.sync = store_sync,
		.read = store_read,
		.pos = store_pos,
		.each = store_each,
		.snap_open = snap_open,
		.snap_next = snap_next,
		.snap_close = snap_close,
	};
	struct store *s = gw_calloc(1, sizeof(*s));
	int err;

	*out = NULL;
	if (s == NULL) {
		return errbuf_sys(eb, -ENOMEM, "cluster database");
	}
	*s = (struct store){.store.ops = &ops, .cfg = *cfg, .lock_fd = -1, .event_fd = -1};
	(void)pthread_mutex_init(&s->lock, NULL);
	(void)pthread_cond_init(&s->wake, NULL);
	list_init(&s->queued);
	list_init(&s->batch);
	s->path = gw_strdup(cfg->path);
	err = s->path == NULL ? errbuf_sys(eb, -ENOMEM, "open") : store_lock(s, eb);
	if (err == 0 && ((err = open_db(cfg->path, &s->writer)) != 0 ||
	                 (err = open_db(cfg->path, &s->reader)) != 0)) {
		err = errbuf_sys(eb, err, "open");
	}
	if (err == 0) {
		err = store_schema(s, eb);
	}
	if (err == 0 && (err = store_load(s)) != 0) {
		err = errbuf_sys(eb, err, "load");
	}
	if (err == 0) {
		err = store_start(s, eb);
	}
	if (err != 0) {
		rsm_sqlite_close(&s->store);
		errbuf_prepend(eb, "cluster database %s", cfg->path);
		return err;
	}
	*out = &s->store;
	return 0;
}
