/* SPDX-License-Identifier: Apache-2.0 */
#include "hv/worker/control.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/uring.h"

#define TAG "control"

struct control_client {
	struct control *control; /* back pointer */
	int fd;                  /* owned; -1 = slot is free */
	uint64_t generation;
	bool receiving;
	struct uring_op op;
	struct msghdr msg;
	struct iovec iov;
	union {
		char buf[CMSG_SPACE(CONTROL_FDS_MAX * sizeof(int))];
		struct cmsghdr align;
	} cmsg;
	uint8_t buf[CONTROL_MESSAGE_BYTES_MAX];
};

struct control {
	struct uring *ring; /* borrowed */
	int listen_fd;      /* owned */
	control_fn fn;
	void *arg;
	bool accepting;
	bool closing;
	struct uring_op accept;
	struct control_client clients[CONTROL_CLIENTS_MAX];
	struct log_limit limit;
};

static void control_receive(struct control_client *c);

static void control_drop(struct control_client *c)
{
	if (c->fd >= 0) {
		/* A receive in flight ends by the shutdown and closes the slot then. */
		(void)shutdown(c->fd, SHUT_RDWR);
		if (!c->receiving) {
			(void)close(c->fd);
			c->fd = -1;
		}
		c->generation++;
	}
}

static void control_send(struct control_client *c, const json_t *json)
{
	char *text = json_text(json, 0);
	size_t len = text != NULL ? strlen(text) : 0;

	if (text == NULL || len > CONTROL_MESSAGE_BYTES_MAX ||
	    send(c->fd, text, len, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)len) {
		log_limited(&c->control->limit, LOG_LEVEL_WARN, TAG,
		            "client dropped: cannot take an answer errno=%d", errno);
		control_drop(c);
	}
	free(text);
}

/* The client that asked, if it is still there. */
static struct control_client *control_asker(const struct control_request *req)
{
	struct control_client *c = &req->control->clients[req->client];

	return c->fd >= 0 && c->generation == req->generation ? c : NULL;
}

void control_reply(const struct control_request *req, json_t *result)
{
	struct control_client *c = control_asker(req);
	json_t *answer = json_pack("{s:I,s:o}", "id", (json_int_t)req->id, "result",
	                           result != NULL ? result : json_object());

	if (c != NULL && answer != NULL) {
		control_send(c, answer);
	}
	json_decref(answer);
}

void control_error(const struct control_request *req, int err, const struct errbuf *eb)
{
	struct control_client *c = control_asker(req);
	json_t *answer = NULL;
	struct json_build error;
	struct json_build b;

	/* A text that was cut in the middle of a character must not cost the answer. */
	json_build_object(&error);
	json_add_u64(&error, "errno", (uint64_t)-err);
	json_add_str(&error, "message", errbuf_text(eb, err));
	json_add_str(&error, "hint", eb != NULL ? eb->hint : "");
	json_build_object(&b);
	json_add_u64(&b, "id", (uint64_t)req->id);
	json_add_build(&b, "error", &error);
	if (json_build_end(&b, &answer) == 0 && c != NULL) {
		control_send(c, answer);
	}
	json_decref(answer);
}

void control_event(struct control *control, json_t *event)
{
	for (uint32_t i = 0; i < CONTROL_CLIENTS_MAX && event != NULL; i++) {
		if (control->clients[i].fd >= 0) {
			control_send(&control->clients[i], event);
		}
	}
	json_decref(event);
}

static void control_fds_take(struct control_client *c, struct control_request *req)
{
	for (struct cmsghdr *h = CMSG_FIRSTHDR(&c->msg); h != NULL; h = CMSG_NXTHDR(&c->msg, h)) {
		if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS) {
			continue;
		}
		size_t n = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(h) + i * sizeof(int), sizeof(fd));
			if (req->fd_count < CONTROL_FDS_MAX) {
				req->fds[req->fd_count++] = fd;
			} else {
				(void)close(fd);
			}
		}
	}
}

static void control_fds_close(struct control_request *req)
{
	for (uint32_t i = 0; i < req->fd_count; i++) {
		if (req->fds[i] >= 0) {
			(void)close(req->fds[i]);
		}
	}
}

/* Descriptors beside a message that is not looked at would stay open forever. */
static void control_fds_discard(struct control_client *c)
{
	struct control_request req = {.control = c->control};

	control_fds_take(c, &req);
	control_fds_close(&req);
}

static void control_handle(struct control_client *c, size_t len)
{
	struct control *control = c->control;
	struct errbuf eb = {0};
	struct control_request req = {
		.control = control,
		.client = (uint32_t)(c - control->clients),
		.generation = c->generation,
	};
	int err;

	for (uint32_t i = 0; i < CONTROL_FDS_MAX; i++) {
		req.fds[i] = -1;
	}
	control_fds_take(c, &req);
	err = json_parse(c->buf, len, NULL, &req.json, &eb);
	if (err == 0) {
		struct json_at at = json_root(req.json, "request");

		err = json_get_i64(&at, "id", 0, INT64_MAX, &req.id, &eb);
		if (err == 0) {
			err = json_get_str(&at, "cmd", 32, &req.cmd, &eb);
		}
	}
	if (err != 0) {
		control_error(&req, err, &eb);
	} else {
		control->fn(&req, control->arg);
	}
	control_fds_close(&req);
	json_decref(req.json);
}

static void control_received(struct uring_op *op, int32_t res, bool more)
{
	struct control_client *c = op->arg;
	uint64_t generation = c->generation;

	(void)more;
	c->receiving = false;
	if (res > 0 && (c->msg.msg_flags & MSG_TRUNC) == 0 && !c->control->closing) {
		control_handle(c, (size_t)res);
		if (c->fd >= 0 && c->generation == generation) {
			control_receive(c);
			return;
		}
	} else if (res >= 0) {
		control_fds_discard(c);
	}
	if (c->fd >= 0) { /* end of file, an error, too large, or dropped meanwhile */
		(void)close(c->fd);
		c->fd = -1;
		c->generation++;
	}
}

static void control_receive(struct control_client *c)
{
	c->iov = (struct iovec){.iov_base = c->buf, .iov_len = sizeof(c->buf)};
	c->msg = (struct msghdr){
		.msg_iov = &c->iov,
		.msg_iovlen = 1,
		.msg_control = c->cmsg.buf,
		.msg_controllen = sizeof(c->cmsg.buf),
	};
	c->op = (struct uring_op){.fn = control_received, .arg = c};
	if (uring_prep_recvmsg(c->control->ring, &c->op, c->fd, &c->msg, MSG_CMSG_CLOEXEC) == 0) {
		c->receiving = true;
	} else {
		control_drop(c);
	}
}

static void control_accept(struct control *control);

static void control_accepted(struct uring_op *op, int32_t res, bool more)
{
	struct control *control = op->arg;

	(void)more;
	control->accepting = false;
	if (control->closing) {
		if (res >= 0) {
			(void)close(res);
		}
		return;
	}
	for (uint32_t i = 0; i < CONTROL_CLIENTS_MAX && res >= 0; i++) {
		struct control_client *c = &control->clients[i];

		if (c->fd < 0) {
			c->fd = res;
			c->control = control;
			res = -1;
			control_receive(c);
		}
	}
	if (res >= 0) {
		(void)close(res); /* full */
	}
	control_accept(control);
}

static void control_accept(struct control *control)
{
	control->accept = (struct uring_op){.fn = control_accepted, .arg = control};
	if (uring_prep_accept(control->ring, &control->accept, control->listen_fd, false) == 0) {
		control->accepting = true;
	} else {
		log_err(TAG, "cannot accept clients any more");
	}
}

int control_create(struct uring *ring, int listen_fd, control_fn fn, void *arg,
                   struct control **out)
{
	struct control *control = gw_calloc(1, sizeof(*control));

	*out = NULL;
	if (control == NULL) {
		return -ENOMEM;
	}
	control->ring = ring;
	control->listen_fd = listen_fd;
	control->fn = fn;
	control->arg = arg;
	for (uint32_t i = 0; i < CONTROL_CLIENTS_MAX; i++) {
		control->clients[i].fd = -1;
	}
	control_accept(control);
	if (!control->accepting) {
		free(control);
		return -EAGAIN;
	}
	*out = control;
	return 0;
}

static bool control_busy(const struct control *control)
{
	bool busy = control->accepting;

	for (uint32_t i = 0; i < CONTROL_CLIENTS_MAX; i++) {
		busy = busy || control->clients[i].receiving;
	}
	return busy;
}

void control_destroy(struct control *control)
{
	if (control == NULL) {
		return;
	}
	control->closing = true;
	if (control->accepting) {
		CHECK(uring_cancel(control->ring, &control->accept) == 0);
	}
	for (uint32_t i = 0; i < CONTROL_CLIENTS_MAX; i++) {
		control_drop(&control->clients[i]);
	}
	while (control_busy(control)) {
		CHECK(uring_wait(control->ring, UINT64_MAX) >= 0);
	}
	(void)close(control->listen_fd);
	free(control);
}
