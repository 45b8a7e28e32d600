/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BIN_GODWITD_HA_API_H
#define BIN_GODWITD_HA_API_H

/*
 * ha_api - VMs that the cluster runs, on this node: what connects cluster/ha (who decides), the
 * manager of this host's VMs (who runs them), the guard (who ends them) and the API (who asks).
 *
 * Such a VM is a document of the cluster database with a member "ha" (cluster/member/vm_doc.h).
 * Its owner defines it in its own manager when it starts it and forgets it when it has ended.
 * Requests about it are answered by any node; those that need its worker are refused elsewhere,
 * with the owner's name.
 *
 * Life: created before cluster_api, whose hooks it is (ha_api_hooks()). Thread: the loop's.
 * docs/failover.md.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"

struct api_server;
struct cluster_hooks;
struct errbuf;
struct api_server;
struct ha_api;
struct job_api;
struct loop;
struct manager;
struct move_api;
struct move_cluster;
struct peers;
struct vm_api;

struct ha_api_cfg {
	struct loop *loop; /* borrowed until ha_api_destroy(), as the rest */
	struct manager *manager;
	struct vm_api *vms;
	struct api_server *server;
	struct job_api *jobs;
	struct peers *peers;
	const char *run_dir;
	const char *state_dir; /* shared volumes are mounted in its csv */
	/* "none"; "assume": a person's word that this node is reset when its lease is over, for
	 * labs and tests; else a watchdog device. */
	const char *watchdog;
	const char *agents_dir; /* of fence agents */
};

/* ha_api_create() - Returns 0; -ENOMEM. */
MUST_USE int ha_api_create(const struct ha_api_cfg *cfg, struct ha_api **out, struct errbuf *eb);

/* ha_api_hooks() - for cluster_api. */
const struct cluster_hooks *ha_api_hooks(struct ha_api *api);

/* ha_api_moves() - for move_api; ha_api_set_moves() - that, once it is there. */
const struct move_cluster *ha_api_moves(struct ha_api *api);
void ha_api_set_moves(struct ha_api *api, struct move_api *moves);

/* ha_api_owns() - is the VM of that name the cluster's? */
bool ha_api_owns(const struct ha_api *api, const char *name);

/* ha_api_stop() - answer all who wait, before the manager and the server go. ha_api_destroy() -
 * after the cluster has stopped. NULL is fine. */
void ha_api_stop(struct ha_api *api);
void ha_api_destroy(struct ha_api *api);

#endif
