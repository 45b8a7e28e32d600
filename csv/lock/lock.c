/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "csv/lock/csv_lock.h"
#include "csv/lock/lock_int.h"

static void set_now(struct csv_lock *l, uint64_t now_ns)
{
	/* A clock that went backwards (it must not) revokes nobody early. */
	l->now_ns = now_ns > l->now_ns ? now_ns : l->now_ns;
}

static void tell(struct csv_lock_conflict *out, const struct lock *k)
{
	if (out != NULL) {
		*out = (struct csv_lock_conflict){
			.id = k->id,
			.mode = lock_holds(k) ? k->granted : k->wanted,
			.waiting = !lock_holds(k),
		};
	}
}

static bool mode_valid(enum csv_lock_class class, uint32_t mode)
{
	return class == CSV_LOCK_MODES
	               ? mode <= CSV_LOCK_EX
	               : class == CSV_LOCK_SHARES &&
	                         (mode & ~CSV_LOCK_SHARE_MODE(CSV_LOCK_ALL, CSV_LOCK_ALL)) == 0;
}

static int again(const struct lock *k, const struct csv_lock_req *req)
{
	uint32_t mode = lock_holds(k) ? k->granted : k->wanted;

	if (k->res->name.object != req->name.object || k->res->name.space != req->name.space ||
	    k->res->class != req->class || k->from != req->from || k->to != req->to ||
	    mode != req->mode) {
		return -EEXIST;
	}
	return lock_holds(k) ? 0 : -EINPROGRESS;
}

static void hold(struct lock *k)
{
	k->state = CSV_LOCK_HELD;
	k->granted = k->wanted;
	list_add_tail(&k->res->granted, &k->in_granted);
}

static void wait(struct csv_lock *l, struct lock *k)
{
	k->waits = true;
	k->since_ns = l->now_ns;
	l->stats.waiting++;
	list_add_tail(&k->res->waiting, &k->in_waiting);
}

static int reclaim(struct csv_lock *l, struct lock *k, struct csv_lock_conflict *conflict)
{
	const struct lock *g = order_holder(k, k->wanted);

	if (g != NULL) {
		l->stats.reclaim_conflicts++;
		tell(conflict, g);
		table_remove(l, k);
		return -EBUSY;
	}
	l->stats.reclaimed++;
	hold(k);
	return 0;
}

int csv_lock_request(struct csv_lock *l, const struct csv_lock_req *req, uint64_t now_ns,
                     struct csv_lock_conflict *conflict)
{
	struct lock *k = table_find(l, &req->id);

	set_now(l, now_ns);
	l->stats.requests++;
	if (!mode_valid(req->class, req->mode) || req->from >= req->to) {
		return -EINVAL;
	}
	if (k != NULL) {
		return again(k, req);
	}
	if (req->reclaim != l->grace) {
		l->stats.in_grace += l->grace;
		return l->grace ? -EAGAIN : -ESTALE;
	}

	int err = table_add(l, req, &k);

	if (err != 0) {
		l->stats.full += err != -EINVAL;
		return err;
	}
	if (req->reclaim) {
		return reclaim(l, k, conflict);
	}

	const struct lock *in_the_way = order_blocker(k);

	if (in_the_way == NULL) {
		hold(k);
		l->stats.granted_at_once++;
		return 0; /* in nobody's way, so that nothing else changes */
	}
	if (req->try_only) {
		l->stats.busy++;
		tell(conflict, in_the_way);
		table_remove(l, k);
		return -EBUSY;
	}
	wait(l, k);
	order_settle(l, k->res);
	return -EINPROGRESS;
}

/* It has to wait, if it may. */
static int convert_later(struct csv_lock *l, struct lock *k, const struct csv_lock_change *change,
                         struct csv_lock_conflict *conflict)
{
	const struct lock *in_the_way = order_blocker(k);

	if (change->try_only) {
		l->stats.busy++;
		tell(conflict, in_the_way);
		return -EBUSY;
	}
	wait(l, k);
	if (order_circle(l, k)) {
		list_del(&k->in_waiting);
		k->waits = false;
		l->stats.waiting--;
		l->stats.deadlocks++;
		tell(conflict, in_the_way);
		return -EDEADLK;
	}
	k->arg = change->arg;
	order_settle(l, k->res);
	return -EINPROGRESS;
}

/* Is @to in the way of nothing that @from is not in the way of? */
static bool weaker(enum csv_lock_class class, uint32_t from, uint32_t to)
{
	if (class == CSV_LOCK_SHARES) {
		return (to & CSV_LOCK_ALL & ~from) == 0 && (from >> 4 & ~(to >> 4)) == 0;
	}
	for (uint32_t m = CSV_LOCK_NL; m <= CSV_LOCK_EX; m++) {
		if (csv_lock_compatible(class, from, m) && !csv_lock_compatible(class, to, m)) {
			return false;
		}
	}
	return true;
}

int csv_lock_convert(struct csv_lock *l, const struct csv_lock_id *id,
                     const struct csv_lock_change *change, uint64_t now_ns,
                     struct csv_lock_conflict *conflict)
{
	struct lock *k = table_find(l, id);

	set_now(l, now_ns);
	l->stats.requests++;
	if (k == NULL) {
		return -ENOENT;
	}
	if (!mode_valid(k->res->class, change->mode)) {
		return -EINVAL;
	}
	if (k->waits) {
		return lock_holds(k) && k->wanted == change->mode ? -EINPROGRESS : -EALREADY;
	}
	if (k->state == CSV_LOCK_REVOKED) {
		return -ESTALE;
	}
	if (k->say_granted) {
		return change->mode == k->granted ? -EINPROGRESS : -EALREADY;
	}
	if (l->grace && !weaker(k->res->class, k->granted, change->mode)) {
		l->stats.in_grace++;
		return -EAGAIN;
	}
	k->wanted = change->mode;
	if (order_blocker(k) != NULL) {
		return convert_later(l, k, change, conflict);
	}
	k->granted = change->mode;
	k->since_ns = l->now_ns;
	l->stats.granted_at_once++;
	order_settle(l, k->res);
	return 0;
}

static void drop(struct csv_lock *l, struct lock *k)
{
	struct resource *r = k->res;
	bool last = r->count == 1;

	table_remove(l, k);
	if (!last) {
		order_settle(l, r);
	}
}

int csv_lock_release(struct csv_lock *l, const struct csv_lock_id *id, uint64_t now_ns)
{
	struct lock *k = table_find(l, id);

	set_now(l, now_ns);
	if (k == NULL) {
		return -ENOENT;
	}
	drop(l, k);
	return 0;
}

static void stop_waiting(struct csv_lock *l, struct lock *k)
{
	list_del(&k->in_waiting);
	k->waits = false;
	l->stats.waiting--;
}

int csv_lock_cancel(struct csv_lock *l, const struct csv_lock_id *id, uint64_t now_ns)
{
	struct lock *k = table_find(l, id);

	set_now(l, now_ns);
	if (k == NULL) {
		return -ENOENT;
	}
	if (!k->waits) {
		return -EALREADY;
	}
	if (lock_holds(k)) {
		stop_waiting(l, k);
		order_settle(l, k->res);
	} else {
		drop(l, k);
	}
	return 0;
}

uint32_t csv_lock_purge(struct csv_lock *l, const struct csv_lock_owner *owner, uint64_t now_ns)
{
	uint32_t count = 0;

	set_now(l, now_ns);
	for (uint32_t i = 0; i < CSV_LOCK_CLIENTS_MAX; i++) {
		struct client *c = &l->clients[i];

		if (c->count == 0 || c->owner.node != owner->node ||
		    c->owner.incarnation > owner->incarnation) {
			continue;
		}
		while (c->count != 0) {
			drop(l, list_entry(list_first(&c->locks), struct lock, of_client));
			count++;
		}
	}
	l->stats.purged += count;
	return count;
}

void csv_lock_remind(struct csv_lock *l, const struct csv_lock_owner *owner)
{
	for (uint32_t i = 0; i < CSV_LOCK_CLIENTS_MAX; i++) {
		const struct client *c = &l->clients[i];

		if (c->count == 0 || c->owner.node != owner->node ||
		    c->owner.incarnation != owner->incarnation) {
			continue;
		}
		list_for_each(link, &c->locks)
		{
			struct lock *k = list_entry(link, struct lock, of_client);

			k->notices = k->state == CSV_LOCK_NOTICED ? k->noticed : 0;
			k->say_revoke = k->state == CSV_LOCK_REVOKED;
			if (k->notices != 0 || k->say_revoke) {
				order_say(l, k);
			}
		}
	}
}

void csv_lock_set_grace(struct csv_lock *l, bool grace)
{
	l->grace = grace;
}

static void revoke(struct csv_lock *l, struct lock *k)
{
	k->res->noticed--;
	k->notices = 0;
	k->state = CSV_LOCK_REVOKED;
	k->due_ns = l->now_ns + l->cfg.fence_ns;
	k->say_revoke = true;
	list_del(&k->timer);
	list_add_tail(&l->revoked, &k->timer);
	l->stats.revoked++;
	order_say(l, k);
	if (k->waits) {
		stop_waiting(l, k);
		order_settle(l, k->res);
	}
}

static struct lock *due(const struct csv_lock *l, const struct list *timers)
{
	struct list *first = list_first(timers);
	struct lock *k = first != NULL ? list_entry(first, struct lock, timer) : NULL;

	return k != NULL && k->due_ns <= l->now_ns ? k : NULL;
}

void csv_lock_tick(struct csv_lock *l, uint64_t now_ns)
{
	struct lock *k;

	set_now(l, now_ns);
	while ((k = due(l, &l->noticed)) != NULL) {
		revoke(l, k);
	}
	while ((k = due(l, &l->revoked)) != NULL) {
		list_del(&k->timer);
		k->say_fence = true;
		k->overdue = true;
		k->client->overdue++;
		l->overdue++;
		l->stats.fences++;
		order_say(l, k);
	}
}

void csv_lock_postpone(struct csv_lock *l, uint64_t by_ns)
{
	struct list *timers[] = {&l->noticed, &l->revoked};

	for (uint32_t i = 0; i < ARRAY_LEN(timers); i++) {
		list_for_each(link, timers[i])
		{
			list_entry(link, struct lock, timer)->due_ns += by_ns;
		}
	}
}

uint64_t csv_lock_overdue(const struct csv_lock *l, uint32_t node)
{
	uint64_t run = 0;

	for (uint32_t i = 0; l->overdue != 0 && i < CSV_LOCK_CLIENTS_MAX; i++) {
		const struct client *c = &l->clients[i];

		if (c->count != 0 && c->overdue != 0 && c->owner.node == node &&
		    c->owner.incarnation > run) {
			run = c->owner.incarnation;
		}
	}
	return run;
}

uint64_t csv_lock_next_ns(const struct csv_lock *l)
{
	const struct list *timers[] = {&l->noticed, &l->revoked};
	uint64_t next = UINT64_MAX;

	for (uint32_t i = 0; i < ARRAY_LEN(timers); i++) {
		struct list *first = list_first(timers[i]);

		if (first != NULL && list_entry(first, struct lock, timer)->due_ns < next) {
			next = list_entry(first, struct lock, timer)->due_ns;
		}
	}
	return next;
}

/* The next of the things to say about @k; false: that was all. */
static bool take(struct csv_lock *l, struct lock *k, struct csv_lock_action *out)
{
	*out = (struct csv_lock_action){
		.id = k->id, .name = k->res->name, .mode = k->granted, .arg = k->arg};
	if (k->say_granted) {
		k->say_granted = false;
		out->type = CSV_LOCK_GRANTED;
	} else if (k->notices != 0) {
		uint32_t bit = (uint32_t)__builtin_ctz(k->notices);

		k->notices &= k->notices - 1;
		out->type = CSV_LOCK_NOTICE;
		out->mode = k->res->class == CSV_LOCK_MODES ? bit : 0;
		l->stats.notices++;
	} else if (k->say_revoke) {
		k->say_revoke = false;
		out->type = CSV_LOCK_REVOKE;
	} else if (k->say_fence) {
		k->say_fence = false;
		out->type = CSV_LOCK_FENCE;
	} else {
		return false;
	}
	return true;
}

bool csv_lock_next_action(struct csv_lock *l, struct csv_lock_action *out)
{
	for (;;) {
		struct list *first = list_first(&l->actions);

		if (first == NULL) {
			return false;
		}

		struct lock *k = list_entry(first, struct lock, action);

		if (take(l, k, out)) {
			return true;
		}
		list_del(&k->action);
	}
}
