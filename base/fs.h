/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_FS_H
#define BASE_FS_H

/*
 * fs - small files of our own: configuration, state, keys. Whole files at once, with a limit when
 * reading and with nothing but the old or the new content after a crash when writing. For /proc
 * and /sys use base/hostfs.h, for disks base/blk.h. Any thread; all block on the disk.
 */

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/attr.h"

struct errbuf;

/*
 * fs_read() - the content of a regular file.
 * @out: owned by the caller, free(); a NUL follows the @len bytes.
 * Returns 0; -EFBIG more than @bytes_max; -EINVAL not a regular file; -ENOMEM; -errno. Then *out
 * is NULL.
 */
MUST_USE int fs_read(const char *path, size_t bytes_max, char **out, size_t *len,
                     struct errbuf *eb);

/*
 * fs_write() - replace the file at @path by @data[len], durably: written beside it, synced,
 * renamed, the folder synced. A link at @path is replaced, not followed.
 * @mode: of the file, whatever the umask, and whatever an older one had.
 * Returns 0; -errno, and the old file is as it was (after a failed last sync: old or new).
 */
MUST_USE int fs_write(const char *path, const void *data, size_t len, mode_t mode,
                      struct errbuf *eb);

/*
 * fs_may_wait() - is it a file of FUSE? The kernel (6.18) waits inside the submission of a write
 * to it while another one is under way, in spite of io_uring.
 */
bool fs_may_wait(int fd);

/*
 * fs_mkdirs() - make the folder @path and those above it. Those that exist stay as they are.
 * @mode: of the new ones, less the umask.
 * Returns 0 also if it exists; -ENOTDIR something else is there; -ENAMETOOLONG; -errno.
 */
MUST_USE int fs_mkdirs(const char *path, mode_t mode, struct errbuf *eb);

/* fs_sync_dir() - make what was created, renamed or removed in a folder durable.
 * Returns 0; -errno. */
MUST_USE int fs_sync_dir(const char *path, struct errbuf *eb);

#endif
