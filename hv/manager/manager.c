/* SPDX-License-Identifier: Apache-2.0 */
#include "hv/manager/manager.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "base/log.h"
#include "hv/manager/manager_int.h"
#include "hv/partition/host_model.h"

#define TAG "manager"

static void manager_insert(struct manager *m, struct vm *vm)
{
	struct list *at;

	for (at = m->vms.next; at != &m->vms; at = at->next) {
		if (strcmp(list_entry(at, struct vm, link)->config.name, vm->config.name) > 0) {
			break;
		}
	}
	list_add_tail(at, &vm->link); /* in front of it */
	m->count++;
}

static bool manager_slot_used(struct manager *m, uint32_t slot)
{
	for (struct vm *vm = manager_vm_next(m, NULL); vm != NULL; vm = manager_vm_next(m, vm)) {
		if (vm->slot == slot) {
			return true;
		}
	}
	return false;
}

/* The lowest uid slot nobody has. */
static uint32_t manager_slot(struct manager *m)
{
	uint32_t slot = 0;

	while (manager_slot_used(m, slot)) {
		slot++;
	}
	return slot;
}

/* Takes the reference inside @config on success. */
static int manager_add(struct manager *m, const struct vm_config *config, struct vm **out)
{
	struct vm *vm = gw_malloc(sizeof(*vm));

	if (vm == NULL) {
		return -ENOMEM;
	}
	vm_init(vm, m, config, manager_slot(m));
	if (burial_new(vm, &vm->burial) != 0) {
		free(vm);
		return -ENOMEM;
	}
	manager_insert(m, vm);
	*out = vm;
	return 0;
}

/* Keep a record of another kind until its VM is loaded. */
static int manager_load_move(void *arg, const char *key, json_t *value)
{
	struct manager *m = arg;

	return json_object_set(m->moves, key, value) == 0 ? 0 : -ENOMEM;
}

static int manager_load_epoch(void *arg, const char *key, json_t *value)
{
	struct manager *m = arg;

	return json_object_set(m->epochs, key, value) == 0 ? 0 : -ENOMEM;
}

static int manager_load_mark(void *arg, const char *key, json_t *value)
{
	struct manager *m = arg;

	return json_object_set(m->marks, key, value) == 0 ? 0 : -ENOMEM;
}

static int manager_load_one(void *arg, const char *key, json_t *value)
{
	struct manager *m = arg;
	struct vm_config config;
	struct errbuf eb = {0};
	const json_t *move;
	json_int_t epoch;
	struct vm *vm;
	int err = vm_config_decode(value, &config, &eb);

	if (err != 0) {
		/* One bad definition must not take the others' VMs away. */
		log_err(TAG, "definition skipped key=%s reason=%s", key, errbuf_text(&eb, err));
		return 0;
	}
	err = manager_add(m, &config, &vm);
	if (err != 0) {
		vm_config_fini(&config);
		return err;
	}
	epoch = json_integer_value(json_object_get(json_object_get(m->epochs, key), "epoch"));
	vm->epoch = epoch > 0 ? (uint64_t)epoch : 1;
	vm->cluster = json_object_get(m->marks, key) != NULL;
	move = json_object_get(m->moves, key);
	if (move == NULL) {
		vm_adopt(vm);
		return 0;
	}
	err = vm_adopt_move(vm, move, &eb);
	if (err != 0) {
		/* It is not known whose the VM is: it stays as it is, and nobody starts it. */
		log_err(TAG, "move not understood vm=%s reason=%s", vm->config.name,
		        errbuf_text(&eb, err));
	}
	return err == -ENOMEM ? err : 0;
}

int manager_create(const struct manager_cfg *cfg, struct manager **out, struct errbuf *eb)
{
	struct manager *m = gw_calloc(1, sizeof(*m));
	int err;

	*out = NULL;
	if (m == NULL) {
		return errbuf_sys(eb, -ENOMEM, "cannot manage VMs");
	}
	m->cfg = *cfg;
	list_init(&m->vms);
	list_init(&m->burials);
	m->moves = json_object();
	m->epochs = json_object();
	m->marks = json_object();
	err = m->moves == NULL || m->epochs == NULL || m->marks == NULL
	              ? errbuf_sys(eb, -ENOMEM, "cannot manage VMs")
	              : 0;
	if (err == 0) {
		err = cfg->store->ops->each(cfg->store, VM_MOVE_KIND, manager_load_move, m, eb);
	}
	if (err == 0) {
		err = cfg->store->ops->each(cfg->store, VM_EPOCH_KIND, manager_load_epoch, m, eb);
	}
	if (err == 0) {
		err = cfg->store->ops->each(cfg->store, VM_CLUSTER_KIND, manager_load_mark, m, eb);
	}
	if (err == 0) {
		err = cfg->store->ops->each(cfg->store, VM_KIND, manager_load_one, m, eb);
	}
	if (err != 0) {
		manager_destroy(m);
		return err;
	}
	*out = m;
	return 0;
}

void manager_vm_drop(struct vm *vm)
{
	list_del(&vm->link);
	vm->manager->count--;
	vm_free(vm);
}

void manager_destroy(struct manager *m)
{
	struct list *link;

	if (m == NULL) {
		return;
	}
	while ((link = list_first(&m->vms)) != NULL) {
		struct vm *vm = list_entry(link, struct vm, link);
		struct errbuf eb = {0};

		(void)errbuf_set(&eb, -ECANCELED, "the node service is stopping");
		vm_finish(vm, -ECANCELED, &eb);
		manager_vm_drop(vm);
	}
	burial_fini(m);
	json_decref(m->moves);
	json_decref(m->epochs);
	json_decref(m->marks);
	free(m);
}

struct vm *manager_vm_next(struct manager *m, const struct vm *vm)
{
	struct list *next = vm != NULL ? vm->link.next : m->vms.next;

	return next != &m->vms ? list_entry(next, struct vm, link) : NULL;
}

struct vm *manager_vm_find(struct manager *m, const char *name)
{
	struct guid id;
	bool is_id = guid_parse(name, &id) == 0;

	for (struct vm *vm = manager_vm_next(m, NULL); vm != NULL; vm = manager_vm_next(m, vm)) {
		if (strcmp(vm->config.name, name) == 0 ||
		    (is_id && guid_equal(&vm->config.id, &id))) {
			return vm;
		}
	}
	return NULL;
}

/* The CPU that the VM keeps for life: this host's, unless the definition has one. */
static int manager_cpu_fix(json_t *json, struct errbuf *eb)
{
	struct cpuid_table model;
	json_t *rows;
	int err;

	if (json_object_get(json, "cpu") != NULL) {
		return 0;
	}
	err = partition_host_model(-1, &model, eb);
	if (err != 0) {
		return err;
	}
	rows = vm_cpu_encode(&model);
	return rows != NULL && json_object_set_new(json, "cpu", rows) == 0
	               ? 0
	               : errbuf_sys(eb, -ENOMEM, "cannot define the VM");
}

static int manager_name_free(struct manager *m, const char *name, const struct vm *except,
                             struct errbuf *eb)
{
	struct vm *other = manager_vm_find(m, name);

	if (other != NULL && other != except) {
		return errbuf_set(eb, -EEXIST, "there is a VM named %s already", name);
	}
	return 0;
}

static int manager_put(struct manager *m, const struct vm_config *config, struct errbuf *eb)
{
	char id[GUID_TEXT_SIZE];

	return m->cfg.store->ops->put(m->cfg.store, VM_KIND, guid_format(&config->id, id),
	                              config->json, eb);
}

static int manager_mark(struct manager *m, const struct guid *vm_id, struct errbuf *eb)
{
	json_t *value = json_pack("{s:b}", "cluster", 1);
	char id[GUID_TEXT_SIZE];
	int err = -ENOMEM;

	if (value != NULL) {
		err = m->cfg.store->ops->put(m->cfg.store, VM_CLUSTER_KIND, guid_format(vm_id, id),
		                             value, eb);
	}
	json_decref(value);
	return err;
}

int manager_unmark(struct manager *m, const struct guid *vm_id, struct errbuf *eb)
{
	char id[GUID_TEXT_SIZE];
	int err = m->cfg.store->ops->remove(m->cfg.store, VM_CLUSTER_KIND, guid_format(vm_id, id),
	                                    eb);

	return err == -ENOENT ? 0 : err;
}

int vm_own(struct vm *vm, struct errbuf *eb)
{
	int err = vm->cluster ? 0 : manager_mark(vm->manager, &vm->config.id, eb);

	vm->cluster = vm->cluster || err == 0;
	return err;
}

/* May a VM so defined be added to those there are? */
static int manager_admit(struct manager *m, const struct vm_config *config, struct errbuf *eb)
{
	char id[GUID_TEXT_SIZE];
	int err = manager_name_free(m, config->name, NULL, eb);

	if (err == 0 && manager_vm_find(m, guid_format(&config->id, id)) != NULL) {
		err = errbuf_set(eb, -EEXIST, "there is a VM with the id %s already", id);
	}
	if (err == 0) {
		err = nics_check(m, config, NULL, eb);
	}
	if (err == 0 && manager_worker_lives(m, &config->id)) {
		/* Of a VM that left, or whose definition cannot be read. */
		err = errbuf_set(eb, -EAGAIN, "an earlier worker of %s has not ended",
		                 config->name);
		errbuf_hint(eb, "its process is named in %s/vm/%s/worker.pid", m->cfg.run_dir,
		            guid_format(&config->id, id));
	}
	if (err == 0 && m->count >= MANAGER_VMS_MAX) {
		err = errbuf_set(eb, -ENOSPC, "this host has %u VMs already", m->count);
	}
	return err;
}

static int manager_define(struct manager *m, json_t *json, bool dry_run, bool owned,
                          struct vm **out, struct errbuf *eb)
{
	struct vm_config config = {.json = NULL};
	int err = nics_complete(m, json, eb);

	*out = NULL;
	if (err == 0) {
		err = vm_config_complete(json, eb);
	}
	if (err == 0) {
		err = manager_cpu_fix(json, eb);
	}
	if (err == 0) {
		err = vm_config_decode(json, &config, eb);
	}
	if (err == 0) {
		err = manager_admit(m, &config, eb);
	}
	/* The mark first: a definition without it would be a VM of ours. */
	if (err == 0 && owned) {
		err = manager_mark(m, &config.id, eb);
	}
	if (err == 0 && !dry_run) {
		err = manager_put(m, &config, eb);
	}
	if (err != 0 || dry_run) {
		vm_config_fini(&config);
		return err;
	}
	err = manager_add(m, &config, out);
	if (err != 0) {
		vm_config_fini(&config);
		return errbuf_sys(eb, err, "cannot define the VM");
	}
	(*out)->cluster = owned;
	vm_event(*out, "vm.created", "%llu MiB, %u processors",
	         (unsigned long long)(config.memory_bytes >> 20), config.cpus);
	return 0;
}

int manager_vm_define(struct manager *m, json_t *json, bool dry_run, struct vm **out,
                      struct errbuf *eb)
{
	return manager_define(m, json, dry_run, false, out, eb);
}

int manager_vm_define_owned(struct manager *m, json_t *json, struct vm **out, struct errbuf *eb)
{
	return manager_define(m, json, false, true, out, eb);
}

int manager_vm_define_arriving(struct manager *m, json_t *json, const struct vm_move_info *info,
                               bool cluster, struct vm **out, struct errbuf *eb)
{
	struct vm_config config = {.json = NULL};
	int err = vm_config_decode(json, &config, eb);

	*out = NULL;
	if (err == 0) {
		err = manager_admit(m, &config, eb);
	}
	if (err == 0) {
		/* The journal first: a definition without it would be a VM of ours. */
		err = vm_move_put(m, &config.id, info, eb);
	}
	if (err == 0 && cluster) {
		err = manager_mark(m, &config.id, eb);
	}
	if (err == 0) {
		err = manager_put(m, &config, eb);
	}
	if (err == 0) {
		err = manager_add(m, &config, out);
	}
	if (err != 0) {
		vm_config_fini(&config);
	} else {
		(*out)->cluster = cluster;
	}
	return err;
}

int manager_vm_change(struct vm *vm, json_t *json, struct errbuf *eb)
{
	struct vm_config config = {.json = NULL};
	int err;

	if (vm->op != VM_OP_NONE || (vm->state != VM_OFF && vm->state != VM_CRASHED)) {
		err = errbuf_set(eb, -EBUSY, "cannot change %s: it is %s", vm->config.name,
		                 vm_state_name(vm->state));
		errbuf_hint(eb, "stop it first");
		return err;
	}
	if (vm->cluster) {
		err = errbuf_set(eb, -EPERM, "cannot change %s: it belongs to a cluster",
		                 vm->config.name);
		errbuf_hint(eb, "godwit vm remove %s removes this host's copy; the disks stay",
		            vm->config.name);
		return err;
	}
	err = nics_complete(vm->manager, json, eb);
	if (err == 0) {
		err = vm_config_complete(json, eb);
	}
	if (err == 0) {
		err = vm_config_decode(json, &config, eb);
	}
	if (err == 0 && !guid_equal(&config.id, &vm->config.id)) {
		err = errbuf_set(eb, -EINVAL, "a VM's id never changes");
	}
	if (err == 0) {
		err = manager_name_free(vm->manager, config.name, vm, eb);
	}
	if (err == 0) {
		err = nics_check(vm->manager, &config, vm, eb);
	}
	if (err == 0) {
		err = manager_put(vm->manager, &config, eb);
	}
	if (err != 0) {
		vm_config_fini(&config);
		return err;
	}
	vm_config_fini(&vm->config);
	vm->config = config;
	list_del(&vm->link);
	vm->manager->count--;
	manager_insert(vm->manager, vm); /* the name may be another */
	vm_event(vm, "vm.changed", "new definition");
	return 0;
}

int manager_vm_remove(struct vm *vm, struct errbuf *eb)
{
	struct manager *m = vm->manager;
	char id[GUID_TEXT_SIZE];
	int err;

	if (vm->op != VM_OP_NONE || (vm->state != VM_OFF && vm->state != VM_CRASHED)) {
		err = errbuf_set(eb, -EBUSY, "cannot remove %s: it is %s", vm->config.name,
		                 vm_state_name(vm->state));
		errbuf_hint(eb,
		            "stop it first; a saved state is discarded with: godwit vm stop --off");
		return err;
	}
	err = m->cfg.store->ops->remove(m->cfg.store, VM_KIND, guid_format(&vm->config.id, id), eb);
	if (err == 0 && vm->cluster) {
		err = manager_unmark(m, &vm->config.id, eb);
	}
	if (err != 0) {
		return err;
	}
	vm_event(vm, "vm.removed", "its disks stay where they are");
	manager_vm_drop(vm);
	return 0;
}
