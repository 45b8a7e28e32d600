/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/wire.h"
#include "hv/mem/gmem.h"
#include "hv/vmbus/vmbus.h"
#include "tests/lib/test.h"

/* 64 KiB at 0 (pages 0..15), 1 MiB - 64 KiB at 4 GiB (pages 0x100000..0x1000ef). */
static struct gmem *mem;

static int setup(void **state)
{
	const struct gmem_cfg cfg = {.size_bytes = 1u << 20, .low_max_bytes = 1u << 16};

	(void)state;
	return gmem_create(&cfg, &mem, NULL);
}

static int teardown(void **state)
{
	(void)state;
	gmem_destroy(mem);
	return 0;
}

struct header {
	uint8_t buf[4096];
	uint32_t len;
};

static void put32(struct header *h, uint32_t v)
{
	le32 w = le32_make(v);

	memcpy(h->buf + h->len, &w, 4);
	h->len += 4;
}

static void put64(struct header *h, uint64_t v)
{
	put32(h, (uint32_t)v);
	put32(h, (uint32_t)(v >> 32));
}

static struct header header(uint32_t count)
{
	struct header h = {.len = 0};

	put32(&h, 0);
	put32(&h, count);
	return h;
}

/* Decode from an exact copy, so that AddressSanitizer sees a byte too many. */
static int decode(const struct header *h, uint32_t len, struct vmbus_range *out, uint32_t max,
                  uint32_t *count, uint64_t *total)
{
	uint8_t *exact = malloc(len + 1);
	struct vmbus_packet pkt = {
		.type = VMBUS_PACKET_GPA_DIRECT, .header = exact, .header_bytes = len};

	assert_non_null(exact);
	memcpy(exact, h->buf, len);

	int err = vmbus_ranges_decode(mem, &pkt, out, max, count, total);

	free(exact);
	return err;
}

static void neighbours_become_one_piece(void **state)
{
	struct header h = header(2);
	struct vmbus_range out[8];
	uint32_t count;
	uint64_t total;

	(void)state;
	put32(&h, 0x2800);
	put32(&h, 0x400);
	put64(&h, 5);
	put64(&h, 6);
	put64(&h, 8);
	put32(&h, 16);
	put32(&h, 0xff0);
	put64(&h, 0x100000);
	assert_int_equal(decode(&h, h.len, out, 8, &count, &total), 0);
	assert_int_equal(count, 3);
	assert_int_equal(total, 0x2810);
	assert_int_equal(out[0].gpa, 0x5400);
	assert_int_equal(out[0].len_bytes, 0x1c00);
	assert_int_equal(out[1].gpa, 0x8000);
	assert_int_equal(out[1].len_bytes, 0xc00);
	assert_int_equal(out[2].gpa, 0x100000ff0);
	assert_int_equal(out[2].len_bytes, 16);
}

static void ranges_join_across_their_borders(void **state)
{
	struct header h = header(2);
	struct vmbus_range out[1];
	uint32_t count;
	uint64_t total;

	(void)state;
	for (uint64_t pfn = 3; pfn < 5; pfn++) {
		put32(&h, 4096);
		put32(&h, 0);
		put64(&h, pfn);
	}
	assert_int_equal(decode(&h, h.len, out, 1, &count, &total), 0);
	assert_int_equal(count, 1);
	assert_int_equal(out[0].len_bytes, 8192);
}

static void no_ranges_is_no_memory(void **state)
{
	struct header h = header(0);
	uint32_t count;
	uint64_t total;

	(void)state;
	assert_int_equal(decode(&h, h.len, NULL, 0, &count, &total), 0);
	assert_int_equal(count, 0);
	assert_int_equal(total, 0);
}

static void pages_outside_ram_are_refused(void **state)
{
	const uint64_t bad[] = {16, 0xfffff, 0x1000f0, 1ull << 52, (1ull << 52) - 1, UINT64_MAX};
	struct vmbus_range out[4];
	uint32_t count;
	uint64_t total;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct header h = header(1);

		put32(&h, 4096 * 2);
		put32(&h, 0);
		put64(&h, 1);
		put64(&h, bad[i]);
		assert_int_equal(decode(&h, h.len, out, 4, &count, &total), -EFAULT);
		assert_int_equal(count, 0);
		assert_int_equal(total, 0);
	}
}

static void malformed_headers_are_refused(void **state)
{
	const struct {
		uint32_t count, bytes, offset, pages;
	} bad[] = {
		{1, 0, 0, 1},          /* empty range */
		{1, 4096, 4096, 2},    /* offset behind the first page */
		{1, 4097, 0, 1},       /* one page short */
		{1, 2, 4095, 1},       /* the offset makes it two */
		{1, UINT32_MAX, 0, 4}, /* a length that no header holds */
		{1, UINT32_MAX, 4095, 4},
		{2, 4096, 0, 1}, /* a count without its range */
		{UINT32_MAX, 4096, 0, 1},
	};
	struct vmbus_range out[8];
	uint32_t count;
	uint64_t total;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct header h = header(bad[i].count);

		put32(&h, bad[i].bytes);
		put32(&h, bad[i].offset);
		for (uint32_t p = 0; p < bad[i].pages; p++) {
			put64(&h, p);
		}
		assert_int_equal(decode(&h, h.len, out, 8, &count, &total), -EBADMSG);
	}
}

static void every_truncation_is_refused(void **state)
{
	struct header h = header(3);
	struct vmbus_range out[8];
	uint32_t count;
	uint64_t total;

	(void)state;
	for (uint32_t i = 0; i < 3; i++) {
		put32(&h, 8192);
		put32(&h, 0);
		put64(&h, i * 3);
		put64(&h, i * 3 + 1);
	}
	for (uint32_t len = 0; len < h.len; len++) {
		assert_int_equal(decode(&h, len, out, 8, &count, &total), -EBADMSG);
	}
	assert_int_equal(decode(&h, h.len, out, 8, &count, &total), 0);
}

static void every_bit_flip_gives_ram_or_an_error(void **state)
{
	struct header h = header(2);
	struct vmbus_range out[8];
	uint32_t count;
	uint64_t total;

	(void)state;
	for (uint32_t i = 0; i < 2; i++) {
		put32(&h, 8192);
		put32(&h, 0);
		put64(&h, i * 3);
		put64(&h, i * 3 + 1);
	}
	for (uint32_t bit = 0; bit < 8 * h.len; bit++) {
		struct header bad = h;
		uint64_t sum = 0;

		bad.buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
		if (decode(&bad, bad.len, out, 8, &count, &total) != 0) {
			continue;
		}
		for (uint32_t i = 0; i < count; i++) {
			assert_non_null(gmem_range(mem, out[i].gpa, out[i].len_bytes));
			sum += out[i].len_bytes;
		}
		assert_int_equal(sum, total);
	}
}

static void too_many_pieces_are_refused(void **state)
{
	struct header h = header(1);
	struct vmbus_range out[2];
	uint32_t count;
	uint64_t total;

	(void)state;
	put32(&h, 3 * 4096);
	put32(&h, 0);
	put64(&h, 1);
	put64(&h, 3);
	put64(&h, 5);
	assert_int_equal(decode(&h, h.len, out, 2, &count, &total), -E2BIG);
}

static void other_packets_have_no_ranges(void **state)
{
	struct vmbus_packet pkt = {.type = VMBUS_PACKET_INBAND};
	uint32_t count;
	uint64_t total;

	(void)state;
	assert_int_equal(vmbus_ranges_decode(mem, &pkt, NULL, 0, &count, &total), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(neighbours_become_one_piece),
		cmocka_unit_test(ranges_join_across_their_borders),
		cmocka_unit_test(no_ranges_is_no_memory),
		cmocka_unit_test(pages_outside_ram_are_refused),
		cmocka_unit_test(malformed_headers_are_refused),
		cmocka_unit_test(every_truncation_is_refused),
		cmocka_unit_test(every_bit_flip_gives_ram_or_an_error),
		cmocka_unit_test(too_many_pieces_are_refused),
		cmocka_unit_test(other_packets_have_no_ranges),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
