/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_MANAGER_SPAWN_DISKS_H
#define HV_MANAGER_SPAWN_DISKS_H

/* spawn_disks - the files of a VM's disks, opened for its worker. */

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "hv/config/vm_config.h"

struct errbuf;

#define SPAWN_DISK_FILES_MAX 384u /* of all disks and their parents */

struct spawn_disks {
	uint32_t files[VM_DISKS_MAX]; /* of each disk: its own, then its parents */
	uint32_t count;               /* of all */
	int direct[VM_DISKS_MAX]; /* of each disk: shared_direct_connect(); -1 = none; theirs too */
	int fds[SPAWN_DISK_FILES_MAX]; /* disk after disk; the caller's */
};

/* I/O of the worker's own on shared volumes (base/shared_direct.h). */
struct spawn_direct {
	const char *socket; /* of the volumes' service; borrowed for the call; NULL = none */
	bool guarded;       /* the worker ends with the lease of this node */
};

/*
 * spawn_disks_open() - open them, close-on-exec; locked for the worker from now on, those of a VM
 * that is @arriving not yet. Storage that does not answer is waited for only as long as a service's
 * loop may stand still; what is opened later is closed then.
 * Returns 0; -ETIMEDOUT; -EBUSY, -ENOENT, ... of a file, with a text that names it; -EMFILE.
 */
MUST_USE int spawn_disks_open(const struct vm_config *c, bool arriving,
                              const struct spawn_direct *direct, struct spawn_disks *out,
                              struct errbuf *eb);

#endif
