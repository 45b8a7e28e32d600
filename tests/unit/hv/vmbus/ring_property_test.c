/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Two threads over one pair of rings, the host's side being ring.c and the guest's side written
 * here after what Linux does: every packet comes back once, whole and in order, and whoever sleeps
 * is woken. A wake-up is a semaphore, so a lost one is a timeout. Under ThreadSanitizer this also
 * says that the accesses of vmbus_shm.h order everything else.
 */

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "hv/mem/gmem.h"
#include "hv/vmbus/ring.h"
#include "hv/vmbus/vmbus.h"
#include "hv/vmbus/vmbus_shm.h"
#include "hv/vmbus/vmbus_wire.h"
#include "tests/lib/test.h"

#define PAGE 4096u
#define PAYLOAD_MAX 900u
#define WAIT_S 30 /* much longer than any machine stalls; a lost wake-up waits for ever */

struct lane {
	struct vmbus_ring_shm *ctrl;
	uint8_t *data; /* contiguous for the guest's convenience */
	uint32_t size;
};

struct world {
	struct gmem *mem;
	struct lane up;   /* guest to host */
	struct lane down; /* host to guest */
	struct vmbus_ring_rx rx;
	struct vmbus_ring_tx tx;
	sem_t doorbell;
	sem_t interrupt;
	uint32_t packets;
	uint32_t stall; /* 1 in so many steps */
	uint32_t seed;
	_Atomic bool failed;
	uint64_t doorbells;
	uint64_t interrupts;
};

static uint32_t next_random(uint32_t *seed)
{
	*seed = *seed * 1664525u + 1013904223u;
	return *seed >> 8;
}

static void stall(const struct world *w, uint32_t *seed)
{
	if (next_random(seed) % w->stall == 0) {
		for (uint32_t i = next_random(seed) % 4; i != 0; i--) {
			(void)sched_yield();
		}
	}
}

static bool sleep_on(struct world *w, sem_t *sem, const char *who)
{
	struct timespec at;

	(void)clock_gettime(CLOCK_REALTIME, &at);
	at.tv_sec += WAIT_S;
	while (sem_timedwait(sem, &at) != 0) {
		if (errno == ETIMEDOUT) {
			if (!atomic_exchange(&w->failed, true)) {
				(void)fprintf(stderr, "%s was not woken\n", who);
			}
			return false;
		}
	}
	return !atomic_load(&w->failed);
}

static uint32_t payload_make(uint64_t id, uint8_t *buf)
{
	uint32_t seed = (uint32_t)id * 2654435761u + 99;
	uint32_t len = 8 + next_random(&seed) % (PAYLOAD_MAX - 8);

	for (uint32_t i = 0; i < len; i++) {
		buf[i] = (uint8_t)next_random(&seed);
	}
	return len / 8 * 8;
}

/* ---- the host: a device that sends everything back ---- */

/* Returns false when there is nothing more to do before the next signal. */
static bool host_step(struct world *w, bool *held, struct vmbus_packet *pkt, uint8_t *buf,
                      uint32_t *echoed)
{
	if (!*held) {
		int err = vmbus_ring_rx_next(&w->rx, buf, VMBUS_PACKET_BYTES_MAX, pkt);

		if (err == -EAGAIN) {
			if (vmbus_ring_rx_show(&w->rx)) {
				w->interrupts++;
				(void)sem_post(&w->interrupt);
			}
			return !vmbus_ring_rx_arm(&w->rx);
		}
		if (err != 0) {
			atomic_store(&w->failed, true);
			return false;
		}
		*held = true;
	}

	struct iovec iov = {.iov_base = (void *)(uintptr_t)pkt->payload,
	                    .iov_len = pkt->payload_bytes};
	const struct vmbus_ring_packet out = {
		.type = VMBUS_PACKET_COMPLETION,
		.transaction_id = pkt->transaction_id,
		.payload = &iov,
		.payload_count = 1,
	};

	if (vmbus_ring_tx_put(&w->tx, &out) != 0) {
		return false; /* the guest signals when there is room */
	}
	vmbus_ring_rx_done(&w->rx);
	*held = false;
	++*echoed;
	return true;
}

static void *host_main(void *arg)
{
	struct world *w = arg;
	uint8_t *buf = malloc(VMBUS_PACKET_BYTES_MAX);
	struct vmbus_packet pkt = {0};
	uint32_t seed = w->seed ^ 0x5555;
	uint32_t echoed = 0;
	bool held = false;

	while (buf != NULL && echoed < w->packets && sleep_on(w, &w->doorbell, "host")) {
		vmbus_ring_rx_disarm(&w->rx);
		for (;;) {
			bool more = host_step(w, &held, &pkt, buf, &echoed);

			stall(w, &seed);
			if (!more) {
				break;
			}
			if (next_random(&seed) % 8 != 0) {
				continue; /* batch */
			}

			bool space = vmbus_ring_rx_show(&w->rx);
			bool data = vmbus_ring_tx_show(&w->tx);

			if (space || data) {
				w->interrupts++;
				(void)sem_post(&w->interrupt);
			}
		}

		bool space = vmbus_ring_rx_show(&w->rx);
		bool data = vmbus_ring_tx_show(&w->tx);

		if (space || data) {
			w->interrupts++;
			(void)sem_post(&w->interrupt);
		}
	}
	free(buf);
	return NULL;
}

/* ---- the guest ---- */

static uint32_t used(const struct lane *l, uint32_t in, uint32_t out)
{
	return (in + l->size - out) % l->size;
}

static void copy_in(const struct lane *l, uint32_t *at, const void *buf, uint32_t len)
{
	uint32_t first = len < l->size - *at ? len : l->size - *at;

	memcpy(l->data + *at, buf, first);
	memcpy(l->data, (const uint8_t *)buf + first, len - first);
	*at = (*at + len) % l->size;
}

static void copy_out(const struct lane *l, uint32_t at, void *buf, uint32_t len)
{
	uint32_t first = len < l->size - at ? len : l->size - at;

	memcpy(buf, l->data + at, first);
	memcpy((uint8_t *)buf + first, l->data, len - first);
}

static bool has_room(const struct lane *l, uint32_t need)
{
	return l->size - used(l, atomic_load(&l->ctrl->in), atomic_load(&l->ctrl->out)) > need;
}

static bool guest_send(struct world *w, uint32_t id)
{
	struct lane *l = &w->up;
	uint8_t payload[PAYLOAD_MAX];
	uint32_t len = payload_make(id, payload);
	uint32_t need = 16 + len + 8;

	if (!has_room(l, need)) {
		atomic_store(&l->ctrl->pending, need);
		if (!has_room(l, need)) {
			return false;
		}
	}
	atomic_store(&l->ctrl->pending, 0);

	uint32_t start = atomic_load(&l->ctrl->in);
	uint32_t at = start;
	struct vmbus_packet_wire pkt = {
		.type = le16_make(VMBUS_PACKET_INBAND),
		.header_words = le16_make(2),
		.total_words = le16_make((uint16_t)((16 + len) / 8)),
		.transaction_id = le64_make(id),
	};
	struct vmbus_trailer_wire trailer = {.start = le32_make(start)};

	copy_in(l, &at, &pkt, sizeof(pkt));
	copy_in(l, &at, payload, len);
	copy_in(l, &at, &trailer, sizeof(trailer));
	atomic_store(&l->ctrl->in, at);
	if (atomic_load(&l->ctrl->mask) == 0 && atomic_load(&l->ctrl->out) == start) {
		w->doorbells++;
		(void)sem_post(&w->doorbell);
	}
	return true;
}

/* Returns 1 a packet, 0 none (and the mask is clear), -1 nonsense. */
static int guest_recv(struct world *w, uint32_t want_id)
{
	struct lane *l = &w->down;
	uint32_t out = atomic_load(&l->ctrl->out);

	if (atomic_load(&l->ctrl->in) == out) {
		atomic_store(&l->ctrl->mask, 0);
		if (atomic_load(&l->ctrl->in) == out) {
			return 0;
		}
		atomic_store(&l->ctrl->mask, 1);
	}

	struct vmbus_packet_wire pkt;
	struct vmbus_trailer_wire trailer;
	uint8_t want[PAYLOAD_MAX];
	uint8_t got[PAYLOAD_MAX];
	uint32_t len = payload_make(want_id, want);
	uint32_t bytes = 16 + len + 8;

	copy_out(l, out, &pkt, sizeof(pkt));
	if (le64_get(pkt.transaction_id) != want_id || le16_get(pkt.total_words) * 8u != 16 + len ||
	    used(l, atomic_load(&l->ctrl->in), out) < bytes) {
		return -1;
	}
	copy_out(l, (out + 16) % l->size, got, len);
	copy_out(l, (out + 16 + len) % l->size, &trailer, sizeof(trailer));
	if (memcmp(got, want, len) != 0 || le32_get(trailer.start) != out) {
		return -1;
	}
	out = (out + bytes) % l->size;
	atomic_store(&l->ctrl->out, out);

	uint32_t pending = atomic_load(&l->ctrl->pending);
	uint32_t room = l->size - used(l, atomic_load(&l->ctrl->in), out);

	if (pending != 0 && room > pending && room - bytes <= pending) {
		w->doorbells++;
		(void)sem_post(&w->doorbell);
	}
	return 1;
}

static void *guest_main(void *arg)
{
	struct world *w = arg;
	uint32_t seed = w->seed;
	uint32_t sent = 0;
	uint32_t got = 0;

	while (got < w->packets) {
		bool blocked = false;
		int res = 1;

		for (uint32_t i = next_random(&seed) % 64; i != 0 && sent < w->packets; i--) {
			if (!guest_send(w, sent)) {
				blocked = true;
				break;
			}
			sent++;
			stall(w, &seed);
		}
		/* An interrupt handler reads until empty. */
		while (got < sent && (res = guest_recv(w, got)) > 0) {
			got++;
			stall(w, &seed);
		}
		if (res < 0) {
			atomic_store(&w->failed, true);
			(void)sem_post(&w->doorbell);
			break;
		}
		if (got == w->packets) {
			break;
		}
		if ((blocked || sent == w->packets || got < sent) && res == 0 &&
		    !sleep_on(w, &w->interrupt, "guest")) {
			break;
		}
	}
	return NULL;
}

/* ---- the set-up ---- */

static void lane_init(struct world *w, struct lane *l, uint64_t gpa, uint32_t data_pages,
                      uint64_t *pfns)
{
	for (uint32_t i = 0; i <= data_pages; i++) {
		pfns[i] = gpa / PAGE + i;
	}
	l->ctrl = gmem_range(w->mem, gpa, PAGE);
	l->data = gmem_range(w->mem, gpa + PAGE, (uint64_t)data_pages * PAGE);
	l->size = data_pages * PAGE;
	assert_non_null(l->ctrl);
	assert_non_null(l->data);
}

static void run_world(uint32_t data_pages, uint32_t packets, uint32_t stall_every, uint32_t seed)
{
	const struct gmem_cfg cfg = {.size_bytes = 1u << 20, .low_max_bytes = 1u << 20};
	struct world w = {.packets = packets, .stall = stall_every, .seed = seed};
	uint64_t pfns[2][16];
	pthread_t host;
	pthread_t guest;

	assert_int_equal(gmem_create(&cfg, &w.mem, NULL), 0);
	lane_init(&w, &w.up, 0x10000, data_pages, pfns[0]);
	lane_init(&w, &w.down, 0x40000, data_pages, pfns[1]);
	assert_int_equal(vmbus_ring_init(&w.rx.ring, w.mem, pfns[0], data_pages + 1), 0);
	assert_int_equal(vmbus_ring_init(&w.tx.ring, w.mem, pfns[1], data_pages + 1), 0);
	assert_int_equal(vmbus_ring_rx_start(&w.rx), 0);
	assert_int_equal(vmbus_ring_tx_start(&w.tx), 0);
	assert_int_equal(sem_init(&w.doorbell, 0, 0), 0);
	assert_int_equal(sem_init(&w.interrupt, 0, 0), 0);
	assert_int_equal(pthread_create(&host, NULL, host_main, &w), 0);
	assert_int_equal(pthread_create(&guest, NULL, guest_main, &w), 0);
	assert_int_equal(pthread_join(guest, NULL), 0);
	assert_int_equal(pthread_join(host, NULL), 0);
	assert_false(atomic_load(&w.failed));
	/* Signals are for sleepers: a batch must not cost one each. */
	assert_true(w.doorbells <= 2 * (uint64_t)packets + 2);
	assert_true(w.interrupts <= 2 * (uint64_t)packets + 2);
	vmbus_ring_fini(&w.rx.ring);
	vmbus_ring_fini(&w.tx.ring);
	(void)sem_destroy(&w.doorbell);
	(void)sem_destroy(&w.interrupt);
	gmem_destroy(w.mem);
}

static void no_wake_up_is_lost_on_small_rings(void **state)
{
	(void)state;
	for (uint32_t seed = 1; seed <= 6; seed++) {
		run_world(1, 4000, 1 + seed * seed, seed);
	}
}

static void no_wake_up_is_lost_on_larger_rings(void **state)
{
	(void)state;
	for (uint32_t seed = 1; seed <= 4; seed++) {
		run_world(1 + 3 * seed, 6000, 1 + seed * 8, seed);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_wake_up_is_lost_on_small_rings),
		cmocka_unit_test(no_wake_up_is_lost_on_larger_rings),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
