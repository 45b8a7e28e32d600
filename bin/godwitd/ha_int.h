/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BIN_GODWITD_HA_INT_H
#define BIN_GODWITD_HA_INT_H

/* Inside of ha_api: ha_api.c (life), ha_vms.c (the manager's side), ha_req.c (requests). */

#include <stdbool.h>
#include <stdint.h>

#include "base/errbuf.h"
#include "base/json.h"
#include "base/list.h"
#include "bin/godwitd/cluster_api.h"
#include "bin/godwitd/csv_wire.h"
#include "bin/godwitd/ha_api.h"
#include "bin/godwitd/ha_guard.h"
#include "bin/godwitd/move_api.h"
#include "bin/godwitd/vm_api.h"
#include "cluster/ha/ha.h"
#include "cluster/member/member.h"
#include "cluster/role/role_table.h"
#include "cluster/vmops.h"
#include "hv/manager/manager.h"

#define HA_TAG "ha"
#define HA_WAITS_MAX 256u

struct ha_api {
	struct ha_api_cfg cfg;
	struct cluster_hooks hooks;
	struct vm_api_ha vm_hooks;
	struct vmops vmops;
	struct cluster_place place; /* member NULL: in no cluster */
	char node[64];              /* our name there */
	struct guard *guard;        /* owned; NULL: in no cluster, or it cannot be made */
	struct ha *ha;              /* owned; the same */
	struct move_cluster move_ops;
	struct move_api *moves; /* borrowed; NULL: not there yet */
	struct list drains;     /* of struct ha_drain, owned */
	struct csv_wire *csv;   /* owned: what godwit-csvd is told */
	struct list waits;      /* of struct ha_wait, owned */
	uint32_t wait_count;
	uint64_t stop_by_ns[HA_ROLES_MAX]; /* [role - 1]: its guest was asked to stop; 0 = not */
	/* [role - 1]: with which token it was sent away, and last went to another node. */
	uint64_t sent_token[HA_ROLES_MAX];
	uint64_t switched_token[HA_ROLES_MAX];
	bool stopped;
	struct errbuf trouble; /* why there is no ha */
};

/* ---- ha_vms.c ---- */

void ha_vms_ops(struct ha_api *api);

/* After godwitd was started again: the workers that it finds. */
void ha_vms_adopt(struct ha_api *api);

/* What became of the VMs here? Tells the agent, cleans up. Called often. */
void ha_vms_look(struct ha_api *api);

/* The VM of a role on this host, or NULL. */
struct vm *ha_vms_find(const struct ha_api *api, uint32_t role);

/* ---- ha_move.c ---- */

void ha_move_init(struct ha_api *api);
void ha_move_send(struct ha_api *api, uint32_t role, uint32_t node);

/* A VM that comes: it may run already, and the log as we know it does not say so yet. */
bool ha_move_expected(const struct ha_api *api, const struct guard_vm *g);

/* ---- ha_drain.c ---- */

MUST_USE int ha_drain_routes(struct ha_api *api);
void ha_drain_look(struct ha_api *api);
void ha_drain_stop(struct ha_api *api);

/* ---- ha_req.c ---- */

void ha_req_hooks(struct ha_api *api);

/* Look whether what somebody waits for has come. */
void ha_req_look(struct ha_api *api);

/* Answer all who wait. */
void ha_req_stop(struct ha_api *api);

/* The document of a role's VM, or NULL. */
const json_t *ha_doc(const struct ha_api *api, const char *name);

/* The name of a node by its number, or "". */
const char *ha_node_name(const struct ha_api *api, uint32_t nodeid);

#endif
