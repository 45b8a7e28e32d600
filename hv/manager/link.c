/* SPDX-License-Identifier: Apache-2.0 */
#include "hv/manager/link.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/check.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/loop.h"

#define TAG "link"
#define LINK_MESSAGE_BYTES_MAX 65536u
#define LINK_BURST_MAX 32u /* messages in one go: a worker that floods us is not alone here */

struct link_request_slot {
	int64_t id; /* 0 = free */
	link_answer_fn fn;
	void *arg;
};

struct link {
	struct link_cfg cfg;
	int fd; /* owned */
	struct loop_fd *watch;
	int64_t next_id;
	struct link_request_slot slots[LINK_REQUESTS_MAX];
	struct log_limit limit;
	bool *gone; /* set when link_close() is called from inside a callback */
	char buf[LINK_MESSAGE_BYTES_MAX];
};

/* The worker's -errno. Never -EPIPE: that says that the worker has ended, and it has not. */
static int link_errno(const json_t *error)
{
	json_int_t code = json_integer_value(json_object_get(error, "errno"));

	return code > 0 && code < 4096 && code != EPIPE ? -(int)code : -EIO;
}

static void link_answer(struct link *link, const json_t *message, int64_t id)
{
	if (id <= 0) {
		return; /* an answer to what was no request; 0 marks a free slot */
	}
	for (uint32_t i = 0; i < LINK_REQUESTS_MAX; i++) {
		struct link_request_slot slot = link->slots[i];
		const json_t *error = json_object_get(message, "error");
		struct errbuf eb = {0};
		int err = 0;

		if (slot.id != id) {
			continue;
		}
		link->slots[i].id = 0;
		if (json_is_object(error)) {
			const char *text = json_string_value(json_object_get(error, "message"));
			const char *hint = json_string_value(json_object_get(error, "hint"));

			err = errbuf_set(&eb, link_errno(error), "%s",
			                 text != NULL ? text : "the worker failed");
			errbuf_hint(&eb, "%s", hint != NULL ? hint : "");
		}
		slot.fn(slot.arg, err, err == 0 ? json_object_get(message, "result") : NULL, &eb);
		return;
	}
}

static void link_message(struct link *link, size_t len)
{
	struct errbuf eb = {0};
	json_t *message = NULL;
	int err = json_parse(link->buf, len, NULL, &message, &eb);

	if (err != 0) {
		log_limited(&link->limit, LOG_LEVEL_WARN, TAG, "bad message from worker reason=%s",
		            errbuf_text(&eb, err));
		return;
	}
	const json_t *id = json_object_get(message, "id");

	if (json_is_integer(id)) {
		link_answer(link, message, (int64_t)json_integer_value(id));
	} else {
		link->cfg.event(link->cfg.arg, message);
	}
	json_decref(message);
}

/* Answer everything with "gone", then tell the owner. */
static void link_lost(struct link *link, const bool *gone)
{
	struct errbuf eb = {0};

	(void)errbuf_set(&eb, -EPIPE, "the VM's worker has ended");
	loop_fd_del(link->watch);
	link->watch = NULL;
	for (uint32_t i = 0; i < LINK_REQUESTS_MAX && !*gone; i++) {
		struct link_request_slot slot = link->slots[i];

		if (slot.id != 0) {
			link->slots[i].id = 0;
			slot.fn(slot.arg, -EPIPE, NULL, &eb);
		}
	}
	if (!*gone) {
		link->cfg.closed(link->cfg.arg);
	}
}

static void link_readable(int fd, uint32_t events, void *arg)
{
	struct link *link = arg;
	bool gone = false;
	ssize_t n = 1;

	(void)events;
	link->gone = &gone;
	for (uint32_t i = 0; i < LINK_BURST_MAX && !gone; i++) {
		n = recv(fd, link->buf, sizeof(link->buf), MSG_DONTWAIT);
		if (n <= 0) {
			break;
		}
		link_message(link, (size_t)n);
	}
	if (!gone && (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))) {
		link_lost(link, &gone);
	}
	if (!gone) {
		link->gone = NULL;
	}
}

int link_open(const struct link_cfg *cfg, struct link **out)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct link *link;
	int err;

	*out = NULL;
	if (strlen(cfg->path) >= sizeof(addr.sun_path)) {
		return -ENAMETOOLONG;
	}
	memcpy(addr.sun_path, cfg->path, strlen(cfg->path) + 1);
	link = gw_calloc(1, sizeof(*link));
	if (link == NULL) {
		return -ENOMEM;
	}
	link->cfg = *cfg;
	link->next_id = 1;
	link->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (link->fd < 0) {
		err = -errno;
		goto free_link;
	}
	if (connect(link->fd, (const struct sockaddr *)&addr, sizeof(addr)) != 0) {
		err = -errno;
		goto close_fd;
	}
	err = loop_fd_add(cfg->loop, link->fd, LOOP_READ, link_readable, link, &link->watch);
	if (err != 0) {
		goto close_fd;
	}
	*out = link;
	return 0;

close_fd:
	(void)close(link->fd);
free_link:
	free(link);
	return err;
}

void link_close(struct link *link)
{
	struct errbuf eb = {0};

	if (link == NULL) {
		return;
	}
	if (link->gone != NULL) {
		*link->gone = true;
	}
	loop_fd_del(link->watch);
	(void)close(link->fd);
	/* Who still waits must not wait for ever. */
	(void)errbuf_set(&eb, -EPIPE, "the VM's worker is not listened to any more");
	for (uint32_t i = 0; i < LINK_REQUESTS_MAX; i++) {
		if (link->slots[i].id != 0) {
			link->slots[i].fn(link->slots[i].arg, -EPIPE, NULL, &eb);
		}
	}
	free(link);
}

static int link_send(struct link *link, char *text, int fd)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = {.iov_base = text, .iov_len = strlen(text)};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

	if (fd >= 0) {
		msg.msg_control = control.buf;
		msg.msg_controllen = sizeof(control.buf);
		*CMSG_FIRSTHDR(&msg) = (struct cmsghdr){
			.cmsg_len = CMSG_LEN(sizeof(int)),
			.cmsg_level = SOL_SOCKET,
			.cmsg_type = SCM_RIGHTS,
		};
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&msg)), &fd, sizeof(fd));
	}
	return sendmsg(link->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0 ? 0 : -EPIPE;
}

int link_request(struct link *link, const char *cmd, json_t *more, int fd, link_answer_fn fn,
                 void *arg)
{
	struct link_request_slot *slot = NULL;
	json_t *message = more != NULL ? more : json_object();
	char *text = NULL;
	int err = -ENOMEM;

	for (uint32_t i = 0; i < LINK_REQUESTS_MAX && slot == NULL; i++) {
		if (link->slots[i].id == 0) {
			slot = &link->slots[i];
		}
	}
	if (slot == NULL) {
		json_decref(message);
		return -EBUSY;
	}
	if (message != NULL && json_object_set_new(message, "cmd", json_string(cmd)) == 0 &&
	    json_object_set_new(message, "id", json_integer(link->next_id)) == 0) {
		text = json_text(message, 0);
	}
	if (text != NULL) {
		err = link_send(link, text, fd);
	}
	if (err == 0) {
		*slot = (struct link_request_slot){.id = link->next_id++, .fn = fn, .arg = arg};
	}
	free(text);
	json_decref(message);
	return err;
}
