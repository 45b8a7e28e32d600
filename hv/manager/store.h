/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_MANAGER_STORE_H
#define HV_MANAGER_STORE_H

/*
 * store - where definitions are kept: a table of functions, so that a stand-alone host (SQLite,
 * store_sqlite.h) and a cluster node (the cluster database) look the same to the manager.
 *
 * Keys are text, values JSON objects. A put that returned 0 survives a power failure.
 */

#include "base/attr.h"
#include "base/json.h"

struct errbuf;
struct vm_store;

struct vm_store_ops {
	/* Calls @fn for every value of @kind, in order of keys; stops at its first error. */
	int (*each)(struct vm_store *store, const char *kind,
	            int (*fn)(void *arg, const char *key, json_t *value), void *arg,
	            struct errbuf *eb);
	int (*put)(struct vm_store *store, const char *kind, const char *key, const json_t *value,
	           struct errbuf *eb);
	int (*remove)(struct vm_store *store, const char *kind, const char *key, struct errbuf *eb);
	void (*close)(struct vm_store *store);
};

/* An implementation embeds it as its first member. */
struct vm_store {
	const struct vm_store_ops *ops;
};

/*
 * store_sqlite_open() - the database file @path, made if it is not there (WAL, synchronous=FULL).
 * Returns 0; -EBADMSG damaged or of a newer version; -EBUSY another process has it; -errno.
 */
MUST_USE int store_sqlite_open(const char *path, struct vm_store **out, struct errbuf *eb);

#endif
