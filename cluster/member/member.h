/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLUSTER_MEMBER_MEMBER_H
#define CLUSTER_MEMBER_MEMBER_H

/*
 * member - this node's copy of the cluster database, running: tables (cluster/db), log
 * (cluster/rsm), its file (SQLite) and corosync on one event loop. Without a group it is a cluster
 * of one: a stand-alone host runs the same code without corosync.
 *
 * Reading is local: member_db(). Whether it may be out of date says member_status().stale; who must
 * not read anything older than what anybody was told before waits for member_barrier() first.
 * Writing is member_propose(): the answer is the command's result, or "unknown", never a guess.
 *
 * Beside the tables it keeps the roles: who may run which VM (cluster/role). Their commands are
 * entries of the same log, their pairs lie in the same file. A document of a VM with a member "ha"
 * (vm_doc.h) is a role; it comes, changes and goes as the document does, on all nodes at the same
 * entry. docs/decisions/0180.
 *
 * Threads: the loop's. Callbacks come from the loop, never from within the call that asked.
 */

#include "base/attr.h"
#include "cluster/db/db.h"
#include "cluster/db/db_cmd.h"
#include "cluster/rsm/rsm.h"

struct loop;
struct errbuf;
struct member;
struct role_cmd;
struct role_table;

/*
 * The functional level: what all nodes of a cluster are sure to understand. It is a fact of the
 * log, grows by member_raise() alone, and never shrinks; a new database begins with this program's.
 * Whatever an older program would not understand is not proposed below its level.
 *
 *	1	the first
 *	2	VMs: "after", "restart_within_ms", "wait_ms" (vm_doc_level()); a token that is
 *		changed
 *
 * docs/decisions/0290.
 */
#define MEMBER_LEVEL 2u /* the highest this program knows */
#define MEMBER_LEVEL_TOKEN 2u

struct member_cfg {
	struct loop *loop;   /* borrowed until close */
	const char *path;    /* of the database file */
	const char *group;   /* of corosync's processes; NULL: alone, without corosync */
	uint32_t nodeid;     /* ours, as in corosync.conf */
	struct guid cluster; /* for a new file */
	struct guid uuid;    /* of this node, for a new file */
	const struct view_config *config; /* for a new file: who votes; NULL: joins, will be told */
	void (*changed)(void *arg);       /* look at member_status(); may be NULL */
	void *arg;
};

/*
 * member_open() - Returns 0; as rsm_sqlite_open(), rsm_create() and coro_open().
 */
MUST_USE int member_open(const struct member_cfg *cfg, struct member **out, struct errbuf *eb);

/* member_close() - leave the group. Proposals under way are forgotten without a call. NULL is
 * fine. */
void member_close(struct member *m);

/* member_db() - the tables. Read, and watch; db_apply() is not for you. */
struct db *member_db(struct member *m);

void member_status(const struct member *m, struct rsm_status *out);

/* member_view() - members and incarnations. */
const struct view *member_view(const struct member *m);

/* member_config() - who votes, as appended last. */
const struct view_config *member_config(const struct member *m);

/*
 * member_propose() - a command that db_cmd_end() finished; copied.
 * @timeout_ns: then @fn hears RSM_UNKNOWN. @fn: result->status is db_result.status.
 * Returns 0; as rsm_propose().
 */
MUST_USE int member_propose(struct member *m, const struct db_cmd *cmd, uint64_t timeout_ns,
                            rsm_done_fn fn, void *arg);

/* member_barrier() - @fn with RSM_DONE: all that was answered before is in member_db(). As
 * above. */
MUST_USE int member_barrier(struct member *m, uint64_t timeout_ns, rsm_done_fn fn, void *arg);

/* member_configure() - another configuration: one node or vote more or less. As above. */
MUST_USE int member_configure(struct member *m, const struct view_config *config,
                              uint64_t timeout_ns, rsm_done_fn fn, void *arg);

/* member_raise() - the functional level, by one. @fn: result->status -EOPNOTSUPP: a node that votes
 * is not here, or is too old. As above. */
MUST_USE int member_raise(struct member *m, uint64_t timeout_ns, rsm_done_fn fn, void *arg);

/* member_grant() - the witness votes for the ring and group of @key (view_key()), or, @forced, a
 * person has said that they go on alone. */
void member_grant(struct member *m, uint64_t key, bool forced);

/* member_roles() - who may run what. Read it; borrowed until member_close(). */
const struct role_table *member_roles(const struct member *m);

/* member_role_find() - the id of the role of that name; 0 = none. */
uint32_t member_role_find(const struct member *m, const char *name);

/*
 * member_propose_role() - a command about roles or nodes; copied. Its epoch becomes that of the
 * view we are in. @fn: result->status as role_table_apply(). NULL: whoever cares looks at the
 * table. Returns 0; as rsm_propose().
 */
MUST_USE int member_propose_role(struct member *m, const struct role_cmd *cmd, uint64_t timeout_ns,
                                 rsm_done_fn fn, void *arg);

/* What happens to the roles. Called while an entry is applied: note it, do it later; no function of
 * member.h but those that read may be called. */
struct member_role_ops {
	/* @cmd did something. @epoch: of its entry. */
	void (*applied)(void *arg, const struct role_cmd *cmd, uint64_t epoch);
	/* A renewal came, also one that did nothing: the process that sent it is that run. */
	void (*said)(void *arg, const struct role_cmd *cmd, uint64_t epoch);
	/* Roles came, changed or went with their documents. */
	void (*changed)(void *arg);
	/* All of it was replaced by another node's. */
	void (*loaded)(void *arg);
};

/* member_watch_roles() - one who hears it; @ops NULL: nobody. Borrowed until then. */
void member_watch_roles(struct member *m, const struct member_role_ops *ops, void *arg);

#endif
