/* SPDX-License-Identifier: Apache-2.0 */

/*
 * once - requests that were done before, by whichever coordinator. The record is a part of the
 * volume's state and so of the transaction that does the request: it is there if and only if the
 * request was done. It is written first and undone with all the rest if the operation fails, so
 * that it takes its share of the blocks that one operation may change.
 */
#include <errno.h>

#include "csv/meta/meta_int.h"

#define WINDOW 64u

static bool changes(enum csv_op_type type)
{
	switch (type) {
	case CSV_OP_SETATTR:
	case CSV_OP_CREATE:
	case CSV_OP_MKDIR:
	case CSV_OP_UNLINK:
	case CSV_OP_RMDIR:
	case CSV_OP_RENAME:
	case CSV_OP_EXTEND:
	case CSV_OP_CONVERT:
	case CSV_OP_PUNCH:
	case CSV_OP_TRUNCATE:
	case CSV_OP_RESERVE:
	case CSV_OP_SET_TOKEN:
	case CSV_OP_ATTACH:
		return true;
	case CSV_OP_LOOKUP:
	case CSV_OP_GETATTR:
	case CSV_OP_LIST:
	case CSV_OP_OPEN:
	case CSV_OP_CLOSE:
	case CSV_OP_MAP:
	case CSV_OP_STATFS:
	case CSV_OP_REAP:
		break;
	}
	return false;
}

/* What it made, for one who did not hear of it. */
static int made(struct csv_meta *m, struct csv_op *op)
{
	op->repeated = true;
	op->attr = (struct csv_attr){0};
	op->count = 0;
	op->extents_count = 0;
	if (op->type != CSV_OP_CREATE && op->type != CSV_OP_MKDIR) {
		return 0;
	}

	int err = op_lookup(m, op);

	return err == -ENOENT || err == -ENOTDIR ? -ESTALE : err;
}

/* Number @op->client_request is not in @d; now it is. */
static void note(struct csv_done_wire *d, const struct csv_op *op)
{
	uint64_t last = le64_get(d->last);
	uint64_t mask = le64_get(d->mask);

	if (le64_get(d->incarnation) != op->client_incarnation) {
		last = op->client_request;
		mask = 1;
	} else if (op->client_request < last) {
		mask |= 1ull << (last - op->client_request);
	} else {
		uint64_t step = op->client_request - last;

		mask = (step < WINDOW ? mask << step : 0) | 1;
		last = op->client_request;
	}
	d->incarnation = le64_make(op->client_incarnation);
	d->last = le64_make(last);
	d->mask = le64_make(mask);
}

int once_begin(struct csv_meta *m, struct csv_op *op)
{
	struct cblock *b;
	int err;

	op->repeated = false;
	if (op->client_request == 0 || m->read_only || !changes(op->type)) {
		return 0;
	}

	struct csv_state_wire *s;

	if (op->client_node >= ARRAY_LEN(s->done) || op->client_incarnation == 0) {
		return -EINVAL;
	}
	err = alloc_state(m, &b);
	if (err != 0) {
		return err;
	}
	s = (void *)b->buf;

	struct csv_done_wire *d = &s->done[op->client_node];
	uint64_t last = le64_get(d->last);

	if (le64_get(d->incarnation) > op->client_incarnation) {
		return -ESTALE;
	}
	if (le64_get(d->incarnation) == op->client_incarnation && op->client_request <= last) {
		uint64_t back = last - op->client_request;

		if (back >= WINDOW) {
			return -ESTALE;
		}
		if ((le64_get(d->mask) >> back & 1) != 0) {
			return made(m, op);
		}
	}
	cache_touch(m, b);
	note(d, op);
	return 0;
}
