/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MIGRATE_PACK_PACK_H
#define MIGRATE_PACK_PACK_H

/*
 * pack - compression of page data with lz4 or zstd, and the judgement whether it pays.
 *
 * The door to both libraries. A packer belongs to one thread and allocates only when created.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "migrate/stream/stream.h"

struct pack;

/* pack_create() - for packing and unpacking with @coding (not RAW). Returns 0; -ENOMEM. */
MUST_USE int pack_create(enum stream_coding coding, struct pack **out);
void pack_destroy(struct pack *p); /* NULL is fine */

/* pack_bytes() - @from[len] into @to[room]. Returns the length, 0 if it does not fit. */
size_t pack_bytes(struct pack *p, const void *from, size_t len, void *to, size_t room);

/* pack_unpack() - @from[len], hostile, into exactly @to[size]. Returns 0; -EBADMSG. */
MUST_USE int pack_unpack(struct pack *p, const void *from, size_t len, void *to, size_t size);

#define PACK_TRIES 8u /* frames until the figures are believed */
/* Frames without packing until it is tried again: doubled after each trial in vain. The first
 * trials see empty socket buffers, which make every link look fast. */
#define PACK_PAUSE_MIN 16u
#define PACK_PAUSE_MAX 512u

#define PACK_COMPARE 64u /* so often a frame is sent as it is, to see what the link does now */

/* Does packing make a connection faster? Value type, start from {0}. Pure. */
struct pack_gauge {
	uint32_t tries; /* measured with packing in this trial */
	uint32_t pause; /* frames left without */
	double pack_ns; /* per byte of data: packing and sending */
	double raw_ns;  /* the same without packing; 0 = never measured */
	uint32_t raws;
	uint32_t pause_next;
	uint32_t since_raw; /* packed frames since the last comparison */
};

/* pack_gauge_wants() - pack the next frame? The first few are not, for comparison. */
bool pack_gauge_wants(struct pack_gauge *g);

/* pack_gauge_add() - a frame of @data_bytes took @took_ns to pack (perhaps) and to send. */
void pack_gauge_add(struct pack_gauge *g, bool packed, uint64_t data_bytes, uint64_t took_ns);

#endif
