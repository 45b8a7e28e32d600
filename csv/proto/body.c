/* SPDX-License-Identifier: Apache-2.0 */

/* body - requests and events, type by type. Replies: reply.c. */
#include <errno.h>
#include <string.h>

#include "base/errbuf.h"
#include "csv/format/csv_format.h"
#include "csv/proto/proto_int.h"

/* What an operation uses; the rest is 0. */
enum {
	USE_INO = 1,
	USE_DIR = 2, /* and a name */
	USE_DIR2 = 4,
	USE_HANDLE = 8,
	USE_RANGE = 0x10, /* block, count */
	USE_COUNT = 0x20,
	USE_SIZE = 0x40,
	USE_TOKEN = 0x80,
	USE_COOKIE = 0x100,
	USE_MODIFIED = 0x200, /* and mask */
	USE_NOW = 0x400,
	USE_MODE = 0x800,  /* and ids */
	USE_LIST = 0x1000, /* a directory without a name */
};

/* Numbers of operations as they are sent. A number keeps its meaning. */
static const struct {
	uint16_t number;
	enum csv_op_type op;
	uint32_t uses;
} ops[] = {
	{1, CSV_OP_LOOKUP, USE_DIR},
	{2, CSV_OP_GETATTR, USE_INO},
	{3, CSV_OP_SETATTR, USE_INO | USE_MODIFIED | USE_MODE | USE_NOW},
	{4, CSV_OP_CREATE, USE_DIR | USE_MODE | USE_NOW},
	{5, CSV_OP_MKDIR, USE_DIR | USE_MODE | USE_NOW},
	{6, CSV_OP_UNLINK, USE_DIR | USE_NOW},
	{7, CSV_OP_RMDIR, USE_DIR | USE_NOW},
	{8, CSV_OP_RENAME, USE_DIR | USE_DIR2 | USE_NOW},
	{9, CSV_OP_LIST, USE_LIST | USE_COOKIE},
	{10, CSV_OP_CONVERT, USE_INO | USE_HANDLE | USE_RANGE | USE_SIZE | USE_NOW},
	{11, CSV_OP_PUNCH, USE_INO | USE_HANDLE | USE_RANGE | USE_NOW},
	{12, CSV_OP_TRUNCATE, USE_INO | USE_HANDLE | USE_SIZE | USE_NOW},
	{13, CSV_OP_RESERVE, USE_INO | USE_HANDLE | USE_COUNT | USE_NOW},
	{14, CSV_OP_SET_TOKEN, USE_INO | USE_TOKEN | USE_NOW},
	{15, CSV_OP_STATFS, 0},
};

static int wrong(const struct csv_msg *msg, struct errbuf *eb, const char *what)
{
	return errbuf_set(eb, -EPROTO, "%s: %s", csv_msg_type_name(msg->type), what);
}

static void put_hello(const struct csv_msg *msg, struct csv_msg_out *out)
{
	const struct csv_msg_hello *h = &msg->hello;
	struct csv_msg_hello_wire w = {
		.incarnation = le64_make(h->incarnation),
		.acked = le64_make(msg->acked),
		.node = le32_make(h->node),
		.version_min = le16_make(h->version_min),
		.version_max = le16_make(h->version_max),
	};

	memcpy(w.volume, h->volume.b, sizeof(w.volume));
	csv_msg_put(out, &w, sizeof(w));
}

static int take_hello(struct csv_msg_in *in, struct csv_msg *msg, struct errbuf *eb)
{
	const struct csv_msg_hello_wire *w = csv_msg_take(in, sizeof(*w));
	struct csv_msg_hello *h = &msg->hello;

	if (w == NULL) {
		return wrong(msg, eb, "cut short");
	}
	memcpy(h->volume.b, w->volume, sizeof(w->volume));
	h->incarnation = le64_get(w->incarnation);
	msg->acked = le64_get(w->acked);
	h->node = le32_get(w->node);
	h->version_min = le16_get(w->version_min);
	h->version_max = le16_get(w->version_max);
	if (h->node >= CSV_MSG_NODES || h->incarnation == 0 || h->version_min > h->version_max) {
		return wrong(msg, eb, "node, incarnation or versions out of range");
	}
	return 0;
}

static void put_welcome(const struct csv_msg *msg, struct csv_msg_out *out)
{
	const struct csv_msg_welcome *h = &msg->welcome;
	const struct csv_msg_welcome_wire w = {
		.flags = le32_make(h->flags),
		.window = le32_make(h->window),
		.version = le16_make(h->version),
		.node = le32_make(h->node),
	};

	csv_msg_put(out, &w, sizeof(w));
}

static int take_welcome(struct csv_msg_in *in, struct csv_msg *msg, struct errbuf *eb)
{
	const struct csv_msg_welcome_wire *w = csv_msg_take(in, sizeof(*w));
	struct csv_msg_welcome *h = &msg->welcome;

	if (w == NULL) {
		return wrong(msg, eb, "cut short");
	}
	h->flags = le32_get(w->flags);
	h->window = le32_get(w->window);
	h->version = le16_get(w->version);
	h->node = le32_get(w->node);
	if ((h->flags & ~CSV_MSG_GRACE) != 0 || le16_get(w->zero) != 0 || h->window == 0 ||
	    h->node >= CSV_MSG_NODES) {
		return wrong(msg, eb, "flags, window or node out of range");
	}
	return 0;
}

static void put_op(const struct csv_msg *msg, struct csv_msg_out *out)
{
	const struct csv_msg_op *o = &msg->op;
	uint16_t number = 0;

	for (uint32_t i = 0; i < ARRAY_LEN(ops); i++) {
		number = ops[i].op == o->op ? ops[i].number : number;
	}

	const struct csv_msg_op_wire w = {
		.op = le16_make(number),
		.flags = le16_make((uint16_t)o->flags),
		.mask = le32_make(o->mask),
		.acked = le64_make(msg->acked),
		.ino = le64_make(o->ino),
		.generation = le64_make(o->generation),
		.dir = le64_make(o->dir),
		.dir2 = le64_make(o->dir2),
		.handle = le64_make(o->handle),
		.block = le64_make(o->block),
		.count = le64_make(o->count),
		.size_bytes = le64_make(o->size_bytes),
		.token = le64_make(o->token),
		.cookie = le64_make(o->cookie),
		.modified_ns = le64_make(o->modified_ns),
		.now_ns = le64_make(o->now_ns),
		.mode = le32_make(o->mode),
		.uid = le32_make(o->uid),
		.gid = le32_make(o->gid),
		.name_len = le16_make((uint16_t)o->name_len),
		.name2_len = le16_make((uint16_t)o->name2_len),
	};

	csv_msg_put(out, &w, sizeof(w));
	csv_msg_put(out, o->name, o->name_len);
	csv_msg_put(out, o->name2, o->name2_len);
}

static void op_fields(const struct csv_msg_op_wire *w, struct csv_msg_op *o)
{
	o->flags = le16_get(w->flags);
	o->mask = le32_get(w->mask);
	o->ino = le64_get(w->ino);
	o->generation = le64_get(w->generation);
	o->dir = le64_get(w->dir);
	o->dir2 = le64_get(w->dir2);
	o->handle = le64_get(w->handle);
	o->block = le64_get(w->block);
	o->count = le64_get(w->count);
	o->size_bytes = le64_get(w->size_bytes);
	o->token = le64_get(w->token);
	o->cookie = le64_get(w->cookie);
	o->modified_ns = le64_get(w->modified_ns);
	o->now_ns = le64_get(w->now_ns);
	o->mode = le32_get(w->mode);
	o->uid = le32_get(w->uid);
	o->gid = le32_get(w->gid);
	o->name_len = le16_get(w->name_len);
	o->name2_len = le16_get(w->name2_len);
}

/* Is a field 0, or one that the operation uses? */
static bool only_uses(const struct csv_msg_op *o, uint32_t uses)
{
	const struct {
		uint64_t value;
		uint32_t use;
	} fields[] = {
		{o->ino | o->generation, USE_INO},
		{o->dir, USE_DIR | USE_LIST},
		{o->name_len, USE_DIR},
		{o->dir2 | o->name2_len | o->flags, USE_DIR2},
		{o->handle, USE_HANDLE},
		{o->block, USE_RANGE},
		{o->count, USE_RANGE | USE_COUNT},
		{o->size_bytes, USE_SIZE},
		{o->token, USE_TOKEN},
		{o->cookie, USE_COOKIE},
		{o->modified_ns | o->mask, USE_MODIFIED},
		{o->now_ns, USE_NOW},
		{o->mode | o->uid | o->gid, USE_MODE},
	};

	for (uint32_t i = 0; i < ARRAY_LEN(fields); i++) {
		if (fields[i].value != 0 && (fields[i].use & uses) == 0) {
			return false;
		}
	}
	return (o->flags & ~CSV_MSG_NO_REPLACE) == 0 && (o->mask & ~0xfu) == 0 &&
	       (o->mode & ~07777u) == 0;
}

static int take_op(struct csv_msg_in *in, struct csv_msg *msg, struct errbuf *eb)
{
	const struct csv_msg_op_wire *w = csv_msg_take(in, sizeof(*w));
	struct csv_msg_op *o = &msg->op;
	uint32_t i = 0;

	if (w == NULL) {
		return wrong(msg, eb, "cut short");
	}
	while (i < ARRAY_LEN(ops) && ops[i].number != le16_get(w->op)) {
		i++;
	}
	if (i == ARRAY_LEN(ops)) {
		return wrong(msg, eb, "no such operation");
	}
	o->op = ops[i].op;
	op_fields(w, o);
	msg->acked = le64_get(w->acked);
	if (!only_uses(o, ops[i].uses)) {
		return wrong(msg, eb, "says more than its operation takes");
	}
	o->name = csv_msg_take(in, o->name_len);
	o->name2 = csv_msg_take(in, o->name2_len);
	if (o->name == NULL || o->name2 == NULL) {
		return wrong(msg, eb, "its names are cut short");
	}
	if (((ops[i].uses & USE_DIR) != 0 && csv_name_check(o->name, o->name_len) != 0) ||
	    ((ops[i].uses & USE_DIR2) != 0 && csv_name_check(o->name2, o->name2_len) != 0)) {
		return wrong(msg, eb, "a name that no file can have");
	}
	return 0;
}

static void put_open(const struct csv_msg *msg, struct csv_msg_out *out)
{
	const struct csv_msg_open *o = &msg->open;
	const struct csv_msg_open_wire w = {
		.acked = le64_make(msg->acked),
		.ino = le64_make(o->ino),
		.generation = le64_make(o->generation),
		.handle = le64_make(o->handle),
		.share = le32_make(o->share),
		.flags = le32_make(o->flags),
	};

	csv_msg_put(out, &w, sizeof(w));
}

static int take_open(struct csv_msg_in *in, struct csv_msg *msg, struct errbuf *eb)
{
	const struct csv_msg_open_wire *w = csv_msg_take(in, sizeof(*w));
	struct csv_msg_open *o = &msg->open;

	if (w == NULL) {
		return wrong(msg, eb, "cut short");
	}
	msg->acked = le64_get(w->acked);
	o->ino = le64_get(w->ino);
	o->generation = le64_get(w->generation);
	o->handle = le64_get(w->handle);
	o->share = le32_get(w->share);
	o->flags = le32_get(w->flags);
	if (o->handle == 0 || (o->share & ~0x77u) != 0 || (o->flags & ~CSV_MSG_RECLAIM) != 0) {
		return wrong(msg, eb, "handle, share mode or flags out of range");
	}
	return 0;
}

static void put_number(const struct csv_msg *msg, struct csv_msg_out *out)
{
	const struct csv_msg_number_wire w = {
		.acked = le64_make(msg->acked),
		.number = le64_make(msg->number),
	};

	csv_msg_put(out, &w, sizeof(w));
}

static int take_number(struct csv_msg_in *in, struct csv_msg *msg, struct errbuf *eb)
{
	const struct csv_msg_number_wire *w = csv_msg_take(in, sizeof(*w));
	bool named = msg->type != CSV_MSG_RECLAIMED && msg->type != CSV_MSG_BYE &&
	             msg->type != CSV_MSG_PING;

	if (w == NULL) {
		return wrong(msg, eb, "cut short");
	}
	msg->acked = le64_get(w->acked);
	msg->number = le64_get(w->number);
	if ((msg->number != 0) != named) {
		return wrong(msg, eb, "number out of range");
	}
	return 0;
}

static void put_layout(const struct csv_msg *msg, struct csv_msg_out *out)
{
	const struct csv_msg_layout *o = &msg->layout;
	const struct csv_msg_layout_wire w = {
		.acked = le64_make(msg->acked),
		.handle = le64_make(o->handle),
		.number = le64_make(o->number),
		.from_bytes = le64_make(o->from_bytes),
		.to_bytes = le64_make(o->to_bytes),
		.now_ns = le64_make(o->now_ns),
		.flags = le32_make(o->flags),
	};

	csv_msg_put(out, &w, sizeof(w));
}

static int take_layout(struct csv_msg_in *in, struct csv_msg *msg, struct errbuf *eb)
{
	const struct csv_msg_layout_wire *w = csv_msg_take(in, sizeof(*w));
	const uint32_t known = CSV_MSG_RECLAIM | CSV_MSG_WRITE | CSV_MSG_ALLOCATE;
	struct csv_msg_layout *o = &msg->layout;

	if (w == NULL) {
		return wrong(msg, eb, "cut short");
	}
	msg->acked = le64_get(w->acked);
	o->handle = le64_get(w->handle);
	o->number = le64_get(w->number);
	o->from_bytes = le64_get(w->from_bytes);
	o->to_bytes = le64_get(w->to_bytes);
	o->now_ns = le64_get(w->now_ns);
	o->flags = le32_get(w->flags);
	if (o->handle == 0 || o->number == 0 || o->from_bytes >= o->to_bytes ||
	    (o->from_bytes | o->to_bytes) % CSV_BLOCK_BYTES != 0 ||
	    o->to_bytes > CSV_FILE_BLOCKS_MAX * CSV_BLOCK_BYTES || (o->flags & ~known) != 0 ||
	    le32_get(w->zero) != 0) {
		return wrong(msg, eb, "handle, number, range or flags out of range");
	}
	return 0;
}

static void put_lock(const struct csv_msg *msg, struct csv_msg_out *out)
{
	const struct csv_msg_lock *o = &msg->lock;
	const struct csv_msg_lock_wire w = {
		.acked = le64_make(msg->acked),
		.number = le64_make(o->number),
		.object = le64_make(o->name.object),
		.space = le64_make(o->name.space),
		.from = le64_make(o->from),
		.to = le64_make(o->to),
		.mode = le32_make(o->mode),
		.class = le16_make((uint16_t)o->class),
		.flags = le16_make((uint16_t)o->flags),
	};

	csv_msg_put(out, &w, sizeof(w));
}

static int take_lock(struct csv_msg_in *in, struct csv_msg *msg, struct errbuf *eb)
{
	const struct csv_msg_lock_wire *w = csv_msg_take(in, sizeof(*w));
	const uint32_t known = CSV_MSG_RECLAIM | CSV_MSG_TRY | CSV_MSG_CONVERT;
	struct csv_msg_lock *o = &msg->lock;

	if (w == NULL) {
		return wrong(msg, eb, "cut short");
	}
	msg->acked = le64_get(w->acked);
	o->number = le64_get(w->number);
	o->name.object = le64_get(w->object);
	o->name.space = le64_get(w->space);
	o->from = le64_get(w->from);
	o->to = le64_get(w->to);
	o->mode = le32_get(w->mode);
	o->flags = le16_get(w->flags);
	if (o->number == 0 || o->from >= o->to || (o->flags & ~known) != 0 ||
	    le16_get(w->class) > CSV_LOCK_SHARES ||
	    (o->mode & (le16_get(w->class) == CSV_LOCK_SHARES ? ~0x77u : ~7u)) != 0) {
		return wrong(msg, eb, "number, range, mode or flags out of range");
	}
	o->class = (enum csv_lock_class)le16_get(w->class);
	return 0;
}

static void put_io(const struct csv_msg *msg, struct csv_msg_out *out)
{
	const struct csv_msg_io *o = &msg->io;
	const struct csv_msg_io_wire w = {
		.acked = le64_make(msg->acked),
		.handle = le64_make(o->handle),
		.lease = le64_make(o->lease),
		.ino = le64_make(o->ino),
		.token = le64_make(o->token),
		.device_bytes = le64_make(o->device_bytes),
		.length = le32_make(o->length_bytes),
	};

	csv_msg_put(out, &w, sizeof(w));
	csv_msg_put(out, msg->data, msg->data_bytes);
}

static int take_io(struct csv_msg_in *in, struct csv_msg *msg, struct errbuf *eb)
{
	const struct csv_msg_io_wire *w = csv_msg_take(in, sizeof(*w));
	bool flush = msg->type == CSV_MSG_FLUSH;
	struct csv_msg_io *o = &msg->io;

	if (w == NULL) {
		return wrong(msg, eb, "cut short");
	}
	msg->acked = le64_get(w->acked);
	o->handle = le64_get(w->handle);
	o->lease = le64_get(w->lease);
	o->ino = le64_get(w->ino);
	o->token = le64_get(w->token);
	o->device_bytes = le64_get(w->device_bytes);
	o->length_bytes = le32_get(w->length);
	if (o->handle == 0 || le32_get(w->zero) != 0 || (o->lease != 0) == flush ||
	    (o->length_bytes != 0) == flush || (flush && o->device_bytes != 0) ||
	    o->length_bytes > CSV_MSG_DATA_MAX ||
	    (o->length_bytes | o->device_bytes) % CSV_BLOCK_BYTES != 0 ||
	    o->device_bytes > UINT64_MAX - o->length_bytes) {
		return wrong(msg, eb, "handle, place or length out of range");
	}
	if (msg->type == CSV_MSG_WRITE_DATA) {
		msg->data_bytes = o->length_bytes;
		msg->data = csv_msg_take(in, o->length_bytes);
		if (msg->data == NULL) {
			return wrong(msg, eb, "its data is cut short");
		}
	}
	return 0;
}

static void put_event(const struct csv_msg *msg, struct csv_msg_out *out)
{
	const struct csv_msg_event *o = &msg->event;
	const struct csv_msg_event_wire w = {
		.number = le64_make(o->number),
		.what = le16_make((uint16_t)o->what),
		.mode = le32_make(o->mode),
	};

	csv_msg_put(out, &w, sizeof(w));
}

static int take_event(struct csv_msg_in *in, struct csv_msg *msg, struct errbuf *eb)
{
	const struct csv_msg_event_wire *w = csv_msg_take(in, sizeof(*w));
	bool moved = msg->type == CSV_MSG_MOVED;
	struct csv_msg_event *o = &msg->event;

	if (w == NULL) {
		return wrong(msg, eb, "cut short");
	}

	uint32_t what = le16_get(w->what);

	o->number = le64_get(w->number);
	o->mode = le32_get(w->mode);
	if (le16_get(w->zero) != 0 || (o->number == 0) != moved || (what == 0) != moved ||
	    what > CSV_MSG_A_LEASE || (moved && o->mode >= CSV_MSG_NODES) ||
	    (o->mode & ~0x77u) != 0 || (msg->type == CSV_MSG_REVOKE && o->mode != 0)) {
		return wrong(msg, eb, "says nothing that there is");
	}
	o->what = (enum csv_msg_what)what;
	return 0;
}

static const struct {
	void (*put)(const struct csv_msg *msg, struct csv_msg_out *out);
	int (*take)(struct csv_msg_in *in, struct csv_msg *msg, struct errbuf *eb);
} bodies[] = {
	[CSV_MSG_HELLO] = {put_hello, take_hello},
	[CSV_MSG_WELCOME] = {put_welcome, take_welcome},
	[CSV_MSG_OP] = {put_op, take_op},
	[CSV_MSG_OPEN] = {put_open, take_open},
	[CSV_MSG_CLOSE] = {put_number, take_number},
	[CSV_MSG_LAYOUT] = {put_layout, take_layout},
	[CSV_MSG_RETURN] = {put_number, take_number},
	[CSV_MSG_LOCK] = {put_lock, take_lock},
	[CSV_MSG_UNLOCK] = {put_number, take_number},
	[CSV_MSG_CANCEL] = {put_number, take_number},
	[CSV_MSG_RECLAIMED] = {put_number, take_number},
	[CSV_MSG_BYE] = {put_number, take_number},
	[CSV_MSG_REPLY] = {csv_msg_reply_encode, csv_msg_reply_decode},
	[CSV_MSG_NOTICE] = {put_event, take_event},
	[CSV_MSG_REVOKE] = {put_event, take_event},
	[CSV_MSG_MOVED] = {put_event, take_event},
	[CSV_MSG_READ] = {put_io, take_io},
	[CSV_MSG_WRITE_DATA] = {put_io, take_io},
	[CSV_MSG_FLUSH] = {put_io, take_io},
	[CSV_MSG_PING] = {put_number, take_number},
};

void csv_msg_body_encode(const struct csv_msg *msg, struct csv_msg_out *out)
{
	bodies[msg->type].put(msg, out);
}

int csv_msg_body_decode(struct csv_msg_in *in, struct csv_msg *msg, struct errbuf *eb)
{
	return bodies[msg->type].take(in, msg, eb);
}
