/* SPDX-License-Identifier: Apache-2.0 */
#include "bin/godwitd/move_api.h"

#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "base/loop.h"
#include "bin/godwitd/move_int.h"
#include "hv/manager/manager.h"

#define MOVE_TICK_NS (2 * NS_PER_S)

bool move_is_node(struct api_req *req)
{
	const struct api_peer *peer = api_req_peer(req);
	struct errbuf eb = {0};

	if (!peer->local && peer->node) {
		return true;
	}
	(void)errbuf_set(&eb, -EACCES, "only other nodes may ask that");
	(void)api_reply_errno(req, -EACCES, &eb);
	return false;
}

static const struct api_route move_routes[] = {
	{API_POST, "/v1/vms/{name}/move", move_out_request},
	{API_GET, "/v1/departures/{move}", move_out_word},
	{API_POST, "/v1/arrivals", move_in_request},
	{API_POST, "/v1/arrivals/{move}/commit", move_in_commit},
	{API_DELETE, "/v1/arrivals/{move}", move_in_drop},
};

static void move_tick(void *arg)
{
	struct move_api *api = arg;

	move_out_tick(api);
	move_in_tick(api);
	loop_timer_arm(api->tick, MOVE_TICK_NS);
}

/* What the journal says: words that were given, and VMs that nobody has decided about. */
static void move_resume(struct move_api *api)
{
	struct manager *m = api->cfg.manager;
	struct vm *next;

	for (struct vm *vm = manager_vm_next(m, NULL); vm != NULL; vm = next) {
		struct vm_move_info info;

		next = manager_vm_next(m, vm); /* one that has gone is forgotten */
		if (!vm_move_info(vm, &info) || info.attached) {
			continue;
		}
		if (info.role == VM_MOVE_SOURCE) {
			move_out_resume(api, vm, &info);
		} else {
			move_in_resume(api, vm, &info);
		}
	}
}

void move_api_look(struct move_api *api)
{
	if (api->cfg.cluster != NULL && !api->stopped) {
		move_out_look(api);
		move_in_look(api);
	}
}

int move_api_create(const struct move_api_cfg *cfg, struct move_api **out, struct errbuf *eb)
{
	struct move_api *api = gw_calloc(1, sizeof(*api));
	int err = -ENOMEM;

	*out = NULL;
	if (api == NULL) {
		return errbuf_sys(eb, err, "cannot serve moves");
	}
	api->cfg = *cfg;
	list_init(&api->out);
	list_init(&api->in);
	err = loop_timer_add(cfg->loop, MOVE_TICK_NS, move_tick, api, &api->tick);
	if (err == 0) {
		err = api_server_routes(cfg->server, move_routes, ARRAY_LEN(move_routes), api);
	}
	if (err != 0) {
		move_api_destroy(api);
		return errbuf_sys(eb, err, "cannot serve moves");
	}
	move_resume(api);
	*out = api;
	return 0;
}

void move_api_stop(struct move_api *api)
{
	if (api != NULL && !api->stopped) {
		api->stopped = true;
		move_out_stop(api);
		move_in_stop(api);
	}
}

void move_api_destroy(struct move_api *api)
{
	if (api != NULL) {
		move_api_stop(api);
		loop_timer_del(api->tick);
		free(api);
	}
}
