/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_LIB_TINY_GUEST_H
#define TESTS_LIB_TINY_GUEST_H

/*
 * tiny_guest - a kernel of 64 bytes that writes the pages it is told to, for tests with a real KVM.
 *
 * It waits for a command in the page at TINY_COMMAND_GPA, writes one word into each of some pages,
 * says a byte on the serial port if it is told to, and waits again, or begins anew with the next
 * value. One VP, 32 bits, no paging, no interrupts: needs nothing of the Hyper-V interface.
 */

#include <stdint.h>

#define TINY_COMMAND_GPA 0x101000ull /* the only page it writes besides those of the command */
#define TINY_FREE_GPA 0x102000ull    /* from here on memory is the test's */

enum tiny_op { TINY_WAIT, TINY_ONCE, TINY_FOREVER };

/* Live: the guest reads and writes it. After TINY_ONCE it sets op to TINY_WAIT; with TINY_FOREVER
 * it adds 1 to value after each pass. Set op last. */
struct tiny_command {
	_Atomic uint32_t op;
	uint32_t gpa; /* of the first page */
	uint32_t count;
	uint32_t stride_bytes;
	_Atomic uint32_t value; /* what it writes */
	uint32_t serial;        /* a byte for the console after each pass; 0 = none */
};

/* tiny_guest_kernel() - a file with it, for partition_cfg.kernel_fd. Aborts on failure. */
int tiny_guest_kernel(void);

#endif
