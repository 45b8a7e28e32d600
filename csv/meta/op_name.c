/* SPDX-License-Identifier: Apache-2.0 */

/* op_name - operations on names: they run from start to end without waiting (csv_meta.h). */
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "csv/meta/meta_int.h"

#define NAMES_MAX 1024u /* in one answer: their blocks have to be in the cache together */

/* Directory and name of an operation, both judged. */
static int dir_of(struct csv_meta *m, uint64_t ino, const char *name, uint32_t len,
                  struct cblock **out)
{
	int err = csv_name_check(name, len);

	return err != 0 ? err : inode_of_kind(m, ino, CSV_KIND_DIR, out);
}

/* The inode that a directory's entry names. */
static int entry_inode(struct csv_meta *m, const struct tree_path *p, struct cblock **out)
{
	const struct csv_dirent_wire *w = (const void *)tree_record(p);
	const struct csv_block_id id = {CSV_INODE, le64_get(w->ino), le64_get(w->ino), NULL};
	int err = cache_get(m, &id, out);

	if (err != 0) {
		return err;
	}
	if (le64_get(inode_wire(*out)->generation) != le64_get(w->generation) ||
	    le32_get(inode_wire(*out)->kind) != w->kind) {
		return errbuf_set(&m->eb, -EUCLEAN,
		                  "inode at block %llu: not the one that has a name",
		                  (unsigned long long)(*out)->block);
	}
	return 0;
}

static void stamp(struct csv_meta *m, struct cblock *dir, uint64_t now_ns)
{
	cache_touch(m, dir);
	inode_wire(dir)->modified_ns = le64_make(now_ns);
	inode_wire(dir)->changed_ns = le64_make(now_ns);
}

int op_lookup(struct csv_meta *m, struct csv_op *op)
{
	struct cblock *dir;
	struct cblock *b;
	struct tree_path p;
	int err = dir_of(m, op->dir, op->name, op->name_len, &dir);

	if (err == 0) {
		err = dir_find(m, dir, op->name, op->name_len, &p);
	}
	if (err == 0) {
		err = entry_inode(m, &p, &b);
	}
	if (err == 0) {
		inode_attr(b, &op->attr);
	}
	return err;
}

static int link_entry(struct csv_meta *m, struct cblock *dir, const char *name, uint32_t len,
                      const struct cblock *inode)
{
	const struct csv_inode_wire *i = (const void *)inode->buf;
	struct csv_dirent_wire w = {
		.ino = le64_make(inode->block),
		.generation = i->generation,
		.kind = (uint8_t)le32_get(i->kind),
		.name_len = (uint8_t)len,
	};

	memcpy(w.name, name, len);
	return dir_add(m, dir, &w);
}

/* CREATE and MKDIR. */
int op_create(struct csv_meta *m, struct csv_op *op)
{
	enum csv_kind kind = op->type == CSV_OP_MKDIR ? CSV_KIND_DIR : CSV_KIND_FILE;
	struct cblock *dir;
	struct cblock *b;
	struct tree_path p;
	int err = dir_of(m, op->dir, op->name, op->name_len, &dir);

	if (err != 0) {
		return err;
	}
	err = dir_find(m, dir, op->name, op->name_len, &p);
	if (err != -ENOENT) {
		return err == 0 ? -EEXIST : err;
	}
	err = inode_new(m, op, kind, &b);
	if (err == 0) {
		err = link_entry(m, dir, op->name, op->name_len, b);
	}
	if (err == 0) {
		stamp(m, dir, op->now_ns);
		inode_attr(b, &op->attr);
	}
	return err;
}

static bool dir_empty(const struct cblock *b)
{
	const struct csv_inode_wire *w = (const void *)b->buf;

	return le64_get(w->entries) == 0 && le16_get(w->count) == 0;
}

/* An inode whose name is gone: a directory goes at once, a file when nobody has it open. */
static int discard(struct csv_meta *m, struct cblock *b, uint64_t now_ns)
{
	if (le32_get(inode_wire(b)->kind) == CSV_KIND_DIR) {
		int err = state_add(m, offsetof(struct csv_state_wire, directories), -1);

		return err != 0 ? err : free_block(m, b->block);
	}
	cache_touch(m, b);
	inode_wire(b)->links = le32_make(0);
	inode_wire(b)->changed_ns = le64_make(now_ns);
	return pending_add(m, b);
}

/* UNLINK and RMDIR. */
int op_unlink(struct csv_meta *m, struct csv_op *op)
{
	struct cblock *dir;
	struct cblock *b;
	struct tree_path p;

	m->privileged = true;

	int err = dir_of(m, op->dir, op->name, op->name_len, &dir);

	if (err == 0) {
		err = dir_find(m, dir, op->name, op->name_len, &p);
	}
	if (err == 0) {
		err = entry_inode(m, &p, &b);
	}
	if (err != 0) {
		return err;
	}

	bool is_dir = le32_get(inode_wire(b)->kind) == CSV_KIND_DIR;

	if (is_dir != (op->type == CSV_OP_RMDIR)) {
		return is_dir ? -EISDIR : -ENOTDIR;
	}
	if (is_dir && !dir_empty(b)) {
		return -ENOTEMPTY;
	}
	err = dir_remove(m, dir, op->name, op->name_len);
	if (err == 0) {
		err = discard(m, b, op->now_ns);
	}
	if (err == 0) {
		stamp(m, dir, op->now_ns);
		inode_attr(b, &op->attr);
	}
	return err;
}

int op_attach(struct csv_meta *m, struct csv_op *op)
{
	struct cblock *dir;
	struct cblock *b;
	struct tree_path p;
	int err = dir_of(m, op->dir, op->name, op->name_len, &dir);

	if (err == 0) {
		err = dir_find(m, dir, op->name, op->name_len, &p);
		if (err == 0 || err == -ENOENT) {
			err = err == 0 ? -EEXIST : 0;
		}
	}
	if (err == 0) {
		err = inode_get(m, op->ino, 0, &b);
	}
	if (err == 0) {
		err = link_entry(m, dir, op->name, op->name_len, b);
	}
	if (err == 0) {
		cache_touch(m, b);
		inode_wire(b)->parent = le64_make(op->dir);
		stamp(m, dir, op->now_ns);
	}
	return err;
}

/* Is directory @ino @above, or in it? 1, 0, -errno. */
static int is_inside(struct csv_meta *m, uint64_t ino, uint64_t above)
{
	for (uint32_t i = 0; i < DEPTH_MAX; i++) {
		struct cblock *b;

		if (ino == above) {
			return 1;
		}
		if (ino == csv_layout_root(&m->super.layout)) {
			return 0;
		}

		int err = inode_of_kind(m, ino, CSV_KIND_DIR, &b);

		if (err != 0) {
			return err == -EAGAIN ? err : -EUCLEAN;
		}
		ino = le64_get(inode_wire(b)->parent);
	}
	return -ELOOP;
}

/* May @what take the place of @old? */
static int may_replace(const struct csv_op *op, struct cblock *what, struct cblock *old)
{
	bool dir = le32_get(inode_wire(what)->kind) == CSV_KIND_DIR;
	bool old_dir = le32_get(inode_wire(old)->kind) == CSV_KIND_DIR;

	if (op->no_replace) {
		return -EEXIST;
	}
	if (dir != old_dir) {
		return dir ? -ENOTDIR : -EISDIR;
	}
	return old_dir && !dir_empty(old) ? -ENOTEMPTY : 0;
}

static int rename_find(struct csv_meta *m, const struct csv_op *op, struct cblock **dir,
                       struct cblock **dir2, struct cblock **what)
{
	struct tree_path p;
	int err = dir_of(m, op->dir, op->name, op->name_len, dir);

	if (err == 0) {
		err = dir_of(m, op->dir2, op->name2, op->name2_len, dir2);
	}
	if (err == 0) {
		err = dir_find(m, *dir, op->name, op->name_len, &p);
	}
	if (err == 0) {
		err = entry_inode(m, &p, what);
	}
	if (err == 0 && le32_get(inode_wire(*what)->kind) == CSV_KIND_DIR) {
		err = is_inside(m, op->dir2, (*what)->block);
		err = err == 1 ? -EINVAL : err;
	}
	return err;
}

int op_rename(struct csv_meta *m, struct csv_op *op)
{
	struct cblock *dir;
	struct cblock *dir2;
	struct cblock *what;
	struct cblock *old = NULL;
	struct tree_path p;
	int err = rename_find(m, op, &dir, &dir2, &what);

	if (err != 0) {
		return err;
	}
	err = dir_find(m, dir2, op->name2, op->name2_len, &p);
	if (err == 0) {
		err = entry_inode(m, &p, &old);
		if (err == 0 && old == what) {
			return 0; /* one name: there are no hard links */
		}
		if (err == 0) {
			err = may_replace(op, what, old);
		}
		if (err == 0) {
			err = dir_remove(m, dir2, op->name2, op->name2_len);
		}
		if (err == 0) {
			err = discard(m, old, op->now_ns);
		}
	} else if (err == -ENOENT) {
		err = 0;
	}
	if (err == 0) {
		err = dir_remove(m, dir, op->name, op->name_len);
	}
	if (err == 0) {
		err = link_entry(m, dir2, op->name2, op->name2_len, what);
	}
	if (err == 0) {
		cache_touch(m, what);
		inode_wire(what)->parent = le64_make(dir2->block);
		inode_wire(what)->changed_ns = le64_make(op->now_ns);
		stamp(m, dir, op->now_ns);
		stamp(m, dir2, op->now_ns);
	}
	return err;
}

int op_list(struct csv_meta *m, struct csv_op *op)
{
	struct cblock *dir;
	struct tree_path p;
	int err = inode_of_kind(m, op->dir, CSV_KIND_DIR, &dir);

	if (err != 0) {
		return err;
	}

	const struct tree t = {m, dir, CSV_KIND_DIR};

	uint64_t cookie = op->cookie;

	op->names_count = 0;
	err = tree_seek(&t, cookie, &p);
	while (err == 0 && op->names_count < op->names_max && op->names_count < NAMES_MAX) {
		const struct csv_dirent_wire *w = (const void *)tree_record(&p);
		struct csv_name *n = &op->names[op->names_count++];

		n->cookie = le64_get(w->key) + 1;
		n->ino = le64_get(w->ino);
		n->generation = le64_get(w->generation);
		n->kind = (enum csv_kind)w->kind;
		n->len = w->name_len;
		memcpy(n->name, w->name, w->name_len);
		n->name[w->name_len] = '\0';
		cookie = n->cookie;
		err = tree_next(&t, &p);
	}
	if (err == 0 || err == -ENOENT) {
		op->cookie = cookie; /* not before: the operation may have to start again */
		return 0;
	}
	return err;
}
