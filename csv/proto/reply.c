/* SPDX-License-Identifier: Apache-2.0 */

/* reply - the parts of a reply, in the order of their bits. */
#include <errno.h>
#include <string.h>

#include "base/errbuf.h"
#include "csv/format/csv_format.h"
#include "csv/proto/proto_int.h"

static int wrong(struct errbuf *eb, const char *what)
{
	return errbuf_set(eb, -EPROTO, "reply: %s", what);
}

static void put_attr(const struct csv_msg *msg, struct csv_msg_out *out)
{
	const struct csv_attr *a = &msg->reply.attr;
	const struct csv_msg_attr_wire w = {
		.ino = le64_make(a->ino),
		.generation = le64_make(a->generation),
		.parent = le64_make(a->parent),
		.size_bytes = le64_make(a->size_bytes),
		.token = le64_make(a->token),
		.created_ns = le64_make(a->created_ns),
		.modified_ns = le64_make(a->modified_ns),
		.changed_ns = le64_make(a->changed_ns),
		.units = le64_make(a->units),
		.reserved_units = le64_make(a->reserved_units),
		.entries = le64_make(a->entries),
		.kind = le32_make((uint32_t)a->kind),
		.mode = le32_make(a->mode),
		.uid = le32_make(a->uid),
		.gid = le32_make(a->gid),
		.links = le32_make(a->links),
	};

	csv_msg_put(out, &w, sizeof(w));
}

static bool kind_valid(uint32_t kind)
{
	return kind == CSV_KIND_FILE || kind == CSV_KIND_DIR;
}

static int take_attr(struct csv_msg_in *in, struct csv_msg *msg, struct errbuf *eb)
{
	const struct csv_msg_attr_wire *w = csv_msg_take(in, sizeof(*w));

	if (w == NULL || !kind_valid(le32_get(w->kind)) || le32_get(w->zero) != 0 ||
	    le32_get(w->mode) > 07777u) {
		return wrong(eb, "attributes that no inode has");
	}
	msg->reply.attr = (struct csv_attr){
		.ino = le64_get(w->ino),
		.generation = le64_get(w->generation),
		.parent = le64_get(w->parent),
		.kind = (enum csv_kind)le32_get(w->kind),
		.mode = le32_get(w->mode),
		.uid = le32_get(w->uid),
		.gid = le32_get(w->gid),
		.links = le32_get(w->links),
		.size_bytes = le64_get(w->size_bytes),
		.token = le64_get(w->token),
		.created_ns = le64_get(w->created_ns),
		.modified_ns = le64_get(w->modified_ns),
		.changed_ns = le64_get(w->changed_ns),
		.units = le64_get(w->units),
		.reserved_units = le64_get(w->reserved_units),
		.entries = le64_get(w->entries),
	};
	return 0;
}

static void put_stat(const struct csv_msg *msg, struct csv_msg_out *out)
{
	const struct csv_stat *s = &msg->reply.stat;
	const struct csv_msg_stat_wire w = {
		.units = le64_make(s->units),
		.free_units = le64_make(s->free_units),
		.reserved_units = le64_make(s->reserved_units),
		.pool_blocks = le64_make(s->pool_blocks),
		.pool_free = le64_make(s->pool_free),
		.files = le64_make(s->files),
		.directories = le64_make(s->directories),
		.pending = le64_make(s->pending),
	};

	csv_msg_put(out, &w, sizeof(w));
}

static int take_stat(struct csv_msg_in *in, struct csv_msg *msg, struct errbuf *eb)
{
	const struct csv_msg_stat_wire *w = csv_msg_take(in, sizeof(*w));

	if (w == NULL) {
		return wrong(eb, "figures cut short");
	}
	msg->reply.stat = (struct csv_stat){
		.units = le64_get(w->units),
		.free_units = le64_get(w->free_units),
		.reserved_units = le64_get(w->reserved_units),
		.pool_blocks = le64_get(w->pool_blocks),
		.pool_free = le64_get(w->pool_free),
		.files = le64_get(w->files),
		.directories = le64_get(w->directories),
		.pending = le64_get(w->pending),
	};
	return 0;
}

static void put_conflict(const struct csv_msg *msg, struct csv_msg_out *out)
{
	const struct csv_lock_conflict *c = &msg->reply.conflict;
	const struct csv_msg_conflict_wire w = {
		.incarnation = le64_make(c->id.owner.incarnation),
		.number = le64_make(c->id.number),
		.node = le32_make(c->id.owner.node),
		.mode = le32_make(c->mode),
		.waiting = le32_make(c->waiting),
	};

	csv_msg_put(out, &w, sizeof(w));
}

static int take_conflict(struct csv_msg_in *in, struct csv_msg *msg, struct errbuf *eb)
{
	const struct csv_msg_conflict_wire *w = csv_msg_take(in, sizeof(*w));
	struct csv_lock_conflict *c = &msg->reply.conflict;

	if (w == NULL || le32_get(w->node) >= CSV_MSG_NODES || le32_get(w->waiting) > 1 ||
	    (le32_get(w->mode) & ~0x77u) != 0 || le32_get(w->zero) != 0) {
		return wrong(eb, "a conflict with nobody");
	}
	c->id.owner.incarnation = le64_get(w->incarnation);
	c->id.owner.node = le32_get(w->node);
	c->id.number = le64_get(w->number);
	c->mode = le32_get(w->mode);
	c->waiting = le32_get(w->waiting) != 0;
	return 0;
}

static void put_lease(const struct csv_msg *msg, struct csv_msg_out *out)
{
	const struct csv_layout_lease *l = &msg->reply.lease;
	const struct csv_msg_lease_wire w = {
		.ino = le64_make(l->ino),
		.generation = le64_make(l->generation),
		.handle = le64_make(l->handle),
		.number = le64_make(l->number),
		.token = le64_make(l->token),
		.from_bytes = le64_make(l->from_bytes),
		.to_bytes = le64_make(l->to_bytes),
		.flags = le32_make(l->write ? CSV_MSG_WRITE : 0),
		.extents = le32_make(l->extents_count),
	};

	csv_msg_put(out, &w, sizeof(w));
	for (uint32_t i = 0; i < l->extents_count; i++) {
		const struct csv_layout_extent *e = &l->extents[i];
		const struct csv_msg_extent_wire x = {
			.file_bytes = le64_make(e->file_bytes),
			.device_bytes = le64_make(e->device_bytes),
			.length_bytes = le64_make(e->length_bytes | e->unwritten),
		};

		csv_msg_put(out, &x, sizeof(x));
	}
}

static int take_lease(struct csv_msg_in *in, struct csv_msg *msg, struct errbuf *eb)
{
	const struct csv_msg_lease_wire *w = csv_msg_take(in, sizeof(*w));
	struct csv_layout_lease *l = &msg->reply.lease;

	if (w == NULL || le32_get(w->extents) > CSV_LAYOUT_EXTENTS_MAX ||
	    (le32_get(w->flags) & ~CSV_MSG_WRITE) != 0) {
		return wrong(eb, "a lease cut short");
	}
	l->term = msg->term;
	l->ino = le64_get(w->ino);
	l->generation = le64_get(w->generation);
	l->handle = le64_get(w->handle);
	l->number = le64_get(w->number);
	l->token = le64_get(w->token);
	l->from_bytes = le64_get(w->from_bytes);
	l->to_bytes = le64_get(w->to_bytes);
	l->write = le32_get(w->flags) != 0;
	l->extents_count = le32_get(w->extents);
	for (uint32_t i = 0; i < l->extents_count; i++) {
		const struct csv_msg_extent_wire *x = csv_msg_take(in, sizeof(*x));
		struct csv_layout_extent *e = &l->extents[i];

		if (x == NULL) {
			return wrong(eb, "a lease cut short");
		}
		e->file_bytes = le64_get(x->file_bytes);
		e->device_bytes = le64_get(x->device_bytes);
		e->length_bytes = le64_get(x->length_bytes) & ~1ull;
		e->unwritten = (le64_get(x->length_bytes) & 1) != 0;
	}
	return csv_layout_lease_valid(l) ? 0 : wrong(eb, "a lease of a wrong range");
}

static void put_names(const struct csv_msg *msg, struct csv_msg_out *out)
{
	const struct csv_msg_names_wire w = {
		.count = le32_make(msg->reply.names_count),
		.bytes = le32_make(msg->reply.names_bytes),
	};

	csv_msg_put(out, &w, sizeof(w));
	csv_msg_put(out, msg->reply.names, msg->reply.names_bytes);
}

/* One name; *in moves on. -EPROTO. */
static int take_name(struct csv_msg_in *in, struct csv_name *out)
{
	const struct csv_msg_name_wire *w = csv_msg_take(in, sizeof(*w));
	const char *text = w != NULL ? csv_msg_take(in, le16_get(w->len)) : NULL;

	if (text == NULL || csv_name_check(text, le16_get(w->len)) != 0 ||
	    !kind_valid(le16_get(w->kind))) {
		return -EPROTO;
	}
	out->cookie = le64_get(w->cookie);
	out->ino = le64_get(w->ino);
	out->generation = le64_get(w->generation);
	out->kind = (enum csv_kind)le16_get(w->kind);
	out->len = le16_get(w->len);
	memcpy(out->name, text, out->len);
	out->name[out->len] = '\0';
	return 0;
}

static int take_names(struct csv_msg_in *in, struct csv_msg *msg, struct errbuf *eb)
{
	const struct csv_msg_names_wire *w = csv_msg_take(in, sizeof(*w));
	struct csv_msg_reply *r = &msg->reply;
	struct csv_name name;

	if (w == NULL || le32_get(w->bytes) > CSV_MSG_NAMES_MAX) {
		return wrong(eb, "names cut short");
	}
	r->names_count = le32_get(w->count);
	r->names_bytes = le32_get(w->bytes);
	r->names = csv_msg_take(in, r->names_bytes);
	if (r->names == NULL) {
		return wrong(eb, "names cut short");
	}

	struct csv_msg_in each = {.at = r->names, .left = r->names_bytes};
	uint32_t count = 0;

	while (each.left != 0) {
		if (take_name(&each, &name) != 0) {
			return wrong(eb, "a name that no file can have");
		}
		count++;
	}
	return count == r->names_count ? 0 : wrong(eb, "another number of names");
}

bool csv_msg_name(const struct csv_msg_reply *reply, uint32_t *offset, struct csv_name *out)
{
	struct csv_msg_in in = {.at = reply->names, .left = reply->names_bytes};

	if (*offset >= reply->names_bytes || csv_msg_take(&in, *offset) == NULL ||
	    take_name(&in, out) != 0) {
		return false;
	}
	*offset = (uint32_t)(in.at - reply->names);
	return true;
}

int csv_msg_add_name(struct csv_msg_reply *reply, uint8_t *buf, size_t len,
                     const struct csv_name *name)
{
	size_t max = len < CSV_MSG_NAMES_MAX ? len : CSV_MSG_NAMES_MAX;
	const struct csv_msg_name_wire w = {
		.cookie = le64_make(name->cookie),
		.ino = le64_make(name->ino),
		.generation = le64_make(name->generation),
		.kind = le16_make((uint16_t)name->kind),
		.len = le16_make((uint16_t)name->len),
	};
	uint8_t *at = &buf[reply->names_bytes];
	struct csv_msg_out out = {.at = at, .left = max - reply->names_bytes};

	if (out.left < sizeof(w) + name->len) {
		return -ENOSPC;
	}
	csv_msg_put(&out, &w, sizeof(w));
	csv_msg_put(&out, name->name, name->len);
	reply->names = buf;
	reply->names_bytes = (uint32_t)(out.at - buf);
	reply->names_count++;
	return 0;
}

static void put_data(const struct csv_msg *msg, struct csv_msg_out *out)
{
	csv_msg_put(out, msg->data, msg->data_bytes);
}

/* It is all the rest. */
static int take_data(struct csv_msg_in *in, struct csv_msg *msg, struct errbuf *eb)
{
	if (in->left == 0 || in->left > CSV_MSG_DATA_MAX) {
		return wrong(eb, "too much data, or none");
	}
	msg->data_bytes = (uint32_t)in->left;
	msg->data = csv_msg_take(in, in->left);
	return 0;
}

static const struct {
	uint32_t part;
	void (*put)(const struct csv_msg *msg, struct csv_msg_out *out);
	int (*take)(struct csv_msg_in *in, struct csv_msg *msg, struct errbuf *eb);
} parts[] = {
	{CSV_MSG_ATTR, put_attr, take_attr},
	{CSV_MSG_STAT, put_stat, take_stat},
	{CSV_MSG_CONFLICT, put_conflict, take_conflict},
	{CSV_MSG_LEASE, put_lease, take_lease},
	{CSV_MSG_NAMES, put_names, take_names},
	{CSV_MSG_DATA, put_data, take_data},
};

void csv_msg_reply_encode(const struct csv_msg *msg, struct csv_msg_out *out)
{
	const struct csv_msg_reply_wire w = {
		.parts = le32_make(msg->reply.parts),
		.count = le64_make(msg->reply.count),
	};

	csv_msg_put(out, &w, sizeof(w));
	for (uint32_t i = 0; i < ARRAY_LEN(parts); i++) {
		if ((msg->reply.parts & parts[i].part) != 0) {
			parts[i].put(msg, out);
		}
	}
}

int csv_msg_reply_decode(struct csv_msg_in *in, struct csv_msg *msg, struct errbuf *eb)
{
	const struct csv_msg_reply_wire *w = csv_msg_take(in, sizeof(*w));
	int err = 0;

	if (w == NULL || (le32_get(w->parts) & ~CSV_MSG_PARTS) != 0 || le32_get(w->zero) != 0) {
		return wrong(eb, "parts that there are not");
	}
	msg->reply.parts = le32_get(w->parts);
	msg->reply.count = le64_get(w->count);
	for (uint32_t i = 0; err == 0 && i < ARRAY_LEN(parts); i++) {
		if ((msg->reply.parts & parts[i].part) != 0) {
			err = parts[i].take(in, msg, eb);
		}
	}
	return err;
}
