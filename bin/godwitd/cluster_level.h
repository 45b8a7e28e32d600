/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BIN_GODWITD_CLUSTER_LEVEL_H
#define BIN_GODWITD_CLUSTER_LEVEL_H

/*
 * cluster_level - what the nodes of a cluster are sure to understand, and what is refused until
 * then: nodes of different versions run one cluster. docs/decisions/0290. Loop's thread.
 */

#include <stdint.h>

#include "base/api/server.h"
#include "base/attr.h"
#include "base/json.h"

struct errbuf;
struct member;

/*
 * cluster_level_needs() - @what, an option, needs functional level @level.
 * Returns 0; -ENOTSUP the cluster is below it: what to do is the hint.
 */
MUST_USE int cluster_level_needs(const struct member *m, uint32_t level, const char *what,
                                 struct errbuf *eb);

/*
 * cluster_level_doc() - may @doc be a VM's document now? What it has @before is there already;
 * NULL: it is new. As above.
 */
MUST_USE int cluster_level_doc(const struct member *m, const json_t *before, const json_t *doc,
                               struct errbuf *eb);

/* cluster_on_upgrade() - POST /v1/cluster/upgrade: as high as this program can. @arg: the
 * cluster_api. */
enum api_then cluster_on_upgrade(struct api_req *req, void *arg);

#endif
