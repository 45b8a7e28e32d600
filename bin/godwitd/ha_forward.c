/* SPDX-License-Identifier: Apache-2.0 */

/*
 * ha_forward - requests about a VM of the cluster that its owner has to answer: they are made again
 * there, over TLS as this node, and the answer is handed on. A request that was handed on already
 * ("from" in its query) is not handed on again.
 *
 *	most        one call, its answer
 *	log         bytes
 *	console     a stream: peer_relay()
 *	move        the job is the owner's; one of ours follows it, so that it can be watched here
 */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/api/server.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "bin/godwitd/ha_int.h"
#include "bin/godwitd/job_api.h"
#include "bin/godwitd/peer.h"
#include "hv/manager/vm_move.h"

#define FORWARD_PATH_MAX 320
#define FORWARD_MS 30000u
#define FORWARD_LONG_MS 120000u /* a guest is asked to do something */
#define FORWARD_SHOW_MS 3000u   /* else what the database knows will do */
#define FOLLOW_NS (500 * NS_PER_MS)
#define FOLLOW_LOST_NS (30 * NS_PER_S)

struct ha_forward {
	struct list link;
	struct ha_api *api;
	struct api_req *req; /* NULL: answered */
	enum vm_api_ask what;
	bool calling;
	char vm[ROLE_NAME_MAX];
	struct vm_move_peer peer;
	/* A move: */
	bool moves;
	struct job *job; /* ours; NULL: the move has not begun */
	uint64_t remote; /* number of the owner's job */
	uint64_t next_ns;
	uint64_t heard_ns;
};

static const char *verb_of(enum vm_api_ask what)
{
	switch (what) {
	case VM_API_RESTART:
		return "/restart";
	case VM_API_PAUSE:
		return "/pause";
	case VM_API_RESUME:
		return "/resume";
	case VM_API_STOP:
		return "/stop";
	case VM_API_CONSOLE:
		return "/console";
	case VM_API_LOG:
		return "/log";
	case VM_API_SHOW:
	case VM_API_SET:
	case VM_API_DELETE:
	case VM_API_START:
	case VM_API_SAVE:
		break;
	}
	return "";
}

/* Path of the VM at its owner. */
static void vm_path(const struct ha_forward *f, const char *verb, const char *more,
                    char buf[FORWARD_PATH_MAX])
{
	char *vm = api_path("/v1/vms/{name}", f->vm);
	char *from = api_path("?from={node}", f->api->node);

	(void)snprintf(buf, FORWARD_PATH_MAX, "%s%s%s%s", vm != NULL ? vm : "", verb,
	               from != NULL ? from : "", more);
	free(vm);
	free(from);
}

static void forward_free(struct ha_forward *f)
{
	list_del(&f->link);
	free(f);
}

static void forward_reply(struct ha_forward *f, int err, json_t *answer, const struct errbuf *eb)
{
	struct api_req *req = f->req;
	struct errbuf why = eb != NULL ? *eb : (struct errbuf){0};

	f->req = NULL;
	if (err == 0) {
		(void)api_reply(req, 200, answer != NULL ? json_incref(answer) : json_object());
		return;
	}
	if (err == -EHOSTUNREACH || err == -ETIMEDOUT || err == -ECONNREFUSED ||
	    err == -ECONNRESET) {
		errbuf_prepend(&why, "%s runs on %s, which does not answer", f->vm, f->peer.name);
	}
	(void)api_reply_errno(req, err, &why);
}

static void on_answer(void *arg, int err, json_t *answer, const struct errbuf *eb)
{
	struct ha_forward *f = arg;

	f->calling = false;
	if (f->req != NULL && f->what == VM_API_SHOW && err != 0) {
		struct api_req *req = f->req;

		f->req = NULL;
		ha_show_remote(f->api, req, f->vm);
	} else if (f->req != NULL) {
		forward_reply(f, err, answer, eb);
	}
	forward_free(f);
}

static void on_bytes(void *arg, int err, const void *buf, size_t len, const struct errbuf *eb)
{
	struct ha_forward *f = arg;

	f->calling = false;
	if (f->req != NULL && err == 0) {
		(void)api_reply_bytes(f->req, "text/plain", buf != NULL ? buf : "", len);
	} else if (f->req != NULL) {
		forward_reply(f, err, NULL, eb);
	}
	forward_free(f);
}

static void on_upgraded(int fd, const void *early, size_t len, void *arg)
{
	struct ha_forward *f = arg;
	char path[FORWARD_PATH_MAX];
	struct peer_call call = {.node = f->peer.name,
	                         .addr = f->peer.addr,
	                         .port = f->peer.port,
	                         .path = path,
	                         .timeout_ms = FORWARD_MS};
	struct errbuf eb = {0};

	(void)early; /* as on a serial line, see vm_api.c */
	(void)len;
	if (fd >= 0) { /* else we may be ending */
		vm_path(f, "/console", "", path);
		if (peer_relay(f->api->cfg.peers, &call, "godwit-console", fd, &eb) != 0) {
			log_warn(HA_TAG, "no console vm=%s text=\"%s\"", f->vm, eb.text);
		}
	}
	forward_free(f);
}

static struct ha_forward *forward_new(struct ha_api *api, struct api_req *req, const struct role *r,
                                      struct errbuf *eb)
{
	struct ha_forward *f;

	if (!role_owned(r->state)) {
		(void)errbuf_set(eb, -ENOTCONN, "%s is %s", r->name, role_state_name(r->state));
		(void)api_reply_errno(req, -ENOTCONN, eb);
		return NULL;
	}
	if (api_req_query(req, "from") != NULL || r->owner.node == api->place.nodeid) {
		(void)errbuf_set(eb, -EREMOTE, "%s is on its way to or from %s", r->name,
		                 ha_node_name(api, r->owner.node));
		errbuf_hint(eb, "ask again in a moment");
		(void)api_reply_errno(req, -EREMOTE, eb);
		return NULL;
	}
	f = gw_calloc(1, sizeof(*f));
	if (f == NULL || ha_peer_of(api, r->owner.node, &f->peer, eb) != 0) {
		(void)api_reply_errno(req, f == NULL ? -ENOMEM : -ENOENT, eb);
		free(f);
		return NULL;
	}
	f->api = api;
	f->req = req;
	(void)snprintf(f->vm, sizeof(f->vm), "%s", r->name);
	list_add_tail(&api->forwards, &f->link);
	return f;
}

void ha_forward(struct ha_api *api, struct api_req *req, const struct role *r, enum vm_api_ask what)
{
	struct errbuf eb = {0};
	struct ha_forward *f = forward_new(api, req, r, &eb);
	char path[FORWARD_PATH_MAX];
	struct peer_call call = {.path = path, .method = api_req_method(req)};
	int err;

	if (f == NULL) {
		return;
	}
	f->what = what;
	if (what == VM_API_CONSOLE) {
		list_del(&f->link); /* on_upgraded() comes in any case */
		list_init(&f->link);
		(void)api_reply_upgrade(req, "godwit-console", on_upgraded, f);
		return;
	}
	vm_path(f, verb_of(what),
	        api_req_query(req, "off") != NULL     ? "&off"
	        : api_req_query(req, "reset") != NULL ? "&reset"
	                                              : "",
	        path);
	call.node = f->peer.name;
	call.addr = f->peer.addr;
	call.port = f->peer.port;
	call.body = api_req_body(req);
	call.timeout_ms = what == VM_API_SHOW                             ? FORWARD_SHOW_MS
	                  : what == VM_API_RESTART || what == VM_API_STOP ? FORWARD_LONG_MS
	                                                                  : FORWARD_MS;
	f->calling = true;
	err = what == VM_API_LOG ? peer_bytes(api->cfg.peers, &call, on_bytes, f, &eb)
	                         : peer_call(api->cfg.peers, &call, on_answer, f, &eb);
	if (err != 0) {
		forward_reply(f, err, NULL, &eb);
		forward_free(f);
	}
}

/* ---- moves ---- */

static void follow_end(struct ha_forward *f, int err, const struct errbuf *eb, json_t *result)
{
	job_end(f->job, err, eb, result);
	forward_free(f);
}

static void on_followed(void *arg, int err, json_t *answer, const struct errbuf *eb)
{
	struct ha_forward *f = arg;
	const json_t *error = json_object_get(answer, "error");
	const char *state = json_string_value(json_object_get(answer, "state"));
	struct errbuf why = {0};

	f->calling = false;
	if (f->job == NULL) {
		forward_free(f); /* we are stopping */
		return;
	}
	f->next_ns = clock_now_ns() + FOLLOW_NS;
	if (err != 0 || state == NULL) {
		if (err == -ENOENT || clock_now_ns() > f->heard_ns + FOLLOW_LOST_NS) {
			(void)errbuf_set(&why, -ECONNRESET, "%s does not say how it ended: %s",
			                 f->peer.name, errbuf_text(eb, err));
			follow_end(f, -ECONNRESET, &why, NULL);
		}
		return;
	}
	f->heard_ns = clock_now_ns();
	if (strcmp(state, "running") == 0 || strcmp(state, "queued") == 0) {
		json_t *progress = json_object_get(answer, "progress");

		job_progress(f->job, progress != NULL ? json_deep_copy(progress) : NULL);
		return;
	}
	if (error != NULL) {
		const char *code = json_string_value(json_object_get(error, "code"));
		const char *text = json_string_value(json_object_get(error, "message"));
		const char *hint = json_string_value(json_object_get(error, "hint"));

		err = api_error_errno(code != NULL ? code : "", 500);
		err = strcmp(state, "cancelled") == 0 ? -ECANCELED : err;
		(void)errbuf_set(&why, err, "%s", text != NULL ? text : "it failed");
		errbuf_hint(&why, "%s", hint != NULL ? hint : "");
	}
	follow_end(f, err, &why, json_deep_copy(json_object_get(answer, "result")));
}

static int job_call(struct ha_forward *f, enum api_method method, const char *verb, peer_done_fn fn,
                    struct errbuf *eb)
{
	char path[64];
	const struct peer_call call = {.node = f->peer.name,
	                               .addr = f->peer.addr,
	                               .port = f->peer.port,
	                               .method = method,
	                               .path = path,
	                               .timeout_ms = FORWARD_MS};

	(void)snprintf(path, sizeof(path), "/v1/jobs/%" PRIu64 "%s", f->remote, verb);
	return peer_call(f->api->cfg.peers, &call, fn, f, eb);
}

static void on_cancelled(void *arg, int err, json_t *answer, const struct errbuf *eb)
{
	(void)answer;
	if (err != 0) {
		log_info(HA_TAG, "a move is not cancelled text=\"%s\"", errbuf_text(eb, err));
	}
	on_followed(arg, -EAGAIN, NULL, eb); /* the next look says what became of it */
}

static int follow_cancel(void *arg, struct errbuf *eb)
{
	struct ha_forward *f = arg;
	int err = f->calling ? errbuf_set(eb, -EBUSY, "%s is being asked; try again", f->peer.name)
	                     : job_call(f, API_POST, "/cancel", on_cancelled, eb);

	f->calling = f->calling || err == 0;
	return err;
}

static void on_moving(void *arg, int err, json_t *answer, const struct errbuf *eb)
{
	struct ha_forward *f = arg;
	const char *object = json_string_value(json_object_get(answer, "object"));
	const char *text = json_string_value(json_object_get(answer, "text"));
	json_int_t id = json_integer_value(json_object_get(answer, "id"));
	const char *kind = json_string_value(json_object_get(answer, "kind"));
	const struct job_cfg cfg = {
		.kind = kind != NULL && strcmp(kind, "move-check") == 0 ? "move-check" : "move",
		.object = object != NULL ? object : "",
		.text = text != NULL ? text : "",
		.cancel = follow_cancel,
		.arg = f};
	struct errbuf why = {0};
	struct api_req *req = f->req;

	f->calling = false;
	if (req == NULL) {
		forward_free(f);
		return;
	}
	if (err == 0 && id <= 0) {
		err = errbuf_set(&why, -EPROTO, "%s sent no job", f->peer.name);
		eb = &why;
	}
	if (err == 0) {
		err = job_new(f->api->cfg.jobs, &cfg, &f->job, &why);
		eb = &why;
	}
	if (err != 0) {
		forward_reply(f, err, NULL, eb);
		forward_free(f);
		return;
	}
	f->req = NULL;
	f->remote = (uint64_t)id;
	f->heard_ns = clock_now_ns();
	(void)api_reply(req, 202, job_json(f->job));
}

bool ha_forward_move(struct ha_api *api, struct api_req *req, const char *name)
{
	const struct role *r = api->ha == NULL
	                               ? NULL
	                               : role_table_role(member_roles(api->place.member),
	                                                 member_role_find(api->place.member, name));
	struct errbuf eb = {0};
	struct ha_forward *f;
	char path[FORWARD_PATH_MAX];
	struct peer_call call = {.path = path,
	                         .method = API_POST,
	                         .body = api_req_body(req),
	                         .timeout_ms = FORWARD_MS};
	int err;

	if (r == NULL) {
		return false;
	}
	f = forward_new(api, req, r, &eb);
	if (f == NULL) {
		return true;
	}
	f->moves = true;
	f->calling = true;
	vm_path(f, "/move", "", path);
	call.node = f->peer.name;
	call.addr = f->peer.addr;
	call.port = f->peer.port;
	err = peer_call(api->cfg.peers, &call, on_moving, f, &eb);
	if (err != 0) {
		forward_reply(f, err, NULL, &eb);
		forward_free(f);
	}
	return true;
}

/* ---- life ---- */

void ha_forward_look(struct ha_api *api)
{
	list_for_each_safe(link, &api->forwards)
	{
		struct ha_forward *f = list_entry(link, struct ha_forward, link);
		struct errbuf eb = {0};

		if (f->job != NULL && !f->calling && clock_now_ns() >= f->next_ns) {
			f->next_ns = clock_now_ns() + FOLLOW_NS;
			f->calling = job_call(f, API_GET, "", on_followed, &eb) == 0;
		}
	}
}

void ha_forward_stop(struct ha_api *api)
{
	list_for_each_safe(link, &api->forwards)
	{
		struct ha_forward *f = list_entry(link, struct ha_forward, link);
		struct errbuf eb = {0};

		(void)errbuf_set(&eb, -ECANCELED, "the node service is stopping");
		if (f->req != NULL) {
			struct api_req *req = f->req;

			f->req = NULL;
			(void)api_reply_errno(req, -ECANCELED, &eb);
		}
		if (f->job != NULL) {
			job_end(f->job, -ECANCELED, &eb, NULL);
			f->job = NULL;
			if (!f->calling) {
				forward_free(f);
			}
		}
	}
}

void ha_forward_fini(struct ha_api *api)
{
	list_for_each_safe(link, &api->forwards)
	{
		forward_free(list_entry(link, struct ha_forward, link));
	}
}
