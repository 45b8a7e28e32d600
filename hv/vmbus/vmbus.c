/* SPDX-License-Identifier: Apache-2.0 */

/* vmbus - the bus as its owner, the partition, sees it: create, messages in, pause, reset. */

#include "hv/vmbus/vmbus.h"

#include <errno.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/fault.h"
#include "hv/vmbus/vmbus_int.h"

#define VMBUS_VERSION_NEWEST VMBUS_VERSION(5, 3)

int vmbus_create(const struct vmbus_cfg *cfg, struct vmbus **out)
{
	*out = NULL;
	if (cfg->vp_count == 0) {
		return -EINVAL;
	}

	struct vmbus *bus = gw_calloc(1, sizeof(*bus));
	/* Large, but zero pages until they are used: the kernel gives them one by one. */
	struct vmbus_out *slots = gw_calloc_sparse(VMBUS_OUT_MAX, sizeof(*slots));

	if (bus == NULL || slots == NULL) {
		free(bus);
		free(slots);
		return -ENOMEM;
	}
	bus->cfg = *cfg;
	if (bus->cfg.version_max == 0) {
		bus->cfg.version_max = VMBUS_VERSION_NEWEST;
	}
	if (!vmbus_conn_version_known(bus, bus->cfg.version_max)) {
		free(bus);
		free(slots);
		return -EINVAL;
	}
	bus->outq.slots = slots;
	bus->conn.contact.sint = VMBUS_SINT;
	list_init(&bus->released);
	list_init(&bus->gpadls);
	*out = bus;
	return 0;
}

void vmbus_destroy(struct vmbus *bus)
{
	if (bus == NULL) {
		return;
	}
	bus->paused = true;
	for (uint32_t relid = 1; relid < VMBUS_RELIDS; relid++) {
		struct vmbus_channel *chan = bus->channels[relid];

		if (chan != NULL) {
			vmbus_channel_abandon(chan);
			vmbus_channel_release(chan);
		}
	}
	while (!list_empty(&bus->released)) {
		int err = uring_wait(bus->cfg.ring, UINT64_MAX);

		CHECK(err >= 0 || err == -EINTR);
	}
	CHECK(list_empty(&bus->gpadls)); /* each had a channel */
	free(bus->outq.slots);
	free(bus);
}

int vmbus_message(struct vmbus *bus, uint32_t connection_id, const void *payload,
                  uint32_t len_bytes)
{
	if (connection_id != VMBUS_POST_CONNECTION && connection_id != VMBUS_POST_CONNECTION_V5) {
		return -ENOENT;
	}
	if (bus->paused) {
		return -EAGAIN;
	}
	return vmbus_conn_message(bus, payload, len_bytes);
}

void vmbus_slot_free(struct vmbus *bus, uint32_t vp_index)
{
	(void)vp_index; /* one slot in use; trying another VP's costs little */
	vmbus_out_pump(bus);
}

void vmbus_reset(struct vmbus *bus, void (*done)(void *arg), void *arg)
{
	CHECK(bus->reset_done == NULL);
	bus->reset_done = done;
	bus->reset_arg = arg;
	vmbus_conn_drain(bus, VMBUS_DRAIN_RESET);
}

void vmbus_pause(struct vmbus *bus)
{
	for (uint32_t relid = 1; relid < VMBUS_RELIDS; relid++) {
		if (bus->channels[relid] != NULL) {
			vmbus_flush(bus->channels[relid]);
		}
	}
	bus->paused = true;
}

/* Saved channels whose device nobody offered again: take them from the guest. */
static void vmbus_resume_orphans(struct vmbus *bus)
{
	for (uint32_t relid = 1; relid < VMBUS_RELIDS; relid++) {
		struct vmbus_channel *chan = bus->channels[relid];

		if (chan != NULL && chan->orphan) {
			log_limited(&bus->limit, LOG_LEVEL_WARN, VMBUS_TAG,
			            "saved device is not there any more vm=%s chan=%u",
			            bus->cfg.vm_name, relid);
			chan->orphan = false;
			chan->reopen = false;
			vmbus_rescind(chan);
		}
	}
}

void vmbus_resume(struct vmbus *bus)
{
	bool loaded = bus->loading;

	bus->loading = false;
	bus->paused = false;
	if (loaded) {
		vmbus_resume_orphans(bus);
		vmbus_gpadl_settle(bus);
	}
	for (uint32_t relid = 1; relid < VMBUS_RELIDS; relid++) {
		struct vmbus_channel *chan = bus->channels[relid];

		if (chan == NULL) {
			continue;
		}
		if (chan->state == VMBUS_CHANNEL_OPEN) {
			vmbus_channel_signal(chan);
			vmbus_kick(chan);
		} else if (chan->open_waits) {
			vmbus_channel_open_waiting(chan);
		} else if (!chan->told && !chan->rescinded && bus->conn.offers_sent &&
		           bus->conn.state == VMBUS_CONN_CONNECTED) {
			vmbus_channel_tell(chan); /* came while paused or after the load */
		}
	}
	vmbus_conn_drained(bus);
	vmbus_out_pump(bus);
}
