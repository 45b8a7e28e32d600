/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/target/target.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/crc32c.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "migrate/target/target_int.h"

#define TARGET_LINGER_NS NS_PER_S

/* ---- operations of the guest ---- */

static void target_op_done(void *arg, int err, const struct errbuf *why)
{
	struct target *t = arg;

	(void)pthread_mutex_lock(&t->lock);
	CHECK(t->op.pending && !t->op.done);
	t->op.done = true;
	t->op.err = err;
	t->op.why = why != NULL ? *why : (struct errbuf){0};
	/* Inside: after the unlock t may be gone. */
	(void)pthread_cond_broadcast(&t->cond);
	target_wake(t);
	(void)pthread_mutex_unlock(&t->lock);
}

static void target_op_begin(struct target *t)
{
	(void)pthread_mutex_lock(&t->lock);
	t->op = (struct target_op){.t = t, .pending = true};
	(void)pthread_mutex_unlock(&t->lock);
}

static bool target_op_over(struct target *t)
{
	(void)pthread_mutex_lock(&t->lock);

	bool over = t->op.done;

	(void)pthread_mutex_unlock(&t->lock);
	return over;
}

/* Wait for the operation, whatever happens to the move: it uses our buffers. */
static void target_op_join(struct target *t)
{
	(void)pthread_mutex_lock(&t->lock);
	while (t->op.pending && !t->op.done) {
		(void)pthread_cond_wait(&t->cond, &t->lock);
	}
	(void)pthread_mutex_unlock(&t->lock);
}

static int target_op_result(struct target *t, const char *what, struct errbuf *eb)
{
	if (t->op.err == 0) {
		return 0;
	}
	if (t->op.why.text[0] == '\0') {
		return errbuf_sys(eb, t->op.err, "%s", what);
	}
	*eb = t->op.why;
	errbuf_prepend(eb, "%s", what);
	return t->op.err;
}

/* ---- the steps ---- */

static bool target_has_control(struct target *t)
{
	(void)pthread_mutex_lock(&t->lock);

	bool there = t->control.t != NULL;

	(void)pthread_mutex_unlock(&t->lock);
	return there;
}

static int target_connect(struct target *t, struct errbuf *eb)
{
	uint64_t max = t->cfg.connect_max_ns != 0 ? t->cfg.connect_max_ns : t->cfg.silence_max_ns;
	struct tls_info info;
	int err = target_wait(t, target_has_control, t->start_ns + max, eb);

	if (err == -ETIMEDOUT) {
		(void)errbuf_set(eb, err, "the source has not connected in time%s%s",
		                 t->stranger.text[0] != '\0' ? "; last attempt: " : "",
		                 t->stranger.text);
	}
	if (err != 0) {
		return err;
	}
	t->connected = true;
	t->heard_ns = clock_now_ns();
	transport_info(t->control.t, &info);
	t->result.encrypted = info.version != NULL;
	t->result.ktls = info.ktls_recv;
	if (info.cipher != NULL) {
		(void)snprintf(t->result.cipher, sizeof(t->result.cipher), "%s", info.cipher);
	}
	return 0;
}

static int target_send_report(struct target *t, struct errbuf *eb)
{
	char *text;
	size_t len;
	int err = compat_encode(&t->result.report, &text, &len);

	if (err != 0) {
		return errbuf_sys(eb, err, "report");
	}
	err = target_send(t, STREAM_REPORT, text, (uint32_t)len, eb);
	free(text);
	return err;
}

/* Build the partition; memory is there after. */
static int target_prepare(struct target *t, const char *definition, size_t len, struct errbuf *eb)
{
	target_op_begin(t);
	t->cfg.ops->prepare(t->cfg.guest, definition, len, target_op_done, t);

	int err = target_wait(t, target_op_over, UINT64_MAX, eb);

	target_op_join(t);
	if (err == 0) {
		err = target_op_result(t, "preparing the partition", eb);
	}
	if (err == 0) {
		err = target_map_check(t, eb);
	}
	if (err == 0 && t->cfg.fill == TARGET_FILL_ALL) {
		err = target_wait(t, target_fill_over, UINT64_MAX, eb);
		err = err == 0 ? target_fill_result(t, eb) : err;
	}
	if (err == 0) {
		(void)pthread_mutex_lock(&t->lock);
		t->mapped = true;
		(void)pthread_mutex_unlock(&t->lock);
	}
	return err;
}

/* DEFINITION -> REPORT. Returns 0; 1 it was only a check, or there are blockers; -errno. */
static int target_check(struct target *t, struct errbuf *eb)
{
	struct stream_frame f;
	char line[ERRBUF_TEXT_MAX - 32];
	int err;

	target_tell(t, MOVE_CHECK);
	err = target_frame(t, NULL, &f, eb);
	if (err != 0) {
		return err;
	}
	if (f.type != STREAM_DEFINITION) {
		return target_peer_failed(&f, t->control.payload, eb);
	}

	char *definition = gw_malloc(f.payload_bytes + 1);

	if (definition == NULL) {
		return errbuf_sys(eb, -ENOMEM, "definition");
	}
	memcpy(definition, t->control.payload, f.payload_bytes);
	definition[f.payload_bytes] = '\0';
	t->cfg.ops->check(t->cfg.guest, definition, f.payload_bytes, &t->result.report);

	bool movable = compat_movable(&t->result.report);
	bool over = !movable || t->hello.mode == STREAM_MODE_CHECK;

	if (!over) {
		err = target_prepare(t, definition, f.payload_bytes, eb);
	}
	free(definition);
	if (err == 0) {
		err = target_send_report(t, eb);
	}
	if (err == 0 && !movable) {
		t->result.outcome = MOVE_REFUSED;
		return errbuf_set(eb, -EPERM, "%s",
		                  compat_summary(&t->result.report, line, sizeof(line)));
	}
	return err != 0 ? err : over ? 1 : 0;
}

static void target_drop_state(struct target *t)
{
	free(t->state);
	t->state = NULL;
	t->state_bytes = 0;
	t->state_total = 0;
}

/* Pieces in order, of the same whole. */
static int target_add_state(struct target *t, const struct stream_frame *f, struct errbuf *eb)
{
	struct stream_state p;
	int err = stream_state_decode(t->control.payload, f->payload_bytes, &p, eb);

	if (err != 0) {
		return err;
	}
	if (t->state == NULL) {
		t->state = gw_malloc(p.total_bytes);
		t->state_total = p.total_bytes;
		if (t->state == NULL) {
			return errbuf_sys(eb, -ENOMEM, "device state");
		}
	}
	if (p.offset_bytes != t->state_bytes || p.total_bytes != t->state_total) {
		return errbuf_set(eb, -EBADMSG, "pieces of the device state do not fit together");
	}
	memcpy(t->state + t->state_bytes, p.piece, p.piece_bytes);
	t->state_bytes += p.piece_bytes;
	return 0;
}

/* Nothing may be under way on a data connection, and nothing may come any more. */
static int target_seal(struct target *t, struct errbuf *eb)
{
	int err = 0;

	(void)pthread_mutex_lock(&t->lock);
	if (t->data_conns != t->hello.connections) {
		err = errbuf_set(eb, -EPROTO, "%u of %u data connections are there", t->data_conns,
		                 t->hello.connections);
	}
	for (uint32_t i = 0; i < t->conn_count && err == 0; i++) {
		if (t->conns[i]->in_round) {
			err = errbuf_set(eb, -EPROTO, "the last round is not complete");
		}
	}
	t->sealed = err == 0;
	(void)pthread_mutex_unlock(&t->lock);
	target_fill_stop(t);
	if (err == 0) {
		target_join_conns(t);
	}
	return err;
}

static int target_final(struct target *t, const struct stream_frame *f, struct errbuf *eb)
{
	struct stream_final w;
	int err = stream_final_decode(t->control.payload, f->payload_bytes, &w, eb);

	if (err != 0) {
		return err;
	}
	if (w.state_bytes != t->state_bytes || t->state_bytes != t->state_total ||
	    w.state_crc != crc32c(t->state, t->state_bytes)) {
		return errbuf_set(eb, -EBADMSG, "the device state is not what the source counted");
	}
	t->result.rounds = w.rounds;
	t->result.state_bytes = w.state_bytes;
	return target_seal(t, eb);
}

/* Pages come on their own; here the rest, until FINAL. */
static int target_copy(struct target *t, struct errbuf *eb)
{
	target_tell(t, MOVE_COPY);
	for (;;) {
		struct stream_frame f;
		int err = target_frame(t, NULL, &f, eb);

		if (err != 0) {
			return err;
		}
		if (f.type == STREAM_STATE) {
			err = target_add_state(t, &f, eb);
		} else if (f.type == STREAM_RETRY) {
			target_drop_state(t);
		} else if (f.type == STREAM_FINAL) {
			return target_final(t, &f, eb);
		} else {
			err = target_peer_failed(&f, t->control.payload, eb);
		}
		if (err != 0) {
			return err;
		}
	}
}

static int target_load(struct target *t, struct errbuf *eb)
{
	uint64_t start = clock_now_ns();
	uint8_t payload[STREAM_SMALL_MAX];

	target_tell(t, MOVE_LOAD);
	target_op_begin(t);
	t->cfg.ops->load(t->cfg.guest, t->state, t->state_bytes, target_op_done, t);

	int err = target_wait(t, target_op_over, UINT64_MAX, eb);

	target_op_join(t);
	if (err == 0) {
		err = target_op_result(t, "loading the devices", eb);
	}
	if (err != 0) {
		return err;
	}
	t->load_ns = clock_now_ns() - start;
	t->result.load_ns = t->load_ns;
	/* From here on a word is needed to end it: READY may arrive even if sending fails. */
	(void)pthread_mutex_lock(&t->lock);
	t->ready = !t->abandoned;
	(void)pthread_mutex_unlock(&t->lock);
	err = target_send(t, STREAM_READY, payload, stream_number_encode(t->cfg.epoch, payload),
	                  eb);
	if (err != 0) {
		t->control_dead = true;
		t->control_err = err;
		t->control_why = *eb;
	}
	return 0;
}

static bool target_decided(struct target *t)
{
	(void)pthread_mutex_lock(&t->lock);

	bool decided = t->committed;

	(void)pthread_mutex_unlock(&t->lock);
	return decided;
}

/* COMMIT. Returns 0; -EBADMSG, -EPROTO. */
static int target_commit_frame(struct target *t, const struct stream_frame *f, struct errbuf *eb)
{
	uint64_t epoch;
	int err = stream_number_decode(t->control.payload, f->payload_bytes, &epoch, eb);

	if (err != 0) {
		return err;
	}
	if (epoch <= t->cfg.epoch) {
		return errbuf_set(eb, -EPROTO, "COMMIT with an old epoch");
	}
	if (t->cfg.confirm) {
		t->commit_asked = true;
		if (t->cfg.events->committed != NULL) {
			t->cfg.events->committed(t->cfg.arg, epoch);
		}
		return 0;
	}
	(void)pthread_mutex_lock(&t->lock);
	if (!t->abandoned) { /* the owner was faster: it knows better */
		t->committed = true;
		t->epoch = epoch;
	}
	(void)pthread_mutex_unlock(&t->lock);
	return 0;
}

/* A word of the source, or something that decides nothing. */
static int target_handoff_frame(struct target *t, struct stream_frame *f, struct errbuf *eb)
{
	if (f->type == STREAM_COMMIT && !t->commit_asked) {
		return target_commit_frame(t, f, eb);
	}
	return target_peer_failed(f, t->control.payload, eb);
}

/* READY. Returns 0 it is ours; -errno it is not. */
static int target_handoff(struct target *t, struct errbuf *eb)
{
	bool told = false;

	target_tell(t, MOVE_HANDOFF);
	if (t->cfg.events->ready != NULL) {
		t->cfg.events->ready(t->cfg.arg);
	}
	while (!target_decided(t)) {
		struct stream_frame f = {0};
		int err = t->control_dead && !told ? t->control_err
		                                   : target_frame(t, target_decided, &f, eb);

		if (err == 0 && f.type != 0) {
			err = target_handoff_frame(t, &f, eb);
			/* CANCEL and FAILED of the source are words: it keeps the guest. After
			 * COMMIT they are not: that was the last one. */
			if (err != 0 && !t->commit_asked &&
			    (f.type == STREAM_CANCEL || f.type == STREAM_FAILED)) {
				return err;
			}
			if (err != 0) { /* nonsense decides nothing */
				t->control_dead = true;
				t->control_err = err;
				t->control_why = *eb;
			}
		}
		(void)pthread_mutex_lock(&t->lock);

		bool abandoned = t->abandoned;

		(void)pthread_mutex_unlock(&t->lock);
		if (abandoned) {
			*eb = t->abandoned_why;
			return -ECANCELED;
		}
		if (t->control_dead && !told) {
			link_cut(&t->control); /* it may be alive, and talk nonsense */
			t->cfg.events->orphaned(t->cfg.arg, &t->control_why);
			told = true;
		}
	}
	return 0;
}

/* It is ours. Errors from here on are the owner's to repair. */
static void target_run(struct target *t)
{
	struct move_result *r = &t->result;
	uint64_t start = clock_now_ns();
	uint8_t payload[STREAM_SMALL_MAX];

	target_op_begin(t);
	t->cfg.ops->run(t->cfg.guest, target_op_done, t);
	if (!t->cfg.confirm && t->cfg.events->committed != NULL) {
		t->cfg.events->committed(t->cfg.arg, t->epoch);
	}
	target_op_join(t);

	int err = target_op_result(t, "starting the guest", &r->why);
	const struct stream_running w = {
		.epoch = t->epoch,
		.load_ns = t->load_ns,
		.run_ns = clock_now_ns() - start,
		.wall_ns = clock_wall_ns(),
	};

	r->err = err;
	r->epoch = t->epoch;
	r->outcome = err == 0 ? MOVE_DONE : MOVE_UNKNOWN;
	r->phase = MOVE_ENDED;
	r->run_ns = w.run_ns;
	r->running_wall_ns = w.wall_ns;
	if (err == 0) {
		t->cfg.ops->announce(t->cfg.guest);
	}
	if (t->control_dead) {
		return;
	}
	(void)!(err == 0 ? target_send(t, STREAM_RUNNING, payload,
	                               stream_running_encode(&w, payload), NULL)
	                 : target_send(t, STREAM_FAILED, payload,
	                               stream_text_encode(err, &r->why, payload), NULL));
}

/* Returns 0 ours, or a check is over; -errno not moved. */
static int target_steps(struct target *t, struct errbuf *eb)
{
	int err = target_connect(t, eb);

	if (err == 0) {
		err = target_check(t, eb);
	}
	if (err == 1) {
		t->result.outcome = MOVE_DONE;
		return 0;
	}
	if (err == 0) {
		err = target_copy(t, eb);
	}
	if (err == 0) {
		err = target_load(t, eb);
	}
	if (err == 0) {
		err = target_handoff(t, eb);
	}
	if (err == 0) {
		target_tell(t, MOVE_COMMITTED);
		target_run(t);
	}
	return err;
}

/* Nothing becomes of it. */
static void target_undo(struct target *t, int err, const struct errbuf *why)
{
	struct move_result *r = &t->result;
	uint8_t payload[STREAM_SMALL_MAX];

	r->err = err;
	r->why = *why;
	r->phase = t->phase;
	if (r->outcome != MOVE_REFUSED) {
		r->outcome = err == -ECANCELED ? MOVE_CANCELED : MOVE_FAILED;
	}
	if (t->connected && (!t->control_dead || t->control_err == -EBADMSG)) {
		(void)!link_send_small(&t->control, STREAM_FAILED, payload,
		                       stream_text_encode(err, why, payload));
	}
}

static void *target_main(void *arg)
{
	struct target *t = arg;
	struct errbuf why = {0};
	int err = target_steps(t, &why);

	if (err != 0) {
		if (why.text[0] == '\0') {
			(void)errbuf_sys(&why, err, "move");
		}
		target_undo(t, err, &why);
	}
	target_join_conns(t);
	target_fill_end(t);
	for (uint32_t i = 0; i < t->conn_count; i++) {
		link_fini(&t->conns[i]->link); /* a source that still sends gets to know */
	}
	t->result.total_ns = clock_now_ns() - t->start_ns;
	t->result.memory_bytes = t->memory_pages * STREAM_PAGE_BYTES;
	t->result.data_pages = atomic_load(&t->data_pages);
	t->result.zero_pages = atomic_load(&t->zero_pages);
	t->result.moved_bytes = (t->result.data_pages + t->result.zero_pages) * STREAM_PAGE_BYTES;
	t->result.wire_bytes = atomic_load(&t->wire_bytes);
	if (t->connected) {
		link_linger(&t->control, t->stop_fd, TARGET_LINGER_NS);
	}
	link_fini(&t->control);
	t->cfg.events->ended(t->cfg.arg, &t->result);
	return NULL;
}

/* ---- creating ---- */

static int target_cfg_check(const struct target_cfg *cfg, struct errbuf *eb)
{
	if ((cfg->tls == NULL) != cfg->plain) {
		return errbuf_set(eb, -EINVAL,
		                  "move: either certificates or the explicit plain mode");
	}
	if (guid_is_nil(&cfg->vm) || guid_is_nil(&cfg->move)) {
		return errbuf_set(eb, -EINVAL, "move: names");
	}
	CHECK(cfg->events->ended != NULL && cfg->events->orphaned != NULL);
	CHECK(!cfg->confirm || cfg->events->committed != NULL);
	return 0;
}

static void target_free(struct target *t)
{
	for (uint32_t i = 0; i < t->conn_count; i++) {
		target_conn_free(t->conns[i]);
	}
	link_fini(&t->control);
	if (t->stop_fd >= 0) {
		(void)close(t->stop_fd);
	}
	if (t->data_stop_fd >= 0) {
		(void)close(t->data_stop_fd);
	}
	if (t->wake_fd >= 0) {
		(void)close(t->wake_fd);
	}
	(void)pthread_cond_destroy(&t->cond);
	(void)pthread_mutex_destroy(&t->lock);
	(void)pthread_cond_destroy(&t->fill.cond);
	(void)pthread_mutex_destroy(&t->fill.lock);
	free(t->fill.done);
	free(t->written);
	free(t->state);
	free(t);
}

int target_create(const struct target_cfg *cfg, struct target **out, struct errbuf *eb)
{
	int err = target_cfg_check(cfg, eb);

	*out = NULL;
	if (err != 0) {
		return err;
	}

	struct target *t = gw_calloc(1, sizeof(*t));

	if (t == NULL) {
		return -ENOMEM;
	}
	(void)pthread_mutex_init(&t->lock, NULL);
	(void)pthread_cond_init(&t->cond, NULL);
	(void)pthread_mutex_init(&t->fill.lock, NULL);
	(void)pthread_cond_init(&t->fill.cond, NULL);
	t->cfg = *cfg;
	if (t->cfg.silence_max_ns == 0) {
		t->cfg.silence_max_ns = MOVE_SILENCE_DEFAULT_NS;
	}
	t->start_ns = clock_now_ns();
	t->told_ns = t->start_ns;
	t->heard_ns = t->start_ns;
	t->result.outcome = MOVE_FAILED;
	t->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	t->data_stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	t->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (t->stop_fd < 0 || t->data_stop_fd < 0 || t->wake_fd < 0) {
		err = errbuf_sys(eb, -errno, "move");
		goto free_target;
	}
	err = target_map(t, eb);
	if (err == 0) {
		err = target_fill_start(t, eb);
	}
	if (err != 0) {
		goto end_fill;
	}
	err = -pthread_create(&t->thread, NULL, target_main, t);
	if (err != 0) {
		(void)errbuf_sys(eb, err, "move: threads");
		goto end_fill;
	}
	*out = t;
	return 0;

end_fill:
	target_fill_end(t);
free_target:
	target_free(t);
	return err;
}

/* ---- the owner's side ---- */

int target_commit(struct target *t, uint64_t epoch)
{
	int err = 0;

	(void)pthread_mutex_lock(&t->lock);
	if (!t->ready || t->abandoned || epoch <= t->cfg.epoch) {
		err = -EBUSY;
	} else if (!t->committed) {
		t->committed = true;
		t->epoch = epoch;
	}
	target_wake(t);
	(void)pthread_mutex_unlock(&t->lock);
	return err;
}

int target_abandon(struct target *t, const struct errbuf *why)
{
	uint64_t one = 1;
	int err = 0;

	(void)pthread_mutex_lock(&t->lock);
	if (t->committed) {
		err = -EBUSY;
	} else if (!t->abandoned) {
		t->abandoned = true;
		if (why != NULL) {
			t->abandoned_why = *why;
		} else {
			(void)errbuf_set(&t->abandoned_why, -ECANCELED, "abandoned");
		}
	}
	target_wake(t);
	(void)pthread_mutex_unlock(&t->lock);
	if (err == 0) {
		(void)!write(t->stop_fd, &one, sizeof(one));
	}
	return err;
}

void target_destroy(struct target *t)
{
	if (t == NULL) {
		return;
	}
	(void)!target_abandon(t, NULL);
	(void)pthread_join(t->thread, NULL);
	target_free(t);
}
