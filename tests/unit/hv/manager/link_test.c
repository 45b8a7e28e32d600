/* SPDX-License-Identifier: Apache-2.0 */
#include "hv/manager/link.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/clock.h"
#include "base/errbuf.h"
#include "base/loop.h"
#include "tests/lib/test.h"

struct fixture {
	struct loop *loop;
	struct loop_timer *timer;
	struct link *link;
	char dir[64];
	char path[96];
	int listen_fd;
	int worker; /* the other end */
	unsigned answers, events, closed;
	int err;
	char text[128];
	bool close_in_callback;
};

static void on_event(void *arg, json_t *event)
{
	struct fixture *f = arg;

	assert_non_null(event);
	f->events++;
}

static void on_closed(void *arg)
{
	struct fixture *f = arg;

	f->closed++;
	link_close(f->link);
	f->link = NULL;
}

static void on_answer(void *arg, int err, json_t *result, const struct errbuf *eb)
{
	struct fixture *f = arg;

	(void)result;
	f->answers++;
	f->err = err;
	(void)snprintf(f->text, sizeof(f->text), "%s", err != 0 ? errbuf_text(eb, err) : "");
	if (f->close_in_callback) {
		link_close(f->link);
		f->link = NULL;
	}
}

static void on_timer(void *arg)
{
	struct fixture *f = arg;

	loop_stop(f->loop);
}

/* Let the loop see what is there. */
static void turn(struct fixture *f)
{
	loop_timer_arm(f->timer, 10 * NS_PER_MS);
	loop_run(f->loop);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct link_cfg cfg = {.event = on_event, .closed = on_closed, .arg = f};

	if (f == NULL || loop_create(&f->loop) != 0 ||
	    loop_timer_new(f->loop, on_timer, f, &f->timer) != 0) {
		return -1;
	}
	(void)snprintf(f->dir, sizeof(f->dir), "/tmp/gw-link-XXXXXX");
	if (mkdtemp(f->dir) == NULL) {
		return -1;
	}
	(void)snprintf(f->path, sizeof(f->path), "%s/s", f->dir);
	(void)snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", f->path);
	cfg.loop = f->loop;
	cfg.path = f->path;
	f->listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (link_open(&cfg, &f->link) != -ENOENT ||
	    bind(f->listen_fd, (const struct sockaddr *)&addr, sizeof(addr)) != 0 ||
	    link_open(&cfg, &f->link) != -ECONNREFUSED || listen(f->listen_fd, 4) != 0 ||
	    link_open(&cfg, &f->link) != 0) {
		return -1;
	}
	f->worker = accept(f->listen_fd, NULL, NULL);
	*state = f;
	return f->worker < 0 ? -1 : 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	link_close(f->link);
	(void)close(f->worker);
	(void)close(f->listen_fd);
	loop_timer_del(f->timer);
	loop_destroy(f->loop);
	(void)unlink(f->path);
	(void)rmdir(f->dir);
	free(f);
	return 0;
}

static void say(struct fixture *f, const char *text)
{
	assert_int_equal(send(f->worker, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static void a_request_gets_its_own_answer(void **state)
{
	struct fixture *f = *state;
	char buf[256];
	ssize_t n;

	assert_int_equal(
		link_request(f->link, "pause", json_pack("{s:i}", "n", 3), -1, on_answer, f), 0);
	n = recv(f->worker, buf, sizeof(buf) - 1, 0);
	assert_true(n > 0);
	buf[n] = '\0';
	assert_non_null(strstr(buf, "\"cmd\":\"pause\""));
	assert_non_null(strstr(buf, "\"id\":1"));
	assert_non_null(strstr(buf, "\"n\":3"));
	say(f, "{\"event\":\"state\"}");
	say(f, "{\"id\":2,\"result\":{}}"); /* nobody asked */
	turn(f);
	assert_int_equal(f->answers, 0);
	assert_int_equal(f->events, 1);
	say(f, "{\"id\":1,\"error\":{\"errno\":16,\"message\":\"busy\",\"hint\":\"wait\"}}");
	say(f, "{\"id\":1,\"result\":{}}"); /* once is enough */
	turn(f);
	assert_int_equal(f->answers, 1);
	assert_int_equal(f->err, -EBUSY);
	assert_string_equal(f->text, "busy");
}

/* A worker that its guest has taken over can say anything. */
static void a_hostile_worker_does_no_harm(void **state)
{
	static const char *const bad[] = {
		"{",
		"[]",
		"7",
		"{}",
		"{\"id\":0,\"result\":{}}",
		"{\"id\":-1}",
		"{\"id\":9223372036854775807,\"result\":{}}",
		"{\"id\":1.5}",
		"{\"id\":\"1\"}",
		"{\"id\":0,\"error\":{}}",
		"{\"event\":7}",
		"\xff",
		"[[[[[[[[[[[[[[[[[[[[",
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		say(f, bad[i]);
		turn(f);
	}
	assert_int_equal(f->answers, 0);
	assert_int_equal(link_request(f->link, "x", NULL, -1, on_answer, f), 0);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		say(f, bad[i]);
		turn(f);
	}
	assert_int_equal(f->answers, 0);
	/* It has not ended, whatever number it gives. */
	say(f, "{\"id\":1,\"error\":{\"errno\":32}}");
	turn(f);
	assert_int_equal(f->answers, 1);
	assert_int_equal(f->err, -EIO);
	assert_int_equal(link_request(f->link, "x", NULL, -1, on_answer, f), 0);
	say(f, "{\"id\":2,\"error\":{\"errno\":-99999999999,\"message\":[],\"hint\":{}}}");
	turn(f);
	assert_int_equal(f->err, -EIO);
	assert_string_equal(f->text, "the worker failed");
	assert_int_equal(f->closed, 0);
}

static void only_so_many_requests_wait(void **state)
{
	struct fixture *f = *state;

	for (uint32_t i = 0; i < LINK_REQUESTS_MAX; i++) {
		assert_int_equal(link_request(f->link, "x", NULL, -1, on_answer, f), 0);
	}
	assert_int_equal(link_request(f->link, "x", json_object(), -1, on_answer, f), -EBUSY);
	say(f, "{\"id\":3,\"result\":{}}");
	turn(f);
	assert_int_equal(f->answers, 1);
	assert_int_equal(link_request(f->link, "x", NULL, -1, on_answer, f), 0);
}

static void when_it_ends_all_who_wait_are_told(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(link_request(f->link, "x", NULL, -1, on_answer, f), 0);
	assert_int_equal(link_request(f->link, "y", NULL, -1, on_answer, f), 0);
	assert_int_equal(shutdown(f->worker, SHUT_RDWR), 0);
	turn(f);
	assert_int_equal(f->answers, 2);
	assert_int_equal(f->err, -EPIPE);
	assert_int_equal(f->closed, 1);
	assert_null(f->link);
}

static void it_may_be_closed_from_a_callback(void **state)
{
	struct fixture *f = *state;

	f->close_in_callback = true;
	assert_int_equal(link_request(f->link, "x", NULL, -1, on_answer, f), 0);
	say(f, "{\"id\":1,\"result\":{}}");
	say(f, "{\"event\":\"late\"}");
	turn(f);
	assert_int_equal(f->answers, 1);
	assert_int_equal(f->events, 0);
	assert_int_equal(f->closed, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_request_gets_its_own_answer),    TEST(a_hostile_worker_does_no_harm),
		TEST(only_so_many_requests_wait),       TEST(when_it_ends_all_who_wait_are_told),
		TEST(it_may_be_closed_from_a_callback),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
