/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/preflight/preflight.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/report.h"
#include "base/run.h"

#define TEXT_MAX 256
#define COROSYNC_TIMEOUT_NS (5 * NS_PER_S)
#define COROSYNC_MAJOR_MIN 3 /* kronosnet: several encrypted links */

static const struct report_check corosync = {
	.id = "cluster.corosync",
	.what = "corosync",
	.needed = "3.0 or newer, to join a cluster",
	.mend = "apt-get install corosync.",
};
static const struct report_check watchdog = {
	.id = "cluster.watchdog",
	.what = "Watchdog",
	.needed = "a hardware watchdog, to restart a hung node in time",
	.mend = "Load the driver of the machine's watchdog (iTCO_wdt, ipmi_watchdog, i6300esb, "
		"...). "
		"'modprobe softdog' is better than nothing, but dies with the kernel.",
};
static const struct report_check fence = {
	.id = "cluster.fence-agents",
	.what = "Fence agents",
	.needed = "to power off a failed node through its service processor",
	.mend = "apt-get install fence-agents. Without one, failover waits until the failed node's "
		"lease has run out.",
};
static const struct report_check links = {
	.id = "cluster.links",
	.what = "Network adapters",
	.needed = "two or more, so that one network may fail",
	.mend = "Add a second adapter on a second switch; cluster traffic then uses both.",
};
static const struct report_check hostname = {
	.id = "cluster.hostname",
	.what = "Host name",
	.needed = "a name of its own, not localhost",
	.mend = "hostnamectl set-hostname NAME.",
};
static const struct report_check machine_id = {
	.id = "cluster.machine-id",
	.what = "Machine id",
	.needed = "unique in the cluster",
	.mend = "systemd-machine-id-setup. Cloned machines: empty /etc/machine-id first.",
};

void preflight_version_parse(const char *text, char *buf, size_t len)
{
	static const char before[] = "version '";
	const char *at = strstr(text, before);
	size_t n = 0;

	buf[0] = '\0';
	if (at == NULL) {
		return;
	}
	at += strlen(before);
	n = strspn(at, "0123456789.");
	if (n > 0 && n < len) {
		memcpy(buf, at, n);
		buf[n] = '\0';
	}
}

void preflight_probe_run(struct preflight_probe *out)
{
	char path[TEXT_MAX];
	char text[1024];

	memset(out, 0, sizeof(*out));
	if (!hostfs_program(&out->fs, "corosync", path, sizeof(path))) {
		out->corosync_err = -ENOENT;
		return;
	}

	const char *argv[] = {path, "-v", NULL};
	int status = run_capture(argv, COROSYNC_TIMEOUT_NS, text, sizeof(text));

	if (status < 0) {
		out->corosync_err = status;
		return;
	}
	preflight_version_parse(text, out->corosync_version, sizeof(out->corosync_version));
}

static void check_corosync(const struct preflight_probe *probe, struct report *report)
{
	if (probe->corosync_err == -ENOENT) {
		report_add(report, &corosync, REPORT_WARN, "missing");
	} else if (probe->corosync_err != 0) {
		report_add(report, &corosync, REPORT_WARN, "does not start: %s",
		           strerrordesc_np(-probe->corosync_err));
	} else if (probe->corosync_version[0] == '\0') {
		report_add(report, &corosync, REPORT_WARN, "of unknown version");
	} else {
		bool new_enough = strtoul(probe->corosync_version, NULL, 10) >= COROSYNC_MAJOR_MIN;

		report_add(report, &corosync, new_enough ? REPORT_OK : REPORT_WARN, "%s",
		           probe->corosync_version);
	}
}

struct watchdog_list {
	const struct hostfs *fs;
	char names[TEXT_MAX];
	bool hardware;
};

static int add_watchdog(const char *name, void *arg)
{
	struct watchdog_list *list = arg;
	size_t used = strlen(list->names);
	char path[TEXT_MAX + 64];
	char identity[64];

	(void)snprintf(path, sizeof(path), "/sys/class/watchdog/%.200s/identity", name);
	if (hostfs_read(list->fs, path, identity, sizeof(identity)) <= 0) {
		(void)snprintf(identity, sizeof(identity), "unknown");
	}
	list->hardware = list->hardware || strcmp(identity, "Software Watchdog") != 0;
	(void)snprintf(list->names + used, sizeof(list->names) - used, "%s%.32s (%s)",
	               used > 0 ? ", " : "", name, identity);
	return 0;
}

static void check_watchdog(const struct preflight_probe *probe, struct report *report)
{
	struct watchdog_list list = {.fs = &probe->fs};

	(void)hostfs_list(&probe->fs, "/sys/class/watchdog", add_watchdog, &list);
	if (list.names[0] == '\0') {
		report_add(report, &watchdog, REPORT_WARN, "none");
	} else {
		report_add(report, &watchdog, list.hardware ? REPORT_OK : REPORT_WARN, "%s",
		           list.names);
	}
}

static int count_fence(const char *name, void *arg)
{
	*(unsigned *)arg += strncmp(name, "fence_", strlen("fence_")) == 0;
	return 0;
}

static void check_fence(const struct preflight_probe *probe, struct report *report)
{
	unsigned count = 0;

	(void)hostfs_list(&probe->fs, "/usr/sbin", count_fence, &count);
	if (count == 0) {
		report_add(report, &fence, REPORT_WARN, "none");
	} else {
		report_add(report, &fence, REPORT_OK, "%u in /usr/sbin", count);
	}
}

struct link_list {
	const struct hostfs *fs;
	char names[TEXT_MAX];
	unsigned count;
};

/* Physical adapters only: bridges and taps are made of them. */
static int add_link(const char *name, void *arg)
{
	struct link_list *list = arg;
	size_t used = strlen(list->names);
	char path[TEXT_MAX];

	(void)snprintf(path, sizeof(path), "/sys/class/net/%.64s/device", name);
	if (hostfs_exists(list->fs, path)) {
		list->count++;
		(void)snprintf(list->names + used, sizeof(list->names) - used, "%s%.16s",
		               used > 0 ? ", " : "", name);
	}
	return 0;
}

static void check_links(const struct preflight_probe *probe, struct report *report)
{
	struct link_list list = {.fs = &probe->fs};

	(void)hostfs_list(&probe->fs, "/sys/class/net", add_link, &list);
	report_add(report, &links, list.count >= 2 ? REPORT_OK : REPORT_WARN, "%s",
	           list.count > 0 ? list.names : "none");
}

static void check_identity(const struct preflight_probe *probe, struct report *report)
{
	char text[TEXT_MAX];
	bool good;

	(void)hostfs_read(&probe->fs, "/proc/sys/kernel/hostname", text, sizeof(text));
	good = text[0] != '\0' && strcmp(text, "(none)") != 0 &&
	       strncmp(text, "localhost", strlen("localhost")) != 0;
	report_add(report, &hostname, good ? REPORT_OK : REPORT_WARN, "%s",
	           text[0] != '\0' ? text : "none");
	(void)hostfs_read(&probe->fs, "/etc/machine-id", text, sizeof(text));
	good = strlen(text) == 32 && strspn(text, "0123456789abcdef") == 32;
	report_add(report, &machine_id, good ? REPORT_OK : REPORT_WARN, "%s", good ? text : "none");
}

void preflight_check(const struct preflight_probe *probe, struct report *report)
{
	check_corosync(probe, report);
	check_watchdog(probe, report);
	check_fence(probe, report);
	check_links(probe, report);
	check_identity(probe, report);
}
