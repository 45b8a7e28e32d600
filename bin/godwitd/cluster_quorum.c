/* SPDX-License-Identifier: Apache-2.0 */
#include "bin/godwitd/cluster_quorum.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fault.h"
#include "base/log.h"
#include "base/loop.h"
#include "bin/godwitd/cluster_int.h"
#include "bin/godwitd/cluster_quorum_int.h"
#include "bin/godwitd/cluster_work.h"
#include "cluster/coro/vote.h"

#define WITNESS_LEAVING "leaving"
#define SET_WAIT_NS (60 * NS_PER_S)
#define FORCE_WAIT_NS (60 * NS_PER_S)
#define FORCE_VERSION_STEP 1000u /* no list of nodes that others may have made comes up to that */

/* Our corosync counts the vote as long as the view with it lasts. */
static void quorum_cast(struct cluster_quorum *q)
{
	const struct view *view = q->api->member != NULL ? member_view(q->api->member) : NULL;
	bool cast = view != NULL && view->state != VIEW_DOWN && view->witness;

	coro_vote_cast(q->vote, cast ? view->ring.seq : 0);
}

/* ---- by force ---- */

static bool is_gone(const struct cluster_quorum *q, const struct cluster_node *n)
{
	const struct view_member *m = view_find(member_view(q->api->member), n->nodeid);

	return m == NULL || !m->said || m->skipped;
}

/* Are those that are not here exactly those that were named? */
static int force_check(const struct cluster_quorum *q, const json_t *names, struct errbuf *eb)
{
	const struct cluster_conf *conf = &q->api->conf;
	size_t gone = 0;

	for (uint32_t i = 0; i < conf->count; i++) {
		bool named = false;
		const json_t *one;
		size_t k;

		json_array_foreach(names, k, one)
		{
			const char *name = json_string_value(one);

			named = named || (name != NULL && strcmp(name, conf->nodes[i].name) == 0);
		}
		if (is_gone(q, &conf->nodes[i]) != named) {
			(void)errbuf_set(eb, -EINVAL, "node %s is %s", conf->nodes[i].name,
			                 named ? "here"
			                       : "not here, and not among those that are off");
			errbuf_hint(eb,
			            "name all nodes that are not here, after you have seen that "
			            "they are off: --force n2,n3");
			return -EINVAL;
		}
		gone += named;
	}
	if (gone != json_array_size(names)) {
		return errbuf_set(eb, -EINVAL, "a node is named that is none of the cluster");
	}
	return 0;
}

static int run_reload(void *arg, struct errbuf *eb)
{
	(void)arg;
	return corosync_reload(eb);
}

static void on_reloaded(void *arg, int err, const struct errbuf *eb)
{
	struct cluster_quorum *q = arg;

	q->api->reloading = false;
	if (err != 0) {
		log_warn(CLUSTER_TAG, "corosync.conf not loaded text=\"%s\"", eb->text);
		q->api->trouble = *eb;
		q->forcing = false;
	}
}

/* corosync must let the others go first: no votes, and no list of theirs is as new. */
static int force_begin(struct cluster_quorum *q, struct errbuf *eb)
{
	struct cluster_api *api = q->api;
	struct cluster_conf conf = api->conf;
	int err;

	for (uint32_t i = 0; i < conf.count; i++) {
		if (is_gone(q, &conf.nodes[i])) {
			conf.nodes[i].votes = 0;
		}
	}
	conf.witness = 0;
	conf.version += FORCE_VERSION_STEP;
	err = cluster_conf_apply(&conf, api->dir, eb);
	if (err == 0) {
		err = cluster_conf_save(api->dir, &conf, eb);
	}
	if (err == 0) {
		err = cluster_work_start(api->works, run_reload, on_reloaded, q);
	}
	if (err == 0) {
		api->conf = conf;
		api->reloading = true;
		q->forcing = true;
	}
	return err;
}

static void quorum_force(struct cluster_quorum *q)
{
	const struct view *view = member_view(q->api->member);

	if (!q->forcing || view->state == VIEW_PRIMARY) {
		q->forcing = false;
		return;
	}
	if (view->state == VIEW_MINORITY && !q->api->reloading) {
		if (force_check(q, q->forced, NULL) == 0) {
			member_grant(q->api->member, view_key(view), true);
		} else {
			q->forcing = false; /* somebody has come */
		}
	}
}

void cluster_quorum_tick(struct cluster_quorum *q)
{
	if (q->api->member != NULL && !q->api->leaving) {
		cluster_witness_tick(q);
		quorum_force(q);
	}
	quorum_cast(q);
}

/* ---- in the database ---- */

void cluster_quorum_told(struct cluster_quorum *q)
{
	struct cluster_api *api = q->api;
	const struct db_object *o = cluster_witness_object(api);
	const struct db_object *own = db_get(member_db(api->member), DB_NODE, api->conf.node);
	char text[GUID_TEXT_SIZE];
	struct guid uuid;
	struct db_cmd cmd;
	json_t *doc;

	if (o == NULL || own == NULL || guid_is_nil(&q->seen) ||
	    !cluster_witness_uuid(o->doc, &uuid) || !guid_equal(&uuid, &q->seen) ||
	    strcmp(cluster_text(own->doc, "witness"), guid_format(&uuid, text)) == 0) {
		return;
	}
	doc = json_pack("{s:s}", "witness", text);
	db_cmd_init(&cmd);
	db_cmd_merge(&cmd, DB_NODE, own->key, doc);
	db_cmd_if_version(&cmd, own->version);
	json_decref(doc);
	cluster_propose(api, &cmd, "we see the witness");
}

/* Is there a member here that has not seen it? */
static bool seen_by_all(const struct cluster_api *api, const json_t *witness)
{
	const struct db *db = member_db(api->member);

	for (size_t i = 0; i < db_count(db, DB_NODE); i++) {
		const json_t *doc = db_at(db, DB_NODE, i)->doc;

		if (strcmp(cluster_text(doc, "state"), NODE_MEMBER) == 0 &&
		    strcmp(cluster_text(doc, "witness"), cluster_text(witness, "uuid")) != 0) {
			return false;
		}
	}
	return true;
}

static void propose_config(struct cluster_api *api, const struct view_config *config,
                           const char *what)
{
	cluster_configure(api, config);
	log_info(CLUSTER_TAG, "votes in the log what=\"%s\"", what);
}

/* The vote in the log comes or goes. */
static void propose_witness_vote(struct cluster_api *api, const struct guid *uuid)
{
	struct view_config config = *member_config(api->member);
	uint32_t count = 0;

	for (uint32_t i = 0; i < config.count; i++) {
		if (config.nodes[i].nodeid != VIEW_WITNESS_NODEID) {
			config.nodes[count++] = config.nodes[i];
		}
	}
	if (uuid != NULL && count < VIEW_NODES_MAX) {
		config.nodes[count++] = (struct view_node){
			.nodeid = VIEW_WITNESS_NODEID, .votes = 1, .uuid = *uuid};
	}
	config.count = count;
	propose_config(api, &config, uuid != NULL ? "the witness votes" : "the witness is silent");
}

static void propose_witness(struct cluster_api *api, const struct db_object *o, int votes)
{
	json_t *doc = votes < 0 ? NULL : json_pack("{s:i}", "votes", votes);
	struct db_cmd cmd;

	db_cmd_init(&cmd);
	if (votes < 0) {
		db_cmd_delete(&cmd, DB_WITNESS, o->key);
	} else {
		db_cmd_merge(&cmd, DB_WITNESS, o->key, doc);
	}
	db_cmd_if_version(&cmd, o->version);
	if (votes >= 0) {
		cluster_bump(&cmd, cluster_conf_version(api));
	}
	json_decref(doc);
	cluster_propose(api, &cmd, votes < 0 ? "the witness is gone" : "the witness's vote");
}

/* After a start by force: the log goes on with those who are here. */
static bool lead_forced(struct cluster_api *api)
{
	const struct view *view = member_view(api->member);
	struct view_config config = *member_config(api->member);
	uint32_t count = 0;

	for (uint32_t i = 0; i < config.count; i++) {
		if (view_find(view, config.nodes[i].nodeid) != NULL) {
			config.nodes[count++] = config.nodes[i];
		}
	}
	if (!view->forced || count == config.count || count == 0) {
		return false;
	}
	config.count = count;
	propose_config(api, &config, "those who are not here have none");
	return true;
}

/* Members that lost their votes by force come back as new ones do, if they do. */
static bool lead_lost(struct cluster_api *api)
{
	const struct db *db = member_db(api->member);
	json_t *lost = json_pack("{s:s,s:i}", "state", NODE_JOINING, "votes", 0);
	json_t *version = json_pack("{s:I}", "conf_version", (json_int_t)api->conf.version);
	uint32_t count = 0;
	struct db_cmd cmd;

	db_cmd_init(&cmd);
	for (size_t i = 0; i < db_count(db, DB_NODE); i++) {
		const struct db_object *o = db_at(db, DB_NODE, i);
		struct guid uuid;

		if (strcmp(cluster_text(o->doc, "state"), NODE_MEMBER) == 0 &&
		    guid_parse(cluster_text(o->doc, "uuid"), &uuid) == 0 &&
		    view_config_votes(
			    member_config(api->member),
			    (uint32_t)json_integer_value(json_object_get(o->doc, "nodeid")),
			    &uuid) == 0) {
			db_cmd_merge(&cmd, DB_NODE, o->key, lost);
			db_cmd_if_version(&cmd, o->version);
			count++;
		}
	}
	if (count != 0) {
		if (cluster_conf_version(api) < api->conf.version) {
			db_cmd_merge(&cmd, DB_SETTING, "cluster", version);
		}
		cluster_propose(api, &cmd, "nodes that were given up");
	} else {
		db_cmd_fini(&cmd);
	}
	json_decref(lost);
	json_decref(version);
	return count != 0;
}

bool cluster_quorum_lead(struct cluster_quorum *q)
{
	struct cluster_api *api = q->api;
	const struct view_config *config = member_config(api->member);
	const struct db_object *o = cluster_witness_object(api);
	bool in_log = view_config_witness(config) != 0;
	uint32_t nodes = view_config_total(config) - view_config_witness(config);
	bool leaving = o == NULL || strcmp(cluster_text(o->doc, "state"), WITNESS_WANTED) != 0;
	bool wanted = !leaving && nodes % 2 == 0;
	bool in_conf = o != NULL && json_integer_value(json_object_get(o->doc, "votes")) != 0;
	struct guid uuid;

	if (lead_forced(api) || lead_lost(api)) {
		return true;
	}
	if (wanted && !in_log && seen_by_all(api, o->doc) && cluster_witness_uuid(o->doc, &uuid)) {
		propose_witness_vote(api, &uuid);
	} else if (wanted && in_log && !in_conf) {
		propose_witness(api, o, 1);
	} else if (!wanted && in_log) {
		propose_witness_vote(api, NULL);
	} else if (!in_log && in_conf) {
		propose_witness(api, o, 0);
	} else if (o != NULL && leaving) {
		propose_witness(api, o, -1);
	} else {
		return false;
	}
	return true;
}

/* ---- requests ---- */

static const char *witness_state(const struct cluster_quorum *q, const json_t *doc)
{
	const struct view *view = member_view(q->api->member);
	uint32_t votes = view_config_witness(member_config(q->api->member));

	if (strcmp(cluster_text(doc, "state"), WITNESS_WANTED) != 0) {
		return "leaving";
	}
	if (view->witness) {
		return "voting";
	}
	return guid_is_nil(&q->seen) ? "unreachable" : votes != 0 ? "ready" : "not needed";
}

json_t *cluster_quorum_show(const struct cluster_quorum *q)
{
	const struct db_object *o = cluster_witness_object(q->api);
	const char *why = q->look_eb.text[0] != '\0' ? q->look_eb.text : q->ask_eb.text;
	struct json_build b;
	json_t *out = NULL;

	if (o == NULL) {
		return json_null();
	}
	json_build_object(&b);
	json_add_str(&b, "type", cluster_text(o->doc, "type"));
	json_add_str(&b, "path", cluster_text(o->doc, "path"));
	json_add_str(&b, "uuid", cluster_text(o->doc, "uuid"));
	json_add_str(&b, "state", witness_state(q, o->doc));
	json_add_u64(&b, "votes", view_config_witness(member_config(q->api->member)));
	json_add_str(&b, "why", why[0] != '\0' ? why : NULL);
	return json_build_end(&b, &out) == 0 ? out : NULL;
}

static int run_make(void *arg, struct errbuf *eb)
{
	struct quorum_job *job = arg;

	return witness_file_create(&job->place, eb);
}

static void on_made(void *arg, int err, const struct errbuf *eb)
{
	struct quorum_job *job = arg;
	struct cluster_quorum *q = job->q;

	job->running = false;
	q->make_err = err;
	q->make_eb = *eb;
	q->made = job->place.head.witness;
	if (!q->api->stopped) {
		loop_timer_arm(q->api->tick, 0);
	}
}

/* It exists on its medium: the others may know. */
static void propose_made(struct cluster_quorum *q, const json_t *args)
{
	char text[GUID_TEXT_SIZE];
	json_t *doc = json_pack("{s:s,s:s,s:s,s:s,s:i}", "type", cluster_text(args, "type"), "path",
	                        cluster_text(args, "path"), "uuid", guid_format(&q->made, text),
	                        "state", WITNESS_WANTED, "votes", 0);
	struct db_cmd cmd;

	db_cmd_init(&cmd);
	db_cmd_put(&cmd, DB_WITNESS, WITNESS_KEY, doc);
	db_cmd_if_absent(&cmd);
	json_decref(doc);
	cluster_propose(q->api, &cmd, "a witness");
}

static int poll_make(struct cluster_quorum *q, const json_t *args, struct errbuf *eb)
{
	if (q->make.running || q->api->proposing) {
		return 0;
	}
	if (q->make_err != 0) {
		*eb = q->make_eb;
		return q->make_err;
	}
	if (!guid_is_nil(&q->made)) {
		propose_made(q, args);
		return 0;
	}
	if (!cluster_witness_place(&q->make, q->api, args)) {
		return errbuf_set(eb, -EINVAL, "no such kind of witness");
	}
	q->make.running = cluster_work_start(q->api->works, run_make, on_made, &q->make) == 0;
	return 0;
}

static void propose_leaving(struct cluster_api *api, const struct db_object *o)
{
	json_t *doc = json_pack("{s:s}", "state", WITNESS_LEAVING);
	struct db_cmd cmd;

	db_cmd_init(&cmd);
	db_cmd_merge(&cmd, DB_WITNESS, o->key, doc);
	db_cmd_if_version(&cmd, o->version);
	json_decref(doc);
	cluster_propose(api, &cmd, "the witness is to go");
}

static int set_done(const struct cluster_quorum *q, json_t **answer)
{
	*answer = json_pack("{s:o}", "witness", cluster_quorum_show(q));
	return *answer != NULL ? 1 : -ENOMEM;
}

/* All that must happen has happened: votes in log and corosync, or none. */
static bool set_settled(const struct cluster_api *api, const struct db_object *o)
{
	const struct view_config *config = member_config(api->member);
	uint32_t nodes = view_config_total(config) - view_config_witness(config);
	json_int_t votes = json_integer_value(json_object_get(o->doc, "votes"));
	const char *who;

	return seen_by_all(api, o->doc) && (votes != 0) == (nodes % 2 == 0) &&
	       cluster_settled(api, &who);
}

static int poll_set(struct cluster_waiter *w, json_t **answer, struct errbuf *eb)
{
	struct cluster_api *api = w->api;
	const char *type = cluster_text(w->args, "type");
	const struct db_object *o;
	bool same;

	if (api->member == NULL) {
		return cluster_none(eb);
	}
	if (!cluster_is_active(api, NULL)) {
		return 0;
	}
	o = cluster_witness_object(api);
	if (o == NULL) {
		return strcmp(type, "none") == 0 ? set_done(api->quorum, answer)
		                                 : poll_make(api->quorum, w->args, eb);
	}
	same = strcmp(cluster_text(o->doc, "type"), type) == 0 &&
	       strcmp(cluster_text(o->doc, "path"), cluster_text(w->args, "path")) == 0;
	if (strcmp(cluster_text(o->doc, "state"), WITNESS_WANTED) != 0) {
		return 0;
	}
	if (!same && !api->proposing) {
		propose_leaving(api, o);
	}
	return same && set_settled(api, o) ? set_done(api->quorum, answer) : 0;
}

static int set_read(const struct json_at *at, struct errbuf *eb)
{
	static const char *const known[] = {"type", "path", "uuid"};
	const char *type = NULL;
	const char *path = "";
	int err = json_check_members(at, known, ARRAY_LEN(known), eb);

	if (err == 0) {
		err = json_get_str(at, "type", 16, &type, eb);
	}
	if (err == 0 && strcmp(type, "qdevice") == 0) {
		(void)errbuf_set(
			eb, -ENOTSUP,
			"a vote of corosync-qnetd is no witness: it keeps nothing, and would let "
			"a node go on that lacks what the other wrote without it");
		errbuf_hint(eb,
		            "share:PATH of a folder that the other machine exports and all nodes "
		            "mount does what is wanted");
		return -ENOTSUP;
	}
	if (err == 0 && strcmp(type, "none") != 0) {
		err = json_get_str(at, "path", QUORUM_PLACE_MAX - 1, &path, eb);
		if (err == 0 && path[0] != '/') {
			err = errbuf_set(eb, -EINVAL, "'%s' is no absolute path", path);
		}
	}
	if (err == 0 && strcmp(type, "none") != 0 && strcmp(type, "disk") != 0 &&
	    strcmp(type, "share") != 0) {
		(void)errbuf_set(eb, -EINVAL, "'%s' is no kind of witness", type);
		errbuf_hint(eb, "none, disk:PATH of a device or file, share:PATH of a folder");
		err = -EINVAL;
	}
	return err;
}

enum api_then cluster_on_witness(struct api_req *req, void *arg)
{
	struct cluster_api *api = arg;
	struct json_at at = json_root(api_req_body(req), "");
	const struct cluster_waiter wait = {
		.poll = poll_set, .what = "setting the witness", .deadline_ns = SET_WAIT_NS};
	char text[GUID_TEXT_SIZE];
	struct errbuf eb = {0};
	json_t *args;
	struct guid uuid;
	int err;

	if (!cluster_is_local(req)) {
		return API_ANSWERED;
	}
	err = set_read(&at, &eb);
	if (err == 0 && api->member == NULL) {
		err = cluster_none(&eb);
	} else if (err == 0 && !cluster_is_active(api, &eb)) {
		err = -EAGAIN;
	} else if (err == 0 && api->quorum->make.running) {
		err = errbuf_set(&eb, -EBUSY, "a witness is being made already");
	}
	if (err != 0) {
		return api_reply_errno(req, err, &eb);
	}
	api->quorum->made = (struct guid){{0}};
	api->quorum->make_err = 0;
	guid_random(&uuid);
	args = json_deep_copy(api_req_body(req));
	(void)json_object_set_new(args, "uuid", json_string(guid_format(&uuid, text)));
	return cluster_wait(api, req, &wait, args);
}

static int poll_force(struct cluster_waiter *w, json_t **answer, struct errbuf *eb)
{
	struct cluster_api *api = w->api;

	if (api->member == NULL) {
		return cluster_none(eb);
	}
	if (!cluster_is_active(api, NULL)) {
		return api->quorum->forcing || member_view(api->member)->state == VIEW_PRIMARY
		               ? 0
		               : errbuf_set(eb, -ESTALE,
		                            "not forced: the nodes that are here have "
		                            "changed, or corosync does not follow%s%s",
		                            api->trouble.text[0] != '\0' ? ": " : "",
		                            api->trouble.text);
	}
	*answer = cluster_show(api);
	return *answer != NULL ? 1 : -ENOMEM;
}

enum api_then cluster_on_force(struct api_req *req, void *arg)
{
	struct cluster_api *api = arg;
	struct json_at at = json_root(api_req_body(req), "");
	const struct cluster_waiter wait = {
		.poll = poll_force, .what = "forcing quorum", .deadline_ns = FORCE_WAIT_NS};
	struct json_at names;
	struct errbuf eb = {0};
	int err;

	if (!cluster_is_local(req)) {
		return API_ANSWERED;
	}
	err = json_get_array(&at, "off", CLUSTER_NODES_MAX, &names, &eb);
	if (err == 0 && (api->member == NULL || api->leaving)) {
		err = cluster_none(&eb);
	} else if (err == 0 && member_view(api->member)->state != VIEW_MINORITY) {
		(void)errbuf_set(&eb, -EBUSY, "%s",
		                 cluster_is_active(api, NULL)
		                         ? "there is a majority here: nothing is to be forced"
		                         : "corosync is not there, or forms a ring; try again");
		err = -EBUSY;
	} else if (err == 0 && (api->reloading || api->quorum->forcing)) {
		err = errbuf_set(&eb, -EBUSY, "quorum is being forced already");
	}
	if (err == 0) {
		err = force_check(api->quorum, names.value, &eb);
	}
	if (err == 0) {
		err = force_begin(api->quorum, &eb);
	}
	if (err != 0) {
		return api_reply_errno(req, err, &eb);
	}
	log_warn(CLUSTER_TAG, "quorum is forced by a person without=%zu nodes uid=%u",
	         json_array_size(names.value), (unsigned)api_req_peer(req)->uid);
	json_decref(api->quorum->forced);
	api->quorum->forced = json_deep_copy(names.value);
	return cluster_wait(api, req, &wait, NULL);
}

/* ---- life ---- */

int cluster_quorum_create(struct cluster_api *api, struct cluster_quorum **out, struct errbuf *eb)
{
	struct cluster_quorum *q = gw_calloc(1, sizeof(*q));
	int err;

	*out = NULL;
	if (q == NULL) {
		return errbuf_sys(eb, -ENOMEM, "quorum");
	}
	q->api = api;
	q->look.q = q;
	q->ask.q = q;
	q->make.q = q;
	err = coro_vote_create(api->cfg.loop, &q->vote, eb);
	if (err != 0) {
		free(q);
		return err;
	}
	*out = q;
	return 0;
}

void cluster_quorum_leave(struct cluster_quorum *q)
{
	q->forcing = false;
	q->half_key = 0;
	coro_vote_cast(q->vote, 0);
}

void cluster_quorum_destroy(struct cluster_quorum *q)
{
	if (q != NULL) {
		coro_vote_destroy(q->vote);
		json_decref(q->forced);
		free(q);
	}
}
