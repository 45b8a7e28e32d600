/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/ha/maint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/db/db.h"
#include "cluster/lead/lead.h"

static const char *const fallback_names[MAINT_FALLBACK_COUNT] = {"", "live", "quick", "shutdown",
                                                                 "leave"};

static uint64_t number_of(const json_t *doc, const char *key)
{
	json_int_t v = json_integer_value(json_object_get(doc, key));

	return v > 0 ? (uint64_t)v : 0;
}

static const json_t *doc_of(const struct db *db, enum db_kind kind, const char *key)
{
	const struct db_object *o = db_get(db, kind, key);

	return o != NULL ? o->doc : NULL;
}

static uint64_t blackout_in(const json_t *doc)
{
	uint64_t ns = number_of(doc, "blackout_max_ns");

	return ns <= MAINT_BLACKOUT_MAX_NS ? ns : MAINT_BLACKOUT_MAX_NS;
}

uint64_t maint_blackout_ns(const struct db *db, const char *name)
{
	uint64_t ns = blackout_in(json_object_get(doc_of(db, DB_VM, name), "ha"));

	return ns != 0 ? ns : blackout_in(doc_of(db, DB_SETTING, MAINT_SETTING));
}

uint32_t maint_moves(const struct db *db)
{
	uint64_t n = number_of(doc_of(db, DB_SETTING, MAINT_SETTING), "per_node");

	return n == 0 ? MAINT_MOVES_DEFAULT : n < MAINT_MOVES_MAX ? (uint32_t)n : MAINT_MOVES_MAX;
}

const char *maint_key(uint32_t node, char buf[MAINT_KEY_MAX])
{
	(void)snprintf(buf, MAINT_KEY_MAX, "drain/%u", node);
	return buf;
}

enum maint_fallback maint_fallback_parse(const char *word)
{
	uint32_t i = 0;

	while (i < MAINT_FALLBACK_COUNT && strcmp(word, fallback_names[i]) != 0) {
		i++;
	}
	return (enum maint_fallback)i;
}

const char *maint_fallback_name(enum maint_fallback fallback)
{
	return (uint32_t)fallback < MAINT_FALLBACK_COUNT ? fallback_names[fallback] : "?";
}

static enum maint_fallback fallback_in(const json_t *doc)
{
	const char *word = json_string_value(json_object_get(doc, "fallback"));
	enum maint_fallback f = word != NULL ? maint_fallback_parse(word) : MAINT_BY_VM;

	return f != MAINT_FALLBACK_COUNT ? f : MAINT_BY_VM;
}

bool maint_drain_get(const struct db *db, uint32_t node, struct maint_drain *out)
{
	char key[MAINT_KEY_MAX];
	const struct db_object *o = db_get(db, DB_JOB, maint_key(node, key));
	const char *failback;
	const char *boot;
	uint64_t moves;

	if (o == NULL) {
		return false;
	}
	moves = number_of(o->doc, "moves");
	failback = json_string_value(json_object_get(o->doc, "failback"));
	boot = json_string_value(json_object_get(o->doc, "boot"));
	*out = (struct maint_drain){
		.since_ms = number_of(o->doc, "since_ms"),
		.version = o->version,
		.inc = number_of(o->doc, "run"),
		.fallback = fallback_in(o->doc),
		.moves = moves < MAINT_MOVES_MAX ? (uint32_t)moves : MAINT_MOVES_MAX,
		.shutdown = json_is_true(json_object_get(o->doc, "shutdown")),
		.boot = boot != NULL ? boot : "",
		.failback = failback != NULL ? failback : "none",
		.vms = json_object_get(o->doc, "vms"),
	};
	return true;
}

enum maint_fallback maint_fallback_of(enum maint_fallback drain, const json_t *doc)
{
	enum maint_fallback f =
		drain != MAINT_BY_VM ? drain : fallback_in(json_object_get(doc, "ha"));

	return f != MAINT_BY_VM ? f : MAINT_LIVE;
}

enum role_fallback maint_to_role(enum maint_fallback fallback)
{
	switch (fallback) {
	case MAINT_QUICK:
		return ROLE_FALLBACK_QUICK;
	case MAINT_SHUTDOWN:
		return ROLE_FALLBACK_SHUTDOWN;
	case MAINT_BY_VM:
	case MAINT_LIVE:
	case MAINT_LEAVE:
	case MAINT_FALLBACK_COUNT:
		break;
	}
	return ROLE_FALLBACK_LEAVE;
}

void maint_hint(const json_t *doc, uint64_t since_ms, uint64_t now_ms, struct lead_hint *out)
{
	json_t *unmoved = json_object_get(doc, "unmoved");
	const char *node;
	json_t *one;

	*out = (struct lead_hint){0};
	json_object_foreach(unmoved, node, one)
	{
		uint64_t at_ms = number_of(one, "at_ms");
		unsigned long id = strtoul(node, NULL, 10);

		if (at_ms < since_ms || at_ms + MAINT_AGAIN_MS < now_ms) {
			continue;
		}
		if (json_is_true(json_object_get(one, "slow"))) {
			out->no_live = true;
		} else if (id <= ROLE_NODES_MAX) {
			out->avoid |= role_bit((uint32_t)id);
		}
	}
}

const char *maint_coordinates(const struct db *db, uint32_t node)
{
	for (size_t i = 0; i < db_count(db, DB_VOLUME); i++) {
		const struct db_object *o = db_at(db, DB_VOLUME, i);

		if (number_of(o->doc, "coordinator") == node) {
			return o->key;
		}
	}
	return NULL;
}

void maint_lead_drain(const struct db *db, uint32_t node, uint64_t now_ms, struct lead_drain *out)
{
	struct maint_drain d = {0};

	(void)maint_drain_get(db, node, &d);
	*out = (struct lead_drain){
		.forced = d.fallback != MAINT_BY_VM,
		.fallback = maint_to_role(d.fallback),
		.moves = d.moves,
		.hold = now_ms < d.since_ms + MAINT_COORDINATORS_MS &&
	                maint_coordinates(db, node) != NULL,
	};
}
