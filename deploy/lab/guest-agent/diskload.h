/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DEPLOY_LAB_GUEST_AGENT_DISKLOAD_H
#define DEPLOY_LAB_GUEST_AGENT_DISKLOAD_H

/*
 * diskload - a disk that is written, verified, and kept busy. O_DIRECT throughout, 4 KiB blocks.
 *
 *	disk write dev=sda [offset=0] [size=16M] [seed=1] [generation=1]
 *	disk verify dev=sda ...the same...      also after a restart, or in another guest
 *	disk load dev=sda [offset] [size] [seed] [rate=0]    rate [writes/s], 0: without a pause
 *	disk load dev=sda [offset] [size] [seed] [rate=0]    rate [writes/s], 0: no pause
 *	disk stop
 *
 * The load writes random blocks, each with its next generation, and waits for each. A block whose
 * write failed may be old or new, never anything else.
 */

#include "deploy/lab/guest-agent/args.h"

struct diskload;

/* Caller's one diskload; destroy(NULL) is fine. Returns NULL without memory. */
struct diskload *diskload_create(void);
void diskload_destroy(struct diskload *d);

/* diskload_command() - "disk ..."; answers on @fd. Returns 0; -errno: refused, and nothing said. */
MUST_USE int diskload_command(struct diskload *d, const struct args *a, int fd);

#endif
