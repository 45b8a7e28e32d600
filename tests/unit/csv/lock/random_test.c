/* SPDX-License-Identifier: Apache-2.0 */

/*
 * random_test - the lock manager next to a model of a few arrays, which looks at everything after
 * each step: what is granted, who was told what, who is revoked and when.
 *
 *	csv_lock_random_test [STEPS [SEED]]
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "csv/lock/csv_lock.h"
#include "tests/lib/test.h"

#define LOCKS 14u
#define RESOURCES 3u /* the last one: of opens */
#define REVOKE 50u
#define FENCE 80u

struct mlock {
	bool used;
	bool has;
	bool waits;
	bool revoked;
	uint32_t resource;
	uint32_t granted;
	uint32_t wanted;
	uint64_t from;
	uint64_t to;
	uint64_t came;  /* waits: its place in the queue */
	uint32_t told;  /* modes */
	uint64_t since; /* in the way, or revoked */
	bool in_the_way;
	bool fence_said;
	bool expect_grant;
};

struct world {
	struct csv_lock *l;
	struct mlock locks[LOCKS];
	uint64_t random;
	uint64_t now;
	uint64_t came;
	uint64_t grants;
	uint64_t revokes;
	uint64_t fences;
	uint64_t circles;
	uint64_t waits;
};

static uint64_t steps = 120000;
static uint64_t first_seed = 1;

static uint32_t dice(struct world *w, uint32_t below)
{
	w->random = w->random * 6364136223846793005u + 1442695040888963407u;

	uint64_t x = w->random ^ w->random >> 33;

	return (uint32_t)((x * 0xff51afd7ed558ccdu >> 32) % below);
}

static enum csv_lock_class class_of(uint32_t resource)
{
	return resource == RESOURCES - 1 ? CSV_LOCK_SHARES : CSV_LOCK_MODES;
}

/* The table once more, in other words. */
static bool agree(uint32_t resource, uint32_t a, uint32_t b)
{
	static const char *const table[] = {"++++++", "+++++-", "+++---",
	                                    "++-+--", "++----", "+-----"};

	if (class_of(resource) == CSV_LOCK_MODES) {
		return table[a][b] == '+';
	}
	for (uint32_t bit = 0; bit < 3; bit++) {
		if ((a >> bit & 1 && !(b >> (bit + 4) & 1)) ||
		    (b >> bit & 1 && !(a >> (bit + 4) & 1))) {
			return false;
		}
	}
	return true;
}

static bool meet(const struct mlock *a, const struct mlock *b)
{
	return a != b && a->used && b->used && a->resource == b->resource && a->from < b->to &&
	       b->from < a->to;
}

static bool holds_up(const struct mlock *g, const struct mlock *k)
{
	return meet(g, k) && g->has && !agree(k->resource, g->granted, k->wanted);
}

/* Does @k wait for @o? */
static bool waits_for(const struct mlock *k, const struct mlock *o)
{
	if (!k->waits) {
		return false;
	}
	if (holds_up(o, k)) {
		return true;
	}
	return meet(k, o) && o->waits && o->came < k->came &&
	       !agree(k->resource, o->wanted, k->wanted) &&
	       (!k->has || agree(k->resource, k->granted, o->wanted));
}

static bool blocked(const struct world *w, const struct mlock *k)
{
	for (uint32_t i = 0; i < LOCKS; i++) {
		if (waits_for(k, &w->locks[i])) {
			return true;
		}
	}
	return false;
}

static bool circle(const struct world *w, uint32_t start)
{
	uint32_t reached = 0;
	uint32_t before;

	for (uint32_t i = 0; i < LOCKS; i++) {
		reached |= (uint32_t)waits_for(&w->locks[start], &w->locks[i]) << i;
	}
	do {
		before = reached;
		for (uint32_t i = 0; i < LOCKS; i++) {
			for (uint32_t j = 0; reached >> i & 1 && j < LOCKS; j++) {
				reached |= (uint32_t)waits_for(&w->locks[i], &w->locks[j]) << j;
			}
		}
	} while (reached != before);
	return (reached >> start & 1) != 0;
}

/* Grant by the rule, who came first first. @told: a grant that is not the answer of a call. */
static void settle(struct world *w)
{
	for (;;) {
		struct mlock *first = NULL;

		for (uint32_t i = 0; i < LOCKS; i++) {
			struct mlock *k = &w->locks[i];

			if (k->used && k->waits && (first == NULL || k->came < first->came) &&
			    !blocked(w, k)) {
				first = k;
			}
		}
		if (first == NULL) {
			return;
		}
		first->has = true;
		first->waits = false;
		first->granted = first->wanted;
		first->expect_grant = true;
		w->grants++;
	}
}

static struct csv_lock_id id_of(uint32_t i)
{
	return (struct csv_lock_id){.owner = {i % 4, 7}, .number = i};
}

static uint32_t mode_for(struct world *w, uint32_t resource)
{
	return class_of(resource) == CSV_LOCK_MODES
	               ? dice(w, 6)
	               : CSV_LOCK_SHARE_MODE(dice(w, 8), dice(w, 3) == 0 ? dice(w, 8) : 7);
}

static void take_actions(struct world *w)
{
	struct csv_lock_action a;

	while (csv_lock_next_action(w->l, &a)) {
		struct mlock *k = &w->locks[a.id.number];

		assert_true(k->used && a.name.object == k->resource);
		switch (a.type) {
		case CSV_LOCK_REVOKE:
			/* Not a moment before its time. */
			assert_true(k->in_the_way && w->now >= k->since + REVOKE && !k->revoked);
			k->revoked = true;
			k->since = w->now;
			k->waits = false;
			w->revokes++;
			settle(w);
			break;
		case CSV_LOCK_FENCE:
			assert_true(k->revoked && !k->fence_said && w->now >= k->since + FENCE);
			k->fence_said = true;
			w->fences++;
			break;
		case CSV_LOCK_GRANTED:
			settle(w);
			assert_true(k->expect_grant && a.mode == k->granted);
			k->expect_grant = false;
			break;
		case CSV_LOCK_NOTICE:
			k->told |= 1u << a.mode;
			break;
		}
	}
}

static void compare_lock(struct world *w, uint32_t i)
{
	struct csv_lock_id id = id_of(i);
	struct mlock *k = &w->locks[i];
	struct csv_lock_info info;
	uint32_t told = 0;

	if (csv_lock_find(w->l, &id, &info) != 0) {
		assert_false(k->used);
		return;
	}
	assert_true(k->used);
	assert_int_equal(k->has, info.state != CSV_LOCK_NEW);
	assert_int_equal(k->waits, info.waiting);
	assert_false(k->expect_grant);
	if (k->has) {
		assert_int_equal(k->granted, info.granted);
	}
	if (k->waits) {
		assert_int_equal(k->wanted, info.wanted);
	}
	assert_int_equal(k->revoked, info.state == CSV_LOCK_REVOKED);
	for (uint32_t j = 0; j < LOCKS; j++) {
		if (w->locks[j].waits && holds_up(k, &w->locks[j])) {
			told |= 1u << (class_of(k->resource) == CSV_LOCK_MODES ? w->locks[j].wanted
			                                                       : 0);
		}
	}
	if (!k->revoked) {
		assert_int_equal(told != 0, info.state == CSV_LOCK_NOTICED);
		assert_true((told & ~k->told) == 0); /* all who are in the way know of it */
		if (told != 0 && !k->in_the_way) {
			k->since = w->now;
		}
		k->told = told == 0 ? 0 : k->told;
		k->in_the_way = told != 0;
		assert_true(!k->in_the_way || w->now < k->since + REVOKE);
	} else {
		assert_true(k->fence_said || w->now < k->since + FENCE);
	}
}

static void compare(struct world *w)
{
	take_actions(w);
	settle(w);
	for (uint32_t i = 0; i < LOCKS; i++) {
		compare_lock(w, i);
	}
}

static void request(struct world *w, uint32_t i)
{
	struct mlock *k = &w->locks[i];
	struct csv_lock_req req = {.id = id_of(i)};

	*k = (struct mlock){.used = true, .resource = dice(w, RESOURCES), .came = ++w->came};
	k->from = dice(w, 2) == 0 ? 0 : dice(w, 6);
	k->to = dice(w, 2) == 0 ? CSV_LOCK_END : k->from + 1 + dice(w, 4);
	k->wanted = mode_for(w, k->resource);
	k->waits = true;
	req.name.object = k->resource;
	req.class = class_of(k->resource);
	req.mode = k->wanted;
	req.from = k->from;
	req.to = k->to;
	req.try_only = dice(w, 4) == 0;

	int want = !blocked(w, k) ? 0 : req.try_only ? -EBUSY : -EINPROGRESS;

	assert_int_equal(csv_lock_request(w->l, &req, w->now, NULL), want);
	w->waits += want == -EINPROGRESS;
	if (want == 0) {
		k->has = true;
		k->waits = false;
		k->granted = k->wanted;
	} else if (want == -EBUSY) {
		k->used = false;
	}
}

static void convert(struct world *w, uint32_t i)
{
	struct csv_lock_change change = {.try_only = dice(w, 5) == 0};
	struct csv_lock_id id = id_of(i);
	struct mlock *k = &w->locks[i];
	int want = 0;

	change.mode = mode_for(w, k->resource);
	if (k->waits) {
		want = k->has && k->wanted == change.mode ? -EINPROGRESS : -EALREADY;
	} else if (k->revoked) {
		want = -ESTALE;
	} else {
		k->wanted = change.mode;
		k->waits = true;
		k->came = ++w->came;
		if (blocked(w, k)) {
			bool closes = circle(w, i);

			want = change.try_only ? -EBUSY : closes ? -EDEADLK : -EINPROGRESS;
			w->circles += want == -EDEADLK;
			w->waits += want == -EINPROGRESS;
		}
		k->waits = want == -EINPROGRESS;
		k->granted = want == 0 ? k->wanted : k->granted;
	}
	assert_int_equal(csv_lock_convert(w->l, &id, &change, w->now, NULL), want);
}

static void release(struct world *w, uint32_t i)
{
	struct csv_lock_id id = id_of(i);
	struct mlock *k = &w->locks[i];

	if (k->waits && dice(w, 2) == 0) {
		assert_int_equal(csv_lock_cancel(w->l, &id, w->now), 0);
		k->waits = false;
		k->used = k->has;
		return;
	}
	assert_int_equal(csv_lock_release(w->l, &id, w->now), 0);
	k->used = false;
	k->waits = false;
	k->has = false;
}

static void purge(struct world *w)
{
	struct csv_lock_owner owner = {dice(w, 4), 7 + dice(w, 2)};
	uint32_t count = 0;

	for (uint32_t i = 0; i < LOCKS; i++) {
		if (w->locks[i].used && i % 4 == owner.node) {
			memset(&w->locks[i], 0, sizeof(w->locks[i]));
			count++;
		}
	}
	assert_int_equal(csv_lock_purge(w->l, &owner, w->now), count);
}

static void step(struct world *w)
{
	uint32_t i = dice(w, LOCKS);

	w->now += dice(w, 4);
	csv_lock_tick(w->l, w->now);
	compare(w);
	if (!w->locks[i].used) {
		request(w, i);
	} else if (dice(w, 400) == 0) {
		purge(w);
	} else if (dice(w, 2) == 0) {
		convert(w, i);
	} else if (dice(w, 3) == 0) {
		release(w, i);
	}
	compare(w);
}

static void every_step_is_what_the_model_does(void **state)
{
	const struct csv_lock_cfg cfg = {
		.locks_max = LOCKS, .revoke_ns = REVOKE, .fence_ns = FENCE};
	static struct world w;

	(void)state;
	w.random = first_seed * 2 + 1;
	assert_int_equal(csv_lock_create(&cfg, &w.l, NULL), 0);
	for (uint64_t i = 0; i < steps; i++) {
		step(&w);
		if (i % 64 == 0) {
			csv_lock_verify(w.l);
		}
	}
	print_message("seed %llu: %llu steps, %llu waits, %llu later grants, %llu circles, "
	              "%llu revoked, %llu fenced\n",
	              (unsigned long long)first_seed, (unsigned long long)steps,
	              (unsigned long long)w.waits, (unsigned long long)w.grants,
	              (unsigned long long)w.circles, (unsigned long long)w.revokes,
	              (unsigned long long)w.fences);
	assert_true(w.waits > steps / 40 && w.grants > steps / 60);
	assert_true(w.circles > 10 && w.revokes > 10 && w.fences > 10);
	csv_lock_destroy(w.l);
}

/* Two who hold a lock by turns, politely, do not keep a third one out. */
static void nobody_starves(void **state)
{
	const struct csv_lock_cfg cfg = {.locks_max = 8};
	struct csv_lock_req req = {.to = CSV_LOCK_END, .class = CSV_LOCK_MODES};
	const struct csv_lock_id third = {.owner = {3, 1}, .number = 3};
	struct csv_lock_change change = {0};
	struct csv_lock_action a;
	struct csv_lock_info info;
	struct csv_lock *l;

	(void)state;
	assert_int_equal(csv_lock_create(&cfg, &l, NULL), 0);
	for (uint32_t i = 1; i <= 2; i++) {
		req.id = (struct csv_lock_id){.owner = {i, 1}, .number = i};
		req.mode = i == 1 ? CSV_LOCK_PR : CSV_LOCK_CR;
		assert_int_equal(csv_lock_request(l, &req, 1, NULL), 0);
	}
	req.id = third;
	req.mode = CSV_LOCK_CW;
	assert_int_equal(csv_lock_request(l, &req, 1, NULL), -EINPROGRESS);

	/* The second one wants PR as well before the first one lets go of it. */
	const struct csv_lock_id first = {.owner = {1, 1}, .number = 1};
	const struct csv_lock_id second = {.owner = {2, 1}, .number = 2};

	change.mode = CSV_LOCK_PR;
	assert_int_equal(csv_lock_convert(l, &second, &change, 2, NULL), -EINPROGRESS);
	change.mode = CSV_LOCK_CR;
	assert_int_equal(csv_lock_convert(l, &first, &change, 3, NULL), 0);
	assert_int_equal(csv_lock_find(l, &third, &info), 0);
	assert_int_equal(info.state, CSV_LOCK_NOTICED); /* granted; the second one waits for it */
	while (csv_lock_next_action(l, &a)) {
	}
	csv_lock_verify(l);
	csv_lock_destroy(l);
}

int main(int argc, char *argv[])
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_step_is_what_the_model_does),
		cmocka_unit_test(nobody_starves),
	};

	if (argc > 1) {
		steps = strtoull(argv[1], NULL, 10);
	}
	if (argc > 2) {
		first_seed = strtoull(argv[2], NULL, 10);
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
