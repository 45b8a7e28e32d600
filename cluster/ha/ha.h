/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLUSTER_HA_HA_H
#define CLUSTER_HA_HA_H

/*
 * ha - this node's part in running the cluster's VMs: it joins the table of nodes, renews its
 * lease, does what the database says about the VMs it owns (cluster/agent), and decides about all
 * of them while it leads the view (cluster/lead).
 *
 *	member (log, tables) --> agent_step() --> vmops: start, stop, kill; proposals
 *	                     --> lead_step()  --> proposals
 *
 * It runs on every change that the log brings, and every HA_TICK_NS. A lease is sent to vmops
 * each time it was renewed: who enforces it there does so without us.
 *
 * A node whose process of the service is away, but whose corosync is in the ring, is not lost until
 * its lease is at its end anyway: a service that is started again adopts its VMs and goes on.
 *
 * Threads: the loop's. docs/safety.md, docs/failover.md, docs/decisions/0181.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "cluster/agent/agent.h"
#include "cluster/timing/timing.h"

struct errbuf;
struct ha;
struct loop;
struct member;
struct vmops;

#define HA_TICK_NS 100000000ull
#define HA_ROLES_MAX \
	8192u /* the ids it looks after: a little more than the largest clusters have */
#define HA_PROPOSE_NS 5000000000ull

/* A run of this node that goes on: the service was started again and has found it. */
struct ha_run {
	uint64_t inc;      /* 0 = none: join anew */
	uint64_t since_ns; /* of its lease; 0 = none held */
	uint64_t lease_ns;
};

struct ha_cfg {
	struct loop *loop; /* borrowed until ha_destroy(), as the next two */
	struct member *member;
	const struct vmops *vmops;
	uint32_t nodeid;       /* 1..ROLE_NODES_MAX */
	uint64_t memory_bytes; /* for VMs, of this node */
	uint32_t cpus;
	bool lease_proof; /* its silence may be taken as a proof: timing_check_node(), or a person's
	                   * word */
	struct timing_cfg timing;
	struct ha_run run;
	void (*changed)(void *arg); /* roles or nodes: those who wait look again; may be NULL */
	void *arg;
};

/* ha_create() - Returns 0; -ENOMEM; -EINVAL the timing contradicts itself, or nodeid. */
MUST_USE int ha_create(const struct ha_cfg *cfg, struct ha **out, struct errbuf *eb);

/* ha_destroy() - before the member is closed. The VMs are left as they are. NULL is fine. */
void ha_destroy(struct ha *ha);

/* ha_kick() - look soon: something changed (a VM, the view). */
void ha_kick(struct ha *ha);

/* ha_adopt() - with a run that goes on, before the loop runs: VM @role runs here with @token. */
void ha_adopt(struct ha *ha, uint32_t role, uint64_t token);

/* ha_vm_event() - what became of a VM. */
void ha_vm_event(struct ha *ha, uint32_t role, enum agent_event event);

/* ha_agent() - what this node does with its VMs; for reading. */
const struct agent *ha_agent(const struct ha *ha);

/* ha_timing() - all delays. */
const struct timing *ha_timing(const struct ha *ha);

/* ha_synced() - the tables are not older than what any process of this node was told before. */
bool ha_synced(const struct ha *ha);

/* ha_may_start() - the lease allows to begin something new. */
bool ha_may_start(const struct ha *ha);

/* ha_now_ms() - cluster time. */
uint64_t ha_now_ms(const struct ha *ha);

/* ha_want() - what a person wants of VM @role. Returns 0; as member_propose_role(). */
MUST_USE int ha_want(struct ha *ha, uint32_t role, bool online);

/* ha_migrate() - VM @role shall go to @node. ha_drain() - @node is to be emptied, and takes no VMs;
 * or takes them again. Return 0; -ENOENT; as member_propose_role(). */
MUST_USE int ha_migrate(struct ha *ha, uint32_t role, uint32_t node);
MUST_USE int ha_drain(struct ha *ha, uint32_t node, bool on);

/* ha_confirm() - a person says that @node, which is being fenced, is off and will not come back as
 * the run that it was. Returns 0; -ENOENT; -EBUSY it is not being fenced; as above. */
MUST_USE int ha_confirm(struct ha *ha, uint32_t node);

/* ha_explain() - where @role stands and what it waits for, one line. On the leader it says most. */
void ha_explain(struct ha *ha, uint32_t role, char *buf, size_t size);

#endif
