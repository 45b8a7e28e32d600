/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/policy/policy.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>

#include "base/check.h"

#define POLICY_PAGE_BYTES 4096.0
#define POLICY_NS_PER_S 1e9
#define POLICY_RESERVE 0.8 /* stop only when the forecast uses no more of the limit */
#define POLICY_SAMPLE_BYTES_MIN (1u << 20) /* less says more about latency than bandwidth */
#define POLICY_PROGRESS 0.75   /* the rest must fall to this share, or the round was a stall */
#define POLICY_STALLS_MAX 2u   /* stalls in a row before anything is done about it */
#define POLICY_HOPELESS_MAX 3u /* the same with the throttle at its end */
#define POLICY_BANDWIDTH_MIN 1.0

void policy_defaults(struct policy_cfg *cfg)
{
	*cfg = (struct policy_cfg){
		.blackout_max_ns = 50ull * 1000 * 1000,
		.overhead_ns = 5ull * 1000 * 1000,
		.rounds_max = 64,
		.stops_max = 4,
		.throttle_max_percent = 95,
		.throttle_first_percent = 20,
		.throttle_step_percent = 10,
	};
}

const char *policy_cfg_valid(const struct policy_cfg *cfg)
{
	if (cfg->blackout_max_ns == 0) {
		return "the blackout limit is 0";
	}
	if (cfg->rounds_max < 2) {
		return "at least 2 rounds are needed";
	}
	if (cfg->stops_max < 1) {
		return "at least one attempt to stop is needed";
	}
	if (cfg->throttle_max_percent > 99 ||
	    cfg->throttle_first_percent > cfg->throttle_max_percent ||
	    cfg->throttle_step_percent == 0 || cfg->throttle_step_percent > 99) {
		return "the throttle is out of range";
	}
	return NULL;
}

void policy_init(struct policy *p, const struct policy_cfg *cfg, uint64_t now_ns)
{
	CHECK(policy_cfg_valid(cfg) == NULL);
	*p = (struct policy){
		.cfg = *cfg,
		.start_ns = now_ns,
		.bytes_per_page = POLICY_PAGE_BYTES,
	};
}

void policy_overhead(struct policy *p, uint64_t overhead_ns)
{
	p->cfg.overhead_ns = overhead_ns;
}

static double policy_min(double a, double b)
{
	return a < b ? a : b;
}

static uint64_t policy_u64(double v)
{
	return v >= 1.8e19 ? UINT64_MAX : v <= 0 ? 0 : (uint64_t)v;
}

/* The bandwidth that a forecast may count on [bytes/s]; 0 = nothing was measured. */
static double policy_bandwidth(const struct policy *p)
{
	return policy_min(p->bandwidth, p->bandwidth_last);
}

static double policy_blackout_ns(const struct policy *p, uint64_t rest_pages)
{
	double bandwidth = policy_bandwidth(p);
	double bytes = (double)rest_pages * p->bytes_per_page;
	double copy = 0;

	if (rest_pages != 0) {
		copy = bandwidth < POLICY_BANDWIDTH_MIN ? 1.8e19
		                                        : bytes / bandwidth * POLICY_NS_PER_S;
	}
	return copy + (double)p->cfg.overhead_ns;
}

static bool policy_fits(const struct policy *p, double blackout_ns)
{
	return p->cfg.blackout_max_ns == UINT64_MAX ||
	       blackout_ns <= (double)p->cfg.blackout_max_ns * POLICY_RESERVE;
}

static void policy_measure(struct policy *p, const struct policy_sample *s)
{
	if (s->took_ns != 0 && s->sent_bytes >= POLICY_SAMPLE_BYTES_MIN) {
		double now = (double)s->sent_bytes / (double)s->took_ns * POLICY_NS_PER_S;

		p->bandwidth = p->bandwidth > 0 ? (p->bandwidth + now) / 2 : now;
		p->bandwidth_last = now;
	} else if (p->bandwidth <= 0 && s->took_ns != 0) {
		/* A tiny guest: better a low figure than none. */
		p->bandwidth = (double)s->sent_bytes / (double)s->took_ns * POLICY_NS_PER_S;
		p->bandwidth_last = p->bandwidth;
	}
	if (s->pages != 0) {
		/* What is written is seldom zero: half way up to a full page. */
		double now = (double)s->sent_bytes / (double)s->pages;

		p->bytes_per_page =
			policy_min(POLICY_PAGE_BYTES * 1.01, (now + POLICY_PAGE_BYTES) / 2);
	}
	if (s->rest_over_ns != 0) {
		p->dirty = (double)s->rest_pages * POLICY_PAGE_BYTES / (double)s->rest_over_ns *
		           POLICY_NS_PER_S;
	}
}

/* Fill in the figures; returns the forecast of the blackout [ns]. */
static double policy_figures(const struct policy *p, uint64_t rest_pages,
                             struct policy_decision *out)
{
	double blackout = policy_blackout_ns(p, rest_pages);
	double bandwidth = policy_bandwidth(p);
	double rest = (double)rest_pages * p->bytes_per_page;

	*out = (struct policy_decision){
		.throttle_percent = p->throttle_percent,
		.bandwidth_bytes_s = policy_u64(bandwidth),
		.dirty_bytes_s = policy_u64(p->dirty),
		.rest_bytes = policy_u64(rest),
		.blackout_ns = policy_u64(blackout),
		.finish_ns = UINT64_MAX,
	};
	if (policy_fits(p, blackout)) {
		out->finish_ns = out->blackout_ns;
	} else if (bandwidth > p->dirty && bandwidth >= POLICY_BANDWIDTH_MIN) {
		/* Rounds shrink by dirty/bandwidth each: a geometric series. */
		out->finish_ns = policy_u64(rest / (bandwidth - p->dirty) * POLICY_NS_PER_S +
		                            (double)p->cfg.overhead_ns);
	}
	return blackout;
}

static void policy_give_up(struct policy_decision *d, const struct policy *p, const char *why)
{
	d->action = POLICY_GIVE_UP;
	(void)snprintf(d->reason, sizeof(d->reason),
	               "%s: the guest dirties %" PRIu64 " MB/s, the link moves %" PRIu64
	               " MB/s, blackout would be %" PRIu64 " ms (limit %" PRIu64 " ms)",
	               why, d->dirty_bytes_s / 1000000, d->bandwidth_bytes_s / 1000000,
	               d->blackout_ns / 1000000, p->cfg.blackout_max_ns / 1000000);
}

static bool policy_throttle_more(struct policy *p)
{
	uint32_t now = p->throttle_percent;
	uint32_t next =
		now == 0 ? p->cfg.throttle_first_percent : now + p->cfg.throttle_step_percent;

	if (next > p->cfg.throttle_max_percent) {
		next = p->cfg.throttle_max_percent;
	}
	if (next <= now) {
		return false;
	}
	p->throttle_percent = next;
	return true;
}

/* Not yet good enough: another round, slower if the last ones brought nothing. */
static void policy_go_on(struct policy *p, uint64_t now_ns, struct policy_decision *out)
{
	out->action = POLICY_CONTINUE;
	if (!policy_fits(p, (double)p->cfg.overhead_ns)) {
		policy_give_up(out, p, "state and hand-off alone need more than the limit allows");
		return;
	}
	if (p->rounds >= p->cfg.rounds_max) {
		policy_give_up(out, p, "no end after the greatest number of rounds");
		return;
	}
	if (p->cfg.time_max_ns != 0 && now_ns - p->start_ns >= p->cfg.time_max_ns) {
		policy_give_up(out, p, "no end within the time that the move may take");
		return;
	}
	if (p->stalls < POLICY_STALLS_MAX) {
		(void)snprintf(out->reason, sizeof(out->reason), "the rest is copied in %s round",
		               p->rounds == 1 ? "a second" : "another");
		return;
	}
	if (policy_throttle_more(p)) {
		/* A new pace needs a round to show. */
		p->stalls = POLICY_STALLS_MAX - 1;
		out->action = POLICY_THROTTLE;
		out->throttle_percent = p->throttle_percent;
		(void)snprintf(out->reason, sizeof(out->reason),
		               "the rest does not shrink: vCPUs slowed down by %" PRIu32 " %%",
		               p->throttle_percent);
		return;
	}
	if (p->stalls >= POLICY_HOPELESS_MAX) {
		policy_give_up(out, p,
		               p->cfg.throttle_max_percent == 0
		                       ? "memory changes too fast, throttling is off"
		                       : "memory changes too fast even at full throttle");
		return;
	}
	(void)snprintf(out->reason, sizeof(out->reason), "full throttle, one more round");
}

void policy_round(struct policy *p, const struct policy_sample *sample, struct policy_decision *out)
{
	p->rounds++;
	p->stopped = false;
	policy_measure(p, sample);

	double blackout = policy_figures(p, sample->rest_pages, out);
	double rest = (double)out->rest_bytes;

	if (policy_fits(p, blackout)) {
		out->action = POLICY_STOP;
		p->stopped = true;
		(void)snprintf(out->reason, sizeof(out->reason), "blackout forecast %" PRIu64 " us",
		               out->blackout_ns / 1000);
		return;
	}
	if (p->rounds == 1 || rest <= p->rest_best * POLICY_PROGRESS) {
		p->stalls = 0;
	} else {
		p->stalls++;
	}
	if (p->rounds == 1 || rest < p->rest_best) {
		p->rest_best = rest;
	}
	policy_go_on(p, sample->now_ns, out);
}

/* An attempt failed: the guest was faster than the forecast. */
static void policy_again(struct policy *p, uint64_t now_ns, struct policy_decision *out)
{
	p->stopped = false;
	p->stops++;
	if (p->stops >= p->cfg.stops_max) {
		policy_give_up(out, p, "the vCPUs were stopped in vain too often");
		return;
	}
	p->stalls = POLICY_STALLS_MAX; /* slower next time */
	policy_go_on(p, now_ns, out);
}

void policy_stopped(struct policy *p, uint64_t now_ns, uint64_t rest_pages, uint64_t elapsed_ns,
                    struct policy_decision *out)
{
	CHECK(p->stopped);

	double blackout = policy_figures(p, rest_pages, out) + (double)elapsed_ns;

	out->blackout_ns = policy_u64(blackout);
	/* The reserve was for what came in between: here the limit itself counts. */
	if (p->cfg.blackout_max_ns == UINT64_MAX || blackout <= (double)p->cfg.blackout_max_ns) {
		out->action = POLICY_STOP;
		(void)snprintf(out->reason, sizeof(out->reason), "blackout forecast %" PRIu64 " us",
		               out->blackout_ns / 1000);
		return;
	}
	policy_again(p, now_ns, out);
}

void policy_missed(struct policy *p, uint64_t now_ns, uint64_t elapsed_ns,
                   struct policy_decision *out)
{
	CHECK(p->stopped);
	(void)policy_figures(p, 0, out);
	out->blackout_ns = elapsed_ns;
	policy_again(p, now_ns, out);
}
