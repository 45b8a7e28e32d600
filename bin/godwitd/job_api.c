/* SPDX-License-Identifier: Apache-2.0 */
#include "bin/godwitd/job_api.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/api/server.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "base/log.h"
#include "hv/manager/store.h"

#define TAG "job-api"
#define JOB_OBJECT_MAX 160u
#define JOB_TEXT_MAX 320u
#define JOB_STORE_KIND "counter"
#define JOB_STORE_KEY "job"

static const char *const job_state_names[JOB_STATE_COUNT] = {
	[JOB_QUEUED] = "queued", [JOB_RUNNING] = "running",     [JOB_DONE] = "done",
	[JOB_FAILED] = "failed", [JOB_CANCELLED] = "cancelled",
};

struct job {
	struct job_api *api; /* back pointer */
	uint64_t id;         /* 0 = the place is free */
	enum job_state state;
	const char *kind;
	char object[JOB_OBJECT_MAX];
	char text[JOB_TEXT_MAX];
	uint64_t started_wall_ns;
	uint64_t ended_wall_ns;
	json_t *progress; /* owned */
	json_t *result;   /* owned */
	int err;
	struct errbuf eb;
	int (*cancel)(void *arg, struct errbuf *eb);
	void *cancel_arg;
};

struct job_watcher {
	uint64_t id;               /* of the job; its place may be another's by now */
	struct api_stream *stream; /* owned; NULL = free */
};

struct job_api {
	struct vm_store *store; /* borrowed */
	uint64_t last_id;
	struct job jobs[JOB_KEEP];
	struct job_watcher watchers[JOB_WATCHERS_MAX];
};

static bool job_is_over(const struct job *job)
{
	return job->state >= JOB_DONE;
}

static void job_fini(struct job *job)
{
	json_decref(job->progress);
	json_decref(job->result);
	*job = (struct job){0};
}

json_t *job_json(const struct job *job)
{
	struct json_build b;
	json_t *out = NULL;

	json_build_object(&b);
	json_add_u64(&b, "id", job->id);
	json_add_str(&b, "kind", job->kind);
	json_add_str(&b, "object", job->object);
	json_add_str(&b, "text", job->text);
	json_add_str(&b, "state", job_state_names[job->state]);
	json_add_bool(&b, "can_cancel", !job_is_over(job) && job->cancel != NULL);
	json_add_u64(&b, "started_ns", job->started_wall_ns);
	json_add_u64(&b, "ended_ns", job->ended_wall_ns);
	if (job->progress != NULL) {
		json_add(&b, "progress", json_incref(job->progress));
	}
	if (job->result != NULL) {
		json_add(&b, "result", json_incref(job->result));
	}
	if (job->err != 0) {
		struct api_error error;
		json_t *body;

		api_error_from(&error, job->err, &job->eb);
		body = api_error_json(&error);
		json_add(&b, "error", json_incref(json_object_get(body, "error")));
		json_decref(body);
	}
	return json_build_end(&b, &out) == 0 ? out : NULL;
}

/* ---- those who watch ---- */

static void job_watcher_gone(void *arg)
{
	struct job_watcher *w = arg;

	api_stream_end(w->stream);
	w->stream = NULL;
}

static void job_tell(struct job *job)
{
	json_t *json = job_json(job);

	for (uint32_t i = 0; i < JOB_WATCHERS_MAX; i++) {
		struct job_watcher *w = &job->api->watchers[i];

		if (w->stream == NULL || w->id != job->id) {
			continue;
		}
		if (json != NULL && api_stream_send(w->stream, json) == -ENOMEM) {
			log_warn(TAG, "a change was not told job=%" PRIu64, job->id);
		}
		if (job_is_over(job)) {
			job_watcher_gone(w);
		}
	}
	json_decref(json);
}

/* ---- requests ---- */

/* The job of the path; NULL: the request has been answered. */
static struct job *job_of(struct job_api *api, struct api_req *req)
{
	const char *text = api_req_param(req, "id");
	struct errbuf eb = {0};
	char *end = NULL;
	uint64_t id = strtoull(text, &end, 10);

	for (uint32_t i = 0; *end == '\0' && id != 0 && i < JOB_KEEP; i++) {
		if (api->jobs[i].id == id) {
			return &api->jobs[i];
		}
	}
	(void)errbuf_set(&eb, -ENOENT, "there is no job %s", text);
	errbuf_hint(&eb, "godwit job list shows the last ones");
	(void)api_reply_errno(req, -ENOENT, &eb);
	return NULL;
}

static enum api_then on_list(struct api_req *req, void *arg)
{
	struct job_api *api = arg;
	json_t *jobs = json_array();

	for (uint64_t id = api->last_id >= JOB_KEEP ? api->last_id - JOB_KEEP + 1 : 1;
	     id <= api->last_id; id++) {
		const struct job *job = &api->jobs[id % JOB_KEEP];

		if (job->id == id) {
			(void)json_array_append_new(jobs, job_json(job));
		}
	}
	return api_reply(req, 200, json_pack("{s:o}", "jobs", jobs));
}

static enum api_then on_show(struct api_req *req, void *arg)
{
	struct job *job = job_of(arg, req);

	return job != NULL ? api_reply(req, 200, job_json(job)) : API_ANSWERED;
}

static enum api_then on_watch(struct api_req *req, void *arg)
{
	struct job_api *api = arg;
	struct job *job = job_of(api, req);
	struct errbuf eb = {0};

	if (job == NULL) {
		return API_ANSWERED;
	}
	for (uint32_t i = 0; i < JOB_WATCHERS_MAX; i++) {
		struct job_watcher *w = &api->watchers[i];
		const struct api_stream_cfg cfg = {.gone = job_watcher_gone, .arg = w};
		json_t *json;

		if (w->stream != NULL) {
			continue;
		}
		w->id = job->id;
		if (api_stream_begin(req, &cfg, &w->stream) != 0) {
			w->stream = NULL;
			return API_ANSWERED;
		}
		json = job_json(job);
		if (json == NULL || api_stream_send(w->stream, json) != 0) {
			log_warn(TAG, "a job was not told job=%" PRIu64, job->id);
		}
		json_decref(json);
		if (job_is_over(job)) {
			job_watcher_gone(w);
		}
		return API_ANSWERED;
	}
	(void)errbuf_set(&eb, -EBUSY, "%u clients watch jobs already", JOB_WATCHERS_MAX);
	return api_reply_errno(req, -EBUSY, &eb);
}

static enum api_then on_cancel(struct api_req *req, void *arg)
{
	struct job *job = job_of(arg, req);
	struct errbuf eb = {0};
	uint64_t id;
	int err = 0;

	if (job == NULL) {
		return API_ANSWERED;
	}
	id = job->id;
	if (job_is_over(job)) {
		err = errbuf_set(&eb, -EBUSY, "job %" PRIu64 " is over: %s", id,
		                 job_state_names[job->state]);
	} else if (job->cancel == NULL) {
		err = errbuf_set(&eb, -EOPNOTSUPP, "job %" PRIu64 " cannot be cancelled", id);
	} else {
		log_info(TAG, "job is taken back id=%" PRIu64 " kind=%s object=%s", id, job->kind,
		         job->object);
		err = job->cancel(job->cancel_arg, &eb); /* may end it */
	}
	return err != 0 ? api_reply_errno(req, err, &eb)
	                : api_reply(req, 202, job->id == id ? job_json(job) : json_object());
}

static const struct api_route job_routes[] = {
	{API_GET, "/v1/jobs", on_list},
	{API_GET, "/v1/jobs/{id}", on_show},
	{API_GET, "/v1/jobs/{id}/watch", on_watch},
	{API_POST, "/v1/jobs/{id}/cancel", on_cancel},
};

/* ---- life of the module ---- */

static int job_last_read(void *arg, const char *key, json_t *value)
{
	struct job_api *api = arg;
	json_int_t last = json_integer_value(json_object_get(value, "last_id"));

	if (strcmp(key, JOB_STORE_KEY) == 0 && last > 0) {
		api->last_id = (uint64_t)last;
	}
	return 0;
}

static int job_last_write(struct job_api *api, uint64_t id, struct errbuf *eb)
{
	json_t *value = json_pack("{s:I}", "last_id", (json_int_t)id);
	int err = -ENOMEM;

	if (value != NULL) {
		err = api->store->ops->put(api->store, JOB_STORE_KIND, JOB_STORE_KEY, value, eb);
	}
	json_decref(value);
	return err;
}

int job_api_create(struct api_server *server, struct vm_store *store, struct job_api **out,
                   struct errbuf *eb)
{
	struct job_api *api = gw_calloc(1, sizeof(*api));
	int err = -ENOMEM;

	*out = NULL;
	if (api != NULL) {
		api->store = store;
		err = store->ops->each(store, JOB_STORE_KIND, job_last_read, api, eb);
	}
	if (err == 0) {
		err = api_server_routes(server, job_routes, ARRAY_LEN(job_routes), api);
	}
	if (err != 0) {
		free(api);
		return errbuf_sys(eb, err, "cannot serve jobs");
	}
	*out = api;
	return 0;
}

void job_api_stop(struct job_api *api)
{
	for (uint32_t i = 0; api != NULL && i < JOB_WATCHERS_MAX; i++) {
		job_watcher_gone(&api->watchers[i]);
	}
}

void job_api_destroy(struct job_api *api)
{
	for (uint32_t i = 0; api != NULL && i < JOB_KEEP; i++) {
		job_fini(&api->jobs[i]);
	}
	free(api);
}

/* ---- for those who work ---- */

int job_new(struct job_api *api, const struct job_cfg *cfg, struct job **out, struct errbuf *eb)
{
	uint64_t id = api->last_id + 1;
	struct job *job = NULL;
	int err;

	/* The oldest place whose job is over; numbers may skip what still runs. */
	for (uint32_t tries = 0; tries < JOB_KEEP && job == NULL; tries++, id++) {
		struct job *at = &api->jobs[id % JOB_KEEP];

		job = at->id == 0 || job_is_over(at) ? at : NULL;
	}
	if (job == NULL) {
		return errbuf_set(eb, -EBUSY, "%u jobs are under way already", JOB_KEEP);
	}
	err = job_last_write(api, --id, eb);
	if (err != 0) {
		return err;
	}
	job_fini(job);
	api->last_id = id;
	job->api = api;
	job->id = id;
	job->state = JOB_QUEUED;
	job->kind = cfg->kind;
	(void)snprintf(job->object, sizeof(job->object), "%s", cfg->object);
	(void)snprintf(job->text, sizeof(job->text), "%s", cfg->text);
	job->started_wall_ns = clock_wall_ns();
	job->cancel = cfg->cancel;
	job->cancel_arg = cfg->arg;
	*out = job;
	return 0;
}

void job_progress(struct job *job, json_t *progress)
{
	CHECK(!job_is_over(job));
	job->state = JOB_RUNNING;
	if (progress != NULL) {
		json_decref(job->progress);
		job->progress = progress;
	}
	job_tell(job);
}

void job_end(struct job *job, int err, const struct errbuf *eb, json_t *result)
{
	CHECK(!job_is_over(job));
	job->state = err == 0 ? JOB_DONE : err == -ECANCELED ? JOB_CANCELLED : JOB_FAILED;
	job->err = err;
	if (err != 0 && eb != NULL) {
		job->eb = *eb;
	}
	job->result = result;
	job->ended_wall_ns = clock_wall_ns();
	log_info(TAG, "job ended id=%" PRIu64 " kind=%s object=%s state=%s text=\"%s\"", job->id,
	         job->kind, job->object, job_state_names[job->state],
	         err != 0 ? errbuf_text(&job->eb, err) : "");
	job_tell(job);
}
