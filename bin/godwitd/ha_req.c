/* SPDX-License-Identifier: Apache-2.0 */

/*
 * ha_req - what people ask about the cluster's VMs. A wish is a command in the log; who asked
 * waits until the role is there, on any node.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/api/server.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "bin/godwitd/cluster_level.h"
#include "bin/godwitd/ha_int.h"
#include "cluster/db/db.h"
#include "cluster/db/db_cmd.h"
#include "cluster/member/vm_doc.h"

#define WAIT_NS (90 * NS_PER_S)  /* for a start: placing, booting */
#define STOP_NS (200 * NS_PER_S) /* for a stop: a guest may take its time */
#define PROPOSE_NS (10 * NS_PER_S)
#define EXPLAIN_MAX 600
#define DEFINE_NS (30 * NS_PER_S) /* to find a moment when nobody else defines a VM */
#define STOP_AT_ONCE 1u           /* ha_api.stop_by_ns of one whose cord is pulled */

/* Somebody waits for a role to get somewhere. */
struct ha_wait {
	struct list link;
	struct ha_api *api;
	struct api_req *req; /* owned until answered */
	uint64_t deadline_ns;
	enum vm_api_ask what; /* START, STOP; DELETE: until there is no role */
	bool seen;            /* the wish is in the table */
	char name[ROLE_NAME_MAX];
};

const json_t *ha_doc(const struct ha_api *api, const char *name)
{
	const struct db_object *o = db_get(member_db(api->place.member), DB_VM, name);

	return o != NULL && vm_doc_is_role(o->doc) ? o->doc : NULL;
}

static const struct role *role_named(const struct ha_api *api, const char *name)
{
	return role_table_role(member_roles(api->place.member),
	                       member_role_find(api->place.member, name));
}

static uint64_t number_of(const json_t *doc, const char *key)
{
	json_int_t v = json_integer_value(json_object_get(doc, key));

	return v > 0 ? (uint64_t)v : 0;
}

const char *ha_node_name(const struct ha_api *api, uint32_t nodeid)
{
	const struct db *db = member_db(api->place.member);

	for (size_t i = 0; nodeid != 0 && i < db_count(db, DB_NODE); i++) {
		const struct db_object *o = db_at(db, DB_NODE, i);

		if (number_of(o->doc, "nodeid") == nodeid) {
			return o->key;
		}
	}
	return "";
}

static uint32_t node_number(const struct ha_api *api, const char *name)
{
	const struct db_object *o = db_get(member_db(api->place.member), DB_NODE, name);

	return o != NULL ? (uint32_t)number_of(o->doc, "nodeid") : 0;
}

/* ---- rows ---- */

bool ha_told_paused(const struct ha_api *api, const struct role *r)
{
	return number_of(ha_doc(api, r->name), "paused") == r->token;
}

bool ha_paused(const struct ha_api *api, const struct role *r)
{
	return r->state == ROLE_ONLINE && ha_told_paused(api, r);
}

/* A role's state in the words of a VM's. */
static const char *state_word(const struct ha_api *api, const struct role *r)
{
	if (ha_paused(api, r)) {
		return "paused";
	}
	switch (r->state) {
	case ROLE_OFFLINE:
		return "off";
	case ROLE_RAISING:
	case ROLE_PLACING:
		return "waiting";
	case ROLE_ONLINE:
	case ROLE_MIGRATING:
		return "running";
	case ROLE_STARTING:
	case ROLE_STOPPING:
	case ROLE_UNMONITORED:
	case ROLE_FENCING:
	case ROLE_FAILED:
	case ROLE_STATE_COUNT:
		break;
	}
	return role_state_name(r->state);
}

static void add_wishes(const struct ha_api *api, json_t *ha, const struct role *r)
{
	const json_t *doc = ha_doc(api, r->name);
	json_t *after = json_object_get(json_object_get(doc, "ha"), "after");
	char text[EXPLAIN_MAX] = "";

	if (api->ha != NULL) {
		ha_objective_text(api, r, text, sizeof(text));
	}
	if (text[0] != '\0') {
		(void)json_object_set_new(ha, "objective", json_string(text));
	}
	if (json_array_size(after) != 0) {
		(void)json_object_set(ha, "start_after", after);
	}
}

static void add_ha(const struct ha_api *api, json_t *row, const struct role *r)
{
	char text[EXPLAIN_MAX] = "";
	json_t *ha;

	if (api->ha != NULL) {
		ha_explain(api->ha, r->id, text, sizeof(text));
		ha_volumes_text(api, r, text + strlen(text), sizeof(text) - strlen(text));
	}
	ha = json_pack("{s:I,s:s,s:s,s:s,s:s,s:I,s:I,s:s}", "role", (json_int_t)r->id, "state",
	               role_state_name(r->state), "want",
	               r->want == ROLE_WANT_ONLINE ? "online" : "offline", "why",
	               role_why_name(r->why), "priority", role_priority_name(r->policy.priority),
	               "token", (json_int_t)r->token, "run", (json_int_t)r->owner.inc, "text",
	               text);
	add_wishes(api, ha, r);
	(void)json_object_set_new(row, "ha", ha);
	(void)json_object_set_new(row, "node", json_string(ha_node_name(api, r->owner.node)));
}

/* Why it could not be started last, where that is what it waits for; "" else. */
static void failure_text(const struct ha_api *api, const struct role *r, char *buf, size_t size,
                         const char **hint)
{
	const json_t *failed = json_object_get(ha_doc(api, r->name), "failed");
	const char *node = json_string_value(json_object_get(failed, "node"));
	const char *text = json_string_value(json_object_get(failed, "text"));

	buf[0] = '\0';
	*hint = NULL;
	if (r->why == ROLE_WHY_START_FAILED && r->state != ROLE_ONLINE && node != NULL &&
	    text != NULL) {
		(void)snprintf(buf, size, "%s: %s", node, text);
		*hint = json_string_value(json_object_get(failed, "hint"));
	}
}

/* Of a VM that does not run here. */
static json_t *remote_row(const struct ha_api *api, const struct role *r)
{
	const json_t *doc = ha_doc(api, r->name);
	const char *hint;
	char failure[EXPLAIN_MAX];

	failure_text(api, r, failure, sizeof(failure), &hint);

	json_t *row =
		json_pack("{s:s,s:s,s:s,s:I,s:I,s:s}", "name", r->name, "id",
	                  doc != NULL ? json_string_value(json_object_get(doc, "id")) : "", "state",
	                  state_word(api, r), "memory_bytes", (json_int_t)r->policy.memory_bytes,
	                  "cpus", (json_int_t)r->policy.cpus, "error", failure);

	if (row != NULL) {
		add_ha(api, row, r);
	}
	return row;
}

static bool is_ours(const struct ha_api *api, const json_t *row, const struct role *r)
{
	const json_t *doc = ha_doc(api, r->name);
	const char *id = json_string_value(json_object_get(row, "id"));
	const char *doc_id = json_string_value(json_object_get(doc, "id"));

	return id != NULL && doc_id != NULL && strcmp(id, doc_id) == 0;
}

static void on_row(void *arg, json_t *row)
{
	struct ha_api *api = arg;
	const char *name = json_string_value(json_object_get(row, "name"));
	const struct role *r = name != NULL ? role_named(api, name) : NULL;

	if (r != NULL && is_ours(api, row, r)) {
		add_ha(api, row, r);
		if (r->owner.node != api->place.nodeid) {
			(void)json_object_set_new(row, "state", json_string(state_word(api, r)));
		}
	} else {
		(void)json_object_set_new(row, "node", json_string(api->node));
	}
}

static void on_list(void *arg, json_t *vms)
{
	struct ha_api *api = arg;
	const struct role_table *t = member_roles(api->place.member);
	size_t here = json_array_size(vms);

	for (const struct role *r = role_table_next(t, 0); r != NULL;
	     r = role_table_next(t, r->id)) {
		bool listed = false;

		for (size_t i = 0; i < here && !listed; i++) {
			listed = is_ours(api, json_array_get(vms, i), r);
		}
		if (!listed) {
			json_t *row = remote_row(api, r);

			if (row != NULL) {
				(void)json_array_append_new(vms, row);
			}
		}
	}
}

/* ---- those who wait ---- */

/* It did not come to a stop, and is wanted: the next one who stops it may not mean its cord. */
static void cord_back(struct ha_api *api, const struct role *r)
{
	if (r != NULL && r->want == ROLE_WANT_ONLINE && r->id <= HA_ROLES_MAX &&
	    api->stop_by_ns[r->id - 1] == STOP_AT_ONCE) {
		api->stop_by_ns[r->id - 1] = 0;
	}
}

static void wait_end(struct ha_wait *w, int err, const struct errbuf *eb)
{
	struct ha_api *api = w->api;
	struct api_req *req = w->req;
	const struct role *r = err == 0 ? role_named(api, w->name) : NULL;

	if (err != 0 && w->what == VM_API_STOP && api->place.member != NULL) {
		cord_back(api, role_named(api, w->name));
	}
	list_del(&w->link);
	api->wait_count--;
	if (err < 0) {
		(void)api_reply_errno(req, err, eb);
	} else {
		(void)api_reply(req, r != NULL ? 200 : 204, r != NULL ? remote_row(api, r) : NULL);
	}
	free(w);
}

static void wait_gone(void *arg)
{
	wait_end(arg, -ECANCELED, NULL); /* the wish stays */
}

/* Returns 1 it is so; 0 not yet; -errno it will not be. */
static int wait_poll(struct ha_wait *w, struct errbuf *eb)
{
	const struct role *r = role_named(w->api, w->name);

	if (r == NULL) {
		return w->what == VM_API_DELETE
		               ? 1
		               : errbuf_set(eb, -ENOENT, "%s was removed", w->name);
	}
	if (w->what == VM_API_DELETE) {
		return 0;
	}
	w->seen = w->seen ||
	          r->want == (w->what == VM_API_START ? ROLE_WANT_ONLINE : ROLE_WANT_OFFLINE);
	if (w->what == VM_API_STOP) {
		return w->seen && (r->state == ROLE_OFFLINE || r->state == ROLE_FAILED);
	}
	if (r->state == ROLE_ONLINE || r->state == ROLE_MIGRATING) {
		return 1;
	}
	if (w->seen && (r->state == ROLE_FAILED || r->want == ROLE_WANT_OFFLINE)) {
		char failure[EXPLAIN_MAX];
		char text[EXPLAIN_MAX];
		const char *hint;

		role_describe(r, ha_now_ms(w->api->ha), text, sizeof(text));
		failure_text(w->api, r, failure, sizeof(failure), &hint);
		(void)errbuf_set(eb, -EIO, "%s: %s%s%s", w->name, text,
		                 failure[0] != '\0' ? "; " : "", failure);
		errbuf_hint(eb, "%s", hint != NULL ? hint : "godwit vm show says more");
		return -EIO;
	}
	return 0;
}

static void wait_late(struct ha_wait *w)
{
	const struct role *r = role_named(w->api, w->name);
	char failure[EXPLAIN_MAX] = "";
	char text[EXPLAIN_MAX] = "";
	const char *hint = NULL;
	struct errbuf eb = {0};

	if (r != NULL && w->api->ha != NULL) {
		ha_explain(w->api->ha, r->id, text, sizeof(text));
		failure_text(w->api, r, failure, sizeof(failure), &hint);
	}
	(void)errbuf_set(&eb, -ETIMEDOUT, "not yet: %s%s%s", text[0] != '\0' ? text : w->name,
	                 failure[0] != '\0' ? "; " : "", failure);
	if (hint != NULL && hint[0] != '\0') {
		errbuf_hint(&eb, "%s", hint);
	} else {
		errbuf_hint(&eb, "it goes on by itself; godwit vm show %s shows how far it is",
		            w->name);
	}
	wait_end(w, -ETIMEDOUT, &eb);
}

void ha_req_look(struct ha_api *api)
{
	list_for_each_safe(link, &api->waits)
	{
		struct ha_wait *w = list_entry(link, struct ha_wait, link);
		struct errbuf eb = {0};
		int ret = wait_poll(w, &eb);

		if (ret != 0) {
			wait_end(w, ret < 0 ? ret : 0, &eb);
		} else if (clock_now_ns() > w->deadline_ns) {
			wait_late(w);
		}
	}
}

void ha_req_stop(struct ha_api *api)
{
	list_for_each_safe(link, &api->waits)
	{
		struct errbuf eb = {0};

		(void)errbuf_set(&eb, -ECANCELED, "godwitd is stopping");
		wait_end(list_entry(link, struct ha_wait, link), -ECANCELED, &eb);
	}
}

static void wait_begin(struct ha_api *api, struct api_req *req, enum vm_api_ask what,
                       const char *name)
{
	struct ha_wait *w = api->wait_count < HA_WAITS_MAX ? gw_calloc(1, sizeof(*w)) : NULL;

	if (w == NULL) {
		(void)api_reply_errno(req, -EBUSY, NULL);
		return;
	}
	w->api = api;
	w->req = req;
	w->what = what;
	w->deadline_ns = clock_now_ns() + (what == VM_API_STOP ? STOP_NS : WAIT_NS);
	(void)snprintf(w->name, sizeof(w->name), "%s", name);
	list_add_tail(&api->waits, &w->link);
	api->wait_count++;
	api_req_on_gone(req, wait_gone, w);
	if (api->ha != NULL) {
		ha_kick(api->ha);
	}
}

/* ---- changes of documents ---- */

struct change {
	struct ha_api *api;
	struct api_req *req;
	enum vm_api_ask what; /* SET: made or changed; DELETE */
	char name[ROLE_NAME_MAX];
	json_t *definition;   /* ref; NULL: not of a new VM */
	json_t *ha;           /* ref, beside definition */
	uint64_t deadline_ns; /* of definition */
};

static void define(struct ha_api *api, struct api_req *req, json_t *definition, json_t *ha,
                   uint64_t deadline_ns);

static void change_free(struct change *c)
{
	json_decref(c->definition);
	json_decref(c->ha);
	free(c);
}

static void on_changed(void *arg, enum rsm_outcome outcome, const struct rsm_result *result)
{
	struct change *c = arg;
	struct errbuf eb = {0};
	const struct role *r = NULL;
	int err = 0;

	if (outcome != RSM_UNKNOWN && result->status == -ESTALE && c->definition != NULL &&
	    clock_now_ns() < c->deadline_ns) {
		/* Another VM or a volume came or went: what that means is looked up again. */
		define(c->api, c->req, c->definition, c->ha, c->deadline_ns);
		change_free(c);
		return;
	}
	if (outcome == RSM_UNKNOWN && result->status == -ECANCELED) {
		err = errbuf_set(&eb, -ECANCELED,
		                 "this node leaves the cluster: it may have been done or not");
	} else if (outcome == RSM_UNKNOWN) {
		err = errbuf_set(
			&eb, -ETIMEDOUT,
			"the cluster did not answer in time: it may have been done or not");
		errbuf_hint(&eb, "godwit vm list shows it; asking again does no harm");
	} else if (result->status == -ESTALE && c->definition != NULL) {
		err = errbuf_set(&eb, -EBUSY, "%s: others were defined all the time", c->name);
		errbuf_hint(&eb, "ask again");
	} else if (result->status == -ESTALE) {
		err = errbuf_set(&eb, -EEXIST,
		                 "%s is there already, or was changed at the same time", c->name);
	} else if (result->status != 0) {
		err = errbuf_sys(&eb, result->status, "%s: the cluster's database", c->name);
	} else if (c->what != VM_API_DELETE) {
		r = role_named(c->api, c->name);
	}
	if (err != 0) {
		(void)api_reply_errno(c->req, err, &eb);
	} else if (c->what == VM_API_DELETE) {
		wait_begin(c->api, c->req, VM_API_DELETE, c->name);
	} else {
		(void)api_reply(c->req, 200, r != NULL ? remote_row(c->api, r) : json_object());
	}
	change_free(c);
}

static struct change *change_create(struct ha_api *api, struct api_req *req, enum vm_api_ask what,
                                    const char *name)
{
	struct change *c = gw_calloc(1, sizeof(*c));

	if (c != NULL) {
		c->api = api;
		c->req = req;
		c->what = what;
		(void)snprintf(c->name, sizeof(c->name), "%s", name);
	}
	return c;
}

/* @c is taken; NULL: no memory. @cmd is ended and freed here; the request is answered. */
static void change_begin(struct ha_api *api, struct api_req *req, struct change *c,
                         struct db_cmd *cmd)
{
	struct errbuf eb = {0};
	int err = c != NULL ? db_cmd_end(cmd) : -ENOMEM;

	if (err == 0) {
		err = member_propose(api->place.member, cmd, PROPOSE_NS, on_changed, c);
	}
	db_cmd_fini(cmd);
	if (err != 0) {
		if (c != NULL) {
			change_free(c);
		}
		if (err == -ENOTCONN || err == -EAGAIN) {
			(void)errbuf_set(&eb, err, "the cluster has no quorum here");
			errbuf_hint(&eb, "godwit cluster status shows which nodes are missing");
		}
		(void)api_reply_errno(req, err, &eb);
	}
}

void ha_change(struct ha_api *api, struct api_req *req, const char *name, struct db_cmd *cmd)
{
	change_begin(api, req, change_create(api, req, VM_API_SET, name), cmd);
}

/* ["n1", "n3"] as [1, 3]. */
static int nodes_by_number(const struct ha_api *api, json_t *ha, const char *key, struct errbuf *eb)
{
	json_t *names = json_object_get(ha, key);
	json_t *numbers = names != NULL ? json_array() : NULL;
	size_t i;
	json_t *name;

	if (names == NULL) {
		return 0;
	}
	json_array_foreach(names, i, name)
	{
		const char *text = json_string_value(name);
		uint32_t id = text != NULL ? node_number(api, text) : 0;

		if (id == 0) {
			json_decref(numbers);
			(void)errbuf_set(eb, -ENOENT, "there is no node %s",
			                 text != NULL ? text : "?");
			errbuf_hint(eb, "godwit node list shows those there are");
			return -ENOENT;
		}
		(void)json_array_append_new(numbers, json_integer(id));
	}
	return json_object_set_new(ha, key, numbers) == 0 ? 0 : -ENOMEM;
}

int ha_nodes_by_number(const struct ha_api *api, json_t *ha, const char *key, struct errbuf *eb)
{
	return nodes_by_number(api, ha, key, eb);
}

static int define_check(const struct ha_api *api, const char *name, const json_t *doc,
                        struct errbuf *eb)
{
	struct role_policy policy;

	if (api->ha == NULL) {
		return errbuf_set(eb, -ENOTSUP, "highly available VMs do not work on this node: %s",
		                  api->trouble.text);
	}
	if (strlen(name) >= ROLE_NAME_MAX) {
		return errbuf_set(eb, -EINVAL,
		                  "the name of a highly available VM has at most %u "
		                  "characters",
		                  ROLE_NAME_MAX - 1);
	}
	if (db_get(member_db(api->place.member), DB_VM, name) != NULL) {
		return errbuf_set(eb, -EEXIST, "the cluster has a VM named %s", name);
	}
	int err = vm_doc_policy(doc, &policy, eb);

	return err == 0 ? cluster_level_doc(api->place.member, NULL, doc, eb) : err;
}

static bool on_owned(void *arg, const char *name)
{
	return ha_api_owns(arg, name);
}

/* Looks at what there is, and proposes it; references are borrowed, the request is answered. */
static void define(struct ha_api *api, struct api_req *req, json_t *definition, json_t *ha,
                   uint64_t deadline_ns)
{
	const char *name = json_string_value(json_object_get(definition, "name"));
	const char *id = json_string_value(json_object_get(definition, "id"));
	struct errbuf eb = {0};
	struct db_cmd cmd;
	json_t *doc = NULL;
	int err;

	db_cmd_init(&cmd);
	err = ha_volumes_note(api, definition, ha, &cmd, &eb);
	if (err == 0) {
		doc = json_pack("{s:s,s:O,s:O}", "id", id, "definition", definition, "ha", ha);
		err = doc != NULL && name != NULL ? define_check(api, name, doc, &eb) : -ENOMEM;
	}
	if (err == 0) {
		err = ha_after_check(api, name, doc, &cmd, &eb);
	}
	if (err != 0) {
		db_cmd_fini(&cmd);
		(void)api_reply_errno(req, err, &eb);
	} else {
		struct change *c = change_create(api, req, VM_API_SET, name);

		if (c != NULL) {
			c->definition = json_incref(definition);
			c->ha = json_incref(ha);
			c->deadline_ns = deadline_ns;
		}
		db_cmd_put(&cmd, DB_VM, name, doc);
		db_cmd_if_absent(&cmd);
		change_begin(api, req, c, &cmd);
	}
	json_decref(doc);
}

static void on_define(void *arg, struct api_req *req, json_t *definition, json_t *ha)
{
	struct ha_api *api = arg;
	struct errbuf eb = {0};
	int err = nodes_by_number(api, ha, "possible", &eb);

	ha_wishes_tidy(ha);
	if (err == 0) {
		err = nodes_by_number(api, ha, "preferred", &eb);
	}
	/* Who starts it again is the cluster. */
	(void)json_object_set_new(definition, "restart", json_string("never"));
	if (err == 0) {
		define(api, req, definition, ha, clock_now_ns() + DEFINE_NS);
	} else {
		(void)api_reply_errno(req, err, &eb);
	}
	json_decref(definition);
	json_decref(ha);
}

/* ---- asked about one ---- */

static void refuse(struct api_req *req, int err, struct errbuf *eb)
{
	(void)api_reply_errno(req, err, eb);
}

/* A wish about @r: WANT, then wait. @off: its power cord, when the wish is in the log. */
static void wish(struct ha_api *api, struct api_req *req, const struct role *r,
                 enum vm_api_ask what, bool off)
{
	struct errbuf eb = {0};
	int err = ha_want(api->ha, r->id, what == VM_API_START);

	if (err == 0) {
		if (off && ha_vms_find(api, r->id) != NULL) {
			api->stop_by_ns[r->id - 1] = STOP_AT_ONCE;
		}
		wait_begin(api, req, what, r->name);
		return;
	}
	if (err == -ENOTCONN || err == -EAGAIN) {
		(void)errbuf_set(&eb, err, "the cluster has no quorum here");
		errbuf_hint(&eb, "godwit cluster status shows which nodes are missing");
	}
	refuse(req, err, &eb);
}

static void remove_vm(struct ha_api *api, struct api_req *req, const struct role *r)
{
	struct errbuf eb = {0};
	struct db_cmd cmd;

	if (r->state != ROLE_OFFLINE && r->state != ROLE_FAILED) {
		(void)errbuf_set(&eb, -EBUSY, "cannot remove %s: it is %s", r->name,
		                 role_state_name(r->state));
		errbuf_hint(&eb, "stop it first: godwit vm stop %s", r->name);
		refuse(req, -EBUSY, &eb);
		return;
	}
	db_cmd_init(&cmd);
	db_cmd_delete(&cmd, DB_VM, r->name);
	change_begin(api, req, change_create(api, req, VM_API_DELETE, r->name), &cmd);
}

/* Its power cord: on its owner. */
static bool may_pull(const struct ha_api *api, const struct role *r, struct errbuf *eb)
{
	if (role_owned(r->state) && r->owner.node != api->place.nodeid) {
		(void)errbuf_set(eb, -EREMOTE, "%s runs on %s", r->name,
		                 ha_node_name(api, r->owner.node));
		errbuf_hint(eb, "pull its cord there; without --off any node can stop it");
		return false;
	}
	return true;
}

static void show_remote(struct ha_api *api, struct api_req *req, const struct role *r)
{
	json_t *row = remote_row(api, r);
	const json_t *doc = ha_doc(api, r->name);

	if (row != NULL && doc != NULL) {
		(void)json_object_set(row, "definition", json_object_get(doc, "definition"));
	}
	(void)api_reply(req, 200, row);
}

void ha_show_remote(struct ha_api *api, struct api_req *req, const char *name)
{
	const struct role *r = api->ha != NULL ? role_named(api, name) : NULL;

	if (r != NULL) {
		show_remote(api, req, r);
	} else {
		(void)api_reply_errno(req, -ENOENT, NULL);
	}
}

/* Does another node have it, and may we ask that? */
static bool is_remote(const struct ha_api *api, struct api_req *req, const struct role *r)
{
	return role_owned(r->state) && r->owner.node != api->place.nodeid &&
	       api_req_query(req, "from") == NULL;
}

static bool on_ask(void *arg, enum vm_api_ask what, const char *name, struct api_req *req,
                   bool *later)
{
	struct ha_api *api = arg;
	const struct role *r = api->ha != NULL ? role_named(api, name) : NULL;
	bool here = r != NULL && ha_vms_find(api, r->id) != NULL;
	struct errbuf eb = {0};
	bool off;

	if (r == NULL) {
		return false;
	}
	*later = true; /* all ways below answer, now or when the cluster has */
	switch (what) {
	case VM_API_START:
		wish(api, req, r, what, false);
		return true;
	case VM_API_STOP:
		off = api_req_query(req, "off") != NULL;
		if (off && is_remote(api, req, r)) {
			ha_forward(api, req, r, what);
		} else if (off && !may_pull(api, r, &eb)) {
			refuse(req, -EREMOTE, &eb);
		} else {
			wish(api, req, r, what, off);
		}
		return true;
	case VM_API_DELETE:
		remove_vm(api, req, r);
		return true;
	case VM_API_SHOW:
		if (!here && is_remote(api, req, r)) {
			ha_forward(api, req, r, what);
		} else if (!here) {
			show_remote(api, req, r);
		}
		return !here;
	case VM_API_RESTART:
	case VM_API_PAUSE:
	case VM_API_RESUME:
	case VM_API_CONSOLE:
	case VM_API_LOG:
		if (!here) {
			ha_forward(api, req, r, what);
		}
		return !here;
	case VM_API_SET:
		ha_set(api, req, r);
		return true;
	case VM_API_SAVE:
		break;
	}
	(void)errbuf_set(&eb, -ENOTSUP,
	                 "a highly available VM cannot be saved: its state would be on one node");
	errbuf_hint(&eb, "godwit vm pause lets it stand still, godwit vm stop turns it off");
	refuse(req, -ENOTSUP, &eb);
	return true;
}

static void on_event(void *arg)
{
	struct ha_api *api = arg;

	if (api->ha != NULL) {
		ha_kick(api->ha);
	}
}

void ha_req_hooks(struct ha_api *api)
{
	api->vm_hooks = (struct vm_api_ha){.ask = on_ask,
	                                   .owned = on_owned,
	                                   .define = on_define,
	                                   .list = on_list,
	                                   .row = on_row,
	                                   .event = on_event,
	                                   .arg = api};
}
