/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLUSTER_RSM_RSM_WIRE_H
#define CLUSTER_RSM_RSM_WIRE_H

/* Bodies of the messages of the replicated log; docs/formats/cluster-log.md. */

#include "base/guid.h"
#include "base/wire.h"

/* In messages and in the store; followed by payload[len]. The chain of hashes runs over it. */
struct rsm_entry_wire {
	le64 index;          /* 0 */
	le64 epoch;          /* 8 */
	struct guid session; /* 16 */
	le64 seq;            /* 32 */
	le64 time_ns;        /* 40 */
	le32 origin;         /* 48 */
	le16 type;           /* 52 */
	le16 reserved;       /* 54 */
	le32 len;            /* 56 */
	le32 reserved2;      /* 60 */
};

WIRE_SIZE(struct rsm_entry_wire, 64);
WIRE_AT(struct rsm_entry_wire, seq, 32);
WIRE_AT(struct rsm_entry_wire, len, 56);

/* Followed by an entry with index and epoch 0. */
struct rsm_propose_wire {
	le64 epoch;
};

WIRE_SIZE(struct rsm_propose_wire, 8);

/* Followed by an entry. */
struct rsm_append_wire {
	le64 prev_hash;
};

WIRE_SIZE(struct rsm_append_wire, 8);

struct rsm_ack_wire {
	le64 epoch; /* 0 */
	le64 index; /* 8 */
	le64 hash;  /* 16 */
};

WIRE_SIZE(struct rsm_ack_wire, 24);

/* What the entries of the epoch did to the sender's state, up to an index. */
struct rsm_effects_wire {
	le64 epoch; /* 0 */
	le64 index; /* 8 */
	le64 hash;  /* 16 */
};

WIRE_SIZE(struct rsm_effects_wire, 24);

struct rsm_suspect_wire {
	le64 epoch;
};

WIRE_SIZE(struct rsm_suspect_wire, 8);

struct rsm_fetch_wire {
	le64 epoch;    /* 0 */
	le64 index;    /* 8: what we have */
	le64 hash;     /* 16: of it */
	le32 chunk;    /* 24: of a snapshot; 0 = entries wanted */
	le32 reserved; /* 28 */
};

WIRE_SIZE(struct rsm_fetch_wire, 32);

/* Followed by entries[count]. */
struct rsm_entries_wire {
	le64 epoch;     /* 0 */
	le64 prev_hash; /* 8: of the entry before the first */
	le32 count;     /* 16 */
	le32 reserved;  /* 20 */
};

WIRE_SIZE(struct rsm_entries_wire, 24);

struct rsm_no_match_wire {
	le64 epoch; /* 0 */
	le64 index; /* 8: asked for */
};

WIRE_SIZE(struct rsm_no_match_wire, 16);

/* Where the pairs of a state belong; followed by view_node_wire[node_count]. Also in the store. */
struct rsm_mark_wire {
	le64 index;        /* 0: of the last entry applied */
	le64 epoch;        /* 8 */
	le64 hash;         /* 16 */
	le64 config_index; /* 24 */
	le32 level;        /* 32 */
	le32 node_count;   /* 36 */
};

WIRE_SIZE(struct rsm_mark_wire, 40);

/* Followed by a mark, then pairs[count]. */
struct rsm_pairs_wire {
	le64 epoch; /* 0 */
	le32 chunk; /* 8: 1, 2... */
	le32 count; /* 12 */
	le32 last;  /* 16: 1 = no more chunks */
	le32 mark;  /* 20: bytes of the mark */
};

WIRE_SIZE(struct rsm_pairs_wire, 24);

/* Followed by key[key_len], value[value_len]. */
struct rsm_pair_wire {
	le32 key_len;   /* 0 */
	le32 value_len; /* 4 */
};

WIRE_SIZE(struct rsm_pair_wire, 8);

/* The value of a session's pair; the key is 's' and the session. */
struct rsm_session_wire {
	le64 seq;    /* 0 */
	le64 index;  /* 8 */
	le32 status; /* 16 */
	le32 detail; /* 20 */
};

WIRE_SIZE(struct rsm_session_wire, 24);

/* The payload of the first entry of an epoch: who is there; each. */
struct rsm_newview_wire {
	le32 nodeid;             /* 0 */
	le32 votes;              /* 4 */
	struct guid uuid;        /* 8 */
	struct guid incarnation; /* 24 */
};

WIRE_SIZE(struct rsm_newview_wire, 40);

#endif
