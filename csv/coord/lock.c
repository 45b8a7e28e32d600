/* SPDX-License-Identifier: Apache-2.0 */

/*
 * lock - clients' locks, and what the lock manager says about locks of any kind. Kinds share the
 * table: the low two bits of number and space tell them apart.
 */
#include <errno.h>

#include "base/check.h"
#include "csv/coord/coord_int.h"

struct csv_lock_id lock_id(const struct csv_lock_owner *owner, enum kind kind, uint64_t number)
{
	return (struct csv_lock_id){.owner = *owner, .number = number << 2 | kind};
}

/* The lock that a request takes on what it is going to free. */
struct csv_lock_id lock_cut_id(const struct csv_coord *c, const struct request *r)
{
	const struct csv_lock_owner self = {SELF, 1};

	return lock_id(&self, KIND_CUT, (uint64_t)(r - c->requests) + 1);
}

static int request(struct csv_coord *c, const struct csv_lock_owner *owner,
                   const struct csv_msg *msg, struct csv_lock_conflict *conflict)
{
	const struct csv_msg_lock *m = &msg->lock;
	const struct csv_lock_id id = lock_id(owner, KIND_LOCK, m->number);

	if ((m->flags & CSV_MSG_CONVERT) != 0) {
		const struct csv_lock_change change = {
			.mode = m->mode,
			.try_only = (m->flags & CSV_MSG_TRY) != 0,
			.arg = msg->request,
		};

		return csv_lock_convert(c->lock, &id, &change, c->now_ns, conflict);
	}

	const struct csv_lock_req req = {
		.id = id,
		.name = {m->name.object, m->name.space << 2 | KIND_LOCK},
		.class = m->class,
		.mode = m->mode,
		.from = m->from,
		.to = m->to,
		.try_only = (m->flags & CSV_MSG_TRY) != 0,
		.reclaim = (m->flags & CSV_MSG_RECLAIM) != 0,
		.arg = msg->request,
	};

	return csv_lock_request(c->lock, &req, c->now_ns, conflict);
}

void lock_ask(struct csv_coord *c, const struct csv_lock_owner *owner, const struct csv_msg *msg)
{
	struct csv_lock_conflict conflict = {0};
	int err = -EINVAL;

	if (msg->lock.number >> 62 == 0 && msg->lock.name.space >> 62 == 0) {
		err = request(c, owner, msg, &conflict);
	}
	c->stats.refused_grace += err == -EAGAIN;
	if (err == -EINPROGRESS) {
		return;
	}

	struct csv_msg *reply = session_reply(c, owner, msg->request, err);

	if (reply != NULL && (err == -EBUSY || err == -EDEADLK)) {
		conflict.id.number >>= 2;
		reply->reply.parts = CSV_MSG_CONFLICT;
		reply->reply.conflict = conflict;
	}
}

/* Unlock, cancel. What is not there is not there any more. */
void lock_drop(struct csv_coord *c, const struct csv_lock_owner *owner, const struct csv_msg *msg)
{
	const struct csv_lock_id id = lock_id(owner, KIND_LOCK, msg->number);
	int err = msg->number >> 62 != 0        ? -EINVAL
	          : msg->type == CSV_MSG_CANCEL ? csv_lock_cancel(c->lock, &id, c->now_ns)
	                                        : csv_lock_release(c->lock, &id, c->now_ns);

	(void)session_reply(c, owner, msg->request, err == -ENOENT ? 0 : err);
}

static enum csv_msg_what what_of(const struct csv_lock_id *id)
{
	switch ((enum kind)(id->number & 3)) {
	case KIND_LOCK:
		return CSV_MSG_A_LOCK;
	case KIND_HANDLE:
		return CSV_MSG_A_HANDLE;
	case KIND_LEASE:
	case KIND_CUT:
		break;
	}
	return CSV_MSG_A_LEASE;
}

static void granted(struct csv_coord *c, const struct csv_lock_action *a)
{
	if ((a->id.number & 3) == KIND_LOCK) {
		(void)session_reply(c, &a->id.owner, a->arg, 0);
	} else {
		op_granted(c, &a->id);
	}
}

/* Pass on one thing that the lock manager has to say. Returns false if there is none. */
bool lock_take(struct csv_coord *c)
{
	struct csv_lock_action a;
	struct csv_msg *msg;

	if (!csv_lock_next_action(c->lock, &a)) {
		return false;
	}
	if (a.type == CSV_LOCK_GRANTED) {
		granted(c, &a);
	} else if (a.id.owner.node == SELF) {
		return true;                   /* ends by itself, when the metadata is changed */
	} else if (a.type != CSV_LOCK_FENCE) { /* csv_lock_overdue() says so as long as it is so */
		msg = session_say(c, &a.id.owner,
		                  a.type == CSV_LOCK_NOTICE ? CSV_MSG_NOTICE : CSV_MSG_REVOKE);
		if (msg != NULL) {
			msg->event.what = what_of(&a.id);
			msg->event.number = a.id.number >> 2;
			msg->event.mode = a.type == CSV_LOCK_NOTICE ? a.mode : 0;
		}
	}
	return true;
}
