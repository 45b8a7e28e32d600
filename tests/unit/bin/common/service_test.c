/* SPDX-License-Identifier: Apache-2.0 */
#include "bin/common/service.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/loop.h"
#include "tests/lib/child.h"
#include "tests/lib/test.h"
#include "tests/lib/tree.h"

static struct tree tree;
static char state_dir[128];
static char run_dir[128];
static char notify_path[100];

static int setup(void **state)
{
	(void)state;
	tree_init(&tree);
	(void)snprintf(state_dir, sizeof(state_dir), "%s/deep/state", tree.root);
	(void)snprintf(run_dir, sizeof(run_dir), "%s/run", tree.root);
	(void)snprintf(notify_path, sizeof(notify_path), "%s/notify", tree.root);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	tree_fini(&tree);
	return 0;
}

static struct service_cfg config(void)
{
	return (struct service_cfg){.name = "toyd",
	                            .state_dir = state_dir,
	                            .run_dir = run_dir,
	                            .log_level = "info",
	                            .foreground = true};
}

/* Signals come one after the other: each is sent when the one before has been seen. */
static void send_dump_and_stop(void *arg)
{
	(void)arg;
	(void)raise(SIGHUP);
	(void)raise(SIGUSR1);
	(void)raise(SIGTERM);
}

/* In a child: a whole life. Returns 0, or the number of the step that failed. */
static int live(void *arg)
{
	struct service_cfg cfg = config();
	struct service *service;
	struct loop_timer *timer = NULL;

	(void)arg;
	if (setenv("NOTIFY_SOCKET", notify_path, 1) != 0) {
		return 1;
	}
	if (service_create(&cfg, &service, NULL) != 0) {
		return 2;
	}
	if (loop_timer_add(service_loop(service), 0, send_dump_and_stop, NULL, &timer) != 0) {
		return 3;
	}
	service_run(service, "playing");
	loop_timer_del(timer);
	service_destroy(service);
	return 0;
}

static void a_life_from_ready_to_stopping(void **state)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct child child;
	struct stat st;
	char path[256];
	char buf[256];
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	ssize_t n;

	(void)state;
	assert_true(fd >= 0);
	(void)snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", notify_path);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(child_run(live, NULL, &child), 0);
	assert_int_equal(child.exit_status, 0);
	n = recv(fd, buf, sizeof(buf) - 1, 0);
	assert_true(n > 0);
	buf[n] = '\0';
	assert_string_equal(buf, "READY=1\nSTATUS=playing");
	n = recv(fd, buf, sizeof(buf) - 1, 0);
	assert_true(n > 0);
	buf[n] = '\0';
	assert_string_equal(buf, "STOPPING=1");
	assert_int_equal(close(fd), 0);
	assert_non_null(strstr(child.text, "ignored signal=HUP"));
	assert_non_null(strstr(child.text, "stopping signal=TERM"));
	(void)snprintf(path, sizeof(path), "%s/toyd.blackbox", state_dir);
	assert_int_equal(stat(path, &st), 0);
	assert_true(st.st_size > 1000);
	assert_int_equal(stat(state_dir, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0750);
	assert_int_equal(stat(run_dir, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0755);
}

#define FEEDS 3u
#define FEEDS_WAIT_NS (60 * NS_PER_S)

/* systemd, in the service's own loop: ends it when it was fed often enough. */
struct feeds {
	int fd;
	uint32_t count;
	uint64_t end_ns;
	struct loop_timer *timer;
};

static void count_feeds(void *arg)
{
	struct feeds *feeds = arg;
	char buf[256];

	for (ssize_t n; (n = recv(feeds->fd, buf, sizeof(buf), 0)) > 0;) {
		feeds->count +=
			n == (ssize_t)strlen("WATCHDOG=1") && memcmp(buf, "WATCHDOG=1", 10) == 0;
	}
	if (feeds->count >= FEEDS || clock_now_ns() > feeds->end_ns) {
		(void)raise(SIGTERM);
	} else {
		loop_timer_arm(feeds->timer, 20 * NS_PER_MS);
	}
}

static int live_with_watchdog(void *arg)
{
	struct feeds *feeds = arg;
	struct service_cfg cfg = config();
	struct service *service;

	feeds->end_ns = clock_now_ns() + FEEDS_WAIT_NS;
	if (setenv("NOTIFY_SOCKET", notify_path, 1) != 0 ||
	    setenv("WATCHDOG_USEC", "100000", 1) != 0 ||
	    service_create(&cfg, &service, NULL) != 0 ||
	    loop_timer_add(service_loop(service), 20 * NS_PER_MS, count_feeds, feeds,
	                   &feeds->timer) != 0) {
		return 1;
	}
	service_run(service, "playing");
	loop_timer_del(feeds->timer);
	service_destroy(service);
	return feeds->count >= FEEDS ? 0 : 2;
}

static void the_watchdog_of_systemd_is_fed(void **state)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct feeds feeds = {
		.fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0),
	};
	struct child child;

	(void)state;
	assert_true(feeds.fd >= 0);
	(void)snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", notify_path);
	assert_int_equal(bind(feeds.fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(child_run(live_with_watchdog, &feeds, &child), 0);
	assert_int_equal(child.exit_status, 0);
	assert_int_equal(close(feeds.fd), 0);
}

static void a_second_instance_is_refused(void **state)
{
	struct service_cfg cfg = config();
	struct service *first;
	struct service *second;
	struct errbuf eb = {0};

	(void)state;
	assert_int_equal(service_create(&cfg, &first, NULL), 0);
	assert_int_equal(service_create(&cfg, &second, &eb), -EBUSY);
	assert_null(second);
	/* Other sockets, but the same state: as bad. */
	cfg.run_dir = tree.root;
	assert_int_equal(service_create(&cfg, &second, &eb), -EBUSY);
	assert_non_null(strstr(eb.text, state_dir));
	service_destroy(first);
	assert_int_equal(service_create(&cfg, &second, &eb), 0);
	service_destroy(second);
	cfg.state_dir = cfg.run_dir;
	assert_int_equal(service_create(&cfg, &second, &eb), 0);
	service_destroy(second);
}

static void bad_directories_and_levels_are_refused(void **state)
{
	struct service_cfg cfg = config();
	struct service *service;
	struct errbuf eb = {0};

	(void)state;
	cfg.log_level = "loud";
	assert_int_equal(service_create(&cfg, &service, &eb), -EINVAL);
	assert_string_equal(eb.text, "'loud' is no log level");
	cfg = config();
	cfg.run_dir = "relative";
	assert_int_equal(service_create(&cfg, &service, &eb), -EINVAL);
	tree_file(&tree, "/file", "");
	(void)snprintf(run_dir, sizeof(run_dir), "%s/file", tree.root);
	cfg = config();
	assert_int_equal(service_create(&cfg, &service, &eb), -ENOTDIR);
}

static void every_failing_allocation_leaves_nothing(void **state)
{
	struct service_cfg cfg = config();
	struct service *service;
	struct errbuf eb = {0};
	uint32_t k = 1;

	(void)state;
	for (; fault_arm(FAULT_ALLOC, k), service_create(&cfg, &service, &eb) == -ENOMEM; k++) {
		assert_null(service);
	}
	fault_arm(FAULT_ALLOC, 0);
	assert_true(k > 3);
	assert_non_null(service);
	service_destroy(service);
}

#define SERVICE_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		SERVICE_TEST(a_life_from_ready_to_stopping),
		SERVICE_TEST(the_watchdog_of_systemd_is_fed),
		SERVICE_TEST(a_second_instance_is_refused),
		SERVICE_TEST(bad_directories_and_levels_are_refused),
		SERVICE_TEST(every_failing_allocation_leaves_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
