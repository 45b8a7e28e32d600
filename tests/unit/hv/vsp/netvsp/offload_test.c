/* SPDX-License-Identifier: Apache-2.0 */

/* offload_test - checksums, large frames both ways, VLANs, several queues: through the rings. */

#include <string.h>

#include "hv/vsp/netvsp/netframe.h"
#include "hv/vsp/netvsp/netvsp.h"
#include "hv/vsp/vsp.h"
#include "tests/lib/netpacket.h"
#include "tests/lib/netvsc.h"
#include "tests/lib/test.h"

#define FILTER_UP 0xdu

static const uint8_t other_mac[6] = {0x02, 1, 2, 3, 4, 5};

/* A packet to the guest. */
static struct netpacket to_guest(uint32_t payload)
{
	struct netpacket p = {.payload = payload};

	memcpy(p.to, netvsc_mac, 6);
	memcpy(p.from, other_mac, 6);
	return p;
}

static struct netpacket from_guest(uint32_t payload)
{
	struct netpacket p = {.payload = payload};

	memcpy(p.to, other_mac, 6);
	memcpy(p.from, netvsc_mac, 6);
	return p;
}

static void a_large_send_reaches_the_tap_whole(void **state)
{
	static uint8_t frame[70000];
	static struct netvsc_tap_frame out;
	struct netvsp_stats stats;
	struct netvsc *v;

	(void)state;
	netvsc_create(&(struct netvsc_cfg){.guest = {.scatter = true}}, &v);
	netvsc_probe(v);
	for (int ip6 = 0; ip6 < 2; ip6++) {
		struct netpacket p = from_guest(60000);
		uint32_t l4 = ip6 ? 54 : 34;
		uint32_t len;
		struct netvsc_tx tx = {
			.frame = frame,
			.ppi = {{RNDIS_PPI_LSO,
		                 1448 | l4 << 20 | RNDIS_LSO_V2 | (ip6 ? RNDIS_LSO_IPV6 : 0)}},
			.ppi_count = 1,
		};

		p.ip6 = ip6;
		p.tcp_options = 12;
		len = netpacket_build(&p, frame);
		tx.len = len;
		assert_int_equal(netvsc_send(v, 0, &tx), NETVSP_STATUS_SUCCESS);
		assert_true(netvsc_tap_read(v, 0, &out));
		assert_int_equal(out.len, len);
		assert_int_equal(out.vnet.gso_type,
		                 ip6 ? NETVSP_VNET_GSO_TCPV6 : NETVSP_VNET_GSO_TCPV4);
		assert_int_equal(le16_get(out.vnet.gso_bytes), 1448);
		netpacket_pseudo_put(frame, 14, l4, len);
		assert_memory_equal(out.frame, frame, len);
	}
	netvsp_stats(v->vsp, &stats);
	assert_int_equal(stats.tx_large, 2);
	netvsc_destroy(v);
}

static void a_checksum_is_left_to_the_tap(void **state)
{
	uint8_t frame[400];
	static struct netvsc_tap_frame out;
	struct netpacket p = from_guest(100);
	uint32_t len = netpacket_build(&p, frame);
	struct netvsc_tx tx = {
		.frame = frame,
		.len = len,
		.ppi = {{RNDIS_PPI_VLAN, 7u << 4 | 3}, {RNDIS_PPI_CHECKSUM, 5 | 34u << 16}},
		.ppi_count = 2,
	};
	struct netvsc *v;

	(void)state;
	netvsc_create(&(struct netvsc_cfg){0}, &v);
	netvsc_probe(v);
	assert_int_equal(netvsc_send(v, 0, &tx), NETVSP_STATUS_SUCCESS);
	assert_true(netvsc_tap_read(v, 0, &out));
	assert_int_equal(out.len, len + 4);
	assert_memory_equal(out.frame + 12, "\x81\0\x60\7", 4);
	assert_memory_equal(out.frame + 16, frame + 12, len - 12);
	assert_int_equal(out.vnet.flags, NETVSP_VNET_NEEDS_CSUM);
	assert_int_equal(le16_get(out.vnet.csum_start), 38);
	netvsc_destroy(v);
}

static void open_checksums_are_closed_for_the_guest(void **state)
{
	static uint8_t frame[1600];
	static struct netvsc_rx in;
	struct netvsc *v;

	(void)state;
	netvsc_create(&(struct netvsc_cfg){.guest = {.scatter = true}}, &v);
	netvsc_probe(v);
	netvsc_filter(v, FILTER_UP);
	assert_true(netvsc_tap_state(v)->checksum);
	for (uint32_t payload = 0; payload < 1400; payload += 33) {
		struct netpacket p = to_guest(payload);
		struct netvsp_vnet_wire vnet = {.flags = NETVSP_VNET_NEEDS_CSUM};
		uint32_t l4;
		uint32_t len;

		p.ip6 = payload % 2 != 0;
		p.udp = payload % 4 < 2;
		p.tags = payload % 3 == 0;
		len = netpacket_build(&p, frame);
		l4 = 14 + 4 * p.tags + (p.ip6 ? 40 : 20);
		netpacket_pseudo_put(frame, 14 + 4 * p.tags, l4, len);
		vnet.csum_start = le16_make((uint16_t)l4);
		vnet.csum_offset = le16_make(p.udp ? 6 : 16);
		netvsc_tap_write(v, 0, &vnet, frame, len);
		netvsc_recv(v, 0, &in);
		assert_int_equal(in.len, len - 4 * p.tags);
		assert_true(netpacket_ok(in.frame, in.len));
		assert_int_equal(in.checksum, p.udp ? RNDIS_CSUM_RX_UDP_OK : RNDIS_CSUM_RX_TCP_OK);
		assert_int_equal(in.has_vlan, p.tags != 0);
		assert_true(!in.has_vlan || in.vlan == 100u << 4);
		netvsc_give_back(v, &in);
	}
	netvsc_destroy(v);
}

static void the_kernels_verdict_is_passed_on_if_wanted(void **state)
{
	uint8_t frame[400];
	static struct netvsc_rx in;
	struct netpacket p = to_guest(100);
	const struct netvsp_vnet_wire vnet = {.flags = NETVSP_VNET_DATA_VALID};
	uint8_t off[28] = {0x80, 3, 28, 0, 0, 1, 1, 1, 1};
	struct netvsc *v;
	uint32_t len = netpacket_build(&p, frame);

	(void)state;
	netvsc_create(&(struct netvsc_cfg){0}, &v);
	netvsc_probe(v);
	netvsc_filter(v, FILTER_UP);
	netvsc_tap_write(v, 0, &vnet, frame, len);
	netvsc_recv(v, 0, &in);
	assert_int_equal(in.checksum, RNDIS_CSUM_RX_TCP_OK);
	netvsc_give_back(v, &in);
	assert_int_equal(netvsc_set(v, RNDIS_OID_OFFLOAD_PARAMETERS, off, sizeof(off)), 0);
	assert_true(netvsc_tap_state(v)->checksum); /* for RSC, which is still on */
	off[22] = 1;
	off[23] = 1;
	assert_int_equal(netvsc_set(v, RNDIS_OID_OFFLOAD_PARAMETERS, off, sizeof(off)), 0);
	assert_false(netvsc_tap_state(v)->checksum);
	netvsc_tap_write(v, 0, &vnet, frame, len);
	netvsc_recv(v, 0, &in);
	assert_int_equal(in.checksum, 0);
	netvsc_give_back(v, &in);
	netvsc_destroy(v);
}

static void large_frames_come_in_several_slots(void **state)
{
	static const uint32_t payloads[] = {2000, 1882, 1883, 5000, 40000, 65000};
	static uint8_t frame[70000];
	static struct netvsc_rx in;
	struct netvsp_stats stats;
	struct netvsc *v;

	(void)state;
	netvsc_create(&(struct netvsc_cfg){.guest = {.scatter = true}}, &v);
	netvsc_probe(v);
	netvsc_filter(v, FILTER_UP);
	assert_true(netvsc_tap_state(v)->tso4 && netvsc_tap_state(v)->tso6);
	for (size_t i = 0; i < ARRAY_LEN(payloads); i++) {
		struct netpacket p = to_guest(payloads[i]);
		struct netvsp_vnet_wire vnet = {
			.flags = NETVSP_VNET_NEEDS_CSUM,
			.gso_type = NETVSP_VNET_GSO_TCPV4,
			.gso_bytes = le16_make(1448),
			.csum_start = le16_make(34),
			.csum_offset = le16_make(16),
		};
		uint32_t len = netpacket_build(&p, frame);

		/* A small one behind it in the same turn. */
		netvsc_tap_write(v, 0, &vnet, frame, len);
		netvsc_tap_write(v, 0, NULL, frame, 60);
		netvsc_recv(v, 0, &in);
		assert_int_equal(in.len, len);
		assert_int_equal(in.parts, (len + 2048 - 112 - 1) / (2048 - 112));
		assert_memory_equal(in.frame, frame, len);
		assert_int_equal(in.checksum, RNDIS_CSUM_RX_TCP_OK);
		netvsc_give_back(v, &in);
		netvsc_recv(v, 0, &in);
		assert_int_equal(in.len, 60);
		assert_int_equal(in.parts, 1);
		netvsc_give_back(v, &in);
	}
	netvsp_stats(v->vsp, &stats);
	assert_int_equal(stats.rx_large, ARRAY_LEN(payloads));
	/* A flood of them: the guest's slots come back all the same. */
	for (uint32_t i = 0; i < 200; i++) {
		struct netpacket p = to_guest(60000);
		const struct netvsp_vnet_wire vnet = {.gso_type = NETVSP_VNET_GSO_TCPV4};
		uint32_t len = netpacket_build(&p, frame);

		netvsc_tap_write(v, 0, &vnet, frame, len);
		netvsc_recv(v, 0, &in);
		assert_memory_equal(in.frame, frame, len);
		netvsc_give_back(v, &in);
	}
	netvsc_destroy(v);
}

static void who_cannot_coalesce_gets_no_large_frames(void **state)
{
	static const struct netvsc_cfg cases[] = {
		{.version_max = NETVSP_VERSION_6},
		{.no_rsc = true},
		{.recv_pages = 40}, /* 80 slots */
		{.queues = 8},      /* 512 slots for eight queues are too few, too */
	};
	static uint8_t frame[5000];
	static struct netvsc_rx in;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct netpacket p = to_guest(4000);
		const struct netvsp_vnet_wire vnet = {.gso_type = NETVSP_VNET_GSO_TCPV4};
		struct netvsp_stats stats;
		struct netvsc *v;
		uint32_t len = netpacket_build(&p, frame);

		netvsc_create(&cases[i], &v);
		netvsc_probe(v);
		netvsc_offloads(v, true); /* though it was told that there is none */
		netvsc_filter(v, FILTER_UP);
		assert_false(netvsc_tap_state(v)->tso4 || netvsc_tap_state(v)->tso6);
		netvsc_tap_write(v, 0, &vnet, frame, len);
		assert_false(netvsc_recv_now(v, NETVSC_CHANNELS_MAX, &in));
		netvsp_stats(v->vsp, &stats);
		assert_int_equal(stats.rx_dropped, 1);
		netvsc_destroy(v);
	}
}

static void frames_too_long_for_the_mtu_are_not_received(void **state)
{
	static uint8_t frame[1600];
	static struct netvsc_rx in;
	struct netvsp_stats stats;
	struct netvsc *v;

	(void)state;
	netvsc_create(&(struct netvsc_cfg){0}, &v);
	netvsc_probe(v);
	netvsc_filter(v, FILTER_UP);
	netvsc_frame(frame, sizeof(frame), netvsc_mac, other_mac, 1);
	netvsc_tap_write(v, 0, NULL, frame, 1523);
	netvsc_tap_write(v, 0, NULL, frame, 13); /* not even addresses */
	netvsc_tap_write(v, 0, NULL, frame, 1522);
	netvsc_recv(v, 0, &in);
	assert_int_equal(in.len, 1522);
	netvsc_give_back(v, &in);
	netvsp_stats(v->vsp, &stats);
	assert_int_equal(stats.rx_dropped, 2);
	netvsc_destroy(v);
}

static void an_access_vlan_is_all_the_guest_sees(void **state)
{
	uint8_t frame[400];
	static struct netvsc_tap_frame out;
	static struct netvsc_rx in;
	struct netpacket p = from_guest(50);
	struct netvsc_tx tx = {.frame = frame};
	struct netvsp_stats stats;
	struct netvsc *v;

	(void)state;
	netvsc_create(&(struct netvsc_cfg){.vlan = 100}, &v);
	netvsc_probe(v);
	netvsc_filter(v, FILTER_UP);
	tx.len = netpacket_build(&p, frame);
	assert_int_equal(netvsc_send(v, 0, &tx), NETVSP_STATUS_SUCCESS);
	assert_true(netvsc_tap_read(v, 0, &out));
	assert_int_equal(out.len, tx.len + 4);
	assert_memory_equal(out.frame + 12, "\x81\0\0\144", 4);
	/* A priority tag stays one. */
	tx.ppi[0] = (struct netvsc_ppi){RNDIS_PPI_VLAN, 5};
	tx.ppi_count = 1;
	assert_int_equal(netvsc_send(v, 0, &tx), NETVSP_STATUS_SUCCESS);
	assert_true(netvsc_tap_read(v, 0, &out));
	assert_memory_equal(out.frame + 12, "\x81\0\xa0\144", 4);
	/* Tags of its own do not pass, in whatever form. */
	tx.ppi[0].value = 7u << 4;
	assert_int_equal(netvsc_send(v, 0, &tx), NETVSP_STATUS_SUCCESS);
	tx.ppi_count = 0;
	p.tags = 1;
	tx.len = netpacket_build(&p, frame);
	assert_int_equal(netvsc_send(v, 0, &tx), NETVSP_STATUS_SUCCESS);
	assert_false(netvsc_tap_read(v, 0, &out));
	netvsp_stats(v->vsp, &stats);
	assert_int_equal(stats.tx_spoofed, 2);

	p = to_guest(50);
	p.tags = 1; /* number 100 */
	netvsc_tap_write(v, 0, NULL, frame, netpacket_build(&p, frame));
	netvsc_recv(v, 0, &in);
	assert_false(in.has_vlan);
	p.tags = 0;
	assert_int_equal(in.len, netpacket_build(&p, frame));
	assert_memory_equal(in.frame, frame, in.len);
	netvsc_give_back(v, &in);
	netvsc_tap_write(v, 0, NULL, frame, in.len); /* untagged */
	p.tags = 1;
	(void)netpacket_build(&p, frame);
	frame[15] = 101;
	netvsc_tap_write(v, 0, NULL, frame, in.len + 4); /* another */
	assert_false(netvsc_recv_now(v, 0, &in));
	netvsc_destroy(v);
}

static void each_queue_serves_its_channel(void **state)
{
	static struct netvsc_rx in;
	static struct netvsc_tap_frame out;
	uint8_t frame[60];
	const struct netvsc_tx tx = {.frame = frame, .len = 60};
	struct ndis_rss_parameters_wire off = {.object.type = 0x89,
	                                       .flags = le16_make(NDIS_RSS_DISABLE)};
	struct netvsc *v;

	(void)state;
	netvsc_create(&(struct netvsc_cfg){.queues = 4, .guest = {.vp_count = 4}}, &v);
	netvsc_probe(v);
	netvsc_filter(v, FILTER_UP);
	assert_int_equal(v->channels, 4);
	guest_settle(v->guest);
	netvsc_pump(v);
	assert_true(v->has_table);
	for (uint32_t i = 0; i < 16; i++) {
		assert_int_equal(v->table[i], i % 4);
	}
	for (uint32_t i = 0; i < 4; i++) {
		netvsc_frame(frame, 60, other_mac, netvsc_mac, i);
		assert_int_equal(netvsc_send(v, i, &tx), NETVSP_STATUS_SUCCESS);
		for (uint32_t q = 0; q < 4; q++) {
			assert_int_equal(netvsc_tap_read(v, q, &out), q == i);
		}
		netvsc_frame(frame, 60, netvsc_mac, other_mac, i);
		netvsc_tap_write(v, i, NULL, frame, 60);
		netvsc_recv(v, NETVSC_CHANNELS_MAX, &in);
		assert_int_equal(in.channel, i);
		netvsc_give_back(v, &in);
	}
	/* Without RSS the primary channel gets all. */
	assert_int_equal(netvsc_set(v, RNDIS_OID_RSS_PARAMETERS, &off, sizeof(off)), 0);
	netvsc_tap_write(v, 3, NULL, frame, 60);
	netvsc_recv(v, NETVSC_CHANNELS_MAX, &in);
	assert_int_equal(in.channel, 0);
	netvsc_give_back(v, &in);
	netvsc_destroy(v);
}

static void the_address_changes_only_if_allowed(void **state)
{
	static const uint8_t changed[6] = {0x02, 0x99, 0, 0, 0, 1};
	static const char text[] = "029900000001";
	static const char name[] = "NetworkAddress";
	uint8_t buf[72] = {0};
	const struct ndis_config_wire w = {.name_offset = le32_make(20),
	                                   .name_bytes = le32_make(28),
	                                   .type = le32_make(2),
	                                   .value_offset = le32_make(48),
	                                   .value_bytes = le32_make(24)};

	(void)state;
	memcpy(buf, &w, sizeof(w));
	for (size_t i = 0; i < 14; i++) {
		buf[20 + 2 * i] = (uint8_t)name[i];
	}
	for (size_t i = 0; i < 12; i++) {
		buf[48 + 2 * i] = (uint8_t)text[i];
	}
	for (int spoofing = 0; spoofing < 2; spoofing++) {
		static struct netvsc_rx in;
		uint8_t frame[60];
		uint8_t mac[6];
		struct netvsc *v;

		netvsc_create(&(struct netvsc_cfg){.spoofing = spoofing == 1}, &v);
		netvsc_probe(v);
		netvsc_filter(v, FILTER_UP);
		assert_int_equal(netvsc_set(v, RNDIS_OID_CONFIG_PARAMETER, buf, sizeof(buf)),
		                 spoofing ? RNDIS_STATUS_SUCCESS : RNDIS_STATUS_FAILURE);
		netvsp_mac(v->vsp, mac);
		assert_memory_equal(mac, spoofing ? changed : netvsc_mac, 6);
		netvsc_frame(frame, 60, changed, other_mac, 1);
		netvsc_tap_write(v, 0, NULL, frame, 60);
		assert_int_equal(netvsc_recv_now(v, 0, &in), spoofing);
		if (spoofing) {
			netvsc_give_back(v, &in);
		}
		netvsc_close(v); /* and the permanent one is back */
		netvsp_mac(v->vsp, mac);
		assert_memory_equal(mac, netvsc_mac, 6);
		netvsc_destroy(v);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_large_send_reaches_the_tap_whole),
		cmocka_unit_test(a_checksum_is_left_to_the_tap),
		cmocka_unit_test(open_checksums_are_closed_for_the_guest),
		cmocka_unit_test(the_kernels_verdict_is_passed_on_if_wanted),
		cmocka_unit_test(large_frames_come_in_several_slots),
		cmocka_unit_test(who_cannot_coalesce_gets_no_large_frames),
		cmocka_unit_test(frames_too_long_for_the_mtu_are_not_received),
		cmocka_unit_test(an_access_vlan_is_all_the_guest_sees),
		cmocka_unit_test(each_queue_serves_its_channel),
		cmocka_unit_test(the_address_changes_only_if_allowed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
