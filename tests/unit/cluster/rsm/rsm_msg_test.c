/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/rsm/rsm_msg.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/test.h"

static const uint8_t payload[] = "abc";

static struct rsm_entry sample(void)
{
	struct rsm_entry e = {.index = 0x0102,
	                      .epoch = 3,
	                      .seq = 4,
	                      .time_ns = 5,
	                      .origin = 6,
	                      .type = RSM_COMMAND,
	                      .payload = payload,
	                      .len = 3};

	e.session.b[0] = 0xee;
	return e;
}

static void the_bytes_of_an_entry_are_fixed(void **state)
{
	static const uint8_t golden[67] = {[0] = 2,  [1] = 1,    [8] = 3,    [16] = 0xee,
	                                   [32] = 4, [40] = 5,   [48] = 6,   [52] = RSM_COMMAND,
	                                   [56] = 3, [64] = 'a', [65] = 'b', [66] = 'c'};
	struct rsm_entry e = sample();
	uint8_t buf[128];

	(void)state;
	assert_int_equal(rsm_entry_put(&e, buf), sizeof(golden));
	assert_memory_equal(buf, golden, sizeof(golden));
	/* All nodes must compute the same: no release may change it. */
	assert_true(rsm_hash(0, &e) == 0x6b099da4c2bf42a3ull);
	assert_true(rsm_hash(1, &e) != rsm_hash(0, &e));
	e.payload = (const uint8_t *)"abd";
	assert_true(rsm_hash(0, &e) != rsm_hash(0, &(struct rsm_entry){.len = 0}));
}

/* One body of each type. */
static size_t body_of(uint16_t type, uint8_t *out)
{
	struct rsm_entry e = sample();
	struct rsm_mark mark = {.applied = {.index = 7, .epoch = 2, .hash = 1}, .level = 1};
	const struct rsm_pair pair = {
		.key = payload, .key_len = 2, .value = payload, .value_len = 3};
	size_t len = 0;

	mark.config.count = 1;
	mark.config.nodes[0] = (struct view_node){.nodeid = 1, .votes = 1};
	memset(out, 0, 512);
	switch (type) {
	case FRAME_PROPOSE:
		e.index = 0;
		e.epoch = 0;
		return 8 + rsm_entry_put(&e, out + 8);
	case FRAME_APPEND:
		return 8 + rsm_entry_put(&e, out + 8);
	case FRAME_ENTRIES:
		out[16] = 2;
		len = 24 + rsm_entry_put(&e, out + 24);
		e.index++;
		return len + rsm_entry_put(&e, out + len);
	case FRAME_PAIRS:
		out[8] = 1;  /* chunk */
		out[12] = 1; /* pairs */
		len = rsm_mark_put(&mark, out + 24);
		out[20] = (uint8_t)len;
		return 24 + len + rsm_pair_put(&pair, out + 24 + len);
	case FRAME_ACK:
	case FRAME_EFFECTS:
		return 24;
	case FRAME_SUSPECT:
		return 8;
	case FRAME_FETCH:
		return 32;
	default:
		return 16;
	}
}

static const uint16_t types[] = {FRAME_PROPOSE, FRAME_APPEND,   FRAME_ACK,
                                 FRAME_SUSPECT, FRAME_EFFECTS,  FRAME_FETCH,
                                 FRAME_ENTRIES, FRAME_NO_MATCH, FRAME_PAIRS};

static void each_message_is_read_back(void **state)
{
	uint8_t body[512];
	struct rsm_msg m;
	struct rsm_entry e;
	struct rsm_pair p;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(types); i++) {
		size_t len = body_of(types[i], body);

		assert_int_equal(rsm_msg_decode(types[i], body, len, &m), 0);
		if (types[i] == FRAME_APPEND) {
			assert_int_equal(m.entry.index, 0x0102);
			assert_memory_equal(m.entry.payload, "abc", 3);
		} else if (types[i] == FRAME_ENTRIES) {
			assert_int_equal(rsm_msg_entry(&m.rest, &m.rest_len, &e), 0);
			assert_int_equal(rsm_msg_entry(&m.rest, &m.rest_len, &e), 0);
			assert_int_equal(e.index, 0x0103);
			assert_int_equal(rsm_msg_entry(&m.rest, &m.rest_len, &e), -EBADMSG);
		} else if (types[i] == FRAME_PAIRS) {
			assert_int_equal(m.mark.applied.index, 7);
			assert_int_equal(m.mark.config.count, 1);
			assert_int_equal(rsm_msg_pair(&m.rest, &m.rest_len, &p), 0);
			assert_memory_equal(p.key, "ab", 2);
		}
	}
	assert_int_equal(rsm_msg_decode(99, body, 8, &m), -EBADMSG);
}

static void every_truncation_is_refused(void **state)
{
	uint8_t body[512];
	struct rsm_msg m;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(types); i++) {
		size_t len = body_of(types[i], body);

		for (size_t cut = 0; cut < len; cut++) {
			uint8_t *copy = malloc(cut == 0 ? 1 : cut);

			assert_non_null(copy);
			memcpy(copy, body, cut);
			assert_int_equal(rsm_msg_decode(types[i], copy, cut, &m), -EBADMSG);
			free(copy);
		}
	}
}

static void every_flipped_bit_is_survived(void **state)
{
	uint8_t body[512];
	struct rsm_msg m;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(types); i++) {
		size_t len = body_of(types[i], body);

		for (size_t bit = 0; bit < len * 8; bit++) {
			uint8_t *copy = malloc(len);

			assert_non_null(copy);
			memcpy(copy, body, len);
			copy[bit / 8] ^= (uint8_t)(1u << bit % 8);
			if (rsm_msg_decode(types[i], copy, len, &m) == 0 && m.rest != NULL) {
				assert_true(m.rest + m.rest_len == copy + len);
			}
			free(copy);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_bytes_of_an_entry_are_fixed),
		cmocka_unit_test(each_message_is_read_back),
		cmocka_unit_test(every_truncation_is_refused),
		cmocka_unit_test(every_flipped_bit_is_survived),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
