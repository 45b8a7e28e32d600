/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BIN_GODWITD_VM_API_H
#define BIN_GODWITD_VM_API_H

/*
 * vm_api - the VMs of this host over HTTP: the routes below /v1/vms and /v1/events, and the manager
 * behind them. docs/spec/api.md lists them. Thread: the loop's.
 */

#include <stdint.h>

#include "base/attr.h"
#include "base/json.h"

struct api_req;
struct api_server;
struct errbuf;
struct loop;
struct event_api;
struct manager;
struct switch_api;
struct vm_api;
struct vm_store;

struct vm_api_cfg {
	struct loop *loop; /* borrowed until vm_api_destroy(), like the rest */
	struct api_server *server;
	const char *state_dir;
	const char *run_dir;
	const char *worker_path;
	uint32_t worker_uid_base;
	const char *direct_socket; /* manager_cfg.direct_socket */
};

/* vm_api_create() - open the database, adopt what runs, serve. Returns 0; -errno. */
MUST_USE int vm_api_create(const struct vm_api_cfg *cfg, struct vm_api **out, struct errbuf *eb);

/* vm_api_events() - where events are shown; theirs until vm_api_stop(). */
struct event_api *vm_api_events(struct vm_api *api);

/* vm_api_manager(), vm_api_switches(), vm_api_store() - what the routes of other modules need;
 * theirs until vm_api_stop() (the manager) and vm_api_destroy(). */
struct manager *vm_api_manager(struct vm_api *api);
struct switch_api *vm_api_switches(struct vm_api *api);
struct vm_store *vm_api_store(struct vm_api *api);

/* What is asked of a VM. */
enum vm_api_ask {
	VM_API_SHOW,
	VM_API_SET,
	VM_API_DELETE,
	VM_API_START,
	VM_API_STOP,
	VM_API_RESTART,
	VM_API_PAUSE,
	VM_API_RESUME,
	VM_API_SAVE,
	VM_API_CONSOLE,
	VM_API_LOG
};

/* VMs that belong to the cluster: who looks after them (bin/godwitd/ha_api.h). */
struct vm_api_ha {
	/* Is VM @name the cluster's? Then *then: it was answered or will be. False: go on. */
	bool (*ask)(void *arg, enum vm_api_ask what, const char *name, struct api_req *req,
	            bool *later);
	/* Does the cluster have a VM of that name, wherever it is? */
	bool (*owned)(void *arg, const char *name);
	/* A complete definition that wants to be the cluster's. Both are taken. */
	void (*define)(void *arg, struct api_req *req, json_t *definition, json_t *ha);
	/* Make @vms, rows of VMs here, those of the whole cluster. */
	void (*list)(void *arg, json_t *vms);
	/* More about a row of a VM. */
	void (*row)(void *arg, json_t *row);
	/* Something happened to a VM here. */
	void (*event)(void *arg);
	void *arg;
};

/* vm_api_ha() - from now on they are asked; NULL: nobody. Borrowed. */
void vm_api_set_ha(struct vm_api *api, const struct vm_api_ha *ha);

/*
 * vm_api_stop() - answer what waits, before the server is destroyed. vm_api_destroy() - after it;
 * the VMs go on. NULL is fine.
 */
void vm_api_stop(struct vm_api *api);
void vm_api_destroy(struct vm_api *api);

#endif
