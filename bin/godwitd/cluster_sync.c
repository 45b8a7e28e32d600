/* SPDX-License-Identifier: Apache-2.0 */

/*
 * cluster_sync - what must happen next, seen from what is: called a few times a second and after
 * every change, it does at most one step of each kind and keeps nothing in memory that a restart
 * would miss.
 *
 *	every node	corosync runs; corosync.conf is the database's; says so there
 *	the founder	writes the cluster's first objects
 *	the leader	one change of the nodes after the other, each when all who are here have the
 *			corosync.conf of the one before:
 *
 *	joining --in the view--> vote in the log --> member, vote in corosync.conf
 *	leaving --> no vote in the log --> none in corosync.conf --> left --gone--> removed
 *
 * A vote counts in the log (cluster/rsm) first when it comes, and last in corosync when it goes, so
 * that no step leaves those who are here without a majority.
 */

#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "base/loop.h"
#include "bin/godwitd/cluster_int.h"
#include "bin/godwitd/cluster_timing.h"
#include "bin/godwitd/peer.h"
#include "cluster/coro/coro.h"

#define MEASURE_AGAIN_NS NS_PER_S

/* ---- looking ---- */

static uint64_t number_of(const json_t *doc, const char *key)
{
	json_int_t v = json_integer_value(json_object_get(doc, key));

	return v > 0 ? (uint64_t)v : 0;
}

static bool is_state(const json_t *node, const char *state)
{
	return strcmp(cluster_text(node, "state"), state) == 0;
}

uint64_t cluster_conf_version(const struct cluster_api *api)
{
	const struct db_object *o = db_get(member_db(api->member), DB_SETTING, "cluster");

	return o != NULL ? number_of(o->doc, "conf_version") : 0;
}

int cluster_none(struct errbuf *eb)
{
	(void)errbuf_set(eb, -ENOENT, "this node is in no cluster");
	errbuf_hint(eb, "godwit cluster create forms one");
	return -ENOENT;
}

bool cluster_is_active(const struct cluster_api *api, struct errbuf *eb)
{
	struct rsm_status s = {.state = RSM_OFF};

	if (api->member != NULL) {
		member_status(api->member, &s);
	}
	if (s.state == RSM_ACTIVE) {
		return true;
	}
	(void)errbuf_set(eb, -EAGAIN, "the cluster has no quorum here%s%s",
	                 s.why != NULL ? ": " : "", s.why != NULL ? s.why : "");
	errbuf_hint(eb, "godwit cluster status shows which nodes are missing");
	return false;
}

bool cluster_in_view(const struct cluster_api *api, const json_t *node)
{
	const struct view *view = member_view(api->member);
	const struct view_member *m = view_find(view, (uint32_t)number_of(node, "nodeid"));
	struct guid uuid;

	return m != NULL && m->said && !m->skipped &&
	       guid_parse(cluster_text(node, "uuid"), &uuid) == 0 &&
	       guid_equal(&uuid, &m->hello.uuid);
}

bool cluster_settled(const struct cluster_api *api, const char **who)
{
	const struct db *db = member_db(api->member);
	uint64_t version = cluster_conf_version(api);

	for (size_t i = 0; i < db_count(db, DB_NODE); i++) {
		const struct db_object *o = db_at(db, DB_NODE, i);

		if (cluster_in_view(api, o->doc) && number_of(o->doc, "conf_version") < version) {
			*who = o->key;
			return false;
		}
	}
	*who = NULL;
	return true;
}

uint32_t cluster_votes_here(const struct cluster_api *api, uint32_t but)
{
	const struct view *view = member_view(api->member);
	uint32_t votes = 0;

	for (uint32_t i = 0; i < view->count; i++) {
		const struct view_member *m = &view->members[i];

		if (m->said && !m->skipped && m->peer.nodeid != but) {
			votes += view_config_votes(member_config(api->member), m->peer.nodeid,
			                           &m->hello.uuid);
		}
	}
	return votes + (view->witness ? view_config_witness(member_config(api->member)) : 0);
}

bool cluster_can_lose(const struct cluster_api *api, uint32_t nodeid)
{
	const struct view_config *config = member_config(api->member);
	uint32_t total = 0;

	for (uint32_t i = 0; i < config->count; i++) {
		total += config->nodes[i].nodeid != nodeid ? config->nodes[i].votes : 0;
	}
	return cluster_votes_here(api, nodeid) * 2 > total;
}

/* ---- changing ---- */

static void on_proposed(void *arg, enum rsm_outcome outcome, const struct rsm_result *result)
{
	struct cluster_api *api = arg;

	api->proposing = false;
	if (outcome == RSM_UNKNOWN) {
		log_warn(CLUSTER_TAG, "outcome of a change unknown, looking again");
	} else if (result->status != 0) {
		log_info(CLUSTER_TAG, "change not made error=%s op=%u",
		         strerrorname_np(-result->status), result->detail);
	}
	if (!api->stopped) {
		loop_timer_arm(api->tick, 0);
	}
}

void cluster_propose(struct cluster_api *api, struct db_cmd *cmd, const char *what)
{
	int err = db_cmd_end(cmd);

	if (err == 0) {
		err = member_propose(api->member, cmd, CLUSTER_PROPOSE_NS, on_proposed, api);
	}
	db_cmd_fini(cmd);
	api->proposing = err == 0;
	if (err == 0) {
		log_info(CLUSTER_TAG, "proposed what=\"%s\"", what);
	} else if (err != -EAGAIN && err != -ENOTCONN) {
		log_warn(CLUSTER_TAG, "not proposed what=\"%s\" error=%s", what,
		         strerrorname_np(-err));
	}
}

void cluster_configure(struct cluster_api *api, const struct view_config *config)
{
	int err = member_configure(api->member, config, CLUSTER_PROPOSE_NS, on_proposed, api);

	api->proposing = err == 0;
	if (err != 0 && err != -EAGAIN && err != -ENOTCONN) {
		log_warn(CLUSTER_TAG, "votes in the log not changed error=%s",
		         strerrorname_np(-err));
	}
}

void cluster_raise(struct cluster_api *api)
{
	int err = member_raise(api->member, CLUSTER_PROPOSE_NS, on_proposed, api);

	api->proposing = err == 0;
	if (err != 0 && err != -EAGAIN && err != -ENOTCONN) {
		log_warn(CLUSTER_TAG, "functional level not raised error=%s",
		         strerrorname_np(-err));
	}
}

void cluster_bump(struct db_cmd *cmd, uint64_t version)
{
	json_t *doc = json_pack("{s:I}", "conf_version", (json_int_t)version + 1);

	db_cmd_merge(cmd, DB_SETTING, "cluster", doc);
	db_cmd_if_u64(cmd, "conf_version", DB_EQ, version);
	json_decref(doc);
}

static void propose_state(struct cluster_api *api, const struct db_object *node, const char *state,
                          int votes)
{
	json_t *doc = votes < 0 ? json_pack("{s:s}", "state", state)
	                        : json_pack("{s:s,s:i}", "state", state, "votes", votes);
	struct db_cmd cmd;

	db_cmd_init(&cmd);
	db_cmd_merge(&cmd, DB_NODE, node->key, doc);
	db_cmd_if_version(&cmd, node->version);
	if (votes >= 0) {
		cluster_bump(&cmd, cluster_conf_version(api));
	}
	json_decref(doc);
	cluster_propose(api, &cmd, state);
}

static void propose_delete(struct cluster_api *api, const struct db_object *node)
{
	struct db_cmd cmd;

	db_cmd_init(&cmd);
	db_cmd_delete(&cmd, DB_NODE, node->key);
	db_cmd_if_version(&cmd, node->version);
	cluster_bump(&cmd, cluster_conf_version(api));
	cluster_propose(api, &cmd, "a node is gone");
}

/* The node of the database that we are: doc of a founder's first entry, too. */
static json_t *own_doc(const struct cluster_api *api)
{
	const struct cluster_node *n = cluster_node_find(&api->conf, api->conf.node);
	char uuid[GUID_TEXT_SIZE];

	return n == NULL
	               ? NULL
	               : json_pack("{s:s,s:I,s:s,s:o?,s:i,s:i,s:s,s:I,s:[s]}", "name", n->name,
	                           "nodeid", (json_int_t)n->nodeid, "uuid",
	                           guid_format(&api->conf.uuid, uuid), "addrs",
	                           cluster_node_addrs(n), "port", (int)n->port, "votes", 1, "state",
	                           NODE_MEMBER, "conf_version", (json_int_t)api->conf.version,
	                           "keys", cert_api_pin(api->cfg.certs));
}

static void propose_first(struct cluster_api *api)
{
	char uuid[GUID_TEXT_SIZE];
	json_t *node = own_doc(api);
	json_t *setting = json_pack("{s:s,s:s,s:s,s:I,s:I,s:I}", "name", api->conf.name, "ca_node",
	                            api->conf.node, "uuid", guid_format(&api->conf.cluster, uuid),
	                            "token_ms", (json_int_t)api->conf.token_ms, "conf_version",
	                            (json_int_t)api->conf.version, "next_nodeid",
	                            (json_int_t)api->conf.nodeid + 1);
	struct db_cmd cmd;

	db_cmd_init(&cmd);
	db_cmd_put(&cmd, DB_SETTING, "cluster", setting);
	db_cmd_if_absent(&cmd);
	db_cmd_put(&cmd, DB_NODE, api->conf.node, node);
	db_cmd_if_absent(&cmd);
	json_decref(setting);
	json_decref(node);
	cluster_propose(api, &cmd, "the cluster's first objects");
}

/* The vote of @node in the log comes or goes. */
static void propose_vote(struct cluster_api *api, const json_t *node, uint32_t votes)
{
	struct view_config config = *member_config(api->member);
	uint32_t nodeid = (uint32_t)number_of(node, "nodeid");
	uint32_t count = 0;

	for (uint32_t i = 0; i < config.count; i++) {
		if (config.nodes[i].nodeid != nodeid) {
			config.nodes[count++] = config.nodes[i];
		}
	}
	if (votes != 0 && count < VIEW_NODES_MAX) {
		config.nodes[count] = (struct view_node){.nodeid = nodeid, .votes = votes};
		if (guid_parse(cluster_text(node, "uuid"), &config.nodes[count].uuid) != 0) {
			return;
		}
		count++;
	}
	config.count = count;
	cluster_configure(api, &config);
	log_info(CLUSTER_TAG, "votes in the log node=%u votes=%u", nodeid, votes);
}

static bool has_vote(const struct cluster_api *api, const json_t *node)
{
	struct guid uuid;

	return guid_parse(cluster_text(node, "uuid"), &uuid) == 0 &&
	       view_config_votes(member_config(api->member), (uint32_t)number_of(node, "nodeid"),
	                         &uuid) != 0;
}

/* One step with @node. Returns whether something was to be done. */
static bool lead_node(struct cluster_api *api, const struct db_object *node)
{
	const json_t *doc = node->doc;

	if (is_state(doc, NODE_JOINING) && cluster_in_view(api, doc)) {
		if (!has_vote(api, doc)) {
			propose_vote(api, doc, 1);
		} else {
			propose_state(api, node, NODE_MEMBER, 1);
		}
		return true;
	}
	if (!is_state(doc, NODE_LEAVING) && !is_state(doc, NODE_LEFT)) {
		return false;
	}
	if (has_vote(api, doc)) {
		if (!cluster_can_lose(api, (uint32_t)number_of(doc, "nodeid"))) {
			return false; /* more of the others must be here first */
		}
		propose_vote(api, doc, 0);
	} else if (!cluster_in_view(api, doc)) {
		propose_delete(api, node);
	} else if (number_of(doc, "votes") != 0) {
		propose_state(api, node, NODE_LEAVING, 0);
	} else if (is_state(doc, NODE_LEAVING)) {
		propose_state(api, node, NODE_LEFT, -1);
	} else {
		return false;
	}
	return true;
}

/* Another token is asked for: the next step. Returns whether something was to be done. */
static bool lead_timing(struct cluster_api *api)
{
	const struct db *db = member_db(api->member);
	struct cluster_timing_seen seen;
	struct cluster_timing ct;
	struct db_cmd cmd;
	const char *what;

	if (!cluster_timing_get(db, &ct) || !ct.changing) {
		return false;
	}
	cluster_timing_look(db, member_view(api->member), ct.token_ms, &seen);
	db_cmd_init(&cmd);
	what = cluster_timing_step(db, &seen, true, &cmd);
	if (what == NULL) {
		db_cmd_fini(&cmd);
		return false;
	}
	cluster_propose(api, &cmd, what);
	return true;
}

static void sync_lead(struct cluster_api *api)
{
	const struct db *db = member_db(api->member);
	const char *who;

	if (db_get(db, DB_SETTING, "cluster") == NULL) {
		if (api->conf.founder) {
			propose_first(api);
		}
		return;
	}
	if (!cluster_settled(api, &who) || cluster_quorum_lead(api->quorum) || lead_timing(api)) {
		return;
	}
	for (size_t i = 0; i < db_count(db, DB_NODE); i++) {
		if (lead_node(api, db_at(db, DB_NODE, i))) {
			return;
		}
	}
}

/* ---- corosync.conf ---- */

static int run_reload(void *arg, struct errbuf *eb)
{
	(void)arg;
	return corosync_reload(eb);
}

/* The token that corosync has is looked at anew. While it is looked at it is the thread's. */
static void sync_forget(struct cluster_api *api)
{
	if (!api->measuring) {
		api->corosync_token_ms = 0;
	}
}

static void on_reloaded(void *arg, int err, const struct errbuf *eb)
{
	struct cluster_api *api = arg;

	api->reloading = false;
	if (api->stopped || !api->present || api->leaving) {
		return;
	}
	if (err != 0) {
		log_warn(CLUSTER_TAG, "corosync.conf not loaded text=\"%s\"", eb->text);
		api->trouble = *eb;
		api->conf.version = 0; /* again */
		api->reload_next_ns = clock_now_ns() + CLUSTER_RESTART_NS;
		return;
	}
	api->trouble = (struct errbuf){0};
	struct errbuf why = {0};

	err = cluster_conf_save(api->dir, &api->conf, &why);
	if (err != 0) {
		log_err(CLUSTER_TAG, "cannot keep the list of nodes text=\"%s\"", why.text);
		api->trouble = why;
		api->conf.version = 0; /* again */
		api->reload_next_ns = clock_now_ns() + CLUSTER_RESTART_NS;
		return;
	}
	api->measure_next_ns = 0;
	sync_forget(api);
	log_info(CLUSTER_TAG, "corosync.conf loaded version=%llu nodes=%u",
	         (unsigned long long)api->conf.version, api->conf.count);
	loop_timer_arm(api->tick, 0);
}

static void sync_conf(struct cluster_api *api)
{
	struct cluster_conf conf = api->conf;
	struct errbuf eb = {0};
	int err;

	if (api->reloading || clock_now_ns() < api->reload_next_ns ||
	    cluster_conf_version(api) <= api->conf.version) {
		return;
	}
	err = cluster_conf_from_db(member_db(api->member), &conf, &eb);
	if (err == 0) {
		err = cluster_conf_apply(&conf, api->dir, &eb);
	}
	if (err == 0) {
		err = cluster_work_start(api->works, run_reload, on_reloaded, api);
	}
	if (err != 0) {
		log_err(CLUSTER_TAG, "cannot write corosync.conf text=\"%s\"",
		        errbuf_text(&eb, err));
		api->trouble = eb;
		api->reload_next_ns = clock_now_ns() + CLUSTER_RESTART_NS;
		return;
	}
	api->conf = conf;
	api->reloading = true;
}

/* ---- which token corosync has ---- */

static int run_measure(void *arg, struct errbuf *eb)
{
	struct cluster_api *api = arg;
	int err = coro_token_ms(&api->corosync_token_ms);

	return err != 0 ? errbuf_sys(eb, err, "corosync's token") : 0;
}

static void on_measured(void *arg, int err, const struct errbuf *eb)
{
	struct cluster_api *api = arg;

	api->measuring = false;
	if (err != 0) {
		api->corosync_token_ms = 0;
		log_debug(CLUSTER_TAG, "token not known text=\"%s\"", eb->text);
	} else if (!api->stopped) {
		loop_timer_arm(api->tick, 0);
	}
}

/* Not what its file says: what it runs with. Asked for anew after each loading, and while it is not
 * what it should be. */
static void sync_measure(struct cluster_api *api)
{
	uint64_t now_ns = clock_now_ns();

	if (member_view(api->member)->state == VIEW_DOWN) {
		sync_forget(api); /* the next one may have been started with anything */
	}
	if (api->measuring || api->reloading || member_view(api->member)->state == VIEW_DOWN ||
	    api->corosync_token_ms == api->conf.token_ms || now_ns < api->measure_next_ns) {
		return;
	}
	api->measure_next_ns = now_ns + MEASURE_AGAIN_NS;
	api->measuring = cluster_work_start(api->works, run_measure, on_measured, api) == 0;
}

/* Tell the others which delays we have. */
static void sync_told_timing(struct cluster_api *api)
{
	const struct db_object *o = db_get(member_db(api->member), DB_NODE, api->conf.node);
	const struct view_member *m = view_find(member_view(api->member), api->conf.nodeid);
	const struct cluster_hooks *hooks = api->cfg.hooks;
	uint32_t lease_ms = hooks != NULL ? hooks->lease_ms(hooks->arg) : 0;
	char text[GUID_TEXT_SIZE];
	struct db_cmd cmd;
	json_t *doc;

	if (o == NULL || m == NULL || api->measuring || api->reloading ||
	    api->corosync_token_ms == 0 ||
	    !cluster_timing_told(o->doc, lease_ms, api->corosync_token_ms,
	                         guid_format(&m->hello.incarnation, text), &doc)) {
		return;
	}
	db_cmd_init(&cmd);
	db_cmd_merge(&cmd, DB_NODE, o->key, doc);
	db_cmd_if_version(&cmd, o->version);
	json_decref(doc);
	cluster_propose(api, &cmd, "which delays we have");
}

/* Tell the others which version our corosync has. */
static void sync_told(struct cluster_api *api)
{
	const struct db_object *o = db_get(member_db(api->member), DB_NODE, api->conf.node);
	json_t *doc;
	struct db_cmd cmd;

	if (o == NULL || api->reloading || number_of(o->doc, "conf_version") >= api->conf.version) {
		return;
	}
	doc = json_pack("{s:I}", "conf_version", (json_int_t)api->conf.version);
	db_cmd_init(&cmd);
	db_cmd_merge(&cmd, DB_NODE, o->key, doc);
	db_cmd_if_version(&cmd, o->version);
	json_decref(doc);
	cluster_propose(api, &cmd, "our corosync.conf is loaded");
}

/* ---- corosync is not there ---- */

static int run_start(void *arg, struct errbuf *eb)
{
	const struct cluster_api *api = arg;

	return corosync_start(api->cfg.corosync, eb);
}

static void on_started(void *arg, int err, const struct errbuf *eb)
{
	struct cluster_api *api = arg;

	api->starting = false;
	if (err != 0 && !api->stopped) {
		log_err(CLUSTER_TAG, "corosync not started text=\"%s\" hint=\"%s\"", eb->text,
		        eb->hint);
		api->trouble = *eb;
	}
}

static void start_now(struct cluster_api *api)
{
	if (!api->starting) {
		api->starting = cluster_work_start(api->works, run_start, on_started, api) == 0;
	}
}

/*
 * While we were away the list of nodes may have changed, and a corosync with an old one is thrown
 * out by the others: ask one after the other.
 */
static void take_conf(struct cluster_api *api, json_t *answer)
{
	struct json_at at = json_root(answer, "the other node's list");
	struct cluster_conf conf;
	struct errbuf why = {0};
	int err;

	err = cluster_conf_read(&at, &conf, &why);
	if (err != 0 || !guid_equal(&conf.cluster, &api->conf.cluster) ||
	    conf.version <= api->conf.version) {
		return;
	}
	if (cluster_node_find(&conf, api->conf.node) == NULL) {
		(void)errbuf_set(&api->trouble, -ESTALE, "this node was evicted while it was away");
		errbuf_hint(&api->trouble, "godwit cluster remove --force here, then join again");
		return;
	}
	conf.uuid = api->conf.uuid;
	conf.nodeid = api->conf.nodeid;
	conf.founder = api->conf.founder;
	memcpy(conf.node, api->conf.node, sizeof(conf.node));
	err = cluster_conf_apply(&conf, api->dir, &why);
	if (err == 0) {
		err = cluster_conf_save(api->dir, &conf, &why);
	}
	if (err == 0) {
		log_info(CLUSTER_TAG, "list of nodes taken over version=%llu",
		         (unsigned long long)conf.version);
		api->conf = conf;
		api->flap.rings = 0; /* rings with the old one say nothing about links */
	}
	/* It runs, among those who were told by force to go on without the others. */
	if (err == 0 && member_view(api->member)->state != VIEW_DOWN) {
		api->reloading = cluster_work_start(api->works, run_reload, on_reloaded, api) == 0;
	}
}

static void on_conf(void *arg, int err, json_t *answer, const struct errbuf *eb)
{
	struct cluster_api *api = arg;

	api->asking = false;
	if (api->stopped || api->member == NULL) {
		return;
	}
	if (err == -EKEYREJECTED || err == -EACCES) {
		(void)errbuf_set(&api->trouble, -ESTALE,
		                 "the other nodes do not accept this one: was it evicted while it "
		                 "was away?");
		errbuf_hint(&api->trouble, "godwit cluster remove --force here, then join again");
		api->refused = true;
		log_warn(CLUSTER_TAG, "refused by another node text=\"%s\"", eb->text);
	} else if (err != 0) {
		log_info(CLUSTER_TAG, "no list of nodes text=\"%s\"", eb->text);
	} else if (!api->reloading) {
		take_conf(api, answer);
	}
	if (member_view(api->member)->state == VIEW_DOWN && api->back_ns == 0) {
		start_now(api);
	}
}

static void sync_ask(struct cluster_api *api)
{
	const struct cluster_node *n;
	struct errbuf eb = {0};

	if (api->asking || api->conf.count < 2) {
		return;
	}
	n = &api->conf.nodes[api->ask_next++ % api->conf.count];
	if (strcmp(n->name, api->conf.node) == 0) {
		n = &api->conf.nodes[api->ask_next++ % api->conf.count];
	}
	const struct peer_call call = {
		.node = n->name,
		.addr = n->addr[0],
		.port = n->port != 0 ? n->port : api->cfg.port,
		.method = API_GET,
		.path = "/v1/cluster/conf",
		.timeout_ms = 3000,
	};

	api->asking = peer_call(api->cfg.peers, &call, on_conf, api, &eb) == 0;
}

static int run_go_back(void *arg, struct errbuf *eb)
{
	const struct cluster_api *api = arg;

	return corosync_stop(api->cfg.corosync, eb);
}

static void on_gone_back(void *arg, int err, const struct errbuf *eb)
{
	struct cluster_api *api = arg;

	api->starting = false;
	if (err != 0) {
		log_warn(CLUSTER_TAG, "corosync not stopped text=\"%s\"", eb->text);
	}
}

/* Is it us who break the others' rings? Then we are better off without corosync for a while. */
static void sync_flap(struct cluster_api *api, uint64_t now_ns)
{
	uint64_t leave_ns =
		flap_look(&api->flap, member_view(api->member), member_config(api->member), now_ns);

	if (leave_ns == 0 || api->starting) {
		return;
	}
	(void)errbuf_set(
		&api->trouble, -EHOSTUNREACH,
		"this node is out for %llu s: it hears some nodes, but not all, and breaks "
		"their ring",
		(unsigned long long)(leave_ns / NS_PER_S));
	errbuf_hint(&api->trouble,
	            "look for a broken link between it and a node that it does not see");
	log_warn(CLUSTER_TAG, "stops corosync for a while, in the others' interest seconds=%llu",
	         (unsigned long long)(leave_ns / NS_PER_S));
	api->back_ns = now_ns + leave_ns;
	api->starting = cluster_work_start(api->works, run_go_back, on_gone_back, api) == 0;
}

static void sync_corosync(struct cluster_api *api)
{
	uint64_t now_ns = clock_now_ns();

	sync_flap(api, now_ns);
	if (api->back_ns != 0) {
		if (now_ns < api->back_ns) {
			return;
		}
		api->back_ns = 0;
		api->trouble = (struct errbuf){0};
	}
	if (cluster_is_active(api, NULL)) {
		api->start_count = 0;
		if (api->refused) {
			api->refused = false;
			api->trouble = (struct errbuf){0};
		}
		return;
	}
	if (api->starting || api->asking || now_ns < api->start_next_ns) {
		return;
	}
	if (member_view(api->member)->state == VIEW_MINORITY) {
		api->start_next_ns = now_ns + CLUSTER_RESTART_NS;
		sync_ask(api); /* a person may have changed who counts */
		return;
	}
	if (member_view(api->member)->state != VIEW_DOWN) {
		return;
	}
	api->start_next_ns = now_ns + CLUSTER_RESTART_NS;
	if (api->start_count++ > 0) {
		sync_ask(api);
	}
	if (!api->asking) {
		start_now(api);
	}
}

/* ---- all of it ---- */

/* The database has let us go. */
static bool sync_out(struct cluster_api *api)
{
	const struct db *db = member_db(api->member);
	const struct db_object *o = db_get(db, DB_NODE, api->conf.node);
	struct rsm_status s;
	struct guid uuid;

	member_status(api->member, &s);
	if (s.state != RSM_ACTIVE || db_get(db, DB_SETTING, "cluster") == NULL) {
		return false;
	}
	return o == NULL || is_state(o->doc, NODE_LEFT) ||
	       (guid_parse(cluster_text(o->doc, "uuid"), &uuid) == 0 &&
	        !guid_equal(&uuid, &api->conf.uuid));
}

void cluster_sync(struct cluster_api *api)
{
	struct rsm_status s;

	if (api->member == NULL || api->leaving) {
		return;
	}
	sync_corosync(api);
	if (sync_out(api)) {
		cluster_leave(api, "evicted");
		return;
	}
	sync_conf(api);
	sync_measure(api);
	member_status(api->member, &s);
	if (s.state != RSM_ACTIVE || s.stale) {
		return;
	}
	cluster_admissions_sync(api);
	if (!api->proposing) {
		sync_told(api);
	}
	if (!api->proposing) {
		sync_told_timing(api);
	}
	if (!api->proposing) {
		cluster_trust_sync(api);
	}
	if (!api->proposing) {
		cluster_quorum_told(api->quorum);
	}
	if (!api->proposing && s.leader == api->conf.nodeid) {
		sync_lead(api);
	}
}
