/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Hostile clients against the API server: hundreds of malformed requests, sizes, trickles and
 * vanishing. After each the conversation ends, no handler saw nonsense, and others are served.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/api/server.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/loop.h"
#include "tests/lib/http.h"
#include "tests/lib/test.h"
#include "tests/unit/base/api/fixture.h"

#define POST_HEAD "POST /v1/vms/a HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"

static const char valid_post[] = POST_HEAD "Content-Length: 19\r\n\r\n{\"a\": [1, \"b\", {}]}";

static void expect_alive(struct fixture *f)
{
	HTTP(h, f);

	assert_int_equal(http_ask(&h, "GET", "/v1/vms/alive", NULL), 200);
	http_close(&h);
}

/* Send, finish sending, and see the conversation end. Returns the first answer's status; 0 none. */
static unsigned converse(struct fixture *f, const void *bytes, size_t len)
{
	unsigned status = 0;
	HTTP(h, f);

	(void)http_send(&h, bytes, len); /* the server may hang up early */
	(void)shutdown(h.fd, SHUT_WR);
	assert_true(http_wait_eof(&h, 5000));
	if (h.len >= 12 && strncmp(h.buf, "HTTP/1.1 ", 9) == 0) {
		status = (unsigned)strtoul(h.buf + 9, NULL, 10);
	}
	http_close(&h);
	return status;
}

static void malformed_http_is_refused_and_never_reaches_a_handler(void **state)
{
	static const char *const requests[] = {
		"",
		"\r\n\r\n\r\n",
		"\n",
		" ",
		"GET",
		"GET\r\n\r\n",
		"GET \r\n\r\n",
		"GET  HTTP/1.1\r\n\r\n",
		"/v1/vms/a\r\n\r\n",
		"GET /v1/vms/a\r\n\r\n",
		"GET /v1/vms/a HTTP/\r\nHost: x\r\n\r\n",
		"GET /v1/vms/a HTTP/9.9\r\nHost: x\r\n\r\n",
		"GET /v1/vms/a HTTP/1.1.1\r\nHost: x\r\n\r\n",
		"GET /v1/vms/a FTP/1.1\r\nHost: x\r\n\r\n",
		"GET /v1/vms/a http/1.1\r\nHost: x\r\n\r\n",
		"GET /v1/vms/a HTTP/1.1\r\n\r\n", /* no Host */
		"GET /v1/vms/a HTTP/1.1\r\nHost x\r\n\r\n",
		"get /v1/vms/a HTTP/1.1\r\nHost: x\r\n\r\n",
		"G\x01T /v1/vms/a HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET v1/vms/a HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET http://x/v1/vms/a HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET * HTTP/1.1\r\nHost: x\r\n\r\n",
		"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
		"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
		"TRACE / HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /v1/vms/../vms/a HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /v1/vms/a/../../../x HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /v1/vms/%2e%00 HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /v1/vms/\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"\x16\x03\x01\x02\x01\x01\x01\xfc\x03\x03",
		"SSH-2.0-OpenSSH\r\n",
		POST_HEAD "Content-Length: -1\r\n\r\n{}",
		POST_HEAD "Content-Length: 99999999999999999999999\r\n\r\n{}",
		POST_HEAD "Content-Length: 1x\r\n\r\n{}",
		POST_HEAD "Content-Length: 0x2\r\n\r\n{}",
		POST_HEAD "Content-Length: 18446744073709551615\r\n\r\n{}",
		POST_HEAD "Content-Length: 3\r\n\r\n{}", /* one byte short */
		POST_HEAD "Transfer-Encoding: chunked\r\n\r\nZ\r\n{}\r\n0\r\n\r\n",
		POST_HEAD "Transfer-Encoding: chunked\r\n\r\n-2\r\n{}\r\n0\r\n\r\n",
		POST_HEAD "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n{}\r\n0\r\n\r\n",
		POST_HEAD "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n{}\r\n0\r\n\r\n",
		POST_HEAD "Transfer-Encoding: chunked\r\n\r\n2\r\n{}x\r\n0\r\n\r\n",
		POST_HEAD "Transfer-Encoding: chunked\r\n\r\n2\r\n{}",
		POST_HEAD "Transfer-Encoding: gzip\r\n\r\n{}",
		POST_HEAD "Transfer-Encoding: chunked, gzip\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_LEN(requests); i++) {
		unsigned status = converse(f, requests[i], strlen(requests[i]));

		if (!(status == 0 || (status >= 400 && status < 600))) {
			fail_msg("request %zu was answered with %u", i, status);
		}
		assert_int_equal(f->handled, 0);
	}
	expect_alive(f);
}

/* Two lengths, or a length and chunks, are how requests are smuggled past proxies. */
static void contradicting_lengths_end_the_connection(void **state)
{
	static const char *const requests[] = {
		POST_HEAD "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n"
			  "0\r\n\r\nGET /v1/vms/smuggled HTTP/1.1\r\nHost: x\r\n\r\n",
		POST_HEAD "Content-Length: 2\r\nContent-Length: 40\r\n\r\n"
			  "{}GET /v1/vms/smuggled HTTP/1.1\r\nHost: x\r\n\r\n",
		POST_HEAD "Content-Length: 0\r\nContent-Length: 40\r\n\r\n"
			  "GET /v1/vms/smuggled HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /v1/vms/a HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Length: "
		"40\r\n\r\n"
		"GET /v1/vms/smuggled HTTP/1.1\r\nHost: x\r\n\r\n",
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_LEN(requests); i++) {
		int before = f->handled;

		(void)converse(f, requests[i], strlen(requests[i]));
		/* The body might be taken for the next request: the connection must not go on. */
		assert_int_equal(f->handled, before);
	}
	expect_alive(f);
}

static void every_truncation_of_a_request_ends(void **state)
{
	struct fixture *f = *state;
	size_t len = sizeof(valid_post) - 1;

	for (size_t i = 0; i < len; i++) {
		int before = f->handled;

		(void)converse(f, valid_post, i);
		assert_int_equal(f->handled, before);
	}
	assert_int_equal(converse(f, valid_post, len), 200);
	assert_int_equal(f->handled, 1);
	expect_alive(f);
}

static void every_byte_of_a_request_may_be_wrong(void **state)
{
	static const char wrong[] = {'\0', '\n', '\r', ' ', ':', '%', '{', '"', '\x7f', '\xff'};
	struct fixture *f = *state;
	char copy[sizeof(valid_post)];

	for (size_t i = 0; i < sizeof(valid_post) - 1; i++) {
		for (size_t w = 0; w < sizeof(wrong); w++) {
			memcpy(copy, valid_post, sizeof(copy));
			copy[i] = wrong[w];
			(void)converse(f, copy, sizeof(copy) - 1);
		}
	}
	expect_alive(f);
}

static const char *const bodies[] = {
	"{",
	"}",
	"[",
	"]",
	"{]",
	"[}",
	"{\"",
	"{\"a",
	"{\"a\"",
	"{\"a\":",
	"{\"a\":1",
	"{\"a\":1,",
	"{\"a\":1,}",
	"{,}",
	"{:}",
	"{a:1}",
	"{'a':1}",
	"{\"a\" 1}",
	"{\"a\"::1}",
	"{\"a\":01}",
	"{\"a\":+1}",
	"{\"a\":.1}",
	"{\"a\":1.}",
	"{\"a\":1e}",
	"{\"a\":0x1}",
	"{\"a\":NaN}",
	"{\"a\":Infinity}",
	"{\"a\":-}",
	"{\"a\":--1}",
	"{\"a\":1e999}",
	"{\"a\":99999999999999999999}",
	"{\"a\":tru}",
	"{\"a\":True}",
	"{\"a\":nul}",
	"{\"a\":undefined}",
	"{\"a\":\"\n\"}",
	"{\"a\":\"\\x\"}",
	"{\"a\":\"\\u12\"}",
	"{\"a\":\"\\ud800\"}",
	"{\"a\":\"\\udc00\\ud800\"}",
	"{\"a\":\"\\u0000\"}",
	"{\"a\":\"\xff\"}",
	"{\"a\":\"\xc0\x80\"}",
	"{\"a\":\"\xed\xa0\x80\"}",
	"{\"a\":\"\xf5\x80\x80\x80\"}",
	"{\"\xff\":1}",
	"{\"a\":1}{\"b\":2}",
	"{\"a\":1} x",
	"{} []",
	"[]",
	"[1]",
	"1",
	"\"a\"",
	"null",
	"true",
	"/* */ {}",
	"// x\n{}",
	"{\"a\":1 /**/}",
	"\xef\xbb\xbf{}",
	"{\"a\":1,\"a\":2}",
	"{\"a\":{\"b\":1,\"b\":1}}",
	"\x01",
	" ",
	"\t\n",
};

static void malformed_json_is_refused_with_400(void **state)
{
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_LEN(bodies); i++) {
		json_t *json = NULL;
		HTTP(h, f);

		assert_int_equal(http_post(&h, "POST", "/v1/vms/a", bodies[i], &json), 400);
		assert_string_equal(http_error(json, "code"), "bad-json");
		assert_true(strlen(http_error(json, "message")) > 10);
		json_decref(json);
		http_close(&h);
	}
	assert_int_equal(f->handled, 0);
	expect_alive(f);
}

static void deep_and_wide_json_is_refused(void **state)
{
	static const char start[] = {'{', '"', 'a', '"', ':', '[', '0', ',', '0'};
	static char body[1000001];
	struct fixture *f = *state;
	json_t *json = NULL;

	/* Deeper than the parser's stack would like. */
	memset(body, '[', 500000);
	memset(body + 500000, ']', 500000);
	{
		HTTP(h, f);
		assert_int_equal(http_post(&h, "POST", "/v1/vms/a", body, &json), 400);
		json_decref(json);
		http_close(&h);
	}
	/* A million bytes that want a hundred million. */
	memset(body, ',', sizeof(body) - 1);
	for (size_t i = 1; i < sizeof(body) - 1; i += 2) {
		body[i] = '0';
	}
	memcpy(body, start, sizeof(start));
	body[sizeof(body) - 3] = ']';
	body[sizeof(body) - 2] = '}';
	{
		HTTP(h, f);
		unsigned status = http_post(&h, "POST", "/v1/vms/a", body, &json);

		assert_true(status == 400 || status == 200);
		json_decref(json);
		http_close(&h);
	}
	expect_alive(f);
}

/* @head, then @unit @count times, then @tail. */
static unsigned converse_repeated(struct fixture *f, const char *head, const char *unit,
                                  size_t count, const char *tail)
{
	char *text = malloc(strlen(head) + strlen(unit) * count + strlen(tail) + 1);
	unsigned status = 0;

	assert_non_null(text);

	char *end = stpcpy(text, head);

	for (size_t i = 0; i < count; i++) {
		end = stpcpy(end, unit);
	}
	end = stpcpy(end, tail);
	status = converse(f, text, (size_t)(end - text));
	free(text);
	return status;
}

static void too_much_of_anything_is_refused(void **state)
{
	static const char tail[] = " HTTP/1.1\r\nHost: x\r\n\r\n";
	static const struct {
		const char *head;
		const char *unit;
		size_t count;
		const char *tail;
	} cases[] = {
		{"GET /v1/vms/", "a", 5000, tail},
		{"GET /v1/vms/", "a", 1000000, tail},
		{"GET /", "a/", 10000, tail},
		{"GET /v1/vms/a?", "a=b&", 1000, tail},
		{"GET /v1/vms/a?", "&", 30000, tail},
		{"", "G", 1000000, " / HTTP/1.1\r\n\r\n"},
		{"GET /v1/vms/a HTTP/1.1\r\nHost: x\r\n", "A: b\r\n", 10000, "\r\n"},
		{"GET /v1/vms/a HTTP/1.1\r\nHost: x\r\nA: ", "b", 100000, "\r\n\r\n"},
		{"GET /v1/vms/a HTTP/1.1\r\nHost: x\r\nA: b\r\n", " c\r\n", 30000, "\r\n"},
		{"", "\r\n", 100000, ""},
		{POST_HEAD "Transfer-Encoding: chunked\r\n\r\n", "1;", 100000, "\r\n"},
		{POST_HEAD "Transfer-Encoding: chunked\r\n\r\n", "400\r\n", 1, ""},
		{POST_HEAD "Transfer-Encoding: chunked\r\n\r\n0\r\n", "A: b\r\n", 30000, "\r\n"},
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		unsigned status = converse_repeated(f, cases[i].head, cases[i].unit, cases[i].count,
		                                    cases[i].tail);

		if (!(status == 0 || (status >= 400 && status < 600))) {
			fail_msg("case %zu was answered with %u", i, status);
		}
	}
	assert_int_equal(f->handled, 0);
	expect_alive(f);
}

/* xorshift: the same inputs for the same seed, everywhere. */
static uint32_t next_random(uint32_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 17;
	*seed ^= *seed << 5;
	return *seed;
}

static void randomly_damaged_conversations_end(void **state)
{
	static const char *const bases[] = {
		valid_post,
		"GET /v1/vms/a?q=1 HTTP/1.1\r\nHost: x\r\n\r\nGET /v1/vms/fixed HTTP/1.1\r\nHost: "
		"x\r\nConnection: close\r\n\r\n",
		POST_HEAD "Transfer-Encoding: chunked\r\n\r\n5\r\n{\"a\":\r\n2\r\n1}\r\n0\r\n\r\n",
		POST_HEAD "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n{}",
		"HEAD /v1/bytes HTTP/1.1\r\nHost: x\r\nOrigin: https://x\r\n\r\n",
	};
	struct fixture *f = *state;
	uint32_t seed = 0x60d11;

	for (int i = 0; i < 2000; i++) {
		const char *base = bases[next_random(&seed) % ARRAY_LEN(bases)];
		size_t len = strlen(base);
		char copy[512];

		memcpy(copy, base, len + 1);
		for (uint32_t n = next_random(&seed) % 6 + 1; n > 0; n--) {
			copy[next_random(&seed) % len] = (char)(unsigned char)next_random(&seed);
		}
		(void)converse(f, copy, len);
	}
	expect_alive(f);
}

/* Half of the connections that a user has, each sending a byte now and then. */
static void trickling_clients_are_cut_off_and_others_served(void **state)
{
	struct fixture *f = *state;
	struct http slow[10];
	uint64_t start_ns = clock_now_ns();
	size_t open = ARRAY_LEN(slow);

	for (size_t i = 0; i < ARRAY_LEN(slow); i++) {
		assert_int_equal(http_open(&slow[i], f->loop, f->server), 0);
		assert_int_equal(http_say(&slow[i], "POST /v1/vms/a HT"), 0);
	}
	while (open != 0 && clock_now_ns() - start_ns < 10 * NS_PER_S) {
		open = 0;
		for (size_t i = 0; i < ARRAY_LEN(slow); i++) {
			if (!slow[i].eof) {
				(void)http_say(&slow[i], "T");
				open++;
			}
		}
		expect_alive(f);
	}
	assert_int_equal(open, 0);
	assert_true(clock_now_ns() - start_ns >= NS_PER_S);
	for (size_t i = 0; i < ARRAY_LEN(slow); i++) {
		http_close(&slow[i]);
	}
}

static void clients_that_vanish_at_any_moment_leave_nothing(void **state)
{
	static const char *const requests[] = {
		"GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /v1/big HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /v1/vms/a/console HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
		"Upgrade: godwit-console\r\n\r\n",
		valid_post,
	};
	struct fixture *f = *state;

	for (size_t r = 0; r < ARRAY_LEN(requests); r++) {
		size_t len = strlen(requests[r]);

		for (size_t cut = 0; cut <= len; cut += cut + 8 < len ? 7 : 1) {
			HTTP(h, f);
			(void)http_send(&h, requests[r], cut);
			if (cut % 2 == 0) {
				http_spin(f->loop, 1);
			}
			http_close(&h);
			http_spin(f->loop, 1);
			/* What the handlers hold for this client. */
			api_stream_end(f->stream);
			f->stream = NULL;
			if (f->upgraded_fd >= 0) {
				(void)close(f->upgraded_fd);
				f->upgraded_fd = -1;
			}
		}
	}
	expect_alive(f);
}

static void a_thousand_requests_at_once_are_answered_one_by_one(void **state)
{
	static const char one[] = "GET /v1/vms/a HTTP/1.1\r\nHost: x\r\n\r\n";
	struct fixture *f = *state;
	HTTP(h, f);

	for (int i = 0; i < 1000; i++) {
		assert_int_equal(http_say(&h, one), 0);
	}
	for (int i = 0; i < 1000; i++) {
		assert_int_equal(http_answer(&h, NULL), 200);
	}
	assert_int_equal(f->handled, 1000);
	http_close(&h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
#define TEST_SMALL(name) \
	cmocka_unit_test_setup_teardown(name, fixture_setup_small, fixture_teardown)
		TEST(malformed_http_is_refused_and_never_reaches_a_handler),
		TEST(contradicting_lengths_end_the_connection),
		TEST(every_truncation_of_a_request_ends),
		TEST(every_byte_of_a_request_may_be_wrong),
		TEST(malformed_json_is_refused_with_400),
		TEST(deep_and_wide_json_is_refused),
		TEST(too_much_of_anything_is_refused),
		TEST(randomly_damaged_conversations_end),
		TEST_SMALL(trickling_clients_are_cut_off_and_others_served),
		TEST(clients_that_vanish_at_any_moment_leave_nothing),
		TEST(a_thousand_requests_at_once_are_answered_one_by_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
