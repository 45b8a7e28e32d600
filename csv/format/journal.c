/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/check.h"
#include "base/errbuf.h"
#include "csv/format/csv_format.h"

static bool all_zero(const void *buf, size_t len)
{
	const uint8_t *p = buf;

	return len == 0 || (p[0] == 0 && memcmp(p, p + 1, len - 1) == 0);
}

uint64_t csv_journal_header_at(uint64_t term, uint64_t seq)
{
	return (seq % 2 == 0 ? CSV_JOURNAL_HEADER_A : CSV_JOURNAL_HEADER_B) +
	       term % CSV_JOURNAL_HEADERS;
}

void csv_journal_header_encode(const struct csv_journal_header *h, const struct guid *volume,
                               void *buf)
{
	struct csv_journal_header_wire w = {
		.area = le32_make(h->area),
		.flags = le32_make((h->clean ? CSV_JOURNAL_CLEAN : 0) |
	                           (h->held ? CSV_JOURNAL_HELD : 0)),
		.tail_at = le64_make(h->tail_at),
		.tail_seq = le64_make(h->tail_seq),
		.held_term = le64_make(h->held_term),
		.held_at = le64_make(h->held_at),
		.held_seq = le64_make(h->held_seq),
		.held_end_seq = le64_make(h->held_end_seq),
	};
	const struct csv_block_id id = {
		.type = CSV_JOURNAL_HEADER,
		.block = csv_journal_header_at(h->term, h->seq),
		.owner = h->term % CSV_JOURNAL_HEADERS,
		.volume = volume,
	};

	memcpy(buf, &w, sizeof(w));
	csv_block_seal(buf, &id, h->term, h->seq);
}

static const char *header_fault(const struct csv_journal_header_wire *w,
                                const struct csv_layout *layout)
{
	uint32_t flags = le32_get(w->flags);
	uint64_t held_seq = le64_get(w->held_seq);
	uint64_t held_end_seq = le64_get(w->held_end_seq);

	if (le32_get(w->area) > 1 || (flags & ~(CSV_JOURNAL_CLEAN | CSV_JOURNAL_HELD)) != 0 ||
	    !all_zero(w->reserved, sizeof(w->reserved))) {
		return "unknown area, flags, or reserved bytes";
	}
	if (le64_get(w->tail_at) >= layout->area_blocks || le64_get(w->tail_seq) == 0) {
		return "the tail is outside the area";
	}
	if ((flags & CSV_JOURNAL_HELD) == 0) {
		return le64_get(w->held_term) == 0 && le64_get(w->held_at) == 0 && held_seq == 0 &&
		                       held_end_seq == 0
		               ? NULL
		               : "holds nothing, and says what";
	}
	/* Not both: a clean journal has nothing to hold. */
	if ((flags & CSV_JOURNAL_CLEAN) != 0 || le64_get(w->held_at) >= layout->area_blocks ||
	    held_seq == 0 || held_end_seq < held_seq ||
	    held_end_seq - held_seq > layout->area_blocks / 2 ||
	    le64_get(w->tail_seq) != held_end_seq ||
	    le64_get(w->held_term) >= le64_get(w->head.term)) {
		return "what it holds makes no sense";
	}
	return NULL;
}

int csv_journal_header_decode(const void *buf, const struct csv_layout *layout,
                              const struct guid *volume, uint64_t block,
                              struct csv_journal_header *out, struct errbuf *eb)
{
	const struct csv_block_id id = {
		.type = CSV_JOURNAL_HEADER,
		.block = block,
		.owner = CSV_OWNER_ANY,
		.volume = volume,
	};
	struct csv_journal_header_wire w;
	struct csv_block_head head;

	if (all_zero(buf, CSV_BLOCK_BYTES)) {
		return -ENOENT;
	}

	int err = csv_block_open(buf, &id, &head, eb);

	if (err != 0) {
		return err;
	}
	memcpy(&w, buf, sizeof(w));

	const char *why = header_fault(&w, layout);

	if (csv_journal_header_at(head.term, head.seq) != block ||
	    head.owner != head.term % CSV_JOURNAL_HEADERS) {
		why = "lies where another term writes";
	}
	if (why != NULL) {
		return errbuf_set(eb, -EUCLEAN, "journal header at block %" PRIu64 ": %s", block,
		                  why);
	}

	uint32_t flags = le32_get(w.flags);

	*out = (struct csv_journal_header){
		.term = head.term,
		.seq = head.seq,
		.area = le32_get(w.area),
		.clean = (flags & CSV_JOURNAL_CLEAN) != 0,
		.held = (flags & CSV_JOURNAL_HELD) != 0,
		.tail_at = le64_get(w.tail_at),
		.tail_seq = le64_get(w.tail_seq),
		.held_term = le64_get(w.held_term),
		.held_at = le64_get(w.held_at),
		.held_seq = le64_get(w.held_seq),
		.held_end_seq = le64_get(w.held_end_seq),
	};
	return 0;
}

void csv_journal_txn_encode(const struct csv_journal_txn *txn, const struct csv_layout *layout,
                            const struct guid *volume, void *buf)
{
	const struct csv_block_id id = {
		.type = CSV_JOURNAL_TXN,
		.block = csv_layout_area(layout, txn->area) + txn->at,
		.owner = txn->area,
		.volume = volume,
	};
	struct csv_journal_txn_wire *w = buf;

	CHECK(txn->count != 0 && txn->count <= CSV_TXN_BLOCKS_MAX && txn->area <= 1);
	memset(w, 0, sizeof(*w));
	w->count = le32_make(txn->count);
	for (uint32_t i = 0; i < txn->count; i++) {
		w->entries[i].block = le64_make(txn->entries[i].block);
		w->entries[i].crc = le32_make(txn->entries[i].crc);
	}
	csv_block_seal(buf, &id, txn->term, txn->seq);
}

static bool entries_ok(const struct csv_journal_txn_wire *w, const struct csv_layout *layout)
{
	uint32_t count = le32_get(w->count);

	for (uint32_t i = 0; i < count; i++) {
		if (csv_meta_at(layout, le64_get(w->entries[i].block)) == 0 ||
		    le32_get(w->entries[i].reserved) != 0) {
			return false;
		}
	}
	return all_zero(&w->entries[count], sizeof(w->entries[0]) * (CSV_TXN_ENTRIES - count));
}

int csv_journal_txn_decode(const void *buf, const struct csv_layout *layout,
                           const struct guid *volume, uint32_t area, uint64_t at,
                           struct csv_journal_txn *out, struct errbuf *eb)
{
	const struct csv_block_id id = {
		.type = CSV_JOURNAL_TXN,
		.block = csv_layout_area(layout, area) + at,
		.owner = area,
		.volume = volume,
	};
	const struct csv_journal_txn_wire *w = buf;
	struct csv_block_head head;
	int err = csv_block_open(buf, &id, &head, eb);

	if (err != 0) {
		return err;
	}

	uint32_t count = le32_get(w->count);

	if (count == 0 || count > CSV_TXN_BLOCKS_MAX || le32_get(w->reserved) != 0 ||
	    !all_zero(w->padding, sizeof(w->padding)) || !entries_ok(w, layout)) {
		return errbuf_set(eb, -EUCLEAN,
		                  "transaction at block %" PRIu64
		                  ": it names blocks that no transaction changes",
		                  id.block);
	}
	out->term = head.term;
	out->seq = head.seq;
	out->area = area;
	out->at = at;
	out->count = count;
	for (uint32_t i = 0; i < count; i++) {
		out->entries[i].block = le64_get(w->entries[i].block);
		out->entries[i].crc = le32_get(w->entries[i].crc);
	}
	return 0;
}
