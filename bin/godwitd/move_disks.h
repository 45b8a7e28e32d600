/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BIN_GODWITD_MOVE_DISKS_H
#define BIN_GODWITD_MOVE_DISKS_H

/*
 * move_disks - is what two nodes see under a path the same disk? A copy would do for the opening,
 * and the guest would go on with a disk that it never wrote.
 *
 * Files: the source leaves an empty file of a name that nobody knows beside each; a destination
 * that sees it sees the same folder. Devices: what the storage calls them, and their size. What of
 * these cannot be had is taken for different.
 *
 * Blocks as long as the file systems do. Thread: the loop's.
 */

#include "base/attr.h"
#include "base/guid.h"
#include "base/json.h"

struct compat;
struct errbuf;
struct vm_config;

/*
 * move_disks_mark() - leave marks, describe the disks: {"disks": [{"path", "kind", "id"}]}, a new
 * reference. Returns 0; -ENOMEM; -errno, then no marks are left.
 */
MUST_USE int move_disks_mark(const struct vm_config *vm, const struct guid *move, json_t **out,
                             struct errbuf *eb);

/* move_disks_unmark() - take the marks away; NULL does nothing. */
void move_disks_unmark(const struct vm_config *vm, const struct guid *move);

/* move_disks_check() - compare with what is here. @marks: the source's, hostile. */
void move_disks_check(const struct vm_config *vm, const struct guid *move, const json_t *marks,
                      struct compat *report);

#endif
