/* SPDX-License-Identifier: Apache-2.0 */

/*
 * open - the headers say where the log is; reading it says which images count; our own header makes
 * the term begin. Nothing is written in place for that (but see PHASE_PLACE), so a takeover takes
 * as long as reading the journal. Then the counts of the maps are loaded.
 *
 * The log: if the found header holds an area, that one from held_seq to held_end_seq, all of which
 * must be there; then the header's own area from its tail as far as it goes.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/crc32c.h"
#include "csv/meta/meta_int.h"

static void fail(struct csv_meta *m, int err)
{
	m->phase = PHASE_FAILED;
	m->error = err;
}

static uint8_t *scratch(struct csv_meta *m, uint32_t index)
{
	return m->commit_buf + (size_t)index * CSV_BLOCK_BYTES;
}

static void scan_begin(struct csv_meta *m)
{
	const struct csv_journal_header *h = &m->found;

	m->scan_held = h->held;
	m->scan = (struct scan){
		.area = h->held ? 1 - h->area : h->area,
		.term = h->held ? h->held_term : h->term,
		.at = h->held ? h->held_at : h->tail_at,
		.seq = h->held ? h->held_seq : h->tail_seq,
		.end_seq = h->held ? h->held_end_seq : 0,
	};
	m->phase = PHASE_SCAN;
}

static void headers_found(struct csv_meta *m)
{
	if (!m->found_any) {
		errbuf_set(&m->eb, -EUCLEAN,
		           "journal headers at blocks %u and %u: none of them is good",
		           CSV_JOURNAL_HEADER_A, CSV_JOURNAL_HEADER_B);
		fail(m, -EUCLEAN);
		return;
	}
	if (m->term == 0) {
		m->term = m->found.term + (m->read_only ? 0 : 1);
	} else if (m->term <= m->found.term && !m->read_only) {
		errbuf_set(&m->eb, -ESTALE, "the volume is in term %llu, this would be term %llu",
		           (unsigned long long)m->found.term, (unsigned long long)m->term);
		fail(m, -ESTALE);
		return;
	}
	if (m->found.held && !m->quiet && !m->read_only) {
		errbuf_set(
			&m->eb, -EBUSY, "term %llu ended before term %llu was known to be silent",
			(unsigned long long)m->found.term, (unsigned long long)m->found.held_term);
		errbuf_hint(&m->eb, "Fence their owners, then open the volume again.");
		fail(m, -EBUSY);
		return;
	}
	scan_begin(m);
}

static void headers_done(struct csv_meta *m, uint32_t id, int result)
{
	uint64_t first = m->phase == PHASE_HEADERS_A ? CSV_JOURNAL_HEADER_A : CSV_JOURNAL_HEADER_B;

	(void)id;
	if (result != 0) {
		meta_fail(m, -EIO, "read of the journal's headers", first);
		return;
	}
	for (uint32_t i = 0; i < CSV_JOURNAL_HEADERS; i++) {
		struct csv_journal_header h;
		int err = csv_journal_header_decode(scratch(m, i), &m->super.layout,
		                                    &m->super.volume, first + i, &h, NULL);

		/* A torn one was being written when its writer died: the one before counts. */
		if (err == 0 && (!m->found_any || h.term > m->found.term ||
		                 (h.term == m->found.term && h.seq > m->found.seq))) {
			m->found = h;
			m->found_any = true;
		}
	}
	if (m->phase == PHASE_HEADERS_A) {
		m->phase = PHASE_HEADERS_B;
	} else {
		headers_found(m);
	}
}

static void read_headers(struct csv_meta *m)
{
	const struct csv_io io = {
		.op = CSV_IO_READ,
		.block = m->phase == PHASE_HEADERS_A ? CSV_JOURNAL_HEADER_A : CSV_JOURNAL_HEADER_B,
		.count = CSV_JOURNAL_HEADERS,
		.buf = scratch(m, 0),
	};

	meta_io(m, IO_READ, &io, headers_done);
}

static void header_flushed(struct csv_meta *m, uint32_t id, int result)
{
	(void)id;
	if (result != 0) {
		meta_fail(m, -EIO, "flush of the journal's header", 0);
		return;
	}
	m->load_next = 0;
	m->phase = PHASE_LOAD;
}

static void header_written(struct csv_meta *m, uint32_t id, int result)
{
	const struct csv_io io = {.op = CSV_IO_FLUSH};

	(void)id;
	if (result != 0) {
		meta_fail(m, -EIO, "write of the journal's header", 0);
		return;
	}
	meta_io(m, IO_HEADER, &io, header_flushed);
}

/* Our term begins: we write into the other area, and the old one is held as far as we read it. */
static void begin_term(struct csv_meta *m)
{
	const struct csv_journal_header *h = &m->found;
	bool held = m->lives_used != 0;

	m->header = (struct csv_journal_header){
		.term = m->term,
		/* Counting on from there, ours never lies on the one that we found. */
		.seq = h->seq + 1,
		.area = 1 - h->area,
		.held = held,
		.tail_seq = m->next_seq,
		.held_term = held ? h->term : 0,
		.held_at = held ? h->tail_at : 0,
		.held_seq = held ? h->tail_seq : 0,
		.held_end_seq = held ? m->next_seq : 0,
	};
	m->head_at = 0;
	m->used = 0;
	m->place_asked = held && m->quiet;
	m->phase = PHASE_HEADER;
	header_write(m, header_written);
}

static void scan_over(struct csv_meta *m)
{
	const struct csv_journal_header *h = &m->found;

	if (m->scan_held) {
		if (m->scan.seq != m->scan.end_seq) {
			errbuf_set(&m->eb, -EUCLEAN,
			           "transaction %" PRIu64 " at block %" PRIu64
			           ": damaged, and it counts",
			           m->scan.seq,
			           csv_layout_area(&m->super.layout, m->scan.area) + m->scan.at);
			fail(m, -EUCLEAN);
			return;
		}
		m->scan_held = false;
		m->scan = (struct scan){
			.area = h->area,
			.term = h->term,
			.at = h->tail_at,
			.seq = h->tail_seq,
		};
		return;
	}
	m->next_seq = m->scan.seq;
	if (m->read_only) {
		m->header = *h;
		m->load_next = 0;
		m->phase = PHASE_LOAD;
	} else if (h->held) {
		m->phase = PHASE_PLACE;
		place_start(m);
	} else {
		begin_term(m);
	}
}

static void images_done(struct csv_meta *m, uint32_t id, int result)
{
	const struct csv_journal_txn *txn = &m->scan.txn;
	uint64_t area_blocks = m->super.layout.area_blocks;

	(void)id;
	if (result != 0) {
		meta_fail(m, -EIO, "read of the journal", txn->at);
		return;
	}
	if (m->scan.first < txn->count) {
		m->scan.first = txn->count; /* the part behind the wrap, and then all is there */
		return;
	}
	m->scan.images = false;
	for (uint32_t i = 0; i < txn->count; i++) {
		if (crc32c(scratch(m, 1 + i), CSV_BLOCK_BYTES) != txn->entries[i].crc) {
			scan_over(m); /* the last one, torn */
			return;
		}
	}
	for (uint32_t i = 0; i < txn->count; i++) {
		const struct live image = {
			.block = txn->entries[i].block,
			.seq = txn->seq,
			.at = csv_layout_area(&m->super.layout, txn->area) +
		              (txn->at + 1 + i) % area_blocks,
		};
		int err = live_put(m, &image);

		if (err != 0) {
			fail(m, err);
			return;
		}
	}
	m->stats.replayed_txns++;
	m->scan.blocks += 1 + txn->count;
	m->scan.at = (m->scan.at + 1 + txn->count) % area_blocks;
	m->scan.seq++;
}

static void head_done(struct csv_meta *m, uint32_t id, int result)
{
	struct scan *s = &m->scan;
	uint64_t area_blocks = m->super.layout.area_blocks;

	(void)id;
	if (result != 0) {
		meta_fail(m, -EIO, "read of the journal", s->at);
		return;
	}
	if (csv_journal_txn_decode(scratch(m, 0), &m->super.layout, &m->super.volume, s->area,
	                           s->at, &s->txn, NULL) != 0 ||
	    s->txn.seq != s->seq || s->txn.term != s->term ||
	    s->blocks + 1 + s->txn.count > area_blocks) {
		scan_over(m);
		return;
	}

	uint64_t room = area_blocks - (s->at + 1) % area_blocks;

	s->images = true;
	s->first = s->txn.count <= room ? s->txn.count : (uint32_t)room;
	m->load_next = 0;
}

static void scan_more(struct csv_meta *m)
{
	struct scan *s = &m->scan;
	const struct csv_layout *l = &m->super.layout;
	struct csv_io io = {.op = CSV_IO_READ, .count = 1, .buf = scratch(m, 0)};

	if (!s->images) {
		if ((s->end_seq != 0 && s->seq == s->end_seq) ||
		    (!m->scan_held && m->found.clean)) {
			scan_over(m);
			return;
		}
		io.block = csv_layout_area(l, s->area) + s->at;
		meta_io(m, IO_READ, &io, head_done);
		return;
	}
	/* load_next: images that are there already, in front of the wrap. */
	io.block = csv_layout_area(l, s->area) + (s->at + 1 + m->load_next) % l->area_blocks;
	io.count = s->first - m->load_next;
	io.buf = scratch(m, 1 + m->load_next);
	m->load_next = s->first;
	meta_io(m, IO_READ, &io, images_done);
}

/* The counts per block of the maps, and that the state can be read. */
static void load_more(struct csv_meta *m)
{
	struct cblock *b;

	if (m->journal_only) {
		m->phase = PHASE_READY;
		return;
	}

	int err = alloc_state(m, &b);

	while (err == 0 && m->load_next < m->units.blocks + m->pool.blocks) {
		struct map_info *map = m->load_next < m->units.blocks ? &m->units : &m->pool;
		uint32_t i = map == &m->units ? m->load_next : m->load_next - m->units.blocks;
		const struct csv_block_id id = {map->type, map->at + i, i, NULL};

		m->epoch++;
		err = cache_get(m, &id, &b);
		if (err == 0) {
			alloc_refresh(m, b);
			m->load_next++;
		}
	}
	if (err == -EAGAIN && m->read_error == 0) {
		cache_read(m);
	} else if (err != 0) {
		fail(m, m->read_error != 0 ? m->read_error : err);
	} else {
		m->phase = PHASE_READY;
	}
}

void open_run(struct csv_meta *m)
{
	switch (m->phase) {
	case PHASE_HEADERS_A:
	case PHASE_HEADERS_B:
		read_headers(m);
		break;
	case PHASE_SCAN:
		scan_more(m);
		break;
	case PHASE_PLACE:
		if (m->place == PLACE_IDLE) {
			m->found.held = false;
			begin_term(m);
		} else {
			place_run(m);
		}
		break;
	case PHASE_LOAD:
		load_more(m);
		break;
	case PHASE_HEADER:
	case PHASE_READY:
	case PHASE_CLOSING:
	case PHASE_CLOSED:
	case PHASE_FAILED:
		break;
	}
}
