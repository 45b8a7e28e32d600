/* SPDX-License-Identifier: Apache-2.0 */

/* Whole migrations of simulated guests over loopback: what arrives, who runs, who is told. */

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/clock.h"
#include "base/fault.h"
#include "tests/lib/move_pair.h"
#include "tests/lib/test.h"

#define MIB (1ull << 20)

/* Too large for stacks. */
static struct move_pair pair;
static struct move_guest guest;
static struct move_guest place;

static const struct move_guest_cfg still = {
	.bytes = 8 * MIB,
	.random_share = 4,
	.state_bytes = 300000,
	.incompressible = true,
};

static const struct move_guest_cfg busy = {
	.bytes = 8 * MIB,
	.random_share = 4,
	.dirty_mb_s = 40,
	.working_bytes = 4 * MIB,
	.state_bytes = 5000,
};

static const struct move_guest_cfg racing = {
	.bytes = 3 * MIB,
	.random_share = 2,
	.dirty_mb_s = 60,
	.working_bytes = 2 * MIB - 4096,
	.state_bytes = 100,
};

static void begin(const struct move_guest_cfg *cfg)
{
	move_guest_create(&guest, cfg);
	move_guest_place(&place, &guest);
	move_pair_init(&pair, &guest, &place);
}

static void start(uint32_t data)
{
	int from[1 + STREAM_CONNECTIONS_MAX];
	int to[1 + STREAM_CONNECTIONS_MAX];

	move_pair_sockets(1 + data, from, to);
	assert_int_equal(move_pair_start(&pair, 1 + data, from, to), 0);
}

static void end(void)
{
	move_guest_destroy(&place);
	move_guest_destroy(&guest);
}

static void check_moved(void)
{
	const struct move_result *s = &pair.at_source.result;
	const struct move_result *t = &pair.at_target.result;

	assert_string_equal(s->why.text, "");
	assert_string_equal(t->why.text, "");
	assert_int_equal(s->outcome, MOVE_DONE);
	assert_int_equal(t->outcome, MOVE_DONE);
	assert_false(move_guest_running(&guest));
	assert_true(move_guest_running(&place));
	assert_int_equal(place.runs, 1);
	assert_int_equal(place.announces, 1);
	assert_true(move_guest_equal(&guest, &place));
	assert_int_equal(s->epoch, 8);
	assert_int_equal(t->epoch, 8);
	assert_int_equal(s->data_pages, t->data_pages);
	assert_true(s->zero_pages >= t->zero_pages); /* what nobody touched is not even named */
	assert_true(s->blackout_ns > 0);
	assert_true(s->blackout_ns >= s->pause_ns + s->copy_ns);
	assert_true(s->running_wall_ns != 0);
}

static void check_stayed(enum move_outcome outcome, int err)
{
	const struct move_result *s = &pair.at_source.result;

	assert_int_equal(s->outcome, outcome);
	assert_int_equal(s->err, err);
	assert_string_not_equal(s->why.text, "");
	assert_true(move_guest_running(&guest));
	assert_false(move_guest_running(&place));
	assert_int_equal(place.runs, 0);
	assert_int_not_equal(pair.at_target.result.outcome, MOVE_DONE);
	assert_int_equal(guest.throttle, 0);
	assert_false(guest.logging);
}

/* Pages that exist. */
static uint64_t allocated(const struct move_guest *g)
{
	uint64_t blocks = 0;

	for (uint32_t i = 0; i < 2; i++) {
		struct stat st;

		assert_int_equal(fstat(g->fds[i], &st), 0);
		blocks += (uint64_t)st.st_blocks;
	}
	return blocks * 512 / 4096;
}

static void a_still_guest_arrives_whole(void **state)
{
	uint64_t before;

	(void)state;
	begin(&still);
	before = allocated(&guest); /* 1024, more where the kernel takes huge pages by itself */
	start(1);
	move_pair_finish(&pair);
	/* Nothing was allocated at either end only to look at zeros. */
	assert_int_equal(allocated(&guest), before);
	assert_true(allocated(&place) <= before);
	check_moved();
	assert_int_equal(pair.at_source.result.rounds, 2); /* all, and what is left: nothing */
	assert_int_equal(pair.at_source.result.data_pages, 1024);
	assert_int_equal(pair.at_source.result.zero_pages, 1024);
	assert_int_equal(pair.at_source.result.state_bytes, 300000);
	assert_int_equal(pair.at_source.result.moved_bytes, 8 * MIB);
	assert_true(pair.at_source.result.wire_bytes > 4 * MIB);
	assert_true(pair.at_source.result.wire_bytes < 5 * MIB); /* zeros cost nothing */
	assert_false(pair.at_source.result.encrypted);
	end();
}

static void a_busy_guest_arrives_whole_over_any_number_of_connections(void **state)
{
	static const uint32_t data[] = {1, 2, 4, 16};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(data); i++) {
		begin(&busy);
		start(data[i]);
		move_pair_finish(&pair);
		check_moved();
		assert_true(pair.at_source.progresses >= 5);
		assert_int_equal(pair.at_source.last.phase, MOVE_COMMITTED);
		assert_string_not_equal(pair.at_source.last.reason, "");
		end();
	}
}

static void packed_pages_arrive_whole(void **state)
{
	(void)state;
	for (enum source_pack pack = SOURCE_PACK_LZ4; pack <= SOURCE_PACK_ZSTD; pack++) {
		begin(&busy);
		pair.source_cfg.pack = pack;
		pair.source_cfg.bandwidth_max_bytes_s = 40 * MIB; /* so that packing pays */
		start(2);
		move_pair_finish(&pair);
		check_moved();
		assert_true(pair.at_source.result.wire_bytes <
		            pair.at_source.result.data_pages * 4096);
		end();
	}
}

static void without_the_crc_of_pages_it_works_too(void **state)
{
	(void)state;
	begin(&still);
	pair.source_cfg.no_bulk_crc = true;
	start(2);
	move_pair_finish(&pair);
	check_moved();
	end();
}

static void a_quick_move_stops_the_guest_first(void **state)
{
	(void)state;
	begin(&busy);
	pair.source_cfg.mode = STREAM_MODE_QUICK;
	pair.source_cfg.policy.blackout_max_ns = 1; /* of no meaning here */
	start(2);
	move_pair_finish(&pair);
	check_moved();
	assert_int_equal(pair.at_source.result.rounds, 1);
	end();
}

/* Faulting in ahead is a matter of speed: what arrives is the same. */
static void memory_may_be_faulted_in_ahead_or_not(void **state)
{
	static const enum target_fill fills[] = {TARGET_FILL_AHEAD, TARGET_FILL_NONE};
	const struct move_guest_cfg large = {
		.bytes = 48 * MIB,
		.random_share = 8,
		.dirty_mb_s = 40,
		.working_bytes = 4 * MIB,
		.state_bytes = 5000,
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(fills); i++) {
		begin(&large);
		pair.target_cfg.fill = fills[i];
		pair.target_cfg.fill_threads = 3;
		start(3);
		move_pair_finish(&pair);
		check_moved();
		assert_true(fills[i] == TARGET_FILL_AHEAD || pair.at_target.last.filled_bytes == 0);
		end();
	}
}

static void all_memory_may_be_there_before_anything_is_copied(void **state)
{
	const struct move_guest_cfg empty = {.bytes = 33 * MIB, .state_bytes = 100};

	(void)state;
	begin(&empty);
	pair.target_cfg.fill = TARGET_FILL_ALL;
	start(2);
	move_pair_finish(&pair);
	check_moved();
	assert_int_equal(pair.at_target.last.filled_bytes, 33 * MIB);
	assert_true(allocated(&place) >= 33 * MIB / 4096);
	end();
}

static void without_memory_for_all_nothing_is_copied(void **state)
{
	(void)state;
	begin(&still);
	/* Memory that is not there. */
	assert_int_equal(ftruncate(place.fds[1], (off_t)MIB), 0);
	pair.target_cfg.fill = TARGET_FILL_ALL;
	start(1);
	move_pair_finish(&pair);
	check_stayed(MOVE_FAILED, -ENOMEM);
	assert_non_null(strstr(pair.at_source.result.why.text, "no memory for the whole guest"));
	assert_int_equal(pair.at_source.result.data_pages, 0);
	end();
}

static void a_cap_holds_the_rate_down(void **state)
{
	uint64_t took;

	(void)state;
	begin(&still);
	pair.source_cfg.bandwidth_max_bytes_s = 20 * MIB;
	start(4);
	move_pair_finish(&pair);
	check_moved();
	took = pair.at_source.result.total_ns;
	assert_true(took > 150 * NS_PER_MS); /* 4 MiB at 20 MiB/s, less slack and last frame */
	end();
}

static void a_check_reports_all_reasons_and_touches_nothing(void **state)
{
	int from[1];
	int to[1];

	(void)state;
	for (int blocked = 0; blocked < 2; blocked++) {
		begin(&still);
		place.faults.blocker = blocked != 0;
		place.faults.prepare_fails = true; /* is not reached */
		pair.source_cfg.mode = STREAM_MODE_CHECK;
		move_pair_sockets(1, from, to);
		assert_int_equal(move_pair_start(&pair, 1, from, to), 0);
		move_pair_finish(&pair);
		assert_int_equal(pair.at_source.result.outcome,
		                 blocked != 0 ? MOVE_REFUSED : MOVE_DONE);
		assert_int_equal(pair.at_target.result.outcome,
		                 blocked != 0 ? MOVE_REFUSED : MOVE_DONE);
		assert_int_equal(pair.at_source.result.report.blockers, blocked != 0 ? 2 : 0);
		assert_true(move_guest_running(&guest));
		assert_int_equal(guest.pauses, 0);
		end();
	}
}

static void blockers_refuse_a_move_before_any_page(void **state)
{
	(void)state;
	begin(&busy);
	place.faults.blocker = true;
	start(2);
	move_pair_finish(&pair);
	check_stayed(MOVE_REFUSED, -EPERM);
	assert_string_equal(pair.at_source.result.why.text,
	                    "2 reasons against it: the processor lacks avx512f; no file "
	                    "/vm/a.vhdx");
	assert_int_equal(pair.at_source.result.data_pages, 0);
	end();
}

static void what_fails_at_the_destination_is_said_at_the_source(void **state)
{
	(void)state;
	begin(&busy);
	place.faults.prepare_fails = true;
	start(2);
	move_pair_finish(&pair);
	check_stayed(MOVE_FAILED, -ENOMEM);
	assert_string_equal(pair.at_source.result.why.text,
	                    "the destination says: preparing the partition: no memory for the "
	                    "guest");
	end();

	begin(&busy);
	place.faults.load_fails = true;
	start(2);
	move_pair_finish(&pair);
	check_stayed(MOVE_FAILED, -EPROTONOSUPPORT);
	assert_string_equal(pair.at_source.result.why.text,
	                    "the destination says: loading the devices: section quantum.0 is "
	                    "unknown");
	assert_int_equal(guest.pauses, 1);
	end();
}

static void a_device_that_does_not_save_keeps_the_guest_here(void **state)
{
	(void)state;
	begin(&busy);
	guest.faults.save_fails = true;
	start(1);
	move_pair_finish(&pair);
	check_stayed(MOVE_FAILED, -EIO);
	assert_int_equal(pair.at_target.result.err, -EIO);
	assert_non_null(strstr(pair.at_target.result.why.text, "a device does not save"));
	end();
}

static void the_owner_may_refuse(void **state)
{
	(void)state;
	begin(&busy);
	pair.owner = MOVE_PAIR_REFUSES;
	start(2);
	move_pair_finish(&pair);
	check_stayed(MOVE_FAILED, -EPERM);
	assert_string_equal(pair.at_source.result.why.text, "the journal is read-only");
	/* It was told until when a yes would have been in time. */
	assert_true(pair.deadline_ns < clock_now_ns() + 30 * NS_PER_S);
	assert_true(pair.deadline_ns > pair.at_source.ended_ns);
	assert_int_equal(pair.at_target.readies, 1);
	assert_int_equal(pair.at_target.losts, 0); /* CANCEL is a word */
	end();
}

static void while_the_owner_thinks_nobody_runs_and_nothing_cancels(void **state)
{
	(void)state;
	begin(&busy);
	pair.owner = MOVE_PAIR_WAITS;
	start(2);
	move_pair_wait(&pair, move_pair_source_asked);
	assert_int_equal(source_cancel(pair.source), -EBUSY);
	assert_false(move_guest_running(&guest));
	assert_false(move_guest_running(&place));
	pair.journal = true;
	source_commit(pair.source);
	move_pair_finish(&pair);
	check_moved();
	end();
}

static void the_destinations_owner_may_have_to_confirm(void **state)
{
	(void)state;
	begin(&still);
	pair.confirm = true;
	start(1);
	move_pair_finish(&pair);
	check_moved();
	assert_int_equal(pair.at_target.committeds, 1);
	end();
}

static void a_guest_that_cannot_start_there_never_runs_here_again(void **state)
{
	(void)state;
	begin(&still);
	place.faults.run_fails = true;
	start(1);
	move_pair_finish(&pair);
	assert_int_equal(pair.at_source.result.outcome, MOVE_UNKNOWN);
	assert_int_equal(pair.at_target.result.outcome, MOVE_UNKNOWN);
	assert_false(move_guest_running(&guest));
	end();
}

static bool copying(const struct move_pair *p)
{
	return p->at_source.last.phase == MOVE_COPY && p->at_source.last.round >= 1;
}

static void a_cancel_takes_effect_at_once(void **state)
{
	uint64_t asked;

	(void)state;
	begin(&busy);
	pair.source_cfg.bandwidth_max_bytes_s = 1 * MIB; /* would last for long */
	start(2);
	move_pair_wait(&pair, copying);
	asked = clock_now_ns();
	assert_int_equal(source_cancel(pair.source), 0);
	move_pair_finish(&pair);
	check_stayed(MOVE_CANCELED, -ECANCELED);
	assert_int_equal(pair.at_target.result.outcome, MOVE_CANCELED);
	assert_true(pair.at_source.ended_ns - asked < 2 * NS_PER_S);
	end();
}

static bool stopping(const struct move_pair *p)
{
	return p->at_source.last.phase == MOVE_STOP;
}

static void a_cancel_ends_a_stop_that_hangs(void **state)
{
	(void)state;
	begin(&busy);
	guest.faults.pause_hangs = true;
	start(2);
	move_pair_wait(&pair, stopping);
	assert_int_equal(source_cancel(pair.source), 0);
	move_pair_finish(&pair);
	check_stayed(MOVE_CANCELED, -ECANCELED);
	end();
}

static void a_stop_that_hangs_is_given_up_at_the_limit(void **state)
{
	(void)state;
	begin(&busy);
	guest.faults.pause_hangs = true;
	pair.source_cfg.policy.blackout_max_ns = 20 * NS_PER_MS;
	pair.source_cfg.policy.overhead_ns = 1;
	pair.source_cfg.policy.stops_max = 2;
	start(2);
	move_pair_finish(&pair);
	check_stayed(MOVE_FAILED, -EBUSY);
	assert_true(guest.pauses <= 2);
	end();
}

static void a_destination_that_loads_too_long_loses_the_guest(void **state)
{
	(void)state;
	begin(&still);
	place.faults.load_us = 400000;
	pair.source_cfg.policy.blackout_max_ns = 300 * NS_PER_MS;
	start(2);
	move_pair_finish(&pair);
	check_stayed(MOVE_FAILED, -ETIMEDOUT);
	assert_non_null(strstr(pair.at_source.result.why.text, "blackout limit of 300 ms"));
	end();
}

/* So far below what the guest writes that a machine that is busy with other things, too, does not
 * make up for it. */
#define SLOW_LINK (6 * MIB)

static void a_guest_too_fast_for_the_link_is_throttled_or_stays(void **state)
{
	(void)state;
	begin(&racing);
	pair.source_cfg.bandwidth_max_bytes_s = SLOW_LINK;
	pair.source_cfg.policy.blackout_max_ns = 40 * NS_PER_MS;
	pair.source_cfg.policy.overhead_ns = NS_PER_MS;
	start(2);
	move_pair_finish(&pair);
	assert_true(guest.throttle_max >= 20);
	if (pair.at_source.result.outcome == MOVE_DONE) {
		check_moved();
	} else { /* a slow machine: never silently beyond the limit */
		assert_true(move_guest_running(&guest));
		assert_int_equal(pair.at_source.result.outcome, MOVE_FAILED);
	}
	end();

	begin(&racing);
	pair.source_cfg.bandwidth_max_bytes_s = SLOW_LINK;
	pair.source_cfg.policy.blackout_max_ns = 10 * NS_PER_MS;
	pair.source_cfg.policy.overhead_ns = NS_PER_MS;
	pair.source_cfg.policy.throttle_max_percent = 0;
	pair.source_cfg.policy.throttle_first_percent = 0;
	start(2);
	move_pair_finish(&pair);
	check_stayed(MOVE_FAILED, -EBUSY);
	assert_non_null(strstr(pair.at_source.result.why.text, "does not converge"));
	assert_string_not_equal(pair.at_source.result.why.hint, "");
	end();
}

static void strangers_do_no_harm(void **state)
{
	int from[5];
	int to[5];

	(void)state;
	begin(&still);
	move_pair_sockets(5, from, to);
	assert_int_equal(write(from[3], "GET / HTTP/1.1\r\nHost: godwit\r\n\r\n..", 35), 35);
	assert_int_equal(move_pair_start(&pair, 3, from, to), 0);
	assert_true(target_add(pair.target, to[3]) <= 0);
	assert_true(target_add(pair.target, to[4]) <= 0);
	move_pair_finish(&pair);
	check_moved();
	assert_int_equal(close(from[3]), 0);
	assert_int_equal(close(from[4]), 0);
	end();
}

/* One field of the source's HELLO is not what the destination expects. */
static void refused_hello(int err)
{
	start(1);
	move_pair_wait(&pair, move_pair_source_ended);
	assert_int_equal(target_abandon(pair.target, NULL),
	                 0); /* it would wait for the right one */
	move_pair_finish(&pair);
	check_stayed(MOVE_FAILED, err);
	end();
}

static void only_the_expected_source_is_let_in(void **state)
{
	(void)state;
	begin(&still);
	pair.source_cfg.token[31] = 1;
	refused_hello(-EACCES);
	begin(&still);
	guid_random(&pair.source_cfg.vm);
	refused_hello(-EPROTO);
	begin(&still);
	pair.source_cfg.epoch = 6;
	refused_hello(-ESTALE);
	begin(&still);
	pair.target_cfg.memory_max_bytes = 4 * MIB;
	refused_hello(-E2BIG);
}

static void nobody_comes(void **state)
{
	struct target *t;

	(void)state;
	begin(&still);
	pair.target_cfg.connect_max_ns = 20 * NS_PER_MS;
	assert_int_equal(target_create(&pair.target_cfg, &t, NULL), 0);
	move_pair_wait(&pair, move_pair_target_ended);
	assert_int_equal(pair.at_target.result.err, -ETIMEDOUT);
	target_destroy(t);
	end();
}

static void a_configuration_that_cannot_work_is_refused(void **state)
{
	struct errbuf eb = {0};
	struct source *s;
	struct target *t;
	int from[1];
	int to[1];

	(void)state;
	begin(&still);
	pair.source_cfg.plain = false; /* and no certificates */
	assert_int_equal(source_create(&pair.source_cfg, &s, &eb), -EINVAL);
	assert_string_not_equal(eb.text, "");
	pair.target_cfg.plain = false;
	assert_int_equal(target_create(&pair.target_cfg, &t, &eb), -EINVAL);
	pair.source_cfg.plain = true;
	move_pair_sockets(1, from, to);
	pair.source_cfg.fds = from;
	pair.source_cfg.fd_count = 1;
	assert_int_equal(source_create(&pair.source_cfg, &s, &eb), -EINVAL);
	assert_int_equal(close(from[0]), -1); /* closed also on failure */
	assert_int_equal(close(to[0]), 0);
	pair.source_cfg.mode = STREAM_MODE_CHECK;
	pair.source_cfg.epoch_next = 7;
	pair.source_cfg.fd_count = 0;
	assert_int_equal(source_create(&pair.source_cfg, &s, &eb), -EINVAL);
	end();
}

static void lost_memory_closes_all_sockets(void **state)
{
	int from[3];
	int to[3];
	uint32_t k = 1;

	(void)state;
	for (;; k++) {
		struct source *s;
		struct errbuf eb = {0};
		int err;

		begin(&still);
		move_pair_sockets(3, from, to);
		pair.source_cfg.fds = from;
		pair.source_cfg.fd_count = 3;
		fault_arm(FAULT_ALLOC, k);
		err = source_create(&pair.source_cfg, &s, &eb);

		bool hit = fault_hit(FAULT_ALLOC) != 0;

		fault_arm(FAULT_ALLOC, 0);
		for (uint32_t i = 0; i < 3; i++) {
			assert_int_equal(close(to[i]), 0);
		}
		if (!hit) {
			assert_int_equal(err, 0);
			move_pair_wait(&pair, move_pair_source_ended); /* nobody answered */
			assert_int_equal(pair.at_source.result.outcome, MOVE_FAILED);
			source_destroy(s);
			end();
			break;
		}
		assert_int_equal(err, -ENOMEM);
		for (uint32_t i = 0; i < 3; i++) {
			assert_int_equal(close(from[i]), -1);
		}
		end();
	}
	assert_true(k > 5);
	begin(&still);
	for (k = 1;; k++) {
		struct target *t;
		int err;

		fault_arm(FAULT_ALLOC, k);
		err = target_create(&pair.target_cfg, &t, NULL);
		if (!fault_hit(FAULT_ALLOC)) {
			fault_arm(FAULT_ALLOC, 0);
			assert_int_equal(err, 0);
			move_pair_sockets(1, from, to);
			for (k = 1;; k++) {
				fault_arm(FAULT_ALLOC, k);
				err = target_add(t, to[0]);
				if (!fault_hit(FAULT_ALLOC)) {
					break;
				}
				assert_int_equal(err, -ENOMEM);
				assert_int_equal(close(from[0]), 0);
				move_pair_sockets(1, from, to);
			}
			fault_arm(FAULT_ALLOC, 0);
			assert_int_equal(err, 0);
			assert_int_equal(close(from[0]), 0);
			target_destroy(t);
			break;
		}
		assert_int_equal(err, -ENOMEM);
	}
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_still_guest_arrives_whole),
		cmocka_unit_test(a_busy_guest_arrives_whole_over_any_number_of_connections),
		cmocka_unit_test(packed_pages_arrive_whole),
		cmocka_unit_test(without_the_crc_of_pages_it_works_too),
		cmocka_unit_test(a_quick_move_stops_the_guest_first),
		cmocka_unit_test(memory_may_be_faulted_in_ahead_or_not),
		cmocka_unit_test(all_memory_may_be_there_before_anything_is_copied),
		cmocka_unit_test(without_memory_for_all_nothing_is_copied),
		cmocka_unit_test(a_cap_holds_the_rate_down),
		cmocka_unit_test(a_check_reports_all_reasons_and_touches_nothing),
		cmocka_unit_test(blockers_refuse_a_move_before_any_page),
		cmocka_unit_test(what_fails_at_the_destination_is_said_at_the_source),
		cmocka_unit_test(a_device_that_does_not_save_keeps_the_guest_here),
		cmocka_unit_test(the_owner_may_refuse),
		cmocka_unit_test(while_the_owner_thinks_nobody_runs_and_nothing_cancels),
		cmocka_unit_test(the_destinations_owner_may_have_to_confirm),
		cmocka_unit_test(a_guest_that_cannot_start_there_never_runs_here_again),
		cmocka_unit_test(a_cancel_takes_effect_at_once),
		cmocka_unit_test(a_cancel_ends_a_stop_that_hangs),
		cmocka_unit_test(a_stop_that_hangs_is_given_up_at_the_limit),
		cmocka_unit_test(a_destination_that_loads_too_long_loses_the_guest),
		cmocka_unit_test(a_guest_too_fast_for_the_link_is_throttled_or_stays),
		cmocka_unit_test(strangers_do_no_harm),
		cmocka_unit_test(only_the_expected_source_is_let_in),
		cmocka_unit_test(nobody_comes),
		cmocka_unit_test(a_configuration_that_cannot_work_is_refused),
		cmocka_unit_test(lost_memory_closes_all_sockets),
	};

	(void)signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
