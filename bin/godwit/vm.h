/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BIN_GODWIT_VM_H
#define BIN_GODWIT_VM_H

/* vm - `godwit vm ...`, in three files: vm.c, vm_define.c (create, set), vm_console.c. */

#include "bin/godwit/godwit.h"

int vm_create_run(const struct cli_call *call, void *arg);
int vm_set_run(const struct cli_call *call, void *arg);
int vm_console_run(const struct cli_call *call, void *arg);
int vm_move_run(const struct cli_call *call, void *arg);

extern const struct cli_opt vm_create_opts[];
extern const struct cli_opt vm_set_opts[];
extern const struct cli_opt vm_move_opts[];

#endif
