/* SPDX-License-Identifier: Apache-2.0 */
#include "hv/vsp/storvsp/storvsp.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "hv/vsp/storvsp/storvsp_int.h"

#define TAG "storvsp"
#define STORVSP_FLAG_MULTI_CHANNEL 1u

static const struct guid storvsp_interface =
	GUID_INIT(0xba6163d9, 0x04a1, 0x4d29, 0xb6, 0x05, 0x72, 0xe2, 0xff, 0xb1, 0xdc, 0x7f);

static struct storvsp_channel *storvsp_primary(struct storvsp *s)
{
	return &s->channels[0];
}

/* ---- what ends: requests, channels, the pause ---- */

/* Is anything left that may touch the guest? Answers that wait for room in a ring do not. All
 * slots count: a rescinded sub-channel may still be closing. */
static bool storvsp_draining(const struct storvsp *s)
{
	uint32_t waiting = 0;

	for (uint32_t i = 0; i < ARRAY_LEN(s->channels); i++) {
		if (s->channels[i].closing) {
			return true;
		}
		list_for_each(link, &s->channels[i].answers)
		{
			waiting++;
		}
	}
	return s->in_flight != waiting;
}

static void storvsp_pause_check(struct storvsp *s)
{
	vsp_done_fn done = s->pause_done;

	if (done != NULL && !storvsp_draining(s)) {
		s->pause_done = NULL;
		done(s->pause_arg);
	}
}

static bool storvsp_sub_channels_busy(const struct storvsp *s)
{
	for (uint32_t i = 1; i < ARRAY_LEN(s->channels); i++) {
		if (s->channels[i].open || s->channels[i].closing) {
			return true;
		}
	}
	return false;
}

/* Answer close() when nothing of @ch is in flight. The primary is the last: what a guest opens
 * next meets a controller without a trace of its earlier life. */
/* NOLINTNEXTLINE(misc-no-recursion): once, for the primary */
static void storvsp_close_end(struct storvsp_channel *ch)
{
	struct storvsp_channel *primary = storvsp_primary(ch->s);
	struct vmbus_channel *chan = ch->chan;
	bool primary_next = ch != primary && primary->closing;

	if (!ch->closing || ch->in_flight != 0 ||
	    (ch == primary && storvsp_sub_channels_busy(ch->s))) {
		return;
	}
	ch->closing = false;
	if (ch->rescinded) {
		ch->rescinded = false;
		ch->chan = NULL;
	}
	vmbus_channel_closed(chan);
	if (primary_next) {
		storvsp_close_end(primary);
	}
}

/* Something of @ch has ended. The caller's last use of @ch: who hears of a close or a pause may go
 * on to the end of the device. */
static void storvsp_settle(struct storvsp_channel *ch)
{
	struct storvsp *s = ch->s;
	bool pausing = s->pause_done != NULL;

	storvsp_close_end(ch);
	if (pausing) {
		storvsp_pause_check(s);
	}
}

static void storvsp_request_free(struct storvsp_request *r)
{
	struct storvsp *s = r->channel->s;

	list_add_head(&s->pool, &r->link); /* the next one finds it in the processor's cache */
	r->channel->in_flight--;
	s->in_flight--;
	if (s->pool_empty) {
		s->pool_empty = false;
		for (uint32_t i = 0; i < ARRAY_LEN(s->channels); i++) {
			if (s->channels[i].open) {
				vmbus_kick(s->channels[i].chan);
			}
		}
	}
}

static void storvsp_request_put(struct storvsp_request *r)
{
	struct storvsp_channel *ch = r->channel;

	storvsp_request_free(r);
	storvsp_settle(ch);
}

/* Nobody is there any more to take them. */
static void storvsp_answers_drop(struct storvsp_channel *ch)
{
	struct list *link;

	while ((link = list_first(&ch->answers)) != NULL) {
		list_del(link);
		storvsp_request_free(list_entry(link, struct storvsp_request, link));
	}
}

struct storvsp_request *storvsp_request_get(struct storvsp_channel *ch)
{
	struct storvsp *s = ch->s;
	struct list *link = list_pop(&s->pool);
	struct storvsp_request *r;

	if (link != NULL) {
		r = list_entry(link, struct storvsp_request, link);
	} else if (s->requests_used < STORVSP_REQUESTS) {
		r = &s->requests[s->requests_used++];
	} else {
		s->pool_empty = true;
		return NULL;
	}
	r->channel = ch;
	r->unit = NULL;
	ch->in_flight++;
	s->in_flight++;
	return r;
}

/* Put an answer into the ring. Returns false if there is no room. */
static bool storvsp_answer_send(struct storvsp_request *r)
{
	int err;

	if (!r->channel->open || r->channel->closing) {
		return true; /* nobody waits for it any more */
	}
	err = vmbus_complete(r->channel->chan, r->transaction_id, &r->reply, sizeof(r->reply));
	return err != -EAGAIN; /* any other failure: the channel is about to close */
}

void storvsp_answer(struct storvsp_request *r)
{
	struct storvsp_channel *ch = r->channel;

	/* Behind those that wait already, so that none starves. */
	if (!list_empty(&ch->answers) || !storvsp_answer_send(r)) {
		list_add_tail(&ch->answers, &r->link);
		storvsp_pause_check(ch->s);
		return;
	}
	vmbus_flush(ch->chan);
	storvsp_request_put(r);
}

/* ---- control packets ---- */

/* The doors of DVD drives: who locked them is gone. */
static void storvsp_units_unlock(struct storvsp *s)
{
	for (uint32_t i = 0; i < STORVSP_LUNS_MAX; i++) {
		s->units[i].scsi.locked = false;
	}
}

static uint32_t storvsp_query_version(struct storvsp *s, const struct storvsp_packet *in)
{
	uint16_t version = le16_get(in->u.version.version);

	if (version != STORVSP_VERSION_WIN8 && version != STORVSP_VERSION_WIN81 &&
	    version != STORVSP_VERSION_WIN10) {
		return STORVSP_STATUS_REVISION_MISMATCH; /* the guest tries an older one */
	}
	s->version = version;
	s->init = STORVSP_INIT_PROPERTIES;
	return STORVSP_STATUS_OK;
}

static void storvsp_query_properties(struct storvsp *s, struct storvsp_packet *reply)
{
	reply->u.properties = (struct storvsp_properties){
		.channels_max = le16_make((uint16_t)s->sub_channels_max),
		.flags = le32_make(s->sub_channels_max != 0 ? STORVSP_FLAG_MULTI_CHANNEL : 0),
		.transfer_bytes_max = le32_make(STORVSP_TRANSFER_BYTES_MAX),
	};
	s->init = STORVSP_INIT_END;
}

/* A step of the initialisation; @reply starts as zero. Returns its status. */
static uint32_t storvsp_control(struct storvsp *s, const struct storvsp_packet *in,
                                struct storvsp_packet *reply)
{
	uint32_t op = le32_get(in->op);

	if (op == STORVSP_BEGIN_INIT) {
		s->init = STORVSP_INIT_VERSION;
		return STORVSP_STATUS_OK;
	}
	if (op == STORVSP_QUERY_VERSION && s->init == STORVSP_INIT_VERSION) {
		return storvsp_query_version(s, in);
	}
	if (op == STORVSP_QUERY_PROPERTIES && s->init == STORVSP_INIT_PROPERTIES) {
		storvsp_query_properties(s, reply);
		return STORVSP_STATUS_OK;
	}
	if (op == STORVSP_END_INIT && s->init == STORVSP_INIT_END) {
		s->init = STORVSP_INIT_DONE;
		return STORVSP_STATUS_OK;
	}
	if (op == STORVSP_CREATE_SUB_CHANNELS && s->init == STORVSP_INIT_DONE) {
		/* Offered once per initialisation, after the answer is in the ring. */
		uint16_t count = le16_get(in->u.sub_channels);

		return s->sub_channels == 0 && count <= s->sub_channels_max
		               ? STORVSP_STATUS_OK
		               : STORVSP_STATUS_INVALID_PARAMETER;
	}
	if (op == STORVSP_RESET_BUS || op == STORVSP_RESET_ADAPTER || op == STORVSP_RESET_LUN) {
		/* Nothing to throw away: what is in flight on real disks completes as always. */
		storvsp_units_unlock(s);
		return STORVSP_STATUS_OK;
	}
	return STORVSP_STATUS_NOT_SUPPORTED;
}

static void storvsp_control_packet(struct storvsp_channel *ch, const struct storvsp_packet *in,
                                   struct storvsp_request *r)
{
	struct storvsp *s = ch->s;
	struct storvsp_packet reply = {.op = le32_make(STORVSP_COMPLETE_IO)};
	uint32_t status = ch == storvsp_primary(s) ? storvsp_control(s, in, &reply)
	                                           : STORVSP_STATUS_NOT_SUPPORTED;
	uint32_t op = le32_get(in->op);

	reply.status = le32_make(status);
	r->reply = reply;
	storvsp_answer(r);
	if (op == STORVSP_CREATE_SUB_CHANNELS && status == STORVSP_STATUS_OK) {
		int err = storvsp_sub_channels_offer(s, le16_get(in->u.sub_channels));

		if (err != 0) {
			log_limited(&s->limit, LOG_LEVEL_WARN, TAG,
			            "sub-channels not offered vm=%s error=%d", s->env.vm_name, err);
		}
	}
}

/* ---- the channel ---- */

static void storvsp_packet_handle(struct storvsp_channel *ch, const struct vmbus_packet *pkt,
                                  struct storvsp_request *r)
{
	struct storvsp_packet in;

	if (pkt->payload_bytes < sizeof(in) ||
	    (pkt->type != VMBUS_PACKET_INBAND && pkt->type != VMBUS_PACKET_GPA_DIRECT)) {
		/* Older guests send 48 byte packets with versions we refuse anyway. */
		r->reply = (struct storvsp_packet){
			.op = le32_make(STORVSP_COMPLETE_IO),
			.status = le32_make(STORVSP_STATUS_INVALID_PARAMETER),
		};
		storvsp_answer(r);
		return;
	}
	memcpy(&in, pkt->payload, sizeof(in));
	if (le32_get(in.op) != STORVSP_EXECUTE_SRB) {
		storvsp_control_packet(ch, &in, r);
		return;
	}
	r->reply = in;
	r->reply.op = le32_make(STORVSP_COMPLETE_IO);
	r->reply.status = le32_make(STORVSP_STATUS_OK);
	if (ch->s->init != STORVSP_INIT_DONE) {
		r->reply.status = le32_make(STORVSP_STATUS_INVALID_DEVICE_STATE);
		r->reply.u.srb.srb_status = STORVSP_SRB_INVALID_REQUEST;
		storvsp_answer(r);
		return;
	}
	storvsp_srb(ch, pkt, &in, r);
}

static bool storvsp_answers_flush(struct storvsp_channel *ch)
{
	struct list *link;

	while ((link = list_first(&ch->answers)) != NULL) {
		struct storvsp_request *r = list_entry(link, struct storvsp_request, link);

		if (!storvsp_answer_send(r)) {
			return false;
		}
		list_del(link);
		storvsp_request_put(r);
	}
	return true;
}

static void storvsp_ready(struct vmbus_channel *chan, void *arg)
{
	struct storvsp_channel *ch = arg;
	struct storvsp *s = ch->s;
	struct vmbus_packet pkt;

	while (!s->paused && ch->open && !ch->closing && storvsp_answers_flush(ch)) {
		struct storvsp_request *r = storvsp_request_get(ch);
		int err;

		if (r == NULL) {
			return; /* kicked again when one comes back */
		}
		err = vmbus_recv(chan, s->packet, sizeof(s->packet), &pkt);
		if (err != 0) {
			storvsp_request_put(r);
			return;
		}
		if ((pkt.flags & VMBUS_PACKET_WANTS_COMPLETION) == 0 ||
		    pkt.type == VMBUS_PACKET_COMPLETION) {
			vmbus_recv_done(chan);
			storvsp_request_put(r);
			continue;
		}
		r->transaction_id = pkt.transaction_id;
		/* Accepted: from here on it is ours and no longer in the ring. */
		vmbus_recv_done(chan);
		storvsp_packet_handle(ch, &pkt, r);
	}
}

static int storvsp_open(struct vmbus_channel *chan, bool restored, void *arg)
{
	struct storvsp_channel *ch = arg;

	(void)chan;
	ch->open = true;
	if (!restored && ch == storvsp_primary(ch->s)) {
		ch->s->init = STORVSP_INIT_BEGIN;
	}
	return 0;
}

static void storvsp_sub_channels_rescind(struct storvsp *s)
{
	for (uint32_t i = 1; i <= s->sub_channels; i++) {
		struct storvsp_channel *ch = &s->channels[i];
		struct vmbus_channel *chan = ch->chan;

		ch->rescinded = ch->open || ch->closing;
		if (!ch->rescinded) {
			ch->chan = NULL; /* closed: this is the last use */
		}
		vmbus_rescind(chan);
	}
	s->sub_channels = 0;
}

/* The primary channel is closed, or about to be: back to the state before initialisation. */
static void storvsp_forget(struct storvsp *s)
{
	s->init = STORVSP_INIT_BEGIN;
	storvsp_units_unlock(s);
	storvsp_sub_channels_rescind(s);
}

static void storvsp_close(struct vmbus_channel *chan, void *arg)
{
	struct storvsp_channel *ch = arg;

	(void)chan;
	ch->open = false;
	ch->closing = true;
	storvsp_answers_drop(ch);
	if (ch == storvsp_primary(ch->s)) {
		storvsp_forget(ch->s);
	}
	storvsp_settle(ch);
}

static const struct vmbus_channel_ops storvsp_channel_ops = {
	.open = storvsp_open,
	.close = storvsp_close,
	.ready = storvsp_ready,
};

static int storvsp_offer(struct storvsp *s, uint32_t index)
{
	struct storvsp_channel *ch = &s->channels[index];
	const struct vmbus_offer_cfg offer = {
		.interface_id = storvsp_interface,
		.instance_id = s->instance_id,
		.subchannel_index = (uint16_t)index,
		.ops = &storvsp_channel_ops,
		.arg = ch,
	};

	CHECK(ch->chan == NULL && !ch->closing);
	return vmbus_offer(s->env.bus, &offer, &ch->chan);
}

int storvsp_sub_channels_offer(struct storvsp *s, uint32_t count)
{
	while (s->sub_channels < count) {
		int err = storvsp_offer(s, s->sub_channels + 1);

		if (err != 0) {
			return err;
		}
		s->sub_channels++;
	}
	return 0;
}

/* ---- the device ---- */

static void storvsp_destroy(struct vsp *vsp)
{
	struct storvsp *s = (struct storvsp *)(void *)vsp;
	struct errbuf eb = {0};

	for (uint32_t i = 0; i < ARRAY_LEN(s->channels); i++) {
		s->channels[i].open = false; /* nobody to kick */
		storvsp_answers_drop(&s->channels[i]);
	}
	CHECK(s->in_flight == 0);
	for (uint32_t i = 0; i < STORVSP_LUNS_MAX; i++) {
		int err = blk_close(s->units[i].blk, &eb);

		if (err == -ESTALE) {
			log_info(TAG, "disk left to its new owner vm=%s lun=%u", s->env.vm_name, i);
		} else if (err != 0) {
			log_err(TAG, "disk not closed cleanly vm=%s lun=%u reason=%s",
			        s->env.vm_name, i, errbuf_text(&eb, err));
		}
	}
	free(s->requests);
	free(s);
}

static void storvsp_pause(struct vsp *vsp, vsp_done_fn done, void *arg)
{
	struct storvsp *s = (struct storvsp *)(void *)vsp;

	CHECK(!s->paused);
	s->paused = true;
	s->pause_done = done;
	s->pause_arg = arg;
	storvsp_pause_check(s);
}

static void storvsp_resume(struct vsp *vsp)
{
	struct storvsp *s = (struct storvsp *)(void *)vsp;

	CHECK(s->pause_done == NULL);
	for (uint32_t i = 0; i < STORVSP_LUNS_MAX; i++) {
		CHECK(!s->units[i].later);
	}
	s->paused = false; /* vmbus_resume() makes every channel ready */
	/* What was loaded may belong to a channel that is not open here. */
	for (uint32_t i = 0; i < ARRAY_LEN(s->channels); i++) {
		if (!s->channels[i].open) {
			storvsp_answers_drop(&s->channels[i]);
		}
	}
	if (!storvsp_primary(s)->open) {
		storvsp_forget(s);
	}
}

static const struct vsp_ops storvsp_ops = {
	.kind = TAG,
	.destroy = storvsp_destroy,
	.pause = storvsp_pause,
	.resume = storvsp_resume,
	.save = storvsp_save,
	.load = storvsp_load,
};

static int storvsp_unit_add(struct storvsp *s, const struct storvsp_lun_cfg *cfg, struct errbuf *eb)
{
	struct storvsp_unit *unit;

	if (cfg->lun >= STORVSP_LUNS_MAX || s->units[cfg->lun].present) {
		return errbuf_set(eb, -EINVAL, "LUN %u is used twice or not below %u", cfg->lun,
		                  STORVSP_LUNS_MAX);
	}
	if (cfg->blk == NULL && cfg->kind != SCSI_DVD && !cfg->later) {
		return errbuf_set(eb, -EINVAL, "LUN %u is a disk without an image", cfg->lun);
	}
	unit = &s->units[cfg->lun];
	CHECK(!cfg->later || cfg->blk == NULL);
	unit->present = true;
	unit->later = cfg->later;
	unit->blk = cfg->blk;
	unit->scsi = (struct scsi_lun){
		.kind = cfg->kind,
		.id = cfg->id,
		.medium = cfg->blk != NULL || cfg->later,
		.transfer_max = STORVSP_TRANSFER_BYTES_MAX,
	};
	if (cfg->blk != NULL) {
		blk_get_info(cfg->blk, &unit->scsi.info);
	}
	return 0;
}

int storvsp_create(const struct vsp_env *env, const struct storvsp_cfg *cfg, struct vsp **out,
                   struct errbuf *eb)
{
	struct storvsp *s = gw_calloc(1, sizeof(*s));
	int err = 0;

	*out = NULL;
	if (s == NULL) {
		return errbuf_sys(eb, -ENOMEM, "cannot create a SCSI controller");
	}
	s->vsp = (struct vsp){.ops = &storvsp_ops, .index = cfg->index};
	s->env = *env;
	s->instance_id = cfg->instance_id;
	s->sub_channels_max = cfg->sub_channels_max < STORVSP_SUB_CHANNELS_MAX
	                              ? cfg->sub_channels_max
	                              : STORVSP_SUB_CHANNELS_MAX;
	list_init(&s->pool);
	for (uint32_t i = 0; i < ARRAY_LEN(s->channels); i++) {
		s->channels[i].s = s;
		list_init(&s->channels[i].answers);
	}
	s->requests = gw_calloc_sparse(STORVSP_REQUESTS, sizeof(*s->requests));
	if (s->requests == NULL) {
		err = errbuf_sys(eb, -ENOMEM, "cannot create a SCSI controller");
		goto free_controller;
	}
	for (uint32_t i = 0; i < cfg->lun_count && err == 0; i++) {
		err = storvsp_unit_add(s, &cfg->luns[i], eb);
	}
	if (err == 0) {
		err = storvsp_offer(s, 0);
		if (err != 0) {
			(void)errbuf_sys(eb, err, "cannot offer a SCSI controller");
		}
	}
	if (err != 0) {
		goto free_controller;
	}
	*out = &s->vsp;
	return 0;

free_controller:
	free(s->requests);
	free(s); /* the block devices stay the caller's */
	return err;
}

void storvsp_stats(const struct vsp *vsp, struct storvsp_stats *out)
{
	CHECK(vsp->ops == &storvsp_ops);
	*out = ((const struct storvsp *)(const void *)vsp)->stats;
}

void storvsp_resized(struct vsp *vsp, uint32_t lun)
{
	struct storvsp *s = (struct storvsp *)(void *)vsp;

	CHECK(vsp->ops == &storvsp_ops && lun < STORVSP_LUNS_MAX);
	if (s->units[lun].blk != NULL) {
		blk_get_info(s->units[lun].blk, &s->units[lun].scsi.info);
		s->units[lun].scsi.attention_asc = 0x2a; /* capacity data has changed */
		s->units[lun].scsi.attention_ascq = 0x09;
	}
}

void storvsp_attach(struct vsp *vsp, uint32_t lun, struct blk *blk)
{
	struct storvsp *s = (struct storvsp *)(void *)vsp;

	CHECK(vsp->ops == &storvsp_ops && s->paused);
	CHECK(lun < STORVSP_LUNS_MAX && s->units[lun].later);
	s->units[lun].later = false;
	s->units[lun].blk = blk;
	blk_get_info(blk, &s->units[lun].scsi.info);
}

int storvsp_medium(struct vsp *vsp, uint32_t lun, struct blk *blk)
{
	struct storvsp *s = (struct storvsp *)(void *)vsp;
	struct storvsp_unit *unit;
	struct errbuf eb = {0};
	int err;

	CHECK(vsp->ops == &storvsp_ops);
	if (lun >= STORVSP_LUNS_MAX || !s->units[lun].present ||
	    s->units[lun].scsi.kind != SCSI_DVD) {
		return -ENODEV;
	}
	unit = &s->units[lun];
	if (unit->in_flight != 0 || (unit->scsi.locked && unit->scsi.medium)) {
		return -EBUSY;
	}
	err = blk_close(unit->blk, &eb);
	if (err != 0) {
		log_warn(TAG, "medium not closed cleanly vm=%s reason=%s", s->env.vm_name,
		         errbuf_text(&eb, err));
	}
	unit->blk = blk;
	unit->scsi.medium = blk != NULL;
	if (blk != NULL) {
		blk_get_info(blk, &unit->scsi.info);
		unit->scsi.attention_asc = 0x28; /* medium may have changed */
		unit->scsi.attention_ascq = 0x00;
	}
	return 0;
}
