/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLUSTER_VIEW_FRAME_H
#define CLUSTER_VIEW_FRAME_H

/*
 * frame - the envelope of every message between the nodes' databases, multicast or not: magic,
 * version, type, length, crc32c. corosync checks its packets too; the crc is also for what went
 * wrong between it and us (docs/formats/cluster-log.md).
 */

#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/wire.h"

#define FRAME_MAGIC 0x314d5247u /* "GRM1" */
#define FRAME_VERSION 1u
#define FRAME_MAX (1u << 20) /* larger frames would hold the ring for milliseconds */

enum frame_type {
	FRAME_HELLO = 1, /* cluster/view */
	FRAME_PROMISE,
	FRAME_SKIP,
	FRAME_PROPOSE = 16, /* cluster/rsm, multicast */
	FRAME_APPEND,
	FRAME_ACK,
	FRAME_SUSPECT,
	FRAME_EFFECTS,    /* versions without it count a bad frame and go on */
	FRAME_FETCH = 32, /* cluster/rsm, from node to node */
	FRAME_ENTRIES,
	FRAME_NO_MATCH,
	FRAME_PAIRS,
};

struct frame_wire {
	le32 magic;    /* 0 */
	le16 version;  /* 4 */
	le16 type;     /* 6 */
	le32 body_len; /* 8 */
	le32 crc;      /* 12: of the whole frame, this field 0 */
};

WIRE_SIZE(struct frame_wire, 16);

/*
 * frame_seal() - fill the header in front of a body that is in place.
 * @buf[sizeof(struct frame_wire) + body_len].
 * Returns the length of the frame.
 */
size_t frame_seal(void *buf, enum frame_type type, size_t body_len);

/*
 * frame_open() - check a frame. *body points into @buf.
 * Returns 0; -EBADMSG damaged; -EPROTONOSUPPORT of a newer version.
 */
MUST_USE int frame_open(const void *buf, size_t len, uint16_t *type, const uint8_t **body,
                        size_t *body_len);

#endif
