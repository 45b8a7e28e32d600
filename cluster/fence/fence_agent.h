/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLUSTER_FENCE_FENCE_AGENT_H
#define CLUSTER_FENCE_FENCE_AGENT_H

/*
 * fence_agent - power devices, through the programs of the package fence-agents as they are.
 *
 * An agent reads "key=value" lines from its standard input and is asked for an action; the exit
 * status of "status" is 0 for on and 2 for off. We do not believe "off": we ask for the status
 * until it says off, for a proof is what was read back.
 *
 * Threads: any; blocks. One thread per device, so that one that hangs holds up nobody.
 */

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"

struct errbuf;

#define FENCE_AGENT_NAME_MAX 64u
#define FENCE_AGENT_OPTIONS_MAX 2048u /* bytes of all options of a device */
#define FENCE_AGENT_DIR "/usr/sbin"

struct fence_agent {
	const char *dir;  /* FENCE_AGENT_DIR; tests have their own */
	const char *name; /* "fence_ipmilan" */
	const char
		*options; /* "key=value\n"...; may hold a password: never logged, never in argv */
	uint64_t timeout_ns; /* for all that one call below does */
	uint64_t poll_ns;    /* between two questions for the status */
	/* Set by another thread: nothing is wanted of the device any more; NULL = nobody does. */
	const atomic_bool *stop;
};

enum fence_power { FENCE_POWER_ON, FENCE_POWER_OFF };

/*
 * fence_agent_check() - are name and options well-formed? (Whether they work, fence_agent_status()
 * tells.) Returns 0; -EINVAL.
 */
MUST_USE int fence_agent_check(const struct fence_agent *agent, struct errbuf *eb);

/* fence_agent_scrub() - no value of @options, "key=value" lines, is left in @text, nor the start of
 * one at its end, where it may have been cut. Values of one or two bytes stay: any text may have
 * them. */
void fence_agent_scrub(const char *options, char *text);

/*
 * fence_agent_status() - is the node's power on?
 * Returns 0; -EINVAL as above; -ENOENT no such agent; -EIO it says that it failed; -ETIMEDOUT;
 * -ECANCELED stopped; -errno it cannot be started.
 */
MUST_USE int fence_agent_status(const struct fence_agent *agent, enum fence_power *out,
                                struct errbuf *eb);

/*
 * fence_agent_off() - switch off, and read back that it is off.
 * Returns 0: it is off; -EBUSY it was asked to, but its status is on until the timeout; else as
 * fence_agent_status().
 */
MUST_USE int fence_agent_off(const struct fence_agent *agent, struct errbuf *eb);

#endif
