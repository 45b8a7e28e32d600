/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_PARTITION_PARTITION_H
#define HV_PARTITION_PARTITION_H

/*
 * partition - one virtual machine: memory, VPs, machine, SynIC, VMBus, and its life cycle.
 *
 *   OFF -> STARTING -> RUNNING <-> PAUSED -> SAVING -> SAVED -> OFF
 *                         ^  \-> CRITICAL (storage has no room or is gone) -> RUNNING after it
 *                         \---- RESETTING <- RUNNING (the guest reboots)
 *   every state but OFF -> STOPPING -> OFF
 *
 *   OFF        no VP threads, no KVM VM; memory may exist.
 *   STARTING   firmware tables and kernel are written, VPs are created.
 *   RUNNING    VP threads run guest code.
 *   PAUSED     no VP runs, VSPs drained: nothing touches guest memory.
 *   CRITICAL   no VP runs; VSPs are not drained: what they accepted waits for storage, or ends.
 *   SAVING     as PAUSED; state is being read.
 *   SAVED      as SAVING; the state belongs to somebody else now, only stop is left.
 *   RESETTING  no VP runs; the VM is taken apart and started anew.
 *   STOPPING   VPs end; channels close.
 *
 * Threads: one device thread owns the partition and calls every function here; it drives the
 * ring. Each VP has its own thread, which only enters the guest, the machine (its lock), the
 * SynIC's page registers and the mailbox. Callbacks come on the device thread.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/guid.h"

struct cpuid_table;
struct errbuf;
struct gmem;
struct load;
struct machine;
struct partition;
struct save;
struct uring;
struct vmbus;
struct vsp;
struct vsp_env;

enum partition_state {
	PARTITION_OFF,
	PARTITION_STARTING,
	PARTITION_RUNNING,
	PARTITION_PAUSED,
	PARTITION_CRITICAL,
	PARTITION_SAVING,
	PARTITION_SAVED,
	PARTITION_RESETTING,
	PARTITION_STOPPING,
	PARTITION_STATE_COUNT
};

/* Why a partition stopped by itself. */
enum partition_end {
	PARTITION_POWERED_OFF, /* the guest shut down */
	PARTITION_CRASHED,     /* the guest told of a crash (crash MSRs) and did not go on */
	PARTITION_FAILED,      /* KVM or the host could not go on */
};

struct partition_events {
	/* Bytes from COM1. */
	void (*console)(void *arg, const uint8_t *buf, size_t len_bytes);
	void (*state)(void *arg, enum partition_state from, enum partition_state to);
	/* The VPs have ended; the owner calls partition_stop(). */
	void (*ended)(void *arg, enum partition_end end, const char *text);
	/* The guest reported a crash; it may go on (kdump) or reset. @param: its five crash
	 * MSRs. */
	void (*crash)(void *arg, const uint64_t param[5], const char *text);
	/* The guest rebooted; @count of resets since start. Return false to refuse: then it
	 * ends. */
	bool (*reset)(void *arg, uint32_t count);
};

#define PARTITION_VSPS_MAX 64u

struct partition_cfg {
	const char *vm_name; /* borrowed until partition_destroy(), like all pointers */
	uint64_t memory_bytes;
	bool huge_2m;
	uint32_t vp_count;
	bool hyperv;     /* false: a bare machine, for tests on hosts without the interface */
	bool eoi_assist; /* kvm_eoi_assist() */
	int kvm_fd;      /* -1 = open /dev/kvm */
	int kernel_fd;   /* borrowed */
	int initrd_fd;   /* -1 = none */
	const char *cmdline;
	struct guid generation_id;
	const struct cpuid_table
		*cpuid; /* of VP 0; per-VP leaves are filled in; NULL = baseline of this host */
	struct uring *ring;
	const struct partition_events *events;
	void *events_arg;
};

/*
 * partition_create() - memory and buses; state OFF.
 * Returns 0; -EINVAL; -ENOMEM; -errno.
 */
MUST_USE int partition_create(const struct partition_cfg *cfg, struct partition **out,
                              struct errbuf *eb);

/* partition_destroy() - state OFF; destroys the VSPs. Not from inside a callback. NULL is fine. */
void partition_destroy(struct partition *p);

enum partition_state partition_state_get(const struct partition *p);
const char *partition_state_name(enum partition_state state);

/* partition_env() - what a VSP needs to be created; partition_vsp_add() - takes it. Only while
 * OFF. */
void partition_env(struct partition *p, struct vsp_env *out);
MUST_USE int partition_vsp_add(struct partition *p, struct vsp *vsp);

/* partition_start() - OFF to RUNNING. Returns 0; -errno with the state OFF again. */
MUST_USE int partition_start(struct partition *p, struct errbuf *eb);

/*
 * partition_start_paused() - OFF to PAUSED with VPs created but nothing loaded: what a restore
 * or an arriving move fills with partition_load() and then resumes.
 */
MUST_USE int partition_start_paused(struct partition *p, struct errbuf *eb);

typedef void (*partition_fn)(void *arg);

/*
 * partition_pause() - stop the VPs, drain the VSPs; @done when PAUSED is reached (never, if the
 * partition is stopped before).
 * Returns 0; -EBUSY not RUNNING, or the guest has just powered off or rebooted.
 */
MUST_USE int partition_pause(struct partition *p, partition_fn done, void *arg);

/* partition_resume() - PAUSED (or SAVING) to RUNNING. Returns 0; -EBUSY. */
MUST_USE int partition_resume(struct partition *p);

/*
 * partition_critical() - stop the VPs, as long as its storage cannot take what the guest has
 * written; VSPs go on with what they have. partition_well() - let them run again.
 * Return 0; -EBUSY not RUNNING (CRITICAL), or about to be something else.
 */
MUST_USE int partition_critical(struct partition *p);
MUST_USE int partition_well(struct partition *p);

/* partition_reset() - as the reset button. Returns 0; -EBUSY not RUNNING. */
MUST_USE int partition_reset(struct partition *p);

/* partition_power_button() - the ACPI button; the guest decides. Returns 0; -EBUSY not RUNNING. */
MUST_USE int partition_power_button(struct partition *p);

/* partition_stop() - pull the power cord; @done when OFF. Any state but OFF. */
void partition_stop(struct partition *p, partition_fn done, void *arg);

/* partition_console_input() - type into COM1. Returns how many bytes were taken. */
size_t partition_console_input(struct partition *p, const void *buf, size_t len_bytes);

/*
 * partition_save() - write all sections but RAM. PAUSED to SAVING; resume goes back.
 * partition_load() - the reverse on a partition_start_paused() one, RAM already there.
 * Return 0; -EBUSY; -EBADMSG, -EPROTONOSUPPORT with the section named in the load's errbuf.
 */
MUST_USE int partition_save(struct partition *p, struct save *s);
MUST_USE int partition_load(struct partition *p, struct load *l);

/* partition_save_cancel() - SAVING to PAUSED: nobody has the state after all. Returns 0; -EBUSY. */
MUST_USE int partition_save_cancel(struct partition *p);

/* partition_saved() - SAVING to SAVED: somebody else has the state. */
MUST_USE int partition_saved(struct partition *p);

/*
 * Which memory was written, by VPs, by the kernel for them and by devices (docs/decisions/0110).
 * Any thread, in any state but not before the first start; a guest that reboots meanwhile has
 * written everything.
 *
 * partition_dirty_start() - begin: all clean. Returns 0; -EALREADY; -ENOMEM; -errno.
 * partition_dirty_fetch() - or what was written in memory slot @slot (gmem_slot()) since the last
 * fetch into @bits, bit n = page n, @words >= pages / 64 rounded up. A page reported here is
 * clean from before the return on: copy it after. Complete when PAUSED; while RUNNING what
 * is under way is reported later. Returns 0; -EINVAL not started; -errno.
 * partition_dirty_stop() - end. Nothing if it was not started.
 */
MUST_USE int partition_dirty_start(struct partition *p, struct errbuf *eb);
MUST_USE int partition_dirty_fetch(struct partition *p, uint32_t slot, uint64_t *bits,
                                   size_t words);
void partition_dirty_stop(struct partition *p);

/*
 * partition_throttle() - let no VP run in @percent % (0..PARTITION_THROTTLE_MAX) of the time, all
 * at the same times; devices go on. A thread of its own does it; 0 ends it. Any thread, one at a
 * time.
 * Returns 0; -EINVAL; -errno of the thread.
 */
#define PARTITION_THROTTLE_MAX 99u
MUST_USE int partition_throttle(struct partition *p, uint32_t percent);

/*
 * partition_cpu_check() - could a VM with this CPU model run here? @kvm_fd: as in partition_cfg.
 * Any thread. Returns 0; -ENOTSUP with every missing feature word named; -errno no KVM.
 */
MUST_USE int partition_cpu_check(int kvm_fd, const struct cpuid_table *model, struct errbuf *eb);

/* For inspection and statistics. */
struct gmem *partition_mem(struct partition *p);
struct vmbus *partition_vmbus(struct partition *p);
uint64_t partition_cpu_ns(struct partition *p); /* CPU time of all VP threads */

#endif
