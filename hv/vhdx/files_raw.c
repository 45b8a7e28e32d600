/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/errbuf.h"
#include "hv/raw/raw.h"
#include "hv/vhdx/vhdx.h"

/* Say @from without "raw: PATH: ": who asked puts the path in front. Returns @err. */
static int files_fail(struct errbuf *eb, int err, const char *path, const struct errbuf *from)
{
	const char *text = from->text;
	size_t len = strlen(path);

	if (strncmp(text, "raw: ", 5) == 0 && strncmp(text + 5, path, len) == 0 &&
	    strncmp(text + 5 + len, ": ", 2) == 0) {
		text += 5 + len + 2;
	}
	(void)errbuf_set(eb, err, "%s", text);
	errbuf_hint(eb, "%s", from->hint);
	return err;
}

static int files_open_as(const struct raw_cfg *cfg, struct blk **out, struct errbuf *eb, void *arg)
{
	struct errbuf why = {.text = ""};
	int err = raw_open(cfg, arg, out, &why);

	return err != 0 ? files_fail(eb, err, cfg->path, &why) : 0;
}

static int files_open(const char *path, bool read_only, struct blk **out, struct errbuf *eb,
                      void *arg)
{
	const struct raw_cfg cfg = {.path = path, .read_only = read_only};

	return files_open_as(&cfg, out, eb, arg);
}

static int files_open_unlocked(const char *path, bool read_only, struct blk **out,
                               struct errbuf *eb, void *arg)
{
	const struct raw_cfg cfg = {.path = path, .read_only = true, .unlocked = true};

	return read_only ? files_open_as(&cfg, out, eb, arg)
	                 : errbuf_set(eb, -EROFS, "only to be looked at");
}

static int files_create(const char *path, uint64_t size_bytes, struct errbuf *eb, void *arg)
{
	const struct raw_create_cfg cfg = {.path = path, .size_bytes = size_bytes};

	struct errbuf why = {.text = ""};
	int err = raw_create(&cfg, &why);

	(void)arg;
	return err != 0 ? files_fail(eb, err, path, &why) : 0;
}

static int files_remove(const char *path, struct errbuf *eb, void *arg)
{
	(void)arg;
	return unlink(path) == 0 ? 0 : errbuf_sys(eb, -errno, "remove");
}

struct vhdx_files vhdx_files_raw(struct uring *ring)
{
	return (struct vhdx_files){
		.open = files_open, .create = files_create, .remove = files_remove, .arg = ring};
}

struct vhdx_files vhdx_files_raw_unlocked(struct uring *ring)
{
	return (struct vhdx_files){.open = files_open_unlocked, .arg = ring};
}
