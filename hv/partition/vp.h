/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_PARTITION_VP_H
#define HV_PARTITION_VP_H

/*
 * vp - one virtual processor and the thread that runs it.
 *
 *   STOPPED <--> RUNNING, STOPPED -> ENDED    (what the thread does; what it shall do is vp_want)
 *
 * The owner (device thread) sets what it wants and waits until the threads have got there: a VP
 * leaves the guest within microseconds of the signal. Only the VP's thread calls KVM for its
 * vCPU while it runs; when it is STOPPED the owner may (registers, save).
 */

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/log.h"

struct errbuf;
struct gmem;
struct kvm_vcpu;
struct machine;
struct mailbox;
struct synic;

enum vp_want { VP_WANT_STOP, VP_WANT_RUN, VP_WANT_END };
enum vp_at { VP_AT_STOPPED, VP_AT_RUNNING, VP_AT_ENDED };

/* What the VP threads of a partition share. All borrowed. */
struct vp_env {
	struct gmem *mem;
	struct machine *machine;
	struct mailbox *mailbox;
	struct synic *synic; /* NULL without the Hyper-V interface */
};

struct vp {
	struct vp_env env;
	uint32_t index;
	struct kvm_vcpu *vcpu; /* borrowed; the partition destroys it after vp_end() */
	pthread_t thread;
	pthread_mutex_t lock; /* guards all below */
	pthread_cond_t changed;
	enum vp_want want;
	enum vp_at at;
	uint64_t nap_until_ns;  /* monotonic; running, but not in the guest before */
	uint64_t cpu_ns;        /* used by the thread until its last stop */
	struct log_limit limit; /* of what the guest makes us say; the thread's own */
};

/* vp_start() - make the thread, stopped. Returns 0; -errno. */
MUST_USE int vp_start(struct vp *vp, uint32_t index, struct kvm_vcpu *vcpu,
                      const struct vp_env *env, const char *vm_name);

/* vp_run() - let it run. vp_stop_ask() - ask it to stop; vp_stop_wait() - until it has. */
void vp_run(struct vp *vp);
void vp_stop_ask(struct vp *vp);
void vp_stop_wait(struct vp *vp);

/* vp_nap() - stay out of the guest until @until_ns (monotonic), if it runs. Does not wait; any
 * thread that keeps vp_end() away. 0 = an end to that. */
void vp_nap(struct vp *vp, uint64_t until_ns);

/* vp_end() - stop, end and join the thread. */
void vp_end(struct vp *vp);

/* vp_cpu_ns() - CPU time of the thread so far. */
uint64_t vp_cpu_ns(struct vp *vp);

/* vp_signal_setup() - once per process, before the first vp_start(): the signal that interrupts a
 * running VP does nothing else. Returns 0; -errno. */
MUST_USE int vp_signal_setup(void);

#endif
