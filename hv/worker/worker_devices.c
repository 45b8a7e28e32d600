/* SPDX-License-Identifier: Apache-2.0 */

/* worker_devices - from the definition to VSPs: disks opened and stacked, adapters, services. */

#include <errno.h>

#include "base/blk.h"
#include "base/errbuf.h"
#include "base/log.h"
#include "hv/raw/raw.h"
#include "hv/vhdx/vhdx.h"
#include "hv/vsp/ic/ic.h"
#include "hv/vsp/storvsp/storvsp.h"
#include "hv/vsp/vsp.h"
#include "hv/worker/worker.h"
#include "hv/worker/worker_int.h"

#define TAG "worker"

void worker_blk_close(struct blk *blk)
{
	struct errbuf eb = {0};
	int err = blk_close(blk, &eb);

	if (err != 0) {
		log_warn(TAG, "disk not closed cleanly reason=%s", errbuf_text(&eb, err));
	}
}

/* One file of a disk as a raw block device; its descriptor is taken on success. */
static int worker_file_open(struct worker *w, uint32_t disk, uint32_t file, struct blk **out,
                            struct errbuf *eb)
{
	int *fd = &w->fds.disks[disk][file];
	int *direct = &w->fds.direct[disk];
	const struct raw_cfg cfg = {
		.fd = *fd,
		.read_only = w->vm.disks[disk].read_only || file != 0,
		.direct_fd = file == 0 && *direct > 0 ? *direct : 0,
	};
	int err = raw_open(&cfg, w->ring, out, eb);

	if (err == 0) {
		*fd = -1;
		if (file == 0) {
			w->disks[disk].first = *out;
		}
		*direct = file == 0 ? -1 : *direct;
		if (!cfg.read_only) {
			w->disks[disk].file = *out;
		}
	}
	return err;
}

/* A VHDX and its parents: its own file first, which somebody may still have (-EBUSY: nothing is
 * taken, it can be tried again); images from the last one. */
static int worker_vhdx_open(struct worker *w, uint32_t disk, struct blk **out, struct errbuf *eb)
{
	struct blk *files[WORKER_DISK_FILES_MAX] = {NULL};
	uint32_t count = w->fds.disk_files[disk];
	struct blk *image = NULL;
	int err = 0;

	for (uint32_t i = 0; err == 0 && i < count; i++) {
		err = worker_file_open(w, disk, i, &files[i], eb);
	}
	for (uint32_t i = count; err == 0 && i > 0; i--) {
		const struct vhdx_cfg cfg = {
			.file = files[i - 1],
			.parent = image,
			.read_only = w->vm.disks[disk].read_only || i != 1,
		};
		struct blk *child = NULL;

		err = vhdx_open(&cfg, &child, eb);
		if (err == 0) {
			files[i - 1] = NULL;
			image = child;
		}
	}
	if (err != 0) {
		for (uint32_t i = 0; i < count; i++) {
			worker_blk_close(files[i]);
		}
		worker_blk_close(image);
		return err;
	}
	*out = image;
	return 0;
}

int worker_disk_open(struct worker *w, uint32_t disk, struct blk **out, struct errbuf *eb)
{
	int err = 0;

	*out = NULL;
	if (w->fds.disk_files[disk] == 0) {
		return 0; /* a DVD drive without a medium */
	}
	switch (w->vm.disks[disk].format) {
	case VM_FORMAT_VHDX:
		err = worker_vhdx_open(w, disk, out, eb);
		break;
	case VM_FORMAT_RAW:
		err = worker_file_open(w, disk, 0, out, eb);
		break;
	}
	if (err != 0) {
		w->disks[disk].file = NULL; /* closed with the rest */
		w->disks[disk].first = NULL;
		errbuf_prepend(eb, "disk %s", w->vm.disks[disk].path);
	} else {
		/* Not before: opening an image waits for what it reads and writes. */
		raw_patience(w->disks[disk].first, true);
	}
	w->disks[disk].blk = *out;
	return err;
}

/* The partition owns it from now on, whatever comes. */
static int worker_add(struct worker *w, struct vsp *vsp, struct errbuf *eb)
{
	int err = partition_vsp_add(w->partition, vsp);

	if (err != 0) {
		vsp->ops->destroy(vsp);
		return errbuf_sys(eb, err, "too many devices");
	}
	return 0;
}

static int worker_scsi_create(struct worker *w, const struct vsp_env *env, struct errbuf *eb)
{
	struct storvsp_lun_cfg luns[VM_DISKS_MAX];
	struct storvsp_cfg cfg = {
		.instance_id = w->vm.id,
		.sub_channels_max = w->vm.cpus - 1,
		.luns = luns,
	};
	struct vsp *vsp;
	int err = 0;

	/* The controller's name on the bus: the VM's, so that it is stable and needs no storing. */
	cfg.instance_id.b[15] ^= 0x5c;
	for (uint32_t i = 0; i < w->vm.disk_count && err == 0; i++) {
		luns[i] = (struct storvsp_lun_cfg){
			.lun = w->vm.disks[i].lun,
			.kind = w->vm.disks[i].kind == VM_DVD ? SCSI_DVD : SCSI_DISK,
			.id = w->vm.disks[i].id,
			.later = w->arriving && w->fds.disk_files[i] != 0,
		};
		if (!luns[i].later) {
			err = worker_disk_open(w, i, &luns[i].blk, eb);
		}
		if (err == 0) {
			cfg.lun_count++;
		}
	}
	if (err == 0) {
		err = storvsp_create(env, &cfg, &vsp, eb);
	}
	if (err != 0) {
		for (uint32_t i = 0; i < cfg.lun_count; i++) {
			worker_blk_close(luns[i].blk);
		}
		return err;
	}
	w->scsi = vsp;
	return worker_add(w, vsp, eb);
}

/* The integration services; every guest is offered all of them. */
static int worker_services_create(struct worker *w, const struct vsp_env *env, struct errbuf *eb)
{
	static int (*const create[])(const struct vsp_env *env, struct vsp **out,
	                             struct errbuf *eb) = {
		ic_heartbeat_create,
		ic_shutdown_create,
		ic_timesync_create,
		ic_kvp_create,
	};
	struct vsp *timesync;
	struct vsp **const keep[ARRAY_LEN(create)] = {&w->heartbeat, &w->shutdown, &timesync,
	                                              &w->kvp};
	int err = 0;

	for (size_t i = 0; i < ARRAY_LEN(create) && err == 0; i++) {
		err = create[i](env, keep[i], eb);
		if (err == 0) {
			err = worker_add(w, *keep[i], eb);
		}
	}
	return err;
}

int worker_devices_create(struct worker *w, struct errbuf *eb)
{
	struct vsp_env env;
	int err;

	if (w->bare) {
		return w->arriving ? 0 : worker_disks_open(w, eb);
	}
	partition_env(w->partition, &env);
	err = worker_scsi_create(w, &env, eb);
	if (err == 0) {
		err = worker_services_create(w, &env, eb);
	}
	return err != 0 ? err : worker_nics_create(w, &env, eb);
}
