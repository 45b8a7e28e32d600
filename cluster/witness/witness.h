/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLUSTER_WITNESS_WITNESS_H
#define CLUSTER_WITNESS_WITNESS_H

/*
 * witness - the vote that breaks a tie: a pure core, and the layout of what it is kept on.
 *
 * A witness is a disk or a file that all nodes reach. It holds a chain of tags. Who adds the next
 * tag has the witness's vote: a view of half of the votes (cluster/view) whose leader has done so
 * goes on. A tag names the lowest epoch that the group may use, and those of its nodes that had all
 * that was committed till then: the ones with its best log.
 *
 * The next tag may be added only by a group
 *	- with a node that the last tag names, or
 *	- whose best log has an entry of the last tag's epoch or a later one.
 * A view with the witness's vote commits nothing that not all its members have (view_strict()). So
 * whoever may add the next tag has all that was ever committed: if the other half had the last tag,
 * a group that was not with it since has neither, and is refused for good, not for a time. There is
 * no lease and no clock: the tag is a fact, not a permit that runs out. It also refuses a node that
 * comes back with an old copy when the others are down.
 *
 * Why only nodes with the best log are named: the group may die before it has written anything, and
 * one that had not caught up yet would let another group in without what it lacks.
 *
 * Of two halves that try at the same time one wins: each tag is a round of Disk Paxos (Gafni and
 * Lamport), one block for each node, written by it alone. It needs of the disk only that a sector
 * is written whole and that a finished write is seen by later reads.
 *
 *	START --write ballot--> PREPARED --write value--> ACCEPTED --write it as decided--> START
 *	any --a higher ballot is seen--> START, after a pause
 *
 * What cannot be told from the disk alone: that it was given back from a backup. Whoever has seen a
 * newer tag refuses it (witness_claim.seen); nodes remember the last one durably (decision 0241).
 *
 * No clock, no I/O, no allocation: witness_next() says what to do; witness_file.h does it.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/guid.h"

#define WITNESS_BLOCK_BYTES 4096u /* a block of each: the sector of all disks, or a multiple */
#define WITNESS_SLOTS 256u        /* node numbers modulo that; numbers are never used again */
#define WITNESS_NODES_MAX 32u     /* in a group */

struct witness_tag {
	uint64_t seq; /* 1 and up; 0 = none */
	uint64_t epoch;
	struct guid claim; /* whose it is */
	uint32_t count;
	uint32_t nodes[WITNESS_NODES_MAX];
};

/* What one node has written. Zeros: nothing yet. */
struct witness_block {
	uint32_t nodeid;
	struct witness_tag decided; /* the last that it knows */
	uint64_t seq;               /* of the round that it takes part in */
	uint64_t mbal;              /* its ballot there */
	uint64_t bal;               /* of its value; 0 = none */
	struct witness_tag value;
};

struct witness_claim {
	struct guid id;      /* new with each attempt of a group */
	uint32_t nodeid;     /* of who tries */
	uint64_t last_epoch; /* of the best log of the group */
	uint64_t epoch;  /* none of the group will use one below, nor has anybody one of these */
	uint64_t seen;   /* sequence of the last tag that the node has seen on it; 0 = none */
	uint32_t synced; /* the first so many of the nodes have the best log */
	uint32_t count;
	uint32_t nodes[WITNESS_NODES_MAX]; /* those with votes and a complete log */
};

enum witness_do {
	WITNESS_WRITE, /* *write to our slot; then read all, and again */
	WITNESS_WAIT,  /* others try as well: pause for some ms, chance or slot decide how many;
	                * then read all, and again */
	WITNESS_WON,   /* the vote is ours */
	WITNESS_LOST,  /* *last refuses us; there is no point in trying again as we are */
	WITNESS_OLD /* a tag that was there is gone: an older copy, which may name nodes that lack
	                * what was committed since. It is no witness any more, for nobody */
};

enum witness_phase { WITNESS_START, WITNESS_PREPARED, WITNESS_ACCEPTED };

/* An attempt. Value type; only the functions below change it. */
struct witness_try {
	struct witness_claim claim;
	enum witness_phase phase;
	uint64_t seq;
	uint64_t mbal;
	struct witness_tag value;
	struct witness_tag last; /* the last tag that was seen */
};

/* witness_slot() - a node's. */
uint32_t witness_slot(uint32_t nodeid);

/* witness_allows() - may a group of these nodes and that log add a tag after @last? */
bool witness_allows(const struct witness_tag *last, const struct witness_claim *claim);

/* witness_begin() - then read all blocks and call witness_next(). */
void witness_begin(struct witness_try *t, const struct witness_claim *claim);

/*
 * witness_next() - @blocks[WITNESS_SLOTS]: read since the last write, one after the other is fine.
 * @write: for WITNESS_WRITE.
 */
enum witness_do witness_next(struct witness_try *t, const struct witness_block *blocks,
                             struct witness_block *write);

/* witness_last() - the newest tag of all blocks; seq 0 = none. */
void witness_last(const struct witness_block *blocks, struct witness_tag *out);

/* witness_block_decode() - @buf[WITNESS_BLOCK_BYTES]; zeros are an empty block.
 * Returns 0; -EBADMSG, *out is untouched. */
MUST_USE int witness_block_decode(const void *buf, size_t len, const struct guid *witness,
                                  struct witness_block *out);

/* witness_block_encode() - @buf[WITNESS_BLOCK_BYTES]. */
void witness_block_encode(const struct witness_block *block, const struct guid *witness, void *buf);

/* What a witness is of. */
struct witness_head {
	struct guid cluster;
	struct guid witness;
};

/* witness_head_decode() - Returns 0; -EBADMSG, *out is untouched. */
MUST_USE int witness_head_decode(const void *buf, size_t len, struct witness_head *out);
void witness_head_encode(const struct witness_head *head, void *buf);

#endif
