/* SPDX-License-Identifier: Apache-2.0 */

/*
 * csv_lock_bench - locks and metadata of a shared volume, asked for by a node that does not
 * coordinate it, beside bare round trips between the same two hosts. csv_lock_bench.py makes the
 * cluster and says how it is called.
 *
 *	serve CERTS ADDR PORT          echo, beside the coordinator: TCP at PORT, TLS at PORT + 1,
 *	                               csv/link at PORT + 2
 *	alone CERTS ADDR PORT LUN NODE COORDINATOR SECONDS
 *	turns CERTS ADDR PORT LUN NODE COORDINATOR SECONDS
 *
 * The coordinator is a real godwit-csvd. What asks is csv/client over csv/link, as in one, without
 * the rest of the service around it; as the first run of member NODE.
 *
 * alone: kinds of round trips take turns in short slices, so that what else the machine does hits
 * them alike; one at a time of each. Requests and answers of the echoes are as long as those of
 * lock.grant: a lock that nobody has, EX; lock.release gives it back. meta: a file is made, looked
 * at, renamed, removed. lun.sync: 4 KiB written and flushed on the storage of the LUN, which is
 * what the coordinator waits for.
 *
 * turns: two of these run at the same time. Each wants the same lock, EX, holds it until it hears
 * that somebody waits, gives it back and asks again: grant.contended is from the question to the
 * grant, with the notice to the other and its release.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/errbuf.h"
#include "base/loop.h"
#include "base/tcp.h"
#include "base/tls.h"
#include "csv/client/csv_client.h"
#include "csv/daemon/csv_daemon.h"
#include "csv/format/csv_format.h"
#include "csv/link/csv_link.h"
#include "tests/bench/bench.h"

#define SAMPLES_MAX (1u << 20)
#define SLICE_NS (100 * NS_PER_MS)
#define WARM_ROUNDS 2u /* are not counted */
#define DEPTH_MAX 16u
#define NAME_BYTES 48u
#define OBJECT 0x4c4f434bull /* of the lock: no inode */

/* ---- what was measured ---- */

struct kind {
	const char *name;
	uint64_t *ns; /* owned */
	uint32_t count;
	uint64_t spent_ns; /* of whole slices */
};

enum {
	TCP,
	TLS,
	LINK,
	GRANT,
	RELEASE,
	CONTENDED,
	CREATE,
	GETATTR,
	RENAME,
	UNLINK,
	MANY, /* DEPTH_MAX at a time, of all four */
	SYNC,
	KINDS,
};

static struct kind kinds[KINDS] = {
	[TCP] = {.name = "tcp.round_trip"},    [TLS] = {.name = "tls.round_trip"},
	[LINK] = {.name = "link.round_trip"},  [GRANT] = {.name = "lock.grant"},
	[RELEASE] = {.name = "lock.release"},  [CONTENDED] = {.name = "lock.grant.contended"},
	[CREATE] = {.name = "meta.create"},    [GETATTR] = {.name = "meta.getattr"},
	[RENAME] = {.name = "meta.rename"},    [UNLINK] = {.name = "meta.unlink"},
	[MANY] = {.name = "meta.all.depth16"}, [SYNC] = {.name = "lun.sync"},
};
static bool counts; /* it is warm */

static void sample(int kind, uint64_t begin_ns)
{
	struct kind *k = &kinds[kind];

	if (k->ns == NULL) {
		k->ns = calloc(SAMPLES_MAX, sizeof(*k->ns));
		CHECK(k->ns != NULL);
	}
	if (counts && k->count < SAMPLES_MAX) {
		k->ns[k->count++] = clock_now_ns() - begin_ns;
	}
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a;
	uint64_t y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static void report(void)
{
	char name[64];

	for (int i = 0; i < KINDS; i++) {
		struct kind *k = &kinds[i];
		double sum_ns = 0;

		if (k->count == 0) {
			continue;
		}
		qsort(k->ns, k->count, sizeof(*k->ns), compare);
		for (uint32_t n = 0; n < k->count; n++) {
			sum_ns += (double)k->ns[n];
		}

		uint64_t p50_ns = k->ns[k->count / 2];
		uint64_t p99_ns = k->ns[(uint64_t)k->count * 99 / 100];

		(void)snprintf(name, sizeof(name), "%s.p50", k->name);
		bench_figure(name, (double)p50_ns / 1e3, "us");
		(void)snprintf(name, sizeof(name), "%s.p99", k->name);
		bench_figure(name, (double)p99_ns / 1e3, "us");
		(void)snprintf(name, sizeof(name), "%s.rate", k->name);
		bench_figure(name, k->count * 1e9 / (i == MANY ? (double)k->spent_ns : sum_ns),
		             "1/s");
	}
}

/* ---- arguments ---- */

struct args {
	const char *certs;
	const char *addr;
	uint16_t port;
	const char *lun;
	uint32_t node;
	const char *coordinator;
	uint64_t seconds;
};

static struct args args;

static struct tls_ctx *identity(void)
{
	char path[3][512];
	static const char *const names[] = {"node.pem", "node.key", "ca.pem"};
	struct errbuf eb = {0};
	struct tls_ctx *tls;

	for (int i = 0; i < 3; i++) {
		(void)snprintf(path[i], sizeof(path[i]), "%s/%s", args.certs, names[i]);
	}

	const struct tls_cfg cfg = {.cert_file = path[0], .key_file = path[1], .ca_file = path[2]};
	int err = tls_ctx_create(&cfg, &tls, &eb);

	if (err != 0) {
		(void)fprintf(stderr, "%s: %s\n", args.certs, errbuf_text(&eb, err));
		exit(1);
	}
	return tls;
}

/* The messages whose lengths the echoes have. */
static struct csv_msg lock_request(uint64_t number)
{
	return (struct csv_msg){
		.type = CSV_MSG_LOCK,
		.term = 1,
		.request = 1,
		.lock =
			{
				.number = number,
				.name = {OBJECT, 1},
				.to = CSV_LOCK_END,
				.mode = CSV_LOCK_EX,
				.class = CSV_LOCK_MODES,
			},
	};
}

static size_t length_of(const struct csv_msg *msg)
{
	uint8_t buf[512];
	int len = csv_msg_encode(msg, buf, sizeof(buf));

	CHECK(len > 0);
	return (size_t)len;
}

static size_t request_bytes(void)
{
	const struct csv_msg msg = lock_request(1);

	return length_of(&msg);
}

static size_t reply_bytes(void)
{
	const struct csv_msg msg = {.type = CSV_MSG_REPLY};

	return length_of(&msg);
}

/* ---- TCP, and TLS on it, without a loop ---- */

struct bare {
	int fd;
	struct tls_conn *tls; /* NULL: plain, and the socket blocks */
};

static void wait_tls(const struct bare *b)
{
	struct pollfd p = {.fd = b->fd};

	p.events = tls_conn_events(b->tls) == LOOP_WRITE ? POLLOUT : POLLIN;
	CHECK(poll(&p, 1, -1) >= 0 || errno == EINTR);
}

static ssize_t bare_step(struct bare *b, void *buf, size_t len, bool write_)
{
	ssize_t n;

	if (b->tls == NULL) {
		n = write_ ? write(b->fd, buf, len) : read(b->fd, buf, len);
		return n < 0 ? -errno : n;
	}
	for (;;) {
		n = write_ ? tls_conn_write(b->tls, buf, len) : tls_conn_read(b->tls, buf, len);
		if (n != -EAGAIN) {
			return n;
		}
		wait_tls(b);
	}
}

/* Returns false if the other end is gone. */
static bool bare_all(struct bare *b, void *buf, size_t len, bool write_)
{
	for (size_t at = 0; at < len;) {
		ssize_t n = bare_step(b, (uint8_t *)buf + at, len - at, write_);

		if (n <= 0) {
			return false;
		}
		at += (size_t)n;
	}
	return true;
}

static void bare_tls(struct bare *b, struct tls_ctx *ctx, enum tls_role role)
{
	const struct tls_conn_cfg cfg = {.role = role,
	                                 .peer_name = role == TLS_CLIENT ? args.coordinator : NULL};
	struct errbuf eb = {0};
	int err;

	CHECK(fcntl(b->fd, F_SETFL, O_NONBLOCK) == 0);
	CHECK(tls_conn_create(ctx, b->fd, &cfg, &b->tls, &eb) == 0);
	while ((err = tls_conn_handshake(b->tls, &eb)) == -EAGAIN) {
		wait_tls(b);
	}
	CHECK(err == 0);
}

static void no_delay(int fd)
{
	int one = 1;

	CHECK(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) == 0);
}

static void bare_dial(struct bare *b, uint16_t port, struct tls_ctx *ctx)
{
	struct sockaddr_storage at;
	socklen_t len;

	CHECK(tcp_address(args.addr, port, &at, &len) == 0);
	*b = (struct bare){.fd = socket(at.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0)};
	CHECK(b->fd >= 0 && connect(b->fd, (const struct sockaddr *)&at, len) == 0);
	no_delay(b->fd);
	if (ctx != NULL) {
		bare_tls(b, ctx, TLS_CLIENT);
	}
}

/* ---- serve ---- */

static int listen_at(uint16_t port)
{
	struct sockaddr_storage at;
	socklen_t len;
	int fd;

	CHECK(tcp_address(args.addr, port, &at, &len) == 0);
	fd = tcp_listen(&at, len, 8);
	CHECK(fd >= 0);
	return fd;
}

/* One after another: who asks is alone. */
static void *bare_serve(void *arg)
{
	struct tls_ctx *ctx = arg;
	int listening = listen_at((uint16_t)(args.port + (ctx != NULL)));
	uint8_t buf[512];

	CHECK(fcntl(listening, F_SETFL, 0) == 0);
	for (;;) {
		struct bare b = {.fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC)};

		CHECK(b.fd >= 0);
		no_delay(b.fd);
		if (ctx != NULL) {
			bare_tls(&b, ctx, TLS_SERVER);
		}
		while (bare_all(&b, buf, request_bytes(), false) &&
		       bare_all(&b, buf, reply_bytes(), true)) {
		}
		tls_conn_destroy(b.tls);
		(void)close(b.fd);
	}
	return NULL;
}

struct echo {
	struct loop *loop;
	struct tls_ctx *tls;
	struct csv_link *link;
};

static void echo_ready(void *arg, const struct tls_peer *peer)
{
	(void)arg;
	(void)peer;
}

static int echo_message(void *arg, const struct csv_msg *msg)
{
	const struct csv_msg reply = {
		.type = CSV_MSG_REPLY, .term = msg->term, .request = msg->request};
	struct echo *e = arg;

	return csv_link_send(e->link, &reply);
}

static void echo_closed(void *arg, int err, const char *why)
{
	struct echo *e = arg;

	(void)fprintf(stderr, "connection: %s (%d)\n", why, err);
	e->link = NULL;
}

static const struct csv_link_ops echo_ops = {echo_ready, echo_message, echo_closed};

static void echo_accept(int fd, uint32_t events, void *arg)
{
	struct echo *e = arg;
	const struct csv_link_cfg cfg = {
		.loop = e->loop, .tls = e->tls, .ops = &echo_ops, .arg = e};
	int conn = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)events;
	CHECK(conn >= 0);
	csv_link_destroy(e->link);
	CHECK(csv_link_accept(&cfg, conn, &e->link, NULL) == 0);
}

static void serve(void)
{
	struct echo e = {.tls = identity()};
	struct loop_fd *watch;
	pthread_t threads[2];

	CHECK(loop_create(&e.loop) == 0);
	CHECK(pthread_create(&threads[0], NULL, bare_serve, NULL) == 0);
	CHECK(pthread_create(&threads[1], NULL, bare_serve, e.tls) == 0);
	CHECK(loop_fd_add(e.loop, listen_at((uint16_t)(args.port + 2)), LOOP_READ, echo_accept, &e,
	                  &watch) == 0);
	(void)printf("ready\n");
	(void)fflush(stdout);
	loop_run(e.loop); /* until somebody ends the process */
}

/* ---- one who asks ---- */

struct slot {
	struct csv_client_req req;
	uint64_t begin_ns;
	char name[2][NAME_BYTES];
	uint32_t step;
	uint64_t ino;
	uint64_t generation;
};

static struct {
	struct loop *loop;
	struct tls_ctx *tls;
	struct csv_link *link;
	struct csv_client *client;
	struct csv_link *echo;
	bool echo_there;
	bool active;
	uint64_t root;
	struct loop_timer *end;
	bool over;      /* no more of this slice */
	uint32_t depth; /* of metadata operations */
	uint32_t flying;
	uint64_t echo_ns;
	uint64_t files;
	struct slot slots[DEPTH_MAX];
	/* turns */
	bool turns;
	bool held;
	uint64_t lock;
	struct csv_client_req give;
} me;

static void pump(void);

static void stop_when_done(void)
{
	if (me.flying == 0) {
		loop_stop(me.loop);
	}
}

static void give_back(void);

static void on_end(void *arg)
{
	(void)arg;
	me.over = true;
	if (me.held) {
		give_back(); /* nobody may come to wait for it any more */
		pump();
	} else {
		stop_when_done();
	}
}

/* Run what was begun for @ns. */
static void run(int kind, uint64_t ns)
{
	uint64_t begin_ns = clock_now_ns();

	loop_timer_arm(me.end, ns);
	loop_run(me.loop);
	kinds[kind].spent_ns += counts ? clock_now_ns() - begin_ns : 0;
}

static void submit(struct slot *s)
{
	s->begin_ns = clock_now_ns();
	me.flying++;
	csv_client_submit(me.client, &s->req);
}

/* ---- locks, uncontended ---- */

static void lock_ask(struct slot *s)
{
	me.lock = csv_client_number(me.client);
	s->req.msg = lock_request(me.lock);
	submit(s);
}

static void lock_release(struct slot *s)
{
	s->req.msg = (struct csv_msg){.type = CSV_MSG_UNLOCK, .number = me.lock};
	submit(s);
}

static void lock_answered(struct slot *s)
{
	bool granted = s->req.msg.type == CSV_MSG_LOCK;

	CHECK(s->req.result == 0);
	sample(granted ? GRANT : RELEASE, s->begin_ns);
	if (granted) {
		lock_release(s);
	} else if (!me.over) {
		lock_ask(s);
	}
}

/* ---- locks, by turns ---- */

static void give_back(void)
{
	me.held = false;
	me.give.msg = (struct csv_msg){.type = CSV_MSG_UNLOCK, .number = me.lock};
	me.flying++;
	csv_client_submit(me.client, &me.give);
	if (!me.over) {
		lock_ask(&me.slots[0]);
	}
}

static void turn_answered(struct slot *s)
{
	CHECK(s->req.result == 0);
	sample(CONTENDED, s->begin_ns);
	me.held = true;
	if (me.over) {
		give_back();
	}
}

static void turn_event(const struct csv_client_event *event)
{
	CHECK(event->what == CSV_MSG_A_LOCK && event->type == CSV_CLIENT_NOTICE);
	if (me.held && event->number == me.lock) {
		give_back();
	}
}

/* ---- metadata ---- */

/* The steps of one file, in order. */
static const struct {
	enum csv_op_type op;
	int kind;
} steps[] = {
	{CSV_OP_CREATE, CREATE},
	{CSV_OP_GETATTR, GETATTR},
	{CSV_OP_RENAME, RENAME},
	{CSV_OP_UNLINK, UNLINK},
};

static void meta_ask(struct slot *s)
{
	struct csv_msg_op *op = &s->req.msg.op;
	const char *name = s->name[steps[s->step].op == CSV_OP_UNLINK];

	s->req.msg = (struct csv_msg){.type = CSV_MSG_OP};
	*op = (struct csv_msg_op){.op = steps[s->step].op, .name = "", .name2 = ""};
	if (op->op == CSV_OP_GETATTR) {
		op->ino = s->ino;
		op->generation = s->generation;
		submit(s);
		return;
	}
	if (op->op == CSV_OP_CREATE) {
		(void)snprintf(s->name[0], NAME_BYTES, "b%u-%llu", args.node,
		               (unsigned long long)++me.files);
		(void)snprintf(s->name[1], NAME_BYTES, "b%u-%llu-new", args.node,
		               (unsigned long long)me.files);
		op->mode = 0644;
	} else if (op->op == CSV_OP_RENAME) {
		op->dir2 = me.root;
		op->name2 = s->name[1];
		op->name2_len = (uint32_t)strlen(op->name2);
	}
	op->dir = me.root;
	op->name = name;
	op->name_len = (uint32_t)strlen(name);
	op->now_ns = clock_wall_ns();
	submit(s);
}

static void meta_answered(struct slot *s)
{
	const struct csv_msg_reply *reply = &s->req.reply->reply;

	CHECK(s->req.result == 0);
	sample(me.depth == 1 ? steps[s->step].kind : MANY, s->begin_ns);
	if (steps[s->step].op == CSV_OP_CREATE) {
		CHECK((reply->parts & CSV_MSG_ATTR) != 0);
		s->ino = reply->attr.ino;
		s->generation = reply->attr.generation;
	}
	s->step = (s->step + 1) % ARRAY_LEN(steps);
	if (s->step != 0 || !me.over) { /* nothing stays there */
		meta_ask(s);
	}
}

/* ---- the connection to the coordinator ---- */

static void completed(struct csv_client_req *req)
{
	me.flying--;
	if (req != &me.give) {
		struct slot *s = container_of(req, struct slot, req);

		if (req->msg.type == CSV_MSG_OP) {
			meta_answered(s);
		} else if (me.turns) {
			turn_answered(s);
		} else {
			lock_answered(s);
		}
	}
	if (me.over) {
		stop_when_done();
	}
}

static void take_completed(void)
{
	struct csv_client_req *req;

	while ((req = csv_client_completed(me.client)) != NULL) {
		completed(req);
	}
}

static void pump(void)
{
	struct csv_client_event event;
	struct csv_msg msg;

	take_completed();
	while (csv_client_next_event(me.client, &event)) {
		turn_event(&event);
	}
	while (csv_client_next_message(me.client, clock_boot_ns(), &msg)) {
		CHECK(csv_link_send(me.link, &msg) == 0);
	}
}

static void on_ready(void *arg, const struct tls_peer *peer)
{
	(void)arg;
	(void)peer;
	csv_client_connected(me.client);
	pump();
}

static int on_message(void *arg, const struct csv_msg *msg)
{
	(void)arg;
	CHECK(csv_client_receive(me.client, msg, clock_boot_ns()) == 0);
	take_completed(); /* replies are borrowed until the next message */
	pump();
	if (!me.active && csv_client_state(me.client) == CSV_CLIENT_ACTIVE) {
		me.active = true;
		loop_stop(me.loop);
	}
	return 0;
}

static void on_closed(void *arg, int err, const char *why)
{
	(void)arg;
	(void)err;
	(void)fprintf(stderr, "connection: %s\n", why);
	exit(1);
}

static const struct csv_link_ops client_ops = {on_ready, on_message, on_closed};

static void connect_client(const struct csv_super *super)
{
	const struct csv_link_cfg link = {.loop = me.loop, .tls = me.tls, .ops = &client_ops};
	const struct csv_client_cfg cfg = {.volume = super->volume,
	                                   .node = args.node,
	                                   .incarnation = 1,
	                                   .numbers = clock_boot_ns()};

	CHECK(csv_client_create(&cfg, &me.client, NULL) == 0);
	CHECK(csv_link_dial(&link, args.addr, CSV_DAEMON_PORT, args.coordinator, &me.link, NULL) ==
	      0);
	loop_run(me.loop);
}

/* ---- the echo by csv/link ---- */

static void link_ask(void)
{
	const struct csv_msg msg = lock_request(1);

	me.echo_ns = clock_now_ns();
	me.flying++;
	CHECK(csv_link_send(me.echo, &msg) == 0);
}

static void link_ready(void *arg, const struct tls_peer *peer)
{
	(void)arg;
	(void)peer;
	loop_stop(me.loop);
}

static int link_message(void *arg, const struct csv_msg *msg)
{
	(void)arg;
	(void)msg;
	me.flying--;
	sample(LINK, me.echo_ns);
	if (me.over) {
		loop_stop(me.loop);
	} else {
		link_ask();
	}
	return 0;
}

static const struct csv_link_ops link_ops = {link_ready, link_message, on_closed};

static void connect_echo(void)
{
	const struct csv_link_cfg link = {.loop = me.loop, .tls = me.tls, .ops = &link_ops};

	CHECK(csv_link_dial(&link, args.addr, (uint16_t)(args.port + 2), args.coordinator, &me.echo,
	                    NULL) == 0);
	loop_run(me.loop);
}

/* ---- slices ---- */

static void bare_slice(int kind, struct bare *b)
{
	uint64_t end_ns = clock_now_ns() + SLICE_NS;
	uint8_t buf[512] = {0};

	while (clock_now_ns() < end_ns) {
		uint64_t begin_ns = clock_now_ns();

		CHECK(bare_all(b, buf, request_bytes(), true));
		CHECK(bare_all(b, buf, reply_bytes(), false));
		sample(kind, begin_ns);
	}
}

static void sync_slice(int fd, void *page)
{
	uint64_t end_ns = clock_now_ns() + SLICE_NS;
	static uint64_t at;

	while (clock_now_ns() < end_ns) {
		uint64_t begin_ns = clock_now_ns();

		CHECK(pwrite(fd, page, 4096, (off_t)(at++ % 256 * 4096)) == 4096);
		CHECK(fdatasync(fd) == 0);
		sample(SYNC, begin_ns);
	}
}

static void link_slice(void)
{
	me.over = false;
	link_ask();
	run(LINK, SLICE_NS);
}

static void lock_slice(void)
{
	me.over = false;
	lock_ask(&me.slots[0]);
	pump();
	run(GRANT, SLICE_NS);
}

static void meta_slice(uint32_t depth, uint64_t ns)
{
	me.over = false;
	me.depth = depth;
	for (uint32_t i = 0; i < depth; i++) {
		meta_ask(&me.slots[i]);
	}
	pump();
	run(depth != 1 ? MANY : CREATE, ns);
}

static void alone(void)
{
	struct bare tcp;
	struct bare tls;
	void *page = bench_pages(4096);
	char beside[512];
	int fd;

	(void)snprintf(beside, sizeof(beside), "%.*s", (int)(strrchr(args.lun, '/') - args.lun),
	               args.lun);
	fd = bench_file(beside, 1u << 20, true);
	memset(page, 0x5a, 4096);
	bare_dial(&tcp, args.port, NULL);
	bare_dial(&tls, (uint16_t)(args.port + 1), me.tls);
	connect_echo();

	uint64_t end_ns = clock_now_ns() + args.seconds * NS_PER_S;

	for (uint32_t round = 0; clock_now_ns() < end_ns || !counts; round++) {
		counts = round >= WARM_ROUNDS;
		bare_slice(TCP, &tcp);
		bare_slice(TLS, &tls);
		link_slice();
		lock_slice();
		meta_slice(1, 2 * SLICE_NS);
		meta_slice(DEPTH_MAX, SLICE_NS);
		sync_slice(fd, page);
	}
}

static void turns(void)
{
	me.turns = true;
	lock_ask(&me.slots[0]);
	pump();
	run(CONTENDED, NS_PER_S); /* both are there, and warm */
	CHECK(!me.held && me.flying == 0);
	counts = true;
	me.over = false;
	lock_ask(&me.slots[0]);
	pump();
	run(CONTENDED, args.seconds * NS_PER_S);
}

static void read_super(struct csv_super *out)
{
	uint64_t places[CSV_SUPER_COPIES];
	uint8_t *block = bench_pages(CSV_BLOCK_BYTES);
	int fd = open(args.lun, O_RDONLY | O_CLOEXEC);

	CHECK(fd >= 0);
	CHECK(csv_layout_super_places((uint64_t)lseek(fd, 0, SEEK_END), places) == 0);
	CHECK(pread(fd, block, CSV_BLOCK_BYTES, (off_t)(places[0] * CSV_BLOCK_BYTES)) ==
	      CSV_BLOCK_BYTES);
	CHECK(csv_super_decode(block, places[0], false, out, NULL) == 0);
	(void)close(fd);
	free(block);
}

static void ask(bool by_turns)
{
	static struct csv_super super;

	read_super(&super);
	me.root = csv_layout_root(&super.layout);
	me.tls = identity();
	CHECK(loop_create(&me.loop) == 0);
	CHECK(loop_timer_new(me.loop, on_end, NULL, &me.end) == 0);
	connect_client(&super);
	if (by_turns) {
		turns();
	} else {
		alone();
	}
	report();
}

int main(int argc, char **argv)
{
	bool serves = argc == 5 && strcmp(argv[1], "serve") == 0;
	bool by_turns = argc == 9 && strcmp(argv[1], "turns") == 0;

	if (!serves && !by_turns && (argc != 9 || strcmp(argv[1], "alone") != 0)) {
		(void)fprintf(stderr, "usage: csv_lock_bench serve CERTS ADDR PORT | "
		                      "alone|turns CERTS ADDR PORT LUN NODE COORDINATOR SECONDS\n");
		return 2;
	}
	(void)signal(SIGPIPE, SIG_IGN);
	args = (struct args){
		.certs = argv[2], .addr = argv[3], .port = (uint16_t)strtoul(argv[4], NULL, 10)};
	if (serves) {
		serve();
		return 0;
	}
	args.lun = argv[5];
	args.node = (uint32_t)strtoul(argv[6], NULL, 10);
	args.coordinator = argv[7];
	args.seconds = strtoul(argv[8], NULL, 10);
	ask(by_turns);
	return 0;
}
