/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/errbuf.h"
#include "csv/proto/csv_proto.h"
#include "tests/lib/hexfile.h"
#include "tests/lib/test.h"
#include "tests/unit/csv/proto/sample.h"

static uint8_t buf[16384];
static uint8_t other[16384];
static struct csv_msg msg;
static struct csv_msg out;

static int encode(uint32_t index, const char **name)
{
	*name = csv_proto_sample(index, &msg);
	return *name == NULL ? 0 : csv_msg_encode(&msg, buf, sizeof(buf));
}

/* As one who can make checksums. */
static void seal(uint8_t *at, size_t len)
{
	struct csv_msg_head_wire *head = (void *)at;

	head->crc = le32_make(0);
	head->crc = le32_make(crc32c(at, len));
}

static void every_message_is_as_it_always_was(void **state)
{
	const char *name;
	uint32_t i = 0;

	(void)state;
	for (int len; (len = encode(i, &name)) != 0; i++) {
		char path[256];
		size_t want_len;

		assert_true(len > 0);
		(void)snprintf(path, sizeof(path), "%s/%s.hex", VECTORS, name);

		uint8_t *want = hexfile_load(path, &want_len);

		assert_int_equal(len, want_len);
		assert_memory_equal(buf, want, want_len);
		assert_int_equal(csv_msg_decode(want, want_len, &out, NULL), 0);
		assert_int_equal(out.type, msg.type);
		assert_int_equal(csv_msg_encode(&out, other, sizeof(other)), len);
		assert_memory_equal(other, want, want_len);
		free(want);
	}
	assert_int_equal(i, 24);
}

static void what_is_cut_or_harmed_is_noticed(void **state)
{
	struct errbuf eb = {0};
	const char *name;

	(void)state;
	for (uint32_t i = 0; encode(i, &name) != 0; i++) {
		size_t len = (size_t)csv_msg_encode(&msg, buf, sizeof(buf));

		for (size_t cut = 0; cut < len; cut++) {
			assert_true(csv_msg_decode(buf, cut, &out, &eb) < 0);
		}
		for (size_t bit = 0; bit < len * 8; bit++) {
			buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
			assert_true(csv_msg_decode(buf, len, &out, &eb) < 0);
			buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
		}
		for (size_t room = 0; room < len; room++) {
			assert_int_equal(csv_msg_encode(&msg, other, room), -EMSGSIZE);
		}
	}
}

/* Whatever is accepted is what its encoder would write. */
static void lies_with_a_good_checksum_do_not_pass_as_something_else(void **state)
{
	const uint8_t values[] = {0, 1, 2, 5, 0x10, 0x7f, 0x80, 0xff};
	uint32_t accepted = 0;
	const char *name;

	(void)state;
	for (uint32_t i = 0; encode(i, &name) != 0; i++) {
		size_t len = (size_t)csv_msg_encode(&msg, buf, sizeof(buf));

		for (size_t at = 4; at < len && at < 700; at++) {
			for (uint32_t v = 0; v < ARRAY_LEN(values); v++) {
				memcpy(other, buf, len);
				other[at] = values[v];
				seal(other, len);
				if (csv_msg_decode(other, len, &out, NULL) != 0) {
					continue;
				}
				accepted++;

				static uint8_t again[16384];

				assert_int_equal(csv_msg_encode(&out, again, sizeof(again)), len);
				assert_memory_equal(again, other, len);
			}
		}
		/* Cut short, and its length with it. */
		for (size_t cut = sizeof(struct csv_msg_head_wire); cut < len; cut++) {
			struct csv_msg_head_wire *head = (void *)other;

			memcpy(other, buf, cut);
			head->length = le32_make((uint32_t)cut);
			seal(other, cut);

			int err = csv_msg_decode(other, cut, &out, NULL);

			/* A reply's data has no length of its own. */
			assert_true(err != 0 || msg.type == CSV_MSG_REPLY);
		}
	}
	assert_true(accepted > 1000);
}

static int decode_changed(uint32_t index, size_t at, uint8_t value)
{
	const char *name;
	size_t len = (size_t)encode(index, &name);

	buf[at] = value;
	seal(buf, len);
	return csv_msg_decode(buf, len, &out, NULL);
}

static void what_an_operation_does_not_take_is_refused(void **state)
{
	const size_t body = sizeof(struct csv_msg_head_wire);

	(void)state;
	assert_int_equal(decode_changed(3, body, 8), 0);            /* a rename, */
	assert_int_equal(decode_changed(3, body, 1), -EPROTO);      /* no lookup, */
	assert_int_equal(decode_changed(3, body, 99), -EPROTO);     /* and nothing at all */
	assert_int_equal(decode_changed(3, body + 16, 1), -EPROTO); /* a rename has no inode */
	assert_int_equal(decode_changed(3, body + 128, '/'), -EPROTO);
	assert_int_equal(decode_changed(3, 14, 2), -EPROTONOSUPPORT);
	assert_int_equal(decode_changed(3, 12, 0), -EPROTO);
	assert_int_equal(decode_changed(3, 12, 21), -EPROTO);
	assert_int_equal(decode_changed(3, 24, 0), -EPROTO);    /* a request without a number */
	assert_int_equal(decode_changed(17, 24, 1), -EPROTO);   /* an event with one */
	assert_int_equal(decode_changed(16, 32, 200), -EPROTO); /* an error that is none */
	assert_int_equal(decode_changed(0, body + 32, 64), -EPROTO); /* node 64 */
	assert_int_equal(decode_changed(20, body + 48, 1), -EPROTO); /* not whole blocks */
}

static void lengths_are_judged_before_anything_else(void **state)
{
	struct csv_msg_head_wire *head = (void *)buf;
	const char *name;
	int len = encode(3, &name);

	(void)state;
	assert_int_equal(csv_msg_length(buf, 39, NULL), -EAGAIN);
	assert_int_equal(csv_msg_length(buf, 40, NULL), len);
	head->length = le32_make(39);
	assert_int_equal(csv_msg_length(buf, 40, NULL), -EPROTO);
	head->length = le32_make(CSV_MSG_MAX + 1);
	assert_int_equal(csv_msg_length(buf, 40, NULL), -EPROTO);
	head->length = le32_make(CSV_MSG_MAX);
	assert_int_equal(csv_msg_length(buf, 40, NULL), CSV_MSG_MAX);
	buf[0]++;
	assert_int_equal(csv_msg_length(buf, 40, NULL), -EPROTO);
}

static void names_come_out_as_they_went_in(void **state)
{
	static uint8_t space[100];
	struct csv_msg_reply reply = {0};
	struct csv_name in = {
		.cookie = 1, .ino = 2, .kind = CSV_KIND_FILE, .len = 8, .name = "abcdefgh"};
	struct csv_name name;
	uint32_t offset = 0;
	uint32_t count = 0;

	(void)state;
	while (csv_msg_add_name(&reply, space, sizeof(space), &in) == 0) {
		in.cookie++;
	}
	assert_int_equal(reply.names_count, 2);
	while (csv_msg_name(&reply, &offset, &name)) {
		count++;
		assert_true(name.cookie == count && name.ino == 2 && name.len == 8);
		assert_string_equal(name.name, "abcdefgh");
	}
	assert_int_equal(count, 2);
}

static void errors_keep_their_meaning(void **state)
{
	const int errs[] = {-EIO, -ENOENT, -EAGAIN, -EDEADLK, -ESTALE, -EKEYEXPIRED};

	(void)state;
	memset(&msg, 0, sizeof(msg));
	msg.type = CSV_MSG_REPLY;
	msg.request = 1;
	for (uint32_t i = 0; i < ARRAY_LEN(errs); i++) {
		msg.status = errs[i];

		int len = csv_msg_encode(&msg, buf, sizeof(buf));

		assert_int_equal(csv_msg_decode(buf, (size_t)len, &out, NULL), 0);
		assert_int_equal(out.status, errs[i]);
	}
	msg.status = -ENOTBLK; /* one that has no number */

	int len = csv_msg_encode(&msg, buf, sizeof(buf));

	assert_int_equal(csv_msg_decode(buf, (size_t)len, &out, NULL), 0);
	assert_int_equal(out.status, -EIO);
	assert_string_equal(csv_msg_type_name(CSV_MSG_PING), "ping");
	assert_string_equal(csv_msg_type_name((enum csv_msg_type)99), "?");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_message_is_as_it_always_was),
		cmocka_unit_test(what_is_cut_or_harmed_is_noticed),
		cmocka_unit_test(lies_with_a_good_checksum_do_not_pass_as_something_else),
		cmocka_unit_test(what_an_operation_does_not_take_is_refused),
		cmocka_unit_test(lengths_are_judged_before_anything_else),
		cmocka_unit_test(names_come_out_as_they_went_in),
		cmocka_unit_test(errors_keep_their_meaning),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
