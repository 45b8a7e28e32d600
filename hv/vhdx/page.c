/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "base/check.h"
#include "hv/vhdx/vhdx_int.h"

static uint32_t page_bucket(uint64_t offset)
{
	uint64_t page = offset / VHDX_PAGE_BYTES;

	return (uint32_t)((page * 0x9e3779b97f4a7c15ull) >> 56) % VHDX_PAGE_HASH;
}

static struct vhdx_page *page_find(struct vhdx *v, uint64_t offset)
{
	struct vhdx_page *page = v->page_hash[page_bucket(offset)];

	while (page != NULL && page->offset != offset) {
		page = page->hash_next;
	}
	return page;
}

static void page_forget(struct vhdx *v, struct vhdx_page *page)
{
	struct vhdx_page **at = &v->page_hash[page_bucket(page->offset)];

	while (*at != page) {
		at = &(*at)->hash_next;
	}
	*at = page->hash_next;
	page->offset = 0;
}

static void page_loaded(struct blk_req *req, int result)
{
	struct vhdx_page *page = req->arg;
	struct vhdx *v = page->v;

	page->loading = false;
	page->error = result;
	vhdx_alloc_advance(v);
	vhdx_wake(v, VHDX_WAIT_PAGE);
}

/* A page that can be given another content: the one unused for longest. */
static struct vhdx_page *page_victim(struct vhdx *v)
{
	list_for_each(link, &v->lru)
	{
		struct vhdx_page *page = list_entry(link, struct vhdx_page, link);

		if (page->pins == 0 && !page->loading && !page->dirty && !page->committing) {
			return page;
		}
	}
	return NULL;
}

struct vhdx_page *vhdx_page_peek(struct vhdx *v, uint64_t offset)
{
	struct vhdx_page *page = page_find(v, offset);

	return page != NULL && !page->loading && page->error == 0 ? page : NULL;
}

int vhdx_page_get(struct vhdx *v, uint64_t offset, struct vhdx_page **out)
{
	struct vhdx_page *page = page_find(v, offset);

	CHECK(offset % VHDX_PAGE_BYTES == 0 && offset != 0);
	if (page != NULL && !page->loading) {
		if (page->error != 0) {
			page_forget(v, page); /* whoever comes next may try again */
			return page->error;
		}
		list_del(&page->link);
		list_add_tail(&v->lru, &page->link);
		*out = page;
		return 0;
	}
	if (page != NULL) {
		return -EAGAIN;
	}
	page = page_victim(v);
	if (page == NULL) {
		/* All are changed or about to be: a commit makes them clean. */
		vhdx_commit_want(v);
		return -EAGAIN;
	}
	if (page->offset != 0) {
		page_forget(v, page);
	}
	page->offset = offset;
	page->error = 0;
	page->loading = true;
	page->hash_next = v->page_hash[page_bucket(offset)];
	v->page_hash[page_bucket(offset)] = page;
	list_del(&page->link);
	list_add_tail(&v->lru, &page->link);
	page->iov = (struct iovec){.iov_base = page->data, .iov_len = VHDX_PAGE_BYTES};
	page->req = (struct blk_req){.op = BLK_READ,
	                             .offset_bytes = offset,
	                             .len_bytes = VHDX_PAGE_BYTES,
	                             .iov = &page->iov,
	                             .iov_count = 1,
	                             .done = page_loaded,
	                             .arg = page};
	blk_submit(v->file, &page->req);
	return -EAGAIN;
}

bool vhdx_page_pin(struct vhdx *v, struct vhdx_page *page)
{
	if (!page->slot) {
		if (!vhdx_dirty_room(v, 1)) {
			return false;
		}
		page->slot = true;
		v->dirty_slots++;
	}
	page->pins++;
	return true;
}

void vhdx_page_unpin(struct vhdx *v, struct vhdx_page *page, bool changed)
{
	CHECK(page->pins > 0 && page->slot);
	page->pins--;
	if (changed && !page->dirty) {
		page->dirty = true;
		v->dirty_pages++;
	}
	if (page->pins == 0 && !page->dirty) {
		page->slot = false;
		v->dirty_slots--;
	}
}

uint32_t vhdx_bits_run(const uint8_t *bits, uint32_t bit, uint32_t max, bool *value)
{
	bool first = (bits[bit / 8] >> bit % 8 & 1) != 0;
	uint8_t same = first ? 0xff : 0;
	uint32_t n = 1;

	while (n < max) {
		uint32_t at = bit + n;

		if (at % 8 == 0 && max - n >= 8 && bits[at / 8] == same) {
			n += 8;
		} else if (((bits[at / 8] >> at % 8 & 1) != 0) == first) {
			n++;
		} else {
			break;
		}
	}
	*value = first;
	return n;
}

void vhdx_bits_set(uint8_t *bits, uint32_t bit, uint32_t count, bool value)
{
	while (count > 0) {
		if (bit % 8 == 0 && count >= 8) {
			memset(bits + bit / 8, value ? 0xff : 0, count / 8);
			bit += count / 8 * 8;
			count %= 8;
			continue;
		}

		uint8_t mask = (uint8_t)(1u << bit % 8);

		bits[bit / 8] = (uint8_t)(value ? bits[bit / 8] | mask : bits[bit / 8] & ~mask);
		bit++;
		count--;
	}
}
