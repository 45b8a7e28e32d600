/* SPDX-License-Identifier: Apache-2.0 */
#include "hv/vsp/ic/ic.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "hv/save/save.h"
#include "hv/vmbus/vmbus.h"
#include "hv/vsp/ic/ic_int.h"

#define IC_SAVE_VERSION 1u

static const struct {
	uint16_t major, minor;
} ic_frameworks[] = {{3, 0}, {1, 0}};

enum ic_state ic_state(const struct vsp *vsp)
{
	return ((const struct ic *)(const void *)vsp)->state;
}

/* ---- the timer ---- */

static void ic_timer_fired(struct uring_op *op, int32_t res, bool more);

static void ic_timer_start(struct ic *ic)
{
	uint64_t now_ns = clock_now_ns();
	uint64_t delay_ns = ic->timer_due_ns > now_ns ? ic->timer_due_ns - now_ns : 0;

	ic->timer_op = (struct uring_op){.fn = ic_timer_fired, .arg = ic};
	ic->timer_armed = true;
	ic->timer_flight_ns = ic->timer_due_ns;
	ic->timer_deferred = uring_prep_timeout(ic->env.ring, &ic->timer_op, delay_ns) != 0;
	if (ic->timer_deferred) {
		uring_defer(ic->env.ring, &ic->timer_op, 0); /* tries again at the next turn */
	}
}

static void ic_timer_fired(struct uring_op *op, int32_t res, bool more)
{
	struct ic *ic = op->arg;

	(void)res; /* also cancelled: it was to come earlier */
	(void)more;
	ic->timer_armed = false;
	if (!ic->timer_wanted || ic->paused || ic->state != IC_READY) {
		return;
	}
	if (clock_now_ns() < ic->timer_due_ns) {
		ic_timer_start(ic);
		return;
	}
	ic->timer_wanted = false;
	ic->service->timer(ic);
}

void ic_timer_arm(struct ic *ic, uint64_t delay_ns)
{
	ic->timer_due_ns = clock_now_ns() + delay_ns;
	ic->timer_wanted = true;
	if (!ic->timer_armed) {
		ic_timer_start(ic);
	} else if (ic->timer_due_ns < ic->timer_flight_ns && !ic->timer_deferred &&
	           uring_cancel(ic->env.ring, &ic->timer_op) == 0) {
		/* The one in flight, of an earlier life of the channel, would come too late. One
		 * that comes too early only looks at the clock and starts again. */
		ic->timer_flight_ns = ic->timer_due_ns;
	}
}

/* ---- messages ---- */

int ic_send(struct ic *ic, uint8_t flags, const void *payload, uint32_t len_bytes)
{
	struct ic_header h = {
		.pipe_type = le32_make(IC_PIPE_DATA),
		.pipe_bytes = le32_make((uint32_t)sizeof(h) - IC_PIPE_HEADER_BYTES + len_bytes),
		.framework = {le16_make(ic->framework_major), le16_make(ic->framework_minor)},
		.type = le16_make(
			(uint16_t)(ic->state == IC_NEGOTIATING ? IC_NEGOTIATE : ic->service->type)),
		.service = {le16_make(ic->service_major), le16_make(ic->service_minor)},
		.payload_bytes = le16_make((uint16_t)len_bytes),
		.transaction = ic->transaction,
		.flags = flags,
	};
	const void *from = payload;
	const struct iovec iov[2] = {
		{.iov_base = &h, .iov_len = sizeof(h)},
		/* NOLINTNEXTLINE(performance-no-int-to-ptr): only read */
		{.iov_base = (void *)(uintptr_t)from, .iov_len = len_bytes}, /* only read */
	};
	int err;

	CHECK(len_bytes <= IC_MESSAGE_BYTES_MAX - sizeof(h));
	err = vmbus_send(ic->chan, VMBUS_PACKET_INBAND, 0, 0, NULL, 0, iov, 2);
	if (err == 0) {
		ic->transaction++;
		vmbus_flush(ic->chan);
	}
	return err;
}

bool ic_is_answer(const struct ic *ic, const struct ic_header *h)
{
	return h->transaction == (uint8_t)(ic->transaction - 1);
}

static void ic_negotiate_send(struct ic *ic)
{
	struct {
		struct ic_negotiate head;
		struct ic_version versions[ARRAY_LEN(ic_frameworks) + IC_VERSIONS_MAX];
	} m;
	uint16_t services = 0;
	uint32_t n = 0;

	memset(&m, 0, sizeof(m));
	for (; n < ARRAY_LEN(ic_frameworks); n++) {
		m.versions[n].major = le16_make(ic_frameworks[n].major);
		m.versions[n].minor = le16_make(ic_frameworks[n].minor);
	}
	while (services < IC_VERSIONS_MAX && ic->service->versions[services].major != 0) {
		m.versions[n].major = le16_make(ic->service->versions[services].major);
		m.versions[n].minor = le16_make(ic->service->versions[services].minor);
		services++;
		n++;
	}
	m.head.framework_count = le16_make(ARRAY_LEN(ic_frameworks));
	m.head.service_count = le16_make(services);
	/* The ring is new and empty: there is room. If not, the guest broke it and loses us. */
	if (ic_send(ic, IC_FLAG_TRANSACTION | IC_FLAG_REQUEST, &m,
	            (uint32_t)(sizeof(m.head) + n * sizeof(m.versions[0]))) != 0) {
		vmbus_fail(ic->chan, "no room for the first message");
	}
}

/* Is it one of those we offered? */
static bool ic_version_offered(const struct ic *ic, uint16_t major, uint16_t minor)
{
	for (uint32_t i = 0; i < IC_VERSIONS_MAX; i++) {
		if (major != 0 && ic->service->versions[i].major == major &&
		    ic->service->versions[i].minor == minor) {
			return true;
		}
	}
	return false;
}

static bool ic_framework_offered(uint16_t major, uint16_t minor)
{
	for (uint32_t i = 0; i < ARRAY_LEN(ic_frameworks); i++) {
		if (ic_frameworks[i].major == major && ic_frameworks[i].minor == minor) {
			return true;
		}
	}
	return false;
}

/* Are these versions two that we offered? */
static bool ic_agreed(const struct ic *ic)
{
	return ic_framework_offered(ic->framework_major, ic->framework_minor) &&
	       ic_version_offered(ic, ic->service_major, ic->service_minor);
}

static void ic_negotiated(struct ic *ic, const uint8_t *payload, uint32_t len_bytes)
{
	struct {
		struct ic_negotiate head;
		struct ic_version versions[2];
	} m;

	if (len_bytes < sizeof(m)) {
		vmbus_fail(ic->chan, "short negotiation");
		return;
	}
	memcpy(&m, payload, sizeof(m));
	ic->framework_major = le16_get(m.versions[0].major);
	ic->framework_minor = le16_get(m.versions[0].minor);
	ic->service_major = le16_get(m.versions[1].major);
	ic->service_minor = le16_get(m.versions[1].minor);
	if (le16_get(m.head.framework_count) != 1 || le16_get(m.head.service_count) != 1 ||
	    !ic_agreed(ic)) {
		log_limited(&ic->limit, LOG_LEVEL_WARN, ic->service->kind,
		            "no version in common vm=%s", ic->env.vm_name);
		ic->state = IC_REFUSED;
		return;
	}
	ic->state = IC_READY;
	log_debug(ic->service->kind, "ready vm=%s version=%u.%u", ic->env.vm_name,
	          ic->service_major, ic->service_minor);
	ic->service->ready(ic);
}

static void ic_packet(struct ic *ic, const struct vmbus_packet *pkt)
{
	struct ic_header h;
	uint32_t len;

	if (pkt->type != VMBUS_PACKET_INBAND || pkt->payload_bytes < sizeof(h)) {
		vmbus_fail(ic->chan, "short message");
		return;
	}
	memcpy(&h, pkt->payload, sizeof(h));
	len = le16_get(h.payload_bytes);
	if (len > pkt->payload_bytes - sizeof(h)) {
		vmbus_fail(ic->chan, "message longer than its packet");
		return;
	}
	if (ic->state == IC_NEGOTIATING && le16_get(h.type) == IC_NEGOTIATE) {
		ic_negotiated(ic, pkt->payload + sizeof(h), len);
	} else if (ic->state == IC_READY && le16_get(h.type) == ic->service->type) {
		ic->service->message(ic, &h, pkt->payload + sizeof(h), len);
	}
	/* Anything else is late or unknown: a guest may send it, and we need not care. */
}

static void ic_ready(struct vmbus_channel *chan, void *arg)
{
	struct ic *ic = arg;
	struct vmbus_packet pkt;

	while (!ic->paused && vmbus_channel_is_open(chan) &&
	       vmbus_recv(chan, ic->buf, sizeof(ic->buf), &pkt) == 0) {
		vmbus_recv_done(chan);
		ic_packet(ic, &pkt);
	}
	if (ic->ready_due && !ic->paused && ic->state == IC_READY) {
		ic->ready_due = false;
		ic->service->ready(ic);
	}
}

static int ic_open(struct vmbus_channel *chan, bool restored, void *arg)
{
	struct ic *ic = arg;

	(void)chan;
	if (restored) {
		ic->ready_due = ic->state == IC_READY;
		return 0;
	}
	ic->state = IC_NEGOTIATING;
	ic->framework_major = 1;
	ic->framework_minor = 0;
	ic->service_major = 1;
	ic->service_minor = 0;
	vmbus_kick(chan);
	ic_negotiate_send(ic);
	return 0;
}

static void ic_down(struct ic *ic)
{
	ic->state = IC_CLOSED;
	ic->timer_wanted = false;
	ic->ready_due = false;
	ic->service->closed(ic);
}

static void ic_close(struct vmbus_channel *chan, void *arg)
{
	ic_down(arg);
	vmbus_channel_closed(chan);
}

static const struct vmbus_channel_ops ic_channel_ops = {
	.open = ic_open,
	.close = ic_close,
	.ready = ic_ready,
};

/* ---- the device ---- */

static void ic_destroy(struct vsp *vsp)
{
	struct ic *ic = (struct ic *)(void *)vsp;
	bool cancelled = false;

	ic->timer_wanted = false;
	while (ic->timer_armed) {
		int err;

		cancelled = cancelled || ic->timer_deferred ||
		            uring_cancel(ic->env.ring, &ic->timer_op) == 0;
		err = uring_wait(ic->env.ring, UINT64_MAX);
		CHECK(err >= 0 || err == -EINTR);
	}
	free(ic);
}

static void ic_pause(struct vsp *vsp, vsp_done_fn done, void *arg)
{
	struct ic *ic = (struct ic *)(void *)vsp;

	ic->paused = true;
	done(arg);
}

static void ic_resume(struct vsp *vsp)
{
	struct ic *ic = (struct ic *)(void *)vsp;

	ic->paused = false;
	if (ic->state != IC_CLOSED && !vmbus_channel_is_open(ic->chan)) {
		ic_down(ic); /* loaded, but the channel is not open here */
	}
	/* The rhythm goes on, and the time service steps the clock of a guest that slept. */
	ic->ready_due = ic->state == IC_READY;
}

static void ic_save(const struct vsp *vsp, struct save *s)
{
	const struct ic *ic = (const struct ic *)(const void *)vsp;

	save_begin(s, ic->service->kind, IC_SAVE_VERSION, true);
	save_u8(s, (uint8_t)ic->state);
	save_u16(s, ic->framework_major);
	save_u16(s, ic->framework_minor);
	save_u16(s, ic->service_major);
	save_u16(s, ic->service_minor);
	save_u8(s, ic->transaction);
	if (ic->service->save != NULL) {
		ic->service->save(ic, s);
	}
	save_end(s);
}

static int ic_load(struct vsp *vsp, struct load *l)
{
	struct ic *ic = (struct ic *)(void *)vsp;
	int err = load_begin(l, ic->service->kind, IC_SAVE_VERSION);
	uint8_t state;

	if (err != 0) {
		return err;
	}
	ic->paused = true;
	state = load_u8(l);
	ic->framework_major = load_u16(l);
	ic->framework_minor = load_u16(l);
	ic->service_major = load_u16(l);
	ic->service_minor = load_u16(l);
	ic->transaction = load_u8(l);
	if (load_error(l) == 0 &&
	    (state >= IC_STATE_COUNT || (state == IC_READY && !ic_agreed(ic)))) {
		(void)load_fail(l, -EBADMSG, "state %u or version %u.%u", state, ic->service_major,
		                ic->service_minor);
	}
	if (load_error(l) == 0) {
		ic->state = (enum ic_state)state;
	}
	if (ic->service->load != NULL) {
		ic->service->load(ic, l);
	}
	load_end(l);
	return load_error(l);
}

int ic_init(struct ic *ic, const struct ic_service *service, const struct vsp_env *env)
{
	static const struct vsp_ops ops = {
		.kind = "ic",
		.destroy = ic_destroy,
		.pause = ic_pause,
		.resume = ic_resume,
		.save = ic_save,
		.load = ic_load,
	};
	const struct vmbus_offer_cfg offer = {
		.interface_id = service->interface_id,
		.instance_id = service->instance_id,
		.flags = VMBUS_OFFER_ENUMERATE | VMBUS_OFFER_NAMED_PIPE,
		.pipe_message_mode = true,
		.ops = &ic_channel_ops,
		.arg = ic,
	};

	ic->vsp = (struct vsp){.ops = &ops};
	ic->service = service;
	ic->env = *env;
	return vmbus_offer(env->bus, &offer, &ic->chan);
}

/* ---- texts ---- */

static uint32_t ic_utf8_put(uint32_t code, char *to)
{
	if (code < 0x80) {
		to[0] = (char)code;
		return 1;
	}
	if (code < 0x800) {
		to[0] = (char)(0xc0 | code >> 6);
		to[1] = (char)(0x80 | (code & 0x3f));
		return 2;
	}
	if (code < 0x10000) {
		to[0] = (char)(0xe0 | code >> 12);
		to[1] = (char)(0x80 | (code >> 6 & 0x3f));
		to[2] = (char)(0x80 | (code & 0x3f));
		return 3;
	}
	to[0] = (char)(0xf0 | code >> 18);
	to[1] = (char)(0x80 | (code >> 12 & 0x3f));
	to[2] = (char)(0x80 | (code >> 6 & 0x3f));
	to[3] = (char)(0x80 | (code & 0x3f));
	return 4;
}

void ic_utf16_decode(const uint8_t *from, uint32_t len_bytes, char *to, uint32_t room_bytes)
{
	uint32_t used = 0;

	CHECK(room_bytes != 0);
	for (uint32_t i = 0; i + 1 < len_bytes && used + 5 <= room_bytes; i += 2) {
		uint32_t code = (uint32_t)(from[i] | from[i + 1] << 8);

		if (code == 0) {
			break;
		}
		if (code >= 0xd800 && code < 0xdc00 && i + 3 < len_bytes) {
			uint32_t low = (uint32_t)(from[i + 2] | from[i + 3] << 8);

			if (low >= 0xdc00 && low < 0xe000) {
				code = 0x10000 + ((code - 0xd800) << 10 | (low - 0xdc00));
				i += 2;
			}
		}
		/* Halves of pairs, and what a terminal would obey. */
		if ((code >= 0xd800 && code < 0xe000) || code < 0x20 ||
		    (code >= 0x7f && code < 0xa0)) {
			code = '?';
		}
		used += ic_utf8_put(code, to + used);
	}
	to[used] = '\0';
}

uint32_t ic_utf16_encode(const char *from, uint8_t *to, uint32_t room_bytes)
{
	uint32_t used = 0;

	/* Our own texts are ASCII; what is not becomes '?', so that no decoder is needed here. */
	for (; *from != '\0' && used + 4 <= room_bytes; from++) {
		uint8_t c = (uint8_t)*from;

		to[used] = c < 0x80 ? c : '?';
		to[used + 1] = 0;
		used += 2;
	}
	if (used + 2 <= room_bytes) {
		to[used] = 0;
		to[used + 1] = 0;
	}
	return used;
}
