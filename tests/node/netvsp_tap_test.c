/* SPDX-License-Identifier: Apache-2.0 */

/*
 * netvsp_tap_test - an adapter on real taps, in a network namespace of its own. Needs root and
 * /dev/net/tun; without them it is skipped.
 *
 * The guest is 10.99.0.2 (and fd99::2), the namespace 10.99.0.1: what the guest sends goes through
 * the kernel's checksum and segmentation code into sockets, what sockets send comes to the guest.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/errbuf.h"
#include "hv/vsp/netvsp/netvsp.h"
#include "hv/vsp/netvsp/tap.h"
#include "hv/vsp/vsp.h"
#include "tests/lib/netpacket.h"
#include "tests/lib/netvsc.h"
#include "tests/lib/test.h"

#define SKIP 77
#define FILTER_UP 0xdu
#define HOST_IP "10.99.0.1"
#define GUEST_IP "10.99.0.2"

static const uint8_t guest_ip[4] = {10, 99, 0, 2};
static const uint8_t host_ip[4] = {10, 99, 0, 1};

struct fixture {
	struct netvsc *v;
	char name[IFNAMSIZ];
	uint8_t host_mac[6];
	int taps[NETVSC_CHANNELS_MAX];
	uint32_t queues;
};

/* ---- the interface ---- */

static int tap_open(const char *name, unsigned int flags)
{
	struct ifreq ifr = {0};
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	ifr.ifr_flags = (short)flags;
	memcpy(ifr.ifr_name, name, strlen(name));
	assert_int_equal(ioctl(fd, TUNSETIFF, &ifr), 0);
	return fd;
}

static void interface_ioctl(struct fixture *f, unsigned long request, struct ifreq *ifr)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	memcpy(ifr->ifr_name, f->name, sizeof(f->name));
	assert_true(fd >= 0);
	assert_int_equal(ioctl(fd, request, ifr), 0);
	(void)close(fd);
}

static void address_set(struct ifreq *ifr, const char *ip)
{
	struct sockaddr_in in = {.sin_family = AF_INET};

	assert_int_equal(inet_pton(AF_INET, ip, &in.sin_addr), 1);
	memcpy(&ifr->ifr_addr, &in, sizeof(in));
}

/* The guest does not answer ARP: the namespace knows where it is. */
static void neighbour_set(struct fixture *f)
{
	struct arpreq arp = {.arp_flags = ATF_PERM | ATF_COM, .arp_ha.sa_family = ARPHRD_ETHER};
	struct sockaddr_in in = {.sin_family = AF_INET};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	assert_int_equal(inet_pton(AF_INET, GUEST_IP, &in.sin_addr), 1);
	memcpy(&arp.arp_pa, &in, sizeof(in));
	memcpy(arp.arp_ha.sa_data, netvsc_mac, 6);
	memcpy(arp.arp_dev, f->name, sizeof(arp.arp_dev));
	assert_int_equal(ioctl(fd, SIOCSARP, &arp), 0);
	(void)close(fd);
}

static void interface_up(struct fixture *f)
{
	struct ifreq ifr = {0};

	interface_ioctl(f, SIOCGIFHWADDR, &ifr);
	memcpy(f->host_mac, ifr.ifr_hwaddr.sa_data, 6);
	address_set(&ifr, HOST_IP);
	interface_ioctl(f, SIOCSIFADDR, &ifr);
	address_set(&ifr, "255.255.255.0");
	interface_ioctl(f, SIOCSIFNETMASK, &ifr);
	ifr.ifr_flags = IFF_UP | IFF_RUNNING;
	interface_ioctl(f, SIOCSIFFLAGS, &ifr);
	neighbour_set(f);
}

static void setup(struct fixture *f, const char *name, const struct netvsc_cfg *base)
{
	struct netvsc_cfg cfg = *base;
	unsigned int flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;

	*f = (struct fixture){.queues = cfg.queues != 0 ? cfg.queues : 1};
	(void)snprintf(f->name, sizeof(f->name), "%s", name);
	if (f->queues > 1) {
		flags |= IFF_MULTI_QUEUE;
	}
	for (uint32_t i = 0; i < f->queues; i++) {
		f->taps[i] = tap_open(name, flags);
	}
	cfg.taps = f->taps;
	netvsc_create(&cfg, &f->v);
	interface_up(f);
	netvsc_probe(f->v);
	netvsc_filter(f->v, FILTER_UP);
}

static void teardown(struct fixture *f)
{
	netvsc_destroy(f->v);
	for (uint32_t i = 0; i < f->queues; i++) {
		(void)close(f->taps[i]);
	}
}

/* ---- packets ---- */

static struct netpacket from_guest(const struct fixture *f, uint32_t payload)
{
	struct netpacket p = {.payload = payload};

	memcpy(p.to, f->host_mac, 6);
	memcpy(p.from, netvsc_mac, 6);
	memcpy(p.ip4_to, host_ip, 4);
	memcpy(p.ip4_from, guest_ip, 4);
	return p;
}

static int udp_socket(uint16_t port)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&in, sizeof(in)), 0);
	return fd;
}

/* A frame for us, not the kernel's own chatter (IPv6 discovery). */
static bool wanted(const struct netvsc_rx *rx, uint8_t protocol)
{
	return rx->len >= 34 && rx->frame[12] == 0x08 && rx->frame[13] == 0x00 &&
	       rx->frame[23] == protocol && memcmp(rx->frame + 30, guest_ip, 4) == 0;
}

static void recv_wanted(struct fixture *f, uint8_t protocol, struct netvsc_rx *rx)
{
	for (;;) {
		netvsc_recv(f->v, NETVSC_CHANNELS_MAX, rx);
		if (wanted(rx, protocol)) {
			return;
		}
		netvsc_give_back(f->v, rx);
	}
}

/* ---- the tests ---- */

/* The guest leaves the checksum to the host: a socket gets the data, so it was made right. */
static void a_socket_receives_what_the_guest_did_not_sum(void **state)
{
	static uint8_t frame[1600];
	static uint8_t got[1600];
	struct fixture f;
	int fd;

	(void)state;
	setup(&f, "gwt0", &(struct netvsc_cfg){0});
	fd = udp_socket(4000);
	for (uint32_t payload = 0; payload < 1472; payload += 491) {
		struct netpacket p = from_guest(&f, payload);
		struct netvsc_tx tx = {.frame = frame,
		                       .ppi = {{RNDIS_PPI_CHECKSUM, 9 | 34u << 16}},
		                       .ppi_count = 1};

		p.udp = true;
		p.ports[1] = 4000;
		tx.len = netpacket_build(&p, frame);
		netpacket_pseudo_put(frame, 14, 34, tx.len);
		assert_int_equal(netvsc_send(f.v, 0, &tx), NETVSP_STATUS_SUCCESS);
		assert_int_equal(recv(fd, got, sizeof(got), 0), payload);
		assert_memory_equal(got, frame + 42, payload);
		/* The same with a wrong sum that nobody is asked to mend does not arrive. */
		tx.ppi_count = 0;
		assert_int_equal(netvsc_send(f.v, 0, &tx), NETVSP_STATUS_SUCCESS);
		assert_int_equal(recv(fd, got, sizeof(got), 0), -1);
	}
	(void)close(fd);
	teardown(&f);
}

/* What sockets send reaches the guest with a right checksum and the word that it is. */
static void the_guest_receives_what_a_socket_sends(void **state)
{
	static struct netvsc_rx rx;
	static uint8_t payload[1472];
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(5000)};
	struct fixture f;
	int fd;

	(void)state;
	setup(&f, "gwt1", &(struct netvsc_cfg){0});
	fd = udp_socket(4001);
	assert_int_equal(inet_pton(AF_INET, GUEST_IP, &to.sin_addr), 1);
	for (uint32_t i = 0; i < sizeof(payload); i++) {
		payload[i] = (uint8_t)(i * 5);
	}
	for (uint32_t len = 0; len <= sizeof(payload); len += 368) {
		assert_int_equal(sendto(fd, payload, len, 0, (struct sockaddr *)&to, sizeof(to)),
		                 len);
		recv_wanted(&f, 17, &rx);
		assert_int_equal(rx.len, 42 + len);
		assert_true(netpacket_ok(rx.frame, rx.len));
		assert_memory_equal(rx.frame + 42, payload, len);
		assert_int_equal(rx.checksum, RNDIS_CSUM_RX_UDP_OK);
		netvsc_give_back(f.v, &rx);
	}
	(void)close(fd);
	teardown(&f);
}

/* A TCP peer so small that it only sends, or only receives. */
struct tcp {
	struct fixture *f;
	uint16_t port; /* of the guest */
	uint32_t seq, ack;
};

static void put32(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 24);
	p[1] = (uint8_t)(v >> 16);
	p[2] = (uint8_t)(v >> 8);
	p[3] = (uint8_t)v;
}

static uint32_t get32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* Send with the checksum left to the host; more than @mss for segmentation. */
static void tcp_send(struct tcp *t, uint8_t flags, uint32_t payload, uint32_t mss)
{
	static uint8_t frame[70000];
	struct netpacket p = from_guest(t->f, payload);
	struct netvsc_tx tx = {.frame = frame, .ppi_count = 1};

	p.ports[0] = t->port;
	p.ports[1] = 4002;
	tx.len = netpacket_build(&p, frame);
	put32(frame + 38, t->seq);
	put32(frame + 42, t->ack);
	frame[47] = flags;
	frame[48] = 0xff; /* window */
	frame[49] = 0xff;
	if (mss != 0) {
		tx.ppi[0] = (struct netvsc_ppi){RNDIS_PPI_LSO, mss | 34u << 20 | RNDIS_LSO_V2};
		memset(frame + 16, 0, 2); /* as Linux leaves it */
		memset(frame + 24, 0, 2);
	} else {
		tx.ppi[0] = (struct netvsc_ppi){RNDIS_PPI_CHECKSUM, 5 | 34u << 16};
		netpacket_pseudo_put(frame, 14, 34, tx.len);
	}
	assert_int_equal(netvsc_send(t->f->v, 0, &tx), NETVSP_STATUS_SUCCESS);
	t->seq += payload + ((flags & 2u) != 0);
}

static int tcp_connect(struct tcp *t, int listener)
{
	static struct netvsc_rx rx;
	int fd;

	t->seq = 1000;
	tcp_send(t, 0x02, 0, 0); /* SYN */
	recv_wanted(t->f, 6, &rx);
	assert_true(netpacket_ok(rx.frame, rx.len));
	assert_int_equal(rx.frame[47], 0x12); /* SYN, ACK */
	t->ack = get32(rx.frame + 38) + 1;
	netvsc_give_back(t->f->v, &rx);
	tcp_send(t, 0x10, 0, 0);
	fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	assert_true(fd >= 0);
	return fd;
}

static int tcp_listener(void)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(4002)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int one = 1;

	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)), 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&in, sizeof(in)), 0);
	assert_int_equal(listen(fd, 8), 0);
	return fd;
}

/* Frames that pass the interface, as the wire would see them. */
static int sniffer(const struct fixture *f)
{
	struct sockaddr_ll ll = {.sll_family = AF_PACKET,
	                         .sll_protocol = htons(ETH_P_ALL),
	                         .sll_ifindex = (int)if_nametoindex(f->name)};
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, htons(ETH_P_ALL));

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&ll, sizeof(ll)), 0);
	return fd;
}

static void a_large_send_arrives_in_a_tcp_socket(void **state)
{
	static uint8_t got[65536];
	static uint8_t frame[70000];
	struct fixture f;
	struct tcp t = {.f = &f, .port = 3000};
	int listener;
	int fd;

	(void)state;
	setup(&f, "gwt2", &(struct netvsc_cfg){0});
	listener = tcp_listener();
	fd = tcp_connect(&t, listener);
	for (uint32_t payload = 2000; payload <= 62000; payload += 20000) {
		static struct netvsc_rx rx;
		struct netpacket p = from_guest(&f, payload);
		uint32_t have = 0;

		tcp_send(&t, 0x18, payload, 1460);
		(void)netpacket_build(&p, frame);
		while (have < payload) {
			ssize_t n = recv(fd, got + have, sizeof(got) - have, 0);

			if (n < 0) {
				assert_int_equal(errno, EAGAIN);
				break;
			}
			have += (uint32_t)n;
		}
		assert_int_equal(have, payload);
		assert_memory_equal(got, frame + 54, payload);
		while (netvsc_recv_now(f.v, 0, &rx)) { /* its acknowledgements */
			netvsc_give_back(f.v, &rx);
		}
	}
	(void)close(fd);
	(void)close(listener);
	teardown(&f);
}

/* Off the host each segment is a packet of its own, complete: through a bridge-like hop, a second
 * tap without offloads, the kernel must cut it. */
static void a_large_send_is_segmented_by_the_kernel(void **state)
{
	static uint8_t frame[70000];
	static uint8_t seen[2048];
	struct fixture f;
	struct tcp t = {.f = &f, .port = 3001};
	struct ifreq ifr = {0};
	int plain = tap_open("gwt4", IFF_TAP | IFF_NO_PI);
	int forward;
	uint32_t segments = 0;
	uint32_t bytes = 0;
	struct netpacket p;

	(void)state;
	setup(&f, "gwt3", &(struct netvsc_cfg){0});
	/* 10.98.0.0/24 is behind the plain tap; its station is known. */
	(void)snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "gwt4");

	struct fixture other = {.name = "gwt4"};

	address_set(&ifr, "10.98.0.1");
	interface_ioctl(&other, SIOCSIFADDR, &ifr);
	ifr.ifr_flags = IFF_UP | IFF_RUNNING;
	interface_ioctl(&other, SIOCSIFFLAGS, &ifr);

	struct arpreq arp = {.arp_flags = ATF_PERM | ATF_COM, .arp_ha.sa_family = ARPHRD_ETHER};
	struct sockaddr_in in = {.sin_family = AF_INET};

	assert_int_equal(inet_pton(AF_INET, "10.98.0.2", &in.sin_addr), 1);
	memcpy(&arp.arp_pa, &in, sizeof(in));
	memcpy(arp.arp_ha.sa_data, "\2\0\0\0\0\7", 6);
	memcpy(arp.arp_dev, "gwt4", 5);
	forward = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_int_equal(ioctl(forward, SIOCSARP, &arp), 0);
	(void)close(forward);
	forward = open("/proc/sys/net/ipv4/ip_forward", O_WRONLY | O_CLOEXEC);
	assert_int_equal(write(forward, "1", 1), 1);
	(void)close(forward);

	p = from_guest(&f, 20000);
	memcpy(p.ip4_to, "\x0a\x62\0\2", 4);
	p.ports[0] = t.port;

	struct netvsc_tx tx = {.frame = frame,
	                       .ppi = {{RNDIS_PPI_LSO, 1000 | 34u << 20 | RNDIS_LSO_V2}},
	                       .ppi_count = 1};

	tx.len = netpacket_build(&p, frame);
	assert_int_equal(netvsc_send(f.v, 0, &tx), NETVSP_STATUS_SUCCESS);
	assert_int_equal(fcntl(plain, F_SETFL, O_NONBLOCK), 0);
	for (ssize_t n; (n = read(plain, seen, sizeof(seen))) > 0;) {
		if (n < 54 || seen[12] != 8 || seen[23] != 6) {
			continue;
		}
		assert_true(netpacket_ok(seen, (uint32_t)n));
		assert_true(n <= 1054);
		assert_memory_equal(seen + 54, frame + 54 + bytes, (size_t)n - 54);
		bytes += (uint32_t)n - 54;
		segments++;
	}
	assert_int_equal(bytes, 20000);
	assert_int_equal(segments, 20);
	(void)close(plain);
	teardown(&f);
}

/* A TCP socket sends much at once: with RSC the guest gets it in large frames, without in small
 * ones, and the data is the same. */
static void a_tcp_stream_reaches_the_guest(void **state)
{
	enum { BYTES = 400000 };
	static struct netvsc_rx rx;
	static uint8_t data[BYTES];

	(void)state;
	for (uint32_t i = 0; i < BYTES; i++) {
		data[i] = (uint8_t)(i * 13 + (i >> 9));
	}
	for (int rsc = 0; rsc < 2; rsc++) {
		struct fixture f;
		struct tcp t = {.f = &f, .port = (uint16_t)(3002 + rsc)};
		struct netvsp_stats stats;
		uint32_t sent = 0;
		uint32_t have = 0;
		int listener;
		int fd;

		setup(&f, rsc ? "gwt5" : "gwt6", &(struct netvsc_cfg){.no_rsc = rsc == 0});
		listener = tcp_listener();
		fd = tcp_connect(&t, listener);
		while (have < BYTES) {
			ssize_t n = send(fd, data + sent, BYTES - sent, MSG_NOSIGNAL);
			uint32_t len;

			sent += n > 0 ? (uint32_t)n : 0;
			recv_wanted(&f, 6, &rx);
			len = rx.len - 14 - ((uint32_t)rx.frame[16] << 8 | rx.frame[17]);
			assert_int_equal(len, 0); /* the IP length is the frame's */
			len = rx.len - 34 - (rx.frame[46] >> 4) * 4u;
			assert_int_equal(rx.checksum, RNDIS_CSUM_RX_TCP_OK);
			assert_true(rx.parts > 1 || netpacket_ok(rx.frame, rx.len));
			if (get32(rx.frame + 38) == t.ack && len != 0) {
				assert_memory_equal(rx.frame + rx.len - len, data + have, len);
				have += len;
				t.ack += len;
			}
			netvsc_give_back(f.v, &rx);
			tcp_send(&t, 0x10, 0, 0); /* ACK */
		}
		netvsp_stats(f.v->vsp, &stats);
		assert_int_equal(stats.rx_dropped, 0);
		assert_true(rsc ? stats.rx_large != 0 : stats.rx_large == 0);
		(void)close(fd);
		(void)close(listener);
		teardown(&f);
	}
}

/* The kernel's filter: unicast for others does not even come to us. */
static void frames_for_others_stay_in_the_kernel(void **state)
{
	static struct netvsc_rx rx;
	uint8_t frame[60];
	const uint8_t other[6] = {2, 9, 9, 9, 9, 9};
	const uint8_t multicast[6] = {1, 0, 0x5e, 1, 1, 1};

	(void)state;
	for (int spoofing = 0; spoofing < 2; spoofing++) {
		struct fixture f;
		struct netvsp_stats before;
		struct netvsp_stats stats;
		int fd;

		setup(&f, spoofing ? "gwt7" : "gwt8",
		      &(struct netvsc_cfg){.spoofing = spoofing == 1});
		netvsp_stats(f.v->vsp, &before);
		fd = sniffer(&f); /* sends into the interface, too */
		for (int i = 0; i < 3; i++) {
			netvsc_frame(frame, 60,
			             i == 0   ? other
			             : i == 1 ? multicast
			                      : netvsc_mac,
			             f.host_mac, (uint32_t)i);
			assert_int_equal(send(fd, frame, 60, 0), 60);
		}
		for (uint32_t got = 0; got < 2;) {
			netvsc_recv(f.v, 0, &rx);
			if (rx.len == 60 && rx.frame[12] == 0x88 && rx.frame[13] == 0xb5) {
				assert_memory_equal(rx.frame, got == 0 ? multicast : netvsc_mac, 6);
				got++;
			}
			netvsc_give_back(f.v, &rx);
		}
		netvsp_stats(f.v->vsp, &stats);
		assert_int_equal(stats.rx_filtered - before.rx_filtered, spoofing);
		(void)close(fd);
		teardown(&f);
	}
}

/* The tap driver sends a flow's packets to the queue on which the flow's other half came. */
static void flows_stay_on_their_queues(void **state)
{
	static struct netvsc_rx rx;
	static uint8_t frame[200];
	struct fixture f;

	(void)state;
	setup(&f, "gwt9", &(struct netvsc_cfg){.queues = 2, .guest = {.vp_count = 2}});
	assert_int_equal(f.v->channels, 2);
	for (uint32_t channel = 0; channel < 2; channel++) {
		uint16_t port = (uint16_t)(4100 + channel);
		struct netpacket p = from_guest(&f, 50);
		struct netvsc_tx tx = {.frame = frame};
		struct sockaddr_in from;
		socklen_t from_len = sizeof(from);
		uint8_t buf[100];
		int fd = udp_socket(port);

		p.udp = true;
		p.ports[0] = (uint16_t)(6000 + channel);
		p.ports[1] = port;
		tx.len = netpacket_build(&p, frame);
		for (uint32_t i = 0; i < 5; i++) {
			assert_int_equal(netvsc_send(f.v, channel, &tx), NETVSP_STATUS_SUCCESS);
			assert_int_equal(recvfrom(fd, buf, sizeof(buf), 0, (struct sockaddr *)&from,
			                          &from_len),
			                 50);
			assert_int_equal(sendto(fd, buf, 50, 0, (struct sockaddr *)&from, from_len),
			                 50);
			recv_wanted(&f, 17, &rx);
			assert_int_equal(rx.channel, channel);
			netvsc_give_back(f.v, &rx);
		}
		(void)close(fd);
	}
	teardown(&f);
}

static void a_move_keeps_the_connection(void **state)
{
	static struct netvsc_rx rx;
	static uint8_t got[4096];
	struct fixture f;
	struct tcp t = {.f = &f, .port = 3010};
	int listener;
	int fd;

	(void)state;
	setup(&f, "gwt10", &(struct netvsc_cfg){0});
	listener = tcp_listener();
	fd = tcp_connect(&t, listener);
	for (uint32_t i = 0; i < 5; i++) {
		netvsc_move(f.v);
		netvsp_announce(f.v->vsp);
		tcp_send(&t, 0x18, 3000, 1460);
		assert_int_equal(recv(fd, got, sizeof(got), 0), 3000);
		assert_int_equal(send(fd, got, 1000, MSG_NOSIGNAL), 1000);
		do {
			recv_wanted(&f, 6, &rx);
			netvsc_give_back(f.v, &rx);
		} while (rx.len < 1000);
		t.ack += 1000;
	}
	(void)close(fd);
	(void)close(listener);
	teardown(&f);
}

static void descriptors_that_will_not_do_are_refused(void **state)
{
	static const struct {
		unsigned int flags;
		const char *text;
	} cases[] = {{IFF_TAP | IFF_NO_PI, "flags"}, {IFF_TUN | IFF_NO_PI | IFF_VNET_HDR, "flags"}};
	struct guest *g;

	(void)state;
	guest_create(NULL, &g);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct errbuf eb = {0};
		struct vsp *vsp;
		int fd = tap_open("gwt11", cases[i].flags);
		const struct netvsp_cfg cfg = {.mac = {2}, .tap_fds = &fd, .tap_count = 1};

		assert_int_equal(netvsp_create(guest_env(g), &cfg, &vsp, &eb), -EINVAL);
		assert_non_null(strstr(eb.text, cases[i].text));
		(void)close(fd);
	}

	/* Open, but not attached. */
	struct errbuf eb = {0};
	struct vsp *vsp;
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	const struct netvsp_cfg cfg = {.mac = {2}, .tap_fds = &fd, .tap_count = 1};

	assert_true(netvsp_create(guest_env(g), &cfg, &vsp, &eb) < 0);
	assert_non_null(strstr(eb.text, "no tap"));
	(void)close(fd);
	guest_destroy(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_socket_receives_what_the_guest_did_not_sum),
		cmocka_unit_test(the_guest_receives_what_a_socket_sends),
		cmocka_unit_test(a_large_send_arrives_in_a_tcp_socket),
		cmocka_unit_test(a_large_send_is_segmented_by_the_kernel),
		cmocka_unit_test(a_tcp_stream_reaches_the_guest),
		cmocka_unit_test(frames_for_others_stay_in_the_kernel),
		cmocka_unit_test(flows_stay_on_their_queues),
		cmocka_unit_test(a_move_keeps_the_connection),
		cmocka_unit_test(descriptors_that_will_not_do_are_refused),
	};

	if (geteuid() != 0 || access("/dev/net/tun", R_OK | W_OK) != 0 ||
	    unshare(CLONE_NEWNET) != 0) {
		(void)fprintf(stderr, "needs root and /dev/net/tun\n");
		return SKIP;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
