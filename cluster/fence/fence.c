/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/fence/fence.h"

#include <errno.h>
#include <string.h>

#include "base/fmt.h"
#include "base/text.h"
#include "cluster/timing/timing.h"

#define NS_PER_S 1000000000ull
#define NS_PER_MS 1000000ull
#define RETRY_MAX 5u /* 1, 2, 4, 8, 16, 32 s between tries */

void fence_init(struct fence *f, struct role_at at, uint64_t delay_ns, uint64_t now_ns)
{
	memset(f, 0, sizeof(*f));
	f->at = at;
	f->begin_ns = now_ns + delay_ns;
}

void fence_power_changed(struct fence *f)
{
	for (uint32_t level = 0; level < FENCE_LEVELS_MAX; level++) {
		for (uint32_t d = 0; d < FENCE_DEVICES_MAX; d++) {
			/* The number goes on: an answer to the last try is not heard. */
			f->off[level][d] = (struct fence_try){.number = f->off[level][d].number};
			f->heard[level][d] = f->off[level][d].number;
		}
	}
	f->level = 0;
}

void fence_storage_changed(struct fence *f)
{
	for (uint32_t v = 0; v < ROLE_VOLUMES_MAX; v++) {
		/* The number goes on, as above. */
		f->preempt[v] = (struct fence_try){.number = f->preempt[v].number};
	}
}

static uint64_t retry_ns(const struct fence_try *t)
{
	return NS_PER_S << (t->number < RETRY_MAX ? t->number - 1 : RETRY_MAX);
}

/* Begin a try, if it is time. */
static bool begin(struct fence_try *t, const struct fence_view *view, uint64_t now_ns)
{
	if (t->state == FENCE_RUNNING && now_ns >= t->at_ns) {
		t->state = FENCE_IDLE; /* it hangs: what it may still say is not heard */
		t->err = -ETIMEDOUT;
		t->at_ns = now_ns;
	}
	if (t->state != FENCE_IDLE || now_ns < t->at_ns) {
		return false;
	}
	t->state = FENCE_RUNNING;
	t->number++;
	t->at_ns = now_ns + view->action_ns;
	return true;
}

static size_t step_volumes(struct fence *f, const struct fence_view *view, uint64_t now_ns,
                           struct fence_action *out)
{
	size_t count = 0;

	for (uint32_t id = 1; id <= ROLE_VOLUMES_MAX; id++) {
		uint64_t bit = role_bit(id);

		if ((view->volumes & view->reachable & bit) == 0 || count + 2 > FENCE_ACTIONS_MAX) {
			continue;
		}
		struct fence_try *t = &f->preempt[id - 1];

		if ((view->preemptable & bit) != 0 && begin(t, view, now_ns)) {
			out[count++] = (struct fence_action){
				.what = FENCE_PREEMPT, .volume = id, .number = t->number};
		}
		t = &f->verdict[id - 1];
		if (begin(t, view, now_ns)) {
			out[count++] = (struct fence_action){
				.what = FENCE_VERDICT, .volume = id, .number = t->number};
		}
	}
	return count;
}

/* Since when all devices of @level have said that they are off; 0 = one has not. @old_ns: what was
 * said before that is too old to count with the rest: it may be on again. */
static uint64_t level_said(const struct fence *f, const struct fence_view *view, uint32_t level,
                           uint64_t *old_ns)
{
	uint64_t newest_ns = 0;

	for (uint32_t d = 0; d < view->devices[level]; d++) {
		const struct fence_try *t = &f->off[level][d];

		if (t->state != FENCE_GOOD) {
			return 0;
		}
		newest_ns = t->at_ns > newest_ns ? t->at_ns : newest_ns;
	}
	*old_ns = newest_ns > view->action_ns ? newest_ns - view->action_ns : 0;
	return newest_ns;
}

/* All devices of @level are off, and were so together. */
static bool level_off(const struct fence *f, const struct fence_view *view, uint32_t level,
                      uint64_t *since_ns)
{
	uint64_t old_ns = 0;

	*since_ns = level_said(f, view, level, &old_ns);
	for (uint32_t d = 0; *since_ns != 0 && d < view->devices[level]; d++) {
		if (f->off[level][d].at_ns < old_ns) {
			return false;
		}
	}
	return *since_ns != 0;
}

/* One device was off long before the last of its level was: it is asked again. */
static void level_reopen(struct fence *f, const struct fence_view *view, uint32_t level,
                         uint64_t now_ns)
{
	uint64_t old_ns = 0;

	if (level_said(f, view, level, &old_ns) == 0) {
		return;
	}
	for (uint32_t d = 0; d < view->devices[level]; d++) {
		struct fence_try *t = &f->off[level][d];

		if (t->at_ns < old_ns) {
			t->state = FENCE_IDLE;
			t->at_ns = now_ns;
			f->heard[level][d] = t->number; /* it has not failed */
		}
	}
}

/* The next level that has devices, or the same one if there is no other. */
static uint32_t next_level(const struct fence_view *view, uint32_t level)
{
	for (uint32_t i = 1; i <= FENCE_LEVELS_MAX; i++) {
		uint32_t next = (level + i) % FENCE_LEVELS_MAX;

		if (view->devices[next] > 0) {
			return next;
		}
	}
	return level;
}

/* A level of which one device failed gives way to the next. */
static void choose_level(struct fence *f, const struct fence_view *view, uint64_t now_ns)
{
	uint32_t level = f->level;

	if (view->devices[level] == 0) {
		f->level = next_level(view, level);
		return;
	}
	for (uint32_t d = 0; d < view->devices[level]; d++) {
		struct fence_try *t = &f->off[level][d];

		if (t->state == FENCE_RUNNING && now_ns >= t->at_ns) {
			t->state = FENCE_IDLE;
			t->err = -ETIMEDOUT;
			t->at_ns = now_ns + retry_ns(t);
		}
		if (t->state == FENCE_IDLE && t->number > f->heard[level][d]) {
			f->heard[level][d] = t->number;
			f->level = next_level(view, level);
		}
	}
}

size_t fence_step(struct fence *f, const struct fence_view *view, uint64_t now_ns,
                  struct fence_action out[FENCE_ACTIONS_MAX])
{
	uint64_t since;
	size_t count;

	if (now_ns < f->begin_ns) {
		return 0;
	}
	count = step_volumes(f, view, now_ns, out);
	for (uint32_t level = 0; level < FENCE_LEVELS_MAX; level++) {
		level_reopen(f, view, level, now_ns);
	}
	choose_level(f, view, now_ns);
	for (uint32_t d = 0; d < view->devices[f->level] && count < FENCE_ACTIONS_MAX; d++) {
		struct fence_try *t = &f->off[f->level][d];

		if (!level_off(f, view, f->level, &since) && begin(t, view, now_ns)) {
			out[count++] = (struct fence_action){.what = FENCE_OFF,
			                                     .level = f->level,
			                                     .device = d,
			                                     .number = t->number};
		}
	}
	return count;
}

static struct fence_try *try_of(struct fence *f, const struct fence_action *action)
{
	switch (action->what) {
	case FENCE_PREEMPT:
		return &f->preempt[action->volume - 1];
	case FENCE_VERDICT:
		return &f->verdict[action->volume - 1];
	case FENCE_OFF:
		return &f->off[action->level][action->device];
	}
	return NULL;
}

void fence_done(struct fence *f, const struct fence_action *action, int err, uint64_t now_ns)
{
	struct fence_try *t = try_of(f, action);
	bool good;

	if (t == NULL || t->state != FENCE_RUNNING || t->number != action->number) {
		return;
	}
	/* An exit status that got here would be a proof that is none. */
	good = err == 0 || (err == FENCE_ABORTED && action->what == FENCE_PREEMPT);
	t->err = err < 0 ? err : 0;
	t->state = good ? FENCE_GOOD : FENCE_IDLE;
	t->at_ns = good ? now_ns : now_ns + retry_ns(t);
	t->aborted = good && err == FENCE_ABORTED;
}

/* When the preemption of @volume proves something; UINT64_MAX = it does not. */
static uint64_t preempted_ns(const struct fence *f, const struct fence_view *view, uint32_t volume)
{
	const struct fence_try *t = &f->preempt[volume - 1];

	if (t->state != FENCE_GOOD) {
		return UINT64_MAX;
	}
	return t->aborted ? t->at_ns : t->at_ns + view->timing->cfg.inflight_ms * NS_PER_MS;
}

/* When power proves it. */
static uint64_t powered_ns(const struct fence *f, const struct fence_view *view)
{
	uint64_t best = UINT64_MAX;
	uint64_t since;

	for (uint32_t level = 0; level < FENCE_LEVELS_MAX; level++) {
		if (level_off(f, view, level, &since)) {
			since += view->timing->cfg.inflight_ms * NS_PER_MS;
			best = since < best ? since : best;
		}
	}
	return best;
}

enum role_proof fence_proof(const struct fence *f, const struct fence_view *view, uint64_t now_ns,
                            uint64_t *volumes)
{
	*volumes = 0;
	if (now_ns >= powered_ns(f, view)) {
		return ROLE_PROOF_POWER;
	}
	if (view->lease_proof && now_ns >= view->lease_end_ns) {
		return ROLE_PROOF_LEASE;
	}
	for (uint32_t id = 1; id <= ROLE_VOLUMES_MAX; id++) {
		if ((view->volumes & role_bit(id)) != 0 && now_ns >= preempted_ns(f, view, id)) {
			*volumes |= role_bit(id);
		}
	}
	if ((view->whole & ~*volumes) != 0) {
		*volumes = 0; /* it can still write somewhere */
	}
	return *volumes != 0 ? ROLE_PROOF_STORAGE : ROLE_PROOF_NONE;
}

uint64_t fence_sentenced(const struct fence *f, uint32_t volume)
{
	const struct fence_try *t = &f->verdict[volume - 1];

	return t->state == FENCE_GOOD ? t->at_ns : UINT64_MAX;
}

static uint64_t sooner(uint64_t best, uint64_t at, uint64_t now_ns)
{
	return at > now_ns && at < best ? at : best;
}

static uint64_t try_ns(const struct fence_try *t)
{
	return t->state == FENCE_GOOD ? UINT64_MAX : t->at_ns;
}

uint64_t fence_next_ns(const struct fence *f, const struct fence_view *view, uint64_t now_ns)
{
	uint64_t next = sooner(UINT64_MAX, f->begin_ns, now_ns);

	if (view->lease_proof) {
		next = sooner(next, view->lease_end_ns, now_ns);
	}
	next = sooner(next, powered_ns(f, view), now_ns);
	for (uint32_t id = 1; id <= ROLE_VOLUMES_MAX; id++) {
		if ((view->volumes & view->reachable & role_bit(id)) != 0) {
			next = sooner(next, preempted_ns(f, view, id), now_ns);
			next = sooner(next, try_ns(&f->preempt[id - 1]), now_ns);
			next = sooner(next, try_ns(&f->verdict[id - 1]), now_ns);
		}
	}
	for (uint32_t d = 0; d < view->devices[f->level]; d++) {
		next = sooner(next, try_ns(&f->off[f->level][d]), now_ns);
	}
	return next;
}

static void describe_try(struct text *text, const char *what, uint32_t number,
                         const struct fence_try *t)
{
	text_add(text, "%s%s %u ", text->len > 0 ? "; " : "", what, number);
	if (t->state == FENCE_GOOD) {
		text_add(text, "done");
	} else if (t->err < 0) {
		text_add(text, "failed %u times (%s)",
		         t->state == FENCE_RUNNING ? t->number - 1 : t->number, strerror(-t->err));
	} else {
		text_add(text, t->state == FENCE_RUNNING ? "under way" : "waiting");
	}
}

void fence_describe(const struct fence *f, const struct fence_view *view, uint64_t now_ns,
                    char *buf, size_t size)
{
	char span[FMT_MAX];
	struct text text;

	text_init(&text, buf, size);
	for (uint32_t id = 1; id <= ROLE_VOLUMES_MAX; id++) {
		if ((view->volumes & view->preemptable & role_bit(id)) != 0) {
			describe_try(&text, "preempt volume", id, &f->preempt[id - 1]);
		}
	}
	for (uint32_t level = 0; level < FENCE_LEVELS_MAX; level++) {
		for (uint32_t d = 0; d < view->devices[level]; d++) {
			describe_try(&text, "power device", level * 10 + d + 1, &f->off[level][d]);
		}
	}
	text_add(&text, "%s", text.len > 0 ? "; " : "");
	if (!view->lease_proof) {
		text_add(&text, "its silence is no proof");
	} else if (view->lease_end_ns == UINT64_MAX) {
		text_add(&text, "a volume cannot be read, so its lease cannot be seen to end");
	} else if (view->lease_end_ns > now_ns) {
		text_add(&text, "lease over in %s",
		         fmt_duration(view->lease_end_ns - now_ns, span));
	} else {
		text_add(&text, "lease over");
	}
}
