/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/transport/transport.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/errbuf.h"

#define TRANSPORT_MS_MAX 60000

void transport_close(struct transport *t)
{
	if (t != NULL) {
		t->ops->close(t);
	}
}

/* Sleep until the transport can go on. @since_ns: when the peer was last heard of. */
static int transport_sleep(struct transport *t, uint64_t since_ns)
{
	struct pollfd p[2] = {
		{.fd = t->fd, .events = t->ops->events(t)},
		{.fd = t->stop_fd, .events = POLLIN}, /* -1 is ignored */
	};
	uint64_t now = clock_now_ns();
	uint64_t left_ms = 0;

	if (now - since_ns < t->silence_max_ns) {
		left_ms = (t->silence_max_ns - (now - since_ns)) / NS_PER_MS + 1;
	}

	int n = poll(p, 2, left_ms > TRANSPORT_MS_MAX ? TRANSPORT_MS_MAX : (int)left_ms);

	if (n < 0) {
		return errno == EINTR ? 0 : -errno;
	}
	if (p[1].revents != 0) {
		return -ECANCELED;
	}
	return n == 0 && clock_now_ns() - since_ns >= t->silence_max_ns ? -ETIMEDOUT : 0;
}

int transport_handshake(struct transport *t, struct errbuf *eb)
{
	uint64_t start = clock_now_ns();

	for (;;) {
		int err = t->ops->handshake(t, eb);

		if (err != -EAGAIN) {
			return err;
		}
		err = transport_sleep(t, start);
		if (err != 0) {
			return errbuf_sys(eb, err, "handshake");
		}
	}
}

/* Take @bytes off the front of *iov; the rest starts at *iov. */
static void transport_advance(struct iovec **iov, int *count, size_t bytes)
{
	while (bytes != 0) {
		size_t step = bytes < (*iov)->iov_len ? bytes : (*iov)->iov_len;

		if (step != 0) { /* an empty piece may have no address */
			(*iov)->iov_base = (char *)(*iov)->iov_base + step;
		}
		(*iov)->iov_len -= step;
		bytes -= step;
		if ((*iov)->iov_len == 0) {
			(*iov)++;
			(*count)--;
		}
	}
	while (*count != 0 && (*iov)->iov_len == 0) {
		(*iov)++;
		(*count)--;
	}
}

int transport_send(struct transport *t, const struct iovec *iov, int count)
{
	struct iovec copy[TRANSPORT_IOV_MAX];
	struct iovec *rest = copy;
	uint64_t since = clock_now_ns();

	CHECK(count >= 0 && count <= TRANSPORT_IOV_MAX);
	memcpy(copy, iov, (size_t)count * sizeof(*iov));
	transport_advance(&rest, &count, 0);
	while (count != 0) {
		ssize_t n = t->ops->send(t, rest, count);

		if (n > 0) {
			transport_advance(&rest, &count, (size_t)n);
			since = clock_now_ns();
			continue;
		}
		if (n != -EAGAIN) {
			return n == -EPIPE || n == 0 ? -ECONNRESET : (int)n;
		}

		int err = transport_sleep(t, since);

		if (err != 0) {
			return err;
		}
	}
	return 0;
}

ssize_t transport_recv(struct transport *t, const struct iovec *iov, int count)
{
	uint64_t since = clock_now_ns();

	for (;;) {
		ssize_t n = t->ops->recv(t, iov, count);

		if (n > 0) {
			return n;
		}
		if (n == 0) {
			return -ECONNRESET;
		}
		if (n != -EAGAIN) {
			return n;
		}

		int err = transport_sleep(t, since);

		if (err != 0) {
			return err;
		}
	}
}

int transport_recv_all(struct transport *t, const struct iovec *iov, int count)
{
	struct iovec copy[TRANSPORT_IOV_MAX];
	struct iovec *rest = copy;

	CHECK(count >= 0 && count <= TRANSPORT_IOV_MAX);
	memcpy(copy, iov, (size_t)count * sizeof(*iov));
	transport_advance(&rest, &count, 0);
	while (count != 0) {
		ssize_t n = transport_recv(t, rest, count);

		if (n < 0) {
			return (int)n;
		}
		transport_advance(&rest, &count, (size_t)n);
	}
	return 0;
}

int transport_wait(struct transport *t, int wake_fd, int timeout_ms)
{
	struct pollfd p[2] = {
		{.fd = t->fd, .events = POLLIN},
		{.fd = wake_fd, .events = POLLIN},
	};

	if (t->ops->pending(t)) {
		return 1;
	}
	if (poll(p, 2, timeout_ms) < 0) {
		return errno == EINTR ? 0 : -errno;
	}
	return p[0].revents != 0 ? 1 : 0;
}
