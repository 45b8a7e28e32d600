/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CSV_META_META_INT_H
#define CSV_META_META_INT_H

/*
 * The parts of csv_meta and who calls whom:
 *
 *	meta.c    create, the pump, queue of operations   open.c   reading the journal
 *	commit.c  running transaction -> journal          place.c  journal -> in place
 *	  op_name.c op_file.c reap.c   the operations
 *	  extent.c  ranges of files    dir.c  names          inode.c  inodes
 *	  tree.c    records of an inode   alloc.c  maps
 *	  cache.c   blocks, undo       live.c   which images of the journal count
 *	once.c    requests that were done before
 */

#include "base/errbuf.h"
#include "csv/meta/csv_meta.h"

#define OP_TOUCH_MAX 48u   /* blocks that one operation may change */
#define OP_STEP_BLOCKS 32u /* by one step of it, in the deepest tree a disk can claim */
#define POOL_RESERVE 48u   /* blocks that only operations which free something may take */
#define DEPTH_MAX 128u     /* directories above a directory that moves */
#define PLACE_SLOTS 16u

#define NONE UINT32_MAX

/* A block in the cache. What is neither RUNNING nor fresh is sealed as it was written. */
struct cblock {
	uint64_t block;
	uint8_t *buf;        /* borrowed: of the slab */
	struct list lru;     /* in meta.lru if valid, else in meta.unused */
	struct cblock *next; /* borrowed: same bucket */
	bool valid;
	bool running;    /* changed by the running transaction */
	bool committing; /* changed by the one that is being written */
	uint64_t epoch;  /* the operation that looked at it last */
	struct list txn; /* in meta.running */
};

struct undo {
	struct cblock *b;
	uint8_t *before; /* owned; meaningless if fresh */
	bool was_running;
	bool fresh; /* was not in the cache */
};

/* An image of the journal that counts. */
struct live {
	uint64_t block;
	uint64_t seq;
	uint64_t at;   /* absolute block of the image */
	uint32_t next; /* same bucket, or next free */
	bool used;
};

struct pin {
	uint64_t ino;
	uint32_t count; /* 0 = free */
};

enum io_state { IO_FREE, IO_QUEUED, IO_ISSUED };

struct io_slot {
	enum io_state state;
	struct csv_io io;
	void (*done)(struct csv_meta *m, uint32_t id, int result);
};

/* Numbers of the slots. */
enum {
	IO_READ = 0,
	IO_COMMIT_1 = 1,
	IO_COMMIT_2 = 2,
	IO_HEADER = 3,
	IO_PLACE_FLUSH = 4,
	IO_PLACE = 5
};
_Static_assert(IO_PLACE + PLACE_SLOTS <= CSV_META_IO_MAX, "slots");

enum phase {
	PHASE_HEADERS_A,
	PHASE_HEADERS_B,
	PHASE_SCAN,   /* first the held area, then the current one */
	PHASE_PLACE,  /* takeover of a takeover: all goes in place first */
	PHASE_HEADER, /* our own is being written */
	PHASE_LOAD,   /* state and maps */
	PHASE_READY,
	PHASE_CLOSING,
	PHASE_CLOSED,
	PHASE_FAILED,
};

enum commit_state { COMMIT_IDLE, COMMIT_WRITING, COMMIT_FLUSH };
enum place_state { PLACE_IDLE, PLACE_WRITING, PLACE_FLUSH, PLACE_HEADER, PLACE_HEADER_FLUSH };

struct scan {
	uint32_t area;
	uint64_t term;
	uint64_t at;
	uint64_t seq;
	uint64_t end_seq; /* 0 = as far as it goes */
	uint64_t blocks;  /* so far */
	bool images;      /* the head was read, its images come next */
	uint32_t first;   /* images of the first of two reads */
	struct csv_journal_txn txn;
};

struct map_info {
	enum csv_block_type type;
	uint64_t at;
	uint32_t blocks;
	uint32_t rover; /* block of the map to look at first */
	uint16_t *free; /* owned: per block of the map */
};

struct csv_meta {
	struct csv_super super;
	uint64_t term;
	bool read_only;
	bool journal_only;
	bool quiet;
	bool reap;
	enum phase phase;
	int error; /* in PHASE_FAILED */
	struct errbuf eb;
	size_t memory;
	struct csv_meta_stats stats;

	/* Operations. */
	struct list queue;
	struct list waiting;    /* of the running transaction */
	struct list committing; /* of the one being written */
	struct list done;
	struct list reap_list; /* where reap_op waits for its next turn */
	struct csv_op reap_op;
	bool reap_busy;
	bool reap_more; /* something may be ready to be freed */
	uint64_t reap_cursor;
	uint64_t reap_ino; /* an operation waits for this one to be cut; 0 = none */
	struct pin *pins;  /* owned */
	uint32_t pins_max;

	/* Cache. */
	uint8_t *slab;          /* owned */
	struct cblock *cblocks; /* owned */
	uint32_t cblocks_count;
	struct cblock **buckets; /* owned */
	uint32_t buckets_count;
	struct list lru; /* oldest first */
	struct list unused;
	uint64_t epoch;
	struct csv_block_id miss; /* what the operation lacks */
	bool reading;
	struct cblock *read_into; /* NULL = no read in flight */
	uint64_t read_at;
	int read_error;     /* of the read that the operation waited for */
	uint64_t bad_block; /* why the last verification failed */
	struct undo undo[OP_TOUCH_MAX];
	uint32_t undo_count;
	bool privileged; /* the operation may use the pool's reserve */

	/* Journal. */
	struct live *lives; /* owned */
	uint32_t lives_count;
	uint32_t lives_free;
	uint32_t lives_used;
	uint32_t *live_buckets; /* owned */
	uint32_t live_buckets_count;
	struct csv_journal_header header; /* as last written, or found */
	uint8_t *header_buf;              /* borrowed: of the slab */
	struct csv_journal_header found;
	bool found_any;
	struct scan scan;
	bool scan_held;
	uint64_t head_at; /* place in our area of the next transaction */
	uint64_t next_seq;
	uint64_t used;       /* blocks of our area between tail and head */
	struct list running; /* struct cblock by txn */
	uint32_t running_count;
	enum commit_state commit;
	uint32_t commit_left;
	uint32_t commit_count;
	uint8_t *commit_buf; /* borrowed: of the slab; 1 + CSV_TXN_BLOCKS_MAX blocks */
	struct csv_journal_txn commit_txn;

	/* Checkpoint. */
	enum place_state place;
	bool place_asked;
	uint32_t place_cursor;
	uint32_t place_busy;
	uint64_t place_seq;  /* everything up to here */
	uint64_t place_at;   /* and where the next starts */
	uint64_t place_used; /* blocks of our area that come free */
	uint8_t *place_buf;  /* borrowed: of the slab; PLACE_SLOTS blocks */
	uint64_t place_block[PLACE_SLOTS];

	struct map_info units;
	struct map_info pool;
	uint32_t load_next;

	struct io_slot io[CSV_META_IO_MAX];
};

/* meta.c */
void meta_fail(struct csv_meta *m, int err, const char *what, uint64_t block);
void meta_io(struct csv_meta *m, uint32_t id, const struct csv_io *io,
             void (*done)(struct csv_meta *m, uint32_t id, int result));

/* cache.c: -EAGAIN = not there, m->miss says what; the operation is to be undone. */
int cache_get(struct csv_meta *m, const struct csv_block_id *id, struct cblock **out);
int cache_fresh(struct csv_meta *m, uint64_t block, struct cblock **out);
void cache_touch(struct csv_meta *m, struct cblock *b);
void cache_undo(struct csv_meta *m);
void cache_keep(struct csv_meta *m);
bool cache_room(const struct csv_meta *m, uint32_t blocks);
void cache_read(struct csv_meta *m);
struct cblock *cache_find(const struct csv_meta *m, uint64_t block);

/* live.c */
struct live *live_find(const struct csv_meta *m, uint64_t block);
int live_put(struct csv_meta *m, const struct live *image);
void live_drop_until(struct csv_meta *m, uint64_t seq);

/* commit.c, place.c, open.c */
void commit_run(struct csv_meta *m);
bool commit_fits(const struct csv_meta *m);
void place_run(struct csv_meta *m);
void place_start(struct csv_meta *m);
void header_write(struct csv_meta *m, void (*done)(struct csv_meta *m, uint32_t id, int result));
void open_run(struct csv_meta *m);

/* alloc.c */
struct unit_run {
	uint64_t hint; /* 0 = none */
	uint64_t want; /* [units] */
	uint64_t first;
	uint64_t count;
};
int alloc_state(struct csv_meta *m, struct cblock **out);
int alloc_units(struct csv_meta *m, struct unit_run *run);
int free_units(struct csv_meta *m, uint64_t first, uint64_t count, uint64_t *done);
int alloc_block(struct csv_meta *m, struct cblock **out);
int free_block(struct csv_meta *m, uint64_t block);
int alloc_is_used(struct csv_meta *m, uint64_t block);
void alloc_refresh(struct csv_meta *m, const struct cblock *b);
int state_add(struct csv_meta *m, size_t offset, int64_t delta);

/* tree.c */
struct tree {
	struct csv_meta *m;
	struct cblock *inode;
	enum csv_kind kind;
};
struct tree_path {
	uint32_t depth; /* of the leaf */
	struct {
		struct cblock *b;
		uint32_t index;
	} at[CSV_LEVEL_MAX];
};
int tree_seek(const struct tree *t, uint64_t key, struct tree_path *p);
int tree_seek_before(const struct tree *t, uint64_t key, struct tree_path *p);
int tree_next(const struct tree *t, struct tree_path *p);
const uint8_t *tree_record(const struct tree_path *p);
uint64_t tree_key(const struct tree_path *p);
int tree_insert(const struct tree *t, const void *record);
int tree_remove(const struct tree *t, struct tree_path *p);
void tree_update(const struct tree *t, struct tree_path *p, const void *record);

/* inode.c */
int inode_get(struct csv_meta *m, uint64_t ino, uint64_t generation, struct cblock **out);
int inode_of_kind(struct csv_meta *m, uint64_t ino, enum csv_kind kind, struct cblock **out);
int inode_file(struct csv_meta *m, const struct csv_op *op, struct cblock **out);
int inode_new(struct csv_meta *m, const struct csv_op *op, enum csv_kind kind, struct cblock **out);
void inode_attr(const struct cblock *b, struct csv_attr *out);
static inline struct csv_inode_wire *inode_wire(struct cblock *b)
{
	return (struct csv_inode_wire *)(void *)b->buf;
}
int pending_add(struct csv_meta *m, struct cblock *inode);
int pending_remove(struct csv_meta *m, uint64_t ino);
struct pin *pin_find(const struct csv_meta *m, uint64_t ino);

/* dir.c */
int dir_find(struct csv_meta *m, struct cblock *dir, const char *name, uint32_t len,
             struct tree_path *p);
int dir_add(struct csv_meta *m, struct cblock *dir, const struct csv_dirent_wire *entry);
int dir_remove(struct csv_meta *m, struct cblock *dir, const char *name, uint32_t len);

/* extent.c: ranges in blocks of the file. */
struct range {
	uint64_t from;
	uint64_t to;
};
void extent_get(const struct tree_path *p, struct csv_extent *out);
int extent_find(const struct tree *t, uint64_t block, struct tree_path *p, struct csv_extent *out);
int extent_add(const struct tree *t, const struct csv_extent *e);
int extent_mark(const struct tree *t, const struct range *r, bool unwritten, uint64_t *done);
int extent_cut(const struct tree *t, const struct range *r, uint64_t *done);

/* once.c: 0, -errno, or -EAGAIN. */
int once_begin(struct csv_meta *m, struct csv_op *op);

/* The operations: 0, -errno, or -EAGAIN. */
int op_run(struct csv_meta *m, struct csv_op *op);
int op_lookup(struct csv_meta *m, struct csv_op *op);
int op_create(struct csv_meta *m, struct csv_op *op);
int op_unlink(struct csv_meta *m, struct csv_op *op);
int op_attach(struct csv_meta *m, struct csv_op *op);
int op_rename(struct csv_meta *m, struct csv_op *op);
int op_list(struct csv_meta *m, struct csv_op *op);
int op_map(struct csv_meta *m, struct csv_op *op);
int op_extend(struct csv_meta *m, struct csv_op *op);
int op_convert(struct csv_meta *m, struct csv_op *op);
int op_punch(struct csv_meta *m, struct csv_op *op);
int op_truncate(struct csv_meta *m, struct csv_op *op);
int op_reserve(struct csv_meta *m, struct csv_op *op);
int op_reap(struct csv_meta *m, struct csv_op *op);

#endif
