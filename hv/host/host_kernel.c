/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel and its services: version, io_uring, control groups, seccomp, FUSE, time. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/report.h"
#include "hv/host/host_int.h"

#define CLOCK_ERROR_WARN_US 1000000 /* a second: logs of nodes can no longer be put in order */

static const struct report_check version = {
	.id = "kernel.version",
	.what = "Linux kernel",
	.needed = "6.1 or newer",
	.mend = "Install a newer kernel; Godwit is tested on 6.1 (Debian 12) and later.",
};
static const struct report_check io_uring = {
	.id = "kernel.io-uring",
	.what = "io_uring",
	.needed = "allowed",
	.mend = "All disk I/O uses it: sysctl kernel.io_uring_disabled=0, and let no seccomp "
		"filter of "
		"a container forbid it.",
};
static const struct report_check cgroup = {
	.id = "kernel.cgroup2",
	.what = "Control groups",
	.needed = "version 2 with cpu, io, memory, pids",
	.mend = "Each VM gets its own group: boot with systemd.unified_cgroup_hierarchy=1 (the "
		"standard since Debian 11).",
};
static const struct report_check seccomp = {
	.id = "kernel.seccomp",
	.what = "seccomp filters",
	.needed = "to lock in the worker processes",
	.mend = "Run a kernel with CONFIG_SECCOMP_FILTER.",
};
static const struct report_check fuse = {
	.id = "kernel.fuse",
	.what = "FUSE",
	.needed = "for the mounted view of shared volumes",
	.mend = "modprobe fuse.",
};
static const struct report_check ktls = {
	.id = "kernel.ktls",
	.what = "Kernel TLS",
	.needed = "for fast encrypted migration",
	.mend = "modprobe tls. Without it migration encrypts in the program, which costs CPU time.",
};
static const struct report_check clock = {
	.id = "time.sync",
	.what = "Time synchronization",
	.needed = "the clock is kept by a time service",
	.mend = "Install chrony (or systemd-timesyncd) and let it reach a server; certificates and "
		"the order of events across nodes rest on it.",
};

enum host_module host_module(const struct hostfs *fs, const char *name)
{
	char path[HOST_LINE_MAX];
	char release[128];
	char file[64];

	(void)snprintf(path, sizeof(path), "/sys/module/%s", name);
	if (hostfs_exists(fs, path)) {
		return HOST_MODULE_PRESENT;
	}
	if (hostfs_read(fs, "/proc/sys/kernel/osrelease", release, sizeof(release)) < 0) {
		return HOST_MODULE_UNKNOWN;
	}
	(void)snprintf(file, sizeof(file), "/%s.ko", name);
	(void)snprintf(path, sizeof(path), "/lib/modules/%s/modules.builtin", release);
	if (hostfs_has_text(fs, path, file)) {
		return HOST_MODULE_PRESENT;
	}
	(void)snprintf(path, sizeof(path), "/lib/modules/%s/modules.dep", release);
	if (!hostfs_exists(fs, path)) {
		return HOST_MODULE_UNKNOWN;
	}
	return hostfs_has_text(fs, path, file) ? HOST_MODULE_LOADABLE : HOST_MODULE_ABSENT;
}

/* "6.1.0-18-amd64" is 6 and 1; anything strange is 0 and 0. */
static void parse_release(const char *release, unsigned long *major, unsigned long *minor)
{
	char *end = NULL;

	*minor = 0;
	*major = strtoul(release, &end, 10);
	if (*end == '.') {
		*minor = strtoul(end + 1, NULL, 10);
	}
}

static void check_version(const struct host_probe *probe, struct report *report)
{
	char release[128];
	unsigned long major;
	unsigned long minor;

	(void)hostfs_read(&probe->fs, "/proc/sys/kernel/osrelease", release, sizeof(release));
	parse_release(release, &major, &minor);

	bool tested = major > 6 || (major == 6 && minor >= 1);
	bool usable = major > 5 || (major == 5 && minor >= 15);

	report_add(report, &version,
	           tested   ? REPORT_OK
	           : usable ? REPORT_WARN
	                    : REPORT_FAIL,
	           "%s", release[0] != '\0' ? release : "unknown");
}

static void check_cgroup(const struct host_probe *probe, struct report *report)
{
	static const char *const wanted[] = {"cpu", "io", "memory", "pids"};
	char controllers[HOST_LINE_MAX];
	char missing[64] = "";

	if (hostfs_read(&probe->fs, "/sys/fs/cgroup/cgroup.controllers", controllers,
	                sizeof(controllers)) < 0) {
		report_add(report, &cgroup, REPORT_FAIL, "not mounted on /sys/fs/cgroup");
		return;
	}
	for (size_t i = 0; i < ARRAY_LEN(wanted); i++) {
		size_t used = strlen(missing);

		if (!hostfs_word(controllers, wanted[i])) {
			(void)snprintf(missing + used, sizeof(missing) - used, " %s", wanted[i]);
		}
	}
	if (missing[0] != '\0') {
		report_add(report, &cgroup, REPORT_FAIL, "version 2 without%s", missing);
	} else {
		report_add(report, &cgroup, REPORT_OK, "version 2: %s", controllers);
	}
}

static void check_fuse(const struct host_probe *probe, struct report *report)
{
	if (hostfs_exists(&probe->fs, "/dev/fuse")) {
		report_add(report, &fuse, REPORT_OK, "/dev/fuse");
	} else if (host_module(&probe->fs, "fuse") == HOST_MODULE_LOADABLE) {
		report_add(report, &fuse, REPORT_OK, "can be loaded");
	} else {
		report_add(report, &fuse, REPORT_WARN, "missing");
	}
}

static void check_ktls(const struct host_probe *probe, struct report *report)
{
	char protocols[128];

	(void)hostfs_read(&probe->fs, "/proc/sys/net/ipv4/tcp_available_ulp", protocols,
	                  sizeof(protocols));
	if (hostfs_word(protocols, "tls")) {
		report_add(report, &ktls, REPORT_OK, "yes");
	} else if (host_module(&probe->fs, "tls") == HOST_MODULE_LOADABLE) {
		report_add(report, &ktls, REPORT_OK, "can be loaded");
	} else {
		report_add(report, &ktls, REPORT_WARN, "missing");
	}
}

static void check_clock(const struct host_probe *probe, struct report *report)
{
	if (!probe->clock_synced) {
		report_add(report, &clock, REPORT_WARN, "not synchronized");
	} else {
		report_add(report, &clock,
		           probe->clock_error_us > CLOCK_ERROR_WARN_US ? REPORT_WARN : REPORT_OK,
		           "yes, error at most %" PRId64 " ms", probe->clock_error_us / 1000);
	}
}

void host_check_kernel(const struct host_probe *probe, struct report *report)
{
	check_version(probe, report);
	if (probe->io_uring_err == 0) {
		report_add(report, &io_uring, REPORT_OK, "yes");
	} else {
		report_add(report, &io_uring, REPORT_FAIL, "%s",
		           probe->io_uring_err == -ENOSYS  ? "not in this kernel"
		           : probe->io_uring_err == -EPERM ? "forbidden"
		                                           : strerrordesc_np(-probe->io_uring_err));
	}
	check_cgroup(probe, report);

	bool filters = hostfs_exists(&probe->fs, "/proc/sys/kernel/seccomp/actions_avail");

	report_add(report, &seccomp, filters ? REPORT_OK : REPORT_FAIL, "%s",
	           filters ? "yes" : "missing");
	check_fuse(probe, report);
	check_ktls(probe, report);
	check_clock(probe, report);
}
