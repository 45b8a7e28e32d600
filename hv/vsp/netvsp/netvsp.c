/* SPDX-License-Identifier: Apache-2.0 */
#include "hv/vsp/netvsp/netvsp.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "hv/vsp/netvsp/netvsp_int.h"

#define NETVSP_VLAN_MAX 4094u

static const struct guid netvsp_interface =
	GUID_INIT(0xf8615163, 0xdf3e, 0x46c5, 0x91, 0x3f, 0xf2, 0xd2, 0xf9, 0x65, 0xed, 0x0e);

static const struct vsp_ops netvsp_ops;

static struct netvsp *netvsp_of(struct vsp *vsp)
{
	CHECK(vsp->ops == &netvsp_ops);
	return (struct netvsp *)(void *)vsp;
}

bool netvsp_listens(const struct netvsp *n)
{
	return !n->paused && n->link_up && n->channels[0].open && n->nego.initialized &&
	       n->nego.filter != 0 && n->recv.gpadl != NULL;
}

bool netvsp_can_coalesce(const struct netvsp *n)
{
	return n->nego.version >= NETVSP_VERSION_61 &&
	       (n->nego.capabilities & NETVSP_CAP_RSC) != 0 &&
	       n->recv.slots.count >= NETVSP_COALESCE_SLOTS(n->queue_count);
}

bool netvsp_coalesces(const struct netvsp *n)
{
	return (n->nego.offload.rsc4 || n->nego.offload.rsc6) && netvsp_can_coalesce(n);
}

void netvsp_tap_update(struct netvsp *n)
{
	const struct ndis_offload *o = &n->nego.offload;
	bool tso4 = o->rsc4 && netvsp_can_coalesce(n);
	bool tso6 = o->rsc6 && netvsp_can_coalesce(n);
	bool checksum = o->rx4_tcp || o->rx4_udp || o->rx6_tcp || o->rx6_udp || tso4 || tso6;
	int err = n->tap->filter(n->queues[0].fd, n->spoofing ? NULL : n->mac_now);

	if (err == 0) {
		err = n->tap->offload(n->queues[0].fd, checksum, tso4, tso6);
	}
	if (err != 0) {
		log_limited(&n->limit, LOG_LEVEL_ERR, NETVSP_TAG,
		            "cannot set filter or offloads of the tap vm=%s nic=%u error=%d",
		            n->env.vm_name, n->vsp.index, err);
	}
}

/* ---- packets ---- */

/* Returns false if there is no room: ready() will come. */
static bool netvsp_answer_send(struct netvsp_channel *ch)
{
	int err = vmbus_complete(ch->chan, ch->answer_id, &ch->answer, sizeof(ch->answer));

	ch->answer_waits = err == -EAGAIN; /* any other failure: the channel is about to close */
	return !ch->answer_waits;
}

static void netvsp_table_send(struct netvsp *n)
{
	struct {
		struct netvsp_message m;
		le32 table[NETVSP_SEND_TABLE_ENTRIES];
	} w = {
		.m.type = le32_make(NETVSP_SEND_INDIRECTION_TABLE),
		.m.u.send_table = {.count = le32_make(NETVSP_SEND_TABLE_ENTRIES),
	                           .offset = le32_make(sizeof(w.m))},
	};
	const struct iovec iov = {.iov_base = &w, .iov_len = sizeof(w)};

	for (uint32_t i = 0; i < NETVSP_SEND_TABLE_ENTRIES; i++) {
		w.table[i] = le32_make(i % (n->sub_channels + 1));
	}
	n->table_waits = vmbus_send(n->channels[0].chan, VMBUS_PACKET_INBAND, 0, 0, NULL, 0, &iov,
	                            1) == -EAGAIN;
}

static void netvsp_completion(struct netvsp_channel *ch, const struct vmbus_packet *pkt)
{
	/* 0 - 1 is no slot either. One that is unknown may be from before the guest took its
	 * buffer back. */
	if (slots_return(&ch->n->recv.slots, ch->index, pkt->transaction_id - 1) < 0) {
		ch->n->stats.bad_completions++;
	}
}

static void netvsp_packet(struct netvsp_channel *ch, const struct vmbus_packet *pkt)
{
	if (pkt->type == VMBUS_PACKET_COMPLETION) {
		netvsp_completion(ch, pkt);
		return;
	}
	if (pkt->type != VMBUS_PACKET_INBAND && pkt->type != VMBUS_PACKET_GPA_DIRECT) {
		vmbus_fail(ch->chan, "packet type that network adapters do not have");
		return;
	}
	netvsp_message_handle(ch, pkt);
	if ((pkt->flags & VMBUS_PACKET_WANTS_COMPLETION) != 0) {
		ch->answer_id = pkt->transaction_id;
		(void)netvsp_answer_send(ch);
	}
}

static void netvsp_ready(struct vmbus_channel *chan, void *arg)
{
	struct netvsp_channel *ch = arg;
	struct netvsp *n = ch->n;
	struct vmbus_packet pkt;

	while (!n->paused && ch->open && (!ch->answer_waits || netvsp_answer_send(ch)) &&
	       vmbus_recv(chan, n->packet, sizeof(n->packet), &pkt) == 0) {
		/* Done with in one go: to a save it is unread or answered, nothing between. */
		netvsp_packet(ch, &pkt);
		vmbus_recv_done(chan);
	}
	if (n->paused || !ch->open) {
		return;
	}
	(void)netvsp_batch_flush(ch);
	if (ch->index == 0 && n->table_waits) {
		netvsp_table_send(n);
	}
	(void)netvsp_replies_flush(n);
	netvsp_rx_start_all(n);
}

/* ---- channels ---- */

static void netvsp_reset(struct netvsp *n)
{
	netvsp_recv_buffer_drop(n);
	netvsp_send_buffer_drop(n);
	n->nego = (struct netvsp_nego){0};
	memcpy(n->mac_now, n->mac, sizeof(n->mac));
	n->reply_count = 0;
	n->link_told = true;
	n->table_waits = false;
	n->recv_restored = false;
	n->send_restored = false;
	netvsp_tap_update(n);
}

static bool netvsp_all_open(const struct netvsp *n)
{
	for (uint32_t i = 0; i <= n->sub_channels; i++) {
		if (!n->channels[i].open) {
			return false;
		}
	}
	return true;
}

static int netvsp_open(struct vmbus_channel *chan, bool restored, void *arg)
{
	struct netvsp_channel *ch = arg;
	struct netvsp *n = ch->n;
	int err = 0;

	if (ch->index == 0 && restored) {
		err = netvsp_restore(n);
	} else if (ch->index == 0) {
		netvsp_reset(n);
	}
	if (err != 0) {
		return err;
	}
	ch->open = true;
	if (ch->index != 0 && !restored && n->channels[0].open && netvsp_all_open(n)) {
		n->table_waits = true;
		vmbus_kick(n->channels[0].chan);
	}
	(void)chan;
	return 0;
}

static void netvsp_sub_channels_rescind(struct netvsp *n)
{
	for (uint32_t i = 1; i <= n->sub_channels; i++) {
		struct netvsp_channel *ch = &n->channels[i];
		struct vmbus_channel *chan = ch->chan;

		if (!ch->open) {
			ch->chan = NULL; /* else the close callback does that */
		}
		vmbus_rescind(chan);
	}
	n->sub_channels = 0;
}

static void netvsp_close(struct vmbus_channel *chan, void *arg)
{
	struct netvsp_channel *ch = arg;
	struct netvsp *n = ch->n;

	ch->open = false;
	ch->answer_waits = false;
	for (uint32_t i = 0; i < ch->batch.count; i++) {
		slots_put(&n->recv.slots, ch->batch.slot[i]);
	}
	ch->batch.count = 0;
	if (ch->index == 0) {
		netvsp_reset(n);
		netvsp_sub_channels_rescind(n);
	} else {
		slots_return_all(&n->recv.slots, ch->index);
		if (ch->index > n->sub_channels) {
			ch->chan = NULL; /* rescinded: this is our last use of it */
		}
		netvsp_rx_start_all(n);
	}
	vmbus_channel_closed(chan);
}

static const struct vmbus_channel_ops netvsp_channel_ops = {
	.open = netvsp_open,
	.close = netvsp_close,
	.ready = netvsp_ready,
};

static int netvsp_offer(struct netvsp *n, uint32_t index)
{
	struct netvsp_channel *ch = &n->channels[index];
	const struct vmbus_offer_cfg offer = {
		.interface_id = netvsp_interface,
		.instance_id = n->instance_id,
		.subchannel_index = (uint16_t)index,
		.ops = &netvsp_channel_ops,
		.arg = ch,
	};
	int err;

	if (ch->chan != NULL) {
		return -EEXIST; /* from before the guest closed the primary, not closed yet */
	}
	err = vmbus_offer(n->env.bus, &offer, &ch->chan);
	if (err != 0) {
		ch->chan = NULL;
	}
	return err;
}

int netvsp_sub_channels_offer(struct netvsp *n, uint32_t count)
{
	while (n->sub_channels < count) {
		/* Counted first: it may open from inside. */
		int err;

		n->sub_channels++;
		err = netvsp_offer(n, n->sub_channels);
		if (err != 0) {
			n->sub_channels--;
			return err;
		}
	}
	return 0;
}

/* ---- the device ---- */

static void netvsp_free(struct netvsp *n, bool close_taps)
{
	for (uint32_t i = 0; i < n->queue_count && close_taps; i++) {
		(void)close(n->queues[i].fd);
	}
	free(n->queues);
	free(n);
}

static void netvsp_loop_once(struct netvsp *n)
{
	int ret = uring_wait(n->env.ring, UINT64_MAX);

	CHECK(ret >= 0 || ret == -EINTR);
}

static void netvsp_destroy(struct vsp *vsp)
{
	struct netvsp *n = netvsp_of(vsp);

	n->paused = true; /* nothing starts again */
	for (uint32_t i = 0; i < n->queue_count; i++) {
		struct netvsp_queue *q = &n->queues[i];

		while (q->polling && !q->deferred && uring_cancel(n->env.ring, &q->poll) != 0) {
			netvsp_loop_once(n);
		}
		while (q->polling) {
			netvsp_loop_once(n);
		}
	}
	netvsp_recv_buffer_drop(n);
	netvsp_send_buffer_drop(n);
	netvsp_free(n, true);
}

static void netvsp_pause(struct vsp *vsp, vsp_done_fn done, void *arg)
{
	struct netvsp *n = netvsp_of(vsp);

	CHECK(!n->paused);
	n->paused = true; /* between two callbacks nothing is in flight */
	done(arg);
}

static void netvsp_resume(struct vsp *vsp)
{
	struct netvsp *n = netvsp_of(vsp);

	n->paused = false; /* vmbus_resume() makes every channel ready, which starts the queues */
	if (!n->channels[0].open) { /* loaded, and the channel did not come back */
		netvsp_reset(n);
		netvsp_sub_channels_rescind(n);
	}
}

static const struct vsp_ops netvsp_ops = {
	.kind = NETVSP_TAG,
	.destroy = netvsp_destroy,
	.pause = netvsp_pause,
	.resume = netvsp_resume,
	.save = netvsp_save,
	.load = netvsp_load,
};

static int netvsp_cfg_check(const struct netvsp_cfg *cfg, struct errbuf *eb)
{
	if (cfg->tap_count == 0 || cfg->tap_count > NETVSP_QUEUES_MAX) {
		return errbuf_set(eb, -EINVAL, "an adapter has 1 to %u queues, not %u",
		                  NETVSP_QUEUES_MAX, cfg->tap_count);
	}
	if (cfg->mtu != 0 && (cfg->mtu < NETVSP_MTU_MIN || cfg->mtu > NETVSP_MTU_MAX)) {
		return errbuf_set(eb, -EINVAL, "MTU %u is not within %u to %u", cfg->mtu,
		                  NETVSP_MTU_MIN, NETVSP_MTU_MAX);
	}
	if (cfg->vlan > NETVSP_VLAN_MAX) {
		return errbuf_set(eb, -EINVAL, "VLAN %u is not within 1 to %u", cfg->vlan,
		                  NETVSP_VLAN_MAX);
	}
	if ((cfg->mac[0] & 1u) != 0 || memcmp(cfg->mac, (const uint8_t[6]){0}, 6) == 0) {
		return errbuf_set(eb, -EINVAL,
		                  "%02x:%02x:%02x:%02x:%02x:%02x is no address for an adapter",
		                  cfg->mac[0], cfg->mac[1], cfg->mac[2], cfg->mac[3], cfg->mac[4],
		                  cfg->mac[5]);
	}
	if (cfg->name != NULL && strlen(cfg->name) > NETVSP_NAME_MAX) {
		return errbuf_set(eb, -EINVAL, "an adapter's name has at most %u characters",
		                  NETVSP_NAME_MAX);
	}
	return 0;
}

static struct netvsp *netvsp_new(const struct vsp_env *env, const struct netvsp_cfg *cfg)
{
	struct netvsp *n = gw_calloc(1, sizeof(*n));

	if (n == NULL) {
		return NULL;
	}
	n->queues = gw_calloc(cfg->tap_count, sizeof(*n->queues));
	if (n->queues == NULL) {
		free(n);
		return NULL;
	}
	n->vsp = (struct vsp){.ops = &netvsp_ops, .index = cfg->index};
	n->env = *env;
	n->instance_id = cfg->instance_id;
	n->tap = cfg->tap != NULL ? cfg->tap : tap_linux();
	memcpy(n->mac, cfg->mac, sizeof(n->mac));
	memcpy(n->mac_now, cfg->mac, sizeof(n->mac));
	n->mtu = cfg->mtu != 0 ? cfg->mtu : NETVSP_MTU_DEFAULT;
	n->vlan = cfg->vlan;
	n->spoofing = cfg->spoofing;
	n->link_up = cfg->link_up;
	n->link_told = true;
	n->speed_bps = cfg->speed_bps != 0 ? cfg->speed_bps : NETVSP_SPEED_DEFAULT;
	if (cfg->name != NULL) {
		memcpy(n->name, cfg->name, strlen(cfg->name) + 1);
	}
	n->recv.slots.free_first = SLOTS_NONE;
	n->queue_count = cfg->tap_count;
	for (uint32_t i = 0; i < cfg->tap_count; i++) {
		n->queues[i] = (struct netvsp_queue){
			.n = n,
			.fd = cfg->tap_fds[i],
			.poll = {.fn = netvsp_polled, .arg = &n->queues[i]},
		};
	}
	for (uint32_t i = 0; i < NETVSP_QUEUES_MAX; i++) {
		n->channels[i] = (struct netvsp_channel){.n = n, .index = (uint8_t)i};
	}
	return n;
}

int netvsp_create(const struct vsp_env *env, const struct netvsp_cfg *cfg, struct vsp **out,
                  struct errbuf *eb)
{
	int err = netvsp_cfg_check(cfg, eb);
	struct netvsp *n;

	*out = NULL;
	if (err != 0) {
		return err;
	}
	n = netvsp_new(env, cfg);
	if (n == NULL) {
		return errbuf_sys(eb, -ENOMEM, "cannot create a network adapter");
	}
	for (uint32_t i = 0; i < n->queue_count && err == 0; i++) {
		err = n->tap->setup(n->queues[i].fd, eb);
	}
	if (err == 0) {
		err = netvsp_offer(n, 0);
		if (err != 0) {
			(void)errbuf_sys(eb, err, "cannot offer a network adapter");
		}
	}
	if (err != 0) {
		netvsp_free(n, false);
		return err;
	}
	netvsp_tap_update(n);
	*out = &n->vsp;
	return 0;
}

void netvsp_stats(const struct vsp *vsp, struct netvsp_stats *out)
{
	CHECK(vsp->ops == &netvsp_ops);
	*out = ((const struct netvsp *)(const void *)vsp)->stats;
}

void netvsp_mac(const struct vsp *vsp, uint8_t mac[6])
{
	CHECK(vsp->ops == &netvsp_ops);
	memcpy(mac, ((const struct netvsp *)(const void *)vsp)->mac_now, 6);
}

void netvsp_link_set(struct vsp *vsp, bool up)
{
	struct netvsp *n = netvsp_of(vsp);

	if (n->link_up == up) {
		return;
	}
	n->link_up = up;
	n->link_told = !n->nego.initialized; /* one that has not asked yet will ask */
	if (up) {
		netvsp_rx_drain(n);
	}
	if (n->channels[0].open && !n->paused) {
		(void)netvsp_replies_flush(n);
		vmbus_flush(n->channels[0].chan);
		netvsp_rx_start_all(n);
	}
}

void netvsp_announce(struct vsp *vsp)
{
	struct netvsp *n = netvsp_of(vsp);

	if (n->link_up) {
		netvsp_announce_send(n);
	}
}
