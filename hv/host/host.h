/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_HOST_HOST_H
#define HV_HOST_HOST_H

/*
 * host - this machine as a host of partitions: is it fit (`host check`), what is it (`host show`).
 *
 * All facts come through struct host_probe: a root for /proc, /sys and /dev, and the few answers
 * that only system calls give. host_probe_run() fills it from the running machine, tests from
 * made-up ones. The checks themselves do no I/O but reading below that root.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/hostfs.h"
#include "hv/kvm/kvm_probe.h"

struct json_t;
struct report;

struct host_probe {
	struct hostfs fs;
	struct kvm_probe kvm;
	int io_uring_err;       /* 0; -errno of io_uring_setup() on an empty request */
	bool clock_synced;      /* the kernel's clock is kept by a time service */
	int64_t clock_error_us; /* largest error the time service admits */
	const char *state_dir;  /* borrowed; where disks and states go by default */
	int space_err;          /* 0; -errno of asking for the following */
	uint64_t space_free_bytes;
	uint64_t space_total_bytes;
};

/*
 * host_probe_run() - ask this machine.
 * @state_dir: borrowed as long as @out is used; the nearest folder above it counts if it does not
 * exist yet.
 * Context: any thread; may block on a file system that does not answer.
 */
void host_probe_run(const char *state_dir, struct host_probe *out);

/* host_check() - add one line per requirement to @report. */
void host_check(const struct host_probe *probe, struct report *report);

/*
 * host_show() - what this machine is: docs/spec/cli-json.md, "host show".
 * Returns a new reference; NULL = no memory.
 */
struct json_t *host_show(const struct host_probe *probe);

/* host_memory_available() - what new programs may take without swapping [bytes]; 0 = unknown. */
uint64_t host_memory_available(const struct hostfs *fs);

#endif
