/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/base/api/thread.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/api/server.h"
#include "base/check.h"
#include "base/errbuf.h"
#include "base/json.h"
#include "base/loop.h"

static void thread_note_gone(struct api_thread *t)
{
	CHECK(pthread_mutex_lock(&t->lock) == 0);
	t->gone++;
	CHECK(pthread_cond_broadcast(&t->changed) == 0);
	CHECK(pthread_mutex_unlock(&t->lock) == 0);
}

/* ---- handlers ---- */

static enum api_then on_who(struct api_req *req, void *arg)
{
	const struct api_peer *peer = api_req_peer(req);
	struct json_build b;
	json_t *out = NULL;

	(void)arg;
	json_build_object(&b);
	json_add_str(&b, "param", api_req_param(req, "name"));
	json_add_str(&b, "name", peer->name);
	json_add_bool(&b, "local", peer->local);
	json_add_bool(&b, "node", peer->node);
	json_add_i64(&b, "pid", peer->pid);
	return json_build_end(&b, &out) == 0 ? api_reply(req, 200, out) : api_reply(req, 200, NULL);
}

static enum api_then on_echo(struct api_req *req, void *arg)
{
	(void)arg;
	return api_reply(req, 201, json_deep_copy(api_req_body(req)));
}

static enum api_then on_delete(struct api_req *req, void *arg)
{
	(void)arg;
	return api_reply(req, 204, NULL);
}

static enum api_then on_fail(struct api_req *req, void *arg)
{
	struct errbuf eb = {0};

	(void)arg;
	(void)errbuf_set(&eb, -EBUSY, "vm web1: is running\x1b[31m");
	errbuf_hint(&eb, "stop it first");
	return api_reply_errno(req, -EBUSY, &eb);
}

static enum api_then on_html(struct api_req *req, void *arg)
{
	(void)arg;
	return api_reply_bytes(req, "text/html", "<html>", 6);
}

static enum api_then on_big(struct api_req *req, void *arg)
{
	char *text = calloc(1, 3000001);
	json_t *out = NULL;

	(void)arg;
	CHECK(text != NULL);
	memset(text, 'x', 3000000);
	out = json_pack("{s:s}", "big", text);
	free(text);
	return api_reply(req, 200, out);
}

/* A request or a stream that nobody serves until its client vanishes. */
struct waiting {
	struct api_thread *t;
	struct api_req *req;
	struct api_stream *stream;
};

static void waiting_gone(void *arg)
{
	struct waiting *w = arg;

	thread_note_gone(w->t);
	if (w->req != NULL) {
		(void)api_reply(w->req, 200, json_object());
	}
	api_stream_end(w->stream);
	free(w);
}

static enum api_then on_slow(struct api_req *req, void *arg)
{
	struct waiting *w = calloc(1, sizeof(*w));

	CHECK(w != NULL);
	w->t = arg;
	w->req = req;
	api_req_on_gone(req, waiting_gone, w);
	return API_LATER;
}

static enum api_then on_follow(struct api_req *req, void *arg)
{
	struct waiting *w = calloc(1, sizeof(*w));
	const struct api_stream_cfg cfg = {.gone = waiting_gone, .arg = w};
	json_t *event = json_pack("{s:i}", "n", 1);

	CHECK(w != NULL);
	w->t = arg;
	CHECK(api_stream_begin(req, &cfg, &w->stream) == 0);
	CHECK(api_stream_send(w->stream, event) == 0);
	json_decref(event);
	return API_ANSWERED;
}

static enum api_then on_events(struct api_req *req, void *arg)
{
	const char *count = api_req_query(req, "count");
	const struct api_stream_cfg cfg = {.queue_bytes_max = 4u << 20};
	struct api_stream *stream = NULL;

	(void)arg;
	CHECK(count != NULL && api_stream_begin(req, &cfg, &stream) == 0);
	for (unsigned long i = 0; i < strtoul(count, NULL, 10); i++) {
		json_t *event = json_pack("{s:i}", "n", (int)i);

		CHECK(api_stream_send(stream, event) == 0);
		json_decref(event);
	}
	api_stream_end(stream);
	return API_ANSWERED;
}

/* One good event, then more than the queue takes: cut off in the middle. */
static enum api_then on_cut(struct api_req *req, void *arg)
{
	struct waiting *w = calloc(1, sizeof(*w));
	const struct api_stream_cfg cfg = {.queue_bytes_max = 100, .gone = waiting_gone, .arg = w};
	char block[200] = {0};

	CHECK(w != NULL);
	w->t = arg;
	CHECK(api_stream_begin(req, &cfg, &w->stream) == 0);
	CHECK(api_stream_write(w->stream, block, sizeof(block)) == -ENOBUFS);
	return API_ANSWERED;
}

static enum api_then on_nonsense(struct api_req *req, void *arg)
{
	struct api_stream *stream = NULL;

	(void)arg;
	CHECK(api_stream_begin(req, &(struct api_stream_cfg){0}, &stream) == 0);
	CHECK(api_stream_write(stream, "{\"n\":1}\n{nonsense\n", 18) == 0);
	api_stream_end(stream);
	return API_ANSWERED;
}

/* Says everything back, until the end. A thread is the simplest echo; the loop is not held up. */
static void *echo_main(void *arg)
{
	int fd = (int)(intptr_t)arg;
	char buf[4096];
	ssize_t n = 0;

	while ((n = recv(fd, buf, sizeof(buf), 0)) > 0) {
		CHECK(send(fd, buf, (size_t)n, MSG_NOSIGNAL) == n);
	}
	(void)close(fd);
	return NULL;
}

static void echo_start(int fd, const void *early, size_t len, void *arg)
{
	pthread_t thread;

	(void)arg;
	if (fd < 0) {
		return;
	}
	CHECK(fcntl(fd, F_SETFL, 0) == 0); /* blocking */
	CHECK(len == 0 || send(fd, early, len, MSG_NOSIGNAL) == (ssize_t)len);
	CHECK(pthread_create(&thread, NULL, echo_main, (void *)(intptr_t)fd) == 0);
	CHECK(pthread_detach(thread) == 0); /* it ends with its socket */
}

static enum api_then on_console(struct api_req *req, void *arg)
{
	return api_reply_upgrade(req, "godwit-console", echo_start, arg);
}

static const struct api_route routes[] = {
	{API_GET, "/v1/who/{name}", on_who},
	{API_POST, "/v1/echo", on_echo},
	{API_DELETE, "/v1/vms/{name}", on_delete},
	{API_POST, "/v1/fail", on_fail},
	{API_GET, "/v1/html", on_html},
	{API_GET, "/v1/big", on_big},
	{API_GET, "/v1/slow", on_slow},
	{API_GET, "/v1/follow", on_follow},
	{API_GET, "/v1/events", on_events},
	{API_GET, "/v1/cut", on_cut},
	{API_GET, "/v1/nonsense", on_nonsense},
	{API_GET, "/v1/console", on_console},
};

/* ---- life ---- */

static void *thread_main(void *arg)
{
	struct api_thread *t = arg;
	struct api_server *server = NULL;
	const struct api_listen_unix listen = {
		.path = t->path, .mode = 0600, .owner = (uid_t)-1, .group = (gid_t)-1};

	CHECK(loop_create(&t->loop) == 0);

	const struct api_server_cfg cfg = {.loop = t->loop};

	CHECK(api_server_create(&cfg, &server, NULL) == 0);
	CHECK(api_server_routes(server, routes, ARRAY_LEN(routes), t) == 0);
	CHECK(api_server_listen_unix(server, &listen, NULL) == 0);
	if (t->tls != NULL) {
		CHECK(api_server_listen_tls(server, "127.0.0.1", 0, t->tls, NULL) == 0);
		t->port = api_server_tls_port(server);
	}
	CHECK(pthread_mutex_lock(&t->lock) == 0);
	t->ready = true;
	CHECK(pthread_cond_broadcast(&t->changed) == 0);
	CHECK(pthread_mutex_unlock(&t->lock) == 0);
	loop_run(t->loop);
	api_server_destroy(server);
	return NULL;
}

void api_thread_start(struct api_thread *t, struct tls_ctx *tls)
{
	memset(t, 0, sizeof(*t));
	(void)snprintf(t->path, sizeof(t->path), "/tmp/gw-api-thread-%d.sock", getpid());
	t->tls = tls;
	CHECK(pthread_mutex_init(&t->lock, NULL) == 0);
	CHECK(pthread_cond_init(&t->changed, NULL) == 0);
	CHECK(pthread_create(&t->thread, NULL, thread_main, t) == 0);
	CHECK(pthread_mutex_lock(&t->lock) == 0);
	while (!t->ready) {
		CHECK(pthread_cond_wait(&t->changed, &t->lock) == 0);
	}
	CHECK(pthread_mutex_unlock(&t->lock) == 0);
}

bool api_thread_wait_gone(struct api_thread *t, unsigned count)
{
	struct timespec deadline;
	bool done = false;

	CHECK(clock_gettime(CLOCK_REALTIME, &deadline) == 0);
	deadline.tv_sec += 5;
	CHECK(pthread_mutex_lock(&t->lock) == 0);
	while (t->gone < count && pthread_cond_timedwait(&t->changed, &t->lock, &deadline) == 0) {
	}
	done = t->gone >= count;
	CHECK(pthread_mutex_unlock(&t->lock) == 0);
	return done;
}

void api_thread_stop(struct api_thread *t)
{
	char lock[80];

	loop_stop(t->loop);
	CHECK(pthread_join(t->thread, NULL) == 0);
	loop_destroy(t->loop);
	(void)snprintf(lock, sizeof(lock), "%s.lock", t->path);
	(void)unlink(lock);
	(void)pthread_mutex_destroy(&t->lock);
	(void)pthread_cond_destroy(&t->changed);
}
