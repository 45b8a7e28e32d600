/* SPDX-License-Identifier: Apache-2.0 */

/*
 * target_conn - connections: a thread each, that learns from HELLO who is there. Whoever does
 * not know the token is thrown out without harm to the move; the control connection is handed to
 * the state machine; data connections receive pages until memory is complete.
 */

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/check.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "migrate/target/target_int.h"

void target_wake(struct target *t)
{
	uint64_t one = 1;

	(void)!write(t->wake_fd, &one, sizeof(one));
}

void target_conn_free(struct target_conn *c)
{
	link_fini(&c->link);
	free(c->frame);
	free(c->packed);
	free(c->unpacked);
	pack_destroy(c->lz4);
	pack_destroy(c->zstd);
	free(c);
}

void target_join_conns(struct target *t)
{
	uint64_t one = 1;

	(void)pthread_mutex_lock(&t->lock);
	t->closed = true;
	(void)pthread_mutex_unlock(&t->lock);
	(void)!write(t->data_stop_fd, &one, sizeof(one));
	/* Nobody adds any more: the array is ours. */
	for (uint32_t i = 0; i < t->conn_count; i++) {
		if (t->conns[i]->started) {
			(void)pthread_join(t->conns[i]->thread, NULL);
			t->conns[i]->started = false;
		}
	}
}

/* Is this the source we wait for? The text goes to a peer who may be anyone. */
static int target_known(const struct target *t, const struct stream_hello *h, struct errbuf *eb)
{
	const struct target_cfg *cfg = &t->cfg;

	if (!stream_tokens_equal(h->token, cfg->token) || !guid_equal(&h->move, &cfg->move)) {
		return errbuf_set(eb, -EACCES, "no such move is expected here");
	}
	if (!guid_equal(&h->vm, &cfg->vm)) {
		return errbuf_set(eb, -EPROTO, "another VM is expected for this move");
	}
	if (h->epoch != cfg->epoch) {
		return errbuf_set(eb, -ESTALE, "the VM's ownership is %llu here, %llu there",
		                  (unsigned long long)cfg->epoch, (unsigned long long)h->epoch);
	}
	if (cfg->memory_max_bytes != 0 && h->memory_bytes > cfg->memory_max_bytes) {
		return errbuf_set(eb, -E2BIG, "the guest's memory is larger than agreed");
	}
	return 0;
}

/* Take the place that HELLO names. */
static int target_register(struct target_conn *c, const struct stream_hello *h, struct errbuf *eb)
{
	struct target *t = c->t;
	int err = 0;

	(void)pthread_mutex_lock(&t->lock);
	if (h->connection == 0) {
		if (t->control_conn != NULL) {
			err = errbuf_set(eb, -EBUSY, "there is a control connection already");
		} else {
			t->control_conn = c;
			t->hello = *h;
		}
	} else if ((t->taken >> h->connection & 1) != 0) {
		err = errbuf_set(eb, -EBUSY, "connection %u is there already", h->connection);
	} else {
		t->taken |= 1u << h->connection;
	}
	if (err == 0) {
		c->index = h->connection;
	}
	(void)pthread_mutex_unlock(&t->lock);
	return err;
}

/* TLS, HELLO, ANSWER. */
static int target_greet(struct target_conn *c, struct errbuf *eb)
{
	struct stream_hello h;
	struct stream_answer a;
	struct stream_frame f;
	uint8_t payload[STREAM_SMALL_MAX];
	int err = transport_handshake(c->link.t, eb);

	if (err == 0) {
		err = link_recv(&c->link, STREAM_SMALL_MAX, &f, eb);
	}
	if (err != 0) {
		return err;
	}
	if (f.type != STREAM_HELLO) {
		return errbuf_set(eb, -EPROTO, "the first frame is no HELLO");
	}
	err = stream_hello_decode(c->link.payload, f.payload_bytes, &h, eb);
	if (err == 0) {
		err = target_known(c->t, &h, eb);
	}
	if (err == 0) {
		err = stream_agree(&h, TARGET_CAPS, STREAM_VERSION_MIN, STREAM_VERSION, &a, eb);
	}
	if (err == 0) {
		err = target_register(c, &h, eb);
	}
	if (err == 0) {
		c->capabilities = a.capabilities;
		err = link_send_small(&c->link, STREAM_ANSWER, payload,
		                      stream_answer_encode(&a, payload));
	}
	return err;
}

/* A round begins on this connection, unless memory is complete. */
static int target_enter(struct target_conn *c, struct errbuf *eb)
{
	struct target *t = c->t;
	int err = 0;

	if (c->in_round) { /* only this thread changes it */
		return 0;
	}
	(void)pthread_mutex_lock(&t->lock);
	if (!t->mapped || t->sealed) {
		err = errbuf_set(eb, -EPROTO, "pages out of turn");
	} else {
		c->in_round = true;
	}
	(void)pthread_mutex_unlock(&t->lock);
	return err;
}

static int target_round_end(struct target_conn *c, const struct stream_frame *f, struct errbuf *eb)
{
	struct target *t = c->t;
	struct stream_round r;
	uint8_t payload[STREAM_SMALL_MAX];
	int err = stream_round_decode(c->link.payload, f->payload_bytes, &r, eb);

	if (err != 0) {
		return err;
	}
	if (r.round != c->counts.round || r.data_pages != c->counts.data_pages ||
	    r.zero_pages != c->counts.zero_pages || r.frames != c->counts.frames) {
		return errbuf_set(eb, -EBADMSG, "round %u: other pages came than were counted",
		                  r.round);
	}
	atomic_fetch_add(&t->data_pages, r.data_pages);
	atomic_fetch_add(&t->zero_pages, r.zero_pages);
	/* Before the answer: FINAL may follow it at once, on another connection. */
	(void)pthread_mutex_lock(&t->lock);
	c->in_round = false;
	(void)pthread_mutex_unlock(&t->lock);
	c->counts = (struct stream_round){.round = r.round + 1};
	return link_send_small(&c->link, STREAM_ROUND_ACK, payload,
	                       stream_round_encode(&r, payload));
}

/* Between frames there is no hurry: the control connection tells whether the peer lives. */
static int target_idle(struct target_conn *c)
{
	struct pollfd p[2] = {
		{.fd = c->link.t->fd, .events = POLLIN},
		{.fd = c->t->data_stop_fd, .events = POLLIN},
	};

	if (link_buffered(&c->link) || transport_wait(c->link.t, -1, 0) == 1) {
		return 0;
	}
	while (poll(p, 2, -1) < 0) {
		if (errno != EINTR) {
			return -errno;
		}
	}
	return p[1].revents != 0 ? -ECANCELED : 0;
}

static int target_receive(struct target_conn *c, struct errbuf *eb)
{
	c->counts = (struct stream_round){.round = 1};
	for (;;) {
		struct stream_frame f;
		int err = target_idle(c);

		if (err == 0) {
			err = link_recv(&c->link, STREAM_MEMORY_PAYLOAD_MAX, &f, eb);
		}
		if (err == 0 && (f.type == STREAM_MEMORY || f.type == STREAM_ROUND_END)) {
			err = target_enter(c, eb);
		}
		if (err != 0) {
			return err;
		}
		if (f.type == STREAM_MEMORY) {
			err = target_pages(c, &f, eb);
		} else if (f.type == STREAM_ROUND_END) {
			err = target_round_end(c, &f, eb);
		} else {
			err = target_peer_failed(&f, c->link.payload, eb);
		}
		if (err != 0) {
			return err;
		}
		atomic_fetch_add(&c->t->wire_bytes, c->link.received_bytes - c->received_seen);
		c->received_seen = c->link.received_bytes;
	}
}

/* Tell the peer why, and note it: @known: it belonged to the move. */
static void target_conn_failed(struct target_conn *c, bool known, int err, struct errbuf *why)
{
	struct target *t = c->t;
	uint8_t payload[STREAM_SMALL_MAX];

	if (why->text[0] == '\0') {
		(void)errbuf_sys(why, err, "connection");
	}
	if (err == -ECANCELED) {
		return; /* memory is complete, or the move is over */
	}
	if (err != -ECONNRESET) {
		(void)!link_send_small(&c->link, STREAM_FAILED, payload,
		                       stream_text_encode(err, why, payload));
	}
	(void)pthread_mutex_lock(&t->lock);
	if (!known) {
		t->stranger = *why;
	} else if (t->conn_err == 0) {
		t->conn_err = err;
		t->conn_why = *why;
		errbuf_prepend(&t->conn_why, "data connection %u", c->index);
	}
	(void)pthread_mutex_unlock(&t->lock);
	target_wake(t);
}

static void *target_conn_main(void *arg)
{
	struct target_conn *c = arg;
	struct target *t = c->t;
	struct errbuf why = {0};
	int err = target_greet(c, &why);

	if (err != 0) {
		target_conn_failed(c, false, err, &why);
		/* The place may be asked for again, the peer sees the end. */
		transport_close(c->link.t);
		c->link.t = NULL;
		return NULL;
	}
	(void)pthread_mutex_lock(&t->lock);

	bool control = c->index == 0;

	if (control) {
		t->control = c->link; /* the state machine's from here on */
		t->control.t->stop_fd = t->stop_fd;
		c->link = (struct link){0};
	} else {
		t->data_conns++;
	}
	target_wake(t);
	(void)pthread_mutex_unlock(&t->lock);
	if (!control) {
		err = target_receive(c, &why);
		target_conn_failed(c, true, err, &why);
	}
	return NULL;
}

static int target_conn_create(struct target *t, int fd, struct target_conn **out)
{
	const struct transport_cfg cfg = {
		.fd = fd,
		.stop_fd = t->data_stop_fd,
		.silence_max_ns = t->cfg.silence_max_ns,
		.tls = t->cfg.tls,
		.role = TLS_SERVER,
	};
	struct transport *transport;
	int err = transport_open(&cfg, &transport, NULL);

	if (err != 0) {
		return err;
	}

	struct target_conn *c = gw_calloc(1, sizeof(*c));

	if (c == NULL) {
		transport_close(transport);
		return -ENOMEM;
	}
	c->t = t;
	err = link_init(&c->link, transport);
	c->frame = gw_calloc(1, sizeof(*c->frame));
	if (err != 0 || c->frame == NULL) {
		target_conn_free(c);
		return -ENOMEM;
	}
	*out = c;
	return 0;
}

int target_add(struct target *t, int fd)
{
	struct target_conn *c;
	int err = target_conn_create(t, fd, &c);

	if (err != 0) {
		return err;
	}
	(void)pthread_mutex_lock(&t->lock);
	if (t->closed || t->conn_count == TARGET_CONNS_MAX) {
		err = -EBUSY;
	} else {
		err = -pthread_create(&c->thread, NULL, target_conn_main, c);
	}
	if (err == 0) {
		c->started = true;
		t->conns[t->conn_count++] = c;
	}
	(void)pthread_mutex_unlock(&t->lock);
	if (err != 0) {
		target_conn_free(c);
	}
	return err;
}
