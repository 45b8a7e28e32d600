/* SPDX-License-Identifier: Apache-2.0 */

/* Packets both ways over open channels, on every kind of memory and both backends of the ring. */

#include <errno.h>
#include <string.h>

#include "hv/mem/gmem.h"
#include "hv/vmbus/vmbus.h"
#include "tests/lib/test.h"
#include "tests/lib/vmbus_echo.h"
#include "tests/lib/vmbus_guest.h"

/* Deterministic numbers: the test must do the same each time. */
static uint32_t next_random(uint32_t *seed)
{
	*seed = *seed * 1664525u + 1013904223u;
	return *seed >> 8;
}

static uint32_t fill(uint8_t *buf, uint64_t id)
{
	uint32_t seed = (uint32_t)id * 2654435761u + 1;
	uint32_t len = next_random(&seed) % 3000;

	for (uint32_t i = 0; i < len; i++) {
		buf[i] = (uint8_t)next_random(&seed);
	}
	return len;
}

static void expect_packet(const struct vmbus_packet *pkt, uint16_t type)
{
	uint8_t want[4096];
	uint32_t len = fill(want, pkt->transaction_id);

	assert_int_equal(pkt->type, type);
	assert_int_equal(pkt->payload_bytes, (len + 7) / 8 * 8);
	assert_memory_equal(pkt->payload, want, len);
}

/*
 * Ping-pong of many packets of random sizes, the guest stuffing its ring as full as it gets
 * before it reads answers; every answer must come back once.
 */
static void run_traffic(const struct guest_cfg *cfg, const struct echo_cfg *echo_cfg,
                        uint32_t ring_pages)
{
	enum { PACKETS = 3000 };
	static uint8_t seen[PACKETS];
	static uint8_t buf[VMBUS_PACKET_BYTES_MAX];
	struct guest *g;
	struct guest_chan *c;
	struct echo *e;
	uint32_t sent = 0;
	uint32_t got = 0;
	uint32_t seed = 7;

	memset(seen, 0, sizeof(seen));
	guest_create(cfg, &g);
	assert_int_equal(echo_create(guest_env(g), echo_cfg, &e), 0);
	guest_boot(g);
	assert_int_equal(
		guest_open(g, guest_offer_find(g, &echo_interface, 0), ring_pages, ring_pages, &c),
		0);
	while (got < PACKETS) {
		uint32_t burst = next_random(&seed) % 40;

		for (uint32_t i = 0; i < burst && sent < PACKETS; i++) {
			uint32_t len = fill(buf, sent);
			int err = guest_send(c, VMBUS_PACKET_INBAND, VMBUS_PACKET_WANTS_COMPLETION,
			                     sent, buf, len);

			if (err == -EAGAIN) {
				break;
			}
			assert_int_equal(err, 0);
			sent++;
		}
		if (next_random(&seed) % 4 == 0 && sent < PACKETS) {
			guest_step(g, 0);
			continue;
		}
		for (uint32_t limit = next_random(&seed) % 30 + 1; limit != 0 && got < sent;
		     limit--) {
			struct vmbus_packet pkt;

			guest_recv_wait(c, buf, sizeof(buf), &pkt);
			expect_packet(&pkt, VMBUS_PACKET_COMPLETION);
			assert_true(pkt.transaction_id < PACKETS);
			assert_int_equal(seen[pkt.transaction_id]++, 0);
			got++;
		}
	}
	assert_int_equal(e->packets, PACKETS);
	assert_int_equal(e->last_error, 0);
	guest_close(c);
	assert_false(e->open);
	guest_unload(g);
	echo_destroy(e);
	guest_destroy(g);
}

static void packets_go_both_ways(void **state)
{
	(void)state;
	run_traffic(&(struct guest_cfg){0}, &(struct echo_cfg){0}, 4);
}

static void rings_may_be_scattered_in_memory(void **state)
{
	(void)state;
	run_traffic(&(struct guest_cfg){.scatter = true}, &(struct echo_cfg){0}, 4);
}

static void the_smallest_ring_works(void **state)
{
	(void)state;
	run_traffic(&(struct guest_cfg){0}, &(struct echo_cfg){0}, 2);
}

static void requests_in_flight_complete_in_any_order(void **state)
{
	(void)state;
	run_traffic(&(struct guest_cfg){.scatter = true}, &(struct echo_cfg){.delay = true}, 9);
}

static void a_device_may_read_in_small_batches(void **state)
{
	(void)state;
	run_traffic(&(struct guest_cfg){0}, &(struct echo_cfg){.batch = 3}, 4);
}

static void it_works_without_io_uring(void **state)
{
	(void)state;
	run_traffic(&(struct guest_cfg){.fallback = true}, &(struct echo_cfg){0}, 4);
}

static void a_packet_sent_from_open_comes_after_the_result(void **state)
{
	struct guest *g;
	struct guest_chan *c;
	struct echo *e;
	struct vmbus_packet pkt;
	uint8_t buf[64];

	(void)state;
	guest_create(NULL, &g);
	assert_int_equal(echo_create(guest_env(g), &(struct echo_cfg){.greet = true}, &e), 0);
	guest_boot(g);
	assert_int_equal(guest_open(g, guest_offer_find(g, &echo_interface, 0), 4, 4, &c), 0);
	guest_recv_wait(c, buf, sizeof(buf), &pkt);
	assert_int_equal(pkt.type, VMBUS_PACKET_INBAND);
	assert_memory_equal(pkt.payload, "hello\0\0\0", 8);
	guest_close(c);
	echo_destroy(e);
	guest_destroy(g);
}

static void a_busy_channel_costs_few_signals(void **state)
{
	enum { PACKETS = 200 };
	struct guest *g;
	struct guest_chan *c;
	struct echo *e;
	struct vmbus_packet pkt;
	uint8_t buf[512] = {0};

	(void)state;
	guest_create(&(struct guest_cfg){.vp_count = 1}, &g);
	assert_int_equal(echo_create(guest_env(g), &(struct echo_cfg){0}, &e), 0);
	guest_boot(g);
	assert_int_equal(guest_open(g, guest_offer_find(g, &echo_interface, 0), 17, 17, &c), 0);
	guest_settle(g);

	uint32_t readies = e->readies;
	uint64_t interrupts = guest_interrupts(g, 0);

	for (uint32_t i = 0; i < PACKETS; i++) {
		assert_int_equal(guest_send(c, VMBUS_PACKET_INBAND, 0, i, buf, 256), 0);
	}
	for (uint32_t i = 0; i < PACKETS; i++) {
		guest_recv_wait(c, buf, sizeof(buf), &pkt);
		assert_int_equal(pkt.transaction_id, i);
	}
	assert_int_equal(e->readies - readies, 1);
	assert_int_equal(guest_interrupts(g, 0) - interrupts, 1);
	guest_close(c);
	echo_destroy(e);
	guest_destroy(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(packets_go_both_ways),
		cmocka_unit_test(rings_may_be_scattered_in_memory),
		cmocka_unit_test(the_smallest_ring_works),
		cmocka_unit_test(requests_in_flight_complete_in_any_order),
		cmocka_unit_test(a_device_may_read_in_small_batches),
		cmocka_unit_test(it_works_without_io_uring),
		cmocka_unit_test(a_packet_sent_from_open_comes_after_the_result),
		cmocka_unit_test(a_busy_channel_costs_few_signals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
