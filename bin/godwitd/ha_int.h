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
#include "bin/godwitd/fence_api.h"
#include "bin/godwitd/ha_api.h"
#include "bin/godwitd/ha_guard.h"
#include "bin/godwitd/ha_note.h"
#include "bin/godwitd/move_api.h"
#include "bin/godwitd/vm_api.h"
#include "cluster/ha/ha.h"
#include "cluster/member/member.h"
#include "cluster/role/role_table.h"
#include "cluster/vmops.h"
#include "hv/manager/manager.h"

struct api_req;
struct db_cmd;
struct vm_move_peer;

#define HA_TAG "ha"
#define HA_WAITS_MAX 256u

struct ha_api {
	struct ha_api_cfg cfg;
	struct cluster_hooks hooks;
	struct vm_api_ha vm_hooks;
	struct vmops vmops;
	struct ha_storage storage;
	/* What ha_proof.c found last, and of when: asked often while a node is being fenced. */
	struct {
		bool known;
		uint32_t node;
		uint64_t inc;
		uint64_t index;   /* db_index() */
		uint64_t changes; /* ha_changes() */
		char vm[ROLE_NAME_MAX];
	} elsewhere;
	struct cluster_place place; /* member NULL: in no cluster */
	char node[64];              /* our name there */
	struct guard *guard;        /* owned; NULL: in no cluster, or it cannot be made */
	struct ha *ha;              /* owned; the same */
	struct move_cluster move_ops;
	struct move_api *moves;  /* borrowed; NULL: not there yet */
	struct list drains;      /* of struct ha_drain, owned */
	struct ha_notes notes;   /* of moves, on their way into documents */
	struct list backs;       /* of struct ha_back, owned */
	struct list forwards;    /* of struct ha_forward, owned */
	char boot[40];           /* GUID of this boot of the host; "" = not known */
	uint64_t back_next_ns;   /* our own node takes VMs again: asked for not before */
	struct csv_wire *csv;    /* owned: what godwit-csvd is told */
	struct fence_api *fence; /* owned: power switches of nodes */
	struct flight *flight;   /* owned: heartbeats and leases; NULL: in no cluster */
	struct list waits;       /* of struct ha_wait, owned */
	uint32_t wait_count;
	uint64_t stop_by_ns[HA_ROLES_MAX]; /* [role - 1]: its guest was asked to stop; 0 = not */
	bool stop_again[HA_ROLES_MAX];     /* it could not be asked: its storage stood still */
	uint64_t pause_told_ns
		[HA_ROLES_MAX]; /* [role - 1]: that it stands still is said not before */
	/* [role - 1]: with which token it was sent away, and last went to another node. */
	uint64_t sent_token[HA_ROLES_MAX];
	uint64_t switched_token[HA_ROLES_MAX];
	bool stopped;
	/*
	 * What a worker that was killed had handed to its disks may be written for a while:
	 * ended_ns[role - 1] is when it was first seen to be gone, quiet_ns when all of an earlier
	 * run were; 0 = not yet.
	 */
	uint64_t ended_ns[HA_ROLES_MAX];
	uint64_t quiet_ns;
	bool watchdog; /* what the guard has, as told to the others last; with: */
	bool watchdog_soft;
	struct errbuf trouble;   /* why there is no ha */
	uint32_t lease_token_ms; /* its leases are made for that token of corosync */
};

/* ---- ha_api.c ---- */

/* May a worker begin: the lease is good, and the guard has the watchdog that the others count on.
 * To be asked again after guard_add(): the guard may be another one since. */
bool ha_guard_ready(struct ha_api *api);

/* ---- ha_vms.c ---- */

void ha_vms_ops(struct ha_api *api);

/* After godwitd was started again: the workers that it finds. */
void ha_vms_adopt(struct ha_api *api);

/* What became of the VMs here? Tells the agent, cleans up. Called often. */
void ha_vms_look(struct ha_api *api);

/* The VM of a role on this host, or NULL. */
struct vm *ha_vms_find(const struct ha_api *api, uint32_t role);

/* The worker of @vm counts from now on, as that of @g->role with @g->token; the rest is filled in.
 * Returns 0; -EAGAIN no worker may begin; -ENAMETOOLONG; as guard_add(). */
MUST_USE int ha_vms_guard(struct ha_api *api, struct guard_vm *g, const struct vm *vm);

/* ---- ha_move.c ---- */

void ha_move_init(struct ha_api *api);
void ha_move_send(struct ha_api *api, uint32_t role, uint32_t node);

/* A VM that comes: it may run already, and the log as we know it does not say so yet. */
bool ha_move_expected(const struct ha_api *api, const struct guard_vm *g);

/* ---- ha_drain.c ---- */

MUST_USE int ha_drain_routes(struct ha_api *api);
void ha_drain_look(struct ha_api *api);
void ha_drain_stop(struct ha_api *api);

/* Where the service of a node is reached. Returns 0; -ENOENT. */
MUST_USE int ha_peer_of(const struct ha_api *api, uint32_t nodeid, struct vm_move_peer *out,
                        struct errbuf *eb);

/* ---- ha_forward.c ---- */

/* A request about a VM that its owner, another node, has to answer; @req is answered. */
void ha_forward(struct ha_api *api, struct api_req *req, const struct role *r,
                enum vm_api_ask what);

/* The same for a move: a job here follows the owner's. False: there is no such VM. */
bool ha_forward_move(struct ha_api *api, struct api_req *req, const char *name);

void ha_forward_look(struct ha_api *api);
void ha_forward_stop(struct ha_api *api); /* answers all */
void ha_forward_fini(struct ha_api *api); /* when no call comes back any more */

/* ---- ha_set.c ---- */

/* Change the definition, or what the cluster does with it. The request is answered. */
void ha_set(struct ha_api *api, struct api_req *req, const struct role *r);

/* ---- ha_wishes.c ---- */

/* The VMs that @doc, of VM @self, wants to run before it: they are there, and none of them waits
 * for it. Into @cmd: that this is still so. Returns 0; -ENOENT; -ELOOP; -E2BIG. */
MUST_USE int ha_after_check(const struct ha_api *api, const char *self, const json_t *doc,
                            struct db_cmd *cmd, struct errbuf *eb);

/* Wishes of a new VM that are null are none. */
void ha_wishes_tidy(json_t *ha);

/* What is expected of its failover, and the timer that runs; "" nothing. */
void ha_objective_text(const struct ha_api *api, const struct role *r, char *buf, size_t size);

/* ---- ha_settings.c ---- */

MUST_USE int ha_settings_routes(struct ha_api *api);

/* ---- ha_whatif.c ---- */

MUST_USE int ha_whatif_routes(struct ha_api *api);

/* ---- ha_flight.c ---- */

MUST_USE int ha_flight_routes(struct ha_api *api);

/* Of this boot of the host. Returns 0; -errno. */
MUST_USE int ha_boot_id(struct guid *out);
void ha_flight_open(struct ha_api *api);

/* ---- ha_req.c ---- */

/* What the database knows of VM @name, as an answer. */
void ha_show_remote(struct ha_api *api, struct api_req *req, const char *name);

/* Names of nodes in @ha[@key] become numbers. Returns 0; -ENOENT; -ENOMEM. */
MUST_USE int ha_nodes_by_number(const struct ha_api *api, json_t *ha, const char *key,
                                struct errbuf *eb);

/* Propose @cmd, which is ended and freed here; the request is answered: {} when it is committed,
 * an error with @name if it was not. */
void ha_change(struct ha_api *api, struct api_req *req, const char *name, struct db_cmd *cmd);

void ha_req_hooks(struct ha_api *api);

/* Look whether what somebody waits for has come. */
void ha_req_look(struct ha_api *api);

/* Answer all who wait. */
void ha_req_stop(struct ha_api *api);

/* ---- ha_proof.c ---- */

void ha_proof_ops(struct ha_api *api);

/* ---- ha_volumes.c ---- */

/* All that the VM of the document writes is on shared volumes. */
bool ha_volumes_only(const struct ha_api *api, const json_t *doc);

/* Into @ha: the volumes of a definition; into @cmd: that they are there, and stay. Returns 0;
 * -ENOENT one is not; -ENOMEM. */
MUST_USE int ha_volumes_note(const struct ha_api *api, json_t *definition, json_t *ha,
                             struct db_cmd *cmd, struct errbuf *eb);

/* For people: which volumes a role that is to start waits for; "" none. */
void ha_volumes_text(const struct ha_api *api, const struct role *r, char *buf, size_t size);

/* Does its document say that it stands still, in this life of it? */
bool ha_told_paused(const struct ha_api *api, const struct role *r);

/* The same, and it runs. */
bool ha_paused(const struct ha_api *api, const struct role *r);

/* The document of a role's VM, or NULL. */
const json_t *ha_doc(const struct ha_api *api, const char *name);

/* The name of a node by its number, or "". */
const char *ha_node_name(const struct ha_api *api, uint32_t nodeid);

#endif
