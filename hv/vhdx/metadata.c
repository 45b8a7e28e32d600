/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "base/check.h"
#include "base/errbuf.h"
#include "hv/vhdx/format_int.h"

struct metadata_known {
	struct guid id;
	const char *name;
	uint32_t bytes; /* 0: any */
	uint32_t flags; /* as we write them */
};

#define REQUIRED_OF_DISK (VHDX_METADATA_REQUIRED | VHDX_METADATA_VIRTUAL_DISK)

static const struct metadata_known metadata_known[VHDX_ITEM_COUNT] =
	{
		[VHDX_ITEM_FILE_PARAMS] =
			{
				.id = GUID_INIT(0xcaa16737, 0xfa36, 0x4d43, 0xb3, 0xb6, 0x33, 0xf0,
                                                0xaa, 0x44, 0xe7, 0x6b),
				.name = "file parameters",
				.bytes = 8,
				.flags = VHDX_METADATA_REQUIRED,
			},
		[VHDX_ITEM_DISK_SIZE] =
			{
				.id = GUID_INIT(0x2fa54224, 0xcd1b, 0x4876, 0xb2, 0x11, 0x5d, 0xbe,
                                                0xd8, 0x3b, 0xf4, 0xb8),
				.name = "virtual disk size",
				.bytes = 8,
				.flags = REQUIRED_OF_DISK,
			},
		[VHDX_ITEM_DISK_ID] =
			{
				.id = GUID_INIT(0xbeca12ab, 0xb2e6, 0x4523, 0x93, 0xef, 0xc3, 0x09,
                                                0xe0, 0x00, 0xc7, 0x46),
				.name = "virtual disk ID",
				.bytes = 16,
				.flags = REQUIRED_OF_DISK,
			},
		[VHDX_ITEM_LOGICAL] =
			{
				.id = GUID_INIT(0x8141bf1d, 0xa96f, 0x4709, 0xba, 0x47, 0xf2, 0x33,
                                                0xa8, 0xfa, 0xab, 0x5f),
				.name = "logical sector size",
				.bytes = 4,
				.flags = REQUIRED_OF_DISK,
			},
		[VHDX_ITEM_PHYSICAL] =
			{
				.id = GUID_INIT(0xcda348c7, 0x445d, 0x4471, 0x9c, 0xc9, 0xe9, 0x88,
                                                0x52, 0x51, 0xc5, 0x56),
				.name = "physical sector size",
				.bytes = 4,
				.flags = REQUIRED_OF_DISK,
			},
		[VHDX_ITEM_LOCATOR] =
			{
				.id =
					GUID_INIT(0xa8d35f2d, 0xb30b, 0x454d, 0xab, 0xf7,
                                                  0xd3, 0xd8, 0x48, 0x34, 0xab, 0x0c),
				.name = "parent locator",
				.bytes = 0,
				.flags = VHDX_METADATA_REQUIRED,
			},
};

const char *vhdx_item_name(enum vhdx_item item)
{
	return metadata_known[item].name;
}

static enum vhdx_item metadata_find(const struct guid *id)
{
	enum vhdx_item item = 0;

	while (item < VHDX_ITEM_COUNT && !guid_equal(id, &metadata_known[item].id)) {
		item++;
	}
	return item;
}

/* Where one entry of the table says its item is. */
static int metadata_place(const struct vhdx_metadata_entry_wire *w, uint32_t region_bytes,
                          struct vhdx_metadata_table *to, struct errbuf *eb)
{
	enum vhdx_item item = metadata_find(&w->id);
	uint32_t offset = le32_get(w->offset);
	uint32_t bytes = le32_get(w->len);
	uint32_t flags = le32_get(w->flags);
	char text[GUID_TEXT_SIZE];

	(void)guid_format(&w->id, text);
	if (bytes == 0
	            ? offset != 0
	            : offset < VHDX_METADATA_TABLE_BYTES || bytes > VHDX_METADATA_ITEM_BYTES_MAX ||
	                      offset > region_bytes || bytes > region_bytes - offset) {
		return errbuf_set(eb, -EBADMSG, "item %s at 0x%x, 0x%x bytes: outside its region",
		                  text, offset, bytes);
	}
	/* A user's item may have any GUID, even one of ours. */
	if (item == VHDX_ITEM_COUNT || (flags & VHDX_METADATA_USER) != 0) {
		if ((flags & VHDX_METADATA_REQUIRED) != 0) {
			return errbuf_set(eb, -ENOTSUP, "required item %s is unknown", text);
		}
		to->others_end = offset + bytes > to->others_end ? offset + bytes : to->others_end;
		return 0;
	}

	const struct metadata_known *known = &metadata_known[item];

	if (to->item[item].bytes != 0) {
		return errbuf_set(eb, -EBADMSG, "%s is there twice", known->name);
	}
	if (bytes == 0 || (known->bytes != 0 && bytes != known->bytes) ||
	    (item == VHDX_ITEM_LOCATOR && bytes > VHDX_LOCATOR_BYTES_MAX)) {
		return errbuf_set(eb, -EBADMSG, "%s of %u bytes", known->name, bytes);
	}
	to->item[item].offset = offset;
	to->item[item].bytes = bytes;
	return 0;
}

int vhdx_metadata_table_decode(const void *buf, size_t len, uint32_t region_bytes,
                               struct vhdx_metadata_table *out, struct errbuf *eb)
{
	const uint8_t *p = buf;
	struct vhdx_metadata_table_wire w;
	struct vhdx_metadata_table table = {0};

	if (len < VHDX_METADATA_TABLE_BYTES) {
		return errbuf_set(eb, -EBADMSG, "cut short");
	}
	memcpy(&w, p, sizeof(w));
	if (memcmp(w.signature, VHDX_METADATA_SIGNATURE, sizeof(w.signature)) != 0) {
		return errbuf_set(eb, -EBADMSG, "no \"metadata\" signature");
	}
	if (le16_get(w.count) > VHDX_METADATA_ENTRIES_MAX) {
		return errbuf_set(eb, -EBADMSG, "%u entries", le16_get(w.count));
	}
	for (uint32_t i = 0; i < le16_get(w.count); i++) {
		struct vhdx_metadata_entry_wire entry;

		memcpy(&entry, p + sizeof(w) + i * sizeof(entry), sizeof(entry));

		int err = metadata_place(&entry, region_bytes, &table, eb);

		if (err != 0) {
			return err;
		}
	}
	for (enum vhdx_item item = 0; item < VHDX_ITEM_LOCATOR; item++) {
		if (table.item[item].bytes == 0) {
			return errbuf_set(eb, -EBADMSG, "no %s", metadata_known[item].name);
		}
	}
	*out = table;
	return 0;
}

uint32_t vhdx_metadata_entry_find(const void *table, enum vhdx_item item)
{
	const uint8_t *p = table;
	struct vhdx_metadata_table_wire w;

	memcpy(&w, p, sizeof(w));
	for (uint32_t i = 0; i < le16_get(w.count) && i < VHDX_METADATA_ENTRIES_MAX; i++) {
		uint32_t at = (uint32_t)(sizeof(w) + i * sizeof(struct vhdx_metadata_entry_wire));
		struct vhdx_metadata_entry_wire entry;

		memcpy(&entry, p + at, sizeof(entry));
		if (guid_equal(&entry.id, &metadata_known[item].id) &&
		    (le32_get(entry.flags) & VHDX_METADATA_USER) == 0) {
			return at;
		}
	}
	return 0;
}

int vhdx_metadata_item_decode(enum vhdx_item item, const void *buf, size_t len,
                              struct vhdx_metadata *out, struct errbuf *eb)
{
	struct vhdx_file_params_wire params;
	le64 wide;
	le32 narrow;

	CHECK(item < VHDX_ITEM_LOCATOR);
	if (len != metadata_known[item].bytes) {
		return errbuf_set(eb, -EBADMSG, "%s of %zu bytes", metadata_known[item].name, len);
	}
	switch (item) {
	case VHDX_ITEM_FILE_PARAMS:
		memcpy(&params, buf, sizeof(params));
		out->block_bytes = le32_get(params.block_bytes);
		out->fixed = (le32_get(params.flags) & VHDX_FILE_LEAVE_ALLOCATED) != 0;
		out->has_parent = (le32_get(params.flags) & VHDX_FILE_HAS_PARENT) != 0;
		break;
	case VHDX_ITEM_DISK_SIZE:
		memcpy(&wide, buf, sizeof(wide));
		out->size_bytes = le64_get(wide);
		break;
	case VHDX_ITEM_DISK_ID:
		memcpy(&out->disk_id, buf, sizeof(out->disk_id));
		break;
	case VHDX_ITEM_LOGICAL:
	case VHDX_ITEM_PHYSICAL:
		memcpy(&narrow, buf, sizeof(narrow));
		*(item == VHDX_ITEM_LOGICAL ? &out->logical_bytes : &out->physical_bytes) =
			le32_get(narrow);
		break;
	case VHDX_ITEM_LOCATOR:
	case VHDX_ITEM_COUNT:
		break;
	}
	return 0;
}

static bool metadata_sector_ok(uint32_t bytes)
{
	return bytes == 512 || bytes == 4096;
}

int vhdx_metadata_check(const struct vhdx_metadata *metadata, struct errbuf *eb)
{
	uint32_t block = metadata->block_bytes;

	if (block < VHDX_BLOCK_BYTES_MIN || block > VHDX_BLOCK_BYTES_MAX ||
	    (block & (block - 1)) != 0) {
		return errbuf_set(eb, -EBADMSG,
		                  "block size %u is not a power of two from 1 to 256 MiB", block);
	}
	if (!metadata_sector_ok(metadata->logical_bytes) ||
	    !metadata_sector_ok(metadata->physical_bytes)) {
		return errbuf_set(eb, -EBADMSG, "sector sizes %u and %u are not 512 or 4096",
		                  metadata->logical_bytes, metadata->physical_bytes);
	}
	if (metadata->size_bytes == 0 || metadata->size_bytes > VHDX_SIZE_MAX ||
	    metadata->size_bytes % metadata->logical_bytes != 0) {
		return errbuf_set(eb, -EBADMSG,
		                  "disk size %llu is not 1 sector to 64 TiB in whole sectors",
		                  (unsigned long long)metadata->size_bytes);
	}
	if (metadata->fixed && metadata->has_parent) {
		return errbuf_set(eb, -EBADMSG, "a fixed disk cannot have a parent");
	}
	return 0;
}

/* Put one item behind those already there. */
static void metadata_add(uint8_t *p, enum vhdx_item item, const void *data, uint32_t bytes,
                         uint32_t *next)
{
	struct vhdx_metadata_table_wire w;
	struct vhdx_metadata_entry_wire entry = {
		.id = metadata_known[item].id,
		.offset = le32_make(*next),
		.len = le32_make(bytes),
		.flags = le32_make(metadata_known[item].flags),
	};

	memcpy(&w, p, sizeof(w));

	uint16_t index = le16_get(w.count);

	memcpy(p + sizeof(w) + index * sizeof(entry), &entry, sizeof(entry));
	w.count = le16_make((uint16_t)(index + 1));
	memcpy(p, &w, sizeof(w));
	memcpy(p + *next, data, bytes);
	*next += (bytes + 7u) & ~7u;
}

void vhdx_metadata_encode(const struct vhdx_metadata *metadata, const void *locator,
                          uint32_t locator_bytes, void *out)
{
	uint8_t *p = out;
	uint32_t next = VHDX_METADATA_TABLE_BYTES;
	struct vhdx_metadata_table_wire w = {0};
	struct vhdx_file_params_wire params = {
		.block_bytes = le32_make(metadata->block_bytes),
		.flags = le32_make((metadata->fixed ? VHDX_FILE_LEAVE_ALLOCATED : 0) |
	                           (metadata->has_parent ? VHDX_FILE_HAS_PARENT : 0)),
	};
	le64 size = le64_make(metadata->size_bytes);
	le32 logical = le32_make(metadata->logical_bytes);
	le32 physical = le32_make(metadata->physical_bytes);

	CHECK(locator_bytes <= VHDX_LOCATOR_BYTES_MAX);
	memset(p, 0, VHDX_METADATA_TABLE_BYTES + VHDX_METADATA_ITEMS_BYTES);
	memcpy(w.signature, VHDX_METADATA_SIGNATURE, sizeof(w.signature));
	memcpy(p, &w, sizeof(w));
	metadata_add(p, VHDX_ITEM_FILE_PARAMS, &params, sizeof(params), &next);
	metadata_add(p, VHDX_ITEM_DISK_SIZE, &size, sizeof(size), &next);
	metadata_add(p, VHDX_ITEM_DISK_ID, &metadata->disk_id, sizeof(metadata->disk_id), &next);
	metadata_add(p, VHDX_ITEM_LOGICAL, &logical, sizeof(logical), &next);
	metadata_add(p, VHDX_ITEM_PHYSICAL, &physical, sizeof(physical), &next);
	if (locator_bytes != 0) {
		metadata_add(p, VHDX_ITEM_LOCATOR, locator, locator_bytes, &next);
	}
}
