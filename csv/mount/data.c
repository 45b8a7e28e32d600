/* SPDX-License-Identifier: Apache-2.0 */

/*
 * data - what is open here: one device of csv/data per file, the leases that it rests on, and what
 * it asks for.
 *
 * A lease is given back in this order: csv/data forgets what it covers (what is in flight there
 * ends, what was written is converted), then the volume is told. What csv/data wants to know
 * meanwhile it has to ask for again.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/uring.h"
#include "csv/mount/mount_int.h"

#define TAG "csv-mount"
#define EXTENTS 4096u       /* remembered per file */
#define LEASES_HIGH 24u     /* from here on the oldest is given back */
#define RESERVED UINT64_MAX /* number of a lease that is asked for */
#define OUR_TOKEN (UINT64_MAX - 1)

/* ---- life ---- */

struct file *file_get(struct csv_mount *m, struct node *n)
{
	struct file *f = n->file;

	if (f != NULL) {
		return f;
	}
	f = m->stats.files < m->max_files ? gw_calloc(1, sizeof(*f)) : NULL;
	if (f == NULL) {
		return NULL;
	}
	f->m = m;
	f->node = n;
	n->users++;
	n->file = f;
	list_init(&f->gone);
	list_init(&f->locks);
	list_init(&f->waiting);
	list_init(&f->changes);
	list_init(&f->recall_waiters);
	for (uint32_t i = 0; i < MOUNT_LAYOUTS; i++) {
		f->layouts[i].file = f;
	}
	list_add_tail(&m->files, &f->link);
	m->stats.files++;
	return f;
}

void file_use(struct mreq *r, struct file *f)
{
	CHECK(r->file == NULL);
	r->file = f;
	f->users++;
}

void file_unuse(struct mreq *r)
{
	struct file *f = r->file;

	if (f != NULL) {
		r->file = NULL;
		f->users--;
		file_put(f);
	}
}

static bool is_quiet(const struct file *f)
{
	if (f->converting || f->recalling) {
		return false;
	}
	for (uint32_t i = 0; i < MOUNT_LAYOUTS; i++) {
		if (f->layouts[i].busy) {
			return false;
		}
	}
	for (uint32_t i = 0; i < MOUNT_REFUSALS; i++) {
		if (f->refusals[i].data != NULL) {
			return false;
		}
	}
	for (uint32_t i = 0; i < MOUNT_LEASES; i++) {
		if (f->leases[i].number != 0) {
			return false;
		}
	}
	return true;
}

void file_put(struct file *f)
{
	struct csv_mount *m = f->m;

	if (f->users != 0 || f->readers != 0 || f->writers != 0 || f->handle != 0 || f->freeing ||
	    !is_quiet(f)) {
		return;
	}
	f->freeing = true;
	f->node->file = NULL;
	list_del(&f->link);
	list_add_tail(&m->gone, &f->gone);
	m->stats.files--;
	mount_reap(m);
}

void file_free(struct file *f)
{
	struct csv_mount *m = f->m;
	struct errbuf eb = {0};

	if (f->blk != NULL) {
		int err = blk_close(f->blk, &eb);

		if (err != 0) {
			log_err(TAG, "data lost volume=%s ino=%llu reason=\"%s\"", m->cfg.name,
			        (unsigned long long)f->node->ino, errbuf_text(&eb, err));
		}
	}
	f->node->users--;
	mount_node_put(m, f->node);
	free(f);
}

/* ---- answers that are known at once ---- */

static void refused(struct uring_op *op, int32_t res, bool more)
{
	struct refusal *x = op->arg;
	struct csv_data_ask *ask = x->data;

	(void)res;
	(void)more;
	x->data = NULL;
	csv_data_answer(ask, x->result, NULL);
	file_put(x->file);
}

static void refuse(struct file *f, struct csv_data_ask *ask, int result)
{
	for (uint32_t i = 0; i < MOUNT_REFUSALS; i++) {
		struct refusal *x = &f->refusals[i];

		if (x->data == NULL) {
			x->data = ask;
			x->file = f;
			x->result = result;
			x->op = (struct uring_op){.fn = refused, .arg = x};
			uring_defer(f->m->cfg.ring, &x->op, 0);
			return;
		}
	}
	CHECK(false); /* csv/data asks for less at a time */
}

/* ---- leases ---- */

static void recall_step(struct file *f);

static void ask_volume(struct file *f, struct csv_mount_ask *ask, enum csv_mount_what what,
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
	ask_volume(f, &l->ask, CSV_MOUNT_RETURN, returned, f);
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

static bool is_held(const struct lease *l)
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

		if (is_held(l) && !l->wanted) {
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

		if (is_held(l) && l->write && l->from <= at && at < l->to &&
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
		if (f->leases[i].number == number && is_held(&f->leases[i])) {
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

		if (is_held(l) && l->wanted && l->from >= f->recall_from && l->to <= f->recall_to) {
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

static void recall_step(struct file *f)
{
	uint64_t from = UINT64_MAX;
	uint64_t to = 0;
	int err;

	if (f->recalling) {
		return;
	}
	for (uint32_t i = 0; i < MOUNT_LEASES; i++) {
		const struct lease *l = &f->leases[i];

		if (is_held(l) && l->wanted) {
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
	err = csv_data_recall(f->blk, from, to, recalled, f);
	CHECK(err == 0);
	detach_layouts(f, -EAGAIN);
}

void file_recall(struct mreq *r, uint64_t from, uint64_t to, mount_fn next)
{
	struct file *f = r->file;

	r->after_recall = next;
	for (uint32_t i = 0; i < MOUNT_LEASES; i++) {
		struct lease *l = &f->leases[i];

		if (is_held(l) && l->to > from && l->from < to) {
			l->wanted = true;
		}
	}
	list_add_tail(&f->recall_waiters, &r->wait);
	recall_step(f);
}

void file_lose(struct file *f)
{
	f->lost = true;
	f->handle = 0;
	for (uint32_t i = 0; i < MOUNT_LEASES; i++) {
		struct lease *l = &f->leases[i];

		if (l->number != RESERVED && !l->returning) {
			l->number = 0;
		}
	}
	if (f->blk != NULL) {
		csv_data_kick(f->blk);
		detach_layouts(f, -ESTALE);
	}
	recall_step(f);
	file_put(f);
}

/* ---- layouts ---- */

static int for_data(int result)
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
	x->data = NULL;
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
		l->write = lease->write;
		l->wanted = false;
		l->dropped = false;
		if (f->lost) {
			l->number = 0;
			result = -ESTALE;
		} else if (data == NULL) {
			give_back(f, l);
		} else {
			thin_leases(f);
		}
	}
	if (data != NULL) {
		csv_data_answer(data, for_data(result), result == 0 ? lease : NULL);
	}
	recall_step(f);
	file_put(f);
}

static void ask_layout(struct file *f, struct csv_data_ask *data)
{
	struct layout *x = NULL;
	struct lease *l = f->recalling ? NULL : free_lease(f);
	uint64_t to = data->file_bytes + data->len_bytes;
	uint64_t end;

	for (uint32_t i = 0; x == NULL && i < MOUNT_LAYOUTS; i++) {
		x = f->layouts[i].busy ? NULL : &f->layouts[i];
	}
	if (f->lost || f->handle == 0 || (data->write && !f->writes)) {
		refuse(f, data, -ESTALE);
		return;
	}
	if (x == NULL || l == NULL) {
		refuse(f, data, -EAGAIN);
		thin_leases(f);
		recall_step(f);
		return;
	}
	if (data->write) {
		end = mount_ahead(data->file_bytes, f->size_bytes);
		f->ahead =
			f->ahead || end > (data->file_bytes / CSV_UNIT_BYTES + 1) * CSV_UNIT_BYTES;
	} else {
		end = (f->size_bytes + MOUNT_BLOCK - 1) / MOUNT_BLOCK * MOUNT_BLOCK;
	}
	to = end < to ? end : to;
	memset(&x->ask, 0, sizeof(x->ask));
	x->busy = true;
	x->data = data;
	x->lease = l;
	l->number = RESERVED;
	l->wanted = false;
	l->dropped = false;
	x->ask.handle = f->handle;
	x->ask.from_bytes = data->file_bytes;
	x->ask.to_bytes = to > data->file_bytes ? to : data->file_bytes + MOUNT_BLOCK;
	/* csv/data takes what it knows for what it may write. */
	x->ask.write = f->writes;
	x->ask.allocate = data->write;
	ask_volume(f, &x->ask, CSV_MOUNT_LAYOUT, laid_out, NULL);
}

/* ---- conversions ---- */

static void convert_step(struct file *f);

static void convert_end(struct file *f, int result)
{
	struct csv_data_ask *data = f->convert;

	f->converting = false;
	csv_data_answer(data, result, NULL);
	file_put(f);
}

static void converted(struct csv_mount_ask *ask, int result, const struct csv_layout_lease *none)
{
	struct file *f = ask->arg;

	(void)none;
	if (result == 0 &&
	    (ask->op.count == 0 || ask->op.count > f->convert_to - f->convert_from)) {
		result = -EIO;
	}
	if (result != 0) {
		convert_end(f, for_data(result));
		return;
	}
	f->convert_from += ask->op.count;
	file_heard(f, &ask->op.attr);
	f->time_dirty = false; /* it set the time */
	if (f->convert_from == f->convert_to) {
		convert_end(f, 0);
	} else {
		convert_step(f);
	}
}

static void convert_step(struct file *f)
{
	const struct lease *l = file_lease_at(f, f->convert_from * MOUNT_BLOCK);
	uint64_t end = l != NULL ? l->to / MOUNT_BLOCK : 0;
	uint64_t size;

	if (f->lost || l == NULL) {
		refuse(f, f->convert, f->lost ? -ESTALE : -EIO);
		f->converting = false;
		return;
	}
	end = end < f->convert_to ? end : f->convert_to;
	size = end * MOUNT_BLOCK < f->size_bytes ? end * MOUNT_BLOCK : f->size_bytes;
	memset(&f->convert_ask, 0, sizeof(f->convert_ask));
	f->convert_ask.op.type = CSV_OP_CONVERT;
	f->convert_ask.op.block = f->convert_from;
	f->convert_ask.op.count = end - f->convert_from;
	f->convert_ask.op.size_bytes = size > f->server_bytes ? size : 0;
	f->convert_ask.handle = f->handle;
	ask_volume(f, &f->convert_ask, CSV_MOUNT_OP, converted, f);
}

static void ask_convert(struct file *f, struct csv_data_ask *data)
{
	CHECK(!f->converting);
	f->converting = true;
	f->convert = data;
	f->convert_from = data->file_bytes / MOUNT_BLOCK;
	f->convert_to = (data->file_bytes + data->len_bytes + MOUNT_BLOCK - 1) / MOUNT_BLOCK;
	convert_step(f);
}

void file_heard(struct file *f, const struct csv_attr *attr)
{
	if (attr->ino != f->node->ino) {
		return; /* a request that was repeated says nothing */
	}
	f->server_bytes = attr->size_bytes;
	f->seen_ns = attr->modified_ns;
}

/* ---- the provider of csv/data ---- */

static void data_ask(void *arg, struct csv_data_ask *ask)
{
	struct file *f = arg;
	const struct lease *l;
	struct csv_mount_file what = {
		.ino = f->node->ino,
		.generation = f->node->generation,
		.token = f->token,
		.handle = f->handle,
	};

	switch (ask->what) {
	case CSV_DATA_LAYOUT:
		ask_layout(f, ask);
		return;
	case CSV_DATA_CONVERT:
		ask_convert(f, ask);
		return;
	case CSV_DATA_REDIRECT:
		for (uint32_t i = 0; what.lease == 0 && i < MOUNT_LEASES; i++) {
			l = &f->leases[i];
			if (is_held(l) && l->from <= ask->file_bytes && ask->file_bytes < l->to &&
			    (l->write || ask->op == BLK_READ)) {
				what.lease = l->number;
			}
		}
		f->m->cfg.ops->redirect(f->m->cfg.arg, &what, ask);
		return;
	case CSV_DATA_RESIZE:
		break;
	}
	refuse(f, ask, -EIO); /* sizes are kept here */
}

static void data_rights(void *arg, struct csv_data_rights *out)
{
	const struct file *f = arg;

	f->m->cfg.ops->rights(f->m->cfg.arg, f->node->ino, out);
	out->token = f->lost || (f->writes && out->token > f->token) ? UINT64_MAX : 0;
}

static void data_event(void *arg, enum csv_data_state state, enum csv_data_reason reason)
{
	const struct file *f = arg;

	if (f->m->cfg.ops->event != NULL) {
		f->m->cfg.ops->event(f->m->cfg.arg, f->node->ino, state, reason);
	}
}

static const struct csv_data_ops direct_ops = {
	.redirects = false,
	.ask = data_ask,
	.rights = data_rights,
	.event = data_event,
};

static const struct csv_data_ops redirect_ops = {
	.redirects = true,
	.ask = data_ask,
	.rights = data_rights,
	.event = data_event,
};

int file_attach(struct file *f, const struct csv_attr *attr)
{
	const struct csv_mount_cfg *mc = &f->m->cfg;
	struct csv_data_cfg cfg = {
		.fd = fcntl(mc->device_fd, F_DUPFD_CLOEXEC, 3),
		.size_bytes = MOUNT_SIZE_MAX,
		.logical_bytes = MOUNT_BLOCK,
		.token = OUR_TOKEN,
		.extents_max = EXTENTS,
		.probe_bytes = mc->probe_bytes,
		.ops = mc->ops->redirect != NULL ? &redirect_ops : &direct_ops,
		.arg = f,
	};
	struct errbuf eb = {0};
	int err;

	if (cfg.fd < 0) {
		return -errno;
	}
	err = csv_data_open(&cfg, mc->ring, &f->blk, &eb);
	if (err != 0) {
		(void)close(cfg.fd);
		log_err(TAG, "cannot open a file volume=%s reason=\"%s\"", mc->name,
		        errbuf_text(&eb, err));
		return err;
	}
	f->token = attr->token;
	f->size_bytes = attr->size_bytes;
	f->server_bytes = attr->size_bytes;
	f->seen_ns = attr->modified_ns;
	return 0;
}

/* ---- ranges ---- */

static bool collide(const struct range_lock *a, const struct range_lock *b)
{
	return (a->alone || b->alone) && a->from < b->to && b->from < a->to;
}

static bool is_free(const struct file *f, const struct range_lock *l)
{
	list_for_each(link, &f->locks)
	{
		if (collide(l, list_entry(link, struct range_lock, link))) {
			return false;
		}
	}
	list_for_each(link, &f->waiting)
	{
		const struct range_lock *other = list_entry(link, struct range_lock, link);

		if (other == l) {
			break; /* those behind it do not count */
		}
		if (collide(l, other)) {
			return false;
		}
	}
	return true;
}

void file_lock(struct mreq *r, uint64_t from, uint64_t to, bool alone, mount_fn next)
{
	struct file *f = r->file;

	r->lock.from = from;
	r->lock.to = to;
	r->lock.alone = alone;
	r->next = next;
	if (is_free(f, &r->lock)) {
		list_add_tail(&f->locks, &r->lock.link);
		next(r, 0);
	} else {
		list_add_tail(&f->waiting, &r->lock.link);
	}
}

void file_unlock(struct mreq *r)
{
	struct file *f = r->file;

	list_del(&r->lock.link);
	list_for_each_safe(link, &f->waiting)
	{
		struct range_lock *l = list_entry(link, struct range_lock, link);
		struct mreq *other = container_of(l, struct mreq, lock);

		if (is_free(f, l)) {
			list_del(&l->link);
			list_add_tail(&f->locks, &l->link);
			mount_later(other, 0, other->next);
		}
	}
}

/* ---- blocks ---- */

static void blk_done(struct blk_req *req, int result)
{
	struct mreq *r = req->arg;

	r->next(r, result);
}

void file_blk(struct mreq *r, enum blk_op op, uint64_t offset, uint32_t iov_count, mount_fn next)
{
	r->blk = (struct blk_req){
		.op = op,
		.offset_bytes = offset,
		.iov = r->iov,
		.iov_count = iov_count,
		.done = blk_done,
		.arg = r,
	};
	for (uint32_t i = 0; i < iov_count; i++) {
		r->blk.len_bytes += r->iov[i].iov_len;
	}
	r->next = next;
	blk_submit(r->file->blk, &r->blk);
}

/* ---- leases for one look ---- */

void file_ask_lease(struct mreq *r, uint64_t from, uint64_t to, bool write,
                    void (*done)(struct csv_mount_ask *ask, int result,
                                 const struct csv_layout_lease *lease))
{
	memset(&r->ask, 0, sizeof(r->ask));
	r->ask.handle = r->file->handle;
	r->ask.from_bytes = from;
	r->ask.to_bytes = to;
	r->ask.write = write;
	r->ask.allocate = write;
	ask_volume(r->file, &r->ask, CSV_MOUNT_LAYOUT, done, r);
}

void file_return_lease(struct mreq *r, mount_fn next)
{
	uint64_t handle = r->file->handle;

	memset(&r->ask, 0, sizeof(r->ask));
	r->ask.handle = handle;
	r->ask.lease = r->lease;
	r->ask.op.ino = r->file->node->ino;
	r->ask.op.generation = r->file->node->generation;
	mount_ask(r, CSV_MOUNT_RETURN, next);
}
