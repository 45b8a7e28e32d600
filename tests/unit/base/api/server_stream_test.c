/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/api/server.h"
#include "base/clock.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "base/json.h"
#include "base/loop.h"
#include "tests/lib/http.h"
#include "tests/lib/test.h"
#include "tests/unit/base/api/fixture.h"

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

/* ---- waiting ---- */

static uint64_t cpu_ns(void)
{
	struct timespec ts;

	assert_int_equal(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts), 0);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

/* A connection in each state that waits for somebody, and nobody does anything. */
static void waiting_costs_nothing(void **state)
{
	static const char half_a_body[] =
		"POST /v1/vms/a HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
		"Content-Length: 9\r\n\r\n{";
	static const char *const states[] = {
		"",                                           /* new */
		"GET /v1",                                    /* in the request line */
		"GET /v1/vms/a HTTP/1.1\r\nHost",             /* in the headers */
		half_a_body,                                  /* in the body */
		"GET /v1/vms/a HTTP/1.1\r\nHost: x\r\n\r\n",  /* between requests */
		"POST /v1/later HTTP/1.1\r\nHost: x\r\n\r\n", /* for its answer */
		"GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n", /* for events */
		"GET /v1/big HTTP/1.1\r\nHost: x\r\n\r\n",    /* not reading */
	};
	struct fixture *f = *state;
	struct http h[ARRAY_LEN(states)];
	struct http finished;

	for (size_t i = 0; i < ARRAY_LEN(states); i++) {
		assert_int_equal(http_open(&h[i], f->loop, f->server), 0);
		assert_int_equal(loop_fd_mod(h[i].watch, 0), 0);
		assert_int_equal(http_say(&h[i], states[i]), 0);
		http_spin(f->loop, 20);
	}
	assert_non_null(f->stream);

	/* And one that has finished sending while it waits. */
	struct api_req *first = f->later;

	assert_int_equal(http_open(&finished, f->loop, f->server), 0);
	assert_int_equal(http_say(&finished, states[5]), 0);
	assert_int_equal(shutdown(finished.fd, SHUT_WR), 0);
	http_spin(f->loop, 50);
	assert_ptr_not_equal(f->later, first);

	uint64_t before_ns = cpu_ns();

	http_spin(f->loop, 600); /* with a sweep in it */
	assert_true(cpu_ns() - before_ns < 60 * NS_PER_MS);
	(void)api_reply(first, 200, json_object());
	(void)api_reply(f->later, 200, json_object());
	api_stream_end(f->stream);
	for (size_t i = 0; i < ARRAY_LEN(states); i++) {
		http_close(&h[i]);
	}
	http_close(&finished);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(an_answer_may_come_later, fixture_setup,
	                                        fixture_teardown),
		cmocka_unit_test_setup_teardown(requests_sent_ahead_are_answered_in_order,
	                                        fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(
			a_client_that_goes_is_noticed_and_the_answer_goes_nowhere, fixture_setup,
			fixture_teardown),
		cmocka_unit_test_setup_teardown(events_arrive_one_line_each_until_the_end,
	                                        fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(a_reader_that_does_not_read_is_dropped,
	                                        fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(a_reader_that_goes_is_noticed_without_an_event,
	                                        fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(destroying_the_server_tells_those_who_wait,
	                                        fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(a_connection_becomes_a_byte_stream, fixture_setup,
	                                        fixture_teardown),
		cmocka_unit_test_setup_teardown(without_an_upgrade_header_there_is_none,
	                                        fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(waiting_costs_nothing, fixture_setup,
	                                        fixture_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
