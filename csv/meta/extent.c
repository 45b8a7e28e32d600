/* SPDX-License-Identifier: Apache-2.0 */

/*
 * extent - what maps the blocks of a file. An allocated unit is always mapped as a whole, if by
 * several extents, so holes begin and end with units; neighbours that can be one extent are.
 */
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "csv/meta/meta_int.h"

#define EXTENT_BLOCKS_MAX (1u << 30)

void extent_get(const struct tree_path *p, struct csv_extent *out)
{
	struct csv_extent_wire w;

	memcpy(&w, tree_record(p), sizeof(w));
	*out = (struct csv_extent){
		.file_block = le64_get(w.file_block),
		.disk_block = le64_get(w.disk_block),
		.count = le32_get(w.count),
		.unwritten = (le32_get(w.flags) & CSV_EXTENT_UNWRITTEN) != 0,
	};
}

static uint64_t end_of(const struct csv_extent *e)
{
	return e->file_block + e->count;
}

/* The extent that has @block, or the first behind it. 0; -ENOENT. */
int extent_find(const struct tree *t, uint64_t block, struct tree_path *p, struct csv_extent *out)
{
	int err = tree_seek_before(t, block, p);

	if (err == 0) {
		extent_get(p, out);
		if (end_of(out) > block) {
			return 0;
		}
	}
	if (err == 0 || err == -ENOENT) {
		err = tree_seek(t, block, p);
	}
	if (err == 0) {
		extent_get(p, out);
	}
	return err;
}

static int insert(const struct tree *t, const struct csv_extent *e)
{
	const struct csv_extent_wire w = {
		.file_block = le64_make(e->file_block),
		.disk_block = le64_make(e->disk_block),
		.count = le32_make(e->count),
		.flags = le32_make(e->unwritten ? CSV_EXTENT_UNWRITTEN : 0),
	};

	return e->count == 0 ? 0 : tree_insert(t, &w);
}

/* Could @b, which comes behind @a, be part of it? */
static bool joins(const struct csv_extent *a, const struct csv_extent *b)
{
	return end_of(a) == b->file_block && a->disk_block + a->count == b->disk_block &&
	       a->unwritten == b->unwritten && a->count + b->count <= EXTENT_BLOCKS_MAX;
}

/* Map what was not mapped. */
int extent_add(const struct tree *t, const struct csv_extent *e)
{
	struct csv_extent all = *e;
	struct csv_extent near;
	struct tree_path p;
	int err = tree_seek_before(t, e->file_block, &p);

	if (err == 0) {
		extent_get(&p, &near);
		if (joins(&near, &all)) {
			all.file_block = near.file_block;
			all.disk_block = near.disk_block;
			all.count += near.count;
			err = tree_remove(t, &p);
		}
	}
	if (err != 0 && err != -ENOENT) {
		return err;
	}
	err = tree_seek(t, end_of(&all), &p);
	if (err == 0) {
		extent_get(&p, &near);
		if (joins(&all, &near)) {
			all.count += near.count;
			err = tree_remove(t, &p);
		}
	}
	return err != 0 && err != -ENOENT ? err : insert(t, &all);
}

/* What is left of @e without @r, which lies in it; @p is at @e. */
static int carve(const struct tree *t, struct tree_path *p, const struct csv_extent *e,
                 const struct range *r)
{
	struct csv_extent left = *e;
	struct csv_extent right = *e;
	int err = tree_remove(t, p);

	left.count = (uint32_t)(r->from - e->file_block);
	right.file_block = r->to;
	right.disk_block = e->disk_block + (r->to - e->file_block);
	right.count = (uint32_t)(end_of(e) - r->to);
	if (err == 0) {
		err = insert(t, &left);
	}
	return err != 0 ? err : insert(t, &right);
}

/*
 * Mark one extent's part of @r. *done is where it ends, in the file; a hole is passed over, and
 * -ENXIO says that there was one.
 */
int extent_mark(const struct tree *t, const struct range *r, bool unwritten, uint64_t *done)
{
	struct csv_extent e;
	struct tree_path p;
	int err = extent_find(t, r->from, &p, &e);

	if (err == -ENOENT || (err == 0 && e.file_block > r->from)) {
		*done = err == 0 && e.file_block < r->to ? e.file_block : r->to;
		return -ENXIO;
	}
	if (err != 0) {
		return err;
	}

	struct range part = {r->from, end_of(&e) < r->to ? end_of(&e) : r->to};

	*done = part.to;
	if (e.unwritten == unwritten) {
		return 0;
	}

	const struct csv_extent middle = {
		.file_block = part.from,
		.disk_block = e.disk_block + (part.from - e.file_block),
		.count = (uint32_t)(part.to - part.from),
		.unwritten = unwritten,
	};

	err = carve(t, &p, &e, &part);
	return err != 0 ? err : extent_add(t, &middle);
}

/* r->from moves on, as far as one transaction goes. */
static int mark_all(const struct tree *t, struct range *r)
{
	while (r->from < r->to && cache_room(t->m, OP_STEP_BLOCKS)) {
		int err = extent_mark(t, r, true, &r->from);

		if (err != 0) {
			return err;
		}
	}
	return 0;
}

/*
 * Free units of @r, which is in whole units: some of the first extent in it, as far as one block of
 * the map goes. *done is where it stopped; r->to if nothing was there.
 */
int extent_cut(const struct tree *t, const struct range *r, uint64_t *done)
{
	struct csv_inode_wire *inode = inode_wire(t->inode);
	struct csv_extent e;
	struct tree_path p;
	int err = extent_find(t, r->from, &p, &e);

	if (err == -ENOENT || (err == 0 && e.file_block >= r->to)) {
		*done = r->to;
		return 0;
	}
	if (err != 0) {
		return err;
	}

	struct range part = {e.file_block > r->from ? e.file_block : r->from, 0};

	part.to = part.from + CSV_UNIT_BLOCKS;
	if (part.from % CSV_UNIT_BLOCKS != 0) {
		return errbuf_set(&t->m->eb, -EUCLEAN,
		                  "inode at block %llu: block %llu of the file is mapped, and the "
		                  "one before not",
		                  (unsigned long long)t->inode->block,
		                  (unsigned long long)part.from);
	}
	if (end_of(&e) < part.to) {
		/* A unit in pieces becomes one. */
		struct range rest = part;

		err = mark_all(t, &rest);
		if (err == 0 && rest.from < rest.to) {
			*done = part.from; /* the next transaction goes on */
			return 0;
		}
		if (err == 0) {
			err = extent_find(t, part.from, &p, &e);
		}
		if (err != 0 || end_of(&e) < part.to) {
			return err == -EAGAIN || err == -EUCLEAN || err == -ENOSPC ? err : -EUCLEAN;
		}
	}

	uint64_t end = end_of(&e) < r->to ? end_of(&e) : r->to;
	uint64_t units = 0;

	err = free_units(t->m, (e.disk_block + (part.from - e.file_block)) / CSV_UNIT_BLOCKS,
	                 (end - part.from) / CSV_UNIT_BLOCKS, &units);
	if (err != 0) {
		return err;
	}
	part.to = part.from + units * CSV_UNIT_BLOCKS;
	*done = part.to;
	cache_touch(t->m, t->inode);
	if (le64_get(inode->units) < units) {
		return errbuf_set(&t->m->eb, -EUCLEAN, "inode at block %llu: it has miscounted",
		                  (unsigned long long)t->inode->block);
	}
	inode->units = le64_make(le64_get(inode->units) - units);
	return carve(t, &p, &e, &part);
}
