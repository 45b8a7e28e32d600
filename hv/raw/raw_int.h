/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_RAW_RAW_INT_H
#define HV_RAW_RAW_INT_H

/* raw_int - shared by raw.c (open, close), raw_io.c (requests), raw_probe.c, raw_lock.c. */

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
	struct uring_op kick;       /* deferred: look at stalled again */
	bool kicked;
	struct iovec zero_iov[RAW_ZERO_IOVS]; /* all the same page */
};

enum raw_phase {
	RAW_DIRECT, /* between the caller's memory and the file */
	RAW_BOUNCE, /* through a buffer */
	RAW_RANGE,  /* fallocate */
	RAW_STEP,   /* an ioctl that discards, piece by piece */
	RAW_FILL,   /* zeroes are written */
	RAW_SYNC,   /* fdatasync: a flush, or FUA of what has no flag for it */
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
} MAY_ALIAS;
_Static_assert(sizeof(struct raw_req) <= sizeof(((struct blk_req *)0)->priv), "blk_req.priv");

/*
 * raw_piece() - what is left of a transfer after @done_bytes, without copying the vector: either
 * the elements from one on, or the rest of one element (then in @part).
 * @count: out: number of elements. @bytes: out: their sum.
 */
const struct iovec *raw_piece(const struct blk_req *req, uint64_t done_bytes, struct iovec *part,
                              uint32_t *count, uint64_t *bytes);

void raw_submit(struct blk *blk, struct blk_req *req);
/* The deferred look at raw.stalled. */
void raw_kicked(struct uring_op *op, int32_t res, bool more);

/* raw_probe() - find out raw_limits of @fd; switches O_DIRECT on or off. Returns 0; -errno. */
MUST_USE int raw_probe(int fd, const struct raw_cfg *cfg, struct raw_limits *out,
                       struct errbuf *eb);

/* raw_check_kind() - is it a file or a block device? Returns 0; -EINVAL; -errno. */
MUST_USE int raw_check_kind(int fd, struct errbuf *eb);

/* raw_lock() - one writer or many readers. Returns 0; -EBUSY; -errno. */
MUST_USE int raw_lock(int fd, bool read_only, struct errbuf *eb);

/* raw_unlock() - give the lock of this open file description back. */
void raw_unlock(int fd);

#endif
