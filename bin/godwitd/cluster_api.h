/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BIN_GODWITD_CLUSTER_API_H
#define BIN_GODWITD_CLUSTER_API_H

/*
 * cluster_api - this node as a member of a cluster: forming, joining, leaving, looking.
 *
 *   STATE/cluster/cluster.json   that we are in one, and who we are there (cluster_conf.h)
 *   STATE/cluster/db.sqlite      our copy of the cluster database
 *   STATE/cluster/authkey        corosync's key
 *   STATE/cluster/tokens.json    for nodes to come
 *   STATE/join.json              a joining under way
 *
 * What must happen next is derived from the database and from what is seen, again and again
 * (cluster_sync.c): a service that dies in the middle goes on where it was. Requests only ask for
 * it, and wait. docs/formats/cluster-node.md, docs/decisions/0160, 0161.
 *
 * Not in a cluster: no corosync, no database, nothing runs.
 *
 * Thread: the loop's.
 */

#include <stdint.h>

#include "base/attr.h"
#include "base/guid.h"
#include "bin/godwitd/cluster_work.h"

struct api_server;
struct cert_api;
struct cluster_api;
struct errbuf;
struct loop;
struct member;
struct peers;
struct tls_seal;

/* Where this node is in the cluster, for those who build on it. */
struct cluster_place {
	struct member *member; /* borrowed until closing() */
	struct guid cluster;
	uint32_t nodeid;
	uint32_t token_ms;
	const char *node; /* our name */
	const char *name; /* the cluster's */
	const char *dir;  /* STATE/cluster: for cluster_seal_key() */
};

struct cluster_hooks {
	void (*opened)(void *arg, const struct cluster_place *place);
	void (*changed)(void *arg); /* the view or the leader */
	void (*closing)(
		void *arg); /* the member is about to be closed; not if opened() never came */
	uint32_t (*lease_ms)(void *arg); /* of this node's lease; 0 = it runs no VMs */
	void *arg;
};

struct cluster_api_cfg {
	struct loop *loop; /* borrowed until cluster_api_destroy(), as the next three */
	struct api_server *server;
	struct cert_api *certs;
	struct peers *peers;
	const char *state_dir;   /* copied */
	const char *listen_addr; /* for nodes that come; copied */
	uint16_t port;      /* of other nodes' API, unless they say otherwise; 0 = API_TLS_PORT */
	uint16_t join_port; /* where nodes that have no certificate yet ask for admission */
	enum corosync_by corosync;
	const struct cluster_hooks *hooks; /* NULL = nobody; borrowed */
};

#define CLUSTER_JOIN_PORT 7444

/*
 * cluster_api_create() - serve the routes and, if this node is in a cluster, take part. What is
 * wrong with that is logged and shown by GET /v1/cluster: the local socket must work to mend it.
 * Returns 0; -ENOMEM; -errno.
 */
MUST_USE int cluster_api_create(const struct cluster_api_cfg *cfg, struct cluster_api **out,
                                struct errbuf *eb);

/*
 * cluster_seal_key() - the key with which the nodes of a cluster seal secrets in its database,
 * derived from corosync's; wipe it after use. @dir: cluster_place.dir. @label: what it is for.
 * Returns 0; -errno, as fs_read().
 */
MUST_USE int cluster_seal_key(const char *dir, const char *label, struct tls_seal *seal,
                              struct errbuf *eb);

/* cluster_api_stop() - leave the group, answer all who wait; before the server is destroyed. NULL
 * is fine. */
void cluster_api_stop(struct cluster_api *api);

/* cluster_api_destroy() - after the server. NULL is fine. */
void cluster_api_destroy(struct cluster_api *api);

#endif
