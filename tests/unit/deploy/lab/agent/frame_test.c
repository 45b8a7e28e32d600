/* SPDX-License-Identifier: Apache-2.0 */
#include "deploy/lab/agent/frame.h"

#include <errno.h>
#include <string.h>

#include "tests/lib/test.h"

/* HELLO of session 0x01020304, START of `echo hi` in it: as deploy/lab/gwlab/channel.py sends. */
static const uint8_t hello[] = {0x47, 0x57, 0x4c, 0x58, 4, 3, 2, 1, 'H', 0, 0, 0, 0, 0, 0, 0};
static const uint8_t start[] = {
	0x47, 0x57, 0x4c, 0x58, 4,  3,   2,   1, 'S', 0, 0, 0, 16, 0, 0, 0, /* header */
	0,    0,    0,    0,    24, 0,   80,  0,                            /* window */
	'e',  'c',  'h',  'o',  0,  'h', 'i', 0,
};

/* Feed @bytes in pieces of @piece and return how many frames come out, checking each. */
static uint32_t feed(struct frame_reader *r, const uint8_t *bytes, size_t count, size_t piece)
{
	uint32_t frames = 0;

	while (count > 0) {
		size_t room;
		uint8_t *to = frame_reader_room(r, &room);
		size_t n = count < piece ? count : piece;
		struct frame frame;

		assert_true(room > 0);
		n = n < room ? n : room;
		memcpy(to, bytes, n);
		frame_reader_fed(r, n);
		bytes += n;
		count -= n;
		while (frame_reader_next(r, &frame) == 0) {
			assert_true(frame.payload_bytes <= FRAME_PAYLOAD_MAX);
			assert_true(frame.payload >= r->buf &&
			            frame.payload + frame.payload_bytes <= r->buf + r->used_bytes);
			frames++;
		}
	}
	return frames;
}

static void a_header_has_the_documented_bytes(void **state)
{
	struct frame_wire wire;

	(void)state;
	frame_header_encode(&wire, FRAME_HELLO, 0x01020304, 0);
	assert_memory_equal(&wire, hello, sizeof(hello));
	frame_header_encode(&wire, FRAME_START, 0x01020304, 16);
	assert_memory_equal(&wire, start, sizeof(wire));
}

static void frames_come_out_whole_whatever_the_pieces(void **state)
{
	static struct frame_reader reader;
	uint8_t stream[sizeof(hello) + sizeof(start)];

	(void)state;
	memcpy(stream, hello, sizeof(hello));
	memcpy(stream + sizeof(hello), start, sizeof(start));
	for (size_t piece = 1; piece <= sizeof(stream); piece++) {
		memset(&reader, 0, sizeof(reader));
		assert_int_equal(feed(&reader, stream, sizeof(stream), piece), 2);
	}
}

static void the_largest_frame_fits_and_a_larger_one_is_none(void **state)
{
	static struct frame_reader reader;
	static uint8_t stream[sizeof(struct frame_wire) + FRAME_PAYLOAD_MAX];
	struct frame_wire wire;

	(void)state;
	frame_header_encode(&wire, FRAME_STDIN, 1, FRAME_PAYLOAD_MAX);
	memcpy(stream, &wire, sizeof(wire));
	memset(&reader, 0, sizeof(reader));
	assert_int_equal(feed(&reader, stream, sizeof(stream), 4096), 1);

	wire.payload_bytes = le32_make(FRAME_PAYLOAD_MAX + 1);
	memcpy(stream, &wire, sizeof(wire));
	memset(&reader, 0, sizeof(reader));
	assert_int_equal(feed(&reader, stream, sizeof(stream), 4096), 0);
	assert_int_equal(feed(&reader, hello, sizeof(hello), 4096), 1);
}

static void what_a_killed_client_left_is_skipped_after_its_length_of_zeros(void **state)
{
	static struct frame_reader reader;
	static const uint8_t zeros[FRAME_PAYLOAD_MAX];
	struct frame_wire wire;

	(void)state;
	memset(&reader, 0, sizeof(reader));
	frame_header_encode(&wire, FRAME_STDIN, 7, FRAME_PAYLOAD_MAX);
	assert_int_equal(feed(&reader, (const uint8_t *)&wire, sizeof(wire), 100), 0);
	/* The successor's hello is taken for payload; then it sends zeros and asks again. */
	assert_int_equal(feed(&reader, hello, sizeof(hello), 100), 0);
	assert_int_equal(feed(&reader, zeros, sizeof(zeros), 4096), 1);
	assert_int_equal(feed(&reader, hello, sizeof(hello), 100), 1);
}

static void noise_before_a_frame_is_skipped(void **state)
{
	static struct frame_reader reader;
	uint8_t noise[300];

	(void)state;
	for (int c = 0; c < 256; c++) {
		memset(&reader, 0, sizeof(reader));
		memset(noise, c, sizeof(noise));
		assert_int_equal(feed(&reader, noise, sizeof(noise), 13), 0);
		assert_int_equal(feed(&reader, hello, sizeof(hello), 13), 1);
	}
}

static void every_bit_of_a_header_flipped_is_survived(void **state)
{
	static struct frame_reader reader;
	static const uint8_t zeros[FRAME_PAYLOAD_MAX];

	(void)state;
	for (size_t bit = 0; bit < sizeof(start) * 8; bit++) {
		uint8_t stream[sizeof(start)];

		memcpy(stream, start, sizeof(start));
		stream[bit / 8] ^= (uint8_t)(1U << bit % 8);
		memset(&reader, 0, sizeof(reader));
		(void)feed(&reader, stream, sizeof(stream), 7);
		(void)feed(&reader, zeros, sizeof(zeros), 8192);
		assert_int_equal(feed(&reader, hello, sizeof(hello), 7), 1);
	}
}

static void start_is_split_into_its_arguments(void **state)
{
	static struct frame_start out;

	(void)state;
	assert_int_equal(frame_start_decode(start + 16, 16, &out), 0);
	assert_int_equal(out.flags, 0);
	assert_int_equal(out.rows, 24);
	assert_int_equal(out.columns, 80);
	assert_int_equal(out.argc, 2);
	assert_string_equal(out.argv[0], "echo");
	assert_string_equal(out.argv[1], "hi");
	assert_null(out.argv[2]);
}

static void every_truncation_of_start_is_refused_or_shorter(void **state)
{
	static struct frame_start out;

	(void)state;
	for (size_t len = 0; len < 16; len++) {
		/* Cut right after `echo` it is a command without arguments. */
		assert_int_equal(frame_start_decode(start + 16, len, &out),
		                 len == 13 ? 0 : -EBADMSG);
	}
	assert_int_equal(out.argc, 1);
}

static void reserved_bits_and_empty_programs_are_refused(void **state)
{
	static struct frame_start out;

	(void)state;
	for (size_t bit = 1; bit < 32; bit++) {
		uint8_t payload[16];

		memcpy(payload, start + 16, sizeof(payload));
		payload[bit / 8] ^= (uint8_t)(1U << bit % 8);
		assert_int_equal(frame_start_decode(payload, sizeof(payload), &out), -EBADMSG);
	}
	const uint8_t empty[] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 'x', 0};

	assert_int_equal(frame_start_decode(empty, sizeof(empty), &out), -EBADMSG);
}

static void more_arguments_than_the_limit_are_refused(void **state)
{
	static struct frame_start out;
	static uint8_t payload[8 + 2 * (FRAME_ARGS_MAX + 1)];

	(void)state;
	for (size_t i = 8; i < sizeof(payload); i += 2) {
		payload[i] = 'a';
	}
	assert_int_equal(frame_start_decode(payload, sizeof(payload) - 2, &out), 0);
	assert_int_equal(out.argc, FRAME_ARGS_MAX);
	assert_int_equal(frame_start_decode(payload, sizeof(payload), &out), -E2BIG);
}

static void a_window_has_four_bytes(void **state)
{
	const uint8_t payload[] = {24, 0, 80, 0, 0};
	uint16_t rows = 0;
	uint16_t columns = 0;

	(void)state;
	assert_int_equal(frame_window_decode(payload, 4, &rows, &columns), 0);
	assert_int_equal(rows, 24);
	assert_int_equal(columns, 80);
	assert_int_equal(frame_window_decode(payload, 3, &rows, &columns), -EBADMSG);
	assert_int_equal(frame_window_decode(payload, 5, &rows, &columns), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_header_has_the_documented_bytes),
		cmocka_unit_test(frames_come_out_whole_whatever_the_pieces),
		cmocka_unit_test(the_largest_frame_fits_and_a_larger_one_is_none),
		cmocka_unit_test(what_a_killed_client_left_is_skipped_after_its_length_of_zeros),
		cmocka_unit_test(noise_before_a_frame_is_skipped),
		cmocka_unit_test(every_bit_of_a_header_flipped_is_survived),
		cmocka_unit_test(start_is_split_into_its_arguments),
		cmocka_unit_test(every_truncation_of_start_is_refused_or_shorter),
		cmocka_unit_test(reserved_bits_and_empty_programs_are_refused),
		cmocka_unit_test(more_arguments_than_the_limit_are_refused),
		cmocka_unit_test(a_window_has_four_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
