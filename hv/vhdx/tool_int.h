/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_VHDX_TOOL_INT_H
#define HV_VHDX_TOOL_INT_H

/* tool_int - what the tools share. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "hv/vhdx/format_int.h"
#include "hv/vhdx/vhdx_tool.h"

/* vhdx_tool_progress() - tell how far it is. Returns 0; -ECANCELED. */
MUST_USE int vhdx_tool_progress(const struct vhdx_progress *progress, uint64_t done,
                                uint64_t total);

/* vhdx_format_with() - as vhdx_format(), any kind; @locator for VHDX_DIFFERENCING, else NULL. */
MUST_USE int vhdx_format_with(struct blk *file, const struct vhdx_create_cfg *cfg,
                              const struct vhdx_locator *locator,
                              const struct vhdx_progress *progress, struct errbuf *eb);

struct vhdx;
struct vhdx_locator;

/* A disk opened as the tools see it: its file only, no parent, no I/O to it. */
struct vhdx_tool {
	struct blk *file; /* owned */
	struct vhdx *v;   /* owned; loaded, with its BAT if asked for */
};

/*
 * vhdx_tool_open() - open @path and load its structures.
 * @ignore_log: do not replay it; what is read may be stale.
 * Returns as vhdx_open(). On failure nothing is open.
 */
MUST_USE int vhdx_tool_open(struct vhdx_tool *t, const struct vhdx_files *files, const char *path,
                            bool read_only, bool ignore_log, struct errbuf *eb);

/* vhdx_tool_close() - Returns the file's error. */
MUST_USE int vhdx_tool_close(struct vhdx_tool *t, struct errbuf *eb);

#define VHDX_TXN_PAGES_MAX 64u /* two region tables and some more; fits any log */

/* Changes of 4 KiB pages of metadata that happen together or not at all. */
struct vhdx_txn {
	struct vhdx *v;
	uint32_t count;
	struct vhdx_log_page page[VHDX_TXN_PAGES_MAX];
	uint8_t *data; /* owned; VHDX_TXN_PAGES_MAX pages */
};

MUST_USE int vhdx_txn_init(struct vhdx_txn *txn, struct vhdx *v, struct errbuf *eb);
void vhdx_txn_fini(struct vhdx_txn *txn);

/* vhdx_txn_edit() - @len bytes at @offset of the file become @buf; reads what is around them.
 * Returns 0; -EIO; -E2BIG too many pages. */
MUST_USE int vhdx_txn_edit(struct vhdx_txn *txn, uint64_t offset, const void *buf, size_t len,
                           struct errbuf *eb);

/*
 * vhdx_txn_commit() - through the log: entry, header, pages in place, header.
 * @data_write: the disk's new data write GUID, if its content changes with it; or NULL.
 * Returns 0; -EIO: the log will be replayed if the entry was whole.
 */
MUST_USE int vhdx_txn_commit(struct vhdx_txn *txn, const struct guid *data_write,
                             struct errbuf *eb);

/* vhdx_tool_resize() - vhdx_resize() that gives the disk the data write GUID @data_write. */
MUST_USE int vhdx_tool_resize(const struct vhdx_files *files, const char *path,
                              const struct vhdx_resize_cfg *cfg, const struct guid *data_write,
                              struct errbuf *eb);

/*
 * vhdx_tool_parent() - the path of the parent that @locator of the disk at @path names: the first
 * that can be opened. @out[VHDX_PATH_MAX].
 * Returns 0; -ENOENT; -errno of opening it.
 */
MUST_USE int vhdx_tool_parent(const struct vhdx_files *files, const char *path,
                              const struct vhdx_locator *locator, char *out, struct errbuf *eb);

/*
 * vhdx_tool_copy() - what @from holds but zeros to @to, which is all zero, as far as both go.
 * Returns 0; -ECANCELED; -errno.
 */
MUST_USE int vhdx_tool_copy(struct blk *from, struct blk *to, const struct vhdx_progress *progress,
                            struct errbuf *eb);

#endif
