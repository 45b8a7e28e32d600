/* SPDX-License-Identifier: Apache-2.0 */

/*
 * ha_set - changes of a VM of the cluster: of its definition while it is off, of what the cluster
 * does with it at any time. On any node: the document is the definition.
 */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/api/server.h"
#include "bin/godwitd/cluster_level.h"
#include "bin/godwitd/ha_int.h"
#include "cluster/db/db.h"
#include "cluster/db/db_cmd.h"
#include "cluster/member/vm_doc.h"

/* Members of @patch replace those of @doc; null removes one. */
static int merge(json_t *doc, json_t *patch, struct errbuf *eb)
{
	static const char *const fixed[] = {"name", "id", "restart", "ha"};
	const char *key;
	json_t *value;
	int err = 0;

	json_object_foreach(patch, key, value)
	{
		for (size_t i = 0; err == 0 && i < ARRAY_LEN(fixed); i++) {
			if (strcmp(key, fixed[i]) == 0) {
				err = errbuf_set(
					eb, -EINVAL,
					"\"%s\" of a highly available VM cannot be changed", key);
			}
		}
		if (err == 0 && json_is_null(value)) {
			(void)json_object_del(doc, key);
		} else if (err == 0) {
			err = json_object_set(doc, key, value) == 0 ? 0 : -ENOMEM;
		}
	}
	return err;
}

static int merge_ha(const struct ha_api *api, json_t *ha, json_t *patch, struct errbuf *eb)
{
	int err = ha_nodes_by_number(api, patch, "possible", eb);

	if (err == 0) {
		err = ha_nodes_by_number(api, patch, "preferred", eb);
	}
	return err == 0 ? merge(ha, patch, eb) : err;
}

/* The definition as it is to be. The host that is asked judges it, as with a new VM. */
static int check_definition(struct ha_api *api, const struct role *r, json_t *definition,
                            struct errbuf *eb)
{
	struct vm *vm = NULL;
	json_t *copy;
	int err;

	if (r->state != ROLE_OFFLINE && r->state != ROLE_FAILED) {
		err = errbuf_set(eb, -EBUSY,
		                 "%s is %s: only what the cluster does with it can be changed now",
		                 r->name, role_state_name(r->state));
		errbuf_hint(eb, "godwit vm stop %s", r->name);
		return err;
	}
	copy = json_deep_copy(definition);
	err = copy != NULL ? manager_vm_define(api->cfg.manager, copy, true, &vm, eb) : -ENOMEM;
	json_decref(copy);
	return err;
}

/* @cmd: what has to be true of its volumes. */
static int change(struct ha_api *api, const struct role *r, const json_t *body, json_t *doc,
                  struct db_cmd *cmd, struct errbuf *eb)
{
	json_t *patch = json_deep_copy(body);
	json_t *ha = json_incref(json_object_get(patch, "ha"));
	json_t *definition = json_object_get(doc, "definition");
	json_t *was = json_deep_copy(definition);
	const struct db_object *o = db_get(member_db(api->place.member), DB_VM, r->name);
	struct role_policy policy;
	int err = patch != NULL ? 0 : errbuf_set(eb, -EINVAL, "there is no body");

	if (err == 0 && ha != NULL) {
		(void)json_object_del(patch, "ha");
		err = json_is_object(ha) ? merge_ha(api, json_object_get(doc, "ha"), ha, eb)
		                         : errbuf_set(eb, -EINVAL, "ha: not an object");
	}
	if (err == 0) {
		err = merge(definition, patch, eb);
	}
	if (err == 0 && !json_equal(definition, was)) {
		err = check_definition(api, r, definition, eb);
	}
	if (err == 0) {
		err = ha_volumes_note(api, definition, json_object_get(doc, "ha"), cmd, eb);
	}
	if (err == 0) {
		err = vm_doc_policy(doc, &policy, eb);
	}
	if (err == 0) {
		err = cluster_level_doc(api->place.member, o != NULL ? o->doc : NULL, doc, eb);
	}
	if (err == 0 && json_object_get(ha, "after") != NULL) {
		err = ha_after_check(api, r->name, doc, cmd, eb);
	}
	json_decref(ha);
	json_decref(was);
	json_decref(patch);
	return err;
}

void ha_set(struct ha_api *api, struct api_req *req, const struct role *r)
{
	const struct db_object *o = db_get(member_db(api->place.member), DB_VM, r->name);
	json_t *doc = o != NULL ? json_deep_copy(o->doc) : NULL;
	struct errbuf eb = {0};
	struct db_cmd cmd;
	int err;

	db_cmd_init(&cmd);
	err = doc != NULL ? change(api, r, api_req_body(req), doc, &cmd, &eb) : -ENOENT;
	if (err != 0) {
		db_cmd_fini(&cmd);
		json_decref(doc);
		(void)api_reply_errno(req, err, &eb);
		return;
	}
	db_cmd_put(&cmd, DB_VM, r->name, doc);
	db_cmd_if_version(&cmd, o->version);
	json_decref(doc);
	ha_change(api, req, r->name, &cmd);
}
