/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_RAW_RAW_INT_H
#define HV_RAW_RAW_INT_H

/* raw_int - shared by raw.c (open, close), raw_io.c (requests), raw_room.c (requests that wait for
 * room), raw_probe.c, raw_lock.c. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/attr.h"
#include "base/blk.h"
#include "base/list.h"
#include "base/uring.h"
#include "hv/raw/raw.h"

#define RAW_BOUNCE_COUNT 8u           /* misaligned transfers are rare; the others queue */
#define RAW_BOUNCE_BYTES (128u << 10) /* x 8 = 1 MiB, touched only when used */
#define RAW_BOUNCE_ALIGN 4096u        /* suits every device */
#define RAW_ZERO_BYTES 4096u          /* one page of zeroes, written many times per call */
#define RAW_ZERO_IOVS 64u
#define RAW_DISCARD_STEP (64ull << 20) /* per blocking ioctl, between other requests */
#define RAW_RETRY_MAX 16u              /* interrupted or refused for now, in a row */

/* What the storage is and wants. */
struct raw_limits {
	bool device; /* a block device, not a file */
	bool direct; /* O_DIRECT is on */
	uint64_t size_bytes;
	uint32_t mem_align; /* of addresses, if direct */
	uint32_t dio_align; /* of offsets and lengths, if direct; else 1 */
	uint32_t logical_bytes;
	uint32_t physical_bytes;
	uint32_t discard_bytes; /* 0 = cannot */
	bool rotational;
};

/* How far down the ladder an operation went, because the storage cannot do better. */
enum raw_discard { RAW_DISCARD_PUNCH, RAW_DISCARD_IOCTL, RAW_DISCARD_NONE };
enum raw_zero { RAW_ZERO_RANGE, RAW_ZERO_PUNCH, RAW_ZERO_WRITE };

struct raw_req;

/* What waits for room, and how old what is under way is. */
struct raw_room {
	bool patient;
	struct list waiting;   /* struct raw_req */
	struct raw_req *trial; /* of them: is tried again; NULL = none is */
	uint64_t since_ns;     /* when raw_look() first saw it full; 0 = it has room */
	uint32_t begun[2];     /* requests under way, of this and of the former age */
	uint8_t age;           /* index of this one */
	uint64_t turned_ns;    /* when it began */
};

struct raw {
	struct blk blk;
	int fd; /* owned; holds the lock */
	bool read_only;
	bool keep_allocated;
	bool released; /* no lock, no requests */
	struct raw_limits limits;
	enum raw_discard discard;
	enum raw_zero zero;
	struct raw_stats stats;
	uint8_t *bounce_memory; /* owned */
	uint8_t *bounce_free[RAW_BOUNCE_COUNT];
	uint32_t bounce_free_count;
	struct list bounce_waiting; /* struct raw_req: want a buffer */
	struct list stalled;        /* struct raw_req: the ring was full */
	struct raw_direct *direct;  /* owned; NULL = by the file only */
	bool direct_writes;         /* there were writes that the file does not know of */
	/* Changes by the file, counted when they begin and end; how many of them a flush of the
	 * file has covered. Equal: what is not durable was written directly. */
	uint64_t file_seq;
	uint64_t synced_seq;
	struct uring_op kick; /* deferred: look at stalled again */
	bool kicked;
	struct iovec zero_iov[RAW_ZERO_IOVS]; /* all the same page */
	struct raw_room room;
};

enum raw_phase {
	RAW_DIRECT, /* between the caller's memory and the file */
	RAW_BOUNCE, /* through a buffer */
	RAW_RANGE,  /* fallocate */
	RAW_STEP,   /* an ioctl that discards, piece by piece */
	RAW_FILL,   /* zeroes are written */
	RAW_SYNC,   /* fdatasync: a flush, or FUA of what has no flag for it */
	RAW_RESIZE, /* a new size, when nothing is done directly */
};

/* In blk_req.priv. */
struct raw_req {
	struct uring_op op;
	struct blk_req *req;
	struct list link; /* raw.stalled or raw.bounce_waiting */
	uint64_t done_bytes;
	uint8_t *bounce;    /* held */
	struct iovec part;  /* the rest of one element */
	uint32_t ask_bytes; /* of the transfer that runs */
	uint8_t phase;      /* enum raw_phase */
	uint8_t tried;      /* RAW_RANGE: enum raw_zero */
	uint8_t retries;
	uint8_t age;       /* index in raw_room.begun */
	bool by_file;      /* and not directly, whatever is known */
	bool on_device;    /* the transfer that runs is a direct one, or a flush of the device */
	bool entered;      /* raw_direct_enter() */
	struct list track; /* raw_direct: in flight, or a change of a part of a block */
	uint64_t began_ns; /* of a direct transfer; RAW_SYNC: raw.file_seq then */
	uint64_t direct_from;
	uint64_t direct_to;
} MAY_ALIAS;
_Static_assert(sizeof(struct raw_req) <= sizeof(((struct blk_req *)0)->priv), "blk_req.priv");

/*
 * raw_piece() - what is left of a transfer after @done_bytes, without copying the vector: either
 * the elements from one on, or the rest of one element (then in @part).
 * @count: out: number of elements. @bytes: out: their sum.
 */
const struct iovec *raw_piece(const struct blk_req *req, uint64_t done_bytes, struct iovec *part,
                              uint32_t *count, uint64_t *bytes);

/* raw_check() - CHECKs that it is a raw device. */
void raw_check(const struct blk *blk);

void raw_submit(struct blk *blk, struct blk_req *req);
/* raw_again() - start it anew; what was transferred stays so. May end it, later. */
void raw_again(struct raw *raw, struct raw_req *r);

/* raw_room_want() - @r found no room, @res. Returns true if it waits. */
bool raw_room_want(struct raw *raw, struct raw_req *r, int32_t res);
/* raw_room_end() - @r ends: what waited for what becomes of it goes on. */
void raw_room_end(struct raw *raw, const struct raw_req *r);

/* Look at raw.stalled from the next dispatch. */
void raw_kick(struct raw *raw);
/* The deferred look at raw.stalled. */
void raw_kicked(struct uring_op *op, int32_t res, bool more);

/* raw_probe() - find out raw_limits of @fd; switches O_DIRECT on or off. Returns 0; -errno. */
MUST_USE int raw_probe(int fd, const struct raw_cfg *cfg, struct raw_limits *out,
                       struct errbuf *eb);

/* raw_check_kind() - is it a file or a block device? Returns 0; -EINVAL; -errno. */
MUST_USE int raw_check_kind(int fd, struct errbuf *eb);

/* raw_lock() - one writer or many readers; also between the nodes of a shared volume. Returns 0;
 * -EBUSY; -errno. */
MUST_USE int raw_lock(int fd, bool read_only, struct errbuf *eb);

/* raw_unlock() - give the lock of this open file description back. Returns 0; -errno what was
 * written last is lost. */
int raw_unlock(int fd);

#endif
