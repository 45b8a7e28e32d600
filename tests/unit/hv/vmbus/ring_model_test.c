/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The ring code as it is, run against a guest under every schedule with a few preemptions: each
 * atomic access of ring.c and of the guest is a point where the other side may run instead. If
 * both sides sleep before all packets are across, a wake-up was lost, and the schedule is printed.
 * (Threads on a real machine, ring_property_test.c, hardly ever meet the narrow windows; here
 * each is met. The accesses that matter are sequentially consistent, so interleavings are all
 * there is.)
 */

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include "hv/vmbus/vmbus_shm.h"
#include "tests/lib/test.h"

static void model_point(void);

/* From here on the accesses of ring.c are points of the schedule. */
/* NOLINTBEGIN(readability-identifier-naming) */
#undef atomic_load_explicit
#undef atomic_store_explicit
#undef atomic_fetch_or_explicit
#define atomic_load_explicit(p, order) (model_point(), *(p))
#define atomic_store_explicit(p, v, order) (model_point(), (void)(*(p) = (v)))
#define atomic_fetch_or_explicit(p, v, order) (model_point(), *(p) |= (v))
/* NOLINTEND(readability-identifier-naming) */
#include "hv/vmbus/ring.c" /* NOLINT(bugprone-suspicious-include) */

#define MODEL_STACK (256u << 10)
#define MODEL_POINTS_MAX 4096u
#define MODEL_PAGES 2u /* control and one page of data: 4096 bytes */

enum { HOST, GUEST, SIDES };

/* One execution: which way was taken at each point where both could run. */
struct model {
	ucontext_t main;
	ucontext_t side[SIDES];
	uint8_t *stack[SIDES];
	void (*body[SIDES])(void);
	bool done[SIDES];
	uint32_t signals[SIDES]; /* for that side, not yet taken */
	bool asleep[SIDES];
	int current;
	uint32_t preemptions;
	uint32_t preemptions_max;
	uint8_t choice[MODEL_POINTS_MAX];
	uint32_t prefix; /* how many of @choice are prescribed */
	uint32_t count;
	bool lost;
	bool wrong; /* a packet was not the one that was due */

	struct gmem *mem;
	uint64_t up_pfns[MODEL_PAGES];
	uint64_t down_pfns[MODEL_PAGES];
	struct vmbus_ring_shm *up;
	struct vmbus_ring_shm *down;
	uint8_t *up_data;
	uint8_t *down_data;
	struct vmbus_ring_rx rx;
	struct vmbus_ring_tx tx;
	uint32_t packets;
	uint32_t payload;
	uint32_t batch;
	uint8_t buf[8192];
};

static struct model m;

static bool model_can_run(int side)
{
	return !m.done[side] && (!m.asleep[side] || m.signals[side] != 0);
}

static void model_switch(void)
{
	int from = m.current;

	m.current = 1 - from;
	(void)swapcontext(&m.side[from], &m.side[m.current]);
}

static void model_point(void)
{
	if (m.preemptions == m.preemptions_max || !model_can_run(1 - m.current) ||
	    m.count == MODEL_POINTS_MAX) {
		return;
	}

	uint8_t choice = m.count < m.prefix ? m.choice[m.count] : 0;

	m.choice[m.count++] = choice;
	if (choice != 0) {
		m.preemptions++;
		model_switch();
	}
}

/* Sleep until a signal for this side; ends the execution if nobody can give one. */
static void model_sleep(void)
{
	int side = m.current;

	m.asleep[side] = true;
	while (m.signals[side] == 0) {
		if (!model_can_run(1 - side)) {
			m.lost = true;
			(void)swapcontext(&m.side[side], &m.main);
		}
		model_switch();
	}
	m.signals[side] = 0; /* several are one, as with an event flag or a doorbell */
	m.asleep[side] = false;
}

static void model_signal(int side)
{
	model_point();
	m.signals[side]++;
}

static void model_done(void)
{
	m.done[m.current] = true;
	if (model_can_run(1 - m.current)) {
		model_switch();
	}
	m.lost = m.lost || !m.done[1 - m.current];
	(void)swapcontext(&m.side[m.current], &m.main);
}

static void model_entry(void)
{
	m.body[m.current]();
	model_done();
}

/* ---- the guest's half, as Linux has it ---- */

#define G_LOAD(x) (model_point(), (x))
#define G_STORE(x, v) (model_point(), (void)((x) = (v)))
#define G_SIZE 4096u

static uint32_t guest_bytes(void)
{
	return 16 + m.payload + 8;
}

static uint32_t guest_room(void)
{
	uint32_t in = G_LOAD(m.up->in);
	uint32_t out = G_LOAD(m.up->out);

	return G_SIZE - (in + G_SIZE - out) % G_SIZE;
}

static void guest_put(uint64_t id)
{
	uint32_t start = G_LOAD(m.up->in);
	uint8_t packet[G_SIZE] = {0};
	struct vmbus_packet_wire w = {
		.type = le16_make(VMBUS_PACKET_INBAND),
		.header_words = le16_make(2),
		.total_words = le16_make((uint16_t)((16 + m.payload) / 8)),
		.transaction_id = le64_make(id),
	};

	while (guest_room() <= guest_bytes()) {
		G_STORE(m.up->pending, guest_bytes());
		if (guest_room() <= guest_bytes()) {
			model_sleep();
		}
	}
	G_STORE(m.up->pending, 0);
	memcpy(packet, &w, sizeof(w));
	for (uint32_t i = 0; i < guest_bytes(); i++) {
		m.up_data[(start + i) % G_SIZE] = packet[i];
	}
	G_STORE(m.up->in, (start + guest_bytes()) % G_SIZE);
	if (G_LOAD(m.up->mask) == 0 && G_LOAD(m.up->out) == start) {
		model_signal(HOST);
	}
}

static void guest_get(uint64_t id)
{
	uint32_t out = G_LOAD(m.down->out);
	uint8_t got[8];

	while (G_LOAD(m.down->in) == out) {
		G_STORE(m.down->mask, 0);
		if (G_LOAD(m.down->in) == out) {
			model_sleep();
			G_STORE(m.down->mask, 1);
		}
	}
	for (uint32_t i = 0; i < 8; i++) {
		got[i] = m.down_data[(out + 8 + i) % G_SIZE];
	}
	m.wrong = m.wrong || memcmp(got, &id, 8) != 0;
	out = (out + guest_bytes()) % G_SIZE;
	G_STORE(m.down->out, out);

	uint32_t pending = G_LOAD(m.down->pending);
	uint32_t room = G_SIZE - (G_LOAD(m.down->in) + G_SIZE - out) % G_SIZE;

	if (pending != 0 && room > pending && room - guest_bytes() <= pending) {
		model_signal(HOST);
	}
}

static void guest_produces(void)
{
	for (uint32_t i = 0; i < m.packets; i++) {
		guest_put(i);
	}
}

static void guest_consumes(void)
{
	for (uint32_t i = 0; i < m.packets; i++) {
		guest_get(i);
	}
}

static void guest_does_both(void)
{
	/* One more in flight than fits into the rings would be a deadlock of the guest's own. */
	for (uint32_t i = 0; i < m.packets; i++) {
		guest_put(i);
		if (i != 0) {
			guest_get(i - 1);
		}
	}
	guest_get(m.packets - 1);
}

/* ---- the host's half: what packet.c does with ring.c ---- */

static void host_flush(void)
{
	bool space = vmbus_ring_rx_show(&m.rx);
	bool data = vmbus_ring_tx_show(&m.tx);

	if (space || data) {
		model_signal(GUEST);
	}
}

static bool host_put(uint64_t id)
{
	static uint8_t zeros[4096];
	struct iovec iov = {.iov_base = zeros, .iov_len = m.payload};
	const struct vmbus_ring_packet pkt = {
		.type = VMBUS_PACKET_INBAND,
		.transaction_id = id,
		.payload = &iov,
		.payload_count = 1,
	};

	return vmbus_ring_tx_put(&m.tx, &pkt) == 0;
}

static void host_produces(void)
{
	for (uint32_t i = 0; i < m.packets; i++) {
		while (!host_put(i)) {
			host_flush();
			model_sleep();
			vmbus_ring_tx_wait_end(&m.tx);
		}
		if (i % m.batch == m.batch - 1) {
			host_flush();
		}
	}
	host_flush();
}

/* One ready(): read until empty. Returns how many. @echo: send each back first. */
static uint32_t host_ready(uint32_t next, bool echo)
{
	struct vmbus_packet pkt;
	uint32_t got = 0;

	vmbus_ring_rx_disarm(&m.rx);
	vmbus_ring_tx_wait_end(&m.tx);
	for (;;) {
		int err = vmbus_ring_rx_next(&m.rx, m.buf, sizeof(m.buf), &pkt);

		if (err == -EAGAIN) {
			if (vmbus_ring_rx_show(&m.rx)) {
				model_signal(GUEST);
			}
			if (vmbus_ring_rx_arm(&m.rx)) {
				break;
			}
			continue;
		}
		m.wrong = m.wrong || err != 0 || pkt.transaction_id != next + got;
		if (err != 0 || (echo && !host_put(pkt.transaction_id))) {
			break;
		}
		vmbus_ring_rx_done(&m.rx);
		got++;
		if (got % m.batch == 0) {
			host_flush();
		}
	}
	host_flush();
	return got;
}

static void host_consumes(void)
{
	for (uint32_t got = 0; got < m.packets && !m.wrong;) {
		model_sleep();
		got += host_ready(got, false);
	}
}

static void host_echoes(void)
{
	for (uint32_t got = 0; got < m.packets && !m.wrong;) {
		model_sleep();
		got += host_ready(got, true);
	}
}

/* ---- exploring ---- */

static void model_reset(void)
{
	memset(m.up, 0, sizeof(*m.up));
	memset(m.down, 0, sizeof(*m.down));
	m.preemptions = m.preemptions_max; /* no points before the start */
	assert_int_equal(vmbus_ring_rx_start(&m.rx), 0);
	assert_int_equal(vmbus_ring_tx_start(&m.tx), 0);
	m.preemptions = 0;
	m.count = 0;
	m.lost = false;
	m.wrong = false;
	m.current = GUEST;
	for (int side = 0; side < SIDES; side++) {
		m.done[side] = false;
		m.asleep[side] = false;
		m.signals[side] = 0;
		assert_int_equal(getcontext(&m.side[side]), 0);
		m.side[side].uc_stack.ss_sp = m.stack[side];
		m.side[side].uc_stack.ss_size = MODEL_STACK;
		m.side[side].uc_link = NULL;
		makecontext(&m.side[side], model_entry, 0);
	}
}

static void model_report(const char *what)
{
	(void)fprintf(stderr, "%s; preempted at point", what);
	for (uint32_t i = 0; i < m.count; i++) {
		if (m.choice[i] != 0) {
			(void)fprintf(stderr, " %u", i);
		}
	}
	(void)fprintf(stderr, " of %u\n", m.count);
}

/* Turn the last choice that can still be turned. Returns false when all were tried. */
static bool model_next(void)
{
	uint32_t used = 0;
	uint32_t at = m.count;

	for (uint32_t i = 0; i < m.count; i++) {
		used += m.choice[i];
	}
	while (at != 0) {
		at--;
		if (m.choice[at] == 0 && used < m.preemptions_max) {
			m.choice[at] = 1;
			m.prefix = at + 1;
			return true;
		}
		used -= m.choice[at];
	}
	return false;
}

static uint32_t model_explore(void (*host)(void), void (*guest)(void), uint32_t preemptions_max)
{
	uint32_t runs = 0;

	m.body[HOST] = host;
	m.body[GUEST] = guest;
	m.preemptions_max = preemptions_max;
	m.prefix = 0;
	do {
		model_reset();
		(void)swapcontext(&m.main, &m.side[m.current]);
		runs++;
		if (m.lost || m.wrong) {
			model_report(m.lost ? "a wake-up was lost"
			                    : "a packet was not the one due");
			fail();
		}
		assert_true(m.count < MODEL_POINTS_MAX);
	} while (model_next());
	return runs;
}

static int setup(void **state)
{
	const struct gmem_cfg cfg = {.size_bytes = 1u << 20, .low_max_bytes = 1u << 20};

	(void)state;
	if (gmem_create(&cfg, &m.mem, NULL) != 0) {
		return -1;
	}
	for (uint32_t i = 0; i < MODEL_PAGES; i++) {
		m.up_pfns[i] = 10 + i;
		m.down_pfns[i] = 20 + i;
	}
	m.up = gmem_range(m.mem, 10 * G_SIZE, G_SIZE);
	m.up_data = gmem_range(m.mem, 11 * G_SIZE, G_SIZE);
	m.down = gmem_range(m.mem, 20 * G_SIZE, G_SIZE);
	m.down_data = gmem_range(m.mem, 21 * G_SIZE, G_SIZE);
	for (int side = 0; side < SIDES; side++) {
		m.stack[side] = malloc(MODEL_STACK);
		if (m.stack[side] == NULL) {
			return -1;
		}
	}
	return vmbus_ring_init(&m.rx.ring, m.mem, m.up_pfns, MODEL_PAGES) |
	       vmbus_ring_init(&m.tx.ring, m.mem, m.down_pfns, MODEL_PAGES);
}

static int teardown(void **state)
{
	(void)state;
	vmbus_ring_fini(&m.rx.ring);
	vmbus_ring_fini(&m.tx.ring);
	free(m.stack[HOST]);
	free(m.stack[GUEST]);
	gmem_destroy(m.mem);
	return 0;
}

/* Payloads so that one, two or four packets fill a ring. */
static const uint32_t payloads[] = {2400, 1600, 960};

static void explore_all(void (*host)(void), void (*guest)(void), uint32_t packets,
                        uint32_t preemptions_max)
{
	uint32_t runs = 0;

#ifdef __SANITIZE_THREAD__
	skip(); /* it does not know coroutines */
#endif
	for (size_t i = 0; i < ARRAY_LEN(payloads); i++) {
		for (uint32_t batch = 1; batch <= 3; batch++) {
			m.packets = packets;
			m.payload = payloads[i];
			m.batch = batch;
			runs += model_explore(host, guest, preemptions_max);
		}
	}
	(void)printf("%u schedules\n", runs);
	assert_true(runs > 1000);
}

static void no_schedule_loses_a_wake_up_of_the_guest(void **state)
{
	(void)state;
	explore_all(host_produces, guest_consumes, 5, 3);
}

static void no_schedule_loses_a_wake_up_of_the_host(void **state)
{
	(void)state;
	explore_all(host_consumes, guest_produces, 5, 3);
}

static void no_schedule_loses_a_wake_up_when_packets_go_both_ways(void **state)
{
	(void)state;
	explore_all(host_echoes, guest_does_both, 4, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_schedule_loses_a_wake_up_of_the_guest),
		cmocka_unit_test(no_schedule_loses_a_wake_up_of_the_host),
		cmocka_unit_test(no_schedule_loses_a_wake_up_when_packets_go_both_ways),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
