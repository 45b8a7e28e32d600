/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BIN_GODWITD_HA_DRAIN_H
#define BIN_GODWITD_HA_DRAIN_H

/*
 * ha_drain - maintenance of nodes, between the files that do it:
 *
 *	ha_drain.c   node drain: the job that asks for it and watches
 *	ha_rows.c    VM by VM: where it goes or is, and why not
 *	ha_back.c    node resume: the job that brings VMs back
 *
 * What is to be done is in the database (cluster/ha/maint.h) and done by the leader; jobs only say
 * how far it is. docs/decisions/0184, 0220.
 */

#include "bin/godwitd/ha_int.h"
#include "cluster/ha/maint.h"

struct api_req;
struct job;

/* What is left of a drain, counted. */
struct ha_rows {
	uint32_t total;
	uint32_t left;    /* still on the node, or on their way to it */
	uint32_t blocked; /* of these: cannot go as things are */
	uint32_t leave;   /* of these: nobody waits for */
	uint32_t untold;  /* have gone, and nobody has said how (yet) */
};

/*
 * ha_rows() - the VMs of @drain of @node, each {"vm", "state", "to", "how", "text", "hint",
 * "blackout_ns", "total_ns"}, as far as known. A new array; NULL = no memory.
 */
json_t *ha_rows(struct ha_api *api, uint32_t node, const struct maint_drain *drain,
                struct ha_rows *out);

/* ha_rows_plan() - how @node would be emptied now; the same rows. */
json_t *ha_rows_plan(struct ha_api *api, uint32_t node, enum maint_fallback fallback,
                     uint32_t moves, struct ha_rows *out);

/* ha_drain_undo() - @node takes VMs again, those on their way stay. Returns 0; as ha_drain(). */
MUST_USE int ha_drain_undo(struct ha_api *api, uint32_t node);

/* ha_drain_forget() - the drain of @node is over for good. */
void ha_drain_forget(struct ha_api *api, uint32_t node);

/* ha_node_usable() - may VMs come to it? */
bool ha_node_usable(const struct ha_api *api, uint32_t node);

/*
 * ha_back_begin() - a job that brings VMs back to @node once it takes VMs; @policy: those that
 * prefer it to where they are. *job: borrowed until the loop runs.
 * Returns 0; -EBUSY one is under way; -errno of job_new().
 */
MUST_USE int ha_back_begin(struct ha_api *api, uint32_t node, bool policy, const json_t *vms,
                           struct job **job, struct errbuf *eb);
void ha_back_look(struct ha_api *api);
void ha_back_stop(struct ha_api *api);

#endif
