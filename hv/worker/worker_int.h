/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_WORKER_WORKER_INT_H
#define HV_WORKER_WORKER_INT_H

/* Private to hv/worker. */

#include <stdbool.h>
#include <stdint.h>

#include "base/blk.h"
#include "base/uring.h"
#include "hv/config/vm_config.h"
#include "hv/partition/partition.h"
#include "hv/raw/raw.h"
#include "hv/vsp/netvsp/netvsp.h"
#include "hv/worker/console.h"
#include "hv/worker/control.h"
#include "hv/worker/worker_ext.h"

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
	int direct[VM_DISKS_MAX];    /* of the disk itself: raw_cfg.direct_fd */
	int disks[VM_DISKS_MAX][64]; /* [disk][file]: the disk itself first, then its parents */
	struct worker_tap taps[VM_NICS_MAX];
};

/* What an open disk stands on. Both borrowed from the SCSI controller; NULL = not open. */
struct worker_disk {
	struct blk *blk;
	struct blk *file;  /* the raw file that is written; NULL = read-only */
	struct blk *first; /* the raw file that is the disk itself, written or not */
	struct blk_req flush;
};

/* Telling the network where the adapters are now, several times: frames get lost. */
struct worker_announce {
	struct uring_op timer;
	bool armed; /* the timer is on its way */
	uint32_t left;
};

/* How the storage of its disks is doing, as it was told last. */
struct worker_storage {
	struct uring_op timer;
	bool armed;         /* the timer is on its way, */
	bool deferred;      /* without having been one */
	bool over;          /* the worker ends */
	uint64_t looked_ns; /* monotonic */
	enum raw_trouble trouble;
	uint32_t disk; /* whose */
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
	struct worker_disk disks[VM_DISKS_MAX];
	struct worker_storage storage;
	uint32_t bare_ios; /* under way */
	uint32_t flushing; /* of worker_disks_release(): flushes under way, plus one while asking */
	int flush_err;
	worker_done_fn flush_done;
	void *flush_arg;
	bool eoi_assist;
	bool bare;     /* no Hyper-V interface, disks are held but not shown: tests without it */
	bool arriving; /* started as the destination of a move, and the guest does not run yet */
	bool gone;     /* the VM is somebody else's: nothing is closed, nothing written */
	const struct worker_ext_ops *ext_ops; /* NULL = none */
	void *ext;
	bool over;            /* the VM is off: leave the loop */
	struct list deferred; /* struct worker_deferred */
	bool stopping;
	bool was_paused;     /* before the save that is under way */
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
/* worker_disk_open() - *out = NULL for a drive without a medium. Blocks on I/O. */
MUST_USE int worker_disk_open(struct worker *w, uint32_t disk, struct blk **out, struct errbuf *eb);
void worker_blk_close(struct blk *blk);

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

/*
 * worker_storage.c: the VM stands still while its storage has no room or does not answer.
 * worker_storage_end(): the VM ends: what waits for room ends, and nothing waits any more.
 * worker_storage_status(): adds "trouble" and "disk". worker_storage_fini(): waits for the timer.
 */
void worker_storage_start(struct worker *w);
void worker_storage_end(struct worker *w);
void worker_storage_status(const struct worker *w, json_t *out);
void worker_storage_fini(struct worker *w);

/* worker_bare.c: the command "disk" of a bare worker. */
void worker_bare_disk(struct worker *w, struct control_request *req);

/* worker_command.c: struct control's handler. */
void worker_command(struct control_request *req, void *arg);

/* worker.c */
void worker_stop(struct worker *w);
/* worker_end_write() - the last words. */
void worker_end_write(const struct worker *w, const char *reason, const char *text);

#endif
