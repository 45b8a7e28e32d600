/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A hostile guest against the integration services. Each test is one class of attack; all of them
 * end in the same way: the service can be opened again and works.
 */

#include <errno.h>
#include <string.h>

#include "base/attr.h"
#include "tests/lib/ic_guest.h"
#include "tests/lib/test.h"

static const struct {
	icg_create_fn create;
	enum ic_type type;
	uint16_t major, minor;
} services[] = {
	{ic_heartbeat_create, IC_HEARTBEAT, 3, 0},
	{ic_shutdown_create, IC_SHUTDOWN, 3, 2},
	{ic_timesync_create, IC_TIMESYNC, 4, 0},
	{ic_kvp_create, IC_KVP, 4, 0},
};

static uint32_t next_random(uint32_t *seed)
{
	*seed = *seed * 1664525u + 1013904223u;
	return *seed >> 8;
}

static void revive(struct icg *i, size_t n)
{
	guest_settle(i->g);
	icg_close(i);
	assert_int_equal(ic_state(i->vsp), IC_CLOSED);
	icg_open(i);
	icg_negotiate(i, services[n].major, services[n].minor);
}

static void field_fini(struct icg *i, size_t n)
{
	revive(i, n);
	guest_settle(i->g);
	assert_int_equal(ic_state(i->vsp), IC_READY);
	icg_destroy(i);
}

static void raw(struct icg *i, uint16_t type, const void *buf, uint32_t len)
{
	guest_send_wait(i->chan, type, 0, 0, buf, len);
	guest_settle(i->g);
}

/* In both states: while the versions are agreed, and after. */
static void messages_of_every_length(void **state)
{
	(void)state;
	for (size_t n = 0; n < ARRAY_LEN(services); n++) {
		struct icg i;

		icg_create(services[n].create, &i);
		icg_open(&i);
		for (uint32_t len = 0; len <= 100; len++) {
			for (uint32_t ready = 0; ready < 2; ready++) {
				uint8_t buf[100];
				struct ic_header h = {
					.pipe_type = le32_make(IC_PIPE_DATA),
					.type = le16_make(ready != 0 ? (uint16_t)services[n].type
				                                     : IC_NEGOTIATE),
					.payload_bytes =
						le16_make((uint16_t)(len > 28 ? len - 28 : 0)),
				};

				icg_close(&i);
				icg_open(&i);
				if (ready != 0) {
					icg_negotiate(&i, services[n].major, services[n].minor);
				}
				memset(buf, (int)len, sizeof(buf));
				memcpy(buf, &h, sizeof(h));
				raw(&i, VMBUS_PACKET_INBAND, buf, len);
				guest_settle(i.g);
			}
		}
		field_fini(&i, n);
	}
}

static void lengths_in_the_header_that_lie(void **state)
{
	(void)state;
	for (size_t n = 0; n < ARRAY_LEN(services); n++) {
		struct icg i;

		icg_create(services[n].create, &i);
		icg_open(&i);
		icg_negotiate(&i, services[n].major, services[n].minor);
		for (uint32_t said = 0; said < 65536; said += said < 80 ? 1 : 4099) {
			uint8_t buf[64] = {0};
			struct ic_header h = {
				.pipe_type = le32_make(said * 77),
				.pipe_bytes = le32_make(~said),
				.type = le16_make((uint16_t)services[n].type),
				.payload_bytes = le16_make((uint16_t)said),
			};

			memcpy(buf, &h, sizeof(h));
			raw(&i, VMBUS_PACKET_INBAND, buf, sizeof(buf));
			if (said > sizeof(buf) - sizeof(h)) {
				/* A lie costs the channel. */
				assert_int_equal(ic_state(i.vsp), IC_CLOSED);
				revive(&i, n);
			} else {
				assert_int_equal(ic_state(i.vsp), IC_READY);
			}
		}
		field_fini(&i, n);
	}
}

static void packets_that_are_no_messages(void **state)
{
	static uint8_t big[8192];

	(void)state;
	for (size_t n = 0; n < ARRAY_LEN(services); n++) {
		struct icg i;

		icg_create(services[n].create, &i);
		icg_open(&i);
		icg_negotiate(&i, services[n].major, services[n].minor);
		for (uint16_t type = 0; type < 16; type++) {
			raw(&i, type, big, 64);
			if (type != VMBUS_PACKET_INBAND) {
				assert_int_equal(ic_state(i.vsp), IC_CLOSED);
			}
			revive(&i, n);
		}
		raw(&i, VMBUS_PACKET_INBAND, big, sizeof(big)); /* too large for any message */
		assert_int_equal(ic_state(i.vsp), IC_CLOSED);
		field_fini(&i, n);
	}
}

static void random_answers_to_real_questions(void **state)
{
	uint32_t seed = 99;

	(void)state;
	for (size_t n = 0; n < ARRAY_LEN(services); n++) {
		struct ic_kvp_item items[IC_KVP_ITEMS_MAX];
		struct icg_message m = {.bytes = 0};
		struct icg i;

		icg_create(services[n].create, &i);
		icg_open(&i);
		icg_negotiate(&i, services[n].major, services[n].minor);
		for (uint32_t k = 0; k < 4000; k++) {
			if (services[n].type == IC_SHUTDOWN) {
				(void)!ic_shutdown_request(i.vsp, false, false, "", NULL, NULL);
			}
			if (k % 50 == 0) {
				icg_pause(&i);
				icg_resume(&i);
			}
			guest_settle(i.g);
			(void)icg_take(&i, &m);
			for (uint32_t b = next_random(&seed) % 16; b != 0; b--) {
				m.payload[next_random(&seed) % 40] = (uint8_t)next_random(&seed);
				m.payload[next_random(&seed) % 2580] = (uint8_t)next_random(&seed);
			}
			m.bytes = next_random(&seed) % 4 == 0 ? next_random(&seed) % 2700 : 2580;
			m.h.payload_bytes = le16_make((uint16_t)m.bytes);
			m.h.type = le16_make((uint16_t)services[n].type);
			icg_answer(&i, &m, next_random(&seed) % 8 == 0 ? next_random(&seed) : 0);
		}
		guest_settle(i.g);
		if (services[n].type == IC_KVP) {
			uint32_t count = ic_kvp_items(i.vsp, items, IC_KVP_ITEMS_MAX);

			for (uint32_t k = 0; k < count; k++) {
				assert_non_null(memchr(items[k].key, 0, sizeof(items[k].key)));
				assert_non_null(memchr(items[k].value, 0, sizeof(items[k].value)));
			}
		}
		field_fini(&i, n);
	}
}

/* A question follows each answer only if somebody asked: no guest keeps the service busy. */
static void a_flood_of_answers_to_nothing(void **state)
{
	(void)state;
	for (size_t n = 0; n < ARRAY_LEN(services); n++) {
		struct icg_message m = {.bytes = 2580};
		struct icg i;
		uint32_t said = 0;

		icg_create(services[n].create, &i);
		icg_open(&i);
		icg_negotiate(&i, services[n].major, services[n].minor);
		m.h.pipe_type = le32_make(IC_PIPE_DATA);
		m.h.type = le16_make((uint16_t)services[n].type);
		m.h.payload_bytes = le16_make((uint16_t)m.bytes);
		for (uint32_t k = 0; k < 5000; k++) {
			m.h.transaction = (uint8_t)k;
			icg_answer(&i, &m, IC_STATUS_OK);
		}
		guest_settle(i.g);
		while (icg_take(&i, &m)) {
			said++;
		}
		assert_true(said <= IC_KVP_ITEMS_MAX + 10);
		field_fini(&i, n);
	}
}

static void a_guest_that_reads_nothing(void **state)
{
	(void)state;
	for (size_t n = 0; n < ARRAY_LEN(services); n++) {
		struct icg i;

		icg_create(services[n].create, &i);
		icg_open(&i);
		icg_negotiate(&i, services[n].major, services[n].minor);
		for (uint32_t k = 0; k < 300; k++) { /* whatever it says first, until it is full */
			icg_pause(&i);
			icg_resume(&i);
			guest_settle(i.g);
			if (services[n].type == IC_SHUTDOWN) {
				(void)!ic_shutdown_request(i.vsp, true, true, "now", NULL, NULL);
			}
		}
		assert_int_equal(ic_state(i.vsp), IC_READY);
		field_fini(&i, n);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(messages_of_every_length),
		cmocka_unit_test(lengths_in_the_header_that_lie),
		cmocka_unit_test(packets_that_are_no_messages),
		cmocka_unit_test(random_answers_to_real_questions),
		cmocka_unit_test(a_flood_of_answers_to_nothing),
		cmocka_unit_test(a_guest_that_reads_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
