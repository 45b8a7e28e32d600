/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLUSTER_VIEW_VIEW_WIRE_H
#define CLUSTER_VIEW_VIEW_WIRE_H

/* Bodies of the messages by which nodes form a view; docs/formats/cluster-log.md. */

#include "base/guid.h"
#include "base/wire.h"

struct view_node_wire {
	le32 nodeid;      /* 0 */
	le32 votes;       /* 4 */
	struct guid uuid; /* 8 */
};

WIRE_SIZE(struct view_node_wire, 24);

/* Followed by nodes[node_count]. */
struct view_hello_wire {
	le64 ring_seq;           /* 0 */
	le32 ring_node;          /* 8 */
	le32 round;              /* 12 */
	struct guid cluster;     /* 16 */
	struct guid uuid;        /* 32 */
	struct guid incarnation; /* 48 */
	le64 promised;           /* 64 */
	le64 last_epoch;         /* 72 */
	le64 last_index;         /* 80 */
	le64 last_hash;          /* 88 */
	le64 commit_index;       /* 96 */
	le64 config_version;     /* 104: of corosync.conf */
	le32 level;              /* 112 */
	le32 level_max;          /* 116 */
	le16 flags;              /* 120: VIEW_FLAG_... */
	le16 node_count;         /* 122 */
	le32 reserved;           /* 124 */
};

WIRE_SIZE(struct view_hello_wire, 128);
WIRE_AT(struct view_hello_wire, promised, 64);
WIRE_AT(struct view_hello_wire, level, 112);
WIRE_AT(struct view_hello_wire, node_count, 122);

struct view_promise_wire {
	le64 view_id;  /* 0 */
	le64 epoch;    /* 8 */
	le32 round;    /* 16 */
	le32 reserved; /* 20 */
};

WIRE_SIZE(struct view_promise_wire, 24);

/* Followed by le32 nodeids[count]. */
struct view_skip_wire {
	le64 ring_seq;  /* 0 */
	le32 ring_node; /* 8 */
	le32 round;     /* 12 */
	le32 count;     /* 16 */
	le32 reserved;  /* 20 */
};

WIRE_SIZE(struct view_skip_wire, 24);

#endif
