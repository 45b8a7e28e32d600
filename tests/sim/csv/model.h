/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SIM_CSV_MODEL_H
#define TESTS_SIM_CSV_MODEL_H

/*
 * model - what the operations of csv/meta mean, in arrays and without any of its code: a few
 * directories and files, and for every block of a file what reading it should give.
 */

#include <stdbool.h>
#include <stdint.h>

#include "csv/meta/csv_meta.h"

#define MODEL_NODES 40u
#define MODEL_BLOCKS (6u * CSV_UNIT_BLOCKS)
#define MODEL_NAME 4u

enum {
	MODEL_HOLE = 0,
	MODEL_UNWRITTEN = 1,
	MODEL_EITHER = 2, /* behind a cut: hole until the unit's end is blanked */
	MODEL_TAG = 3,    /* and above: what is written there */
};

struct model_node {
	bool used;
	bool dir;
	bool busy; /* an operation on its content is under way */
	uint32_t parent;
	char name[MODEL_NAME];
	uint64_t ino;
	uint64_t generation;
	uint64_t size_bytes;
	uint64_t token;
	uint32_t mode;
	uint64_t reserved;
	uint32_t blocks[MODEL_BLOCKS];
};

struct model {
	struct model_node nodes[MODEL_NODES]; /* 0 is the root */
};

/* An operation, and what it is for the model. */
struct model_op {
	struct csv_op op;
	uint32_t node; /* file operations; create: the node that it makes */
	uint32_t dir;
	uint32_t dir2;
	char name[MODEL_NAME];
	char name2[MODEL_NAME];
	uint32_t tag; /* convert: tag + i is in block i of the range */
	uint64_t count;
	uint64_t size_bytes;
	bool over;
};

/* model_find() - the node with this name, or MODEL_NODES. */
uint32_t model_find(const struct model *m, uint32_t dir, const char *name);

/* model_apply() - carry it out. Returns the result that csv/meta must have; 1 = any is right,
 * because its file has no name any more. */
int model_apply(struct model *m, const struct model_op *o);

uint32_t model_units(const struct model *m);

#endif
