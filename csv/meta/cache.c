/* SPDX-License-Identifier: Apache-2.0 */

/*
 * cache - blocks in memory, and taking back what an operation did to them.
 *
 * Never thrown out: what the current operation has looked at (epoch), what the running transaction
 * changed, and what the committing one changed (its images are not in the table of live ones yet).
 * The cache is larger than these three together.
 */
#include <errno.h>
#include <string.h>

#include "base/check.h"
#include "csv/meta/meta_int.h"

static struct cblock **bucket_of(const struct csv_meta *m, uint64_t block)
{
	return &m->buckets[block * 0x9e3779b97f4a7c15u >> 32 & (m->buckets_count - 1)];
}

struct cblock *cache_find(const struct csv_meta *m, uint64_t block)
{
	struct cblock *b = *bucket_of(m, block);

	while (b != NULL && b->block != block) {
		b = b->next;
	}
	return b;
}

static void drop(struct csv_meta *m, struct cblock *b)
{
	struct cblock **link = bucket_of(m, b->block);

	while (*link != b) {
		link = &(*link)->next;
	}
	*link = b->next;
	b->valid = false;
	list_del(&b->lru);
	list_add_tail(&m->unused, &b->lru);
}

/* A buffer for @block, which is not in the cache. */
static struct cblock *claim(struct csv_meta *m, uint64_t block)
{
	struct cblock *b = NULL;

	if (!list_empty(&m->unused)) {
		b = list_entry(m->unused.next, struct cblock, lru);
	} else {
		list_for_each(link, &m->lru)
		{
			struct cblock *old = list_entry(link, struct cblock, lru);

			if (!old->running && !old->committing && old->epoch != m->epoch) {
				b = old;
				break;
			}
		}
		CHECK(b != NULL);
		drop(m, b);
	}

	struct cblock **bucket = bucket_of(m, block);

	list_del(&b->lru);
	list_add_tail(&m->lru, &b->lru);
	b->block = block;
	b->valid = true;
	b->running = false;
	b->committing = false;
	b->epoch = m->epoch;
	b->next = *bucket;
	*bucket = b;
	return b;
}

/* What was judged when it came in, against what is wanted now. */
static int fits(struct csv_meta *m, const struct csv_block_id *id, const struct cblock *b)
{
	const struct csv_block_wire *w = (const void *)b->buf;

	if (id->type != 0 && le16_get(w->type) != id->type) {
		m->bad_block = id->block;
		return errbuf_set(&m->eb, -EUCLEAN, "block %llu: it is of type \"%s\", not \"%s\"",
		                  (unsigned long long)id->block,
		                  csv_block_type_name(le16_get(w->type)),
		                  csv_block_type_name((uint32_t)id->type));
	}
	if (id->owner != CSV_OWNER_ANY && le64_get(w->owner) != id->owner) {
		m->bad_block = id->block;
		return errbuf_set(&m->eb, -EUCLEAN, "block %llu: it is of owner %llu, not %llu",
		                  (unsigned long long)id->block,
		                  (unsigned long long)le64_get(w->owner),
		                  (unsigned long long)id->owner);
	}
	return 0;
}

int cache_get(struct csv_meta *m, const struct csv_block_id *id, struct cblock **out)
{
	struct cblock *b = cache_find(m, id->block);

	if (b == NULL) {
		m->miss = *id;
		return -EAGAIN;
	}
	b->epoch = m->epoch;
	list_del(&b->lru);
	list_add_tail(&m->lru, &b->lru);
	*out = b;
	return fits(m, id, b);
}

static void read_done(struct csv_meta *m, uint32_t id, int result)
{
	const struct csv_block_id *want = &m->miss;
	struct csv_block_id place = {
		.block = want->block, .owner = CSV_OWNER_ANY, .volume = &m->super.volume};
	int err = result;

	(void)id;
	m->reading = false;
	if (csv_meta_where(m, want->block) != m->read_at) {
		/* A checkpoint ended meanwhile: that part of the journal may be in use again. */
		drop(m, m->read_into);
		m->read_into = NULL;
		return; /* the operation misses it once more */
	}
	if (err == 0) {
		err = csv_meta_verify(m->read_into->buf, &m->super.layout, &place, &m->eb);
	} else {
		errbuf_set(&m->eb, err, "block %llu: cannot be read",
		           (unsigned long long)want->block);
	}
	if (err != 0) {
		m->bad_block = want->block;
		drop(m, m->read_into);
		m->read_error = err; /* whoever waits for it ends with this */
	}
	m->read_into = NULL;
}

void cache_read(struct csv_meta *m)
{
	struct cblock *b = claim(m, m->miss.block);
	const struct csv_io io = {
		.op = CSV_IO_READ,
		.block = csv_meta_where(m, m->miss.block),
		.count = 1,
		.buf = b->buf,
	};

	m->reading = true;
	m->read_into = b;
	m->read_at = io.block;
	meta_io(m, IO_READ, &io, read_done);
}

static void remember(struct csv_meta *m, struct cblock *b, bool fresh)
{
	CHECK(m->undo_count < OP_TOUCH_MAX && !m->read_only);

	struct undo *u = &m->undo[m->undo_count++];

	u->b = b;
	u->fresh = fresh;
	u->was_running = b->running;
	if (!fresh) {
		memcpy(u->before, b->buf, CSV_BLOCK_BYTES);
	}
	if (!b->running) {
		b->running = true;
		list_add_tail(&m->running, &b->txn);
		m->running_count++;
	}
}

void cache_touch(struct csv_meta *m, struct cblock *b)
{
	for (uint32_t i = 0; i < m->undo_count; i++) {
		if (m->undo[i].b == b) {
			return;
		}
	}
	remember(m, b, false);
}

int cache_fresh(struct csv_meta *m, uint64_t block, struct cblock **out)
{
	struct cblock *b = cache_find(m, block);

	if (b != NULL) {
		b->epoch = m->epoch;
		cache_touch(m, b);
	} else {
		b = claim(m, block);
		remember(m, b, true);
	}
	memset(b->buf, 0, CSV_BLOCK_BYTES);
	*out = b;
	return 0;
}

void cache_undo(struct csv_meta *m)
{
	while (m->undo_count != 0) {
		struct undo *u = &m->undo[--m->undo_count];

		if (!u->was_running) {
			u->b->running = false;
			list_del(&u->b->txn);
			m->running_count--;
		}
		if (u->fresh) {
			drop(m, u->b);
		} else {
			memcpy(u->b->buf, u->before, CSV_BLOCK_BYTES);
		}
	}
}

void cache_keep(struct csv_meta *m)
{
	for (uint32_t i = 0; i < m->undo_count; i++) {
		alloc_refresh(m, m->undo[i].b);
	}
	m->undo_count = 0;
}

bool cache_room(const struct csv_meta *m, uint32_t blocks)
{
	return m->undo_count + blocks <= OP_TOUCH_MAX;
}
