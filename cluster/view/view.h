/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLUSTER_VIEW_VIEW_H
#define CLUSTER_VIEW_VIEW_H

/*
 * view - from the events of corosync to views of the cluster with an epoch: a pure core.
 *
 * corosync tells three stories at once: who is in the process group (CPG), which ring that was
 * (totem), and whether the ring has quorum (another connection, sooner or later). A view begins
 * when they agree on the ring's number. (nodeid, pid) is no identity, pids come again; so the
 * members then tell each other who they are and what they have:
 *
 *	DOWN      not connected, or not in the group
 *	JOINING   ring and quorum do not speak of the same ring yet, or the log is not quiet
 *	HELLO     our hello of this round is on its way; we collect those of all members
 *	PROMISE   enough for a primary view: all members promise the new epoch, durably
 *	PRIMARY   all promised: the epoch belongs to this view alone, forever
 *	MINORITY  complete, but without quorum or a majority of the configured votes
 *
 *	any --group, ring or quorum changes--> JOINING -> HELLO -> PROMISE -> PRIMARY
 *	                                                     \--> MINORITY
 *
 * Rounds tell formations apart: any doubt starts a new round, a higher round is joined, a lower one
 * ignored. A member that stays silent (a stopped process in a living corosync) is skipped after
 * cfg.skip_ns, by a message, so that all skip it at the same place in the order.
 *
 * Why the epoch is unique: it is larger than every promise in the hellos, each member promises it
 * before the view counts, durably and only once, and two primary views share a member because each
 * has a majority of votes. Why no acknowledged entry is lost: an entry is acknowledged when a
 * majority has it; so some member has it; the best log by (epoch, index) then has it as well,
 * because epochs are unique and one leader writes each (docs/decisions/0131).
 *
 * A witness is a vote of the configuration without a member (VIEW_WITNESS_NODEID). It counts for a
 * view that lacks just that one, when a member has its grant for exactly this ring and group
 * (view_on_grant(); cluster/witness says why only one half can). A person's word counts in the same
 * way (VIEW_FLAG_FORCED), whatever votes there are, and its epoch is so far ahead that all who were
 * not there lose to it. In both cases a majority of the nodes may be elsewhere, so such a view is
 * strict: an entry needs the acknowledgement of every member that has a vote (docs/quorum.md).
 *
 * No clock, no I/O, no allocation: the owner (cluster/rsm) calls in, and struct view_ops answers.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/guid.h"

#define VIEW_NODES_MAX 64u
#define VIEW_SEND_MAX (16u + 128u + VIEW_NODES_MAX * 24u) /* the largest message, a hello */

#define VIEW_FLAG_QUORATE 1u    /* votequorum says so, for this ring */
#define VIEW_FLAG_INCOMPLETE 2u /* the log is being replaced: no vote */
#define VIEW_FLAG_WITNESS 4u    /* the witness votes for this ring and group */
#define VIEW_FLAG_FORCED 8u     /* a person says that this group goes on alone */

#define VIEW_WITNESS_NODEID UINT32_MAX /* in a configuration: the witness, which is no member */
#define VIEW_FORCED_STEP (1ull << 32)  /* epochs that nobody else comes to by himself */

enum view_state { VIEW_DOWN, VIEW_JOINING, VIEW_HELLO, VIEW_PROMISE, VIEW_PRIMARY, VIEW_MINORITY };

/* The committed or appended configuration: who votes. */
struct view_config {
	uint32_t count;
	struct view_node {
		uint32_t nodeid;
		uint32_t votes;
		struct guid uuid;
	} nodes[VIEW_NODES_MAX];
};

struct view_ring {
	uint64_t seq; /* 0 = none */
	uint32_t nodeid;
};

/* A member of the process group. */
struct view_peer {
	uint32_t nodeid;
	uint32_t pid;
};

/* What a node says about itself. */
struct view_hello {
	struct view_ring ring;
	uint32_t round;
	struct guid cluster;
	struct guid uuid;
	struct guid incarnation; /* random, new with every start of the process */
	uint64_t promised;
	uint64_t last_epoch; /* of the last entry in the log, durable */
	uint64_t last_index;
	uint64_t last_hash;
	uint64_t commit_index;
	uint64_t config_version;
	uint32_t level;
	uint32_t level_max;
	uint16_t flags;
	struct view_config config;
};

struct view_member {
	struct view_peer peer;
	bool said;     /* hello of this round is here */
	bool promised; /* and the promise */
	bool skipped;
	bool in_sync; /* formed: has the log of the best */
	uint32_t votes;
	struct view_hello hello;
};

/* What the owner has: for the hello. */
struct view_log {
	uint64_t promised;
	uint64_t last_epoch;
	uint64_t last_index;
	uint64_t last_hash;
	uint64_t commit_index;
	uint32_t level;
	bool incomplete;
	const struct view_config *config; /* borrowed for the call */
};

struct view;

struct view_ops {
	/* Multicast, in order; to ourselves as well. */
	void (*send)(void *arg, const void *buf, size_t len);
	/* What the log holds. False: something is on its way to the disk: view_quiet() comes. */
	bool (*log)(void *arg, struct view_log *out);
	/* Make the promise durable; view_promised() will come. */
	void (*promise)(void *arg, uint64_t epoch);
	/* What was PRIMARY or MINORITY is over. */
	void (*lost)(void *arg);
	/* PRIMARY or MINORITY is reached. */
	void (*formed)(void *arg, const struct view *view);
};

struct view_cfg {
	uint32_t nodeid;
	uint32_t level_max;
	struct guid cluster;
	struct guid uuid;
	struct guid incarnation;
	uint64_t skip_ns;
	const struct view_ops *ops; /* borrowed forever */
	void *arg;
};

/* Visible to be embedded and looked at; only the functions below change it. */
struct view {
	struct view_cfg cfg;
	enum view_state state;
	struct view_ring ring;
	uint32_t ring_members[VIEW_NODES_MAX];
	uint32_t ring_count;
	uint64_t quorum_seq; /* ring the flag is about */
	bool quorate;
	uint64_t config_version;
	uint32_t round;      /* of the formation that runs or ran */
	uint32_t round_sent; /* of our last hello */
	uint64_t view_id;
	uint64_t promised; /* the last epoch we promised in this life */
	uint64_t now_ns;
	uint64_t since_ns; /* when this round began */
	uint32_t count;
	struct view_member members[VIEW_NODES_MAX]; /* of the group, by nodeid */
	/* Formed: */
	bool primary;
	uint64_t epoch;  /* PRIMARY */
	uint32_t leader; /* nodeid */
	uint32_t best;   /* index in members: the log that everybody will have */
	uint32_t votes;  /* with the witness's, if: */
	uint32_t votes_total;
	bool witness;    /* its vote is used, or would be if corosync had quorum */
	bool forced;     /* PRIMARY: by a person's word */
	bool half;       /* with the witness's vote there would be a majority, without not */
	const char *why; /* MINORITY: the reason, for people */
	/* What we were told, for a ring and group: view_key(); 0 = nothing. */
	uint64_t witness_key;
	uint64_t forced_key;
};

void view_init(struct view *v, const struct view_cfg *cfg);

/* Events of corosync. @count <= VIEW_NODES_MAX. */
void view_on_group(struct view *v, const struct view_peer *peers, uint32_t count);
void view_on_ring(struct view *v, const struct view_ring *ring, const uint32_t *members,
                  uint32_t count);
void view_on_quorum(struct view *v, uint64_t ring_seq, bool quorate);
void view_on_config(struct view *v, uint64_t config_version);
void view_on_down(struct view *v);

/*
 * view_on_message() - a message of types FRAME_HELLO to FRAME_SKIP, in the group's order.
 * Returns 0; -EBADMSG (count and log it: a member sent it).
 */
MUST_USE int view_on_message(struct view *v, const struct view_peer *from, uint16_t type,
                             const uint8_t *body, size_t len);

/* view_on_tick() - time passes; call it every skip_ns / 4 or so, and before other events. */
void view_on_tick(struct view *v, uint64_t now_ns);

/* view_quiet() - the log has nothing on its way to the disk any more. */
void view_quiet(struct view *v);

/* view_promised() - the promise is durable. */
void view_promised(struct view *v, uint64_t epoch);

/* view_again() - start a new round: something is wrong with this view. */
void view_again(struct view *v);

/* view_key() - of the ring and the group as they are now: what a grant is for. Never 0. */
uint64_t view_key(const struct view *v);

/* view_on_grant() - the witness's vote, or with @forced a person's word, for @key. Starts a new
 * round; nothing happens if @key is not view_key() any more. */
void view_on_grant(struct view *v, uint64_t key, bool forced);

/* view_strict() - every member that has a vote must acknowledge an entry. */
bool view_strict(const struct view *v);

/* view_find() - the member with that nodeid, or NULL. */
const struct view_member *view_find(const struct view *v, uint32_t nodeid);

/* view_config_votes() - votes of a node in @config; 0 if it is not in it. */
uint32_t view_config_votes(const struct view_config *config, uint32_t nodeid,
                           const struct guid *uuid);

/* view_config_total() - all votes. */
uint32_t view_config_total(const struct view_config *config);

/* view_config_witness() - the witness's votes among them; 0 = there is none. */
uint32_t view_config_witness(const struct view_config *config);

/* view_config_decode/encode() - as view_node_wire[count]. Returns 0; -EBADMSG a node twice, no
 * nodes, too many, votes 0 or above 255, a rest. */
MUST_USE int view_config_decode(const void *buf, size_t len, struct view_config *out);
size_t view_config_encode(const struct view_config *config, void *buf);

/* view_state_name() - for people. */
const char *view_state_name(enum view_state state);

/* Codec, for tests and fuzzing. Returns 0; -EBADMSG, *out is untouched. */
MUST_USE int view_hello_decode(const uint8_t *body, size_t len, struct view_hello *out);
size_t view_hello_encode(const struct view_hello *hello, uint8_t buf[VIEW_SEND_MAX]);

#endif
