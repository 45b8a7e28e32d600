/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DEPLOY_LAB_GUEST_AGENT_SAY_H
#define DEPLOY_LAB_GUEST_AGENT_SAY_H

/*
 * say - lines for whoever watches the guest.
 *
 * Every line begins with "gwguest: ", so that it is found among the kernel's own on the console,
 * and is one write, so that lines of several threads do not mix.
 */

#include <stdint.h>

#include "base/attr.h"

#define SAY_LINE_MAX 512U

/* say() - one line to descriptor @fd; the newline is added. */
void say(int fd, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* now_ns() - CLOCK_MONOTONIC [ns]. */
uint64_t now_ns(void);

/* sleep_ns() - about so long. */
void sleep_ns(uint64_t ns);

#endif
