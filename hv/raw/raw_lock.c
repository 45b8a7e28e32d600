/* SPDX-License-Identifier: Apache-2.0 */

/*
 * raw_lock - who may use the file.
 *
 * Locks of open file descriptions: they do not vanish when another descriptor of the file is
 * closed, and move with a descriptor that is passed to another process. The whole file, so that
 * they collide with QEMU's locks on single bytes. The kernel does not say who holds such a lock
 * (F_OFD_GETLK answers -1), so the process is searched in /proc, for the message only.
 *
 * These locks are a node's own. On a shared volume the right to write to the file comes with them
 * (base/shared_file.h): one node has it at a time.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/errbuf.h"
#include "base/shared_file.h"
#include "hv/raw/raw_int.h"

#define RAW_PROC_PATH_MAX 600 /* two names of a directory, 255 bytes each at most */
#define RAW_COMM_MAX 64
#define RAW_WHO_MAX 400

/* Does this fdinfo file show a lock of the inode that @needle (" MM:mm:inode ") names? */
static bool raw_fdinfo_locks(const char *path, const char *needle)
{
	char line[256];
	bool found = false;
	FILE *f = fopen(path, "re");

	if (f == NULL) {
		return false;
	}
	while (!found && fgets(line, sizeof(line), f) != NULL) {
		found = strncmp(line, "lock:", 5) == 0 && strstr(line, needle) != NULL;
	}
	(void)fclose(f);
	return found;
}

static bool raw_process_locks(const char *pid, const char *needle)
{
	char path[RAW_PROC_PATH_MAX];
	bool found = false;

	(void)snprintf(path, sizeof(path), "/proc/%s/fdinfo", pid);

	DIR *dir = opendir(path);

	if (dir == NULL) {
		return false; /* gone, or not ours to see */
	}
	for (struct dirent *e = readdir(dir); e != NULL && !found; e = readdir(dir)) {
		if (e->d_name[0] != '.') {
			(void)snprintf(path, sizeof(path), "/proc/%s/fdinfo/%s", pid, e->d_name);
			found = raw_fdinfo_locks(path, needle);
		}
	}
	(void)closedir(dir);
	return found;
}

static void raw_process_name(const char *pid, char name[RAW_COMM_MAX])
{
	char path[RAW_PROC_PATH_MAX];

	(void)snprintf(path, sizeof(path), "/proc/%s/comm", pid);

	FILE *f = fopen(path, "re");

	if (f == NULL || fgets(name, RAW_COMM_MAX, f) == NULL) {
		(void)snprintf(name, RAW_COMM_MAX, "?");
	}
	name[strcspn(name, "\n")] = '\0';
	if (f != NULL) {
		(void)fclose(f);
	}
}

/* Say who holds a lock on @fd's file: "process 12 (qemu)", or that nobody knows. */
static void raw_lock_holder(int fd, char *who, size_t len)
{
	char needle[64];
	struct stat st;
	DIR *proc = opendir("/proc");

	(void)snprintf(who, len, "another process");
	if (proc == NULL || fstat(fd, &st) != 0) {
		goto out;
	}
	(void)snprintf(needle, sizeof(needle), " %02x:%02x:%llu ", major(st.st_dev),
	               minor(st.st_dev), (unsigned long long)st.st_ino);
	for (struct dirent *e = readdir(proc); e != NULL; e = readdir(proc)) {
		if (isdigit((unsigned char)e->d_name[0]) != 0 &&
		    raw_process_locks(e->d_name, needle)) {
			char name[RAW_COMM_MAX];

			raw_process_name(e->d_name, name);
			(void)snprintf(who, len, "process %s (%s)", e->d_name, name);
			break;
		}
	}
out:
	if (proc != NULL) {
		(void)closedir(proc);
	}
}

/* Among the nodes. */
static int raw_take(int fd, struct errbuf *eb)
{
	int err = shared_file_take(fd);

	if (err == -EBUSY) {
		(void)errbuf_set(eb, err, "in use on another node");
		errbuf_hint(eb, "stop what uses it there, or open it read-only");
	} else if (err != 0) {
		(void)errbuf_sys(eb, err, "cannot have the right to write to it");
		errbuf_hint(eb, "godwit csv list says how its volume stands");
	}
	return err;
}

int raw_lock(int fd, bool read_only, struct errbuf *eb)
{
	struct flock lock = {
		.l_type = read_only ? F_RDLCK : F_WRLCK,
		.l_whence = SEEK_SET,
	};
	char who[RAW_WHO_MAX];

	if (fcntl(fd, F_OFD_SETLK, &lock) == 0) {
		int err = read_only ? 0 : raw_take(fd, eb);

		if (err != 0) {
			(void)raw_unlock(fd);
		}
		return err;
	}
	if (errno != EAGAIN && errno != EACCES) {
		int err = errbuf_sys(eb, -errno, "cannot be locked");

		errbuf_hint(eb, "two users would destroy it: use a file system with locks");
		return err;
	}
	raw_lock_holder(fd, who, sizeof(who));
	(void)errbuf_set(eb, -EBUSY, "in use by %s", who);
	errbuf_hint(eb, read_only ? "somebody writes to it: wait until it is closed"
	                          : "stop what uses it, or open it read-only");
	return -EBUSY;
}

int raw_unlock(int fd)
{
	struct flock lock = {.l_type = F_UNLCK, .l_whence = SEEK_SET};
	int err = shared_file_yield(fd);

	/* Cannot fail for a lock we hold; without one there is nothing to give back. */
	(void)fcntl(fd, F_OFD_SETLK, &lock);
	return err;
}
