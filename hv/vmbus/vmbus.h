/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_VMBUS_VMBUS_H
#define HV_VMBUS_VMBUS_H

/*
 * vmbus - the host side of VMBus: the handshake, offers, GPADLs and channels of one partition.
 *
 * A VSP offers a channel with vmbus_offer(); the guest opens it; then packets go both ways over
 * the channel's two rings in guest memory. The bus survives any guest: each message, GPADL, index
 * and packet is copied once and checked; a guest that breaks a channel's rules loses the channel.
 *
 *   DISCONNECTED --initiate contact--> CONNECTED --unload--> DISCONNECTED   (connection)
 *   CLOSED --open--> OPEN --close/rescind/unload--> CLOSING --channel closed--> CLOSED  (channel)
 *
 * Threads: everything belongs to the device thread, the one that drives @ring; vmbus_message() is
 * called there too (the vCPU thread that took the HvPostMessage exit only queues it).
 * Source: TLFS chapters 8 and 11 (messages, events); the protocol: docs/spec/vmbus.md.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/attr.h"
#include "base/guid.h"

struct errbuf;
struct gmem;
struct load;
struct save;
struct uring;
struct vmbus;
struct vmbus_channel;
struct vmbus_gpadl;
struct vmbus_host_ops;

#define VMBUS_VERSION(major, minor) ((uint32_t)(major) << 16 | (minor))
#define VMBUS_CHANNELS_MAX 512u      /* relids 1..2047 exist; more offers than this helps nobody */
#define VMBUS_GPADLS_MAX 2048u       /* per partition */
#define VMBUS_GPADL_PAGES_MAX 65536u /* per channel, all its GPADLs: 256 MiB */
#define VMBUS_PAGES_MAX (1u << 20)   /* per partition: 4 GiB, and 8 MiB of page lists here */
#define VMBUS_RING_PAGES_MAX 4096u   /* of one ring with its control page; Linux uses 5..128 */
/* One packet with its descriptor. The largest legal ones carry 375 page ranges (netvsc). */
#define VMBUS_PACKET_BYTES_MAX 65536u
#define VMBUS_BATCH_MAX 256u /* packets in one ready() call, so that no channel starves others */

struct vmbus_cfg {
	struct gmem *mem; /* borrowed until vmbus_destroy(), like the rest */
	struct uring *ring;
	const struct vmbus_host_ops *host;
	void *host_arg;
	const char *vm_name; /* for logs */
	uint32_t vp_count;
	uint32_t version_max; /* newest version to accept; 0 = 5.3 */
};

/* vmbus_create() - a bus without channels. Returns 0; -ENOMEM; -EINVAL vp_count or version_max. */
MUST_USE int vmbus_create(const struct vmbus_cfg *cfg, struct vmbus **out);

/*
 * vmbus_destroy() - free the bus and its channels; no callback comes any more. The VSPs have
 * drained (vmbus_reset(), or paused) and must not call the bus again. Runs the ring until the
 * bus's own polls have ended. NULL is fine.
 */
void vmbus_destroy(struct vmbus *bus);

/* vmbus_message() - the guest posted @payload[len_bytes] (hostile) to connection @connection_id.
 * Returns 0 (also for a message that makes no sense: it is logged and dropped); -EAGAIN no room
 * for the answer, or paused: the hypercall answers "insufficient buffers" and the guest tries
 * again; -ENOENT no such connection id. */
MUST_USE int vmbus_message(struct vmbus *bus, uint32_t connection_id, const void *payload,
                           uint32_t len_bytes);

/* vmbus_slot_free() - the message slot of VP @vp_index may be free: send what waits. */
void vmbus_slot_free(struct vmbus *bus, uint32_t vp_index);

/*
 * vmbus_reset() - the partition resets: close every channel, forget GPADLs and the connection.
 * The offers stay. @done comes on the device thread when no VSP touches guest memory any more,
 * perhaps from inside. Not while another reset is under way.
 */
void vmbus_reset(struct vmbus *bus, void (*done)(void *arg), void *arg);

/*
 * vmbus_pause() - stop taking packets and messages (vCPUs are stopped). VSPs drain on their own
 * and may still send; while paused vmbus_recv() says -EAGAIN and ready() does not come.
 * vmbus_resume() - go on, here or after vmbus_load(): both sides of every open channel are treated
 * as if they had been signalled, so that no signal is lost across a move. Saved channels that
 * nobody offered again by now are rescinded.
 */
void vmbus_pause(struct vmbus *bus);
void vmbus_resume(struct vmbus *bus);

/*
 * vmbus_save() - section "vmbus": connection, channels, GPADLs, queued messages. Only while
 * paused, when the VSPs have drained and flushed.
 * vmbus_load() - into a new, paused bus on which no guest message was seen. Offers made before it
 * (VSPs load first, and offer their sub-channels again) and up to vmbus_resume() find their old
 * state by (interface, instance, index): same relid, same GPADLs, and open() with @restored if
 * they were open; what a VSP needs of the bus, like its GPADLs, it takes there. A VSP whose
 * channel was open for it but is not opened again here starts from its initial state. A bus
 * whose load failed is good for vmbus_destroy() only.
 * Returns 0; -errno with the text in the loader's errbuf.
 */
void vmbus_save(const struct vmbus *bus, struct save *s);
MUST_USE int vmbus_load(struct vmbus *bus, struct load *l);

/* ---- a VSP's side ---- */

/* Callbacks of one channel; all on the device thread. */
struct vmbus_channel_ops {
	/*
	 * The guest opened the channel: both rings are usable. Returns 0, or -errno: the open is
	 * refused with a status. Also called by vmbus_load() or vmbus_offer() for a channel that
	 * was open when it was saved, with @restored: send nothing before vmbus_resume().
	 * A primary opens only when all rescinded sub-channels of the device have closed.
	 */
	int (*open)(struct vmbus_channel *chan, bool restored, void *arg);
	/*
	 * The guest closed it (or unload, rescind, reset, broken rules). Take no more packets, end
	 * all use of guest memory (I/O in flight, GPADL references), then call
	 * vmbus_channel_closed(), from here or later. Also comes while paused; a VSP that says it
	 * has drained has answered it. Comes once per successful open(), from the loop or a guest's
	 * message, never from inside a function the VSP called on this channel.
	 */
	void (*close)(struct vmbus_channel *chan, void *arg);
	/*
	 * Something came: packets may be there, or space for what vmbus_send() refused. Read until
	 * vmbus_recv() says -EAGAIN, or call vmbus_kick() (then or when there is room again) to be
	 * called again. Try again what vmbus_send() refused: the wait for space ends with this
	 * call. Never comes from inside a function the VSP called.
	 */
	void (*ready)(struct vmbus_channel *chan, void *arg);
};

#define VMBUS_OFFER_ENUMERATE 0x1u
#define VMBUS_OFFER_NAMED_PIPE 0x10u

struct vmbus_offer_cfg {
	struct guid interface_id;
	struct guid instance_id;
	uint16_t flags; /* VMBUS_OFFER_*: wire values */
	uint16_t mmio_mib;
	uint16_t subchannel_index;           /* 0 = primary */
	bool pipe_message_mode;              /* user data: pipe mode MESSAGE */
	const struct vmbus_channel_ops *ops; /* borrowed until the channel is destroyed */
	void *arg;
};

/*
 * vmbus_offer() - make a channel; the guest is told now or when it asks for offers.
 * Between vmbus_load() and vmbus_resume() a saved channel with the same key is taken over; its
 * open() then comes from inside, after @out is set.
 * Returns 0; -EEXIST (interface, instance, index) is in use, also by a rescinded channel that the
 * guest has not released; -ENOSPC; -ENOMEM; -EBADMSG; -errno of eventfd.
 */
MUST_USE int vmbus_offer(struct vmbus *bus, const struct vmbus_offer_cfg *cfg,
                         struct vmbus_channel **out);

/*
 * vmbus_rescind() - take the offer back; the channel closes if it is open, and is freed when the
 * guest has released it. If it is open the close callback comes (from the loop) and the owner's
 * vmbus_channel_closed() is its last use; if it is closing, likewise; if it is closed this call
 * is the last use.
 */
void vmbus_rescind(struct vmbus_channel *chan);

/* vmbus_channel_closed() - answer to the close callback. */
void vmbus_channel_closed(struct vmbus_channel *chan);

/* vmbus_fail() - the guest broke the device's protocol: log @why (rate-limited), stop the channel:
 * nothing is received or sent any more, and the close callback comes, from the loop. The guest
 * can close and open it again. */
void vmbus_fail(struct vmbus_channel *chan, const char *why);

/* vmbus_kick() - call ready() again from the loop, if the channel is open then. */
void vmbus_kick(struct vmbus_channel *chan);

bool vmbus_channel_is_open(const struct vmbus_channel *chan);
uint32_t vmbus_channel_relid(const struct vmbus_channel *chan);
uint32_t vmbus_channel_vp(const struct vmbus_channel *chan);         /* target VP */
uint32_t vmbus_channel_ring_bytes(const struct vmbus_channel *chan); /* data bytes, guest to host */
struct gmem *vmbus_channel_mem(const struct vmbus_channel *chan);

enum vmbus_packet_type {
	VMBUS_PACKET_INBAND = 6,
	VMBUS_PACKET_TRANSFER_PAGES = 7,
	VMBUS_PACKET_GPA_DIRECT = 9,
	VMBUS_PACKET_COMPLETION = 11,
};

#define VMBUS_PACKET_WANTS_COMPLETION 1u

struct vmbus_packet {
	uint16_t type;
	uint16_t flags;
	uint64_t transaction_id;
	const uint8_t
		*header; /* type-specific header behind the descriptor; in the caller's buffer */
	uint32_t header_bytes;
	const uint8_t *payload; /* in the caller's buffer */
	uint32_t payload_bytes;
};

/*
 * vmbus_recv() - copy the next packet into @buf[room_bytes] (>= VMBUS_PACKET_BYTES_MAX never fails
 * for size). The packet stays in the ring until vmbus_recv_done(), so that a save between the two
 * sees it unread; until then vmbus_recv() gives the same packet (copied again: the guest may have
 * changed it).
 * Returns 0; -EAGAIN nothing now, ready() will come: the ring is empty (guest signalling is armed
 * again), the batch is full, or the bus is paused; -ENOTCONN not open; -EMSGSIZE too large for
 * @buf, -EBADMSG bad indices or descriptor: the channel has failed (see vmbus_fail()).
 */
MUST_USE int vmbus_recv(struct vmbus_channel *chan, void *buf, uint32_t room_bytes,
                        struct vmbus_packet *out);

/* vmbus_recv_done() - the packet of the last vmbus_recv() is consumed: record it as in flight
 * before. Inside ready() the guest may see that at the end of the batch only; never after a
 * pause. Wakes a guest that waits for space. */
void vmbus_recv_done(struct vmbus_channel *chan);

/*
 * vmbus_send() - append a packet: descriptor, @header (multiple of 8, may be empty), payload.
 * Returns 0; -EAGAIN no room: the guest is told how much we wait for and ready() comes when there
 * is; -EMSGSIZE larger than the ring; -ENOTCONN not open; -EBADMSG bad indices: the channel has
 * failed.
 * The guest sees it and is signalled at the end of the ready() callback, or by vmbus_flush().
 */
MUST_USE int vmbus_send(struct vmbus_channel *chan, uint16_t type, uint16_t flags,
                        uint64_t transaction_id, const void *header, uint32_t header_bytes,
                        const struct iovec *payload, uint32_t payload_count);

/* vmbus_complete() - vmbus_send() of a completion packet with one buffer. */
MUST_USE int vmbus_complete(struct vmbus_channel *chan, uint64_t transaction_id, const void *buf,
                            uint32_t len_bytes);

/* vmbus_flush() - show the guest what was sent and signal it if it wants that. Outside ready()
 * callbacks (I/O completions) the caller batches its sends and ends with this. */
void vmbus_flush(struct vmbus_channel *chan);

/* One piece of guest memory named by a GPA-direct packet. */
struct vmbus_range {
	uint64_t gpa;
	uint32_t len_bytes;
};

/*
 * vmbus_ranges_decode() - the ranges of a GPA-direct packet as page-bounded pieces, in order,
 * neighbours merged, each inside RAM.
 * @pieces[max]: room; @count: how many were written; @total_bytes: their sum.
 * Returns 0; -EBADMSG malformed or longer than the packet; -EFAULT outside RAM; -E2BIG more than
 * @max pieces.
 */
MUST_USE int vmbus_ranges_decode(const struct gmem *mem, const struct vmbus_packet *pkt,
                                 struct vmbus_range *pieces, uint32_t max, uint32_t *count,
                                 uint64_t *total_bytes);

/*
 * vmbus_gpadl_get() - GPADL @id of this channel for the device's own use (a netvsc buffer): a
 * reference keeps it from being torn down (the guest's teardown is answered after the put).
 * Returns 0; -ENOENT.
 */
MUST_USE int vmbus_gpadl_get(struct vmbus_channel *chan, uint32_t id, struct vmbus_gpadl **out);
void vmbus_gpadl_put(struct vmbus_gpadl *gpadl);
uint64_t vmbus_gpadl_bytes(const struct vmbus_gpadl *gpadl);

/*
 * vmbus_gpadl_iov() - host pointers of [offset, offset+len) inside the buffer. The caller reports
 * writes with vmbus_gpadl_dirty(). Returns the number of pieces in @iov[max]; -EFAULT out of
 * bounds; -E2BIG.
 */
MUST_USE int vmbus_gpadl_iov(const struct vmbus_gpadl *gpadl, uint64_t offset_bytes,
                             uint64_t len_bytes, struct iovec *iov, uint32_t max);
void vmbus_gpadl_dirty(struct vmbus_gpadl *gpadl, uint64_t offset_bytes, uint64_t len_bytes);
MUST_USE int vmbus_gpadl_read(const struct vmbus_gpadl *gpadl, uint64_t offset_bytes, void *buf,
                              size_t len_bytes);
MUST_USE int vmbus_gpadl_write(struct vmbus_gpadl *gpadl, uint64_t offset_bytes, const void *buf,
                               size_t len_bytes);

#endif
