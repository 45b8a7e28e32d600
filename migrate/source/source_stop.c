/* SPDX-License-Identifier: Apache-2.0 */

/* source_stop - from the stop of the vCPUs to the hand-off, or back. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bitmap.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/crc32c.h"
#include "base/errbuf.h"
#include "migrate/source/source_int.h"

#define SOURCE_START_NS NS_PER_MS /* the vCPUs' start at the destination */

static void source_op_done(void *arg, int err, const struct errbuf *why)
{
	struct source_op *op = arg;
	struct source *s = op->s;

	(void)pthread_mutex_lock(&s->lock);
	CHECK(op->pending && !op->done);
	op->done = true;
	op->err = err;
	op->why = why != NULL ? *why : (struct errbuf){0};
	/* Inside: after the unlock s may be gone. */
	(void)pthread_cond_broadcast(&s->cond);
	source_wake(s);
	(void)pthread_mutex_unlock(&s->lock);
}

static void source_op_begin(struct source_op *op, struct source *s)
{
	(void)pthread_mutex_lock(&s->lock);
	CHECK(!op->pending || op->done);
	*op = (struct source_op){.s = s, .pending = true};
	(void)pthread_mutex_unlock(&s->lock);
}

static bool source_op_over(struct source *s, const struct source_op *op)
{
	(void)pthread_mutex_lock(&s->lock);

	bool over = op->done;

	(void)pthread_mutex_unlock(&s->lock);
	return over;
}

static int source_op_result(struct source_op *op, const char *what, struct errbuf *eb)
{
	if (op->err != 0) {
		if (op->why.text[0] == '\0') {
			return errbuf_sys(eb, op->err, "%s", what);
		}
		if (eb != NULL) {
			*eb = op->why;
			errbuf_prepend(eb, "%s", what);
		}
	}
	return op->err;
}

static bool source_paused(struct source *s)
{
	return source_op_over(s, &s->pause);
}

static bool source_saved(struct source *s)
{
	return source_op_over(s, &s->save);
}

/* Wait for an operation, whatever happens to the move. */
static void source_op_join(struct source_op *op, struct source *s)
{
	(void)pthread_mutex_lock(&s->lock);
	while (op->pending && !op->done) {
		(void)pthread_cond_wait(&s->cond, &s->lock);
	}
	(void)pthread_mutex_unlock(&s->lock);
}

int source_resume_guest(struct source *s, struct errbuf *eb)
{
	struct source_op *op = &s->resume;

	if (!s->guest_paused) {
		return 0;
	}
	source_op_join(&s->save, s); /* it still reads the guest */
	source_op_begin(op, s);
	s->cfg.ops->resume(s->cfg.guest, source_op_done, op);
	source_op_join(op, s);
	source_op_join(&s->pause, s);
	s->guest_paused = false;
	s->result.lost_ns += clock_now_ns() - s->stop_ns;
	return source_op_result(op, "the guest could not be resumed", eb);
}

int source_fetch(struct source *s, uint64_t *rest_pages, struct errbuf *eb)
{
	uint64_t rest = 0;

	for (uint32_t i = 0; i < s->range_count; i++) {
		size_t pages = s->ranges[i].len_bytes / STREAM_PAGE_BYTES;
		uint64_t *bits = s->bits + s->range_word[i];
		int err = s->cfg.ops->dirty_fetch(s->cfg.guest, i, bits, BITMAP_WORDS(pages));

		if (err != 0) {
			return errbuf_sys(eb, err, "log of dirty pages");
		}
		if (pages % 64 != 0) { /* nothing behind the end */
			bits[pages / 64] &= (1ull << (pages % 64)) - 1;
		}
		rest += bitmap_count(bits, pages);
	}
	s->fetched_ns = clock_now_ns();
	*rest_pages = rest;
	return 0;
}

static uint64_t source_deadline(const struct source *s)
{
	uint64_t limit = s->cfg.policy.blackout_max_ns;

	if (s->cfg.mode == STREAM_MODE_QUICK || limit > UINT64_MAX - s->stop_ns) {
		return UINT64_MAX;
	}
	return s->stop_ns + limit;
}

/* vCPUs stand. -ETIMEDOUT: they did not in time. */
static int source_pause_guest(struct source *s, struct errbuf *eb)
{
	s->stop_ns = clock_now_ns();
	s->result.stops++;
	s->guest_paused = true;
	source_op_begin(&s->pause, s);
	s->cfg.ops->pause(s->cfg.guest, source_op_done, &s->pause);

	int err = source_wait(s, source_paused, source_deadline(s), eb);

	if (err != 0) {
		return err;
	}
	s->result.pause_ns = clock_now_ns() - s->stop_ns;
	return source_op_result(&s->pause, "the guest could not be stopped", eb);
}

static int source_save_guest(struct source *s, struct errbuf *eb)
{
	uint64_t start = clock_now_ns();

	free(s->state);
	s->state = NULL;
	s->state_bytes = 0;
	source_op_begin(&s->save, s);
	s->cfg.ops->save(s->cfg.guest, &s->state, &s->state_bytes, source_op_done, &s->save);

	int err = source_wait(s, source_saved, source_deadline(s), eb);

	if (err == 0) {
		err = source_op_result(&s->save, "saving the devices", eb);
	}
	if (err == 0 && s->state_bytes > STREAM_STATE_MAX) {
		err = errbuf_set(eb, -E2BIG, "the device state has %zu bytes", s->state_bytes);
	}
	s->result.save_ns = clock_now_ns() - start;
	s->result.state_bytes = s->state_bytes;
	return err;
}

static int source_send_state(struct source *s, struct errbuf *eb)
{
	for (size_t at = 0; at < s->state_bytes;) {
		size_t left = s->state_bytes - at;
		uint32_t piece =
			left < STREAM_STATE_PIECE_MAX ? (uint32_t)left : STREAM_STATE_PIECE_MAX;
		const struct stream_state w = {
			.offset_bytes = at,
			.total_bytes = s->state_bytes,
		};
		uint8_t head[STREAM_SMALL_MAX];
		const struct link_out out = {
			.type = STREAM_STATE,
			.head = head,
			.head_bytes = stream_state_encode(&w, head),
			.rest = s->state + at,
			.rest_bytes = piece,
		};
		int err = link_send(&s->control, &out);

		if (err != 0) {
			return errbuf_sys(eb, err, "sending the device state");
		}
		s->state_sent = true;
		at += piece;
	}
	atomic_fetch_add(&s->wire_bytes, s->state_bytes);
	return 0;
}

static int source_send_final(struct source *s, struct errbuf *eb)
{
	const struct stream_final f = {
		.state_bytes = s->state_bytes,
		.state_crc = crc32c(s->state, s->state_bytes),
		.rounds = s->result.rounds,
	};
	uint8_t payload[STREAM_SMALL_MAX];

	return source_send(s, STREAM_FINAL, payload, stream_final_encode(&f, payload), eb);
}

/* The attempt is over: let the guest run, and do what the policy says. Returns 1 or -errno. */
static int source_go_on(struct source *s, const struct policy_decision *d, struct errbuf *eb)
{
	int err;

	err = source_resume_guest(s, eb); /* first of all */
	if (err == 0 && s->round_active) {
		/* Pages on their way cannot be called back. */
		err = source_round_wait(s, UINT64_MAX, eb);
	}
	if (err == 0 && s->state_sent) {
		err = source_send(s, STREAM_RETRY, "", 0, eb);
		s->state_sent = false;
	}
	if (err == 0) {
		err = source_apply(s, d, eb);
	}
	return err != 0 ? err : 1;
}

/* The limit was near before the destination had everything. */
static int source_missed(struct source *s, struct errbuf *eb)
{
	struct policy_decision d;
	uint64_t now = clock_now_ns();

	policy_missed(&s->policy, now, now - s->stop_ns, &d);
	return source_go_on(s, &d, eb);
}

static bool source_decided(struct source *s)
{
	(void)pthread_mutex_lock(&s->lock);

	bool decided = s->committed || s->refused;

	(void)pthread_mutex_unlock(&s->lock);
	return decided;
}

/* Until when a commit is in time: COMMIT, the start there and RUNNING come after it. */
static uint64_t source_commit_deadline(const struct source *s)
{
	uint64_t deadline = source_deadline(s);

	return deadline == UINT64_MAX ? UINT64_MAX : deadline - SOURCE_START_NS - s->rtt_ns;
}

/* READY came: from now on only the owner decides. Returns 0; -ECANCELED. */
static int source_ask_owner(struct source *s, struct errbuf *eb)
{
	bool told = false;
	bool canceled;

	(void)pthread_mutex_lock(&s->lock);
	canceled = s->canceled;
	s->asked = !canceled;
	(void)pthread_mutex_unlock(&s->lock);
	if (canceled) {
		return errbuf_set(eb, -ECANCELED, "canceled");
	}
	source_tell(s, MOVE_HANDOFF);
	s->cfg.events->ready(s->cfg.arg, source_commit_deadline(s));
	/* A connection that fails meanwhile changes nothing: the decision may be written down. */
	while (source_wait(s, source_decided, UINT64_MAX, NULL) != 0) {
		CHECK(s->control_dead);
		link_cut(&s->control);
		if (!told && s->cfg.events->lost != NULL) {
			s->cfg.events->lost(s->cfg.arg, &s->control_why);
		}
		told = true;
	}
	return 0;
}

/* The owner has decided for the destination: nothing leads back from here. */
static void source_committed(struct source *s)
{
	struct move_result *r = &s->result;
	uint8_t payload[STREAM_SMALL_MAX];
	uint64_t start = clock_now_ns();
	int err = s->control_dead ? s->control_err : 0;

	source_tell(s, MOVE_COMMITTED);
	r->epoch = s->cfg.epoch_next;
	if (err == 0) {
		err = source_send(s, STREAM_COMMIT, payload,
		                  stream_number_encode(s->cfg.epoch_next, payload), &r->why);
	} else {
		r->why = s->control_why;
	}
	if (err == 0) {
		err = source_ask(s, STREAM_RUNNING, UINT64_MAX, &r->why);
	}
	if (err == 0 && s->running.epoch != s->cfg.epoch_next) {
		err = errbuf_set(&r->why, -EPROTO, "the destination runs with another epoch");
	}
	r->err = err;
	r->outcome = err == 0 ? MOVE_DONE : MOVE_UNKNOWN;
	r->blackout_ns = clock_now_ns() - s->stop_ns;
	r->run_ns = clock_now_ns() - start;
	r->running_wall_ns = s->running.wall_ns;
	if (err == 0) {
		r->clock_ns = (int64_t)(s->running.wall_ns - clock_wall_ns());
	}
}

/* FINAL, READY, the owner. Returns 0 over; -errno. */
static int source_handoff(struct source *s, struct errbuf *eb)
{
	uint64_t start = clock_now_ns();
	int err = source_send_final(s, eb);

	source_tell(s, MOVE_LOAD);
	if (err == 0) {
		err = source_ask(s, STREAM_READY, source_deadline(s), eb);
	}
	if (err == -ETIMEDOUT && !s->control_dead) {
		(void)errbuf_set(eb, err,
		                 "the destination was not ready within the blackout limit of "
		                 "%llu ms",
		                 (unsigned long long)(s->cfg.policy.blackout_max_ns / NS_PER_MS));
		errbuf_hint(eb, "Allow a longer blackout, or move the VM when it is idle.");
	}
	if (err != 0) {
		return err;
	}
	s->result.load_ns = clock_now_ns() - start;
	if (s->ready_epoch != s->cfg.epoch) {
		return errbuf_set(eb, -EPROTO, "the destination is ready with another epoch");
	}
	start = clock_now_ns();
	err = source_ask_owner(s, eb);
	if (err != 0) {
		return err;
	}
	s->result.commit_ns = clock_now_ns() - start;

	/* The decision is final: the flags do not change any more. */
	(void)pthread_mutex_lock(&s->lock);

	bool refused = s->refused;

	(void)pthread_mutex_unlock(&s->lock);
	if (refused) {
		if (eb != NULL) {
			*eb = s->refused_why;
		}
		return eb != NULL && eb->text[0] != '\0'
		               ? -EPERM
		               : errbuf_set(eb, -EPERM, "the owner decided against it");
	}
	source_committed(s);
	return 0;
}

int source_handover(struct source *s, struct errbuf *eb)
{
	struct policy_decision d;
	uint64_t rest = 0;
	int err;

	source_tell(s, MOVE_STOP);
	err = source_pause_guest(s, eb);
	if (err == 0) {
		err = source_save_guest(s, eb);
	}
	if (err == -ETIMEDOUT && !s->control_dead) {
		return source_missed(s, eb);
	}
	if (err != 0) {
		return err;
	}
	if (s->cfg.mode == STREAM_MODE_QUICK) {
		rest = source_all_pages(s);
	} else {
		err = source_fetch(s, &rest, eb);
		if (err != 0) {
			return err;
		}
		policy_stopped(&s->policy, clock_now_ns(), rest, clock_now_ns() - s->stop_ns, &d);
		if (d.action != POLICY_STOP) {
			return source_go_on(s, &d, eb);
		}
	}

	uint64_t start = clock_now_ns();

	err = source_send_state(s, eb);
	if (err == 0) {
		source_round_begin(s, rest);
		err = source_round_wait(s, source_deadline(s), eb);
	}
	s->result.copy_ns = clock_now_ns() - start;
	if (err == -ETIMEDOUT && !s->control_dead && s->round_active) {
		return source_missed(s, eb);
	}
	return err != 0 ? err : source_handoff(s, eb);
}
