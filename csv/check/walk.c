/* SPDX-License-Identifier: Apache-2.0 */

/*
 * walk - from the root to every file. A record that points at something damaged is dropped, in
 * memory always, on disk with repair; a node that is empty then is dropped by its parent.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/bitmap.h"
#include "csv/check/check_int.h"

/* An inode and what its tree has shown so far. */
struct owner {
	uint64_t ino;
	enum csv_kind kind;
	uint64_t units;
	uint64_t entries;
	uint64_t tree_blocks;
	uint64_t next_key;
	uint64_t file_end; /* of the extent before */
	uint64_t disk_end;
};

static uint8_t *buf_at(struct check *c, uint32_t i)
{
	return c->bufs + (size_t)i * CSV_BLOCK_BYTES;
}

/* This block of the pool is used; twice is a fault. */
static bool claim_block(struct check *c, uint64_t block)
{
	uint64_t n = block - c->super.layout.pool_at;

	if (bitmap_test(c->pool, n)) {
		check_fault(c, "block %" PRIu64 ": it is part of two things", block);
		return false;
	}
	bitmap_set(c->pool, n);
	return true;
}

static bool get(struct check *c, const struct csv_block_id *id, void *buf)
{
	struct csv_block_id want = *id;
	struct errbuf eb = {0};

	want.volume = &c->super.volume;
	if (check_read(c, id->block, buf) != 0) {
		return false;
	}
	if (csv_meta_verify(buf, &c->super.layout, &want, &eb) != 0) {
		check_fault(c, "%s", eb.text);
		return false;
	}
	return true;
}

static bool claim_units(struct check *c, const struct owner *o, uint64_t first, uint64_t last)
{
	for (uint64_t unit = first; unit < last; unit++) {
		if (bitmap_test(c->units, unit)) {
			check_fault(c,
			            "inode at block %" PRIu64 ": unit %" PRIu64
			            " belongs to another file as well",
			            o->ino, unit);
			return false;
		}
	}
	for (uint64_t unit = first; unit < last; unit++) {
		bitmap_set(c->units, unit);
	}
	return true;
}

static bool on_extent(struct check *c, struct owner *o, const uint8_t *record)
{
	struct csv_extent_wire w;

	memcpy(&w, record, sizeof(w));

	uint64_t file = le64_get(w.file_block);
	uint64_t at = le64_get(w.disk_block);
	uint64_t count = le32_get(w.count);
	bool inside = file % CSV_UNIT_BLOCKS != 0;

	if ((inside && (file != o->file_end || at != o->disk_end)) ||
	    (!inside && o->file_end % CSV_UNIT_BLOCKS != 0)) {
		check_fault(c,
		            "inode at block %" PRIu64 ": block %" PRIu64
		            " of the file is in a unit that is mapped in part",
		            o->ino, file);
		return false;
	}

	uint64_t first = (at + CSV_UNIT_BLOCKS - 1) / CSV_UNIT_BLOCKS;
	uint64_t last = (at + count + CSV_UNIT_BLOCKS - 1) / CSV_UNIT_BLOCKS;

	if (!claim_units(c, o, first, last)) {
		return false;
	}
	o->units += last - first;
	o->file_end = file + count;
	o->disk_end = at + count;
	o->next_key = file + count;
	return true;
}

/* The inode of a name: is it there, and does it know that it is? */
static bool on_name(struct check *c, struct owner *o, const uint8_t *record)
{
	struct csv_dirent_wire w;
	struct csv_inode_wire inode;
	struct errbuf eb = {0};

	memcpy(&w, record, sizeof(w));

	const struct csv_block_id id = {CSV_INODE, le64_get(w.ino), le64_get(w.ino),
	                                &c->super.volume};
	const char *name = (const char *)w.name;
	uint64_t key = csv_name_key(c->super.hash_key, name, w.name_len);
	const char *why = NULL;

	if ((le64_get(w.key) & ~0xffull) != key) {
		why = "is not where one would look for it";
	} else if (check_read(c, id.block, &inode) != 0) {
		return true;
	} else if (csv_meta_verify(&inode, &c->super.layout, &id, &eb) != 0) {
		why = eb.text;
	} else if (le64_get(inode.generation) != le64_get(w.generation) ||
	           le32_get(inode.kind) != w.kind || le32_get(inode.links) != 1 ||
	           le64_get(inode.parent) != o->ino) {
		why = "its inode does not know it";
	} else if (bitmap_test(c->pool, id.block - c->super.layout.pool_at)) {
		why = "its inode has another name already";
	}
	if (why != NULL) {
		check_fault(c, "directory at block %" PRIu64 ": name \"%.*s\": %s", o->ino,
		            (int)w.name_len, name, why);
		return false;
	}
	bitmap_set(c->pool, id.block - c->super.layout.pool_at);
	c->err = check_push(c, &c->dirs, &c->dirs_count, &c->dirs_max, id.block);
	o->entries++;
	o->next_key = le64_get(w.key) + 1;
	return true;
}

/* A pending inode: one without a name is reached from here only. */
static bool on_pending(struct check *c, struct owner *o, const uint8_t *record)
{
	struct csv_pending_wire w;
	struct csv_inode_wire inode;
	uint64_t ino;

	memcpy(&w, record, sizeof(w));
	ino = le64_get(w.ino);

	const struct csv_block_id id = {CSV_INODE, ino, ino, &c->super.volume};

	if (!get(c, &id, &inode)) {
		return c->err != 0;
	}
	if (le64_get(inode.generation) != le64_get(w.generation) ||
	    le32_get(inode.kind) != CSV_KIND_FILE) {
		check_fault(c, "inode at block %" PRIu64 ": not the one that is pending", ino);
		return false;
	}
	c->pending++;
	o->next_key = ino + 1;
	if (le32_get(inode.links) == 0) {
		if (!claim_block(c, ino)) {
			return false;
		}
		c->err = check_push(c, &c->dirs, &c->dirs_count, &c->dirs_max, ino);
	}
	return true;
}

static bool on_record(struct check *c, struct owner *o, const uint8_t *record)
{
	le64 key;

	memcpy(&key, record, sizeof(key));
	if (le64_get(key) < o->next_key) {
		check_fault(c, "inode at block %" PRIu64 ": the records of its tree overlap",
		            o->ino);
		return false;
	}
	switch (o->kind) {
	case CSV_KIND_FILE:
		return on_extent(c, o, record);
	case CSV_KIND_DIR:
		return on_name(c, o, record);
	case CSV_KIND_PENDING:
		break;
	}
	return on_pending(c, o, record);
}

static void set_count(uint8_t *buf, uint32_t level, uint32_t count)
{
	struct csv_inode_wire *inode = (void *)buf;
	struct csv_node_wire *node = (void *)buf;
	bool root = le16_get(inode->head.type) == CSV_INODE;

	*(root ? &inode->count : &node->count) = le16_make((uint16_t)count);
	*(root ? &inode->level : &node->level) = le16_make((uint16_t)level);
}

/* A node on the way down. */
struct frame {
	struct csv_records r;
	uint8_t *records;
	uint32_t at;
	uint32_t kept;
};

static void frame_begin(struct check *c, struct frame *f, uint32_t depth)
{
	uint8_t *buf = buf_at(c, depth);

	csv_records_of(buf, &f->r);
	f->records = buf + (f->r.at - buf);
	f->at = 0;
	f->kept = 0;
}

/* On to the next record; this one stays or not. */
static void frame_next(struct frame *f, bool keep)
{
	if (keep) {
		memmove(f->records + (size_t)f->kept++ * f->r.bytes,
		        f->records + (size_t)f->at * f->r.bytes, f->r.bytes);
	}
	f->at++;
}

static void frame_end(struct check *c, const struct frame *f, uint32_t depth)
{
	uint8_t *buf = buf_at(c, depth);
	const struct csv_block_wire *head = (const void *)buf;

	if (f->kept == f->r.count || c->err != 0) {
		return;
	}
	memset(f->records + (size_t)f->kept * f->r.bytes, 0,
	       (size_t)(f->r.count - f->kept) * f->r.bytes);
	set_count(buf, f->kept == 0 && depth == 0 ? 0 : f->r.level, f->kept);
	if (f->kept != 0 || depth == 0) {
		check_write(c, (enum csv_block_type)le16_get(head->type), le64_get(head->block),
		            buf);
		if (c->repair) {
			check_did(c, "block %" PRIu64 ": %u records removed", le64_get(head->block),
			          f->r.count - f->kept);
		}
	}
}

/* The child that an index record names, into the next buffer. Returns whether it is good. */
static bool child_open(struct check *c, struct owner *o, const struct frame *f, uint32_t depth)
{
	uint8_t *buf = buf_at(c, depth + 1);
	struct csv_index_wire w;
	struct csv_records down;

	memcpy(&w, f->records + (size_t)f->at * f->r.bytes, sizeof(w));

	const struct csv_block_id id = {CSV_NODE, le64_get(w.child), o->ino, NULL};

	if (!get(c, &id, buf)) {
		return false;
	}
	csv_records_of(buf, &down);

	const struct csv_node_wire *node = (const void *)buf;

	if (down.level + 1 != f->r.level || le32_get(node->kind) != (uint32_t)o->kind ||
	    le64_get(node->low) != le64_get(w.key)) {
		check_fault(c, "tree node at block %" PRIu64 ": not the one that is named",
		            id.block);
		return false;
	}
	if (!claim_block(c, id.block)) {
		return false;
	}
	o->tree_blocks++;
	return true;
}

/* A node without records is none. */
static void child_gone(struct check *c, struct owner *o, uint32_t depth)
{
	const struct csv_block_wire *head = (const void *)buf_at(c, depth);

	o->tree_blocks--;
	bitmap_clear(c->pool, le64_get(head->block) - c->super.layout.pool_at);
}

/* Levels go down by one with each step, so there are at most CSV_LEVEL_MAX. */
static void walk_tree(struct check *c, struct owner *o)
{
	struct frame frames[CSV_LEVEL_MAX];
	uint32_t depth = 0;

	frame_begin(c, &frames[0], 0);
	while (c->err == 0) {
		struct frame *f = &frames[depth];

		if (f->at == f->r.count) {
			frame_end(c, f, depth);
			if (depth == 0) {
				return;
			}
			if (f->kept == 0) {
				child_gone(c, o, depth);
			}
			depth--;
			frame_next(&frames[depth], f->kept != 0);
		} else if (f->r.level == 0) {
			frame_next(f, on_record(c, o, f->records + (size_t)f->at * f->r.bytes));
		} else if (child_open(c, o, f, depth)) {
			depth++;
			frame_begin(c, &frames[depth], depth);
		} else {
			frame_next(f, false);
		}
	}
}

/* Counts that the inode has of itself. */
static void compare(struct check *c, const struct owner *o, struct csv_inode_wire *w)
{
	if (le64_get(w->units) == o->units && le64_get(w->entries) == o->entries &&
	    le64_get(w->tree_blocks) == o->tree_blocks) {
		return;
	}
	check_fault(c,
	            "inode at block %" PRIu64 ": it counts %" PRIu64 " units, %" PRIu64
	            " names, %" PRIu64 " tree nodes, and has %" PRIu64 ", %" PRIu64 ", %" PRIu64,
	            o->ino, le64_get(w->units), le64_get(w->entries), le64_get(w->tree_blocks),
	            o->units, o->entries, o->tree_blocks);
	w->units = le64_make(o->units);
	w->entries = le64_make(o->entries);
	w->tree_blocks = le64_make(o->tree_blocks);
	check_write(c, CSV_INODE, o->ino, w);
	if (c->repair) {
		check_did(c, "inode at block %" PRIu64 ": counts corrected", o->ino);
	}
}

/* One whose block is claimed. */
static void walk_inode(struct check *c, uint64_t ino)
{
	const struct csv_block_id id = {CSV_INODE, ino, ino, NULL};
	struct csv_inode_wire *w = (void *)buf_at(c, 0);
	struct owner o = {.ino = ino};

	if (!get(c, &id, w)) {
		return;
	}
	o.kind = (enum csv_kind)le32_get(w->kind);
	walk_tree(c, &o);
	if (c->err != 0) {
		return;
	}
	if (o.file_end % CSV_UNIT_BLOCKS != 0) {
		check_fault(c, "inode at block %" PRIu64 ": its last unit is mapped in part", ino);
	}
	compare(c, &o, w);
	c->files += o.kind == CSV_KIND_FILE;
	c->directories += o.kind == CSV_KIND_DIR;
	c->units_used += o.units;
	c->reserved_units += le64_get(w->reserved_units);
	if (le64_get(w->generation) > c->generation_max) {
		c->generation_max = le64_get(w->generation);
	}
}

void walk_all(struct check *c)
{
	const struct csv_layout *l = &c->super.layout;

	bitmap_set(c->pool, 0);
	bitmap_set(c->pool, 1);
	c->err = check_push(c, &c->dirs, &c->dirs_count, &c->dirs_max, csv_layout_root(l));
	if (c->err == 0) {
		walk_inode(c, csv_layout_pending(l));
	}
	while (c->dirs_count != 0 && c->err == 0) {
		walk_inode(c, c->dirs[--c->dirs_count]);
	}
}

/*
 * Inodes that the map of the pool has, and nothing named. Only those that no lost directory names
 * are lost themselves, so lost directories come first, with all that is in them.
 */
void walk_lost(struct check *c)
{
	const struct csv_layout *l = &c->super.layout;
	struct csv_inode_wire inode;
	struct csv_map_wire map;

	for (uint32_t pass = 0; pass < 2; pass++) {
		for (uint64_t n = 2; n < l->pool_blocks && c->err == 0; n++) {
			const struct csv_block_id id = {CSV_INODE, l->pool_at + n, l->pool_at + n,
			                                &c->super.volume};
			uint64_t bit = n % CSV_MAP_BITS;

			if ((bit == 0 || n == 2) &&
			    check_read(c, l->pool_map_at + n / CSV_MAP_BITS, &map) != 0) {
				return;
			}
			if ((map.map[bit / 8] >> (bit % 8) & 1) == 0 || bitmap_test(c->pool, n) ||
			    check_read(c, id.block, &inode) != 0 ||
			    csv_meta_verify(&inode, l, &id, NULL) != 0 ||
			    le32_get(inode.links) != 1 ||
			    (pass == 0) != (le32_get(inode.kind) == CSV_KIND_DIR)) {
				continue;
			}
			check_fault(c, "inode at block %" PRIu64 ": no directory has it", id.block);
			bitmap_set(c->pool, n);
			c->err = check_push(c, &c->lost, &c->lost_count, &c->lost_max, id.block);
			if (c->err == 0) {
				walk_inode(c, id.block);
			}
			while (c->dirs_count != 0 && c->err == 0) {
				walk_inode(c, c->dirs[--c->dirs_count]);
			}
		}
	}
}
