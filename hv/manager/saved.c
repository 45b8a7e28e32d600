/* SPDX-License-Identifier: Apache-2.0 */

/*
 * saved - a saved state is used once (docs/decisions/0084).
 *
 *   saving.state   the worker writes it; its head comes last, so whole or not can be told
 *   saved.state    the VM is SAVED; deleted before a VM that was restored from it runs
 *
 * Were it there after that, a later start would bring back memory that is older than the disks.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/errbuf.h"
#include "base/fs.h"
#include "base/log.h"
#include "hv/manager/manager_int.h"
#include "hv/worker/statefile_wire.h"

#define TAG "manager"

int vm_saved_forget(const struct vm *vm, struct errbuf *eb)
{
	if (unlink(vm->saved_path) != 0) {
		return errno == ENOENT ? 0 : errbuf_sys(eb, -errno, "%s", vm->saved_path);
	}
	return fs_sync_dir(vm->dir, eb);
}

static bool vm_saving_whole(const struct vm *vm)
{
	int fd = open(vm->saving_path, O_RDONLY | O_CLOEXEC);
	le64 magic = le64_make(0);
	bool whole = fd >= 0 && pread(fd, &magic, sizeof(magic), 0) == sizeof(magic) &&
	             le64_get(magic) == STATEFILE_MAGIC;

	if (fd >= 0) {
		(void)close(fd);
	}
	return whole;
}

/* A worker that saves ends, also if nobody is there any more to give the file its name. */
static bool vm_saving_take(struct vm *vm)
{
	struct errbuf eb = {.text = ""};
	int err = rename(vm->saving_path, vm->saved_path) == 0
	                  ? fs_sync_dir(vm->dir, &eb)
	                  : errbuf_sys(&eb, -errno, "%s", vm->saved_path);

	if (err != 0) {
		log_err(TAG, "saved state not kept vm=%s reason=%s", vm->config.name,
		        errbuf_text(&eb, err));
	}
	return access(vm->saved_path, F_OK) == 0;
}

bool vm_saved_find(struct vm *vm)
{
	/* Also in RUNNING and OFF: a service before us, or one that starts, had asked for it. */
	if (!vm->asked_off && vm_saving_whole(vm)) {
		return vm_saving_take(vm);
	}
	(void)unlink(vm->saving_path);
	/* While it is there the guest has not run: turned off in the middle of a restore, the VM
	 * is as before. */
	return access(vm->saved_path, F_OK) == 0;
}

int vm_discard_saved(struct vm *vm, struct errbuf *eb)
{
	if (vm->state != VM_SAVED || vm->op != VM_OP_NONE) {
		return errbuf_set(eb, -EBUSY, "%s has no saved state to discard", vm->config.name);
	}
	if (vm_saved_forget(vm, eb) != 0) {
		return -EIO;
	}
	vm_move(vm, VM_OFF);
	return 0;
}
