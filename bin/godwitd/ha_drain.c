/* SPDX-License-Identifier: Apache-2.0 */

/*
 * ha_drain - a node is emptied for maintenance: a job that asks the leader for it (cluster/lead
 * chooses where each VM goes, two at a time) and watches until nothing is left.
 *
 * The wish is in the database: it goes on when this service ends. Cancelling takes the wish back.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/api/server.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/parse.h"
#include "bin/godwitd/ha_int.h"
#include "bin/godwitd/job_api.h"
#include "cluster/db/db.h"

#define DRAIN_ASK_NS (10 * NS_PER_S) /* for the wish to get into the log */
#define DRAIN_TEXT_MAX 700

struct ha_drain {
	struct list link;
	struct ha_api *api;
	struct job *job;
	uint32_t node;
	uint32_t total; /* VMs it had */
	bool seen;      /* the wish is in the log */
	bool cancelled;
	uint64_t ask_by_ns;
	uint64_t deadline_ns; /* UINT64_MAX = none */
	char last[DRAIN_TEXT_MAX];
};

static const struct role_node *node_of(const struct ha_api *api, uint32_t id)
{
	return role_table_node(member_roles(api->place.member), id);
}

/* VMs that the node has, or that are on their way to it. @names: the first of them, and why. */
static uint32_t left_on(const struct ha_api *api, uint32_t node, char *names, size_t size)
{
	const struct role_table *t = member_roles(api->place.member);
	uint32_t count = 0;
	size_t at = 0;

	names[0] = '\0';
	for (const struct role *r = role_table_next(t, 0); r != NULL;
	     r = role_table_next(t, r->id)) {
		if (r->owner.node != node && r->dest.node != node) {
			continue;
		}
		count++;
		if (at < size && count <= 8) {
			int len =
				snprintf(names + at, size - at, "%s%s (%s)", count > 1 ? ", " : "",
			                 r->name, role_state_name(r->state));

			at += len > 0 ? (size_t)len : 0;
		}
	}
	return count;
}

static void drain_end(struct ha_drain *d, int err, const struct errbuf *eb)
{
	json_t *result = json_pack("{s:s,s:i}", "node", ha_node_name(d->api, d->node), "moved",
	                           (int)d->total);

	list_del(&d->link);
	job_end(d->job, err, eb, result);
	free(d);
}

static void drain_progress(struct ha_drain *d, uint32_t left, const char *names)
{
	char text[DRAIN_TEXT_MAX];

	(void)snprintf(text, sizeof(text), "%u of %u left%s%.600s", left, d->total,
	               left > 0 ? ": " : "", names);
	if (strcmp(text, d->last) != 0) {
		uint32_t done = d->total > left ? d->total - left : 0;

		memcpy(d->last, text, sizeof(d->last));
		job_progress(d->job, json_pack("{s:i,s:s}", "percent",
		                               d->total > 0 ? (int)(done * 100 / d->total) : 100,
		                               "detail", text));
	}
}

static void drain_look(struct ha_drain *d)
{
	const struct role_node *n = node_of(d->api, d->node);
	uint64_t now_ns = clock_now_ns();
	struct errbuf eb = {0};
	char names[DRAIN_TEXT_MAX];
	uint32_t left = left_on(d->api, d->node, names, sizeof(names));

	d->seen = d->seen || n->drain != ROLE_DRAIN_NONE;
	d->total = left > d->total ? left : d->total;
	if (n->drain == ROLE_DRAIN_DONE) {
		drain_end(d, 0, NULL);
	} else if (d->seen && n->drain == ROLE_DRAIN_NONE) {
		drain_end(d,
		          errbuf_set(&eb, -ECANCELED, "cancelled; %s takes VMs again",
		                     ha_node_name(d->api, d->node)),
		          &eb);
	} else if (!d->seen && now_ns > d->ask_by_ns) {
		drain_end(d, errbuf_set(&eb, -ETIMEDOUT, "the cluster did not answer"), &eb);
	} else if (now_ns > d->deadline_ns) {
		errbuf_hint(&eb, "the node stays in maintenance; godwit node resume ends that");
		drain_end(d, errbuf_set(&eb, -ETIMEDOUT, "not empty in time: %.400s", names), &eb);
	} else {
		drain_progress(d, left, names);
	}
}

void ha_drain_look(struct ha_api *api)
{
	list_for_each_safe(link, &api->drains)
	{
		drain_look(list_entry(link, struct ha_drain, link));
	}
}

void ha_drain_stop(struct ha_api *api)
{
	list_for_each_safe(link, &api->drains)
	{
		struct errbuf eb = {0};

		(void)errbuf_set(&eb, -ECANCELED,
		                 "the node service is stopping; the drain goes on");
		drain_end(list_entry(link, struct ha_drain, link), -ECANCELED, &eb);
	}
}

static int drain_cancel(void *arg, struct errbuf *eb)
{
	struct ha_drain *d = arg;
	int err = d->api->ha != NULL ? ha_drain(d->api->ha, d->node, false) : -ENOTCONN;

	return err == 0 ? 0 : errbuf_sys(eb, err, "the cluster cannot be asked");
}

/* The node of the path, if it takes part. 0: the request has been answered. */
static uint32_t node_asked(struct ha_api *api, struct api_req *req)
{
	const char *name = api_req_param(req, "name");
	const struct db_object *o =
		api->ha != NULL ? db_get(member_db(api->place.member), DB_NODE, name) : NULL;
	json_int_t id = o != NULL ? json_integer_value(json_object_get(o->doc, "nodeid")) : 0;
	struct errbuf eb = {0};

	if (api->ha == NULL) {
		(void)errbuf_set(&eb, -ENOTCONN, "this host runs no VMs for a cluster");
		(void)api_reply_errno(req, -ENOTCONN, &eb);
		return 0;
	}
	if (id <= 0 || id > ROLE_NODES_MAX || node_of(api, (uint32_t)id)->inc == 0) {
		(void)errbuf_set(&eb, -ENOENT, "there is no node %s that runs VMs", name);
		errbuf_hint(&eb, "godwit node list shows those there are");
		(void)api_reply_errno(req, -ENOENT, &eb);
		return 0;
	}
	return (uint32_t)id;
}

static void refuse(struct api_req *req, int err)
{
	struct errbuf eb = {0};

	(void)errbuf_sys(&eb, err, "the cluster cannot be asked");
	errbuf_hint(&eb, "godwit cluster status shows which nodes are missing");
	(void)api_reply_errno(req, err, &eb);
}

static enum api_then on_drain(struct api_req *req, void *arg)
{
	struct ha_api *api = arg;
	struct json_at at = json_root(api_req_body(req), "");
	uint32_t node = node_asked(api, req);
	struct errbuf eb = {0};
	struct ha_drain *d;
	uint64_t deadline_ns = 0;
	char object[160];
	char text[200];
	struct job_cfg job = {
		.kind = "drain", .object = object, .text = text, .cancel = drain_cancel};
	int err = 0;

	if (node == 0) {
		return API_ANSWERED;
	}
	if (at.value != NULL) {
		err = json_opt_u64(&at, "deadline_ns", 0, INT64_MAX, &deadline_ns, &eb);
	}
	d = err == 0 ? gw_calloc(1, sizeof(*d)) : NULL;
	if (d == NULL) {
		return api_reply_errno(req, err != 0 ? err : -ENOMEM, &eb);
	}
	d->api = api;
	d->node = node;
	d->ask_by_ns = clock_now_ns() + DRAIN_ASK_NS;
	d->deadline_ns = deadline_ns != 0 ? clock_now_ns() + deadline_ns : UINT64_MAX;
	job.arg = d;
	(void)snprintf(object, sizeof(object), "node/%s", api_req_param(req, "name"));
	(void)snprintf(text, sizeof(text), "draining %s", api_req_param(req, "name"));
	err = ha_drain(api->ha, node, true);
	if (err != 0) {
		free(d);
		refuse(req, err);
		return API_ANSWERED;
	}
	err = job_new(api->cfg.jobs, &job, &d->job, &eb);
	if (err != 0) {
		free(d);
		return api_reply_errno(req, err, &eb);
	}
	list_add_tail(&api->drains, &d->link);
	return api_reply(req, 202, job_json(d->job));
}

static enum api_then on_resume(struct api_req *req, void *arg)
{
	struct ha_api *api = arg;
	uint32_t node = node_asked(api, req);
	int err = node != 0 ? ha_drain(api->ha, node, false) : 0;

	if (node == 0) {
		return API_ANSWERED;
	}
	if (err != 0) {
		refuse(req, err);
		return API_ANSWERED;
	}
	return api_reply(req, 202, json_object());
}

/* A proof by a person's word, for a node of which nothing else says that it has stopped. */
static enum api_then on_confirm(struct api_req *req, void *arg)
{
	struct ha_api *api = arg;
	uint32_t node = node_asked(api, req);
	struct errbuf eb = {0};
	int err;

	if (node == 0) {
		return API_ANSWERED;
	}
	err = ha_confirm(api->ha, node);
	if (err == -EBUSY) {
		(void)errbuf_set(&eb, err, "no VM waits for a proof that %s has stopped: it is %s",
		                 api_req_param(req, "name"),
		                 role_node_state_name(node_of(api, node)->state));
		return api_reply_errno(req, err, &eb);
	}
	if (err != 0) {
		refuse(req, err);
		return API_ANSWERED;
	}
	return api_reply(req, 202, json_object());
}

static const struct api_route routes[] = {
	{API_POST, "/v1/nodes/{name}/confirm-off", on_confirm},
	{API_POST, "/v1/nodes/{name}/drain", on_drain},
	{API_POST, "/v1/nodes/{name}/resume", on_resume},
};

int ha_drain_routes(struct ha_api *api)
{
	return api_server_routes(api->cfg.server, routes, ARRAY_LEN(routes), api);
}
