/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_VSP_NETVSP_TAP_H
#define HV_VSP_NETVSP_TAP_H

/*
 * tap - what an adapter asks of the kernel's tap interface besides reading and writing frames.
 *
 * The door to <linux/if_tun.h>. A table, so that tests can put a socket in the tap's place. None
 * of it needs a capability: whoever attached the descriptor (TUNSETIFF) did what needs one.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"

struct errbuf;

struct tap_ops {
	/*
	 * Check that @fd is a tap with vnet headers, make it non-blocking, set the header's size
	 * (12 bytes) and turn the offloads off. Returns 0; -errno with the text in @eb.
	 */
	int (*setup)(int fd, struct errbuf *eb);
	/* Which frames the kernel may leave for us to finish: without a checksum; with @tso4 or
	 * @tso6 (not without @checksum) also several segments in one. Returns 0; -errno. */
	int (*offload)(int fd, bool checksum, bool tso4, bool tso6);
	/* Drop what is neither for @mac nor multicast, in the kernel; NULL = take all. Returns 0;
	 * -errno. */
	int (*filter)(int fd, const uint8_t *mac);
};

/* tap_linux() - the real one. */
const struct tap_ops *tap_linux(void);

#endif
