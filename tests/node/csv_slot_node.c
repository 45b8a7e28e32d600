/* SPDX-License-Identifier: Apache-2.0 */

/*
 * csv_slot_node DEVICE NODE NODES INCARNATION - one node of a volume, as a process: keeps its slot,
 * says what becomes of it and of the others, one line each:
 *
 *	joined | lapsed | fenced REASON | until MS (once per renewal: the lease in ms from now)
 *	peer NODE LIFE | mail COMMAND | sentenced NODE ERR
 *
 * Lines it obeys: "sentence NODE INCARNATION", "readmit", "quit". Leases of 5 s, a slot per 250 ms.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/errbuf.h"
#include "base/loop.h"
#include "csv/slot/csv_slot_io.h"

struct node {
	struct loop *loop;
	struct csv_slot_io *io;
	struct loop_fd *input;
	char line[128];
	size_t len;
	uint32_t about;
};

static void event(void *arg, uint32_t did)
{
	struct node *n = arg;
	struct csv_slot *s = csv_slot_io_slot(n->io);

	if ((did & CSV_SLOT_DID_JOIN) != 0) {
		(void)printf("joined\n");
	}
	if ((did & CSV_SLOT_DID_LAPSE) != 0) {
		(void)printf("lapsed\n");
	}
	if ((did & CSV_SLOT_DID_FENCE) != 0) {
		(void)printf("fenced %s\n", csv_slot_reason_name(s->reason));
	}
	if ((did & CSV_SLOT_DID_RENEW) != 0) {
		(void)printf("until %llu\n", (csv_slot_until_ns(s) - clock_boot_ns()) / NS_PER_MS);
	}
	if ((did & CSV_SLOT_DID_MAIL) != 0) {
		(void)printf("mail %d\n", (int)s->mail.command);
	}
	for (uint32_t i = 0; (did & CSV_SLOT_DID_PEERS) != 0 && i < CSV_NODES_MAX; i++) {
		if ((s->changed >> i & 1) != 0) {
			(void)printf("peer %u %s\n", i, csv_slot_life_name(s->peers[i].life));
		}
	}
}

static void sentenced(void *arg, int err)
{
	const struct node *n = arg;

	(void)printf("sentenced %u %d\n", n->about, err);
}

static void obey(struct node *n, const char *line)
{
	uint64_t incarnation;

	if (sscanf(line, "sentence %u %" SCNu64, &n->about, &incarnation) == 2) {
		CHECK(n->about < CSV_NODES_MAX);
		CHECK(csv_slot_io_sentence(n->io, n->about, incarnation, sentenced, n) == 0);
	} else if (strcmp(line, "readmit") == 0) {
		csv_slot_readmit(csv_slot_io_slot(n->io));
	} else {
		loop_stop(n->loop);
	}
}

static void input(int fd, uint32_t events, void *arg)
{
	struct node *n = arg;
	ssize_t got = read(fd, n->line + n->len, sizeof(n->line) - 1 - n->len);
	char *end;

	(void)events;
	if (got <= 0) {
		loop_stop(n->loop);
		return;
	}
	n->len += (size_t)got;
	n->line[n->len] = '\0';
	while ((end = strchr(n->line, '\n')) != NULL) {
		size_t rest = n->len - (size_t)(end + 1 - n->line);

		*end = '\0';
		obey(n, n->line);
		memmove(n->line, end + 1, rest + 1);
		n->len = rest;
	}
}

int main(int argc, char **argv)
{
	struct node n = {0};
	struct timing_cfg cfg;
	struct csv_slot_io_cfg io = {.event = event, .arg = &n};
	struct errbuf eb = {0};
	int err;

	CHECK(argc == 5);
	timing_fast(&cfg);
	cfg.slot_ms = 250;
	CHECK(timing_init(&cfg, &io.slot.timing, &eb) == 0);
	io.path = argv[1];
	io.slot.volume = (struct guid){{7}};
	io.slot.node = (uint32_t)strtoul(argv[2], NULL, 10);
	io.slot.node_id = (struct guid){{1, (uint8_t)io.slot.node}};
	io.slot.nodes = (uint32_t)strtoul(argv[3], NULL, 10);
	io.slot.incarnation = strtoull(argv[4], NULL, 10);
	(void)setvbuf(stdout, NULL, _IOLBF, 0);
	CHECK(loop_create(&n.loop) == 0);
	err = csv_slot_io_create(&io, n.loop, &n.io, &eb);
	if (err != 0) {
		(void)fprintf(stderr, "%s\n", errbuf_text(&eb, err));
		return 1;
	}
	CHECK(loop_fd_add(n.loop, STDIN_FILENO, LOOP_READ, input, &n, &n.input) == 0);
	loop_run(n.loop);
	csv_slot_io_destroy(n.io);
	loop_destroy(n.loop);
	return 0;
}
