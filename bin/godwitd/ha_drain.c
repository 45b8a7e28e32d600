/* SPDX-License-Identifier: Apache-2.0 */

/*
 * ha_drain - a node is emptied for maintenance: a job that asks the leader for it (cluster/lead
 * chooses where each VM goes, and how) and watches until nothing is left.
 *
 *	DB_JOB drain/N   what is to be done, and which VMs were there: first
 *	DRAIN(active)    the wish
 *	DRAIN(done)      the leader has seen that nothing is left
 *
 * The wish is in the database: it goes on when this service ends. Cancelling takes the wish back,
 * and the moves that are under way: of each the log decides, up to its last entry. The leader takes
 * back those that we have not seen (cluster/lead). The job is over when the log has all of it; the
 * workers stop copying when they learn of it.
 */

#include "bin/godwitd/ha_drain.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/api/server.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/text.h"
#include "bin/godwitd/job_api.h"
#include "cluster/db/db.h"
#include "cluster/db/db_cmd.h"

#define DRAIN_ASK_NS (15 * NS_PER_S) /* for the wish to get into the log */
#define DRAIN_PROPOSE_NS (10 * NS_PER_S)
#define DRAIN_AGAIN_NS HA_PROPOSE_NS /* what was said of its end is lost, as with a view */
#define DRAIN_TELL_NS (3 * NS_PER_S) /* for what the last moves were like to get there */
#define DRAIN_TEXT_MAX 700
#define DRAIN_NAMES_MAX 600u /* that fit a document; more VMs are moved, but not brought back */

enum drain_phase {
	DRAIN_WRITES, /* what is to be done is not in the log yet */
	DRAIN_ASKS,   /* the wish is not in the log yet */
	DRAIN_RUNS,
};

struct ha_drain {
	struct list link;
	struct ha_api *api;
	struct job *job;
	enum drain_phase phase;
	uint32_t node;
	uint64_t ask_by_ns;
	uint64_t deadline_ns; /* UINT64_MAX = none */
	uint64_t done_ns;     /* seen to be empty since; 0 = not */
	uint64_t cancel_ns;   /* somebody took it back; 0 = not */
	uint64_t cancel_ms;   /* then: cluster time; */
	uint64_t again_ns;    /* said again; */
	bool undone;          /* the log has the end of the wish: another one is not ours */
	json_t *last;         /* owned: rows as told last */
};

/* What was asked for. */
struct drain_ask {
	enum maint_fallback fallback;
	uint32_t moves;
	uint64_t deadline_ns;
	bool shutdown;
	bool force;
	const char *failback;
};

static const struct role_node *node_of(const struct ha_api *api, uint32_t id)
{
	return role_table_node(member_roles(api->place.member), id);
}

bool ha_node_usable(const struct ha_api *api, uint32_t node)
{
	return api->ha != NULL && role_node_usable(node_of(api, node), ha_now_ms(api->ha));
}

/* ---- the document ---- */

static bool has_name(const json_t *names, const char *name)
{
	const json_t *one;
	size_t i;

	json_array_foreach(names, i, one)
	{
		if (strcmp(json_string_value(one) != NULL ? json_string_value(one) : "", name) ==
		    0) {
			return true;
		}
	}
	return false;
}

/* Those that are on the node, and @before. Returns a new array; NULL = no memory. */
static json_t *names_on(const struct ha_api *api, uint32_t node, const json_t *before)
{
	const struct role_table *t = member_roles(api->place.member);
	json_t *names = before != NULL ? json_deep_copy(before) : json_array();

	for (const struct role *r = role_table_next(t, 0); names != NULL && r != NULL;
	     r = role_table_next(t, r->id)) {
		if ((r->owner.node == node || r->dest.node == node) && !has_name(names, r->name) &&
		    json_array_size(names) < DRAIN_NAMES_MAX) {
			(void)json_array_append_new(names, json_string(r->name));
		}
	}
	return names;
}

struct drain_write {
	struct ha_api *api;
	uint32_t node;
};

static struct ha_drain *drain_find(struct ha_api *api, uint32_t node)
{
	list_for_each(link, &api->drains)
	{
		struct ha_drain *d = list_entry(link, struct ha_drain, link);

		if (d->node == node) {
			return d;
		}
	}
	return NULL;
}

static void drain_end(struct ha_drain *d, int err, const struct errbuf *eb);

static int cancelled(const struct ha_drain *d, struct errbuf *eb)
{
	return errbuf_set(eb, -ECANCELED, "cancelled; %s takes VMs again",
	                  ha_node_name(d->api, d->node));
}

static void on_written(void *arg, enum rsm_outcome outcome, const struct rsm_result *result)
{
	struct drain_write *w = arg;
	struct ha_api *api = w->api;
	struct ha_drain *d = !api->stopped && api->ha != NULL ? drain_find(api, w->node) : NULL;
	struct errbuf eb = {0};
	int err = 0;

	free(w);
	if (d == NULL || d->phase != DRAIN_WRITES) {
		return;
	}
	if (outcome == RSM_UNKNOWN) {
		err = errbuf_set(&eb, -ETIMEDOUT, "the cluster did not answer in time");
	} else if (result->status != 0) {
		err = errbuf_set(&eb, -EBUSY, "somebody else asked for it at the same time");
	} else if (d->cancel_ns != 0) {
		ha_drain_forget(api, d->node);
		err = cancelled(d, &eb);
	} else {
		err = ha_drain(api->ha, d->node, true);
		(void)(err != 0 ? errbuf_sys(&eb, err, "the cluster cannot be asked") : 0);
	}
	if (err != 0) {
		drain_end(d, err, &eb);
	} else {
		d->phase = DRAIN_ASKS;
	}
}

static int doc_propose(struct ha_api *api, uint32_t node, const json_t *doc, uint64_t version)
{
	struct drain_write *w = gw_malloc(sizeof(*w));
	char key[MAINT_KEY_MAX];
	struct db_cmd cmd;
	int err = w != NULL && doc != NULL ? 0 : -ENOMEM;

	if (err != 0) {
		free(w);
		return err;
	}
	*w = (struct drain_write){.api = api, .node = node};
	db_cmd_init(&cmd);
	db_cmd_put(&cmd, DB_JOB, maint_key(node, key), doc);
	if (version != 0) {
		db_cmd_if_version(&cmd, version);
	} else {
		db_cmd_if_absent(&cmd);
	}
	err = db_cmd_end(&cmd);
	if (err == 0) {
		err = member_propose(api->place.member, &cmd, DRAIN_PROPOSE_NS, on_written, w);
	}
	db_cmd_fini(&cmd);
	if (err != 0) {
		free(w);
	}
	return err;
}

/* A second drain of a node that is being emptied goes on with the first. */
static int doc_write(struct ha_api *api, uint32_t node, const struct drain_ask *ask)
{
	const struct role_node *n = node_of(api, node);
	struct maint_drain old = {0};
	bool on = maint_drain_get(member_db(api->place.member), node, &old) &&
	          n->drain != ROLE_DRAIN_NONE && old.inc == n->inc;
	json_t *doc = json_pack("{s:I,s:I,s:I,s:b,s:s,s:o}", "run", (json_int_t)n->inc, "since_ms",
	                        (json_int_t)(on ? old.since_ms : ha_now_ms(api->ha)), "moves",
	                        (json_int_t)ask->moves, "shutdown", (int)ask->shutdown, "failback",
	                        ask->failback, "vms", names_on(api, node, on ? old.vms : NULL));
	int err = doc != NULL ? 0 : -ENOMEM;

	if (err == 0 && ask->fallback != MAINT_BY_VM) {
		err = json_object_set_new(doc, "fallback",
		                          json_string(maint_fallback_name(ask->fallback)));
	}
	if (err == 0 && ask->shutdown && node == api->place.nodeid) {
		err = json_object_set_new(doc, "boot", json_string(api->boot));
	}
	if (err == 0) {
		err = doc_propose(api, node, doc, old.version);
	}
	json_decref(doc);
	return err;
}

static void on_forgotten(void *arg, enum rsm_outcome outcome, const struct rsm_result *result)
{
	(void)arg; /* a later drain of that node writes it anew */
	(void)outcome;
	(void)result;
}

void ha_drain_forget(struct ha_api *api, uint32_t node)
{
	char key[MAINT_KEY_MAX];
	struct maint_drain d;
	struct db_cmd cmd;

	if (api->place.member == NULL || !maint_drain_get(member_db(api->place.member), node, &d)) {
		return;
	}
	db_cmd_init(&cmd);
	db_cmd_delete(&cmd, DB_JOB, maint_key(node, key));
	db_cmd_if_version(&cmd, d.version);
	if (db_cmd_end(&cmd) != 0 ||
	    member_propose(api->place.member, &cmd, DRAIN_PROPOSE_NS, on_forgotten, NULL) != 0) {
		log_info(HA_TAG, "a drain is not forgotten node=%u", node);
	}
	db_cmd_fini(&cmd);
}

/* ---- the job ---- */

static json_t *drain_rows(struct ha_drain *d, struct ha_rows *count)
{
	struct maint_drain drain = {0};

	if (d->api->ha == NULL || d->api->place.member == NULL) {
		*count = (struct ha_rows){0};
		return json_array();
	}
	if (d->phase != DRAIN_RUNS ||
	    !maint_drain_get(member_db(d->api->place.member), d->node, &drain)) {
		drain.since_ms = UINT64_MAX;
	}
	return ha_rows(d->api, d->node, &drain, count);
}

/* "web1 (no other node is up), web2 (moving)": those that are still there. */
static void left_text(const json_t *rows, char *buf, size_t size)
{
	const json_t *row;
	struct text text;
	size_t i;

	text_init(&text, buf, size);
	json_array_foreach(rows, i, row)
	{
		const char *state = json_string_value(json_object_get(row, "state"));
		const char *why = json_string_value(json_object_get(row, "text"));
		const char *vm = json_string_value(json_object_get(row, "vm"));

		if (state == NULL || strcmp(state, "moved") == 0 || strcmp(state, "started") == 0 ||
		    strcmp(state, "removed") == 0 || strcmp(state, "offline") == 0) {
			continue;
		}
		text_add(&text, "%s%s (%s%s%s)", text.len != 0 ? ", " : "", vm != NULL ? vm : "?",
		         state, why != NULL ? ": " : "", why != NULL ? why : "");
	}
}

static void drain_end(struct ha_drain *d, int err, const struct errbuf *eb)
{
	struct ha_rows count;
	json_t *rows = drain_rows(d, &count);
	const char *volume = d->api->place.member != NULL
	                             ? maint_coordinates(member_db(d->api->place.member), d->node)
	                             : NULL;
	json_t *result =
		json_pack("{s:s,s:i,s:i,s:i,s:o,s:s?}", "node",
	                  d->api->place.member != NULL ? ha_node_name(d->api, d->node) : "",
	                  "moved", (int)(count.total - count.left), "total", (int)count.total,
	                  "left", (int)count.left, "vms", rows, "coordinates", volume);

	list_del(&d->link);
	json_decref(d->last);
	job_end(d->job, err, eb, result);
	free(d);
}

/* Takes @rows. */
static void drain_progress(struct ha_drain *d, const struct ha_rows *count, json_t *rows)
{
	uint32_t moved = count->total - count->left;
	char left[DRAIN_TEXT_MAX];
	char text[DRAIN_TEXT_MAX + 64];

	if (rows == NULL || json_equal(rows, d->last)) {
		json_decref(rows);
		return;
	}
	json_decref(d->last);
	d->last = json_incref(rows);
	left_text(rows, left, sizeof(left));
	(void)snprintf(text, sizeof(text), "%u of %u%s%s", moved, count->total,
	               left[0] != '\0' ? ": " : "", left);
	job_progress(d->job,
	             json_pack("{s:i,s:s,s:i,s:i,s:i,s:o}", "percent",
	                       count->total > 0 ? (int)(moved * 100 / count->total) : 100, "detail",
	                       text, "moved", (int)moved, "total", (int)count->total, "blocked",
	                       (int)count->blocked, "vms", rows));
}

static bool still_moves(const struct ha_api *api, uint32_t node)
{
	const struct role_table *t = member_roles(api->place.member);
	const struct role *r = role_table_next(t, 0);

	while (r != NULL && (r->state != ROLE_MIGRATING || r->owner.node != node)) {
		r = role_table_next(t, r->id);
	}
	return r != NULL;
}

/* How it stands, told by the table. Returns 1 goes on; 0 done; -errno with @eb. */
static int drain_state(struct ha_drain *d, const struct ha_rows *count, const json_t *rows,
                       struct errbuf *eb)
{
	const struct role_node *n = node_of(d->api, d->node);
	uint64_t now_ns = clock_now_ns();
	char left[400];

	/* The wish and its end may have come in one. */
	if (d->phase == DRAIN_ASKS && d->cancel_ns != 0 && n->drain == ROLE_DRAIN_NONE &&
	    now_ns > d->cancel_ns + NS_PER_S) {
		return cancelled(d, eb);
	}
	if (d->phase != DRAIN_RUNS) {
		return now_ns <= d->ask_by_ns
		               ? 1
		               : errbuf_set(eb, -ETIMEDOUT, "the cluster did not answer");
	}
	if (d->undone && n->drain != ROLE_DRAIN_NONE) {
		return cancelled(d, eb); /* that is somebody else's */
	}
	if (n->drain == ROLE_DRAIN_DONE) {
		d->done_ns = d->done_ns != 0 ? d->done_ns : now_ns;
		return count->untold != 0 && now_ns < d->done_ns + DRAIN_TELL_NS ? 1 : 0;
	}
	if (n->drain == ROLE_DRAIN_NONE) {
		return still_moves(d->api, d->node) ? 1 : cancelled(d, eb);
	}
	if (count->left != 0 && count->left == count->leave) {
		return 0; /* nobody waits for these; it stays in maintenance */
	}
	if (now_ns > d->deadline_ns) {
		left_text(rows, left, sizeof(left));
		(void)errbuf_set(eb, -ETIMEDOUT, "not empty in time: %s", left);
		errbuf_hint(eb, "the node stays in maintenance; godwit node resume ends that");
		return -ETIMEDOUT;
	}
	return 1;
}

/* VMs that came between the document and the wish belong there as well. */
static void drain_began(struct ha_drain *d)
{
	const struct db *db = member_db(d->api->place.member);
	char key[MAINT_KEY_MAX];
	const struct db_object *o = db_get(db, DB_JOB, maint_key(d->node, key));
	json_t *before = o != NULL ? json_object_get(o->doc, "vms") : NULL;
	json_t *names = o != NULL ? names_on(d->api, d->node, before) : NULL;
	json_t *doc;

	d->phase = DRAIN_RUNS;
	if (names == NULL || json_array_size(names) == json_array_size(before)) {
		json_decref(names);
		return;
	}
	doc = json_deep_copy(o->doc);
	if (json_object_set_new(doc, "vms", names) != 0 ||
	    doc_propose(d->api, d->node, doc, o->version) != 0) {
		log_info(HA_TAG, "VMs that came just now will not be brought back node=%u",
		         d->node);
	}
	json_decref(doc);
}

/* Those on their way from @node since @by_ms or longer stay. */
static int stay_all(struct ha_api *api, uint32_t node, uint64_t by_ms)
{
	const struct role_table *t = member_roles(api->place.member);
	int err = 0;

	for (const struct role *r = role_table_next(t, 0); err == 0 && r != NULL;
	     r = role_table_next(t, r->id)) {
		if (r->state == ROLE_MIGRATING && r->owner.node == node && r->since_ms <= by_ms) {
			err = ha_stay(api->ha, r->id);
		}
	}
	return err;
}

/* It was taken back, and the log still has not all of it. What began after that goes on. */
static void drain_cancel_again(struct ha_drain *d)
{
	enum role_drain wish = node_of(d->api, d->node)->drain;
	uint64_t now_ns = clock_now_ns();
	int err = 0;

	if (d->cancel_ns == 0 || d->phase != DRAIN_RUNS) {
		return;
	}
	d->undone = d->undone || wish == ROLE_DRAIN_NONE;
	if (now_ns < d->again_ns) {
		return;
	}
	d->again_ns = now_ns + DRAIN_AGAIN_NS;
	if (!d->undone && wish == ROLE_DRAIN_ACTIVE) {
		err = ha_drain(d->api->ha, d->node, false);
	}
	err = err != 0 ? err : stay_all(d->api, d->node, d->cancel_ms);
	log_info(HA_TAG, "a drain is taken back again node=%u error=%s", d->node,
	         strerrorname_np(-err));
}

static void drain_look(struct ha_drain *d)
{
	struct errbuf eb = {0};
	struct ha_rows count;
	json_t *rows;
	int state;

	if (d->phase == DRAIN_ASKS && node_of(d->api, d->node)->drain != ROLE_DRAIN_NONE) {
		drain_began(d);
	}
	drain_cancel_again(d);
	rows = drain_rows(d, &count);
	state = drain_state(d, &count, rows, &eb);
	if (state == 1) {
		drain_progress(d, &count, rows);
		return;
	}
	json_decref(rows);
	drain_end(d, state, &eb);
}

/* Another node was asked to empty us before we go down: which boot that is, we know. */
static void note_boot(struct ha_api *api, const struct maint_drain *d)
{
	json_t *patch = json_pack("{s:s}", "boot", api->boot);
	char key[MAINT_KEY_MAX];
	struct db_cmd cmd;

	api->back_next_ns = clock_now_ns() + NS_PER_S;
	db_cmd_init(&cmd);
	db_cmd_merge(&cmd, DB_JOB, maint_key(api->place.nodeid, key), patch);
	db_cmd_if_version(&cmd, d->version);
	json_decref(patch);
	if (db_cmd_end(&cmd) != 0 ||
	    member_propose(api->place.member, &cmd, DRAIN_PROPOSE_NS, on_forgotten, NULL) != 0) {
		log_debug(HA_TAG, "asked again later: which boot goes down");
	}
	db_cmd_fini(&cmd);
}

/* Has the host been down since? A service that began a new run on the same boot is about to. */
static bool was_down(const struct ha_api *api, const struct maint_drain *d, uint64_t inc)
{
	return d->boot[0] != '\0' && api->boot[0] != '\0' ? strcmp(d->boot, api->boot) != 0
	                                                  : d->inc < inc;
}

/* This node was emptied to go down, and has been down: it takes VMs again. */
static void look_back(struct ha_api *api)
{
	const struct role_node *n = api->ha != NULL ? node_of(api, api->place.nodeid) : NULL;
	struct maint_drain d;
	struct job *job;
	struct errbuf eb = {0};

	if (n == NULL || n->drain == ROLE_DRAIN_NONE || n->state != ROLE_NODE_UP ||
	    ha_agent(api->ha)->self.inc != n->inc || clock_now_ns() < api->back_next_ns ||
	    !maint_drain_get(member_db(api->place.member), api->place.nodeid, &d) || !d.shutdown) {
		return;
	}
	if (d.boot[0] == '\0' && api->boot[0] != '\0' && d.inc == n->inc) {
		note_boot(api, &d);
		return;
	}
	if (!was_down(api, &d, n->inc)) {
		return;
	}
	api->back_next_ns = clock_now_ns() + DRAIN_ASK_NS;
	log_info(HA_TAG, "back after it was emptied to go down failback=%s", d.failback);
	if (ha_drain_undo(api, api->place.nodeid) != 0) {
		return;
	}
	if (strcmp(d.failback, "none") == 0) {
		ha_drain_forget(api, api->place.nodeid);
	} else if (ha_back_begin(api, api->place.nodeid, strcmp(d.failback, "policy") == 0, d.vms,
	                         &job, &eb) != 0) {
		log_warn(HA_TAG, "VMs do not come back by themselves text=\"%s\"", eb.text);
	}
}

void ha_drain_look(struct ha_api *api)
{
	list_for_each_safe(link, &api->drains)
	{
		drain_look(list_entry(link, struct ha_drain, link));
	}
	look_back(api);
	ha_back_look(api);
}

void ha_drain_stop(struct ha_api *api)
{
	list_for_each_safe(link, &api->drains)
	{
		struct errbuf eb = {0};

		(void)errbuf_set(&eb, -ECANCELED,
		                 "the node service is stopping; the drain goes on");
		drain_end(list_entry(link, struct ha_drain, link), -ECANCELED, &eb);
	}
	ha_back_stop(api);
}

int ha_drain_undo(struct ha_api *api, uint32_t node)
{
	bool active = node_of(api, node)->drain == ROLE_DRAIN_ACTIVE;
	int err = ha_drain(api->ha, node, false);

	return err == 0 && active ? stay_all(api, node, UINT64_MAX) : err;
}

static void cancel_noted(struct ha_drain *d)
{
	d->cancel_ns = clock_now_ns();
	d->cancel_ms = ha_now_ms(d->api->ha);
	d->again_ns = d->cancel_ns + DRAIN_AGAIN_NS;
}

/* Taken back. What is not in the log yet will not get there: on_written(). One that runs and of
 * which the cluster cannot be told now goes on, as whoever asked hears. */
static int take_back(struct ha_api *api, uint32_t node)
{
	struct ha_drain *d = drain_find(api, node);
	int err;

	if (d != NULL && d->phase == DRAIN_WRITES && node_of(api, node)->drain == ROLE_DRAIN_NONE) {
		cancel_noted(d);
		return 0;
	}
	err = ha_drain_undo(api, node);
	if (d != NULL && (err == 0 || d->phase != DRAIN_RUNS)) {
		cancel_noted(d);
	}
	return err;
}

static int drain_cancel(void *arg, struct errbuf *eb)
{
	struct ha_drain *d = arg;
	int err = d->api->ha != NULL ? take_back(d->api, d->node) : -ENOTCONN;

	return err == 0 ? 0 : errbuf_sys(eb, err, "the cluster cannot be asked");
}

/* The node of the path, if it takes part. 0: the request has been answered. */
static uint32_t node_asked(struct ha_api *api, struct api_req *req)
{
	const char *name = api_req_param(req, "name");
	const struct db_object *o =
		api->ha != NULL ? db_get(member_db(api->place.member), DB_NODE, name) : NULL;
	json_int_t id = o != NULL ? json_integer_value(json_object_get(o->doc, "nodeid")) : 0;
	struct errbuf eb = {0};

	if (api->ha == NULL) {
		(void)errbuf_set(&eb, -ENOTCONN, "this host runs no VMs for a cluster");
		errbuf_hint(&eb, "godwit cluster status says whether it is in one");
		(void)api_reply_errno(req, -ENOTCONN, &eb);
		return 0;
	}
	if (id <= 0 || id > ROLE_NODES_MAX || node_of(api, (uint32_t)id)->inc == 0) {
		(void)errbuf_set(&eb, -ENOENT, "there is no node %s that runs VMs", name);
		errbuf_hint(&eb, "godwit node list shows those there are");
		(void)api_reply_errno(req, -ENOENT, &eb);
		return 0;
	}
	return (uint32_t)id;
}

static void refuse(struct api_req *req, int err)
{
	struct errbuf eb = {0};

	(void)errbuf_sys(&eb, err, "the cluster cannot be asked");
	errbuf_hint(&eb, "godwit cluster status shows which nodes are missing");
	(void)api_reply_errno(req, err, &eb);
}

static int parse_ask(const json_t *body, struct drain_ask *out, struct errbuf *eb)
{
	static const char *const known[] = {"deadline_ns", "fallback", "moves",
	                                    "shutdown",    "failback", "force"};
	static const char *const fallbacks[] = {"", "live", "quick", "shutdown", "leave"};
	static const char *const backs[] = {"none", "now", "policy"};
	struct json_at at = json_root(body, "");
	size_t fallback = 0;
	size_t failback = 2;
	uint64_t moves = 0;
	int err = 0;

	*out = (struct drain_ask){.failback = "none"};
	if (body == NULL) {
		return 0;
	}
	err = json_check_members(&at, known, ARRAY_LEN(known), eb);
	err = err != 0 ? err
	               : json_opt_u64(&at, "deadline_ns", 0, INT64_MAX, &out->deadline_ns, eb);
	err = err != 0 ? err
	               : json_opt_word(&at, "fallback", fallbacks, ARRAY_LEN(fallbacks), &fallback,
	                               eb);
	err = err != 0 ? err : json_opt_u64(&at, "moves", 0, MAINT_MOVES_MAX, &moves, eb);
	err = err != 0 ? err : json_opt_bool(&at, "shutdown", &out->shutdown, eb);
	err = err != 0 ? err : json_opt_bool(&at, "force", &out->force, eb);
	err = err != 0 ? err
	               : json_opt_word(&at, "failback", backs, ARRAY_LEN(backs), &failback, eb);
	out->fallback = (enum maint_fallback)fallback;
	out->moves = (uint32_t)moves;
	out->failback = backs[failback];
	return err;
}

/* Do the others have a majority when @node is down? */
static int can_go_down(const struct ha_api *api, uint32_t node, struct errbuf *eb)
{
	const struct view_config *config = member_config(api->place.member);
	const struct view *view = member_view(api->place.member);
	uint32_t total = view_config_total(config);
	uint32_t votes = view->witness ? view_config_witness(config) : 0;

	for (uint32_t i = 0; i < view->count; i++) {
		const struct view_member *m = &view->members[i];

		if (m->said && !m->skipped && m->peer.nodeid != node) {
			votes += view_config_votes(config, m->peer.nodeid, &m->hello.uuid);
		}
	}
	if (votes * 2 > total) {
		return 0;
	}
	(void)errbuf_set(eb, -EBUSY,
	                 "with %s down the cluster would have %u of %u votes, no majority: all its "
	                 "VMs would stand still",
	                 ha_node_name(api, node), votes, total);
	errbuf_hint(eb, "bring the other nodes back first; --force empties it all the same");
	return -EBUSY;
}

static enum api_then plan(struct ha_api *api, struct api_req *req, uint32_t node,
                          const struct drain_ask *ask)
{
	struct ha_rows count;
	json_t *rows = ha_rows_plan(api, node, ask->fallback, ask->moves, &count);

	return api_reply(req, 200,
	                 json_pack("{s:s,s:i,s:i,s:o,s:s?}", "node", ha_node_name(api, node),
	                           "total", (int)count.total, "blocked", (int)count.blocked, "vms",
	                           rows, "coordinates",
	                           maint_coordinates(member_db(api->place.member), node)));
}

static enum api_then drain_begin(struct ha_api *api, struct api_req *req, uint32_t node,
                                 const struct drain_ask *ask)
{
	struct ha_drain *d = gw_calloc(1, sizeof(*d));
	struct errbuf eb = {0};
	struct ha_rows count;
	json_t *rows;
	char object[160];
	char text[200];
	struct job_cfg job = {
		.kind = "drain", .object = object, .text = text, .cancel = drain_cancel, .arg = d};
	int err = d != NULL ? 0 : -ENOMEM;

	(void)snprintf(object, sizeof(object), "node/%s", ha_node_name(api, node));
	(void)snprintf(text, sizeof(text), "draining %s", ha_node_name(api, node));
	if (err == 0) {
		err = job_new(api->cfg.jobs, &job, &d->job, &eb);
	}
	if (err != 0) {
		free(d);
		return api_reply_errno(req, err, &eb);
	}
	d->api = api;
	d->node = node;
	d->ask_by_ns = clock_now_ns() + DRAIN_ASK_NS;
	d->deadline_ns = ask->deadline_ns != 0 ? clock_now_ns() + ask->deadline_ns : UINT64_MAX;
	list_add_tail(&api->drains, &d->link);
	err = doc_write(api, node, ask);
	if (err != 0) {
		(void)errbuf_sys(&eb, err, "the cluster cannot be asked");
		drain_end(d, err, &eb);
		refuse(req, err);
		return API_ANSWERED;
	}
	rows = drain_rows(d, &count); /* what cannot go is known already */
	drain_progress(d, &count, rows);
	return api_reply(req, 202, job_json(d->job));
}

static enum api_then on_drain(struct api_req *req, void *arg)
{
	struct ha_api *api = arg;
	uint32_t node = node_asked(api, req);
	struct errbuf eb = {0};
	struct drain_ask ask;
	struct ha_drain *d;
	int err;

	if (node == 0) {
		return API_ANSWERED;
	}
	err = parse_ask(api_req_body(req), &ask, &eb);
	if (err != 0) {
		return api_reply_errno(req, err, &eb);
	}
	if (api_req_query(req, "dry_run") != NULL) {
		return plan(api, req, node, &ask);
	}
	err = ask.shutdown && !ask.force ? can_go_down(api, node, &eb) : 0;
	if (err != 0) {
		return api_reply_errno(req, err, &eb);
	}
	d = drain_find(api, node);
	return d != NULL ? api_reply(req, 202, job_json(d->job))
	                 : drain_begin(api, req, node, &ask);
}

static int parse_failback(const json_t *body, size_t *out, struct errbuf *eb)
{
	static const char *const known[] = {"failback"};
	static const char *const backs[] = {"none", "now", "policy"};
	struct json_at at = json_root(body, "");
	int err = body != NULL ? json_check_members(&at, known, ARRAY_LEN(known), eb) : 0;

	*out = 0;
	return err != 0 || body == NULL
	               ? err
	               : json_opt_word(&at, "failback", backs, ARRAY_LEN(backs), out, eb);
}

static enum api_then on_resume(struct api_req *req, void *arg)
{
	struct ha_api *api = arg;
	uint32_t node = node_asked(api, req);
	struct maint_drain drain = {0};
	struct job *job = NULL;
	struct errbuf eb = {0};
	size_t failback = 0;
	int err;

	if (node == 0) {
		return API_ANSWERED;
	}
	err = parse_failback(api_req_body(req), &failback, &eb);
	if (err == 0 && (err = take_back(api, node)) != 0) {
		refuse(req, err);
		return API_ANSWERED;
	}
	if (err == 0 && failback == 0) {
		if (drain_find(api, node) == NULL) {
			ha_drain_forget(api, node);
		}
	} else if (err == 0 && maint_drain_get(member_db(api->place.member), node, &drain)) {
		err = ha_back_begin(api, node, failback == 2, drain.vms, &job, &eb);
	}
	if (err != 0) {
		return api_reply_errno(req, err, &eb);
	}
	return api_reply(req, 202, job != NULL ? job_json(job) : json_object());
}

/* A proof by a person's word, for a node of which nothing else says that it has stopped. */
static enum api_then on_confirm(struct api_req *req, void *arg)
{
	struct ha_api *api = arg;
	uint32_t node = node_asked(api, req);
	struct errbuf eb = {0};
	int err;

	if (node == 0) {
		return API_ANSWERED;
	}
	/* It outdoes every fence device: the certificate of another machine is no person. */
	if (!api_req_peer(req)->local) {
		(void)errbuf_set(&eb, -EACCES, "that %s is off is not believed over the network",
		                 api_req_param(req, "name"));
		errbuf_hint(&eb, "say it on a node itself: godwit node confirm %s --off",
		            api_req_param(req, "name"));
		return api_reply_errno(req, -EACCES, &eb);
	}
	log_warn(HA_TAG, "somebody says that it is off node=%s uid=%u", api_req_param(req, "name"),
	         (unsigned)api_req_peer(req)->uid);
	err = ha_confirm(api->ha, node);
	if (err == -EBUSY) {
		(void)errbuf_set(&eb, err, "no VM waits for a proof that %s has stopped: it is %s",
		                 api_req_param(req, "name"),
		                 role_node_state_name(node_of(api, node)->state));
		return api_reply_errno(req, err, &eb);
	}
	if (err != 0) {
		refuse(req, err);
		return API_ANSWERED;
	}
	return api_reply(req, 202, json_object());
}

static const struct api_route routes[] = {
	{API_POST, "/v1/nodes/{name}/confirm-off", on_confirm},
	{API_POST, "/v1/nodes/{name}/drain", on_drain},
	{API_POST, "/v1/nodes/{name}/resume", on_resume},
};

int ha_drain_routes(struct ha_api *api)
{
	return api_server_routes(api->cfg.server, routes, ARRAY_LEN(routes), api);
}
