/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "csv/data/csv_data.h"
#include "csv/data/data_int.h"

#define EXTENTS_DEFAULT 16384u
#define EXTENTS_MIN 64u
#define EXTENTS_MAX (1u << 22)

static struct csv_data *data_of(const struct blk *blk)
{
	/* The device was made by us, and is not const. */
	const union {
		const struct blk *from;
		struct blk *to;
	} u = {.from = blk};

	return container_of(u.to, struct csv_data, blk);
}

/* ---- errors ---- */

int data_result(int32_t res)
{
	switch (-res) {
	case ENOSPC:
		return -ENOSPC;
	case EBADE:
		return -ESTALE;
	case EROFS:
		return -EROFS;
	case ECANCELED:
		return -ECANCELED;
	default:
		return res >= 0 ? 0 : -EIO;
	}
}

/* What says nothing about the data: the way to it is gone. Errors of the medium (ENODATA), of the
 * target (EREMOTEIO) and of checksums (EILSEQ) would be the same on every other way. */
bool data_is_path_error(int32_t res)
{
	return res == -EIO || res == -ENODEV || res == -ENXIO || res == -ENOLINK ||
	       res == -ETIMEDOUT || res == -ESHUTDOWN || res == -ENOTCONN || res == -EHOSTUNREACH;
}

bool data_is_for_now(int result)
{
	return result == -EAGAIN || result == -ENOTCONN || result == -EHOSTUNREACH ||
	       result == -ETIMEDOUT;
}

int data_redirect_result(int result)
{
	return result == -ENOSPC || result == -EROFS ? result : -EIO;
}

/* ---- states ---- */

static bool data_waits_long(const struct csv_data *d)
{
	return d->waiters != 0 && d->cfg.now_ns() - d->wait_since_ns >= d->cfg.patience_ns;
}

void data_update(struct csv_data *d)
{
	enum csv_data_state state = CSV_DATA_DIRECT;
	enum csv_data_reason reason = CSV_DATA_NO_REASON;

	if (d->dead) {
		state = CSV_DATA_DEAD;
		reason = CSV_DATA_FENCED;
	} else if (d->lost && !d->cfg.ops->redirects) {
		state = CSV_DATA_PAUSED;
		reason = d->path_reason;
	} else if (data_waits_long(d)) {
		state = CSV_DATA_PAUSED;
		reason = d->wait_reason;
	} else if (d->lost) {
		state = CSV_DATA_REDIRECTED;
		reason = d->path_reason;
	}
	if (state != d->state || reason != d->reason) {
		d->state = state;
		d->reason = reason;
		d->since_ns = d->cfg.now_ns();
		d->cfg.ops->event(d->cfg.arg, state, reason);
	}
}

/* It would hang, as others do, and need not. */
static bool is_shut(const struct csv_data *d, const struct csv_data_rights *rights, uint64_t now_ns)
{
	return rights->hangs && d->cfg.ops->redirects && now_ns < rights->redirect_until_ns;
}

bool data_may(struct csv_data *d, uint64_t *now_ns)
{
	struct csv_data_rights rights = {0};

	d->cfg.ops->rights(d->cfg.arg, &rights);
	*now_ns = d->cfg.now_ns();
	if (rights.token > d->cfg.token) {
		data_die(d);
		return false;
	}
	d->until_ns = rights.until_ns;
	if (*now_ns < rights.until_ns) {
		if (is_shut(d, &rights, *now_ns)) {
			data_lose_path(d, CSV_DATA_HANG);
		}
		return true;
	}
	if (!d->cfg.ops->redirects || *now_ns >= rights.redirect_until_ns) {
		return false;
	}
	data_lose_path(d, CSV_DATA_RIGHTS); /* not on our own path */
	return true;
}

/* Is it allowed at all? A path that may not be used is not back. */
static bool may_directly(struct csv_data *d)
{
	struct csv_data_rights rights = {0};
	uint64_t now;

	d->cfg.ops->rights(d->cfg.arg, &rights);
	now = d->cfg.now_ns();
	return now < rights.until_ns && !is_shut(d, &rights, now);
}

void data_lose_path(struct csv_data *d, enum csv_data_reason why)
{
	d->probes_good = 0;
	if (d->lost) {
		return;
	}
	d->lost = true;
	d->path_reason = why;
	d->stats.path_losses++;
	data_tick_arm(d);
	data_update(d);
}

void data_die(struct csv_data *d)
{
	if (d->dead) {
		return;
	}
	d->dead = true;
	data_fail_all(d, &d->stalled, -ESTALE);
	data_fail_all(d, &d->waiting, -ESTALE);
	data_fail_all(d, &d->gated, -ESTALE);
	data_fail_all(d, &d->want_bounce, -ESTALE);
	data_fail_all(d, &d->again, -ESTALE);
	data_fail_all(d, &d->round_next, -ESTALE);
	data_update(d);
}

/* ---- the tick ---- */

static void probe_done(struct uring_op *op, int32_t res, bool more)
{
	struct csv_data *d = op->arg;

	(void)more;
	d->probing = false;
	if (res >= 0 && fault_io() != 0) {
		res = -EIO;
	}
	if (res != (int32_t)DATA_BLOCK_BYTES) {
		d->probes_good = 0;
		return;
	}
	d->probes_good++;
	/* As long as something hangs there the way is not good. */
	if (d->probes_good >= DATA_PROBES_GOOD && d->lost && list_empty(&d->flying) &&
	    may_directly(d)) {
		d->lost = false;
		data_go_all(d, &d->stalled);
		data_update(d);
	}
}

static void probe(struct csv_data *d)
{
	if (d->probing) {
		return;
	}
	d->probe = (struct uring_op){.fn = probe_done, .arg = d};
	d->probing = uring_prep_read(d->blk.ring, &d->probe, d->fd, d->probe_page, DATA_BLOCK_BYTES,
	                             d->cfg.probe_bytes) == 0;
}

static bool something_hangs(const struct csv_data *d, uint64_t now)
{
	struct list *first = list_first(&d->flying);

	return first != NULL &&
	       now - list_entry(first, struct data_req, link)->began_ns >= d->cfg.hang_ns;
}

static void look_for_hangs(struct csv_data *d, uint64_t now)
{
	if (something_hangs(d, now)) {
		data_lose_path(d, CSV_DATA_HANG);
	}
}

static void end_of_patience(struct csv_data *d, uint64_t now)
{
	struct list keep;

	list_init(&keep);
	for (struct list *link = list_pop(&d->stalled); link != NULL;
	     link = list_pop(&d->stalled)) {
		struct data_req *r = list_entry(link, struct data_req, link);

		if (now - r->wait_ns >= d->cfg.pause_ns) {
			data_finish(d, r, -EIO);
		} else {
			list_add_tail(&keep, &r->link);
		}
	}
	list_splice_tail(&d->stalled, &keep);
}

void data_tick(struct csv_data *d)
{
	uint64_t now = d->cfg.now_ns();

	look_for_hangs(d, now);
	end_of_patience(d, now);
	if (d->lost && !d->dead) {
		probe(d);
	}
	data_go_all(d, &d->stalled);
	d->round_failed = false;
	if (d->recall) {
		data_kick(d);
	}
	data_update(d);
}

static void ticked(struct uring_op *op, int32_t res, bool more)
{
	struct csv_data *d = op->arg;

	(void)more;
	d->ticking = false;
	if (d->closing) {
		return;
	}
	if (res != -EAGAIN) { /* else the queue was full: only the timer again */
		data_tick(d);
	}
	if (!list_empty(&d->flying) || !list_empty(&d->stalled) || d->recall ||
	    (d->lost && !d->dead)) {
		data_tick_arm(d);
	}
}

void data_tick_arm(struct csv_data *d)
{
	if (d->ticking || d->closing) {
		return;
	}
	d->ticking = true;
	d->tick = (struct uring_op){.fn = ticked, .arg = d};
	d->tick_queued = uring_prep_timeout(d->blk.ring, &d->tick, d->cfg.tick_ns) != 0;
	if (d->tick_queued) {
		uring_defer(d->blk.ring, &d->tick, -EAGAIN);
	}
}

void csv_data_kick(struct blk *blk)
{
	struct csv_data *d = data_of(blk);

	data_go_all(d, &d->stalled);
	data_update(d);
}

/* ---- recall ---- */

static bool asks_under_way(const struct csv_data *d)
{
	for (uint32_t i = 0; i < DATA_LAYOUT_ASKS; i++) {
		if (d->layout_busy[i]) {
			return true;
		}
	}
	return false;
}

void data_recall_step(struct csv_data *d)
{
	if (!d->recall || d->busy != 0 || d->round || asks_under_way(d)) {
		return;
	}
	if (d->map.bytes[DATA_FRESH] != 0 && !d->dead) {
		if (!d->round_failed) {
			d->want_round = true; /* its end comes back here */
			data_kick(d);
		}
		return;
	}
	if (data_map_drop(&d->map, d->recall_from, d->recall_to) != 0) {
		data_map_evict(&d->map, true); /* no room to split one: forget what can be */
		if (data_map_drop(&d->map, d->recall_from, d->recall_to) != 0) {
			CHECK(data_map_drop(&d->map, 0, UINT64_MAX) == 0);
		}
	}
	d->recall = false;
	d->recall_fn(d->recall_arg);
	data_go_all(d, &d->gated);
}

int csv_data_recall(struct blk *blk, uint64_t from_bytes, uint64_t to_bytes, void (*fn)(void *arg),
                    void *arg)
{
	struct csv_data *d = data_of(blk);

	if (d->recall) {
		return -EBUSY;
	}
	d->recall = true;
	d->recall_from = from_bytes;
	d->recall_to = to_bytes;
	d->recall_fn = fn;
	d->recall_arg = arg;
	/* Those in a list are not in flight: they wait here from now on. */
	list_splice_tail(&d->gated, &d->waiting);
	d->round_failed = false;
	data_kick(d);
	data_tick_arm(d);
	return 0;
}

void csv_data_written(const struct blk *blk, uint64_t from_bytes, uint64_t to_bytes,
                      bool (*fn)(void *arg, uint64_t file_bytes, uint64_t device_bytes,
                                 uint64_t len_bytes),
                      void *arg)
{
	const struct data_map *m = &data_of(blk)->map;

	for (uint32_t i = 0; i < m->count; i++) {
		const struct data_extent *e = &m->at[i];

		if (e->file >= to_bytes) {
			break;
		}
		if (e->kind == DATA_WRITTEN && e->file + e->len > from_bytes &&
		    !fn(arg, e->file, e->device, e->len)) {
			break;
		}
	}
}

uint32_t csv_data_align(const struct blk *blk)
{
	return data_of(blk)->mem_align;
}

/* ---- the device ---- */

static void data_info(const struct blk *blk, struct blk_info *out)
{
	const struct csv_data *d = data_of(blk);

	*out = (struct blk_info){
		.size_bytes = d->size_bytes,
		.logical_bytes = d->logical_bytes,
		.physical_bytes = DATA_BLOCK_BYTES,
		.can_resize = !d->cfg.read_only,
		.read_only = d->cfg.read_only,
		.driver = "csv",
	};
}

static void data_run(struct csv_data *d)
{
	CHECK(uring_wait(d->blk.ring, UINT64_MAX) >= 0);
}

static int data_close(struct blk *blk, struct errbuf *eb)
{
	struct csv_data *d = data_of(blk);
	int err = 0;

	/* What a guest wrote and did not flush. One try: nobody waits for it. */
	while (d->round || d->recall || d->kicked || asks_under_way(d)) {
		data_run(d);
	}
	if (d->map.bytes[DATA_FRESH] != 0 && !d->dead) {
		d->want_round = true;
		data_kick(d);
		while (d->round || d->kicked) {
			data_run(d);
		}
		if (d->map.bytes[DATA_FRESH] != 0) {
			err = errbuf_set(eb, -EIO, "csv: what was written last could not be saved");
		}
	}
	d->closing = true;
	while (d->ticking && !d->tick_queued && uring_cancel(blk->ring, &d->tick) != 0) {
		data_run(d);
	}
	while (d->ticking || d->probing || d->kicked || d->busy != 0) {
		data_run(d);
	}
	(void)close(d->fd);
	free(d->map.at);
	free(d->memory);
	free(d);
	return err;
}

bool csv_data_idle(const struct blk *blk)
{
	const struct csv_data *d = data_of(blk);

	return !d->round && !d->recall && !d->kicked && !asks_under_way(d) && !d->probing &&
	       d->busy == 0;
}

static const struct blk_ops data_blk_ops = {
	.name = "csv",
	.submit = data_submit,
	.info = data_info,
	.close = data_close,
};

void csv_data_answer(struct csv_data_ask *ask, int result, const struct csv_layout_lease *lease)
{
	struct csv_data *d = ask->data;

	if (ask == &d->round_ask) {
		data_round_answer(d, result);
		return;
	}
	if (ask->what == CSV_DATA_LAYOUT) {
		data_layout_done(d, ask, result, lease);
		return;
	}
	for (uint32_t i = 0; i < DATA_FILLS; i++) {
		if (ask == &d->fills[i].ask) {
			data_fill_done(d, &d->fills[i], result, false);
			return;
		}
	}

	struct data_req *r = container_of(ask, struct data_req, ask);

	if (ask->what == CSV_DATA_RESIZE) {
		data_resize_done(d, r, result);
	} else {
		data_redirect_done(d, r, result);
	}
}

void csv_data_get_stats(const struct blk *blk, struct csv_data_stats *out)
{
	const struct csv_data *d = data_of(blk);

	CHECK(blk->ops == &data_blk_ops);
	*out = d->stats;
	out->state = d->state;
	out->reason = d->reason;
	out->since_ns = d->since_ns;
	out->in_flight = d->direct_busy;
	out->elsewhere = d->busy - d->direct_busy + (d->round && !d->round_direct ? 1 : 0);
	out->extents = d->map.count;
	out->fresh_bytes = d->map.bytes[DATA_FRESH] + d->map.bytes[DATA_TURNING];
	out->waiting = d->waiters;
	out->hangs = something_hangs(d, d->cfg.now_ns());
}

/* ---- open ---- */

/* Direct I/O, and what it wants of memory and offsets. */
static int data_probe(struct csv_data *d, struct errbuf *eb)
{
	struct stat st;
	struct statx sx;
	int flags = fcntl(d->fd, F_GETFL);
	uint32_t unit = 1;
	int sector = 0;

	if (flags < 0 || fstat(d->fd, &st) != 0) {
		return errbuf_sys(eb, -errno, "descriptor %d", d->fd);
	}
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) {
		return errbuf_set(eb, -EINVAL, "neither a block device nor a file");
	}
	d->mem_align = 1;
	if (fcntl(d->fd, F_SETFL, (flags | O_DIRECT) & ~O_NONBLOCK) == 0) {
		d->mem_align = DATA_BLOCK_BYTES;
		unit = DATA_BLOCK_BYTES;
		if (statx(d->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &sx) == 0 &&
		    (sx.stx_mask & STATX_DIOALIGN) != 0 && sx.stx_dio_offset_align != 0) {
			unit = sx.stx_dio_offset_align;
			d->mem_align = sx.stx_dio_mem_align > unit ? sx.stx_dio_mem_align : unit;
		} else if (ioctl(d->fd, BLKSSZGET, &sector) == 0) {
			unit = (uint32_t)sector;
			d->mem_align = unit;
		}
	}
	d->logical_bytes = d->cfg.logical_bytes;
	if (d->logical_bytes == 0) {
		d->logical_bytes = unit <= 512 ? 512 : DATA_BLOCK_BYTES;
	}
	if (d->logical_bytes < unit || d->mem_align > DATA_BLOCK_BYTES) {
		return errbuf_set(eb, -EINVAL, "sectors of %u bytes on storage that has %u",
		                  d->logical_bytes, unit);
	}
	return 0;
}

static int data_check(const struct csv_data_cfg *cfg, struct errbuf *eb)
{
	uint32_t unit = cfg->logical_bytes == 0 ? 512 : cfg->logical_bytes;

	CHECK(cfg->ops->ask != NULL && cfg->ops->rights != NULL && cfg->ops->event != NULL);
	if ((unit != 512 && unit != DATA_BLOCK_BYTES) || cfg->size_bytes % unit != 0 ||
	    cfg->size_bytes > INT64_MAX) {
		return errbuf_set(eb, -EINVAL, "%llu bytes are no whole sectors of 512 or 4096",
		                  (unsigned long long)cfg->size_bytes);
	}
	if (cfg->extents_max != 0 &&
	    (cfg->extents_max < EXTENTS_MIN || cfg->extents_max > EXTENTS_MAX)) {
		return errbuf_set(eb, -EINVAL, "%u extents: %u to %u", cfg->extents_max,
		                  EXTENTS_MIN, EXTENTS_MAX);
	}
	return 0;
}

static void data_defaults(struct csv_data_cfg *cfg)
{
	cfg->extents_max = cfg->extents_max != 0 ? cfg->extents_max : EXTENTS_DEFAULT;
	cfg->ahead_bytes = cfg->ahead_bytes != 0 ? cfg->ahead_bytes : 64ull << 20;
	cfg->hang_ns = cfg->hang_ns != 0 ? cfg->hang_ns : 2 * NS_PER_S;
	cfg->patience_ns = cfg->patience_ns != 0 ? cfg->patience_ns : NS_PER_S;
	cfg->pause_ns = cfg->pause_ns != 0 ? cfg->pause_ns : 1800 * NS_PER_S;
	cfg->tick_ns = cfg->tick_ns != 0 ? cfg->tick_ns : 250 * NS_PER_MS;
	cfg->now_ns = cfg->now_ns != NULL ? cfg->now_ns : clock_boot_ns;
}

static int data_alloc(struct csv_data *d)
{
	size_t bytes = 3 * (size_t)DATA_BLOCK_BYTES + (size_t)DATA_BOUNCE_COUNT * DATA_BOUNCE_BYTES;
	uint8_t *at;

	d->map.max = d->cfg.extents_max;
	d->map.at = gw_calloc(d->map.max, sizeof(d->map.at[0]));
	d->memory = gw_calloc(1, bytes);
	if (d->map.at == NULL || d->memory == NULL) {
		return -ENOMEM;
	}
	at = d->memory + (DATA_BLOCK_BYTES - (uintptr_t)d->memory % DATA_BLOCK_BYTES);
	d->zero_page = at;
	d->probe_page = at + DATA_BLOCK_BYTES;
	at += 2 * (size_t)DATA_BLOCK_BYTES;
	for (uint32_t i = 0; i < DATA_BOUNCE_COUNT; i++) {
		d->bounce_free[i] = at + (size_t)i * DATA_BOUNCE_BYTES;
	}
	d->bounce_count = DATA_BOUNCE_COUNT;
	for (uint32_t i = 0; i < DATA_ZERO_IOVS; i++) {
		d->zero_iov[i] = (struct iovec){d->zero_page, DATA_BLOCK_BYTES};
	}
	return 0;
}

static void data_init(struct csv_data *d, struct uring *ring)
{
	struct list *lists[] = {&d->flying, &d->again,       &d->stalled,   &d->waiting,
	                        &d->gated,  &d->want_bounce, &d->round_now, &d->round_next};

	blk_init(&d->blk, &data_blk_ops, ring);
	for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
		list_init(lists[i]);
	}
	d->kick = (struct uring_op){.fn = data_kicked, .arg = d};
	d->size_bytes = d->cfg.size_bytes;
	d->next_id = 1;
	d->since_ns = d->cfg.now_ns();
}

int csv_data_open(const struct csv_data_cfg *cfg, struct uring *ring, struct blk **out,
                  struct errbuf *eb)
{
	struct csv_data *d;
	int err = data_check(cfg, eb);

	*out = NULL;
	if (err != 0) {
		errbuf_prepend(eb, "csv");
		return err;
	}
	d = gw_calloc(1, sizeof(*d));
	if (d == NULL) {
		return errbuf_set(eb, -ENOMEM, "csv: out of memory");
	}
	d->cfg = *cfg;
	data_defaults(&d->cfg);
	d->fd = cfg->fd;
	err = data_probe(d, eb);
	if (err == 0) {
		err = data_alloc(d);
		if (err != 0) {
			(void)errbuf_set(eb, err, "out of memory");
		}
	}
	if (err != 0) {
		errbuf_prepend(eb, "csv");
		free(d->map.at);
		free(d->memory);
		free(d);
		return err;
	}
	data_init(d, ring);
	*out = &d->blk;
	return 0;
}

const char *csv_data_state_name(enum csv_data_state state)
{
	static const char *const names[] = {"direct", "redirected", "paused", "dead"};

	return (uint32_t)state < ARRAY_LEN(names) ? names[state] : "?";
}

const char *csv_data_reason_name(enum csv_data_reason reason)
{
	static const char *const names[] = {"none", "path", "hang", "rights", "meta", "fenced"};

	return (uint32_t)reason < ARRAY_LEN(names) ? names[reason] : "?";
}
