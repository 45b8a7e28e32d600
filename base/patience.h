/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_PATIENCE_H
#define BASE_PATIENCE_H

/*
 * patience - a function that may hang, called from a thread that must not: file systems on the
 * network, or on a shared volume without a coordinator, let open(2) and even stat(2) wait, at
 * worst for what only the waiting thread could do.
 *
 * The function runs on a thread of its own. If it does not end in time it is left to itself, with
 * all that it uses. Any thread may call. As long as one is left to itself, the next ones are waited
 * for a moment only: who is told to open a hundred images of a file system that hangs stands still
 * once, not a hundred times. No more than PATIENCE_LEFT_MAX are left.
 */

#include <stdint.h>

#include "base/attr.h"

struct errbuf;

#define PATIENCE_NS 2000000000ull      /* that a service's loop may stand still, once */
#define PATIENCE_SHORT_NS 100000000ull /* while something is left to itself */
#define PATIENCE_LEFT_MAX 16u

/*
 * patience_run() - call @fn(@arg) and wait for its end, at most @limit_ns (PATIENCE_SHORT_NS while
 * others are left to themselves).
 * @arg: if this returns 0 it is the caller's again. With -ETIMEDOUT it is not: @drop(@arg) is
 * called when @fn has ended, on its thread. Otherwise neither was called.
 * Returns 0; -ETIMEDOUT; -EBUSY too many are left to themselves; -EAGAIN, -ENOMEM no thread.
 */
MUST_USE int patience_run(void (*fn)(void *arg), void (*drop)(void *arg), void *arg,
                          uint64_t limit_ns);

/*
 * patience_stat() - is there something at @path? Waits PATIENCE_NS at most.
 * Returns 0; -errno of stat(2), -ETIMEDOUT (also if too much hangs to look at all), -ENOMEM, with a
 * text that names the path.
 */
MUST_USE int patience_stat(const char *path, struct errbuf *eb);

/* patience_file() - as patience_stat(); -EISDIR if it is a folder. */
MUST_USE int patience_file(const char *path, struct errbuf *eb);

#endif
