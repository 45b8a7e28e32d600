/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BIN_GODWIT_CSVD_CSVD_API_H
#define BIN_GODWIT_CSVD_CSVD_API_H

/*
 * csvd_api - the control interface of godwit-csvd: HTTP and JSON on csvd.sock,
 * docs/formats/csvd.md.
 *
 *	PUT, DELETE /v1/members   the cluster's word; back to being alone
 *	GET /v1/volumes[/NAME]    how they stand                            volumes.c
 *	POST /v1/volumes/NAME/move
 *	POST, DELETE /v1/volumes  alone: use a device, leave it             alone.c
 *
 * A host that is in no cluster has its volumes for itself, as node 1. Which they are, and whether
 * it is in a cluster, is kept in STATE/csvd.json: a node of a cluster opens nothing before it is
 * told who else is there.
 *
 * Thread: the loop's.
 */

#include <stdint.h>

#include "base/attr.h"

struct csvd_api;
struct errbuf;
struct loop;

struct csvd_api_cfg {
	struct loop *loop;       /* borrowed until csvd_api_destroy() */
	const char *run_dir;     /* for the call */
	const char *state_dir;   /* copied */
	const char *listen_addr; /* copied; numeric, for other nodes */
	uint16_t port;
};

/* csvd_api_create() - serve, and open the volumes of a host that is alone. Returns 0; -errno. */
MUST_USE int csvd_api_create(const struct csvd_api_cfg *cfg, struct csvd_api **out,
                             struct errbuf *eb);

/* csvd_api_stop() - leave all volumes in order; @fn from the loop, after ten seconds at the latest.
 */
void csvd_api_stop(struct csvd_api *api, void (*fn)(void *arg), void *arg);

/* csvd_api_destroy() - NULL is fine. */
void csvd_api_destroy(struct csvd_api *api);

#endif
