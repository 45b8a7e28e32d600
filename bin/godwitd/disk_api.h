/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BIN_GODWITD_DISK_API_H
#define BIN_GODWITD_DISK_API_H

/*
 * disk_api - disk images of this host over HTTP: the routes below /v1/disks, and the disks that a
 * new VM wants made. Each operation has a thread of its own as long as it takes
 * (docs/decisions/0083); everything else here is on the loop's thread.
 */

#include <stdint.h>

#include "base/attr.h"
#include "base/json.h"

struct api_server;
struct disk_api;
struct errbuf;
struct loop;
struct manager;

#define DISK_API_JOBS_MAX 8u /* at once; they share the host's disks with its VMs */

/* disk_api_create() - serve. @loop, @server: borrowed. Returns 0; -ENOMEM; -errno. */
MUST_USE int disk_api_create(struct loop *loop, struct api_server *server, struct disk_api **out,
                             struct errbuf *eb);

/* disk_api_manager() - whose VMs use the images, for error texts; borrowed. NULL = none. */
void disk_api_manager(struct disk_api *api, struct manager *manager);

/* @err: 0 or -errno; @eb says why. */
typedef void (*disk_api_done_fn)(void *arg, int err, const struct errbuf *eb);

/*
 * disk_api_make() - make images as `disk create` does, one after another; all or none.
 * @requests: array of requests of disk_run(DISK_CREATE), taken.
 * @done: called once, from the loop or disk_api_stop(), if this returns 0.
 * Returns 0; -EBUSY too much is under way; -ENOMEM.
 */
MUST_USE int disk_api_make(struct disk_api *api, json_t *requests, disk_api_done_fn done, void *arg,
                           struct errbuf *eb);

/* disk_api_unmake() - remove what disk_api_make() made of the same @requests. */
void disk_api_unmake(const json_t *requests);

/*
 * disk_api_stop() - interrupt what is under way, wait for its end, answer; before the server's
 * end. disk_api_destroy() - after it. NULL is fine.
 */
void disk_api_stop(struct disk_api *api);
void disk_api_destroy(struct disk_api *api);

#endif
