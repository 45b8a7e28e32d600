/* SPDX-License-Identifier: Apache-2.0 */
#include "bin/godwitd/switch_api.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/api/server.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "base/guid.h"
#include "hv/manager/manager.h"
#include "hv/switch/switch.h"

struct switch_api {
	struct switches *switches; /* owned */
	struct manager *manager;   /* borrowed; NULL = none */
};

/* ---- which VMs ---- */

/* The VM with an adapter in the switch @name, running or not; NULL = none. */
static const struct vm_config *user_of(const struct switch_api *api, const char *name)
{
	struct vm *vm = api->manager != NULL ? manager_vm_next(api->manager, NULL) : NULL;

	for (; vm != NULL; vm = manager_vm_next(api->manager, vm)) {
		const struct vm_config *c = vm_config_get(vm);

		for (uint32_t i = 0; i < c->nic_count; i++) {
			if (strcmp(c->nics[i].switch_name, name) == 0) {
				return c;
			}
		}
	}
	return NULL;
}

/* The VM whose adapter has the id @text; "" = none that is defined here. */
static const char *owner_of(const struct switch_api *api, const char *text)
{
	struct vm *vm = api->manager != NULL ? manager_vm_next(api->manager, NULL) : NULL;
	struct guid id;

	if (text == NULL || guid_parse(text, &id) != 0) {
		return "";
	}
	for (; vm != NULL; vm = manager_vm_next(api->manager, vm)) {
		const struct vm_config *c = vm_config_get(vm);

		for (uint32_t i = 0; i < c->nic_count; i++) {
			if (guid_equal(&c->nics[i].id, &id)) {
				return c->name;
			}
		}
	}
	return "";
}

/* A status knows adapters by their ids; people know VMs. @status: taken. NULL = no memory. */
static json_t *with_names(const struct switch_api *api, json_t *status)
{
	size_t i;
	json_t *port;

	json_array_foreach(json_object_get(status, "ports"), i, port)
	{
		const char *id = json_string_value(json_object_get(port, "nic"));

		if (json_object_set_new(port, "vm", json_string(owner_of(api, id))) != 0) {
			json_decref(status);
			return NULL;
		}
	}
	return status;
}

/* ---- routes ---- */

static enum api_then reply_missing(struct api_req *req, const char *name)
{
	struct errbuf eb = {0};

	(void)errbuf_set(&eb, -ENOENT, "there is no switch named %s", name);
	errbuf_hint(&eb, "godwit switch list shows those there are");
	return api_reply_errno(req, -ENOENT, &eb);
}

static enum api_then switch_list(struct api_req *req, void *arg)
{
	struct switch_api *api = arg;
	json_t *list = switches_status(api->switches, NULL);
	size_t i;
	json_t *one;

	json_array_foreach(list, i, one)
	{
		if (with_names(api, json_incref(one)) == NULL) {
			json_decref(list);
			return api_reply_errno(req, -ENOMEM, NULL);
		}
		json_decref(one);
	}
	return list != NULL ? api_reply(req, 200, json_pack("{s:o}", "switches", list))
	                    : api_reply_errno(req, -ENOMEM, NULL);
}

static enum api_then switch_show(struct api_req *req, void *arg)
{
	struct switch_api *api = arg;
	const char *name = api_req_param(req, "name");
	json_t *status;

	if (switches_name(api->switches, name) == NULL) {
		return reply_missing(req, name);
	}
	status = switches_status(api->switches, name);
	status = status != NULL ? with_names(api, status) : NULL;
	return status != NULL ? api_reply(req, 200, status) : api_reply_errno(req, -ENOMEM, NULL);
}

static enum api_then switch_create(struct api_req *req, void *arg)
{
	struct switch_api *api = arg;
	const json_t *body = api_req_body(req);
	bool dry_run = api_req_query(req, "dry_run") != NULL;
	struct errbuf eb = {0};
	json_t *definition;
	json_t *status;
	int err;

	if (body == NULL) {
		(void)errbuf_set(&eb, -EINVAL, "a switch's definition is missing");
		return api_reply_errno(req, -EINVAL, &eb);
	}
	definition = json_deep_copy(body);
	if (definition == NULL) {
		return api_reply_errno(req, -ENOMEM, NULL);
	}
	err = switches_define(api->switches, definition, dry_run, &eb);
	if (err == 0 && dry_run) {
		return api_reply(req, 200, definition);
	}
	status = err == 0 ? switches_status(api->switches,
	                                    json_string_value(json_object_get(definition, "id")))
	                  : NULL;
	json_decref(definition);
	return err != 0 ? api_reply_errno(req, err, &eb) : api_reply(req, 201, status);
}

static enum api_then switch_set(struct api_req *req, void *arg)
{
	struct switch_api *api = arg;
	const char *name = api_req_param(req, "name");
	const json_t *body = api_req_body(req);
	struct errbuf eb = {0};
	json_t *status;
	int err;

	if (switches_name(api->switches, name) == NULL) {
		return reply_missing(req, name);
	}
	if (!json_is_object(body)) {
		(void)errbuf_set(&eb, -EINVAL, "what is to change is missing");
		return api_reply_errno(req, -EINVAL, &eb);
	}
	err = switches_change(api->switches, name, body, &eb);
	if (err != 0) {
		return api_reply_errno(req, err, &eb);
	}
	status = switches_status(api->switches, name);
	status = status != NULL ? with_names(api, status) : NULL;
	return status != NULL ? api_reply(req, 200, status) : api_reply_errno(req, -ENOMEM, NULL);
}

static enum api_then switch_delete(struct api_req *req, void *arg)
{
	struct switch_api *api = arg;
	const char *name = switches_name(api->switches, api_req_param(req, "name"));
	const struct vm_config *user;
	struct errbuf eb = {0};
	int err;

	if (name == NULL) {
		return reply_missing(req, api_req_param(req, "name"));
	}
	user = user_of(api, name);
	if (user != NULL) {
		(void)errbuf_set(&eb, -EBUSY, "VM %s has an adapter in switch %s", user->name,
		                 name);
		errbuf_hint(&eb, "godwit vm set %s --nic ... moves it to another switch",
		            user->name);
		return api_reply_errno(req, -EBUSY, &eb);
	}
	err = switches_remove(api->switches, name, &eb);
	return err != 0 ? api_reply_errno(req, err, &eb) : api_reply(req, 204, NULL);
}

static const struct api_route switch_routes[] = {
	{API_GET, "/v1/switches", switch_list},
	{API_POST, "/v1/switches", switch_create},
	{API_GET, "/v1/switches/{name}", switch_show},
	{API_PATCH, "/v1/switches/{name}", switch_set},
	{API_DELETE, "/v1/switches/{name}", switch_delete},
};

/* ---- taps ---- */

/* A queue for each processor, so that each has a channel of its own; more than these do not pay. */
#define QUEUES_MAX 8u

bool switch_api_has(const struct switch_api *api, const char *name)
{
	return switches_name(api->switches, name) != NULL;
}

static struct switch_adapter switch_adapter_of(const struct vm_config *vm, uint32_t nic)
{
	const struct vm_nic *n = &vm->nics[nic];
	struct switch_adapter adapter = {
		.id = n->id,
		.vlan = n->vlan,
		.queues = vm->cpus < QUEUES_MAX ? vm->cpus : QUEUES_MAX,
	};

	_Static_assert(QUEUES_MAX <= MANAGER_TAP_QUEUES_MAX, "they fit");
	memcpy(adapter.mac, n->mac, sizeof(adapter.mac));
	return adapter;
}

int switch_api_tap_claim(void *arg, const struct vm_config *vm, uint32_t nic, struct errbuf *eb)
{
	struct switch_api *api = arg;
	const struct switch_adapter adapter = switch_adapter_of(vm, nic);

	return switches_claim(api->switches, vm->nics[nic].switch_name, &adapter, eb);
}

int switch_api_tap_open(void *arg, const struct vm_config *vm, uint32_t nic, bool arriving,
                        struct manager_tap *out, struct errbuf *eb)
{
	struct switch_api *api = arg;
	const struct vm_nic *n = &vm->nics[nic];
	struct switch_adapter adapter = switch_adapter_of(vm, nic);
	int err;

	adapter.arriving = arriving;
	err = switches_plug(api->switches, n->switch_name, &adapter, out->fds, &out->mtu_bytes, eb);
	out->count = err == 0 ? adapter.queues : 0;
	out->link = n->switch_name[0] != '\0';
	return err;
}

/* ---- life ---- */

int switch_api_create(const struct switch_api_cfg *cfg, struct switch_api **out, struct errbuf *eb)
{
	const struct switches_cfg switches = {
		.loop = cfg->loop,
		.store = cfg->store,
		.state_dir = cfg->state_dir,
		.run_dir = cfg->run_dir,
		.event = cfg->event,
		.arg = cfg->arg,
	};
	struct switch_api *api = gw_calloc(1, sizeof(*api));
	int err = api != NULL ? 0 : errbuf_sys(eb, -ENOMEM, "switches");

	*out = NULL;
	if (err == 0) {
		err = switches_create(&switches, &api->switches, eb);
	}
	if (err == 0) {
		err = api_server_routes(cfg->server, switch_routes, ARRAY_LEN(switch_routes), api);
	}
	if (err != 0) {
		switch_api_destroy(api);
		return err;
	}
	*out = api;
	return 0;
}

void switch_api_manager(struct switch_api *api, struct manager *manager)
{
	api->manager = manager;
}

void switch_api_destroy(struct switch_api *api)
{
	if (api != NULL) {
		switches_destroy(api->switches);
		free(api);
	}
}
