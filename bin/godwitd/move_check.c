/* SPDX-License-Identifier: Apache-2.0 */
#include "bin/godwitd/move_check.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "base/errbuf.h"
#include "base/fmt.h"
#include "base/patience.h"
#include "base/shared_file.h"
#include "bin/godwitd/move_disks.h"
#include "bin/godwitd/switch_api.h"
#include "hv/config/vm_config.h"
#include "hv/host/host.h"
#include "hv/manager/manager.h"
#include "hv/partition/partition.h"
#include "migrate/compat/compat.h"

static void check_name(struct manager *manager, const struct vm_config *vm, struct compat *report)
{
	char id[GUID_TEXT_SIZE];
	struct vm *same = manager_vm_find(manager, guid_format(&vm->id, id));

	if (same != NULL) {
		compat_add(report, COMPAT_BLOCKER, "exists", "the VM is here already, as %s, %s",
		           vm_config_get(same)->name, vm_state_name(vm_state_get(same)));
	} else if (manager_vm_find(manager, vm->name) != NULL) {
		compat_add(report, COMPAT_BLOCKER, "name-taken", "there is another VM named %s",
		           vm->name);
		compat_hint(report, "rename one of them");
	}
}

static void check_memory(const struct vm_config *vm, struct compat *report)
{
	const struct hostfs fs = {0};
	uint64_t there = host_memory_available(&fs);
	char need[FMT_MAX];
	char have[FMT_MAX];

	if (there != 0 && there < vm->memory_bytes) {
		compat_add(report, COMPAT_BLOCKER, "memory", "it needs %s of memory, %s are free",
		           fmt_size(vm->memory_bytes, need), fmt_size(there, have));
	}
}

static void check_cpu(const struct vm_config *vm, struct compat *report)
{
	struct errbuf eb = {0};
	int err = vm->has_cpu ? partition_cpu_check(-1, &vm->cpu, &eb) : 0;

	if (err != 0) {
		compat_add(report, COMPAT_BLOCKER, "cpu", "%s", errbuf_text(&eb, err));
		compat_hint(report, eb.hint);
	}
}

/* @writes: also the right to write. Returns false if nothing answers there. */
static bool check_file(const char *what, const char *path, bool writes, struct compat *report)
{
	struct errbuf eb = {0};
	int fd;

	if (path[0] == '\0') {
		return true;
	}
	fd = patience_stat(path, &eb);
	if (fd == 0) {
		/* Without O_NONBLOCK a pipe would hold everything up; the source may have it open
		 * for writing. */
		fd = shared_file_open(path, writes ? O_RDWR : O_RDONLY);
	}
	if (fd < 0) {
		compat_add(report, COMPAT_BLOCKER, "file-unreachable", "%s %s: %s", what, path,
		           strerrordesc_np(-fd));
		compat_hint(report, "both nodes must see the VM's files under the same paths");
		return fd != -ETIMEDOUT;
	}
	(void)close(fd);
	return true;
}

static void check_switches(const struct switch_api *switches, const struct vm_config *vm,
                           struct compat *report)
{
	for (uint32_t i = 0; i < vm->nic_count; i++) {
		const char *name = vm->nics[i].switch_name;

		if (name[0] != '\0' && !switch_api_has(switches, name)) {
			compat_add(report, COMPAT_BLOCKER, "no-switch",
			           "adapter %u: there is no switch named %s", i, name);
			compat_hint(report, "godwit switch create makes it");
		}
	}
}

void move_check(struct manager *manager, const struct switch_api *switches,
                const json_t *definition, const struct guid *move, const json_t *disks,
                struct compat *report)
{
	json_t *json = json_deep_copy(definition);
	struct vm_config vm = {0};
	struct errbuf eb = {0};
	int err = json != NULL ? vm_config_decode(json, &vm, &eb) : -ENOMEM;

	json_decref(json);
	if (err != 0) {
		compat_add(report, COMPAT_BLOCKER, "definition", "the VM's definition: %s",
		           errbuf_text(&eb, err));
		compat_hint(report, "the nodes may run versions that are too far apart");
		return;
	}
	check_name(manager, &vm, report);
	check_memory(&vm, report);
	check_cpu(&vm, report);

	bool answers = check_file("kernel", vm.kernel, false, report) &&
	               check_file("initial ramdisk", vm.initrd, false, report);

	for (uint32_t i = 0; answers && i < vm.disk_count; i++) {
		answers = check_file("disk", vm.disks[i].path, !vm.disks[i].read_only, report);
	}
	if (answers) {
		move_disks_check(&vm, move, disks, report);
	}
	check_switches(switches, &vm, report);
	vm_config_fini(&vm);
}
