/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BIN_GODWITD_FENCE_INT_H
#define BIN_GODWITD_FENCE_INT_H

/* Inside of fence_api: fence_api.c (requests), fence_run.c (agents, devices of nodes). */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/api/server.h"
#include "base/list.h"
#include "bin/godwitd/asked_change.h"
#include "bin/godwitd/cluster_work.h"
#include "bin/godwitd/fence_api.h"
#include "bin/godwitd/fence_dev.h"
#include "cluster/db/db.h"
#include "cluster/db/db_cmd.h"
#include "cluster/member/member.h"

#define FENCE_TAG "fence"
#define FENCE_SEAL_LABEL "godwit fence secrets"
#define FENCE_RUNS_MAX 128u /* agents at the same time */

/* An agent at work. */
struct fence_run {
	struct list link;
	struct fence_api *api;
	struct api_req *req;    /* owned until answered; NULL = nobody waits, or not a test */
	struct lead_fence what; /* not a test: what the leader wants */
	uint64_t open_count;    /* of the opening it belongs to */
	struct fence_agent agent;
	char agent_name[FENCE_AGENT_NAME_MAX];
	char *options; /* owned, wiped */
	atomic_bool stop;
	bool test;
	enum fence_power power; /* of a test */
	char name[FENCE_DEV_NAME_MAX];
	char node[64];
};

struct fence_api {
	struct fence_api_cfg cfg;
	struct ha_power power;
	struct cluster_works *works; /* owned */
	struct cluster_place place;  /* member NULL: in no cluster */
	char dir[512];               /* of the place */
	char node[64];               /* our name */
	struct ha *ha;               /* borrowed; NULL: no VMs of the cluster here */
	uint64_t open_count;
	struct list runs; /* of struct fence_run, owned by their works */
	uint32_t run_count;
	/* What devices() says, as of entry: */
	uint64_t index;
	bool fresh;
	uint32_t levels[ROLE_NODES_MAX][FENCE_LEVELS_MAX];
	uint64_t versions[ROLE_NODES_MAX];
	struct asked_changes changes;
};

/* ---- fence_run.c ---- */

void fence_run_power(struct fence_api *api);

/* Start the agent of device @name. @req: a test, answered at its end; else @what. The caller keeps
 * @req if it fails. Returns 0; -errno with a text. */
MUST_USE int fence_run_start(struct fence_api *api, const char *name, const struct fence_dev *dev,
                             struct api_req *req, const struct lead_fence *what, struct errbuf *eb);

/* Does the device's node have that identity now? @nodeid: its number; may be NULL. */
bool fence_run_fits(const struct fence_api *api, const struct fence_dev *dev, uint32_t *nodeid);

/* End those that nobody needs, or all. */
void fence_run_end(struct fence_api *api, bool all);

/* The last try of each device, by its name: {"time_ns", "ok", "text"}. One walk over all events. A
 * new reference. */
json_t *fence_run_tried(const struct fence_api *api);

#endif
