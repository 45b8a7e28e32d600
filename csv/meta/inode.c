/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stddef.h>

#include "csv/meta/meta_int.h"

/* An inode that somebody names; he may be late: it is gone, or its block is something else now. */
int inode_get(struct csv_meta *m, uint64_t ino, uint64_t generation, struct cblock **out)
{
	const struct csv_block_id id = {.block = ino, .owner = CSV_OWNER_ANY};

	if (!csv_layout_in_pool(&m->super.layout, ino) ||
	    ino == csv_layout_pending(&m->super.layout)) {
		return -ESTALE;
	}

	int used = alloc_is_used(m, ino);

	if (used <= 0) {
		return used < 0 ? used : -ESTALE;
	}

	int err = cache_get(m, &id, out);

	if (err != 0) {
		return err;
	}

	const struct csv_inode_wire *w = (const void *)(*out)->buf;

	if (le16_get(w->head.type) != CSV_INODE ||
	    (generation != 0 && le64_get(w->generation) != generation)) {
		return -ESTALE;
	}
	return 0;
}

int inode_of_kind(struct csv_meta *m, uint64_t ino, enum csv_kind kind, struct cblock **out)
{
	int err = inode_get(m, ino, 0, out);

	if (err != 0) {
		return err;
	}
	if (le32_get(inode_wire(*out)->kind) == (uint32_t)kind) {
		return le32_get(inode_wire(*out)->links) != 0 ? 0 : -ESTALE;
	}
	return kind == CSV_KIND_DIR ? -ENOTDIR : -EISDIR;
}

/* The file of an operation, with nothing left to cut. */
int inode_file(struct csv_meta *m, const struct csv_op *op, struct cblock **out)
{
	int err = inode_get(m, op->ino, op->generation, out);

	if (err != 0) {
		return err;
	}
	if (le32_get(inode_wire(*out)->kind) != CSV_KIND_FILE) {
		return -EISDIR;
	}
	if (le64_get(inode_wire(*out)->cut_block) != UINT64_MAX) {
		m->reap_ino = op->ino;
		return -EINPROGRESS;
	}
	return 0;
}

int inode_new(struct csv_meta *m, const struct csv_op *op, enum csv_kind kind, struct cblock **out)
{
	struct cblock *state;
	int err = alloc_state(m, &state);

	if (err == 0) {
		err = alloc_block(m, out);
	}
	if (err == 0) {
		err = state_add(m, offsetof(struct csv_state_wire, next_generation), 1);
	}
	if (err == 0) {
		err = state_add(m,
		                kind == CSV_KIND_DIR ? offsetof(struct csv_state_wire, directories)
		                                     : offsetof(struct csv_state_wire, files),
		                1);
	}
	if (err != 0) {
		return err;
	}

	struct csv_inode_wire *w = inode_wire(*out);
	const struct csv_state_wire *s = (const void *)state->buf;

	w->head.type = le16_make(CSV_INODE);
	w->head.owner = le64_make((*out)->block);
	w->kind = le32_make((uint32_t)kind);
	w->mode = le32_make(op->mode & 07777u);
	w->uid = le32_make(op->uid);
	w->gid = le32_make(op->gid);
	w->generation = le64_make(le64_get(s->next_generation) - 1);
	w->parent = le64_make(op->dir);
	w->created_ns = le64_make(op->now_ns);
	w->modified_ns = le64_make(op->now_ns);
	w->changed_ns = le64_make(op->now_ns);
	w->cut_block = le64_make(UINT64_MAX);
	w->links = le32_make(1);
	return 0;
}

void inode_attr(const struct cblock *b, struct csv_attr *out)
{
	const struct csv_inode_wire *w = (const void *)b->buf;

	*out = (struct csv_attr){
		.ino = b->block,
		.generation = le64_get(w->generation),
		.parent = le64_get(w->parent),
		.kind = (enum csv_kind)le32_get(w->kind),
		.mode = le32_get(w->mode),
		.uid = le32_get(w->uid),
		.gid = le32_get(w->gid),
		.links = le32_get(w->links),
		.size_bytes = le64_get(w->size_bytes),
		.token = le64_get(w->token),
		.created_ns = le64_get(w->created_ns),
		.modified_ns = le64_get(w->modified_ns),
		.changed_ns = le64_get(w->changed_ns),
		.units = le64_get(w->units),
		.reserved_units = le64_get(w->reserved_units),
		.entries = le64_get(w->entries),
	};
}

static int pending_tree(struct csv_meta *m, struct tree *out)
{
	const struct csv_block_id id = {
		.type = CSV_INODE,
		.block = csv_layout_pending(&m->super.layout),
		.owner = CSV_OWNER_ANY,
	};

	out->m = m;
	out->kind = CSV_KIND_PENDING;
	return cache_get(m, &id, &out->inode);
}

int pending_add(struct csv_meta *m, struct cblock *inode)
{
	const struct csv_pending_wire w = {.ino = le64_make(inode->block),
	                                   .generation = inode_wire(inode)->generation};
	struct tree t;
	int err = pending_tree(m, &t);

	m->reap_more = true;
	m->reap_cursor = 0;
	if (err == 0) {
		err = tree_insert(&t, &w);
	}
	if (err == -EEXIST) {
		return 0; /* to be cut; now it is to be freed */
	}
	return err != 0 ? err : state_add(m, offsetof(struct csv_state_wire, pending), 1);
}

int pending_remove(struct csv_meta *m, uint64_t ino)
{
	struct tree_path p;
	struct tree t;
	int err = pending_tree(m, &t);

	if (err == 0) {
		err = tree_seek(&t, ino, &p);
	}
	if (err == 0) {
		err = tree_key(&p) == ino ? tree_remove(&t, &p) : -ENOENT;
	}
	if (err == -ENOENT) {
		return errbuf_set(&m->eb, -EUCLEAN, "inode at block %llu: pending, and not listed",
		                  (unsigned long long)ino);
	}
	return err != 0 ? err : state_add(m, offsetof(struct csv_state_wire, pending), -1);
}

/* Of an inode that is open; ino 0 = a free place; NULL. */
struct pin *pin_find(const struct csv_meta *m, uint64_t ino)
{
	uint32_t at = (uint32_t)(ino * 0x9e3779b97f4a7c15u >> 32) % m->pins_max;

	if (ino == 0) {
		return NULL;
	}
	for (uint32_t i = 0; i < m->pins_max; i++) {
		struct pin *pin = &m->pins[(at + i) % m->pins_max];

		if (pin->ino == ino) {
			return pin;
		}
		if (pin->ino == 0) {
			return NULL;
		}
	}
	return NULL;
}
