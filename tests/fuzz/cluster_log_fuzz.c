/* SPDX-License-Identifier: Apache-2.0 */

/* cluster_log_fuzz - byte 0: the type of message; the rest is its body. */

#include <stdint.h>
#include <string.h>

#include "base/check.h"
#include "cluster/rsm/rsm_msg.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void walk(struct rsm_msg *m)
{
	for (uint32_t i = 0; i < m->count; i++) {
		struct rsm_entry e;
		struct rsm_pair p;

		if (m->type == FRAME_ENTRIES) {
			CHECK(rsm_msg_entry(&m->rest, &m->rest_len, &e) == 0);
			(void)rsm_hash(m->hash, &e);
		} else {
			CHECK(rsm_msg_pair(&m->rest, &m->rest_len, &p) == 0);
		}
	}
	CHECK(m->rest_len == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static uint8_t buf[VIEW_SEND_MAX];
	struct view_hello hello;
	struct rsm_msg m;
	const uint8_t *body;
	size_t body_len;
	uint16_t type;

	if (len == 0) {
		return 0;
	}
	(void)!frame_open(data, len, &type, &body, &body_len);
	if (data[0] == FRAME_HELLO && view_hello_decode(data + 1, len - 1, &hello) == 0) {
		CHECK(view_hello_encode(&hello, buf) == len - 1 + sizeof(struct frame_wire));
		CHECK(memcmp(buf + sizeof(struct frame_wire), data + 1, len - 1) == 0);
	}
	if (rsm_msg_decode(data[0], data + 1, len - 1, &m) == 0 &&
	    (data[0] == FRAME_ENTRIES || data[0] == FRAME_PAIRS)) {
		walk(&m);
	}
	return 0;
}
