/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_VSP_NETVSP_NETVSP_INT_H
#define HV_VSP_NETVSP_NETVSP_INT_H

/* Private to hv/vsp/netvsp. */

#include <sys/uio.h>

#include "base/log.h"
#include "base/uring.h"
#include "hv/vmbus/vmbus.h"
#include "hv/vsp/netvsp/ndis.h"
#include "hv/vsp/netvsp/netframe.h"
#include "hv/vsp/netvsp/netvsp.h"
#include "hv/vsp/netvsp/netvsp_wire.h"
#include "hv/vsp/netvsp/rndis.h"
#include "hv/vsp/netvsp/slots.h"
#include "hv/vsp/netvsp/tap.h"
#include "hv/vsp/vsp.h"

#define NETVSP_TAG "netvsp"
#define NETVSP_SECTION_BYTES 6144u
#define NETVSP_SECTIONS_MAX 4096u /* 24 MiB; Linux shares 1 MiB */
#define NETVSP_SLOTS_MIN 64u      /* a receive buffer with less is refused */
#define NETVSP_CONTROL_SLOTS 16u  /* frames leave these for control messages */
/* A buffer with fewer slots is not used for 64 KiB frames: each queue holds slots for one. */
#define NETVSP_COALESCE_SLOTS(queues) (2u * (NETVSP_SPARES_MAX * (queues) + NETVSP_CONTROL_SLOTS))
#define NETVSP_REPLIES_MAX 16u     /* guests have one request at a time under way */
#define NETVSP_BATCH_MAX 128u      /* ranges in one transfer; Linux takes 375 */
#define NETVSP_SPARES_MAX 40u      /* slots for one 64 KiB frame: 34 of 2 KiB */
#define NETVSP_SPARE_PIECES_MAX 5u /* host ranges of one slot: NETVSP_MTU_MAX on odd pages */
#define NETVSP_RX_HEAD 128u        /* of a received frame, by way of a private copy */
#define NETVSP_RX_BUDGET 64u       /* frames of one queue before others get their turn */
#define NETVSP_STALE_MAX 4096u     /* frames that waited since before the guest listened */
#define NETVSP_TX_PIECES_MAX 160u  /* of one transfer; Linux sends 33 ranges at most */
#define NETVSP_PACKET_BYTES 16384u /* one packet of the ring: up to 1000 page ranges */

/* Slots that are filled but not yet the guest's. */
struct netvsp_batch {
	uint32_t count;
	uint32_t slot[NETVSP_BATCH_MAX];
	uint32_t bytes[NETVSP_BATCH_MAX];
};

struct netvsp_channel {
	struct netvsp *n;
	struct vmbus_channel *chan; /* borrowed; NULL = sub-channel slot not used */
	uint8_t index;
	bool open;
	/* An answer for which the ring had no room. One at most: nothing more is taken then. */
	bool answer_waits;
	uint64_t answer_id;
	struct netvsp_message answer;
	struct netvsp_batch batch; /* frames; not empty between callbacks: the ring is full */
};

/* A slot into which the next frame may be read. */
struct netvsp_spare {
	uint32_t slot;
	uint32_t pieces;
	struct iovec iov[NETVSP_SPARE_PIECES_MAX];
};

/* One queue of the tap. */
struct netvsp_queue {
	struct netvsp *n;
	int fd; /* owned */
	struct uring_op poll;
	bool polling;  /* @poll is under way */
	bool deferred; /* it is none of the kernel's */
	uint32_t spare_count;
	struct netvsp_spare spares[NETVSP_SPARES_MAX];
	struct netvsp_vnet_wire vnet; /* of the frame just read */
	uint8_t head[NETVSP_RX_HEAD]; /* and its first bytes */
	struct iovec iov[2 + NETVSP_SPARES_MAX * NETVSP_SPARE_PIECES_MAX];
};

struct netvsp_reply {
	uint32_t bytes;
	uint8_t message[RNDIS_REPLY_MAX];
};

/* What the guest negotiated; all zero after open. */
struct netvsp_nego {
	uint32_t version; /* NETVSP_VERSION_*; 0 = not yet */
	uint32_t ndis_major, ndis_minor;
	uint32_t frame_max;
	uint64_t capabilities;
	bool initialized; /* RNDIS */
	uint32_t filter;  /* RNDIS_FILTER_*; 0 = the guest does not listen */
	struct ndis_offload offload;
	struct ndis_rss rss;
};

struct netvsp_recv_buffer {
	struct vmbus_gpadl *gpadl; /* ref; NULL = none */
	uint32_t gpadl_id;
	uint16_t id;
	uint32_t slot_bytes;
	struct slots slots;
};

struct netvsp_send_buffer {
	struct vmbus_gpadl *gpadl; /* ref; NULL = none */
	uint32_t gpadl_id;
	uint32_t sections;
};

struct netvsp {
	struct vsp vsp; /* first */
	struct vsp_env env;
	struct guid instance_id;
	const struct tap_ops *tap; /* borrowed for ever */
	uint8_t mac[6];            /* permanent */
	uint8_t mac_now[6];
	uint32_t mtu;
	uint16_t vlan;
	bool spoofing;
	bool link_up;
	bool link_told; /* the guest knows link_up, or has not asked yet */
	bool paused;
	bool table_waits; /* the send table was not sent yet */
	uint64_t speed_bps;
	char name[NETVSP_NAME_MAX + 1];
	struct netvsp_nego nego;
	struct netvsp_recv_buffer recv;
	struct netvsp_send_buffer send;
	bool recv_restored, send_restored; /* loaded; the GPADLs come when the channel opens */
	uint32_t sub_channels;             /* offered */
	struct netvsp_channel channels[NETVSP_QUEUES_MAX]; /* 0 = primary */
	uint32_t queue_count;
	struct netvsp_queue *queues; /* owned: [queue_count] */
	uint32_t reply_first, reply_count;
	struct netvsp_reply replies[NETVSP_REPLIES_MAX];
	struct netvsp_stats stats;
	uint16_t part_id;
	struct log_limit limit;
	struct iovec pieces[NETVSP_TX_PIECES_MAX]; /* of the transfer being sent */
	struct vmbus_range ranges[NETVSP_TX_PIECES_MAX];
	uint8_t packet[NETVSP_PACKET_BYTES]; /* one packet of a ring */
};

/* netvsp.c */
bool netvsp_listens(const struct netvsp *n); /* may frames reach the guest? */
/* Does the guest take one frame in several slots? */
bool netvsp_coalesces(const struct netvsp *n);
bool netvsp_can_coalesce(const struct netvsp *n); /* could it, if it wanted to? */
MUST_USE int netvsp_sub_channels_offer(struct netvsp *n, uint32_t count);
void netvsp_tap_update(struct netvsp *n); /* offloads and filter follow n->nego */

/* netvsp_message.c: one packet from the guest, not a completion. Sets ch->answer. */
void netvsp_message_handle(struct netvsp_channel *ch, const struct vmbus_packet *pkt);
void netvsp_recv_buffer_drop(struct netvsp *n);
void netvsp_send_buffer_drop(struct netvsp *n);
/* Bytes of a slot for frames of @mtu. */
uint32_t netvsp_slot_bytes(uint32_t mtu);

/* oid.c: a control message, copied. Returns false: no room for the answer, ask again. */
bool netvsp_control(struct netvsp *n, const uint8_t *message, uint32_t len_bytes);
/* Send what waits. Returns false: it still does. */
bool netvsp_replies_flush(struct netvsp *n);

/* netvsp_tx.c: a data transfer of the guest. Returns its status. */
enum netvsp_status netvsp_tx(struct netvsp_channel *ch, uint32_t count, uint32_t total_bytes);
/* Gather n->pieces: @section of the send buffer and the packet's ranges. Returns 0; -EBADMSG. */
MUST_USE int netvsp_gather(struct netvsp *n, const struct vmbus_packet *pkt,
                           const struct netvsp_rndis_wire *rndis, uint32_t *count,
                           uint32_t *total_bytes);
/* Copy [offset, offset+len) of the gathered bytes, once. */
void netvsp_gathered_copy(const struct netvsp *n, uint32_t count, uint32_t offset_bytes, void *buf,
                          uint32_t len_bytes);

void netvsp_announce_send(struct netvsp *n);

/* netvsp_rx.c */
void netvsp_rx_start(struct netvsp_queue *q); /* look at the tap, from the loop */
void netvsp_rx_start_all(struct netvsp *n);
void netvsp_rx_drain(struct netvsp *n);  /* what came while nobody listened is not news */
void netvsp_rx_forget(struct netvsp *n); /* the receive buffer goes away */
/* Put what the batch holds into the ring. Returns false: no room, ready() will come. */
bool netvsp_batch_flush(struct netvsp_channel *ch);
/* Send @bytes, written to @slot (taken), as one transfer. Returns as vmbus_send(). */
MUST_USE int netvsp_transfer(struct netvsp_channel *ch, uint32_t channel_type,
                             const struct netvsp_batch *batch);
void netvsp_polled(struct uring_op *op, int32_t res, bool more);

/* netvsp_save.c */
void netvsp_save(const struct vsp *vsp, struct save *s);
MUST_USE int netvsp_load(struct vsp *vsp, struct load *l);
/* The primary channel opened again after a load: take the buffers up. Returns 0; -EBADMSG. */
MUST_USE int netvsp_restore(struct netvsp *n);

#endif
