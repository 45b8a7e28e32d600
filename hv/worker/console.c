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

struct console_stream {
	struct console *console; /* back pointer */
	int fd;                  /* owned; -1 = free */
	bool busy;               /* op is in flight */
	bool dead;
	struct uring_op op;
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
	if (st->busy) {
		st->dead = true; /* the completion comes back here */
		(void)shutdown(st->fd, SHUT_RDWR);
		return;
	}
	if (st->fd >= 0) {
		(void)close(st->fd);
	}
	st->fd = -1;
	st->dead = false;
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
		console_stream_close(st);
		while (st->busy) {
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

void console_output(struct console *c, const uint8_t *buf, size_t len_bytes)
{
	console_log(c, buf, len_bytes);
	for (uint32_t i = 0; i < CONSOLE_STREAMS_MAX; i++) {
		struct console_stream *st = &c->streams[i];

		if (st->fd >= 0 && !st->dead &&
		    send(st->fd, buf, len_bytes, MSG_DONTWAIT | MSG_NOSIGNAL) !=
		            (ssize_t)len_bytes) {
			log_info(TAG, "reader dropped: it does not keep up");
			console_stream_close(st);
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
