/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_WORKER_WORKER_H
#define HV_WORKER_WORKER_H

/*
 * worker - one VM as one process: builds the partition and its devices from a definition and the
 * descriptors it was given, serves the control socket, ends when the VM is off.
 *
 * The process has no rights: no capabilities, its own uid, no path to open; everything it touches
 * comes as a descriptor (KVM, kernel, disks, taps, console log). One device thread (the caller of
 * worker_run()) plus one thread per VP.
 *
 * Commands on the control socket: docs/formats/worker-control.md.
 */

#include <stdbool.h>

#include "base/attr.h"

struct errbuf;

#define WORKER_DISK_FILES_MAX 64u /* a chain of differencing disks */

/*
 * worker_run() - read the configuration from @config_fd (JSON: {"vm": definition, "fds": {...}})
 * and live until the VM is off. @listen_fd: control socket, listening. @seal: sandbox_seal() once
 * everything is built.
 * Returns 0 after the VM went off; -errno if it could not be built (@eb).
 */
MUST_USE int worker_run(int config_fd, int listen_fd, bool seal, struct errbuf *eb);

#endif
