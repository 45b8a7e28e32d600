/* SPDX-License-Identifier: Apache-2.0 */

/*
 * vmbus_save - section "vmbus": docs/formats/vmbus-save.md.
 *
 * What lies in guest memory (indices, masks, packets) is not here. A loaded blob is hostile:
 * whatever a guest could not have made is refused, so that the bus never starts from a state
 * that its own checks exclude.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "hv/save/save.h"
#include "hv/vmbus/vmbus_int.h"

#define VMBUS_SECTION "vmbus"
#define VMBUS_SECTION_VERSION 1u

/* ---- save ---- */

static void vmbus_save_contact(struct save *s, const struct vmbus_contact *c)
{
	save_u32(s, c->version);
	save_u32(s, c->target_vp);
	save_u32(s, c->sint);
}

static void vmbus_save_open(struct save *s, const struct vmbus_open *o)
{
	save_u32(s, o->open_id);
	save_u32(s, o->ring_gpadl);
	save_u32(s, o->target_vp);
	save_u32(s, o->downstream_page);
}

static void vmbus_save_channel(struct save *s, const struct vmbus_channel *chan)
{
	save_bytes(s, &chan->offer.interface_id, sizeof(chan->offer.interface_id));
	save_bytes(s, &chan->offer.instance_id, sizeof(chan->offer.instance_id));
	save_u16(s, chan->offer.subchannel_index);
	save_u16(s, chan->offer.flags);
	save_u16(s, chan->offer.mmio_mib);
	save_bool(s, chan->offer.pipe_message_mode);
	save_u32(s, chan->relid);
	save_u8(s, (uint8_t)chan->state);
	save_bool(s, chan->told);
	save_bool(s, chan->rescinded);
	save_bool(s, chan->guest_released);
	save_bool(s, chan->failed);
	save_bool(s, chan->open_waits);
	vmbus_save_open(s, &chan->open);
	vmbus_save_open(s, &chan->waiting);
}

static void vmbus_save_gpadl(struct save *s, const struct vmbus_gpadl *g)
{
	save_u32(s, g->id);
	save_u32(s, g->chan->relid);
	save_u8(s, (uint8_t)g->state);
	save_u32(s, g->byte_count);
	save_u32(s, g->byte_offset);
	save_u32(s, g->received);
	for (uint32_t i = 0; i < g->received; i++) {
		save_u64(s, g->pfns[i]);
	}
}

void vmbus_save(const struct vmbus *bus, struct save *s)
{
	const struct vmbus_outq *q = &bus->outq;

	CHECK(bus->paused);
	save_begin(s, VMBUS_SECTION, VMBUS_SECTION_VERSION, true);
	save_u8(s, (uint8_t)bus->conn.state);
	save_u8(s, (uint8_t)bus->conn.drain);
	vmbus_save_contact(s, &bus->conn.contact);
	vmbus_save_contact(s, &bus->conn.next);
	save_bool(s, bus->conn.offers_sent);
	save_u32(s, bus->channel_count);
	for (uint32_t relid = 1; relid < VMBUS_RELIDS; relid++) {
		if (bus->channels[relid] != NULL) {
			vmbus_save_channel(s, bus->channels[relid]);
		}
	}
	save_u32(s, bus->gpadl_count);
	list_for_each(link, &bus->gpadls)
	{
		vmbus_save_gpadl(s, list_entry(link, struct vmbus_gpadl, link));
	}
	save_u32(s, q->count);
	for (uint32_t i = 0; i < q->count; i++) {
		const struct vmbus_out *m = &q->slots[(q->head + i) % VMBUS_OUT_MAX];

		save_blob(s, m->bytes, m->len_bytes);
	}
	save_end(s);
}

/* ---- load ---- */

static void vmbus_load_contact(const struct vmbus *bus, struct load *l, struct vmbus_contact *c)
{
	c->version = load_u32(l);
	c->target_vp = load_u32_max(l, bus->cfg.vp_count - 1, "target VP");
	c->sint = load_u32_max(l, VMBUS_SINTS - 1, "SINT");
	if (load_error(l) == 0 && c->sint == 0) {
		(void)load_fail(l, -EBADMSG, "SINT 0 belongs to the hypervisor");
	}
}

static void vmbus_load_conn(struct vmbus *bus, struct load *l)
{
	struct vmbus_conn *conn = &bus->conn;
	uint8_t state = load_u8(l);
	uint8_t drain = load_u8(l);

	vmbus_load_contact(bus, l, &conn->contact);
	/* This one was checked only if it counted. */
	conn->next.version = load_u32(l);
	conn->next.target_vp = load_u32(l);
	conn->next.sint = load_u32(l);
	conn->offers_sent = load_bool(l);
	if (state >= VMBUS_CONN_STATE_COUNT || drain >= VMBUS_DRAIN_COUNT ||
	    (state == VMBUS_CONN_DRAINING) != (drain != VMBUS_DRAIN_NONE) ||
	    (state == VMBUS_CONN_DISCONNECTED && conn->offers_sent)) {
		(void)load_fail(l, -EBADMSG, "connection state %u/%u is impossible", state, drain);
	} else if (state == VMBUS_CONN_CONNECTED &&
	           !vmbus_conn_version_known(bus, conn->contact.version)) {
		(void)load_fail(l, -EPROTONOSUPPORT, "protocol version %u.%u is not offered here",
		                conn->contact.version >> 16, conn->contact.version & 0xffffu);
	}
	if (load_error(l) == 0) {
		conn->state = (enum vmbus_conn_state)state;
		conn->drain = (enum vmbus_drain)drain;
	}
}

static void vmbus_load_open(struct load *l, struct vmbus_open *o)
{
	o->open_id = load_u32(l);
	o->ring_gpadl = load_u32(l);
	o->target_vp = load_u32(l);
	o->downstream_page = load_u32(l);
}

/* What of a channel is in the blob; the rest belongs to who offers it. */
static void vmbus_load_channel_fields(const struct vmbus *bus, struct load *l,
                                      struct vmbus_channel *chan, uint32_t *relid)
{
	bool connected = bus->conn.state == VMBUS_CONN_CONNECTED;

	load_bytes(l, &chan->offer.interface_id, sizeof(chan->offer.interface_id));
	load_bytes(l, &chan->offer.instance_id, sizeof(chan->offer.instance_id));
	chan->offer.subchannel_index = load_u16(l);
	chan->offer.flags = load_u16(l);
	chan->offer.mmio_mib = load_u16(l);
	chan->offer.pipe_message_mode = load_bool(l);
	*relid = load_u32_max(l, VMBUS_RELIDS - 1, "channel number");

	uint8_t state = load_u8(l);

	chan->told = load_bool(l);
	chan->rescinded = load_bool(l);
	chan->guest_released = load_bool(l);
	chan->failed = load_bool(l);
	chan->open_waits = load_bool(l);
	vmbus_load_open(l, &chan->open);
	vmbus_load_open(l, &chan->waiting);
	if (state >= VMBUS_CHANNEL_STATE_COUNT || *relid == 0 ||
	    (bus->conn.state == VMBUS_CONN_DISCONNECTED && chan->told) ||
	    ((state != VMBUS_CHANNEL_CLOSED || chan->rescinded) && !chan->told &&
	     bus->conn.state != VMBUS_CONN_DRAINING) ||
	    (chan->guest_released && !chan->rescinded) || (chan->open_waits && !connected)) {
		(void)load_fail(l, -EBADMSG, "channel %u: state %u is impossible", *relid, state);
	}
	/* A rescinded channel has no owner that could open it; one that was closing is closed: its
	 * VSP had drained. */
	chan->reopen = state == VMBUS_CHANNEL_OPEN && connected && !chan->rescinded;
}

/* Take over who offers the channel that @saved describes, if somebody does. */
static struct vmbus_channel *vmbus_load_match(struct vmbus_channel **offered, uint32_t count,
                                              const struct vmbus_channel *saved)
{
	for (uint32_t i = 0; i < count && !saved->rescinded; i++) {
		struct vmbus_channel *chan = offered[i];

		if (chan != NULL && vmbus_channel_same_key(&chan->offer, &saved->offer)) {
			offered[i] = NULL;
			chan->told = saved->told;
			chan->failed = saved->failed;
			chan->open_waits = saved->open_waits;
			chan->reopen = saved->reopen;
			chan->open = saved->open;
			chan->waiting = saved->waiting;
			return chan;
		}
	}
	return NULL;
}

static void vmbus_load_channel(struct vmbus *bus, struct load *l, struct vmbus_channel **offered,
                               uint32_t offered_count)
{
	static const struct vmbus_offer_cfg nobody;
	struct vmbus_channel *saved;
	uint32_t relid;

	if (vmbus_channel_new(bus, &nobody, &saved) != 0) {
		(void)load_fail(l, -ENOMEM, "no memory");
		return;
	}
	vmbus_load_channel_fields(bus, l, saved, &relid);
	if (load_error(l) == 0 && bus->channels[relid] != NULL) {
		(void)load_fail(l, -EBADMSG, "channel %u is there twice", relid);
	}
	if (load_error(l) != 0) {
		free(saved);
		return;
	}

	struct vmbus_channel *chan = vmbus_load_match(offered, offered_count, saved);

	if (chan != NULL) {
		free(saved);
	} else {
		chan = saved;
		chan->orphan = !chan->rescinded;
	}
	vmbus_channel_place(chan, relid);
}

static void vmbus_load_channels(struct vmbus *bus, struct load *l)
{
	struct vmbus_channel *offered[VMBUS_CHANNELS_MAX];
	uint32_t offered_count = 0;
	uint32_t count = load_u32_max(l, VMBUS_CHANNELS_MAX, "number of channels");

	for (uint32_t relid = 1; relid < VMBUS_RELIDS; relid++) {
		if (bus->channels[relid] != NULL) {
			offered[offered_count++] = bus->channels[relid];
			bus->channels[relid] = NULL;
		}
	}
	bus->channel_count = 0;
	for (uint32_t i = 0; i < count && load_error(l) == 0; i++) {
		vmbus_load_channel(bus, l, offered, offered_count);
	}
	/* Also after an error: each channel must be where vmbus_destroy() finds it. */
	for (uint32_t i = 0; i < offered_count; i++) {
		if (offered[i] != NULL) {
			vmbus_channel_place(offered[i], vmbus_channel_relid_free(bus));
		}
	}
}

static void vmbus_load_gpadl(struct vmbus *bus, struct load *l)
{
	uint32_t id = load_u32(l);
	uint32_t relid = load_u32_max(l, VMBUS_RELIDS - 1, "channel number");
	uint8_t state = load_u8(l);
	uint32_t byte_count = load_u32(l);
	uint32_t byte_offset = load_u32_max(l, 4095, "byte offset");
	uint32_t received = load_u32(l);
	struct vmbus_gpadl *g;

	if (load_error(l) != 0) {
		return;
	}
	if (id == 0 || byte_count == 0 || state > VMBUS_GPADL_TEARDOWN ||
	    bus->channels[relid] == NULL || vmbus_gpadl_find(bus, id) != NULL ||
	    bus->conn.state == VMBUS_CONN_DISCONNECTED) {
		(void)load_fail(l, -EBADMSG, "gpadl 0x%x is impossible", id);
		return;
	}

	int err = vmbus_gpadl_new(bus->channels[relid], id, byte_count, byte_offset, &g);

	if (err != 0) {
		(void)load_fail(l, err, "gpadl 0x%x: too many pages or no memory", id);
		return;
	}
	if (received > g->page_count ||
	    (received == g->page_count) != (state != VMBUS_GPADL_BUILDING)) {
		(void)load_fail(l, -EBADMSG, "gpadl 0x%x: %u of %u pages", id, received,
		                g->page_count);
	}
	for (uint32_t i = 0; i < received && load_error(l) == 0; i++) {
		g->pfns[i] = load_u64(l);
		if (load_error(l) == 0 && !vmbus_gpadl_page_ok(bus, g->pfns[i])) {
			(void)load_fail(l, -EBADMSG, "gpadl 0x%x: page %u is no RAM", id, i);
		}
	}
	g->received = received;
	g->state = (enum vmbus_gpadl_state)state;
	if (load_error(l) != 0) {
		vmbus_gpadl_forget(g);
	}
}

static void vmbus_load_messages(struct vmbus *bus, struct load *l)
{
	uint32_t count = load_u32_max(l, VMBUS_OUT_MAX, "number of messages");

	for (uint32_t i = 0; i < count && load_error(l) == 0; i++) {
		uint32_t len;
		const uint8_t *buf = load_blob(l, VMBUS_OUT_BYTES_MAX, &len);

		if (buf != NULL && len >= sizeof(struct vmbus_header_wire)) {
			vmbus_out_push(bus, buf, len); /* paused: it only waits */
		} else {
			(void)load_fail(l, -EBADMSG, "message %u is too short", i);
		}
	}
}

/* The channels that were open and have their owner again. */
static void vmbus_load_start(struct vmbus *bus, struct load *l)
{
	for (uint32_t relid = 1; relid < VMBUS_RELIDS && load_error(l) == 0; relid++) {
		struct vmbus_channel *chan = bus->channels[relid];

		if (chan == NULL || chan->offer.ops == NULL || !chan->reopen) {
			continue;
		}
		chan->reopen = false;

		int err = vmbus_channel_restart(chan);

		if (err != 0) {
			(void)load_fail(l, err, "channel %u: cannot be opened again", relid);
		}
	}
}

int vmbus_load(struct vmbus *bus, struct load *l)
{
	CHECK(bus->paused && bus->conn.state == VMBUS_CONN_DISCONNECTED && bus->outq.count == 0);
	bus->loading = true;

	int err = load_begin(l, VMBUS_SECTION, VMBUS_SECTION_VERSION);

	if (err != 0) {
		return err == -ENOENT ? load_fail(l, -EBADMSG, "no section " VMBUS_SECTION) : err;
	}
	vmbus_load_conn(bus, l);
	if (load_error(l) == 0) {
		vmbus_load_channels(bus, l);
	}

	uint32_t gpadls = load_u32_max(l, VMBUS_GPADLS_MAX, "number of gpadls");

	for (uint32_t i = 0; i < gpadls && load_error(l) == 0; i++) {
		vmbus_load_gpadl(bus, l);
	}
	vmbus_load_messages(bus, l);
	load_end(l);
	if (load_error(l) == 0) {
		vmbus_load_start(bus, l);
	}
	return load_error(l);
}
