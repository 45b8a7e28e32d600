/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_VSP_STORVSP_STORVSP_INT_H
#define HV_VSP_STORVSP_STORVSP_INT_H

/* Private to hv/vsp/storvsp. */

#include <sys/uio.h>

#include "base/blk.h"
#include "base/list.h"
#include "base/log.h"
#include "hv/mem/gmem.h"
#include "hv/vmbus/vmbus.h"
#include "hv/vsp/storvsp/storvsp.h"
#include "hv/vsp/storvsp/storvsp_wire.h"
#include "hv/vsp/vsp.h"

/* Worst case: no two pages are neighbours, and the first is not used from its start. */
#define STORVSP_PIECES_MAX (STORVSP_TRANSFER_BYTES_MAX / 4096u + 1u)

/* Where the guest is in its initialisation; anything out of order is refused. */
enum storvsp_init {
	STORVSP_INIT_BEGIN,
	STORVSP_INIT_VERSION,
	STORVSP_INIT_PROPERTIES,
	STORVSP_INIT_END,
	STORVSP_INIT_DONE,
};

struct storvsp_unit {
	struct scsi_lun scsi;
	struct blk *blk; /* owned; NULL = no medium, or it comes later */
	bool present;
	bool later; /* storvsp_attach() has not come */
	uint32_t in_flight;
};

struct storvsp_channel {
	struct storvsp *s;
	struct vmbus_channel *chan; /* borrowed; NULL = sub-channel slot not used */
	uint32_t in_flight;
	bool open;
	bool closing;        /* close() came and is not answered */
	bool rescinded;      /* answering close() is the last use of chan */
	struct list answers; /* requests whose answer did not fit into the ring */
};

struct storvsp_request {
	struct list link; /* in the pool, or in a channel's answers */
	struct storvsp_channel *channel;
	struct storvsp_unit *unit;
	uint64_t transaction_id;
	struct storvsp_packet reply;
	struct blk_req blk;
	uint32_t extent_next; /* of answer.extents, the next to submit */
	uint32_t piece_count;
	struct vmbus_range pieces[STORVSP_PIECES_MAX];
	struct iovec iov[STORVSP_PIECES_MAX];
	struct scsi_answer answer;
};

struct storvsp {
	struct vsp vsp; /* first */
	struct vsp_env env;
	struct guid instance_id;
	uint32_t sub_channels_max;
	enum storvsp_init init;
	uint16_t version;
	uint32_t sub_channels; /* offered */
	struct storvsp_unit units[STORVSP_LUNS_MAX];
	struct storvsp_channel channels[1 + STORVSP_SUB_CHANNELS_MAX]; /* 0 = primary */
	struct storvsp_request *requests; /* owned: STORVSP_REQUESTS of them */
	/* Never used from here on: most guests have a few requests in flight, and a request is
	 * four pages of memory that then stay untouched. */
	uint32_t requests_used;
	struct list pool; /* used and free, the last one first */
	uint32_t in_flight;
	bool paused;
	bool pool_empty; /* somebody met it empty: kick all channels when one comes back */
	vsp_done_fn pause_done;
	void *pause_arg;
	struct storvsp_stats stats;
	struct log_limit limit;
	/* One packet of the ring: 64 bytes, and up to 257 pages each with a range of its own. */
	uint8_t packet[8192];
};

/* srb.c */
void storvsp_srb(struct storvsp_channel *ch, const struct vmbus_packet *pkt,
                 const struct storvsp_packet *in, struct storvsp_request *r);

/* storvsp.c: a request for @ch, counted as in flight. Returns NULL: all are. */
struct storvsp_request *storvsp_request_get(struct storvsp_channel *ch);
/* storvsp.c: the answer is ready in r->reply. */
void storvsp_answer(struct storvsp_request *r);

/* storvsp_save.c */
void storvsp_save(const struct vsp *vsp, struct save *s);
MUST_USE int storvsp_load(struct vsp *vsp, struct load *l);

/* storvsp.c, for load: offer @count sub-channels. */
MUST_USE int storvsp_sub_channels_offer(struct storvsp *s, uint32_t count);

#endif
