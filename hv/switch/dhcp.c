/* SPDX-License-Identifier: Apache-2.0 */
#include "hv/switch/dhcp.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/hostfs.h"
#include "base/loop.h"
#include "base/parse.h"
#include "base/text.h"

#define DHCP_PATH_MAX 512
#define DHCP_WHY_MAX 240
#define DHCP_CONFIG_MAX 65536u
#define DHCP_STOP_MS 3000 /* dnsmasq ends in milliseconds; then it is killed */
#define DHCP_PAUSE_FIRST_NS NS_PER_S

struct dhcp {
	struct loop *loop; /* borrowed */
	void (*died)(void *arg, const char *why);
	void *arg;
	char program[DHCP_PATH_MAX];
	char conf_path[DHCP_PATH_MAX];
	char pid_path[DHCP_PATH_MAX];
	char err_path[DHCP_PATH_MAX];
	pid_t pid;             /* 0 = does not run */
	int pid_fd;            /* owned: of the process; -1 = does not run */
	struct loop_fd *watch; /* owned */
	struct loop_timer *again;
	uint64_t started_ns;
	uint64_t pause_ns; /* before the next start */
	uint32_t restarts;
	char why[DHCP_WHY_MAX];
};

static void dhcp_ended(int fd, uint32_t events, void *arg);

static int dhcp_watch(struct dhcp *d, pid_t pid)
{
	int fd = (int)syscall(SYS_pidfd_open, pid, 0);
	int err;

	if (fd < 0) {
		return -errno;
	}
	err = loop_fd_add(d->loop, fd, LOOP_READ, dhcp_ended, d, &d->watch);
	if (err != 0) {
		(void)close(fd);
		return err;
	}
	d->pid = pid;
	d->pid_fd = fd;
	d->started_ns = clock_now_ns();
	return 0;
}

static void dhcp_unwatch(struct dhcp *d)
{
	loop_fd_del(d->watch);
	d->watch = NULL;
	if (d->pid_fd >= 0) {
		(void)close(d->pid_fd);
	}
	d->pid_fd = -1;
	d->pid = 0;
}

/* ---- start ---- */

static int dhcp_spawn(struct dhcp *d, pid_t *pid)
{
	char conf[DHCP_PATH_MAX + 16];
	char pid_file[DHCP_PATH_MAX + 16];
	char program[DHCP_PATH_MAX];
	char foreground[] = "--keep-in-foreground";
	char path_env[] = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
	char *const argv[] = {program, foreground, conf, pid_file, NULL};
	char *const env[] = {path_env, NULL};
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none;
	sigset_t all;
	int err = posix_spawn_file_actions_init(&actions);

	if (err != 0) {
		return -err;
	}
	err = posix_spawnattr_init(&attr);
	if (err != 0) {
		(void)posix_spawn_file_actions_destroy(&actions);
		return -err;
	}
	(void)snprintf(program, sizeof(program), "%s", d->program);
	(void)snprintf(conf, sizeof(conf), "--conf-file=%s", d->conf_path);
	(void)snprintf(pid_file, sizeof(pid_file), "--pid-file=%s", d->pid_path);
	(void)sigemptyset(&none);
	(void)sigfillset(&all);
	(void)posix_spawnattr_setsigmask(&attr, &none);
	(void)posix_spawnattr_setsigdefault(&attr, &all);
	/* A session of its own: no terminal's interrupt reaches it. */
	(void)posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK |
	                                              POSIX_SPAWN_SETSIGDEF);
	err = posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDWR, 0);
	if (err == 0) {
		err = posix_spawn_file_actions_adddup2(&actions, 0, 1);
	}
	if (err == 0) {
		err = posix_spawn_file_actions_addopen(&actions, 2, d->err_path,
		                                       O_WRONLY | O_CREAT | O_TRUNC, 0600);
	}
	if (err == 0) {
		err = posix_spawn(pid, program, &actions, &attr, argv, env);
	}
	(void)posix_spawnattr_destroy(&attr);
	(void)posix_spawn_file_actions_destroy(&actions);
	return -err;
}

static int dhcp_run(struct dhcp *d, struct errbuf *eb)
{
	pid_t pid = 0;
	int err = dhcp_spawn(d, &pid);

	if (err != 0) {
		return errbuf_sys(eb, err, "cannot start %s", d->program);
	}
	err = dhcp_watch(d, pid);
	if (err != 0) {
		(void)kill(pid, SIGKILL);
		(void)waitpid(pid, NULL, 0);
		return errbuf_sys(eb, err, "cannot watch %s", d->program);
	}
	return 0;
}

/* ---- its end ---- */

/* What it said last, in one line. */
static void dhcp_take_why(struct dhcp *d, int status)
{
	const struct hostfs host = {0};
	char said[DHCP_WHY_MAX];
	struct text t;

	text_init(&t, d->why, sizeof(d->why));
	if (hostfs_read(&host, d->err_path, said, sizeof(said)) > 0) {
		char *line = said + strspn(said, "\n");

		text_add_clean(&t, line, strcspn(line, "\n"));
	} else if (status >= 0 && WIFSIGNALED(status)) {
		text_add(&t, "dnsmasq was ended by signal %d", WTERMSIG(status));
	} else {
		text_add(&t, "dnsmasq ended");
	}
}

static void dhcp_retry(struct dhcp *d)
{
	loop_timer_arm(d->again, d->pause_ns);
	d->pause_ns = d->pause_ns == 0 ? DHCP_PAUSE_FIRST_NS : d->pause_ns * 2;
	d->pause_ns = d->pause_ns < DHCP_PAUSE_MAX_NS ? d->pause_ns : DHCP_PAUSE_MAX_NS;
}

static void dhcp_ended(int fd, uint32_t events, void *arg)
{
	struct dhcp *d = arg;
	int status = -1;

	(void)fd;
	(void)events;
	/* An adopted one is not our child: somebody else takes its status. */
	if (waitpid(d->pid, &status, WNOHANG) != d->pid) {
		status = -1;
	}
	if (clock_now_ns() - d->started_ns >= DHCP_HEALTHY_NS) {
		d->pause_ns = 0;
	}
	dhcp_unwatch(d);
	dhcp_take_why(d, status);
	d->restarts++;
	dhcp_retry(d);
	d->died(d->arg, d->why);
}

static void dhcp_again(void *arg)
{
	struct dhcp *d = arg;
	struct errbuf eb = {0};
	int err = dhcp_run(d, &eb);

	if (err != 0) {
		(void)snprintf(d->why, sizeof(d->why), "%.200s", errbuf_text(&eb, err));
		d->restarts++;
		dhcp_retry(d);
		d->died(d->arg, d->why);
	}
}

/* Wait until the process behind @fd is gone; kill it at the deadline. */
static void dhcp_wait(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	if (poll(&p, 1, DHCP_STOP_MS) <= 0) {
		(void)syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0);
		(void)poll(&p, 1, DHCP_STOP_MS);
	}
}

static void dhcp_kill(int fd, pid_t pid)
{
	(void)syscall(SYS_pidfd_send_signal, fd, SIGTERM, NULL, 0);
	dhcp_wait(fd);
	(void)waitpid(pid, NULL, WNOHANG);
}

/* ---- adoption ---- */

/* Is the process really one that was started with our file? Numbers of processes are used again. */
static bool dhcp_is_ours(const struct dhcp *d, pid_t pid)
{
	char path[64];
	char want[DHCP_PATH_MAX + 16];
	char line[4096];
	ssize_t len;
	int fd;

	(void)snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)pid);
	(void)snprintf(want, sizeof(want), "--conf-file=%s", d->conf_path);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		return false;
	}
	len = read(fd, line, sizeof(line) - 1);
	(void)close(fd);
	for (ssize_t at = 0; at < len;) {
		line[len] = '\0';
		if (strcmp(line + at, want) == 0) {
			return true;
		}
		at += (ssize_t)strlen(line + at) + 1;
	}
	return false;
}

/* The process an earlier service left. Returns its pidfd; -1 = there is none. */
static int dhcp_find(const struct dhcp *d, pid_t *pid)
{
	const struct hostfs host = {0};
	uint64_t number;
	int fd;

	if (hostfs_u64(&host, d->pid_path, &number) != 0 || number == 0 || number > INT32_MAX) {
		return -1;
	}
	*pid = (pid_t)number;
	fd = (int)syscall(SYS_pidfd_open, *pid, 0);
	/* Looked at after the descriptor was opened: it cannot become another one now. */
	if (fd >= 0 && !dhcp_is_ours(d, *pid)) {
		(void)close(fd);
		fd = -1;
	}
	return fd;
}

static bool dhcp_config_same(const struct dhcp *d, const char *config)
{
	char *now = NULL;
	size_t len = 0;
	bool same = fs_read(d->conf_path, DHCP_CONFIG_MAX, &now, &len, NULL) == 0 &&
	            strcmp(now, config) == 0;

	free(now);
	return same;
}

static int dhcp_adopt_or_run(struct dhcp *d, const char *config, struct errbuf *eb)
{
	bool same = dhcp_config_same(d, config);
	pid_t pid = 0;
	int fd = dhcp_find(d, &pid);
	int err = 0;

	if (fd >= 0 && same) {
		(void)close(fd);
		return dhcp_watch(d, pid);
	}
	if (fd >= 0) {
		dhcp_kill(fd, pid);
		(void)close(fd);
	}
	if (!same) {
		err = fs_write(d->conf_path, config, strlen(config), 0644, eb);
	}
	return err != 0 ? err : dhcp_run(d, eb);
}

/* ---- life ---- */

int dhcp_start(const struct dhcp_cfg *cfg, struct dhcp **out, struct errbuf *eb)
{
	const struct hostfs host = {0};
	struct dhcp *d = gw_calloc(1, sizeof(*d));
	int err;

	*out = NULL;
	if (d == NULL) {
		return errbuf_sys(eb, -ENOMEM, "dnsmasq");
	}
	d->loop = cfg->loop;
	d->died = cfg->died;
	d->arg = cfg->arg;
	d->pid_fd = -1;
	if (snprintf(d->conf_path, sizeof(d->conf_path), "%s/dnsmasq.conf", cfg->dir) >=
	    (int)sizeof(d->conf_path)) {
		free(d);
		return errbuf_set(eb, -ENAMETOOLONG, "the run directory's path is too long");
	}
	(void)snprintf(d->pid_path, sizeof(d->pid_path), "%s/dnsmasq.pid", cfg->dir);
	(void)snprintf(d->err_path, sizeof(d->err_path), "%s/dnsmasq.err", cfg->dir);
	if (!hostfs_program(&host, "dnsmasq", d->program, sizeof(d->program))) {
		free(d);
		err = errbuf_set(eb, -ENOENT,
		                 "dnsmasq is not installed; it gives a NAT switch's "
		                 "guests their addresses");
		errbuf_hint(eb, "apt-get install dnsmasq-base");
		return err;
	}
	err = loop_timer_new(d->loop, dhcp_again, d, &d->again);
	if (err == 0) {
		err = dhcp_adopt_or_run(d, cfg->config, eb);
	} else {
		(void)errbuf_sys(eb, err, "dnsmasq");
	}
	if (err != 0) {
		dhcp_release(d);
		return err;
	}
	*out = d;
	return 0;
}

void dhcp_release(struct dhcp *d)
{
	if (d != NULL) {
		dhcp_unwatch(d);
		loop_timer_del(d->again);
		free(d);
	}
}

void dhcp_stop(struct dhcp *d)
{
	if (d == NULL) {
		return;
	}
	if (d->pid_fd >= 0) {
		dhcp_kill(d->pid_fd, d->pid);
	}
	(void)unlink(d->conf_path);
	(void)unlink(d->pid_path);
	(void)unlink(d->err_path);
	dhcp_release(d);
}

pid_t dhcp_pid(const struct dhcp *d)
{
	return d->pid;
}

uint32_t dhcp_restarts(const struct dhcp *d)
{
	return d->restarts;
}

const char *dhcp_error(const struct dhcp *d)
{
	return d->why;
}
