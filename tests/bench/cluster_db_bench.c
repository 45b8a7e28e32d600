/* SPDX-License-Identifier: Apache-2.0 */

/*
 * cluster_db_bench - committed writes of the cluster database beside the round trip of a bare CPG
 * message, in the same run. Started on each node by cluster_db_bench.py:
 *
 *	cluster_db_bench FILE NODEID NODES serve      until stdin ends
 *	cluster_db_bench FILE NODEID NODES measure    prints figures
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/errbuf.h"
#include "base/loop.h"
#include "base/parse.h"
#include "cluster/coro/coro.h"
#include "cluster/member/member.h"
#include "tests/bench/bench.h"

#define COUNT_MAX 20000u
#define TIMEOUT_NS 60000000000ull
#define MESSAGE_BYTES 100u

struct app {
	struct loop *loop;
	struct member *member;
	struct coro *raw;
	struct db_cmd cmd;
	uint32_t nodes;
	uint32_t window;
	uint32_t count; /* of this series */
	uint32_t sent;
	uint32_t done;
	uint64_t start_ns;
	uint64_t sent_ns[COUNT_MAX];
	uint64_t took_ns[COUNT_MAX];
	struct loop_timer *wait;
};

static int by_time(const void *a, const void *b)
{
	const uint64_t *x = a;
	const uint64_t *y = b;

	return *x < *y ? -1 : *x > *y;
}

static void figures(struct app *app, const char *name)
{
	char text[64];
	size_t middle = app->count / 2;
	size_t late = app->count - app->count / 100 - 1;

	qsort(app->took_ns, app->count, sizeof(app->took_ns[0]), by_time);
	(void)snprintf(text, sizeof(text), "%s_p50", name);
	bench_figure(text, (double)app->took_ns[middle] / 1e3, "us");
	(void)snprintf(text, sizeof(text), "%s_p99", name);
	bench_figure(text, (double)app->took_ns[late] / 1e3, "us");
	(void)snprintf(text, sizeof(text), "%s_rate", name);
	(void)bench_rate(text, app->count, app->start_ns, "1/s");
}

/* ---- bare messages ---- */

static void raw_send(struct app *app)
{
	uint8_t buf[MESSAGE_BYTES] = {0};

	while (app->sent < app->count && app->sent - app->done < app->window) {
		app->sent_ns[app->sent++] = clock_now_ns();
		coro_multicast(app->raw, buf, sizeof(buf));
	}
}

static void on_message(void *arg, const struct view_peer *from, const void *buf, size_t len)
{
	struct app *app = arg;

	(void)from;
	(void)buf;
	CHECK(len == MESSAGE_BYTES && app->done < app->sent);
	app->took_ns[app->done] = clock_now_ns() - app->sent_ns[app->done];
	app->done++;
	if (app->done == app->count) {
		loop_stop(app->loop);
	}
	raw_send(app);
}

static void on_group(void *arg, const struct view_peer *peers, uint32_t count)
{
	struct app *app = arg;

	(void)peers;
	if (count == 1) { /* of this node alone: the ring is the same */
		loop_stop(app->loop);
	}
}

static void on_ring(void *arg, const struct view_ring *ring, const uint32_t *members,
                    uint32_t count)
{
	(void)arg;
	(void)ring;
	(void)members;
	(void)count;
}

static void on_quorum(void *arg, uint64_t ring_seq, bool quorate)
{
	(void)arg;
	(void)ring_seq;
	(void)quorate;
}

static void on_config(void *arg, uint64_t version)
{
	(void)arg;
	(void)version;
}

static void on_unicast(void *arg, uint32_t nodeid, const void *buf, size_t len)
{
	(void)arg;
	(void)nodeid;
	(void)buf;
	(void)len;
}

static void on_up(void *arg, uint32_t nodeid)
{
	(void)arg;
	(void)nodeid;
}

static void on_down(void *arg, const char *why)
{
	(void)arg;
	(void)fprintf(stderr, "%s\n", why);
	exit(1);
}

/* ---- writes ---- */

static void write_more(struct app *app);

static void on_done(void *arg, enum rsm_outcome outcome, const struct rsm_result *result)
{
	struct app *app = arg;

	CHECK(outcome == RSM_DONE && result->status == 0);
	app->took_ns[app->done] = clock_now_ns() - app->sent_ns[app->done]; /* in order */
	app->done++;
	if (app->done == app->count) {
		loop_stop(app->loop);
	}
	loop_timer_arm(app->wait, 0);
}

static void write_more(struct app *app)
{
	while (app->sent < app->count && app->sent - app->done < app->window) {
		app->sent_ns[app->sent++] = clock_now_ns();
		CHECK(member_propose(app->member, &app->cmd, TIMEOUT_NS, on_done, app) == 0);
	}
}

static void on_wait(void *arg)
{
	struct app *app = arg;
	struct rsm_status s;

	if (app->count != 0) {
		write_more(app);
		return;
	}
	member_status(app->member, &s);
	if (s.state == RSM_ACTIVE && s.votes == app->nodes) {
		loop_stop(app->loop);
	} else {
		loop_timer_arm(app->wait, 10000000ull);
	}
}

static void series(struct app *app, uint32_t count, uint32_t window)
{
	app->count = count;
	app->window = window;
	app->sent = 0;
	app->done = 0;
	app->start_ns = clock_now_ns();
}

static void measure(struct app *app)
{
	static const struct coro_ops ops = {.group = on_group,
	                                    .ring = on_ring,
	                                    .quorum = on_quorum,
	                                    .config = on_config,
	                                    .message = on_message,
	                                    .unicast = on_unicast,
	                                    .up = on_up,
	                                    .down = on_down};
	json_t *doc = json_pack("{s:s,s:s,s:i}", "state", "online", "owner", "n1", "token", 1);
	struct rsm_status s;

	loop_timer_arm(app->wait, 0); /* until all members are there */
	loop_run(app->loop);
	member_status(app->member, &s);
	bench_figure("leader", s.leader, "node");
	CHECK(coro_open(app->loop, "godwit-bench", &ops, app, &app->raw, NULL) == 0);
	loop_run(app->loop);
	db_cmd_init(&app->cmd);
	db_cmd_put(&app->cmd, DB_VM, "web1", doc);
	CHECK(db_cmd_end(&app->cmd) == 0);
	for (uint32_t round = 0; round < 2; round++) { /* the first one warms up */
		series(app, round == 0 ? 200 : 3000, 1);
		raw_send(app);
		loop_run(app->loop);
		if (round == 1) {
			figures(app, "cpg_window1");
		}
		series(app, round == 0 ? 200 : 2000, 1);
		write_more(app);
		loop_run(app->loop);
		if (round == 1) {
			figures(app, "commit_window1");
		}
	}
	series(app, 10000, 64);
	raw_send(app);
	loop_run(app->loop);
	figures(app, "cpg_window64");
	series(app, 10000, 64);
	write_more(app);
	loop_run(app->loop);
	figures(app, "commit_window64");
	db_cmd_fini(&app->cmd);
	json_decref(doc);
	coro_close(app->raw);
}

static void on_stdin(int fd, uint32_t events, void *arg)
{
	char buf[16];

	(void)events;
	if (read(fd, buf, sizeof(buf)) <= 0) {
		loop_stop(((struct app *)arg)->loop);
	}
}

int main(int argc, char **argv)
{
	static struct app app;
	struct errbuf eb = {{0}, {0}};
	struct view_config config = {0};
	struct loop_fd *in = NULL;
	uint64_t nodeid;
	uint64_t nodes;

	if (argc != 5 || parse_u64(argv[2], 1, 32, &nodeid, NULL) != 0 ||
	    parse_u64(argv[3], 1, 32, &nodes, NULL) != 0) {
		return 2;
	}
	app.nodes = (uint32_t)nodes;
	config.count = app.nodes;
	for (uint32_t i = 0; i < app.nodes; i++) {
		config.nodes[i] = (struct view_node){.nodeid = i + 1, .votes = 1};
		config.nodes[i].uuid.b[0] = (uint8_t)(i + 1);
	}
	CHECK(loop_create(&app.loop) == 0);
	CHECK(loop_timer_new(app.loop, on_wait, &app, &app.wait) == 0);

	const struct member_cfg cfg = {.loop = app.loop,
	                               .path = argv[1],
	                               .group = "godwit-bench-db",
	                               .nodeid = (uint32_t)nodeid,
	                               .uuid = config.nodes[nodeid - 1].uuid,
	                               .config = &config};
	int err = member_open(&cfg, &app.member, &eb);

	if (err != 0) {
		(void)fprintf(stderr, "%s\n", errbuf_text(&eb, err));
		return 1;
	}
	if (strcmp(argv[4], "measure") == 0) {
		measure(&app);
	} else {
		CHECK(loop_fd_add(app.loop, STDIN_FILENO, LOOP_READ, on_stdin, &app, &in) == 0);
		loop_run(app.loop);
		loop_fd_del(in);
	}
	member_close(app.member);
	loop_timer_del(app.wait);
	loop_destroy(app.loop);
	return 0;
}
