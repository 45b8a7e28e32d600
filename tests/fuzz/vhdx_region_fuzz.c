/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "hv/vhdx/format_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void ignore(int err)
{
	(void)err;
}

/* The input is count and entries; signature and checksum are made right. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static uint8_t table[VHDX_REGION_BYTES];
	struct vhdx_region_table_wire w = {0};
	struct vhdx_regions r;

	ignore(vhdx_regions_decode(data, len, &r, NULL));
	memset(table, 0, sizeof(table));
	memcpy(table + 8, data, len < sizeof(table) - 8 ? len : sizeof(table) - 8);
	memcpy(&w, table, sizeof(w));
	w.signature = le32_make(VHDX_REGION_SIGNATURE);
	memcpy(table, &w, sizeof(w));
	w.checksum = le32_make(
		vhdx_crc(table, sizeof(table), offsetof(struct vhdx_region_table_wire, checksum)));
	memcpy(table, &w, sizeof(w));
	if (vhdx_regions_decode(table, sizeof(table), &r, NULL) == 0 &&
	    (r.bat.bytes == 0 || r.metadata.offset % VHDX_MIB != 0)) {
		abort();
	}
	return 0;
}
