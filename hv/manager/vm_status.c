/* SPDX-License-Identifier: Apache-2.0 */

/* vm_status - what a VM's worker tells of it, and its console. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/errbuf.h"
#include "base/guid.h"
#include "hv/manager/manager_int.h"

struct vm_refresh_call {
	struct vm *vm;
	vm_done_fn done;
	void *arg;
};

static void vm_refresh_answer(void *arg, int err, json_t *result, const struct errbuf *eb)
{
	struct vm_refresh_call *call = arg;

	if (err == 0 && json_is_object(result)) {
		json_decref(call->vm->status);
		call->vm->status = json_incref(result);
	}
	if (call->done != NULL) {
		call->done(call->arg, err, eb);
	}
	free(call);
}

void vm_refresh(struct vm *vm, vm_done_fn done, void *arg)
{
	struct vm_refresh_call *call;
	struct errbuf eb = {0};
	int err = -ENOMEM;

	if (vm->worker == NULL) {
		json_decref(vm->status);
		vm->status = NULL;
		done(arg, 0, NULL);
		return;
	}
	call = malloc(sizeof(*call));
	if (call != NULL) {
		*call = (struct vm_refresh_call){.vm = vm, .done = done, .arg = arg};
		err = link_request(vm->worker, "status", NULL, -1, vm_refresh_answer, call);
	}
	if (err != 0) {
		free(call);
		done(arg, errbuf_sys(&eb, err, "cannot ask the worker"), &eb);
	}
}

static void vm_console_answer(void *arg, int err, json_t *result, const struct errbuf *eb)
{
	struct vm_refresh_call *call = arg;

	(void)result;
	call->done(call->arg, err, eb);
	free(call);
}

void vm_console(struct vm *vm, int stream_fd, vm_done_fn done, void *arg)
{
	struct vm_refresh_call *call = malloc(sizeof(*call));
	struct errbuf eb = {0};
	int err = -ENOMEM;

	if (vm->worker == NULL) {
		(void)errbuf_set(&eb, -ENOTCONN, "%s is %s and has no console", vm->config.name,
		                 vm_state_name(vm->state));
		err = -ENOTCONN;
	} else if (call != NULL) {
		*call = (struct vm_refresh_call){.vm = vm, .done = done, .arg = arg};
		err = link_request(vm->worker, "console", NULL, stream_fd, vm_console_answer, call);
	}
	(void)close(stream_fd);
	if (err != 0) {
		free(call);
		done(arg, err, &eb);
	}
}

void vm_storage(struct vm *vm, const json_t *said)
{
	const char *trouble = json_string_value(json_object_get(said, "trouble"));
	json_int_t disk = json_integer_value(json_object_get(said, "disk"));
	const char *path;

	vm->trouble[0] = '\0';
	if (trouble == NULL || disk < 0 || disk >= vm->config.disk_count) {
		return;
	}
	path = vm->config.disks[disk].path;
	if (strcmp(trouble, "no-room") == 0) {
		(void)snprintf(vm->trouble, sizeof(vm->trouble),
		               "no room is left where its disk %.400s lies", path);
	} else if (strcmp(trouble, "no-answer") == 0) {
		(void)snprintf(vm->trouble, sizeof(vm->trouble),
		               "the storage of its disk %.400s does not answer", path);
	}
}

bool vm_has_worker(const struct vm *vm)
{
	return vm->pid != 0;
}

bool vm_is_owned(const struct vm *vm)
{
	return vm->cluster;
}

bool vm_guest_off(const struct vm *vm)
{
	return vm->guest_off;
}

void vm_cut(struct vm *vm)
{
	vm->asked_off = true;
	vm_kill(vm);
}

const char *vm_pid_path(const struct vm *vm)
{
	return vm->pid_path;
}

json_t *vm_status(const struct vm *vm)
{
	static const char *const from_worker[] = {"cpu_ns",    "uptime_ns", "resident_max_bytes",
	                                          "heartbeat", "guest",     "nics"};
	char id[GUID_TEXT_SIZE];
	struct json_build b;
	json_t *out = NULL;

	json_build_object(&b);
	json_add_str(&b, "name", vm->config.name);
	json_add_str(&b, "id", guid_format(&vm->config.id, id));
	json_add_str(&b, "state", vm_state_name(vm->state));
	json_add_u64(&b, "memory_bytes", vm->config.memory_bytes);
	json_add_u64(&b, "cpus", vm->config.cpus);
	json_add_str(&b, "error", vm->trouble[0] != '\0' ? vm->trouble : vm->last_error);
	json_add_u64(&b, "restarts", vm->restarts);
	json_add_bool(&b, "cluster", vm->cluster);
	for (size_t i = 0; i < ARRAY_LEN(from_worker); i++) {
		json_t *value = json_object_get(vm->status, from_worker[i]);

		if (value != NULL) {
			json_add(&b, from_worker[i], json_incref(value));
		}
	}
	return json_build_end(&b, &out) == 0 ? out : NULL;
}
