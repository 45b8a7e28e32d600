/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

/* clock - the time, at the edge. Pure cores never include this: they get time as an argument. */

#include <stdint.h>

#define NS_PER_US 1000ull
#define NS_PER_MS 1000000ull
#define NS_PER_S 1000000000ull

/* clock_now_ns() - CLOCK_MONOTONIC [ns]. Any thread. */
uint64_t clock_now_ns(void);

/* clock_boot_ns() - CLOCK_BOOTTIME [ns]: as above, and goes on while the machine is suspended. For
 * leases. */
uint64_t clock_boot_ns(void);

/* clock_wall_ns() - CLOCK_REALTIME [ns since 1970]. For people and records, never for deadlines. */
uint64_t clock_wall_ns(void);

#endif
