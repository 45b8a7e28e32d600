/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_MACHINE_MACHINE_H
#define HV_MACHINE_MACHINE_H

/*
 * machine - the few port and memory devices of a partition behind one lock.
 *
 * VP threads come in with their exits; the device thread feeds the console and presses the
 * buttons. Ports and addresses nobody owns read all ones and swallow writes, as on a bus without
 * a device, and are counted.
 *
 * Threads: every function may be called from any thread, except init and fini. The callbacks run
 * with the machine's lock held on the calling thread and must not come back in.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "hv/machine/pm.h"
#include "hv/machine/rtc.h"
#include "hv/machine/uart.h"

struct load;
struct save;

struct machine_ops {
	void (*irq)(void *arg, uint32_t gsi, bool level);
	void (*console)(void *arg, uint8_t byte); /* COM1 sent it */
	void (*power_off)(void *arg);             /* the guest went to S5 */
	void (*reset)(void *arg);                 /* the guest wrote the reset register */
};

/* Embed; fields under lock. */
struct machine {
	pthread_mutex_t lock;          /* guards all below */
	const struct machine_ops *ops; /* borrowed until machine_fini() */
	void *arg;
	struct uart com1;
	struct pm pm;
	struct rtc rtc;
	uint64_t stray_count; /* accesses to nothing */
};

void machine_init(struct machine *m, const struct machine_ops *ops, void *arg);
void machine_fini(struct machine *m);

/* machine_reset() - power-on state. */
void machine_reset(struct machine *m);

/* machine_io() - @count elements of @size_bytes (1, 2, 4) at @port, from or to @data. */
void machine_io(struct machine *m, uint16_t port, bool is_in, uint32_t size_bytes, uint32_t count,
                uint8_t *data);

/* machine_mmio() - no device lives in memory: reads are all ones. @size_bytes 1..8. */
void machine_mmio(struct machine *m, uint64_t gpa, bool is_write, uint32_t size_bytes,
                  uint8_t *data);

/* machine_console_input() - type into COM1. Returns how many bytes it took. */
size_t machine_console_input(struct machine *m, const void *buf, size_t len_bytes);

void machine_power_button(struct machine *m);

/* machine_generation_changed() - tell the guest, after acpi_generation_set(). */
void machine_generation_changed(struct machine *m);

/* Section "machine". VPs are stopped. */
void machine_save(struct machine *m, struct save *s);
MUST_USE int machine_load(struct machine *m, struct load *l);

#endif
