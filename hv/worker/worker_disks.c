/* SPDX-License-Identifier: Apache-2.0 */

/*
 * worker_disks - the right to a VM's disks, given away and taken in a move.
 *
 * The source keeps its disks open but flushed, unlocked and barred (raw_release()): going on needs
 * no more than the lock, and a process that is not the owner any more cannot write whatever else
 * goes wrong in it. The destination has descriptors only, and locks and opens when the VM is its
 * own. So at no time both can write, and locks are never waited for.
 */

#include <errno.h>

#include "base/blk.h"
#include "base/check.h"
#include "base/errbuf.h"
#include "base/log.h"
#include "hv/raw/raw.h"
#include "hv/vsp/storvsp/storvsp.h"
#include "hv/worker/worker_int.h"

#define TAG "worker"

static void worker_flushes_done(struct worker *w)
{
	CHECK(w->flushing != 0);
	if (--w->flushing != 0) {
		return;
	}
	for (uint32_t i = 0; i < w->vm.disk_count && w->flush_err == 0; i++) {
		if (w->disks[i].file != NULL) {
			raw_release(w->disks[i].file);
		}
	}
	w->flush_done(w->flush_arg, w->flush_err);
}

static void worker_flushed(struct blk_req *req, int result)
{
	struct worker *w = req->arg;

	if (result != 0 && w->flush_err == 0) {
		w->flush_err = result;
	}
	worker_flushes_done(w);
}

void worker_disks_release(struct worker *w, worker_done_fn done, void *arg)
{
	CHECK(w->flushing == 0);
	CHECK(partition_state_get(w->partition) == PARTITION_PAUSED);
	w->flush_done = done;
	w->flush_arg = arg;
	w->flush_err = 0;
	w->flushing = 1;
	for (uint32_t i = 0; i < w->vm.disk_count; i++) {
		struct worker_disk *d = &w->disks[i];

		if (d->file != NULL) {
			/* Of the whole disk: a VHDX commits what it allocated with it. */
			d->flush =
				(struct blk_req){.op = BLK_FLUSH, .done = worker_flushed, .arg = w};
			w->flushing++;
			blk_submit(d->blk, &d->flush);
		}
	}
	worker_flushes_done(w);
}

int worker_disks_retake(struct worker *w, struct errbuf *eb)
{
	for (uint32_t i = 0; i < w->vm.disk_count; i++) {
		int err = w->disks[i].file != NULL ? raw_retake(w->disks[i].file, eb) : 0;

		if (err != 0) {
			errbuf_prepend(eb, "disk %s", w->vm.disks[i].path);
			while (i-- != 0) {
				if (w->disks[i].file != NULL) {
					raw_release(w->disks[i].file);
				}
			}
			return err;
		}
	}
	return 0;
}

int worker_disks_open(struct worker *w, struct errbuf *eb)
{
	for (uint32_t i = 0; i < w->vm.disk_count; i++) {
		struct blk *blk = NULL;
		int err;

		if (w->fds.disk_files[i] == 0 || w->disks[i].blk != NULL) {
			continue;
		}
		err = worker_disk_open(w, i, &blk, eb);
		if (err != 0) {
			return err;
		}
		if (w->scsi != NULL) {
			storvsp_attach(w->scsi, w->vm.disks[i].lun, blk);
		} /* else a bare worker, that only holds them */
	}
	return 0;
}

int worker_disk_file(const struct worker *w, uint32_t disk)
{
	CHECK(disk < w->vm.disk_count);
	return w->fds.disk_files[disk] != 0 ? w->fds.disks[disk][0] : -1;
}
