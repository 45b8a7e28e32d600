/* SPDX-License-Identifier: Apache-2.0 */

/* machine_load_fuzz - the payload of a saved section "machine"; if it loads, the machine works. */

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/check.h"
#include "hv/machine/machine.h"
#include "hv/save/save.h"

#define PORTS_END 0x500u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void fuzz_irq(void *arg, uint32_t gsi, bool level)
{
	(void)arg;
	(void)gsi;
	(void)level;
}

static void fuzz_byte(void *arg, uint8_t byte)
{
	(void)arg;
	(void)byte;
}

static void fuzz_nothing(void *arg)
{
	(void)arg;
}

static const struct machine_ops fuzz_ops = {
	.irq = fuzz_irq,
	.console = fuzz_byte,
	.power_off = fuzz_nothing,
	.reset = fuzz_nothing,
};

/* Load what has @data as the section's payload. */
static int fuzz_load(struct machine *to, const uint8_t *data, size_t len)
{
	struct save s;
	struct load l;
	uint8_t *buf;
	size_t bytes;
	int err;

	save_init(&s);
	save_begin(&s, "machine", 1, true);
	save_bytes(&s, data, len);
	save_end(&s);
	CHECK(save_finish(&s, &buf, &bytes) == 0);
	CHECK(load_init(&l, buf, bytes, NULL) == 0);
	err = machine_load(to, &l);
	free(buf);
	return err;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct machine m;
	struct save s;
	uint8_t value[4] = {0};
	uint8_t *buf;
	size_t bytes;

	machine_init(&m, &fuzz_ops, NULL);
	machine_reset(&m);
	if (fuzz_load(&m, data, len) == 0) {
		for (uint32_t port = 0; port < PORTS_END; port++) {
			machine_io(&m, (uint16_t)port, true, 1, 1, value);
			machine_io(&m, (uint16_t)port, true, 4, 1, value);
			machine_io(&m, (uint16_t)port, false, 1, 1, value);
		}
		(void)machine_console_input(&m, "text", 4);
		save_init(&s);
		machine_save(&m, &s);
		CHECK(save_finish(&s, &buf, &bytes) == 0);
		free(buf);
	}
	machine_fini(&m);
	return 0;
}
