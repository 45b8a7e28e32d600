/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/move_relay.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "migrate/stream/stream.h"

#define MOVE_RELAY_FRAME_MAX (STREAM_HEADER_BYTES + STREAM_PAYLOAD_MAX + STREAM_BULK_MAX)

/* One direction of one connection. */
struct move_relay_way {
	int from;
	int to;
	uint8_t *frame; /* owned: [MOVE_RELAY_FRAME_MAX] */
	size_t have;
	uint32_t sequence;
	bool ended;
};

struct move_relay {
	pthread_t thread;
	pthread_mutex_t lock;
	int stop_fd;
	struct move_relay_way ways[2 * MOVE_RELAY_MAX];
	uint32_t count; /* of ways */
	struct move_relay_cfg cfg;
	bool did;      /* lock guards */
	uint16_t type; /* lock guards */
	bool silent;
};

static void move_relay_cut(struct move_relay *r)
{
	for (uint32_t i = 0; i < r->count; i++) {
		(void)shutdown(r->ways[i].from, SHUT_RDWR);
		r->ways[i].ended = true;
	}
}

/* Bytes of the frame at the front of the buffer; 0 = not known yet. */
static size_t move_relay_length(const struct move_relay_way *w)
{
	struct stream_frame f;

	if (w->ended || w->have < STREAM_HEADER_BYTES) {
		return 0;
	}
	CHECK(stream_frame_decode(w->frame, w->sequence, &f, NULL) == 0);
	return STREAM_HEADER_BYTES + f.payload_bytes + f.bulk_bytes;
}

static void move_relay_write(struct move_relay_way *w, size_t len)
{
	for (size_t at = 0; at < len;) {
		ssize_t n = send(w->to, w->frame + at, len - at, MSG_NOSIGNAL);

		if (n <= 0) {
			break; /* the reader is gone: so will the writer be */
		}
		at += (size_t)n;
	}
}

/* A whole frame is there. */
static void move_relay_pass(struct move_relay *r, struct move_relay_way *w, size_t len)
{
	bool deed;

	(void)pthread_mutex_lock(&r->lock);
	deed = w == &r->ways[r->cfg.way] && w->sequence == r->cfg.frame;
	if (deed) {
		r->did = true;
		r->type = (uint16_t)(w->frame[8] | w->frame[9] << 8);
	}
	(void)pthread_mutex_unlock(&r->lock);
	w->sequence++;
	if (deed && r->cfg.deed == MOVE_RELAY_CUT) {
		move_relay_cut(r);
		return;
	}
	if (deed && r->cfg.deed == MOVE_RELAY_DAMAGE) {
		size_t bit = (w->sequence * 2654435761u + r->cfg.way) % (len * 8);

		w->frame[bit / 8] ^= (uint8_t)(1u << (bit % 8));
	}
	r->silent = r->silent || (deed && r->cfg.deed == MOVE_RELAY_SILENT);
	if (!r->silent) {
		move_relay_write(w, len);
	}
	memmove(w->frame, w->frame + len, w->have - len);
	w->have -= len;
}

static void move_relay_read(struct move_relay *r, struct move_relay_way *w)
{
	ssize_t n = recv(w->from, w->frame + w->have, MOVE_RELAY_FRAME_MAX - w->have, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
		return;
	}
	if (n <= 0) {
		w->ended = true;
		(void)shutdown(w->to, SHUT_WR);
		return;
	}
	w->have += (size_t)n;
	for (size_t len = move_relay_length(w); len != 0 && len <= w->have && !w->ended;
	     len = move_relay_length(w)) {
		move_relay_pass(r, w, len);
	}
}

static void *move_relay_main(void *arg)
{
	struct move_relay *r = arg;

	for (;;) {
		struct pollfd p[2 * MOVE_RELAY_MAX + 1];

		for (uint32_t i = 0; i < r->count; i++) {
			p[i] = (struct pollfd){
				.fd = r->ways[i].ended ? -1 : r->ways[i].from,
				.events = POLLIN,
			};
		}
		p[r->count] = (struct pollfd){.fd = r->stop_fd, .events = POLLIN};
		if (poll(p, r->count + 1, -1) < 0) {
			continue;
		}
		if (p[r->count].revents != 0) {
			return NULL;
		}
		for (uint32_t i = 0; i < r->count; i++) {
			if (p[i].revents != 0 && !r->ways[i].ended) {
				move_relay_read(r, &r->ways[i]);
			}
		}
	}
}

void move_relay_create(struct move_relay **out, const struct move_relay_cfg *cfg, int *source_fds,
                       int *target_fds)
{
	struct move_relay *r = calloc(1, sizeof(*r));
	uint32_t count = cfg->connections;

	CHECK(r != NULL && count <= MOVE_RELAY_MAX);
	r->cfg = *cfg;
	r->count = 2 * count;
	(void)pthread_mutex_init(&r->lock, NULL);
	for (uint32_t i = 0; i < count; i++) {
		int a[2];
		int b[2];

		CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, a) == 0);
		CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, b) == 0);
		source_fds[i] = a[0];
		target_fds[i] = b[1];
		r->ways[2 * i].from = a[1];
		r->ways[2 * i].to = b[0];
		r->ways[2 * i + 1].from = b[0];
		r->ways[2 * i + 1].to = a[1];
	}
	for (uint32_t i = 0; i < r->count; i++) {
		r->ways[i].frame = malloc(MOVE_RELAY_FRAME_MAX);
		CHECK(r->ways[i].frame != NULL);
	}
	r->stop_fd = eventfd(0, EFD_CLOEXEC);
	CHECK(r->stop_fd >= 0 && pthread_create(&r->thread, NULL, move_relay_main, r) == 0);
	*out = r;
}

bool move_relay_did(struct move_relay *r, uint16_t *type)
{
	(void)pthread_mutex_lock(&r->lock);

	bool did = r->did;

	*type = r->type;
	(void)pthread_mutex_unlock(&r->lock);
	return did;
}

void move_relay_destroy(struct move_relay *r)
{
	uint64_t one = 1;

	CHECK(write(r->stop_fd, &one, sizeof(one)) == sizeof(one));
	(void)pthread_join(r->thread, NULL);
	for (uint32_t i = 0; i < r->count; i++) {
		free(r->ways[i].frame);
		if (i % 2 == 0) {
			(void)close(r->ways[i].from);
			(void)close(r->ways[i].to);
		}
	}
	(void)close(r->stop_fd);
	(void)pthread_mutex_destroy(&r->lock);
	free(r);
}
