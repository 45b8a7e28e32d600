/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "base/blk_sync.h"
#include "base/errbuf.h"
#include "hv/vhdx/tool_int.h"
#include "hv/vhdx/vhdx_int.h"

/* Is it a VHDX? A raw disk that begins with the signature must be named raw. */
static int convert_detect(const struct vhdx_files *files, const char *path,
                          enum vhdx_format *format, struct errbuf *eb)
{
	uint8_t buf[4096];
	struct blk_info info;
	struct blk *file;
	int close_err;
	int err = files->open(path, true, &file, eb, files->arg);

	if (err != 0) {
		return err;
	}
	blk_get_info(file, &info);
	*format = VHDX_FORMAT_RAW;
	if (info.size_bytes >= sizeof(buf)) {
		err = blk_sync_read(file, 0, buf, sizeof(buf));
		if (err != 0) {
			(void)errbuf_sys(eb, err, "read");
		} else if (vhdx_file_id_check(buf, sizeof(buf), NULL) == 0) {
			*format = VHDX_FORMAT_VHDX;
		}
	}
	close_err = blk_close(file, NULL);
	(void)close_err; /* it was only read */
	return err;
}

static int convert_open(const struct vhdx_files *files, const char *path, enum vhdx_format format,
                        struct blk **out, struct errbuf *eb)
{
	int err = 0;

	*out = NULL;
	if (format == VHDX_FORMAT_DETECT) {
		err = convert_detect(files, path, &format, eb);
	}
	if (err == 0 && format == VHDX_FORMAT_VHDX) {
		return vhdx_open_path(files, path, true, out, eb);
	}
	if (err == 0) {
		err = files->open(path, true, out, eb, files->arg);
	}
	if (err != 0) {
		errbuf_prepend(eb, "%s", path);
	}
	return err;
}

/* Make the empty target. */
static int convert_create(const struct vhdx_files *files, const char *path,
                          const struct vhdx_convert_cfg *cfg, const struct blk *from,
                          struct errbuf *eb)
{
	struct vhdx_create_cfg create = cfg->create;
	struct blk_info info;

	blk_get_info(from, &info);
	if (cfg->to == VHDX_FORMAT_RAW) {
		int err = files->create(path, info.size_bytes, eb, files->arg);

		if (err != 0) {
			errbuf_prepend(eb, "%s", path);
		}
		return err;
	}
	create.size_bytes = info.size_bytes;
	/* What sectors a raw disk is to have, its file cannot tell: 512 unless said otherwise. */
	if (strcmp(info.driver, "vhdx") == 0) {
		struct vhdx_stat stat;

		vhdx_stat(from, &stat);
		create.logical_bytes = stat.logical_bytes;
		create.physical_bytes =
			create.physical_bytes != 0 ? create.physical_bytes : stat.physical_bytes;
		/* In another format it is still the same disk. */
		create.disk_id = guid_is_nil(&create.disk_id) ? stat.disk_id : create.disk_id;
	}
	return vhdx_create(files, path, NULL, &create, NULL, eb);
}

static int convert_into(const struct vhdx_files *files, const char *path, struct blk *from,
                        const struct vhdx_convert_cfg *cfg, struct errbuf *eb)
{
	struct blk *to;
	int close_err;
	int err = convert_create(files, path, cfg, from, eb);

	if (err != 0) {
		return err;
	}
	err = cfg->to == VHDX_FORMAT_VHDX ? vhdx_open_path(files, path, false, &to, eb)
	                                  : files->open(path, false, &to, eb, files->arg);
	if (err == 0) {
		err = vhdx_tool_copy(from, to, &cfg->progress, eb);
		if (err == 0 && blk_sync_flush(to) != 0) {
			err = errbuf_set(eb, -EIO, "%s: flush", path);
		}
		close_err = blk_close(to, err == 0 ? eb : NULL);
		err = err != 0 ? err : close_err;
	}
	if (err != 0) {
		close_err = files->remove(path, NULL, files->arg);
		(void)close_err; /* the first error is the one to tell */
	}
	return err;
}

int vhdx_convert(const struct vhdx_files *files, const char *from, const char *to,
                 const struct vhdx_convert_cfg *cfg, struct errbuf *eb)
{
	struct blk *source;
	int close_err;
	int err;

	if (cfg->to == VHDX_FORMAT_DETECT ||
	    (cfg->to == VHDX_FORMAT_VHDX && cfg->create.kind == VHDX_DIFFERENCING)) {
		return errbuf_set(eb, -EINVAL, "convert to raw, fixed or dynamic VHDX");
	}
	err = convert_open(files, from, cfg->from, &source, eb);
	if (err != 0) {
		return err;
	}
	err = convert_into(files, to, source, cfg, eb);
	close_err = blk_close(source, NULL);
	(void)close_err; /* it was only read */
	return err;
}
