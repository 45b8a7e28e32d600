/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BIN_GODWITD_CLUSTER_WORK_H
#define BIN_GODWITD_CLUSTER_WORK_H

/*
 * cluster_work - what blocks for a while (starting corosync, asking a stranger for admission), on a
 * thread of its own; the end is told on the loop. Thread: the loop's.
 */

#include <stdint.h>

#include "base/attr.h"

struct cluster_works;
struct errbuf;
struct loop;

/* On the thread. Returns 0 or -errno. */
typedef int (*cluster_run_fn)(void *arg, struct errbuf *eb);
/* On the loop. @arg belongs to the caller again. */
typedef void (*cluster_done_fn)(void *arg, int err, const struct errbuf *eb);

/* cluster_works_create() - Returns 0; -ENOMEM; -errno. */
MUST_USE int cluster_works_create(struct loop *loop, struct cluster_works **out);

/* cluster_works_destroy() - waits for the threads; calls @done of what has not been told. NULL is
 * fine. */
void cluster_works_destroy(struct cluster_works *works);

/* cluster_work_start() - Returns 0; -ENOMEM; -errno no thread; then neither is called. */
MUST_USE int cluster_work_start(struct cluster_works *works, cluster_run_fn run,
                                cluster_done_fn done, void *arg);

/* How corosync is started and stopped. */
enum corosync_by {
	COROSYNC_SYSTEMD, /* its unit, which is enabled, too */
	COROSYNC_DIRECT,  /* the program itself, beside us */
	COROSYNC_NONE     /* somebody else does */
};

/* Block; for a cluster_run_fn. Return 0; -EIO what it said, -errno. corosync_start() succeeds if it
 * runs already. */
MUST_USE int corosync_start(enum corosync_by by, struct errbuf *eb);
MUST_USE int corosync_stop(enum corosync_by by, struct errbuf *eb);
/* corosync_reload() - all nodes' corosyncs read their files again. */
MUST_USE int corosync_reload(struct errbuf *eb);

#endif
