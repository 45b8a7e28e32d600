/* SPDX-License-Identifier: Apache-2.0 */

/*
 * csv_picture - what the database says about shared volumes, as godwit-csvd wants to hear it, and
 * what the leader of the view makes of it.
 *
 * A run counts as gone by a proof only: the node's own (role_table: FENCED, or its next run has
 * joined), or its own word that the process ended (csv-run/N, "gone"). Who is merely silent stays a
 * member and a holder.
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

static const json_t *run_doc(struct member *m, uint32_t nodeid)
{
	char key[CSV_RUN_KEY_MAX];
	const struct db_object *o = db_get(member_db(m), DB_SETTING, csv_run_key(nodeid, key));

	return o != NULL ? o->doc : NULL;
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
	if (role_table_proven(member_roles(m), at, 0, true)) {
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

static void add_nodes(struct member *m, struct json_build *members, struct json_build *fenced,
                      struct json_build *holders)
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
		uint64_t run = csv_run_of(m, id, &gone);

		if (gone != 0) {
			add_run(fenced, id, gone);
		}
		if (run != 0) {
			add_run(holders, id, run);
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

static void add_volume(struct member *m, struct json_build *list, const struct db_object *o,
                       json_t *holders)
{
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
	json_add(&b, "holders", json_incref(holders));
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
	struct json_build holders;
	struct json_build volumes;
	json_t *held = NULL;
	int err;

	json_build_object(&b);
	json_build_array(&members);
	json_build_array(&fenced);
	json_build_array(&holders);
	json_build_array(&volumes);
	json_add_u64(&b, "epoch", role_table_epoch(member_roles(m)));
	json_add_u64(&b, "self", nodeid);
	add_nodes(m, &members, &fenced, &holders);
	err = json_build_end(&holders, &held);
	for (size_t i = 0; err == 0 && i < db_count(db, DB_VOLUME) && i < CSV_WIRE_VOLUMES; i++) {
		add_volume(m, &volumes, db_at(db, DB_VOLUME, i), held);
	}
	json_decref(held);
	json_add_build(&b, "members", &members);
	json_add_build(&b, "fenced", &fenced);
	json_add_build(&b, "volumes", &volumes);
	add_timing(&b, timing);
	*out = NULL;
	return err != 0 ? (json_decref(b.value), err) : json_build_end(&b, out);
}

/* ---- deciding ---- */

uint32_t csv_candidate(struct member *m, uint32_t after)
{
	for (uint32_t i = 1; i < CSV_WIRE_NODES; i++) {
		uint32_t id = (after + i - 1) % (CSV_WIRE_NODES - 1) + 1;
		const struct role_node *n = role_table_node(member_roles(m), id);
		uint64_t gone;

		if (n != NULL && n->state == ROLE_NODE_UP && csv_run_of(m, id, &gone) != 0) {
			return id;
		}
	}
	return 0;
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

	if (db_count(db, DB_VOLUME) != 0) {
		fence_lost(w);
	}

	for (size_t i = 0; i < db_count(db, DB_VOLUME) && !w->proposing; i++) {
		const struct db_object *o = db_at(db, DB_VOLUME, i);
		uint32_t nodeid = coordinated(m, o->doc) ? 0 : csv_candidate(m, 0);
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
