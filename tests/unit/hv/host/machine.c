/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/hv/host/machine.h"

#include <stdio.h>
#include <string.h>

#include "base/attr.h"

#define CPU "/sys/devices/system/cpu"

static const struct {
	const char *path;
	const char *text;
} files[] = {
	{"/proc/cpuinfo", "processor\t: 0\nvendor_id\t: AuthenticAMD\n"
                          "model name\t: AMD EPYC 7302 16-Core Processor\n"
                          "flags\t\t: fpu tsc lm nx svm npt constant_tsc nonstop_tsc\n\n"
                          "processor\t: 1\nmodel name\t: another\nflags\t: none\n"},
	{CPU "/cpu0/topology/physical_package_id", "0\n"},
	{CPU "/cpu0/topology/core_id", "0\n"},
	{CPU "/cpu1/topology/physical_package_id", "0\n"},
	{CPU "/cpu1/topology/core_id", "1\n"},
	{CPU "/cpu2/topology/physical_package_id", "1\n"},
	{CPU "/cpu2/topology/core_id", "0\n"},
	{CPU "/cpu3/topology/physical_package_id", "0\n"},
	{CPU "/cpu3/topology/core_id", "0\n"},
	{CPU "/cpu4/online", "0\n"},
	{CPU "/vulnerabilities/meltdown", "Not affected\n"},
	{CPU "/vulnerabilities/spectre_v2", "Mitigation: Retpolines\n"},
	{"/sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n"},
	{"/sys/module/kvm_amd/parameters/npt", "Y\n"},
	{"/sys/module/kvm_amd/parameters/nested", "1\n"},
	{"/proc/meminfo",
         "MemTotal:       65800000 kB\nMemFree: 1 kB\nMemAvailable:   60000000 kB\n"
         "HugePages_Total:      16\nHugePages_Free:       12\n"
         "Hugepagesize:       2048 kB\n"},
	{"/sys/kernel/mm/transparent_hugepage/shmem_enabled",
         "always within_size [advise] never deny force\n"},
	{"/proc/sys/vm/overcommit_memory", "0\n"},
	{"/sys/devices/system/node/node0/cpulist", "0-1,3\n"},
	{"/sys/devices/system/node/node0/meminfo", "Node 0 MemTotal:       32900000 kB\n"},
	{"/sys/devices/system/node/node1/cpulist", "2\n"},
	{"/sys/devices/system/node/node1/meminfo", "Node 1 MemTotal:       32900000 kB\n"},
	{"/sys/devices/system/node/possible", "0-1\n"},
	{"/proc/sys/kernel/osrelease", "6.1.0-18-amd64\n"},
	{"/proc/sys/kernel/hostname", "alpha\n"},
	{"/etc/os-release", "NAME=\"Debian\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n"},
	{"/sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory hugetlb pids rdma misc\n"},
	{"/proc/sys/kernel/seccomp/actions_avail", "kill_process trap errno allow\n"},
	{"/dev/fuse", ""},
	{"/dev/net/tun", ""},
	{"/proc/sys/net/ipv4/tcp_available_ulp", "espintcp mptcp tls\n"},
	{"/lib/modules/6.1.0-18-amd64/modules.builtin", "kernel/fs/ext4/ext4.ko\n"},
	{"/lib/modules/6.1.0-18-amd64/modules.dep", "kernel/net/bridge/bridge.ko: a\n"},
	{"/sys/class/net/lo/address", "00:00:00:00:00:00\n"},
	{"/sys/class/net/eno1/address", "52:54:00:12:34:56\n"},
	{"/sys/class/net/eno1/operstate", "up\n"},
	{"/sys/class/net/eno1/speed", "10000\n"},
	{"/sys/class/net/eno1/mtu", "9000\n"},
	{"/sys/class/net/eno1/device/vendor", "0x8086\n"},
	{"/sys/class/net/br0/address", "52:54:00:12:34:57\n"},
	{"/sys/class/net/br0/operstate", "down\n"},
	{"/sys/class/net/br0/speed", "-1\n"},
	{"/sys/class/net/br0/mtu", "1500\n"},
	{"/sys/class/infiniband/mlx5_0/ports/1/state", "4: ACTIVE\n"},
	{"/sys/class/infiniband/mlx5_0/ports/1/rate", "100 Gb/sec (4X EDR)\n"},
	{"/sys/class/infiniband/mlx5_0/ports/1/link_layer", "Ethernet\n"},
};

static const char *const programs[] = {"/usr/sbin/nft", "/usr/sbin/dnsmasq"};

void machine_init(struct machine *machine)
{
	struct host_probe *probe = &machine->probe;

	memset(machine, 0, sizeof(*machine));
	tree_init(&machine->tree);
	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		tree_file(&machine->tree, files[i].path, files[i].text);
	}
	for (size_t i = 0; i < ARRAY_LEN(programs); i++) {
		tree_program(&machine->tree, programs[i], "");
	}
	(void)snprintf(probe->fs.root, sizeof(probe->fs.root), "%s", machine->tree.root);
	probe->kvm.api_version = KVM_PROBE_API_VERSION;
	probe->kvm.vcpus_max = 1024;
	probe->kvm.memslots_max = 32764;
	for (size_t i = 0; i < KVM_PROBE_CAPS_MAX; i++) {
		probe->kvm.caps[i] = 1;
	}
	probe->clock_synced = true;
	probe->clock_error_us = 1500;
	probe->state_dir = "/var/lib/godwit";
	probe->space_free_bytes = 100ull << 30;
	probe->space_total_bytes = 200ull << 30;
}

void machine_restore(struct machine *machine, const char *path)
{
	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		if (strcmp(files[i].path, path) == 0) {
			tree_file(&machine->tree, path, files[i].text);
			return;
		}
	}
	for (size_t i = 0; i < ARRAY_LEN(programs); i++) {
		if (strcmp(programs[i], path) == 0) {
			tree_program(&machine->tree, path, "");
			return;
		}
	}
	tree_remove(&machine->tree, path);
}

void machine_fini(struct machine *machine)
{
	tree_fini(&machine->tree);
}
