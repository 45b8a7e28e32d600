/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CSV_MOUNT_CSV_MOUNT_H
#define CSV_MOUNT_CSV_MOUNT_H

/*
 * csv_mount - the files of a shared volume under a path of this node, by FUSE.
 *
 * What the mount knows: requests of the kernel, sizes and times of files that are written here, who
 * has a file open, reading and writing of blocks in part, leases on layouts. What it does not know:
 * where the metadata is and who may do what. That comes from a volume, a table of functions that
 * the program fills in: csv/client in the daemon, csv/local where one node has the volume for
 * itself.
 *
 *	kernel -- /dev/fuse -- csv_mount --- volume: names, attributes, opens, leases
 *	                           `-- csv/data -- direct I/O at leased extents of the LUN
 *
 * Asks. The mount fills in a struct csv_mount_ask and calls the volume's ask(); the volume answers
 * each, once, later, with csv_mount_answer(), never from inside ask(). The struct and all it
 * points to are the mount's and stay where they are until then. At most CSV_MOUNT_ASKS are under
 * way. There is no time limit for an answer: processes wait meanwhile, as for a slow disk. Who is
 * killed or interrupted gets EINTR after CSV_MOUNT_PATIENCE_NS; what was asked goes on, and its
 * answer is taken.
 *
 * Between nodes: a file that is open for writing here (an open with CSV_LOCK_WRITE that lets others
 * read and delete) is refused for writing elsewhere (-EBUSY, after a second of trying), so that its
 * size and times may be kept here until they are flushed. Who frees blocks that a user of
 * csv_mount_attach() has not given back after CSV_MOUNT_SLOW_NS gets -EBUSY too. close() and
 * fsync() make what was written durable and visible to other nodes; who opens a file there later
 * sees it.
 *
 * Nothing is cached by the kernel: direct I/O, and with more than one node names and attributes are
 * asked for each time. (cfg.alone: the kernel may keep names and attributes.)
 *
 * Threads: all functions on the thread of cfg.loop, which is that of cfg.ring. The owner
 * dispatches the ring when uring_fd() is readable, and submits after that.
 * Buffers: from the mount, allocated when it is made.
 * Record: docs/decisions/0196, 0197.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/shared_file.h"
#include "csv/data/csv_data.h"
#include "csv/layout/csv_layout.h"
#include "csv/meta/csv_meta.h"

struct csv_mount;
struct errbuf;
struct loop;
struct uring;

#define CSV_MOUNT_REQUESTS 128u /* of the kernel, under way; more wait in the kernel */
#define CSV_MOUNT_ASKS 1024u
#define CSV_MOUNT_PATIENCE_NS 3000000000ull
#define CSV_MOUNT_SLOW_NS 10000000000ull

enum csv_mount_what {
	/* @op says what: LOOKUP, GETATTR, SETATTR, CREATE, MKDIR, UNLINK, RMDIR, RENAME, LIST,
	 * CONVERT, PUNCH, TRUNCATE, STATFS, with the results that csv_meta.h names for it. now_ns
	 * is filled in. CONVERT, PUNCH and TRUNCATE: under @handle. A LIST has room for
	 * op.names_max names. */
	CSV_MOUNT_OP,
	/* Open op.ino, op.generation with @share; the volume sets @handle (never 0), and op.attr.
	 * -EBUSY: somebody's open is in the way. */
	CSV_MOUNT_OPEN,
	CSV_MOUNT_CLOSE, /* @handle. No lease of it is left */
	/* A lease of @handle for [@from_bytes, @to_bytes), or a beginning of it; the volume
	 * chooses its number. @write: to write; @allocate: without holes. */
	CSV_MOUNT_LAYOUT,
	/* Lease @lease of @handle is not used any more. */
	CSV_MOUNT_RETURN,
};

struct csv_mount_ask {
	enum csv_mount_what what;
	struct csv_op op; /* ino and generation are set for all but names */
	uint64_t handle;
	uint64_t lease;
	uint32_t share; /* CSV_LOCK_SHARE_MODE() */
	uint64_t from_bytes;
	uint64_t to_bytes;
	bool write;
	bool allocate;
	void *volume; /* for the volume */

	/* Private. */
	struct csv_mount *mount;
	void (*done)(struct csv_mount_ask *ask, int result, const struct csv_layout_lease *lease);
	void *arg;
};

/* The file that a redirected request is for. */
struct csv_mount_file {
	uint64_t ino;
	uint64_t generation;
	uint64_t token;
	uint64_t handle;
	uint64_t lease; /* one that covers it; 0 = a flush, or none is left */
};

/* The volume. Members are set unless they say that they may be NULL. */
struct csv_mount_ops {
	/*
	 * Begin; answer with csv_mount_answer(). Results: 0 or -errno as csv_meta.h says for the
	 * operation; what cannot be had now (no coordinator, grace) waits or is tried again by the
	 * volume. -ESTALE to anything with a handle: the handle is gone.
	 */
	void (*ask)(void *arg, struct csv_mount_ask *ask);
	/* What may be done to this file now; cheap, called for each request (csv_data.h). */
	void (*rights)(void *arg, uint64_t ino, struct csv_data_rights *out);
	/* I/O through another node (CSV_DATA_REDIRECT), answered with csv_data_answer(); NULL:
	 * there is none. */
	void (*redirect)(void *arg, const struct csv_mount_file *file, struct csv_data_ask *ask);
	/* The state of a file's path changed; may be NULL. */
	void (*event)(void *arg, uint64_t ino, enum csv_data_state state,
	              enum csv_data_reason reason);
	/* It was unmounted, by csv_mount_stop() or by somebody else, and nothing is under way:
	 * csv_mount_destroy() may be called, also from here. */
	void (*stopped)(void *arg);
};

struct csv_mount_cfg {
	const char *path;   /* borrowed for the call: an existing directory */
	const char *name;   /* of the volume, as df shows it; borrowed for the call */
	struct loop *loop;  /* borrowed until destroyed, as all below */
	struct uring *ring; /* uring_cfg.in_loop */
	const struct csv_mount_ops *ops;
	void *arg;
	int device_fd;        /* of the LUN, open for both; the mount duplicates it */
	uint64_t root_ino;    /* csv_layout_root() */
	uint64_t probe_bytes; /* csv_data_cfg.probe_bytes */
	uint32_t files_max;   /* open at a time; 0 = 1024 */
	uint64_t patience_ns; /* 0 = CSV_MOUNT_PATIENCE_NS */
	uint64_t slow_ns;     /* 0 = CSV_MOUNT_SLOW_NS */
	/* Where the bytes of the device are that mark who does I/O of his own there: of this node
	 * alone, CSV_MOUNT_MARKS of them. */
	uint64_t marks_bytes;
	bool read_only;
	bool alone; /* nobody else changes this volume as long as it is mounted */
	/* 0 = mount at @path; else a connection that speaks FUSE; duplicated (tests). */
	int fuse_fd;
};

/*
 * csv_mount_create() - mount.
 * Returns 0; -EINVAL cfg; -ENODEV, -ENOENT no /dev/fuse; -ENOMEM; -errno of mounting.
 */
MUST_USE int csv_mount_create(const struct csv_mount_cfg *cfg, struct csv_mount **out,
                              struct errbuf *eb);

/* csv_mount_stop() - unmount, in any case: processes that have files open get ENOTCONN from then
 * on. What was written is flushed, then ops->stopped() is called (not from inside), when all asks
 * are answered. Twice is fine. */
void csv_mount_stop(struct csv_mount *m);

/* csv_mount_destroy() - free it, after ops->stopped() was called. NULL is fine. */
void csv_mount_destroy(struct csv_mount *m);

/* csv_mount_answer() - the volume's answer to an ask. @lease: with LAYOUT and 0; borrowed for the
 * call. */
void csv_mount_answer(struct csv_mount_ask *ask, int result, const struct csv_layout_lease *lease);

/*
 * csv_mount_recall() - somebody waits for this lease, or it is revoked: the mount lets its I/O end,
 * has converted what was written, and returns it (CSV_MOUNT_RETURN). An unknown number does nothing
 * (its return is under way).
 */
void csv_mount_recall(struct csv_mount *m, uint64_t lease);

/* csv_mount_lost() - this handle, or this lease, is gone (fenced, or given to somebody else):
 * requests for its file end with -ESTALE until all have closed it. @number: 0 = all that there are.
 */
void csv_mount_lost(struct csv_mount *m, uint64_t number);

#define CSV_MOUNT_CHANNELS 256u    /* who does I/O of his own, on one volume */
#define CSV_MOUNT_MARKS (1u << 20) /* numbers of them; those in use are never used again */

/*
 * csv_mount_attach() - the user of an open file wants to do I/O of his own (base/shared_direct.h).
 * @sock: his connection, taken if it succeeds. @lock_fd: for him, too; borrowed.
 * Blocks as open(2) of the device does.
 * Returns 0; -ENOENT no open file has this key; -EBUSY too many; -ENOMEM; -errno.
 */
MUST_USE int csv_mount_attach(struct csv_mount *m, const uint8_t key[SHARED_FILE_KEY_BYTES],
                              int sock, int lock_fd);

/* csv_mount_kick() - rights or connections changed: look at once at what waits. */
void csv_mount_kick(struct csv_mount *m);

struct csv_mount_stats {
	uint64_t requests;
	uint64_t reads;
	uint64_t read_bytes;
	uint64_t writes;
	uint64_t write_bytes;
	uint64_t part_blocks; /* that had to be read in order to be written */
	uint64_t interrupted;
	uint32_t under_way;
	uint32_t nodes; /* that the kernel knows */
	uint32_t files; /* open */
	uint32_t writers;
	uint32_t leases;
	uint32_t direct;      /* users that do I/O of their own */
	uint64_t direct_told; /* extents that they were told, ever */
	/* Of the files that are open, those whose I/O goes through another node, or waits. */
	uint32_t redirected;
	uint32_t paused;
	uint32_t hanging;            /* the kernel has had something of them for long */
	enum csv_data_reason reason; /* of one of them */
};

void csv_mount_get_stats(const struct csv_mount *m, struct csv_mount_stats *out);

#endif
