/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "base/check.h"
#include "base/errbuf.h"
#include "hv/vhdx/format_int.h"

static const struct guid region_bat =
	GUID_INIT(0x2dc27766, 0xf623, 0x4200, 0x9d, 0x64, 0x11, 0x5e, 0x9b, 0xfd, 0x4a, 0x08);
static const struct guid region_metadata =
	GUID_INIT(0x8b7ca206, 0x4790, 0x4b9a, 0xb8, 0xfe, 0x57, 0x5f, 0x05, 0x0f, 0x88, 0x6e);

static int region_decode(const uint8_t *at, struct vhdx_region *out, struct errbuf *eb)
{
	struct vhdx_region_wire w;
	char text[GUID_TEXT_SIZE];

	memcpy(&w, at, sizeof(w));
	*out = (struct vhdx_region){
		.id = w.id,
		.offset = le64_get(w.offset),
		.bytes = le32_get(w.len),
		.required = (le32_get(w.flags) & VHDX_REGION_REQUIRED) != 0,
	};
	(void)guid_format(&out->id, text);
	if ((le32_get(w.flags) & ~VHDX_REGION_REQUIRED) != 0) {
		return errbuf_set(eb, -EBADMSG, "region %s: reserved flags 0x%x", text,
		                  le32_get(w.flags));
	}
	if (out->bytes == 0 || out->bytes % VHDX_MIB != 0 || out->offset % VHDX_MIB != 0 ||
	    out->offset < VHDX_MIB || out->offset > VHDX_FILE_SIZE_MAX) {
		return errbuf_set(eb, -EBADMSG,
		                  "region %s at 0x%llx, 0x%x bytes: not in units of 1 MiB", text,
		                  (unsigned long long)out->offset, out->bytes);
	}
	return 0;
}

static bool region_overlap(const struct vhdx_region *a, const struct vhdx_region *b)
{
	return a->offset < b->offset + b->bytes && b->offset < a->offset + a->bytes;
}

/* Put the region where it belongs; its place must be free of those already there. */
static int region_add(struct vhdx_regions *to, const struct vhdx_region *region, struct errbuf *eb)
{
	char text[GUID_TEXT_SIZE];
	bool bat = guid_equal(&region->id, &region_bat);
	bool metadata = guid_equal(&region->id, &region_metadata);

	(void)guid_format(&region->id, text);
	if ((bat && to->bat.bytes != 0) || (metadata && to->metadata.bytes != 0)) {
		return errbuf_set(eb, -EBADMSG, "region %s is there twice", text);
	}
	if ((to->bat.bytes != 0 && region_overlap(region, &to->bat)) ||
	    (to->metadata.bytes != 0 && region_overlap(region, &to->metadata))) {
		return errbuf_set(eb, -EBADMSG, "region %s overlaps another one", text);
	}
	for (uint32_t i = 0; i < to->other_count; i++) {
		if (region_overlap(region, &to->other[i]) ||
		    guid_equal(&region->id, &to->other[i].id)) {
			return errbuf_set(eb, -EBADMSG, "region %s overlaps or repeats another one",
			                  text);
		}
	}
	if (bat) {
		to->bat = *region;
	} else if (metadata) {
		to->metadata = *region;
	} else if (region->required) {
		return errbuf_set(eb, -ENOTSUP, "required region %s is unknown", text);
	} else if (to->other_count == VHDX_REGIONS_OTHER_MAX) {
		return errbuf_set(eb, -ENOTSUP, "more than %u unknown regions",
		                  VHDX_REGIONS_OTHER_MAX);
	} else {
		to->other[to->other_count++] = *region;
	}
	return 0;
}

int vhdx_regions_decode(const void *buf, size_t len, struct vhdx_regions *out, struct errbuf *eb)
{
	const uint8_t *p = buf;
	struct vhdx_region_table_wire w;
	struct vhdx_regions regions = {0};

	if (len < VHDX_REGION_BYTES) {
		return errbuf_set(eb, -EBADMSG, "cut short");
	}
	memcpy(&w, p, sizeof(w));
	if (le32_get(w.signature) != VHDX_REGION_SIGNATURE) {
		return errbuf_set(eb, -EBADMSG, "no \"regi\" signature");
	}
	if (le32_get(w.checksum) !=
	    vhdx_crc(p, VHDX_REGION_BYTES, offsetof(struct vhdx_region_table_wire, checksum))) {
		return errbuf_set(eb, -EBADMSG, "bad checksum");
	}
	if (le32_get(w.count) > VHDX_REGION_ENTRIES_MAX || le32_get(w.reserved) != 0) {
		return errbuf_set(eb, -EBADMSG, "%u entries, reserved 0x%x", le32_get(w.count),
		                  le32_get(w.reserved));
	}
	for (uint32_t i = 0; i < le32_get(w.count); i++) {
		struct vhdx_region region;
		int err = region_decode(p + sizeof(w) + i * sizeof(struct vhdx_region_wire),
		                        &region, eb);

		if (err == 0) {
			err = region_add(&regions, &region, eb);
		}
		if (err != 0) {
			return err;
		}
	}
	if (regions.bat.bytes == 0 || regions.metadata.bytes == 0) {
		return errbuf_set(eb, -EBADMSG, "no %s region",
		                  regions.bat.bytes == 0 ? "BAT" : "metadata");
	}
	*out = regions;
	return 0;
}

static void region_encode(const struct vhdx_region *region, struct guid id, uint8_t *at)
{
	struct vhdx_region_wire w = {
		.id = id,
		.offset = le64_make(region->offset),
		.len = le32_make(region->bytes),
		.flags = le32_make(region->required ? VHDX_REGION_REQUIRED : 0),
	};

	memcpy(at, &w, sizeof(w));
}

void vhdx_regions_encode(const struct vhdx_regions *regions, void *out)
{
	struct vhdx_region_table_wire w = {
		.signature = le32_make(VHDX_REGION_SIGNATURE),
		.count = le32_make(2 + regions->other_count),
	};
	uint8_t *p = out;
	uint8_t *at = p + sizeof(w);

	CHECK(regions->other_count <= VHDX_REGIONS_OTHER_MAX);
	memset(p, 0, VHDX_REGION_BYTES);
	region_encode(&regions->bat, region_bat, at);
	at += sizeof(struct vhdx_region_wire);
	region_encode(&regions->metadata, region_metadata, at);
	for (uint32_t i = 0; i < regions->other_count; i++) {
		at += sizeof(struct vhdx_region_wire);
		region_encode(&regions->other[i], regions->other[i].id, at);
	}
	memcpy(p, &w, sizeof(w));
	w.checksum = le32_make(
		vhdx_crc(p, VHDX_REGION_BYTES, offsetof(struct vhdx_region_table_wire, checksum)));
	memcpy(p, &w, sizeof(w));
}
