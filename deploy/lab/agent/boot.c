/* SPDX-License-Identifier: Apache-2.0 */
#include "deploy/lab/agent/boot.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 1024

void boot_say(const char *fmt, ...)
{
	char line[256];
	const int head = snprintf(line, sizeof(line), "<5>lab: ");
	va_list args;

	va_start(args, fmt);
	(void)vsnprintf(line + head, sizeof(line) - (size_t)head, fmt, args);
	va_end(args);
	const int fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);

	if (fd >= 0) {
		const ssize_t n = write(fd, line, strlen(line));

		(void)n; /* Nowhere left to complain. */
		close(fd);
	}
}

static int failed(const char *what, const char *which)
{
	const int err = errno;

	boot_say("%s %s: %s", what, which, strerror(err));
	return -err;
}

struct mount_entry {
	const char *type;
	const char *target;
	const char *source;
	const char *options;
	unsigned long flags;
};

static int mount_all(const struct mount_entry *table, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const struct mount_entry *m = &table[i];

		if (mkdir(m->target, 0755) != 0 && errno != EEXIST) {
			return failed("mkdir", m->target);
		}
		if (mount(m->source, m->target, m->type, m->flags, m->options) != 0) {
			return failed("mount", m->target);
		}
	}
	return 0;
}

static void copy_value(char *to, size_t size, const char *from)
{
	(void)snprintf(to, size, "%.*s", (int)strcspn(from, "\n"), from);
}

static void conf_line(struct boot_conf *conf, const char *line)
{
	const struct {
		const char *key;
		char *to;
		size_t size;
	} keys[] = {
		{"nodes=", conf->nodes, sizeof(conf->nodes)},
		{"source=", conf->source, sizeof(conf->source)},
		{"build=", conf->build, sizeof(conf->build)},
		{"build_tag=", conf->build_tag, sizeof(conf->build_tag)},
		{"modules=", conf->modules, sizeof(conf->modules)},
		{"luns=", conf->luns, sizeof(conf->luns)},
	};

	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		const size_t n = strlen(keys[i].key);

		if (strncmp(line, keys[i].key, n) == 0) {
			copy_value(keys[i].to, keys[i].size, line + n);
		}
	}
}

static int conf_read(struct boot_conf *conf)
{
	char line[LINE_MAX_BYTES];
	FILE *f = fopen("/lab.conf", "re");

	if (!f) {
		return failed("open", "/lab.conf");
	}
	while (fgets(line, sizeof(line), f)) {
		conf_line(conf, line);
	}
	(void)fclose(f);
	f = fopen("/proc/cmdline", "re");
	if (!f || !fgets(line, sizeof(line), f)) {
		if (f) {
			(void)fclose(f);
		}
		return failed("read", "/proc/cmdline");
	}
	(void)fclose(f);
	const char *node = strstr(line, "gwlab.node=");

	if (!node) {
		errno = EINVAL;
		return failed("no gwlab.node= in", line);
	}
	node += strlen("gwlab.node=");
	(void)snprintf(conf->node, sizeof(conf->node), "%.*s", (int)strcspn(node, " \n"), node);
	conf->emulated = strstr(line, "gwlab.emulated") != NULL;
	return 0;
}

/* Load what /modules lists, in its order, and free the memory they lay in. */
static int load_modules(void)
{
	char name[NAME_MAX];
	FILE *f = fopen("/modules", "re");

	if (!f) {
		return failed("open", "/modules");
	}
	while (fgets(name, sizeof(name), f)) {
		name[strcspn(name, "\n")] = 0;
		const int fd = open(name, O_RDONLY | O_CLOEXEC);

		if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) != 0 && errno != EEXIST)) {
			const int err = failed("module", name);

			if (fd >= 0) {
				close(fd);
			}
			(void)fclose(f);
			return err;
		}
		close(fd);
		(void)unlink(name);
	}
	(void)fclose(f);
	return 0;
}

/* The block device whose serial number is @serial; false: there is none (yet). */
static int disk_find(const char *serial, char *path, size_t size)
{
	DIR *d = opendir("/sys/block");
	int found = 0;

	for (const struct dirent *e; d && !found && (e = readdir(d)) != NULL;) {
		char file[NAME_MAX + 32];
		char text[64] = "";

		(void)snprintf(file, sizeof(file), "/sys/block/%s/serial", e->d_name);
		FILE *f = fopen(file, "re");

		if (!f) {
			continue;
		}
		if (fgets(text, sizeof(text), f)) {
			text[strcspn(text, "\n")] = 0;
			found = strcmp(text, serial) == 0;
		}
		(void)fclose(f);
		if (found) {
			(void)snprintf(path, size, "/dev/%s", e->d_name);
		}
	}
	if (d) {
		(void)closedir(d);
	}
	return found ? 0 : -ENOENT;
}

static int disk_wait(const char *serial, char *path, size_t size)
{
	const struct timespec step = {.tv_nsec = 10L * 1000 * 1000};

	for (int tries = 0; tries < 1000; tries++) {
		if (disk_find(serial, path, size) == 0) {
			return 0;
		}
		(void)nanosleep(&step, NULL);
	}
	errno = ENODEV;
	return failed("no disk with serial", serial);
}

/* mkdir -p; the last component too. */
static int make_path(const char *path)
{
	char part[PATH_MAX];

	for (size_t i = 1; i < sizeof(part) && i <= strlen(path); i++) {
		if (path[i] != '/' && path[i] != 0) {
			continue;
		}
		(void)snprintf(part, sizeof(part), "%.*s", (int)i, path);
		if (mkdir(part, 0755) != 0 && errno != EEXIST) {
			return failed("mkdir", part);
		}
	}
	return 0;
}

/*
 * A node is a fresh machine: it must not find the cluster, keys or logs of the host it borrows its
 * programs from. An opaque directory in the upper layer hides the lower one.
 */
static int hide_host_state(void)
{
	static const char *const hidden[] = {
		"/disk/upper/etc/godwit",
		"/disk/upper/etc/corosync",
		"/disk/upper/etc/iscsi",
		"/disk/upper/etc/target",
		"/disk/upper/etc/ssh",
		"/disk/upper/root",
		"/disk/upper/home",
		"/disk/upper/var/lib/godwit",
		"/disk/upper/var/lib/corosync",
		"/disk/upper/var/lib/iscsi",
		"/disk/upper/var/log",
		"/disk/upper/var/tmp",
	};

	if (access("/disk/upper", F_OK) == 0) {
		return 0;
	}
	/* Built aside and renamed: power may be cut in the middle. */
	if (make_path("/disk/work") != 0 || make_path("/disk/upper.new") != 0) {
		return -EIO;
	}
	for (size_t i = 0; i < ARRAY_LEN(hidden); i++) {
		char path[128];

		(void)snprintf(path, sizeof(path), "/disk/upper.new%s",
		               hidden[i] + strlen("/disk/upper"));
		const int err = make_path(path);

		if (err != 0) {
			return err;
		}
		if (setxattr(path, "trusted.overlay.opaque", "y", 1, 0) != 0) {
			return failed("setxattr", path);
		}
	}
	if (chmod("/disk/upper.new/root", 0700) != 0 ||
	    chmod("/disk/upper.new/var/tmp", 01777) != 0 ||
	    rename("/disk/upper.new", "/disk/upper") != 0) {
		return failed("rename", "/disk/upper");
	}
	sync();
	return 0;
}

/* A tree of the host that changes while the lab runs: not cached, so that a new build is seen. */
static int mount_live(const char *tag, const char *path)
{
	const int err = make_path(path);

	if (err != 0) {
		return err;
	}
	if (mount(tag, path, "9p", MS_RDONLY,
	          "trans=virtio,version=9p2000.L,msize=512000,cache=none") != 0) {
		return failed("mount", path);
	}
	return 0;
}

static int bind_modules(const struct boot_conf *conf)
{
	char from[PATH_MAX];

	(void)snprintf(from, sizeof(from), "/lower%s", conf->modules);
	const int err = make_path("/new/usr/lib/modules");

	if (err != 0) {
		return err;
	}
	if (mount(from, "/new/usr/lib/modules", NULL, MS_BIND, NULL) != 0) {
		return failed("bind", from);
	}
	return 0;
}

static int enter(void)
{
	static const char *const moved[] = {"/proc", "/sys", "/dev"};

	for (size_t i = 0; i < ARRAY_LEN(moved); i++) {
		char target[32];

		(void)snprintf(target, sizeof(target), "/new%s", moved[i]);
		if (mount(moved[i], target, NULL, MS_MOVE, NULL) != 0) {
			return failed("move", moved[i]);
		}
	}
	if (chdir("/new") != 0 || mount(".", "/", NULL, MS_MOVE, NULL) != 0 || chroot(".") != 0 ||
	    chdir("/") != 0) {
		return failed("enter", "/new");
	}
	return 0;
}

/* As godwit-host's package has it done on a host (deploy/systemd/godwit.tmpfiles.conf): docs/lab.md
 * has what it is worth. A kernel may have none. */
static void huge_pages(void)
{
	int fd = open("/sys/kernel/mm/transparent_hugepage/shmem_enabled", O_WRONLY | O_CLOEXEC);

	if ((fd < 0 && errno != ENOENT) || (fd >= 0 && write(fd, "advise", 6) < 0)) {
		boot_say("no huge pages for guests: %s", strerror(errno));
	}
	if (fd >= 0) {
		(void)close(fd);
	}
}

int boot_root(struct boot_conf *conf)
{
	static const struct mount_entry early[] = {
		{"devtmpfs", "/dev", "dev", NULL, MS_NOSUID},
		{"proc", "/proc", "proc", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC},
		{"sysfs", "/sys", "sys", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC},
	};
	static const struct mount_entry layers[] = {
		{"9p", "/lower", "root", "trans=virtio,version=9p2000.L,msize=512000,cache=loose",
	         MS_RDONLY},
		{"overlay", "/new", "root",
	         "lowerdir=/lower,upperdir=/disk/upper,workdir=/disk/work", 0},
	};
	static const struct mount_entry late[] = {
		{"tmpfs", "/run", "run", "mode=755", MS_NOSUID | MS_NODEV},
		{"tmpfs", "/tmp", "tmp", "mode=1777", MS_NOSUID | MS_NODEV},
		{"tmpfs", "/dev/shm", "shm", "mode=1777", MS_NOSUID | MS_NODEV},
		{"devpts", "/dev/pts", "pts", "ptmxmode=0666,mode=620,gid=5", MS_NOSUID},
		{"cgroup2", "/sys/fs/cgroup", "cgroup", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC},
		{"debugfs", "/sys/kernel/debug", "debug", NULL, 0},
	};
	char disk[PATH_MAX];
	int err = mount_all(early, ARRAY_LEN(early));

	if (err == 0) {
		err = conf_read(conf);
	}
	if (err == 0) {
		err = load_modules();
	}
	if (err == 0) {
		err = disk_wait("private", disk, sizeof(disk));
	}
	if (err == 0) {
		const struct mount_entry private = {"ext4", "/disk", disk, NULL, MS_NOATIME};

		err = mount_all(&private, 1);
	}
	if (err == 0) {
		err = hide_host_state();
	}
	if (err == 0) {
		err = mount_all(layers, ARRAY_LEN(layers));
	}
	if (err == 0) {
		err = bind_modules(conf);
	}
	if (err == 0) {
		err = enter();
	}
	if (err == 0) {
		err = mount_all(late, ARRAY_LEN(late));
	}
	if (err == 0) {
		huge_pages();
		err = mount_live("source", conf->source);
	}
	if (err == 0 && conf->build_tag[0] != 0) {
		err = mount_live(conf->build_tag, conf->build);
	}
	return err;
}
