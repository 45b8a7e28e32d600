/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BIN_GODWITD_CSV_WIRE_INT_H
#define BIN_GODWITD_CSV_WIRE_INT_H

/* Inside of csv_wire. */

#include <stdbool.h>
#include <stdint.h>

#include "base/api/server.h"
#include "base/errbuf.h"
#include "base/json.h"
#include "bin/godwitd/asked_change.h"
#include "bin/godwitd/cluster_work.h"
#include "bin/godwitd/csv_life.h"
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
#define CSV_COUNTER "csv-volumes"

struct api_client;
struct csv_exchange;
struct loop_timer;
struct timing_cfg;

struct csv_wire {
	struct loop *loop;
	struct cluster_works *works; /* owned */
	struct loop_timer *tick;     /* owned */
	struct csv_wire_place place; /* member NULL: closed */
	char url[CSV_WIRE_PATH_MAX];
	char pid_path[CSV_WIRE_PATH_MAX];
	char lock_path[CSV_WIRE_PATH_MAX]; /* of who does I/O by its leave */
	char seen_path[CSV_WIRE_PATH_MAX]; /* pid file of one that is not ours to have */
	json_t *told;                      /* owned: what the service took last; NULL = nothing */
	uint64_t told_run;
	uint64_t seen_changes;     /* ha_changes() as seen last */
	uint64_t hurry_ns;         /* what the log said last is followed closely until then */
	bool again;                /* another exchange is due after the one that is under way */
	bool asking;               /* an exchange is under way */
	struct api_client *client; /* owned: to the service, kept between exchanges; NULL = none */
	json_t *standing;          /* owned: what it said last; NULL = nothing */
	uint64_t changed_ns;       /* when that was something new, or it was told something */
	uint64_t asked_ns;
	uint64_t open_count; /* answers of exchanges before the last opening count for nothing */
	bool proposing;
	/* Of the last exchange. */
	bool seen;            /* there was one since the opening */
	bool away;            /* nobody listens */
	int pid;              /* 0 = it did not answer */
	uint64_t pid_started; /* proc_start() of it */
	uint64_t pid_run;     /* what it was told that it is; 0 = nothing yet */
	uint64_t stranger_ns; /* when one of an earlier run was killed; 0 = never */
	uint64_t told_count;  /* csv_changes() of what it took last */
	struct csv_life life;
	uint64_t preemptable; /* set: volumes here with a key of ours that takes others' away */
	bool lapsed;          /* a slot's lease is over: wants to hear that it may go on */
	bool dead;            /* a volume of it was fenced: only a new run goes on */
	bool warned;
	struct asked_changes changes;
};

/* ---- csv_wire.c ---- */

/* The database may be written, and read without missing anything. */
bool csv_wire_active(const struct csv_wire *w, struct rsm_status *status);

/* @cmd is ended and freed here. One at a time: w->proposing. */
void csv_wire_propose(struct csv_wire *w, struct db_cmd *cmd, const char *what);

/* Proposes @doc as the setting @key, if that is still @o; NULL: if there is still none. @doc is
 * borrowed. */
void csv_wire_put(struct csv_wire *w, const char *key, json_t *doc, const struct db_object *o,
                  const char *what);

/* Has the service taken all that is true now, before it said what we look at? */
bool csv_wire_told(const struct csv_wire *w);

/* The name of a node by its number; "" = unknown. */
const char *csv_node_name(const struct csv_wire *w, uint32_t nodeid);

/* ---- csv_fence.c ---- */

/* What the document of a run says, if it is sealed: the set of all volumes there were; 0 = it is
 * not. */
uint64_t csv_sealed(const json_t *doc);

/* What the service says that it can do. */
void csv_fence_look(struct csv_wire *w, const json_t *volumes);

/* ---- csv_look.c ---- */

/* What there is, and what has to be done with it. Returns the run as which it may be told; 0 = not
 * now. */
uint64_t csv_look(struct csv_wire *w);

/* ---- csv_left.c ---- */

/* How often the set of volumes was changed. */
uint64_t csv_changes(const struct db *db);

/* @volumes: what godwit-csvd of this node said after it took what it was told. What of the volumes
 * that were evicted it does not have open any more is written down. */
void csv_left_seen(struct csv_wire *w, const json_t *volumes);

/* A volume that was evicted, by its id (text), or NULL. */
const struct db_object *csv_left_find(const struct db *db, const char *id);

/* Nobody can have the evicted volume open any more. Else *nodeid is one that may. */
bool csv_left_clear(struct member *m, const struct db_object *left, uint32_t *nodeid);

/* That run may still have one of them open. */
bool csv_left_open(struct member *m, uint32_t nodeid, uint64_t run);

/* Some volume that was evicted may still be open somewhere. */
bool csv_left_any(struct member *m);

/* The volume @o is evicted: into @cmd what is to be remembered of it. Returns 0; -EBUSY too many
 * are remembered and may still be open. */
MUST_USE int csv_left_add(struct member *m, const struct db_object *o, struct db_cmd *cmd,
                          struct errbuf *eb);

/* All of them, for people. */
json_t *csv_left_list(struct member *m);

/* ---- csv_path.c ---- */

/* What a node says of its own way to a volume's device. */
enum csv_path {
	CSV_PATH_LOST,
	CSV_PATH_UNKNOWN,
	CSV_PATH_GOOD,
};

/* csv_path_of() - of that node's run that is now, to the volume with @number. */
enum csv_path csv_path_of(struct member *m, uint32_t nodeid, uint64_t number);

/*
 * csv_holds() - may that node's run hold something of the volume with @number? A run that has not
 * said which volumes it has opened may. csv_holds_said(): it has said that it will open it.
 */
bool csv_holds(struct member *m, uint32_t nodeid, uint64_t number);
bool csv_holds_said(struct member *m, uint32_t nodeid, uint64_t number);

/* csv_path_seen() - @volumes: what the service of this node says. What has changed is written down.
 */
void csv_path_seen(struct csv_wire *w, const json_t *volumes);

/* ---- csv_picture.c ---- */

uint64_t csv_number(const json_t *doc, const char *key);

/* The key of the document of a node's run. */
const char *csv_run_key(uint32_t nodeid, char buf[CSV_RUN_KEY_MAX]);

/* Of the run that others want to be rid of. */
const char *csv_fence_key(uint32_t nodeid, char buf[CSV_RUN_KEY_MAX]);

/* The run of that node that others want to be rid of, as long as who asked for it has not ended;
 * 0 = none. */
uint64_t csv_fence_of(struct member *m, uint32_t nodeid);

/* The run of godwit-csvd on that node that may hold or write something; 0 = none, or it is proven
 * gone. @fenced: all runs up to this one are proven gone. */
uint64_t csv_run_of(struct member *m, uint32_t nodeid, uint64_t *fenced);

/* The whole word of the cluster for the service of @nodeid. Returns 0; -ENOMEM; -EINVAL. */
MUST_USE int csv_picture(struct member *m, uint32_t nodeid, const struct timing_cfg *timing,
                         json_t **out);

struct csv_search {
	uint64_t number;     /* of the volume */
	enum csv_path least; /* nobody with a worse way */
	uint32_t after;      /* in the order of numbers; 0: the lowest first */
};

/* csv_candidate() - a node that can coordinate: rather one with a good way, rather one that is not
 * being emptied, then the first in order. 0 = none. */
uint32_t csv_candidate(struct member *m, const struct csv_search *what);

/* csv_to_leave() - @nodeid is being emptied, or has lost its way, and coordinates a volume that
 * node *@to can take over: its name, or NULL. */
const char *csv_to_leave(struct member *m, uint32_t nodeid, uint32_t *to);

/* The next term of a volume, for @nodeid: into @cmd, with its preconditions. */
void csv_term(struct member *m, const struct db_object *volume, uint32_t nodeid,
              struct db_cmd *cmd);

/* The leader: volumes whose coordinator is proven gone, or that never had one, get one. */
void csv_lead(struct csv_wire *w);

/* ---- csv_api.c ---- */

MUST_USE int csv_api_routes(struct csv_wire *w, struct api_server *server);

#endif
