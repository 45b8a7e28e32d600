/* SPDX-License-Identifier: Apache-2.0 */

/*
 * burial - waiting for the end of a worker's process, on the loop.
 *
 * A process that was killed is not gone: what its requests wait for may be a device that hangs. Its
 * taps, its locks and its writes are there until it has ended, so nothing of its VM may begin
 * before; but the service has other things to do meanwhile. A VM that is dropped leaves its burial
 * behind: until it is over no VM with that id is let in.
 */

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "hv/manager/manager_int.h"

#define TAG "manager"
#define BURIAL_WARN_NS (5 * NS_PER_S) /* a killed process ends in milliseconds */
#define BURIAL_POLL_NS (20 * NS_PER_MS)

struct burial {
	struct list link;        /* in manager.burials, while it is under way */
	struct manager *manager; /* back pointer */
	struct vm *vm;           /* back pointer; NULL: it was dropped */
	struct guid id;          /* of the VM */
	pid_t pid;               /* 0: nobody is buried */
	int pidfd;               /* owned; -1 = none: looked at again and again */
	struct loop_fd *watch;
	struct loop_timer *timer;
	uint64_t begun_ns;
	bool warned;
	char run_dir[MANAGER_PATH_MAX];
};

static void burial_timer(void *arg);

int burial_new(struct vm *vm, struct burial **out)
{
	struct burial *b = gw_calloc(1, sizeof(*b));
	int err = b != NULL ? 0 : -ENOMEM;

	*out = NULL;
	if (err == 0) {
		b->manager = vm->manager;
		b->vm = vm;
		b->id = vm->config.id;
		b->pidfd = -1;
		list_init(&b->link);
		(void)snprintf(b->run_dir, sizeof(b->run_dir), "%s", vm->run_dir);
		err = loop_timer_new(vm->manager->cfg.loop, burial_timer, b, &b->timer);
	}
	if (err != 0) {
		free(b);
		return err;
	}
	*out = b;
	return 0;
}

static void burial_unwatch(struct burial *b)
{
	loop_fd_del(b->watch);
	b->watch = NULL;
	if (b->pidfd >= 0) {
		(void)close(b->pidfd);
	}
	b->pidfd = -1;
	loop_timer_disarm(b->timer);
	list_del(&b->link);
	list_init(&b->link);
}

static void burial_free(struct burial *b)
{
	burial_unwatch(b);
	loop_timer_del(b->timer);
	free(b);
}

void burial_leave(struct vm *vm)
{
	struct burial *b = vm->burial;

	vm->burial = NULL;
	if (b != NULL && b->pid != 0) {
		b->vm = NULL;
	} else if (b != NULL) {
		burial_free(b);
	}
}

void burial_fini(struct manager *m)
{
	list_for_each_safe(link, &m->burials)
	{
		burial_free(list_entry(link, struct burial, link));
	}
}

void worker_leftovers_remove(const char *run_dir, const struct guid *id)
{
	static const char *const names[] = {"control.sock", "worker.pid", "end.json", "move.hold"};
	char path[MANAGER_PATH_MAX + 16];

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", run_dir, names[i]);
		(void)unlink(path);
	}
	worker_cgroup_remove(id);
}

static bool burial_over(const struct burial *b)
{
	char path[MANAGER_PATH_MAX + 16];
	struct pollfd p = {.fd = b->pidfd, .events = POLLIN};
	siginfo_t info;

	if (b->pidfd >= 0) {
		if (poll(&p, 1, 0) <= 0) {
			return false;
		}
		(void)waitid(P_PIDFD, (id_t)b->pidfd, &info, WEXITED | WNOHANG);
		return true;
	}
	if (waitpid(b->pid, NULL, WNOHANG) == b->pid) {
		return true;
	}
	(void)snprintf(path, sizeof(path), "%s/worker.pid", b->run_dir);
	return worker_pid_find(path) != b->pid;
}

static void burial_end(struct burial *b)
{
	struct vm *vm = b->vm;

	burial_unwatch(b);
	b->pid = 0;
	if (vm != NULL) {
		vm->pid = 0;
		vm_worker_buried(vm); /* may be the end of both */
		return;
	}
	worker_leftovers_remove(b->run_dir, &b->id);
	burial_free(b);
}

static void burial_ready(int fd, uint32_t events, void *arg)
{
	struct burial *b = arg;

	(void)fd;
	(void)events;
	if (burial_over(b)) {
		burial_end(b);
	}
}

static void burial_timer(void *arg)
{
	struct burial *b = arg;

	if (burial_over(b)) {
		burial_end(b);
		return;
	}
	if (!b->warned && clock_now_ns() - b->begun_ns >= BURIAL_WARN_NS) {
		b->warned = true;
		log_warn(TAG, "killed worker has not ended vm=%s pid=%d",
		         b->vm != NULL ? b->vm->config.name : "(gone)", b->pid);
	}
	if (b->watch == NULL || !b->warned) {
		loop_timer_arm(b->timer, b->watch == NULL ? BURIAL_POLL_NS : BURIAL_WARN_NS);
	}
}

/* Our child can be no other process; another one has to be the one of the pid file. */
static void burial_kill(const struct burial *b, const struct vm *vm)
{
	siginfo_t info;

	if (b->pidfd < 0) {
		if (vm_pid_find(vm) == b->pid) {
			vm_kill(vm);
		}
	} else if (waitid(P_PIDFD, (id_t)b->pidfd, &info, WEXITED | WNOHANG | WNOWAIT) == 0 ||
	           vm_pid_find(vm) == b->pid) {
		(void)syscall(SYS_pidfd_send_signal, b->pidfd, SIGKILL, NULL, 0);
	}
}

void vm_bury(struct vm *vm)
{
	struct burial *b = vm->burial;

	if (b->pid != 0 || vm->pid == 0) {
		return;
	}
	b->pid = vm->pid;
	b->begun_ns = clock_now_ns();
	b->warned = false;
	list_add_tail(&vm->manager->burials, &b->link);
	/* Opened first, then looked at: it cannot become another process meanwhile. */
	b->pidfd = (int)syscall(SYS_pidfd_open, vm->pid, 0);
	burial_kill(b, vm);
	if (b->pidfd >= 0 && loop_fd_add(vm->manager->cfg.loop, b->pidfd, LOOP_READ, burial_ready,
	                                 b, &b->watch) != 0) {
		b->watch = NULL;
	}
	loop_timer_arm(b->timer, b->watch != NULL ? BURIAL_WARN_NS : 0);
}

bool manager_worker_lives(const struct manager *m, const struct guid *id)
{
	char path[MANAGER_PATH_MAX];
	char text[GUID_TEXT_SIZE];

	list_for_each(at, &m->burials)
	{
		if (guid_equal(&list_entry(at, struct burial, link)->id, id)) {
			return true;
		}
	}
	(void)snprintf(path, sizeof(path), "%.400s/vm/%s/worker.pid", m->cfg.run_dir,
	               guid_format(id, text));
	return worker_pid_find(path) != 0;
}
