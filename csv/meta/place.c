/* SPDX-License-Identifier: Apache-2.0 */

/*
 * place - the checkpoint: images go from the journal to where they belong, a flush, the header with
 * the new tail, a flush; then their part of the journal is free. Only committed images are written,
 * the newest there is; what is committed meanwhile is left to the next checkpoint.
 */
#include <errno.h>
#include <string.h>

#include "csv/meta/meta_int.h"

void header_write(struct csv_meta *m, void (*done)(struct csv_meta *m, uint32_t id, int result))
{
	const struct csv_io io = {
		.op = CSV_IO_WRITE,
		.block = csv_journal_header_at(m->header.term, m->header.seq),
		.count = 1,
		.buf = m->header_buf,
	};

	csv_journal_header_encode(&m->header, &m->super.volume, m->header_buf);
	meta_io(m, IO_HEADER, &io, done);
}

static void end(struct csv_meta *m, uint32_t id, int result)
{
	(void)id;
	if (result != 0) {
		meta_fail(m, -EIO, "flush after the journal's header", 0);
		return;
	}
	live_drop_until(m, m->place_seq);
	m->used -= m->place_used;
	m->place = PLACE_IDLE;
	m->stats.checkpoints++;
	if (m->phase == PHASE_CLOSING && m->header.clean) {
		m->phase = PHASE_CLOSED;
	}
}

static void header_done(struct csv_meta *m, uint32_t id, int result)
{
	const struct csv_io io = {.op = CSV_IO_FLUSH};

	(void)id;
	if (result != 0) {
		meta_fail(m, -EIO, "write of the journal's header", 0);
		return;
	}
	m->place = PLACE_HEADER_FLUSH;
	meta_io(m, IO_PLACE_FLUSH, &io, end);
}

static void placed(struct csv_meta *m, uint32_t id, int result)
{
	(void)id;
	if (result != 0) {
		meta_fail(m, -EIO, "flush of blocks in place", 0);
		return;
	}
	if (m->phase == PHASE_PLACE) {
		/* Before our term has begun: its first header will say that nothing is held. */
		live_drop_until(m, m->place_seq);
		m->place = PLACE_IDLE;
		m->stats.checkpoints++;
		return;
	}
	m->header.seq++;
	m->header.tail_at = m->place_at;
	m->header.tail_seq = m->place_seq + 1;
	m->header.held = false;
	m->header.held_term = 0;
	m->header.held_at = 0;
	m->header.held_seq = 0;
	m->header.held_end_seq = 0;
	m->header.clean = m->phase == PHASE_CLOSING && m->place_seq + 1 == m->next_seq;
	m->place = PLACE_HEADER;
	header_write(m, header_done);
}

static void write_done(struct csv_meta *m, uint32_t id, int result)
{
	(void)id;
	m->place_busy--;
	if (result != 0) {
		meta_fail(m, -EIO, "write in place", m->place_block[id - IO_PLACE]);
		return;
	}
	m->stats.placed_blocks++;
}

static void write_out(struct csv_meta *m, uint32_t slot)
{
	const struct csv_io io = {
		.op = CSV_IO_WRITE,
		.block = m->place_block[slot],
		.count = 1,
		.buf = m->place_buf + (size_t)slot * CSV_BLOCK_BYTES,
	};

	meta_io(m, IO_PLACE + slot, &io, write_done);
}

static void read_done(struct csv_meta *m, uint32_t id, int result)
{
	uint32_t slot = id - IO_PLACE;
	const struct csv_block_id want = {
		.block = m->place_block[slot],
		.owner = CSV_OWNER_ANY,
		.volume = &m->super.volume,
	};

	/* An image that is not good any more must not replace anything. Freed tree nodes are empty:
	 * only head and checksum are asked for. */
	const struct csv_block_wire *w =
		(const void *)(m->place_buf + (size_t)slot * CSV_BLOCK_BYTES);
	struct csv_block_id id_read = want;

	id_read.type = (enum csv_block_type)le16_get(w->type);
	if (result == 0) {
		result = csv_block_open(w, &id_read, NULL, &m->eb);
	}
	if (result != 0) {
		m->place_busy--;
		meta_fail(m, -EIO, "image in the journal", want.block);
		return;
	}
	write_out(m, slot);
}

/* One block: from the cache if that is what was committed, else from the journal. */
static void place_one(struct csv_meta *m, const struct live *l, uint32_t slot)
{
	uint8_t *buf = m->place_buf + (size_t)slot * CSV_BLOCK_BYTES;
	const struct cblock *b = cache_find(m, l->block);

	m->place_block[slot] = l->block;
	m->place_busy++;
	if (b != NULL && b != m->read_into && !b->running && !b->committing) {
		memcpy(buf, b->buf, CSV_BLOCK_BYTES);
		write_out(m, slot);
		return;
	}

	const struct csv_io io = {.op = CSV_IO_READ, .block = l->at, .count = 1, .buf = buf};

	meta_io(m, IO_PLACE + slot, &io, read_done);
}

static void place_more(struct csv_meta *m)
{
	for (uint32_t slot = 0; slot < PLACE_SLOTS; slot++) {
		if (m->io[IO_PLACE + slot].state != IO_FREE) {
			continue;
		}
		while (m->place_cursor < m->lives_count &&
		       (!m->lives[m->place_cursor].used ||
		        m->lives[m->place_cursor].seq > m->place_seq)) {
			m->place_cursor++;
		}
		if (m->place_cursor == m->lives_count) {
			break;
		}
		place_one(m, &m->lives[m->place_cursor++], slot);
	}
	if (m->place_busy == 0 && m->place_cursor == m->lives_count) {
		const struct csv_io io = {.op = CSV_IO_FLUSH};

		m->place = PLACE_FLUSH;
		meta_io(m, IO_PLACE_FLUSH, &io, placed);
	}
}

void place_start(struct csv_meta *m)
{
	/* What is being written now does not count yet, and its place in the ring is taken. */
	bool writing = m->commit != COMMIT_IDLE;

	m->place_asked = false;
	m->place = PLACE_WRITING;
	m->place_cursor = 0;
	m->place_seq = m->next_seq - 1 - (writing ? 1 : 0);
	m->place_at = writing ? m->commit_txn.at : m->head_at;
	m->place_used = m->used - (writing ? 1 + m->commit_txn.count : 0);
}

void place_run(struct csv_meta *m)
{
	if (m->place == PLACE_IDLE && m->phase >= PHASE_READY && m->phase <= PHASE_CLOSING &&
	    m->quiet && !m->read_only) {
		bool closing = m->phase == PHASE_CLOSING && m->commit == COMMIT_IDLE &&
		               m->running_count == 0 && list_empty(&m->queue);

		if (m->place_asked || closing || m->used > m->super.layout.area_blocks / 2 ||
		    !commit_fits(m)) {
			place_start(m);
		}
	}
	if (m->place == PLACE_WRITING) {
		place_more(m);
	}
}
