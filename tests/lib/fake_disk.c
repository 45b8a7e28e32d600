/* SPDX-License-Identifier: Apache-2.0 */

/*
 * fake_disk - see fake_disk.h.
 *
 * Two arrays: `view` is what reads see, `durable` what surely survives. Everything between them is
 * in a journal: one change per write, zero, discard or resize that is in flight or completed but
 * not flushed. A change counts sector by sector (`live`): a sector is taken out when a later
 * change of it became durable by itself (FUA), because the disk cannot go back behind that.
 *
 * The order of completion is the order of the changes; a flush covers what completed before it
 * was submitted.
 */
#include "tests/lib/fake_disk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/attr.h"
#include "base/check.h"
#include "base/list.h"
#include "base/uring.h"

#define FAKE_DISK_GARBAGE 0xdb

struct change {
	struct list link; /* fake_disk.journal (completed, in order) or .flying */
	uint64_t seq;     /* of its completion; 0 = in flight */
	bool resize;
	bool settled;          /* a size that is on the medium already */
	uint64_t offset_bytes; /* or the new size */
	uint64_t len_bytes;
	uint8_t *data; /* owned: the new content */
	uint8_t *live; /* owned: per sector, may it still reach the medium? */
};

/* In blk_req.priv. */
struct fake_req {
	struct list link; /* fake_disk.queue */
	struct blk_req *req;
	struct change *change; /* owned while flying; NULL = none */
	uint64_t flush_seq;    /* a flush: covers changes up to it */
	int err;               /* it is to fail with this */
} MAY_ALIAS;
_Static_assert(sizeof(struct fake_req) <= sizeof(((struct blk_req *)0)->priv), "blk_req.priv");

struct fake_disk {
	struct blk blk;
	struct fake_disk_cfg cfg;
	uint64_t rng;
	bool closed;
	bool cut;
	uint64_t cut_at;               /* requests until the power fails; 0 = not planned */
	struct fake_disk_failure fail; /* counts down; count 0 = none planned */
	uint64_t seq;                  /* completions of changes so far */
	uint64_t counts[BLK_OP_COUNT];
	uint32_t queued;
	struct list queue;   /* struct fake_req: in flight, in order */
	struct list flying;  /* struct change: in flight */
	struct list journal; /* struct change: completed, not durable */
	struct uring_op tick;
	bool ticking;
	uint64_t capacity_bytes;
	uint64_t size_bytes;         /* view */
	uint64_t durable_size_bytes; /* durable */
	uint8_t *view;               /* owned, capacity_bytes; zero from size_bytes on */
	uint8_t *durable;            /* owned, capacity_bytes */
};

static void *must(void *ptr)
{
	CHECK(ptr != NULL);
	return ptr;
}

/* splitmix64 */
static uint64_t fake_disk_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15ull;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

static struct fake_disk *fake_disk_of(struct blk *blk)
{
	return container_of(blk, struct fake_disk, blk);
}

static struct fake_req *fake_req(struct blk_req *req)
{
	return (struct fake_req *)req->priv;
}

/* ---- changes ---- */

static void change_free(struct change *c)
{
	if (c != NULL) {
		list_del(&c->link);
		free(c->live);
		free(c->data);
		free(c);
	}
}

static uint64_t change_sectors(const struct fake_disk *d, const struct change *c)
{
	return c->len_bytes / d->cfg.logical_bytes;
}

static struct change *change_range(struct fake_disk *d, uint64_t offset_bytes, uint64_t len_bytes,
                                   int fill)
{
	struct change *c = must(calloc(1, sizeof(*c)));

	c->offset_bytes = offset_bytes;
	c->len_bytes = len_bytes;
	c->data = must(malloc(len_bytes));
	memset(c->data, fill, len_bytes);
	c->live = must(malloc(change_sectors(d, c)));
	memset(c->live, 1, change_sectors(d, c));
	list_add_tail(&d->flying, &c->link);
	return c;
}

static struct change *change_size(struct fake_disk *d, uint64_t size_bytes)
{
	struct change *c = must(calloc(1, sizeof(*c)));

	c->resize = true;
	c->offset_bytes = size_bytes;
	list_add_tail(&d->flying, &c->link);
	return c;
}

/* Write the live sectors of @c to @to, those that @rng chooses if it is not NULL. */
static void change_apply(const struct fake_disk *d, const struct change *c, uint8_t *to,
                         uint64_t *rng)
{
	uint64_t unit = d->cfg.logical_bytes;

	for (uint64_t i = 0; i < change_sectors(d, c); i++) {
		if (c->live[i] != 0 && (rng == NULL || (fake_disk_random(rng) & 1) != 0)) {
			memcpy(to + c->offset_bytes + i * unit, c->data + i * unit, unit);
		}
	}
}

static struct change *change_new(struct fake_disk *d, const struct blk_req *req)
{
	struct change *c;
	uint64_t at = 0;

	switch (req->op) {
	case BLK_WRITE:
		c = change_range(d, req->offset_bytes, req->len_bytes, 0);
		for (uint32_t i = 0; i < req->iov_count; i++) {
			memcpy(c->data + at, req->iov[i].iov_base, req->iov[i].iov_len);
			at += req->iov[i].iov_len;
		}
		return c;
	case BLK_ZERO:
		return change_range(d, req->offset_bytes, req->len_bytes, 0);
	case BLK_DISCARD:
		if (d->cfg.discard == FAKE_DISK_DISCARD_NONE) {
			return NULL;
		}
		return change_range(d, req->offset_bytes, req->len_bytes,
		                    d->cfg.discard == FAKE_DISK_DISCARD_ZERO ? 0
		                                                             : FAKE_DISK_GARBAGE);
	case BLK_RESIZE:
		return change_size(d, req->offset_bytes);
	case BLK_READ:
	case BLK_FLUSH:
	case BLK_OP_COUNT:
		break;
	}
	return NULL;
}

/* ---- the two contents ---- */

static void fake_disk_reserve(struct fake_disk *d, uint64_t bytes)
{
	uint8_t **contents[] = {&d->view, &d->durable};

	if (bytes <= d->capacity_bytes) {
		return;
	}
	for (size_t i = 0; i < ARRAY_LEN(contents); i++) {
		uint8_t *bigger = must(calloc(1, bytes));

		if (d->capacity_bytes != 0) {
			memcpy(bigger, *contents[i], d->capacity_bytes);
		}
		free(*contents[i]);
		*contents[i] = bigger;
	}
	d->capacity_bytes = bytes;
}

/* The oldest changes, up to @seq, reach the medium. */
static void fake_disk_flush_to(struct fake_disk *d, uint64_t seq)
{
	list_for_each_safe(link, &d->journal)
	{
		struct change *c = list_entry(link, struct change, link);

		if (c->seq > seq) {
			break;
		}
		if (c->settled) {
			/* nothing left of it */
		} else if (c->resize) {
			d->durable_size_bytes = c->offset_bytes;
		} else {
			change_apply(d, c, d->durable, NULL);
		}
		change_free(c);
	}
}

/* @newer is on the medium: what it replaced cannot come back. */
static void fake_disk_supersede(struct fake_disk *d, const struct change *newer)
{
	uint64_t unit = d->cfg.logical_bytes;
	uint64_t end = newer->offset_bytes + newer->len_bytes;

	list_for_each(link, &d->journal)
	{
		struct change *c = list_entry(link, struct change, link);

		for (uint64_t i = 0; i < change_sectors(d, c); i++) {
			uint64_t at = c->offset_bytes + i * unit;

			if (at >= newer->offset_bytes && at < end) {
				c->live[i] = 0;
			}
		}
	}
}

/* A change of content completes: reads see it. */
static void fake_disk_commit(struct fake_disk *d, struct change *c, bool fua)
{
	list_del(&c->link);
	c->seq = ++d->seq;
	change_apply(d, c, d->view, NULL);
	if (fua) {
		fake_disk_supersede(d, c);
		change_apply(d, c, d->durable, NULL);
		change_free(c);
		return;
	}
	list_add_tail(&d->journal, &c->link);
}

/* Sizes reach the medium in order: the last one settles all before it. */
static void fake_disk_settle_size(struct fake_disk *d)
{
	list_for_each(link, &d->journal)
	{
		struct change *c = list_entry(link, struct change, link);

		if (c->resize) {
			d->durable_size_bytes = c->offset_bytes;
			c->settled = true;
		}
	}
}

static void fake_disk_commit_size(struct fake_disk *d, struct change *c, bool fua)
{
	uint64_t old = d->size_bytes;

	list_del(&c->link);
	c->seq = ++d->seq;
	list_add_tail(&d->journal, &c->link);
	d->size_bytes = c->offset_bytes;
	fake_disk_reserve(d, d->size_bytes);
	if (fua) {
		fake_disk_settle_size(d);
	}
	if (d->size_bytes < old) { /* what comes back when it grows again is zero */
		fake_disk_commit(d, change_range(d, d->size_bytes, old - d->size_bytes, 0), fua);
	}
}

/* A change failed: some sectors may have changed all the same. */
static void fake_disk_half_commit(struct fake_disk *d, struct change *c)
{
	if (c->resize) {
		change_free(c);
		return;
	}
	for (uint64_t i = 0; i < change_sectors(d, c); i++) {
		c->live[i] = (uint8_t)(fake_disk_random(&d->rng) & 1);
	}
	fake_disk_commit(d, c, false);
}

/* ---- requests ---- */

static void fake_disk_read(const struct fake_disk *d, const struct blk_req *req)
{
	const uint8_t *from = d->view + req->offset_bytes;

	for (uint32_t i = 0; i < req->iov_count; i++) {
		memcpy(req->iov[i].iov_base, from, req->iov[i].iov_len);
		from += req->iov[i].iov_len;
	}
}

static void fake_disk_finish(struct fake_disk *d, struct fake_req *f)
{
	struct blk_req *req = f->req;
	int err = f->err;

	list_del(&f->link);
	d->queued--;
	if (d->cut) {
		err = -EIO; /* its change stays where it was: in limbo */
	} else if (err != 0) {
		if (f->change != NULL) {
			fake_disk_half_commit(d, f->change);
		}
	} else if (f->change != NULL && f->change->resize) {
		fake_disk_commit_size(d, f->change, (req->flags & BLK_FUA) != 0);
	} else if (f->change != NULL) {
		fake_disk_commit(d, f->change, (req->flags & BLK_FUA) != 0);
	} else if (req->op == BLK_READ) {
		fake_disk_read(d, req);
	} else if (req->op == BLK_FLUSH) {
		fake_disk_flush_to(d, f->flush_seq);
	}
	blk_complete(&d->blk, req, err);
}

static void fake_disk_arm(struct fake_disk *d)
{
	bool manual = d->cfg.order == FAKE_DISK_MANUAL && !d->cut;

	if (!d->ticking && d->queued != 0 && !manual) {
		d->ticking = true;
		uring_defer(d->blk.ring, &d->tick, 0);
	}
}

bool fake_disk_step(struct fake_disk *d)
{
	struct list *link = &d->queue;

	if (d->queued == 0) {
		return false;
	}
	for (uint64_t skip = fake_disk_random(&d->rng) % d->queued + 1; skip > 0; skip--) {
		link = link->next;
	}
	fake_disk_finish(d, list_entry(link, struct fake_req, link));
	return true;
}

static void fake_disk_tick(struct uring_op *op, int32_t res, bool more)
{
	struct fake_disk *d = op->arg;

	(void)res;
	(void)more;
	/* While ticking is set nothing else arms; owners may close, but destroy only later. */
	if (d->cfg.order == FAKE_DISK_SHUFFLE && !d->cut) {
		if (fake_disk_random(&d->rng) % 4 != 0) {
			(void)fake_disk_step(d);
		}
	} else {
		for (uint32_t left = d->queued; left > 0 && d->queued > 0; left--) {
			fake_disk_finish(d, list_entry(d->queue.next, struct fake_req, link));
		}
	}
	d->ticking = false;
	fake_disk_arm(d);
}

static bool fake_disk_due(uint64_t *countdown)
{
	return *countdown != 0 && --*countdown == 0;
}

static int fake_disk_plan_failure(struct fake_disk *d, enum blk_op op)
{
	if ((d->fail.ops & (1u << op)) == 0 || d->fail.count == 0) {
		return 0;
	}
	if (d->fail.nth > 1) {
		d->fail.nth--;
		return 0;
	}
	d->fail.count--;
	return d->fail.err;
}

static void fake_disk_submit(struct blk *blk, struct blk_req *req)
{
	struct fake_disk *d = fake_disk_of(blk);
	struct fake_req *f = fake_req(req);

	CHECK(!d->closed);
	if (fake_disk_due(&d->cut_at)) {
		fake_disk_cut(d);
	}
	*f = (struct fake_req){.req = req, .flush_seq = d->seq};
	if (!d->cut) {
		d->counts[req->op]++;
		f->err = fake_disk_plan_failure(d, req->op);
		f->change = change_new(d, req);
	}
	list_init(&f->link);
	list_add_tail(&d->queue, &f->link);
	d->queued++;
	fake_disk_arm(d);
}

static void fake_disk_info(const struct blk *blk, struct blk_info *out)
{
	const struct fake_disk *d = (const void *)blk; /* its first member */

	*out = (struct blk_info){
		.size_bytes = d->size_bytes,
		.logical_bytes = d->cfg.logical_bytes,
		.physical_bytes = d->cfg.physical_bytes,
		.discard_bytes =
			d->cfg.discard != FAKE_DISK_DISCARD_NONE ? d->cfg.logical_bytes : 0,
		.can_resize = d->cfg.can_resize,
		.read_only = d->cfg.read_only,
		.driver = "fake",
	};
}

static int fake_disk_close(struct blk *blk, struct errbuf *eb)
{
	(void)eb;
	fake_disk_of(blk)->closed = true;
	return 0;
}

static const struct blk_ops fake_disk_ops = {
	.name = "fake",
	.submit = fake_disk_submit,
	.info = fake_disk_info,
	.close = fake_disk_close,
};

/* ---- the test's side ---- */

struct fake_disk *fake_disk_create(const struct fake_disk_cfg *cfg, struct uring *ring)
{
	struct fake_disk *d = must(calloc(1, sizeof(*d)));

	d->cfg = *cfg;
	if (d->cfg.logical_bytes == 0) {
		d->cfg.logical_bytes = 512;
	}
	if (d->cfg.physical_bytes == 0) {
		d->cfg.physical_bytes = 4096;
	}
	CHECK(cfg->size_bytes % d->cfg.logical_bytes == 0);
	blk_init(&d->blk, &fake_disk_ops, ring);
	d->rng = cfg->seed;
	d->tick.fn = fake_disk_tick;
	d->tick.arg = d;
	list_init(&d->queue);
	list_init(&d->flying);
	list_init(&d->journal);
	fake_disk_reserve(d, cfg->size_bytes != 0 ? cfg->size_bytes : 1);
	d->size_bytes = cfg->size_bytes;
	if (cfg->image != NULL) {
		memcpy(d->view, cfg->image, cfg->size_bytes);
	}
	fake_disk_settle(d);
	return d;
}

void fake_disk_destroy(struct fake_disk *d)
{
	if (d == NULL) {
		return;
	}
	CHECK(d->queued == 0 && !d->ticking && d->blk.in_flight == 0);
	fake_disk_settle(d);
	free(d->view);
	free(d->durable);
	free(d);
}

struct blk *fake_disk_blk(struct fake_disk *d)
{
	return &d->blk;
}

bool fake_disk_is_closed(const struct fake_disk *d)
{
	return d->closed;
}

void fake_disk_fail(struct fake_disk *d, const struct fake_disk_failure *plan)
{
	CHECK(plan == NULL || (plan->err < 0 && plan->nth != 0));
	d->fail = plan != NULL ? *plan : (struct fake_disk_failure){0};
}

void fake_disk_cut_at(struct fake_disk *d, uint64_t nth)
{
	d->cut_at = nth;
}

void fake_disk_cut(struct fake_disk *d)
{
	d->cut = true;
	fake_disk_arm(d);
}

bool fake_disk_is_cut(const struct fake_disk *d)
{
	return d->cut;
}

uint8_t *fake_disk_data(struct fake_disk *d)
{
	return d->view;
}

uint64_t fake_disk_size(const struct fake_disk *d)
{
	return d->size_bytes;
}

void fake_disk_settle(struct fake_disk *d)
{
	struct list *changes[] = {&d->flying, &d->journal};

	CHECK(d->queued == 0);
	for (size_t i = 0; i < ARRAY_LEN(changes); i++) {
		list_for_each_safe(link, changes[i])
		{
			change_free(list_entry(link, struct change, link));
		}
	}
	memcpy(d->durable, d->view, d->capacity_bytes);
	d->durable_size_bytes = d->size_bytes;
}

uint64_t fake_disk_count(const struct fake_disk *d, enum blk_op op)
{
	return d->counts[op];
}

uint64_t fake_disk_requests(const struct fake_disk *d)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < BLK_OP_COUNT; i++) {
		sum += d->counts[i];
	}
	return sum;
}

uint32_t fake_disk_in_flight(const struct fake_disk *d)
{
	return d->queued;
}

/* ---- the crash ---- */

enum crash_kind {
	CRASH_NOTHING,  /* nothing unsynced survived */
	CRASH_ALL,      /* everything completed did, and what was in flight */
	CRASH_PREFIX,   /* what completed first, the last of it torn */
	CRASH_WHOLE,    /* each write whole or not, in any order */
	CRASH_SECTORS,  /* each sector or not, in any order */
	CRASH_ONE_LOST, /* all but one: the hardest to notice */
	CRASH_KIND_COUNT
};

/* All changes that may survive: completed ones in order, then those in flight. */
struct crash {
	const struct change **all; /* owned */
	size_t count;
	uint64_t room_bytes; /* where the last of them ends, at least the capacity */
};

static void crash_gather(struct crash *crash, const struct list *changes)
{
	list_for_each(link, changes)
	{
		const struct change *c = list_entry(link, struct change, link);
		uint64_t end = c->offset_bytes + c->len_bytes;

		crash->room_bytes = end > crash->room_bytes ? end : crash->room_bytes;
		crash->all = must(reallocarray(crash->all, crash->count + 1, sizeof(void *)));
		crash->all[crash->count++] = c;
	}
}

static void crash_shuffle(struct crash *crash, uint64_t *rng)
{
	const struct change **all = crash->all;

	for (size_t i = crash->count; i > 1; i--) {
		size_t j = fake_disk_random(rng) % i;
		const struct change *tmp = all[i - 1];

		all[i - 1] = all[j];
		all[j] = tmp;
	}
}

/* Sizes change in order, so some first ones of them survive. */
static uint64_t crash_size(const struct fake_disk *d, const struct crash *crash,
                           enum crash_kind kind, uint64_t *rng)
{
	const struct change **all = crash->all;
	uint64_t size = d->durable_size_bytes;

	for (size_t i = 0; i < crash->count && kind != CRASH_NOTHING; i++) {
		if (!all[i]->resize || all[i]->settled) {
			continue;
		}
		if (kind != CRASH_ALL && fake_disk_random(rng) % 3 == 0) {
			break;
		}
		size = all[i]->offset_bytes;
	}
	return size;
}

static void crash_apply(const struct fake_disk *d, const struct crash *crash, enum crash_kind kind,
                        uint64_t *rng, uint8_t *data)
{
	size_t pick = crash->count != 0 ? fake_disk_random(rng) % crash->count : 0;

	for (size_t i = 0; i < crash->count; i++) {
		const struct change *c = crash->all[i];
		bool whole = kind == CRASH_ALL || (kind == CRASH_PREFIX && i < pick) ||
		             (kind == CRASH_ONE_LOST && i != pick) ||
		             (kind == CRASH_WHOLE && (fake_disk_random(rng) & 1) != 0);
		bool torn = kind == CRASH_SECTORS || (kind == CRASH_PREFIX && i == pick);

		if (!c->resize && (whole || torn)) {
			change_apply(d, c, data, whole ? NULL : rng);
		}
	}
}

struct fake_disk_image fake_disk_crash_image(const struct fake_disk *d, uint64_t seed)
{
	uint64_t rng = seed;
	enum crash_kind kind =
		seed < 2 ? (enum crash_kind)seed
			 : (enum crash_kind)(fake_disk_random(&rng) % CRASH_KIND_COUNT);
	struct crash crash = {.room_bytes = d->capacity_bytes};
	struct fake_disk_image image = {.data = NULL};

	crash_gather(&crash, &d->journal);
	crash_gather(&crash, &d->flying);
	image.data = must(calloc(1, crash.room_bytes));
	memcpy(image.data, d->durable, d->capacity_bytes);
	image.size_bytes = crash_size(d, &crash, kind, &rng);
	if (kind == CRASH_WHOLE || kind == CRASH_SECTORS) {
		crash_shuffle(&crash, &rng);
	}
	crash_apply(d, &crash, kind, &rng, image.data);
	if (image.size_bytes < crash.room_bytes) {
		memset(image.data + image.size_bytes, 0, crash.room_bytes - image.size_bytes);
	}
	free(crash.all);
	return image;
}
