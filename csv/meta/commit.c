/* SPDX-License-Identifier: Apache-2.0 */

/*
 * commit - the running transaction goes to the journal. One at a time: written, flushed, then its
 * operations complete and its images count. Meanwhile the next one collects.
 */
#include <errno.h>
#include <string.h>

#include "base/check.h"
#include "base/crc32c.h"
#include "csv/meta/meta_int.h"

static void flush_done(struct csv_meta *m, uint32_t id, int result)
{
	const struct csv_layout *l = &m->super.layout;
	const struct csv_journal_txn *txn = &m->commit_txn;

	(void)id;
	if (result != 0) {
		meta_fail(m, -EIO, "flush of the journal", 0);
		return;
	}
	for (uint32_t i = 0; i < txn->count; i++) {
		uint64_t at = (txn->at + 1 + i) % l->area_blocks;
		const struct live image = {
			.block = txn->entries[i].block,
			.seq = txn->seq,
			.at = csv_layout_area(l, txn->area) + at,
		};
		int err = live_put(m, &image);
		struct cblock *b = cache_find(m, txn->entries[i].block);

		CHECK(err == 0); /* both areas together have fewer blocks than the table */
		if (b != NULL) {
			b->committing = false;
		}
	}
	m->commit = COMMIT_IDLE;
	while (!list_empty(&m->committing)) {
		struct list *link = m->committing.next;

		list_del(link);
		list_add_tail(&m->done, link);
	}
}

static void write_done(struct csv_meta *m, uint32_t id, int result)
{
	(void)id;
	if (result != 0) {
		meta_fail(m, -EIO, "write of the journal", m->commit_txn.at);
		return;
	}
	if (--m->commit_left == 0) {
		const struct csv_io io = {.op = CSV_IO_FLUSH};

		m->commit = COMMIT_FLUSH;
		meta_io(m, IO_COMMIT_1, &io, flush_done);
	}
}

/* Is there room in the area for the largest transaction behind this one? */
bool commit_fits(const struct csv_meta *m)
{
	return m->used + 1 + m->running_count <= m->super.layout.area_blocks;
}

/* Seal what changed, copy it: the cache may change again while it is written. */
static void build(struct csv_meta *m)
{
	struct csv_journal_txn *txn = &m->commit_txn;

	txn->term = m->term;
	txn->seq = m->next_seq++;
	txn->area = m->header.area;
	txn->at = m->head_at;
	txn->count = 0;
	while (!list_empty(&m->running)) {
		struct cblock *b = list_entry(m->running.next, struct cblock, txn);
		const struct csv_block_wire *w = (const void *)b->buf;
		const struct csv_block_id id = {
			.type = (enum csv_block_type)le16_get(w->type),
			.block = b->block,
			.owner = le64_get(w->owner),
			.volume = &m->super.volume,
		};
		uint8_t *image = m->commit_buf + (size_t)(1 + txn->count) * CSV_BLOCK_BYTES;

		csv_block_seal(b->buf, &id, txn->term, txn->seq);
		memcpy(image, b->buf, CSV_BLOCK_BYTES);
		txn->entries[txn->count].block = b->block;
		txn->entries[txn->count].crc = crc32c(image, CSV_BLOCK_BYTES);
		txn->count++;
		list_del(&b->txn);
		b->running = false;
		b->committing = true;
	}
	m->running_count = 0;
	csv_journal_txn_encode(txn, &m->super.layout, &m->super.volume, m->commit_buf);
}

void commit_run(struct csv_meta *m)
{
	const struct csv_layout *l = &m->super.layout;

	if (m->commit != COMMIT_IDLE || m->running_count == 0 || !commit_fits(m)) {
		return;
	}
	build(m);
	while (!list_empty(&m->waiting)) {
		struct list *link = m->waiting.next;

		list_del(link);
		list_add_tail(&m->committing, link);
	}

	uint32_t all = 1 + m->commit_txn.count;
	uint64_t room = l->area_blocks - m->head_at;
	uint32_t first = all <= room ? all : (uint32_t)room;
	struct csv_io io = {
		.op = CSV_IO_WRITE,
		.block = csv_layout_area(l, m->header.area) + m->head_at,
		.count = first,
		.buf = m->commit_buf,
	};

	m->commit = COMMIT_WRITING;
	m->commit_left = first == all ? 1 : 2;
	meta_io(m, IO_COMMIT_1, &io, write_done);
	if (first != all) {
		io.block = csv_layout_area(l, m->header.area);
		io.count = all - first;
		io.buf = m->commit_buf + (size_t)first * CSV_BLOCK_BYTES;
		meta_io(m, IO_COMMIT_2, &io, write_done);
	}
	m->head_at = (m->head_at + all) % l->area_blocks;
	m->used += all;
	m->stats.txns++;
	m->stats.txn_blocks += m->commit_txn.count;
}
