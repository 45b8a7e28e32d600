/* SPDX-License-Identifier: Apache-2.0 */

/*
 * storvsp_packet_fuzz - the input is a sequence of packets to an initialised controller: a byte of
 * flags (bit 0: GPA-direct), a byte with the header's length in words, two with the payload's
 * length, then both. Ends with a close, an open and an honest command.
 */

#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "tests/lib/stor_guest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void fuzz_drain(struct stor *s)
{
	uint8_t buf[256];
	struct vmbus_packet pkt;
	int err;

	do {
		guest_settle(s->g);
		err = guest_recv(s->chans[0], buf, sizeof(buf), &pkt);
		CHECK(err == 0 || err == -EAGAIN);
	} while (err == 0);
}

static size_t fuzz_packet(struct stor *s, const uint8_t *data, size_t len)
{
	uint32_t header = data[1] % 150u * 8;
	uint32_t payload = (data[2] | (uint32_t)data[3] << 8) % 200;
	uint16_t type = (data[0] & 1) != 0 ? VMBUS_PACKET_GPA_DIRECT : VMBUS_PACKET_INBAND;
	size_t at = 4;

	header = header < len - at ? header : (uint32_t)((len - at) / 8 * 8);
	payload = payload < len - at - header ? payload : (uint32_t)(len - at - header);
	(void)!guest_send_full(s->chans[0], type, VMBUS_PACKET_WANTS_COMPLETION, 1, data + at,
	                       header, data + at + header, payload);
	return at + header + payload;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static struct stor s;

	if (s.g == NULL) {
		log_set_level(LOG_LEVEL_ERR);
		stor_create(&(struct stor_cfg){.guest.ram_bytes = 4u << 20,
		                               .disk.size_bytes = 1u << 20,
		                               .dvd = true,
		                               .ring_pages = 3},
		            &s);
		guest_boot(s.g);
	}
	stor_open(&s);
	stor_init(&s);
	for (size_t at = 0; len - at > 4;) {
		at += fuzz_packet(&s, data + at, len - at);
		fuzz_drain(&s);
	}
	stor_close(&s);
	stor_open(&s);
	stor_init(&s);
	(void)stor_run(&s, &(struct stor_cmd){STOR_READ10(0, 8), .len_bytes = 4096});
	stor_close(&s);
	return 0;
}
