/* SPDX-License-Identifier: Apache-2.0 */
#include "base/api/client.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "base/json.h"
#include "tests/lib/test.h"
#include "tests/unit/base/api/thread.h"

static struct api_thread server;
static char url[96];
static struct api_client *client;

static int setup(void **state)
{
	struct api_client_cfg cfg = {.url = url};

	(void)state;
	api_thread_start(&server, NULL);
	(void)snprintf(url, sizeof(url), "unix://%s", server.path);
	return api_client_create(&cfg, &client, NULL);
}

static int teardown(void **state)
{
	(void)state;
	api_client_destroy(client);
	api_thread_stop(&server);
	return 0;
}

static const char *member(const json_t *json, const char *key)
{
	const char *text = json_string_value(json_object_get(json, key));

	return text != NULL ? text : "(none)";
}

/* ---- calls ---- */

static void a_call_brings_status_and_json(void **state)
{
	char *path = api_path("/v1/who/{name}", "web 1/ä");
	const struct api_call call = {.method = API_GET, .path = path};
	struct api_result result;
	struct errbuf eb = {0};

	(void)state;
	assert_int_equal(api_client_call(client, &call, &result, &eb), 0);
	assert_int_equal(result.status, 200);
	assert_string_equal(member(result.body, "param"), "web 1/ä");
	assert_true(json_is_true(json_object_get(result.body, "local")));
	assert_int_equal(json_integer_value(json_object_get(result.body, "pid")), getpid());
	api_result_fini(&result);
	free(path);
}

static void a_body_goes_there_and_back_on_one_connection(void **state)
{
	json_t *body = json_pack("{s:s,s:i}", "name", "ä\n", "cpus", 4);
	const struct api_call post = {.method = API_POST, .path = "/v1/echo", .body = body};
	const struct api_call delete = {.method = API_DELETE, .path = "/v1/vms/x"};
	struct api_result result;

	(void)state;
	for (int i = 0; i < 20; i++) {
		assert_int_equal(api_client_call(client, &post, &result, NULL), 0);
		assert_int_equal(result.status, 201);
		assert_true(json_equal(result.body, body));
		api_result_fini(&result);
		assert_int_equal(api_client_call(client, &delete, &result, NULL), 0);
		assert_int_equal(result.status, 204);
		assert_null(result.body);
		api_result_fini(&result);
	}
	json_decref(body);
}

static void large_answers_and_large_bodies_pass(void **state)
{
	const struct api_call get = {.method = API_GET, .path = "/v1/big"};
	static char text[900001];
	json_t *body = NULL;
	struct api_result result;

	(void)state;
	assert_int_equal(api_client_call(client, &get, &result, NULL), 0);
	assert_int_equal(strlen(member(result.body, "big")), 3000000);
	api_result_fini(&result);
	memset(text, 'y', sizeof(text) - 1);
	body = json_pack("{s:s}", "text", text);

	const struct api_call post = {.method = API_POST, .path = "/v1/echo", .body = body};

	assert_int_equal(api_client_call(client, &post, &result, NULL), 0);
	assert_true(json_equal(result.body, body));
	api_result_fini(&result);
	json_decref(body);
}

static void a_body_that_is_too_large_is_refused_with_words(void **state)
{
	static char text[3000001];
	json_t *body = NULL;
	struct api_result result;
	struct errbuf eb = {0};

	(void)state;
	memset(text, 'y', sizeof(text) - 1);
	body = json_pack("{s:s}", "text", text);

	const struct api_call post = {.method = API_POST, .path = "/v1/echo", .body = body};

	assert_int_equal(api_client_call(client, &post, &result, &eb), -EFBIG);
	assert_int_equal(result.status, 413);
	assert_string_equal(result.code, "too-large");
	api_result_fini(&result);
	json_decref(body);
}

static void an_error_answer_becomes_errno_text_and_hint(void **state)
{
	const struct api_call call = {.method = API_POST, .path = "/v1/fail"};
	const struct api_call none = {.method = API_GET, .path = "/v1/none"};
	struct api_result result;
	struct errbuf eb = {0};

	(void)state;
	assert_int_equal(api_client_call(client, &call, &result, &eb), -EBUSY);
	assert_int_equal(result.status, 409);
	assert_string_equal(result.code, "busy");
	/* Nothing that drives a terminal. */
	assert_string_equal(eb.text, "vm web1: is running?[31m");
	assert_string_equal(eb.hint, "stop it first");
	assert_non_null(json_object_get(result.body, "error"));
	api_result_fini(&result);
	assert_int_equal(api_client_call(client, &none, &result, &eb), -ENOSYS);
	assert_string_equal(result.code, "no-such-path");
	api_result_fini(&result);
}

static void an_answer_that_is_no_json_is_a_protocol_error(void **state)
{
	const struct api_call call = {.method = API_GET, .path = "/v1/html"};
	struct api_result result;
	struct errbuf eb = {0};

	(void)state;
	assert_int_equal(api_client_call(client, &call, &result, &eb), -EPROTO);
	assert_non_null(strstr(eb.text, "unexpected answer"));
	api_result_fini(&result);
}

static void a_call_that_takes_too_long_ends_and_the_server_notices(void **state)
{
	const struct api_call call = {.method = API_GET, .path = "/v1/slow", .timeout_ms = 2000};
	struct api_result result;
	struct errbuf eb = {0};
	uint64_t start_ns = clock_now_ns();

	(void)state;
	assert_int_equal(api_client_call(client, &call, &result, &eb), -ETIMEDOUT);
	assert_true(clock_now_ns() - start_ns >= 90 * NS_PER_MS);
	assert_true(clock_now_ns() - start_ns < 60 * NS_PER_S);
	api_result_fini(&result);
	assert_true(api_thread_wait_gone(&server, 1));
}

static void a_missing_service_is_told_with_a_hint(void **state)
{
	const struct api_call call = {.method = API_GET, .path = "/v1/x"};
	struct api_client_cfg cfg = {.url = "unix:///tmp/gw-none/api.sock"};
	struct api_client *other = NULL;
	struct api_result result;
	struct errbuf eb = {0};

	(void)state;
	assert_int_equal(api_client_create(&cfg, &other, NULL), 0);
	assert_int_equal(api_client_call(other, &call, &result, &eb), -ENOENT);
	assert_non_null(strstr(eb.text, "/tmp/gw-none/api.sock"));
	assert_non_null(strstr(eb.hint, "godwitd"));
	api_result_fini(&result);
	api_client_destroy(other);
}

static void a_socket_without_permission_is_told_with_a_hint(void **state)
{
	const struct api_call call = {.method = API_GET, .path = "/v1/x"};
	struct api_result result;
	struct errbuf eb = {0};

	(void)state;
	if (geteuid() != 0) {
		skip();
	}
	assert_int_equal(seteuid(65534), 0);

	int err = api_client_call(client, &call, &result, &eb);

	assert_int_equal(seteuid(0), 0);
	assert_int_equal(err, -EACCES);
	assert_non_null(strstr(eb.hint, "group"));
	api_result_fini(&result);
}

static void bad_addresses_and_paths_are_refused(void **state)
{
	static const char *const urls[] = {"",
	                                   "ftp://x",
	                                   "unix://relative",
	                                   "https://",
	                                   "https://n1/x",
	                                   "https://n1:",
	                                   "https://n1:0",
	                                   "https://n1:65536",
	                                   "https://n1:7443x",
	                                   "n1"};
	static const char *const paths[] = {"", "v1", "/v1/a b", "/v1/a\r\nX: y", "/v1#x"};
	struct api_client *other = NULL;
	struct api_result result;
	struct errbuf eb = {0};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(urls); i++) {
		const struct api_client_cfg cfg = {
			.url = urls[i], .cert_file = "x", .key_file = "x", .ca_file = "x"};

		assert_int_equal(api_client_create(&cfg, &other, &eb), -EINVAL);
		assert_null(other);
	}

	const struct api_client_cfg bare = {.url = "https://n1"};

	assert_int_equal(api_client_create(&bare, &other, &eb), -EINVAL);
	for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
		const struct api_call call = {.method = API_GET, .path = paths[i]};

		assert_int_equal(api_client_call(client, &call, &result, &eb), -EINVAL);
		api_result_fini(&result);
	}
}

static void paths_are_escaped(void **state)
{
	char *path = api_path("/v1/{a}/x?q={b}&z={c}", "a/b%", "1&2", "");

	(void)state;
	assert_string_equal(path, "/v1/a%2Fb%25/x?q=1%262&z=");
	free(path);
}

/* ---- streams ---- */

struct seen {
	int count;
	int stop_at;
	size_t bytes;
};

static int see_event(const json_t *event, void *arg)
{
	struct seen *seen = arg;

	assert_int_equal(json_integer_value(json_object_get(event, "n")), seen->count);
	seen->count++;
	return seen->count == seen->stop_at ? 77 : 0;
}

static int see_any(const json_t *event, void *arg)
{
	(void)event;
	((struct seen *)arg)->count++;
	return ((struct seen *)arg)->stop_at;
}

static int see_bytes(const void *buf, size_t len, void *arg)
{
	(void)buf;
	((struct seen *)arg)->bytes += len;
	return 0;
}

static void events_come_in_order_until_the_server_ends(void **state)
{
	const struct api_call call = {.method = API_GET, .path = "/v1/events?count=50000"};
	struct seen seen = {0};
	struct errbuf eb = {0};

	(void)state;
	assert_int_equal(api_client_events(client, &call, see_event, &seen, &eb), 0);
	assert_int_equal(seen.count, 50000);
	assert_int_equal(api_client_bytes(client, &call, see_bytes, &seen, &eb), 0);
	assert_int_equal(seen.bytes,
	                 50000 * strlen("{\"n\":}\n") + 10 + 180 + 2700 + 36000 + 200000);
}

static void the_reader_may_stop_and_the_server_notices(void **state)
{
	const struct api_call call = {.method = API_GET, .path = "/v1/events?count=50000"};
	const struct api_call follow = {.method = API_GET, .path = "/v1/follow"};
	struct seen seen = {.stop_at = 3};

	(void)state;
	assert_int_equal(api_client_events(client, &call, see_event, &seen, NULL), 77);
	assert_int_equal(seen.count, 3);
	seen = (struct seen){.stop_at = 5};
	assert_int_equal(api_client_events(client, &follow, see_any, &seen, NULL), 5);
	assert_int_equal(seen.count, 1);
	assert_true(api_thread_wait_gone(&server, 1));
}

static void silence_longer_than_allowed_ends_a_stream(void **state)
{
	const struct api_call call = {.method = API_GET, .path = "/v1/follow", .timeout_ms = 1000};
	struct seen seen = {0};

	(void)state;
	assert_int_equal(api_client_events(client, &call, see_any, &seen, NULL), -ETIMEDOUT);
	assert_int_equal(seen.count, 1);
}

static void a_stream_that_is_cut_is_no_end(void **state)
{
	const struct api_call call = {.method = API_GET, .path = "/v1/cut"};
	struct seen seen = {0};

	(void)state;
	assert_int_equal(api_client_events(client, &call, see_any, &seen, NULL), -ECONNRESET);
	assert_int_equal(seen.count, 0);
}

static void an_event_that_is_no_json_is_a_protocol_error(void **state)
{
	const struct api_call call = {.method = API_GET, .path = "/v1/nonsense"};
	const struct api_call fail = {.method = API_POST, .path = "/v1/fail"};
	struct seen seen = {0};
	struct errbuf eb = {0};

	(void)state;
	assert_int_equal(api_client_events(client, &call, see_any, &seen, &eb), -EPROTO);
	assert_int_equal(seen.count, 1);
	assert_non_null(strstr(eb.text, "unexpected event"));
	/* A refusal instead of a stream. */
	assert_int_equal(api_client_events(client, &fail, see_any, &seen, &eb), -EBUSY);
	assert_string_equal(eb.hint, "stop it first");
}

/* ---- upgrade ---- */

static void read_exactly(struct api_channel *channel, char *buf, size_t len)
{
	while (len != 0) {
		ssize_t n = api_channel_read(channel, buf, len);
		struct pollfd p = {.fd = api_channel_fd(channel), .events = POLLIN};

		if (n == -EAGAIN) {
			assert_int_equal(poll(&p, 1, 5000), 1);
			continue;
		}
		assert_true(n > 0);
		buf += n;
		len -= (size_t)n;
	}
}

static void a_console_is_a_byte_stream(void **state)
{
	const struct api_call call = {.method = API_GET, .path = "/v1/console"};
	struct api_channel *channel = NULL;
	struct errbuf eb = {0};
	char buf[16] = {0};

	(void)state;
	assert_int_equal(api_client_upgrade(client, &call, "godwit-console", &channel, &eb), 0);
	assert_int_equal(api_channel_read(channel, buf, sizeof(buf)), -EAGAIN);
	for (int i = 0; i < 10; i++) {
		assert_int_equal(api_channel_write(channel, "hello\r\n", 7), 7);
		read_exactly(channel, buf, 7);
		assert_memory_equal(buf, "hello\r\n", 7);
	}
	api_channel_close(channel);
	assert_int_equal(api_client_upgrade(client, &call, "other", &channel, &eb), -EPROTO);
	assert_null(channel);
	assert_non_null(strstr(eb.text, "byte stream"));
}

/* ---- allocation ---- */

static int everything(void)
{
	const struct api_client_cfg cfg = {.url = url};
	json_t *body = json_pack("{s:i}", "a", 1);
	const struct api_call call = {.method = API_POST, .path = "/v1/echo", .body = body};
	const struct api_call events = {.method = API_GET, .path = "/v1/events?count=2"};
	const struct api_call console = {.method = API_GET, .path = "/v1/console"};
	struct api_client *c = NULL;
	struct api_channel *channel = NULL;
	struct api_result result = {0};
	struct seen seen = {0};
	int err = api_client_create(&cfg, &c, NULL);

	if (err == 0) {
		err = api_client_call(c, &call, &result, NULL);
		api_result_fini(&result);
	}
	if (err == 0) {
		err = api_client_events(c, &events, see_event, &seen, NULL);
	}
	if (err == 0) {
		err = api_client_upgrade(c, &console, "godwit-console", &channel, NULL);
		api_channel_close(channel);
	}
	api_client_destroy(c);
	json_decref(body);
	return err;
}

static void every_allocation_failure_is_survived(void **state)
{
	uint32_t k = 1;

	(void)state;
	for (; fault_arm(FAULT_ALLOC, k), everything() == -ENOMEM; k++) {
	}
	assert_false(fault_hit(FAULT_ALLOC));
	fault_arm(FAULT_ALLOC, 0);
	assert_true(k > 8);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		TEST(a_call_brings_status_and_json),
		TEST(a_body_goes_there_and_back_on_one_connection),
		TEST(large_answers_and_large_bodies_pass),
		TEST(a_body_that_is_too_large_is_refused_with_words),
		TEST(an_error_answer_becomes_errno_text_and_hint),
		TEST(an_answer_that_is_no_json_is_a_protocol_error),
		TEST(a_call_that_takes_too_long_ends_and_the_server_notices),
		TEST(a_missing_service_is_told_with_a_hint),
		TEST(a_socket_without_permission_is_told_with_a_hint),
		TEST(bad_addresses_and_paths_are_refused),
		TEST(paths_are_escaped),
		TEST(events_come_in_order_until_the_server_ends),
		TEST(the_reader_may_stop_and_the_server_notices),
		TEST(silence_longer_than_allowed_ends_a_stream),
		TEST(a_stream_that_is_cut_is_no_end),
		TEST(an_event_that_is_no_json_is_a_protocol_error),
		TEST(a_console_is_a_byte_stream),
		TEST(every_allocation_failure_is_survived),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
