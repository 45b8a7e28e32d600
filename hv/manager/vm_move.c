/* SPDX-License-Identifier: Apache-2.0 */
#include "hv/manager/vm_move.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/log.h"
#include "hv/manager/manager_int.h"

#define TAG "manager"
#define EPOCH_MAX ((uint64_t)INT64_MAX) /* what JSON holds */
/* A source that has asked and does not connect is gone, or on a very busy host. */
#define CONNECT_MAX_NS (60 * NS_PER_S)

struct vm_move {
	struct vm_move_info info;
	const struct vm_move_events *events; /* borrowed; NULL: nobody */
	void *arg;
	bool asked;                   /* source: move-ready came, the decision is out */
	bool held;                    /* source: somebody else decides */
	bool over;                    /* the ended event was given */
	json_t *command;              /* owned: what follows the sockets; NULL: sent */
	int fds[VM_MOVE_SOCKETS_MAX]; /* owned */
	uint32_t fd_count, fd_next;
};

static void move_fds_close(struct vm_move *mv)
{
	while (mv->fd_next < mv->fd_count) {
		(void)close(mv->fds[mv->fd_next++]);
	}
}

static void move_free(struct vm *vm)
{
	struct vm_move *mv = vm->move;

	if (mv != NULL) {
		move_fds_close(mv);
		json_decref(mv->command);
		free(mv);
		vm->move = NULL;
	}
}

void vm_move_fini(struct vm *vm)
{
	move_free(vm);
}

static struct vm_move *move_new(const struct vm_move_cfg *cfg, enum vm_move_role role)
{
	struct vm_move *mv = gw_calloc(1, sizeof(*mv));

	if (mv != NULL) {
		mv->info = (struct vm_move_info){
			.role = role, .move = cfg->move, .epoch = cfg->epoch, .peer = cfg->peer};
		mv->events = cfg->events;
		mv->arg = cfg->arg;
	}
	return mv;
}

/* The copying is over, one way or another. The source's VM is as its worker says. */
static void move_end(struct vm *vm, int err, json_t *message, const struct errbuf *eb)
{
	struct vm_move *mv = vm->move;
	const struct vm_move_events *events = mv->events;
	void *arg = mv->arg;

	if (mv->over) {
		return;
	}
	mv->over = true;
	move_fds_close(mv);
	if (vm->op == VM_OP_MOVE) {
		vm_finish(vm, 0, NULL);
	}
	/* What nobody needs any more goes first: the callback may be the end of @vm. */
	if (mv->info.role == VM_MOVE_SOURCE ? !mv->info.committed : vm->state != VM_ARRIVING) {
		move_free(vm);
	}
	if (events != NULL) {
		events->ended(arg, err, message, eb);
	}
}

static void move_fail(struct vm *vm, int err, const char *what)
{
	struct errbuf eb = {0};

	move_end(vm, errbuf_sys(&eb, err, "%s", what), NULL, &eb);
}

/* ---- the journal ---- */

static json_t *move_record(const struct vm_move_info *info)
{
	char move[GUID_TEXT_SIZE];

	return json_pack("{s:s,s:s,s:s,s:s,s:i,s:I}", "role",
	                 info->role == VM_MOVE_SOURCE ? "source" : "target", "move",
	                 guid_format(&info->move, move), "peer", info->peer.name, "addr",
	                 info->peer.addr, "port", (int)info->peer.port, "epoch",
	                 (json_int_t)info->epoch);
}

int vm_move_put(struct manager *m, const struct guid *vm_id, const struct vm_move_info *info,
                struct errbuf *eb)
{
	struct vm_store *store = m->cfg.store;
	char id[GUID_TEXT_SIZE];
	json_t *value = move_record(info);
	int err = -ENOMEM;

	if (value != NULL) {
		err = store->ops->put(store, VM_MOVE_KIND, guid_format(vm_id, id), value, eb);
	}
	json_decref(value);
	return err;
}

static int move_unput(struct vm *vm, struct errbuf *eb)
{
	struct vm_store *store = vm->manager->cfg.store;
	char id[GUID_TEXT_SIZE];
	int err = store->ops->remove(store, VM_MOVE_KIND, guid_format(&vm->config.id, id), eb);

	return err == -ENOENT ? 0 : err;
}

static int epoch_put(struct vm *vm, uint64_t epoch, struct errbuf *eb)
{
	struct vm_store *store = vm->manager->cfg.store;
	char id[GUID_TEXT_SIZE];
	json_t *value = json_pack("{s:I}", "epoch", (json_int_t)epoch);
	int err = -ENOMEM;

	if (value != NULL) {
		err = store->ops->put(store, VM_EPOCH_KIND, guid_format(&vm->config.id, id), value,
		                      eb);
	}
	if (err == 0 && json_object_set(vm->manager->epochs, id, value) != 0) {
		err = -ENOMEM;
	}
	json_decref(value);
	return err;
}

uint64_t vm_epoch_known(const struct manager *m, const struct guid *id)
{
	char text[GUID_TEXT_SIZE];
	json_int_t epoch = json_integer_value(
		json_object_get(json_object_get(m->epochs, guid_format(id, text)), "epoch"));

	return epoch > 0 ? (uint64_t)epoch : 0;
}

/*
 * Definition and journal of a VM that is not ours. The journal last: as long as it is there the VM
 * cannot be started. The epoch stays for good: a source that has not been told yet asks whether
 * the VM came here, and has to hear yes also when it is gone again.
 */
static int move_remove_all(struct vm *vm, struct errbuf *eb)
{
	struct vm_store *store = vm->manager->cfg.store;
	char id[GUID_TEXT_SIZE];
	int err = store->ops->remove(store, VM_KIND, guid_format(&vm->config.id, id), eb);

	err = err == -ENOENT ? 0 : err;
	if (err == 0 && vm->cluster) {
		err = manager_unmark(vm->manager, &vm->config.id, eb);
	}
	return err == 0 ? move_unput(vm, eb) : err;
}

bool vm_move_info(const struct vm *vm, struct vm_move_info *out)
{
	if (vm->move == NULL) {
		return false;
	}
	*out = vm->move->info;
	out->attached = vm->move->events != NULL;
	return true;
}

void vm_move_attach(struct vm *vm, const struct vm_move_events *events, void *arg)
{
	CHECK(vm->move != NULL);
	vm->move->events = events;
	vm->move->arg = arg;
}

uint64_t vm_epoch(const struct vm *vm)
{
	return vm->epoch;
}

/* ---- to the worker ---- */

static void move_answer(void *arg, int err, json_t *result, const struct errbuf *eb)
{
	struct vm *vm = arg;

	(void)result;
	if (err == 0 || err == -EPIPE || vm->move == NULL) {
		return; /* vm_move_worker_gone() comes and knows more */
	}
	struct errbuf why = *eb;

	move_end(vm, err, NULL, &why);
}

static void move_next(struct vm *vm);

static void move_socket_answer(void *arg, int err, json_t *result, const struct errbuf *eb)
{
	struct vm *vm = arg;

	move_answer(arg, err, result, eb);
	if (err == 0 && vm->move != NULL && !vm->move->over) {
		move_next(vm);
	}
}

/* One socket after another, then the command that uses them. */
static void move_next(struct vm *vm)
{
	struct vm_move *mv = vm->move;
	int err;

	if (mv->fd_next < mv->fd_count) {
		int fd = mv->fds[mv->fd_next++];

		err = link_request(vm->worker, "move-socket", NULL, fd, move_socket_answer, vm);
		(void)close(fd);
	} else {
		json_t *command = mv->command;

		mv->command = NULL;
		err = link_request(vm->worker,
		                   mv->info.role == VM_MOVE_SOURCE ? "move-send" : "move-receive",
		                   command, -1, move_answer, vm);
	}
	if (err != 0) {
		move_fail(vm, err, "cannot ask the worker");
	}
}

static void move_say_answer(void *arg, int err, json_t *result, const struct errbuf *eb)
{
	struct vm *vm = arg;

	(void)result;
	if (err != 0 && err != -EPIPE) {
		log_warn(TAG, "the worker refuses to hear about its move vm=%s reason=\"%s\"",
		         vm->config.name, errbuf_text(eb, err));
	}
}

/* What needs no answer: the events tell what becomes of it. */
static int move_say(struct vm *vm, const char *cmd, json_t *more)
{
	if (vm->worker == NULL) {
		json_decref(more);
		return -EPIPE;
	}
	return link_request(vm->worker, cmd, more, -1, move_say_answer, vm);
}

static json_t *move_command(const struct vm *vm, const struct vm_move_cfg *cfg)
{
	char move[GUID_TEXT_SIZE];
	struct json_build b;
	json_t *out = NULL;

	json_build_object(&b);
	json_add_str(&b, "move", guid_format(&cfg->move, move));
	json_add_str(&b, "token", cfg->token);
	json_add_u64(&b, "epoch", vm->epoch);
	if (cfg->tls.cert != NULL) {
		json_add(&b, "tls",
		         json_pack("{s:s,s:s,s:s}", "cert", cfg->tls.cert, "key", cfg->tls.key,
		                   "ca", cfg->tls.ca));
	} else {
		json_add_bool(&b, "plain", true);
	}
	return json_build_end(&b, &out) == 0 ? out : NULL;
}

/* ---- source ---- */

static int move_fds_keep(struct vm_move *mv, const struct vm_move_cfg *cfg)
{
	for (uint32_t i = 0; i < cfg->fd_count; i++) {
		int fd = fcntl(cfg->fds[i], F_DUPFD_CLOEXEC, 3);

		if (fd < 0) {
			return -errno;
		}
		mv->fds[mv->fd_count++] = fd;
	}
	return 0;
}

int vm_move_send(struct vm *vm, const struct vm_move_cfg *cfg, struct errbuf *eb)
{
	struct vm_move *mv;
	int err;

	if (vm->op != VM_OP_NONE || vm->worker == NULL ||
	    (vm->state != VM_RUNNING && vm->state != VM_PAUSED)) {
		err = errbuf_set(eb, -EBUSY, "cannot move %s: it is %s%s", vm->config.name,
		                 vm_state_name(vm->state),
		                 vm->op != VM_OP_NONE ? " and busy with another operation" : "");
		errbuf_hint(eb, "a VM that runs can be moved; godwit vm list shows its state");
		return err;
	}
	if (vm->cluster && !cfg->cluster) {
		return errbuf_set(eb, -EPERM, "cannot move %s: it belongs to a cluster",
		                  vm->config.name);
	}
	if (cfg->fd_count < 2 || cfg->fd_count > VM_MOVE_SOCKETS_MAX) {
		return errbuf_set(eb, -EINVAL, "%u connections for one move", cfg->fd_count);
	}
	mv = move_new(cfg, VM_MOVE_SOURCE);
	if (mv == NULL) {
		return errbuf_sys(eb, -ENOMEM, "cannot move %s", vm->config.name);
	}
	vm->move = mv;
	mv->info.epoch = vm->epoch + 1;
	mv->command = move_command(vm, cfg);
	err = mv->command == NULL ||
	                      json_object_set_new(mv->command, "epoch_next",
	                                          json_integer((json_int_t)mv->info.epoch)) != 0 ||
	                      json_object_set_new(mv->command, "peer",
	                                          json_string(cfg->peer.name)) != 0 ||
	                      json_object_set(mv->command, "definition", vm->config.json) != 0 ||
	                      (cfg->options != NULL &&
	                       json_object_update_new(mv->command, json_deep_copy(cfg->options)) !=
	                               0)
	              ? -ENOMEM
	              : move_fds_keep(mv, cfg);
	if (err != 0) {
		move_free(vm);
		return errbuf_sys(eb, err, "cannot move %s", vm->config.name);
	}
	vm->op = VM_OP_MOVE;
	vm_event(vm, "vm.move", "moving to %s", cfg->peer.name);
	move_next(vm);
	return 0;
}

int vm_move_hold(struct vm *vm, struct errbuf *eb)
{
	int fd;

	CHECK(vm->move != NULL && vm->move->info.role == VM_MOVE_SOURCE && vm->move->asked);
	fd = open(vm->hold_path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0) {
		return errbuf_sys(eb, -errno, "cannot give %s away: %s", vm->config.name,
		                  vm->hold_path);
	}
	(void)close(fd);
	vm->move->held = true;
	return 0;
}

int vm_move_commit(struct vm *vm, struct errbuf *eb)
{
	struct vm_move *mv = vm->move;
	int err;

	CHECK(mv != NULL && mv->info.role == VM_MOVE_SOURCE && mv->asked);
	err = vm_move_put(vm->manager, &vm->config.id, &mv->info, eb);
	if (err != 0) {
		errbuf_prepend(eb, "cannot give %s away", vm->config.name);
		return err;
	}
	mv->info.committed = true;
	if (vm->op == VM_OP_MOVE) {
		vm_finish(vm, 0, NULL);
	}
	vm_move(vm, VM_MOVED);
	if (move_say(vm, "move-commit", NULL) != 0) {
		/* The target will ask. Nothing runs here: the worker is gone or does not listen. */
		vm_kill(vm);
	}
	return 0;
}

void vm_move_refuse(struct vm *vm, const char *why)
{
	CHECK(vm->move != NULL && vm->move->info.role == VM_MOVE_SOURCE);
	vm->move->held = false;
	(void)unlink(vm->hold_path);
	if (move_say(vm, "move-refuse", json_pack("{s:s}", "text", why)) != 0) {
		vm_kill(vm);
	}
}

int vm_move_cancel(struct vm *vm, struct errbuf *eb)
{
	struct vm_move *mv = vm->move;

	if (mv == NULL || mv->info.role != VM_MOVE_SOURCE || mv->info.committed || mv->asked) {
		return errbuf_set(eb, -EBUSY, "it is too late to cancel the move of %s",
		                  vm->config.name);
	}
	if (mv->command != NULL || mv->fd_next < mv->fd_count) {
		(void)move_say(vm, "move-cancel", NULL); /* it has some of the sockets */
		move_fail(vm, -ECANCELED, "the move was cancelled");
		return 0;
	}
	return move_say(vm, "move-cancel", NULL) == 0
	               ? 0
	               : errbuf_set(eb, -EPIPE, "the worker of %s does not answer",
	                            vm->config.name);
}

int vm_move_forget(struct vm *vm, struct errbuf *eb)
{
	int err;

	CHECK(vm->state == VM_MOVED);
	err = move_remove_all(vm, eb);
	if (err != 0) {
		return err;
	}
	vm_event(vm, "vm.moved", "it runs on %s now", vm->move->info.peer.name);
	vm_worker_end(vm);
	manager_vm_drop(vm);
	return 0;
}

/* ---- target ---- */

static int move_define(struct manager *m, const json_t *definition, const struct vm_move_cfg *cfg,
                       struct vm **out, struct errbuf *eb)
{
	json_t *json = json_deep_copy(definition);
	struct vm_move_info info = {
		.role = VM_MOVE_TARGET, .move = cfg->move, .epoch = cfg->epoch, .peer = cfg->peer};
	int err;

	if (json == NULL) {
		return errbuf_sys(eb, -ENOMEM, "cannot receive a VM");
	}
	/* Journal and definition are two records: the journal names an id that need not exist. */
	err = manager_vm_define_arriving(m, json, &info, cfg->cluster, out, eb);
	json_decref(json);
	return err;
}

int manager_vm_receive(struct manager *m, const json_t *definition, const struct vm_move_cfg *cfg,
                       struct vm **out, struct errbuf *eb)
{
	struct errbuf later = {0};
	struct vm *vm = NULL;
	int err;

	*out = NULL;
	if (cfg->epoch == 0 || cfg->epoch >= EPOCH_MAX) {
		return errbuf_set(eb, -EINVAL, "epoch %" PRIu64 " is out of range", cfg->epoch);
	}
	err = move_define(m, definition, cfg, &vm, eb);
	if (err != 0) {
		return err;
	}
	CHECK(vm != NULL);
	vm->epoch = cfg->epoch;
	vm->move = move_new(cfg, VM_MOVE_TARGET);
	vm_move(vm, VM_ARRIVING);
	if (vm->move != NULL) {
		vm->move->command = move_command(vm, cfg);
	}
	if (vm->move == NULL || vm->move->command == NULL ||
	    json_object_set_new(vm->move->command, "connect_max_ns",
	                        json_integer((json_int_t)CONNECT_MAX_NS)) != 0) {
		err = errbuf_sys(eb, -ENOMEM, "cannot receive %s", vm->config.name);
	}
	if (err == 0) {
		err = vm_worker_make(vm, eb);
	}
	if (err == 0) {
		move_next(vm);
		*out = vm;
		return 0;
	}
	if (vm->move != NULL) {
		vm->move->over = true;
	}
	if (vm_move_abandon(vm, "it could not be received", &later) != 0) {
		log_err(TAG, "an arrival was not undone reason=\"%s\"", errbuf_text(&later, -EIO));
	}
	return err;
}

int vm_move_socket(struct vm *vm, int fd)
{
	if (vm->move == NULL || vm->move->info.role != VM_MOVE_TARGET || vm->worker == NULL) {
		return -EPIPE;
	}
	return link_request(vm->worker, "move-socket", NULL, fd, move_say_answer, vm);
}

/* Frames for it come here from now on. */
static void move_claim(const struct vm *vm)
{
	const struct manager_cfg *cfg = &vm->manager->cfg;

	for (uint32_t i = 0; vm->worker != NULL && i < vm->config.nic_count; i++) {
		struct errbuf eb = {0};
		int err = cfg->tap_claim != NULL ? cfg->tap_claim(cfg->tap_arg, &vm->config, i, &eb)
		                                 : 0;

		if (err != 0) {
			log_err(TAG, "adapter not connected vm=%s adapter=%u reason=\"%s\"",
			        vm->config.name, i, errbuf_text(&eb, err));
		}
	}
}

int vm_move_take(struct vm *vm, uint64_t epoch, struct errbuf *eb)
{
	struct vm_move *mv = vm->move;
	int err;

	if (mv == NULL || mv->info.role != VM_MOVE_TARGET) {
		return vm->epoch >= epoch
		               ? 0
		               : errbuf_set(eb, -EINVAL, "%s is not arriving", vm->config.name);
	}
	if (epoch <= mv->info.epoch || epoch >= EPOCH_MAX) {
		return errbuf_set(eb, -EINVAL, "epoch %" PRIu64 " is not after %" PRIu64, epoch,
		                  mv->info.epoch);
	}
	err = epoch_put(vm, epoch, eb);
	if (err == 0) {
		move_claim(vm); /* before the journal forgets: who dies in between does it again */
		err = move_unput(vm, eb);
	}
	if (err != 0) {
		errbuf_prepend(eb, "cannot take %s over", vm->config.name);
		return err;
	}
	vm->epoch = epoch;
	vm_event(vm, "vm.arrived", "from %s", mv->info.peer.name);
	/* From here on it is a VM like any other; what its worker says of the move is late. */
	move_free(vm);
	if (vm->worker != NULL &&
	    move_say(vm, "move-take", json_pack("{s:I}", "epoch", (json_int_t)epoch)) == 0) {
		vm_move(vm, VM_RUNNING);
		vm->started_wall_ns = clock_wall_ns();
	} else {
		vm_arrived_dead(vm);
	}
	return 0;
}

int vm_move_abandon(struct vm *vm, const char *why, struct errbuf *eb)
{
	int err;

	CHECK(vm->state == VM_ARRIVING);
	err = move_remove_all(vm, eb);
	if (err != 0) {
		return err;
	}
	vm_event(vm, "vm.arrival-ended", "%s", why);
	vm_worker_end(vm);
	manager_vm_drop(vm);
	return 0;
}

/* ---- from the worker ---- */

static int outcome_err(const char *outcome)
{
	if (strcmp(outcome, "done") == 0 || strcmp(outcome, "unknown") == 0) {
		return 0;
	}
	return strcmp(outcome, "canceled") == 0 ? -ECANCELED : -EIO;
}

static void move_ended_event(struct vm *vm, json_t *message)
{
	const char *outcome = json_string_value(json_object_get(message, "outcome"));
	const char *text = json_string_value(json_object_get(message, "error"));
	const char *hint = json_string_value(json_object_get(message, "hint"));
	int err = outcome != NULL ? outcome_err(outcome) : -EIO;
	struct errbuf eb = {0};

	if (err != 0) {
		(void)errbuf_set(&eb, err, "%s",
		                 text != NULL && text[0] != '\0' ? text : "the move failed");
		errbuf_hint(&eb, "%s", hint != NULL ? hint : "");
	}
	move_end(vm, err, message, &eb);
}

/* READY came: the decision is the owner's, while there is time for one. */
static void move_ready_event(struct vm *vm, const json_t *message)
{
	struct vm_move *mv = vm->move;
	const json_t *deadline = json_object_get(message, "deadline_ns");

	mv->asked = true;
	if (json_is_integer(deadline) && json_integer_value(deadline) > 0 &&
	    clock_now_ns() > (uint64_t)json_integer_value(deadline)) {
		vm_move_refuse(vm, "this node came too late to decide within the blackout limit");
		return;
	}
	mv->events->ready(mv->arg);
}

bool vm_move_event(struct vm *vm, const char *event, json_t *message)
{
	struct vm_move *mv = vm->move;

	if (strncmp(event, "move-", 5) != 0) {
		return false;
	}
	if (mv == NULL || mv->over) {
		return true; /* late */
	}
	if (strcmp(event, "move-ended") == 0) {
		move_ended_event(vm, message);
	} else if (mv->events == NULL) {
		/* Nobody yet: those who attach look at the worker's status. */
	} else if (strcmp(event, "move-progress") == 0) {
		mv->events->progress(mv->arg, message);
	} else if (strcmp(event, "move-ready") == 0 && mv->info.role == VM_MOVE_SOURCE &&
	           !mv->asked) {
		move_ready_event(vm, message);
	} else if (strcmp(event, "move-committed") == 0 && mv->info.role == VM_MOVE_TARGET) {
		mv->events->committed(mv->arg);
	} else if (strcmp(event, "move-orphaned") == 0 && mv->info.role == VM_MOVE_TARGET) {
		mv->events->orphaned(mv->arg);
	} else if (strcmp(event, "move-lost") == 0 && mv->info.role == VM_MOVE_SOURCE &&
	           !mv->info.committed && !mv->held) {
		vm_move_refuse(vm, "the destination was lost");
	}
	return true;
}

void vm_move_worker_gone(struct vm *vm)
{
	if (vm->move != NULL) {
		move_fail(vm, -EPIPE, "the VM's worker ended");
	}
}

/* ---- after a restart ---- */

int vm_move_restore(struct vm *vm, const json_t *record, struct errbuf *eb)
{
	static const char *const roles[] = {"source", "target"};
	struct json_at at = json_root(record, "move");
	struct vm_move_cfg cfg = {0};
	const char *move = NULL;
	const char *name = NULL;
	const char *addr = NULL;
	uint64_t port = 0;
	size_t role = 0;
	int err = json_get_word(&at, "role", roles, ARRAY_LEN(roles), &role, eb);

	if (err == 0) {
		err = json_get_str(&at, "move", GUID_TEXT_SIZE, &move, eb);
	}
	if (err == 0) {
		err = json_get_str(&at, "peer", VM_MOVE_PEER_MAX - 1, &name, eb);
	}
	if (err == 0) {
		err = json_get_str(&at, "addr", VM_MOVE_ADDR_MAX - 1, &addr, eb);
	}
	if (err == 0) {
		err = json_get_u64(&at, "port", 0, UINT16_MAX, &port, eb);
	}
	if (err == 0) {
		err = json_get_u64(&at, "epoch", 1, EPOCH_MAX, &cfg.epoch, eb);
	}
	if (err == 0 && guid_parse(move, &cfg.move) != 0) {
		err = errbuf_set(eb, -EINVAL, "'%s' is no id of a move", move);
	}
	if (err != 0) {
		return err;
	}
	(void)snprintf(cfg.peer.name, sizeof(cfg.peer.name), "%s", name);
	(void)snprintf(cfg.peer.addr, sizeof(cfg.peer.addr), "%s", addr);
	cfg.peer.port = (uint16_t)port;
	vm->move = move_new(&cfg, role == 0 ? VM_MOVE_SOURCE : VM_MOVE_TARGET);
	if (vm->move == NULL) {
		return errbuf_sys(eb, -ENOMEM, "cannot go on with a move");
	}
	vm->move->info.committed = role == 0;
	vm->move->asked = role == 0;
	if (role == 0) {
		/* It may not have heard. */
		if (vm->worker != NULL && move_say(vm, "move-commit", NULL) != 0) {
			vm_kill(vm);
		}
	} else if (vm->epoch <= cfg.epoch) {
		vm->epoch = cfg.epoch;
	}
	return 0;
}

void vm_move_call_back(struct vm *vm)
{
	/* Whichever fits: before the question, or after it. */
	if (move_say(vm, "move-cancel", NULL) != 0 ||
	    move_say(vm, "move-refuse", json_pack("{s:s}", "text", "the node service restarted")) !=
	            0) {
		log_warn(TAG, "a move was not called back vm=%s", vm->config.name);
	}
}
