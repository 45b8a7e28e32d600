/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLUSTER_RSM_STORE_SQLITE_INT_H
#define CLUSTER_RSM_STORE_SQLITE_INT_H

/*
 * store_sqlite_int - between store_sqlite.c (the table of functions, opening, reading) and
 * store_sqlite_writer.c (what is queued, and the thread that makes it durable).
 */

#include <pthread.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/guid.h"
#include "base/list.h"
#include "base/wire.h"
#include "cluster/rsm/rsm_store.h"
#include "cluster/rsm/store_sqlite.h"

struct errbuf;
struct loop_fd;

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

struct store_bytes {
	const void *at;
	size_t len;
};

struct store_pos_wire {
	le64 index;
	le64 epoch;
	le64 hash;
};

/* ---- store_sqlite_writer.c ---- */

/* An errno for a result of SQLite's. */
int store_rc(int rc);

/* To be written with the next sync. Return 0; -ENOMEM. */
MUST_USE int store_queue(struct store *s, enum store_op_kind kind, uint64_t number,
                         struct store_bytes key, struct store_bytes value);
MUST_USE int store_queue_meta(struct store *s, const char *key, const void *value, size_t len);
MUST_USE int store_queue_base(struct store *s);
MUST_USE int store_queue_mark(struct store *s, const struct rsm_mark *mark);
void store_ops_free(struct list *ops);

/* What is queued, now, by the caller: before there is a thread. */
MUST_USE int store_write_queued(struct store *s);

/* The thread. store_stop(): also of one that was not started. */
MUST_USE int store_start(struct store *s, struct errbuf *eb);
void store_stop(struct store *s);

#endif
