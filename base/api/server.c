/* SPDX-License-Identifier: Apache-2.0 */
#include "base/api/server.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/api/server_int.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "base/loop.h"

#define API_PUMP_ROUNDS 8 /* then let other events of the loop have their turn */
#define API_HUP_BATCH 16

/* ---- libmicrohttpd on the loop ---- */

void api_server_pump(struct api_server *server)
{
	MHD_UNSIGNED_LONG_LONG wait_ms = 0;
	bool now = true;
	bool waits = true;

	/* A handler may cause what pumps again: the round that runs takes care of it. */
	if (server->pumping || server->closing) {
		return;
	}
	server->pumping = true;
	for (int round = 0; round < API_PUMP_ROUNDS && now; round++) {
		server->resumed = false;
		(void)MHD_run(server->mhd);
		waits = MHD_get_timeout(server->mhd, &wait_ms) == MHD_YES;
		now = server->resumed || (waits && wait_ms == 0);
	}
	server->pumping = false;
	if (now) {
		loop_timer_arm(server->mhd_timer, 0);
	} else if (waits) {
		loop_timer_arm(server->mhd_timer, (uint64_t)wait_ms * NS_PER_MS);
	} else {
		loop_timer_disarm(server->mhd_timer);
	}
}

static void api_server_ready(int fd, uint32_t events, void *arg)
{
	(void)fd;
	(void)events;
	api_server_pump(arg);
}

static void api_server_timeout(void *arg)
{
	api_server_pump(arg);
}

/* What libmicrohttpd says about malformed requests: clients cause it, so it is limited. */
static void PRINTF_LIKE(2, 0) api_server_log(void *cls, const char *fmt, va_list ap)
{
	struct api_server *server = cls;
	char line[256];
	int len = vsnprintf(line, sizeof(line), fmt, ap);

	while (len > 0 && (size_t)len < sizeof(line) && line[len - 1] == '\n') {
		line[--len] = '\0';
	}
	/* It tries TCP's options on unix sockets too; that says nothing about anybody. */
	if (strstr(line, "TCP_") != NULL || strstr(line, "Failed to push") != NULL) {
		return;
	}
	log_limited(&server->limit, LOG_LEVEL_DEBUG, API_TAG, "http says text=\"%s\"", line);
}

static void api_server_panic(void *cls, const char *file, unsigned int line, const char *reason)
{
	(void)cls;
	check_failed(reason != NULL ? reason : "libmicrohttpd", file, (int)line);
}

/* Paths and queries stay as they are: "%2F" must not become a separator. See api_percent_decode().
 */
static size_t api_server_unescape(void *cls, struct MHD_Connection *mhd, char *text)
{
	(void)cls;
	(void)mhd;
	return strlen(text);
}

/* ---- connections ---- */

static void api_conn_notice(void *cls, struct MHD_Connection *mhd, void **socket_context,
                            enum MHD_ConnectionNotificationCode code)
{
	struct api_server *server = cls;

	if (code == MHD_CONNECTION_NOTIFY_STARTED) {
		server->adding->mhd = mhd;
		*socket_context = server->adding;
		return;
	}

	struct api_conn *conn = *socket_context;

	/* Its request, if any, was completed before. The descriptor is still open, and if the
	 * connection was upgraded, its file will live on. */
	CHECK(conn->req == NULL && !conn->suspended);
	(void)epoll_ctl(server->hup_fd, EPOLL_CTL_DEL, conn->fd, NULL);
	list_del(&conn->link);
	server->conn_count--;
	free(conn);
}

/* The request line has arrived: from now on the rest must come soon. */
static void *api_conn_request_line(void *cls, const char *uri, struct MHD_Connection *mhd)
{
	const struct api_server *server = cls;
	struct api_conn *conn =
		MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;

	(void)uri;
	conn->deadline_ns = clock_now_ns() + server->cfg.request_s * NS_PER_S;
	return NULL;
}

int api_conn_start(struct api_server *server, int fd, const struct api_peer *peer,
                   enum api_admit admit)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX}; /* nobody looks at it */
	struct epoll_event event = {.events = EPOLLRDHUP | EPOLLET};
	struct api_conn *conn = NULL;

	if (server->conn_count >= server->cfg.conn_max + API_SPARE_CONN || server->closing) {
		(void)close(fd);
		return -EMFILE;
	}
	conn = gw_calloc(1, sizeof(*conn));
	if (conn == NULL) {
		(void)close(fd);
		return -ENOMEM;
	}
	event.data.ptr = conn;
	if (epoll_ctl(server->hup_fd, EPOLL_CTL_ADD, fd, &event) != 0) {
		free(conn);
		(void)close(fd);
		return -ENOMEM;
	}
	conn->server = server;
	conn->fd = fd;
	conn->peer = *peer;
	conn->admit = admit;
	conn->deadline_ns = clock_now_ns() + server->cfg.request_s * NS_PER_S;
	list_add_tail(&server->conns, &conn->link);
	server->conn_count++;
	server->adding = conn;
	if (MHD_add_connection(server->mhd, fd, (struct sockaddr *)&addr, sizeof(addr)) !=
	    MHD_YES) {
		/* It has closed fd. If it told us about the connection, it also told us the end. */
		if (conn->mhd == NULL) {
			list_del(&conn->link);
			server->conn_count--;
			free(conn);
		}
		server->adding = NULL;
		return -ENOMEM;
	}
	server->adding = NULL;
	if (server->conn_count == 1) {
		loop_timer_arm(server->sweep, API_SWEEP_NS);
	}
	return 0;
}

void api_conn_suspend(struct api_conn *conn)
{
	CHECK(!conn->suspended);
	conn->suspended = true;
	MHD_suspend_connection(conn->mhd);
	if (conn->hung_up) {
		conn->dead = true;
		api_conn_resume(conn);
	}
}

void api_conn_resume(struct api_conn *conn)
{
	if (conn->suspended) {
		conn->suspended = false;
		MHD_resume_connection(conn->mhd);
		/* Without threads it has no way to wake itself. */
		conn->server->resumed = true;
		if (!conn->server->pumping) {
			loop_timer_arm(conn->server->mhd_timer, 0);
		}
	}
}

/*
 * libmicrohttpd uses edge-triggered events and takes a short read for "nothing more". If the end of
 * input came together with the last bytes, it waits for an edge that has been. shutdown() of what
 * is shut down already makes a new one and changes nothing else.
 */
void api_conn_nudge(struct api_conn *conn)
{
	if (conn->finished) {
		(void)shutdown(conn->fd, SHUT_RD);
	}
}

void api_conn_kill(struct api_conn *conn)
{
	conn->dead = true;
	(void)shutdown(conn->fd, SHUT_RDWR);
	api_conn_resume(conn);
}

void api_server_guard(struct api_server *server, api_guard_fn fn, void *arg)
{
	server->guard = fn;
	server->guard_arg = arg;
}

void api_server_expel(struct api_server *server)
{
	list_for_each_safe(link, &server->conns)
	{
		struct api_conn *conn = list_entry(link, struct api_conn, link);

		if (!conn->peer.local && !conn->dead && server->guard != NULL &&
		    !server->guard(&conn->peer, server->guard_arg)) {
			log_info(API_TAG, "closing a connection that is no longer allowed name=%s",
			         conn->peer.name);
			api_conn_kill(conn);
		}
	}
	api_server_pump(server);
}

/* Connections whose next bytes libmicrohttpd waits for, although there will be none. */
static void api_server_nudge(struct api_server *server)
{
	list_for_each(link, &server->conns)
	{
		struct api_conn *conn = list_entry(link, struct api_conn, link);

		if (!conn->suspended && (conn->req == NULL || !conn->req->settled)) {
			api_conn_nudge(conn);
		}
	}
}

static void api_server_hang_ups(int fd, uint32_t events, void *arg)
{
	struct api_server *server = arg;
	struct epoll_event batch[API_HUP_BATCH];
	int count = epoll_wait(fd, batch, API_HUP_BATCH, 0);

	(void)events;
	for (int i = 0; i < count; i++) {
		struct api_conn *conn = batch[i].data.ptr;

		if ((batch[i].events & (EPOLLHUP | EPOLLERR)) != 0) {
			conn->hung_up = true;
			conn->dead = conn->dead || conn->suspended;
			api_conn_resume(conn);
		} else {
			conn->finished = true;
		}
	}
	/* Let it read what came before the end, then look again. */
	api_server_pump(server);
	api_server_nudge(server);
}

static void api_server_sweep(void *arg)
{
	struct api_server *server = arg;
	uint64_t now_ns = clock_now_ns();

	list_for_each(link, &server->conns)
	{
		struct api_conn *conn = list_entry(link, struct api_conn, link);

		if (conn->deadline_ns != 0 && now_ns >= conn->deadline_ns && !conn->dead) {
			log_limited(&server->limit, LOG_LEVEL_DEBUG, API_TAG,
			            "closing a connection without a request uid=%u name=%s",
			            conn->peer.uid, conn->peer.name);
			api_conn_kill(conn);
		}
	}
	api_server_nudge(server);
	api_relay_sweep(server, now_ns);
	if (server->paused) {
		server->paused = false;
		list_for_each(link, &server->listeners)
		{
			api_listener_pause(list_entry(link, struct api_listener, link), false);
		}
	}
	if (server->conn_count != 0 || !list_empty(&server->relays)) {
		loop_timer_arm(server->sweep, API_SWEEP_NS);
	}
}

/* ---- life ---- */

static uint32_t api_or(uint32_t value, uint32_t otherwise)
{
	return value != 0 ? value : otherwise;
}

static int api_server_start_mhd(struct api_server *server)
{
	const unsigned flags = MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_UPGRADE |
	                       MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG;

	MHD_set_panic_func(api_server_panic, NULL);
	server->mhd = MHD_start_daemon(
		flags, 0, NULL, NULL, api_req_access, server, MHD_OPTION_EXTERNAL_LOGGER,
		api_server_log, server, MHD_OPTION_CONNECTION_LIMIT,
		(unsigned)(server->cfg.conn_max + API_SPARE_CONN),
		MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)API_POOL_BYTES,
		MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)server->cfg.idle_s,
		MHD_OPTION_NOTIFY_CONNECTION, api_conn_notice, server, MHD_OPTION_NOTIFY_COMPLETED,
		api_req_completed, server, MHD_OPTION_URI_LOG_CALLBACK, api_conn_request_line,
		server, MHD_OPTION_UNESCAPE_CALLBACK, api_server_unescape, server,
		MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_END);
	return server->mhd != NULL ? 0 : -ENOMEM;
}

static int api_server_watch(struct api_server *server)
{
	int epoll_fd = MHD_get_daemon_info(server->mhd, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
	int err = loop_timer_new(server->loop, api_server_timeout, server, &server->mhd_timer);

	if (err == 0) {
		err = loop_timer_new(server->loop, api_server_sweep, server, &server->sweep);
	}
	if (err == 0) {
		err = loop_fd_add(server->loop, epoll_fd, LOOP_READ, api_server_ready, server,
		                  &server->mhd_watch);
	}
	if (err != 0) {
		return err;
	}
	server->hup_fd = epoll_create1(EPOLL_CLOEXEC);
	if (server->hup_fd < 0) {
		return -errno;
	}
	return loop_fd_add(server->loop, server->hup_fd, LOOP_READ, api_server_hang_ups, server,
	                   &server->hup_watch);
}

int api_server_create(const struct api_server_cfg *cfg, struct api_server **out, struct errbuf *eb)
{
	struct api_server *server = gw_calloc(1, sizeof(*server));
	int err = -ENOMEM;

	*out = NULL;
	if (server == NULL) {
		return errbuf_sys(eb, -ENOMEM, "API server");
	}
	server->loop = cfg->loop;
	server->hup_fd = -1;
	server->cfg = *cfg;
	server->cfg.body_bytes_max = api_or(cfg->body_bytes_max, API_BODY_MAX);
	server->cfg.conn_max = api_or(cfg->conn_max, API_CONN_MAX);
	server->cfg.conn_per_peer_max = api_or(cfg->conn_per_peer_max, API_CONN_PER_PEER_MAX);
	server->cfg.idle_s = api_or(cfg->idle_s, API_IDLE_S);
	server->cfg.request_s = api_or(cfg->request_s, API_REQUEST_S);
	list_init(&server->listeners);
	list_init(&server->conns);
	list_init(&server->relays);
	err = api_server_start_mhd(server);
	if (err == 0) {
		err = api_server_watch(server);
	}
	if (err != 0) {
		api_server_destroy(server);
		return errbuf_sys(eb, err, "API server");
	}
	*out = server;
	return 0;
}

/* Nobody new; then libmicrohttpd ends all connections, which tells the owners of requests and
 * streams; who still holds one then has ignored that. */
void api_server_destroy(struct api_server *server)
{
	if (server == NULL) {
		return;
	}
	server->closing = true;
	list_for_each_safe(link, &server->listeners)
	{
		api_listener_destroy(list_entry(link, struct api_listener, link));
	}
	api_relay_destroy_all(server);
	list_for_each(link, &server->conns)
	{
		struct api_conn *conn = list_entry(link, struct api_conn, link);

		conn->dead = true;
		api_conn_resume(conn);
	}
	loop_fd_del(server->hup_watch);
	loop_fd_del(server->mhd_watch);
	loop_timer_del(server->mhd_timer);
	loop_timer_del(server->sweep);
	if (server->mhd != NULL) {
		MHD_stop_daemon(server->mhd);
	}
	if (server->hup_fd >= 0) {
		(void)close(server->hup_fd);
	}
	CHECK(server->conn_count == 0 && server->req_count == 0 && server->stream_count == 0);
	free(server->tables);
	free(server);
}

int api_server_routes(struct api_server *server, const struct api_route *routes, size_t count,
                      void *arg)
{
	struct api_table *tables =
		gw_realloc_array(server->tables, server->table_count + 1, sizeof(*tables));

	if (tables == NULL) {
		return -ENOMEM;
	}
	tables[server->table_count] = (struct api_table){routes, count, arg};
	server->tables = tables;
	server->table_count++;
	api_route_check(server->tables, server->table_count);
	return 0;
}

int api_server_adopt(struct api_server *server, int fd)
{
	struct api_peer peer = {.local = true, .uid = geteuid(), .gid = getegid(), .pid = getpid()};

	return api_conn_start(server, fd, &peer, API_ADMITTED);
}
