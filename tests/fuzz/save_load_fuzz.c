/* SPDX-License-Identifier: Apache-2.0 */

/* save_load_fuzz - any bytes as a saved blob: frames, then fields of every kind until one fails. */

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "hv/save/save.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* Make the CRCs right, or nothing behind load_init() is ever reached. */
static void fix_crcs(uint8_t *buf, size_t len)
{
	for (size_t at = 0; len - at >= 56;) {
		uint32_t payload;

		memcpy(&payload, buf + at + 16, sizeof(payload));
		if (payload > len - at - 56) {
			return;
		}

		uint32_t crc = crc32c(buf + at + 8, 48 + payload);

		memcpy(buf + at + 4, &crc, sizeof(crc));
		at += 56 + payload;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const char *const known[] = {"a", "b"};
	uint8_t *buf = malloc(len + 1);
	struct load l;

	if (buf == NULL) {
		return 0;
	}
	memcpy(buf, data, len);
	fix_crcs(buf, len);
	if (load_init(&l, buf, len, NULL) == 0) {
		for (size_t i = 0; i < 2; i++) {
			if (load_begin(&l, known[i], 1) != 0) {
				continue;
			}
			for (unsigned n = 0; load_error(&l) == 0; n++) {
				uint32_t got;

				(void)load_u8(&l);
				(void)load_u64(&l);
				(void)load_blob(&l, n, &got);
				(void)load_u32_max(&l, UINT32_MAX - n, "n");
				(void)load_bool(&l);
			}
			load_end(&l);
		}
		(void)load_unknown(&l, known, 2);
	}
	free(buf);
	return 0;
}
