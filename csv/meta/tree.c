/* SPDX-License-Identifier: Apache-2.0 */

/*
 * tree - the records of an inode, in the order of their keys. The root lies in the inode; a full
 * node is split on the way down, so that nothing has to be done on the way up; an empty one is
 * freed. Nodes are not merged: files and directories that shrink mostly vanish.
 *
 * A node's bound (low) equals the key of its record in the parent. A key below the first bound
 * lowers the bounds on its path.
 */
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "base/check.h"
#include "csv/meta/meta_int.h"

struct node {
	uint8_t *at;
	uint32_t level;
	uint32_t count;
	uint32_t max;
	uint32_t bytes;
};

static void node_of(const struct cblock *b, struct node *out)
{
	struct csv_records r;

	csv_records_of(b->buf, &r);
	out->at = b->buf + (r.at - b->buf);
	out->level = r.level;
	out->count = r.count;
	out->max = r.max;
	out->bytes = r.bytes;
}

static uint8_t *record_at(const struct node *n, uint32_t i)
{
	return n->at + (size_t)i * n->bytes;
}

static uint64_t key_at(const struct node *n, uint32_t i)
{
	le64 key;

	memcpy(&key, record_at(n, i), sizeof(key));
	return le64_get(key);
}

static uint64_t child_at(const struct node *n, uint32_t i)
{
	struct csv_index_wire w;

	memcpy(&w, record_at(n, i), sizeof(w));
	return le64_get(w.child);
}

static bool is_root(const struct cblock *b)
{
	return le16_get(((const struct csv_block_wire *)(const void *)b->buf)->type) == CSV_INODE;
}

static void set_shape(struct cblock *b, uint32_t level, uint32_t count)
{
	if (is_root(b)) {
		struct csv_inode_wire *w = (void *)b->buf;

		w->level = le16_make((uint16_t)level);
		w->count = le16_make((uint16_t)count);
	} else {
		struct csv_node_wire *w = (void *)b->buf;

		w->level = le16_make((uint16_t)level);
		w->count = le16_make((uint16_t)count);
	}
}

/* The last record whose key is not above, or the first. */
static uint32_t child_for(const struct node *n, uint64_t key)
{
	uint32_t low = 0;
	uint32_t high = n->count;

	while (high - low > 1) {
		uint32_t mid = (low + high) / 2;

		if (key_at(n, mid) <= key) {
			low = mid;
		} else {
			high = mid;
		}
	}
	return low;
}

/* The first record whose key is not below. */
static uint32_t lower_bound(const struct node *n, uint64_t key)
{
	uint32_t low = 0;
	uint32_t high = n->count;

	while (low < high) {
		uint32_t mid = (low + high) / 2;

		if (key_at(n, mid) < key) {
			low = mid + 1;
		} else {
			high = mid;
		}
	}
	return low;
}

/* Child @i of @parent, which must be what the parent takes it for. */
static int child_get(const struct tree *t, const struct cblock *parent, uint32_t i,
                     struct cblock **out)
{
	struct csv_block_id id = {.type = CSV_NODE, .owner = t->inode->block};
	struct node n;

	node_of(parent, &n);
	id.block = child_at(&n, i);

	int err = cache_get(t->m, &id, out);

	if (err != 0) {
		return err;
	}

	const struct csv_node_wire *w = (const void *)(*out)->buf;

	if (le16_get(w->level) + 1u != n.level || le32_get(w->kind) != (uint32_t)t->kind ||
	    le64_get(w->low) != key_at(&n, i)) {
		return errbuf_set(&t->m->eb, -EUCLEAN,
		                  "tree node at block %llu: not the one that block %llu names",
		                  (unsigned long long)id.block, (unsigned long long)parent->block);
	}
	return 0;
}

static int descend(const struct tree *t, struct tree_path *p, uint32_t depth, bool last,
                   uint64_t key)
{
	struct node n;

	for (;; depth++) {
		node_of(p->at[depth].b, &n);
		if (n.level == 0) {
			break;
		}
		p->at[depth].index = last ? n.count - 1 : child_for(&n, key);
		CHECK(depth + 1 < CSV_LEVEL_MAX);

		int err = child_get(t, p->at[depth].b, p->at[depth].index, &p->at[depth + 1].b);

		if (err != 0) {
			return err;
		}
	}
	p->depth = depth;
	p->at[depth].index = last ? n.count : lower_bound(&n, key);
	return 0;
}

const uint8_t *tree_record(const struct tree_path *p)
{
	struct node n;

	node_of(p->at[p->depth].b, &n);
	return p->at[p->depth].index < n.count ? record_at(&n, p->at[p->depth].index) : NULL;
}

uint64_t tree_key(const struct tree_path *p)
{
	struct node n;

	node_of(p->at[p->depth].b, &n);
	return key_at(&n, p->at[p->depth].index);
}

/* To the first record of the next leaf, if this one is at its end. -ENOENT: there is none. */
static int settle(const struct tree *t, struct tree_path *p)
{
	if (tree_record(p) != NULL) {
		return 0;
	}
	for (uint32_t depth = p->depth; depth-- > 0;) {
		struct node n;

		node_of(p->at[depth].b, &n);
		if (p->at[depth].index + 1 == n.count) {
			continue;
		}
		p->at[depth].index++;

		int err = child_get(t, p->at[depth].b, p->at[depth].index, &p->at[depth + 1].b);

		return err != 0 ? err : descend(t, p, depth + 1, false, 0);
	}
	return -ENOENT;
}

/* The first record whose key is not below @key. 0; -ENOENT there is none. */
int tree_seek(const struct tree *t, uint64_t key, struct tree_path *p)
{
	p->at[0].b = t->inode;

	int err = descend(t, p, 0, false, key);

	return err != 0 ? err : settle(t, p);
}

int tree_next(const struct tree *t, struct tree_path *p)
{
	p->at[p->depth].index++;
	return settle(t, p);
}

/* The last record whose key is not above @key. 0; -ENOENT there is none. */
int tree_seek_before(const struct tree *t, uint64_t key, struct tree_path *p)
{
	p->at[0].b = t->inode;

	int err = descend(t, p, 0, false, key);

	if (err != 0) {
		return err;
	}
	if (tree_record(p) != NULL && tree_key(p) == key) {
		return 0;
	}
	if (p->at[p->depth].index != 0) {
		p->at[p->depth].index--;
		return 0;
	}
	/* The leaf before this one: keys below its bound are never in it, so this happens only for
	 * a key below the first, or between leaves that were emptied. */
	for (uint32_t depth = p->depth; depth-- > 0;) {
		if (p->at[depth].index == 0) {
			continue;
		}
		p->at[depth].index--;
		err = child_get(t, p->at[depth].b, p->at[depth].index, &p->at[depth + 1].b);
		if (err == 0) {
			err = descend(t, p, depth + 1, true, 0);
		}
		if (err == 0) {
			p->at[p->depth].index--; /* leaves are not empty */
		}
		return err;
	}
	return -ENOENT;
}

static int node_new(const struct tree *t, uint32_t level, uint64_t low, struct cblock **out)
{
	int err = alloc_block(t->m, out);

	if (err != 0) {
		return err;
	}

	struct csv_node_wire *w = (void *)(*out)->buf;
	struct csv_inode_wire *inode = (void *)t->inode->buf;

	w->head.type = le16_make(CSV_NODE);
	w->head.owner = le64_make(t->inode->block);
	w->kind = le32_make((uint32_t)t->kind);
	w->low = le64_make(low);
	set_shape(*out, level, 0);
	cache_touch(t->m, t->inode);
	inode->tree_blocks = le64_make(le64_get(inode->tree_blocks) + 1);
	return 0;
}

static void insert_at(struct cblock *b, uint32_t i, const void *record)
{
	struct node n;

	node_of(b, &n);
	memmove(record_at(&n, i + 1), record_at(&n, i), (size_t)(n.count - i) * n.bytes);
	memcpy(record_at(&n, i), record, n.bytes);
	set_shape(b, n.level, n.count + 1);
}

static void remove_at(struct cblock *b, uint32_t i)
{
	struct node n;

	node_of(b, &n);
	memmove(record_at(&n, i), record_at(&n, i + 1), (size_t)(n.count - i - 1) * n.bytes);
	memset(record_at(&n, n.count - 1), 0, n.bytes);
	set_shape(b, n.level, n.count - 1);
}

/* The root is full: what it has moves into a node of its own. */
static int grow(const struct tree *t)
{
	struct node root;
	struct node n;
	struct cblock *b;

	node_of(t->inode, &root);
	if (root.level + 1 >= CSV_LEVEL_MAX) {
		return -EFBIG;
	}

	int err = node_new(t, root.level, 0, &b);

	if (err != 0) {
		return err;
	}

	const struct csv_index_wire only = {.key = le64_make(0), .child = le64_make(b->block)};

	node_of(b, &n);
	memcpy(n.at, root.at, (size_t)root.count * root.bytes);
	set_shape(b, root.level, root.count);
	memset(root.at, 0, CSV_INODE_RECORDS_BYTES);
	set_shape(t->inode, root.level + 1, 1);
	memcpy(root.at, &only, sizeof(only));
	return 0;
}

/* Child @i of @parent is full: its upper records move into a new one behind it. */
static int split(const struct tree *t, struct cblock *parent, uint32_t i, struct cblock *child,
                 bool append)
{
	struct node n;
	struct node r;
	struct cblock *right;

	node_of(child, &n);

	/* Who appends goes on appending: leave the left one nearly full. */
	uint32_t keep = append ? n.count - 1 : n.count / 2;
	uint64_t low = key_at(&n, keep);
	int err = node_new(t, n.level, low, &right);

	if (err != 0) {
		return err;
	}

	const struct csv_index_wire w = {.key = le64_make(low), .child = le64_make(right->block)};

	cache_touch(t->m, child);
	cache_touch(t->m, parent);
	node_of(right, &r);
	memcpy(r.at, record_at(&n, keep), (size_t)(n.count - keep) * n.bytes);
	set_shape(right, n.level, n.count - keep);
	memset(record_at(&n, keep), 0, (size_t)(n.count - keep) * n.bytes);
	set_shape(child, n.level, keep);
	insert_at(parent, i + 1, &w);
	return 0;
}

/* Below every bound on its way: lower it. */
static void lower(const struct tree *t, struct cblock *parent, struct cblock *child, uint64_t key)
{
	struct csv_node_wire *w = (void *)child->buf;
	const le64 low = le64_make(key);
	struct node n;

	cache_touch(t->m, parent);
	cache_touch(t->m, child);
	node_of(parent, &n);
	memcpy(n.at, &low, sizeof(low));
	w->low = low;
}

int tree_insert(const struct tree *t, const void *record)
{
	struct cblock *b = t->inode;
	struct node n;
	le64 wire_key;

	memcpy(&wire_key, record, sizeof(wire_key));

	uint64_t key = le64_get(wire_key);

	cache_touch(t->m, b);
	node_of(b, &n);
	if (n.count == n.max) {
		int err = grow(t);

		if (err != 0) {
			return err;
		}
		node_of(b, &n);
	}
	while (n.level != 0) {
		uint32_t i = child_for(&n, key);
		struct cblock *child;
		struct node c;
		int err = child_get(t, b, i, &child);

		if (err != 0) {
			return err;
		}
		node_of(child, &c);
		if (c.count == c.max) {
			err = split(t, b, i, child,
			            i + 1 == n.count && key > key_at(&c, c.count - 1));
			if (err != 0) {
				return err;
			}
			node_of(b, &n);
			continue;
		}
		if (key < key_at(&n, i)) {
			lower(t, b, child, key);
		}
		b = child;
		node_of(b, &n);
	}

	uint32_t i = lower_bound(&n, key);

	if (i < n.count && key_at(&n, i) == key) {
		return -EEXIST;
	}
	cache_touch(t->m, b);
	insert_at(b, i, record);
	return 0;
}

int tree_remove(const struct tree *t, struct tree_path *p)
{
	struct csv_inode_wire *inode = (void *)t->inode->buf;
	uint32_t depth = p->depth;
	struct node n;

	cache_touch(t->m, t->inode);
	cache_touch(t->m, p->at[depth].b);
	remove_at(p->at[depth].b, p->at[depth].index);
	for (node_of(p->at[depth].b, &n); depth != 0 && n.count == 0; node_of(p->at[depth].b, &n)) {
		int err = free_block(t->m, p->at[depth].b->block);

		if (err != 0) {
			return err;
		}
		inode->tree_blocks = le64_make(le64_get(inode->tree_blocks) - 1);
		depth--;
		cache_touch(t->m, p->at[depth].b);
		remove_at(p->at[depth].b, p->at[depth].index);
	}
	if (depth == 0 && n.count == 0) {
		set_shape(t->inode, 0, 0);
	}
	return 0;
}

/* Replace the record that @p is at. Its key may change as long as the order does not. */
void tree_update(const struct tree *t, struct tree_path *p, const void *record)
{
	struct node n;

	cache_touch(t->m, p->at[p->depth].b);
	node_of(p->at[p->depth].b, &n);
	memcpy(record_at(&n, p->at[p->depth].index), record, n.bytes);
}
