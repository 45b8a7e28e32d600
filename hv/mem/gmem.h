/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_MEM_GMEM_H
#define HV_MEM_GMEM_H

/*
 * gmem - the memory of one guest: sealed memfds, mapped once, reached only through here.
 *
 * Guest physical addresses are hostile input. gmem_read() and gmem_write() copy and check;
 * gmem_range() hands out a host pointer for I/O and shared pages, valid as long as the gmem
 * (memory is never unmapped while a worker lives), so a bad guest can at worst damage itself.
 * Whoever writes through a pointer reports it with gmem_dirty(): KVM's dirty log does not see
 * writes of the worker, so gmem keeps a second bitmap that migration merges.
 *
 * Threads: all functions on any thread, but for create, destroy and the dirty log's start and
 * stop. The guest runs meanwhile: everything read can change under the reader, read it once.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"

struct errbuf;
struct gmem;

#define GMEM_PAGE_BYTES 4096ull
#define GMEM_SLOTS_MAX 8u
#define GMEM_BYTES_MAX (4ull << 40) /* of one guest: what KVM's 46 bit GPA space holds with room */

struct gmem_slot {
	uint64_t gpa;
	uint64_t len_bytes;
	uint8_t *host; /* borrowed */
	int fd;        /* memfd; borrowed */
	uint64_t fd_offset_bytes;
};

struct gmem_cfg {
	uint64_t size_bytes;    /* multiple of 4 KiB, 1 MiB..GMEM_BYTES_MAX */
	uint64_t low_max_bytes; /* RAM from 0 up to here, the rest from 4 GiB; multiple of 4 KiB */
	bool huge_2m;           /* hugetlbfs pages; the host must have reserved them */
};

/*
 * gmem_create() - memory, all zero, nothing of it touched yet.
 * Returns 0; -EINVAL cfg; -ENOMEM (hint: huge pages, overcommit); -errno.
 */
MUST_USE int gmem_create(const struct gmem_cfg *cfg, struct gmem **out, struct errbuf *eb);

/* gmem_destroy() - unmap and close. No thread uses it any more. NULL is fine. */
void gmem_destroy(struct gmem *mem);

/* gmem_slots() - how many slots; gmem_slot() - slot @index (< that), lowest GPA first. */
uint32_t gmem_slots(const struct gmem *mem);
void gmem_slot(const struct gmem *mem, uint32_t index, struct gmem_slot *out);

/* gmem_size_bytes() - RAM in all slots. */
uint64_t gmem_size_bytes(const struct gmem *mem);

/*
 * gmem_range() - host address of guest memory [gpa, gpa+len_bytes), len_bytes > 0.
 * Returns NULL unless all of it lies in one slot.
 */
void *gmem_range(const struct gmem *mem, uint64_t gpa, uint64_t len_bytes);

/* gmem_read() - copy out of the guest, once. Returns 0; -EFAULT part of it is no RAM. */
MUST_USE int gmem_read(const struct gmem *mem, uint64_t gpa, void *buf, size_t len_bytes);

/* gmem_write() - copy into the guest and mark it dirty.
 * Returns 0; -EFAULT (then nothing is written). */
MUST_USE int gmem_write(struct gmem *mem, uint64_t gpa, const void *buf, size_t len_bytes);

/* gmem_zero() - as gmem_write() of zeros. */
MUST_USE int gmem_zero(struct gmem *mem, uint64_t gpa, uint64_t len_bytes);

/* gmem_dirty() - the worker wrote to [gpa, gpa+len_bytes) through a pointer; nothing if the log is
 * off. The range was checked before. Lock-free. */
void gmem_dirty(struct gmem *mem, uint64_t gpa, uint64_t len_bytes);

/* gmem_dirty_all() - as gmem_dirty() of all memory. */
void gmem_dirty_all(struct gmem *mem);

/* gmem_dirty_start() - begin to log (all clean). Returns 0; -ENOMEM; -EALREADY. */
MUST_USE int gmem_dirty_start(struct gmem *mem);

/* gmem_dirty_stop() - end the log; writers have stopped or do not matter any more. */
void gmem_dirty_stop(struct gmem *mem);

/*
 * gmem_dirty_take() - or the log of slot @index into @bits (one bit per page, LSB first, as KVM's
 * dirty log; @words >= pages/64 rounded up) and clear it in the same step per word.
 */
void gmem_dirty_take(struct gmem *mem, uint32_t index, uint64_t *bits, size_t words);

#endif
