/* SPDX-License-Identifier: Apache-2.0 */

/*
 * netvsp_guest_fuzz - an adapter that is up, and packets as the input says: each is a line of
 * {what, how many bytes} and its bytes. Whatever comes, the guest can start over.
 */

#include <stdlib.h>
#include <string.h>

#include "hv/vsp/vsp.h"
#include "tests/lib/netvsc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum { RAW, DATA, SECTION, CONTROL, FRAME, RETURN, STEP, WHATS };

static void fuzz_packet(struct netvsc *v, uint32_t what, const uint8_t *bytes, uint32_t len)
{
	static uint8_t sink[16384];
	struct netvsp_message m = {.type = le32_make(NETVSP_SEND_RNDIS_PACKET)};
	struct guest_range range = {.pfns = v->tx_pfns, .offset = 100, .len_bytes = len};
	struct vmbus_packet pkt;

	m.u.rndis.channel_type = le32_make(what == CONTROL);
	m.u.rndis.section = le32_make(what == SECTION ? 3 : NETVSP_NO_SECTION);
	m.u.rndis.section_bytes = le32_make(what == SECTION ? len : 0);
	switch (what) {
	case RAW:
		(void)!guest_send(v->chan[0],
		                  len % 2 != 0 ? VMBUS_PACKET_INBAND : VMBUS_PACKET_GPA_DIRECT, 1,
		                  1, bytes, len);
		break;
	case DATA:
	case CONTROL:
		guest_pages_write(v->guest, v->tx_pfns, 100, bytes, len);
		if (len != 0) {
			(void)!guest_send_gpa(v->chan[0], 1, 1, &range, 1, &m, sizeof(m));
		}
		break;
	case SECTION:
		guest_pages_write(v->guest, v->send_pfns, 3ull * v->section_bytes, bytes, len);
		(void)!guest_send(v->chan[0], VMBUS_PACKET_INBAND, 1, 1, &m, sizeof(m));
		break;
	case FRAME:
		if (len >= sizeof(struct netvsp_vnet_wire)) {
			struct netvsp_vnet_wire vnet;

			memcpy(&vnet, bytes, sizeof(vnet));
			netvsc_tap_write(v, 0, &vnet, bytes + sizeof(vnet),
			                 len - (uint32_t)sizeof(vnet));
		}
		break;
	case RETURN:
		(void)!guest_send(v->chan[0], VMBUS_PACKET_COMPLETION, 0, len, bytes, len);
		break;
	default: /* let the host work, and read what it says */
		guest_settle(v->guest);
		while (guest_recv(v->chan[0], sink, sizeof(sink), &pkt) == 0) {
		}
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	const struct netvsc_cfg cfg = {
		.guest = {.ram_bytes = 8u << 20}, .recv_pages = 128, .queues = 1};
	struct netvsc *v;

	netvsc_create(&cfg, &v);
	netvsc_probe(v);
	netvsc_filter(v, 0x2d);
	for (size_t at = 0, n = 0; len - at >= 3 && n < 200; n++) {
		uint32_t what = data[at] % WHATS;
		uint32_t bytes = data[at + 1] | (uint32_t)(data[at + 2] & 0x0fu) << 8;

		at += 3;
		bytes = bytes < len - at ? bytes : (uint32_t)(len - at);
		bytes = bytes < 3500 ? bytes : 3500; /* the pages and the section are larger */
		fuzz_packet(v, what, data + at, bytes);
		at += bytes;
	}
	guest_settle(v->guest);
	guest_abandon(v->chan[0]);
	v->chan[0] = NULL;
	v->recv_gpadl = 0;
	guest_boot(v->guest);
	netvsc_probe(v);
	netvsc_destroy(v);
	return 0;
}
