/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLUSTER_CORO_CORO_H
#define CLUSTER_CORO_CORO_H

/*
 * coro - the door to corosync: one process group, its ring, quorum, and messages, on a base/loop.
 *
 * Events are handed on as they come, in corosync's order; what they mean together is cluster/view's
 * business. If corosync is not there or goes away, coro says so once and tries again every
 * CORO_RETRY_NS: nothing here fails for good.
 *
 * Messages from node to node travel in the group, too, with an address that the others look at:
 * the same encryption and the same cuts, no second port (docs/decisions/0133).
 *
 * corosync refuses messages while it forms a ring; they wait here, in order, up to
 * CORO_WAITING_MAX bytes. Beyond that we are of no use to the others: the connection is dropped.
 *
 * Its libraries' calls block while corosync is stopped (SIGSTOP): what must go on without it,
 * leases and watchdog, runs on another thread.
 *
 * Threads: the loop's.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "cluster/view/view.h"

struct coro;
struct errbuf;
struct loop;

#define CORO_RETRY_NS 200000000ull
#define CORO_WAITING_MAX (64u << 20) /* bytes; every proposal of a node fits many times */
#define CORO_MESSAGE_MAX (1u << 20)  /* bytes */

struct coro_ops {
	void (*group)(void *arg, const struct view_peer *peers, uint32_t count);
	void (*ring)(void *arg, const struct view_ring *ring, const uint32_t *members,
	             uint32_t count);
	void (*quorum)(void *arg, uint64_t ring_seq, bool quorate);
	void (*config)(void *arg, uint64_t config_version); /* of corosync.conf; 0 = not set */
	void (*message)(void *arg, const struct view_peer *from, const void *buf, size_t len);
	void (*unicast)(void *arg, uint32_t nodeid, const void *buf, size_t len);
	void (*up)(void *arg, uint32_t nodeid); /* connected; we are @nodeid */
	void (*down)(void *arg, const char *why);
};

/*
 * coro_open() - start connecting; events come from the loop.
 * @group: name of the process group, at most 64 characters.
 * Returns 0; -ENOMEM; -EINVAL.
 */
MUST_USE int coro_open(struct loop *loop, const char *group, const struct coro_ops *ops, void *arg,
                       struct coro **out, struct errbuf *eb);

/* coro_close() - leave the group and disconnect. NULL is fine. Not from a callback. */
void coro_close(struct coro *c);

/* coro_multicast() - to the group, ourselves included. Dropped while not connected. */
void coro_multicast(struct coro *c, const void *buf, size_t len);

/* coro_unicast() - to one node of the group. */
void coro_unicast(struct coro *c, uint32_t nodeid, const void *buf, size_t len);

/* coro_token_ms() - the token with which the corosync of this host runs, whatever its file says.
 * Returns 0; -ENOTCONN; -ENOENT it does not say. Any thread; blocks while corosync is stopped. */
MUST_USE int coro_token_ms(uint32_t *out);

/* coro_reset() - leave and connect anew: a member that halted must not seem to be one. */
void coro_reset(struct coro *c, const char *why);

#endif
