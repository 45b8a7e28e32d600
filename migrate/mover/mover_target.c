/* SPDX-License-Identifier: Apache-2.0 */

/* mover_target - a worker whose VM is to arrive. */

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/errbuf.h"
#include "base/log.h"
#include "base/tls.h"
#include "hv/config/vm_config.h"
#include "hv/partition/partition.h"
#include "hv/save/save.h"
#include "hv/worker/control.h"
#include "migrate/mover/mover_int.h"
#include "migrate/target/target.h"

#define TAG "mover"
#define TARGET_RETRIES_MAX 500u /* 10 s */

/* ---- the checks; on the target's thread: only what does not change ---- */

static void mover_check_disks(const struct mover *m, struct compat *report)
{
	const struct vm_config *vm = worker_vm(m->w);

	for (uint32_t i = 0; i < vm->disk_count; i++) {
		int fd = worker_disk_file(m->w, i);
		uint8_t head[512];

		/* Only looked at: the source writes to it. */
		if (fd >= 0 && pread(fd, head, sizeof(head), 0) < 0) {
			compat_add(report, COMPAT_BLOCKER, "disk-unreadable", "disk %s: %s",
			           vm->disks[i].path, strerrordesc_np(errno));
			compat_hint(report, "check that this host reaches the storage");
		}
	}
}

static void mover_check_same(const struct vm_config *here, const struct vm_config *there,
                             struct compat *report)
{
	if (!guid_equal(&here->id, &there->id)) {
		compat_add(report, COMPAT_BLOCKER, "vm-id", "it is another VM: %s", there->name);
	}
	if (here->memory_bytes != there->memory_bytes || here->cpus != there->cpus) {
		compat_add(report, COMPAT_BLOCKER, "vm-size",
		           "%u processors and %llu MiB were prepared, it has %u and %llu MiB",
		           here->cpus, (unsigned long long)(here->memory_bytes >> 20), there->cpus,
		           (unsigned long long)(there->memory_bytes >> 20));
	}
	if (here->disk_count != there->disk_count || here->nic_count != there->nic_count) {
		compat_add(report, COMPAT_BLOCKER, "vm-devices",
		           "%u disks and %u adapters were prepared, it has %u and %u",
		           here->disk_count, here->nic_count, there->disk_count, there->nic_count);
	}
}

static void mover_check(void *guest, const char *definition, size_t len_bytes,
                        struct compat *report)
{
	struct mover *m = guest;
	struct vm_config there = {0};
	struct errbuf eb = {0};
	json_t *json = NULL;
	int err = json_parse(definition, len_bytes, NULL, &json, &eb);

	if (err == 0) {
		err = vm_config_decode(json, &there, &eb);
	}
	if (err != 0) {
		compat_add(report, COMPAT_BLOCKER, "definition", "the VM's definition: %s",
		           errbuf_text(&eb, err));
		compat_hint(report, "the hosts may run versions that are too far apart");
		json_decref(json);
		return;
	}
	mover_check_same(worker_vm(m->w), &there, report);
	err = worker_cpu_check(m->w, &there, &eb);
	if (err != 0) {
		compat_add(report, COMPAT_BLOCKER, "cpu", "%s", errbuf_text(&eb, err));
		compat_hint(report, eb.hint);
	}
	mover_check_disks(m, report);
	vm_config_fini(&there);
	json_decref(json);
}

/* ---- the guest ---- */

static void mover_prepare_do(void *arg)
{
	struct mover *m = arg;
	struct errbuf eb = {0};
	int err;

	if (worker_is_busy(m->w)) {
		err = errbuf_set(&eb, -ECANCELED, "the worker ends");
	} else {
		err = partition_start_paused(worker_partition(m->w), &eb);
	}
	mover_answer(&m->prepare, err, &eb);
}

static void mover_prepare(void *guest, const char *definition, size_t len_bytes, move_done_fn done,
                          void *arg)
{
	struct mover *m = guest;

	(void)definition; /* the worker has the same, checked, with descriptors for it */
	(void)len_bytes;
	mover_ask(m, &m->prepare, mover_prepare_do, done, arg);
}

static void mover_load_do(void *arg)
{
	struct mover *m = arg;
	struct errbuf eb = {0};
	struct load l;
	int err = load_init(&l, m->load_buf, m->load_bytes, &eb);

	if (err == 0) {
		err = partition_load(worker_partition(m->w), &l);
	}
	if (err != 0) {
		(void)errbuf_sys(&eb, err, "the VM's state cannot be loaded");
	}
	mover_answer(&m->load, err, &eb);
}

static void mover_load(void *guest, const uint8_t *buf, size_t len_bytes, move_done_fn done,
                       void *arg)
{
	struct mover *m = guest;

	m->load_buf = buf;
	m->load_bytes = len_bytes;
	mover_ask(m, &m->load, mover_load_do, done, arg);
}

static void mover_run_again(struct mover *m);

static void mover_run_do(void *arg)
{
	struct mover *m = arg;
	struct partition *p = worker_partition(m->w);
	struct errbuf eb = {0};
	int err;

	if (worker_is_busy(m->w) || partition_state_get(p) != PARTITION_PAUSED) {
		err = errbuf_set(&eb, -ECANCELED, "the worker ends");
	} else {
		err = worker_disks_open(m->w, &eb);
		/* Somebody reads an image, or the source's lock is still on its way off. */
		if (err == -EBUSY && m->tries++ < TARGET_RETRIES_MAX) {
			mover_later(m, mover_run_again);
			return;
		}
	}
	if (err == 0) {
		err = partition_resume(p);
	}
	if (err == 0) {
		worker_ran(m->w);
	} else {
		log_err(TAG, "cannot run what arrived vm=%s reason=%s", worker_vm(m->w)->name,
		        errbuf_text(&eb, err));
	}
	mover_answer(&m->run, err, &eb);
}

/* Opening the disks waits for the ring. */
static void mover_run_again(struct mover *m)
{
	worker_defer(m->w, &m->opening, mover_run_do, m);
}

static void mover_run_asked(void *arg)
{
	struct mover *m = arg;

	m->tries = 0;
	mover_run_again(m);
}

static void mover_run(void *guest, move_done_fn done, void *arg)
{
	struct mover *m = guest;

	mover_ask(m, &m->run, mover_run_asked, done, arg);
}

static void mover_announce_do(void *arg)
{
	struct mover *m = arg;

	worker_announce(m->w);
}

static void mover_announce(void *guest)
{
	struct mover *m = guest;

	post_call(m->post, &m->announce.item, mover_announce_do, m);
}

static const struct target_guest_ops mover_target_ops = {
	.check = mover_check,
	.prepare = mover_prepare,
	.map = mover_memory,
	.load = mover_load,
	.run = mover_run,
	.announce = mover_announce,
};

/* ---- events ---- */

static void mover_target_progress(void *arg, const struct move_progress *p)
{
	struct mover *m = arg;

	mover_lock(m);
	m->progress = *p;
	mover_unlock(m);
	mover_tell(m, MOVER_PROGRESS);
}

static void mover_target_ready(void *arg)
{
	mover_tell(arg, MOVER_READY);
}

static void mover_target_committed(void *arg, uint64_t epoch)
{
	struct mover *m = arg;

	mover_lock(m);
	m->epoch = epoch;
	mover_unlock(m);
	mover_tell(m, MOVER_COMMITTED);
}

static void mover_target_orphaned(void *arg, const struct errbuf *why)
{
	struct mover *m = arg;

	mover_lock(m);
	m->why = *why;
	mover_unlock(m);
	mover_tell(m, MOVER_ORPHANED);
}

static void mover_target_result(void *arg, const struct move_result *r)
{
	struct mover *m = arg;

	m->result = *r;
	mover_tell(m, MOVER_ENDED);
}

static const struct target_events mover_target_events = {
	.progress = mover_target_progress,
	.ready = mover_target_ready,
	.committed = mover_target_committed,
	.orphaned = mover_target_orphaned,
	.ended = mover_target_result,
};

void mover_target_ended(struct mover *m)
{
	const struct move_result *r = &m->result;

	if (r->outcome == MOVE_UNKNOWN) {
		/* Ours, but it does not run: as after a crash. */
		worker_gone(m->w, "failed", errbuf_text(&r->why, r->err));
	} else if (r->outcome != MOVE_DONE || worker_arriving(m->w)) {
		worker_gone(m->w, "not-moved",
		            r->err != 0 ? errbuf_text(&r->why, r->err) : "it was only checked");
	}
}

/* ---- commands ---- */

static int mover_receive_read(struct mover *m, const struct json_at *at, struct target_cfg *cfg,
                              struct mover_common *common, struct errbuf *eb)
{
	static const char *const fills[] = {"none", "ahead", "all"};
	size_t fill = 0;
	int err = mover_common_read(m, at, common, eb);

	if (err == 0) {
		err = json_opt_word(at, "fill", fills, ARRAY_LEN(fills), &fill, eb);
	}
	if (err == 0) {
		err = json_opt_bool(at, "confirm", &cfg->confirm, eb);
	}
	if (err == 0) {
		err = json_opt_u64(at, "connect_max_ns", 0, INT64_MAX, &cfg->connect_max_ns, eb);
	}
	cfg->fill = (enum target_fill)fill;
	cfg->vm = worker_vm(m->w)->id;
	cfg->move = m->move;
	cfg->epoch = common->epoch;
	memcpy(cfg->token, common->token, sizeof(cfg->token));
	cfg->plain = common->plain;
	cfg->memory_max_bytes = worker_vm(m->w)->memory_bytes;
	cfg->silence_max_ns = common->silence_max_ns;
	cfg->ops = &mover_target_ops;
	cfg->guest = m;
	cfg->events = &mover_target_events;
	cfg->arg = m;
	return err;
}

void mover_target_receive(struct mover *m, struct control_request *req)
{
	struct json_at at = json_root(req->json, "request");
	struct target_cfg cfg = {0};
	struct mover_common common = {0};
	struct errbuf eb = {0};
	int err;

	if (m->side != MOVER_NONE || !worker_arriving(m->w) || worker_is_busy(m->w)) {
		(void)errbuf_set(&eb, -EBUSY, "this worker does not wait for a VM");
		control_error(req, -EBUSY, &eb);
		return;
	}
	err = mover_receive_read(m, &at, &cfg, &common, &eb);
	if (err == 0) {
		m->side = MOVER_TARGET;
		m->ready = m->asked = m->committed = m->ended = false;
		m->progress = (struct move_progress){.forecast_finish_ns = UINT64_MAX};
		cfg.tls = m->tls;
		err = target_create(&cfg, &m->target, &eb);
	}
	if (err != 0) {
		m->side = MOVER_NONE;
		tls_ctx_destroy(m->tls);
		m->tls = NULL;
		control_error(req, err, &eb);
		return;
	}
	control_reply(req, NULL);
}
