/* SPDX-License-Identifier: Apache-2.0 */
#include "hv/hypercall/hypercall.h"

#include <string.h>

#include "base/attr.h"
#include "hv/mem/gmem.h"
#include "tests/lib/test.h"

#define RAM_BYTES (2ull << 20)

static int setup(void **state)
{
	const struct gmem_cfg cfg = {.size_bytes = RAM_BYTES, .low_max_bytes = RAM_BYTES};
	struct gmem *mem;

	if (gmem_create(&cfg, &mem, NULL) != 0) {
		return -1;
	}
	*state = mem;
	return 0;
}

static int teardown(void **state)
{
	gmem_destroy(*state);
	return 0;
}

static void put32(uint8_t *at, uint32_t v)
{
	for (unsigned i = 0; i < 4; i++) {
		at[i] = (uint8_t)(v >> 8 * i);
	}
}

/* The input of a post, as the TLFS draws it. */
static void input(uint8_t buf[256], uint32_t connection, uint32_t type, uint32_t len)
{
	memset(buf, 0, 256);
	put32(buf, connection);
	put32(buf + 8, type);
	put32(buf + 12, len);
	for (unsigned i = 0; i < 240; i++) {
		buf[16 + i] = (uint8_t)i;
	}
}

static void every_bit_of_the_control_word_counts(void **state)
{
	static const uint32_t calls[] = {HYPERCALL_POST_MESSAGE, HYPERCALL_SIGNAL_EVENT};

	(void)state;
	for (size_t c = 0; c < ARRAY_LEN(calls); c++) {
		uint32_t code = 0;

		assert_int_equal(hypercall_decode(calls[c], &code), HYPERCALL_SUCCESS);
		assert_int_equal(code, calls[c]);
		for (unsigned bit = 16; bit < 64; bit++) {
			uint64_t control = calls[c] | 1ull << bit;
			enum hypercall_status want = HYPERCALL_INVALID_INPUT;

			if (bit == 16 && calls[c] == HYPERCALL_SIGNAL_EVENT) {
				want = HYPERCALL_SUCCESS; /* fast: the input in registers */
			}
			code = 0xbad;
			assert_int_equal(hypercall_decode(control, &code), want);
			assert_int_equal(code, want == HYPERCALL_SUCCESS ? calls[c] : 0xbad);
		}
	}
}

static void calls_nobody_knows_are_refused(void **state)
{
	(void)state;
	for (uint32_t call = 0; call <= 0xffff; call++) {
		uint32_t code;
		bool known = call == HYPERCALL_POST_MESSAGE || call == HYPERCALL_SIGNAL_EVENT;

		assert_int_equal(hypercall_decode(call, &code),
		                 known ? HYPERCALL_SUCCESS : HYPERCALL_INVALID_CODE);
	}
	assert_int_equal(hypercall_decode(UINT64_MAX, &(uint32_t){0}), HYPERCALL_INVALID_CODE);
}

static void a_posted_message_is_copied_out(void **state)
{
	struct gmem *mem = *state;
	struct hypercall_message msg;
	uint8_t buf[256];

	input(buf, 0xff000004, 1, 240);
	assert_int_equal(gmem_write(mem, 0x1000, buf, 256), 0);
	assert_int_equal(hypercall_post_decode(mem, 0x1000, &msg), HYPERCALL_SUCCESS);
	assert_int_equal(msg.connection_id, 4); /* 24 bits; the rest is reserved */
	assert_int_equal(msg.type, 1);
	assert_int_equal(msg.len_bytes, 240);
	assert_memory_equal(msg.payload, buf + 16, 240);
	/* What the guest writes afterwards changes nothing. */
	assert_int_equal(gmem_zero(mem, 0x1000, 256), 0);
	assert_memory_equal(msg.payload, buf + 16, 240);
}

static void fields_out_of_range_are_refused(void **state)
{
	static const struct {
		uint32_t type, len;
		enum hypercall_status want;
	} cases[] = {
		{1, 0, HYPERCALL_SUCCESS},
		{1, 240, HYPERCALL_SUCCESS},
		{0x7fffffff, 1, HYPERCALL_SUCCESS},
		{0, 1, HYPERCALL_INVALID_PARAMETER},
		{0x80000000, 1, HYPERCALL_INVALID_PARAMETER},
		{0xffffffff, 1, HYPERCALL_INVALID_PARAMETER},
		{1, 241, HYPERCALL_INVALID_PARAMETER},
		{1, 0x80000000, HYPERCALL_INVALID_PARAMETER},
		{1, 0xffffffff, HYPERCALL_INVALID_PARAMETER},
	};
	struct gmem *mem = *state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct hypercall_message msg;
		uint8_t buf[256];

		input(buf, 1, cases[i].type, cases[i].len);
		assert_int_equal(gmem_write(mem, 0x2000, buf, 256), 0);
		assert_int_equal(hypercall_post_decode(mem, 0x2000, &msg), cases[i].want);
	}
}

static void addresses_must_be_aligned_in_one_page_and_in_memory(void **state)
{
	struct gmem *mem = *state;
	struct hypercall_message msg;
	uint8_t buf[256];

	input(buf, 1, 1, 8);
	for (uint64_t at = 0x1000; at < 0x2000; at++) {
		bool fine = at % 8 == 0 && at <= 0x2000 - 256;

		assert_int_equal(gmem_write(mem, at, buf, 256), 0);
		assert_int_equal(hypercall_post_decode(mem, at, &msg),
		                 fine ? HYPERCALL_SUCCESS : HYPERCALL_INVALID_ALIGNMENT);
	}
	assert_int_equal(gmem_write(mem, RAM_BYTES - 256, buf, 256), 0);
	assert_int_equal(hypercall_post_decode(mem, RAM_BYTES - 256, &msg), HYPERCALL_SUCCESS);
	assert_int_equal(hypercall_post_decode(mem, RAM_BYTES, &msg), HYPERCALL_INVALID_PARAMETER);
	assert_int_equal(hypercall_post_decode(mem, 1ull << 63, &msg), HYPERCALL_INVALID_PARAMETER);
	assert_int_equal(hypercall_post_decode(mem, UINT64_MAX - 0xfff, &msg),
	                 HYPERCALL_INVALID_PARAMETER);
	assert_int_equal(hypercall_post_decode(mem, UINT64_MAX, &msg), HYPERCALL_INVALID_ALIGNMENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_bit_of_the_control_word_counts),
		cmocka_unit_test(calls_nobody_knows_are_refused),
		cmocka_unit_test(a_posted_message_is_copied_out),
		cmocka_unit_test(fields_out_of_range_are_refused),
		cmocka_unit_test(addresses_must_be_aligned_in_one_page_and_in_memory),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
