/* SPDX-License-Identifier: Apache-2.0 */

/*
 * client_channel - a connection that becomes a byte stream.
 *
 * curl makes the connection (unix or TLS) and encrypts; the few lines of the upgrade are spoken
 * here, because curl takes a 101 for a preliminary answer and waits for another.
 */

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/api/client_int.h"
#include "base/clock.h"
#include "base/errbuf.h"
#include "base/fault.h"

#define API_HEAD_MAX (16u << 10)      /* of the answer to an upgrade, with an error body */
#define API_UPGRADE_TIMEOUT_MS 30000u /* if the caller has set none */

struct api_channel {
	CURL *easy; /* owned */
	struct curl_slist *connect_to;
	int fd;
	struct api_bytes early; /* came together with the answer */
	size_t early_at;
	char error[CURL_ERROR_SIZE];
};

/* ---- bytes ---- */

int api_channel_fd(const struct api_channel *channel)
{
	return channel->fd;
}

ssize_t api_channel_read(struct api_channel *channel, void *buf, size_t len)
{
	size_t left = channel->early.len - channel->early_at;
	size_t n = 0;

	if (left != 0) {
		n = left < len ? left : len;
		memcpy(buf, channel->early.data + channel->early_at, n);
		channel->early_at += n;
		return (ssize_t)n;
	}
	switch ((int)curl_easy_recv(channel->easy, buf, len, &n)) {
	case CURLE_OK:
		return (ssize_t)n;
	case CURLE_AGAIN:
		return -EAGAIN;
	default:
		return -ECONNRESET;
	}
}

ssize_t api_channel_write(struct api_channel *channel, const void *buf, size_t len)
{
	size_t n = 0;

	switch ((int)curl_easy_send(channel->easy, buf, len, &n)) {
	case CURLE_OK:
		return (ssize_t)n;
	case CURLE_AGAIN:
		return -EAGAIN;
	default:
		return -EPIPE;
	}
}

void api_channel_close(struct api_channel *channel)
{
	if (channel != NULL) {
		curl_easy_cleanup(channel->easy);
		curl_slist_free_all(channel->connect_to);
		free(channel->early.data);
		free(channel);
	}
}

/* ---- the upgrade ---- */

/* Wait until the socket is ready. Returns 0; -ETIMEDOUT; -errno. */
static int api_channel_wait(const struct api_channel *channel, short events, uint64_t deadline_ns)
{
	uint64_t now_ns = clock_now_ns();
	struct pollfd p = {.fd = channel->fd, .events = events};

	if (now_ns >= deadline_ns) {
		return -ETIMEDOUT;
	}

	int n = poll(&p, 1, (int)((deadline_ns - now_ns) / NS_PER_MS) + 1);

	return n > 0 || (n < 0 && errno == EINTR) ? 0 : n == 0 ? -ETIMEDOUT : -errno;
}

static int api_channel_say(struct api_channel *channel, const char *text, uint64_t deadline_ns)
{
	size_t left = strlen(text);

	while (left != 0) {
		ssize_t n = api_channel_write(channel, text, left);

		if (n == -EAGAIN) {
			int err = api_channel_wait(channel, POLLOUT, deadline_ns);

			if (err != 0) {
				return err;
			}
			continue;
		}
		if (n < 0) {
			return (int)n;
		}
		text += n;
		left -= (size_t)n;
	}
	return 0;
}

/* The number behind a header in @head; @otherwise if it is not there. */
static size_t api_head_number(const char *head, const char *name, size_t otherwise)
{
	const char *line = strcasestr(head, name);

	return line != NULL ? strtoul(line + strlen(name), NULL, 10) : otherwise;
}

/* Is the answer complete: the head, and of a refusal also the body? *body = where it starts. */
static bool api_head_complete(const struct api_bytes *bytes, unsigned *status, size_t *body)
{
	const char *end = bytes->data != NULL ? strstr(bytes->data, "\r\n\r\n") : NULL;

	if (end == NULL) {
		return false;
	}
	*body = (size_t)(end - bytes->data) + 4;
	*status = 0;
	(void)sscanf(bytes->data, "HTTP/1.1 %3u", status);
	return *status == 101 ||
	       bytes->len - *body >= api_head_number(bytes->data, "\r\nContent-Length:", 0);
}

/* Returns 0 and the status; -errno. */
static int api_channel_hear(struct api_channel *channel, struct api_bytes *bytes, unsigned *status,
                            size_t *body, uint64_t deadline_ns)
{
	char buf[2048];

	while (!api_head_complete(bytes, status, body)) {
		ssize_t n = api_channel_read(channel, buf, sizeof(buf));
		int err = 0;

		if (n == -EAGAIN) {
			err = api_channel_wait(channel, POLLIN, deadline_ns);
		} else if (n <= 0) {
			err = n == 0 ? -ECONNRESET : (int)n;
		} else {
			err = api_bytes_add(bytes, buf, (size_t)n);
		}
		if (err != 0) {
			return err;
		}
	}
	return 0;
}

/* Speak the upgrade on a connected channel. */
static int api_channel_upgrade(struct api_channel *channel, const struct api_call *call,
                               const char *protocol, struct errbuf *eb)
{
	uint32_t timeout_ms = call->timeout_ms != 0 ? call->timeout_ms : API_UPGRADE_TIMEOUT_MS;
	uint64_t deadline_ns = clock_now_ns() + timeout_ms * NS_PER_MS;
	struct api_bytes bytes = {.max = API_HEAD_MAX};
	struct api_result result = {0};
	unsigned status = 0;
	size_t body = 0;
	char *text = gw_asprintf("%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
	                         "Upgrade: %s\r\n\r\n",
	                         api_method_name(call->method), call->path, protocol);
	int err = text != NULL ? api_channel_say(channel, text, deadline_ns) : -ENOMEM;

	free(text);
	if (err == 0) {
		err = api_channel_hear(channel, &bytes, &status, &body, deadline_ns);
	}
	if (err != 0) {
		(void)errbuf_sys(eb, err, "no answer");
	} else if (status == 101) {
		err = api_bytes_add(&channel->early, bytes.data + body, bytes.len - body);
	} else if (status >= 400) {
		err = api_client_refused(status, bytes.data + body, bytes.len - body, &result, eb);
		api_result_fini(&result);
	} else {
		err = errbuf_set(eb, -EPROTO, "unexpected answer: HTTP status %u", status);
	}
	free(bytes.data);
	return err;
}

static int api_channel_connect(struct api_client *client, struct api_channel *channel,
                               struct errbuf *eb)
{
	curl_socket_t fd = CURL_SOCKET_BAD;
	int bad = 0;

	channel->easy = curl_easy_init();
	if (channel->easy == NULL ||
	    api_client_prepare(client, channel->easy, channel->error) != 0) {
		return errbuf_sys(eb, -ENOMEM, "API client");
	}
	if (client->connect_to != NULL) {
		channel->connect_to = curl_slist_append(NULL, client->connect_to);
		bad |= channel->connect_to == NULL ||
		       curl_easy_setopt(channel->easy, CURLOPT_CONNECT_TO, channel->connect_to) !=
		               0;
	}
	bad |= curl_easy_setopt(channel->easy, CURLOPT_URL, client->base) != 0;
	bad |= curl_easy_setopt(channel->easy, CURLOPT_CONNECT_ONLY, 1L) != 0;
	if (bad != 0) {
		return errbuf_sys(eb, -ENOMEM, "API client");
	}

	CURLcode code = curl_easy_perform(channel->easy);

	if (code != CURLE_OK) {
		return api_client_fail(client, channel->easy, code, channel->error, eb);
	}
	if (curl_easy_getinfo(channel->easy, CURLINFO_ACTIVESOCKET, &fd) != CURLE_OK ||
	    fd == CURL_SOCKET_BAD) {
		return errbuf_set(eb, -EPROTO, "no connection");
	}
	channel->fd = fd;
	return 0;
}

int api_client_upgrade(struct api_client *client, const struct api_call *call, const char *protocol,
                       struct api_channel **out, struct errbuf *eb)
{
	struct api_channel *channel = NULL;
	int err = api_client_check_path(call->path, eb);

	*out = NULL;
	if (err != 0) {
		return err;
	}
	channel = gw_calloc(1, sizeof(*channel));
	if (channel == NULL) {
		return errbuf_sys(eb, -ENOMEM, "API client");
	}
	channel->early.max = API_HEAD_MAX;
	err = api_channel_connect(client, channel, eb);
	if (err == 0) {
		err = api_channel_upgrade(channel, call, protocol, eb);
	}
	if (err != 0) {
		api_channel_close(channel);
		return err;
	}
	*out = channel;
	return 0;
}
