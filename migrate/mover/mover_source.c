/* SPDX-License-Identifier: Apache-2.0 */

/* mover_source - the VM that runs here and shall run elsewhere. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/errbuf.h"
#include "base/log.h"
#include "base/tls.h"
#include "hv/config/vm_config.h"
#include "hv/mem/gmem.h"
#include "hv/partition/partition.h"
#include "hv/save/save.h"
#include "hv/worker/control.h"
#include "migrate/mover/mover_int.h"
#include "migrate/source/source.h"

#define TAG "mover"
#define SOURCE_RETRIES_MAX 1500u /* 30 s: whoever reads an image in between is done by then */

/* ---- the guest, for the source's thread ---- */

/* Memory that the guest never touched is not looked at: that would allocate it. */
static int mover_data(void *guest, uint32_t range, uint64_t *page, uint64_t *count)
{
	struct mover *m = guest;
	struct gmem_slot slot;

	gmem_slot(partition_mem(worker_partition(m->w)), range, &slot);
	return source_memfd_data(slot.fd, slot.fd_offset_bytes, slot.len_bytes, page, count);
}

static int mover_dirty_start(void *guest, struct errbuf *eb)
{
	struct mover *m = guest;

	return partition_dirty_start(worker_partition(m->w), eb);
}

static int mover_dirty_fetch(void *guest, uint32_t range, uint64_t *bits, size_t words)
{
	struct mover *m = guest;

	return partition_dirty_fetch(worker_partition(m->w), range, bits, words);
}

static void mover_dirty_stop(void *guest)
{
	struct mover *m = guest;

	partition_dirty_stop(worker_partition(m->w));
}

static int mover_throttle(void *guest, uint32_t percent)
{
	struct mover *m = guest;

	return partition_throttle(worker_partition(m->w), percent < PARTITION_THROTTLE_MAX
	                                                          ? percent
	                                                          : PARTITION_THROTTLE_MAX);
}

/* ---- pause: VPs, devices, disks ---- */

static void mover_resume_do(struct mover *m);

static void mover_paused(struct mover *m, int err)
{
	struct errbuf eb = {0};

	m->pausing = false;
	if (err != 0) {
		(void)errbuf_sys(&eb, err, "the VM's disks cannot be flushed");
		if (partition_resume(worker_partition(m->w)) != 0) {
			log_warn(TAG, "not resumed vm=%s", worker_vm(m->w)->name);
		}
	}
	mover_answer(&m->pause, err, &eb);
	if (m->resume_due) {
		m->resume_due = false;
		mover_resume_do(m);
	}
}

static void mover_disks_released(void *arg, int err)
{
	struct mover *m = arg;

	/* Turned off while the disks were flushed: the pause has been answered. */
	if (m->pausing) {
		mover_paused(m, err);
	}
}

static void mover_partition_paused(void *arg)
{
	struct mover *m = arg;

	worker_disks_release(m->w, mover_disks_released, m);
}

static void mover_pause_do(void *arg)
{
	struct mover *m = arg;
	struct partition *p = worker_partition(m->w);
	struct errbuf eb = {0};

	/* Before: without devices it is answered from inside. */
	m->pausing = true;
	if (worker_is_busy(m->w) || partition_pause(p, mover_partition_paused, m) != 0) {
		m->pausing = false;
		(void)errbuf_set(&eb, -EBUSY, "the VM cannot be stopped: it is %s",
		                 partition_state_name(partition_state_get(p)));
		mover_answer(&m->pause, -EBUSY, &eb);
	}
}

static void mover_pause(void *guest, move_done_fn done, void *arg)
{
	struct mover *m = guest;

	/* Before its answer can come, from another thread. */
	mover_ask(m, &m->pause, mover_pause_do, done, arg);
}

/* ---- resume ---- */

static void mover_resume_do(struct mover *m)
{
	struct partition *p = worker_partition(m->w);
	enum partition_state state = partition_state_get(p);
	struct errbuf eb = {0};
	int err = 0;

	/* Any other state: it runs, or is on its way off by itself. */
	if (state == PARTITION_PAUSED || state == PARTITION_SAVING) {
		err = worker_disks_retake(m->w, &eb);
		if (err == -EBUSY && !worker_is_busy(m->w) && m->tries++ < SOURCE_RETRIES_MAX) {
			mover_later(m, mover_resume_do);
			return;
		}
		if (err == 0) {
			err = partition_resume(p);
		}
	}
	if (err != 0) {
		log_err(TAG, "cannot resume vm=%s reason=%s", worker_vm(m->w)->name,
		        errbuf_text(&eb, err));
	}
	mover_answer(&m->resume, err, &eb);
}

static void mover_resume_asked(void *arg)
{
	struct mover *m = arg;

	m->tries = 0;
	if (m->pausing) {
		m->resume_due = true;
	} else {
		mover_resume_do(m);
	}
}

static void mover_resume(void *guest, move_done_fn done, void *arg)
{
	struct mover *m = guest;

	mover_ask(m, &m->resume, mover_resume_asked, done, arg);
}

/* ---- save ---- */

static void mover_save_do(void *arg)
{
	struct mover *m = arg;
	struct errbuf eb = {0};
	struct save s;
	int err;

	save_init(&s);
	err = partition_save(worker_partition(m->w), &s);
	if (err == 0) {
		err = save_finish(&s, m->save_buf, m->save_bytes);
	}
	save_fini(&s);
	if (err != 0) {
		(void)errbuf_sys(&eb, err, "cannot collect the VM's state");
	}
	mover_answer(&m->save, err, &eb);
}

static void mover_save(void *guest, uint8_t **buf, size_t *len_bytes, move_done_fn done, void *arg)
{
	struct mover *m = guest;

	m->save_buf = buf;
	m->save_bytes = len_bytes;
	mover_ask(m, &m->save, mover_save_do, done, arg);
}

static const struct source_guest_ops mover_source_ops = {
	.map = mover_memory,
	.data = mover_data,
	.dirty_start = mover_dirty_start,
	.dirty_fetch = mover_dirty_fetch,
	.dirty_stop = mover_dirty_stop,
	.throttle = mover_throttle,
	.pause = mover_pause,
	.resume = mover_resume,
	.save = mover_save,
};

/* ---- events ---- */

static void mover_source_progress(void *arg, const struct move_progress *p)
{
	struct mover *m = arg;

	mover_lock(m);
	m->progress = *p;
	mover_unlock(m);
	mover_tell(m, MOVER_PROGRESS);
}

static void mover_source_ready(void *arg, uint64_t deadline_ns)
{
	struct mover *m = arg;

	mover_lock(m);
	m->deadline_ns = deadline_ns;
	mover_unlock(m);
	mover_tell(m, MOVER_READY);
}

static void mover_source_lost(void *arg, const struct errbuf *why)
{
	struct mover *m = arg;

	mover_lock(m);
	m->why = *why;
	mover_unlock(m);
	mover_tell(m, MOVER_LOST);
}

static void mover_source_result(void *arg, const struct move_result *r)
{
	struct mover *m = arg;

	m->result = *r;
	mover_tell(m, MOVER_ENDED);
}

static const struct source_events mover_source_events = {
	.progress = mover_source_progress,
	.ready = mover_source_ready,
	.lost = mover_source_lost,
	.ended = mover_source_result,
};

void mover_source_ended(struct mover *m)
{
	/* Never again here. The worker stays, paused, until its owner has noticed. A check is no
	 * move. */
	m->given = m->committed;
}

void mover_source_stop(struct mover *m, const char *why)
{
	struct errbuf eb = {0};

	/* What was begun is answered here: a partition that stops does not answer it any more. */
	(void)errbuf_set(&eb, -ECANCELED, "%s", why);
	if (m->pausing) {
		m->pausing = false;
		mover_answer(&m->pause, -ECANCELED, &eb);
	}
	if (m->resume_due) {
		m->resume_due = false;
		mover_answer(&m->resume, 0, NULL);
	}
	(void)source_cancel(m->source); /* -EBUSY: the owner's answer ends it */
}

/* ---- start ---- */

static int mover_policy_read(const struct json_at *at, struct policy_cfg *policy, struct errbuf *eb)
{
	uint64_t rounds = 0;
	uint64_t throttle = 0;
	const char *bad;
	int err;

	policy_defaults(policy);
	rounds = policy->rounds_max;
	throttle = policy->throttle_max_percent;
	err = json_opt_u64(at, "blackout_max_ns", 1, UINT64_MAX, &policy->blackout_max_ns, eb);
	if (err == 0) {
		err = json_opt_u64(at, "time_max_ns", 0, INT64_MAX, &policy->time_max_ns, eb);
	}
	if (err == 0) {
		err = json_opt_u64(at, "rounds_max", 2, 1000, &rounds, eb);
	}
	if (err == 0) {
		err = json_opt_u64(at, "throttle_max_percent", 0, PARTITION_THROTTLE_MAX, &throttle,
		                   eb);
	}
	policy->rounds_max = (uint32_t)rounds;
	policy->throttle_max_percent = (uint32_t)throttle;
	bad = err == 0 ? policy_cfg_valid(policy) : NULL;
	return bad != NULL ? json_error(at, eb, -EINVAL, "%s", bad) : err;
}

static int mover_start_read(struct mover *m, const struct json_at *at, struct source_cfg *cfg,
                            struct mover_common *common, struct errbuf *eb)
{
	static const char *const modes[] = {"live", "quick", "check"};
	static const enum stream_mode mode_values[] = {STREAM_MODE_LIVE, STREAM_MODE_QUICK,
	                                               STREAM_MODE_CHECK};
	static const char *const packs[] = {"none", "lz4", "zstd"};
	size_t mode = 0;
	size_t pack = 0;
	bool crc = true;
	int err = mover_common_read(m, at, common, eb);

	if (err == 0) {
		err = json_opt_word(at, "mode", modes, ARRAY_LEN(modes), &mode, eb);
	}
	if (err == 0) {
		err = json_opt_word(at, "compress", packs, ARRAY_LEN(packs), &pack, eb);
	}
	if (err == 0) {
		err = json_get_u64(at, "epoch_next", common->epoch + 1, INT64_MAX, &cfg->epoch_next,
		                   eb);
	}
	if (err == 0) {
		err = json_opt_str(at, "peer", TLS_NAME_MAX - 1, &cfg->peer_name, eb);
	}
	if (err == 0) {
		err = json_opt_u64(at, "bandwidth_bytes_s", 0, INT64_MAX,
		                   &cfg->bandwidth_max_bytes_s, eb);
	}
	if (err == 0) {
		err = json_opt_bool(at, "crc", &crc, eb);
	}
	if (err == 0) {
		err = mover_policy_read(at, &cfg->policy, eb);
	}
	cfg->no_bulk_crc = !crc;
	cfg->mode = mode_values[mode];
	cfg->pack = (enum source_pack)pack;
	cfg->move = m->move;
	cfg->epoch = common->epoch;
	cfg->silence_max_ns = common->silence_max_ns;
	memcpy(cfg->token, common->token, sizeof(cfg->token));
	return err;
}

static int mover_send_check(struct mover *m, struct errbuf *eb)
{
	enum partition_state state = partition_state_get(worker_partition(m->w));

	if (m->side != MOVER_NONE || m->given || worker_arriving(m->w)) {
		return errbuf_set(eb, -EBUSY, "the VM is being moved already");
	}
	if (state != PARTITION_RUNNING || worker_is_busy(m->w)) {
		return errbuf_set(eb, -EBUSY, "cannot move: the VM is %s%s",
		                  partition_state_name(state),
		                  state == PARTITION_RUNNING ? " and busy" : "");
	}
	return 0;
}

/* What the destination is told that comes: as the service says, or as this worker was told. */
static int mover_definition(struct mover *m, const struct json_at *at, char **out,
                            struct errbuf *eb)
{
	struct json_at definition;
	int err = json_opt(at, "definition", &definition, eb);

	*out = NULL;
	if (err == 0 && definition.value != NULL) {
		err = json_as_object(&definition, eb);
	}
	if (err == 0) {
		*out = json_text(
			definition.value != NULL ? definition.value : worker_vm(m->w)->json, 0);
		err = *out != NULL ? 0 : errbuf_sys(eb, -ENOMEM, "cannot move");
	}
	return err;
}

static int mover_source_create(struct mover *m, struct source_cfg *cfg, struct errbuf *eb)
{
	int err;

	/* Before it begins: its news may come at once. */
	m->side = MOVER_SOURCE;
	m->ready = m->asked = m->committed = m->ended = false;
	m->progress = (struct move_progress){.forecast_finish_ns = UINT64_MAX};
	cfg->vm = worker_vm(m->w)->id;
	cfg->tls = m->tls;
	cfg->fds = m->sockets;
	cfg->fd_count = m->socket_count;
	cfg->ops = &mover_source_ops;
	cfg->guest = m;
	cfg->events = &mover_source_events;
	cfg->arg = m;
	m->socket_count = 0; /* taken, whatever it answers */
	err = source_create(cfg, &m->source, eb);
	if (err != 0) {
		m->side = MOVER_NONE;
	}
	return err;
}

void mover_source_send(struct mover *m, struct control_request *req)
{
	struct json_at at = json_root(req->json, "request");
	struct source_cfg cfg = {0};
	struct mover_common common = {0};
	struct errbuf eb = {0};
	char *definition = NULL;
	int err = mover_send_check(m, &eb);

	if (err != 0) {
		control_error(req, err, &eb);
		return;
	}
	err = mover_start_read(m, &at, &cfg, &common, &eb);
	if (err == 0) {
		err = mover_definition(m, &at, &definition, &eb);
	}
	if (err == 0) {
		cfg.plain = common.plain;
		cfg.definition = definition;
		cfg.definition_bytes = strlen(definition);
		err = mover_source_create(m, &cfg, &eb);
	}
	free(definition);
	mover_sockets_close(m);
	if (err != 0) {
		tls_ctx_destroy(m->tls);
		m->tls = NULL;
		control_error(req, err, &eb);
		return;
	}
	control_reply(req, NULL);
}
