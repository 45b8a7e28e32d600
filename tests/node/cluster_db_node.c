/* SPDX-License-Identifier: Apache-2.0 */

/*
 * cluster_db_node - one member of a cluster database, driven by lines on stdin; answers on stdout.
 *
 *	cluster_db_node FILE NODEID NODES [alone]
 *
 *	put KEY TEXT   -> put KEY STATUS INDEX | put KEY unknown | put KEY refused ERRNO
 *	get KEY        -> get KEY TEXT | get KEY -        (after a barrier: linearizable)
 *	peek KEY       -> peek KEY TEXT | peek KEY -      (local)
 *	config N       -> config STATUS | config unknown | config refused ERRNO   (nodes 1..N vote)
 *	status         -> status STATE stale=0|1 epoch leader applied last votes hash
 *	(by itself)       state STATE epoch leader
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/errbuf.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/parse.h"
#include "cluster/member/member.h"

#define TIMEOUT_NS 3000000000ull
#define LINE_MAX_BYTES 60000u

static const char *const states[] = {"off", "starting", "active", "halted"};

struct app {
	struct loop *loop;
	struct member *member;
	char line[LINE_MAX_BYTES];
	size_t len;
};

struct request {
	struct app *app;
	char verb[16];
	char key[DB_KEY_MAX + 1];
};

static struct guid uuid_of(uint32_t nodeid)
{
	struct guid g = {{0}};

	g.b[0] = (uint8_t)nodeid;
	g.b[1] = 0x5a;
	return g;
}

static void config_of(uint64_t nodes, struct view_config *out)
{
	*out = (struct view_config){.count = (uint32_t)nodes};
	for (uint32_t i = 1; i <= nodes; i++) {
		out->nodes[i - 1] = (struct view_node){.nodeid = i, .votes = 1, .uuid = uuid_of(i)};
	}
}

static void on_changed(void *arg)
{
	struct app *app = arg;
	struct rsm_status s;

	member_status(app->member, &s);
	(void)printf("state %s %llu %u\n", states[s.state], (unsigned long long)s.epoch, s.leader);
}

static void print_object(struct app *app, const char *verb, const char *key)
{
	const struct db_object *o = db_get(member_db(app->member), DB_VM, key);
	const char *text = o == NULL ? NULL : json_string_value(json_object_get(o->doc, "text"));

	(void)printf("%s %s %s\n", verb, key, text == NULL ? "-" : text);
}

static void on_done(void *arg, enum rsm_outcome outcome, const struct rsm_result *result)
{
	struct request *q = arg;

	if (outcome == RSM_UNKNOWN) {
		(void)printf("%s %s unknown\n", q->verb, q->key);
	} else if (strcmp(q->verb, "get") == 0) {
		print_object(q->app, "get", q->key);
	} else {
		(void)printf("%s %s %d %llu\n", q->verb, q->key, result->status,
		             (unsigned long long)result->index);
	}
	free(q);
}

static void ask(struct app *app, const char *verb, const char *key, const char *text)
{
	struct request *q = calloc(1, sizeof(*q));
	uint64_t nodes;
	struct view_config config;
	struct db_cmd cmd;
	int err;

	CHECK(q != NULL);
	q->app = app;
	(void)snprintf(q->verb, sizeof(q->verb), "%s", verb);
	(void)snprintf(q->key, sizeof(q->key), "%s", key);
	if (strcmp(verb, "put") == 0) {
		json_t *doc = json_pack("{s:s}", "text", text);

		db_cmd_init(&cmd);
		db_cmd_put(&cmd, DB_VM, key, doc);
		json_decref(doc);
		err = db_cmd_end(&cmd);
		if (err == 0) {
			err = member_propose(app->member, &cmd, TIMEOUT_NS, on_done, q);
		}
		db_cmd_fini(&cmd);
	} else if (strcmp(verb, "get") == 0) {
		err = member_barrier(app->member, TIMEOUT_NS, on_done, q);
	} else {
		err = parse_u64(key, 1, 32, &nodes, NULL);
		if (err == 0) {
			config_of(nodes, &config);
			err = member_configure(app->member, &config, TIMEOUT_NS, on_done, q);
		}
	}
	if (err != 0) {
		(void)printf("%s %s refused %d\n", verb, key, -err);
		free(q);
	}
}

static void print_status(struct app *app)
{
	struct rsm_status s;

	member_status(app->member, &s);
	(void)printf("status %s stale=%d epoch=%llu leader=%u applied=%llu last=%llu votes=%u "
	             "hash=%016llx objects=%016llx\n",
	             states[s.state], s.stale ? 1 : 0, (unsigned long long)s.epoch, s.leader,
	             (unsigned long long)s.applied_index, (unsigned long long)s.last_index, s.votes,
	             (unsigned long long)s.applied_hash,
	             (unsigned long long)db_hash(member_db(app->member)));
}

static void on_line(struct app *app, char *line)
{
	char *save = NULL;
	const char *verb = strtok_r(line, " ", &save);
	const char *key = strtok_r(NULL, " ", &save);
	const char *text = strtok_r(NULL, "", &save);

	if (verb == NULL) {
		return;
	}
	if (strcmp(verb, "status") == 0) {
		print_status(app);
	} else if (strcmp(verb, "peek") == 0 && key != NULL) {
		print_object(app, "peek", key);
	} else if (key != NULL) {
		ask(app, verb, key, text == NULL ? "" : text);
	}
}

static void on_stdin(int fd, uint32_t events, void *arg)
{
	struct app *app = arg;
	ssize_t n = read(fd, app->line + app->len, sizeof(app->line) - app->len);
	char *end;

	(void)events;
	if (n <= 0) {
		loop_stop(app->loop);
		return;
	}
	app->len += (size_t)n;
	while ((end = memchr(app->line, '\n', app->len)) != NULL) {
		size_t used = (size_t)(end - app->line) + 1;

		*end = '\0';
		on_line(app, app->line);
		memmove(app->line, app->line + used, app->len - used);
		app->len -= used;
	}
}

int main(int argc, char **argv)
{
	static struct app app;
	struct errbuf eb = {{0}, {0}};
	struct view_config config;
	uint64_t nodeid = 0;
	uint64_t nodes = 0;
	struct loop_fd *in = NULL;

	if (argc < 4 || parse_u64(argv[2], 1, 32, &nodeid, NULL) != 0 ||
	    parse_u64(argv[3], 0, 32, &nodes, NULL) != 0) {
		return 2;
	}
	(void)setvbuf(stdout, NULL, _IOLBF, 0);
	CHECK(log_open(&(struct log_cfg){
		      .name = "cluster_db_node", .level = LOG_LEVEL_INFO, .to_stderr = true}) == 0);
	CHECK(loop_create(&app.loop) == 0);
	config_of(nodes, &config);

	struct member_cfg cfg = {
		.loop = app.loop,
		.path = argv[1],
		.group = argc > 4 ? NULL : "godwit-test",
		.nodeid = (uint32_t)nodeid,
		.uuid = uuid_of((uint32_t)nodeid),
		.config = nodes == 0 ? NULL : &config, /* 0: joins */
		.changed = on_changed,
		.arg = &app,
	};
	int err = member_open(&cfg, &app.member, &eb);

	if (err != 0) {
		(void)fprintf(stderr, "%s\n", errbuf_text(&eb, err));
		return 1;
	}
	CHECK(loop_fd_add(app.loop, STDIN_FILENO, LOOP_READ, on_stdin, &app, &in) == 0);
	loop_run(app.loop);
	loop_fd_del(in);
	member_close(app.member);
	loop_destroy(app.loop);
	return 0;
}
