/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BIN_GODWITD_CLUSTER_QUORUM_INT_H
#define BIN_GODWITD_CLUSTER_QUORUM_INT_H

/* cluster_quorum, inside. cluster_quorum.c: votes in log and corosync, force, requests;
 * cluster_witness.c: looking at the witness, asking for its vote, remembering its tags. */

#include "base/errbuf.h"
#include "base/json.h"
#include "bin/godwitd/cluster_quorum.h"
#include "cluster/witness/witness_file.h"

struct coro_vote;
struct db_object;

#define WITNESS_KEY "witness"
#define WITNESS_WANTED "wanted"
#define QUORUM_PLACE_MAX 1024u

/* What a thread does with the witness; its own while running. */
struct quorum_job {
	struct cluster_quorum *q;
	bool running;
	char path[QUORUM_PLACE_MAX];
	struct witness_place place;
	struct witness_claim claim;
	uint64_t key;  /* what the vote is for */
	uint64_t last; /* sequence of the newest tag */
};

struct cluster_quorum {
	struct cluster_api *api; /* back pointer */
	struct coro_vote *vote;  /* owned */
	struct quorum_job look;
	struct quorum_job ask;
	struct quorum_job make;
	uint64_t look_next_ns;
	struct guid seen;   /* the witness that we saw when we looked last; nil = not */
	struct guid tag_of; /* the witness of which this node has seen a tag, and its sequence; */
	uint64_t tag;       /* as in the file. tag_of nil: not read yet */
	struct errbuf look_eb;
	uint64_t half_key; /* a half that we are in, since: */
	uint64_t half_since_ns;
	uint64_t ask_next_ns;
	struct errbuf ask_eb;
	struct guid made; /* a witness that was made and is to be told */
	int make_err;
	struct errbuf make_eb;
	bool forcing;
	json_t *forced; /* owned: names of the nodes that are given up */
};

/* The database's; NULL = none. */
const struct db_object *cluster_witness_object(const struct cluster_api *api);

bool cluster_witness_uuid(const json_t *doc, struct guid *out);

/* Where it is, for a job. False: not in a form that we know. */
bool cluster_witness_place(struct quorum_job *job, const struct cluster_api *api,
                           const json_t *doc);

/* Is it time to look, or to ask? */
void cluster_witness_tick(struct cluster_quorum *q);

#endif
