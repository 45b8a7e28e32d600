/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_SWITCH_NETLINK_H
#define HV_SWITCH_NETLINK_H

/*
 * netlink - interfaces, bridges, bonds and addresses of the network namespace this process is in.
 *
 * libnl-3 (sockets, messages, attributes) sits behind this header; docs/decisions/0073 says why
 * libnl-route-3's objects are not used. Each function is one request to the kernel and waits for
 * its answer, which takes microseconds to a few milliseconds. Errors are the kernel's numbers and
 * its own words ("extended acknowledgement") where it gives some.
 *
 * Threads: one at a time per struct netlink. A socket stays in the namespace it was opened in.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"

struct errbuf;
struct netlink;

#define NETLINK_NAME_MAX 15u     /* IFNAMSIZ - 1 */
#define NETLINK_KIND_MAX 15u     /* "bridge", "bond", "tun"; longer ones are cut */
#define NETLINK_ALIAS_MAX 255u   /* IFALIASZ - 1 */
#define NETLINK_LINKS_MAX 16384u /* more in one namespace are not looked at: 8 per VM, and ours */
#define NETLINK_VLAN_MAX 4094u

/* Value type. */
struct netlink_link {
	uint32_t index;  /* of the interface, 1.. */
	uint32_t master; /* index of its bridge or bond; 0 = none */
	uint32_t mtu_bytes;
	char name[NETLINK_NAME_MAX + 1];
	char kind[NETLINK_KIND_MAX + 1];   /* "" = hardware */
	char alias[NETLINK_ALIAS_MAX + 1]; /* "" = none */
	uint8_t mac[6];
	bool ethernet; /* else mac is 0 */
	bool loopback;
	bool up;      /* as configured */
	bool carrier; /* and it has a link */
	bool vlans;   /* a bridge that knows VLANs */
};

/* netlink_open() - Returns 0; -ENOMEM; -errno. */
MUST_USE int netlink_open(struct netlink **out, struct errbuf *eb);
/* netlink_close() - NULL is fine. */
void netlink_close(struct netlink *nl);

/* netlink_link_get() - by name. Returns 0; -ENODEV there is none; -errno. */
MUST_USE int netlink_link_get(struct netlink *nl, const char *name, struct netlink_link *out,
                              struct errbuf *eb);

/*
 * netlink_links() - all interfaces, as they are at one moment.
 * @out: owned by the caller, free(). Returns 0; -E2BIG; -ENOMEM; -errno.
 */
MUST_USE int netlink_links(struct netlink *nl, struct netlink_link **out, uint32_t *count,
                           struct errbuf *eb);

/* netlink_link_delete() - Returns 0; -ENODEV; -EOPNOTSUPP it is hardware; -errno. */
MUST_USE int netlink_link_delete(struct netlink *nl, uint32_t index, struct errbuf *eb);

/* What to change; what is not named stays. */
struct netlink_change {
	bool set_up;
	bool up;
	bool set_master;
	uint32_t master;    /* 0 = leave the one it has */
	uint32_t mtu_bytes; /* 0 = as it is */
	const uint8_t *mac; /* [6]; NULL = as it is */
	const char *alias;  /* NULL = as it is */
};

/* netlink_link_set() - Returns 0; -ENODEV; -EBUSY; -EINVAL; -errno as the kernel says. */
MUST_USE int netlink_link_set(struct netlink *nl, uint32_t index,
                              const struct netlink_change *change, struct errbuf *eb);

/* ---- bridges ---- */

/*
 * netlink_bridge_create() - a bridge without spanning tree, down. @vlans: it knows VLANs: frames
 * pass only where netlink_vlan_add() lets them.
 * @mac: NULL = random. Returns 0; -EEXIST the name is taken; -EOPNOTSUPP the kernel has no
 * bridges, or none that know VLANs; -errno.
 */
MUST_USE int netlink_bridge_create(struct netlink *nl, const char *name, bool vlans,
                                   const uint8_t *mac, struct errbuf *eb);

/*
 * netlink_port_guard() - of a port with one station behind it whose address is known: the port
 * learns nothing, frames for unknown addresses do not go there, and frames that come from another
 * address than those of netlink_fdb_add() are dropped.
 * Returns 0; -errno.
 */
MUST_USE int netlink_port_guard(struct netlink *nl, uint32_t index, struct errbuf *eb);

/* netlink_fdb_add() - the station @mac is behind the port. @vlan: 0 on a bridge without VLANs.
 * Returns 0 also if it was known; -errno. */
MUST_USE int netlink_fdb_add(struct netlink *nl, uint32_t index, const uint8_t mac[6],
                             uint16_t vlan, struct errbuf *eb);

/* A port, or the bridge itself as the host's port, in VLANs @first..@last. */
struct netlink_vlan {
	uint16_t first, last; /* 1..NETLINK_VLAN_MAX */
	bool self;            /* the index is the bridge's */
	bool pvid;            /* frames without a tag belong here; first == last */
	bool untagged;        /* leave without a tag */
};

/* netlink_vlan_add(), netlink_vlan_del() - 0 also if it was so already; -errno. */
MUST_USE int netlink_vlan_add(struct netlink *nl, uint32_t index, const struct netlink_vlan *vlan,
                              struct errbuf *eb);
MUST_USE int netlink_vlan_del(struct netlink *nl, uint32_t index, const struct netlink_vlan *vlan,
                              struct errbuf *eb);

/* ---- bonds ---- */

enum netlink_bond { NETLINK_BOND_ACTIVE_BACKUP, NETLINK_BOND_LACP };

/* netlink_bond_create() - a bond without members, down, looking at carriers every 100 ms.
 * Returns 0; -EEXIST; -EOPNOTSUPP the kernel has no bonds; -errno. */
MUST_USE int netlink_bond_create(struct netlink *nl, const char *name, enum netlink_bond mode,
                                 struct errbuf *eb);

/* ---- addresses ---- */

/* netlink_addr_add() - an IPv4 address, as 4 bytes of a packet. Returns 0 also if it is there;
 * -errno. */
MUST_USE int netlink_addr_add(struct netlink *nl, uint32_t index, const uint8_t addr[4],
                              uint32_t prefix_bits, struct errbuf *eb);

/* An address of an interface. */
struct netlink_addr {
	uint32_t index;
	bool ip6;
	uint8_t scope;    /* RT_SCOPE_* */
	uint8_t addr[16]; /* IPv4: the first 4 */
	uint32_t prefix_bits;
};

/* netlink_addrs() - of all interfaces, or of @index (0 = all).
 * @out: owned by the caller, free(). Returns 0; -E2BIG; -ENOMEM; -errno. */
MUST_USE int netlink_addrs(struct netlink *nl, uint32_t index, struct netlink_addr **out,
                           uint32_t *count, struct errbuf *eb);

/*
 * netlink_addrs_move() - global addresses of @from, and the routes over it that somebody made,
 * become those of @to. Both are up. If a step fails what was moved goes back.
 * @moved: how many addresses.
 * Returns 0; -errno.
 */
MUST_USE int netlink_addrs_move(struct netlink *nl, uint32_t from, uint32_t to, uint32_t *moved,
                                struct errbuf *eb);

#endif
