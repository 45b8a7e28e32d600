/* SPDX-License-Identifier: Apache-2.0 */
#include "bin/godwitd/csv_wire.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/api/client.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/shared_direct.h"
#include "bin/godwitd/csv_wire_int.h"
#include "cluster/ha/ha.h"
#include "cluster/timing/timing.h"
#include "cluster/vmops.h"

#define TICK_NS (250 * NS_PER_MS)
#define QUIET_NS (1 * NS_PER_S) /* between two questions while nothing changes */
#define BUSY_NS (3 * NS_PER_S)  /* something changed so short a time ago: at each tick */
/* While a VM waits for the word of a volume: what the service does next is not told, it is looked
 * at again soon. Some seconds after the log said something new it will take longer. */
#define RAISING_NS (20 * NS_PER_MS)
#define HURRY_NS (5 * NS_PER_S)
#define CALL_MS 3000u
#define PROPOSE_NS (5 * NS_PER_S)

/* ---- asking the service, on a thread ---- */

struct csv_exchange {
	struct csv_wire *wire;
	uint64_t open_count;
	char url[CSV_WIRE_PATH_MAX];
	struct api_client *client; /* owned; NULL = none yet */
	json_t *picture;           /* owned; NULL = only ask */
	uint64_t run;              /* as which it is told */
	uint64_t index;            /* of the log, for the picture */
	char *move_path;  /* owned: of a volume that another node shall coordinate; NULL = none */
	json_t *move;     /* owned: whom to */
	uint64_t count;   /* csv_changes() of the picture */
	json_t *standing; /* owned: the answer; NULL = none */
	int put_err;
	struct errbuf put_eb;
};

static int ask(struct api_client *client, enum api_method method, const char *path,
               const json_t *body, json_t **out, struct errbuf *eb)
{
	const struct api_call call = {
		.method = method, .path = path, .body = body, .timeout_ms = CALL_MS};
	struct api_result result = {0};
	int err = api_client_call(client, &call, &result, eb);

	if (err == 0 && out != NULL) {
		*out = result.body;
		result.body = NULL;
	}
	api_result_fini(&result);
	return err;
}

/* What the picture says is compared with the next one; when it was so is not. */
static int tell(struct api_client *client, struct csv_exchange *x)
{
	int err = json_object_set_new(x->picture, "index", json_integer((json_int_t)x->index));

	if (err != 0) {
		return errbuf_sys(&x->put_eb, -ENOMEM, "picture");
	}
	err = ask(client, API_PUT, "/v1/members", x->picture, NULL, &x->put_eb);
	(void)json_object_del(x->picture, "index");
	return err;
}

/* A service of an earlier version, as an upgrade leaves it while it has files open. */
static int ask_older(struct csv_exchange *x, struct errbuf *eb)
{
	json_t *volumes = NULL;
	int err = ask(x->client, API_GET, "/v1/members", NULL, &x->standing, eb);

	if (err == 0) {
		err = ask(x->client, API_GET, "/v1/volumes", NULL, &volumes, eb);
	}
	if (err == 0 && json_object_update(x->standing, volumes) != 0) {
		err = errbuf_sys(eb, -ENOMEM, "volumes");
	}
	json_decref(volumes);
	return err;
}

/* The connection stays for the next one, if there is no error. */
static int run_exchange(void *arg, struct errbuf *eb)
{
	struct csv_exchange *x = arg;
	const struct api_client_cfg cfg = {.url = x->url, .connect_timeout_ms = CALL_MS};
	int err = x->client != NULL ? 0 : api_client_create(&cfg, &x->client, eb);

	if (err != 0) {
		return err;
	}
	if (x->picture != NULL) {
		x->put_err = tell(x->client, x);
	}
	if (x->move_path != NULL) {
		/* If it cannot now it is asked again. */
		(void)ask(x->client, API_POST, x->move_path, x->move, NULL, NULL);
	}
	err = ask(x->client, API_GET, "/v1/standing", NULL, &x->standing, eb);
	if (err == -ENOSYS) {
		err = ask_older(x, eb);
	}
	if (err != 0) {
		api_client_destroy(x->client);
		x->client = NULL;
	}
	return err;
}

/* ---- proposals ---- */

bool csv_wire_active(const struct csv_wire *w, struct rsm_status *status)
{
	*status = (struct rsm_status){.state = RSM_OFF};
	if (w->place.member != NULL) {
		member_status(w->place.member, status);
	}
	return status->state == RSM_ACTIVE && !status->stale;
}

static void on_proposed(void *arg, enum rsm_outcome outcome, const struct rsm_result *result)
{
	struct csv_wire *w = arg;

	/* Else it is looked at again. */
	w->proposing = false;
	w->changed_ns = clock_boot_ns();
	if (outcome != RSM_UNKNOWN && result->status == 0 && w->place.member != NULL) {
		loop_timer_arm(w->tick, 0);
		ha_kick(w->place.ha); /* the leader may wait for it */
	}
}

void csv_wire_propose(struct csv_wire *w, struct db_cmd *cmd, const char *what)
{
	int err = db_cmd_end(cmd);

	if (err == 0) {
		err = member_propose(w->place.member, cmd, PROPOSE_NS, on_proposed, w);
	}
	db_cmd_fini(cmd);
	w->proposing = err == 0;
	if (err != 0 && err != -EAGAIN && err != -ENOTCONN) {
		log_warn(CSV_WIRE_TAG, "not proposed what=\"%s\" error=%s", what,
		         strerrorname_np(-err));
	}
}

/* ---- what the service says ---- */

/* The coordinator is here and has ended its term: the next one, for whom it says. */
static void hand_on(struct csv_wire *w, const json_t *row)
{
	const char *name = json_string_value(json_object_get(row, "name"));
	const json_t *here = json_object_get(row, "here");
	const char *state = json_string_value(json_object_get(here, "state"));
	const struct db_object *o =
		name != NULL ? db_get(member_db(w->place.member), DB_VOLUME, name) : NULL;
	const char *way = json_string_value(json_object_get(row, "way"));
	bool closed = state != NULL && strcmp(state, "closed") == 0;
	bool lost = way != NULL && strcmp(way, "lost") == 0;
	uint32_t to = (uint32_t)csv_number(here, "moved_to");
	struct guard_vm g;
	struct db_cmd cmd;
	uint64_t gone;

	if (o == NULL || state == NULL || w->proposing ||
	    (!closed && strcmp(state, "failed") != 0) ||
	    csv_number(row, "term") != csv_number(o->doc, "term") ||
	    csv_number(o->doc, "coordinator") != w->place.nodeid ||
	    !guard_find(w->place.guard, GUARD_CSVD, &g) || g.token != csv_number(o->doc, "run")) {
		return;
	}
	if (to == 0 || csv_run_of(w->place.member, to, &gone) == 0) {
		const struct csv_search what = {
			.number = csv_number(o->doc, "number"),
			/* After a failure: if nobody has a way, nobody would do better. */
			.least = closed ? CSV_PATH_LOST : CSV_PATH_UNKNOWN,
			.after = w->place.nodeid,
		};

		to = csv_candidate(w->place.member, &what);
	}
	if (!closed && to == w->place.nodeid && lost) {
		return; /* the log does not know it yet */
	}
	if (to != 0) {
		log_info(CSV_WIRE_TAG, "coordinator handed on volume=%s state=%s node=%u", name,
		         state, to);
		db_cmd_init(&cmd);
		csv_term(w->place.member, o, to, &cmd);
		csv_wire_propose(w, &cmd, "a volume's next coordinator");
	}
}

/* ---- runs that are in the way of others ---- */

/* What the coordinators here say, all volumes together: run by node; 0 = none. */
static void gather_fences(const json_t *volumes, uint64_t runs[CSV_WIRE_NODES])
{
	json_t *row;
	json_t *fence;
	size_t i;
	size_t k;

	json_array_foreach(volumes, i, row)
	{
		const json_t *list = json_object_get(json_object_get(row, "here"), "fence");

		json_array_foreach(list, k, fence)
		{
			uint64_t nodeid = csv_number(fence, "id");
			uint64_t run = csv_number(fence, "run");

			if (nodeid < CSV_WIRE_NODES && run > runs[nodeid]) {
				runs[nodeid] = run;
			}
		}
	}
}

void csv_wire_put(struct csv_wire *w, const char *key, json_t *doc, const struct db_object *o,
                  const char *what)
{
	struct db_cmd cmd;

	db_cmd_init(&cmd);
	db_cmd_put(&cmd, DB_SETTING, key, doc);
	if (o != NULL) {
		db_cmd_if_version(&cmd, o->version);
	} else {
		db_cmd_if_absent(&cmd);
	}
	csv_wire_propose(w, &cmd, what);
}

/* Its coordinators wait for that run: its own node has to end it. */
static void ask_fence(struct csv_wire *w, uint32_t nodeid, uint64_t run, const struct db_object *o)
{
	json_t *doc = json_pack("{s:I,s:I,s:I}", "run", (json_int_t)run, "by",
	                        (json_int_t)w->place.nodeid, "by_run", (json_int_t)w->pid_run);
	char key[CSV_RUN_KEY_MAX];

	log_warn(CSV_WIRE_TAG, "a run does not give back what others wait for node=%u run=%" PRIu64,
	         nodeid, run);
	csv_wire_put(w, csv_fence_key(nodeid, key), doc, o,
	             "that a run of the volume service has to end");
	json_decref(doc);
}

/* It was asked for here, and has given back what they waited for. */
static void withdraw_fence(struct csv_wire *w, uint32_t nodeid, const struct db_object *o)
{
	char key[CSV_RUN_KEY_MAX];
	struct db_cmd cmd;

	log_info(CSV_WIRE_TAG, "nobody here waits for that run any more node=%u run=%" PRIu64,
	         nodeid, csv_number(o->doc, "run"));
	db_cmd_init(&cmd);
	db_cmd_delete(&cmd, DB_SETTING, csv_fence_key(nodeid, key));
	db_cmd_if_version(&cmd, o->version);
	csv_wire_propose(w, &cmd, "that a run of the volume service need not end");
}

static void pass_fences(struct csv_wire *w, const json_t *volumes)
{
	struct member *m = w->place.member;
	uint64_t runs[CSV_WIRE_NODES] = {0};
	char key[CSV_RUN_KEY_MAX];

	gather_fences(volumes, runs);
	for (uint32_t id = 1; id < CSV_WIRE_NODES && !w->proposing; id++) {
		const struct db_object *o =
			db_get(member_db(m), DB_SETTING, csv_fence_key(id, key));
		uint64_t gone;

		if (runs[id] != 0 && csv_run_of(m, id, &gone) == runs[id]) {
			if (csv_fence_of(m, id) < runs[id]) {
				ask_fence(w, id, runs[id], o);
			}
		} else if (o != NULL && csv_number(o->doc, "by") == w->place.nodeid) {
			withdraw_fence(w, id, o);
		}
	}
}

/* It is for the process that was looked at: another one that listens there by now refuses it. */
static int add_addressee(const struct csv_wire *w, json_t *picture)
{
	json_t *to = json_pack("{s:i,s:I}", "pid", w->pid, "started", (json_int_t)w->pid_started);

	return to == NULL ? -ENOMEM : json_object_set_new(picture, "to", to);
}

/* May VMs here use it? While another coordinator is looked for, it goes on where it can. */
static bool usable(const json_t *row)
{
	const char *state = json_string_value(json_object_get(row, "state"));
	const char *reason = json_string_value(json_object_get(row, "reason"));

	return json_is_string(json_object_get(row, "path")) && state != NULL &&
	       (strcmp(state, "direct") == 0 || strcmp(state, "redirected") == 0 ||
	        (strcmp(state, "paused") == 0 && reason != NULL &&
	         strcmp(reason, "coordinator") == 0));
}

/* Does the coordinator of the row serve, here and as the log has it? */
static bool serves(const struct csv_wire *w, const json_t *row, const struct db_object *o)
{
	const char *state =
		json_string_value(json_object_get(json_object_get(row, "here"), "state"));

	return state != NULL && strcmp(state, "active") == 0 &&
	       csv_number(row, "term") == csv_number(o->doc, "term") &&
	       csv_number(o->doc, "coordinator") == w->place.nodeid &&
	       csv_number(o->doc, "run") == w->pid_run;
}

bool csv_wire_told(const struct csv_wire *w)
{
	json_t *picture = NULL;
	bool all = false;

	if (w->told != NULL && w->told_run == w->pid_run && ha_may_start(w->place.ha) &&
	    csv_picture(w->place.member, w->place.nodeid, &ha_timing(w->place.ha)->cfg, &picture) ==
	            0) {
		all = add_addressee(w, picture) == 0 && json_equal(w->told, picture);
	}
	json_decref(picture);
	return all;
}

/* What VMs of the cluster need to know of volumes. */
static void look_for_roles(const struct csv_wire *w, const json_t *volumes)
{
	uint64_t paths = 0;
	uint64_t acks = 0;
	size_t i;
	json_t *row;

	json_array_foreach(volumes, i, row)
	{
		const char *name = json_string_value(json_object_get(row, "name"));
		const struct db_object *o =
			name != NULL ? db_get(member_db(w->place.member), DB_VOLUME, name) : NULL;
		uint64_t bit = o != NULL ? role_bit((uint32_t)csv_number(o->doc, "number")) : 0;

		paths |= usable(row) ? bit : 0;
		acks |= o != NULL && serves(w, row, o) ? bit : 0;
	}
	if (acks != 0 && (!ha_raising(w->place.ha) || w->lapsed || !csv_wire_told(w))) {
		acks = 0;
	}
	ha_volumes(w->place.ha, paths, acks);
}

static void look_volumes(struct csv_wire *w, const json_t *answer)
{
	const json_t *volumes = json_object_get(answer, "volumes");
	struct guard_vm g;
	size_t i;
	json_t *row;

	w->lapsed = false;
	w->dead = false;
	w->preemptable = 0;
	/* Nobody else was told of that run. */
	if (!guard_find(w->place.guard, GUARD_CSVD, &g) || w->pid_run != g.token) {
		look_for_roles(w, NULL);
		return;
	}
	json_array_foreach(volumes, i, row)
	{
		const char *slot = json_string_value(json_object_get(row, "slot"));
		const char *state = json_string_value(json_object_get(row, "state"));

		w->lapsed = w->lapsed || (slot != NULL && strcmp(slot, "lapsed") == 0);
		w->dead = w->dead || (state != NULL && strcmp(state, "dead") == 0);
		hand_on(w, row);
	}
	pass_fences(w, volumes);
	csv_left_seen(w, answer);
	csv_fence_look(w, volumes);
	csv_path_seen(w, volumes);
	look_for_roles(w, volumes);
}

static void note_put(struct csv_wire *w, struct csv_exchange *x)
{
	if (x->picture == NULL) {
		return;
	}
	json_decref(w->told);
	w->told = NULL;
	if (x->put_err == 0) {
		w->told = x->picture;
		w->told_run = x->run;
		w->told_count = x->count;
		x->picture = NULL;
		w->warned = false;
	} else if (!w->warned) {
		log_err(CSV_WIRE_TAG, "godwit-csvd does not take the cluster's word text=\"%s\"",
		        errbuf_text(&x->put_eb, x->put_err));
		w->warned = true;
	}
}

static void exchange_free(struct csv_exchange *x)
{
	json_decref(x->picture);
	json_decref(x->standing);
	json_decref(x->move);
	api_client_destroy(x->client);
	free(x->move_path);
	free(x);
}

static void on_exchanged(void *arg, int err, const struct errbuf *eb)
{
	struct csv_exchange *x = arg;
	struct csv_wire *w = x->wire;

	(void)eb;
	w->asking = false;
	w->client = x->client;
	x->client = NULL;
	if (err != 0 || x->picture != NULL || x->move != NULL || w->standing == NULL ||
	    !json_equal(w->standing, x->standing)) {
		w->changed_ns = clock_boot_ns();
	}
	json_decref(w->standing);
	w->standing = json_incref(x->standing);
	if (x->open_count == w->open_count && w->place.member != NULL) {
		struct rsm_status status;

		note_put(w, x);
		w->seen = true;
		w->away = err == -ENOENT || err == -ECONNREFUSED;
		w->pid = err == 0 ? (int)csv_number(x->standing, "pid") : 0;
		/* Alone it has a run of its own, and no volume of ours. */
		w->pid_started = csv_number(x->standing, "started");
		w->pid_run = json_is_true(json_object_get(x->standing, "alone"))
		                     ? 0
		                     : csv_number(x->standing, "run");
		if (err == 0 && csv_wire_active(w, &status)) {
			look_volumes(w, x->standing);
		} else if (err != 0) {
			w->preemptable = 0;
			look_for_roles(w, NULL);
		}
	}
	exchange_free(x);
	if (w->place.member != NULL && w->again) {
		loop_timer_arm(w->tick, 0);
	} else if (w->place.member != NULL && clock_boot_ns() < w->hurry_ns &&
	           ha_raising(w->place.ha)) {
		loop_timer_arm(w->tick, RAISING_NS);
	}
}

void csv_wire_look(struct csv_wire *w)
{
	uint64_t changes = w->place.member != NULL ? ha_changes(w->place.ha) : w->seen_changes;

	if (changes != w->seen_changes) {
		w->seen_changes = changes;
		w->hurry_ns = clock_boot_ns() + HURRY_NS;
		loop_timer_arm(w->tick, 0);
	}
}

/* What it has to hear now, or NULL: nothing new. */
static json_t *to_tell(struct csv_wire *w, uint64_t run)
{
	const struct role_node *n = role_table_node(member_roles(w->place.member), w->place.nodeid);
	json_t *picture = NULL;

	/* With a lease nobody has acted on our silence; but keys may have been taken away. */
	if (run == 0 || !ha_may_start(w->place.ha) || n == NULL || n->state == ROLE_NODE_FENCING ||
	    n->state == ROLE_NODE_DOWN || n->inc != run >> CSV_LIFE_BITS ||
	    csv_picture(w->place.member, w->place.nodeid, &ha_timing(w->place.ha)->cfg, &picture) !=
	            0) {
		return NULL;
	}
	if (add_addressee(w, picture) != 0) {
		json_decref(picture);
		return NULL;
	}
	if (!w->lapsed && w->pid_run == run && w->told_run == run && w->told != NULL &&
	    json_equal(w->told, picture)) {
		json_decref(picture);
		picture = NULL;
		w->told_count = csv_changes(member_db(w->place.member));
	}
	return picture;
}

const char *csv_node_name(const struct csv_wire *w, uint32_t nodeid)
{
	const struct db *db = member_db(w->place.member);

	for (size_t i = 0; i < db_count(db, DB_NODE); i++) {
		if (csv_number(db_at(db, DB_NODE, i)->doc, "nodeid") == nodeid) {
			return db_at(db, DB_NODE, i)->key;
		}
	}
	return "";
}

/* Coordinators leave a node that is emptied before its VMs do, and one that has no way. */
static void add_move(struct csv_wire *w, struct csv_exchange *x)
{
	uint32_t to = 0;
	const char *volume = csv_to_leave(w->place.member, w->place.nodeid, &to);

	/* It may have to hear again and again that it may go on: it knows who there is. */
	if (volume != NULL && (x->picture == NULL || w->told_run == w->pid_run)) {
		x->move_path = api_path("/v1/volumes/{name}/move", volume);
		x->move = json_pack("{s:s}", "to", csv_node_name(w, to));
		log_info(CSV_WIRE_TAG, "coordinator is to leave volume=%s node=%u", volume, to);
	}
}

static void on_tick(void *arg)
{
	struct csv_wire *w = arg;
	struct csv_exchange *x = NULL;
	struct rsm_status status;
	uint64_t now_ns = clock_boot_ns();
	uint64_t run = 0;
	int err = 0;

	if (w->place.member == NULL) {
		return;
	}
	loop_timer_arm(w->tick, TICK_NS);
	if (csv_wire_active(w, &status)) {
		run = csv_look(w);
		if (status.leader == w->place.nodeid) {
			csv_lead(w);
		}
	}
	w->again = w->asking;
	if (w->asking || (x = gw_calloc(1, sizeof(*x))) == NULL) {
		return;
	}
	x->wire = w;
	x->open_count = w->open_count;
	x->run = run;
	x->count = csv_changes(member_db(w->place.member));
	x->index = status.applied_index;
	x->picture = to_tell(w, run);
	if (run != 0) {
		add_move(w, x);
	}
	if (x->picture == NULL && x->move == NULL && !ha_raising(w->place.ha) &&
	    now_ns - w->changed_ns > BUSY_NS && now_ns - w->asked_ns < QUIET_NS) {
		exchange_free(x);
		return;
	}
	x->client = w->client;
	w->client = NULL;
	w->asked_ns = now_ns;
	(void)snprintf(x->url, sizeof(x->url), "%s", w->url);
	err = cluster_work_start(w->works, run_exchange, on_exchanged, x);
	if (err != 0) {
		exchange_free(x);
	}
	w->asking = err == 0;
}

/* ---- life ---- */

void csv_wire_open(struct csv_wire *w, const struct csv_wire_place *place)
{
	if (place->nodeid >= CSV_WIRE_NODES) {
		log_err(CSV_WIRE_TAG, "no shared volumes: the node's number is above %u node=%u",
		        CSV_WIRE_NODES - 1, place->nodeid);
	}
	w->place = *place;
	w->open_count++;
	w->seen = false;
	w->pid = 0;
	w->pid_run = 0;
	w->life = (struct csv_life){0};
	w->told_count = 0;
	w->preemptable = 0;
	w->proposing = false;
	w->changed_ns = clock_boot_ns();
	loop_timer_arm(w->tick, 0);
}

void csv_wire_close(struct csv_wire *w)
{
	w->place.member = NULL;
	w->open_count++;
	loop_timer_disarm(w->tick);
	json_decref(w->told);
	w->told = NULL;
	csv_wire_stop(w);
}

int csv_wire_create(const struct csv_wire_cfg *cfg, struct csv_wire **out, struct errbuf *eb)
{
	struct csv_wire *w = gw_calloc(1, sizeof(*w));
	int err = w != NULL ? 0 : -ENOMEM;

	*out = NULL;
	if (err == 0) {
		w->loop = cfg->loop;
		(void)snprintf(w->url, sizeof(w->url), "unix://%s/csvd.sock", cfg->run_dir);
		(void)snprintf(w->pid_path, sizeof(w->pid_path), "%s/csvd.pid", cfg->run_dir);
		(void)snprintf(w->seen_path, sizeof(w->seen_path), "%s/csvd-old.pid", cfg->run_dir);
		(void)snprintf(w->lock_path, sizeof(w->lock_path), "%s/" SHARED_DIRECT_LOCK,
		               cfg->run_dir);
		err = cluster_works_create(cfg->loop, &w->works);
	}
	if (err == 0) {
		err = loop_timer_new(cfg->loop, on_tick, w, &w->tick);
	}
	if (err == 0) {
		err = csv_api_routes(w, cfg->server);
	}
	if (err != 0) {
		csv_wire_destroy(w);
		return errbuf_sys(eb, err, "shared volumes");
	}
	*out = w;
	return 0;
}

void csv_wire_destroy(struct csv_wire *w)
{
	if (w != NULL) {
		w->place.member = NULL;
		cluster_works_destroy(w->works); /* waits for what was asked */
		loop_timer_del(w->tick);
		api_client_destroy(w->client);
		json_decref(w->standing);
		json_decref(w->told);
		free(w);
	}
}
