/* SPDX-License-Identifier: Apache-2.0 */
#include "bin/godwitd/event_api.h"

#include <errno.h>
#include <stdlib.h>

#include "base/api/server.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "base/log.h"

struct event_api;

struct event_stream {
	struct event_api *api;     /* back pointer */
	struct api_stream *stream; /* owned; NULL = free */
};

struct event_api {
	json_t *events[EVENT_API_KEEP]; /* owned; a ring */
	uint32_t head, count;
	struct event_stream streams[EVENT_API_STREAMS_MAX];
};

static void event_stream_gone(void *arg)
{
	struct event_stream *s = arg;

	api_stream_end(s->stream);
	s->stream = NULL;
}

static enum api_then event_follow(struct event_api *api, struct api_req *req)
{
	for (uint32_t i = 0; i < EVENT_API_STREAMS_MAX; i++) {
		struct event_stream *s = &api->streams[i];
		const struct api_stream_cfg cfg = {.gone = event_stream_gone, .arg = s};

		if (s->stream == NULL) {
			s->api = api;
			if (api_stream_begin(req, &cfg, &s->stream) != 0) {
				s->stream = NULL; /* answered, or nobody there any more */
			}
			return API_ANSWERED;
		}
	}

	struct errbuf eb = {0};

	(void)errbuf_set(&eb, -EBUSY, "%u clients follow the events already",
	                 EVENT_API_STREAMS_MAX);
	return api_reply_errno(req, -EBUSY, &eb);
}

static enum api_then event_list(struct api_req *req, void *arg)
{
	struct event_api *api = arg;
	json_t *events;

	if (api_req_query(req, "follow") != NULL) {
		return event_follow(api, req);
	}
	events = json_array();
	for (uint32_t i = 0; i < api->count; i++) {
		(void)json_array_append(events, api->events[(api->head + i) % EVENT_API_KEEP]);
	}
	return api_reply(req, 200, json_pack("{s:o}", "events", events));
}

static const struct api_route event_routes[] = {
	{API_GET, "/v1/events", event_list},
};

int event_api_create(struct api_server *server, struct event_api **out, struct errbuf *eb)
{
	struct event_api *api = gw_calloc(1, sizeof(*api));
	int err = -ENOMEM;

	*out = NULL;
	if (api != NULL) {
		err = api_server_routes(server, event_routes, ARRAY_LEN(event_routes), api);
	}
	if (err != 0) {
		free(api);
		return errbuf_sys(eb, err, "cannot serve events");
	}
	*out = api;
	return 0;
}

void event_api_stop(struct event_api *api)
{
	for (uint32_t i = 0; api != NULL && i < EVENT_API_STREAMS_MAX; i++) {
		api_stream_end(api->streams[i].stream);
		api->streams[i].stream = NULL;
	}
}

void event_api_destroy(struct event_api *api)
{
	if (api == NULL) {
		return;
	}
	for (uint32_t i = 0; i < api->count; i++) {
		json_decref(api->events[(api->head + i) % EVENT_API_KEEP]);
	}
	free(api);
}

void event_api_add(struct event_api *api, const json_t *event)
{
	json_t *copy = json_deep_copy(event);

	for (uint32_t i = 0; i < EVENT_API_STREAMS_MAX; i++) {
		struct event_stream *s = &api->streams[i];
		int err = s->stream != NULL ? api_stream_send(s->stream, event) : 0;

		if (err == -ENOMEM) {
			log_warn("event-api", "event not sent");
		}
	}
	if (copy == NULL) {
		return;
	}
	if (api->count == EVENT_API_KEEP) {
		json_decref(api->events[api->head]);
		api->events[api->head] = copy;
		api->head = (api->head + 1) % EVENT_API_KEEP;
	} else {
		api->events[(api->head + api->count) % EVENT_API_KEEP] = copy;
		api->count++;
	}
}
