/* SPDX-License-Identifier: Apache-2.0 */

/*
 * ic_message_fuzz - byte 0 chooses the service; the rest is a sequence of messages to it: a byte
 * (bit 0: as answer to what it asked last), two with the length, then the message.
 */

#include <stdint.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "tests/lib/ic_guest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static const struct {
	icg_create_fn create;
	uint16_t major, minor;
} fuzz_services[] = {
	{ic_heartbeat_create, 3, 0},
	{ic_shutdown_create, 3, 2},
	{ic_timesync_create, 4, 0},
	{ic_kvp_create, 4, 0},
};

/* A service that has given the channel up reads no more: then the ring may be full for ever. */
static void fuzz_send(struct icg *i, const void *buf, size_t n)
{
	(void)!guest_send(i->chan, VMBUS_PACKET_INBAND, 0, 0, buf, (uint32_t)n);
}

static size_t fuzz_message(struct icg *i, struct icg_message *last, const uint8_t *data, size_t len)
{
	bool answer = (data[0] & 1) != 0;
	size_t n = (data[1] | (size_t)data[2] << 8) % 2800;

	n = n < len - 3 ? n : len - 3;
	if (answer) {
		struct icg_message a = *last;

		memcpy(a.payload, data + 3, n);
		if ((data[0] & 2) != 0) {
			a.bytes = (uint32_t)n;
			a.h.payload_bytes = le16_make((uint16_t)n);
		}
		a.h.status = le32_make((data[0] & 4) != 0 ? IC_STATUS_NO_MORE_ITEMS : IC_STATUS_OK);
		uint8_t buf[sizeof(a.h) + sizeof(a.payload)];

		memcpy(buf, &a.h, sizeof(a.h));
		memcpy(buf + sizeof(a.h), a.payload, a.bytes);
		fuzz_send(i, buf, sizeof(a.h) + a.bytes);
	} else {
		fuzz_send(i, data + 3, n);
	}
	guest_settle(i->g);
	while (icg_take(i, last)) {
	}
	return n + 3;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static struct icg services[4];
	uint32_t index = len != 0 ? data[0] % 4u : 0;
	struct icg *i = &services[index];
	struct icg_message last = {.bytes = 0};

	if (i->g == NULL) {
		log_set_level(LOG_LEVEL_ERR);
		icg_create(fuzz_services[index].create, i);
	}
	icg_open(i);
	if (len != 0 && (data[0] & 4) == 0) {
		icg_negotiate(i, fuzz_services[index].major, fuzz_services[index].minor);
		if (index == 1) {
			(void)!ic_shutdown_request(i->vsp, false, false, "", NULL, NULL);
		}
	}
	guest_settle(i->g);
	while (icg_take(i, &last)) {
	}
	for (size_t at = 1; at < len && len - at > 3;) {
		at += fuzz_message(i, &last, data + at, len - at);
	}
	icg_close(i);
	CHECK(ic_state(i->vsp) == IC_CLOSED);
	return 0;
}
