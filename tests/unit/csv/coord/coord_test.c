/* SPDX-License-Identifier: Apache-2.0 */

/* The coordinator, asked by nodes 1 and 2 (runs 11 and 12) in messages that went over the wire. */
#include <errno.h>
#include <string.h>

#include "base/errbuf.h"
#include "base/fault.h"
#include "csv/coord/csv_coord.h"
#include "tests/lib/test.h"
#include "tests/sim/csv/sim_disk.h"

#define VOLUME_BYTES (64ull << 20)
#define MIB (1ull << 20)
#define SEC 1000000000ull
#define SAID 32u

struct world {
	struct sim_disk *disk;
	struct csv_super super;
	struct csv_coord *c;
	struct csv_members members;
	uint64_t now;
	uint64_t term;
	uint64_t root;
	uint64_t request;
	struct csv_msg said[SAID];
	uint32_t said_to[SAID];
	uint32_t said_count;
	uint8_t wire[SAID][16384];
};

static struct world w;

static int emit(void *arg, uint64_t block, const void *buf)
{
	sim_disk_put(arg, block, buf);
	return 0;
}

/* Through the codec, as it would come. */
static void over_the_wire(const struct csv_msg *in, uint8_t *buf, struct csv_msg *out)
{
	int len = csv_msg_encode(in, buf, 16384);

	assert_true(len > 0);
	assert_int_equal(csv_msg_decode(buf, (size_t)len, out, NULL), 0);
}

static bool pump_some(void)
{
	const struct csv_msg *msg;
	struct csv_io io;
	uint32_t node;
	uint32_t id;
	bool any = false;

	while (csv_coord_next_io(w.c, &io)) {
		sim_disk_start(w.disk, &io);
		any = true;
	}
	while ((msg = csv_coord_next_message(w.c, &node)) != NULL) {
		assert_true(w.said_count < SAID);
		over_the_wire(msg, w.wire[w.said_count], &w.said[w.said_count]);
		w.said_to[w.said_count++] = node;
		any = true;
	}
	if (sim_disk_step(w.disk, &id)) {
		csv_coord_io_done(w.c, id, 0);
		any = true;
	}
	return any;
}

static void pump(void)
{
	while (pump_some()) {
	}
}

/* What was said to @node, oldest first; NULL: nothing (more). */
static const struct csv_msg *heard(uint32_t node)
{
	for (uint32_t i = 0; i < w.said_count; i++) {
		if (w.said_to[i] == node) {
			w.said_to[i] = CSV_MSG_NODES;
			return &w.said[i];
		}
	}
	return NULL;
}

static void begin(const struct csv_lock_owner *holders, uint32_t count)
{
	const struct csv_coord_cfg cfg = {
		.super = &w.super,
		.term = ++w.term,
		.quiet = true,
		.node = 0,
		.members = &w.members,
		.holders = holders,
		.holders_count = count,
		.locks_max = 256,
		.handles_max = 16,
		.leases_max = 32,
	};

	assert_int_equal(csv_coord_create(&cfg, w.now, &w.c, NULL), 0);
	w.said_count = 0;
	pump();
}

static int setup(void **state)
{
	const struct csv_layout_cfg cfg = {.size_bytes = VOLUME_BYTES};

	(void)state;
	memset(&w, 0, sizeof(w));
	w.super = (struct csv_super){.term = 1, .volume = {{9}}, .label = "coord"};
	assert_int_equal(csv_layout_make(&cfg, &w.super.layout, NULL), 0);
	w.root = csv_layout_root(&w.super.layout);
	w.disk = sim_disk_create(w.super.layout.size, 1);
	assert_int_equal(csv_meta_format(&w.super, 0, emit, w.disk), 0);
	w.term = 1;
	w.members.run[1] = 11;
	w.members.run[2] = 12;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	csv_coord_destroy(w.c);
	sim_disk_destroy(w.disk);
	return 0;
}

static int send(uint32_t node, struct csv_msg *msg)
{
	static uint8_t buf[16384];
	static struct csv_msg in;
	bool event = msg->type == CSV_MSG_HELLO;

	msg->term = w.term;
	msg->request = event ? 0 : ++w.request;
	over_the_wire(msg, buf, &in);
	w.said_count = 0;

	int err = csv_coord_receive(w.c, node, &in, w.now);

	pump();
	return err;
}

/* Ask, and take the reply's status; -EINPROGRESS: it did not come. */
static int ask(uint32_t node, struct csv_msg *msg, struct csv_msg *reply)
{
	const struct csv_msg *said;

	assert_int_equal(send(node, msg), 0);
	for (uint32_t i = 0; i < w.said_count; i++) {
		said = &w.said[i];
		if (w.said_to[i] == node && said->type == CSV_MSG_REPLY &&
		    said->request == msg->request) {
			w.said_to[i] = CSV_MSG_NODES;
			if (reply != NULL) {
				*reply = *said;
			}
			return said->status;
		}
	}
	return -EINPROGRESS;
}

static int hello(uint32_t node, uint64_t incarnation)
{
	struct csv_msg msg = {
		.type = CSV_MSG_HELLO,
		.hello = {w.super.volume, incarnation, node, 1, 1},
	};

	assert_int_equal(send(node, &msg), 0);

	const struct csv_msg *said = heard(node);

	assert_non_null(said);
	assert_int_equal(said->type, CSV_MSG_WELCOME);
	return said->status;
}

static struct csv_attr create(const char *name)
{
	struct csv_msg reply = {0};
	struct csv_msg msg = {
		.type = CSV_MSG_OP,
		.op = {.op = CSV_OP_CREATE,
	               .dir = w.root,
	               .name = name,
	               .name_len = (uint32_t)strlen(name),
	               .mode = 0600,
	               .now_ns = 1},
	};

	assert_int_equal(ask(1, &msg, &reply), 0);
	assert_int_equal(reply.reply.parts, CSV_MSG_ATTR);

	/* The same number again: done already. */
	uint64_t ino = reply.reply.attr.ino;

	w.request--;
	assert_int_equal(ask(1, &msg, &reply), 0);
	assert_true(reply.reply.attr.ino == ino);
	return reply.reply.attr;
}

#define RW_ALONE CSV_LOCK_SHARE_MODE(CSV_LOCK_READ | CSV_LOCK_WRITE, CSV_LOCK_READ)
#define RW_SHARED CSV_LOCK_SHARE_MODE(CSV_LOCK_READ | CSV_LOCK_WRITE, CSV_LOCK_ALL)

struct open {
	uint32_t node;
	uint64_t handle;
	uint32_t share;
	uint32_t flags;
};

static int open_file(const struct open *o, const struct csv_attr *attr, struct csv_msg *reply)
{
	struct csv_msg msg = {
		.type = CSV_MSG_OPEN,
		.open = {attr->ino, attr->generation, o->handle, o->share, o->flags},
	};

	return ask(o->node, &msg, reply);
}

static int layout(const struct open *o, uint64_t number, uint64_t mib, struct csv_msg *reply)
{
	struct csv_msg msg = {
		.type = CSV_MSG_LAYOUT,
		.layout = {o->handle, number, 0, mib * MIB, 1, o->flags},
	};

	return ask(o->node, &msg, reply);
}

static int number(uint32_t node, enum csv_msg_type type, uint64_t n)
{
	struct csv_msg msg = {.type = type, .number = n};

	return ask(node, &msg, NULL);
}

static struct csv_msg truncate_msg(const struct csv_attr *attr, uint64_t handle)
{
	return (struct csv_msg){
		.type = CSV_MSG_OP,
		.op = {.op = CSV_OP_TRUNCATE,
	               .ino = attr->ino,
	               .generation = attr->generation,
	               .handle = handle,
	               .now_ns = 1},
	};
}

static void who_is_not_a_member_is_not_welcome(void **state)
{
	(void)state;
	begin(NULL, 0);
	assert_int_equal(csv_coord_state(w.c, NULL), CSV_COORD_ACTIVE);
	assert_int_equal(hello(1, 10), -EACCES);
	assert_int_equal(hello(3, 1), -EACCES);
	assert_int_equal(hello(1, 11), 0);
	w.members.fenced[1] = 11;
	csv_coord_set_members(w.c, &w.members, w.now);
	assert_int_equal(hello(1, 11), -ESTALE);

	struct csv_msg msg = {.type = CSV_MSG_PING};

	assert_int_equal(send(1, &msg), -EPROTO);
	assert_int_equal(send(2, &msg), -EPROTO);
	msg = (struct csv_msg){.type = CSV_MSG_HELLO, .hello = {{{1}}, 12, 2, 1, 1}};
	assert_int_equal(send(2, &msg), 0);
	assert_int_equal(heard(2)->status, -ENXIO);
	msg = (struct csv_msg){.type = CSV_MSG_HELLO, .hello = {w.super.volume, 12, 2, 2, 3}};
	assert_int_equal(send(2, &msg), 0);
	assert_int_equal(heard(2)->status, -EPROTONOSUPPORT);
	assert_int_equal(hello(2, 12), 0);
	assert_int_equal(number(2, CSV_MSG_PING, 0), 0);
}

static void a_file_is_opened_grown_written_and_cut(void **state)
{
	const struct open one = {1, 5, RW_ALONE, 0};
	const struct open grow = {1, 5, 0, CSV_MSG_WRITE | CSV_MSG_ALLOCATE};
	struct csv_msg reply = {0};

	(void)state;
	begin(NULL, 0);
	assert_int_equal(hello(1, 11), 0);

	struct csv_attr attr = create("disk");

	assert_int_equal(layout(&grow, 1, 4, &reply), -EBADF);
	assert_int_equal(open_file(&one, &attr, &reply), 0);
	assert_true(reply.reply.attr.ino == attr.ino);
	assert_int_equal(open_file(&one, &attr, &reply), 0); /* again */
	assert_int_equal(layout(&grow, 1, 4, &reply), 0);

	const struct csv_layout_lease *l = &reply.reply.lease;

	assert_true(l->extents_count >= 1 && l->extents[0].unwritten && l->write);
	assert_true(l->to_bytes == 4 * MIB && l->ino == attr.ino && l->term == w.term);
	assert_int_equal(layout(&grow, 1, 4, &reply), 0); /* again */
	assert_int_equal(layout(&grow, 1, 5, &reply), -EEXIST);

	struct csv_msg convert = {
		.type = CSV_MSG_OP,
		.op = {.op = CSV_OP_CONVERT,
	               .ino = attr.ino,
	               .generation = attr.generation,
	               .handle = 5,
	               .block = 16,
	               .count = 16,
	               .size_bytes = 32 * CSV_BLOCK_BYTES,
	               .now_ns = 2},
	};

	assert_int_equal(ask(1, &convert, &reply), 0);
	assert_true(reply.reply.count == 16 && reply.reply.attr.size_bytes == 32 * 4096);
	convert.op.block = 4 * MIB / CSV_BLOCK_BYTES - 1; /* beyond the lease */
	assert_int_equal(ask(1, &convert, &reply), -ENXIO);

	/* It waits for its own lease. */
	struct csv_msg cut = truncate_msg(&attr, 5);

	assert_int_equal(ask(1, &cut, &reply), -EINPROGRESS);

	const struct csv_msg *said = heard(1);

	assert_int_equal(said->type, CSV_MSG_NOTICE);
	assert_int_equal(said->event.what, CSV_MSG_A_LEASE);
	assert_true(said->event.number == 1);
	assert_int_equal(number(1, CSV_MSG_RETURN, 1), 0);
	said = heard(1);
	assert_true(said->type == CSV_MSG_REPLY && said->request == cut.request);
	assert_int_equal(said->status, 0);
	assert_int_equal(number(1, CSV_MSG_CLOSE, 5), 0);
	assert_int_equal(number(1, CSV_MSG_CLOSE, 5), 0);
	assert_int_equal(ask(1, &cut, &reply), -EBADF);

	struct csv_coord_stats stats;

	csv_coord_get_stats(w.c, &stats);
	assert_int_equal(stats.handles, 0);
	assert_int_equal(stats.leases, 0);
	assert_int_equal(stats.under_way, 0);
}

/* Of @node: a redirected request as csv_coord_may_io() sees it. */
static int may_io(uint32_t node, enum csv_msg_type type, const struct csv_msg_io *io)
{
	struct csv_msg msg = {.type = type, .term = w.term, .request = 1, .io = *io};

	return csv_coord_may_io(w.c, node, &msg);
}

static void redirected_requests_are_judged_by_run_lease_and_token(void **state)
{
	const struct open one = {1, 5, RW_ALONE, 0};
	const struct open grow = {1, 5, 0, CSV_MSG_WRITE | CSV_MSG_ALLOCATE};
	const struct open reader = {2, 7, CSV_LOCK_SHARE_MODE(CSV_LOCK_READ, CSV_LOCK_ALL), 0};
	const struct open look = {2, 7, 0, 0};
	struct csv_msg reply = {0};
	struct csv_attr attr;
	struct csv_msg_io io;
	struct csv_msg token;

	(void)state;
	begin(NULL, 0);
	assert_int_equal(hello(1, 11), 0);
	attr = create("disk");
	io = (struct csv_msg_io){.handle = 5, .lease = 1, .ino = attr.ino, .length_bytes = 4096};
	assert_int_equal(may_io(1, CSV_MSG_WRITE_DATA, &io), -ESTALE); /* no such lease */
	assert_int_equal(may_io(2, CSV_MSG_WRITE_DATA, &io), -EPROTO); /* no hello */
	assert_int_equal(open_file(&one, &attr, &reply), 0);
	assert_int_equal(layout(&grow, 1, 4, &reply), 0);
	assert_int_equal(may_io(1, CSV_MSG_WRITE_DATA, &io), 0);
	assert_int_equal(may_io(1, CSV_MSG_READ, &io), 0);
	assert_int_equal(may_io(1, CSV_MSG_FLUSH, &(struct csv_msg_io){.handle = 5}), 0);
	io.handle = 6;
	assert_int_equal(may_io(1, CSV_MSG_WRITE_DATA, &io), -EBADF);
	io.handle = 5;
	io.ino++;
	assert_int_equal(may_io(1, CSV_MSG_WRITE_DATA, &io), -EBADF);
	io.ino--;
	w.term++;
	assert_int_equal(may_io(1, CSV_MSG_WRITE_DATA, &io), -ESTALE);
	w.term--;

	/* Another node's lease is not ours, and what is leased to be read is not written. */
	assert_int_equal(hello(2, 12), 0);
	assert_int_equal(may_io(2, CSV_MSG_READ, &io), -ESTALE);
	assert_int_equal(open_file(&reader, &attr, &reply), 0);
	assert_int_equal(layout(&look, 3, 4, &reply), 0);
	io.handle = 7;
	io.lease = 3;
	assert_int_equal(may_io(2, CSV_MSG_READ, &io), 0);
	assert_int_equal(may_io(2, CSV_MSG_WRITE_DATA, &io), -EACCES);

	/* The file has a greater token now: who shows the old one is late. */
	token = (struct csv_msg){
		.type = CSV_MSG_OP,
		.op = {.op = CSV_OP_SET_TOKEN,
	               .ino = attr.ino,
	               .generation = attr.generation,
	               .token = 9,
	               .now_ns = 1},
	};
	io.handle = 5;
	io.lease = 1;
	assert_int_equal(ask(2, &token, &reply), 0);
	assert_int_equal(may_io(1, CSV_MSG_WRITE_DATA, &io), -ESTALE);
	io.token = 9;
	assert_int_equal(may_io(1, CSV_MSG_WRITE_DATA, &io), 0);

	/* It is proven gone. */
	assert_int_equal(csv_coord_run(w.c, 1), 11);
	w.members.fenced[1] = 11;
	csv_coord_set_members(w.c, &w.members, w.now);
	assert_int_equal(csv_coord_run(w.c, 1), 0);
	assert_int_equal(may_io(1, CSV_MSG_WRITE_DATA, &io), -EPROTO);
	assert_int_equal(may_io(2, CSV_MSG_FLUSH, &(struct csv_msg_io){.handle = 7}), 0);
	csv_coord_hand_over(w.c, 2);
	assert_int_equal(may_io(2, CSV_MSG_FLUSH, &(struct csv_msg_io){.handle = 7}), -ESHUTDOWN);
}

static void share_modes_and_locks_keep_others_out(void **state)
{
	const struct open one = {1, 5, RW_ALONE, 0};
	const struct open two = {2, 6, RW_ALONE, 0};
	const struct open reader = {2, 7, CSV_LOCK_SHARE_MODE(CSV_LOCK_READ, CSV_LOCK_ALL), 0};
	const struct open write = {2, 7, 0, CSV_MSG_WRITE};
	struct csv_msg reply = {0};

	(void)state;
	begin(NULL, 0);
	assert_int_equal(hello(1, 11), 0);
	assert_int_equal(hello(2, 12), 0);

	struct csv_attr attr = create("disk");
	struct csv_msg lock = {
		.type = CSV_MSG_LOCK,
		.lock = {1, {attr.ino, 0}, 0, 100, CSV_LOCK_EX, CSV_LOCK_MODES, 0},
	};

	assert_int_equal(open_file(&one, &attr, &reply), 0);
	assert_int_equal(open_file(&two, &attr, &reply), -EBUSY);
	assert_int_equal(reply.reply.parts, CSV_MSG_CONFLICT);
	assert_true(reply.reply.conflict.id.owner.node == 1 && reply.reply.conflict.id.number == 5);
	assert_int_equal(open_file(&reader, &attr, &reply), 0);
	assert_int_equal(layout(&write, 1, 1, &reply), -EACCES);

	assert_int_equal(ask(1, &lock, NULL), 0);
	assert_int_equal(ask(2, &lock, NULL), -EINPROGRESS);

	uint64_t waits = lock.request;
	const struct csv_msg *said = heard(1);

	assert_true(said->type == CSV_MSG_NOTICE && said->event.what == CSV_MSG_A_LOCK);
	w.now += 6 * SEC;
	w.said_count = 0;
	csv_coord_tick(w.c, w.now);
	pump();
	said = heard(1);
	assert_true(said->type == CSV_MSG_REVOKE && said->event.number == 1);
	assert_null(heard(2));

	/* It does not answer: the cluster has to. */
	bool fence;

	assert_int_equal(csv_coord_waits_for(w.c, 1, &fence), 0);
	/* It could not be heard for so long. */
	csv_coord_postpone(w.c, 5 * SEC);
	w.now += 11 * SEC;
	csv_coord_tick(w.c, w.now);
	pump();
	assert_int_equal(csv_coord_waits_for(w.c, 1, &fence), 0);
	w.now += 5 * SEC;
	csv_coord_tick(w.c, w.now);
	pump();
	assert_int_equal(csv_coord_waits_for(w.c, 1, &fence), 11);
	assert_true(fence);
	assert_int_equal(csv_coord_waits_for(w.c, 2, &fence), 0);
	assert_false(fence);
	w.said_count = 0;
	w.members.fenced[1] = 11;
	csv_coord_set_members(w.c, &w.members, w.now);
	pump();
	assert_int_equal(csv_coord_waits_for(w.c, 1, &fence), 0);
	said = heard(2);
	assert_true(said->type == CSV_MSG_REPLY && said->request == waits && said->status == 0);
	assert_int_equal(open_file(&two, &attr, &reply), 0);
}

/* Late, but well: nobody has to be rid of it any more. */
static void who_gives_back_or_comes_back_is_waited_for_no_longer(void **state)
{
	const struct csv_lock_owner holders[] = {{1, 11}, {2, 12}, {3, 10}};
	const struct csv_msg lock = {
		.type = CSV_MSG_LOCK,
		.lock = {1, {7, 0}, 0, 100, CSV_LOCK_EX, CSV_LOCK_MODES, 0},
	};
	struct csv_msg m = lock;
	bool fence;

	(void)state;
	begin(holders, 3);
	assert_int_equal(hello(1, 11), 0);
	assert_int_equal(number(1, CSV_MSG_RECLAIMED, 0), 0);
	w.now += 4 * SEC;
	csv_coord_tick(w.c, w.now);
	assert_int_equal(csv_coord_waits_for(w.c, 3, &fence), 10);
	assert_true(fence); /* no member: nobody expects it back */
	w.members.fenced[3] = 10;
	csv_coord_set_members(w.c, &w.members, w.now);
	assert_int_equal(csv_coord_waits_for(w.c, 3, &fence), 0);
	w.now += 40 * SEC;
	csv_coord_tick(w.c, w.now);
	assert_int_equal(csv_coord_waits_for(w.c, 2, &fence), 12);
	assert_true(fence);
	assert_int_equal(hello(2, 12), 0);
	assert_int_equal(number(2, CSV_MSG_RECLAIMED, 0), 0);
	assert_int_equal(csv_coord_waits_for(w.c, 2, &fence), 0);
	assert_false(fence);
	assert_int_equal(csv_coord_state(w.c, NULL), CSV_COORD_ACTIVE);

	assert_int_equal(ask(1, &m, NULL), 0);
	m = lock;
	assert_int_equal(ask(2, &m, NULL), -EINPROGRESS);
	for (uint32_t i = 0; i < 3; i++) {
		w.now += 11 * SEC;
		csv_coord_tick(w.c, w.now);
		pump();
	}
	assert_int_equal(csv_coord_waits_for(w.c, 1, &fence), 11);
	assert_true(fence);
	assert_int_equal(number(1, CSV_MSG_UNLOCK, 1), 0);
	assert_int_equal(csv_coord_waits_for(w.c, 1, &fence), 0);
	assert_false(fence);
}

static void who_was_away_is_told_again(void **state)
{
	struct csv_msg lock = {
		.type = CSV_MSG_LOCK,
		.lock = {1, {7, 0}, 0, 100, CSV_LOCK_EX, CSV_LOCK_MODES, 0},
	};
	const struct csv_msg *said;

	(void)state;
	begin(NULL, 0);
	assert_int_equal(hello(1, 11), 0);
	assert_int_equal(hello(2, 12), 0);
	assert_int_equal(ask(1, &lock, NULL), 0);
	csv_coord_disconnected(w.c, 1);
	assert_int_equal(ask(2, &lock, NULL), -EINPROGRESS);
	assert_null(heard(1));
	assert_int_equal(hello(1, 11), 0);
	said = heard(1);
	assert_true(said->type == CSV_MSG_NOTICE && said->event.number == 1);
	csv_coord_disconnected(w.c, 1);
	w.now += 6 * SEC;
	csv_coord_tick(w.c, w.now);
	pump();
	assert_int_equal(hello(1, 11), 0);
	said = heard(1);
	assert_true(said->type == CSV_MSG_REVOKE && said->event.number == 1);
	assert_int_equal(number(1, CSV_MSG_UNLOCK, 1), 0);
	said = heard(2);
	assert_true(said->type == CSV_MSG_REPLY && said->status == 0);
}

static void one_node_gets_half_of_all(void **state)
{
	struct csv_msg reply = {0};
	struct open o = {1, 1, CSV_LOCK_SHARE_MODE(CSV_LOCK_READ, CSV_LOCK_ALL), 0};

	(void)state;
	begin(NULL, 0);
	assert_int_equal(hello(1, 11), 0);
	assert_int_equal(hello(2, 12), 0);

	struct csv_attr attr = create("disk");

	while (open_file(&o, &attr, &reply) == 0) {
		o.handle++;
	}
	assert_int_equal(reply.status, -EMFILE);
	assert_true(o.handle == 1 + 16 / 2);
	o.node = 2;
	assert_int_equal(open_file(&o, &attr, &reply), 0);
}

static void after_a_change_what_was_held_is_claimed_again(void **state)
{
	const struct csv_lock_owner holders[] = {{1, 11}, {2, 12}};
	const struct open one = {1, 5, RW_SHARED, 0};
	const struct open grow = {1, 5, 0, CSV_MSG_WRITE | CSV_MSG_ALLOCATE};
	const struct open again = {1, 5, RW_SHARED, CSV_MSG_RECLAIM};
	const struct open lease_again = {1, 5, 0, CSV_MSG_RECLAIM | CSV_MSG_WRITE};
	const struct open other = {2, 6, RW_ALONE, CSV_MSG_RECLAIM};
	const struct open new = {2, 6, RW_SHARED, 0};
	bool fence;
	struct csv_msg reply = {0};

	(void)state;
	begin(NULL, 0);
	assert_int_equal(hello(1, 11), 0);

	struct csv_attr attr = create("disk");

	assert_int_equal(open_file(&one, &attr, &reply), 0);
	assert_int_equal(layout(&grow, 1, 2, &reply), 0);

	uint64_t device = reply.reply.lease.extents[0].device_bytes;
	struct csv_msg unlink = {
		.type = CSV_MSG_OP,
		.op = {.op = CSV_OP_UNLINK,
	               .dir = w.root,
	               .name = "disk",
	               .name_len = 4,
	               .now_ns = 3},
	};

	assert_int_equal(ask(1, &unlink, NULL), 0);
	sim_disk_crash(w.disk, false);
	csv_coord_destroy(w.c);
	begin(holders, 2);
	assert_int_equal(csv_coord_state(w.c, NULL), CSV_COORD_GRACE);
	assert_int_equal(hello(1, 11), 0);
	assert_int_equal(hello(2, 12), 0);
	w.request--;
	assert_int_equal(ask(1, &unlink, NULL), 0); /* it had no reply */
	assert_int_equal(open_file(&again, &attr, &reply), 0);
	assert_int_equal(layout(&lease_again, 1, 2, &reply), 0);
	assert_true(reply.reply.lease.extents[0].device_bytes == device);
	assert_int_equal(open_file(&other, &attr, &reply), -EBUSY);
	assert_int_equal(open_file(&new, &attr, &reply), -EAGAIN);

	struct csv_msg cut = truncate_msg(&attr, 5);

	assert_int_equal(ask(1, &cut, &reply), -EAGAIN);
	assert_int_equal(number(1, CSV_MSG_RECLAIMED, 0), 0);
	assert_int_equal(csv_coord_state(w.c, NULL), CSV_COORD_GRACE);

	/* Node 2 is silent. */
	w.now += 4 * SEC;
	assert_true(csv_coord_next_ns(w.c) < w.now);
	csv_coord_tick(w.c, w.now);
	assert_int_equal(csv_coord_waits_for(w.c, 2, &fence), 12);
	assert_false(fence); /* it is a member, and has some time */
	assert_int_equal(csv_coord_waits_for(w.c, 1, &fence), 0);
	w.now += 27 * SEC;
	assert_true(csv_coord_next_ns(w.c) < w.now);
	csv_coord_tick(w.c, w.now);
	assert_int_equal(csv_coord_waits_for(w.c, 2, &fence), 12);
	assert_true(fence);
	assert_int_equal(csv_coord_next_ns(w.c), UINT64_MAX);
	assert_int_equal(csv_coord_state(w.c, NULL), CSV_COORD_GRACE);
	w.members.fenced[2] = 12;
	w.members.run[2] = 13;
	csv_coord_set_members(w.c, &w.members, w.now);
	assert_int_equal(csv_coord_state(w.c, NULL), CSV_COORD_ACTIVE);
	assert_int_equal(hello(2, 13), 0);
	assert_int_equal(open_file(&other, &attr, &reply), -EPERM);
	assert_int_equal(open_file(&new, &attr, &reply), 0);

	/* Both close: the nameless file is freed. */
	assert_int_equal(number(1, CSV_MSG_CLOSE, 5), 0);
	assert_int_equal(number(2, CSV_MSG_CLOSE, 6), 0);
	assert_int_equal(open_file(&new, &attr, &reply), -ESTALE);
}

static void a_planned_move_closes_the_volume(void **state)
{
	struct csv_msg msg = {.type = CSV_MSG_PING};

	(void)state;
	begin(NULL, 0);
	assert_int_equal(hello(1, 11), 0);
	(void)create("disk");
	w.said_count = 0;
	csv_coord_hand_over(w.c, 2);
	pump();
	assert_int_equal(csv_coord_state(w.c, NULL), CSV_COORD_CLOSED);

	const struct csv_msg *said = heard(1);

	assert_true(said->type == CSV_MSG_MOVED && said->event.mode == 2);
	assert_int_equal(ask(1, &msg, NULL), -EINPROGRESS);
	csv_coord_destroy(w.c);
	begin(NULL, 0);
	assert_int_equal(csv_coord_state(w.c, NULL), CSV_COORD_ACTIVE);

	struct csv_meta_stats stats;

	csv_meta_get_stats(csv_coord_meta(w.c), &stats);
	assert_int_equal(stats.replayed_txns, 0);
	assert_string_equal(csv_coord_state_name(CSV_COORD_GRACE), "grace");
}

static void names_are_listed_and_figures_told(void **state)
{
	struct csv_msg list = {.type = CSV_MSG_OP, .op = {.op = CSV_OP_LIST}};
	struct csv_msg figures = {.type = CSV_MSG_OP, .op = {.op = CSV_OP_STATFS}};
	struct csv_msg reply = {0};
	struct csv_name name;
	uint32_t offset = 0;
	uint32_t count = 0;

	(void)state;
	begin(NULL, 0);
	assert_int_equal(hello(1, 11), 0);
	(void)create("a");
	(void)create("b");
	list.op.dir = w.root;
	assert_int_equal(ask(1, &list, &reply), 0);
	while (csv_msg_name(&reply.reply, &offset, &name)) {
		assert_int_equal(name.len, 1);
		count++;
	}
	assert_int_equal(count, 2);
	list.op.cookie = reply.reply.count;
	assert_int_equal(ask(1, &list, &reply), 0);
	assert_int_equal(reply.reply.names_count, 0);
	assert_int_equal(ask(1, &figures, &reply), 0);
	assert_int_equal(reply.reply.stat.files, 2);
}

static void who_floods_has_to_wait(void **state)
{
	struct csv_msg msg = {.type = CSV_MSG_PING};
	uint32_t said = 0;
	uint32_t node;
	int err = 0;

	(void)state;
	begin(NULL, 0);
	assert_int_equal(hello(1, 11), 0);
	msg.term = w.term;
	for (msg.request = 1; err == 0 && msg.request < 10000; msg.request++) {
		err = csv_coord_receive(w.c, 1, &msg, w.now);
	}
	assert_int_equal(err, -EAGAIN);
	while (csv_coord_next_message(w.c, &node) != NULL) {
		said++;
	}
	assert_int_equal(said, msg.request - 2); /* all but the refused one */
	assert_int_equal(number(1, CSV_MSG_PING, 0), 0);
}

static void creation_survives_every_failed_allocation(void **state)
{
	const struct csv_lock_owner wrong = {64, 1};
	struct csv_coord_cfg cfg = {.super = &w.super,
	                            .term = 2,
	                            .quiet = true,
	                            .members = &w.members,
	                            .locks_max = 16};
	uint32_t k;

	(void)state;
	for (k = 1; fault_arm(FAULT_ALLOC, k), csv_coord_create(&cfg, 0, &w.c, NULL) == -ENOMEM;
	     k++) {
		assert_null(w.c);
	}
	fault_arm(FAULT_ALLOC, 0);
	assert_true(k > 10);
	csv_coord_destroy(w.c);
	cfg.holders = &wrong;
	cfg.holders_count = 1;
	assert_int_equal(csv_coord_create(&cfg, 0, &w.c, NULL), -EINVAL);
	cfg.holders_count = CSV_COORD_HOLDERS_MAX + 1;
	assert_int_equal(csv_coord_create(&cfg, 0, &w.c, NULL), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(who_is_not_a_member_is_not_welcome, setup,
	                                        teardown),
		cmocka_unit_test_setup_teardown(a_file_is_opened_grown_written_and_cut, setup,
	                                        teardown),
		cmocka_unit_test_setup_teardown(
			redirected_requests_are_judged_by_run_lease_and_token, setup, teardown),
		cmocka_unit_test_setup_teardown(share_modes_and_locks_keep_others_out, setup,
	                                        teardown),
		cmocka_unit_test_setup_teardown(
			who_gives_back_or_comes_back_is_waited_for_no_longer, setup, teardown),
		cmocka_unit_test_setup_teardown(who_was_away_is_told_again, setup, teardown),
		cmocka_unit_test_setup_teardown(one_node_gets_half_of_all, setup, teardown),
		cmocka_unit_test_setup_teardown(after_a_change_what_was_held_is_claimed_again,
	                                        setup, teardown),
		cmocka_unit_test_setup_teardown(a_planned_move_closes_the_volume, setup, teardown),
		cmocka_unit_test_setup_teardown(names_are_listed_and_figures_told, setup, teardown),
		cmocka_unit_test_setup_teardown(who_floods_has_to_wait, setup, teardown),
		cmocka_unit_test_setup_teardown(creation_survives_every_failed_allocation, setup,
	                                        teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
