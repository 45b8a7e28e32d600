/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_RUN_H
#define BASE_RUN_H

/* run - start another program, take what it says, and never wait longer than a deadline. */

#include <stdatomic.h>
#include <stdbool.h>
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

/* What a program is given, beside its arguments. All borrowed for the call. */
struct run_input {
	const void *bytes; /* [len]: its standard input */
	size_t len;
	const atomic_bool *stop; /* set by another thread: do not wait any longer; NULL = nobody */
};

/*
 * run_capture_stop() - as run_capture_input(), and it can be stopped from outside: within a tenth
 * of a second its process group is killed.
 * Returns as run_capture_input(); -ECANCELED it was stopped.
 */
MUST_USE int run_capture_stop(const char *const argv[], const struct run_input *input,
                              uint64_t timeout_ns, char *buf, size_t len);

#endif
