/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DEPLOY_LAB_GUEST_AGENT_START_H
#define DEPLOY_LAB_GUEST_AGENT_START_H

/*
 * start - what a kernel needs before it is of use: mounts, modules, addresses.
 */

#include <stddef.h>

#include "base/attr.h"

/* start_mounts() - /proc, /sys, /dev, /dev/pts, /tmp. */
void start_mounts(void);

/*
 * start_modules() - load what /modules/order lists; a module without its hardware is skipped.
 */
void start_modules(void);

/*
 * start_option() - the value of gw.@key= on the kernel command line; quotes are the kernel's.
 * Returns 0; -ENOENT.
 */
MUST_USE int start_option(const char *key, char *value, size_t size);

/*
 * start_network() - give the first Ethernet device the address "a.b.c.d/n", the second the one
 * after the comma, and so on; waits a few seconds for each device.
 * Returns 0; -EINVAL no address; -ENODEV no such device; -errno.
 */
MUST_USE int start_network(const char *addresses);

#endif
