/* SPDX-License-Identifier: Apache-2.0 */
#include "hv/vsp/netvsp/rndis.h"

#include <errno.h>
#include <string.h>

#include "base/check.h"
#include "hv/vsp/netvsp/rndis_wire.h"

#define RNDIS_HEADER_BYTES ((uint32_t)sizeof(struct rndis_header_wire))

/* ---- data from the guest ---- */

static bool rndis_inside(uint32_t offset, uint32_t len, uint32_t total)
{
	return offset <= total && len <= total - offset;
}

/* One piece of per-packet information: @data[len]. Unknown ones are skipped. */
static int rndis_ppi_take(uint32_t type, const uint8_t *data, uint32_t len, struct rndis_tx *tx)
{
	le32 w;

	if (type != RNDIS_PPI_CHECKSUM && type != RNDIS_PPI_LSO && type != RNDIS_PPI_VLAN) {
		return 0;
	}
	if (len < sizeof(w)) {
		return -EBADMSG;
	}
	memcpy(&w, data, sizeof(w));
	if (type == RNDIS_PPI_CHECKSUM) {
		tx->has_checksum = true;
		tx->checksum = le32_get(w);
	} else if (type == RNDIS_PPI_LSO) {
		tx->has_lso = true;
		tx->lso = le32_get(w);
	} else {
		tx->has_vlan = true;
		tx->vlan = le32_get(w);
	}
	return 0;
}

static int rndis_ppis_decode(const uint8_t *buf, uint32_t len, struct rndis_tx *tx)
{
	while (len != 0) {
		struct rndis_ppi_wire w;

		if (len < sizeof(w)) {
			return -EBADMSG;
		}
		memcpy(&w, buf, sizeof(w));

		uint32_t bytes = le32_get(w.bytes);
		uint32_t offset = le32_get(w.offset);

		if (bytes < sizeof(w) || bytes > len || offset < sizeof(w) || offset > bytes) {
			return -EBADMSG;
		}

		int err = rndis_ppi_take(le32_get(w.type), buf + offset, bytes - offset, tx);

		if (err != 0) {
			return err;
		}
		buf += bytes;
		len -= bytes;
	}
	return 0;
}

int rndis_tx_decode(const void *buf, size_t len_bytes, uint32_t total_bytes, struct rndis_tx *out)
{
	struct rndis_tx tx = {0};
	struct rndis_packet_wire w;

	if (len_bytes < sizeof(w) || total_bytes < len_bytes) {
		return -EBADMSG;
	}
	memcpy(&w, buf, sizeof(w));

	uint32_t bytes = le32_get(w.header.bytes);

	if (le32_get(w.header.type) != RNDIS_PACKET || bytes < sizeof(w) || bytes > total_bytes) {
		return -EBADMSG;
	}

	/* Bodies start behind the header. */
	uint32_t body = bytes - RNDIS_HEADER_BYTES;
	uint32_t data = le32_get(w.data_offset);
	uint32_t ppi = le32_get(w.ppi_offset);
	uint32_t ppi_bytes = le32_get(w.ppi_bytes);
	const uint32_t fixed = sizeof(w) - RNDIS_HEADER_BYTES;

	tx.message_bytes = bytes;
	tx.data_bytes = le32_get(w.data_bytes);
	if (data < fixed || !rndis_inside(data, tx.data_bytes, body)) {
		return -EBADMSG;
	}
	tx.data_offset = data + RNDIS_HEADER_BYTES;
	if (ppi_bytes != 0) {
		if (ppi < fixed || !rndis_inside(ppi, ppi_bytes, body) ||
		    !rndis_inside(ppi + RNDIS_HEADER_BYTES, ppi_bytes, (uint32_t)len_bytes)) {
			return -EBADMSG;
		}

		int err = rndis_ppis_decode((const uint8_t *)buf + RNDIS_HEADER_BYTES + ppi,
		                            ppi_bytes, &tx);

		if (err != 0) {
			return err;
		}
	}
	*out = tx;
	return 0;
}

/* ---- control from the guest ---- */

static int rndis_oid_decode(const uint8_t *buf, uint32_t bytes, struct rndis_request *out)
{
	struct rndis_request_wire w;

	if (bytes < sizeof(w)) {
		return -EBADMSG;
	}
	memcpy(&w, buf, sizeof(w));

	uint32_t offset = le32_get(w.info_offset);

	out->oid = le32_get(w.oid);
	out->info_bytes = le32_get(w.info_bytes);
	if (out->info_bytes == 0) {
		return 0;
	}
	if (offset < sizeof(w) - RNDIS_HEADER_BYTES ||
	    !rndis_inside(offset, out->info_bytes, bytes - RNDIS_HEADER_BYTES)) {
		return -EBADMSG;
	}
	out->info = buf + RNDIS_HEADER_BYTES + offset;
	return 0;
}

int rndis_request_decode(const void *buf, size_t len_bytes, struct rndis_request *out)
{
	struct rndis_set_complete_wire w = {0}; /* header and id, as in every request but RESET */
	struct rndis_request r = {0};

	if (len_bytes < sizeof(w.header) || len_bytes > RNDIS_REQUEST_MAX) {
		return -EBADMSG;
	}
	memcpy(&w, buf, len_bytes < sizeof(w) ? len_bytes : sizeof(w));

	uint32_t bytes = le32_get(w.header.bytes);
	int err = 0;

	r.type = le32_get(w.header.type);
	r.id = le32_get(w.id);
	if (bytes < sizeof(w.header) + sizeof(w.id) || bytes > len_bytes) {
		return -EBADMSG;
	}
	switch (r.type) {
	case RNDIS_QUERY:
	case RNDIS_SET:
		err = rndis_oid_decode(buf, bytes, &r);
		break;
	case RNDIS_INITIALIZE:
		err = bytes < sizeof(struct rndis_initialize_wire) ? -EBADMSG : 0;
		break;
	case RNDIS_HALT:
	case RNDIS_RESET:
	case RNDIS_KEEPALIVE:
		break;
	default: /* a number from the guest */
		err = -EBADMSG;
		break;
	}
	if (err == 0) {
		*out = r;
	}
	return err;
}

/* ---- control to the guest ---- */

static struct rndis_header_wire rndis_reply_header(uint32_t type, uint32_t bytes)
{
	return (struct rndis_header_wire){
		.type = le32_make(type | RNDIS_COMPLETE),
		.bytes = le32_make(bytes),
	};
}

uint32_t rndis_initialize_reply(uint8_t *out, uint32_t id, uint32_t transfer_bytes_max)
{
	const struct rndis_initialize_complete_wire w = {
		.header = rndis_reply_header(RNDIS_INITIALIZE, sizeof(w)),
		.id = le32_make(id),
		.status = le32_make(RNDIS_STATUS_SUCCESS),
		.major = le32_make(1),
		.device_flags = le32_make(1),
		.packets_max = le32_make(RNDIS_PACKETS_MAX),
		.transfer_bytes_max = le32_make(transfer_bytes_max),
		.alignment = le32_make(RNDIS_ALIGNMENT),
	};

	memcpy(out, &w, sizeof(w));
	return sizeof(w);
}

uint32_t rndis_query_reply(uint8_t *out, const struct rndis_request *request, uint32_t status,
                           const void *info, uint32_t info_bytes)
{
	CHECK(info_bytes <= RNDIS_INFO_MAX);

	struct rndis_query_complete_wire w = {
		.header = rndis_reply_header(RNDIS_QUERY, (uint32_t)sizeof(w) + info_bytes),
		.id = le32_make(request->id),
		.status = le32_make(status),
		.info_bytes = le32_make(info_bytes),
	};

	if (info_bytes != 0) {
		w.info_offset = le32_make((uint32_t)sizeof(w) - RNDIS_HEADER_BYTES);
		memcpy(out + sizeof(w), info, info_bytes);
	}
	memcpy(out, &w, sizeof(w));
	return (uint32_t)sizeof(w) + info_bytes;
}

uint32_t rndis_set_reply(uint8_t *out, const struct rndis_request *request, uint32_t status)
{
	const struct rndis_set_complete_wire w = {
		.header = rndis_reply_header(request->type, sizeof(w)),
		.id = le32_make(request->id),
		.status = le32_make(status),
	};

	memcpy(out, &w, sizeof(w));
	return sizeof(w);
}

uint32_t rndis_reset_reply(uint8_t *out)
{
	const struct rndis_reset_complete_wire w = {
		.header = rndis_reply_header(RNDIS_RESET, sizeof(w)),
		.status = le32_make(RNDIS_STATUS_SUCCESS),
		.addressing_reset = le32_make(1), /* the guest sends filter and lists again */
	};

	memcpy(out, &w, sizeof(w));
	return sizeof(w);
}

uint32_t rndis_indicate(uint8_t *out, uint32_t status)
{
	const struct rndis_indicate_wire w = {
		.header = {.type = le32_make(RNDIS_INDICATE_STATUS), .bytes = le32_make(sizeof(w))},
		.status = le32_make(status),
	};

	memcpy(out, &w, sizeof(w));
	return sizeof(w);
}

/* ---- data to the guest ---- */

/* Append one; returns the offset behind it. */
static uint32_t rndis_ppi_put(uint8_t out[RNDIS_RX_ROOM], uint32_t at, uint32_t type,
                              const uint8_t value[4])
{
	const struct rndis_ppi_wire w = {
		.bytes = le32_make(sizeof(w) + 4),
		.type = le32_make(type),
		.offset = le32_make(sizeof(w)),
	};

	CHECK(at + sizeof(w) + 4 <= RNDIS_RX_ROOM);
	memcpy(out + at, &w, sizeof(w));
	memcpy(out + at + sizeof(w), value, 4);
	return at + (uint32_t)sizeof(w) + 4;
}

void rndis_rx_encode(uint8_t out[RNDIS_RX_ROOM], const struct rndis_rx *rx)
{
	struct rndis_packet_wire w = {
		.header = {.type = le32_make(RNDIS_PACKET),
	                   .bytes = le32_make(rx->data_offset + rx->data_bytes)},
		.data_offset = le32_make(rx->data_offset - RNDIS_HEADER_BYTES),
		.data_bytes = le32_make(rx->data_bytes),
	};
	uint32_t at = sizeof(w);

	CHECK(rx->data_offset >= RNDIS_RX_ROOM);
	memset(out, 0, RNDIS_RX_ROOM);
	if (rx->checksum != 0) {
		at = rndis_ppi_put(out, at, RNDIS_PPI_CHECKSUM, le32_make(rx->checksum).b);
	}
	if (rx->has_vlan) {
		at = rndis_ppi_put(out, at, RNDIS_PPI_VLAN, le32_make(rx->vlan).b);
	}
	if (rx->part_flags != 0) {
		const struct rndis_packet_id_wire id = {
			.version = RNDIS_PACKET_ID_V1,
			.flags = rx->part_flags,
			.id = le16_make(rx->part_id),
		};
		uint8_t bytes[sizeof(id)];

		memcpy(bytes, &id, sizeof(id));
		at = rndis_ppi_put(out, at, RNDIS_PPI_PACKET_ID, bytes);
	}
	if (at != sizeof(w)) {
		w.ppi_offset = le32_make((uint32_t)sizeof(w) - RNDIS_HEADER_BYTES);
		w.ppi_bytes = le32_make(at - (uint32_t)sizeof(w));
	}
	memcpy(out, &w, sizeof(w));
}
