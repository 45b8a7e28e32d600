/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_PROC_H
#define BASE_PROC_H

/* proc - which process a number means. */

#include <stdint.h>

/*
 * proc_start() - when process @pid began [clock ticks since boot]: number and start never repeat
 * together. Returns 0: there is no such process.
 * Context: any; no memory, no lock: also after a fork.
 */
uint64_t proc_start(int pid);

#endif
