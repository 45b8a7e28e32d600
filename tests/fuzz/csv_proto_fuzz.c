/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "csv/proto/csv_proto.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* A message with the right length and checksum: what is accepted is encoded the same. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static uint8_t buf[65536];
	static uint8_t again[65536];
	static struct csv_msg msg;
	struct csv_msg_head_wire *head = (void *)buf;
	struct csv_name name;
	uint32_t offset = 0;

	if (len < sizeof(*head) || len > sizeof(buf)) {
		return 0;
	}
	memcpy(buf, data, len);
	head->magic = le32_make(CSV_MSG_MAGIC);
	head->length = le32_make((uint32_t)len);
	head->crc = le32_make(0);
	head->crc = le32_make(crc32c(buf, len));
	if (csv_msg_decode(buf, len, &msg, NULL) != 0) {
		return 0;
	}
	if (csv_msg_encode(&msg, again, sizeof(again)) != (int)len ||
	    memcmp(again, buf, len) != 0) {
		abort();
	}
	while (msg.type == CSV_MSG_REPLY && csv_msg_name(&msg.reply, &offset, &name)) {
		if (name.len > CSV_NAME_MAX) {
			abort();
		}
	}
	return 0;
}
