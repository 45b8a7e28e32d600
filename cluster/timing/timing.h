/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLUSTER_TIMING_TIMING_H
#define CLUSTER_TIMING_TIMING_H

/*
 * timing - every delay on which safety or speed of a failover rests, from one formula.
 *
 * A cluster has one struct timing_cfg, committed in its database. timing_init() derives all other
 * times from it and refuses a configuration in which they contradict each other; nobody else may
 * compute with the members of timing_cfg. It is called when a node starts and before a change is
 * committed. timing_check_node() then compares what a node really has (its watchdog, its clock).
 *
 * All on one line, counted from s, the moment *before* the holder sent its last good renewal:
 *
 *   s        warn    pause       kill    lease          expire        + inflight
 *   |---------|--------|----------|--------|---------------|-------------|
 *   holder:   0.5 L    0.6 L      0.8 L    L               |             |
 *             no new   vCPUs      workers  reset by the    |             |
 *             work     stand      are      watchdog, last  |             |
 *                      still      killed   petted before   |             |
 *                                          L - W           |             |
 *   observer:  (counts from when it learned of that renewal) declares it  its writes are
 *              later than s                                  over         on the disk or lost
 *
 * expire = L (1 + rho) / (1 - rho) + margin: the holder's clock may be slow and the observer's
 * fast. The argument why this is enough is docs/safety.md.
 *
 * Pure: no clock, no state but the struct. Value types.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"

struct errbuf;

struct timing_cfg {
	uint32_t token_ms;     /* corosync's token, with token_coefficient 0 */
	uint32_t consensus_ms; /* corosync's consensus; at least 1.2 token */
	uint32_t renew_ms;     /* R: between renewals of the node lease */
	uint32_t slot_ms;      /* between writes of a liveness slot, which renew the volume lease */
	uint32_t lease_ms;     /* L: node lease and volume leases */
	uint32_t watchdog_ms;  /* W: the watchdog's timeout; whole seconds */
	uint32_t drift_ppm;    /* rho: how wrong any node's clock may run */
	uint32_t margin_ms;    /* granularity of timers, added to what observers wait */
	uint32_t inflight_ms;  /* a disk executes what a dead host sent for at most so long */
	uint32_t install_ms;   /* allowed for installing a view and committing one entry */
};

/* Value type: timing_init(). Times of the ladder count from before the renewal was sent. */
struct timing {
	struct timing_cfg cfg;
	uint64_t detect_min_ns; /* a node is gone -> the others have a ring without it */
	uint64_t detect_max_ns;
	uint64_t warn_ns;      /* holder: take no new work, tell people */
	uint64_t pause_ns;     /* holder: vCPUs stand still, no new I/O */
	uint64_t kill_ns;      /* holder: workers are killed */
	uint64_t pet_until_ns; /* holder: the watchdog is not petted any more */
	uint64_t lease_ns;     /* holder: has been reset */
	uint64_t expire_ns; /* observer: the lease is over; from when it learned of the renewal */
	uint64_t quiet_ns;  /* observer: and nothing of it will be written any more */
	uint64_t renew_ns;
	uint64_t slot_ns;
};

/* The holder's ladder for a lease of some length; from before its renewal was sent. Value type. */
struct timing_rungs {
	uint64_t warn_ns;
	uint64_t pause_ns;
	uint64_t kill_ns;
	uint64_t pet_until_ns;
	uint64_t over_ns;
};

/* What a node found about itself. */
struct timing_node {
	bool watchdog;              /* there is one, and it is armed */
	bool watchdog_soft;         /* softdog: lives in the kernel that may hang */
	uint32_t watchdog_got_ms;   /* what it says when asked for its timeout */
	bool clock_stable;          /* the clock source is one that drifts within drift_ppm */
	bool virtual_machine;       /* can be suspended without noticing */
	bool soft_watchdog_allowed; /* policy of the cluster */
};

/* timing_default() - the values of a cluster that nobody tuned: token 1 s, lease 10 s. */
void timing_default(struct timing_cfg *cfg);

/* timing_fast() - for tests and machines that are trusted to keep up: lease 5 s. */
void timing_fast(struct timing_cfg *cfg);

/*
 * timing_for_token() - the default for a cluster whose token is @token_ms: the lease is as long as
 * survivors need that wait for a ring, 10 s at least, and renewed every second or three times in a
 * token, whichever is rarer. timing_init() accepts it if it accepts the token.
 */
void timing_for_token(uint32_t token_ms, struct timing_cfg *cfg);

/*
 * timing_init() - derive and check.
 * Returns 0; -EINVAL the values contradict each other: @eb says which and what would do; then
 * *out is untouched.
 */
MUST_USE int timing_init(const struct timing_cfg *cfg, struct timing *out, struct errbuf *eb);

/*
 * timing_expire_ns() - how long an observer waits for a lease of @lease_ms, which came with the
 * renewal: during a change of the configuration nodes may use different lengths.
 */
uint64_t timing_expire_ns(const struct timing *t, uint32_t lease_ms);

/*
 * timing_rungs() - the ladder of a lease of @lease_ns that was sent with another configuration than
 * @t: the shorter of the two lengths counts, with the same proportions.
 */
void timing_rungs(const struct timing *t, uint64_t lease_ns, struct timing_rungs *out);

/*
 * timing_check_node() - may the others take this node's silence as a proof that it stopped?
 * Returns 0; -ENODEV no armed watchdog; -ERANGE it has another timeout than W; -EPERM only a
 * software watchdog, and the cluster wants better; -ESTALE its clock is not to be trusted (also
 * of a virtual machine, whose clock stands while it is suspended). In all these cases the node
 * may run VMs, but needs another proof (power, PR) when it fails: @eb says so.
 */
MUST_USE int timing_check_node(const struct timing *t, const struct timing_node *node,
                               struct errbuf *eb);

#endif
