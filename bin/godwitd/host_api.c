/* SPDX-License-Identifier: Apache-2.0 */
#include "bin/godwitd/host_api.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/api/server.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "base/json.h"
#include "base/log.h"
#include "base/loop.h"
#include "bin/common/hostinfo.h"
#include "bin/common/version.h"

#define TAG "host-api"
#define WAITING_MAX 64u /* requests that share one look; more are told to come back */
#define SOURCE "godwitd"

typedef int (*look_fn)(const char *state_dir, const char *source, json_t **out, struct errbuf *eb);

/*
 * One kind of look. Idle (running false): no thread, nobody waits. Running: the thread owns
 * result, err and eb until it writes to done_fd; the loop owns the rest.
 */
struct look {
	struct host_api *api; /* borrowed: embeds us */
	look_fn fn;
	bool running;
	pthread_t thread;
	int done_fd; /* eventfd */
	struct loop_fd *watch;
	struct api_req *waiting[WAITING_MAX]; /* owned until answered */
	uint32_t waiting_count;
	json_t *result; /* owned; NULL if err < 0 */
	int err;
	struct errbuf eb;
};

struct host_api {
	struct loop *loop;     /* borrowed */
	const char *state_dir; /* borrowed */
	bool stopped;
	struct look check;
	struct look show;
};

static void *look_thread(void *arg)
{
	struct look *look = arg;
	uint64_t one = 1;

	look->err = look->fn(look->api->state_dir, SOURCE, &look->result, &look->eb);
	if (write(look->done_fd, &one, sizeof(one)) != sizeof(one)) {
		/* Cannot be for an eventfd at 0; host_api_stop() would still find us. */
		log_err(TAG, "cannot report the end of a look error=%s", strerrorname_np(errno));
	}
	return NULL;
}

/* Join the thread and answer all who wait. */
static void look_finish(struct look *look)
{
	uint32_t count = look->waiting_count;

	(void)pthread_join(look->thread, NULL);
	look->running = false;
	look->waiting_count = 0;
	for (uint32_t i = 0; i < count; i++) {
		if (look->err < 0) {
			(void)api_reply_errno(look->waiting[i], look->err, &look->eb);
		} else {
			(void)api_reply(look->waiting[i], 200, json_incref(look->result));
		}
	}
	if (look->err < 0) {
		log_err(TAG, "cannot look at this host error=%s text=\"%s\"",
		        strerrorname_np(-look->err), errbuf_text(&look->eb, look->err));
	}
	json_decref(look->result);
	look->result = NULL;
}

static void on_done(int fd, uint32_t events, void *arg)
{
	struct look *look = arg;
	uint64_t count;

	(void)events;
	if (read(fd, &count, sizeof(count)) == sizeof(count)) {
		look_finish(look);
	}
}

static int look_start(struct look *look)
{
	look->eb = (struct errbuf){0};
	look->err = 0;

	int err = -pthread_create(&look->thread, NULL, look_thread, look);

	look->running = err == 0;
	return err;
}

static enum api_then look_request(struct look *look, struct api_req *req)
{
	struct errbuf eb = {0};

	if (look->api->stopped) {
		return api_reply_errno(req, errbuf_set(&eb, -EBUSY, "godwitd is stopping"), &eb);
	}
	if (look->waiting_count == WAITING_MAX) {
		return api_reply_errno(
			req, errbuf_set(&eb, -EBUSY, "too many ask about this host at once"), &eb);
	}
	if (!look->running) {
		int err = look_start(look);

		if (err < 0) {
			return api_reply_errno(req, errbuf_sys(&eb, err, "start a thread"), &eb);
		}
	}
	look->waiting[look->waiting_count++] = req;
	return API_LATER;
}

static enum api_then on_check(struct api_req *req, void *arg)
{
	struct host_api *api = arg;

	return look_request(&api->check, req);
}

static enum api_then on_show(struct api_req *req, void *arg)
{
	struct host_api *api = arg;

	return look_request(&api->show, req);
}

static enum api_then on_version(struct api_req *req, void *arg)
{
	struct json_build b;
	json_t *json;

	(void)arg;
	json_build_object(&b);
	json_add_str(&b, "version", godwit_version);
	json_add_u64(&b, "api", GODWIT_API_VERSION);
	json_add_u64(&b, "pid", (uint64_t)getpid());

	int err = json_build_end(&b, &json);

	return err < 0 ? api_reply_errno(req, err, NULL) : api_reply(req, 200, json);
}

static const struct api_route routes[] = {
	{API_GET, "/v1/version", on_version},
	{API_GET, "/v1/host", on_show},
	{API_GET, "/v1/host/check", on_check},
};

static int look_init(struct look *look, struct host_api *api, look_fn fn)
{
	look->api = api;
	look->fn = fn;
	look->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (look->done_fd < 0) {
		return -errno;
	}
	return loop_fd_add(api->loop, look->done_fd, LOOP_READ, on_done, look, &look->watch);
}

static void look_fini(struct look *look)
{
	loop_fd_del(look->watch);
	if (look->done_fd >= 0) {
		(void)close(look->done_fd);
	}
}

int host_api_create(struct loop *loop, struct api_server *server, const char *state_dir,
                    struct host_api **out, struct errbuf *eb)
{
	struct host_api *api = gw_calloc(1, sizeof(*api));
	int err;

	*out = NULL;
	if (api == NULL) {
		return errbuf_set(eb, -ENOMEM, "out of memory");
	}
	api->loop = loop;
	api->state_dir = state_dir;
	api->check.done_fd = -1;
	api->show.done_fd = -1;
	err = look_init(&api->check, api, hostinfo_check);
	if (err == 0) {
		err = look_init(&api->show, api, hostinfo_show);
	}
	/* Last: the routes cannot be taken back. */
	if (err == 0) {
		err = api_server_routes(server, routes, ARRAY_LEN(routes), api);
	}
	if (err < 0) {
		host_api_destroy(api);
		return errbuf_sys(eb, err, "host API");
	}
	*out = api;
	return 0;
}

void host_api_stop(struct host_api *api)
{
	if (api == NULL) {
		return;
	}
	api->stopped = true;
	if (api->check.running) {
		look_finish(&api->check);
	}
	if (api->show.running) {
		look_finish(&api->show);
	}
}

void host_api_destroy(struct host_api *api)
{
	if (api == NULL) {
		return;
	}
	look_fini(&api->check);
	look_fini(&api->show);
	free(api);
}
