/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CSV_DAEMON_RESERVE_H
#define CSV_DAEMON_RESERVE_H

/*
 * reserve - persistent reservations of a volume's LUN, for one run of this node: registers its key,
 * sees that the LUN is reserved, looks every CHECK_NS whether the key is still there, and takes
 * other runs' keys away.
 *
 * Commands of SCSI block, so each volume on a block device has a thread for them. What a target
 * that hangs leaves behind is a thread that ends when it answers: reserve_destroy() does not wait.
 *
 * Threads: all functions and callbacks are the loop's; the thread owns struct csv_pr. The lock
 * guards everything that both use. docs/decisions/0156, 0205.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "csv/pr/csv_pr.h"

struct errbuf;
struct loop;
struct reserve;

struct reserve_cfg {
	struct loop *loop; /* borrowed until reserve_destroy() */
	int fd;            /* of the device; copied */
	uint64_t key;      /* of this run */
	/* This run had registered it already: a key that is gone now was taken away. */
	bool registered;
	const struct csv_pr_door *door; /* NULL = SG_IO (tests: a model of a target) */
	void *door_arg;
	uint64_t check_ns; /* 0 = a second */
	/* What reserve_get() says has changed. From the loop; may destroy it. */
	void (*changed)(void *arg);
	void *arg;
};

struct reserve_state {
	bool known;   /* it was found out what there is */
	int err;      /* it could not be: -errno, and why; it is not tried again */
	bool entered; /* our key may be there, or has been: also if known with an error */
	bool fenced;  /* our key was taken away */
	bool left;
	enum csv_pr_level level;
	char why[160]; /* of err, of a level that is not the best */
};

/* reserve_create() - begin to register. Returns 0; -ENOMEM; -errno. */
MUST_USE int reserve_create(const struct reserve_cfg *cfg, struct reserve **out, struct errbuf *eb);

void reserve_get(struct reserve *r, struct reserve_state *out);

/*
 * reserve_preempt() - take the key of another run away, and see that it is gone.
 * @fn: from the loop, once. err as csv_pr_preempt(), or -ECANCELED: it was destroyed. @aborted:
 * nothing that was sent under that key is executed any more.
 * Returns 0; -EBUSY one is under way; -EAGAIN we are not registered (yet, any more); -ENOTSUP.
 */
MUST_USE int reserve_preempt(struct reserve *r, uint64_t victim,
                             void (*fn)(void *arg, int err, bool aborted), void *arg);

/* reserve_leave() - unregister; then changed(), and .left. */
void reserve_leave(struct reserve *r);

/* reserve_destroy() - does not wait. NULL is fine. */
void reserve_destroy(struct reserve *r);

#endif
