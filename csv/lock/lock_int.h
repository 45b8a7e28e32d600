/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CSV_LOCK_LOCK_INT_H
#define CSV_LOCK_LOCK_INT_H

/*
 * The parts of csv_lock and who calls whom:
 *
 *	lock.c    requests, conversions, releases, time
 *	order.c   who is in whose way, who is next, circles
 *	table.c   memory: locks, resources, clients     stats.c   figures, walks, invariants
 */

#include "base/list.h"
#include "csv/lock/csv_lock.h"

#define BUCKETS 256u /* of waiting times: 64 octaves of 4 */

struct resource {
	struct csv_lock_name name;
	enum csv_lock_class class;
	struct list granted;   /* struct lock by granted */
	struct list waiting;   /* struct lock by waiting; who came first is first */
	uint32_t count;        /* of both */
	uint32_t noticed;      /* of the granted */
	struct resource *next; /* borrowed: same bucket, or next free */
};

struct client {
	struct csv_lock_owner owner;
	struct list locks; /* struct lock by of_client */
	uint32_t count;    /* 0 = free */
	uint32_t overdue;  /* of them: revoked, and not released within fence_ns */
};

struct lock {
	struct csv_lock_id id;
	struct resource *res;  /* borrowed: as long as the lock is used */
	struct client *client; /* borrowed: likewise */
	enum csv_lock_state state;
	bool waits;
	uint32_t granted;
	uint32_t wanted;
	uint64_t from;
	uint64_t to;
	uint64_t arg;
	uint64_t since_ns;
	uint64_t due_ns;  /* NOTICED, REVOKED: when it gets worse */
	uint32_t noticed; /* modes, as bits, that the owner knows of */
	uint32_t notices; /* and still has to be told */
	bool say_granted;
	bool say_revoke;
	bool say_fence;
	bool overdue;     /* REVOKED: counted in client.overdue */
	bool in_the_way;  /* found by order_settle() */
	uint64_t visited; /* by the last search that came here */
	struct list in_granted;
	struct list in_waiting;
	struct list of_client;
	struct list timer;  /* in noticed or revoked */
	struct list action; /* in actions */
	struct list search;
	struct lock *next; /* borrowed: same bucket, or next free */
};

struct csv_lock {
	struct csv_lock_cfg cfg;
	bool grace;
	uint64_t now_ns;               /* the latest that was seen */
	struct lock *locks;            /* owned, cfg.locks_max */
	struct resource *resources;    /* owned, as many */
	struct lock **lock_at;         /* owned: buckets */
	struct resource **resource_at; /* owned: buckets */
	uint32_t bucket_count;         /* of both; a power of two */
	struct lock *free_lock;
	struct resource *free_resource;
	struct client clients[CSV_LOCK_CLIENTS_MAX];
	struct list noticed; /* struct lock by timer: next due first */
	struct list revoked;
	uint32_t overdue; /* of all clients */
	struct list actions;
	uint64_t searches;
	struct csv_lock_stats stats;
	uint64_t waited[BUCKETS];
};

/* table.c */
struct lock *table_find(const struct csv_lock *l, const struct csv_lock_id *id);
int table_add(struct csv_lock *l, const struct csv_lock_req *req, struct lock **out);
void table_remove(struct csv_lock *l, struct lock *k);
struct client *table_client(struct csv_lock *l, const struct csv_lock_owner *owner);

/* order.c */
const struct lock *order_blocker(const struct lock *k);
const struct lock *order_holder(const struct lock *k, uint32_t mode);
bool order_circle(struct csv_lock *l, struct lock *k);
void order_settle(struct csv_lock *l, struct resource *r);
void order_say(struct csv_lock *l, struct lock *k);
void order_calm(struct lock *k);

/* stats.c */
void stats_waited(struct csv_lock *l, uint64_t wait_ns);

static inline bool lock_holds(const struct lock *k)
{
	return k->state != CSV_LOCK_NEW;
}

#endif
