/* SPDX-License-Identifier: Apache-2.0 */

/*
 * op - requests that cannot be answered at once: those for csv_meta, and those which wait for
 * leases to come back before they may go there.
 */
#include <errno.h>
#include <string.h>

#include "base/check.h"
#include "csv/coord/coord_int.h"

/* A free one, or NULL. */
struct request *op_slot(struct csv_coord *c)
{
	for (uint32_t i = 0; i < REQUESTS; i++) {
		struct request *r = &c->requests[i];

		if (!r->used) {
			memset(&r->op, 0, sizeof(r->op));
			r->used = true;
			r->stage = STAGE_META;
			r->op.arg = r;
			r->op.extents = r->extents;
			r->op.names = r->names;
			c->stats.under_way++;
			return r;
		}
	}
	return NULL;
}

/* NULL: this request is under way already, or there is no room; both were dealt with. */
struct request *op_new(struct csv_coord *c, const struct csv_lock_owner *owner,
                       const struct csv_msg *msg)
{
	for (uint32_t i = 0; i < REQUESTS; i++) {
		const struct request *x = &c->requests[i];

		if (x->used && x->number == msg->request && coord_same(&x->owner, owner)) {
			return NULL; /* its reply will come */
		}
	}

	struct request *r = op_slot(c);

	if (r == NULL) {
		c->stats.full++;
		(void)session_reply(c, owner, msg->request, -EAGAIN);
		return NULL;
	}
	r->type = msg->type;
	r->owner = *owner;
	r->number = msg->request;
	return r;
}

void op_free(struct csv_coord *c, struct request *r)
{
	r->used = false;
	c->stats.under_way--;
}

void op_submit(struct csv_coord *c, struct request *r)
{
	r->stage = STAGE_META;
	csv_meta_submit(c->meta, &r->op);
}

bool op_idle(const struct csv_coord *c)
{
	return c->stats.under_way == 0;
}

static bool reads_only(enum csv_op_type op)
{
	return op == CSV_OP_LOOKUP || op == CSV_OP_GETATTR || op == CSV_OP_LIST ||
	       op == CSV_OP_STATFS;
}

static bool cuts(enum csv_op_type op)
{
	return op == CSV_OP_TRUNCATE || op == CSV_OP_PUNCH;
}

static void fill(struct request *r, const struct csv_msg *msg)
{
	const struct csv_msg_op *m = &msg->op;

	/* From inside the process there may be none at all. */
	if (m->name_len != 0) {
		memcpy(r->name, m->name, m->name_len);
	}
	if (m->name2_len != 0) {
		memcpy(r->name2, m->name2, m->name2_len);
	}
	r->op.type = m->op;
	r->op.ino = m->ino;
	r->op.generation = m->generation;
	r->op.dir = m->dir;
	r->op.name = r->name;
	r->op.name_len = m->name_len;
	r->op.dir2 = m->dir2;
	r->op.name2 = r->name2;
	r->op.name2_len = m->name2_len;
	r->op.no_replace = (m->flags & CSV_MSG_NO_REPLACE) != 0;
	r->op.mask = m->mask;
	r->op.mode = m->mode;
	r->op.uid = m->uid;
	r->op.gid = m->gid;
	r->op.modified_ns = m->modified_ns;
	r->op.now_ns = m->now_ns;
	r->op.block = m->block;
	r->op.count = m->count;
	r->op.size_bytes = m->size_bytes;
	r->op.token = m->token;
	r->op.cookie = m->cookie;
	r->op.names_max = m->op == CSV_OP_LIST ? NAMES : 0;
	if (!reads_only(m->op)) {
		r->op.client_node = r->owner.node;
		r->op.client_incarnation = r->owner.incarnation;
		r->op.client_request = r->number;
	}
}

/* No lease may be left on what is freed. Whole units go with a part of them. */
static void cut(struct csv_coord *c, struct request *r)
{
	struct csv_lock_req req = {
		.id = lock_cut_id(c, r),
		.name = {r->op.ino, r->op.generation << 2 | KIND_LEASE},
		.class = CSV_LOCK_MODES,
		.mode = CSV_LOCK_EX,
		.from = r->op.block * CSV_BLOCK_BYTES,
		.to = (r->op.block + r->op.count) * CSV_BLOCK_BYTES,
	};

	if (r->op.type == CSV_OP_TRUNCATE) {
		req.from = r->op.size_bytes / CSV_BLOCK_BYTES * CSV_BLOCK_BYTES;
		req.to = CSV_LOCK_END;
	}

	int err = csv_lock_request(c->lock, &req, c->now_ns, NULL);

	if (err == 0) {
		op_submit(c, r);
	} else if (err == -EINPROGRESS) {
		r->stage = STAGE_LOCK;
	} else {
		(void)session_reply(c, &r->owner, r->number, err);
		op_free(c, r);
	}
}

void op_ask(struct csv_coord *c, const struct csv_lock_owner *owner, const struct csv_msg *msg)
{
	const struct csv_msg_op *m = &msg->op;
	int err = m->handle != 0 || cuts(m->op) || m->op == CSV_OP_CONVERT ? file_may(c, owner, m)
	                                                                   : 0;

	if (err == 0 && cuts(m->op) && c->state == CSV_COORD_GRACE) {
		c->stats.refused_grace++;
		err = -EAGAIN;
	}
	if (err == 0 && (m->op == CSV_OP_PUNCH || m->op == CSV_OP_CONVERT) &&
	    (m->count == 0 || m->block > CSV_FILE_BLOCKS_MAX || m->count > CSV_FILE_BLOCKS_MAX)) {
		err = -EINVAL;
	}
	if (err != 0) {
		(void)session_reply(c, owner, msg->request, err);
		return;
	}

	struct request *r = op_new(c, owner, msg);

	if (r == NULL) {
		return;
	}
	fill(r, msg);
	if (cuts(m->op)) {
		cut(c, r);
	} else {
		op_submit(c, r);
	}
}

/* The lock that a request waited for. */
void op_granted(struct csv_coord *c, const struct csv_lock_id *id)
{
	for (uint32_t i = 0; i < REQUESTS; i++) {
		struct request *r = &c->requests[i];

		if (!r->used || r->stage != STAGE_LOCK) {
			continue;
		}
		if (id->owner.node == SELF) {
			if (id->number >> 2 == i + 1) {
				op_submit(c, r);
				return;
			}
		} else if (r->type == CSV_MSG_LAYOUT && r->lease == id->number >> 2 &&
		           coord_same(&r->owner, &id->owner)) {
			file_layout_granted(c, r);
			return;
		}
	}
}

static void reply_names(struct request *r, struct csv_msg *reply)
{
	reply->reply.parts |= CSV_MSG_NAMES;
	for (uint32_t i = 0; i < r->op.names_count; i++) {
		int err = csv_msg_add_name(&reply->reply, r->names_buf, sizeof(r->names_buf),
		                           &r->names[i]);

		CHECK(err == 0); /* the buffer was made for NAMES of the longest */
	}
}

static void reply_op(struct csv_coord *c, struct request *r)
{
	struct csv_msg *reply = session_reply(c, &r->owner, r->number, r->op.result);

	c->stats.repeated += r->op.repeated;
	if (reply == NULL || r->op.result != 0) {
		return;
	}
	reply->reply.count = r->op.count;
	if (r->op.type == CSV_OP_LIST) {
		reply->reply.count = r->op.cookie;
		reply_names(r, reply);
	} else if (r->op.type == CSV_OP_STATFS) {
		reply->reply.parts |= CSV_MSG_STAT;
		reply->reply.stat = r->op.stat;
	} else if (r->op.attr.ino != 0 && r->op.attr.kind != CSV_KIND_PENDING) {
		reply->reply.parts |= CSV_MSG_ATTR;
		reply->reply.attr = r->op.attr;
	}
}

/* Answer one operation that is done. Returns false if there is none. */
bool op_take(struct csv_coord *c)
{
	struct csv_op *op = csv_meta_completed(c->meta);

	if (op == NULL) {
		return false;
	}

	struct request *r = op->arg;

	/* Nobody knows whether it was done: who asked asks the next coordinator, whose journal says
	 * so. */
	if (op->result == -EIO && csv_meta_status(c->meta, NULL) == -EIO) {
		op_free(c, r);
		return true;
	}
	switch ((uint32_t)r->type) {
	case CSV_MSG_OPEN:
		file_opened(c, r);
		break;
	case CSV_MSG_CLOSE:
		file_closed(c, r);
		break;
	case CSV_MSG_LAYOUT:
		file_layout_done(c, r);
		break;
	default:
		if (op->type == CSV_OP_SET_TOKEN && op->result == 0) {
			file_token(c, &op->attr);
		}
		reply_op(c, r);
		if (cuts(op->type)) {
			const struct csv_lock_id id = lock_cut_id(c, r);
			int err = csv_lock_release(c->lock, &id, c->now_ns);

			CHECK(err == 0);
		}
		break;
	}
	/* The names of a reply lie in the request until it is sent: op_free() keeps them. */
	op_free(c, r);
	return true;
}

/* The lease that a request waits for is not wanted any more. */
void op_drop_layout(struct csv_coord *c, const struct csv_lock_owner *owner, uint64_t lease)
{
	for (uint32_t i = 0; i < REQUESTS; i++) {
		struct request *r = &c->requests[i];

		if (r->used && r->stage == STAGE_LOCK && r->type == CSV_MSG_LAYOUT &&
		    r->lease == lease && coord_same(&r->owner, owner)) {
			(void)session_reply(c, owner, r->number, -ECANCELED);
			op_free(c, r);
		}
	}
}

/* Requests of a run that is gone (NULL: of all), as far as they do not run yet. */
void op_purge(struct csv_coord *c, const struct csv_lock_owner *owner)
{
	for (uint32_t i = 0; i < REQUESTS; i++) {
		struct request *r = &c->requests[i];

		if (!r->used || r->stage != STAGE_LOCK ||
		    (owner != NULL &&
		     (r->owner.node != owner->node || r->owner.incarnation > owner->incarnation))) {
			continue;
		}
		if (r->type != CSV_MSG_LAYOUT) {
			const struct csv_lock_id id = lock_cut_id(c, r);
			int err = csv_lock_release(c->lock, &id, c->now_ns);

			CHECK(err == 0);
		}
		op_free(c, r);
	}
}
