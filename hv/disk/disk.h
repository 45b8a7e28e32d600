/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_DISK_DISK_H
#define HV_DISK_DISK_H

/*
 * disk - what `godwit disk` does: an operation on a disk image of this host, from JSON to JSON.
 *
 * Formats are told by the file's name, never by its content alone: what a guest writes into a raw
 * disk must not turn it into a VHDX with parents of the guest's choice. New files are made under
 * another name (.NAME.partial) and get theirs when they are whole and durable, so whatever
 * interrupts, there is no half disk. Images in use are refused (locks of hv/raw).
 * Requests and results: docs/formats/disk.md.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/json.h"

struct errbuf;

#define DISK_PATH_MAX 1023u

enum disk_op {
	DISK_SHOW,
	DISK_CREATE,
	DISK_CHECK,
	DISK_RESIZE,
	DISK_CONVERT,
	DISK_MERGE,
	DISK_OP_COUNT
};

/* disk_op_name() - "show", "create", ... */
const char *disk_op_name(enum disk_op op);

/*
 * Told how far a long operation is, from the thread that runs it. Returns false to stop it
 * (-ECANCELED): then what was to be made is not there, and what was to be changed is as it was or
 * can be changed again.
 */
typedef bool (*disk_progress_fn)(uint64_t done, uint64_t total, void *arg);

/*
 * disk_run() - carry @op out as @request says.
 * @progress: NULL = nobody wants to know. @out: the result, a new reference; NULL on failure.
 * Returns 0; -EINVAL the request makes no sense; -ENOENT; -EEXIST; -EBUSY in use; -EBADMSG the
 * image is damaged; -ENOTEMPTY data would be lost; -ENOSPC; -ECANCELED; -errno.
 * Context: any thread; blocks on the disk for as long as it takes.
 */
MUST_USE int disk_run(enum disk_op op, const json_t *request, disk_progress_fn progress, void *arg,
                      json_t **out, struct errbuf *eb);

#endif
