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
#include "bin/godwitd/csv_wire_int.h"
#include "cluster/ha/ha.h"
#include "cluster/timing/timing.h"
#include "cluster/vmops.h"

#define TICK_NS (250 * NS_PER_MS)
#define CALL_MS 3000u
#define PROPOSE_NS (5 * NS_PER_S)

/* ---- asking the service, on a thread ---- */

struct csv_exchange {
	struct csv_wire *wire;
	uint64_t open_count;
	char url[CSV_WIRE_PATH_MAX];
	json_t *picture; /* owned; NULL = only ask */
	uint64_t run;    /* as which it is told */
	json_t *members; /* owned: answers; NULL = none */
	json_t *volumes;
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

static int run_exchange(void *arg, struct errbuf *eb)
{
	struct csv_exchange *x = arg;
	const struct api_client_cfg cfg = {.url = x->url, .connect_timeout_ms = CALL_MS};
	struct api_client *client;
	int err = api_client_create(&cfg, &client, eb);

	if (err != 0) {
		return err;
	}
	if (x->picture != NULL) {
		x->put_err = ask(client, API_PUT, "/v1/members", x->picture, NULL, &x->put_eb);
	}
	err = ask(client, API_GET, "/v1/members", NULL, &x->members, eb);
	if (err == 0) {
		err = ask(client, API_GET, "/v1/volumes", NULL, &x->volumes, eb);
	}
	api_client_destroy(client);
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
	if (outcome != RSM_UNKNOWN && result->status == 0 && w->place.member != NULL) {
		loop_timer_arm(w->tick, 0);
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

static const struct db_object *own_doc(const struct csv_wire *w)
{
	char key[CSV_RUN_KEY_MAX];

	return db_get(member_db(w->place.member), DB_SETTING, csv_run_key(w->place.nodeid, key));
}

static void propose_run(struct csv_wire *w, uint64_t run, bool gone)
{
	const struct db_object *o = own_doc(w);
	json_t *doc = json_pack("{s:I,s:b}", "run", (json_int_t)run, "gone", (int)gone);
	char key[CSV_RUN_KEY_MAX];
	struct db_cmd cmd;

	db_cmd_init(&cmd);
	db_cmd_put(&cmd, DB_SETTING, csv_run_key(w->place.nodeid, key), doc);
	if (o != NULL) {
		db_cmd_if_version(&cmd, o->version);
	} else {
		db_cmd_if_absent(&cmd);
	}
	json_decref(doc);
	log_info(CSV_WIRE_TAG, "run of the volume service run=%" PRIu64 " gone=%d", run, gone);
	csv_wire_propose(w, &cmd, "a run of the volume service");
}

/* ---- this node's service ---- */

static uint64_t inflight_ns(const struct csv_wire *w)
{
	return ha_timing(w->place.ha)->cfg.inflight_ms * NS_PER_MS;
}

/* Its process ended: when its I/O has as well, everybody may know. Returns whether it is done. */
static bool look_ended(struct csv_wire *w, const struct guard_vm *g)
{
	const struct db_object *o = own_doc(w);

	if (o != NULL && csv_number(o->doc, "run") == g->token &&
	    !json_is_true(json_object_get(o->doc, "gone"))) {
		if (w->since_ns == 0) {
			log_warn(CSV_WIRE_TAG, "godwit-csvd has ended run=%" PRIu64, g->token);
			w->since_ns = clock_boot_ns();
		} else if (clock_boot_ns() - w->since_ns >= inflight_ns(w)) {
			propose_run(w, g->token, true);
		}
		return false;
	}
	guard_del(w->place.guard, GUARD_CSVD);
	w->since_ns = 0;
	return true;
}

/* A process that has no run yet: from now on it ends with the lease. */
static void look_new(struct csv_wire *w)
{
	const struct db_object *o = own_doc(w);
	uint64_t last = o != NULL ? csv_number(o->doc, "run") : 0;
	struct vmops_lease lease;
	uint64_t inc = guard_run(w->place.guard, &lease);
	struct guard_vm g = {.role = GUARD_CSVD};
	struct errbuf eb = {0};
	int err;

	if (inc == 0 || !guard_alive(w->place.guard) || !ha_may_start(w->place.ha) ||
	    (last >> CSV_LIFE_BITS) > inc) {
		return;
	}
	g.token = (last >> CSV_LIFE_BITS) == inc ? last + 1 : (inc << CSV_LIFE_BITS) + 1;
	if ((g.token & CSV_LIFE_MAX) == 0) {
		return; /* 65535 lives in one run of the node: something is very wrong */
	}
	err = guard_pid_write(w->pid_path, w->pid, &eb);
	if (err == 0) {
		(void)snprintf(g.pid_path, sizeof(g.pid_path), "%s", w->pid_path);
		err = guard_add(w->place.guard, &g);
	}
	if (err < 0) {
		log_err(CSV_WIRE_TAG, "godwit-csvd is not told anything text=\"%s\"",
		        errbuf_text(&eb, err));
		return;
	}
	w->since_ns = clock_boot_ns();
}

static void kill_stranger(struct csv_wire *w)
{
	struct errbuf eb = {0};

	log_warn(CSV_WIRE_TAG, "godwit-csvd is of an earlier run, it is ended pid=%d", w->pid);
	if (guard_pid_write(w->seen_path, w->pid, &eb) == 0) {
		guard_pid_kill(w->seen_path);
	}
	w->seen = false;
}

/* What there is, and which run it has. Returns the run as which it may be told; 0 = not now. */
static uint64_t look_run(struct csv_wire *w)
{
	struct guard_vm g;
	bool known = guard_find(w->place.guard, GUARD_CSVD, &g);
	const struct db_object *o = own_doc(w);

	if (known && !guard_pid_lives(g.pid_path)) {
		known = !look_ended(w, &g);
		if (known) {
			return 0;
		}
	}
	if (!w->seen || w->pid == 0) {
		return 0;
	}
	if (!known) {
		if (w->pid_run != 0) {
			kill_stranger(w);
		} else {
			look_new(w);
		}
		return 0;
	}
	if (o == NULL || csv_number(o->doc, "run") != g.token) {
		/* The process before it may have sent something to a device. */
		if (clock_boot_ns() - w->since_ns >= inflight_ns(w) && !w->proposing) {
			propose_run(w, g.token, false);
		}
		return 0;
	}
	w->since_ns = 0;
	return json_is_true(json_object_get(o->doc, "gone")) ? 0 : g.token;
}

/* The coordinator is here and has ended its term: the next one, for whom it says. */
static void hand_on(struct csv_wire *w, const json_t *row)
{
	const char *name = json_string_value(json_object_get(row, "name"));
	const json_t *here = json_object_get(row, "here");
	const char *state = json_string_value(json_object_get(here, "state"));
	const struct db_object *o =
		name != NULL ? db_get(member_db(w->place.member), DB_VOLUME, name) : NULL;
	bool closed = state != NULL && strcmp(state, "closed") == 0;
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
		to = csv_candidate(w->place.member, w->place.nodeid);
	}
	if (to != 0) {
		log_info(CSV_WIRE_TAG, "coordinator handed on volume=%s state=%s node=%u", name,
		         state, to);
		db_cmd_init(&cmd);
		csv_term(w->place.member, o, to, &cmd);
		csv_wire_propose(w, &cmd, "a volume's next coordinator");
	}
}

static void look_volumes(struct csv_wire *w, const json_t *volumes)
{
	size_t i;
	json_t *row;

	w->lapsed = false;
	json_array_foreach(volumes, i, row)
	{
		const char *slot = json_string_value(json_object_get(row, "slot"));

		w->lapsed = w->lapsed || (slot != NULL && strcmp(slot, "lapsed") == 0);
		hand_on(w, row);
	}
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
		x->picture = NULL;
		w->warned = false;
	} else if (!w->warned) {
		log_err(CSV_WIRE_TAG, "godwit-csvd does not take the cluster's word text=\"%s\"",
		        errbuf_text(&x->put_eb, x->put_err));
		w->warned = true;
	}
}

static void on_exchanged(void *arg, int err, const struct errbuf *eb)
{
	struct csv_exchange *x = arg;
	struct csv_wire *w = x->wire;

	(void)eb;
	w->asking = false;
	if (x->open_count == w->open_count && w->place.member != NULL) {
		struct rsm_status status;

		note_put(w, x);
		w->seen = true;
		w->away = err == -ENOENT || err == -ECONNREFUSED;
		w->pid = err == 0 ? (int)csv_number(x->members, "pid") : 0;
		/* Alone it has a run of its own, and no volume of ours. */
		w->pid_run = json_is_true(json_object_get(x->members, "alone"))
		                     ? 0
		                     : csv_number(x->members, "run");
		if (err == 0 && csv_wire_active(w, &status)) {
			look_volumes(w, json_object_get(x->volumes, "volumes"));
		}
	}
	json_decref(x->picture);
	json_decref(x->members);
	json_decref(x->volumes);
	free(x);
}

/* What it has to hear now, or NULL: nothing new. */
static json_t *to_tell(struct csv_wire *w, uint64_t run)
{
	json_t *picture = NULL;

	/* With a lease nobody has acted on our silence. */
	if (run == 0 || !ha_may_start(w->place.ha) ||
	    csv_picture(w->place.member, w->place.nodeid, &ha_timing(w->place.ha)->cfg, &picture) !=
	            0) {
		return NULL;
	}
	if (!w->lapsed && w->pid_run == run && w->told_run == run && w->told != NULL &&
	    json_equal(w->told, picture)) {
		json_decref(picture);
		picture = NULL;
	}
	return picture;
}

static void on_tick(void *arg)
{
	struct csv_wire *w = arg;
	struct csv_exchange *x = NULL;
	struct rsm_status status;
	uint64_t run = 0;
	int err = 0;

	if (w->place.member == NULL) {
		return;
	}
	loop_timer_arm(w->tick, TICK_NS);
	if (csv_wire_active(w, &status)) {
		run = look_run(w);
		if (status.leader == w->place.nodeid) {
			csv_lead(w);
		}
	}
	if (w->asking || (x = gw_calloc(1, sizeof(*x))) == NULL) {
		return;
	}
	x->wire = w;
	x->open_count = w->open_count;
	x->run = run;
	x->picture = to_tell(w, run);
	(void)snprintf(x->url, sizeof(x->url), "%s", w->url);
	err = cluster_work_start(w->works, run_exchange, on_exchanged, x);
	if (err != 0) {
		json_decref(x->picture);
		free(x);
	}
	w->asking = err == 0;
}

/* ---- life ---- */

bool csv_wire_clear(struct csv_wire *w)
{
	struct guard_vm g;

	if (w->place.member == NULL) {
		return false;
	}
	if (guard_find(w->place.guard, GUARD_CSVD, &g)) {
		if (guard_pid_lives(g.pid_path)) {
			guard_pid_kill(g.pid_path);
			w->since_ns = clock_boot_ns();
			w->seen = false;
			return false;
		}
		if (w->since_ns == 0) {
			w->since_ns = clock_boot_ns();
		}
		return clock_boot_ns() - w->since_ns >= inflight_ns(w);
	}
	if (w->seen && w->pid != 0 && w->pid_run != 0) {
		kill_stranger(w);
		return false;
	}
	return w->seen && (w->away || w->pid != 0);
}

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
	w->since_ns = clock_boot_ns();
	w->proposing = false;
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
		json_decref(w->told);
		free(w);
	}
}
