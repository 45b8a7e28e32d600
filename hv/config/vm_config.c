/* SPDX-License-Identifier: Apache-2.0 */
#include "hv/config/vm_config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/errbuf.h"
#include "base/fmt.h"

static const char *const disk_kinds[] = {"disk", "dvd"};
static const char *const disk_formats[] = {"vhdx", "raw"};
static const char *const restarts[] = {"never", "on-failure", "always"};

int vm_name_check(const char *name, struct errbuf *eb)
{
	static const char legal[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
				    "._-";
	size_t len = strlen(name);

	if (len != 0 && len <= VM_NAME_MAX && strspn(name, legal) == len &&
	    strchr("._-", name[0]) == NULL) {
		return 0;
	}

	int err = errbuf_set(eb, -EINVAL, "\"%.80s\" is no name for a VM", name);

	errbuf_hint(eb, "use 1 to %u letters, digits, '.', '_' or '-', the first a letter or digit",
	            VM_NAME_MAX);
	return err;
}

int vm_mac_parse(const char *text, uint8_t mac[6])
{
	uint8_t out[6];

	if (strlen(text) != 17) {
		return -EINVAL;
	}
	for (size_t i = 0; i < 6; i++) {
		static const char hex[] = "0123456789abcdefABCDEF";
		const char *p = text + 3 * i;
		uint8_t v = 0;

		if (i < 5 && p[2] != ':' && p[2] != '-') {
			return -EINVAL;
		}
		for (size_t d = 0; d < 2; d++) {
			const char *at = p[d] != '\0' ? strchr(hex, p[d]) : NULL;

			if (at == NULL) {
				return -EINVAL;
			}
			v = (uint8_t)(v << 4 | ((at - hex) > 15 ? at - hex - 6 : at - hex));
		}
		out[i] = v;
	}
	if ((out[0] & 1) != 0) {
		return -EINVAL; /* a group address */
	}
	memcpy(mac, out, sizeof(out));
	return 0;
}

const char *vm_mac_format(const uint8_t mac[6], char text[18])
{
	(void)snprintf(text, 18, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3],
	               mac[4], mac[5]);
	return text;
}

/* ---- CPU model ---- */

json_t *vm_cpu_encode(const struct cpuid_table *cpu)
{
	json_t *rows = json_array();

	for (uint32_t i = 0; i < cpu->count && rows != NULL; i++) {
		const struct cpuid_leaf *l = &cpu->leaves[i];
		json_t *row = json_pack("[IIIIII]", (json_int_t)l->function,
		                        l->has_index ? (json_int_t)l->index : (json_int_t)-1,
		                        (json_int_t)l->eax, (json_int_t)l->ebx, (json_int_t)l->ecx,
		                        (json_int_t)l->edx);

		if (row == NULL || json_array_append_new(rows, row) != 0) {
			json_decref(rows);
			return NULL;
		}
	}
	return rows;
}

int vm_cpu_decode(const struct json_at *at, struct cpuid_table *out, struct errbuf *eb)
{
	int err = json_as_array(at, CPUID_LEAVES_MAX, eb);

	out->count = 0;
	for (size_t i = 0; err == 0 && i < json_array_size(at->value); i++) {
		struct json_at row = json_element(at, i);
		int64_t v[6] = {0};

		err = json_as_array(&row, 6, eb);
		if (err == 0 && json_array_size(row.value) != 6) {
			err = json_error(&row, eb, -EINVAL, "expected 6 numbers");
		}
		for (size_t k = 0; k < 6 && err == 0; k++) {
			struct json_at cell = json_element(&row, k);

			err = json_as_i64(&cell, k == 1 ? -1 : 0, UINT32_MAX, &v[k], eb);
		}
		if (err == 0) {
			out->leaves[out->count++] = (struct cpuid_leaf){
				.function = (uint32_t)v[0],
				.index = v[1] < 0 ? 0 : (uint32_t)v[1],
				.has_index = v[1] >= 0,
				.eax = (uint32_t)v[2],
				.ebx = (uint32_t)v[3],
				.ecx = (uint32_t)v[4],
				.edx = (uint32_t)v[5],
			};
		}
	}
	return err;
}

/* ---- decode ---- */

static int vm_guid_get(const struct json_at *at, const char *key, struct guid *out,
                       struct errbuf *eb)
{
	const char *text;
	int err = json_get_str(at, key, GUID_TEXT_SIZE - 1, &text, eb);

	if (err == 0 && guid_parse(text, out) != 0) {
		err = json_error(at, eb, -EINVAL, "%s: \"%s\" is no GUID", key, text);
	}
	return err;
}

static int vm_path_get(const struct json_at *at, const char *key, const char **out,
                       struct errbuf *eb)
{
	int err;

	*out = "";
	err = json_opt_str(at, key, VM_PATH_MAX, out, eb);
	if (err == 0 && (*out)[0] != '\0' && (*out)[0] != '/') {
		err = json_error(at, eb, -EINVAL, "%s: \"%s\" is no absolute path", key, *out);
	}
	return err;
}

static int vm_disk_decode(const struct json_at *at, struct vm_disk *d, struct errbuf *eb)
{
	static const char *const known[] = {"lun", "kind", "format", "id", "path", "read_only"};
	uint64_t lun = 0;
	size_t kind = VM_DISK;
	size_t format = VM_FORMAT_VHDX;
	int err = json_check_members(at, known, ARRAY_LEN(known), eb);

	if (err == 0) {
		err = json_get_u64(at, "lun", 0, VM_DISKS_MAX - 1, &lun, eb);
	}
	if (err == 0) {
		err = json_get_word(at, "kind", disk_kinds, ARRAY_LEN(disk_kinds), &kind, eb);
	}
	if (err == 0) {
		err = json_get_word(at, "format", disk_formats, ARRAY_LEN(disk_formats), &format,
		                    eb);
	}
	if (err == 0) {
		err = vm_guid_get(at, "id", &d->id, eb);
	}
	if (err == 0) {
		err = vm_path_get(at, "path", &d->path, eb);
	}
	if (err == 0) {
		err = json_opt_bool(at, "read_only", &d->read_only, eb);
	}
	if (err == 0 && kind == VM_DISK && d->path[0] == '\0') {
		err = json_error(at, eb, -EINVAL, "a disk needs a path");
	}
	d->lun = (uint32_t)lun;
	d->kind = (enum vm_disk_kind)kind;
	d->format = (enum vm_disk_format)format;
	d->read_only = d->read_only || kind == VM_DVD;
	return err;
}

static int vm_disks_decode(const struct json_at *vm, struct vm_config *c, struct errbuf *eb)
{
	struct json_at disks;
	int err = json_opt(vm, "disks", &disks, eb);

	if (err != 0 || disks.value == NULL) {
		return err;
	}
	err = json_as_array(&disks, VM_DISKS_MAX, eb);
	for (size_t i = 0; err == 0 && i < json_array_size(disks.value); i++) {
		struct json_at at = json_element(&disks, i);

		err = vm_disk_decode(&at, &c->disks[i], eb);
		for (size_t k = 0; err == 0 && k < i; k++) {
			if (c->disks[k].lun == c->disks[i].lun) {
				err = json_error(&at, eb, -EINVAL, "LUN %u is used twice",
				                 c->disks[i].lun);
			}
		}
		c->disk_count = (uint32_t)i + 1;
	}
	return err;
}

static int vm_nic_decode(const struct json_at *at, struct vm_nic *n, struct errbuf *eb)
{
	static const char *const known[] = {"id", "mac", "switch", "vlan"};
	const char *mac;
	uint64_t vlan = 0;
	int err = json_check_members(at, known, ARRAY_LEN(known), eb);

	n->switch_name = "";
	if (err == 0) {
		err = vm_guid_get(at, "id", &n->id, eb);
	}
	if (err == 0) {
		err = json_get_str(at, "mac", 17, &mac, eb);
	}
	if (err == 0 && vm_mac_parse(mac, n->mac) != 0) {
		err = json_error(at, eb, -EINVAL, "mac: \"%s\" is no unicast MAC address", mac);
	}
	if (err == 0) {
		err = json_opt_str(at, "switch", VM_NAME_MAX, &n->switch_name, eb);
	}
	if (err == 0) {
		err = json_opt_u64(at, "vlan", 0, 4094, &vlan, eb);
	}
	n->vlan = (uint16_t)vlan;
	return err;
}

static int vm_nics_decode(const struct json_at *vm, struct vm_config *c, struct errbuf *eb)
{
	struct json_at nics;
	int err = json_opt(vm, "nics", &nics, eb);

	if (err != 0 || nics.value == NULL) {
		return err;
	}
	err = json_as_array(&nics, VM_NICS_MAX, eb);
	for (size_t i = 0; err == 0 && i < json_array_size(nics.value); i++) {
		struct json_at at = json_element(&nics, i);

		err = vm_nic_decode(&at, &c->nics[i], eb);
		for (size_t k = 0; err == 0 && k < i; k++) {
			if (guid_equal(&c->nics[i].id, &c->nics[k].id) ||
			    memcmp(c->nics[i].mac, c->nics[k].mac, 6) == 0) {
				err = json_error(&at, eb, -EINVAL,
				                 "the id or address of nics[%zu] again", k);
			}
		}
		c->nic_count = (uint32_t)i + 1;
	}
	return err;
}

static int vm_boot_decode(const struct json_at *vm, struct vm_config *c, struct errbuf *eb)
{
	static const char *const known[] = {"kernel", "initrd", "append"};
	struct json_at boot;
	int err = json_opt(vm, "boot", &boot, eb);

	c->kernel = "";
	c->initrd = "";
	c->append = "";
	if (err != 0 || boot.value == NULL) {
		return err;
	}
	err = json_as_object(&boot, eb);
	if (err == 0) {
		err = json_check_members(&boot, known, ARRAY_LEN(known), eb);
	}
	if (err == 0) {
		err = vm_path_get(&boot, "kernel", &c->kernel, eb);
	}
	if (err == 0) {
		err = vm_path_get(&boot, "initrd", &c->initrd, eb);
	}
	return err != 0 ? err : json_opt_str(&boot, "append", VM_APPEND_MAX, &c->append, eb);
}

static int vm_memory_get(const struct json_at *vm, uint64_t *out, struct errbuf *eb)
{
	char min[FMT_MAX];
	char max[FMT_MAX];
	char given[FMT_MAX];
	struct json_at at;
	int err = json_get(vm, "memory_bytes", &at, eb);

	if (err == 0) {
		err = json_as_u64(&at, 0, INT64_MAX, out, eb);
	}
	if (err == 0 && (*out < VM_MEMORY_MIN || *out > VM_MEMORY_MAX)) {
		err = json_error(&at, eb, -EINVAL, "a VM has %s to %s, not %s",
		                 fmt_size(VM_MEMORY_MIN, min), fmt_size(VM_MEMORY_MAX, max),
		                 fmt_size(*out, given));
	}
	if (err == 0 && *out % VM_MEMORY_STEP != 0) {
		err = json_error(&at, eb, -EINVAL, "must be a multiple of 2 MiB");
		errbuf_hint(eb, "the next are %juM and %juM",
		            (uintmax_t)(*out / VM_MEMORY_STEP * (VM_MEMORY_STEP >> 20)),
		            (uintmax_t)((*out / VM_MEMORY_STEP + 1) * (VM_MEMORY_STEP >> 20)));
	}
	return err;
}

static int vm_scalars_decode(const struct json_at *vm, struct vm_config *c, struct errbuf *eb)
{
	uint64_t cpus = 0;
	size_t restart = VM_RESTART_ON_FAILURE;
	int err = json_get_str(vm, "name", VM_NAME_MAX, &c->name, eb);

	if (err == 0) {
		err = vm_name_check(c->name, eb);
	}
	if (err == 0) {
		err = vm_guid_get(vm, "id", &c->id, eb);
	}
	if (err == 0) {
		err = vm_guid_get(vm, "generation_id", &c->generation_id, eb);
	}
	if (err == 0) {
		err = vm_memory_get(vm, &c->memory_bytes, eb);
	}
	if (err == 0) {
		err = json_get_u64(vm, "cpus", 1, VM_CPUS_MAX, &cpus, eb);
	}
	if (err == 0) {
		err = json_opt_bool(vm, "huge_pages", &c->huge_pages, eb);
	}
	if (err == 0) {
		err = json_opt_word(vm, "restart", restarts, ARRAY_LEN(restarts), &restart, eb);
	}
	c->cpus = (uint32_t)cpus;
	c->restart = (enum vm_restart)restart;
	return err;
}

int vm_config_decode(json_t *json, struct vm_config *out, struct errbuf *eb)
{
	static const char *const known[] = {
		"id",    "name", "memory_bytes", "huge_pages",    "cpus",    "boot",
		"disks", "nics", "cpu",          "generation_id", "restart",
	};
	struct json_at vm = json_root(json, "vm");
	struct json_at cpu;
	int err = json_as_object(&vm, eb);

	memset(out, 0, sizeof(*out));
	if (err == 0) {
		err = json_check_members(&vm, known, ARRAY_LEN(known), eb);
	}
	if (err == 0) {
		err = vm_scalars_decode(&vm, out, eb);
	}
	if (err == 0) {
		err = vm_boot_decode(&vm, out, eb);
	}
	if (err == 0) {
		err = vm_disks_decode(&vm, out, eb);
	}
	if (err == 0) {
		err = vm_nics_decode(&vm, out, eb);
	}
	if (err == 0) {
		err = json_opt(&vm, "cpu", &cpu, eb);
	}
	if (err == 0 && cpu.value != NULL) {
		out->has_cpu = true;
		err = vm_cpu_decode(&cpu, &out->cpu, eb);
	}
	if (err == 0) {
		out->json = json_incref(json);
	}
	return err;
}

void vm_config_fini(struct vm_config *c)
{
	json_decref(c->json);
	c->json = NULL;
}

/* ---- complete ---- */

/* Set @key to a new value unless it is there. Takes @value. Returns 0; -ENOMEM. */
static int vm_default(json_t *object, const char *key, json_t *value)
{
	if (json_object_get(object, key) != NULL) {
		json_decref(value);
		return 0;
	}
	return json_object_set_new(object, key, value) == 0 ? 0 : -ENOMEM;
}

static int vm_default_guid(json_t *object, const char *key)
{
	struct guid id;
	char text[GUID_TEXT_SIZE];

	guid_random(&id);
	return vm_default(object, key, json_string(guid_format(&id, text)));
}

static const char *vm_format_guess(const char *path)
{
	const char *dot = strrchr(path, '.');

	return dot != NULL && (strcmp(dot, ".vhdx") == 0 || strcmp(dot, ".avhdx") == 0) ? "vhdx"
	                                                                                : "raw";
}

static bool vm_lun_used(json_t *disks, uint32_t lun)
{
	size_t i;
	json_t *disk;

	json_array_foreach(disks, i, disk)
	{
		const json_t *v = json_object_get(disk, "lun");

		if (json_is_integer(v) && json_integer_value(v) == (json_int_t)lun) {
			return true;
		}
	}
	return false;
}

static int vm_disk_complete(json_t *disks, json_t *disk)
{
	const char *path = json_string_value(json_object_get(disk, "path"));
	const char *kind = json_string_value(json_object_get(disk, "kind"));
	bool dvd = kind != NULL && strcmp(kind, "dvd") == 0;
	uint32_t lun = 0;
	int err;

	while (lun < VM_DISKS_MAX && vm_lun_used(disks, lun)) {
		lun++;
	}
	err = vm_default(disk, "lun", json_integer(lun));
	if (err == 0) {
		err = vm_default(disk, "kind", json_string("disk"));
	}
	if (err == 0) {
		err = vm_default(disk, "format",
		                 json_string(dvd || path == NULL ? "raw" : vm_format_guess(path)));
	}
	return err != 0 ? err : vm_default_guid(disk, "id");
}

void vm_nic_mac(const struct guid *id, uint8_t mac[6])
{
	/* 00:15:5d is the vendor prefix that guests of this kind of machine carry. */
	const uint8_t bytes[6] = {0x00, 0x15, 0x5d, id->b[13], id->b[14], id->b[15]};

	memcpy(mac, bytes, sizeof(bytes));
}

static int vm_nic_complete(json_t *nic)
{
	struct guid id;
	uint8_t bytes[6];
	char mac[18];
	const char *given;
	int err = vm_default_guid(nic, "id");

	if (err != 0) {
		return err;
	}
	given = json_string_value(json_object_get(nic, "id"));
	if (given == NULL || guid_parse(given, &id) != 0) {
		return 0; /* decode will name it */
	}
	vm_nic_mac(&id, bytes);
	return vm_default(nic, "mac", json_string(vm_mac_format(bytes, mac)));
}

int vm_config_complete(json_t *json, struct errbuf *eb)
{
	json_t *disks = json_object_get(json, "disks");
	json_t *nics = json_object_get(json, "nics");
	size_t i;
	json_t *item;
	int err;

	if (!json_is_object(json)) {
		return errbuf_set(eb, -EINVAL, "a VM's definition is a JSON object");
	}
	err = vm_default_guid(json, "id");
	if (err == 0) {
		err = vm_default_guid(json, "generation_id");
	}
	if (err == 0) {
		err = vm_default(json, "cpus", json_integer(1));
	}
	if (err == 0) {
		err = vm_default(json, "memory_bytes", json_integer(512ll << 20));
	}
	if (json_is_array(disks)) {
		json_array_foreach(disks, i, item)
		{
			if (err == 0 && json_is_object(item)) {
				err = vm_disk_complete(disks, item);
			}
		}
	}
	if (json_is_array(nics)) {
		json_array_foreach(nics, i, item)
		{
			if (err == 0 && json_is_object(item)) {
				err = vm_nic_complete(item);
			}
		}
	}
	return err != 0 ? errbuf_sys(eb, err, "cannot complete the definition") : 0;
}
