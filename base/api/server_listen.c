/* SPDX-License-Identifier: Apache-2.0 */

/* server_listen - the unix socket: how it comes to be, who connects, who may. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/api/server_int.h"
#include "base/clock.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "base/loop.h"

#define API_BACKLOG 64
#define API_ACCEPT_BATCH 16 /* per turn of the loop */
#define API_GROUPS_MAX 256  /* supplementary groups of a caller that we look at */

/* ---- accept ---- */

static bool api_listener_has_group(const struct api_listener *l, gid_t gid)
{
	for (size_t i = 0; i < l->gid_count; i++) {
		if (l->gids[i] == gid) {
			return true;
		}
	}
	return false;
}

/* Root and our own user need no permission: they could take the service over anyway. */
static bool api_listener_allows(const struct api_listener *l, int fd, const struct api_peer *peer)
{
	gid_t groups[API_GROUPS_MAX];
	socklen_t len = sizeof(groups);

	if (l->any_uid || peer->uid == 0 || peer->uid == geteuid() ||
	    api_listener_has_group(l, peer->gid)) {
		return true;
	}
	for (size_t i = 0; i < l->uid_count; i++) {
		if (l->uids[i] == peer->uid) {
			return true;
		}
	}
	if (l->gid_count == 0 || getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &len) != 0) {
		return false;
	}
	for (size_t i = 0; i < len / sizeof(groups[0]); i++) {
		if (api_listener_has_group(l, groups[i])) {
			return true;
		}
	}
	return false;
}

static uint32_t api_server_count_uid(const struct api_server *server, uid_t uid)
{
	uint32_t count = 0;

	list_for_each(link, &server->conns)
	{
		const struct api_conn *conn = list_entry(link, struct api_conn, link);

		count += conn->peer.local && conn->peer.uid == uid;
	}
	return count;
}

static void api_listener_take(struct api_listener *l, int fd)
{
	struct api_server *server = l->server;
	struct ucred cred;
	socklen_t len = sizeof(cred);
	struct api_peer peer = {.local = true};
	enum api_admit admit = API_ADMITTED;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) != 0) {
		(void)close(fd);
		return;
	}
	peer.uid = cred.uid;
	peer.gid = cred.gid;
	peer.pid = cred.pid;
	if (!api_listener_allows(l, fd, &peer)) {
		admit = API_DENIED;
		log_limited(&server->limit, LOG_LEVEL_INFO, API_TAG,
		            "denied a local user uid=%u pid=%d", cred.uid, cred.pid);
	} else if (server->conn_count >= server->cfg.conn_max ||
	           (cred.uid != 0 &&
	            api_server_count_uid(server, cred.uid) >= server->cfg.conn_per_peer_max)) {
		admit = API_CROWDED;
		log_limited(&server->limit, LOG_LEVEL_WARN, API_TAG,
		            "too many connections uid=%u all=%u", cred.uid, server->conn_count);
	}

	int err = api_conn_start(server, fd, &peer, admit);

	if (err != 0) {
		log_limited(&server->limit, LOG_LEVEL_WARN, API_TAG,
		            "closed a new connection errno=%d", -err);
	}
}

void api_listener_pause(struct api_listener *l, bool pause)
{
	if (loop_fd_mod(l->watch, pause ? 0 : LOOP_READ) != 0) {
		log_limited(&l->server->limit, LOG_LEVEL_ERR, API_TAG, "cannot watch a listener");
	}
}

static void api_listener_ready(int fd, uint32_t events, void *arg)
{
	struct api_listener *l = arg;

	(void)events;
	for (int i = 0; i < API_ACCEPT_BATCH; i++) {
		int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (client >= 0) {
			if (l->tls != NULL) {
				api_relay_start(l, client);
			} else {
				api_listener_take(l, client);
			}
			continue;
		}
		if (errno == EINTR || errno == ECONNABORTED) {
			continue;
		}
		if (errno != EAGAIN) {
			/* No descriptors left, say: the socket would stay readable and the loop
			 * spin. Wait for the next sweep. */
			log_limited(&l->server->limit, LOG_LEVEL_WARN, API_TAG,
			            "cannot accept errno=%d", errno);
			l->server->paused = true;
			api_listener_pause(l, true);
			loop_timer_arm(l->server->sweep, API_SWEEP_NS);
		}
		return;
	}
}

/* ---- life ---- */

struct api_listener *api_listener_create(struct api_server *server)
{
	struct api_listener *l = gw_calloc(1, sizeof(*l));

	if (l != NULL) {
		l->server = server;
		l->fd = -1;
		l->lock_fd = -1;
		list_init(&l->link);
	}
	return l;
}

int api_listener_watch(struct api_listener *l)
{
	int err = loop_fd_add(l->server->loop, l->fd, LOOP_READ, api_listener_ready, l, &l->watch);

	if (err == 0) {
		list_add_tail(&l->server->listeners, &l->link);
	}
	return err;
}

/* Only what is still ours: another server may have put its own socket there. */
static void api_listener_unlink(const struct api_listener *l)
{
	struct stat st;

	if (l->ino != 0 && lstat(l->path, &st) == 0 && st.st_dev == l->dev && st.st_ino == l->ino) {
		(void)unlink(l->path);
	}
}

void api_listener_destroy(struct api_listener *l)
{
	list_del(&l->link);
	loop_fd_del(l->watch);
	if (l->path != NULL) {
		api_listener_unlink(l);
	}
	if (l->fd >= 0) {
		(void)close(l->fd);
	}
	if (l->lock_fd >= 0) {
		(void)close(
			l->lock_fd); /* the file stays: removing it would race with its next user */
	}
	free(l->path);
	free(l->uids);
	free(l->gids);
	free(l);
}

/* ---- the socket's file ---- */

static int api_unix_address(const char *path, struct sockaddr_un *out)
{
	*out = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof(out->sun_path)) {
		return -ENAMETOOLONG;
	}
	memcpy(out->sun_path, path, strlen(path) + 1);
	return 0;
}

/* Whoever holds PATH.lock may replace PATH. */
static int api_unix_lock(struct api_listener *l, struct errbuf *eb)
{
	char *path = gw_asprintf("%s.lock", l->path);
	int err = 0;

	if (path == NULL) {
		return errbuf_sys(eb, -ENOMEM, "%s", l->path);
	}
	l->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (l->lock_fd < 0) {
		err = errbuf_sys(eb, -errno, "cannot open %s", path);
	} else if (flock(l->lock_fd, LOCK_EX | LOCK_NB) != 0) {
		err = errno == EWOULDBLOCK ? errbuf_set(eb, -EADDRINUSE,
		                                        "%s is served by another process", l->path)
		                           : errbuf_sys(eb, -errno, "cannot lock %s", path);
	}
	free(path);
	return err;
}

/* With the lock held: is what lies there a dead socket (or nothing)? */
static int api_unix_check_stale(const char *path, const struct sockaddr_un *addr, struct errbuf *eb)
{
	struct stat st;

	if (lstat(path, &st) != 0) {
		return errno == ENOENT ? 0 : errbuf_sys(eb, -errno, "%s", path);
	}
	if (!S_ISSOCK(st.st_mode)) {
		(void)errbuf_set(eb, -EEXIST, "%s exists and is not a socket", path);
		errbuf_hint(eb, "move it away");
		return -EEXIST;
	}

	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0) {
		return errbuf_sys(eb, -errno, "%s", path);
	}

	/* EAGAIN: somebody's backlog is full. */
	bool served =
		connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) == 0 || errno == EAGAIN;

	(void)close(fd);
	return served ? errbuf_set(eb, -EADDRINUSE, "%s is served by another process", path) : 0;
}

/*
 * Bind under another name, set mode and owner, then rename: nobody ever sees a socket with wrong
 * permissions, or none at all.
 */
static int api_unix_bind(struct api_listener *l, const struct api_listen_unix *cfg,
                         struct errbuf *eb)
{
	struct sockaddr_un addr;
	struct stat st;
	char *temporary = gw_asprintf("%s.new", l->path);
	int err = -ENOMEM;

	if (temporary == NULL) {
		return errbuf_sys(eb, -ENOMEM, "%s", l->path);
	}
	err = api_unix_address(temporary, &addr);
	if (err != 0) {
		goto free_name;
	}
	l->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (l->fd < 0) {
		err = -errno;
		goto free_name;
	}
	(void)unlink(temporary);        /* left by a crash; the lock is ours */
	if (fchmod(l->fd, 0600) != 0 || /* on Linux: the mode that bind() gives the file */
	    bind(l->fd, (struct sockaddr *)&addr, sizeof(addr)) != 0) {
		err = -errno;
		goto free_name;
	}
	if (lchown(temporary, cfg->owner, cfg->group) != 0 || chmod(temporary, cfg->mode) != 0 ||
	    listen(l->fd, API_BACKLOG) != 0 || lstat(temporary, &st) != 0 ||
	    rename(temporary, l->path) != 0) {
		err = -errno;
		(void)unlink(temporary);
		goto free_name;
	}
	l->dev = st.st_dev;
	l->ino = st.st_ino;
free_name:
	free(temporary);
	return err == 0 ? 0 : errbuf_sys(eb, err, "cannot listen on %s", l->path);
}

static int api_listener_copy(struct api_listener *l, const struct api_listen_unix *cfg)
{
	l->path = gw_strdup(cfg->path);
	l->uids = gw_calloc(cfg->uid_count + 1, sizeof(l->uids[0]));
	l->gids = gw_calloc(cfg->gid_count + 1, sizeof(l->gids[0]));
	if (l->path == NULL || l->uids == NULL || l->gids == NULL) {
		return -ENOMEM;
	}
	for (size_t i = 0; i < cfg->uid_count; i++) {
		l->uids[i] = cfg->uids[i];
	}
	for (size_t i = 0; i < cfg->gid_count; i++) {
		l->gids[i] = cfg->gids[i];
	}
	l->uid_count = cfg->uid_count;
	l->gid_count = cfg->gid_count;
	l->any_uid = cfg->any_uid;
	return 0;
}

int api_server_listen_unix(struct api_server *server, const struct api_listen_unix *cfg,
                           struct errbuf *eb)
{
	struct sockaddr_un addr;
	struct api_listener *l = NULL;
	int err = api_unix_address(cfg->path, &addr);

	if (err != 0) {
		return errbuf_sys(eb, err, "%s", cfg->path);
	}
	l = api_listener_create(server);
	if (l == NULL || api_listener_copy(l, cfg) != 0) {
		err = errbuf_sys(eb, -ENOMEM, "%s", cfg->path);
		goto destroy_listener;
	}
	err = api_unix_lock(l, eb);
	if (err == 0) {
		err = api_unix_check_stale(l->path, &addr, eb);
	}
	if (err == 0) {
		err = api_unix_bind(l, cfg, eb);
	}
	if (err != 0) {
		goto destroy_listener;
	}
	err = api_listener_watch(l);
	if (err != 0) {
		(void)errbuf_sys(eb, err, "cannot watch %s", l->path);
		goto destroy_listener;
	}
	return 0;
destroy_listener:
	if (l != NULL) {
		api_listener_destroy(l);
	}
	return err;
}
