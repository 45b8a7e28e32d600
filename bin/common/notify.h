/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BIN_COMMON_NOTIFY_H
#define BIN_COMMON_NOTIFY_H

/*
 * notify - tell systemd how the service is: ready, stopping, alive. Without systemd (no
 * NOTIFY_SOCKET in the environment) nothing happens.
 * Source: sd_notify(3); by hand, see docs/decisions/0041.
 */

#include <stdint.h>

#include "base/attr.h"

/*
 * notify_send() - send assignments, one a line: "READY=1\nSTATUS=serving".
 * Returns 0, also without systemd; -EAGAIN systemd did not read for a second; -errno.
 */
MUST_USE int notify_send(const char *text);

/* notify_watchdog_ns() - how often "WATCHDOG=1" is expected at the latest [ns]; 0 = never. */
uint64_t notify_watchdog_ns(void);

#endif
