/* SPDX-License-Identifier: Apache-2.0 */

/* save_test - the adapter moves, at every boundary, and no guest's message is lost or doubled. */

#include "hv/save/save.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/errbuf.h"
#include "base/fault.h"
#include "hv/vsp/netvsp/netvsp.h"
#include "hv/vsp/vsp.h"
#include "tests/lib/netvsc.h"
#include "tests/lib/test.h"

#define FILTER_UP 0xdu

static const uint8_t other_mac[6] = {0x02, 1, 2, 3, 4, 5};

static void to_guest(struct netvsc *v, uint32_t queue, uint32_t seed)
{
	uint8_t frame[100];

	netvsc_frame(frame, sizeof(frame), netvsc_mac, other_mac, seed);
	netvsc_tap_write(v, queue, NULL, frame, sizeof(frame));
}

static void exchange(struct netvsc *v, uint32_t channel)
{
	static struct netvsc_rx in;
	static struct netvsc_tap_frame out;
	uint8_t frame[100];
	const struct netvsc_tx tx = {.frame = frame, .len = sizeof(frame)};

	netvsc_frame(frame, sizeof(frame), other_mac, netvsc_mac, 1);
	assert_int_equal(netvsc_send(v, channel, &tx), NETVSP_STATUS_SUCCESS);
	assert_true(netvsc_tap_read(v, channel, &out));
	assert_memory_equal(out.frame, frame, sizeof(frame));
	to_guest(v, channel, 2);
	netvsc_recv(v, channel, &in);
	netvsc_give_back(v, &in);
}

/* Move after each step of the bring-up: the next step works on the new host. */
static void the_driver_does_not_notice_a_move_during_its_probe(void **state)
{
	(void)state;
	for (uint32_t at = 0; at < 8; at++) {
		struct netvsc *v;
		uint32_t step = 0;

		netvsc_create(&(struct netvsc_cfg){.queues = 2, .no_rsc = true}, &v);
#define STEP(what)                      \
	do {                            \
		if (step++ == at) {     \
			netvsc_move(v); \
		}                       \
		(what);                 \
	} while (0)
		STEP(netvsc_open(v));
		STEP(netvsc_negotiate(v));
		STEP(netvsc_buffers(v));
		STEP(netvsc_rndis_init(v));
		STEP(netvsc_offloads(v, false));
		STEP(netvsc_sub_channels(v, 1));
		STEP(netvsc_filter(v, FILTER_UP));
		STEP(exchange(v, 0));
#undef STEP
		netvsc_destroy(v);
	}
}

static void what_was_negotiated_moves(void **state)
{
	struct netvsc *v;

	(void)state;
	netvsc_create(&(struct netvsc_cfg){.queues = 3}, &v);
	netvsc_probe(v);
	netvsc_filter(v, FILTER_UP);
	for (uint32_t i = 0; i < 3; i++) {
		netvsc_move(v);
		assert_true(netvsc_tap_state(v)->checksum);
		assert_true(netvsc_tap_state(v)->tso4);
		assert_true(netvsc_tap_state(v)->filtered);
		assert_int_equal(netvsc_query_u32(v, RNDIS_OID_PACKET_FILTER), FILTER_UP);
		for (uint32_t c = 0; c < 3; c++) {
			exchange(v, c); /* RSS is still on, each queue has its channel */
		}
	}
	netvsc_close(v); /* and goes through the whole life again */
	netvsc_probe(v);
	netvsc_filter(v, FILTER_UP);
	exchange(v, 2);
	netvsc_destroy(v);
}

/* The guest has slots when it moves and returns them on the new host. */
static void slots_that_the_guest_has_come_back(void **state)
{
	static struct netvsc_rx in[600];
	struct netvsc *v;
	uint32_t got = 0;

	(void)state;
	netvsc_create(&(struct netvsc_cfg){.no_rsc = true}, &v);
	netvsc_probe(v);
	netvsc_filter(v, FILTER_UP);
	for (uint32_t round = 0; round < 5; round++) {
		/* All there are: if a move lost one, the next round would get fewer. */
		for (uint32_t i = 0; i < v->slots - 16; i++) {
			to_guest(v, 0, i);
			if (i % 60 == 59 || i + 1 == v->slots - 16) {
				while (got <= i) {
					netvsc_recv(v, 0, &in[got]);
					assert_int_equal(in[got].frame[14],
					                 (uint8_t)(got + 14 * 7));
					got++;
				}
			}
		}
		assert_int_equal(got, v->slots - 16);
		netvsc_move(v);
		to_guest(v, 0, 0);
		assert_false(netvsc_recv_now(v, 0, &in[got])); /* it has all of them */
		for (uint32_t i = 0; i < got; i++) {
			netvsc_give_back(v, &in[i]);
		}
		netvsc_recv(v, 0, &in[0]);
		netvsc_give_back(v, &in[0]);
		guest_settle(v->guest);
		got = 0;
	}
	netvsc_destroy(v);
}

/* The rings are full when it moves: frames, answers and replies wait inside of the adapter. */
static void what_waits_for_room_moves(void **state)
{
	enum { FRAMES = 42 };
	static struct netvsc_rx in;
	static uint8_t buf[4096];
	static uint64_t ids[FRAMES];
	struct netvsc *v;
	struct netvsc_tap_frame *out = malloc(sizeof(*out));
	uint8_t frame[60];
	const struct netvsc_tx tx = {.frame = frame, .len = sizeof(frame)};

	(void)state;
	for (uint32_t before = 1; before <= FRAMES; before += 10) {
		uint32_t sent = 0;

		netvsc_create(&(struct netvsc_cfg){.ring_pages = 2, .no_rsc = true}, &v);
		netvsc_probe(v);
		netvsc_filter(v, FILTER_UP);
		for (uint32_t i = 0; i < 100; i++) {
			to_guest(v, 0, i);
		}
		guest_settle(v->guest);
		netvsc_frame(frame, sizeof(frame), other_mac, netvsc_mac, 1);
		for (uint32_t i = 0; i < before; i++) {
			ids[i] = netvsc_send_raw(v, 0, buf, netvsc_message(&tx, buf), true);
		}
		guest_settle(v->guest);
		netvsp_link_set(v->vsp, false); /* an indication waits, too */
		while (netvsc_tap_read(v, 0, out)) {
			sent++;
		}
		netvsc_move(v);
		guest_settle(v->guest);
		for (uint32_t i = 0; i < before; i++) {
			(void)netvsc_done_wait(v, ids[i]);
		}
		while (netvsc_tap_read(v, 0, out)) {
			sent++;
		}
		/* Sent before the cable was pulled, or after the move put it back; once. */
		assert_true(sent <= before);
		for (uint32_t got = 0; netvsc_recv_now(v, 0, &in); got++) {
			assert_int_equal(in.frame[14], (uint8_t)(got + 14 * 7));
			netvsc_give_back(v, &in);
		}
		exchange(v, 0);
		netvsc_destroy(v);
	}
	free(out);
}

static void a_cable_that_differs_on_the_new_host_is_told(void **state)
{
	struct netvsc *v;

	(void)state;
	netvsc_create(&(struct netvsc_cfg){0}, &v);
	netvsc_probe(v);
	netvsc_filter(v, FILTER_UP);
	v->cfg.link_down = true;
	netvsc_move(v);
	guest_settle(v->guest);
	netvsc_pump(v);
	assert_int_equal(v->link_events, 1);
	assert_int_equal(v->link_status, RNDIS_STATUS_MEDIA_DISCONNECT);
	v->cfg.link_down = false;
	netvsc_move(v);
	guest_settle(v->guest);
	netvsc_pump(v);
	assert_int_equal(v->link_events, 2);
	assert_int_equal(v->link_status, RNDIS_STATUS_MEDIA_CONNECT);
	exchange(v, 0);
	netvsc_destroy(v);
}

/* ---- damaged state ---- */

static void nothing(void *arg)
{
	(void)arg;
}

struct blob {
	uint8_t *bytes; /* owned */
	size_t len;
};

/* The state of an adapter that has something of everything. */
static struct netvsc *busy(struct blob *out)
{
	static struct netvsc_rx in;
	struct netvsc *v;
	struct save s;

	netvsc_create(&(struct netvsc_cfg){.queues = 2, .ring_pages = 2, .recv_pages = 64}, &v);
	netvsc_probe(v);
	netvsc_filter(v, FILTER_UP);
	for (uint32_t i = 0; i < 100; i++) {
		to_guest(v, i % 2, i);
	}
	netvsc_recv(v, 0, &in); /* and keep it */
	guest_settle(v->guest);
	vmbus_pause(guest_bus(v->guest));
	v->vsp->ops->pause(v->vsp, nothing, NULL);
	save_init(&s);
	v->vsp->ops->save(v->vsp, &s);
	vmbus_save(guest_bus(v->guest), &s);
	assert_int_equal(save_finish(&s, &out->bytes, &out->len), 0);
	v->vsp->ops->destroy(v->vsp);
	guest_bus_replace(v->guest);
	return v;
}

/* Load the blob whose @at-th payload byte of the adapter's section is @byte; whatever it says, the
 * bus must come up, and the guest can use the adapter if it starts over. */
static int load_once(struct netvsc *v, const uint8_t *blob, size_t len)
{
	struct load l;
	struct errbuf eb = {0};
	int err;

	assert_int_equal(netvsc_adapter_create(v), 0);
	assert_int_equal(load_init(&l, blob, len, &eb), 0);
	err = v->vsp->ops->load(v->vsp, &l);
	if (err == 0) {
		err = vmbus_load(guest_bus(v->guest), &l);
	}
	if (err == 0) {
		v->vsp->ops->resume(v->vsp);
		vmbus_resume(guest_bus(v->guest));
		guest_settle(v->guest);
		vmbus_pause(guest_bus(v->guest));
		v->vsp->ops->pause(v->vsp, nothing, NULL);
	} else {
		assert_true(eb.text[0] != '\0');
	}
	v->vsp->ops->destroy(v->vsp);
	guest_bus_replace(v->guest);
	return err;
}

static void damaged_states_are_refused_or_harmless(void **state)
{
	struct blob golden;
	struct netvsc *v = busy(&golden);
	struct load l;
	struct errbuf eb = {0};
	uint32_t refused = 0;
	uint8_t *payload;
	size_t count;

	(void)state;
	assert_int_equal(load_init(&l, golden.bytes, golden.len, &eb), 0);
	assert_int_equal(load_begin(&l, "netvsp.0", 1), 0);
	payload = malloc(l.section_end - l.at);
	count = l.section_end - l.at;
	memcpy(payload, golden.bytes + l.at, count);
	for (size_t i = 0; i < count * 8; i++) {
		struct save s;
		uint8_t *bytes;
		size_t len;

		/* The guest's messages of the middle are boring: look at some bits of each byte. */
		if (i > 800 * 8 && i % 13 != 0) {
			continue;
		}
		payload[i / 8] ^= (uint8_t)(1u << i % 8);
		save_init(&s);
		save_begin(&s, "netvsp.0", 1, true);
		save_bytes(&s, payload, count);
		save_end(&s);
		assert_int_equal(save_finish(&s, &bytes, &len), 0);
		/* The bus's own section follows as it was. */
		uint8_t *more = realloc(bytes, len + (golden.len - l.section_end));

		assert_non_null(more);
		bytes = more;
		memcpy(bytes + len, golden.bytes + l.section_end, golden.len - l.section_end);
		refused += load_once(v, bytes, len + golden.len - l.section_end) != 0;
		free(bytes);
		payload[i / 8] ^= (uint8_t)(1u << i % 8);
	}
	assert_true(refused > 100);
	assert_int_equal(load_once(v, golden.bytes, golden.len), 0);
	assert_int_equal(netvsc_adapter_create(v), 0);
	free(payload);
	free(golden.bytes);
	/* Nothing was loaded here: for the guest its channel is gone. */
	vmbus_resume(guest_bus(v->guest));
	for (uint32_t i = 0; i < v->channels; i++) {
		guest_abandon(v->chan[i]);
	}
	v->chan[0] = NULL;
	v->recv_gpadl = 0;
	guest_boot(v->guest);
	netvsc_destroy(v);
}

static void loading_survives_lack_of_memory(void **state)
{
	struct blob golden;
	struct netvsc *v = busy(&golden);
	struct errbuf eb = {0};
	struct load l;
	int err = -ENOMEM;

	(void)state;
	for (uint32_t k = 1; err != 0; k++) {
		assert_int_equal(netvsc_adapter_create(v), 0);
		assert_int_equal(load_init(&l, golden.bytes, golden.len, &eb), 0);
		fault_arm(FAULT_ALLOC, k);
		err = v->vsp->ops->load(v->vsp, &l);
		fault_arm(FAULT_ALLOC, 0);
		assert_true(err == 0 || err == -ENOMEM);
		if (err != 0) {
			v->vsp->ops->destroy(v->vsp);
			guest_bus_replace(v->guest);
		}
	}
	assert_int_equal(vmbus_load(guest_bus(v->guest), &l), 0);
	v->vsp->ops->resume(v->vsp);
	vmbus_resume(guest_bus(v->guest));
	assert_int_equal(netvsc_query_u32(v, RNDIS_OID_PACKET_FILTER), FILTER_UP);
	free(golden.bytes);
	netvsc_destroy(v);
}

static void another_adapter_does_not_take_the_state(void **state)
{
	struct blob golden;
	struct netvsc *v = busy(&golden);
	struct errbuf eb = {0};
	struct load l;

	(void)state;
	v->cfg.queues = 1; /* the guest has two channels */
	assert_int_equal(netvsc_adapter_create(v), 0);
	assert_int_equal(load_init(&l, golden.bytes, golden.len, &eb), 0);
	assert_int_equal(v->vsp->ops->load(v->vsp, &l), -EBADMSG);
	vmbus_resume(guest_bus(v->guest));
	for (uint32_t i = 0; i < v->channels; i++) {
		guest_abandon(v->chan[i]);
	}
	v->chan[0] = NULL;
	v->recv_gpadl = 0;
	guest_boot(v->guest);
	free(golden.bytes);
	netvsc_destroy(v);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_driver_does_not_notice_a_move_during_its_probe),
		cmocka_unit_test(what_was_negotiated_moves),
		cmocka_unit_test(slots_that_the_guest_has_come_back),
		cmocka_unit_test(what_waits_for_room_moves),
		cmocka_unit_test(a_cable_that_differs_on_the_new_host_is_told),
		cmocka_unit_test(damaged_states_are_refused_or_harmless),
		cmocka_unit_test(loading_survives_lack_of_memory),
		cmocka_unit_test(another_adapter_does_not_take_the_state),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
