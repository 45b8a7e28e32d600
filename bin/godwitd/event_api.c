/* SPDX-License-Identifier: Apache-2.0 */
#include "bin/godwitd/event_api.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/api/server.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/parse.h"
#include "cluster/db/db.h"

#define EVENT_WORD_MAX 129u /* the longest key of the database */

struct event_api;

/* What somebody wants to hear. */
struct event_filter {
	char vm[EVENT_WORD_MAX];   /* "" = any */
	char node[EVENT_WORD_MAX]; /* "" = any */
	uint64_t since_ns;
};

struct event_stream {
	struct event_api *api;     /* back pointer */
	struct api_stream *stream; /* owned; NULL = free */
	struct event_filter filter;
};

struct event_api {
	json_t *events[EVENT_API_KEEP]; /* owned; a ring */
	uint32_t head, count;
	struct event_stream streams[EVENT_API_STREAMS_MAX];
	struct db *db;          /* borrowed; NULL: in no cluster */
	struct db_watch *watch; /* owned */
	char node[EVENT_WORD_MAX];
};

static uint64_t event_time(const json_t *event)
{
	json_int_t ns = json_integer_value(json_object_get(event, "time_ns"));

	return ns > 0 ? (uint64_t)ns : 0;
}

static bool event_word_is(const json_t *event, const char *key, const char *word)
{
	const char *text = json_string_value(json_object_get(event, key));

	return word[0] == '\0' || (text != NULL && strcmp(text, word) == 0);
}

static bool event_wanted_at(const json_t *event, uint64_t time_ns, const struct event_filter *f)
{
	return time_ns >= f->since_ns && event_word_is(event, "vm", f->vm) &&
	       event_word_is(event, "node", f->node);
}

static bool event_wanted(const json_t *event, const struct event_filter *f)
{
	return event_wanted_at(event, event_time(event), f);
}

/* As the API shows an event of the cluster. NULL = no memory. */
static json_t *event_row(const struct db_object *o)
{
	json_t *row = json_deep_copy(o->doc);

	if (row != NULL &&
	    (json_object_set_new(row, "time_ns", json_integer((json_int_t)o->changed_ns)) != 0 ||
	     json_object_set_new(row, "entry", json_integer((json_int_t)o->version)) != 0)) {
		json_decref(row);
		return NULL;
	}
	return row;
}

static void event_tell(struct event_api *api, const json_t *event)
{
	for (uint32_t i = 0; i < EVENT_API_STREAMS_MAX; i++) {
		struct event_stream *s = &api->streams[i];
		int err = s->stream != NULL && event_wanted(event, &s->filter)
		                  ? api_stream_send(s->stream, event)
		                  : 0;

		if (err == -ENOMEM) {
			log_warn("event-api", "event not sent");
		}
	}
}

static void event_on_cluster(void *arg, const struct db_change *change)
{
	struct event_api *api = arg;
	const struct db_object *o =
		change->before == NULL ? db_get(api->db, DB_EVENT, change->key) : NULL;
	json_t *row = o != NULL ? event_row(o) : NULL;

	if (row != NULL) {
		event_tell(api, row);
		json_decref(row);
	}
}

/* ---- requests ---- */

static int event_word(const struct api_req *req, const char *key, char out[EVENT_WORD_MAX],
                      struct errbuf *eb)
{
	const char *text = api_req_query(req, key);

	out[0] = '\0';
	if (text != NULL && strlen(text) >= EVENT_WORD_MAX) {
		return errbuf_set(eb, -EINVAL, "?%s: too long", key);
	}
	(void)snprintf(out, EVENT_WORD_MAX, "%s", text != NULL ? text : "");
	return 0;
}

static int event_filter_read(const struct api_req *req, struct event_filter *f, struct errbuf *eb)
{
	const char *since = api_req_query(req, "since");
	int err = event_word(req, "vm", f->vm, eb);

	f->since_ns = 0;
	if (err == 0) {
		err = event_word(req, "node", f->node, eb);
	}
	if (err == 0 && since != NULL) {
		err = parse_u64(since, 0, INT64_MAX, &f->since_ns, eb);
	}
	return err;
}

static void event_stream_gone(void *arg)
{
	struct event_stream *s = arg;

	api_stream_end(s->stream);
	s->stream = NULL;
}

static enum api_then event_follow(struct event_api *api, struct api_req *req,
                                  const struct event_filter *filter)
{
	for (uint32_t i = 0; i < EVENT_API_STREAMS_MAX; i++) {
		struct event_stream *s = &api->streams[i];
		const struct api_stream_cfg cfg = {.gone = event_stream_gone, .arg = s};

		if (s->stream == NULL) {
			s->api = api;
			s->filter = *filter;
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

/* Events of the host from the one numbered @next on that are older than @before_ns. Returns the
 * number of the next. */
static uint32_t event_add_host(const struct event_api *api, uint32_t next, uint64_t before_ns,
                               const struct event_filter *filter, json_t *out)
{
	for (; next < api->count; next++) {
		json_t *event = api->events[(api->head + next) % EVENT_API_KEEP];

		if (event_time(event) >= before_ns) {
			break;
		}
		if (event_wanted(event, filter)) {
			(void)json_array_append(out, event);
		}
	}
	return next;
}

static enum api_then event_list(struct api_req *req, void *arg)
{
	struct event_api *api = arg;
	size_t count = api->db != NULL ? db_count(api->db, DB_EVENT) : 0;
	struct event_filter filter;
	struct errbuf eb = {0};
	uint32_t next = 0;
	json_t *events;
	int err = event_filter_read(req, &filter, &eb);

	if (err != 0) {
		return api_reply_errno(req, err, &eb);
	}
	if (api_req_query(req, "follow") != NULL) {
		return event_follow(api, req, &filter);
	}
	events = json_array();
	for (size_t i = 0; i < count; i++) {
		const struct db_object *o = db_at(api->db, DB_EVENT, i);

		next = event_add_host(api, next, o->changed_ns, &filter, events);
		/* Most of 10,000 are not asked for: only the others are copied. */
		if (event_wanted_at(o->doc, o->changed_ns, &filter)) {
			(void)json_array_append_new(events, event_row(o));
		}
	}
	(void)event_add_host(api, next, UINT64_MAX, &filter, events);
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

int event_api_open(struct event_api *api, struct db *db, const char *node)
{
	int err = db_watch_add(db, DB_EVENT, event_on_cluster, api, &api->watch);

	if (err == 0) {
		api->db = db;
		(void)snprintf(api->node, sizeof(api->node), "%s", node);
	}
	return err;
}

void event_api_close(struct event_api *api)
{
	db_watch_del(api->watch);
	api->watch = NULL;
	api->db = NULL;
}

void event_api_add(struct event_api *api, const json_t *event)
{
	json_t *copy = json_deep_copy(event);

	if (copy != NULL && api->db != NULL && json_object_get(copy, "node") == NULL) {
		(void)json_object_set_new(copy, "node", json_string(api->node));
	}
	event_tell(api, copy != NULL ? copy : event);
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
