/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLUSTER_DB_DB_WIRE_H
#define CLUSTER_DB_DB_WIRE_H

/* Layout of commands and of kept pairs; docs/formats/cluster-db.md says what they mean. */

#include <stddef.h>
#include <stdint.h>

#include "base/wire.h"

#define DB_CMD_MAGIC 0x31434447u /* "GDC1" */
#define DB_CMD_VERSION 1u

struct db_cmd_wire {
	le32 magic;    /* 0 */
	le16 version;  /* 4 */
	le16 op_count; /* 6 */
};

WIRE_SIZE(struct db_cmd_wire, 8);

/* Followed by key[key_len], conditions[conds_len], document[doc_len]. */
struct db_op_wire {
	uint8_t kind;       /* 0 */
	uint8_t action;     /* 1 */
	uint8_t expect;     /* 2 */
	uint8_t cond_count; /* 3 */
	le16 key_len;       /* 4 */
	uint8_t reserved[2];
	le64 version;   /* 8: for DB_VERSION, else 0 */
	le32 conds_len; /* 16 */
	le32 doc_len;   /* 20 */
};

WIRE_SIZE(struct db_op_wire, 24);
WIRE_AT(struct db_op_wire, version, 8);
WIRE_AT(struct db_op_wire, doc_len, 20);

/* Followed by path[path_len], value[value_len]. */
struct db_cond_wire {
	uint8_t compare;  /* 0 */
	uint8_t path_len; /* 1 */
	le16 value_len;   /* 2 */
};

WIRE_SIZE(struct db_cond_wire, 4);

/* The value of a kept pair, followed by the document. The key: kind (1 byte), '/', the key. */
struct db_pair_wire {
	le64 version;    /* 0 */
	le64 created;    /* 8 */
	le64 changed_ns; /* 16 */
};

WIRE_SIZE(struct db_pair_wire, 24);

#endif
