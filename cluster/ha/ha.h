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
#include "cluster/lead/lead.h"
#include "cluster/timing/timing.h"

struct errbuf;
struct flight;
struct ha;
struct loop;
struct member;
struct vmops;

#define HA_TICK_NS 100000000ull
#define HA_ROLES_MAX \
	8192u /* the ids it looks after: a little more than the largest clusters have */
#define HA_PROPOSE_NS 5000000000ull
#define HA_FENCE_NS 20000000000ull /* for a fence action; then the next level is tried */

/* A run of this node that goes on: the service was started again and has found it. */
struct ha_run {
	uint64_t inc;      /* 0 = none: join anew */
	uint64_t since_ns; /* of its lease; 0 = none held */
	uint64_t lease_ns;
};

/* Who switches nodes off, filled in bin/godwitd. Loop's thread; asked of the leader only. */
struct ha_power {
	/* How many devices each level of @node has. Returns a number that changes with them. */
	uint64_t (*devices)(void *arg, uint32_t node, uint32_t levels[FENCE_LEVELS_MAX]);
	/* Begin what->action, a FENCE_OFF of a run whose FENCING is committed; its end is told by
	 * ha_fenced(), also from within the call. */
	void (*off)(void *arg, const struct lead_fence *what);
	void *arg;
};

/* All that a lost run could write, as the leader sees it. */
struct ha_whole {
	uint64_t volumes;     /* set; 0 = storage proves nothing about it, or not yet: .why */
	uint64_t preemptable; /* set: its key can be taken away from here */
	char why[120];        /* storage proves nothing, because...; "" = that is not known */
};

/* Who takes keys away on shared volumes, filled in bin/godwitd. Loop's thread. */
struct ha_storage {
	/* About the newest run of @node, whose FENCING is committed. @begin: it is to be proven
	 * stopped, by this node. Returns a number that changes with volumes and keys. */
	uint64_t (*whole)(void *arg, uint32_t node, bool begin, struct ha_whole *out);
	/* Begin what->action, a FENCE_PREEMPT; as ha_power.off(). */
	void (*preempt)(void *arg, const struct lead_fence *what);
	void *arg;
};

struct ha_cfg {
	struct loop *loop; /* borrowed until ha_destroy(), as the next two */
	struct member *member;
	const struct vmops *vmops;
	const struct ha_power *power;     /* NULL = there are no power devices */
	const struct ha_storage *storage; /* NULL = storage proves nothing */
	struct flight *flight;            /* records heartbeats and leases; NULL = nobody does */
	uint32_t nodeid;                  /* 1..ROLE_NODES_MAX */
	uint64_t memory_bytes;            /* for VMs, of this node */
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

/* ha_set_lease_proof() - may the silence of this node be taken as a proof from now on? Said with
 * the next renewal. */
void ha_set_lease_proof(struct ha *ha, bool proof);

/*
 * ha_set_timing() - other delays, in a cluster that runs. Safe at any moment and in any order among
 * the nodes: a holder uses the shorter of its old and new lease, observers wait for the longest
 * that they were told of. Whether survivors of a failure keep their VMs meanwhile is the caller's
 * business (bin/godwitd/cluster_timing.h). Returns 0; -EAGAIN the lease that holds is too old for a
 * shorter one, once it is renewed it will do; -EINVAL; nothing has changed.
 */
MUST_USE int ha_set_timing(struct ha *ha, const struct timing_cfg *cfg, struct errbuf *eb);

/* ha_lease_ms() - the lease that holds here now; without one, that of the next. */
uint32_t ha_lease_ms(const struct ha *ha);

/*
 * ha_volumes() - what the volume service of this node says, asked again and again. @paths: the set
 * of volumes that VMs here can use. @acks: those whose coordinator is here, serves, and has been
 * told of everything that this node's table says: it refuses all runs that are proven gone.
 * ha_raising(): somebody waits for such a word.
 */
void ha_volumes(struct ha *ha, uint64_t paths, uint64_t acks);
bool ha_raising(const struct ha *ha);

/* ha_changes() - counts what the log has changed of roles and nodes, but for renewals: whoever has
 * seen this number has seen all. */
uint64_t ha_changes(const struct ha *ha);

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

/* ha_stay() - VM @role, which is being moved, shall not go. Returns 0; -ENOENT; as above. */
MUST_USE int ha_stay(struct ha *ha, uint32_t role);

/* ha_plan_drain() - lead_plan_drain(), as this node sees the cluster. @how: NULL: as the database
 * says. On any node. */
void ha_plan_drain(struct ha *ha, uint32_t node, const struct lead_drain *how, lead_plan_fn fn,
                   void *arg);

/* ha_confirm() - a person says that @node, which is being fenced, is off and will not come back as
 * the run that it was. Returns 0; -ENOENT; -EBUSY it is not being fenced; as above. */
MUST_USE int ha_confirm(struct ha *ha, uint32_t node);

/* ha_view() - for questions (cluster/lead/whatif.h): *@out is what the leader sees, as far as this
 * node knows it; borrowed until the loop runs. */
struct lead *ha_view(struct ha *ha, struct lead_view *out);

/* ha_fenced() - what ha_power.off() or ha_storage.preempt() began came to its end: as
 * fence_done(). */
void ha_fenced(struct ha *ha, const struct lead_fence *what, int err);

/* ha_explain() - where @role stands and what it waits for, one line. On the leader it says most. */
void ha_explain(struct ha *ha, uint32_t role, char *buf, size_t size);

#endif
