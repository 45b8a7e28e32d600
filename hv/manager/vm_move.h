/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_MANAGER_VM_MOVE_H
#define HV_MANAGER_VM_MOVE_H

/*
 * vm_move - a VM that leaves this host, or comes to it: its worker, its state, the journal.
 *
 *   source   RUNNING --send--> RUNNING (op: move) --commit--> MOVED --forget--> gone
 *                                  \--failed, cancelled, refused--> RUNNING
 *   target   receive --> ARRIVING --take--> RUNNING (or CRASHED, if its worker is dead)
 *                            \--abandon--> gone
 *
 * Exactly one host owns a VM. The source owns it until vm_move_commit() has written its word into
 * the store; from then on the target does, whether it knows or not, and here the VM is MOVED: it
 * cannot be started, and stays listed until the target has said that it has written that down
 * (then the caller forgets it). The target writes down that a VM is ARRIVING before anything comes;
 * an ARRIVING VM cannot be started either. A target that does not know asks the source's service,
 * whose answer is the record, or its absence: that is the caller's work (bin/godwitd/move_api.h),
 * as are sockets, credentials and what the two services say to each other.
 *
 * After a restart of the service manager_create() restores what the journal says; the caller finds
 * those VMs with vm_move_info() and drives them on. A source that was not yet committed is called
 * back.
 *
 * Thread: the loop's.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/guid.h"
#include "base/json.h"
#include "base/tls.h"

struct errbuf;
struct manager;
struct vm;

#define VM_MOVE_SOCKETS_MAX 17u /* control and 16 for data */
#define VM_MOVE_TOKEN_HEX 65u   /* 32 bytes and NUL */
#define VM_MOVE_PEER_MAX 64u    /* a node's name */
#define VM_MOVE_ADDR_MAX 64u    /* a numeric address; "" = by name */

enum vm_move_role { VM_MOVE_SOURCE, VM_MOVE_TARGET };

/* The other side, as the journal has it. */
struct vm_move_peer {
	char name[VM_MOVE_PEER_MAX];
	char addr[VM_MOVE_ADDR_MAX];
	uint16_t port; /* of its API */
};

struct vm_move_info {
	enum vm_move_role role;
	bool committed; /* source: the word is given */
	bool attached; /* somebody gets the events; false after a restart, until vm_move_attach() */
	struct guid move;
	uint64_t epoch; /* source: the next owner's; target: the one we were told */
	struct vm_move_peer peer;
};

/* All from the loop, never from inside a call of the functions below. */
struct vm_move_events {
	/* @message: the worker's event, hostile; borrowed. See docs/formats/worker-control.md. */
	void (*progress)(void *arg, json_t *message);
	/* Source: decide, with vm_move_commit() or vm_move_refuse(). */
	void (*ready)(void *arg);
	/* Target: the source's word came to the worker, which runs: vm_move_take(). */
	void (*committed)(void *arg);
	/* Target: ready, but the source is gone: ask its service, then take or abandon. */
	void (*orphaned)(void *arg);
	/*
	 * The copying is over; no event after this. @err: 0 moved; -ECANCELED; another: why in @eb.
	 * Source: with err != 0 the VM runs on here (or has crashed here), unless it was committed.
	 * Target: with err != 0 and nothing taken: vm_move_abandon().
	 * @message: as in progress, or NULL: the worker died.
	 */
	void (*ended)(void *arg, int err, json_t *message, const struct errbuf *eb);
};

struct vm_move_cfg {
	struct guid move;
	struct vm_move_peer peer;
	uint64_t epoch;                /* source: ignored; target: the source's, from 1 */
	char token[VM_MOVE_TOKEN_HEX]; /* one-time */
	struct tls_pem tls;            /* borrowed for the call; cert NULL: without encryption */
	const json_t *options;         /* source: members for "move-send"; borrowed; NULL = none */
	const int *fds;                /* source: connected sockets; duplicated */
	uint32_t fd_count;
	bool cluster; /* it is a cluster's: source: as the VM is marked; target: it will be */
	const struct vm_move_events *events; /* borrowed until ended, forget or abandon */
	void *arg;
};

/*
 * vm_move_send() - begin to move a running (or paused) VM away.
 * Returns 0; -EBUSY its state or another operation; -EINVAL too many sockets; -EPERM it is a
 * cluster's and cfg->cluster does not say so; -ENOMEM; -errno.
 */
MUST_USE int vm_move_send(struct vm *vm, const struct vm_move_cfg *cfg, struct errbuf *eb);

/*
 * vm_move_commit() - after ready: write down that the peer owns the VM, then tell the worker.
 * Returns 0: the VM is MOVED; -errno of the store: nothing was given away, refuse.
 */
MUST_USE int vm_move_commit(struct vm *vm, struct errbuf *eb);

/* vm_move_refuse() - after ready: it stays here. The ended event follows. */
void vm_move_refuse(struct vm *vm, const char *why);

/*
 * vm_move_hold() - after ready: somebody else than this host decides whose the VM is, and may have
 * decided while we do not know. From now on it goes on here only by vm_move_refuse(): not when
 * the destination is lost, and not when the service is started again, which then kills it.
 * Returns 0; -errno: refuse.
 */
MUST_USE int vm_move_hold(struct vm *vm, struct errbuf *eb);

/* vm_move_cancel() - before ready. The ended event follows. Returns 0; -EBUSY it is too late. */
MUST_USE int vm_move_cancel(struct vm *vm, struct errbuf *eb);

/* vm_move_forget() - the peer has written down that the VM is its own: it is gone from here. @vm is
 * freed. Returns 0; -errno of the store: it stays MOVED, try again. */
MUST_USE int vm_move_forget(struct vm *vm, struct errbuf *eb);

/*
 * manager_vm_receive() - a VM that is to come: defined, ARRIVING, its worker waits for sockets.
 * @definition: as the peer sent it, hostile; checked here.
 * Returns 0; -EEXIST name, id or address are taken; -EINVAL; -ENOSPC; -errno of starting a worker.
 */
MUST_USE int manager_vm_receive(struct manager *m, const json_t *definition,
                                const struct vm_move_cfg *cfg, struct vm **out, struct errbuf *eb);

/* vm_move_socket() - give the target's worker an accepted connection; duplicated. Returns 0;
 * -EPIPE; -EBUSY; -ENOMEM. */
MUST_USE int vm_move_socket(struct vm *vm, int fd);

/*
 * vm_move_take() - the VM is ours with @epoch: written down, then run, if it does not run already.
 * A VM whose worker has died is CRASHED, and restarted if it wants that.
 * Returns 0, also if it was done before; -EINVAL not later than the epoch it had; -errno of the
 * store: try again.
 */
MUST_USE int vm_move_take(struct vm *vm, uint64_t epoch, struct errbuf *eb);

/* vm_move_abandon() - it does not come: worker, definition and journal go; @vm is freed.
 * Returns 0; -errno of the store: it stays ARRIVING, try again. */
MUST_USE int vm_move_abandon(struct vm *vm, const char *why, struct errbuf *eb);

/* vm_move_info() - what the journal and we know. Returns false: no move. */
bool vm_move_info(const struct vm *vm, struct vm_move_info *out);

/* vm_move_attach() - get the events of a move that was found at the start. */
void vm_move_attach(struct vm *vm, const struct vm_move_events *events, void *arg);

/* vm_epoch() - of the ownership we hold, from 1: grows with every move. */
uint64_t vm_epoch(const struct vm *vm);

/* vm_epoch_known() - the last with which the VM @id was ours by a move, also if it has been removed
 * or moved on since; 0 = it never came here. */
uint64_t vm_epoch_known(const struct manager *m, const struct guid *id);

#endif
