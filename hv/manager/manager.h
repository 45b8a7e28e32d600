/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_MANAGER_MANAGER_H
#define HV_MANAGER_MANAGER_H

/*
 * manager - the VMs of this host: their definitions, their workers, their life cycle.
 *
 *   OFF -> STARTING -> RUNNING <-> PAUSED      RUNNING -> SAVING -> SAVED -> STARTING
 *   RUNNING, PAUSED -> STOPPING -> OFF         any with a worker -> CRASHED (it died)
 *   RUNNING <-> CRITICAL (its storage is full or gone) -> STOPPING
 *   RUNNING, PAUSED -> MOVED -> gone           ARRIVING -> RUNNING, or gone (vm_move.h)
 *
 *   OFF, SAVED, CRASHED   no worker. SAVED: a saved state is there, start continues from it.
 *   STARTING              a worker exists or is being made, the VM does not run yet.
 *   RUNNING, PAUSED, CRITICAL   as the worker says.
 *   SAVING, STOPPING      the worker was asked and has not ended yet.
 *
 * Workers outlive the node service: each listens on run_dir/vm/ID/control.sock, and a manager that
 * starts finds those that are there and adopts them. A worker that dies concerns one VM.
 *
 * Operations that wait for a worker end in a callback. Thread: the loop's. Definitions are kept
 * in a store (store.h), what a VM leaves behind in state_dir/vm/ID/ (console.log, saved.state).
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/json.h"
#include "hv/config/vm_config.h"

struct errbuf;
struct loop;
struct manager;
struct vm;
struct vm_store;

#define MANAGER_VMS_MAX 1024u

enum vm_state {
	VM_OFF,
	VM_STARTING,
	VM_RUNNING,
	VM_PAUSED,
	VM_SAVING,
	VM_SAVED,
	VM_STOPPING,
	VM_CRASHED,
	VM_ARRIVING,
	VM_MOVED,
	VM_CRITICAL,
	VM_STATE_COUNT
};

const char *vm_state_name(enum vm_state state);

/* What the owner gets told; on the loop's thread, never from inside a manager call it made. */
struct manager_events {
	/* Something a human would tell: {"event","vm","text",...}; borrowed for the call. */
	void (*event)(void *arg, const json_t *event);
};

#define MANAGER_TAP_QUEUES_MAX 16u /* as many channels as the network VSP has */

/* One end of an adapter on the host. Value type; the descriptors are the holder's. */
struct manager_tap {
	int fds[MANAGER_TAP_QUEUES_MAX]; /* queues of one interface */
	uint32_t count;                  /* 1.. */
	uint32_t mtu_bytes;
	bool link; /* false: it leads nowhere */
};

struct manager_cfg {
	struct loop *loop; /* borrowed until manager_destroy(), like the rest */
	struct vm_store *store;
	const char *state_dir;    /* /var/lib/godwit */
	const char *run_dir;      /* /run/godwit */
	const char *worker_path;  /* the godwit-vm program */
	uint32_t worker_uid_base; /* VM n runs as uid base + n; 0 = keep ours (tests) */
	/* Of the volumes' service: workers do I/O of their own on shared volumes
	 * (base/shared_direct.h). NULL: by the mounted files only. */
	const char *direct_socket;
	const struct manager_events *events;
	void *events_arg;
	/* Opens an adapter's tap: *out, owned by the caller; nothing passes the tap of a VM that is
	 * @arriving before tap_claim(). NULL: VMs have no adapters. */
	int (*tap_open)(void *arg, const struct vm_config *vm, uint32_t nic, bool arriving,
	                struct manager_tap *out, struct errbuf *eb);
	/* The VM is here now: its station is behind this host's tap. Repeating it does no harm. */
	int (*tap_claim)(void *arg, const struct vm_config *vm, uint32_t nic, struct errbuf *eb);
	void *tap_arg;
};

/*
 * manager_create() - load the definitions, adopt the workers that run.
 * Returns 0; -errno, -EBADMSG of the store.
 */
MUST_USE int manager_create(const struct manager_cfg *cfg, struct manager **out, struct errbuf *eb);

/* manager_destroy() - let go of the workers; they go on. NULL is fine. */
void manager_destroy(struct manager *m);

/* manager_vm_next() - the VM after @vm in order of names; NULL = the first. */
struct vm *manager_vm_next(struct manager *m, const struct vm *vm);

/* manager_vm_find() - by name or id; NULL = none. */
struct vm *manager_vm_find(struct manager *m, const char *name);

const struct vm_config *vm_config_get(const struct vm *vm);
enum vm_state vm_state_get(const struct vm *vm);

/* vm_status() - state, last status of the worker, times: for list and show; a new reference. */
json_t *vm_status(const struct vm *vm);

/*
 * manager_vm_define() - a new VM from @json (completed in place, see vm_config_complete()).
 * @dry_run: check only. Returns 0; -EEXIST the name is taken; -EINVAL; -ENOSPC; -errno.
 */
MUST_USE int manager_vm_define(struct manager *m, json_t *json, bool dry_run, struct vm **out,
                               struct errbuf *eb);

/*
 * VMs that a cluster runs. Their copies here are marked, durably and before anything else of them
 * is written: only vm_start_owned() starts one. A node that is out of its cluster, or cannot read
 * its database, keeps a copy of what runs elsewhere.
 * manager_vm_define_owned() - as manager_vm_define(), marked. vm_own() - mark one that is there.
 * vm_is_owned() - is it marked? vm_start_owned() - as vm_start(), by who knows that it may run.
 */
MUST_USE int manager_vm_define_owned(struct manager *m, json_t *json, struct vm **out,
                                     struct errbuf *eb);
MUST_USE int vm_own(struct vm *vm, struct errbuf *eb);
bool vm_is_owned(const struct vm *vm);

/*
 * manager_vm_change() - replace the definition of a VM that is off by @json (same id).
 * Returns 0; -EBUSY it is not off; -EEXIST; -EINVAL; -errno.
 */
MUST_USE int manager_vm_change(struct vm *vm, json_t *json, struct errbuf *eb);

/* manager_vm_remove() - forget a VM that is off (its disks stay). Returns 0; -EBUSY; -errno. */
MUST_USE int manager_vm_remove(struct vm *vm, struct errbuf *eb);

/* @err: 0 or -errno; @eb says why. The VM may have been removed meanwhile only if err != 0. */
typedef void (*vm_done_fn)(void *arg, int err, const struct errbuf *eb);

/*
 * The life cycle. Each calls @done once, from the loop or from inside the call; -EBUSY if the
 * state forbids it or another operation is under way; -EPERM start and save of a VM that a cluster
 * runs.
 * vm_start(): boots, or continues a saved VM. Files that cannot be opened, a kernel that is not
 * there, KVM that refuses: with the reason.
 * vm_shutdown(): asks the guest (VM_SHUTDOWN_GUEST; done when it is off), or pulls the cord.
 * vm_save(): to disk; done when it is off.
 * vm_discard_saved(): throw a saved state away: SAVED to OFF.
 */
enum vm_shutdown_how { VM_SHUTDOWN_GUEST, VM_SHUTDOWN_OFF };

void vm_start(struct vm *vm, vm_done_fn done, void *arg);
void vm_start_owned(struct vm *vm, vm_done_fn done, void *arg);
void vm_shutdown(struct vm *vm, enum vm_shutdown_how how, vm_done_fn done, void *arg);
void vm_restart(struct vm *vm, bool reset, vm_done_fn done, void *arg);
void vm_pause(struct vm *vm, vm_done_fn done, void *arg);
void vm_resume(struct vm *vm, vm_done_fn done, void *arg);
void vm_save(struct vm *vm, vm_done_fn done, void *arg);
MUST_USE int vm_discard_saved(struct vm *vm, struct errbuf *eb);

/* vm_refresh() - ask the worker for its status now; vm_status() has it when @done comes. */
void vm_refresh(struct vm *vm, vm_done_fn done, void *arg);

/* vm_console() - connect @stream_fd (taken) to the VM's serial console. */
void vm_console(struct vm *vm, int stream_fd, vm_done_fn done, void *arg);

/* vm_log_path() - where the serial console's log is; lives as long as the VM. */
const char *vm_log_path(const struct vm *vm);

/*
 * For those who run VMs on behalf of others. vm_has_worker(): a process of it lives, or is not
 * buried yet. vm_cut(): kill that at once, whatever else is under way; the VM is off then (it is
 * told as any end is). vm_pid_path(): its pid file, "PID START-TIME".
 */
bool vm_has_worker(const struct vm *vm);
/* manager_worker_lives() - a process of a worker of the VM @id, known here or not. */
bool manager_worker_lives(const struct manager *m, const struct guid *id);
/* vm_guest_off() - its last run was ended by the guest itself, in good order. */
bool vm_guest_off(const struct vm *vm);
void vm_cut(struct vm *vm);
const char *vm_pid_path(const struct vm *vm);

#endif
