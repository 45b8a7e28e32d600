/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "csv/format/csv_format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* The input with a head and a checksum that are right: what is accepted is encoded the same. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static uint8_t buf[CSV_BLOCK_BYTES];
	static uint8_t again[CSV_BLOCK_BYTES];
	const struct guid volume = {{1}};
	struct csv_super super;

	memset(buf, 0, sizeof(buf));
	memcpy(buf, data, len < sizeof(buf) ? len : sizeof(buf));
	(void)!csv_super_decode(buf, CSV_SUPER_AT, true, &super, NULL);

	const struct csv_block_id id = {CSV_SUPER, CSV_SUPER_AT, 0, &volume};

	csv_block_seal(buf, &id, 1, 2);
	if (csv_super_decode(buf, CSV_SUPER_AT, true, &super, NULL) != 0) {
		return 0;
	}
	csv_super_encode(&super, again);
	if (memcmp(again, buf, sizeof(buf)) != 0 ||
	    csv_layout_data_unit(&super.layout) >= csv_layout_units(&super.layout)) {
		abort();
	}
	return 0;
}
