/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLUSTER_AGENT_AGENT_H
#define CLUSTER_AGENT_AGENT_H

/*
 * agent - what a node does with its own VMs: it runs what the database says it owns while it holds
 * a lease, reports what became of it, and stops, rung by rung, when the lease gets old.
 *
 * agent_step() compares the table (as far as this node has applied the log) with the VMs that are
 * here and says what to do; it is called whenever one of them changed, and all the time. A VM that
 * is here but not owned is killed and not reported: somebody else decided about it already.
 *
 * agent_pettable() is asked before each pet of the watchdog, by a thread that does nothing else.
 * A node whose run is being fenced, or was sentenced, gets AGENT_RESET: kill all, and begin a new
 * incarnation.
 *
 * Pure but for the memory of agent_create(). One thread; agent_pettable() under the same lock.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "cluster/lease/lease.h"
#include "cluster/role/role_cmd.h"

struct role_table;
struct timing;

#define AGENT_ACTIONS_MAX 64u        /* from one step; the rest comes with the next */
#define AGENT_AGAIN_NS 1000000000ull /* a report may be lost with its view */

enum agent_do {
	AGENT_PROPOSE,  /* .cmd */
	AGENT_VM_START, /* check the lease once more, present .token to the volumes, run it */
	AGENT_VM_STOP,  /* shut the guest down */
	AGENT_VM_KILL,
	AGENT_VM_PAUSE, /* vCPUs stand still, no new I/O */
	AGENT_VM_RESUME,
	AGENT_VM_SEND, /* migrate it to .node; AGENT_SENT when it is stopped and all is written */
	AGENT_RESET    /* this run of the node is over */
};

struct agent_action {
	enum agent_do what;
	uint32_t role;
	uint32_t node;
	uint64_t token;
	bool incoming; /* START: its memory has come here already */
	struct role_cmd cmd;
};

/* What became of a VM. */
enum agent_event {
	AGENT_STARTED,
	AGENT_START_FAILED, /* it does not run, and nothing of it writes */
	AGENT_EXITED,       /* stopped as asked, killed or crashed; nothing of it writes */
	AGENT_GUEST_OFF,    /* the guest shut itself down */
	AGENT_SENT,         /* migration: stopped, all written, the other side has everything */
	AGENT_SEND_FAILED
};

enum agent_vm_state { AGENT_NONE, AGENT_STARTING, AGENT_RUNNING };

struct agent_vm {
	enum agent_vm_state state;
	uint64_t token;
	bool paused;
	bool stopping; /* asked to shut down */
	bool killing;
	bool sending;
	bool sent;
	struct role_at dest;    /* sending: whom to, */
	uint64_t dest_since_ms; /* and since when the log wants that: an earlier move is another */
	enum role_verb report;  /* 0 = none: to be proposed until the role changes */
	enum role_stop stop;
	uint64_t proposed_ns;
};

/* Visible for reading. */
struct agent {
	struct role_at self; /* inc 0: not joined */
	uint32_t role_max;
	struct lease node;                      /* node lease */
	struct lease volumes[ROLE_VOLUMES_MAX]; /* volume leases, [id - 1] */
	bool doomed;                            /* sentenced, or its keys were taken away */
	struct agent_vm *vms;                   /* owned: [role id - 1] */
};

/* agent_create() - no VMs, not joined. Returns 0; -ENOMEM. */
MUST_USE int agent_create(uint32_t node, uint32_t role_max, struct agent **out);
void agent_destroy(struct agent *a);

/* agent_begin() - a new run: @inc is committed, nothing of an earlier one is left. */
void agent_begin(struct agent *a, uint64_t inc);

/* agent_doom() - a verdict or a reservation conflict says that this run is fenced. */
void agent_doom(struct agent *a);

/* agent_vm_event() - something became of VM @role. */
void agent_vm_event(struct agent *a, uint32_t role, enum agent_event event);

/*
 * agent_step() - what to do now. @now_ms: cluster time.
 * @out[AGENT_ACTIONS_MAX]. Returns how many.
 */
uint32_t agent_step(struct agent *a, const struct role_table *table, const struct timing *t,
                    uint64_t now_ns, uint64_t now_ms, struct agent_action *out);

/* agent_rung() - where the VM @role stands on the ladder: the better of the node lease and, if it
 * may be isolated, the worst of its volumes' leases. */
enum lease_rung agent_rung(const struct agent *a, const struct role_table *table,
                           const struct timing *t, uint32_t role, uint64_t now_ns);

/* agent_pettable() - may the watchdog be petted? Always, if no VM is here. */
bool agent_pettable(const struct agent *a, const struct role_table *table, const struct timing *t,
                    uint64_t now_ns);

#endif
