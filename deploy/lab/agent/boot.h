/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DEPLOY_LAB_AGENT_BOOT_H
#define DEPLOY_LAB_AGENT_BOOT_H

/*
 * boot - from the kernel's first process to a node's root file system.
 *
 * The initial RAM disk holds the agent, /lab.conf and the few modules that reach the two disks
 * of a node: the host's / over 9p (read-only, the lower layer) and the node's private disk (the
 * upper layer). Everything else is loaded from the lower layer later. No shell, no busybox: a
 * process under emulation costs tens of milliseconds.
 */

#include <stdbool.h>

#include "base/attr.h"

#define BOOT_TEXT_MAX 512U

/* What the controller wrote into /lab.conf; the first two from the kernel command line. */
struct boot_conf {
	bool emulated;               /* the processor: it loses interrupts, and vectors are slow */
	char node[16];               /* 1.. */
	char nodes[16];              /* how many there are */
	char source[BOOT_TEXT_MAX];  /* the project's tree: fresh, not cached, at the same path */
	char build[BOOT_TEXT_MAX];   /* the build tree */
	char build_tag[16];          /* its own 9p share, if it lies outside of the source */
	char modules[BOOT_TEXT_MAX]; /* lib/modules of the kernel cache, on the host */
	char luns[BOOT_TEXT_MAX];    /* names, separated by blanks */
};

/* boot_say() - a line on the node's console (kernel log). */
void boot_say(const char *fmt, ...) PRINTF_LIKE(1, 2);

/*
 * boot_root() - mount everything and make it the root; says on the console what failed.
 * Returns 0; -errno: of the step that failed (the node cannot be used).
 */
MUST_USE int boot_root(struct boot_conf *conf);

#endif
