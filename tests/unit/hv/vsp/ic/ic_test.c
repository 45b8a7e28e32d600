/* SPDX-License-Identifier: Apache-2.0 */

/* What all integration services share: negotiation, life cycle, moves, texts. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/attr.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "hv/save/save.h"
#include "tests/lib/ic_guest.h"
#include "tests/lib/test.h"

static const struct {
	icg_create_fn create;
	const char *section;
	uint16_t versions[4][2];
	uint32_t count;
} services[] = {
	{ic_heartbeat_create, "heartbeat", {{3, 0}, {1, 0}}, 2},
	{ic_shutdown_create, "shutdown", {{3, 2}, {3, 1}, {3, 0}, {1, 0}}, 4},
	{ic_timesync_create, "timesync", {{4, 0}, {3, 0}, {1, 0}}, 3},
	{ic_kvp_create, "kvp", {{4, 0}, {3, 0}, {1, 0}}, 3},
};

/* ---- negotiation ---- */

static void each_service_offers_its_versions_and_takes_each(void **state)
{
	(void)state;
	for (size_t n = 0; n < ARRAY_LEN(services); n++) {
		struct icg i;

		icg_create(services[n].create, &i);
		for (uint32_t v = 0; v < services[n].count; v++) {
			struct icg_message m;
			struct ic_negotiate head;

			icg_open(&i);
			assert_int_equal(ic_state(i.vsp), IC_NEGOTIATING);
			icg_wait(&i, &m);
			memcpy(&head, m.payload, sizeof(head));
			assert_int_equal(le16_get(m.h.type), IC_NEGOTIATE);
			assert_int_equal(m.h.flags, IC_FLAG_TRANSACTION | IC_FLAG_REQUEST);
			assert_int_equal(le16_get(head.framework_count), 2);
			assert_int_equal(le16_get(head.service_count), services[n].count);
			assert_int_equal(m.bytes, sizeof(head) + (2 + services[n].count) * 4);
			for (uint32_t k = 0; k < services[n].count; k++) {
				assert_true(icg_offered(&m, services[n].versions[k][0],
				                        services[n].versions[k][1]));
			}
			icg_choose(&i, &m, services[n].versions[v][0], services[n].versions[v][1]);
			guest_run_until(i.g, ic_state(i.vsp) == IC_READY);
			icg_close(&i);
			assert_int_equal(ic_state(i.vsp), IC_CLOSED);
		}
		icg_destroy(&i);
	}
}

static void a_guest_that_has_no_version_in_common_is_left_alone(void **state)
{
	static const struct {
		uint16_t frameworks, services, framework, major, minor;
	} bad[] = {
		{0, 0, 3, 3, 0}, /* Linux's "none" */
		{1, 0, 3, 3, 0}, {0, 1, 3, 3, 0}, {2, 1, 3, 3, 0}, {1, 2, 3, 3, 0},
		{1, 1, 3, 2, 0}, {1, 1, 3, 3, 9}, {1, 1, 3, 0, 0}, {1, 1, 2, 3, 0},
	};
	struct icg i;

	(void)state;
	icg_create(ic_heartbeat_create, &i);
	for (size_t n = 0; n < ARRAY_LEN(bad); n++) {
		const struct ic_negotiate head = {.framework_count = le16_make(bad[n].frameworks),
		                                  .service_count = le16_make(bad[n].services)};
		const struct ic_version versions[2] = {
			{le16_make(bad[n].framework), le16_make(0)},
			{le16_make(bad[n].major), le16_make(bad[n].minor)}};
		struct icg_message m;

		icg_open(&i);
		icg_wait(&i, &m);
		memcpy(m.payload, &head, sizeof(head));
		memcpy(m.payload + sizeof(head), versions, sizeof(versions));
		icg_answer(&i, &m, IC_STATUS_OK);
		guest_run_until(i.g, ic_state(i.vsp) == IC_REFUSED);
		icg_send(&i, &m); /* it does not get a second chance before it closes */
		guest_settle(i.g);
		assert_int_equal(ic_state(i.vsp), IC_REFUSED);
		assert_false(icg_take(&i, &m));
		icg_close(&i);
	}
	icg_open(&i);
	icg_negotiate(&i, 3, 0);
	icg_destroy(&i);
}

static void messages_at_the_wrong_time_are_ignored(void **state)
{
	struct icg_message m;
	struct icg_message early;
	struct icg i;

	(void)state;
	icg_create(ic_heartbeat_create, &i);
	icg_open(&i);
	icg_wait(&i, &m);
	early = m;
	early.h.type = le16_make(IC_HEARTBEAT);
	icg_send(&i, &early);
	guest_settle(i.g);
	assert_int_equal(ic_state(i.vsp), IC_NEGOTIATING);
	icg_choose(&i, &m, 3, 0);
	guest_run_until(i.g, ic_state(i.vsp) == IC_READY);
	icg_choose(&i, &m, 1, 0); /* again */
	early.h.type = le16_make(IC_SHUTDOWN);
	icg_send(&i, &early);
	guest_settle(i.g);
	assert_int_equal(ic_state(i.vsp), IC_READY);
	icg_destroy(&i);
}

/* ---- life cycle ---- */

static void every_service_opens_again_after_a_close_and_an_unload(void **state)
{
	(void)state;
	for (size_t n = 0; n < ARRAY_LEN(services); n++) {
		struct icg i;

		icg_create(services[n].create, &i);
		for (uint32_t round = 0; round < 3; round++) {
			icg_open(&i);
			icg_negotiate(&i, services[n].versions[0][0], services[n].versions[0][1]);
			icg_close(&i);
			icg_open(&i);
			icg_negotiate(&i, services[n].versions[0][0], services[n].versions[0][1]);
			guest_unload(i.g);
			guest_abandon(i.chan);
			assert_int_equal(ic_state(i.vsp), IC_CLOSED);
			guest_boot(i.g);
		}
		icg_destroy(&i);
	}
}

static void a_service_is_destroyed_with_its_timer_running(void **state)
{
	(void)state;
	for (size_t n = 0; n < ARRAY_LEN(services); n++) {
		struct icg i;

		icg_create(services[n].create, &i);
		icg_open(&i);
		icg_negotiate(&i, services[n].versions[0][0], services[n].versions[0][1]);
		icg_destroy(&i); /* the ring checks that nothing is left in it */
	}
}

static void every_failed_allocation_leaves_nothing(void **state)
{
	(void)state;
	for (size_t n = 0; n < ARRAY_LEN(services); n++) {
		struct vsp *vsp = NULL;
		struct icg i;
		uint32_t k = 1;
		int err;

		icg_create(services[n].create, &i);
		i.vsp->ops->destroy(i.vsp);
		guest_bus_replace(i.g);
		for (;; k++) {
			fault_arm(FAULT_ALLOC, k);
			err = icg_vsp_create(&i, &vsp);
			fault_arm(FAULT_ALLOC, 0);
			if (err == 0) {
				break;
			}
			assert_int_equal(err, -ENOMEM);
			assert_null(vsp);
		}
		assert_true(k > 1);
		i.vsp = vsp;
		vmbus_resume(guest_bus(i.g));
		guest_boot(i.g);
		icg_open(&i);
		icg_destroy(&i);
	}
}

static void a_paused_service_says_nothing(void **state)
{
	struct icg_message m;
	struct icg i;

	(void)state;
	icg_create(ic_timesync_create, &i);
	icg_open(&i);
	icg_wait(&i, &m);
	icg_pause(&i);
	icg_choose(&i, &m, 4, 0);
	guest_settle(i.g);
	assert_int_equal(ic_state(i.vsp), IC_NEGOTIATING);
	assert_false(icg_take(&i, &m));
	icg_resume(&i);
	guest_run_until(i.g, ic_state(i.vsp) == IC_READY);
	icg_wait(&i, &m);
	assert_int_equal(le16_get(m.h.type), IC_TIMESYNC);
	icg_destroy(&i);
}

/* ---- moves ---- */

static void a_move_in_each_state_goes_on_from_there(void **state)
{
	(void)state;
	for (size_t n = 0; n < ARRAY_LEN(services); n++) {
		uint16_t major = services[n].versions[0][0];
		uint16_t minor = services[n].versions[0][1];

		for (uint32_t at = 0; at < 5; at++) {
			struct icg_message m;
			struct icg i;

			icg_create(services[n].create, &i);
			if (at == 0) { /* closed */
				icg_move(&i, true);
				assert_int_equal(ic_state(i.vsp), IC_CLOSED);
			}
			icg_open(&i);
			if (at == 1) { /* NEGOTIATE not read */
				icg_move(&i, false);
			}
			icg_wait(&i, &m);
			if (at == 2) { /* read, not answered */
				icg_move(&i, true);
			}
			assert_int_equal(ic_state(i.vsp), IC_NEGOTIATING);
			icg_choose(&i, &m, major, minor);
			if (at == 3) { /* the answer is in the ring, not read */
				icg_move(&i, false);
			}
			guest_run_until(i.g, ic_state(i.vsp) == IC_READY);
			if (at == 4) {
				icg_move(&i, true);
			}
			assert_int_equal(ic_state(i.vsp), IC_READY);
			guest_settle(i.g);
			icg_close(&i);
			icg_open(&i);
			icg_negotiate(&i, major, minor);
			icg_destroy(&i);
		}
	}
}

/* The section of a service, with these fields, into a fresh one whose channel was never open. */
/* NOLINTNEXTLINE(bugprone-easily-swappable-parameters): the fields in their order */
static int load_fields(size_t n, uint8_t ic_state_saved, uint16_t framework, uint16_t major,
                       uint32_t extra_bytes, struct errbuf *eb)
{
	struct save out;
	struct load in;
	uint8_t *blob;
	size_t len;
	struct icg i;
	int err;

	icg_create(services[n].create, &i);
	save_init(&out);
	save_begin(&out, services[n].section, 1, true);
	save_u8(&out, ic_state_saved);
	save_u16(&out, framework);
	save_u16(&out, 0);
	save_u16(&out, major);
	save_u16(&out, services[n].versions[0][1]);
	save_u8(&out, 7);
	for (uint32_t k = 0; k < extra_bytes; k++) {
		save_u8(&out, 1);
	}
	save_end(&out);
	assert_int_equal(save_finish(&out, &blob, &len), 0);
	assert_int_equal(load_init(&in, blob, len, eb), 0);
	vmbus_pause(guest_bus(i.g));
	err = i.vsp->ops->load(i.vsp, &in);
	icg_resume(&i);
	assert_int_equal(ic_state(i.vsp), IC_CLOSED); /* its channel is */
	icg_open(&i);
	icg_negotiate(&i, services[n].versions[0][0], services[n].versions[0][1]);
	icg_destroy(&i);
	free(blob);
	return err;
}

static void what_cannot_have_been_saved_is_refused(void **state)
{
	static const uint32_t own_bytes[] = {8, 1, 0, 0}; /* of each service */

	(void)state;
	for (size_t n = 0; n < ARRAY_LEN(services); n++) {
		uint16_t major = services[n].versions[0][0];
		uint32_t own = own_bytes[n];
		struct errbuf eb = {0};

		for (unsigned s = 0; s < IC_STATE_COUNT; s++) {
			assert_int_equal(load_fields(n, (uint8_t)s, 3, major, own, &eb), 0);
		}
		assert_int_equal(load_fields(n, IC_STATE_COUNT, 3, major, own, &eb), -EBADMSG);
		assert_int_equal(load_fields(n, 255, 3, major, own, &eb), -EBADMSG);
		assert_int_equal(load_fields(n, IC_READY, 3, 9, own, &eb), -EBADMSG);
		assert_int_equal(load_fields(n, IC_READY, 2, major, own, &eb), -EBADMSG);
		assert_int_equal(load_fields(n, IC_READY, 3, 0, own, &eb), -EBADMSG);
		assert_int_equal(load_fields(n, IC_READY, 3, major, own + 1, &eb), -EBADMSG);
		assert_non_null(strstr(eb.text, services[n].section));
		if (own != 0) {
			assert_int_equal(load_fields(n, IC_READY, 3, major, own - 1, &eb),
			                 -EBADMSG);
		}
	}
}

/* ---- texts ---- */

static void assert_decoded(const char *utf16, uint32_t bytes, const char *want)
{
	char got[64];

	ic_utf16_decode((const uint8_t *)utf16, bytes, got, sizeof(got));
	assert_string_equal(got, want);
}

static void texts_of_the_guest_become_utf8(void **state)
{
	(void)state;
	assert_decoded("a\0b\0", 4, "ab");
	assert_decoded("a\0\0\0b\0", 6, "a");
	assert_decoded("a\0b", 3, "a"); /* half a unit */
	assert_decoded("", 0, "");
	assert_decoded("\xe4\x00\xac\x20", 4, "\xc3\xa4\xe2\x82\xac");
	assert_decoded("\x3d\xd8\x00\xde", 4, "\xf0\x9f\x98\x80");
	assert_decoded("\x3d\xd8", 2, "?");     /* half a pair */
	assert_decoded("\x3d\xd8x\0", 4, "?x"); /* with another one behind */
	assert_decoded("\x00\xde", 2, "?");     /* the second half */
	assert_decoded("\x3d\xd8\x3d\xd8", 4, "??");
	/* Nothing that a terminal would obey. */
	assert_decoded("\x1b\0[\0\x9b\0\x7f\0\n\0", 10, "?[???");
}

static void texts_are_cut_between_characters(void **state)
{
	uint8_t euros[64];
	char got[64];

	(void)state;
	for (uint32_t i = 0; i < sizeof(euros); i += 2) {
		euros[i] = 0xac;
		euros[i + 1] = 0x20;
	}
	for (uint32_t room = 1; room < sizeof(got); room++) {
		size_t len;

		memset(got, 'x', sizeof(got));
		ic_utf16_decode(euros, sizeof(euros), got, room);
		len = strlen(got);
		assert_true(len < room);
		assert_int_equal(len % 3, 0);
		assert_true(len + 7 >= room || len == 32 * 3);
		assert_int_equal(got[room], 'x');
	}
}

static void our_texts_become_utf16(void **state)
{
	uint8_t got[16];

	(void)state;
	memset(got, 0xee, sizeof(got));
	assert_int_equal(ic_utf16_encode("ab", got, sizeof(got)), 4);
	assert_memory_equal(got, "a\0b\0\0\0\xee", 7);
	assert_int_equal(ic_utf16_encode("\xc3\xa4", got, sizeof(got)), 4);
	assert_memory_equal(got, "?\0?\0\0\0", 6);
	memset(got, 0xee, sizeof(got));
	assert_int_equal(ic_utf16_encode("abcdefghij", got, 8), 6);
	assert_memory_equal(got, "a\0b\0c\0\0\0\xee", 9);
	assert_int_equal(ic_utf16_encode("", got, 2), 0);
	assert_int_equal(ic_utf16_encode("a", got, 0), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_service_offers_its_versions_and_takes_each),
		cmocka_unit_test(a_guest_that_has_no_version_in_common_is_left_alone),
		cmocka_unit_test(messages_at_the_wrong_time_are_ignored),
		cmocka_unit_test(every_service_opens_again_after_a_close_and_an_unload),
		cmocka_unit_test(a_service_is_destroyed_with_its_timer_running),
		cmocka_unit_test(every_failed_allocation_leaves_nothing),
		cmocka_unit_test(a_paused_service_says_nothing),
		cmocka_unit_test(a_move_in_each_state_goes_on_from_there),
		cmocka_unit_test(what_cannot_have_been_saved_is_refused),
		cmocka_unit_test(texts_of_the_guest_become_utf8),
		cmocka_unit_test(texts_are_cut_between_characters),
		cmocka_unit_test(our_texts_become_utf16),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
