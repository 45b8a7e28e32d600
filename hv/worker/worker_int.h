/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_WORKER_WORKER_INT_H
#define HV_WORKER_WORKER_INT_H

/* Private to hv/worker. */

#include <stdbool.h>
#include <stdint.h>

#include "base/uring.h"
#include "hv/config/vm_config.h"
#include "hv/partition/partition.h"
#include "hv/vsp/netvsp/netvsp.h"
#include "hv/worker/console.h"
#include "hv/worker/control.h"

/* The host's end of an adapter. */
struct worker_tap {
	int fds[NETVSP_QUEUES_MAX]; /* queues of one interface; taken by the VSP */
	uint32_t count;             /* 0 = the VM has no such adapter here */
	uint32_t mtu_bytes;
	bool link; /* plugged in somewhere */
};

/* Descriptors by role; -1 = none. All owned until they are passed on. */
struct worker_fds {
	int kvm;
	int kernel;
	int initrd;
	int console_log;
	int end; /* where the last words go */
	uint32_t disk_files[VM_DISKS_MAX];
	int disks[VM_DISKS_MAX][64]; /* [disk][file]: the disk itself first, then its parents */
	struct worker_tap taps[VM_NICS_MAX];
};

/* Telling the network where the adapters are now, several times: frames get lost. */
struct worker_announce {
	struct uring_op timer;
	bool armed; /* the timer is on its way */
	uint32_t left;
};

struct worker {
	struct vm_config vm;
	struct worker_fds fds;
	struct uring *ring;
	struct partition *partition;
	struct control *control;
	struct console *console;
	/* The devices that commands ask for; owned by the partition. */
	struct vsp *scsi;
	struct vsp *heartbeat;
	struct vsp *shutdown;
	struct vsp *kvp;
	struct vsp *nics[VM_NICS_MAX]; /* NULL = none */
	struct worker_announce announce;
	bool over; /* the VM is off: leave the loop */
	bool stopping;
	bool arrived;        /* restored, not yet resumed: its network does not know where it is */
	uint64_t started_ns; /* monotonic, of the last start; 0 = never */
	/* The one asynchronous command in progress. */
	bool busy;
	struct control_request pending;
	int pending_fd; /* of "save" */
};

/* worker_config.c */
MUST_USE int worker_config_read(struct worker *w, int config_fd, struct errbuf *eb);
void worker_fds_close(struct worker *w);

/* worker_devices.c: make the partition's devices. */
MUST_USE int worker_devices_create(struct worker *w, struct errbuf *eb);

/*
 * worker_nics.c: the adapters of the definition that have a tap.
 * worker_nics_announce(): the VM runs here now, and ran elsewhere or not at all: a few frames with
 * each adapter's address, so that switches learn the way. Does nothing if it is doing it already.
 * worker_nics_fini(): before the partition's end; waits for the timer.
 */
MUST_USE int worker_nics_create(struct worker *w, const struct vsp_env *env, struct errbuf *eb);
void worker_nics_announce(struct worker *w);
void worker_nics_status(const struct worker *w, struct json_build *b);
void worker_nics_fini(struct worker *w);

/* worker_command.c: struct control's handler. */
void worker_command(struct control_request *req, void *arg);

/* worker.c */
void worker_stop(struct worker *w);

#endif
