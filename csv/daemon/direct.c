/* SPDX-License-Identifier: Apache-2.0 */

/*
 * direct - users of mounted files that want to do I/O of their own (base/shared_direct.h): their
 * connections come here, and go to the mount whose open file they name.
 *
 * Who connects is root: a service that opened the file and passes the connection on, with all that
 * comes over it, to a process without rights. Without a cluster everybody who is root may; in one,
 * only users that are ended with the node's lease, as this service is.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/shared_direct.h"
#include "csv/daemon/daemon_int.h"

#define TAG "csv-direct"
#define STRANGERS 32u
#define SAY_NS (5 * NS_PER_S)

/* A connection that has said nothing yet. */
struct stranger {
	struct direct_server *server;
	int fd; /* owned; -1 = free */
	struct loop_fd *watch;
	uint64_t since_ns;
};

struct direct_server {
	struct csv_daemon *d;
	int listen_fd;
	struct loop_fd *watch;
	char lock_path[CSV_DAEMON_PATH_MAX];
	int lock_fd; /* -1 = nobody was let in yet */
	struct stranger strangers[STRANGERS];
};

static void forget(struct stranger *s, bool close_it)
{
	loop_fd_del(s->watch);
	s->watch = NULL;
	if (close_it) {
		(void)close(s->fd);
	}
	s->fd = -1;
}

/* A lock that lives as long as we or somebody whom we let in. */
static int take_lock(struct direct_server *s)
{
	struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
	int fd;
	int err;

	if (s->lock_fd >= 0) {
		return 0;
	}
	fd = open(s->lock_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0) {
		return -errno;
	}
	if (fcntl(fd, F_OFD_SETLK, &lock) != 0) {
		err = -errno;
		(void)close(fd);
		return err;
	}
	s->lock_fd = fd;
	return 0;
}

static int let_in(struct direct_server *s, const struct shared_direct_msg *hello, int sock)
{
	struct csv_daemon *d = s->d;
	int err = take_lock(s);

	if (err == 0 && !d->members->alone && !hello->guarded) {
		err = -EPERM;
	}
	if (err != 0) {
		return err;
	}
	err = -ENOENT;
	list_for_each(link, &d->volumes)
	{
		struct csv_volume *v = list_entry(link, struct csv_volume, link);

		if (err == -ENOENT && !d->stopping && v->phase == VOLUME_READY) {
			err = mounted_attach(v, hello->key, sock, s->lock_fd);
		}
	}
	return err;
}

static void on_hello(int fd, uint32_t events, void *arg)
{
	struct stranger *one = arg;
	int fds[SHARED_DIRECT_FDS];
	struct shared_direct_msg msg;
	int err = shared_direct_recv(fd, &msg, fds);

	(void)events;
	if (err == -EAGAIN) {
		return;
	}
	for (uint32_t i = 0; i < SHARED_DIRECT_FDS; i++) {
		if (fds[i] >= 0) {
			(void)close(fds[i]);
			err = -EPROTO;
		}
	}
	if (err == 0 && msg.type != SHARED_DIRECT_HELLO) {
		err = -EPROTO;
	}
	if (err == 0) {
		struct direct_server *s = one->server;

		forget(one, false); /* who is let in has a watch of his own */
		err = let_in(s, &msg, fd);
		if (err != 0) {
			log_info(TAG, "refused error=%s", strerrorname_np(-err));
			(void)close(fd);
		}
		return;
	}
	forget(one, true);
}

static bool is_root(int fd)
{
	struct ucred who = {.uid = (uid_t)-1};
	socklen_t len = sizeof(who);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) == 0 &&
	       (who.uid == 0 || who.uid == geteuid());
}

static struct stranger *room_for_one(struct direct_server *s, uint64_t now)
{
	for (uint32_t i = 0; i < STRANGERS; i++) {
		struct stranger *one = &s->strangers[i];

		if (one->fd >= 0 && now - one->since_ns > SAY_NS) {
			forget(one, true);
		}
		if (one->fd < 0) {
			return one;
		}
	}
	return NULL;
}

static void on_connect(int fd, uint32_t events, void *arg)
{
	struct direct_server *s = arg;
	int conn = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct stranger *one = conn >= 0 ? room_for_one(s, clock_boot_ns()) : NULL;

	(void)events;
	if (conn < 0) {
		return;
	}
	if (one == NULL || !is_root(conn)) {
		(void)close(conn);
		return;
	}
	one->fd = conn;
	one->since_ns = clock_boot_ns();
	if (loop_fd_add(s->d->cfg.loop, conn, LOOP_READ, on_hello, one, &one->watch) != 0) {
		one->watch = NULL;
		forget(one, true);
	}
}

static int listen_at(struct direct_server *s, const char *path)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	size_t len = strlen(path);

	if (len >= sizeof(addr.sun_path)) {
		return -ENAMETOOLONG;
	}
	memcpy(addr.sun_path, path, len + 1);
	(void)unlink(path); /* one service has the run directory: it is a leftover */
	s->listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s->listen_fd < 0 || fchmod(s->listen_fd, 0600) != 0 ||
	    bind(s->listen_fd, (const struct sockaddr *)&addr, sizeof(addr)) != 0 ||
	    chmod(path, 0600) != 0 || listen(s->listen_fd, (int)STRANGERS) != 0) {
		return -errno;
	}
	return loop_fd_add(s->d->cfg.loop, s->listen_fd, LOOP_READ, on_connect, s, &s->watch);
}

int csv_daemon_direct(struct csv_daemon *d, const char *run_dir, struct errbuf *eb)
{
	struct direct_server *s = gw_calloc(1, sizeof(*s));
	char path[CSV_DAEMON_PATH_MAX];
	int n;
	int err;

	if (s == NULL) {
		return errbuf_sys(eb, -ENOMEM, "I/O of users");
	}
	s->d = d;
	s->listen_fd = -1;
	s->lock_fd = -1;
	for (uint32_t i = 0; i < STRANGERS; i++) {
		s->strangers[i] = (struct stranger){.server = s, .fd = -1};
	}
	d->direct = s;
	n = snprintf(path, sizeof(path), "%s/" SHARED_DIRECT_SOCKET, run_dir);
	err = n < 0 || (size_t)n >= sizeof(path) ? -ENAMETOOLONG : 0;
	n = snprintf(s->lock_path, sizeof(s->lock_path), "%s/" SHARED_DIRECT_LOCK, run_dir);
	err = n < 0 || (size_t)n >= sizeof(s->lock_path) ? -ENAMETOOLONG : err;
	if (err == 0) {
		err = listen_at(s, path);
	}
	if (err != 0) {
		direct_stop(d);
		return errbuf_sys(eb, err, "%s", path);
	}
	return 0;
}

void direct_stop(struct csv_daemon *d)
{
	struct direct_server *s = d->direct;

	if (s == NULL) {
		return;
	}
	d->direct = NULL;
	loop_fd_del(s->watch);
	for (uint32_t i = 0; i < STRANGERS; i++) {
		if (s->strangers[i].fd >= 0) {
			forget(&s->strangers[i], true);
		}
	}
	if (s->listen_fd >= 0) {
		(void)close(s->listen_fd);
	}
	if (s->lock_fd >= 0) {
		(void)close(s->lock_fd);
	}
	free(s);
}
