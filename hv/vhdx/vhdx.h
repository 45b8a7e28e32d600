/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_VHDX_VHDX_H
#define HV_VHDX_VHDX_H

/*
 * vhdx - a virtual disk in a VHDX file: fixed, dynamic or differencing. A base/blk.h driver on top
 * of another one, the file (raw, csv, smb), and of the parent disk if there is one.
 *
 * Data goes straight to its place. What changes in the metadata (block allocation table, sector
 * bitmaps) collects in memory and is committed with the guest's flush: data first, then one log
 * entry, then the table in place. So a disk that is never flushed loses, in a crash, what a disk
 * with a volatile write cache may lose, and never more; a flushed write is there.
 *
 * Threads: one, that of the file's ring. Formats: docs/formats/vhdx.md, [MS-VHDX].
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/blk.h"
#include "base/guid.h"

struct errbuf;
struct uring;

#define VHDX_CHAIN_MAX 64u /* disks in a chain of parents; people have been seen with 50 */

struct vhdx_cfg {
	struct blk *file;   /* taken if vhdx_open() succeeds; its ring drives the disk */
	struct blk *parent; /* taken likewise; NULL: no parent. Same ring. */
	bool read_only;
};

/*
 * vhdx_open() - the disk in cfg->file. An unfinished log is replayed (not with read_only).
 * Returns 0; -EBADMSG damaged (the text names the structure); -ENOTSUP a feature that we do not
 * know, or sectors smaller than the file's; -EROFS the log must be replayed but the file or cfg is
 * read-only; -EINVAL parent given but not needed, or the reverse; -ESTALE the parent has changed
 * since the disk was made from it; -EIO, -ENOMEM, -errno of the file.
 * Context: blocks, dispatching the ring; not from inside a completion.
 */
MUST_USE int vhdx_open(const struct vhdx_cfg *cfg, struct blk **out, struct errbuf *eb);

/* Opens a file by path, for vhdx_open_path() and vhdx_tool.h, whose error texts name the path. */
struct vhdx_files {
	/* Returns 0 and *out; -errno, with a text that does not name the path. */
	int (*open)(const char *path, bool read_only, struct blk **out, struct errbuf *eb,
	            void *arg);
	/* Makes a file of @size_bytes zeros; -EEXIST if there is one. */
	int (*create)(const char *path, uint64_t size_bytes, struct errbuf *eb, void *arg);
	/* Deletes it. */
	int (*remove)(const char *path, struct errbuf *eb, void *arg);
	void *arg;
};

/* vhdx_files_raw() - files of the host, through hv/raw. @ring: borrowed while they are used. */
struct vhdx_files vhdx_files_raw(struct uring *ring);

/* vhdx_files_raw_unlocked() - only for vhdx_chain_find(): also while somebody else writes. */
struct vhdx_files vhdx_files_raw_unlocked(struct uring *ring);

/*
 * vhdx_open_path() - the disk at @path and, read-only, all its parents.
 * A parent is looked for where the relative path says, then at the absolute path; it must be the
 * disk that the child was made from, unchanged (its data write GUID).
 * Returns as vhdx_open(); -ENOENT a parent is missing; -ESTALE it was changed or replaced; -ELOOP
 * the chain loops or is longer than VHDX_CHAIN_MAX.
 */
MUST_USE int vhdx_open_path(const struct vhdx_files *files, const char *path, bool read_only,
                            struct blk **out, struct errbuf *eb);

/* The files of a disk: its own first, then its parent's, and so on. */
struct vhdx_chain {
	uint32_t count;
	char *path[VHDX_CHAIN_MAX]; /* owned */
};

/*
 * vhdx_chain_find() - which files vhdx_open_path() would open; for who opens them for a worker
 * that sees no paths, and calls vhdx_open() on each, the last one first.
 * Returns 0; -ENOENT, -ELOOP, -EBADMSG, ... as vhdx_open_path(), but does not look whether parents
 * have changed. On failure *out is empty.
 */
MUST_USE int vhdx_chain_find(const struct vhdx_files *files, const char *path,
                             struct vhdx_chain *out, struct errbuf *eb);

void vhdx_chain_fini(struct vhdx_chain *chain);

enum vhdx_kind { VHDX_FIXED, VHDX_DYNAMIC, VHDX_DIFFERENCING };

struct vhdx_stat {
	enum vhdx_kind kind;
	uint64_t size_bytes;
	uint64_t file_bytes;
	uint32_t block_bytes;
	uint32_t logical_bytes;
	uint32_t physical_bytes;
	uint32_t log_bytes;
	uint64_t block_count;
	uint64_t present_count; /* blocks with data in this file; partial ones too */
	uint64_t partial_count;
	struct guid disk_id;
	struct guid data_write;
	uint64_t commits;   /* since it was opened */
	uint64_t allocated; /* blocks, since it was opened */
	uint32_t stalled;   /* requests that wait for something of ours */
	int failed;         /* -errno: metadata could not be written; only reads work */
};

/* vhdx_stat() - of a disk that vhdx_open() made (CHECKed). */
void vhdx_stat(const struct blk *blk, struct vhdx_stat *out);

#endif
