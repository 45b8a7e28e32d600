/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Moving a bus: saved in the middle of traffic at every boundary, loaded into a new one over the
 * same memory; and loaded from bytes that nobody would write.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "hv/save/save.h"
#include "hv/save/save_wire.h"
#include "hv/vmbus/vmbus.h"
#include "tests/lib/hexfile.h"
#include "tests/lib/test.h"
#include "tests/lib/vmbus_echo.h"
#include "tests/lib/vmbus_guest.h"

struct blob {
	uint8_t *buf;
	size_t len;
};

static void drained(void *arg)
{
	*(bool *)arg = true;
}

/* Pause and save the bus and @count devices; they go away with the old host. */
static struct blob suspend(struct guest *g, struct echo **echoes, uint32_t count)
{
	struct save s;
	struct blob b;

	vmbus_pause(guest_bus(g));
	for (uint32_t i = 0; i < count; i++) {
		bool done = false;

		echoes[i]->vsp.ops->pause(&echoes[i]->vsp, drained, &done);
		guest_run_until(g, done);
	}
	save_init(&s);
	vmbus_save(guest_bus(g), &s);
	for (uint32_t i = 0; i < count; i++) {
		echoes[i]->vsp.ops->save(&echoes[i]->vsp, &s);
	}
	assert_int_equal(save_finish(&s, &b.buf, &b.len), 0);
	return b;
}

static void resume(struct guest *g, struct echo **echoes, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		echoes[i]->vsp.ops->resume(&echoes[i]->vsp);
	}
	vmbus_resume(guest_bus(g));
}

/* The whole move. @bus_first: the devices are created and loaded after the bus. */
static void move_vm(struct guest *g, struct echo **echoes, uint32_t count, bool bus_first)
{
	struct errbuf eb = {0};
	struct blob b = suspend(g, echoes, count);
	struct load l;

	for (uint32_t i = 0; i < count; i++) {
		echoes[i]->vsp.ops->destroy(&echoes[i]->vsp);
	}

	struct echo_cfg cfgs[8] = {{0}};

	for (uint32_t i = 0; i < count; i++) {
		cfgs[i] = (struct echo_cfg){.instance = i};
	}
	guest_bus_replace(g);
	assert_int_equal(load_init(&l, b.buf, b.len, &eb), 0);
	if (bus_first) {
		assert_int_equal(vmbus_load(guest_bus(g), &l), 0);
	}
	for (uint32_t i = 0; i < count; i++) {
		assert_int_equal(echo_create(guest_env(g), &cfgs[i], &echoes[i]), 0);
		echoes[i]->paused = true;
		assert_int_equal(echoes[i]->vsp.ops->load(&echoes[i]->vsp, &l), 0);
	}
	if (!bus_first && vmbus_load(guest_bus(g), &l) != 0) {
		fail_msg("%s", eb.text);
	}
	resume(g, echoes, count);
	free(b.buf);
}

/* ---- in the middle of traffic ---- */

enum { STEPS = 90, PACKETS = 60, TRACE_MAX = 4096 };

struct trace {
	uint32_t ids[PACKETS];
	uint32_t sums[PACKETS];
	uint32_t count;
};

static uint32_t next_random(uint32_t *seed)
{
	*seed = *seed * 1664525u + 1013904223u;
	return *seed >> 8;
}

static void trace_take(struct guest_chan *c, struct trace *t)
{
	static uint8_t buf[VMBUS_PACKET_BYTES_MAX];
	struct vmbus_packet pkt;

	while (t->count < PACKETS && guest_recv(c, buf, sizeof(buf), &pkt) == 0) {
		t->ids[t->count] = (uint32_t)pkt.transaction_id;
		t->sums[t->count] = crc32c(pkt.payload, pkt.payload_bytes);
		t->count++;
	}
}

/* The same guest each time; at step @move_at it is moved. */
static struct trace run_trace(const struct guest_cfg *guest_cfg, bool delay, uint32_t move_at,
                              bool bus_first)
{
	static uint8_t payload[ECHO_BYTES_MAX];
	struct trace t = {.count = 0};
	struct guest *g;
	struct guest_chan *c;
	struct echo *e;
	uint32_t seed = 11;
	uint32_t sent = 0;

	guest_create(guest_cfg, &g);
	assert_int_equal(echo_create(guest_env(g), &(struct echo_cfg){.delay = delay}, &e), 0);
	guest_boot(g);
	assert_int_equal(guest_open(g, guest_offer_find(g, &echo_interface, 0), 2, 2, &c), 0);
	for (uint32_t step = 0; step < STEPS; step++) {
		uint32_t what = next_random(&seed) % 8;

		if (what < 5 && sent < PACKETS) {
			uint32_t len =
				sent * 331 % 1200; /* so that a packet is the same in each run */

			memset(payload, (int)sent, len);
			sent += guest_send(c, VMBUS_PACKET_INBAND, sent & 1, sent, payload, len) ==
			        0;
		} else if (what < 6) {
			guest_step(g, 0);
		} else {
			trace_take(c, &t);
		}
		if (step == move_at) {
			move_vm(g, &e, 1, bus_first);
			e->cfg.delay = delay;
			assert_true(e->restored);
		}
	}
	guest_run_until(g, (trace_take(c, &t), t.count == sent));
	guest_close(c);
	echo_destroy(e);
	guest_destroy(g);
	return t;
}

static void a_move_at_any_step_changes_nothing_that_the_guest_sees(void **state)
{
	const struct guest_cfg cfg = {.scatter = true};
	struct trace want = run_trace(&cfg, false, UINT32_MAX, false);

	(void)state;
	assert_true(want.count > 20);
	for (uint32_t at = 0; at < STEPS; at++) {
		struct trace got = run_trace(&cfg, false, at, at % 2 == 0);

		/* How many were sent may differ by those that met a full ring; what came not. */
		uint32_t count = got.count < want.count ? got.count : want.count;

		assert_true(count > 20);
		assert_memory_equal(got.ids, want.ids, count * sizeof(got.ids[0]));
		assert_memory_equal(got.sums, want.sums, count * sizeof(got.sums[0]));
	}
}

static void requests_in_flight_survive_a_move_once_each(void **state)
{
	const struct guest_cfg cfg = {0};

	(void)state;
	for (uint32_t at = 0; at < STEPS; at++) {
		struct trace got = run_trace(&cfg, true, at, at % 2 == 1);
		uint8_t seen[PACKETS] = {0};

		for (uint32_t i = 0; i < got.count; i++) {
			assert_true(got.ids[i] < got.count);
			assert_int_equal(seen[got.ids[i]]++, 0);
		}
	}
}

/* ---- everything but traffic ---- */

static void a_connection_moves_at_every_stage_of_an_open(void **state)
{
	(void)state;
	for (uint32_t at = 0; at < 6; at++) {
		struct guest *g;
		struct guest_chan *c;
		struct echo *e;
		struct vmbus_packet pkt;
		uint8_t buf[64];
		uint32_t stage = 0;

		guest_create(NULL, &g);
		assert_int_equal(echo_create(guest_env(g), &(struct echo_cfg){0}, &e), 0);
		if (at == stage++) {
			move_vm(g, &e, 1, false); /* before the contact */
		}
		assert_int_equal(guest_connect(g, VMBUS_VERSION(5, 1)), 0);
		if (at == stage++) {
			move_vm(g, &e, 1, true);
		}
		guest_request_offers(g);
		if (at == stage++) {
			move_vm(g, &e, 1, false);
		}
		assert_int_equal(guest_offer_count(g), 1);
		assert_int_equal(guest_open(g, guest_offer_find(g, &echo_interface, 0), 3, 3, &c),
		                 0);
		if (at == stage++) {
			move_vm(g, &e, 1, true);
		}
		assert_int_equal(guest_send(c, VMBUS_PACKET_INBAND, 0, 1, "12345678", 8), 0);
		guest_recv_wait(c, buf, sizeof(buf), &pkt);
		guest_close(c);
		if (at == stage++) {
			move_vm(g, &e, 1, false);
		}
		assert_int_equal(guest_open(g, guest_offer_find(g, &echo_interface, 0), 3, 3, &c),
		                 0);
		guest_close(c);
		guest_unload(g);
		if (at == stage) {
			move_vm(g, &e, 1, false);
		}
		guest_boot(g);
		echo_destroy(e);
		guest_destroy(g);
	}
}

static void messages_that_wait_for_the_slot_move_too(void **state)
{
	enum { OFFERS = 8 };
	struct echo *echoes[OFFERS];
	struct vmbus_header_wire w = {.type = le32_make(VMBUS_MESSAGE_REQUEST_OFFERS)};
	struct guest *g;

	(void)state;
	guest_create(NULL, &g);
	for (uint32_t i = 0; i < OFFERS; i++) {
		assert_int_equal(
			echo_create(guest_env(g), &(struct echo_cfg){.instance = i}, &echoes[i]),
			0);
	}
	assert_int_equal(guest_connect(g, VMBUS_VERSION(5, 3)), 0);
	guest_hold(g, true);
	assert_int_equal(guest_post(g, 4, &w, sizeof(w)), 0);
	move_vm(g, echoes, OFFERS, false);
	guest_hold(g, false);
	guest_message_wait(g, VMBUS_MESSAGE_ALL_OFFERS, &w, sizeof(w));
	assert_int_equal(guest_offer_count(g), OFFERS);
	guest_destroy(g);
	for (uint32_t i = 0; i < OFFERS; i++) {
		echo_destroy(echoes[i]);
	}
}

static void a_gpadl_half_way_is_finished_on_the_other_side(void **state)
{
	struct {
		struct vmbus_gpadl_header_wire w;
		struct vmbus_range_wire range;
		le64 pfn;
	} header = {
		.w.header.type = le32_make(VMBUS_MESSAGE_GPADL_HEADER),
		.w.relid = le32_make(1),
		.w.gpadl = le32_make(3),
		.w.range_bytes = le16_make(8 + 16),
		.w.range_count = le16_make(1),
		.range.byte_count = le32_make(8192),
		.pfn = le64_make(0x100003),
	};
	struct {
		struct vmbus_gpadl_body_wire w;
		le64 pfn;
	} body = {
		.w.header.type = le32_make(VMBUS_MESSAGE_GPADL_BODY),
		.w.gpadl = le32_make(3),
		.pfn = le64_make(0x100009),
	};
	struct vmbus_gpadl_created_wire r;
	struct vmbus_gpadl *gpadl;
	struct guest *g;
	struct echo *e;

	(void)state;
	guest_create(NULL, &g);
	assert_int_equal(echo_create(guest_env(g), &(struct echo_cfg){0}, &e), 0);
	guest_boot(g);
	assert_int_equal(guest_post(g, 4, &header, sizeof(header)), 0);
	move_vm(g, &e, 1, false);
	assert_int_equal(vmbus_gpadl_get(e->chan, 3, &gpadl), -ENOENT);
	assert_int_equal(guest_post(g, 4, &body, sizeof(body)), 0);
	guest_message_wait(g, VMBUS_MESSAGE_GPADL_CREATED, &r, sizeof(r));
	assert_int_equal(le32_get(r.status), 0);
	move_vm(g, &e, 1, false);
	assert_int_equal(vmbus_gpadl_get(e->chan, 3, &gpadl), 0);
	assert_int_equal(vmbus_gpadl_write(gpadl, 4096, "x", 1), 0);
	assert_int_equal(*(char *)guest_ptr(g, 0x100009ull * 4096, 1), 'x');
	vmbus_gpadl_put(gpadl);
	echo_destroy(e);
	guest_destroy(g);
}

static void a_teardown_that_waits_is_answered_on_the_other_side(void **state)
{
	struct vmbus_gpadl_torndown_wire r;
	struct guest *g;
	struct guest_chan *c;
	struct echo *e;
	struct vmbus_gpadl *gpadl;
	uint64_t pfn;
	uint32_t id;

	(void)state;
	guest_create(NULL, &g);
	assert_int_equal(echo_create(guest_env(g), &(struct echo_cfg){0}, &e), 0);
	guest_boot(g);
	assert_int_equal(guest_open(g, guest_offer_find(g, &echo_interface, 0), 3, 3, &c), 0);
	guest_alloc(g, 1, &pfn);
	assert_int_equal(guest_gpadl_create(g, guest_chan_relid(c), &pfn, 1, 4096, &id), 0);
	assert_int_equal(vmbus_gpadl_get(e->chan, id, &gpadl), 0);
	guest_gpadl_teardown_begin(g, guest_chan_relid(c), id);
	guest_settle(g);
	assert_int_equal(guest_message_count(g), 0);

	/* The device holds it here; its successor does not take it up again. */
	struct blob b = suspend(g, &e, 1);
	struct load l;

	vmbus_gpadl_put(gpadl);
	echo_destroy(e);
	guest_bus_replace(g);
	assert_int_equal(load_init(&l, b.buf, b.len, NULL), 0);
	assert_int_equal(echo_create(guest_env(g), &(struct echo_cfg){0}, &e), 0);
	assert_int_equal(vmbus_load(guest_bus(g), &l), 0);
	assert_int_equal(vmbus_gpadl_get(e->chan, id, &gpadl), 0); /* it could */
	vmbus_gpadl_put(gpadl);
	guest_settle(g);
	resume(g, &e, 1);
	guest_message_wait(g, VMBUS_MESSAGE_GPADL_TORNDOWN, &r, sizeof(r));
	assert_int_equal(le32_get(r.gpadl), id);
	free(b.buf);
	guest_close(c);
	echo_destroy(e);
	guest_destroy(g);
}

static void what_nobody_offers_any_more_is_rescinded(void **state)
{
	struct guest *g;
	struct guest_chan *c[2];
	struct guest_offer *o;
	struct echo *e[2];

	(void)state;
	guest_create(NULL, &g);
	for (uint32_t i = 0; i < 2; i++) {
		assert_int_equal(
			echo_create(guest_env(g), &(struct echo_cfg){.instance = i}, &e[i]), 0);
	}
	guest_boot(g);
	o = guest_offer_find(g, &echo_interface, 0);
	assert_int_equal(guest_open(g, o, 3, 3, &c[0]), 0);
	assert_int_equal(guest_open(g, guest_offer_next(g, &echo_interface, 0, o), 3, 3, &c[1]), 0);

	struct blob b = suspend(g, e, 2);
	struct load l;

	echo_destroy(e[0]);
	echo_destroy(e[1]);
	guest_bus_replace(g);
	assert_int_equal(load_init(&l, b.buf, b.len, NULL), 0);
	assert_int_equal(vmbus_load(guest_bus(g), &l), 0);
	assert_int_equal(echo_create(guest_env(g), &(struct echo_cfg){.instance = 1}, &e[1]), 0);
	/* And a device that is new here. */
	assert_int_equal(echo_create(guest_env(g), &(struct echo_cfg){.instance = 2}, &e[0]), 0);
	assert_true(e[1]->open);
	assert_false(e[0]->open);
	vmbus_resume(guest_bus(g));
	guest_run_until(g, o->rescinded && guest_offer_count(g) == 3);
	assert_false(guest_offer_next(g, &echo_interface, 0, o)->rescinded);
	guest_close(c[0]);
	guest_release(g, o);
	guest_close(c[1]);
	free(b.buf);
	guest_destroy(g);
	echo_destroy(e[0]);
	echo_destroy(e[1]);
}

static void a_rescind_that_the_guest_has_not_released_moves(void **state)
{
	struct guest *g;
	struct guest_offer *o;
	struct echo *e;
	struct echo *sub;

	(void)state;
	guest_create(NULL, &g);
	assert_int_equal(echo_create(guest_env(g), &(struct echo_cfg){0}, &e), 0);
	guest_boot(g);
	assert_int_equal(echo_create(guest_env(g), &(struct echo_cfg){.subchannel_index = 1}, &sub),
	                 0);
	guest_settle(g);
	o = guest_offer_find(g, &echo_interface, 1);
	assert_non_null(o);
	echo_rescind(sub);
	echo_destroy(sub);
	move_vm(g, &e, 1, false);
	guest_settle(g);
	assert_true(o->rescinded);
	/* Its number is not given out before the release. */
	assert_int_equal(echo_create(guest_env(g), &(struct echo_cfg){.subchannel_index = 2}, &sub),
	                 0);
	guest_settle(g);
	assert_int_not_equal(guest_offer_find(g, &echo_interface, 2)->relid, o->relid);
	guest_release(g, o);
	guest_destroy(g);
	echo_destroy(e);
	echo_destroy(sub);
}

static void a_channel_that_had_failed_closes_on_the_other_side(void **state)
{
	struct guest *g;
	struct guest_chan *c;
	struct echo *e;

	(void)state;
	guest_create(NULL, &g);
	assert_int_equal(echo_create(guest_env(g), &(struct echo_cfg){0}, &e), 0);
	guest_boot(g);
	assert_int_equal(guest_open(g, guest_offer_find(g, &echo_interface, 0), 3, 3, &c), 0);
	guest_settle(g);
	vmbus_fail(e->chan, "test");

	struct save s;
	struct blob b;
	struct load l;

	vmbus_pause(guest_bus(g));
	save_init(&s);
	vmbus_save(guest_bus(g), &s);
	assert_int_equal(save_finish(&s, &b.buf, &b.len), 0);
	echo_destroy(e);
	guest_bus_replace(g);
	assert_int_equal(echo_create(guest_env(g), &(struct echo_cfg){0}, &e), 0);
	assert_int_equal(load_init(&l, b.buf, b.len, NULL), 0);
	assert_int_equal(vmbus_load(guest_bus(g), &l), 0);
	assert_int_equal(e->opens, 1);
	assert_false(vmbus_channel_is_open(e->chan));
	vmbus_resume(guest_bus(g));
	guest_run_until(g, e->closes == 1);
	guest_close(c);
	free(b.buf);
	echo_destroy(e);
	guest_destroy(g);
}

/* ---- hostile blobs ---- */

/* A bus with a bit of everything. */
static struct blob rich_blob(struct guest *g, struct guest_chan **c)
{
	struct echo *e;
	struct echo *sub;
	uint64_t pfns[4];
	uint32_t id;

	assert_int_equal(echo_create(guest_env(g), &(struct echo_cfg){0}, &e), 0);
	guest_boot(g);
	assert_int_equal(guest_open(g, guest_offer_find(g, &echo_interface, 0), 2, 2, c), 0);
	guest_alloc(g, 4, pfns);
	assert_int_equal(guest_gpadl_create(g, guest_chan_relid(*c), pfns, 4, 16384, &id), 0);
	assert_int_equal(echo_create(guest_env(g), &(struct echo_cfg){.subchannel_index = 1}, &sub),
	                 0);
	guest_settle(g);
	guest_hold(g, true);
	echo_rescind(sub);
	guest_gpadl_teardown_begin(g, 1, 4711); /* an answer, and another in the queue */

	struct blob b = suspend(g, &e, 1);

	echo_destroy(e);
	echo_destroy(sub);
	return b;
}

/* Load the section of @payload into a fresh bus; run it if that works. */
static int try_load(struct guest *g, const uint8_t *payload, size_t len)
{
	struct save s;
	struct blob b;
	struct load l;
	struct errbuf eb = {0};
	struct echo *e;

	save_init(&s);
	save_begin(&s, "vmbus", 1, true);
	save_bytes(&s, payload, len);
	save_end(&s);
	assert_int_equal(save_finish(&s, &b.buf, &b.len), 0);
	guest_bus_replace(g);
	assert_int_equal(echo_create(guest_env(g), &(struct echo_cfg){0}, &e), 0);
	assert_int_equal(load_init(&l, b.buf, b.len, NULL), 0);
	l.eb = &eb;

	int err = vmbus_load(guest_bus(g), &l);

	if (err == 0) {
		vmbus_resume(guest_bus(g));
		guest_settle(g);
		vmbus_pause(guest_bus(g));
	} else {
		assert_string_not_equal(eb.text, "");
	}
	free(b.buf);
	guest_bus_replace(g);
	echo_destroy(e);
	return err;
}

static void a_state_saved_by_version_1_loads(void **state)
{
	struct errbuf eb = {0};
	struct vmbus_gpadl *gpadl;
	struct load l;
	struct guest *g;
	struct echo *e;
	size_t len;
	uint8_t *buf = hexfile_load(VECTORS "/save-1.hex", &len);

	(void)state;
	guest_create(NULL, &g);
	guest_bus_replace(g);
	assert_int_equal(echo_create(guest_env(g), &(struct echo_cfg){0}, &e), 0);
	assert_int_equal(load_init(&l, buf, len, &eb), 0);
	if (vmbus_load(guest_bus(g), &l) != 0) {
		fail_msg("%s", eb.text);
	}
	assert_true(e->restored);
	assert_int_equal(vmbus_channel_relid(e->chan), 1);
	assert_int_equal(vmbus_channel_vp(e->chan), 1);
	assert_int_equal(vmbus_gpadl_get(e->chan, 0xe1e11, &gpadl), 0);
	assert_int_equal(vmbus_gpadl_bytes(gpadl), 16384);
	vmbus_gpadl_put(gpadl);
	vmbus_resume(guest_bus(g));
	guest_settle(g);
	assert_int_equal(guest_message_count(g), 1); /* GPADL_TORNDOWN */
	free(buf);
	guest_destroy(g);
	echo_destroy(e);
}

static void every_truncation_and_bit_flip_loads_cleanly_or_is_refused(void **state)
{
	struct guest *g;
	struct guest_chan *c;
	uint32_t loaded = 0;

	(void)state;
	guest_create(NULL, &g);

	struct blob b = rich_blob(g, &c);
	struct save_section_wire w;

	memcpy(&w, b.buf, sizeof(w));

	uint8_t *payload = b.buf + sizeof(w);
	size_t len = le32_get(w.len_bytes);

	assert_int_equal(try_load(g, payload, len), 0);
	for (size_t cut = 0; cut < len; cut++) {
		assert_int_equal(try_load(g, payload, cut), -EBADMSG);
	}
	for (size_t bit = 0; bit < 8 * len; bit++) {
		payload[bit / 8] ^= (uint8_t)(1u << bit % 8);
		loaded += try_load(g, payload, len) == 0;
		payload[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	assert_true(loaded > 0 && loaded < 8 * len);
	assert_int_equal(try_load(g, payload, len), 0);
	free(b.buf);
	guest_destroy(g);
}

static void a_blob_without_the_section_is_refused(void **state)
{
	struct guest *g;
	struct load l;

	(void)state;
	guest_create(NULL, &g);
	vmbus_pause(guest_bus(g));
	assert_int_equal(load_init(&l, "", 0, NULL), 0);
	assert_int_equal(vmbus_load(guest_bus(g), &l), -EBADMSG);
	guest_destroy(g);
}

static void lost_memory_is_a_refusal(void **state)
{
	struct guest *g;
	struct guest_chan *c;

	(void)state;
	guest_create(NULL, &g);

	struct blob b = rich_blob(g, &c);

	for (uint32_t k = 1;; k++) {
		struct echo *e;
		struct load l;

		guest_bus_replace(g);
		assert_int_equal(echo_create(guest_env(g), &(struct echo_cfg){0}, &e), 0);
		assert_int_equal(load_init(&l, b.buf, b.len, NULL), 0);
		fault_arm(FAULT_ALLOC, k);

		int err = vmbus_load(guest_bus(g), &l);
		bool hit = fault_hit(FAULT_ALLOC) != 0;

		fault_arm(FAULT_ALLOC, 0);
		assert_int_equal(err, hit ? -ENOMEM : 0);
		guest_bus_replace(g);
		echo_destroy(e);
		if (!hit) {
			assert_true(k > 5);
			break;
		}
	}
	free(b.buf);
	guest_destroy(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_move_at_any_step_changes_nothing_that_the_guest_sees),
		cmocka_unit_test(requests_in_flight_survive_a_move_once_each),
		cmocka_unit_test(a_connection_moves_at_every_stage_of_an_open),
		cmocka_unit_test(messages_that_wait_for_the_slot_move_too),
		cmocka_unit_test(a_gpadl_half_way_is_finished_on_the_other_side),
		cmocka_unit_test(a_teardown_that_waits_is_answered_on_the_other_side),
		cmocka_unit_test(what_nobody_offers_any_more_is_rescinded),
		cmocka_unit_test(a_rescind_that_the_guest_has_not_released_moves),
		cmocka_unit_test(a_channel_that_had_failed_closes_on_the_other_side),
		cmocka_unit_test(a_state_saved_by_version_1_loads),
		cmocka_unit_test(every_truncation_and_bit_flip_loads_cleanly_or_is_refused),
		cmocka_unit_test(a_blob_without_the_section_is_refused),
		cmocka_unit_test(lost_memory_is_a_refusal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
