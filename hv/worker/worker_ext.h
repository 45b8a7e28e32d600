/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_WORKER_WORKER_EXT_H
#define HV_WORKER_WORKER_EXT_H

/*
 * worker_ext - what a worker can do besides running its VM, given by the program: moves
 * (migrate/mover). hv knows nothing of migrate; this is the table between them.
 *
 * All on the device thread.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/list.h"

struct control;
struct control_request;
struct errbuf;
struct json_build;
struct partition;
struct uring;
struct vm_config;
struct worker;

/* Complete. */
struct worker_ext_ops {
	/* The worker is built, nothing runs and nothing is sealed yet. */
	int (*create)(struct worker *w, void **out, struct errbuf *eb);
	/* The first look at a command. Returns true if it is answered, or will be. */
	bool (*command)(void *ext, struct control_request *req);
	/* The VM ends, @why: bring to an end what is under way. */
	void (*stop)(void *ext, const char *why);
	/* Is nothing under way? The worker does not end before. */
	bool (*idle)(const void *ext);
	/* Add to the answer of "status". */
	void (*status)(void *ext, struct json_build *b);
	/* Idle. */
	void (*destroy)(void *ext);
};

struct partition *worker_partition(struct worker *w);
const struct vm_config *worker_vm(const struct worker *w);
struct uring *worker_ring(struct worker *w);
struct control *worker_control(struct worker *w);
/* worker_arriving() - was it started as the destination of a move ("arriving" in its
 * configuration), and does the guest not run yet? Then its disks are not open. */
bool worker_arriving(const struct worker *w);
/* worker_is_busy() - is a command under way that must not meet a move, or does the VM end? */
bool worker_is_busy(const struct worker *w);

/* worker_disk_file() - descriptor of the first file of disk @disk (< disk_count), not yet open as a
 * disk; -1 = none. Borrowed. */
int worker_disk_file(const struct worker *w, uint32_t disk);

/* worker_cpu_check() - partition_cpu_check() of @vm on this host. Any thread. */
MUST_USE int worker_cpu_check(const struct worker *w, const struct vm_config *vm,
                              struct errbuf *eb);

typedef void (*worker_done_fn)(void *arg, int err);

/*
 * The right to the disks, decision 0111. The partition is PAUSED.
 *
 * worker_disks_release() - flush what was written, then give up locks and rights: nothing of this
 * process writes to a disk any more. @done: 0; -EIO etc.: then nothing was given up.
 * worker_disks_retake() - have them again, all or none. Returns 0; -EBUSY somebody has one; -errno.
 * worker_disks_open() - of a destination, before the guest runs: lock, open, give to the devices.
 * Blocks on I/O. Returns 0; -EBUSY; -errno (some may be open: only the end is left).
 */
void worker_disks_release(struct worker *w, worker_done_fn done, void *arg);
MUST_USE int worker_disks_retake(struct worker *w, struct errbuf *eb);
MUST_USE int worker_disks_open(struct worker *w, struct errbuf *eb);

/* Something to do between two rounds of the ring. Zero-initialised; embedded in what wants it. */
struct worker_deferred {
	struct list link;
	void (*fn)(void *arg);
	void *arg;
	bool queued;
};

/*
 * worker_defer() - call @fn once, soon, outside of any completion, so that it may wait for the
 * ring: opening an image does. Again before it was called: once. Device thread.
 */
void worker_defer(struct worker *w, struct worker_deferred *item, void (*fn)(void *arg), void *arg);

/* worker_ran() - the guest of a destination runs now: an ordinary worker from here on. */
void worker_ran(struct worker *w);

/* worker_announce() - tell the network where the guest is, and again a few times. */
void worker_announce(struct worker *w);

/*
 * worker_gone() - the worker ends: the VM is somebody else's, or did not come. The last words are
 * @end and @text; disks are left as they are, not closed.
 */
void worker_gone(struct worker *w, const char *end, const char *text);

#endif
