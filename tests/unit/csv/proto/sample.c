/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/csv/proto/sample.h"

#include <errno.h>
#include <string.h>

static uint8_t data[8192];
static uint8_t names[300];

static void lease(struct csv_layout_lease *l)
{
	*l = (struct csv_layout_lease){
		.term = 9,
		.ino = 4711,
		.generation = 12,
		.handle = 5,
		.number = 6,
		.token = 3,
		.to_bytes = 64 << 20,
		.write = true,
		.extents_count = 2,
		.extents = {{0, 100 << 20, 1 << 20, false}, {2 << 20, 300 << 20, 8 << 20, true}},
	};
}

static void reply_parts(struct csv_msg *m)
{
	struct csv_name name = {.cookie = 77, .ino = 4711, .generation = 12, .kind = CSV_KIND_FILE};
	struct csv_msg_reply *r = &m->reply;

	r->parts = CSV_MSG_PARTS;
	r->count = 256;
	r->attr = (struct csv_attr){
		.ino = 4711,
		.generation = 12,
		.parent = 4096,
		.kind = CSV_KIND_FILE,
		.mode = 0640,
		.uid = 1,
		.gid = 2,
		.links = 1,
		.size_bytes = 1 << 30,
		.token = 3,
		.created_ns = 10,
		.modified_ns = 11,
		.changed_ns = 12,
		.units = 1024,
		.reserved_units = 7,
	};
	r->stat = (struct csv_stat){1000, 500, 7, 4096, 4000, 20, 3, 1};
	r->conflict = (struct csv_lock_conflict){{{2, 44}, 8}, CSV_LOCK_PW, true};
	lease(&r->lease);
	memcpy(name.name, "disk.vhdx", 9);
	name.len = 9;
	(void)!csv_msg_add_name(r, names, sizeof(names), &name);
	name.name[0] = 'D';
	name.kind = CSV_KIND_DIR;
	(void)!csv_msg_add_name(r, names, sizeof(names), &name);
	memset(data, 0x5a, sizeof(data));
	m->data = data;
	m->data_bytes = 100;
}

static void number(struct csv_msg *m, enum csv_msg_type type, uint64_t n)
{
	m->type = type;
	m->acked = 40;
	m->number = n;
}

static void event(struct csv_msg *m, enum csv_msg_type type, const struct csv_msg_event *e)
{
	m->type = type;
	m->request = 0;
	m->event = *e;
}

static const char *first(uint32_t index, struct csv_msg *m)
{
	switch (index) {
	case 0:
		m->type = CSV_MSG_HELLO;
		m->request = 0;
		m->acked = 40;
		m->hello = (struct csv_msg_hello){{{1, 2, 3, 4}}, 77, 3, 1, 1};
		return "hello";
	case 1:
		m->type = CSV_MSG_WELCOME;
		m->request = 0;
		m->welcome = (struct csv_msg_welcome){CSV_MSG_GRACE, 64, 2, 1};
		return "welcome";
	case 2:
		m->type = CSV_MSG_WELCOME;
		m->request = 0;
		m->status = -ESTALE;
		return "refused";
	case 3:
		m->type = CSV_MSG_OP;
		m->op = (struct csv_msg_op){
			.op = CSV_OP_RENAME,
			.flags = CSV_MSG_NO_REPLACE,
			.dir = 4096,
			.dir2 = 4100,
			.now_ns = 1700000000000000000ull,
			.name = "disk.vhdx",
			.name_len = 9,
			.name2 = "old.vhdx",
			.name2_len = 8,
		};
		return "op-rename";
	case 4:
		m->type = CSV_MSG_OP;
		m->op = (struct csv_msg_op){
			.op = CSV_OP_CONVERT,
			.ino = 4711,
			.generation = 12,
			.handle = 5,
			.block = 1000,
			.count = 24,
			.size_bytes = 4194304,
			.now_ns = 5,
		};
		return "op-convert";
	case 5:
		m->type = CSV_MSG_OP;
		m->op = (struct csv_msg_op){
			.op = CSV_OP_SETATTR,
			.ino = 4711,
			.mask = CSV_SET_MODE | CSV_SET_MODIFIED,
			.mode = 0600,
			.modified_ns = 6,
			.now_ns = 7,
		};
		return "op-setattr";
	case 6:
		m->type = CSV_MSG_OPEN;
		m->open = (struct csv_msg_open){4711, 12, 5, 0x13, CSV_MSG_RECLAIM};
		return "open";
	case 7:
		number(m, CSV_MSG_CLOSE, 5);
		return "close";
	case 8:
		m->type = CSV_MSG_LAYOUT;
		m->layout = (struct csv_msg_layout){5,        6,  0,
		                                    64 << 20, 99, CSV_MSG_WRITE | CSV_MSG_ALLOCATE};
		return "layout";
	case 9:
		number(m, CSV_MSG_RETURN, 6);
		return "return";
	case 10:
		m->type = CSV_MSG_LOCK;
		m->lock = (struct csv_msg_lock){8,           {4711, 2},      100,        200,
		                                CSV_LOCK_PW, CSV_LOCK_MODES, CSV_MSG_TRY};
		return "lock";
	default:
		return NULL;
	}
}

static const char *second(uint32_t index, struct csv_msg *m)
{
	const struct csv_msg_event waited = {CSV_MSG_A_LOCK, 8, CSV_LOCK_EX};
	const struct csv_msg_event over = {CSV_MSG_A_HANDLE, 5, 0};
	const struct csv_msg_event moved = {0, 0, 3};

	switch (index) {
	case 11:
		number(m, CSV_MSG_UNLOCK, 8);
		return "unlock";
	case 12:
		number(m, CSV_MSG_CANCEL, 8);
		return "cancel";
	case 13:
		number(m, CSV_MSG_RECLAIMED, 0);
		return "reclaimed";
	case 14:
		number(m, CSV_MSG_BYE, 0);
		return "bye";
	case 15:
		m->type = CSV_MSG_REPLY;
		reply_parts(m);
		return "reply";
	case 16:
		m->type = CSV_MSG_REPLY;
		m->status = -ENOENT;
		return "reply-error";
	case 17:
		event(m, CSV_MSG_NOTICE, &waited);
		return "notice";
	case 18:
		event(m, CSV_MSG_REVOKE, &over);
		return "revoke";
	case 19:
		event(m, CSV_MSG_MOVED, &moved);
		return "moved";
	case 20:
		m->type = CSV_MSG_READ;
		m->io = (struct csv_msg_io){5, 6, 4711, 3, 300 << 20, 8192};
		return "read";
	case 21:
		m->type = CSV_MSG_WRITE_DATA;
		m->io = (struct csv_msg_io){5, 6, 4711, 3, 300 << 20, 4096};
		memset(data, 0xa5, sizeof(data));
		m->data = data;
		m->data_bytes = 4096;
		return "write";
	case 22:
		m->type = CSV_MSG_FLUSH;
		m->io = (struct csv_msg_io){.handle = 5, .ino = 4711, .token = 3};
		return "flush";
	case 23:
		number(m, CSV_MSG_PING, 0);
		return "ping";
	default:
		return NULL;
	}
}

const char *csv_proto_sample(uint32_t index, struct csv_msg *out)
{
	memset(out, 0, sizeof(*out));
	out->term = 9;
	out->request = 41;
	return index <= 10 ? first(index, out) : second(index, out);
}
