/* SPDX-License-Identifier: Apache-2.0 */

/*
 * netvsp_hostile_test - a guest whose network driver lies. Whatever it sends, each transfer is
 * answered once or its channel stops, nothing outside of its memory is touched (ASan), and a
 * driver that starts over is served.
 */

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "hv/vsp/netvsp/netvsp.h"
#include "hv/vsp/vsp.h"
#include "tests/lib/netpacket.h"
#include "tests/lib/netvsc.h"
#include "tests/lib/test.h"

#define FILTER_UP 0xdu

static const uint8_t other_mac[6] = {0x02, 1, 2, 3, 4, 5};

static uint32_t next_random(uint32_t *seed)
{
	*seed = *seed * 1664525u + 1013904223u;
	return *seed >> 8;
}

/* The adapter works for who uses it right. */
static void expect_alive(struct netvsc *v)
{
	static struct netvsc_rx in;
	static struct netvsc_tap_frame out;
	uint8_t frame[100];
	const struct netvsc_tx tx = {.frame = frame, .len = sizeof(frame)};

	while (netvsc_tap_read(v, 0, &out)) {
	}
	netvsc_frame(frame, sizeof(frame), other_mac, netvsc_mac, 1);
	assert_int_equal(netvsc_send(v, 0, &tx), NETVSP_STATUS_SUCCESS);
	assert_true(netvsc_tap_read(v, 0, &out));
	assert_memory_equal(out.frame, frame, sizeof(frame));
	netvsc_frame(frame, sizeof(frame), netvsc_mac, other_mac, 1);
	netvsc_tap_write(v, 0, NULL, frame, sizeof(frame));
	netvsc_recv(v, 0, &in);
	assert_memory_equal(in.frame, frame, sizeof(frame));
	netvsc_give_back(v, &in);
}

/* Start over after the host stopped the channel, or because we like to. */
static void start_over(struct netvsc *v)
{
	for (uint32_t i = 0; i < v->channels; i++) {
		guest_abandon(v->chan[i]);
	}
	v->chan[0] = NULL;
	v->recv_gpadl = 0;
	guest_boot(v->guest);
	netvsc_probe(v);
	netvsc_filter(v, FILTER_UP);
	expect_alive(v);
}

static struct netvsc *up(uint32_t queues)
{
	struct netvsc *v;

	netvsc_create(&(struct netvsc_cfg){.queues = queues}, &v);
	netvsc_probe(v);
	netvsc_filter(v, FILTER_UP);
	return v;
}

static uint32_t request_status(struct netvsc *v, uint32_t type, uint32_t first, uint32_t second)
{
	struct netvsp_message m = {.type = le32_make(type)};
	struct netvsp_message answer;

	m.u.init.version_min = le32_make(first);
	m.u.init.version_max = le32_make(second);
	netvsc_request(v, &m, &answer);
	return type == NETVSP_INIT ? le32_get(answer.u.init_complete.status)
	                           : le32_get(answer.u.status);
}

static void messages_out_of_order_do_nothing(void **state)
{
	struct rndis_initialize_wire w = {
		.header = {.type = le32_make(RNDIS_INITIALIZE), .bytes = le32_make(sizeof(w))}};
	struct netvsp_message m = {.type = le32_make(NETVSP_REVOKE_RECV_BUFFER)};
	struct netvsp_message answer;
	struct netvsc *v;

	(void)state;
	netvsc_create(&(struct netvsc_cfg){.queues = 2}, &v);
	netvsc_open(v);
	assert_int_equal(netvsc_control(v, &w, sizeof(w)), NETVSP_STATUS_INVALID_RNDIS);
	assert_int_equal(request_status(v, NETVSP_SEND_RECV_BUFFER, 1, 0), NETVSP_STATUS_FAIL);
	assert_int_equal(request_status(v, NETVSP_SEND_SEND_BUFFER, 1, 0), NETVSP_STATUS_FAIL);
	assert_int_equal(request_status(v, NETVSP_SUBCHANNEL, 1, 1), NETVSP_STATUS_FAIL);
	netvsc_request(v, &m, &answer);
	m.type = le32_make(NETVSP_REVOKE_SEND_BUFFER);
	netvsc_request(v, &m, &answer);
	for (uint32_t type = 0; type < 200; type++) {
		if (type != NETVSP_INIT) {
			(void)request_status(v, type, type, UINT32_MAX);
		}
	}
	netvsc_negotiate(v);
	assert_int_equal(netvsc_control(v, &w, sizeof(w)), NETVSP_STATUS_INVALID_RNDIS);
	assert_int_equal(request_status(v, NETVSP_SUBCHANNEL, 1, 1), NETVSP_STATUS_FAIL);
	netvsc_buffers(v);
	/* Both are there already, and it is too late to talk about versions. */
	assert_int_equal(request_status(v, NETVSP_SEND_RECV_BUFFER, v->recv_gpadl, 0),
	                 NETVSP_STATUS_FAIL);
	assert_int_equal(request_status(v, NETVSP_SEND_SEND_BUFFER, v->send_gpadl, 0),
	                 NETVSP_STATUS_FAIL);
	assert_int_equal(request_status(v, NETVSP_INIT, 2, 2), NETVSP_STATUS_FAIL);
	assert_int_equal(request_status(v, NETVSP_SUBCHANNEL, 1, 1), NETVSP_STATUS_FAIL);
	netvsc_rndis_init(v);
	assert_int_equal(request_status(v, NETVSP_SUBCHANNEL, 1, 0), NETVSP_STATUS_FAIL);
	assert_int_equal(request_status(v, NETVSP_SUBCHANNEL, 2, 1), NETVSP_STATUS_FAIL);
	netvsc_sub_channels(v, 4000000000u); /* it gets one */
	assert_int_equal(v->channels, 2);
	assert_int_equal(request_status(v, NETVSP_SUBCHANNEL, 1, 1), NETVSP_STATUS_FAIL);
	netvsc_filter(v, FILTER_UP);
	expect_alive(v);
	netvsc_destroy(v);
}

static void buffers_that_are_too_small_are_refused(void **state)
{
	struct netvsc *v;
	uint64_t pfns[32];
	uint32_t id;
	uint32_t relid;

	(void)state;
	netvsc_create(NULL, &v);
	netvsc_open(v);
	netvsc_negotiate(v);
	relid = guest_chan_relid(v->chan[0]);
	guest_alloc(v->guest, 32, pfns);
	assert_int_equal(guest_gpadl_create(v->guest, relid, pfns, 1, 4096, &id), 0);
	assert_int_equal(request_status(v, NETVSP_SEND_SEND_BUFFER, id, 0), NETVSP_STATUS_FAIL);
	assert_int_equal(request_status(v, NETVSP_SEND_RECV_BUFFER, id, 0), NETVSP_STATUS_FAIL);
	guest_gpadl_teardown(v->guest, relid, id);
	assert_int_equal(guest_gpadl_create(v->guest, relid, pfns, 32, 32 * 4096 - 1, &id), 0);
	assert_int_equal(request_status(v, NETVSP_SEND_RECV_BUFFER, id, 0), NETVSP_STATUS_FAIL);
	guest_gpadl_teardown(v->guest, relid, id);
	/* The ring's own pages, of all things. */
	assert_int_equal(
		request_status(v, NETVSP_SEND_SEND_BUFFER, guest_chan_gpadl(v->chan[0]), 0),
		NETVSP_STATUS_SUCCESS);
	start_over(v);
	netvsc_destroy(v);
}

/* A data transfer that names a section and nothing else. */
static uint32_t section_status(struct netvsc *v, uint32_t section, uint32_t bytes)
{
	struct netvsp_message m = {.type = le32_make(NETVSP_SEND_RNDIS_PACKET)};
	struct netvsp_message answer;

	m.u.rndis.section = le32_make(section);
	m.u.rndis.section_bytes = le32_make(bytes);
	netvsc_request(v, &m, &answer);
	return le32_get(answer.u.status);
}

static void sections_outside_of_the_buffer_are_refused(void **state)
{
	struct netvsc *v = up(1);

	(void)state;
	assert_int_equal(section_status(v, v->sections, 100), NETVSP_STATUS_INVALID_RNDIS);
	assert_int_equal(section_status(v, 0xfffffffe, 100), NETVSP_STATUS_INVALID_RNDIS);
	assert_int_equal(section_status(v, 0, 6145), NETVSP_STATUS_INVALID_RNDIS);
	assert_int_equal(section_status(v, 0, UINT32_MAX), NETVSP_STATUS_INVALID_RNDIS);
	assert_int_equal(section_status(v, 0, 0), NETVSP_STATUS_INVALID_RNDIS);
	assert_int_equal(section_status(v, NETVSP_NO_SECTION, 100), NETVSP_STATUS_INVALID_RNDIS);
	for (uint32_t i = 0; i < v->sections; i++) { /* zeros are no message */
		assert_int_equal(section_status(v, i, 6144), NETVSP_STATUS_INVALID_RNDIS);
	}
	expect_alive(v);
	netvsc_destroy(v);
}

static void ranges_outside_of_memory_are_refused(void **state)
{
	static const uint64_t pfns[] = {1u << 30, UINT64_MAX, UINT64_MAX >> 12, 0xfffff, 300};
	struct netvsc *v = up(1);
	struct netvsp_message m = {.type = le32_make(NETVSP_SEND_RNDIS_PACKET)};

	(void)state;
	m.u.rndis.section = le32_make(NETVSP_NO_SECTION);
	for (size_t i = 0; i < ARRAY_LEN(pfns); i++) {
		struct guest_range range = {.pfns = &pfns[i], .len_bytes = 100};

		for (uint32_t type = 0; type < 3; type++) {
			m.u.rndis.channel_type = le32_make(type);
			assert_int_equal(guest_send_gpa(v->chan[0], VMBUS_PACKET_WANTS_COMPLETION,
			                                ++v->next_id, &range, 1, &m, sizeof(m)),
			                 0);
			assert_int_equal(netvsc_done_wait(v, v->next_id),
			                 NETVSP_STATUS_INVALID_RNDIS);
		}
	}

	/* More pieces than we take: pages that are no neighbours. */
	static uint64_t many[200];
	static struct guest_range ranges[200];

	for (uint32_t i = 0; i < 200; i++) {
		many[i] = v->tx_pfns[i % 2 * 5];
		ranges[i] = (struct guest_range){.pfns = &many[i], .len_bytes = 64};
	}
	m.u.rndis.channel_type = le32_make(0);
	assert_int_equal(guest_send_gpa(v->chan[0], VMBUS_PACKET_WANTS_COMPLETION, ++v->next_id,
	                                ranges, 200, &m, sizeof(m)),
	                 0);
	assert_int_equal(netvsc_done_wait(v, v->next_id), NETVSP_STATUS_INVALID_RNDIS);
	expect_alive(v);
	netvsc_destroy(v);
}

static void damaged_transfers_are_answered_once(void **state)
{
	static uint8_t golden[8192];
	static uint8_t buf[8192];
	static uint8_t frame[3000];
	static struct netvsc_tap_frame out;
	const struct netpacket p = {
		.payload = 2000, .from = {0x00, 0x15, 0x5d, 0x01, 0x02, 0x03}, .to = {2}};
	struct netvsc_tx tx = {
		.frame = frame,
		.ppi = {{RNDIS_PPI_VLAN, 0x50},
	                {RNDIS_PPI_CHECKSUM, 5 | 34u << 16},
	                {RNDIS_PPI_LSO, 1000 | 34u << 20 | RNDIS_LSO_V2}},
		.ppi_count = 3,
	};
	struct netvsc *v = up(1);
	uint32_t seed = 3;
	uint32_t len;
	uint32_t good = 0;

	(void)state;
	tx.len = netpacket_build(&p, frame);
	len = netvsc_message(&tx, golden);
	for (uint32_t i = 0; i < 4000; i++) {
		uint32_t n = i % 3 == 0 ? next_random(&seed) % (len + 1) : len;
		uint32_t flips = next_random(&seed) % 4 + 1;

		memcpy(buf, golden, len);
		for (uint32_t f = 0; f < flips; f++) {
			uint32_t at = next_random(&seed) % (i % 2 == 0 ? 92 : 160);

			buf[at] = next_random(&seed) % 3 == 0 ? 0xff : (uint8_t)next_random(&seed);
		}
		if (n != 0) {
			uint32_t status =
				netvsc_done_wait(v, netvsc_send_raw(v, 0, buf, n, i % 5 == 0));

			assert_true(status == NETVSP_STATUS_SUCCESS ||
			            status == NETVSP_STATUS_INVALID_RNDIS);
		}
		while (netvsc_tap_read(v, 0, &out)) {
			/* What leaves is no more than the guest sent, and of its address. */
			assert_true(out.len <= len + 4);
			assert_memory_equal(out.frame + 6, netvsc_mac, 6);
			assert_true(le16_get(out.vnet.csum_start) + le16_get(out.vnet.csum_offset) <
			            out.len);
			good++;
		}
	}
	assert_true(good > 100); /* it was not all refused for one reason */
	expect_alive(v);
	netvsc_destroy(v);
}

static void damaged_requests_do_not_stop_the_adapter(void **state)
{
	struct netvsc *v = up(2);
	uint32_t seed = 5;
	uint8_t golden[660] = {0};
	const struct rndis_request_wire w = {
		.header = {.type = le32_make(RNDIS_SET), .bytes = le32_make(620)},
		.info_bytes = le32_make(592),
		.info_offset = le32_make(20),
	};
	static const uint32_t oids[] = {RNDIS_OID_RSS_PARAMETERS, RNDIS_OID_CONFIG_PARAMETER,
	                                RNDIS_OID_OFFLOAD_PARAMETERS, RNDIS_OID_PACKET_FILTER,
	                                RNDIS_OID_MULTICAST_LIST};

	(void)state;
	memcpy(golden, &w, sizeof(w));
	for (uint32_t i = 0; i < 4000; i++) {
		uint8_t buf[660];
		uint32_t len = i % 4 == 0 ? next_random(&seed) % 620 + 1 : 620;
		le32 oid = le32_make(oids[i % ARRAY_LEN(oids)]);

		memcpy(buf, golden, sizeof(buf));
		memcpy(buf + 12, &oid, sizeof(oid));
		buf[0] = (uint8_t)(next_random(&seed) % 10);
		for (uint32_t f = next_random(&seed) % 6; f != 0; f--) {
			uint32_t at = next_random(&seed) % (f % 2 == 0 ? 100 : 28);

			buf[at] = next_random(&seed) % 3 == 0 ? 0xff : (uint8_t)next_random(&seed);
		}
		assert_int_not_equal(netvsc_control(v, buf, len), 0);
	}
	/* Longer than any. */
	static uint8_t large[5000];

	assert_int_equal(netvsc_control(v, large, 4097), NETVSP_STATUS_INVALID_RNDIS);
	netvsc_rndis_init(v);
	netvsc_filter(v, FILTER_UP);
	expect_alive(v);
	netvsc_destroy(v);
}

static void what_was_not_lent_cannot_be_returned(void **state)
{
	static struct netvsc_rx in;
	static struct netvsc_rx more;
	struct netvsc *v = up(1);
	struct netvsp_stats stats;
	uint8_t frame[60];

	(void)state;
	netvsc_frame(frame, 60, netvsc_mac, other_mac, 1);
	netvsc_tap_write(v, 0, NULL, frame, 60);
	netvsc_recv(v, 0, &in);
	netvsc_give_back(v, &in);
	netvsc_give_back(v, &in); /* twice */
	netvsc_give_back_id(v, 0, 0);
	netvsc_give_back_id(v, 0, 1000000);
	netvsc_give_back_id(v, 0, UINT64_MAX);
	for (uint32_t i = 0; i < 2 * v->slots; i++) {
		netvsc_give_back_id(v, 0, i);
		if (i % 16 == 15) {
			guest_settle(v->guest);
		}
	}
	guest_settle(v->guest);
	netvsp_stats(v->vsp, &stats);
	assert_int_equal(stats.bad_completions, 4 + 2 * v->slots);
	/* Each slot is still lent once at a time. */
	netvsc_tap_write(v, 0, NULL, frame, 60);
	netvsc_recv(v, 0, &in);
	netvsc_tap_write(v, 0, NULL, frame, 60);
	netvsc_recv(v, 0, &more);
	assert_true(in.transaction_id != more.transaction_id);
	netvsc_give_back(v, &in);
	netvsc_give_back(v, &more);
	expect_alive(v);
	netvsc_destroy(v);
}

static void a_sub_channel_is_for_data_only(void **state)
{
	struct netvsc *v = up(2);
	struct netvsp_message m = {.type = le32_make(NETVSP_REVOKE_RECV_BUFFER)};
	struct rndis_header_wire w = {.type = le32_make(RNDIS_HALT), .bytes = le32_make(12)};
	uint8_t halt[12] = {0};
	uint64_t id;
	static struct netvsc_rx in;
	uint8_t frame[60];

	(void)state;
	memcpy(halt, &w, sizeof(w));
	for (uint32_t type = 0; type < 140; type++) {
		m.type = le32_make(type);
		if (type == NETVSP_SEND_RNDIS_PACKET) {
			m.u.rndis.channel_type = le32_make(NETVSP_CHANNEL_CONTROL);
			m.u.rndis.section = le32_make(0);
			m.u.rndis.section_bytes = le32_make(sizeof(halt));
			guest_pages_write(v->guest, v->send_pfns, 0, halt, sizeof(halt));
		}
		id = ++v->next_id;
		guest_send_wait(v->chan[1], VMBUS_PACKET_INBAND, VMBUS_PACKET_WANTS_COMPLETION, id,
		                &m, sizeof(m));
		guest_settle(v->guest);
		netvsc_pump(v);
		assert_int_equal(v->done_count, 1);
		assert_int_equal(v->done[0].id, id);
		v->done_count = 0;
	}
	/* Transactions of one channel are not returned on another. */
	netvsc_frame(frame, 60, netvsc_mac, other_mac, 1);
	netvsc_tap_write(v, 0, NULL, frame, 60);
	netvsc_recv(v, 0, &in);
	netvsc_give_back_id(v, 1, in.transaction_id);
	netvsc_give_back(v, &in);
	guest_settle(v->guest);

	struct netvsp_stats stats;

	netvsp_stats(v->vsp, &stats);
	assert_int_equal(stats.bad_completions, 1);
	expect_alive(v);
	netvsc_destroy(v);
}

/* A guest that asks and asks and gives nothing back. */
static void a_flood_of_requests_is_answered_with_busy(void **state)
{
	const struct rndis_set_complete_wire keepalive = {
		.header = {.type = le32_make(RNDIS_KEEPALIVE), .bytes = le32_make(12)}};
	struct netvsc *v;
	uint32_t taken = 0;
	uint64_t first;

	(void)state;
	netvsc_create(&(struct netvsc_cfg){.recv_pages = 32, .no_rsc = true}, &v);
	netvsc_probe(v);
	netvsc_filter(v, FILTER_UP);
	v->hold = true;
	while (netvsc_control(v, &keepalive, 12) == NETVSP_STATUS_SUCCESS) {
		taken++;
	}
	assert_int_equal(taken, v->slots + 16);
	assert_int_equal(netvsc_control(v, &keepalive, 12), NETVSP_STATUS_BUSY);
	v->hold = false;
	first = 1;
	for (uint32_t i = 0; i < v->slots; i++) {
		netvsc_give_back_id(v, 0, first + i);
	}
	guest_settle(v->guest);
	netvsc_pump(v);
	expect_alive(v);
	netvsc_destroy(v);
}

static void broken_packets_stop_the_channel_only(void **state)
{
	static const uint16_t types[] = {VMBUS_PACKET_TRANSFER_PAGES, 8, 10, 0, 0xffff};
	struct netvsc *v = up(1);
	uint8_t message[40] = {107};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(types); i++) {
		assert_int_equal(guest_send(v->chan[0], types[i], 0, 1, message, sizeof(message)),
		                 0);
		guest_settle(v->guest);
		start_over(v);
	}
	assert_int_equal(guest_send(v->chan[0], VMBUS_PACKET_INBAND, 1, 1, message, 3), 0);
	guest_settle(v->guest);
	/* Padded to 8 in the ring: a type is there, but no body. */
	start_over(v);
	assert_int_equal(guest_send(v->chan[0], VMBUS_PACKET_INBAND, 1, 1, message, 8), 0);
	guest_settle(v->guest);
	start_over(v);
	netvsc_destroy(v);
}

#ifndef __SANITIZE_THREAD__ /* guests race by their nature */

struct racer {
	_Atomic bool stop;
	uint8_t *page; /* of the guest */
};

/* Changes lengths and offsets of a message back and forth. */
static void *racer_run(void *arg)
{
	struct racer *r = arg;
	uint32_t seed = 9;

	while (!atomic_load(&r->stop)) {
		uint8_t *at = r->page + 100 + next_random(&seed) % 92;
		uint8_t was = *(volatile uint8_t *)at;

		*(volatile uint8_t *)at = (uint8_t)next_random(&seed);
		*(volatile uint8_t *)at = was;
	}
	return NULL;
}

static void packets_that_change_while_they_are_read_are_harmless(void **state)
{
	static uint8_t buf[8192];
	static uint8_t frame[3000];
	static struct netvsc_tap_frame out;
	const struct netpacket p = {
		.payload = 2000, .from = {0x00, 0x15, 0x5d, 0x01, 0x02, 0x03}, .to = {2}};
	struct netvsc_tx tx = {
		.frame = frame,
		.ppi = {{RNDIS_PPI_LSO, 1000 | 34u << 20 | RNDIS_LSO_V2}},
		.ppi_count = 1,
	};
	struct netvsc *v = up(1);
	struct racer r = {.page = guest_ptr(v->guest, v->tx_pfns[0] * 4096, 4096)};
	pthread_t thread;

	(void)state;
	tx.len = netpacket_build(&p, frame);
	assert_int_equal(pthread_create(&thread, NULL, racer_run, &r), 0);
	for (uint32_t i = 0; i < 3000; i++) {
		(void)netvsc_done_wait(v,
		                       netvsc_send_raw(v, 0, buf, netvsc_message(&tx, buf), false));
		while (netvsc_tap_read(v, 0, &out)) {
			assert_memory_equal(out.frame + 6, netvsc_mac, 6);
		}
	}
	atomic_store(&r.stop, true);
	(void)pthread_join(thread, NULL);
	expect_alive(v);
	netvsc_destroy(v);
}
#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(messages_out_of_order_do_nothing),
		cmocka_unit_test(buffers_that_are_too_small_are_refused),
		cmocka_unit_test(sections_outside_of_the_buffer_are_refused),
		cmocka_unit_test(ranges_outside_of_memory_are_refused),
		cmocka_unit_test(damaged_transfers_are_answered_once),
		cmocka_unit_test(damaged_requests_do_not_stop_the_adapter),
		cmocka_unit_test(what_was_not_lent_cannot_be_returned),
		cmocka_unit_test(a_sub_channel_is_for_data_only),
		cmocka_unit_test(a_flood_of_requests_is_answered_with_busy),
		cmocka_unit_test(broken_packets_stop_the_channel_only),
#ifndef __SANITIZE_THREAD__
		cmocka_unit_test(packets_that_change_while_they_are_read_are_harmless),
#endif
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
