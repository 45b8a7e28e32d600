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
#include "base/json.h"

struct api_req;
struct api_server;
struct cert_api;
struct errbuf;
struct job_api;
struct loop;
struct manager;
struct move_api;
struct move_cluster;
struct peers;
struct switch_api;
struct vm;
struct vm_move_peer;

#define MOVE_OUT_MAX 2u /* at once; more wait in line */
#define MOVE_IN_MAX 4u  /* at once; more are told to come back, and wait in the source's line */
#define MOVE_STREAMS_DEFAULT 4u
#define MOVE_STREAMS_MAX 16u

/* What the cluster's log says of a move. */
enum move_word {
	MOVE_WAIT, /* nothing yet */
	MOVE_GO,   /* the VM is the destination's */
	MOVE_STAY  /* it is not */
};

/* How the cluster's VMs are moved where nobody says it. */
struct move_how {
	uint64_t blackout_max_ns; /* 0 = nobody has said */
	uint32_t at_once;         /* leaving this node */
	bool quick;
};

/*
 * VMs of the cluster: not the source's record decides whose they are but the cluster's log. Filled
 * by ha_api. docs/decisions/0183.
 */
struct move_cluster {
	bool (*owned)(void *arg, const char *name); /* is it one? */
	/* Source: a person wants it on @to. move_api_send() will come. @peer: gets the address.
	 * Returns 0; -errno. */
	int (*ask)(void *arg, const char *name, struct vm_move_peer *peer, struct errbuf *eb);
	void (*sent)(void *arg, const char *name); /* source: all is there, it stands still */
	/* Source: it did not go to @to; @slow: its guest writes too fast for that. */
	void (*failed)(void *arg, const char *name, const char *to, bool slow, int err,
	               const struct errbuf *eb);
	/* Source: it went there, and how; @result: of the worker, borrowed. */
	void (*moved)(void *arg, const char *name, const char *to, const json_t *result);
	/* A person wants VM @name moved that is not here: its owner is asked; @req is answered.
	 * False: there is no such VM. */
	bool (*forward)(void *arg, struct api_req *req, const char *name);
	/* Source. @name NULL: at_once only. */
	void (*how)(void *arg, const char *name, struct move_how *out);
	enum move_word (*leaves)(void *arg, const char *name);
	/* Destination: may it come now? Returns 0; -EAGAIN not known yet; -errno. */
	int (*expect)(void *arg, const char *name, struct errbuf *eb);
	/* Destination: its worker is there. Returns 0; -errno: it is to go. */
	int (*arriving)(void *arg, const struct vm *vm);
	enum move_word (*comes)(void *arg, const char *name);
	void *arg;
};

struct move_api_cfg {
	struct loop *loop; /* borrowed until move_api_destroy(), like the rest */
	struct api_server *server;
	struct manager *manager;
	struct switch_api *switches;
	struct job_api *jobs;
	struct cert_api *certs;
	struct peers *peers;
	const struct move_cluster *cluster; /* NULL: every VM is this host's */
	uint16_t port;                      /* of our API for other nodes */
};

/* move_api_create() - serve, and go on with what the journal says. Returns 0; -ENOMEM; -errno. */
MUST_USE int move_api_create(const struct move_api_cfg *cfg, struct move_api **out,
                             struct errbuf *eb);

/* move_api_send() - move a VM of the cluster now; how, says who asked for it, else as usual. */
void move_api_send(struct move_api *api, struct vm *vm, const struct vm_move_peer *peer);

/* move_api_take() - the log says that an arriving VM is ours. Returns 0: it runs, or has crashed;
 * -ENOENT it is not arriving; -errno. */
MUST_USE int move_api_take(struct move_api *api, const struct vm *vm, struct errbuf *eb);

/* move_api_look() - the log may have decided something. */
void move_api_look(struct move_api *api);

/* move_api_stop() - before the manager goes: moves go on in their workers, jobs end here.
 * move_api_destroy() - after the server. NULL is fine. */
void move_api_stop(struct move_api *api);
void move_api_destroy(struct move_api *api);

#endif
