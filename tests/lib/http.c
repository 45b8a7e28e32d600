/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/http.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/api/server.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/loop.h"

#define HTTP_TIMEOUT_MS 5000

static void http_ready(int fd, uint32_t events, void *arg)
{
	struct http *h = arg;
	ssize_t n = 0;

	(void)events;
	do {
		n = recv(fd, h->buf + h->len, HTTP_BUF_BYTES - h->len, MSG_DONTWAIT);
		if (n > 0) {
			h->len += (size_t)n;
			h->buf[h->len] = '\0';
		}
	} while (n > 0);
	if (n == 0 || errno != EAGAIN) {
		h->eof = true;
		CHECK(loop_fd_mod(h->watch, 0) == 0);
	}
	loop_stop(h->loop);
}

static void http_timeout(void *arg)
{
	struct http *h = arg;

	h->late = true;
	loop_stop(h->loop);
}

void http_open_fd(struct http *h, struct loop *loop, int fd)
{
	*h = (struct http){.loop = loop, .fd = fd};
	h->buf = malloc(HTTP_BUF_BYTES + 1);
	CHECK(h->buf != NULL);
	h->buf[0] = '\0';
	CHECK(loop_fd_add(loop, fd, LOOP_READ, http_ready, h, &h->watch) == 0);
	CHECK(loop_timer_new(loop, http_timeout, h, &h->timer) == 0);
}

int http_open(struct http *h, struct loop *loop, struct api_server *server)
{
	int pair[2];

	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
	http_open_fd(h, loop, pair[0]);
	return api_server_adopt(server, pair[1]);
}

int http_connect_unix(struct http *h, struct loop *loop, const char *path)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	CHECK(fd >= 0 && strlen(path) < sizeof(addr.sun_path));
	memcpy(addr.sun_path, path, strlen(path) + 1);
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) != 0) {
		int err = -errno;

		(void)close(fd);
		return err;
	}
	http_open_fd(h, loop, fd);
	return 0;
}

void http_close(struct http *h)
{
	loop_fd_del(h->watch);
	loop_timer_del(h->timer);
	(void)close(h->fd);
	free(h->buf);
	memset(h, 0, sizeof(*h));
	h->fd = -1;
}

/* Let the loop run until something came for us. Returns false when it is too late. */
static bool http_turn(struct http *h, uint64_t deadline_ns)
{
	uint64_t now_ns = clock_now_ns();

	if (h->eof || now_ns >= deadline_ns) {
		return false;
	}
	h->late = false;
	loop_timer_arm(h->timer, deadline_ns - now_ns);
	loop_run(h->loop);
	loop_timer_disarm(h->timer);
	return !h->late;
}

static uint64_t http_deadline_ns(uint32_t timeout_ms)
{
	return clock_now_ns() + timeout_ms * NS_PER_MS;
}

int http_send(struct http *h, const void *bytes, size_t len)
{
	const char *p = bytes;
	uint64_t deadline_ns = http_deadline_ns(HTTP_TIMEOUT_MS);

	while (len != 0) {
		ssize_t n = send(h->fd, p, len, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno != EAGAIN) {
			return -errno;
		}
		if (n > 0) {
			p += n;
			len -= (size_t)n;
			continue;
		}
		http_spin(h->loop, 1); /* the socket is full: only the server can change that */
		if (h->eof || clock_now_ns() > deadline_ns) {
			return -EPIPE;
		}
	}
	return 0;
}

int http_say(struct http *h, const char *text)
{
	return http_send(h, text, strlen(text));
}

bool http_wait_for(struct http *h, const char *text)
{
	uint64_t deadline_ns = http_deadline_ns(HTTP_TIMEOUT_MS);

	while (strstr(h->buf, text) == NULL) {
		if (!http_turn(h, deadline_ns)) {
			return strstr(h->buf, text) != NULL;
		}
	}
	return true;
}

bool http_wait_eof(struct http *h, uint32_t timeout_ms)
{
	uint64_t deadline_ns = http_deadline_ns(timeout_ms);

	while (!h->eof) {
		if (h->len > HTTP_BUF_BYTES / 2) { /* more than anybody wants to see */
			h->len = 0;
			h->buf[0] = '\0';
		}
		if (!http_turn(h, deadline_ns) && !h->eof) {
			return false;
		}
	}
	return true;
}

/* The value of a header in the head of an answer; false = not there. */
static bool http_header(const char *head, const char *name, char *out, size_t size)
{
	size_t len = strlen(name);

	for (const char *line = strstr(head, "\r\n"); line != NULL; line = strstr(line, "\r\n")) {
		line += 2;
		if (strncasecmp(line, name, len) == 0 && line[len] == ':') {
			const char *value = line + len + 1 + strspn(line + len + 1, " ");

			(void)snprintf(out, size, "%.*s", (int)strcspn(value, "\r"), value);
			return true;
		}
		if (line[0] == '\r') {
			return false;
		}
	}
	return false;
}

/* Length of a complete chunked body at @text; 0 = not complete. *out gets the decoded bytes. */
static size_t http_chunked(const char *text, char *out, size_t *out_len)
{
	const char *p = text;

	*out_len = 0;
	for (;;) {
		char *end = NULL;
		size_t size = strtoul(p, &end, 16);

		if (end == p || strncmp(end, "\r\n", 2) != 0) {
			return 0;
		}
		p = end + 2;
		if (strnlen(p, size + 2) < size + 2) {
			return 0;
		}
		memcpy(out + *out_len, p, size);
		*out_len += size;
		p += size + 2;
		if (size == 0) {
			return (size_t)(p - text);
		}
	}
}

/* Bytes of the complete answer at the start of the buffer; 0 = not complete. */
static size_t http_complete(const struct http *h, char *body, size_t *body_len)
{
	const char *end = strstr(h->buf, "\r\n\r\n");
	char value[64];

	if (end == NULL) {
		return 0;
	}

	size_t head = (size_t)(end - h->buf) + 4;

	if (http_header(h->buf, "Transfer-Encoding", value, sizeof(value))) {
		size_t bytes = http_chunked(h->buf + head, body, body_len);

		return bytes != 0 ? head + bytes : 0;
	}
	*body_len = 0;
	if (http_header(h->buf, "Content-Length", value, sizeof(value))) {
		*body_len = strtoul(value, NULL, 10);
	}
	if (h->len < head + *body_len) {
		return 0;
	}
	memcpy(body, h->buf + head, *body_len);
	return head + *body_len;
}

unsigned http_answer(struct http *h, struct json_t **json)
{
	uint64_t deadline_ns = http_deadline_ns(HTTP_TIMEOUT_MS);
	char *body = malloc(HTTP_BUF_BYTES + 1);
	size_t body_len = 0;
	size_t bytes = 0;
	unsigned status = 0;

	CHECK(body != NULL);
	if (json != NULL) {
		*json = NULL;
	}
	while (http_complete(h, body, &body_len) == 0 && http_turn(h, deadline_ns)) {
	}
	bytes = http_complete(h, body, &body_len);
	if (bytes != 0 && strncmp(h->buf, "HTTP/1.", 7) == 0) {
		status = (unsigned)strtoul(h->buf + 9, NULL, 10);
		if (json != NULL && body_len != 0) {
			*json = json_loadb(body, body_len, 0, NULL);
		}
		memmove(h->buf, h->buf + bytes, h->len - bytes + 1);
		h->len -= bytes;
	}
	free(body);
	return status;
}

unsigned http_ask(struct http *h, const char *method, const char *path, struct json_t **json)
{
	char text[8192];

	(void)snprintf(text, sizeof(text), "%s %s HTTP/1.1\r\nHost: x\r\n\r\n", method, path);
	if (http_say(h, text) != 0) {
		return 0;
	}
	return http_answer(h, json);
}

unsigned http_post(struct http *h, const char *method, const char *path, const char *body,
                   struct json_t **json)
{
	char text[4096];

	(void)snprintf(text, sizeof(text),
	               "%s %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
	               "Content-Length: %zu\r\n\r\n",
	               method, path, strlen(body));
	if (http_say(h, text) != 0 || http_say(h, body) != 0) {
		return 0;
	}
	return http_answer(h, json);
}

const char *http_error(const struct json_t *json, const char *field)
{
	const char *text =
		json_string_value(json_object_get(json_object_get(json, "error"), field));

	return text != NULL ? text : "";
}

static void http_spun(void *arg)
{
	loop_stop(arg);
}

void http_spin(struct loop *loop, uint32_t ms)
{
	struct loop_timer *timer = NULL;
	uint64_t end_ns = clock_now_ns() + ms * NS_PER_MS;

	CHECK(loop_timer_new(loop, http_spun, loop, &timer) == 0);
	/* Other callbacks stop the loop too. */
	for (uint64_t now_ns = clock_now_ns(); now_ns < end_ns; now_ns = clock_now_ns()) {
		loop_timer_arm(timer, end_ns - now_ns);
		loop_run(loop);
	}
	loop_timer_del(timer);
}
