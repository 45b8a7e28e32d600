/* SPDX-License-Identifier: Apache-2.0 */

/*
 * hand - what the kernel has open for reading and writing: each such open file description has a
 * hand, that has the right to write or has it not (base/shared_file.h). One that has it counts as a
 * writer of its file, one that has it not as a reader.
 *
 * Take: one writer more, then one reader less; yield the other way round. So the file has a user at
 * every moment, and a take that fails leaves everything as it was.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#include "base/fault.h"
#include "csv/mount/mount_int.h"

struct hand *hand_find(const struct file *f, uint64_t id)
{
	list_for_each(link, &f->hands)
	{
		struct hand *h = list_entry(link, struct hand, link);

		if (h->id == id) {
			return h;
		}
	}
	return NULL;
}

static struct hand *hand_new(struct file *f, bool writes)
{
	struct hand *h = gw_calloc(1, sizeof(*h));

	if (h != NULL) {
		h->id = ++f->m->next_hand;
		h->writes = writes;
		list_add_tail(&f->hands, &h->link);
	}
	return h;
}

static void hand_free(struct hand *h)
{
	if (h != NULL) {
		list_del(&h->link);
		free(h);
	}
}

void hand_free_all(struct file *f)
{
	list_for_each_safe(link, &f->hands)
	{
		hand_free(list_entry(link, struct hand, link));
	}
}

bool hand_writes(const struct mreq *r)
{
	const struct hand *h = hand_find(r->file, r->fh);

	return h != NULL && h->writes;
}

/* ---- open and release ---- */

static void not_opened(struct mreq *r, int result)
{
	mount_reply_err(r, r->result != 0 ? r->result : result);
}

void hand_open(struct mreq *r, const struct csv_attr *attr)
{
	r->hand = NULL;
	r->result = 0;
	if (r->writes) {
		r->hand = hand_new(r->file, !r->later);
		if (r->hand == NULL) {
			r->result = -ENOMEM;
			file_drop(r, !r->later, not_opened);
			return;
		}
	}
	mount_reply_open(r, attr);
}

void hand_unopen(struct mreq *r, int result)
{
	bool writes = r->hand != NULL && r->hand->writes;

	r->result = result;
	hand_free(r->hand);
	r->hand = NULL;
	file_drop(r, writes, not_opened);
}

static void released(struct mreq *r, int result)
{
	(void)result; /* nobody hears it; close() told what could be told */
	mount_reply_err(r, 0);
}

static bool nobody_has(const struct file *f, bool write)
{
	return f == NULL || (write ? f->writers : f->readers) == 0;
}

void mount_release(struct mreq *r)
{
	struct file *f = r->node->file;
	struct hand *h = f != NULL && r->fh != 0 ? hand_find(f, r->fh) : NULL;
	bool write = h != NULL && h->writes;

	if ((h == NULL && r->fh != 0) || nobody_has(f, write)) {
		mount_reply_err(r, -EBADF);
		return;
	}
	if (h != NULL && h->busy) {
		h->released = true; /* who is changing it ends it */
		mount_reply_err(r, 0);
		return;
	}
	if (h != NULL) {
		direct_hand_gone(f, h->id);
	}
	hand_free(h);
	file_use(r, f);
	file_drop(r, write, released);
}

void hand_key(struct mreq *r)
{
	struct hand *h = hand_find(r->file, r->fh);

	if (h == NULL) {
		mount_reply_err(r, -EBADF);
		return;
	}
	if (!h->keyed && getrandom(h->key, sizeof(h->key), 0) != (ssize_t)sizeof(h->key)) {
		mount_reply_err(r, -EIO);
		return;
	}
	h->keyed = true;
	mount_reply_ioctl(r, h->key, sizeof(h->key));
}

/* ---- the right to write ---- */

static void changed(struct mreq *r, int result)
{
	struct hand *h = r->hand;
	bool gone = h->released;
	bool writes = h->writes;

	h->busy = false;
	if (r->result == 0) {
		r->result = result;
	}
	if (!gone) {
		not_opened(r, 0);
		return;
	}
	direct_hand_gone(r->file, h->id);
	hand_free(h);
	file_drop(r, writes, not_opened);
}

static void took(struct mreq *r, int result)
{
	if (result != 0) {
		changed(r, result);
		return;
	}
	r->hand->writes = true;
	file_drop(r, false, changed);
}

static void unlocked(struct mreq *r, int result)
{
	(void)result;
	file_unlock(r);
	file_drop(r, true, changed);
}

/* Who does I/O of his own does it no more, also if somebody else here goes on writing. */
static void quiet(struct mreq *r, int result)
{
	if (direct_granted(r->file)) {
		file_recall(r, 0, MOUNT_END, unlocked);
	} else {
		unlocked(r, result);
	}
}

static void reads(struct mreq *r, int result)
{
	if (result != 0) {
		changed(r, result);
		return;
	}
	/* First of all: nothing more is written; what is being written comes to its end. */
	r->hand->writes = false;
	file_lock(r, 0, MOUNT_END, true, quiet);
}

void hand_change(struct mreq *r, bool write)
{
	struct hand *h = hand_find(r->file, r->fh);

	if (h == NULL) {
		mount_reply_err(r,
		                write ? -EBADF : 0); /* open to be read: there is nothing to give */
		return;
	}
	if (h->busy) {
		mount_reply_err(r, -EBUSY);
		return;
	}
	if (h->writes == write) {
		mount_reply_err(r, write && r->file->lost ? -ESTALE : 0);
		return;
	}
	h->busy = true;
	r->hand = h;
	r->result = 0;
	if (write) {
		file_hold(r, true, took);
	} else {
		file_hold(r, false, reads);
	}
}
