/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/errbuf.h"
#include "base/log.h"
#include "hv/save/save.h"
#include "hv/vsp/ic/ic.h"
#include "hv/worker/statefile.h"
#include "hv/worker/worker_int.h"

#define TAG "worker"

/* A command that ends later; only one at a time. Returns false (and answers) if one is running. */
static bool worker_begin(struct worker *w, const struct control_request *req)
{
	struct errbuf eb = {0};

	if (w->busy || w->stopping) {
		(void)errbuf_set(&eb, -EBUSY, "the VM is busy with another command");
		control_error(req, -EBUSY, &eb);
		return false;
	}
	w->busy = true;
	w->pending = *req;
	w->pending.json = NULL;
	w->pending.cmd = NULL;
	return true;
}

static void worker_finish(struct worker *w, int err, const struct errbuf *eb)
{
	w->busy = false;
	if (err != 0) {
		control_error(&w->pending, err, eb);
	} else {
		control_reply(&w->pending, NULL);
	}
}

static void worker_answer(const struct control_request *req, int err, const struct errbuf *eb)
{
	if (err != 0) {
		control_error(req, err, eb);
	} else {
		control_reply(req, NULL);
	}
}

static int worker_state_error(const struct worker *w, const char *what, struct errbuf *eb)
{
	return errbuf_set(eb, -EBUSY, "cannot %s: the VM is %s", what,
	                  partition_state_name(partition_state_get(w->partition)));
}

/* ---- the commands ---- */

static void worker_start(struct worker *w, struct control_request *req)
{
	struct errbuf eb = {0};
	int err;

	if (partition_state_get(w->partition) != PARTITION_OFF) {
		worker_answer(req, worker_state_error(w, "start", &eb), &eb);
		return;
	}
	err = partition_start(w->partition, &eb);
	if (err == 0) {
		w->started_ns = clock_now_ns();
	}
	worker_answer(req, err, &eb);
}

static void worker_paused(void *arg)
{
	struct worker *w = arg;

	worker_finish(w, 0, NULL);
}

static void worker_pause(struct worker *w, struct control_request *req)
{
	struct errbuf eb = {0};

	if (!worker_begin(w, req)) {
		return;
	}
	if (partition_pause(w->partition, worker_paused, w) != 0) {
		worker_finish(w, worker_state_error(w, "pause", &eb), &eb);
	}
}

static void worker_resume(struct worker *w, struct control_request *req)
{
	struct errbuf eb = {0};
	/* They may be given away, after a move that ended badly. */
	int err = worker_disks_retake(w, &eb);

	if (err == 0 && partition_resume(w->partition) != 0) {
		err = worker_state_error(w, "resume", &eb);
	}
	if (err == 0 && w->arrived) {
		w->arrived = false;
		worker_nics_announce(w);
	}
	worker_answer(req, err, &eb);
}

static void worker_reset(struct worker *w, struct control_request *req)
{
	struct errbuf eb = {0};
	int err = partition_reset(w->partition);

	worker_answer(req, err != 0 ? worker_state_error(w, "restart", &eb) : 0, &eb);
}

static void worker_button(struct worker *w, struct control_request *req)
{
	struct errbuf eb = {0};
	int err = partition_power_button(w->partition);

	worker_answer(req, err != 0 ? worker_state_error(w, "press the button", &eb) : 0, &eb);
}

/* The guest said whether it will. */
static void worker_shutdown_answered(void *arg, int status)
{
	struct worker *w = arg;
	struct errbuf eb = {0};

	if (status != 0) {
		(void)errbuf_set(&eb, status,
		                 status == -EIO ? "the guest refuses to shut down"
		                                : "the guest's shutdown service ended");
	}
	worker_finish(w, status, &eb);
}

static void worker_shutdown(struct worker *w, struct control_request *req)
{
	bool restart = json_is_true(json_object_get(req->json, "restart"));
	bool force = json_is_true(json_object_get(req->json, "force"));
	struct errbuf eb = {0};
	int err;

	if (!worker_begin(w, req)) {
		return;
	}
	err = w->bare ? -ENOTCONN
	              : ic_shutdown_request(w->shutdown, restart, force, "",
	                                    worker_shutdown_answered, w);
	if (err == -ENOTCONN) {
		(void)errbuf_set(&eb, err, "the guest has no shutdown service (hv_utils) running");
		errbuf_hint(&eb, "wait until it has booted, or turn the VM off");
	}
	if (err != 0) {
		worker_finish(w, err, &eb);
	}
}

static void worker_off(struct worker *w, struct control_request *req)
{
	control_reply(req, NULL);
	worker_stop(w);
}

/* The VM is paused: write all of it. */
static void worker_save_paused(void *arg)
{
	struct worker *w = arg;
	struct errbuf eb = {0};
	struct save s;
	uint8_t *blob = NULL;
	size_t len = 0;
	int err;

	save_init(&s);
	err = partition_save(w->partition, &s);
	if (err == 0) {
		err = save_finish(&s, &blob, &len);
	}
	if (err != 0) {
		(void)errbuf_sys(&eb, err, "cannot collect the VM's state");
	} else {
		err = statefile_write(w->pending_fd, &w->vm.id, partition_mem(w->partition), blob,
		                      len, &eb);
	}
	save_fini(&s);
	free(blob);
	(void)close(w->pending_fd);
	w->pending_fd = -1;
	if (err != 0) {
		log_err(TAG, "save failed vm=%s reason=%s", w->vm.name, errbuf_text(&eb, err));
		if (partition_save_cancel(w->partition) != 0 ||
		    (!w->was_paused && partition_resume(w->partition) != 0)) {
			log_err(TAG, "resume after a failed save refused vm=%s", w->vm.name);
		}
		worker_finish(w, err, &eb);
		return;
	}
	err = partition_saved(w->partition);
	worker_finish(w, err, &eb);
	worker_stop(w);
}

static int worker_fd_want(const struct control_request *req, struct errbuf *eb)
{
	if (req->fd_count != 1) {
		return errbuf_set(eb, -EINVAL, "\"%s\" needs one descriptor, got %u", req->cmd,
		                  req->fd_count);
	}
	return 0;
}

static void worker_save(struct worker *w, struct control_request *req)
{
	struct errbuf eb = {0};
	int err = worker_fd_want(req, &eb);

	if (err != 0) {
		worker_answer(req, err, &eb);
		return;
	}
	if (!worker_begin(w, req)) {
		return;
	}
	w->pending_fd = req->fds[0];
	w->was_paused = partition_state_get(w->partition) == PARTITION_PAUSED;
	if (w->was_paused) {
		req->fds[0] = -1;
		worker_save_paused(w);
		return;
	}
	req->fds[0] = -1;
	if (partition_pause(w->partition, worker_save_paused, w) != 0) {
		(void)close(w->pending_fd);
		w->pending_fd = -1;
		worker_finish(w, worker_state_error(w, "save", &eb), &eb);
	}
}

static int worker_restore_from(struct worker *w, int fd, struct errbuf *eb)
{
	struct load l;
	uint8_t *blob = NULL;
	size_t len = 0;
	int err = partition_start_paused(w->partition, eb);

	if (err != 0) {
		return err;
	}
	err = statefile_read(fd, &w->vm.id, partition_mem(w->partition), &blob, &len, eb);
	if (err == 0) {
		err = load_init(&l, blob, len, eb);
	}
	if (err == 0) {
		err = partition_load(w->partition, &l);
	}
	free(blob);
	return err;
}

static void worker_restore(struct worker *w, struct control_request *req)
{
	struct errbuf eb = {0};
	int err = worker_fd_want(req, &eb);
	bool run = !json_is_true(json_object_get(req->json, "paused"));

	if (err == 0 && partition_state_get(w->partition) != PARTITION_OFF) {
		err = worker_state_error(w, "restore", &eb);
	}
	if (err != 0) {
		worker_answer(req, err, &eb);
		return;
	}
	err = worker_restore_from(w, req->fds[0], &eb);
	if (err == 0 && run) {
		err = partition_resume(w->partition);
	}
	if (err == 0) {
		w->started_ns = clock_now_ns();
	}
	if (err == 0 && run) {
		worker_nics_announce(w);
	}
	w->arrived = err == 0 && !run;
	worker_answer(req, err, &eb);
	if (err != 0) {
		log_err(TAG, "restore failed vm=%s reason=%s", w->vm.name, errbuf_text(&eb, err));
		if (partition_state_get(w->partition) != PARTITION_OFF) {
			worker_stop(w);
		}
	}
}

static void worker_console(struct worker *w, struct control_request *req)
{
	struct errbuf eb = {0};
	int err = worker_fd_want(req, &eb);

	if (err == 0) {
		err = console_attach(w->console, req->fds[0]);
		if (err != 0) {
			(void)errbuf_set(&eb, err, "%u people are at the console already",
			                 CONSOLE_STREAMS_MAX);
		}
	}
	if (err == 0) {
		req->fds[0] = -1;
	}
	worker_answer(req, err, &eb);
}

/* What the guest tells of itself; its words, unchecked. */
static void worker_status_guest(const struct worker *w, struct json_build *b)
{
	struct ic_kvp_item items[IC_KVP_ITEMS_MAX];
	uint32_t count = ic_kvp_items(w->kvp, items, ARRAY_LEN(items));
	struct json_build guest;

	json_build_object(&guest);
	for (uint32_t i = 0; i < count; i++) {
		bool again = false;

		for (uint32_t k = 0; k < i; k++) {
			again = again || strcmp(items[k].key, items[i].key) == 0;
		}
		if (!again) {
			json_add_str(&guest, items[i].key, items[i].value);
		}
	}
	json_add_build(b, "guest", &guest);
}

static void worker_status(struct worker *w, struct control_request *req)
{
	struct json_build b;
	static const char *const health[] = {
		[IC_HEALTH_NONE] = "none",
		[IC_HEALTH_OK] = "ok",
		[IC_HEALTH_LOST] = "lost",
	};
	struct rusage usage;
	json_t *result = NULL;

	json_build_object(&b);
	json_add_str(&b, "state", partition_state_name(partition_state_get(w->partition)));
	json_add_u64(&b, "cpu_ns", partition_cpu_ns(w->partition));
	json_add_u64(&b, "uptime_ns", w->started_ns != 0 ? clock_now_ns() - w->started_ns : 0);
	json_add_str(&b, "heartbeat",
	             health[w->bare ? IC_HEALTH_NONE
	                            : ic_heartbeat_health(w->heartbeat, clock_now_ns())]);
	if (!w->bare) {
		worker_status_guest(w, &b);
	}
	if (w->ext != NULL) {
		w->ext_ops->status(w->ext, &b);
	}
	worker_nics_status(w, &b);
	if (getrusage(RUSAGE_SELF, &usage) == 0) {
		json_add_u64(&b, "resident_max_bytes", (uint64_t)usage.ru_maxrss << 10);
	}
	if (json_build_end(&b, &result) == 0) {
		json_t *storage = json_object();

		worker_storage_status(w, storage);
		(void)json_object_set_new(result, "storage", storage);
		control_reply(req, result);
	} else {
		control_error(req, -ENOMEM, NULL);
	}
}

void worker_command(struct control_request *req, void *arg)
{
	struct worker *w = arg;
	struct errbuf eb = {0};
	static const struct {
		const char *cmd;
		void (*fn)(struct worker *w, struct control_request *req);
	} commands[] = {
		{"start", worker_start},       {"pause", worker_pause},
		{"resume", worker_resume},     {"reset", worker_reset},
		{"button", worker_button},     {"off", worker_off},
		{"shutdown", worker_shutdown}, {"save", worker_save},
		{"restore", worker_restore},   {"console", worker_console},
		{"status", worker_status},
	};

	if (w->ext != NULL && w->ext_ops->command(w->ext, req)) {
		return;
	}
	if (w->bare && strcmp(req->cmd, "disk") == 0) {
		worker_bare_disk(w, req);
		return;
	}
	for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
		if (strcmp(commands[i].cmd, req->cmd) == 0) {
			commands[i].fn(w, req);
			return;
		}
	}
	(void)errbuf_set(&eb, -ENOSYS, "unknown command \"%.32s\"", req->cmd);
	control_error(req, -ENOSYS, &eb);
}
