/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/mover/mover.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/tls.h"
#include "hv/config/vm_config.h"
#include "hv/mem/gmem.h"
#include "hv/partition/partition.h"
#include "hv/worker/control.h"
#include "migrate/mover/mover_int.h"
#include "migrate/source/source.h"
#include "migrate/target/target.h"

#define TAG "mover"
#define MOVER_RETRY_NS (20 * NS_PER_MS)

void mover_lock(struct mover *m)
{
	CHECK(pthread_mutex_lock(&m->lock) == 0);
}

void mover_unlock(struct mover *m)
{
	CHECK(pthread_mutex_unlock(&m->lock) == 0);
}

/* ---- for both ends' guest operations ---- */

uint32_t mover_memory(void *guest, struct move_range *ranges)
{
	struct mover *m = guest;
	const struct gmem *mem = partition_mem(worker_partition(m->w));
	uint32_t count = gmem_slots(mem);

	CHECK(count <= MOVE_RANGES_MAX);
	for (uint32_t i = 0; i < count; i++) {
		struct gmem_slot slot;

		gmem_slot(mem, i, &slot);
		ranges[i] = (struct move_range){
			.gpa = slot.gpa,
			.len_bytes = slot.len_bytes,
			.host = slot.host,
		};
	}
	return count;
}

void mover_ask(struct mover *m, struct mover_op *op, post_fn fn, move_done_fn done, void *arg)
{
	op->done = done;
	op->arg = arg;
	post_call(m->post, &op->item, fn, m);
}

void mover_answer(struct mover_op *op, int err, const struct errbuf *why)
{
	move_done_fn done = op->done;

	CHECK(done != NULL);
	op->done = NULL;
	done(op->arg, err, why);
}

static void mover_timer_due(struct uring_op *op, int32_t res, bool more)
{
	struct mover *m = op->arg;

	(void)more;
	(void)res; /* also a timer that was cut short has to be answered */
	m->timer_on = false;
	m->timer_fn(m);
}

void mover_later(struct mover *m, void (*fn)(struct mover *m))
{
	CHECK(!m->timer_on);
	m->timer = (struct uring_op){.fn = mover_timer_due, .arg = m};
	m->timer_fn = fn;
	m->timer_on = true;
	if (uring_prep_timeout(worker_ring(m->w), &m->timer, MOVER_RETRY_NS) != 0) {
		uring_defer(worker_ring(m->w), &m->timer, -EAGAIN); /* at once, then */
	}
}

/* ---- news ---- */

static void mover_event(struct mover *m, const char *event, struct json_build *b)
{
	char text[GUID_TEXT_SIZE];
	json_t *json = NULL;

	json_add_str(b, "event", event);
	json_add_str(b, "role", m->side == MOVER_SOURCE ? "source" : "target");
	json_add_str(b, "move", guid_format(&m->move, text));
	if (json_build_end(b, &json) == 0) {
		control_event(worker_control(m->w), json);
	}
}

static void mover_news_progress(void *arg)
{
	struct mover *m = arg;
	struct json_build b;

	json_build_object(&b);
	mover_lock(m);
	mover_progress_json(&b, &m->progress);
	mover_unlock(m);
	mover_event(m, "move-progress", &b);
}

static void mover_news_ready(void *arg)
{
	struct mover *m = arg;
	struct json_build b;

	m->ready = true;
	m->asked = m->side == MOVER_SOURCE;
	json_build_object(&b);
	mover_lock(m);
	if (m->asked && m->deadline_ns != UINT64_MAX) {
		json_add_u64(&b, "deadline_ns", m->deadline_ns);
	}
	mover_unlock(m);
	mover_event(m, "move-ready", &b);
}

static void mover_news_why(struct mover *m, const char *event)
{
	struct json_build b;

	json_build_object(&b);
	mover_lock(m);
	json_add_str(&b, "text", m->why.text);
	json_add_str(&b, "hint", m->why.hint);
	mover_unlock(m);
	mover_event(m, event, &b);
}

static void mover_news_lost(void *arg)
{
	mover_news_why(arg, "move-lost");
}

static void mover_news_orphaned(void *arg)
{
	mover_news_why(arg, "move-orphaned");
}

static void mover_news_committed(void *arg)
{
	struct mover *m = arg;
	struct json_build b;

	m->committed = true;
	json_build_object(&b);
	mover_lock(m);
	json_add_u64(&b, "epoch", m->epoch);
	mover_unlock(m);
	mover_event(m, "move-committed", &b);
}

static void mover_news_ended(void *arg)
{
	struct mover *m = arg;
	enum mover_side side = m->side;
	struct json_build b;

	json_build_object(&b);
	mover_result_json(&b, &m->result); /* nobody writes it any more */
	mover_event(m, "move-ended", &b);
	log_info(TAG, "move ended vm=%s outcome=%s", worker_vm(m->w)->name,
	         move_outcome_name(m->result.outcome));
	/* Their threads are leaving: a moment. */
	source_destroy(m->source);
	target_destroy(m->target);
	tls_ctx_destroy(m->tls);
	m->source = NULL;
	m->target = NULL;
	m->tls = NULL;
	m->asked = false;
	m->ended = true;
	m->side = MOVER_NONE;
	if (side == MOVER_SOURCE) {
		mover_source_ended(m);
	} else {
		mover_target_ended(m);
	}
}

void mover_tell(struct mover *m, enum mover_news news)
{
	static const post_fn fns[MOVER_NEWS_COUNT] = {
		[MOVER_PROGRESS] = mover_news_progress, [MOVER_READY] = mover_news_ready,
		[MOVER_LOST] = mover_news_lost,         [MOVER_COMMITTED] = mover_news_committed,
		[MOVER_ORPHANED] = mover_news_orphaned, [MOVER_ENDED] = mover_news_ended,
	};

	post_call(m->post, &m->news[news], fns[news], m);
}

/* ---- commands ---- */

static void mover_answer_request(const struct control_request *req, int err,
                                 const struct errbuf *eb)
{
	if (err != 0) {
		control_error(req, err, eb);
	} else {
		control_reply(req, NULL);
	}
}

static int mover_out_of_turn(const struct control_request *req, struct errbuf *eb)
{
	return errbuf_set(eb, -EBUSY, "\"%s\" is out of turn", req->cmd);
}

void mover_sockets_close(struct mover *m)
{
	while (m->socket_count != 0) {
		(void)close(m->sockets[--m->socket_count]);
	}
}

static void mover_socket(struct mover *m, struct control_request *req)
{
	struct errbuf eb = {0};
	int err = 0;

	if (req->fd_count != 1) {
		err = errbuf_set(&eb, -EINVAL, "%u descriptors came, 1 is needed", req->fd_count);
	} else if (m->side == MOVER_TARGET) {
		err = target_add(m->target, req->fds[0]);
		req->fds[0] = -1; /* taken, whatever it answered */
		if (err != 0) {
			(void)errbuf_sys(&eb, err, "the move takes no more connections");
		}
	} else if (m->side != MOVER_NONE || worker_arriving(m->w)) {
		err = mover_out_of_turn(req, &eb);
	} else if (m->socket_count == ARRAY_LEN(m->sockets)) {
		mover_sockets_close(m);
		err = errbuf_set(&eb, -E2BIG, "more than %zu connections; all are closed",
		                 ARRAY_LEN(m->sockets));
	} else {
		m->sockets[m->socket_count++] = req->fds[0];
		req->fds[0] = -1;
	}
	mover_answer_request(req, err, &eb);
}

static void mover_commit(struct mover *m, struct control_request *req)
{
	struct errbuf eb = {0};
	int err = 0;

	if (m->side == MOVER_SOURCE && m->asked) {
		m->asked = false;
		m->committed = true;
		source_commit(m->source);
	} else if (!m->committed) { /* said twice is said once */
		err = mover_out_of_turn(req, &eb);
	}
	mover_answer_request(req, err, &eb);
}

static void mover_why(const struct control_request *req, const char *otherwise, struct errbuf *out)
{
	const char *text = json_string_value(json_object_get(req->json, "text"));

	(void)errbuf_set(out, -ECANCELED, "%s", text != NULL ? text : otherwise);
}

static void mover_refuse(struct mover *m, struct control_request *req)
{
	struct errbuf why = {0};
	struct errbuf eb = {0};
	int err = 0;

	mover_why(req, "the owner has decided against it", &why);
	if (m->side == MOVER_SOURCE && m->asked) {
		m->asked = false;
		source_refuse(m->source, &why);
	} else {
		err = mover_out_of_turn(req, &eb);
	}
	mover_answer_request(req, err, &eb);
}

static void mover_cancel(struct mover *m, struct control_request *req)
{
	struct errbuf eb = {0};
	int err = 0;

	if (m->side == MOVER_SOURCE) {
		err = source_cancel(m->source);
	} else if (m->socket_count != 0) {
		mover_sockets_close(m); /* not begun yet */
	} else {
		err = mover_out_of_turn(req, &eb);
	}
	if (m->side == MOVER_SOURCE && err != 0) {
		(void)errbuf_set(&eb, err, "it is too late: only the owner decides now");
	}
	mover_answer_request(req, err, &eb);
}

static void mover_take(struct mover *m, struct control_request *req)
{
	struct json_at at = json_root(req->json, "request");
	struct errbuf eb = {0};
	uint64_t epoch = 0;
	int err = json_get_u64(&at, "epoch", 0, INT64_MAX, &epoch, &eb);

	if (err == 0 && m->side == MOVER_TARGET) {
		err = target_commit(m->target, epoch);
		if (err != 0 && m->committed) {
			err = 0; /* it was faster */
		} else if (err != 0) {
			(void)errbuf_set(&eb, err, "the VM has not arrived");
		} else {
			m->committed = true;
		}
	} else if (err == 0 && !(m->ended && m->result.outcome == MOVE_DONE && !m->given)) {
		err = mover_out_of_turn(req, &eb);
	}
	if (err == 0 && m->side == MOVER_NONE) {
		worker_announce(m->w); /* it ran before its owner knew: only now frames pass */
	}
	mover_answer_request(req, err, &eb);
}

static void mover_abandon(struct mover *m, struct control_request *req)
{
	struct errbuf why = {0};
	struct errbuf eb = {0};
	int err;

	mover_why(req, "the VM does not come", &why);
	if (m->side == MOVER_TARGET) {
		err = target_abandon(m->target, &why);
		if (err != 0) {
			(void)errbuf_set(&eb, err, "it is too late: the VM is here");
		}
	} else {
		err = mover_out_of_turn(req, &eb);
	}
	mover_answer_request(req, err, &eb);
}

static const struct {
	const char *cmd;
	void (*fn)(struct mover *m, struct control_request *req);
} mover_commands[] = {
	{"move-socket", mover_socket}, {"move-send", mover_source_send},
	{"move-commit", mover_commit}, {"move-refuse", mover_refuse},
	{"move-cancel", mover_cancel}, {"move-receive", mover_target_receive},
	{"move-take", mover_take},     {"move-abandon", mover_abandon},
};

/* What else is possible while a VM moves. */
static bool mover_permits(const struct mover *m, const char *cmd)
{
	static const char *const always[] = {"status", "console"};

	if (m->side == MOVER_NONE && !m->given && !worker_arriving(m->w)) {
		return true;
	}
	for (size_t i = 0; i < ARRAY_LEN(always); i++) {
		if (strcmp(cmd, always[i]) == 0) {
			return true;
		}
	}
	/* Off is a cancel first; where only the owner's word counts it has to be said. */
	return strcmp(cmd, "off") == 0 && !m->asked && (m->side == MOVER_NONE || !m->committed);
}

static bool mover_command(void *ext, struct control_request *req)
{
	struct mover *m = ext;
	struct errbuf eb = {0};

	for (size_t i = 0; i < ARRAY_LEN(mover_commands); i++) {
		if (strcmp(req->cmd, mover_commands[i].cmd) == 0) {
			mover_commands[i].fn(m, req);
			return true;
		}
	}
	if (m->given && strcmp(req->cmd, "off") == 0) {
		control_reply(req, NULL);
		worker_gone(m->w, "moved", "the VM runs on another host");
		return true;
	}
	if (mover_permits(m, req->cmd)) {
		return false;
	}
	(void)errbuf_set(&eb, -EBUSY, "the VM is being moved");
	errbuf_hint(&eb, "wait for the end of the move, or cancel it");
	control_error(req, -EBUSY, &eb);
	return true;
}

/* ---- status ---- */

static void mover_status(void *ext, struct json_build *b)
{
	static const char *const roles[] = {"none", "source", "target"};
	struct mover *m = ext;
	char text[GUID_TEXT_SIZE];
	struct json_build move;

	if (m->side == MOVER_NONE && !m->ended && !worker_arriving(m->w)) {
		return;
	}
	json_build_object(&move);
	json_add_str(&move, "role", roles[m->side]);
	json_add_bool(&move, "arriving", worker_arriving(m->w));
	json_add_bool(&move, "given", m->given);
	if (m->side != MOVER_NONE || m->ended) {
		json_add_str(&move, "move", guid_format(&m->move, text));
	}
	if (m->side != MOVER_NONE) {
		json_add_bool(&move, "ready", m->ready);
		json_add_bool(&move, "committed", m->committed);
		mover_lock(m);
		mover_progress_json(&move, &m->progress);
		mover_unlock(m);
	} else if (m->ended) {
		mover_result_json(&move, &m->result);
	}
	json_add_build(b, "move", &move);
}

/* ---- life ---- */

static int mover_create(struct worker *w, void **out, struct errbuf *eb)
{
	struct mover *m = gw_calloc(1, sizeof(*m));
	int err;

	*out = NULL;
	if (m == NULL) {
		return errbuf_sys(eb, -ENOMEM, "cannot prepare for moves");
	}
	m->w = w;
	err = tls_prepare(eb);
	if (err != 0) {
		free(m);
		return err;
	}
	err = post_create(worker_ring(w), &m->post);
	if (err != 0) {
		free(m);
		return errbuf_sys(eb, err, "cannot prepare for moves");
	}
	CHECK(pthread_mutex_init(&m->lock, NULL) == 0);
	*out = m;
	return 0;
}

static void mover_stop(void *ext, const char *why)
{
	struct mover *m = ext;
	struct errbuf eb = {0};

	(void)errbuf_set(&eb, -ECANCELED, "%s", why);
	if (m->side == MOVER_SOURCE) {
		mover_source_stop(m, why);
	} else if (m->side == MOVER_TARGET) {
		(void)target_abandon(m->target, &eb); /* or it is committed, and ends by itself */
	}
}

static bool mover_idle(const void *ext)
{
	const struct mover *m = ext;

	return m->side == MOVER_NONE && !m->timer_on;
}

static void mover_destroy(void *ext)
{
	struct mover *m = ext;

	/* The ring may have failed under a move: then the process ends, and its threads with it. */
	if (m->side != MOVER_NONE) {
		return;
	}
	mover_sockets_close(m);
	post_destroy(m->post);
	CHECK(pthread_mutex_destroy(&m->lock) == 0);
	free(m);
}

const struct worker_ext_ops mover_ext = {
	.create = mover_create,
	.command = mover_command,
	.stop = mover_stop,
	.idle = mover_idle,
	.status = mover_status,
	.destroy = mover_destroy,
};
