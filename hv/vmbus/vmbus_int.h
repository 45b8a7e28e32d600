/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_VMBUS_VMBUS_INT_H
#define HV_VMBUS_VMBUS_INT_H

/* vmbus_int - what the files of this folder share. Everything on the device thread. */

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/list.h"
#include "base/log.h"
#include "base/uring.h"
#include "hv/vmbus/ring.h"
#include "hv/vmbus/vmbus.h"
#include "hv/vmbus/vmbus_wire.h"

#define VMBUS_TAG "vmbus"
#define VMBUS_RELIDS 2048u       /* event flags of one SINT; relid 0 is not used */
#define VMBUS_CONNECTION 0x2000u /* | relid = connection id of a channel's doorbell */
#define VMBUS_SINT 2u            /* of event flags always, of messages before 5.0 */
#define VMBUS_SINTS 16u
#define VMBUS_POST_CONNECTION 1u    /* connection ids for HvPostMessage: this one ... */
#define VMBUS_POST_CONNECTION_V5 4u /* ... and what guests use for a contact from 5.0 */
#define VMBUS_NO_VP UINT32_MAX      /* target VP: no interrupts wanted */

/*
 * Messages to the guest that do not fit its slot. Room is bounded by construction: a guest's
 * message is taken only while fewer than VMBUS_OUT_POSTS wait, and each of them causes one answer
 * at once; what comes without a post (offers, rescinds, answers that were held back until a
 * channel closed) is bounded by the number of channels and GPADLs.
 */
#define VMBUS_OUT_POSTS 1024u
#define VMBUS_OUT_MAX (VMBUS_OUT_POSTS + 3 * VMBUS_CHANNELS_MAX + VMBUS_GPADLS_MAX + 8)
#define VMBUS_OUT_BYTES_MAX sizeof(struct vmbus_offer_wire) /* the longest we send */

struct vmbus_out {
	uint8_t len_bytes;
	uint8_t bytes[VMBUS_OUT_BYTES_MAX];
};

/* Head and tail start again from 0 when it runs empty: only what was ever used costs memory. */
struct vmbus_outq {
	struct vmbus_out *slots; /* owned; [VMBUS_OUT_MAX] */
	uint32_t head;
	uint32_t count;
};

/*
 *   DISCONNECTED --contact--> CONNECTED --unload, contact again, reset--> DRAINING
 *        ^------------------------------- last channel closed -----------------'
 *
 * DISCONNECTED  no GPADLs, no channel open, nobody told of any offer.
 * CONNECTED     version is set.
 * DRAINING      channels are closing for @drain; the guest's other messages are dropped.
 */
enum vmbus_conn_state {
	VMBUS_CONN_DISCONNECTED,
	VMBUS_CONN_CONNECTED,
	VMBUS_CONN_DRAINING,
	VMBUS_CONN_STATE_COUNT
};

enum vmbus_drain {
	VMBUS_DRAIN_NONE,
	VMBUS_DRAIN_UNLOAD,  /* then answer it */
	VMBUS_DRAIN_CONTACT, /* then go on with conn.contact */
	VMBUS_DRAIN_RESET,   /* then call reset_done */
	VMBUS_DRAIN_COUNT
};

struct vmbus_contact {
	uint32_t version;
	uint32_t target_vp;
	uint32_t sint;
};

struct vmbus_conn {
	enum vmbus_conn_state state;
	enum vmbus_drain drain;
	struct vmbus_contact contact; /* in effect, or the last one refused */
	struct vmbus_contact next;    /* VMBUS_DRAIN_CONTACT */
	bool offers_sent;
};

/*
 *   CLOSED --open--> OPEN --close, rescind, fail, drain--> CLOSING --channel closed--> CLOSED
 *                      '------------ refused by the VSP -------------------------------^
 *
 * CLOSED   no rings, no ring GPADL.
 * OPEN     rings are usable unless @failed.
 * CLOSING  the VSP was told; its ring GPADL is still held.
 */
enum vmbus_channel_state {
	VMBUS_CHANNEL_CLOSED,
	VMBUS_CHANNEL_OPEN,
	VMBUS_CHANNEL_CLOSING,
	VMBUS_CHANNEL_STATE_COUNT
};

struct vmbus_open {
	uint32_t open_id;
	uint32_t ring_gpadl;
	uint32_t target_vp;
	uint32_t downstream_page;
};

/* Why vmbus_channel.work is queued. */
#define VMBUS_WORK_KICK 1u   /* call ready() */
#define VMBUS_WORK_CLOSE 2u  /* failed or rescinded: begin to close */
#define VMBUS_WORK_POLL 4u   /* the doorbell's poll ended: prepare it again */
#define VMBUS_WORK_CANCEL 8u /* released: cancel the doorbell's poll */
#define VMBUS_WORK_OPEN 16u  /* closed, and an open waits */

struct vmbus_channel {
	struct vmbus *bus;            /* borrowed: it owns us */
	struct list link;             /* in bus->released once the relid is given back */
	struct vmbus_offer_cfg offer; /* ops NULL: nobody on our side (rescinded, or not yet offered
	                                 again after a load) */
	uint32_t relid;
	enum vmbus_channel_state state;
	bool told; /* the guest has the offer, or it waits in outq */
	bool rescinded;
	bool guest_released; /* RELID_RELEASED came */
	bool orphan;         /* loaded, and nobody has offered it again yet */
	bool failed;         /* OPEN, but nothing moves any more */
	bool open_waits;     /* an open came while CLOSING: @waiting */
	bool reopen;         /* loaded as open (and perhaps failed): start when it has an owner */
	bool in_ready;
	bool in_open;
	struct vmbus_open open; /* OPEN, CLOSING */
	struct vmbus_open waiting;
	struct vmbus_gpadl *ring_gpadl; /* ref; OPEN, CLOSING */
	struct vmbus_ring_rx rx;
	struct vmbus_ring_tx tx;
	uint32_t batch_left;
	uint32_t gpadl_pages; /* in its GPADLs */
	int doorbell_fd;      /* owned; -1 = none */
	bool polling;         /* @poll is in flight */
	uint32_t work_bits;   /* VMBUS_WORK_*; != 0: @work is in flight */
	struct uring_op poll;
	struct uring_op work;
	struct log_limit limit;
};

/*
 * BUILDING  header taken, received < page_count.
 * READY     every page is RAM.
 * TEARDOWN  the guest wants it back; refs > 0, and the last put answers.
 */
enum vmbus_gpadl_state { VMBUS_GPADL_BUILDING, VMBUS_GPADL_READY, VMBUS_GPADL_TEARDOWN };

struct vmbus_gpadl {
	struct list link; /* bus->gpadls; alone once forgotten */
	struct vmbus *bus;
	struct vmbus_channel *chan; /* borrowed; NULL = forgotten: the last put frees it */
	uint32_t id;
	enum vmbus_gpadl_state state;
	uint32_t byte_count;
	uint32_t byte_offset; /* in the first page */
	uint32_t page_count;
	uint32_t received;
	uint32_t refs;
	uint64_t pfns[]; /* [page_count] */
};

struct vmbus {
	struct vmbus_cfg cfg; /* vm_name borrowed like the rest */
	struct vmbus_conn conn;
	struct vmbus_outq outq;
	struct vmbus_channel *channels[VMBUS_RELIDS]; /* owned; by relid */
	uint32_t channel_count;
	uint32_t busy_channels; /* OPEN or CLOSING */
	struct list released;   /* channels whose poll or work has not ended */
	struct list gpadls;
	uint32_t gpadl_count;
	uint32_t gpadl_pages;
	bool paused;
	bool loading; /* between vmbus_load() and vmbus_resume() */
	void (*reset_done)(void *arg);
	void *reset_arg;
	struct log_limit limit;
	struct log_limit conn_limit; /* connects and unloads: not lost among a guest's nonsense */
};

/* ---- outq.c ---- */

/* vmbus_out_push() - send @buf[len_bytes] now or when the slot is free. */
void vmbus_out_push(struct vmbus *bus, const void *buf, uint32_t len_bytes);
/* vmbus_out_pump() - fill the guest's slot as long as it takes messages. */
void vmbus_out_pump(struct vmbus *bus);
void vmbus_out_clear(struct vmbus *bus);

/* ---- conn.c ---- */

/* vmbus_conn_message() - decode and act; @msg[len_bytes] is private memory. Returns 0; -EAGAIN. */
MUST_USE int vmbus_conn_message(struct vmbus *bus, const uint8_t *msg, uint32_t len_bytes);
/* vmbus_conn_drain() - close everything, then do what @why says. */
void vmbus_conn_drain(struct vmbus *bus, enum vmbus_drain why);
/* vmbus_conn_drained() - a channel closed: was it the last one we waited for? */
void vmbus_conn_drained(struct vmbus *bus);
bool vmbus_conn_version_known(const struct vmbus *bus, uint32_t version);

/* ---- channel.c ---- */

/* vmbus_channel_find() - the channel that the guest calls @relid, or NULL. */
struct vmbus_channel *vmbus_channel_find(const struct vmbus *bus, uint32_t relid);
bool vmbus_channel_same_key(const struct vmbus_offer_cfg *a, const struct vmbus_offer_cfg *b);
/* vmbus_channel_new() - allocate; not yet in the table. */
MUST_USE int vmbus_channel_new(struct vmbus *bus, const struct vmbus_offer_cfg *cfg,
                               struct vmbus_channel **out);
/* vmbus_channel_place() - put it into the table at @relid, which is free. */
void vmbus_channel_place(struct vmbus_channel *chan, uint32_t relid);
uint32_t vmbus_channel_relid_free(const struct vmbus *bus);
/* vmbus_channel_attach() - the eventfd for the guest's signals, and its poll. Returns 0; -errno. */
MUST_USE int vmbus_channel_attach(struct vmbus_channel *chan);
/* vmbus_channel_tell() - queue the offer. */
void vmbus_channel_tell(struct vmbus_channel *chan);
/* vmbus_channel_close() - OPEN: tell the VSP; may release @chan. Other states: nothing. */
void vmbus_channel_close(struct vmbus_channel *chan);
/* vmbus_channel_release() - give the relid back; the memory goes when poll and work have ended. */
void vmbus_channel_release(struct vmbus_channel *chan);
/* vmbus_channel_disown() - CLOSED and rescinded: nobody on our side uses it any more; release it
 * unless the guest must do so first. */
void vmbus_channel_disown(struct vmbus_channel *chan);
void vmbus_channel_work(struct vmbus_channel *chan, uint32_t bits);
/* vmbus_channel_start() - map the rings of chan->open and ask the VSP.
 * Returns VMBUS_STATUS_*; the state is OPEN then, or CLOSED. */
MUST_USE uint32_t vmbus_channel_start(struct vmbus_channel *chan, bool restored);
/* vmbus_channel_try_open() - open as the guest asks in @open, and answer. */
void vmbus_channel_try_open(struct vmbus_channel *chan, const struct vmbus_open *open);
/* vmbus_channel_restart() - start a loaded channel. Returns 0; -EBADMSG; -ENOMEM. */
MUST_USE int vmbus_channel_restart(struct vmbus_channel *chan);
/* vmbus_channel_open_waiting() - do the open that had to wait, if it still can be done. */
void vmbus_channel_open_waiting(struct vmbus_channel *chan);
/* vmbus_channel_abandon() - CLOSED without asking anybody. */
void vmbus_channel_abandon(struct vmbus_channel *chan);
void vmbus_channel_signal(struct vmbus_channel *chan);
/* Set a channel's state, keeping bus->busy_channels; the only writer. */
void vmbus_channel_move(struct vmbus_channel *chan, enum vmbus_channel_state next);

/* Messages: @msg has at least the size of their struct. */
void vmbus_channel_msg_open(struct vmbus *bus, const uint8_t *msg, uint32_t len_bytes);
void vmbus_channel_msg_close(struct vmbus *bus, const uint8_t *msg, uint32_t len_bytes);
void vmbus_channel_msg_released(struct vmbus *bus, const uint8_t *msg, uint32_t len_bytes);
void vmbus_channel_msg_modify(struct vmbus *bus, const uint8_t *msg, uint32_t len_bytes);

/* ---- gpadl.c ---- */

void vmbus_gpadl_msg_header(struct vmbus *bus, const uint8_t *msg, uint32_t len_bytes);
void vmbus_gpadl_msg_body(struct vmbus *bus, const uint8_t *msg, uint32_t len_bytes);
void vmbus_gpadl_msg_teardown(struct vmbus *bus, const uint8_t *msg, uint32_t len_bytes);
struct vmbus_gpadl *vmbus_gpadl_find(const struct vmbus *bus, uint32_t id);
/* vmbus_gpadl_new() - a BUILDING one, in the list. Returns 0; -ENOMEM; -ENOSPC limits. */
MUST_USE int vmbus_gpadl_new(struct vmbus_channel *chan, uint32_t id, uint32_t byte_count,
                             uint32_t byte_offset, struct vmbus_gpadl **out);
/* vmbus_gpadl_page_ok() - is the page with this number RAM? */
bool vmbus_gpadl_page_ok(const struct vmbus *bus, uint64_t pfn);
/* vmbus_gpadl_forget() - the guest owns it no longer; freed now or by the last put. */
void vmbus_gpadl_forget(struct vmbus_gpadl *gpadl);
/* vmbus_gpadl_forget_channel() - forget all of @chan; of every channel if NULL. */
void vmbus_gpadl_forget_channel(struct vmbus *bus, const struct vmbus_channel *chan);
/* vmbus_gpadl_settle() - after a load: answer for those that nobody holds any more. */
void vmbus_gpadl_settle(struct vmbus *bus);

#endif
