/* SPDX-License-Identifier: Apache-2.0 */

/*
 * api_fuzz - any bytes, in any pieces, on a connection to the API server in this process. The
 * conversation must end when the client has finished, and the server must serve the next one.
 *
 * The first byte says how: low 4 bits, the size of the pieces; 0x10, hang up instead of finishing.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/api/server.h"
#include "base/check.h"
#include "base/json.h"
#include "base/loop.h"
#include "tests/lib/http.h"

#define FUZZ_ALIVE_EVERY 64
#define FUZZ_END_MS 3000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

struct fuzz {
	struct loop *loop;
	struct api_server *server;
	struct api_req *later;
	unsigned runs;
};

static enum api_then on_any(struct api_req *req, void *arg)
{
	struct json_build b;
	json_t *out = NULL;

	(void)arg;
	json_build_object(&b);
	json_add_str(&b, "name", api_req_param(req, "name"));
	json_add_str(&b, "q", api_req_query(req, "q"));
	if (api_req_body(req) != NULL) {
		json_add(&b, "body", json_deep_copy(api_req_body(req)));
	}
	return json_build_end(&b, &out) == 0 ? api_reply(req, 200, out)
	                                     : api_reply_errno(req, -EINVAL, NULL);
}

static void answer_later(void *arg)
{
	(void)api_reply(arg, 200, json_object());
}

static enum api_then on_later(struct api_req *req, void *arg)
{
	struct fuzz *f = arg;

	CHECK(loop_post(f->loop, answer_later, req) == 0);
	return API_LATER;
}

static enum api_then on_events(struct api_req *req, void *arg)
{
	struct api_stream *stream = NULL;
	json_t *event = json_pack("{s:i}", "n", 1);

	(void)arg;
	CHECK(api_stream_begin(req, &(struct api_stream_cfg){.queue_bytes_max = 100}, &stream) ==
	      0);
	for (int i = 0; i < 3; i++) {
		CHECK(api_stream_send(stream, event) == 0);
	}
	json_decref(event);
	api_stream_end(stream);
	return API_ANSWERED;
}

static void close_upgraded(int fd, const void *early, size_t len, void *arg)
{
	(void)early;
	(void)len;
	(void)arg;
	if (fd >= 0) {
		(void)close(fd);
	}
}

static enum api_then on_console(struct api_req *req, void *arg)
{
	return api_reply_upgrade(req, "c", close_upgraded, arg);
}

static const struct api_route routes[] = {
	{API_GET, "/v1/a/{name}", on_any},    {API_POST, "/v1/a/{name}", on_any},
	{API_PATCH, "/v1/a/{name}", on_any},  {API_POST, "/v1/later", on_later},
	{API_GET, "/v1/events", on_events},   {API_GET, "/v1/c", on_console},
	{API_DELETE, "/v1/{name}/b", on_any},
};

static struct fuzz *fuzz_get(void)
{
	static struct fuzz f; /* a fuzz target is a program of its own */

	if (f.loop == NULL) {
		CHECK(loop_create(&f.loop) == 0);

		const struct api_server_cfg cfg = {.loop = f.loop, .body_bytes_max = 4096};

		CHECK(api_server_create(&cfg, &f.server, NULL) == 0);
		CHECK(api_server_routes(f.server, routes, ARRAY_LEN(routes), &f) == 0);
	}
	return &f;
}

/* The server may answer and close before everything was sent: that is its right. */
static void fuzz_send(struct http *h, const uint8_t *data, size_t len, size_t piece)
{
	while (len != 0) {
		size_t n = piece != 0 && piece < len ? piece : len;

		if (http_send(h, data, n) != 0) {
			return;
		}
		data += n;
		len -= n;
		if (piece != 0) {
			http_spin(h->loop, 0);
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct fuzz *f = fuzz_get();
	struct http h;

	if (len == 0 || len > 20000) {
		return 0;
	}
	CHECK(http_open(&h, f->loop, f->server) == 0);
	fuzz_send(&h, data + 1, len - 1, (size_t)(data[0] & 15) * 8);
	if ((data[0] & 0x10) == 0) {
		CHECK(shutdown(h.fd, SHUT_WR) == 0 || errno == ENOTCONN);
		CHECK(http_wait_eof(&h, FUZZ_END_MS));
	}
	http_close(&h);
	if (++f->runs % FUZZ_ALIVE_EVERY == 0) {
		CHECK(http_open(&h, f->loop, f->server) == 0);
		CHECK(http_ask(&h, "GET", "/v1/a/alive", NULL) == 200);
		http_close(&h);
	}
	return 0;
}
