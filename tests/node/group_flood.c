/* SPDX-License-Identifier: Apache-2.0 */

/*
 * group_flood - a client of corosync that has gone mad: it multicasts all it can into a group.
 *
 *	group_flood GROUP BYTES WINDOW     until it is killed; a line "sent COUNT" each second
 *
 * WINDOW messages of BYTES are on their way at a time; corosync's own flow control does the rest.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/errbuf.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/parse.h"
#include "cluster/coro/coro.h"

#define LINE_NS 1000000000ull

struct flood {
	struct loop *loop;
	struct loop_timer *line;
	struct coro *coro;
	uint8_t *bytes; /* owned [len] */
	size_t len;
	uint64_t window;
	uint64_t under_way;
	uint64_t sent;
	uint64_t sent_before;
	uint32_t nodeid;
};

static void fill(struct flood *f)
{
	for (; f->under_way < f->window; f->under_way++, f->sent++) {
		coro_multicast(f->coro, f->bytes, f->len);
	}
}

static void on_message(void *arg, const struct view_peer *from, const void *buf, size_t len)
{
	struct flood *f = arg;

	(void)buf;
	if (from->nodeid == f->nodeid && len == f->len && f->under_way != 0) {
		f->under_way--;
		fill(f);
	}
}

static void on_up(void *arg, uint32_t nodeid)
{
	struct flood *f = arg;

	f->nodeid = nodeid;
	f->under_way = 0;
	fill(f);
}

static void on_line(void *arg)
{
	struct flood *f = arg;

	(void)printf("sent %llu\n", (unsigned long long)f->sent);
	if (f->sent == f->sent_before) { /* what was under way was lost with a connection */
		f->under_way = 0;
		fill(f);
	}
	f->sent_before = f->sent;
	loop_timer_arm(f->line, LINE_NS);
}

/* What else there is to hear. */
static void on_group(void *arg, const struct view_peer *peers, uint32_t count)
{
	(void)arg;
	(void)peers;
	(void)count;
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

static void on_config(void *arg, uint64_t config_version)
{
	(void)arg;
	(void)config_version;
}

static void on_unicast(void *arg, uint32_t nodeid, const void *buf, size_t len)
{
	(void)arg;
	(void)nodeid;
	(void)buf;
	(void)len;
}

static void on_down(void *arg, const char *why)
{
	(void)arg;
	(void)printf("down %s\n", why);
}

int main(int argc, char **argv)
{
	static const struct coro_ops ops = {
		.group = on_group,
		.ring = on_ring,
		.quorum = on_quorum,
		.config = on_config,
		.message = on_message,
		.unicast = on_unicast,
		.up = on_up,
		.down = on_down,
	};
	struct flood f = {.len = 0};
	struct errbuf eb = {{0}, {0}};
	uint64_t bytes = 0;

	if (argc != 4 || parse_u64(argv[2], 1, CORO_MESSAGE_MAX / 2, &bytes, NULL) != 0 ||
	    parse_u64(argv[3], 1, 4096, &f.window, NULL) != 0) {
		return 2;
	}
	(void)setvbuf(stdout, NULL, _IOLBF, 0);
	CHECK(log_open(&(struct log_cfg){
		      .name = "group_flood", .level = LOG_LEVEL_INFO, .to_stderr = true}) == 0);
	f.len = bytes;
	f.bytes = malloc(bytes);
	CHECK(f.bytes != NULL && loop_create(&f.loop) == 0);
	memset(f.bytes, 0xa5, bytes);
	CHECK(loop_timer_new(f.loop, on_line, &f, &f.line) == 0);
	if (coro_open(f.loop, argv[1], &ops, &f, &f.coro, &eb) != 0) {
		(void)fprintf(stderr, "%s\n", eb.text);
		return 1;
	}
	on_line(&f);
	loop_run(f.loop);
	return 0;
}
