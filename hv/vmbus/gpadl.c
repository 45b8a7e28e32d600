/* SPDX-License-Identifier: Apache-2.0 */

/*
 * gpadl - guest physical address descriptor lists: buffers that the guest shares page by page.
 *
 * A header message and as many bodies as it takes carry the page numbers; several lists may be
 * under way at once. Each page is checked against RAM once, when it arrives: RAM does not go away
 * while the worker lives. Memory is bounded per list (the length field), channel and partition.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/fault.h"
#include "hv/mem/gmem.h"
#include "hv/vmbus/vmbus_int.h"

struct vmbus_gpadl *vmbus_gpadl_find(const struct vmbus *bus, uint32_t id)
{
	list_for_each(link, &bus->gpadls)
	{
		struct vmbus_gpadl *g = list_entry(link, struct vmbus_gpadl, link);

		if (g->id == id) {
			return g;
		}
	}
	return NULL;
}

bool vmbus_gpadl_page_ok(const struct vmbus *bus, uint64_t pfn)
{
	return pfn <= UINT64_MAX / GMEM_PAGE_BYTES &&
	       gmem_range(bus->cfg.mem, pfn * GMEM_PAGE_BYTES, GMEM_PAGE_BYTES) != NULL;
}

int vmbus_gpadl_new(struct vmbus_channel *chan, uint32_t id, uint32_t byte_count,
                    uint32_t byte_offset, struct vmbus_gpadl **out)
{
	struct vmbus *bus = chan->bus;
	uint32_t pages = (uint32_t)(((uint64_t)byte_offset + byte_count + GMEM_PAGE_BYTES - 1) /
	                            GMEM_PAGE_BYTES);

	*out = NULL;
	if (bus->gpadl_count == VMBUS_GPADLS_MAX || pages > VMBUS_PAGES_MAX - bus->gpadl_pages ||
	    pages > VMBUS_GPADL_PAGES_MAX - chan->gpadl_pages) {
		return -ENOSPC;
	}

	struct vmbus_gpadl *g = gw_malloc(sizeof(*g) + pages * sizeof(g->pfns[0]));

	if (g == NULL) {
		return -ENOMEM;
	}
	*g = (struct vmbus_gpadl){
		.bus = bus,
		.chan = chan,
		.id = id,
		.state = VMBUS_GPADL_BUILDING,
		.byte_count = byte_count,
		.byte_offset = byte_offset,
		.page_count = pages,
	};
	list_add_head(&bus->gpadls, &g->link); /* in front: its bodies come next */
	bus->gpadl_count++;
	bus->gpadl_pages += pages;
	chan->gpadl_pages += pages;
	*out = g;
	return 0;
}

void vmbus_gpadl_forget(struct vmbus_gpadl *gpadl)
{
	struct vmbus *bus = gpadl->bus;

	list_del(&gpadl->link);
	bus->gpadl_count--;
	bus->gpadl_pages -= gpadl->page_count;
	gpadl->chan->gpadl_pages -= gpadl->page_count;
	gpadl->chan = NULL;
	if (gpadl->refs == 0) {
		free(gpadl);
	}
}

void vmbus_gpadl_forget_channel(struct vmbus *bus, const struct vmbus_channel *chan)
{
	list_for_each_safe(link, &bus->gpadls)
	{
		struct vmbus_gpadl *g = list_entry(link, struct vmbus_gpadl, link);

		if (chan == NULL || g->chan == chan) {
			vmbus_gpadl_forget(g);
		}
	}
}

/* ---- messages ---- */

static void vmbus_gpadl_created(struct vmbus *bus, uint32_t relid, uint32_t id, uint32_t status)
{
	struct vmbus_gpadl_created_wire w = {
		.header.type = le32_make(VMBUS_MESSAGE_GPADL_CREATED),
		.relid = le32_make(relid),
		.gpadl = le32_make(id),
		.status = le32_make(status),
	};

	if (status != VMBUS_STATUS_OK) {
		log_limited(&bus->limit, LOG_LEVEL_WARN, VMBUS_TAG,
		            "gpadl refused vm=%s chan=%u gpadl=0x%x status=0x%x", bus->cfg.vm_name,
		            relid, id, status);
	}
	vmbus_out_push(bus, &w, sizeof(w));
}

static void vmbus_gpadl_torndown(struct vmbus *bus, uint32_t id)
{
	struct vmbus_gpadl_torndown_wire w = {
		.header.type = le32_make(VMBUS_MESSAGE_GPADL_TORNDOWN),
		.gpadl = le32_make(id),
	};

	vmbus_out_push(bus, &w, sizeof(w));
}

/* Take page numbers from a message; what is more than the list needs is padding. */
static void vmbus_gpadl_pages(struct vmbus_gpadl *g, const uint8_t *buf, uint32_t len_bytes)
{
	struct vmbus *bus = g->bus;
	uint32_t relid = g->chan->relid;
	uint32_t id = g->id;

	for (; len_bytes >= sizeof(le64) && g->received < g->page_count;
	     buf += sizeof(le64), len_bytes -= (uint32_t)sizeof(le64)) {
		le64 pfn;

		memcpy(&pfn, buf, sizeof(pfn));
		if (!vmbus_gpadl_page_ok(bus, le64_get(pfn))) {
			/* Bodies that still come will find no list, and are dropped. */
			vmbus_gpadl_forget(g);
			vmbus_gpadl_created(bus, relid, id, VMBUS_STATUS_INVALID);
			return;
		}
		g->pfns[g->received++] = le64_get(pfn);
	}
	if (g->received == g->page_count) {
		g->state = VMBUS_GPADL_READY;
		vmbus_gpadl_created(bus, relid, id, VMBUS_STATUS_OK);
	}
}

void vmbus_gpadl_msg_header(struct vmbus *bus, const uint8_t *msg, uint32_t len_bytes)
{
	const uint32_t fixed =
		sizeof(struct vmbus_gpadl_header_wire) + sizeof(struct vmbus_range_wire);
	struct vmbus_gpadl_header_wire w;
	struct vmbus_range_wire range;

	memcpy(&w, msg, sizeof(w));

	uint32_t relid = le32_get(w.relid);
	uint32_t id = le32_get(w.gpadl);
	struct vmbus_channel *chan = vmbus_channel_find(bus, relid);
	struct vmbus_gpadl *g;

	if (chan == NULL || id == 0 || vmbus_gpadl_find(bus, id) != NULL || len_bytes < fixed ||
	    le16_get(w.range_count) != 1) {
		vmbus_gpadl_created(bus, relid, id, VMBUS_STATUS_INVALID);
		return;
	}
	memcpy(&range, msg + sizeof(w), sizeof(range));

	uint64_t bytes = le32_get(range.byte_count);
	uint64_t offset = le32_get(range.byte_offset);
	uint64_t pages = (offset + bytes + GMEM_PAGE_BYTES - 1) / GMEM_PAGE_BYTES;

	if (bytes == 0 || offset >= GMEM_PAGE_BYTES ||
	    le16_get(w.range_bytes) != sizeof(range) + pages * sizeof(le64)) {
		vmbus_gpadl_created(bus, relid, id, VMBUS_STATUS_INVALID);
		return;
	}
	if (vmbus_gpadl_new(chan, id, (uint32_t)bytes, (uint32_t)offset, &g) != 0) {
		vmbus_gpadl_created(bus, relid, id, VMBUS_STATUS_NO_RESOURCES);
		return;
	}
	vmbus_gpadl_pages(g, msg + fixed, len_bytes - fixed);
}

void vmbus_gpadl_msg_body(struct vmbus *bus, const uint8_t *msg, uint32_t len_bytes)
{
	struct vmbus_gpadl_body_wire w;

	memcpy(&w, msg, sizeof(w));

	struct vmbus_gpadl *g = vmbus_gpadl_find(bus, le32_get(w.gpadl));

	if (g == NULL || g->state != VMBUS_GPADL_BUILDING) {
		log_limited(&bus->limit, LOG_LEVEL_WARN, VMBUS_TAG,
		            "gpadl body without a header vm=%s gpadl=0x%x", bus->cfg.vm_name,
		            le32_get(w.gpadl));
		return;
	}
	vmbus_gpadl_pages(g, msg + sizeof(w), len_bytes - (uint32_t)sizeof(w));
}

void vmbus_gpadl_msg_teardown(struct vmbus *bus, const uint8_t *msg, uint32_t len_bytes)
{
	struct vmbus_gpadl_teardown_wire w;

	(void)len_bytes;
	memcpy(&w, msg, sizeof(w));

	uint32_t id = le32_get(w.gpadl);
	struct vmbus_gpadl *g = vmbus_gpadl_find(bus, id);

	if (g == NULL) {
		/* Nothing of it is in use, so the answer is true, and a guest waits for it. */
		vmbus_gpadl_torndown(bus, id);
		return;
	}
	if (g->chan->relid != le32_get(w.relid)) {
		log_limited(&bus->limit, LOG_LEVEL_WARN, VMBUS_TAG,
		            "gpadl of another channel vm=%s chan=%u gpadl=0x%x", bus->cfg.vm_name,
		            le32_get(w.relid), id);
		return;
	}
	if (g->refs != 0) {
		g->state = VMBUS_GPADL_TEARDOWN; /* vmbus_gpadl_put() answers */
		return;
	}
	vmbus_gpadl_forget(g);
	vmbus_gpadl_torndown(bus, id);
}

void vmbus_gpadl_settle(struct vmbus *bus)
{
	list_for_each_safe(link, &bus->gpadls)
	{
		struct vmbus_gpadl *g = list_entry(link, struct vmbus_gpadl, link);

		if (g->state == VMBUS_GPADL_TEARDOWN && g->refs == 0) {
			uint32_t id = g->id;

			vmbus_gpadl_forget(g);
			vmbus_gpadl_torndown(bus, id);
		}
	}
}

/* ---- a VSP's side ---- */

int vmbus_gpadl_get(struct vmbus_channel *chan, uint32_t id, struct vmbus_gpadl **out)
{
	struct vmbus_gpadl *g = vmbus_gpadl_find(chan->bus, id);

	*out = NULL;
	if (g == NULL || g->chan != chan || g->state == VMBUS_GPADL_BUILDING) {
		return -ENOENT;
	}
	/* A loaded device takes up again what it held when the guest asked for it back. */
	if (g->state == VMBUS_GPADL_TEARDOWN && !chan->bus->loading) {
		return -ENOENT;
	}
	g->refs++;
	*out = g;
	return 0;
}

void vmbus_gpadl_put(struct vmbus_gpadl *gpadl)
{
	CHECK(gpadl->refs != 0);
	gpadl->refs--;
	if (gpadl->refs != 0) {
		return;
	}
	if (gpadl->chan == NULL) {
		free(gpadl);
	} else if (gpadl->state == VMBUS_GPADL_TEARDOWN) {
		struct vmbus *bus = gpadl->bus;
		uint32_t id = gpadl->id;

		vmbus_gpadl_forget(gpadl);
		vmbus_gpadl_torndown(bus, id);
	}
}

uint64_t vmbus_gpadl_bytes(const struct vmbus_gpadl *gpadl)
{
	return gpadl->byte_count;
}

static bool vmbus_gpadl_inside(const struct vmbus_gpadl *g, uint64_t offset_bytes,
                               uint64_t len_bytes)
{
	return offset_bytes <= g->byte_count && len_bytes <= g->byte_count - offset_bytes;
}

/* The part of one page at @offset, at most @len_bytes: its GPA; @piece_bytes long. */
static uint64_t vmbus_gpadl_piece(const struct vmbus_gpadl *g, uint64_t offset_bytes,
                                  uint64_t len_bytes, uint64_t *piece_bytes)
{
	uint64_t at = g->byte_offset + offset_bytes;
	uint64_t left = GMEM_PAGE_BYTES - at % GMEM_PAGE_BYTES;

	*piece_bytes = len_bytes < left ? len_bytes : left;
	return g->pfns[at / GMEM_PAGE_BYTES] * GMEM_PAGE_BYTES + at % GMEM_PAGE_BYTES;
}

int vmbus_gpadl_iov(const struct vmbus_gpadl *gpadl, uint64_t offset_bytes, uint64_t len_bytes,
                    struct iovec *iov, uint32_t max)
{
	uint32_t count = 0;

	if (!vmbus_gpadl_inside(gpadl, offset_bytes, len_bytes)) {
		return -EFAULT;
	}
	while (len_bytes != 0) {
		uint64_t n;
		uint64_t gpa = vmbus_gpadl_piece(gpadl, offset_bytes, len_bytes, &n);
		uint8_t *host = gmem_range(gpadl->bus->cfg.mem, gpa, n);

		if (host == NULL) {
			return -EFAULT; /* checked when it came, and RAM stays */
		}
		if (count != 0 &&
		    (uint8_t *)iov[count - 1].iov_base + iov[count - 1].iov_len == host) {
			iov[count - 1].iov_len += n;
		} else if (count == max) {
			return -E2BIG;
		} else {
			iov[count++] = (struct iovec){.iov_base = host, .iov_len = n};
		}
		offset_bytes += n;
		len_bytes -= n;
	}
	return (int)count;
}

void vmbus_gpadl_dirty(struct vmbus_gpadl *gpadl, uint64_t offset_bytes, uint64_t len_bytes)
{
	CHECK(vmbus_gpadl_inside(gpadl, offset_bytes, len_bytes));
	while (len_bytes != 0) {
		uint64_t n;
		uint64_t gpa = vmbus_gpadl_piece(gpadl, offset_bytes, len_bytes, &n);

		gmem_dirty(gpadl->bus->cfg.mem, gpa, n);
		offset_bytes += n;
		len_bytes -= n;
	}
}

int vmbus_gpadl_read(const struct vmbus_gpadl *gpadl, uint64_t offset_bytes, void *buf,
                     size_t len_bytes)
{
	uint8_t *to = buf;

	if (!vmbus_gpadl_inside(gpadl, offset_bytes, len_bytes)) {
		return -EFAULT;
	}
	while (len_bytes != 0) {
		uint64_t n;
		uint64_t gpa = vmbus_gpadl_piece(gpadl, offset_bytes, len_bytes, &n);
		int err = gmem_read(gpadl->bus->cfg.mem, gpa, to, n);

		if (err != 0) {
			return err;
		}
		to += n;
		offset_bytes += n;
		len_bytes -= n;
	}
	return 0;
}

int vmbus_gpadl_write(struct vmbus_gpadl *gpadl, uint64_t offset_bytes, const void *buf,
                      size_t len_bytes)
{
	const uint8_t *from = buf;

	if (!vmbus_gpadl_inside(gpadl, offset_bytes, len_bytes)) {
		return -EFAULT;
	}
	while (len_bytes != 0) {
		uint64_t n;
		uint64_t gpa = vmbus_gpadl_piece(gpadl, offset_bytes, len_bytes, &n);
		int err = gmem_write(gpadl->bus->cfg.mem, gpa, from, n);

		if (err != 0) {
			return err;
		}
		from += n;
		offset_bytes += n;
		len_bytes -= n;
	}
	return 0;
}
