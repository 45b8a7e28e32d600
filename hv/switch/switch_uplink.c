/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Uplinks: interfaces of the host that become ports of an external switch, alone or as members of
 * a bond.
 *
 * With the host taking part, the uplinks' addresses and routes become the bridge's before anything
 * else happens to the uplinks, since an interface that goes down for a bond loses them; on the way
 * out they become the first uplink's after it has left. A step that fails is followed by the way
 * out, so that the host is reachable as before.
 */
#include <errno.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "hv/switch/netlink.h"
#include "hv/switch/switch_int.h"

#define TAG SWITCH_TAG
#define BOND_ALIAS "godwit team of switch "

static int uplink_bond_get(struct switch_one *one, struct netlink_link *out, struct errbuf *eb)
{
	char name[NETLINK_NAME_MAX + 1];

	return netlink_link_get(one->owner->nl, switch_bond_name(&one->def, name), out, eb);
}

/* Is there a global address on it? Then somebody uses it. */
static int uplink_in_use(struct netlink *nl, const struct netlink_link *link, struct errbuf *eb)
{
	struct netlink_addr *addrs;
	uint32_t count;
	int err = netlink_addrs(nl, link->index, &addrs, &count, eb);

	for (uint32_t i = 0; err == 0 && i < count; i++) {
		if (addrs[i].scope != RT_SCOPE_LINK) {
			err = errbuf_set(eb, -EBUSY,
			                 "%s has addresses of this host, which would stop working",
			                 link->name);
			errbuf_hint(eb, "create the switch with --share: the host keeps its "
			                "addresses, on the switch");
		}
	}
	free(addrs);
	return err;
}

/* @bridge, @bond: indices of ours, or 0. */
static int uplink_check(struct switch_one *one, const char *name, uint32_t bridge, uint32_t bond,
                        struct errbuf *eb)
{
	struct netlink *nl = one->owner->nl;
	struct netlink_link link;
	int err = netlink_link_get(nl, name, &link, eb);

	if (err != 0) {
		return err;
	}
	if (!link.ethernet || link.loopback || strcmp(link.kind, "bridge") == 0 ||
	    strcmp(link.kind, "tun") == 0) {
		err = errbuf_set(eb, -EINVAL, "%s cannot be an uplink", name);
		errbuf_hint(eb, "name a network card, a VLAN or a bond");
		return err;
	}
	if (link.mtu_bytes < one->def.mtu_bytes) {
		return errbuf_set(eb, -EINVAL, "%s carries %u bytes, the switch is to carry %u",
		                  name, link.mtu_bytes, one->def.mtu_bytes);
	}
	if (link.master != 0 && link.master == (bond != 0 ? bond : bridge)) {
		return 0; /* as it should be */
	}
	if (link.master != 0 && link.master != bridge) {
		err = errbuf_set(eb, -EBUSY, "%s is part of another bridge or bond", name);
		errbuf_hint(eb, "ip link show %s says of which", name);
		return err;
	}
	return one->def.host ? 0 : uplink_in_use(nl, &link, eb);
}

int switch_uplinks_check(struct switch_one *one, struct errbuf *eb)
{
	struct netlink_link link;
	uint32_t bridge = 0;
	uint32_t bond = 0;
	int err = 0;

	if (switch_bridge_get(one, &link, NULL) == 0) {
		bridge = link.index;
	}
	if (one->def.uplink_count > 1 && uplink_bond_get(one, &link, NULL) == 0) {
		bond = link.index;
	}
	for (uint32_t i = 0; err == 0 && i < one->def.uplink_count; i++) {
		err = uplink_check(one, one->def.uplinks[i], bridge, bond, eb);
	}
	return err;
}

/* ---- join ---- */

static int uplink_set(struct netlink *nl, uint32_t index, bool up, struct errbuf *eb)
{
	const struct netlink_change change = {.set_up = true, .up = up};

	return netlink_link_set(nl, index, &change, eb);
}

static int uplink_master(struct netlink *nl, uint32_t index, uint32_t master, struct errbuf *eb)
{
	const struct netlink_change change = {.set_master = true, .master = master};

	return netlink_link_set(nl, index, &change, eb);
}

static int uplink_bond_make(struct switch_one *one, struct netlink_link *out, struct errbuf *eb)
{
	struct netlink *nl = one->owner->nl;
	char name[NETLINK_NAME_MAX + 1];
	char alias[NETLINK_ALIAS_MAX + 1];
	const struct netlink_change mark = {.alias = alias, .mtu_bytes = one->def.mtu_bytes};
	int err = uplink_bond_get(one, out, eb);

	if (err != -ENODEV) {
		return err;
	}
	(void)snprintf(alias, sizeof(alias), BOND_ALIAS "%s", one->def.name);
	err = netlink_bond_create(nl, switch_bond_name(&one->def, name),
	                          one->def.team == SWITCH_TEAM_LACP ? NETLINK_BOND_LACP
	                                                            : NETLINK_BOND_ACTIVE_BACKUP,
	                          eb);
	if (err == -EOPNOTSUPP) {
		errbuf_hint(eb, "modprobe bonding; this kernel may be without it");
	}
	if (err == 0) {
		err = uplink_bond_get(one, out, eb);
	}
	return err != 0 ? err : netlink_link_set(nl, out->index, &mark, eb);
}

/* Members into the bond: they must be down for that. */
static int uplink_bond_fill(struct switch_one *one, const struct netlink_link *bond,
                            struct errbuf *eb)
{
	struct netlink *nl = one->owner->nl;
	int err = 0;

	for (uint32_t i = 0; err == 0 && i < one->def.uplink_count; i++) {
		struct netlink_link link;

		err = netlink_link_get(nl, one->def.uplinks[i], &link, eb);
		if (err != 0 || link.master == bond->index) {
			continue;
		}
		err = uplink_set(nl, link.index, false, eb);
		if (err == 0) {
			err = uplink_master(nl, link.index, bond->index, eb);
		}
		if (err == 0) {
			err = uplink_set(nl, link.index, true, eb);
		}
		if (err != 0) {
			errbuf_prepend(eb, "%s", one->def.uplinks[i]);
		}
	}
	return err;
}

/* The port towards the outside carries the native network without tags and all others with. */
static int uplink_plug(struct switch_one *one, const struct netlink_link *port,
                       const struct netlink_link *bridge, struct errbuf *eb)
{
	struct netlink *nl = one->owner->nl;
	const struct netlink_vlan native = {.first = SWITCH_VLAN_NATIVE,
	                                    .last = SWITCH_VLAN_NATIVE,
	                                    .pvid = true,
	                                    .untagged = true};
	const struct netlink_vlan tagged = {.first = SWITCH_VLAN_NATIVE + 1,
	                                    .last = NETLINK_VLAN_MAX};
	int err = 0;

	if (port->master != bridge->index) {
		err = uplink_master(nl, port->index, bridge->index, eb);
	}
	if (err == 0 && bridge->vlans) {
		err = netlink_vlan_add(nl, port->index, &native, eb);
	}
	if (err == 0 && bridge->vlans) {
		err = netlink_vlan_add(nl, port->index, &tagged, eb);
	}
	return err != 0 ? err : uplink_set(nl, port->index, true, eb);
}

/* The uplinks' addresses become the bridge's; it answers with the first one's hardware address,
 * so that neighbours need not notice. */
static int uplink_share(struct switch_one *one, const struct netlink_link *bridge,
                        struct errbuf *eb)
{
	struct netlink *nl = one->owner->nl;
	int err = 0;

	for (uint32_t i = 0; err == 0 && i < one->def.uplink_count; i++) {
		struct netlink_link link;
		uint32_t moved = 0;

		err = netlink_link_get(nl, one->def.uplinks[i], &link, eb);
		if (err == 0 && i == 0 && memcmp(link.mac, bridge->mac, 6) != 0) {
			const struct netlink_change same = {.mac = link.mac};

			err = netlink_link_set(nl, bridge->index, &same, eb);
		}
		if (err == 0) {
			err = netlink_addrs_move(nl, link.index, bridge->index, &moved, eb);
		}
		if (moved != 0) {
			log_info(TAG, "addresses moved to the switch switch=%s uplink=%s n=%u",
			         one->def.name, link.name, moved);
		}
	}
	return err;
}

int switch_uplinks_join(struct switch_one *one, const struct netlink_link *bridge,
                        struct errbuf *eb)
{
	struct netlink_link port = {0};
	int err = switch_uplinks_check(one, eb);

	if (err != 0) {
		return err;
	}
	if (one->def.host) {
		err = uplink_share(one, bridge, eb);
	}
	if (err == 0 && one->def.uplink_count > 1) {
		err = uplink_bond_make(one, &port, eb);
		if (err == 0) {
			err = uplink_bond_fill(one, &port, eb);
		}
	} else if (err == 0) {
		err = netlink_link_get(one->owner->nl, one->def.uplinks[0], &port, eb);
	}
	if (err == 0) {
		err = uplink_plug(one, &port, bridge, eb);
	}
	if (err != 0) {
		struct errbuf worse = {0};

		if (switch_uplinks_leave(one, &worse) != 0) {
			log_err(TAG, "uplinks are left half done switch=%s text=\"%s\"",
			        one->def.name, worse.text);
		}
	}
	return err;
}

/* ---- leave ---- */

/* Take an uplink back if it is ours; one that is not there any more is nobody's. */
static int uplink_take_back(struct switch_one *one, const char *name, uint32_t bridge,
                            uint32_t bond, struct errbuf *eb)
{
	struct netlink *nl = one->owner->nl;
	struct netlink_link link;
	int err = netlink_link_get(nl, name, &link, eb);

	if (err == -ENODEV) {
		return 0;
	}
	if (err == 0 && link.master != 0 && (link.master == bridge || link.master == bond)) {
		err = uplink_master(nl, link.index, 0, eb);
		if (err == 0) {
			err = uplink_set(nl, link.index, true, eb); /* a bond leaves it down */
		}
	}
	return err;
}

int switch_uplinks_leave(struct switch_one *one, struct errbuf *eb)
{
	struct netlink *nl = one->owner->nl;
	struct netlink_link bridge = {0};
	struct netlink_link bond = {0};
	struct netlink_link first;
	uint32_t moved = 0;
	int err = switch_bridge_get(one, &bridge, eb);

	if (err == -ENODEV) {
		err = 0;
	}
	if (err == 0 && one->def.uplink_count > 1) {
		err = uplink_bond_get(one, &bond, eb);
		err = err == -ENODEV ? 0 : err;
	}
	for (uint32_t i = 0; err == 0 && i < one->def.uplink_count; i++) {
		err = uplink_take_back(one, one->def.uplinks[i], bridge.index, bond.index, eb);
	}
	if (err == 0 && bond.index != 0) {
		err = netlink_link_delete(nl, bond.index, eb);
	}
	if (err != 0 || !one->def.host || bridge.index == 0 ||
	    netlink_link_get(nl, one->def.uplinks[0], &first, NULL) != 0) {
		return err;
	}
	/* Routes need an interface that is up. */
	err = uplink_set(nl, first.index, true, eb);
	if (err == 0) {
		err = netlink_addrs_move(nl, bridge.index, first.index, &moved, eb);
	}
	if (moved != 0) {
		log_info(TAG, "addresses moved back switch=%s uplink=%s n=%u", one->def.name,
		         first.name, moved);
	}
	return err;
}
