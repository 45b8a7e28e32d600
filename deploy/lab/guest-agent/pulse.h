/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DEPLOY_LAB_GUEST_AGENT_PULSE_H
#define DEPLOY_LAB_GUEST_AGENT_PULSE_H

/*
 * pulse - how long the guest stood still, as it noticed itself.
 *
 *	pulse              the longest gap between two wake-ups of a 2 ms timer since the
 *	                   last pulse; the timer begins with the first, or with a tick
 *	tick ms=100        also a line on the console that often; ms=0 ends it
 */

#include "deploy/lab/guest-agent/args.h"

struct pulse;

/* Returns NULL without memory. */
struct pulse *pulse_create(void);

/* pulse_command() - "pulse" or "tick"; answers on @fd. Returns 0; -errno: refused. */
MUST_USE int pulse_command(struct pulse *p, const struct args *a, int fd);

#endif
