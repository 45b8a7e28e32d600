/* SPDX-License-Identifier: Apache-2.0 */

/* map - what is known of a file's extents: a sorted array, searched by halves. */
#include <errno.h>
#include <string.h>

#include "base/check.h"
#include "csv/data/data_int.h"

static uint64_t end_of(const struct data_extent *e)
{
	return e->file + e->len;
}

/* The first extent that ends behind @file. */
static uint32_t locate(const struct data_map *m, uint64_t file)
{
	uint32_t lo = 0;
	uint32_t hi = m->count;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (end_of(&m->at[mid]) <= file) {
			lo = mid + 1;
		} else {
			hi = mid;
		}
	}
	return lo;
}

int data_map_find(const struct data_map *m, uint64_t file, struct data_extent *out)
{
	uint32_t i = locate(m, file);

	if (i == m->count || m->at[i].file > file) {
		return -ENXIO;
	}
	uint64_t in = file - m->at[i].file;

	*out = m->at[i];
	out->file += in;
	out->len -= in;
	if (out->kind != DATA_HOLE) {
		out->device += in;
	}
	return 0;
}

static void insert(struct data_map *m, uint32_t i, const struct data_extent *e)
{
	CHECK(m->count < m->max);
	memmove(&m->at[i + 1], &m->at[i], (m->count - i) * sizeof(m->at[0]));
	m->at[i] = *e;
	m->count++;
	m->bytes[e->kind] += e->len;
}

static void erase(struct data_map *m, uint32_t i, uint32_t n)
{
	for (uint32_t k = i; k < i + n; k++) {
		m->bytes[m->at[k].kind] -= m->at[k].len;
	}
	memmove(&m->at[i], &m->at[i + n], (m->count - i - n) * sizeof(m->at[0]));
	m->count -= n;
}

static void cut_front(struct data_map *m, uint32_t i, uint64_t bytes)
{
	struct data_extent *e = &m->at[i];

	m->bytes[e->kind] -= bytes;
	e->file += bytes;
	e->len -= bytes;
	if (e->kind != DATA_HOLE) {
		e->device += bytes;
	}
}

int data_map_drop(struct data_map *m, uint64_t from, uint64_t to)
{
	uint32_t i = locate(m, from);
	uint32_t n = 0;

	if (from >= to || i == m->count || m->at[i].file >= to) {
		return 0;
	}
	if (m->at[i].file < from) {
		struct data_extent rest = m->at[i];
		uint64_t keep = from - rest.file;

		if (end_of(&rest) > to) {
			if (m->count == m->max) {
				return -ENOSPC;
			}
			uint64_t gone = to - rest.file;

			m->bytes[rest.kind] -= rest.len - keep;
			m->at[i].len = keep;
			rest.file += gone;
			rest.len -= gone;
			rest.device += rest.kind != DATA_HOLE ? gone : 0;
			insert(m, i + 1, &rest);
			return 0;
		}
		m->bytes[rest.kind] -= rest.len - keep;
		m->at[i].len = keep;
		i++;
	}
	while (i + n < m->count && end_of(&m->at[i + n]) <= to) {
		n++;
	}
	if (n != 0) {
		erase(m, i, n);
	}
	if (i < m->count && m->at[i].file < to) {
		cut_front(m, i, to - m->at[i].file);
	}
	return 0;
}

static bool one_piece(const struct data_extent *a, const struct data_extent *b)
{
	return a->kind == b->kind && end_of(a) == b->file &&
	       (a->kind == DATA_HOLE || a->device + a->len == b->device);
}

/* Join extent @i with the one before it, if they are one piece. */
static bool join(struct data_map *m, uint32_t i)
{
	if (i == 0 || i >= m->count || !one_piece(&m->at[i - 1], &m->at[i])) {
		return false;
	}
	uint64_t len = m->at[i].len;

	erase(m, i, 1);
	m->at[i - 1].len += len;
	m->bytes[m->at[i - 1].kind] += len;
	return true;
}

int data_map_put(struct data_map *m, const struct data_extent *e)
{
	if (m->count + 2 > m->max) {
		return -ENOSPC;
	}
	CHECK(e->len != 0 && data_map_drop(m, e->file, end_of(e)) == 0);

	uint32_t i = locate(m, e->file);

	insert(m, i, e);
	(void)join(m, i + 1);
	(void)join(m, i);
	return 0;
}

int data_map_learn(struct data_map *m, const struct data_extent *e, uint32_t room)
{
	struct data_extent part = *e;
	int err = 0;

	while (err == 0 && part.len != 0) {
		if (m->count + 2 + room > m->max) {
			return -ENOSPC;
		}

		struct data_extent known;
		struct data_extent new = part;
		uint64_t step;
		uint32_t i;

		if (data_map_find(m, part.file, &known) == 0) {
			step = known.len < part.len ? known.len : part.len;
			new.len = step;
			if (known.kind == DATA_HOLE && new.kind != DATA_HOLE) {
				err = data_map_put(m, &new);
			}
		} else {
			i = locate(m, part.file);
			step = i < m->count && m->at[i].file < end_of(&part)
			               ? m->at[i].file - part.file
			               : part.len;
			new.len = step;
			err = data_map_put(m, &new);
		}
		part.file += step;
		part.len -= step;
		part.device += part.kind != DATA_HOLE ? step : 0;
	}
	return err;
}

void data_map_evict(struct data_map *m, bool unwritten)
{
	uint32_t kept = 0;

	m->forgotten = m->turned;
	for (uint32_t i = 0; i < m->count; i++) {
		if (m->at[i].kind == DATA_WRITTEN || m->at[i].kind == DATA_HOLE ||
		    (unwritten && m->at[i].kind == DATA_UNWRITTEN)) {
			m->bytes[m->at[i].kind] -= m->at[i].len;
		} else {
			m->at[kept++] = m->at[i];
		}
	}
	m->count = kept;
}

void data_map_turn(struct data_map *m, enum data_kind from, enum data_kind to)
{
	if (m->bytes[from] == 0) {
		return;
	}
	for (uint32_t i = 0; i < m->count;) {
		if (m->at[i].kind == from) {
			m->bytes[from] -= m->at[i].len;
			m->bytes[to] += m->at[i].len;
			m->at[i].kind = to;
		}
		if (!join(m, i)) {
			i++;
		}
	}
}

bool data_map_next(const struct data_map *m, enum data_kind kind, uint64_t *file, uint64_t *len)
{
	uint32_t i = 0;

	if (m->bytes[kind] == 0) {
		return false;
	}
	while (m->at[i].kind != kind) {
		i++;
	}
	*file = m->at[i].file;
	*len = m->at[i].len;
	while (++i < m->count && m->at[i].kind == kind && m->at[i].file == *file + *len) {
		*len += m->at[i].len;
	}
	return true;
}

void data_map_settle(struct data_map *m, uint64_t file, uint64_t len)
{
	/* What a round turns are whole extents, and nothing splits them before it ends but writes
	 * that make parts of them FRESH again. */
	uint32_t i = locate(m, file);

	while (i < m->count && m->at[i].file < file + len) {
		if (m->at[i].kind == DATA_TURNING) {
			m->bytes[DATA_TURNING] -= m->at[i].len;
			m->bytes[DATA_WRITTEN] += m->at[i].len;
			m->at[i].kind = DATA_WRITTEN;
			m->turned++;
		}
		if (!join(m, i)) {
			i++;
		}
	}
	(void)join(m, i);
}
