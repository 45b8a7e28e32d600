/* SPDX-License-Identifier: Apache-2.0 */

/* netvsc_io - the simulated driver's rings, requests and frames. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "tests/lib/netvsc_int.h"

#define NETVSC_PACKET_BYTES 16384u

/* ---- what comes ---- */

static void netvsc_slot_read(struct netvsc *v, uint32_t offset, void *buf, uint32_t len)
{
	if ((uint64_t)offset + len > (uint64_t)v->slots * v->slot_bytes) {
		netvsc_die("range outside of the receive buffer", (int)offset);
	}
	guest_pages_read(v->guest, v->recv_pfns, offset, buf, len);
}

void netvsc_give_back_id(struct netvsc *v, uint32_t channel, uint64_t transaction_id)
{
	struct netvsp_message m = {.type = le32_make(NETVSP_SEND_RNDIS_PACKET_COMPLETE)};

	m.u.status = le32_make(NETVSP_STATUS_SUCCESS);
	guest_send_wait(v->chan[channel], VMBUS_PACKET_COMPLETION, 0, transaction_id, &m, 8);
}

static void netvsc_control_came(struct netvsc *v, const struct netvsc_transfer *t)
{
	struct rndis_indicate_wire w;

	if (t->count != 1 || t->range[0].bytes > sizeof(v->reply) ||
	    t->range[0].bytes < sizeof(struct rndis_header_wire)) {
		netvsc_die("bad control transfer", (int)t->count);
	}
	netvsc_slot_read(v, t->range[0].offset, v->reply, t->range[0].bytes);
	memcpy(&w, v->reply, sizeof(w));
	if (le32_get(w.header.bytes) > t->range[0].bytes) {
		netvsc_die("control message longer than its range", 0);
	}
	if (le32_get(w.header.type) == RNDIS_INDICATE_STATUS) {
		v->link_events++;
		v->link_status = le32_get(w.status);
	} else {
		v->has_reply = true;
		v->reply_bytes = le32_get(w.header.bytes);
	}
	if (!v->hold) {
		netvsc_give_back_id(v, t->channel, t->transaction_id);
	}
}

static void netvsc_transfer_came(struct netvsc *v, uint32_t channel, const struct vmbus_packet *pkt)
{
	struct netvsp_transfer_wire w;
	struct netvsp_message m = {0};
	static struct netvsc_transfer t;

	if (pkt->header_bytes < sizeof(w) || pkt->payload_bytes < 16 ||
	    (pkt->flags & VMBUS_PACKET_WANTS_COMPLETION) == 0 || pkt->transaction_id == 0) {
		netvsc_die("bad transfer", (int)pkt->header_bytes);
	}
	memcpy(&w, pkt->header, sizeof(w));
	memcpy(&m, pkt->payload, sizeof(m));
	t = (struct netvsc_transfer){.transaction_id = pkt->transaction_id,
	                             .channel = channel,
	                             .count = le32_get(w.count)};
	if (le16_get(w.buffer_id) != 0xcafe || t.count == 0 || t.count > 375 ||
	    pkt->header_bytes != sizeof(w) + t.count * 8 ||
	    le32_get(m.type) != NETVSP_SEND_RNDIS_PACKET) {
		netvsc_die("bad transfer of ranges", (int)t.count);
	}
	for (uint32_t i = 0; i < t.count; i++) {
		struct netvsp_transfer_range_wire r;

		memcpy(&r, pkt->header + sizeof(w) + i * sizeof(r), sizeof(r));
		t.range[i].bytes = le32_get(r.byte_count);
		t.range[i].offset = le32_get(r.byte_offset);
		if (t.range[i].bytes > v->slot_bytes) {
			netvsc_die("range longer than a slot", (int)t.range[i].bytes);
		}
	}
	if (le32_get(m.u.rndis.channel_type) == NETVSP_CHANNEL_CONTROL) {
		netvsc_control_came(v, &t);
	} else if (v->transfer_count == NETVSC_QUEUE) {
		netvsc_die("too many transfers", 0);
	} else {
		v->transfers[v->transfer_count++] = t;
	}
}

static void netvsc_inband_came(struct netvsc *v, const struct vmbus_packet *pkt)
{
	struct netvsp_message m = {0};

	memcpy(&m, pkt->payload, pkt->payload_bytes < sizeof(m) ? pkt->payload_bytes : sizeof(m));
	if (le32_get(m.type) != NETVSP_SEND_INDIRECTION_TABLE ||
	    le32_get(m.u.send_table.count) != 16 ||
	    le32_get(m.u.send_table.offset) + 64 > pkt->payload_bytes) {
		netvsc_die("bad in-band message", (int)le32_get(m.type));
	}
	for (uint32_t i = 0; i < 16; i++) {
		le32 entry;

		memcpy(&entry, pkt->payload + le32_get(m.u.send_table.offset) + (size_t)i * 4, 4);
		v->table[i] = le32_get(entry);
	}
	v->has_table = true;
}

static void netvsc_completion_came(struct netvsc *v, const struct vmbus_packet *pkt)
{
	if (pkt->payload_bytes < sizeof(struct netvsp_message) || v->done_count == NETVSC_QUEUE) {
		netvsc_die("bad completion", (int)pkt->payload_bytes);
	}
	for (uint32_t i = 0; i < v->done_count; i++) {
		if (v->done[i].id == pkt->transaction_id) {
			netvsc_die("completed twice", 0);
		}
	}
	v->done[v->done_count].id = pkt->transaction_id;
	memcpy(&v->done[v->done_count++].m, pkt->payload, sizeof(struct netvsp_message));
}

void netvsc_pump(struct netvsc *v)
{
	static uint8_t buf[NETVSC_PACKET_BYTES];
	struct vmbus_packet pkt;

	for (uint32_t i = 0; i < v->channels; i++) {
		int err;

		while ((err = guest_recv(v->chan[i], buf, sizeof(buf), &pkt)) == 0) {
			if (pkt.type == VMBUS_PACKET_TRANSFER_PAGES) {
				netvsc_transfer_came(v, i, &pkt);
			} else if (pkt.type == VMBUS_PACKET_COMPLETION) {
				netvsc_completion_came(v, &pkt);
			} else {
				netvsc_inband_came(v, &pkt);
			}
		}
		if (err != -EAGAIN) {
			netvsc_die("bad ring", err);
		}
	}
}

/* ---- requests ---- */

static bool netvsc_done_take(struct netvsc *v, uint64_t id, struct netvsp_message *out)
{
	netvsc_pump(v);
	for (uint32_t i = 0; i < v->done_count; i++) {
		if (v->done[i].id == id) {
			*out = v->done[i].m;
			v->done[i] = v->done[--v->done_count];
			return true;
		}
	}
	return false;
}

void netvsc_post(struct netvsc *v, const struct netvsp_message *m)
{
	guest_send_wait(v->chan[0], VMBUS_PACKET_INBAND, 0, v->next_id++, m, sizeof(*m));
}

void netvsc_request(struct netvsc *v, const struct netvsp_message *m, struct netvsp_message *answer)
{
	uint64_t id = v->next_id++;

	guest_send_wait(v->chan[0], VMBUS_PACKET_INBAND, VMBUS_PACKET_WANTS_COMPLETION, id, m,
	                sizeof(*m));
	guest_run_until(v->guest, netvsc_done_take(v, id, answer));
}

static uint64_t netvsc_transfer_send(struct netvsc *v, uint32_t channel, uint32_t type,
                                     const uint8_t *buf, uint32_t len)
{
	struct netvsp_message m = {.type = le32_make(NETVSP_SEND_RNDIS_PACKET)};
	struct guest_range ranges[32];
	uint32_t count = 0;
	uint64_t id = v->next_id++;
	int err;

	m.u.rndis.channel_type = le32_make(type);
	m.u.rndis.section = le32_make(NETVSP_NO_SECTION);
	/* One range per page, as netvsc does; the first begins inside of its page. */
	guest_pages_write(v->guest, v->tx_pfns, 100, buf, len);
	for (uint32_t at = 0; at < len; count++) {
		uint32_t offset = (100 + at) % 4096;
		uint32_t n = 4096 - offset < len - at ? 4096 - offset : len - at;

		ranges[count] = (struct guest_range){
			.pfns = &v->tx_pfns[(100 + at) / 4096], .offset = offset, .len_bytes = n};
		at += n;
	}
	guest_run_until(v->guest,
	                (err = guest_send_gpa(v->chan[channel], VMBUS_PACKET_WANTS_COMPLETION, id,
	                                      ranges, count, &m, sizeof(m))) != -EAGAIN);
	if (err != 0) {
		netvsc_die("guest_send_gpa", err);
	}
	return id;
}

uint32_t netvsc_done_wait(struct netvsc *v, uint64_t id)
{
	struct netvsp_message m;

	guest_run_until(v->guest, netvsc_done_take(v, id, &m));
	if (le32_get(m.type) != NETVSP_SEND_RNDIS_PACKET_COMPLETE) {
		netvsc_die("another completion", (int)le32_get(m.type));
	}
	return le32_get(m.u.status);
}

uint32_t netvsc_control(struct netvsc *v, const void *message, uint32_t len_bytes)
{
	v->has_reply = false;
	return netvsc_done_wait(
		v, netvsc_transfer_send(v, 0, NETVSP_CHANNEL_CONTROL, message, len_bytes));
}

static bool netvsc_replied(struct netvsc *v)
{
	netvsc_pump(v);
	return v->has_reply;
}

void netvsc_reply_wait(struct netvsc *v)
{
	guest_run_until(v->guest, netvsc_replied(v));
}

static void netvsc_oid(struct netvsc *v, uint32_t type, uint32_t oid, const void *in,
                       uint32_t in_bytes)
{
	uint8_t buf[2048] = {0};
	struct rndis_request_wire w = {
		.header = {.type = le32_make(type),
	                   .bytes = le32_make((uint32_t)sizeof(w) + in_bytes)},
		.id = le32_make(++v->next_request),
		.oid = le32_make(oid),
		.info_bytes = le32_make(in_bytes),
		.info_offset = le32_make(sizeof(w) - 8),
	};
	struct rndis_set_complete_wire r;

	memcpy(buf, &w, sizeof(w));
	if (in_bytes != 0) {
		memcpy(buf + sizeof(w), in, in_bytes);
	}
	if (netvsc_control(v, buf, (uint32_t)sizeof(w) + in_bytes) != NETVSP_STATUS_SUCCESS) {
		netvsc_die("OID refused", (int)oid);
	}
	netvsc_reply_wait(v);
	memcpy(&r, v->reply, sizeof(r));
	if (le32_get(r.header.type) != (type | RNDIS_COMPLETE) ||
	    le32_get(r.id) != v->next_request) {
		netvsc_die("answer to another request", (int)oid);
	}
}

uint32_t netvsc_query(struct netvsc *v, uint32_t oid, const void *in, uint32_t in_bytes, void *out,
                      uint32_t room_bytes, uint32_t *out_bytes)
{
	struct rndis_query_complete_wire w;

	netvsc_oid(v, RNDIS_QUERY, oid, in, in_bytes);
	memcpy(&w, v->reply, sizeof(w));
	*out_bytes = le32_get(w.info_bytes);
	if (le32_get(w.status) != 0) {
		return le32_get(w.status);
	}
	if (*out_bytes > room_bytes || le32_get(w.info_offset) < 16 ||
	    8 + le32_get(w.info_offset) + *out_bytes > v->reply_bytes) {
		netvsc_die("answer does not fit", (int)oid);
	}
	memcpy(out, v->reply + 8 + le32_get(w.info_offset), *out_bytes);
	return 0;
}

uint32_t netvsc_query_u32(struct netvsc *v, uint32_t oid)
{
	le32 w;
	uint32_t bytes;

	if (netvsc_query(v, oid, NULL, 0, &w, sizeof(w), &bytes) != 0 || bytes != sizeof(w)) {
		netvsc_die("no number for OID", (int)oid);
	}
	return le32_get(w);
}

uint32_t netvsc_set(struct netvsc *v, uint32_t oid, const void *in, uint32_t in_bytes)
{
	struct rndis_set_complete_wire w;

	netvsc_oid(v, RNDIS_SET, oid, in, in_bytes);
	memcpy(&w, v->reply, sizeof(w));
	return le32_get(w.status);
}

void netvsc_filter(struct netvsc *v, uint32_t filter)
{
	le32 w = le32_make(filter);

	if (netvsc_set(v, RNDIS_OID_PACKET_FILTER, &w, sizeof(w)) != 0) {
		netvsc_die("filter refused", 0);
	}
}

/* ---- frames out ---- */

uint32_t netvsc_message(const struct netvsc_tx *tx, uint8_t *buf)
{
	struct rndis_packet_wire w = {.header.type = le32_make(RNDIS_PACKET)};
	uint32_t at = sizeof(w);

	for (uint32_t i = 0; i < tx->ppi_count; i++, at += 16) {
		const struct rndis_ppi_wire p = {.bytes = le32_make(16),
		                                 .type = le32_make(tx->ppi[i].type),
		                                 .offset = le32_make(12)};
		le32 value = le32_make(tx->ppi[i].value);

		memcpy(buf + at, &p, sizeof(p));
		memcpy(buf + at + 12, &value, 4);
	}
	if (tx->ppi_count != 0) {
		w.ppi_offset = le32_make(sizeof(w) - 8);
		w.ppi_bytes = le32_make(tx->ppi_count * 16);
	}
	w.data_offset = le32_make(at - 8);
	w.data_bytes = le32_make(tx->len);
	w.header.bytes = le32_make(at + tx->len);
	memcpy(buf, &w, sizeof(w));
	memcpy(buf + at, tx->frame, tx->len);
	return at + tx->len;
}

static uint64_t netvsc_section_send(struct netvsc *v, uint32_t channel, const uint8_t *buf,
                                    uint32_t len)
{
	struct netvsp_message m = {.type = le32_make(NETVSP_SEND_RNDIS_PACKET)};
	uint32_t section = v->next_section++ % v->sections;
	uint64_t id = v->next_id++;

	if (len > v->section_bytes) {
		netvsc_die("too long for a section", (int)len);
	}
	guest_pages_write(v->guest, v->send_pfns, (uint64_t)section * v->section_bytes, buf, len);
	m.u.rndis.channel_type = le32_make(NETVSP_CHANNEL_DATA);
	m.u.rndis.section = le32_make(section);
	m.u.rndis.section_bytes = le32_make(len);
	guest_send_wait(v->chan[channel], VMBUS_PACKET_INBAND, VMBUS_PACKET_WANTS_COMPLETION, id,
	                &m, sizeof(m));
	return id;
}

uint64_t netvsc_send_raw(struct netvsc *v, uint32_t channel, const uint8_t *buf, uint32_t len,
                         bool section)
{
	return section ? netvsc_section_send(v, channel, buf, len)
	               : netvsc_transfer_send(v, channel, NETVSP_CHANNEL_DATA, buf, len);
}

uint32_t netvsc_send(struct netvsc *v, uint32_t channel, const struct netvsc_tx *tx)
{
	static uint8_t buf[4096 + NETVSC_FRAME_MAX];
	uint32_t len = netvsc_message(tx, buf);

	return netvsc_done_wait(v, netvsc_send_raw(v, channel, buf, len, tx->section));
}

bool netvsc_tap_read(struct netvsc *v, uint32_t queue, struct netvsc_tap_frame *out)
{
	struct iovec iov[2] = {{.iov_base = &out->vnet, .iov_len = sizeof(out->vnet)},
	                       {.iov_base = out->frame, .iov_len = sizeof(out->frame)}};
	ssize_t n = readv(v->tap[queue], iov, 2);

	if (n < (ssize_t)sizeof(out->vnet)) {
		return false;
	}
	out->len = (uint32_t)n - (uint32_t)sizeof(out->vnet);
	return true;
}

/* ---- frames in ---- */

/* What of a data message matters to us; aborts on what Linux refuses. */
struct netvsc_part {
	uint32_t data_offset, data_bytes;
	uint8_t part_flags;
};

static void netvsc_ppis_read(struct netvsc_rx *rx, struct netvsc_part *p, const uint8_t *buf,
                             uint32_t len)
{
	while (len != 0) {
		struct rndis_ppi_wire w;
		le32 value;
		uint32_t type;

		memcpy(&w, buf, sizeof(w));
		if (len < 16 || le32_get(w.bytes) != 16 || le32_get(w.offset) != 12) {
			netvsc_die("bad per-packet information", (int)len);
		}
		memcpy(&value, buf + 12, 4);
		type = le32_get(w.type);
		if (type == RNDIS_PPI_CHECKSUM) {
			rx->checksum = le32_get(value);
		} else if (type == RNDIS_PPI_VLAN) {
			rx->has_vlan = true;
			rx->vlan = le32_get(value);
		} else if (type == RNDIS_PPI_PACKET_ID) {
			p->part_flags = buf[13];
		}
		buf += 16;
		len -= 16;
	}
}

/* Append one range to the frame. Returns whether the frame is complete. */
static bool netvsc_range_read(struct netvsc *v, struct netvsc_rx *rx, uint32_t offset,
                              uint32_t bytes)
{
	static uint8_t buf[65536];
	struct rndis_packet_wire w;
	struct netvsc_part p = {0};
	uint32_t ppi_bytes;

	netvsc_slot_read(v, offset, buf, bytes);
	memcpy(&w, buf, sizeof(w));
	p.data_offset = le32_get(w.data_offset) + 8;
	p.data_bytes = le32_get(w.data_bytes);
	ppi_bytes = le32_get(w.ppi_bytes);
	if (bytes < sizeof(w) || le32_get(w.header.type) != RNDIS_PACKET ||
	    le32_get(w.header.bytes) > bytes || p.data_offset + p.data_bytes > bytes ||
	    rx->len + p.data_bytes > sizeof(rx->frame) ||
	    (ppi_bytes != 0 && le32_get(w.ppi_offset) + 8 + ppi_bytes > p.data_offset)) {
		netvsc_die("bad data message", (int)bytes);
	}
	netvsc_ppis_read(rx, &p, buf + 8 + le32_get(w.ppi_offset), ppi_bytes);
	memcpy(rx->frame + rx->len, buf + p.data_offset, p.data_bytes);
	rx->len += p.data_bytes;
	rx->parts++;
	if (p.part_flags == 0) {
		return true;
	}
	if (((p.part_flags & RNDIS_PACKET_ID_FIRST) != 0) != (rx->parts == 1)) {
		netvsc_die("parts of frames are mixed", p.part_flags);
	}
	return (p.part_flags & RNDIS_PACKET_ID_LAST) != 0;
}

static bool netvsc_frame_take(struct netvsc *v, uint32_t channel, struct netvsc_rx *out)
{
	netvsc_pump(v);
	for (uint32_t i = 0; i < v->transfer_count; i++) {
		struct netvsc_transfer *t = &v->transfers[i];
		bool complete = false;

		if (channel != NETVSC_CHANNELS_MAX && t->channel != channel) {
			continue;
		}
		*out = (struct netvsc_rx){.channel = t->channel};
		while (!complete) {
			if (t->next == t->count) {
				netvsc_die("a frame does not end in its transfer", 0);
			}
			complete = netvsc_range_read(v, out, t->range[t->next].offset,
			                             t->range[t->next].bytes);
			t->next++;
		}
		if (t->next == t->count) {
			out->transaction_id = t->transaction_id;
			v->transfer_count--;
			memmove(t, t + 1, (v->transfer_count - i) * sizeof(*t));
		}
		return true;
	}
	return false;
}

void netvsc_recv(struct netvsc *v, uint32_t channel, struct netvsc_rx *out)
{
	guest_run_until(v->guest, netvsc_frame_take(v, channel, out));
}

bool netvsc_recv_now(struct netvsc *v, uint32_t channel, struct netvsc_rx *out)
{
	guest_settle(v->guest);
	return netvsc_frame_take(v, channel, out);
}

void netvsc_give_back(struct netvsc *v, const struct netvsc_rx *rx)
{
	if (rx->transaction_id != 0) {
		netvsc_give_back_id(v, rx->channel, rx->transaction_id);
	}
}

void netvsc_tap_write(struct netvsc *v, uint32_t queue, const struct netvsp_vnet_wire *vnet,
                      const uint8_t *frame, uint32_t len)
{
	struct netvsp_vnet_wire plain = {0};
	union {
		const uint8_t *from;
		void *base;
	} u = {.from = frame};
	struct iovec iov[2] = {{.iov_base = &plain, .iov_len = sizeof(plain)},
	                       {.iov_base = u.base, .iov_len = len}};

	if (vnet != NULL) {
		plain = *vnet;
	}
	if (writev(v->tap[queue], iov, 2) != (ssize_t)(sizeof(plain) + len)) {
		netvsc_die("the test's tap is full", -errno);
	}
}

void netvsc_frame(uint8_t *frame, uint32_t len, const uint8_t to[6], const uint8_t from[6],
                  uint32_t seed)
{
	memcpy(frame, to, 6);
	memcpy(frame + 6, from, 6);
	frame[12] = 0x88; /* for experiments */
	frame[13] = 0xb5;
	for (uint32_t i = 14; i < len; i++) {
		frame[i] = (uint8_t)(seed + i * 7 + (i >> 8));
	}
}
