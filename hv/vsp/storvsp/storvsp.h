/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_VSP_STORVSP_STORVSP_H
#define HV_VSP_STORVSP_STORVSP_H

/*
 * storvsp - the synthetic SCSI controller: up to 64 disks and DVD drives on one VMBus device.
 *
 * Each packet becomes a struct from a fixed pool, each disk command one block request whose iov
 * points into guest memory: data is never copied here. The pool empty, or the guest's ring full of
 * our answers, and packets stay in the ring until there is room. Device thread only.
 * Protocol: docs/spec/storvsp.md; SCSI: scsi.h.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/guid.h"
#include "hv/vsp/storvsp/scsi.h"

struct blk;
struct errbuf;
struct vsp;
struct vsp_env;

#define STORVSP_LUNS_MAX 64u
#define STORVSP_REQUESTS 256u /* in flight over all channels; guests queue the rest */
#define STORVSP_TRANSFER_BYTES_MAX (1u << 20)
#define STORVSP_SUB_CHANNELS_MAX 16u

struct storvsp_lun_cfg {
	uint32_t lun; /* < STORVSP_LUNS_MAX, unique */
	enum scsi_kind kind;
	struct guid id;
	struct blk *blk; /* taken on success, with the VSP; NULL = DVD drive without a medium */
	bool later;      /* blk is NULL: storvsp_attach() brings it before the controller resumes */
};

struct storvsp_cfg {
	uint32_t index;
	struct guid instance_id;
	uint32_t sub_channels_max;          /* 0..STORVSP_SUB_CHANNELS_MAX */
	const struct storvsp_lun_cfg *luns; /* [lun_count] */
	uint32_t lun_count;
};

/* Counters since creation. */
struct storvsp_stats {
	uint64_t reads, writes, flushes, others, errors;
	uint64_t read_bytes, write_bytes;
};

/*
 * storvsp_create() - offer a controller with its units.
 * Returns 0; -EINVAL a LUN number out of range or twice; -ENOMEM; as vmbus_offer().
 */
MUST_USE int storvsp_create(const struct vsp_env *env, const struct storvsp_cfg *cfg,
                            struct vsp **out, struct errbuf *eb);

void storvsp_stats(const struct vsp *vsp, struct storvsp_stats *out);

/*
 * storvsp_resized() - the disk behind @lun has another size: the guest gets a unit attention and
 * looks again.
 */
void storvsp_resized(struct vsp *vsp, uint32_t lun);

/*
 * storvsp_attach() - give a unit that was made with later its disk (taken). Once, while paused.
 */
void storvsp_attach(struct vsp *vsp, uint32_t lun, struct blk *blk);

/* storvsp_medium() - insert (takes @blk) or remove (NULL) the medium of DVD drive @lun. Returns 0;
 * -ENODEV no DVD drive there; -EBUSY locked by the guest or I/O in flight. */
MUST_USE int storvsp_medium(struct vsp *vsp, uint32_t lun, struct blk *blk);

#endif
