/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_VHDX_VHDX_TOOL_H
#define HV_VHDX_VHDX_TOOL_H

/*
 * vhdx_tool - what `godwit disk` does to disks that no VM runs on: create, show, check, resize,
 * convert, merge. Each blocks, dispatching the ring of the files it opens, and must
 * not be called from inside a completion. A crash at any point leaves the disk as it was or as it
 * is to be; where that is not so, the comment says it.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/guid.h"
#include "hv/vhdx/vhdx.h"

struct blk;
struct errbuf;

/* Told now and then how far a long operation is. Returns false to stop it (-ECANCELED). */
struct vhdx_progress {
	bool (*fn)(uint64_t done, uint64_t total, void *arg); /* NULL: nobody wants to know */
	void *arg;
};

/* A zeroed field means the default. */
struct vhdx_create_cfg {
	enum vhdx_kind kind;
	uint64_t size_bytes;    /* multiple of the logical sector; differencing: 0 = the parent's */
	uint32_t block_bytes;   /* default 32 MiB, differencing 2 MiB, as Hyper-V has it */
	uint32_t logical_bytes; /* default 512; differencing: the parent's */
	uint32_t physical_bytes; /* default 4096; differencing: the parent's */
	uint32_t log_bytes;      /* default 1 MiB */
	struct guid disk_id;     /* default a new one; differencing: the parent's */
};

#define VHDX_BLOCK_BYTES_DEFAULT (32u << 20)
#define VHDX_BLOCK_BYTES_DIFFERENCING (2u << 20)

/*
 * vhdx_create() - a new disk at @path.
 * @parent: path of the parent, for VHDX_DIFFERENCING; else NULL. The child remembers it relative
 * to its own folder, and absolutely.
 * Returns 0; -EEXIST; -EINVAL cfg (the text says what is allowed); -ENOSPC; -errno. On failure
 * the file is removed.
 */
MUST_USE int vhdx_create(const struct vhdx_files *files, const char *path, const char *parent,
                         const struct vhdx_create_cfg *cfg, const struct vhdx_progress *progress,
                         struct errbuf *eb);

/*
 * vhdx_format() - write an empty disk into @file, whose content is lost.
 * @cfg: complete (no defaults), kind not VHDX_DIFFERENCING.
 * Returns as vhdx_create(). After a failure or crash the file is no VHDX.
 */
MUST_USE int vhdx_format(struct blk *file, const struct vhdx_create_cfg *cfg,
                         const struct vhdx_progress *progress, struct errbuf *eb);

/* What a file says of itself, read without its parents and without replaying its log. */
struct vhdx_show {
	struct vhdx_stat stat; /* present_count is of before the replay if log_dirty */
	bool log_dirty;        /* it was not closed cleanly */
	struct guid file_write;
	struct guid parent_linkage; /* nil: no parent */
	char parent_path[4096];     /* relative, with slashes, or else absolute; "" = no parent */
	char creator[257];          /* who made it; what is not ASCII is '?' */
};

/* vhdx_show() - Returns as vhdx_open(); -EBUSY somebody writes to it. *out is large. */
MUST_USE int vhdx_show(const struct vhdx_files *files, const char *path, struct vhdx_show *out,
                       struct errbuf *eb);

enum vhdx_finding {
	VHDX_NOTE,       /* no harm: space that nothing uses, meaningless entries */
	VHDX_REPAIRED,   /* was wrong, is right */
	VHDX_REPAIRABLE, /* is wrong, would be repaired */
	VHDX_DAMAGED     /* is wrong; only a backup helps */
};

struct vhdx_check_cfg {
	bool repair; /* replay the log, restore copies of headers and region tables */
	/* Called for each finding, the file not named; text borrowed for the call. NULL: no. */
	void (*found)(enum vhdx_finding finding, const char *text, void *arg);
	void *arg;
	struct vhdx_progress progress;
};

struct vhdx_check_result {
	uint32_t notes;
	uint32_t repaired;
	uint32_t repairable;
	uint32_t damaged;
	uint64_t unused_bytes; /* of the file: in no block or region */
};

#define VHDX_FINDINGS_MAX 100u /* told; the rest is counted */

/*
 * vhdx_check() - look at every structure of the disk at @path (not of its parents).
 * Returns 0 whatever was found, if it could be looked at all; -EBADMSG nothing of it can be read;
 * -ENOENT, -EBUSY, -EIO, -ENOMEM.
 */
MUST_USE int vhdx_check(const struct vhdx_files *files, const char *path,
                        const struct vhdx_check_cfg *cfg, struct vhdx_check_result *out,
                        struct errbuf *eb);

struct vhdx_resize_cfg {
	uint64_t size_bytes;
	bool discard; /* shrink even if there is data beyond the new end, which is lost */
	struct vhdx_progress progress;
};

/*
 * vhdx_resize() - another size, for a disk of any kind. What is added reads as zeros.
 * Returns 0; -EINVAL size; -ENOTEMPTY blocks beyond the new end have data (the text says where
 * the last one ends); -ENOTSUP the file cannot grow; -ENOSPC; as vhdx_open().
 * Children of this disk cannot be opened on it any more.
 */
MUST_USE int vhdx_resize(const struct vhdx_files *files, const char *path,
                         const struct vhdx_resize_cfg *cfg, struct errbuf *eb);

enum vhdx_format { VHDX_FORMAT_DETECT, VHDX_FORMAT_RAW, VHDX_FORMAT_VHDX };

struct vhdx_convert_cfg {
	enum vhdx_format from; /* VHDX_FORMAT_DETECT: by the file identifier */
	enum vhdx_format to;
	/* To VHDX: as vhdx_create(), but not differencing; size of the source, and its sectors if
	 * it is a VHDX. */
	struct vhdx_create_cfg create;
	struct vhdx_progress progress;
};

/*
 * vhdx_convert() - copy a disk, with all its parents, into a new file of another format or kind.
 * Zeros are not copied. Returns 0; as vhdx_create() and vhdx_open(). On failure the new file is
 * removed.
 */
MUST_USE int vhdx_convert(const struct vhdx_files *files, const char *from, const char *to,
                          const struct vhdx_convert_cfg *cfg, struct errbuf *eb);

/*
 * vhdx_merge() - write what a differencing disk has over its parent into the parent, which then
 * holds what the child shows. The child remains, and can be removed then.
 * After a crash or failure the child still shows the same; merge again. Other children of the
 * parent cannot be opened any more from the moment this starts.
 * Returns 0; -EINVAL it has no parent; -EBUSY; -ENOSPC; as vhdx_open().
 */
MUST_USE int vhdx_merge(const struct vhdx_files *files, const char *path,
                        const struct vhdx_progress *progress, struct errbuf *eb);

#endif
