/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BIN_COMMON_HOSTINFO_H
#define BIN_COMMON_HOSTINFO_H

/*
 * hostinfo - what all parts of Godwit say about this machine, wired together: hv/host and
 * cluster/preflight do not know each other. godwitd serves it, godwit asks itself when no godwitd
 * answers. docs/spec/cli-json.md.
 */

#include "base/attr.h"

struct errbuf;
struct json_t;

#define HOSTINFO_STATE_DIR "/var/lib/godwit"

/*
 * hostinfo_check() - every requirement with its verdict.
 * @source: who looked, "godwitd" or "local". @out: a new reference.
 * Returns 0; -ENOMEM; -E2BIG.
 * Context: any thread; starts programs and reads many files, some 50 ms; seconds if the machine
 * is ill.
 */
MUST_USE int hostinfo_check(const char *state_dir, const char *source, struct json_t **out,
                            struct errbuf *eb);

/* hostinfo_show() - what this machine is. As above. */
MUST_USE int hostinfo_show(const char *state_dir, const char *source, struct json_t **out,
                           struct errbuf *eb);

#endif
