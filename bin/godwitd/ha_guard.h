/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BIN_GODWITD_HA_GUARD_H
#define BIN_GODWITD_HA_GUARD_H

/*
 * ha_guard - ends VMs whose node's lease is at its end, whatever godwitd does meanwhile.
 *
 * A process of its own: it goes on when the service hangs, crashes or is stopped. Both have a page
 * of shared memory, RUN/ha-guard: godwitd writes the times of the lease and which workers count,
 * the guard looks at them every GUARD_TICK_MS and
 *
 *	after pause_ns       stops the workers (SIGSTOP: no instruction of the guest, no new I/O);
 *	                     lets them go on if the lease was renewed
 *	after kill_ns        kills them
 *	before pet_until_ns  pets the watchdog, if it has one; always, while no worker lives
 *
 * A worker is named by its pid file (pid and start time), before it is started: there is no moment
 * at which one runs that the guard does not know. The page also tells the next godwitd which run of
 * the node this is. It is worth nothing after a reboot: it carries the boot's id.
 *
 * Threads: the loop's; the process shares only the page, by atomics. docs/decisions/0182.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/guid.h"

struct errbuf;
struct guard;
struct vmops_lease;

#define GUARD_TICK_MS 50u
#define GUARD_VMS_MAX 1024u /* as many as a host has */
#define GUARD_PATH_MAX 512u
#define GUARD_SILENT_NS 3000000000ull /* a guard that does not look for so long is dead or hangs */

struct guard_cfg {
	const char *run_dir;  /* copied */
	const char *watchdog; /* a device; NULL = none; copied */
	uint32_t watchdog_s;
	struct guid cluster; /* a page of another cluster or node counts for nothing */
	uint32_t nodeid;
};

/* A VM that is run for the cluster. Value type. */
struct guard_vm {
	uint32_t role; /* 0 = free */
	uint64_t token;
	struct guid id; /* of the VM */
	char pid_path[GUARD_PATH_MAX];
};

/* guard_open() - map the page, and start the process unless one is alive; waits until it has tried
 * to open its watchdog (2 s at most). Returns 0; -errno. */
MUST_USE int guard_open(const struct guard_cfg *cfg, struct guard **out, struct errbuf *eb);

/* guard_close() - let go of the page; the process goes on. NULL is fine. */
void guard_close(struct guard *g);

/* guard_alive() - did it look lately? If not, another one is started. */
bool guard_alive(struct guard *g);

/* guard_may_pet() - the watchdog, now? @began_ns: when the guard looked at the workers; @any: one
 * lives. Not after a standstill: what was seen before it may not be so any more. */
bool guard_may_pet(uint64_t began_ns, uint64_t now_ns, bool any, uint64_t pet_until_ns);

/* guard_watchdog() - the process has the watchdog open with the timeout that was asked for. @soft:
 * it is the kernel's own. */
bool guard_watchdog(const struct guard *g, bool *soft);

/* The run of this node; guard_begin(): a new one, without VMs and without a lease. */
uint64_t guard_run(const struct guard *g, struct vmops_lease *lease);
void guard_begin(struct guard *g, uint64_t inc);

/* guard_lease() - new times. */
void guard_lease(struct guard *g, const struct vmops_lease *lease);

/* guard_add() - from now on the worker of that pid file counts; if the process has just left for
 * lack of work another is started. Returns its place; -ENOSPC; -EAGAIN there is no guard.
 * guard_del(): it has ended. */
MUST_USE int guard_add(struct guard *g, const struct guard_vm *vm);
void guard_del(struct guard *g, uint32_t role);

/*
 * GUARD_CSVD - in place of a role: godwit-csvd of this node. It writes to devices that others use
 * once this node's lease is over, so it ends as a worker does.
 */
#define GUARD_CSVD UINT32_MAX

/* guard_pid_write() - a pid file as workers have it. Returns 0; -ESRCH no such process; -errno. */
MUST_USE int guard_pid_write(const char *path, int pid, struct errbuf *eb);

/* guard_pid_names() - the pid file is of that process. */
bool guard_pid_names(const char *path, int pid, uint64_t started);

/* guard_pid_lives() - the process of the pid file has not ended, as far as one can know.
 * guard_pid_kill(): SIGKILL. */
bool guard_pid_lives(const char *path);
void guard_pid_kill(const char *path);

/* guard_find() - the VM of @role; guard_at() - place 0..GUARD_VMS_MAX-1. Returns false if there is
 * none. */
bool guard_find(const struct guard *g, uint32_t role, struct guard_vm *out);
bool guard_at(const struct guard *g, uint32_t place, struct guard_vm *out);

#endif
