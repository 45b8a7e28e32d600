/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BIN_GODWITD_CSV_WIRE_INT_H
#define BIN_GODWITD_CSV_WIRE_INT_H

/* Inside of csv_wire. */

#include <stdbool.h>
#include <stdint.h>

#include "base/api/server.h"
#include "base/errbuf.h"
#include "base/json.h"
#include "bin/godwitd/cluster_work.h"
#include "bin/godwitd/csv_wire.h"
#include "bin/godwitd/ha_guard.h"
#include "cluster/db/db.h"
#include "cluster/db/db_cmd.h"
#include "cluster/member/member.h"
#include "cluster/role/role_table.h"

#define CSV_WIRE_TAG "csv"
#define CSV_WIRE_PATH_MAX 512u
#define CSV_WIRE_NODES 64u   /* slots of a volume: node numbers 0 to 63 */
#define CSV_WIRE_VOLUMES 32u /* what godwit-csvd takes: CSV_DAEMON_VOLUMES_MAX */
#define CSV_LIFE_BITS 16u
#define CSV_LIFE_MAX ((1u << CSV_LIFE_BITS) - 1)
#define CSV_RUN_KEY_MAX 24u
#define CSV_CHANGES_MAX 16u

struct csv_exchange;
struct loop_timer;
struct timing_cfg;

/* A request that waits for the log. */
struct csv_change {
	struct csv_wire *wire;
	struct api_req *req; /* owned until answered; NULL = nobody waits */
	bool used;
	char name[DB_KEY_MAX + 1];
};

struct csv_wire {
	struct loop *loop;
	struct cluster_works *works; /* owned */
	struct loop_timer *tick;     /* owned */
	struct csv_wire_place place; /* member NULL: closed */
	char url[CSV_WIRE_PATH_MAX];
	char pid_path[CSV_WIRE_PATH_MAX];
	char seen_path[CSV_WIRE_PATH_MAX]; /* pid file of one that is not ours to have */
	json_t *told;                      /* owned: what the service took last; NULL = nothing */
	uint64_t told_run;
	bool asking;         /* an exchange is under way */
	uint64_t open_count; /* answers of exchanges before the last opening count for nothing */
	bool proposing;
	/* Of the last exchange. */
	bool seen;         /* there was one since the opening */
	bool away;         /* nobody listens */
	int pid;           /* 0 = it did not answer */
	uint64_t pid_run;  /* what it was told that it is; 0 = nothing yet */
	uint64_t since_ns; /* when we noticed that process, or its end */
	bool lapsed;       /* a slot's lease is over: wants to hear that it may go on */
	bool warned;
	struct csv_change changes[CSV_CHANGES_MAX];
};

/* ---- csv_wire.c ---- */

/* The database may be written, and read without missing anything. */
bool csv_wire_active(const struct csv_wire *w, struct rsm_status *status);

/* @cmd is ended and freed here. One at a time: w->proposing. */
void csv_wire_propose(struct csv_wire *w, struct db_cmd *cmd, const char *what);

/* ---- csv_picture.c ---- */

uint64_t csv_number(const json_t *doc, const char *key);

/* The key of the document of a node's run. */
const char *csv_run_key(uint32_t nodeid, char buf[CSV_RUN_KEY_MAX]);

/* The run of godwit-csvd on that node that may hold or write something; 0 = none, or it is proven
 * gone. @fenced: all runs up to this one are proven gone. */
uint64_t csv_run_of(struct member *m, uint32_t nodeid, uint64_t *fenced);

/* The whole word of the cluster for the service of @nodeid. Returns 0; -ENOMEM; -EINVAL. */
MUST_USE int csv_picture(struct member *m, uint32_t nodeid, const struct timing_cfg *timing,
                         json_t **out);

/* A node that can coordinate, after @after in the order of numbers (0: the lowest); 0 = none. */
uint32_t csv_candidate(struct member *m, uint32_t after);

/* The next term of a volume, for @nodeid: into @cmd, with its preconditions. */
void csv_term(struct member *m, const struct db_object *volume, uint32_t nodeid,
              struct db_cmd *cmd);

/* The leader: volumes whose coordinator is proven gone, or that never had one, get one. */
void csv_lead(struct csv_wire *w);

/* ---- csv_api.c ---- */

MUST_USE int csv_api_routes(struct csv_wire *w, struct api_server *server);

#endif
