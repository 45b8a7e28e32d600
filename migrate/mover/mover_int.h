/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MIGRATE_MOVER_MOVER_INT_H
#define MIGRATE_MOVER_MOVER_INT_H

/* Private to migrate/mover. */

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/guid.h"
#include "base/json.h"
#include "base/uring.h"
#include "hv/worker/post.h"
#include "hv/worker/worker_ext.h"
#include "migrate/move/move.h"

struct control_request;
struct source;
struct target;
struct tls_ctx;

enum mover_side { MOVER_NONE, MOVER_SOURCE, MOVER_TARGET };

/* A guest operation: asked by the end's thread, done on the device thread. One at a time of each
 * kind, so no lock: posting orders. */
struct mover_op {
	struct post_item item;
	move_done_fn done;
	void *arg;
};

/* What an end told, until the device thread passes it on. */
enum mover_news {
	MOVER_PROGRESS,
	MOVER_READY,
	MOVER_LOST,
	MOVER_COMMITTED,
	MOVER_ORPHANED,
	MOVER_ENDED,
	MOVER_NEWS_COUNT
};

struct mover {
	struct worker *w; /* borrowed */
	struct post *post;

	/* Device thread. */
	enum mover_side side;
	struct guid move;
	struct source *source; /* owned; of a source */
	struct target *target; /* owned; of a target */
	struct tls_ctx *tls;   /* owned; NULL = plain */
	bool asked;            /* source: the owner has been asked and has not answered */
	bool ready;            /* READY was sent or came */
	bool committed;        /* destination: COMMIT came */
	bool ended;            /* result is of the last move */
	bool given;            /* a source: the VM is another host's, "off" is awaited */
	int sockets[1 + STREAM_CONNECTIONS_MAX]; /* owned: for the next move-send */
	uint32_t socket_count;
	bool pausing;          /* a source's pause is under way */
	bool resume_due;       /* and it shall run on when that is done */
	struct uring_op timer; /* for trying a lock again */
	bool timer_on;
	void (*timer_fn)(struct mover *m);
	uint32_t tries;
	struct worker_deferred opening; /* of the disks */

	/* Guest operations. */
	struct mover_op pause, resume, save;          /* source */
	struct mover_op prepare, load, run, announce; /* target */
	uint8_t **save_buf;                           /* of save */
	size_t *save_bytes;
	const uint8_t *load_buf; /* of load */
	size_t load_bytes;

	/* What the end told. */
	struct post_item news[MOVER_NEWS_COUNT];
	pthread_mutex_t lock; /* guards the rest */
	struct move_progress progress;
	struct move_result result;
	struct errbuf why;    /* of LOST and ORPHANED */
	uint64_t epoch;       /* of COMMITTED */
	uint64_t deadline_ns; /* of READY; UINT64_MAX = none */
};

/* mover.c */
void mover_lock(struct mover *m);
void mover_unlock(struct mover *m);
/* mover_memory() - the guest's memory as ranges; both ends' map(). */
uint32_t mover_memory(void *guest, struct move_range *ranges);
/* mover_ask() - let the device thread do @fn for a guest operation. */
void mover_ask(struct mover *m, struct mover_op *op, post_fn fn, move_done_fn done, void *arg);
/* mover_answer() - it is done. Once per mover_ask(). */
void mover_answer(struct mover_op *op, int err, const struct errbuf *why);
/* mover_tell() - pass @news on from the device thread. */
void mover_tell(struct mover *m, enum mover_news news);
/* mover_later() - @fn from the device thread, a little later. One at a time. */
void mover_later(struct mover *m, void (*fn)(struct mover *m));
/* mover_source.c, mover_target.c: commands, and the end of the move (device thread). */
void mover_source_send(struct mover *m, struct control_request *req);
void mover_source_ended(struct mover *m);
void mover_source_stop(struct mover *m, const char *why);
void mover_sockets_close(struct mover *m);
void mover_target_receive(struct mover *m, struct control_request *req);
void mover_target_ended(struct mover *m);

/* mover_json.c */
/* What both ends are told. */
struct mover_common {
	uint64_t epoch;
	uint8_t token[STREAM_TOKEN_BYTES];
	bool plain;
	uint64_t silence_max_ns;
};

/* mover_common_read() - and m->move, m->tls. Returns 0; -EINVAL with the member named; as
 * tls_ctx_from_pem(). */
MUST_USE int mover_common_read(struct mover *m, const struct json_at *at, struct mover_common *out,
                               struct errbuf *eb);
/* The members of move-progress and move-ended. */
void mover_progress_json(struct json_build *b, const struct move_progress *p);
void mover_result_json(struct json_build *b, const struct move_result *r);

#endif
