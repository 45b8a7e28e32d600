/* SPDX-License-Identifier: Apache-2.0 */
#include "bin/godwitd/vm_api.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/api/server.h"
#include "base/clock.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/loop.h"
#include "bin/godwitd/disk_api.h"
#include "bin/godwitd/event_api.h"
#include "bin/godwitd/switch_api.h"
#include "bin/godwitd/vm_files.h"
#include "hv/manager/manager.h"
#include "hv/manager/store.h"

#define TAG "vm-api"
#define VM_API_LOG_BYTES_MAX (8u << 20)
#define VM_API_PATH_MAX 4096
#define VM_API_LIST_WAIT_NS (2 * NS_PER_S) /* for workers that save, or hang */

struct vm_api {
	struct loop *loop;           /* borrowed */
	struct vm_store *store;      /* owned */
	struct manager *manager;     /* owned */
	struct event_api *events;    /* owned */
	struct switch_api *switches; /* owned */
	struct disk_api *disks;      /* owned */
	const struct vm_api_ha *ha;  /* borrowed; NULL = no VM is the cluster's */
};

/* ---- helpers ---- */

/* Is it the cluster's? Then that has taken the request. */
static bool vm_is_taken(struct vm_api *api, enum vm_api_ask what, struct api_req *req,
                        enum api_then *then)
{
	bool later = false;

	if (api->ha == NULL ||
	    !api->ha->ask(api->ha->arg, what, api_req_param(req, "name"), req, &later)) {
		return false;
	}
	*then = later ? API_LATER : API_ANSWERED;
	return true;
}

/* A VM as this host shows it; a new reference. */
static json_t *vm_row(const struct vm_api *api, const struct vm *vm)
{
	json_t *row = vm_status(vm);

	if (row != NULL && api->ha != NULL) {
		api->ha->row(api->ha->arg, row);
	}
	return row;
}

/* The VM of the path; NULL: the request has been answered. */
static struct vm *vm_of(struct vm_api *api, struct api_req *req)
{
	const char *name = api_req_param(req, "name");
	struct vm *vm = manager_vm_find(api->manager, name);
	struct errbuf eb = {0};

	if (vm == NULL) {
		(void)errbuf_set(&eb, -ENOENT, "there is no VM named %s", name);
		errbuf_hint(&eb, "godwit vm list shows those there are");
		(void)api_reply_errno(req, -ENOENT, &eb);
	}
	return vm;
}

/* One asynchronous operation of a VM: ends with the VM's status, or the error. */
struct vm_call {
	struct api_req *req;
	struct vm_api *api;
	char name[VM_NAME_MAX + 1];
};

static void vm_call_done(void *arg, int err, const struct errbuf *eb)
{
	struct vm_call *call = arg;
	struct vm *vm = manager_vm_find(call->api->manager, call->name);

	if (err != 0) {
		(void)api_reply_errno(call->req, err, eb);
	} else {
		(void)api_reply(call->req, 200, vm != NULL ? vm_status(vm) : json_object());
	}
	free(call);
}

static struct vm_call *vm_call_new(struct vm_api *api, struct api_req *req, const struct vm *vm)
{
	struct vm_call *call = gw_malloc(sizeof(*call));

	if (call == NULL) {
		(void)api_reply_errno(req, -ENOMEM, NULL);
		return NULL;
	}
	call->req = req;
	call->api = api;
	(void)snprintf(call->name, sizeof(call->name), "%s", vm_config_get(vm)->name);
	return call;
}

/* ---- list and show ---- */

/* A list that waits for the workers' word, but not for one that is busy for long. */
struct list_call {
	struct api_req *req; /* NULL: answered */
	struct vm_api *api;
	struct loop_timer *timer; /* owned; NULL: without, it waits */
	uint32_t waiting;
};

static void list_reply(void *arg)
{
	struct list_call *call = arg;
	json_t *vms = json_array();

	for (struct vm *vm = manager_vm_next(call->api->manager, NULL); vm != NULL;
	     vm = manager_vm_next(call->api->manager, vm)) {
		(void)json_array_append_new(vms, vm_row(call->api, vm));
	}
	if (call->api->ha != NULL) {
		call->api->ha->list(call->api->ha->arg, vms);
	}
	(void)api_reply(call->req, 200, json_pack("{s:o}", "vms", vms));
	call->req = NULL;
	loop_timer_del(call->timer);
	call->timer = NULL;
}

static void list_refreshed(void *arg, int err, const struct errbuf *eb)
{
	struct list_call *call = arg;

	(void)err; /* a worker that cannot say has no numbers in the list */
	(void)eb;
	if (--call->waiting != 0) {
		return;
	}
	if (call->req != NULL) {
		list_reply(call);
	}
	free(call);
}

static enum api_then vms_list(struct api_req *req, void *arg)
{
	struct vm_api *api = arg;
	struct list_call *call = gw_malloc(sizeof(*call));

	if (call == NULL) {
		return api_reply_errno(req, -ENOMEM, NULL);
	}
	*call = (struct list_call){.req = req, .api = api, .waiting = 1};
	if (loop_timer_add(api->loop, VM_API_LIST_WAIT_NS, list_reply, call, &call->timer) != 0) {
		call->timer = NULL;
	}
	for (struct vm *vm = manager_vm_next(api->manager, NULL); vm != NULL;
	     vm = manager_vm_next(api->manager, vm)) {
		call->waiting++;
		vm_refresh(vm, list_refreshed, call);
	}
	list_refreshed(call, 0, NULL);
	return API_LATER;
}

static void show_refreshed(void *arg, int err, const struct errbuf *eb)
{
	struct vm_call *call = arg;
	struct vm *vm = manager_vm_find(call->api->manager, call->name);
	json_t *out;

	(void)err;
	(void)eb;
	if (vm == NULL) {
		(void)api_reply_errno(call->req, -ENOENT, NULL);
	} else {
		out = vm_row(call->api, vm);
		if (out != NULL) {
			(void)json_object_set(out, "definition", vm_config_get(vm)->json);
		}
		(void)api_reply(call->req, 200, out);
	}
	free(call);
}

static enum api_then vm_show(struct api_req *req, void *arg)
{
	enum api_then then;
	struct vm_call *call;
	struct vm *vm;

	if (vm_is_taken(arg, VM_API_SHOW, req, &then)) {
		return then;
	}
	vm = vm_of(arg, req);
	call = vm != NULL ? vm_call_new(arg, req, vm) : NULL;
	if (call != NULL) {
		vm_refresh(vm, show_refreshed, call);
	}
	return API_LATER;
}

/* ---- definitions ---- */

/* A VM that waits for its disks to be made. */
struct create_call {
	struct vm_api *api;
	struct api_req *req;
	json_t *definition; /* owned, as the next; "ha" in it: the cluster's */
	json_t *disks;      /* what is to be made */
};

/* Somebody has to define what is the cluster's; @ha is NULL of what is not. */
static int create_ha_check(const struct vm_api *api, const json_t *ha, struct errbuf *eb)
{
	if (ha == NULL || api->ha != NULL) {
		return 0;
	}
	(void)errbuf_set(eb, -ENOTCONN,
	                 "a highly available VM needs a cluster, and this host is in none");
	errbuf_hint(eb, "godwit cluster create makes one");
	return -ENOTCONN;
}

/* @definition and @disks, which have been made for it, are taken. */
static enum api_then create_define(struct vm_api *api, struct api_req *req, json_t *definition,
                                   json_t *disks)
{
	json_t *ha = json_incref(json_object_get(definition, "ha"));
	struct errbuf eb = {0};
	struct vm *vm = NULL;
	int err = create_ha_check(api, ha, &eb); /* again: the disks took time */

	if (err == 0 && ha != NULL) {
		(void)json_object_del(definition, "ha");
		json_decref(disks);
		api->ha->define(api->ha->arg, req, definition, ha);
		return API_LATER;
	}
	if (err == 0) {
		err = manager_vm_define(api->manager, definition, false, &vm, &eb);
	}
	if (err != 0) {
		disk_api_unmake(disks);
	}
	json_decref(ha);
	json_decref(definition);
	json_decref(disks);
	return err != 0 ? api_reply_errno(req, err, &eb) : api_reply(req, 201, vm_status(vm));
}

static void create_made(void *arg, int err, const struct errbuf *eb)
{
	struct create_call *call = arg;

	if (err == 0) {
		(void)create_define(call->api, call->req, call->definition, call->disks);
	} else {
		(void)api_reply_errno(call->req, err, eb);
		json_decref(call->definition);
		json_decref(call->disks);
	}
	free(call);
}

/* Make @disks, then define the VM. Both are taken. */
static enum api_then create_with_disks(struct vm_api *api, struct api_req *req, json_t *definition,
                                       json_t *disks)
{
	struct create_call *call = gw_malloc(sizeof(*call));
	struct errbuf eb = {0};
	int err = -ENOMEM;

	if (call != NULL) {
		*call = (struct create_call){
			.api = api, .req = req, .definition = definition, .disks = disks};
		/* A copy of its own for the thread that makes them. */
		err = disk_api_make(api->disks, json_deep_copy(disks), create_made, call, &eb);
	}
	if (err != 0) {
		free(call);
		json_decref(definition);
		json_decref(disks);
		return api_reply_errno(req, err, &eb);
	}
	return API_LATER;
}

/*
 * Take the members "create" out of @definition's disks: requests for disk_api_make(), with the
 * disk's path. Returns a new array; NULL = no memory.
 */
static json_t *create_requests(json_t *definition)
{
	json_t *requests = json_array();
	size_t i;
	json_t *disk;

	json_array_foreach(json_object_get(definition, "disks"), i, disk)
	{
		json_t *create = json_deep_copy(json_object_get(disk, "create"));
		json_t *path = json_object_get(disk, "path");

		if (create == NULL) {
			continue;
		}
		(void)json_object_del(disk, "create");
		if ((path != NULL && json_object_set(create, "path", path) != 0) ||
		    json_array_append_new(requests, create) != 0) {
			json_decref(requests);
			return NULL;
		}
	}
	return requests;
}

/* Could it be defined? It is completed. */
static int create_check(struct vm_api *api, json_t *definition, struct errbuf *eb)
{
	json_t *ha = json_incref(json_object_get(definition, "ha"));
	const char *name = json_string_value(json_object_get(definition, "name"));
	struct vm *vm = NULL;
	int err = create_ha_check(api, ha, eb);

	if (ha == NULL && name != NULL && api->ha != NULL && api->ha->owned(api->ha->arg, name)) {
		err = errbuf_set(eb, -EEXIST, "the cluster has a VM named %s", name);
	}
	if (ha != NULL) {
		(void)json_object_del(definition, "ha");
	}
	if (err == 0) {
		err = manager_vm_define(api->manager, definition, true, &vm, eb);
	}
	if (ha != NULL && json_object_set_new(definition, "ha", ha) != 0) {
		err = -ENOMEM;
	}
	return err;
}

static enum api_then vm_create(struct api_req *req, void *arg)
{
	struct vm_api *api = arg;
	const json_t *body = api_req_body(req);
	bool dry_run = api_req_query(req, "dry_run") != NULL;
	struct errbuf eb = {0};
	json_t *definition;
	json_t *disks;
	int err;

	if (body == NULL) {
		(void)errbuf_set(&eb, -EINVAL, "a VM's definition is missing");
		return api_reply_errno(req, -EINVAL, &eb);
	}
	definition = json_deep_copy(body);
	disks = definition != NULL ? create_requests(definition) : NULL;
	if (disks == NULL) {
		json_decref(definition);
		return api_reply_errno(req, -ENOMEM, NULL);
	}
	/* Nothing is made for a VM that cannot be. */
	err = create_check(api, definition, &eb);
	if (err == 0) {
		err = vm_files_check(definition, disks, &eb);
	}
	if (err == 0 && !dry_run && json_array_size(disks) != 0) {
		return create_with_disks(api, req, definition, disks);
	}
	if (err == 0 && !dry_run) {
		return create_define(api, req, definition, disks);
	}
	json_decref(disks);
	if (err == 0) {
		return api_reply(req, 200, definition);
	}
	json_decref(definition);
	return api_reply_errno(req, err, &eb);
}

/* Members of the body replace those of the definition; null removes one. */
static enum api_then vm_set(struct api_req *req, void *arg)
{
	enum api_then then = API_ANSWERED;
	struct vm *vm = NULL;
	struct errbuf eb = {0};
	json_t *definition;
	const char *key;
	json_t *value;
	json_t *body;
	int err = 0;

	if (vm_is_taken(arg, VM_API_SET, req, &then) || (vm = vm_of(arg, req)) == NULL) {
		return then;
	}
	body = json_deep_copy(api_req_body(req));
	definition = json_deep_copy(vm_config_get(vm)->json);
	json_object_foreach(body, key, value)
	{
		if (json_is_null(value)) {
			(void)json_object_del(definition, key);
		} else if (json_object_set(definition, key, value) != 0) {
			err = -ENOMEM;
		}
	}
	if (definition == NULL) {
		err = -ENOMEM;
	}
	if (err == 0) {
		err = manager_vm_change(vm, definition, &eb);
	}
	json_decref(definition);
	json_decref(body);
	return err != 0 ? api_reply_errno(req, err, &eb) : api_reply(req, 200, vm_status(vm));
}

static enum api_then vm_delete(struct api_req *req, void *arg)
{
	enum api_then then = API_ANSWERED;
	struct vm *vm = NULL;
	struct errbuf eb = {0};
	int err;

	if (vm_is_taken(arg, VM_API_DELETE, req, &then) || (vm = vm_of(arg, req)) == NULL) {
		return then;
	}
	err = manager_vm_remove(vm, &eb);
	return err != 0 ? api_reply_errno(req, err, &eb) : api_reply(req, 204, NULL);
}

/* ---- the life cycle ---- */

static enum api_then vm_post_start(struct api_req *req, void *arg)
{
	enum api_then then;
	struct vm_call *call;
	struct vm *vm;

	if (vm_is_taken(arg, VM_API_START, req, &then)) {
		return then;
	}
	vm = vm_of(arg, req);
	call = vm != NULL ? vm_call_new(arg, req, vm) : NULL;
	if (call != NULL) {
		vm_start(vm, vm_call_done, call);
	}
	return API_LATER;
}

static enum api_then vm_post_stop(struct api_req *req, void *arg)
{
	bool off = api_req_query(req, "off") != NULL;
	enum api_then then = API_ANSWERED;
	struct vm *vm = NULL;
	struct errbuf eb = {0};
	struct vm_call *call;
	int err;

	if (vm_is_taken(arg, VM_API_STOP, req, &then) || (vm = vm_of(arg, req)) == NULL) {
		return then;
	}
	if (off && vm_state_get(vm) == VM_SAVED) {
		err = vm_discard_saved(vm, &eb);
		return err != 0 ? api_reply_errno(req, err, &eb)
		                : api_reply(req, 200, vm_status(vm));
	}
	call = vm_call_new(arg, req, vm);
	if (call != NULL) {
		vm_shutdown(vm, off ? VM_SHUTDOWN_OFF : VM_SHUTDOWN_GUEST, vm_call_done, call);
	}
	return API_LATER;
}

static enum api_then vm_post_restart(struct api_req *req, void *arg)
{
	enum api_then then;
	struct vm_call *call;
	struct vm *vm;

	if (vm_is_taken(arg, VM_API_RESTART, req, &then)) {
		return then;
	}
	vm = vm_of(arg, req);
	call = vm != NULL ? vm_call_new(arg, req, vm) : NULL;
	if (call != NULL) {
		vm_restart(vm, api_req_query(req, "reset") != NULL, vm_call_done, call);
	}
	return API_LATER;
}

static enum api_then vm_post_pause(struct api_req *req, void *arg)
{
	enum api_then then;
	struct vm_call *call;
	struct vm *vm;

	if (vm_is_taken(arg, VM_API_PAUSE, req, &then)) {
		return then;
	}
	vm = vm_of(arg, req);
	call = vm != NULL ? vm_call_new(arg, req, vm) : NULL;
	if (call != NULL) {
		vm_pause(vm, vm_call_done, call);
	}
	return API_LATER;
}

static enum api_then vm_post_resume(struct api_req *req, void *arg)
{
	enum api_then then;
	struct vm_call *call;
	struct vm *vm;

	if (vm_is_taken(arg, VM_API_RESUME, req, &then)) {
		return then;
	}
	vm = vm_of(arg, req);
	call = vm != NULL ? vm_call_new(arg, req, vm) : NULL;
	if (call != NULL) {
		vm_resume(vm, vm_call_done, call);
	}
	return API_LATER;
}

static enum api_then vm_post_save(struct api_req *req, void *arg)
{
	enum api_then then;
	struct vm_call *call;
	struct vm *vm;

	if (vm_is_taken(arg, VM_API_SAVE, req, &then)) {
		return then;
	}
	vm = vm_of(arg, req);
	call = vm != NULL ? vm_call_new(arg, req, vm) : NULL;
	if (call != NULL) {
		vm_save(vm, vm_call_done, call);
	}
	return API_LATER;
}

/* ---- console ---- */

static void console_attached(void *arg, int err, const struct errbuf *eb)
{
	char *name = arg;

	if (err != 0) {
		log_warn(TAG, "console not attached vm=%s reason=%s", name, errbuf_text(eb, err));
	}
	free(name);
}

struct console_call {
	struct vm_api *api;
	char *name; /* owned */
};

static void console_upgraded(int fd, const void *early, size_t len, void *arg)
{
	struct console_call *call = arg;
	struct vm *vm = manager_vm_find(call->api->manager, call->name);

	(void)early; /* typed ahead before there was a console: lost, as on a serial line */
	(void)len;
	if (fd >= 0 && vm != NULL) {
		vm_console(vm, fd, console_attached, call->name);
	} else {
		if (fd >= 0) {
			(void)close(fd);
		}
		free(call->name);
	}
	free(call);
}

static enum api_then vm_get_console(struct api_req *req, void *arg)
{
	enum api_then then = API_ANSWERED;
	struct vm *vm = NULL;
	struct console_call *call;
	struct errbuf eb = {0};
	enum vm_state state;

	if (vm_is_taken(arg, VM_API_CONSOLE, req, &then) || (vm = vm_of(arg, req)) == NULL) {
		return then;
	}
	state = vm_state_get(vm);
	if (state != VM_RUNNING && state != VM_PAUSED && state != VM_STOPPING &&
	    state != VM_CRITICAL) {
		(void)errbuf_set(&eb, -ENOTCONN, "%s is %s and has no console",
		                 vm_config_get(vm)->name, vm_state_name(state));
		errbuf_hint(&eb, "godwit vm log shows what it wrote so far");
		return api_reply_errno(req, -ENOTCONN, &eb);
	}
	call = gw_malloc(sizeof(*call));
	if (call != NULL) {
		call->api = arg;
		call->name = gw_strdup(vm_config_get(vm)->name);
	}
	if (call == NULL || call->name == NULL) {
		free(call);
		return api_reply_errno(req, -ENOMEM, NULL);
	}
	return api_reply_upgrade(req, "godwit-console", console_upgraded, call);
}

static enum api_then vm_get_log(struct api_req *req, void *arg)
{
	struct vm *vm = NULL;
	struct errbuf eb = {0};
	enum api_then then = API_ANSWERED;
	char *buf = NULL;
	size_t len = 0;
	int err;

	if (vm_is_taken(arg, VM_API_LOG, req, &then) || (vm = vm_of(arg, req)) == NULL) {
		return then;
	}
	err = fs_read(vm_log_path(vm), VM_API_LOG_BYTES_MAX, &buf, &len, &eb);
	if (err == -ENOENT) {
		return api_reply_bytes(req, "text/plain", "", 0);
	}
	if (err != 0) {
		return api_reply_errno(req, err, &eb);
	}
	then = api_reply_bytes(req, "text/plain", buf, len);
	free(buf);
	return then;
}

/* ---- life of the module ---- */

static const struct api_route vm_routes[] = {
	{API_GET, "/v1/vms", vms_list},
	{API_POST, "/v1/vms", vm_create},
	{API_GET, "/v1/vms/{name}", vm_show},
	{API_PATCH, "/v1/vms/{name}", vm_set},
	{API_DELETE, "/v1/vms/{name}", vm_delete},
	{API_POST, "/v1/vms/{name}/start", vm_post_start},
	{API_POST, "/v1/vms/{name}/stop", vm_post_stop},
	{API_POST, "/v1/vms/{name}/restart", vm_post_restart},
	{API_POST, "/v1/vms/{name}/pause", vm_post_pause},
	{API_POST, "/v1/vms/{name}/resume", vm_post_resume},
	{API_POST, "/v1/vms/{name}/save", vm_post_save},
	{API_GET, "/v1/vms/{name}/console", vm_get_console},
	{API_GET, "/v1/vms/{name}/log", vm_get_log},
};

static void vm_api_event(void *arg, const json_t *event)
{
	struct vm_api *api = arg;

	event_api_add(api->events, event);
	if (api->ha != NULL) {
		api->ha->event(api->ha->arg);
	}
}

static int vm_api_open(const struct vm_api_cfg *cfg, struct vm_api *api, struct errbuf *eb)
{
	static const struct manager_events events = {.event = vm_api_event};
	const struct switch_api_cfg switches = {
		.loop = cfg->loop,
		.server = cfg->server,
		.store = api->store,
		.state_dir = cfg->state_dir,
		.run_dir = cfg->run_dir,
		.event = vm_api_event,
		.arg = api,
	};
	int err = disk_api_create(cfg->loop, cfg->server, &api->disks, eb);

	if (err == 0) {
		err = switch_api_create(&switches, &api->switches, eb);
	}
	if (err != 0) {
		return err;
	}

	const struct manager_cfg manager = {
		.loop = cfg->loop,
		.store = api->store,
		.state_dir = cfg->state_dir,
		.run_dir = cfg->run_dir,
		.worker_path = cfg->worker_path,
		.worker_uid_base = cfg->worker_uid_base,
		.direct_socket = cfg->direct_socket,
		.events = &events,
		.events_arg = api,
		.tap_open = switch_api_tap_open,
		.tap_claim = switch_api_tap_claim,
		.tap_arg = api->switches,
	};

	err = manager_create(&manager, &api->manager, eb);
	if (err != 0) {
		return err;
	}
	switch_api_manager(api->switches, api->manager);
	disk_api_manager(api->disks, api->manager);
	return api_server_routes(cfg->server, vm_routes, ARRAY_LEN(vm_routes), api);
}

int vm_api_create(const struct vm_api_cfg *cfg, struct vm_api **out, struct errbuf *eb)
{
	struct vm_api *api = gw_calloc(1, sizeof(*api));
	char path[VM_API_PATH_MAX];
	int err;

	*out = NULL;
	if (api == NULL) {
		return errbuf_sys(eb, -ENOMEM, "cannot serve VMs");
	}
	api->loop = cfg->loop;
	(void)snprintf(path, sizeof(path), "%s/godwit.db", cfg->state_dir);
	err = event_api_create(cfg->server, &api->events, eb);
	if (err == 0) {
		err = store_sqlite_open(path, &api->store, eb);
	}
	if (err == 0) {
		err = vm_api_open(cfg, api, eb);
	}
	if (err != 0) {
		vm_api_destroy(api);
		return err;
	}
	*out = api;
	return 0;
}

void vm_api_set_ha(struct vm_api *api, const struct vm_api_ha *ha)
{
	api->ha = ha;
}

struct event_api *vm_api_events(struct vm_api *api)
{
	return api->events;
}

struct manager *vm_api_manager(struct vm_api *api)
{
	return api->manager;
}

struct switch_api *vm_api_switches(struct vm_api *api)
{
	return api->switches;
}

struct vm_store *vm_api_store(struct vm_api *api)
{
	return api->store;
}

void vm_api_stop(struct vm_api *api)
{
	if (api != NULL) {
		disk_api_stop(api->disks); /* VMs that wait for their disks are not defined */
		disk_api_manager(api->disks, NULL);
		if (api->switches != NULL) {
			switch_api_manager(api->switches, NULL);
		}
		manager_destroy(api->manager);
		api->manager = NULL;
		event_api_stop(api->events);
	}
}

void vm_api_destroy(struct vm_api *api)
{
	if (api == NULL) {
		return;
	}
	disk_api_destroy(api->disks);
	manager_destroy(api->manager);
	switch_api_destroy(api->switches);
	if (api->store != NULL) {
		api->store->ops->close(api->store);
	}
	event_api_destroy(api->events);
	free(api);
}
