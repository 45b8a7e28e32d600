/* SPDX-License-Identifier: Apache-2.0 */
#include "deploy/lab/agent/port.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/attr.h"
#include "deploy/lab/agent/boot.h"
#include "deploy/lab/agent/frame.h"

/* How long a command may take to end after SIGHUP when its client is gone. */
#define HANGUP_GRACE_MS 500
/* A port that says "nobody connected" is asked again after this long; see port_read(). */
#define HANGUP_CHECK_MS 1000
/* How long "nobody connected" may be stale just after somebody has connected. */
#define STALE_STEP_MS 5
#define STALE_TRIES_MAX 100

struct session {
	uint32_t id; /* 0: none */
	pid_t pid;   /* 0: not started; also the process group */
	int pidfd;   /* owned; -1: not started, or reaped */
	int in;      /* owned, non-blocking; -1: closed */
	int out;     /* owned; -1: at its end. On a terminal: the master, @in is a copy */
	int err;     /* owned; -1: at its end, or a terminal */
	bool in_ends;
	uint8_t in_buf[PORT_STDIN_MAX];
	size_t in_first;
	size_t in_bytes;
};

struct port {
	int fd;    /* owned; the virtio-serial port, non-blocking */
	int epoll; /* owned; holds only @fd, edge-triggered */
	/* The host end was seen connected since the session began. */
	bool host_seen;
	uint32_t setup_status;
	struct frame_reader reader;
	struct session session;
};

static void close_fd(int *fd)
{
	if (*fd >= 0) {
		close(*fd);
		*fd = -1;
	}
}

/*
 * Wait until the port takes data. The driver refuses data while it believes that nobody is
 * connected; when the session has just begun this may be stale news, see port_read().
 * Returns 0: try again; -EPIPE nobody is connected.
 */
static int port_wait_writable(const struct port *p, int *stale_tries)
{
	const struct timespec step = {.tv_nsec = STALE_STEP_MS * 1000000L};
	struct pollfd wait = {.fd = p->fd, .events = POLLOUT};

	if (poll(&wait, 1, HANGUP_CHECK_MS) <= 0 || (wait.revents & POLLHUP) == 0) {
		return 0;
	}
	if (p->host_seen || ++*stale_tries > STALE_TRIES_MAX) {
		return -EPIPE;
	}
	(void)nanosleep(&step, NULL);
	return 0;
}

/* Write all of it. Returns 0; -EPIPE nobody is connected; -errno. */
static int port_put(const struct port *p, const uint8_t *data, size_t bytes)
{
	int stale_tries = 0;

	while (bytes > 0) {
		const ssize_t n = write(p->fd, data, bytes);

		if (n >= 0) {
			data += n;
			bytes -= (size_t)n;
		} else if (errno == EAGAIN) {
			const int err = port_wait_writable(p, &stale_tries);

			if (err != 0) {
				return err;
			}
		} else if (errno != EINTR) {
			return -errno;
		}
	}
	return 0;
}

static int port_send(const struct port *p, uint8_t type, const void *payload, size_t bytes)
{
	/* One buffer, one write: each write is a trip to the host. */
	static uint8_t frame[sizeof(struct frame_wire) + FRAME_PAYLOAD_MAX];
	struct frame_wire header;

	frame_header_encode(&header, type, p->session.id, bytes);
	memcpy(frame, &header, sizeof(header));
	if (bytes > 0) {
		memcpy(frame + sizeof(header), payload, bytes);
	}
	return port_put(p, frame, sizeof(header) + bytes);
}

static int port_send_u32(const struct port *p, uint8_t type, uint32_t value)
{
	const le32 wire = le32_make(value);

	return port_send(p, type, &wire, sizeof(wire));
}

static void session_close(struct session *s)
{
	close_fd(&s->in);
	close_fd(&s->out);
	close_fd(&s->err);
	close_fd(&s->pidfd);
	s->id = 0;
	s->pid = 0;
	s->in_ends = false;
	s->in_first = 0;
	s->in_bytes = 0;
}

/* Nobody listens any more: end the command, politely first. */
static void session_abort(struct session *s)
{
	if (s->pidfd >= 0) {
		struct pollfd wait = {.fd = s->pidfd, .events = POLLIN};

		(void)kill(-s->pid, SIGHUP);
		(void)poll(&wait, 1, HANGUP_GRACE_MS);
		(void)kill(-s->pid, SIGKILL);
		while (waitpid(s->pid, NULL, 0) < 0 && errno == EINTR) {
		}
	}
	session_close(s);
}

/* In the child: nothing of the agent stays but the three standard descriptors. */
_Noreturn static void child_exec(const struct frame_start *start, const int fds[3])
{
	char *argv[FRAME_ARGS_MAX + 1]; /* Not const, for execvp(), which changes nothing. */
	sigset_t none;

	sigemptyset(&none);
	(void)setsid();
	if ((start->flags & FRAME_START_TTY) != 0) {
		(void)ioctl(fds[0], TIOCSCTTY, 0);
	}
	for (int i = 0; i < 3; i++) {
		if (dup2(fds[i], i) < 0) {
			_exit(126);
		}
	}
	(void)signal(SIGPIPE, SIG_DFL);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	if (chdir("/root") != 0 && chdir("/") != 0) {
		_exit(126);
	}
	memcpy(argv, start->argv, sizeof(argv));
	(void)execvp(argv[0], argv);
	const int err = errno;

	(void)fprintf(stderr, "%s: %s\n", start->argv[0], strerror(err));
	(void)fflush(stderr);
	_exit(err == ENOENT ? 127 : 126);
}

/* Fork; @theirs are the child's 0, 1, 2 and are closed here. */
static int session_fork(struct session *s, const struct frame_start *start, int theirs[3])
{
	const pid_t pid = fork();

	if (pid == 0) {
		child_exec(start, theirs);
	}
	const int err = pid < 0 ? -errno : 0;

	for (int i = 0; i < 3; i++) {
		close_fd(&theirs[i]);
	}
	if (err != 0) {
		return err;
	}
	s->pid = pid;
	s->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	return s->pidfd < 0 ? -errno : 0;
}

static int session_start_pipes(struct session *s, const struct frame_start *start)
{
	int pipes[3][2] = {{-1, -1}, {-1, -1}, {-1, -1}};

	for (int i = 0; i < 3; i++) {
		if (pipe2(pipes[i], O_CLOEXEC) != 0) {
			const int err = -errno;

			for (int k = 0; k < i; k++) {
				close_fd(&pipes[k][0]);
				close_fd(&pipes[k][1]);
			}
			return err;
		}
	}
	int theirs[3] = {pipes[0][0], pipes[1][1], pipes[2][1]};

	s->in = pipes[0][1];
	s->out = pipes[1][0];
	s->err = pipes[2][0];
	if (fcntl(s->in, F_SETFL, O_NONBLOCK) != 0) {
		return -errno;
	}
	return session_fork(s, start, theirs);
}

static void terminal_resize(int fd, uint16_t rows, uint16_t columns)
{
	const struct winsize size = {.ws_row = rows, .ws_col = columns};

	(void)ioctl(fd, TIOCSWINSZ, &size);
}

static int session_start_terminal(struct session *s, const struct frame_start *start)
{
	s->out = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
	if (s->out < 0 || unlockpt(s->out) != 0) {
		return -errno;
	}
	terminal_resize(s->out, start->rows, start->columns);
	const int slave = ioctl(s->out, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	int theirs[3] = {slave, fcntl(slave, F_DUPFD_CLOEXEC, 3), fcntl(slave, F_DUPFD_CLOEXEC, 3)};

	s->in = fcntl(s->out, F_DUPFD_CLOEXEC, 3);
	return session_fork(s, start, theirs);
}

static int port_start(struct port *p, const struct frame *frame)
{
	struct frame_start start;
	int err = frame_start_decode(frame->payload, frame->payload_bytes, &start);

	if (err == 0) {
		err = (start.flags & FRAME_START_TTY) != 0
		              ? session_start_terminal(&p->session, &start)
		              : session_start_pipes(&p->session, &start);
	}
	if (err == 0) {
		return port_send_u32(p, FRAME_CREDIT, PORT_STDIN_MAX);
	}
	char text[128];
	const int n =
		snprintf(text, sizeof(text), "lab: command not started: %s\n", strerror(-err));

	err = port_send(p, FRAME_STDERR, text, (size_t)n);
	if (err == 0) {
		err = port_send_u32(p, FRAME_EXIT, 126);
	}
	session_abort(&p->session);
	return err;
}

/* Give the command what is buffered; the client gets as much new credit. */
static int port_feed(struct port *p)
{
	struct session *s = &p->session;

	while (s->in >= 0 && s->in_bytes > 0) {
		const ssize_t n = write(s->in, s->in_buf + s->in_first, s->in_bytes);

		if (n < 0 && errno == EAGAIN) {
			return 0;
		}
		if (n < 0) {
			close_fd(&s->in); /* The command closed its end; the rest is lost. */
			break;
		}
		s->in_first += (size_t)n;
		s->in_bytes -= (size_t)n;
		const int err = port_send_u32(p, FRAME_CREDIT, (uint32_t)n);

		if (err != 0) {
			return err;
		}
	}
	if (s->in >= 0 && s->in_bytes == 0 && s->in_ends) {
		close_fd(&s->in);
	}
	return 0;
}

static int port_stdin(struct port *p, const struct frame *frame)
{
	struct session *s = &p->session;

	if (s->in < 0) {
		return 0; /* Closed by the command. */
	}
	if (frame->payload_bytes > PORT_STDIN_MAX - s->in_bytes) {
		return -EPROTO; /* More than the credit. */
	}
	if (s->in_first + s->in_bytes + frame->payload_bytes > PORT_STDIN_MAX) {
		memmove(s->in_buf, s->in_buf + s->in_first, s->in_bytes);
		s->in_first = 0;
	}
	memcpy(s->in_buf + s->in_first + s->in_bytes, frame->payload, frame->payload_bytes);
	s->in_bytes += frame->payload_bytes;
	return port_feed(p);
}

/* Returns 0; -errno: the session is over. */
static int port_frame(struct port *p, const struct frame *frame)
{
	struct session *s = &p->session;
	uint16_t rows;
	uint16_t columns;

	if (frame->type == FRAME_HELLO) {
		session_abort(s);
		p->host_seen = false;
		s->id = frame->session;
		return port_send_u32(p, FRAME_READY, p->setup_status);
	}
	if (s->id == 0 || frame->session != s->id) {
		return 0; /* Left over from an earlier client. */
	}
	if (frame->type == FRAME_START) {
		return s->pid == 0 ? port_start(p, frame) : -EPROTO;
	}
	if (s->pid == 0) {
		return 0;
	}
	switch (frame->type) {
	case FRAME_STDIN:
		return port_stdin(p, frame);
	case FRAME_EOF:
		s->in_ends = true;
		return port_feed(p);
	case FRAME_SIGNAL:
		if (frame->payload_bytes == 1 && frame->payload[0] < NSIG) {
			(void)kill(-s->pid, frame->payload[0]);
		}
		return 0;
	case FRAME_WINDOW:
		if (frame_window_decode(frame->payload, frame->payload_bytes, &rows, &columns) ==
		    0) {
			terminal_resize(s->out, rows, columns);
		}
		return 0;
	default:
		return -EPROTO;
	}
}

/*
 * Read what has come. A read of 0 means "nobody is connected", but the driver learns of a
 * connection in a work item and of data in an interrupt: data may be followed by a 0 although
 * somebody is there. So a 0 counts only after the port was seen connected (-EAGAIN).
 * Reads on after a frame that ends the session: there is no second edge for what is left.
 * Returns 0; -EPIPE hang-up; -errno of the device.
 */
static int port_read(struct port *p)
{
	for (;;) {
		size_t room;
		uint8_t *to = frame_reader_room(&p->reader, &room);
		const ssize_t n = read(p->fd, to, room);
		struct frame frame;

		if (n < 0 && errno == EINTR) {
			continue;
		}
		if (n < 0 && errno == EAGAIN) {
			p->host_seen = true;
			return 0;
		}
		if (n <= 0) {
			return n < 0 ? -errno : p->host_seen ? -EPIPE : 0;
		}
		frame_reader_fed(&p->reader, (size_t)n);
		while (frame_reader_next(&p->reader, &frame) == 0) {
			if (port_frame(p, &frame) != 0) {
				session_abort(&p->session);
				p->host_seen = false;
			}
		}
	}
}

/* Pass on one readful of output. Returns 0; -errno of the port. */
static int port_output(struct port *p, int *fd, uint8_t type)
{
	static uint8_t buf[FRAME_PAYLOAD_MAX];
	const ssize_t n = read(*fd, buf, sizeof(buf));

	if (n > 0) {
		return port_send(p, type, buf, (size_t)n);
	}
	if (n == 0 || (errno != EINTR && errno != EAGAIN)) {
		close_fd(fd); /* A terminal says EIO at its end. */
	}
	return 0;
}

/*
 * The command has ended: pass on what it left in its pipes, then its status. Processes that it
 * left in the background may still hold the pipes; they are not waited for.
 */
static int port_finish(struct port *p)
{
	struct session *s = &p->session;
	int *const fds[] = {&s->out, &s->err};
	int status = 0;
	int err = 0;

	while (waitpid(s->pid, &status, 0) < 0 && errno == EINTR) {
	}
	close_fd(&s->pidfd);
	for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
		int left = 0;

		if (*fds[i] < 0 || fcntl(*fds[i], F_SETFL, O_NONBLOCK) != 0) {
			continue;
		}
		/* What lay there when it ended, not what somebody goes on writing. */
		for (int max = 64; err == 0 && *fds[i] >= 0 && max > 0; max--) {
			if (ioctl(*fds[i], FIONREAD, &left) != 0 || left == 0) {
				break;
			}
			err = port_output(p, fds[i], i == 0 ? FRAME_STDOUT : FRAME_STDERR);
		}
	}
	if (err == 0) {
		err = port_send_u32(p, FRAME_EXIT,
		                    WIFEXITED(status) ? (uint32_t)WEXITSTATUS(status)
		                                      : 128 + (uint32_t)WTERMSIG(status));
	}
	session_close(s);
	return err;
}

/* Wait for something and do it. Returns 0; -errno: the session is over. */
static int port_step(struct port *p)
{
	struct session *s = &p->session;
	struct pollfd fds[] = {
		{.fd = p->epoll, .events = POLLIN},
		{.fd = s->out, .events = POLLIN},
		{.fd = s->err, .events = POLLIN},
		{.fd = s->in_bytes > 0 ? s->in : -1, .events = POLLOUT},
		{.fd = s->pidfd, .events = POLLIN},
	};
	const int n = poll(fds, ARRAY_LEN(fds), s->pid != 0 ? HANGUP_CHECK_MS : -1);
	int err = 0;

	if (n == 0) {
		struct pollfd check = {.fd = p->fd};

		return poll(&check, 1, 0) > 0 && (check.revents & POLLHUP) != 0 ? -EPIPE : 0;
	}
	if (fds[0].revents != 0) {
		struct epoll_event event;

		(void)epoll_wait(p->epoll, &event, 1, 0);
		err = port_read(p);
		/* The frames may have ended or begun a session: look again. */
		return err;
	}
	if (err == 0 && fds[3].revents != 0) {
		err = port_feed(p);
	}
	if (err == 0 && fds[1].revents != 0) {
		err = port_output(p, &s->out, FRAME_STDOUT);
	}
	if (err == 0 && fds[2].revents != 0) {
		err = port_output(p, &s->err, FRAME_STDERR);
	}
	if (err == 0 && fds[4].revents != 0) {
		err = port_finish(p);
	}
	return err;
}

static int port_open(struct port *p, const char *path)
{
	p->fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (p->fd < 0) {
		return -errno;
	}
	p->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (p->epoll < 0) {
		return -errno;
	}
	/* Edge-triggered: a port that nobody is connected to is always "ready". */
	struct epoll_event event = {.events = EPOLLIN | EPOLLET};

	return epoll_ctl(p->epoll, EPOLL_CTL_ADD, p->fd, &event) == 0 ? 0 : -errno;
}

int port_serve(const char *path, uint32_t setup_status)
{
	struct port *p = calloc(1, sizeof(*p));
	int err = p ? 0 : -ENOMEM;

	if (err == 0) {
		p->setup_status = setup_status;
		p->session.in = p->session.out = p->session.err = p->session.pidfd = -1;
		p->fd = p->epoll = -1;
		err = port_open(p, path);
	}
	if (err == 0) {
		/* Who waits since before the boot learns it; mostly nobody does. */
		err = port_send(p, FRAME_BOOT, NULL, 0);
	}
	for (; err == 0 || err == -EPIPE || err == -EPROTO; err = port_step(p)) {
		if (err != 0) {
			session_abort(&p->session);
			p->host_seen = false;
		}
	}
	if (p) {
		session_abort(&p->session);
		close_fd(&p->epoll);
		close_fd(&p->fd);
		free(p);
	}
	return err;
}
