/* SPDX-License-Identifier: Apache-2.0 */

/*
 * target_fill - the guest's memory, faulted in by threads of its own ahead of what arrives.
 *
 * Memory is divided into pieces of 2 MiB, so that a huge page is one, and pieces are filled in
 * order, each by one thread. TARGET_FILL_ALL fills all of them from the start.
 * TARGET_FILL_AHEAD follows the first round: it fills up to FILL_AHEAD pieces past the furthest
 * page of content so far, but only as long as the pieces behind were (nearly) full of content; so
 * what a guest has left zero costs no more than that. Whoever is faster, the filler or the
 * connection, does it: faulting in a page that is there is harmless, and never changes it.
 *
 * Memory that cannot be had is found out by the connection that needs it; only for
 * TARGET_FILL_ALL it is an error of its own.
 */

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/errbuf.h"
#include "base/fault.h"
#include "migrate/target/target_int.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

#define FILL_PIECE_PAGES 512u /* 2 MiB */
#define FILL_PIECE_WORDS (FILL_PIECE_PAGES / 64)
#define FILL_FIRST 4u  /* pieces past the front: closer ones are under way */
#define FILL_AHEAD 32u /* pieces: 64 MiB are soon enough */
#define FILL_BACK 4u   /* pieces behind the front that are complete */
#define FILL_FULL_PAGES (FILL_PIECE_PAGES * 3 / 4) /* of content: worth going on */

bool target_fault_in(struct target *t, uint8_t *host, size_t len_bytes)
{
	if (atomic_load_explicit(&t->populate_fails, memory_order_relaxed)) {
		return false;
	}
	if (madvise(host, len_bytes, MADV_POPULATE_WRITE) == 0) {
		return true;
	}
	if (errno == EINVAL) { /* the kernel does not know it */
		atomic_store(&t->populate_fails, true);
	}
	return false;
}

/* The range that piece @piece is of. */
static uint32_t fill_range(const struct target *t, uint64_t piece)
{
	uint32_t range = t->range_count - 1;

	while (t->fill.first[range] > piece) {
		range--;
	}
	return range;
}

/* How much of a piece holds content that came. */
static uint64_t fill_content(const struct target *t, uint64_t piece)
{
	uint32_t range = fill_range(t, piece);
	size_t word = t->range_word[range] + (piece - t->fill.first[range]) * FILL_PIECE_WORDS;
	size_t end = range + 1 < t->range_count ? t->range_word[range + 1] : t->words;
	uint64_t pages = 0;

	for (size_t i = 0; i < FILL_PIECE_WORDS && word + i < end; i++) {
		uint64_t bits = __atomic_load_n(&t->written[word + i], __ATOMIC_RELAXED);

		pages += (uint64_t)__builtin_popcountll(bits);
	}
	return pages;
}

bool target_filled(const struct target *t, uint32_t range, uint64_t page, uint32_t pages)
{
	uint64_t piece = t->fill.first[range] + page / FILL_PIECE_PAGES;
	uint64_t last = t->fill.first[range] + (page + pages - 1) / FILL_PIECE_PAGES;

	for (; piece <= last; piece++) {
		if (!atomic_load_explicit(&t->fill.done[piece], memory_order_relaxed)) {
			return false;
		}
	}
	return true;
}

/* The front moved: how far may be filled? fill.lock is held. */
static void fill_allow_locked(struct target *t)
{
	struct target_fill_state *f = &t->fill;

	if (f->front < FILL_BACK || fill_content(t, f->front - FILL_BACK) < FILL_FULL_PAGES) {
		f->limit = 0;
		return;
	}
	if (f->next < f->front + FILL_FIRST) {
		f->next = f->front + FILL_FIRST;
	}
	f->limit = f->front + FILL_AHEAD < f->count ? f->front + FILL_AHEAD : f->count;
	if (f->next < f->limit) {
		(void)pthread_cond_broadcast(&f->cond);
	}
}

void target_fill_front(struct target *t, uint32_t range, uint64_t page)
{
	struct target_fill_state *f = &t->fill;
	uint64_t piece = f->first[range] + page / FILL_PIECE_PAGES;

	if (t->cfg.fill != TARGET_FILL_AHEAD ||
	    piece <= atomic_load_explicit(&f->seen, memory_order_relaxed)) {
		return;
	}
	(void)pthread_mutex_lock(&f->lock);
	if (piece > f->front) {
		f->front = piece;
		atomic_store_explicit(&f->seen, piece, memory_order_relaxed);
		fill_allow_locked(t);
	}
	(void)pthread_mutex_unlock(&f->lock);
}

static bool fill_piece(struct target *t, uint64_t piece)
{
	uint32_t range = fill_range(t, piece);
	const struct move_range *r = &t->ranges[range];
	uint64_t at = (piece - t->fill.first[range]) * FILL_PIECE_PAGES * STREAM_PAGE_BYTES;
	uint64_t len = (uint64_t)FILL_PIECE_PAGES * STREAM_PAGE_BYTES;

	if (len > r->len_bytes - at) {
		len = r->len_bytes - at;
	}
	if (!target_fault_in(t, r->host + at, len)) {
		return false;
	}
	atomic_store_explicit(&t->fill.done[piece], true, memory_order_relaxed);
	if (atomic_fetch_add(&t->fill.bytes, len) + len == t->memory_pages * STREAM_PAGE_BYTES) {
		target_wake(t);
	}
	return true;
}

bool target_fill_over(struct target *t)
{
	return atomic_load(&t->fill.failed) ||
	       atomic_load(&t->fill.bytes) == t->memory_pages * STREAM_PAGE_BYTES;
}

int target_fill_result(struct target *t, struct errbuf *eb)
{
	/* A kernel that does not know how has not said that there is no memory. */
	if (!atomic_load(&t->fill.failed) || atomic_load(&t->populate_fails)) {
		return 0;
	}
	(void)errbuf_set(eb, -ENOMEM, "there is no memory for the whole guest");
	errbuf_hint(eb, "Free memory on the destination, or do not ask it to take all of it in "
	                "advance.");
	return -ENOMEM;
}

static void *fill_main(void *arg)
{
	struct target *t = arg;
	struct target_fill_state *f = &t->fill;

	(void)pthread_mutex_lock(&f->lock);
	while (!f->quit) {
		if (f->next >= f->limit) {
			(void)pthread_cond_wait(&f->cond, &f->lock);
			continue;
		}

		uint64_t piece = f->next++;

		(void)pthread_mutex_unlock(&f->lock);

		bool filled = fill_piece(t, piece);

		(void)pthread_mutex_lock(&f->lock);
		if (!filled) {
			f->quit = true;
			(void)pthread_cond_broadcast(&f->cond);
			atomic_store(&f->failed, true);
			target_wake(t);
		}
	}
	(void)pthread_mutex_unlock(&f->lock);
	return NULL;
}

/* Connections need processors too; before they come there are none. */
static uint32_t fill_threads(const struct target_cfg *cfg)
{
	uint32_t cpus = 1;
	cpu_set_t set;

	if (cfg->fill == TARGET_FILL_NONE || cfg->fill_threads != 0) {
		return cfg->fill == TARGET_FILL_NONE ? 0 : cfg->fill_threads;
	}
	if (sched_getaffinity(0, sizeof(set), &set) == 0) {
		cpus = (uint32_t)CPU_COUNT(&set);
	}
	if (cfg->fill == TARGET_FILL_AHEAD) {
		cpus = (cpus + 3) / 4;
	}
	return cpus < TARGET_FILL_THREADS_MAX ? cpus : TARGET_FILL_THREADS_MAX;
}

int target_fill_start(struct target *t, struct errbuf *eb)
{
	struct target_fill_state *f = &t->fill;

	for (uint32_t i = 0; i < t->range_count; i++) {
		uint64_t pages = t->ranges[i].len_bytes / STREAM_PAGE_BYTES;

		f->first[i] = f->count;
		f->count += (pages + FILL_PIECE_PAGES - 1) / FILL_PIECE_PAGES;
	}
	f->done = gw_calloc(f->count, sizeof(f->done[0]));
	if (f->done == NULL) {
		return errbuf_sys(eb, -ENOMEM, "move");
	}
	f->limit = t->cfg.fill == TARGET_FILL_ALL ? f->count : 0;

	uint32_t threads = fill_threads(&t->cfg);

	while (f->started < threads) {
		int err = -pthread_create(&f->threads[f->started], NULL, fill_main, t);

		if (err != 0) {
			return errbuf_sys(eb, err, "move: threads");
		}
		f->started++;
	}
	return 0;
}

void target_fill_stop(struct target *t)
{
	struct target_fill_state *f = &t->fill;

	(void)pthread_mutex_lock(&f->lock);
	f->quit = true;
	(void)pthread_cond_broadcast(&f->cond);
	(void)pthread_mutex_unlock(&f->lock);
}

void target_fill_end(struct target *t)
{
	struct target_fill_state *f = &t->fill;

	target_fill_stop(t);
	while (f->started != 0) {
		(void)pthread_join(f->threads[--f->started], NULL);
	}
}
