/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/timing/timing.h"

#include <errno.h>

#include "base/errbuf.h"

#define NS_PER_MS 1000000ull
#define PPM 1000000ull

/* corosync refuses a token below 30 ms times (retransmits + 0.2), 4 retransmits; below half a
 * second rings re-form under load without a fault (measured on two busy cores). */
#define RING_MS 20u /* to form a ring, once consensus is reached; measured */
#define TOKEN_MS_MIN 500u
#define TOKEN_MS_MAX 60000u
#define LEASE_MS_MIN 2000u
#define LEASE_MS_MAX 600000u
#define DRIFT_PPM_MAX 100000u /* one in ten: beyond it no clock deserves the name */

void timing_default(struct timing_cfg *cfg)
{
	*cfg = (struct timing_cfg){
		.token_ms = 1000,
		.consensus_ms = 1200,
		.renew_ms = 1000,
		.slot_ms = 1000,
		.lease_ms = 10000,
		.watchdog_ms = 4000,
		.drift_ppm = 1000,
		.margin_ms = 50,
		.inflight_ms = 1000,
		.install_ms = 500,
	};
}

void timing_fast(struct timing_cfg *cfg)
{
	timing_default(cfg);
	cfg->renew_ms = 500;
	cfg->slot_ms = 500;
	cfg->lease_ms = 5000;
	cfg->watchdog_ms = 2000;
	cfg->install_ms = 250;
}

static uint64_t ns(uint32_t ms)
{
	return ms * NS_PER_MS;
}

/* How long no renewal is committed, at most, while a ring forms without a dead node [ms]. */
static uint64_t gap_ms(const struct timing_cfg *c)
{
	return (uint64_t)c->renew_ms + c->token_ms + c->consensus_ms + RING_MS + c->install_ms;
}

void timing_for_token(uint32_t token_ms, struct timing_cfg *cfg)
{
	timing_default(cfg);
	cfg->token_ms = token_ms;
	cfg->consensus_ms = token_ms + token_ms / 5 + 1;
	/* Each renewal is a message and a sync of every node. They leave on ticks of 100 ms. */
	if (token_ms / 3 > cfg->renew_ms) {
		cfg->renew_ms = token_ms / 300 * 100;
	}

	/* The gap fits in 0.6 L; whole seconds are easier to remember. */
	uint64_t lease_ms = (gap_ms(cfg) * 10 / 6 + 1000) / 1000 * 1000;

	if (lease_ms > cfg->lease_ms) {
		cfg->lease_ms = (uint32_t)lease_ms;
	}
}

/* @span on a clock that may be slow, seen on one that may be fast; rounded up. */
static uint64_t stretched(uint64_t span_ns, uint32_t drift_ppm)
{
	uint64_t below = PPM - drift_ppm;

	return (span_ns / below * (PPM + drift_ppm)) +
	       (span_ns % below * (PPM + drift_ppm) + below - 1) / below;
}

uint64_t timing_expire_ns(const struct timing *t, uint32_t lease_ms)
{
	return stretched(ns(lease_ms), t->cfg.drift_ppm) + ns(t->cfg.margin_ms);
}

static void ladder(uint64_t lease_ns, uint64_t watchdog_ns, struct timing_rungs *out)
{
	*out = (struct timing_rungs){
		.warn_ns = lease_ns / 2,
		.pause_ns = lease_ns / 10 * 6,
		.kill_ns = lease_ns / 10 * 8,
		.pet_until_ns = lease_ns > watchdog_ns ? lease_ns - watchdog_ns : 0,
		.over_ns = lease_ns,
	};
}

void timing_rungs(const struct timing *t, uint64_t lease_ns, struct timing_rungs *out)
{
	ladder(lease_ns < t->lease_ns ? lease_ns : t->lease_ns, ns(t->cfg.watchdog_ms), out);
}

static void derive(const struct timing_cfg *c, struct timing *t)
{
	struct timing_rungs rungs;

	ladder(ns(c->lease_ms), ns(c->watchdog_ms), &rungs);
	*t = (struct timing){
		.cfg = *c,
		/* The token is held for up to a sixth of its time when a node dies; measured. */
		.detect_min_ns = ns(c->token_ms) + ns(c->consensus_ms) - ns(c->token_ms) / 6,
		.detect_max_ns = ns(c->token_ms) + ns(c->consensus_ms) + ns(RING_MS),
		.warn_ns = rungs.warn_ns,
		.pause_ns = rungs.pause_ns,
		.kill_ns = rungs.kill_ns,
		.pet_until_ns = rungs.pet_until_ns,
		.lease_ns = rungs.over_ns,
		.renew_ns = ns(c->renew_ms),
		.slot_ns = ns(c->slot_ms),
	};
	t->expire_ns = timing_expire_ns(t, c->lease_ms);
	t->quiet_ns = t->expire_ns + ns(c->inflight_ms);
}

static int range(const char *what, uint32_t value, uint32_t min, uint32_t max, struct errbuf *eb)
{
	if (value >= min && value <= max) {
		return 0;
	}
	return errbuf_set(eb, -EINVAL, "timing: %s is %u, must be %u to %u", what, value, min, max);
}

static int check_ranges(const struct timing_cfg *c, struct errbuf *eb)
{
	int err = range("token_ms", c->token_ms, TOKEN_MS_MIN, TOKEN_MS_MAX, eb);

	if (err == 0) {
		err = range("consensus_ms", c->consensus_ms, 0, 2 * TOKEN_MS_MAX, eb);
	}
	if (err == 0) {
		err = range("lease_ms", c->lease_ms, LEASE_MS_MIN, LEASE_MS_MAX, eb);
	}
	if (err == 0) {
		err = range("renew_ms", c->renew_ms, 50, LEASE_MS_MAX, eb);
	}
	if (err == 0) {
		err = range("slot_ms", c->slot_ms, 50, LEASE_MS_MAX, eb);
	}
	if (err == 0) {
		err = range("drift_ppm", c->drift_ppm, 1, DRIFT_PPM_MAX, eb);
	}
	if (err == 0) {
		err = range("margin_ms", c->margin_ms, 10, 10000, eb);
	}
	if (err == 0) {
		err = range("inflight_ms", c->inflight_ms, 0, 600000, eb);
	}
	if (err == 0) {
		err = range("install_ms", c->install_ms, 50, 60000, eb);
	}
	if (err == 0) {
		err = range("watchdog_ms", c->watchdog_ms, 1000, LEASE_MS_MAX, eb);
	}
	return err;
}

/* The holder's own ladder: each rung before the next, the watchdog last and in time. */
static int check_ladder(const struct timing_cfg *c, struct errbuf *eb)
{
	if (c->watchdog_ms % 1000 != 0) {
		return errbuf_set(eb, -EINVAL,
		                  "timing: watchdog_ms is %u: a watchdog counts whole seconds",
		                  c->watchdog_ms);
	}
	if (c->watchdog_ms >= c->lease_ms / 2) {
		errbuf_set(eb, -EINVAL, "timing: watchdog_ms %u is not below half of lease_ms %u",
		           c->watchdog_ms, c->lease_ms);
		errbuf_hint(eb,
		            "a node that hangs must be reset inside its lease: lease_ms %u "
		            "or watchdog_ms %u",
		            2 * c->watchdog_ms + 1000, (c->lease_ms / 2 - 1) / 1000 * 1000);
		return -EINVAL;
	}
	if (c->renew_ms > c->lease_ms / 5 || c->slot_ms > c->lease_ms / 5) {
		errbuf_set(eb, -EINVAL,
		           "timing: renew_ms %u and slot_ms %u must be at most a fifth of lease_ms "
		           "%u",
		           c->renew_ms, c->slot_ms, c->lease_ms);
		errbuf_hint(eb, "one lost renewal must not cost the lease: at most %u",
		            c->lease_ms / 5);
		return -EINVAL;
	}
	return 0;
}

int timing_init(const struct timing_cfg *cfg, struct timing *out, struct errbuf *eb)
{
	struct timing t;
	int err = check_ranges(cfg, eb);

	if (err == 0 && (uint64_t)cfg->consensus_ms * 10 < (uint64_t)cfg->token_ms * 12) {
		err = errbuf_set(eb, -EINVAL,
		                 "timing: consensus_ms %u is less than 1.2 times token_ms %u",
		                 cfg->consensus_ms, cfg->token_ms);
		errbuf_hint(eb, "corosync needs the time to agree: consensus_ms %u",
		            (cfg->token_ms * 12 + 9) / 10);
	}
	if (err == 0) {
		err = check_ladder(cfg, eb);
	}
	if (err < 0) {
		return err;
	}
	derive(cfg, &t);

	/* No renewal is committed while a ring re-forms. Whoever survives must not come near the
	 * rung where its own VMs stop: else one dead node resets all. */
	uint64_t gap = gap_ms(cfg) * NS_PER_MS;

	if (gap > t.pause_ns) {
		uint64_t need_ms = (gap * 10 / 6 + NS_PER_MS - 1) / NS_PER_MS;

		errbuf_set(eb, -EINVAL,
		           "timing: survivors of a failure could not renew for %llu ms but pause "
		           "their VMs after %llu ms",
		           (unsigned long long)(gap / NS_PER_MS),
		           (unsigned long long)(t.pause_ns / NS_PER_MS));
		errbuf_hint(eb,
		            "renew_ms + token_ms + consensus_ms + install_ms must fit in 0.6 "
		            "lease_ms: lease_ms %llu, or a shorter token",
		            (unsigned long long)need_ms);
		return -EINVAL;
	}
	*out = t;
	return 0;
}

int timing_check_node(const struct timing *t, const struct timing_node *node, struct errbuf *eb)
{
	int err = 0;

	if (!node->watchdog) {
		err = errbuf_set(eb, -ENODEV, "timing: no watchdog is armed");
	} else if (node->watchdog_got_ms != t->cfg.watchdog_ms) {
		err = errbuf_set(eb, -ERANGE,
		                 "timing: the watchdog has a timeout of %u ms, asked for %u ms",
		                 node->watchdog_got_ms, t->cfg.watchdog_ms);
	} else if (node->watchdog_soft && !node->soft_watchdog_allowed) {
		err = errbuf_set(eb, -EPERM,
		                 "timing: only a software watchdog, which hangs with its kernel");
	} else if (!node->clock_stable) {
		err = errbuf_set(eb, -ESTALE, "timing: the clock source is not stable");
	} else if (node->virtual_machine) {
		err = errbuf_set(eb, -ESTALE,
		                 "timing: a virtual machine does not notice when it is suspended");
	}
	if (err < 0) {
		errbuf_hint(eb, "its silence proves nothing: configure a power fence device or "
		                "storage with persistent reservations");
	}
	return err;
}
