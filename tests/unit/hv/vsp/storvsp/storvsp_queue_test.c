/* SPDX-License-Identifier: Apache-2.0 */

/* Many commands at once: the pool, full rings, channels that close and devices that pause with I/O
 * under way. */

#include <errno.h>
#include <string.h>

#include "base/attr.h"
#include "base/clock.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "hv/vsp/vsp.h"
#include "tests/lib/stor_guest.h"
#include "tests/lib/test.h"

enum { IDS_MAX = 2048 };

/* Which commands were answered, how often, and on which channel. */
struct seen {
	uint8_t times[IDS_MAX];
	uint32_t count;
};

static const struct stor_cmd write_one = {STOR_WRITE10(0, 1), .len_bytes = 512};

static void take_all(struct stor *s, uint32_t chan, struct seen *seen)
{
	struct storvsp_packet answer;
	uint64_t id;

	while (stor_take(s, chan, &id, &answer)) {
		assert_true(id < IDS_MAX);
		assert_int_equal(answer.u.srb.srb_status, STORVSP_SRB_SUCCESS);
		assert_int_equal(seen->times[id]++, 0);
		seen->count++;
	}
}

static void raw_close(struct stor *s, uint32_t chan)
{
	const struct vmbus_relid_wire w = {
		.header.type = le32_make(VMBUS_MESSAGE_CLOSE),
		.relid = le32_make(guest_chan_relid(s->chans[chan])),
	};

	assert_int_equal(guest_post(s->g, 4, &w, sizeof(w)), 0);
	guest_gpadl_teardown_begin(s->g, guest_chan_relid(s->chans[chan]),
	                           guest_chan_gpadl(s->chans[chan]));
}

static bool torn_down(struct stor *s)
{
	struct vmbus_gpadl_torndown_wire w;

	return guest_message_take(s->g, VMBUS_MESSAGE_GPADL_TORNDOWN, &w, sizeof(w));
}

static void take_until(struct stor *s, struct seen *seen, uint32_t count)
{
	uint64_t deadline_ns = guest_deadline();

	for (take_all(s, 0, seen); seen->count < count; take_all(s, 0, seen)) {
		assert_true(clock_now_ns() < deadline_ns);
		stor_pump(s);
	}
	assert_int_equal(seen->count, count);
}

/* ---- the pool ---- */

static void more_commands_than_the_pool_wait_their_turn(void **state)
{
	enum { COUNT = STORVSP_REQUESTS + 90 };
	struct seen seen = {.count = 0};
	struct stor s;

	(void)state;
	stor_create(&(struct stor_cfg){.disk.order = FAKE_DISK_MANUAL}, &s);
	stor_boot(&s);
	for (uint32_t i = 0; i < COUNT; i++) {
		(void)stor_submit(&s, &write_one);
	}
	guest_settle(s.g);
	assert_int_equal(fake_disk_in_flight(s.disk), STORVSP_REQUESTS);
	while (seen.count < COUNT) {
		assert_true(fake_disk_step(s.disk));
		guest_settle(s.g);
		take_all(&s, 0, &seen);
	}
	assert_int_equal(fake_disk_count(s.disk, BLK_WRITE), COUNT);
	stor_destroy(&s);
}

static void a_channel_that_found_the_pool_empty_goes_on_by_itself(void **state)
{
	struct seen seen = {.count = 0};
	struct stor s;

	(void)state;
	stor_create(&(struct stor_cfg){.disk.order = FAKE_DISK_MANUAL, .sub_channels_max = 2}, &s);
	stor_boot(&s);
	stor_sub_channels(&s, 2);
	for (uint32_t i = 0; i < STORVSP_REQUESTS; i++) {
		(void)stor_submit(&s, &write_one);
	}
	guest_settle(s.g);
	for (uint32_t i = 0; i < 20; i++) {
		struct stor_cmd cmd = write_one;

		cmd.chan = 1 + i % 2;
		(void)stor_submit(&s, &cmd);
	}
	guest_settle(s.g);
	assert_int_equal(fake_disk_in_flight(s.disk), STORVSP_REQUESTS);
	while (seen.count < STORVSP_REQUESTS + 20) {
		assert_true(fake_disk_step(s.disk));
		guest_settle(s.g);
		for (uint32_t chan = 0; chan < 3; chan++) {
			take_all(&s, chan, &seen);
		}
	}
	stor_destroy(&s);
}

static void answers_come_on_the_channel_of_their_command(void **state)
{
	struct seen seen[4] = {{.count = 0}};
	struct stor s;

	(void)state;
	stor_create(&(struct stor_cfg){.disk.order = FAKE_DISK_SHUFFLE, .sub_channels_max = 3}, &s);
	stor_boot(&s);
	stor_sub_channels(&s, 3);
	for (uint32_t i = 0; i < 200; i++) {
		struct stor_cmd cmd = write_one;

		cmd.chan = i % 4;
		assert_int_equal(stor_submit(&s, &cmd), i + 1);
	}
	for (uint32_t chan = 0; chan < 4; chan++) {
		guest_run_until(s.g, (take_all(&s, chan, &seen[chan]), seen[chan].count == 50));
		for (uint32_t i = 0; i < 200; i++) {
			assert_int_equal(seen[chan].times[i + 1], i % 4 == chan);
		}
	}
	stor_destroy(&s);
}

/* ---- the guest's ring is full of answers ---- */

static void answers_wait_for_a_guest_that_reads_late(void **state)
{
	(void)state;
	for (uint32_t seed = 0; seed < 8; seed++) {
		struct seen seen = {.count = 0};
		uint32_t sent = 0;
		struct stor s;

		stor_create(&(struct stor_cfg){.ring_pages = 2,
		                               .disk.order = FAKE_DISK_SHUFFLE,
		                               .disk.seed = seed},
		            &s);
		stor_boot(&s);
		/* It sends as long as there is room, and reads nothing. */
		for (uint32_t idle = 0; idle < 50; idle++) {
			while (stor_try_submit(&s, &write_one, sent + 1) == 0) {
				sent++;
				idle = 0;
			}
			guest_step(s.g, 0);
		}
		assert_true(sent > 60); /* both rings and what lies between them */
		assert_true(sent < STORVSP_REQUESTS + 100);
		guest_run_until(s.g, (take_all(&s, 0, &seen), seen.count == sent));
		assert_int_equal(seen.times[1], 1);
		stor_destroy(&s);
	}
}

static void a_pause_does_not_wait_for_a_guest_that_reads_nothing(void **state)
{
	struct seen seen = {.count = 0};
	uint32_t sent = 0;
	struct stor s;

	(void)state;
	stor_create(&(struct stor_cfg){.ring_pages = 2, .disk.order = FAKE_DISK_MANUAL}, &s);
	stor_boot(&s);
	for (uint32_t idle = 0; idle < 5; idle++) {
		while (stor_try_submit(&s, &write_one, sent + 1) == 0) {
			sent++;
			idle = 0;
		}
		guest_settle(s.g);
	}
	stor_pause(&s); /* steps the disk; more answers than there is room for */
	guest_settle(s.g);
	stor_resume(&s);
	take_until(&s, &seen, sent);
	stor_destroy(&s);
}

/* ---- pause ---- */

static void a_pause_waits_for_the_disk_and_takes_nothing_new(void **state)
{
	struct seen seen = {.count = 0};
	struct stor s;

	(void)state;
	stor_create(&(struct stor_cfg){.disk.order = FAKE_DISK_MANUAL}, &s);
	stor_boot(&s);
	for (uint32_t i = 0; i < 10; i++) {
		(void)stor_submit(&s, &write_one);
	}
	guest_settle(s.g);
	assert_int_equal(fake_disk_in_flight(s.disk), 10);
	for (uint32_t i = 0; i < 5; i++) {
		(void)stor_submit(&s, &write_one); /* in the ring, not read */
	}
	stor_pause(&s);
	assert_int_equal(fake_disk_requests(s.disk), 10);
	guest_settle(s.g);
	take_all(&s, 0, &seen); /* the answers are there */
	assert_int_equal(seen.count, 10);
	stor_resume(&s);
	take_until(&s, &seen, 15);
	stor_destroy(&s);
}

static void set_flag(void *arg)
{
	*(bool *)arg = true;
}

static void a_pause_of_an_idle_device_is_done_at_once(void **state)
{
	bool done = false;
	struct stor s;

	(void)state;
	stor_create(NULL, &s);
	stor_boot(&s);
	vmbus_pause(guest_bus(s.g));
	s.vsp->ops->pause(s.vsp, set_flag, &done);
	assert_true(done);
	stor_resume(&s);
	stor_destroy(&s);
}

/* ---- close and open ---- */

static void a_close_is_answered_when_the_disk_has_let_go(void **state)
{
	struct stor s;

	(void)state;
	stor_create(&(struct stor_cfg){.disk.order = FAKE_DISK_MANUAL}, &s);
	stor_boot(&s);
	for (uint32_t i = 0; i < 10; i++) {
		(void)stor_submit(&s, &write_one);
	}
	guest_settle(s.g);
	raw_close(&s, 0);
	for (uint32_t i = 0; i < 10; i++) {
		guest_settle(s.g);
		assert_false(torn_down(&s));
		assert_true(fake_disk_step(s.disk));
	}
	guest_settle(s.g);
	assert_true(torn_down(&s));
	guest_abandon(s.chans[0]);
	stor_destroy(&s);
}

static void a_close_drops_answers_that_found_no_room(void **state)
{
	uint32_t sent = 0;
	struct stor s;

	(void)state;
	stor_create(&(struct stor_cfg){.ring_pages = 2}, &s);
	stor_boot(&s);
	for (uint32_t idle = 0; idle < 5; idle++) {
		while (stor_try_submit(&s, &write_one, sent + 1) == 0) {
			sent++;
			idle = 0;
		}
		guest_settle(s.g);
	}
	stor_close(&s);
	stor_open(&s);
	stor_init(&s);
	(void)stor_run(&s, &write_one);
	stor_destroy(&s);
}

static void a_guest_that_opens_again_at_once_gets_a_fresh_controller(void **state)
{
	(void)state;
	for (uint32_t seed = 0; seed < 10; seed++) {
		struct guest_chan *old;
		struct storvsp_packet answer;
		struct stor s;

		stor_create(&(struct stor_cfg){.disk.order = FAKE_DISK_SHUFFLE, .disk.seed = seed},
		            &s);
		stor_boot(&s);
		for (uint32_t i = 0; i < 20; i++) {
			(void)stor_submit(&s, &write_one);
		}
		guest_run_until(s.g, fake_disk_in_flight(s.disk) > 5);
		raw_close(&s, 0);
		old = s.chans[0];
		stor_open(&s);
		guest_run_until(s.g, torn_down(&s));
		guest_abandon(old);
		(void)stor_submit(&s, &write_one);
		(void)stor_wait(&s, 0, &answer);
		assert_int_equal(le32_get(answer.status), STORVSP_STATUS_INVALID_DEVICE_STATE);
		stor_init(&s);
		(void)stor_run(&s, &write_one);
		stor_destroy(&s);
	}
}

static void sub_channels_go_with_the_primary_and_come_again(void **state)
{
	struct stor s;

	(void)state;
	stor_create(&(struct stor_cfg){.sub_channels_max = 4}, &s);
	stor_boot(&s);
	for (uint32_t round = 0; round < 3; round++) {
		struct guest_offer *offers[5] = {NULL};
		struct storvsp_packet p = {.u.sub_channels = le16_make(1)};

		stor_sub_channels(&s, 4);
		for (uint16_t i = 1; i <= 4; i++) {
			struct stor_cmd cmd = write_one;

			cmd.chan = i;
			offers[i] = guest_offer_find(s.g, &stor_interface, i);
			(void)stor_run(&s, &cmd);
		}
		/* Once is enough. */
		assert_int_equal(stor_control(&s, STORVSP_CREATE_SUB_CHANNELS, &p),
		                 STORVSP_STATUS_INVALID_PARAMETER);
		stor_close(&s);
		for (uint16_t i = 1; i <= 4; i++) {
			guest_run_until(s.g, offers[i]->rescinded);
			guest_release(s.g, offers[i]);
		}
		guest_settle(s.g);
		stor_open(&s);
		stor_init(&s);
	}
	stor_destroy(&s);
}

static void sub_channels_that_nobody_opened_are_taken_back(void **state)
{
	struct storvsp_packet p = {.u.sub_channels = le16_make(4)};
	struct stor s;

	(void)state;
	stor_create(&(struct stor_cfg){.sub_channels_max = 4}, &s);
	stor_boot(&s);
	assert_int_equal(stor_control(&s, STORVSP_CREATE_SUB_CHANNELS, &p), 0);
	guest_settle(s.g);
	assert_non_null(guest_offer_find(s.g, &stor_interface, 4));
	stor_close(&s);
	guest_settle(s.g);
	assert_null(guest_offer_find(s.g, &stor_interface, 1));
	stor_open(&s);
	stor_init(&s);
	(void)stor_run(&s, &write_one);
	stor_destroy(&s);
}

/* The primary closes, with commands of a sub-channel on the disk; the guest opens it again and asks
 * for sub-channels again before those are back. */
static void a_primary_is_closed_after_its_sub_channels(void **state)
{
	(void)state;
	for (uint32_t seed = 0; seed < 20; seed++) {
		struct guest_chan *old[3];
		struct guest_offer *offers[3];
		struct stor s;

		stor_create(&(struct stor_cfg){.sub_channels_max = 2,
		                               .disk.order = FAKE_DISK_SHUFFLE,
		                               .disk.seed = seed},
		            &s);
		stor_boot(&s);
		stor_sub_channels(&s, 2);
		for (uint32_t i = 0; i < 20; i++) {
			struct stor_cmd cmd = write_one;

			cmd.chan = 1 + i % 2;
			(void)stor_submit(&s, &cmd);
		}
		guest_run_until(s.g, fake_disk_in_flight(s.disk) > 5);
		for (uint16_t i = 1; i < 3; i++) {
			offers[i] = guest_offer_find(s.g, &stor_interface, i);
		}
		raw_close(&s, 0);
		memcpy(old, s.chans, sizeof(old));
		memset(s.chans, 0, sizeof(s.chans));
		stor_open(&s); /* answered when all three are closed */
		assert_int_equal(fake_disk_in_flight(s.disk), 0);
		stor_init(&s);
		stor_sub_channels(&s, 2);
		for (uint32_t i = 0; i < 3; i++) {
			struct stor_cmd cmd = write_one;

			cmd.chan = i;
			(void)stor_run(&s, &cmd);
		}
		guest_run_until(s.g, torn_down(&s));
		guest_abandon(old[0]);
		for (uint32_t i = 1; i < 3; i++) {
			guest_gpadl_teardown(s.g, guest_chan_relid(old[i]),
			                     guest_chan_gpadl(old[i]));
			guest_abandon(old[i]);
			guest_release(s.g, offers[i]);
		}
		stor_destroy(&s);
	}
}

static void an_unload_waits_for_the_disk(void **state)
{
	(void)state;
	for (uint32_t seed = 0; seed < 10; seed++) {
		struct stor s;

		stor_create(&(struct stor_cfg){.sub_channels_max = 2,
		                               .disk.order = FAKE_DISK_SHUFFLE,
		                               .disk.seed = seed},
		            &s);
		stor_boot(&s);
		stor_sub_channels(&s, 2);
		for (uint32_t i = 0; i < 30; i++) {
			struct stor_cmd cmd = write_one;

			cmd.chan = i % 3;
			(void)stor_submit(&s, &cmd);
		}
		guest_run_until(s.g, fake_disk_in_flight(s.disk) > 5);
		guest_unload(s.g);
		assert_int_equal(fake_disk_in_flight(s.disk), 0);
		for (uint32_t i = 0; i < 3; i++) {
			guest_abandon(s.chans[i]);
		}
		stor_boot(&s); /* as a new kernel does */
		(void)stor_run(&s, &write_one);
		stor_destroy(&s);
	}
}

static void a_pause_also_waits_for_a_channel_that_closes(void **state)
{
	bool done = false;
	struct stor s;

	(void)state;
	stor_create(&(struct stor_cfg){.disk.order = FAKE_DISK_MANUAL, .sub_channels_max = 1}, &s);
	stor_boot(&s);
	stor_sub_channels(&s, 1);
	{
		struct stor_cmd cmd = write_one;

		cmd.chan = 1;
		(void)stor_submit(&s, &cmd);
	}
	guest_settle(s.g);
	raw_close(&s, 0);
	guest_settle(s.g);
	vmbus_pause(guest_bus(s.g));
	s.vsp->ops->pause(s.vsp, set_flag, &done);
	guest_settle(s.g);
	assert_false(done);
	assert_true(fake_disk_step(s.disk));
	guest_settle(s.g);
	assert_true(done);
	stor_resume(&s);
	guest_run_until(s.g, torn_down(&s));
	stor_destroy(&s);
}

/* ---- creation ---- */

static void every_failed_allocation_of_a_controller_leaves_nothing(void **state)
{
	struct stor s;
	struct vsp *vsp = NULL;
	uint32_t k = 1;
	int err;

	(void)state;
	stor_create(NULL, &s);
	s.vsp->ops->destroy(s.vsp);
	guest_bus_replace(s.g);
	fake_disk_destroy(s.disk);
	s.disk = fake_disk_create(&s.cfg.disk, guest_uring(s.g));
	for (;; k++) {
		fault_arm(FAULT_ALLOC, k);
		err = stor_vsp_create(&s, &vsp);
		fault_arm(FAULT_ALLOC, 0);
		if (err == 0) {
			break;
		}
		assert_int_equal(err, -ENOMEM);
		assert_null(vsp);
		assert_false(fake_disk_is_closed(s.disk)); /* still the caller's */
	}
	assert_true(k > 2);
	s.vsp = vsp;
	vmbus_resume(guest_bus(s.g));
	stor_boot(&s);
	(void)stor_run(&s, &write_one);
	stor_destroy(&s);
}

static void units_that_cannot_be_are_refused(void **state)
{
	static const struct storvsp_lun_cfg none = {.lun = 0, .kind = SCSI_DVD};
	struct storvsp_lun_cfg luns[2] = {none, none};
	struct storvsp_cfg cfg = {.index = 1, .luns = luns, .lun_count = 2};
	struct errbuf eb = {0};
	struct vsp *vsp = (struct vsp *)&cfg;
	struct stor s;

	(void)state;
	stor_create(NULL, &s);
	assert_int_equal(storvsp_create(guest_env(s.g), &cfg, &vsp, &eb), -EINVAL); /* twice */
	assert_null(vsp);
	luns[1].lun = STORVSP_LUNS_MAX;
	assert_int_equal(storvsp_create(guest_env(s.g), &cfg, &vsp, &eb), -EINVAL);
	luns[1] = (struct storvsp_lun_cfg){.lun = 1, .kind = SCSI_DISK};
	assert_int_equal(storvsp_create(guest_env(s.g), &cfg, &vsp, &eb), -EINVAL);
	assert_non_null(strstr(eb.text, "image"));
	stor_boot(&s);
	stor_destroy(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(more_commands_than_the_pool_wait_their_turn),
		cmocka_unit_test(a_channel_that_found_the_pool_empty_goes_on_by_itself),
		cmocka_unit_test(answers_come_on_the_channel_of_their_command),
		cmocka_unit_test(answers_wait_for_a_guest_that_reads_late),
		cmocka_unit_test(a_pause_does_not_wait_for_a_guest_that_reads_nothing),
		cmocka_unit_test(a_pause_waits_for_the_disk_and_takes_nothing_new),
		cmocka_unit_test(a_pause_of_an_idle_device_is_done_at_once),
		cmocka_unit_test(a_close_is_answered_when_the_disk_has_let_go),
		cmocka_unit_test(a_close_drops_answers_that_found_no_room),
		cmocka_unit_test(a_guest_that_opens_again_at_once_gets_a_fresh_controller),
		cmocka_unit_test(sub_channels_go_with_the_primary_and_come_again),
		cmocka_unit_test(sub_channels_that_nobody_opened_are_taken_back),
		cmocka_unit_test(a_primary_is_closed_after_its_sub_channels),
		cmocka_unit_test(an_unload_waits_for_the_disk),
		cmocka_unit_test(a_pause_also_waits_for_a_channel_that_closes),
		cmocka_unit_test(every_failed_allocation_of_a_controller_leaves_nothing),
		cmocka_unit_test(units_that_cannot_be_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
