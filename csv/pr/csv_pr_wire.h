/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CSV_PR_CSV_PR_WIRE_H
#define CSV_PR_CSV_PR_WIRE_H

/*
 * csv_pr_wire - commands and data of SCSI persistent reservations. Big-endian.
 *
 * Source: SPC-4 (T10/1731-D), 6.15 PERSISTENT RESERVE IN, 6.16 PERSISTENT RESERVE OUT.
 */

#include "base/wire.h"

#define PR_OP_IN 0x5e
#define PR_OP_OUT 0x5f

/* Service actions of PERSISTENT RESERVE IN. */
#define PR_IN_READ_KEYS 0x00
#define PR_IN_READ_RESERVATION 0x01
#define PR_IN_REPORT_CAPABILITIES 0x02

struct pr_in_cdb_wire {
	uint8_t operation;   /* 0: 5Eh */
	uint8_t action;      /* 1: bits 4..0 */
	uint8_t reserved[5]; /* 2 */
	be16 length;         /* 7: of the buffer */
	uint8_t control;     /* 9 */
};
WIRE_SIZE(struct pr_in_cdb_wire, 10);
WIRE_AT(struct pr_in_cdb_wire, length, 7);

struct pr_out_cdb_wire {
	uint8_t operation;   /* 0: 5Fh */
	uint8_t action;      /* 1: bits 4..0 */
	uint8_t scope_type;  /* 2: scope (0: logical unit) in bits 7..4, type in 3..0 */
	uint8_t reserved[2]; /* 3 */
	be32 length;         /* 5: of the parameters */
	uint8_t control;     /* 9 */
};
WIRE_SIZE(struct pr_out_cdb_wire, 10);
WIRE_AT(struct pr_out_cdb_wire, length, 5);

#define PR_OUT_APTPL 0x01 /* flags: survives a loss of power of the target */

struct pr_out_wire {
	be64 key;            /*  0: ours as registered; 0 = not yet */
	be64 action_key;     /*  8: the new one, or the victim's */
	uint8_t obsolete[4]; /* 16 */
	uint8_t flags;       /* 20 */
	uint8_t reserved[3]; /* 21 */
};
WIRE_SIZE(struct pr_out_wire, 24);
WIRE_AT(struct pr_out_wire, flags, 20);

/* READ KEYS and READ RESERVATION begin with this; length counts what follows. */
struct pr_in_head_wire {
	be32 generation; /* 0: of the registrations, one more with each change */
	be32 length;     /* 4 */
};
WIRE_SIZE(struct pr_in_head_wire, 8);

struct pr_reservation_wire {
	be64 key;            /*  0: the holder's; 0 with all registrants */
	uint8_t obsolete[4]; /*  8 */
	uint8_t reserved;    /* 12 */
	uint8_t scope_type;  /* 13 */
	uint8_t obsolete2[2];
};
WIRE_SIZE(struct pr_reservation_wire, 16);

#define PR_CAP_PTPL_C 0x01   /* flags: can persist */
#define PR_CAP_ATP_C 0x04    /* can register on all target ports */
#define PR_CAP_TMV 0x80      /* flags2: the mask of types is valid */
#define PR_CAP_PTPL_A 0x01   /* flags2: persists now */
#define PR_CAP_WR_EX_AR 0x80 /* types: write exclusive, all registrants */
#define PR_CAP_WR_EX_RO 0x20 /* types: write exclusive, registrants only */

struct pr_capabilities_wire {
	be16 length;    /* 0: 8 */
	uint8_t flags;  /* 2 */
	uint8_t flags2; /* 3 */
	uint8_t types;  /* 4 */
	uint8_t types2; /* 5 */
	uint8_t reserved[2];
};
WIRE_SIZE(struct pr_capabilities_wire, 8);

#endif
