/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BIN_GODWIT_NODE_H
#define BIN_GODWIT_NODE_H

/* node - `godwit node drain` and `resume`; the others are in cluster.c. */

#include "bin/godwit/godwit.h"

int node_drain_run(const struct cli_call *call, void *arg);
int node_resume_run(const struct cli_call *call, void *arg);
int node_confirm_run(const struct cli_call *call, void *arg);

extern const struct cli_opt node_drain_opts[];
extern const struct cli_opt node_resume_opts[];
extern const struct cli_opt node_confirm_opts[];

/* flight.c */
int node_flight_run(const struct cli_call *call, void *arg);
extern const struct cli_opt node_flight_opts[];

#endif
