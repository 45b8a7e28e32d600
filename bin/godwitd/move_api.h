/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BIN_GODWITD_MOVE_API_H
#define BIN_GODWITD_MOVE_API_H

/*
 * move_api - VMs that leave this node and VMs that come to it: what two services say to each other.
 *
 *	source                                    destination
 *	POST /v1/vms/{name}/move (a job)
 *	POST /v1/arrivals ----------------------> checked, defined, a worker, a port, credentials
 *	connect -------------------------------->
 *	(the workers copy; docs/formats/worker-control.md)
 *	ready: the word is written down
 *	(COMMIT from worker to worker) ---------> runs, written down
 *	POST /v1/arrivals/{move}/commit --------> written down, if it was not yet
 *	forgotten
 *
 *	GET /v1/departures/{move} <-------------- "whose is it?", when the source's worker is lost
 *	DELETE /v1/arrivals/{move} -------------> it does not come
 *
 * Whatever dies in between, the record of the source's word decides (hv/manager/vm_move.h): both
 * sides go on asking until they agree, also after a restart. Credentials are made for one move by
 * the destination, and travel over the nodes' own TLS.
 *
 * Routes for other nodes are refused to anybody who is none. Thread: the loop's.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"

struct api_server;
struct cert_api;
struct errbuf;
struct job_api;
struct loop;
struct manager;
struct move_api;
struct peers;
struct switch_api;

#define MOVE_OUT_MAX 2u /* at once; more wait in line */
#define MOVE_IN_MAX 4u  /* at once; more are told to come back, and wait in the source's line */
#define MOVE_STREAMS_DEFAULT 4u
#define MOVE_STREAMS_MAX 16u

struct move_api_cfg {
	struct loop *loop; /* borrowed until move_api_destroy(), like the rest */
	struct api_server *server;
	struct manager *manager;
	struct switch_api *switches;
	struct job_api *jobs;
	struct cert_api *certs;
	struct peers *peers;
	/* Is the VM of that name the cluster's? Then the cluster decides where it runs. */
	bool (*owned)(void *arg, const char *name);
	void *owned_arg;
	uint16_t port; /* of our API for other nodes */
};

/* move_api_create() - serve, and go on with what the journal says. Returns 0; -ENOMEM; -errno. */
MUST_USE int move_api_create(const struct move_api_cfg *cfg, struct move_api **out,
                             struct errbuf *eb);

/* move_api_stop() - before the manager goes: moves go on in their workers, jobs end here.
 * move_api_destroy() - after the server. NULL is fine. */
void move_api_stop(struct move_api *api);
void move_api_destroy(struct move_api *api);

#endif
