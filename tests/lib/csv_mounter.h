/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_LIB_CSV_MOUNTER_H
#define TESTS_LIB_CSV_MOUNTER_H

/* csv_mounter - a process that has a volume for itself and mounts it: csv/mount on csv/local. */

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"

struct csv_mounter_cfg {
	const char *device;
	const char *path;
	bool alone;   /* csv_mount_cfg.alone */
	int ready_fd; /* gets "mounted\n"; -1 = none */
};

/* csv_mounter_run() - mount, and serve until SIGTERM, SIGINT or an unmount from outside.
 * Returns 0 or -errno; says why on stderr. */
MUST_USE int csv_mounter_run(const struct csv_mounter_cfg *cfg);

#endif
