/* SPDX-License-Identifier: Apache-2.0 */

/*
 * inode - the blocks of the metadata, judged as a whole. What passes can be walked without a check
 * at each step: counts fit, keys ascend, addresses lie in the region they must point into. What
 * one block cannot know (does the child agree, is a unit given out twice) is up to the reader and
 * to csv/check.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/errbuf.h"
#include "csv/format/csv_format.h"

static bool all_zero(const void *buf, size_t len)
{
	const uint8_t *p = buf;

	return len == 0 || (p[0] == 0 && memcmp(p, p + 1, len - 1) == 0);
}

uint32_t csv_record_bytes(enum csv_kind kind, uint32_t level)
{
	if (level != 0) {
		return sizeof(struct csv_index_wire);
	}
	switch (kind) {
	case CSV_KIND_DIR:
		return sizeof(struct csv_dirent_wire);
	case CSV_KIND_PENDING:
		return sizeof(struct csv_pending_wire);
	case CSV_KIND_FILE:
		break;
	}
	return sizeof(struct csv_extent_wire);
}

void csv_records_of(const void *buf, struct csv_records *out)
{
	const struct csv_block_wire *head = buf;
	uint32_t room;
	uint32_t kind;

	if (le16_get(head->type) == CSV_INODE) {
		const struct csv_inode_wire *w = buf;

		out->at = w->records;
		out->level = le16_get(w->level);
		out->count = le16_get(w->count);
		kind = le32_get(w->kind);
		room = CSV_INODE_RECORDS_BYTES;
	} else {
		const struct csv_node_wire *w = buf;

		out->at = w->records;
		out->level = le16_get(w->level);
		out->count = le16_get(w->count);
		kind = le32_get(w->kind);
		room = CSV_NODE_RECORDS_BYTES;
	}
	out->bytes = csv_record_bytes((enum csv_kind)kind, out->level);
	out->max = room / out->bytes;
}

/* Is this a record of done requests that csv/meta could have written? */
static bool done_valid(const struct csv_done_wire *d)
{
	uint64_t last = le64_get(d->last);
	uint64_t mask = le64_get(d->mask);

	if (le64_get(d->incarnation) == 0) {
		return last == 0 && mask == 0;
	}
	return last != 0 && (mask & 1) != 0 && (last >= 64 || mask >> last == 0);
}

static const char *state_fault(const struct csv_state_wire *w, const struct csv_layout *layout)
{
	uint64_t free_units = le64_get(w->free_units);

	if (free_units > csv_layout_units(layout) || le64_get(w->reserved_units) > free_units ||
	    le64_get(w->pool_free) > layout->pool_blocks ||
	    le64_get(w->files) > layout->pool_blocks ||
	    le64_get(w->directories) > layout->pool_blocks ||
	    le64_get(w->pending) > layout->pool_blocks || le64_get(w->next_generation) == 0) {
		return "a count is out of range";
	}
	for (uint32_t i = 0; i < ARRAY_LEN(w->done); i++) {
		if (!done_valid(&w->done[i])) {
			return "a record of done requests is wrong";
		}
	}
	return all_zero(w->reserved, sizeof(w->reserved)) ? NULL : "reserved bytes are not 0";
}

static const char *map_fault(const struct csv_map_wire *w, uint32_t bits)
{
	uint32_t used = 0;

	if (le32_get(w->bits) != bits || !all_zero(w->padding, sizeof(w->padding))) {
		return "it has another number of bits";
	}
	for (uint32_t i = 0; i < sizeof(w->map); i++) {
		used += (uint32_t)__builtin_popcount(w->map[i]);
	}
	for (uint32_t i = bits; i < CSV_MAP_BITS; i++) {
		if ((w->map[i / 8] >> (i % 8) & 1) != 0) {
			return "bits are set behind its end";
		}
	}
	return used <= bits && le32_get(w->free) == bits - used ? NULL
	                                                        : "it has miscounted what is free";
}

static bool extent_ok(const struct csv_extent_wire *e, const struct csv_layout *layout)
{
	uint64_t file_block = le64_get(e->file_block);
	uint64_t at = le64_get(e->disk_block);
	uint64_t count = le32_get(e->count);

	if (count == 0 || (le32_get(e->flags) & ~CSV_EXTENT_UNWRITTEN) != 0 ||
	    file_block % CSV_UNIT_BLOCKS != at % CSV_UNIT_BLOCKS ||
	    file_block > CSV_FILE_BLOCKS_MAX || count > CSV_FILE_BLOCKS_MAX - file_block ||
	    at >= layout->size || count > layout->size - at) {
		return false;
	}

	uint64_t first = at / CSV_UNIT_BLOCKS;
	uint64_t last = (at + count - 1) / CSV_UNIT_BLOCKS;

	for (uint32_t i = 1; i < CSV_SUPER_COPIES; i++) {
		uint64_t copy = layout->copies[i] / CSV_UNIT_BLOCKS;

		if (copy >= first && copy <= last) {
			return false;
		}
	}
	return first >= csv_layout_data_unit(layout);
}

static bool dirent_ok(const struct csv_dirent_wire *e, const struct csv_layout *layout)
{
	return csv_layout_in_pool(layout, le64_get(e->ino)) && le64_get(e->generation) != 0 &&
	       (e->kind == CSV_KIND_FILE || e->kind == CSV_KIND_DIR) &&
	       csv_name_check((const char *)e->name, e->name_len) == 0 &&
	       all_zero(e->name + e->name_len, sizeof(e->name) - e->name_len);
}

static bool pending_ok(const struct csv_pending_wire *e, const struct csv_layout *layout)
{
	return csv_layout_in_pool(layout, le64_get(e->ino)) && le64_get(e->reserved) == 0;
}

static bool record_ok(const uint8_t *record, enum csv_kind kind, uint32_t level,
                      const struct csv_layout *layout)
{
	if (level != 0) {
		struct csv_index_wire e;

		memcpy(&e, record, sizeof(e));
		return csv_layout_in_pool(layout, le64_get(e.child));
	}
	if (kind == CSV_KIND_DIR) {
		struct csv_dirent_wire e;

		memcpy(&e, record, sizeof(e));
		return dirent_ok(&e, layout);
	}
	if (kind == CSV_KIND_PENDING) {
		struct csv_pending_wire e;

		memcpy(&e, record, sizeof(e));
		return pending_ok(&e, layout);
	}

	struct csv_extent_wire e;

	memcpy(&e, record, sizeof(e));
	return extent_ok(&e, layout);
}

/* Where the key after this record may start. */
static uint64_t next_key(const uint8_t *record, enum csv_kind kind, uint32_t level)
{
	struct csv_extent_wire e;

	memcpy(&e, record, sizeof(le64));
	if (level != 0 || kind != CSV_KIND_FILE) {
		return le64_get(e.file_block) + 1;
	}
	memcpy(&e, record, sizeof(e));
	return le64_get(e.file_block) + le32_get(e.count);
}

/* All records of one block. @low: no key is below it. */
static const char *records_fault(const void *buf, enum csv_kind kind, uint64_t low,
                                 const struct csv_layout *layout)
{
	struct csv_records r;
	uint64_t least = low;

	csv_records_of(buf, &r);
	if (r.level >= CSV_LEVEL_MAX || r.count > r.max || (r.level != 0 && r.count == 0)) {
		return "level or number of records is out of range";
	}
	for (uint32_t i = 0; i < r.count; i++) {
		const uint8_t *record = r.at + (size_t)i * r.bytes;
		le64 key;

		memcpy(&key, record, sizeof(key));
		if (le64_get(key) < least) {
			return "its records are not in order";
		}
		if (le64_get(key) == UINT64_MAX) {
			return "a record's key is out of range";
		}
		if (!record_ok(record, kind, r.level, layout)) {
			return "a record points where it must not";
		}
		least = next_key(record, kind, r.level);
	}
	return NULL;
}

static const char *inode_fault(const struct csv_inode_wire *w, const struct csv_layout *layout)
{
	uint32_t kind = le32_get(w->kind);
	uint64_t block = le64_get(w->head.block);

	if (kind < CSV_KIND_FILE || kind > CSV_KIND_PENDING) {
		return "unknown kind";
	}
	if ((block == csv_layout_pending(layout)) != (kind == CSV_KIND_PENDING) ||
	    (block == csv_layout_root(layout) && kind != CSV_KIND_DIR)) {
		return "of a kind that does not belong here";
	}
	if (le64_get(w->head.owner) != block || le64_get(w->generation) == 0 ||
	    !csv_layout_in_pool(layout, le64_get(w->parent))) {
		return "owner, generation or parent is out of range";
	}
	if (le64_get(w->size_bytes) > CSV_FILE_BLOCKS_MAX * CSV_BLOCK_BYTES ||
	    le64_get(w->units) > csv_layout_units(layout) ||
	    le64_get(w->reserved_units) > csv_layout_units(layout) ||
	    le64_get(w->tree_blocks) > layout->pool_blocks ||
	    le64_get(w->entries) > layout->pool_blocks) {
		return "a size is out of range";
	}
	if (le32_get(w->links) > 1 || le32_get(w->flags) != 0 ||
	    (le32_get(w->mode) & ~07777u) != 0 || le32_get(w->reserved2) != 0 ||
	    !all_zero(w->reserved, sizeof(w->reserved))) {
		return "links, flags, mode or reserved bytes are out of range";
	}
	if (kind != CSV_KIND_FILE &&
	    (le64_get(w->size_bytes) != 0 || le64_get(w->units) != 0 ||
	     le64_get(w->reserved_units) != 0 || le64_get(w->cut_block) != UINT64_MAX)) {
		return "not a file, and has a file's fields";
	}
	return records_fault(w, (enum csv_kind)kind, 0, layout);
}

static const char *node_fault(const struct csv_node_wire *w, const struct csv_layout *layout)
{
	uint32_t kind = le32_get(w->kind);

	if (kind < CSV_KIND_FILE || kind > CSV_KIND_PENDING) {
		return "unknown kind";
	}
	if (le16_get(w->count) == 0 || !csv_layout_in_pool(layout, le64_get(w->head.owner))) {
		return "it is empty, or its owner is out of range";
	}
	return records_fault(w, (enum csv_kind)kind, le64_get(w->low), layout);
}

static const char *meta_fault(const void *buf, const struct csv_layout *layout,
                              const struct csv_block_id *id, uint64_t owner)
{
	uint64_t index;

	switch ((uint32_t)id->type) {
	case CSV_STATE:
		return owner == 0 ? state_fault(buf, layout) : "its owner is not 0";
	case CSV_UNIT_MAP:
	case CSV_POOL_MAP:
		index = id->block -
		        (id->type == CSV_UNIT_MAP ? layout->unit_map_at : layout->pool_map_at);
		if (owner != index) {
			return "it is another part of the map";
		}
		return map_fault(buf, csv_layout_map_bits(layout, id->type, index));
	case CSV_INODE:
		return inode_fault(buf, layout);
	default:
		return node_fault(buf, layout);
	}
}

int csv_meta_verify(const void *buf, const struct csv_layout *layout, const struct csv_block_id *id,
                    struct errbuf *eb)
{
	struct csv_block_id want = *id;
	const struct csv_block_wire *w = buf;
	struct csv_block_head head;
	uint32_t here = csv_meta_at(layout, id->block);

	if (here == 0) {
		return errbuf_set(eb, -EUCLEAN, "block %" PRIu64 ": no metadata lies here",
		                  id->block);
	}
	if (want.type == 0) {
		want.type = here == CSV_INODE && le16_get(w->type) == CSV_NODE
		                    ? CSV_NODE
		                    : (enum csv_block_type)here;
	} else if (here != (uint32_t)want.type && !(here == CSV_INODE && want.type == CSV_NODE)) {
		return errbuf_set(eb, -EUCLEAN, "block %" PRIu64 ": a %s does not lie here",
		                  id->block, csv_block_type_name((uint32_t)want.type));
	}

	int err = csv_block_open(buf, &want, &head, eb);

	if (err != 0) {
		return err;
	}

	const char *why = meta_fault(buf, layout, &want, head.owner);

	if (why != NULL) {
		return errbuf_set(eb, -EUCLEAN, "%s at block %" PRIu64 ": %s",
		                  csv_block_type_name((uint32_t)want.type), id->block, why);
	}
	return 0;
}
