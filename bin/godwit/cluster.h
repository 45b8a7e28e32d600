/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BIN_GODWIT_CLUSTER_H
#define BIN_GODWIT_CLUSTER_H

/* cluster - `godwit cluster ...`, in four files: cluster.c, cluster_backup.c, cluster_check.c,
 * cluster_set.c. */

#include "bin/godwit/godwit.h"

int cluster_backup_run(const struct cli_call *call, void *arg);
int cluster_restore_run(const struct cli_call *call, void *arg);
int cluster_check_run(const struct cli_call *call, void *arg);
int cluster_upgrade_run(const struct cli_call *call, void *arg);
int cluster_set_run(const struct cli_call *call, void *arg);

extern const struct cli_opt cluster_restore_opts[];
extern const struct cli_opt cluster_set_opts[];

/* simulate.c */
int cluster_simulate_run(const struct cli_call *call, void *arg);
extern const struct cli_opt cluster_simulate_opts[];

#endif
