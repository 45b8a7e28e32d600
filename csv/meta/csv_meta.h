/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CSV_META_CSV_META_H
#define CSV_META_CSV_META_H

/*
 * csv_meta - the metadata of a shared volume: what its coordinator does, without a disk, a clock
 * or a thread.
 *
 * The owner pumps it: takes I/O requests with csv_meta_next_io(), performs them in any order and
 * any number at a time, and reports each with csv_meta_io_done(). Operations go in with
 * csv_meta_submit(), are carried out strictly in that order, and come out of csv_meta_completed()
 * when what they did, or saw, is durable. An operation is atomic: after a crash, what is on disk is
 * what the first n operations did, n not less than the number that completed.
 *
 * How: an operation changes blocks in the cache. If it needs one that is not there, it is undone,
 * the block is read, and it starts again; so none of them waits in the middle. Operations collect
 * in a transaction, which is written to the journal and flushed; then they complete. Later a
 * checkpoint writes blocks in place, flushes, and moves the journal's tail. Until then blocks that
 * fall out of the cache are read from the journal. A failed write or flush ends everything (-EIO):
 * what is on disk is then unknown, and the next term's reading of the journal is what tells.
 *
 * Terms: each opening is a new term, greater than all before (from the cluster's database). The
 * last owner may still have writes on the way; see @quiet and csv_meta_quiet().
 *
 * Memory: all of it is allocated in csv_meta_create() (csv_meta_memory() says how much). One
 * thread, the owner's. Records: docs/formats/csv.md, docs/decisions/0120, 0121.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/list.h"
#include "csv/format/csv_format.h"

struct csv_meta;
struct errbuf;

#define CSV_META_CACHE_MIN 512u
#define CSV_META_OPEN_MAX 65536u

struct csv_meta_cfg {
	const struct csv_super *super; /* borrowed for the call */
	uint64_t term;                 /* 0 = one more than the volume's: only for offline tools */
	bool quiet;     /* every earlier owner is proven silent, else say csv_meta_quiet() later */
	bool read_only; /* never writes; only operations that read */
	bool journal_only;     /* no operations: to be asked where images are, or to be closed */
	uint32_t cache_blocks; /* >= CSV_META_CACHE_MIN; 0 = that */
	uint32_t open_max;     /* inodes that can be open at a time; 0 = 4096 */
};

/*
 * csv_meta_create() - allocate, and begin to open: pump until csv_meta_status() is not
 * -EINPROGRESS.
 * Returns 0; -EINVAL cfg; -ENOMEM.
 */
MUST_USE int csv_meta_create(const struct csv_meta_cfg *cfg, struct csv_meta **out,
                             struct errbuf *eb);

/* csv_meta_destroy() - free it. Operations that have not completed are forgotten, and I/O that is
 * in flight must be over. NULL is fine. */
void csv_meta_destroy(struct csv_meta *m);

/*
 * csv_meta_status() - how it stands.
 * Returns 0 ready; -EINPROGRESS opening or closing; -ESHUTDOWN closed, and clean; -ESTALE the
 * volume knows a term as great as ours; -EBUSY takeover of a takeover: earlier owners must be quiet
 * first; -EUCLEAN damaged (@eb names the block); -EIO a read failed while opening, or a write or
 * flush since.
 */
MUST_USE int csv_meta_status(const struct csv_meta *m, struct errbuf *eb);

/* csv_meta_term() - of this opening; 0 until it is known. */
uint64_t csv_meta_term(const struct csv_meta *m);

/* csv_meta_memory() - bytes that csv_meta_create() allocated. */
size_t csv_meta_memory(const struct csv_meta *m);

enum csv_io_op { CSV_IO_READ, CSV_IO_WRITE, CSV_IO_FLUSH };

/* To be performed on the device. A flush makes durable the writes that were reported done before
 * csv_meta_next_io() returned it. */
struct csv_io {
	enum csv_io_op op;
	uint32_t id;
	uint64_t block;
	uint32_t count; /* [blocks]; 0 = flush */
	void *buf;      /* count * CSV_BLOCK_BYTES; borrowed until csv_meta_io_done() */
};

#define CSV_META_IO_MAX 24u /* in flight at a time, at most */

/* csv_meta_next_io() - the next request, if there is one: call until there is none, after every
 * csv_meta_submit() and csv_meta_io_done(). All the work is done from inside it. */
bool csv_meta_next_io(struct csv_meta *m, struct csv_io *out);

/* csv_meta_io_done() - @result: 0 or -errno. Does no work. */
void csv_meta_io_done(struct csv_meta *m, uint32_t id, int result);

/* csv_meta_quiet() - every earlier owner is proven silent: what was held may go in place. */
void csv_meta_quiet(struct csv_meta *m);

/* csv_meta_reap() - from now on free what is pending (not by itself after opening: until clients
 * have reclaimed their handles, nobody knows which nameless inodes are open). */
void csv_meta_reap(struct csv_meta *m);

/* csv_meta_idle() - nothing queued, running, or in flight, and nothing left to free. */
bool csv_meta_idle(const struct csv_meta *m);

/* csv_meta_close() - finish what was submitted, put everything in place, mark the volume clean.
 * Nothing may be submitted any more. Pump until csv_meta_status() is not -EINPROGRESS. Without
 * csv_meta_quiet() nothing goes in place, and the next opening reads the journal. */
void csv_meta_close(struct csv_meta *m);

enum csv_op_type {
	CSV_OP_LOOKUP,  /* dir, name -> attr. -ENOENT, -ENOTDIR */
	CSV_OP_GETATTR, /* ino, generation -> attr */
	CSV_OP_SETATTR, /* ino, generation, mask; mode, uid, gid, modified_ns -> attr */
	CSV_OP_CREATE,  /* dir, name, mode, uid, gid -> attr. -EEXIST, -ENOSPC */
	CSV_OP_MKDIR,   /* the same */
	CSV_OP_UNLINK,  /* dir, name -> attr of what lost its name. -EISDIR */
	CSV_OP_RMDIR,   /* dir, name. -ENOTDIR, -ENOTEMPTY */
	CSV_OP_RENAME,  /* dir, name, dir2, name2, no_replace. -EEXIST, -EINVAL into itself, ... */
	CSV_OP_LIST,    /* dir, cookie (0 = start) -> names[names_count], cookie; done at 0 names */
	CSV_OP_OPEN,  /* ino, generation -> attr; the inode stays when it loses its name. -EMFILE */
	CSV_OP_CLOSE, /* ino: one CSV_OP_OPEN less */
	CSV_OP_MAP,   /* ino, generation, block -> extents[extents_count] from there on */
	CSV_OP_EXTEND,  /* ..., block, count -> count done; what was a hole is unwritten. -ENOSPC */
	CSV_OP_CONVERT, /* ..., block, count, size_bytes (0 = as it is, else at least) -> count
	                   * done; unwritten becomes written. -ENXIO a hole */
	CSV_OP_PUNCH,   /* ..., block, count -> count done; reads as zero; whole units are freed */
	CSV_OP_TRUNCATE,  /* ..., size_bytes; what is behind a smaller size is freed. Bytes between
	                   * the size and the end of its block must be zeroed by the caller. */
	CSV_OP_RESERVE,   /* ..., count: units promised to the file beyond what it has. -ENOSPC */
	CSV_OP_SET_TOKEN, /* ..., token -> attr. -ESTALE the file knows a greater one */
	CSV_OP_STATFS,    /* -> stat */
	CSV_OP_ATTACH,    /* dir, name, ino: what nothing names gets a name; for csv/check */
	CSV_OP_REAP,      /* internal */
};

#define CSV_SET_MODE 1u
#define CSV_SET_UID 2u
#define CSV_SET_GID 4u
#define CSV_SET_MODIFIED 8u

struct csv_attr {
	uint64_t ino;
	uint64_t generation;
	uint64_t parent;
	enum csv_kind kind;
	uint32_t mode;
	uint32_t uid;
	uint32_t gid;
	uint32_t links;
	uint64_t size_bytes;
	uint64_t token;
	uint64_t created_ns;
	uint64_t modified_ns;
	uint64_t changed_ns;
	uint64_t units;
	uint64_t reserved_units;
	uint64_t entries;
};

struct csv_extent {
	uint64_t file_block;
	uint64_t disk_block;
	uint32_t count;
	bool unwritten;
};

struct csv_name {
	uint64_t cookie; /* pass it to go on behind this name */
	uint64_t ino;
	uint64_t generation;
	enum csv_kind kind;
	uint32_t len;
	char name[CSV_NAME_MAX + 1]; /* NUL terminated */
};

struct csv_stat {
	uint64_t units;
	uint64_t free_units;
	uint64_t reserved_units;
	uint64_t pool_blocks;
	uint64_t pool_free;
	uint64_t files;
	uint64_t directories;
	uint64_t pending;
};

/*
 * An operation: fill in what its type names, submit, keep it and what it points to until it comes
 * out of csv_meta_completed(). Extend, convert and punch may do less than asked (count says how
 * much, from the start; a punch of many fragments perhaps 0): ask again for the rest.
 * generation 0 = whatever is there.
 *
 * With a client_request, what changes something is done once: if that request of that run of a node
 * was done before, by this opening or an earlier one, then @repeated is set, the result is 0,
 * nothing happens, and only create and mkdir say what they made (-ESTALE if it is gone). Numbers
 * of a run may come out of order by less than 64; older ones are refused (-ESTALE), and those of
 * earlier runs of the node. What failed counts as never asked.
 *
 * @result: 0, or besides what is said above: -ESTALE no such inode (any more); -EINVAL an argument;
 * -ENAMETOOLONG; -EISDIR, -ENOTDIR; -EUCLEAN the volume is damaged; -EIO; -EROFS.
 */
struct csv_op {
	enum csv_op_type type;
	uint64_t ino;
	uint64_t generation;
	uint64_t dir;
	const char *name; /* borrowed, name_len bytes */
	uint32_t name_len;
	uint64_t dir2;
	const char *name2;
	uint32_t name2_len;
	bool no_replace;
	uint32_t mask;
	uint32_t mode;
	uint32_t uid;
	uint32_t gid;
	uint64_t modified_ns;
	uint64_t now_ns; /* all that change something: the time, since 1970 */
	uint64_t block;
	uint64_t count;
	uint64_t size_bytes;
	uint64_t token;
	uint64_t cookie;
	struct csv_extent *extents; /* borrowed, extents_max; may be NULL for extend */
	uint32_t extents_max;
	struct csv_name *names; /* borrowed, names_max */
	uint32_t names_max;
	uint64_t client_request;     /* 0 = no such number */
	uint64_t client_incarnation; /* >= 1 */
	uint32_t client_node;        /* 0..63 */
	void *arg;                   /* for the owner */

	int result;
	bool repeated;
	struct csv_attr attr;
	uint32_t extents_count;
	uint32_t names_count;
	struct csv_stat stat;

	struct list link; /* private */
	bool started;     /* private */
};

/* csv_meta_submit() - queue @op. */
void csv_meta_submit(struct csv_meta *m, struct csv_op *op);

/* csv_meta_completed() - an operation that is over, in the order of submission, or NULL. */
struct csv_op *csv_meta_completed(struct csv_meta *m);

/* csv_meta_where() - the place of the newest committed image of a metadata block: in the journal,
 * or @block itself. For csv/check, on a volume that was opened read-only. */
uint64_t csv_meta_where(const struct csv_meta *m, uint64_t block);

/* What it did, for inspection and tests. */
struct csv_meta_stats {
	uint64_t ops;
	uint64_t restarts; /* operations that had to read a block first */
	uint64_t txns;
	uint64_t txn_blocks;
	uint64_t checkpoints;
	uint64_t placed_blocks;
	uint64_t replayed_txns;
	uint32_t area_used; /* [blocks] of the journal that are in use now */
	bool held;          /* another term's area still counts */
};

void csv_meta_get_stats(const struct csv_meta *m, struct csv_meta_stats *out);

/*
 * csv_meta_format() - the first content of a volume, block by block, through @emit(arg, block,
 * buf).
 * Superblocks come last, copy 0 as the very last: flush before them and after them.
 * Returns 0; the first error of @emit.
 */
typedef int (*csv_meta_emit_fn)(void *arg, uint64_t block, const void *buf);
MUST_USE int csv_meta_format(const struct csv_super *super, uint64_t now_ns, csv_meta_emit_fn emit,
                             void *arg);

#endif
