/* SPDX-License-Identifier: Apache-2.0 */

/* vm - the life cycle of one VM, seen from the node service. */

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/errbuf.h"
#include "base/fs.h"
#include "base/log.h"
#include "hv/manager/manager_int.h"

#define TAG "manager"
#define VM_OFF_WAIT_NS (10 * NS_PER_S)     /* a worker that was told to end and has not */
#define VM_RESTART_DELAY_NS (2 * NS_PER_S) /* doubled each time */
#define VM_RESTARTS_MAX 5u
#define VM_END_BYTES_MAX 1024u

static const char *const vm_state_names[VM_STATE_COUNT] = {
	[VM_OFF] = "off",           [VM_STARTING] = "starting", [VM_RUNNING] = "running",
	[VM_PAUSED] = "paused",     [VM_SAVING] = "saving",     [VM_SAVED] = "saved",
	[VM_STOPPING] = "stopping", [VM_CRASHED] = "crashed",   [VM_ARRIVING] = "arriving",
	[VM_MOVED] = "moved",       [VM_CRITICAL] = "critical",
};

#define BIT(s) (1u << (s))

static const uint32_t vm_moves[VM_STATE_COUNT] = {
	[VM_OFF] = BIT(VM_STARTING) | BIT(VM_RUNNING) | BIT(VM_PAUSED) | BIT(VM_SAVED) |
                   BIT(VM_CRASHED) | BIT(VM_ARRIVING) |
                   BIT(VM_MOVED), /* the last six, but ARRIVING: found so at adoption */
	[VM_STARTING] = BIT(VM_RUNNING) | BIT(VM_PAUSED) | BIT(VM_OFF) | BIT(VM_SAVED) |
                        BIT(VM_CRASHED) | BIT(VM_STOPPING),
	/* To SAVED: a service that has ended since had asked for it. */
	[VM_RUNNING] = BIT(VM_PAUSED) | BIT(VM_SAVING) | BIT(VM_SAVED) | BIT(VM_STOPPING) |
                       BIT(VM_OFF) | BIT(VM_CRASHED) | BIT(VM_MOVED) | BIT(VM_CRITICAL),
	[VM_PAUSED] = BIT(VM_RUNNING) | BIT(VM_SAVING) | BIT(VM_SAVED) | BIT(VM_STOPPING) |
                      BIT(VM_OFF) | BIT(VM_CRASHED) | BIT(VM_MOVED),
	[VM_SAVING] = BIT(VM_RUNNING) | BIT(VM_PAUSED) | BIT(VM_SAVED) | BIT(VM_OFF) |
                      BIT(VM_CRASHED) | BIT(VM_STOPPING),
	[VM_SAVED] = BIT(VM_STARTING) | BIT(VM_OFF),
	/* To SAVED: turned off before a restore was through. */
	[VM_STOPPING] =
		BIT(VM_OFF) | BIT(VM_RUNNING) | BIT(VM_PAUSED) | BIT(VM_SAVED) | BIT(VM_CRASHED),
	[VM_CRASHED] = BIT(VM_STARTING) | BIT(VM_OFF),
	[VM_ARRIVING] = BIT(VM_RUNNING) | BIT(VM_CRASHED),
	[VM_MOVED] = 0,
	[VM_CRITICAL] =
		BIT(VM_RUNNING) | BIT(VM_SAVED) | BIT(VM_STOPPING) | BIT(VM_OFF) | BIT(VM_CRASHED),
};

const char *vm_state_name(enum vm_state state)
{
	return vm_state_names[state];
}

const struct vm_config *vm_config_get(const struct vm *vm)
{
	return &vm->config;
}

enum vm_state vm_state_get(const struct vm *vm)
{
	return vm->state;
}

const char *vm_log_path(const struct vm *vm)
{
	return vm->log_path;
}

void vm_event(struct vm *vm, const char *event, const char *fmt, ...)
{
	const struct manager_cfg *cfg = &vm->manager->cfg;
	char text[512];
	va_list ap;
	json_t *json;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	log_info(TAG, "%s vm=%s text=\"%s\"", event, vm->config.name, text);
	json = json_pack("{s:s,s:s,s:s,s:I}", "event", event, "vm", vm->config.name, "text", text,
	                 "time_ns", (json_int_t)clock_wall_ns());
	if (json != NULL && cfg->events != NULL) {
		cfg->events->event(cfg->events_arg, json);
	}
	json_decref(json);
}

void vm_move(struct vm *vm, enum vm_state next)
{
	enum vm_state from = vm->state;

	if (from == next) {
		return;
	}
	CHECK((vm_moves[from] & BIT(next)) != 0);
	vm->state = next;
	vm_event(vm, "vm.state", "%s -> %s", vm_state_names[from], vm_state_names[next]);
}

void vm_init(struct vm *vm, struct manager *m, const struct vm_config *config, uint32_t slot)
{
	char id[GUID_TEXT_SIZE];

	memset(vm, 0, sizeof(*vm));
	list_init(&vm->link);
	vm->manager = m;
	vm->config = *config;
	vm->slot = slot;
	vm->epoch = 1;
	(void)guid_format(&config->id, id);
	(void)snprintf(vm->dir, sizeof(vm->dir), "%.400s/vm/%s", m->cfg.state_dir, id);
	(void)snprintf(vm->run_dir, sizeof(vm->run_dir), "%.400s/vm/%s", m->cfg.run_dir, id);
	(void)snprintf(vm->log_path, sizeof(vm->log_path), "%.450s/console.log", vm->dir);
	(void)snprintf(vm->saved_path, sizeof(vm->saved_path), "%.450s/saved.state", vm->dir);
	(void)snprintf(vm->saving_path, sizeof(vm->saving_path), "%.450s/saving.state", vm->dir);
	(void)snprintf(vm->end_path, sizeof(vm->end_path), "%.450s/end.json", vm->run_dir);
	(void)snprintf(vm->socket_path, sizeof(vm->socket_path), "%.450s/control.sock",
	               vm->run_dir);
	(void)snprintf(vm->hold_path, sizeof(vm->hold_path), "%.450s/move.hold", vm->run_dir);
	(void)snprintf(vm->pid_path, sizeof(vm->pid_path), "%.450s/worker.pid", vm->run_dir);
}

void vm_free(struct vm *vm)
{
	vm_move_fini(vm);
	burial_leave(vm);
	link_close(vm->worker);
	loop_timer_del(vm->kill_timer);
	loop_timer_del(vm->restart_timer);
	json_decref(vm->status);
	vm_config_fini(&vm->config);
	free(vm);
}

/* The worker says when its storage keeps it from running; while an operation is under way that has
 * to wait. */
static void vm_critical_look(struct vm *vm)
{
	if (vm->op != VM_OP_NONE) {
		return;
	}
	if (vm->critical && vm->state == VM_RUNNING) {
		vm_move(vm, VM_CRITICAL);
		vm_event(vm, "vm.critical", "%s", vm->trouble);
	} else if (!vm->critical && vm->state == VM_CRITICAL) {
		vm_move(vm, VM_RUNNING);
	}
}

void vm_finish(struct vm *vm, int err, const struct errbuf *eb)
{
	vm_done_fn done = vm->done;

	vm->op = VM_OP_NONE;
	vm->done = NULL;
	vm_critical_look(vm);
	if (done != NULL) {
		done(vm->done_arg, err, eb);
	}
}

/* Take up an operation. Returns false, and has told @done, if the VM cannot now. */
static bool vm_begin(struct vm *vm, enum vm_op op, uint32_t states, const char *what,
                     vm_done_fn done, void *arg)
{
	struct errbuf eb = {0};

	if (vm->op != VM_OP_NONE) {
		done(arg,
		     errbuf_set(&eb, -EBUSY, "%s is busy with another operation", vm->config.name),
		     &eb);
		return false;
	}
	if (vm->pid != 0 && vm->worker == NULL && op != VM_OP_STOP) {
		done(arg,
		     errbuf_set(&eb, -EBUSY, "the worker of %s has not ended", vm->config.name),
		     &eb);
		return false;
	}
	if ((states & BIT(vm->state)) == 0) {
		done(arg,
		     errbuf_set(&eb, -EBUSY, "cannot %s %s: it is %s", what, vm->config.name,
		                vm_state_names[vm->state]),
		     &eb);
		return false;
	}
	vm->op = op;
	vm->done = done;
	vm->done_arg = arg;
	return true;
}

/* A copy of a VM that a cluster runs: what happens to it is not for this host to decide. */
static bool vm_is_theirs(const struct vm *vm, const char *what, vm_done_fn done, void *arg)
{
	struct errbuf eb = {0};
	int err;

	if (!vm->cluster) {
		return false;
	}
	err = errbuf_set(&eb, -EPERM,
	                 "cannot %s %s: it belongs to a cluster, and may run on another node", what,
	                 vm->config.name);
	errbuf_hint(&eb, "godwit vm remove %s removes this host's copy; the disks stay",
	            vm->config.name);
	done(arg, err, &eb);
	return true;
}

/* ---- start ---- */

static void vm_dir_sync(const struct vm *vm)
{
	struct errbuf eb = {0};
	int err = fs_sync_dir(vm->dir, &eb);

	if (err != 0) {
		log_warn(TAG, "folder not synced vm=%s reason=%s", vm->config.name,
		         errbuf_text(&eb, err));
	}
}

/* It could not be started, or must not run. */
static void vm_start_failed(struct vm *vm, int err, const struct errbuf *eb)
{
	struct errbuf why = {0};

	(void)errbuf_set(&why, err, "%s", errbuf_text(eb, err));
	errbuf_hint(&why, "%s", eb->hint);
	(void)snprintf(vm->last_error, sizeof(vm->last_error), "%s", why.text);
	vm->asked_off = true;
	vm_kill(vm);
	vm_finish(vm, err, &why);
}

static void vm_start_answer(void *arg, int err, json_t *result, const struct errbuf *eb)
{
	struct vm *vm = arg;

	(void)result;
	if (err == -EPIPE || vm->op != VM_OP_START) {
		return; /* vm_worker_gone() comes and knows more */
	}
	if (err != 0) {
		vm_start_failed(vm, err, eb);
		return;
	}
	vm->started_wall_ns = clock_wall_ns();
	vm_move(vm, VM_RUNNING);
	vm_finish(vm, 0, NULL);
}

/* The saved state is in the worker, which stands still: only when no second restore is possible
 * any more may it run and write to its disks. */
static void vm_restore_answer(void *arg, int err, json_t *result, const struct errbuf *eb)
{
	struct vm *vm = arg;
	struct errbuf why = {0};

	(void)result;
	if (err == -EPIPE || vm->op != VM_OP_START) {
		return;
	}
	if (err == 0) {
		err = vm_saved_forget(vm, &why);
		eb = &why;
	}
	if (err == 0) {
		err = link_request(vm->worker, "resume", NULL, -1, vm_start_answer, vm);
	}
	if (err != 0) {
		vm_start_failed(vm, err, eb);
	}
}

static int vm_start_request(struct vm *vm, bool restore)
{
	json_t *paused;
	int fd;
	int err;

	if (!restore) {
		return link_request(vm->worker, "start", NULL, -1, vm_start_answer, vm);
	}
	fd = open(vm->saved_path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		return -errno;
	}
	paused = json_pack("{s:b}", "paused", 1);
	err = paused == NULL
	              ? -ENOMEM
	              : link_request(vm->worker, "restore", paused, fd, vm_restore_answer, vm);
	(void)close(fd);
	return err;
}

int vm_worker_make(struct vm *vm, struct errbuf *eb)
{
	int err = fs_mkdirs(vm->dir, 0700, eb);

	vm->last_error[0] = '\0';
	vm->asked_off = false;
	if (err == 0) {
		err = fs_mkdirs(vm->run_dir, 0700, eb);
	}
	if (err == 0) {
		err = vm_spawn(vm, eb);
	}
	if (err != 0) {
		return err;
	}
	err = vm_link(vm);
	if (err != 0) {
		(void)errbuf_sys(eb, err, "cannot reach the worker of %s", vm->config.name);
		vm_worker_end(vm);
	}
	return err;
}

static void vm_start_begin(struct vm *vm)
{
	bool restore = vm->state == VM_SAVED;
	struct errbuf eb = {0};
	int err = fs_mkdirs(vm->dir, 0700, &eb);

	vm->last_error[0] = '\0';
	vm->asked_off = false;
	if (err == 0) {
		err = fs_mkdirs(vm->run_dir, 0700, &eb);
	}
	if (err == 0) {
		err = vm_spawn(vm, &eb);
	}
	if (err != 0) {
		errbuf_prepend(&eb, "cannot start %s", vm->config.name);
		(void)snprintf(vm->last_error, sizeof(vm->last_error), "%.479s", eb.text);
		vm_finish(vm, err, &eb);
		return;
	}
	vm_move(vm, VM_STARTING);
	err = vm_link(vm);
	if (err == 0) {
		err = vm_start_request(vm, restore);
	}
	if (err != 0) {
		(void)errbuf_sys(&eb, err, "cannot start %s", vm->config.name);
		vm->asked_off = true;
		vm_kill(vm);
		if (vm->worker == NULL) {
			vm_worker_gone(vm);
		}
		vm_finish(vm, err, &eb);
	}
}

void vm_start(struct vm *vm, vm_done_fn done, void *arg)
{
	if (!vm_is_theirs(vm, "start", done, arg)) {
		vm_start_owned(vm, done, arg);
	}
}

void vm_start_owned(struct vm *vm, vm_done_fn done, void *arg)
{
	if (vm_begin(vm, VM_OP_START, BIT(VM_OFF) | BIT(VM_SAVED) | BIT(VM_CRASHED), "start", done,
	             arg)) {
		vm->restarts = 0;
		if (vm->restart_timer != NULL) {
			loop_timer_disarm(vm->restart_timer);
		}
		vm_start_begin(vm);
	}
}

/* ---- end ---- */

static void vm_kill_late(void *arg)
{
	struct vm *vm = arg;

	log_warn(TAG, "worker did not end, killed vm=%s pid=%d", vm->config.name, vm->pid);
	vm_kill(vm);
}

static void vm_kill_after(struct vm *vm, uint64_t delay_ns)
{
	if (vm->kill_timer == NULL &&
	    loop_timer_new(vm->manager->cfg.loop, vm_kill_late, vm, &vm->kill_timer) != 0) {
		vm_kill(vm); /* no memory for patience */
		return;
	}
	loop_timer_arm(vm->kill_timer, delay_ns);
}

static void vm_off_answer(void *arg, int err, json_t *result, const struct errbuf *eb)
{
	(void)arg; /* its end is what counts; the timer sees to that */
	(void)err;
	(void)result;
	(void)eb;
}

static void vm_shutdown_answer(void *arg, int err, json_t *result, const struct errbuf *eb)
{
	struct vm *vm = arg;

	(void)result;
	if (err == -EPIPE || vm->op != VM_OP_STOP) {
		return;
	}
	if (err != 0) {
		struct errbuf why = *eb;

		vm->asked_off = false;
		vm_finish(vm, err, &why);
		return;
	}
	vm_move(vm, VM_STOPPING); /* done when the worker has ended */
}

void vm_shutdown(struct vm *vm, enum vm_shutdown_how how, vm_done_fn done, void *arg)
{
	uint32_t running = BIT(VM_RUNNING) | BIT(VM_PAUSED) | BIT(VM_STARTING) | BIT(VM_STOPPING) |
	                   BIT(VM_SAVING) | BIT(VM_CRITICAL);
	int err;

	/* The cord can be pulled whatever else is under way; who waited for that is told. */
	if (how == VM_SHUTDOWN_OFF && vm->op != VM_OP_NONE) {
		struct errbuf eb = {0};

		vm_finish(vm, errbuf_set(&eb, -ECANCELED, "%s was turned off", vm->config.name),
		          &eb);
	}
	if (!vm_begin(vm, VM_OP_STOP, how == VM_SHUTDOWN_OFF ? running : BIT(VM_RUNNING), "stop",
	              done, arg)) {
		return;
	}
	if (how == VM_SHUTDOWN_GUEST) {
		err = vm->worker == NULL ? -EPIPE
		                         : link_request(vm->worker, "shutdown", NULL, -1,
		                                        vm_shutdown_answer, vm);
		if (err != 0) {
			struct errbuf eb = {0};

			vm_finish(vm, errbuf_sys(&eb, err, "cannot stop %s", vm->config.name), &eb);
		}
		return;
	}
	vm->asked_off = true;
	vm_move(vm, VM_STOPPING);
	if (vm->worker == NULL) {
		return; /* it is ending already */
	}
	if (link_request(vm->worker, "off", NULL, -1, vm_off_answer, vm) != 0) {
		vm_kill(vm);
	}
	vm_kill_after(vm, VM_OFF_WAIT_NS);
}

/* ---- pause, resume, restart ---- */

static void vm_simple_answer(void *arg, int err, json_t *result, const struct errbuf *eb)
{
	struct vm *vm = arg;

	(void)result;
	if (err == 0 && vm->op == VM_OP_PAUSE) {
		vm_move(vm, VM_PAUSED);
	} else if (err == 0 && vm->op == VM_OP_RESUME) {
		vm_move(vm, VM_RUNNING);
	}
	if (vm->op == VM_OP_PAUSE || vm->op == VM_OP_RESUME) {
		vm_finish(vm, err, eb);
	}
}

static void vm_simple(struct vm *vm, const char *cmd, json_t *more)
{
	int err = link_request(vm->worker, cmd, more, -1, vm_simple_answer, vm);

	if (err != 0) {
		struct errbuf eb = {0};

		vm_finish(vm, errbuf_sys(&eb, err, "cannot %s %s", cmd, vm->config.name), &eb);
	}
}

void vm_pause(struct vm *vm, vm_done_fn done, void *arg)
{
	if (vm_begin(vm, VM_OP_PAUSE, BIT(VM_RUNNING), "pause", done, arg)) {
		vm_simple(vm, "pause", NULL);
	}
}

void vm_resume(struct vm *vm, vm_done_fn done, void *arg)
{
	if (vm_begin(vm, VM_OP_RESUME, BIT(VM_PAUSED), "resume", done, arg)) {
		vm_simple(vm, "resume", NULL);
	}
}

void vm_restart(struct vm *vm, bool reset, vm_done_fn done, void *arg)
{
	if (vm_begin(vm, VM_OP_RESUME, BIT(VM_RUNNING), "restart", done, arg)) {
		vm_simple(vm, reset ? "reset" : "shutdown",
		          reset ? NULL : json_pack("{s:b}", "restart", 1));
	}
}

/* ---- save ---- */

static void vm_save_answer(void *arg, int err, json_t *result, const struct errbuf *eb)
{
	struct vm *vm = arg;

	(void)result;
	if (err == -EPIPE || vm->op != VM_OP_SAVE) {
		return;
	}
	if (err != 0) {
		struct errbuf why = *eb;

		(void)unlink(vm->saving_path);
		vm_move(vm, vm->save_from);
		vm_finish(vm, err, &why);
		return;
	}
	if (rename(vm->saving_path, vm->saved_path) != 0) {
		struct errbuf why = {0};

		/* It ends now all the same; vm_worker_gone() tries again. */
		err = errbuf_sys(&why, -errno, "cannot keep the state at %s", vm->saved_path);
		vm_finish(vm, err, &why);
		return;
	}
	vm_dir_sync(vm);
	vm->asked_off = true; /* done when the worker has ended */
	vm_kill_after(vm, VM_OFF_WAIT_NS);
}

void vm_save(struct vm *vm, vm_done_fn done, void *arg)
{
	struct errbuf eb = {0};
	int fd;
	int err;

	if (vm_is_theirs(vm, "save", done, arg) ||
	    !vm_begin(vm, VM_OP_SAVE, BIT(VM_RUNNING) | BIT(VM_PAUSED), "save", done, arg)) {
		return;
	}
	fd = open(vm->saving_path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0) {
		vm_finish(vm, errbuf_sys(&eb, -errno, "cannot save to %s", vm->saving_path), &eb);
		return;
	}
	vm->save_from = vm->state;
	vm_move(vm, VM_SAVING);
	err = link_request(vm->worker, "save", NULL, fd, vm_save_answer, vm);
	(void)close(fd);
	if (err != 0) {
		vm_move(vm, vm->save_from);
		vm_finish(vm, errbuf_sys(&eb, err, "cannot save %s", vm->config.name), &eb);
	}
}

/* ---- the worker's word ---- */

void vm_worker_state(struct vm *vm, const char *state)
{
	vm->critical = state != NULL && strcmp(state, "critical") == 0;
	vm_critical_look(vm);
	if (vm->op != VM_OP_NONE || state == NULL) {
		return; /* the answer of the operation will tell */
	}
	if (strcmp(state, "running") == 0 && (vm->state == VM_PAUSED || vm->state == VM_STOPPING)) {
		vm_move(vm, VM_RUNNING);
	} else if (strcmp(state, "paused") == 0 && vm->state == VM_RUNNING) {
		vm_move(vm, VM_PAUSED);
	} else if (strcmp(state, "stopping") == 0 &&
	           (vm->state == VM_RUNNING || vm->state == VM_CRITICAL)) {
		vm_move(vm, VM_STOPPING);
	}
}

static void vm_worker_event(void *arg, json_t *message)
{
	struct vm *vm = arg;
	const char *event = json_string_value(json_object_get(message, "event"));
	const char *text = json_string_value(json_object_get(message, "text"));
	uint32_t suppressed;

	if (event != NULL && vm_move_event(vm, event, message)) {
		return;
	}
	/* A guest can crash and reset as often as it likes, and a worker can say anything. */
	if (event != NULL && strcmp(event, "storage") == 0) {
		vm_storage(vm, message);
		return;
	}
	if (event == NULL ||
	    (strcmp(event, "state") != 0 && !log_limit_pass(&vm->event_limit, &suppressed))) {
		return;
	}
	if (strcmp(event, "state") == 0) {
		vm_worker_state(vm, json_string_value(json_object_get(message, "state")));
	} else if (strcmp(event, "crash") == 0) {
		const char *p0 = json_string_value(json_object_get(message, "p0"));

		vm_event(vm, "vm.guest-crash", "p0=%.32s %.400s", p0 != NULL ? p0 : "",
		         text != NULL ? text : "");
	} else if (strcmp(event, "reset") == 0) {
		vm_event(vm, "vm.reset", "the guest restarted");
	} else if (strcmp(event, "ended") == 0) {
		vm_event(vm, "vm.ended", "%.400s", text != NULL ? text : "");
	}
}

static void vm_worker_closed(void *arg)
{
	vm_worker_gone(arg);
}

int vm_link(struct vm *vm)
{
	const struct link_cfg cfg = {
		.loop = vm->manager->cfg.loop,
		.path = vm->socket_path,
		.event = vm_worker_event,
		.closed = vm_worker_closed,
		.arg = vm,
	};

	return link_open(&cfg, &vm->worker);
}

/* ---- the worker has ended ---- */

/* Its last words: true if the guest itself ended in good order. */
bool vm_end_read(struct vm *vm, char *text, size_t room)
{
	char *buf = NULL;
	size_t len = 0;
	json_t *json = NULL;
	bool powered_off = false;

	text[0] = '\0';
	if (fs_read(vm->end_path, VM_END_BYTES_MAX, &buf, &len, NULL) != 0) {
		return false;
	}
	if (len != 0 && json_parse(buf, len, NULL, &json, NULL) == 0) {
		const char *end = json_string_value(json_object_get(json, "end"));
		const char *why = json_string_value(json_object_get(json, "text"));

		powered_off = end != NULL && strcmp(end, "powered-off") == 0;
		(void)snprintf(text, room, "%s", why != NULL ? why : "");
	}
	json_decref(json);
	free(buf);
	return powered_off;
}

static void vm_restart_done(void *arg, int err, const struct errbuf *eb)
{
	struct vm *vm = arg;

	if (err != 0) {
		vm_event(vm, "vm.restart-failed", "%s", errbuf_text(eb, err));
		vm_restart_consider(vm, true);
	}
}

static void vm_restart_due(void *arg)
{
	struct vm *vm = arg;

	if (vm_begin(vm, VM_OP_START, BIT(VM_OFF) | BIT(VM_CRASHED), "restart", vm_restart_done,
	             vm)) {
		vm_start_begin(vm);
	}
}

void vm_restart_consider(struct vm *vm, bool failed)
{
	uint64_t delay = VM_RESTART_DELAY_NS << vm->restarts;

	if (vm->cluster || vm->config.restart == VM_RESTART_NEVER ||
	    (vm->config.restart == VM_RESTART_ON_FAILURE && !failed)) {
		return;
	}
	if (vm->restarts >= VM_RESTARTS_MAX) {
		vm_event(vm, "vm.restart-given-up", "%u restarts did not help", vm->restarts);
		return;
	}
	if (vm->restart_timer == NULL &&
	    loop_timer_new(vm->manager->cfg.loop, vm_restart_due, vm, &vm->restart_timer) != 0) {
		return;
	}
	vm->restarts++;
	vm_event(vm, "vm.restart", "in %llu s, attempt %u of %u",
	         (unsigned long long)(delay / NS_PER_S), vm->restarts, VM_RESTARTS_MAX);
	loop_timer_arm(vm->restart_timer, delay);
}

void vm_leftovers_remove(struct vm *vm)
{
	worker_leftovers_remove(vm->run_dir, &vm->config.id);
}

void vm_worker_end(struct vm *vm)
{
	link_close(vm->worker);
	vm->worker = NULL;
	vm->critical = false;
	vm->trouble[0] = '\0';
	if (vm->kill_timer != NULL) {
		loop_timer_disarm(vm->kill_timer);
	}
	if (vm->pid != 0) {
		vm_bury(vm);
	} else {
		vm_leftovers_remove(vm);
	}
}

void vm_arrived_dead(struct vm *vm)
{
	(void)snprintf(vm->last_error, sizeof(vm->last_error), "%s",
	               "its worker ended while it arrived");
	vm_move(vm, VM_CRASHED);
	vm_event(vm, "vm.crashed", "%s", vm->last_error);
	vm_restart_consider(vm, true);
}

void vm_worker_gone(struct vm *vm)
{
	if (vm->pid == 0) {
		vm_worker_buried(vm);
	} else {
		vm_worker_end(vm);
	}
}

/* Nothing of it is left. */
void vm_worker_buried(struct vm *vm)
{
	char text[256];
	bool powered_off;
	bool saved;
	enum vm_op op = vm->op;
	struct errbuf eb = {0};
	int err = 0;

	if (vm->state == VM_ARRIVING || vm->state == VM_MOVED || vm->state == VM_CRASHED) {
		vm_worker_end(vm);
		vm_move_worker_gone(vm);
		return;
	}
	powered_off = vm_end_read(vm, text, sizeof(text));
	vm->guest_off = powered_off && !vm->asked_off;
	saved = vm_saved_find(vm);
	vm_worker_end(vm);
	if (saved) {
		vm_move(vm, VM_SAVED);
	} else if (powered_off || vm->asked_off) {
		vm_move(vm, VM_OFF);
	} else {
		(void)snprintf(vm->last_error, sizeof(vm->last_error), "%s",
		               text[0] != '\0' ? text : "its worker process ended unexpectedly");
		vm_move(vm, VM_CRASHED);
		vm_event(vm, "vm.crashed", "%s", vm->last_error);
	}
	if (op == VM_OP_START || (op != VM_OP_NONE && vm->state == VM_CRASHED)) {
		err = errbuf_set(&eb, -EIO, "%s: %s", vm->config.name,
		                 vm->last_error[0] != '\0' ? vm->last_error : "ended at once");
	}
	vm_finish(vm, err, &eb);
	vm_move_worker_gone(vm);
	if (vm->state == VM_CRASHED && op != VM_OP_START) {
		vm_restart_consider(vm, true);
	} else if (vm->state == VM_OFF && !vm->asked_off && op == VM_OP_NONE) {
		vm_restart_consider(vm, false);
	}
}
