/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "csv/client/client_int.h"
#include "csv/client/csv_client.h"

static void *table(uint32_t *max, uint32_t standard, size_t bytes)
{
	*max = *max == 0 ? standard : *max;
	return gw_calloc(*max, bytes);
}

int csv_client_create(const struct csv_client_cfg *cfg, struct csv_client **out, struct errbuf *eb)
{
	struct csv_client *c;

	*out = NULL;
	if (cfg->node >= CSV_MSG_NODES || cfg->incarnation == 0) {
		return errbuf_set(eb, -EINVAL, "csv: node %u or incarnation out of range",
		                  cfg->node);
	}
	c = gw_calloc(1, sizeof(*c));
	if (c == NULL) {
		return errbuf_set(eb, -ENOMEM, "csv: no memory for a client");
	}
	c->cfg = *cfg;
	c->objects = cfg->numbers;
	c->requests = cfg->numbers;
	list_init(&c->queue);
	list_init(&c->asked);
	list_init(&c->done);
	c->handles = table(&c->cfg.handles_max, 256, sizeof(*c->handles));
	c->leases = table(&c->cfg.leases_max, 1024, sizeof(*c->leases));
	c->locks = table(&c->cfg.locks_max, 1024, sizeof(*c->locks));
	if (c->handles == NULL || c->leases == NULL || c->locks == NULL) {
		csv_client_destroy(c);
		return errbuf_set(eb, -ENOMEM, "csv: no memory for a client");
	}
	*out = c;
	return 0;
}

void csv_client_destroy(struct csv_client *c)
{
	if (c == NULL) {
		return;
	}
	free(c->handles);
	free(c->leases);
	free(c->locks);
	free(c);
}

enum csv_client_state csv_client_state(const struct csv_client *c)
{
	return c->state;
}

uint64_t csv_client_term(const struct csv_client *c)
{
	return c->term;
}

uint64_t csv_client_number(struct csv_client *c)
{
	return ++c->objects;
}

static void complete(struct csv_client *c, struct csv_client_req *req, int result,
                     const struct csv_msg *reply)
{
	list_del(&req->link);
	req->result = result;
	req->reply = reply;
	list_add_tail(&c->done, &req->link);
}

void csv_client_submit(struct csv_client *c, struct csv_client_req *req)
{
	list_init(&req->link);
	req->reply = NULL;
	req->retry_ns = 0;
	req->sent = false;
	req->msg.request = 0;

	int err = c->state == CSV_CLIENT_DEAD ? -ESTALE : held_prepare(c, &req->msg);

	if (err != 0) {
		complete(c, req, err, NULL);
	} else {
		list_add_tail(&c->queue, &req->link);
	}
}

struct csv_client_req *csv_client_completed(struct csv_client *c)
{
	struct list *first = list_pop(&c->done);

	return first != NULL ? list_entry(first, struct csv_client_req, link) : NULL;
}

void csv_client_connected(struct csv_client *c)
{
	if (c->state != CSV_CLIENT_DEAD) {
		c->state = CSV_CLIENT_HELLO;
		c->hello_due = true;
	}
}

/* What was sent on it may or may not have arrived. */
void csv_client_disconnected(struct csv_client *c)
{
	if (c->state == CSV_CLIENT_DEAD) {
		return;
	}
	c->state = CSV_CLIENT_OFFLINE;
	c->hello_due = false;
	c->pong_due = 0;
	list_for_each(link, &c->asked)
	{
		list_entry(link, struct csv_client_req, link)->sent = false;
	}
}

void csv_client_die(struct csv_client *c)
{
	struct list *from[] = {&c->asked, &c->queue};

	c->state = CSV_CLIENT_DEAD;
	for (uint32_t i = 0; i < ARRAY_LEN(from); i++) {
		while (!list_empty(from[i])) {
			struct list *link = list_first(from[i]);

			complete(c, list_entry(link, struct csv_client_req, link), -ESTALE, NULL);
		}
	}
	held_lose_all(c);
}

static bool holds_anything(const struct csv_client *c)
{
	return c->handles_count != 0 || c->leases_count != 0 || c->locks_count != 0;
}

static int welcome(struct csv_client *c, const struct csv_msg *msg)
{
	if (c->state != CSV_CLIENT_HELLO) {
		return -EPROTO;
	}
	if (msg->term < c->term) {
		return -ESTALE;
	}
	if (msg->status != 0) {
		c->state = CSV_CLIENT_OFFLINE;
		if (msg->status == -ESTALE) {
			csv_client_die(c); /* there is a proof that this run is over */
		}
		return 0;
	}
	if (msg->welcome.version != CSV_MSG_VERSION) {
		return -EPROTO;
	}
	bool same_term = msg->term == c->term;

	if (same_term) {
		c->state = c->reclaiming ? CSV_CLIENT_RECLAIM : CSV_CLIENT_ACTIVE;
	} else if ((msg->welcome.flags & CSV_MSG_GRACE) == 0 && holds_anything(c) && c->term != 0) {
		csv_client_die(c); /* the others went on without us */
	} else {
		c->term = msg->term;
		c->reclaiming = (msg->welcome.flags & CSV_MSG_GRACE) != 0;
		c->state = c->reclaiming ? CSV_CLIENT_RECLAIM : CSV_CLIENT_ACTIVE;
	}
	if (c->state == CSV_CLIENT_RECLAIM) {
		held_reclaim_start(c, same_term);
		c->reclaimed_request = 0;
	}
	return 0;
}

/* What waits for a lock that is gone gets no reply of its own. */
static void cancel_waiting(struct csv_client *c, uint64_t lock)
{
	list_for_each(link, &c->asked)
	{
		struct csv_client_req *r = list_entry(link, struct csv_client_req, link);

		if (r->msg.type == CSV_MSG_LOCK && r->msg.lock.number == lock) {
			held_failed(c, &r->msg);
			complete(c, r, -ECANCELED, NULL);
			return;
		}
	}
}

static void answered(struct csv_client *c, struct csv_client_req *r, const struct csv_msg *msg,
                     uint64_t now_ns)
{
	if (msg->status == -EAGAIN) {
		r->sent = false;
		r->retry_ns = now_ns + CSV_CLIENT_RETRY_NS;
		return;
	}
	if (msg->status == 0) {
		held_answered(c, &r->msg, msg);
	} else {
		held_failed(c, &r->msg);
	}
	if ((r->msg.type == CSV_MSG_CANCEL || r->msg.type == CSV_MSG_UNLOCK) && msg->status == 0) {
		cancel_waiting(c, r->msg.number);
	}
	complete(c, r, msg->status, msg);
}

static void reply(struct csv_client *c, const struct csv_msg *msg, uint64_t now_ns)
{
	if (c->reclaimed_request != 0 && msg->request == c->reclaimed_request) {
		c->reclaimed_request = 0;
		c->reclaiming = false;
		c->state = CSV_CLIENT_ACTIVE;
		return;
	}
	if (held_reclaimed(c, msg)) {
		return;
	}
	list_for_each(link, &c->asked)
	{
		struct csv_client_req *r = list_entry(link, struct csv_client_req, link);

		if (r->msg.request == msg->request && r->sent) {
			answered(c, r, msg, now_ns);
			return;
		}
	}
}

int csv_client_receive(struct csv_client *c, const struct csv_msg *msg, uint64_t now_ns)
{
	if (c->state == CSV_CLIENT_DEAD || c->state == CSV_CLIENT_OFFLINE) {
		return 0;
	}
	if (msg->type == CSV_MSG_WELCOME) {
		return welcome(c, msg);
	}
	if (c->state == CSV_CLIENT_HELLO || msg->term != c->term) {
		return -EPROTO;
	}
	switch ((uint32_t)msg->type) {
	case CSV_MSG_REPLY:
		reply(c, msg, now_ns);
		return 0;
	case CSV_MSG_NOTICE:
	case CSV_MSG_REVOKE:
		held_event(c, msg);
		return 0;
	case CSV_MSG_PING:
		c->pong_due = msg->request;
		return 0;
	case CSV_MSG_MOVED:
		csv_client_disconnected(c);
		return 0;
	default:
		return -EPROTO;
	}
}

/* The oldest operation without a reply; 0 = none. */
static uint64_t oldest_op(const struct csv_client *c)
{
	list_for_each(link, &c->asked)
	{
		const struct csv_client_req *r = list_entry(link, struct csv_client_req, link);

		if (r->msg.type == CSV_MSG_OP) {
			return r->msg.request;
		}
	}
	return 0;
}

/* Replies to all requests below this one arrived. */
static uint64_t acked(const struct csv_client *c)
{
	struct list *first = list_first(&c->asked);

	return first != NULL ? list_entry(first, struct csv_client_req, link)->msg.request - 1
	                     : c->requests;
}

static void put(struct csv_client *c, struct csv_client_req *r, struct csv_msg *out)
{
	r->sent = true;
	*out = r->msg;
	out->term = c->term;
	out->acked = acked(c);
}

/* One that has a number and has to be sent (again). */
static bool ask_again(struct csv_client *c, uint64_t now_ns, struct csv_msg *out)
{
	list_for_each(link, &c->asked)
	{
		struct csv_client_req *r = list_entry(link, struct csv_client_req, link);

		if (!r->sent && r->retry_ns <= now_ns) {
			put(c, r, out);
			return true;
		}
	}
	return false;
}

static bool ask_new(struct csv_client *c, struct csv_msg *out)
{
	struct list *first = list_first(&c->queue);
	uint64_t oldest = oldest_op(c);

	if (first == NULL || (oldest != 0 && c->requests + 1 - oldest >= CSV_CLIENT_WINDOW)) {
		return false;
	}

	struct csv_client_req *r = list_entry(first, struct csv_client_req, link);

	list_del(first);
	list_add_tail(&c->asked, first);
	r->msg.request = ++c->requests;
	put(c, r, out);
	return true;
}

static bool reclaim_next(struct csv_client *c, uint64_t now_ns, struct csv_msg *out)
{
	if (held_reclaim_next(c, out)) {
		out->term = c->term;
		out->request = ++c->requests;
		held_reclaim_sent(c, out->request);
		return true;
	}
	if (!held_reclaim_over(c)) {
		return false;
	}
	if (ask_again(c, now_ns, out)) {
		return true;
	}
	if (c->reclaimed_request != 0) {
		return false;
	}
	c->reclaimed_request = ++c->requests;
	*out = (struct csv_msg){
		.type = CSV_MSG_RECLAIMED,
		.term = c->term,
		.request = c->reclaimed_request,
	};
	return true;
}

static void put_hello(struct csv_client *c, struct csv_msg *out)
{
	c->hello_due = false;
	*out = (struct csv_msg){
		.type = CSV_MSG_HELLO,
		.term = c->term,
		.acked = acked(c),
		.hello = {c->cfg.volume, c->cfg.incarnation, c->cfg.node, CSV_MSG_VERSION,
	                  CSV_MSG_VERSION},
	};
}

bool csv_client_next_message(struct csv_client *c, uint64_t now_ns, struct csv_msg *out)
{
	switch (c->state) {
	case CSV_CLIENT_HELLO:
		if (!c->hello_due) {
			return false;
		}
		put_hello(c, out);
		return true;
	case CSV_CLIENT_RECLAIM:
	case CSV_CLIENT_ACTIVE:
		break;
	case CSV_CLIENT_OFFLINE:
	case CSV_CLIENT_DEAD:
		return false;
	}
	if (c->pong_due != 0) {
		*out = (struct csv_msg){
			.type = CSV_MSG_REPLY, .term = c->term, .request = c->pong_due};
		c->pong_due = 0;
		return true;
	}
	if (c->state == CSV_CLIENT_RECLAIM) {
		return reclaim_next(c, now_ns, out);
	}
	return ask_again(c, now_ns, out) || ask_new(c, out);
}

uint64_t csv_client_next_ns(const struct csv_client *c)
{
	uint64_t next = UINT64_MAX;

	list_for_each(link, &c->asked)
	{
		const struct csv_client_req *r = list_entry(link, struct csv_client_req, link);

		if (!r->sent && r->retry_ns < next) {
			next = r->retry_ns;
		}
	}
	return c->state == CSV_CLIENT_ACTIVE || c->state == CSV_CLIENT_RECLAIM ? next : UINT64_MAX;
}
