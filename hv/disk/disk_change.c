/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "base/blk.h"
#include "base/blk_sync.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "hv/disk/disk_int.h"

/* What only a VHDX has. */
static int want_vhdx(const struct disk_call *call, const char *what, struct errbuf *eb)
{
	enum disk_format format;
	int err = disk_format_of(call->path, &format, eb);

	if (err == 0 && format != DISK_VHDX) {
		err = errbuf_set(eb, -EINVAL, "%s is a raw image: there is nothing in it to %s",
		                 call->path, what);
	}
	return err;
}

/* ---- check ---- */

static void check_found(enum vhdx_finding finding, const char *text, void *arg)
{
	static const char *const words[] = {
		[VHDX_NOTE] = "note",
		[VHDX_REPAIRED] = "repaired",
		[VHDX_REPAIRABLE] = "repairable",
		[VHDX_DAMAGED] = "damaged",
	};
	struct json_build *list = arg;
	struct json_build one;

	json_build_object(&one);
	json_add_str(&one, "finding", words[finding]);
	json_add_str(&one, "text", text);
	json_add_build(list, NULL, &one);
}

static const char *check_verdict(const struct vhdx_check_result *r)
{
	if (r->damaged != 0) {
		return "damaged";
	}
	if (r->repairable != 0) {
		return "repairable";
	}
	return r->repaired != 0 ? "repaired" : "ok";
}

int disk_check(const struct disk_call *call, json_t **out, struct errbuf *eb)
{
	static const char *const known[] = {"path", "repair"};
	struct vhdx_check_cfg cfg = {.found = check_found, .progress = call->progress};
	struct vhdx_check_result result;
	struct json_build list;
	struct json_build b;
	int err = json_check_members(&call->at, known, ARRAY_LEN(known), eb);

	if (err == 0) {
		err = json_opt_bool(&call->at, "repair", &cfg.repair, eb);
	}
	if (err == 0) {
		err = want_vhdx(call, "check", eb);
	}
	if (err != 0) {
		return err;
	}
	json_build_array(&list);
	cfg.arg = &list;
	err = vhdx_check(&call->files, call->path, &cfg, &result, eb);
	if (err != 0) {
		json_decref(list.value);
		return err;
	}
	json_build_object(&b);
	json_add_str(&b, "path", call->path);
	json_add_str(&b, "verdict", check_verdict(&result));
	json_add_u64(&b, "notes", result.notes);
	json_add_u64(&b, "repaired", result.repaired);
	json_add_u64(&b, "repairable", result.repairable);
	json_add_u64(&b, "damaged", result.damaged);
	json_add_u64(&b, "unused_bytes", result.unused_bytes);
	json_add_build(&b, "findings", &list);
	err = json_build_end(&b, out);
	return err != 0 ? errbuf_sys(eb, err, "%s", call->path) : 0;
}

/* ---- resize ---- */

static int resize_raw_to(struct blk *blk, const struct vhdx_resize_cfg *cfg, struct errbuf *eb)
{
	struct blk_info info;
	int err;

	blk_get_info(blk, &info);
	if (!info.can_resize) {
		return errbuf_set(eb, -ENOTSUP, "a block device keeps its size");
	}
	if (cfg->size_bytes == 0 || cfg->size_bytes % info.logical_bytes != 0) {
		return errbuf_set(eb, -EINVAL, "size %llu is no multiple of the sector of %u bytes",
		                  (unsigned long long)cfg->size_bytes, info.logical_bytes);
	}
	if (cfg->size_bytes < info.size_bytes && !cfg->discard) {
		(void)errbuf_set(
			eb, -ENOTEMPTY, "it has %llu bytes, what is beyond %llu would be lost",
			(unsigned long long)info.size_bytes, (unsigned long long)cfg->size_bytes);
		errbuf_hint(eb, "if no partition reaches there, discard it");
		return -ENOTEMPTY;
	}
	err = blk_sync_resize(blk, cfg->size_bytes);
	if (err == 0) {
		err = blk_sync_flush(blk);
	}
	return err != 0 ? errbuf_sys(eb, err, "resize") : 0;
}

static int resize_raw(const struct disk_call *call, const struct vhdx_resize_cfg *cfg,
                      struct errbuf *eb)
{
	struct blk *blk;
	int close_err;
	int err = call->files.open(call->path, false, &blk, eb, call->files.arg);

	if (err == 0) {
		err = resize_raw_to(blk, cfg, eb);
		close_err = blk_close(blk, err == 0 ? eb : NULL);
		err = err != 0 ? err : close_err;
	}
	if (err != 0) {
		errbuf_prepend(eb, "%s", call->path);
	}
	return err;
}

int disk_resize(const struct disk_call *call, json_t **out, struct errbuf *eb)
{
	static const char *const known[] = {"path", "size_bytes", "discard"};
	struct vhdx_resize_cfg cfg = {.progress = call->progress};
	enum disk_format format = DISK_RAW;
	int err = json_check_members(&call->at, known, ARRAY_LEN(known), eb);

	if (err == 0) {
		err = json_get_u64(&call->at, "size_bytes", 1, INT64_MAX, &cfg.size_bytes, eb);
	}
	if (err == 0) {
		err = json_opt_bool(&call->at, "discard", &cfg.discard, eb);
	}
	if (err == 0) {
		err = disk_format_of(call->path, &format, eb);
	}
	if (err == 0) {
		err = format == DISK_VHDX ? vhdx_resize(&call->files, call->path, &cfg, eb)
		                          : resize_raw(call, &cfg, eb);
	}
	return err != 0 ? err : disk_show_of(call, call->path, out, eb);
}

/* ---- merge ---- */

int disk_merge(const struct disk_call *call, json_t **out, struct errbuf *eb)
{
	static const char *const known[] = {"path"};
	struct vhdx_chain chain = {0};
	int err = json_check_members(&call->at, known, ARRAY_LEN(known), eb);

	if (err == 0) {
		err = want_vhdx(call, "merge", eb);
	}
	if (err == 0) {
		err = vhdx_chain_find(&call->files, call->path, &chain, eb);
	}
	if (err == 0 && chain.count < 2) {
		err = errbuf_set(eb, -EINVAL, "%s has no parent to be merged into", call->path);
	}
	if (err == 0) {
		err = vhdx_merge(&call->files, call->path, &call->progress, eb);
	}
	if (err == 0) {
		err = disk_show_of(call, chain.path[1], out, eb);
	}
	vhdx_chain_fini(&chain);
	return err;
}
