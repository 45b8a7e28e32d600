/* SPDX-License-Identifier: Apache-2.0 */

/*
 * source_copy - the data connections: each thread takes pieces of the round's bitmap until none
 * is left, so that a fast connection does more. Pages are scanned for zeros, merged into runs, and
 * leave as soon as a batch is full: straight from guest memory, or through a copy where what is
 * sent must be what was checksummed or packed.
 */

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/crc32c.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "migrate/page/page.h"
#include "migrate/source/source_int.h"

#define SOURCE_ALIGN 64u
/* The gap that a capped sender may catch up: smooth, but not starved by a late wake-up. */
#define SOURCE_PACE_SLACK_NS (5 * NS_PER_MS)

static enum stream_coding source_coding(const struct source *s)
{
	switch (s->cfg.pack) {
	case SOURCE_PACK_LZ4:
		return STREAM_CODING_LZ4;
	case SOURCE_PACK_ZSTD:
		return STREAM_CODING_ZSTD;
	case SOURCE_PACK_NONE:
		break;
	}
	return STREAM_CODING_RAW;
}

int source_conn_init(struct source_conn *c, struct source *s, uint32_t index, int fd,
                     struct errbuf *eb)
{
	const struct transport_cfg cfg = {
		.fd = fd,
		.stop_fd = s->stop_fd,
		.silence_max_ns = s->cfg.silence_max_ns,
		.tls = s->cfg.tls,
		.role = TLS_CLIENT,
		.peer_name = s->peer_name,
	};
	struct transport *t;
	int err = transport_open(&cfg, &t, eb);

	*c = (struct source_conn){.s = s, .index = index};
	if (err == 0) {
		err = link_init(&c->link, t);
	}
	if (err != 0) {
		return err;
	}
	c->frame = gw_calloc(1, sizeof(*c->frame));
	c->memory = gw_malloc(SOURCE_BATCH_BYTES + SOURCE_ALIGN);
	if (c->frame == NULL || c->memory == NULL) {
		return -ENOMEM;
	}
	c->batch = c->memory + (SOURCE_ALIGN - (uintptr_t)c->memory % SOURCE_ALIGN);
	if (source_coding(s) != STREAM_CODING_RAW) {
		c->packed = gw_malloc(SOURCE_BATCH_BYTES);
		return c->packed == NULL ? -ENOMEM : pack_create(source_coding(s), &c->pack);
	}
	return 0;
}

void source_conn_fini(struct source_conn *c)
{
	link_fini(&c->link);
	free(c->frame);
	free(c->memory);
	free(c->packed);
	pack_destroy(c->pack);
}

/* Wait until the capped link has room for @bytes. Returns 0; -ECANCELED. */
static int source_pace(struct source *s, uint64_t bytes)
{
	uint64_t cap = s->cfg.bandwidth_max_bytes_s;

	if (cap == 0) {
		return 0;
	}

	uint64_t cost = bytes * NS_PER_S / cap;
	uint64_t free_ns = atomic_load(&s->pace_ns);
	uint64_t from;

	do {
		uint64_t floor = clock_now_ns() - SOURCE_PACE_SLACK_NS;

		from = free_ns > floor ? free_ns : floor;
	} while (!atomic_compare_exchange_weak(&s->pace_ns, &free_ns, from + cost));
	for (;;) {
		uint64_t now = clock_now_ns();
		struct pollfd stop = {.fd = s->stop_fd, .events = POLLIN};

		if (from <= now) {
			return 0;
		}
		if (poll(&stop, 1, (int)((from - now) / NS_PER_MS) + 1) > 0) {
			return -ECANCELED;
		}
	}
}

static void source_count_wire(struct source_conn *c)
{
	atomic_fetch_add(&c->s->wire_bytes, c->link.sent_bytes - c->wire_seen);
	c->wire_seen = c->link.sent_bytes;
}

static bool source_use_pack(struct source_conn *c)
{
	uint64_t cap = c->frame->coding == STREAM_CODING_LZ4 ? STREAM_CAP_LZ4 : STREAM_CAP_ZSTD;

	return c->pack != NULL && (c->capabilities & cap) != 0 && pack_gauge_wants(&c->gauge);
}

/* Send what is in the frame, and empty it. */
static int source_flush(struct source_conn *c)
{
	struct stream_memory *m = c->frame;
	uint8_t payload[STREAM_MEMORY_PAYLOAD_MAX];
	uint64_t start = clock_now_ns();

	if (m->run_count == 0) {
		return 0;
	}
	m->data_bytes = c->data_pages * STREAM_PAGE_BYTES;
	m->coding = source_coding(c->s);

	struct iovec batch = {.iov_base = c->batch, .iov_len = m->data_bytes};
	const struct iovec *bulk = c->copies ? &batch : c->pieces;
	size_t packed = 0;

	if (m->data_bytes != 0 && source_use_pack(c)) {
		packed = pack_bytes(c->pack, c->batch, m->data_bytes, c->packed, m->data_bytes - 1);
	}
	if (packed != 0) {
		batch = (struct iovec){.iov_base = c->packed, .iov_len = packed};
	} else {
		m->coding = STREAM_CODING_RAW;
	}

	size_t bulk_bytes = packed != 0 ? packed : m->data_bytes;

	m->has_crc = (c->capabilities & STREAM_CAP_BULK_CRC) != 0 && bulk_bytes != 0;
	m->bulk_crc = m->has_crc ? crc32c(batch.iov_base, bulk_bytes) : 0;

	const struct link_out out = {
		.type = STREAM_MEMORY,
		.head = payload,
		.head_bytes = stream_memory_encode(m, payload),
		.bulk = bulk,
		.bulk_count = c->copies ? 1 : c->piece_count,
		.bulk_bytes = (uint32_t)bulk_bytes,
	};
	int err = source_pace(c->s, out.head_bytes + bulk_bytes);

	if (err == 0) {
		err = link_send(&c->link, &out);
	}
	pack_gauge_add(&c->gauge, packed != 0, m->data_bytes, clock_now_ns() - start);
	source_count_wire(c);
	c->counts.frames++;
	m->run_count = 0;
	c->data_pages = 0;
	c->piece_count = 0;
	return err;
}

/* The content of a page, that continues the last run or not. */
static void source_data_page(struct source_conn *c, uint8_t *page, bool merge)
{
	if (c->copies) {
		page_copy(c->batch + (size_t)c->data_pages * STREAM_PAGE_BYTES, page);
	} else if (merge) {
		c->pieces[c->piece_count - 1].iov_len += STREAM_PAGE_BYTES;
	} else {
		c->pieces[c->piece_count++] =
			(struct iovec){.iov_base = page, .iov_len = STREAM_PAGE_BYTES};
	}
}

/* A capped link stays smooth, and what is measured on it true, if a frame is a small part of a
 * round. */
static uint32_t source_batch_pages(const struct source *s)
{
	uint64_t pages = s->cfg.bandwidth_max_bytes_s / (NS_PER_S / SOURCE_PACE_SLACK_NS) /
	                 STREAM_PAGE_BYTES;

	if (s->cfg.bandwidth_max_bytes_s == 0 || pages > SOURCE_BATCH_PAGES) {
		return SOURCE_BATCH_PAGES;
	}
	return pages < SOURCE_BATCH_PAGES_MIN ? SOURCE_BATCH_PAGES_MIN : (uint32_t)pages;
}

/* Put a page into the frame; a full one leaves first. */
static int source_page(struct source_conn *c, uint64_t gpa, uint8_t *page)
{
	struct stream_memory *m = c->frame;
	enum stream_run_kind kind = page_is_zero(page) ? STREAM_RUN_ZERO : STREAM_RUN_DATA;
	struct stream_run *last = m->run_count != 0 ? &m->runs[m->run_count - 1] : NULL;
	bool merge = last != NULL && last->kind == kind &&
	             last->gpa + (uint64_t)last->pages * STREAM_PAGE_BYTES == gpa &&
	             last->pages < STREAM_RUN_PAGES_MAX;
	bool full = (kind == STREAM_RUN_DATA && c->data_pages == source_batch_pages(c->s)) ||
	            (!merge && c->piece_count == LINK_BULK_MAX) ||
	            (!merge && m->run_count == STREAM_RUNS_MAX);

	if (full) {
		int err = source_flush(c);

		if (err != 0) {
			return err;
		}
		merge = false;
	}
	if (kind == STREAM_RUN_DATA) {
		source_data_page(c, page, merge);
		c->data_pages++;
		c->counts.data_pages++;
	} else {
		c->counts.zero_pages++;
	}
	if (merge) {
		last->pages++;
	} else {
		m->runs[m->run_count++] = (struct stream_run){.gpa = gpa, .pages = 1, .kind = kind};
	}
	return 0;
}

/* All pages of one word of the bitmap. */
static int source_word(struct source_conn *c, uint32_t range, size_t word)
{
	const struct move_range *r = &c->s->ranges[range];
	uint64_t bits = c->s->bits[c->s->range_word[range] + word];
	/* Two ranges that touch are not one: no run crosses from one to the other. */
	int err = word == 0 ? source_flush(c) : 0;

	while (bits != 0 && err == 0) {
		uint64_t page = word * 64 + (uint64_t)__builtin_ctzll(bits);
		uint64_t at = page * STREAM_PAGE_BYTES;

		bits &= bits - 1;
		err = source_page(c, r->gpa + at, r->host + at);
	}
	return err;
}

static uint32_t source_range_of(const struct source *s, size_t word)
{
	uint32_t range = s->range_count - 1;

	while (s->range_word[range] > word) {
		range--;
	}
	return range;
}

/* Pieces of the bitmap until none is left. */
static int source_pages(struct source_conn *c)
{
	struct source *s = c->s;
	uint64_t told = 0;

	for (;;) {
		size_t word = atomic_fetch_add(&s->cursor, SOURCE_CHUNK_WORDS);

		if (word >= s->words) {
			return 0;
		}
		for (size_t end = word + SOURCE_CHUNK_WORDS; word < end && word < s->words;
		     word++) {
			if (s->bits[word] == 0) {
				continue;
			}

			uint32_t range = source_range_of(s, word);
			int err = source_word(c, range, word - s->range_word[range]);

			if (err != 0) {
				return err;
			}
		}

		uint64_t moved = c->counts.data_pages + c->counts.zero_pages;

		atomic_fetch_add(&s->moved_pages, moved - told);
		told = moved;
	}
}

/* ROUND_END, and the same figures back. */
static int source_round_end(struct source_conn *c, struct errbuf *eb)
{
	uint8_t payload[STREAM_SMALL_MAX];
	uint32_t len = stream_round_encode(&c->counts, payload);
	struct stream_round ack;
	struct stream_frame f;
	int err = link_send_small(&c->link, STREAM_ROUND_END, payload, len);

	source_count_wire(c);
	if (err == 0) {
		err = link_recv(&c->link, STREAM_SMALL_MAX, &f, eb);
	}
	if (err != 0) {
		return err;
	}
	if (f.type != STREAM_ROUND_ACK) {
		return source_peer_failed(&f, c->link.payload, eb);
	}
	err = stream_round_decode(c->link.payload, f.payload_bytes, &ack, eb);
	if (err != 0) {
		return err;
	}
	if (ack.round != c->counts.round || ack.data_pages != c->counts.data_pages ||
	    ack.zero_pages != c->counts.zero_pages || ack.frames != c->counts.frames) {
		return errbuf_set(eb, -EBADMSG,
		                  "round %u: the destination counted other pages than we sent",
		                  c->counts.round);
	}
	return 0;
}

static int source_conn_round(struct source_conn *c, uint32_t round, struct errbuf *eb)
{
	c->counts = (struct stream_round){.round = round};
	c->frame->round = round;
	c->frame->run_count = 0;
	c->data_pages = 0;
	c->piece_count = 0;

	int err = source_pages(c);

	if (err == 0) {
		err = source_flush(c);
	}
	if (err == 0) {
		err = source_round_end(c, eb);
	}
	atomic_fetch_add(&c->s->data_pages, c->counts.data_pages);
	atomic_fetch_add(&c->s->zero_pages, c->counts.zero_pages);
	return err;
}

/*
 * The peer closed in the middle of a frame of ours: it may have said why before. Only what is
 * there already is read.
 */
static void source_last_words(struct source_conn *c, struct errbuf *eb)
{
	struct stream_frame f;
	struct errbuf said = {0};

	if (transport_wait(c->link.t, -1, 0) == 1 &&
	    link_recv(&c->link, STREAM_SMALL_MAX, &f, &said) == 0 && f.type == STREAM_FAILED) {
		(void)source_peer_failed(&f, c->link.payload, &said);
		*eb = said;
	}
}

/* The connection is lost to the move. */
static void source_conn_failed(struct source_conn *c, int err, struct errbuf *why)
{
	struct source *s = c->s;

	if (why->text[0] == '\0') {
		(void)errbuf_sys(why, err, "data connection %u", c->index);
	} else {
		errbuf_prepend(why, "data connection %u", c->index);
	}
	(void)pthread_mutex_lock(&s->lock);
	if (s->conn_err == 0) {
		s->conn_err = err;
		s->conn_why = *why;
	}
	(void)pthread_mutex_unlock(&s->lock);
	source_wake(s);
}

void *source_conn_main(void *arg)
{
	struct source_conn *c = arg;
	struct source *s = c->s;
	struct errbuf eb = {0};
	uint32_t round = 0;
	int err = source_handshake(&c->link, s, c->index, &eb);
	struct stream_frame f;

	if (err == 0) {
		err = link_recv(&c->link, STREAM_SMALL_MAX, &f, &eb);
	}
	if (err == 0) {
		err = source_answer(s, &f, c->link.payload, &c->capabilities, &eb);
	}
	c->copies = c->pack != NULL || (c->capabilities & STREAM_CAP_BULK_CRC) != 0;
	(void)pthread_mutex_lock(&s->lock);
	s->conns_ready += err == 0 ? 1 : 0;
	source_wake(s);
	while (err == 0) {
		while (s->round == round && !s->quit) {
			(void)pthread_cond_wait(&s->cond, &s->lock);
		}
		if (s->quit) {
			break;
		}
		round = s->round;
		(void)pthread_mutex_unlock(&s->lock);
		err = source_conn_round(c, round, &eb);
		(void)pthread_mutex_lock(&s->lock);
		s->conns_done += err == 0 ? 1 : 0;
		source_wake(s);
	}
	(void)pthread_mutex_unlock(&s->lock);
	if (err != 0) {
		if (err == -ECONNRESET && eb.text[0] == '\0') {
			source_last_words(c, &eb);
		}
		source_conn_failed(c, err, &eb);
	}
	return NULL;
}
