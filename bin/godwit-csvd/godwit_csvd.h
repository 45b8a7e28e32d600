/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BIN_GODWIT_CSVD_GODWIT_CSVD_H
#define BIN_GODWIT_CSVD_GODWIT_CSVD_H

/* godwit-csvd - the shared-volume service of a node. */

#include "base/cli/cli.h"

/* Options and manual of godwit-csvd; runs the service. */
extern const struct cli_app godwit_csvd_app;

#endif
