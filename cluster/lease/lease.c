/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/lease/lease.h"

#include <errno.h>

#include "cluster/timing/timing.h"

#define NS_PER_MS 1000000ull

static uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t max_u64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

void lease_init(struct lease *l)
{
	*l = (struct lease){0};
}

uint64_t lease_send(struct lease *l, const struct timing *t, uint64_t now_ns)
{
	uint32_t oldest = 0;

	for (uint32_t i = 0; i < LEASE_PENDING_MAX; i++) {
		if (l->pending[i].seq < l->pending[oldest].seq) {
			oldest = i;
		}
	}
	l->pending[oldest].seq = ++l->seq;
	l->pending[oldest].sent_ns = now_ns;
	l->pending[oldest].lease_ns = t->lease_ns;
	return l->seq;
}

int lease_confirm(struct lease *l, uint64_t seq)
{
	if (seq == 0 || seq > l->seq) {
		return -EINVAL;
	}
	for (uint32_t i = 0; i < LEASE_PENDING_MAX; i++) {
		uint64_t sent = l->pending[i].sent_ns;

		if (l->pending[i].seq != seq) {
			continue;
		}
		l->pending[i].seq = 0;
		if (l->held && sent <= l->since_ns) {
			return -ESTALE;
		}
		l->held = true;
		l->since_ns = sent;
		l->lease_ns = l->pending[i].lease_ns;
		return 0;
	}
	return -ESTALE;
}

void lease_drop(struct lease *l)
{
	uint64_t seq = l->seq;

	/* The numbers go on, or an answer to an old renewal would confirm a new one. */
	*l = (struct lease){.seq = seq};
}

/* A clock that went backwards (it must not) makes it as old as can be. */
static uint64_t age(const struct lease *l, uint64_t now_ns)
{
	return l->held && now_ns >= l->since_ns ? now_ns - l->since_ns : UINT64_MAX;
}

enum lease_rung lease_rung(const struct lease *l, const struct timing *t, uint64_t now_ns)
{
	uint64_t old = age(l, now_ns);
	struct timing_rungs r;

	timing_rungs(t, l->lease_ns, &r);
	if (old >= r.over_ns) {
		return LEASE_OVER;
	}
	if (old >= r.kill_ns) {
		return LEASE_KILL;
	}
	if (old >= r.pause_ns) {
		return LEASE_PAUSE;
	}
	return old >= r.warn_ns ? LEASE_WARN : LEASE_OK;
}

bool lease_pettable(const struct lease *l, const struct timing *t, uint64_t now_ns)
{
	struct timing_rungs r;

	timing_rungs(t, l->lease_ns, &r);
	return age(l, now_ns) < r.pet_until_ns;
}

uint64_t lease_next_ns(const struct lease *l, const struct timing *t, uint64_t now_ns)
{
	uint64_t old = age(l, now_ns);
	uint64_t next = UINT64_MAX;
	struct timing_rungs r;

	timing_rungs(t, l->lease_ns, &r);

	const uint64_t edges[] = {r.warn_ns, r.pause_ns, r.kill_ns, r.pet_until_ns, r.over_ns};

	for (uint32_t i = 0; i < ARRAY_LEN(edges); i++) {
		if (old < edges[i]) {
			next = min_u64(next, l->since_ns + edges[i]);
		}
	}
	return next;
}

const struct lease *lease_best(const struct lease *a, const struct lease *b)
{
	if (!a->held || !b->held) {
		return a->held ? a : b;
	}
	return a->since_ns >= b->since_ns ? a : b;
}

const struct lease *lease_worst(const struct lease *a, const struct lease *b)
{
	return lease_best(a, b) == a ? b : a;
}

const char *lease_rung_name(enum lease_rung rung)
{
	switch (rung) {
	case LEASE_OK:
		return "ok";
	case LEASE_WARN:
		return "warn";
	case LEASE_PAUSE:
		return "pause";
	case LEASE_KILL:
		return "kill";
	case LEASE_OVER:
		return "over";
	}
	return "?";
}

/* When a lease of @lease_ms, learned of now, is over for certain, with all that it wrote. */
static uint64_t end(const struct timing *t, uint32_t lease_ms, uint64_t now_ns)
{
	return now_ns + timing_expire_ns(t, lease_ms) + t->cfg.inflight_ms * NS_PER_MS;
}

void lease_watch_start(struct lease_watch *w, const struct timing *t, uint32_t lease_ms,
                       uint64_t now_ns)
{
	*w = (struct lease_watch){.end_ns = end(t, lease_ms, now_ns)};
}

void lease_watch_seen(struct lease_watch *w, const struct timing *t, uint64_t seq,
                      uint32_t lease_ms, uint64_t now_ns)
{
	if (seq > w->seq) {
		w->seq = seq;
		/* An earlier, longer lease may still be all that the holder knows of. */
		w->end_ns = max_u64(w->end_ns, end(t, lease_ms, now_ns));
	}
}

bool lease_watch_over(const struct lease_watch *w, uint64_t now_ns)
{
	return now_ns >= w->end_ns;
}
