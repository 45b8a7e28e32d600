/* SPDX-License-Identifier: Apache-2.0 */

/*
 * statefile_fuzz - a saved state: the header's fields from the input (its checksum made right, or
 * nothing behind it is ever reached), then CRC table, device state and memory.
 */

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/check.h"
#include "base/crc32c.h"
#include "hv/mem/gmem.h"
#include "hv/worker/statefile.h"
#include "hv/worker/statefile_wire.h"

#define RAM_BYTES (4u << 20)
#define FIELDS_BYTES 72u /* of the header before its reserved part */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const struct guid id = {.b = {1, 2, 3}};
	static struct gmem *mem;
	static int fd = -1;
	struct statefile_header h = {.magic = le64_make(STATEFILE_MAGIC)};
	uint8_t *blob;
	size_t blob_bytes = 0;

	if (mem == NULL) {
		const struct gmem_cfg cfg = {.size_bytes = RAM_BYTES, .low_max_bytes = RAM_BYTES};

		CHECK(gmem_create(&cfg, &mem, NULL) == 0);
		fd = memfd_create("state", MFD_CLOEXEC);
		CHECK(fd >= 0);
	}
	if (len < FIELDS_BYTES) {
		return 0;
	}
	memcpy(&h, data, FIELDS_BYTES);
	h.crc = le32_make(crc32c(&h, offsetof(struct statefile_header, crc)));
	CHECK(ftruncate(fd, 0) == 0);
	CHECK(pwrite(fd, &h, sizeof(h), 0) == (ssize_t)sizeof(h));
	CHECK(pwrite(fd, data + FIELDS_BYTES, len - FIELDS_BYTES, STATEFILE_RAM_AT + RAM_BYTES) ==
	      (ssize_t)(len - FIELDS_BYTES));
	if (statefile_read(fd, &id, mem, &blob, &blob_bytes, NULL) == 0) {
		CHECK(blob != NULL);
		free(blob);
	} else {
		CHECK(blob == NULL);
	}
	return 0;
}
