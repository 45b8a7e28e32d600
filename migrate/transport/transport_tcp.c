/* SPDX-License-Identifier: Apache-2.0 */

/* transport_tcp - a stream socket, plain or in TLS. */

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/clock.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "base/loop.h"
#include "migrate/transport/transport.h"

#define TRANSPORT_RECORD_BYTES (16u << 10) /* the most that one TLS record holds */

struct transport_tcp {
	struct transport t;
	struct tls_conn *tls; /* owned; NULL = plain */
	short events;
	uint8_t *record; /* owned: [TRANSPORT_RECORD_BYTES]; NULL = plain */
};

static struct transport_tcp *transport_tcp(struct transport *t)
{
	return container_of(t, struct transport_tcp, t);
}

static short transport_tcp_events(const struct transport *t)
{
	const struct transport_tcp *c = (const struct transport_tcp *)(const void *)t;

	return c->events;
}

static void transport_tcp_close(struct transport *t)
{
	struct transport_tcp *c = transport_tcp(t);

	tls_conn_destroy(c->tls);
	free(c->record);
	(void)close(t->fd);
	free(c);
}

/* ---- plain ---- */

static int transport_plain_handshake(struct transport *t, struct errbuf *eb)
{
	(void)t;
	(void)eb;
	return 0;
}

/* sendmsg() and recvmsg() only read the array; their struct has no const. */
static void *transport_iov(const void *iov)
{
	void *same;

	memcpy(&same, &iov, sizeof(same));
	return same;
}

static ssize_t transport_plain_send(struct transport *t, const struct iovec *iov, int count)
{
	const struct msghdr msg = {
		.msg_iov = transport_iov(iov),
		.msg_iovlen = (size_t)count,
	};
	ssize_t n = sendmsg(t->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);

	if (n >= 0) {
		return n;
	}
	transport_tcp(t)->events = POLLOUT;
	return errno == EINTR || errno == EAGAIN ? -EAGAIN : -errno;
}

static ssize_t transport_plain_recv(struct transport *t, const struct iovec *iov, int count)
{
	struct msghdr msg = {
		.msg_iov = transport_iov(iov),
		.msg_iovlen = (size_t)count,
	};
	ssize_t n = recvmsg(t->fd, &msg, MSG_DONTWAIT);

	if (n >= 0) {
		return n;
	}
	transport_tcp(t)->events = POLLIN;
	return errno == EINTR || errno == EAGAIN ? -EAGAIN : -errno;
}

static bool transport_plain_pending(const struct transport *t)
{
	(void)t;
	return false;
}

static const struct transport_ops transport_plain_ops = {
	.name = "tcp",
	.handshake = transport_plain_handshake,
	.send = transport_plain_send,
	.recv = transport_plain_recv,
	.events = transport_tcp_events,
	.pending = transport_plain_pending,
	.close = transport_tcp_close,
};

/* ---- TLS ---- */

static void transport_tls_again(struct transport_tcp *c)
{
	c->events = (tls_conn_events(c->tls) & LOOP_WRITE) != 0 ? POLLOUT : POLLIN;
}

static int transport_tls_handshake(struct transport *t, struct errbuf *eb)
{
	struct transport_tcp *c = transport_tcp(t);
	int err = tls_conn_handshake(c->tls, eb);

	if (err == -EAGAIN) {
		transport_tls_again(c);
	}
	return err;
}

static ssize_t transport_tls_send(struct transport *t, const struct iovec *iov, int count)
{
	struct transport_tcp *c = transport_tcp(t);
	const void *from = iov[0].iov_base;
	size_t len = iov[0].iov_len;

	/* A short header and what follows go into one record. After -EAGAIN the same bytes come
	 * again, which is what TLS asks for. */
	if (count > 1 && len < TRANSPORT_RECORD_BYTES) {
		len = 0;
		for (int i = 0; i < count && len < TRANSPORT_RECORD_BYTES; i++) {
			size_t room = TRANSPORT_RECORD_BYTES - len;
			size_t step = iov[i].iov_len < room ? iov[i].iov_len : room;

			if (step != 0) {
				memcpy(c->record + len, iov[i].iov_base, step);
				len += step;
			}
		}
		from = c->record;
	}

	ssize_t n = tls_conn_write(c->tls, from, len);

	if (n == -EAGAIN) {
		transport_tls_again(c);
	}
	return n;
}

static ssize_t transport_tls_recv(struct transport *t, const struct iovec *iov, int count)
{
	struct transport_tcp *c = transport_tcp(t);
	ssize_t n = tls_conn_read(c->tls, iov[0].iov_base, iov[0].iov_len);

	(void)count;
	if (n == -EAGAIN) {
		transport_tls_again(c);
	}
	return n;
}

static bool transport_tls_pending(const struct transport *t)
{
	const struct transport_tcp *c = (const struct transport_tcp *)(const void *)t;

	return tls_conn_pending(c->tls) != 0;
}

static const struct transport_ops transport_tls_ops = {
	.name = "tls",
	.handshake = transport_tls_handshake,
	.send = transport_tls_send,
	.recv = transport_tls_recv,
	.events = transport_tcp_events,
	.pending = transport_tls_pending,
	.close = transport_tcp_close,
};

void transport_info(const struct transport *t, struct tls_info *out)
{
	*out = (struct tls_info){0};
	if (t->ops == &transport_tls_ops) {
		tls_conn_info(((const struct transport_tcp *)(const void *)t)->tls, out);
	}
}

const struct tls_peer *transport_peer(const struct transport *t)
{
	if (t->ops != &transport_tls_ops) {
		return NULL;
	}
	return tls_conn_peer(((const struct transport_tcp *)(const void *)t)->tls);
}

/* Small frames leave at once; a link that is cut is noticed. Other sockets than TCP refuse. */
static void transport_tcp_options(int fd, uint64_t silence_max_ns)
{
	int one = 1;
	unsigned timeout_ms = (unsigned)(silence_max_ns / NS_PER_MS);

	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof(timeout_ms));
	(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
}

int transport_open(const struct transport_cfg *cfg, struct transport **out, struct errbuf *eb)
{
	const struct tls_conn_cfg tls = {.role = cfg->role, .peer_name = cfg->peer_name};
	struct transport_tcp *c = gw_calloc(1, sizeof(*c));
	int flags = fcntl(cfg->fd, F_GETFL);
	int err;

	*out = NULL;
	if (c == NULL) {
		err = -ENOMEM;
		goto close_fd;
	}
	if (flags < 0 || fcntl(cfg->fd, F_SETFL, flags | O_NONBLOCK) != 0) {
		err = errbuf_sys(eb, -errno, "socket of the move");
		goto free_conn;
	}
	transport_tcp_options(cfg->fd, cfg->silence_max_ns);
	if (cfg->tls != NULL) {
		c->record = gw_malloc(TRANSPORT_RECORD_BYTES);
		if (c->record == NULL) {
			err = -ENOMEM;
			goto free_conn;
		}
		err = tls_conn_create(cfg->tls, cfg->fd, &tls, &c->tls, eb);
		if (err != 0) {
			goto free_conn;
		}
	}
	c->events = POLLIN;
	c->t = (struct transport){
		.ops = cfg->tls != NULL ? &transport_tls_ops : &transport_plain_ops,
		.fd = cfg->fd,
		.stop_fd = cfg->stop_fd,
		.silence_max_ns = cfg->silence_max_ns,
	};
	*out = &c->t;
	return 0;

free_conn:
	free(c->record);
	free(c);
close_fd:
	(void)close(cfg->fd);
	return err;
}
