/* SPDX-License-Identifier: Apache-2.0 */

/* Devices say which guest memory they wrote: after each turn of the host the simulated guest
 * compares all of its memory (guest_cfg.watch). What a move copies by that log is then complete. */

#include <string.h>

#include "tests/lib/netvsc.h"
#include "tests/lib/stor_guest.h"
#include "tests/lib/test.h"

#define RAM_BYTES (8u << 20)

static uint32_t next_random(uint32_t *seed)
{
	*seed = *seed * 1664525u + 1013904223u;
	return *seed >> 8;
}

/* Reads and writes of all sizes, answers built by us (INQUIRY), refused ones; a pause between. */
static void the_disks_writes_are_noted(void **state)
{
	struct stor s;
	uint32_t seed = 1;

	(void)state;
	stor_create(&(struct stor_cfg){.guest = {.ram_bytes = RAM_BYTES, .watch = true},
	                               .disk.order = FAKE_DISK_SHUFFLE,
	                               .sub_channels_max = 1},
	            &s);
	stor_boot(&s);
	stor_sub_channels(&s, 1);
	for (uint32_t i = 0; i < 120; i++) {
		uint32_t blocks = 1 + next_random(&seed) % 100;
		uint32_t lba = next_random(&seed) % 4000;
		struct stor_cmd cmd = {0};

		switch (next_random(&seed) % 4) {
		case 0:
			cmd = (struct stor_cmd){STOR_WRITE10(lba, blocks),
			                        .len_bytes = blocks * 512};
			break;
		case 1:
			cmd = (struct stor_cmd){.cdb = {0x12, 0, 0, 0, 96},
			                        .cdb_bytes = 6,
			                        .direction = STORVSP_READ,
			                        .len_bytes = 96};
			break;
		default:
			cmd = (struct stor_cmd){STOR_READ10(lba, blocks),
			                        .len_bytes = blocks * 512};
			break;
		}
		cmd.offset = next_random(&seed) % 512 * 8;
		cmd.first_page = next_random(&seed) % 64;
		cmd.chan = next_random(&seed) % 2;
		(void)stor_run(&s, &cmd);
		if (i % 40 == 39) {
			stor_pause(&s);
			stor_resume(&s);
		}
	}
	assert_true(guest_turns(s.g) > 120);
	stor_destroy(&s);
}

static void the_adapters_writes_are_noted(void **state)
{
	struct netvsc *v;
	static struct netvsc_rx held[8]; /* so that many slots are used */
	uint8_t frame[1514];
	static const uint8_t peer[6] = {2, 0, 0, 0, 0, 1};

	(void)state;
	netvsc_create(&(struct netvsc_cfg){.guest = {.ram_bytes = RAM_BYTES, .watch = true},
	                                   .recv_pages = 64},
	              &v);
	netvsc_probe(v);
	netvsc_filter(v, 0xd);
	for (uint32_t i = 0; i < 60; i++) {
		uint32_t len = 60 + i * 23;

		netvsc_frame(frame, len, netvsc_mac, peer, i);
		netvsc_tap_write(v, 0, NULL, frame, len);
		if (i >= 8) {
			netvsc_give_back(v, &held[i % 8]);
		}
		netvsc_recv(v, NETVSC_CHANNELS_MAX, &held[i % 8]);
		assert_int_equal(held[i % 8].len, len);
		netvsc_frame(frame, len, peer, netvsc_mac, i);

		const struct netvsc_tx tx = {.frame = frame, .len = len, .section = i % 2 == 0};

		assert_int_equal(netvsc_send(v, 0, &tx), 1);
	}
	assert_true(guest_turns(v->guest) > 120);
	netvsc_destroy(v);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_disks_writes_are_noted),
		cmocka_unit_test(the_adapters_writes_are_noted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
