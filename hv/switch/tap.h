/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_SWITCH_TAP_H
#define HV_SWITCH_TAP_H

/*
 * tap - the interface behind which one adapter of a VM sits.
 *
 * It lives as long as a descriptor of it is open: the worker holds the only one, so the tap, its
 * port and what the bridge knows about it are gone with the worker, whatever ended it. Whom it
 * belongs to is written in its alias; a node service that was restarted, or that must make a
 * bridge again, finds taps of running VMs by that and plugs them in.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/guid.h"
#include "hv/switch/netlink.h"

struct errbuf;

#define TAP_QUEUES_MAX 16u
#define TAP_VNET_BYTES 12u /* struct virtio_net_hdr_mrg_rxbuf, what the network VSP wants */
#define TAP_NAME_PREFIX "gwt-"

/* Which adapter, and where it is plugged in. Value type. */
struct tap_port {
	struct guid nic_id;
	struct guid switch_id;
	uint8_t mac[6];
	uint16_t vlan; /* 1..4094 */
};

/* tap_name() - of the adapter's tap: the prefix and 44 bits of its id. Returns @name. */
const char *tap_name(const struct guid *nic_id, char name[NETLINK_NAME_MAX + 1]);

/* tap_alias_encode(), tap_alias_decode() - a port as text of a tap's alias.
 * Decode returns 0; -EINVAL not one of ours. */
void tap_alias_encode(const struct tap_port *port, char alias[NETLINK_ALIAS_MAX + 1]);
MUST_USE int tap_alias_decode(const char *alias, struct tap_port *out);

/*
 * tap_open() - make the interface @name: IFF_TAP, no packet information, vnet header of
 * TAP_VNET_BYTES, not blocking; IFF_MULTI_QUEUE if @queues > 1. Down, plugged in nowhere.
 * @fds[queues]: owned by the caller; all closed = the interface is gone.
 * Returns 0; -EBUSY the interface exists; -ENOENT the host has no /dev/net/tun; -EPERM; -errno.
 */
MUST_USE int tap_open(const char *name, uint32_t queues, int *fds, struct errbuf *eb);

/*
 * tap_plug() - into the bridge: alias, MTU, VLAN, and nothing but frames from port->mac passes.
 * @vlans: the bridge knows them. @claim: the adapter is here, see tap_claim(); without, nothing
 * passes yet. The tap is up afterwards.
 * Returns 0; -errno, then it may be half done: unplug by closing it.
 */
MUST_USE int tap_plug(struct netlink *nl, const char *name, const struct tap_port *port,
                      const struct netlink_link *bridge, bool vlans, bool claim, struct errbuf *eb);

/*
 * tap_claim() - the station port->mac is behind this tap from now on, wherever the bridge has seen
 * it before: a VM that moved was on the other side of the uplink. Returns 0; -ENODEV; -errno.
 */
MUST_USE int tap_claim(struct netlink *nl, const char *name, const struct tap_port *port,
                       bool vlans, struct errbuf *eb);

#endif
