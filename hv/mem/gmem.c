/* SPDX-License-Identifier: Apache-2.0 */
#include "hv/mem/gmem.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/check.h"
#include "base/errbuf.h"
#include "base/fault.h"

#define GMEM_HIGH_GPA (4ull << 30)
#define GMEM_HUGE_BYTES (2ull << 20)
#define GMEM_MIN_BYTES (1ull << 20)

struct gmem_region {
	struct gmem_slot slot;
	_Atomic(uint64_t) *dirty; /* owned; NULL = no log was ever started; one bit per page */
	size_t dirty_words;
};

struct gmem {
	struct gmem_region regions[GMEM_SLOTS_MAX]; /* set once by gmem_create() */
	uint32_t count;
	uint64_t size_bytes;
	int fd;               /* owned */
	uint8_t *map;         /* owned; all of fd */
	_Atomic bool logging; /* dirty arrays are there and wanted */
};

static int gmem_cfg_check(const struct gmem_cfg *cfg, struct errbuf *eb)
{
	uint64_t unit = cfg->huge_2m ? GMEM_HUGE_BYTES : GMEM_PAGE_BYTES;

	if (cfg->size_bytes < GMEM_MIN_BYTES || cfg->size_bytes > GMEM_BYTES_MAX) {
		return errbuf_set(eb, -EINVAL, "guest memory of %llu bytes is not in 1 MiB..4 TiB",
		                  (unsigned long long)cfg->size_bytes);
	}
	if (cfg->size_bytes % unit != 0 || cfg->low_max_bytes % unit != 0) {
		return errbuf_set(eb, -EINVAL, "guest memory is not a multiple of %llu KiB",
		                  (unsigned long long)(unit >> 10));
	}
	if (cfg->low_max_bytes == 0 || cfg->low_max_bytes >= GMEM_HIGH_GPA) {
		return errbuf_set(eb, -EINVAL, "low memory must end below 4 GiB");
	}
	return 0;
}

/*
 * Where huge pages can be mapped as such: an address that is a multiple of their size, as offsets
 * and guest addresses are. Returns MAP_FAILED with errno.
 */
static void *gmem_map_aligned(int fd, uint64_t bytes)
{
	uint64_t room = bytes + GMEM_HUGE_BYTES;
	uint8_t *all =
		mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (all == MAP_FAILED) {
		return MAP_FAILED;
	}

	uint64_t before = -(uintptr_t)all % GMEM_HUGE_BYTES;
	void *map = mmap(all + before, bytes, PROT_READ | PROT_WRITE,
	                 MAP_SHARED | MAP_NORESERVE | MAP_FIXED, fd, 0);
	int err = errno;

	if (map == MAP_FAILED) {
		(void)munmap(all, room);
		errno = err;
		return MAP_FAILED;
	}
	if (before != 0) {
		(void)munmap(all, before);
	}
	(void)munmap(all + before + bytes, GMEM_HUGE_BYTES - before);
	return map;
}

static int gmem_map(struct gmem *mem, bool huge, struct errbuf *eb)
{
	unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
	int err;

	if (huge) {
		flags |= MFD_HUGETLB | MFD_HUGE_2MB;
	}
	mem->fd = memfd_create("godwit-guest", flags);
	if (mem->fd < 0) {
		return errbuf_sys(eb, -errno, "cannot create guest memory");
	}
	if (ftruncate(mem->fd, (off_t)mem->size_bytes) != 0) {
		return errbuf_sys(eb, -errno, "cannot size guest memory");
	}
	/* Nobody who gets the descriptor can pull memory from under the guest. */
	if (fcntl(mem->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
		return errbuf_sys(eb, -errno, "cannot seal guest memory");
	}

	void *map = gmem_map_aligned(mem->fd, mem->size_bytes);

	if (map == MAP_FAILED) {
		err = errbuf_sys(eb, -errno, "cannot map guest memory of %llu MiB",
		                 (unsigned long long)(mem->size_bytes >> 20));
		if (huge) {
			errbuf_hint(eb,
			            "reserve huge pages: sysctl vm.nr_hugepages=N (2 MiB each)");
		}
		return err;
	}
	mem->map = map;
	/* A core dump of the worker never holds what a guest keeps in memory. */
	(void)madvise(map, mem->size_bytes, MADV_DONTDUMP);
	(void)madvise(map, mem->size_bytes, MADV_HUGEPAGE); /* if shmem_enabled lets us */
	return 0;
}

static void gmem_region_add(struct gmem *mem, uint64_t gpa, uint64_t offset, uint64_t len)
{
	struct gmem_region *r = &mem->regions[mem->count++];

	r->slot = (struct gmem_slot){
		.gpa = gpa,
		.len_bytes = len,
		.host = mem->map + offset,
		.fd = mem->fd,
		.fd_offset_bytes = offset,
	};
}

int gmem_create(const struct gmem_cfg *cfg, struct gmem **out, struct errbuf *eb)
{
	int err = gmem_cfg_check(cfg, eb);

	*out = NULL;
	if (err != 0) {
		return err;
	}

	struct gmem *mem = gw_calloc(1, sizeof(*mem));

	if (mem == NULL) {
		return errbuf_sys(eb, -ENOMEM, "cannot create guest memory");
	}
	mem->fd = -1;
	mem->size_bytes = cfg->size_bytes;
	err = gmem_map(mem, cfg->huge_2m, eb);
	if (err != 0) {
		gmem_destroy(mem);
		return err;
	}

	uint64_t low = cfg->size_bytes < cfg->low_max_bytes ? cfg->size_bytes : cfg->low_max_bytes;

	gmem_region_add(mem, 0, 0, low);
	if (cfg->size_bytes > low) {
		gmem_region_add(mem, GMEM_HIGH_GPA, low, cfg->size_bytes - low);
	}
	*out = mem;
	return 0;
}

void gmem_destroy(struct gmem *mem)
{
	if (mem == NULL) {
		return;
	}
	for (uint32_t i = 0; i < mem->count; i++) {
		free(mem->regions[i].dirty);
	}
	if (mem->map != NULL) {
		(void)munmap(mem->map, mem->size_bytes);
	}
	if (mem->fd >= 0) {
		(void)close(mem->fd);
	}
	free(mem);
}

uint32_t gmem_slots(const struct gmem *mem)
{
	return mem->count;
}

void gmem_slot(const struct gmem *mem, uint32_t index, struct gmem_slot *out)
{
	CHECK(index < mem->count);
	*out = mem->regions[index].slot;
}

uint64_t gmem_size_bytes(const struct gmem *mem)
{
	return mem->size_bytes;
}

/* The region that holds @gpa, and how many bytes of it follow; NULL = none. */
static const struct gmem_region *gmem_find(const struct gmem *mem, uint64_t gpa, uint64_t *left)
{
	for (uint32_t i = 0; i < mem->count; i++) {
		const struct gmem_slot *s = &mem->regions[i].slot;

		if (gpa >= s->gpa && gpa - s->gpa < s->len_bytes) {
			*left = s->len_bytes - (gpa - s->gpa);
			return &mem->regions[i];
		}
	}
	return NULL;
}

void *gmem_range(const struct gmem *mem, uint64_t gpa, uint64_t len_bytes)
{
	uint64_t left;
	const struct gmem_region *r = gmem_find(mem, gpa, &left);

	if (r == NULL || len_bytes == 0 || len_bytes > left) {
		return NULL;
	}
	return r->slot.host + (gpa - r->slot.gpa);
}

int gmem_read(const struct gmem *mem, uint64_t gpa, void *buf, size_t len_bytes)
{
	/* Slots do not touch each other (low ends below 4 GiB at the latest), so no copy spans
	 * two. */
	const void *from = len_bytes == 0 ? "" : gmem_range(mem, gpa, len_bytes);

	if (from == NULL) {
		return -EFAULT;
	}
	memcpy(buf, from, len_bytes);
	return 0;
}

int gmem_write(struct gmem *mem, uint64_t gpa, const void *buf, size_t len_bytes)
{
	if (len_bytes == 0) {
		return 0;
	}

	void *to = gmem_range(mem, gpa, len_bytes);

	if (to == NULL) {
		return -EFAULT;
	}
	memcpy(to, buf, len_bytes);
	gmem_dirty(mem, gpa, len_bytes);
	return 0;
}

int gmem_zero(struct gmem *mem, uint64_t gpa, uint64_t len_bytes)
{
	if (len_bytes == 0) {
		return 0;
	}

	void *to = gmem_range(mem, gpa, len_bytes);

	if (to == NULL) {
		return -EFAULT;
	}
	memset(to, 0, len_bytes);
	gmem_dirty(mem, gpa, len_bytes);
	return 0;
}

void gmem_dirty(struct gmem *mem, uint64_t gpa, uint64_t len_bytes)
{
	uint64_t left;

	if (len_bytes == 0 || !atomic_load_explicit(&mem->logging, memory_order_acquire)) {
		return;
	}

	const struct gmem_region *r = gmem_find(mem, gpa, &left);

	CHECK(r != NULL && len_bytes <= left);

	uint64_t first = (gpa - r->slot.gpa) / GMEM_PAGE_BYTES;
	uint64_t last = (gpa - r->slot.gpa + len_bytes - 1) / GMEM_PAGE_BYTES;

	for (uint64_t page = first; page <= last; page++) {
		/* Release: whoever takes the bit (acquire) also sees the bytes written before
		 * it. */
		(void)atomic_fetch_or_explicit(&r->dirty[page / 64], 1ull << (page % 64),
		                               memory_order_release);
	}
}

void gmem_dirty_all(struct gmem *mem)
{
	for (uint32_t i = 0; i < mem->count; i++) {
		gmem_dirty(mem, mem->regions[i].slot.gpa, mem->regions[i].slot.len_bytes);
	}
}

int gmem_dirty_start(struct gmem *mem)
{
	if (atomic_load(&mem->logging)) {
		return -EALREADY;
	}
	for (uint32_t i = 0; i < mem->count; i++) {
		struct gmem_region *r = &mem->regions[i];
		uint64_t pages = r->slot.len_bytes / GMEM_PAGE_BYTES;

		if (r->dirty == NULL) {
			/* Kept until destroy: a late gmem_dirty() may still look at it after
			 * stop. */
			r->dirty_words = (size_t)((pages + 63) / 64);
			r->dirty = gw_calloc(r->dirty_words, sizeof(*r->dirty));
			if (r->dirty == NULL) {
				return -ENOMEM;
			}
		}
		for (size_t w = 0; w < r->dirty_words; w++) {
			atomic_store_explicit(&r->dirty[w], 0, memory_order_relaxed);
		}
	}
	atomic_store_explicit(&mem->logging, true, memory_order_release);
	return 0;
}

void gmem_dirty_stop(struct gmem *mem)
{
	atomic_store(&mem->logging, false);
}

void gmem_dirty_take(struct gmem *mem, uint32_t index, uint64_t *bits, size_t words)
{
	CHECK(index < mem->count);

	struct gmem_region *r = &mem->regions[index];

	CHECK(r->dirty != NULL && words >= r->dirty_words);
	for (size_t w = 0; w < r->dirty_words; w++) {
		if (atomic_load_explicit(&r->dirty[w], memory_order_relaxed) != 0) {
			bits[w] |= atomic_exchange_explicit(&r->dirty[w], 0, memory_order_acquire);
		}
	}
}
