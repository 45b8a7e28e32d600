/* SPDX-License-Identifier: Apache-2.0 */
#include "bin/common/notify.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/lib/test.h"
#include "tests/lib/tree.h"

static int listen_at(const char *path, size_t len)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	assert_true(fd >= 0);
	memcpy(addr.sun_path, path, len);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr,
	                      (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)),
	                 0);
	return fd;
}

static void expect(int fd, const char *text)
{
	char buf[256];
	ssize_t n = recv(fd, buf, sizeof(buf) - 1, 0);

	assert_true(n >= 0);
	buf[n] = '\0';
	assert_string_equal(buf, text);
}

static void a_path_is_told(void **state)
{
	struct tree tree;
	char path[100];
	int fd;

	(void)state;
	tree_init(&tree);
	(void)snprintf(path, sizeof(path), "%s/notify", tree.root);
	fd = listen_at(path, strlen(path) + 1);
	assert_int_equal(setenv("NOTIFY_SOCKET", path, 1), 0);
	assert_int_equal(notify_send("READY=1\nSTATUS=x"), 0);
	expect(fd, "READY=1\nSTATUS=x");
	assert_int_equal(close(fd), 0);
	assert_int_equal(notify_send("READY=1"), -ECONNREFUSED);
	tree_fini(&tree);
	assert_int_equal(notify_send("READY=1"), -ENOENT);
}

static void a_systemd_that_does_not_read_cannot_hang_us(void **state)
{
	struct tree tree;
	char path[100];
	int err = 0;
	int fd;

	(void)state;
	tree_init(&tree);
	(void)snprintf(path, sizeof(path), "%s/notify", tree.root);
	fd = listen_at(path, strlen(path) + 1);
	assert_int_equal(setenv("NOTIFY_SOCKET", path, 1), 0);
	for (int i = 0; err == 0 && i < 100000; i++) { /* net.unix.max_dgram_qlen is 10 or so */
		err = notify_send("WATCHDOG=1");
	}
	assert_int_equal(err, -EAGAIN);
	assert_int_equal(close(fd), 0);
	tree_fini(&tree);
}

static void an_abstract_name_is_told(void **state)
{
	char name[64];
	int fd;

	(void)state;
	(void)snprintf(name, sizeof(name), "@godwit-notify-test-%d", (int)getpid());
	assert_int_equal(setenv("NOTIFY_SOCKET", name, 1), 0);
	name[0] = '\0';
	fd = listen_at(name, 1 + strlen(name + 1));
	assert_int_equal(notify_send("STOPPING=1"), 0);
	expect(fd, "STOPPING=1");
	assert_int_equal(close(fd), 0);
}

static void without_systemd_nothing_happens(void **state)
{
	(void)state;
	assert_int_equal(unsetenv("NOTIFY_SOCKET"), 0);
	assert_int_equal(notify_send("READY=1"), 0);
	assert_int_equal(setenv("NOTIFY_SOCKET", "", 1), 0);
	assert_int_equal(notify_send("READY=1"), 0);
}

static void strange_names_are_errors(void **state)
{
	char name[200];

	(void)state;
	assert_int_equal(setenv("NOTIFY_SOCKET", "relative", 1), 0);
	assert_int_equal(notify_send("READY=1"), -EINVAL);
	memset(name, 'x', sizeof(name) - 1);
	name[0] = '/';
	name[sizeof(name) - 1] = '\0';
	assert_int_equal(setenv("NOTIFY_SOCKET", name, 1), 0);
	assert_int_equal(notify_send("READY=1"), -EINVAL);
}

static uint64_t watchdog(const char *usec, const char *pid)
{
	(void)unsetenv("WATCHDOG_USEC");
	(void)unsetenv("WATCHDOG_PID");
	if (usec != NULL) {
		assert_int_equal(setenv("WATCHDOG_USEC", usec, 1), 0);
	}
	if (pid != NULL) {
		assert_int_equal(setenv("WATCHDOG_PID", pid, 1), 0);
	}
	return notify_watchdog_ns();
}

static void the_watchdog_counts_only_for_us(void **state)
{
	char pid[32];

	(void)state;
	(void)snprintf(pid, sizeof(pid), "%d", (int)getpid());
	assert_int_equal(watchdog(NULL, NULL), 0);
	assert_int_equal(watchdog("30000000", NULL), 30000000000ull);
	assert_int_equal(watchdog("30000000", pid), 30000000000ull);
	assert_int_equal(watchdog("30000000", "1"), 0);
	assert_int_equal(watchdog("x", NULL), 0);
	assert_int_equal(watchdog("1x", NULL), 0);
	assert_int_equal(watchdog("18446744073709551615", NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_path_is_told),
		cmocka_unit_test(a_systemd_that_does_not_read_cannot_hang_us),
		cmocka_unit_test(an_abstract_name_is_told),
		cmocka_unit_test(without_systemd_nothing_happens),
		cmocka_unit_test(strange_names_are_errors),
		cmocka_unit_test(the_watchdog_counts_only_for_us),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
