/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/link/link.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/crc32c.h"
#include "base/errbuf.h"
#include "base/fault.h"

#define LINK_PAYLOAD_MIN 1024u

int link_init(struct link *l, struct transport *t)
{
	*l = (struct link){.t = t};
	l->buffer = gw_malloc(LINK_BUFFER_BYTES);
	l->payload = gw_malloc(LINK_PAYLOAD_MIN);
	l->payload_room = LINK_PAYLOAD_MIN;
	if (l->buffer == NULL || l->payload == NULL) {
		link_fini(l);
		return -ENOMEM;
	}
	return 0;
}

void link_fini(struct link *l)
{
	transport_close(l->t);
	free(l->buffer);
	free(l->payload);
	*l = (struct link){0};
}

/* An iovec has no const; transport_send() only reads. */
static void *link_base(const void *from)
{
	void *base;

	memcpy(&base, &from, sizeof(base));
	return base;
}

int link_send(struct link *l, const struct link_out *out)
{
	struct stream_frame f = {
		.type = (uint16_t)out->type,
		.mandatory = true,
		.sequence = l->sent,
		.payload_bytes = out->head_bytes + out->rest_bytes,
		.bulk_bytes = out->bulk_bytes,
	};
	uint8_t header[STREAM_HEADER_BYTES];
	struct iovec iov[TRANSPORT_IOV_MAX];

	CHECK(out->bulk_count >= 0 && out->bulk_count <= LINK_BULK_MAX);
	iov[0] = (struct iovec){.iov_base = header, .iov_len = sizeof(header)};
	iov[1] = (struct iovec){.iov_base = link_base(out->head), .iov_len = out->head_bytes};
	iov[2] = (struct iovec){.iov_base = link_base(out->rest), .iov_len = out->rest_bytes};
	for (int i = 0; i < out->bulk_count; i++) {
		iov[3 + i] = out->bulk[i];
	}

	f.payload_crc = crc32c(out->head, out->head_bytes);
	if (out->rest_bytes != 0) {
		f.payload_crc = crc32c_update(f.payload_crc, out->rest, out->rest_bytes);
	}
	stream_frame_encode(&f, header);
	l->sent++;
	l->sent_bytes += sizeof(header) + f.payload_bytes + f.bulk_bytes;

	int err = l->broken ? -EPIPE : transport_send(l->t, iov, 3 + out->bulk_count);

	l->broken = err != 0;
	return err;
}

int link_send_small(struct link *l, enum stream_type type, const void *payload, uint32_t len)
{
	const struct link_out out = {.type = type, .head = payload, .head_bytes = len};

	return link_send(l, &out);
}

bool link_buffered(const struct link *l)
{
	return l->buffer_at != l->buffer_end;
}

/* Move up to @len buffered bytes to @to. Returns how many. */
static size_t link_take(struct link *l, void *to, size_t len)
{
	size_t there = l->buffer_end - l->buffer_at;
	size_t n = len < there ? len : there;

	memcpy(to, l->buffer + l->buffer_at, n);
	l->buffer_at += n;
	return n;
}

/* Small things: through the buffer. */
static int link_read(struct link *l, uint8_t *to, size_t len)
{
	for (size_t at = link_take(l, to, len); at < len; at += link_take(l, to + at, len - at)) {
		const struct iovec iov = {.iov_base = l->buffer, .iov_len = LINK_BUFFER_BYTES};
		ssize_t n = transport_recv(l->t, &iov, 1);

		if (n < 0) {
			return (int)n;
		}
		l->received_bytes += (uint64_t)n;
		l->buffer_at = 0;
		l->buffer_end = (size_t)n;
	}
	return 0;
}

static int link_payload_room(struct link *l, size_t bytes)
{
	if (bytes <= l->payload_room) {
		return 0;
	}

	uint8_t *more = gw_realloc_array(l->payload, bytes, 1);

	if (more == NULL) {
		return -ENOMEM;
	}
	l->payload = more;
	l->payload_room = bytes;
	return 0;
}

int link_recv(struct link *l, uint32_t payload_max, struct stream_frame *out, struct errbuf *eb)
{
	CHECK(l->bulk_left == 0);
	for (;;) {
		uint8_t header[STREAM_HEADER_BYTES];
		struct stream_frame f;
		char name[16];
		int err = link_read(l, header, sizeof(header));

		if (err == 0) {
			err = stream_frame_decode(header, l->received, &f, eb);
		}
		if (err != 0) {
			return err;
		}
		if (f.payload_bytes > payload_max) {
			return errbuf_set(eb, -EMSGSIZE, "stream: %s of %u bytes, at most %u here",
			                  stream_type_name(f.type, name), f.payload_bytes,
			                  payload_max);
		}
		err = link_payload_room(l, f.payload_bytes);
		if (err == 0) {
			err = link_read(l, l->payload, f.payload_bytes);
		}
		if (err == 0) {
			err = stream_payload_check(&f, l->payload, eb);
		}
		if (err != 0) {
			return err;
		}
		l->received++;
		if (f.type <= STREAM_PONG) {
			l->bulk_left = f.bulk_bytes;
			*out = f;
			return 0;
		}
	}
}

int link_recv_bulk(struct link *l, const struct iovec *iov, int count)
{
	struct iovec rest[TRANSPORT_IOV_MAX];
	size_t total = 0;

	CHECK(count <= TRANSPORT_IOV_MAX);
	for (int i = 0; i < count; i++) {
		size_t n = link_take(l, iov[i].iov_base, iov[i].iov_len);

		rest[i].iov_base = (char *)iov[i].iov_base + n;
		rest[i].iov_len = iov[i].iov_len - n;
		total += iov[i].iov_len;
		l->received_bytes += rest[i].iov_len;
	}
	CHECK(total <= l->bulk_left);
	l->bulk_left -= (uint32_t)total;
	return transport_recv_all(l->t, rest, count);
}

void link_cut(struct link *l)
{
	(void)shutdown(l->t->fd, SHUT_RDWR);
}

void link_linger(struct link *l, int wake_fd, uint64_t max_ns)
{
	uint64_t until = clock_now_ns() + max_ns;
	const struct iovec iov = {.iov_base = l->buffer, .iov_len = LINK_BUFFER_BYTES};

	(void)shutdown(l->t->fd, SHUT_WR);
	for (uint64_t now = clock_now_ns(); now < until; now = clock_now_ns()) {
		int left_ms = (int)((until - now) / NS_PER_MS) + 1;
		ssize_t n;

		if (transport_wait(l->t, wake_fd, left_ms) != 1) {
			return; /* woken, or the time is over */
		}
		n = l->t->ops->recv(l->t, &iov, 1);
		if (n <= 0 && n != -EAGAIN) {
			return;
		}
	}
}
