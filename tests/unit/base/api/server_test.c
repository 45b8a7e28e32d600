/* SPDX-License-Identifier: Apache-2.0 */
#include "base/api/server.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "base/json.h"
#include "base/loop.h"
#include "tests/lib/http.h"
#include "tests/lib/test.h"
#include "tests/unit/base/api/fixture.h"

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

static void bodies_that_are_too_large_or_of_unknown_length_are_refused_at_once(void **state)
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

	/* Bodies in chunks have no length to be judged by. */
	HTTP(c, f);
	assert_int_equal(http_say(&c, "POST /v1/vms/a HTTP/1.1\r\nHost: x\r\nContent-Type: "
	                              "application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
	                              "2\r\n{}\r\n0\r\n\r\n"),
	                 0);
	assert_int_equal(http_answer(&c, &json), 411);
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
		cmocka_unit_test_setup_teardown(a_request_reaches_its_handler_with_decoded_values,
	                                        fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(a_literal_path_wins_over_a_parameter, fixture_setup,
	                                        fixture_teardown),
		cmocka_unit_test_setup_teardown(
			errors_have_a_body_with_code_message_reason_and_hint, fixture_setup,
			fixture_teardown),
		cmocka_unit_test_setup_teardown(malformed_json_is_answered_with_its_position,
	                                        fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(malformed_paths_and_queries_are_400, fixture_setup,
	                                        fixture_teardown),
		cmocka_unit_test_setup_teardown(
			bodies_need_the_json_type_and_pages_of_other_sites_are_refused,
			fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(bytes_and_large_answers_arrive_whole, fixture_setup,
	                                        fixture_teardown),
		cmocka_unit_test_setup_teardown(
			a_client_that_has_finished_sending_still_gets_its_answer, fixture_setup,
			fixture_teardown),
		cmocka_unit_test_setup_teardown(
			bodies_that_are_too_large_or_of_unknown_length_are_refused_at_once,
			fixture_setup_small, fixture_teardown),
		cmocka_unit_test_setup_teardown(too_many_connections_get_503_and_then_nothing,
	                                        fixture_setup_small, fixture_teardown),
		cmocka_unit_test_setup_teardown(a_request_that_trickles_is_cut_off,
	                                        fixture_setup_small, fixture_teardown),
		cmocka_unit_test_setup_teardown(a_connection_without_a_request_is_closed,
	                                        fixture_setup_small, fixture_teardown),
		cmocka_unit_test_setup_teardown(
			every_allocation_failure_during_a_request_is_survived, fixture_setup,
			fixture_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
