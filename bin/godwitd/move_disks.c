/* SPDX-License-Identifier: Apache-2.0 */
#include "bin/godwitd/move_disks.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/errbuf.h"
#include "base/hostfs.h"
#include "base/patience.h"
#include "hv/config/vm_config.h"
#include "migrate/compat/compat.h"

#define MARK_PATH_MAX 4096u
#define DEVICE_ID_MAX 300u

/* Beside the disk: its folder's path and a name that only the two nodes know. */
static int mark_path(const char *disk, const struct guid *move, char out[MARK_PATH_MAX])
{
	const char *slash = strrchr(disk, '/');
	char id[GUID_TEXT_SIZE];
	int len = snprintf(out, MARK_PATH_MAX, "%.*s/.godwit-move-%s",
	                   slash != NULL ? (int)(slash - disk) : 1, slash != NULL ? disk : ".",
	                   guid_format(move, id));

	return len > 0 && (size_t)len < MARK_PATH_MAX ? 0 : -ENAMETOOLONG;
}

static bool is_device(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISBLK(st.st_mode);
}

/* What the storage calls it, a partition's number, and the size; "" if it says nothing. */
static void device_id(const char *path, char out[DEVICE_ID_MAX])
{
	static const char *const names[] = {"wwid",          "device/wwid", "serial",
	                                    "device/serial", "../wwid",     "../device/wwid",
	                                    "../serial"};
	const struct hostfs fs = {0};
	char where[MARK_PATH_MAX];
	char text[200] = "";
	char part[16] = "";
	struct stat st;
	uint64_t bytes = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	out[0] = '\0';
	if (fd < 0) {
		return;
	}
	if (fstat(fd, &st) == 0 && S_ISBLK(st.st_mode) && ioctl(fd, BLKGETSIZE64, &bytes) == 0) {
		for (size_t i = 0; text[0] == '\0' && i < ARRAY_LEN(names); i++) {
			(void)snprintf(where, sizeof(where), "/sys/dev/block/%u:%u/%s",
			               major(st.st_rdev), minor(st.st_rdev), names[i]);
			(void)hostfs_read(&fs, where, text, sizeof(text));
		}
		(void)snprintf(where, sizeof(where), "/sys/dev/block/%u:%u/partition",
		               major(st.st_rdev), minor(st.st_rdev));
		(void)hostfs_read(&fs, where, part, sizeof(part));
	}
	(void)close(fd);
	if (text[0] != '\0') {
		(void)snprintf(out, DEVICE_ID_MAX, "%s part %s size %" PRIu64, text, part, bytes);
	}
}

static int mark_one(const struct vm_disk *disk, const struct guid *move, json_t *list,
                    struct errbuf *eb)
{
	char mark[MARK_PATH_MAX];
	char id[DEVICE_ID_MAX] = "";
	int fd = patience_stat(disk->path, eb);
	bool device = fd == 0 && is_device(disk->path);
	int err = device ? 0 : mark_path(disk->path, move, mark);

	if (fd == -ETIMEDOUT) {
		return fd;
	}
	fd = -1;

	if (device) {
		device_id(disk->path, id);
	} else if (err == 0) {
		fd = open(mark, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
		err = fd < 0 ? -errno : 0;
	}
	if (fd >= 0) {
		(void)close(fd);
	}
	/* A medium in a folder that nobody can write to is only read. */
	if (err != 0 && !disk->read_only) {
		return errbuf_sys(eb, err, "%s", mark);
	}
	return json_array_append_new(list, json_pack("{s:s,s:s,s:s}", "path", disk->path, "kind",
	                                             device ? "device" : "file", "id", id)) == 0
	               ? 0
	               : -ENOMEM;
}

int move_disks_mark(const struct vm_config *vm, const struct guid *move, json_t **out,
                    struct errbuf *eb)
{
	json_t *list = json_array();
	int err = list == NULL ? -ENOMEM : 0;

	for (uint32_t i = 0; err == 0 && i < vm->disk_count; i++) {
		err = vm->disks[i].path[0] != '\0' ? mark_one(&vm->disks[i], move, list, eb) : 0;
	}
	if (err != 0) {
		move_disks_unmark(vm, move);
		json_decref(list);
		return err == -ENOMEM ? errbuf_sys(eb, err, "cannot describe the disks") : err;
	}
	*out = json_pack("{s:o}", "disks", list);
	return *out != NULL ? 0 : errbuf_sys(eb, -ENOMEM, "cannot describe the disks");
}

void move_disks_unmark(const struct vm_config *vm, const struct guid *move)
{
	for (uint32_t i = 0; i < vm->disk_count; i++) {
		char mark[MARK_PATH_MAX];

		if (vm->disks[i].path[0] != '\0' && mark_path(vm->disks[i].path, move, mark) == 0) {
			(void)unlink(mark);
		}
	}
}

static const json_t *mark_find(const json_t *marks, const char *path)
{
	const json_t *list = json_object_get(marks, "disks");
	const json_t *one;
	size_t i;

	json_array_foreach(list, i, one)
	{
		const char *at = json_string_value(json_object_get(one, "path"));

		if (at != NULL && strcmp(at, path) == 0) {
			return one;
		}
	}
	return NULL;
}

static void check_device(const struct vm_disk *disk, const char *there, struct compat *report)
{
	char here[DEVICE_ID_MAX];

	device_id(disk->path, here);
	if (here[0] == '\0' || there == NULL || there[0] == '\0') {
		compat_add(report, COMPAT_BLOCKER, "disk-unknown",
		           "disk %s: a device that does not say which it is", disk->path);
		compat_hint(report,
		            "it needs a WWID or a serial number, to be sure that both nodes "
		            "mean the same");
	} else if (strcmp(here, there) != 0) {
		compat_add(report, COMPAT_BLOCKER, "disk-differs",
		           "disk %s: another device than on the source", disk->path);
		compat_hint(report, "use a name from /dev/disk/by-id, the same on all nodes");
	}
}

static void check_file(const struct vm_disk *disk, const struct guid *move, struct compat *report)
{
	char mark[MARK_PATH_MAX];
	struct stat st;

	if (mark_path(disk->path, move, mark) != 0 || lstat(mark, &st) != 0) {
		compat_add(report, COMPAT_BLOCKER, "disk-not-shared",
		           "disk %s: this node's own, not the source's", disk->path);
		compat_hint(report, "a VM moves without its disks: put them on storage that both "
		                    "nodes share");
	}
}

void move_disks_check(const struct vm_config *vm, const struct guid *move, const json_t *marks,
                      struct compat *report)
{
	for (uint32_t i = 0; i < vm->disk_count; i++) {
		const struct vm_disk *disk = &vm->disks[i];
		const json_t *mark = mark_find(marks, disk->path);
		const char *kind = json_string_value(json_object_get(mark, "kind"));
		struct stat st;

		/* That it is not there at all is said elsewhere. */
		if (disk->path[0] == '\0' || stat(disk->path, &st) != 0) {
			continue;
		}
		if (kind != NULL && strcmp(kind, S_ISBLK(st.st_mode) ? "device" : "file") != 0) {
			compat_add(report, COMPAT_BLOCKER, "disk-differs",
			           "disk %s: not the same kind of thing as on the source",
			           disk->path);
		} else if (S_ISBLK(st.st_mode)) {
			check_device(disk, json_string_value(json_object_get(mark, "id")), report);
		} else if (!disk->read_only) {
			check_file(disk, move, report);
		}
	}
}
