/* SPDX-License-Identifier: Apache-2.0 */
#include "hv/machine/machine.h"

#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "hv/machine/layout.h"
#include "hv/save/save.h"

#define MACHINE_SAVE_VERSION 1u

static void machine_uart_output(void *arg, uint8_t byte)
{
	struct machine *m = arg;

	m->ops->console(m->arg, byte);
}

static void machine_uart_irq(void *arg, bool level)
{
	struct machine *m = arg;

	m->ops->irq(m->arg, LAYOUT_COM1_IRQ, level);
}

static void machine_sci(void *arg, bool level)
{
	struct machine *m = arg;

	m->ops->irq(m->arg, LAYOUT_SCI_IRQ, level);
}

void machine_init(struct machine *m, const struct machine_ops *ops, void *arg)
{
	const struct uart_cfg uart = {
		.output = machine_uart_output,
		.irq = machine_uart_irq,
		.arg = m,
	};
	const struct pm_cfg pm = {.sci = machine_sci, .arg = m};

	*m = (struct machine){.ops = ops, .arg = arg};
	CHECK(pthread_mutex_init(&m->lock, NULL) == 0);
	uart_init(&m->com1, &uart);
	pm_init(&m->pm, &pm, clock_now_ns());
	rtc_reset(&m->rtc);
}

void machine_fini(struct machine *m)
{
	CHECK(pthread_mutex_destroy(&m->lock) == 0);
}

static void machine_lock(struct machine *m)
{
	CHECK(pthread_mutex_lock(&m->lock) == 0);
}

static void machine_unlock(struct machine *m)
{
	CHECK(pthread_mutex_unlock(&m->lock) == 0);
}

void machine_reset(struct machine *m)
{
	machine_lock(m);
	uart_reset(&m->com1);
	pm_reset(&m->pm, clock_now_ns());
	/* The clock goes on: a reset does not take the battery out. */
	machine_unlock(m);
}

static uint32_t machine_in(struct machine *m, uint16_t port, uint32_t size_bytes)
{
	if (port >= LAYOUT_COM1_PORT && port < LAYOUT_COM1_PORT + 8 && size_bytes == 1) {
		return uart_read(&m->com1, port - LAYOUT_COM1_PORT);
	}
	if (pm_owns(port)) {
		return pm_read(&m->pm, port, size_bytes, clock_now_ns());
	}
	if (port == LAYOUT_RTC_PORT + 1 && size_bytes == 1) {
		return rtc_read(&m->rtc, clock_wall_ns());
	}
	m->stray_count++;
	return UINT32_MAX;
}

static void machine_out(struct machine *m, uint16_t port, uint32_t size_bytes, uint32_t value)
{
	if (port >= LAYOUT_COM1_PORT && port < LAYOUT_COM1_PORT + 8 && size_bytes == 1) {
		uart_write(&m->com1, port - LAYOUT_COM1_PORT, (uint8_t)value);
		return;
	}
	if (pm_owns(port)) {
		switch (pm_write(&m->pm, port, size_bytes, value)) {
		case PM_POWER_OFF:
			m->ops->power_off(m->arg);
			return;
		case PM_RESET:
			m->ops->reset(m->arg);
			return;
		case PM_NOTHING:
			return;
		}
	}
	if (port == LAYOUT_RTC_PORT && size_bytes == 1) {
		rtc_select(&m->rtc, (uint8_t)value);
		return;
	}
	if (port == LAYOUT_RTC_PORT + 1 && size_bytes == 1) {
		rtc_write(&m->rtc, (uint8_t)value, clock_wall_ns());
		return;
	}
	m->stray_count++;
}

void machine_io(struct machine *m, uint16_t port, bool is_in, uint32_t size_bytes, uint32_t count,
                uint8_t *data)
{
	CHECK(size_bytes <= 4);
	machine_lock(m);
	for (uint32_t i = 0; i < count; i++, data += size_bytes) {
		uint32_t value = 0;

		/* x86 to x86: the exit's bytes are little-endian, and so are we (checked in
		 * shm). */
		if (is_in) {
			value = machine_in(m, port, size_bytes);
			memcpy(data, &value, size_bytes);
		} else {
			memcpy(&value, data, size_bytes);
			machine_out(m, port, size_bytes, value);
		}
	}
	machine_unlock(m);
}

void machine_mmio(struct machine *m, uint64_t gpa, bool is_write, uint32_t size_bytes,
                  uint8_t *data)
{
	(void)gpa;
	CHECK(size_bytes <= 8);
	machine_lock(m);
	m->stray_count++;
	machine_unlock(m);
	if (!is_write) {
		memset(data, 0xff, size_bytes);
	}
}

size_t machine_console_input(struct machine *m, const void *buf, size_t len_bytes)
{
	size_t room;

	machine_lock(m);
	room = uart_room(&m->com1);
	if (len_bytes > room) {
		len_bytes = room;
	}
	uart_input(&m->com1, buf, len_bytes);
	machine_unlock(m);
	return len_bytes;
}

void machine_power_button(struct machine *m)
{
	machine_lock(m);
	pm_power_button(&m->pm);
	machine_unlock(m);
}

void machine_generation_changed(struct machine *m)
{
	machine_lock(m);
	pm_gpe(&m->pm, LAYOUT_GPE_GENERATION);
	machine_unlock(m);
}

void machine_save(struct machine *m, struct save *s)
{
	machine_lock(m);
	save_begin(s, "machine", MACHINE_SAVE_VERSION, true);
	uart_save(&m->com1, s);
	pm_save(&m->pm, s, clock_now_ns());
	rtc_save(&m->rtc, s);
	save_end(s);
	machine_unlock(m);
}

int machine_load(struct machine *m, struct load *l)
{
	int err = load_begin(l, "machine", MACHINE_SAVE_VERSION);

	if (err != 0) {
		return err;
	}
	machine_lock(m);
	err = uart_load(&m->com1, l);
	if (err == 0) {
		err = pm_load(&m->pm, l, clock_now_ns());
	}
	if (err == 0) {
		err = rtc_load(&m->rtc, l);
	}
	machine_unlock(m);
	if (err == 0) {
		load_end(l);
		err = load_error(l);
	}
	return err;
}
