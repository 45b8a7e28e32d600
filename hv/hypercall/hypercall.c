/* SPDX-License-Identifier: Apache-2.0 */
#include "hv/hypercall/hypercall.h"

#include <string.h>

#include "base/wire.h"
#include "hv/mem/gmem.h"

/* TLFS 3.5: 15:0 code, 16 fast, 26:17 variable header, 43:32 rep count, 59:48 rep start. */
#define CONTROL_FAST (1ull << 16)
#define CONTROL_VARIABLE_HEADER (0x3ffull << 17)
#define CONTROL_REPS (0xfffull << 32 | 0xfffull << 48)
#define CONTROL_RESERVED (0x1full << 27 | 0xfull << 44 | 0xfull << 60)
#define CONNECTION_ID_MASK 0xffffffu
#define MESSAGE_TYPE_HYPERVISOR 0x80000000u

/* TLFS 11.9.7, the input of HvPostMessage. */
struct hypercall_post_wire {
	le32 connection_id;
	le32 reserved;
	le32 type;
	le32 len_bytes;
	uint8_t payload[VMBUS_MESSAGE_BYTES_MAX];
};
WIRE_SIZE(struct hypercall_post_wire, 256);

enum hypercall_status hypercall_decode(uint64_t control, uint32_t *code)
{
	uint32_t call = control & 0xffffu;

	if (call != HYPERCALL_POST_MESSAGE && call != HYPERCALL_SIGNAL_EVENT) {
		return HYPERCALL_INVALID_CODE;
	}
	/* Both are simple calls; the message comes in memory, the signal in a register or
	 * memory. */
	if ((control & (CONTROL_RESERVED | CONTROL_REPS | CONTROL_VARIABLE_HEADER)) != 0 ||
	    (call == HYPERCALL_POST_MESSAGE && (control & CONTROL_FAST) != 0)) {
		return HYPERCALL_INVALID_INPUT;
	}
	*code = call;
	return HYPERCALL_SUCCESS;
}

enum hypercall_status hypercall_post_decode(const struct gmem *mem, uint64_t input_gpa,
                                            struct hypercall_message *out)
{
	struct hypercall_post_wire in;

	if (input_gpa % 8 != 0 || input_gpa % GMEM_PAGE_BYTES > GMEM_PAGE_BYTES - sizeof(in)) {
		return HYPERCALL_INVALID_ALIGNMENT;
	}
	if (gmem_read(mem, input_gpa, &in, sizeof(in)) != 0) {
		return HYPERCALL_INVALID_PARAMETER;
	}
	out->connection_id = le32_get(in.connection_id) & CONNECTION_ID_MASK;
	out->type = le32_get(in.type);
	out->len_bytes = le32_get(in.len_bytes);
	if (out->type == 0 || out->type >= MESSAGE_TYPE_HYPERVISOR ||
	    out->len_bytes > sizeof(in.payload)) {
		return HYPERCALL_INVALID_PARAMETER;
	}
	memcpy(out->payload, in.payload, sizeof(in.payload));
	return HYPERCALL_SUCCESS;
}
