/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CSV_PROTO_CSV_PROTO_WIRE_H
#define CSV_PROTO_CSV_PROTO_WIRE_H

/*
 * Messages between the nodes of a shared volume as they are sent: docs/formats/csv-protocol.md.
 * Little-endian; reserved bytes are 0 and checked.
 */

#include "base/wire.h"

#define CSV_MSG_MAGIC 0x50435747u /* "GWCP" */
#define CSV_MSG_VERSION 1u

struct csv_msg_head_wire {
	le32 magic;   /*  0 */
	le32 crc;     /*  4: crc32c of the message with this field 0 */
	le32 length;  /*  8: of the message, with this head [bytes] */
	le16 type;    /* 12 */
	le16 version; /* 14 */
	le64 term;    /* 16: of the volume, as the sender knows it */
	le64 request; /* 24: number of the request that this is, or answers; 0 = neither */
	le32 status;  /* 32: replies: 0 or a CSV_MSG_E... */
	le32 zero;    /* 36 */
};
WIRE_SIZE(struct csv_msg_head_wire, 40);

struct csv_msg_hello_wire {
	uint8_t volume[16]; /*  0 */
	le64 incarnation;   /* 16 */
	le64 acked;         /* 24: replies to all requests up to this one were received */
	le32 node;          /* 32 */
	le16 version_min;   /* 36 */
	le16 version_max;   /* 38 */
};
WIRE_SIZE(struct csv_msg_hello_wire, 40);

struct csv_msg_welcome_wire {
	le32 flags;   /*  0: CSV_MSG_GRACE */
	le32 window;  /*  4: requests that may be under way */
	le16 version; /*  8: that both speak */
	le16 zero;    /* 10 */
	le32 node;    /* 12: the coordinator */
};
WIRE_SIZE(struct csv_msg_welcome_wire, 16);

/* An operation on metadata, followed by its names. */
struct csv_msg_op_wire {
	le16 op;          /*   0 */
	le16 flags;       /*   2: CSV_MSG_NO_REPLACE */
	le32 mask;        /*   4 */
	le64 acked;       /*   8 */
	le64 ino;         /*  16 */
	le64 generation;  /*  24 */
	le64 dir;         /*  32 */
	le64 dir2;        /*  40 */
	le64 handle;      /*  48: under which it is done, or 0 */
	le64 block;       /*  56 */
	le64 count;       /*  64 */
	le64 size_bytes;  /*  72 */
	le64 token;       /*  80 */
	le64 cookie;      /*  88 */
	le64 modified_ns; /*  96 */
	le64 now_ns;      /* 104 */
	le32 mode;        /* 112 */
	le32 uid;         /* 116 */
	le32 gid;         /* 120 */
	le16 name_len;    /* 124 */
	le16 name2_len;   /* 126 */
};
WIRE_SIZE(struct csv_msg_op_wire, 128);
WIRE_AT(struct csv_msg_op_wire, now_ns, 104);

struct csv_msg_open_wire {
	le64 acked;      /*  0 */
	le64 ino;        /*  8 */
	le64 generation; /* 16 */
	le64 handle;     /* 24: chosen by the client */
	le32 share;      /* 32: what it does, 4 bits, and lets others do, 4 bits */
	le32 flags;      /* 36: CSV_MSG_RECLAIM */
};
WIRE_SIZE(struct csv_msg_open_wire, 40);

/* Close, return a layout, unlock, cancel. */
struct csv_msg_number_wire {
	le64 acked;  /* 0 */
	le64 number; /* 8: handle, lease, lock */
};
WIRE_SIZE(struct csv_msg_number_wire, 16);

struct csv_msg_layout_wire {
	le64 acked;      /*  0 */
	le64 handle;     /*  8 */
	le64 number;     /* 16: of the lease, chosen by the client */
	le64 from_bytes; /* 24 */
	le64 to_bytes;   /* 32 */
	le64 now_ns;     /* 40: as in an operation */
	le32 flags;      /* 48: CSV_MSG_RECLAIM, CSV_MSG_WRITE, CSV_MSG_ALLOCATE */
	le32 zero;       /* 52 */
};
WIRE_SIZE(struct csv_msg_layout_wire, 56);

struct csv_msg_lock_wire {
	le64 acked;  /*  0 */
	le64 number; /*  8: chosen by the client */
	le64 object; /* 16 */
	le64 space;  /* 24 */
	le64 from;   /* 32 */
	le64 to;     /* 40 */
	le32 mode;   /* 48 */
	le16 class;  /* 52 */
	le16 flags;  /* 54: CSV_MSG_RECLAIM, CSV_MSG_TRY, CSV_MSG_CONVERT */
};
WIRE_SIZE(struct csv_msg_lock_wire, 56);

/* Redirected read, write (followed by the data), flush. */
struct csv_msg_io_wire {
	le64 acked;        /*  0 */
	le64 handle;       /*  8 */
	le64 lease;        /* 16 */
	le64 ino;          /* 24 */
	le64 token;        /* 32 */
	le64 device_bytes; /* 40 */
	le32 length;       /* 48 [bytes] */
	le32 zero;         /* 52 */
};
WIRE_SIZE(struct csv_msg_io_wire, 56);

/* A notice, a revocation, a move. */
struct csv_msg_event_wire {
	le64 number; /*  0: handle, lease, lock */
	le16 what;   /*  8: enum csv_msg_what */
	le16 zero;   /* 10 */
	le32 mode;   /* 12: notice: waited for; move: the new coordinator's node */
};
WIRE_SIZE(struct csv_msg_event_wire, 16);

/* A reply: these parts, as far as they are named, in this order. */
struct csv_msg_reply_wire {
	le32 parts; /* 0 */
	le32 zero;  /* 4 */
	le64 count; /* 8: operations that say how much they did */
};
WIRE_SIZE(struct csv_msg_reply_wire, 16);

struct csv_msg_attr_wire {
	le64 ino;            /*   0 */
	le64 generation;     /*   8 */
	le64 parent;         /*  16 */
	le64 size_bytes;     /*  24 */
	le64 token;          /*  32 */
	le64 created_ns;     /*  40 */
	le64 modified_ns;    /*  48 */
	le64 changed_ns;     /*  56 */
	le64 units;          /*  64 */
	le64 reserved_units; /*  72 */
	le64 entries;        /*  80 */
	le32 kind;           /*  88 */
	le32 mode;           /*  92 */
	le32 uid;            /*  96 */
	le32 gid;            /* 100 */
	le32 links;          /* 104 */
	le32 zero;           /* 108 */
};
WIRE_SIZE(struct csv_msg_attr_wire, 112);

struct csv_msg_stat_wire {
	le64 units;          /*  0 */
	le64 free_units;     /*  8 */
	le64 reserved_units; /* 16 */
	le64 pool_blocks;    /* 24 */
	le64 pool_free;      /* 32 */
	le64 files;          /* 40 */
	le64 directories;    /* 48 */
	le64 pending;        /* 56 */
};
WIRE_SIZE(struct csv_msg_stat_wire, 64);

struct csv_msg_conflict_wire {
	le64 incarnation; /*  0 */
	le64 number;      /*  8 */
	le32 node;        /* 16 */
	le32 mode;        /* 20 */
	le32 waiting;     /* 24: 0, 1 */
	le32 zero;        /* 28 */
};
WIRE_SIZE(struct csv_msg_conflict_wire, 32);

/* A lease, followed by its extents. */
struct csv_msg_lease_wire {
	le64 ino;        /*  0 */
	le64 generation; /*  8 */
	le64 handle;     /* 16 */
	le64 number;     /* 24 */
	le64 token;      /* 32 */
	le64 from_bytes; /* 40 */
	le64 to_bytes;   /* 48 */
	le32 flags;      /* 56: CSV_MSG_WRITE */
	le32 extents;    /* 60 */
};
WIRE_SIZE(struct csv_msg_lease_wire, 64);

struct csv_msg_extent_wire {
	le64 file_bytes;   /*  0 */
	le64 device_bytes; /*  8 */
	le64 length_bytes; /* 16: + 1 = unwritten */
};
WIRE_SIZE(struct csv_msg_extent_wire, 24);

/* A list of names: its count and length in bytes, then each name with its bytes behind it. */
struct csv_msg_names_wire {
	le32 count; /* 0 */
	le32 bytes; /* 4: of all that follows */
};
WIRE_SIZE(struct csv_msg_names_wire, 8);

struct csv_msg_name_wire {
	le64 cookie;     /*  0 */
	le64 ino;        /*  8 */
	le64 generation; /* 16 */
	le16 kind;       /* 24 */
	le16 len;        /* 26 */
};
WIRE_SIZE(struct csv_msg_name_wire, 28);

#endif
