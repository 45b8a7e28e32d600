/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "hv/vhdx/path_int.h"
#include "hv/vhdx/tool_int.h"
#include "hv/vhdx/vhdx.h"
#include "hv/vhdx/vhdx_int.h"

/* One disk of a chain on its way to be opened: from the child on, parents behind. */
struct chain_link {
	char path[VHDX_PATH_MAX];
	struct blk *file;             /* owned until the disk is open */
	struct vhdx_locator *locator; /* owned; NULL: the last one */
};

struct chain {
	const struct vhdx_files *files;
	struct chain_link *link[VHDX_CHAIN_MAX]; /* owned */
	uint32_t count;
	bool look; /* only find the files: no replay */
};

static void chain_free(struct chain *c)
{
	for (uint32_t i = 0; i < c->count; i++) {
		int err = blk_close(c->link[i]->file, NULL);

		(void)err; /* nothing was written to it */
		free(c->link[i]->locator);
		free(c->link[i]);
	}
}

/* Add the disk at @path; learn its parent. */
static int chain_add(struct chain *c, const char *path, bool read_only, struct errbuf *eb)
{
	struct chain_link *link;
	int err;

	if (c->count == VHDX_CHAIN_MAX) {
		return errbuf_set(eb, -ELOOP, "more than %u disks in the chain", VHDX_CHAIN_MAX);
	}
	for (uint32_t i = 0; i < c->count; i++) {
		if (strcmp(c->link[i]->path, path) == 0) {
			return errbuf_set(eb, -ELOOP, "the chain loops: it is its own ancestor");
		}
	}
	link = gw_calloc(1, sizeof(*link));
	if (link == NULL) {
		return errbuf_sys(eb, -ENOMEM, "open");
	}
	if (strlen(path) >= sizeof(link->path)) {
		free(link);
		return errbuf_set(eb, -ENAMETOOLONG, "the path is too long");
	}
	memcpy(link->path, path, strlen(path) + 1);
	err = c->files->open(path, read_only, &link->file, eb, c->files->arg);
	if (err != 0) {
		free(link);
		return err;
	}
	c->link[c->count++] = link;
	err = vhdx_peek(link->file, read_only, c->look, &link->locator, eb);
	if (err != 0) {
		errbuf_prepend(eb, "vhdx");
	}
	return err;
}

/* Add the parent of the last disk: where the relative path says, or else the absolute one. */
static int chain_add_parent(struct chain *c, struct errbuf *eb)
{
	const struct chain_link *child = c->link[c->count - 1];
	const char *names[] = {child->locator->relative_path, child->locator->absolute_path};
	char path[VHDX_PATH_MAX];
	struct errbuf fault = {.text = ""}; /* of a place where it is not is no fault yet */
	int err = errbuf_set(&fault, -ENOENT, "the parent locator names no path");

	for (size_t i = 0; i < ARRAY_LEN(names) && err == -ENOENT; i++) {
		if (names[i][0] == '\0' ||
		    vhdx_path_resolve(child->path, names[i], path, sizeof(path)) != 0) {
			continue;
		}
		err = chain_add(c, path, true, &fault);
		if (err != 0) {
			errbuf_prepend(&fault, "parent %s", path);
		}
	}
	if (err != 0 && eb != NULL) {
		*eb = fault;
	}
	return err;
}

/* Open the disks, the last parent first. */
static int chain_open(struct chain *c, bool read_only, struct blk **out, struct errbuf *eb)
{
	struct blk *disk = NULL;
	int err = 0;

	while (c->count > 0 && err == 0) {
		struct chain_link *link = c->link[c->count - 1];
		const struct vhdx_cfg cfg = {
			.file = link->file, .parent = disk, .read_only = read_only || c->count > 1};

		err = vhdx_open(&cfg, &disk, eb);
		if (err != 0) {
			errbuf_prepend(eb, "%s", link->path);
			disk = cfg.parent;
			break;
		}
		free(link->locator);
		free(link);
		c->count--;
	}
	if (err != 0) {
		int close_err = blk_close(disk, NULL);

		(void)close_err;
		return err;
	}
	*out = disk;
	return 0;
}

int vhdx_tool_parent(const struct vhdx_files *files, const char *path,
                     const struct vhdx_locator *locator, char *out, struct errbuf *eb)
{
	struct chain_link *child = gw_calloc(1, sizeof(*child));
	/* Where it is, not what is in it: it may have a log to replay. */
	struct chain c = {.files = files, .link = {child}, .count = 1, .look = true};
	int err;

	if (child == NULL || strlen(path) >= sizeof(child->path)) {
		free(child);
		return errbuf_sys(eb, child == NULL ? -ENOMEM : -ENAMETOOLONG, "parent of %s",
		                  path);
	}
	memcpy(child->path, path, strlen(path) + 1);
	child->locator = gw_malloc(sizeof(*locator));
	err = child->locator == NULL ? errbuf_sys(eb, -ENOMEM, "parent of %s", path) : 0;
	if (err == 0) {
		/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): err is 0 */
		*child->locator = *locator;
		err = chain_add_parent(&c, eb);
	}
	if (err == 0) {
		memcpy(out, c.link[1]->path, VHDX_PATH_MAX);
	}
	chain_free(&c);
	return err;
}

int vhdx_open_path(const struct vhdx_files *files, const char *path, bool read_only,
                   struct blk **out, struct errbuf *eb)
{
	struct chain c = {.files = files};
	int err = chain_add(&c, path, read_only, eb);

	*out = NULL;
	/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): err is 0 */
	while (err == 0 && c.link[c.count - 1]->locator != NULL) {
		err = chain_add_parent(&c, eb);
	}
	if (err != 0) {
		errbuf_prepend(eb, "%s", path);
	} else {
		err = chain_open(&c, read_only, out, eb);
	}
	chain_free(&c);
	return err;
}

void vhdx_chain_fini(struct vhdx_chain *chain)
{
	for (uint32_t i = 0; i < chain->count; i++) {
		free(chain->path[i]);
	}
	*chain = (struct vhdx_chain){0};
}

int vhdx_chain_find(const struct vhdx_files *files, const char *path, struct vhdx_chain *out,
                    struct errbuf *eb)
{
	struct chain c = {.files = files, .look = true};
	int err = chain_add(&c, path, true, eb);

	*out = (struct vhdx_chain){0};
	/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): err is 0 */
	while (err == 0 && c.link[c.count - 1]->locator != NULL) {
		err = chain_add_parent(&c, eb);
	}
	for (uint32_t i = 0; err == 0 && i < c.count; i++) {
		out->path[i] = gw_strdup(c.link[i]->path);
		if (out->path[i] == NULL) {
			err = errbuf_sys(eb, -ENOMEM, "find the parents");
		} else {
			out->count++;
		}
	}
	chain_free(&c);
	if (err != 0) {
		vhdx_chain_fini(out);
		errbuf_prepend(eb, "%s", path);
	}
	return err;
}
