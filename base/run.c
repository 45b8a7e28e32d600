/* SPDX-License-Identifier: Apache-2.0 */
#include "base/run.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"

#define STOP_LOOK_MS 100

/* argv and environ of posix_spawn() are not const for reasons of history; it does not write. */
static char *const *unconst(const char *const argv[])
{
	union {
		const char *const *in;
		char *const *out;
	} u = {.in = argv};

	return u.out;
}

/* @in_fd: -1 = nothing to read. */
static int start(const char *const argv[], int in_fd, int out_fd, pid_t *pid)
{
	static const char *const env[] = {
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C",
		NULL};
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
		goto fini_actions;
	}
	(void)sigemptyset(&none);
	(void)sigfillset(&all);
	err = in_fd < 0 ? posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
	                : posix_spawn_file_actions_adddup2(&actions, in_fd, 0);
	if (err == 0) {
		err = posix_spawn_file_actions_adddup2(&actions, out_fd, 1);
	}
	if (err == 0) {
		err = posix_spawn_file_actions_adddup2(&actions, out_fd, 2);
	}
	if (err == 0) {
		/* A service blocks and ignores signals; its children must not inherit that. */
		(void)posix_spawnattr_setsigmask(&attr, &none);
		(void)posix_spawnattr_setsigdefault(&attr, &all);
		(void)posix_spawnattr_setpgroup(&attr, 0);
		(void)posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP |
		                                              POSIX_SPAWN_SETSIGMASK |
		                                              POSIX_SPAWN_SETSIGDEF);
		err = posix_spawn(pid, argv[0], &actions, &attr, unconst(argv), unconst(env));
	}
	(void)posix_spawnattr_destroy(&attr);
fini_actions:
	(void)posix_spawn_file_actions_destroy(&actions);
	return -err;
}

struct capture {
	int out_fd;  /* -1 = at its end */
	int process; /* pidfd; -1 = ended */
	char *buf;
	size_t len;
	size_t used;
	const atomic_bool *stop; /* NULL = nobody */
};

/* One read. What does not fit is thrown away, so that the writer is not blocked. */
static void take(struct capture *c)
{
	char scratch[4096];
	ssize_t n = read(c->out_fd, scratch, sizeof(scratch));

	if (n < 0 && (errno == EINTR || errno == EAGAIN)) {
		return;
	}
	if (n <= 0) {
		(void)close(c->out_fd);
		c->out_fd = -1;
		return;
	}

	size_t room = c->len - 1 - c->used;
	size_t kept = (size_t)n < room ? (size_t)n : room;

	memcpy(c->buf + c->used, scratch, kept);
	c->used += kept;
}

/* Until the process has ended and what it wrote is read. Returns 0; -ETIMEDOUT; -ECANCELED;
 * -errno. */
static int follow(struct capture *c, uint64_t deadline_ns)
{
	const int look_ms = c->stop != NULL ? STOP_LOOK_MS : 1000;

	while (c->process >= 0) {
		struct pollfd fds[] = {{.fd = c->out_fd, .events = POLLIN},
		                       {.fd = c->process, .events = POLLIN}};
		uint64_t now = clock_now_ns();

		if (now >= deadline_ns) {
			return -ETIMEDOUT;
		}
		if (c->stop != NULL && atomic_load(c->stop)) {
			return -ECANCELED;
		}

		uint64_t left_ms = (deadline_ns - now) / NS_PER_MS + 1;
		int n = poll(fds, ARRAY_LEN(fds),
		             left_ms > (uint64_t)look_ms ? look_ms : (int)left_ms);

		if (n < 0 && errno != EINTR) {
			return -errno;
		}
		if (n > 0 && fds[0].revents != 0) {
			take(c);
		} else if (n > 0 && fds[1].revents != 0) {
			(void)close(c->process);
			c->process = -1;
		}
	}
	while (c->out_fd >= 0) { /* what is in the pipe; a grandchild may still hold it open */
		struct pollfd fd = {.fd = c->out_fd, .events = POLLIN};

		if (poll(&fd, 1, 0) <= 0) {
			break;
		}
		take(c);
	}
	return 0;
}

static int reap(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR) {
			return -errno;
		}
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : -EINTR;
}

static int run(const char *const argv[], int in_fd, const atomic_bool *stop, uint64_t timeout_ns,
               char *buf, size_t len)
{
	struct capture c = {.out_fd = -1, .process = -1, .buf = buf, .len = len, .stop = stop};
	uint64_t deadline_ns = clock_now_ns() + timeout_ns;
	int fds[2] = {-1, -1};
	pid_t pid = -1;

	buf[0] = '\0';
	if (pipe2(fds, O_CLOEXEC) < 0) {
		return -errno;
	}

	int err = start(argv, in_fd, fds[1], &pid);

	(void)close(fds[1]);
	c.out_fd = fds[0];
	if (err < 0) {
		(void)close(c.out_fd);
		return err;
	}
	c.process = (int)syscall(SYS_pidfd_open, pid, 0);
	err = c.process < 0 ? -errno : follow(&c, deadline_ns);
	if (err < 0) {
		(void)kill(-pid, SIGKILL);
	}
	if (c.process >= 0) {
		(void)close(c.process);
	}
	if (c.out_fd >= 0) {
		(void)close(c.out_fd);
	}
	buf[c.used] = '\0';

	int status = reap(pid);

	return err < 0 ? err : status;
}

int run_capture(const char *const argv[], uint64_t timeout_ns, char *buf, size_t len)
{
	return run(argv, -1, NULL, timeout_ns, buf, len);
}

/* A file without a name that holds the input: nobody has to write while the program reads. */
static int input_file(const void *input, size_t len)
{
	int fd = memfd_create("input", MFD_CLOEXEC);

	if (fd < 0) {
		return -errno;
	}
	ssize_t put = len > 0 ? pwrite(fd, input, len, 0) : 0;

	if (put < 0 || (size_t)put != len) {
		int err = put < 0 ? -errno : -ENOMEM;

		(void)close(fd);
		return err;
	}
	return fd;
}

int run_capture_input(const char *const argv[], const void *input, size_t input_len,
                      uint64_t timeout_ns, char *buf, size_t len)
{
	const struct run_input in = {.bytes = input, .len = input_len};

	return run_capture_stop(argv, &in, timeout_ns, buf, len);
}

int run_capture_stop(const char *const argv[], const struct run_input *input, uint64_t timeout_ns,
                     char *buf, size_t len)
{
	int fd = input_file(input->bytes, input->len);

	buf[0] = '\0';
	if (fd < 0) {
		return fd;
	}
	int status = run(argv, fd, input->stop, timeout_ns, buf, len);

	(void)close(fd);
	return status;
}
