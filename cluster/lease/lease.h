/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLUSTER_LEASE_LEASE_H
#define CLUSTER_LEASE_LEASE_H

/*
 * lease - a right that ends by itself: the holder's ladder and the observer's watch.
 *
 * A node holds a node lease (renewed by a committed entry of the database) and one volume lease
 * per volume (renewed by writing its liveness slot and finding its verdict slot clean). Both are a
 * struct lease. The holder calls lease_send() *before* anything of the renewal leaves the node
 * and lease_confirm() when it knows that it counted; the lease then runs from the time of that
 * lease_send(). Nothing else extends it, so an answer that comes late extends it less.
 *
 * lease_rung() says how far down the ladder of cluster/timing/timing.h the holder is. A VM that
 * may run on either lease is judged by lease_best(), one that needs several volumes by
 * lease_worst().
 *
 * The observer has a struct lease_watch per (node, incarnation) and per slot and tells it each
 * time it learns of a renewal; lease_watch_over() is the only way to say that a lease has ended.
 *
 * The length of a lease travels with its renewals, because a change of the configuration does not
 * reach all nodes at once: a holder uses the shorter of what it sent and what is configured, with
 * the rungs of that length, an observer waits for the longest that it was told of.
 *
 * Time is CLOCK_BOOTTIME of the node that calls [ns]; it counts suspended time.
 * Pure value types, one thread or lock of the caller's.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"

struct timing;

#define LEASE_PENDING_MAX 8u /* renewals under way; at most one per R, given up after L */

enum lease_rung {
	LEASE_OK,    /* all is well */
	LEASE_WARN,  /* renewals are late: take no new work, tell people */
	LEASE_PAUSE, /* vCPUs stand still, no new I/O */
	LEASE_KILL,  /* workers are killed */
	LEASE_OVER   /* or never held: nothing may run */
};

/* Value type: lease_init(). */
struct lease {
	bool held;
	uint64_t since_ns; /* if held: when the newest confirmed renewal was about to be sent */
	uint64_t lease_ns; /* if held: the length that went with it */
	uint64_t seq;      /* of the newest renewal sent */
	struct {
		uint64_t seq; /* 0 = free */
		uint64_t sent_ns;
		uint64_t lease_ns;
	} pending[LEASE_PENDING_MAX];
};

void lease_init(struct lease *l);

/*
 * lease_send() - a renewal of @t's lease is about to be sent.
 * Returns its number, which travels with it; 1, 2, ... The oldest unanswered one is forgotten
 * when LEASE_PENDING_MAX are under way.
 */
uint64_t lease_send(struct lease *l, const struct timing *t, uint64_t now_ns);

/* lease_confirm() - renewal @seq counted. Returns 0; -ESTALE forgotten, answered before, or not
 * newer than what is held; -EINVAL never sent. */
MUST_USE int lease_confirm(struct lease *l, uint64_t seq);

/* lease_drop() - give the lease up: fenced, left, or told to. */
void lease_drop(struct lease *l);

/* lease_rung() - where the holder stands at @now_ns. */
enum lease_rung lease_rung(const struct lease *l, const struct timing *t, uint64_t now_ns);

/* lease_pettable() - may the watchdog be petted for this lease? */
bool lease_pettable(const struct lease *l, const struct timing *t, uint64_t now_ns);

/* lease_next_ns() - when lease_rung() or lease_pettable() changes next; UINT64_MAX = never. */
uint64_t lease_next_ns(const struct lease *l, const struct timing *t, uint64_t now_ns);

/* lease_best(), lease_worst() - of two, the one that lasts longer or shorter. */
const struct lease *lease_best(const struct lease *a, const struct lease *b);
const struct lease *lease_worst(const struct lease *a, const struct lease *b);

/* lease_rung_name() - "ok", "warn", "pause", "kill", "over". */
const char *lease_rung_name(enum lease_rung rung);

/* The observer's side. Value type: lease_watch_start(). */
struct lease_watch {
	uint64_t seq;    /* of the newest renewal seen; 0 = none yet */
	uint64_t end_ns; /* it is certainly over, and nothing of it will be written any more */
};

/*
 * lease_watch_start() - begin to watch. Whatever was renewed before @now_ns could have been
 * renewed at @now_ns, so that a new observer waits the full time.
 * @lease_ms: the longest that the holder may use.
 */
void lease_watch_start(struct lease_watch *w, const struct timing *t, uint32_t lease_ms,
                       uint64_t now_ns);

/* lease_watch_seen() - renewal @seq was learned of, of a lease of @lease_ms. One that is not
 * newer than what was seen changes nothing: a slot that is read twice is not alive. */
void lease_watch_seen(struct lease_watch *w, const struct timing *t, uint64_t seq,
                      uint32_t lease_ms, uint64_t now_ns);

/*
 * lease_watch_over() - is the lease over, and what its holder sent on disk or lost? The caller
 * must know all renewals made before @now_ns: it is a member of the current primary view and has
 * applied its log, or it has re-read the slot at @now_ns or later.
 */
bool lease_watch_over(const struct lease_watch *w, uint64_t now_ns);

#endif
