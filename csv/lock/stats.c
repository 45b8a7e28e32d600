/* SPDX-License-Identifier: Apache-2.0 */

/* stats - what people and tests want to know about the locks. */
#include <errno.h>

#include "base/check.h"
#include "csv/lock/lock_int.h"

/* Four buckets per octave. */
static uint32_t bucket_of(uint64_t ns)
{
	if (ns < 4) {
		return (uint32_t)ns;
	}

	uint32_t octave = 63 - (uint32_t)__builtin_clzll(ns);

	return (octave - 1) * 4 + (uint32_t)(ns >> (octave - 2) & 3);
}

static uint64_t bucket_end(uint32_t bucket)
{
	if (bucket < 4) {
		return bucket;
	}

	uint32_t octave = bucket / 4 + 1;

	return ((4ull + bucket % 4 + 1) << (octave - 2)) - 1;
}

void stats_waited(struct csv_lock *l, uint64_t wait_ns)
{
	l->waited[bucket_of(wait_ns)]++;
	if (wait_ns > l->stats.wait_max_ns) {
		l->stats.wait_max_ns = wait_ns;
	}
}

uint64_t csv_lock_wait_ns(const struct csv_lock *l, uint32_t permille)
{
	uint64_t all = l->stats.granted_later;
	uint64_t want = all / 1000 * permille + (all % 1000 * permille + 999) / 1000;
	uint64_t seen = 0;

	for (uint32_t i = 0; all != 0 && i < BUCKETS; i++) {
		seen += l->waited[i];
		if (seen >= want && seen != 0) {
			uint64_t end = bucket_end(i);

			return end < l->stats.wait_max_ns ? end : l->stats.wait_max_ns;
		}
	}
	return 0;
}

void csv_lock_get_stats(const struct csv_lock *l, struct csv_lock_stats *out)
{
	*out = l->stats;
}

static void info_of(const struct lock *k, struct csv_lock_info *out)
{
	*out = (struct csv_lock_info){
		.id = k->id,
		.name = k->res->name,
		.class = k->res->class,
		.state = k->state,
		.waiting = k->waits,
		.granted = k->granted,
		.wanted = k->wanted,
		.from = k->from,
		.to = k->to,
		.since_ns = k->since_ns,
	};
}

int csv_lock_find(const struct csv_lock *l, const struct csv_lock_id *id, struct csv_lock_info *out)
{
	const struct lock *k = table_find(l, id);

	if (k == NULL) {
		return -ENOENT;
	}
	info_of(k, out);
	return 0;
}

void csv_lock_walk(const struct csv_lock *l, const struct csv_lock_owner *owner,
                   csv_lock_see_fn see, void *arg)
{
	for (uint32_t i = 0; i < CSV_LOCK_CLIENTS_MAX; i++) {
		const struct client *c = &l->clients[i];

		if (c->count == 0 ||
		    (owner != NULL && (c->owner.node != owner->node ||
		                       c->owner.incarnation != owner->incarnation))) {
			continue;
		}
		list_for_each(link, &c->locks)
		{
			struct csv_lock_info info;

			info_of(list_entry(link, struct lock, of_client), &info);
			see(arg, &info);
		}
	}
}

const char *csv_lock_mode_name(enum csv_lock_mode mode)
{
	switch (mode) {
	case CSV_LOCK_NL:
		return "NL";
	case CSV_LOCK_CR:
		return "CR";
	case CSV_LOCK_CW:
		return "CW";
	case CSV_LOCK_PR:
		return "PR";
	case CSV_LOCK_PW:
		return "PW";
	case CSV_LOCK_EX:
		return "EX";
	}
	return "?";
}

/* Locks in lists, and lists of their resources. Returns how many there are. */
static uint32_t verify_client(const struct client *c, uint32_t *waiting)
{
	uint32_t count = 0;

	list_for_each(link, &c->locks)
	{
		const struct lock *k = list_entry(link, struct lock, of_client);

		CHECK(k->client == c);
		CHECK(lock_holds(k) == list_linked(&k->in_granted));
		CHECK(k->waits == list_linked(&k->in_waiting));
		CHECK(lock_holds(k) || k->waits);
		CHECK(k->state != CSV_LOCK_NOTICED || list_linked(&k->timer));
		CHECK(k->state != CSV_LOCK_REVOKED || !k->waits);
		CHECK(!lock_holds(k) || order_holder(k, k->granted) == NULL);
		CHECK(!k->waits || order_blocker(k) != NULL);
		*waiting += k->waits;
		count++;
	}
	return count;
}

void csv_lock_verify(const struct csv_lock *l)
{
	uint32_t count = 0;
	uint32_t waiting = 0;

	for (uint32_t i = 0; i < CSV_LOCK_CLIENTS_MAX; i++) {
		const struct client *c = &l->clients[i];

		if (c->count != 0) {
			CHECK(verify_client(c, &waiting) == c->count);
			count += c->count;
		}
	}
	CHECK(count == l->stats.locks);
	CHECK(waiting == l->stats.waiting);
	CHECK(!l->grace || waiting == 0);
}
