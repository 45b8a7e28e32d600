/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_WORKER_CONSOLE_H
#define HV_WORKER_CONSOLE_H

/*
 * console - COM1's other end: a log file of bounded size, and people attached to it.
 *
 * Output goes to the log and to every attached stream; one that lags behind by more than
 * 256 KiB is dropped.
 * Input of all streams goes to COM1 in the order it comes. Device thread only.
 */

#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"

struct console;
struct uring;

#define CONSOLE_STREAMS_MAX 4u
#define CONSOLE_LOG_BYTES_MAX (4u << 20) /* then the older half goes */

/* Input for the guest; returns how many bytes it took, 0 = none now (asked again soon). */
typedef size_t (*console_input_fn)(const void *buf, size_t len_bytes, void *arg);

/* @log_fd: a file opened for reading and writing, owned; -1 = no log. */
MUST_USE int console_create(struct uring *ring, int log_fd, console_input_fn fn, void *arg,
                            struct console **out);

/* console_destroy() - not from inside a completion. NULL is fine. */
void console_destroy(struct console *console);

/* console_output() - the guest wrote. */
void console_output(struct console *console, const uint8_t *buf, size_t len_bytes);

/* console_attach() - @stream_fd (a stream socket, taken on success) gets output and gives input.
 * Returns 0; -EBUSY CONSOLE_STREAMS_MAX are attached; -EAGAIN. */
MUST_USE int console_attach(struct console *console, int stream_fd);

#endif
