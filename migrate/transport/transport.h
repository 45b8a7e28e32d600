/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MIGRATE_TRANSPORT_TRANSPORT_H
#define MIGRATE_TRANSPORT_TRANSPORT_H

/*
 * transport - bytes to and from the other end, whatever carries them.
 *
 * A transport is a table of nonblocking functions; the blocking calls here are built on it. They
 * end early when the stop descriptor becomes readable (an eventfd that is written once and never
 * read: all threads see it) and when the peer is silent for too long, so that no thread of a move
 * hangs. TCP, plain or in TLS, is the one there is (transport_open()); others bring their table.
 *
 * Threads: one sender and one receiver at a time for plain TCP; TLS belongs to one thread.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/attr.h"
#include "base/tls.h"

struct errbuf;
struct transport;

#define TRANSPORT_IOV_MAX 512 /* pieces of one call; Linux takes 1024 */

/* All complete; none blocks. */
struct transport_ops {
	const char *name;
	/* Returns 0; -EAGAIN; -errno as tls_conn_handshake(). */
	int (*handshake)(struct transport *t, struct errbuf *eb);
	/* Return bytes (> 0); 0 from recv: the peer closed; -EAGAIN; -errno. */
	ssize_t (*send)(struct transport *t, const struct iovec *iov, int count);
	ssize_t (*recv)(struct transport *t, const struct iovec *iov, int count);
	short (*events)(const struct transport *t); /* POLLIN, POLLOUT the last -EAGAIN waits for */
	bool (*pending)(const struct transport *t); /* received bytes that poll() does not show */
	void (*close)(struct transport *t);         /* frees t, closes the descriptor */
};

/* Embed it in an implementation; users look at nothing inside. */
struct transport {
	const struct transport_ops *ops;
	int fd;
	int stop_fd; /* borrowed; -1 = none */
	uint64_t silence_max_ns;
};

struct transport_cfg {
	int fd; /* connected stream socket; taken, closed also on failure */
	int stop_fd;
	uint64_t silence_max_ns;
	struct tls_ctx *tls; /* borrowed; NULL = plain */
	enum tls_role role;
	const char *peer_name; /* client: as in tls_conn_cfg */
};

/* transport_open() - over TCP (or any stream socket). Returns 0; -EINVAL; -ENOMEM; -errno. */
MUST_USE int transport_open(const struct transport_cfg *cfg, struct transport **out,
                            struct errbuf *eb);

/* transport_close() - NULL is fine. */
void transport_close(struct transport *t);

/* The calls below return 0 (or bytes), or: -ECANCELED the stop descriptor is readable;
 * -ETIMEDOUT the peer is silent; -ECONNRESET it is gone; -errno. */

/* transport_handshake() - get to know the peer; nothing to do when plain. Also -EKEYREJECTED,
 * -EKEYEXPIRED, -EPROTO as tls_conn_handshake(). */
MUST_USE int transport_handshake(struct transport *t, struct errbuf *eb);

/* transport_send() - all of @iov[count], count ..TRANSPORT_IOV_MAX. */
MUST_USE int transport_send(struct transport *t, const struct iovec *iov, int count);

/* transport_recv() - at least one byte, at most what fits @iov[count]. Returns how many. */
MUST_USE ssize_t transport_recv(struct transport *t, const struct iovec *iov, int count);

/* transport_recv_all() - fill @iov[count]. */
MUST_USE int transport_recv_all(struct transport *t, const struct iovec *iov, int count);

/*
 * transport_wait() - until there is something to receive, @wake_fd is readable (-1 = none), or
 * the time is over. Does not look at the stop descriptor.
 * Returns 1 there is something; 0 not; -errno.
 */
MUST_USE int transport_wait(struct transport *t, int wake_fd, int timeout_ms);

/* transport_info() - encryption in use; version NULL = plain. */
void transport_info(const struct transport *t, struct tls_info *out);

/* transport_peer() - the verified peer; NULL = plain. */
const struct tls_peer *transport_peer(const struct transport *t);

#endif
