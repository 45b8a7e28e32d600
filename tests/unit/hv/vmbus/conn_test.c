/* SPDX-License-Identifier: Apache-2.0 */

/* Contact, versions, offers, unload: the connection as a guest sees it. */

#include <errno.h>
#include <string.h>

#include "base/fault.h"
#include "hv/vmbus/vmbus.h"
#include "tests/lib/test.h"
#include "tests/lib/vmbus_echo.h"
#include "tests/lib/vmbus_guest.h"

static struct guest *boot_with_echo(struct echo **e)
{
	struct guest *g;

	guest_create(NULL, &g);
	assert_int_equal(echo_create(guest_env(g), &(struct echo_cfg){0}, e), 0);
	guest_boot(g);
	return g;
}

static struct guest_chan *open_echo(struct guest *g)
{
	struct guest_chan *c;

	assert_int_equal(guest_open(g, guest_offer_find(g, &echo_interface, 0), 3, 3, &c), 0);
	return c;
}

static void each_version_we_know_connects_and_others_do_not(void **state)
{
	const uint32_t good[] = {0x20004, 0x30000, 0x40000, 0x40001,
	                         0x50000, 0x50001, 0x50002, 0x50003};
	const uint32_t bad[] = {0,       0xd,     0x10001, 0x20003, 0x20005,   0x30001,
	                        0x40002, 0x50004, 0x60000, 0x70000, UINT32_MAX};
	struct guest *g;

	(void)state;
	guest_create(NULL, &g);
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		assert_int_equal(guest_connect(g, good[i]), 0);
		guest_request_offers(g);
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		assert_int_equal(guest_connect(g, bad[i]), -EPROTONOSUPPORT);
	}
	assert_int_equal(guest_connect(g, 0x50003), 0);
	guest_destroy(g);
}

static void the_newest_version_can_be_bounded(void **state)
{
	struct guest *g;

	(void)state;
	guest_create(&(struct guest_cfg){.version_max = VMBUS_VERSION(4, 0)}, &g);
	assert_int_equal(guest_connect(g, VMBUS_VERSION(5, 0)), -EPROTONOSUPPORT);
	assert_int_equal(guest_connect(g, VMBUS_VERSION(4, 1)), -EPROTONOSUPPORT);
	assert_int_equal(guest_connect(g, VMBUS_VERSION(4, 0)), 0);
	guest_destroy(g);
}

static void a_contact_that_cannot_be_answered_as_asked_is_answered_all_the_same(void **state)
{
	const struct {
		uint32_t vp;
		uint8_t sint;
	} bad[] = {{2, 2}, {UINT32_MAX, 2}, {0, 0}, {0, 16}, {1, 255}};
	struct guest *g;

	(void)state;
	guest_create(NULL, &g);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct vmbus_version_response_wire r;
		struct vmbus_contact_wire w = {
			.header.type = le32_make(VMBUS_MESSAGE_CONTACT),
			.version = le32_make(VMBUS_VERSION(5, 3)),
			.target_vp = le32_make(bad[i].vp),
			.sint = bad[i].sint,
		};

		assert_int_equal(guest_post(g, 4, &w, sizeof(w)), 0);
		guest_message_wait(g, VMBUS_MESSAGE_VERSION_RESPONSE, &r, sizeof(r));
		assert_int_equal(r.supported, 0);
	}
	guest_destroy(g);
}

static void an_offer_has_the_documented_bytes(void **state)
{
	static const uint8_t want[] = {
		1,    0,    0,    0,    0, 0, 0, 0,                            /* type */
		0x6f, 0x68, 0x63, 0x65, 1, 0, 2, 0, 0x80, 1, 2, 3, 4, 5, 6, 7, /* class */
		9,    9,    9,    9,    9, 9, 9, 9, 9,    9, 9, 9, 9, 9, 9, 9, /* instance */
		0,    0,    0,    0,    0, 0, 0, 0, 0,    0, 0, 0, 0, 0, 0, 0, /* reserved */
		0x11, 0,    8,    0,    4, 0, 0, 0,                            /* flags */
	};
	static const uint8_t tail[] = {3, 0, 0, 0, 1, 0, 0, 0, 0xff, 0, 1, 0, 1, 0x20, 0, 0};
	static const struct vmbus_channel_ops ops; /* never opened */
	struct vmbus_offer_cfg cfg = {
		.interface_id = echo_interface,
		.flags = VMBUS_OFFER_ENUMERATE | VMBUS_OFFER_NAMED_PIPE,
		.mmio_mib = 8,
		.subchannel_index = 3,
		.pipe_message_mode = true,
		.ops = &ops,
	};
	struct vmbus_channel *chan;
	struct guest *g;

	(void)state;
	memset(&cfg.instance_id, 9, sizeof(cfg.instance_id));
	guest_create(NULL, &g);
	assert_int_equal(vmbus_offer(guest_bus(g), &cfg, &chan), 0);
	guest_boot(g);

	const struct guest_offer *o = guest_offer_find(g, &echo_interface, 3);

	assert_non_null(o);
	assert_memory_equal(&o->wire, want, sizeof(want));
	for (size_t i = sizeof(want); i < 180; i++) {
		assert_int_equal(((const uint8_t *)&o->wire)[i], 0);
	}
	assert_memory_equal((const uint8_t *)&o->wire + 180, tail, sizeof(tail));
	guest_destroy(g);
}

static void a_version_response_has_the_documented_bytes(void **state)
{
	static const uint8_t want_53[16] = {15, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0};
	static const uint8_t want_40[16] = {15, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 4, 0};
	static const uint8_t contact[40] = {14, 0, 0, 0, 0, 0, 0, 0, 3, 0, 5, 0, 1, 0, 0, 0, 2};
	uint8_t contact_40[40] = {14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0, 0, 0xf0};
	uint8_t got[16];
	struct guest *g;

	(void)state;
	guest_create(NULL, &g);
	assert_int_equal(guest_post(g, 4, contact, sizeof(contact)), 0);
	guest_message_wait(g, VMBUS_MESSAGE_VERSION_RESPONSE, got, sizeof(got));
	assert_memory_equal(got, want_53, sizeof(got));
	assert_int_equal(guest_post(g, 1, contact_40, sizeof(contact_40)), 0);
	guest_message_wait(g, VMBUS_MESSAGE_VERSION_RESPONSE, got, sizeof(got));
	assert_memory_equal(got, want_40, sizeof(got));
	guest_destroy(g);
}

static void posts_go_to_two_connections_only(void **state)
{
	struct vmbus_header_wire w = {.type = le32_make(VMBUS_MESSAGE_UNLOAD)};
	struct guest *g;

	(void)state;
	guest_create(NULL, &g);
	for (uint32_t id = 0; id < 10; id++) {
		assert_int_equal(guest_post(g, id, &w, sizeof(w)),
		                 id == 1 || id == 4 ? 0 : -ENOENT);
	}
	guest_destroy(g);
}

static void many_offers_arrive_through_one_slot(void **state)
{
	enum { OFFERS = 300 };
	static struct echo *echoes[OFFERS];
	struct guest *g;

	(void)state;
	guest_create(NULL, &g);
	for (uint32_t i = 0; i < OFFERS; i++) {
		assert_int_equal(
			echo_create(guest_env(g), &(struct echo_cfg){.instance = i}, &echoes[i]),
			0);
	}
	guest_boot(g);
	assert_int_equal(guest_offer_count(g), OFFERS);
	guest_destroy(g);
	for (uint32_t i = 0; i < OFFERS; i++) {
		echo_destroy(echoes[i]);
	}
}

static void offers_asked_for_twice_come_once(void **state)
{
	struct vmbus_header_wire w = {.type = le32_make(VMBUS_MESSAGE_REQUEST_OFFERS)};
	struct echo *e;
	struct guest *g = boot_with_echo(&e);

	(void)state;
	assert_int_equal(guest_post(g, 4, &w, sizeof(w)), 0);
	guest_settle(g);
	assert_int_equal(guest_offer_count(g), 1);
	assert_int_equal(guest_message_count(g), 0);
	echo_destroy(e);
	guest_destroy(g);
}

static void an_offer_made_later_comes_at_once(void **state)
{
	struct echo *e[2];
	struct guest *g = boot_with_echo(&e[0]);
	struct guest_chan *c;
	struct guest_offer *o;

	(void)state;
	assert_int_equal(echo_create(guest_env(g), &(struct echo_cfg){.instance = 1}, &e[1]), 0);
	guest_settle(g);
	assert_int_equal(guest_offer_count(g), 2);
	o = guest_offer_next(g, &echo_interface, 0, guest_offer_find(g, &echo_interface, 0));
	assert_non_null(o);
	assert_int_equal(guest_open(g, o, 2, 2, &c), 0);
	assert_int_equal(e[1]->opens, 1);
	guest_close(c);
	echo_destroy(e[0]);
	echo_destroy(e[1]);
	guest_destroy(g);
}

static void an_unload_is_answered_when_the_last_device_let_go(void **state)
{
	struct vmbus_header_wire w = {.type = le32_make(VMBUS_MESSAGE_UNLOAD)};
	struct echo *e;
	struct guest *g = boot_with_echo(&e);
	struct guest_chan *c = open_echo(g);

	(void)state;
	e->cfg.close_later = true;
	assert_int_equal(guest_post(g, 1, &w, sizeof(w)), 0);
	assert_int_equal(guest_message_count(g), 0);
	assert_false(guest_message_take(g, VMBUS_MESSAGE_UNLOAD_RESPONSE, &w, sizeof(w)));
	guest_message_wait(g, VMBUS_MESSAGE_UNLOAD_RESPONSE, &w, sizeof(w));
	assert_int_equal(e->closes, 1);
	guest_abandon(c);

	/* And the next kernel finds everything as new. */
	guest_boot(g);
	c = open_echo(g);
	guest_close(c);
	guest_unload(g);
	echo_destroy(e);
	guest_destroy(g);
}

static void an_unload_without_a_connection_is_answered(void **state)
{
	struct guest *g;

	(void)state;
	guest_create(NULL, &g);
	guest_unload(g);
	guest_destroy(g);
}

static void a_second_contact_resets_everything_first(void **state)
{
	struct echo *e;
	struct guest *g = boot_with_echo(&e);
	uint64_t pfns[2];
	uint32_t id;

	(void)state;
	for (int i = 0; i < 3; i++) { /* kexec, three times */
		struct guest_chan *c = open_echo(g);

		guest_alloc(g, 2, pfns);
		assert_int_equal(guest_gpadl_create(g, guest_chan_relid(c), pfns, 2, 8192, &id), 0);
		e->cfg.close_later = i == 1;
		guest_boot(g);
		assert_int_equal(e->closes, i + 1);
		assert_false(e->open);
		guest_abandon(c);
	}
	assert_int_equal(guest_offer_count(g), 1);
	echo_destroy(e);
	guest_destroy(g);
}

static void the_last_of_several_contacts_counts(void **state)
{
	struct vmbus_contact_wire w = {
		.header.type = le32_make(VMBUS_MESSAGE_CONTACT),
		.version = le32_make(VMBUS_VERSION(4, 0)),
	};
	struct vmbus_header_wire unload = {.type = le32_make(VMBUS_MESSAGE_UNLOAD)};
	struct vmbus_version_response_wire r;
	struct echo *e;
	struct guest *g = boot_with_echo(&e);
	struct guest_chan *c = open_echo(g);

	(void)state;
	e->cfg.close_later = true;
	assert_int_equal(guest_post(g, 1, &unload, sizeof(unload)), 0);
	assert_int_equal(guest_post(g, 1, &w, sizeof(w)), 0);
	w.version = le32_make(VMBUS_VERSION(4, 1));
	assert_int_equal(guest_post(g, 1, &w, sizeof(w)), 0);
	guest_message_wait(g, VMBUS_MESSAGE_VERSION_RESPONSE, &r, sizeof(r));
	assert_int_equal(r.supported, 1);
	assert_int_equal(le32_get(r.connection_id), VMBUS_VERSION(4, 1));
	guest_settle(g);
	assert_int_equal(guest_message_count(g), 0); /* no unload response, no first contact */
	guest_abandon(c);
	echo_destroy(e);
	guest_destroy(g);
}

static void reset_done(void *arg)
{
	++*(int *)arg;
}

static void a_reset_closes_everything_and_tells(void **state)
{
	struct vmbus_header_wire w = {.type = le32_make(VMBUS_MESSAGE_UNLOAD)};
	struct echo *e;
	struct guest *g = boot_with_echo(&e);
	struct guest_chan *c = open_echo(g);
	int done = 0;

	(void)state;
	e->cfg.close_later = true;
	vmbus_reset(guest_bus(g), reset_done, &done);
	assert_int_equal(done, 0);
	assert_int_equal(guest_post(g, 1, &w, sizeof(w)), -EAGAIN); /* nobody is there any more */
	guest_run_until(g, done != 0);
	assert_int_equal(done, 1);
	assert_int_equal(e->closes, 1);
	guest_abandon(c);
	vmbus_reset(guest_bus(g), reset_done, &done); /* nothing open: at once */
	assert_int_equal(done, 2);
	guest_boot(g);
	guest_close(open_echo(g));
	echo_destroy(e);
	guest_destroy(g);
}

static void messages_without_a_connection_do_nothing(void **state)
{
	struct guest *g;

	(void)state;
	guest_create(NULL, &g);
	for (uint32_t type = 1; type < 30; type++) {
		uint8_t msg[240] = {(uint8_t)type};

		if (type != VMBUS_MESSAGE_CONTACT && type != VMBUS_MESSAGE_UNLOAD) {
			assert_int_equal(guest_post(g, 4, msg, sizeof(msg)), 0);
		}
	}
	guest_settle(g);
	assert_int_equal(guest_message_count(g), 0);
	guest_destroy(g);
}

static void a_socket_connection_is_refused(void **state)
{
	struct vmbus_tl_connect_wire w = {.header.type = le32_make(VMBUS_MESSAGE_TL_CONNECT)};
	struct vmbus_tl_result_wire r;
	struct echo *e;
	struct guest *g = boot_with_echo(&e);

	(void)state;
	memset(&w.endpoint_id, 1, sizeof(w.endpoint_id));
	memset(&w.service_id, 2, sizeof(w.service_id));
	assert_int_equal(guest_post(g, 4, &w, sizeof(w)), 0);
	guest_message_wait(g, VMBUS_MESSAGE_TL_CONNECT_RESULT, &r, sizeof(r));
	assert_memory_equal(&r.endpoint_id, &w.endpoint_id, 16);
	assert_memory_equal(&r.service_id, &w.service_id, 16);
	assert_int_not_equal(le32_get(r.status), 0);
	echo_destroy(e);
	guest_destroy(g);
}

static void a_guest_that_does_not_read_is_slowed_and_loses_nothing(void **state)
{
	struct vmbus_gpadl_teardown_wire w = {
		.header.type = le32_make(VMBUS_MESSAGE_GPADL_TEARDOWN),
		.relid = le32_make(1),
	};
	struct vmbus_gpadl_torndown_wire r;
	struct echo *e;
	struct guest *g = boot_with_echo(&e);
	uint32_t posted = 0;
	int err;

	(void)state;
	guest_hold(g, true);
	for (;;) {
		w.gpadl = le32_make(posted + 1);
		err = guest_post(g, 4, &w, sizeof(w));
		if (err != 0) {
			break;
		}
		posted++;
	}
	assert_int_equal(err, -EAGAIN);
	assert_true(posted > 512);
	guest_hold(g, false);
	for (uint32_t i = 0; i < posted; i++) { /* each answer, in order */
		guest_message_wait(g, VMBUS_MESSAGE_GPADL_TORNDOWN, &r, sizeof(r));
		assert_int_equal(le32_get(r.gpadl), i + 1);
	}
	assert_int_equal(guest_post(g, 4, &w, sizeof(w)), 0);
	echo_destroy(e);
	guest_destroy(g);
}

static void paused_the_bus_hears_nothing(void **state)
{
	struct vmbus_header_wire w = {.type = le32_make(VMBUS_MESSAGE_UNLOAD)};
	struct echo *e;
	struct guest *g = boot_with_echo(&e);
	struct guest_chan *c = open_echo(g);
	uint8_t buf[64] = {0};
	struct vmbus_packet pkt;

	(void)state;
	guest_settle(g);
	vmbus_pause(guest_bus(g));
	assert_int_equal(guest_post(g, 1, &w, sizeof(w)), -EAGAIN);
	assert_int_equal(guest_send(c, VMBUS_PACKET_INBAND, 0, 5, "12345678", 8), 0);
	guest_settle(g);
	assert_int_equal(e->packets, 0);
	assert_int_equal(vmbus_recv(e->chan, e->buf, sizeof(e->buf), &pkt), -EAGAIN);
	vmbus_resume(guest_bus(g));
	guest_recv_wait(c, buf, sizeof(buf), &pkt);
	assert_int_equal(pkt.transaction_id, 5);
	guest_close(c);
	echo_destroy(e);
	guest_destroy(g);
}

static void bad_configurations_are_refused(void **state)
{
	struct guest *g;
	struct vmbus *bus;
	struct vmbus_cfg cfg = {.vm_name = "x"};

	(void)state;
	guest_create(NULL, &g);
	cfg.mem = guest_mem(g);
	cfg.ring = guest_uring(g);
	assert_int_equal(vmbus_create(&cfg, &bus), -EINVAL);
	cfg.vp_count = 1;
	cfg.version_max = 0x60000;
	assert_int_equal(vmbus_create(&cfg, &bus), -EINVAL);
	cfg.version_max = 0;
	for (uint32_t k = 1;; k++) {
		fault_arm(FAULT_ALLOC, k);

		int err = vmbus_create(&cfg, &bus);

		if (!fault_hit(FAULT_ALLOC)) {
			fault_arm(FAULT_ALLOC, 0);
			assert_int_equal(err, 0);
			break;
		}
		assert_int_equal(err, -ENOMEM);
		assert_null(bus);
	}
	vmbus_destroy(bus);
	vmbus_destroy(NULL);
	guest_destroy(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_version_we_know_connects_and_others_do_not),
		cmocka_unit_test(the_newest_version_can_be_bounded),
		cmocka_unit_test(
			a_contact_that_cannot_be_answered_as_asked_is_answered_all_the_same),
		cmocka_unit_test(an_offer_has_the_documented_bytes),
		cmocka_unit_test(a_version_response_has_the_documented_bytes),
		cmocka_unit_test(posts_go_to_two_connections_only),
		cmocka_unit_test(many_offers_arrive_through_one_slot),
		cmocka_unit_test(offers_asked_for_twice_come_once),
		cmocka_unit_test(an_offer_made_later_comes_at_once),
		cmocka_unit_test(an_unload_is_answered_when_the_last_device_let_go),
		cmocka_unit_test(an_unload_without_a_connection_is_answered),
		cmocka_unit_test(a_second_contact_resets_everything_first),
		cmocka_unit_test(the_last_of_several_contacts_counts),
		cmocka_unit_test(a_reset_closes_everything_and_tells),
		cmocka_unit_test(messages_without_a_connection_do_nothing),
		cmocka_unit_test(a_socket_connection_is_refused),
		cmocka_unit_test(a_guest_that_does_not_read_is_slowed_and_loses_nothing),
		cmocka_unit_test(paused_the_bus_hears_nothing),
		cmocka_unit_test(bad_configurations_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
