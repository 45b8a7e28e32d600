/* SPDX-License-Identifier: Apache-2.0 */

/*
 * server_tls - TLS clients: our own TLS layer on TCP, one end of a socket pair to libmicrohttpd.
 *
 *	TCP <-> tls_conn <-> [in] -> pair[1] | pair[0] <-> libmicrohttpd
 *	                     [out] <-
 *
 * Why not libmicrohttpd's own TLS: docs/decisions/0021. Each direction is a buffer that is filled
 * when it is empty, so that a slow end slows the other one and memory stays bounded. libmicrohttpd
 * gets the connection only after the handshake: it never sees an unverified client.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/api/server_int.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "base/loop.h"
#include "base/tcp.h"
#include "base/tls.h"

#define API_RELAY_BYTES (16u << 10) /* one TLS record */
#define API_LINGER_S 2u             /* to let the last answer arrive before a reset destroys it */
#define API_TLS_BACKLOG 128

enum api_relay_phase {
	API_RELAY_HANDSHAKE,
	API_RELAY_OPEN,
	API_RELAY_LINGER /* all is sent; wait for the client to close */
};

struct api_relay_buf {
	size_t at;
	size_t len;
	bool end;      /* nothing follows what is in the buffer */
	bool end_sent; /* and the other side knows */
	char data[API_RELAY_BYTES];
};

struct api_relay {
	struct api_server *server;
	struct list link; /* in server->relays */
	int tcp;
	int pair; /* -1 before the handshake is done */
	struct tls_conn *tls;
	struct loop_fd *tcp_watch;
	struct loop_fd *pair_watch;
	enum api_relay_phase phase;
	bool unverified;      /* counted in handshake_count */
	uint64_t deadline_ns; /* of handshake and linger; 0 = none */
	uint32_t read_waits;  /* LOOP_* that reading from, writing to the client wait for */
	uint32_t write_waits;
	struct api_relay_buf in;  /* from the client */
	struct api_relay_buf out; /* to the client */
};

static void api_relay_destroy(struct api_relay *relay)
{
	list_del(&relay->link);
	if (relay->unverified) {
		relay->server->handshake_count--;
	}
	loop_fd_del(relay->tcp_watch);
	loop_fd_del(relay->pair_watch);
	tls_conn_destroy(relay->tls);
	(void)close(relay->tcp);
	if (relay->pair >= 0) {
		(void)close(relay->pair);
	}
	free(relay);
}

static uint32_t api_server_count_name(const struct api_server *server, const char *name)
{
	uint32_t count = 0;

	list_for_each(link, &server->conns)
	{
		const struct api_conn *conn = list_entry(link, struct api_conn, link);

		count += !conn->peer.local && strcmp(conn->peer.name, name) == 0;
	}
	return count;
}

static void api_relay_ready(int fd, uint32_t events, void *arg);

/* Numeric; "" if it has gone already. IPv4 as such, whatever socket it came through. */
static void api_relay_addr(int fd, char out[API_PEER_ADDR_MAX])
{
	struct sockaddr_storage from = {0};
	socklen_t len = sizeof(from);
	const char *text;

	_Static_assert(API_PEER_ADDR_MAX >= INET6_ADDRSTRLEN, "the longest address");
	out[0] = '\0';
	if (getpeername(fd, (struct sockaddr *)&from, &len) != 0) {
		return;
	}
	if (from.ss_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&from;

		text = IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr)
		               ? inet_ntop(AF_INET, &in6->sin6_addr.s6_addr[12], out,
		                           API_PEER_ADDR_MAX)
		               : inet_ntop(AF_INET6, &in6->sin6_addr, out, API_PEER_ADDR_MAX);
	} else {
		text = inet_ntop(AF_INET, &((const struct sockaddr_in *)&from)->sin_addr, out,
		                 API_PEER_ADDR_MAX);
	}
	CHECK(text != NULL); /* the room is enough */
}

/* The client is verified: let libmicrohttpd talk to it. */
static int api_relay_open(struct api_relay *relay)
{
	struct api_server *server = relay->server;
	const struct tls_peer *tls = tls_conn_peer(relay->tls);
	struct api_peer peer = {
		.node = tls->kind == TLS_KIND_NODE, .uid = (uid_t)-1, .gid = (gid_t)-1};
	enum api_admit admit = API_ADMITTED;
	int pair[2];

	_Static_assert(sizeof(peer.name) == sizeof(tls->name), "same names");
	_Static_assert(sizeof(peer.pin) == sizeof(tls->pin), "same pins");
	memcpy(peer.name, tls->name, sizeof(peer.name));
	memcpy(peer.pin, tls->pin, sizeof(peer.pin));
	api_relay_addr(relay->tcp, peer.addr);
	if (server->conn_count >= server->cfg.conn_max ||
	    api_server_count_name(server, peer.name) >= server->cfg.conn_per_peer_max) {
		admit = API_CROWDED;
		log_limited(&server->limit, LOG_LEVEL_WARN, API_TAG,
		            "too many connections name=%s all=%u", peer.name, server->conn_count);
	}
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0) {
		return -errno;
	}
	relay->pair = pair[1];
	relay->phase = API_RELAY_OPEN;
	relay->deadline_ns = 0;
	relay->unverified = false;
	server->handshake_count--;

	int err = loop_fd_add(server->loop, relay->pair, LOOP_READ, api_relay_ready, relay,
	                      &relay->pair_watch);

	if (err != 0) {
		(void)close(pair[0]);
		return err;
	}
	return api_conn_start(server, pair[0], &peer, admit);
}

/* Each step returns 1 = progress, 0 = must wait, -errno = over. */

static int api_relay_from_client(struct api_relay *relay)
{
	struct api_relay_buf *in = &relay->in;

	relay->read_waits = 0;
	if (in->len != 0 || in->end) {
		return 0;
	}

	ssize_t n = tls_conn_read(relay->tls, in->data, sizeof(in->data));

	if (n == -EAGAIN) {
		relay->read_waits = tls_conn_events(relay->tls);
		return 0;
	}
	if (n < 0) {
		return (int)n;
	}
	in->at = 0;
	in->len = (size_t)n;
	in->end = n == 0;
	return 1;
}

static int api_relay_to_server(struct api_relay *relay)
{
	struct api_relay_buf *in = &relay->in;

	if (in->len == 0) {
		/* No half-open TLS clients: who says goodbye is gone, whatever it asked for. */
		return in->end ? -ECONNRESET : 0;
	}

	ssize_t n = send(relay->pair, in->data + in->at, in->len, MSG_NOSIGNAL | MSG_DONTWAIT);

	if (n < 0) {
		if (errno == EPIPE || errno == ECONNRESET) {
			/* libmicrohttpd has closed; its answer may still be on the way. */
			in->len = 0;
			in->at = 0;
			return 1;
		}
		return errno == EAGAIN ? 0 : -errno;
	}
	in->at += (size_t)n;
	in->len -= (size_t)n;
	return 1;
}

static int api_relay_from_server(struct api_relay *relay)
{
	struct api_relay_buf *out = &relay->out;

	if (out->len != 0 || out->end) {
		return 0;
	}

	ssize_t n = recv(relay->pair, out->data, sizeof(out->data), MSG_DONTWAIT);

	if (n < 0 && errno == EAGAIN) {
		return 0;
	}
	out->at = 0;
	out->len = n > 0 ? (size_t)n : 0;
	out->end = n <= 0; /* ECONNRESET: closed with a request unread; as good as an end */
	return 1;
}

/* Nothing more to say. Closing now, with something unread, would reset the connection and destroy
 * what the client has not read yet: the answer, or the alert that says why it is refused. */
static void api_relay_start_linger(struct api_relay *relay)
{
	(void)shutdown(relay->tcp, SHUT_WR);
	relay->phase = API_RELAY_LINGER;
	relay->write_waits = 0;
	relay->deadline_ns = clock_now_ns() + API_LINGER_S * NS_PER_S;
}

static int api_relay_to_client(struct api_relay *relay)
{
	struct api_relay_buf *out = &relay->out;

	relay->write_waits = 0;
	if (out->len == 0 && (!out->end || out->end_sent)) {
		return 0;
	}

	ssize_t n = out->len != 0 ? tls_conn_write(relay->tls, out->data + out->at, out->len)
	                          : tls_conn_goodbye(relay->tls);

	if (n == -EAGAIN) {
		relay->write_waits = tls_conn_events(relay->tls);
		return 0;
	}
	if (n < 0) {
		return (int)n;
	}
	if (out->len == 0) {
		out->end_sent = true;
		api_relay_start_linger(relay);
		return 1;
	}
	out->at += (size_t)n;
	out->len -= (size_t)n;
	return 1;
}

/* Throw away what the client still sends, until it closes. */
static int api_relay_linger(struct api_relay *relay)
{
	ssize_t n = recv(relay->tcp, relay->in.data, sizeof(relay->in.data), MSG_DONTWAIT);

	/* One block per event: a client that never stops must not keep the loop to itself. */
	relay->read_waits = LOOP_READ;
	return n > 0 || (n < 0 && errno == EAGAIN) ? 0 : -ECONNRESET;
}

static int api_relay_shake(struct api_relay *relay)
{
	struct errbuf eb = {0};
	int err = tls_conn_handshake(relay->tls, &eb);

	if (err == -EAGAIN) {
		relay->read_waits = tls_conn_events(relay->tls);
		return 0;
	}
	if (err == 0) {
		err = api_relay_open(relay);
		return err == 0 ? 1 : err;
	}
	log_limited(&relay->server->limit, LOG_LEVEL_INFO, API_TAG,
	            "refused a TLS client reason=\"%s\"", eb.text);
	api_relay_start_linger(relay);
	return api_relay_linger(relay);
}

static int api_relay_step(struct api_relay *relay)
{
	int (*const steps[])(struct api_relay *) = {api_relay_from_client, api_relay_to_server,
	                                            api_relay_from_server, api_relay_to_client};
	int progress = 0;

	if (relay->phase == API_RELAY_HANDSHAKE) {
		return api_relay_shake(relay);
	}
	for (size_t i = 0; i < ARRAY_LEN(steps) && relay->phase == API_RELAY_OPEN; i++) {
		int ret = steps[i](relay);

		if (ret < 0) {
			return ret;
		}
		progress |= ret;
	}
	return relay->phase == API_RELAY_LINGER ? api_relay_linger(relay) : progress;
}

/* What to wait for. The descriptors are level-triggered: ask for nothing that we would not take. */
static int api_relay_wait(struct api_relay *relay)
{
	uint32_t pair_events = (relay->out.len == 0 && !relay->out.end ? LOOP_READ : 0) |
	                       (relay->in.len != 0 ? LOOP_WRITE : 0);
	int err = loop_fd_mod(relay->tcp_watch, relay->read_waits | relay->write_waits);

	if (relay->phase == API_RELAY_LINGER) {
		pair_events = 0;
	}
	if (err == 0 && relay->pair_watch != NULL) {
		err = loop_fd_mod(relay->pair_watch, pair_events);
	}
	return err;
}

static void api_relay_ready(int fd, uint32_t events, void *arg)
{
	struct api_relay *relay = arg;
	int ret = 1;

	(void)fd;
	(void)events;
	/* It comes to an end: libmicrohttpd does not run meanwhile, so the pair fills or drains. */
	while (ret > 0) {
		ret = api_relay_step(relay);
	}
	if (ret < 0 || api_relay_wait(relay) != 0) {
		api_relay_destroy(relay);
	}
}

void api_relay_start(struct api_listener *l, int fd)
{
	const struct tls_conn_cfg cfg = {.role = TLS_SERVER};
	struct api_server *server = l->server;
	struct api_relay *relay = NULL;
	int one = 1;

	if (server->handshake_count >= API_HANDSHAKE_MAX) {
		log_limited(&server->limit, LOG_LEVEL_WARN, API_TAG, "too many TLS handshakes n=%u",
		            server->handshake_count);
		(void)close(fd);
		return;
	}
	relay = gw_calloc(1, sizeof(*relay));
	if (relay == NULL) {
		(void)close(fd);
		return;
	}
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	relay->server = server;
	relay->tcp = fd;
	relay->pair = -1;
	relay->deadline_ns = clock_now_ns() + API_HANDSHAKE_S * NS_PER_S;
	list_add_tail(&server->relays, &relay->link);
	relay->unverified = true;
	server->handshake_count++;
	if (tls_conn_create(l->tls, fd, &cfg, &relay->tls, NULL) != 0 ||
	    loop_fd_add(server->loop, fd, LOOP_READ, api_relay_ready, relay, &relay->tcp_watch) !=
	            0) {
		api_relay_destroy(relay);
		return;
	}
	loop_timer_arm(server->sweep, API_SWEEP_NS);
}

void api_relay_sweep(struct api_server *server, uint64_t now_ns)
{
	list_for_each_safe(link, &server->relays)
	{
		struct api_relay *relay = list_entry(link, struct api_relay, link);

		if (relay->deadline_ns != 0 && now_ns >= relay->deadline_ns) {
			api_relay_destroy(relay);
		}
	}
}

void api_relay_destroy_all(struct api_server *server)
{
	list_for_each_safe(link, &server->relays)
	{
		api_relay_destroy(list_entry(link, struct api_relay, link));
	}
}

/* ---- the TCP listener ---- */

int api_server_listen_tls(struct api_server *server, const char *addr, uint16_t port,
                          struct tls_ctx *tls, struct errbuf *eb)
{
	struct sockaddr_storage where;
	socklen_t len = 0;
	struct api_listener *l = NULL;
	int err = tcp_address(addr, port, &where, &len);

	if (err != 0) {
		return errbuf_set(eb, err, "\"%.80s\" is no numeric IP address", addr);
	}
	l = api_listener_create(server);
	if (l == NULL) {
		return errbuf_sys(eb, -ENOMEM, "%s", addr);
	}
	l->tls = tls;
	l->fd = tcp_listen(&where, len, API_TLS_BACKLOG);
	err = l->fd < 0 ? l->fd : api_listener_watch(l);
	if (err != 0) {
		api_listener_destroy(l);
		return errbuf_sys(eb, err, "cannot listen on %s port %u", addr, port);
	}
	server->tls_port = tcp_port(l->fd);
	return 0;
}

uint16_t api_server_tls_port(const struct api_server *server)
{
	return server->tls_port;
}
