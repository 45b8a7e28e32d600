/* SPDX-License-Identifier: Apache-2.0 */

/* vmbus_guest - memory, SynIC, connection and GPADLs of the simulated guest. */

#include "tests/lib/vmbus_guest.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "base/clock.h"
#include "base/errbuf.h"
#include "base/uring.h"
#include "hv/mem/gmem.h"
#include "hv/vmbus/vmbus_host.h"
#include "tests/lib/vmbus_guest_int.h"

#define GUEST_LOW_BYTES (1ull << 20)
#define GUEST_RAM_BYTES (64ull << 20)
#define GUEST_CONNECTION 0x2000u
#define GUEST_STEP_NS (50ull * 1000 * 1000)
#define GUEST_HEADER_PFNS 26u
#define GUEST_BODY_PFNS 28u

_Noreturn void guest_die(const char *what, int err)
{
	(void)fprintf(stderr, "vmbus_guest: %s: %s\n", what, err < 0 ? strerror(-err) : "");
	abort();
}

/* ---- the host's view: struct vmbus_host_ops ---- */

static int guest_host_message_post(void *arg, uint32_t vp_index, uint32_t sint, const void *payload,
                                   uint32_t len_bytes)
{
	struct guest *g = arg;

	if (vp_index >= g->cfg.vp_count || sint == 0 || sint >= 16 ||
	    len_bytes > VMBUS_MESSAGE_BYTES_MAX) {
		guest_die("bad message_post", -EINVAL);
	}

	struct guest_vp *vp = &g->vps[vp_index];

	if (vp->full) {
		return -EAGAIN;
	}
	vp->full = true;
	vp->slot.len_bytes = len_bytes;
	memcpy(vp->slot.bytes, payload, len_bytes);
	return 0;
}

static void guest_host_event_signal(void *arg, uint32_t vp_index, uint32_t sint, uint32_t flag)
{
	struct guest *g = arg;

	if (vp_index >= g->cfg.vp_count || sint != 2 || flag == 0 || flag >= GUEST_FLAGS) {
		guest_die("bad event_signal", -EINVAL);
	}

	uint64_t *word = &g->vps[vp_index].flags[flag / 64];
	uint64_t bit = 1ull << (flag % 64);

	if ((*word & bit) == 0) {
		*word |= bit;
		g->vps[vp_index].interrupts++;
	}
}

static int guest_host_doorbell_add(void *arg, uint32_t connection_id, int event_fd)
{
	struct guest *g = arg;
	uint32_t index = connection_id - GUEST_CONNECTION;

	if (index >= GUEST_FLAGS || g->doorbells[index] >= 0) {
		guest_die("bad doorbell_add", -EEXIST);
	}
	g->doorbells[index] = event_fd;
	return 0;
}

static void guest_host_doorbell_del(void *arg, uint32_t connection_id, int event_fd)
{
	struct guest *g = arg;
	uint32_t index = connection_id - GUEST_CONNECTION;

	if (index >= GUEST_FLAGS || g->doorbells[index] != event_fd) {
		guest_die("bad doorbell_del", -ENOENT);
	}
	g->doorbells[index] = -1;
}

static const struct vmbus_host_ops guest_host_ops = {
	.message_post = guest_host_message_post,
	.event_signal = guest_host_event_signal,
	.doorbell_add = guest_host_doorbell_add,
	.doorbell_del = guest_host_doorbell_del,
};

/* ---- create and destroy ---- */

static void guest_bus_create(struct guest *g)
{
	const struct vmbus_cfg cfg = {
		.mem = g->mem,
		.ring = g->ring,
		.host = &guest_host_ops,
		.host_arg = g,
		.vm_name = "guest",
		.vp_count = g->cfg.vp_count,
		.version_max = g->cfg.version_max,
	};
	int err = vmbus_create(&cfg, &g->bus);

	if (err != 0) {
		guest_die("vmbus_create", err);
	}
	g->env = (struct vsp_env){
		.bus = g->bus,
		.mem = g->mem,
		.ring = g->ring,
		.vm_name = "guest",
	};
}

void guest_create(const struct guest_cfg *cfg, struct guest **out)
{
	struct guest *g = calloc(1, sizeof(*g));
	struct errbuf eb = {0};

	if (g == NULL) {
		guest_die("guest_create", -ENOMEM);
	}
	if (cfg != NULL) {
		g->cfg = *cfg;
	}
	g->cfg.ram_bytes = g->cfg.ram_bytes != 0 ? g->cfg.ram_bytes : GUEST_RAM_BYTES;
	g->cfg.vp_count = g->cfg.vp_count != 0 ? g->cfg.vp_count : 2;
	if (g->cfg.vp_count > GUEST_VPS_MAX) {
		guest_die("too many VPs", -EINVAL);
	}

	const struct gmem_cfg mem = {
		.size_bytes = g->cfg.ram_bytes,
		.low_max_bytes = GUEST_LOW_BYTES,
	};
	const struct uring_cfg ring = {
		.entries = 256,
		.files_max = 64,
		.buffers_max = 64,
		.force_fallback = g->cfg.fallback,
	};
	struct gmem_slot slot;

	if (gmem_create(&mem, &g->mem, &eb) != 0 || uring_create(&ring, &g->ring, &eb) != 0) {
		guest_die(eb.text, 0);
	}
	gmem_slot(g->mem, gmem_slots(g->mem) - 1, &slot);
	g->page_first = slot.gpa / GUEST_PAGE;
	g->pages = (uint32_t)(slot.len_bytes / GUEST_PAGE);
	g->used = calloc(g->pages, 1);
	if (g->used == NULL) {
		guest_die("guest_create", -ENOMEM);
	}
	if (g->cfg.watch) {
		g->shadow = malloc(g->cfg.ram_bytes);
		if (g->shadow == NULL || gmem_dirty_start(g->mem) != 0) {
			guest_die("guest_create", -ENOMEM);
		}
	}
	for (uint32_t i = 0; i < GUEST_FLAGS; i++) {
		g->doorbells[i] = -1;
	}
	g->post_connection = 4;
	g->gpadl_next = 0xe1e10;
	list_init(&g->chans);
	guest_bus_create(g);
	*out = g;
}

void guest_destroy(struct guest *g)
{
	vmbus_destroy(g->bus);
	uring_destroy(g->ring);
	while (!list_empty(&g->chans)) {
		struct list *link = list_first(&g->chans);

		guest_abandon((struct guest_chan *)(void *)link);
	}
	gmem_destroy(g->mem);
	free(g->shadow);
	free(g->used);
	free(g->inbox);
	free(g);
}

void guest_host_begin(struct guest *g)
{
	struct gmem_slot slot;
	uint8_t *to = g->shadow;

	for (uint32_t i = 0; to != NULL && i < gmem_slots(g->mem); i++) {
		gmem_slot(g->mem, i, &slot);
		memcpy(to, slot.host, slot.len_bytes);
		to += slot.len_bytes;
	}
}

void guest_host_end(struct guest *g)
{
	struct gmem_slot slot;
	const uint8_t *was = g->shadow;

	for (uint32_t i = 0; was != NULL && i < gmem_slots(g->mem); i++) {
		gmem_slot(g->mem, i, &slot);

		uint64_t pages = slot.len_bytes / GUEST_PAGE;
		uint64_t *bits = calloc(pages / 64 + 1, sizeof(*bits));

		if (bits == NULL) {
			guest_die("guest_host_end", -ENOMEM);
		}
		gmem_dirty_take(g->mem, i, bits, pages / 64 + 1);
		for (uint64_t page = 0; page < pages; page++) {
			if ((bits[page / 64] >> (page % 64) & 1) == 0 &&
			    memcmp(was + page * GUEST_PAGE, slot.host + page * GUEST_PAGE,
			           GUEST_PAGE) != 0) {
				(void)fprintf(stderr, "page %u of slot %u\n", (uint32_t)page, i);
				guest_die("the host wrote and did not say so", -EIO);
			}
		}
		free(bits);
		was += slot.len_bytes;
	}
	g->turns++;
}

uint64_t guest_turns(const struct guest *g)
{
	return g->turns;
}

void guest_bus_replace(struct guest *g)
{
	vmbus_destroy(g->bus);
	guest_bus_create(g);
	vmbus_pause(g->bus);
}

struct vmbus *guest_bus(struct guest *g)
{
	return g->bus;
}

struct gmem *guest_mem(struct guest *g)
{
	return g->mem;
}

struct uring *guest_uring(struct guest *g)
{
	return g->ring;
}

const struct vsp_env *guest_env(const struct guest *g)
{
	return &g->env;
}

/* ---- memory ---- */

static bool guest_page_take(struct guest *g, uint32_t index)
{
	if (index >= g->pages || g->used[index] != 0) {
		return false;
	}
	g->used[index] = 1;
	return true;
}

static uint64_t guest_page_alloc(struct guest *g, uint64_t avoid)
{
	for (uint32_t i = 0; i < g->pages; i++) {
		uint32_t index = (g->page_next + i) % g->pages;
		uint64_t pfn = g->page_first + index;

		if (g->cfg.scatter && (pfn == avoid + 1 || pfn + 1 == avoid)) {
			continue;
		}
		if (guest_page_take(g, index)) {
			g->page_next = (index + 1) % g->pages;
			memset(guest_ptr(g, pfn * GUEST_PAGE, GUEST_PAGE), 0, GUEST_PAGE);
			return pfn;
		}
	}
	guest_die("out of guest memory", -ENOMEM);
}

void guest_alloc(struct guest *g, uint32_t pages, uint64_t *pfns)
{
	if (!g->cfg.scatter) {
		uint64_t gpa = guest_alloc_contiguous(g, pages);

		for (uint32_t i = 0; i < pages; i++) {
			pfns[i] = gpa / GUEST_PAGE + i;
		}
		return;
	}
	for (uint32_t i = 0; i < pages; i++) {
		pfns[i] = guest_page_alloc(g, i != 0 ? pfns[i - 1] : 0);
	}
}

uint64_t guest_alloc_contiguous(struct guest *g, uint32_t pages)
{
	uint32_t run = 0;

	for (uint32_t i = 0; i < g->pages; i++) {
		run = g->used[i] == 0 ? run + 1 : 0;
		if (run == pages) {
			uint64_t gpa = (g->page_first + i + 1 - pages) * GUEST_PAGE;

			memset(&g->used[i + 1 - pages], 1, pages);
			memset(guest_ptr(g, gpa, (uint64_t)pages * GUEST_PAGE), 0,
			       (size_t)pages * GUEST_PAGE);
			return gpa;
		}
	}
	guest_die("out of guest memory", -ENOMEM);
}

void guest_free(struct guest *g, uint32_t pages, const uint64_t *pfns)
{
	for (uint32_t i = 0; i < pages; i++) {
		g->used[pfns[i] - g->page_first] = 0;
	}
}

void *guest_ptr(struct guest *g, uint64_t gpa, uint64_t len_bytes)
{
	void *p = gmem_range(g->mem, gpa, len_bytes);

	if (p == NULL) {
		guest_die("address is no RAM", -EFAULT);
	}
	return p;
}

/* Host address of byte @offset of the pages, and how many of @len_bytes are in its page. */
static uint8_t *guest_pages_piece(struct guest *g, const uint64_t *pfns, uint64_t offset,
                                  size_t len_bytes, size_t *piece_bytes)
{
	size_t left = GUEST_PAGE - offset % GUEST_PAGE;
	uint64_t gpa = pfns[offset / GUEST_PAGE] * GUEST_PAGE + offset % GUEST_PAGE;

	*piece_bytes = len_bytes < left ? len_bytes : left;
	return guest_ptr(g, gpa, *piece_bytes);
}

void guest_pages_write(struct guest *g, const uint64_t *pfns, uint64_t offset, const void *buf,
                       size_t len_bytes)
{
	const uint8_t *from = buf;

	while (len_bytes != 0) {
		size_t n;
		uint8_t *to = guest_pages_piece(g, pfns, offset, len_bytes, &n);

		memcpy(to, from, n);
		from += n;
		offset += n;
		len_bytes -= n;
	}
}

void guest_pages_read(struct guest *g, const uint64_t *pfns, uint64_t offset, void *buf,
                      size_t len_bytes)
{
	uint8_t *to = buf;

	while (len_bytes != 0) {
		size_t n;
		const uint8_t *from = guest_pages_piece(g, pfns, offset, len_bytes, &n);

		memcpy(to, from, n);
		to += n;
		offset += n;
		len_bytes -= n;
	}
}

/* ---- messages and events ---- */

static void guest_inbox_add(struct guest *g, const struct guest_message *m)
{
	if (g->inbox_count == g->inbox_room) {
		g->inbox_room = g->inbox_room != 0 ? 2 * g->inbox_room : 64;
		g->inbox = reallocarray(g->inbox, g->inbox_room, sizeof(*g->inbox));
		if (g->inbox == NULL) {
			guest_die("inbox", -ENOMEM);
		}
	}
	g->inbox[g->inbox_count++] = *m;
}

static void guest_message_offer(struct guest *g, const struct guest_message *m)
{
	if (m->len_bytes < sizeof(struct vmbus_offer_wire)) {
		if (g->cfg.wary) {
			return;
		}
		guest_die("bad offer", -EBADMSG);
	}
	if (g->offer_count == GUEST_OFFERS_MAX) {
		return; /* a hostile test asked again and again */
	}

	struct guest_offer *o = &g->offers[g->offer_count++];

	*o = (struct guest_offer){0};
	memcpy(&o->wire, m->bytes, sizeof(o->wire));
	o->relid = le32_get(o->wire.relid);
	o->connection_id = le32_get(o->wire.connection_id);
	o->subchannel_index = le16_get(o->wire.subchannel_index);
}

static void guest_message_rescind(struct guest *g, const struct guest_message *m)
{
	struct vmbus_relid_wire w;

	memcpy(&w, m->bytes, sizeof(w));
	for (uint32_t i = 0; i < g->offer_count; i++) {
		if (g->offers[i].relid == le32_get(w.relid) && !g->offers[i].released) {
			g->offers[i].rescinded = true;
		}
	}
}

static void guest_message_dispatch(struct guest *g, const struct guest_message *m)
{
	struct vmbus_header_wire w;

	memcpy(&w, m->bytes, sizeof(w));
	switch (le32_get(w.type)) {
	case VMBUS_MESSAGE_OFFER:
		guest_message_offer(g, m);
		break;
	case VMBUS_MESSAGE_RESCIND:
		guest_message_rescind(g, m);
		break;
	default:
		guest_inbox_add(g, m);
		break;
	}
}

/* Returns whether there was one. */
static bool guest_slots_empty(struct guest *g)
{
	bool any = false;

	for (uint32_t i = 0; i < g->cfg.vp_count && !g->hold; i++) {
		while (g->vps[i].full) {
			struct guest_message m = g->vps[i].slot;

			any = true;
			g->vps[i].full = false;
			guest_message_dispatch(g, &m);
			vmbus_slot_free(g->bus, i); /* EOM */
		}
	}
	return any;
}

void guest_step(struct guest *g, uint64_t timeout_ns)
{
	if (guest_slots_empty(g)) {
		timeout_ns = 0;
	}

	guest_host_begin(g);

	int err = uring_wait(g->ring, timeout_ns);

	guest_host_end(g);
	if (err < 0 && err != -EINTR) {
		guest_die("uring_wait", err);
	}
	(void)guest_slots_empty(g);
}

void guest_settle(struct guest *g)
{
	int ran;

	do {
		bool any = guest_slots_empty(g);

		guest_host_begin(g);
		ran = uring_wait(g->ring, 0);
		guest_host_end(g);
		if (ran < 0 && ran != -EINTR) {
			guest_die("uring_wait", ran);
		}
		ran += any;
	} while (ran != 0);
}

uint64_t guest_deadline(void)
{
	return clock_now_ns() + GUEST_WAIT_NS;
}

void guest_step_until(struct guest *g, uint64_t deadline_ns, const char *what, const char *file,
                      int line)
{
	if (clock_now_ns() > deadline_ns) {
		(void)fprintf(stderr, "%s:%d: vmbus_guest: waited in vain for: %s\n", file, line,
		              what);
		abort();
	}
	guest_step(g, GUEST_STEP_NS);
}

void guest_hold(struct guest *g, bool hold)
{
	g->hold = hold;
}

bool guest_message_take(struct guest *g, uint32_t type, void *buf, uint32_t len_bytes)
{
	for (uint32_t i = 0; i < g->inbox_count; i++) {
		struct vmbus_header_wire w;

		memcpy(&w, g->inbox[i].bytes, sizeof(w));
		if (le32_get(w.type) != type) {
			continue;
		}
		if (g->inbox[i].len_bytes != len_bytes) {
			guest_die("message has another length", -EBADMSG);
		}
		memcpy(buf, g->inbox[i].bytes, len_bytes);
		g->inbox_count--;
		memmove(&g->inbox[i], &g->inbox[i + 1], (g->inbox_count - i) * sizeof(g->inbox[0]));
		return true;
	}
	return false;
}

void guest_message_wait(struct guest *g, uint32_t type, void *buf, uint32_t len_bytes)
{
	guest_run_until(g, guest_message_take(g, type, buf, len_bytes));
}

uint32_t guest_message_count(const struct guest *g)
{
	return g->inbox_count;
}

int guest_post(struct guest *g, uint32_t connection_id, const void *msg, uint32_t len_bytes)
{
	int err;

	guest_host_begin(g);
	err = vmbus_message(g->bus, connection_id, msg, len_bytes);
	guest_host_end(g);
	return err;
}

void guest_post_wait(struct guest *g, const void *msg, uint32_t len_bytes)
{
	int err;

	guest_run_until(g, (err = guest_post(g, g->post_connection, msg, len_bytes)) != -EAGAIN);
	if (err != 0) {
		guest_die("post", err);
	}
}

int guest_signal(struct guest *g, uint32_t connection_id)
{
	uint32_t index = connection_id - GUEST_CONNECTION;

	if (index >= GUEST_FLAGS || g->doorbells[index] < 0) {
		return -ENOENT;
	}
	if (eventfd_write(g->doorbells[index], 1) != 0) {
		guest_die("eventfd_write", -errno);
	}
	return 0;
}

uint64_t guest_interrupts(const struct guest *g, uint32_t vp_index)
{
	return g->vps[vp_index].interrupts;
}

bool guest_flag_take(struct guest *g, uint32_t vp_index, uint32_t flag)
{
	uint64_t *word = &g->vps[vp_index].flags[flag / 64];
	uint64_t bit = 1ull << (flag % 64);
	bool was = (*word & bit) != 0;

	*word &= ~bit;
	return was;
}

/* ---- connection ---- */

int guest_connect(struct guest *g, uint32_t version)
{
	struct vmbus_version_response_wire r;
	struct vmbus_contact_wire w = {
		.header.type = le32_make(VMBUS_MESSAGE_CONTACT),
		.version = le32_make(version),
		.target_vp = le32_make(0),
	};

	g->offer_count = 0;
	g->inbox_count = 0;
	g->post_connection = 1;
	if (version >= VMBUS_VERSION(5, 0)) {
		w.sint = 2;
		g->post_connection = 4;
	}
	guest_post_wait(g, &w, sizeof(w));
	guest_message_wait(g, VMBUS_MESSAGE_VERSION_RESPONSE, &r, sizeof(r));
	if (r.supported == 0) {
		return -EPROTONOSUPPORT;
	}
	if (version >= VMBUS_VERSION(5, 0)) {
		g->post_connection = le32_get(r.connection_id);
	}
	return 0;
}

void guest_request_offers(struct guest *g)
{
	struct vmbus_header_wire w = {.type = le32_make(VMBUS_MESSAGE_REQUEST_OFFERS)};

	guest_post_wait(g, &w, sizeof(w));
	guest_message_wait(g, VMBUS_MESSAGE_ALL_OFFERS, &w, sizeof(w));
}

void guest_boot(struct guest *g)
{
	int err = guest_connect(g, VMBUS_VERSION(5, 3));

	if (err != 0) {
		guest_die("guest_connect", err);
	}
	guest_request_offers(g);
}

void guest_unload(struct guest *g)
{
	struct vmbus_header_wire w = {.type = le32_make(VMBUS_MESSAGE_UNLOAD)};

	guest_post_wait(g, &w, sizeof(w));
	guest_message_wait(g, VMBUS_MESSAGE_UNLOAD_RESPONSE, &w, sizeof(w));
	g->offer_count = 0;
	g->inbox_count = 0;
}

struct guest_offer *guest_offer_next(struct guest *g, const struct guid *interface_id,
                                     uint16_t subchannel_index, const struct guest_offer *from)
{
	uint32_t i = from != NULL ? (uint32_t)(from - g->offers) + 1 : 0;

	for (; i < g->offer_count; i++) {
		struct guest_offer *o = &g->offers[i];

		if (!o->rescinded && !o->released && o->subchannel_index == subchannel_index &&
		    guid_equal(&o->wire.interface_id, interface_id)) {
			return o;
		}
	}
	return NULL;
}

struct guest_offer *guest_offer_find(struct guest *g, const struct guid *interface_id,
                                     uint16_t subchannel_index)
{
	return guest_offer_next(g, interface_id, subchannel_index, NULL);
}

uint32_t guest_offer_count(const struct guest *g)
{
	return g->offer_count;
}

void guest_release(struct guest *g, struct guest_offer *offer)
{
	struct vmbus_relid_wire w = {
		.header.type = le32_make(VMBUS_MESSAGE_RELID_RELEASED),
		.relid = le32_make(offer->relid),
	};

	offer->released = true;
	guest_post_wait(g, &w, sizeof(w));
}

/* ---- GPADLs ---- */

static uint32_t guest_gpadl_put_pfns(uint8_t *to, const uint64_t *pfns, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		le64 pfn = le64_make(pfns[i]);

		memcpy(to + i * sizeof(pfn), &pfn, sizeof(pfn));
	}
	return count * (uint32_t)sizeof(le64);
}

int guest_gpadl_create(struct guest *g, uint32_t relid, const uint64_t *pfns, uint32_t pages,
                       uint32_t byte_count, uint32_t *id)
{
	struct vmbus_gpadl_header_wire w = {
		.header.type = le32_make(VMBUS_MESSAGE_GPADL_HEADER),
		.relid = le32_make(relid),
		.gpadl = le32_make(g->gpadl_next),
		.range_bytes = le16_make(
			(uint16_t)(sizeof(struct vmbus_range_wire) + pages * sizeof(le64))),
		.range_count = le16_make(1),
	};
	struct vmbus_range_wire range = {.byte_count = le32_make(byte_count)};
	uint32_t n = pages < GUEST_HEADER_PFNS ? pages : GUEST_HEADER_PFNS;
	uint32_t done = n;
	uint8_t msg[240];
	uint32_t len = sizeof(w) + sizeof(range);

	*id = g->gpadl_next++;
	memcpy(msg, &w, sizeof(w));
	memcpy(msg + sizeof(w), &range, sizeof(range));
	len += guest_gpadl_put_pfns(msg + len, pfns, n);
	guest_post_wait(g, msg, len);
	for (uint32_t number = 1; done < pages; number++, done += n) {
		struct vmbus_gpadl_body_wire body = {
			.header.type = le32_make(VMBUS_MESSAGE_GPADL_BODY),
			.number = le32_make(number),
			.gpadl = le32_make(*id),
		};

		n = pages - done < GUEST_BODY_PFNS ? pages - done : GUEST_BODY_PFNS;
		memcpy(msg, &body, sizeof(body));
		len = sizeof(body) + guest_gpadl_put_pfns(msg + sizeof(body), pfns + done, n);
		guest_post_wait(g, msg, len);
	}

	struct vmbus_gpadl_created_wire r;

	guest_message_wait(g, VMBUS_MESSAGE_GPADL_CREATED, &r, sizeof(r));
	if (le32_get(r.gpadl) != *id || le32_get(r.relid) != relid) {
		guest_die("answer about another gpadl", -EBADMSG);
	}
	return le32_get(r.status) == 0 ? 0 : -EREMOTEIO;
}

void guest_gpadl_teardown_begin(struct guest *g, uint32_t relid, uint32_t id)
{
	struct vmbus_gpadl_teardown_wire w = {
		.header.type = le32_make(VMBUS_MESSAGE_GPADL_TEARDOWN),
		.relid = le32_make(relid),
		.gpadl = le32_make(id),
	};

	guest_post_wait(g, &w, sizeof(w));
}

void guest_gpadl_teardown(struct guest *g, uint32_t relid, uint32_t id)
{
	struct vmbus_gpadl_torndown_wire r;

	guest_gpadl_teardown_begin(g, relid, id);
	guest_message_wait(g, VMBUS_MESSAGE_GPADL_TORNDOWN, &r, sizeof(r));
	if (le32_get(r.gpadl) != id) {
		guest_die("answer about another gpadl", -EBADMSG);
	}
}
