/* SPDX-License-Identifier: Apache-2.0 */

/*
 * csv_picture - what the database says about shared volumes, as godwit-csvd wants to hear it, and
 * what the leader of the view makes of it.
 *
 * A run counts as gone by a proof only: the node's own (role_table: FENCED, or its next run has
 * joined, or its keys were taken away everywhere), or its own word that the process ended
 * (csv-run/N, "gone"). Who is merely silent stays a member and a holder.
 */

#include <inttypes.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "bin/godwitd/csv_wire_int.h"
#include "cluster/ha/ha.h"
#include "cluster/role/role_cmd.h"
#include "cluster/timing/timing.h"

#define FENCE_NS (5 * NS_PER_S)
#define PINS_MAX 4u /* CSV_DAEMON_PINS_MAX */

uint64_t csv_number(const json_t *doc, const char *key)
{
	json_int_t v = json_integer_value(json_object_get(doc, key));

	return v > 0 ? (uint64_t)v : 0;
}

const char *csv_run_key(uint32_t nodeid, char buf[CSV_RUN_KEY_MAX])
{
	(void)snprintf(buf, CSV_RUN_KEY_MAX, "csv-run/%" PRIu32, nodeid);
	return buf;
}

const char *csv_fence_key(uint32_t nodeid, char buf[CSV_RUN_KEY_MAX])
{
	(void)snprintf(buf, CSV_RUN_KEY_MAX, "csv-fence/%" PRIu32, nodeid);
	return buf;
}

static const json_t *run_doc(struct member *m, uint32_t nodeid)
{
	char key[CSV_RUN_KEY_MAX];
	const struct db_object *o = db_get(member_db(m), DB_SETTING, csv_run_key(nodeid, key));

	return o != NULL ? o->doc : NULL;
}

/* Its keys are gone from all volumes that there were: nothing of it can be written. */
static bool cut_off(struct member *m, struct role_at at, const json_t *doc)
{
	const struct role_node *n = role_table_node(member_roles(m), at.node);
	uint64_t sealed = csv_sealed(doc);

	return n != NULL && n->inc == at.inc && n->proof == ROLE_PROOF_STORAGE && sealed != 0 &&
	       (sealed & ~n->proof_volumes) == 0;
}

uint64_t csv_run_of(struct member *m, uint32_t nodeid, uint64_t *fenced)
{
	const json_t *doc = run_doc(m, nodeid);
	uint64_t run = csv_number(doc, "run");
	const struct role_at at = {.node = nodeid, .inc = run >> CSV_LIFE_BITS};

	*fenced = 0;
	if (run == 0) {
		return 0;
	}
	if (role_table_proven(member_roles(m), at, 0, true) || cut_off(m, at, doc)) {
		*fenced = run | CSV_LIFE_MAX;
		return 0;
	}
	if (json_is_true(json_object_get(doc, "gone"))) {
		*fenced = run;
		return 0;
	}
	*fenced = run - 1;
	return run;
}

uint64_t csv_fence_of(struct member *m, uint32_t nodeid)
{
	char key[CSV_RUN_KEY_MAX];
	const struct db_object *o = db_get(member_db(m), DB_SETTING, csv_fence_key(nodeid, key));
	uint64_t by = o != NULL ? csv_number(o->doc, "by_run") : 0;
	uint64_t gone;

	/* Its coordinators ended with it, and the next ones ask anew. */
	if (by == 0 || csv_run_of(m, (uint32_t)csv_number(o->doc, "by"), &gone) != by) {
		return 0;
	}
	return csv_number(o->doc, "run");
}

/* ---- the picture ---- */

static void add_member(struct json_build *list, const struct db_object *node, uint64_t run)
{
	const json_t *keys = json_object_get(node->doc, "keys");
	struct json_build b;
	struct json_build pins;

	json_build_object(&b);
	json_add_u64(&b, "id", csv_number(node->doc, "nodeid"));
	json_add_str(&b, "name", node->key);
	json_add_u64(&b, "run", run);
	json_add_str(&b, "addr",
	             json_string_value(json_array_get(json_object_get(node->doc, "addrs"), 0)));
	json_build_array(&pins);
	for (size_t i = 0; i < json_array_size(keys) && i < PINS_MAX; i++) {
		json_add_str(&pins, NULL, json_string_value(json_array_get(keys, i)));
	}
	json_add_build(&b, "keys", &pins);
	json_add_build(list, NULL, &b);
}

static void add_run(struct json_build *list, uint32_t nodeid, uint64_t run)
{
	struct json_build b;

	json_build_object(&b);
	json_add_u64(&b, "id", nodeid);
	json_add_u64(&b, "run", run);
	json_add_build(list, NULL, &b);
}

static void add_nodes(struct member *m, struct json_build *members, struct json_build *fenced)
{
	const struct db *db = member_db(m);

	for (size_t i = 0; i < db_count(db, DB_NODE); i++) {
		const struct db_object *node = db_at(db, DB_NODE, i);
		uint64_t gone;
		uint64_t run = csv_run_of(m, (uint32_t)csv_number(node->doc, "nodeid"), &gone);

		if (run != 0) {
			add_member(members, node, run);
		}
	}
	/* By number: a run outlives the document of its node. */
	for (uint32_t id = 1; id < CSV_WIRE_NODES; id++) {
		uint64_t gone;

		(void)csv_run_of(m, id, &gone);
		if (gone != 0) {
			add_run(fenced, id, gone);
		}
	}
}

/* Is the coordinator of the document still what it was appointed as? */
static bool coordinated(struct member *m, const json_t *doc)
{
	uint32_t nodeid = (uint32_t)csv_number(doc, "coordinator");
	uint64_t gone;

	return nodeid != 0 && csv_number(doc, "run") != 0 &&
	       csv_run_of(m, nodeid, &gone) == csv_number(doc, "run");
}

static void add_volume(struct member *m, uint32_t nodeid, struct json_build *list,
                       const struct db_object *o)
{
	uint64_t number = csv_number(o->doc, "number");
	struct json_build holders;
	struct json_build b;

	json_build_object(&b);
	json_add_str(&b, "name", o->key);
	json_add_str(&b, "device", json_string_value(json_object_get(o->doc, "device")));
	json_add_str(&b, "id", json_string_value(json_object_get(o->doc, "id")));
	json_add_u64(&b, "term", csv_number(o->doc, "term"));
	if (coordinated(m, o->doc)) {
		json_add_u64(&b, "coordinator", csv_number(o->doc, "coordinator"));
	}
	/* A term begins when the coordinator of the one before is proven gone, its I/O with it, or
	 * has closed the journal: csv_lead(), hand_on(). */
	json_add_bool(&b, "quiet", true);
	json_build_array(&holders);
	for (uint32_t id = 1; id < CSV_WIRE_NODES; id++) {
		uint64_t gone;
		uint64_t run = csv_run_of(m, id, &gone);

		if (run != 0 && csv_holds(m, id, number)) {
			add_run(&holders, id, run);
		}
	}
	json_add_build(&b, "holders", &holders);
	if (!csv_holds_said(m, nodeid, number)) {
		json_add_bool(&b, "wait", true); /* earlier versions do not know the word */
	}
	json_add_build(list, NULL, &b);
}

static void add_timing(struct json_build *out, const struct timing_cfg *t)
{
	struct json_build b;

	json_build_object(&b);
	json_add_u64(&b, "token_ms", t->token_ms);
	json_add_u64(&b, "consensus_ms", t->consensus_ms);
	json_add_u64(&b, "renew_ms", t->renew_ms);
	json_add_u64(&b, "slot_ms", t->slot_ms);
	json_add_u64(&b, "lease_ms", t->lease_ms);
	json_add_u64(&b, "watchdog_ms", t->watchdog_ms);
	json_add_u64(&b, "drift_ppm", t->drift_ppm);
	json_add_u64(&b, "margin_ms", t->margin_ms);
	json_add_u64(&b, "inflight_ms", t->inflight_ms);
	json_add_u64(&b, "install_ms", t->install_ms);
	json_add_build(out, "timing", &b);
}

int csv_picture(struct member *m, uint32_t nodeid, const struct timing_cfg *timing, json_t **out)
{
	const struct db *db = member_db(m);
	struct json_build b;
	struct json_build members;
	struct json_build fenced;
	struct json_build volumes;

	json_build_object(&b);
	json_build_array(&members);
	json_build_array(&fenced);
	json_build_array(&volumes);
	json_add_u64(&b, "epoch", role_table_epoch(member_roles(m)));
	json_add_u64(&b, "self", nodeid);
	add_nodes(m, &members, &fenced);
	for (size_t i = 0; i < db_count(db, DB_VOLUME) && i < CSV_WIRE_VOLUMES; i++) {
		add_volume(m, nodeid, &volumes, db_at(db, DB_VOLUME, i));
	}
	json_add_build(&b, "members", &members);
	json_add_build(&b, "fenced", &fenced);
	json_add_build(&b, "volumes", &volumes);
	add_timing(&b, timing);
	return json_build_end(&b, out);
}

/* ---- deciding ---- */

uint32_t csv_candidate(struct member *m, const struct csv_search *what)
{
	uint32_t found = 0;
	uint32_t best = 0;

	for (uint32_t i = 1; i < CSV_WIRE_NODES; i++) {
		uint32_t id = (what->after + i - 1) % (CSV_WIRE_NODES - 1) + 1;
		const struct role_node *n = role_table_node(member_roles(m), id);
		enum csv_path path = csv_path_of(m, id, what->number);
		uint32_t rank;
		uint64_t gone;

		if (n == NULL || n->state != ROLE_NODE_UP || csv_run_of(m, id, &gone) == 0 ||
		    path < what->least) {
			continue;
		}
		/* One that is being emptied is better than nobody. */
		rank = 1 + (uint32_t)path * 2 + (n->drain == ROLE_DRAIN_NONE);
		if (rank > best) {
			best = rank;
			found = id;
		}
	}
	return found;
}

/* Shall it go from @nodeid to @to? */
static bool is_better(struct member *m, uint32_t nodeid, uint32_t to, uint64_t number)
{
	const struct role_node *here = role_table_node(member_roles(m), nodeid);
	const struct role_node *there = role_table_node(member_roles(m), to);

	if (here == NULL || there == NULL || to == nodeid) {
		return false;
	}
	if (csv_path_of(m, nodeid, number) == CSV_PATH_LOST) {
		return csv_path_of(m, to, number) == CSV_PATH_GOOD;
	}
	return here->drain != ROLE_DRAIN_NONE && there->drain == ROLE_DRAIN_NONE &&
	       csv_path_of(m, to, number) != CSV_PATH_LOST;
}

const char *csv_to_leave(struct member *m, uint32_t nodeid, uint32_t *to)
{
	const struct db *db = member_db(m);

	for (size_t i = 0; i < db_count(db, DB_VOLUME); i++) {
		const struct db_object *o = db_at(db, DB_VOLUME, i);
		uint64_t number = csv_number(o->doc, "number");
		const struct csv_search what = {
			.number = number, .least = CSV_PATH_UNKNOWN, .after = nodeid};

		if (csv_number(o->doc, "coordinator") != nodeid || !coordinated(m, o->doc)) {
			continue;
		}
		*to = csv_candidate(m, &what);
		if (is_better(m, nodeid, *to, number)) {
			return o->key;
		}
	}
	return NULL;
}

void csv_term(struct member *m, const struct db_object *volume, uint32_t nodeid, struct db_cmd *cmd)
{
	uint64_t term = csv_number(volume->doc, "term");
	uint64_t gone;
	uint64_t run = csv_run_of(m, nodeid, &gone);
	json_t *doc = json_pack("{s:I,s:I,s:I}", "term", (json_int_t)term + 1, "coordinator",
	                        (json_int_t)nodeid, "run", (json_int_t)run);
	char key[CSV_RUN_KEY_MAX];

	db_cmd_merge(cmd, DB_VOLUME, volume->key, doc);
	db_cmd_if_version(cmd, volume->version);
	/* And that run is still the newest there. */
	db_cmd_check(cmd, DB_SETTING, csv_run_key(nodeid, key));
	db_cmd_if_u64(cmd, "run", DB_EQ, run);
	json_decref(doc);
}

/*
 * A lost node with a run of the volume service holds something that others wait for, as one with
 * VMs does: it is to be proven stopped. Not before it stands still anyway (0.6 of its lease): until
 * then it may come back as it is.
 */
static void fence_lost(struct csv_wire *w)
{
	struct member *m = w->place.member;
	uint64_t now_ms = ha_now_ms(w->place.ha);

	for (uint32_t id = 1; id < CSV_WIRE_NODES; id++) {
		const struct role_node *n = role_table_node(member_roles(m), id);
		struct role_cmd cmd = {.verb = ROLE_CMD_FENCING};
		uint64_t gone;

		if (n == NULL || n->state != ROLE_NODE_LOST || csv_run_of(m, id, &gone) == 0 ||
		    now_ms < n->since_ms + n->lease_ms / 10u * 6ull) {
			continue;
		}
		cmd.at = (struct role_at){.node = id, .inc = n->inc};
		cmd.now_ms = now_ms;
		if (member_propose_role(m, &cmd, FENCE_NS, NULL, NULL) == 0) {
			log_info(CSV_WIRE_TAG,
			         "a lost node has a run of the volume service node=%u", id);
		}
	}
}

void csv_lead(struct csv_wire *w)
{
	struct member *m = w->place.member;
	const struct db *db = member_db(m);

	if (db_count(db, DB_VOLUME) != 0 || csv_left_any(m)) {
		fence_lost(w);
	}

	for (size_t i = 0; i < db_count(db, DB_VOLUME) && !w->proposing; i++) {
		const struct db_object *o = db_at(db, DB_VOLUME, i);
		const struct csv_search what = {.number = csv_number(o->doc, "number")};
		uint32_t nodeid = coordinated(m, o->doc) ? 0 : csv_candidate(m, &what);
		struct db_cmd cmd;

		if (nodeid != 0) {
			log_info(CSV_WIRE_TAG,
			         "coordinator appointed volume=%s node=%u term=%" PRIu64, o->key,
			         nodeid, csv_number(o->doc, "term") + 1);
			db_cmd_init(&cmd);
			csv_term(m, o, nodeid, &cmd);
			csv_wire_propose(w, &cmd, "a volume's coordinator");
		}
	}
}
