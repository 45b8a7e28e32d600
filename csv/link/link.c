/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "base/loop.h"
#include "base/tcp.h"
#include "csv/link/csv_link.h"

#define IN_BYTES (16u << 10) /* one TLS record; grows to the message that is arriving */
#define OUT_BYTES (16u << 10)
#define TURN_MESSAGES 32u /* then the others of the loop come first */
#define DEAD_MS 10000     /* data that nobody acknowledges */

enum phase { DIALLING, HANDSHAKE, OPEN, ENDING, BROKEN };

struct csv_link {
	struct csv_link_cfg cfg;
	enum phase phase;
	int fd; /* owned */
	struct tls_conn *tls;
	char name[TLS_NAME_MAX]; /* dialled: whom we want */
	enum tls_role role;
	struct loop_fd *watch;
	struct loop_timer *timer; /* deadline of the handshake; then: go on at once */
	uint32_t read_waits;      /* LOOP_* that reading, writing wait for */
	uint32_t write_waits;
	uint8_t *in; /* owned */
	size_t in_len;
	size_t in_size;
	uint8_t *out; /* owned */
	size_t out_at;
	size_t out_len; /* from out_at on */
	size_t out_size;
	uint64_t heard_ns;
	int err;
	struct errbuf eb;
	bool in_callback;
	bool dead; /* destroyed from inside a callback */
	struct csv_link_stats stats;
};

static void link_turn(struct csv_link *l);

static void link_free(struct csv_link *l)
{
	loop_timer_del(l->timer);
	loop_fd_del(l->watch);
	tls_conn_destroy(l->tls);
	if (l->fd >= 0) {
		(void)close(l->fd);
	}
	free(l->in);
	free(l->out);
	free(l);
}

void csv_link_destroy(struct csv_link *l)
{
	if (l == NULL) {
		return;
	}
	if (l->in_callback) {
		l->dead = true;
		return;
	}
	link_free(l);
}

static int link_break(struct csv_link *l, int err)
{
	if (l->phase != BROKEN) {
		l->phase = BROKEN;
		l->err = err;
	}
	return err;
}

/* ---- sending ---- */

/* Room for @more bytes behind what is queued. */
static int out_room(struct csv_link *l, size_t more)
{
	size_t need = l->out_len + more;
	size_t size = l->out_size != 0 ? l->out_size : OUT_BYTES;
	uint8_t *grown;

	if (l->out_len != 0 && l->out_at != 0) {
		memmove(l->out, l->out + l->out_at, l->out_len);
	}
	l->out_at = 0;
	if (need <= l->out_size) {
		return 0;
	}
	while (size < need) {
		size *= 2;
	}
	grown = gw_realloc_array(l->out, size, 1);
	if (grown == NULL) {
		return -ENOMEM;
	}
	l->out = grown;
	l->out_size = size;
	return 0;
}

/* A message fits in what is there, or in a bit more: most are short. */
static int encode(struct csv_link *l, const struct csv_msg *msg)
{
	size_t more = OUT_BYTES;

	for (;;) {
		int err = out_room(l, more);

		if (err != 0) {
			return err;
		}

		int len = csv_msg_encode(msg, l->out + l->out_len, l->out_size - l->out_len);

		if (len > 0) {
			l->out_len += (size_t)len;
			return 0;
		}
		if (len != -EMSGSIZE || more > CSV_MSG_MAX) {
			return len;
		}
		more *= 8;
	}
}

int csv_link_send(struct csv_link *l, const struct csv_msg *msg)
{
	int err;

	if (l->phase != OPEN) {
		return -ENOTCONN;
	}
	err = l->out_len > CSV_LINK_QUEUE_MAX ? -ENOBUFS : encode(l, msg);
	if (err != 0) {
		(void)errbuf_sys(&l->eb, err, "send");
		(void)link_break(l, err);
	} else {
		l->stats.sent++;
	}
	if (!l->in_callback) {
		loop_timer_arm(l->timer, 0); /* together with what else is said now */
	}
	return err;
}

void csv_link_end(struct csv_link *l)
{
	if (l->phase != BROKEN) {
		l->phase = l->phase == OPEN ? ENDING : BROKEN;
		l->err = l->err != 0 ? l->err : -ECONNABORTED;
	}
	if (!l->in_callback) {
		loop_timer_arm(l->timer, 0);
	}
}

static int flush_out(struct csv_link *l)
{
	l->write_waits = 0;
	while (l->out_len != 0) {
		ssize_t n = tls_conn_write(l->tls, l->out + l->out_at, l->out_len);

		if (n == -EAGAIN) {
			l->write_waits = tls_conn_events(l->tls);
			return 0;
		}
		if (n < 0) {
			return link_break(l, (int)n);
		}
		l->out_at += (size_t)n;
		l->out_len -= (size_t)n;
	}
	l->out_at = 0;
	if (l->phase == ENDING) {
		int err = tls_conn_goodbye(l->tls);

		return link_break(l, err != 0 && err != -EAGAIN ? err : l->err);
	}
	return 0;
}

/* ---- receiving ---- */

/* Room for the message whose head is there. Returns its length; -EAGAIN; -errno. */
static int message_length(struct csv_link *l)
{
	uint32_t max = l->cfg.message_max != 0 ? l->cfg.message_max : CSV_MSG_MAX;
	int len = csv_msg_length(l->in, l->in_len, &l->eb);

	if (len < 0) {
		return len;
	}
	if ((uint32_t)len > max) {
		return errbuf_set(&l->eb, -EPROTO, "message of %d bytes: at most %u here", len,
		                  max);
	}
	if ((size_t)len > l->in_size) {
		uint8_t *grown = gw_realloc_array(l->in, (size_t)len, 1);

		if (grown == NULL) {
			return errbuf_sys(&l->eb, -ENOMEM, "message of %d bytes", len);
		}
		l->in = grown;
		l->in_size = (size_t)len;
	}
	return len;
}

/* Hand one message over. Returns 1; 0 there is none yet; -errno. */
static int take(struct csv_link *l)
{
	struct csv_msg msg;
	int len = message_length(l);

	if (len == -EAGAIN || (len > 0 && (size_t)len > l->in_len)) {
		return 0;
	}
	if (len < 0) {
		return len;
	}

	int err = csv_msg_decode(l->in, (size_t)len, &msg, &l->eb);

	if (err != 0) {
		return err;
	}
	l->stats.received++;
	err = l->cfg.ops->message(l->cfg.arg, &msg);
	if (err != 0) {
		if (!l->dead) {
			(void)errbuf_sys(&l->eb, err, "%s", csv_msg_type_name(msg.type));
		}
		return err;
	}
	l->in_len -= (size_t)len;
	if (l->in_len != 0) {
		memmove(l->in, l->in + len, l->in_len);
	}
	return 1;
}

static int fill_in(struct csv_link *l)
{
	ssize_t n = tls_conn_read(l->tls, l->in + l->in_len, l->in_size - l->in_len);

	if (n == -EAGAIN) {
		l->read_waits = tls_conn_events(l->tls);
		return 0;
	}
	if (n <= 0) {
		return n == 0 ? errbuf_set(&l->eb, -ECONNRESET, "closed by the peer") : (int)n;
	}
	l->in_len += (size_t)n;
	l->heard_ns = clock_boot_ns();
	return 1;
}

/* If both waited for the other to read first, both would wait for ever. What the end that dialled
 * gets is bounded by what it asks for. */
static bool peer_should_read(const struct csv_link *l)
{
	return l->role == TLS_SERVER && l->out_len > CSV_LINK_QUEUE_HIGH;
}

/* Until there is nothing, it is somebody else's turn, or the peer should read first. */
static int receive(struct csv_link *l)
{
	l->read_waits = 0;
	for (uint32_t i = 0; l->phase == OPEN && !l->dead;) {
		if (peer_should_read(l)) {
			l->stats.held_up++;
			return 0; /* when it is sent, flush_out() comes back here */
		}

		int got = take(l);

		if (got == 1 && ++i == TURN_MESSAGES) {
			loop_timer_arm(l->timer, 0);
			return 0;
		}
		if (got == 0) {
			got = fill_in(l);
		}
		if (got <= 0) {
			return got == 0 ? 0 : link_break(l, got);
		}
	}
	return 0;
}

/* ---- the beginning ---- */

static int dialled(struct csv_link *l)
{
	socklen_t len = sizeof(int);
	int err = 0;

	if (getsockopt(l->fd, SOL_SOCKET, SO_ERROR, &err, &len) != 0) {
		err = errno;
	}
	if (err != 0) {
		return errbuf_sys(&l->eb, -err, "connect");
	}
	l->phase = HANDSHAKE;
	return 0;
}

static int start_tls(struct csv_link *l)
{
	const struct tls_conn_cfg cfg = {
		.role = l->role,
		.peer_name = l->role == TLS_CLIENT ? l->name : NULL,
	};

	return tls_conn_create(l->cfg.tls, l->fd, &cfg, &l->tls, &l->eb);
}

static int shake(struct csv_link *l)
{
	int err = l->tls == NULL ? start_tls(l) : 0;

	if (err == 0) {
		err = tls_conn_handshake(l->tls, &l->eb);
	}
	if (err == -EAGAIN) {
		l->read_waits = tls_conn_events(l->tls);
		return 0;
	}
	if (err != 0) {
		return link_break(l, err);
	}
	l->phase = OPEN;
	l->heard_ns = clock_boot_ns();
	loop_timer_disarm(l->timer);
	l->cfg.ops->ready(l->cfg.arg, tls_conn_peer(l->tls));
	return 1;
}

/* One round of work; callbacks are called from here only. */
static void work(struct csv_link *l)
{
	if (l->phase == DIALLING) {
		int err = dialled(l);

		if (err != 0) {
			(void)link_break(l, err);
		}
	}
	if (l->phase == HANDSHAKE) {
		(void)shake(l);
	}
	if (l->phase == OPEN && !l->dead && flush_out(l) == 0) {
		(void)receive(l);
	}
	if ((l->phase == OPEN || l->phase == ENDING) && !l->dead) {
		(void)flush_out(l);
	}
	if (l->phase == OPEN && l->read_waits == 0 && l->write_waits == 0) {
		loop_timer_arm(l->timer, 0); /* there is more, after the others */
	}
}

static void link_turn(struct csv_link *l)
{
	l->in_callback = true;
	work(l);
	if (!l->dead && l->phase != BROKEN) {
		uint32_t events =
			l->phase == ENDING ? l->write_waits : l->read_waits | l->write_waits;
		int err = loop_fd_mod(l->watch, events);

		if (err != 0) {
			(void)link_break(l, err);
		}
	}
	if (!l->dead && l->phase == BROKEN) {
		l->cfg.ops->closed(l->cfg.arg, l->err, errbuf_text(&l->eb, l->err));
		l->dead = true;
	}
	l->in_callback = false;
	if (l->dead) {
		link_free(l);
	}
}

static void on_ready(int fd, uint32_t events, void *arg)
{
	(void)fd;
	(void)events;
	link_turn(arg);
}

static void on_timer(void *arg)
{
	struct csv_link *l = arg;

	if (l->phase == DIALLING || l->phase == HANDSHAKE) {
		(void)errbuf_set(&l->eb, -ETIMEDOUT, "no handshake within %llu s",
		                 (unsigned long long)(CSV_LINK_CONNECT_NS / NS_PER_S));
		(void)link_break(l, -ETIMEDOUT);
	}
	link_turn(l);
}

static int create(const struct csv_link_cfg *cfg, int fd, enum tls_role role, struct csv_link **out,
                  struct errbuf *eb)
{
	struct csv_link *l = gw_calloc(1, sizeof(*l));
	int one = 1;
	int dead = DEAD_MS;
	int err = -ENOMEM;

	*out = NULL;
	if (l == NULL) {
		(void)close(fd);
		return errbuf_sys(eb, -ENOMEM, "connection");
	}
	l->cfg = *cfg;
	l->fd = fd;
	l->role = role;
	l->phase = role == TLS_CLIENT ? DIALLING : HANDSHAKE;
	l->in = gw_malloc(IN_BYTES);
	l->in_size = IN_BYTES;
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &dead, sizeof(dead));
	(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	if (l->in != NULL) {
		err = loop_fd_add(cfg->loop, fd, role == TLS_CLIENT ? LOOP_WRITE : LOOP_READ,
		                  on_ready, l, &l->watch);
	}
	if (err == 0) {
		err = loop_timer_add(cfg->loop, CSV_LINK_CONNECT_NS, on_timer, l, &l->timer);
	}
	if (err != 0) {
		link_free(l);
		return errbuf_sys(eb, err, "connection");
	}
	*out = l;
	return 0;
}

int csv_link_dial(const struct csv_link_cfg *cfg, const char *addr, uint16_t port, const char *name,
                  struct csv_link **out, struct errbuf *eb)
{
	struct sockaddr_storage where;
	socklen_t len = 0;

	*out = NULL;
	if (tcp_address(addr, port, &where, &len) != 0 || !tls_name_valid(name)) {
		return errbuf_set(eb, -EINVAL, "\"%.60s\" at \"%.60s\": no name or address", name,
		                  addr);
	}

	int fd = socket(where.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0) {
		return errbuf_sys(eb, -errno, "socket");
	}
	if (connect(fd, (const struct sockaddr *)&where, len) != 0 && errno != EINPROGRESS) {
		int err = -errno;

		(void)close(fd);
		return errbuf_sys(eb, err, "connect to %s", addr);
	}

	int err = create(cfg, fd, TLS_CLIENT, out, eb);

	if (err == 0) {
		(void)snprintf((*out)->name, sizeof((*out)->name), "%s", name);
	}
	return err;
}

int csv_link_accept(const struct csv_link_cfg *cfg, int fd, struct csv_link **out,
                    struct errbuf *eb)
{
	return create(cfg, fd, TLS_SERVER, out, eb);
}

void csv_link_set_arg(struct csv_link *l, const struct csv_link_ops *ops, void *arg)
{
	l->cfg.ops = ops;
	l->cfg.arg = arg;
}

uint64_t csv_link_silent_ns(const struct csv_link *l)
{
	return clock_boot_ns() - l->heard_ns;
}

void csv_link_get_stats(const struct csv_link *l, struct csv_link_stats *out)
{
	*out = l->stats;
}
