/* SPDX-License-Identifier: Apache-2.0 */

/* outq - messages to the guest: one slot in the guest, the rest waits here in order. */

#include <errno.h>
#include <string.h>

#include "base/check.h"
#include "hv/vmbus/vmbus_host.h"
#include "hv/vmbus/vmbus_int.h"

_Static_assert(VMBUS_OUT_BYTES_MAX <= VMBUS_MESSAGE_BYTES_MAX, "fits a slot");

void vmbus_out_pump(struct vmbus *bus)
{
	struct vmbus_outq *q = &bus->outq;

	/* Paused: the SynIC's state may be saved already. */
	while (q->count != 0 && !bus->paused) {
		const struct vmbus_out *m = &q->slots[q->head % VMBUS_OUT_MAX];
		/* -EAGAIN and -ENXIO alike: vmbus_slot_free() comes. */
		int err =
			bus->cfg.host->message_post(bus->cfg.host_arg, bus->conn.contact.target_vp,
		                                    bus->conn.contact.sint, m->bytes, m->len_bytes);

		if (err != 0) {
			return;
		}
		q->head++;
		q->count--;
	}
	if (q->count == 0) {
		q->head = 0;
	}
}

void vmbus_out_push(struct vmbus *bus, const void *buf, uint32_t len_bytes)
{
	struct vmbus_outq *q = &bus->outq;

	CHECK(len_bytes <= VMBUS_OUT_BYTES_MAX);
	if (q->count == VMBUS_OUT_MAX) {
		/* The bounds in vmbus_int.h exclude it; if they are wrong, one guest loses. */
		log_limited(&bus->limit, LOG_LEVEL_ERR, VMBUS_TAG, "message queue overran vm=%s",
		            bus->cfg.vm_name);
		return;
	}

	struct vmbus_out *m = &q->slots[(q->head + q->count) % VMBUS_OUT_MAX];

	memcpy(m->bytes, buf, len_bytes);
	m->len_bytes = (uint8_t)len_bytes;
	q->count++;
	vmbus_out_pump(bus);
}

void vmbus_out_clear(struct vmbus *bus)
{
	bus->outq.head = 0;
	bus->outq.count = 0;
}
