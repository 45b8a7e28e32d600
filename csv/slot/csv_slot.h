/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CSV_SLOT_CSV_SLOT_H
#define CSV_SLOT_CSV_SLOT_H

/*
 * csv_slot - what a node reads and writes in the slots of a shared volume: its own liveness slot,
 * once per slot_ms, which renews its volume lease; its verdict and its mailbox; and the slots of
 * the others, which say whether they live.
 *
 * This is the core: no clock, no disk. csv_slot_io.h drives it on a loop. One round is
 *
 *	csv_slot_begin()   the lease is counted from here; fills in the block to write, if any
 *	(write it; then, and not before, read the liveness slots, the verdict and the mailbox)
 *	csv_slot_end()     judges what was read; confirms the lease if all of it was clean
 *
 * A renewal counts only if the slot was written, is still there, and no sentence was found in a
 * read that began after the write ended (docs/safety.md). What fails makes the lease older, nothing
 * else. States:
 *
 *	JOINING --nobody else uses the slot--> HELD --csv_slot_leave()--> LEFT
 *	   |                                    |  ^
 *	   |              the lease ran out     v  | csv_slot_readmit()
 *	   |                                  LAPSED
 *	   +------------- FENCED <------------+       from any; this run of the node is over
 *
 * HELD     the slot is written in each round.
 * LAPSED   the lease was over once: somebody may have waited it out. Nothing is written, everything
 *          is read, until the cluster's word (a committed entry of the current view) says go on.
 * FENCED   a sentence was found, or somebody else writes into our slot. Nothing is written any
 *          more; the node kills its VMs and begins a new incarnation.
 *
 * Others are judged by changes of their numbers only, never by their clocks, with the watch of
 * cluster/lease. A block that cannot be read says nothing: neither alive nor over.
 *
 * Time: CLOCK_BOOTTIME of this node [ns]. Value type, about 16 KiB; one thread.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/guid.h"
#include "cluster/lease/lease.h"
#include "cluster/timing/timing.h"
#include "csv/format/csv_format.h"

struct errbuf;

struct csv_slot_cfg {
	struct guid volume;
	struct guid node_id;
	uint32_t node;        /* whose slot: 0..63 */
	uint32_t nodes;       /* how many slots are looked at: node < nodes <= 64; 0 = all */
	uint64_t incarnation; /* of this run; not 0; greater than those of all earlier runs */
	char name[65];
	struct timing timing;
};

enum csv_slot_state {
	CSV_SLOT_JOINING,
	CSV_SLOT_HELD,
	CSV_SLOT_LAPSED,
	CSV_SLOT_FENCED,
	CSV_SLOT_LEFT
};

/* Why it is FENCED. */
enum csv_slot_reason {
	CSV_SLOT_NO_REASON,
	CSV_SLOT_SENTENCED,  /* a verdict on this incarnation, or one that came while we lived */
	CSV_SLOT_CLAIMED,    /* another node writes into our slot (a copy of this machine?) */
	CSV_SLOT_SUPERSEDED, /* a later incarnation of this very node does */
	CSV_SLOT_KEY_GONE    /* our key was taken away from the LUN (csv_slot_fence()) */
};

/* How another node's slot looks. */
enum csv_slot_life {
	CSV_SLOT_UNKNOWN, /* not read yet, or in use and not seen to change yet */
	CSV_SLOT_EMPTY,   /* never written, or given back in order */
	CSV_SLOT_ALIVE,   /* changed within the last rounds */
	CSV_SLOT_LATE,    /* missed some */
	CSV_SLOT_STALE    /* its lease is over, and what it had sent is written or lost */
};

struct csv_slot_peer {
	enum csv_slot_life life;
	bool known;          /* was read at least once */
	bool readable;       /* in the last round */
	uint64_t changed_ns; /* when a new number was learned of */
	uint64_t read_ns;    /* begin of the last good read */
	struct lease_watch watch;
	struct csv_liveness is; /* if known: as last read */
};

/* What csv_slot_end() found; each is told once. */
#define CSV_SLOT_DID_JOIN 1u   /* JOINING -> HELD */
#define CSV_SLOT_DID_LAPSE 2u  /* HELD -> LAPSED */
#define CSV_SLOT_DID_FENCE 4u  /* -> FENCED: see .reason */
#define CSV_SLOT_DID_RENEW 8u  /* the lease was confirmed */
#define CSV_SLOT_DID_MAIL 16u  /* a command for this incarnation: .mail */
#define CSV_SLOT_DID_PEERS 32u /* the life of some peer changed: .changed */

/* Visible for reading. */
struct csv_slot {
	struct csv_slot_cfg cfg;
	enum csv_slot_state state;
	enum csv_slot_reason reason;
	uint32_t by_node; /* FENCED by a verdict: who wrote it */
	struct lease lease;
	/* What travels with the next writes; set by the owner at any time. */
	uint64_t epoch;
	uint64_t term;
	uint64_t pr_key;
	uint64_t path_mask;

	uint64_t written_seq;  /* of the write under way or the last one; 0 = none in this round */
	uint64_t stranger_seq; /* of a late write of an earlier run of ours; 0 = none seen */
	bool verdict_known;    /* what it was when we joined: */
	bool verdict_fenced;
	uint64_t verdict_incarnation;
	uint64_t verdict_seq;
	uint64_t join_seen_ns; /* JOINING: since when our slot stands still; 0 = not looked at */
	uint64_t join_seq;
	uint64_t join_incarnation;
	uint64_t mail_seq; /* of the last message that was told */
	struct csv_mailbox mail;
	uint64_t changed; /* DID_PEERS: set of nodes */
	struct csv_slot_peer peers[CSV_NODES_MAX];
};

/*
 * csv_slot_init() - begin, in JOINING. The node must have been let in (its JOIN is committed).
 * Returns 0; -EINVAL cfg.
 */
MUST_USE int csv_slot_init(struct csv_slot *s, const struct csv_slot_cfg *cfg, struct errbuf *eb);

/*
 * csv_slot_begin() - a round begins at @now_ns. Looks at the clock first: a node that slept too
 * long is LAPSED before it writes anything.
 * @buf[CSV_BLOCK_BYTES]: the block to write, if true is returned; write it to csv_slot_block().
 * @did: CSV_SLOT_DID_LAPSE or 0.
 */
MUST_USE bool csv_slot_begin(struct csv_slot *s, uint64_t now_ns, void *buf, uint32_t *did);

/* csv_slot_check() - between rounds, while the disk does not answer: look at the clock only.
 * Returns CSV_SLOT_DID_LAPSE or 0. */
MUST_USE uint32_t csv_slot_check(struct csv_slot *s, uint64_t now_ns);

/* What one round brought. Buffers are borrowed; each error 0 or -errno. */
struct csv_slot_round {
	int write_err;    /* if there was something to write */
	uint64_t read_ns; /* before the reads were sent, after the write ended */
	int slots_err;
	const void *slots; /* cfg.nodes blocks, from CSV_LIVENESS_AT on */
	int verdict_err;
	const void *verdict; /* one block */
	int mail_err;
	const void *mail; /* one block */
};

/* csv_slot_end() - the round is over. @now_ns: the time. Returns CSV_SLOT_DID_... */
MUST_USE uint32_t csv_slot_end(struct csv_slot *s, const struct csv_slot_round *round,
                               uint64_t now_ns);

/* csv_slot_readmit() - the cluster knows that the lease had lapsed, did not act on it, and lets us
 * go on. Nothing if the state is not LAPSED. */
void csv_slot_readmit(struct csv_slot *s);

/* csv_slot_fence() - this run is over for another reason (its key is gone): no more writes. */
void csv_slot_fence(struct csv_slot *s, enum csv_slot_reason reason);

/*
 * csv_slot_leave() - give the slot back in order: nothing of this node uses the volume any more.
 * @buf[CSV_BLOCK_BYTES]: the last block to write, if true is returned.
 */
MUST_USE bool csv_slot_leave(struct csv_slot *s, uint64_t now_ns, void *buf);

/* csv_slot_rung() - where this node stands with the volume's lease; LEASE_OVER unless HELD. */
enum lease_rung csv_slot_rung(const struct csv_slot *s, uint64_t now_ns);

/* csv_slot_until_ns() - no new I/O from then on (the pause rung); 0 = none at all. */
uint64_t csv_slot_until_ns(const struct csv_slot *s);

/* csv_slot_block(), csv_slot_verdict_block(), csv_slot_mail_block() - addresses [blocks]. */
uint64_t csv_slot_block(uint32_t node);
uint64_t csv_slot_verdict_block(uint32_t node);
uint64_t csv_slot_mail_block(uint32_t node);

/*
 * csv_slot_sentence() - the verdict that ends incarnation @incarnation of node @about.
 * @old: the verdict block as it is now; NULL = it cannot be read.
 * @out[CSV_BLOCK_BYTES]: what to write, then to read back and compare.
 * Returns 0; -EALREADY it is there; -ESTALE there is one on a later incarnation: ours is outdated.
 */
MUST_USE int csv_slot_sentence(const struct csv_slot *s, uint32_t about, uint64_t incarnation,
                               uint64_t wall_ns, const void *old, void *out);

/* csv_slot_message() - a message for node @to; the rest as csv_slot_sentence(). Returns 0. */
MUST_USE int csv_slot_message(const struct csv_slot *s, uint32_t to, uint64_t incarnation,
                              enum csv_command command, uint64_t argument, const void *old,
                              void *out);

/* Names for people: static. */
const char *csv_slot_state_name(enum csv_slot_state state);
const char *csv_slot_reason_name(enum csv_slot_reason reason);
const char *csv_slot_life_name(enum csv_slot_life life);

#endif
