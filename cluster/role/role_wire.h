/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLUSTER_ROLE_ROLE_WIRE_H
#define CLUSTER_ROLE_ROLE_WIRE_H

/* role_wire - a struct role_cmd as bytes. docs/formats/role-cmd.md. */

#include "base/wire.h"
#include "cluster/role/role_cmd.h"

#define ROLE_CMD_VERSION 1u

struct role_cmd_wire {
	le16 version;            /* 0 */
	le16 verb;               /* 2 */
	le32 role;               /* 4 */
	le64 epoch;              /* 8 */
	le64 now_ms;             /* 16 */
	le64 token;              /* 24 */
	le32 node;               /* 32 */
	le32 reserved;           /* 36: 0 */
	le64 inc;                /* 40 */
	le64 arg[ROLE_CMD_ARGS]; /* 48 */
};
WIRE_SIZE(struct role_cmd_wire, ROLE_CMD_BYTES);
WIRE_AT(struct role_cmd_wire, node, 32);
WIRE_AT(struct role_cmd_wire, arg, 48);

/* ---- pairs ---- */

#define ROLE_PAIR_VERSION 1u

struct role_key_wire {
	uint8_t magic[3]; /* 0: "grl" */
	uint8_t kind;     /* 3: 't', 'n', 'r' */
	be32 id;          /* 4: so that keys sort by number */
};
WIRE_SIZE(struct role_key_wire, 8);

struct role_table_wire {
	le32 version; /* 0 */
	le32 reserved;
	le64 epoch;  /* 8 */
	le64 now_ms; /* 16 */
};
WIRE_SIZE(struct role_table_wire, 24);

struct role_node_wire {
	le32 version;             /* 0 */
	uint8_t state;            /* 4 */
	uint8_t drain;            /* 5 */
	uint8_t proof;            /* 6 */
	uint8_t flags;            /* 7: bit 0 slots alive, bit 1 its silence is a proof */
	le64 inc;                 /* 8 */
	le64 proof_volumes;       /* 16 */
	le64 since_ms;            /* 24 */
	le64 quarantine_until_ms; /* 32 */
	le64 exits_ms[3];         /* 40 */
	le64 renew_seq;           /* 64 */
	le32 lease_ms;            /* 72 */
	le32 cpus;                /* 76 */
	le64 paths;               /* 80 */
	le64 memory_bytes;        /* 88 */
};
WIRE_SIZE(struct role_node_wire, 96);

struct role_times_wire {
	le64 at_ms[8];
	le32 count;
};
WIRE_SIZE(struct role_times_wire, 68);

struct role_policy_wire {
	uint8_t priority;  /* 0 */
	uint8_t fallback;  /* 1 */
	uint8_t flags;     /* 2: bit 0 may be isolated, bit 1 strict, bit 2 patient */
	uint8_t reserved;  /* 3 */
	le32 cpus;         /* 4 */
	le64 possible;     /* 8 */
	le32 preferred[8]; /* 16 */
	le32 groups[4];    /* 48 */
	le32 after[4];     /* 64 */
	le64 volumes;      /* 80 */
	le64 memory_bytes; /* 88 */
	le32 restart_max;  /* 96 */
	le32 restart_window_s;
	le32 failover_max;
	le32 failover_window_s;
	le32 resiliency_ms; /* 112 */
};
WIRE_SIZE(struct role_policy_wire, 116);

struct role_role_wire {
	le32 version;   /* 0 */
	uint8_t state;  /* 4 */
	uint8_t before; /* 5 */
	uint8_t want;   /* 6 */
	uint8_t why;    /* 7 */
	uint8_t flags;  /* 8: bit 0 frozen, bit 1 incoming */
	uint8_t reserved[3];
	le32 owner_node;                  /* 12 */
	le64 owner_inc;                   /* 16 */
	le64 dest_inc;                    /* 24 */
	le32 dest_node;                   /* 32 */
	le32 in_place;                    /* 36 */
	le64 token;                       /* 40 */
	le64 acked;                       /* 48 */
	le64 since_ms;                    /* 56 */
	le64 until_ms;                    /* 64 */
	le64 tried;                       /* 72 */
	uint8_t name[64];                 /* 80: NUL padded */
	struct role_policy_wire policy;   /* 144 */
	struct role_times_wire restarts;  /* 260 */
	struct role_times_wire failovers; /* 328 */
};
WIRE_SIZE(struct role_role_wire, 396);
WIRE_AT(struct role_role_wire, name, 80);
WIRE_AT(struct role_role_wire, restarts, 260);

#endif
