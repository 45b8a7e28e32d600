/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_VMBUS_VMBUS_HOST_H
#define HV_VMBUS_VMBUS_HOST_H

/*
 * vmbus_host - what VMBus needs from the partition under it (SynIC), as a table of functions.
 *
 * hv/synic fills it on KVM, tests/lib/vmbus_guest on a simulated guest. All calls come from the
 * device thread and do not block.
 */

#include <stdint.h>

#include "base/attr.h"

#define VMBUS_MESSAGE_BYTES_MAX 240u /* payload of one SynIC message [TLFS 11.8] */

struct vmbus_host_ops {
	/*
	 * Put a SynIC message (type 1, @payload[len_bytes]) into the slot of @sint on VP @vp_index
	 * and interrupt it.
	 * Returns 0; -EAGAIN the slot is in use: vmbus_slot_free() is called when it is not;
	 * -ENXIO the VP has no message page or the SINT is masked (tell: vmbus_slot_free() comes
	 * when that changes).
	 */
	int (*message_post)(void *arg, uint32_t vp_index, uint32_t sint, const void *payload,
	                    uint32_t len_bytes);
	/* Set event flag @flag (0..2047) of @sint on VP @vp_index; interrupt if it was clear.
	 * A VP without an event page drops it: the guest re-reads its rings when it sets one up.
	 * Interrupts that were pending at a save are the SynIC's to raise again. */
	void (*event_signal)(void *arg, uint32_t vp_index, uint32_t sint, uint32_t flag);
	/* From now on HvSignalEvent(@connection_id) adds 1 to @event_fd (borrowed until _del). Only
	 * while the channel is open, so never before the VM exists or across its reset.
	 * Returns 0; -errno. */
	MUST_USE int (*doorbell_add)(void *arg, uint32_t connection_id, int event_fd);
	void (*doorbell_del)(void *arg, uint32_t connection_id, int event_fd);
};

#endif
