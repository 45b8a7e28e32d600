/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "hv/vhdx/format_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void ignore(int err)
{
	(void)err;
}

/* A metadata region: the input's first half is the table, the second half the items. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static uint8_t region[2 * VHDX_METADATA_TABLE_BYTES];
	static struct vhdx_locator locator;
	struct vhdx_metadata_table table;
	struct vhdx_metadata m = {0};
	struct vhdx_geometry g;
	size_t half = len / 2 < VHDX_METADATA_TABLE_BYTES ? len / 2 : VHDX_METADATA_TABLE_BYTES;
	uint64_t number;

	ignore(vhdx_locator_decode(data, len, &locator, NULL));
	memset(region, 0, sizeof(region));
	memcpy(region, data, half);
	memcpy(region + VHDX_METADATA_TABLE_BYTES, data + half, half);
	memcpy(region, VHDX_METADATA_SIGNATURE, 8);
	if (vhdx_metadata_table_decode(region, sizeof(region), sizeof(region), &table, NULL) != 0) {
		return 0;
	}
	for (enum vhdx_item i = 0; i < VHDX_ITEM_COUNT; i++) {
		const uint8_t *item = region + table.item[i].offset;

		if (i == VHDX_ITEM_LOCATOR) {
			ignore(vhdx_locator_decode(item, table.item[i].bytes, &locator, NULL));
		} else if (vhdx_metadata_item_decode(i, item, table.item[i].bytes, &m, NULL) != 0) {
			abort();
		}
	}
	if (vhdx_metadata_check(&m, NULL) == 0) {
		vhdx_geometry_init(&m, &g);
		if (g.entry_count * 8 > VHDX_BAT_BYTES_MAX ||
		    !vhdx_bat_is_payload(&g, vhdx_bat_index(&g, g.block_count - 1), &number) ||
		    number != g.block_count - 1) {
			abort();
		}
	}
	return 0;
}
