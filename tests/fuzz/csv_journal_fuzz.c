/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "csv/format/csv_format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* One input as header and as the start of a transaction. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static uint8_t buf[CSV_BLOCK_BYTES];
	static struct csv_journal_txn txn;
	const struct csv_layout_cfg cfg = {.size_bytes = 256u << 20};
	const struct guid volume = {{1}};
	struct csv_journal_header h;
	struct csv_layout l;

	if (csv_layout_make(&cfg, &l, NULL) != 0) {
		abort();
	}
	memset(buf, 0, sizeof(buf));
	memcpy(buf, data, len < sizeof(buf) ? len : sizeof(buf));

	const struct csv_block_id header = {CSV_JOURNAL_HEADER, csv_journal_header_at(9, 4), 1,
	                                    &volume};
	const struct csv_block_id start = {CSV_JOURNAL_TXN, csv_layout_area(&l, 1) + 5, 1, &volume};

	csv_block_seal(buf, &header, 9, 4);
	if (csv_journal_header_decode(buf, &l, &volume, header.block, &h, NULL) == 0 &&
	    (h.area > 1 || h.tail_at >= l.area_blocks || h.held_at >= l.area_blocks)) {
		abort();
	}
	csv_block_seal(buf, &start, 9, 4);
	if (csv_journal_txn_decode(buf, &l, &volume, 1, 5, &txn, NULL) != 0) {
		return 0;
	}
	for (uint32_t i = 0; i < txn.count; i++) {
		if (csv_meta_at(&l, txn.entries[i].block) == 0) {
			abort();
		}
	}
	return 0;
}
