/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BIN_GODWITD_CLUSTER_CONF_H
#define BIN_GODWITD_CLUSTER_CONF_H

/*
 * cluster_conf - what a node must know about its cluster before it can ask anybody: a file, and the
 * corosync.conf made from it. Everything else is in the cluster database, which has the last word:
 * the list of nodes here is the database's as of @version. docs/formats/cluster-node.md.
 *
 * Any thread; no state.
 */

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/guid.h"
#include "base/json.h"
#include "base/tls_pki.h"
#include "cluster/coro/conf.h"

struct db;
struct errbuf;

#define CLUSTER_LINKS_MAX CORO_CONF_LINKS_MAX
#define CLUSTER_NODES_MAX CORO_CONF_NODES_MAX
#define CLUSTER_AUTHKEY_BYTES 1024u
#define CLUSTER_PATH_MAX 4096u

struct cluster_node {
	char name[TLS_NAME_MAX];
	uint32_t nodeid;
	uint32_t votes;                                 /* 0: does not count yet, or any more */
	uint16_t port;                                  /* of its API; 0 = API_TLS_PORT */
	char addr[CLUSTER_LINKS_MAX][INET6_ADDRSTRLEN]; /* [1] may be "" */
};

/* Value type. */
struct cluster_conf {
	char name[TLS_NAME_MAX]; /* of the cluster */
	struct guid cluster;
	struct guid uuid;        /* of this node, new with each joining */
	char node[TLS_NAME_MAX]; /* our name */
	uint32_t nodeid;
	bool founder; /* the cluster's database begins with us */
	uint32_t token_ms;
	uint64_t version; /* of the list; corosync's config_version */
	uint32_t witness; /* votes of the witness in corosync.conf; 0 = none */
	uint32_t count;
	struct cluster_node nodes[CLUSTER_NODES_MAX];
};

/* cluster_conf_json() - as the file has it; NULL = no memory. */
json_t *cluster_conf_json(const struct cluster_conf *conf);

/* cluster_conf_read() - the way back, from a file or a peer. Returns 0; -EINVAL. */
MUST_USE int cluster_conf_read(const struct json_at *at, struct cluster_conf *out,
                               struct errbuf *eb);

/* cluster_node_read() - members name, nodeid, votes, port, addrs; all optional but name and addrs.
 * Returns 0; -EINVAL. */
MUST_USE int cluster_node_read(const struct json_at *at, struct cluster_node *out,
                               struct errbuf *eb);

/* cluster_node_addrs() - a new array of texts; NULL = no memory. */
json_t *cluster_node_addrs(const struct cluster_node *node);

/*
 * cluster_conf_load() - DIR/cluster.json. Returns 0; -ENOENT in no cluster; -EINVAL, -EBADMSG
 * damaged; -errno.
 */
MUST_USE int cluster_conf_load(const char *dir, struct cluster_conf *out, struct errbuf *eb);

/* cluster_conf_save() - durably. Returns 0; -errno. */
MUST_USE int cluster_conf_save(const char *dir, const struct cluster_conf *conf, struct errbuf *eb);

/* cluster_conf_from_db() - @conf's version, times and nodes as the database has them.
 * Returns 0; -ENOENT the database does not say yet; -EBADMSG it makes no sense. */
MUST_USE int cluster_conf_from_db(const struct db *db, struct cluster_conf *conf,
                                  struct errbuf *eb);

/* cluster_conf_text() - corosync.conf; @buf[CORO_CONF_TEXT_MAX]. Returns its length; -EINVAL. */
MUST_USE int cluster_conf_text(const struct cluster_conf *conf, const char *dir, char *buf,
                               struct errbuf *eb);

/*
 * cluster_conf_apply() - write corosync.conf to where corosync reads it. One that is not ours is
 * kept beside it, if it is of one node; else it belongs to a cluster that we do not know.
 * Returns 0; -EEXIST that; -EINVAL; -errno.
 */
MUST_USE int cluster_conf_apply(const struct cluster_conf *conf, const char *dir,
                                struct errbuf *eb);

/* cluster_node_find() - by name, or NULL. */
const struct cluster_node *cluster_node_find(const struct cluster_conf *conf, const char *name);

/* cluster_addr_local() - is this numeric address one of this host's? */
bool cluster_addr_local(const char *addr);

#endif
