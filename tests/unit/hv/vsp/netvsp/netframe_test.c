/* SPDX-License-Identifier: Apache-2.0 */

/* netframe_test - headers, checked against plain one-byte-at-a-time implementations. */

#include "hv/vsp/netvsp/netframe.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hv/vsp/netvsp/rndis_wire.h"
#include "tests/lib/netpacket.h"
#include "tests/lib/test.h"

static void sums_agree_with_the_plain_one(void **state)
{
	uint8_t buf[300];
	uint32_t seed = 1;

	(void)state;
	for (uint32_t len = 0; len < sizeof(buf); len++) {
		for (uint32_t i = 0; i < len; i++) {
			seed = seed * 1664525u + 1013904223u;
			buf[i] = len % 7 == 0 ? 0xff : (uint8_t)(seed >> 24);
		}

		uint16_t got = netframe_fold(netframe_sum(buf, len, 0));
		uint16_t want = netpacket_sum(buf, len, 0);

		assert_int_equal((uint16_t)(got << 8 | got >> 8), want);
	}
}

static void headers_are_found(void **state)
{
	static const struct {
		bool ip6, udp;
		uint32_t tags, options;
	} cases[] = {
		{false, false, 0, 0}, {false, true, 1, 0}, {false, false, 2, 20},
		{true, false, 0, 0},  {true, true, 2, 0},  {true, false, 1, 24},
	};
	uint8_t frame[400];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const struct netpacket p = {.ip6 = cases[i].ip6,
		                            .udp = cases[i].udp,
		                            .tags = cases[i].tags,
		                            .ip_options = cases[i].options,
		                            .payload = 100};
		uint32_t len = netpacket_build(&p, frame);
		uint32_t l3 = 14 + 4 * p.tags;
		struct netframe f;

		netframe_parse(frame, len, &f);
		assert_int_equal(f.ip4, !p.ip6);
		assert_int_equal(f.ip6, p.ip6);
		assert_int_equal(f.protocol, p.udp ? 17 : 6);
		assert_int_equal(f.l3_offset, l3);
		assert_int_equal(f.l4_offset, l3 + (p.ip6 ? 40 : 20) + p.ip_options);
		/* Never behind what is there. */
		for (uint32_t n = 0; n < len; n++) {
			uint8_t *head = malloc(n + 1);

			memcpy(head, frame, n);
			netframe_parse(head, n, &f);
			assert_true(f.l4_offset == 0 || f.l4_offset < n);
			free(head);
		}
	}
}

static void fragments_have_no_transport_header(void **state)
{
	struct netpacket p = {.payload = 100};
	uint8_t frame[400];
	struct netframe f;
	uint32_t len = netpacket_build(&p, frame);

	(void)state;
	frame[14 + 6] = 0x20; /* more fragments */
	netframe_parse(frame, len, &f);
	assert_true(f.ip4 && f.l4_offset == 0);
	frame[14 + 6] = 0x40; /* do not fragment */
	netframe_parse(frame, len, &f);
	assert_int_equal(f.l4_offset, 34);
	frame[14 + 7] = 1; /* a later one */
	netframe_parse(frame, len, &f);
	assert_int_equal(f.l4_offset, 0);
	p.ip6 = true;
	len = netpacket_build(&p, frame);
	frame[14 + 6] = 44;
	netframe_parse(frame, len, &f);
	assert_true(f.ip6 && f.l4_offset == 0);
}

/* What the guest leaves out of a large send, the result is a packet that is right as a whole. */
static void large_sends_are_made_whole(void **state)
{
	static uint8_t frame[70000];
	uint8_t want[400];

	(void)state;
	for (uint32_t i = 0; i < 12; i++) {
		const struct netpacket p = {.ip6 = i % 2 != 0,
		                            .tags = i / 2 % 3,
		                            .ip_options = i >= 6 ? 16 : 0,
		                            .tcp_options = 12,
		                            .payload = 20000 + i};
		struct netframe f;
		struct netvsp_vnet_wire vnet;
		struct rndis_tx tx = {.has_lso = true};
		uint32_t len = netpacket_build(&p, frame);
		uint8_t *ip;
		uint32_t l4;

		netframe_parse(frame, len, &f);
		l4 = f.l4_offset;
		ip = frame + f.l3_offset;
		netpacket_pseudo_put(frame, f.l3_offset, l4, len); /* what Linux wants to see */
		memcpy(want, frame, sizeof(want));
		frame[l4 + 16] = 0x12; /* the guest's own, without the length: never trusted */
		frame[l4 + 17] = 0x34;
		if (p.ip6) {
			memset(ip + 4, 0, 2);
		} else {
			memset(ip + 2, 0, 2);
			memset(ip + 10, 0, 2);
		}
		tx.lso = 1460 | l4 << 20 | RNDIS_LSO_V2 | (p.ip6 ? RNDIS_LSO_IPV6 : 0);
		assert_int_equal(netframe_offload(frame, NETFRAME_HEAD_MAX, len, &tx, &vnet), 0);
		assert_memory_equal(frame, want, NETFRAME_HEAD_MAX);
		assert_int_equal(vnet.flags, NETVSP_VNET_NEEDS_CSUM);
		assert_int_equal(vnet.gso_type,
		                 p.ip6 ? NETVSP_VNET_GSO_TCPV6 : NETVSP_VNET_GSO_TCPV4);
		assert_int_equal(le16_get(vnet.gso_bytes), 1460);
		assert_int_equal(le16_get(vnet.header_bytes), l4 + 32);
		assert_int_equal(le16_get(vnet.csum_start), l4);
		assert_int_equal(le16_get(vnet.csum_offset), 16);
		frame[l4 + 13] |= 0x80; /* CWR: only the first segment may have it */
		assert_int_equal(netframe_offload(frame, NETFRAME_HEAD_MAX, len, &tx, &vnet), 0);
		assert_true((vnet.gso_type & NETVSP_VNET_GSO_ECN) != 0);
	}
}

static int large(uint8_t *frame, uint32_t head, uint32_t len, uint32_t lso)
{
	const struct rndis_tx tx = {.has_lso = true, .lso = lso};
	struct netvsp_vnet_wire vnet;

	return netframe_offload(frame, head, len, &tx, &vnet);
}

static void large_sends_of_something_else_are_refused(void **state)
{
	static uint8_t frame[70000];
	const struct netpacket tcp = {.payload = 3000};
	const struct netpacket udp = {.udp = true, .payload = 3000};
	uint32_t len = netpacket_build(&udp, frame);

	(void)state;
	assert_int_equal(large(frame, 256, len, RNDIS_LSO_V2 | 1000), -EBADMSG);
	len = netpacket_build(&tcp, frame);
	assert_int_equal(large(frame, 256, len, 1000), -EBADMSG);             /* version 1 */
	assert_int_equal(large(frame, 256, len, RNDIS_LSO_V2 | 7), -EBADMSG); /* dust */
	assert_int_equal(large(frame, 256, len, RNDIS_LSO_V2 | 0xfffff), -EBADMSG);
	assert_int_equal(large(frame, 54, 54, RNDIS_LSO_V2 | 1000), -EBADMSG); /* no payload */
	assert_int_equal(large(frame, 256, 65536 + 14, RNDIS_LSO_V2 | 1000), -EBADMSG);
	frame[46] = 0x40; /* TCP header of 16 bytes */
	assert_int_equal(large(frame, 256, len, RNDIS_LSO_V2 | 1000), -EBADMSG);
	frame[46] = 0xf0; /* of 60 bytes, but only 56 are there */
	assert_int_equal(large(frame, 34 + 56, 34 + 56, RNDIS_LSO_V2 | 1000), -EBADMSG);
	(void)netpacket_build(&tcp, frame);
	for (uint32_t head = 14; head < 54; head++) {
		uint8_t *copy = malloc(head);

		memcpy(copy, frame, head);
		assert_int_equal(large(copy, head, head, RNDIS_LSO_V2 | 1000), -EBADMSG);
		free(copy);
	}
}

static void checksums_are_asked_for_where_they_belong(void **state)
{
	uint8_t frame[400];
	struct netpacket p = {.payload = 100};
	uint32_t len = netpacket_build(&p, frame);
	struct rndis_tx tx = {.has_checksum = true,
	                      .checksum = RNDIS_CSUM_TX_IPV4 | RNDIS_CSUM_TX_TCP | 34u << 16};
	struct netvsp_vnet_wire vnet;

	(void)state;
	assert_int_equal(netframe_offload(frame, len, len, &tx, &vnet), 0);
	assert_int_equal(vnet.flags, NETVSP_VNET_NEEDS_CSUM);
	assert_int_equal(le16_get(vnet.csum_start), 34);
	assert_int_equal(le16_get(vnet.csum_offset), 16);
	assert_int_equal(vnet.gso_type, 0);
	/* Without an offset it is looked for. */
	p.udp = true;
	p.tags = 1;
	len = netpacket_build(&p, frame);
	tx.checksum = RNDIS_CSUM_TX_IPV4 | RNDIS_CSUM_TX_UDP;
	assert_int_equal(netframe_offload(frame, len, len, &tx, &vnet), 0);
	assert_int_equal(le16_get(vnet.csum_start), 38);
	assert_int_equal(le16_get(vnet.csum_offset), 6);
	/* The IPv4 header's own is made here. */
	memset(frame + 18 + 10, 0, 2);
	tx.checksum = RNDIS_CSUM_TX_IPV4 | RNDIS_CSUM_TX_IP_HEADER;
	assert_int_equal(netframe_offload(frame, len, len, &tx, &vnet), 0);
	assert_int_equal(vnet.flags, 0);
	assert_int_equal(netpacket_sum(frame + 18, 20, 0), 0xffff);
	/* Behind the end, inside of the Ethernet header, not IP. */
	tx.checksum = RNDIS_CSUM_TX_TCP | 1000u << 16;
	assert_int_equal(netframe_offload(frame, len, len, &tx, &vnet), -EBADMSG);
	tx.checksum = RNDIS_CSUM_TX_TCP | 13u << 16;
	assert_int_equal(netframe_offload(frame, len, len, &tx, &vnet), -EBADMSG);
	frame[12] = 0;
	tx.checksum = RNDIS_CSUM_TX_TCP;
	assert_int_equal(netframe_offload(frame, len, len, &tx, &vnet), -EBADMSG);
	tx.checksum = RNDIS_CSUM_TX_IP_HEADER;
	assert_int_equal(netframe_offload(frame, len, len, &tx, &vnet), -EBADMSG);
}

static void tags_go_in_and_come_out(void **state)
{
	const struct netpacket p = {.payload = 10};
	uint8_t frame[100];
	uint8_t tagged[104];
	uint32_t len = netpacket_build(&p, frame);
	struct netvsp_vnet_wire vnet = {.csum_start = le16_make(34), .header_bytes = le16_make(54)};
	uint16_t tci = 0;

	(void)state;
	memcpy(tagged, frame, len);
	assert_false(netframe_is_tagged(tagged));
	assert_false(netframe_vlan_take(tagged, len, &tci));
	netframe_vlan_put(tagged, len, 0x6005, &vnet);
	assert_true(netframe_is_tagged(tagged));
	assert_memory_equal(tagged, frame, 12);
	assert_memory_equal(tagged + 12, "\x81\0\x60\5", 4);
	assert_memory_equal(tagged + 16, frame + 12, len - 12);
	assert_int_equal(le16_get(vnet.csum_start), 38);
	assert_int_equal(le16_get(vnet.header_bytes), 58);
	assert_true(netframe_vlan_take(tagged, len + 4, &tci));
	assert_int_equal(tci, 0x6005);
	assert_memory_equal(tagged + 4, frame, len);
	/* A tag that is cut off is none. */
	assert_false(netframe_vlan_take(tagged, 17, &tci));
	vnet = (struct netvsp_vnet_wire){0};
	netframe_vlan_put(tagged, len, 1, &vnet);
	assert_int_equal(le16_get(vnet.csum_start), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sums_agree_with_the_plain_one),
		cmocka_unit_test(headers_are_found),
		cmocka_unit_test(fragments_have_no_transport_header),
		cmocka_unit_test(large_sends_are_made_whole),
		cmocka_unit_test(large_sends_of_something_else_are_refused),
		cmocka_unit_test(checksums_are_asked_for_where_they_belong),
		cmocka_unit_test(tags_go_in_and_come_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
