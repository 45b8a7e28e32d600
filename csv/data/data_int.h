/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CSV_DATA_DATA_INT_H
#define CSV_DATA_DATA_INT_H

/* data_int - shared by data.c (life, states), io.c (requests), layout.c, flush.c (rounds) and
 * map.c. */

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "csv/data/csv_data.h"

#define DATA_REDIRECT_BYTES (256u << 10) /* at a time through another node */
#define DATA_BLOCK_BYTES 4096u
#define DATA_BOUNCE_COUNT 4u
#define DATA_BOUNCE_BYTES (128u << 10)
#define DATA_LAYOUT_ASKS 4u
#define DATA_FILLS 4u
#define DATA_ZERO_IOVS 64u
#define DATA_PROBES_GOOD 3u
#define DATA_RETRY_MAX 16u /* interrupted or refused for now, in a row */

/* ---- extents (map.c) ---- */

enum data_kind {
	DATA_HOLE,      /* reads as zero; nothing to write to */
	DATA_UNWRITTEN, /* reads as zero; may be written */
	DATA_FRESH,     /* was unwritten, was written */
	DATA_TURNING,   /* the same, and a round is making it WRITTEN */
	DATA_WRITTEN
};

struct data_extent {
	uint64_t file;
	uint64_t device; /* HOLE: UINT64_MAX */
	uint64_t len;
	enum data_kind kind;
};

/* Sorted, disjoint; neighbours that are one piece are one extent. */
struct data_map {
	struct data_extent *at; /* owned by the embedder */
	uint32_t count;
	uint32_t max;
	uint64_t bytes[DATA_WRITTEN + 1]; /* of each kind */
	uint64_t turned;                  /* how often something became written */
	uint64_t forgotten;               /* @turned, when that was last forgotten */
};

/* data_map_find() - what is at @file, from there on. -ENXIO nothing known. */
MUST_USE int data_map_find(const struct data_map *m, uint64_t file, struct data_extent *out);
/* data_map_put() - @e replaces what was known. -ENOSPC: two more may be needed. */
MUST_USE int data_map_put(struct data_map *m, const struct data_extent *e);
/* data_map_learn() - the same, only where nothing or a hole is known, and so that room for @room
 * more is left. -ENOSPC in the middle. */
MUST_USE int data_map_learn(struct data_map *m, const struct data_extent *e, uint32_t room);
/* data_map_drop() - forget [from, to). -ENOSPC it would split one and there is no room. */
MUST_USE int data_map_drop(struct data_map *m, uint64_t from, uint64_t to);
/* data_map_evict() - forget holes and what is written, and with @unwritten what is not as well. */
void data_map_evict(struct data_map *m, bool unwritten);
/* data_map_turn() - all extents of kind @from become @to. */
void data_map_turn(struct data_map *m, enum data_kind from, enum data_kind to);
/* data_map_next() - the first extent of @kind, with its direct successors of that kind in the file.
 * Returns false if there is none. */
bool data_map_next(const struct data_map *m, enum data_kind kind, uint64_t *file, uint64_t *len);
/* data_map_settle() - in [file, file + len) what is TURNING is WRITTEN. */
void data_map_settle(struct data_map *m, uint64_t file, uint64_t len);

/* ---- requests ---- */

/* In blk_req.priv. */
struct data_req {
	union {
		struct uring_op op;
		struct csv_data_ask ask;
	};
	struct blk_req *req;
	struct list link; /* in flight, or one of the waiting lists */
	uint64_t done_bytes;
	uint64_t began_ns; /* the transfer */
	uint64_t wait_ns;  /* since when it waits for what is not there; 0 = it does not */
	uint64_t piece_device;
	uint64_t id; /* of the redirected piece; 0 = none yet */
	uint8_t *bounce;
	struct iovec part;
	uint32_t piece_bytes;
	uint8_t piece_kind; /* enum data_kind */
	bool doubt;     /* redirected, and nobody knows whether it was done: only its id helps */
	bool odd;       /* memory that needs a bounce buffer */
	bool owes_sync; /* FUA: a round at the end */
	uint8_t retries;
} MAY_ALIAS;
_Static_assert(sizeof(struct data_req) <= sizeof(((struct blk_req *)0)->priv), "blk_req.priv");

/* The first block of something that is written in part: zeroes first. */
struct data_fill {
	struct uring_op op;
	struct csv_data_ask ask;
	struct csv_data *data;
	struct iovec iov;
	uint64_t file;
	uint64_t device;
	uint64_t id;
	bool busy;
	bool stalled; /* busy, and nobody works on it */
	bool doubt;
};

struct csv_data {
	struct blk blk;
	struct csv_data_cfg cfg;
	int fd; /* owned */
	uint32_t logical_bytes;
	uint32_t mem_align;
	uint64_t size_bytes;
	struct data_map map;

	/* Why and how it stands. */
	bool lost; /* the path */
	bool dead;
	bool closing;
	enum csv_data_reason path_reason;
	enum csv_data_reason wait_reason;
	enum csv_data_state state;
	enum csv_data_reason reason;
	uint64_t since_ns;
	uint32_t waiters;       /* requests with wait_ns, wherever they are */
	uint64_t wait_since_ns; /* when the first of them came */
	uint64_t until_ns;      /* of the rights, as last seen */

	uint32_t busy;           /* transfers and fills under way, direct or not */
	uint32_t direct_busy;    /* of them direct */
	uint32_t unwritten_busy; /* of them, writes into what is unwritten */
	struct list flying;      /* struct data_req: direct transfers, oldest first */
	struct list again;       /* want the ring, which was full */
	struct list stalled;     /* want rights, a path, an answer; looked at with each tick */
	struct list waiting;     /* want a layout or a fill that is under way */
	struct list gated;       /* want the end of a recall */
	struct list want_bounce;
	struct uring_op kick;
	bool kicked;
	struct uring_op tick;
	bool ticking;
	bool tick_queued; /* it is no timer, the ring was full */

	struct csv_data_ask layouts[DATA_LAYOUT_ASKS];
	bool layout_busy[DATA_LAYOUT_ASKS];
	uint64_t layout_turned[DATA_LAYOUT_ASKS]; /* map.turned then */
	struct data_fill fills[DATA_FILLS];
	uint64_t next_id;

	/* A round: device flush, then conversions. */
	bool round;
	bool want_round;   /* although nobody waits for it */
	bool round_direct; /* the flush is on our own path */
	bool round_failed; /* the last one */
	struct uring_op round_op;
	struct csv_data_ask round_ask;
	uint64_t round_id;
	struct list round_now; /* struct data_req */
	struct list round_next;

	bool recall;
	uint64_t recall_from;
	uint64_t recall_to;
	void (*recall_fn)(void *arg);
	void *recall_arg;

	struct uring_op probe;
	bool probing;
	uint32_t probes_good;
	bool lost_unsaid; /* a flush failed that nobody had asked for: the next one says it */
	uint8_t *probe_page;
	uint8_t *zero_page;
	struct iovec zero_iov[DATA_ZERO_IOVS];
	uint8_t *memory; /* owned: pages and bounce buffers */
	uint8_t *bounce_free[DATA_BOUNCE_COUNT];
	uint32_t bounce_count;
	struct csv_data_stats stats;
};

/* layout.c */
/* data_want_layout() - @r goes on when it is known what is at @at. @hole: that is a hole. */
void data_want_layout(struct csv_data *d, struct data_req *r, uint64_t at, bool write, bool hole);
void data_layout_done(struct csv_data *d, struct csv_data_ask *ask, int result,
                      const struct csv_layout_lease *lease);
/* data_fail_range() - who waits for something in the range of @ask gets @result. */
void data_fail_range(struct csv_data *d, const struct csv_data_ask *ask, int result);

/* io.c */
void data_submit(struct blk *blk, struct blk_req *req);
void data_go(struct csv_data *d, struct data_req *r);
void data_go_all(struct csv_data *d, struct list *from);
void data_finish(struct csv_data *d, struct data_req *r, int result);
void data_stall(struct csv_data *d, struct data_req *r, enum csv_data_reason why);
void data_stall_all(struct csv_data *d, struct list *from, enum csv_data_reason why);
/* data_poke_recall() - perhaps nothing stands in a recall's way any more. */
void data_poke_recall(struct csv_data *d);
void data_fail_all(struct csv_data *d, struct list *from, int result);
/* data_kick() - look at the lists from the next dispatch: nothing calls itself in circles. */
void data_kick(struct csv_data *d);
void data_kicked(struct uring_op *op, int32_t res, bool more);
void data_redirect_done(struct csv_data *d, struct data_req *r, int result);
void data_resize_done(struct csv_data *d, struct data_req *r, int result);
void data_fill_done(struct csv_data *d, struct data_fill *f, int result, bool direct);

/* flush.c */
void data_round_join(struct csv_data *d, struct data_req *r);
void data_round_start(struct csv_data *d);
void data_round_answer(struct csv_data *d, int result);

/* data.c */
/* data_may() - rights for a submission now, on our own path unless d->lost (look after this call).
 * @now_ns: out. False: stall for CSV_DATA_RIGHTS, or it is dead now. */
bool data_may(struct csv_data *d, uint64_t *now_ns);
void data_lose_path(struct csv_data *d, enum csv_data_reason why);
void data_die(struct csv_data *d);
void data_tick_arm(struct csv_data *d);
void data_tick(struct csv_data *d);
void data_recall_step(struct csv_data *d);
void data_update(struct csv_data *d);
/* data_result() - what base/blk.h calls an error of the device. */
int data_result(int32_t res);
bool data_is_path_error(int32_t res);
bool data_is_for_now(int result);

/* What an answer of another node that will not change means for who asked. */
int data_redirect_result(int result);

#endif
