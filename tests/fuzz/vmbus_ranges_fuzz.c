/* SPDX-License-Identifier: Apache-2.0 */

/* vmbus_ranges_fuzz - the header of a GPA-direct packet is the input. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "hv/mem/gmem.h"
#include "hv/vmbus/vmbus.h"

#define FUZZ_PIECES 64u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static struct gmem *mem;
	struct vmbus_range pieces[FUZZ_PIECES];
	uint32_t count;
	uint64_t total;
	uint64_t sum = 0;

	if (mem == NULL) {
		const struct gmem_cfg cfg = {.size_bytes = 1u << 20, .low_max_bytes = 1u << 19};

		CHECK(gmem_create(&cfg, &mem, NULL) == 0);
	}
	if (len > VMBUS_PACKET_BYTES_MAX) {
		return 0;
	}

	const struct vmbus_packet pkt = {
		.type = VMBUS_PACKET_GPA_DIRECT,
		.header = data,
		.header_bytes = (uint32_t)len,
	};

	if (vmbus_ranges_decode(mem, &pkt, pieces, FUZZ_PIECES, &count, &total) == 0) {
		for (uint32_t i = 0; i < count; i++) {
			CHECK(gmem_range(mem, pieces[i].gpa, pieces[i].len_bytes) != NULL);
			sum += pieces[i].len_bytes;
		}
		CHECK(count <= FUZZ_PIECES && sum == total);
	}
	return 0;
}
