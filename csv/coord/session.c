/* SPDX-License-Identifier: Apache-2.0 */

/* session - connections of nodes: who may speak, what is passed on, what is said. */
#include <errno.h>
#include <string.h>

#include "base/check.h"
#include "csv/coord/coord_int.h"

static struct csv_msg *say(struct csv_coord *c, uint32_t node, enum csv_msg_type type)
{
	uint32_t at = (c->out_first + c->out_count) % OUT;
	struct csv_msg *msg = &c->out[at];

	CHECK(c->out_count < OUT); /* the owner did not take them */
	memset(msg, 0, sizeof(*msg));
	msg->type = type;
	msg->term = c->term;
	c->out_node[at] = node;
	c->out_count++;
	return msg;
}

struct csv_msg *session_say(struct csv_coord *c, const struct csv_lock_owner *owner,
                            enum csv_msg_type type)
{
	if (owner->node >= CSV_MSG_NODES || !c->sessions[owner->node].connected ||
	    c->sessions[owner->node].incarnation != owner->incarnation) {
		return NULL;
	}
	return say(c, owner->node, type);
}

struct csv_msg *session_reply(struct csv_coord *c, const struct csv_lock_owner *owner,
                              uint64_t number, int status)
{
	struct csv_msg *msg = session_say(c, owner, CSV_MSG_REPLY);

	if (msg != NULL) {
		msg->request = number;
		msg->status = status;
	}
	return msg;
}

static int judge_hello(const struct csv_coord *c, uint32_t node, const struct csv_msg *msg)
{
	const struct csv_msg_hello *h = &msg->hello;

	if (memcmp(h->volume.b, c->volume.b, sizeof(c->volume.b)) != 0) {
		return -ENXIO;
	}
	if (h->version_min > CSV_MSG_VERSION || h->version_max < CSV_MSG_VERSION) {
		return -EPROTONOSUPPORT;
	}
	if (c->state != CSV_COORD_GRACE && c->state != CSV_COORD_ACTIVE) {
		return c->state == CSV_COORD_OPENING ? -EAGAIN : -ESHUTDOWN;
	}
	/* A later term is known to it, or a proof about it to us. */
	if (msg->term > c->term || h->incarnation <= c->members.fenced[node] ||
	    h->incarnation < c->sessions[node].incarnation) {
		return -ESTALE;
	}
	return h->incarnation == c->members.run[node] ? 0 : -EACCES;
}

static int hello(struct csv_coord *c, uint32_t node, const struct csv_msg *msg)
{
	struct session *s = &c->sessions[node];
	struct csv_msg *welcome;

	if (msg->hello.node != node) {
		return -EPROTO;
	}

	int err = judge_hello(c, node, msg);

	welcome = say(c, node, CSV_MSG_WELCOME);
	welcome->status = err;
	if (err != 0) {
		s->connected = false;
		return 0;
	}
	if (s->incarnation != msg->hello.incarnation) {
		*s = (struct session){.incarnation = msg->hello.incarnation};
	}
	s->connected = true;

	const struct csv_lock_owner owner = {node, s->incarnation};

	csv_lock_remind(c->lock, &owner);
	welcome->welcome = (struct csv_msg_welcome){
		.flags = c->state == CSV_COORD_GRACE ? CSV_MSG_GRACE : 0,
		.window = CSV_COORD_WINDOW,
		.node = c->node,
		.version = CSV_MSG_VERSION,
	};
	return 0;
}

static void over(struct csv_coord *c, const struct csv_lock_owner *owner)
{
	c->sessions[owner->node].reclaimed = true;
	for (uint32_t i = 0; i < c->holders_count; i++) {
		if (coord_same(&c->holders[i].owner, owner)) {
			c->holders[i].over = true;
		}
	}
	coord_check_grace(c);
}

/* Does it claim what it cannot have? */
static bool false_claim(const struct csv_coord *c, const struct csv_lock_owner *owner,
                        const struct csv_msg *msg)
{
	uint32_t flags = msg->type == CSV_MSG_OPEN     ? msg->open.flags
	                 : msg->type == CSV_MSG_LAYOUT ? msg->layout.flags
	                 : msg->type == CSV_MSG_LOCK   ? msg->lock.flags
	                                               : 0;

	for (uint32_t i = 0; i < c->holders_count; i++) {
		if (coord_same(&c->holders[i].owner, owner)) {
			return false;
		}
	}
	return (flags & CSV_MSG_RECLAIM) != 0;
}

static int dispatch(struct csv_coord *c, const struct csv_lock_owner *owner,
                    const struct csv_msg *msg)
{
	switch (msg->type) {
	case CSV_MSG_OP:
		op_ask(c, owner, msg);
		return 0;
	case CSV_MSG_OPEN:
		file_open(c, owner, msg);
		return 0;
	case CSV_MSG_CLOSE:
		file_close(c, owner, msg);
		return 0;
	case CSV_MSG_LAYOUT:
		file_layout(c, owner, msg);
		return 0;
	case CSV_MSG_RETURN:
		file_return(c, owner, msg);
		return 0;
	case CSV_MSG_LOCK:
		lock_ask(c, owner, msg);
		return 0;
	case CSV_MSG_UNLOCK:
	case CSV_MSG_CANCEL:
		lock_drop(c, owner, msg);
		return 0;
	case CSV_MSG_RECLAIMED:
		over(c, owner);
		(void)session_reply(c, owner, msg->request, 0);
		return 0;
	case CSV_MSG_BYE:
		coord_purge(c, owner);
		(void)session_reply(c, owner, msg->request, 0);
		over(c, owner);
		return 0;
	case CSV_MSG_PING:
		(void)session_reply(c, owner, msg->request, 0);
		return 0;
	case CSV_MSG_REPLY: /* to a ping */
		return 0;
	case CSV_MSG_HELLO:
	case CSV_MSG_WELCOME:
	case CSV_MSG_NOTICE:
	case CSV_MSG_REVOKE:
	case CSV_MSG_MOVED:
	case CSV_MSG_READ: /* data does not pass through here */
	case CSV_MSG_WRITE_DATA:
	case CSV_MSG_FLUSH:
		break;
	}
	return -EPROTO;
}

int csv_coord_receive(struct csv_coord *c, uint32_t node, const struct csv_msg *msg,
                      uint64_t now_ns)
{
	CHECK(node < CSV_MSG_NODES);
	if (c->out_count > OUT - REQUESTS - 8) {
		return -EAGAIN; /* this one might say more than there is room for */
	}
	c->now_ns = now_ns > c->now_ns ? now_ns : c->now_ns;
	c->stats.requests++;
	if (msg->type == CSV_MSG_HELLO) {
		return hello(c, node, msg);
	}

	const struct session *s = &c->sessions[node];
	const struct csv_lock_owner owner = {node, s->incarnation};

	if (!s->connected) {
		return -EPROTO;
	}
	if (c->state != CSV_COORD_GRACE && c->state != CSV_COORD_ACTIVE) {
		return 0; /* it will ask the next coordinator */
	}
	if (msg->term != c->term) {
		(void)session_reply(c, &owner, msg->request, -ESTALE);
		return 0;
	}
	if (false_claim(c, &owner, msg)) {
		(void)session_reply(c, &owner, msg->request, -EPERM);
		return 0;
	}
	return dispatch(c, &owner, msg);
}

void csv_coord_disconnected(struct csv_coord *c, uint32_t node)
{
	CHECK(node < CSV_MSG_NODES);
	c->sessions[node].connected = false;
}

/* Tell one who was not told yet that the coordinator moves. */
static bool say_moved(struct csv_coord *c)
{
	for (uint32_t i = 0; c->state == CSV_COORD_CLOSING && i < CSV_MSG_NODES; i++) {
		struct session *s = &c->sessions[i];

		if (s->connected && !s->told_moved) {
			s->told_moved = true;
			say(c, i, CSV_MSG_MOVED)->event.mode = c->moved_to;
			return true;
		}
	}
	return false;
}

const struct csv_msg *csv_coord_next_message(struct csv_coord *c, uint32_t *node)
{
	coord_poll(c);
	while (c->out_count == 0) {
		bool closes = c->state == CSV_COORD_GRACE || c->state == CSV_COORD_ACTIVE;

		if (!op_take(c) && !lock_take(c) && !(closes && file_close_some(c)) &&
		    !say_moved(c)) {
			coord_poll(c);
			return NULL;
		}
	}

	const struct csv_msg *msg = &c->out[c->out_first];

	*node = c->out_node[c->out_first];
	c->out_first = (c->out_first + 1) % OUT;
	c->out_count--;
	return msg;
}
