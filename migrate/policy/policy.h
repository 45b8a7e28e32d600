/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MIGRATE_POLICY_POLICY_H
#define MIGRATE_POLICY_POLICY_H

/*
 * policy - when to stop the vCPUs of a moving partition, and when to give up.
 *
 * After each round the caller reports what it measured; policy forecasts how long the blackout
 * would be if the vCPUs stopped now, and decides:
 *
 *	CONTINUE   another round: the rest shrinks
 *	THROTTLE   another round with the vCPUs slowed down further, because it does not
 *	STOP       the forecast is below the limit (less a reserve): stop and copy
 *	GIVE_UP    it cannot converge within the limits; the text says why and what would help
 *
 * The guest goes on writing between the decision and the stop, so the caller reports once more
 * what is left when the vCPUs stand: policy_stopped() confirms or sends it back to another round.
 * So the limit is never exceeded by a decision that the figures did not allow.
 *
 *	forecast = rest / bandwidth + overhead     overhead: state, hand-off, the peer's load
 *
 * Bandwidth is the lower of the last round's and a moving average: a link that just slowed down
 * counts at once, one that sped up after it has proved it. A round too small to measure anything
 * does not count.
 *
 * Properties (tests/unit/migrate/policy): a STOP is never given when the forecast exceeds the
 * limit; every sequence of samples ends within rounds_max rounds or time_max; the throttle only
 * grows during one attempt, up to throttle_max_percent.
 *
 * Pure: no clock, no allocation; time is what the caller says.
 */

#include <stdbool.h>
#include <stdint.h>

#define POLICY_REASON_MAX 200

enum policy_action { POLICY_CONTINUE, POLICY_THROTTLE, POLICY_STOP, POLICY_GIVE_UP };

struct policy_cfg {
	uint64_t blackout_max_ns;      /* limit; UINT64_MAX: any blackout is fine */
	uint64_t overhead_ns;          /* first guess: state, hand-off, two round trips */
	uint64_t time_max_ns;          /* give up after so long; 0 = no limit */
	uint32_t rounds_max;           /* give up after so many, 2.. */
	uint32_t stops_max;            /* failed attempts to stop before giving up, 1.. */
	uint32_t throttle_max_percent; /* 0 = never slow the guest down; ..99 */
	uint32_t throttle_first_percent;
	uint32_t throttle_step_percent; /* 1.. */
};

/* What was measured in one round. */
struct policy_sample {
	uint64_t now_ns;
	uint64_t sent_bytes;   /* on the wire */
	uint64_t took_ns;      /* until the last acknowledgement */
	uint64_t pages;        /* pages of this round, zero pages included */
	uint64_t rest_pages;   /* dirty now: the next round */
	uint64_t rest_over_ns; /* since the dirty log was last fetched: the time they needed */
};

struct policy_decision {
	enum policy_action action;
	uint32_t throttle_percent;  /* to be in force from now */
	uint64_t bandwidth_bytes_s; /* measured */
	uint64_t dirty_bytes_s;     /* measured */
	uint64_t rest_bytes;        /* on the wire, expected */
	uint64_t blackout_ns;       /* forecast, if stopped now */
	uint64_t finish_ns;         /* forecast from now; UINT64_MAX: does not converge like this */
	char reason[POLICY_REASON_MAX];
};

/* Value type; the caller embeds it and looks at nothing inside. */
struct policy {
	struct policy_cfg cfg;
	uint64_t start_ns;
	uint32_t rounds;
	uint32_t stops;  /* that policy_stopped() refused */
	uint32_t stalls; /* rounds in a row without progress */
	uint32_t throttle_percent;
	double bandwidth;      /* bytes/s, moving average; 0 = none yet */
	double bandwidth_last; /* of the last round that measured something */
	double bytes_per_page; /* on the wire: zero pages and packing make it less than 4096 */
	double dirty;          /* bytes/s of the last round */
	double rest_best;      /* smallest rest so far [bytes] */
	bool stopped;
};

/* policy_defaults() - 50 ms, 64 rounds, throttle 20, 30, ... 95 %, no limit of time. */
void policy_defaults(struct policy_cfg *cfg);

/* policy_cfg_valid() - NULL, or what is wrong (static text). */
const char *policy_cfg_valid(const struct policy_cfg *cfg);

/* policy_init() - @cfg is copied and CHECKed; @now_ns: when the first round starts. */
void policy_init(struct policy *p, const struct policy_cfg *cfg, uint64_t now_ns);

/* policy_overhead() - a better figure for overhead_ns: the state's size is known, a ping came
 * back, an attempt was measured. */
void policy_overhead(struct policy *p, uint64_t overhead_ns);

/* policy_round() - a round has ended: what now? */
void policy_round(struct policy *p, const struct policy_sample *sample,
                  struct policy_decision *out);

/*
 * policy_stopped() - the vCPUs stand after a STOP; @rest_pages are left, @elapsed_ns of the
 * blackout are over. Action is STOP (go on), or CONTINUE or THROTTLE (let them run again), or
 * GIVE_UP (the same, and end).
 */
void policy_stopped(struct policy *p, uint64_t now_ns, uint64_t rest_pages, uint64_t elapsed_ns,
                    struct policy_decision *out);

/* policy_missed() - an attempt was broken off because the limit was near: as policy_stopped(). */
void policy_missed(struct policy *p, uint64_t now_ns, uint64_t elapsed_ns,
                   struct policy_decision *out);

#endif
