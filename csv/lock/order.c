/* SPDX-License-Identifier: Apache-2.0 */

/*
 * order - who is in whose way. One rule, used to grant, to look for circles, and by the invariants:
 * a waiting lock K waits for
 *
 *  - each granted lock in the way of the mode that K wants, and
 *  - each lock that came before it, waits as well, and disagrees with the mode that K wants; unless
 *    that one waits for the mode that K has.
 *
 * A lock whose list of these is empty is granted. Edges of this kind only appear when a lock joins
 * the queue, or when one is granted that then waits for nobody; so a circle can only be closed by
 * one that joins, and only if somebody waits for what it has: by a conversion.
 */
#include "csv/lock/lock_int.h"

bool csv_lock_compatible(enum csv_lock_class class, uint32_t a, uint32_t b)
{
	static const uint8_t with[] = {
		[CSV_LOCK_NL] = 0x3f, [CSV_LOCK_CR] = 0x1f, [CSV_LOCK_CW] = 0x07,
		[CSV_LOCK_PR] = 0x0b, [CSV_LOCK_PW] = 0x03, [CSV_LOCK_EX] = 0x01,
	};

	if (class == CSV_LOCK_MODES) {
		return (with[a] >> b & 1) != 0;
	}
	return (a & CSV_LOCK_ALL & ~(b >> 4)) == 0 && (b & CSV_LOCK_ALL & ~(a >> 4)) == 0;
}

static bool overlap(const struct lock *a, const struct lock *b)
{
	return a->from < b->to && b->from < a->to;
}

static bool agree(const struct lock *k, uint32_t a, uint32_t b)
{
	return csv_lock_compatible(k->res->class, a, b);
}

/* Is the granted lock @g in the way of @mode for @k? */
static bool holds_up(const struct lock *g, const struct lock *k, uint32_t mode)
{
	return g != k && overlap(g, k) && !agree(k, g->granted, mode);
}

/* Does @k have to let @before, who came before it, go first? */
static bool lets_go_first(const struct lock *k, const struct lock *before)
{
	return overlap(k, before) && !agree(k, before->wanted, k->wanted) &&
	       (!lock_holds(k) || agree(k, k->granted, before->wanted));
}

/* Who of the granted is in the way of @mode for @k, or NULL. */
const struct lock *order_holder(const struct lock *k, uint32_t mode)
{
	list_for_each(link, &k->res->granted)
	{
		const struct lock *g = list_entry(link, struct lock, in_granted);

		if (holds_up(g, k, mode)) {
			return g;
		}
	}
	return NULL;
}

/* Whom does @k, which waits or is about to, wait for? NULL: nobody. */
const struct lock *order_blocker(const struct lock *k)
{
	const struct lock *g = order_holder(k, k->wanted);

	if (g != NULL) {
		return g;
	}
	list_for_each(link, &k->res->waiting)
	{
		const struct lock *w = list_entry(link, struct lock, in_waiting);

		if (w == k) {
			break;
		}
		if (lets_go_first(k, w)) {
			return w;
		}
	}
	return NULL;
}

/* Put into @next those that @x waits for and that wait themselves. Returns true if @k is one. */
static bool look_from(struct csv_lock *l, const struct lock *x, const struct lock *k,
                      struct list *next)
{
	bool before = true;

	list_for_each(link, &x->res->waiting)
	{
		struct lock *w = list_entry(link, struct lock, in_waiting);

		if (w == x) {
			before = false;
			continue;
		}
		if (!(lock_holds(w) && holds_up(w, x, x->wanted)) &&
		    !(before && lets_go_first(x, w))) {
			continue;
		}
		if (w == k) {
			return true;
		}
		if (w->visited != l->searches) {
			w->visited = l->searches;
			list_add_tail(next, &w->search);
		}
	}
	return false;
}

/* Does @k, which is last in the queue, wait for itself? */
bool order_circle(struct csv_lock *l, struct lock *k)
{
	struct list next;
	struct list *link;
	bool found = false;

	list_init(&next);
	l->searches++;
	k->visited = l->searches;
	list_add_tail(&next, &k->search);
	while ((link = list_pop(&next)) != NULL && !found) {
		found = look_from(l, list_entry(link, struct lock, search), k, &next);
	}
	if (link != NULL) {
		list_init(link);
	}
	while (list_pop(&next) != NULL) {
	}
	return found;
}

void order_say(struct csv_lock *l, struct lock *k)
{
	if (!list_linked(&k->action)) {
		list_add_tail(&l->actions, &k->action);
	}
}

static void grant(struct csv_lock *l, struct lock *k)
{
	list_del(&k->in_waiting);
	if (!lock_holds(k)) {
		k->state = CSV_LOCK_HELD;
		list_add_tail(&k->res->granted, &k->in_granted);
	}
	k->granted = k->wanted;
	k->waits = false;
	l->stats.waiting--;
	l->stats.granted_later++;
	stats_waited(l, l->now_ns - k->since_ns);
	k->since_ns = l->now_ns;
	k->say_granted = true;
	order_say(l, k);
}

/* It is in nobody's way (any more). */
void order_calm(struct lock *k)
{
	if (k->state == CSV_LOCK_NOTICED) {
		k->state = CSV_LOCK_HELD;
		k->noticed = 0;
		k->notices = 0;
		k->res->noticed--;
		list_del(&k->timer);
	}
}

/* Somebody waits for @mode, and @g is in the way. */
static void notice(struct csv_lock *l, struct lock *g, uint32_t mode)
{
	uint32_t bit = g->res->class == CSV_LOCK_MODES ? 1u << mode : 1u;

	g->in_the_way = true;
	if (g->state == CSV_LOCK_REVOKED) {
		return;
	}
	if (g->state != CSV_LOCK_NOTICED) {
		g->state = CSV_LOCK_NOTICED;
		g->res->noticed++;
		g->due_ns = l->now_ns + l->cfg.revoke_ns;
		list_add_tail(&l->noticed, &g->timer);
	}
	if ((g->noticed & bit) == 0) {
		g->noticed |= bit;
		g->notices |= bit;
		order_say(l, g);
	}
}

static bool grant_some(struct csv_lock *l, struct resource *r)
{
	bool any = false;

	list_for_each_safe(link, &r->waiting)
	{
		struct lock *k = list_entry(link, struct lock, in_waiting);

		if (order_blocker(k) == NULL) {
			grant(l, k);
			any = true;
		}
	}
	return any;
}

/* Something went away or came: grant what can be, say it to those in the way of the rest. */
void order_settle(struct csv_lock *l, struct resource *r)
{
	while (grant_some(l, r)) {
	}
	if (list_empty(&r->waiting) && r->noticed == 0) {
		return;
	}
	list_for_each(link, &r->granted)
	{
		list_entry(link, struct lock, in_granted)->in_the_way = false;
	}
	list_for_each(link, &r->waiting)
	{
		const struct lock *w = list_entry(link, struct lock, in_waiting);

		list_for_each(other, &r->granted)
		{
			struct lock *g = list_entry(other, struct lock, in_granted);

			if (holds_up(g, w, w->wanted)) {
				notice(l, g, w->wanted);
			}
		}
	}
	list_for_each(link, &r->granted)
	{
		struct lock *g = list_entry(link, struct lock, in_granted);

		if (!g->in_the_way) {
			order_calm(g);
		}
	}
}
