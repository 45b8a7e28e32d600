/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DEPLOY_LAB_GUEST_AGENT_MEMLOAD_H
#define DEPLOY_LAB_GUEST_AGENT_MEMLOAD_H

/*
 * memload - memory that is filled, kept dirty at a rate, and checked.
 *
 *	mem start size=64M [rate=0] [set=size] [zero=0] [seed=1]
 *	mem check          every page against what was written last
 *	mem stop
 *
 * Pages within the first @set bytes are rewritten in a random order, @rate bytes a second; @zero
 * percent of the pages are never written. One thread; check stops it for as long as it looks.
 */

#include "deploy/lab/guest-agent/args.h"

struct memload;

/* Caller's one memload; destroy(NULL) is fine. Returns NULL without memory. */
struct memload *memload_create(void);
void memload_destroy(struct memload *m);

/* memload_command() - "mem ..."; answers on @fd. Returns 0; -errno: refused, and nothing said. */
MUST_USE int memload_command(struct memload *m, const struct args *a, int fd);

#endif
