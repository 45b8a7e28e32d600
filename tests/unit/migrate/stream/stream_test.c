/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/stream/stream.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/errbuf.h"
#include "migrate/stream/stream_wire.h"
#include "tests/lib/hexfile.h"
#include "tests/lib/test.h"

/* Frames recorded from version 1, written by an independent program. They stay. */
static const char *const files[] = {"source-1", "target-1", "data-1", "ack-1"};

static uint8_t *vector(const char *name, size_t *len)
{
	char path[256];

	(void)snprintf(path, sizeof(path), "%s/%s.hex", GW_VECTORS, name);
	return hexfile_load(path, len);
}

static struct stream_memory memory; /* too large for a stack */

static int payload_again(const struct stream_frame *f, const uint8_t *in, uint8_t *again,
                         uint32_t *len)
{
	struct stream_hello hello;
	struct stream_answer answer;
	struct stream_round round;
	struct stream_state state;
	struct stream_final final;
	struct stream_running running;
	struct errbuf why = {0};
	uint64_t number;
	int code;
	int err = 0;

	*len = 0;
	switch ((enum stream_type)f->type) {
	case STREAM_HELLO:
		err = stream_hello_decode(in, f->payload_bytes, &hello, NULL);
		*len = err == 0 ? stream_hello_encode(&hello, again) : 0;
		break;
	case STREAM_ANSWER:
		err = stream_answer_decode(in, f->payload_bytes, &answer, NULL);
		*len = err == 0 ? stream_answer_encode(&answer, again) : 0;
		break;
	case STREAM_MEMORY:
		err = stream_memory_decode(in, f->payload_bytes, f->bulk_bytes, &memory, NULL);
		*len = err == 0 ? stream_memory_encode(&memory, again) : 0;
		break;
	case STREAM_ROUND_END:
	case STREAM_ROUND_ACK:
		err = stream_round_decode(in, f->payload_bytes, &round, NULL);
		*len = err == 0 ? stream_round_encode(&round, again) : 0;
		break;
	case STREAM_STATE:
		err = stream_state_decode(in, f->payload_bytes, &state, NULL);
		if (err == 0) {
			*len = stream_state_encode(&state, again);
			memcpy(again + *len, state.piece, state.piece_bytes);
			*len += state.piece_bytes;
		}
		break;
	case STREAM_FINAL:
		err = stream_final_decode(in, f->payload_bytes, &final, NULL);
		*len = err == 0 ? stream_final_encode(&final, again) : 0;
		break;
	case STREAM_READY:
	case STREAM_COMMIT:
	case STREAM_PING:
	case STREAM_PONG:
		err = stream_number_decode(in, f->payload_bytes, &number, NULL);
		*len = err == 0 ? stream_number_encode(number, again) : 0;
		break;
	case STREAM_RUNNING:
		err = stream_running_decode(in, f->payload_bytes, &running, NULL);
		*len = err == 0 ? stream_running_encode(&running, again) : 0;
		break;
	case STREAM_CANCEL:
	case STREAM_FAILED:
		err = stream_text_decode(in, f->payload_bytes, &code, &why, NULL);
		*len = err == 0 ? stream_text_encode(code, &why, again) : 0;
		break;
	case STREAM_DEFINITION:
	case STREAM_REPORT:
	case STREAM_RETRY:
		memcpy(again, in, f->payload_bytes);
		*len = f->payload_bytes;
		break;
	}
	return err;
}

static void recorded_frames_decode_and_encode_to_the_same_bytes(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		size_t len;
		uint8_t *buf = vector(files[i], &len);
		size_t at = 0;

		for (uint32_t n = 0; at < len; n++) {
			struct stream_frame f;
			uint8_t header[STREAM_HEADER_BYTES];
			uint8_t again[STREAM_MEMORY_PAYLOAD_MAX];
			uint32_t again_bytes;
			const uint8_t *in = buf + at + STREAM_HEADER_BYTES;

			assert_true(len - at >= STREAM_HEADER_BYTES);
			assert_int_equal(stream_frame_decode(buf + at, n, &f, NULL), 0);
			stream_frame_encode(&f, header);
			assert_memory_equal(header, buf + at, sizeof(header));
			assert_int_equal(stream_payload_check(&f, in, NULL), 0);
			assert_int_equal(payload_again(&f, in, again, &again_bytes), 0);
			assert_int_equal(again_bytes, f.payload_bytes);
			assert_memory_equal(again, in, again_bytes);
			at += STREAM_HEADER_BYTES + f.payload_bytes + f.bulk_bytes;
		}
		assert_int_equal(at, len);
		free(buf);
	}
}

static void every_bit_flip_is_noticed(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		size_t len;
		uint8_t *buf = vector(files[i], &len);
		size_t at = 0;

		for (uint32_t n = 0; at < len; n++) {
			struct stream_frame f;
			struct stream_frame good;

			assert_int_equal(stream_frame_decode(buf + at, n, &good, NULL), 0);

			size_t bytes = STREAM_HEADER_BYTES + good.payload_bytes;

			for (size_t bit = 0; bit < 8 * bytes; bit++) {
				buf[at + bit / 8] ^= (uint8_t)(1u << (bit % 8));
				assert_true(stream_frame_decode(buf + at, n, &f, NULL) != 0 ||
				            stream_payload_check(&f, buf + at + STREAM_HEADER_BYTES,
				                                 NULL) != 0);
				buf[at + bit / 8] ^= (uint8_t)(1u << (bit % 8));
			}
			at += bytes + good.bulk_bytes;
		}
		free(buf);
	}
}

/* The payload in memory of its own length, so that ASan sees a read behind it. */
static void every_truncated_payload_is_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		size_t len;
		uint8_t *buf = vector(files[i], &len);
		size_t at = 0;

		for (uint32_t n = 0; at < len; n++) {
			struct stream_frame f;
			uint8_t again[STREAM_MEMORY_PAYLOAD_MAX];
			uint32_t ignored;

			assert_int_equal(stream_frame_decode(buf + at, n, &f, NULL), 0);

			uint32_t whole = f.payload_bytes;

			for (uint32_t cut = 0; cut < whole; cut++) {
				uint8_t *piece = malloc(cut + 1);

				assert_non_null(piece);
				memcpy(piece, buf + at + STREAM_HEADER_BYTES, cut);
				f.payload_bytes = cut;
				/* Texts and pieces of state have no length but the frame's. */
				if (f.type != STREAM_DEFINITION && f.type != STREAM_REPORT &&
				    (f.type != STREAM_STATE || cut <= 16)) {
					assert_int_equal(payload_again(&f, piece, again, &ignored),
					                 -EBADMSG);
				}
				free(piece);
			}
			at += STREAM_HEADER_BYTES + whole + f.bulk_bytes;
		}
		free(buf);
	}
}

/* A header with right CRCs and one field changed. */
static int decode_changed(size_t offset, uint8_t value, struct errbuf *eb)
{
	const struct stream_frame f = {.type = STREAM_PING, .mandatory = true, .payload_bytes = 8};
	struct stream_frame out;
	uint8_t h[STREAM_HEADER_BYTES];

	stream_frame_encode(&f, h);
	h[offset] = value;

	le32 crc = le32_make(crc32c(h + 8, sizeof(h) - 8));

	memcpy(h + 4, &crc, sizeof(crc));
	return stream_frame_decode(h, 0, &out, eb);
}

static void header_fields_out_of_range_are_refused_with_a_right_crc(void **state)
{
	struct errbuf eb = {0};

	(void)state;
	assert_int_equal(decode_changed(0, 0, &eb), -EBADMSG);
	assert_non_null(strstr(eb.text, "magic"));
	assert_int_equal(decode_changed(8, 0, NULL), -EBADMSG);
	assert_int_equal(decode_changed(10, 2, NULL), -EBADMSG);
	assert_int_equal(decode_changed(12, 1, &eb), -EBADMSG);
	assert_string_equal(eb.text, "stream: frame 1 came where 0 was due");
	assert_int_equal(decode_changed(19, 1, NULL), -EBADMSG);
	assert_int_equal(decode_changed(24, 1, &eb), -EBADMSG);
	assert_string_equal(eb.text, "stream: frame 0: PING with a bulk");
	assert_int_equal(decode_changed(28, 1, NULL), -EBADMSG);
}

static void an_unknown_frame_is_refused_by_name_only_if_mandatory(void **state)
{
	const struct stream_frame optional = {.type = 99, .payload_bytes = 5};
	struct stream_frame out;
	struct errbuf eb = {0};
	uint8_t h[STREAM_HEADER_BYTES];

	(void)state;
	stream_frame_encode(&optional, h);
	assert_int_equal(stream_frame_decode(h, 0, &out, NULL), 0);
	assert_int_equal(out.payload_bytes, 5);
	assert_int_equal(decode_changed(8, 99, &eb), -EPROTONOSUPPORT);
	assert_non_null(strstr(eb.text, "type 99"));
	assert_string_not_equal(eb.hint, "");
}

static struct stream_hello sample_hello(void)
{
	struct stream_hello h = {
		.version_min = 1,
		.version_max = 2,
		.offered = STREAM_CAPS_KNOWN,
		.connections = 4,
		.mode = STREAM_MODE_LIVE,
		.memory_bytes = 1ull << 30,
	};

	guid_random(&h.vm);
	guid_random(&h.move);
	return h;
}

static int hello_roundtrip(const struct stream_hello *h)
{
	uint8_t buf[STREAM_SMALL_MAX];
	struct stream_hello out;

	return stream_hello_decode(buf, stream_hello_encode(h, buf), &out, NULL);
}

static void hello_fields_are_checked(void **state)
{
	struct stream_hello h = sample_hello();
	uint8_t buf[STREAM_SMALL_MAX] = {0};
	struct stream_hello out;

	(void)state;
	assert_int_equal(hello_roundtrip(&h), 0);
	/* A newer peer appends. */
	assert_int_equal(stream_hello_decode(buf, stream_hello_encode(&h, buf) + 100, &out, NULL),
	                 0);
	h.version_min = 3;
	assert_int_equal(hello_roundtrip(&h), -EBADMSG);
	h = sample_hello();
	h.required = 1ull << 40;
	assert_int_equal(hello_roundtrip(&h), -EBADMSG);
	h = sample_hello();
	h.connection = 5;
	assert_int_equal(hello_roundtrip(&h), -EBADMSG);
	h = sample_hello();
	h.connections = STREAM_CONNECTIONS_MAX + 1;
	assert_int_equal(hello_roundtrip(&h), -EBADMSG);
	h = sample_hello();
	h.mode = 9;
	assert_int_equal(hello_roundtrip(&h), -EBADMSG);
	h = sample_hello();
	h.memory_bytes = 100;
	assert_int_equal(hello_roundtrip(&h), -EBADMSG);
	h = sample_hello();
	memset(&h.vm, 0, sizeof(h.vm));
	assert_int_equal(hello_roundtrip(&h), -EBADMSG);
}

static void versions_and_capabilities_meet_in_the_middle(void **state)
{
	struct stream_hello h = sample_hello();
	struct stream_answer a;
	struct errbuf eb = {0};

	(void)state;
	/* N = 3 talks to N - 1 = 2, not to 1. */
	assert_int_equal(stream_agree(&h, STREAM_CAP_LZ4, 2, 3, &a, NULL), 0);
	assert_int_equal(a.version, 2);
	assert_int_equal(a.capabilities, STREAM_CAP_LZ4);
	assert_true(guid_equal(&a.move, &h.move));
	assert_int_equal(stream_agree(&h, 0, 3, 4, &a, &eb), -EPROTONOSUPPORT);
	assert_non_null(strstr(eb.text, "1 to 2"));
	assert_non_null(strstr(eb.text, "3 to 4"));
	h.required = STREAM_CAP_ZSTD;
	assert_int_equal(stream_agree(&h, STREAM_CAP_LZ4, 1, 1, &a, &eb), -EPROTONOSUPPORT);
	assert_non_null(strstr(eb.text, "0x4"));
}

static int memory_roundtrip(const struct stream_memory *m, uint32_t bulk_bytes)
{
	uint8_t buf[STREAM_MEMORY_PAYLOAD_MAX];

	return stream_memory_decode(buf, stream_memory_encode(m, buf), bulk_bytes, &memory, NULL);
}

static void runs_of_memory_are_checked(void **state)
{
	static struct stream_memory m;

	(void)state;
	m = (struct stream_memory){
		.round = 2,
		.data_bytes = 3 * 4096,
		.run_count = 3,
		.runs = {{.gpa = 0, .pages = 1},
	                 {.gpa = 4096, .pages = 7, .kind = STREAM_RUN_ZERO},
	                 {.gpa = 1ull << 32, .pages = 2}},
	};

	const struct stream_memory good = m;

	assert_int_equal(memory_roundtrip(&m, 3 * 4096), 0);
	assert_int_equal(memory.run_count, 3);
	assert_int_equal(memory.runs[2].gpa, 1ull << 32);
	assert_int_equal(memory_roundtrip(&m, 2 * 4096), -EBADMSG); /* the bulk is short */
	m.runs[1].gpa = 0;                                          /* overlap */
	assert_int_equal(memory_roundtrip(&m, 3 * 4096), -EBADMSG);
	m = good;
	m.runs[1].gpa = 4097;
	assert_int_equal(memory_roundtrip(&m, 3 * 4096), -EBADMSG);
	m = good;
	m.runs[1].pages = 0;
	assert_int_equal(memory_roundtrip(&m, 3 * 4096), -EBADMSG);
	m = good;
	m.runs[2].gpa = UINT64_MAX - 4095; /* the end wraps */
	assert_int_equal(memory_roundtrip(&m, 3 * 4096), -EBADMSG);
	m = good;
	m.runs[2].gpa = STREAM_GPA_MAX - 4096;
	assert_int_equal(memory_roundtrip(&m, 3 * 4096), -EBADMSG);
	m = good;
	m.runs[2].pages = 3;
	assert_int_equal(memory_roundtrip(&m, 3 * 4096), -EBADMSG);
	m = good;
	m.bulk_crc = 5; /* left out, then written as 0 */
	assert_int_equal(memory_roundtrip(&m, 3 * 4096), 0);
	m.has_crc = true;
	assert_int_equal(memory_roundtrip(&m, 3 * 4096), 0);
	assert_int_equal(memory.bulk_crc, 5);
}

static void a_packed_bulk_is_shorter_than_what_it_holds(void **state)
{
	static struct stream_memory m;

	(void)state;
	m = (struct stream_memory){
		.coding = STREAM_CODING_LZ4,
		.data_bytes = 4096,
		.run_count = 1,
		.runs = {{.gpa = 0, .pages = 1}},
	};
	assert_int_equal(memory_roundtrip(&m, 100), 0);
	assert_int_equal(memory_roundtrip(&m, 0), -EBADMSG);
	assert_int_equal(memory_roundtrip(&m, 4096), -EBADMSG);
	m.coding = 3;
	assert_int_equal(memory_roundtrip(&m, 100), -EBADMSG);
}

static void more_data_than_a_frame_may_hold_is_refused(void **state)
{
	static struct stream_memory m;

	(void)state;
	m = (struct stream_memory){
		.data_bytes = STREAM_BULK_MAX,
		.run_count = 1,
		.runs = {{.gpa = 0, .pages = STREAM_DATA_PAGES_MAX}},
	};
	assert_int_equal(memory_roundtrip(&m, STREAM_BULK_MAX), 0);
	m.runs[0].pages = STREAM_RUN_PAGES_MAX; /* its bytes would wrap a 32-bit length to 0 */
	m.data_bytes = 0;
	assert_int_equal(memory_roundtrip(&m, 0), -EBADMSG);
}

static void pieces_of_state_stay_inside_the_whole(void **state)
{
	uint8_t buf[64] = {0};
	struct stream_state s = {.offset_bytes = 10, .total_bytes = 20};
	struct stream_state out;
	uint32_t len = stream_state_encode(&s, buf);

	(void)state;
	assert_int_equal(stream_state_decode(buf, len + 10, &out, NULL), 0);
	assert_int_equal(out.piece_bytes, 10);
	assert_int_equal(stream_state_decode(buf, len + 11, &out, NULL), -EBADMSG);
	assert_int_equal(stream_state_decode(buf, len, &out, NULL), -EBADMSG);
	s.offset_bytes = UINT64_MAX - 4;
	(void)stream_state_encode(&s, buf);
	assert_int_equal(stream_state_decode(buf, len + 10, &out, NULL), -EBADMSG);
	s = (struct stream_state){.total_bytes = STREAM_STATE_MAX + 1};
	(void)stream_state_encode(&s, buf);
	assert_int_equal(stream_state_decode(buf, len + 10, &out, NULL), -EBADMSG);
}

static void errors_travel_as_printable_text(void **state)
{
	struct errbuf why = {.text = "no \x1b[31mdisk", .hint = "Look."};
	struct errbuf got = {0};
	uint8_t buf[STREAM_SMALL_MAX];
	int err = 0;
	uint32_t len;

	(void)state;
	len = stream_text_encode(-EIO, &why, buf);
	assert_int_equal(stream_text_decode(buf, len, &err, &got, NULL), 0);
	assert_int_equal(err, -EIO);
	assert_string_equal(got.text, "no ?[31mdisk");
	assert_string_equal(got.hint, "Look.");
	len = stream_text_encode(-ENOMEM, NULL, buf);
	assert_int_equal(stream_text_decode(buf, len, &err, &got, NULL), 0);
	assert_string_equal(got.text, "Cannot allocate memory");
	memset(buf, 0, 4); /* success is no error */
	assert_int_equal(stream_text_decode(buf, len, &err, &got, NULL), -EBADMSG);
	memset(why.text, 'x', sizeof(why.text) - 1);
	memset(why.hint, 'y', sizeof(why.hint) - 1);
	len = stream_text_encode(-EIO, &why, buf);
	assert_true(len <= STREAM_SMALL_MAX);
	assert_int_equal(stream_text_decode(buf, len, &err, &got, NULL), 0);
	assert_string_equal(got.text, why.text);
}

static void tokens_are_compared_whole(void **state)
{
	uint8_t a[STREAM_TOKEN_BYTES] = {1, 2, 3};
	uint8_t b[STREAM_TOKEN_BYTES] = {1, 2, 3};

	(void)state;
	assert_true(stream_tokens_equal(a, b));
	b[STREAM_TOKEN_BYTES - 1] = 1;
	assert_false(stream_tokens_equal(a, b));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(recorded_frames_decode_and_encode_to_the_same_bytes),
		cmocka_unit_test(every_bit_flip_is_noticed),
		cmocka_unit_test(every_truncated_payload_is_refused),
		cmocka_unit_test(header_fields_out_of_range_are_refused_with_a_right_crc),
		cmocka_unit_test(an_unknown_frame_is_refused_by_name_only_if_mandatory),
		cmocka_unit_test(hello_fields_are_checked),
		cmocka_unit_test(versions_and_capabilities_meet_in_the_middle),
		cmocka_unit_test(runs_of_memory_are_checked),
		cmocka_unit_test(a_packed_bulk_is_shorter_than_what_it_holds),
		cmocka_unit_test(more_data_than_a_frame_may_hold_is_refused),
		cmocka_unit_test(pieces_of_state_stay_inside_the_whole),
		cmocka_unit_test(errors_travel_as_printable_text),
		cmocka_unit_test(tokens_are_compared_whole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
