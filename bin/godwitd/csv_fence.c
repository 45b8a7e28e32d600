/* SPDX-License-Identifier: Apache-2.0 */

/*
 * csv_fence - the part of shared volumes in a proof by storage: which keys a lost run could write
 * with, and taking them away through godwit-csvd of this node.
 *
 * The run of the volume service is sealed first: its document in the log says which run it is, that
 * no other follows in that run of the node, and which volumes there were. A node that came back for
 * a moment cannot put another run, with another key, beside the one whose key is taken away.
 *
 * docs/decisions/0275.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/api/client.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "bin/godwitd/csv_wire_int.h"
#include "cluster/ha/ha.h"

/* Longer than a command of SCSI may take there: what becomes of it is to be heard. */
#define CUT_MS 12000u
#define EVENT_NS (5 * NS_PER_S)

/* ---- the seal ---- */

static const struct db_object *run_object(struct member *m, uint32_t nodeid)
{
	char key[CSV_RUN_KEY_MAX];

	return db_get(member_db(m), DB_SETTING, csv_run_key(nodeid, key));
}

uint64_t csv_sealed(const json_t *doc)
{
	const json_t *number;
	uint64_t set = 0;
	size_t i;

	if (!json_is_true(json_object_get(doc, "sealed"))) {
		return 0;
	}
	json_array_foreach(json_object_get(doc, "volumes"), i, number)
	{
		json_int_t v = json_integer_value(number);

		if (v < 1 || v > (json_int_t)ROLE_VOLUMES_MAX) {
			return 0;
		}
		set |= role_bit((uint32_t)v);
	}
	return set;
}

/* Numbers of all volumes; NULL: there are none, or one has no number. */
static json_t *all_volumes(struct member *m)
{
	const struct db *db = member_db(m);
	json_t *list = db_count(db, DB_VOLUME) != 0 ? json_array() : NULL;

	for (size_t i = 0; list != NULL && i < db_count(db, DB_VOLUME); i++) {
		uint64_t number = csv_number(db_at(db, DB_VOLUME, i)->doc, "number");

		if (role_bit((uint32_t)number) == 0 ||
		    json_array_append_new(list, json_integer((json_int_t)number)) != 0) {
			json_decref(list);
			list = NULL;
		}
	}
	return list;
}

static void seal(struct csv_wire *w, uint32_t nodeid, const struct db_object *o)
{
	json_t *list = all_volumes(w->place.member);
	json_t *doc = list != NULL ? json_pack("{s:I,s:b,s:b,s:o}", "run",
	                                       (json_int_t)csv_number(o->doc, "run"), "gone", 0,
	                                       "sealed", 1, "volumes", list)
	                           : NULL;
	struct db_cmd cmd;

	if (doc == NULL) {
		return; /* tried again */
	}
	db_cmd_init(&cmd);
	db_cmd_put(&cmd, DB_SETTING, o->key, doc);
	db_cmd_if_version(&cmd, o->version);
	csv_wire_count(member_db(w->place.member), &cmd); /* and these are all volumes */
	json_decref(doc);
	log_info(CSV_WIRE_TAG, "run of a lost volume service is sealed node=%u run=%" PRIu64,
	         nodeid, csv_number(o->doc, "run"));
	csv_wire_propose(w, &cmd, "the seal of a lost run");
}

bool csv_wire_sealed(struct csv_wire *w, uint32_t nodeid, uint64_t inc, bool ask,
                     struct csv_wire_seal *out)
{
	struct member *m = w->place.member;
	const struct db_object *o = m != NULL ? run_object(m, nodeid) : NULL;
	uint64_t run = o != NULL ? csv_number(o->doc, "run") : 0;
	struct rsm_status status;

	*out = (struct csv_wire_seal){.why = ""};
	if (run >> CSV_LIFE_BITS != inc || run == 0 ||
	    json_is_true(json_object_get(o->doc, "gone"))) {
		out->why = "it has no volume service";
		return false;
	}
	out->run = run;
	out->volumes = csv_sealed(o->doc);
	if (out->volumes != 0) {
		return true;
	}
	if (db_count(member_db(m), DB_VOLUME) == 0) {
		out->why = "there are no shared volumes";
	} else if (csv_left_open(m, nodeid, run)) {
		out->why = "it may have a volume open that was evicted";
	} else if (ask && !w->proposing && csv_wire_active(w, &status)) {
		seal(w, nodeid, o);
	}
	return false;
}

/* ---- taking a key away ---- */

void csv_fence_look(struct csv_wire *w, const json_t *volumes)
{
	json_t *row;
	size_t i;

	w->preemptable = 0;
	json_array_foreach(volumes, i, row)
	{
		const char *name = json_string_value(json_object_get(row, "name"));
		const char *state = json_string_value(json_object_get(row, "state"));
		const json_t *reservations = json_object_get(row, "reservations");
		const char *level = json_string_value(json_object_get(reservations, "level"));
		const struct db_object *o =
			name != NULL ? db_get(member_db(w->place.member), DB_VOLUME, name) : NULL;
		uint64_t bit = o != NULL ? role_bit((uint32_t)csv_number(o->doc, "number")) : 0;

		/* With a key of ours on it: who has none cannot take others' away. */
		if (state == NULL || level == NULL || strcmp(state, "dead") == 0 ||
		    !json_is_string(json_object_get(reservations, "key"))) {
			continue;
		}
		w->preemptable |=
			strcmp(level, "preempt-and-abort") == 0 || strcmp(level, "preempt") == 0
				? bit
				: 0;
	}
}

uint64_t csv_wire_preemptable(const struct csv_wire *w)
{
	return w->preemptable;
}

/* One try. */
struct cut {
	struct csv_wire *wire;
	uint64_t open_count;
	struct lead_fence what;
	char url[CSV_WIRE_PATH_MAX];
	char volume[DB_KEY_MAX + 1];
	char *path;   /* owned, as the next two */
	json_t *body; /* whose key */
	json_t *answer;
};

static void cut_free(struct cut *c)
{
	free(c->path);
	json_decref(c->body);
	json_decref(c->answer);
	free(c);
}

/* On a thread. */
static int run_cut(void *arg, struct errbuf *eb)
{
	struct cut *c = arg;
	const struct api_client_cfg cfg = {.url = c->url, .connect_timeout_ms = CUT_MS};
	const struct api_call call = {
		.method = API_POST, .path = c->path, .body = c->body, .timeout_ms = CUT_MS};
	struct api_result result = {0};
	struct api_client *client;
	int err = api_client_create(&cfg, &client, eb);

	if (err != 0) {
		return err;
	}
	err = api_client_call(client, &call, &result, eb);
	if (err == 0) {
		c->answer = result.body;
		result.body = NULL;
	}
	api_result_fini(&result);
	api_client_destroy(client);
	return err;
}

/* What the answer proves, as fence_done(). It says what was done: what the volume can do now, or
 * could when this began, is another matter. */
static int judge(const struct cut *c, struct errbuf *eb)
{
	const char *proof = json_string_value(json_object_get(c->answer, "proof"));

	if (proof != NULL && strcmp(proof, "aborted") == 0) {
		return FENCE_ABORTED;
	}
	if (proof != NULL && strcmp(proof, "preempted") == 0) {
		return 0;
	}
	if (proof != NULL && strcmp(proof, "absent") == 0) {
		/* It may register it only now, or somebody's abort may be under way. */
		return errbuf_set(eb, -ENOKEY, "it has no key there, which proves nothing");
	}
	return errbuf_set(eb, -EPROTO, "the volume service does not say what it did");
}

static void nobody_waits(void *arg, enum rsm_outcome outcome, const struct rsm_result *result)
{
	(void)arg;
	(void)outcome;
	(void)result;
}

/* An event of the cluster: of each case the first failure, and the success. */
static void tell(const struct cut *c, int err, const char *text)
{
	const struct csv_wire *w = c->wire;
	struct member *m = w->place.member;
	struct db_cmd cmd;
	json_t *doc;

	if (err < 0 && c->what.action.number > 1) {
		return;
	}
	doc = json_pack("{s:s,s:s,s:s,s:s,s:I,s:b,s:s}", "event", "fence.tried", "node",
	                csv_node_name(w, c->what.at.node), "volume", c->volume, "by",
	                csv_node_name(w, w->place.nodeid), "run", (json_int_t)c->what.at.inc, "ok",
	                (int)(err >= 0), "text", text);
	db_cmd_init(&cmd);
	db_cmd_log(&cmd, doc);
	json_decref(doc);
	if (db_cmd_end(&cmd) != 0 || member_propose(m, &cmd, EVENT_NS, nobody_waits, NULL) != 0) {
		log_info(CSV_WIRE_TAG, "an event is not in the cluster's log volume=%s", c->volume);
	}
	db_cmd_fini(&cmd);
}

static void on_cut(void *arg, int err, const struct errbuf *eb)
{
	struct cut *c = arg;
	struct csv_wire *w = c->wire;
	struct errbuf why = {0};
	const char *text;

	if (err == 0) {
		err = judge(c, &why);
		eb = &why;
	}
	text = err < 0                ? errbuf_text(eb, err)
	       : err == FENCE_ABORTED ? "its key is taken away, what it had sent is aborted"
	                              : "its key is taken away; what it had sent is waited for";
	log_warn(CSV_WIRE_TAG, "key of a lost run node=%u run=%" PRIu64 " volume=%s text=\"%s\"",
	         c->what.at.node, c->what.at.inc, c->volume, text);
	if (c->open_count == w->open_count && w->place.member != NULL) {
		tell(c, err, text);
		ha_fenced(w->place.ha, &c->what, err);
	}
	cut_free(c);
}

static const struct db_object *volume_by_number(struct member *m, uint32_t number)
{
	const struct db *db = member_db(m);

	for (size_t i = 0; i < db_count(db, DB_VOLUME); i++) {
		if (csv_number(db_at(db, DB_VOLUME, i)->doc, "number") == number) {
			return db_at(db, DB_VOLUME, i);
		}
	}
	return NULL;
}

static int cut_new(struct csv_wire *w, const struct lead_fence *what, uint64_t run,
                   struct cut **out)
{
	const struct db_object *o = volume_by_number(w->place.member, what->action.volume);
	struct cut *c = o != NULL ? gw_calloc(1, sizeof(*c)) : NULL;

	*out = c;
	if (c == NULL) {
		return o == NULL ? -ENOENT : -ENOMEM;
	}
	c->wire = w;
	c->open_count = w->open_count;
	c->what = *what;
	(void)snprintf(c->url, sizeof(c->url), "%s", w->url);
	(void)snprintf(c->volume, sizeof(c->volume), "%s", o->key);
	c->path = api_path("/v1/volumes/{name}/fence", o->key);
	c->body = json_pack("{s:I,s:I}", "id", (json_int_t)what->at.node, "run", (json_int_t)run);
	return c->path != NULL && c->body != NULL ? 0 : -ENOMEM;
}

void csv_wire_preempt(struct csv_wire *w, const struct lead_fence *what)
{
	struct csv_wire_seal sealed;
	struct cut *c = NULL;
	int err;

	if (w->place.member == NULL ||
	    !csv_wire_sealed(w, what->at.node, what->at.inc, false, &sealed)) {
		return; /* given up in time */
	}
	err = cut_new(w, what, sealed.run, &c);
	if (err == 0) {
		log_warn(CSV_WIRE_TAG,
		         "takes the key of a lost run away node=%u run=%" PRIu64
		         " volume=%s try=%u",
		         what->at.node, sealed.run, c->volume, what->action.number);
		err = cluster_work_start(w->works, run_cut, on_cut, c);
	}
	if (err != 0) {
		if (c != NULL) {
			cut_free(c);
		}
		ha_fenced(w->place.ha, what, err);
	}
}
