/* SPDX-License-Identifier: Apache-2.0 */

/*
 * data - what is open here: one device of csv/data per file, what it asks for, and conversions. The
 * leases that it rests on: lease.c.
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
#define EXTENTS 4096u /* remembered per file */
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
	list_init(&f->hands);
	list_init(&f->recall_waiters);
	list_init(&f->channels);
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
	if (f->converting || f->recalling || !list_empty(&f->channels)) {
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

bool file_idle(const struct file *f)
{
	return f->blk == NULL || csv_data_idle(f->blk);
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
	hand_free_all(f);
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

void file_refuse(struct file *f, struct csv_data_ask *ask, int result)
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
		convert_end(f, file_result(result));
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
		file_refuse(f, f->convert, f->lost ? -ESTALE : -EIO);
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
	file_ask(f, &f->convert_ask, CSV_MOUNT_OP, converted, f);
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
		file_lay_out(f, ask);
		return;
	case CSV_DATA_CONVERT:
		ask_convert(f, ask);
		return;
	case CSV_DATA_REDIRECT:
		for (uint32_t i = 0; what.lease == 0 && i < MOUNT_LEASES; i++) {
			l = &f->leases[i];
			if (lease_held(l) && l->from <= ask->file_bytes &&
			    ask->file_bytes < l->to && (l->write || ask->op == BLK_READ)) {
				what.lease = l->number;
			}
		}
		f->m->cfg.ops->redirect(f->m->cfg.arg, &what, ask);
		return;
	case CSV_DATA_RESIZE:
		break;
	}
	file_refuse(f, ask, -EIO); /* sizes are kept here */
}

void file_rights(const struct file *f, struct csv_data_rights *out)
{
	f->m->cfg.ops->rights(f->m->cfg.arg, f->node->ino, out);
	out->token = f->lost || (f->writes && out->token > f->token) ? UINT64_MAX : 0;
}

static void data_rights(void *arg, struct csv_data_rights *out)
{
	file_rights(arg, out);
}

static void data_event(void *arg, enum csv_data_state state, enum csv_data_reason reason)
{
	struct file *f = arg;

	direct_publish(f);
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
	file_ask(r->file, &r->ask, CSV_MOUNT_LAYOUT, done, r);
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
