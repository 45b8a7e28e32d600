/* SPDX-License-Identifier: Apache-2.0 */

/* vmbus_load_fuzz - the payload of a saved section "vmbus" is the input; if it loads, it runs. */

#include <stdint.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/log.h"
#include "hv/save/save.h"
#include "hv/vmbus/vmbus.h"
#include "tests/lib/vmbus_echo.h"
#include "tests/lib/vmbus_guest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static struct guest *g;
	struct save s;
	struct load l;
	struct echo *e;
	uint8_t *buf;
	size_t bytes;

	if (g == NULL) {
		log_set_level(LOG_LEVEL_ERR);
		guest_create(&(struct guest_cfg){.ram_bytes = 4u << 20, .wary = true}, &g);
	}
	save_init(&s);
	save_begin(&s, "vmbus", 1, true);
	save_bytes(&s, data, len);
	save_end(&s);
	CHECK(save_finish(&s, &buf, &bytes) == 0);
	guest_bus_replace(g);
	CHECK(echo_create(guest_env(g), &(struct echo_cfg){0}, &e) == 0);
	CHECK(load_init(&l, buf, bytes, NULL) == 0);
	if (vmbus_load(guest_bus(g), &l) == 0) {
		vmbus_resume(guest_bus(g));
		guest_settle(g);
		(void)guest_signal(g, 0x2001);
		guest_settle(g);
		vmbus_pause(guest_bus(g));
	}
	guest_bus_replace(g);
	echo_destroy(e);
	free(buf);
	return 0;
}
