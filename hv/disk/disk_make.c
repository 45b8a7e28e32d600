/* SPDX-License-Identifier: Apache-2.0 */

/*
 * disk_make - create and convert: a new file, under another name until it is whole.
 *
 * The name is fixed per target, ".NAME.partial" in the same folder: what a crash left is found and
 * removed by the next attempt, and two attempts at once collide at its lock.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/errbuf.h"
#include "base/fault.h"
#include "base/fs.h"
#include "hv/disk/disk_int.h"
#include "hv/raw/raw.h"

/* What is to be made. */
struct disk_new {
	const char *path; /* borrowed: its name when it is whole */
	char folder[DISK_PATH_MAX + 1];
	char partial[DISK_PATH_MAX + sizeof("..partial")]; /* its name until then */
	bool raw;
	struct vhdx_create_cfg vhdx;
};

/* The words of a request. */
enum disk_word { WORD_VHDX_DYNAMIC, WORD_VHDX_FIXED, WORD_RAW, WORD_COUNT };

static const char *const format_words[WORD_COUNT] = {
	[WORD_VHDX_DYNAMIC] = "vhdx-dynamic",
	[WORD_VHDX_FIXED] = "vhdx-fixed",
	[WORD_RAW] = "raw",
};

static const char *const sector_words[] = {"512", "512e", "4kn"};

/* ---- names ---- */

static int new_names(struct disk_new *n, struct errbuf *eb)
{
	const char *name = strrchr(n->path, '/') + 1;
	size_t folder = (size_t)(name - n->path);
	struct stat st;

	if (name[0] == '\0' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
		return errbuf_set(eb, -EINVAL, "%s is no name for a file", n->path);
	}
	if (lstat(n->path, &st) == 0) {
		(void)errbuf_set(eb, -EEXIST, "%s is there already", n->path);
		errbuf_hint(eb, "nothing is overwritten: remove it, or take another name");
		return -EEXIST;
	}
	if (errno != ENOENT) {
		return errbuf_sys(eb, -errno, "%s", n->path);
	}
	(void)snprintf(n->folder, sizeof(n->folder), "%.*s", (int)folder, n->path);
	(void)snprintf(n->partial, sizeof(n->partial), "%s.%s.partial", n->folder, name);
	if (stat(n->folder, &st) != 0) {
		int err = errbuf_sys(eb, -errno, "folder %s", n->folder);

		errbuf_hint(eb, "make the folder first, or check the path");
		return err;
	}
	return 0;
}

/* Remove what an interrupted attempt left. */
static int new_claim(const struct disk_new *n, struct errbuf *eb)
{
	struct stat st;
	int fd;

	if (lstat(n->partial, &st) != 0) {
		return errno == ENOENT ? 0 : errbuf_sys(eb, -errno, "%s", n->partial);
	}
	fd = raw_open_fd(n->partial, false, NULL);
	if (fd == -EBUSY) {
		return errbuf_set(eb, fd, "%s is being made already", n->path);
	}
	if (fd >= 0) {
		(void)close(fd);
	}
	return unlink(n->partial) == 0 ? 0 : errbuf_sys(eb, -errno, "%s", n->partial);
}

/* The library names the file it works on; people do not know that one. */
static void new_rename_in_text(const struct disk_new *n, struct errbuf *eb)
{
	size_t len = strlen(n->partial);
	char *at = eb != NULL ? strstr(eb->text, n->partial) : NULL;
	char rest[ERRBUF_TEXT_MAX];
	size_t used;

	if (at == NULL) {
		return;
	}
	used = (size_t)(at - eb->text);
	memcpy(rest, eb->text, sizeof(rest));
	(void)snprintf(at, sizeof(eb->text) - used, "%s%s", n->path, rest + used + len);
}

static int new_rename(const struct disk_new *n)
{
	if (renameat2(AT_FDCWD, n->partial, AT_FDCWD, n->path, RENAME_NOREPLACE) == 0) {
		return 0;
	}
	if (errno != EINVAL && errno != ENOSYS) {
		return -errno;
	}
	/* A file system that does not know the flag. The lock of the other name keeps ourselves
	 * away, so only a stranger could come between. */
	if (access(n->path, F_OK) == 0) {
		return -EEXIST;
	}
	return rename(n->partial, n->path) == 0 ? 0 : -errno;
}

/* It is whole: durable, then under its name, then that durable as well. */
static int new_finish(const struct disk_new *n, struct errbuf *eb)
{
	int fd = open(n->partial, O_RDONLY | O_CLOEXEC);
	int err = fd < 0 || fsync(fd) != 0 ? -errno : 0;

	if (fd >= 0) {
		(void)close(fd);
	}
	if (err == 0) {
		err = new_rename(n);
	}
	if (err != 0) {
		(void)unlink(n->partial);
		return errbuf_sys(eb, err, "%s", n->path);
	}
	return fs_sync_dir(n->folder, eb);
}

/* ---- what the request says ---- */

static int new_decode_sizes(const struct json_at *at, struct disk_new *n, struct errbuf *eb)
{
	uint64_t block = 0;
	size_t sectors = ARRAY_LEN(sector_words);
	int err = json_opt_word(at, "sectors", sector_words, ARRAY_LEN(sector_words), &sectors, eb);

	if (err == 0) {
		err = json_opt_u64(at, "block_bytes", 1, UINT32_MAX, &block, eb);
	}
	if (err != 0) {
		return err;
	}
	if (n->raw && (sectors != ARRAY_LEN(sector_words) || block != 0)) {
		return errbuf_set(
			eb, -EINVAL,
			"a raw image has no sectors or blocks of its own: its storage has");
	}
	n->vhdx.block_bytes = (uint32_t)block;
	if (sectors != ARRAY_LEN(sector_words)) {
		n->vhdx.logical_bytes = sectors == 2 ? 4096 : 512;
		n->vhdx.physical_bytes = sectors == 0 ? 512 : 4096;
	}
	return 0;
}

/* Is it called as images are that we do not make? */
static bool disk_is_foreign(const char *path)
{
	static const char *const ends[] = {".qcow2", ".qcow", ".vmdk", ".vdi", ".vhd"};
	const char *dot = strrchr(path, '.');

	for (size_t i = 0; dot != NULL && i < ARRAY_LEN(ends); i++) {
		if (strcmp(dot, ends[i]) == 0) {
			return true;
		}
	}
	return false;
}

/* @path gets what format, if the request names one that fits the name. */
static int new_decode(const struct json_at *at, const char *path, bool differencing,
                      struct disk_new *n, struct errbuf *eb)
{
	enum disk_format named = disk_format_named(path);
	size_t word = named == DISK_VHDX ? WORD_VHDX_DYNAMIC : WORD_RAW;
	int err = json_opt_word(at, "format", format_words, WORD_COUNT, &word, eb);

	if (err != 0) {
		return err;
	}
	if ((word != WORD_RAW) != (named == DISK_VHDX)) {
		(void)errbuf_set(eb, -EINVAL, "%s: the name does not fit the format %s", path,
		                 format_words[word]);
		errbuf_hint(eb, "a VHDX's name ends in .vhdx or .avhdx, a raw image's does not");
		return -EINVAL;
	}
	if (word == WORD_RAW && json_object_get(at->value, "format") == NULL &&
	    disk_is_foreign(path)) {
		(void)errbuf_set(eb, -EINVAL, "%s: only VHDX and raw images are made here", path);
		errbuf_hint(eb, "name it .vhdx; --format raw, if it is to be raw under this name");
		return -EINVAL;
	}
	if (differencing && word != WORD_VHDX_DYNAMIC) {
		return errbuf_set(eb, -EINVAL, "%s: a disk with a parent is vhdx-dynamic, not %s",
		                  path, format_words[word]);
	}
	n->path = path;
	n->raw = word == WORD_RAW;
	n->vhdx.kind = word == WORD_VHDX_FIXED ? VHDX_FIXED : VHDX_DYNAMIC;
	n->vhdx.kind = differencing ? VHDX_DIFFERENCING : n->vhdx.kind;
	return new_decode_sizes(at, n, eb);
}

/* ---- create ---- */

static int create_into(const struct disk_call *call, const struct disk_new *n, const char *parent,
                       struct errbuf *eb)
{
	const struct raw_create_cfg raw = {.path = n->partial, .size_bytes = n->vhdx.size_bytes};

	return n->raw ? raw_create(&raw, eb)
	              : vhdx_create(&call->files, n->partial, parent, &n->vhdx, &call->progress,
	                            eb);
}

int disk_create(const struct disk_call *call, json_t **out, struct errbuf *eb)
{
	static const char *const known[] = {"path",   "size_bytes", "format",
	                                    "parent", "sectors",    "block_bytes"};
	struct disk_new n = {.path = call->path};
	enum disk_format format;
	const char *parent = NULL;
	int err = json_check_members(&call->at, known, ARRAY_LEN(known), eb);

	if (err == 0) {
		err = disk_path_get(&call->at, "parent", true, &parent, eb);
	}
	if (err == 0) {
		err = parent != NULL ? json_opt_u64(&call->at, "size_bytes", 1, INT64_MAX,
		                                    &n.vhdx.size_bytes, eb)
		                     : json_get_u64(&call->at, "size_bytes", 1, INT64_MAX,
		                                    &n.vhdx.size_bytes, eb);
	}
	if (err == 0) {
		err = new_decode(&call->at, call->path, parent != NULL, &n, eb);
	}
	if (err == 0 && parent != NULL) {
		err = disk_format_of(parent, &format, eb);
	}
	if (err == 0) {
		err = new_names(&n, eb);
	}
	if (err == 0) {
		err = new_claim(&n, eb);
	}
	if (err == 0) {
		err = create_into(call, &n, parent, eb);
		if (err == 0) {
			err = new_finish(&n, eb);
		} else {
			new_rename_in_text(&n, eb);
		}
	}
	return err != 0 ? err : disk_show_of(call, call->path, out, eb);
}

/* ---- convert ---- */

static int convert_from(const struct disk_call *call, enum vhdx_format *from, struct errbuf *eb)
{
	static const char *const words[] = {"raw", "vhdx"};
	enum disk_format format = DISK_RAW;
	size_t word = ARRAY_LEN(words);
	int err = json_opt_word(&call->at, "from", words, ARRAY_LEN(words), &word, eb);

	if (err == 0 && word == ARRAY_LEN(words)) {
		err = disk_format_of(call->path, &format, eb);
		word = format == DISK_VHDX;
	}
	*from = word == 1 ? VHDX_FORMAT_VHDX : VHDX_FORMAT_RAW;
	return err;
}

int disk_convert(const struct disk_call *call, json_t **out, struct errbuf *eb)
{
	static const char *const known[] = {"path",   "to",      "from",
	                                    "format", "sectors", "block_bytes"};
	struct vhdx_convert_cfg cfg = {.progress = call->progress};
	struct disk_new n = {.path = ""};
	const char *to = NULL;
	int err = json_check_members(&call->at, known, ARRAY_LEN(known), eb);

	if (err == 0) {
		err = disk_path_get(&call->at, "to", false, &to, eb);
	}
	if (err == 0) {
		err = convert_from(call, &cfg.from, eb);
	}
	if (err == 0) {
		err = new_decode(&call->at, to, false, &n, eb);
	}
	if (err == 0) {
		err = new_names(&n, eb);
	}
	if (err == 0) {
		err = new_claim(&n, eb);
	}
	if (err == 0) {
		cfg.to = n.raw ? VHDX_FORMAT_RAW : VHDX_FORMAT_VHDX;
		cfg.create = n.vhdx;
		err = vhdx_convert(&call->files, call->path, n.partial, &cfg, eb);
		if (err == 0) {
			err = new_finish(&n, eb);
		} else {
			new_rename_in_text(&n, eb);
			if (err == -ENOSPC) {
				errbuf_prepend(eb, "%s is not made", to);
				errbuf_hint(eb, "make room there, or choose another place");
			}
		}
	}
	return err != 0 ? err : disk_show_of(call, to, out, eb);
}
