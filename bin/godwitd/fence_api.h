/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BIN_GODWITD_FENCE_API_H
#define BIN_GODWITD_FENCE_API_H

/*
 * fence_api - power switches of the cluster's nodes: /v1/fences, and what the leader does with them
 * when a node is lost.
 *
 * Devices are documents (fence_dev.h). Only one whose node is still the machine that it was added
 * for counts. What a node's agent is asked to do runs on a thread of its own, on the leader, while
 * the log says that this run of the node is being fenced; when that is over it is ended. Each end
 * of a try goes into the log of this service, and, where it says something new, into the events of
 * the cluster.
 *
 * Thread: the loop's. docs/failover.md, docs/decisions/0230.
 */

#include "base/attr.h"
#include "bin/godwitd/cluster_api.h"
#include "cluster/ha/ha.h"

struct api_server;
struct errbuf;
struct fence_api;
struct loop;

struct fence_api_cfg {
	struct loop *loop; /* borrowed until fence_api_destroy(), as the next */
	struct api_server *server;
	const char *agents_dir; /* borrowed; FENCE_AGENT_DIR */
};

/* fence_api_create() - Returns 0; -ENOMEM; -errno. */
MUST_USE int fence_api_create(const struct fence_api_cfg *cfg, struct fence_api **out,
                              struct errbuf *eb);

/* fence_api_power() - for ha_create(). */
const struct ha_power *fence_api_power(struct fence_api *api);

/* fence_api_open() - this node is in a cluster. @ha: told of ends; borrowed until
 * fence_api_close(). */
void fence_api_open(struct fence_api *api, const struct cluster_place *place, struct ha *ha);
void fence_api_close(struct fence_api *api);

/* fence_api_look() - the roles have changed: nobody is switched off who need not be any more. */
void fence_api_look(struct fence_api *api);

/* fence_api_stop() - answer all who wait, before the server goes. fence_api_destroy() waits for the
 * agents' ends. NULL is fine. */
void fence_api_stop(struct fence_api *api);
void fence_api_destroy(struct fence_api *api);

#endif
