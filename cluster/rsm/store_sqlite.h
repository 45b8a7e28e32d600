/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLUSTER_RSM_STORE_SQLITE_H
#define CLUSTER_RSM_STORE_SQLITE_H

/*
 * store_sqlite - the log and state of a node in one SQLite file (WAL, synchronous=FULL).
 *
 * Changes are collected on the loop's thread; sync() hands all of them to a writer thread, which
 * makes them one transaction: group commit. The loop never waits for the disk, but for reads of
 * entries that are no longer in memory (the last few thousand are) and for opening.
 */

#include "cluster/rsm/rsm_store.h"

struct errbuf;
struct loop;

struct rsm_sqlite_cfg {
	const char *path;
	struct loop *loop;           /* borrowed until close */
	struct guid cluster;         /* for a new file */
	struct guid uuid;            /* of this node, for a new file */
	const struct rsm_mark *mark; /* for a new file: the configuration it begins with; or NULL */
	/* On the loop's thread: rsm_on_synced(). */
	void (*synced)(void *arg, uint64_t token, int err);
	void *arg;
};

/*
 * rsm_sqlite_open() - open the file, or make it.
 * Returns 0; -EBUSY another process has it; -EBADMSG damaged; -EPROTONOSUPPORT of a newer
 * version; -ENOMEM; -errno.
 */
MUST_USE int rsm_sqlite_open(const struct rsm_sqlite_cfg *cfg, struct rsm_store **out,
                             struct errbuf *eb);

/* rsm_sqlite_aside() - the closed file and those beside it get ".damaged-" and a number behind
 * their names: evidence, and room for a new one. Returns 0; -errno. */
MUST_USE int rsm_sqlite_aside(const char *path, uint64_t number, struct errbuf *eb);

/* rsm_sqlite_close() - what was not synced is forgotten. NULL is fine. */
void rsm_sqlite_close(struct rsm_store *store);

/* rsm_sqlite_identity() - whose file it is. */
void rsm_sqlite_identity(const struct rsm_store *store, struct guid *cluster, struct guid *uuid);

#endif
