/* SPDX-License-Identifier: Apache-2.0 */

/*
 * ha_proof - a lost node proven stopped by its shared volumes: when may that be, and is it begun.
 *
 * Never while a VM of it that is on shared volumes also writes elsewhere: the volumes say nothing
 * about that. (One that is on no volume at all does not count here: role_table lets no proof by
 * storage speak for it.) A definition cannot change while its VM is owned, so what the document
 * says is what was started. docs/decisions/0275.
 */

#include <stdio.h>

#include "bin/godwitd/ha_int.h"

/* A VM of that run which is on shared volumes, but not with all that it writes; NULL = none. */
static const struct role *elsewhere(const struct ha_api *api, struct role_at at)
{
	const struct role_table *t = member_roles(api->place.member);

	for (const struct role *r = role_table_next(t, 0); r != NULL;
	     r = role_table_next(t, r->id)) {
		const json_t *doc =
			role_is_at(r, at) && r->policy.volumes != 0 ? ha_doc(api, r->name) : NULL;

		if (role_is_at(r, at) && r->policy.volumes != 0 &&
		    (doc == NULL || !ha_volumes_only(api, doc))) {
			return r;
		}
	}
	return NULL;
}

/* The same by name; "" = none. Looked for once per change of the database. */
static const char *elsewhere_name(struct ha_api *api, struct role_at at)
{
	uint64_t index = db_index(member_db(api->place.member));
	uint64_t changes = api->ha != NULL ? ha_changes(api->ha) : 0;
	const struct role *r;

	if (!api->elsewhere.known || api->elsewhere.node != at.node ||
	    api->elsewhere.inc != at.inc || api->elsewhere.index != index ||
	    api->elsewhere.changes != changes) {
		r = elsewhere(api, at);
		(void)snprintf(api->elsewhere.vm, sizeof(api->elsewhere.vm), "%s",
		               r != NULL ? r->name : "");
		api->elsewhere.node = at.node;
		api->elsewhere.inc = at.inc;
		api->elsewhere.index = index;
		api->elsewhere.changes = changes;
		api->elsewhere.known = api->ha != NULL;
	}
	return api->elsewhere.vm;
}

/* The first volume of the set; by name. "" = unknown. */
static const char *volume_of(const struct ha_api *api, uint64_t set)
{
	const struct db *db = member_db(api->place.member);

	for (size_t i = 0; i < db_count(db, DB_VOLUME); i++) {
		const struct db_object *o = db_at(db, DB_VOLUME, i);
		json_int_t number = json_integer_value(json_object_get(o->doc, "number"));

		if (number > 0 && (set & role_bit((uint32_t)number)) != 0) {
			return o->key;
		}
	}
	return "";
}

static uint64_t on_whole(void *arg, uint32_t node, bool begin, struct ha_whole *out)
{
	struct ha_api *api = arg;
	struct csv_wire_seal sealed;
	const struct role_node *n;
	const char *vm;

	*out = (struct ha_whole){0};
	if (api->place.member == NULL) {
		return 0;
	}
	n = role_table_node(member_roles(api->place.member), node);
	vm = elsewhere_name(api, (struct role_at){.node = node, .inc = n->inc});
	if (vm[0] != '\0') {
		(void)snprintf(out->why, sizeof(out->why), "%s writes to more than shared volumes",
		               vm);
		return 0;
	}
	if (!csv_wire_sealed(api->csv, node, n->inc, begin, &sealed)) {
		(void)snprintf(out->why, sizeof(out->why), "%s", sealed.why);
		return 0;
	}
	if ((sealed.volumes & ~n->proof_volumes) == 0) {
		return 0; /* that proof is there, perhaps by another leader */
	}
	out->preemptable = csv_wire_preemptable(api->csv);
	out->volumes = sealed.volumes;
	if ((out->volumes & ~out->preemptable) != 0) {
		(void)snprintf(out->why, sizeof(out->why), "no keys to take away on volume %s here",
		               volume_of(api, out->volumes & ~out->preemptable));
		out->volumes = 0; /* so nobody's key is taken for nothing */
	}
	return sealed.run * 67 + sealed.volumes;
}

static void on_preempt(void *arg, const struct lead_fence *what)
{
	csv_wire_preempt(((struct ha_api *)arg)->csv, what);
}

void ha_proof_ops(struct ha_api *api)
{
	api->storage = (struct ha_storage){.whole = on_whole, .preempt = on_preempt, .arg = api};
}
