/* SPDX-License-Identifier: Apache-2.0 */

/* The API over TLS: client library and raw connections against the server's relay. */

#include "base/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/api/client.h"
#include "base/api/server.h"
#include "base/errbuf.h"
#include "base/fs.h"
#include "base/json.h"
#include "tests/lib/pki.h"
#include "tests/lib/test.h"
#include "tests/unit/base/api/thread.h"

static struct pki pki;
static struct pki_files n1;
static struct pki_files n2;
static struct pki_files alice;
static struct tls_ctx *tls;
static struct api_thread server;
static char url[64];

static bool allow_all_but_mallory(const struct tls_peer *peer, void *arg)
{
	(void)arg;
	return strcmp(peer->name, "mallory") != 0;
}

static struct tls_ctx *context(const struct pki_files *files)
{
	const struct tls_cfg cfg = {.cert_file = files->cert,
	                            .key_file = files->key,
	                            .ca_file = files->ca,
	                            .allow = allow_all_but_mallory};
	struct tls_ctx *ctx = NULL;

	assert_int_equal(tls_ctx_create(&cfg, &ctx, NULL), 0);
	return ctx;
}

static int group_setup(void **state)
{
	(void)state;
	(void)signal(SIGPIPE, SIG_IGN);
	pki_create(&pki, "testers");
	pki_issue(&pki, TLS_KIND_NODE, "n1", pki_now_s(), &n1);
	pki_issue(&pki, TLS_KIND_NODE, "n2", pki_now_s(), &n2);
	pki_issue(&pki, TLS_KIND_USER, "alice", pki_now_s(), &alice);
	return 0;
}

static int group_teardown(void **state)
{
	(void)state;
	pki_destroy(&pki);
	return 0;
}

static int setup(void **state)
{
	(void)state;
	tls = context(&n1);
	api_thread_start(&server, tls);
	(void)snprintf(url, sizeof(url), "https://n1:%u", server.port);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	api_thread_stop(&server);
	tls_ctx_destroy(tls);
	return 0;
}

static struct api_client *open_client(const struct pki_files *files, const char *where)
{
	const struct api_client_cfg cfg = {.url = where,
	                                   .connect_addr = "127.0.0.1",
	                                   .cert_file = files->cert,
	                                   .key_file = files->key,
	                                   .ca_file = files->ca};
	struct api_client *client = NULL;

	assert_int_equal(api_client_create(&cfg, &client, NULL), 0);
	return client;
}

/* One call; *name and *node say whom the server saw. */
static int who(const struct pki_files *files, const char *where, char name[64], bool *node,
               struct errbuf *eb)
{
	const struct api_call call = {.method = API_GET, .path = "/v1/who/x"};
	struct api_client *client = open_client(files, where);
	struct api_result result;
	int err = api_client_call(client, &call, &result, eb);

	if (err == 0) {
		const char *seen = json_string_value(json_object_get(result.body, "name"));

		assert_non_null(seen);
		(void)snprintf(name, 64, "%s", seen);
		*node = json_is_true(json_object_get(result.body, "node"));
		assert_true(json_is_false(json_object_get(result.body, "local")));
	}
	api_result_fini(&result);
	api_client_destroy(client);
	return err;
}

static void the_server_knows_users_and_nodes_by_their_certificates(void **state)
{
	char name[64];
	bool node = true;

	(void)state;
	assert_int_equal(who(&alice, url, name, &node, NULL), 0);
	assert_string_equal(name, "alice");
	assert_false(node);
	assert_int_equal(who(&n2, url, name, &node, NULL), 0);
	assert_string_equal(name, "n2");
	assert_true(node);
}

static void strangers_and_evicted_members_are_refused(void **state)
{
	struct pki other;
	struct pki_files stranger;
	struct pki_files mallory;
	struct errbuf eb = {0};
	char name[64];
	bool node = false;

	(void)state;
	pki_issue(&pki, TLS_KIND_NODE, "mallory", pki_now_s(), &mallory);
	assert_int_equal(who(&mallory, url, name, &node, &eb), -EKEYREJECTED);
	pki_create(&other, "testers");
	pki_issue(&other, TLS_KIND_USER, "alice", pki_now_s(), &stranger);
	assert_int_equal(who(&stranger, url, name, &node, &eb), -EKEYREJECTED);
	/* It trusts our CA, but we do not trust its. */
	assert_int_equal(fs_write(stranger.ca, pki.ca_cert, strlen(pki.ca_cert), 0644, NULL), 0);
	assert_int_equal(who(&stranger, url, name, &node, &eb), -EKEYREJECTED);
	assert_true(strlen(eb.hint) > 0);
	pki_destroy(&other);
	assert_int_equal(who(&alice, url, name, &node, NULL), 0);
}

static void a_client_refuses_a_server_that_is_not_the_node_it_named(void **state)
{
	struct errbuf eb = {0};
	char where[64];
	char name[64];
	bool node = false;

	(void)state;
	(void)snprintf(where, sizeof(where), "https://n2:%u", server.port);
	assert_int_equal(who(&alice, where, name, &node, &eb), -EKEYREJECTED);
}

static void a_user_called_like_a_node_is_no_server(void **state)
{
	struct pki_files fake;
	struct api_thread impostor;
	struct tls_ctx *ctx = NULL;
	char where[64];
	char name[64];
	bool node = false;

	(void)state;
	api_thread_stop(&server); /* the two would share a unix path */
	pki_issue(&pki, TLS_KIND_USER, "n9", pki_now_s(), &fake);
	ctx = context(&fake);
	api_thread_start(&impostor, ctx);
	(void)snprintf(where, sizeof(where), "https://n9:%u", impostor.port);
	assert_int_equal(who(&alice, where, name, &node, NULL), -EKEYREJECTED);
	api_thread_stop(&impostor);
	tls_ctx_destroy(ctx);
	api_thread_start(&server, tls);
}

static void large_bodies_and_answers_pass_and_too_large_ones_are_told(void **state)
{
	const struct api_call get = {.method = API_GET, .path = "/v1/big"};
	struct api_client *client = open_client(&alice, url);
	static char text[3000001];
	struct api_result result;
	struct errbuf eb = {0};

	(void)state;
	for (int i = 0; i < 3; i++) {
		assert_int_equal(api_client_call(client, &get, &result, NULL), 0);
		assert_int_equal(strlen(json_string_value(json_object_get(result.body, "big"))),
		                 3000000);
		api_result_fini(&result);
	}
	memset(text, 'y', 900000);
	text[900000] = '\0';

	json_t *body = json_pack("{s:s}", "text", text);
	struct api_call post = {.method = API_POST, .path = "/v1/echo", .body = body};

	assert_int_equal(api_client_call(client, &post, &result, NULL), 0);
	assert_true(json_equal(result.body, body));
	api_result_fini(&result);
	json_decref(body);
	memset(text, 'y', sizeof(text) - 1);
	post.body = body = json_pack("{s:s}", "text", text);
	assert_int_equal(api_client_call(client, &post, &result, &eb), -EFBIG);
	api_result_fini(&result);
	json_decref(body);
	api_client_destroy(client);
}

static int count_event(const json_t *event, void *arg)
{
	int *count = arg;

	assert_int_equal(json_integer_value(json_object_get(event, "n")), *count);
	++*count;
	return 0;
}

static int stop_at_once(const json_t *event, void *arg)
{
	(void)event;
	(void)arg;
	return 5;
}

static void streams_pass_and_a_reader_that_goes_is_noticed(void **state)
{
	const struct api_call events = {.method = API_GET, .path = "/v1/events?count=50000"};
	const struct api_call follow = {.method = API_GET, .path = "/v1/follow"};
	const struct api_call slow = {.method = API_GET, .path = "/v1/slow", .timeout_ms = 3000};
	struct api_client *client = open_client(&alice, url);
	struct api_result result;
	int count = 0;

	(void)state;
	assert_int_equal(api_client_events(client, &events, count_event, &count, NULL), 0);
	assert_int_equal(count, 50000);
	assert_int_equal(api_client_events(client, &follow, stop_at_once, NULL, NULL), 5);
	assert_true(api_thread_wait_gone(&server, 1));
	assert_int_equal(api_client_call(client, &slow, &result, NULL), -ETIMEDOUT);
	api_result_fini(&result);
	assert_true(api_thread_wait_gone(&server, 2));
	api_client_destroy(client);
}

static void consoles_work_through_the_relay(void **state)
{
	const struct api_call call = {.method = API_GET, .path = "/v1/console"};
	struct api_client *client = open_client(&alice, url);
	struct api_channel *channel = NULL;
	struct errbuf eb = {0};

	(void)state;
	assert_int_equal(api_client_upgrade(client, &call, "godwit-console", &channel, &eb), 0);
	for (int i = 0; i < 20; i++) {
		char buf[8] = {0};
		size_t got = 0;

		assert_int_equal(api_channel_write(channel, "ping!", 5), 5);
		while (got < 5) {
			struct pollfd p = {.fd = api_channel_fd(channel), .events = POLLIN};
			ssize_t n = api_channel_read(channel, buf + got, sizeof(buf) - got);

			assert_true(n > 0 || n == -EAGAIN);
			if (n == -EAGAIN) {
				assert_int_equal(poll(&p, 1, 5000), 1);
			} else {
				got += (size_t)n;
			}
		}
		assert_string_equal(buf, "ping!");
	}
	api_channel_close(channel);
	api_client_destroy(client);
}

static int connect_raw(void)
{
	struct sockaddr_in addr = {.sin_family = AF_INET,
	                           .sin_port = htons(server.port),
	                           .sin_addr = {htonl(INADDR_LOOPBACK)}};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	return fd;
}

/* A verified connection whose owner misbehaves afterwards. */
static struct tls_conn *connect_tls(struct tls_ctx *ctx, int *fd)
{
	const struct tls_conn_cfg cfg = {.role = TLS_CLIENT, .peer_name = "n1"};
	struct tls_conn *conn = NULL;

	*fd = connect_raw(); /* blocking */
	assert_int_equal(tls_conn_create(ctx, *fd, &cfg, &conn, NULL), 0);
	assert_int_equal(tls_conn_handshake(conn, NULL), 0);
	return conn;
}

static void clients_that_talk_nonsense_or_vanish_do_no_harm(void **state)
{
	static const char *const lines[] = {"GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01\x02", "",
	                                    "\xff"};
	static const char *const requests[] = {"",
	                                       "GET ",
	                                       "GET /v1/slow HTTP/1.1\r\nHost: x\r\n\r\n",
	                                       "POST /v1/echo HTTP/1.1\r\nHost: x\r\n",
	                                       "GET /v1/big HTTP/1.1\r\nHost: x\r\n\r\n",
	                                       "GET /v1/follow HTTP/1.1\r\nHost: x\r\n\r\n"};
	struct tls_ctx *ctx = context(&alice);
	char name[64];
	bool node = true;

	(void)state;
	for (int round = 0; round < 8; round++) {
		for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
			int fd = connect_raw();

			assert_int_equal(send(fd, lines[i], strlen(lines[i]), MSG_NOSIGNAL),
			                 strlen(lines[i]));
			(void)close(fd);
		}
		for (size_t i = 0; i < ARRAY_LEN(requests); i++) {
			int fd = -1;
			struct tls_conn *conn = connect_tls(ctx, &fd);

			if (requests[i][0] != '\0') {
				assert_int_equal(
					tls_conn_write(conn, requests[i], strlen(requests[i])),
					strlen(requests[i]));
			}
			if (round % 2 == 0) {
				assert_int_equal(tls_conn_goodbye(conn), 0);
			}
			tls_conn_destroy(conn);
			(void)close(fd);
		}
		assert_int_equal(who(&alice, url, name, &node, NULL), 0);
	}
	tls_ctx_destroy(ctx);
}

static void more_handshakes_than_allowed_are_turned_away_and_it_goes_on(void **state)
{
	int fds[80];
	char name[64];
	bool node = true;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
		fds[i] = connect_raw();
	}
	/* The last ones are closed at once, the others wait for their handshake. */
	for (size_t i = 64; i < ARRAY_LEN(fds); i++) {
		struct pollfd p = {.fd = fds[i], .events = POLLIN};
		char byte = 0;

		assert_int_equal(poll(&p, 1, 5000), 1);
		assert_true(recv(fds[i], &byte, 1, 0) <= 0);
	}
	for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
		(void)close(fds[i]);
	}
	/* The server sees the closes in its own time. */
	for (int i = 0; i < 100; i++) {
		if (who(&alice, url, name, &node, NULL) == 0) {
			return;
		}
	}
	fail_msg("the server does not answer any more");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		TEST(the_server_knows_users_and_nodes_by_their_certificates),
		TEST(strangers_and_evicted_members_are_refused),
		TEST(a_client_refuses_a_server_that_is_not_the_node_it_named),
		TEST(a_user_called_like_a_node_is_no_server),
		TEST(large_bodies_and_answers_pass_and_too_large_ones_are_told),
		TEST(streams_pass_and_a_reader_that_goes_is_noticed),
		TEST(consoles_work_through_the_relay),
		TEST(clients_that_talk_nonsense_or_vanish_do_no_harm),
		TEST(more_handshakes_than_allowed_are_turned_away_and_it_goes_on),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
