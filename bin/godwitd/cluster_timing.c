/* SPDX-License-Identifier: Apache-2.0 */
#include "bin/godwitd/cluster_timing.h"

#include <errno.h>
#include <string.h>

#include "base/errbuf.h"
#include "base/guid.h"
#include "base/text.h"
#include "cluster/coro/conf.h"
#include "cluster/db/db.h"
#include "cluster/db/db_cmd.h"
#include "cluster/timing/timing.h"
#include "cluster/view/view.h"

#define KEY "cluster"

static uint32_t number(const json_t *doc, const char *key)
{
	json_int_t v = json_integer_value(json_object_get(doc, key));

	return v > 0 && v <= CORO_CONF_TOKEN_MAX_MS ? (uint32_t)v : 0;
}

bool cluster_timing_get(const struct db *db, struct cluster_timing *out)
{
	const struct db_object *o = db_get(db, DB_SETTING, KEY);
	struct cluster_timing t = {.token_ms = o != NULL ? number(o->doc, "token_ms") : 0};

	if (t.token_ms == 0) {
		return false;
	}
	t.lease_token_ms = number(o->doc, "lease_token_ms");
	t.goal_ms = number(o->doc, "token_goal_ms");
	t.changing = t.goal_ms != 0;
	if (t.lease_token_ms < t.token_ms) {
		t.lease_token_ms = t.token_ms;
	}
	if (!t.changing) {
		t.goal_ms = t.token_ms;
	}
	*out = t;
	return true;
}

void cluster_timing_cfg(const struct cluster_timing *ct, struct timing_cfg *out)
{
	timing_for_token(ct->lease_token_ms, out);
}

static uint32_t lease_for(uint32_t token_ms)
{
	struct timing_cfg cfg;

	timing_for_token(token_ms, &cfg);
	return cfg.lease_ms;
}

/* What the node of @doc says, by the process that is in the view now. False: nothing yet. */
static bool said(const json_t *doc, const struct view_member *m, json_int_t *lease_ms,
                 json_int_t *token_ms)
{
	const json_t *timing = json_object_get(doc, "timing");
	const char *process = json_string_value(json_object_get(timing, "process"));
	char text[GUID_TEXT_SIZE];

	if (process == NULL || strcmp(process, guid_format(&m->hello.incarnation, text)) != 0) {
		return false;
	}
	*lease_ms = json_integer_value(json_object_get(timing, "lease_ms"));
	*token_ms = json_integer_value(json_object_get(timing, "token_ms"));
	return *lease_ms >= 0 && *lease_ms <= UINT32_MAX && *token_ms > 0 &&
	       *token_ms <= UINT32_MAX;
}

void cluster_timing_look(const struct db *db, const struct view *view, uint32_t token_ms,
                         struct cluster_timing_seen *out)
{
	bool first = true;

	*out = (struct cluster_timing_seen){.lease_min_ms = UINT32_MAX, .all_said = true};
	for (size_t i = 0; i < db_count(db, DB_NODE); i++) {
		const struct db_object *o = db_at(db, DB_NODE, i);
		const struct view_member *m = view_find(
			view, (uint32_t)json_integer_value(json_object_get(o->doc, "nodeid")));
		json_int_t lease = 0;
		json_int_t token = 0;

		if (m == NULL || !m->said || m->skipped) {
			continue;
		}
		if (!said(o->doc, m, &lease, &token)) {
			out->all_said = false;
			out->short_lease = out->other_token = o->key;
			out->lease_min_ms = 0;
			out->same_token_ms = 0;
			return;
		}
		if (lease != 0 && (uint32_t)lease < out->lease_min_ms) {
			out->lease_min_ms = (uint32_t)lease;
			out->short_lease = o->key;
		}
		if (first) {
			out->same_token_ms = (uint32_t)token;
			first = false;
		} else if (out->same_token_ms != (uint32_t)token) {
			out->same_token_ms = 0;
		}
		if ((uint32_t)token != token_ms && out->other_token == NULL) {
			out->other_token = o->key;
		}
	}
}

/* Members of the setting, and the next version of corosync.conf if @conf; if nobody else has
 * changed it meanwhile. */
static void merge(const struct db_object *o, json_t *patch, bool conf, struct db_cmd *cmd)
{
	json_int_t version = json_integer_value(json_object_get(o->doc, "conf_version"));

	/* Without memory @patch lacks a member or is NULL: db_cmd refuses the whole below. */
	if (patch != NULL && conf &&
	    json_object_set_new(patch, "conf_version", json_integer(version + 1)) != 0) {
		json_decref(patch);
		patch = NULL;
	}
	db_cmd_merge(cmd, DB_SETTING, KEY, patch);
	db_cmd_if_version(cmd, o->version);
	json_decref(patch);
}

int cluster_timing_change(const struct db *db, uint64_t goal_ms, struct db_cmd *cmd,
                          struct errbuf *eb)
{
	const struct db_object *o = db_get(db, DB_SETTING, KEY);
	struct cluster_timing ct;
	struct timing_cfg cfg;
	struct timing unused;
	uint32_t lease;
	int err;

	if (!cluster_timing_get(db, &ct)) {
		return errbuf_set(eb, -ENOENT, "the cluster database has no token yet");
	}
	if (goal_ms > CORO_CONF_TOKEN_MAX_MS) {
		(void)errbuf_set(eb, -EINVAL, "a token of %llu ms: at most %u ms",
		                 (unsigned long long)goal_ms, CORO_CONF_TOKEN_MAX_MS);
		errbuf_hint(eb, "a dead node is noticed after 2.2 tokens");
		return -EINVAL;
	}
	timing_for_token((uint32_t)goal_ms, &cfg);
	err = timing_init(&cfg, &unused, eb);
	if (err != 0) {
		return err;
	}
	if (ct.goal_ms == goal_ms) {
		return 0;
	}
	/* No corosync has, or may still have, a longer one than leases are made for. */
	lease = goal_ms > ct.lease_token_ms ? (uint32_t)goal_ms : ct.lease_token_ms;
	if (goal_ms < ct.token_ms) {
		merge(o,
		      json_pack("{s:I,s:I,s:I}", "token_ms", (json_int_t)goal_ms, "lease_token_ms",
		                (json_int_t)lease, "token_goal_ms", (json_int_t)goal_ms),
		      true, cmd);
	} else {
		merge(o,
		      json_pack("{s:I,s:I}", "lease_token_ms", (json_int_t)lease, "token_goal_ms",
		                (json_int_t)goal_ms),
		      false, cmd);
	}
	return 1;
}

const char *cluster_timing_step(const struct db *db, const struct cluster_timing_seen *seen,
                                bool settled, struct db_cmd *cmd)
{
	const struct db_object *o = db_get(db, DB_SETTING, KEY);
	struct cluster_timing ct;

	if (!cluster_timing_get(db, &ct) || !ct.changing || !settled || !seen->all_said) {
		return NULL;
	}
	if (ct.goal_ms > ct.token_ms) {
		if (seen->lease_min_ms < lease_for(ct.goal_ms)) {
			return NULL;
		}
		merge(o, json_pack("{s:I}", "token_ms", (json_int_t)ct.goal_ms), true, cmd);
		return "all leases are long enough: corosync's token grows";
	}
	if (seen->same_token_ms != ct.token_ms) {
		return NULL;
	}
	merge(o, json_pack("{s:n,s:n}", "lease_token_ms", "token_goal_ms"), false, cmd);
	return "all corosyncs have the token: leases are for it";
}

void cluster_timing_wait(const struct cluster_timing *ct, const struct cluster_timing_seen *seen,
                         char *buf, size_t size)
{
	struct text t;

	text_init(&t, buf, size);
	if (!ct->changing) {
		return;
	}
	if (!seen->all_said) {
		text_add(&t, "node %s has not said yet what it has", seen->other_token);
	} else if (ct->goal_ms > ct->token_ms && seen->lease_min_ms < lease_for(ct->goal_ms)) {
		text_add(&t, "the lease of node %s is %u ms, %u are needed first",
		         seen->short_lease, seen->lease_min_ms, lease_for(ct->goal_ms));
	} else if (ct->goal_ms == ct->token_ms && seen->other_token != NULL) {
		text_add(&t,
		         "corosync of node %s has another token still; if that lasts, restart "
		         "corosync there",
		         seen->other_token);
	} else {
		text_add(&t, "under way");
	}
}

bool cluster_timing_told(const json_t *node, uint32_t lease_ms, uint32_t token_ms,
                         const char *process, json_t **out)
{
	json_t *now = json_pack("{s:I,s:I,s:s}", "lease_ms", (json_int_t)lease_ms, "token_ms",
	                        (json_int_t)token_ms, "process", process);

	*out = NULL;
	if (now == NULL || json_equal(now, json_object_get(node, "timing"))) {
		json_decref(now);
		return false;
	}
	*out = json_pack("{s:o}", "timing", now);
	return *out != NULL;
}
