/* SPDX-License-Identifier: Apache-2.0 */

/* hypercall_fuzz - control word, address of the input (16 bytes), then what lies in memory. */

#include <stdint.h>
#include <string.h>

#include "base/check.h"
#include "base/wire.h"
#include "hv/hypercall/hypercall.h"
#include "hv/mem/gmem.h"

#define RAM_BYTES (1u << 20)
#define HEAD_BYTES 16u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static struct gmem *mem;
	struct hypercall_message msg;
	uint32_t code = 0;
	le64 control;
	le64 gpa;

	if (mem == NULL) {
		const struct gmem_cfg cfg = {.size_bytes = RAM_BYTES, .low_max_bytes = RAM_BYTES};

		CHECK(gmem_create(&cfg, &mem, NULL) == 0);
	}
	if (len < HEAD_BYTES || len > HEAD_BYTES + RAM_BYTES) {
		return 0;
	}
	memcpy(&control, data, sizeof(control));
	memcpy(&gpa, data + 8, sizeof(gpa));
	/* At the end: whoever reads beyond it is found. */
	CHECK(gmem_write(mem, RAM_BYTES - (len - HEAD_BYTES), data + HEAD_BYTES,
	                 len - HEAD_BYTES) == 0);
	if (hypercall_decode(le64_get(control), &code) == HYPERCALL_SUCCESS) {
		CHECK(code == HYPERCALL_POST_MESSAGE || code == HYPERCALL_SIGNAL_EVENT);
	}
	if (hypercall_post_decode(mem, le64_get(gpa), &msg) == HYPERCALL_SUCCESS) {
		CHECK(msg.connection_id <= 0xffffffu && msg.type != 0);
		CHECK(msg.len_bytes <= sizeof(msg.payload));
	}
	return 0;
}
