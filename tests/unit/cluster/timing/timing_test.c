/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/timing/timing.h"

#include <errno.h>
#include <string.h>

#include "base/errbuf.h"
#include "tests/lib/test.h"

#define MS 1000000ull

static void the_values_that_ship_are_accepted(void **state)
{
	struct errbuf eb = {0};
	struct timing_cfg cfg;
	struct timing t;

	(void)state;
	timing_default(&cfg);
	assert_int_equal(timing_init(&cfg, &t, &eb), 0);
	assert_int_equal(t.pause_ns, 6000 * MS);
	assert_int_equal(t.pet_until_ns, 6000 * MS);
	assert_int_equal(t.detect_max_ns, 2220 * MS);
	/* 10 s times 1.001 / 0.999 is 10.02002..., and the margin. */
	assert_in_range(t.expire_ns, 10070 * MS, 10071 * MS);
	assert_int_equal(t.quiet_ns, t.expire_ns + 1000 * MS);
	timing_fast(&cfg);
	assert_int_equal(timing_init(&cfg, &t, &eb), 0);
}

static void every_token_has_a_lease(void **state)
{
	(void)state;
	for (uint32_t token_ms = 500; token_ms <= 60000; token_ms += 100) {
		struct timing_cfg cfg;
		struct timing t;
		struct errbuf eb = {0};

		timing_for_token(token_ms, &cfg);
		assert_int_equal(timing_init(&cfg, &t, &eb), 0);
		assert_true(cfg.lease_ms >= 10000);
		/* Not much longer than needed. */
		assert_true(cfg.lease_ms == 10000 || cfg.lease_ms <= 6 * token_ms + 4000);
		/* Some may be lost before VMs stand still. */
		assert_true(cfg.renew_ms >= 1000 && 6 * t.renew_ns <= t.pause_ns);
		assert_true(cfg.renew_ms == 1000 || 3 * cfg.renew_ms <= token_ms);
	}
}

/* What the whole argument rests on, for every configuration that is accepted. */
static void the_ladder_ends_before_the_others_conclude(void **state)
{
	uint32_t accepted = 0;

	(void)state;
	for (uint32_t lease_ms = 2000; lease_ms <= 60000; lease_ms += 1000) {
		for (uint32_t watchdog_ms = 1000; watchdog_ms <= 30000; watchdog_ms += 1000) {
			for (uint32_t drift = 1; drift <= 100000; drift *= 10) {
				struct timing_cfg cfg;
				struct timing t;

				timing_default(&cfg);
				cfg.lease_ms = lease_ms;
				cfg.watchdog_ms = watchdog_ms;
				cfg.drift_ppm = drift;
				cfg.renew_ms = lease_ms / 10;
				cfg.slot_ms = lease_ms / 10;
				if (timing_init(&cfg, &t, NULL) < 0) {
					continue;
				}
				accepted++;
				assert_true(t.warn_ns < t.pause_ns && t.pause_ns < t.kill_ns &&
				            t.kill_ns < t.lease_ns);
				assert_true(t.pet_until_ns + watchdog_ms * MS <= t.lease_ns);
				/* In real time: the slowest holder against the fastest observer. */
				double slow = (double)t.lease_ns * (1.0 + drift / 1e6);
				double fast = (double)t.expire_ns * (1.0 - drift / 1e6);

				assert_true(fast > slow);
				assert_true(t.renew_ns + t.detect_max_ns < t.pause_ns);
			}
		}
	}
	assert_true(accepted > 500);
}

static void refuse(void (*change)(struct timing_cfg *cfg), const char *text, const char *hint)
{
	struct errbuf eb = {0};
	struct timing_cfg cfg;
	struct timing t = {.warn_ns = 42};

	timing_default(&cfg);
	change(&cfg);
	assert_int_equal(timing_init(&cfg, &t, &eb), -EINVAL);
	assert_int_equal(t.warn_ns, 42);
	if (strstr(eb.text, text) == NULL || strstr(eb.hint, hint) == NULL) {
		print_message("text: %s\nhint: %s\n", eb.text, eb.hint);
		fail();
	}
}

static void late_watchdog(struct timing_cfg *cfg)
{
	cfg->watchdog_ms = 5000;
}

static void uneven_watchdog(struct timing_cfg *cfg)
{
	cfg->watchdog_ms = 1500;
}

static void rare_renewals(struct timing_cfg *cfg)
{
	cfg->renew_ms = 2001;
}

static void rare_slots(struct timing_cfg *cfg)
{
	cfg->slot_ms = 2001;
}

static void slow_detection(struct timing_cfg *cfg)
{
	cfg->token_ms = 10000;
	cfg->consensus_ms = 12000;
}

static void short_consensus(struct timing_cfg *cfg)
{
	cfg->consensus_ms = 1100;
}

static void nervous_token(struct timing_cfg *cfg)
{
	cfg->token_ms = 200;
}

static void no_drift(struct timing_cfg *cfg)
{
	cfg->drift_ppm = 0;
}

static void contradictions_are_refused_with_a_way_out(void **state)
{
	(void)state;
	refuse(late_watchdog, "watchdog_ms 5000 is not below half of lease_ms 10000",
	       "lease_ms 11000 or watchdog_ms 4000");
	refuse(uneven_watchdog, "whole seconds", "");
	refuse(rare_renewals, "renew_ms 2001 and slot_ms 1000 must be at most a fifth", "2000");
	refuse(rare_slots, "slot_ms 2001", "2000");
	refuse(slow_detection, "could not renew for 23520 ms but pause their VMs after 6000 ms",
	       "lease_ms 39200");
	refuse(short_consensus, "consensus_ms 1100 is less than 1.2 times token_ms 1000",
	       "consensus_ms 1200");
	refuse(nervous_token, "token_ms is 200, must be 500 to 60000", "");
	refuse(no_drift, "drift_ppm is 0", "");
}

static void the_way_out_that_a_hint_names_is_one(void **state)
{
	struct timing_cfg cfg;
	struct timing t;

	(void)state;
	timing_default(&cfg);
	slow_detection(&cfg);
	cfg.lease_ms = 39200;
	assert_int_equal(timing_init(&cfg, &t, NULL), 0);
	timing_default(&cfg);
	late_watchdog(&cfg);
	cfg.lease_ms = 11000;
	assert_int_equal(timing_init(&cfg, &t, NULL), 0);
}

static void the_silence_of_an_unguarded_node_proves_nothing(void **state)
{
	const struct timing_node good = {
		.watchdog = true, .watchdog_got_ms = 4000, .clock_stable = true};
	struct timing_node n = good;
	struct errbuf eb = {0};
	struct timing_cfg cfg;
	struct timing t;

	(void)state;
	timing_default(&cfg);
	assert_int_equal(timing_init(&cfg, &t, NULL), 0);
	assert_int_equal(timing_check_node(&t, &n, &eb), 0);
	n.watchdog = false;
	assert_int_equal(timing_check_node(&t, &n, &eb), -ENODEV);
	assert_non_null(strstr(eb.hint, "power fence device"));
	n = good;
	n.watchdog_got_ms = 60000;
	assert_int_equal(timing_check_node(&t, &n, &eb), -ERANGE);
	assert_non_null(strstr(eb.text, "60000 ms, asked for 4000 ms"));
	n = good;
	n.watchdog_soft = true;
	assert_int_equal(timing_check_node(&t, &n, &eb), -EPERM);
	n.soft_watchdog_allowed = true;
	assert_int_equal(timing_check_node(&t, &n, &eb), 0);
	n = good;
	n.clock_stable = false;
	assert_int_equal(timing_check_node(&t, &n, &eb), -ESTALE);
	n = good;
	n.virtual_machine = true;
	assert_int_equal(timing_check_node(&t, &n, &eb), -ESTALE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_values_that_ship_are_accepted),
		cmocka_unit_test(every_token_has_a_lease),
		cmocka_unit_test(the_ladder_ends_before_the_others_conclude),
		cmocka_unit_test(contradictions_are_refused_with_a_way_out),
		cmocka_unit_test(the_way_out_that_a_hint_names_is_one),
		cmocka_unit_test(the_silence_of_an_unguarded_node_proves_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
