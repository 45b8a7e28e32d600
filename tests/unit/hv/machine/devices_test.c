/* SPDX-License-Identifier: Apache-2.0 */
/* uart, pm and rtc: register sequences as drivers write them, save and load. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/attr.h"
#include "base/clock.h"
#include "hv/machine/layout.h"
#include "hv/machine/pm.h"
#include "hv/machine/rtc.h"
#include "hv/machine/uart.h"
#include "hv/save/save.h"
#include "tests/lib/test.h"

/* ---- what the devices say ---- */

struct lines {
	char out[256];
	size_t out_bytes;
	bool irq;
	unsigned changes;
};

static void lines_output(void *arg, uint8_t byte)
{
	struct lines *l = arg;

	if (l->out_bytes < sizeof(l->out)) {
		l->out[l->out_bytes++] = (char)byte;
	}
}

static void lines_irq(void *arg, bool level)
{
	struct lines *l = arg;

	assert_true(level != l->irq); /* only changes are told */
	l->irq = level;
	l->changes++;
}

static void uart_new(struct uart *u, struct lines *l)
{
	*l = (struct lines){0};
	uart_init(u, &(struct uart_cfg){.output = lines_output, .irq = lines_irq, .arg = l});
}

/* ---- save and load of one device, with every truncation of the section ---- */

struct device {
	void (*save)(const void *device, struct save *s);
	int (*load)(void *device, struct load *l);
};

static void blob_of(const struct device *d, const void *device, uint8_t **buf, size_t *len)
{
	struct save s;

	save_init(&s);
	save_begin(&s, "x", 1, true);
	d->save(device, &s);
	save_end(&s);
	assert_int_equal(save_finish(&s, buf, len), 0);
}

static int load_bytes_of(const struct device *d, void *device, const uint8_t *payload, size_t len)
{
	struct save s;
	struct load l;
	uint8_t *buf;
	size_t bytes;
	int err;

	save_init(&s);
	save_begin(&s, "x", 1, true);
	save_bytes(&s, payload, len);
	save_end(&s);
	assert_int_equal(save_finish(&s, &buf, &bytes), 0);
	assert_int_equal(load_init(&l, buf, bytes, NULL), 0);
	assert_int_equal(load_begin(&l, "x", 1), 0);
	err = d->load(device, &l);
	if (err == 0) {
		load_end(&l);
		err = load_error(&l);
	}
	free(buf);
	return err;
}

/* Save @from; load it into @to; then every shorter and one longer section must be refused. */
static void save_load(const struct device *d, const void *from, void *to)
{
	const size_t header = 56;
	uint8_t *buf;
	size_t len;

	blob_of(d, from, &buf, &len);
	for (size_t cut = 0; cut < len - header; cut++) {
		assert_int_not_equal(load_bytes_of(d, to, buf + header, cut), 0);
	}
	assert_int_equal(load_bytes_of(d, to, buf + header, len - header), 0);
	free(buf);
}

static void save_uart(const void *u, struct save *s)
{
	uart_save(u, s);
}

static int load_uart(void *u, struct load *l)
{
	return uart_load(u, l);
}

static void save_pm(const void *pm, struct save *s)
{
	pm_save(pm, s, 5 * NS_PER_S);
}

static int load_pm(void *pm, struct load *l)
{
	return pm_load(pm, l, 1000 * NS_PER_S);
}

static void save_rtc(const void *rtc, struct save *s)
{
	rtc_save(rtc, s);
}

static int load_rtc(void *rtc, struct load *l)
{
	return rtc_load(rtc, l);
}

/* ---- uart ---- */

/* What Linux's 8250 driver does to find a port: the scratch register and the loop-back mode. */
static void a_driver_recognises_the_chip(void **state)
{
	struct lines l;
	struct uart u;

	(void)state;
	uart_new(&u, &l);
	uart_write(&u, 1, 0);
	assert_int_equal(uart_read(&u, 1), 0);
	uart_write(&u, 1, 0x0f);
	assert_int_equal(uart_read(&u, 1) & 0x0f, 0x0f);
	uart_write(&u, 1, 0);
	uart_write(&u, 4, 0x10 | 0x0a);                  /* loop, OUT2, RTS */
	assert_int_equal(uart_read(&u, 6) & 0xf0, 0x90); /* DCD, CTS */
	uart_write(&u, 4, 0);
	assert_int_equal(uart_read(&u, 6) & 0xf0, 0xb0);
	uart_write(&u, 2, 1);
	assert_int_equal(uart_read(&u, 2) >> 6, 3); /* 16550A: a FIFO that works */
	uart_write(&u, 2, 0);
	assert_int_equal(uart_read(&u, 2) >> 6, 0);
	uart_write(&u, 7, 0x5a);
	assert_int_equal(uart_read(&u, 7), 0x5a);
	uart_write(&u, 3, 0x83); /* the divisor, behind DLAB */
	uart_write(&u, 0, 0x12);
	uart_write(&u, 1, 0x34);
	assert_int_equal(uart_read(&u, 0), 0x12);
	assert_int_equal(uart_read(&u, 1), 0x34);
	uart_write(&u, 3, 0x03);
	assert_int_equal(uart_read(&u, 1), 0);
	assert_int_equal(l.out_bytes, 0);
}

static void output_leaves_at_once_and_asks_for_more(void **state)
{
	struct lines l;
	struct uart u;

	(void)state;
	uart_new(&u, &l);
	assert_int_equal(uart_read(&u, 5), 0x60);
	uart_write(&u, 0, 'h');
	uart_write(&u, 0, 'i');
	assert_int_equal(l.out_bytes, 2);
	assert_memory_equal(l.out, "hi", 2);
	assert_int_equal(l.changes, 0); /* not asked for */
	uart_write(&u, 4, 0x08);        /* OUT2 */
	uart_write(&u, 1, 0x02);
	assert_true(l.irq);
	assert_int_equal(uart_read(&u, 2) & 0x0f, 0x02);
	assert_false(l.irq); /* reading IIR acknowledges */
	assert_int_equal(uart_read(&u, 2) & 0x0f, 0x01);
	uart_write(&u, 0, '!');
	assert_true(l.irq);
	uart_write(&u, 4, 0); /* OUT2 gates the line */
	assert_false(l.irq);
}

static void input_waits_and_an_overrun_is_told_once(void **state)
{
	uint8_t many[UART_FIFO_BYTES + 3];
	struct lines l;
	struct uart u;

	(void)state;
	for (size_t i = 0; i < sizeof(many); i++) {
		many[i] = (uint8_t)i;
	}
	uart_new(&u, &l);
	uart_write(&u, 4, 0x08);
	uart_write(&u, 1, 0x05);
	assert_int_equal(uart_room(&u), UART_FIFO_BYTES);
	uart_input(&u, many, 3);
	assert_true(l.irq);
	assert_int_equal(uart_room(&u), UART_FIFO_BYTES - 3);
	assert_int_equal(uart_read(&u, 2) & 0x0f, 0x04);
	assert_int_equal(uart_read(&u, 5) & 0x01, 0x01);
	for (uint8_t i = 0; i < 3; i++) {
		assert_int_equal(uart_read(&u, 0), i);
	}
	assert_false(l.irq);
	assert_int_equal(uart_read(&u, 0), 0); /* empty */
	uart_input(&u, many, sizeof(many));
	assert_int_equal(uart_read(&u, 2) & 0x0f, 0x06);
	assert_int_equal(uart_read(&u, 5) & 0x03, 0x03);
	assert_int_equal(uart_read(&u, 5) & 0x03, 0x01);
	for (size_t i = 0; i < UART_FIFO_BYTES; i++) {
		assert_int_equal(uart_read(&u, 0), many[i]);
	}
	uart_input(&u, many, 5);
	uart_write(&u, 2, 0x03); /* clear the receive FIFO */
	assert_int_equal(uart_room(&u), UART_FIFO_BYTES);
	assert_false(l.irq);
	uart_write(&u, 4, 0x18); /* looped back */
	uart_write(&u, 0, 'x');
	assert_int_equal(uart_read(&u, 0), 'x');
	assert_int_equal(l.out_bytes, 0);
}

static void a_port_continues_after_a_load(void **state)
{
	const struct device d = {save_uart, load_uart};
	struct lines l;
	struct lines l2;
	struct uart u;
	struct uart u2;

	(void)state;
	uart_new(&u, &l);
	uart_write(&u, 3, 0x80);
	uart_write(&u, 0, 9);
	uart_write(&u, 3, 3);
	uart_write(&u, 4, 0x0b);
	uart_write(&u, 1, 5);
	uart_write(&u, 7, 0x77);
	uart_input(&u, (const uint8_t *)"abc", 3);
	(void)uart_read(&u, 0); /* the ring does not start at 0 */
	uart_new(&u2, &l2);
	save_load(&d, &u, &u2);
	assert_true(l2.irq); /* the line is said again */
	assert_int_equal(uart_read(&u2, 0), 'b');
	assert_int_equal(uart_read(&u2, 0), 'c');
	assert_false(l2.irq);
	assert_int_equal(uart_read(&u2, 7), 0x77);
	assert_int_equal(uart_read(&u2, 4), 0x0b);
	assert_int_equal(u2.dll, 9);

	/* A count beyond the FIFO, at its place in the section: 7 registers, 2 flags. */
	uint8_t payload[13] = {0};

	payload[9] = UART_FIFO_BYTES + 1;
	assert_int_not_equal(load_bytes_of(&d, &u2, payload, sizeof(payload)), 0);
	assert_int_equal(u2.count, 0);
}

/* ---- pm ---- */

static void pm_new(struct pm *pm, struct lines *l)
{
	*l = (struct lines){0};
	pm_init(pm, &(struct pm_cfg){.sci = lines_irq, .arg = l}, 5 * NS_PER_S);
}

static void the_power_button_raises_the_sci_until_it_is_cleared(void **state)
{
	struct lines l;
	struct pm pm;

	(void)state;
	pm_new(&pm, &l);
	assert_int_equal(pm_read(&pm, LAYOUT_PM1_CNT_PORT, 2, 0), 1); /* ACPI mode */
	pm_power_button(&pm);
	assert_false(l.irq); /* not enabled yet, but noted */
	assert_int_equal(pm_read(&pm, LAYOUT_PM1_EVT_PORT, 2, 0), 0x100);
	assert_int_equal(pm_write(&pm, LAYOUT_PM1_EVT_PORT + 2, 2, 0x100), PM_NOTHING);
	assert_true(l.irq);
	assert_int_equal(pm_read(&pm, LAYOUT_PM1_EVT_PORT, 4, 0), 0x01000100);
	assert_int_equal(pm_write(&pm, LAYOUT_PM1_EVT_PORT, 2, 0xfeff), PM_NOTHING);
	assert_true(l.irq); /* write one to clear: that bit was not written */
	assert_int_equal(pm_write(&pm, LAYOUT_PM1_EVT_PORT, 2, 0x100), PM_NOTHING);
	assert_false(l.irq);
	assert_int_equal(pm_write(&pm, LAYOUT_PM1_EVT_PORT + 2, 2, 0xffff), PM_NOTHING);
	assert_int_equal(pm_read(&pm, LAYOUT_PM1_EVT_PORT + 2, 2, 0), 0x8731);
}

static void a_general_event_works_byte_by_byte(void **state)
{
	struct lines l;
	struct pm pm;

	(void)state;
	pm_new(&pm, &l);
	assert_int_equal(pm_write(&pm, LAYOUT_GPE0_PORT + 2, 1, 1), PM_NOTHING);
	assert_int_equal(pm_write(&pm, LAYOUT_GPE0_PORT + 3, 1, 0x80), PM_NOTHING);
	pm_gpe(&pm, 0);
	assert_true(l.irq);
	assert_int_equal(pm_read(&pm, LAYOUT_GPE0_PORT, 1, 0), 1);
	assert_int_equal(pm_write(&pm, LAYOUT_GPE0_PORT, 1, 1), PM_NOTHING);
	assert_false(l.irq);
	pm_gpe(&pm, 15);
	assert_true(l.irq);
	assert_int_equal(pm_read(&pm, LAYOUT_GPE0_PORT, 4, 0), 0x80018000);
	assert_int_equal(pm_write(&pm, LAYOUT_GPE0_PORT + 1, 1, 0x80), PM_NOTHING);
	assert_false(l.irq);
}

static void only_s5_with_the_enable_bit_turns_off(void **state)
{
	struct lines l;
	struct pm pm;

	(void)state;
	pm_new(&pm, &l);
	for (uint32_t v = 0; v <= 0xffff; v++) {
		bool off = (v & 0x2000) != 0 && (v >> 10 & 7) == LAYOUT_S5_TYPE;

		assert_int_equal(pm_write(&pm, LAYOUT_PM1_CNT_PORT, 2, v),
		                 off ? PM_POWER_OFF : PM_NOTHING);
		/* SCI_EN stays, SLP_EN reads zero. */
		assert_int_equal(pm_read(&pm, LAYOUT_PM1_CNT_PORT, 2, 0) & 0x2001, 1);
	}
	/* As two bytes: the type first, then the upper one with type and enable. */
	assert_int_equal(pm_write(&pm, LAYOUT_PM1_CNT_PORT + 1, 1, 0x34), PM_POWER_OFF);
	for (uint32_t v = 0; v < 256; v++) {
		assert_int_equal(pm_write(&pm, LAYOUT_RESET_PORT, 1, v),
		                 v == LAYOUT_RESET_VALUE ? PM_RESET : PM_NOTHING);
	}
}

static void the_timer_counts_3579545_a_second_for_years(void **state)
{
	static const uint64_t seconds[] = {0, 1, 60, 5154, 86400, 40ull * 366 * 86400};
	struct lines l;
	struct pm pm;

	(void)state;
	pm_new(&pm, &l);
	for (size_t i = 0; i < ARRAY_LEN(seconds); i++) {
		uint64_t now = (5 + seconds[i]) * NS_PER_S;

		assert_int_equal(pm_read(&pm, LAYOUT_PM_TMR_PORT, 4, now),
		                 (uint32_t)(seconds[i] * 3579545));
	}
	assert_int_equal(pm_read(&pm, LAYOUT_PM_TMR_PORT, 4, 5 * NS_PER_S + NS_PER_S / 2), 1789772);
	assert_int_equal(pm_write(&pm, LAYOUT_PM_TMR_PORT, 4, 77), PM_NOTHING);
	assert_int_equal(pm_read(&pm, LAYOUT_PM_TMR_PORT, 4, 5 * NS_PER_S), 0);
}

static void ports_are_owned_exactly(void **state)
{
	struct lines l;
	struct pm pm;

	(void)state;
	pm_new(&pm, &l);
	for (uint32_t port = 0; port <= 0xffff; port++) {
		bool mine = (port >= 0x400 && port <= 0x40f) || port == 0x433;

		assert_int_equal(pm_owns((uint16_t)port), mine);
		if (mine) { /* any access, also over the end, is harmless */
			(void)pm_read(&pm, (uint16_t)port, 4, 5 * NS_PER_S);
			assert_int_equal(pm_write(&pm, (uint16_t)port, 4, 0), PM_NOTHING);
		}
	}
}

static void power_management_continues_after_a_load(void **state)
{
	const struct device d = {save_pm, load_pm};
	struct lines l;
	struct lines l2;
	struct pm pm;
	struct pm pm2;

	(void)state;
	l = (struct lines){0};
	pm_init(&pm, &(struct pm_cfg){.sci = lines_irq, .arg = &l}, 2 * NS_PER_S);
	assert_int_equal(pm_write(&pm, LAYOUT_PM1_EVT_PORT + 2, 2, 0x120), PM_NOTHING);
	assert_int_equal(pm_write(&pm, LAYOUT_GPE0_PORT + 2, 2, 3), PM_NOTHING);
	pm_power_button(&pm);
	pm_new(&pm2, &l2);
	save_load(&d, &pm, &pm2); /* saved at 5 s, loaded at 1000 s of another clock */
	assert_true(l2.irq);
	assert_int_equal(pm_read(&pm2, LAYOUT_PM1_EVT_PORT, 4, 0), 0x01200100);
	assert_int_equal(pm_read(&pm2, LAYOUT_GPE0_PORT, 4, 0), 0x00030000);
	assert_int_equal(pm_read(&pm2, LAYOUT_PM_TMR_PORT, 4, 1000 * NS_PER_S), 3 * 3579545);
}

/* ---- rtc ---- */

#define WALL_NS (1709210096ull * NS_PER_S) /* 2024-02-29 12:34:56, a Thursday */

static uint8_t rtc_get(struct rtc *rtc, uint8_t index)
{
	rtc_select(rtc, index);
	return rtc_read(rtc, WALL_NS);
}

static void rtc_put(struct rtc *rtc, uint8_t index, uint8_t value)
{
	rtc_select(rtc, index);
	rtc_write(rtc, value, WALL_NS);
}

static void the_clock_tells_the_date_in_every_mode(void **state)
{
	struct rtc rtc;

	(void)state;
	rtc_reset(&rtc);
	assert_int_equal(rtc_get(&rtc, 0x0b), 0x02); /* BCD, 24 hours */
	assert_int_equal(rtc_get(&rtc, 0), 0x56);
	assert_int_equal(rtc_get(&rtc, 2), 0x34);
	assert_int_equal(rtc_get(&rtc, 4), 0x12);
	assert_int_equal(rtc_get(&rtc, 6), 5);
	assert_int_equal(rtc_get(&rtc, 7), 0x29);
	assert_int_equal(rtc_get(&rtc, 8), 0x02);
	assert_int_equal(rtc_get(&rtc, 9), 0x24);
	assert_int_equal(rtc_get(&rtc, 0x32), 0x20);
	assert_int_equal(rtc_get(&rtc, 0x0a) & 0x80, 0); /* no update in progress */
	assert_int_equal(rtc_get(&rtc, 0x0c), 0);
	assert_int_equal(rtc_get(&rtc, 0x0d), 0x80);
	rtc_put(&rtc, 0x0b, 0x06); /* binary */
	assert_int_equal(rtc_get(&rtc, 0), 56);
	assert_int_equal(rtc_get(&rtc, 9), 24);
	rtc_put(&rtc, 0x0b, 0x00);                /* 12 hours, BCD */
	assert_int_equal(rtc_get(&rtc, 4), 0x92); /* 12 pm */
}

/* As Linux sets the clock: SET, the fields, SET off. */
static void the_guest_can_set_it(void **state)
{
	struct rtc rtc;

	(void)state;
	rtc_reset(&rtc);
	rtc_put(&rtc, 0x0b, 0x82);
	rtc_put(&rtc, 9, 0x31);
	rtc_put(&rtc, 8, 0x12);
	rtc_put(&rtc, 7, 0x25);
	rtc_put(&rtc, 4, 0x23);
	rtc_put(&rtc, 2, 0x59);
	rtc_put(&rtc, 0, 0x58);
	assert_int_equal(rtc_get(&rtc, 9), 0x31); /* holds still while SET */
	rtc_put(&rtc, 0x0b, 0x02);
	assert_int_equal(rtc_get(&rtc, 9), 0x31);
	assert_int_equal(rtc_get(&rtc, 7), 0x25);
	assert_int_equal(rtc_get(&rtc, 6), 5); /* 2031-12-25 is a Thursday */
	rtc_select(&rtc, 0);
	assert_int_equal(rtc_read(&rtc, WALL_NS + NS_PER_S), 0x59);
	rtc_select(&rtc, 7);
	assert_int_equal(rtc_read(&rtc, WALL_NS + 2 * 60 * NS_PER_S), 0x26); /* and goes on */
}

static void alarms_and_memory_are_memory(void **state)
{
	static const uint8_t indices[] = {1, 3, 5, 0x0e, 0x31, 0x33, 0x7f};
	struct rtc rtc;

	(void)state;
	rtc_reset(&rtc);
	for (size_t i = 0; i < ARRAY_LEN(indices); i++) {
		rtc_put(&rtc, indices[i], (uint8_t)(0xa0 + i));
		assert_int_equal(rtc_get(&rtc, indices[i]), 0xa0 + i);
	}
	rtc_put(&rtc, 0x8e, 0x11); /* bit 7 masks NMI on a PC: not part of the index */
	assert_int_equal(rtc_get(&rtc, 0x0e), 0x11);
	rtc_put(&rtc, 0x0d, 0); /* read only */
	assert_int_equal(rtc_get(&rtc, 0x0d), 0x80);
}

/* Whatever digits a guest writes, its state can be saved and loaded again. */
static void a_senseless_date_never_makes_a_state_unloadable(void **state)
{
	static const uint8_t fields[] = {0, 2, 4, 7, 8, 9};
	static const uint8_t modes[] = {0x00, 0x02, 0x04, 0x06};
	static const uint8_t values[] = {0x00, 0x01, 0x7f, 0x99, 0xff};
	const struct device d = {save_rtc, load_rtc};

	(void)state;
	for (size_t m = 0; m < ARRAY_LEN(modes); m++) {
		for (size_t v = 0; v < ARRAY_LEN(values); v++) {
			struct rtc rtc;
			struct rtc back;
			uint8_t *buf;
			size_t len;

			rtc_reset(&rtc);
			rtc_put(&rtc, 0x0b, modes[m] | 0x80);
			for (size_t f = 0; f < ARRAY_LEN(fields); f++) {
				rtc_put(&rtc, fields[f], values[v]);
			}
			rtc_put(&rtc, 0x0b, modes[m]);
			blob_of(&d, &rtc, &buf, &len);
			assert_int_equal(load_bytes_of(&d, &back, buf + 56, len - 56), 0);
			assert_int_equal(back.offset_s, rtc.offset_s);
			free(buf);
		}
	}
}

static void the_clock_continues_after_a_load(void **state)
{
	const struct device d = {save_rtc, load_rtc};
	struct rtc rtc;
	struct rtc back;

	(void)state;
	rtc_reset(&rtc);
	rtc.offset_s = -12345;
	rtc_put(&rtc, 0x40, 0x99);
	rtc_put(&rtc, 0x0b, 0x86);
	rtc_put(&rtc, 9, 50);
	save_load(&d, &rtc, &back);
	assert_int_equal(back.offset_s, -12345);
	assert_int_equal(rtc_get(&back, 0x40), 0x99);
	assert_int_equal(rtc_get(&back, 9), 50);
	rtc.offset_s = 3155760001; /* no guest can do that */

	uint8_t *buf;
	size_t len;

	blob_of(&d, &rtc, &buf, &len);
	assert_int_equal(load_bytes_of(&d, &back, buf + 56, len - 56), -EBADMSG);
	assert_int_equal(back.offset_s, 0);
	free(buf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_driver_recognises_the_chip),
		cmocka_unit_test(output_leaves_at_once_and_asks_for_more),
		cmocka_unit_test(input_waits_and_an_overrun_is_told_once),
		cmocka_unit_test(a_port_continues_after_a_load),
		cmocka_unit_test(the_power_button_raises_the_sci_until_it_is_cleared),
		cmocka_unit_test(a_general_event_works_byte_by_byte),
		cmocka_unit_test(only_s5_with_the_enable_bit_turns_off),
		cmocka_unit_test(the_timer_counts_3579545_a_second_for_years),
		cmocka_unit_test(ports_are_owned_exactly),
		cmocka_unit_test(power_management_continues_after_a_load),
		cmocka_unit_test(the_clock_tells_the_date_in_every_mode),
		cmocka_unit_test(the_guest_can_set_it),
		cmocka_unit_test(alarms_and_memory_are_memory),
		cmocka_unit_test(a_senseless_date_never_makes_a_state_unloadable),
		cmocka_unit_test(the_clock_continues_after_a_load),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
