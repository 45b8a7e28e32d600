/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_MACHINE_UART_H
#define HV_MACHINE_UART_H

/*
 * uart - a 16550A serial port, as COM1: registers and FIFOs only, no thread and no file.
 *
 * The owner holds its lock around every call. Output leaves at once through the callback (the
 * line is infinitely fast); input waits in a receive FIFO and the owner asks for room first.
 * Source: National Semiconductor PC16550D data sheet.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"

struct load;
struct save;

#define UART_FIFO_BYTES 64u /* more than the chip's 16, as a queue behind it */

struct uart_cfg {
	void (*output)(void *arg, uint8_t byte); /* called with the owner's lock */
	void (*irq)(void *arg, bool level);
	void *arg;
};

/* Embed; start with uart_init(). */
struct uart {
	struct uart_cfg cfg;
	uint8_t ier, fcr, lcr, mcr, scr;
	uint8_t dll, dlm;
	bool thr_pending; /* "transmitter empty" interrupt not yet acknowledged */
	bool overrun;
	bool irq_level;
	uint8_t fifo[UART_FIFO_BYTES];
	uint32_t head, count;
};

void uart_init(struct uart *u, const struct uart_cfg *cfg);

/* uart_reset() - power-on state; input that waits is dropped. */
void uart_reset(struct uart *u);

/* uart_read()/uart_write() - register @offset (0..7). */
uint8_t uart_read(struct uart *u, uint32_t offset);
void uart_write(struct uart *u, uint32_t offset, uint8_t value);

/* uart_room() - how many bytes uart_input() takes now. */
size_t uart_room(const struct uart *u);
void uart_input(struct uart *u, const uint8_t *buf, size_t len_bytes);

void uart_save(const struct uart *u, struct save *s);
MUST_USE int uart_load(struct uart *u, struct load *l);

#endif
