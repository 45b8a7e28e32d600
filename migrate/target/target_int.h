/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MIGRATE_TARGET_TARGET_INT_H
#define MIGRATE_TARGET_TARGET_INT_H

/* target_int - the target's insides: target.c (API, state machine), target_control.c (its
 * connection and its waiting), target_conn.c (connections until they are known),
 * target_memory.c (pages), target_fill.c (memory ahead of them). */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "migrate/link/link.h"
#include "migrate/pack/pack.h"
#include "migrate/target/target.h"

/* All that may be open at once: those of a move, and a few strangers that are thrown out. */
#define TARGET_CONNS_MAX (1u + STREAM_CONNECTIONS_MAX + 8u)
#define TARGET_CAPS STREAM_CAPS_KNOWN

struct target_op {
	struct target *t;
	bool pending; /* t->lock guards all below */
	bool done;
	int err;
	struct errbuf why;
};

struct target_conn {
	struct target *t; /* borrowed */
	pthread_t thread;
	bool started;
	struct link link;
	uint32_t index; /* of HELLO; the lock guards it */
	bool in_round;  /* the lock guards it */
	/* The thread's. */
	uint64_t capabilities;
	struct stream_memory *frame; /* owned */
	struct stream_round counts;
	uint8_t *packed;   /* owned: [STREAM_BULK_MAX]; NULL until needed */
	uint8_t *unpacked; /* owned: [STREAM_BULK_MAX] */
	struct pack *lz4;  /* owned */
	struct pack *zstd; /* owned */
	uint64_t received_seen;
};

/* Pieces of 2 MiB, counted over all ranges. */
struct target_fill_state {
	pthread_mutex_t lock;
	pthread_cond_t cond; /* limit, quit */
	pthread_t threads[TARGET_FILL_THREADS_MAX];
	uint32_t started;                /* the state machine's */
	uint64_t first[MOVE_RANGES_MAX]; /* of each range; constant once started, as count */
	uint64_t count;
	atomic_bool *done; /* owned: [count]: all of it is there */
	_Atomic uint64_t bytes;
	atomic_bool failed;    /* the kernel did not want to; nothing is filled any more */
	_Atomic uint64_t seen; /* front, for a look without the lock */
	bool quit;             /* lock guards from here ... */
	uint64_t next;         /* the next to be filled */
	uint64_t limit;        /* below this */
	uint64_t front;        /* the furthest that content has come for; ... to here */
};

struct target {
	struct target_cfg cfg;
	pthread_t thread;
	int stop_fd;      /* eventfd, written once: everything ends */
	int data_stop_fd; /* the same for the data connections: memory is complete */
	int wake_fd;

	pthread_mutex_t lock;
	pthread_cond_t cond;                         /* operations */
	struct target_conn *conns[TARGET_CONNS_MAX]; /* owned; lock guards from here ... */
	uint32_t conn_count;
	bool closed; /* no more connections */
	struct target_conn *control_conn;
	uint32_t taken; /* bit n: data connection n is there */
	uint32_t data_conns;
	struct stream_hello hello; /* of the control connection */
	struct errbuf stranger;    /* why the last connection was thrown out */
	bool mapped;
	bool sealed; /* no more pages */
	int conn_err;
	struct errbuf conn_why;
	bool ready; /* HANDOFF */
	bool committed;
	uint64_t epoch;
	bool abandoned;
	struct errbuf abandoned_why;
	struct target_op op; /* ... to here */

	struct move_range ranges[MOVE_RANGES_MAX]; /* constant once mapped */
	size_t range_word[MOVE_RANGES_MAX];
	uint32_t range_count;
	uint64_t *written; /* owned; atomic words: pages that may hold something */
	size_t words;
	uint64_t memory_pages;
	atomic_bool populate_fails; /* the kernel does not know MADV_POPULATE_WRITE */
	struct target_fill_state fill;

	_Atomic uint64_t data_pages;
	_Atomic uint64_t zero_pages;
	_Atomic uint64_t wire_bytes;

	/* The state machine's. */
	struct link control;
	bool connected; /* control is ours */
	bool control_dead;
	struct errbuf control_why;
	int control_err;
	uint64_t heard_ns;
	uint64_t start_ns;
	uint64_t told_ns;
	uint64_t told_wire_bytes;
	enum move_phase phase;
	uint8_t *state; /* owned */
	size_t state_bytes;
	size_t state_total;
	uint64_t load_ns;
	bool commit_asked; /* COMMIT came, the owner is to confirm */
	uint64_t commit_epoch;
	struct move_progress progress;
	struct move_result result;
};

/* target_conn.c */
void target_wake(struct target *t);
void target_conn_free(struct target_conn *c);
/* Ends the data connections' threads. */
void target_join_conns(struct target *t);

/* target_memory.c */
MUST_USE int target_map(struct target *t, struct errbuf *eb);
/* Is it as large as the source's? */
MUST_USE int target_map_check(const struct target *t, struct errbuf *eb);
MUST_USE int target_pages(struct target_conn *c, const struct stream_frame *f, struct errbuf *eb);

/* target_fill.c; target_map() was called. */
MUST_USE int target_fill_start(struct target *t, struct errbuf *eb);
/* No further pieces: what comes now is part of the blackout. */
void target_fill_stop(struct target *t);
/* And no more threads. Also without a start. */
void target_fill_end(struct target *t);
/* Nothing is left to be filled, or nothing can be. */
bool target_fill_over(struct target *t);
/* Returns 0; -ENOMEM there was not enough memory. */
MUST_USE int target_fill_result(struct target *t, struct errbuf *eb);
/* Content comes for @page. Data connections' threads, as the next two. */
void target_fill_front(struct target *t, uint32_t range, uint64_t page);
/* Was all of it filled? */
bool target_filled(const struct target *t, uint32_t range, uint64_t page, uint32_t pages);
/* All at once, not one fault after the other. Returns false: the kernel did not. */
bool target_fault_in(struct target *t, uint8_t *host, size_t len_bytes);

/* target_control.c: as in source_int.h. */
typedef bool (*target_until_fn)(struct target *t);

void target_tell(struct target *t, enum move_phase phase);
MUST_USE int target_wait(struct target *t, target_until_fn until, uint64_t deadline_ns,
                         struct errbuf *eb);
/* Wait for a frame of the control connection, other than PING, or @until (NULL: only a frame); then
 * f->type is 0. */
MUST_USE int target_frame(struct target *t, target_until_fn until, struct stream_frame *f,
                          struct errbuf *eb);
MUST_USE int target_send(struct target *t, enum stream_type type, const void *payload, uint32_t len,
                         struct errbuf *eb);
int target_peer_failed(const struct stream_frame *f, const uint8_t *payload, struct errbuf *eb);

#endif
