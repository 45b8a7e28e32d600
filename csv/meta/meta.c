/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/fault.h"
#include "csv/meta/meta_int.h"

#define OPEN_DEFAULT 4096u

void meta_fail(struct csv_meta *m, int err, const char *what, uint64_t block)
{
	if (m->phase != PHASE_FAILED) {
		errbuf_set(&m->eb, err, "%s (block %llu) failed", what, (unsigned long long)block);
		m->phase = PHASE_FAILED;
		m->error = err;
	}
}

void meta_io(struct csv_meta *m, uint32_t id, const struct csv_io *io,
             void (*done)(struct csv_meta *m, uint32_t id, int result))
{
	struct io_slot *slot = &m->io[id];

	CHECK(slot->state == IO_FREE);
	CHECK(io->op == CSV_IO_READ || !m->read_only);
	slot->state = IO_QUEUED;
	slot->io = *io;
	slot->io.id = id;
	slot->done = done;
}

void csv_meta_io_done(struct csv_meta *m, uint32_t id, int result)
{
	CHECK(id < CSV_META_IO_MAX && m->io[id].state == IO_ISSUED);
	m->io[id].state = IO_FREE;
	if (m->phase != PHASE_FAILED) {
		m->io[id].done(m, id, result);
	}
}

static bool io_busy(const struct csv_meta *m)
{
	for (uint32_t i = 0; i < CSV_META_IO_MAX; i++) {
		if (m->io[i].state != IO_FREE) {
			return true;
		}
	}
	return false;
}

static void finish(struct csv_meta *m, struct csv_op *op)
{
	list_del(&op->link);
	m->stats.ops++;
	if (op->type == CSV_OP_REAP) {
		m->reap_busy = false;
		if (op->result != 0) {
			m->reap_more = false; /* until something new is pending */
			m->read_error = m->reap_ino != 0 ? op->result : 0;
		}
		m->reap_ino = 0;
	}
	/* Not before what it did, or saw, is durable. */
	struct list *to = m->running_count != 0      ? &m->waiting
	                  : m->commit != COMMIT_IDLE ? &m->committing
	                                             : &m->done;

	list_add_tail(op->type == CSV_OP_REAP ? &m->reap_list : to, &op->link);
}

/* Carry out the first of the queue. Returns false if it cannot go on now. */
static bool step(struct csv_meta *m, struct csv_op *op)
{
	if (m->read_error != 0) {
		op->result = m->read_error;
		m->read_error = 0;
		finish(m, op);
		return true;
	}
	if (m->running_count + OP_TOUCH_MAX > CSV_TXN_BLOCKS_MAX) {
		return false; /* the transaction is full: after the next commit */
	}
	m->epoch++;
	m->privileged = false;
	op->result = once_begin(m, op);
	if (op->result == 0 && !op->repeated) {
		op->result = op_run(m, op);
	}
	if (op->result == -EAGAIN) {
		cache_undo(m);
		m->stats.restarts++;
		cache_read(m);
		return false;
	}
	if (op->result != 0) {
		cache_undo(m);
	} else {
		cache_keep(m);
	}
	if (op->result == -EINPROGRESS) {
		return true; /* reap_ino comes first */
	}
	finish(m, op);
	return true;
}

static void reap_next(struct csv_meta *m)
{
	if (m->reap_busy || m->read_only) {
		return;
	}
	m->reap_busy = true;
	list_del(&m->reap_op.link);
	m->reap_op.type = CSV_OP_REAP;
	m->reap_op.ino = m->reap_ino;
	list_add_head(&m->queue, &m->reap_op.link);
}

static void execute(struct csv_meta *m)
{
	while (!m->reading && m->phase != PHASE_FAILED) {
		if ((m->reap_ino != 0 && m->read_error == 0) ||
		    (list_empty(&m->queue) && m->reap && m->reap_more && m->phase == PHASE_READY)) {
			reap_next(m);
		}
		if (list_empty(&m->queue)) {
			break;
		}
		if (!step(m, list_entry(m->queue.next, struct csv_op, link))) {
			break;
		}
	}
}

static void fail_all(struct csv_meta *m)
{
	struct list *from[] = {&m->committing, &m->waiting, &m->queue};

	for (uint32_t i = 0; i < ARRAY_LEN(from); i++) {
		while (!list_empty(from[i])) {
			struct csv_op *op = list_entry(from[i]->next, struct csv_op, link);

			list_del(&op->link);
			op->result = m->error;
			if (op->type != CSV_OP_REAP) {
				list_add_tail(&m->done, &op->link);
			}
		}
	}
}

static void pump(struct csv_meta *m)
{
	while (m->phase < PHASE_READY && (m->phase == PHASE_PLACE || !io_busy(m))) {
		open_run(m);
		if (m->phase == PHASE_PLACE && io_busy(m)) {
			break;
		}
	}
	if (m->phase == PHASE_READY || m->phase == PHASE_CLOSING) {
		execute(m);
		commit_run(m);
		execute(m); /* the next transaction collects */
		place_run(m);
		if (m->phase == PHASE_CLOSING && !io_busy(m) && list_empty(&m->queue) &&
		    m->running_count == 0 && (m->read_only || !m->quiet)) {
			m->phase = PHASE_CLOSED; /* not clean: what is held stays so */
		}
	}
	if (m->phase == PHASE_FAILED) {
		fail_all(m);
	}
}

bool csv_meta_next_io(struct csv_meta *m, struct csv_io *out)
{
	pump(m);
	for (uint32_t i = 0; i < CSV_META_IO_MAX && m->phase != PHASE_FAILED; i++) {
		if (m->io[i].state == IO_QUEUED) {
			m->io[i].state = IO_ISSUED;
			*out = m->io[i].io;
			return true;
		}
	}
	return false;
}

void csv_meta_submit(struct csv_meta *m, struct csv_op *op)
{
	CHECK(m->phase != PHASE_CLOSING && m->phase != PHASE_CLOSED);
	op->result = -EINPROGRESS;
	op->started = false;
	list_add_tail(&m->queue, &op->link);
}

struct csv_op *csv_meta_completed(struct csv_meta *m)
{
	struct list *first = list_pop(&m->done);

	return first == NULL ? NULL : list_entry(first, struct csv_op, link);
}

void csv_meta_quiet(struct csv_meta *m)
{
	m->quiet = true;
	m->place_asked = m->place_asked || m->header.held;
}

void csv_meta_reap(struct csv_meta *m)
{
	m->reap = true;
	m->reap_more = true;
}

void csv_meta_close(struct csv_meta *m)
{
	if (m->phase == PHASE_READY) {
		m->phase = PHASE_CLOSING;
	}
}

bool csv_meta_idle(const struct csv_meta *m)
{
	return m->phase >= PHASE_READY && list_empty(&m->queue) && m->running_count == 0 &&
	       !io_busy(m) && !(m->reap && m->reap_more);
}

uint64_t csv_meta_term(const struct csv_meta *m)
{
	return m->term;
}

size_t csv_meta_memory(const struct csv_meta *m)
{
	return m->memory;
}

int csv_meta_status(const struct csv_meta *m, struct errbuf *eb)
{
	if (m->phase == PHASE_FAILED) {
		if (eb != NULL) {
			*eb = m->eb;
		}
		return m->error;
	}
	if (m->phase == PHASE_READY) {
		return 0;
	}
	return m->phase == PHASE_CLOSED ? -ESHUTDOWN : -EINPROGRESS;
}

void csv_meta_get_stats(const struct csv_meta *m, struct csv_meta_stats *out)
{
	*out = m->stats;
	out->area_used = (uint32_t)m->used;
	out->held = m->header.held;
}

static uint32_t power_of_two(uint32_t at_least)
{
	uint32_t n = 1;

	while (n < at_least) {
		n *= 2;
	}
	return n;
}

static void *get(struct csv_meta *m, size_t count, size_t bytes)
{
	m->memory += count * bytes;
	return gw_calloc(count, bytes);
}

/* Everything that is ever needed. */
static int allocate(struct csv_meta *m)
{
	const struct csv_layout *l = &m->super.layout;
	uint32_t fixed = 1 + 1 + CSV_TXN_BLOCKS_MAX + PLACE_SLOTS;

	m->cblocks = get(m, m->cblocks_count, sizeof(*m->cblocks));
	m->slab = get(m, (size_t)m->cblocks_count + OP_TOUCH_MAX + fixed + 1, CSV_BLOCK_BYTES);
	m->buckets_count = power_of_two(m->cblocks_count);
	m->buckets = get(m, m->buckets_count, sizeof(struct cblock *));
	m->lives_count = (uint32_t)(2 * l->area_blocks);
	m->lives = get(m, m->lives_count, sizeof(*m->lives));
	m->live_buckets_count = power_of_two(m->lives_count);
	m->live_buckets = get(m, m->live_buckets_count, sizeof(uint32_t));
	m->pins = get(m, m->pins_max, sizeof(*m->pins));
	m->units.free = get(m, l->unit_map_blocks, sizeof(uint16_t));
	m->pool.free = get(m, l->pool_map_blocks, sizeof(uint16_t));
	if (m->cblocks == NULL || m->slab == NULL || m->buckets == NULL || m->lives == NULL ||
	    m->live_buckets == NULL || m->pins == NULL || m->units.free == NULL ||
	    m->pool.free == NULL) {
		return -ENOMEM;
	}
	return 0;
}

static void divide(struct csv_meta *m)
{
	uintptr_t at =
		((uintptr_t)m->slab + CSV_BLOCK_BYTES - 1) & ~(uintptr_t)(CSV_BLOCK_BYTES - 1);
	uint8_t *p = m->slab + (at - (uintptr_t)m->slab); /* O_DIRECT likes aligned buffers */

	for (uint32_t i = 0; i < m->cblocks_count; i++, p += CSV_BLOCK_BYTES) {
		m->cblocks[i].buf = p;
		list_add_tail(&m->unused, &m->cblocks[i].lru);
	}
	for (uint32_t i = 0; i < OP_TOUCH_MAX; i++, p += CSV_BLOCK_BYTES) {
		m->undo[i].before = p;
	}
	m->header_buf = p;
	m->commit_buf = p + CSV_BLOCK_BYTES;
	m->place_buf = m->commit_buf + (size_t)(1 + CSV_TXN_BLOCKS_MAX) * CSV_BLOCK_BYTES;
	for (uint32_t i = 0; i < m->live_buckets_count; i++) {
		m->live_buckets[i] = NONE;
	}
	for (uint32_t i = 0; i < m->lives_count; i++) {
		m->lives[i].next = i + 1 < m->lives_count ? i + 1 : NONE;
	}
	m->lives_free = 0;
}

int csv_meta_create(const struct csv_meta_cfg *cfg, struct csv_meta **out, struct errbuf *eb)
{
	const struct csv_layout *l = &cfg->super->layout;

	*out = NULL;
	if ((cfg->cache_blocks != 0 && cfg->cache_blocks < CSV_META_CACHE_MIN) ||
	    cfg->open_max > CSV_META_OPEN_MAX) {
		return errbuf_set(eb, -EINVAL, "csv: sizes of cache or table of open files");
	}

	struct csv_meta *m = gw_calloc(1, sizeof(*m));

	if (m == NULL) {
		return errbuf_sys(eb, -ENOMEM, "csv");
	}
	m->memory = sizeof(*m);
	m->super = *cfg->super;
	m->term = cfg->term;
	m->quiet = cfg->quiet;
	m->read_only = cfg->read_only;
	m->journal_only = cfg->journal_only;
	m->cblocks_count = cfg->cache_blocks != 0 ? cfg->cache_blocks : CSV_META_CACHE_MIN;
	m->pins_max = cfg->open_max != 0 ? cfg->open_max : OPEN_DEFAULT;
	m->units = (struct map_info){
		.type = CSV_UNIT_MAP, .at = l->unit_map_at, .blocks = (uint32_t)l->unit_map_blocks};
	m->pool = (struct map_info){
		.type = CSV_POOL_MAP, .at = l->pool_map_at, .blocks = (uint32_t)l->pool_map_blocks};
	m->phase = PHASE_HEADERS_A;

	struct list *lists[] = {&m->queue,  &m->waiting, &m->committing, &m->done,        &m->lru,
	                        &m->unused, &m->running, &m->reap_list,  &m->reap_op.link};

	for (uint32_t i = 0; i < ARRAY_LEN(lists); i++) {
		list_init(lists[i]);
	}
	if (allocate(m) != 0) {
		csv_meta_destroy(m);
		return errbuf_sys(eb, -ENOMEM, "csv");
	}
	divide(m);
	*out = m;
	return 0;
}

void csv_meta_destroy(struct csv_meta *m)
{
	if (m == NULL) {
		return;
	}
	free(m->cblocks);
	free(m->slab);
	free(m->buckets);
	free(m->lives);
	free(m->live_buckets);
	free(m->pins);
	free(m->units.free);
	free(m->pool.free);
	free(m);
}
