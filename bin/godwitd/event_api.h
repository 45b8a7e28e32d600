/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BIN_GODWITD_EVENT_API_H
#define BIN_GODWITD_EVENT_API_H

/*
 * event_api - what happened: the last events, and a stream of those to come.
 *
 * Events of this host since the service started, and, in a cluster, those of its database in the
 * order of its log (cluster/member/member_events.h); host's are put between them by their time.
 * GET /v1/events answers {"events":[...]}; with ?follow it goes on, one JSON object per line.
 * ?vm=, ?node= and ?since= (ns since 1970) choose.
 *
 * Thread: the loop's.
 */

#include "base/attr.h"
#include "base/json.h"

struct api_server;
struct db;
struct errbuf;
struct event_api;

#define EVENT_API_KEEP 1000u /* the log has the older ones */
#define EVENT_API_STREAMS_MAX 32u

MUST_USE int event_api_create(struct api_server *server, struct event_api **out, struct errbuf *eb);

/* event_api_open() - this host is @node of a cluster. @db: borrowed until event_api_close().
 * Returns 0; -ENOMEM: its events are not told. */
MUST_USE int event_api_open(struct event_api *api, struct db *db, const char *node);
void event_api_close(struct event_api *api);

/* event_api_stop() - end the streams, before the server is destroyed. */
void event_api_stop(struct event_api *api);
void event_api_destroy(struct event_api *api);

/* event_api_add() - keep @event (borrowed) and tell those who follow. */
void event_api_add(struct event_api *api, const json_t *event);

#endif
