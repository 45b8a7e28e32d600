/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/rsm/store_sqlite.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/errbuf.h"
#include "base/fault.h"
#include "base/list.h"
#include "cluster/rsm/rsm_msg.h"
#include "cluster/rsm/store_sqlite_int.h"

struct snap {
	sqlite3 *db;
	sqlite3_stmt *stmt;
};

static struct store *store_of(struct rsm_store *s)
{
	return (struct store *)(void *)s;
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
	return store_queue_meta(s, "promised", &w, sizeof(w));
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
	if (store_queue(s, STORE_APPEND, entry->index, (struct store_bytes){&w, sizeof(w)},
	                (struct store_bytes){e->bytes, len}) != 0 ||
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
	return store_queue(s, STORE_TRUNCATE, index, (struct store_bytes){0},
	                   (struct store_bytes){0});
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
	err = store_queue(s, STORE_TRIM, index, (struct store_bytes){0}, (struct store_bytes){0});
	return err == 0 ? store_queue_base(s) : err;
}

static int store_put(struct rsm_store *rs, const void *key, size_t key_len, const void *value,
                     size_t value_len)
{
	return store_queue(store_of(rs), STORE_PUT, 0, (struct store_bytes){key, key_len},
	                   (struct store_bytes){value, value_len});
}

static int store_del(struct rsm_store *rs, const void *key, size_t key_len)
{
	return store_queue(store_of(rs), STORE_DEL, 0, (struct store_bytes){key, key_len},
	                   (struct store_bytes){0});
}

static int store_mark(struct rsm_store *rs, const struct rsm_mark *mark)
{
	return store_queue_mark(store_of(rs), mark);
}

static int store_stage_begin(struct rsm_store *rs)
{
	return store_queue(store_of(rs), STORE_STAGE_BEGIN, 0, (struct store_bytes){0},
	                   (struct store_bytes){0});
}

static int store_stage_put(struct rsm_store *rs, const void *key, size_t key_len, const void *value,
                           size_t value_len)
{
	return store_queue(store_of(rs), STORE_STAGE_PUT, 0, (struct store_bytes){key, key_len},
	                   (struct store_bytes){value, value_len});
}

static int store_stage_commit(struct rsm_store *rs, const struct rsm_mark *mark)
{
	struct store *s = store_of(rs);
	int err = store_queue(s, STORE_STAGE_COMMIT, 0, (struct store_bytes){0},
	                      (struct store_bytes){0});

	tail_drop(s, 0, s->tail_count);
	s->boot.base = mark->applied;
	s->boot.last = mark->applied;
	err = err == 0 ? store_queue_mark(s, mark) : err;
	return err == 0 ? store_queue_base(s) : err;
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
	int err = store_queue_mark(s, s->cfg.mark == NULL ? &none : s->cfg.mark);

	s->boot.base = s->boot.mark.applied;
	s->boot.last = s->boot.base;
	if (err == 0) {
		err = store_queue_base(s);
	}
	if (err == 0) {
		err = store_queue_meta(s, "cluster", &s->cfg.cluster, sizeof(s->cfg.cluster));
	}
	if (err == 0) {
		err = store_queue_meta(s, "uuid", &s->cfg.uuid, sizeof(s->cfg.uuid));
	}
	if (err == 0) {
		err = store_write_queued(s);
	}
	store_ops_free(&s->queued);
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

/* Are the tables whole? A page that nobody reads now would be missed when it counts. */
static int store_quick_check(struct store *s)
{
	sqlite3_stmt *stmt = NULL;
	int rc = sqlite3_prepare_v2(s->reader, "PRAGMA quick_check(1)", -1, &stmt, NULL);
	int err = rc == SQLITE_OK ? 0 : store_rc(rc);

	if (err == 0 && (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
		const unsigned char *text = sqlite3_column_text(stmt, 0);

		err = text != NULL && strcmp((const char *)text, "ok") == 0 ? 0 : -EBADMSG;
	} else if (err == 0) {
		err = rc == SQLITE_DONE ? -EBADMSG : store_rc(rc);
	}
	(void)sqlite3_finalize(stmt);
	return err;
}

static int store_load(struct store *s)
{
	uint8_t buf[RSM_MARK_MAX];
	struct store_pos_wire base;
	le64 promised = {{0}};
	int err = store_quick_check(s);
	int mark = err == 0 ? meta_get(s->reader, "mark", buf, sizeof(buf)) : err;

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

	err = load_last(s);
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
		(void)errbuf_set(eb, -EPROTONOSUPPORT, "version %d is newer than this program",
		                 version);
		errbuf_hint(eb, "update this node");
		return -EPROTONOSUPPORT;
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

void rsm_sqlite_close(struct rsm_store *store)
{
	struct store *s = store_of(store);

	if (store == NULL) {
		return;
	}
	store_stop(s);
	store_ops_free(&s->queued);
	store_ops_free(&s->batch);
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

int rsm_sqlite_aside(const char *path, uint64_t number, struct errbuf *eb)
{
	static const char *const parts[] = {"", "-wal", "-shm"};

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		char *from = gw_asprintf("%s%s", path, parts[i]);
		char *to = gw_asprintf("%s.damaged-%llu%s", path, (unsigned long long)number,
		                       parts[i]);
		int err = from == NULL || to == NULL                 ? -ENOMEM
		          : rename(from, to) == 0 || errno == ENOENT ? 0
		                                                     : -errno;

		free(from);
		free(to);
		if (err != 0) {
			return errbuf_sys(eb, err, "cannot put %s aside", path);
		}
	}
	return 0;
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
