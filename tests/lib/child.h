/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_LIB_CHILD_H
#define TESTS_LIB_CHILD_H

/* child - run a part of a test in its own process: what it does to the process stays there. */

#include <stddef.h>

#define CHILD_TEXT_MAX 16384

struct child {
	int exit_status;           /* -1 if a signal ended it */
	int signo;                 /* that signal, or 0 */
	char text[CHILD_TEXT_MAX]; /* what it wrote to stderr, cut; NUL terminated */
};

/* @arg: borrowed. Returns the exit status of the child. No cmocka assertions in it. */
typedef int (*child_fn)(void *arg);

/* child_run() - fork, run @fn, wait for its end. Returns 0; -errno of pipe or fork. */
int child_run(child_fn fn, void *arg, struct child *out);

#endif
