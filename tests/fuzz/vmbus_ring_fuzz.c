/* SPDX-License-Identifier: Apache-2.0 */

/*
 * vmbus_ring_fuzz - both rings over pages that hold the input: first the indices of the control
 * page, then the data; received until the ring says no, with packets sent in between.
 */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "hv/mem/gmem.h"
#include "hv/vmbus/ring.h"
#include "hv/vmbus/vmbus.h"
#include "hv/vmbus/vmbus_shm.h"

#define FUZZ_PAGE 4096u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void fuzz_rings(struct gmem *mem, const uint64_t *pfns, uint32_t room)
{
	static uint8_t payload[600];
	struct iovec iov = {.iov_base = payload, .iov_len = room % sizeof(payload)};
	const struct vmbus_ring_packet pkt = {.payload = &iov, .payload_count = 1};
	struct vmbus_ring_rx rx = {0};
	struct vmbus_ring_tx tx = {0};
	uint8_t *buf = malloc(room + 1u); /* exact: AddressSanitizer guards its end */

	CHECK(buf != NULL);
	CHECK(vmbus_ring_init(&rx.ring, mem, pfns, 3) == 0);
	CHECK(vmbus_ring_init(&tx.ring, mem, pfns + 1, 3) == 0);

	bool tx_ok = vmbus_ring_tx_start(&tx) == 0;

	if (vmbus_ring_rx_start(&rx) == 0) {
		struct vmbus_packet got;

		for (uint32_t i = 0; i < 100 && vmbus_ring_rx_next(&rx, buf, room, &got) == 0;
		     i++) {
			CHECK(got.header_bytes + got.payload_bytes + 16 <= room);
			if (tx_ok && vmbus_ring_tx_put(&tx, &pkt) == 0) {
				(void)!vmbus_ring_tx_show(&tx);
			}
			vmbus_ring_rx_done(&rx);
			(void)!vmbus_ring_rx_show(&rx);
		}
		(void)!vmbus_ring_rx_arm(&rx);
	}
	for (uint32_t i = 0; i < 20 && tx_ok && vmbus_ring_tx_put(&tx, &pkt) == 0; i++) {
		(void)!vmbus_ring_tx_show(&tx);
	}
	vmbus_ring_fini(&rx.ring);
	vmbus_ring_fini(&tx.ring);
	free(buf);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	/* The second ring lies a page further: its control page is the first one's data. */
	static const uint64_t flat[] = {20, 21, 22, 23};
	static const uint64_t scattered[] = {20, 22, 21, 23};
	static struct gmem *mem;
	uint8_t head[21] = {0};

	if (mem == NULL) {
		const struct gmem_cfg cfg = {.size_bytes = 1u << 20, .low_max_bytes = 1u << 20};

		CHECK(gmem_create(&cfg, &mem, NULL) == 0);
	}
	memcpy(head, data, len < sizeof(head) ? len : sizeof(head));

	const uint64_t *pfns = (head[20] & 1) == 0 ? flat : scattered;
	uint8_t *pages = gmem_range(mem, 20ull * FUZZ_PAGE, 4ull * FUZZ_PAGE);

	memset(pages, 0, 4ull * FUZZ_PAGE);
	memcpy(pages, head, 20);
	for (size_t i = sizeof(head); i < len && i - sizeof(head) < 3ull * FUZZ_PAGE; i++) {
		size_t at = i - sizeof(head);

		pages[(pfns[1 + at / FUZZ_PAGE] - 20) * FUZZ_PAGE + at % FUZZ_PAGE] = data[i];
	}
	fuzz_rings(mem, pfns, 64u + head[20] * 16u);
	return 0;
}
