/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_PARTITION_PARTITION_INT_H
#define HV_PARTITION_PARTITION_INT_H

/* Private to hv/partition. */

#include <pthread.h>

#include "base/log.h"
#include "base/uring.h"
#include "hv/kvm/kvm.h"
#include "hv/machine/machine.h"
#include "hv/partition/mailbox.h"
#include "hv/partition/partition.h"
#include "hv/partition/vp.h"

/* What a move does to a running partition, from threads of its own. */
struct partition_track {
	/* Guards the rest, and that VM and VPs stay while somebody else than the device thread
	 * uses them. Taken before the locks of hv/kvm and of a VP. */
	pthread_mutex_t lock;
	pthread_cond_t changed; /* percent */
	bool dirty;             /* written pages are noted */
	uint32_t percent;       /* of the time in which VPs do not run; 0 = no thread */
	pthread_t thread;       /* the throttle; joined when percent goes to 0 */
	bool thread_on;
};

struct partition {
	struct partition_cfg cfg;
	enum partition_state state; /* written by partition_move() only */
	struct gmem *mem;           /* owned */
	struct machine machine;
	struct mailbox mailbox;
	struct uring_op mailbox_poll;
	bool mailbox_polled;
	bool bus_ending;     /* vmbus_reset() is under way: of a reset, or of a stop */
	bool dying;          /* partition_destroy() is waiting for the poll to end */
	struct synic *synic; /* owned; NULL without the Hyper-V interface */
	struct vmbus *bus;   /* owned; NULL the same */
	struct log_limit crash_limit;
	struct kvm_vm *vm;                     /* owned; NULL in OFF */
	struct kvm_vcpu *vcpus[KVM_VCPUS_MAX]; /* owned */
	struct vp vps[KVM_VCPUS_MAX];
	uint32_t vcpu_count;                  /* of vcpus created */
	uint32_t vp_count;                    /* of vps started */
	struct vsp *vsps[PARTITION_VSPS_MAX]; /* owned */
	uint32_t vsp_count;
	uint32_t resets;
	struct partition_track track;
	/* One asynchronous transition at a time. */
	uint32_t draining; /* VSPs whose pause has not come back, plus one while asking */
	partition_fn done;
	void *done_arg;
};

/* partition_move() - the only writer of the state. */
void partition_move(struct partition *p, enum partition_state next);

/* partition_build() - KVM VM, memory slots, vCPUs, threads (stopped). Undone by
 * partition_teardown(). */
MUST_USE int partition_build(struct partition *p, struct errbuf *eb);
void partition_teardown(struct partition *p);

/* partition_boot() - firmware tables, kernel, registers of the boot VP. */
MUST_USE int partition_boot(struct partition *p, struct errbuf *eb);

/* track.c */
void partition_track_init(struct partition *p);
void partition_track_fini(struct partition *p);
void partition_track_lock(struct partition *p);
void partition_track_unlock(struct partition *p);
/* partition_track_rebuilt() - a new KVM VM: note its writes too, if that is on. Locked. */
MUST_USE int partition_track_rebuilt(struct partition *p, struct errbuf *eb);

void partition_vps_run(struct partition *p);
void partition_vps_stop(struct partition *p);

#endif
