/* SPDX-License-Identifier: Apache-2.0 */
#include "hv/worker/worker.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "base/log.h"
#include "hv/mem/gmem.h"
#include "hv/worker/sandbox.h"
#include "hv/worker/worker_int.h"

#define TAG "worker"
#define WORKER_RING_ENTRIES 1024u

static const char *const worker_end_words[] = {
	[PARTITION_POWERED_OFF] = "powered-off",
	[PARTITION_CRASHED] = "crashed",
	[PARTITION_FAILED] = "failed",
};

/* ---- what the partition tells ---- */

static void worker_console_output(void *arg, const uint8_t *buf, size_t len_bytes)
{
	struct worker *w = arg;

	console_output(w->console, buf, len_bytes);
}

static void worker_state(void *arg, enum partition_state from, enum partition_state to)
{
	struct worker *w = arg;

	if (w->control != NULL) {
		control_event(w->control, json_pack("{s:s,s:s,s:s}", "event", "state", "from",
		                                    partition_state_name(from), "state",
		                                    partition_state_name(to)));
	}
}

/* The last words: also to a file, for a node service that is not there to hear them. */
void worker_end_write(const struct worker *w, const char *reason, const char *text)
{
	struct json_build b;
	json_t *json = NULL;
	char *line = NULL;

	log_info(TAG, "ended vm=%s end=%s text=%s", w->vm.name != NULL ? w->vm.name : "?", reason,
	         text);
	json_build_object(&b);
	json_add_str(&b, "end", reason);
	json_add_str(&b, "text", text);
	if (json_build_end(&b, &json) == 0) {
		line = json_text(json, 0);
	}
	if (w->fds.end >= 0 && line != NULL &&
	    pwrite(w->fds.end, line, strlen(line), 0) != (ssize_t)strlen(line)) {
		log_warn(TAG, "end not recorded errno=%d", errno);
	}
	free(line);
	json_decref(json);
}

static void worker_ended(void *arg, enum partition_end end, const char *text)
{
	struct worker *w = arg;

	worker_end_write(w, worker_end_words[end], text);
	control_event(w->control, json_pack("{s:s,s:s,s:s}", "event", "ended", "end",
	                                    worker_end_words[end], "text", text));
	worker_stop(w);
}

static void worker_crash(void *arg, const uint64_t param[5], const char *text)
{
	struct worker *w = arg;
	struct json_build b;
	json_t *event = NULL;

	json_build_object(&b);
	json_add_str(&b, "event", "crash");
	for (uint32_t i = 0; i < 5; i++) {
		char key[4];

		(void)snprintf(key, sizeof(key), "p%u", i);
		json_add_fmt(&b, key, "0x%llx", (unsigned long long)param[i]);
	}
	json_add_str(&b, "text", text);
	if (json_build_end(&b, &event) == 0) {
		control_event(w->control, event);
	}
}

static bool worker_reset(void *arg, uint32_t count)
{
	struct worker *w = arg;

	control_event(w->control,
	              json_pack("{s:s,s:I}", "event", "reset", "count", (json_int_t)count));
	return true;
}

static const struct partition_events worker_events = {
	.console = worker_console_output,
	.state = worker_state,
	.ended = worker_ended,
	.crash = worker_crash,
	.reset = worker_reset,
};

/* ---- life ---- */

static void worker_stopped(void *arg)
{
	struct worker *w = arg;

	w->over = true;
}

static void worker_stop_for(struct worker *w, const char *why)
{
	if (w->stopping) {
		return;
	}
	w->stopping = true;
	if (w->ext != NULL) {
		w->ext_ops->stop(w->ext, why);
	}
	worker_storage_end(w);
	if (partition_state_get(w->partition) == PARTITION_OFF) {
		w->over = true;
		return;
	}
	partition_stop(w->partition, worker_stopped, w);
}

void worker_stop(struct worker *w)
{
	worker_stop_for(w, "the VM is turned off");
}

/* ---- for what the program adds ---- */

struct partition *worker_partition(struct worker *w)
{
	return w->partition;
}

const struct vm_config *worker_vm(const struct worker *w)
{
	return &w->vm;
}

struct uring *worker_ring(struct worker *w)
{
	return w->ring;
}

struct control *worker_control(struct worker *w)
{
	return w->control;
}

bool worker_arriving(const struct worker *w)
{
	return w->arriving;
}

int worker_cpu_check(const struct worker *w, const struct vm_config *vm, struct errbuf *eb)
{
	return vm->has_cpu ? partition_cpu_check(w->fds.kvm, &vm->cpu, eb) : 0;
}

bool worker_is_busy(const struct worker *w)
{
	return w->busy || w->stopping;
}

void worker_ran(struct worker *w)
{
	w->arriving = false;
	w->started_ns = clock_now_ns();
}

void worker_announce(struct worker *w)
{
	worker_nics_announce(w);
}

void worker_gone(struct worker *w, const char *end, const char *text)
{
	worker_end_write(w, end, text);
	control_event(w->control,
	              json_pack("{s:s,s:s,s:s}", "event", "ended", "end", end, "text", text));
	worker_stop_for(w, text);
}

/* ---- building ---- */

static size_t worker_console_input(const void *buf, size_t len_bytes, void *arg)
{
	struct worker *w = arg;

	return partition_console_input(w->partition, buf, len_bytes);
}

static int worker_partition_create(struct worker *w, struct errbuf *eb)
{
	const struct partition_cfg cfg = {
		.vm_name = w->vm.name,
		.memory_bytes = w->vm.memory_bytes,
		.huge_2m = w->vm.huge_pages,
		.vp_count = w->vm.cpus,
		.hyperv = !w->bare,
		.eoi_assist = w->eoi_assist,
		.kvm_fd = w->fds.kvm,
		.kernel_fd = w->fds.kernel,
		.initrd_fd = w->fds.initrd,
		.cmdline = w->vm.append,
		.generation_id = w->vm.generation_id,
		.cpuid = w->vm.has_cpu ? &w->vm.cpu : NULL,
		.ring = w->ring,
		.events = &worker_events,
		.events_arg = w,
	};
	int err = partition_create(&cfg, &w->partition, eb);

	return err != 0 ? err : worker_devices_create(w, eb);
}

static int worker_build(struct worker *w, int listen_fd, struct errbuf *eb)
{
	const struct uring_cfg ring = {.entries = WORKER_RING_ENTRIES};
	int err = uring_create(&ring, &w->ring, eb);

	if (err != 0) {
		return err;
	}
	err = console_create(w->ring, w->fds.console_log, worker_console_input, w, &w->console);
	if (err != 0) {
		return errbuf_sys(eb, err, "cannot create the console");
	}
	w->fds.console_log = -1; /* taken */
	err = worker_partition_create(w, eb);
	if (err != 0) {
		return err;
	}
	err = control_create(w->ring, listen_fd, worker_command, w, &w->control);
	if (err != 0) {
		return errbuf_sys(eb, err, "cannot serve the control socket");
	}
	worker_storage_start(w);
	return w->ext_ops != NULL ? w->ext_ops->create(w, &w->ext, eb) : 0;
}

/* The VM is off, and neither a flush nor what the program added is under way. */
static bool worker_done(const struct worker *w)
{
	return w->over && w->flushing == 0 && w->bare_ios == 0 &&
	       (w->ext == NULL || w->ext_ops->idle(w->ext));
}

static void worker_free(struct worker *w)
{
	if (w->partition != NULL && partition_state_get(w->partition) != PARTITION_OFF) {
		return; /* the ring failed: nothing can be drained, and the process ends now */
	}
	if (w->ext != NULL) {
		w->ext_ops->destroy(w->ext);
	}
	worker_nics_fini(w);
	worker_storage_fini(w);
	for (uint32_t i = 0; w->bare && !w->gone && i < w->vm.disk_count; i++) {
		worker_blk_close(w->disks[i].blk); /* no controller owns them */
	}
	partition_destroy(w->partition);
	control_destroy(w->control);
	console_destroy(w->console);
	uring_destroy(w->ring);
	worker_fds_close(w);
	vm_config_fini(&w->vm);
	free(w);
}

void worker_defer(struct worker *w, struct worker_deferred *item, void (*fn)(void *arg), void *arg)
{
	if (!item->queued) {
		item->queued = true;
		item->fn = fn;
		item->arg = arg;
		list_add_tail(&w->deferred, &item->link);
	}
}

static void worker_deferred_run(struct worker *w)
{
	struct list *link;

	while ((link = list_first(&w->deferred)) != NULL) {
		struct worker_deferred *item = list_entry(link, struct worker_deferred, link);

		list_del(link);
		item->queued = false;
		item->fn(item->arg);
	}
}

int worker_run(const struct worker_cfg *cfg, struct errbuf *eb)
{
	struct worker *w = gw_calloc(1, sizeof(*w));
	int err;

	if (w == NULL) {
		return errbuf_sys(eb, -ENOMEM, "cannot start a worker");
	}
	w->pending_fd = -1;
	w->ext_ops = cfg->ext;
	w->eoi_assist = cfg->eoi_assist;
	list_init(&w->deferred);
	(void)signal(SIGPIPE, SIG_IGN); /* a log reader that went away is no reason to die */
	err = worker_config_read(w, cfg->config_fd, eb);
	if (err == 0) {
		err = worker_build(w, cfg->listen_fd, eb);
	}
	if (err == 0 && cfg->seal) {
		err = sandbox_seal(eb);
	}
	while (err == 0 && !worker_done(w)) {
		err = uring_wait(w->ring, UINT64_MAX);
		err = err > 0 ? 0 : err;
		worker_deferred_run(w);
		if (err != 0) {
			(void)errbuf_sys(eb, err, "the worker's ring failed");
		}
	}
	if (err != 0) {
		worker_end_write(w, "failed", errbuf_text(eb, err));
	}
	worker_free(w);
	return err;
}
