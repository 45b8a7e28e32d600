/* SPDX-License-Identifier: Apache-2.0 */
/* `host show`: what this machine is, as JSON. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/fault.h"
#include "base/json.h"
#include "hv/host/host_int.h"

#define PATH_BYTES 512

/* Firmware and drivers may say anything; JSON wants UTF-8. */
static json_t *text_json(char *text)
{
	for (char *at = text; *at != '\0'; at++) {
		if ((unsigned char)*at < 0x20 || (unsigned char)*at >= 0x7f) {
			*at = '?';
		}
	}
	return json_string(text);
}

/* The content of a file; null if there is none. */
static json_t *file_json(const struct hostfs *fs, const char *path)
{
	char text[HOST_LINE_MAX];

	return hostfs_read(fs, path, text, sizeof(text)) < 0 ? json_null() : text_json(text);
}

static json_t *number_json(const struct hostfs *fs, const char *path)
{
	uint64_t number;

	if (hostfs_u64(fs, path, &number) < 0 || number > INT64_MAX) {
		return json_null();
	}
	return json_integer((json_int_t)number);
}

struct topology {
	const struct hostfs *fs;
	uint64_t *cores; /* package << 32 | core, one per thread */
	size_t thread_count;
};

static int add_thread(const char *name, void *arg)
{
	struct topology *topology = arg;
	char path[PATH_BYTES];
	uint64_t package;
	uint64_t core;

	if (strncmp(name, "cpu", 3) != 0 || name[3] < '0' || name[3] > '9' ||
	    topology->thread_count == HOSTFS_LIST_MAX) {
		return 0;
	}
	(void)snprintf(path, sizeof(path),
	               "/sys/devices/system/cpu/%s/topology/physical_package_id", name);
	if (hostfs_u64(topology->fs, path, &package) < 0) {
		return 0; /* offline */
	}
	(void)snprintf(path, sizeof(path), "/sys/devices/system/cpu/%s/topology/core_id", name);
	if (hostfs_u64(topology->fs, path, &core) < 0) {
		return 0;
	}
	topology->cores[topology->thread_count++] = package << 32 | (core & UINT32_MAX);
	return 0;
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a;
	uint64_t y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static json_t *cpu_json(const struct host_probe *probe)
{
	static const char *const virt_names[] = {
		[HOST_VIRT_NONE] = "none", [HOST_VIRT_AMD] = "svm", [HOST_VIRT_INTEL] = "vmx"};
	struct topology topology = {.fs = &probe->fs};
	struct host_cpu cpu;
	size_t core_count = 0;
	size_t socket_count = 0;

	topology.cores = gw_calloc(HOSTFS_LIST_MAX, sizeof(*topology.cores));
	if (topology.cores == NULL) {
		return NULL;
	}
	host_cpu_read(&probe->fs, &cpu);
	(void)hostfs_list(&probe->fs, "/sys/devices/system/cpu", add_thread, &topology);
	qsort(topology.cores, topology.thread_count, sizeof(*topology.cores), by_value);
	for (size_t i = 0; i < topology.thread_count; i++) {
		uint64_t core = topology.cores[i];

		core_count += i == 0 || core != topology.cores[i - 1];
		socket_count += i == 0 || core >> 32 != topology.cores[i - 1] >> 32;
	}
	free(topology.cores);
	return json_pack("{s:o, s:o, s:I, s:I, s:I, s:s}", "model", text_json(cpu.model), "vendor",
	                 text_json(cpu.vendor), "sockets", (json_int_t)socket_count, "cores",
	                 (json_int_t)core_count, "threads", (json_int_t)topology.thread_count,
	                 "virtualization", virt_names[host_cpu_virt(&cpu)]);
}

static json_t *memory_json(const struct host_probe *probe)
{
	const struct hostfs *fs = &probe->fs;

	return json_pack("{s:I, s:I, s:{s:I, s:I, s:I}}", "total_bytes",
	                 (json_int_t)host_meminfo_bytes(fs, "MemTotal"), "available_bytes",
	                 (json_int_t)host_meminfo_bytes(fs, "MemAvailable"), "hugepages",
	                 "size_bytes", (json_int_t)host_meminfo_bytes(fs, "Hugepagesize"), "total",
	                 (json_int_t)host_meminfo_bytes(fs, "HugePages_Total"), "free",
	                 (json_int_t)host_meminfo_bytes(fs, "HugePages_Free"));
}

static json_t *kvm_json(const struct host_probe *probe)
{
	const struct kvm_probe *kvm = &probe->kvm;
	bool there = kvm->open_err == 0 && kvm->api_version >= 0;

	return json_pack("{s:s, s:b, s:o, s:b, s:b, s:o}", "backend", host_kvm_backend(probe),
	                 "available", there, "api_version",
	                 there ? json_integer(kvm->api_version) : json_null(), "nested",
	                 host_kvm_nested(&probe->fs), "hyperv",
	                 kvm_probe_cap_value(kvm, "kvm.hyperv") != 0, "vcpus_max",
	                 there ? json_integer(kvm->vcpus_max) : json_null());
}

/* Builds one object per entry of a folder. */
struct collector {
	const struct hostfs *fs;
	json_t *list;
};

static int collect(struct collector *c, json_t *item)
{
	return json_array_append_new(c->list, item) < 0 ? -ENOMEM : 0;
}

static int add_numa(const char *name, void *arg)
{
	struct collector *c = arg;
	char path[PATH_BYTES];
	char text[4096];
	const char *total;

	if (strncmp(name, "node", 4) != 0 || name[4] < '0' || name[4] > '9') {
		return 0;
	}
	(void)snprintf(path, sizeof(path), "/sys/devices/system/node/%s/meminfo", name);
	(void)hostfs_read(c->fs, path, text, sizeof(text));
	total = strstr(text, "MemTotal:"); /* "Node 0 MemTotal:  123 kB" */
	(void)snprintf(path, sizeof(path), "/sys/devices/system/node/%s/cpulist", name);

	uint64_t bytes = total != NULL ? strtoull(total + strlen("MemTotal:"), NULL, 10) : 0;

	bytes = (bytes & (UINT64_MAX >> 11)) * 1024; /* stays positive, whatever the file says */

	return collect(c, json_pack("{s:I, s:o, s:I}", "node",
	                            (json_int_t)strtoll(name + 4, NULL, 10), "cpus",
	                            file_json(c->fs, path), "memory_bytes", (json_int_t)bytes));
}

static int add_nic(const char *name, void *arg)
{
	struct collector *c = arg;
	char paths[5][PATH_BYTES];
	static const char *const files[] = {"address", "operstate", "speed", "mtu", "device"};
	char copy[HOST_LINE_MAX];

	if (strcmp(name, "lo") == 0) {
		return 0;
	}
	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		(void)snprintf(paths[i], sizeof(paths[i]), "/sys/class/net/%s/%s", name, files[i]);
	}
	(void)snprintf(copy, sizeof(copy), "%s", name);
	return collect(c,
	               json_pack("{s:o, s:o, s:o, s:o, s:o, s:b}", "name", text_json(copy), "mac",
	                         file_json(c->fs, paths[0]), "state", file_json(c->fs, paths[1]),
	                         "speed_mbps", number_json(c->fs, paths[2]), "mtu_bytes",
	                         number_json(c->fs, paths[3]), "physical",
	                         hostfs_exists(c->fs, paths[4])));
}

static int add_rdma(const char *name, void *arg)
{
	struct collector *c = arg;
	char paths[3][PATH_BYTES];
	static const char *const files[] = {"state", "rate", "link_layer"};
	char copy[HOST_LINE_MAX];

	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		(void)snprintf(paths[i], sizeof(paths[i]), "/sys/class/infiniband/%s/ports/1/%s",
		               name, files[i]);
	}
	(void)snprintf(copy, sizeof(copy), "%s", name);
	return collect(c, json_pack("{s:o, s:o, s:o, s:o}", "name", text_json(copy), "state",
	                            file_json(c->fs, paths[0]), "rate", file_json(c->fs, paths[1]),
	                            "link_layer", file_json(c->fs, paths[2])));
}

/* An empty list if the folder is not there; NULL = no memory. */
static json_t *list_json(const struct hostfs *fs, const char *path,
                         int (*fn)(const char *name, void *arg))
{
	struct collector c = {.fs = fs, .list = json_array()};

	if (c.list != NULL && hostfs_list(fs, path, fn, &c) == -ENOMEM) {
		json_decref(c.list);
		return NULL;
	}
	return c.list;
}

static json_t *os_json(const struct hostfs *fs)
{
	char text[4096];
	char name[HOST_LINE_MAX];

	if (hostfs_read(fs, "/etc/os-release", text, sizeof(text)) < 0 ||
	    !hostfs_field(text, "PRETTY_NAME", name, sizeof(name))) {
		return json_null();
	}
	return text_json(name);
}

json_t *host_show(const struct host_probe *probe)
{
	const struct hostfs *fs = &probe->fs;
	const struct {
		const char *key;
		json_t *value; /* taken; NULL = no memory */
	} parts[] = {
		{"name", file_json(fs, "/proc/sys/kernel/hostname")},
		{"os", os_json(fs)},
		{"kernel", file_json(fs, "/proc/sys/kernel/osrelease")},
		{"cpu", cpu_json(probe)},
		{"numa", list_json(fs, "/sys/devices/system/node", add_numa)},
		{"memory", memory_json(probe)},
		{"kvm", kvm_json(probe)},
		{"nics", list_json(fs, "/sys/class/net", add_nic)},
		{"rdma", list_json(fs, "/sys/class/infiniband", add_rdma)},
	};
	json_t *json = json_object();
	bool complete = json != NULL;

	for (size_t i = 0; i < ARRAY_LEN(parts);
	     i++) { /* takes every value, even after a failure */
		complete = json_object_set_new(json, parts[i].key, parts[i].value) == 0 && complete;
	}
	if (!complete) {
		json_decref(json);
		return NULL;
	}
	return json;
}
