/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BIN_GODWITD_GODWITD_H
#define BIN_GODWITD_GODWITD_H

/*
 * godwitd - the service of a host: it serves the API, and nothing runs without it but what is
 * already running.
 */

#include "base/cli/cli.h"

/* Options and manual of godwitd; runs the service. */
extern const struct cli_app godwitd_app;

#endif
