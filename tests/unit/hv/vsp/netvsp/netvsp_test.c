/* SPDX-License-Identifier: Apache-2.0 */

/* netvsp_test - the adapter as the guest's driver meets it: bring-up, frames both ways, limits. */

#include "hv/vsp/netvsp/netvsp.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/errbuf.h"
#include "base/fault.h"
#include "hv/vsp/vsp.h"
#include "tests/lib/netvsc.h"
#include "tests/lib/test.h"

#define FILTER_UP 0xdu

static const uint8_t other_mac[6] = {0x02, 1, 2, 3, 4, 5};

static void stats_of(const struct netvsc *v, struct netvsp_stats *out)
{
	netvsp_stats(v->vsp, out);
}

/* One frame each way. */
static void exchange(struct netvsc *v, uint32_t len, uint32_t seed)
{
	static uint8_t frame[NETVSC_FRAME_MAX];
	static struct netvsc_tap_frame out;
	static struct netvsc_rx in;

	for (int section = 0; section < 2; section++) {
		const struct netvsc_tx tx = {.frame = frame, .len = len, .section = section == 1};

		netvsc_frame(frame, len, other_mac, netvsc_mac, seed);
		assert_int_equal(netvsc_send(v, 0, &tx), NETVSP_STATUS_SUCCESS);
		assert_true(netvsc_tap_read(v, 0, &out));
		assert_int_equal(out.len, len);
		assert_memory_equal(out.frame, frame, len);
		assert_int_equal(out.vnet.flags, 0);
		assert_int_equal(out.vnet.gso_type, 0);
	}
	netvsc_frame(frame, len, netvsc_mac, other_mac, seed + 1);
	netvsc_tap_write(v, 0, NULL, frame, len);
	netvsc_recv(v, 0, &in);
	assert_int_equal(in.len, len);
	assert_memory_equal(in.frame, frame, len);
	assert_int_equal(in.checksum, 0);
	assert_false(in.has_vlan);
	netvsc_give_back(v, &in);
}

static void frames_go_both_ways(void **state)
{
	static const uint32_t lens[] = {14, 60, 127, 128, 129, 255, 256, 257, 1000, 1514};
	struct netvsc *v;

	(void)state;
	netvsc_create(&(struct netvsc_cfg){0}, &v);
	netvsc_probe(v);
	netvsc_filter(v, FILTER_UP);
	for (size_t i = 0; i < ARRAY_LEN(lens); i++) {
		exchange(v, lens[i], (uint32_t)i);
	}
	netvsc_destroy(v);
}

static void every_version_and_scattered_memory_work(void **state)
{
	static const uint32_t versions[] = {NETVSP_VERSION_1, NETVSP_VERSION_2, NETVSP_VERSION_4,
	                                    NETVSP_VERSION_5, NETVSP_VERSION_6, NETVSP_VERSION_61};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(versions); i++) {
		struct netvsc *v;

		netvsc_create(
			&(struct netvsc_cfg){.version_max = versions[i],
		                             .guest = {.scatter = true, .fallback = i % 2 == 0}},
			&v);
		netvsc_probe(v);
		assert_int_equal(v->version, versions[i]);
		netvsc_filter(v, FILTER_UP);
		exchange(v, 1514, 3);
		netvsc_destroy(v);
	}
}

static void the_guest_learns_what_the_adapter_is(void **state)
{
	struct netvsc *v;
	uint8_t name[64];
	uint32_t bytes;

	(void)state;
	netvsc_create(&(struct netvsc_cfg){.mtu = 1400, .name = "nic0", .link_down = true}, &v);
	netvsc_probe(v);
	assert_int_equal(netvsc_query_u32(v, RNDIS_OID_MAXIMUM_FRAME_SIZE), 1400);
	assert_int_equal(netvsc_query_u32(v, RNDIS_OID_MEDIA_CONNECT_STATUS), 1);
	assert_int_equal(netvsc_query_u32(v, RNDIS_OID_LINK_SPEED), 100000000);
	assert_int_equal(
		netvsc_query(v, RNDIS_OID_FRIENDLY_NAME, NULL, 0, name, sizeof(name), &bytes), 0);
	assert_int_equal(bytes, 8);
	assert_memory_equal(name, "n\0i\0c\0000\0", 8);
	assert_int_equal(netvsc_query(v, 0x12345678, NULL, 0, name, sizeof(name), &bytes),
	                 RNDIS_STATUS_NOT_SUPPORTED);
	assert_int_equal(
		netvsc_query(v, RNDIS_OID_RSS_CAPABILITIES, NULL, 0, name, sizeof(name), &bytes),
		RNDIS_STATUS_NOT_SUPPORTED);
	netvsc_destroy(v);
}

static void every_supported_oid_is_answered(void **state)
{
	struct netvsc *v;
	uint8_t list[232];
	uint8_t value[256];
	uint32_t bytes;

	(void)state;
	netvsc_create(&(struct netvsc_cfg){.queues = 2, .name = "x"}, &v);
	netvsc_probe(v);
	assert_int_equal(
		netvsc_query(v, RNDIS_OID_SUPPORTED_LIST, NULL, 0, list, sizeof(list), &bytes), 0);
	for (uint32_t i = 0; i < bytes / 4; i++) {
		le32 w;
		uint32_t oid;

		memcpy(&w, list + (size_t)i * 4, 4);
		oid = le32_get(w);
		if (oid == RNDIS_OID_RSS_PARAMETERS || oid == RNDIS_OID_OFFLOAD_PARAMETERS ||
		    oid == RNDIS_OID_CONFIG_PARAMETER || oid == RNDIS_OID_MULTICAST_LIST) {
			continue; /* these are only set */
		}

		uint32_t n;

		assert_int_equal(netvsc_query(v, oid, NULL, 0, value, sizeof(value), &n), 0);
		assert_true(n != 0);
	}
	netvsc_destroy(v);
}

static void several_messages_in_one_section_are_sent_in_order(void **state)
{
	static uint8_t buf[8192];
	static struct netvsc_tap_frame out;
	struct netvsc *v;
	uint8_t frame[200];
	uint32_t at = 0;

	(void)state;
	netvsc_create(&(struct netvsc_cfg){0}, &v);
	netvsc_probe(v);
	for (uint32_t i = 0; i < 9; i++) {
		const struct netvsc_tx tx = {.frame = frame, .len = 100 + i};
		uint32_t len;
		le32 w;

		netvsc_frame(frame, tx.len, other_mac, netvsc_mac, i);
		len = netvsc_message(&tx, buf + at);
		len = i != 8 ? (len + 7) / 8 * 8 : len; /* the next is aligned */
		w = le32_make(len);
		memcpy(buf + at + 4, &w, 4);
		at += len;
		if (i == 7) {
			assert_int_equal(netvsc_done_wait(v, netvsc_send_raw(v, 0, buf, at, true)),
			                 NETVSP_STATUS_SUCCESS);
		}
	}
	for (uint32_t i = 0; i < 8; i++) {
		assert_true(netvsc_tap_read(v, 0, &out));
		netvsc_frame(frame, 100 + i, other_mac, netvsc_mac, i);
		assert_int_equal(out.len, 100 + i);
		assert_memory_equal(out.frame, frame, 100 + i);
	}
	/* Nine are more than we said. */
	assert_int_equal(netvsc_done_wait(v, netvsc_send_raw(v, 0, buf, at, true)),
	                 NETVSP_STATUS_INVALID_RNDIS);
	netvsc_destroy(v);
}

static void only_wanted_frames_reach_the_guest(void **state)
{
	static const uint8_t broadcast[6] = {255, 255, 255, 255, 255, 255};
	static const uint8_t multicast[6] = {1, 0, 0x5e, 0, 0, 1};
	static const struct {
		uint32_t filter;
		bool directed, other, broadcast, multicast;
	} cases[] = {
		{0x1, true, false, false, false}, {0x4, false, false, false, true},
		{0x2, false, false, false, true}, {0x8, false, false, true, false},
		{0xd, true, false, true, true},   {0x20, true, false, true, true},
		{0x20, true, true, true, true},
	};
	static struct netvsc_rx in;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const uint8_t *to[] = {netvsc_mac, other_mac, broadcast, multicast};
		const bool want[] = {cases[i].directed, cases[i].other, cases[i].broadcast,
		                     cases[i].multicast};
		struct netvsc *v;

		netvsc_create(&(struct netvsc_cfg){.spoofing = i == 6}, &v);
		netvsc_probe(v);
		/* Nobody listens yet: these are not news when somebody does. */
		netvsc_frame(in.frame, 60, netvsc_mac, other_mac, 1);
		netvsc_tap_write(v, 0, NULL, in.frame, 60);
		netvsc_filter(v, cases[i].filter);
		assert_false(netvsc_recv_now(v, 0, &in));
		for (size_t k = 0; k < ARRAY_LEN(to); k++) {
			uint8_t frame[60];

			netvsc_frame(frame, 60, to[k], other_mac, (uint32_t)k);
			netvsc_tap_write(v, 0, NULL, frame, 60);
			assert_int_equal(netvsc_recv_now(v, 0, &in), want[k]);
			if (want[k]) {
				netvsc_give_back(v, &in);
			}
		}
		assert_int_equal(netvsc_tap_state(v)->filtered, i != 6);
		netvsc_destroy(v);
	}
}

static void foreign_source_addresses_are_not_sent(void **state)
{
	static struct netvsc_tap_frame out;
	uint8_t frame[60];
	const struct netvsc_tx tx = {.frame = frame, .len = 60};

	(void)state;
	netvsc_frame(frame, 60, netvsc_mac, other_mac, 1);
	for (int spoofing = 0; spoofing < 2; spoofing++) {
		struct netvsc *v;
		struct netvsp_stats stats;

		netvsc_create(&(struct netvsc_cfg){.spoofing = spoofing == 1}, &v);
		netvsc_probe(v);
		assert_int_equal(netvsc_send(v, 0, &tx), NETVSP_STATUS_SUCCESS);
		assert_int_equal(netvsc_tap_read(v, 0, &out), spoofing);
		stats_of(v, &stats);
		assert_int_equal(stats.tx_spoofed, !spoofing);
		netvsc_destroy(v);
	}
}

static void frames_longer_than_the_mtu_are_not_sent(void **state)
{
	static struct netvsc_tap_frame out;
	static uint8_t frame[1600];
	struct netvsc_tx tx = {.frame = frame, .len = 1519};
	struct netvsc *v;

	(void)state;
	netvsc_create(&(struct netvsc_cfg){0}, &v);
	netvsc_probe(v);
	netvsc_frame(frame, sizeof(frame), other_mac, netvsc_mac, 1);
	assert_int_equal(netvsc_send(v, 0, &tx), NETVSP_STATUS_SUCCESS);
	assert_false(netvsc_tap_read(v, 0, &out));
	tx.len = 13;
	assert_int_equal(netvsc_send(v, 0, &tx), NETVSP_STATUS_SUCCESS);
	assert_false(netvsc_tap_read(v, 0, &out));
	tx.len = 1518; /* with a tag of the guest's own */
	assert_int_equal(netvsc_send(v, 0, &tx), NETVSP_STATUS_SUCCESS);
	assert_true(netvsc_tap_read(v, 0, &out));
	netvsc_destroy(v);
}

static void jumbo_frames_pass_with_a_jumbo_mtu(void **state)
{
	struct netvsc *v;

	(void)state;
	netvsc_create(
		&(struct netvsc_cfg){.mtu = 9000, .guest = {.scatter = true}, .recv_pages = 1024},
		&v);
	netvsc_probe(v);
	assert_int_equal(v->slot_bytes, 12288);
	netvsc_filter(v, FILTER_UP);
	static uint8_t frame[9014];
	static struct netvsc_rx in;

	netvsc_frame(frame, sizeof(frame), netvsc_mac, other_mac, 5);
	netvsc_tap_write(v, 0, NULL, frame, sizeof(frame));
	netvsc_recv(v, 0, &in);
	assert_int_equal(in.len, sizeof(frame));
	assert_memory_equal(in.frame, frame, sizeof(frame));
	netvsc_give_back(v, &in);
	netvsc_destroy(v);
}

/* The guest keeps all it gets: the tap is left alone, and goes on when slots come back. */
static void a_guest_without_free_slots_stops_the_tap(void **state)
{
	static struct netvsc_rx in;
	static uint64_t ids[1024];
	struct netvsc *v;
	struct netvsp_stats stats;
	uint32_t sent = 0;
	uint32_t got = 0;
	uint32_t held = 0;

	(void)state;
	netvsc_create(&(struct netvsc_cfg){.no_rsc = true}, &v);
	netvsc_probe(v);
	netvsc_filter(v, FILTER_UP);
	for (uint32_t i = 0; i < 600; i++) {
		uint8_t frame[60];

		netvsc_frame(frame, 60, netvsc_mac, other_mac, i);
		netvsc_tap_write(v, 0, NULL, frame, 60);
		sent++;
		while (netvsc_recv_now(v, 0, &in)) {
			assert_int_equal(in.frame[14], (uint8_t)(got + 14 * 7));
			got++;
			if (in.transaction_id != 0) {
				ids[held++] = in.transaction_id;
			}
		}
	}
	assert_int_equal(got, v->slots - 16); /* those are for control */
	stats_of(v, &stats);
	assert_true(stats.rx_stalls != 0);
	assert_int_equal(netvsc_query_u32(v, RNDIS_OID_MEDIA_CONNECT_STATUS), 0);
	for (uint32_t i = 0; i < held; i++) {
		netvsc_give_back_id(v, 0, ids[i]);
	}
	while (got < sent) {
		netvsc_recv(v, 0, &in);
		assert_int_equal(in.frame[14], (uint8_t)(got + 14 * 7));
		got++;
		netvsc_give_back(v, &in);
	}
	assert_false(netvsc_recv_now(v, 0, &in));
	netvsc_destroy(v);
}

/* Rings of two pages, a guest that does not read: answers and frames wait, none is lost. */
static void full_rings_lose_nothing(void **state)
{
	enum { FRAMES = 400 };
	static struct netvsc_rx in;
	static struct netvsc_tap_frame out;
	static uint8_t buf[4096];
	static uint64_t ids[FRAMES];
	struct netvsc *v;
	uint8_t frame[100];
	const struct netvsc_tx tx = {.frame = frame, .len = sizeof(frame)};
	uint32_t got = 0;

	(void)state;
	netvsc_create(&(struct netvsc_cfg){.ring_pages = 2, .no_rsc = true}, &v);
	netvsc_probe(v);
	netvsc_filter(v, FILTER_UP);
	for (uint32_t i = 0; i < FRAMES; i++) {
		netvsc_frame(frame, sizeof(frame), netvsc_mac, other_mac, i);
		netvsc_tap_write(v, 0, NULL, frame, sizeof(frame));
		netvsc_frame(frame, sizeof(frame), other_mac, netvsc_mac, i);
		ids[i] = netvsc_send_raw(v, 0, buf, netvsc_message(&tx, buf), true);
		if (i % 40 == 39) { /* there are 42 sections */
			for (uint32_t k = i - 39; k <= i; k++) {
				assert_int_equal(netvsc_done_wait(v, ids[k]),
				                 NETVSP_STATUS_SUCCESS);
				assert_true(netvsc_tap_read(v, 0, &out));
				assert_int_equal(out.frame[14], (uint8_t)(k + 14 * 7));
			}
			while (netvsc_recv_now(v, 0, &in)) {
				assert_int_equal(in.frame[14], (uint8_t)(got + 14 * 7));
				netvsc_give_back(v, &in);
				got++;
			}
		}
	}
	while (got < FRAMES) {
		netvsc_recv(v, 0, &in);
		assert_int_equal(in.frame[14], (uint8_t)(got + 14 * 7));
		netvsc_give_back(v, &in);
		got++;
	}
	netvsc_destroy(v);
}

static void the_cable_can_be_pulled(void **state)
{
	static struct netvsc_rx in;
	static struct netvsc_tap_frame out;
	uint8_t frame[60];
	const struct netvsc_tx tx = {.frame = frame, .len = 60};
	struct netvsc *v;

	(void)state;
	netvsc_create(&(struct netvsc_cfg){0}, &v);
	netvsp_link_set(v->vsp, false);
	netvsp_link_set(v->vsp, true); /* before anybody asked */
	netvsc_probe(v);
	netvsc_filter(v, FILTER_UP);
	assert_int_equal(v->link_events, 0);
	netvsp_link_set(v->vsp, false);
	guest_settle(v->guest);
	netvsc_pump(v);
	assert_int_equal(v->link_events, 1);
	assert_int_equal(v->link_status, RNDIS_STATUS_MEDIA_DISCONNECT);
	netvsc_frame(frame, 60, netvsc_mac, other_mac, 1);
	netvsc_tap_write(v, 0, NULL, frame, 60);
	assert_false(netvsc_recv_now(v, 0, &in));
	netvsc_frame(frame, 60, other_mac, netvsc_mac, 1);
	assert_int_equal(netvsc_send(v, 0, &tx), NETVSP_STATUS_SUCCESS);
	assert_false(netvsc_tap_read(v, 0, &out));
	netvsp_link_set(v->vsp, true);
	guest_settle(v->guest);
	netvsc_pump(v);
	assert_int_equal(v->link_events, 2);
	assert_int_equal(v->link_status, RNDIS_STATUS_MEDIA_CONNECT);
	exchange(v, 60, 9);
	netvsc_destroy(v);
}

static void an_announcement_carries_the_guests_address(void **state)
{
	static struct netvsc_tap_frame out;
	struct netvsc *v;

	(void)state;
	netvsc_create(&(struct netvsc_cfg){.vlan = 5}, &v);
	netvsp_announce(v->vsp);
	assert_true(netvsc_tap_read(v, 0, &out));
	assert_int_equal(out.len, 64);
	assert_memory_equal(out.frame, "\377\377\377\377\377\377", 6);
	assert_memory_equal(out.frame + 6, netvsc_mac, 6);
	assert_memory_equal(out.frame + 12, "\x81\0\0\5\x80\x35\0\1\x08\0\6\4\0\3", 14);
	assert_memory_equal(out.frame + 26, netvsc_mac, 6);
	assert_memory_equal(out.frame + 36, netvsc_mac, 6);
	netvsc_destroy(v);
}

static void the_driver_can_be_reloaded(void **state)
{
	struct netvsc *v;

	(void)state;
	netvsc_create(&(struct netvsc_cfg){.queues = 4}, &v);
	for (uint32_t i = 0; i < 3; i++) {
		netvsc_probe(v);
		assert_int_equal(v->channels, 4);
		netvsc_filter(v, FILTER_UP);
		exchange(v, 200, i);
		netvsc_close(v);
		assert_false(netvsc_tap_state(v)->checksum);
	}
	netvsc_destroy(v);
}

/* kexec: the new kernel connects without a word about the old one's channels. */
static void a_new_contact_forgets_the_old_driver(void **state)
{
	struct netvsc *v;

	(void)state;
	netvsc_create(&(struct netvsc_cfg){0}, &v);
	netvsc_probe(v);
	netvsc_filter(v, FILTER_UP);
	exchange(v, 100, 1);
	guest_abandon(v->chan[0]);
	v->recv_gpadl = 0;
	guest_boot(v->guest);
	netvsc_probe(v);
	netvsc_filter(v, FILTER_UP);
	exchange(v, 100, 2);
	netvsc_destroy(v);
}

static void bad_configurations_are_refused(void **state)
{
	static const struct {
		struct netvsp_cfg cfg;
		const char *text;
	} cases[] = {
		{{.mac = {2}, .tap_count = 0}, "queues"},
		{{.mac = {2}, .tap_count = 17}, "queues"},
		{{.mac = {2}, .tap_count = 1, .mtu = 500}, "MTU"},
		{{.mac = {2}, .tap_count = 1, .mtu = 9217}, "MTU"},
		{{.mac = {2}, .tap_count = 1, .vlan = 4095}, "VLAN"},
		{{.mac = {3}, .tap_count = 1}, "address"},
		{{.mac = {0}, .tap_count = 1}, "address"},
	};
	struct guest *g;
	struct vsp *vsp;
	int fds[2];

	(void)state;
	guest_create(NULL, &g);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct errbuf eb = {0};

		assert_int_equal(netvsp_create(guest_env(g), &cases[i].cfg, &vsp, &eb), -EINVAL);
		assert_non_null(strstr(eb.text, cases[i].text));
		assert_null(vsp);
	}

	/* A pipe is no tap. */
	struct errbuf eb = {0};
	struct netvsp_cfg cfg = {.mac = {2}, .tap_fds = fds, .tap_count = 1};

	assert_int_equal(pipe(fds), 0);
	assert_true(netvsp_create(guest_env(g), &cfg, &vsp, &eb) < 0);
	assert_non_null(strstr(eb.text, "no tap"));
	assert_true(strlen(eb.hint) != 0);
	(void)close(fds[0]);
	(void)close(fds[1]);
	guest_destroy(g);
}

static void creation_survives_lack_of_memory(void **state)
{
	struct netvsc *v;
	uint32_t k = 1;
	int err;

	(void)state;
	netvsc_create(&(struct netvsc_cfg){.queues = 2}, &v);
	guest_unload(v->guest);
	v->vsp->ops->destroy(v->vsp);
	guest_bus_replace(v->guest);
	do {
		fault_arm(FAULT_ALLOC, k++);
		err = netvsc_adapter_create(v);
		fault_arm(FAULT_ALLOC, 0);
		assert_true(err == 0 || err == -ENOMEM);
	} while (err != 0);
	assert_true(k > 3);
	vmbus_resume(guest_bus(v->guest));
	guest_boot(v->guest);
	netvsc_destroy(v);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frames_go_both_ways),
		cmocka_unit_test(every_version_and_scattered_memory_work),
		cmocka_unit_test(the_guest_learns_what_the_adapter_is),
		cmocka_unit_test(every_supported_oid_is_answered),
		cmocka_unit_test(several_messages_in_one_section_are_sent_in_order),
		cmocka_unit_test(only_wanted_frames_reach_the_guest),
		cmocka_unit_test(foreign_source_addresses_are_not_sent),
		cmocka_unit_test(frames_longer_than_the_mtu_are_not_sent),
		cmocka_unit_test(jumbo_frames_pass_with_a_jumbo_mtu),
		cmocka_unit_test(a_guest_without_free_slots_stops_the_tap),
		cmocka_unit_test(full_rings_lose_nothing),
		cmocka_unit_test(the_cable_can_be_pulled),
		cmocka_unit_test(an_announcement_carries_the_guests_address),
		cmocka_unit_test(the_driver_can_be_reloaded),
		cmocka_unit_test(a_new_contact_forgets_the_old_driver),
		cmocka_unit_test(bad_configurations_are_refused),
		cmocka_unit_test(creation_survives_lack_of_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
