/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BIN_GODWITD_CSV_WIRE_H
#define BIN_GODWITD_CSV_WIRE_H

/*
 * csv_wire - what connects the cluster to godwit-csvd of this node: it is told who is in, which
 * runs are proven gone and who coordinates which volume (docs/formats/csvd.md, PUT /v1/members).
 *
 *	DB_VOLUME    NAME              the volumes: device, id, number, term, coordinator, its run
 *	DB_SETTING   csv-run/NODEID    which run of godwit-csvd there is on that node; gone?
 *	                               sealed, by who takes its keys away: no other follows there
 *	DB_SETTING   csv-fence/NODEID  a run that does not give back what others wait for; by whom
 *	DB_SETTING   csv-volumes       counts creations and removals, so that numbers are unique
 *	DB_SETTING   csv-left/ID       a volume that was evicted: its term, and at which count
 *	DB_SETTING   csv-clear/NODEID  up to which count that run has closed what was evicted
 *
 * A run is a life of the service within a run of the node: inc << CSV_LIFE_BITS | life. Before one
 * is committed the process is in the guard's page (ha_guard.h): from then on it stands still and is
 * killed with the node's lease, as workers are. That is why the node's proof counts for it.
 *
 *	csv_wire.c      talks to this node's service; hands terms on
 *	csv_look.c      its process: csv_life decides, the guard knows it
 *	csv_picture.c   what is true, as a document; what the leader decides
 *	csv_fence.c     keys of lost runs are taken away
 *	csv_left.c      volumes that were evicted, until nobody can have them open
 *	csv_api.c       /v1/volumes: register, forget, list
 *
 * Thread: the loop's; calls to the service are made on threads of their own.
 * docs/decisions/0200, 0201, 0202, 0203.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"

struct api_server;
struct csv_wire;
struct errbuf;
struct guard;
struct ha;
struct loop;
struct member;

struct csv_wire_cfg {
	struct loop *loop; /* borrowed until csv_wire_destroy() */
	struct api_server *server;
	const char *run_dir; /* copied; csvd.sock is there */
};

/* Borrowed until csv_wire_close(). */
struct csv_wire_place {
	struct member *member;
	struct guard *guard;
	struct ha *ha;
	uint32_t nodeid;
};

/* csv_wire_create() - serves the routes; is in no cluster. Returns 0; -ENOMEM; -errno. */
MUST_USE int csv_wire_create(const struct csv_wire_cfg *cfg, struct csv_wire **out,
                             struct errbuf *eb);

/* csv_wire_open() - this node is in a cluster now. csv_wire_close(): it is not, or the service
 * stops; godwit-csvd goes on until the lease is over. */
void csv_wire_open(struct csv_wire *w, const struct csv_wire_place *place);
void csv_wire_close(struct csv_wire *w);

/* csv_wire_look() - the log may have changed something. */
void csv_wire_look(struct csv_wire *w);

/* csv_wire_count() - to @cmd: volumes, and who uses them, do not change at the same time. */
struct db;
struct db_cmd;
void csv_wire_count(const struct db *db, struct db_cmd *cmd);

/* ---- a lost run of a node, to be proven stopped by what is done to LUNs: csv_fence.c ---- */

struct csv_wire_seal {
	uint64_t run;     /* of its volume service: whose keys are meant */
	uint64_t volumes; /* set of numbers: all that it could write */
	const char *why;  /* there is no seal, because...; "" = not yet */
};

/* csv_wire_sealed() - is it certain which run of the volume service run @inc of the node ends with?
 * @ask: see to it. */
bool csv_wire_sealed(struct csv_wire *w, uint32_t nodeid, uint64_t inc, bool ask,
                     struct csv_wire_seal *out);

/* csv_wire_preemptable() - on which volumes this node can take keys away; set of numbers. */
uint64_t csv_wire_preemptable(const struct csv_wire *w);

/* csv_wire_preempt() - begin a FENCE_PREEMPT; its end is told by ha_fenced(), also from within. */
struct lead_fence;
void csv_wire_preempt(struct csv_wire *w, const struct lead_fence *what);

/* csv_wire_clear() - before a run of this node begins: is nothing left of an earlier godwit-csvd of
 * the cluster? Kills it. Asked again. */
bool csv_wire_clear(struct csv_wire *w);

/* csv_wire_stop() - answer all who wait, before the server goes. NULL is fine, as below. */
void csv_wire_stop(struct csv_wire *w);
void csv_wire_destroy(struct csv_wire *w);

#endif
