/* SPDX-License-Identifier: Apache-2.0 */
#include "hv/worker/statefile.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/crc32c.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "hv/mem/gmem.h"
#include "hv/save/save.h"
#include "hv/worker/statefile_wire.h"

static int statefile_pwrite(int fd, const void *buf, size_t len, uint64_t at)
{
	const uint8_t *p = buf;

	while (len != 0) {
		ssize_t n = pwrite(fd, p, len, (off_t)at);

		if (n < 0 && errno == EINTR) {
			continue;
		}
		if (n <= 0) {
			return n < 0 ? -errno : -EIO;
		}
		p += n;
		at += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

static int statefile_pread(int fd, void *buf, size_t len, uint64_t at)
{
	uint8_t *p = buf;

	while (len != 0) {
		ssize_t n = pread(fd, p, len, (off_t)at);

		if (n < 0 && errno == EINTR) {
			continue;
		}
		if (n <= 0) {
			return n < 0 ? -errno : -EBADMSG; /* shorter than its header says */
		}
		p += n;
		at += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

/* Does [at, at+len) of the memfd hold any page that was ever touched? */
static bool statefile_touched(int fd, uint64_t at, uint64_t len)
{
	off_t data = lseek(fd, (off_t)at, SEEK_DATA);

	return data >= 0 && (uint64_t)data < at + len;
}

static int statefile_ram_write(int fd, const struct gmem *mem, le32 *crcs)
{
	for (uint32_t i = 0; i < gmem_slots(mem); i++) {
		struct gmem_slot slot;

		gmem_slot(mem, i, &slot);
		for (uint64_t at = 0; at < slot.len_bytes; at += STATEFILE_CHUNK_BYTES) {
			uint64_t offset = slot.fd_offset_bytes + at;
			uint64_t left = slot.len_bytes - at;
			size_t len = left < STATEFILE_CHUNK_BYTES ? left : STATEFILE_CHUNK_BYTES;
			uint32_t crc;
			int err;

			if (!statefile_touched(slot.fd, offset, len)) {
				continue;
			}
			crc = crc32c(slot.host + at, len);
			/* 0 stands for a hole. A chunk whose CRC is 0 gets the other 32 ones. */
			crcs[offset / STATEFILE_CHUNK_BYTES] =
				le32_make(crc != 0 ? crc : UINT32_MAX);
			err = statefile_pwrite(fd, slot.host + at, len, STATEFILE_RAM_AT + offset);
			if (err != 0) {
				return err;
			}
		}
	}
	return 0;
}

static uint64_t statefile_chunks(const struct gmem *mem)
{
	return (gmem_size_bytes(mem) + STATEFILE_CHUNK_BYTES - 1) / STATEFILE_CHUNK_BYTES;
}

int statefile_write(int fd, const struct guid *vm_id, const struct gmem *mem, const void *blob,
                    size_t blob_bytes, struct errbuf *eb)
{
	size_t table_bytes = statefile_chunks(mem) * sizeof(le32);
	uint64_t crc_at = STATEFILE_RAM_AT + statefile_chunks(mem) * STATEFILE_CHUNK_BYTES;
	le32 *crcs = gw_calloc(statefile_chunks(mem), sizeof(*crcs));
	int err;

	if (crcs == NULL) {
		return errbuf_sys(eb, -ENOMEM, "cannot save the state");
	}
	err = statefile_ram_write(fd, mem, crcs);
	if (err == 0) {
		err = statefile_pwrite(fd, crcs, table_bytes, crc_at);
	}
	if (err == 0) {
		err = statefile_pwrite(fd, blob, blob_bytes, crc_at + table_bytes);
	}
	if (err == 0 && fdatasync(fd) != 0) {
		err = -errno;
	}
	if (err == 0) {
		struct statefile_header h = {
			.magic = le64_make(STATEFILE_MAGIC),
			.version = le32_make(STATEFILE_VERSION),
			.chunk_bytes = le32_make(STATEFILE_CHUNK_BYTES),
			.vm_id = *vm_id,
			.ram_bytes = le64_make(gmem_size_bytes(mem)),
			.crc_at = le64_make(crc_at),
			.blob_at = le64_make(crc_at + table_bytes),
			.blob_bytes = le64_make(blob_bytes),
			.crc_table_crc = le32_make(crc32c(crcs, table_bytes)),
			.blob_crc = le32_make(crc32c(blob, blob_bytes)),
		};

		h.crc = le32_make(crc32c(&h, offsetof(struct statefile_header, crc)));
		err = statefile_pwrite(fd, &h, sizeof(h), 0);
	}
	if (err == 0 && fsync(fd) != 0) {
		err = -errno;
	}
	free(crcs);
	return err != 0 ? errbuf_sys(eb, err, "cannot write the saved state") : 0;
}

static int statefile_header_check(const struct statefile_header *h, const struct guid *vm_id,
                                  const struct gmem *mem, struct errbuf *eb)
{
	uint64_t table_bytes = statefile_chunks(mem) * sizeof(le32);
	uint64_t crc_at = STATEFILE_RAM_AT + statefile_chunks(mem) * STATEFILE_CHUNK_BYTES;

	if (le64_get(h->magic) != STATEFILE_MAGIC ||
	    le32_get(h->crc) != crc32c(h, offsetof(struct statefile_header, crc))) {
		return errbuf_set(eb, -EBADMSG, "header: not a complete saved state");
	}
	if (le32_get(h->version) != STATEFILE_VERSION ||
	    le32_get(h->chunk_bytes) != STATEFILE_CHUNK_BYTES) {
		return errbuf_set(eb, -EBADMSG, "header: version %u is not supported",
		                  le32_get(h->version));
	}
	if (!guid_equal(&h->vm_id, vm_id)) {
		return errbuf_set(eb, -EBADMSG, "header: the state of another VM");
	}
	if (le64_get(h->ram_bytes) != gmem_size_bytes(mem) || le64_get(h->crc_at) != crc_at ||
	    le64_get(h->blob_at) != crc_at + table_bytes ||
	    le64_get(h->blob_bytes) > SAVE_BLOB_BYTES_MAX) {
		return errbuf_set(eb, -EBADMSG, "header: the sizes do not fit the VM");
	}
	return 0;
}

static int statefile_ram_read(int fd, struct gmem *mem, const le32 *crcs, struct errbuf *eb)
{
	for (uint32_t i = 0; i < gmem_slots(mem); i++) {
		struct gmem_slot slot;

		gmem_slot(mem, i, &slot);
		for (uint64_t at = 0; at < slot.len_bytes; at += STATEFILE_CHUNK_BYTES) {
			uint64_t offset = slot.fd_offset_bytes + at;
			uint64_t left = slot.len_bytes - at;
			size_t len = left < STATEFILE_CHUNK_BYTES ? left : STATEFILE_CHUNK_BYTES;
			uint32_t want = le32_get(crcs[offset / STATEFILE_CHUNK_BYTES]);
			uint32_t crc;
			int err;

			if (want == 0) {
				continue;
			}
			err = statefile_pread(fd, slot.host + at, len, STATEFILE_RAM_AT + offset);
			if (err != 0) {
				return errbuf_sys(eb, err, "memory at 0x%" PRIx64, slot.gpa + at);
			}
			crc = crc32c(slot.host + at, len);
			if ((crc != 0 ? crc : UINT32_MAX) != want) {
				return errbuf_set(eb, -EBADMSG, "memory at 0x%" PRIx64 ": bad CRC",
				                  slot.gpa + at);
			}
		}
	}
	return 0;
}

/* @len bytes at @at with a CRC, into new memory. */
static int statefile_part_read(int fd, uint64_t at, size_t len, uint32_t crc, const char *what,
                               uint8_t **out, struct errbuf *eb)
{
	uint8_t *buf = gw_malloc(len != 0 ? len : 1);
	int err;

	*out = NULL;
	if (buf == NULL) {
		return errbuf_sys(eb, -ENOMEM, "%s", what);
	}
	err = statefile_pread(fd, buf, len, at);
	if (err != 0) {
		err = errbuf_sys(eb, err, "%s", what);
	} else if (crc32c(buf, len) != crc) {
		err = errbuf_set(eb, -EBADMSG, "%s: bad CRC", what);
	}
	if (err != 0) {
		free(buf);
		return err;
	}
	*out = buf;
	return 0;
}

int statefile_read(int fd, const struct guid *vm_id, struct gmem *mem, uint8_t **blob,
                   size_t *blob_bytes, struct errbuf *eb)
{
	struct statefile_header h;
	uint8_t *table = NULL;
	int err = statefile_pread(fd, &h, sizeof(h), 0);

	*blob = NULL;
	if (err != 0) {
		(void)errbuf_set(eb, err, "header: cannot be read");
	} else {
		err = statefile_header_check(&h, vm_id, mem, eb);
	}
	if (err == 0) {
		err = statefile_part_read(fd, le64_get(h.crc_at),
		                          statefile_chunks(mem) * sizeof(le32),
		                          le32_get(h.crc_table_crc), "CRC table", &table, eb);
	}
	if (err == 0) {
		CHECK(table != NULL);
		err = statefile_ram_read(fd, mem, (const le32 *)(const void *)table, eb);
	}
	if (err == 0) {
		*blob_bytes = le64_get(h.blob_bytes);
		err = statefile_part_read(fd, le64_get(h.blob_at), *blob_bytes,
		                          le32_get(h.blob_crc), "device state", blob, eb);
	}
	free(table);
	if (err != 0) {
		errbuf_prepend(eb, "saved state");
	}
	return err;
}
