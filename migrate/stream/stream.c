/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/stream/stream.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/crc32c.h"
#include "base/errbuf.h"
#include "base/wire.h"
#include "migrate/stream/stream_wire.h"

#define STREAM_MANDATORY 1u
#define STREAM_CRC_FROM offsetof(struct stream_frame_wire, type)

_Static_assert(sizeof(struct stream_frame_wire) == STREAM_HEADER_BYTES, "header");

const char *stream_type_name(uint16_t type, char buf[16])
{
	static const char *const names[] = {
		[STREAM_HELLO] = "HELLO",
		[STREAM_ANSWER] = "ANSWER",
		[STREAM_DEFINITION] = "DEFINITION",
		[STREAM_REPORT] = "REPORT",
		[STREAM_MEMORY] = "MEMORY",
		[STREAM_ROUND_END] = "ROUND_END",
		[STREAM_ROUND_ACK] = "ROUND_ACK",
		[STREAM_STATE] = "STATE",
		[STREAM_FINAL] = "FINAL",
		[STREAM_READY] = "READY",
		[STREAM_COMMIT] = "COMMIT",
		[STREAM_RUNNING] = "RUNNING",
		[STREAM_RETRY] = "RETRY",
		[STREAM_CANCEL] = "CANCEL",
		[STREAM_FAILED] = "FAILED",
		[STREAM_PING] = "PING",
		[STREAM_PONG] = "PONG",
	};

	if (type < ARRAY_LEN(names) && names[type] != NULL) {
		return names[type];
	}
	(void)snprintf(buf, 16, "type %u", type);
	return buf;
}

void stream_frame_encode(const struct stream_frame *f, uint8_t out[STREAM_HEADER_BYTES])
{
	struct stream_frame_wire w = {
		.magic = le32_make(STREAM_MAGIC),
		.type = le16_make(f->type),
		.flags = le16_make(f->mandatory ? STREAM_MANDATORY : 0),
		.sequence = le32_make(f->sequence),
		.payload_bytes = le32_make(f->payload_bytes),
		.payload_crc = le32_make(f->payload_crc),
		.bulk_bytes = le32_make(f->bulk_bytes),
	};
	uint8_t bytes[sizeof(w)];

	CHECK(f->payload_bytes <= STREAM_PAYLOAD_MAX && f->bulk_bytes <= STREAM_BULK_MAX);
	memcpy(bytes, &w, sizeof(w));
	w.header_crc = le32_make(crc32c(bytes + STREAM_CRC_FROM, sizeof(w) - STREAM_CRC_FROM));
	memcpy(out, &w, sizeof(w));
}

int stream_frame_decode(const uint8_t in[STREAM_HEADER_BYTES], uint32_t sequence,
                        struct stream_frame *out, struct errbuf *eb)
{
	struct stream_frame_wire w;
	char name[16];

	memcpy(&w, in, sizeof(w));
	if (le32_get(w.magic) != STREAM_MAGIC) {
		return errbuf_set(eb, -EBADMSG, "stream: this is no frame: magic 0x%08x",
		                  le32_get(w.magic));
	}
	if (le32_get(w.header_crc) !=
	    crc32c(in + STREAM_CRC_FROM, STREAM_HEADER_BYTES - STREAM_CRC_FROM)) {
		return errbuf_set(eb, -EBADMSG, "stream: frame %u: bad CRC of the header",
		                  sequence);
	}

	struct stream_frame f = {
		.type = le16_get(w.type),
		.mandatory = (le16_get(w.flags) & STREAM_MANDATORY) != 0,
		.sequence = le32_get(w.sequence),
		.payload_bytes = le32_get(w.payload_bytes),
		.payload_crc = le32_get(w.payload_crc),
		.bulk_bytes = le32_get(w.bulk_bytes),
	};

	if (f.sequence != sequence) {
		return errbuf_set(eb, -EBADMSG, "stream: frame %u came where %u was due",
		                  f.sequence, sequence);
	}
	if (le16_get(w.flags) > STREAM_MANDATORY || le32_get(w.reserved) != 0 || f.type == 0 ||
	    f.payload_bytes > STREAM_PAYLOAD_MAX || f.bulk_bytes > STREAM_BULK_MAX) {
		return errbuf_set(eb, -EBADMSG, "stream: frame %u: header out of range", sequence);
	}
	if (f.bulk_bytes != 0 && f.type != STREAM_MEMORY) {
		return errbuf_set(eb, -EBADMSG, "stream: frame %u: %s with a bulk", sequence,
		                  stream_type_name(f.type, name));
	}
	if (f.mandatory && f.type > STREAM_PONG) {
		(void)errbuf_set(eb, -EPROTONOSUPPORT,
		                 "stream: the peer sends a mandatory frame of %s, which this "
		                 "version does not know",
		                 stream_type_name(f.type, name));
		errbuf_hint(eb, "Update Godwit on this host first.");
		return -EPROTONOSUPPORT;
	}
	*out = f;
	return 0;
}

int stream_payload_check(const struct stream_frame *f, const void *payload, struct errbuf *eb)
{
	char name[16];

	if (crc32c(payload, f->payload_bytes) == f->payload_crc) {
		return 0;
	}
	return errbuf_set(eb, -EBADMSG, "stream: frame %u (%s): bad CRC of the payload",
	                  f->sequence, stream_type_name(f->type, name));
}

uint32_t stream_memory_encode(const struct stream_memory *m, uint8_t *out)
{
	struct stream_memory_wire w = {
		.round = le32_make(m->round),
		.run_count = le16_make((uint16_t)m->run_count),
		.coding = (uint8_t)m->coding,
		.flags = m->has_crc ? 1 : 0,
		.data_bytes = le32_make(m->data_bytes),
		.bulk_crc = le32_make(m->has_crc ? m->bulk_crc : 0),
	};

	CHECK(m->run_count >= 1 && m->run_count <= STREAM_RUNS_MAX);
	memcpy(out, &w, sizeof(w));
	for (uint32_t i = 0; i < m->run_count; i++) {
		struct stream_run_wire r = {
			.gpa = le64_make(m->runs[i].gpa),
			.pages = le32_make(m->runs[i].pages),
			.kind = le32_make(m->runs[i].kind),
		};

		memcpy(out + sizeof(w) + i * sizeof(r), &r, sizeof(r));
	}
	return (uint32_t)(sizeof(w) + m->run_count * sizeof(struct stream_run_wire));
}

/* One run; *from: where the last one ended. */
static int stream_run_decode(const uint8_t *in, uint64_t *from, uint64_t *data_pages,
                             struct stream_run *out)
{
	struct stream_run_wire w;

	memcpy(&w, in, sizeof(w));

	uint64_t gpa = le64_get(w.gpa);
	uint32_t pages = le32_get(w.pages);
	uint32_t kind = le32_get(w.kind);

	if (gpa % STREAM_PAGE_BYTES != 0 || gpa < *from || gpa >= STREAM_GPA_MAX || pages == 0 ||
	    pages > STREAM_RUN_PAGES_MAX || kind > STREAM_RUN_ZERO) {
		return -EBADMSG;
	}
	if (kind == STREAM_RUN_DATA) {
		*data_pages += pages;
	}
	*from = gpa + (uint64_t)pages * STREAM_PAGE_BYTES;
	*out = (struct stream_run){.gpa = gpa, .pages = pages, .kind = kind};
	return *from <= STREAM_GPA_MAX ? 0 : -EBADMSG;
}

static bool stream_memory_sane(const struct stream_memory_wire *w, size_t len, uint32_t bulk_bytes)
{
	uint32_t count = le16_get(w->run_count);
	uint32_t data = le32_get(w->data_bytes);
	bool has_crc = w->flags == 1;

	if (count == 0 || count > STREAM_RUNS_MAX ||
	    len != sizeof(*w) + count * sizeof(struct stream_run_wire)) {
		return false;
	}
	if (w->flags > 1 || (!has_crc && le32_get(w->bulk_crc) != 0)) {
		return false;
	}
	if (w->coding == STREAM_CODING_RAW) {
		return bulk_bytes == data;
	}
	/* Nobody packs to make it longer: such a frame only wants our time. */
	return w->coding <= STREAM_CODING_ZSTD && bulk_bytes > 0 && bulk_bytes < data;
}

int stream_memory_decode(const void *buf, size_t len, uint32_t bulk_bytes,
                         struct stream_memory *out, struct errbuf *eb)
{
	const uint8_t *in = buf;
	struct stream_memory_wire w;

	if (len < sizeof(w)) {
		return errbuf_set(eb, -EBADMSG, "stream: MEMORY of %zu bytes", len);
	}
	memcpy(&w, in, sizeof(w));
	if (!stream_memory_sane(&w, len, bulk_bytes)) {
		return errbuf_set(eb, -EBADMSG, "stream: MEMORY: fields do not fit together");
	}

	uint32_t count = le16_get(w.run_count);
	uint64_t from = 0;
	uint64_t data_pages = 0;
	struct stream_run ignored;

	for (uint32_t i = 0; i < count; i++) {
		if (stream_run_decode(in + sizeof(w) + i * sizeof(struct stream_run_wire), &from,
		                      &data_pages, &ignored) != 0) {
			return errbuf_set(eb, -EBADMSG, "stream: MEMORY: run %u is out of range",
			                  i);
		}
	}
	if (data_pages > STREAM_DATA_PAGES_MAX ||
	    data_pages * STREAM_PAGE_BYTES != le32_get(w.data_bytes)) {
		return errbuf_set(eb, -EBADMSG, "stream: MEMORY: %u bytes for %llu pages",
		                  le32_get(w.data_bytes), (unsigned long long)data_pages);
	}
	out->round = le32_get(w.round);
	out->coding = w.coding;
	out->has_crc = w.flags == 1;
	out->bulk_crc = le32_get(w.bulk_crc);
	out->data_bytes = le32_get(w.data_bytes);
	out->run_count = count;
	from = 0;
	for (uint32_t i = 0; i < count; i++) { /* checked above */
		(void)stream_run_decode(in + sizeof(w) + i * sizeof(struct stream_run_wire), &from,
		                        &data_pages, &out->runs[i]);
	}
	return 0;
}

uint32_t stream_round_encode(const struct stream_round *r, uint8_t *out)
{
	struct stream_round_wire w = {
		.round = le32_make(r->round),
		.data_pages = le64_make(r->data_pages),
		.zero_pages = le64_make(r->zero_pages),
		.frames = le64_make(r->frames),
	};

	memcpy(out, &w, sizeof(w));
	return sizeof(w);
}

int stream_round_decode(const void *buf, size_t len, struct stream_round *out, struct errbuf *eb)
{
	struct stream_round_wire w;

	if (len != sizeof(w)) {
		return errbuf_set(eb, -EBADMSG, "stream: end of a round with %zu bytes", len);
	}
	memcpy(&w, buf, sizeof(w));
	if (le32_get(w.reserved) != 0) {
		return errbuf_set(eb, -EBADMSG, "stream: end of a round: reserved bytes are set");
	}
	*out = (struct stream_round){
		.round = le32_get(w.round),
		.data_pages = le64_get(w.data_pages),
		.zero_pages = le64_get(w.zero_pages),
		.frames = le64_get(w.frames),
	};
	return 0;
}

uint32_t stream_state_encode(const struct stream_state *s, uint8_t *out)
{
	struct stream_state_wire w = {
		.offset_bytes = le64_make(s->offset_bytes),
		.total_bytes = le64_make(s->total_bytes),
	};

	memcpy(out, &w, sizeof(w));
	return sizeof(w);
}

int stream_state_decode(const void *buf, size_t len, struct stream_state *out, struct errbuf *eb)
{
	struct stream_state_wire w;

	if (len <= sizeof(w) || len - sizeof(w) > STREAM_STATE_PIECE_MAX) {
		return errbuf_set(eb, -EBADMSG, "stream: STATE of %zu bytes", len);
	}
	memcpy(&w, buf, sizeof(w));

	uint64_t offset = le64_get(w.offset_bytes);
	uint64_t total = le64_get(w.total_bytes);
	uint32_t piece = (uint32_t)(len - sizeof(w));

	if (total > STREAM_STATE_MAX || offset > total || piece > total - offset) {
		return errbuf_set(eb, -EBADMSG, "stream: STATE: a piece is outside the whole");
	}
	*out = (struct stream_state){
		.offset_bytes = offset,
		.total_bytes = total,
		.piece = (const uint8_t *)buf + sizeof(w),
		.piece_bytes = piece,
	};
	return 0;
}

uint32_t stream_final_encode(const struct stream_final *f, uint8_t *out)
{
	struct stream_final_wire w = {
		.state_bytes = le64_make(f->state_bytes),
		.state_crc = le32_make(f->state_crc),
		.rounds = le32_make(f->rounds),
	};

	memcpy(out, &w, sizeof(w));
	return sizeof(w);
}

int stream_final_decode(const void *buf, size_t len, struct stream_final *out, struct errbuf *eb)
{
	struct stream_final_wire w;

	if (len != sizeof(w)) {
		return errbuf_set(eb, -EBADMSG, "stream: FINAL of %zu bytes", len);
	}
	memcpy(&w, buf, sizeof(w));
	if (le64_get(w.state_bytes) > STREAM_STATE_MAX) {
		return errbuf_set(eb, -EBADMSG, "stream: FINAL: the state is too large");
	}
	*out = (struct stream_final){
		.state_bytes = le64_get(w.state_bytes),
		.state_crc = le32_get(w.state_crc),
		.rounds = le32_get(w.rounds),
	};
	return 0;
}
