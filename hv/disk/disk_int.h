/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_DISK_DISK_INT_H
#define HV_DISK_DISK_INT_H

/* Private to hv/disk. */

#include "hv/disk/disk.h"
#include "hv/vhdx/vhdx_tool.h"

struct uring;

/* One operation. */
struct disk_call {
	struct uring *ring; /* owned by disk_run() */
	struct vhdx_files files;
	struct vhdx_progress progress;
	struct json_at at; /* the request */
	const char *path;  /* borrowed from it */
};

enum disk_format { DISK_RAW, DISK_VHDX };

/* disk_format_named() - what a file of that name is. */
enum disk_format disk_format_named(const char *path);

/*
 * disk_format_of() - what the file at @path is: as named, unless the content belies it.
 * Returns 0; -EINVAL a VHDX by content with another name; -ENOENT; -errno.
 */
MUST_USE int disk_format_of(const char *path, enum disk_format *out, struct errbuf *eb);

/* disk_path_get() - member @key as an absolute path. @optional: *out = NULL if it is not there. */
MUST_USE int disk_path_get(const struct json_at *at, const char *key, bool optional,
                           const char **out, struct errbuf *eb);

/* disk_show_of() - the result of show, for the image at @path. */
MUST_USE int disk_show_of(const struct disk_call *call, const char *path, json_t **out,
                          struct errbuf *eb);

/* The operations; *out is NULL when they are called. */
MUST_USE int disk_create(const struct disk_call *call, json_t **out, struct errbuf *eb);
MUST_USE int disk_check(const struct disk_call *call, json_t **out, struct errbuf *eb);
MUST_USE int disk_resize(const struct disk_call *call, json_t **out, struct errbuf *eb);
MUST_USE int disk_convert(const struct disk_call *call, json_t **out, struct errbuf *eb);
MUST_USE int disk_merge(const struct disk_call *call, json_t **out, struct errbuf *eb);

#endif
