/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BIN_GODWIT_VM_GODWIT_VM_H
#define BIN_GODWIT_VM_GODWIT_VM_H

/* godwit-vm - the worker: one process is one partition. */

#include "base/cli/cli.h"

/* Options and manual of godwit-vm; runs the worker. */
extern const struct cli_app godwit_vm_app;

#endif
