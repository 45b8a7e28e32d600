/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_WORKER_SANDBOX_H
#define HV_WORKER_SANDBOX_H

/*
 * sandbox - take everything from the worker's process that it does not need.
 *
 * Two steps. sandbox_enter() right after the start, before anything of a guest is looked at: own
 * network, IPC, mount and host name spaces, an empty root directory, an unprivileged user, no
 * capabilities, no new privileges. sandbox_seal() when all descriptors are there and before the
 * guest runs: only the system calls of a running VM. What is refused answers EPERM and is logged
 * by the kernel's audit. docs/decisions/0080 has the list and the reasons.
 */

#include <stdint.h>

#include "base/attr.h"

struct errbuf;

struct sandbox_cfg {
	int root_fd;  /* an empty directory to be the root; -1 = keep the root */
	uint32_t uid; /* 0 = keep the user (tests without privileges) */
	uint32_t gid;
};

/* Returns 0; -errno with the step named. Main thread, before any other thread exists. */
MUST_USE int sandbox_enter(const struct sandbox_cfg *cfg, struct errbuf *eb);

/* Returns 0; -errno. Threads made later inherit it. */
MUST_USE int sandbox_seal(struct errbuf *eb);

#endif
