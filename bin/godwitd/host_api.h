/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BIN_GODWITD_HOST_API_H
#define BIN_GODWITD_HOST_API_H

/*
 * host_api - GET /v1/host/check, /v1/host, /v1/version.
 *
 * Looking at the machine starts programs and reads file systems that may hang, so it is done on a
 * thread of its own; the loop goes on. Requests for the same answer share one look.
 *
 * Threads: all functions on the loop's thread. Teardown: stop (waits for the looks, answers who
 * still waits), then the API server, then destroy.
 */

#include "base/attr.h"

struct api_server;
struct errbuf;
struct host_api;
struct loop;

/*
 * host_api_create() - add the routes to @server.
 * @loop, @state_dir: borrowed until host_api_destroy(). Routes stay in @server: destroy that first.
 * Returns 0; -ENOMEM; -errno.
 */
MUST_USE int host_api_create(struct loop *loop, struct api_server *server, const char *state_dir,
                             struct host_api **out, struct errbuf *eb);

/* host_api_stop() - from now on answer nothing new; finish what is under way. NULL is fine. */
void host_api_stop(struct host_api *api);

/* host_api_destroy() - after host_api_stop() and the server's end. NULL is fine. */
void host_api_destroy(struct host_api *api);

#endif
