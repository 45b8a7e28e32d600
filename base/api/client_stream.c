/* SPDX-License-Identifier: Apache-2.0 */

/* client_stream - answers that go on: lines of JSON, or bytes, handed over as they come. */

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/api/client_int.h"
#include "base/clock.h"
#include "base/errbuf.h"
#include "base/json.h"

struct api_reader {
	struct api_client *client;
	api_event_fn event; /* one of the two */
	api_bytes_fn bytes;
	void *arg;
	struct errbuf *eb;
	struct api_bytes text; /* the line that is not complete yet; or an error's body */
	uint64_t silence_ns;   /* allowed; 0 = for ever */
	uint64_t heard_ns;     /* when something came last */
	int stopped;           /* what the callback returned */
	int err;
};

static int api_reader_line(struct api_reader *reader, const char *line, size_t len)
{
	json_t *event = NULL;

	if (len == 0) {
		return 0; /* servers may send empty lines to keep a connection alive */
	}

	int err = json_parse(line, len, NULL, &event, reader->eb);

	if (err != 0) {
		errbuf_prepend(reader->eb, "unexpected event");
		reader->err = err == -ENOMEM ? -ENOMEM : -EPROTO;
		return -1;
	}
	reader->stopped = reader->event(event, reader->arg);
	json_decref(event);
	return reader->stopped == 0 ? 0 : -1;
}

/* Returns 0; -1 = stop. */
static int api_reader_events(struct api_reader *reader, const char *data, size_t len)
{
	while (len != 0) {
		const char *end = memchr(data, '\n', len);
		size_t take = end != NULL ? (size_t)(end - data) : len;
		int err = api_bytes_add(&reader->text, data, take);

		if (err != 0) {
			reader->err = errbuf_sys(reader->eb, err, "an event cannot be taken");
			return -1;
		}
		data += take;
		len -= take;
		if (end != NULL) {
			size_t line = reader->text.len;

			data++;
			len--;
			reader->text.len = 0;
			if (api_reader_line(reader, reader->text.data, line) != 0) {
				return -1;
			}
		}
	}
	return 0;
}

static size_t api_reader_take(char *data, size_t size, size_t count, void *arg)
{
	struct api_reader *reader = arg;
	size_t len = size * count;
	long status = 0;

	reader->heard_ns = clock_now_ns();
	(void)curl_easy_getinfo(reader->client->easy, CURLINFO_RESPONSE_CODE, &status);
	if (status != 200) {
		reader->err = api_bytes_add(&reader->text, data, len);
		return reader->err == 0 ? len : 0;
	}
	if (reader->event != NULL) {
		return api_reader_events(reader, data, len) == 0 ? len : 0;
	}
	reader->stopped = reader->bytes(data, len, reader->arg);
	return reader->stopped == 0 ? len : 0;
}

/* NOLINTBEGIN(bugprone-easily-swappable-parameters): the type is curl's. */
/* curl calls it about once a second. Its own low-speed limit looks at an average and is late. */
static int api_reader_silence(void *arg, curl_off_t total, curl_off_t now, curl_off_t up_total,
                              curl_off_t up_now)
{
	/* NOLINTEND(bugprone-easily-swappable-parameters) */
	struct api_reader *reader = arg;

	(void)total;
	(void)now;
	(void)up_total;
	(void)up_now;
	if (clock_now_ns() - reader->heard_ns <= reader->silence_ns) {
		return 0;
	}
	reader->err = errbuf_set(reader->eb, -ETIMEDOUT, "nothing was heard for %llu ms",
	                         (unsigned long long)(reader->silence_ns / NS_PER_MS));
	return 1;
}

static int api_reader_result(struct api_reader *reader, CURLcode code, long status)
{
	struct api_result result = {0};

	if (reader->stopped != 0 || reader->err != 0) {
		return reader->stopped != 0 ? reader->stopped : reader->err;
	}
	if (status >= 400) {
		int err = api_client_refused((unsigned)status, reader->text.data, reader->text.len,
		                             &result, reader->eb);

		api_result_fini(&result);
		return err;
	}
	if (code != CURLE_OK) {
		return api_client_fail(reader->client, reader->client->easy, code,
		                       reader->client->error, reader->eb);
	}
	if (status != 200) {
		return errbuf_set(reader->eb, -EPROTO, "unexpected answer: HTTP status %ld",
		                  status);
	}
	if (reader->text.len != 0) {
		return errbuf_set(reader->eb, -EPROTO, "the answer ended within an event");
	}
	return 0;
}

static int api_client_read(struct api_client *client, const struct api_call *call,
                           struct api_reader *reader)
{
	struct api_request request;
	long status = 0;
	int err = api_request_set(client, call, &request, reader->eb);

	if (err != 0) {
		return err;
	}
	(void)curl_easy_setopt(client->easy, CURLOPT_WRITEFUNCTION, api_reader_take);
	(void)curl_easy_setopt(client->easy, CURLOPT_WRITEDATA, reader);
	if (call->timeout_ms != 0) {
		reader->silence_ns = call->timeout_ms * NS_PER_MS;
		reader->heard_ns = clock_now_ns();
		(void)curl_easy_setopt(client->easy, CURLOPT_NOPROGRESS, 0L);
		(void)curl_easy_setopt(client->easy, CURLOPT_XFERINFOFUNCTION, api_reader_silence);
		(void)curl_easy_setopt(client->easy, CURLOPT_XFERINFODATA, reader);
	}

	CURLcode code = curl_easy_perform(client->easy);

	(void)curl_easy_getinfo(client->easy, CURLINFO_RESPONSE_CODE, &status);
	err = api_reader_result(reader, code, status);
	api_request_fini(client, &request);
	free(reader->text.data);
	return err;
}

int api_client_events(struct api_client *client, const struct api_call *call, api_event_fn fn,
                      void *arg, struct errbuf *eb)
{
	struct api_reader reader = {
		.client = client,
		.event = fn,
		.arg = arg,
		.eb = eb,
		.text = {.max = API_EVENT_MAX},
	};

	return api_client_read(client, call, &reader);
}

int api_client_bytes(struct api_client *client, const struct api_call *call, api_bytes_fn fn,
                     void *arg, struct errbuf *eb)
{
	struct api_reader reader = {
		.client = client,
		.bytes = fn,
		.arg = arg,
		.eb = eb,
		.text = {.max = API_EVENT_MAX},
	};

	return api_client_read(client, call, &reader);
}
