/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_CONFIG_VM_CONFIG_H
#define HV_CONFIG_VM_CONFIG_H

/*
 * vm_config - the definition of a VM: what the node service keeps, the worker is given, a move
 * carries along, and `godwit vm show --json` prints. One JSON object, docs/formats/vm.md.
 *
 * vm_config_complete() turns what a user wrote into a full definition (ids, MAC addresses, LUN
 * numbers), vm_config_decode() checks a full one, from whomever it comes.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/guid.h"
#include "base/json.h"
#include "hv/cpu/cpuid.h"

struct errbuf;

#define VM_NAME_MAX 63u /* also a DNS label: names of guests become host names */
#define VM_DISKS_MAX 64u
#define VM_NICS_MAX 8u /* as on Hyper-V */
#define VM_CPUS_MAX 64u
#define VM_MEMORY_MIN (32ull << 20)
#define VM_MEMORY_MAX (4ull << 40)
#define VM_MEMORY_STEP (2ull << 20)
#define VM_PATH_MAX 1023u
#define VM_APPEND_MAX 2047u /* COMMAND_LINE_SIZE of Linux */

enum vm_disk_kind { VM_DISK, VM_DVD };
enum vm_disk_format { VM_FORMAT_VHDX, VM_FORMAT_RAW };
/* What happens when the worker dies or the guest crashes. */
enum vm_restart { VM_RESTART_NEVER, VM_RESTART_ON_FAILURE, VM_RESTART_ALWAYS };

struct vm_disk {
	uint32_t lun;
	enum vm_disk_kind kind;
	enum vm_disk_format format;
	struct guid id;
	const char *path; /* "" = DVD drive without a medium */
	bool read_only;
};

struct vm_nic {
	struct guid id;
	uint8_t mac[6];
	const char *switch_name; /* "" = not connected */
	uint16_t vlan;           /* 0 = untagged */
};

/* Strings are borrowed from json, which the struct owns. */
struct vm_config {
	json_t *json;
	struct guid id;
	const char *name;
	uint64_t memory_bytes;
	bool huge_pages;
	uint32_t cpus;
	const char *kernel; /* "" = none given */
	const char *initrd; /* "" = none */
	const char *append;
	struct guid generation_id;
	enum vm_restart restart;
	uint32_t disk_count;
	struct vm_disk disks[VM_DISKS_MAX];
	uint32_t nic_count;
	struct vm_nic nics[VM_NICS_MAX];
	bool has_cpu;           /* false: not started yet, the first host fixes it */
	struct cpuid_table cpu; /* the CPU model */
};

/*
 * vm_config_decode() - check a full definition. @json: borrowed, a reference is kept on success.
 * Returns 0; -EINVAL with the member named.
 */
MUST_USE int vm_config_decode(json_t *json, struct vm_config *out, struct errbuf *eb);
void vm_config_fini(struct vm_config *c);

/*
 * vm_config_complete() - fill in what @json (changed in place) leaves open: id, generation id, disk
 * ids and LUNs, adapter ids and MACs (00:15:5d:.., from the ids), formats by file name, defaults.
 * Returns 0; -EINVAL; -ENOMEM.
 */
MUST_USE int vm_config_complete(json_t *json, struct errbuf *eb);

/* vm_name_check() - 1..63 of [a-zA-Z0-9._-], first a letter or digit. Returns 0; -EINVAL. */
MUST_USE int vm_name_check(const char *name, struct errbuf *eb);

/* vm_mac_parse(), vm_mac_format() - "00:15:5d:01:02:03". Parse returns 0; -EINVAL (also
 * multicast). */
MUST_USE int vm_mac_parse(const char *text, uint8_t mac[6]);
const char *vm_mac_format(const uint8_t mac[6], char text[18]);

/* vm_nic_mac() - the address of an adapter that was given none: 00:15:5d and 24 bits of its id. */
void vm_nic_mac(const struct guid *id, uint8_t mac[6]);

/* vm_cpu_encode(), vm_cpu_decode() - a CPU model as JSON: rows of [function, index|-1, a, b, c,
 * d]. */
json_t *vm_cpu_encode(const struct cpuid_table *cpu);
MUST_USE int vm_cpu_decode(const struct json_at *at, struct cpuid_table *out, struct errbuf *eb);

#endif
