/* SPDX-License-Identifier: Apache-2.0 */
/* Memory: how much, in which pages, and does the kernel let us have it. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fmt.h"
#include "base/report.h"
#include "hv/host/host_int.h"

#define TOTAL_FAIL_BYTES (400ull << 20) /* the services alone, and one small VM */
#define TOTAL_WARN_BYTES (2ull << 30)
#define FREE_WARN_BYTES (256ull << 20)

static const struct report_check total = {
	.id = "memory.total",
	.what = "Memory",
	.needed = "2 GiB or more",
	.mend = "Only very small VMs fit: add memory.",
};
static const struct report_check available = {
	.id = "memory.available",
	.what = "Available memory",
	.needed = "room for VMs",
	.mend = "Something else uses the memory: 'ps aux --sort -rss | head' shows what.",
};
static const struct report_check pages = {
	.id = "memory.hugepages",
	.what = "Huge pages",
	.needed = "transparent for shared memory (advise) or reserved",
	.mend = "VMs run and arrive more slowly without them: echo advise > "
		"/sys/kernel/mm/transparent_hugepage/shmem_enabled.",
};
static const struct report_check overcommit = {
	.id = "memory.overcommit",
	.what = "Memory overcommit",
	.needed = "not strict (vm.overcommit_memory 0 or 1)",
	.mend = "Strict accounting refuses the memory of large VMs: sysctl vm.overcommit_memory=0.",
};
static const struct report_check numa = {
	.id = "memory.numa",
	.what = "NUMA nodes",
	.needed = "any number",
	.mend = "Nothing.",
};

uint64_t host_meminfo_bytes(const struct hostfs *fs, const char *key)
{
	char text[8192];
	char value[64];
	char *end = NULL;

	if (hostfs_read(fs, "/proc/meminfo", text, sizeof(text)) < 0 ||
	    !hostfs_field(text, key, value, sizeof(value))) {
		return 0;
	}

	uint64_t number = strtoull(value, &end, 10);

	return strcmp(end, " kB") == 0 && number < UINT64_MAX / 1024 ? number * 1024 : number;
}

static void check_pages(const struct host_probe *probe, struct report *report)
{
	uint64_t reserved = host_meminfo_bytes(&probe->fs, "HugePages_Total");
	uint64_t size = host_meminfo_bytes(&probe->fs, "Hugepagesize");
	char modes[64];
	char mode[16] = "none";
	char text[FMT_MAX];

	/* Guest memory is shared memory. "always within_size [advise] never deny force": the
	 * brackets mark what is on. */
	if (hostfs_read(&probe->fs, "/sys/kernel/mm/transparent_hugepage/shmem_enabled", modes,
	                sizeof(modes)) > 0 &&
	    strchr(modes, '[') != NULL) {
		const char *begin = strchr(modes, '[') + 1;

		(void)snprintf(mode, sizeof(mode), "%.*s", (int)strcspn(begin, "]"), begin);
	}

	bool transparent = strcmp(mode, "none") != 0 && strcmp(mode, "never") != 0 &&
	                   strcmp(mode, "deny") != 0;

	report_add(report, &pages, transparent || reserved > 0 ? REPORT_OK : REPORT_WARN,
	           "transparent: %s, reserved: %" PRIu64 " of %s", mode, reserved,
	           fmt_size(size, text));
}

uint64_t host_memory_available(const struct hostfs *fs)
{
	return host_meminfo_bytes(fs, "MemAvailable");
}

static int count_node(const char *name, void *arg)
{
	*(int *)arg += strncmp(name, "node", 4) == 0 && name[4] >= '0' && name[4] <= '9';
	return 0;
}

void host_check_memory(const struct host_probe *probe, struct report *report)
{
	uint64_t all = host_meminfo_bytes(&probe->fs, "MemTotal");
	uint64_t unused = host_memory_available(&probe->fs);
	uint64_t mode = 0;
	int nodes = 0;
	char text[FMT_MAX];

	report_add(report, &total,
	           all < TOTAL_FAIL_BYTES   ? REPORT_FAIL
	           : all < TOTAL_WARN_BYTES ? REPORT_WARN
	                                    : REPORT_OK,
	           "%s", fmt_size(all, text));
	report_add(report, &available, unused < FREE_WARN_BYTES ? REPORT_WARN : REPORT_OK, "%s",
	           fmt_size(unused, text));
	check_pages(probe, report);
	if (hostfs_u64(&probe->fs, "/proc/sys/vm/overcommit_memory", &mode) == 0) {
		report_add(report, &overcommit, mode == 2 ? REPORT_WARN : REPORT_OK, "%s",
		           mode == 2 ? "strict (2)" : "not strict");
	}
	if (hostfs_list(&probe->fs, "/sys/devices/system/node", count_node, &nodes) < 0 ||
	    nodes == 0) {
		nodes = 1; /* a kernel without NUMA */
	}
	report_add(report, &numa, REPORT_INFO, "%d", nodes);
}
