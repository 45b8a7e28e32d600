/* SPDX-License-Identifier: Apache-2.0 */

/* A controller that moves: at every step of a guest's work, with everything in flight, and from
 * bytes that nobody would write. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/errbuf.h"
#include "hv/save/save.h"
#include "hv/vsp/vsp.h"
#include "tests/lib/stor_guest.h"
#include "tests/lib/test.h"

enum { COMMANDS = 40, STEPS = 80 };

/* What the guest saw and what is on the disk in the end. */
struct trace {
	uint8_t status[COMMANDS + 1];
	uint32_t moved[COMMANDS + 1];
	uint8_t sense[COMMANDS + 1][3];
	uint32_t answers;
	uint8_t *disk; /* owned */
	uint8_t memory[COMMANDS][64];
};

static uint32_t next_random(uint32_t *seed)
{
	*seed = *seed * 1664525u + 1013904223u;
	return *seed >> 8;
}

/* Command @i is the same in each run, and touches what no other does. */
static struct stor_cmd command(uint32_t i)
{
	struct stor_cmd cmd;

	switch (i % 8) {
	case 0:
	case 1:
	case 2:
		cmd = (struct stor_cmd){STOR_WRITE10(i * 16, 8), .len_bytes = 4096};
		break;
	case 3:
	case 4:
		cmd = (struct stor_cmd){STOR_READ10(i * 16, 4), .len_bytes = 2048};
		break;
	case 5:
		cmd = (struct stor_cmd){STOR_FLUSH};
		break;
	case 6: /* beyond the end */
		cmd = (struct stor_cmd){STOR_READ10(STOR_DISK_BYTES / 512, 1), .len_bytes = 512};
		break;
	default:
		cmd = (struct stor_cmd){
			.cdb = {0x93,
		                1, [8] = (uint8_t)(i >> 4), [9] = (uint8_t)(i * 16), [13] = 8},
			.cdb_bytes = 16,
			.direction = STORVSP_NO_DATA};
		break;
	}
	cmd.first_page = i;
	return cmd;
}

static void take(struct stor *s, uint32_t chan, struct trace *t)
{
	struct storvsp_packet answer;
	uint64_t id;

	while (stor_take(s, chan, &id, &answer)) {
		assert_true(id >= 1 && id <= COMMANDS);
		assert_int_equal(t->status[id], 0); /* once */
		t->status[id] = answer.u.srb.srb_status;
		t->moved[id] = le32_get(answer.u.srb.transfer_bytes);
		t->sense[id][0] = answer.u.srb.cdb_or_sense[2];
		t->sense[id][1] = answer.u.srb.cdb_or_sense[12];
		t->sense[id][2] = answer.u.srb.cdb_or_sense[13];
		t->answers++;
	}
}

static struct trace run_trace(const struct stor_cfg *cfg, uint32_t sub_channels, uint32_t move_at)
{
	struct trace t = {.answers = 0};
	uint64_t deadline_ns = guest_deadline();
	uint32_t seed = 5;
	uint32_t sent = 0;
	struct stor s;

	stor_create(cfg, &s);
	for (uint32_t i = 0; i < STOR_DISK_BYTES; i++) {
		fake_disk_data(s.disk)[i] = stor_pattern(77, i);
	}
	stor_fill(&s, (struct stor_span){0, COMMANDS * 4096}, 1);
	stor_boot(&s);
	if (sub_channels != 0) {
		stor_sub_channels(&s, sub_channels);
	}
	for (uint32_t step = 0; step < STEPS; step++) {
		uint32_t what = next_random(&seed) % 8;

		if (what < 5 && sent < COMMANDS) {
			struct stor_cmd cmd = command(sent);

			cmd.chan = sent % (sub_channels + 1);
			sent += stor_try_submit(&s, &cmd, sent + 1) == 0;
		} else if (what < 7) {
			guest_step(s.g, 0);
			if (cfg->disk.order == FAKE_DISK_MANUAL) {
				(void)fake_disk_step(s.disk);
			}
		} else {
			take(&s, step % (sub_channels + 1), &t);
		}
		if (step == move_at) {
			stor_move(&s, step % 2 == 0);
		}
	}
	while (t.answers < COMMANDS) {
		assert_true(clock_now_ns() < deadline_ns);
		while (sent < COMMANDS) {
			struct stor_cmd cmd = command(sent);

			cmd.chan = sent % (sub_channels + 1);
			if (stor_try_submit(&s, &cmd, sent + 1) != 0) {
				break;
			}
			sent++;
		}
		stor_pump(&s);
		for (uint32_t chan = 0; chan <= sub_channels; chan++) {
			take(&s, chan, &t);
		}
	}
	t.disk = malloc(STOR_DISK_BYTES);
	assert_non_null(t.disk);
	memcpy(t.disk, fake_disk_data(s.disk), STOR_DISK_BYTES);
	for (uint32_t i = 0; i < COMMANDS; i++) {
		stor_read(&s, i * 4096, t.memory[i], sizeof(t.memory[i]));
	}
	stor_destroy(&s);
	return t;
}

static void assert_same(const struct trace *got, const struct trace *want)
{
	assert_memory_equal(got->status, want->status, sizeof(want->status));
	assert_memory_equal(got->moved, want->moved, sizeof(want->moved));
	assert_memory_equal(got->sense, want->sense, sizeof(want->sense));
	assert_memory_equal(got->memory, want->memory, sizeof(want->memory));
	assert_memory_equal(got->disk, want->disk, STOR_DISK_BYTES);
}

static void moves_at_steps(const struct stor_cfg *cfg, uint32_t sub_channels, uint32_t stride)
{
	struct trace want = run_trace(cfg, sub_channels, UINT32_MAX);

	for (uint32_t at = 0; at < STEPS; at += stride) {
		struct trace got = run_trace(cfg, sub_channels, at);

		assert_same(&got, &want);
		free(got.disk);
	}
	free(want.disk);
}

static void a_move_at_any_step_changes_nothing_that_the_guest_sees(void **state)
{
	(void)state;
	moves_at_steps(&(struct stor_cfg){.disk.order = FAKE_DISK_MANUAL}, 0, 1);
}

static void a_move_with_sub_channels_and_scattered_memory(void **state)
{
	(void)state;
	moves_at_steps(&(struct stor_cfg){.disk.order = FAKE_DISK_SHUFFLE,
	                                  .guest.scatter = true,
	                                  .sub_channels_max = 2},
	               2, 3);
}

static void a_move_with_rings_full_of_answers(void **state)
{
	(void)state;
	moves_at_steps(&(struct stor_cfg){.disk.order = FAKE_DISK_FIFO, .ring_pages = 2}, 0, 4);
}

static void answers_without_room_travel(void **state)
{
	const struct stor_cmd ready = {STOR_READY};
	uint64_t deadline_ns = guest_deadline();
	bool seen[1024] = {false};
	uint32_t sent = 0;
	uint32_t got = 0;
	struct stor s;

	(void)state;
	stor_create(&(struct stor_cfg){.ring_pages = 2, .disk.order = FAKE_DISK_MANUAL}, &s);
	stor_boot(&s);
	/* Writes first: when they complete there is no room for their answers. */
	for (uint32_t idle = 0; idle < 5; idle++) {
		const struct stor_cmd write = {STOR_WRITE10(0, 1), .len_bytes = 512};

		while (stor_try_submit(&s, &write, sent + 1) == 0) {
			sent++;
			idle = 0;
		}
		guest_settle(s.g);
	}
	stor_move(&s, false);
	stor_move(&s, true); /* and on */
	guest_settle(s.g);
	while (got < sent) {
		struct storvsp_packet answer;
		uint64_t id;

		if (!stor_take(&s, 0, &id, &answer)) {
			assert_true(clock_now_ns() < deadline_ns);
			stor_pump(&s);
			continue;
		}
		assert_int_equal(answer.u.srb.srb_status, STORVSP_SRB_SUCCESS);
		assert_true(id <= sent && !seen[id]);
		seen[id] = true;
		got++;
	}
	(void)stor_run(&s, &ready);
	stor_destroy(&s);
}

static void a_move_in_each_state_of_the_initialisation(void **state)
{
	(void)state;
	for (uint32_t at = 0; at < 6; at++) {
		struct storvsp_packet p = {0};
		struct stor s;

		stor_create(&(struct stor_cfg){.sub_channels_max = 1}, &s);
		guest_boot(s.g);
		if (at == 0) {
			stor_move(&s, false); /* before it is open */
		}
		stor_open(&s);
		if (at == 1) {
			stor_move(&s, true);
		}
		assert_int_equal(stor_control(&s, STORVSP_BEGIN_INIT, &p), 0);
		if (at == 2) {
			stor_move(&s, false);
		}
		p = (struct storvsp_packet){.u.version.version = le16_make(0x0602)};
		assert_int_equal(stor_control(&s, STORVSP_QUERY_VERSION, &p), 0);
		if (at == 3) {
			stor_move(&s, true);
		}
		assert_int_equal(stor_control(&s, STORVSP_QUERY_PROPERTIES, &p), 0);
		if (at == 4) {
			stor_move(&s, false);
		}
		assert_int_equal(stor_control(&s, STORVSP_END_INIT, &p), 0);
		if (at == 5) {
			stor_move(&s, true);
		}
		stor_sub_channels(&s, 1);
		(void)stor_run(&s, &(struct stor_cmd){STOR_READY, .chan = 1});
		stor_destroy(&s);
	}
}

static void units_keep_their_small_change(void **state)
{
	const struct stor_cmd lock = {.cdb = {0x1e, [4] = 1},
	                              .cdb_bytes = 6,
	                              .direction = STORVSP_NO_DATA,
	                              .lun = STOR_LUN_DVD};
	struct storvsp_srb srb;
	struct stor s;

	(void)state;
	stor_create(&(struct stor_cfg){.dvd = true}, &s);
	stor_boot(&s);
	srb = stor_run(&s, &lock);
	assert_int_equal(srb.srb_status, STORVSP_SRB_SUCCESS);
	storvsp_resized(s.vsp, STOR_LUN_DISK);
	stor_move(&s, true);
	srb = stor_run(&s, &(struct stor_cmd){STOR_READY});
	assert_int_equal(srb.cdb_or_sense[12], 0x2a);
	assert_int_equal(storvsp_medium(s.vsp, STOR_LUN_DVD, NULL), -EBUSY);
	stor_destroy(&s);
}

static void an_ejected_medium_stays_out(void **state)
{
	const struct stor_cmd eject = {.cdb = {0x1b, [4] = 2},
	                               .cdb_bytes = 6,
	                               .direction = STORVSP_NO_DATA,
	                               .lun = STOR_LUN_DVD};
	struct storvsp_srb srb;
	struct stor s;

	(void)state;
	stor_create(&(struct stor_cfg){.dvd = true}, &s);
	stor_boot(&s);
	(void)stor_run(&s, &eject);
	stor_move(&s, false);
	srb = stor_run(&s, &(struct stor_cmd){STOR_READY, .lun = STOR_LUN_DVD});
	assert_int_equal(srb.cdb_or_sense[12], 0x3a);
	stor_destroy(&s);
}

/* ---- what nobody would write ---- */

/* A section "storvsp.0" with these fields, into a fresh controller whose channel was never open. */
struct fields {
	uint32_t init;
	uint32_t sub_channels;
	uint32_t answers;
	uint32_t units;  /* how many are written */
	uint8_t present; /* of unit 0 */
	uint8_t medium;
	uint32_t extra_bytes;
};

static int load_fields(const struct fields *f, struct errbuf *eb)
{
	static const uint8_t zero[64];
	struct save out;
	struct load in;
	struct stor s;
	uint8_t *blob;
	size_t len;
	int err;

	stor_create(&(struct stor_cfg){.sub_channels_max = 2}, &s);
	save_init(&out);
	save_begin(&out, "storvsp.0", 1, true);
	save_u32(&out, f->init);
	save_u16(&out, 0x0602);
	save_u32(&out, f->sub_channels);
	for (uint32_t ch = 0; ch <= f->sub_channels && ch < 17; ch++) {
		save_u32(&out, f->answers);
		for (uint32_t i = 0; i < f->answers && i < 300; i++) {
			save_u64(&out, i);
			save_bytes(&out, zero, sizeof(zero));
		}
	}
	for (uint32_t i = 0; i < f->units; i++) {
		save_u8(&out, i == 0 ? f->present : 0);
		if (i == 0 && f->present == 1) {
			save_u8(&out, f->medium);
			save_bool(&out, false);
			save_u16(&out, 0);
		}
	}
	save_bytes(&out, zero, f->extra_bytes);
	save_end(&out);
	assert_int_equal(save_finish(&out, &blob, &len), 0);
	assert_int_equal(load_init(&in, blob, len, eb), 0);
	vmbus_pause(guest_bus(s.g));
	err = s.vsp->ops->load(s.vsp, &in);
	if (err == 0) { /* a channel that is not open here: it starts anew */
		stor_resume(&s);
		stor_boot(&s);
		(void)stor_run(&s, &(struct stor_cmd){STOR_READY});
	} else {
		vmbus_resume(guest_bus(s.g));
		guest_boot(s.g);
	}
	stor_destroy(&s);
	free(blob);
	return err;
}

static void what_cannot_have_been_saved_is_refused(void **state)
{
	static const struct {
		struct fields fields;
		const char *says;
	} bad[] = {
		{{.init = 5, .units = 64, .present = 1, .medium = 1}, "initialisation"},
		{{.init = 4, .sub_channels = 3, .units = 64, .present = 1, .medium = 1},
	         "sub-channels"},
		{{.init = 4, .answers = 257, .units = 64, .present = 1, .medium = 1}, "answers"},
		{{.init = 4, .sub_channels = 2, .answers = 100, .units = 64, .present = 1},
	         "more answers"},
		{{.init = 4, .units = 64, .present = 0}, "units"},
		{{.init = 4, .units = 64, .present = 2}, ""},
		{{.init = 4, .units = 63, .present = 1, .medium = 1}, ""},
		{{.init = 4, .units = 64, .present = 1, .medium = 1, .extra_bytes = 1}, ""},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct errbuf eb = {0};

		assert_int_equal(load_fields(&bad[i].fields, &eb), -EBADMSG);
		assert_non_null(strstr(eb.text, bad[i].says));
		assert_non_null(strstr(eb.text, "storvsp.0"));
	}
}

static void state_of_a_channel_that_is_not_open_is_dropped(void **state)
{
	const struct fields f = {.init = 4,
	                         .sub_channels = 2,
	                         .answers = 80,
	                         .units = 64,
	                         .present = 1,
	                         .medium = 1};
	struct errbuf eb = {0};

	(void)state;
	assert_int_equal(load_fields(&f, &eb), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_move_at_any_step_changes_nothing_that_the_guest_sees),
		cmocka_unit_test(a_move_with_sub_channels_and_scattered_memory),
		cmocka_unit_test(a_move_with_rings_full_of_answers),
		cmocka_unit_test(answers_without_room_travel),
		cmocka_unit_test(a_move_in_each_state_of_the_initialisation),
		cmocka_unit_test(units_keep_their_small_change),
		cmocka_unit_test(an_ejected_medium_stays_out),
		cmocka_unit_test(what_cannot_have_been_saved_is_refused),
		cmocka_unit_test(state_of_a_channel_that_is_not_open_is_dropped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
