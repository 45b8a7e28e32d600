/* SPDX-License-Identifier: Apache-2.0 */

/*
 * vmbus_message_fuzz - a guest that posts what the input says to a bus with two devices, and rings
 * doorbells and runs the host in between. Each input starts from a connection with offers known
 * (relids 1 and 2).
 */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "hv/vmbus/vmbus.h"
#include "tests/lib/vmbus_echo.h"
#include "tests/lib/vmbus_guest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static struct guest *fuzz_guest(void)
{
	static struct guest *g;
	static struct echo *echoes[2];

	if (g == NULL) {
		log_set_level(LOG_LEVEL_ERR);
		guest_create(&(struct guest_cfg){.ram_bytes = 4u << 20}, &g);
		for (uint32_t i = 0; i < 2; i++) {
			const struct echo_cfg cfg = {.instance = i, .delay = i == 1};

			CHECK(echo_create(guest_env(g), &cfg, &echoes[i]) == 0);
		}
	}
	return g;
}

static void fuzz_reset_done(void *arg)
{
	*(bool *)arg = true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct guest *g = fuzz_guest();
	bool done = false;

	guest_boot(g);
	for (size_t at = 0; at < len;) {
		uint8_t op = data[at++];

		if (op == 0xff) {
			guest_step(g, 0);
		} else if (op >= 0xf0) {
			guest_signal(g, 0x2000 + op % 4u);
			guest_hold(g, op == 0xf8);
		} else {
			size_t n = op < len - at ? op : len - at;
			uint8_t *msg = malloc(n + 1); /* exact: AddressSanitizer guards its end */

			CHECK(msg != NULL);
			memcpy(msg, data + at, n);
			(void)!guest_post(g, op % 2 == 0 ? 1 : 4, msg, (uint32_t)n);
			free(msg);
			at += n;
		}
	}
	guest_hold(g, false);
	guest_settle(g);
	vmbus_reset(guest_bus(g), fuzz_reset_done, &done);
	guest_run_until(g, done);
	return 0;
}
