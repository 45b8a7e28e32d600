/* SPDX-License-Identifier: Apache-2.0 */

/*
 * machine_ports_fuzz - a guest's port accesses on the whole machine; what it leads to can always
 * be saved, and the state comes back the same.
 *
 * Input: records of 8 bytes: what, port, size, count, four bytes of data.
 */

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "hv/machine/layout.h"
#include "hv/machine/machine.h"
#include "hv/save/save.h"

#define RECORD_BYTES 8u
#define ELEMENTS_MAX 16u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void fuzz_irq(void *arg, uint32_t gsi, bool level)
{
	(void)arg;
	(void)level;
	CHECK(gsi == LAYOUT_COM1_IRQ || gsi == LAYOUT_SCI_IRQ);
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

static void fuzz_record(struct machine *m, const uint8_t r[RECORD_BYTES])
{
	static const uint16_t bases[] = {
		LAYOUT_COM1_PORT,   LAYOUT_RTC_PORT,  LAYOUT_PM1_EVT_PORT, LAYOUT_PM1_CNT_PORT,
		LAYOUT_PM_TMR_PORT, LAYOUT_GPE0_PORT, LAYOUT_RESET_PORT,   0};
	static const uint32_t sizes[] = {1, 2, 4, 1};
	uint8_t buf[4 * ELEMENTS_MAX];
	uint16_t port = (uint16_t)(bases[r[1] & 7] + (r[1] >> 3));

	for (size_t i = 0; i < sizeof(buf); i++) {
		buf[i] = r[4 + i % 4];
	}
	switch (r[0] & 7) {
	case 0:
		(void)machine_console_input(m, r + 4, 4);
		break;
	case 1:
		machine_power_button(m);
		break;
	case 2:
		machine_generation_changed(m);
		break;
	case 3:
		machine_mmio(m, port, (r[3] & 1) != 0, 1u + (r[2] & 7u), buf);
		break;
	default:
		machine_io(m, port, (r[0] & 1) != 0, sizes[r[2] & 3], r[3] % (ELEMENTS_MAX + 1),
		           buf);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct machine m;
	struct machine again;
	struct save s;
	struct load l;
	uint8_t *buf;
	size_t bytes;

	machine_init(&m, &fuzz_ops, NULL);
	machine_init(&again, &fuzz_ops, NULL);
	machine_reset(&m);
	for (size_t at = 0; at + RECORD_BYTES <= len; at += RECORD_BYTES) {
		fuzz_record(&m, data + at);
	}
	save_init(&s);
	machine_save(&m, &s);
	CHECK(save_finish(&s, &buf, &bytes) == 0);
	CHECK(load_init(&l, buf, bytes, NULL) == 0);
	CHECK(machine_load(&again, &l) == 0);
	free(buf);
	machine_fini(&again);
	machine_fini(&m);
	return 0;
}
