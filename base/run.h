/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_RUN_H
#define BASE_RUN_H

/* run - start another program, take what it says, and never wait longer than a deadline. */

#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"

/*
 * run_capture() - run @argv (NULL-terminated; argv[0] is an absolute path) and wait for its end.
 * Its standard input is /dev/null, its environment PATH and LC_ALL=C only. What it writes to
 * standard output and error goes to @buf[len], cut, NUL terminated. At the deadline its whole
 * process group is killed; a child that leaves the group and keeps the output open is not waited
 * for.
 * Returns its exit status 0..255; -EINTR a signal ended it; -ETIMEDOUT; -ENOENT, -EACCES it cannot
 * be started; -errno.
 * Context: any thread; blocks for at most @timeout_ns [ns].
 */
MUST_USE int run_capture(const char *const argv[], uint64_t timeout_ns, char *buf, size_t len);

/*
 * run_capture_input() - as run_capture(), with @input[input_len] as standard input. Secrets go this
 * way: arguments can be read by everybody.
 * Returns as run_capture(); -ENOMEM, -EMFILE no room for the input.
 */
MUST_USE int run_capture_input(const char *const argv[], const void *input, size_t input_len,
                               uint64_t timeout_ns, char *buf, size_t len);

#endif
