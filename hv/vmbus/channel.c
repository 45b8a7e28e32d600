/* SPDX-License-Identifier: Apache-2.0 */

/*
 * channel - offers, and the life of a channel from open to close, rescind and release.
 *
 * Who could still hold a channel that was released: the poll of its doorbell and its queued work,
 * both in the uring. It stays in bus->released until both have completed; so a pointer to a
 * channel is good to the end of the callback in which it was released.
 */

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/check.h"
#include "base/fault.h"
#include "hv/vmbus/vmbus_host.h"
#include "hv/vmbus/vmbus_int.h"

#define VMBUS_PIPE_MESSAGE 4u

/* ---- allocation, doorbell, work ---- */

static void vmbus_channel_free_try(struct vmbus_channel *chan)
{
	if (!list_linked(&chan->link) || chan->polling || chan->work_bits != 0) {
		return; /* not released, or not yet let go by the ring */
	}
	list_del(&chan->link);
	if (chan->doorbell_fd >= 0) {
		(void)close(chan->doorbell_fd);
	}
	free(chan);
}

static void vmbus_channel_poll_start(struct vmbus_channel *chan)
{
	/*
	 * Multishot polls report each write to an eventfd once, read or not; so nobody reads it,
	 * which saves a system call per signal. The counter holds 2^64 - 2 of them.
	 */
	int err =
		uring_prep_poll(chan->bus->cfg.ring, &chan->poll, chan->doorbell_fd, POLLIN, true);

	chan->polling = err == 0;
	if (err != 0) {
		vmbus_channel_work(chan, VMBUS_WORK_POLL); /* no room in the ring: again later */
	}
}

static void vmbus_channel_poll_cancel(struct vmbus_channel *chan)
{
	if (chan->polling && uring_cancel(chan->bus->cfg.ring, &chan->poll) != 0) {
		vmbus_channel_work(chan, VMBUS_WORK_CANCEL);
	}
}

/* The VSP's turn. */
static void vmbus_channel_ready(struct vmbus_channel *chan)
{
	if (chan->state != VMBUS_CHANNEL_OPEN || chan->failed || chan->bus->paused) {
		return; /* resume kicks every open channel */
	}
	vmbus_ring_rx_disarm(&chan->rx);
	vmbus_ring_tx_wait_end(&chan->tx);
	chan->batch_left = VMBUS_BATCH_MAX;
	chan->in_ready = true;
	chan->offer.ops->ready(chan, chan->offer.arg);
	chan->in_ready = false;
	vmbus_flush(chan);
}

static void vmbus_channel_on_poll(struct uring_op *op, int32_t res, bool more)
{
	struct vmbus_channel *chan = op->arg;

	if (!more) {
		chan->polling = false;
		if (list_linked(&chan->link)) {
			vmbus_channel_free_try(chan);
			return;
		}
		vmbus_channel_poll_start(chan);
	}
	if (res >= 0) {
		vmbus_channel_ready(chan);
	}
}

static void vmbus_channel_on_work(struct uring_op *op, int32_t res, bool more)
{
	struct vmbus_channel *chan = op->arg;
	uint32_t bits = chan->work_bits;

	(void)res;
	(void)more;
	chan->work_bits = 0;
	if (list_linked(&chan->link)) {
		if ((bits & VMBUS_WORK_CANCEL) != 0) {
			vmbus_channel_poll_cancel(chan);
		}
		vmbus_channel_free_try(chan);
		return;
	}
	if ((bits & VMBUS_WORK_POLL) != 0 && chan->doorbell_fd >= 0) {
		vmbus_channel_poll_start(chan);
	}
	/* The reasons are looked at again: the guest may have closed and opened meanwhile. */
	if ((bits & VMBUS_WORK_CLOSE) != 0 && (chan->failed || chan->rescinded)) {
		vmbus_channel_close(chan);
	} else if ((bits & VMBUS_WORK_OPEN) != 0) {
		vmbus_channel_open_waiting(chan);
	} else if ((bits & VMBUS_WORK_KICK) != 0) {
		vmbus_channel_ready(chan);
	}
}

void vmbus_channel_work(struct vmbus_channel *chan, uint32_t bits)
{
	if (chan->work_bits == 0) {
		uring_defer(chan->bus->cfg.ring, &chan->work, 0);
	}
	chan->work_bits |= bits;
}

int vmbus_channel_new(struct vmbus *bus, const struct vmbus_offer_cfg *cfg,
                      struct vmbus_channel **out)
{
	struct vmbus_channel *chan = gw_calloc(1, sizeof(*chan));

	*out = NULL;
	if (chan == NULL) {
		return -ENOMEM;
	}
	chan->bus = bus;
	chan->offer = *cfg;
	chan->doorbell_fd = -1;
	chan->poll.fn = vmbus_channel_on_poll;
	chan->poll.arg = chan;
	chan->work.fn = vmbus_channel_on_work;
	chan->work.arg = chan;
	list_init(&chan->link);
	*out = chan;
	return 0;
}

int vmbus_channel_attach(struct vmbus_channel *chan)
{
	if (chan->doorbell_fd < 0) {
		chan->doorbell_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (chan->doorbell_fd < 0) {
			return -errno;
		}
		vmbus_channel_poll_start(chan);
	}
	return 0;
}

struct vmbus_channel *vmbus_channel_find(const struct vmbus *bus, uint32_t relid)
{
	struct vmbus_channel *chan = relid < VMBUS_RELIDS ? bus->channels[relid] : NULL;

	/* What the guest was not told it does not know; a guess must not reach it. */
	return chan != NULL && chan->told ? chan : NULL;
}

uint32_t vmbus_channel_relid_free(const struct vmbus *bus)
{
	uint32_t relid = 1;

	while (bus->channels[relid] != NULL) {
		relid++; /* VMBUS_CHANNELS_MAX < VMBUS_RELIDS */
	}
	return relid;
}

void vmbus_channel_place(struct vmbus_channel *chan, uint32_t relid)
{
	CHECK(relid != 0 && relid < VMBUS_RELIDS && chan->bus->channels[relid] == NULL);
	chan->relid = relid;
	chan->bus->channels[relid] = chan;
	chan->bus->channel_count++;
}

void vmbus_channel_release(struct vmbus_channel *chan)
{
	struct vmbus *bus = chan->bus;

	CHECK(chan->state == VMBUS_CHANNEL_CLOSED && bus->channels[chan->relid] == chan);
	vmbus_gpadl_forget_channel(bus, chan);
	bus->channels[chan->relid] = NULL;
	bus->channel_count--;
	list_add_tail(&bus->released, &chan->link);
	vmbus_channel_poll_cancel(chan);
	/* Not at once: whoever calls us may still look at it. */
	vmbus_channel_work(chan, VMBUS_WORK_KICK);
}

void vmbus_channel_disown(struct vmbus_channel *chan)
{
	chan->offer.ops = NULL;
	chan->offer.arg = NULL;
	if (!chan->told || chan->guest_released || chan->bus->conn.state != VMBUS_CONN_CONNECTED) {
		vmbus_channel_release(chan);
	}
}

/* ---- offer and rescind ---- */

bool vmbus_channel_same_key(const struct vmbus_offer_cfg *a, const struct vmbus_offer_cfg *b)
{
	return guid_equal(&a->interface_id, &b->interface_id) &&
	       guid_equal(&a->instance_id, &b->instance_id) &&
	       a->subchannel_index == b->subchannel_index;
}

/* The channel that stands in the way of an offer with this key, or waits for it. A guest takes a
 * new sub-channel while it is still releasing the old one with the same number, but not so a
 * device. */
static struct vmbus_channel *vmbus_channel_by_key(const struct vmbus *bus,
                                                  const struct vmbus_offer_cfg *cfg)
{
	for (uint32_t relid = 1; relid < VMBUS_RELIDS; relid++) {
		struct vmbus_channel *chan = bus->channels[relid];

		if (chan != NULL && vmbus_channel_same_key(&chan->offer, cfg) &&
		    (!chan->rescinded || cfg->subchannel_index == 0)) {
			return chan;
		}
	}
	return NULL;
}

void vmbus_channel_tell(struct vmbus_channel *chan)
{
	const struct vmbus_offer_cfg *cfg = &chan->offer;
	struct vmbus_offer_wire w = {
		.header.type = le32_make(VMBUS_MESSAGE_OFFER),
		.interface_id = cfg->interface_id,
		.instance_id = cfg->instance_id,
		.flags = le16_make(cfg->flags),
		.mmio_mib = le16_make(cfg->mmio_mib),
		.subchannel_index = le16_make(cfg->subchannel_index),
		.relid = le32_make(chan->relid),
		.monitor_id = VMBUS_OFFER_NO_MONITOR,
		.dedicated = le16_make(VMBUS_OFFER_DEDICATED),
		.connection_id = le32_make(VMBUS_CONNECTION | chan->relid),
	};

	if (cfg->pipe_message_mode) {
		w.user[0] = VMBUS_PIPE_MESSAGE;
	}
	chan->told = true;
	vmbus_out_push(chan->bus, &w, sizeof(w));
}

/* A saved channel that waited for its VSP. */
static int vmbus_channel_adopt(struct vmbus_channel *chan, const struct vmbus_offer_cfg *cfg,
                               struct vmbus_channel **out)
{
	int err = vmbus_channel_attach(chan);

	if (err != 0) {
		return err;
	}
	chan->offer = *cfg;
	chan->orphan = false;
	*out = chan;
	if (chan->reopen) {
		chan->reopen = false;
		err = vmbus_channel_restart(chan);
		if (err != 0) {
			*out = NULL;
			chan->orphan = true; /* vmbus_resume() rescinds it */
		}
	}
	return err;
}

int vmbus_offer(struct vmbus *bus, const struct vmbus_offer_cfg *cfg, struct vmbus_channel **out)
{
	struct vmbus_channel *chan = vmbus_channel_by_key(bus, cfg);

	*out = NULL;
	if (chan != NULL) {
		return chan->orphan ? vmbus_channel_adopt(chan, cfg, out) : -EEXIST;
	}
	if (bus->channel_count == VMBUS_CHANNELS_MAX) {
		return -ENOSPC;
	}

	int err = vmbus_channel_new(bus, cfg, &chan);

	if (err != 0) {
		return err;
	}
	vmbus_channel_place(chan, vmbus_channel_relid_free(bus));
	err = vmbus_channel_attach(chan);
	if (err != 0) {
		bus->channels[chan->relid] = NULL;
		bus->channel_count--;
		free(chan);
		return err;
	}
	if (bus->conn.state == VMBUS_CONN_CONNECTED && bus->conn.offers_sent && !bus->loading) {
		vmbus_channel_tell(chan);
	}
	*out = chan;
	return 0;
}

void vmbus_rescind(struct vmbus_channel *chan)
{
	struct vmbus_relid_wire w = {
		.header.type = le32_make(VMBUS_MESSAGE_RESCIND),
		.relid = le32_make(chan->relid),
	};

	CHECK(!chan->rescinded);
	chan->rescinded = true;
	chan->open_waits = false;
	if (chan->told && chan->bus->conn.state == VMBUS_CONN_CONNECTED) {
		vmbus_out_push(chan->bus, &w, sizeof(w));
	}
	if (chan->state == VMBUS_CHANNEL_OPEN) {
		vmbus_channel_work(chan, VMBUS_WORK_CLOSE);
	} else if (chan->state == VMBUS_CHANNEL_CLOSED) {
		vmbus_channel_disown(chan);
	}
}

void vmbus_channel_msg_released(struct vmbus *bus, const uint8_t *msg, uint32_t len_bytes)
{
	struct vmbus_relid_wire w;

	(void)len_bytes;
	memcpy(&w, msg, sizeof(w));

	struct vmbus_channel *chan = vmbus_channel_find(bus, le32_get(w.relid));

	if (chan == NULL || !chan->rescinded) {
		log_limited(&bus->limit, LOG_LEVEL_WARN, VMBUS_TAG,
		            "release of a channel that was not rescinded vm=%s chan=%u",
		            bus->cfg.vm_name, le32_get(w.relid));
		return;
	}
	chan->guest_released = true;
	if (chan->state == VMBUS_CHANNEL_CLOSED) {
		vmbus_channel_release(chan);
	}
}

/* ---- open and close ---- */

static const uint8_t vmbus_channel_moves[VMBUS_CHANNEL_STATE_COUNT] = {
	[VMBUS_CHANNEL_CLOSED] = 1u << VMBUS_CHANNEL_OPEN,
	[VMBUS_CHANNEL_OPEN] = 1u << VMBUS_CHANNEL_CLOSING | 1u << VMBUS_CHANNEL_CLOSED,
	[VMBUS_CHANNEL_CLOSING] = 1u << VMBUS_CHANNEL_CLOSED,
};

void vmbus_channel_move(struct vmbus_channel *chan, enum vmbus_channel_state next)
{
	CHECK((vmbus_channel_moves[chan->state] & 1u << next) != 0);
	chan->bus->busy_channels += chan->state == VMBUS_CHANNEL_CLOSED;
	chan->bus->busy_channels -= next == VMBUS_CHANNEL_CLOSED;
	chan->state = next;
}

/* Both rings of chan->open, out of its GPADL. */
static uint32_t vmbus_channel_map(struct vmbus_channel *chan)
{
	struct vmbus *bus = chan->bus;
	const struct vmbus_open *open = &chan->open;
	struct vmbus_gpadl *g;

	if ((open->target_vp >= bus->cfg.vp_count && open->target_vp != VMBUS_NO_VP) ||
	    vmbus_gpadl_get(chan, open->ring_gpadl, &g) != 0) {
		return VMBUS_STATUS_INVALID;
	}

	uint32_t first = open->downstream_page; /* also the pages before it */
	int err = -EINVAL;

	if (g->byte_offset == 0 && g->byte_count == (uint64_t)g->page_count * 4096u && first >= 2 &&
	    first <= VMBUS_RING_PAGES_MAX && g->page_count >= 2 && first <= g->page_count - 2 &&
	    g->page_count - first <= VMBUS_RING_PAGES_MAX) {
		err = vmbus_ring_init(&chan->rx.ring, bus->cfg.mem, g->pfns, first);
	}
	if (err != 0) {
		vmbus_gpadl_put(g);
		return err == -ENOMEM ? VMBUS_STATUS_NO_RESOURCES : VMBUS_STATUS_INVALID;
	}
	err = vmbus_ring_init(&chan->tx.ring, bus->cfg.mem, g->pfns + first, g->page_count - first);
	if (err == 0) {
		chan->ring_gpadl = g;
		return VMBUS_STATUS_OK;
	}
	vmbus_ring_fini(&chan->rx.ring);
	vmbus_gpadl_put(g);
	return err == -ENOMEM ? VMBUS_STATUS_NO_RESOURCES : VMBUS_STATUS_INVALID;
}

static void vmbus_channel_unmap(struct vmbus_channel *chan)
{
	struct vmbus_gpadl *g = chan->ring_gpadl;

	vmbus_ring_fini(&chan->rx.ring);
	vmbus_ring_fini(&chan->tx.ring);
	chan->ring_gpadl = NULL;
	vmbus_gpadl_put(g);
}

/* The guest's signals reach us only while the channel is open: the doorbells of a virtual machine
 * that is reset go away with it, and none is left over then. */
static int vmbus_channel_doorbell_add(struct vmbus_channel *chan)
{
	const struct vmbus_cfg *cfg = &chan->bus->cfg;

	return cfg->host->doorbell_add(cfg->host_arg, VMBUS_CONNECTION | chan->relid,
	                               chan->doorbell_fd);
}

static void vmbus_channel_doorbell_del(struct vmbus_channel *chan)
{
	const struct vmbus_cfg *cfg = &chan->bus->cfg;

	cfg->host->doorbell_del(cfg->host_arg, VMBUS_CONNECTION | chan->relid, chan->doorbell_fd);
}

/* OPEN or CLOSING -> CLOSED */
static void vmbus_channel_end(struct vmbus_channel *chan)
{
	vmbus_channel_move(chan, VMBUS_CHANNEL_CLOSED);
	vmbus_channel_doorbell_del(chan);
	vmbus_channel_unmap(chan);
}

uint32_t vmbus_channel_start(struct vmbus_channel *chan, bool restored)
{
	uint32_t status = vmbus_channel_map(chan);

	if (status != VMBUS_STATUS_OK) {
		return status;
	}
	if (vmbus_ring_rx_start(&chan->rx) != 0 || vmbus_ring_tx_start(&chan->tx) != 0) {
		vmbus_channel_unmap(chan);
		return VMBUS_STATUS_INVALID;
	}
	if (vmbus_channel_doorbell_add(chan) != 0) {
		vmbus_channel_unmap(chan);
		return VMBUS_STATUS_NO_RESOURCES;
	}
	chan->failed = false;
	vmbus_channel_move(chan, VMBUS_CHANNEL_OPEN);
	chan->in_open = true; /* what open() sends is not shown before the guest has the result */

	int err = chan->offer.ops->open(chan, restored, chan->offer.arg);

	chan->in_open = false;
	if (err != 0) {
		vmbus_channel_end(chan);
		return err == -ENOMEM ? VMBUS_STATUS_NO_RESOURCES : VMBUS_STATUS_UNSUCCESSFUL;
	}
	return VMBUS_STATUS_OK;
}

int vmbus_channel_restart(struct vmbus_channel *chan)
{
	bool failed = chan->failed;
	uint32_t status = vmbus_channel_start(chan, true);

	if (status != VMBUS_STATUS_OK) {
		return status == VMBUS_STATUS_NO_RESOURCES ? -ENOMEM : -EBADMSG;
	}
	if (failed) { /* saved between the failure and the close */
		chan->failed = true;
		vmbus_channel_work(chan, VMBUS_WORK_CLOSE);
	}
	return 0;
}

static void vmbus_channel_opened(struct vmbus_channel *chan, uint32_t relid, uint32_t open_id,
                                 uint32_t status)
{
	struct vmbus_open_result_wire w = {
		.header.type = le32_make(VMBUS_MESSAGE_OPEN_RESULT),
		.relid = le32_make(relid),
		.open_id = le32_make(open_id),
		.status = le32_make(status),
	};

	if (status != VMBUS_STATUS_OK) {
		log_limited(&chan->limit, LOG_LEVEL_WARN, VMBUS_TAG,
		            "open refused vm=%s chan=%u status=0x%x", chan->bus->cfg.vm_name, relid,
		            status);
	}
	vmbus_out_push(chan->bus, &w, sizeof(w));
}

void vmbus_channel_try_open(struct vmbus_channel *chan, const struct vmbus_open *open)
{
	chan->open = *open;

	uint32_t status = vmbus_channel_start(chan, false);

	vmbus_channel_opened(chan, chan->relid, open->open_id, status);
	if (status == VMBUS_STATUS_OK) {
		vmbus_flush(chan);
		vmbus_kick(chan); /* the guest may have written, and signalled, before */
	}
}

static bool vmbus_channel_same_device(const struct vmbus_channel *a, const struct vmbus_channel *b)
{
	return guid_equal(&a->offer.interface_id, &b->offer.interface_id) &&
	       guid_equal(&a->offer.instance_id, &b->offer.instance_id);
}

/* May it open now? Not before its last close has ended; and a device starts anew with its primary
 * channel, so that not before its old sub-channels have closed, either. */
static bool vmbus_channel_may_open(const struct vmbus_channel *chan)
{
	const struct vmbus *bus = chan->bus;

	if (chan->state != VMBUS_CHANNEL_CLOSED) {
		return false;
	}
	for (uint32_t relid = 1; relid < VMBUS_RELIDS && chan->offer.subchannel_index == 0;
	     relid++) {
		const struct vmbus_channel *other = bus->channels[relid];

		if (other != NULL && other->rescinded && other->state != VMBUS_CHANNEL_CLOSED &&
		    vmbus_channel_same_device(chan, other)) {
			return false;
		}
	}
	return true;
}

/* @chan has closed: who waits for that? Not from inside the VSP's call. */
static void vmbus_channel_wake_waiting(const struct vmbus_channel *chan)
{
	const struct vmbus *bus = chan->bus;

	for (uint32_t relid = 1; relid < VMBUS_RELIDS; relid++) {
		struct vmbus_channel *other = bus->channels[relid];

		if (other != NULL && other->open_waits && vmbus_channel_same_device(chan, other)) {
			vmbus_channel_work(other, VMBUS_WORK_OPEN);
		}
	}
}

void vmbus_channel_open_waiting(struct vmbus_channel *chan)
{
	if (chan->open_waits && vmbus_channel_may_open(chan) && !chan->bus->paused) {
		chan->open_waits = false;
		vmbus_channel_try_open(chan, &chan->waiting);
	}
}

void vmbus_channel_msg_open(struct vmbus *bus, const uint8_t *msg, uint32_t len_bytes)
{
	struct vmbus_open_wire w;

	(void)len_bytes;
	memcpy(&w, msg, sizeof(w));

	struct vmbus_channel *chan = vmbus_channel_find(bus, le32_get(w.relid));
	struct vmbus_open open = {
		.open_id = le32_get(w.open_id),
		.ring_gpadl = le32_get(w.ring_gpadl),
		.target_vp = le32_get(w.target_vp),
		.downstream_page = le32_get(w.downstream_page),
	};

	if (chan == NULL) {
		log_limited(&bus->limit, LOG_LEVEL_WARN, VMBUS_TAG,
		            "open of an unknown channel vm=%s chan=%u", bus->cfg.vm_name,
		            le32_get(w.relid));
	} else if (chan->rescinded || chan->state == VMBUS_CHANNEL_OPEN || chan->open_waits ||
	           chan->offer.ops == NULL) {
		vmbus_channel_opened(chan, chan->relid, open.open_id, VMBUS_STATUS_UNSUCCESSFUL);
	} else if (!vmbus_channel_may_open(chan)) {
		chan->waiting = open; /* until the VSP is done with the last time */
		chan->open_waits = true;
	} else {
		vmbus_channel_try_open(chan, &open);
	}
}

void vmbus_channel_close(struct vmbus_channel *chan)
{
	if (chan->state != VMBUS_CHANNEL_OPEN) {
		return;
	}
	vmbus_channel_move(chan, VMBUS_CHANNEL_CLOSING);
	chan->offer.ops->close(chan, chan->offer.arg);
}

void vmbus_channel_abandon(struct vmbus_channel *chan)
{
	if (chan->state != VMBUS_CHANNEL_CLOSED) {
		vmbus_channel_end(chan);
	}
}

void vmbus_channel_closed(struct vmbus_channel *chan)
{
	struct vmbus *bus = chan->bus;

	CHECK(chan->state == VMBUS_CHANNEL_CLOSING);
	vmbus_channel_end(chan);
	chan->failed = false;
	vmbus_channel_wake_waiting(chan);
	if (chan->rescinded) {
		vmbus_channel_disown(chan);
	}
	vmbus_conn_drained(bus);
}

void vmbus_channel_msg_close(struct vmbus *bus, const uint8_t *msg, uint32_t len_bytes)
{
	struct vmbus_relid_wire w;

	(void)len_bytes;
	memcpy(&w, msg, sizeof(w));

	struct vmbus_channel *chan = vmbus_channel_find(bus, le32_get(w.relid));

	if (chan == NULL) {
		log_limited(&bus->limit, LOG_LEVEL_WARN, VMBUS_TAG,
		            "close of an unknown channel vm=%s chan=%u", bus->cfg.vm_name,
		            le32_get(w.relid));
		return;
	}
	chan->open_waits = false;
	vmbus_channel_close(chan);
}

void vmbus_channel_msg_modify(struct vmbus *bus, const uint8_t *msg, uint32_t len_bytes)
{
	struct vmbus_modify_wire w;

	(void)len_bytes;
	memcpy(&w, msg, sizeof(w));

	struct vmbus_channel *chan = vmbus_channel_find(bus, le32_get(w.relid));
	uint32_t vp = le32_get(w.target_vp);
	bool done = chan != NULL && chan->state == VMBUS_CHANNEL_OPEN &&
	            (vp < bus->cfg.vp_count || vp == VMBUS_NO_VP) &&
	            bus->conn.contact.version >= VMBUS_VERSION(4, 1);

	if (done) {
		chan->open.target_vp = vp;
	}
	if (bus->conn.contact.version >= VMBUS_VERSION(5, 3)) {
		struct vmbus_modify_response_wire r = {
			.header.type = le32_make(VMBUS_MESSAGE_MODIFY_RESPONSE),
			.relid = w.relid,
			.status = le32_make(done ? VMBUS_STATUS_OK : VMBUS_STATUS_INVALID),
		};

		vmbus_out_push(bus, &r, sizeof(r));
	}
	if (done) {
		vmbus_channel_signal(chan); /* the old VP may never look again */
	}
}
