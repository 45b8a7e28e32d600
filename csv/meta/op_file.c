/* SPDX-License-Identifier: Apache-2.0 */

/* op_file - operations on one inode: they run from start to end without waiting (csv_meta.h). */
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "csv/meta/meta_int.h"

#define EXTENTS_MAX 8192u /* in one answer: their blocks have to be in the cache together */
#define REAP_LOOK_MAX 64u /* inodes that one step of freeing looks at */

static struct tree tree_of(struct csv_meta *m, struct cblock *file)
{
	return (struct tree){m, file, CSV_KIND_FILE};
}

/* The file and the range of an operation. */
static int file_range(struct csv_meta *m, const struct csv_op *op, struct cblock **out)
{
	if (op->count == 0 || op->block >= CSV_FILE_BLOCKS_MAX ||
	    op->count > CSV_FILE_BLOCKS_MAX - op->block) {
		return -EINVAL;
	}
	return inode_file(m, op, out);
}

static void changed(struct csv_meta *m, struct cblock *b, const struct csv_op *op)
{
	cache_touch(m, b);
	inode_wire(b)->changed_ns = le64_make(op->now_ns);
}

static int fill(const struct tree *t, struct csv_op *op)
{
	uint64_t cut = le64_get(inode_wire(t->inode)->cut_block);
	struct csv_extent e;
	struct tree_path p;

	op->extents_count = 0;
	if (op->extents_max == 0) {
		return 0;
	}

	int err = extent_find(t, op->block, &p, &e);

	while (err == 0 && op->extents_count < op->extents_max && op->extents_count < EXTENTS_MAX &&
	       e.file_block < cut) {
		if (e.file_block + e.count > cut) {
			e.count = (uint32_t)(cut - e.file_block);
		}
		op->extents[op->extents_count++] = e;
		err = tree_next(t, &p);
		if (err == 0) {
			extent_get(&p, &e);
		}
	}
	return err == -ENOENT ? 0 : err;
}

int op_map(struct csv_meta *m, struct csv_op *op)
{
	struct cblock *b;
	int err = inode_get(m, op->ino, op->generation, &b);

	if (err != 0) {
		return err;
	}
	if (le32_get(inode_wire(b)->kind) != CSV_KIND_FILE) {
		return -EISDIR;
	}

	const struct tree t = tree_of(m, b);

	inode_attr(b, &op->attr);
	return fill(&t, op);
}

/* Units that this file may still take. */
static int available(struct csv_meta *m, const struct csv_inode_wire *w, uint64_t *out)
{
	struct cblock *b;
	int err = alloc_state(m, &b);

	if (err == 0) {
		const struct csv_state_wire *s = (const void *)b->buf;

		*out = le64_get(s->free_units) - le64_get(s->reserved_units) +
		       le64_get(w->reserved_units);
	}
	return err;
}

/* What the file takes was partly promised to it. */
static int use_reserved(struct csv_meta *m, struct cblock *b, uint64_t units)
{
	struct csv_inode_wire *w = inode_wire(b);
	uint64_t reserved = le64_get(w->reserved_units);
	uint64_t now = units < reserved ? units : reserved;

	cache_touch(m, b);
	w->units = le64_make(le64_get(w->units) + units);
	w->reserved_units = le64_make(reserved - now);
	return now == 0 ? 0
	                : state_add(m, offsetof(struct csv_state_wire, reserved_units),
	                            -(int64_t)now);
}

/* Give units to the hole from @lo to before @hi; *lo moves on. */
static int fill_hole(const struct tree *t, uint64_t *lo, uint64_t hi)
{
	struct csv_meta *m = t->m;
	struct unit_run run = {.want = (hi - *lo) / CSV_UNIT_BLOCKS};
	struct csv_extent e;
	struct tree_path p;
	uint64_t avail;
	int err = available(m, inode_wire(t->inode), &avail);

	if (err != 0) {
		return err;
	}
	if (avail == 0) {
		return -ENOSPC;
	}
	if (run.want == 0) {
		return errbuf_set(&m->eb, -EUCLEAN,
		                  "inode at block %llu: a unit of the file is mapped in part",
		                  (unsigned long long)t->inode->block);
	}
	run.want = run.want < avail ? run.want : avail;
	err = tree_seek_before(t, *lo, &p);
	if (err == 0) {
		extent_get(&p, &e);
		if (e.file_block + e.count > *lo) {
			return errbuf_set(
				&m->eb, -EUCLEAN,
				"inode at block %llu: a unit of the file is mapped in part",
				(unsigned long long)t->inode->block);
		}
		run.hint = (e.disk_block + e.count) / CSV_UNIT_BLOCKS;
	} else if (err != -ENOENT) {
		return err;
	}
	err = alloc_units(m, &run);
	if (err != 0) {
		return err;
	}
	e = (struct csv_extent){
		.file_block = *lo,
		.disk_block = run.first * CSV_UNIT_BLOCKS,
		.count = (uint32_t)(run.count * CSV_UNIT_BLOCKS),
		.unwritten = true,
	};
	*lo += e.count;
	err = extent_add(t, &e);
	return err != 0 ? err : use_reserved(m, t->inode, run.count);
}

/* As far as one transaction goes; *at moves on. */
static int extend_some(const struct tree *t, uint64_t *at, uint64_t end)
{
	while (*at < end && cache_room(t->m, OP_STEP_BLOCKS)) {
		uint64_t lo = *at / CSV_UNIT_BLOCKS * CSV_UNIT_BLOCKS;
		uint64_t hi = (end + CSV_UNIT_BLOCKS - 1) / CSV_UNIT_BLOCKS * CSV_UNIT_BLOCKS;
		struct csv_extent e;
		struct tree_path p;
		int err = extent_find(t, *at, &p, &e);

		if (err == 0 && e.file_block <= *at) {
			*at = e.file_block + e.count;
			continue;
		}
		if (err != 0 && err != -ENOENT) {
			return err;
		}
		if (err == 0 && e.file_block < hi) {
			hi = e.file_block;
		}
		err = fill_hole(t, &lo, hi);
		if (err != 0) {
			return err;
		}
		*at = lo;
	}
	return 0;
}

int op_extend(struct csv_meta *m, struct csv_op *op)
{
	uint64_t end = op->block + op->count;
	uint64_t at = op->block;
	struct cblock *b;
	int err = file_range(m, op, &b);

	if (err != 0) {
		return err;
	}

	const struct tree t = tree_of(m, b);

	err = extend_some(&t, &at, end);
	if (err == -ENOSPC && at > op->block) {
		err = 0; /* some of it */
	}
	if (err != 0) {
		return err;
	}
	changed(m, b, op);
	err = fill(&t, op);
	if (err == 0) {
		op->count = (at < end ? at : end) - op->block;
		inode_attr(b, &op->attr);
	}
	return err;
}

int op_convert(struct csv_meta *m, struct csv_op *op)
{
	struct range rest = {op->block, op->block + op->count};
	struct cblock *b;
	int err = file_range(m, op, &b);

	if (err != 0 || op->size_bytes > CSV_FILE_BLOCKS_MAX * CSV_BLOCK_BYTES) {
		return err != 0 ? err : -EINVAL;
	}

	const struct tree t = tree_of(m, b);

	while (rest.from < rest.to && cache_room(m, OP_STEP_BLOCKS)) {
		uint64_t at;

		err = extent_mark(&t, &rest, false, &at);
		if (err == -ENXIO && rest.from > op->block) {
			break;
		}
		if (err != 0) {
			return err;
		}
		rest.from = at;
	}
	changed(m, b, op);
	inode_wire(b)->modified_ns = le64_make(op->now_ns);
	if (rest.from == rest.to && op->size_bytes > le64_get(inode_wire(b)->size_bytes)) {
		inode_wire(b)->size_bytes = le64_make(op->size_bytes);
	}
	op->count = rest.from - op->block;
	inode_attr(b, &op->attr);
	return 0;
}

/* Mark what is mapped in @r as unwritten; r->from moves on. */
static int blank(const struct tree *t, struct range *r)
{
	while (r->from < r->to && cache_room(t->m, OP_STEP_BLOCKS)) {
		uint64_t at;
		int err = extent_mark(t, r, true, &at);

		if (err != 0 && err != -ENXIO) {
			return err;
		}
		r->from = at;
	}
	return 0;
}

static int cut(const struct tree *t, struct range *r)
{
	while (r->from < r->to && cache_room(t->m, OP_STEP_BLOCKS)) {
		int err = extent_cut(t, r, &r->from);

		if (err != 0) {
			return err;
		}
	}
	return 0;
}

/* Blank the pieces at both ends, free the whole units between; r->from moves on. */
static int punch(const struct tree *t, struct range *r)
{
	uint64_t up = (r->from + CSV_UNIT_BLOCKS - 1) / CSV_UNIT_BLOCKS * CSV_UNIT_BLOCKS;
	uint64_t down = r->to / CSV_UNIT_BLOCKS * CSV_UNIT_BLOCKS;
	struct range part = {r->from, up < r->to ? up : r->to};
	int err = blank(t, &part);

	r->from = part.from;
	if (err != 0 || part.from != part.to || part.to == r->to) {
		return err;
	}
	if (down > part.to) {
		part.to = down;
		err = cut(t, &part);
		r->from = part.from;
		if (err != 0 || part.from != part.to) {
			return err;
		}
	}
	return blank(t, r);
}

int op_punch(struct csv_meta *m, struct csv_op *op)
{
	struct range rest = {op->block, op->block + op->count};
	struct cblock *b;

	m->privileged = true;

	int err = file_range(m, op, &b);

	if (err != 0) {
		return err;
	}

	const struct tree t = tree_of(m, b);

	err = punch(&t, &rest);
	if (err == 0) {
		changed(m, b, op);
		inode_wire(b)->modified_ns = le64_make(op->now_ns);
		op->count = rest.from - op->block;
		inode_attr(b, &op->attr);
	}
	return err;
}

int op_truncate(struct csv_meta *m, struct csv_op *op)
{
	uint64_t keep = op->size_bytes / CSV_BLOCK_BYTES + (op->size_bytes % CSV_BLOCK_BYTES != 0);
	struct csv_extent e;
	struct tree_path p;
	struct cblock *b;

	m->privileged = true;
	if (op->size_bytes > CSV_FILE_BLOCKS_MAX * CSV_BLOCK_BYTES) {
		return -EINVAL;
	}

	int err = inode_file(m, op, &b);

	if (err != 0) {
		return err;
	}

	const struct tree t = tree_of(m, b);

	/* Growing leaves what was granted ahead. */
	if (op->size_bytes <= le64_get(inode_wire(b)->size_bytes)) {
		err = extent_find(&t, keep, &p, &e);
		if (err == 0) {
			cache_touch(m, b);
			inode_wire(b)->cut_block = le64_make(keep);
			err = pending_add(m, b);
		}
		if (err != 0 && err != -ENOENT) {
			return err;
		}
	}
	changed(m, b, op);
	inode_wire(b)->modified_ns = le64_make(op->now_ns);
	inode_wire(b)->size_bytes = le64_make(op->size_bytes);
	inode_attr(b, &op->attr);
	return 0;
}

int op_reserve(struct csv_meta *m, struct csv_op *op)
{
	struct cblock *b;
	uint64_t avail;
	int err = inode_get(m, op->ino, op->generation, &b);

	if (err == 0 && le32_get(inode_wire(b)->kind) != CSV_KIND_FILE) {
		err = -EISDIR;
	}
	if (err == 0) {
		err = available(m, inode_wire(b), &avail);
	}
	if (err != 0) {
		return err;
	}

	uint64_t now = le64_get(inode_wire(b)->reserved_units);

	if (op->count > avail && op->count > now) {
		return -ENOSPC;
	}
	changed(m, b, op);
	inode_wire(b)->reserved_units = le64_make(op->count);
	inode_attr(b, &op->attr);
	return state_add(m, offsetof(struct csv_state_wire, reserved_units),
	                 (int64_t)op->count - (int64_t)now);
}

/* One that may be freed or cut now: op->ino, or the first at or after the cursor. 0; -ENOENT there
 * is none; *out NULL: look again from the new cursor. */
static int reap_pick(struct csv_meta *m, const struct csv_op *op, struct cblock **out)
{
	struct csv_block_id id = {
		.type = CSV_INODE,
		.block = csv_layout_pending(&m->super.layout),
		.owner = CSV_OWNER_ANY,
	};
	struct tree t = {.m = m, .kind = CSV_KIND_PENDING};
	struct tree_path p;
	int err = cache_get(m, &id, &t.inode);

	if (err == 0) {
		err = tree_seek(&t, op->ino != 0 ? op->ino : m->reap_cursor, &p);
	}
	for (uint32_t looked = 0; err == 0; looked++) {
		const struct csv_pending_wire *w = (const void *)tree_record(&p);
		const struct pin *pin = pin_find(m, le64_get(w->ino));

		if (looked == REAP_LOOK_MAX) {
			m->reap_cursor = le64_get(w->ino);
			*out = NULL;
			return 0;
		}
		id.block = le64_get(w->ino);
		err = cache_get(m, &id, out);
		if (err != 0) {
			return err;
		}

		bool gone = le32_get(inode_wire(*out)->links) == 0;

		if (le64_get(inode_wire(*out)->generation) != le64_get(w->generation) ||
		    le32_get(inode_wire(*out)->kind) != CSV_KIND_FILE) {
			return errbuf_set(&m->eb, -EUCLEAN,
			                  "inode at block %llu: not the one that is pending",
			                  (unsigned long long)id.block);
		}
		if (!gone || (m->reap && (pin == NULL || pin->count == 0)) ||
		    le64_get(inode_wire(*out)->cut_block) != UINT64_MAX) {
			return 0;
		}
		err = op->ino != 0 ? -ENOENT : tree_next(&t, &p);
	}
	return err;
}

static int reap_end(struct csv_meta *m, struct cblock *b, bool gone)
{
	struct csv_inode_wire *w = inode_wire(b);
	int err;

	cache_touch(m, b);
	w->cut_block = le64_make(UINT64_MAX);
	if (le32_get(w->links) != 0 || gone) {
		err = pending_remove(m, b->block);
		if (err != 0 || !gone) {
			return err;
		}
	} else {
		return 0; /* cut, and without a name, but open: stays pending */
	}

	uint64_t reserved = le64_get(w->reserved_units);

	err = state_add(m, offsetof(struct csv_state_wire, files), -1);
	if (err == 0 && reserved != 0) {
		err = state_add(m, offsetof(struct csv_state_wire, reserved_units),
		                -(int64_t)reserved);
	}
	return err != 0 ? err : free_block(m, b->block);
}

/* Free a part of one pending inode: as much as a transaction takes. */
int op_reap(struct csv_meta *m, struct csv_op *op)
{
	struct cblock *b;

	m->privileged = true;

	int err = reap_pick(m, op, &b);

	if (err != 0 || b == NULL) {
		return err;
	}

	const struct tree t = tree_of(m, b);
	const struct pin *pin = pin_find(m, b->block);
	bool gone =
		le32_get(inode_wire(b)->links) == 0 && m->reap && (pin == NULL || pin->count == 0);
	uint64_t from = gone ? 0 : le64_get(inode_wire(b)->cut_block);
	struct range rest = {from, CSV_FILE_BLOCKS_MAX};

	if (from < CSV_FILE_BLOCKS_MAX) {
		uint64_t up = (from + CSV_UNIT_BLOCKS - 1) / CSV_UNIT_BLOCKS * CSV_UNIT_BLOCKS;
		struct range part = {from, up};

		err = blank(&t, &part);
		rest.from = part.from;
		if (err == 0 && part.from == part.to) {
			err = cut(&t, &rest);
		}
	}
	if (err == 0 && rest.from >= rest.to) {
		err = reap_end(m, b, gone);
	}
	return err;
}

static int op_attr(struct csv_meta *m, struct csv_op *op)
{
	struct cblock *b;
	int err = inode_get(m, op->ino, op->generation, &b);

	if (err != 0) {
		return err;
	}

	struct csv_inode_wire *w = inode_wire(b);

	if (op->type == CSV_OP_SET_TOKEN) {
		if (op->token < le64_get(w->token)) {
			return -ESTALE;
		}
		cache_touch(m, b);
		w->token = le64_make(op->token);
	} else if (op->type == CSV_OP_SETATTR) {
		changed(m, b, op);
		w->mode = (op->mask & CSV_SET_MODE) != 0 ? le32_make(op->mode & 07777u) : w->mode;
		w->uid = (op->mask & CSV_SET_UID) != 0 ? le32_make(op->uid) : w->uid;
		w->gid = (op->mask & CSV_SET_GID) != 0 ? le32_make(op->gid) : w->gid;
		w->modified_ns = (op->mask & CSV_SET_MODIFIED) != 0 ? le64_make(op->modified_ns)
		                                                    : w->modified_ns;
	}
	inode_attr(b, &op->attr);
	return 0;
}

static int op_open(struct csv_meta *m, struct csv_op *op)
{
	struct cblock *b;
	int err = inode_get(m, op->ino, op->generation, &b);
	uint32_t at = (uint32_t)(op->ino * 0x9e3779b97f4a7c15u >> 32) % m->pins_max;
	struct pin *pin = pin_find(m, op->ino);

	if (err != 0) {
		return err;
	}
	if (le32_get(inode_wire(b)->links) == 0 && m->reap && (pin == NULL || pin->count == 0)) {
		return -ESTALE; /* perhaps half of it is free already */
	}
	inode_attr(b, &op->attr);
	for (uint32_t i = 0; pin == NULL && i < m->pins_max; i++) {
		struct pin *p = &m->pins[(at + i) % m->pins_max];

		if (p->count == 0) {
			p->ino = op->ino;
			pin = p;
		}
	}
	if (pin == NULL) {
		return -EMFILE;
	}
	pin->count++;
	return 0;
}

static int op_close(struct csv_meta *m, const struct csv_op *op)
{
	struct pin *pin = pin_find(m, op->ino);

	if (pin == NULL || pin->count == 0) {
		return -EINVAL;
	}
	pin->count--;
	if (pin->count == 0) {
		m->reap_more = true;
		m->reap_cursor = 0;
	}
	return 0;
}

static int op_statfs(struct csv_meta *m, struct csv_op *op)
{
	struct cblock *b;
	int err = alloc_state(m, &b);

	if (err == 0) {
		const struct csv_state_wire *s = (const void *)b->buf;

		op->stat = (struct csv_stat){
			.units = csv_layout_units(&m->super.layout),
			.free_units = le64_get(s->free_units),
			.reserved_units = le64_get(s->reserved_units),
			.pool_blocks = m->super.layout.pool_blocks,
			.pool_free = le64_get(s->pool_free),
			.files = le64_get(s->files),
			.directories = le64_get(s->directories),
			.pending = le64_get(s->pending),
		};
	}
	return err;
}

int op_run(struct csv_meta *m, struct csv_op *op)
{
	if (m->read_only && op->type != CSV_OP_LOOKUP && op->type != CSV_OP_GETATTR &&
	    op->type != CSV_OP_LIST && op->type != CSV_OP_MAP && op->type != CSV_OP_STATFS) {
		return -EROFS;
	}
	switch (op->type) {
	case CSV_OP_LOOKUP:
		return op_lookup(m, op);
	case CSV_OP_GETATTR:
	case CSV_OP_SETATTR:
	case CSV_OP_SET_TOKEN:
		return op_attr(m, op);
	case CSV_OP_CREATE:
	case CSV_OP_MKDIR:
		return op_create(m, op);
	case CSV_OP_UNLINK:
	case CSV_OP_RMDIR:
		return op_unlink(m, op);
	case CSV_OP_RENAME:
		return op_rename(m, op);
	case CSV_OP_LIST:
		return op_list(m, op);
	case CSV_OP_ATTACH:
		return op_attach(m, op);
	case CSV_OP_OPEN:
		return op_open(m, op);
	case CSV_OP_CLOSE:
		return op_close(m, op);
	case CSV_OP_MAP:
		return op_map(m, op);
	case CSV_OP_EXTEND:
		return op_extend(m, op);
	case CSV_OP_CONVERT:
		return op_convert(m, op);
	case CSV_OP_PUNCH:
		return op_punch(m, op);
	case CSV_OP_TRUNCATE:
		return op_truncate(m, op);
	case CSV_OP_RESERVE:
		return op_reserve(m, op);
	case CSV_OP_STATFS:
		return op_statfs(m, op);
	case CSV_OP_REAP:
		return op_reap(m, op);
	}
	return -EINVAL;
}
