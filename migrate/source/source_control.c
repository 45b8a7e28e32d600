/* SPDX-License-Identifier: Apache-2.0 */

/* source_control - the control connection, and all waiting of the state machine. */

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/errbuf.h"
#include "migrate/source/source_int.h"

#define SOURCE_TELL_NS (250 * NS_PER_MS)
#define SOURCE_PONG_MAX_NS (200 * NS_PER_MS) /* longer is no news to a forecast */
#define SOURCE_PINGS 5u                      /* per time of silence that is endured */

void source_wake(struct source *s)
{
	uint64_t one = 1;

	(void)!write(s->wake_fd, &one, sizeof(one)); /* full = somebody was faster */
}

void source_stop_all(struct source *s)
{
	uint64_t one = 1;

	(void)pthread_mutex_lock(&s->lock);
	s->stopped = true;
	(void)pthread_mutex_unlock(&s->lock);
	(void)!write(s->stop_fd, &one, sizeof(one));
}

int source_handshake(struct link *l, const struct source *s, uint32_t index, struct errbuf *eb)
{
	const struct source_cfg *cfg = &s->cfg;
	struct stream_hello h = {
		.version_min = STREAM_VERSION_MIN,
		.version_max = STREAM_VERSION,
		.vm = cfg->vm,
		.move = cfg->move,
		.epoch = cfg->epoch,
		.connection = index,
		.connections = s->conn_count != 0 ? s->conn_count : 1,
		.mode = cfg->mode,
		.memory_bytes = s->memory_pages * STREAM_PAGE_BYTES,
		.blackout_max_ns = cfg->policy.blackout_max_ns,
	};
	uint8_t payload[STREAM_SMALL_MAX];
	int err = transport_handshake(l->t, eb);

	if (err != 0) {
		return err;
	}
	/* TLS authenticates every byte: a CRC of the bulk would only cost time. */
	h.offered = cfg->tls == NULL && !cfg->no_bulk_crc ? STREAM_CAP_BULK_CRC : 0;
	h.offered |= cfg->pack == SOURCE_PACK_LZ4 ? STREAM_CAP_LZ4 : 0;
	h.offered |= cfg->pack == SOURCE_PACK_ZSTD ? STREAM_CAP_ZSTD : 0;
	memcpy(h.token, cfg->token, sizeof(h.token));
	return link_send_small(l, STREAM_HELLO, payload, stream_hello_encode(&h, payload));
}

/* A frame that must be FAILED: its error, else -EPROTO. */
int source_peer_failed(const struct stream_frame *f, const uint8_t *payload, struct errbuf *eb)
{
	struct errbuf said = {0};
	char name[16];
	int code;

	if (f->type != STREAM_FAILED && f->type != STREAM_CANCEL) {
		return errbuf_set(eb, -EPROTO, "the destination sent %s out of turn",
		                  stream_type_name(f->type, name));
	}

	int err = stream_text_decode(payload, f->payload_bytes, &code, &said, eb);

	if (err != 0) {
		return err;
	}
	(void)errbuf_set(eb, code, "the destination says: %s", said.text);
	errbuf_hint(eb, "%s", said.hint);
	return code;
}

int source_answer(const struct source *s, const struct stream_frame *f, const uint8_t *payload,
                  uint64_t *capabilities, struct errbuf *eb)
{
	struct stream_answer a;

	if (f->type != STREAM_ANSWER) {
		return source_peer_failed(f, payload, eb);
	}

	int err = stream_answer_decode(payload, f->payload_bytes, &a, eb);

	if (err != 0) {
		return err;
	}
	if (!guid_equal(&a.move, &s->cfg.move)) {
		return errbuf_set(eb, -EPROTO, "the destination answers for another move");
	}
	*capabilities = a.capabilities;
	return 0;
}

int source_send(struct source *s, enum stream_type type, const void *payload, uint32_t len,
                struct errbuf *eb)
{
	uint64_t before = s->control.sent_bytes;
	int err = link_send_small(&s->control, type, payload, len);
	char name[16];

	atomic_fetch_add(&s->wire_bytes, s->control.sent_bytes - before);
	return err == 0 ? 0
	                : errbuf_sys(eb, err, "sending %s", stream_type_name((uint16_t)type, name));
}

void source_tell(struct source *s, enum move_phase phase)
{
	struct move_progress *p = &s->progress;
	uint64_t now = clock_now_ns();
	uint64_t wire = atomic_load(&s->wire_bytes);
	uint64_t moved = atomic_load(&s->moved_pages);

	if (now > s->told_ns) {
		p->bandwidth_bytes_s = (uint64_t)((double)(wire - s->told_wire_bytes) * 1e9 /
		                                  (double)(now - s->told_ns));
	}
	s->told_ns = now;
	s->told_wire_bytes = wire;
	p->phase = phase;
	p->elapsed_ns = now - s->start_ns;
	p->memory_bytes = s->memory_pages * STREAM_PAGE_BYTES;
	p->moved_bytes = moved * STREAM_PAGE_BYTES;
	p->wire_bytes = wire;
	p->round_bytes = s->round_pages * STREAM_PAGE_BYTES;
	p->round_moved_bytes = (moved - s->round_moved) * STREAM_PAGE_BYTES;
	p->throttle_percent = s->throttle;
	if (s->cfg.events->progress != NULL) {
		s->cfg.events->progress(s->cfg.arg, p);
	}
}

/* PONG, and what the state machine waits for. */
static int source_frame(struct source *s, const struct stream_frame *f, struct errbuf *eb)
{
	const uint8_t *payload = s->control.payload;
	uint64_t number;
	uint64_t ignored;
	int err = 0;

	if (f->type == STREAM_PING) {
		return source_send(s, STREAM_PONG, payload, f->payload_bytes, eb);
	}
	if (f->type == STREAM_PONG) {
		err = stream_number_decode(payload, f->payload_bytes, &number, eb);
		if (err == 0 && number == s->pinged_ns) {
			uint64_t rtt_ns = clock_now_ns() - number;

			/* The shortest: while memory is copied an answer waits behind it, when the
			 * guest has stopped it does not. */
			s->rtt_ns = s->rtt_ns == 0 || rtt_ns < s->rtt_ns ? rtt_ns : s->rtt_ns;
			s->ponged = true;
		}
		return err;
	}
	if (f->type != s->expect || s->got) {
		return source_peer_failed(f, payload, eb);
	}
	s->got = true;
	switch ((enum stream_type)f->type) {
	case STREAM_ANSWER:
		return source_answer(s, f, payload, &ignored, eb);
	case STREAM_REPORT:
		return compat_decode(payload, f->payload_bytes, &s->result.report, eb);
	case STREAM_READY:
		return stream_number_decode(payload, f->payload_bytes, &s->ready_epoch, eb);
	case STREAM_RUNNING:
		return stream_running_decode(payload, f->payload_bytes, &s->running, eb);
	case STREAM_HELLO:
	case STREAM_DEFINITION:
	case STREAM_MEMORY:
	case STREAM_ROUND_END:
	case STREAM_ROUND_ACK:
	case STREAM_STATE:
	case STREAM_FINAL:
	case STREAM_COMMIT:
	case STREAM_RETRY:
	case STREAM_CANCEL:
	case STREAM_FAILED:
	case STREAM_PING:
	case STREAM_PONG:
		break;
	}
	return source_peer_failed(f, payload, eb);
}

/* Keep the peer awake. */
static int source_ping(struct source *s, uint64_t now, struct errbuf *eb)
{
	uint64_t silence = s->cfg.silence_max_ns;
	uint8_t payload[STREAM_SMALL_MAX];

	if (now - s->pinged_ns < silence / SOURCE_PINGS) {
		return 0;
	}
	if (now - s->pinged_ns > silence / 2) {
		s->heard_ns = now; /* we were busy elsewhere: nothing was asked */
	}
	s->pinged_ns = now;
	return source_send(s, STREAM_PING, payload, stream_number_encode(now, payload), eb);
}

static bool source_ponged(struct source *s)
{
	return s->ponged;
}

int source_measure(struct source *s, struct errbuf *eb)
{
	uint64_t now = clock_now_ns();
	uint8_t payload[STREAM_SMALL_MAX];
	int err;

	s->pinged_ns = now;
	s->ponged = false;
	err = source_send(s, STREAM_PING, payload, stream_number_encode(now, payload), eb);
	if (err == 0) {
		err = source_wait(s, source_ponged, now + SOURCE_PONG_MAX_NS, eb);
	}
	return err == -ETIMEDOUT && !s->control_dead ? 0 : err;
}

/* One look at the control connection, for at most @wait_ns. */
static int source_listen(struct source *s, uint64_t wait_ns, struct errbuf *eb)
{
	uint64_t now = clock_now_ns();
	int err = source_ping(s, now, eb);
	struct stream_frame f;

	if (err != 0) {
		return err;
	}

	int wait_ms = (int)(wait_ns / NS_PER_MS) + (wait_ns % NS_PER_MS != 0 ? 1 : 0);
	int there =
		link_buffered(&s->control) ? 1 : transport_wait(s->control.t, s->wake_fd, wait_ms);

	if (there < 0) {
		return there;
	}
	if (there == 0) {
		return clock_now_ns() - s->heard_ns < s->cfg.silence_max_ns
		               ? 0
		               : errbuf_set(eb, -ETIMEDOUT, "the destination is silent");
	}
	err = link_recv(&s->control, COMPAT_JSON_MAX, &f, eb);
	if (err == 0) {
		s->heard_ns = clock_now_ns();
		err = source_frame(s, &f, eb);
	}
	return err;
}

/* Without the connection only a wake-up can come. */
static void source_listen_dead(struct source *s, uint64_t wait_ns)
{
	struct pollfd p = {.fd = s->wake_fd, .events = POLLIN};

	(void)poll(&p, 1, (int)(wait_ns / NS_PER_MS) + 1);
}

/* What others set under the lock. */
static int source_flags(struct source *s, struct errbuf *eb)
{
	uint64_t ignored;
	int err = 0;

	(void)!read(s->wake_fd, &ignored, sizeof(ignored));
	(void)pthread_mutex_lock(&s->lock);
	if (s->canceled) {
		err = errbuf_set(eb, -ECANCELED, "canceled");
	} else if (s->conn_err != 0 && !s->asked) {
		err = s->conn_err;
		if (eb != NULL) {
			*eb = s->conn_why;
		}
	}
	(void)pthread_mutex_unlock(&s->lock);
	return err;
}

/* A data connection ended with @err: the peer may have said why, and that is waiting here. Returns
 * what it is then: @err, what was said, or 0: no error was said. */
static int source_said(struct source *s, int err, struct errbuf *eb)
{
	uint64_t heard_ns = s->heard_ns;
	struct errbuf why = {0};
	int said = source_listen(s, 0, &why);

	if (s->heard_ns == heard_ns) {
		return err;
	}
	if (eb != NULL) {
		*eb = why;
	}
	return said;
}

int source_wait(struct source *s, source_until_fn until, uint64_t deadline_ns, struct errbuf *eb)
{
	for (;;) {
		int err = source_flags(s, eb);
		uint64_t now = clock_now_ns();

		if (err != 0 && err != -ECANCELED && !s->control_dead) {
			err = source_said(s, err, eb);
		}
		if (err != 0) {
			return err;
		}
		if (until(s)) {
			return 0;
		}
		if (now >= deadline_ns) {
			return -ETIMEDOUT;
		}
		if (now - s->told_ns >= SOURCE_TELL_NS) {
			source_tell(s, s->progress.phase);
		}

		uint64_t wait = SOURCE_TELL_NS;

		if (deadline_ns - now < wait) {
			wait = deadline_ns - now;
		}
		if (s->control_dead) {
			source_listen_dead(s, wait);
			continue;
		}

		struct errbuf why = {0};

		err = source_listen(s, wait, &why);
		if (err == -ECANCELED) {
			continue; /* flags say why */
		}
		if (err != 0) {
			if (why.text[0] == '\0') {
				(void)errbuf_sys(&why, err, "control connection");
			}
			s->control_dead = true;
			s->control_err = err;
			s->control_why = why;
			if (eb != NULL) {
				*eb = why;
			}
			return err;
		}
	}
}

static bool source_got(struct source *s)
{
	return s->got;
}

int source_ask(struct source *s, enum stream_type expect, uint64_t deadline_ns, struct errbuf *eb)
{
	s->expect = expect;
	s->got = false;

	int err = source_wait(s, source_got, deadline_ns, eb);

	s->expect = 0;
	return err;
}
