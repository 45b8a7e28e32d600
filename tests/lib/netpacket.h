/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_LIB_NETPACKET_H
#define TESTS_LIB_NETPACKET_H

/* netpacket - Ethernet frames with IP and TCP or UDP for tests, and plain checksums to judge by. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct netpacket {
	bool ip6, udp;
	uint32_t tags;        /* VLAN tags, ..2 */
	uint32_t ip_options;  /* bytes, multiple of 4; with ip6 an extension header, of 8 */
	uint32_t tcp_options; /* bytes, multiple of 4 */
	uint32_t payload;     /* bytes, a pattern */
	uint16_t ports[2];    /* 0 = 1000, 2000 */
	uint8_t to[6];        /* 0 = 02:00:00:00:00:02 */
	uint8_t from[6];      /* 0 = 02:00:00:00:00:01 */
	uint8_t ip4_to[4], ip4_from[4]; /* 0 = 10.0.0.2, 10.0.0.1 */
};

/* netpacket_build() - with all checksums right. Returns the length. */
uint32_t netpacket_build(const struct netpacket *p, uint8_t *frame);

/* netpacket_sum() - ones' complement sum of big-endian words added to @sum; 0xffff = "right". */
uint16_t netpacket_sum(const uint8_t *buf, size_t len_bytes, uint16_t sum);

/* netpacket_ok() - are the checksums of this frame (IPv4 header, TCP or UDP) right? */
bool netpacket_ok(const uint8_t *frame, uint32_t len);

/* netpacket_pseudo_put() - put only the pseudo header's sum into the checksum field, as senders do
 * that leave the rest to the card. */
void netpacket_pseudo_put(uint8_t *frame, uint32_t l3_offset, uint32_t l4_offset, uint32_t len);

#endif
