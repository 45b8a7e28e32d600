/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "cluster/witness/witness.h"
#include "cluster/witness/witness_wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* One input as a block and as a head, with a sum that is right: what is accepted is encoded the
 * same, and an attempt that sees it comes to an end. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static uint8_t buf[WITNESS_BLOCK_BYTES];
	static uint8_t again[WITNESS_BLOCK_BYTES];
	static struct witness_block blocks[WITNESS_SLOTS];
	const struct guid witness = {{1}};
	const struct witness_claim claim = {.id = {{9}},
	                                    .nodeid = 2,
	                                    .last_epoch = 5,
	                                    .epoch = 6,
	                                    .synced = 1,
	                                    .count = 1,
	                                    .nodes = {2}};
	struct witness_head head;
	struct witness_try t;
	le32 crc;

	memset(buf, 0, sizeof(buf));
	memcpy(buf, data, len < sizeof(buf) ? len : sizeof(buf));
	memcpy(buf + 8, &witness, sizeof(witness));
	crc = le32_make(crc32c(buf, 396));
	memcpy(buf + 396, &crc, sizeof(crc));
	memset(blocks, 0, sizeof(blocks));
	if (witness_block_decode(buf, sizeof(buf), &witness, &blocks[1]) == 0) {
		witness_block_encode(&blocks[1], &witness, again);
		if (memcmp(buf, again, sizeof(buf)) != 0) {
			abort();
		}
		witness_begin(&t, &claim);
		for (uint32_t i = 0; i < 8; i++) {
			struct witness_block write;
			enum witness_do what = witness_next(&t, blocks, &write);

			if (what == WITNESS_WON || what == WITNESS_LOST || what == WITNESS_OLD) {
				break;
			}
			if (what == WITNESS_WRITE) {
				blocks[2] = write;
			}
		}
	}
	crc = le32_make(crc32c(buf, 44));
	memcpy(buf + 44, &crc, sizeof(crc));
	if (witness_head_decode(buf, sizeof(buf), &head) == 0) {
		witness_head_encode(&head, again);
		if (memcmp(buf, again, sizeof(buf)) != 0) {
			abort();
		}
	}
	return 0;
}
