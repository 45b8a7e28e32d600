/* SPDX-License-Identifier: Apache-2.0 */

/* The life of a channel: open, close, fail, rescind, release, modify. */

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "base/fault.h"
#include "base/uring.h"
#include "hv/vmbus/vmbus.h"
#include "hv/vmbus/vmbus_shm.h"
#include "tests/lib/test.h"
#include "tests/lib/vmbus_echo.h"
#include "tests/lib/vmbus_guest.h"

struct fixture {
	struct guest *g;
	struct echo *e;
	struct guest_offer *offer;
};

static struct fixture fixture_with(const struct echo_cfg *cfg)
{
	struct fixture f;

	guest_create(NULL, &f.g);
	assert_int_equal(echo_create(guest_env(f.g), cfg, &f.e), 0);
	guest_boot(f.g);
	f.offer = guest_offer_find(f.g, &echo_interface, 0);
	assert_non_null(f.offer);
	return f;
}

static struct fixture fixture(void)
{
	return fixture_with(&(struct echo_cfg){0});
}

static void fixture_fini(struct fixture *f)
{
	guest_destroy(f->g);
	echo_destroy(f->e);
}

static void ping(struct guest_chan *c, uint64_t id)
{
	struct vmbus_packet pkt;
	uint8_t buf[64];

	assert_int_equal(guest_send(c, VMBUS_PACKET_INBAND, VMBUS_PACKET_WANTS_COMPLETION, id,
	                            "ping....", 8),
	                 0);
	guest_recv_wait(c, buf, sizeof(buf), &pkt);
	assert_int_equal(pkt.transaction_id, id);
	assert_memory_equal(pkt.payload, "ping....", 8);
}

static void post_relid(struct fixture *f, uint32_t type)
{
	struct vmbus_relid_wire w = {
		.header.type = le32_make(type),
		.relid = le32_make(f->offer->relid),
	};

	assert_int_equal(guest_post(f->g, 4, &w, sizeof(w)), 0);
}

static uint32_t post_open(struct fixture *f, uint32_t gpadl, uint32_t vp, uint32_t page)
{
	struct vmbus_open_wire w = {
		.header.type = le32_make(VMBUS_MESSAGE_OPEN),
		.relid = le32_make(f->offer->relid),
		.open_id = le32_make(77),
		.ring_gpadl = le32_make(gpadl),
		.target_vp = le32_make(vp),
		.downstream_page = le32_make(page),
	};
	struct vmbus_open_result_wire r;

	assert_int_equal(guest_post(f->g, 4, &w, sizeof(w)), 0);
	guest_message_wait(f->g, VMBUS_MESSAGE_OPEN_RESULT, &r, sizeof(r));
	assert_int_equal(le32_get(r.relid), f->offer->relid);
	assert_int_equal(le32_get(r.open_id), 77);
	return le32_get(r.status);
}

static void a_channel_opens_and_closes_many_times(void **state)
{
	struct fixture f = fixture();

	(void)state;
	for (uint32_t i = 0; i < 50; i++) {
		struct guest_chan *c;

		f.e->cfg.close_later = i % 3 == 0;
		assert_int_equal(guest_open(f.g, f.offer, 2 + i % 5, 2 + i % 7, &c), 0);
		assert_true(vmbus_channel_is_open(f.e->chan));
		assert_int_equal(vmbus_channel_ring_bytes(f.e->chan), (1 + i % 5) * 4096);
		assert_int_equal(vmbus_channel_vp(f.e->chan), guest_chan_vp(c));
		ping(c, i);
		guest_close(c);
		assert_false(vmbus_channel_is_open(f.e->chan));
		assert_int_equal(f.e->closes, i + 1);
	}
	fixture_fini(&f);
}

static void opens_that_cannot_be_are_refused(void **state)
{
	struct fixture f = fixture();
	uint64_t pfns[8];
	uint32_t id;
	uint32_t part;

	(void)state;
	guest_alloc(f.g, 8, pfns);
	assert_int_equal(guest_gpadl_create(f.g, f.offer->relid, pfns, 8, 8 * 4096, &id), 0);
	assert_int_equal(guest_gpadl_create(f.g, f.offer->relid, pfns, 8, 8 * 4096 - 8, &part), 0);
	assert_int_not_equal(post_open(&f, id + 100, 0, 4), 0); /* no such list */
	assert_int_not_equal(post_open(&f, part, 0, 4), 0);     /* not whole pages */
	assert_int_not_equal(post_open(&f, id, 2, 4), 0);       /* no such VP */
	for (uint32_t page = 0; page < 12; page++) {
		if (page < 2 || page > 6) {
			assert_int_not_equal(post_open(&f, id, 0, page), 0);
		}
	}
	assert_int_not_equal(post_open(&f, id, 0, UINT32_MAX), 0);
	*(uint32_t *)guest_ptr(f.g, pfns[0] * 4096, 4) = 12; /* an index that is no multiple of 8 */
	assert_int_not_equal(post_open(&f, id, 0, 4), 0);
	*(uint32_t *)guest_ptr(f.g, pfns[0] * 4096, 4) = 0;
	f.e->cfg.open_result = -EBUSY;
	assert_int_not_equal(post_open(&f, id, 0, 4), 0);
	f.e->cfg.open_result = 0;
	assert_int_equal(f.e->opens, 0);
	assert_int_equal(post_open(&f, id, 0, 4), 0);
	assert_int_not_equal(post_open(&f, id, 0, 4), 0); /* it is open */
	assert_int_equal(f.e->opens, 1);
	assert_int_equal(f.e->closes, 0);
	/* Nothing of the refused ones holds the lists. */
	guest_gpadl_teardown(f.g, f.offer->relid, part);
	post_relid(&f, VMBUS_MESSAGE_CLOSE);
	guest_gpadl_teardown(f.g, f.offer->relid, id);
	fixture_fini(&f);
}

static void a_teardown_of_the_rings_waits_for_the_device(void **state)
{
	struct fixture f = fixture_with(&(struct echo_cfg){.close_later = true});
	struct vmbus_gpadl_torndown_wire r;
	struct guest_chan *c;

	(void)state;
	assert_int_equal(guest_open(f.g, f.offer, 3, 3, &c), 0);
	guest_gpadl_teardown_begin(f.g, f.offer->relid, guest_chan_gpadl(c)); /* while open */
	guest_settle(f.g);
	assert_int_equal(guest_message_count(f.g), 0);
	ping(c, 3);
	post_relid(&f, VMBUS_MESSAGE_CLOSE);
	assert_int_equal(guest_message_count(f.g), 0);
	guest_message_wait(f.g, VMBUS_MESSAGE_GPADL_TORNDOWN, &r, sizeof(r));
	assert_int_equal(f.e->closes, 1);
	guest_abandon(c);
	fixture_fini(&f);
}

static void an_open_that_overtakes_the_close_waits(void **state)
{
	struct fixture f = fixture_with(&(struct echo_cfg){.close_later = true});
	uint64_t pfns[8];
	uint32_t id;

	(void)state;
	guest_alloc(f.g, 8, pfns);
	assert_int_equal(guest_gpadl_create(f.g, f.offer->relid, pfns, 8, 8 * 4096, &id), 0);
	assert_int_equal(post_open(&f, id, 0, 4), 0);
	post_relid(&f, VMBUS_MESSAGE_CLOSE);
	assert_true(f.e->closing);
	assert_int_equal(post_open(&f, id, 1, 4), 0);
	assert_int_equal(f.e->opens, 2);
	assert_int_equal(f.e->closes, 1);
	assert_int_equal(vmbus_channel_vp(f.e->chan), 1);
	/* And one that waits is undone by another close. */
	post_relid(&f, VMBUS_MESSAGE_CLOSE);

	struct vmbus_open_wire w = {
		.header.type = le32_make(VMBUS_MESSAGE_OPEN),
		.relid = le32_make(f.offer->relid),
		.ring_gpadl = le32_make(id),
		.downstream_page = le32_make(4),
	};

	assert_int_equal(guest_post(f.g, 4, &w, sizeof(w)), 0);
	post_relid(&f, VMBUS_MESSAGE_CLOSE);
	guest_settle(f.g);
	assert_int_equal(f.e->opens, 2);
	assert_int_equal(f.e->closes, 2);
	fixture_fini(&f);
}

static void a_guest_that_breaks_a_channel_loses_only_that(void **state)
{
	struct fixture f = fixture();
	struct echo *other;
	struct guest_chan *c;
	struct guest_chan *d;

	(void)state;
	assert_int_equal(echo_create(guest_env(f.g), &(struct echo_cfg){.instance = 1}, &other), 0);
	guest_settle(f.g);
	assert_int_equal(guest_open(f.g, f.offer, 3, 3, &c), 0);
	assert_int_equal(
		guest_open(f.g, guest_offer_next(f.g, &echo_interface, 0, f.offer), 3, 3, &d), 0);
	guest_settle(f.g);

	struct vmbus_ring_shm *ctrl = guest_chan_page(c, 0);

	atomic_store(&ctrl->in, 12);
	assert_int_equal(guest_signal(f.g, f.offer->connection_id), 0);
	guest_run_until(f.g, f.e->closes == 1);
	assert_int_equal(f.e->last_error, -EBADMSG);
	assert_false(vmbus_channel_is_open(f.e->chan));
	ping(d, 1);
	guest_close(c); /* the guest knows nothing of it, and can try again */
	assert_int_equal(guest_open(f.g, f.offer, 3, 3, &c), 0);
	ping(c, 2);
	guest_close(c);
	guest_close(d);
	fixture_fini(&f);
	echo_destroy(other);
}

static void a_failed_channel_moves_nothing_more(void **state)
{
	struct fixture f = fixture();
	struct guest_chan *c;
	struct vmbus_packet pkt;

	(void)state;
	assert_int_equal(guest_open(f.g, f.offer, 3, 3, &c), 0);
	guest_settle(f.g);
	vmbus_fail(f.e->chan, "test");
	vmbus_fail(f.e->chan, "twice");
	assert_int_equal(f.e->closes, 0); /* from the loop, not from inside */
	assert_false(vmbus_channel_is_open(f.e->chan));
	assert_int_equal(vmbus_recv(f.e->chan, f.e->buf, sizeof(f.e->buf), &pkt), -ENOTCONN);
	assert_int_equal(vmbus_complete(f.e->chan, 1, "x", 1), -ENOTCONN);
	vmbus_recv_done(f.e->chan);
	vmbus_flush(f.e->chan);
	guest_settle(f.g);
	assert_int_equal(f.e->closes, 1);
	guest_close(c);
	fixture_fini(&f);
}

static void a_failure_that_the_guest_overtakes_does_not_hit_the_next_open(void **state)
{
	struct fixture f = fixture();
	uint64_t pfns[8];
	uint32_t id;

	(void)state;
	guest_alloc(f.g, 8, pfns);
	assert_int_equal(guest_gpadl_create(f.g, f.offer->relid, pfns, 8, 8 * 4096, &id), 0);
	assert_int_equal(post_open(&f, id, 0, 4), 0);
	guest_settle(f.g);
	vmbus_fail(f.e->chan, "test");
	post_relid(&f, VMBUS_MESSAGE_CLOSE);
	assert_int_equal(f.e->closes, 1);
	assert_int_equal(post_open(&f, id, 0, 4), 0);
	guest_settle(f.g);
	assert_int_equal(f.e->closes, 1);
	assert_true(vmbus_channel_is_open(f.e->chan));
	fixture_fini(&f);
}

static void a_rescinded_channel_goes_when_the_guest_released_it(void **state)
{
	struct fixture f = fixture();
	struct guest_chan *c;
	struct echo *again;
	uint32_t relid = f.offer->relid;

	(void)state;
	assert_int_equal(guest_open(f.g, f.offer, 3, 3, &c), 0);
	echo_rescind(f.e);
	assert_int_equal(f.e->closes, 0);
	guest_run_until(f.g, f.offer->rescinded && f.e->closes == 1);
	/* The same device may not come back before the guest has forgotten it. */
	assert_int_equal(echo_create(guest_env(f.g), &(struct echo_cfg){0}, &again), -EEXIST);
	guest_close(c); /* crosses with the rescind: the teardown is answered */
	guest_release(f.g, f.offer);
	assert_int_equal(echo_create(guest_env(f.g), &(struct echo_cfg){0}, &again), 0);
	guest_settle(f.g);

	struct guest_offer *o = guest_offer_find(f.g, &echo_interface, 0);

	assert_non_null(o);
	assert_int_equal(o->relid, relid); /* given back, and given out again */
	assert_int_equal(guest_open(f.g, o, 3, 3, &c), 0);
	ping(c, 9);
	guest_close(c);
	fixture_fini(&f);
	echo_destroy(again);
}

static void a_release_may_come_before_the_device_is_done(void **state)
{
	struct fixture f = fixture_with(&(struct echo_cfg){.close_later = true});
	struct guest_chan *c;
	struct echo *again;

	(void)state;
	assert_int_equal(guest_open(f.g, f.offer, 3, 3, &c), 0);
	echo_rescind(f.e);
	guest_release(f.g, f.offer);
	assert_int_equal(f.e->closes, 0);
	guest_run_until(f.g, f.e->closes == 1);
	assert_int_equal(echo_create(guest_env(f.g), &(struct echo_cfg){0}, &again), 0);
	guest_abandon(c);
	fixture_fini(&f);
	echo_destroy(again);
}

static void an_open_of_a_rescinded_channel_is_refused(void **state)
{
	struct fixture f = fixture();
	struct guest_chan *c;

	(void)state;
	echo_rescind(f.e); /* closed: the echo is free at once */
	echo_destroy(f.e);
	f.e = NULL;
	assert_int_equal(guest_open(f.g, f.offer, 3, 3, &c), -EREMOTEIO);
	guest_release(f.g, f.offer);
	guest_settle(f.g);
	fixture_fini(&f);
}

static void an_offer_that_nobody_saw_goes_at_once(void **state)
{
	struct echo *e;
	struct guest *g;

	(void)state;
	guest_create(NULL, &g);
	for (int i = 0; i < 5; i++) {
		assert_int_equal(echo_create(guest_env(g), &(struct echo_cfg){0}, &e), 0);
		echo_rescind(e);
		echo_destroy(e);
	}
	guest_boot(g);
	assert_int_equal(guest_offer_count(g), 0);
	guest_destroy(g);
}

static void a_release_without_a_rescind_does_nothing(void **state)
{
	struct fixture f = fixture();
	struct guest_chan *c;

	(void)state;
	post_relid(&f, VMBUS_MESSAGE_RELID_RELEASED);
	assert_int_equal(guest_open(f.g, f.offer, 3, 3, &c), 0);
	post_relid(&f, VMBUS_MESSAGE_RELID_RELEASED);
	ping(c, 1);
	guest_close(c);
	fixture_fini(&f);
}

static void sub_channels_come_and_go_with_their_primary(void **state)
{
	struct fixture f = fixture();
	struct echo *subs[3];
	struct guest_chan *c;
	struct guest_chan *sub;

	(void)state;
	assert_int_equal(guest_open(f.g, f.offer, 3, 3, &c), 0);
	for (uint16_t round = 0; round < 4; round++) {
		for (uint16_t i = 0; i < 3; i++) {
			assert_int_equal(echo_create(guest_env(f.g),
			                             &(struct echo_cfg){.subchannel_index = i + 1u},
			                             &subs[i]),
			                 0);
		}
		guest_settle(f.g);
		assert_int_equal(
			guest_open(f.g, guest_offer_find(f.g, &echo_interface, 2), 3, 3, &sub), 0);
		ping(sub, 5);
		ping(c, 6);

		struct guest_offer *offers[3];

		for (uint16_t i = 0; i < 3; i++) {
			offers[i] = guest_offer_find(f.g, &echo_interface, i + 1u);
			assert_non_null(offers[i]);
			echo_rescind(subs[i]);
		}
		guest_run_until(f.g, subs[1]->closes == 1);
		guest_close(sub);
		/* The next round's offers may come before these are released. */
		for (uint16_t i = 0; i < 3; i++) {
			if (round % 2 == 0) {
				guest_release(f.g, offers[i]);
			}
			echo_destroy(subs[i]);
		}
	}
	guest_close(c);
	guest_unload(f.g); /* releases all that was left */
	fixture_fini(&f);
}

static void a_primary_does_not_open_before_its_old_sub_channels_closed(void **state)
{
	struct fixture f = fixture();
	struct echo *sub;
	struct guest_chan *c;
	struct guest_chan *d;
	uint64_t pfns[8];
	uint32_t id;

	(void)state;
	assert_int_equal(guest_open(f.g, f.offer, 3, 3, &c), 0);
	assert_int_equal(echo_create(guest_env(f.g),
	                             &(struct echo_cfg){.subchannel_index = 1, .close_later = true},
	                             &sub),
	                 0);
	guest_settle(f.g);
	assert_int_equal(guest_open(f.g, guest_offer_find(f.g, &echo_interface, 1), 3, 3, &d), 0);
	guest_close(c);
	guest_alloc(f.g, 8, pfns);
	assert_int_equal(guest_gpadl_create(f.g, f.offer->relid, pfns, 8, 8 * 4096, &id), 0);
	echo_rescind(sub);
	/* The open is here before the loop could tell the sub-channel's device to close. */
	assert_int_equal(sub->closes, 0);
	assert_int_equal(post_open(&f, id, 0, 4), 0);
	assert_int_equal(sub->closes, 1);
	assert_int_equal(f.e->opens, 2);
	guest_abandon(d);
	fixture_fini(&f);
	echo_destroy(sub);
}

static void a_key_is_offered_once(void **state)
{
	struct fixture f = fixture();
	struct echo *e;

	(void)state;
	assert_int_equal(echo_create(guest_env(f.g), &(struct echo_cfg){0}, &e), -EEXIST);
	assert_null(e);
	fixture_fini(&f);
}

static void offers_are_bounded(void **state)
{
	static struct echo *echoes[VMBUS_CHANNELS_MAX];
	struct echo *e;
	struct guest *g;

	(void)state;
	guest_create(NULL, &g);
	for (uint32_t i = 0; i < VMBUS_CHANNELS_MAX; i++) {
		assert_int_equal(
			echo_create(guest_env(g), &(struct echo_cfg){.instance = i}, &echoes[i]),
			0);
	}
	assert_int_equal(
		echo_create(guest_env(g), &(struct echo_cfg){.instance = VMBUS_CHANNELS_MAX}, &e),
		-ENOSPC);
	guest_boot(g);
	assert_int_equal(guest_offer_count(g), VMBUS_CHANNELS_MAX);
	guest_destroy(g);
	for (uint32_t i = 0; i < VMBUS_CHANNELS_MAX; i++) {
		echo_destroy(echoes[i]);
	}
}

static void interrupts_go_where_the_guest_wants_them(void **state)
{
	struct fixture f = fixture();
	struct vmbus_modify_wire w = {
		.header.type = le32_make(VMBUS_MESSAGE_MODIFY),
		.relid = le32_make(f.offer->relid),
	};
	struct vmbus_modify_response_wire r;
	struct guest_chan *c;

	(void)state;
	assert_int_equal(guest_post(f.g, 4, &w, sizeof(w)), 0); /* not open */
	guest_message_wait(f.g, VMBUS_MESSAGE_MODIFY_RESPONSE, &r, sizeof(r));
	assert_int_not_equal(le32_get(r.status), 0);
	assert_int_equal(guest_open(f.g, f.offer, 3, 3, &c), 0);
	for (uint32_t vp = 0; vp < 2; vp++) {
		uint64_t before = guest_interrupts(f.g, vp);

		w.target_vp = le32_make(vp);
		assert_int_equal(guest_post(f.g, 4, &w, sizeof(w)), 0);
		guest_message_wait(f.g, VMBUS_MESSAGE_MODIFY_RESPONSE, &r, sizeof(r));
		assert_int_equal(le32_get(r.status), 0);
		/* What was signalled to the old VP may have been missed. */
		assert_int_equal(guest_interrupts(f.g, vp), before + 1);
		assert_true(guest_flag_take(f.g, vp, f.offer->relid));
		assert_int_equal(vmbus_channel_vp(f.e->chan), vp);
	}
	w.target_vp = le32_make(2);
	assert_int_equal(guest_post(f.g, 4, &w, sizeof(w)), 0);
	guest_message_wait(f.g, VMBUS_MESSAGE_MODIFY_RESPONSE, &r, sizeof(r));
	assert_int_not_equal(le32_get(r.status), 0);
	w.relid = le32_make(999);
	assert_int_equal(guest_post(f.g, 4, &w, sizeof(w)), 0);
	guest_message_wait(f.g, VMBUS_MESSAGE_MODIFY_RESPONSE, &r, sizeof(r));
	assert_int_not_equal(le32_get(r.status), 0);

	/* No VP at all: no interrupts, and the packets are there all the same. */
	uint64_t before = guest_interrupts(f.g, 0) + guest_interrupts(f.g, 1);
	struct vmbus_ring_shm *in = guest_chan_page(c, guest_chan_out_pages(c));

	w.relid = le32_make(f.offer->relid);
	w.target_vp = le32_make(UINT32_MAX);
	assert_int_equal(guest_post(f.g, 4, &w, sizeof(w)), 0);
	guest_message_wait(f.g, VMBUS_MESSAGE_MODIFY_RESPONSE, &r, sizeof(r));
	assert_int_equal(guest_send(c, VMBUS_PACKET_INBAND, 0, 1, "12345678", 8), 0);
	guest_run_until(f.g, atomic_load(&in->in) == 32);
	assert_int_equal(guest_interrupts(f.g, 0) + guest_interrupts(f.g, 1), before);
	guest_close(c);
	fixture_fini(&f);
}

static void before_5_3_a_modify_is_not_answered(void **state)
{
	struct fixture f = fixture();
	struct vmbus_modify_wire w = {
		.header.type = le32_make(VMBUS_MESSAGE_MODIFY),
		.relid = le32_make(f.offer->relid),
		.target_vp = le32_make(0),
	};
	struct guest_chan *c;

	(void)state;
	assert_int_equal(guest_connect(f.g, VMBUS_VERSION(4, 1)), 0);
	guest_request_offers(f.g);
	f.offer = guest_offer_find(f.g, &echo_interface, 0);
	assert_int_equal(guest_open(f.g, f.offer, 3, 3, &c), 0);
	assert_int_equal(vmbus_channel_vp(f.e->chan), 1);
	assert_int_equal(guest_post(f.g, 1, &w, sizeof(w)), 0);
	guest_settle(f.g);
	assert_int_equal(guest_message_count(f.g), 0);
	assert_int_equal(vmbus_channel_vp(f.e->chan), 0);
	guest_close(c);
	fixture_fini(&f);
}

static void a_batch_is_bounded_and_goes_on(void **state)
{
	enum { PACKETS = 700 };
	struct fixture f = fixture();
	struct guest_chan *c;
	struct vmbus_packet pkt;
	uint8_t buf[64];
	uint32_t readies;

	(void)state;
	assert_int_equal(guest_open(f.g, f.offer, 17, 17, &c), 0);
	guest_settle(f.g);
	readies = f.e->readies;
	for (uint32_t i = 0; i < PACKETS; i++) {
		assert_int_equal(guest_send(c, VMBUS_PACKET_INBAND, 0, i, buf, 8), 0);
	}
	for (uint32_t i = 0; i < PACKETS; i++) {
		guest_recv_wait(c, buf, sizeof(buf), &pkt);
		assert_int_equal(pkt.transaction_id, i);
	}
	guest_settle(f.g);
	assert_int_equal(f.e->readies - readies, (PACKETS + VMBUS_BATCH_MAX - 1) / VMBUS_BATCH_MAX);
	guest_close(c);
	fixture_fini(&f);
}

static void a_packet_too_large_for_the_device_fails_the_channel(void **state)
{
	static uint8_t big[ECHO_BYTES_MAX + 8];
	struct fixture f = fixture();
	struct guest_chan *c;

	(void)state;
	assert_int_equal(guest_open(f.g, f.offer, 5, 5, &c), 0);
	assert_int_equal(guest_send(c, VMBUS_PACKET_INBAND, 0, 1, big, sizeof(big)), 0);
	guest_run_until(f.g, f.e->closes == 1);
	guest_close(c);
	fixture_fini(&f);
}

static void lost_memory_is_a_refusal(void **state)
{
	struct fixture f = fixture();
	struct echo *e;

	(void)state;
	for (uint32_t k = 1;; k++) {
		fault_arm(FAULT_ALLOC, k);

		int err = echo_create(guest_env(f.g), &(struct echo_cfg){.instance = 1}, &e);

		if (!fault_hit(FAULT_ALLOC)) {
			fault_arm(FAULT_ALLOC, 0);
			assert_int_equal(err, 0);
			break;
		}
		assert_int_equal(err, -ENOMEM);
		assert_null(e);
	}

	uint64_t pfns[8];
	uint32_t id;

	guest_alloc(f.g, 8, pfns);
	assert_int_equal(guest_gpadl_create(f.g, f.offer->relid, pfns, 8, 8 * 4096, &id), 0);
	for (uint32_t k = 1;; k++) {
		fault_arm(FAULT_ALLOC, k);

		uint32_t status = post_open(&f, id, 0, 4);

		if (!fault_hit(FAULT_ALLOC)) {
			fault_arm(FAULT_ALLOC, 0);
			assert_int_equal(status, 0);
			break;
		}
		assert_int_equal(status, VMBUS_STATUS_NO_RESOURCES);
	}
	fixture_fini(&f);
	echo_destroy(e);
}

static void a_bus_with_open_channels_can_be_destroyed(void **state)
{
	struct fixture f = fixture();
	struct guest_chan *c;

	(void)state;
	assert_int_equal(guest_open(f.g, f.offer, 3, 3, &c), 0);
	vmbus_kick(f.e->chan);
	vmbus_pause(guest_bus(f.g));
	fixture_fini(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_channel_opens_and_closes_many_times),
		cmocka_unit_test(opens_that_cannot_be_are_refused),
		cmocka_unit_test(a_teardown_of_the_rings_waits_for_the_device),
		cmocka_unit_test(an_open_that_overtakes_the_close_waits),
		cmocka_unit_test(a_guest_that_breaks_a_channel_loses_only_that),
		cmocka_unit_test(a_failed_channel_moves_nothing_more),
		cmocka_unit_test(a_failure_that_the_guest_overtakes_does_not_hit_the_next_open),
		cmocka_unit_test(a_rescinded_channel_goes_when_the_guest_released_it),
		cmocka_unit_test(a_release_may_come_before_the_device_is_done),
		cmocka_unit_test(an_open_of_a_rescinded_channel_is_refused),
		cmocka_unit_test(an_offer_that_nobody_saw_goes_at_once),
		cmocka_unit_test(a_release_without_a_rescind_does_nothing),
		cmocka_unit_test(sub_channels_come_and_go_with_their_primary),
		cmocka_unit_test(a_primary_does_not_open_before_its_old_sub_channels_closed),
		cmocka_unit_test(a_key_is_offered_once),
		cmocka_unit_test(offers_are_bounded),
		cmocka_unit_test(interrupts_go_where_the_guest_wants_them),
		cmocka_unit_test(before_5_3_a_modify_is_not_answered),
		cmocka_unit_test(a_batch_is_bounded_and_goes_on),
		cmocka_unit_test(a_packet_too_large_for_the_device_fails_the_channel),
		cmocka_unit_test(lost_memory_is_a_refusal),
		cmocka_unit_test(a_bus_with_open_channels_can_be_destroyed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
