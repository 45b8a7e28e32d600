/* SPDX-License-Identifier: Apache-2.0 */
#include "bin/godwitd/cluster_api.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/loop.h"
#include "bin/godwitd/cluster_int.h"
#include "bin/godwitd/cluster_level.h"
#include "cluster/rsm/store_sqlite.h"

int64_t cluster_now_s(void)
{
	return (int64_t)(clock_wall_ns() / NS_PER_S);
}

bool cluster_is_local(struct api_req *req)
{
	struct errbuf eb = {0};

	if (api_req_peer(req)->local) {
		return true;
	}
	(void)errbuf_set(&eb, -EACCES, "clusters are changed on one of their nodes itself");
	(void)api_reply_errno(req, -EACCES, &eb);
	return false;
}

/* ---- those who wait ---- */

static void waiter_end(struct cluster_waiter *w, int err, json_t *answer, const struct errbuf *eb)
{
	struct api_req *req = w->req;

	list_del(&w->link);
	w->api->waiter_count--;
	json_decref(w->args);
	free(w);
	if (err < 0) {
		(void)api_reply_errno(req, err, eb);
	} else {
		(void)api_reply(req, answer != NULL ? 200 : 204, answer);
	}
}

/* Who asked has gone; what was begun goes on. */
static void waiter_gone(void *arg)
{
	waiter_end(arg, -ECANCELED, NULL, NULL);
}

static void waiter_late(struct cluster_waiter *w)
{
	const char *trouble = w->api->trouble.text;
	struct errbuf eb = {0};

	(void)errbuf_set(&eb, -ETIMEDOUT, "%s: not yet%s%s", w->what,
	                 trouble[0] != '\0' ? ": " : "", trouble);
	errbuf_hint(&eb, "it goes on by itself; godwit cluster status shows how far it is");
	waiter_end(w, -ETIMEDOUT, NULL, &eb);
}

static void waiters_poll(struct cluster_api *api)
{
	list_for_each_safe(link, &api->waiters)
	{
		struct cluster_waiter *w = list_entry(link, struct cluster_waiter, link);
		json_t *answer = NULL;
		struct errbuf eb = {0};
		int ret = w->poll(w, &answer, &eb);

		if (ret != 0) {
			waiter_end(w, ret, answer, &eb);
		} else if (clock_now_ns() > w->deadline_ns) {
			waiter_late(w);
		}
	}
}

enum api_then cluster_wait(struct cluster_api *api, struct api_req *req,
                           const struct cluster_waiter *template, json_t *args)
{
	struct cluster_waiter *w = NULL;
	struct errbuf eb = {0};
	int err = -EBUSY;

	if (api->stopped || api->waiter_count >= CLUSTER_WAITERS_MAX) {
		(void)errbuf_set(&eb, err, "too many wait for the cluster, or godwitd is stopping");
	} else {
		w = gw_malloc(sizeof(*w));
		err = -ENOMEM;
	}
	if (w == NULL) {
		json_decref(args);
		return api_reply_errno(req, err, &eb);
	}
	*w = *template;
	w->api = api;
	w->req = req;
	w->args = args;
	w->deadline_ns = clock_now_ns() + template->deadline_ns;
	list_add_tail(&api->waiters, &w->link);
	api->waiter_count++;
	api_req_on_gone(req, waiter_gone, w);
	loop_timer_arm(api->tick, 0);
	return API_LATER;
}

/* ---- in the cluster ---- */

static void on_tick(void *arg)
{
	struct cluster_api *api = arg;

	if (!api->stopped) {
		cluster_sync(api);
		cluster_quorum_tick(api->quorum);
		cluster_trust_expel(api);
		waiters_poll(api);
		loop_timer_arm(api->tick, CLUSTER_TICK_NS);
	}
}

static void on_changed(void *arg)
{
	struct cluster_api *api = arg;

	if (!api->stopped) {
		loop_timer_arm(api->tick, 0);
		if (api->cfg.hooks != NULL) {
			api->cfg.hooks->changed(api->cfg.hooks->arg);
		}
	}
}

static void tell_opened(struct cluster_api *api)
{
	const struct cluster_place place = {
		.member = api->member,
		.cluster = api->conf.cluster,
		.nodeid = api->conf.nodeid,
		.token_ms = api->conf.token_ms,
		.node = api->conf.node,
		.name = api->conf.name,
		.dir = api->dir,
	};

	if (api->cfg.hooks != NULL) {
		api->cfg.hooks->opened(api->cfg.hooks->arg, &place);
	}
}

static void close_member(struct cluster_api *api)
{
	if (api->member != NULL && api->cfg.hooks != NULL) {
		api->cfg.hooks->closing(api->cfg.hooks->arg);
	}
	member_close(api->member);
	api->member = NULL;
}

/* The database is damaged. Others have it: ours is kept aside, and as a node without one we have no
 * vote until we have fetched all of it. Returns @err if nothing can be done. */
static int begin_anew(struct cluster_api *api, const struct member_cfg *cfg, int err,
                      struct errbuf *eb)
{
	struct errbuf why = {0};

	if (err != -EBADMSG || api->conf.count < 2 ||
	    rsm_sqlite_aside(cfg->path, (uint64_t)cluster_now_s(), &why) != 0) {
		return err;
	}
	log_err(CLUSTER_TAG,
	        "database damaged, it is put aside and fetched from the others text=\"%s\"",
	        eb->text);
	*eb = (struct errbuf){0};
	return member_open(cfg, &api->member, eb);
}

int cluster_begin(struct cluster_api *api, struct errbuf *eb)
{
	struct view_config config = {.count = 1};
	char path[CLUSTER_PATH_MAX];
	struct member_cfg cfg = {
		.loop = api->cfg.loop,
		.path = path,
		.group = CLUSTER_GROUP,
		.nodeid = api->conf.nodeid,
		.cluster = api->conf.cluster,
		.uuid = api->conf.uuid,
		/* With others in the list a missing file is a lost one, and they have it. */
		.config = api->conf.founder && api->conf.count == 1 ? &config : NULL,
		.changed = on_changed,
		.arg = api,
	};
	int err;

	config.nodes[0] =
		(struct view_node){.nodeid = api->conf.nodeid, .votes = 1, .uuid = api->conf.uuid};
	(void)snprintf(path, sizeof(path), "%.4000s/db.sqlite", api->dir);
	api->present = true;
	api->leaving = false;
	api->start_count = 0;
	api->start_next_ns = 0;
	api->trouble = (struct errbuf){0};
	/* Each start writes the file: whatever happened to it, ours is right. */
	err = cluster_conf_apply(&api->conf, api->dir, eb);
	if (err == 0) {
		err = member_open(&cfg, &api->member, eb);
		err = err == 0 ? 0 : begin_anew(api, &cfg, err, eb);
	}
	if (err == 0) {
		log_info(CLUSTER_TAG, "in a cluster name=%s as=%s node=%u", api->conf.name,
		         api->conf.node, api->conf.nodeid);
		tell_opened(api);
	}
	loop_timer_arm(api->tick, 0);
	return err;
}

static int run_stop(void *arg, struct errbuf *eb)
{
	const struct cluster_api *api = arg;

	return corosync_stop(api->cfg.corosync, eb);
}

static void on_left(void *arg, int err, const struct errbuf *eb)
{
	struct cluster_api *api = arg;
	char aside[CLUSTER_PATH_MAX + 32];
	struct errbuf why = {0};

	if (err != 0) {
		log_warn(CLUSTER_TAG, "corosync not stopped text=\"%s\"", eb->text);
	}
	(void)snprintf(aside, sizeof(aside), "%s.left-%lld", api->dir, (long long)cluster_now_s());
	if (rename(api->dir, aside) != 0) {
		(void)errbuf_sys(&why, -errno, "cannot put %s aside", api->dir);
		log_err(CLUSTER_TAG, "still in the cluster text=\"%s\"", why.text);
		api->trouble = why;
		return; /* leaving: tried again at the next start */
	}
	log_info(CLUSTER_TAG, "left the cluster name=%s kept=%s", api->conf.name, aside);
	api->present = false;
	api->leaving = false;
	api->conf = (struct cluster_conf){.count = 0};
	api->trouble = (struct errbuf){0};
}

void cluster_leave(struct cluster_api *api, const char *why)
{
	int err;

	log_info(CLUSTER_TAG, "leaving the cluster name=%s why=\"%s\"", api->conf.name, why);
	cluster_admissions_close(api);
	cluster_quorum_leave(api->quorum);
	close_member(api);
	api->proposing = false;
	api->leaving = true;
	cert_fresh_fini(&api->fresh);
	api->renewing = false;
	api->renew_wanted = false;
	err = cluster_work_start(api->works, run_stop, on_left, api);
	if (err != 0) {
		log_err(CLUSTER_TAG, "cannot stop corosync error=%s", strerrorname_np(-err));
	}
}

/* ---- life ---- */

static const struct api_route cluster_routes[] = {
	{API_GET, "/v1/cluster", cluster_on_show},
	{API_POST, "/v1/cluster", cluster_on_create},
	{API_DELETE, "/v1/cluster", cluster_on_remove},
	{API_POST, "/v1/cluster/join", cluster_on_join},
	{API_POST, "/v1/cluster/check", cluster_on_check},
	{API_POST, "/v1/cluster/upgrade", cluster_on_upgrade},
	{API_POST, "/v1/certs/renew", cluster_on_renew},
	{API_GET, "/v1/cluster/backup", cluster_on_backup},
	{API_POST, "/v1/cluster/restore", cluster_on_restore},
	{API_GET, "/v1/cluster/digest", cluster_on_digest},
	{API_GET, "/v1/cluster/conf", cluster_on_conf},
	{API_GET, "/v1/nodes", cluster_on_nodes},
	{API_GET, "/v1/nodes/{name}", cluster_on_node},
	{API_DELETE, "/v1/nodes/{name}", cluster_on_evict},
	{API_POST, "/v1/nodes/{name}/token", cluster_on_token},
	{API_GET, "/v1/quorum", cluster_on_quorum},
	{API_POST, "/v1/quorum/witness", cluster_on_witness},
	{API_POST, "/v1/quorum/force", cluster_on_force},
};

/* What a start finds: a cluster, a joining under way, or nothing. */
static void api_resume(struct cluster_api *api)
{
	struct errbuf eb = {0};
	int err = cluster_conf_load(api->dir, &api->conf, &eb);

	if (err == 0) {
		err = cluster_begin(api, &eb);
	} else if (err == -ENOENT) {
		err = 0;
	}
	if (err == 0 && api->present && cluster_tokens_any(api->dir, cluster_now_s())) {
		err = cluster_admissions_open(api, &eb);
	}
	if (err != 0) {
		log_err(CLUSTER_TAG, "not taking part in the cluster text=\"%s\" hint=\"%s\"",
		        errbuf_text(&eb, err), eb.hint);
		api->trouble = eb;
	}
	cluster_join_resume(api);
}

int cluster_api_create(const struct cluster_api_cfg *cfg, struct cluster_api **out,
                       struct errbuf *eb)
{
	struct cluster_api *api = gw_calloc(1, sizeof(*api));
	int err;

	*out = NULL;
	if (api == NULL) {
		return errbuf_sys(eb, -ENOMEM, "cannot serve the cluster");
	}
	api->cfg = *cfg;
	list_init(&api->waiters);
	(void)snprintf(api->state_dir, sizeof(api->state_dir), "%.3900s", cfg->state_dir);
	(void)snprintf(api->dir, sizeof(api->dir), "%.3900s/cluster", cfg->state_dir);
	(void)snprintf(api->listen_addr, sizeof(api->listen_addr), "%s", cfg->listen_addr);
	err = cluster_works_create(cfg->loop, &api->works);
	if (err == 0) {
		err = loop_timer_new(cfg->loop, on_tick, api, &api->tick);
	}
	if (err == 0) {
		err = cluster_quorum_create(api, &api->quorum, eb);
	}
	if (err == 0) {
		err = api_server_routes(cfg->server, cluster_routes, ARRAY_LEN(cluster_routes),
		                        api);
	}
	if (err != 0) {
		cluster_api_stop(api);
		cluster_api_destroy(api);
		return errbuf_sys(eb, err, "cannot serve the cluster");
	}
	cluster_trust_begin(api);
	api_resume(api);
	loop_timer_arm(api->tick, CLUSTER_TICK_NS);
	*out = api;
	return 0;
}

void cluster_api_stop(struct cluster_api *api)
{
	if (api == NULL) {
		return;
	}
	api->stopped = true;
	list_for_each_safe(link, &api->waiters)
	{
		struct errbuf eb = {0};

		(void)errbuf_set(&eb, -ECANCELED, "godwitd is stopping");
		waiter_end(list_entry(link, struct cluster_waiter, link), -ECANCELED, NULL, &eb);
	}
	cluster_works_destroy(api->works);
	api->works = NULL;
	close_member(api);
	cluster_admissions_close(api);
}

void cluster_api_destroy(struct cluster_api *api)
{
	if (api == NULL) {
		return;
	}
	loop_timer_del(api->tick);
	cluster_join_free(api);
	cluster_check_free(api);
	cert_fresh_fini(&api->fresh);
	cluster_quorum_destroy(api->quorum);
	free(api);
}
