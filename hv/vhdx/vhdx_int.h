/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_VHDX_VHDX_INT_H
#define HV_VHDX_VHDX_INT_H

/*
 * vhdx_int - an open disk, and what its files offer one another.
 *
 * io.c cuts a request into fragments: runs that lie together in the file, in the parent, or
 * nowhere. What a fragment needs first may not be there: a pool entry, a block in the file
 * (alloc.c), a page of a sector bitmap (page.c), room for another changed page or a header that
 * says the disk changes (commit.c). Then the request stalls, with what it waits for, and is run
 * again from where it stopped when that happens. Nothing is allocated after open.
 *
 * Invariants, each tested by crashing at every write:
 *  - an entry of v->bat points to storage that is ours, and whose content is right as far as the
 *    file is written (zeroed before the entry is made, bits of a bitmap set after their data);
 *  - a log entry is written after a flush that covers all data its pages speak of;
 *  - pages are written in place after the flush that makes their entry durable; the next entry
 *    after the flush that makes them durable. So one entry is active at a time, its own tail;
 *  - storage that the BAT gave up is touched again only when that is durable (space_int.h).
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/attr.h"
#include "base/blk.h"
#include "base/list.h"
#include "hv/vhdx/format_int.h"
#include "hv/vhdx/space_int.h"

struct errbuf;
struct vhdx;
struct vhdx_stat;

#define VHDX_PAGE_BYTES VHDX_LOG_SECTOR_BYTES
#define VHDX_PAGE_ENTRIES 512u /* of the BAT in a page */
#define VHDX_PAGE_BITS 32768u  /* sectors that a page of a bitmap tells of */
#define VHDX_FRAGS_MAX 256u    /* a guest's queues are 64..256 deep */
#define VHDX_IOVS_MAX 8u       /* fragments at a time that need a long iov of their own */
#define VHDX_FRAG_IOV 8u       /* what most need */
#define VHDX_ALLOCS_MAX 16u    /* blocks being allocated at a time */
#define VHDX_PAGES_MAX 256u    /* of sector bitmaps in memory: 4 GiB of disk */
#define VHDX_PAGE_HASH 256u
#define VHDX_DIRTY_MAX 126u /* pages in a log entry: two fit the smallest log, 1 MiB */
#define VHDX_APPLY_MAX 8u   /* writes in place at a time */

/* What a stalled request waits for. */
enum vhdx_wait {
	VHDX_WAIT_POOL = 1,     /* a fragment or its iov */
	VHDX_WAIT_ALLOC = 2,    /* the block or bitmap with BAT index io->key; or a free slot */
	VHDX_WAIT_PAGE = 4,     /* a page of a bitmap */
	VHDX_WAIT_DIRTY = 8,    /* room to change another page */
	VHDX_WAIT_ACTIVATE = 16 /* a header with new GUIDs */
};

/* A request's state, in blk_req.priv. */
struct vhdx_io {
	struct list link; /* v->stalled; or a list of flushes */
	struct blk_req *req;
	uint64_t pos; /* done or under way up to here, from req->offset_bytes */
	uint64_t key;
	size_t iov_offset; /* pos within iov[iov_index] */
	uint32_t iov_index;
	uint32_t frags; /* under way */
	uint32_t wait;
	int error;     /* the first */
	bool issued;   /* all fragments have been started */
	bool need_fua; /* a flush must follow before it is done */
} MAY_ALIAS;
_Static_assert(sizeof(struct vhdx_io) <= BLK_PRIV_WORDS * sizeof(uint64_t), "fits blk_req.priv");

/* A page of a sector bitmap. */
struct vhdx_page {
	struct list link; /* v->lru: least recently used first */
	struct vhdx_page *hash_next;
	struct vhdx *v;
	uint64_t offset; /* in the file; 0 = empty */
	uint8_t *data;   /* [VHDX_PAGE_BYTES] of the arena */
	uint32_t pins;   /* users that will change it, or need it to stay */
	int error;       /* of loading */
	bool loading;
	bool dirty;      /* changed since the last commit took it */
	bool committing; /* the commit under way has it; it is not in its place yet */
	bool slot;       /* counted in v->dirty_slots: dirty or pinned */
	struct blk_req req;
	struct iovec iov;
};

struct vhdx_frag {
	struct list link; /* v->frags_free, or v->frags_busy in order of seq */
	struct vhdx *v;
	struct blk_req *owner;
	uint64_t seq;
	uint64_t pos;           /* on the disk */
	struct vhdx_page *page; /* pinned: its bits are to be set when the data is written */
	uint64_t block;         /* of which @page tells */
	uint32_t bit;
	uint32_t bits;
	struct iovec *iovs; /* from v->iovs, or NULL */
	struct blk_req req;
	struct iovec iov[VHDX_FRAG_IOV];
};

enum vhdx_alloc_step {
	VHDX_ALLOC_IDLE,
	VHDX_ALLOC_GROW,  /* until the file is long enough */
	VHDX_ALLOC_ZERO,  /* storage that was used before */
	VHDX_ALLOC_CLEAR, /* stale bits in the sector bitmap */
	VHDX_ALLOC_ENTER  /* into the BAT: needs room for a changed page */
};

/* One payload block or sector bitmap block on its way into the BAT. */
struct vhdx_alloc {
	struct vhdx *v;
	enum vhdx_alloc_step step;
	uint64_t index;  /* in the BAT */
	uint64_t offset; /* the storage */
	uint64_t bytes;
	uint64_t entry;     /* to be entered */
	uint64_t clear_pos; /* VHDX_ALLOC_CLEAR: of the disk, from where bits are not clear */
	uint64_t clear_end;
	bool zero; /* the storage must be zeroed */
	bool io;   /* @req is under way */
	bool kept; /* the storage was this block's before: not to be given back */
	struct blk_req req;
};

enum vhdx_commit_step {
	VHDX_COMMIT_IDLE,
	VHDX_COMMIT_HEADER_WRITE, /* new GUIDs, or the log's */
	VHDX_COMMIT_HEADER_FLUSH,
	VHDX_COMMIT_FLUSH, /* nothing has changed but data: that is all */
	VHDX_COMMIT_DATA_FLUSH,
	VHDX_COMMIT_LOG_WRITE,
	VHDX_COMMIT_LOG_FLUSH,
	VHDX_COMMIT_APPLY
};

struct vhdx_commit {
	enum vhdx_commit_step step;
	bool wanted;        /* even without a flush: room or space is needed */
	bool want_activate; /* a request waits for new GUIDs */
	bool kick_pending;  /* kick_op is deferred */
	struct uring_op kick_op;
	bool again;                /* the header is to be written to the other copy, too */
	bool in_entry;             /* the header step belongs to a commit, not to an activation */
	struct list waiting;       /* vhdx_io of flushes for the next cycle */
	struct list cycle;         /* of this one */
	struct vhdx_header header; /* being written */
	uint8_t *header_buf;       /* [VHDX_HEADER_BYTES] */
	uint8_t *buf;              /* the entry; then the pages in it, at page_at */
	uint32_t pages;
	uint32_t applied; /* pages written in place or on their way */
	uint64_t page_offset[VHDX_DIRTY_MAX];
	uint64_t sequence;   /* of the next entry */
	uint32_t log_head;   /* where it goes */
	uint64_t file_bytes; /* at the start: durable after the data flush */
	uint32_t outstanding;
	int error;
	struct blk_req req[VHDX_APPLY_MAX];
	struct iovec iov[VHDX_APPLY_MAX];
};

struct vhdx {
	struct blk blk;     /* first */
	struct blk *file;   /* owned */
	struct blk *parent; /* owned; NULL */
	uint64_t parent_bytes;
	struct blk_info info; /* of this disk */
	bool read_only;
	bool ignore_log; /* tools: look at what is there, without a replay */
	bool file_discards;
	bool can_grow;
	int failed; /* -errno; nothing is written any more */

	/* As read at open, kept up to date. */
	struct vhdx_header header;
	uint32_t header_slot; /* which copy is current: 0 or 1 */
	struct vhdx_regions regions;
	struct vhdx_metadata_table items;
	struct vhdx_metadata metadata;
	struct vhdx_geometry geo;
	struct vhdx_locator *locator; /* owned; NULL without a parent */
	uint64_t *bat;                /* owned; geo.entry_count */
	uint64_t *bat_dirty;          /* owned; bit per page of the BAT */
	uint32_t dirty_bat[VHDX_DIRTY_MAX];
	uint32_t dirty_bat_count;
	uint32_t dirty_pages; /* of bitmaps */
	uint32_t dirty_slots; /* BAT pages that changed + bitmap pages that changed or will */

	bool active; /* the header says that the disk changes */
	struct guid log_guid;
	struct guid next_data_write; /* nil: any */
	struct vhdx_space space;
	uint64_t leaving_seq;   /* fragments that began before may touch what leaves */
	bool leaving_committed; /* what leaves may go, as soon as older fragments are done */
	bool discarding;
	uint64_t discard_offset;
	uint64_t discard_bytes;
	struct blk_req discard_req;

	uint64_t file_bytes; /* of the file, now */
	uint64_t zero_from;  /* of the file: from here on it was never written */
	uint64_t grow_to;    /* the resize under way; 0 = none */
	uint64_t grow_spare; /* of that, more than is needed */
	struct blk_req grow_req;

	struct list stalled; /* vhdx_io */
	uint32_t stalled_count;
	struct list frags_free;
	struct list frags_busy;
	uint64_t frag_seq;
	struct vhdx_frag *frags; /* owned; VHDX_FRAGS_MAX */
	struct iovec *iovs;      /* owned; VHDX_IOVS_MAX * BLK_IOV_MAX */
	uint32_t iovs_busy;      /* bit per iov */
	struct vhdx_alloc allocs[VHDX_ALLOCS_MAX];
	uint32_t allocs_busy;
	struct vhdx_commit commit;
	void *arena; /* owned; buffers of commit and pages */

	struct vhdx_page *pages; /* owned; VHDX_PAGES_MAX if there is a parent */
	struct vhdx_page *page_hash[VHDX_PAGE_HASH];
	struct list lru;

	uint64_t commits;
	uint64_t allocated;
};

static inline struct vhdx_io *vhdx_io_of(struct blk_req *req)
{
	return (struct vhdx_io *)(void *)req->priv;
}

/* ---- load.c: the structures of a file ---- */

/*
 * vhdx_load() - read and check everything but the BAT into @v; replay the log if there is one.
 * @v->file is set, the rest zero.
 */
MUST_USE int vhdx_load(struct vhdx *v, struct errbuf *eb);

/*
 * vhdx_peek() - does the disk in @file (borrowed) have a parent? *locator: free() it; or NULL.
 * @look: at what is there, without a replay.
 * Returns as vhdx_load(), which it is.
 */
MUST_USE int vhdx_peek(struct blk *file, bool read_only, bool look, struct vhdx_locator **locator,
                       struct errbuf *eb);

/* vhdx_load_bat() - BAT and space map. */
MUST_USE int vhdx_load_bat(struct vhdx *v, struct errbuf *eb);

/* Hears of each fault of the BAT. Returns 0 to go on (the entry counts as VHDX_NOT_PRESENT), or
 * what vhdx_load_bat_with() is to return. */
typedef int (*vhdx_fault_fn)(int err, const char *text, void *arg);

/* vhdx_load_bat_with() - vhdx_load_bat() that can go on. */
MUST_USE int vhdx_load_bat_with(struct vhdx *v, vhdx_fault_fn fault, void *arg, struct errbuf *eb);

/* vhdx_header_store() - make @header the current one, durably, then the other copy too. Blocks. */
MUST_USE int vhdx_header_store(struct vhdx *v, const struct vhdx_header *header, struct errbuf *eb);

/* ---- io.c ---- */

void vhdx_submit(struct blk *blk, struct blk_req *req);

/* vhdx_wake() - run the stalled requests that wait for one of @reasons. */
void vhdx_wake(struct vhdx *v, uint32_t reasons);

/* vhdx_wake_failed() - end with @err those that wait for @reason and, if not UINT64_MAX, @key. */
void vhdx_wake_failed(struct vhdx *v, uint32_t reason, uint64_t key, int err);

/*
 * vhdx_frag_start() - a fragment of @req at io->pos, @len bytes, to @offset of @lower.
 * Returns it, its page and bits to be filled in before anything else happens; NULL: stall with
 * VHDX_WAIT_POOL.
 */
struct vhdx_frag *vhdx_frag_start(struct vhdx *v, struct blk_req *req, struct blk *lower,
                                  uint64_t offset, uint64_t len);

/* vhdx_stall() - note what @req waits for. Returns -EAGAIN. */
int vhdx_stall(struct blk_req *req, uint32_t reason, uint64_t key);

/* ---- change.c: the steps of write, zero and discard ---- */

/* Each handles some of @req at io->pos. Returns how many bytes; -EAGAIN stalled; -errno. */
MUST_USE int64_t vhdx_step_write(struct vhdx *v, struct blk_req *req, uint64_t pos, uint64_t len);
MUST_USE int64_t vhdx_step_zero(struct vhdx *v, struct blk_req *req, uint64_t pos, uint64_t len);
MUST_USE int64_t vhdx_step_discard(struct vhdx *v, struct blk_req *req, uint64_t pos, uint64_t len);

/* vhdx_change_complete() - if every bit of partial block @block is set, it is simply present. */
void vhdx_change_complete(struct vhdx *v, uint64_t block);

/* ---- map.c ---- */

enum vhdx_where { VHDX_AT_FILE, VHDX_AT_PARENT, VHDX_AT_NOTHING };

struct vhdx_run {
	enum vhdx_where where;
	uint64_t offset; /* in the file or the parent */
	uint64_t len;
};

/*
 * vhdx_map() - where the disk's bytes from @pos are, as far as they lie together, at most @len.
 * Returns 0; -EAGAIN a page is being loaded; -EIO it could not be.
 */
MUST_USE int vhdx_map(struct vhdx *v, uint64_t pos, uint64_t len, struct vhdx_run *out);

/* vhdx_map_present() - how many of @len bytes from @pos lie together in blocks that are entirely
 * in the file; 0 if none. *offset: where. */
uint64_t vhdx_map_present(const struct vhdx *v, uint64_t pos, uint64_t len, uint64_t *offset);

/* Where in the file the bit of the sector at disk offset @pos is: its page, and the bit there. */
uint64_t vhdx_map_page(const struct vhdx *v, uint64_t pos, uint32_t *bit);

/* ---- page.c ---- */

/*
 * vhdx_page_get() - the page at @offset of the file, loaded. Not pinned.
 * Returns 0; -EAGAIN it is on its way, or no page can be given up now: VHDX_WAIT_PAGE; -errno of
 * loading it.
 */
MUST_USE int vhdx_page_get(struct vhdx *v, uint64_t offset, struct vhdx_page **out);

/* vhdx_page_peek() - it, if it is in memory and loaded; or NULL. */
struct vhdx_page *vhdx_page_peek(struct vhdx *v, uint64_t offset);

/* vhdx_page_pin() - keep it and reserve room for its change. False: VHDX_WAIT_DIRTY. */
MUST_USE bool vhdx_page_pin(struct vhdx *v, struct vhdx_page *page);

/* vhdx_page_unpin() - @changed: it is dirty now. */
void vhdx_page_unpin(struct vhdx *v, struct vhdx_page *page, bool changed);

/* Runs of bits. vhdx_bits_run(): how many from @bit, at most @max, are as the first one. */
uint32_t vhdx_bits_run(const uint8_t *bits, uint32_t bit, uint32_t max, bool *value);
void vhdx_bits_set(uint8_t *bits, uint32_t bit, uint32_t count, bool value);

/* ---- alloc.c ---- */

/*
 * vhdx_alloc_start() - bring BAT entry @index to VHDX_PRESENT or, in a differencing disk whose
 * parent shines through, VHDX_PARTIAL; or wait with who does it already.
 * Returns 0 it is; -EAGAIN stalled (VHDX_WAIT_ALLOC); -ENOSPC.
 */
MUST_USE int vhdx_alloc_start(struct vhdx *v, struct blk_req *req, uint64_t index);

/* vhdx_alloc_busy() - is BAT entry @index about to change? */
bool vhdx_alloc_busy(struct vhdx *v, uint64_t index);

/* vhdx_alloc_advance() - go on with those that waited for a page or for room. */
void vhdx_alloc_advance(struct vhdx *v);

/* ---- commit.c ---- */

/* vhdx_commit_kick() - start the next cycle if there is work and none runs. */
void vhdx_commit_kick(struct vhdx *v);

/* vhdx_commit_want() - a cycle soon, flush or not: from the next dispatch, because a cycle that
 * starts runs stalled requests, and the caller may be in the middle of one. */
void vhdx_commit_want(struct vhdx *v);

/* vhdx_commit_flush() - end @req when everything completed before now is durable. */
void vhdx_commit_flush(struct vhdx *v, struct blk_req *req);

/* vhdx_dirty_bat() - the page of BAT entry @index changes. False: no room, VHDX_WAIT_DIRTY. */
MUST_USE bool vhdx_dirty_bat(struct vhdx *v, uint64_t index);

/* vhdx_dirty_room() - is there room for @count more changed pages? If not, a commit is wanted. */
MUST_USE bool vhdx_dirty_room(struct vhdx *v, uint32_t count);

/* vhdx_reclaim() - let freed storage go if nothing uses it any more. */
void vhdx_reclaim(struct vhdx *v);

/* vhdx_idle() - nothing of ours is under way, nothing waits to be committed. */
bool vhdx_idle(const struct vhdx *v);

/* ---- open.c ---- */

/* vhdx_stat_of() - the numbers of @v, whose BAT is loaded. */
void vhdx_stat_of(const struct vhdx *v, struct vhdx_stat *out);

#endif
