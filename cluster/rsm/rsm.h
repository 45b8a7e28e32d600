/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLUSTER_RSM_RSM_H
#define CLUSTER_RSM_RSM_H

/*
 * rsm - the replicated log of the cluster, a pure core: events and time in, actions out through
 * struct rsm_io, disk through struct rsm_store. docs/formats/cluster-log.md, decisions 0131, 0132.
 *
 * A member proposes; the view's leader gives the entry its index and multicasts it; each member
 * appends it, makes it durable and multicasts an acknowledgement with the hash of its whole log so
 * far. An entry of this epoch that members with a majority of the votes acknowledged is committed,
 * and all before it: it is applied, its proposer hears the result. Hearing our own multicast is no
 * commit: corosync may have shown it to nobody else.
 *
 * Why a leader writes, though corosync orders already: when a ring breaks, a member may be
 * shown messages past one that it missed. With indexes given by one member, such a hole shows.
 *
 *	OFF       no primary view: proposals are refused, reads are stale
 *	STARTING  primary view; the first entry of its epoch is not committed yet
 *	ACTIVE    it is
 *	HALTED    the store failed, the log or what it did differs from the majority's, or our
 *	          version is too old
 *
 * Members whose log differs from the best fetch what they lack from the leader, from node to node,
 * as entries or as the whole state; they acknowledge what they have like everybody else.
 *
 * Members also tell each other, every 3 seconds, a hash over what the entries of the epoch did to
 * their states. Who differs from members with a majority of the votes halts: an error of ours, a
 * damaged table, a mixture of versions (decision 0240).
 *
 * Proposals carry a session and a number: applied once, also when sent again after a change of the
 * leader. A proposal that was sent and not seen applied in time is UNKNOWN, never "failed".
 *
 * Memory: all at creation, but for copies of proposals. Threads: one owner; nothing calls back
 * except through the tables, from within the function that was called; they must not call rsm,
 * but for the done function of a proposal, which may propose.
 */

#include "base/attr.h"
#include "cluster/rsm/rsm_store.h"
#include "cluster/rsm/rsm_wire.h"
#include "cluster/view/view.h"

struct rsm;
struct errbuf;

#define RSM_SLOTS 64u /* proposals of one node at a time; 64 nodes fit the table of sessions */
#define RSM_SESSIONS_MAX 8192u /* the longest unused goes; a retry must come before */

enum rsm_state { RSM_OFF, RSM_STARTING, RSM_ACTIVE, RSM_HALTED };

enum rsm_outcome {
	RSM_DONE,    /* applied; the result is the machine's */
	RSM_UNKNOWN, /* sent, outcome not known in time: ask again with the same session; or, with
	              * the status -ECANCELED, this member ends */
};

/* What the machine made of a command; the same on every node, kept for repeated commands. */
struct rsm_result {
	int32_t status; /* 0 or -errno */
	uint32_t detail;
	uint64_t index; /* of the entry */
};

typedef void (*rsm_done_fn)(void *arg, enum rsm_outcome outcome, const struct rsm_result *result);

/* Pairs that a machine changes while it applies. */
struct rsm_sink {
	void (*put)(void *arg, const void *key, size_t key_len, const void *value,
	            size_t value_len);
	void (*del)(void *arg, const void *key, size_t key_len);
	void *arg;
};

/* The state machine: cluster/db. Keys up to RSM_KEY_MAX - 1 bytes. */
struct rsm_machine {
	/* Returns 0; -ENOMEM: we halt. */
	int (*apply)(void *arg, const struct rsm_entry *entry, const struct rsm_sink *sink,
	             struct rsm_result *out);
	/* A view's first entry was applied: members[count] are in the epoch. */
	void (*newview)(void *arg, uint64_t index, uint64_t epoch,
	                const struct rsm_newview_wire *members, uint32_t count);
	/* The state is replaced: clear, then all pairs, then loaded. */
	void (*clear)(void *arg);
	int (*load)(void *arg, const void *key, size_t key_len, const void *value,
	            size_t value_len);
	void (*loaded)(void *arg, uint64_t index);
	void *arg;
};

/* What rsm asks of its surroundings. All only queue. */
struct rsm_io {
	void (*multicast)(void *arg, const void *buf, size_t len);
	void (*unicast)(void *arg, uint32_t nodeid, const void *buf, size_t len);
	void (*changed)(void *arg); /* state, leader or members: look at rsm_status() */
	void *arg;
};

struct rsm_cfg {
	uint32_t nodeid;
	uint32_t level_max; /* highest functional level this program can */
	struct guid cluster;
	struct guid uuid;
	struct guid incarnation;
	uint64_t skip_ns;        /* silence after which a view is formed without a member */
	uint64_t suspect_ns;     /* after which a leader that does not write is doubted */
	uint64_t flush_ns;       /* applied state is written at the latest after this */
	uint64_t retry_ns;       /* of a fetch */
	uint32_t retain;         /* entries kept for members that return */
	const struct rsm_io *io; /* borrowed forever, as the next two */
	const struct rsm_machine *machine;
	struct rsm_store *store;
};

/* rsm_cfg_default() - the times and sizes above. */
void rsm_cfg_default(struct rsm_cfg *cfg);

/*
 * rsm_create() - from what the store holds; the machine is loaded.
 * Returns 0; -ENOMEM; -EBADMSG the store's pairs are damaged; -EIO; -EPROTONOSUPPORT its level is
 * above cfg->level_max.
 */
MUST_USE int rsm_create(const struct rsm_cfg *cfg, struct rsm **out, struct errbuf *eb);

/* rsm_destroy() - proposals under way are answered RSM_UNKNOWN with the status -ECANCELED, from
 * within the call; new ones are refused. NULL is fine. */
void rsm_destroy(struct rsm *r);

/* ---- events ---- */

void rsm_on_group(struct rsm *r, const struct view_peer *peers, uint32_t count);
void rsm_on_ring(struct rsm *r, const struct view_ring *ring, const uint32_t *members,
                 uint32_t count);
void rsm_on_quorum(struct rsm *r, uint64_t ring_seq, bool quorate);
void rsm_on_config(struct rsm *r, uint64_t config_version);
void rsm_on_down(struct rsm *r);

/* rsm_on_grant() - as view_on_grant(). */
void rsm_on_grant(struct rsm *r, uint64_t key, bool forced);

/* rsm_on_multicast() - delivered in the group's order. Damaged ones are counted and dropped. */
void rsm_on_multicast(struct rsm *r, const struct view_peer *from, const void *buf, size_t len);

/* rsm_on_unicast() - from a node, in any order with multicasts. */
void rsm_on_unicast(struct rsm *r, uint32_t nodeid, const void *buf, size_t len);

/* rsm_on_synced() - the store's answer. @err: 0; else we halt. */
void rsm_on_synced(struct rsm *r, uint64_t token, int err);

/* rsm_on_tick() - time; every 100 ms or so. @wall_ns: for the entries we propose. */
void rsm_on_tick(struct rsm *r, uint64_t now_ns, uint64_t wall_ns);

/* ---- proposals ---- */

struct rsm_request {
	enum rsm_type type;  /* RSM_COMMAND, RSM_NOP, RSM_CONFIG, RSM_LEVEL */
	const void *payload; /* copied */
	size_t len;
	uint64_t deadline_ns; /* of rsm_on_tick()'s clock; then UNKNOWN */
	struct guid session;  /* nil: one of ours */
	uint64_t seq;         /* with a session: grows with each new request, the same in a retry */
	rsm_done_fn fn;       /* called once, unless an error is returned here */
	void *arg;
};

/*
 * rsm_propose() - Returns 0; -ENOTCONN no primary view: certainly not done; -EAGAIN a view is being
 * formed, or RSM_SLOTS are under way; -E2BIG; -EINVAL type; -ENOMEM; -EIO halted.
 * A linearizable read is an RSM_NOP; read when it is done.
 */
MUST_USE int rsm_propose(struct rsm *r, const struct rsm_request *request);

/* ---- looking ---- */

struct rsm_status {
	enum rsm_state state;
	bool stale; /* reads may miss what a majority has committed without us */
	uint64_t epoch;
	uint32_t leader; /* nodeid, 0 = none */
	uint32_t votes;
	uint32_t votes_total;
	uint64_t last_index;
	uint64_t synced_index;
	uint64_t commit_index;
	uint64_t applied_index;
	uint64_t applied_hash; /* of the log up to there */
	uint32_t level;
	bool fetching;
	uint64_t bad_frames;
	uint32_t differs; /* a member where entries did something else; 0 = none */
	const char *why;  /* OFF, HALTED: for people */
};

void rsm_status(const struct rsm *r, struct rsm_status *out);

/* rsm_view() - members and their incarnations, for people and for fencing. */
const struct view *rsm_view(const struct rsm *r);

/* rsm_config() - the configuration as appended last. */
const struct view_config *rsm_config(const struct rsm *r);

#endif
