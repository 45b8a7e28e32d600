/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_BLK_H
#define BASE_BLK_H

/*
 * blk - the asynchronous block device that the storage VSP calls; raw, vhdx, csv and smb
 * implement it.
 *
 * Requests are structs that the caller owns and embeds; the driver keeps its state for a request
 * in blk_req.priv and allocates nothing on the data path. A device belongs to one thread, the one
 * that drives its ring (base/uring.h): submit there, completions come there. Requests may
 * complete in any order; two overlapping requests in flight have no defined order. A write (zero,
 * resize) is durable after a flush that was submitted after it completed, or at once with BLK_FUA.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/attr.h"
#include "base/uring.h"

struct blk;
struct blk_req;
struct errbuf;

enum blk_op {
	BLK_READ,
	BLK_WRITE,
	BLK_FLUSH,   /* no range: offset and length 0; covers the size too */
	BLK_DISCARD, /* the content becomes undefined or zero; a hint that may do nothing */
	BLK_ZERO,    /* the content becomes zero */
	BLK_RESIZE,  /* the size becomes offset_bytes (len_bytes 0); new bytes are zero */
	BLK_OP_COUNT
};

#define BLK_FUA 1u /* only with WRITE, ZERO, RESIZE: complete only when durable */

#define BLK_IOV_MAX 1024u            /* IOV_MAX of Linux; one page each = 4 MiB */
#define BLK_TRANSFER_MAX (64u << 20) /* bytes in one read or write: bounds a guest's request */
#define BLK_PRIV_WORDS 24u

/*
 * @result: 0; -EIO medium error; -ENOSPC the host is full; -EROFS; -ESTALE the right to write is
 * gone (fenced); -ENOTSUP operation not supported (only BLK_RESIZE); -ECANCELED; -EINVAL range,
 * alignment or flags.
 */
typedef void (*blk_done_fn)(struct blk_req *req, int result);

struct blk_req {
	enum blk_op op;
	uint32_t flags;
	uint64_t offset_bytes;   /* multiple of blk_info.logical_bytes, like the length */
	uint64_t len_bytes;      /* not 0; sum of the iov for READ and WRITE */
	const struct iovec *iov; /* borrowed until done; any alignment */
	uint32_t iov_count;
	blk_done_fn done; /* from the ring's dispatch, never from inside blk_submit() */
	void *arg;        /* for the owner */
	uint64_t priv[BLK_PRIV_WORDS]; /* for the driver: overlay a MAY_ALIAS struct */
};

struct blk_info {
	uint64_t size_bytes;
	uint32_t logical_bytes;  /* 512 or 4096: unit of offset and length */
	uint32_t physical_bytes; /* 512 or 4096: best unit */
	uint32_t discard_bytes;  /* unit in which discard frees space; 0 = no discard */
	bool can_resize;         /* it is a file that grows; else BLK_RESIZE: -ENOTSUP */
	bool read_only;
	bool rotational;
	const char *driver; /* "raw", "vhdx", ...; static */
};

/* Complete: every member is set. */
struct blk_ops {
	const char *name;
	/* Start a request that was checked. Never calls back: blk_complete_later() for that. */
	void (*submit)(struct blk *blk, struct blk_req *req);
	void (*info)(const struct blk *blk, struct blk_info *out);
	/* All requests are done. May block on I/O. Frees @blk whatever it returns. */
	int (*close)(struct blk *blk, struct errbuf *eb);
};

/* A driver embeds it as its first member and starts it with blk_init(). */
struct blk {
	const struct blk_ops *ops;
	struct uring *ring; /* borrowed: drives the device, outlives it */
	uint32_t in_flight; /* kept by blk_submit() and blk_complete() */
	/* blk_complete_later(): a queue through req->priv. */
	struct blk_req *later_head;
	struct blk_req *later_tail;
	struct uring_op later_op; /* deferred while the queue is not empty */
};

/* blk_init() - for drivers: @ops complete and static, @ring borrowed until blk_close(). */
void blk_init(struct blk *blk, const struct blk_ops *ops, struct uring *ring);

/*
 * blk_submit() - start @req. The operating-system call may be deferred to the next
 * uring_submit() or uring_wait() of the device's ring, so that several requests go together.
 * The completion is never called from inside blk_submit(). Ranges and the iov are checked here,
 * once for all drivers: a bad request completes with -EINVAL.
 * Context: the device's thread; does not block.
 */
void blk_submit(struct blk *blk, struct blk_req *req);

/* blk_complete() - for drivers: account and call req->done. Not from inside submit(). The owner may
 * submit again or close the device from there: touch @blk afterwards only if more is in flight. */
void blk_complete(struct blk *blk, struct blk_req *req, int result);

/* blk_complete_later() - for drivers: blk_complete() from the ring's next dispatch, so also allowed
 * from inside submit(). Takes over req->priv. Allocates nothing, cannot fail. */
void blk_complete_later(struct blk *blk, struct blk_req *req, int result);

/* blk_get_info() - sizes and abilities; the size may grow between calls (resize). */
void blk_get_info(const struct blk *blk, struct blk_info *out);

/*
 * blk_close() - finish and free. CHECKs that nothing is in flight. NULL is fine.
 * Returns 0; -EIO something could not be written (the object is gone all the same).
 */
MUST_USE int blk_close(struct blk *blk, struct errbuf *eb);

#endif
