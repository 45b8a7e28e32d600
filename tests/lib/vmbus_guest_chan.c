/* SPDX-License-Identifier: Apache-2.0 */

/*
 * vmbus_guest_chan - open channels of the simulated guest, and its side of the rings. Written from
 * the protocol, not from hv/vmbus/ring.c: it shares with that only the layout of the control page.
 */

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "hv/vmbus/vmbus_shm.h"
#include "tests/lib/vmbus_guest_int.h"

struct guest_ring {
	struct vmbus_ring_shm *ctrl;
	uint8_t **data; /* borrowed: into guest_chan.pages */
	uint32_t size;
};

struct guest_chan {
	struct list link; /* first: guest_destroy() */
	struct guest *guest;
	uint32_t relid;
	uint32_t connection_id;
	uint32_t vp;
	uint32_t gpadl;
	uint32_t out_pages;
	uint32_t page_count;
	uint64_t *pfns;  /* owned */
	uint8_t **pages; /* owned */
	struct guest_ring out;
	struct guest_ring in;
	bool rx_signalled;
	bool tx_signalled;
	bool rx_waits; /* empty, mask is clear */
	bool tx_waits; /* full, pending is set */
};

/* ---- ring memory ---- */

/* How much of [at, at+len) is in one page. */
static uint32_t guest_ring_piece(uint32_t at, uint32_t len)
{
	uint32_t left = GUEST_PAGE - at % GUEST_PAGE;

	return len < left ? len : left;
}

static void guest_ring_copy_in(struct guest_ring *r, uint32_t *at, const void *buf, uint32_t len)
{
	const uint8_t *from = buf;

	while (len != 0) {
		uint32_t n = guest_ring_piece(*at, len);

		memcpy(r->data[*at / GUEST_PAGE] + *at % GUEST_PAGE, from, n);
		from += n;
		len -= n;
		*at = (*at + n) % r->size;
	}
}

static void guest_ring_copy_out(struct guest_ring *r, uint32_t at, void *buf, uint32_t len)
{
	uint8_t *to = buf;

	while (len != 0) {
		uint32_t n = guest_ring_piece(at, len);

		memcpy(to, r->data[at / GUEST_PAGE] + at % GUEST_PAGE, n);
		to += n;
		len -= n;
		at = (at + n) % r->size;
	}
}

static uint32_t guest_ring_used(const struct guest_ring *r, uint32_t in, uint32_t out)
{
	return (in + r->size - out) % r->size;
}

/* Take the event flag; it may mean either ring. */
static void guest_chan_collect(struct guest_chan *c)
{
	if (guest_flag_take(c->guest, c->vp, c->relid)) {
		c->rx_signalled = true;
		c->tx_signalled = true;
	}
}

/* ---- open and close ---- */

uint32_t guest_chan_relid(const struct guest_chan *c)
{
	return c->relid;
}

uint32_t guest_chan_gpadl(const struct guest_chan *c)
{
	return c->gpadl;
}

uint32_t guest_chan_vp(const struct guest_chan *c)
{
	return c->vp;
}

void *guest_chan_page(struct guest_chan *c, uint32_t index)
{
	return index < c->page_count ? c->pages[index] : NULL;
}

uint32_t guest_chan_out_pages(const struct guest_chan *c)
{
	return c->out_pages;
}

static struct guest_chan *guest_chan_new(struct guest *g, const struct guest_offer *offer,
                                         uint32_t out_pages, uint32_t in_pages)
{
	struct guest_chan *c = calloc(1, sizeof(*c));
	uint32_t pages = out_pages + in_pages;

	if (c == NULL || out_pages < 2 || in_pages < 2) {
		guest_die("guest_open", -EINVAL);
	}
	c->guest = g;
	c->relid = offer->relid;
	c->connection_id = offer->connection_id;
	c->vp = offer->relid % g->cfg.vp_count;
	c->out_pages = out_pages;
	c->page_count = pages;
	c->pfns = calloc(pages, sizeof(*c->pfns));
	c->pages = calloc(pages, sizeof(*c->pages));
	if (c->pfns == NULL || c->pages == NULL) {
		guest_die("guest_open", -ENOMEM);
	}
	guest_alloc(g, pages, c->pfns);
	for (uint32_t i = 0; i < pages; i++) {
		c->pages[i] = guest_ptr(g, c->pfns[i] * GUEST_PAGE, GUEST_PAGE);
	}
	c->out = (struct guest_ring){.ctrl = (void *)c->pages[0],
	                             .data = c->pages + 1,
	                             .size = (out_pages - 1) * GUEST_PAGE};
	c->in = (struct guest_ring){.ctrl = (void *)c->pages[out_pages],
	                            .data = c->pages + out_pages + 1,
	                            .size = (in_pages - 1) * GUEST_PAGE};
	c->out.ctrl->features = VMBUS_RING_PENDING;
	c->in.ctrl->features = VMBUS_RING_PENDING;
	c->rx_waits = true;
	list_add_tail(&g->chans, &c->link);
	return c;
}

void guest_abandon(struct guest_chan *c)
{
	list_del(&c->link);
	guest_free(c->guest, c->page_count, c->pfns);
	free(c->pfns);
	free(c->pages);
	free(c);
}

int guest_open(struct guest *g, const struct guest_offer *offer, uint32_t out_pages,
               uint32_t in_pages, struct guest_chan **out)
{
	struct guest_chan *c = guest_chan_new(g, offer, out_pages, in_pages);
	struct vmbus_open_wire w = {
		.header.type = le32_make(VMBUS_MESSAGE_OPEN),
		.relid = le32_make(c->relid),
		.open_id = le32_make(c->relid),
		.target_vp = le32_make(c->vp),
		.downstream_page = le32_make(out_pages),
	};
	struct vmbus_open_result_wire r;

	*out = NULL;
	if (guest_gpadl_create(g, c->relid, c->pfns, c->page_count, c->page_count * GUEST_PAGE,
	                       &c->gpadl) != 0) {
		guest_abandon(c);
		return -EREMOTEIO;
	}
	w.ring_gpadl = le32_make(c->gpadl);
	(void)guest_flag_take(g, c->vp, c->relid); /* of an earlier life */
	guest_post_wait(g, &w, sizeof(w));
	guest_message_wait(g, VMBUS_MESSAGE_OPEN_RESULT, &r, sizeof(r));
	if (le32_get(r.relid) != c->relid || le32_get(r.open_id) != c->relid) {
		guest_die("result of another open", -EBADMSG);
	}
	if (le32_get(r.status) != 0) {
		guest_gpadl_teardown(g, c->relid, c->gpadl);
		guest_abandon(c);
		return -EREMOTEIO;
	}
	*out = c;
	return 0;
}

void guest_close(struct guest_chan *c)
{
	struct vmbus_relid_wire w = {
		.header.type = le32_make(VMBUS_MESSAGE_CLOSE),
		.relid = le32_make(c->relid),
	};

	guest_post_wait(c->guest, &w, sizeof(w));
	guest_gpadl_teardown(c->guest, c->relid, c->gpadl);
	guest_abandon(c);
}

/* ---- send ---- */

static bool guest_ring_has_room(struct guest_ring *r, uint32_t need)
{
	uint32_t in = atomic_load(&r->ctrl->in);
	uint32_t out = atomic_load(&r->ctrl->out);

	return r->size - guest_ring_used(r, in, out) > need;
}

static int guest_send_room(struct guest_chan *c, uint32_t need)
{
	struct guest_ring *r = &c->out;

	guest_chan_collect(c);
	if (need >= r->size) {
		return -EMSGSIZE;
	}
	if (c->tx_waits && !c->tx_signalled) {
		return -EAGAIN; /* asleep until the host says that there is room */
	}
	c->tx_signalled = false;
	if (!guest_ring_has_room(r, need)) {
		atomic_store(&r->ctrl->pending, need);
		if (!guest_ring_has_room(r, need)) {
			c->tx_waits = true;
			return -EAGAIN;
		}
	}
	atomic_store(&r->ctrl->pending, 0);
	c->tx_waits = false;
	return 0;
}

int guest_send_full(struct guest_chan *c, uint16_t type, uint16_t flags, uint64_t transaction_id,
                    const void *header, uint32_t header_bytes, const void *payload,
                    uint32_t len_bytes)
{
	struct guest_ring *r = &c->out;
	uint32_t total = (16 + header_bytes + len_bytes + 7) / 8 * 8;
	uint32_t start = atomic_load(&r->ctrl->in) % r->size; /* a test may have damaged it */
	uint32_t at = start;
	static const uint8_t pad[8];
	int err = guest_send_room(c, total + 8);

	if (err != 0) {
		return err;
	}

	struct vmbus_packet_wire w = {
		.type = le16_make(type),
		.header_words = le16_make((uint16_t)((16 + header_bytes) / 8)),
		.total_words = le16_make((uint16_t)(total / 8)),
		.flags = le16_make(flags),
		.transaction_id = le64_make(transaction_id),
	};
	struct vmbus_trailer_wire trailer = {.start = le32_make(start)};

	guest_ring_copy_in(r, &at, &w, sizeof(w));
	guest_ring_copy_in(r, &at, header, header_bytes);
	guest_ring_copy_in(r, &at, payload, len_bytes);
	guest_ring_copy_in(r, &at, pad, total - 16 - header_bytes - len_bytes);
	guest_ring_copy_in(r, &at, &trailer, sizeof(trailer));
	atomic_store(&r->ctrl->in, at);
	/* Only if the host asks for it, and only if it had read all that was there before. */
	if (atomic_load(&r->ctrl->mask) == 0 && atomic_load(&r->ctrl->out) == start) {
		guest_signal(c->guest, c->connection_id); /* unknown id: Linux ignores it */
	}
	return 0;
}

int guest_send(struct guest_chan *c, uint16_t type, uint16_t flags, uint64_t transaction_id,
               const void *payload, uint32_t len_bytes)
{
	return guest_send_full(c, type, flags, transaction_id, NULL, 0, payload, len_bytes);
}

void guest_send_wait(struct guest_chan *c, uint16_t type, uint16_t flags, uint64_t transaction_id,
                     const void *payload, uint32_t len_bytes)
{
	int err;

	guest_run_until(c->guest, (err = guest_send(c, type, flags, transaction_id, payload,
	                                            len_bytes)) != -EAGAIN);
	if (err != 0) {
		guest_die("guest_send", err);
	}
}

int guest_send_gpa(struct guest_chan *c, uint16_t flags, uint64_t transaction_id,
                   const struct guest_range *ranges, uint32_t count, const void *payload,
                   uint32_t len_bytes)
{
	uint32_t bytes = sizeof(struct vmbus_ranges_wire);

	for (uint32_t i = 0; i < count; i++) {
		uint32_t pages =
			(ranges[i].offset + ranges[i].len_bytes + GUEST_PAGE - 1) / GUEST_PAGE;

		bytes += (uint32_t)sizeof(struct vmbus_range_wire) + pages * 8;
	}

	uint8_t *header = calloc(1, bytes);
	uint32_t at = sizeof(struct vmbus_ranges_wire);
	struct vmbus_ranges_wire w = {.count = le32_make(count)};

	if (header == NULL) {
		guest_die("guest_send_gpa", -ENOMEM);
	}
	memcpy(header, &w, sizeof(w));
	for (uint32_t i = 0; i < count; i++) {
		struct vmbus_range_wire range = {
			.byte_count = le32_make(ranges[i].len_bytes),
			.byte_offset = le32_make(ranges[i].offset),
		};
		uint32_t pages =
			(ranges[i].offset + ranges[i].len_bytes + GUEST_PAGE - 1) / GUEST_PAGE;

		memcpy(header + at, &range, sizeof(range));
		at += (uint32_t)sizeof(range);
		for (uint32_t p = 0; p < pages; p++, at += 8) {
			le64 pfn = le64_make(ranges[i].pfns[p]);

			memcpy(header + at, &pfn, sizeof(pfn));
		}
	}

	int err = guest_send_full(c, VMBUS_PACKET_GPA_DIRECT, flags, transaction_id, header, bytes,
	                          payload, len_bytes);

	free(header);
	return err;
}

/* ---- receive ---- */

/* Step over a packet, and wake a host that waits for the room. */
static void guest_recv_consume(struct guest_chan *c, uint32_t out, uint32_t bytes)
{
	struct guest_ring *r = &c->in;

	atomic_store(&r->ctrl->out, (out + bytes) % r->size);

	uint32_t pending = atomic_load(&r->ctrl->pending);
	uint32_t room =
		r->size - guest_ring_used(r, atomic_load(&r->ctrl->in), (out + bytes) % r->size);

	if (pending != 0 && room > pending && room - bytes <= pending) {
		guest_signal(c->guest, c->connection_id);
	}
}

int guest_recv(struct guest_chan *c, void *buf, uint32_t room_bytes, struct vmbus_packet *out)
{
	struct guest_ring *r = &c->in;
	uint32_t at = atomic_load(&r->ctrl->out) % r->size;

	guest_chan_collect(c);
	if (c->rx_waits && !c->rx_signalled) {
		return -EAGAIN;
	}
	if (c->rx_waits) {
		c->rx_waits = false;
		atomic_store(&r->ctrl->mask, 1);
	}
	c->rx_signalled = false;
	if (atomic_load(&r->ctrl->in) == at) {
		atomic_store(&r->ctrl->mask, 0);
		if (atomic_load(&r->ctrl->in) == at) {
			c->rx_waits = true;
			return -EAGAIN;
		}
		atomic_store(&r->ctrl->mask, 1);
	}

	struct vmbus_packet_wire w;
	struct vmbus_trailer_wire trailer;
	uint32_t used = guest_ring_used(r, atomic_load(&r->ctrl->in), at);

	guest_ring_copy_out(r, at, &w, sizeof(w));

	uint32_t header = le16_get(w.header_words) * 8u;
	uint32_t total = le16_get(w.total_words) * 8u;

	if (header < 16 || total < header || total + 8 > used) {
		return -EBADMSG;
	}
	guest_ring_copy_out(r, (at + total) % r->size, &trailer, sizeof(trailer));
	if (le32_get(trailer.start) != at) {
		return -EBADMSG;
	}
	if (total > room_bytes) {
		return -EMSGSIZE;
	}
	guest_ring_copy_out(r, at, buf, total);
	guest_recv_consume(c, at, total + 8);
	*out = (struct vmbus_packet){
		.type = le16_get(w.type),
		.flags = le16_get(w.flags),
		.transaction_id = le64_get(w.transaction_id),
		.header = (uint8_t *)buf + 16,
		.header_bytes = header - 16,
		.payload = (uint8_t *)buf + header,
		.payload_bytes = total - header,
	};
	return 0;
}

void guest_recv_wait(struct guest_chan *c, void *buf, uint32_t room_bytes, struct vmbus_packet *out)
{
	int err;

	guest_run_until(c->guest, (err = guest_recv(c, buf, room_bytes, out)) != -EAGAIN);
	if (err != 0) {
		guest_die("guest_recv", err);
	}
}
