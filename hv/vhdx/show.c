/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "base/blk_sync.h"
#include "base/errbuf.h"
#include "hv/vhdx/path_int.h"
#include "hv/vhdx/tool_int.h"
#include "hv/vhdx/vhdx_int.h"

static int show_fault(int err, const char *text, void *arg)
{
	(void)err;
	(void)text;
	(void)arg;
	return 0; /* checking is not our business; a dirty log may even be right about it */
}

static int show_creator(struct blk *file, char out[VHDX_CREATOR_CHARS + 1], struct errbuf *eb)
{
	uint8_t buf[4096];
	struct vhdx_file_id_wire w;
	uint32_t n = 0;
	int err = blk_sync_read(file, VHDX_FILE_ID_OFFSET, buf, sizeof(buf));

	if (err != 0) {
		return errbuf_sys(eb, err, "file identifier: read");
	}
	memcpy(&w, buf, sizeof(w));
	for (; n < VHDX_CREATOR_CHARS && le16_get(w.creator[n]) != 0; n++) {
		uint16_t c = le16_get(w.creator[n]);

		out[n] = (char)(c >= ' ' && c < 127 ? c : '?');
	}
	out[n] = '\0';
	return 0;
}

static void show_parent(const struct vhdx *v, const char *path, struct vhdx_show *out)
{
	const char *name = v->locator->relative_path[0] != '\0' ? v->locator->relative_path
	                                                        : v->locator->absolute_path;

	out->parent_linkage = v->locator->linkage;
	if (vhdx_path_resolve(path, name, out->parent_path, sizeof(out->parent_path)) != 0) {
		out->parent_path[0] = '\0';
	}
}

static int show_file(struct vhdx_tool *t, const char *path, struct vhdx_show *out,
                     struct errbuf *eb)
{
	struct vhdx *v = t->v;
	int err = vhdx_load_bat_with(v, show_fault, NULL, eb);

	if (err != 0) {
		errbuf_prepend(eb, "vhdx: BAT");
		return err;
	}
	vhdx_stat_of(v, &out->stat);
	out->log_dirty = !guid_is_nil(&v->header.log);
	out->file_write = v->header.file_write;
	if (v->locator != NULL) {
		show_parent(v, path, out);
	}
	return show_creator(t->file, out->creator, eb);
}

int vhdx_show(const struct vhdx_files *files, const char *path, struct vhdx_show *out,
              struct errbuf *eb)
{
	struct errbuf local = {.text = ""};
	struct vhdx_tool t;
	int close_err;
	int err;

	eb = eb != NULL ? eb : &local;
	*eb = (struct errbuf){.text = ""};
	memset(out, 0, sizeof(*out));
	err = vhdx_tool_open(&t, files, path, true, true, eb);
	if (err == 0) {
		err = show_file(&t, path, out, eb);
		close_err = vhdx_tool_close(&t, NULL);
		(void)close_err; /* it was only read */
	}
	if (err != 0) {
		errbuf_prepend(eb, "%s", path);
	}
	return err;
}
