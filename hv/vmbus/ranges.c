/* SPDX-License-Identifier: Apache-2.0 */

/* ranges - the guest memory that a GPA-direct packet names. */

#include <errno.h>
#include <string.h>

#include "hv/mem/gmem.h"
#include "hv/vmbus/vmbus.h"
#include "hv/vmbus/vmbus_wire.h"

/* What is decoded so far. */
struct vmbus_pieces {
	struct vmbus_range *pieces;
	uint32_t max;
	uint32_t count;
	uint64_t total_bytes;
	const uint8_t *host_end; /* behind the last piece */
};

static int vmbus_pieces_add(struct vmbus_pieces *p, const struct gmem *mem, uint64_t pfn,
                            uint32_t offset, uint32_t len_bytes)
{
	const uint8_t *host = NULL;

	if (pfn <= UINT64_MAX / GMEM_PAGE_BYTES) {
		host = gmem_range(mem, pfn * GMEM_PAGE_BYTES, GMEM_PAGE_BYTES);
	}
	if (host == NULL) {
		return -EFAULT;
	}

	uint64_t gpa = pfn * GMEM_PAGE_BYTES + offset;
	struct vmbus_range *last = p->count != 0 ? &p->pieces[p->count - 1] : NULL;

	/* Both addresses: a piece must be one range of memory here, too. */
	if (last != NULL && last->gpa + last->len_bytes == gpa && p->host_end == host + offset &&
	    len_bytes <= UINT32_MAX - last->len_bytes) {
		last->len_bytes += len_bytes;
	} else if (p->count == p->max) {
		return -E2BIG;
	} else {
		p->pieces[p->count++] = (struct vmbus_range){.gpa = gpa, .len_bytes = len_bytes};
	}
	p->host_end = host + offset + len_bytes;
	p->total_bytes += len_bytes;
	return 0;
}

/* One range at @buf[len_bytes]. Returns the bytes it takes there; -errno. */
static int64_t vmbus_pieces_range(struct vmbus_pieces *p, const struct gmem *mem,
                                  const uint8_t *buf, uint32_t len_bytes)
{
	struct vmbus_range_wire w;

	if (len_bytes < sizeof(w)) {
		return -EBADMSG;
	}
	memcpy(&w, buf, sizeof(w));

	uint64_t left = le32_get(w.byte_count);
	uint32_t offset = le32_get(w.byte_offset);
	uint64_t pages = (offset + left + GMEM_PAGE_BYTES - 1) / GMEM_PAGE_BYTES;

	if (left == 0 || offset >= GMEM_PAGE_BYTES ||
	    pages > (len_bytes - sizeof(w)) / sizeof(le64)) {
		return -EBADMSG;
	}
	for (uint64_t i = 0; i < pages; i++) {
		uint64_t room = GMEM_PAGE_BYTES - offset;
		uint32_t n = (uint32_t)(left < room ? left : room);
		le64 pfn;

		memcpy(&pfn, buf + sizeof(w) + i * sizeof(pfn), sizeof(pfn));

		int err = vmbus_pieces_add(p, mem, le64_get(pfn), offset, n);

		if (err != 0) {
			return err;
		}
		left -= n;
		offset = 0;
	}
	return (int64_t)(sizeof(w) + pages * sizeof(le64));
}

int vmbus_ranges_decode(const struct gmem *mem, const struct vmbus_packet *pkt,
                        struct vmbus_range *pieces, uint32_t max, uint32_t *count,
                        uint64_t *total_bytes)
{
	struct vmbus_pieces p = {.pieces = pieces, .max = max};
	struct vmbus_ranges_wire w;
	uint32_t at = sizeof(w);

	*count = 0;
	*total_bytes = 0;
	if (pkt->type != VMBUS_PACKET_GPA_DIRECT || pkt->header_bytes < sizeof(w)) {
		return -EBADMSG;
	}
	memcpy(&w, pkt->header, sizeof(w));
	/* Each range takes bytes of the header, so that ends the loop, whatever the count says. */
	for (uint32_t i = 0; i < le32_get(w.count); i++) {
		int64_t used =
			vmbus_pieces_range(&p, mem, pkt->header + at, pkt->header_bytes - at);

		if (used < 0) {
			return (int)used;
		}
		at += (uint32_t)used;
	}
	*count = p.count;
	*total_bytes = p.total_bytes;
	return 0;
}
