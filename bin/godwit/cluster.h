/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BIN_GODWIT_CLUSTER_H
#define BIN_GODWIT_CLUSTER_H

/* cluster - `godwit cluster ...`, in two files: cluster.c, cluster_backup.c. */

#include "bin/godwit/godwit.h"

int cluster_backup_run(const struct cli_call *call, void *arg);
int cluster_restore_run(const struct cli_call *call, void *arg);

extern const struct cli_opt cluster_restore_opts[];

#endif
