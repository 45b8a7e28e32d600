/* SPDX-License-Identifier: Apache-2.0 */
#include "hv/worker/control.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/clock.h"
#include "base/errbuf.h"
#include "base/uring.h"
#include "tests/lib/test.h"

struct fixture {
	struct uring *ring;
	struct control *control;
	struct sockaddr_un addr;
	socklen_t addr_bytes;
	unsigned handled;
	struct control_request kept; /* of "later" */
	uint32_t fds;                /* descriptors that came with the last request */
};

static void handler(struct control_request *req, void *arg)
{
	struct fixture *f = arg;
	struct errbuf eb = {0};

	f->handled++;
	f->fds = req->fd_count;
	if (strcmp(req->cmd, "later") == 0) {
		f->kept = *req;
	} else if (strcmp(req->cmd, "fail") == 0) {
		(void)errbuf_set(&eb, -EBUSY, "no");
		errbuf_hint(&eb, "try");
		control_error(req, -EBUSY, &eb);
	} else if (strcmp(req->cmd, "cut") == 0) { /* a text that ends within a character */
		(void)errbuf_set(&eb, -EBUSY, "gr\xc3");
		control_error(req, -EBUSY, &eb);
	} else {
		control_reply(req, NULL);
	}
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	*state = f;
	if (f == NULL || fd < 0) {
		return -1;
	}
	/* An address that the kernel chooses, in no directory. */
	f->addr.sun_family = AF_UNIX;
	f->addr_bytes = sizeof(f->addr);
	if (bind(fd, (const struct sockaddr *)&f->addr, sizeof(sa_family_t)) != 0 ||
	    getsockname(fd, (struct sockaddr *)&f->addr, &f->addr_bytes) != 0 ||
	    listen(fd, 16) != 0 ||
	    uring_create(&(struct uring_cfg){.entries = 64}, &f->ring, NULL) != 0) {
		return -1;
	}
	return control_create(f->ring, fd, handler, f, &f->control);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	control_destroy(f->control);
	uring_destroy(f->ring);
	free(f);
	return 0;
}

static void turn(struct fixture *f)
{
	for (unsigned i = 0; i < 6; i++) {
		assert_true(uring_wait(f->ring, 2 * NS_PER_MS) >= 0);
	}
}

static int client(struct fixture *f)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (const struct sockaddr *)&f->addr, f->addr_bytes), 0);
	turn(f);
	return fd;
}

static void say(struct fixture *f, int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
	turn(f);
}

/* The next message; "" = the connection has ended; NULL = nothing has come. */
static const char *hear(struct fixture *f, int fd)
{
	static char buf[CONTROL_MESSAGE_BYTES_MAX + 1];
	ssize_t n = recv(fd, buf, sizeof(buf) - 1, MSG_DONTWAIT);

	for (unsigned i = 0; i < 100 && n < 0 && errno == EAGAIN; i++) {
		turn(f);
		n = recv(fd, buf, sizeof(buf) - 1, MSG_DONTWAIT);
	}
	if (n < 0) {
		return errno == ECONNRESET ? "" : NULL;
	}
	buf[n] = '\0';
	return buf;
}

static unsigned open_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned n = 0;

	assert_non_null(dir);
	while (readdir(dir) != NULL) {
		n++;
	}
	(void)closedir(dir);
	return n;
}

static void say_with_fds(int fd, const char *text, size_t len, unsigned count)
{
	union {
		char buf[CMSG_SPACE(16 * sizeof(int))];
		struct cmsghdr align;
	} control = {0};
	struct iovec iov = {.iov_base = (char *)(uintptr_t)text, .iov_len = len};
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = CMSG_SPACE(count * sizeof(int)),
	};
	struct cmsghdr *h = CMSG_FIRSTHDR(&msg);

	*h = (struct cmsghdr){.cmsg_len = CMSG_LEN(count * sizeof(int)),
	                      .cmsg_level = SOL_SOCKET,
	                      .cmsg_type = SCM_RIGHTS};
	for (unsigned i = 0; i < count; i++) {
		int one = 0;

		memcpy(CMSG_DATA(h) + i * sizeof(int), &one, sizeof(one));
	}
	assert_int_equal(sendmsg(fd, &msg, MSG_NOSIGNAL), len);
}

static void requests_get_their_answers(void **state)
{
	struct fixture *f = *state;
	int fd = client(f);

	say(f, fd, "{\"id\":7,\"cmd\":\"x\"}");
	assert_string_equal(hear(f, fd), "{\"id\":7,\"result\":{}}");
	say(f, fd, "{\"id\":8,\"cmd\":\"fail\"}");
	assert_non_null(strstr(hear(f, fd), "\"message\":\"no\",\"hint\":\"try\""));
	(void)close(fd);
}

static void an_error_is_told_whatever_its_text(void **state)
{
	struct fixture *f = *state;
	int fd = client(f);
	const char *answer;

	say(f, fd, "{\"id\":5,\"cmd\":\"cut\"}");
	answer = hear(f, fd);
	assert_non_null(answer);
	assert_non_null(strstr(answer, "\"id\":5"));
	assert_non_null(strstr(answer, "\"message\":\"gr"));
	(void)close(fd);
}

static void nonsense_is_answered_and_does_no_harm(void **state)
{
	static const char *const bad[] = {
		"{",
		"[]",
		"7",
		"{}",
		"{\"id\":1}",
		"{\"cmd\":\"x\"}",
		"{\"id\":\"1\",\"cmd\":\"x\"}",
		"{\"id\":-1,\"cmd\":\"x\"}",
		"{\"id\":1,\"cmd\":7}",
		"\xff\xfe",
		"{\"id\":1,\"id\":1}",
		"{\"id\":1,\"cmd\":\"0123456789012345678901234567890123456789\"}",
	};
	struct fixture *f = *state;
	int fd = client(f);

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		say(f, fd, bad[i]);
		assert_non_null(strstr(hear(f, fd), "\"error\""));
	}
	assert_int_equal(f->handled, 0);
	say(f, fd, "{\"id\":2,\"cmd\":\"x\"}");
	assert_string_equal(hear(f, fd), "{\"id\":2,\"result\":{}}");
	(void)close(fd);
}

static void an_answer_to_who_has_gone_reaches_nobody(void **state)
{
	struct fixture *f = *state;
	int fd = client(f);
	int other;

	say(f, fd, "{\"id\":5,\"cmd\":\"later\"}");
	(void)close(fd);
	turn(f);
	other = client(f); /* takes the same slot */
	control_reply(&f->kept, NULL);
	assert_null(hear(f, other));
	control_event(f->control, json_pack("{s:s}", "event", "e"));
	assert_string_equal(hear(f, other), "{\"event\":\"e\"}");
	(void)close(other);
}

static void no_descriptor_is_left_behind(void **state)
{
	static char large[CONTROL_MESSAGE_BYTES_MAX + 4096];
	struct fixture *f = *state;
	unsigned before = open_fds();
	int fd = client(f);

	say_with_fds(fd, "{\"id\":1,\"cmd\":\"x\"}", 18, 3);
	turn(f);
	assert_int_equal(f->fds, 3);
	assert_non_null(hear(f, fd));
	/* More than there may be: the kernel keeps the rest. */
	say_with_fds(fd, "{\"id\":1,\"cmd\":\"x\"}", 18, 16);
	turn(f);
	assert_int_equal(f->fds, CONTROL_FDS_MAX);
	assert_non_null(hear(f, fd));
	say_with_fds(fd, "nonsense", 8, 2);
	turn(f);
	assert_non_null(hear(f, fd));
	assert_int_equal(open_fds(), before + 2); /* both ends of the connection */
	/* Too long: the client is dropped, and its descriptors with it. */
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &(int){1 << 20}, sizeof(int)), 0);
	memset(large, ' ', sizeof(large));
	say_with_fds(fd, large, sizeof(large), 2);
	assert_string_equal(hear(f, fd), "");
	(void)close(fd);
	turn(f);
	assert_int_equal(open_fds(), before);
}

static void one_that_does_not_read_is_dropped_and_others_go_on(void **state)
{
	struct fixture *f = *state;
	int slow = client(f);
	int fd = client(f);

	for (unsigned i = 0; i < 20000; i++) {
		control_event(f->control, json_pack("{s:i}", "event", (int)i));
		if (i % 50 == 49) { /* this one reads */
			for (unsigned k = 0; k < 50; k++) {
				assert_non_null(hear(f, fd));
			}
		}
	}
	say(f, fd, "{\"id\":2,\"cmd\":\"x\"}");
	assert_string_equal(hear(f, fd), "{\"id\":2,\"result\":{}}");

	unsigned heard = 0;

	for (const char *text = hear(f, slow); text != NULL && text[0] != '\0';
	     text = hear(f, slow)) {
		heard++;
	}
	assert_in_range(heard, 1, 19999);
	(void)close(slow);
	(void)close(fd);
}

static void there_is_room_for_so_many_and_again_when_one_leaves(void **state)
{
	struct fixture *f = *state;
	int fds[CONTROL_CLIENTS_MAX];
	int more;

	for (uint32_t i = 0; i < CONTROL_CLIENTS_MAX; i++) {
		fds[i] = client(f);
	}
	more = client(f);
	assert_string_equal(hear(f, more), "");
	(void)close(more);
	(void)close(fds[3]);
	turn(f);
	fds[3] = client(f);
	say(f, fds[3], "{\"id\":2,\"cmd\":\"x\"}");
	assert_string_equal(hear(f, fds[3]), "{\"id\":2,\"result\":{}}");
	for (uint32_t i = 0; i < CONTROL_CLIENTS_MAX; i++) {
		(void)close(fds[i]);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(requests_get_their_answers),
		TEST(an_error_is_told_whatever_its_text),
		TEST(nonsense_is_answered_and_does_no_harm),
		TEST(an_answer_to_who_has_gone_reaches_nobody),
		TEST(no_descriptor_is_left_behind),
		TEST(one_that_does_not_read_is_dropped_and_others_go_on),
		TEST(there_is_room_for_so_many_and_again_when_one_leaves),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
