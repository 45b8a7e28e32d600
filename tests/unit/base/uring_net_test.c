/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/uring.h"
#include "tests/unit/base/uring_fixture.h"

static void pair(int sv[2])
{
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
}

static void close2(const int fds[2])
{
	close(fds[0]);
	close(fds[1]);
}

/* Let everything that can happen, happen. */
static void settle(struct uring *ring)
{
	while (uring_wait(ring, 5 * NS_PER_MS) != 0) {
	}
}

/* ---- send and receive ---- */

static void a_receive_waits_for_data(void **state)
{
	struct uring *ring = *state;
	struct probe p;
	char buf[10];
	int sv[2];

	pair(sv);
	assert_int_equal(uring_prep_recv(ring, probe_op(&p), sv[0], buf, sizeof(buf), 0), 0);
	settle(ring);
	assert_int_equal(p.calls, 0);
	assert_int_equal(write(sv[1], "abc", 3), 3);
	assert_int_equal(probe_result(ring, &p), 3);
	assert_memory_equal(buf, "abc", 3);

	assert_int_equal(uring_prep_recv(ring, probe_op(&p), sv[0], buf, 10, MSG_DONTWAIT), 0);
	assert_int_equal(probe_result(ring, &p), -EAGAIN);
	close(sv[1]);
	assert_int_equal(uring_prep_recv(ring, probe_op(&p), sv[0], buf, 10, 0), 0);
	assert_int_equal(probe_result(ring, &p), 0);
	close(sv[0]);
}

static void waitall_gathers_all_and_keeps_the_chain_whole(void **state)
{
	struct uring *ring = *state;
	struct probe p[2];
	char a[3];
	char b[5];
	char c;
	struct iovec iov[] = {{a, sizeof(a)}, {b, sizeof(b)}};
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};
	int sv[2];

	pair(sv);
	assert_int_equal(uring_reserve(ring, 2), 0);
	assert_int_equal(uring_prep_recvmsg(ring, probe_op(&p[0]), sv[0], &msg, MSG_WAITALL), 0);
	uring_link(ring);
	assert_int_equal(uring_prep_recv(ring, probe_op(&p[1]), sv[0], &c, 1, MSG_WAITALL), 0);
	for (int i = 0; i < 8; i++) {
		settle(ring);
		assert_int_equal(p[0].calls, 0);
		assert_int_equal(write(sv[1], &"12345678"[i], 1), 1);
	}
	assert_int_equal(probe_result(ring, &p[0]), 8);
	assert_memory_equal(a, "123", 3);
	assert_memory_equal(b, "45678", 5);
	settle(ring);
	assert_int_equal(p[1].calls, 0);
	assert_int_equal(write(sv[1], "9", 1), 1);
	assert_int_equal(probe_result(ring, &p[1]), 1);
	assert_int_equal(c, '9');

	/* The peer goes away in the middle: what came, and the chain ends. */
	assert_int_equal(uring_reserve(ring, 2), 0);
	assert_int_equal(uring_prep_recv(ring, probe_op(&p[0]), sv[0], b, 5, MSG_WAITALL), 0);
	uring_link(ring);
	assert_int_equal(uring_prep_nop(ring, probe_op(&p[1])), 0);
	settle(ring);
	assert_int_equal(write(sv[1], "xy", 2), 2);
	settle(ring);
	close(sv[1]);
	assert_int_equal(probe_result(ring, &p[0]), 2);
	assert_int_equal(probe_result(ring, &p[1]), -ECANCELED);
	close(sv[0]);
}

static void a_send_larger_than_the_socket_takes_waits_for_room(void **state)
{
	static char big[4u << 20];
	static char got[sizeof(big)];
	struct uring *ring = *state;
	struct probe out;
	struct probe in;
	int sv[2];

	for (size_t i = 0; i < sizeof(big); i++) {
		big[i] = (char)(i * 7 + (i >> 12));
	}
	pair(sv);
	assert_int_equal(
		uring_prep_send(ring, probe_op(&out), sv[0], big, sizeof(big), MSG_WAITALL), 0);
	settle(ring);
	assert_int_equal(out.calls, 0);
	assert_int_equal(uring_prep_recv(ring, probe_op(&in), sv[1], got, sizeof(got), MSG_WAITALL),
	                 0);
	assert_int_equal(probe_result(ring, &in), sizeof(got));
	assert_int_equal(probe_result(ring, &out), sizeof(big));
	assert_memory_equal(big, got, sizeof(big));
	close2(sv);
}

static void messages_keep_their_bounds_with_waitall(void **state)
{
	struct uring *ring = *state;
	struct probe p;
	char buf[10];
	int sv[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, sv), 0);
	assert_int_equal(write(sv[1], "abc", 3), 3);
	assert_int_equal(write(sv[1], "def", 3), 3);
	assert_int_equal(uring_prep_recv(ring, probe_op(&p), sv[0], buf, 10, MSG_WAITALL), 0);
	assert_int_equal(probe_result(ring, &p), 3);
	close2(sv);
}

static void sending_to_a_socket_that_is_gone_is_an_error_and_no_signal(void **state)
{
	struct uring *ring = *state;
	struct iovec iov = {(char[]){"x"}, 1};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	struct probe p;
	int sv[2];

	pair(sv);
	close(sv[1]);
	assert_int_equal(uring_prep_send(ring, probe_op(&p), sv[0], "x", 1, 0), 0);
	assert_int_equal(probe_result(ring, &p), -EPIPE);
	assert_int_equal(uring_prep_sendmsg(ring, probe_op(&p), sv[0], &msg, 0), 0);
	assert_int_equal(probe_result(ring, &p), -EPIPE);
	close(sv[0]);
}

static void several_operations_wait_for_one_descriptor(void **state)
{
	struct uring *ring = *state;
	struct probe r[3];
	struct probe poll_in;
	struct probe poll_out;
	char buf[3];
	int sv[2];

	pair(sv);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(uring_prep_recv(ring, probe_op(&r[i]), sv[0], &buf[i], 1, 0), 0);
	}
	assert_int_equal(uring_prep_poll(ring, probe_op(&poll_in), sv[0], POLLHUP, false), 0);
	assert_int_equal(uring_prep_poll(ring, probe_op(&poll_out), sv[0], POLLOUT, false), 0);
	assert_int_equal(probe_result(ring, &poll_out) & POLLOUT, POLLOUT);
	settle(ring);
	assert_int_equal(write(sv[1], "1", 1), 1);
	settle(ring);
	assert_int_equal(r[0].calls + r[1].calls + r[2].calls, 1); /* one, no matter which */
	assert_int_equal(write(sv[1], "23", 2), 2);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(probe_result(ring, &r[i]), 1);
	}
	assert_int_equal(buf[0] + buf[1] + buf[2], '1' + '2' + '3');
	settle(ring);
	assert_int_equal(poll_in.calls, 0);
	close(sv[1]);
	assert_int_equal(probe_result(ring, &poll_in) & POLLHUP, POLLHUP);
	close(sv[0]);
}

/* ---- pipes and the like ---- */

static void a_pipe_is_waited_for_whether_it_blocks_or_not(void **state)
{
	struct uring *ring = *state;
	struct probe p;
	char buf[8];
	int fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	for (int flags = 0;; flags = O_NONBLOCK) {
		assert_int_equal(fcntl(fds[0], F_SETFL, flags), 0);
		assert_int_equal(uring_prep_read(ring, probe_op(&p), fds[0], buf, 8, URING_STREAM),
		                 0);
		settle(ring);
		assert_int_equal(p.calls, 0);
		assert_int_equal(write(fds[1], "abc", 3), 3);
		assert_int_equal(probe_result(ring, &p), 3);
		assert_int_equal(fcntl(fds[0], F_GETFL) & O_NONBLOCK, flags);
		if (flags != 0) {
			break;
		}
	}
	close2(fds);
}

/* ---- poll ---- */

static void a_multishot_poll_reports_every_change_until_cancelled(void **state)
{
	static const uint64_t one = 1;
	struct uring *ring = *state;
	struct probe p;
	uint64_t count;
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	assert_true(fd >= 0);
	assert_int_equal(uring_prep_poll(ring, probe_op(&p), fd, POLLIN, true), 0);
	settle(ring);
	assert_int_equal(p.calls, 0);
	for (uint32_t i = 1; i <= 5; i++) {
		assert_int_equal(write(fd, &one, sizeof(one)), sizeof(one));
		probe_wait(ring, &p, i);
		assert_true(p.more);
		assert_int_equal(p.res, POLLIN);
		assert_int_equal(uring_in_flight(ring), 1);
		/* Not read yet, and nothing new: nothing is said. */
		settle(ring);
		assert_int_equal(p.calls, i);
		assert_int_equal(read(fd, &count, sizeof(count)), sizeof(count));
	}
	assert_int_equal(uring_cancel(ring, &p.op), 0);
	probe_wait(ring, &p, 6);
	assert_int_equal(p.res, -ECANCELED);
	assert_false(p.more);
	assert_int_equal(uring_in_flight(ring), 0);
	close(fd);
}

static void polling_a_regular_file_finds_it_ready(void **state)
{
	struct uring *ring = *state;
	struct probe p;
	int fd = fixture_temp(1);

	assert_int_equal(uring_prep_poll(ring, probe_op(&p), fd, POLLIN | POLLOUT, false), 0);
	assert_int_equal(probe_result(ring, &p), POLLIN | POLLOUT);
	close(fd);
}

struct canceller {
	struct uring_op op;
	struct uring *ring;
	uint32_t calls;
	int32_t last;
	bool more;
};

static void cancel_myself(struct uring_op *op, int32_t res, bool more)
{
	struct canceller *c = op->arg;

	c->calls++;
	c->last = res;
	c->more = more;
	if (more) {
		assert_int_equal(uring_cancel(c->ring, op), 0);
	}
}

static void a_multishot_operation_may_cancel_itself(void **state)
{
	struct uring *ring = *state;
	struct canceller c = {.op = {.fn = cancel_myself, .arg = &c}, .ring = ring};
	int fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);

	assert_true(fd >= 0);
	assert_int_equal(uring_prep_poll(ring, &c.op, fd, POLLIN, true), 0);
	while (uring_in_flight(ring) != 0) {
		assert_true(uring_wait(ring, NS_PER_S) >= 0);
	}
	assert_int_equal(c.calls, 2);
	assert_int_equal(c.last, -ECANCELED);
	assert_false(c.more);
	close(fd);
}

/* ---- connections ---- */

static int tcp_listen(struct sockaddr_in *addr)
{
	socklen_t len = sizeof(*addr);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	*addr = (struct sockaddr_in){
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)addr, sizeof(*addr)), 0);
	assert_int_equal(listen(fd, 16), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)addr, &len), 0);
	return fd;
}

static void connect_and_accept_meet(void **state)
{
	struct uring *ring = *state;
	struct sockaddr_in addr;
	struct probe a;
	struct probe c;
	char byte = 0;
	int lfd = tcp_listen(&addr);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(uring_prep_accept(ring, probe_op(&a), lfd, false), 0);
	settle(ring);
	assert_int_equal(a.calls, 0);
	assert_int_equal(
		uring_prep_connect(ring, probe_op(&c), fd, (struct sockaddr *)&addr, sizeof(addr)),
		0);
	assert_int_equal(probe_result(ring, &c), 0);

	int peer = probe_result(ring, &a);

	assert_true(peer >= 0);
	assert_int_equal(fcntl(peer, F_GETFD), FD_CLOEXEC);
	assert_int_equal(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
	assert_int_equal(write(fd, "!", 1), 1);
	assert_int_equal(uring_prep_recv(ring, probe_op(&a), peer, &byte, 1, 0), 0);
	assert_int_equal(probe_result(ring, &a), 1);
	assert_int_equal(byte, '!');
	close(peer);
	close(fd);
	close(lfd);
}

static void connecting_to_nobody_is_refused(void **state)
{
	struct uring *ring = *state;
	struct sockaddr_in addr;
	struct probe c;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	close(tcp_listen(&addr)); /* a port that was just free */
	assert_int_equal(
		uring_prep_connect(ring, probe_op(&c), fd, (struct sockaddr *)&addr, sizeof(addr)),
		0);
	assert_int_equal(probe_result(ring, &c), -ECONNREFUSED);
	close(fd);
}

struct acceptor {
	struct uring_op op;
	struct uring *ring;
	int lfd;
	uint32_t accepted;
	uint32_t ends;
	bool ended;
};

static void acceptor_done(struct uring_op *op, int32_t res, bool more)
{
	struct acceptor *a = op->arg;

	if (res >= 0) {
		close(res);
		a->accepted++;
	}
	if (!more && res >= 0) { /* it may end by itself, but not each time */
		assert_int_equal(uring_prep_accept(a->ring, op, a->lfd, true), 0);
		assert_true(++a->ends < 3);
	}
	a->ended = !more && res < 0;
	assert_true(res >= 0 || res == -ECANCELED);
}

static void a_multishot_accept_takes_all_that_come(void **state)
{
	struct uring *ring = *state;
	struct sockaddr_in addr;
	int lfd = tcp_listen(&addr);
	struct acceptor a = {.op = {.fn = acceptor_done, .arg = &a}, .ring = ring, .lfd = lfd};
	int fds[12];

	for (size_t i = 0; i < 6; i++) { /* before */
		fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		assert_int_equal(connect(fds[i], (struct sockaddr *)&addr, sizeof(addr)), 0);
	}
	assert_int_equal(uring_prep_accept(ring, &a.op, lfd, true), 0);
	while (a.accepted < 6) {
		assert_true(uring_wait(ring, NS_PER_S) > 0);
	}
	for (size_t i = 6; i < 12; i++) { /* and during */
		fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		assert_int_equal(connect(fds[i], (struct sockaddr *)&addr, sizeof(addr)), 0);
	}
	while (a.accepted < 12) {
		assert_true(uring_wait(ring, NS_PER_S) > 0);
	}
	assert_int_equal(uring_cancel(ring, &a.op), 0);
	while (!a.ended) {
		assert_true(uring_wait(ring, NS_PER_S) > 0);
	}
	for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
		close(fds[i]);
	}
	close(lfd);
}

/* ---- cancel ---- */

static void cancel_ends_what_waits_and_its_chain(void **state)
{
	struct uring *ring = *state;
	struct probe p[2];
	char byte;
	int sv[2];

	pair(sv);
	assert_int_equal(uring_reserve(ring, 2), 0);
	assert_int_equal(uring_prep_recv(ring, probe_op(&p[0]), sv[0], &byte, 1, 0), 0);
	uring_link(ring);
	assert_int_equal(uring_prep_nop(ring, probe_op(&p[1])), 0);
	settle(ring);
	assert_int_equal(uring_cancel(ring, &p[0].op), 0);
	assert_int_equal(probe_result(ring, &p[0]), -ECANCELED);
	assert_int_equal(probe_result(ring, &p[1]), -ECANCELED);
	assert_int_equal(uring_in_flight(ring), 0);
	/* The byte is still there for the next. */
	assert_int_equal(write(sv[1], "z", 1), 1);
	assert_int_equal(uring_prep_recv(ring, probe_op(&p[0]), sv[0], &byte, 1, 0), 0);
	assert_int_equal(probe_result(ring, &p[0]), 1);
	close2(sv);
}

static void cancel_before_the_submit_works_and_after_the_result_changes_nothing(void **state)
{
	struct uring *ring = *state;
	struct probe p;
	char byte;
	int sv[2];

	pair(sv);
	assert_int_equal(uring_prep_recv(ring, probe_op(&p), sv[0], &byte, 1, 0), 0);
	assert_int_equal(uring_cancel(ring, &p.op), 0);
	assert_int_equal(probe_result(ring, &p), -ECANCELED);

	assert_int_equal(uring_prep_nop(ring, probe_op(&p)), 0);
	assert_true(uring_submit(ring) >= 0);
	assert_int_equal(uring_cancel(ring, &p.op), 0);
	assert_int_equal(probe_result(ring, &p), 0);
	settle(ring);
	assert_int_equal(p.calls, 1);
	close2(sv);
}

/* ---- with threads ---- */

#define STORM_WAKES 20000u

struct storm {
	struct uring *ring;
	int fd;
};

static void *storm_run(void *arg)
{
	struct storm *s = arg;

	for (uint32_t i = 0; i < STORM_WAKES; i++) {
		uring_wake(s->ring);
		if (i % 16 == 0) {
			assert_int_equal(write(s->fd, "x", 1), 1);
		}
	}
	return NULL;
}

static void nothing_is_lost_in_a_storm_of_wakes(void **state)
{
	struct uring *ring = *state;
	struct storm s = {.ring = ring};
	uint32_t left = (STORM_WAKES + 15) / 16;
	pthread_t thread;
	int sv[2];

	pair(sv);
	s.fd = sv[1];
	assert_int_equal(pthread_create(&thread, NULL, storm_run, &s), 0);
	while (left != 0) {
		struct probe p;
		char buf[64];

		assert_int_equal(uring_prep_recv(ring, probe_op(&p), sv[0], buf, 64, 0), 0);

		int32_t res = probe_result(ring, &p);

		assert_true(res > 0);
		left -= (uint32_t)res;
	}
	assert_int_equal(pthread_join(thread, NULL), 0);
	close2(sv);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		URING_BOTH(a_receive_waits_for_data),
		URING_BOTH(waitall_gathers_all_and_keeps_the_chain_whole),
		URING_BOTH(a_send_larger_than_the_socket_takes_waits_for_room),
		URING_BOTH(messages_keep_their_bounds_with_waitall),
		URING_BOTH(sending_to_a_socket_that_is_gone_is_an_error_and_no_signal),
		URING_BOTH(several_operations_wait_for_one_descriptor),
		URING_BOTH(a_pipe_is_waited_for_whether_it_blocks_or_not),
		URING_BOTH(a_multishot_poll_reports_every_change_until_cancelled),
		URING_BOTH(polling_a_regular_file_finds_it_ready),
		URING_BOTH(a_multishot_operation_may_cancel_itself),
		URING_BOTH(connect_and_accept_meet),
		URING_BOTH(connecting_to_nobody_is_refused),
		URING_BOTH(a_multishot_accept_takes_all_that_come),
		URING_BOTH(cancel_ends_what_waits_and_its_chain),
		URING_BOTH(cancel_before_the_submit_works_and_after_the_result_changes_nothing),
		URING_BOTH(nothing_is_lost_in_a_storm_of_wakes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
