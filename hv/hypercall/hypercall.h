/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_HYPERCALL_HYPERCALL_H
#define HV_HYPERCALL_HYPERCALL_H

/*
 * hypercall - the hypercalls that KVM leaves to user space: post message, signal event.
 *
 * Pure but for reading the guest's input page. KVM itself answers the rest (TLB flush, IPIs) and,
 * for connections with a doorbell, signal event. Source: TLFS chapters 3 and 11.
 */

#include <stdint.h>

#include "base/attr.h"
#include "hv/vmbus/vmbus_host.h"

struct gmem;

enum hypercall_status {
	HYPERCALL_SUCCESS = 0,
	HYPERCALL_INVALID_CODE = 2,
	HYPERCALL_INVALID_INPUT = 3,
	HYPERCALL_INVALID_ALIGNMENT = 4,
	HYPERCALL_INVALID_PARAMETER = 5,
	HYPERCALL_INVALID_CONNECTION_ID = 0x12,
	HYPERCALL_INSUFFICIENT_BUFFERS = 0x13,
};

#define HYPERCALL_POST_MESSAGE 0x5cu
#define HYPERCALL_SIGNAL_EVENT 0x5du

/* What a guest posted, copied out of its memory and checked. */
struct hypercall_message {
	uint32_t connection_id; /* 24 bits */
	uint32_t type;
	uint32_t len_bytes; /* <= VMBUS_MESSAGE_BYTES_MAX */
	uint8_t payload[VMBUS_MESSAGE_BYTES_MAX];
};

/*
 * hypercall_decode() - what @control (RCX) asks for.
 * @code: the call code, if the result is HYPERCALL_SUCCESS: a call we know, well formed.
 * Returns the status to answer otherwise.
 */
MUST_USE enum hypercall_status hypercall_decode(uint64_t control, uint32_t *code);

/*
 * hypercall_post_decode() - read the input of a post message call at @input_gpa (RDX).
 * Returns HYPERCALL_SUCCESS or the status to answer. Any thread.
 */
MUST_USE enum hypercall_status hypercall_post_decode(const struct gmem *mem, uint64_t input_gpa,
                                                     struct hypercall_message *out);

#endif
