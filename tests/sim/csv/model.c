/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/csv/model.h"

#include <errno.h>
#include <string.h>

uint32_t model_find(const struct model *m, uint32_t dir, const char *name)
{
	for (uint32_t i = 1; i < MODEL_NODES; i++) {
		const struct model_node *n = &m->nodes[i];

		if (n->used && n->parent == dir && strcmp(n->name, name) == 0) {
			return i;
		}
	}
	return MODEL_NODES;
}

static bool empty(const struct model *m, uint32_t dir)
{
	for (uint32_t i = 1; i < MODEL_NODES; i++) {
		if (m->nodes[i].used && m->nodes[i].parent == dir) {
			return false;
		}
	}
	return true;
}

static bool live_dir(const struct model *m, uint32_t i)
{
	return m->nodes[i].used && m->nodes[i].dir;
}

static int create(struct model *m, const struct model_op *o)
{
	struct model_node *n = &m->nodes[o->node];

	if (!live_dir(m, o->dir)) {
		return 1;
	}
	if (model_find(m, o->dir, o->name) != MODEL_NODES) {
		return -EEXIST;
	}
	memset(n, 0, sizeof(*n));
	n->used = true;
	n->dir = o->op.type == CSV_OP_MKDIR;
	n->parent = o->dir;
	n->mode = 0640;
	memcpy(n->name, o->name, MODEL_NAME);
	return 0;
}

static int unlink_name(struct model *m, const struct model_op *o)
{
	uint32_t i = model_find(m, o->dir, o->name);

	if (!live_dir(m, o->dir)) {
		return 1;
	}
	if (i == MODEL_NODES) {
		return -ENOENT;
	}
	if (m->nodes[i].dir != (o->op.type == CSV_OP_RMDIR)) {
		return m->nodes[i].dir ? -EISDIR : -ENOTDIR;
	}
	if (m->nodes[i].dir && !empty(m, i)) {
		return -ENOTEMPTY;
	}
	m->nodes[i].used = false;
	return 0;
}

static int rename_name(struct model *m, const struct model_op *o)
{
	uint32_t i = model_find(m, o->dir, o->name);
	uint32_t old = model_find(m, o->dir2, o->name2);

	if (!live_dir(m, o->dir) || !live_dir(m, o->dir2)) {
		return 1;
	}
	if (i == MODEL_NODES) {
		return -ENOENT;
	}
	for (uint32_t up = o->dir2; m->nodes[i].dir && up != 0; up = m->nodes[up].parent) {
		if (up == i) {
			return -EINVAL;
		}
	}
	if (old == i) {
		return 0;
	}
	if (old != MODEL_NODES) {
		if (o->op.no_replace) {
			return -EEXIST;
		}
		if (m->nodes[i].dir != m->nodes[old].dir) {
			return m->nodes[i].dir ? -ENOTDIR : -EISDIR;
		}
		if (m->nodes[old].dir && !empty(m, old)) {
			return -ENOTEMPTY;
		}
		m->nodes[old].used = false;
	}
	m->nodes[i].parent = o->dir2;
	memcpy(m->nodes[i].name, o->name2, MODEL_NAME);
	return 0;
}

static bool unit_mapped(const struct model_node *n, uint64_t block)
{
	return n->blocks[block] != MODEL_HOLE;
}

static void free_units(struct model_node *n, uint64_t from, uint64_t to)
{
	for (uint64_t b = from; b < to; b++) {
		n->blocks[b] = MODEL_HOLE;
	}
}

static void truncate_to(struct model_node *n, uint64_t size_bytes)
{
	uint64_t keep = (size_bytes + CSV_BLOCK_BYTES - 1) / CSV_BLOCK_BYTES;

	if (size_bytes <= n->size_bytes && keep < MODEL_BLOCKS) {
		uint64_t up = (keep + CSV_UNIT_BLOCKS - 1) / CSV_UNIT_BLOCKS * CSV_UNIT_BLOCKS;

		for (uint64_t b = keep; b < up; b++) {
			n->blocks[b] = unit_mapped(n, b) ? MODEL_EITHER : MODEL_HOLE;
		}
		free_units(n, up, MODEL_BLOCKS);
	}
	n->size_bytes = size_bytes;
}

static void punch(struct model_node *n, uint64_t from, uint64_t to)
{
	for (uint64_t b = from; b < to;) {
		bool whole = b % CSV_UNIT_BLOCKS == 0 && b + CSV_UNIT_BLOCKS <= to;

		if (whole) {
			free_units(n, b, b + CSV_UNIT_BLOCKS);
			b += CSV_UNIT_BLOCKS;
		} else {
			n->blocks[b] = unit_mapped(n, b) ? MODEL_UNWRITTEN : MODEL_HOLE;
			b++;
		}
	}
}

/* What was behind a cut is settled by the next operation on the content. */
static void settle(struct model_node *n)
{
	for (uint32_t b = 0; b < MODEL_BLOCKS; b++) {
		n->blocks[b] = n->blocks[b] == MODEL_EITHER ? MODEL_UNWRITTEN : n->blocks[b];
	}
}

static void extend(struct model_node *n, uint64_t from, uint64_t to)
{
	uint64_t units = 0;

	from = from / CSV_UNIT_BLOCKS * CSV_UNIT_BLOCKS;
	to = (to + CSV_UNIT_BLOCKS - 1) / CSV_UNIT_BLOCKS * CSV_UNIT_BLOCKS;
	for (uint64_t b = from; b < to; b++) {
		if (n->blocks[b] == MODEL_HOLE) {
			n->blocks[b] = MODEL_UNWRITTEN;
			units += b % CSV_UNIT_BLOCKS == 0;
		}
	}
	n->reserved -= units < n->reserved ? units : n->reserved;
}

static int convert(struct model_node *n, const struct model_op *o)
{
	for (uint64_t i = 0; i < o->count; i++) {
		uint32_t *b = &n->blocks[o->op.block + i];

		if (*b == MODEL_HOLE) {
			return -ENXIO;
		}
		*b = *b == MODEL_UNWRITTEN ? o->tag + (uint32_t)i : *b;
	}
	if (o->size_bytes > n->size_bytes) {
		n->size_bytes = o->size_bytes;
	}
	return 0;
}

static int file_op(struct model_node *n, const struct model_op *o)
{
	switch ((uint32_t)o->op.type) {
	case CSV_OP_EXTEND:
		settle(n);
		extend(n, o->op.block, o->op.block + o->count);
		return 0;
	case CSV_OP_CONVERT:
		settle(n);
		return convert(n, o);
	case CSV_OP_PUNCH:
		settle(n);
		punch(n, o->op.block, o->op.block + o->count);
		return 0;
	case CSV_OP_TRUNCATE:
		settle(n);
		truncate_to(n, o->size_bytes);
		return 0;
	case CSV_OP_RESERVE:
		n->reserved = o->count;
		return 0;
	case CSV_OP_SET_TOKEN:
		if (o->op.token < n->token) {
			return -ESTALE;
		}
		n->token = o->op.token;
		return 0;
	default:
		n->mode = o->op.mode;
		return 0;
	}
}

int model_apply(struct model *m, const struct model_op *o)
{
	switch ((uint32_t)o->op.type) {
	case CSV_OP_CREATE:
	case CSV_OP_MKDIR:
		return create(m, o);
	case CSV_OP_UNLINK:
	case CSV_OP_RMDIR:
		return unlink_name(m, o);
	case CSV_OP_RENAME:
		return rename_name(m, o);
	default:
		return m->nodes[o->node].used ? file_op(&m->nodes[o->node], o) : 1;
	}
}

uint32_t model_units(const struct model *m)
{
	uint32_t units = 0;

	for (uint32_t i = 1; i < MODEL_NODES; i++) {
		const struct model_node *n = &m->nodes[i];

		for (uint32_t b = 0; n->used && !n->dir && b < MODEL_BLOCKS; b += CSV_UNIT_BLOCKS) {
			units += n->blocks[b] != MODEL_HOLE;
		}
		units += n->used ? (uint32_t)n->reserved : 0;
	}
	return units;
}
