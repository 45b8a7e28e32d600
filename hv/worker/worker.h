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

struct worker_ext_ops;

struct worker_cfg {
	int config_fd; /* JSON: {"vm": definition, "fds": {...}}, docs/formats/worker-control.md */
	int listen_fd; /* control socket, listening; taken */
	bool seal;     /* sandbox_seal() once everything is built */
	bool eoi_assist; /* kvm_eoi_assist(), asked before /sys was out of reach */
	const struct worker_ext_ops
		*ext; /* what the program adds (hv/worker/worker_ext.h) or NULL */
};

/*
 * worker_run() - build the VM and live until it is off.
 * Returns 0 after the VM went off; -errno if it could not be built (@eb).
 */
MUST_USE int worker_run(const struct worker_cfg *cfg, struct errbuf *eb);

#endif
