/* SPDX-License-Identifier: Apache-2.0 */

/*
 * server_stream - answers that go on: a bounded queue between their owner and libmicrohttpd.
 *
 * Two hold a stream: its owner until api_stream_end(), and libmicrohttpd's response, which asks for
 * bytes, until the answer is sent or the connection over. The last one frees it. While the queue is
 * empty the connection is suspended.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/api/server_int.h"
#include "base/check.h"
#include "base/fault.h"
#include "base/json.h"

#define API_STREAM_BLOCK_BYTES (16u << 10) /* what libmicrohttpd asks for at once */
#define API_STREAM_FIRST_BYTES 4096u

struct api_stream {
	struct api_server *server;
	struct api_conn *conn; /* NULL: the answer is over */
	char *queue;           /* owned; a ring of queue_size */
	size_t queue_size;
	size_t head;
	size_t len;
	size_t queue_max;
	void (*gone_fn)(void *arg);
	void *gone_arg;
	bool ended;   /* by the owner */
	bool dropped; /* the reader was too slow */
	unsigned refs;
};

static void api_stream_put(struct api_stream *stream)
{
	if (--stream->refs == 0) {
		stream->server->stream_count--;
		free(stream->queue);
		free(stream);
	}
}

static void api_stream_response_freed(void *cls)
{
	api_stream_put(cls);
}

static ssize_t api_stream_read(void *cls, uint64_t pos, char *buf, size_t max)
{
	struct api_stream *stream = cls;
	size_t len = stream->len < max ? stream->len : max;

	(void)pos;
	if (stream->conn == NULL || stream->conn->dead || stream->dropped) {
		return MHD_CONTENT_READER_END_WITH_ERROR;
	}
	if (len == 0) {
		if (stream->ended) {
			return MHD_CONTENT_READER_END_OF_STREAM;
		}
		api_conn_suspend(stream->conn);
		return 0;
	}

	size_t first = stream->queue_size - stream->head;

	if (first > len) {
		first = len;
	}
	memcpy(buf, stream->queue + stream->head, first);
	memcpy(buf + first, stream->queue, len - first);
	stream->head = (stream->head + len) % stream->queue_size;
	stream->len -= len;
	return (ssize_t)len;
}

int api_stream_begin(struct api_req *req, const struct api_stream_cfg *cfg, struct api_stream **out)
{
	struct MHD_Response *response = NULL;
	struct api_stream *stream = gw_calloc(1, sizeof(*stream));
	size_t first = API_STREAM_FIRST_BYTES;

	*out = NULL;
	if (req->mhd == NULL) {
		free(stream);
		api_req_answer(req, MHD_HTTP_OK, NULL);
		return -EPIPE;
	}
	if (stream == NULL) {
		goto no_memory;
	}
	stream->server = req->server;
	stream->conn = req->conn;
	stream->queue_max =
		cfg->queue_bytes_max != 0 ? cfg->queue_bytes_max : API_STREAM_QUEUE_BYTES;
	stream->queue_size = first < stream->queue_max ? first : stream->queue_max;
	stream->queue = gw_malloc(stream->queue_size);
	stream->gone_fn = cfg->gone;
	stream->gone_arg = cfg->arg;
	response = stream->queue != NULL
	                   ? MHD_create_response_from_callback(
				     MHD_SIZE_UNKNOWN, API_STREAM_BLOCK_BYTES, api_stream_read,
				     stream, api_stream_response_freed)
	                   : NULL;
	if (response == NULL) {
		free(stream->queue);
		free(stream);
		goto no_memory;
	}
	stream->refs = 2;
	stream->server->stream_count++;
	api_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE,
	                    cfg->type != NULL ? cfg->type : "application/x-ndjson");
	api_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
	api_response_header(response, "X-Content-Type-Options", "nosniff");
	req->stream = stream;
	api_req_answer(req, MHD_HTTP_OK, response);
	*out = stream;
	return 0;
no_memory:
	(void)api_reply_errno(req, -ENOMEM, NULL);
	return -ENOMEM;
}

void api_stream_gone(struct api_stream *stream)
{
	stream->conn = NULL;
	if (!stream->ended && stream->gone_fn != NULL) {
		stream->gone_fn(stream->gone_arg); /* may end, and so free the stream */
	}
}

/* Room for @more bytes within queue_max. Returns 0; -ENOBUFS; -ENOMEM. */
static int api_stream_grow(struct api_stream *stream, size_t more)
{
	size_t size = stream->queue_size;

	if (more > stream->queue_max - stream->len) {
		return -ENOBUFS;
	}
	while (size - stream->len < more) {
		size = size * 2 < stream->queue_max ? size * 2 : stream->queue_max;
	}
	if (size == stream->queue_size) {
		return 0;
	}

	char *queue = gw_malloc(size);
	size_t first = stream->queue_size - stream->head;

	if (queue == NULL) {
		return -ENOMEM;
	}
	if (first > stream->len) {
		first = stream->len;
	}
	memcpy(queue, stream->queue + stream->head, first);
	memcpy(queue + first, stream->queue, stream->len - first);
	free(stream->queue);
	stream->queue = queue;
	stream->queue_size = size;
	stream->head = 0;
	return 0;
}

int api_stream_write(struct api_stream *stream, const void *buf, size_t len)
{
	CHECK(!stream->ended);
	if (stream->conn == NULL || stream->conn->dead) {
		return -EPIPE;
	}

	int err = api_stream_grow(stream, len);

	if (err == -ENOBUFS) {
		stream->dropped = true;
		log_limited(&stream->server->limit, LOG_LEVEL_INFO, API_TAG,
		            "dropped a reader that does not keep up uid=%u name=%s queued=%zu",
		            stream->conn->peer.uid, stream->conn->peer.name, stream->len);
		api_conn_kill(stream->conn);
	}
	if (err != 0) {
		return err;
	}

	size_t at = (stream->head + stream->len) % stream->queue_size;
	size_t first = stream->queue_size - at;

	if (first > len) {
		first = len;
	}
	memcpy(stream->queue + at, buf, first);
	memcpy(stream->queue, (const char *)buf + first, len - first);
	stream->len += len;
	api_conn_resume(stream->conn);
	return 0;
}

int api_stream_send(struct api_stream *stream, const struct json_t *event)
{
	char *text = json_text(event, 0);

	if (text == NULL) {
		return -ENOMEM;
	}

	size_t len = strlen(text);

	text[len] = '\n';

	int err = api_stream_write(stream, text, len + 1);

	free(text);
	return err;
}

void api_stream_end(struct api_stream *stream)
{
	if (stream == NULL) {
		return;
	}
	CHECK(!stream->ended);
	stream->ended = true;
	if (stream->conn != NULL) {
		api_conn_resume(stream->conn);
	}
	api_stream_put(stream);
}
