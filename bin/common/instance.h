/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BIN_COMMON_INSTANCE_H
#define BIN_COMMON_INSTANCE_H

/*
 * instance - at most one process of a kind per directory.
 *
 * The lock belongs to the open file, so the kernel lets go of it however the process ends; the
 * pid in the file is for people. The file stays: removing it would let two processes lock two
 * files of the same name.
 */

#include "base/attr.h"

struct errbuf;

/*
 * instance_lock() - be the only @name in @dir; DIR/NAME.lock then holds our pid.
 * @out: a descriptor; closing it gives the lock back.
 * Returns 0; -EBUSY another one runs (its pid is in the text); -errno.
 */
MUST_USE int instance_lock(const char *dir, const char *name, int *out, struct errbuf *eb);

#endif
