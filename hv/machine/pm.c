/* SPDX-License-Identifier: Apache-2.0 */
#include "hv/machine/pm.h"

#include "base/check.h"
#include "base/clock.h"
#include "hv/machine/layout.h"
#include "hv/save/save.h"

#define PM_TIMER_HZ 3579545ull
#define PM1_POWER_BUTTON 0x0100u
#define PM1_STATUS_MASK \
	0x8731u /* wake, RTC, sleep and power button, global lock, timer, bus master */
#define PM1_CNT_SCI_EN 0x0001u
#define PM1_CNT_SLP_EN 0x2000u
#define PM1_CNT_SLP_TYPE(v) (((v) >> 10) & 7u)

void pm_init(struct pm *pm, const struct pm_cfg *cfg, uint64_t now_ns)
{
	*pm = (struct pm){.cfg = *cfg};
	pm_reset(pm, now_ns);
}

void pm_reset(struct pm *pm, uint64_t now_ns)
{
	struct pm_cfg cfg = pm->cfg;

	/* No SMI command in the FADT: the machine is in ACPI mode from the start. */
	*pm = (struct pm){.cfg = cfg, .pm1_control = PM1_CNT_SCI_EN, .timer_base_ns = now_ns};
}

bool pm_owns(uint16_t port)
{
	return (port >= LAYOUT_PM1_EVT_PORT && port < LAYOUT_GPE0_PORT + 4) ||
	       port == LAYOUT_RESET_PORT;
}

static void pm_update(struct pm *pm)
{
	bool level =
		(pm->pm1_status & pm->pm1_enable) != 0 || (pm->gpe0_status & pm->gpe0_enable) != 0;

	if (level != pm->sci_level) {
		pm->sci_level = level;
		pm->cfg.sci(pm->cfg.arg, level);
	}
}

static uint32_t pm_timer(const struct pm *pm, uint64_t now_ns)
{
	uint64_t ns = now_ns - pm->timer_base_ns;

	/* Split, so that the product does not overflow after 1.4 hours. */
	return (uint32_t)(ns / NS_PER_S * PM_TIMER_HZ + ns % NS_PER_S * PM_TIMER_HZ / NS_PER_S);
}

static uint8_t pm_read_byte(const struct pm *pm, uint16_t port, uint64_t now_ns)
{
	switch (port) {
	case LAYOUT_PM1_EVT_PORT:
		return (uint8_t)pm->pm1_status;
	case LAYOUT_PM1_EVT_PORT + 1:
		return (uint8_t)(pm->pm1_status >> 8);
	case LAYOUT_PM1_EVT_PORT + 2:
		return (uint8_t)pm->pm1_enable;
	case LAYOUT_PM1_EVT_PORT + 3:
		return (uint8_t)(pm->pm1_enable >> 8);
	case LAYOUT_PM1_CNT_PORT:
		return (uint8_t)pm->pm1_control;
	case LAYOUT_PM1_CNT_PORT + 1:
		return (uint8_t)(pm->pm1_control >> 8);
	case LAYOUT_PM_TMR_PORT:
	case LAYOUT_PM_TMR_PORT + 1:
	case LAYOUT_PM_TMR_PORT + 2:
	case LAYOUT_PM_TMR_PORT + 3:
		return (uint8_t)(pm_timer(pm, now_ns) >> 8 * (port - LAYOUT_PM_TMR_PORT));
	case LAYOUT_GPE0_PORT:
		return (uint8_t)pm->gpe0_status;
	case LAYOUT_GPE0_PORT + 1:
		return (uint8_t)(pm->gpe0_status >> 8);
	case LAYOUT_GPE0_PORT + 2:
		return (uint8_t)pm->gpe0_enable;
	case LAYOUT_GPE0_PORT + 3:
		return (uint8_t)(pm->gpe0_enable >> 8);
	default: /* a port number, not an enum: holes read zero */
		return 0;
	}
}

uint32_t pm_read(struct pm *pm, uint16_t port, uint32_t size_bytes, uint64_t now_ns)
{
	uint32_t value = 0;

	for (uint32_t i = 0; i < size_bytes; i++) {
		value |= (uint32_t)pm_read_byte(pm, (uint16_t)(port + i), now_ns) << 8 * i;
	}
	return value;
}

/* Bytes of a 16 bit register, one at a time. */
static uint16_t pm_set_byte(uint16_t old, uint32_t index, uint8_t value)
{
	return (uint16_t)((old & ~(0xffu << 8 * index)) | (uint32_t)value << 8 * index);
}

static enum pm_action pm_write_byte(struct pm *pm, uint16_t port, uint8_t value)
{
	switch (port) {
	case LAYOUT_PM1_EVT_PORT: /* write one to clear */
		pm->pm1_status &= (uint16_t)~value;
		break;
	case LAYOUT_PM1_EVT_PORT + 1:
		pm->pm1_status &= (uint16_t) ~((uint32_t)value << 8);
		break;
	case LAYOUT_PM1_EVT_PORT + 2:
	case LAYOUT_PM1_EVT_PORT + 3:
		pm->pm1_enable =
			pm_set_byte(pm->pm1_enable, port - (LAYOUT_PM1_EVT_PORT + 2u), value) &
			PM1_STATUS_MASK;
		break;
	case LAYOUT_PM1_CNT_PORT:
	case LAYOUT_PM1_CNT_PORT + 1:
		pm->pm1_control = pm_set_byte(pm->pm1_control, port - LAYOUT_PM1_CNT_PORT, value) |
		                  PM1_CNT_SCI_EN;
		if ((pm->pm1_control & PM1_CNT_SLP_EN) != 0) {
			pm->pm1_control &= (uint16_t)~PM1_CNT_SLP_EN; /* write only */
			if (PM1_CNT_SLP_TYPE(pm->pm1_control) == LAYOUT_S5_TYPE) {
				return PM_POWER_OFF;
			}
		}
		break;
	case LAYOUT_GPE0_PORT:
		pm->gpe0_status &= (uint16_t)~value;
		break;
	case LAYOUT_GPE0_PORT + 1:
		pm->gpe0_status &= (uint16_t) ~((uint32_t)value << 8);
		break;
	case LAYOUT_GPE0_PORT + 2:
	case LAYOUT_GPE0_PORT + 3:
		pm->gpe0_enable =
			pm_set_byte(pm->gpe0_enable, port - (LAYOUT_GPE0_PORT + 2u), value);
		break;
	case LAYOUT_RESET_PORT:
		return value == LAYOUT_RESET_VALUE ? PM_RESET : PM_NOTHING;
	default: /* a port number, not an enum: holes swallow */
		break;
	}
	return PM_NOTHING;
}

enum pm_action pm_write(struct pm *pm, uint16_t port, uint32_t size_bytes, uint32_t value)
{
	enum pm_action action = PM_NOTHING;

	for (uint32_t i = 0; i < size_bytes && action == PM_NOTHING; i++) {
		action = pm_write_byte(pm, (uint16_t)(port + i), (uint8_t)(value >> 8 * i));
	}
	pm_update(pm);
	return action;
}

void pm_power_button(struct pm *pm)
{
	pm->pm1_status |= PM1_POWER_BUTTON;
	pm_update(pm);
}

void pm_gpe(struct pm *pm, uint32_t number)
{
	CHECK(number < 16);
	pm->gpe0_status |= (uint16_t)(1u << number);
	pm_update(pm);
}

void pm_save(const struct pm *pm, struct save *s, uint64_t now_ns)
{
	save_u16(s, pm->pm1_status);
	save_u16(s, pm->pm1_enable);
	save_u16(s, pm->pm1_control);
	save_u16(s, pm->gpe0_status);
	save_u16(s, pm->gpe0_enable);
	save_u64(s, now_ns - pm->timer_base_ns);
}

int pm_load(struct pm *pm, struct load *l, uint64_t now_ns)
{
	pm_reset(pm, now_ns);
	pm->pm1_status = load_u16(l) & PM1_STATUS_MASK;
	pm->pm1_enable = load_u16(l) & PM1_STATUS_MASK;
	pm->pm1_control = (uint16_t)((load_u16(l) & ~PM1_CNT_SLP_EN) | PM1_CNT_SCI_EN);
	pm->gpe0_status = load_u16(l);
	pm->gpe0_enable = load_u16(l);
	pm->timer_base_ns = now_ns - load_u64(l);
	if (load_error(l) != 0) {
		pm_reset(pm, now_ns);
		return load_error(l);
	}
	pm_update(pm);
	return 0;
}
