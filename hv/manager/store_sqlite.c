/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

#include "base/errbuf.h"
#include "base/fault.h"
#include "hv/manager/store.h"

#define STORE_SCHEMA_VERSION 1
#define STORE_BUSY_MS 2000

struct store_sqlite {
	struct vm_store store; /* first */
	sqlite3 *db;           /* owned */
};

static int store_error(struct store_sqlite *s, int rc, const char *what, struct errbuf *eb)
{
	int err = -EIO;

	switch (rc & 0xff) {
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		err = -EBUSY;
		break;
	case SQLITE_NOMEM:
		err = -ENOMEM;
		break;
	case SQLITE_FULL:
		err = -ENOSPC;
		break;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		err = -EBADMSG;
		break;
	case SQLITE_CANTOPEN:
		err = -ENOENT;
		break;
	case SQLITE_READONLY:
		err = -EROFS;
		break;
	default: /* SQLite's numbers */
		break;
	}
	(void)errbuf_set(eb, err, "database: %s: %s", what,
	                 s->db != NULL ? sqlite3_errmsg(s->db) : sqlite3_errstr(rc));
	if (err == -ENOSPC) {
		errbuf_hint(eb, "make room in the service's state directory: df /var/lib/godwit");
	}
	return err;
}

static int store_exec(struct store_sqlite *s, const char *sql, struct errbuf *eb)
{
	int rc = sqlite3_exec(s->db, sql, NULL, NULL, NULL);

	return rc == SQLITE_OK ? 0 : store_error(s, rc, "setup", eb);
}

/* Prepare @sql and bind up to three texts. */
static int store_prepare(struct store_sqlite *s, const char *sql, const char *const *texts,
                         int count, sqlite3_stmt **out, struct errbuf *eb)
{
	int rc = sqlite3_prepare_v2(s->db, sql, -1, out, NULL);

	for (int i = 0; i < count && rc == SQLITE_OK; i++) {
		rc = sqlite3_bind_text(*out, i + 1, texts[i], -1, SQLITE_TRANSIENT);
	}
	if (rc != SQLITE_OK) {
		(void)sqlite3_finalize(*out);
		*out = NULL;
		return store_error(s, rc, "prepare", eb);
	}
	return 0;
}

static int store_run(struct store_sqlite *s, const char *sql, const char *const *texts, int count,
                     struct errbuf *eb)
{
	sqlite3_stmt *stmt;
	int err = store_prepare(s, sql, texts, count, &stmt, eb);

	if (err == 0) {
		int rc = sqlite3_step(stmt);

		if (rc != SQLITE_DONE) {
			err = store_error(s, rc, "write", eb);
		}
		(void)sqlite3_finalize(stmt);
	}
	return err;
}

static int store_each(struct vm_store *store, const char *kind,
                      int (*fn)(void *arg, const char *key, json_t *value), void *arg,
                      struct errbuf *eb)
{
	struct store_sqlite *s = (struct store_sqlite *)(void *)store;
	const char *const texts[] = {kind};
	sqlite3_stmt *stmt;
	int err = store_prepare(s, "SELECT key, value FROM object WHERE kind = ? ORDER BY key",
	                        texts, 1, &stmt, eb);
	int rc = SQLITE_DONE;

	while (err == 0 && (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
		const char *key = (const char *)sqlite3_column_text(stmt, 0);
		const char *text = (const char *)sqlite3_column_text(stmt, 1);
		json_t *value = NULL;

		if (key == NULL || text == NULL) {
			err = errbuf_sys(eb, -ENOMEM, "database");
		} else {
			err = json_parse(text, strlen(text), NULL, &value, eb);
			if (err != 0) {
				errbuf_prepend(eb, "database: %s %s", kind, key);
			} else {
				err = fn(arg, key, value);
			}
		}
		json_decref(value);
	}
	if (err == 0 && rc != SQLITE_DONE) {
		err = store_error(s, rc, "read", eb);
	}
	(void)sqlite3_finalize(stmt);
	return err;
}

static int store_put(struct vm_store *store, const char *kind, const char *key, const json_t *value,
                     struct errbuf *eb)
{
	struct store_sqlite *s = (struct store_sqlite *)(void *)store;
	char *text = json_text(value, 0);
	const char *const texts[] = {kind, key, text};
	int err;

	if (text == NULL) {
		return errbuf_sys(eb, -ENOMEM, "database");
	}
	err = store_run(s,
	                "INSERT INTO object (kind, key, value) VALUES (?, ?, ?) "
	                "ON CONFLICT (kind, key) DO UPDATE SET value = excluded.value",
	                texts, 3, eb);
	free(text);
	return err;
}

static int store_remove(struct vm_store *store, const char *kind, const char *key,
                        struct errbuf *eb)
{
	const char *const texts[] = {kind, key};

	return store_run((struct store_sqlite *)(void *)store,
	                 "DELETE FROM object WHERE kind = ? AND key = ?", texts, 2, eb);
}

static void store_close(struct vm_store *store)
{
	struct store_sqlite *s = (struct store_sqlite *)(void *)store;

	(void)sqlite3_close(s->db);
	free(s);
}

static int store_version_check(struct store_sqlite *s, struct errbuf *eb)
{
	sqlite3_stmt *stmt;
	int err = store_prepare(s, "PRAGMA user_version", NULL, 0, &stmt, eb);
	int version = 0;

	if (err != 0) {
		return err;
	}
	if (sqlite3_step(stmt) == SQLITE_ROW) {
		version = sqlite3_column_int(stmt, 0);
	}
	(void)sqlite3_finalize(stmt);
	if (version > STORE_SCHEMA_VERSION) {
		err = errbuf_set(eb, -EBADMSG, "database: version %d is newer than this program",
		                 version);
		errbuf_hint(eb, "update this host");
	}
	return err;
}

int store_sqlite_open(const char *path, struct vm_store **out, struct errbuf *eb)
{
	static const struct vm_store_ops ops = {
		.each = store_each,
		.put = store_put,
		.remove = store_remove,
		.close = store_close,
	};
	struct store_sqlite *s = gw_calloc(1, sizeof(*s));
	int rc;
	int err;

	*out = NULL;
	if (s == NULL) {
		return errbuf_sys(eb, -ENOMEM, "database");
	}
	s->store.ops = &ops;
	rc = sqlite3_open_v2(path, &s->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL);
	err = rc == SQLITE_OK ? 0 : store_error(s, rc, path, eb);
	if (err == 0) {
		(void)sqlite3_busy_timeout(s->db, STORE_BUSY_MS);
		err = store_version_check(s, eb);
	}
	if (err == 0) {
		err = store_exec(s,
		                 "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
		                 "CREATE TABLE IF NOT EXISTS object (kind TEXT NOT NULL, "
		                 "key TEXT NOT NULL, value TEXT NOT NULL, "
		                 "PRIMARY KEY (kind, key)) WITHOUT ROWID;"
		                 "PRAGMA user_version = 1",
		                 eb);
	}
	if (err != 0) {
		store_close(&s->store);
		return err;
	}
	*out = &s->store;
	return 0;
}
