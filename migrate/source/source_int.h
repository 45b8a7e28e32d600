/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MIGRATE_SOURCE_SOURCE_INT_H
#define MIGRATE_SOURCE_SOURCE_INT_H

/* source_int - the source's insides: source.c (API, state machine), source_control.c (its
 * connection and its waiting), source_stop.c (from the vCPUs' stop to the end), source_copy.c
 * (threads of the data connections). */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "migrate/link/link.h"
#include "migrate/pack/pack.h"
#include "migrate/source/source.h"

/* Data pages of one frame: few enough that what is copied, scanned, packed and encrypted stays in
 * the cache, enough that the socket is not waited for all the time (docs/PERFORMANCE.md). */
#define SOURCE_BATCH_PAGES 128u
#define SOURCE_BATCH_PAGES_MIN 16u /* on a capped link */
#define SOURCE_BATCH_BYTES ((size_t)SOURCE_BATCH_PAGES * STREAM_PAGE_BYTES)
/* Of the bitmap, taken by a thread at a time: 2 MiB, so that a huge page at the destination is the
 * business of one connection; two that fault it in at once would both clear one. */
#define SOURCE_CHUNK_WORDS 8u

/* One asynchronous operation of the guest. */
struct source_op {
	struct source *s; /* borrowed */
	bool pending;     /* s->lock guards all below */
	bool done;
	int err;
	struct errbuf why;
};

/* A data connection and its thread. */
struct source_conn {
	struct source *s; /* borrowed */
	uint32_t index;   /* 1.. */
	pthread_t thread;
	bool started; /* the creator's */
	/* The thread's from here on. */
	struct link link;
	uint64_t capabilities;
	struct stream_memory *frame;        /* owned */
	uint32_t data_pages;                /* in frame */
	uint8_t *memory;                    /* owned: batch and what aligns it */
	uint8_t *batch;                     /* [SOURCE_BATCH_BYTES], in memory */
	bool copies;                        /* data goes through batch, else from guest memory */
	struct iovec pieces[LINK_BULK_MAX]; /* of the guest's memory, if not */
	int piece_count;
	uint8_t *packed;   /* owned: [SOURCE_BATCH_BYTES]; NULL = never packs */
	struct pack *pack; /* owned */
	struct pack_gauge gauge;
	struct stream_round counts; /* of this round */
	uint64_t wire_seen;         /* of link.sent_bytes: already in s->wire_bytes */
};

struct source {
	struct source_cfg cfg; /* pointers borrowed but for definition */
	char *definition;      /* owned */
	char *peer_name;       /* owned; may be NULL */
	pthread_t thread;
	int stop_fd; /* eventfd, written once: everything ends */
	int wake_fd; /* eventfd: look at the fields under the lock */

	pthread_mutex_t lock;
	pthread_cond_t cond; /* round, quit */
	bool canceled;       /* lock guards from here ... */
	bool asked;          /* HANDOFF: cancel is too late */
	bool committed;
	bool refused;
	struct errbuf refused_why;
	bool quit;
	bool stopped;   /* stop_fd is written */
	uint32_t round; /* that the data connections send */
	uint32_t conns_ready;
	uint32_t conns_done;
	int conn_err;
	struct errbuf conn_why;
	struct source_op pause;
	struct source_op resume;
	struct source_op save; /* ... to here */

	/* Set before a round starts; senders only read. */
	struct move_range ranges[MOVE_RANGES_MAX];
	size_t range_word[MOVE_RANGES_MAX]; /* where a range begins in bits */
	uint32_t range_count;
	uint64_t *bits; /* owned: pages to send in this round */
	size_t words;
	uint64_t memory_pages;

	_Atomic size_t cursor; /* next word of bits that nobody took */
	_Atomic uint64_t moved_pages;
	_Atomic uint64_t data_pages;
	_Atomic uint64_t zero_pages;
	_Atomic uint64_t wire_bytes;
	_Atomic uint64_t pace_ns; /* when the link is free again, if capped */

	struct source_conn *conns; /* owned: [conn_count] */
	uint32_t conn_count;

	/* The state machine's. */
	struct link control;
	bool control_dead;
	int control_err;
	struct errbuf control_why;
	uint32_t expect;   /* frame that may come now, 0 = none */
	bool got;          /* it came */
	uint64_t heard_ns; /* last frame */
	uint64_t pinged_ns;
	uint64_t rtt_ns; /* the shortest so far; 0 = unknown */
	bool ponged;     /* since source_measure() asked */
	uint64_t ready_epoch;
	struct stream_running running;
	struct policy policy;
	bool guest_paused;
	bool dirty_logged;
	uint32_t throttle;
	uint64_t start_ns;
	uint64_t told_ns; /* last progress */
	uint64_t told_wire_bytes;
	uint64_t round_pages;
	bool round_active;
	uint64_t round_moved; /* moved_pages when the round began */
	uint64_t fetched_ns;  /* the dirty log */
	uint8_t *state;       /* owned */
	size_t state_bytes;
	bool state_sent;
	uint64_t stop_ns; /* when the vCPUs were asked to stop */
	struct move_progress progress;
	struct move_result result;
};

/* source_copy.c */
MUST_USE int source_conn_init(struct source_conn *c, struct source *s, uint32_t index, int fd,
                              struct errbuf *eb);
void source_conn_fini(struct source_conn *c);
void *source_conn_main(void *arg);

/* source_control.c */
typedef bool (*source_until_fn)(struct source *s);

MUST_USE int source_handshake(struct link *l, const struct source *s, uint32_t index,
                              struct errbuf *eb);
MUST_USE int source_answer(const struct source *s, const struct stream_frame *f,
                           const uint8_t *payload, uint64_t *capabilities, struct errbuf *eb);
int source_peer_failed(const struct stream_frame *f, const uint8_t *payload, struct errbuf *eb);
void source_wake(struct source *s);
void source_stop_all(struct source *s);
void source_tell(struct source *s, enum move_phase phase);
/* Serve the control connection until @until says so. Returns 0; -ETIMEDOUT at @deadline_ns;
 * -ECANCELED; the error of a connection. */
MUST_USE int source_wait(struct source *s, source_until_fn until, uint64_t deadline_ns,
                         struct errbuf *eb);
MUST_USE int source_send(struct source *s, enum stream_type type, const void *payload, uint32_t len,
                         struct errbuf *eb);
/* How long is the way there and back while nothing else is on it? Into rtt_ns, unless the answer
 * takes too long to be worth waiting for. Returns 0; as source_wait(). */
MUST_USE int source_measure(struct source *s, struct errbuf *eb);
/* Send @type with @payload and wait for @expect. */
MUST_USE int source_ask(struct source *s, enum stream_type expect, uint64_t deadline_ns,
                        struct errbuf *eb);

/* source_stop.c */
/* From the stop of the vCPUs on. Returns 0 over, see s->result; 1 the guest runs again, next round;
 * -errno. */
MUST_USE int source_handover(struct source *s, struct errbuf *eb);
MUST_USE int source_resume_guest(struct source *s, struct errbuf *eb);
MUST_USE int source_fetch(struct source *s, uint64_t *rest_pages, struct errbuf *eb);
/* source.c */
/* Fill the bitmap for the first round. Returns how many pages. */
uint64_t source_all_pages(struct source *s);
void source_round_begin(struct source *s, uint64_t pages);
/* Until all of it lies in the destination's memory. -ETIMEDOUT: round_active, wait again. */
MUST_USE int source_round_wait(struct source *s, uint64_t deadline_ns, struct errbuf *eb);
MUST_USE int source_apply(struct source *s, const struct policy_decision *d, struct errbuf *eb);

#endif
