/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BIN_GODWIT_CSV_H
#define BIN_GODWIT_CSV_H

/* csv.c works on devices, csv_service.c talks to godwit-csvd. Commands: as cli_cmd.run. */

#include <stdbool.h>

#include "base/api/api.h"
#include "base/attr.h"
#include "base/cli/cli.h"

struct errbuf;
struct guid;
struct json_t;

/* csvd_call() - ask godwit-csvd of this host, or of --host. As godwit_call(). */
MUST_USE int csvd_call(const struct cli_call *call, enum api_method method, const char *path,
                       const struct json_t *body, struct json_t **out, struct errbuf *eb);

/* csv_in_cluster() - the service of this host, or of --host, keeps volumes for a cluster. */
bool csv_in_cluster(const struct cli_call *call);

/* csv_refuse_cluster() - before somebody writes to volume @id past everybody: the cluster of this
 * host does not use it, and no node has it open still. Returns 0, also if there is nobody to ask;
 * -EBUSY. */
MUST_USE int csv_refuse_cluster(const struct cli_call *call, const struct guid *id,
                                struct errbuf *eb);

/* csv_use_call() - to whoever keeps this host's volumes: godwitd in a cluster, else godwit-csvd. As
 * godwit_call(). */
MUST_USE int csv_use_call(const struct cli_call *call, enum api_method method, const char *path,
                          const struct json_t *body, struct json_t **out, struct errbuf *eb);

int csv_list_run(const struct cli_call *call, void *arg);
int csv_show_run(const struct cli_call *call, void *arg);
int csv_move_run(const struct cli_call *call, void *arg);
int csv_evict_run(const struct cli_call *call, void *arg);

#endif
