/* SPDX-License-Identifier: Apache-2.0 */
#include "hv/vsp/netvsp/ndis.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/test.h"

static void capabilities_have_the_length_the_guest_knows(void **state)
{
	static const struct {
		uint32_t asked, bytes;
		uint8_t revision;
	} cases[] = {{0, 112, 1},   {112, 112, 1}, {143, 112, 1}, {144, 144, 2},
	             {155, 144, 2}, {156, 156, 3}, {4000, 156, 3}};
	struct ndis_offload_wire w;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		assert_int_equal(ndis_offload_encode(&w, cases[i].asked, true), cases[i].bytes);
		assert_int_equal(w.object.type, 0xa7);
		assert_int_equal(w.object.revision, cases[i].revision);
		assert_int_equal(le16_get(w.object.bytes), cases[i].bytes);
		assert_int_equal(w.rsc4, 1);
	}
	(void)ndis_offload_encode(&w, 156, false);
	assert_int_equal(w.rsc4 | w.rsc6, 0);
}

/* As Linux sends it: all on, IPv4 header off, RSC on. */
static const uint8_t golden_offload[28] = {0x80, 3, 28, 0, 1, 4, 4, 4, 4, 0, 0, 2, 2, 0,
                                           0,    0, 0,  0, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0};

static void offload_parameters_change_what_they_name(void **state)
{
	struct ndis_offload o = {0};
	uint8_t w[28];

	(void)state;
	assert_int_equal(ndis_offload_decode(golden_offload, 28, &o), 0);
	assert_true(o.rx4_tcp && o.rx4_udp && o.rx6_tcp && o.rx6_udp && o.rsc4 && o.rsc6);
	memcpy(w, golden_offload, 28);
	memset(w + 4, 0, 24);
	w[5] = 2;  /* TCP/4: only sending */
	w[23] = 1; /* RSC/6 off */
	assert_int_equal(ndis_offload_decode(w, 28, &o), 0);
	assert_true(!o.rx4_tcp && o.rx4_udp && o.rx6_tcp && o.rsc4 && !o.rsc6);
	w[5] = 3; /* only receiving */
	assert_int_equal(ndis_offload_decode(w, 22, &o), 0);
	assert_true(o.rx4_tcp && o.rsc4);
	for (uint32_t len = 0; len < 22; len++) {
		assert_int_equal(ndis_offload_decode(w, len, &o), -EBADMSG);
	}
	w[0] = 0x81;
	assert_int_equal(ndis_offload_decode(w, 28, &o), -EBADMSG);
}

struct rss_message {
	struct ndis_rss_parameters_wire w;
	le32 table[128];
	uint8_t key[40];
};

static struct rss_message rss_golden(void)
{
	struct rss_message m = {
		.w = {.object = {.type = 0x89, .revision = 2, .bytes = le16_make(40)},
	              .hash = le32_make(0x1701),
	              .table_bytes = le16_make(512),
	              .table_offset = le32_make(40),
	              .key_bytes = le16_make(40),
	              .key_offset = le32_make(552)},
	};

	for (uint32_t i = 0; i < 128; i++) {
		m.table[i] = le32_make(i % 4);
	}
	memset(m.key, 0x6d, sizeof(m.key));
	return m;
}

static void rss_parameters_are_decoded(void **state)
{
	struct rss_message m = rss_golden();
	struct ndis_rss rss = {0};

	(void)state;
	assert_int_equal(sizeof(m), 592);
	assert_int_equal(ndis_rss_decode(&m, sizeof(m), 4, &rss), 0);
	assert_true(rss.enabled);
	assert_int_equal(rss.table_entries, 128);
	assert_int_equal(rss.table[127], 3);
	assert_int_equal(rss.key[39], 0x6d);
	assert_int_equal(rss.hash, 0x1701);
	/* All unchanged: nothing but the header counts. */
	m.w.flags = le16_make(NDIS_RSS_TABLE_UNCHANGED | NDIS_RSS_KEY_UNCHANGED |
	                      NDIS_RSS_HASH_UNCHANGED);
	m.w.table_offset = le32_make(UINT32_MAX);
	m.w.hash = le32_make(1);
	assert_int_equal(ndis_rss_decode(&m, 40, 4, &rss), 0);
	assert_int_equal(rss.hash, 0x1701);
	m.w.flags = le16_make(NDIS_RSS_DISABLE);
	assert_int_equal(ndis_rss_decode(&m, 40, 4, &rss), 0);
	assert_false(rss.enabled);
	assert_int_equal(rss.table_entries, 128);
}

static void rss_parameters_outside_of_the_message_are_refused(void **state)
{
	static const uint32_t offsets[] = {81, 592, UINT32_MAX, UINT32_MAX - 511};
	struct rss_message m;
	struct ndis_rss rss = {0};

	(void)state;
	m = rss_golden();
	assert_int_equal(ndis_rss_decode(&m, sizeof(m), 3, &rss), -EBADMSG); /* channel 3 */
	for (size_t i = 0; i < ARRAY_LEN(offsets); i++) {
		m = rss_golden();
		m.w.table_offset = le32_make(offsets[i]);
		assert_int_equal(ndis_rss_decode(&m, sizeof(m), 4, &rss), -EBADMSG);
		m = rss_golden();
		m.w.key_offset = le32_make(offsets[i] != 81 ? offsets[i] : 553);
		assert_int_equal(ndis_rss_decode(&m, sizeof(m), 4, &rss), -EBADMSG);
	}
	m = rss_golden();
	m.w.table_bytes = le16_make(516);
	m.w.table_offset = le32_make(0);
	assert_int_equal(ndis_rss_decode(&m, sizeof(m), 4, &rss), -EBADMSG);
	m.w.table_bytes = le16_make(3);
	assert_int_equal(ndis_rss_decode(&m, sizeof(m), 4, &rss), -EBADMSG);
	m = rss_golden();
	m.w.key_bytes = le16_make(41);
	m.w.key_offset = le32_make(0);
	assert_int_equal(ndis_rss_decode(&m, sizeof(m), 4, &rss), -EBADMSG);
	assert_false(rss.enabled); /* nothing of all that was taken */
	m = rss_golden();
	for (uint32_t len = 0; len < sizeof(m); len++) {
		uint8_t *buf = malloc(len + 1);

		memcpy(buf, &m, len);
		assert_int_equal(ndis_rss_decode(buf, len, 4, &rss), -EBADMSG);
		free(buf);
	}
	for (uint32_t bit = 0; bit < 8 * 40; bit++) {
		struct rss_message *flipped = malloc(sizeof(m));

		*flipped = m;
		((uint8_t *)flipped)[bit / 8] ^= (uint8_t)(1u << bit % 8);
		if (ndis_rss_decode(flipped, sizeof(m), 4, &rss) == 0) {
			assert_true(rss.table_entries <= 128);
		}
		free(flipped);
	}
}

/* "NetworkAddress" = "02aBcDeF0123", laid out as Linux does. */
static uint32_t address_golden(uint8_t *buf)
{
	static const char name[] = "NetworkAddress";
	static const char value[] = "02aBcDeF0123";
	const struct ndis_config_wire w = {
		.name_offset = le32_make(20),
		.name_bytes = le32_make(28),
		.type = le32_make(2),
		.value_offset = le32_make(48),
		.value_bytes = le32_make(24),
	};

	memset(buf, 0, 72);
	memcpy(buf, &w, sizeof(w));
	for (size_t i = 0; i < 14; i++) {
		buf[20 + 2 * i] = (uint8_t)name[i];
	}
	for (size_t i = 0; i < 12; i++) {
		buf[48 + 2 * i] = (uint8_t)value[i];
	}
	return 72;
}

static void an_address_is_decoded(void **state)
{
	static const uint8_t want[6] = {0x02, 0xab, 0xcd, 0xef, 0x01, 0x23};
	uint8_t buf[72];
	uint8_t mac[6] = {0};
	uint32_t len = address_golden(buf);

	(void)state;
	assert_int_equal(ndis_address_decode(buf, len, mac), 0);
	assert_memory_equal(mac, want, 6);
}

static void damaged_addresses_are_refused(void **state)
{
	uint8_t golden[72];
	uint8_t mac[6] = {0};
	uint32_t len = address_golden(golden);

	(void)state;
	for (uint32_t n = 0; n < len; n++) {
		uint8_t *buf = malloc(n + 1);

		memcpy(buf, golden, n);
		assert_int_equal(ndis_address_decode(buf, n, mac), -EBADMSG);
		free(buf);
	}
	for (uint32_t bit = 0; bit < 8 * len; bit++) {
		uint8_t *buf = malloc(len);

		memcpy(buf, golden, len);
		buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
		if (ndis_address_decode(buf, len, mac) == 0) {
			assert_true((mac[0] & 1u) == 0);
		}
		free(buf);
	}
	golden[20] = 'n'; /* another name */
	assert_int_equal(ndis_address_decode(golden, len, mac), -ENOENT);
	(void)address_golden(golden);
	golden[50] = '3'; /* multicast */
	assert_int_equal(ndis_address_decode(golden, len, mac), -EBADMSG);
	(void)address_golden(golden);
	golden[52] = 'g';
	assert_int_equal(ndis_address_decode(golden, len, mac), -EBADMSG);
	golden[52] = 'a';
	golden[53] = 1;
	assert_int_equal(ndis_address_decode(golden, len, mac), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(capabilities_have_the_length_the_guest_knows),
		cmocka_unit_test(offload_parameters_change_what_they_name),
		cmocka_unit_test(rss_parameters_are_decoded),
		cmocka_unit_test(rss_parameters_outside_of_the_message_are_refused),
		cmocka_unit_test(an_address_is_decoded),
		cmocka_unit_test(damaged_addresses_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
