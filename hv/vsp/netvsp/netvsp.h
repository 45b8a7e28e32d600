/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_VSP_NETVSP_NETVSP_H
#define HV_VSP_NETVSP_NETVSP_H

/*
 * netvsp - the synthetic network adapter: frames between a guest's channels and a tap interface.
 *
 * To the host each frame goes out with one writev() whose pieces are in guest memory, behind a
 * private copy of its headers; to the guest it is read straight into the guest's receive buffer,
 * headers again by way of a private copy. Nothing is in flight between two callbacks, so the
 * adapter can be paused and closed at once. Checksums and segmentation are the tap's vnet header's
 * business; several queues of one tap serve several channels. Device thread only.
 * Protocol: docs/spec/netvsp.md; why no io_uring for the frames: docs/decisions/0070.
 *
 * The tap. Whoever has CAP_NET_ADMIN opens /dev/net/tun once per queue and attaches it with
 * TUNSETIFF and IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, with IFF_MULTI_QUEUE if there are several; the
 * rest (header size, offloads, address filter, non-blocking) is done here and needs no capability.
 * The interface's MTU must be the adapter's, and it must be up.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/guid.h"

struct errbuf;
struct tap_ops;
struct vsp;
struct vsp_env;

#define NETVSP_QUEUES_MAX 16u
#define NETVSP_MTU_DEFAULT 1500u
#define NETVSP_MTU_MIN 576u /* what IPv4 asks for at least */
#define NETVSP_MTU_MAX 9216u
#define NETVSP_SPEED_DEFAULT 10000000000ull
#define NETVSP_NAME_MAX 64u

struct netvsp_cfg {
	uint32_t index;
	struct guid instance_id;
	uint8_t mac[6];
	uint32_t mtu; /* 0 = NETVSP_MTU_DEFAULT */
	/* Access VLAN, 1..4094: what the guest sends is tagged with it, only frames with it reach
	 * the guest, neither sees a tag. 0: tags are the guest's and the switch's business. */
	uint16_t vlan;
	/* The guest may use other source addresses than @mac, change its address, and see frames
	 * that are for others. Off: such frames are dropped. */
	bool spoofing;
	bool link_up;
	uint64_t speed_bps; /* told to the guest; 0 = NETVSP_SPEED_DEFAULT */
	const char *name;   /* told to the guest; ASCII, copied; NULL = none */
	/* Queues of one tap: a channel for each. Taken (closed at the end) on success. */
	const int *tap_fds;        /* [tap_count] */
	uint32_t tap_count;        /* 1..NETVSP_QUEUES_MAX */
	const struct tap_ops *tap; /* NULL = a real one */
};

/* Counters since creation. */
struct netvsp_stats {
	uint64_t tx_frames, tx_bytes, tx_large; /* from the guest; large: for segmentation */
	uint64_t rx_frames, rx_bytes, rx_large;
	uint64_t tx_invalid; /* malformed, too long, or asking for what they are not */
	uint64_t tx_spoofed; /* with a foreign source address or VLAN tag */
	uint64_t tx_dropped; /* no link, or the tap did not take it */
	uint64_t rx_filtered;
	uint64_t rx_dropped; /* too long, malformed */
	uint64_t rx_stalls;  /* times when the guest's buffers or ring were full */
	uint64_t bad_completions;
	uint64_t requests; /* RNDIS control messages */
};

/*
 * netvsp_create() - offer an adapter.
 * Returns 0; -EINVAL cfg; -ENOMEM; -errno of the tap, as vmbus_offer(). The taps stay the caller's
 * then.
 */
MUST_USE int netvsp_create(const struct vsp_env *env, const struct netvsp_cfg *cfg,
                           struct vsp **out, struct errbuf *eb);

void netvsp_stats(const struct vsp *vsp, struct netvsp_stats *out);

/* netvsp_link_set() - plug the cable in or pull it: the guest is told, and nothing passes while it
 * is out. */
void netvsp_link_set(struct vsp *vsp, bool up);

/*
 * netvsp_announce() - send one RARP with the guest's address into the tap, so that switches learn
 * where it is now. After a move; the caller repeats it.
 */
void netvsp_announce(struct vsp *vsp);

/* netvsp_mac() - the address in use: cfg's, or what the guest set (with cfg.spoofing only). */
void netvsp_mac(const struct vsp *vsp, uint8_t mac[6]);

#endif
