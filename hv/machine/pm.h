/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_MACHINE_PM_H
#define HV_MACHINE_PM_H

/*
 * pm - the ACPI fixed hardware: PM1 event and control, power management timer, GPE0, reset
 * register.
 *
 * Registers only: time comes as an argument, the rest goes out through the callbacks. The owner
 * holds its lock around every call. Source: ACPI 6.4, 4.8.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"

struct load;
struct save;

enum pm_action { PM_NOTHING, PM_POWER_OFF, PM_RESET };

struct pm_cfg {
	void (*sci)(void *arg, bool level); /* called with the owner's lock */
	void *arg;
};

/* Embed; start with pm_init(). */
struct pm {
	struct pm_cfg cfg;
	uint16_t pm1_status, pm1_enable, pm1_control;
	uint16_t gpe0_status, gpe0_enable;
	uint64_t timer_base_ns; /* the timer's zero, on the caller's monotonic clock */
	bool sci_level;
};

void pm_init(struct pm *pm, const struct pm_cfg *cfg, uint64_t now_ns);
void pm_reset(struct pm *pm, uint64_t now_ns);

/* pm_owns() - is @port one of ours? */
bool pm_owns(uint16_t port);

/* pm_read() - @size_bytes 1, 2 or 4 at @port, registers side by side as on the bus. */
uint32_t pm_read(struct pm *pm, uint16_t port, uint32_t size_bytes, uint64_t now_ns);

/* pm_write() - returns what the machine has to do now. */
MUST_USE enum pm_action pm_write(struct pm *pm, uint16_t port, uint32_t size_bytes, uint32_t value);

/* pm_power_button() - press it. pm_gpe() - raise general purpose event @number (0..15). */
void pm_power_button(struct pm *pm);
void pm_gpe(struct pm *pm, uint32_t number);

void pm_save(const struct pm *pm, struct save *s, uint64_t now_ns);
MUST_USE int pm_load(struct pm *pm, struct load *l, uint64_t now_ns);

#endif
