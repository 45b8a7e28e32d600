/* SPDX-License-Identifier: Apache-2.0 */
#include "hv/worker/console.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/uring.h"

#define TAG "console"
#define CONSOLE_INPUT_BYTES 256u
#define CONSOLE_RETRY_NS (2 * NS_PER_MS) /* a 16550 at 115200 baud takes 64 bytes in 5 ms */
#define CONSOLE_LATE_BYTES (256u << 10)  /* what a reader may lag behind; power of two */

struct console_stream {
	struct console *console; /* back pointer */
	int fd;                  /* owned; -1 = free */
	bool busy;               /* op is in flight */
	bool sending;            /* late_op is in flight */
	bool dead;
	struct uring_op op;
	struct uring_op late_op;
	uint8_t *late;     /* owned; output the socket did not take, a ring; NULL until needed */
	size_t head, tail; /* free-running; [head, tail) waits */
	uint8_t buf[CONSOLE_INPUT_BYTES];
	size_t at, len; /* input not yet taken by the guest */
};

struct console {
	struct uring *ring;
	int log_fd; /* owned */
	uint64_t log_bytes;
	console_input_fn fn;
	void *arg;
	struct console_stream streams[CONSOLE_STREAMS_MAX];
};

static void console_stream_next(struct console_stream *st);

static void console_stream_close(struct console_stream *st)
{
	if (st->busy || st->sending) {
		st->dead = true; /* the completions come back here */
		(void)shutdown(st->fd, SHUT_RDWR);
		return;
	}
	if (st->fd >= 0) {
		(void)close(st->fd);
	}
	free(st->late);
	st->late = NULL;
	st->head = st->tail = 0;
	st->fd = -1;
	st->dead = false;
}

static void console_late_send(struct console_stream *st);

static void console_late_done(struct uring_op *op, int32_t res, bool more)
{
	struct console_stream *st = op->arg;

	(void)more;
	st->sending = false;
	if (st->dead || res <= 0) {
		console_stream_close(st);
		return;
	}
	st->head += (size_t)res;
	console_late_send(st);
}

/* Send what waits, up to the end of the ring; the completion goes on. */
static void console_late_send(struct console_stream *st)
{
	size_t at = st->head & (CONSOLE_LATE_BYTES - 1);
	size_t len = st->tail - st->head;

	if (len == 0 || st->sending) {
		return;
	}
	if (len > CONSOLE_LATE_BYTES - at) {
		len = CONSOLE_LATE_BYTES - at;
	}
	st->late_op = (struct uring_op){.fn = console_late_done, .arg = st};
	if (uring_prep_send(st->console->ring, &st->late_op, st->fd, st->late + at, (uint32_t)len,
	                    MSG_NOSIGNAL) != 0) {
		console_stream_close(st);
		return;
	}
	st->sending = true;
}

/* Keep what the socket did not take. Returns false if there is no room for it. */
static bool console_late_add(struct console_stream *st, const uint8_t *buf, size_t len)
{
	if (st->late == NULL) {
		st->late = gw_malloc(CONSOLE_LATE_BYTES);
	}
	if (st->late == NULL || len > CONSOLE_LATE_BYTES - (st->tail - st->head)) {
		return false;
	}
	for (size_t i = 0; i < len; i++) {
		st->late[st->tail++ & (CONSOLE_LATE_BYTES - 1)] = buf[i];
	}
	console_late_send(st);
	return true;
}

static void console_stream_done(struct uring_op *op, int32_t res, bool more)
{
	struct console_stream *st = op->arg;

	(void)more;
	st->busy = false;
	if (st->dead || (res <= 0 && res != -ETIME)) {
		console_stream_close(st);
		return;
	}
	if (res > 0) {
		st->at = 0;
		st->len = (size_t)res;
	}
	console_stream_next(st);
}

/* Give the guest what came; when it takes no more wait a little, when all is gone read on. */
static void console_stream_next(struct console_stream *st)
{
	struct console *c = st->console;
	int err;

	if (st->at < st->len) {
		st->at += c->fn(st->buf + st->at, st->len - st->at, c->arg);
	}
	st->op = (struct uring_op){.fn = console_stream_done, .arg = st};
	if (st->at < st->len) {
		err = uring_prep_timeout(c->ring, &st->op, CONSOLE_RETRY_NS);
	} else {
		err = uring_prep_recv(c->ring, &st->op, st->fd, st->buf, sizeof(st->buf), 0);
	}
	if (err != 0) {
		console_stream_close(st);
		return;
	}
	st->busy = true;
}

int console_create(struct uring *ring, int log_fd, console_input_fn fn, void *arg,
                   struct console **out)
{
	struct console *c = gw_calloc(1, sizeof(*c));
	struct stat st;

	*out = NULL;
	if (c == NULL) {
		return -ENOMEM;
	}
	c->ring = ring;
	c->log_fd = log_fd;
	c->fn = fn;
	c->arg = arg;
	if (log_fd >= 0 && fstat(log_fd, &st) == 0) {
		c->log_bytes = (uint64_t)st.st_size;
	}
	for (uint32_t i = 0; i < CONSOLE_STREAMS_MAX; i++) {
		c->streams[i].fd = -1;
		c->streams[i].console = c;
	}
	*out = c;
	return 0;
}

void console_destroy(struct console *c)
{
	if (c == NULL) {
		return;
	}
	for (uint32_t i = 0; i < CONSOLE_STREAMS_MAX; i++) {
		struct console_stream *st = &c->streams[i];

		if (st->busy) {
			CHECK(uring_cancel(c->ring, &st->op) == 0);
		}
		if (st->sending) {
			CHECK(uring_cancel(c->ring, &st->late_op) == 0);
		}
		console_stream_close(st);
		while (st->busy || st->sending) {
			CHECK(uring_wait(c->ring, UINT64_MAX) >= 0);
		}
	}
	if (c->log_fd >= 0) {
		(void)close(c->log_fd);
	}
	free(c);
}

/* Keep the newer half. Rare (once per 2 MiB of output), so plain blocking copies will do. */
static void console_log_trim(struct console *c)
{
	uint8_t buf[16384];
	uint64_t from = c->log_bytes - CONSOLE_LOG_BYTES_MAX / 2;
	uint64_t to = 0;
	ssize_t n;

	while ((n = pread(c->log_fd, buf, sizeof(buf), (off_t)from)) > 0) {
		if (pwrite(c->log_fd, buf, (size_t)n, (off_t)to) != n) {
			break;
		}
		from += (uint64_t)n;
		to += (uint64_t)n;
	}
	if (ftruncate(c->log_fd, (off_t)to) == 0) {
		c->log_bytes = to;
	}
}

static void console_log(struct console *c, const uint8_t *buf, size_t len)
{
	if (c->log_fd < 0) {
		return;
	}
	if (c->log_bytes >= CONSOLE_LOG_BYTES_MAX) {
		console_log_trim(c);
	}
	ssize_t n = pwrite(c->log_fd, buf, len, (off_t)c->log_bytes);

	if (n > 0) {
		c->log_bytes += (uint64_t)n; /* a full disk loses console output, not the VM */
	}
}

/* One reader's copy. A socket takes few small messages, so lagging behind is the normal case. */
static void console_stream_output(struct console_stream *st, const uint8_t *buf, size_t len)
{
	ssize_t n = 0;

	if (st->head == st->tail) {
		n = send(st->fd, buf, len, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
			console_stream_close(st);
			return;
		}
		n = n < 0 ? 0 : n;
	}
	if ((size_t)n < len && !console_late_add(st, buf + n, len - (size_t)n)) {
		log_info(TAG, "reader dropped: it does not keep up");
		console_stream_close(st);
	}
}

void console_output(struct console *c, const uint8_t *buf, size_t len_bytes)
{
	console_log(c, buf, len_bytes);
	for (uint32_t i = 0; i < CONSOLE_STREAMS_MAX; i++) {
		if (c->streams[i].fd >= 0 && !c->streams[i].dead) {
			console_stream_output(&c->streams[i], buf, len_bytes);
		}
	}
}

int console_attach(struct console *c, int stream_fd)
{
	for (uint32_t i = 0; i < CONSOLE_STREAMS_MAX; i++) {
		struct console_stream *st = &c->streams[i];

		if (st->fd < 0) {
			st->fd = stream_fd;
			st->at = 0;
			st->len = 0;
			console_stream_next(st);
			return 0;
		}
	}
	return -EBUSY;
}
