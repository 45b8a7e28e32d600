/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_VSP_VSP_H
#define HV_VSP_VSP_H

/*
 * vsp - a virtualization service provider: the host half of one synthetic device.
 *
 * A VSP is created with its own cfg by its own X_create() (declared in X.h), which offers its
 * channel; from then on the partition drives it through this table, the same for every device.
 * hv/vsp/vsp_table.c lists the kinds. Device thread only.
 */

#include <stdint.h>

#include "base/attr.h"

struct errbuf;
struct gmem;
struct load;
struct save;
struct uring;
struct vmbus;
struct vsp;

/* What every VSP gets. All borrowed until the VSP is destroyed. */
struct vsp_env {
	struct vmbus *bus;
	struct gmem *mem;
	struct uring *ring;
	const char *vm_name; /* for logs */
	/* The partition's reference counter [100 ns] now; only the time service needs it. */
	uint64_t (*reference_time)(void *arg);
	void *reference_arg;
};

typedef void (*vsp_done_fn)(void *arg);

struct vsp_ops {
	const char *kind; /* "storvsp", ...: also the section's name, with ".<index>" */
	/* Free. Its channel is closed or the bus is gone. */
	void (*destroy)(struct vsp *vsp);
	/*
	 * The vCPUs are stopped: finish what was accepted (disk I/O, packets), start nothing new,
	 * call @done, from here or later. Afterwards nothing of the device touches guest memory.
	 */
	void (*pause)(struct vsp *vsp, vsp_done_fn done, void *arg);
	/* Go on after pause(), here or on another host after load(). */
	void (*resume)(struct vsp *vsp);
	/* Only while paused. One section; load() gets what save() wrote, hostile. */
	void (*save)(const struct vsp *vsp, struct save *s);
	int (*load)(struct vsp *vsp, struct load *l);
};

/* A VSP embeds it as its first member. */
struct vsp {
	const struct vsp_ops *ops;
	uint32_t index; /* instance among its kind, from 0; stable across save and move */
};

#endif
