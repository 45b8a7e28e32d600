/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/view/frame.h"

#include <errno.h>
#include <string.h>

#include "base/check.h"
#include "base/crc32c.h"

static uint32_t frame_crc(const struct frame_wire *head, const void *body, size_t body_len)
{
	struct frame_wire copy = *head;

	copy.crc = le32_make(0);
	return crc32c_update(crc32c(&copy, sizeof(copy)), body, body_len);
}

size_t frame_seal(void *buf, enum frame_type type, size_t body_len)
{
	struct frame_wire head = {
		.magic = le32_make(FRAME_MAGIC),
		.version = le16_make(FRAME_VERSION),
		.type = le16_make((uint16_t)type),
		.body_len = le32_make((uint32_t)body_len),
	};

	CHECK(body_len <= FRAME_MAX - sizeof(head));
	head.crc = le32_make(frame_crc(&head, (uint8_t *)buf + sizeof(head), body_len));
	memcpy(buf, &head, sizeof(head));
	return sizeof(head) + body_len;
}

int frame_open(const void *buf, size_t len, uint16_t *type, const uint8_t **body, size_t *body_len)
{
	struct frame_wire head;

	if (len < sizeof(head) || len > FRAME_MAX) {
		return -EBADMSG;
	}
	memcpy(&head, buf, sizeof(head));
	if (le32_get(head.magic) != FRAME_MAGIC || le32_get(head.body_len) != len - sizeof(head) ||
	    le32_get(head.crc) !=
	            frame_crc(&head, (const uint8_t *)buf + sizeof(head), len - sizeof(head))) {
		return -EBADMSG;
	}
	if (le16_get(head.version) != FRAME_VERSION) {
		return -EPROTONOSUPPORT;
	}
	*type = le16_get(head.type);
	*body = (const uint8_t *)buf + sizeof(head);
	*body_len = len - sizeof(head);
	return 0;
}
