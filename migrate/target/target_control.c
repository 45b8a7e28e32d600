/* SPDX-License-Identifier: Apache-2.0 */

/* target_control - the control connection, and all waiting of the state machine. */

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/errbuf.h"
#include "migrate/target/target_int.h"

#define TARGET_TELL_NS (250 * NS_PER_MS)

void target_tell(struct target *t, enum move_phase phase)
{
	struct move_progress *p = &t->progress;
	uint64_t now = clock_now_ns();
	uint64_t wire = atomic_load(&t->wire_bytes);

	if (now > t->told_ns) {
		p->bandwidth_bytes_s = (uint64_t)((double)(wire - t->told_wire_bytes) * 1e9 /
		                                  (double)(now - t->told_ns));
	}
	t->phase = phase;
	t->told_ns = now;
	t->told_wire_bytes = wire;
	p->phase = phase;
	p->elapsed_ns = now - t->start_ns;
	p->memory_bytes = t->memory_pages * STREAM_PAGE_BYTES;
	p->moved_bytes =
		(atomic_load(&t->data_pages) + atomic_load(&t->zero_pages)) * STREAM_PAGE_BYTES;
	p->wire_bytes = wire;
	p->filled_bytes = atomic_load(&t->fill.bytes);
	if (t->cfg.events->progress != NULL) {
		t->cfg.events->progress(t->cfg.arg, p);
	}
}

int target_send(struct target *t, enum stream_type type, const void *payload, uint32_t len,
                struct errbuf *eb)
{
	char name[16];
	int err = link_send_small(&t->control, type, payload, len);

	return err == 0 ? 0
	                : errbuf_sys(eb, err, "sending %s", stream_type_name((uint16_t)type, name));
}

/* FAILED and CANCEL as an error of ours; anything else is out of turn. */
int target_peer_failed(const struct stream_frame *f, const uint8_t *payload, struct errbuf *eb)
{
	struct errbuf said = {0};
	char name[16];
	int code;

	if (f->type != STREAM_FAILED && f->type != STREAM_CANCEL) {
		return errbuf_set(eb, -EPROTO, "the source sent %s out of turn",
		                  stream_type_name(f->type, name));
	}

	int err = stream_text_decode(payload, f->payload_bytes, &code, &said, eb);

	if (err != 0) {
		return err;
	}
	(void)errbuf_set(eb, code, "the source says: %s", said.text);
	errbuf_hint(eb, "%s", said.hint);
	return code;
}

/* What others set under the lock. */
static int target_flags(struct target *t, struct errbuf *eb)
{
	uint64_t ignored;
	int err = 0;

	(void)!read(t->wake_fd, &ignored, sizeof(ignored));
	(void)pthread_mutex_lock(&t->lock);
	if (t->abandoned) {
		err = -ECANCELED;
		if (eb != NULL) {
			*eb = t->abandoned_why;
		}
	} else if (t->conn_err != 0 && !t->sealed) {
		err = t->conn_err;
		if (eb != NULL) {
			*eb = t->conn_why;
		}
	}
	(void)pthread_mutex_unlock(&t->lock);
	return err;
}

/* Answer a PING; -EAGAIN: it was something else, in *f. */
static int target_pong(struct target *t, struct stream_frame *f, struct errbuf *eb)
{
	int err = link_recv(&t->control, STREAM_PAYLOAD_MAX, f, eb);

	if (err != 0) {
		return err;
	}
	t->heard_ns = clock_now_ns();
	if (f->type == STREAM_PING) {
		return target_send(t, STREAM_PONG, t->control.payload, f->payload_bytes, eb);
	}
	return f->type == STREAM_PONG ? 0 : -EAGAIN;
}

/* One look at the connection. Returns 0; -EAGAIN a frame is in *f; -errno. */
static int target_listen(struct target *t, uint64_t wait_ns, struct stream_frame *f,
                         struct errbuf *eb)
{
	int wait_ms = (int)(wait_ns / NS_PER_MS) + (wait_ns % NS_PER_MS != 0 ? 1 : 0);
	int there =
		link_buffered(&t->control) ? 1 : transport_wait(t->control.t, t->wake_fd, wait_ms);

	if (there < 0) {
		return there;
	}
	if (there == 0) {
		return clock_now_ns() - t->heard_ns < t->cfg.silence_max_ns
		               ? 0
		               : errbuf_set(eb, -ETIMEDOUT, "the source is silent");
	}
	return target_pong(t, f, eb);
}

/* Without a connection (not yet, no more) only a wake-up can come. */
static void target_listen_dead(struct target *t, uint64_t wait_ns)
{
	struct pollfd p = {.fd = t->wake_fd, .events = POLLIN};

	(void)poll(&p, 1, (int)(wait_ns / NS_PER_MS) + 1);
}

/*
 * Until @until, a frame (if @f is given, else frames but PING are an error), an error or the
 * deadline.
 */
static int target_serve(struct target *t, target_until_fn until, struct stream_frame *f,
                        uint64_t deadline_ns, struct errbuf *eb)
{
	for (;;) {
		int err = target_flags(t, eb);
		uint64_t now = clock_now_ns();

		if (err != 0) {
			return err;
		}
		if (until != NULL && until(t)) {
			return 0;
		}
		if (now >= deadline_ns) {
			return -ETIMEDOUT;
		}
		if (now - t->told_ns >= TARGET_TELL_NS) {
			target_tell(t, t->phase);
		}

		uint64_t wait = TARGET_TELL_NS;

		if (deadline_ns - now < wait) {
			wait = deadline_ns - now;
		}
		if (!t->connected || t->control_dead) {
			target_listen_dead(t, wait);
			continue;
		}

		struct stream_frame other;
		struct errbuf why = {0};

		err = target_listen(t, wait, &other, &why);
		if (err == -EAGAIN && f != NULL) {
			*f = other;
			return 0;
		}
		if (err == -EAGAIN) {
			err = target_peer_failed(&other, t->control.payload, &why);
		}
		if (err == 0) {
			continue;
		}
		if (why.text[0] == '\0') {
			(void)errbuf_sys(&why, err, "control connection");
		}
		t->control_dead = true;
		t->control_err = err;
		t->control_why = why;
		if (eb != NULL) {
			*eb = why;
		}
		return err;
	}
}

int target_wait(struct target *t, target_until_fn until, uint64_t deadline_ns, struct errbuf *eb)
{
	return target_serve(t, until, NULL, deadline_ns, eb);
}

int target_frame(struct target *t, target_until_fn until, struct stream_frame *f, struct errbuf *eb)
{
	f->type = 0;
	return target_serve(t, until, f, UINT64_MAX, eb);
}
