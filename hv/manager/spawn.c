/* SPDX-License-Identifier: Apache-2.0 */

/*
 * spawn - start a VM's worker: open what the definition names, hand the descriptors over, exec.
 *
 * The worker's pid and start time are written down, so that a later manager can tell it from a
 * process that has its number by accident.
 */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/errbuf.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/patience.h"
#include "base/proc.h"
#include "base/text.h"
#include "hv/manager/manager_int.h"
#include "hv/manager/spawn_disks.h"

#define TAG "manager"
#define SPAWN_FDS_MAX (SPAWN_DISK_FILES_MAX + VM_NICS_MAX * MANAGER_TAP_QUEUES_MAX + 16)
#define CGROUP_ROOT "/sys/fs/cgroup/godwit"

/* Descriptors for the child; all close-on-exec here, opened up in the child. */
struct spawn {
	struct vm *vm;
	int fds[SPAWN_FDS_MAX];
	uint32_t count;
	int control_fd;
	int config_fd;
	int root_fd;
};

static int spawn_keep(struct spawn *s, int fd, struct errbuf *eb)
{
	if (s->count == SPAWN_FDS_MAX) {
		(void)close(fd);
		return errbuf_set(eb, -EMFILE, "too many files for one VM");
	}
	s->fds[s->count++] = fd;
	return fd;
}

static void spawn_close(struct spawn *s)
{
	while (s->count != 0) {
		(void)close(s->fds[--s->count]);
	}
}

/* A plain file, or the reason. */
static int spawn_kind_check(int fd, struct errbuf *eb)
{
	struct stat st;

	if (fstat(fd, &st) != 0) {
		return errbuf_sys(eb, -errno, "cannot be looked at");
	}
	return S_ISREG(st.st_mode) ? 0 : errbuf_set(eb, -EINVAL, "not a file");
}

/*
 * A file that somebody named: opened without waiting (a FIFO would hold the whole service), and
 * only used if it is a file. Returns the descriptor, kept; -errno with a text that names it.
 */
static int spawn_open(struct spawn *s, const char *what, const char *path, int flags,
                      struct errbuf *eb)
{
	int err = patience_stat(path, NULL);
	int fd = err != -ETIMEDOUT ? open(path, flags | O_NONBLOCK | O_CLOEXEC | O_NOCTTY) : -1;

	if (fd < 0) {
		err = errbuf_sys(eb, err == -ETIMEDOUT ? err : -errno, "%s %s", what, path);
		errbuf_hint(eb, "check that the file exists and that its path is right");
		return err;
	}
	err = spawn_kind_check(fd, eb);
	/* To io_uring the flag would mean "never sleep". */
	if (err == 0 && fcntl(fd, F_SETFL, flags) != 0) {
		err = errbuf_sys(eb, -errno, "cannot be used");
	}
	if (err != 0) {
		(void)close(fd);
		errbuf_prepend(eb, "%s %s", what, path);
		errbuf_hint(eb, "check that the file exists and that its path is right");
		return err;
	}
	return spawn_keep(s, fd, eb);
}

/* A path of ours. Returns the descriptor, kept; -errno with a text that names it. */
static int spawn_open_own(struct spawn *s, const char *what, const char *path, int flags,
                          struct errbuf *eb)
{
	int fd = open(path, flags | O_CLOEXEC | O_NOCTTY, 0600);

	return fd < 0 ? errbuf_sys(eb, -errno, "%s %s", what, path) : spawn_keep(s, fd, eb);
}

static int spawn_boot_open(struct spawn *s, json_t *fds, struct errbuf *eb)
{
	const struct vm_config *c = &s->vm->config;
	int kvm;
	int kernel;
	int initrd = -1;

	if (c->kernel[0] == '\0') {
		int err = errbuf_set(eb, -EINVAL, "the VM has no kernel to boot");

		errbuf_hint(eb, "godwit vm set %s --kernel PATH [--initrd PATH]", c->name);
		return err;
	}
	kvm = spawn_open_own(s, "KVM", "/dev/kvm", O_RDWR, eb);
	if (kvm < 0) {
		errbuf_hint(eb, "godwit host check says what this machine lacks");
		return kvm;
	}
	kernel = spawn_open(s, "kernel", c->kernel, O_RDONLY, eb);
	if (kernel < 0) {
		return kernel;
	}
	if (c->initrd[0] != '\0') {
		initrd = spawn_open(s, "initrd", c->initrd, O_RDONLY, eb);
		if (initrd < 0) {
			return initrd;
		}
	}
	return json_object_set_new(fds, "kvm", json_integer(kvm)) |
	                       json_object_set_new(fds, "kernel", json_integer(kernel)) |
	                       json_object_set_new(fds, "initrd", json_integer(initrd))
	               ? -ENOMEM
	               : 0;
}

/* [[own file, parent, ...], ...] */
static int spawn_disks_json(struct spawn *s, const struct spawn_disks *files, json_t *fds,
                            struct errbuf *eb)
{
	json_t *disks = json_array();
	uint32_t next = 0;
	int err = disks != NULL ? 0 : -ENOMEM;

	/* All of them are taken, also if one does not fit. */
	for (uint32_t i = 0; i < files->count; i++) {
		if (spawn_keep(s, files->fds[i], err == 0 ? eb : NULL) < 0) {
			err = err != 0 ? err : -EMFILE;
		}
	}
	for (uint32_t i = 0; err == 0 && i < s->vm->config.disk_count; i++) {
		json_t *list = json_array();

		for (uint32_t k = 0; k < files->files[i]; k++) {
			if (json_array_append_new(list, json_integer(files->fds[next++])) != 0) {
				err = -ENOMEM;
			}
		}
		if (json_array_append_new(disks, list) != 0) {
			err = -ENOMEM;
		}
	}
	if (err != 0) {
		json_decref(disks);
		return err;
	}
	return json_object_set_new(fds, "disks", disks) == 0 ? 0 : -ENOMEM;
}

/* [connection or -1, ...]; left out if there is none. */
static int spawn_direct_json(struct spawn *s, const struct spawn_disks *files, json_t *fds,
                             struct errbuf *eb)
{
	json_t *list = json_array();
	bool any = false;
	int err = list != NULL ? 0 : -ENOMEM;

	for (uint32_t i = 0; i < VM_DISKS_MAX; i++) {
		int fd = files->direct[i];

		if (fd >= 0 && spawn_keep(s, fd, err == 0 ? eb : NULL) < 0) {
			err = err != 0 ? err : -EMFILE;
		}
		any = any || fd >= 0;
		if (i < s->vm->config.disk_count &&
		    json_array_append_new(list, json_integer(fd)) != 0) {
			err = -ENOMEM;
		}
	}
	if (err != 0 || !any) {
		json_decref(list);
		return err;
	}
	return json_object_set_new(fds, "direct", list) == 0 ? 0 : -ENOMEM;
}

static int spawn_disks(struct spawn *s, json_t *fds, struct errbuf *eb)
{
	struct spawn_disks *files = gw_calloc(1, sizeof(*files));
	const struct spawn_direct direct = {
		.socket = s->vm->manager->cfg.direct_socket,
		.guarded = s->vm->cluster,
	};
	int err = files != NULL ? spawn_disks_open(&s->vm->config, s->vm->state == VM_ARRIVING,
	                                           &direct, files, eb)
	                        : -ENOMEM;

	if (err == 0) {
		int kept;

		/* All are kept for the child, or closed, whichever of the two fails. */
		err = spawn_disks_json(s, files, fds, eb);
		kept = spawn_direct_json(s, files, fds, err == 0 ? eb : NULL);
		err = err != 0 ? err : kept;
	}
	free(files);
	return err;
}

/* One adapter for the worker: {"queues": [descriptors], "mtu_bytes", "link"}; without queues there
 * is none. NULL = no memory. */
static json_t *spawn_tap_json(const struct manager_tap *tap)
{
	struct json_build b;
	struct json_build queues;
	json_t *out;

	json_build_array(&queues);
	for (uint32_t i = 0; i < tap->count; i++) {
		json_add_u64(&queues, NULL, (uint64_t)tap->fds[i]);
	}
	json_build_object(&b);
	json_add_build(&b, "queues", &queues);
	json_add_u64(&b, "mtu_bytes", tap->mtu_bytes);
	json_add_bool(&b, "link", tap->link);
	return json_build_end(&b, &out) == 0 ? out : NULL;
}

static int spawn_tap_open(struct spawn *s, uint32_t nic, struct manager_tap *tap, struct errbuf *eb)
{
	const struct manager_cfg *cfg = &s->vm->manager->cfg;
	int err = 0;

	*tap = (struct manager_tap){0};
	if (cfg->tap_open != NULL) {
		err = cfg->tap_open(cfg->tap_arg, &s->vm->config, nic, s->vm->state == VM_ARRIVING,
		                    tap, eb);
	}
	/* All of them are taken, also if one does not fit. */
	for (uint32_t i = 0; err == 0 && i < tap->count; i++) {
		if (spawn_keep(s, tap->fds[i], eb) < 0) {
			err = -EMFILE;
			while (++i < tap->count) {
				(void)close(tap->fds[i]);
			}
		}
	}
	if (err != 0) {
		errbuf_prepend(eb, "adapter %u", nic);
	}
	return err;
}

static int spawn_taps_open(struct spawn *s, json_t *fds, struct errbuf *eb)
{
	json_t *taps = json_array();

	for (uint32_t i = 0; i < s->vm->config.nic_count; i++) {
		struct manager_tap tap;
		int err = spawn_tap_open(s, i, &tap, eb);

		if (err == 0 && json_array_append_new(taps, spawn_tap_json(&tap)) != 0) {
			err = -ENOMEM;
		}
		if (err != 0) {
			json_decref(taps);
			return err;
		}
	}
	return json_object_set_new(fds, "taps", taps) == 0 ? 0 : -ENOMEM;
}

static int spawn_logs_open(struct spawn *s, json_t *fds, struct errbuf *eb)
{
	int log = spawn_open_own(s, "console log", s->vm->log_path, O_RDWR | O_CREAT, eb);
	int end;

	if (log < 0) {
		return log;
	}
	end = spawn_open_own(s, "end record", s->vm->end_path, O_RDWR | O_CREAT | O_TRUNC, eb);
	if (end < 0) {
		return end;
	}
	return json_object_set_new(fds, "console_log", json_integer(log)) |
	                       json_object_set_new(fds, "end", json_integer(end))
	               ? -ENOMEM
	               : 0;
}

/* The configuration as a memory file: whatever the definition's size, one descriptor. */
static int spawn_config(struct spawn *s, json_t *fds, struct errbuf *eb)
{
	json_t *config = json_pack("{s:O,s:O,s:b}", "vm", s->vm->config.json, "fds", fds,
	                           "arriving", s->vm->state == VM_ARRIVING);
	char *text = config != NULL ? json_text(config, 0) : NULL;
	int fd = text != NULL ? memfd_create("godwit-config", MFD_CLOEXEC) : -1;
	int err = 0;

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text)) {
		err = errbuf_sys(eb, fd < 0 ? -ENOMEM : -EIO, "cannot hand the definition over");
	}
	free(text);
	json_decref(config);
	if (fd >= 0) {
		s->config_fd = spawn_keep(s, fd, eb);
	}
	return err;
}

static int spawn_listen(struct spawn *s, struct errbuf *eb)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	size_t len = strlen(s->vm->socket_path);
	int fd;

	if (len >= sizeof(addr.sun_path)) {
		return errbuf_set(eb, -ENAMETOOLONG, "the run directory's path is too long");
	}
	memcpy(addr.sun_path, s->vm->socket_path, len + 1);
	(void)unlink(s->vm->socket_path); /* no worker: what is there is a leftover */
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0 || bind(fd, (const struct sockaddr *)&addr, sizeof(addr)) != 0 ||
	    listen(fd, 8) != 0) {
		int err = errbuf_sys(eb, -errno, "control socket %s", s->vm->socket_path);

		if (fd >= 0) {
			(void)close(fd);
		}
		return err;
	}
	s->control_fd = spawn_keep(s, fd, eb);
	return s->control_fd < 0 ? s->control_fd : 0;
}

static int spawn_prepare(struct spawn *s, struct errbuf *eb)
{
	json_t *fds = json_object();
	char empty[MANAGER_PATH_MAX + 16];
	int err = spawn_boot_open(s, fds, eb);

	if (err == 0) {
		err = spawn_disks(s, fds, eb);
	}
	if (err == 0) {
		err = spawn_taps_open(s, fds, eb);
	}
	if (err == 0) {
		err = spawn_logs_open(s, fds, eb);
	}
	if (err == 0) {
		err = spawn_config(s, fds, eb);
	}
	if (err == 0) {
		err = spawn_listen(s, eb);
	}
	if (err == 0) {
		(void)snprintf(empty, sizeof(empty), "%s/empty", s->vm->manager->cfg.run_dir);
		if (mkdir(empty, 0755) != 0 && errno != EEXIST) {
			err = errbuf_sys(eb, -errno, "%s", empty);
		} else {
			s->root_fd =
				spawn_open_own(s, "directory", empty, O_RDONLY | O_DIRECTORY, eb);
			err = s->root_fd < 0 ? s->root_fd : 0;
		}
	}
	json_decref(fds);
	return err == -ENOMEM ? errbuf_sys(eb, err, "cannot start the worker") : err;
}

/* ---- the child ---- */

/* After fork(): only system calls until exec. */
static _Noreturn void spawn_child(const struct spawn *s, char *const argv[])
{
	sigset_t none;

	(void)setsid(); /* no terminal's interrupt reaches a VM */
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	for (uint32_t i = 0; i < s->count; i++) {
		(void)fcntl(s->fds[i], F_SETFD, 0);
	}
	(void)execv(argv[0], argv);
	_exit(127);
}

static pid_t spawn_fork(const struct spawn *s)
{
	const struct manager_cfg *cfg = &s->vm->manager->cfg;
	uint32_t uid = cfg->worker_uid_base != 0 ? cfg->worker_uid_base + s->vm->slot : 0;
	char config[16];
	char control[16];
	char root[16];
	char user[16];
	char path[MANAGER_PATH_MAX];
	char *argv[] = {path, "--config-fd", config, "--control-fd", control, "--root-fd",
	                root, "--uid",       user,   "--gid",        user,    NULL};
	pid_t pid;

	(void)snprintf(path, sizeof(path), "%s", cfg->worker_path);
	(void)snprintf(config, sizeof(config), "%d", s->config_fd);
	(void)snprintf(control, sizeof(control), "%d", s->control_fd);
	(void)snprintf(root, sizeof(root), "%d", s->root_fd);
	(void)snprintf(user, sizeof(user), "%u", uid);
	pid = fork();
	if (pid == 0) {
		spawn_child(s, argv);
	}
	return pid;
}

/* ---- who it is ---- */

/* A worker that nobody can find again could not be ended: not by the next service, not by the
 * guard. */
static int spawn_pid_write(const struct vm *vm, struct errbuf *eb)
{
	uint64_t started = proc_start(vm->pid);
	char text[64];
	int len = snprintf(text, sizeof(text), "%d %" PRIu64 "\n", vm->pid, started);

	if (started == 0) {
		return errbuf_set(eb, -ESRCH, "the worker is nowhere to be seen");
	}
	return fs_write(vm->pid_path, text, (size_t)len, 0600, eb);
}

pid_t worker_pid_find(const char *path)
{
	FILE *f = fopen(path, "re");
	char line[64] = "";
	char *end;
	long pid;
	unsigned long long ticks;

	if (f == NULL) {
		return 0;
	}
	(void)!fgets(line, sizeof(line), f);
	(void)fclose(f);
	pid = strtol(line, &end, 10);
	ticks = strtoull(end, NULL, 10);
	if (pid <= 1 || ticks == 0 || proc_start((int)pid) != ticks) {
		return 0;
	}
	return (pid_t)pid;
}

pid_t vm_pid_find(const struct vm *vm)
{
	return worker_pid_find(vm->pid_path);
}

/* ---- its cgroup: for accounting and limits; a host without cgroup v2 runs VMs all the same
 * ---- */

static void spawn_cgroup_path(const struct guid *id, char *buf, size_t room)
{
	char text[GUID_TEXT_SIZE];

	(void)snprintf(buf, room, "%s/%s", CGROUP_ROOT, guid_format(id, text));
}

static void spawn_cgroup_enter(const struct vm *vm)
{
	char path[128];
	char procs[160];
	FILE *f;

	spawn_cgroup_path(&vm->config.id, path, sizeof(path));
	if ((mkdir(CGROUP_ROOT, 0755) != 0 && errno != EEXIST) ||
	    (mkdir(path, 0755) != 0 && errno != EEXIST)) {
		log_info(TAG, "no cgroup vm=%s errno=%d", vm->config.name, errno);
		return;
	}
	(void)snprintf(procs, sizeof(procs), "%s/cgroup.procs", path);
	f = fopen(procs, "we");
	if (f == NULL || fprintf(f, "%d\n", vm->pid) < 0) {
		log_info(TAG, "cgroup not entered vm=%s errno=%d", vm->config.name, errno);
	}
	if (f != NULL) {
		(void)fclose(f);
	}
}

void worker_cgroup_remove(const struct guid *id)
{
	char path[128];

	spawn_cgroup_path(id, path, sizeof(path));
	(void)rmdir(path);
}

int vm_spawn(struct vm *vm, struct errbuf *eb)
{
	struct spawn s = {.vm = vm, .control_fd = -1, .config_fd = -1, .root_fd = -1};
	int err;

	if (access(vm->manager->cfg.worker_path, X_OK) != 0) {
		return errbuf_sys(eb, -errno, "worker program %s", vm->manager->cfg.worker_path);
	}
	err = spawn_prepare(&s, eb);
	if (err == 0) {
		vm->pid = spawn_fork(&s);
		if (vm->pid < 0) {
			err = errbuf_sys(eb, -errno, "cannot start the worker");
			vm->pid = 0;
		}
	}
	spawn_close(&s);
	if (err == 0) {
		err = spawn_pid_write(vm, eb);
		if (err != 0) {
			(void)kill(vm->pid, SIGKILL);
			(void)waitpid(vm->pid, NULL, 0);
			vm->pid = 0;
			return err;
		}
		spawn_cgroup_enter(vm);
	}
	return err;
}

void vm_kill(const struct vm *vm)
{
	if (vm->pid != 0) {
		(void)kill(vm->pid, SIGKILL);
	}
}
