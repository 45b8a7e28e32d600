/* SPDX-License-Identifier: Apache-2.0 */

/*
 * lease - what may be done directly in a file that is open here.
 *
 * A lease is given back in this order: who does I/O of his own there ends it (direct.c), csv/data
 * forgets what it covers (what is in flight there ends, what was written is converted), then the
 * volume is told. What csv/data wants to know meanwhile it has to ask for again.
 *
 * Leases are great: who gives one back waits for all that is in flight in the file. Small ones come
 * with new blocks; the next great one has them in it, and they go.
 */
#include <errno.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/uring.h"
#include "csv/mount/mount_int.h"

#define TAG "csv-mount"
#define LEASES_HIGH 24u         /* from here on the oldest is given back */
#define PARTS 16u               /* of a file, leased as a whole each: fewer than LEASES_HIGH */
#define PART_BYTES (1ull << 30) /* at least */
#define RESERVED UINT64_MAX     /* number of a lease that is asked for */

/* ---- leases ---- */

static void recall_step(struct file *f);

void file_ask(struct file *f, struct csv_mount_ask *ask, enum csv_mount_what what,
              void (*done)(struct csv_mount_ask *ask, int result,
                           const struct csv_layout_lease *lease),
              void *arg)
{
	ask->what = what;
	ask->op.ino = f->node->ino;
	ask->op.generation = f->node->generation;
	ask->op.now_ns = clock_wall_ns();
	ask->mount = f->m;
	ask->done = done;
	ask->arg = arg;
	f->m->cfg.ops->ask(f->m->cfg.arg, ask);
}

static void returned(struct csv_mount_ask *ask, int result, const struct csv_layout_lease *none)
{
	struct file *f = ask->arg;
	struct lease *l = container_of(ask, struct lease, ask);

	(void)none;
	if (result != 0) {
		log_warn(TAG, "lease not returned volume=%s lease=%llu error=%d", f->m->cfg.name,
		         (unsigned long long)l->number, result);
	}
	l->number = 0;
	l->returning = false;
	recall_step(f);
	file_put(f);
}

static void give_back(struct file *f, struct lease *l)
{
	l->wanted = true;
	l->dropped = true;
	l->returning = true;
	memset(&l->ask, 0, sizeof(l->ask));
	l->ask.handle = l->handle;
	l->ask.lease = l->number;
	file_ask(f, &l->ask, CSV_MOUNT_RETURN, returned, f);
}

static struct lease *free_lease(struct file *f)
{
	for (uint32_t i = 0; i < MOUNT_LEASES; i++) {
		struct lease *l = &f->leases[(f->lease_next + i) % MOUNT_LEASES];

		if (l->number == 0) {
			f->lease_next = (f->lease_next + i + 1) % MOUNT_LEASES;
			return l;
		}
	}
	return NULL;
}

bool lease_held(const struct lease *l)
{
	return l->number != 0 && l->number != RESERVED && !l->dropped;
}

/* Keep some places free: who has many gives the oldest back. */
static void thin_leases(struct file *f)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < MOUNT_LEASES; i++) {
		count += f->leases[i].number != 0;
	}
	for (uint32_t i = 0; count >= LEASES_HIGH && i < MOUNT_LEASES; i++) {
		struct lease *l = &f->leases[(f->lease_next + i) % MOUNT_LEASES];

		if (lease_held(l) && !l->wanted) {
			l->wanted = true;
			break;
		}
	}
}

const struct lease *file_lease_at(const struct file *f, uint64_t at)
{
	const struct lease *best = NULL;

	for (uint32_t i = 0; i < MOUNT_LEASES; i++) {
		const struct lease *l = &f->leases[i];

		if (lease_held(l) && l->write && l->from <= at && at < l->to &&
		    (best == NULL || l->to > best->to)) {
			best = l;
		}
	}
	return best;
}

bool file_lease_find(const struct file *f, uint64_t number)
{
	for (uint32_t i = 0; i < MOUNT_LEASES; i++) {
		if (f->leases[i].number == number) {
			return true;
		}
	}
	return false;
}

void file_recall_lease(struct file *f, uint64_t number)
{
	for (uint32_t i = 0; i < MOUNT_LEASES; i++) {
		if (f->leases[i].number == number && lease_held(&f->leases[i])) {
			f->leases[i].wanted = true;
		}
	}
	recall_step(f);
}

/* Everything that was wanted is back: who waited for it goes on. */
static void wake_recallers(struct file *f)
{
	struct list ready;

	for (uint32_t i = 0; i < MOUNT_LEASES; i++) {
		if (f->leases[i].number != 0 && f->leases[i].wanted) {
			return;
		}
	}
	for (uint32_t i = 0; i < MOUNT_LAYOUTS; i++) {
		if (f->layouts[i].busy && f->layouts[i].data == NULL) {
			return;
		}
	}
	list_init(&ready);
	list_splice_tail(&ready, &f->recall_waiters);
	for (struct list *link = list_pop(&ready); link != NULL; link = list_pop(&ready)) {
		struct mreq *r = list_entry(link, struct mreq, wait);

		mount_later(r, 0, r->after_recall);
	}
}

static void recalled(void *arg)
{
	struct file *f = arg;

	f->recalling = false;
	for (uint32_t i = 0; i < MOUNT_LEASES; i++) {
		struct lease *l = &f->leases[i];

		if (lease_held(l) && l->wanted && l->from >= f->recall_from &&
		    l->to <= f->recall_to) {
			give_back(f, l);
		}
	}
	recall_step(f);
	csv_data_kick(f->blk);
}

/* csv/data has to ask again for what it asked for: an answer may have to wait for what we give
 * back. */
static void detach_layouts(struct file *f, int result)
{
	for (uint32_t i = 0; i < MOUNT_LAYOUTS; i++) {
		struct csv_data_ask *ask = f->layouts[i].data;

		if (f->layouts[i].busy && ask != NULL) {
			f->layouts[i].data = NULL;
			csv_data_answer(ask, result, NULL);
		}
	}
}

/* Nobody but csv/data knows it any more. */
static void recall_data(struct file *f)
{
	int err = csv_data_recall(f->blk, f->recall_from, f->recall_to, recalled, f);

	CHECK(err == 0);
	detach_layouts(f, -EAGAIN);
}

void file_channels_quiet(struct file *f)
{
	if (f->revoking && !direct_waits(f)) {
		f->revoking = false;
		recall_data(f);
	}
}

static void recall_step(struct file *f)
{
	uint64_t from = UINT64_MAX;
	uint64_t to = 0;

	if (f->recalling) {
		return;
	}
	for (uint32_t i = 0; i < MOUNT_LEASES; i++) {
		const struct lease *l = &f->leases[i];

		if (lease_held(l) && l->wanted) {
			from = l->from < from ? l->from : from;
			to = l->to > to ? l->to : to;
		}
	}
	if (from >= to) {
		wake_recallers(f);
		return;
	}
	f->recalling = true;
	f->recall_from = from;
	f->recall_to = to;
	/* Those who do their own I/O first: they may write what csv/data takes for quiet. */
	direct_revoke(f);
	f->revoking = direct_waits(f);
	if (!f->revoking) {
		recall_data(f);
	}
}

static void recall(struct mreq *r, uint64_t from, uint64_t to, mount_fn next)
{
	struct file *f = r->file;

	r->after_recall = next;
	for (uint32_t i = 0; i < MOUNT_LEASES; i++) {
		struct lease *l = &f->leases[i];

		if (lease_held(l) && l->locked_to > from && l->from < to) {
			l->wanted = true;
		}
	}
	list_add_tail(&f->recall_waiters, &r->wait);
	recall_step(f);
}

void file_recall(struct mreq *r, uint64_t from, uint64_t to, mount_fn next)
{
	r->refusable = false;
	recall(r, from, to, next);
}

void file_recall_or_not(struct mreq *r, uint64_t from, uint64_t to, mount_fn next)
{
	r->refusable = true;
	recall(r, from, to, next);
}

void file_recall_leave(struct mreq *r, int result)
{
	list_del(&r->wait);
	mount_later(r, result, r->after_recall);
}

static void lose(struct file *f)
{
	f->lost = true;
	direct_end_all(f);
	if (f->blk != NULL) {
		csv_data_kick(f->blk);
		detach_layouts(f, -ESTALE);
	}
	recall_step(f);
}

void file_give_up(struct file *f)
{
	lose(f);
}

void file_lose(struct file *f)
{
	f->handle = 0;
	for (uint32_t i = 0; i < MOUNT_LEASES; i++) {
		struct lease *l = &f->leases[i];

		if (l->number != RESERVED && !l->returning) {
			l->number = 0;
		}
	}
	lose(f);
	file_put(f);
}

/* ---- layouts ---- */

static void part_of(const struct file *f, uint64_t at, uint64_t *from, uint64_t *to)
{
	uint64_t size = (f->size_bytes + MOUNT_BLOCK - 1) / MOUNT_BLOCK * MOUNT_BLOCK;
	uint64_t part = PART_BYTES;

	while (part < size / PARTS) {
		part *= 2;
	}
	/* In more pieces than a lease can name, it begins where it is needed. */
	*from = f->crumbled ? at : at - at % part;
	*to = at - at % part + part;
	*to = size < *to ? size : *to;
	*to = *to > at ? *to : at + MOUNT_BLOCK;
}

static void laid_out(struct csv_mount_ask *ask, int result, const struct csv_layout_lease *lease);

/* Does it lie in another one, and be it the same? Of two that are the same one stays. */
static bool is_twice(const struct file *f, const struct lease *l)
{
	for (uint32_t i = 0; i < MOUNT_LEASES; i++) {
		const struct lease *o = &f->leases[i];
		bool same = o->from == l->from && o->to == l->to && o->write == l->write;

		if (o != l && lease_held(o) && !o->wanted && (o->write || !l->write) &&
		    o->from <= l->from && l->to <= o->to && (!same || o < l)) {
			return true;
		}
	}
	return false;
}

/* What csv/data knows of it stays: it is leased all the same. */
static void give_back_lesser(struct file *f)
{
	struct csv_data_stats s;

	csv_data_get_stats(f->blk, &s);
	if (s.state != CSV_DATA_DIRECT || s.elsewhere != 0) {
		return; /* a redirected request may have named it */
	}
	for (uint32_t i = 0; i < MOUNT_LEASES; i++) {
		struct lease *l = &f->leases[i];

		if (lease_held(l) && !l->wanted && is_twice(f, l)) {
			give_back(f, l);
		}
	}
}

/* @l is for what @x asks for. */
static void reserve(struct layout *x, struct lease *l)
{
	l->number = RESERVED;
	l->wanted = false;
	l->dropped = false;
	x->lease = l;
	x->busy = true;
}

/* The lease ends before the place that it was asked for. Returns false: no room for another one. */
static bool ask_from_there(struct file *f, struct layout *x)
{
	struct lease *l = f->recalling ? NULL : free_lease(f);

	give_back(f, x->lease); /* csv/data has not heard of it */
	if (l == NULL || x->ask.from_bytes == x->data->file_bytes) {
		return false;
	}
	reserve(x, l);
	x->ask.from_bytes = x->data->file_bytes;
	file_ask(f, &x->ask, CSV_MOUNT_LAYOUT, laid_out, NULL);
	return true;
}

int file_result(int result)
{
	switch (-result) {
	case 0:
	case EAGAIN:
	case ENOTCONN:
	case EHOSTUNREACH:
	case ETIMEDOUT:
	case ESTALE:
	case ENOSPC:
		return result;
	case EDQUOT:
		return -ENOSPC;
	case ECANCELED:
	case EMFILE: /* too many leases: it gets better */
		return -EAGAIN;
	default:
		return -EIO;
	}
}

static void laid_out(struct csv_mount_ask *ask, int result, const struct csv_layout_lease *lease)
{
	struct layout *x = container_of(ask, struct layout, ask);
	struct file *f = x->file;
	struct csv_data_ask *data = x->data;
	struct lease *l = x->lease;

	x->busy = false;
	if (result == 0 && (lease == NULL || !csv_layout_lease_valid(lease))) {
		result = -EIO;
	}
	if (result != 0) {
		l->number = 0;
	} else {
		l->number = lease->number;
		l->handle = ask->handle;
		l->from = lease->from_bytes;
		l->to = lease->to_bytes;
		l->locked_to = ask->to_bytes;
		l->write = lease->write;
		l->wanted = false;
		l->dropped = false;
		if (f->lost) {
			l->number = 0;
			result = -ESTALE;
		} else if (data == NULL) {
			give_back(f, l);
		} else if (lease->to_bytes <= data->file_bytes) {
			f->crumbled = true;
			if (ask_from_there(f, x)) {
				return;
			}
			result = -EAGAIN;
		} else {
			f->crumbled = f->crumbled || (!ask->allocate && l->to < ask->to_bytes);
		}
	}
	x->data = NULL;
	if (data != NULL) {
		csv_data_answer(data, file_result(result), result == 0 ? lease : NULL);
		if (result == 0) {
			give_back_lesser(f);
			thin_leases(f);
		}
	}
	recall_step(f);
	file_put(f);
}

void file_lay_out(struct file *f, struct csv_data_ask *data)
{
	struct layout *x = NULL;
	struct lease *l = f->recalling ? NULL : free_lease(f);
	bool allocate = data->write && (data->hole || data->file_bytes >= f->size_bytes);
	uint64_t to = data->file_bytes + data->len_bytes;
	uint64_t end;

	for (uint32_t i = 0; x == NULL && i < MOUNT_LAYOUTS; i++) {
		x = f->layouts[i].busy ? NULL : &f->layouts[i];
	}
	if (f->lost || f->handle == 0 || (data->write && !f->writes)) {
		file_refuse(f, data, -ESTALE);
		return;
	}
	if (x == NULL || l == NULL) {
		file_refuse(f, data, -EAGAIN);
		thin_leases(f);
		recall_step(f);
		return;
	}
	memset(&x->ask, 0, sizeof(x->ask));
	x->data = data;
	reserve(x, l);
	x->ask.handle = f->handle;
	if (allocate) {
		end = mount_ahead(data->file_bytes, f->size_bytes);
		f->ahead =
			f->ahead || end > (data->file_bytes / CSV_UNIT_BYTES + 1) * CSV_UNIT_BYTES;
		x->ask.from_bytes = data->file_bytes;
		x->ask.to_bytes = end < to ? end : to;
	} else {
		part_of(f, data->file_bytes, &x->ask.from_bytes, &x->ask.to_bytes);
	}
	/* csv/data takes what it knows for what it may write. */
	x->ask.write = f->writes;
	x->ask.allocate = allocate;
	file_ask(f, &x->ask, CSV_MOUNT_LAYOUT, laid_out, NULL);
}
