/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/view/frame.h"
#include "cluster/view/view.h"
#include "tests/lib/test.h"

static struct view_hello sample(void)
{
	struct view_hello h = {
		.ring = {.seq = 0x1234, .nodeid = 1},
		.round = 7,
		.promised = 9,
		.last_epoch = 8,
		.last_index = 100,
		.last_hash = 0x1122334455667788ull,
		.commit_index = 99,
		.config_version = 3,
		.level = 1,
		.level_max = 2,
		.flags = VIEW_FLAG_QUORATE,
		.config = {.count = 2,
	                   .nodes = {{.nodeid = 1, .votes = 1}, {.nodeid = 2, .votes = 1}}},
	};

	h.cluster.b[0] = 0xc1;
	h.uuid.b[0] = 0xaa;
	h.incarnation.b[0] = 0xbb;
	h.config.nodes[0].uuid.b[0] = 0xaa;
	h.config.nodes[1].uuid.b[0] = 0xab;
	return h;
}

static void the_bytes_of_a_hello_are_fixed(void **state)
{
	static const uint8_t head[] = {'G', 'R', 'M', '1', 1, 0, 1, 0, 176, 0, 0, 0};
	static const uint8_t body[] = {
		0x34, 0x12, 0, 0, 0, 0, 0, 0,    1,
		0,    0,    0, 7, 0, 0, 0, 0xc1, /* ring, round, cluster */
	};
	static const uint8_t log[] = {
		9,    0,    0,    0,    0,    0,    0,    0,    /* promised */
		8,    0,    0,    0,    0,    0,    0,    0,    /* epoch */
		100,  0,    0,    0,    0,    0,    0,    0,    /* index */
		0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, /* hash */
		99,   0,    0,    0,    0,    0,    0,    0,    /* commit */
		3,    0,    0,    0,    0,    0,    0,    0,    /* corosync.conf */
		1,    0,    0,    0,    2,    0,    0,    0,    /* levels */
		1,    0,    2,    0,    0,    0,    0,    0,    /* quorate; two nodes */
		1,    0,    0,    0,    1,    0,    0,    0,    0xaa};
	struct view_hello h = sample();
	uint8_t buf[VIEW_SEND_MAX];

	(void)state;
	assert_int_equal(view_hello_encode(&h, buf), 16 + 128 + 2 * 24);
	assert_memory_equal(buf, head, sizeof(head));
	assert_memory_equal(buf + 16, body, sizeof(body));
	assert_memory_equal(buf + 16 + 64, log, sizeof(log));
}

static int open_and_decode(const uint8_t *buf, size_t len, struct view_hello *out)
{
	const uint8_t *body;
	size_t body_len;
	uint16_t type;
	int err = frame_open(buf, len, &type, &body, &body_len);

	return err == 0 ? view_hello_decode(body, body_len, out) : err;
}

static void a_hello_is_read_back(void **state)
{
	struct view_hello h = sample();
	struct view_hello out = {0};
	uint8_t buf[VIEW_SEND_MAX];
	size_t len = view_hello_encode(&h, buf);

	(void)state;
	assert_int_equal(open_and_decode(buf, len, &out), 0);
	assert_memory_equal(&h, &out, sizeof(h));
}

static void every_truncation_and_flipped_bit_of_a_frame_is_refused(void **state)
{
	struct view_hello h = sample();
	struct view_hello out;
	uint8_t buf[VIEW_SEND_MAX];
	size_t len = view_hello_encode(&h, buf);

	(void)state;
	for (size_t cut = 0; cut < len; cut++) {
		uint8_t *copy = malloc(cut == 0 ? 1 : cut);

		assert_non_null(copy);
		memcpy(copy, buf, cut);
		assert_int_equal(open_and_decode(copy, cut, &out), -EBADMSG);
		free(copy);
	}
	for (size_t bit = 0; bit < len * 8; bit++) {
		buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_int_not_equal(open_and_decode(buf, len, &out), 0);
		buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
}

/* With a right checksum: what a faulty member could say. */
static void every_truncation_of_a_body_is_refused(void **state)
{
	struct view_hello h = sample();
	struct view_hello out;
	uint8_t buf[VIEW_SEND_MAX];
	size_t len = view_hello_encode(&h, buf) - 16;

	(void)state;
	for (size_t cut = 0; cut < len; cut++) {
		assert_int_equal(view_hello_decode(buf + 16, cut, &out), -EBADMSG);
	}
	for (size_t bit = 0; bit < len * 8; bit++) { /* must only be survived */
		buf[16 + bit / 8] ^= (uint8_t)(1u << bit % 8);
		if (view_hello_decode(buf + 16, len, &out) == 0) {
			assert_true(out.config.count <= VIEW_NODES_MAX);
		}
		buf[16 + bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
}

static void impossible_configurations_are_refused(void **state)
{
	struct view_config config = sample().config;
	struct view_config out;
	uint8_t buf[2 * 24];

	(void)state;
	(void)view_config_encode(&config, buf);
	assert_int_equal(view_config_decode(buf, sizeof(buf), &out), 0);
	assert_int_equal(view_config_total(&out), 2);
	assert_int_equal(view_config_decode(buf, 0, &out), -EBADMSG);
	buf[24] = 1; /* the same nodeid twice */
	assert_int_equal(view_config_decode(buf, sizeof(buf), &out), -EBADMSG);
	buf[24] = 2;
	buf[32] = 0xaa; /* the same uuid twice */
	assert_int_equal(view_config_decode(buf, sizeof(buf), &out), -EBADMSG);
	buf[32] = 0xab;
	buf[28] = 0; /* no votes */
	assert_int_equal(view_config_decode(buf, sizeof(buf), &out), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_bytes_of_a_hello_are_fixed),
		cmocka_unit_test(a_hello_is_read_back),
		cmocka_unit_test(every_truncation_and_flipped_bit_of_a_frame_is_refused),
		cmocka_unit_test(every_truncation_of_a_body_is_refused),
		cmocka_unit_test(impossible_configurations_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
