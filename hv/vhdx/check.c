/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/blk_sync.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "hv/vhdx/tool_int.h"
#include "hv/vhdx/vhdx_int.h"

struct check {
	const struct vhdx_check_cfg *cfg;
	struct vhdx_check_result *result;
	struct vhdx_tool t;
	uint32_t told;
};

PRINTF_LIKE(3, 4)
static void check_found(struct check *c, enum vhdx_finding finding, const char *fmt, ...)
{
	uint32_t *counts[] = {
		[VHDX_NOTE] = &c->result->notes,
		[VHDX_REPAIRED] = &c->result->repaired,
		[VHDX_REPAIRABLE] = &c->result->repairable,
		[VHDX_DAMAGED] = &c->result->damaged,
	};
	char text[ERRBUF_TEXT_MAX];
	va_list ap;

	(*counts[finding])++;
	if (c->cfg->found == NULL || c->told == VHDX_FINDINGS_MAX) {
		return;
	}
	c->told++;
	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	c->cfg->found(finding, text, c->cfg->arg);
}

/* ---- the copies ---- */

/* A header that is no good: the file works with the other one, until that breaks too. */
static int check_header(struct check *c, uint32_t slot, struct errbuf *eb)
{
	uint8_t buf[VHDX_HEADER_BYTES];
	struct vhdx *v = c->t.v;
	struct vhdx_header header;
	struct errbuf fault = {.text = ""};
	uint64_t offset = slot == 0 ? VHDX_HEADER_1_OFFSET : VHDX_HEADER_2_OFFSET;
	int err = blk_sync_read(c->t.file, offset, buf, sizeof(buf));

	if (err != 0) {
		return errbuf_sys(eb, err, "header %u: read", slot + 1);
	}
	if (vhdx_header_decode(buf, sizeof(buf), &header, &fault) == 0) {
		return 0;
	}
	if (!c->cfg->repair) {
		check_found(c, VHDX_REPAIRABLE, "header %u: %s", slot + 1, fault.text);
		return 0;
	}
	header = v->header;
	err = vhdx_header_store(v, &header, eb); /* the bad one first: it is not current */
	if (err == 0) {
		check_found(c, VHDX_REPAIRED, "header %u: %s", slot + 1, fault.text);
	}
	return err;
}

static int check_region_read(struct check *c, uint32_t slot, uint8_t *buf,
                             struct vhdx_regions *regions, struct errbuf *fault, struct errbuf *eb)
{
	uint64_t offset = slot == 0 ? VHDX_REGION_1_OFFSET : VHDX_REGION_2_OFFSET;
	int err = blk_sync_read(c->t.file, offset, buf, VHDX_REGION_BYTES);

	if (err != 0) {
		return errbuf_sys(eb, err, "region table %u: read", slot + 1);
	}
	err = vhdx_regions_decode(buf, VHDX_REGION_BYTES, regions, fault);
	return err == 0 ? 0 : 1; /* read, but no good: @fault says why */
}

/* The good copy over the bad one. With both good but different, the first is the one in use. */
static int check_region_tables(struct check *c, struct errbuf *eb)
{
	uint8_t *buf[2] = {gw_malloc(VHDX_REGION_BYTES), gw_malloc(VHDX_REGION_BYTES)};
	struct errbuf fault[2] = {{.text = ""}, {.text = ""}};
	struct vhdx_regions regions;
	int state[2] = {0, 0};
	int err = buf[0] == NULL || buf[1] == NULL ? errbuf_sys(eb, -ENOMEM, "region tables") : 0;

	for (uint32_t i = 0; err == 0 && i < 2; i++) {
		state[i] = check_region_read(c, i, buf[i], &regions, &fault[i], eb);
		err = state[i] < 0 ? state[i] : 0;
	}
	if (err == 0 &&
	    /* NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker): err is 0 */
	    (state[0] != 0 || state[1] != 0 || memcmp(buf[0], buf[1], VHDX_REGION_BYTES) != 0)) {
		uint32_t bad = state[0] != 0 ? 0 : 1;
		const char *why = state[bad] != 0 ? fault[bad].text : "differs from the first";

		if (c->cfg->repair) {
			err = blk_sync_write(c->t.file,
			                     bad == 0 ? VHDX_REGION_1_OFFSET : VHDX_REGION_2_OFFSET,
			                     buf[1 - bad], VHDX_REGION_BYTES);
			err = err == 0 ? blk_sync_flush(c->t.file) : err;
		}
		if (err != 0) {
			(void)errbuf_sys(eb, err, "region table %u: write", bad + 1);
		} else {
			check_found(c, c->cfg->repair ? VHDX_REPAIRED : VHDX_REPAIRABLE,
			            "region table %u: %s", bad + 1, why);
		}
	}
	free(buf[0]);
	free(buf[1]);
	return err;
}

/* ---- blocks ---- */

static int check_bat_fault(int err, const char *text, void *arg)
{
	if (err == -EBADMSG) {
		check_found(arg, VHDX_DAMAGED, "BAT: %s", text);
		return 0;
	}
	return err;
}

/* Entries that mean nothing, and MiB that nothing uses. */
static void check_leftovers(struct check *c)
{
	struct vhdx *v = c->t.v;
	uint64_t strange = 0;
	uint64_t end = vhdx_space_end_bytes(&v->space);

	for (uint64_t chunk = 0; !v->geo.has_parent && chunk < v->geo.chunk_count; chunk++) {
		uint64_t index = vhdx_bat_chunk_index(&v->geo, chunk);

		strange += index < v->geo.entry_count && v->bat[index] != 0;
	}
	if (strange != 0) {
		check_found(c, VHDX_NOTE,
		            "BAT: %llu sector bitmap entries are set, which mean nothing in a disk "
		            "without parent",
		            (unsigned long long)strange);
	}
	c->result->unused_bytes = (uint64_t)v->space.holes * VHDX_MIB;
	if (v->file_bytes > end) {
		c->result->unused_bytes +=
			v->file_bytes - end + (end - (uint64_t)v->space.end * VHDX_MIB);
	}
	if (c->result->unused_bytes != 0) {
		check_found(c, VHDX_NOTE, "%llu bytes of the file are in no block",
		            (unsigned long long)c->result->unused_bytes);
	}
}

static int check_blocks(struct check *c, struct errbuf *eb)
{
	int err = vhdx_load_bat_with(c->t.v, check_bat_fault, c, eb);

	if (err == -EBADMSG) { /* the table as a whole */
		check_found(c, VHDX_DAMAGED, "BAT: %s", eb->text);
		return 0;
	}
	if (err == 0) {
		check_leftovers(c);
	}
	return err;
}

static int check_file(struct check *c, bool dirty, struct errbuf *eb)
{
	int err = 0;

	if (dirty && c->cfg->repair) {
		check_found(c, VHDX_REPAIRED, "log: the disk was not closed cleanly; replayed");
	} else if (dirty) {
		check_found(
			c, VHDX_REPAIRABLE,
			"log: the disk was not closed cleanly; the rest is of before the replay");
	}
	for (uint32_t slot = 0; err == 0 && slot < 2; slot++) {
		err = check_header(c, slot, eb);
	}
	if (err == 0) {
		err = check_region_tables(c, eb);
	}
	return err == 0 ? check_blocks(c, eb) : err;
}

/* Is there a log to replay? */
static int check_dirty(const struct vhdx_files *files, const char *path, bool *dirty,
                       struct errbuf *eb)
{
	struct vhdx_tool t;
	int err = vhdx_tool_open(&t, files, path, true, true, eb);

	if (err == 0) {
		*dirty = !guid_is_nil(&t.v->header.log);
		err = vhdx_tool_close(&t, eb);
	}
	return err;
}

int vhdx_check(const struct vhdx_files *files, const char *path, const struct vhdx_check_cfg *cfg,
               struct vhdx_check_result *out, struct errbuf *eb)
{
	struct check c = {.cfg = cfg, .result = out};
	struct errbuf local = {.text = ""};
	bool dirty = false;
	int close_err;
	int err;

	eb = eb != NULL ? eb : &local;
	*eb = (struct errbuf){.text = ""};
	*out = (struct vhdx_check_result){0};
	err = check_dirty(files, path, &dirty, eb);
	if (err == 0) {
		err = vhdx_tool_open(&c.t, files, path, !cfg->repair, !cfg->repair, eb);
	}
	if (err == 0) {
		err = check_file(&c, dirty, eb);
		close_err = vhdx_tool_close(&c.t, err == 0 ? eb : NULL);
		err = err != 0 ? err : close_err;
	}
	if (err != 0) {
		errbuf_prepend(eb, "%s", path);
	}
	return err;
}
