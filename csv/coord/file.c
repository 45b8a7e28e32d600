/* SPDX-License-Identifier: Apache-2.0 */

/*
 * file - opens and layout leases. An open is a lock by share mode on the file and an open in
 * csv_meta, which keeps the inode when its name goes. A lease is a lock on a range of the file:
 * CR reads, CW writes, and who frees blocks takes EX. Which nodes write at the same time is decided
 * by the opens, not here.
 */
#include <errno.h>

#include "base/check.h"
#include "csv/coord/coord_int.h"

static struct handle *find_handle(const struct csv_coord *c, const struct csv_lock_owner *owner,
                                  uint64_t number)
{
	for (uint32_t i = 0; i < c->handles_max; i++) {
		struct handle *h = &c->handles[i];

		if (h->used && !h->closing && h->number == number && coord_same(&h->owner, owner)) {
			return h;
		}
	}
	return NULL;
}

static struct lease *find_lease(const struct csv_coord *c, const struct csv_lock_owner *owner,
                                uint64_t number)
{
	for (uint32_t i = 0; i < c->leases_max; i++) {
		struct lease *l = &c->leases[i];

		if (l->used && l->number == number && coord_same(&l->owner, owner)) {
			return l;
		}
	}
	return NULL;
}

static void drop_lock(struct csv_coord *c, const struct csv_lock_id *id)
{
	int err = csv_lock_release(c->lock, id, c->now_ns);

	CHECK(err == 0 || err == -ENOENT);
}

static void drop_lease(struct csv_coord *c, struct lease *l)
{
	const struct csv_lock_id id = lock_id(&l->owner, KIND_LEASE, l->number);

	l->used = false;
	c->stats.leases--;
	drop_lock(c, &id);
	op_drop_layout(c, &l->owner, l->number);
}

static void drop_handle(struct csv_coord *c, struct handle *h)
{
	const struct csv_lock_id id = lock_id(&h->owner, KIND_HANDLE, h->number);

	for (uint32_t i = 0; i < c->leases_max; i++) {
		struct lease *l = &c->leases[i];

		if (l->used && l->handle == h->number && coord_same(&l->owner, &h->owner)) {
			drop_lease(c, l);
		}
	}
	h->closing = true;
	c->handles_closing = true;
	drop_lock(c, &id);
}

/* One node may not have more than half of what there is. */
static bool too_many(uint32_t count, uint32_t max)
{
	return count >= max / 2;
}

static bool has_too_many_handles(const struct csv_coord *c, const struct csv_lock_owner *owner)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < c->handles_max; i++) {
		count += c->handles[i].used && coord_same(&c->handles[i].owner, owner);
	}
	return too_many(count, c->handles_max);
}

static bool has_too_many_leases(const struct csv_coord *c, const struct csv_lock_owner *owner)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < c->leases_max; i++) {
		count += c->leases[i].used && coord_same(&c->leases[i].owner, owner);
	}
	return too_many(count, c->leases_max);
}

static struct handle *new_handle(struct csv_coord *c, const struct csv_lock_owner *owner,
                                 const struct csv_msg_open *m)
{
	if (has_too_many_handles(c, owner)) {
		return NULL;
	}
	for (uint32_t i = 0; i < c->handles_max; i++) {
		struct handle *h = &c->handles[i];

		if (!h->used) {
			*h = (struct handle){
				.used = true,
				.owner = *owner,
				.number = m->handle,
				.ino = m->ino,
				.generation = m->generation,
				.share = m->share,
			};
			c->stats.handles++;
			return h;
		}
	}
	return NULL;
}

static void free_handle(struct csv_coord *c, struct handle *h)
{
	h->used = false;
	c->stats.handles--;
}

/* The share mode of a new open. */
static int share(struct csv_coord *c, const struct handle *h, bool reclaim,
                 struct csv_lock_conflict *conflict)
{
	const struct csv_lock_req req = {
		.id = lock_id(&h->owner, KIND_HANDLE, h->number),
		.name = {h->ino, h->generation << 2 | KIND_HANDLE},
		.class = CSV_LOCK_SHARES,
		.mode = h->share,
		.to = CSV_LOCK_END,
		.try_only = true,
		.reclaim = reclaim,
	};

	return csv_lock_request(c->lock, &req, c->now_ns, conflict);
}

static int begin_open(struct csv_coord *c, struct request *r, const struct csv_msg_open *m,
                      struct csv_lock_conflict *conflict)
{
	struct handle *h = find_handle(c, &r->owner, m->handle);

	r->lease = m->handle;
	r->op.ino = m->ino;
	r->op.generation = m->generation;
	if (h != NULL) {
		if (h->ino != m->ino || h->generation != m->generation || h->share != m->share) {
			return -EEXIST;
		}
		r->type = CSV_MSG_OP; /* asked again: only say what it is */
		r->op.type = CSV_OP_GETATTR;
		return h->opened ? 0 : -EAGAIN;
	}
	h = new_handle(c, &r->owner, m);
	if (h == NULL) {
		return -EMFILE;
	}

	int err = share(c, h, (m->flags & CSV_MSG_RECLAIM) != 0, conflict);

	if (err != 0) {
		free_handle(c, h);
		return err;
	}
	h->busy = true;
	r->op.type = CSV_OP_OPEN;
	return 0;
}

void file_open(struct csv_coord *c, const struct csv_lock_owner *owner, const struct csv_msg *msg)
{
	const struct csv_msg_open *m = &msg->open;
	struct csv_lock_conflict conflict = {0};
	struct request *r = op_new(c, owner, msg);

	if (r == NULL) {
		return;
	}

	int err = m->handle >> 62 != 0 || m->generation == 0 || m->generation >> 62 != 0
	                  ? -EINVAL
	                  : begin_open(c, r, m, &conflict);

	c->stats.refused_grace += err == -EAGAIN;
	if (err == 0) {
		op_submit(c, r);
		return;
	}
	op_free(c, r);

	struct csv_msg *reply = session_reply(c, owner, msg->request, err);

	if (reply != NULL && err == -EBUSY) {
		conflict.id.number >>= 2;
		reply->reply.parts = CSV_MSG_CONFLICT;
		reply->reply.conflict = conflict;
	}
}

/* The handle that an open or a close in csv_meta is for, whether its owner still has it or not. */
static struct handle *busy_handle(const struct csv_coord *c, const struct request *r)
{
	for (uint32_t i = 0; i < c->handles_max; i++) {
		struct handle *h = &c->handles[i];

		if (h->used && h->busy && h->number == r->lease &&
		    coord_same(&h->owner, &r->owner)) {
			return h;
		}
	}
	return NULL;
}

void file_opened(struct csv_coord *c, struct request *r)
{
	struct handle *h = busy_handle(c, r);

	CHECK(h != NULL);
	h->busy = false;
	h->opened = r->op.result == 0;
	if (h->closing) {
		c->handles_closing = true;
		return;
	}
	if (!h->opened) {
		const struct csv_lock_id id = lock_id(&h->owner, KIND_HANDLE, h->number);

		drop_lock(c, &id);
		free_handle(c, h);
	}

	struct csv_msg *reply = session_reply(c, &r->owner, r->number, r->op.result);

	if (reply != NULL && r->op.result == 0) {
		reply->reply.parts = CSV_MSG_ATTR;
		reply->reply.attr = r->op.attr;
	}
}

void file_close(struct csv_coord *c, const struct csv_lock_owner *owner, const struct csv_msg *msg)
{
	struct handle *h = find_handle(c, owner, msg->number);

	if (h != NULL) {
		drop_handle(c, h);
	}
	(void)session_reply(c, owner, msg->request, 0);
}

/* Close one in csv_meta that nobody has any more. Returns false if there is nothing to do, or no
 * room for it now. */
bool file_close_some(struct csv_coord *c)
{
	for (uint32_t i = 0; c->handles_closing && i < c->handles_max; i++) {
		struct handle *h = &c->handles[i];

		if (!h->used || !h->closing || h->busy) {
			continue;
		}
		if (!h->opened) {
			free_handle(c, h);
			return true;
		}

		struct request *r = op_slot(c);

		if (r == NULL) {
			return false;
		}
		h->busy = true;
		r->type = CSV_MSG_CLOSE;
		r->owner = h->owner;
		r->number = 0;
		r->lease = h->number;
		r->op.type = CSV_OP_CLOSE;
		r->op.ino = h->ino;
		op_submit(c, r);
		return true;
	}
	c->handles_closing = false;
	return false;
}

void file_closed(struct csv_coord *c, struct request *r)
{
	struct handle *h = busy_handle(c, r);

	CHECK(h != NULL);
	free_handle(c, h);
}

/* The handle is there, its owner was not told to drop it, and it may do that. */
static int usable(const struct csv_coord *c, const struct csv_lock_owner *owner, uint64_t number,
                  struct handle **out)
{
	const struct csv_lock_id id = lock_id(owner, KIND_HANDLE, number);
	struct csv_lock_info info;

	*out = find_handle(c, owner, number);
	if (*out == NULL || !(*out)->opened || csv_lock_find(c->lock, &id, &info) != 0) {
		return -EBADF;
	}
	return info.state == CSV_LOCK_REVOKED ? -ESTALE : 0;
}

static bool writes(const struct handle *h)
{
	return (h->share & CSV_LOCK_WRITE) != 0;
}

/* Is the range under one lease that may be written? */
static bool covered(const struct csv_coord *c, const struct handle *h, const struct csv_msg_op *op)
{
	for (uint32_t i = 0; i < c->leases_max; i++) {
		const struct lease *l = &c->leases[i];

		if (l->used && l->write && l->handle == h->number &&
		    coord_same(&l->owner, &h->owner) &&
		    l->from_bytes / CSV_BLOCK_BYTES <= op->block &&
		    l->to_bytes / CSV_BLOCK_BYTES >= op->block + op->count) {
			return true;
		}
	}
	return false;
}

/* May this be done under this handle? */
int file_may(struct csv_coord *c, const struct csv_lock_owner *owner, const struct csv_msg_op *op)
{
	struct handle *h;
	int err = usable(c, owner, op->handle, &h);

	if (err != 0) {
		return err;
	}
	if (h->ino != op->ino || h->generation != op->generation) {
		return -EBADF;
	}
	if (!writes(h)) {
		return -EACCES;
	}
	return op->op == CSV_OP_CONVERT && !covered(c, h, op) ? -ENXIO : 0;
}

static struct lease *new_lease(struct csv_coord *c, const struct handle *h,
                               const struct csv_msg_layout *m)
{
	if (has_too_many_leases(c, &h->owner)) {
		return NULL;
	}
	for (uint32_t i = 0; i < c->leases_max; i++) {
		struct lease *l = &c->leases[i];

		if (!l->used) {
			*l = (struct lease){
				.used = true,
				.owner = h->owner,
				.number = m->number,
				.handle = h->number,
				.ino = h->ino,
				.generation = h->generation,
				.from_bytes = m->from_bytes,
				.to_bytes = m->to_bytes,
				.write = (m->flags & CSV_MSG_WRITE) != 0,
			};
			c->stats.leases++;
			return l;
		}
	}
	return NULL;
}

void file_layout_granted(struct csv_coord *c, struct request *r)
{
	r->op.type = (r->flags & CSV_MSG_ALLOCATE) != 0 ? CSV_OP_EXTEND : CSV_OP_MAP;
	r->op.block = r->from_bytes / CSV_BLOCK_BYTES;
	r->op.count = (r->to_bytes - r->from_bytes) / CSV_BLOCK_BYTES;
	r->op.extents_max = CSV_LAYOUT_EXTENTS_MAX;
	op_submit(c, r);
}

static int lease_lock(struct csv_coord *c, const struct lease *l, bool reclaim)
{
	const struct csv_lock_req req = {
		.id = lock_id(&l->owner, KIND_LEASE, l->number),
		.name = {l->ino, l->generation << 2 | KIND_LEASE},
		.class = CSV_LOCK_MODES,
		.mode = l->write ? CSV_LOCK_CW : CSV_LOCK_CR,
		.from = l->from_bytes,
		.to = l->to_bytes,
		.reclaim = reclaim,
	};

	return csv_lock_request(c->lock, &req, c->now_ns, NULL);
}

static int begin_layout(struct csv_coord *c, struct request *r, const struct csv_msg_layout *m)
{
	struct handle *h;
	int err = usable(c, &r->owner, m->handle, &h);

	if (err != 0) {
		return err;
	}
	if (m->number >> 62 != 0 ||
	    ((m->flags & CSV_MSG_ALLOCATE) != 0 && (m->flags & CSV_MSG_WRITE) == 0)) {
		return -EINVAL;
	}
	if ((m->flags & CSV_MSG_WRITE) != 0 ? !writes(h) : (h->share & CSV_LOCK_ALL) == 0) {
		return -EACCES;
	}
	r->op.ino = h->ino;
	r->op.generation = h->generation;

	struct lease *l = find_lease(c, &r->owner, m->number);

	if (l != NULL) {
		return l->handle == m->handle && l->from_bytes == m->from_bytes &&
		                       l->to_bytes == m->to_bytes &&
		                       l->write == ((m->flags & CSV_MSG_WRITE) != 0)
		               ? 0
		               : -EEXIST;
	}
	l = new_lease(c, h, m);
	if (l == NULL) {
		return -ENOSPC;
	}
	err = lease_lock(c, l, (m->flags & CSV_MSG_RECLAIM) != 0);
	if (err != 0 && err != -EINPROGRESS) {
		l->used = false;
		c->stats.leases--;
	}
	return err;
}

void file_layout(struct csv_coord *c, const struct csv_lock_owner *owner, const struct csv_msg *msg)
{
	const struct csv_msg_layout *m = &msg->layout;
	struct request *r = op_new(c, owner, msg);

	if (r == NULL) {
		return;
	}
	r->lease = m->number;
	r->from_bytes = m->from_bytes;
	r->to_bytes = m->to_bytes;
	r->op.now_ns = m->now_ns;
	/* What is claimed again is as it was: nothing is allocated for it. */
	r->flags = (m->flags & CSV_MSG_RECLAIM) != 0 ? m->flags & ~CSV_MSG_ALLOCATE : m->flags;

	int err = begin_layout(c, r, m);

	c->stats.refused_grace += err == -EAGAIN;
	if (err == 0) {
		file_layout_granted(c, r);
	} else if (err == -EINPROGRESS) {
		r->stage = STAGE_LOCK;
	} else {
		(void)session_reply(c, owner, msg->request, err);
		op_free(c, r);
	}
}

/* What csv_meta said, cut to what was asked for. */
static void extents_of(const struct request *r, struct csv_layout_lease *out)
{
	const struct csv_op *op = &r->op;

	out->to_bytes = r->to_bytes;
	if (op->type == CSV_OP_EXTEND) {
		out->to_bytes = r->from_bytes + op->count * CSV_BLOCK_BYTES;
	}
	if (op->extents_count == CSV_LAYOUT_EXTENTS_MAX) {
		const struct csv_extent *e = &op->extents[op->extents_count - 1];
		uint64_t end = (e->file_block + e->count) * CSV_BLOCK_BYTES;

		out->to_bytes = end < out->to_bytes ? end : out->to_bytes;
	}
	for (uint32_t i = 0; i < op->extents_count; i++) {
		const struct csv_extent *e = &op->extents[i];
		uint64_t at = e->file_block * CSV_BLOCK_BYTES;
		uint64_t end = at + (uint64_t)e->count * CSV_BLOCK_BYTES;
		uint64_t from = at > r->from_bytes ? at : r->from_bytes;
		uint64_t to = end < out->to_bytes ? end : out->to_bytes;

		if (from < to) {
			out->extents[out->extents_count++] = (struct csv_layout_extent){
				.file_bytes = from,
				.device_bytes = e->disk_block * CSV_BLOCK_BYTES + (from - at),
				.length_bytes = to - from,
				.unwritten = e->unwritten,
			};
		}
	}
}

void file_layout_done(struct csv_coord *c, struct request *r)
{
	struct lease *l = find_lease(c, &r->owner, r->lease);
	int err = r->op.result;

	if (l == NULL) {
		return; /* its owner is gone, or it was returned meanwhile */
	}
	if (err == 0 && r->op.type == CSV_OP_EXTEND && r->op.count == 0) {
		err = -ENOSPC;
	}
	if (err != 0) {
		drop_lease(c, l);
	}

	struct csv_msg *reply = session_reply(c, &r->owner, r->number, err);

	if (reply == NULL || err != 0) {
		return;
	}

	struct csv_layout_lease *out = &reply->reply.lease;

	out->ino = l->ino;
	out->generation = l->generation;
	out->handle = l->handle;
	out->number = l->number;
	out->token = r->op.attr.token;
	l->token = l->token > out->token ? l->token : out->token;
	out->from_bytes = r->from_bytes;
	out->write = l->write;
	extents_of(r, out);
	reply->reply.parts = CSV_MSG_ATTR | CSV_MSG_LEASE;
	reply->reply.attr = r->op.attr;
}

/* A file has a greater token: what was leased under others is not used through us any more. */
void file_token(struct csv_coord *c, const struct csv_attr *attr)
{
	for (uint32_t i = 0; i < c->leases_max; i++) {
		struct lease *l = &c->leases[i];

		if (l->used && l->ino == attr->ino && l->generation == attr->generation &&
		    l->token < attr->token) {
			l->token = attr->token;
		}
	}
}

uint64_t csv_coord_run(const struct csv_coord *c, uint32_t node)
{
	CHECK(node < CSV_MSG_NODES);
	return c->sessions[node].connected ? c->sessions[node].incarnation : 0;
}

int csv_coord_may_io(const struct csv_coord *c, uint32_t node, const struct csv_msg *msg)
{
	const struct csv_lock_owner owner = {node, csv_coord_run(c, node)};
	const struct lease *l;

	if (owner.incarnation == 0) {
		return -EPROTO;
	}
	if (c->state != CSV_COORD_GRACE && c->state != CSV_COORD_ACTIVE) {
		return -ESHUTDOWN;
	}
	if (msg->term != c->term || owner.incarnation <= c->members.fenced[node]) {
		return -ESTALE;
	}
	if (msg->type == CSV_MSG_FLUSH) {
		return 0; /* makes durable what is there, whoever wrote it */
	}
	l = find_lease(c, &owner, msg->io.lease);
	if (l == NULL || msg->io.token < l->token) {
		return -ESTALE;
	}
	if (l->handle != msg->io.handle || l->ino != msg->io.ino) {
		return -EBADF;
	}
	return msg->type == CSV_MSG_WRITE_DATA && !l->write ? -EACCES : 0;
}

void file_return(struct csv_coord *c, const struct csv_lock_owner *owner, const struct csv_msg *msg)
{
	struct lease *l = find_lease(c, owner, msg->number);

	if (l != NULL) {
		drop_lease(c, l);
	}
	(void)session_reply(c, owner, msg->request, 0);
}

/* The locks of @owner are purged by the caller. */
void file_purge(struct csv_coord *c, const struct csv_lock_owner *owner)
{
	for (uint32_t i = 0; i < c->leases_max; i++) {
		struct lease *l = &c->leases[i];

		if (l->used && l->owner.node == owner->node &&
		    l->owner.incarnation <= owner->incarnation) {
			l->used = false;
			c->stats.leases--;
		}
	}
	for (uint32_t i = 0; i < c->handles_max; i++) {
		struct handle *h = &c->handles[i];

		if (h->used && h->owner.node == owner->node &&
		    h->owner.incarnation <= owner->incarnation) {
			h->closing = true;
			c->handles_closing = true;
		}
	}
}
