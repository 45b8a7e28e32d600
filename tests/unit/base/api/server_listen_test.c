/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
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

/* ---- who may ---- */

#define NOBODY 65534
#define GROUP_A 64001
#define GROUP_B 64002

/* In a process of its own: become somebody else, ask, exit with the status / 10. */
static void child_ask(const char *path, gid_t gid, gid_t supplementary)
{
	static const char request[] = "GET /v1/vms/a HTTP/1.1\r\nHost: x\r\n\r\n";
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	char answer[64] = {0};
	size_t got = 0;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	memcpy(addr.sun_path, path, strlen(path) + 1);
	if (setgroups(supplementary != 0 ? 1 : 0, &supplementary) != 0 || setgid(gid) != 0 ||
	    setuid(NOBODY) != 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) != 0 ||
	    send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL) != sizeof(request) - 1) {
		_exit(1);
	}
	while (got < 12) {
		ssize_t n = recv(fd, answer + got, 12 - got, 0);

		if (n <= 0) {
			_exit(2);
		}
		got += (size_t)n;
	}
	_exit((int)strtoul(answer + 9, NULL, 10) / 10);
}

/* The first two digits of the status that such a user gets. */
static int ask_as(struct fixture *f, const char *path, gid_t gid, gid_t supplementary)
{
	uint64_t deadline_ns = clock_now_ns() + 5 * NS_PER_S;
	int status = 0;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		child_ask(path, gid, supplementary);
	}
	while (waitpid(pid, &status, WNOHANG) == 0) {
		assert_true(clock_now_ns() < deadline_ns);
		http_spin(f->loop, 1);
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void only_listed_users_and_groups_are_served(void **state)
{
	static const uid_t uids[] = {12345, NOBODY};
	static const gid_t gids[] = {GROUP_A};
	struct fixture *f = *state;
	struct api_listen_unix cfg = {
		.mode = 0666, .owner = (uid_t)-1, .group = (gid_t)-1, .gids = gids, .gid_count = 1};
	char path[64];

	if (geteuid() != 0) {
		skip();
	}
	unix_path(path, sizeof(path));
	remove_unix(path);
	cfg.path = path;
	assert_int_equal(api_server_listen_unix(f->server, &cfg, NULL), 0);
	assert_int_equal(ask_as(f, path, GROUP_A, 0), 20);
	assert_int_equal(ask_as(f, path, GROUP_B, GROUP_A), 20);
	assert_int_equal(ask_as(f, path, GROUP_B, GROUP_B), 40);
	assert_int_equal(ask_as(f, path, GROUP_B, 0), 40);
	assert_int_equal(f->handled, 2);
	api_server_destroy(f->server);

	const struct api_server_cfg server_cfg = {.loop = f->loop};

	assert_int_equal(api_server_create(&server_cfg, &f->server, NULL), 0);
	assert_int_equal(api_server_routes(f->server, fixture_routes, FIXTURE_ROUTE_COUNT, f), 0);
	cfg.gid_count = 0;
	cfg.uids = uids;
	cfg.uid_count = 1;
	assert_int_equal(api_server_listen_unix(f->server, &cfg, NULL), 0);
	assert_int_equal(ask_as(f, path, GROUP_B, 0), 40);
	api_server_destroy(f->server);
	assert_int_equal(api_server_create(&server_cfg, &f->server, NULL), 0);
	assert_int_equal(api_server_routes(f->server, fixture_routes, FIXTURE_ROUTE_COUNT, f), 0);
	cfg.uid_count = 2;
	assert_int_equal(api_server_listen_unix(f->server, &cfg, NULL), 0);
	assert_int_equal(ask_as(f, path, GROUP_B, 0), 20);
	api_server_destroy(f->server);
	f->server = NULL;
	remove_unix(path);
}

static void too_many_connections_are_answered_503_until_some_close(void **state)
{
	struct fixture *f = *state; /* 3 connections */
	struct api_listen_unix cfg = {.mode = 0600, .owner = (uid_t)-1, .group = (gid_t)-1};
	struct http h[4];
	json_t *json = NULL;
	char path[64];

	unix_path(path, sizeof(path));
	remove_unix(path);
	cfg.path = path;
	assert_int_equal(api_server_listen_unix(f->server, &cfg, NULL), 0);
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(http_connect_unix(&h[i], f->loop, path), 0);
		assert_int_equal(http_ask(&h[i], "GET", "/v1/vms/a", NULL), 200);
	}
	assert_int_equal(http_connect_unix(&h[3], f->loop, path), 0);
	assert_int_equal(http_ask(&h[3], "GET", "/v1/vms/a", &json), 503);
	assert_string_equal(http_error(json, "code"), "crowded");
	json_decref(json);
	assert_int_equal(http_ask(&h[0], "GET", "/v1/vms/a", NULL), 200);
	http_close(&h[0]);
	http_close(&h[3]);
	http_spin(f->loop, 10);
	assert_int_equal(http_connect_unix(&h[0], f->loop, path), 0);
	assert_int_equal(http_ask(&h[0], "GET", "/v1/vms/a", NULL), 200);
	http_close(&h[0]);
	http_close(&h[1]);
	http_close(&h[2]);
	remove_unix(path);
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
		err = api_server_routes(server, fixture_routes, FIXTURE_ROUTE_COUNT, NULL);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_unix_socket_has_its_mode_and_knows_its_callers,
	                                        fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(a_dead_socket_is_replaced_and_a_served_one_is_not,
	                                        fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(bad_socket_paths_are_refused, fixture_setup,
	                                        fixture_teardown),
		cmocka_unit_test_setup_teardown(only_listed_users_and_groups_are_served,
	                                        fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(
			too_many_connections_are_answered_503_until_some_close, fixture_setup_small,
			fixture_teardown),
		cmocka_unit_test_setup_teardown(every_allocation_failure_at_the_start_is_survived,
	                                        fixture_setup, fixture_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
