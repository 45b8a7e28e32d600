/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLUSTER_VMOPS_H
#define CLUSTER_VMOPS_H

/*
 * vmops - what the cluster asks of whoever runs the VMs of a node: a table of functions, declared
 * by the side that calls (cluster/ha) and filled in bin/godwitd.
 *
 * VMs are named by the id of their role. All come from the loop's thread and only begin something;
 * what became of it is told by ha_vm_event(), also from within the call.
 */

#include <stdbool.h>
#include <stdint.h>

/* The node's lease, in times of CLOCK_BOOTTIME [ns]; all 0: none. */
struct vmops_lease {
	uint64_t since_ns;
	uint64_t lease_ns;
	uint64_t pause_ns;     /* vCPUs stand still, no new I/O */
	uint64_t kill_ns;      /* workers are killed */
	uint64_t pet_until_ns; /* the watchdog is not petted any more */
};

struct vmops {
	/* Make the VM from its document and run it: AGENT_STARTED or AGENT_START_FAILED. @incoming:
	 * it was handed over, its memory has come already. */
	void (*start)(void *arg, uint32_t role, uint64_t token, bool incoming);
	/* Move it to @node: AGENT_SENT when it stands still and everything is there, or
	 * AGENT_SEND_FAILED. Until the log has decided it goes on nowhere. */
	void (*send)(void *arg, uint32_t role, uint32_t node);
	/* The log has given the VM with @token to the node that it was sent to. Called while an
	 * entry is applied: note it only. */
	void (*switched)(void *arg, uint32_t role, uint64_t token);
	/* Shut the guest down: AGENT_EXITED. */
	void (*stop)(void *arg, uint32_t role);
	/* Kill its worker: AGENT_EXITED, when nothing of it runs or writes. */
	void (*kill)(void *arg, uint32_t role);
	/* The lease is now this. What enforces it must not need this thread. */
	void (*lease)(void *arg, const struct vmops_lease *lease);
	/* Kill everything of an earlier run of this node. Is nothing of it left? Asked again. */
	bool (*clear)(void *arg);
	/* A run of this node begins; nothing of an earlier one is left. */
	void (*began)(void *arg, uint64_t inc);
	void *arg;
};

#endif
