/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "hv/vhdx/format_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void ignore(int err)
{
	(void)err;
}

/* The checksum is made right, or nothing behind it would ever be reached. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct vhdx_header_wire w = {0};
	struct vhdx_header header;

	ignore(vhdx_file_id_check(data, len, NULL));
	ignore(vhdx_header_decode(data, len, &header, NULL));
	memcpy(&w, data, len < sizeof(w) ? len : sizeof(w));
	w.signature = le32_make(VHDX_HEADER_SIGNATURE);
	w.checksum =
		le32_make(vhdx_crc(&w, sizeof(w), offsetof(struct vhdx_header_wire, checksum)));
	if (vhdx_header_decode(&w, sizeof(w), &header, NULL) == 0 &&
	    (header.log_offset < VHDX_MIB || header.log_bytes == 0)) {
		abort();
	}
	return 0;
}
