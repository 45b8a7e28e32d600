/* SPDX-License-Identifier: Apache-2.0 */
#include "hv/machine/uart.h"

#include <string.h>

#include "base/check.h"
#include "hv/save/save.h"

#define IER_RX 0x01u
#define IER_THR 0x02u
#define IER_LINE 0x04u
#define FCR_ENABLE 0x01u
#define FCR_CLEAR_RX 0x02u
#define LCR_DLAB 0x80u
#define MCR_OUT2 0x08u /* gates the interrupt line on a PC */
#define MCR_LOOP 0x10u
#define LSR_DATA 0x01u
#define LSR_OVERRUN 0x02u
#define LSR_THR_EMPTY 0x20u
#define LSR_TX_EMPTY 0x40u
#define IIR_NONE 0x01u
#define IIR_THR 0x02u
#define IIR_RX 0x04u
#define IIR_LINE 0x06u
#define IIR_FIFO 0xc0u

void uart_init(struct uart *u, const struct uart_cfg *cfg)
{
	*u = (struct uart){.cfg = *cfg};
	uart_reset(u);
}

void uart_reset(struct uart *u)
{
	struct uart_cfg cfg = u->cfg;

	*u = (struct uart){.cfg = cfg, .dll = 1};
}

static uint8_t uart_iir(const struct uart *u)
{
	uint8_t fifo = (u->fcr & FCR_ENABLE) != 0 ? IIR_FIFO : 0;

	if ((u->ier & IER_LINE) != 0 && u->overrun) {
		return fifo | IIR_LINE;
	}
	if ((u->ier & IER_RX) != 0 && u->count != 0) {
		return fifo | IIR_RX;
	}
	if ((u->ier & IER_THR) != 0 && u->thr_pending) {
		return fifo | IIR_THR;
	}
	return fifo | IIR_NONE;
}

static void uart_update(struct uart *u)
{
	bool level = (uart_iir(u) & IIR_NONE) == 0 && (u->mcr & MCR_OUT2) != 0;

	if (level != u->irq_level) {
		u->irq_level = level;
		u->cfg.irq(u->cfg.arg, level);
	}
}

static uint8_t uart_pop(struct uart *u)
{
	uint8_t byte;

	if (u->count == 0) {
		return 0;
	}
	byte = u->fifo[u->head];
	u->head = (u->head + 1) % UART_FIFO_BYTES;
	u->count--;
	return byte;
}

static uint8_t uart_msr(const struct uart *u)
{
	if ((u->mcr & MCR_LOOP) != 0) {
		/* DTR, RTS, OUT1, OUT2 come back as DSR, CTS, RI, DCD: how drivers find the
		 * chip. */
		return (uint8_t)((u->mcr & 0x01u) << 5 | (u->mcr & 0x02u) << 3 |
		                 (u->mcr & 0x04u) << 4 | (u->mcr & 0x08u) << 4);
	}
	return 0xb0; /* carrier, data set ready, clear to send */
}

uint8_t uart_read(struct uart *u, uint32_t offset)
{
	uint8_t value = 0;

	switch (offset & 7u) {
	case 0:
		value = (u->lcr & LCR_DLAB) != 0 ? u->dll : uart_pop(u);
		break;
	case 1:
		value = (u->lcr & LCR_DLAB) != 0 ? u->dlm : u->ier;
		break;
	case 2:
		value = uart_iir(u);
		if ((value & 0x0fu) == IIR_THR) {
			u->thr_pending = false;
		}
		break;
	case 3:
		value = u->lcr;
		break;
	case 4:
		value = u->mcr;
		break;
	case 5:
		value = LSR_THR_EMPTY | LSR_TX_EMPTY | (u->count != 0 ? LSR_DATA : 0) |
		        (u->overrun ? LSR_OVERRUN : 0);
		u->overrun = false;
		break;
	case 6:
		value = uart_msr(u);
		break;
	case 7:
		value = u->scr;
		break;
	}
	uart_update(u);
	return value;
}

static void uart_transmit(struct uart *u, uint8_t byte)
{
	if ((u->mcr & MCR_LOOP) != 0) {
		uart_input(u, &byte, 1);
	} else {
		u->cfg.output(u->cfg.arg, byte);
	}
	u->thr_pending = true;
}

void uart_write(struct uart *u, uint32_t offset, uint8_t value)
{
	switch (offset & 7u) {
	case 0:
		if ((u->lcr & LCR_DLAB) != 0) {
			u->dll = value;
		} else {
			uart_transmit(u, value);
		}
		break;
	case 1:
		if ((u->lcr & LCR_DLAB) != 0) {
			u->dlm = value;
		} else {
			/* Enabling the interrupt with an empty transmitter raises it. */
			if ((value & IER_THR) != 0 && (u->ier & IER_THR) == 0) {
				u->thr_pending = true;
			}
			u->ier = value & 0x0fu;
		}
		break;
	case 2:
		u->fcr = value & (uint8_t)~FCR_CLEAR_RX;
		if ((value & FCR_CLEAR_RX) != 0) {
			u->count = 0;
		}
		break;
	case 3:
		u->lcr = value;
		break;
	case 4:
		u->mcr = value & 0x1fu;
		break;
	case 7:
		u->scr = value;
		break;
	}
	uart_update(u);
}

size_t uart_room(const struct uart *u)
{
	return UART_FIFO_BYTES - u->count;
}

void uart_input(struct uart *u, const uint8_t *buf, size_t len_bytes)
{
	for (size_t i = 0; i < len_bytes; i++) {
		if (u->count == UART_FIFO_BYTES) {
			u->overrun = true;
			break;
		}
		u->fifo[(u->head + u->count) % UART_FIFO_BYTES] = buf[i];
		u->count++;
	}
	uart_update(u);
}

void uart_save(const struct uart *u, struct save *s)
{
	const uint8_t regs[] = {u->ier, u->fcr, u->lcr, u->mcr, u->scr, u->dll, u->dlm};

	save_bytes(s, regs, sizeof(regs));
	save_bool(s, u->thr_pending);
	save_bool(s, u->overrun);
	save_u32(s, u->count);
	for (uint32_t i = 0; i < u->count; i++) {
		save_u8(s, u->fifo[(u->head + i) % UART_FIFO_BYTES]);
	}
}

int uart_load(struct uart *u, struct load *l)
{
	uint8_t regs[7];

	uart_reset(u);
	load_bytes(l, regs, sizeof(regs));
	u->ier = regs[0] & 0x0fu;
	u->fcr = regs[1];
	u->lcr = regs[2];
	u->mcr = regs[3] & 0x1fu;
	u->scr = regs[4];
	u->dll = regs[5];
	u->dlm = regs[6];
	u->thr_pending = load_bool(l);
	u->overrun = load_bool(l);
	u->count = load_u32_max(l, UART_FIFO_BYTES, "uart fifo");
	load_bytes(l, u->fifo, u->count);
	if (load_error(l) != 0) {
		uart_reset(u);
		return load_error(l);
	}
	/* The level of the line lives in the interrupt controller's own state; say it once more. */
	u->irq_level = false;
	uart_update(u);
	return 0;
}
