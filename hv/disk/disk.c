/* SPDX-License-Identifier: Apache-2.0 */
#include "hv/disk/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/blk.h"
#include "base/check.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "base/uring.h"
#include "hv/disk/disk_int.h"

#define DISK_RING_ENTRIES 256u
#define DISK_STAT_BLOCK_BYTES 512u /* of st_blocks, on every file system */

static const char vhdx_magic[] = "vhdxfile"; /* the first 8 bytes of every VHDX */

/* ---- paths and formats ---- */

enum disk_format disk_format_named(const char *path)
{
	const char *dot = strrchr(path, '.');

	return dot != NULL && (strcmp(dot, ".vhdx") == 0 || strcmp(dot, ".avhdx") == 0) ? DISK_VHDX
	                                                                                : DISK_RAW;
}

/* Images of others, by what they begin with. */
static const char *foreign_of(const char *head)
{
	static const struct {
		const char *magic;
		const char *name;
	} all[] = {{"QFI\xfb", "qcow2"}, {"KDMV", "VMDK"}, {"conectix", "VHD"}, {"<<< ", "VDI"}};

	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		if (memcmp(head, all[i].magic, strlen(all[i].magic)) == 0) {
			return all[i].name;
		}
	}
	return NULL;
}

int disk_format_of(const char *path, enum disk_format *out, struct errbuf *eb)
{
	char head[sizeof(vhdx_magic) - 1] = "";
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	ssize_t n;
	int err;

	if (fd < 0) {
		err = errbuf_sys(eb, -errno, "%s", path);
		if (err == -ENOENT) {
			errbuf_hint(eb, "check the path; it is one of the host that is asked");
		}
		return err;
	}
	n = pread(fd, head, sizeof(head), 0);
	err = n < 0 ? errbuf_sys(eb, -errno, "%s: read", path) : 0;
	(void)close(fd);
	if (err != 0) {
		return err;
	}
	*out = disk_format_named(path);
	if (*out == DISK_RAW && foreign_of(head) != NULL) {
		(void)errbuf_set(eb, -EINVAL,
		                 "%s begins as a %s image does; VHDX and raw are known here", path,
		                 foreign_of(head));
		errbuf_hint(eb,
		            "qemu-img convert -O vhdx %s NEW.vhdx; if a guest wrote that into its "
		            "raw disk, disk convert --from raw takes it",
		            path);
		return -EINVAL;
	}
	if (*out == DISK_RAW && memcmp(head, vhdx_magic, sizeof(head)) == 0) {
		(void)errbuf_set(eb, -EINVAL, "%s begins as a VHDX does, but is not named like one",
		                 path);
		errbuf_hint(eb, "if it is one, rename it to .vhdx; if a guest wrote that into its "
		                "raw disk, only disk convert --from raw takes it");
		return -EINVAL;
	}
	return 0;
}

int disk_path_get(const struct json_at *at, const char *key, bool optional, const char **out,
                  struct errbuf *eb)
{
	int err;

	*out = NULL;
	err = optional ? json_opt_str(at, key, DISK_PATH_MAX, out, eb)
	               : json_get_str(at, key, DISK_PATH_MAX, out, eb);
	if (err == 0 && *out != NULL && (*out)[0] != '/') {
		err = json_error(at, eb, -EINVAL, "%s: \"%s\" is no absolute path", key, *out);
	}
	return err;
}

/* ---- show ---- */

static void show_vhdx_add(struct json_build *b, const struct vhdx_show *show)
{
	static const char *const kinds[] = {
		[VHDX_FIXED] = "fixed",
		[VHDX_DYNAMIC] = "dynamic",
		[VHDX_DIFFERENCING] = "differencing",
	};
	const struct vhdx_stat *st = &show->stat;
	char id[GUID_TEXT_SIZE];

	json_add_str(b, "kind", kinds[st->kind]);
	json_add_u64(b, "size_bytes", st->size_bytes);
	json_add_u64(b, "logical_sector_bytes", st->logical_bytes);
	json_add_u64(b, "physical_sector_bytes", st->physical_bytes);
	json_add_u64(b, "block_bytes", st->block_bytes);
	json_add_u64(b, "blocks", st->block_count);
	json_add_u64(b, "blocks_present", st->present_count);
	json_add_str(b, "disk_id", guid_format(&st->disk_id, id));
	json_add_str(b, "creator", show->creator);
	json_add_bool(b, "clean", !show->log_dirty);
}

/* The parents, or why they cannot be found: a disk that lost one must still be shown. */
static void show_chain_add(const struct disk_call *call, const char *path, struct json_build *b,
                           const struct vhdx_show *show)
{
	struct vhdx_chain chain = {0};
	struct json_build parents;
	struct errbuf eb = {.text = ""};
	int err;

	if (show->stat.kind != VHDX_DIFFERENCING) {
		return;
	}
	err = vhdx_chain_find(&call->files, path, &chain, &eb);
	json_build_array(&parents);
	if (err != 0) {
		json_add_str(&parents, NULL, show->parent_path);
	}
	for (uint32_t i = 1; i < chain.count; i++) {
		json_add_str(&parents, NULL, chain.path[i]);
	}
	json_add_build(b, "parents", &parents);
	if (err != 0) {
		json_add_str(b, "parents_error", errbuf_text(&eb, err));
	}
	vhdx_chain_fini(&chain);
}

static int show_vhdx(const struct disk_call *call, const char *path, struct json_build *b,
                     struct errbuf *eb)
{
	struct vhdx_show *show = gw_malloc(sizeof(*show));
	int err;

	if (show == NULL) {
		return errbuf_sys(eb, -ENOMEM, "%s", path);
	}
	err = vhdx_show(&call->files, path, show, eb);
	if (err == 0) {
		show_vhdx_add(b, show);
		show_chain_add(call, path, b, show);
	}
	free(show);
	return err;
}

static int show_raw(const struct disk_call *call, const char *path, struct json_build *b,
                    struct errbuf *eb)
{
	struct blk_info info;
	struct blk *blk;
	int err = call->files.open(path, true, &blk, eb, call->files.arg);

	if (err != 0) {
		errbuf_prepend(eb, "%s", path);
		return err;
	}
	blk_get_info(blk, &info);
	json_add_u64(b, "size_bytes", info.size_bytes);
	json_add_u64(b, "logical_sector_bytes", info.logical_bytes);
	json_add_u64(b, "physical_sector_bytes", info.physical_bytes);
	return blk_close(blk, eb);
}

int disk_show_of(const struct disk_call *call, const char *path, json_t **out, struct errbuf *eb)
{
	enum disk_format format = DISK_RAW;
	struct json_build b;
	struct stat st;
	int err = disk_format_of(path, &format, eb);

	if (err == 0 && stat(path, &st) != 0) {
		err = errbuf_sys(eb, -errno, "%s", path);
	}
	if (err != 0) {
		return err;
	}
	json_build_object(&b);
	json_add_str(&b, "path", path);
	json_add_str(&b, "format", format == DISK_VHDX ? "vhdx" : "raw");
	json_add_u64(&b, "file_bytes", (uint64_t)st.st_size);
	json_add_u64(&b, "allocated_bytes", (uint64_t)st.st_blocks * DISK_STAT_BLOCK_BYTES);
	err = format == DISK_VHDX ? show_vhdx(call, path, &b, eb) : show_raw(call, path, &b, eb);
	if (err != 0) {
		json_decref(b.value);
		return err;
	}
	err = json_build_end(&b, out);
	return err != 0 ? errbuf_sys(eb, err, "%s", path) : 0;
}

static int disk_show(const struct disk_call *call, json_t **out, struct errbuf *eb)
{
	static const char *const known[] = {"path"};
	int err = json_check_members(&call->at, known, ARRAY_LEN(known), eb);

	return err != 0 ? err : disk_show_of(call, call->path, out, eb);
}

/* ---- all ---- */

static const struct {
	const char *name;
	int (*fn)(const struct disk_call *call, json_t **out, struct errbuf *eb);
} disk_ops[DISK_OP_COUNT] = {
	[DISK_SHOW] = {"show", disk_show},          [DISK_CREATE] = {"create", disk_create},
	[DISK_CHECK] = {"check", disk_check},       [DISK_RESIZE] = {"resize", disk_resize},
	[DISK_CONVERT] = {"convert", disk_convert}, [DISK_MERGE] = {"merge", disk_merge},
};

const char *disk_op_name(enum disk_op op)
{
	CHECK(op < DISK_OP_COUNT);
	return disk_ops[op].name;
}

int disk_run(enum disk_op op, const json_t *request, disk_progress_fn progress, void *arg,
             json_t **out, struct errbuf *eb)
{
	const struct uring_cfg ring = {.entries = DISK_RING_ENTRIES};
	struct disk_call call = {.progress = {.fn = progress, .arg = arg}};
	int err;

	CHECK(op < DISK_OP_COUNT);
	*out = NULL;
	call.at = json_root(request, "disk");
	err = json_as_object(&call.at, eb);
	if (err == 0) {
		err = disk_path_get(&call.at, "path", false, &call.path, eb);
	}
	if (err == 0) {
		err = uring_create(&ring, &call.ring, eb);
	}
	if (err != 0) {
		return err;
	}
	call.files = vhdx_files_raw(call.ring);
	err = disk_ops[op].fn(&call, out, eb);
	uring_destroy(call.ring);
	return err;
}
