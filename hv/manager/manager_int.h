/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_MANAGER_MANAGER_INT_H
#define HV_MANAGER_MANAGER_INT_H

/* Private to hv/manager. */

#include <sys/types.h>

#include "base/list.h"
#include "base/log.h"
#include "base/loop.h"
#include "hv/manager/link.h"
#include "hv/manager/manager.h"
#include "hv/manager/store.h"
#include "hv/manager/vm_move.h"

#define MANAGER_PATH_MAX 512u
#define VM_KIND "vm"
#define VM_MOVE_KIND "move"
#define VM_EPOCH_KIND "epoch"
#define VM_CLUSTER_KIND "cluster" /* by id: the VM is a cluster's */

struct burial;

/* The operation under way; one at a time per VM. */
enum vm_op {
	VM_OP_NONE,
	VM_OP_START,
	VM_OP_STOP,
	VM_OP_SAVE,
	VM_OP_PAUSE,
	VM_OP_RESUME,
	VM_OP_MOVE
};

struct vm {
	struct list link;        /* in manager.vms, ordered by name */
	struct manager *manager; /* back pointer */
	struct vm_config config;
	enum vm_state state;
	uint32_t slot;                      /* index among the host's VMs: its uid */
	char dir[MANAGER_PATH_MAX];         /* state_dir/vm/ID */
	char run_dir[MANAGER_PATH_MAX];     /* run_dir/vm/ID */
	char log_path[MANAGER_PATH_MAX];    /* of the console */
	char saved_path[MANAGER_PATH_MAX];  /* saved state */
	char saving_path[MANAGER_PATH_MAX]; /* while it is written */
	char end_path[MANAGER_PATH_MAX];    /* the worker's last words */
	char socket_path[MANAGER_PATH_MAX];
	char pid_path[MANAGER_PATH_MAX];
	char hold_path[MANAGER_PATH_MAX]; /* is there: vm_move_hold() */
	pid_t pid;                        /* of the worker; 0 = none */
	struct burial *burial;            /* owned: of the worker, from its kill to its end */
	struct link *worker;              /* owned; NULL = none */
	struct loop_timer *kill_timer;    /* owned; NULL: the worker is not being waited for */
	struct vm_move *move;             /* owned; NULL = none */
	uint64_t epoch;                   /* of the ownership we hold, from 1 */
	enum vm_op op;
	vm_done_fn done; /* of op */
	void *done_arg;
	bool cluster;                     /* whoever runs a cluster decides when it runs */
	bool asked_off;                   /* we want the worker to end: not a crash */
	bool guest_off;                   /* the last end was the guest's own, in good order */
	enum vm_state save_from;          /* what it goes back to if the save fails */
	uint32_t restarts;                /* by us, since the last start by a user */
	struct loop_timer *restart_timer; /* owned; NULL until needed */
	json_t *status;                   /* owned: the worker's last, or NULL */
	uint64_t started_wall_ns;
	struct log_limit event_limit; /* of what its guest makes us tell */
	bool critical;        /* the worker's last word: its storage keeps it from running */
	char trouble[480];    /* what is wrong with its storage; "" = nothing */
	char last_error[480]; /* why it crashed or did not start; "" = nothing */
};

struct manager {
	struct manager_cfg cfg;
	struct list vms;
	struct list burials; /* of struct burial, under way */
	uint32_t count;
	json_t *moves;  /* owned; while loading: the journal, by id */
	json_t *epochs; /* the same */
	json_t *marks;  /* the same; VM_CLUSTER_KIND */
};

/* vm.c */
void vm_init(struct vm *vm, struct manager *m, const struct vm_config *config, uint32_t slot);
void vm_free(struct vm *vm);
/* vm_end_read() - its worker's last words: did the guest itself end in good order? */
bool vm_end_read(struct vm *vm, char *text, size_t room);
/* vm_restart_consider() - start it again, later, if its definition wants that. */
void vm_restart_consider(struct vm *vm, bool failed);
/* vm_leftovers_remove() - what a worker that has ended leaves. */
void vm_leftovers_remove(struct vm *vm);
void vm_event(struct vm *vm, const char *event, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* vm_storage() - what a worker says of its disks: {"trouble", "disk"}. */
void vm_storage(struct vm *vm, const json_t *said);
/* vm_worker_state() - what a worker says of its VM. */
void vm_worker_state(struct vm *vm, const char *state);
/* vm_move() - the only writer of the state. */
void vm_move(struct vm *vm, enum vm_state next);
void vm_finish(struct vm *vm, int err, const struct errbuf *eb);

/*
 * nics.c: nics_complete() gives adapters without id and address those that nobody has.
 * Returns 0; -ENOSPC; -ENOMEM. nics_check(): addresses and ids of @config are no other VM's than
 * @except's. Returns 0; -EEXIST.
 */
MUST_USE int nics_complete(struct manager *m, json_t *json, struct errbuf *eb);
MUST_USE int nics_check(struct manager *m, const struct vm_config *config, const struct vm *except,
                        struct errbuf *eb);

/* saved.c. vm_saved_forget(): delete the saved state, durably; 0 also if there is none; -errno. */
MUST_USE int vm_saved_forget(const struct vm *vm, struct errbuf *eb);
/* vm_saved_find() - the worker has ended: does the VM continue from a saved state when it starts
 * again? What is of no use is deleted. */
bool vm_saved_find(struct vm *vm);

/* spawn.c: make the worker's process and its socket; vm->pid is set. */
MUST_USE int vm_spawn(struct vm *vm, struct errbuf *eb);
/* Is the process in the pid file still the worker we started? Its pid, or 0. */
pid_t vm_pid_find(const struct vm *vm);
pid_t worker_pid_find(const char *path);
void vm_kill(const struct vm *vm);
void worker_cgroup_remove(const struct guid *id);

/*
 * burial.c. burial_new() - with each VM, so that nothing can fail later; -ENOMEM. vm_bury() - kill
 * the worker; when it is gone, its taps and all, and never before this returns, comes
 * vm_worker_buried(). burial_leave() - the VM goes: who is being buried still is.
 * worker_leftovers_remove() - what a worker that has ended leaves.
 */
MUST_USE int burial_new(struct vm *vm, struct burial **out);
void burial_leave(struct vm *vm);
void burial_fini(struct manager *m);
void vm_bury(struct vm *vm);
void worker_leftovers_remove(const char *run_dir, const struct guid *id);

/* adopt.c: find out what became of it while we were away; the second: if the journal has a move of
 * it; returns as vm_move_restore(). */
void vm_adopt(struct vm *vm);
MUST_USE int vm_adopt_move(struct vm *vm, const json_t *record, struct errbuf *eb);

/* vm_link.c: connect to the worker; its events and its end come back to vm.c. */
MUST_USE int vm_link(struct vm *vm);
void vm_worker_gone(struct vm *vm);
void vm_worker_buried(struct vm *vm);
/* vm_worker_make() - a worker that waits for its first command. vm_worker_end() - the worker is
 * killed and buried. vm_arrived_dead() - the VM is ours, its worker has died. */
MUST_USE int vm_worker_make(struct vm *vm, struct errbuf *eb);
void vm_worker_end(struct vm *vm);
void vm_arrived_dead(struct vm *vm);

/*
 * manager.c. manager_vm_define_arriving() - a definition from a peer: checked, journal and
 * definition written; @cluster: marked before. manager_unmark() - also without a mark.
 * Return 0; -EEXIST; -EINVAL; -ENOSPC; -errno of the store.
 * manager_vm_drop() - off the list, freed.
 */
MUST_USE int manager_vm_define_arriving(struct manager *m, json_t *json,
                                        const struct vm_move_info *info, bool cluster,
                                        struct vm **out, struct errbuf *eb);
MUST_USE int manager_unmark(struct manager *m, const struct guid *vm_id, struct errbuf *eb);
void manager_vm_drop(struct vm *vm);

/*
 * vm_move.c. vm_move_event() - is it an event of a move? Then it was handled.
 * vm_move_worker_gone() - @vm may be freed when it returns.
 * vm_move_put() - write the journal's entry of a VM. Returns 0; -ENOMEM; -errno of the store.
 * vm_move_restore() - go on with a move of the journal: 0; -EINVAL it makes no sense; -ENOMEM.
 * vm_move_call_back() - the worker may be in a move that nobody has decided: it stays here.
 */
bool vm_move_event(struct vm *vm, const char *event, json_t *message);
void vm_move_worker_gone(struct vm *vm);
MUST_USE int vm_move_put(struct manager *m, const struct guid *vm_id,
                         const struct vm_move_info *info, struct errbuf *eb);
MUST_USE int vm_move_restore(struct vm *vm, const json_t *record, struct errbuf *eb);
void vm_move_call_back(struct vm *vm);
void vm_move_fini(struct vm *vm);

#endif
