/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/netpacket.h"

#include <string.h>

static void put16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static uint32_t get16(const uint8_t *p)
{
	return (uint32_t)p[0] << 8 | p[1];
}

uint16_t netpacket_sum(const uint8_t *buf, size_t len_bytes, uint16_t sum)
{
	uint32_t s = sum;

	for (size_t i = 0; i < len_bytes; i++) {
		s += i % 2 == 0 ? (uint32_t)buf[i] << 8 : buf[i];
		s = (s & 0xffffu) + (s >> 16);
	}
	return (uint16_t)s;
}

static uint16_t netpacket_pseudo(const uint8_t *ip, uint32_t l4_bytes, uint8_t protocol)
{
	uint8_t tail[8] = {0};
	bool ip6 = ip[0] >> 4 == 6;
	uint16_t sum = ip6 ? netpacket_sum(ip + 8, 32, 0) : netpacket_sum(ip + 12, 8, 0);

	put16(tail, l4_bytes >> 16);
	put16(tail + 2, l4_bytes);
	tail[7] = protocol;
	return netpacket_sum(tail, sizeof(tail), sum);
}

void netpacket_pseudo_put(uint8_t *frame, uint32_t l3_offset, uint32_t l4_offset, uint32_t len)
{
	bool udp = frame[l3_offset] >> 4 == 4 ? frame[l3_offset + 9] == 17
	                                      : frame[l3_offset + 6] == 17;
	uint8_t protocol = udp ? 17 : 6;

	put16(frame + l4_offset + (udp ? 6 : 16),
	      netpacket_pseudo(frame + l3_offset, len - l4_offset, protocol));
}

static uint32_t netpacket_ethernet(const struct netpacket *p, uint8_t *frame)
{
	uint32_t at = 12;

	memcpy(frame, p->to, 6);
	memcpy(frame + 6, p->from, 6);
	if (memcmp(p->to, (const uint8_t[6]){0}, 6) == 0) {
		frame[0] = 2;
		frame[5] = 2;
	}
	if (memcmp(p->from, (const uint8_t[6]){0}, 6) == 0) {
		frame[6] = 2;
		frame[11] = 1;
	}
	for (uint32_t i = 0; i < p->tags; i++, at += 4) {
		put16(frame + at, 0x8100);
		put16(frame + at + 2, 100 + i);
	}
	put16(frame + at, p->ip6 ? 0x86dd : 0x0800);
	return at + 2;
}

/* Returns the offset behind the header. */
static uint32_t netpacket_ip(const struct netpacket *p, uint8_t *frame, uint32_t l3,
                             uint32_t l4_bytes)
{
	uint8_t *ip = frame + l3;
	uint8_t protocol = p->udp ? 17 : 6;

	if (p->ip6) {
		memset(ip, 0, 40 + p->ip_options);
		ip[0] = 0x60;
		put16(ip + 4, p->ip_options + l4_bytes);
		ip[6] = p->ip_options != 0 ? 60 : protocol;
		ip[7] = 64;
		ip[8] = 0xfd;
		ip[23] = 1;
		ip[24] = 0xfd;
		ip[39] = 2;
		ip[40] = p->ip_options != 0 ? protocol : 0;
		ip[41] = p->ip_options != 0 ? (uint8_t)(p->ip_options / 8 - 1) : 0;
		return l3 + 40 + p->ip_options;
	}
	memset(ip, 0, 20);
	memset(ip + 20, 1, p->ip_options); /* no operation */
	ip[0] = (uint8_t)(0x45 + p->ip_options / 4);
	put16(ip + 2, 20 + p->ip_options + l4_bytes);
	ip[8] = 64;
	ip[9] = protocol;
	memcpy(ip + 12, (const uint8_t[]){10, 0, 0, 1, 10, 0, 0, 2}, 8);
	if (p->ip4_from[0] != 0) {
		memcpy(ip + 12, p->ip4_from, 4);
		memcpy(ip + 16, p->ip4_to, 4);
	}
	put16(ip + 10, (uint16_t)~netpacket_sum(ip, 20 + p->ip_options, 0));
	return l3 + 20 + p->ip_options;
}

uint32_t netpacket_build(const struct netpacket *p, uint8_t *frame)
{
	uint32_t header = p->udp ? 8 : 20 + p->tcp_options;
	uint32_t l3 = netpacket_ethernet(p, frame);
	uint32_t l4 = netpacket_ip(p, frame, l3, header + p->payload);
	uint8_t *t = frame + l4;
	uint8_t *sum = t + (p->udp ? 6 : 16);
	uint32_t len = l4 + header + p->payload;
	uint16_t total;

	memset(t, 0, header);
	put16(t, p->ports[0] != 0 ? p->ports[0] : 1000);
	put16(t + 2, p->ports[1] != 0 ? p->ports[1] : 2000);
	if (p->udp) {
		put16(t + 4, header + p->payload);
	} else {
		t[12] = (uint8_t)(header / 4 << 4);
		t[13] = 0x10; /* ACK */
		memset(t + 20, 1, p->tcp_options);
	}
	for (uint32_t i = 0; i < p->payload; i++) {
		t[header + i] = (uint8_t)(i * 31 + (i >> 8));
	}
	total = netpacket_sum(t, len - l4, netpacket_pseudo(frame + l3, len - l4, p->udp ? 17 : 6));
	total = total != 0xffff ? (uint16_t)~total : 0xffff;
	put16(sum, total);
	return len;
}

bool netpacket_ok(const uint8_t *frame, uint32_t len)
{
	uint32_t l3 = 14;
	uint32_t l4;
	uint8_t protocol;

	while (get16(frame + l3 - 2) == 0x8100) {
		l3 += 4;
	}
	if (get16(frame + l3 - 2) == 0x86dd) {
		l4 = l3 + 40;
		protocol = frame[l3 + 6];
	} else {
		l4 = l3 + (frame[l3] & 0x0fu) * 4u;
		protocol = frame[l3 + 9];
		if (netpacket_sum(frame + l3, l4 - l3, 0) != 0xffff) {
			return false;
		}
	}
	return netpacket_sum(frame + l4, len - l4,
	                     netpacket_pseudo(frame + l3, len - l4, protocol)) == 0xffff;
}
