/* SPDX-License-Identifier: Apache-2.0 */
#include "hv/vmbus/ring.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "hv/mem/gmem.h"
#include "hv/vmbus/vmbus.h"
#include "hv/vmbus/vmbus_shm.h"
#include "hv/vmbus/vmbus_wire.h"
#include "tests/lib/test.h"

#define PAGE 4096u
#define DATA_PAGES 3u
#define SIZE (DATA_PAGES * PAGE)

/* Pages 17, 16 ... from high to low: no two data pages are neighbours in the right order. */
static const uint64_t scattered[] = {40, 17, 16, 15};
static const uint64_t contiguous[] = {40, 15, 16, 17};

struct fixture {
	struct gmem *mem;
	const uint64_t *pfns;
	struct vmbus_ring_shm *ctrl;
	struct vmbus_ring_rx rx;
	struct vmbus_ring_tx tx;
	uint8_t buf[VMBUS_PACKET_BYTES_MAX];
};

static void fixture_init(struct fixture *f, const uint64_t *pfns)
{
	const struct gmem_cfg cfg = {.size_bytes = 1u << 20, .low_max_bytes = 1u << 20};

	memset(f, 0, sizeof(*f));
	f->pfns = pfns;
	assert_int_equal(gmem_create(&cfg, &f->mem, NULL), 0);
	f->ctrl = gmem_range(f->mem, pfns[0] * PAGE, PAGE);
	assert_int_equal(vmbus_ring_init(&f->rx.ring, f->mem, pfns, DATA_PAGES + 1), 0);
	assert_int_equal(vmbus_ring_init(&f->tx.ring, f->mem, pfns, DATA_PAGES + 1), 0);
	assert_int_equal(vmbus_ring_rx_start(&f->rx), 0);
	assert_int_equal(vmbus_ring_tx_start(&f->tx), 0);
}

static void fixture_fini(struct fixture *f)
{
	vmbus_ring_fini(&f->rx.ring);
	vmbus_ring_fini(&f->tx.ring);
	gmem_destroy(f->mem);
}

/* The byte at index @at of the ring. */
static uint8_t *byte_at(struct fixture *f, uint32_t at)
{
	at %= SIZE;
	return (uint8_t *)gmem_range(f->mem, f->pfns[1 + at / PAGE] * PAGE + at % PAGE, 1);
}

static void write_at(struct fixture *f, uint32_t at, const void *buf, uint32_t len)
{
	for (uint32_t i = 0; i < len; i++) {
		*byte_at(f, at + i) = ((const uint8_t *)buf)[i];
	}
}

static void read_at(struct fixture *f, uint32_t at, void *buf, uint32_t len)
{
	for (uint32_t i = 0; i < len; i++) {
		((uint8_t *)buf)[i] = *byte_at(f, at + i);
	}
}

static struct vmbus_packet_wire descriptor(uint16_t header_words, uint16_t total_words)
{
	return (struct vmbus_packet_wire){
		.type = le16_make(VMBUS_PACKET_INBAND),
		.header_words = le16_make(header_words),
		.total_words = le16_make(total_words),
		.flags = le16_make(VMBUS_PACKET_WANTS_COMPLETION),
		.transaction_id = le64_make(0x1122334455667788),
	};
}

static void a_received_packet_is_what_the_guest_wrote_wherever_it_wraps(void **state)
{
	static struct fixture f;
	uint8_t want[488];

	(void)state;
	for (uint32_t i = 0; i < sizeof(want); i++) {
		want[i] = (uint8_t)(i * 7 + 1);
	}
	for (int kind = 0; kind < 2; kind++) {
		for (uint32_t start = SIZE - 560; start < SIZE; start += 8) {
			struct vmbus_packet_wire w = descriptor(3, (16 + sizeof(want)) / 8);
			struct vmbus_packet pkt;

			fixture_init(&f, kind == 0 ? contiguous : scattered);
			write_at(&f, start, &w, sizeof(w));
			write_at(&f, start + 16, want, sizeof(want));
			f.ctrl->in = (start + 16 + (uint32_t)sizeof(want) + 8) % SIZE;
			f.ctrl->out = start;
			assert_int_equal(vmbus_ring_rx_start(&f.rx), 0);
			assert_int_equal(vmbus_ring_rx_next(&f.rx, f.buf, sizeof(f.buf), &pkt), 0);
			assert_int_equal(pkt.type, VMBUS_PACKET_INBAND);
			assert_int_equal(pkt.flags, VMBUS_PACKET_WANTS_COMPLETION);
			assert_int_equal(pkt.transaction_id, 0x1122334455667788);
			assert_int_equal(pkt.header_bytes, 8);
			assert_memory_equal(pkt.header, want, 8);
			assert_int_equal(pkt.payload_bytes, sizeof(want) - 8);
			assert_memory_equal(pkt.payload, want + 8, sizeof(want) - 8);
			vmbus_ring_rx_done(&f.rx);
			assert_int_equal(f.ctrl->out, start); /* not shown yet */
			assert_false(vmbus_ring_rx_show(&f.rx));
			assert_int_equal(f.ctrl->out, f.ctrl->in);
			assert_int_equal(vmbus_ring_rx_next(&f.rx, f.buf, sizeof(f.buf), &pkt),
			                 -EAGAIN);
			fixture_fini(&f);
		}
	}
}

static void a_sent_packet_has_the_documented_bytes_wherever_it_wraps(void **state)
{
	static const uint8_t want[] = {
		7,   0,   3,   0,   5,   0,   1,   0,
		8,   7,   6,   5,   4,   3,   2,   1, /* descriptor */
		1,   2,   3,   4,   5,   6,   7,   8, /* header */
		'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h',
		'i', 'j', 'k', 0,   0,   0,   0,   0,
	};
	static struct fixture f;
	struct iovec iov[] = {{.iov_base = (void *)(uintptr_t) "abcdefg", .iov_len = 7},
	                      {.iov_base = (void *)(uintptr_t) "hijk", .iov_len = 4}};
	const struct vmbus_ring_packet pkt = {
		.type = VMBUS_PACKET_TRANSFER_PAGES,
		.flags = 1,
		.transaction_id = 0x0102030405060708,
		.header = want + 16,
		.header_bytes = 8,
		.payload = iov,
		.payload_count = 2,
	};

	(void)state;
	for (int kind = 0; kind < 2; kind++) {
		for (uint32_t start = SIZE - 56; start < SIZE; start += 8) {
			uint8_t got[sizeof(want)];
			uint32_t trailer[2];

			fixture_init(&f, kind == 0 ? contiguous : scattered);
			for (uint32_t i = 0; i < SIZE; i++) {
				*byte_at(&f, i) = 0xee; /* padding must be written, too */
			}
			f.ctrl->in = start;
			f.ctrl->out = start;
			assert_int_equal(vmbus_ring_tx_start(&f.tx), 0);
			assert_int_equal(vmbus_ring_tx_put(&f.tx, &pkt), 0);
			assert_int_equal(f.ctrl->in, start);
			assert_true(vmbus_ring_tx_show(&f.tx));
			assert_int_equal(f.ctrl->in, (start + sizeof(want) + 8) % SIZE);
			read_at(&f, start, got, sizeof(got));
			assert_memory_equal(got, want, sizeof(want));
			read_at(&f, start + sizeof(want), trailer, sizeof(trailer));
			assert_int_equal(trailer[0], 0);
			assert_int_equal(trailer[1], start);
			assert_int_equal(*byte_at(&f, start + sizeof(want) + 8), 0xee);
			fixture_fini(&f);
		}
	}
}

static void bad_indices_are_refused_at_the_start(void **state)
{
	const uint32_t bad[] = {1,        4,          7,          SIZE - 1,      SIZE,
	                        SIZE + 8, 0x80000000, UINT32_MAX, UINT32_MAX - 7};
	static struct fixture f;

	(void)state;
	fixture_init(&f, contiguous);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		f.ctrl->in = bad[i];
		assert_int_equal(vmbus_ring_rx_start(&f.rx), -EBADMSG);
		assert_int_equal(vmbus_ring_tx_start(&f.tx), -EBADMSG);
		f.ctrl->in = 0;
		f.ctrl->out = bad[i];
		assert_int_equal(vmbus_ring_rx_start(&f.rx), -EBADMSG);
		assert_int_equal(vmbus_ring_tx_start(&f.tx), -EBADMSG);
		f.ctrl->out = 0;
	}
	fixture_fini(&f);
}

static void bad_indices_are_refused_while_running(void **state)
{
	const uint32_t bad[] = {4, SIZE, SIZE + 8, UINT32_MAX - 7};
	static struct fixture f;
	struct vmbus_packet pkt;
	static uint8_t zeros[SIZE - 64];
	struct iovec iov = {.iov_base = zeros, .iov_len = sizeof(zeros)};
	const struct vmbus_ring_packet big = {.payload = &iov, .payload_count = 1};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		fixture_init(&f, contiguous);
		f.ctrl->in = bad[i];
		assert_int_equal(vmbus_ring_rx_next(&f.rx, f.buf, sizeof(f.buf), &pkt), -EBADMSG);
		f.ctrl->in = 0;
		assert_int_equal(vmbus_ring_tx_put(&f.tx, &big), 0);
		f.ctrl->out = bad[i];
		assert_int_equal(vmbus_ring_tx_put(&f.tx, &big), -EBADMSG);
		assert_false(vmbus_ring_tx_show(&f.tx)); /* nonsense is not 'all read' */
		fixture_fini(&f);
	}
}

static void impossible_descriptors_are_refused(void **state)
{
	const struct {
		uint16_t header_words, total_words;
		uint32_t in;
	} bad[] = {
		{2, 2, 8},  /* not even a descriptor there */
		{2, 2, 16}, /* no room for the trailer */
		{0, 4, 64}, /* header shorter than the descriptor */
		{1, 4, 64}, /**/
		{2, 0, 64}, /* packet shorter than its header */
		{2, 1, 64}, /**/
		{5, 4, 64}, /**/
		{2, 8, 64}, /* longer than what is there, by the trailer */
		{2, 9, 64}, /**/
		{2, 0xffff, 64} /**/,
		{0xffff, 0xffff, 64},
	};
	static struct fixture f;
	struct vmbus_packet pkt;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct vmbus_packet_wire w = descriptor(bad[i].header_words, bad[i].total_words);

		fixture_init(&f, contiguous);
		write_at(&f, 0, &w, sizeof(w));
		f.ctrl->in = bad[i].in;
		assert_int_equal(vmbus_ring_rx_next(&f.rx, f.buf, sizeof(f.buf), &pkt), -EBADMSG);
		fixture_fini(&f);
	}
}

static void every_descriptor_stays_within_ring_and_buffer(void **state)
{
	static struct fixture f;

	(void)state;
	fixture_init(&f, scattered);
	for (uint32_t words = 0; words < 0x10000; words += 13) {
		for (uint32_t header = 0; header < 6; header++) {
			struct vmbus_packet_wire w = descriptor((uint16_t)header, (uint16_t)words);
			/* An exact buffer: AddressSanitizer sees a byte too many. */
			uint8_t *exact = malloc(2048);
			struct vmbus_packet pkt;

			assert_non_null(exact);
			write_at(&f, SIZE - 24, &w, sizeof(w));
			f.rx.out = SIZE - 24;
			f.rx.in = f.rx.out;
			f.ctrl->in = SIZE - 32; /* as full as it gets */

			int err = vmbus_ring_rx_next(&f.rx, exact, 2048, &pkt);

			if (header < 2 || words < header || words * 8 > SIZE - 16) {
				assert_int_equal(err, -EBADMSG);
			} else if (words * 8 > 2048) {
				assert_int_equal(err, -EMSGSIZE);
			} else {
				assert_int_equal(err, 0);
				assert_int_equal(pkt.header_bytes + pkt.payload_bytes + 16,
				                 words * 8);
			}
			free(exact);
		}
	}
	fixture_fini(&f);
}

static void a_full_ring_refuses_and_says_what_it_waits_for(void **state)
{
	static struct fixture f;
	static uint8_t data[1000];
	struct iovec iov = {.iov_base = data, .iov_len = sizeof(data)};
	const struct vmbus_ring_packet pkt = {.payload = &iov, .payload_count = 1};
	uint32_t count = 0;
	int err;

	(void)state;
	fixture_init(&f, contiguous);
	while ((err = vmbus_ring_tx_put(&f.tx, &pkt)) == 0) {
		count++;
	}
	assert_int_equal(err, -EAGAIN);
	assert_int_equal(count, (SIZE - 1) / 1024);
	assert_int_equal(f.ctrl->pending, 1024);
	/* What was put is there for the guest, which otherwise could not make room. */
	assert_int_equal(f.ctrl->in, count * 1024);
	assert_true(vmbus_ring_tx_show(&f.tx));
	assert_false(vmbus_ring_tx_show(&f.tx));

	/* A smaller one does not end the wait of the larger. */
	iov.iov_len = 8;
	assert_int_equal(vmbus_ring_tx_put(&f.tx, &pkt), 0);
	assert_int_equal(f.ctrl->pending, 1024);
	f.ctrl->out = 2048;
	iov.iov_len = sizeof(data);
	assert_int_equal(vmbus_ring_tx_put(&f.tx, &pkt), 0);
	assert_int_equal(f.ctrl->pending, 0);
	fixture_fini(&f);
}

static void the_ring_never_becomes_full_to_the_last_byte(void **state)
{
	static struct fixture f;
	static uint8_t data[SIZE];
	struct iovec iov = {.iov_base = data};
	const struct vmbus_ring_packet pkt = {.payload = &iov, .payload_count = 1};

	(void)state;
	fixture_init(&f, contiguous);
	iov.iov_len = SIZE - 16 - 8; /* would make in == out */
	assert_int_equal(vmbus_ring_tx_put(&f.tx, &pkt), -EMSGSIZE);
	iov.iov_len = SIZE - 16 - 8 - 8;
	assert_int_equal(vmbus_ring_tx_put(&f.tx, &pkt), 0);
	assert_int_equal(f.tx.in, SIZE - 8);
	iov.iov_len = 0;
	assert_int_equal(vmbus_ring_tx_put(&f.tx, &pkt), -EAGAIN);
	fixture_fini(&f);
}

static void sizes_that_cannot_be_sent_are_refused(void **state)
{
	static struct fixture f;
	static uint8_t data[VMBUS_PACKET_BYTES_MAX + 8];
	struct iovec iov[2] = {{.iov_base = data, .iov_len = VMBUS_PACKET_BYTES_MAX},
	                       {.iov_base = data, .iov_len = SIZE_MAX / 4}};
	struct vmbus_ring_packet pkt = {.payload = iov, .payload_count = 1};

	(void)state;
	fixture_init(&f, contiguous);
	assert_int_equal(vmbus_ring_tx_put(&f.tx, &pkt), -EMSGSIZE);
	pkt.payload_count = 2;
	assert_int_equal(vmbus_ring_tx_put(&f.tx, &pkt), -EMSGSIZE);
	pkt.payload_count = 0;
	pkt.header = data;
	pkt.header_bytes = 12;
	assert_int_equal(vmbus_ring_tx_put(&f.tx, &pkt), -EMSGSIZE);
	fixture_fini(&f);
}

static void the_guest_is_signalled_only_if_it_may_sleep(void **state)
{
	static struct fixture f;
	const struct vmbus_ring_packet pkt = {0};

	(void)state;
	fixture_init(&f, contiguous);
	assert_int_equal(vmbus_ring_tx_put(&f.tx, &pkt), 0);
	assert_true(vmbus_ring_tx_show(&f.tx)); /* it was empty, mask clear */
	assert_int_equal(vmbus_ring_tx_put(&f.tx, &pkt), 0);
	assert_false(vmbus_ring_tx_show(&f.tx)); /* not empty: it is not done yet */
	f.ctrl->out = f.ctrl->in;
	f.ctrl->mask = 1;
	assert_int_equal(vmbus_ring_tx_put(&f.tx, &pkt), 0);
	assert_false(vmbus_ring_tx_show(&f.tx)); /* it polls */
	f.ctrl->mask = 0;
	f.ctrl->out = f.ctrl->in;
	assert_int_equal(vmbus_ring_tx_put(&f.tx, &pkt), 0);
	assert_true(vmbus_ring_tx_show(&f.tx));
	fixture_fini(&f);
}

static void a_waiting_guest_is_signalled_when_its_room_appears(void **state)
{
	static struct fixture f;
	struct vmbus_packet_wire w = descriptor(2, 127); /* 1024 with its trailer */
	struct vmbus_packet pkt;

	(void)state;
	fixture_init(&f, contiguous);
	for (uint32_t i = 0; i < 11; i++) {
		write_at(&f, i * 1024, &w, sizeof(w));
	}
	f.ctrl->in = 11 * 1024; /* 1024 are free */
	f.ctrl->pending = 3000;
	for (uint32_t i = 0; i < 4; i++) {
		assert_int_equal(vmbus_ring_rx_next(&f.rx, f.buf, sizeof(f.buf), &pkt), 0);
		vmbus_ring_rx_done(&f.rx);
		/* 2048, 3072 (enough), 4096 (had enough before). */
		assert_int_equal(vmbus_ring_rx_show(&f.rx), i == 1);
	}
	fixture_fini(&f);
}

static void arming_finds_what_came_meanwhile(void **state)
{
	static struct fixture f;
	struct vmbus_packet_wire w = descriptor(2, 2);
	struct vmbus_packet pkt;

	(void)state;
	fixture_init(&f, contiguous);
	vmbus_ring_rx_disarm(&f.rx);
	assert_int_equal(f.ctrl->mask, 1);
	assert_int_equal(vmbus_ring_rx_next(&f.rx, f.buf, sizeof(f.buf), &pkt), -EAGAIN);
	write_at(&f, 0, &w, sizeof(w));
	f.ctrl->in = 24;
	assert_false(vmbus_ring_rx_arm(&f.rx));
	assert_int_equal(f.ctrl->mask, 1);
	assert_int_equal(vmbus_ring_rx_next(&f.rx, f.buf, sizeof(f.buf), &pkt), 0);
	vmbus_ring_rx_done(&f.rx);
	assert_false(vmbus_ring_rx_show(&f.rx));
	assert_true(vmbus_ring_rx_arm(&f.rx));
	assert_int_equal(f.ctrl->mask, 0);
	fixture_fini(&f);
}

static void writes_are_reported_to_the_dirty_log(void **state)
{
	static struct fixture f;
	uint64_t bits[4] = {0};
	const struct vmbus_ring_packet pkt = {0};

	(void)state;
	fixture_init(&f, scattered);
	f.ctrl->in = PAGE - 16; /* descriptor in page 17, trailer in page 16 */
	f.ctrl->out = PAGE - 16;
	assert_int_equal(vmbus_ring_tx_start(&f.tx), 0);
	assert_int_equal(gmem_dirty_start(f.mem), 0);
	assert_int_equal(vmbus_ring_tx_put(&f.tx, &pkt), 0);
	assert_true(vmbus_ring_tx_show(&f.tx));
	gmem_dirty_take(f.mem, 0, bits, 4);
	assert_int_equal(bits[0], 1ull << 40 | 1ull << 17 | 1ull << 16);
	assert_int_equal(bits[1] | bits[2] | bits[3], 0);
	vmbus_ring_rx_disarm(&f.rx);
	bits[0] = 0;
	gmem_dirty_take(f.mem, 0, bits, 4);
	assert_int_equal(bits[0], 1ull << 40);
	fixture_fini(&f);
}

static void pages_that_are_no_ram_are_refused(void **state)
{
	const uint64_t holes[][3] = {{1000, 16, 17}, {40, 1000, 17}, {40, 16, 1000}};
	struct vmbus_ring ring;
	static struct fixture f;

	(void)state;
	fixture_init(&f, contiguous);
	for (size_t i = 0; i < ARRAY_LEN(holes); i++) {
		assert_int_equal(vmbus_ring_init(&ring, f.mem, holes[i], 3), -EFAULT);
	}
	fault_arm(FAULT_ALLOC, 1);
	assert_int_equal(vmbus_ring_init(&ring, f.mem, scattered, 4), -ENOMEM);
	fault_arm(FAULT_ALLOC, 0);
	fixture_fini(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_received_packet_is_what_the_guest_wrote_wherever_it_wraps),
		cmocka_unit_test(a_sent_packet_has_the_documented_bytes_wherever_it_wraps),
		cmocka_unit_test(bad_indices_are_refused_at_the_start),
		cmocka_unit_test(bad_indices_are_refused_while_running),
		cmocka_unit_test(impossible_descriptors_are_refused),
		cmocka_unit_test(every_descriptor_stays_within_ring_and_buffer),
		cmocka_unit_test(a_full_ring_refuses_and_says_what_it_waits_for),
		cmocka_unit_test(the_ring_never_becomes_full_to_the_last_byte),
		cmocka_unit_test(sizes_that_cannot_be_sent_are_refused),
		cmocka_unit_test(the_guest_is_signalled_only_if_it_may_sleep),
		cmocka_unit_test(a_waiting_guest_is_signalled_when_its_room_appears),
		cmocka_unit_test(arming_finds_what_came_meanwhile),
		cmocka_unit_test(writes_are_reported_to_the_dirty_log),
		cmocka_unit_test(pages_that_are_no_ram_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
