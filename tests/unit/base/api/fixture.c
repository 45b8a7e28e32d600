/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/base/api/fixture.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/errbuf.h"
#include "base/json.h"
#include "base/loop.h"
#include "tests/lib/test.h"

/* ---- handlers ---- */

static enum api_then on_echo(struct api_req *req, void *arg)
{
	struct fixture *f = arg;
	struct json_build b;
	json_t *out = NULL;

	f->handled++;
	json_build_object(&b);
	json_add_str(&b, "name", api_req_param(req, "name"));
	json_add_str(&b, "query", api_req_query(req, "q"));
	json_add_str(&b, "method", api_method_name(api_req_method(req)));
	json_add_u64(&b, "uid", api_req_peer(req)->uid);
	if (api_req_body(req) != NULL) {
		json_add(&b, "body", json_deep_copy(api_req_body(req)));
	}
	return json_build_end(&b, &out) == 0 ? api_reply(req, 200, out) : api_reply(req, 200, NULL);
}

static enum api_then on_fixed(struct api_req *req, void *arg)
{
	(void)arg;
	return api_reply(req, 200, json_pack("{s:s}", "which", "fixed"));
}

static enum api_then on_nothing(struct api_req *req, void *arg)
{
	(void)arg;
	return api_reply(req, 204, NULL);
}

static enum api_then on_bytes(struct api_req *req, void *arg)
{
	(void)arg;
	return api_reply_bytes(req, "text/plain", "some\0text", 9);
}

static enum api_then on_failure(struct api_req *req, void *arg)
{
	struct errbuf eb = {0};

	(void)arg;
	(void)errbuf_set(&eb, -EBUSY, "vm %s: is running", api_req_param(req, "name"));
	errbuf_hint(&eb, "stop it first");
	return api_reply_errno(req, -EBUSY, &eb);
}

static enum api_then on_big(struct api_req *req, void *arg)
{
	char *text = calloc(1, 600001);
	json_t *out = NULL;

	(void)arg;
	CHECK(text != NULL);
	memset(text, 'x', 600000);
	out = json_pack("{s:s}", "big", text);
	free(text);
	return api_reply(req, 200, out);
}

static void note_gone(void *arg)
{
	struct fixture *f = arg;

	f->gone++;
	loop_stop(f->loop);
}

static enum api_then on_later(struct api_req *req, void *arg)
{
	struct fixture *f = arg;

	f->handled++;
	f->later = req;
	api_req_on_gone(req, note_gone, f);
	loop_stop(f->loop);
	return API_LATER;
}

static enum api_then on_events(struct api_req *req, void *arg)
{
	struct fixture *f = arg;
	const struct api_stream_cfg cfg = {.queue_bytes_max = 20000, .gone = note_gone, .arg = f};

	assert_int_equal(api_stream_begin(req, &cfg, &f->stream), 0);
	loop_stop(f->loop);
	return API_ANSWERED;
}

static void take_fd(int fd, const void *early, size_t len, void *arg)
{
	struct fixture *f = arg;

	f->upgraded_fd = fd;
	CHECK(len < sizeof(f->early));
	if (len != 0) {
		memcpy(f->early, early, len);
	}
	f->handled++;
	loop_stop(f->loop);
}

static enum api_then on_console(struct api_req *req, void *arg)
{
	return api_reply_upgrade(req, "godwit-console", take_fd, arg);
}

const struct api_route fixture_routes[FIXTURE_ROUTE_COUNT] = {
	{API_GET, "/v1/vms/{name}", on_echo},
	{API_POST, "/v1/vms/{name}", on_echo},
	{API_DELETE, "/v1/vms/{name}", on_nothing},
	{API_GET, "/v1/vms/fixed", on_fixed},
	{API_POST, "/v1/vms/{name}/fail", on_failure},
	{API_GET, "/v1/bytes", on_bytes},
	{API_GET, "/v1/big", on_big},
	{API_POST, "/v1/later", on_later},
	{API_GET, "/v1/events", on_events},
	{API_GET, "/v1/vms/{name}/console", on_console},
};

/* ---- life ---- */

static int fixture_setup_with(void **state, struct api_server_cfg cfg)
{
	struct fixture *f = calloc(1, sizeof(*f));

	CHECK(f != NULL && loop_create(&f->loop) == 0);
	cfg.loop = f->loop;
	f->upgraded_fd = -1;
	CHECK(api_server_create(&cfg, &f->server, NULL) == 0);
	CHECK(api_server_routes(f->server, fixture_routes, FIXTURE_ROUTE_COUNT, f) == 0);
	*state = f;
	return 0;
}

int fixture_setup(void **state)
{
	return fixture_setup_with(state, (struct api_server_cfg){0});
}

int fixture_setup_small(void **state)
{
	return fixture_setup_with(
		state, (struct api_server_cfg){
			       .body_bytes_max = 100, .conn_max = 3, .idle_s = 2, .request_s = 1});
}

int fixture_teardown(void **state)
{
	struct fixture *f = *state;

	api_server_destroy(f->server);
	loop_destroy(f->loop);
	free(f);
	return 0;
}

const char *member(const json_t *json, const char *key)
{
	const char *text = json_string_value(json_object_get(json, key));

	return text != NULL ? text : "(none)";
}
