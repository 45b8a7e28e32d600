/* SPDX-License-Identifier: Apache-2.0 */
#include "hv/vsp/netvsp/ndis.h"

#include <errno.h>
#include <string.h>

#define NDIS_OFFLOAD_60_BYTES 112u
#define NDIS_OFFLOAD_61_BYTES 144u

static const char ndis_address_name[] = "NetworkAddress";

uint32_t ndis_offload_encode(struct ndis_offload_wire *out, uint32_t asked_bytes, bool rsc)
{
	const struct ndis_checksum_wire ip4 = {
		.encapsulation = le32_make(NDIS_ENCAPSULATION_8023),
		.flags = le32_make(NDIS_CSUM_IP_OPTIONS | NDIS_CSUM_TCP_OPTIONS | NDIS_CSUM_TCP |
	                           NDIS_CSUM_UDP | NDIS_CSUM_IP),
	};
	const struct ndis_checksum_wire ip6 = {
		.encapsulation = le32_make(NDIS_ENCAPSULATION_8023),
		.flags = le32_make(NDIS_CSUM_IP_OPTIONS | NDIS_CSUM_TCP_OPTIONS | NDIS_CSUM_TCP |
	                           NDIS_CSUM_UDP),
	};
	uint32_t bytes = NDIS_OFFLOAD_60_BYTES;
	uint8_t revision = 1;

	if (asked_bytes >= sizeof(*out)) {
		bytes = sizeof(*out);
		revision = 3;
	} else if (asked_bytes >= NDIS_OFFLOAD_61_BYTES) {
		bytes = NDIS_OFFLOAD_61_BYTES;
		revision = 2;
	}
	*out = (struct ndis_offload_wire){
		.object = {.type = NDIS_OBJECT_OFFLOAD,
	                   .revision = revision,
	                   .bytes = le16_make((uint16_t)bytes)},
		.ip4_tx = ip4,
		.ip4_rx = ip4,
		.ip6_tx = ip6,
		.ip6_rx = ip6,
		.lso4_encapsulation = le32_make(NDIS_ENCAPSULATION_8023),
		.lso4_bytes_max = le32_make(NDIS_LSO_BYTES_MAX),
		.lso4_segments_min = le32_make(2),
		.lso6_encapsulation = le32_make(NDIS_ENCAPSULATION_8023),
		.lso6_bytes_max = le32_make(NDIS_LSO_BYTES_MAX),
		.lso6_segments_min = le32_make(2),
		.lso6_options = le32_make(NDIS_LSO_IP6_OPTIONS),
		.rsc4 = rsc ? 1 : 0,
		.rsc6 = rsc ? 1 : 0,
	};
	return bytes;
}

static void ndis_switch_rx(uint8_t value, bool *out)
{
	if (value != NDIS_PARAMETER_NO_CHANGE) {
		*out = value == NDIS_PARAMETER_RX || value == NDIS_PARAMETER_BOTH;
	}
}

static void ndis_switch_rsc(uint8_t value, bool *out)
{
	if (value != NDIS_PARAMETER_NO_CHANGE) {
		*out = value == NDIS_PARAMETER_TX;
	}
}

int ndis_offload_decode(const void *buf, size_t len_bytes, struct ndis_offload *out)
{
	struct ndis_offload_parameters_wire w = {0};

	if (len_bytes < NDIS_OFFLOAD_PARAMETERS_BYTES_MIN) {
		return -EBADMSG;
	}
	memcpy(&w, buf, len_bytes < sizeof(w) ? len_bytes : sizeof(w));
	if (w.object.type != NDIS_OBJECT_DEFAULT) {
		return -EBADMSG;
	}
	ndis_switch_rx(w.tcp4_checksum, &out->rx4_tcp);
	ndis_switch_rx(w.udp4_checksum, &out->rx4_udp);
	ndis_switch_rx(w.tcp6_checksum, &out->rx6_tcp);
	ndis_switch_rx(w.udp6_checksum, &out->rx6_udp);
	ndis_switch_rsc(w.rsc4, &out->rsc4);
	ndis_switch_rsc(w.rsc6, &out->rsc6);
	return 0;
}

void ndis_rss_encode(struct ndis_rss_capabilities_wire *out, uint32_t queues)
{
	*out = (struct ndis_rss_capabilities_wire){
		.object = {.type = NDIS_OBJECT_RSS_CAPABILITIES,
	                   .revision = 2,
	                   .bytes = le16_make(sizeof(*out))},
		.flags = le32_make(NDIS_RSS_CAPS),
		.interrupts = le32_make(queues),
		.queues = le32_make(queues),
		.table_entries = le16_make(NDIS_RSS_TABLE_MAX),
	};
}

/* A part of @len_bytes at an offset the guest gave. */
static bool ndis_inside(uint32_t offset, uint32_t part_bytes, size_t len_bytes)
{
	return offset <= len_bytes && part_bytes <= len_bytes - offset;
}

static int ndis_rss_table_decode(const uint8_t *buf, uint32_t bytes, uint32_t channels,
                                 struct ndis_rss *rss)
{
	uint32_t entries = bytes / (uint32_t)sizeof(le32);

	if (entries == 0 || entries > NDIS_RSS_TABLE_MAX || bytes % sizeof(le32) != 0) {
		return -EBADMSG;
	}
	for (uint32_t i = 0; i < entries; i++) {
		le32 w;

		memcpy(&w, buf + (size_t)i * sizeof(w), sizeof(w));
		if (le32_get(w) >= channels) {
			return -EBADMSG;
		}
		rss->table[i] = (uint8_t)le32_get(w);
	}
	rss->table_entries = (uint16_t)entries;
	return 0;
}

int ndis_rss_decode(const void *buf, size_t len_bytes, uint32_t channels, struct ndis_rss *out)
{
	struct ndis_rss_parameters_wire w;
	struct ndis_rss rss = *out;

	if (len_bytes < sizeof(w)) {
		return -EBADMSG;
	}
	memcpy(&w, buf, sizeof(w));

	uint16_t flags = le16_get(w.flags);

	if (w.object.type != NDIS_OBJECT_RSS_PARAMETERS) {
		return -EBADMSG;
	}
	if ((flags & NDIS_RSS_DISABLE) != 0) {
		out->enabled = false;
		return 0;
	}
	rss.enabled = true;
	if ((flags & NDIS_RSS_HASH_UNCHANGED) == 0) {
		rss.hash = le32_get(w.hash);
	}
	if ((flags & NDIS_RSS_TABLE_UNCHANGED) == 0) {
		uint32_t offset = le32_get(w.table_offset);
		uint32_t bytes = le16_get(w.table_bytes);

		if (!ndis_inside(offset, bytes, len_bytes) ||
		    ndis_rss_table_decode((const uint8_t *)buf + offset, bytes, channels, &rss) !=
		            0) {
			return -EBADMSG;
		}
	}
	if ((flags & NDIS_RSS_KEY_UNCHANGED) == 0) {
		uint32_t offset = le32_get(w.key_offset);
		uint32_t bytes = le16_get(w.key_bytes);

		if (bytes > NDIS_RSS_KEY_BYTES || !ndis_inside(offset, bytes, len_bytes)) {
			return -EBADMSG;
		}
		memset(rss.key, 0, sizeof(rss.key));
		memcpy(rss.key, (const uint8_t *)buf + offset, bytes);
	}
	*out = rss;
	return 0;
}

/* Is the UTF-16 text at @buf[bytes] this ASCII one? Guests end it with a zero or do not. */
static bool ndis_text_is(const uint8_t *buf, uint32_t bytes, const char *text)
{
	uint32_t len = (uint32_t)strlen(text);

	if (bytes / 2 < len ||
	    (bytes / 2 > len && (buf[(size_t)len * 2] | buf[(size_t)len * 2 + 1]))) {
		return false;
	}
	for (uint32_t i = 0; i < len; i++) {
		if (buf[(size_t)i * 2] != (uint8_t)text[i] || buf[(size_t)i * 2 + 1] != 0) {
			return false;
		}
	}
	return true;
}

static int ndis_hex_digit(const uint8_t utf16[2])
{
	static const char digits[] = "0123456789abcdef";
	/* Upper case letters become lower case; what else that maps to letters is no digit. */
	const char *at =
		utf16[1] == 0 && utf16[0] != 0
			? strchr(digits, utf16[0] >= 'A' && utf16[0] <= 'F' ? utf16[0] + ('a' - 'A')
	                                                                    : utf16[0])
			: NULL;

	return at != NULL ? (int)(at - digits) : -1;
}

int ndis_address_decode(const void *buf, size_t len_bytes, uint8_t mac[6])
{
	struct ndis_config_wire w;
	uint8_t address[6];

	if (len_bytes < sizeof(w)) {
		return -EBADMSG;
	}
	memcpy(&w, buf, sizeof(w));

	uint32_t name = le32_get(w.name_offset);
	uint32_t name_bytes = le32_get(w.name_bytes);
	uint32_t value = le32_get(w.value_offset);
	uint32_t value_bytes = le32_get(w.value_bytes);

	if (!ndis_inside(name, name_bytes, len_bytes) ||
	    !ndis_inside(value, value_bytes, len_bytes)) {
		return -EBADMSG;
	}
	if (!ndis_text_is((const uint8_t *)buf + name, name_bytes, ndis_address_name)) {
		return -ENOENT;
	}
	if (le32_get(w.type) != NDIS_CONFIG_STRING || value_bytes < 4 * sizeof(address)) {
		return -EBADMSG;
	}
	for (size_t i = 0; i < sizeof(address); i++) {
		const uint8_t *digits = (const uint8_t *)buf + value + i * 4;
		int high = ndis_hex_digit(digits);
		int low = ndis_hex_digit(digits + 2);

		if (high < 0 || low < 0) {
			return -EBADMSG;
		}
		address[i] = (uint8_t)(high << 4 | low);
	}
	if ((address[0] & 1u) != 0 || memcmp(address, (const uint8_t[6]){0}, 6) == 0) {
		return -EBADMSG; /* multicast, or none */
	}
	memcpy(mac, address, sizeof(address));
	return 0;
}
