/* SPDX-License-Identifier: Apache-2.0 */

/*
 * redirect - I/O of this node's files through the coordinator's node (gate.c), when csv/data has
 * lost its own path. A transfer is one request of csv/client: it is asked again, with its number,
 * until it is answered, by whichever coordinator.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "csv/daemon/daemon_int.h"
#include "csv/mount/csv_mount.h"

/* What may be on its way: half of what a connection queues before it breaks. */
#define REDIRECT_BYTES (2u << 20)
#define REDIRECT_MAX 16u

struct redirect {
	struct csv_volume_req req;
	struct redirects *all;
	struct csv_data_ask *ask;
	struct list link; /* in redirects.waiting */
	uint8_t *copy;    /* owned: data that lies in several pieces */
};

void redirects_init(struct redirects *r, struct csv_volume *v, struct uring *ring)
{
	*r = (struct redirects){.v = v, .ring = ring};
	list_init(&r->waiting);
}

/* ---- answers that are known at once: not from inside the ask ---- */

static void refuse_all(struct uring_op *op, int32_t res, bool more)
{
	struct redirects *r = op->arg;
	struct csv_data_ask *ask = r->refused;

	(void)res;
	(void)more;
	r->refusing = false;
	r->refused = NULL;
	while (ask != NULL) {
		struct csv_data_ask *next = ask->provider;

		csv_data_answer(ask, r->v != NULL ? -EAGAIN : -ESTALE, NULL);
		ask = next;
	}
}

static void refuse(struct redirects *r, struct csv_data_ask *ask)
{
	ask->provider = r->refused;
	r->refused = ask;
	if (!r->refusing) {
		r->refusing = true;
		r->refuse = (struct uring_op){.fn = refuse_all, .arg = r};
		uring_defer(r->ring, &r->refuse, 0);
	}
}

/* ---- data ---- */

static void gather(const struct csv_data_ask *ask, uint8_t *to)
{
	for (uint32_t i = 0; i < ask->iov_count; i++) {
		if (ask->iov[i].iov_base != NULL) {
			memcpy(to, ask->iov[i].iov_base, ask->iov[i].iov_len);
			to += ask->iov[i].iov_len;
		}
	}
}

static void scatter(const struct csv_data_ask *ask, const uint8_t *from)
{
	for (uint32_t i = 0; i < ask->iov_count; i++) {
		if (ask->iov[i].iov_base != NULL) {
			memcpy(ask->iov[i].iov_base, from, ask->iov[i].iov_len);
			from += ask->iov[i].iov_len;
		}
	}
}

/* ---- one ---- */

static void next_waiting(struct redirects *r);

/* What the reply says, as csv/data wants it. */
static int result_of(const struct csv_data_ask *ask, const struct csv_client_req *req)
{
	const struct csv_msg *reply = req->reply;

	switch (-req->result) {
	case 0:
		break;
	case ENOTCONN:
	case ESTALE:
		return -ESTALE;
	case ENOSPC:
	case EROFS:
		return req->result;
	default:
		return -EIO;
	}
	if (reply == NULL) {
		return -EIO;
	}
	if (ask->op == BLK_READ) {
		if ((reply->reply.parts & CSV_MSG_DATA) == 0 ||
		    reply->data_bytes != ask->len_bytes) {
			return -EIO;
		}
		scatter(ask, reply->data);
	}
	return 0;
}

static void answered(struct csv_volume_req *req)
{
	struct redirect *one = req->arg;
	struct redirects *r = one->all;
	struct csv_data_ask *ask = one->ask;
	int result = result_of(ask, &req->req);

	r->count--;
	r->under_way_bytes -= ask->len_bytes;
	if (result == 0) {
		r->requests++;
		r->bytes += ask->len_bytes;
	}
	free(one->copy);
	free(one);
	next_waiting(r);
	csv_data_answer(ask, result, NULL);
	if (uring_submit(r->ring) < 0) {
		return; /* what was not taken stays prepared, for the next */
	}
}

static bool has_room(const struct redirects *r, const struct redirect *one)
{
	return r->count == 0 || (r->count < REDIRECT_MAX &&
	                         r->under_way_bytes + one->ask->len_bytes <= REDIRECT_BYTES);
}

static void start(struct redirects *r, struct redirect *one)
{
	r->count++;
	r->under_way_bytes += one->ask->len_bytes;
	csv_volume_submit(r->v, &one->req);
}

static void next_waiting(struct redirects *r)
{
	struct list *first = list_first(&r->waiting);

	while (r->v != NULL && first != NULL &&
	       has_room(r, list_entry(first, struct redirect, link))) {
		list_del(first);
		start(r, list_entry(first, struct redirect, link));
		first = list_first(&r->waiting);
	}
}

static struct redirect *make(struct redirects *r, const struct csv_mount_file *file,
                             struct csv_data_ask *ask)
{
	struct redirect *one = gw_calloc(1, sizeof(*one));
	struct csv_msg *msg;

	if (one == NULL) {
		return NULL;
	}
	one->all = r;
	one->ask = ask;
	one->req.fn = answered;
	one->req.arg = one;
	msg = &one->req.req.msg;
	msg->type = ask->op == BLK_READ    ? CSV_MSG_READ
	            : ask->op == BLK_FLUSH ? CSV_MSG_FLUSH
	                                   : CSV_MSG_WRITE_DATA;
	msg->io.handle = file->handle;
	msg->io.ino = file->ino;
	msg->io.token = file->token;
	if (ask->op == BLK_FLUSH) {
		return one;
	}
	msg->io.lease = file->lease;
	msg->io.device_bytes = ask->device_bytes;
	msg->io.length_bytes = (uint32_t)ask->len_bytes;
	if (ask->op == BLK_READ) {
		return one;
	}
	msg->data_bytes = (uint32_t)ask->len_bytes;
	if (ask->iov_count == 1) {
		msg->data = ask->iov[0].iov_base;
	} else {
		one->copy = gw_malloc(ask->len_bytes);
		if (one->copy == NULL) {
			free(one);
			return NULL;
		}
		gather(ask, one->copy);
		msg->data = one->copy;
	}
	return one;
}

void redirects_ask(struct redirects *r, const struct csv_mount_file *file, struct csv_data_ask *ask)
{
	struct redirect *one = NULL;

	if (r->v != NULL && ask->len_bytes <= CSV_MSG_DATA_MAX) {
		one = make(r, file, ask);
	}
	if (one == NULL) {
		refuse(r, ask);
		return;
	}
	list_add_tail(&r->waiting, &one->link);
	next_waiting(r);
}

void redirects_lose(struct redirects *r)
{
	r->v = NULL;
	list_for_each_safe(link, &r->waiting)
	{
		struct redirect *one = list_entry(link, struct redirect, link);

		list_del(&one->link);
		refuse(r, one->ask);
		free(one->copy);
		free(one);
	}
}
