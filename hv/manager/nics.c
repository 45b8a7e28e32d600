/* SPDX-License-Identifier: Apache-2.0 */

/* nics - adapters of different VMs: no two of a host have the same id or the same address. */

#include <errno.h>
#include <string.h>

#include "base/errbuf.h"
#include "hv/manager/manager_int.h"

/* 24 random bits among at most 8192 used ones: each try fails with less than 1 in 2000. */
#define NICS_TRIES_MAX 32u

/* The adapter of a VM other than @except with this address or id; *owner: whose. NULL = none. */
static const struct vm_nic *nics_find(struct manager *m, const struct vm *except,
                                      const uint8_t mac[6], const struct guid *id,
                                      const struct vm_config **owner)
{
	for (struct vm *vm = manager_vm_next(m, NULL); vm != NULL; vm = manager_vm_next(m, vm)) {
		for (uint32_t i = 0; vm != except && i < vm->config.nic_count; i++) {
			const struct vm_nic *nic = &vm->config.nics[i];

			if (memcmp(nic->mac, mac, 6) == 0 || guid_equal(&nic->id, id)) {
				*owner = &vm->config;
				return nic;
			}
		}
	}
	return NULL;
}

/* Does the definition itself give the address to an adapter? */
static bool nics_named(const json_t *nics, const uint8_t mac[6])
{
	uint8_t other[6];
	size_t i;
	json_t *nic;

	json_array_foreach(nics, i, nic)
	{
		const char *text = json_string_value(json_object_get(nic, "mac"));

		if (text != NULL && vm_mac_parse(text, other) == 0 && memcmp(other, mac, 6) == 0) {
			return true;
		}
	}
	return false;
}

static int nics_choose(struct manager *m, const json_t *nics, json_t *nic, struct errbuf *eb)
{
	const struct vm_config *owner;
	struct guid id;
	uint8_t mac[6];
	char text[GUID_TEXT_SIZE];
	char address[18];
	uint32_t tries = 0;

	do {
		if (tries++ == NICS_TRIES_MAX) {
			return errbuf_set(eb, -ENOSPC, "no free address for an adapter was found");
		}
		guid_random(&id);
		vm_nic_mac(&id, mac);
	} while (nics_find(m, NULL, mac, &id, &owner) != NULL || nics_named(nics, mac));
	return json_object_set_new(nic, "id", json_string(guid_format(&id, text))) == 0 &&
	                       json_object_set_new(nic, "mac",
	                                           json_string(vm_mac_format(mac, address))) == 0
	               ? 0
	               : errbuf_sys(eb, -ENOMEM, "cannot complete the definition");
}

int nics_complete(struct manager *m, json_t *json, struct errbuf *eb)
{
	json_t *nics = json_object_get(json, "nics");
	size_t i;
	json_t *nic;
	int err = 0;

	json_array_foreach(nics, i, nic)
	{
		if (err == 0 && json_is_object(nic) && json_object_get(nic, "id") == NULL &&
		    json_object_get(nic, "mac") == NULL) {
			err = nics_choose(m, nics, nic, eb);
		}
	}
	return err;
}

int nics_check(struct manager *m, const struct vm_config *config, const struct vm *except,
               struct errbuf *eb)
{
	char text[18];

	for (uint32_t i = 0; i < config->nic_count; i++) {
		const struct vm_nic *nic = &config->nics[i];
		const struct vm_config *owner;
		const struct vm_nic *other = nics_find(m, except, nic->mac, &nic->id, &owner);
		int err;

		if (other != NULL && memcmp(other->mac, nic->mac, 6) == 0) {
			err = errbuf_set(eb, -EEXIST, "VM %s has the address %s", owner->name,
			                 vm_mac_format(nic->mac, text));
			errbuf_hint(eb, "leave mac= out, and one that is free is chosen");
			return err;
		}
		if (other != NULL) {
			return errbuf_set(eb, -EEXIST,
			                  "VM %s has an adapter with the id of nics[%u]",
			                  owner->name, i);
		}
	}
	return 0;
}
