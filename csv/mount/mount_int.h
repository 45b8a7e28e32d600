/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CSV_MOUNT_MOUNT_INT_H
#define CSV_MOUNT_MOUNT_INT_H

/*
 * mount_int - shared by the files of csv/mount:
 *
 *	fuse.c   the door to libfuse: mounting, requests come in
 *	op.c     what they are: the kernel's operations
 *	reply.c  what it is told
 *	mount.c  life, requests, buffers, nodes
 *	conv.c   what the kernel says in what the volume says, and back: pure
 *	name.c   lookup, create, rename, ...: one operation each; lists of names
 *	attr.c   getattr, setattr, statfs
 *	lease.c  leases: what may be done directly, recalls
 *	data.c   open files: handles, what csv/data asks for, conversions
 *	direct.c who does I/O of his own on the device (base/shared_direct.h)
 *	range.c  ranges of a file that requests work on; their transfers
 *	open.c   open, and what a file's handle becomes by it
 *	hand.c   release; who of those that have a file open has the right to write
 *	sync.c   flush, size and times
 *	io.c     read and write
 *	space.c  truncate, fallocate, lseek
 *
 * A request is one struct from its arrival to its reply. What it waits for calls next(r, result);
 * functions that may finish a request return nothing and are the last thing that is done.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/blk.h"
#include "base/list.h"
#include "base/shared_file.h"
#include "csv/format/csv_format.h"
#include "csv/mount/csv_mount.h"

struct file;
struct fuse_req;
struct fuse_session;
struct hand;
struct loop_fd;
struct loop_timer;
struct mreq;
struct node;

#define MOUNT_BLOCK 4096u
#define MOUNT_IO_MAX (1u << 20)
#define MOUNT_SLOTS 48u
#define MOUNT_HEAD_BYTES 80u /* of a WRITE: its data begins on a page */
/* A page before (head of the request, then the first block), the data, room to move it by less
 * than a block, a page behind (the last block). */
#define MOUNT_SLOT_BYTES (MOUNT_IO_MAX + 4u * MOUNT_BLOCK)
#define MOUNT_NAME_MAX 128u /* of the volume, with NUL */
#define MOUNT_NAMES 64u     /* of one list */
#define MOUNT_LEASES 32u
#define MOUNT_LAYOUTS 8u
#define MOUNT_REFUSALS 8u
#define MOUNT_HASH 1024u
#define MOUNT_END UINT64_MAX
#define MOUNT_SIZE_MAX (CSV_FILE_BLOCKS_MAX * MOUNT_BLOCK)
/* Where nothing is: who changes the size of a file locks it as well. */
#define MOUNT_SIZE_LOCK (UINT64_MAX - 1)

typedef void (*mount_fn)(struct mreq *r, int result);

/* A buffer for data; the first page of it is page aligned. */
struct slot {
	uint8_t *base;
	struct list link;
};

/* What the kernel knows by a number. */
struct node {
	uint64_t id;
	uint64_t ino;
	uint64_t generation;
	uint64_t lookups;  /* the kernel's references */
	uint32_t users;    /* requests */
	struct file *file; /* NULL: not open here */
	struct list by_id;
	struct list by_ino;
};

/* A range that a request works on. */
struct range_lock {
	uint64_t from;
	uint64_t to;
	bool alone;
	bool waits;
	struct list link;
};

struct mreq {
	struct csv_mount *m;
	struct fuse_req *fuse; /* NULL: answered already */
	struct list link;      /* all that are in use, or free */
	struct list wait;      /* in a queue of its file or the mount */
	struct list change;    /* in file.changes */
	struct list again;     /* in csv_mount.retries */
	struct node *node;     /* user; or NULL */
	struct node *node2;
	struct file *file; /* borrowed: users count of it is up */
	struct slot *slot; /* owned */
	/* What comes next; and behind parts that several requests have in common. */
	mount_fn next;
	mount_fn after_recall;
	mount_fn after_change;
	mount_fn after_sync;
	mount_fn after_zero;
	mount_fn after_size;
	mount_fn after_truncate;
	uint64_t interrupted_ns; /* 0 = not */
	bool refusable;          /* it waits in file_recall_or_not() */
	struct csv_mount_ask ask;
	struct blk_req blk;
	struct uring_op defer;
	struct iovec iov[3];
	struct range_lock lock;
	char name[CSV_NAME_MAX + 1];
	char name2[CSV_NAME_MAX + 1];

	/* Of the request. */
	uint64_t offset;
	uint64_t len;
	uint64_t from; /* what is left to do */
	uint64_t to;
	uint64_t fh; /* as the kernel has it */
	uint32_t flags;
	int mode;
	int whence;
	int kept;     /* an error that comes later */
	int result;   /* the same, of the whole request */
	uint32_t set; /* SETATTR: enum mount_set */
	struct csv_attr want;
	bool writes;       /* open */
	bool later;        /* the right to write is taken later */
	struct hand *hand; /* of the file, which has it */
	bool ioctl;        /* it ends well with another reply than the rest */
	bool created;
	bool holds; /* an open for writing of r->file that is not the kernel's */
	uint32_t tries;
	uint8_t *data; /* in the slot */

	/* Of a part. */
	bool change_write;
	uint64_t change_handle; /* to be closed */
	bool sync_final;
	uint64_t sync_bytes;
	int sync_result;
	uint64_t size_bytes;
	uint64_t zero_from;
	uint64_t zero_to;
	uint64_t lease; /* to be returned */
	uint64_t at;    /* what comes behind that */
	uint64_t found; /* lseek */
};

/* An open file description of the kernel that reads and writes. */
struct hand {
	uint64_t id; /* as the kernel has it; never 0 */
	struct list link;
	bool keyed; /* @key was told */
	uint8_t key[SHARED_FILE_KEY_BYTES];
	bool writes;   /* has the right, and counts as a writer; else as a reader */
	bool busy;     /* that is being changed */
	bool released; /* meanwhile the kernel has closed it */
};

enum mount_set {
	MOUNT_SET_MODE = 1,
	MOUNT_SET_UID = 2,
	MOUNT_SET_GID = 4,
	MOUNT_SET_SIZE = 8,
	MOUNT_SET_MTIME = 16,
	MOUNT_SET_MTIME_NOW = 32,
};

struct lease {
	uint64_t number; /* 0 = free */
	uint64_t handle;
	uint64_t from;
	uint64_t to;        /* as far as we know where things lie */
	uint64_t locked_to; /* as far as it keeps others out */
	bool write;
	bool wanted;    /* to be given back */
	bool dropped;   /* csv/data has forgotten it */
	bool returning; /* @ask is under way */
	struct csv_mount_ask ask;
};

/* A layout that csv/data asks for. */
struct layout {
	bool busy;
	struct csv_data_ask *data; /* NULL: was told to ask again; what comes is given back */
	struct lease *lease;       /* the place for it */
	struct file *file;
	struct csv_mount_ask ask;
};

struct refusal {
	struct uring_op op;
	struct csv_data_ask *data;
	struct file *file;
	int result;
};

/*
 * A file that is open here: one handle, one device of csv/data, however often it is open.
 * The handle is for writing as long as somebody writes, else for reading.
 */
struct file {
	struct csv_mount *m;
	struct node *node; /* holds one of its users */
	struct list link;  /* of the mount */
	struct list gone;  /* to be freed from the loop */
	uint32_t readers;
	uint32_t writers;
	uint32_t users; /* requests */
	struct blk *blk;
	uint64_t handle; /* 0 = none */
	bool writes;     /* the handle */
	bool lost;
	bool freeing;

	uint64_t token;
	uint64_t size_bytes;   /* as processes here see it */
	uint64_t server_bytes; /* as the volume knows it */
	uint64_t modified_ns;  /* of the last write here; 0 = as the volume says */
	uint64_t seen_ns;      /* when it was modified, as the volume last said */
	uint32_t syncing;      /* flushes under way: what they are for is not durable yet */
	bool dirty;            /* written since the last flush began */
	bool time_dirty;       /* modified_ns is not on the volume */
	bool ahead;            /* more was allocated than is used */
	bool keep_ahead;       /* by order: fallocate */

	struct list locks;   /* struct mreq.lock granted */
	struct list waiting; /* struct mreq.lock in order of arrival */

	struct list changes; /* struct mreq.change: one changes the handle at a time, the first */
	struct list hands;   /* owned */

	struct list channels; /* struct channel: who does I/O of his own */
	bool revoking;        /* a recall waits for them */

	bool recalling;
	uint64_t recall_from;
	uint64_t recall_to;
	struct list recall_waiters; /* struct mreq.wait */
	struct lease leases[MOUNT_LEASES];
	uint32_t lease_next; /* the oldest, about */
	bool crumbled;       /* in more extents than one lease has room for */
	struct layout layouts[MOUNT_LAYOUTS];
	struct refusal refusals[MOUNT_REFUSALS];
	bool converting;
	struct csv_data_ask *convert;
	struct csv_mount_ask convert_ask;
	uint64_t convert_from;
	uint64_t convert_to;
};

struct csv_mount {
	struct csv_mount_cfg cfg; /* without path; name is @name */
	char name[MOUNT_NAME_MAX];
	struct fuse_session *se; /* owned */
	int fd;                  /* borrowed: the session's */
	struct loop_fd *watch;
	struct loop_timer *reaper; /* what must not be done from inside a completion */
	struct loop_timer *tick;   /* interrupted requests, opens that are tried again */
	struct loop_timer *direct; /* armed while there are channels */
	uint32_t channels;
	uint64_t next_channel;
	bool ticking;
	bool starved; /* not reading requests: nothing free to put them in */
	bool stopping;
	bool told;
	bool mounted;
	uint32_t max_files;
	uint64_t next_id;
	uint64_t next_hand;
	struct list by_id[MOUNT_HASH];
	struct list by_ino[MOUNT_HASH];
	struct node *root;
	struct list files;
	struct list gone;
	struct list retries;  /* struct mreq.again: opens */
	struct list requests; /* struct mreq.link */
	struct list idle;     /* struct mreq.link */
	struct mreq *pool;    /* owned */
	uint8_t *memory;      /* owned: of the slots, mapped */
	struct slot slots[MOUNT_SLOTS];
	struct list free_slots;
	struct slot *receive;  /* the next request comes here */
	struct list want_slot; /* struct mreq.wait */
	uint32_t slots_free;
	struct csv_mount_stats stats;
};

/* ---- conv.c ---- */

/* mount_errno() - what a process may be told (positive). */
int mount_errno(int result);
/* mount_name() - judge a name. Returns 0; -ENAMETOOLONG; -EINVAL. */
MUST_USE int mount_name(const char *name, char *out, uint32_t *len);
/* Offsets in a directory: 0 ".", 1 "..", then names; from and to the volume's cookies. */
uint64_t mount_dir_offset(uint64_t cookie);
uint64_t mount_dir_cookie(uint64_t offset);
/* mount_stat() - attributes as stat(2) says them. */
struct stat;
void mount_stat(const struct csv_attr *attr, struct stat *out);
struct statvfs;
void mount_statvfs(const struct csv_stat *stat, struct statvfs *out);
/* mount_fallocate() - judge mode and range. Returns 0; -errno. */
MUST_USE int mount_fallocate_check(int mode, uint64_t offset, uint64_t len);
/* mount_ahead() - how far to allocate for a write at @at of a file of @size bytes. */
uint64_t mount_ahead(uint64_t at, uint64_t size);

/* ---- fuse.c ---- */

MUST_USE int mount_fuse_open(struct csv_mount *m, struct errbuf *eb);
void mount_fuse_close(struct csv_mount *m); /* unmounts */
void mount_fuse_free(struct csv_mount *m);
/* Take requests as long as there is room. */
void mount_fuse_feed(struct csv_mount *m);

/* ---- reply.c ---- */

/* Replies; they end the request, and are the last thing that is done with it. */
void mount_reply_err(struct mreq *r, int result); /* 0 or -errno */
void mount_reply_entry(struct mreq *r, const struct csv_attr *attr);
void mount_reply_attr(struct mreq *r, const struct csv_attr *attr);
void mount_reply_open(struct mreq *r, const struct csv_attr *attr);
void mount_reply_opendir(struct mreq *r);
void mount_reply_write(struct mreq *r, uint64_t bytes);
void mount_reply_data(struct mreq *r, const void *buf, size_t len);
void mount_reply_lseek(struct mreq *r, uint64_t offset);
void mount_reply_stat(struct mreq *r, const struct csv_stat *stat);
void mount_reply_ioctl(struct mreq *r, const void *out, size_t len);
/* mount_add_entry() - a directory entry at the end of buf[*used..max]. Returns false if full. */
bool mount_add_entry(struct mreq *r, uint8_t *buf, size_t max, size_t *used, const char *name,
                     const struct csv_name *entry, uint64_t offset);
/* Answer now with EINTR; what it began goes on. */
void mount_give_up(struct mreq *r);

/* ---- mount.c ---- */

struct mreq *mount_req_get(struct csv_mount *m); /* NULL: none is free */
void mount_req_put(struct mreq *r);
/* A node or file that the request uses until it ends. */
void mount_use(struct mreq *r, struct node *n);
void mount_use2(struct mreq *r, struct node *n);
struct node *mount_node(struct csv_mount *m, uint64_t id);
struct node *mount_node_find(struct csv_mount *m, uint64_t ino, uint64_t generation);
/* mount_node_make() - the node of a file, found or made; one more lookup. NULL: no memory. */
struct node *mount_node_make(struct csv_mount *m, uint64_t ino, uint64_t generation);
void mount_node_forget(struct csv_mount *m, struct node *n, uint64_t lookups);
void mount_node_put(struct csv_mount *m, struct node *n);
void mount_slot_put(struct csv_mount *m, struct slot *s);
/* mount_slot_want() - r->slot, then next(r, 0). */
void mount_slot_want(struct mreq *r, mount_fn next);
/* mount_later() - next(r, result) from the ring's next dispatch. */
void mount_later(struct mreq *r, int result, mount_fn next);
void mount_submit(struct csv_mount *m);
void mount_tick(struct csv_mount *m);
void mount_reap(struct csv_mount *m);
void mount_check_stopped(struct csv_mount *m);
/* mount_ask_op() - an operation on r->node (or a name in it); then next(r, result). */
void mount_ask_op(struct mreq *r, enum csv_op_type type, mount_fn next);
void mount_op_begin(struct mreq *r, enum csv_op_type type);
void mount_ask(struct mreq *r, enum csv_mount_what what, mount_fn next);

/* ---- name.c ---- */

void mount_lookup(struct mreq *r);
void mount_create(struct mreq *r, enum csv_op_type type);
void mount_remove(struct mreq *r, enum csv_op_type type);
void mount_rename(struct mreq *r);
void mount_readdir(struct mreq *r);

/* ---- attr.c ---- */

void mount_getattr(struct mreq *r);
void mount_set_attr(struct mreq *r);
void mount_statfs(struct mreq *r);
/* mount_attr_merge() - what is known better here than on the volume. */
void mount_attr_merge(struct csv_mount *m, struct csv_attr *attr);

/* ---- data.c ---- */

struct file *file_get(struct csv_mount *m, struct node *n); /* made if need be; NULL */
void file_use(struct mreq *r, struct file *f);
void file_unuse(struct mreq *r);
void file_put(struct file *f); /* free it if nobody has it */
MUST_USE int file_attach(struct file *f, const struct csv_attr *attr); /* a device for it */
void file_free(struct file *f);                                        /* from the loop */
/* file_lock() - r->lock, then next(r, 0). */
void file_lock(struct mreq *r, uint64_t from, uint64_t to, bool alone, mount_fn next);
void file_unlock(struct mreq *r);
void file_blk(struct mreq *r, enum blk_op op, uint64_t offset, uint32_t iov_count, mount_fn next);
/* file_refuse() - answer csv/data later, with an error that is known. */
void file_refuse(struct file *f, struct csv_data_ask *ask, int result);
/* file_result() - an answer of the volume as csv/data has it. */
int file_result(int result);
/* file_ask() - of the volume, about the file; @done by csv_mount_answer(). */
void file_ask(struct file *f, struct csv_mount_ask *ask, enum csv_mount_what what,
              void (*done)(struct csv_mount_ask *ask, int result,
                           const struct csv_layout_lease *lease),
              void *arg);

/* ---- lease.c ---- */

/* lease_held() - ours, and csv/data may use it. */
bool lease_held(const struct lease *l);
/* file_lay_out() - answers a CSV_DATA_LAYOUT. */
void file_lay_out(struct file *f, struct csv_data_ask *data);
/* file_recall() - give back all leases that touch [from, to), then next(r, 0). */
void file_recall(struct mreq *r, uint64_t from, uint64_t to, mount_fn next);
/* file_recall_or_not() - the same, or next(r, -EBUSY) or next(r, -EINTR) (direct.c): for requests
 * that have not changed anything yet. */
void file_recall_or_not(struct mreq *r, uint64_t from, uint64_t to, mount_fn next);
/* file_recall_leave() - @r waits there no longer: next(r, result). The recall goes on. */
void file_recall_leave(struct mreq *r, int result);
void file_recall_lease(struct file *f, uint64_t number);
/* file_channels_quiet() - a channel has given back what it had: a recall may go on. */
void file_channels_quiet(struct file *f);
/* file_rights() - what may be submitted now; token UINT64_MAX: nothing ever again. */
void file_rights(const struct file *f, struct csv_data_rights *out);
void file_lose(struct file *f);
/* file_give_up() - nothing of it is read or written any more; its handle and leases are still ours,
 * and go back when what is in flight has ended. */
void file_give_up(struct file *f);
/* file_idle() - file_free() does not wait for the device. */
bool file_idle(const struct file *f);
/* file_lease_at() - a write lease that is held and covers @at, or NULL. */
const struct lease *file_lease_at(const struct file *f, uint64_t at);
bool file_lease_find(const struct file *f, uint64_t number);
/* file_heard() - what the volume says about it now. */
void file_heard(struct file *f, const struct csv_attr *attr);
/* file_ask_lease() - a lease of the file's handle, for one look: r->ask, r->lease, then next(). */
void file_ask_lease(struct mreq *r, uint64_t from, uint64_t to, bool write,
                    void (*done)(struct csv_mount_ask *ask, int result,
                                 const struct csv_layout_lease *lease));
/* file_return_lease() - r->lease, then next(). */
void file_return_lease(struct mreq *r, mount_fn next);

/* ---- direct.c ---- */

/* direct_waits() - may a channel have something in flight that it was asked to give back? */
bool direct_waits(const struct file *f);
/* direct_granted() - may a channel do any I/O? */
bool direct_granted(const struct file *f);
/* direct_revoke() - ask all to forget [f->recall_from, f->recall_to). */
void direct_revoke(struct file *f);
/* direct_end_all() - nothing more is submitted; what is in flight is waited for, file_put(). */
void direct_end_all(struct file *f);
/* direct_hand_gone() - likewise, those of one open file description. */
void direct_hand_gone(struct file *f, uint64_t hand);
/* direct_publish() - say how long they may go on. */
void direct_publish(struct file *f);
/* direct_tick() - of csv_mount.direct. */
void direct_tick(void *m);

/* ---- open.c ---- */

void mount_open(struct mreq *r);
/* file_hold() - r->file is r->node's, open (for writing); then next(r, result). file_drop() is its
 * opposite. */
void file_hold(struct mreq *r, bool write, mount_fn next);
void file_drop(struct mreq *r, bool write, mount_fn next);
void file_tried(struct mreq *r);
/* file_abandon() - the kernel is gone: nobody has it open any more. */
void file_abandon(struct file *f);

/* ---- hand.c ---- */

void mount_release(struct mreq *r);
struct hand *hand_find(const struct file *f, uint64_t id); /* NULL: none */
void hand_free_all(struct file *f);
/* hand_open() - r->file is held as r->writes and r->later say: the kernel's open ends well; @attr
 * as mount_reply_open(). hand_unopen() - it does not, although it was held. */
void hand_open(struct mreq *r, const struct csv_attr *attr);
void hand_unopen(struct mreq *r, int result);
/* hand_writes() - may this request's descriptor write? */
bool hand_writes(const struct mreq *r);
/* hand_change() - it takes, or gives back, the right to write; ends the request. */
void hand_change(struct mreq *r, bool write);
/* hand_key() - what it is called towards the volume's service; ends the request. */
void hand_key(struct mreq *r);

/* ---- sync.c ---- */

/* file_sync() - all that was written is durable, and visible; @final: times too. */
void file_sync(struct mreq *r, bool final, mount_fn next);
void mount_flush(struct mreq *r);
void mount_fsync(struct mreq *r);

/* ---- io.c ---- */

void mount_read(struct mreq *r);
void mount_write(struct mreq *r);
/* file_zero() - zeroes in [from, to), which is inside one block; the range is locked. */
void file_zero(struct mreq *r, uint64_t from, uint64_t to, mount_fn next);

/* ---- space.c ---- */

/* file_truncate() - r->file, which is open for writing, gets @size; then next(r, result). */
void file_truncate(struct mreq *r, uint64_t size, mount_fn next);
void mount_fallocate(struct mreq *r);
void mount_lseek(struct mreq *r);

#endif
