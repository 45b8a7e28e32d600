/* SPDX-License-Identifier: Apache-2.0 */

/*
 * oid - RNDIS control: the guest's requests, and answers through the receive buffer.
 *
 * A request is carried out when it comes; its answer waits in a short queue if the guest has no
 * slot or ring space for it. The queue full, a request is refused before it does anything.
 */

#include <errno.h>
#include <string.h>

#include "base/check.h"
#include "hv/vsp/netvsp/netvsp_int.h"

#define OID_BPS_PER_UNIT 100u
#define OID_LIST_MAX 32u             /* multicast addresses */
#define OID_TRANSFER_MAX 0xefffffffu /* what Hyper-V says: other limits come first */

/* ---- the queue of answers ---- */

static struct netvsp_reply *oid_reply_new(struct netvsp *n)
{
	if (n->reply_count == NETVSP_REPLIES_MAX) {
		return NULL;
	}
	return &n->replies[(n->reply_first + n->reply_count++) % NETVSP_REPLIES_MAX];
}

/* Put one message into a slot and the ring. Returns false: no slot, or no room. */
static bool oid_send(struct netvsp *n, const struct netvsp_reply *reply)
{
	struct netvsp_batch batch = {.count = 1};
	int err;

	batch.slot[0] = slots_take(&n->recv.slots);
	if (batch.slot[0] == SLOTS_NONE) {
		return false;
	}
	batch.bytes[0] = reply->bytes;
	/* Every slot is larger than every answer. */
	CHECK(vmbus_gpadl_write(n->recv.gpadl, (uint64_t)batch.slot[0] * n->recv.slot_bytes,
	                        reply->message, reply->bytes) == 0);
	err = netvsp_transfer(&n->channels[0], NETVSP_CHANNEL_CONTROL, &batch);
	if (err != 0) {
		slots_put(&n->recv.slots, batch.slot[0]);
	}
	return err != -EAGAIN; /* any other failure: the channel is about to close */
}

static void oid_link_tell(struct netvsp *n)
{
	struct netvsp_reply reply;

	if (n->link_told || !n->nego.initialized) {
		return;
	}
	reply.bytes = rndis_indicate(reply.message, n->link_up ? RNDIS_STATUS_MEDIA_CONNECT
	                                                       : RNDIS_STATUS_MEDIA_DISCONNECT);
	n->link_told = oid_send(n, &reply);
}

bool netvsp_replies_flush(struct netvsp *n)
{
	if (!n->channels[0].open || n->recv.gpadl == NULL) {
		return true;
	}
	while (n->reply_count != 0) {
		if (!oid_send(n, &n->replies[n->reply_first])) {
			return false;
		}
		n->reply_first = (n->reply_first + 1) % NETVSP_REPLIES_MAX;
		n->reply_count--;
	}
	oid_link_tell(n);
	return n->link_told;
}

/* ---- queries ---- */

struct oid_value {
	uint32_t status;
	uint32_t bytes;
	uint8_t data[RNDIS_INFO_MAX];
};

static void oid_u32(struct oid_value *v, uint64_t number)
{
	le32 w = le32_make(number <= UINT32_MAX ? (uint32_t)number : UINT32_MAX);

	memcpy(v->data, &w, sizeof(w));
	v->bytes = sizeof(w);
}

static void oid_bytes(struct oid_value *v, const void *buf, uint32_t len)
{
	CHECK(len <= sizeof(v->data));
	memcpy(v->data, buf, len);
	v->bytes = len;
}

static const uint32_t oid_supported[] = {
	RNDIS_OID_SUPPORTED_LIST,
	RNDIS_OID_HARDWARE_STATUS,
	RNDIS_OID_MEDIA_SUPPORTED,
	RNDIS_OID_MEDIA_IN_USE,
	RNDIS_OID_MAXIMUM_FRAME_SIZE,
	RNDIS_OID_LINK_SPEED,
	RNDIS_OID_TRANSMIT_BLOCK_SIZE,
	RNDIS_OID_RECEIVE_BLOCK_SIZE,
	RNDIS_OID_VENDOR_ID,
	RNDIS_OID_VENDOR_DESCRIPTION,
	RNDIS_OID_PACKET_FILTER,
	RNDIS_OID_MAXIMUM_TOTAL_SIZE,
	RNDIS_OID_MEDIA_CONNECT_STATUS,
	RNDIS_OID_VENDOR_DRIVER_VERSION,
	RNDIS_OID_RSS_CAPABILITIES,
	RNDIS_OID_RSS_PARAMETERS,
	RNDIS_OID_CONFIG_PARAMETER,
	RNDIS_OID_FRIENDLY_NAME,
	RNDIS_OID_XMIT_OK,
	RNDIS_OID_RCV_OK,
	RNDIS_OID_XMIT_ERROR,
	RNDIS_OID_RCV_ERROR,
	RNDIS_OID_RCV_NO_BUFFER,
	RNDIS_OID_PERMANENT_ADDRESS,
	RNDIS_OID_CURRENT_ADDRESS,
	RNDIS_OID_MULTICAST_LIST,
	RNDIS_OID_MAXIMUM_LIST_SIZE,
	RNDIS_OID_OFFLOAD_CAPABILITIES,
	RNDIS_OID_OFFLOAD_CURRENT,
	RNDIS_OID_OFFLOAD_PARAMETERS,
	RNDIS_OID_OFFLOAD_ENCAPSULATION,
};

static void oid_supported_list(struct oid_value *v)
{
	_Static_assert(sizeof(oid_supported) <= sizeof(v->data), "the list is one answer");
	for (size_t i = 0; i < sizeof(oid_supported) / sizeof(oid_supported[0]); i++) {
		le32 w = le32_make(oid_supported[i]);

		memcpy(v->data + i * sizeof(w), &w, sizeof(w));
	}
	v->bytes = sizeof(oid_supported);
}

static void oid_friendly_name(const struct netvsp *n, struct oid_value *v)
{
	size_t len = strlen(n->name);

	if (len == 0) {
		v->status = RNDIS_STATUS_NOT_SUPPORTED;
		return;
	}
	for (size_t i = 0; i < len; i++) { /* ASCII to UTF-16 */
		v->data[2 * i] = (uint8_t)n->name[i];
		v->data[2 * i + 1] = 0;
	}
	v->bytes = 2 * (uint32_t)len;
}

static void oid_offload_capabilities(const struct netvsp *n, const struct rndis_request *r,
                                     struct oid_value *v)
{
	struct ndis_offload_wire w;
	/* The guest sends a header with its own length; one that does not knows what its NDIS
	 * version has. */
	uint32_t asked = r->info_bytes != 0 ? r->info_bytes : (uint32_t)sizeof(w);
	uint32_t bytes = ndis_offload_encode(&w, asked, netvsp_can_coalesce(n));

	oid_bytes(v, &w, bytes);
}

static void oid_rss_capabilities(const struct netvsp *n, struct oid_value *v)
{
	struct ndis_rss_capabilities_wire w;

	if (n->queue_count < 2) {
		v->status = RNDIS_STATUS_NOT_SUPPORTED; /* the guest goes on with one channel */
		return;
	}
	ndis_rss_encode(&w, n->queue_count);
	oid_bytes(v, &w, sizeof(w));
}

/* What is a number. Returns false for another OID. */
static bool oid_query_number(const struct netvsp *n, uint32_t oid, struct oid_value *v)
{
	const struct netvsp_stats *s = &n->stats;

	switch (oid) {
	case RNDIS_OID_HARDWARE_STATUS: /* ready */
	case RNDIS_OID_MEDIA_SUPPORTED: /* 802.3 */
	case RNDIS_OID_MEDIA_IN_USE:
		oid_u32(v, 0);
		return true;
	case RNDIS_OID_MAXIMUM_FRAME_SIZE:
		oid_u32(v, n->mtu);
		return true;
	case RNDIS_OID_TRANSMIT_BLOCK_SIZE:
	case RNDIS_OID_RECEIVE_BLOCK_SIZE:
	case RNDIS_OID_MAXIMUM_TOTAL_SIZE:
		oid_u32(v, n->mtu + NETFRAME_ETHER_BYTES);
		return true;
	case RNDIS_OID_LINK_SPEED:
		oid_u32(v, n->speed_bps / OID_BPS_PER_UNIT);
		return true;
	case RNDIS_OID_VENDOR_ID: /* none of an IEEE vendor */
		oid_u32(v, 0x00ffffff);
		return true;
	case RNDIS_OID_VENDOR_DRIVER_VERSION:
		oid_u32(v, 0x00010000);
		return true;
	case RNDIS_OID_PACKET_FILTER:
		oid_u32(v, n->nego.filter);
		return true;
	case RNDIS_OID_MEDIA_CONNECT_STATUS: /* 0: connected */
		oid_u32(v, n->link_up ? 0 : 1);
		return true;
	case RNDIS_OID_XMIT_OK:
		oid_u32(v, s->tx_frames);
		return true;
	case RNDIS_OID_RCV_OK:
		oid_u32(v, s->rx_frames);
		return true;
	case RNDIS_OID_XMIT_ERROR:
		oid_u32(v, s->tx_invalid + s->tx_spoofed + s->tx_dropped);
		return true;
	case RNDIS_OID_RCV_ERROR:
		oid_u32(v, s->rx_dropped);
		return true;
	case RNDIS_OID_RCV_NO_BUFFER:
		oid_u32(v, s->rx_stalls);
		return true;
	case RNDIS_OID_MAXIMUM_LIST_SIZE:
		oid_u32(v, OID_LIST_MAX);
		return true;
	case RNDIS_OID_OFFLOAD_ENCAPSULATION:
		oid_u32(v, NDIS_ENCAPSULATION_8023);
		return true;
	default: /* a number from the guest */
		return false;
	}
}

static void oid_query(const struct netvsp *n, const struct rndis_request *r, struct oid_value *v)
{
	static const char vendor[] = "Godwit synthetic network adapter";

	if (oid_query_number(n, r->oid, v)) {
		return;
	}
	switch (r->oid) {
	case RNDIS_OID_SUPPORTED_LIST:
		oid_supported_list(v);
		break;
	case RNDIS_OID_VENDOR_DESCRIPTION:
		oid_bytes(v, vendor, sizeof(vendor));
		break;
	case RNDIS_OID_PERMANENT_ADDRESS:
		oid_bytes(v, n->mac, sizeof(n->mac));
		break;
	case RNDIS_OID_CURRENT_ADDRESS:
		oid_bytes(v, n->mac_now, sizeof(n->mac_now));
		break;
	case RNDIS_OID_FRIENDLY_NAME:
		oid_friendly_name(n, v);
		break;
	case RNDIS_OID_OFFLOAD_CAPABILITIES:
	case RNDIS_OID_OFFLOAD_CURRENT:
		oid_offload_capabilities(n, r, v);
		break;
	case RNDIS_OID_RSS_CAPABILITIES:
		oid_rss_capabilities(n, v);
		break;
	default: /* a number from the guest */
		v->status = RNDIS_STATUS_NOT_SUPPORTED;
		break;
	}
}

/* ---- sets ---- */

static void oid_filter_set(struct netvsp *n, uint32_t filter)
{
	/* What came while the guest did not listen is not news. */
	if (n->nego.filter == 0 && filter != 0) {
		netvsp_rx_drain(n);
	}
	n->nego.filter = filter;
}

static uint32_t oid_address_set(struct netvsp *n, const struct rndis_request *r)
{
	uint8_t mac[NETFRAME_MAC_BYTES];
	int err = ndis_address_decode(r->info, r->info_bytes, mac);

	if (err != 0) {
		return err == -ENOENT ? RNDIS_STATUS_NOT_SUPPORTED : RNDIS_STATUS_INVALID_DATA;
	}
	if (!n->spoofing && memcmp(mac, n->mac, sizeof(mac)) != 0) {
		return RNDIS_STATUS_FAILURE;
	}
	memcpy(n->mac_now, mac, sizeof(mac));
	netvsp_tap_update(n);
	return RNDIS_STATUS_SUCCESS;
}

static uint32_t oid_set(struct netvsp *n, const struct rndis_request *r)
{
	le32 w = {0};

	if (r->info_bytes >= sizeof(w)) {
		memcpy(&w, r->info, sizeof(w));
	}
	switch (r->oid) {
	case RNDIS_OID_PACKET_FILTER:
		if (r->info_bytes < sizeof(w)) {
			return RNDIS_STATUS_INVALID_LENGTH;
		}
		oid_filter_set(n, le32_get(w));
		return RNDIS_STATUS_SUCCESS;
	case RNDIS_OID_MULTICAST_LIST: /* all multicast passes if any does */
		return r->info_bytes % NETFRAME_MAC_BYTES == 0 &&
		                       r->info_bytes / NETFRAME_MAC_BYTES <= OID_LIST_MAX
		               ? RNDIS_STATUS_SUCCESS
		               : RNDIS_STATUS_INVALID_LENGTH;
	case RNDIS_OID_OFFLOAD_PARAMETERS:
		if (ndis_offload_decode(r->info, r->info_bytes, &n->nego.offload) != 0) {
			return RNDIS_STATUS_INVALID_DATA;
		}
		netvsp_tap_update(n);
		return RNDIS_STATUS_SUCCESS;
	case RNDIS_OID_OFFLOAD_ENCAPSULATION: /* 802.3 it is anyway */
		return RNDIS_STATUS_SUCCESS;
	case RNDIS_OID_RSS_PARAMETERS:
		if (n->queue_count < 2) {
			return RNDIS_STATUS_NOT_SUPPORTED;
		}
		return ndis_rss_decode(r->info, r->info_bytes, n->queue_count, &n->nego.rss) == 0
		               ? RNDIS_STATUS_SUCCESS
		               : RNDIS_STATUS_INVALID_DATA;
	case RNDIS_OID_CONFIG_PARAMETER:
		return oid_address_set(n, r);
	default: /* a number from the guest */
		return RNDIS_STATUS_NOT_SUPPORTED;
	}
}

/* ---- requests ---- */

static void oid_stop(struct netvsp *n)
{
	oid_filter_set(n, 0);
	n->nego.rss = (struct ndis_rss){0};
	n->nego.offload = (struct ndis_offload){0};
	netvsp_tap_update(n);
}

static uint32_t oid_answer_query(struct netvsp *n, const struct rndis_request *r, uint8_t *out)
{
	struct oid_value v = {.status = RNDIS_STATUS_SUCCESS};

	if (!n->nego.initialized) {
		v.status = RNDIS_STATUS_FAILURE;
	} else {
		oid_query(n, r, &v);
	}
	return rndis_query_reply(out, r, v.status, v.data,
	                         v.status == RNDIS_STATUS_SUCCESS ? v.bytes : 0);
}

/* Carry out @r. Returns the answer's length in @out, 0 = there is none. */
static uint32_t oid_execute(struct netvsp *n, const struct rndis_request *r, uint8_t *out)
{
	switch (r->type) {
	case RNDIS_INITIALIZE:
		oid_stop(n);
		n->nego.initialized = true;
		n->link_told = true; /* it will ask */
		return rndis_initialize_reply(out, r->id, OID_TRANSFER_MAX);
	case RNDIS_HALT:
		oid_stop(n);
		n->nego.initialized = false;
		return 0;
	case RNDIS_RESET:
		oid_stop(n);
		return rndis_reset_reply(out);
	case RNDIS_KEEPALIVE:
		return rndis_set_reply(out, r, RNDIS_STATUS_SUCCESS);
	case RNDIS_QUERY:
		return oid_answer_query(n, r, out);
	case RNDIS_SET:
		return rndis_set_reply(out, r,
		                       n->nego.initialized ? oid_set(n, r) : RNDIS_STATUS_FAILURE);
	default: /* rndis_request_decode() lets no other pass */
		return 0;
	}
}

bool netvsp_control(struct netvsp *n, const uint8_t *message, uint32_t len_bytes)
{
	struct rndis_request r;
	struct netvsp_reply *reply;

	if (rndis_request_decode(message, len_bytes, &r) != 0) {
		n->stats.tx_invalid++;
		return true; /* nothing to answer to */
	}
	reply = oid_reply_new(n);
	if (reply == NULL) {
		return false;
	}
	n->stats.requests++;
	reply->bytes = oid_execute(n, &r, reply->message);
	if (reply->bytes == 0) {
		n->reply_count--; /* the last: it is not there any more */
	}
	(void)netvsp_replies_flush(n);
	return true;
}
