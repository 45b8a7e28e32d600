/* SPDX-License-Identifier: Apache-2.0 */

/*
 * vmbus_bench [SECONDS] - the cost of a packet: in the ring code alone, and through the whole bus
 * to a device that sends it back, with a guest in the same thread (its half is in the figures).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "hv/mem/gmem.h"
#include "hv/vmbus/ring.h"
#include "hv/vmbus/vmbus.h"
#include "hv/vmbus/vmbus_shm.h"
#include "tests/bench/bench.h"
#include "tests/lib/vmbus_echo.h"
#include "tests/lib/vmbus_guest.h"

#define RING_PAGES 33u /* what storvsc uses, less one page */
#define PAYLOAD 64u    /* a vstor packet */

/* Put and take @batch packets at a time through one ring: the host's two halves. */
static void bench_ring_code(const char *name, bool scattered, uint32_t batch, double seconds)
{
	const struct gmem_cfg cfg = {.size_bytes = 4u << 20, .low_max_bytes = 4u << 20};
	static uint8_t payload[PAYLOAD];
	static uint8_t buf[4096];
	struct iovec iov = {.iov_base = payload, .iov_len = sizeof(payload)};
	const struct vmbus_ring_packet pkt = {
		.type = VMBUS_PACKET_INBAND,
		.payload = &iov,
		.payload_count = 1,
	};
	struct vmbus_ring_rx rx = {0};
	struct vmbus_ring_tx tx = {0};
	uint64_t pfns[RING_PAGES];
	struct vmbus_packet got;
	struct gmem *mem;
	uint64_t count = 0;

	CHECK(gmem_create(&cfg, &mem, NULL) == 0);
	for (uint32_t i = 0; i < RING_PAGES; i++) {
		pfns[i] = 16 + (scattered ? 2 * i : i);
	}
	CHECK(vmbus_ring_init(&rx.ring, mem, pfns, RING_PAGES) == 0);
	CHECK(vmbus_ring_init(&tx.ring, mem, pfns, RING_PAGES) == 0);
	CHECK(vmbus_ring_rx_start(&rx) == 0 && vmbus_ring_tx_start(&tx) == 0);

	uint64_t begin = clock_now_ns();
	uint64_t deadline = begin + (uint64_t)(seconds * (double)NS_PER_S);

	while (clock_now_ns() < deadline) {
		for (uint32_t round = 0; round < 100; round++, count += batch) {
			for (uint32_t i = 0; i < batch; i++) {
				CHECK(vmbus_ring_tx_put(&tx, &pkt) == 0);
			}
			(void)!vmbus_ring_tx_show(&tx);
			for (uint32_t i = 0; i < batch; i++) {
				CHECK(vmbus_ring_rx_next(&rx, buf, sizeof(buf), &got) == 0);
				vmbus_ring_rx_done(&rx);
			}
			(void)!vmbus_ring_rx_show(&rx);
		}
	}
	(void)bench_rate(name, (double)count, begin, "packets/s");
	vmbus_ring_fini(&rx.ring);
	vmbus_ring_fini(&tx.ring);
	gmem_destroy(mem);
}

/* @batch requests at a time to the echo and back, with doorbell and event flag. */
static void bench_echo(const char *name, uint32_t batch, double seconds)
{
	static uint8_t buf[4096];
	struct vmbus_packet got;
	struct guest *g;
	struct guest_chan *c;
	struct echo *e;
	uint64_t count = 0;

	guest_create(NULL, &g);
	CHECK(echo_create(guest_env(g), &(struct echo_cfg){0}, &e) == 0);
	guest_boot(g);
	CHECK(guest_open(g, guest_offer_find(g, &echo_interface, 0), RING_PAGES, RING_PAGES, &c) ==
	      0);

	uint64_t begin = clock_now_ns();
	uint64_t deadline = begin + (uint64_t)(seconds * (double)NS_PER_S);

	while (clock_now_ns() < deadline) {
		for (uint32_t i = 0; i < batch; i++) {
			CHECK(guest_send(c, VMBUS_PACKET_INBAND, VMBUS_PACKET_WANTS_COMPLETION, i,
			                 buf, PAYLOAD) == 0);
		}
		for (uint32_t i = 0; i < batch; i++) {
			guest_recv_wait(c, buf, sizeof(buf), &got);
		}
		count += batch;
	}
	(void)bench_rate(name, (double)count, begin, "requests/s");
	bench_figure("  batches of the device", (double)e->readies * batch / (double)count,
	             "per batch of requests");
	guest_close(c);
	guest_destroy(g);
	echo_destroy(e);
}

/* A write of 256 KiB: 64 pages in one range. */
static void bench_ranges(double seconds)
{
	const struct gmem_cfg cfg = {.size_bytes = 4u << 20, .low_max_bytes = 4u << 20};
	struct vmbus_range pieces[65];
	uint8_t header[8 + 8 + 64 * 8] = {0};
	struct vmbus_packet pkt = {
		.type = VMBUS_PACKET_GPA_DIRECT, .header = header, .header_bytes = sizeof(header)};
	struct gmem *mem;
	uint32_t n;
	uint64_t total;
	uint64_t count = 0;

	CHECK(gmem_create(&cfg, &mem, NULL) == 0);
	header[4] = 1;
	header[10] = 4; /* 0x40000 bytes */
	for (uint32_t i = 0; i < 64; i++) {
		header[16 + 8 * i] = (uint8_t)(3 * i);
	}

	uint64_t begin = clock_now_ns();
	uint64_t deadline = begin + (uint64_t)(seconds * (double)NS_PER_S);

	while (clock_now_ns() < deadline) {
		for (uint32_t i = 0; i < 1000; i++, count++) {
			CHECK(vmbus_ranges_decode(mem, &pkt, pieces, 65, &n, &total) == 0 &&
			      n == 64);
		}
	}
	(void)bench_rate("ranges of 64 pages", (double)count, begin, "packets/s");
	gmem_destroy(mem);
}

int main(int argc, char **argv)
{
	double seconds = argc > 1 ? strtod(argv[1], NULL) : 1.0;

	bench_ring_code("ring put+take, 1 at a time", false, 1, seconds);
	bench_ring_code("ring put+take, 32 at a time", false, 32, seconds);
	bench_ring_code("ring put+take, 32, scattered", true, 32, seconds);
	bench_ranges(seconds);
	bench_echo("echo, 1 at a time", 1, seconds);
	bench_echo("echo, 32 at a time", 32, seconds);
	return 0;
}
