/* SPDX-License-Identifier: Apache-2.0 */
/* What the virtual switches need, and RDMA. */
#include <stdio.h>
#include <string.h>

#include "base/report.h"
#include "hv/host/host_int.h"

static const struct report_check tun = {
	.id = "net.tun",
	.what = "TUN/TAP device",
	.needed = "/dev/net/tun, for network adapters of VMs",
	.mend = "modprobe tun; a name in /etc/modules-load.d/ does it at every boot.",
};
static const struct report_check bridge = {
	.id = "net.bridge",
	.what = "Kernel bridge",
	.needed = "for virtual switches",
	.mend = "modprobe bridge; install the kernel's full package if it has no such module.",
};
static const struct report_check nftables = {
	.id = "net.nftables",
	.what = "nftables",
	.needed = "for NAT switches",
	.mend = "apt-get install nftables.",
};
static const struct report_check dnsmasq = {
	.id = "net.dnsmasq",
	.what = "dnsmasq",
	.needed = "for NAT switches",
	.mend = "apt-get install dnsmasq-base.",
};
static const struct report_check rdma = {
	.id = "net.rdma",
	.what = "RDMA devices",
	.needed = "only for migration over RDMA",
	.mend = "Nothing.",
};

static void check_program(const struct host_probe *probe, const struct report_check *check,
                          const char *name, struct report *report)
{
	char path[HOST_LINE_MAX];

	if (hostfs_program(&probe->fs, name, path, sizeof(path))) {
		report_add(report, check, REPORT_OK, "%s", path);
	} else {
		report_add(report, check, REPORT_WARN, "missing");
	}
}

static int add_name(const char *name, void *arg)
{
	char *names = arg;
	size_t used = strlen(names);

	(void)snprintf(names + used, HOST_LINE_MAX - used, "%s%s", used > 0 ? ", " : "", name);
	return 0;
}

void host_check_network(const struct host_probe *probe, struct report *report)
{
	char names[HOST_LINE_MAX] = "";

	if (hostfs_exists(&probe->fs, "/dev/net/tun")) {
		report_add(report, &tun, REPORT_OK, "present");
	} else if (host_module(&probe->fs, "tun") == HOST_MODULE_LOADABLE) {
		report_add(report, &tun, REPORT_WARN, "not loaded");
	} else {
		report_add(report, &tun, REPORT_FAIL, "missing");
	}
	switch (host_module(&probe->fs, "bridge")) {
	case HOST_MODULE_PRESENT:
		report_add(report, &bridge, REPORT_OK, "present");
		break;
	case HOST_MODULE_LOADABLE:
		report_add(report, &bridge, REPORT_OK, "can be loaded");
		break;
	case HOST_MODULE_ABSENT:
		report_add(report, &bridge, REPORT_FAIL, "missing");
		break;
	case HOST_MODULE_UNKNOWN:
		report_add(report, &bridge, REPORT_WARN, "cannot tell: no list of kernel modules");
		break;
	}
	check_program(probe, &nftables, "nft", report);
	check_program(probe, &dnsmasq, "dnsmasq", report);
	(void)hostfs_list(&probe->fs, "/sys/class/infiniband", add_name, names);
	report_add(report, &rdma, REPORT_INFO, "%s", names[0] != '\0' ? names : "none");
}
