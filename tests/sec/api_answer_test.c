/* SPDX-License-Identifier: Apache-2.0 */

/* A hostile or broken server against the API client: every answer ends in an error, soon. */

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/api/client.h"
#include "base/check.h"
#include "base/errbuf.h"
#include "base/json.h"
#include "tests/lib/test.h"

#define OK_HEAD "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"

/* Sends the same bytes to each client and hangs up. */
struct liar {
	pthread_t thread;
	int fd;
	char path[64];
	const char *answer;
	size_t len;
};

static void *liar_main(void *arg)
{
	struct liar *liar = arg;
	int client = -1;

	while ((client = accept(liar->fd, NULL, NULL)) >= 0) {
		char buf[4096];
		const struct timeval limit = {.tv_sec = 60};

		CHECK(setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) == 0);
		(void)recv(client, buf, sizeof(buf), 0);
		(void)send(client, liar->answer, liar->len, MSG_NOSIGNAL);
		(void)close(client);
	}
	return NULL;
}

static void liar_start(struct liar *liar, const char *answer, size_t len)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};

	liar->answer = answer;
	liar->len = len;
	(void)snprintf(liar->path, sizeof(liar->path), "/tmp/gw-liar-%d.sock", getpid());
	(void)unlink(liar->path);
	memcpy(addr.sun_path, liar->path, strlen(liar->path) + 1);
	liar->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(liar->fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(liar->fd, 4), 0);
	assert_int_equal(pthread_create(&liar->thread, NULL, liar_main, liar), 0);
}

static void liar_stop(struct liar *liar)
{
	(void)shutdown(liar->fd, SHUT_RDWR);
	assert_int_equal(pthread_join(liar->thread, NULL), 0);
	(void)close(liar->fd);
	(void)unlink(liar->path);
}

static int see(const json_t *event, void *arg)
{
	(void)event;
	(void)arg;
	return 0;
}

/* One call of each kind. Each must fail with a text. */
static void expect_errors(const char *answer, size_t len)
{
	const struct api_call call = {.method = API_GET, .path = "/v1/x", .timeout_ms = 120000};
	struct api_client_cfg cfg = {0};
	struct api_client *client = NULL;
	struct api_channel *channel = NULL;
	struct api_result result = {0};
	struct errbuf eb = {0};
	struct liar liar;
	char url[80];
	int err = 0;

	liar_start(&liar, answer, len);
	(void)snprintf(url, sizeof(url), "unix://%s", liar.path);
	cfg.url = url;
	assert_int_equal(api_client_create(&cfg, &client, NULL), 0);
	err = api_client_call(client, &call, &result, &eb);
	assert_true(err < 0 && err != -ETIMEDOUT);
	assert_true(strlen(eb.text) > 0);
	api_result_fini(&result);
	eb = (struct errbuf){0};
	err = api_client_events(client, &call, see, NULL, &eb);
	assert_true(err < 0 && err != -ETIMEDOUT);
	assert_true(strlen(eb.text) > 0);
	eb = (struct errbuf){0};
	err = api_client_upgrade(client, &call, "godwit-console", &channel, &eb);
	assert_true(err < 0 && err != -ETIMEDOUT);
	assert_true(strlen(eb.text) > 0);
	assert_null(channel);
	api_client_destroy(client);
	liar_stop(&liar);
}

static void answers_that_make_no_sense_are_errors(void **state)
{
	static const char *const answers[] = {
		"",
		"\r\n\r\n",
		"garbage\r\n\r\n",
		"HTTP/1.1\r\n\r\n",
		"HTTP/1.1 abc\r\n\r\n",
		"HTTP/1.1 999 x\r\n\r\n",
		"HTTP/1.1 200",
		"HTTP/1.1 302 Found\r\nLocation: http://elsewhere/\r\nContent-Length: 0\r\n\r\n",
		OK_HEAD "Content-Length: 5\r\n\r\n{\"a\"",
		OK_HEAD "Content-Length: 5\r\n\r\n{\"a\":",
		OK_HEAD "Content-Length: 2\r\n\r\n[}",
		OK_HEAD "Content-Length: 99999999999999\r\n\r\n{}",
		OK_HEAD "Content-Length: -5\r\n\r\n{}",
		OK_HEAD "Transfer-Encoding: chunked\r\n\r\nzz\r\n",
		OK_HEAD "Transfer-Encoding: chunked\r\n\r\n5\r\n{\"a\"",
		OK_HEAD "Transfer-Encoding: chunked\r\n\r\n3\r\n{x}\r\n0\r\n\r\n",
		"HTTP/1.1 500 x\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 500 x\r\nContent-Length: 4\r\n\r\nnull",
		"HTTP/1.1 404 x\r\nContent-Length: 12\r\n\r\n{\"error\": 1}",
		"HTTP/1.1 404 x\r\nContent-Length: 24\r\n\r\n{\"error\":{\"code\":[1,2]}}",
		"HTTP/1.1 409 x\r\nContent-Length: 999\r\n\r\n{\"error\":{\"code\":\"busy\"}}",
		"HTTP/1.1 101 x\r\n", /* an upgrade that stops */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
		expect_errors(answers[i], strlen(answers[i]));
	}
}

static void endless_answers_are_cut_off(void **state)
{
	static const char head[] = OK_HEAD "\r\n[";
	static const char line[] = OK_HEAD;
	size_t size = 70u << 20;
	char *text = malloc(size);

	(void)state;
	assert_non_null(text);
	/* A body beyond the limit, an event beyond its own, a head beyond curl's and ours. */
	memset(text, ' ', size);
	memcpy(text, head, sizeof(head) - 1);
	expect_errors(text, size);
	memset(text, 'x', size);
	memcpy(text, line, sizeof(line) - 1);
	expect_errors(text, 1u << 20);
	free(text);
}

static void every_truncation_of_an_error_is_an_error(void **state)
{
	static const char answer[] =
		"HTTP/1.1 409 Conflict\r\nContent-Type: application/json\r\nContent-Length: "
		"49\r\n\r\n"
		"{\"error\":{\"code\":\"busy\",\"message\":\"m\",\"hint\":\"h\"}}";

	(void)state;
	for (size_t i = 0; i < sizeof(answer); i++) {
		expect_errors(answer, i);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers_that_make_no_sense_are_errors),
		cmocka_unit_test(endless_answers_are_cut_off),
		cmocka_unit_test(every_truncation_of_an_error_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
