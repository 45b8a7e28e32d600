/* SPDX-License-Identifier: Apache-2.0 */

/* flight_read - what a file of a flight recorder says. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "cluster/flight/flight.h"
#include "cluster/flight/flight_wire.h"

#define NS_PER_US 1000u

static int head_decode(const void *buf, size_t len, struct flight_head_wire *h, struct errbuf *eb)
{
	uint32_t records;

	if (len < FLIGHT_HEAD_BYTES) {
		return errbuf_set(eb, -EBADMSG, "flight recorder: the file is too short");
	}
	memcpy(h, buf, sizeof(*h));
	if (le64_get(h->magic) != FLIGHT_MAGIC ||
	    le32_get(h->crc) != crc32c(buf, sizeof(*h) - sizeof(h->crc))) {
		return errbuf_set(eb, -EBADMSG, "flight recorder: this is no such file");
	}
	records = le32_get(h->records);
	if (le32_get(h->version) != FLIGHT_VERSION || records == 0 || records > FLIGHT_RECORDS ||
	    le32_get(h->reserved) != 0 || le32_get(h->reserved2) != 0) {
		return errbuf_set(eb, -EBADMSG, "flight recorder: of another version");
	}
	return 0;
}

/* The record at place @index. Returns 1; 0 nothing there; -EBADMSG damaged. */
static int record_decode(const uint8_t *at, uint32_t index, uint32_t records, uint64_t *seq,
                         struct flight_record *out)
{
	static const struct flight_record_wire nothing;
	struct flight_record_wire w;

	memcpy(&w, at, sizeof(w));
	if (memcmp(&w, &nothing, sizeof(w)) == 0) {
		return 0;
	}
	*seq = le64_get(w.seq);
	*out = (struct flight_record){
		.boot_ns = le64_get(w.boot_ns),
		.kind = (enum flight_kind)le16_get(w.kind),
		.node = le16_get(w.node),
		.value = le32_get(w.value),
		.value2 = le32_get(w.value2),
	};
	if (le32_get(w.crc) != crc32c(at, sizeof(w) - sizeof(w.crc)) || *seq == 0 ||
	    (*seq - 1) % records != index || le16_get(w.kind) == 0 ||
	    le16_get(w.kind) >= FLIGHT_KIND_COUNT || out->node > FLIGHT_NODES_MAX) {
		return -EBADMSG;
	}
	return 1;
}

/* The number of the newest record; *@damaged: how many are not whole. */
static uint64_t newest(const uint8_t *at, uint32_t there, uint32_t records, uint32_t *damaged)
{
	struct flight_record r;
	uint64_t last = 0;
	uint64_t seq = 0;

	*damaged = 0;
	for (uint32_t i = 0; i < there; i++) {
		int ret = record_decode(at + (size_t)i * sizeof(struct flight_record_wire), i,
		                        records, &seq, &r);

		*damaged += ret < 0;
		last = ret > 0 && seq > last ? seq : last;
	}
	return last;
}

int flight_decode(const void *buf, size_t len, struct flight_log **out, struct errbuf *eb)
{
	struct flight_head_wire h;
	int err = head_decode(buf, len, &h, eb);

	*out = NULL;
	if (err != 0) {
		return err;
	}

	const uint8_t *at = (const uint8_t *)buf + FLIGHT_HEAD_BYTES;
	uint32_t records = le32_get(h.records);
	size_t whole = (len - FLIGHT_HEAD_BYTES) / sizeof(struct flight_record_wire);
	uint32_t there = whole < records ? (uint32_t)whole : records;
	uint32_t damaged;
	uint64_t last = newest(at, there, records, &damaged);
	uint64_t first = last > records ? last - records + 1 : 1;
	struct flight_log *log = gw_malloc(sizeof(*log) + (size_t)there * sizeof(log->records[0]));

	if (log == NULL) {
		return -ENOMEM;
	}
	*log = (struct flight_log){
		.cluster = h.cluster,
		.boot = h.boot,
		.nodeid = le32_get(h.nodeid),
		.begin_boot_ns = le64_get(h.begin_boot_ns),
		.begin_wall_ns = le64_get(h.begin_wall_ns),
		.last_seq = last,
		.damaged = damaged,
	};
	/* In the order of the numbers: the places from that of the oldest on. */
	for (uint32_t i = 0; last != 0 && i < records; i++) {
		uint32_t place = (uint32_t)((first - 1 + i) % records);
		struct flight_record r;
		uint64_t seq = 0;

		if (place < there &&
		    record_decode(at + (size_t)place * sizeof(struct flight_record_wire), place,
		                  records, &seq, &r) > 0 &&
		    seq >= first) {
			log->records[log->count++] = r;
		}
	}
	*out = log;
	return 0;
}

/* ---- in a few numbers ---- */

static void worst(uint32_t *count, uint32_t *most, uint32_t value)
{
	(*count)++;
	*most = value > *most ? value : *most;
}

static void summarise_one(const struct flight_record *r, struct flight_summary *s)
{
	switch (r->kind) {
	case FLIGHT_BEGIN:
		s->begins++;
		break;
	case FLIGHT_SENT:
		worst(&s->sent, &s->sent_worst, r->value);
		break;
	case FLIGHT_RENEWED:
		worst(&s->renewed, &s->renewed_worst, r->value);
		break;
	case FLIGHT_HEARD:
		if (r->node >= 1 && r->node <= FLIGHT_NODES_MAX) {
			s->nodes[r->node - 1].heard++;
			if (r->value > s->nodes[r->node - 1].worst) {
				s->nodes[r->node - 1].worst = r->value;
				s->nodes[r->node - 1].worst_ns = r->boot_ns;
			}
		}
		break;
	case FLIGHT_RUNG:
		s->rung_worst = r->value > s->rung_worst ? r->value : s->rung_worst;
		break;
	case FLIGHT_VIEW:
		s->views++;
		break;
	case FLIGHT_LATE:
		worst(&s->lates, &s->late_worst, r->value);
		break;
	case FLIGHT_NOVIEW:
	case FLIGHT_LOST:
	case FLIGHT_FENCED:
	case FLIGHT_KIND_COUNT:
		break;
	}
}

void flight_summarise(const struct flight_log *log, struct flight_summary *out)
{
	*out = (struct flight_summary){0};
	for (uint32_t i = 0; i < log->count; i++) {
		summarise_one(&log->records[i], out);
	}
	if (log->count > 1 && log->records[log->count - 1].boot_ns > log->records[0].boot_ns) {
		out->span_ns = log->records[log->count - 1].boot_ns - log->records[0].boot_ns;
	}
}

const char *flight_kind_name(enum flight_kind kind)
{
	static const char *const names[FLIGHT_KIND_COUNT] = {
		[FLIGHT_BEGIN] = "begin",    [FLIGHT_SENT] = "sent", [FLIGHT_RENEWED] = "renewed",
		[FLIGHT_HEARD] = "heard",    [FLIGHT_RUNG] = "rung", [FLIGHT_VIEW] = "view",
		[FLIGHT_NOVIEW] = "no-view", [FLIGHT_LATE] = "late", [FLIGHT_LOST] = "lost",
		[FLIGHT_FENCED] = "fenced",
	};

	return (uint32_t)kind < FLIGHT_KIND_COUNT && names[kind] != NULL ? names[kind] : "?";
}

static uint64_t clamp(uint64_t value)
{
	return value < INT64_MAX ? value : INT64_MAX; /* a file may say anything */
}

static void add_summary(const struct flight_log *log, struct json_build *b)
{
	struct flight_summary s;
	struct json_build nodes;
	struct json_build sum;

	flight_summarise(log, &s);
	json_build_object(&sum);
	json_add_u64(&sum, "span_ns", clamp(s.span_ns));
	json_add_u64(&sum, "begins", s.begins);
	json_add_u64(&sum, "sent", s.sent);
	json_add_u64(&sum, "sent_worst_ns", (uint64_t)s.sent_worst * NS_PER_US);
	json_add_u64(&sum, "renewed", s.renewed);
	json_add_u64(&sum, "renewed_worst_ns", (uint64_t)s.renewed_worst * NS_PER_US);
	json_add_u64(&sum, "lates", s.lates);
	json_add_u64(&sum, "late_worst_ns", (uint64_t)s.late_worst * NS_PER_US);
	json_add_u64(&sum, "views", s.views);
	json_add_u64(&sum, "rung_worst", s.rung_worst);
	json_build_array(&nodes);
	for (uint32_t id = 1; id <= FLIGHT_NODES_MAX; id++) {
		if (s.nodes[id - 1].heard != 0) {
			json_add(&nodes, NULL,
			         json_pack("{s:i,s:I,s:I,s:I}", "nodeid", (int)id, "heard",
			                   (json_int_t)s.nodes[id - 1].heard, "worst_ns",
			                   (json_int_t)s.nodes[id - 1].worst * NS_PER_US,
			                   "worst_at_ns",
			                   (json_int_t)clamp(s.nodes[id - 1].worst_ns)));
		}
	}
	json_add_build(&sum, "nodes", &nodes);
	json_add_build(b, "summary", &sum);
}

json_t *flight_json(const struct flight_log *log)
{
	char text[GUID_TEXT_SIZE];
	struct json_build records;
	struct json_build b;
	json_t *out;

	json_build_object(&b);
	json_add_str(&b, "cluster", guid_format(&log->cluster, text));
	json_add_str(&b, "boot", guid_format(&log->boot, text));
	json_add_u64(&b, "nodeid", log->nodeid);
	json_add_u64(&b, "begin_boot_ns", clamp(log->begin_boot_ns));
	json_add_u64(&b, "begin_wall_ns", clamp(log->begin_wall_ns));
	json_add_u64(&b, "damaged", log->damaged);
	add_summary(log, &b);
	json_build_array(&records);
	for (uint32_t i = 0; i < log->count; i++) {
		const struct flight_record *r = &log->records[i];

		json_add(&records, NULL,
		         json_pack("[I,s,i,I,I]", (json_int_t)clamp(r->boot_ns),
		                   flight_kind_name(r->kind), (int)r->node, (json_int_t)r->value,
		                   (json_int_t)r->value2));
	}
	json_add_build(&b, "records", &records);
	return json_build_end(&b, &out) == 0 ? out : NULL;
}
