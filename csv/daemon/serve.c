/* SPDX-License-Identifier: Apache-2.0 */

/* serve - connections that other nodes make: whose they are, which volume they mean. */
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/tcp.h"
#include "csv/daemon/daemon_int.h"

#define TAG "csv-serve"
#define BACKLOG 64

/* With the data of a redirected write. */
#define MESSAGE_MAX CSV_MSG_MAX

static bool is_stranger(const struct session *s)
{
	return s->peer.name[0] == '\0';
}

static void session_free(struct session *s)
{
	if (s->v != NULL && s->v->sessions[s->node] == s) {
		s->v->sessions[s->node] = NULL;
		if (s->v->coord.coord != NULL && !s->v->coord.stopping) {
			csv_coord_disconnected(s->v->coord.coord, s->node);
		}
	}
	list_del(&s->link);
	s->d->strangers[s->from] -= is_stranger(s) ? 1 : 0;
	free(s);
}

void serve_drop(struct session *s)
{
	csv_link_destroy(s->conn);
	session_free(s);
}

void serve_drop_all(struct csv_volume *v)
{
	for (uint32_t i = 0; i < CSV_MSG_NODES; i++) {
		if (v->sessions[i] != NULL) {
			serve_drop(v->sessions[i]);
		}
	}
}

static struct csv_volume *volume_of(const struct csv_daemon *d, const struct guid *id)
{
	list_for_each(link, &d->volumes)
	{
		struct csv_volume *v = list_entry(link, struct csv_volume, link);

		if ((v->phase == VOLUME_READY || v->phase == VOLUME_LEAVING) &&
		    guid_equal(&v->super.volume, id)) {
			return v;
		}
	}
	return NULL;
}

/* Not now, not here: it tries again, there or elsewhere. */
static void refuse(struct session *s, const struct csv_msg *hello, int status)
{
	const struct csv_msg msg = {
		.type = CSV_MSG_WELCOME,
		.term = hello->term,
		.status = status,
	};

	if (csv_link_send(s->conn, &msg) != 0) {
		log_debug(TAG, "not said name=%s", s->peer.name);
	}
	csv_link_end(s->conn);
}

static int hello(struct session *s, const struct csv_msg *msg)
{
	static struct log_limit limit;
	const struct csv_msg_hello *h = &msg->hello;
	const struct csv_daemon_members *m = s->d->members;
	struct csv_volume *v = volume_of(s->d, &h->volume);

	if (!daemon_knows(s->d, h->node, &s->peer) || h->node == m->self) {
		log_limited(&limit, LOG_LEVEL_WARN, TAG,
		            "says that it is another one name=%s node=%u", s->peer.name, h->node);
		return -EACCES;
	}
	if (v == NULL || !coordinator_answers(v)) {
		refuse(s, msg, v == NULL ? -ENXIO : -EAGAIN);
		return 0;
	}
	if (v->sessions[h->node] != NULL) {
		serve_drop(v->sessions[h->node]); /* its new connection replaces the old one */
	}
	s->v = v;
	s->node = h->node;
	v->sessions[h->node] = s;
	return 0;
}

static int on_message(void *arg, const struct csv_msg *msg)
{
	struct session *s = arg;
	struct csv_volume *v;
	int err = 0;

	if (s->v == NULL) {
		err = msg->type == CSV_MSG_HELLO ? hello(s, msg) : -EPROTO;
	} else if (msg->type == CSV_MSG_HELLO && msg->hello.node != s->node) {
		err = -EPROTO;
	}
	if (err != 0 || s->v == NULL) {
		return err;
	}
	v = s->v;
	if (!coordinator_answers(v)) {
		return v->coord.coord != NULL && !v->coord.stopping ? 0 : -ESHUTDOWN;
	}
	err = coordinator_receive(v, s->node, msg);
	volume_pump(v);
	return err;
}

static uint32_t count_of(const struct csv_daemon *d, const char *name)
{
	uint32_t count = 0;

	list_for_each(link, &d->sessions)
	{
		const struct session *s = list_entry(link, struct session, link);

		count += strcmp(s->peer.name, name) == 0;
	}
	return count;
}

static void on_ready(void *arg, const struct tls_peer *peer)
{
	struct session *s = arg;

	if (peer->kind != TLS_KIND_NODE || count_of(s->d, peer->name) >= NODE_SESSIONS_MAX) {
		csv_link_end(s->conn);
		return;
	}
	s->d->strangers[s->from]--;
	s->peer = *peer;
}

static void on_closed(void *arg, int err, const char *why)
{
	static struct log_limit limit;
	struct session *s = arg;

	log_limited(&limit, s->peer.name[0] == '\0' ? LOG_LEVEL_WARN : LOG_LEVEL_INFO, TAG,
	            "connection closed name=%s error=%d why=\"%s\"",
	            s->peer.name[0] != '\0' ? s->peer.name : "-", -err, why);
	session_free(s); /* the link frees itself */
}

static const struct csv_link_ops link_ops = {on_ready, on_message, on_closed};

/* The address alone, whichever family the listening socket has. */
static bool same_host(const struct sockaddr_storage *a, const struct sockaddr_storage *b)
{
	const struct sockaddr_in *a4 = (const struct sockaddr_in *)a;
	const struct sockaddr_in *b4 = (const struct sockaddr_in *)b;
	const struct sockaddr_in6 *a6 = (const struct sockaddr_in6 *)a;
	const struct sockaddr_in6 *b6 = (const struct sockaddr_in6 *)b;

	if (a->ss_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&a6->sin6_addr) &&
	    b->ss_family == AF_INET) {
		return memcmp(a6->sin6_addr.s6_addr + 12, &b4->sin_addr, 4) == 0;
	}
	if (a->ss_family != b->ss_family) {
		return false;
	}
	return a->ss_family == AF_INET
	               ? a4->sin_addr.s_addr == b4->sin_addr.s_addr
	               : memcmp(&a6->sin6_addr, &b6->sin6_addr, sizeof(a6->sin6_addr)) == 0;
}

/* Whose address is it? Nobody may keep members from their coordinator by knocking. */
static uint32_t member_at(const struct csv_daemon *d, const struct sockaddr_storage *from)
{
	uint32_t i = 0;

	for (; i < CSV_MSG_NODES; i++) {
		const struct csv_daemon_peer *p = &d->members->peers[i];
		struct sockaddr_storage addr;
		socklen_t len;

		if (p->run != 0 && tcp_address(p->addr, 1, &addr, &len) == 0 &&
		    same_host(from, &addr)) {
			break;
		}
	}
	return i;
}

static void make_room(struct csv_daemon *d, uint32_t from)
{
	static struct log_limit limit;

	if (d->strangers[from] < (from < CSV_MSG_NODES ? NODE_SESSIONS_MAX : STRANGERS_MAX)) {
		return;
	}
	log_limited(&limit, LOG_LEVEL_WARN, TAG,
	            "too many connections without a certificate, the oldest is ended node=%u",
	            from);
	list_for_each_safe(link, &d->sessions)
	{
		struct session *s = list_entry(link, struct session, link);

		if (is_stranger(s) && s->from == from) {
			serve_drop(s);
			return;
		}
	}
}

static void take(struct csv_daemon *d, int fd, const struct sockaddr_storage *from)
{
	struct session *s = gw_calloc(1, sizeof(*s));
	const struct csv_link_cfg cfg = {
		.loop = d->cfg.loop,
		.tls = d->tls,
		.ops = &link_ops,
		.arg = s,
		.message_max = MESSAGE_MAX,
	};

	if (s == NULL) {
		(void)close(fd);
		return;
	}
	if (csv_link_accept(&cfg, fd, &s->conn, NULL) != 0) {
		free(s);
		return;
	}
	s->d = d;
	s->since_ns = clock_boot_ns();
	s->from = member_at(d, from);
	make_room(d, s->from);
	list_add_tail(&d->sessions, &s->link);
	d->strangers[s->from]++;
}

static void on_accept(int fd, uint32_t events, void *arg)
{
	struct csv_daemon *d = arg;

	struct sockaddr_storage from = {0};
	socklen_t len = sizeof(from);
	int conn = accept4(fd, (struct sockaddr *)&from, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)events; /* the loop comes again as long as there are more */
	if (conn >= 0) {
		take(d, conn, &from);
	}
}

void serve_sweep(struct csv_daemon *d, uint64_t now_ns)
{
	list_for_each_safe(link, &d->sessions)
	{
		struct session *s = list_entry(link, struct session, link);

		if ((s->v == NULL && now_ns - s->since_ns > HELLO_NS) ||
		    (s->v != NULL && csv_link_silent_ns(s->conn) > SILENT_NS)) {
			serve_drop(s);
		}
	}
}

int serve_start(struct csv_daemon *d, const char *addr, uint16_t port, struct errbuf *eb)
{
	struct sockaddr_storage where;
	socklen_t len = 0;

	if (tcp_address(addr, port, &where, &len) != 0) {
		return errbuf_set(eb, -EINVAL, "\"%.60s\" is no numeric IP address", addr);
	}
	d->listen_fd = tcp_listen(&where, len, BACKLOG);
	if (d->listen_fd < 0) {
		return errbuf_sys(eb, d->listen_fd, "cannot listen on %s port %u", addr, port);
	}
	d->port = tcp_port(d->listen_fd);

	int err = loop_fd_add(d->cfg.loop, d->listen_fd, LOOP_READ, on_accept, d, &d->listen_watch);

	return err != 0 ? errbuf_sys(eb, err, "listen") : 0;
}

void serve_stop(struct csv_daemon *d)
{
	loop_fd_del(d->listen_watch);
	d->listen_watch = NULL;
	if (d->listen_fd >= 0) {
		(void)close(d->listen_fd);
		d->listen_fd = -1;
	}
	list_for_each_safe(link, &d->sessions)
	{
		serve_drop(list_entry(link, struct session, link));
	}
}
