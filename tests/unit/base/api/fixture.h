/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_BASE_API_FIXTURE_H
#define TESTS_UNIT_BASE_API_FIXTURE_H

/* fixture - an API server with handlers that show what they got, on a loop that the test runs. */

#include "base/api/server.h"

/* One per test. Handlers that tests wait for stop the loop. */
struct fixture {
	struct loop *loop;
	struct api_server *server;
	struct api_req *later;     /* of POST /v1/later */
	struct api_stream *stream; /* of GET /v1/events */
	int gone;                  /* calls of on_gone callbacks */
	int upgraded_fd;           /* of GET /v1/vms/{name}/console */
	char early[64];
	int handled;
};

#define FIXTURE_ROUTE_COUNT 10
extern const struct api_route fixture_routes[FIXTURE_ROUTE_COUNT];

int fixture_setup(void **state);

/* fixture_setup_small() - bodies of 100 bytes, 3 connections, short deadlines. */
int fixture_setup_small(void **state);
int fixture_teardown(void **state);

/* An open connection to the fixture's server. */
#define HTTP(name, f)     \
	struct http name; \
	assert_int_equal(http_open(&(name), (f)->loop, (f)->server), 0)

/* member() - a string of a JSON object; "(none)" if it is not there. */
const char *member(const struct json_t *json, const char *key);

#endif
