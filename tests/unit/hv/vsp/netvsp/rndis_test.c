/* SPDX-License-Identifier: Apache-2.0 */

/* rndis_test - RNDIS and NVSP messages: golden bytes, every truncation, every bit flip. */

#include "hv/vsp/netvsp/rndis.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hv/vsp/netvsp/nvsp.h"
#include "hv/vsp/netvsp/rndis_wire.h"
#include "tests/lib/test.h"

/* As Linux 6.1 sends a TCP segment for segmentation: VLAN 5 with priority 2, MSS 1460 of version 2
 * with TCP at 34, 100 bytes at 68. */
/* clang-format off */
static const uint8_t golden_tx[176] = {
	1, 0, 0, 0, 176, 0, 0, 0, 68, 0, 0, 0, 100, 0, 0, 0,
	0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 36, 0, 0, 0,
	32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
	16, 0, 0, 0, 6, 0, 0, 0, 12, 0, 0, 0, 0x52, 0x00, 0, 0,
	16, 0, 0, 0, 2, 0, 0, 0, 12, 0, 0, 0, 0xb4, 0x05, 0x20, 0x42,
};
/* clang-format on */

static void a_data_message_is_decoded(void **state)
{
	struct rndis_tx tx;

	(void)state;
	assert_int_equal(rndis_tx_decode(golden_tx, sizeof(golden_tx), sizeof(golden_tx), &tx), 0);
	assert_int_equal(tx.message_bytes, 176);
	assert_int_equal(tx.data_offset, 76);
	assert_int_equal(tx.data_bytes, 100);
	assert_false(tx.has_checksum);
	assert_true(tx.has_vlan && tx.has_lso);
	assert_int_equal(RNDIS_VLAN_ID(tx.vlan), 5);
	assert_int_equal(RNDIS_VLAN_PRIORITY(tx.vlan), 2);
	assert_int_equal(RNDIS_LSO_MSS(tx.lso), 1460);
	assert_int_equal(RNDIS_LSO_HEADER_OFFSET(tx.lso), 34);
	assert_true((tx.lso & RNDIS_LSO_V2) != 0);
}

/* What was decoded lies inside of the message. */
static void check_tx(const struct rndis_tx *tx, uint32_t total)
{
	assert_true(tx->message_bytes <= total);
	assert_true((uint64_t)tx->data_offset + tx->data_bytes <= tx->message_bytes);
	assert_true(tx->data_offset >= 44);
}

static void damaged_data_messages_are_refused_or_sane(void **state)
{
	struct rndis_tx tx;
	uint8_t *buf;

	(void)state;
	for (uint32_t len = 0; len < sizeof(golden_tx); len++) {
		buf = malloc(len + 1); /* so that ASan sees reads behind the end */
		memcpy(buf, golden_tx, len);
		assert_int_equal(rndis_tx_decode(buf, len, len, &tx), -EBADMSG);
		if (len >= 76) { /* the head is enough if the rest is known to be there */
			assert_int_equal(rndis_tx_decode(buf, len, 176, &tx), 0);
		}
		free(buf);
	}
	for (uint32_t bit = 0; bit < 8 * 76; bit++) {
		buf = malloc(sizeof(golden_tx));
		memcpy(buf, golden_tx, sizeof(golden_tx));
		buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
		if (rndis_tx_decode(buf, sizeof(golden_tx), sizeof(golden_tx), &tx) == 0) {
			check_tx(&tx, sizeof(golden_tx));
		}
		free(buf);
	}
}

static void information_of_no_length_ends_nothing(void **state)
{
	uint8_t buf[176];
	struct rndis_tx tx;

	(void)state;
	memcpy(buf, golden_tx, sizeof(buf));
	buf[44] = 0; /* would loop */
	assert_int_equal(rndis_tx_decode(buf, sizeof(buf), sizeof(buf), &tx), -EBADMSG);
	buf[44] = 12; /* a VLAN without its value */
	assert_int_equal(rndis_tx_decode(buf, sizeof(buf), sizeof(buf), &tx), -EBADMSG);
	memcpy(buf, golden_tx, sizeof(buf));
	buf[48] = 77; /* unknown ones are skipped */
	assert_int_equal(rndis_tx_decode(buf, sizeof(buf), sizeof(buf), &tx), 0);
	assert_false(tx.has_vlan);
	assert_true(tx.has_lso);
}

/* SET of the packet filter. */
static const uint8_t golden_set[32] = {
	5, 0, 0, 0, 32, 0, 0, 0, 7, 0, 0, 0, 0x0e, 1, 1, 0,
	4, 0, 0, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0x0d, 0, 0, 0,
};

static void a_control_message_is_decoded(void **state)
{
	struct rndis_request r;

	(void)state;
	assert_int_equal(rndis_request_decode(golden_set, sizeof(golden_set), &r), 0);
	assert_int_equal(r.type, RNDIS_SET);
	assert_int_equal(r.id, 7);
	assert_int_equal(r.oid, RNDIS_OID_PACKET_FILTER);
	assert_int_equal(r.info_bytes, 4);
	assert_ptr_equal(r.info, golden_set + 28);
}

static void damaged_control_messages_are_refused_or_sane(void **state)
{
	struct rndis_request r;
	uint8_t *buf;

	(void)state;
	for (uint32_t len = 0; len < sizeof(golden_set); len++) {
		buf = malloc(len + 1);
		memcpy(buf, golden_set, len);
		assert_int_equal(rndis_request_decode(buf, len, &r), -EBADMSG);
		free(buf);
	}
	for (uint32_t bit = 0; bit < 8 * sizeof(golden_set); bit++) {
		buf = malloc(sizeof(golden_set));
		memcpy(buf, golden_set, sizeof(golden_set));
		buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
		if (rndis_request_decode(buf, sizeof(golden_set), &r) == 0 && r.info_bytes != 0) {
			assert_true(r.info >= buf &&
			            r.info + r.info_bytes <= buf + sizeof(golden_set));
		}
		free(buf);
	}
	buf = calloc(1, RNDIS_REQUEST_MAX + 1);
	assert_int_equal(rndis_request_decode(buf, RNDIS_REQUEST_MAX + 1, &r), -EBADMSG);
	free(buf);
}

static void answers_have_their_bytes(void **state)
{
	static const uint8_t init[52] = {2, 0, 0, 0x80, 52, 0, 0, 0,    9, 0, 0, 0, 0, 0, 0,
	                                 0, 1, 0, 0,    0,  0, 0, 0,    0, 1, 0, 0, 0, 0, 0,
	                                 0, 0, 8, 0,    0,  0, 0, 0x40, 0, 0, 3, 0, 0, 0};
	static const uint8_t query[28] = {4, 0, 0, 0x80, 28, 0, 0,  0, 9, 0, 0, 0, 0, 0,
	                                  0, 0, 4, 0,    0,  0, 16, 0, 0, 0, 1, 2, 3, 4};
	static const uint8_t indicate[20] = {7, 0, 0, 0, 20, 0, 0, 0, 0x0b, 0, 1, 0x40};
	const struct rndis_request r = {.type = RNDIS_QUERY, .id = 9};
	uint8_t out[RNDIS_REPLY_MAX];

	(void)state;
	assert_int_equal(rndis_initialize_reply(out, 9, 0x4000), sizeof(init));
	assert_memory_equal(out, init, sizeof(init));
	assert_int_equal(rndis_query_reply(out, &r, 0, query + 24, 4), sizeof(query));
	assert_memory_equal(out, query, sizeof(query));
	assert_int_equal(rndis_indicate(out, RNDIS_STATUS_MEDIA_CONNECT), sizeof(indicate));
	assert_memory_equal(out, indicate, sizeof(indicate));
}

static void a_received_frame_carries_what_is_known(void **state)
{
	static const uint8_t want[92] = {
		1,    0, 0, 0, 216, 0, 0, 0, 108, 0, 0, 0,    100, 0, 0, 0, 0, 0, 0, 0, 0,  0, 0, 0,
		0,    0, 0, 0, 36,  0, 0, 0, 48,  0, 0, 0,    0,   0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0,
		0,    0, 0, 0, 12,  0, 0, 0, 8,   0, 0, 0,    16,  0, 0, 0, 6, 0, 0, 0, 12, 0, 0, 0,
		0x50, 0, 0, 0, 16,  0, 0, 0, 1,   0, 0, 0x80, 12,  0, 0, 0, 1, 3, 7, 0,
	};
	const struct rndis_rx rx = {
		.data_offset = RNDIS_RX_ROOM + 4,
		.data_bytes = 100,
		.checksum = RNDIS_CSUM_RX_TCP_OK,
		.has_vlan = true,
		.vlan = 0x50,
		.part_flags = RNDIS_PACKET_ID_PART | RNDIS_PACKET_ID_FIRST,
		.part_id = 7,
	};
	uint8_t out[RNDIS_RX_ROOM];

	(void)state;
	rndis_rx_encode(out, &rx);
	assert_memory_equal(out, want, sizeof(want));
	for (size_t i = sizeof(want); i < sizeof(out); i++) {
		assert_int_equal(out[i], 0);
	}
}

/* ---- NVSP ---- */

static void nvsp_messages_may_be_as_short_as_their_fields(void **state)
{
	static const struct {
		uint8_t type;
		uint32_t bytes;
	} types[] = {{1, 12},  {100, 12}, {101, 10}, {103, 6}, {104, 10},
	             {106, 6}, {107, 16}, {125, 20}, {129, 8}, {133, 12}};
	uint8_t buf[64];
	struct netvsp_message m;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(types); i++) {
		memset(buf, 0x5a, sizeof(buf));
		memset(buf, 0, 4);
		buf[0] = types[i].type;
		for (uint32_t len = 0; len < types[i].bytes; len++) {
			assert_int_equal(nvsp_decode(buf, len, &m), -EBADMSG);
		}
		assert_int_equal(nvsp_decode(buf, types[i].bytes, &m), 0);
		assert_int_equal(m.u.bytes[35], 0);
		assert_int_equal(nvsp_decode(buf, sizeof(buf), &m), 0);
		assert_int_equal(m.u.bytes[35], 0x5a);
	}
	for (uint32_t type = 0; type < 300; type++) {
		bool known = false;

		for (size_t i = 0; i < ARRAY_LEN(types); i++) {
			known = known || types[i].type == type;
		}
		buf[0] = (uint8_t)type;
		buf[1] = (uint8_t)(type >> 8);
		assert_int_equal(nvsp_decode(buf, 40, &m), known ? 0 : -EOPNOTSUPP);
	}
}

static void the_newest_version_in_the_range_is_chosen(void **state)
{
	enum netvsp_status why = 0;

	(void)state;
	assert_int_equal(nvsp_version_choose(2, 2, &why), 2);
	assert_int_equal(nvsp_version_choose(2, UINT32_MAX, &why), NETVSP_VERSION_61);
	assert_int_equal(nvsp_version_choose(0x30000, 0x50001, &why), NETVSP_VERSION_5);
	assert_int_equal(nvsp_version_choose(0x60002, UINT32_MAX, &why), 0);
	assert_int_equal(why, NETVSP_STATUS_TOO_NEW);
	assert_int_equal(nvsp_version_choose(0, 1, &why), 0);
	assert_int_equal(why, NETVSP_STATUS_TOO_OLD);
	assert_int_equal(nvsp_version_choose(0x40001, 0x40002, &why), 0);
	assert_int_equal(why, NETVSP_STATUS_UNSUPPORTED);
	assert_int_equal(nvsp_version_choose(5, 3, &why), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_data_message_is_decoded),
		cmocka_unit_test(damaged_data_messages_are_refused_or_sane),
		cmocka_unit_test(information_of_no_length_ends_nothing),
		cmocka_unit_test(a_control_message_is_decoded),
		cmocka_unit_test(damaged_control_messages_are_refused_or_sane),
		cmocka_unit_test(answers_have_their_bytes),
		cmocka_unit_test(a_received_frame_carries_what_is_known),
		cmocka_unit_test(nvsp_messages_may_be_as_short_as_their_fields),
		cmocka_unit_test(the_newest_version_in_the_range_is_chosen),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
