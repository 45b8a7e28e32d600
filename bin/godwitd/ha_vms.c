/* SPDX-License-Identifier: Apache-2.0 */

/*
 * ha_vms - the cluster's VMs in the manager of this host.
 *
 * The guard's page is the list of what runs here for the cluster: an entry is made before a worker
 * and goes when the worker has ended and the agent was told.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "bin/godwitd/ha_int.h"
#include "cluster/db/db.h"
#include "cluster/db/db_cmd.h"
#include "cluster/member/vm_doc.h"

#define NOTE_NS (5 * NS_PER_S)
#define PAUSE_AGAIN_NS NS_PER_S
#define STOP_WAIT_NS (180 * NS_PER_S) /* a guest that was asked to shut down */

static const struct role *role_of(const struct ha_api *api, uint32_t role)
{
	return role_table_role(member_roles(api->place.member), role);
}

static const struct agent_vm *agent_vm_of(const struct ha_api *api, uint32_t role)
{
	return &ha_agent(api->ha)->vms[role - 1];
}

static struct vm *vm_by_id(const struct ha_api *api, const struct guid *id)
{
	char text[GUID_TEXT_SIZE];

	return manager_vm_find(api->cfg.manager, guid_format(id, text));
}

struct vm *ha_vms_find(const struct ha_api *api, uint32_t role)
{
	struct guard_vm g;

	return api->guard != NULL && guard_find(api->guard, role, &g) ? vm_by_id(api, &g.id) : NULL;
}

/* ---- what the cluster asks ---- */

/* Our copy of the definition goes; the document stays. */
static void forget(const struct vm *cvm, struct ha_api *api)
{
	struct vm *vm =
		cvm != NULL ? manager_vm_find(api->cfg.manager, vm_config_get(cvm)->name) : NULL;
	struct errbuf eb = {0};

	if (vm == NULL || vm_has_worker(vm)) {
		return;
	}
	if (vm_state_get(vm) == VM_SAVED && vm_discard_saved(vm, &eb) != 0) {
		log_warn(HA_TAG, "saved state stays text=\"%s\"", eb.text);
	}
	if (manager_vm_remove(vm, &eb) != 0) {
		log_warn(HA_TAG, "definition stays text=\"%s\"", eb.text);
	}
}

static void on_noted(void *arg, enum rsm_outcome outcome, const struct rsm_result *result)
{
	(void)arg; /* for people: if it is lost, the log of this node has it */
	(void)outcome;
	(void)result;
}

/* Why it could not be started here, for whoever asks anywhere: a member of its document. */
static void note_failure(struct ha_api *api, uint32_t role, int err, const struct errbuf *eb)
{
	const struct role *r = role_of(api, role);
	json_t *patch = json_pack("{s:{s:s,s:s,s:s}}", "failed", "node", api->node, "text",
	                          errbuf_text(eb, err), "hint", eb != NULL ? eb->hint : "");
	struct db_cmd cmd;

	log_err(HA_TAG, "not started vm=%s text=\"%s\" hint=\"%s\"", r != NULL ? r->name : "?",
	        errbuf_text(eb, err), eb != NULL ? eb->hint : "");
	if (r == NULL || patch == NULL) {
		json_decref(patch);
		return;
	}
	db_cmd_init(&cmd);
	db_cmd_merge(&cmd, DB_VM, r->name, patch);
	if (db_cmd_end(&cmd) != 0 ||
	    member_propose(api->place.member, &cmd, NOTE_NS, on_noted, NULL) != 0) {
		log_info(HA_TAG, "the others are not told vm=%s", r->name);
	}
	db_cmd_fini(&cmd);
	json_decref(patch);
}

struct start {
	struct ha_api *api;
	uint32_t role;
	uint64_t token;
};

static void on_started(void *arg, int err, const struct errbuf *eb)
{
	struct start *s = arg;
	struct ha_api *api = s->api;

	/* The service may have left the cluster, or something newer may be meant. */
	if (api->ha != NULL && !api->stopped) {
		const struct agent_vm *avm = agent_vm_of(api, s->role);

		if (err != 0) {
			note_failure(api, s->role, err, eb);
		}
		/* A failure is told when its worker has ended: ha_vms_look(). */
		if (err == 0 && avm->state == AGENT_STARTING && avm->token == s->token) {
			ha_vm_event(api->ha, s->role, AGENT_STARTED);
		}
		ha_kick(api->ha);
	}
	free(s);
}

/* The definition of the document, in our manager. */
static int define(struct ha_api *api, const struct role *r, struct vm **out, struct errbuf *eb)
{
	const json_t *doc = ha_doc(api, r->name);
	const char *id = json_string_value(json_object_get(doc, "id"));
	json_t *definition = json_deep_copy(json_object_get(doc, "definition"));
	struct vm *old = id != NULL ? manager_vm_find(api->cfg.manager, id) : NULL;
	struct role_policy policy;
	int err;

	if (definition == NULL || id == NULL) {
		json_decref(definition);
		return errbuf_set(eb, -ENOENT, "%s has no definition", r->name);
	}
	/* Changed while somebody started it: those volumes have not been asked. */
	if (vm_doc_policy(doc, &policy, eb) != 0 || policy.volumes != r->policy.volumes) {
		json_decref(definition);
		(void)errbuf_set(eb, -EAGAIN,
		                 "the shared volumes of %s are not those it began with", r->name);
		errbuf_hint(eb, "stop it, and say again what is to be changed: godwit vm set %s",
		            r->name);
		return -EAGAIN;
	}
	if (old != NULL && (vm_state_get(old) == VM_ARRIVING || vm_state_get(old) == VM_MOVED)) {
		json_decref(definition);
		return errbuf_set(eb, -EBUSY, "a move of %s is not over yet", r->name);
	}
	if (old != NULL && vm_has_worker(old)) {
		vm_cut(old);
		json_decref(definition);
		return errbuf_set(eb, -EBUSY, "an earlier worker of %s is still there", r->name);
	}
	forget(old, api);
	err = manager_vm_define_owned(api->cfg.manager, definition, out, eb);
	json_decref(definition);
	return err;
}

static int guarded(struct ha_api *api, const struct guard_vm *g)
{
	int err = guard_add(api->guard, g);

	if (err < 0) {
		return err;
	}
	if (!ha_guard_ready(api)) { /* it was replaced just now, and the new one has no watchdog */
		guard_del(api->guard, g->role);
		return -EAGAIN;
	}
	return 0;
}

int ha_vms_guard(struct ha_api *api, struct guard_vm *g, const struct vm *vm)
{
	const char *path = vm_pid_path(vm);

	if (strlen(path) >= sizeof(g->pid_path)) {
		return -ENAMETOOLONG;
	}
	g->id = vm_config_get(vm)->id;
	memcpy(g->pid_path, path, strlen(path) + 1);
	return guarded(api, g);
}

static int start(struct ha_api *api, const struct role *r, uint64_t token, struct errbuf *eb)
{
	struct guard_vm g = {.role = r->id, .token = token};
	struct start *s = gw_malloc(sizeof(*s));
	struct vm *vm = NULL;
	int err = 0;

	if (s == NULL) {
		return -ENOMEM;
	}
	if (!ha_guard_ready(api)) {
		err = errbuf_set(eb, -EAGAIN, "the node's lease or its guard is not in order");
	}
	if (err == 0) {
		err = define(api, r, &vm, eb);
	}
	if (err == 0) {
		err = ha_vms_guard(api, &g, vm);
	}
	if (err != 0) {
		free(s);
		return err;
	}
	*s = (struct start){.api = api, .role = r->id, .token = token};
	api->stop_by_ns[r->id - 1] = 0;
	api->stop_again[r->id - 1] = false;
	api->ended_ns[r->id - 1] = 0;
	vm_start_owned(vm, on_started, s);
	return 0;
}

/* It has come: its worker waits for the word, or has had it from the source's. */
static int take(struct ha_api *api, uint32_t role, uint64_t token, struct errbuf *eb)
{
	struct vm *vm = ha_vms_find(api, role);
	struct guard_vm g;
	int err = 0;

	if (vm == NULL || !guard_find(api->guard, role, &g) || g.token != token) {
		return errbuf_set(eb, -ENOENT, "it has not arrived");
	}
	if (vm_state_get(vm) == VM_ARRIVING) {
		err = api->moves != NULL ? move_api_take(api->moves, vm, eb) : -ENOENT;
	}
	if (err == 0 && (vm_state_get(vm) == VM_RUNNING || vm_state_get(vm) == VM_PAUSED ||
	                 vm_state_get(vm) == VM_CRITICAL)) {
		ha_vm_event(api->ha, role, AGENT_STARTED);
	}
	return err; /* one that has crashed: ha_vms_look() */
}

static void op_start(void *arg, uint32_t role, uint64_t token, bool incoming)
{
	struct ha_api *api = arg;
	const struct role *r = role_of(api, role);
	struct errbuf eb = {0};
	int err = r == NULL  ? -ENOENT
	          : incoming ? take(api, role, token, &eb)
	                     : start(api, r, token, &eb);

	if (err != 0) {
		note_failure(api, role, err, &eb);
		ha_vm_event(api->ha, role, AGENT_START_FAILED);
	}
}

/* It ended, or it cannot be asked: a VM that nobody wants to run is turned off then. */
static void on_stopped(void *arg, int err, const struct errbuf *eb)
{
	struct start *s = arg;
	struct ha_api *api = s->api;
	struct vm *vm = api->ha != NULL && !api->stopped ? ha_vms_find(api, s->role) : NULL;

	bool runs = vm != NULL && vm_has_worker(vm) && agent_vm_of(api, s->role)->token == s->token;

	if (err != 0 && runs && vm_state_get(vm) == VM_CRITICAL) {
		/* What it has not written yet would be lost: it is asked again when it goes on. */
		log_warn(HA_TAG,
		         "guest cannot be asked to stop yet, its storage does not go on vm=%s",
		         vm_config_get(vm)->name);
		api->stop_again[s->role - 1] = true;
	} else if (err != 0 && runs) {
		log_warn(HA_TAG,
		         "guest cannot be asked to stop, it is turned off vm=%s text=\"%s\"",
		         vm_config_get(vm)->name, errbuf_text(eb, err));
		vm_cut(vm);
	}
	free(s);
}

static void op_stop(void *arg, uint32_t role)
{
	struct ha_api *api = arg;
	struct vm *vm = ha_vms_find(api, role);
	struct start *s = gw_malloc(sizeof(*s));

	if (api->stop_by_ns[role - 1] == 0) { /* else somebody pulls the cord */
		api->stop_by_ns[role - 1] = clock_now_ns() + STOP_WAIT_NS;
	}
	if (vm == NULL || s == NULL) {
		free(s);
		return;
	}
	*s = (struct start){.api = api, .role = role, .token = agent_vm_of(api, role)->token};
	api->stop_again[role - 1] = false;
	log_info(HA_TAG, "asks the guest to stop vm=%s", vm_config_get(vm)->name);
	vm_shutdown(vm, VM_SHUTDOWN_GUEST, on_stopped, s);
}

static void op_kill(void *arg, uint32_t role)
{
	struct ha_api *api = arg;
	struct guard_vm g;
	struct vm *vm;

	if (api->moves != NULL) {
		move_api_look(api->moves); /* it may have gone to another node alive */
	}
	vm = ha_vms_find(api, role);
	if (vm != NULL && vm_has_worker(vm) && vm_state_get(vm) != VM_MOVED) {
		vm_cut(vm);
	} else if (vm == NULL && guard_find(api->guard, role, &g)) {
		guard_pid_kill(g.pid_path);
	}
}

static void op_send(void *arg, uint32_t role, uint32_t node)
{
	ha_move_send(arg, role, node);
}

static void op_switched(void *arg, uint32_t role, uint64_t token)
{
	if (role <= HA_ROLES_MAX) {
		((struct ha_api *)arg)->switched_token[role - 1] = token;
	}
}

static void op_lease(void *arg, const struct vmops_lease *lease)
{
	guard_lease(((struct ha_api *)arg)->guard, lease);
}

static uint64_t inflight_ns(const struct ha_api *api)
{
	return ha_timing(api->ha)->cfg.inflight_ms * NS_PER_MS;
}

/* Of a VM that this host's manager does not have (any more): was a worker there, and killed? */
static bool cut_unknown(struct ha_api *api, const char *id)
{
	char path[GUARD_PATH_MAX];

	(void)snprintf(path, sizeof(path), "%.400s/vm/%.40s/worker.pid", api->cfg.run_dir, id);
	if (!guard_pid_lives(path)) {
		return false;
	}
	log_warn(HA_TAG, "kills a worker whose definition is not here pid_file=%s", path);
	guard_pid_kill(path);
	return true;
}

/* All that may be the cluster's: what the guard knows, and what the documents name. */
static bool op_clear(void *arg)
{
	struct ha_api *api = arg;
	const struct db *db = member_db(api->place.member);
	bool clear = csv_wire_clear(api->csv);
	struct guard_vm g;

	for (uint32_t i = 0; i < GUARD_VMS_MAX; i++) {
		struct vm *vm = guard_at(api->guard, i, &g) ? vm_by_id(api, &g.id) : NULL;

		if (vm != NULL && vm_has_worker(vm)) {
			vm_cut(vm);
			clear = false;
		} else if (vm == NULL && guard_at(api->guard, i, &g) && g.role != GUARD_CSVD &&
		           guard_pid_lives(g.pid_path)) {
			guard_pid_kill(g.pid_path);
			clear = false;
		}
	}
	for (size_t i = 0; i < db_count(db, DB_VM); i++) {
		const json_t *doc = db_at(db, DB_VM, i)->doc;
		const char *id = json_string_value(json_object_get(doc, "id"));
		bool ours = vm_doc_is_role(doc) && id != NULL;
		struct vm *vm = ours ? manager_vm_find(api->cfg.manager, id) : NULL;

		if (vm != NULL && vm_has_worker(vm)) {
			vm_cut(vm);
			clear = false;
		} else if (vm != NULL) {
			forget(vm, api);
		} else if (ours && cut_unknown(api, id)) {
			clear = false;
		}
	}
	if (!clear) {
		api->quiet_ns = 0;
	} else if (api->quiet_ns == 0) {
		api->quiet_ns = clock_boot_ns();
	}
	return clear && clock_boot_ns() - api->quiet_ns >= inflight_ns(api);
}

static void op_began(void *arg, uint64_t inc)
{
	struct ha_api *api = arg;

	guard_begin(api->guard, inc);
	api->quiet_ns = 0;
	memset(api->ended_ns, 0, sizeof(api->ended_ns));
	memset(api->stop_by_ns, 0, sizeof(api->stop_by_ns));
	memset(api->stop_again, 0, sizeof(api->stop_again));
}

void ha_vms_ops(struct ha_api *api)
{
	api->vmops = (struct vmops){
		.start = op_start,
		.stop = op_stop,
		.kill = op_kill,
		.send = op_send,
		.switched = op_switched,
		.lease = op_lease,
		.clear = op_clear,
		.began = op_began,
		.arg = api,
	};
}

/* ---- what became of them ---- */

/* Copies from before there were marks. */
static void mark_all(struct ha_api *api)
{
	const struct db *db = member_db(api->place.member);

	for (size_t i = 0; i < db_count(db, DB_VM); i++) {
		const json_t *doc = db_at(db, DB_VM, i)->doc;
		const char *id = json_string_value(json_object_get(doc, "id"));
		struct vm *vm = vm_doc_is_role(doc) && id != NULL
		                        ? manager_vm_find(api->cfg.manager, id)
		                        : NULL;
		struct errbuf eb = {0};

		if (vm != NULL && vm_own(vm, &eb) != 0) {
			log_err(HA_TAG, "not marked as the cluster's vm=%s text=\"%s\"",
			        vm_config_get(vm)->name, eb.text);
		}
	}
}

void ha_vms_adopt(struct ha_api *api)
{
	struct vmops_lease lease;
	struct guard_vm g;
	bool any = guard_run(api->guard, &lease) != 0;

	mark_all(api);
	for (uint32_t i = 0; i < GUARD_VMS_MAX; i++) {
		bool entry = guard_at(api->guard, i, &g) && g.role <= HA_ROLES_MAX;
		struct vm *vm = entry ? vm_by_id(api, &g.id) : NULL;

		any = any || entry;
		/* One that is on its way here or away is not (any more) ours. */
		if (vm != NULL && vm_state_get(vm) != VM_ARRIVING && vm_state_get(vm) != VM_MOVED) {
			ha_adopt(api->ha, g.role, g.token);
		} else if (entry && vm == NULL && guard_pid_lives(g.pid_path)) {
			/* What runs, runs: nobody may be told that it does not. */
			log_err(HA_TAG,
			        "a worker runs whose definition this godwitd cannot read role=%u "
			        "pid_file=%s",
			        g.role, g.pid_path);
			ha_adopt(api->ha, g.role, g.token);
		}
	}
	/* Nothing of a run on this boot: nothing that could still be written. */
	api->quiet_ns = any ? 0 : 1;
}

static enum agent_event event_of(const struct vm *vm, const struct agent_vm *avm)
{
	if (avm->state == AGENT_STARTING) {
		return AGENT_START_FAILED;
	}
	return vm != NULL && vm_guest_off(vm) && !avm->stopping && !avm->killing ? AGENT_GUEST_OFF
	                                                                         : AGENT_EXITED;
}

/* A worker of a VM that the manager does not have: a definition that cannot be read, or one that
 * goes. It can be asked nothing. */
static void look_at_unknown(struct ha_api *api, const struct guard_vm *g)
{
	const struct agent_vm *avm = agent_vm_of(api, g->role);
	bool ours = avm->state != AGENT_NONE && avm->token == g->token;

	if (!ours || avm->stopping) {
		guard_pid_kill(g->pid_path);
	}
}

/* It has ended. Has what it left with its disks been written, or will never be? */
static bool is_quiet(struct ha_api *api, const struct guard_vm *g, const struct vm *vm)
{
	uint64_t *ended_ns = &api->ended_ns[g->role - 1];

	/* In good order, or handed over: all was answered. */
	if ((vm != NULL && vm_guest_off(vm)) || api->switched_token[g->role - 1] == g->token) {
		return true;
	}
	*ended_ns = *ended_ns != 0 ? *ended_ns : clock_boot_ns();
	return clock_boot_ns() - *ended_ns >= inflight_ns(api);
}

/* Others know it from its document only: that a person lets it stand still. With the token, so that
 * it is said of this life of it. */
static void tell_paused(struct ha_api *api, const struct guard_vm *g, bool paused, uint64_t now_ns)
{
	const struct role *r = role_of(api, g->role);
	uint64_t *next_ns = &api->pause_told_ns[g->role - 1];
	bool told = r != NULL && ha_told_paused(api, r);
	struct db_cmd cmd;
	json_t *patch;

	if (r == NULL || r->token != g->token || told == paused || now_ns < *next_ns) {
		return;
	}
	*next_ns = now_ns + PAUSE_AGAIN_NS;
	patch = paused ? json_pack("{s:I}", "paused", (json_int_t)g->token)
	               : json_pack("{s:n}", "paused");
	db_cmd_init(&cmd);
	db_cmd_merge(&cmd, DB_VM, r->name, patch);
	if (db_cmd_end(&cmd) != 0 ||
	    member_propose(api->place.member, &cmd, NOTE_NS, on_noted, NULL) != 0) {
		log_debug(HA_TAG, "said again later: paused vm=%s", r->name);
	}
	db_cmd_fini(&cmd);
	json_decref(patch);
}

static void look_at(struct ha_api *api, const struct guard_vm *g, uint64_t now_ns)
{
	const struct agent_vm *avm = agent_vm_of(api, g->role);
	bool ours = avm->state != AGENT_NONE && avm->token == g->token;
	struct vm *vm = vm_by_id(api, &g->id);
	uint64_t stop_by_ns = api->stop_by_ns[g->role - 1];

	if (vm != NULL && (vm_has_worker(vm) || vm_state_get(vm) == VM_STARTING)) {
		enum vm_state state = vm_state_get(vm);

		if (state == VM_ARRIVING || state == VM_MOVED || ha_move_expected(api, g)) {
			return; /* the move is over soon, this way or that */
		}
		if (!ours) {
			vm_cut(vm);
		} else if (avm->stopping && stop_by_ns != 0 && now_ns > stop_by_ns) {
			log_warn(HA_TAG, "guest is turned off vm=%s", vm_config_get(vm)->name);
			vm_cut(vm);
		} else if (avm->stopping && api->stop_again[g->role - 1] && state == VM_RUNNING) {
			op_stop(api, g->role);
		}
		if (ours && (state == VM_PAUSED || state == VM_RUNNING)) {
			tell_paused(api, g, state == VM_PAUSED, now_ns);
		}
		return;
	}

	if (vm == NULL && guard_pid_lives(g->pid_path)) {
		look_at_unknown(api, g);
		return;
	}
	if (!is_quiet(api, g, vm)) {
		return; /* looked at again */
	}

	enum agent_event event = event_of(vm, avm);

	if (vm != NULL) {
		forget(vm, api);
	}
	guard_del(api->guard, g->role);
	api->ended_ns[g->role - 1] = 0;
	api->stop_by_ns[g->role - 1] = 0;
	api->stop_again[g->role - 1] = false;
	if (ours) {
		ha_vm_event(api->ha, g->role, event);
	}
}

void ha_vms_look(struct ha_api *api)
{
	struct guard_vm g;

	if (api->ha == NULL || api->guard == NULL) {
		return;
	}
	(void)guard_alive(api->guard);
	for (uint32_t i = 0; i < GUARD_VMS_MAX; i++) {
		if (guard_at(api->guard, i, &g) && g.role <= HA_ROLES_MAX) {
			look_at(api, &g, clock_now_ns());
		}
	}
}
