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

#endif
