/* SPDX-License-Identifier: Apache-2.0 */

/*
 * netvsp_save - the adapter's state between hosts. Paused, so no frame is under way: what travels
 * is what was negotiated, which parts of the receive buffer the guest has, and what waits for room
 * in its rings. Frames in the tap stay behind: networks lose frames.
 */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "hv/save/save.h"
#include "hv/vsp/netvsp/netvsp_int.h"

#define NETVSP_SAVE_VERSION 1u

static void netvsp_save_name(const struct vsp *vsp, char name[SAVE_NAME_MAX + 1])
{
	(void)snprintf(name, SAVE_NAME_MAX + 1, NETVSP_TAG ".%u", vsp->index);
}

/* ---- save ---- */

static void netvsp_save_nego(const struct netvsp_nego *g, struct save *s)
{
	save_u32(s, g->version);
	save_u32(s, g->ndis_major);
	save_u32(s, g->ndis_minor);
	save_u32(s, g->frame_max);
	save_u64(s, g->capabilities);
	save_bool(s, g->initialized);
	save_u32(s, g->filter);
	save_bool(s, g->offload.rx4_tcp);
	save_bool(s, g->offload.rx4_udp);
	save_bool(s, g->offload.rx6_tcp);
	save_bool(s, g->offload.rx6_udp);
	save_bool(s, g->offload.rsc4);
	save_bool(s, g->offload.rsc6);
	save_bool(s, g->rss.enabled);
	save_u32(s, g->rss.hash);
	save_blob(s, g->rss.table, g->rss.table_entries);
	save_bytes(s, g->rss.key, sizeof(g->rss.key));
}

static uint32_t netvsp_slots_in(const struct slots *slots, uint32_t head)
{
	uint32_t count = 0;

	for (uint32_t at = head; at != SLOTS_NONE; at = slots->slot[at].next) {
		count++;
	}
	return count;
}

/* Transactions that the guest has not returned. */
static void netvsp_save_slots(const struct slots *slots, struct save *s)
{
	uint32_t heads = 0;

	for (uint32_t i = 0; i < slots->count; i++) {
		heads += slots->slot[i].state == SLOTS_HEAD;
	}
	save_u32(s, heads);
	for (uint32_t i = 0; i < slots->count; i++) {
		if (slots->slot[i].state != SLOTS_HEAD) {
			continue;
		}
		save_u8(s, slots->slot[i].owner);
		save_u32(s, netvsp_slots_in(slots, i));
		for (uint32_t at = i; at != SLOTS_NONE; at = slots->slot[at].next) {
			save_u32(s, at);
		}
	}
}

static void netvsp_save_buffers(const struct netvsp *n, struct save *s)
{
	save_bool(s, n->recv.slots.slot != NULL);
	if (n->recv.slots.slot != NULL) {
		save_u32(s, n->recv.gpadl_id);
		save_u16(s, n->recv.id);
		save_u32(s, n->recv.slot_bytes);
		save_u32(s, n->recv.slots.count);
		netvsp_save_slots(&n->recv.slots, s);
	}
	save_bool(s, n->send.sections != 0);
	if (n->send.sections != 0) {
		save_u32(s, n->send.gpadl_id);
		save_u32(s, n->send.sections);
	}
}

static void netvsp_save_channel(const struct netvsp_channel *ch, struct save *s)
{
	save_bool(s, ch->answer_waits);
	if (ch->answer_waits) {
		save_u64(s, ch->answer_id);
		save_bytes(s, &ch->answer, sizeof(ch->answer));
	}
	save_u32(s, ch->batch.count);
	for (uint32_t i = 0; i < ch->batch.count; i++) {
		save_u32(s, ch->batch.slot[i]);
		save_u32(s, ch->batch.bytes[i]);
	}
}

void netvsp_save(const struct vsp *vsp, struct save *s)
{
	const struct netvsp *n = (const struct netvsp *)(const void *)vsp;
	char name[SAVE_NAME_MAX + 1];

	CHECK(n->paused);
	netvsp_save_name(vsp, name);
	save_begin(s, name, NETVSP_SAVE_VERSION, true);
	save_bytes(s, n->mac_now, sizeof(n->mac_now));
	save_bool(s, n->link_up);
	save_bool(s, n->link_told);
	save_bool(s, n->table_waits);
	save_u16(s, n->part_id);
	netvsp_save_nego(&n->nego, s);
	netvsp_save_buffers(n, s);
	save_u32(s, n->sub_channels);
	for (uint32_t i = 0; i <= n->sub_channels; i++) {
		netvsp_save_channel(&n->channels[i], s);
	}
	save_u32(s, n->reply_count);
	for (uint32_t i = 0; i < n->reply_count; i++) {
		const struct netvsp_reply *r =
			&n->replies[(n->reply_first + i) % NETVSP_REPLIES_MAX];

		save_blob(s, r->message, r->bytes);
	}
	save_end(s);
}

/* ---- load ---- */

static void netvsp_load_nego(struct netvsp *n, struct load *l)
{
	struct netvsp_nego *g = &n->nego;
	const uint8_t *table;
	uint32_t entries = 0;

	g->version = load_u32_max(l, NETVSP_VERSION_61, "version");
	g->ndis_major = load_u32(l);
	g->ndis_minor = load_u32(l);
	g->frame_max = load_u32(l);
	g->capabilities = load_u64(l);
	g->initialized = load_bool(l);
	g->filter = load_u32(l);
	g->offload.rx4_tcp = load_bool(l);
	g->offload.rx4_udp = load_bool(l);
	g->offload.rx6_tcp = load_bool(l);
	g->offload.rx6_udp = load_bool(l);
	g->offload.rsc4 = load_bool(l);
	g->offload.rsc6 = load_bool(l);
	g->rss.enabled = load_bool(l);
	g->rss.hash = load_u32(l);
	table = load_blob(l, NDIS_RSS_TABLE_MAX, &entries);
	for (uint32_t i = 0; table != NULL && i < entries; i++) {
		if (table[i] >= n->queue_count) {
			(void)load_fail(l, -EBADMSG, "RSS names channel %u of %u", table[i],
			                n->queue_count);
			return;
		}
		g->rss.table[i] = table[i];
	}
	g->rss.table_entries = (uint16_t)entries;
	load_bytes(l, g->rss.key, sizeof(g->rss.key));
}

/* One transaction: claim its slots. */
static void netvsp_load_transaction(struct netvsp *n, struct load *l)
{
	uint32_t index[NETVSP_BATCH_MAX];
	uint8_t owner = load_u8(l);
	uint32_t count = load_u32_max(l, NETVSP_BATCH_MAX, "slots of a transaction");

	if (load_error(l) == 0 && (count == 0 || owner >= n->queue_count)) {
		(void)load_fail(l, -EBADMSG, "a transaction without slots or channel");
	}
	for (uint32_t i = 0; i < count && load_error(l) == 0; i++) {
		index[i] = load_u32(l);
		if (load_error(l) == 0 && slots_claim(&n->recv.slots, index[i]) != 0) {
			(void)load_fail(l, -EBADMSG, "slot %u is none or used twice", index[i]);
		}
	}
	if (load_error(l) == 0) {
		slots_give(&n->recv.slots, owner, index, count);
	}
}

static void netvsp_load_recv(struct netvsp *n, struct load *l)
{
	struct netvsp_recv_buffer *r = &n->recv;
	uint32_t count;
	uint32_t heads;

	r->gpadl_id = load_u32(l);
	r->id = load_u16(l);
	r->slot_bytes = load_u32_max(l, netvsp_slot_bytes(NETVSP_MTU_MAX), "slot size");
	count = load_u32_max(l, SLOTS_MAX, "slots");
	if (load_error(l) != 0) {
		return;
	}
	if (r->slot_bytes < netvsp_slot_bytes(NETVSP_MTU_MIN) || count < NETVSP_SLOTS_MIN) {
		(void)load_fail(l, -EBADMSG, "%u slots of %u bytes", count, r->slot_bytes);
		return;
	}
	if (slots_init(&r->slots, count) != 0) {
		(void)load_fail(l, -ENOMEM, "no memory for %u slots", count);
		return;
	}
	heads = load_u32_max(l, count, "transactions");
	for (uint32_t i = 0; i < heads && load_error(l) == 0; i++) {
		netvsp_load_transaction(n, l);
	}
	n->recv_restored = true;
}

static void netvsp_load_send(struct netvsp *n, struct load *l)
{
	n->send.gpadl_id = load_u32(l);
	n->send.sections = load_u32_max(l, NETVSP_SECTIONS_MAX, "sections");
	if (load_error(l) == 0 && n->send.sections == 0) {
		(void)load_fail(l, -EBADMSG, "a send buffer without sections");
	}
	n->send_restored = true;
}

static void netvsp_load_channel(struct netvsp_channel *ch, struct load *l)
{
	struct netvsp *n = ch->n;
	uint32_t count;

	ch->answer_waits = load_bool(l);
	if (ch->answer_waits) {
		ch->answer_id = load_u64(l);
		load_bytes(l, &ch->answer, sizeof(ch->answer));
	}
	count = load_u32_max(l, NETVSP_BATCH_MAX, "frames that wait");
	for (uint32_t i = 0; i < count && load_error(l) == 0; i++) {
		ch->batch.slot[i] = load_u32(l);
		ch->batch.bytes[i] = load_u32_max(l, n->recv.slot_bytes, "bytes of a frame");
		if (load_error(l) == 0 && slots_claim(&n->recv.slots, ch->batch.slot[i]) != 0) {
			(void)load_fail(l, -EBADMSG, "slot %u is none or used twice",
			                ch->batch.slot[i]);
		}
	}
	ch->batch.count = count;
}

static void netvsp_load_replies(struct netvsp *n, struct load *l)
{
	uint32_t count = load_u32_max(l, NETVSP_REPLIES_MAX, "answers");

	n->reply_first = 0;
	for (uint32_t i = 0; i < count && load_error(l) == 0; i++) {
		const uint8_t *message = load_blob(l, RNDIS_REPLY_MAX, &n->replies[i].bytes);

		if (load_error(l) == 0 && message == NULL) {
			(void)load_fail(l, -EBADMSG, "an empty answer");
		}
		if (message != NULL) {
			memcpy(n->replies[i].message, message, n->replies[i].bytes);
		}
	}
	n->reply_count = count;
}

static void netvsp_load_adapter(struct netvsp *n, struct load *l)
{
	bool link_up;

	load_bytes(l, n->mac_now, sizeof(n->mac_now));
	link_up = load_bool(l);
	n->link_told = load_bool(l);
	n->table_waits = load_bool(l);
	n->part_id = load_u16(l);
	netvsp_load_nego(n, l);
	if (load_error(l) == 0 && !n->spoofing && memcmp(n->mac_now, n->mac, sizeof(n->mac)) != 0) {
		(void)load_fail(l, -EBADMSG, "another address than the VM's adapter has");
	}
	if (link_up != n->link_up) {
		n->link_told = !n->nego.initialized; /* the cable is different here */
	}
}

int netvsp_load(struct vsp *vsp, struct load *l)
{
	struct netvsp *n = (struct netvsp *)(void *)vsp;
	char name[SAVE_NAME_MAX + 1];
	uint32_t sub_channels;
	int err;

	netvsp_save_name(vsp, name);
	err = load_begin(l, name, NETVSP_SAVE_VERSION);
	if (err != 0) {
		return err;
	}
	n->paused = true;
	netvsp_load_adapter(n, l);
	if (load_bool(l)) {
		netvsp_load_recv(n, l);
	}
	if (load_bool(l)) {
		netvsp_load_send(n, l);
	}
	sub_channels = load_u32_max(l, n->queue_count - 1, "sub-channels");
	for (uint32_t i = 0; i <= sub_channels && load_error(l) == 0; i++) {
		netvsp_load_channel(&n->channels[i], l);
	}
	netvsp_load_replies(n, l);
	slots_claimed(&n->recv.slots);
	load_end(l);
	/* The bus loads after us and finds them offered. */
	if (load_error(l) == 0) {
		err = netvsp_sub_channels_offer(n, sub_channels);
		if (err != 0) {
			return load_fail(l, err, "cannot offer sub-channels");
		}
	}
	return load_error(l);
}

int netvsp_restore(struct netvsp *n)
{
	struct vmbus_channel *chan = n->channels[0].chan;

	if (n->recv_restored) {
		if (vmbus_gpadl_get(chan, n->recv.gpadl_id, &n->recv.gpadl) != 0) {
			return -EBADMSG;
		}
		if (vmbus_gpadl_bytes(n->recv.gpadl) <
		    (uint64_t)n->recv.slots.count * n->recv.slot_bytes) {
			return -EBADMSG; /* resume() drops what was taken */
		}
	}
	if (n->send_restored) {
		if (vmbus_gpadl_get(chan, n->send.gpadl_id, &n->send.gpadl) != 0) {
			return -EBADMSG;
		}
		if (vmbus_gpadl_bytes(n->send.gpadl) / NETVSP_SECTION_BYTES < n->send.sections) {
			return -EBADMSG;
		}
	}
	n->recv_restored = false;
	n->send_restored = false;
	netvsp_tap_update(n);
	return 0;
}
