/* SPDX-License-Identifier: Apache-2.0 */

/* adopt - what became of a VM while there was no service. */

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/errbuf.h"
#include "base/json.h"
#include "base/log.h"
#include "hv/manager/manager_int.h"

#define TAG "manager"

static void vm_adopt_answer(void *arg, int err, json_t *result, const struct errbuf *eb)
{
	struct vm *vm = arg;
	const char *state = json_string_value(json_object_get(result, "state"));
	const char *role;
	struct errbuf why = {.text = ""};

	(void)eb;
	if (err != 0 || state == NULL || vm->op != VM_OP_NONE) {
		return;
	}
	if (strcmp(state, "off") != 0 && vm_saved_forget(vm, &why) != 0) {
		log_err(TAG, "saved state not deleted vm=%s reason=%s", vm->config.name, why.text);
	}
	vm_storage(vm, json_object_get(result, "storage"));
	if (strcmp(state, "critical") == 0) {
		vm_worker_state(vm, state);
	} else if (strcmp(state, "paused") == 0 && vm->state == VM_RUNNING) {
		vm_move(vm, VM_PAUSED);
	} else if (strcmp(state, "off") == 0) {
		/* Made, but never started: the service ended in the middle. */
		vm->asked_off = true;
		vm_kill(vm);
		return;
	}
	role = json_string_value(json_object_get(json_object_get(result, "move"), "role"));
	if (role != NULL && strcmp(role, "source") == 0) {
		vm_move_call_back(vm);
	}
}

/* The journal has a move of it: neither running nor off. */
static void vm_adopt_moving(struct vm *vm, enum vm_state state)
{
	pid_t pid = vm_pid_find(vm);

	vm->state = state;
	if (pid != 0) {
		vm->pid = pid;
		if (vm_link(vm) != 0) {
			vm_worker_end(vm);
		}
	}
}

int vm_adopt_move(struct vm *vm, const json_t *record, struct errbuf *eb)
{
	const char *role = json_string_value(json_object_get(record, "role"));

	vm_adopt_moving(vm, role != NULL && strcmp(role, "source") == 0 ? VM_MOVED : VM_ARRIVING);
	return vm_move_restore(vm, record, eb);
}

void vm_adopt(struct vm *vm)
{
	pid_t pid = vm_pid_find(vm);
	char text[256] = "";

	if (pid != 0 && access(vm->hold_path, F_OK) != 0 && vm_link(vm) == 0) {
		vm->pid = pid;
		vm->state = VM_RUNNING;
		vm_event(vm, "vm.adopted", "its worker runs, pid %d", pid);
		if (link_request(vm->worker, "status", NULL, -1, vm_adopt_answer, vm) != 0) {
			log_warn(TAG, "worker not asked vm=%s", vm->config.name);
		}
		return;
	}
	if (pid != 0 && access(vm->hold_path, F_OK) == 0) {
		log_warn(TAG, "stood still in a move that others decide, killed vm=%s",
		         vm->config.name);
	}
	if (pid != 0) {
		vm->pid = pid; /* it lives, but does not listen: it is of no use */
		vm->state = VM_RUNNING;
		vm_worker_end(vm);
		return;
	}
	if (vm_saved_find(vm)) {
		vm->state = VM_SAVED;
	} else if (access(vm->pid_path, F_OK) == 0) {
		vm->guest_off = vm_end_read(vm, text, sizeof(text));
	}
	if (vm->state != VM_SAVED && !vm->guest_off && access(vm->pid_path, F_OK) == 0) {
		(void)snprintf(vm->last_error, sizeof(vm->last_error), "%s",
		               text[0] != '\0' ? text : "its worker ended while nobody looked");
		vm->state = VM_CRASHED;
		vm_event(vm, "vm.crashed", "%s", vm->last_error);
	}
	vm_leftovers_remove(vm);
	if (vm->state == VM_CRASHED) {
		vm_restart_consider(vm, true);
	}
}
