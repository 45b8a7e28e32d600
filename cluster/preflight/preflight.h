/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLUSTER_PREFLIGHT_PREFLIGHT_H
#define CLUSTER_PREFLIGHT_PREFLIGHT_H

/*
 * preflight - could this machine be a node of a cluster: what clustering adds to `host check`.
 *
 * A machine that stays alone needs none of this, so nothing here is worse than a warning.
 * Facts come through struct preflight_probe, as in hv/host/host.h.
 */

#include <stddef.h>

#include "base/hostfs.h"

struct report;

#define PREFLIGHT_VERSION_MAX 32

struct preflight_probe {
	struct hostfs fs;
	int corosync_err; /* 0; -errno of `corosync -v`; -ENOENT: not installed */
	char corosync_version[PREFLIGHT_VERSION_MAX]; /* "3.1.7"; "" = unknown */
};

/* preflight_probe_run() - ask this machine. Runs `corosync -v`; blocks for seconds at most. */
void preflight_probe_run(struct preflight_probe *out);

/* preflight_check() - add one line per requirement to @report. */
void preflight_check(const struct preflight_probe *probe, struct report *report);

/*
 * preflight_version_parse() - find "version '3.1.7'" in what corosync says about itself.
 * @buf[len]: the version; "" if there is none.
 */
void preflight_version_parse(const char *text, char *buf, size_t len);

#endif
