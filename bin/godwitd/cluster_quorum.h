/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BIN_GODWITD_CLUSTER_QUORUM_H
#define BIN_GODWITD_CLUSTER_QUORUM_H

/*
 * cluster_quorum - the witness and a person's word: votes beside the nodes' (docs/quorum.md).
 *
 * Each node looks at the witness now and then, and says in the database that it sees it. The leader
 * gives it a vote, in the log and then in corosync, while the number of the nodes' votes is even.
 * Of a half that is left the leader asks for the vote (cluster/witness), on a thread; the members
 * hear of it with the next hellos and let their corosync count it.
 *
 * Thread: the loop's.
 */

#include <stdbool.h>

#include "base/api/server.h"
#include "base/attr.h"
#include "base/json.h"

struct cluster_api;
struct cluster_quorum;
struct errbuf;

MUST_USE int cluster_quorum_create(struct cluster_api *api, struct cluster_quorum **out,
                                   struct errbuf *eb);

/* cluster_quorum_stop() - after the works have ended. NULL is fine. */
void cluster_quorum_destroy(struct cluster_quorum *q);

/* cluster_quorum_leave() - out of the cluster: nothing is wanted any more. */
void cluster_quorum_leave(struct cluster_quorum *q);

/* cluster_quorum_tick() - with or without quorum: what is to be done here. */
void cluster_quorum_tick(struct cluster_quorum *q);

/* cluster_quorum_told() - say in the database what we see. Proposes at most one change. */
void cluster_quorum_told(struct cluster_quorum *q);

/* cluster_quorum_lead() - the leader's next step. Returns whether something was to be done. */
bool cluster_quorum_lead(struct cluster_quorum *q);

/* cluster_quorum_show() - the witness, or null. */
json_t *cluster_quorum_show(const struct cluster_quorum *q);

enum api_then cluster_on_witness(struct api_req *req, void *arg);
enum api_then cluster_on_force(struct api_req *req, void *arg);

#endif
