/* SPDX-License-Identifier: Apache-2.0 */

/* table - where locks are: by their id, by their resource, by their client. */
#include <errno.h>
#include <stdlib.h>

#include "base/errbuf.h"
#include "base/fault.h"
#include "csv/lock/lock_int.h"

static uint32_t bucket(const struct csv_lock *l, uint64_t a, uint64_t b)
{
	uint64_t h = (a ^ b * 0x9e3779b97f4a7c15u) * 0xff51afd7ed558ccdu;

	return (uint32_t)(h >> 32) & (l->bucket_count - 1);
}

static struct lock **lock_bucket(const struct csv_lock *l, const struct csv_lock_id *id)
{
	return &l->lock_at[bucket(l, id->number, id->owner.incarnation ^ id->owner.node)];
}

static struct resource **resource_bucket(const struct csv_lock *l, const struct csv_lock_name *name)
{
	return &l->resource_at[bucket(l, name->object, name->space)];
}

static bool same_owner(const struct csv_lock_owner *a, const struct csv_lock_owner *b)
{
	return a->node == b->node && a->incarnation == b->incarnation;
}

struct lock *table_find(const struct csv_lock *l, const struct csv_lock_id *id)
{
	struct lock *k = *lock_bucket(l, id);

	while (k != NULL && (k->id.number != id->number || !same_owner(&k->id.owner, &id->owner))) {
		k = k->next;
	}
	return k;
}

static struct resource *find_resource(const struct csv_lock *l, const struct csv_lock_name *name)
{
	struct resource *r = *resource_bucket(l, name);

	while (r != NULL && (r->name.object != name->object || r->name.space != name->space)) {
		r = r->next;
	}
	return r;
}

struct client *table_client(struct csv_lock *l, const struct csv_lock_owner *owner)
{
	struct client *unused = NULL;

	for (uint32_t i = 0; i < CSV_LOCK_CLIENTS_MAX; i++) {
		struct client *c = &l->clients[i];

		if (c->count != 0 && same_owner(&c->owner, owner)) {
			return c;
		}
		if (c->count == 0 && unused == NULL) {
			unused = c;
		}
	}
	if (unused != NULL) {
		unused->owner = *owner;
	}
	return unused;
}

static struct resource *add_resource(struct csv_lock *l, const struct csv_lock_req *req)
{
	struct resource **at = resource_bucket(l, &req->name);
	struct resource *r = l->free_resource; /* there are as many as locks */

	l->free_resource = r->next;
	*r = (struct resource){.name = req->name, .class = req->class, .next = *at};
	list_init(&r->granted);
	list_init(&r->waiting);
	*at = r;
	l->stats.resources++;
	return r;
}

static void remove_resource(struct csv_lock *l, struct resource *r)
{
	struct resource **at = resource_bucket(l, &r->name);

	while (*at != r) {
		at = &(*at)->next;
	}
	*at = r->next;
	r->next = l->free_resource;
	l->free_resource = r;
	l->stats.resources--;
}

/* All that can be refused comes before the first change. The lock is in neither list of its
 * resource yet. */
int table_add(struct csv_lock *l, const struct csv_lock_req *req, struct lock **out)
{
	struct resource *r = find_resource(l, &req->name);
	struct client *c = table_client(l, &req->id.owner);
	struct lock *k = l->free_lock;

	if (r != NULL && r->class != req->class) {
		return -EINVAL;
	}
	if (k == NULL || (r != NULL && r->count == CSV_LOCK_PER_RESOURCE_MAX)) {
		return -ENOSPC;
	}
	if (c == NULL) {
		return -EUSERS;
	}
	if (c->count == l->cfg.per_client_max) {
		return -EDQUOT;
	}
	if (r == NULL) {
		r = add_resource(l, req);
	}

	struct lock **at = lock_bucket(l, &req->id);

	l->free_lock = k->next;
	*k = (struct lock){
		.id = req->id,
		.res = r,
		.client = c,
		.state = CSV_LOCK_NEW,
		.wanted = req->mode,
		.from = req->from,
		.to = req->to,
		.arg = req->arg,
		.since_ns = l->now_ns,
		.next = *at,
	};
	list_init(&k->in_granted);
	list_init(&k->in_waiting);
	list_init(&k->of_client);
	list_init(&k->timer);
	list_init(&k->action);
	list_init(&k->search);
	*at = k;
	if (c->count++ == 0) {
		list_init(&c->locks);
		l->stats.clients++;
	}
	list_add_tail(&c->locks, &k->of_client);
	r->count++;
	l->stats.locks++;
	*out = k;
	return 0;
}

/* Its resource goes with the last lock. */
void table_remove(struct csv_lock *l, struct lock *k)
{
	struct lock **at = lock_bucket(l, &k->id);

	order_calm(k);
	l->stats.waiting -= k->waits;
	list_del(&k->in_granted);
	list_del(&k->in_waiting);
	list_del(&k->of_client);
	list_del(&k->timer);
	list_del(&k->action);
	k->client->overdue -= k->overdue ? 1 : 0;
	l->overdue -= k->overdue ? 1 : 0;
	if (--k->client->count == 0) {
		l->stats.clients--;
	}
	if (--k->res->count == 0) {
		remove_resource(l, k->res);
	}
	while (*at != k) {
		at = &(*at)->next;
	}
	*at = k->next;
	k->next = l->free_lock;
	l->free_lock = k;
	l->stats.locks--;
}

static int check_cfg(struct csv_lock_cfg *cfg, struct errbuf *eb)
{
	if (cfg->locks_max > CSV_LOCK_MAX) {
		return errbuf_set(eb, -EINVAL, "%u locks: at most %u", cfg->locks_max,
		                  CSV_LOCK_MAX);
	}
	cfg->locks_max = cfg->locks_max == 0 ? 65536 : cfg->locks_max;
	cfg->per_client_max = cfg->per_client_max == 0 ? cfg->locks_max : cfg->per_client_max;
	cfg->revoke_ns = cfg->revoke_ns == 0 ? CSV_LOCK_REVOKE_NS : cfg->revoke_ns;
	cfg->fence_ns = cfg->fence_ns == 0 ? CSV_LOCK_FENCE_NS : cfg->fence_ns;
	return 0;
}

static void make_free(struct csv_lock *l)
{
	for (uint32_t i = l->cfg.locks_max; i-- != 0;) {
		l->locks[i].next = l->free_lock;
		l->free_lock = &l->locks[i];
		l->resources[i].next = l->free_resource;
		l->free_resource = &l->resources[i];
	}
}

int csv_lock_create(const struct csv_lock_cfg *cfg, struct csv_lock **out, struct errbuf *eb)
{
	struct csv_lock_cfg want = *cfg;
	struct csv_lock *l = NULL;
	int err = check_cfg(&want, eb);

	*out = NULL;
	if (err != 0) {
		return err;
	}
	l = gw_calloc(1, sizeof(*l));
	if (l == NULL) {
		return errbuf_set(eb, -ENOMEM, "no memory for a lock manager");
	}
	l->cfg = want;
	l->grace = want.grace;
	l->bucket_count = 16;
	while (l->bucket_count < want.locks_max) {
		l->bucket_count *= 2;
	}
	list_init(&l->noticed);
	list_init(&l->revoked);
	list_init(&l->actions);
	l->locks = gw_calloc(want.locks_max, sizeof(*l->locks));
	l->resources = gw_calloc(want.locks_max, sizeof(*l->resources));
	l->lock_at = gw_calloc(l->bucket_count, sizeof(struct lock *));
	l->resource_at = gw_calloc(l->bucket_count, sizeof(struct resource *));
	if (l->locks == NULL || l->resources == NULL || l->lock_at == NULL ||
	    l->resource_at == NULL) {
		csv_lock_destroy(l);
		return errbuf_set(eb, -ENOMEM, "no memory for %u locks", want.locks_max);
	}
	make_free(l);
	*out = l;
	return 0;
}

void csv_lock_destroy(struct csv_lock *l)
{
	if (l == NULL) {
		return;
	}
	free(l->locks);
	free(l->resources);
	free((void *)l->lock_at);
	free((void *)l->resource_at);
	free(l);
}

size_t csv_lock_memory(const struct csv_lock *l)
{
	return sizeof(*l) + l->cfg.locks_max * (sizeof(struct lock) + sizeof(struct resource)) +
	       (size_t)l->bucket_count * 2 * sizeof(void *);
}
