/* SPDX-License-Identifier: Apache-2.0 */
#include "bin/godwitd/disk_api.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/api/server.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/loop.h"
#include "hv/disk/disk.h"
#include "hv/manager/manager.h"

#define TAG "disk-api"
#define TELL_NS (200 * NS_PER_MS) /* how often progress is told */

/*
 * One operation. Its thread owns result, err, eb and told_ns until it sets ended; the atomics
 * belong to both; the loop owns the rest.
 */
struct disk_job {
	struct disk_api *api;
	enum disk_op op;
	json_t *request; /* owned: an object, or with done_fn an array of them */
	pthread_t thread;
	_Atomic bool cancel;
	_Atomic bool ended;
	_Atomic uint64_t done;
	_Atomic uint64_t total; /* 0 = nothing told yet */
	uint64_t told_ns;
	uint64_t sent; /* of done */
	json_t *result;
	int err;
	struct errbuf eb;
	/* Whom to tell: one of the three. The stream takes the request's place when there is
	 * progress or a result to tell; so what is refused is an HTTP error. */
	struct api_req *req;       /* owned until answered */
	struct api_stream *stream; /* owned */
	disk_api_done_fn done_fn;
	void *done_arg;
};

struct disk_api {
	struct loop *loop; /* borrowed */
	struct manager *manager;
	bool stopped;
	int wake_fd; /* eventfd: some job has something to tell */
	struct loop_fd *watch;
	struct disk_job *jobs[DISK_API_JOBS_MAX]; /* owned; NULL = free */
};

/* ---- the thread ---- */

static void job_wake(const struct disk_job *job)
{
	uint64_t one = 1;

	/* Fails only if the counter is full: then it is readable anyway. */
	(void)!write(job->api->wake_fd, &one, sizeof(one));
}

static bool job_progress(uint64_t done, uint64_t total, void *arg)
{
	struct disk_job *job = arg;
	uint64_t now = clock_now_ns();

	if (now - job->told_ns >= TELL_NS) {
		job->told_ns = now;
		atomic_store(&job->done, done);
		atomic_store(&job->total, total);
		job_wake(job);
	}
	return !atomic_load(&job->cancel);
}

static void unmake(const json_t *requests, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const json_t *one = json_array_get(requests, i);
		const char *path = json_string_value(json_object_get(one, "path"));

		if (path != NULL && unlink(path) != 0) {
			log_warn(TAG, "image not removed path=%s errno=%d", path, errno);
		}
	}
}

/* Several to be made: if one cannot, those before it go again. */
static void job_make(struct disk_job *job)
{
	size_t made = 0;

	while (job->err == 0 && made < json_array_size(job->request)) {
		const json_t *one = json_array_get(job->request, made);
		json_t *result = NULL;

		job->err = disk_run(DISK_CREATE, one, job_progress, job, &result, &job->eb);
		json_decref(result);
		made += job->err == 0;
	}
	if (job->err != 0) {
		unmake(job->request, made);
	}
}

static void *job_thread(void *arg)
{
	struct disk_job *job = arg;

	if (job->done_fn != NULL) {
		job_make(job);
	} else {
		job->err =
			disk_run(job->op, job->request, job_progress, job, &job->result, &job->eb);
	}
	atomic_store(&job->ended, true);
	job_wake(job);
	return NULL;
}

/* ---- its end ---- */

/* The VM that has @path among its disks; NULL = none. */
static const char *user_of(const struct disk_api *api, const char *path)
{
	struct vm *vm = api->manager != NULL ? manager_vm_next(api->manager, NULL) : NULL;

	for (; vm != NULL && path != NULL; vm = manager_vm_next(api->manager, vm)) {
		const struct vm_config *c = vm_config_get(vm);

		for (uint32_t i = 0; i < c->disk_count; i++) {
			if (strcmp(c->disks[i].path, path) == 0) {
				return c->name;
			}
		}
	}
	return NULL;
}

/* A lock is held by a process; people know VMs. */
static void job_explain(struct disk_job *job)
{
	const char *path = json_string_value(json_object_get(job->request, "path"));
	const char *vm = job->err == -EBUSY ? user_of(job->api, path) : NULL;

	if (vm != NULL) {
		errbuf_hint(&job->eb, "it is a disk of VM %s: stop that first", vm);
	}
}

static json_t *job_last_line(const struct disk_job *job)
{
	struct api_error error;

	if (job->err == 0) {
		return json_pack("{s:O}", "result", job->result);
	}
	api_error_from(&error, job->err, &job->eb);
	return api_error_json(&error);
}

/* The client has gone: nobody wants the disk any more. */
static void job_gone(void *arg)
{
	struct disk_job *job = arg;

	atomic_store(&job->cancel, true);
}

/* From now on the answer is a stream. */
static void job_stream(struct disk_job *job)
{
	const struct api_stream_cfg cfg = {.gone = job_gone, .arg = job};

	if (api_stream_begin(job->req, &cfg, &job->stream) != 0) {
		job->stream = NULL;
		job_gone(job);
	}
	job->req = NULL;
}

static void job_tell_end(struct disk_job *job)
{
	json_t *line;

	if (job->done_fn != NULL) {
		job->done_fn(job->done_arg, job->err, &job->eb);
		return;
	}
	if (job->req != NULL && (job->err != 0 || job->op == DISK_SHOW)) {
		(void)(job->err != 0 ? api_reply_errno(job->req, job->err, &job->eb)
		                     : api_reply(job->req, 200, json_incref(job->result)));
		return;
	}
	if (job->req != NULL) {
		job_stream(job);
	}
	line = job_last_line(job);
	if (job->stream != NULL && (line == NULL || api_stream_send(job->stream, line) != 0)) {
		log_info(TAG, "result not delivered op=%s", disk_op_name(job->op));
	}
	json_decref(line);
	api_stream_end(job->stream);
}

static void job_free(struct disk_job *job)
{
	json_decref(job->request);
	json_decref(job->result);
	free(job);
}

static void job_log(const struct disk_job *job)
{
	const char *path = json_string_value(json_object_get(job->request, "path"));

	if (job->op == DISK_SHOW) {
		return; /* changes nothing */
	}
	path = path != NULL ? path : "";
	if (job->err == 0) {
		log_info(TAG, "done op=%s path=%s", disk_op_name(job->op), path);
	} else {
		log_info(TAG, "failed op=%s path=%s reason=\"%s\"", disk_op_name(job->op), path,
		         errbuf_text(&job->eb, job->err));
	}
}

/* It is in no slot any more. */
static void job_finish(struct disk_job *job)
{
	CHECK(pthread_join(job->thread, NULL) == 0);
	if (job->err != 0) {
		job_explain(job);
	}
	job_log(job);
	job_tell_end(job);
	job_free(job);
}

static void job_tell_progress(struct disk_job *job)
{
	uint64_t total = atomic_load(&job->total);
	uint64_t done = atomic_load(&job->done);
	json_t *line;

	if (job->done_fn != NULL || job->op == DISK_SHOW || total == 0 || done == job->sent) {
		return;
	}
	if (job->req != NULL) {
		job_stream(job);
	}
	if (job->stream == NULL) {
		return;
	}
	job->sent = done;
	line = json_pack("{s:{s:I,s:I}}", "progress", "done", (json_int_t)done, "total",
	                 (json_int_t)total);
	if (line != NULL && api_stream_send(job->stream, line) != 0) {
		log_debug(TAG, "progress not delivered op=%s", disk_op_name(job->op));
	}
	json_decref(line);
}

static void on_wake(int fd, uint32_t events, void *arg)
{
	struct disk_api *api = arg;
	uint64_t count;

	(void)events;
	if (read(fd, &count, sizeof(count)) != sizeof(count)) {
		return;
	}
	for (uint32_t i = 0; i < DISK_API_JOBS_MAX; i++) {
		struct disk_job *job = api->jobs[i];

		if (job != NULL && atomic_load(&job->ended)) {
			api->jobs[i] = NULL;
			job_finish(job);
		} else if (job != NULL) {
			job_tell_progress(job);
		}
	}
}

/* ---- its begin ---- */

/* A free slot; NULL = none. */
static struct disk_job **job_slot(struct disk_api *api)
{
	for (uint32_t i = 0; i < DISK_API_JOBS_MAX; i++) {
		if (api->jobs[i] == NULL) {
			return &api->jobs[i];
		}
	}
	return NULL;
}

/* @request is taken, also on failure. */
static int job_new(struct disk_api *api, enum disk_op op, json_t *request, struct disk_job **out,
                   struct errbuf *eb)
{
	struct disk_job *job = NULL;
	int err = request != NULL ? 0 : -ENOMEM;

	if (err == 0 && api->stopped) {
		err = errbuf_set(eb, -EBUSY, "the node service is stopping");
	} else if (err == 0 && job_slot(api) == NULL) {
		err = errbuf_set(eb, -EBUSY, "%u operations on disks are under way already",
		                 DISK_API_JOBS_MAX);
		errbuf_hint(eb, "try again when one has ended");
	}
	if (err == 0) {
		job = gw_calloc(1, sizeof(*job));
		err = job != NULL ? 0 : -ENOMEM;
	}
	if (err != 0) {
		json_decref(request);
		return err;
	}
	job->api = api;
	job->op = op;
	job->request = request;
	*out = job;
	return 0;
}

static int job_start(struct disk_job *job)
{
	struct disk_job **slot = job_slot(job->api);
	int err;

	CHECK(slot != NULL); /* job_new() looked */
	err = -pthread_create(&job->thread, NULL, job_thread, job);
	if (err == 0) {
		*slot = job;
	}
	return err;
}

/* The body, with the path of the URL in it. */
static json_t *request_of(struct api_req *req, bool has_path)
{
	const json_t *body = api_req_body(req);
	json_t *request = body != NULL ? json_deep_copy(body) : json_object();

	if (request != NULL && has_path &&
	    json_object_set_new(request, "path", json_string(api_req_param(req, "path"))) != 0) {
		json_decref(request);
		request = NULL;
	}
	return request;
}

static enum api_then on_operation(struct api_req *req, struct disk_api *api, enum disk_op op)
{
	struct errbuf eb = {.text = ""};
	struct disk_job *job;
	int err = job_new(api, op, request_of(req, op != DISK_CREATE), &job, &eb);

	if (err == 0) {
		job->req = req;
		err = job_start(job);
		if (err == 0) {
			api_req_on_gone(req, job_gone, job);
			return API_LATER;
		}
		(void)errbuf_sys(&eb, err, "start a thread");
		job_free(job);
	}
	return api_reply_errno(req, err, &eb);
}

static enum api_then on_create(struct api_req *req, void *arg)
{
	return on_operation(req, arg, DISK_CREATE);
}

static enum api_then on_check(struct api_req *req, void *arg)
{
	return on_operation(req, arg, DISK_CHECK);
}

static enum api_then on_resize(struct api_req *req, void *arg)
{
	return on_operation(req, arg, DISK_RESIZE);
}

static enum api_then on_convert(struct api_req *req, void *arg)
{
	return on_operation(req, arg, DISK_CONVERT);
}

static enum api_then on_merge(struct api_req *req, void *arg)
{
	return on_operation(req, arg, DISK_MERGE);
}

static enum api_then on_show(struct api_req *req, void *arg)
{
	return on_operation(req, arg, DISK_SHOW);
}

static const struct api_route routes[] = {
	{API_POST, "/v1/disks", on_create},
	{API_GET, "/v1/disks/{path}", on_show},
	{API_POST, "/v1/disks/{path}/check", on_check},
	{API_POST, "/v1/disks/{path}/resize", on_resize},
	{API_POST, "/v1/disks/{path}/convert", on_convert},
	{API_POST, "/v1/disks/{path}/merge", on_merge},
};

int disk_api_make(struct disk_api *api, json_t *requests, disk_api_done_fn done, void *arg,
                  struct errbuf *eb)
{
	struct disk_job *job;
	int err = job_new(api, DISK_CREATE, requests, &job, eb);

	if (err != 0) {
		return err;
	}
	job->done_fn = done;
	job->done_arg = arg;
	err = job_start(job);
	if (err != 0) {
		job_free(job);
		return errbuf_sys(eb, err, "start a thread");
	}
	return 0;
}

void disk_api_unmake(const json_t *requests)
{
	unmake(requests, json_array_size(requests));
}

/* ---- life ---- */

int disk_api_create(struct loop *loop, struct api_server *server, struct disk_api **out,
                    struct errbuf *eb)
{
	struct disk_api *api = gw_calloc(1, sizeof(*api));
	int err;

	*out = NULL;
	if (api == NULL) {
		return errbuf_sys(eb, -ENOMEM, "disks");
	}
	api->loop = loop;
	api->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	err = api->wake_fd < 0 ? -errno : 0;
	if (err == 0) {
		err = loop_fd_add(loop, api->wake_fd, LOOP_READ, on_wake, api, &api->watch);
	}
	/* Last: the routes cannot be taken back. */
	if (err == 0) {
		err = api_server_routes(server, routes, ARRAY_LEN(routes), api);
	}
	if (err != 0) {
		disk_api_destroy(api);
		return errbuf_sys(eb, err, "disks");
	}
	*out = api;
	return 0;
}

void disk_api_manager(struct disk_api *api, struct manager *manager)
{
	api->manager = manager;
}

void disk_api_stop(struct disk_api *api)
{
	if (api == NULL) {
		return;
	}
	api->stopped = true;
	for (uint32_t i = 0; i < DISK_API_JOBS_MAX; i++) {
		if (api->jobs[i] != NULL) {
			job_gone(api->jobs[i]);
		}
	}
	for (uint32_t i = 0; i < DISK_API_JOBS_MAX; i++) {
		struct disk_job *job = api->jobs[i];

		if (job != NULL) {
			api->jobs[i] = NULL;
			job_finish(job);
		}
	}
}

void disk_api_destroy(struct disk_api *api)
{
	if (api == NULL) {
		return;
	}
	disk_api_stop(api);
	loop_fd_del(api->watch);
	if (api->wake_fd >= 0) {
		(void)close(api->wake_fd);
	}
	free(api);
}
