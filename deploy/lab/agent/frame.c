/* SPDX-License-Identifier: Apache-2.0 */
#include "deploy/lab/agent/frame.h"

#include <errno.h>
#include <string.h>

#include "base/check.h"

void frame_header_encode(struct frame_wire *out, uint8_t type, uint32_t session,
                         size_t payload_bytes)
{
	CHECK(payload_bytes <= FRAME_PAYLOAD_MAX);
	*out = (struct frame_wire){
		.magic = le32_make(FRAME_MAGIC),
		.session = le32_make(session),
		.type = type,
		.payload_bytes = le32_make((uint32_t)payload_bytes),
	};
}

/* Drop the first @bytes of the buffer. */
static void reader_drop(struct frame_reader *r, size_t bytes)
{
	memmove(r->buf, r->buf + bytes, r->used_bytes - bytes);
	r->used_bytes -= bytes;
}

uint8_t *frame_reader_room(struct frame_reader *r, size_t *room_bytes)
{
	reader_drop(r, r->taken_bytes);
	r->taken_bytes = 0;
	*room_bytes = sizeof(r->buf) - r->used_bytes;
	return r->buf + r->used_bytes;
}

void frame_reader_fed(struct frame_reader *r, size_t bytes)
{
	CHECK(bytes <= sizeof(r->buf) - r->used_bytes);
	r->used_bytes += bytes;
}

static int header_ok(const struct frame_wire *h)
{
	return le32_get(h->magic) == FRAME_MAGIC &&
	       le32_get(h->payload_bytes) <= FRAME_PAYLOAD_MAX && h->reserved[0] == 0 &&
	       h->reserved[1] == 0 && h->reserved[2] == 0;
}

/* Skip to the next place where a header can begin, at least one byte on. */
static void reader_resync(struct frame_reader *r)
{
	const uint8_t first = (uint8_t)(FRAME_MAGIC & 0xff);
	const uint8_t *next = memchr(r->buf + 1, first, r->used_bytes - 1);

	reader_drop(r, next ? (size_t)(next - r->buf) : r->used_bytes);
}

int frame_reader_next(struct frame_reader *r, struct frame *out)
{
	reader_drop(r, r->taken_bytes);
	r->taken_bytes = 0;
	for (;;) {
		struct frame_wire header;

		if (r->used_bytes < sizeof(header)) {
			return -EAGAIN;
		}
		memcpy(&header, r->buf, sizeof(header));
		if (!header_ok(&header)) {
			reader_resync(r);
			continue;
		}
		const size_t payload_bytes = le32_get(header.payload_bytes);

		if (r->used_bytes < sizeof(header) + payload_bytes) {
			return -EAGAIN;
		}
		r->taken_bytes = sizeof(header) + payload_bytes;
		*out = (struct frame){
			.session = le32_get(header.session),
			.type = header.type,
			.payload = r->buf + sizeof(header),
			.payload_bytes = payload_bytes,
		};
		return 0;
	}
}

int frame_start_decode(const uint8_t *payload, size_t len, struct frame_start *out)
{
	struct frame_start_wire wire;

	if (len <= sizeof(wire) || payload[len - 1] != 0) {
		return -EBADMSG;
	}
	memcpy(&wire, payload, sizeof(wire));
	if ((wire.flags & ~FRAME_START_TTY) != 0 || wire.reserved[0] != 0 ||
	    wire.reserved[1] != 0 || wire.reserved[2] != 0 || payload[sizeof(wire)] == 0) {
		return -EBADMSG;
	}
	const char *arg = (const char *)payload + sizeof(wire);
	const char *const end = (const char *)payload + len;
	uint32_t argc = 0;

	for (const char *p = arg; p < end; p += strlen(p) + 1) {
		argc++;
	}
	if (argc > FRAME_ARGS_MAX) {
		return -E2BIG;
	}
	*out = (struct frame_start){
		.flags = wire.flags,
		.rows = le16_get(wire.window.rows),
		.columns = le16_get(wire.window.columns),
	};
	for (; arg < end; arg += strlen(arg) + 1) {
		out->argv[out->argc++] = arg;
	}
	return 0;
}

int frame_window_decode(const uint8_t *payload, size_t len, uint16_t *rows, uint16_t *columns)
{
	struct frame_window_wire wire;

	if (len != sizeof(wire)) {
		return -EBADMSG;
	}
	memcpy(&wire, payload, sizeof(wire));
	*rows = le16_get(wire.rows);
	*columns = le16_get(wire.columns);
	return 0;
}
