/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/vmbus_echo.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/fault.h"
#include "hv/save/save.h"

const struct guid echo_interface =
	GUID_INIT(0x6563686f, 0x0001, 0x0002, 0x80, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07);

/* Returns vmbus_send()'s result. */
static int echo_answer(struct echo *e, const struct echo_request *r)
{
	struct iovec iov = {.iov_base = (void *)(uintptr_t)r->payload, .iov_len = r->bytes};

	if ((r->flags & VMBUS_PACKET_WANTS_COMPLETION) != 0) {
		return vmbus_complete(e->chan, r->transaction_id, r->payload, r->bytes);
	}
	return vmbus_send(e->chan, VMBUS_PACKET_INBAND, 0, r->transaction_id, NULL, 0, &iov, 1);
}

static void echo_idle_check(struct echo *e)
{
	if (e->in_flight != 0) {
		return;
	}
	if (e->closing) {
		e->closing = false;
		e->open = false;
		e->closes++;
		vmbus_channel_closed(e->chan);
	}
	if (e->paused_done != NULL) {
		vsp_done_fn done = e->paused_done;

		e->paused_done = NULL;
		done(e->paused_arg);
	}
}

static void echo_start_timer(struct echo_request *r)
{
	CHECK(uring_prep_nop(r->echo->env.ring, &r->op) == 0);
}

/* Try to finish; stays in flight, marked ready, if the guest's ring is full. */
static void echo_finish(struct echo_request *r)
{
	struct echo *e = r->echo;

	if (!e->closing && echo_answer(e, r) == -EAGAIN && !e->closing) {
		r->ready = true;
		if (e->paused) { /* the guest does not run: it stays, and is saved */
			r->busy = true;
			e->in_flight--;
			echo_idle_check(e);
		}
		return;
	}
	r->busy = false;
	r->ready = false;
	e->in_flight--;
	echo_idle_check(e);
}

static void echo_turn(struct uring_op *op, int32_t res, bool more)
{
	struct echo_request *r = op->arg;

	(void)res;
	(void)more;
	if (r->turns-- != 0) {
		echo_start_timer(r);
		return;
	}

	struct vmbus_channel *chan = r->echo->chan;
	bool open = !r->echo->closing;

	echo_finish(r);
	if (open && chan != NULL) {
		vmbus_flush(chan);
	}
}

static struct echo_request *echo_request_free(struct echo *e)
{
	for (uint32_t i = 0; i < ECHO_IN_FLIGHT_MAX; i++) {
		if (!e->requests[i].busy) {
			return &e->requests[i];
		}
	}
	return NULL;
}

/* What waits for room, first. Returns false if it still does. */
static bool echo_retry(struct echo *e)
{
	for (uint32_t i = 0; i < ECHO_IN_FLIGHT_MAX; i++) {
		struct echo_request *r = &e->requests[i];

		if (r->ready) {
			r->ready = false;
			echo_finish(r);
			if (r->ready) {
				return false;
			}
		}
	}
	return true;
}

/* Returns false to stop reading. */
static bool echo_packet(struct echo *e, const struct vmbus_packet *pkt)
{
	struct echo_request *r = echo_request_free(e);

	if (r == NULL) {
		return false; /* stays in the ring; echo_finish() makes room */
	}
	if (pkt->payload_bytes > ECHO_BYTES_MAX) {
		vmbus_fail(e->chan, "payload too large");
		return false;
	}
	r->echo = e;
	r->type = pkt->type;
	r->flags = pkt->flags;
	r->transaction_id = pkt->transaction_id;
	r->turns = e->cfg.delay ? (uint32_t)(pkt->transaction_id * 7 % 5) : 0;
	r->bytes = pkt->payload_bytes;
	memcpy(r->payload, pkt->payload, pkt->payload_bytes);
	if (!e->cfg.delay) {
		if (echo_answer(e, r) == -EAGAIN) {
			return false; /* not done: it is read again when there is room */
		}
	} else {
		r->busy = true;
		e->in_flight++;
		r->op = (struct uring_op){.fn = echo_turn, .arg = r};
		echo_start_timer(r);
	}
	e->packets++;
	vmbus_recv_done(e->chan);
	return true;
}

static void echo_ready(struct vmbus_channel *chan, void *arg)
{
	struct echo *e = arg;

	e->readies++;
	if (!echo_retry(e)) {
		return;
	}
	for (uint32_t n = 0;; n++) {
		struct vmbus_packet pkt;

		if (e->cfg.batch != 0 && n == e->cfg.batch) {
			vmbus_kick(chan);
			return;
		}

		int err = vmbus_recv(chan, e->buf, sizeof(e->buf), &pkt);

		if (err != 0) {
			e->last_error = err != -EAGAIN ? err : e->last_error;
			return;
		}
		if (!echo_packet(e, &pkt)) {
			/* Out of requests (the bus does not know when that changes) or of room. */
			if (e->cfg.delay) {
				vmbus_kick(chan);
			}
			return;
		}
	}
}

static int echo_open(struct vmbus_channel *chan, bool restored, void *arg)
{
	struct echo *e = arg;

	if (e->cfg.open_result != 0) {
		return e->cfg.open_result;
	}
	CHECK(!e->open);
	e->open = true;
	e->restored = restored;
	e->opens++;
	if (e->cfg.greet && !restored) {
		struct iovec iov = {.iov_base = (void *)(uintptr_t) "hello", .iov_len = 5};

		CHECK(vmbus_send(chan, VMBUS_PACKET_INBAND, 0, 0, NULL, 0, &iov, 1) == 0);
	}
	return 0;
}

static void echo_close_later(struct uring_op *op, int32_t res, bool more)
{
	struct echo_request *r = op->arg;

	(void)res;
	(void)more;
	r->busy = false;
	r->echo->in_flight--;
	echo_idle_check(r->echo);
}

static void echo_close(struct vmbus_channel *chan, void *arg)
{
	struct echo *e = arg;

	(void)chan;
	CHECK(e->open && !e->closing);
	e->closing = true;
	for (uint32_t i = 0; i < ECHO_IN_FLIGHT_MAX; i++) {
		struct echo_request *r = &e->requests[i];

		if (r->ready) { /* nobody is left to tell */
			r->ready = false;
			r->busy = false;
			e->in_flight -= e->in_flight != 0;
		}
	}
	if (e->cfg.close_later && e->in_flight == 0) {
		struct echo_request *r = &e->requests[0];

		r->echo = e;
		r->busy = true;
		e->in_flight++;
		r->op = (struct uring_op){.fn = echo_close_later, .arg = r};
		uring_defer(e->env.ring, &r->op, 0);
		return;
	}
	echo_idle_check(e);
}

static const struct vmbus_channel_ops echo_channel_ops = {
	.open = echo_open,
	.close = echo_close,
	.ready = echo_ready,
};

/* ---- struct vsp_ops ---- */

static void echo_vsp_destroy(struct vsp *vsp)
{
	echo_destroy((struct echo *)vsp);
}

static void echo_vsp_pause(struct vsp *vsp, vsp_done_fn done, void *arg)
{
	struct echo *e = (struct echo *)vsp;

	e->paused = true;
	e->paused_done = done;
	e->paused_arg = arg;
	for (uint32_t i = 0; i < ECHO_IN_FLIGHT_MAX; i++) {
		e->in_flight -= e->requests[i].ready; /* waits for the guest: saved */
	}
	echo_idle_check(e);
}

static void echo_vsp_resume(struct vsp *vsp)
{
	struct echo *e = (struct echo *)vsp;

	e->paused = false;
	for (uint32_t i = 0; i < ECHO_IN_FLIGHT_MAX; i++) {
		e->in_flight += e->requests[i].ready;
	}
}

static void echo_vsp_save(const struct vsp *vsp, struct save *s)
{
	const struct echo *e = (const struct echo *)vsp;
	uint32_t count = 0;
	char name[SAVE_NAME_MAX + 1];

	for (uint32_t i = 0; i < ECHO_IN_FLIGHT_MAX; i++) {
		count += e->requests[i].ready;
	}
	(void)snprintf(name, sizeof(name), "echo.%u", vsp->index);
	save_begin(s, name, 1, true);
	save_u64(s, e->packets);
	save_u32(s, count);
	for (uint32_t i = 0; i < ECHO_IN_FLIGHT_MAX; i++) {
		const struct echo_request *r = &e->requests[i];

		if (r->ready) {
			save_u16(s, r->flags);
			save_u64(s, r->transaction_id);
			save_blob(s, r->payload, r->bytes);
		}
	}
	save_end(s);
}

static int echo_vsp_load(struct vsp *vsp, struct load *l)
{
	struct echo *e = (struct echo *)vsp;
	char name[SAVE_NAME_MAX + 1];

	(void)snprintf(name, sizeof(name), "echo.%u", vsp->index);

	int err = load_begin(l, name, 1);

	if (err != 0) {
		return err;
	}
	e->packets = load_u64(l);

	uint32_t count = load_u32_max(l, ECHO_IN_FLIGHT_MAX, "requests");

	for (uint32_t i = 0; i < count && load_error(l) == 0; i++) {
		struct echo_request *r = &e->requests[i];

		r->echo = e;
		r->flags = load_u16(l);
		r->transaction_id = load_u64(l);

		const uint8_t *payload = load_blob(l, ECHO_BYTES_MAX, &r->bytes);

		if (payload != NULL) {
			memcpy(r->payload, payload, r->bytes);
		}
		r->busy = true;
		r->ready = true;
	}
	load_end(l);
	return load_error(l);
}

static const struct vsp_ops echo_vsp_ops = {
	.kind = "echo",
	.destroy = echo_vsp_destroy,
	.pause = echo_vsp_pause,
	.resume = echo_vsp_resume,
	.save = echo_vsp_save,
	.load = echo_vsp_load,
};

int echo_create(const struct vsp_env *env, const struct echo_cfg *cfg, struct echo **out)
{
	struct echo *e = gw_calloc(1, sizeof(*e));

	*out = NULL;
	if (e == NULL) {
		return -ENOMEM;
	}
	e->vsp.ops = &echo_vsp_ops;
	e->vsp.index = cfg->instance;
	e->cfg = *cfg;
	e->env = *env;

	struct vmbus_offer_cfg offer = {
		.interface_id = echo_interface,
		.subchannel_index = cfg->subchannel_index,
		.ops = &echo_channel_ops,
		.arg = e,
	};

	offer.instance_id.b[0] = (uint8_t)(cfg->instance + 1);
	offer.instance_id.b[1] = (uint8_t)((cfg->instance + 1) >> 8);

	int err = vmbus_offer(env->bus, &offer, &e->chan);

	if (err != 0) {
		free(e);
		return err;
	}
	*out = e;
	return 0;
}

void echo_destroy(struct echo *e)
{
	free(e);
}

void echo_rescind(struct echo *e)
{
	struct vmbus_channel *chan = e->chan;

	vmbus_rescind(chan);
}
