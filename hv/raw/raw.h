/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_RAW_RAW_H
#define HV_RAW_RAW_H

/*
 * raw - a file or a block device of the host, byte for byte, as a base/blk.h device.
 *
 * I/O goes past the page cache (O_DIRECT) where the file system can do it, so that data has one
 * copy and a flush means the medium; requests that memory or layout do not allow directly go
 * through a few bounce buffers. The file is locked while it is open: one writer, or any number of
 * readers (open file description locks, so a descriptor that is handed to another process takes
 * the lock along, and QEMU's locks collide with ours).
 *
 * Short transfers are continued. Nothing is allocated per request. Decisions: docs/decisions/0005.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"

struct blk;
struct errbuf;
struct uring;

struct raw_cfg {
	/* One of the two: a path to open; or an open descriptor (path = NULL), for a process that
	 * has no access to paths. raw_open() takes the descriptor if it succeeds. */
	const char *path;
	int fd;
	bool read_only;
	bool unlocked;          /* with read_only: to look at what somebody else writes */
	bool buffered;          /* use the page cache even where O_DIRECT works */
	bool keep_allocated;    /* a preallocated file: discard frees nothing */
	uint32_t logical_bytes; /* 512 or 4096; 0 = what the storage has */
	/* A connection from shared_direct_connect() for the descriptor (base/shared_direct.h): what
	 * lies on a shared volume and is written already is read and written on its device. 0 =
	 * none. raw_open() takes it if it succeeds. */
	int direct_fd;
};

/*
 * raw_open() - open, lock and measure. Blocks on I/O.
 * @ring: borrowed until blk_close().
 * Returns 0; -EBUSY somebody else uses it (@eb names the process if it can be found); -EINVAL
 * cfg, neither file nor block device, or a size that is no multiple of the sector; -EROFS,
 * -EACCES not writable; -ENOENT; -ENOMEM; -errno.
 */
MUST_USE int raw_open(const struct raw_cfg *cfg, struct uring *ring, struct blk **out,
                      struct errbuf *eb);

/*
 * raw_open_fd() - open and lock a path for another process: pass the descriptor, close it here,
 * and raw_open() it there. Says early, and with the path, what would fail there.
 * Returns the descriptor; -errno as raw_open().
 */
MUST_USE int raw_open_fd(const char *path, bool read_only, struct errbuf *eb);

/* raw_open_fd_unlocked() - the same without the lock: for who may use the file only later, when
 * another has let go of it (docs/decisions/0111). */
MUST_USE int raw_open_fd_unlocked(const char *path, bool read_only, struct errbuf *eb);

/*
 * raw_release() - give the right to the file away for another host: the lock goes, and until
 * raw_retake() every request ends with -ESTALE. @blk must be a raw device; nothing is in flight,
 * and what was written is flushed. What stands on top may stay as it is.
 * raw_retake() - have it again, if nobody else took it. Nothing if it was not released.
 * Returns 0; -EBUSY (then it stays released); -errno.
 */
void raw_release(struct blk *blk);
MUST_USE int raw_retake(struct blk *blk, struct errbuf *eb);

/* How the storage of a device is doing. */
enum raw_trouble {
	RAW_WELL,
	RAW_NO_ROOM,   /* a request waits because the storage is full */
	RAW_NO_ANSWER, /* a request is under way for too long */
};

/*
 * raw_patience() - @on: from now on what finds the storage full waits for room instead of ending
 * with -ENOSPC; raw_look() tries it again. Off (as at first): what waits ends with -ENOSPC, later,
 * not from inside. A flush past the page cache waits, too; one of the page cache does not: what it
 * could not write is forgotten.
 */
void raw_patience(struct blk *blk, bool on);

/*
 * raw_look() - how it is doing; to be called about every second. One of those that wait is tried
 * again, and when it ends they all are.
 * @silent_ns: longer than that a request is not under way if all is well.
 * @limit_ns: since when the storage is full at most, then what waits ends with -ENOSPC.
 */
enum raw_trouble raw_look(struct blk *blk, uint64_t now_ns, uint64_t silent_ns, uint64_t limit_ns);

enum raw_prealloc {
	RAW_PREALLOC_NONE, /* sparse: space is taken when it is written, and may run out */
	RAW_PREALLOC_FULL, /* all space is reserved now */
};

struct raw_create_cfg {
	const char *path;    /* must not exist */
	uint64_t size_bytes; /* multiple of 512, not 0 */
	enum raw_prealloc prealloc;
};

/*
 * raw_create() - make a file of zeroes, durable with its name when this returns. Blocks; with
 * RAW_PREALLOC_FULL it may write all of it. What was made is removed on failure.
 * Returns 0; -EEXIST; -ENOSPC; -EINVAL; -errno.
 */
MUST_USE int raw_create(const struct raw_create_cfg *cfg, struct errbuf *eb);

/* What the driver did, for inspection and tests. */
struct raw_stats {
	uint64_t bounced;   /* transfers that went through a bounce buffer */
	uint64_t continued; /* transfers that were short and went on */
	uint64_t waited;    /* transfers that waited for a bounce buffer */
	uint64_t on_device; /* transfers on the device of a shared volume */
	bool direct;        /* O_DIRECT */
};

/* raw_get_stats() - @blk must be a raw device. */
void raw_get_stats(const struct blk *blk, struct raw_stats *out);

#endif
