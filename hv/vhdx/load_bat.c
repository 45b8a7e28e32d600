/* SPDX-License-Identifier: Apache-2.0 */

/* load_bat - the block allocation table and the map of the space it leaves. */

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/blk_sync.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "hv/vhdx/vhdx_int.h"

/* All entries into v->bat, each legal by itself. */
static int load_bat_entries(struct vhdx *v, vhdx_fault_fn fault, void *arg, struct errbuf *eb)
{
	uint64_t bytes = (v->geo.entry_count * sizeof(le64) + 4095) & ~4095ull;
	uint8_t *buf = gw_malloc(VHDX_MIB);
	int err = buf == NULL ? errbuf_sys(eb, -ENOMEM, "read") : 0;
	uint64_t index = 0;

	for (uint64_t at = 0; err == 0 && at < bytes; at += VHDX_MIB) {
		size_t part = bytes - at < VHDX_MIB ? (size_t)(bytes - at) : VHDX_MIB;

		err = blk_sync_read(v->file, v->regions.bat.offset + at, buf, part);
		if (err != 0) {
			(void)errbuf_sys(eb, err, "read at 0x%" PRIx64, v->regions.bat.offset + at);
		}
		for (size_t i = 0; err == 0 && i < part && index < v->geo.entry_count; i += 8) {
			le64 entry;

			/* NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker): err is 0 */
			memcpy(&entry, buf + i, sizeof(entry));
			v->bat[index] = le64_get(entry);
			err = vhdx_bat_entry_check(&v->geo, index, v->bat[index], v->file_bytes,
			                           eb);
			if (err != 0) {
				v->bat[index] = 0;
				err = fault(err, eb->text, arg);
			}
			index++;
		}
	}
	free(buf);
	return err;
}

/* A place that a block without data has kept: ours to reuse, if it is one. */
static void load_kept(struct vhdx *v, uint64_t index)
{
	enum vhdx_state state = vhdx_bat_state(v->bat[index]);
	uint64_t offset = vhdx_bat_offset(v->bat[index]);

	if (offset == 0 || vhdx_bat_has_data(v->bat[index])) {
		return;
	}
	if ((state != VHDX_UNMAPPED && state != VHDX_UNDEFINED) ||
	    offset + v->geo.block_bytes > v->file_bytes ||
	    vhdx_space_use(&v->space, offset, v->geo.block_bytes) != 0) {
		v->bat[index] = vhdx_bat_make(state, 0);
	}
}

/* Take the storage of one entry that has data. */
static int load_bat_entry_space(struct vhdx *v, uint64_t index, struct errbuf *eb)
{
	const struct vhdx_geometry *g = &v->geo;
	uint64_t number;
	bool payload = vhdx_bat_is_payload(g, index, &number);
	uint64_t offset = vhdx_bat_offset(v->bat[index]);
	int err;

	if (!payload && !g->has_parent) {
		/* Means nothing here, but another program may think it is taken. */
		if (vhdx_bat_state(v->bat[index]) == VHDX_PRESENT && offset < v->file_bytes) {
			err = vhdx_space_use(&v->space, offset, VHDX_MIB);
			(void)err;
		}
		return 0;
	}
	err = vhdx_space_use(&v->space, offset, payload ? g->block_bytes : VHDX_MIB);
	if (err != 0) {
		return errbuf_set(eb, -EBADMSG, "%s %llu at 0x%llx overlaps something else",
		                  payload ? "block" : "sector bitmap block",
		                  (unsigned long long)number, (unsigned long long)offset);
	}
	if (vhdx_bat_state(v->bat[index]) == VHDX_PARTIAL &&
	    vhdx_bat_state(v->bat[vhdx_bat_chunk_index(g, number >> g->chunk_shift)]) !=
	            VHDX_PRESENT) {
		return errbuf_set(eb, -EBADMSG, "block %llu is partial, but has no sector bitmap",
		                  (unsigned long long)number);
	}
	return 0;
}

/* Take the storage of every block; two may not have the same. */
static int load_bat_space(struct vhdx *v, vhdx_fault_fn fault, void *arg, struct errbuf *eb)
{
	uint64_t number;

	for (uint64_t i = 0; i < v->geo.entry_count; i++) {
		int err = vhdx_bat_has_data(v->bat[i]) ? load_bat_entry_space(v, i, eb) : 0;

		if (err != 0) {
			v->bat[i] = 0;
			err = fault(err, eb->text, arg);
		}
		if (err != 0) {
			return err;
		}
	}
	for (uint64_t i = 0; i < v->geo.entry_count; i++) {
		if (vhdx_bat_is_payload(&v->geo, i, &number)) {
			load_kept(v, i);
		}
	}
	return 0;
}

/* MiB that the map must cover: what is there, and all that could come. */
static uint64_t load_space_units(const struct vhdx *v)
{
	uint64_t end = v->file_bytes > v->header.log_offset ? v->file_bytes : v->header.log_offset;
	uint64_t blocks = (v->geo.block_count + 1) * (v->geo.block_bytes / VHDX_MIB);

	return (end + VHDX_MIB - 1) / VHDX_MIB + blocks + v->geo.chunk_count + 1024;
}

static int load_space_regions(struct vhdx *v, struct errbuf *eb)
{
	int err = vhdx_space_use(&v->space, 0, VHDX_MIB);

	if (err == 0) {
		err = vhdx_space_use(&v->space, v->header.log_offset, v->header.log_bytes);
	}
	if (err == 0) {
		err = vhdx_space_use(&v->space, v->regions.bat.offset, v->regions.bat.bytes);
	}
	if (err == 0) {
		err = vhdx_space_use(&v->space, v->regions.metadata.offset,
		                     v->regions.metadata.bytes);
	}
	for (uint32_t i = 0; err == 0 && i < v->regions.other_count; i++) {
		err = vhdx_space_use(&v->space, v->regions.other[i].offset,
		                     v->regions.other[i].bytes);
	}
	return err != 0 ? errbuf_set(eb, -EBADMSG, "regions overlap") : 0;
}

static int load_bat_stop(int err, const char *text, void *arg)
{
	(void)text;
	(void)arg;
	return err;
}

int vhdx_load_bat(struct vhdx *v, struct errbuf *eb)
{
	return vhdx_load_bat_with(v, load_bat_stop, NULL, eb);
}

int vhdx_load_bat_with(struct vhdx *v, vhdx_fault_fn fault, void *arg, struct errbuf *eb)
{
	const struct vhdx_geometry *g = &v->geo;
	uint64_t pages = (g->entry_count + VHDX_PAGE_ENTRIES - 1) / VHDX_PAGE_ENTRIES;
	int err;

	if (g->entry_count * sizeof(le64) > v->regions.bat.bytes) {
		return errbuf_set(eb, -EBADMSG,
		                  "the region of 0x%x bytes is too small for %llu entries",
		                  v->regions.bat.bytes, (unsigned long long)g->entry_count);
	}
	v->zero_from = v->file_bytes;
	v->bat = gw_calloc(g->entry_count, sizeof(*v->bat));
	v->bat_dirty = gw_calloc((pages + 63) / 64, sizeof(*v->bat_dirty));
	if (v->bat == NULL || v->bat_dirty == NULL ||
	    vhdx_space_init(&v->space, (uint32_t)load_space_units(v)) != 0) {
		return errbuf_sys(eb, -ENOMEM, "%llu entries", (unsigned long long)g->entry_count);
	}
	err = load_space_regions(v, eb);
	if (err == 0) {
		err = load_bat_entries(v, fault, arg, eb);
	}
	return err == 0 ? load_bat_space(v, fault, arg, eb) : err;
}
