/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CSV_LINK_CSV_LINK_H
#define CSV_LINK_CSV_LINK_H

/*
 * csv_link - one connection between two nodes of a shared volume: TLS 1.3 on TCP, both certificates
 * verified, carrying csv_msg messages; on an event loop.
 *
 * The peer is hostile until its certificate was verified, and not trusted afterwards: a message
 * that does not decode ends the connection, memory is bounded, and the end that accepted does not
 * read from a peer that does not read its answers. (The end that dialled always reads.) Nothing
 * blocks.
 *
 *	DIALLING -> HANDSHAKE -> OPEN -> (closed() is called, once) -> gone
 *	accepted ------^
 *
 * Thread: the loop's. Callbacks come from the loop, never from inside a call of these functions.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/tls.h"
#include "csv/proto/csv_proto.h"

struct csv_link;
struct errbuf;
struct loop;

#define CSV_LINK_QUEUE_MAX (4u << 20)     /* [bytes] to be sent; more means that nobody reads */
#define CSV_LINK_QUEUE_HIGH (256u << 10)  /* from here on who accepted reads nothing */
#define CSV_LINK_CONNECT_NS 5000000000ull /* to connect, and for the handshake */

struct csv_link_ops {
	/* The peer is verified. @peer: borrowed for the call. */
	void (*ready)(void *arg, const struct tls_peer *peer);
	/* A message arrived: borrowed for the call. Returns 0, or -errno: the link closes. */
	int (*message)(void *arg, const struct csv_msg *msg);
	/* It is over, and the link does not exist any more after this call. Not after
	 * csv_link_destroy(). @why: for the log. */
	void (*closed)(void *arg, int err, const char *why);
};

struct csv_link_cfg {
	struct loop *loop;   /* borrowed as long as the link */
	struct tls_ctx *tls; /* likewise */
	const struct csv_link_ops *ops;
	void *arg;
	uint32_t message_max; /* [bytes]; 0 = CSV_MSG_MAX */
};

/*
 * csv_link_dial() - connect to a node.
 * @addr: numeric IPv4 or IPv6. @name: that its certificate must have.
 * Returns 0: ready() or closed() follows; -EINVAL addr or name; -ENOMEM; -errno.
 */
MUST_USE int csv_link_dial(const struct csv_link_cfg *cfg, const char *addr, uint16_t port,
                           const char *name, struct csv_link **out, struct errbuf *eb);

/* csv_link_accept() - a socket that was accepted, nonblocking. Takes @fd, also on failure.
 * Returns 0: ready() or closed() follows; -ENOMEM; -errno. */
MUST_USE int csv_link_accept(const struct csv_link_cfg *cfg, int fd, struct csv_link **out,
                             struct errbuf *eb);

/* csv_link_set_arg() - who gets the callbacks from now on. */
void csv_link_set_arg(struct csv_link *l, const struct csv_link_ops *ops, void *arg);

/* csv_link_send() - queue one message. Returns 0; -ENOTCONN it is not open (any more); -ENOBUFS the
 * peer does not read: the link closes; -ENOMEM likewise. */
MUST_USE int csv_link_send(struct csv_link *l, const struct csv_msg *msg);

/* csv_link_end() - what is queued still goes out, nothing is read any more; then closed(). */
void csv_link_end(struct csv_link *l);

/* csv_link_silent_ns() - since when nothing was received. */
uint64_t csv_link_silent_ns(const struct csv_link *l);

/* csv_link_destroy() - at once, without callback; also from inside one. NULL is fine. */
void csv_link_destroy(struct csv_link *l);

/* What it did, for inspection and tests. */
struct csv_link_stats {
	uint64_t sent; /* messages */
	uint64_t received;
	uint64_t held_up; /* times that it was not read because of its queue */
};

void csv_link_get_stats(const struct csv_link *l, struct csv_link_stats *out);

#endif
