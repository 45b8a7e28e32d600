/* SPDX-License-Identifier: Apache-2.0 */

/* netvsp_message - what a guest's NVSP messages do: versions, buffers, sub-channels, RNDIS. */

#include <errno.h>

#include "base/check.h"
#include "hv/vsp/netvsp/netvsp_int.h"
#include "hv/vsp/netvsp/nvsp.h"

#define NETVSP_SLOT_PAGE 4096u

uint32_t netvsp_slot_bytes(uint32_t mtu)
{
	uint32_t need = RNDIS_RX_ROOM + NETFRAME_ETHER_BYTES + 2 * NETFRAME_VLAN_BYTES + mtu;

	/* Halves of pages or whole ones: a slot is one range of memory, or few. */
	if (need <= NETVSP_SLOT_PAGE / 2) {
		return NETVSP_SLOT_PAGE / 2;
	}
	return (need + NETVSP_SLOT_PAGE - 1) / NETVSP_SLOT_PAGE * NETVSP_SLOT_PAGE;
}

/* ---- buffers ---- */

void netvsp_recv_buffer_drop(struct netvsp *n)
{
	netvsp_rx_forget(n);
	slots_fini(&n->recv.slots);
	if (n->recv.gpadl != NULL) {
		vmbus_gpadl_put(n->recv.gpadl);
	}
	n->recv = (struct netvsp_recv_buffer){.slots.free_first = SLOTS_NONE};
}

void netvsp_send_buffer_drop(struct netvsp *n)
{
	if (n->send.gpadl != NULL) {
		vmbus_gpadl_put(n->send.gpadl);
	}
	n->send = (struct netvsp_send_buffer){0};
}

static enum netvsp_status netvsp_recv_buffer_take(struct netvsp *n,
                                                  const struct netvsp_buffer_wire *w)
{
	struct netvsp_recv_buffer *r = &n->recv;
	uint64_t count;

	if (n->nego.version == 0 || r->gpadl != NULL ||
	    vmbus_gpadl_get(n->channels[0].chan, le32_get(w->gpadl), &r->gpadl) != 0) {
		return NETVSP_STATUS_FAIL;
	}
	r->gpadl_id = le32_get(w->gpadl);
	r->id = le16_get(w->id);
	r->slot_bytes = netvsp_slot_bytes(n->mtu);
	count = vmbus_gpadl_bytes(r->gpadl) / r->slot_bytes;
	if (count > SLOTS_MAX) {
		count = SLOTS_MAX;
	}
	if (count < NETVSP_SLOTS_MIN || slots_init(&r->slots, (uint32_t)count) != 0) {
		netvsp_recv_buffer_drop(n);
		return NETVSP_STATUS_FAIL;
	}
	return NETVSP_STATUS_SUCCESS;
}

static void netvsp_recv_buffer_set(struct netvsp *n, const struct netvsp_message *m,
                                   struct netvsp_message *answer)
{
	const struct netvsp_buffer_wire w = m->u.buffer;
	enum netvsp_status status = netvsp_recv_buffer_take(n, &w);

	answer->type = le32_make(NETVSP_SEND_RECV_BUFFER_COMPLETE);
	answer->u.recv_complete = (struct netvsp_recv_complete_wire){.status = le32_make(status)};
	if (status == NETVSP_STATUS_SUCCESS) {
		answer->u.recv_complete.sections = le32_make(1);
		answer->u.recv_complete.slot_bytes = le32_make(n->recv.slot_bytes);
		answer->u.recv_complete.slots = le32_make(n->recv.slots.count);
		answer->u.recv_complete.end_offset =
			le32_make(n->recv.slots.count * n->recv.slot_bytes);
	}
}

static enum netvsp_status netvsp_send_buffer_take(struct netvsp *n,
                                                  const struct netvsp_buffer_wire *w)
{
	struct netvsp_send_buffer *b = &n->send;
	uint64_t sections;

	if (n->nego.version == 0 || b->gpadl != NULL ||
	    vmbus_gpadl_get(n->channels[0].chan, le32_get(w->gpadl), &b->gpadl) != 0) {
		return NETVSP_STATUS_FAIL;
	}
	b->gpadl_id = le32_get(w->gpadl);
	sections = vmbus_gpadl_bytes(b->gpadl) / NETVSP_SECTION_BYTES;
	b->sections = sections < NETVSP_SECTIONS_MAX ? (uint32_t)sections : NETVSP_SECTIONS_MAX;
	if (b->sections == 0) {
		netvsp_send_buffer_drop(n);
		return NETVSP_STATUS_FAIL;
	}
	return NETVSP_STATUS_SUCCESS;
}

static void netvsp_send_buffer_set(struct netvsp *n, const struct netvsp_message *m,
                                   struct netvsp_message *answer)
{
	const struct netvsp_buffer_wire w = m->u.buffer;
	enum netvsp_status status = netvsp_send_buffer_take(n, &w);

	answer->type = le32_make(NETVSP_SEND_SEND_BUFFER_COMPLETE);
	answer->u.send_complete = (struct netvsp_send_complete_wire){
		.status = le32_make(status),
		.section_bytes =
			le32_make(status == NETVSP_STATUS_SUCCESS ? NETVSP_SECTION_BYTES : 0),
	};
}

/* ---- the rest of the initialisation ---- */

static void netvsp_init(struct netvsp *n, const struct netvsp_message *m,
                        struct netvsp_message *answer)
{
	enum netvsp_status status = NETVSP_STATUS_SUCCESS;
	uint32_t version = nvsp_version_choose(le32_get(m->u.init.version_min),
	                                       le32_get(m->u.init.version_max), &status);

	if (n->recv.gpadl != NULL || n->send.gpadl != NULL || n->nego.initialized) {
		version = 0; /* too late */
		status = NETVSP_STATUS_FAIL;
	}
	if (version != 0) {
		n->nego = (struct netvsp_nego){.version = version};
		netvsp_tap_update(n);
	}
	answer->type = le32_make(NETVSP_INIT_COMPLETE);
	answer->u.init_complete = (struct netvsp_init_complete_wire){
		.version = le32_make(version),
		.mdl_chain_max = le32_make(NETVSP_MDL_CHAIN_MAX),
		.status = le32_make(version != 0 ? NETVSP_STATUS_SUCCESS : status),
	};
}

/*
 * Offer first, then answer: what was not offered (an earlier sub-channel of the same number is not
 * released yet) the guest would wait for without end.
 */
static void netvsp_subchannel(struct netvsp *n, const struct netvsp_message *m,
                              struct netvsp_message *answer)
{
	uint32_t asked = le32_get(m->u.subchannel.count);
	uint32_t most = n->queue_count - 1;
	enum netvsp_status status = NETVSP_STATUS_FAIL;

	if (n->nego.initialized && n->nego.version >= NETVSP_VERSION_5 && n->sub_channels == 0 &&
	    asked != 0 && le32_get(m->u.subchannel.operation) == NETVSP_SUBCHANNEL_ALLOCATE) {
		int err = netvsp_sub_channels_offer(n, asked < most ? asked : most);

		if (err != 0) {
			log_limited(&n->limit, LOG_LEVEL_WARN, NETVSP_TAG,
			            "sub-channels not offered vm=%s nic=%u error=%d",
			            n->env.vm_name, n->vsp.index, err);
		}
		if (n->sub_channels != 0) {
			status = NETVSP_STATUS_SUCCESS;
		}
	}
	answer->type = le32_make(NETVSP_SUBCHANNEL);
	answer->u.subchannel = (struct netvsp_subchannel_wire){
		.operation = le32_make(status),
		.count = le32_make(status == NETVSP_STATUS_SUCCESS ? n->sub_channels : 0),
	};
}

/* ---- RNDIS ---- */

static enum netvsp_status netvsp_control_transfer(struct netvsp_channel *ch, uint32_t count,
                                                  uint32_t total_bytes)
{
	struct netvsp *n = ch->n;
	uint8_t message[RNDIS_REQUEST_MAX];

	if (ch->index != 0 || total_bytes > sizeof(message) || n->nego.version == 0 ||
	    n->recv.gpadl == NULL) {
		return NETVSP_STATUS_INVALID_RNDIS;
	}
	netvsp_gathered_copy(n, count, 0, message, total_bytes);
	return netvsp_control(n, message, total_bytes) ? NETVSP_STATUS_SUCCESS : NETVSP_STATUS_BUSY;
}

static enum netvsp_status netvsp_rndis(struct netvsp_channel *ch, const struct vmbus_packet *pkt,
                                       const struct netvsp_rndis_wire *w)
{
	uint32_t count;
	uint32_t total_bytes;

	if (netvsp_gather(ch->n, pkt, w, &count, &total_bytes) != 0) {
		ch->n->stats.tx_invalid++;
		return NETVSP_STATUS_INVALID_RNDIS;
	}
	if (le32_get(w->channel_type) == NETVSP_CHANNEL_DATA) {
		return netvsp_tx(ch, count, total_bytes);
	}
	if (le32_get(w->channel_type) == NETVSP_CHANNEL_CONTROL) {
		return netvsp_control_transfer(ch, count, total_bytes);
	}
	return NETVSP_STATUS_INVALID_RNDIS;
}

/* ---- dispatch ---- */

/* Messages of the primary channel; @answer starts as zero. */
static void netvsp_setup(struct netvsp *n, const struct netvsp_message *m,
                         struct netvsp_message *answer)
{
	switch (le32_get(m->type)) {
	case NETVSP_INIT:
		netvsp_init(n, m, answer);
		break;
	case NETVSP_SEND_NDIS_VERSION:
		n->nego.ndis_major = le32_get(m->u.ndis_version.major);
		n->nego.ndis_minor = le32_get(m->u.ndis_version.minor);
		break;
	case NETVSP_SEND_NDIS_CONFIG:
		n->nego.frame_max = le32_get(m->u.ndis_config.frame_max);
		n->nego.capabilities = le64_get(m->u.ndis_config.capabilities);
		break;
	case NETVSP_SEND_RECV_BUFFER:
		netvsp_recv_buffer_set(n, m, answer);
		break;
	case NETVSP_SEND_SEND_BUFFER:
		netvsp_send_buffer_set(n, m, answer);
		break;
	case NETVSP_REVOKE_RECV_BUFFER:
		netvsp_recv_buffer_drop(n);
		break;
	case NETVSP_REVOKE_SEND_BUFFER:
		netvsp_send_buffer_drop(n);
		break;
	case NETVSP_SWITCH_DATA_PATH: /* there is only one; the guest waits for the answer */
		answer->type = m->type;
		answer->u.status = le32_make(NETVSP_STATUS_SUCCESS);
		break;
	case NETVSP_SUBCHANNEL:
		netvsp_subchannel(n, m, answer);
		break;
	default: /* a number from the guest: the empty answer */
		break;
	}
}

void netvsp_message_handle(struct netvsp_channel *ch, const struct vmbus_packet *pkt)
{
	struct netvsp_message m;
	int err = nvsp_decode(pkt->payload, pkt->payload_bytes, &m);

	ch->answer = (struct netvsp_message){0};
	if (err == -EBADMSG) {
		vmbus_fail(ch->chan, "network message too short");
		return;
	}
	if (err == 0 && le32_get(m.type) == NETVSP_SEND_RNDIS_PACKET) {
		const struct netvsp_rndis_wire w = m.u.rndis;
		enum netvsp_status status = netvsp_rndis(ch, pkt, &w);

		ch->answer.type = le32_make(NETVSP_SEND_RNDIS_PACKET_COMPLETE);
		ch->answer.u.status = le32_make(status);
		return;
	}
	if (err == 0 && ch->index == 0) {
		netvsp_setup(ch->n, &m, &ch->answer);
		return;
	}
	/* Unknown, or not for a sub-channel: an answer that is a success of nothing. */
	ch->n->stats.tx_invalid++;
}
