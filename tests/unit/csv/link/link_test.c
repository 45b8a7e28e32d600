/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "base/loop.h"
#include "csv/link/csv_link.h"
#include "tests/lib/pki.h"
#include "tests/lib/test.h"

#define WAIT_NS (60 * NS_PER_S)
#define NAMES 200u

static struct pki pki;
static struct pki strangers;
static struct pki_files n1;
static struct pki_files n2;
static struct pki_files other;

static int setup(void **state)
{
	(void)state;
	(void)signal(SIGPIPE, SIG_IGN);
	pki_create(&pki, "testers");
	pki_issue(&pki, TLS_KIND_NODE, "n1", pki_now_s(), &n1);
	pki_issue(&pki, TLS_KIND_NODE, "n2", pki_now_s(), &n2);
	pki_create(&strangers, "strangers");
	pki_issue(&strangers, TLS_KIND_NODE, "n2", pki_now_s(), &other);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	pki_destroy(&pki);
	pki_destroy(&strangers);
	return 0;
}

static struct tls_ctx *context(const struct pki_files *f)
{
	const struct tls_cfg cfg = {.cert_file = f->cert, .key_file = f->key, .ca_file = f->ca};
	struct tls_ctx *ctx = NULL;

	assert_int_equal(tls_ctx_create(&cfg, &ctx, NULL), 0);
	return ctx;
}

struct end {
	struct world *w;
	struct csv_link *link;
	bool ready;
	bool closed;
	int err;
	char why[200];
	char name[TLS_NAME_MAX];
	uint32_t got;
	uint64_t last; /* request of the last message */
	uint32_t names;
	uint32_t answer; /* say so many messages for each that comes */
	int refuse;      /* what message() returns */
	bool leave;      /* destroy it from inside message() */
};

struct world {
	struct loop *loop;
	struct tls_ctx *client_tls;
	struct tls_ctx *server_tls;
	int listen_fd;
	uint16_t port;
	struct loop_fd *watch;
	int raw; /* accepted and left alone; -1 = make links */
	bool keep_raw;
	uint32_t message_max;
	struct end client;
	struct end server;
	bool (*until)(const struct world *w);
	struct loop_timer *tick;
	uint64_t deadline_ns;
};

static void on_ready(void *arg, const struct tls_peer *peer)
{
	struct end *e = arg;

	e->ready = true;
	memcpy(e->name, peer->name, sizeof(e->name));
}

static struct csv_msg ping(uint64_t number)
{
	return (struct csv_msg){.type = CSV_MSG_PING, .term = 7, .request = number};
}

static int on_message(void *arg, const struct csv_msg *msg)
{
	struct end *e = arg;

	e->got++;
	e->last = msg->request;
	e->names += msg->type == CSV_MSG_REPLY ? msg->reply.names_count : 0;
	for (uint32_t i = 0; i < e->answer; i++) {
		const struct csv_msg m = ping(msg->request);

		assert_int_equal(csv_link_send(e->link, &m), 0);
	}
	if (e->leave) {
		csv_link_destroy(e->link);
		e->link = NULL;
		return 0;
	}
	return e->refuse;
}

static void on_closed(void *arg, int err, const char *why)
{
	struct end *e = arg;

	assert_false(e->closed);
	e->closed = true;
	e->err = err;
	e->link = NULL;
	(void)snprintf(e->why, sizeof(e->why), "%s", why);
}

static const struct csv_link_ops ops = {on_ready, on_message, on_closed};

static void on_accept(int fd, uint32_t events, void *arg)
{
	struct world *w = arg;
	int conn = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	const struct csv_link_cfg cfg = {
		.loop = w->loop,
		.tls = w->server_tls,
		.ops = &ops,
		.arg = &w->server,
		.message_max = w->message_max,
	};

	(void)events;
	assert_true(conn >= 0);
	if (w->keep_raw) {
		w->raw = conn;
		return;
	}
	assert_int_equal(csv_link_accept(&cfg, conn, &w->server.link, NULL), 0);
}

static void world_init(struct world *w)
{
	struct sockaddr_in at = {.sin_family = AF_INET};
	socklen_t len = sizeof(at);

	memset(w, 0, sizeof(*w));
	w->raw = -1;
	assert_int_equal(loop_create(&w->loop), 0);
	w->client_tls = context(&n1);
	w->server_tls = context(&n2);
	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	w->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert_true(w->listen_fd >= 0);
	assert_int_equal(bind(w->listen_fd, (const struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(listen(w->listen_fd, 8), 0);
	assert_int_equal(getsockname(w->listen_fd, (struct sockaddr *)&at, &len), 0);
	w->port = ntohs(at.sin_port);
	assert_int_equal(loop_fd_add(w->loop, w->listen_fd, LOOP_READ, on_accept, w, &w->watch), 0);
}

static void world_fini(struct world *w)
{
	csv_link_destroy(w->client.link);
	csv_link_destroy(w->server.link);
	loop_fd_del(w->watch);
	(void)close(w->listen_fd);
	if (w->raw >= 0) {
		(void)close(w->raw);
	}
	loop_destroy(w->loop);
	tls_ctx_destroy(w->client_tls);
	tls_ctx_destroy(w->server_tls);
}

static struct csv_link_cfg client_cfg(struct world *w)
{
	return (struct csv_link_cfg){
		.loop = w->loop, .tls = w->client_tls, .ops = &ops, .arg = &w->client};
}

static void dial(struct world *w, const char *name)
{
	const struct csv_link_cfg cfg = client_cfg(w);

	assert_int_equal(csv_link_dial(&cfg, "127.0.0.1", w->port, name, &w->client.link, NULL), 0);
}

static void on_tick(void *arg)
{
	struct world *w = arg;

	if (w->until(w) || clock_now_ns() > w->deadline_ns) {
		loop_stop(w->loop);
	} else {
		loop_timer_arm(w->tick, NS_PER_MS);
	}
}

static void run_until(struct world *w, bool (*until)(const struct world *w))
{
	w->until = until;
	w->deadline_ns = clock_now_ns() + WAIT_NS;
	assert_int_equal(loop_timer_add(w->loop, 0, on_tick, w, &w->tick), 0);
	loop_run(w->loop);
	loop_timer_del(w->tick);
	assert_true(until(w));
}

static bool both_ready(const struct world *w)
{
	return w->client.ready && w->server.ready;
}

static bool both_closed(const struct world *w)
{
	return w->client.closed && w->server.closed;
}

static bool client_closed(const struct world *w)
{
	return w->client.closed;
}

static bool server_closed(const struct world *w)
{
	return w->server.closed;
}

static bool raw_there(const struct world *w)
{
	return w->raw >= 0;
}

static bool thousand_back(const struct world *w)
{
	return w->client.got >= 3000;
}

static bool names_there(const struct world *w)
{
	return w->server.names >= NAMES;
}

static void messages_pass_both_ways_and_both_know_the_other(void **state)
{
	struct world w;
	struct csv_link_stats stats;

	(void)state;
	world_init(&w);
	dial(&w, "n2");
	run_until(&w, both_ready);
	assert_string_equal(w.client.name, "n2");
	assert_string_equal(w.server.name, "n1");
	w.server.answer = 3;
	for (uint32_t i = 1; i <= 1000; i++) {
		const struct csv_msg m = ping(i);

		assert_int_equal(csv_link_send(w.client.link, &m), 0);
	}
	run_until(&w, thousand_back);
	assert_int_equal(w.server.got, 1000);
	assert_int_equal(w.client.got, 3000);
	assert_int_equal(w.client.last, 1000);
	csv_link_get_stats(w.server.link, &stats);
	assert_int_equal(stats.received, 1000);
	assert_int_equal(stats.sent, 3000);
	world_fini(&w);
}

static void a_long_message_arrives_in_pieces(void **state)
{
	static uint8_t names[CSV_MSG_NAMES_MAX];
	struct csv_msg m = {.type = CSV_MSG_REPLY, .term = 1, .request = 5};
	struct world w;

	(void)state;
	world_init(&w);
	dial(&w, "n2");
	run_until(&w, both_ready);
	m.reply.parts = CSV_MSG_NAMES;
	m.reply.names = names;
	for (uint32_t i = 0; i < NAMES; i++) {
		struct csv_name name = {.cookie = i + 1,
		                        .ino = 5,
		                        .generation = 1,
		                        .len = 200,
		                        .kind = CSV_KIND_FILE};

		memset(name.name, 'a', 200);
		assert_int_equal(csv_msg_add_name(&m.reply, names, sizeof(names), &name), 0);
	}
	assert_int_equal(csv_link_send(w.client.link, &m), 0);
	run_until(&w, names_there);
	assert_int_equal(w.server.names, NAMES);
	world_fini(&w);
}

static void a_longer_message_than_agreed_ends_it(void **state)
{
	static uint8_t names[CSV_MSG_NAMES_MAX];
	struct csv_msg m = {.type = CSV_MSG_REPLY, .term = 1, .request = 5};
	struct csv_name name = {
		.cookie = 1, .ino = 5, .generation = 1, .len = 200, .kind = CSV_KIND_FILE};
	struct world w;

	(void)state;
	world_init(&w);
	w.message_max = 200;
	dial(&w, "n2");
	run_until(&w, both_ready);
	memset(name.name, 'a', 200);
	m.reply.parts = CSV_MSG_NAMES;
	m.reply.names = names;
	assert_int_equal(csv_msg_add_name(&m.reply, names, sizeof(names), &name), 0);
	assert_int_equal(csv_link_send(w.client.link, &m), 0);
	run_until(&w, both_closed);
	assert_int_equal(w.server.err, -EPROTO);
	assert_non_null(strstr(w.server.why, "at most 200"));
	assert_int_equal(w.server.got, 0);
	world_fini(&w);
}

static void what_the_owner_refuses_ends_it(void **state)
{
	const struct csv_msg m = ping(1);
	struct world w;

	(void)state;
	world_init(&w);
	dial(&w, "n2");
	run_until(&w, both_ready);
	w.server.refuse = -EACCES;
	assert_int_equal(csv_link_send(w.client.link, &m), 0);
	run_until(&w, both_closed);
	assert_int_equal(w.server.err, -EACCES);
	world_fini(&w);
}

static void the_owner_may_destroy_it_when_a_message_comes(void **state)
{
	const struct csv_msg m = ping(1);
	struct world w;

	(void)state;
	world_init(&w);
	dial(&w, "n2");
	run_until(&w, both_ready);
	w.server.leave = true;
	assert_int_equal(csv_link_send(w.client.link, &m), 0);
	run_until(&w, client_closed);
	assert_false(w.server.closed);
	assert_int_equal(w.server.got, 1);
	world_fini(&w);
}

static void another_name_than_expected_is_refused(void **state)
{
	struct world w;

	(void)state;
	world_init(&w);
	dial(&w, "n3");
	run_until(&w, both_closed);
	assert_int_equal(w.client.err, -EKEYREJECTED);
	assert_false(w.client.ready || w.server.ready);
	world_fini(&w);
}

static void a_certificate_of_another_ca_is_refused(void **state)
{
	struct world w;

	(void)state;
	world_init(&w);
	tls_ctx_destroy(w.server_tls);
	w.server_tls = context(&other);
	dial(&w, "n2");
	run_until(&w, both_closed);
	assert_int_equal(w.client.err, -EKEYREJECTED);
	assert_false(w.client.ready || w.server.ready);
	world_fini(&w);
}

static void bytes_without_tls_are_refused(void **state)
{
	struct sockaddr_in at = {.sin_family = AF_INET};
	struct world w;
	int fd;

	(void)state;
	world_init(&w);
	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	at.sin_port = htons(w.port);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(fd, (const struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(send(fd, "GWCPGWCPGWCP", 12, MSG_NOSIGNAL), 12);
	run_until(&w, server_closed);
	assert_int_equal(w.server.err, -EPROTO);
	(void)close(fd);
	world_fini(&w);
}

static void nobody_there_is_said(void **state)
{
	struct world w;
	const struct csv_link_cfg cfg = {.ops = &ops};
	struct csv_link *link;

	(void)state;
	world_init(&w);
	assert_int_equal(csv_link_dial(&cfg, "no address", 1, "n2", &link, NULL), -EINVAL);
	assert_int_equal(csv_link_dial(&cfg, "127.0.0.1", 1, "no name", &link, NULL), -EINVAL);
	loop_fd_del(w.watch);
	w.watch = NULL;
	(void)close(w.listen_fd);
	w.listen_fd = -1;
	dial(&w, "n2");
	run_until(&w, client_closed);
	assert_int_equal(w.client.err, -ECONNREFUSED);
	world_fini(&w);
}

/* The peer stands still: what is queued is bounded. */
static void who_does_not_read_is_given_up(void **state)
{
	static uint8_t data[CSV_MSG_DATA_MAX];
	const struct csv_msg m = {
		.type = CSV_MSG_REPLY,
		.term = 1,
		.request = 1,
		.reply = {.parts = CSV_MSG_DATA},
		.data = data,
		.data_bytes = sizeof(data),
	};
	struct world w;
	uint32_t sent = 0;

	(void)state;
	world_init(&w);
	dial(&w, "n2");
	run_until(&w, both_ready);
	while (csv_link_send(w.client.link, &m) == 0) {
		sent++;
	}
	assert_in_range(sent, 3, CSV_LINK_QUEUE_MAX / CSV_MSG_DATA_MAX + 2);
	assert_int_equal(csv_link_send(w.client.link, &m), -ENOTCONN);
	run_until(&w, client_closed);
	assert_int_equal(w.client.err, -ENOBUFS);
	world_fini(&w);
}

static void small_buffers(int fd)
{
	int bytes = 16384;

	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes)), 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes)), 0);
}

static bool all_arrived(const struct world *w)
{
	return w->client.got >= 2 && w->server.got >= 2;
}

/* Many times what small_buffers() leaves; few kilobytes pass in each of TCP's delays. */
#define BOTH_BYTES (128u << 10)

/* More than sockets take, from both ends at once: neither waits for the other to read first. */
static void both_may_send_much_at_once(void **state)
{
	static uint8_t data[BOTH_BYTES];
	const struct csv_msg m = {
		.type = CSV_MSG_REPLY,
		.term = 1,
		.request = 1,
		.reply = {.parts = CSV_MSG_DATA},
		.data = data,
		.data_bytes = sizeof(data),
	};
	struct world w;
	int next;

	(void)state;
	world_init(&w);
	small_buffers(w.listen_fd); /* what is accepted has them, too */
	next = fcntl(0, F_DUPFD_CLOEXEC, 0);
	(void)close(next);
	dial(&w, "n2"); /* its socket has the lowest number that is free */
	small_buffers(next);
	run_until(&w, both_ready);
	for (uint32_t i = 0; i < 2; i++) {
		assert_int_equal(csv_link_send(w.client.link, &m), 0);
		assert_int_equal(csv_link_send(w.server.link, &m), 0);
	}
	run_until(&w, all_arrived);
	assert_false(w.client.closed || w.server.closed);
	world_fini(&w);
}

static void what_was_said_before_the_end_arrives(void **state)
{
	struct world w;

	(void)state;
	world_init(&w);
	dial(&w, "n2");
	run_until(&w, both_ready);
	for (uint32_t i = 1; i <= 500; i++) {
		const struct csv_msg m = ping(i);

		assert_int_equal(csv_link_send(w.client.link, &m), 0);
	}
	csv_link_end(w.client.link);
	run_until(&w, both_closed);
	assert_int_equal(w.server.got, 500);
	assert_int_equal(w.server.err, -ECONNRESET);
	world_fini(&w);
}

static void no_memory_is_an_error_and_leaks_nothing(void **state)
{
	struct world w;
	int err = -ENOMEM;

	(void)state;
	for (uint32_t k = 1; err != 0; k++) {
		struct csv_link_cfg cfg;

		world_init(&w);
		w.keep_raw = true;
		cfg = client_cfg(&w);
		fault_arm(FAULT_ALLOC, k);
		err = csv_link_dial(&cfg, "127.0.0.1", w.port, "n2", &w.client.link, NULL);
		fault_arm(FAULT_ALLOC, 0);
		assert_true(err == 0 || err == -ENOMEM);
		assert_true(k < 20);
		world_fini(&w);
	}
	/* The same for one that was accepted, and for what follows. */
	for (uint32_t k = 1, hit = 1; hit != 0; k++) {
		world_init(&w);
		w.keep_raw = true;
		dial(&w, "n2");
		run_until(&w, raw_there);

		const struct csv_link_cfg cfg = {
			.loop = w.loop, .tls = w.server_tls, .ops = &ops, .arg = &w.server};

		fault_arm(FAULT_ALLOC, k);
		err = csv_link_accept(&cfg, w.raw, &w.server.link, NULL);
		hit = fault_hit(FAULT_ALLOC) != 0;
		fault_arm(FAULT_ALLOC, 0);
		assert_true(err == 0 || err == -ENOMEM);
		w.raw = -1;
		world_fini(&w);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(messages_pass_both_ways_and_both_know_the_other),
		cmocka_unit_test(a_long_message_arrives_in_pieces),
		cmocka_unit_test(a_longer_message_than_agreed_ends_it),
		cmocka_unit_test(what_the_owner_refuses_ends_it),
		cmocka_unit_test(the_owner_may_destroy_it_when_a_message_comes),
		cmocka_unit_test(another_name_than_expected_is_refused),
		cmocka_unit_test(a_certificate_of_another_ca_is_refused),
		cmocka_unit_test(bytes_without_tls_are_refused),
		cmocka_unit_test(nobody_there_is_said),
		cmocka_unit_test(who_does_not_read_is_given_up),
		cmocka_unit_test(both_may_send_much_at_once),
		cmocka_unit_test(what_was_said_before_the_end_arrives),
		cmocka_unit_test(no_memory_is_an_error_and_leaks_nothing),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
