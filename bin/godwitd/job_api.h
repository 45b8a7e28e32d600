/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BIN_GODWITD_JOB_API_H
#define BIN_GODWITD_JOB_API_H

/*
 * job_api - work that takes long: what it is about, how far it is, how it ended, a way to stop it.
 *
 *   QUEUED -> RUNNING -> DONE | FAILED | CANCELLED
 *
 * GET /v1/jobs, GET /v1/jobs/{id}, GET /v1/jobs/{id}/watch (one JSON object per line: the job as it
 * is now, then at every change, the last one is its end), POST /v1/jobs/{id}/cancel.
 *
 * The last JOB_KEEP jobs are kept in memory; the last number given is kept in the store, so that
 * after a restart of the service nobody watches a stranger. Thread: the loop's.
 */

#include <stdint.h>

#include "base/attr.h"
#include "base/json.h"

struct api_req;
struct api_server;
struct errbuf;
struct job;
struct job_api;
struct vm_store;

#define JOB_KEEP 128u
#define JOB_WATCHERS_MAX 32u /* of all jobs */

enum job_state { JOB_QUEUED, JOB_RUNNING, JOB_DONE, JOB_FAILED, JOB_CANCELLED, JOB_STATE_COUNT };

struct job_cfg {
	const char *kind;   /* "move"; static */
	const char *object; /* "vm/web1"; copied */
	const char *text;   /* "web1 from n1 to n2", for people; copied */
	/* Somebody wants it stopped: it ends soon by job_end(-ECANCELED), or goes on if that is too
	 * late. Returns 0; -EBUSY too late, with the reason. NULL: cannot be stopped. */
	int (*cancel)(void *arg, struct errbuf *eb);
	void *arg;
};

/* job_api_create() - @server, @store: borrowed until job_api_destroy(). Returns 0; -ENOMEM; -errno
 * of the store. */
MUST_USE int job_api_create(struct api_server *server, struct vm_store *store, struct job_api **out,
                            struct errbuf *eb);

/* job_api_stop() - end the streams, before the server is destroyed. */
void job_api_stop(struct job_api *api);
void job_api_destroy(struct job_api *api);

/*
 * job_new() - a job, QUEUED. It stays valid until job_end().
 * Returns 0; -EBUSY JOB_KEEP jobs are under way; -ENOMEM; -errno of the store.
 */
MUST_USE int job_new(struct job_api *api, const struct job_cfg *cfg, struct job **out,
                     struct errbuf *eb);

/* job_progress() - it runs, and is so far: @progress (taken; NULL = nothing to tell). */
void job_progress(struct job *job, json_t *progress);

/*
 * job_end() - it is over: 0, -ECANCELED or another -errno with @eb. @result: taken; NULL = none.
 * The caller forgets @job.
 */
void job_end(struct job *job, int err, const struct errbuf *eb, json_t *result);

/* job_json() - as the API shows it: a new reference; NULL = no memory. */
json_t *job_json(const struct job *job);

#endif
