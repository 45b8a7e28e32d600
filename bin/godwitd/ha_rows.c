/* SPDX-License-Identifier: Apache-2.0 */

/* ha_rows - a drain, VM by VM. */

#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "bin/godwitd/ha_drain.h"
#include "cluster/db/db.h"
#include "cluster/place/place.h"

#define WHY_MAX 600

struct rows {
	struct ha_api *api;
	uint32_t node;
	enum maint_fallback fallback;
	uint64_t since_ms;
	const json_t *names; /* those that were there; NULL = only those that are */
	struct ha_rows *count;
	json_t *list;
};

static uint64_t number_of(const json_t *doc, const char *key)
{
	json_int_t v = json_integer_value(json_object_get(doc, key));

	return v > 0 ? (uint64_t)v : 0;
}

static json_t *row_new(const char *vm, const char *state)
{
	return json_pack("{s:s,s:s}", "vm", vm, "state", state);
}

static void put(json_t *row, const char *key, const char *text)
{
	if (text != NULL && text[0] != '\0') {
		(void)json_object_set_new(row, key, json_string(text));
	}
}

/* What the last attempt to move it to each node came to, since the drain began. */
static void add_attempts(const struct rows *rs, const json_t *doc, struct text *text,
                         const char **hint)
{
	json_t *unmoved = json_object_get(doc, "unmoved");
	const char *key;
	json_t *one;

	json_object_foreach(unmoved, key, one)
	{
		const char *node = json_string_value(json_object_get(one, "node"));
		const char *why = json_string_value(json_object_get(one, "text"));

		if (number_of(one, "at_ms") >= rs->since_ms && node != NULL && why != NULL) {
			text_add(text, "%s%s: %s", text->len != 0 ? "; " : "", node, why);
			*hint = json_string_value(json_object_get(one, "hint"));
		}
	}
}

static const char *out_word(enum place_out out)
{
	switch (out) {
	case PLACE_OUT_DOWN:
		return "is not up";
	case PLACE_OUT_DRAIN:
		return "is in maintenance";
	case PLACE_OUT_QUARANTINE:
		return "is in quarantine";
	case PLACE_OUT_POSSIBLE:
		return "is none of its possible owners";
	case PLACE_OUT_TRIED:
		return "refused it";
	case PLACE_OUT_CPU_LEVEL:
		return "has lesser processors";
	case PLACE_OUT_CPUS:
		return "has too few processors";
	case PLACE_OUT_MEMORY:
		return "has too little memory left";
	case PLACE_OUT_APART:
		return "has a VM of its group";
	case PLACE_OUT_PATH:
		return "does not have its volumes";
	case PLACE_OUT_NONE:
	case PLACE_OUT_COUNT:
		break;
	}
	return "is out";
}

/* Why no other node takes it. */
static void add_refusals(const struct rows *rs, const struct place_choice *c, struct text *text)
{
	for (uint32_t out = PLACE_OUT_NONE + 1; out < PLACE_OUT_COUNT; out++) {
		for (uint32_t id = 1; id <= ROLE_NODES_MAX; id++) {
			if (id != rs->node && out != PLACE_OUT_TRIED &&
			    (c->out[out] & role_bit(id)) != 0) {
				text_add(text, "%s%s %s", text->len != 0 ? "; " : "",
				         ha_node_name(rs->api, id), out_word((enum place_out)out));
			}
		}
	}
}

static void blocked(const struct rows *rs, json_t *row, const json_t *doc,
                    const struct place_choice *c)
{
	const char *hint = NULL;
	char buf[WHY_MAX];
	struct text text;

	text_init(&text, buf, sizeof(buf));
	add_attempts(rs, doc, &text, &hint);
	add_refusals(rs, c, &text);
	if (text.len == 0) {
		text_add(&text, "it cannot be moved alive");
	}
	put(row, "text", buf);
	put(row, "hint", hint);
	rs->count->blocked++;
	if (maint_fallback_of(rs->fallback, doc) == MAINT_LEAVE) {
		rs->count->leave++;
		put(row, "how", "leave");
	}
}

/* One that waits for its turn, or cannot go. */
static void on_choice(void *arg, const struct role *r, const struct place_choice *c)
{
	struct rows *rs = arg;
	const json_t *doc = ha_doc(rs->api, r->name);
	bool stuck = c->how == PLACE_BLOCKED || c->how == PLACE_STAY || r->frozen;
	json_t *row;

	if (r->state != ROLE_ONLINE) {
		return; /* on its way, or not running */
	}
	row = row_new(r->name, stuck ? "blocked" : "waiting");
	rs->count->total++;
	rs->count->left++;
	if (row == NULL) {
		return;
	}
	if (stuck) {
		blocked(rs, row, doc, c);
	} else {
		const char *hint = NULL;
		char buf[WHY_MAX] = "";
		struct text text;

		put(row, "to", ha_node_name(rs->api, c->node));
		put(row, "how",
		    c->how == PLACE_QUICK      ? "quick"
		    : c->how == PLACE_SHUTDOWN ? "shutdown"
		                               : "live");
		text_init(&text, buf, sizeof(buf));
		add_attempts(rs, doc, &text, &hint);
		put(row, "text", buf);
	}
	(void)json_array_append_new(rs->list, row);
}

static bool concerns(const struct rows *rs, const struct role *r)
{
	return r->owner.node == rs->node || r->dest.node == rs->node;
}

/* On the node, and no choice was made about it. */
static void add_busy(struct rows *rs, const struct role *r)
{
	bool leaves = r->state == ROLE_MIGRATING && r->owner.node == rs->node;
	json_t *row = row_new(r->name, leaves ? "moving" : role_state_name(r->state));

	rs->count->total++;
	rs->count->left++;
	if (row != NULL && leaves) {
		put(row, "to", ha_node_name(rs->api, r->dest.node));
	}
	if (row != NULL) {
		(void)json_array_append_new(rs->list, row);
	}
}

/* It was on the node when the drain began. */
static void add_gone(struct rows *rs, const char *name, const struct role *r)
{
	const json_t *doc = r != NULL ? ha_doc(rs->api, name) : NULL;
	const json_t *moved = json_object_get(doc, "moved");
	bool alive = number_of(moved, "at_ms") >= rs->since_ms && moved != NULL;
	json_t *row = row_new(name, r == NULL                 ? "removed"
	                            : r->state == ROLE_ONLINE ? alive ? "moved" : "started"
	                                                      : role_state_name(r->state));

	rs->count->total++;
	rs->count->untold += r != NULL && !alive && r->owner.node != 0;
	if (row == NULL) {
		return;
	}
	if (r != NULL && r->owner.node != 0) {
		put(row, "to", ha_node_name(rs->api, r->owner.node));
	}
	if (alive) {
		put(row, "how", json_string_value(json_object_get(moved, "mode")));
		(void)json_object_set(row, "blackout_ns", json_object_get(moved, "blackout_ns"));
		(void)json_object_set(row, "total_ns", json_object_get(moved, "total_ns"));
	}
	(void)json_array_append_new(rs->list, row);
}

static json_t *rows_make(struct rows *rs, const struct lead_drain *how)
{
	const struct role_table *t = member_roles(rs->api->place.member);
	const json_t *name;
	size_t i;

	*rs->count = (struct ha_rows){0};
	rs->list = json_array();
	if (rs->list == NULL || rs->api->ha == NULL) {
		return rs->list;
	}
	json_array_foreach(rs->names, i, name)
	{
		const char *text = json_string_value(name);
		const struct role *r =
			text == NULL
				? NULL
				: role_table_role(t, member_role_find(rs->api->place.member, text));

		if (text != NULL && (r == NULL || !concerns(rs, r))) {
			add_gone(rs, text, r);
		}
	}
	for (const struct role *r = role_table_next(t, 0); r != NULL;
	     r = role_table_next(t, r->id)) {
		if (concerns(rs, r) && (r->state != ROLE_ONLINE || r->owner.node != rs->node)) {
			add_busy(rs, r);
		}
	}
	ha_plan_drain(rs->api->ha, rs->node, how, on_choice, rs);
	return rs->list;
}

json_t *ha_rows(struct ha_api *api, uint32_t node, const struct maint_drain *drain,
                struct ha_rows *out)
{
	struct rows rs = {.api = api,
	                  .node = node,
	                  .fallback = drain->fallback,
	                  .since_ms = drain->since_ms,
	                  .names = drain->vms,
	                  .count = out};

	return rows_make(&rs, NULL);
}

json_t *ha_rows_plan(struct ha_api *api, uint32_t node, enum maint_fallback fallback,
                     uint32_t moves, struct ha_rows *out)
{
	const struct lead_drain how = {.forced = fallback != MAINT_BY_VM,
	                               .fallback = maint_to_role(fallback),
	                               .moves = moves};
	struct rows rs = {.api = api,
	                  .node = node,
	                  .fallback = fallback,
	                  .since_ms = UINT64_MAX,
	                  .count = out};

	return rows_make(&rs, &how);
}
