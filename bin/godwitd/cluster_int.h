/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BIN_GODWITD_CLUSTER_INT_H
#define BIN_GODWITD_CLUSTER_INT_H

/*
 * Inside of cluster_api. One struct, six files: cluster_api.c (life, those who wait),
 * cluster_sync.c (what must happen next), cluster_join.c (both ends of an admission),
 * cluster_node_api.c (requests), cluster_show.c (looking), cluster_trust.c (keys of nodes, the CA),
 * cluster_level.c (what all nodes understand).
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/api/server.h"
#include "base/clock.h"
#include "base/errbuf.h"
#include "base/json.h"
#include "base/list.h"
#include "bin/godwitd/cert_api.h"
#include "bin/godwitd/cluster_api.h"
#include "bin/godwitd/cluster_conf.h"
#include "bin/godwitd/cluster_quorum.h"
#include "bin/godwitd/cluster_token.h"
#include "cluster/db/db.h"
#include "cluster/db/db_cmd.h"
#include "cluster/member/member.h"
#include "cluster/view/flap.h"

struct cluster_waiter;

#define CLUSTER_TAG "cluster"
#define CLUSTER_GROUP "godwit"
#define CLUSTER_TICK_NS (200 * NS_PER_MS)
#define CLUSTER_PROPOSE_NS (5 * NS_PER_S)
#define CLUSTER_RESTART_NS (5 * NS_PER_S) /* between tries to start corosync */
#define CLUSTER_WAITERS_MAX 64u

/* Of DB_NODE documents, member "state". */
#define NODE_JOINING "joining" /* corosync knows it, without a vote */
#define NODE_MEMBER "member"
#define NODE_LEAVING "leaving" /* its vote goes */
#define NODE_LEFT "left"       /* it may stop */

struct cluster_api {
	struct cluster_api_cfg cfg;
	char state_dir[CLUSTER_PATH_MAX];
	char dir[CLUSTER_PATH_MAX]; /* STATE/cluster */
	char listen_addr[64];
	struct cluster_works *works; /* owned, as the next three; NULL = not there */
	struct loop_timer *tick;
	struct member *member;         /* NULL: in no cluster, or it cannot be opened */
	struct api_server *admissions; /* while there are tokens */
	struct tls_ctx *admissions_tls;
	struct cluster_quorum *quorum; /* owned */
	struct list waiters;           /* of struct cluster_waiter, owned */
	uint32_t waiter_count;
	struct cluster_conf conf; /* as in the file, if: */
	bool present;             /* we are in a cluster */
	bool stopped;
	bool leaving;   /* the member is closed, corosync is being stopped */
	bool proposing; /* one at a time; so are: */
	bool starting;  /* corosync */
	bool reloading;
	bool asking; /* a peer for its list of nodes */
	uint64_t measure_next_ns;
	bool measuring;             /* which token our corosync has; */
	uint32_t corosync_token_ms; /* 0 = not known; while measuring: the thread's */
	uint32_t ask_next;
	uint32_t start_count; /* since corosync was seen last */
	uint64_t start_next_ns;
	struct flap flap;
	uint64_t back_ns; /* corosync is left alone until then; 0 = not */
	uint64_t reload_next_ns;
	struct cluster_join *join;   /* owned; a joining under way */
	struct cluster_check *check; /* owned; a check under way */
	struct errbuf trouble;       /* what stands in the way now; "" = nothing */
	bool refused;                /* by another node, says trouble */
	struct cert_fresh fresh;     /* owned; to be ours when all nodes know it */
	bool renewing;               /* there is one; so is: */
	uint64_t fresh_since_ns;     /* when the database had it; 0 = not yet */
	bool renew_wanted;           /* now, whatever is left of the old one's time */
	uint64_t renew_next_ns;
	uint64_t trust_index; /* of the database, when connections were looked at last */
	uint64_t prune_next_ns;
};

/* A member's text, or "". */
static inline const char *cluster_text(const json_t *doc, const char *key)
{
	const char *text = json_string_value(json_object_get(doc, key));

	return text != NULL ? text : "";
}

/* ---- cluster_api.c ---- */

/* A request that waits until something has come true. */
struct cluster_waiter {
	struct list link;
	struct cluster_api *api;
	struct api_req *req; /* owned until answered */
	uint64_t deadline_ns;
	/* Looks, and asks for what is missing. Returns 1 and *answer; 0 not yet; -errno. */
	int (*poll)(struct cluster_waiter *w, json_t **answer, struct errbuf *eb);
	json_t *args;     /* owned */
	const char *what; /* static: what we wait for, for people */
	char name[TLS_NAME_MAX];
};

/* Takes @req and @args; @template gives poll, what and name. */
enum api_then cluster_wait(struct cluster_api *api, struct api_req *req,
                           const struct cluster_waiter *template, json_t *args);

/* Open the database and begin to take part. */
MUST_USE int cluster_begin(struct cluster_api *api, struct errbuf *eb);

/* Out of the cluster: the member is closed, corosync stopped, our files put aside. */
void cluster_leave(struct cluster_api *api, const char *why);

int64_t cluster_now_s(void);

/* Answers, and returns false, if @req is not from this host itself. */
bool cluster_is_local(struct api_req *req);

/* ---- cluster_sync.c ---- */

void cluster_sync(struct cluster_api *api);

/* Says that this node is in no cluster, and what to do about it. -ENOENT. */
int cluster_none(struct errbuf *eb);

/* The database may be written: a majority is here. */
bool cluster_is_active(const struct cluster_api *api, struct errbuf *eb);

/* Is that node of the database in the view, with the identity that it has there? */
bool cluster_in_view(const struct cluster_api *api, const json_t *node);

/* All nodes that are here have the corosync.conf of the database. *@who: one that has not. */
bool cluster_settled(const struct cluster_api *api, const char **who);

/* Votes of those who are here, as the log counts now (a view keeps the numbers it was formed with).
 * @but: without that node; 0 = all. */
uint32_t cluster_votes_here(const struct cluster_api *api, uint32_t but);

/* Would those who are here still be a majority if @nodeid had no vote? */
bool cluster_can_lose(const struct cluster_api *api, uint32_t nodeid);

/* Propose; @cmd is ended and freed here. One at a time: api->proposing. */
void cluster_propose(struct cluster_api *api, struct db_cmd *cmd, const char *what);

/* The same for who votes in the log. */
void cluster_configure(struct cluster_api *api, const struct view_config *config);

/* The same for the functional level, by one. */
void cluster_raise(struct cluster_api *api);

/* A version more of the list of nodes, if it is still @version. */
void cluster_bump(struct db_cmd *cmd, uint64_t version);

uint64_t cluster_conf_version(const struct cluster_api *api);

/* ---- cluster_join.c ---- */

/* New node: go on with what STATE/join.json says, if there is one. */
void cluster_join_resume(struct cluster_api *api);
void cluster_join_free(struct cluster_api *api);
enum api_then cluster_on_join(struct api_req *req, void *arg);
enum api_then cluster_on_token(struct api_req *req, void *arg);

/* The cluster's side. */
MUST_USE int cluster_token_make(struct cluster_api *api, const char *node,
                                char text[CLUSTER_TOKEN_MAX], struct errbuf *eb);
MUST_USE int cluster_admissions_open(struct cluster_api *api, struct errbuf *eb);
void cluster_admissions_close(struct cluster_api *api);

/* ---- cluster_trust.c ---- */

/* Ask the servers to ask us who may speak. */
void cluster_trust_begin(struct cluster_api *api);
/* Those who may no longer speak are shown out; our own key, the CA's, admissions: what is to be
 * done. Proposes at most one change. */
void cluster_trust_expel(struct cluster_api *api);
void cluster_trust_sync(struct cluster_api *api);
/* The CA's key is in the database: every node can admit. */
bool cluster_ca_shared(const struct cluster_api *api);
/* Forget tokens of nodes that are in; without any, stop listening. */
void cluster_admissions_sync(struct cluster_api *api);
enum api_then cluster_on_renew(struct api_req *req, void *arg);

/* ---- cluster_backup.c ---- */

enum api_then cluster_on_backup(struct api_req *req, void *arg);
enum api_then cluster_on_restore(struct api_req *req, void *arg);

/* ---- cluster_node_api.c ---- */

enum api_then cluster_on_create(struct api_req *req, void *arg);
enum api_then cluster_on_remove(struct api_req *req, void *arg);
enum api_then cluster_on_evict(struct api_req *req, void *arg);

/* ---- cluster_show.c ---- */

json_t *cluster_show(const struct cluster_api *api);
/* The name of a node by its number; NULL = there is none. */
const char *cluster_node_name(const struct cluster_api *api, uint32_t nodeid);
enum api_then cluster_on_show(struct api_req *req, void *arg);
enum api_then cluster_on_nodes(struct api_req *req, void *arg);
enum api_then cluster_on_node(struct api_req *req, void *arg);
enum api_then cluster_on_quorum(struct api_req *req, void *arg);
enum api_then cluster_on_digest(struct api_req *req, void *arg);
enum api_then cluster_on_conf(struct api_req *req, void *arg);
enum api_then cluster_on_check(struct api_req *req, void *arg);
void cluster_check_free(struct cluster_api *api);

#endif
