/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "hv/vhdx/format_int.h"

#define LOG_BYTES (64u << 10) /* smaller than a real log, so that inputs reach all of it */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* Wherever the input puts an entry's signature, its checksum is made right. */
static void fix(uint8_t *log, const struct guid *guid)
{
	for (uint32_t at = 0; at < LOG_BYTES; at += VHDX_LOG_SECTOR_BYTES) {
		struct vhdx_log_entry_wire w;

		memcpy(&w, log + at, sizeof(w));

		uint32_t bytes = le32_get(w.entry_len);

		if (le32_get(w.signature) != VHDX_LOG_ENTRY_SIGNATURE || bytes > LOG_BYTES ||
		    bytes % VHDX_LOG_SECTOR_BYTES != 0 || bytes == 0) {
			continue;
		}
		w.log = *guid;
		w.checksum = le32_make(0);
		memcpy(log + at, &w, sizeof(w));

		uint32_t crc = 0;

		for (uint32_t i = 0; i < bytes; i += VHDX_LOG_SECTOR_BYTES) {
			crc = crc32c_update(crc, log + (at + i) % LOG_BYTES, VHDX_LOG_SECTOR_BYTES);
		}
		w.checksum = le32_make(crc);
		memcpy(log + at, &w, sizeof(w));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static uint8_t log[LOG_BYTES];
	const struct guid guid = {{1, 2, 3}};
	struct vhdx_log_sequence seq;
	uint32_t entries = 0;

	memset(log, 0, sizeof(log));
	memcpy(log, data, len < sizeof(log) ? len : sizeof(log));
	fix(log, &guid);
	if (vhdx_log_find(log, LOG_BYTES, &guid, &seq, NULL) != 0) {
		return 0;
	}
	/* What was found replays to its end. */
	for (uint32_t at = seq.tail;; entries++) {
		struct vhdx_log_entry entry;
		uint32_t data_index = 0;

		if (entries > LOG_BYTES / VHDX_LOG_SECTOR_BYTES ||
		    vhdx_log_entry_check(log, LOG_BYTES, at, &guid, &entry) != 0) {
			abort();
		}
		for (uint32_t i = 0; i < entry.desc_count; i++) {
			struct vhdx_log_change change;

			vhdx_log_change(log, LOG_BYTES, at, i, &data_index, &change);
			if (change.offset < VHDX_REGION_1_OFFSET) {
				abort();
			}
		}
		at = (at + entry.bytes) % LOG_BYTES;
		if (at == seq.head) {
			return 0;
		}
	}
}
