/* SPDX-License-Identifier: Apache-2.0 */
#include "base/api/server.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "base/json.h"
#include "base/loop.h"
#include "tests/lib/http.h"
#include "tests/lib/test.h"

/* What the handlers of this test share; one per test, from setup(). */
struct fixture {
	struct loop *loop;
	struct api_server *server;
	struct api_req *later;
	struct api_stream *stream;
	int gone;
	int upgraded_fd;
	char early[64];
	int handled;
};

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

static const struct api_route routes[] = {
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

/* ---- fixture ---- */

static int setup_with(void **state, struct api_server_cfg cfg)
{
	struct fixture *f = calloc(1, sizeof(*f));

	CHECK(f != NULL && loop_create(&f->loop) == 0);
	cfg.loop = f->loop;
	f->upgraded_fd = -1;
	CHECK(api_server_create(&cfg, &f->server, NULL) == 0);
	CHECK(api_server_routes(f->server, routes, ARRAY_LEN(routes), f) == 0);
	*state = f;
	return 0;
}

static int setup(void **state)
{
	return setup_with(state, (struct api_server_cfg){0});
}

static int setup_small(void **state)
{
	return setup_with(
		state, (struct api_server_cfg){
			       .body_bytes_max = 100, .conn_max = 3, .idle_s = 2, .request_s = 1});
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	api_server_destroy(f->server);
	loop_destroy(f->loop);
	free(f);
	return 0;
}

/* http_open() stores its address with the loop. */
#define HTTP(name, f)     \
	struct http name; \
	assert_int_equal(http_open(&(name), (f)->loop, (f)->server), 0)

static const char *member(const json_t *json, const char *key)
{
	const char *text = json_string_value(json_object_get(json, key));

	return text != NULL ? text : "(none)";
}

/* ---- routes and answers ---- */

static void a_request_reaches_its_handler_with_decoded_values(void **state)
{
	struct fixture *f = *state;
	json_t *json = NULL;
	HTTP(h, f);

	assert_int_equal(http_ask(&h, "GET", "/v1/vms/web%201%2Fa?q=x%26y&z", &json), 200);
	assert_string_equal(member(json, "name"), "web 1/a");
	assert_string_equal(member(json, "query"), "x&y");
	assert_string_equal(member(json, "method"), "GET");
	assert_int_equal(json_integer_value(json_object_get(json, "uid")), geteuid());
	json_decref(json);
	/* The same connection goes on. */
	assert_int_equal(http_post(&h, "POST", "/v1/vms/a", "{\"cpus\": 2}", &json), 200);
	assert_int_equal(json_integer_value(json_object_get(json_object_get(json, "body"), "cpus")),
	                 2);
	json_decref(json);
	assert_int_equal(http_ask(&h, "DELETE", "/v1/vms/a", &json), 204);
	assert_null(json);
	assert_false(h.eof);
	http_close(&h);
}

static void a_literal_path_wins_over_a_parameter(void **state)
{
	struct fixture *f = *state;
	json_t *json = NULL;
	HTTP(h, f);

	assert_int_equal(http_ask(&h, "GET", "/v1/vms/fixed", &json), 200);
	assert_string_equal(member(json, "which"), "fixed");
	json_decref(json);
	assert_int_equal(http_ask(&h, "GET", "/v1/vms/fixed2", &json), 200);
	assert_string_equal(member(json, "name"), "fixed2");
	json_decref(json);
	http_close(&h);
}

static void errors_have_a_body_with_code_message_reason_and_hint(void **state)
{
	struct fixture *f = *state;
	json_t *json = NULL;
	HTTP(h, f);

	assert_int_equal(http_ask(&h, "POST", "/v1/vms/a/fail", &json), 409);
	assert_string_equal(http_error(json, "code"), "busy");
	assert_string_equal(http_error(json, "message"), "vm a: is running");
	assert_string_equal(http_error(json, "reason"), "Device or resource busy");
	assert_string_equal(http_error(json, "hint"), "stop it first");
	json_decref(json);
	assert_int_equal(http_ask(&h, "GET", "/v2/x", &json), 404);
	assert_string_equal(http_error(json, "code"), "no-such-path");
	assert_string_equal(http_error(json, "message"), "/v2/x: no such path");
	assert_true(strlen(http_error(json, "hint")) > 0);
	json_decref(json);
	assert_int_equal(http_ask(&h, "PUT", "/v1/vms/a", &json), 405);
	assert_string_equal(http_error(json, "hint"), "use GET, POST, DELETE");
	json_decref(json);
	assert_int_equal(http_ask(&h, "BREW", "/v1/vms/a", &json), 405);
	json_decref(json);
	assert_false(h.eof);
	http_close(&h);
	assert_int_equal(f->handled, 0);
}

static void malformed_json_is_answered_with_its_position(void **state)
{
	static const struct {
		const char *body;
		const char *text; /* part of the message */
	} cases[] = {
		{"{\"a\": 1,\n \"b\": }", "line 2"},
		{"[1]", "object"},
		{"{\"a\":1,\"a\":2}", "line 1"},
		{"{\"a\":\"\xff\"}", "line 1"},
		{"{} x", "line 1"},
		{"", NULL},
	};
	struct fixture *f = *state;
	HTTP(h, f);

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		json_t *json = NULL;
		unsigned status = http_post(&h, "POST", "/v1/vms/a", cases[i].body, &json);

		if (cases[i].text == NULL) {
			assert_int_equal(status, 200);
		} else {
			assert_int_equal(status, 400);
			assert_string_equal(http_error(json, "code"), "bad-json");
			assert_non_null(strstr(http_error(json, "message"), cases[i].text));
		}
		json_decref(json);
	}
	http_close(&h);
}

static void malformed_paths_and_queries_are_400(void **state)
{
	static const char *const paths[] = {
		"/v1/vms/%",
		"/v1/vms/%4",
		"/v1/vms/%zz",
		"/v1/vms/%00",
		"/v1/vms/a%0ab",
		"/v1/vms/%ff",
		"/v1/vms/%c0%80",
		"/v1//vms",
		"/v1/vms/",
		"/v1/vms/a?q=%",
		"/v1/vms/a?%ff=",
		"/v1/vms/a?q=%00x",
		"//",
		"/v1/vms/%7f",
		"/v1/vms/%c2%85",
	};
	struct fixture *f = *state;
	char many[512] = "/v1/vms/a?";
	size_t len = strlen(many);
	json_t *json = NULL;
	HTTP(h, f);

	for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
		assert_int_equal(http_ask(&h, "GET", paths[i], &json), 400);
		assert_string_equal(http_error(json, "code"), "invalid");
		json_decref(json);
	}
	for (int i = 0; i < 17; i++) {
		len += (size_t)snprintf(many + len, sizeof(many) - len, "a%d=1&", i);
	}
	assert_int_equal(http_ask(&h, "GET", many, &json), 413);
	json_decref(json);
	http_close(&h);
	assert_int_equal(f->handled, 0);
}

static void bodies_need_the_json_type_and_pages_of_other_sites_are_refused(void **state)
{
	struct fixture *f = *state;
	json_t *json = NULL;
	HTTP(h, f);

	assert_int_equal(http_say(&h, "POST /v1/vms/a HTTP/1.1\r\nHost: x\r\nContent-Type: "
	                              "text/plain\r\nContent-Length: 2\r\n\r\n{}"),
	                 0);
	assert_int_equal(http_answer(&h, &json), 415);
	assert_non_null(strstr(http_error(json, "hint"), "application/json"));
	json_decref(json);
	http_close(&h);

	HTTP(h2, f);
	assert_int_equal(http_say(&h2, "GET /v1/vms/a HTTP/1.1\r\nHost: n1:1\r\nOrigin: "
	                               "https://evil\r\n\r\n"),
	                 0);
	assert_int_equal(http_answer(&h2, NULL), 403);
	assert_int_equal(http_say(&h2, "GET /v1/vms/a HTTP/1.1\r\nHost: n1:1\r\nOrigin: "
	                               "https://n1:1\r\n\r\n"),
	                 0);
	assert_int_equal(http_answer(&h2, NULL), 200);
	http_close(&h2);
	assert_int_equal(f->handled, 1);
}

static void bytes_and_large_answers_arrive_whole(void **state)
{
	struct fixture *f = *state;
	json_t *json = NULL;
	HTTP(h, f);

	assert_int_equal(http_ask(&h, "GET", "/v1/bytes", NULL), 200);
	assert_int_equal(http_ask(&h, "GET", "/v1/big", &json), 200);
	assert_int_equal(strlen(member(json, "big")), 600000);
	json_decref(json);
	assert_int_equal(http_say(&h, "HEAD /v1/bytes HTTP/1.1\r\nHost: x\r\n\r\n"), 0);
	assert_true(http_wait_for(&h, "Content-Length: 9\r\n"));
	http_close(&h);
}

static void a_client_that_has_finished_sending_still_gets_its_answer(void **state)
{
	struct fixture *f = *state;
	HTTP(h, f);

	assert_int_equal(http_say(&h, "POST /v1/later HTTP/1.1\r\nHost: x\r\n\r\n"), 0);
	assert_int_equal(shutdown(h.fd, SHUT_WR), 0);
	loop_run(f->loop);
	assert_non_null(f->later);
	http_spin(f->loop, 20);
	assert_int_equal(f->gone, 0);
	(void)api_reply(f->later, 200, json_object());
	assert_int_equal(http_answer(&h, NULL), 200);
	http_close(&h);
}

/* ---- sizes and limits ---- */

static void large_bodies_are_refused_before_and_while_they_arrive(void **state)
{
	struct fixture *f = *state;
	json_t *json = NULL;
	HTTP(h, f);

	assert_int_equal(http_say(&h, "POST /v1/vms/a HTTP/1.1\r\nHost: x\r\nContent-Type: "
	                              "application/json\r\nContent-Length: 101\r\n\r\n"),
	                 0);
	assert_int_equal(http_answer(&h, &json), 413);
	assert_string_equal(http_error(json, "code"), "too-large");
	json_decref(json);
	assert_true(http_wait_eof(&h, 5000));
	http_close(&h);

	HTTP(c, f);
	assert_int_equal(http_say(&c, "POST /v1/vms/a HTTP/1.1\r\nHost: x\r\nContent-Type: "
	                              "application/json\r\nTransfer-Encoding: chunked\r\n\r\n"),
	                 0);
	for (int i = 0; i < 30; i++) {
		assert_int_equal(http_say(&c, "5\r\n     \r\n"), 0);
	}
	assert_int_equal(http_say(&c, "0\r\n\r\n"), 0);
	assert_int_equal(http_answer(&c, &json), 413);
	json_decref(json);
	http_close(&c);
	assert_int_equal(f->handled, 0);
}

static void too_many_connections_get_503_and_then_nothing(void **state)
{
	struct fixture *f = *state;
	struct http extra[40];
	json_t *json = NULL;
	int served = 0;
	int refused = 0;

	/* adopt() admits; the hard limit is the one beyond the spare ones. */
	for (size_t i = 0; i < ARRAY_LEN(extra); i++) {
		int err = http_open(&extra[i], f->loop, f->server);

		assert_true(err == 0 || err == -EMFILE);
		served += err == 0;
		refused += err != 0;
	}
	assert_int_equal(served, 3 + 16);
	assert_true(refused > 0);
	assert_int_equal(http_ask(&extra[0], "GET", "/v1/vms/a", &json), 200);
	json_decref(json);
	for (size_t i = 0; i < ARRAY_LEN(extra); i++) {
		http_close(&extra[i]);
	}
	http_spin(f->loop, 20);

	HTTP(h, f);
	assert_int_equal(http_ask(&h, "GET", "/v1/vms/a", NULL), 200);
	http_close(&h);
}

static void a_request_that_trickles_is_cut_off(void **state)
{
	struct fixture *f = *state;
	uint64_t start_ns = clock_now_ns();
	HTTP(h, f);

	assert_int_equal(http_say(&h, "GET /v1/vms/a HTTP/1.1\r\nHost: x\r\n"), 0);
	while (!h.eof && clock_now_ns() - start_ns < 5 * NS_PER_S) {
		(void)http_say(&h, "X: y\r\n");
		http_spin(f->loop, 50);
	}
	assert_true(h.eof);
	assert_true(clock_now_ns() - start_ns >= NS_PER_S);
	assert_true(clock_now_ns() - start_ns < 4 * NS_PER_S);
	http_close(&h);
}

static void a_connection_without_a_request_is_closed(void **state)
{
	struct fixture *f = *state;
	HTTP(h, f);

	assert_true(http_wait_eof(&h, 4000));
	http_close(&h);

	HTTP(k, f);
	assert_int_equal(http_ask(&k, "GET", "/v1/vms/a", NULL), 200);
	assert_true(http_wait_eof(&k, 6000));
	http_close(&k);
}

/* ---- later ---- */

static void an_answer_may_come_later(void **state)
{
	struct fixture *f = *state;
	HTTP(h, f);
	HTTP(other, f);

	assert_int_equal(http_say(&h, "POST /v1/later HTTP/1.1\r\nHost: x\r\n\r\n"), 0);
	loop_run(f->loop);
	assert_non_null(f->later);
	/* Others are served meanwhile. */
	assert_int_equal(http_ask(&other, "GET", "/v1/vms/a", NULL), 200);
	assert_int_equal(h.len, 0);
	(void)api_reply(f->later, 200, json_object());
	assert_int_equal(http_answer(&h, NULL), 200);
	/* And the connection goes on after it. */
	assert_int_equal(http_ask(&h, "GET", "/v1/vms/a", NULL), 200);
	assert_int_equal(f->gone, 0);
	http_close(&h);
	http_close(&other);
}

static void requests_sent_ahead_are_answered_in_order(void **state)
{
	struct fixture *f = *state;
	json_t *json = NULL;
	HTTP(h, f);

	assert_int_equal(http_say(&h, "POST /v1/later HTTP/1.1\r\nHost: x\r\n\r\n"
	                              "GET /v1/vms/second HTTP/1.1\r\nHost: x\r\n\r\n"
	                              "GET /v1/vms/third HTTP/1.1\r\nHost: x\r\n\r\n"),
	                 0);
	loop_run(f->loop);
	assert_non_null(f->later);
	http_spin(f->loop, 10);
	assert_int_equal(f->handled, 1);
	(void)api_reply(f->later, 200, json_object());
	assert_int_equal(http_answer(&h, NULL), 200);
	assert_int_equal(http_answer(&h, &json), 200);
	assert_string_equal(member(json, "name"), "second");
	json_decref(json);
	assert_int_equal(http_answer(&h, &json), 200);
	assert_string_equal(member(json, "name"), "third");
	json_decref(json);
	http_close(&h);
}

static void a_client_that_goes_is_noticed_and_the_answer_goes_nowhere(void **state)
{
	struct fixture *f = *state;
	HTTP(h, f);

	assert_int_equal(http_say(&h, "POST /v1/later HTTP/1.1\r\nHost: x\r\n\r\n"), 0);
	loop_run(f->loop);
	assert_non_null(f->later);
	http_close(&h);
	loop_run(f->loop); /* until note_gone() */
	assert_int_equal(f->gone, 1);
	assert_int_equal(api_req_peer(f->later)->uid, geteuid());
	(void)api_reply(f->later, 200, json_object());
}

/* ---- streams ---- */

static void events_arrive_one_line_each_until_the_end(void **state)
{
	struct fixture *f = *state;
	json_t *event = json_pack("{s:s}", "text", "a\nb");
	HTTP(h, f);

	assert_int_equal(http_say(&h, "GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n"), 0);
	loop_run(f->loop);
	assert_non_null(f->stream);
	assert_true(http_wait_for(&h, "application/x-ndjson"));
	for (int i = 0; i < 3; i++) {
		assert_int_equal(api_stream_send(f->stream, event), 0);
		h.len = 0;
		h.buf[0] = '\0';
		assert_true(http_wait_for(&h, "{\"text\":\"a\\nb\"}\n"));
	}
	assert_int_equal(api_stream_send(f->stream, event), 0);
	api_stream_end(f->stream); /* what is queued still goes out */
	h.len = 0;
	h.buf[0] = '\0';
	assert_true(http_wait_for(&h, "0\r\n\r\n"));
	assert_non_null(strstr(h.buf, "{\"text\":\"a\\nb\"}\n"));
	/* The connection can be used again. */
	h.len = 0;
	h.buf[0] = '\0';
	assert_int_equal(http_ask(&h, "GET", "/v1/vms/a", NULL), 200);
	json_decref(event);
	assert_int_equal(f->gone, 0);
	http_close(&h);
}

static void a_reader_that_does_not_read_is_dropped(void **state)
{
	struct fixture *f = *state;
	char block[1000];
	int err = 0;
	int sent = 0;
	HTTP(h, f);

	memset(block, 'x', sizeof(block));
	assert_int_equal(http_say(&h, "GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n"), 0);
	loop_run(f->loop);
	assert_int_equal(loop_fd_mod(h.watch, 0), 0); /* stop reading */
	while (sent < 100000 && (err = api_stream_write(f->stream, block, sizeof(block))) == 0) {
		sent++;
		if (sent % 10 == 0) { /* let the server fill the socket */
			http_spin(f->loop, 1);
		}
	}
	assert_int_equal(err, -ENOBUFS);
	assert_int_equal(f->gone, 0); /* never from inside a call */
	loop_run(f->loop);
	assert_int_equal(f->gone, 1);
	assert_int_equal(api_stream_write(f->stream, block, 1), -EPIPE);
	api_stream_end(f->stream);
	http_close(&h);
}

static void a_reader_that_goes_is_noticed_without_an_event(void **state)
{
	struct fixture *f = *state;
	HTTP(h, f);

	assert_int_equal(http_say(&h, "GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n"), 0);
	loop_run(f->loop);
	assert_true(http_wait_for(&h, "\r\n\r\n"));
	http_close(&h);
	loop_run(f->loop);
	assert_int_equal(f->gone, 1);
	api_stream_end(f->stream);
}

static void end_stream(void *arg)
{
	struct fixture *f = arg;

	api_stream_end(f->stream);
	f->gone++;
}

static enum api_then on_ending_events(struct api_req *req, void *arg)
{
	struct fixture *f = arg;
	const struct api_stream_cfg cfg = {.gone = end_stream, .arg = f};

	assert_int_equal(api_stream_begin(req, &cfg, &f->stream), 0);
	loop_stop(f->loop);
	return API_ANSWERED;
}

static void answer_gone(void *arg)
{
	struct fixture *f = arg;

	f->gone++;
	(void)api_reply(f->later, 200, json_object());
}

static enum api_then on_answering_later(struct api_req *req, void *arg)
{
	struct fixture *f = arg;

	f->later = req;
	api_req_on_gone(req, answer_gone, f);
	loop_stop(f->loop);
	return API_LATER;
}

static void destroying_the_server_tells_those_who_wait(void **state)
{
	static const struct api_route more[] = {
		{API_GET, "/v2/events", on_ending_events},
		{API_GET, "/v2/later", on_answering_later},
	};
	struct fixture *f = *state;
	HTTP(a, f);
	HTTP(b, f);

	assert_int_equal(api_server_routes(f->server, more, ARRAY_LEN(more), f), 0);
	assert_int_equal(http_say(&a, "GET /v2/events HTTP/1.1\r\nHost: x\r\n\r\n"), 0);
	loop_run(f->loop);
	assert_int_equal(http_say(&b, "GET /v2/later HTTP/1.1\r\nHost: x\r\n\r\n"), 0);
	while (f->later == NULL) {
		loop_run(f->loop);
	}
	api_server_destroy(f->server);
	f->server = NULL;
	assert_int_equal(f->gone, 2);
	http_close(&a);
	http_close(&b);
}

/* ---- upgrade ---- */

static void a_connection_becomes_a_byte_stream(void **state)
{
	struct fixture *f = *state;
	char byte = 0;
	HTTP(h, f);

	assert_int_equal(http_say(&h,
	                          "GET /v1/vms/a/console HTTP/1.1\r\nHost: x\r\n"
	                          "Connection: Upgrade\r\nUpgrade: godwit-console\r\n\r\nhello"),
	                 0);
	while (f->handled == 0) {
		loop_run(f->loop);
	}
	assert_true(f->upgraded_fd >= 0);
	assert_string_equal(f->early, "hello");
	assert_true(http_wait_for(&h, "101 Switching Protocols"));
	assert_int_equal(write(f->upgraded_fd, "out", 3), 3);
	h.len = 0;
	h.buf[0] = '\0';
	assert_true(http_wait_for(&h, "out"));
	assert_int_equal(http_say(&h, "in"), 0);
	assert_int_equal(read(f->upgraded_fd, &byte, 1), 1);
	assert_int_equal(byte, 'i');
	/* It is ours alone: the server can go, the stream stays. */
	api_server_destroy(f->server);
	f->server = NULL;
	assert_int_equal(write(f->upgraded_fd, "still", 5), 5);
	assert_true(http_wait_for(&h, "still"));
	assert_int_equal(close(f->upgraded_fd), 0);
	assert_true(http_wait_eof(&h, 5000));
	http_close(&h);
}

static void without_an_upgrade_header_there_is_none(void **state)
{
	struct fixture *f = *state;
	json_t *json = NULL;
	HTTP(h, f);

	assert_int_equal(http_ask(&h, "GET", "/v1/vms/a/console", &json), 426);
	assert_string_equal(http_error(json, "code"), "upgrade-required");
	json_decref(json);
	assert_int_equal(f->handled, 1);
	assert_int_equal(f->upgraded_fd, -1);
	/* HTTP/1.0 cannot. */
	assert_int_equal(http_say(&h, "GET /v1/vms/a/console HTTP/1.0\r\n"
	                              "Connection: Upgrade\r\nUpgrade: godwit-console\r\n\r\n"),
	                 0);
	assert_true(http_wait_eof(&h, 5000));
	assert_int_equal(f->handled, 2);
	assert_int_equal(f->upgraded_fd, -1);
	http_close(&h);
}

/* ---- the unix socket ---- */

static void unix_path(char *out, size_t size)
{
	(void)snprintf(out, size, "/tmp/gw-api-%d.sock", getpid());
}

static void remove_unix(const char *path)
{
	char lock[128];

	(void)snprintf(lock, sizeof(lock), "%s.lock", path);
	(void)unlink(path);
	(void)unlink(lock);
}

static void a_unix_socket_has_its_mode_and_knows_its_callers(void **state)
{
	struct fixture *f = *state;
	struct api_listen_unix cfg = {.mode = 0660, .owner = (uid_t)-1, .group = (gid_t)-1};
	struct http h;
	struct stat st;
	char path[64];
	json_t *json = NULL;

	unix_path(path, sizeof(path));
	cfg.path = path;
	remove_unix(path);
	assert_int_equal(api_server_listen_unix(f->server, &cfg, NULL), 0);
	assert_int_equal(lstat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0660);
	assert_int_equal(http_connect_unix(&h, f->loop, path), 0);
	assert_int_equal(http_ask(&h, "GET", "/v1/vms/a", &json), 200);
	assert_int_equal(json_integer_value(json_object_get(json, "uid")), geteuid());
	json_decref(json);
	http_close(&h);
	api_server_destroy(f->server);
	f->server = NULL;
	assert_int_equal(lstat(path, &st), -1);
	remove_unix(path);
}

static void leave_dead_socket(const char *path)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	memcpy(addr.sun_path, path, strlen(path) + 1);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(close(fd), 0);
}

static void a_dead_socket_is_replaced_and_a_served_one_is_not(void **state)
{
	struct fixture *f = *state;
	struct api_listen_unix cfg = {.mode = 0600, .owner = (uid_t)-1, .group = (gid_t)-1};
	const struct api_server_cfg second_cfg = {.loop = f->loop};
	struct api_server *second = NULL;
	struct errbuf eb = {0};
	struct http h;
	char path[64];
	char lock[80];
	int fd = -1;

	unix_path(path, sizeof(path));
	(void)snprintf(lock, sizeof(lock), "%s.lock", path);
	cfg.path = path;
	remove_unix(path);
	/* Not a socket: stays. */
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	(void)close(fd);
	assert_int_equal(api_server_listen_unix(f->server, &cfg, &eb), -EEXIST);
	assert_non_null(strstr(eb.text, path));
	assert_int_equal(unlink(path), 0);
	/* Served, with the lock and (another program) without it. */
	assert_int_equal(api_server_listen_unix(f->server, &cfg, NULL), 0);
	assert_int_equal(api_server_create(&second_cfg, &second, NULL), 0);
	assert_int_equal(api_server_listen_unix(second, &cfg, &eb), -EADDRINUSE);
	assert_int_equal(unlink(lock), 0);
	assert_int_equal(api_server_listen_unix(second, &cfg, &eb), -EADDRINUSE);
	api_server_destroy(f->server);
	f->server = NULL;
	/* Dead: what a crash leaves. */
	leave_dead_socket(path);
	assert_int_equal(http_connect_unix(&h, f->loop, path), -ECONNREFUSED);
	assert_int_equal(api_server_listen_unix(second, &cfg, &eb), 0);
	assert_int_equal(http_connect_unix(&h, f->loop, path), 0);
	assert_int_equal(http_ask(&h, "GET", "/v1/none", NULL), 404);
	http_close(&h);
	api_server_destroy(second);
	remove_unix(path);
}

static void bad_socket_paths_are_refused(void **state)
{
	struct fixture *f = *state;
	struct api_listen_unix cfg = {.mode = 0600, .owner = (uid_t)-1, .group = (gid_t)-1};
	char path[200] = "/tmp/";

	memset(path + 5, 'x', sizeof(path) - 6);
	path[sizeof(path) - 1] = '\0';
	cfg.path = path;
	assert_int_equal(api_server_listen_unix(f->server, &cfg, NULL), -ENAMETOOLONG);
	cfg.path = "/nonexistent/api.sock";
	assert_int_equal(api_server_listen_unix(f->server, &cfg, NULL), -ENOENT);
}

/* ---- allocation ---- */

static int everything(void)
{
	struct loop *loop = NULL;
	struct api_server *server = NULL;
	struct api_listen_unix listen = {.mode = 0600, .owner = (uid_t)-1, .group = (gid_t)-1};
	char path[64];
	int err = loop_create(&loop);

	if (err != 0) {
		return err;
	}
	unix_path(path, sizeof(path));
	listen.path = path;

	const struct api_server_cfg cfg = {.loop = loop};

	err = api_server_create(&cfg, &server, NULL);
	if (err == 0) {
		err = api_server_routes(server, routes, ARRAY_LEN(routes), NULL);
	}
	if (err == 0) {
		err = api_server_listen_unix(server, &listen, NULL);
	}
	api_server_destroy(server);
	loop_destroy(loop);
	return err;
}

static void every_allocation_failure_at_the_start_is_survived(void **state)
{
	char path[64];
	uint32_t k = 1;

	(void)state;
	for (; fault_arm(FAULT_ALLOC, k), everything() == -ENOMEM; k++) {
	}
	assert_false(fault_hit(FAULT_ALLOC));
	fault_arm(FAULT_ALLOC, 0);
	assert_true(k > 10);
	unix_path(path, sizeof(path));
	remove_unix(path);
}

/* The k-th allocation during a request fails: an error answer or a closed connection, and the next
 * request is served. */
static void every_allocation_failure_during_a_request_is_survived(void **state)
{
	struct fixture *f = *state;
	unsigned status = 0;
	int failed = 0;

	for (uint32_t k = 1; status != 200; k++) {
		struct http h;
		static const char text[] =
			"POST /v1/vms/a?q=1 HTTP/1.1\r\nHost: x\r\nContent-Type: "
			"application/json\r\nContent-Length: 8\r\n\r\n{\"a\": 1}";

		assert_int_equal(http_open(&h, f->loop, f->server), 0);
		assert_int_equal(http_say(&h, text), 0);
		fault_arm(FAULT_ALLOC, k);
		status = http_answer(&h, NULL);
		failed += fault_hit(FAULT_ALLOC);
		fault_arm(FAULT_ALLOC, 0);
		assert_true(status == 0 || status == 200 || status == 503);
		assert_true(status != 0 || h.eof);
		http_close(&h);
		assert_true(k < 100);
	}
	assert_true(failed >= 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#define TEST_SMALL(name) cmocka_unit_test_setup_teardown(name, setup_small, teardown)
		TEST(a_request_reaches_its_handler_with_decoded_values),
		TEST(a_literal_path_wins_over_a_parameter),
		TEST(errors_have_a_body_with_code_message_reason_and_hint),
		TEST(malformed_json_is_answered_with_its_position),
		TEST(malformed_paths_and_queries_are_400),
		TEST(bodies_need_the_json_type_and_pages_of_other_sites_are_refused),
		TEST(bytes_and_large_answers_arrive_whole),
		TEST(a_client_that_has_finished_sending_still_gets_its_answer),
		TEST_SMALL(large_bodies_are_refused_before_and_while_they_arrive),
		TEST_SMALL(too_many_connections_get_503_and_then_nothing),
		TEST_SMALL(a_request_that_trickles_is_cut_off),
		TEST_SMALL(a_connection_without_a_request_is_closed),
		TEST(an_answer_may_come_later),
		TEST(requests_sent_ahead_are_answered_in_order),
		TEST(a_client_that_goes_is_noticed_and_the_answer_goes_nowhere),
		TEST(events_arrive_one_line_each_until_the_end),
		TEST(a_reader_that_does_not_read_is_dropped),
		TEST(a_reader_that_goes_is_noticed_without_an_event),
		TEST(destroying_the_server_tells_those_who_wait),
		TEST(a_connection_becomes_a_byte_stream),
		TEST(without_an_upgrade_header_there_is_none),
		TEST(a_unix_socket_has_its_mode_and_knows_its_callers),
		TEST(a_dead_socket_is_replaced_and_a_served_one_is_not),
		TEST(bad_socket_paths_are_refused),
		TEST(every_allocation_failure_at_the_start_is_survived),
		TEST(every_allocation_failure_during_a_request_is_survived),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
