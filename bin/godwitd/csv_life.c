/* SPDX-License-Identifier: Apache-2.0 */
#include "bin/godwitd/csv_life.h"

/* The time since it was first seen to have ended. */
static uint64_t ended_for(struct csv_life *l, uint64_t now_ns)
{
	if (l->ended_ns == 0) {
		l->ended_ns = now_ns;
	}
	return now_ns - l->ended_ns;
}

static enum csv_life_act ended(struct csv_life *l, const struct csv_life_seen *s)
{
	bool first = l->ended_ns == 0;

	l->fresh_ns = 0;
	l->silent_ns = 0;
	l->fence_ns = 0;
	l->killed = false;
	/* Without a run it was told nothing and did nothing; what is in the log is in the log. */
	if (s->run != s->guarded || s->gone) {
		l->ended_ns = 0;
		return CSV_LIFE_FORGET;
	}
	if (ended_for(l, s->now_ns) >= s->inflight_ns && !first) {
		return CSV_LIFE_GONE;
	}
	return first ? CSV_LIFE_ENDED : CSV_LIFE_WAIT;
}

/* Without the lease the guard has stopped it: then it cannot answer. */
static bool hangs(struct csv_life *l, const struct csv_life_seen *s)
{
	if (s->same || !s->may) {
		l->silent_ns = 0;
		return false;
	}
	if (l->silent_ns == 0) {
		l->silent_ns = s->now_ns;
	}
	return s->now_ns - l->silent_ns >= s->hang_ns;
}

/* Who is asked for has time for it once it was told everything, and while it may run. */
static bool in_the_way(struct csv_life *l, const struct csv_life_seen *s)
{
	if (s->run != s->guarded || s->fence != s->guarded || !s->may) {
		l->fence_ns = 0;
		return false;
	}
	if (l->fence_ns == 0 && s->same && s->informed) {
		l->fence_ns = s->now_ns;
	}
	return l->fence_ns != 0 && s->now_ns - l->fence_ns >= s->hang_ns;
}

static enum csv_life_act guarded(struct csv_life *l, const struct csv_life_seen *s)
{
	bool committed = s->run == s->guarded;
	bool hung = hangs(l, s);
	bool waited_for = in_the_way(l, s);

	l->ended_ns = 0;
	if (hung || waited_for || (committed && s->dead)) {
		return CSV_LIFE_KILL;
	}
	if (!s->same) {
		return CSV_LIFE_WAIT;
	}
	if (committed) {
		l->fresh_ns = 0;
		return s->gone ? CSV_LIFE_WAIT : CSV_LIFE_TELL;
	}
	/* The process before it may have sent something to a device. */
	if (l->fresh_ns == 0) {
		l->fresh_ns = s->now_ns;
	}
	return s->now_ns - l->fresh_ns >= s->inflight_ns ? CSV_LIFE_COMMIT : CSV_LIFE_WAIT;
}

enum csv_life_act csv_life_step(struct csv_life *l, const struct csv_life_seen *s)
{
	if (s->guarded != 0) {
		return s->lives ? guarded(l, s) : ended(l, s);
	}
	l->ended_ns = 0;
	l->fresh_ns = 0;
	l->silent_ns = 0;
	l->fence_ns = 0;
	l->killed = false;
	if (!s->answers) {
		return CSV_LIFE_WAIT;
	}
	return s->told != 0 ? CSV_LIFE_STRANGER : CSV_LIFE_ADOPT;
}

bool csv_life_clear(struct csv_life *l, bool lives, uint64_t now_ns, uint64_t inflight_ns)
{
	if (lives) {
		l->ended_ns = 0;
		return false;
	}
	return ended_for(l, now_ns) >= inflight_ns;
}
