/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/policy/policy.h"

#include <stdio.h>
#include <string.h>

#include "base/attr.h"
#include "tests/lib/test.h"

#define MS 1000000ull
#define S 1000000000ull
#define MB 1000000.0

/* A guest and a link in virtual time. */
struct sim {
	double memory_pages;
	double link_bytes_s;
	double link_jitter;   /* +- share */
	double dirty_pages_s; /* at full speed */
	double working_pages; /* what it writes to: dirty pages saturate there */
	double pause_s;       /* from the decision until the vCPUs stand */
	double overhead_s;    /* state, hand-off: what really happens */
	uint64_t seed;

	double now_s;
	double dirty;      /* pages */
	uint32_t throttle; /* percent */
	double blackout_s; /* of the move; < 0 = none */
	double lost_s;     /* longest vain stop */
	uint32_t rounds;
	uint32_t throttles;
	struct policy_decision last;
};

static double sim_random(struct sim *s)
{
	s->seed = s->seed * 6364136223846793005ull + 1442695040888963407ull;
	return (double)(s->seed >> 11) / 9007199254740992.0;
}

/* The guest runs for @t seconds. */
static void sim_run(struct sim *s, double t)
{
	double rate = s->dirty_pages_s * (1 - s->throttle / 100.0);
	double fresh = s->working_pages <= 0 ? 0 : 1 - s->dirty / s->working_pages;

	s->now_s += t;
	s->dirty += rate * t * (fresh > 0 ? fresh : 0);
	if (s->dirty > s->working_pages) {
		s->dirty = s->working_pages;
	}
}

static double sim_copy_s(struct sim *s, double pages)
{
	double link = s->link_bytes_s * (1 + s->link_jitter * (2 * sim_random(s) - 1));

	return pages * 4096 / link + 0.0002;
}

static uint64_t sim_ns(double s)
{
	return (uint64_t)(s * 1e9);
}

/* A whole move. Checks the properties on the way. */
static enum policy_action sim_move(struct sim *s, const struct policy_cfg *cfg)
{
	struct policy p;
	struct policy_decision d;
	double pages = s->memory_pages;

	s->blackout_s = -1;
	policy_init(&p, cfg, 0);
	for (;;) {
		double took = sim_copy_s(s, pages);

		s->dirty = 0;
		sim_run(s, took);
		s->rounds++;

		const struct policy_sample sample = {
			.now_ns = sim_ns(s->now_s),
			.sent_bytes = (uint64_t)(pages * 4096),
			.took_ns = sim_ns(took),
			.pages = (uint64_t)pages,
			.rest_pages = (uint64_t)s->dirty,
			.rest_over_ns = sim_ns(took),
		};

		policy_round(&p, &sample, &d);
		assert_true(s->rounds <= cfg->rounds_max); /* always ends */
		assert_true(d.throttle_percent >= s->throttle);
		assert_true(d.throttle_percent <= cfg->throttle_max_percent);
		assert_true(d.reason[0] != '\0');
		if (d.action == POLICY_STOP) {
			assert_true(d.blackout_ns <= cfg->blackout_max_ns);
			sim_run(s, s->pause_s);
			policy_stopped(&p, sim_ns(s->now_s), (uint64_t)s->dirty, sim_ns(s->pause_s),
			               &d);
			if (d.action == POLICY_STOP) {
				assert_true(d.blackout_ns <= cfg->blackout_max_ns);
				s->blackout_s =
					s->pause_s + sim_copy_s(s, s->dirty) + s->overhead_s;
				break;
			}
			s->lost_s = s->pause_s > s->lost_s ? s->pause_s : s->lost_s;
		}
		if (d.action == POLICY_GIVE_UP) {
			break;
		}
		s->throttles += d.action == POLICY_THROTTLE ? 1 : 0;
		s->throttle = d.throttle_percent;
		pages = s->dirty;
	}
	s->last = d;
	return d.action;
}

static struct sim sim_guest(double memory_mb, double link_mb_s, double dirty_mb_s,
                            double working_mb)
{
	return (struct sim){
		.memory_pages = memory_mb * MB / 4096,
		.link_bytes_s = link_mb_s * MB,
		.dirty_pages_s = dirty_mb_s * MB / 4096,
		.working_pages = working_mb * MB / 4096,
		.pause_s = 0.001,
		.overhead_s = 0.005,
		.seed = 1,
	};
}

static void an_idle_guest_moves_at_once(void **state)
{
	struct policy_cfg cfg;
	struct sim s = sim_guest(2048, 1000, 0, 0);

	(void)state;
	policy_defaults(&cfg);
	assert_int_equal(sim_move(&s, &cfg), POLICY_STOP);
	assert_int_equal(s.rounds, 1);
	assert_int_equal(s.throttles, 0);
	assert_true(s.blackout_s < 0.01);
}

static void a_moderate_writer_moves_without_a_throttle(void **state)
{
	struct policy_cfg cfg;
	struct sim s = sim_guest(2048, 1000, 300, 500);

	(void)state;
	policy_defaults(&cfg);
	assert_int_equal(sim_move(&s, &cfg), POLICY_STOP);
	assert_true(s.rounds >= 2);
	assert_int_equal(s.throttles, 0);
	assert_true(s.blackout_s <= 0.05);
}

static void a_writer_faster_than_the_link_is_throttled_step_by_step(void **state)
{
	struct policy_cfg cfg;
	struct sim s = sim_guest(2048, 100, 300, 1000);

	(void)state;
	policy_defaults(&cfg);
	assert_int_equal(sim_move(&s, &cfg), POLICY_STOP);
	assert_true(s.throttles >= 3);
	assert_true(s.blackout_s <= 0.05);
}

static void without_a_throttle_it_is_given_up_with_the_reason(void **state)
{
	struct policy_cfg cfg;
	struct sim s = sim_guest(2048, 100, 300, 1000);

	(void)state;
	policy_defaults(&cfg);
	cfg.throttle_max_percent = 0;
	cfg.throttle_first_percent = 0;
	assert_int_equal(sim_move(&s, &cfg), POLICY_GIVE_UP);
	assert_true(s.rounds < 10); /* no waste of time either */
	assert_non_null(strstr(s.last.reason, "throttling is off"));
	assert_non_null(strstr(s.last.reason, "limit 50 ms"));
}

static void a_hopeless_guest_is_given_up_at_full_throttle(void **state)
{
	struct policy_cfg cfg;
	struct sim s = sim_guest(2048, 10, 3000, 2000);

	(void)state;
	policy_defaults(&cfg);
	assert_int_equal(sim_move(&s, &cfg), POLICY_GIVE_UP);
	assert_int_equal(s.throttle, cfg.throttle_max_percent);
	assert_non_null(strstr(s.last.reason, "full throttle"));
}

static void an_overhead_above_the_limit_ends_it_after_the_first_round(void **state)
{
	struct policy_cfg cfg;
	struct sim s = sim_guest(2048, 1000, 10, 100);

	(void)state;
	policy_defaults(&cfg);
	cfg.overhead_ns = 60 * MS;
	assert_int_equal(sim_move(&s, &cfg), POLICY_GIVE_UP);
	assert_int_equal(s.rounds, 1);
	assert_non_null(strstr(s.last.reason, "alone"));
}

static void a_policy_without_a_limit_stops_after_the_first_round(void **state)
{
	struct policy_cfg cfg;
	struct sim s = sim_guest(2048, 10, 3000, 2000);

	(void)state;
	policy_defaults(&cfg);
	cfg.blackout_max_ns = UINT64_MAX;
	assert_int_equal(sim_move(&s, &cfg), POLICY_STOP);
	assert_int_equal(s.rounds, 1);
}

static void time_is_a_limit_too(void **state)
{
	struct policy_cfg cfg;
	struct sim s = sim_guest(8192, 100, 95, 4000);

	(void)state;
	policy_defaults(&cfg);
	cfg.time_max_ns = 90 * S;
	assert_int_equal(sim_move(&s, &cfg), POLICY_GIVE_UP);
	assert_non_null(strstr(s.last.reason, "within the time"));
}

static void a_guest_that_wakes_up_before_the_stop_is_let_go(void **state)
{
	struct policy_cfg cfg;
	struct policy p;
	struct policy_decision d;
	const struct policy_sample sample = {
		.now_ns = S,
		.sent_bytes = 1000000000,
		.took_ns = S,
		.pages = 244140,
		.rest_pages = 100,
		.rest_over_ns = S,
	};

	(void)state;
	policy_defaults(&cfg);
	policy_init(&p, &cfg, 0);
	for (uint32_t i = 1; i < cfg.stops_max; i++) {
		policy_round(&p, &sample, &d);
		assert_int_equal(d.action, POLICY_STOP);
		policy_stopped(&p, S, 100000, MS, &d); /* 400 ms worth of pages */
		assert_int_equal(d.action, POLICY_THROTTLE);
		assert_true(d.blackout_ns > cfg.blackout_max_ns);
	}
	policy_round(&p, &sample, &d);
	policy_stopped(&p, S, 100000, MS, &d);
	assert_int_equal(d.action, POLICY_GIVE_UP);
	assert_non_null(strstr(d.reason, "in vain"));
}

static void an_attempt_that_took_too_long_is_broken_off_and_repeated_slower(void **state)
{
	struct policy_cfg cfg;
	struct policy p;
	struct policy_decision d;
	const struct policy_sample sample = {.now_ns = S, .took_ns = S, .sent_bytes = 1 << 30};

	(void)state;
	policy_defaults(&cfg);
	policy_init(&p, &cfg, 0);
	policy_round(&p, &sample, &d);
	assert_int_equal(d.action, POLICY_STOP);
	policy_stopped(&p, S, 0, MS, &d);
	assert_int_equal(d.action, POLICY_STOP);
	policy_missed(&p, S, 51 * MS, &d);
	assert_int_equal(d.action, POLICY_THROTTLE);
	assert_int_equal(d.throttle_percent, cfg.throttle_first_percent);
}

static void a_link_that_just_slowed_down_counts_at_once(void **state)
{
	struct policy_cfg cfg;
	struct policy p;
	struct policy_decision d;
	struct policy_sample s = {
		.now_ns = S,
		.sent_bytes = 1000000000,
		.took_ns = S,
		.pages = 244140,
		.rest_pages = 25000,
		.rest_over_ns = S,
	};

	(void)state;
	policy_defaults(&cfg);
	policy_init(&p, &cfg, 0);
	policy_round(&p, &s, &d);
	assert_int_equal(d.bandwidth_bytes_s, 1000000000);
	assert_int_equal(d.action, POLICY_CONTINUE);
	assert_true(d.finish_ns < S);
	s.sent_bytes = 102400000;
	s.pages = 25000;
	s.rest_pages = 5000; /* 20 ms at the old pace, 200 at the new */
	policy_round(&p, &s, &d);
	assert_int_equal(d.bandwidth_bytes_s, 102400000);
	assert_int_equal(d.action, POLICY_CONTINUE);
}

/* Every mix of links and guests: properties are checked inside sim_move(). */
static void every_profile_ends_within_the_limit_or_with_a_reason(void **state)
{
	static const double links[] = {10, 100, 1000, 10000};
	static const double dirty[] = {0, 1, 30, 100, 300, 1000, 5000, 20000};
	static const double working[] = {0.1, 1, 10, 100, 1000, 8000};
	static const double limits_ms[] = {10, 20, 50, 300};
	unsigned stopped = 0;
	unsigned given_up = 0;

	(void)state;
	for (unsigned i = 0; i < 4 * 8 * 6 * 4 * 3; i++) {
		struct policy_cfg cfg;
		struct sim s = sim_guest(8192, links[i % 4], dirty[i / 4 % 8], working[i / 32 % 6]);

		policy_defaults(&cfg);
		cfg.blackout_max_ns = sim_ns(limits_ms[i / 192 % 4] / 1000);
		s.seed = i;
		unsigned jitter = i / 768;

		s.link_jitter = jitter * 0.15; /* 0, 15, 30 % */
		if (sim_move(&s, &cfg) == POLICY_STOP) {
			stopped++;
			/* The link may be slower than it ever was before: by the jitter. */
			assert_true(s.blackout_s * 1e9 <=
			            (double)cfg.blackout_max_ns * (1 + 2.5 * s.link_jitter));
		} else {
			given_up++;
			assert_true(s.blackout_s < 0);
		}
		assert_true(s.lost_s <= 0.002);
	}
	assert_true(stopped > 1000); /* neither answer to everything */
	assert_true(given_up > 20);
}

static void a_configuration_out_of_range_is_refused(void **state)
{
	struct policy_cfg good;
	struct policy_cfg c;

	(void)state;
	policy_defaults(&good);
	assert_null(policy_cfg_valid(&good));
	c = good;
	c.blackout_max_ns = 0;
	assert_non_null(policy_cfg_valid(&c));
	c = good;
	c.rounds_max = 1;
	assert_non_null(policy_cfg_valid(&c));
	c = good;
	c.throttle_max_percent = 100;
	assert_non_null(policy_cfg_valid(&c));
	c = good;
	c.throttle_step_percent = 0;
	assert_non_null(policy_cfg_valid(&c));
	c = good;
	c.stops_max = 0;
	assert_non_null(policy_cfg_valid(&c));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_idle_guest_moves_at_once),
		cmocka_unit_test(a_moderate_writer_moves_without_a_throttle),
		cmocka_unit_test(a_writer_faster_than_the_link_is_throttled_step_by_step),
		cmocka_unit_test(without_a_throttle_it_is_given_up_with_the_reason),
		cmocka_unit_test(a_hopeless_guest_is_given_up_at_full_throttle),
		cmocka_unit_test(an_overhead_above_the_limit_ends_it_after_the_first_round),
		cmocka_unit_test(a_policy_without_a_limit_stops_after_the_first_round),
		cmocka_unit_test(time_is_a_limit_too),
		cmocka_unit_test(a_guest_that_wakes_up_before_the_stop_is_let_go),
		cmocka_unit_test(an_attempt_that_took_too_long_is_broken_off_and_repeated_slower),
		cmocka_unit_test(a_link_that_just_slowed_down_counts_at_once),
		cmocka_unit_test(every_profile_ends_within_the_limit_or_with_a_reason),
		cmocka_unit_test(a_configuration_out_of_range_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
