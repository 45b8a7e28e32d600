/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_SWITCH_DHCP_H
#define HV_SWITCH_DHCP_H

/*
 * dhcp - one dnsmasq(8): addresses and names for the guests of a NAT switch.
 *
 * It outlives the node service, as the guests do: a service that starts finds the one that runs
 * with our configuration and goes on watching it, or ends it if the configuration has changed. If
 * it dies it is started again, at once the first time, then with growing pauses up to
 * DHCP_PAUSE_MAX_NS. Thread: the loop's.
 */

#include <stdint.h>
#include <sys/types.h>

#include "base/attr.h"

struct dhcp;
struct errbuf;
struct loop;

#define DHCP_PAUSE_MAX_NS (30ull * 1000 * 1000 * 1000)
#define DHCP_HEALTHY_NS (60ull * 1000 * 1000 * 1000) /* ran that long: the pauses begin anew */

struct dhcp_cfg {
	struct loop *loop;  /* borrowed until the end */
	const char *dir;    /* of our own, exists: dnsmasq.conf, .pid, .err; copied */
	const char *config; /* what dnsmasq.conf is to say; borrowed for the call */
	/* It ended although nobody asked: @why. Once for each end. */
	void (*died)(void *arg, const char *why);
	void *arg;
};

/*
 * dhcp_start() - adopt or start it.
 * Returns 0; -ENOENT dnsmasq is not installed; -ENOMEM; -errno.
 */
MUST_USE int dhcp_start(const struct dhcp_cfg *cfg, struct dhcp **out, struct errbuf *eb);

/* dhcp_stop() - end it and wait for that, at most some seconds; remove its files. Frees.
 * dhcp_release() - let it go on without us. Frees. NULL is fine. */
void dhcp_stop(struct dhcp *d);
void dhcp_release(struct dhcp *d);

/* dhcp_pid() - 0 = it does not run now. dhcp_restarts() - how often it died. dhcp_error() - why
 * the last time, "" = never; lives as long as @d. */
pid_t dhcp_pid(const struct dhcp *d);
uint32_t dhcp_restarts(const struct dhcp *d);
const char *dhcp_error(const struct dhcp *d);

#endif
