/* SPDX-License-Identifier: Apache-2.0 */
/* From a definition to a bridge with its ports, rules and dnsmasq; and back. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/hostfs.h"
#include "base/log.h"
#include "base/run.h"
#include "hv/switch/netlink.h"
#include "hv/switch/switch_int.h"
#include "hv/switch/switch_text.h"
#include "hv/switch/tap.h"

#define TAG SWITCH_TAG
#define BRIDGE_ALIAS "godwit switch "
#define NFT_TIMEOUT_NS (20ull * NS_PER_S) /* it takes some 20 ms; the watchdog waits 30 s */
#define FORWARD_PATH "/proc/sys/net/ipv4/ip_forward"

/* ---- the bridge ---- */

int switch_bridge_get(const struct switch_one *one, struct netlink_link *out, struct errbuf *eb)
{
	char name[NETLINK_NAME_MAX + 1];
	int err = netlink_link_get(one->owner->nl, switch_bridge_name(&one->def, name), out, eb);

	if (err == 0 && (strcmp(out->kind, "bridge") != 0 ||
	                 strncmp(out->alias, BRIDGE_ALIAS, strlen(BRIDGE_ALIAS)) != 0)) {
		err = errbuf_set(eb, -EEXIST, "the interface %s is there and not ours", name);
		errbuf_hint(eb, "it lacks the alias \"" BRIDGE_ALIAS "...\": rename or delete it");
	}
	return err;
}

/* An address of its own, always the same: a bridge would take one of its ports', and change it
 * whenever a VM starts. 02: made up locally. */
static void bridge_mac(const struct switch_one *one, uint8_t mac[6])
{
	memcpy(mac, one->def.id.b, 6);
	mac[0] = 0x02;
}

static int bridge_create(struct switch_one *one, struct errbuf *eb)
{
	struct netlink *nl = one->owner->nl;
	char name[NETLINK_NAME_MAX + 1];
	uint8_t mac[6];
	int err;

	(void)switch_bridge_name(&one->def, name);
	bridge_mac(one, mac);
	err = netlink_bridge_create(nl, name, true, mac, eb);
	if (err == -EOPNOTSUPP && one->def.vlan == SWITCH_VLAN_NATIVE) {
		/* A kernel whose bridges know no VLANs can do all else. */
		err = netlink_bridge_create(nl, name, false, mac, eb);
		if (err == 0) {
			log_warn(TAG, "this kernel's bridges know no VLANs switch=%s",
			         one->def.name);
		}
	}
	if (err == -EOPNOTSUPP) {
		errbuf_hint(eb, "the kernel needs CONFIG_BRIDGE and CONFIG_BRIDGE_VLAN_FILTERING");
	}
	return err;
}

/* Without the host the bridge has no network of its own, in either direction. */
static int bridge_isolate(const struct netlink_link *bridge, struct errbuf *eb)
{
	char path[96];
	FILE *f;

	(void)snprintf(path, sizeof(path), "/proc/sys/net/ipv6/conf/%s/disable_ipv6", bridge->name);
	f = fopen(path, "we");
	if (f == NULL) {
		return errno == ENOENT ? 0 : errbuf_sys(eb, -errno, "%s", path);
	}
	(void)fputs("1\n", f);
	return fclose(f) == 0 ? 0 : errbuf_sys(eb, -errno, "%s", path);
}

/* In which VLAN the host's own end is. */
static int bridge_vlan(struct switch_one *one, const struct netlink_link *bridge, struct errbuf *eb)
{
	struct netlink *nl = one->owner->nl;
	const struct netlink_vlan native = {
		.first = SWITCH_VLAN_NATIVE, .last = SWITCH_VLAN_NATIVE, .self = true};
	const struct netlink_vlan own = {.first = one->def.vlan,
	                                 .last = one->def.vlan,
	                                 .self = true,
	                                 .pvid = true,
	                                 .untagged = true};
	int err = 0;

	if (!bridge->vlans) {
		return one->def.vlan == SWITCH_VLAN_NATIVE
		               ? 0
		               : errbuf_set(eb, -EOPNOTSUPP, "this kernel's bridges know no VLANs");
	}
	if (!one->def.host || one->def.vlan != SWITCH_VLAN_NATIVE) {
		err = netlink_vlan_del(nl, bridge->index, &native, eb);
	}
	return err != 0 || !one->def.host ? err : netlink_vlan_add(nl, bridge->index, &own, eb);
}

static int bridge_address(struct switch_one *one, const struct netlink_link *bridge,
                          struct errbuf *eb)
{
	uint8_t addr[4];

	if (one->def.subnet.prefix_bits == 0) {
		return 0;
	}
	switch_subnet_addr(&one->def.subnet, 1, NULL, addr);
	return netlink_addr_add(one->owner->nl, bridge->index, addr, one->def.subnet.prefix_bits,
	                        eb);
}

static int bridge_make(struct switch_one *one, struct netlink_link *out, struct errbuf *eb)
{
	struct netlink *nl = one->owner->nl;
	char alias[NETLINK_ALIAS_MAX + 1];
	const struct netlink_change mark = {.alias = alias, .mtu_bytes = one->def.mtu_bytes};
	const struct netlink_change up = {.set_up = true, .up = true};
	int err = switch_bridge_get(one, out, eb);

	if (err == -ENODEV) {
		char name[NETLINK_NAME_MAX + 1];

		err = bridge_create(one, eb);
		if (err == 0) {
			err = netlink_link_get(nl, switch_bridge_name(&one->def, name), out, eb);
		}
	}
	if (err == 0) {
		(void)snprintf(alias, sizeof(alias), BRIDGE_ALIAS "%s", one->def.name);
		err = netlink_link_set(nl, out->index, &mark, eb);
		out->mtu_bytes = one->def.mtu_bytes;
	}
	if (err == 0 && !one->def.host) {
		err = bridge_isolate(out, eb);
	}
	if (err == 0) {
		err = bridge_vlan(one, out, eb);
	}
	return err != 0 ? err : netlink_link_set(nl, out->index, &up, eb);
}

/* Taps of VMs that run and are not in the bridge: it is a new one. */
static int bridge_replug(struct switch_one *one, const struct netlink_link *bridge,
                         struct errbuf *eb)
{
	struct netlink *nl = one->owner->nl;
	struct netlink_link *links;
	struct tap_port port;
	uint32_t count;
	int err = netlink_links(nl, &links, &count, eb);

	for (uint32_t i = 0; err == 0 && i < count; i++) {
		if (links[i].master == 0 && strcmp(links[i].kind, "tun") == 0 &&
		    tap_alias_decode(links[i].alias, &port) == 0 &&
		    guid_equal(&port.switch_id, &one->def.id)) {
			err = tap_plug(nl, links[i].name, &port, bridge, bridge->vlans, true, eb);
			if (err == 0) {
				log_info(TAG, "an adapter is plugged in again switch=%s tap=%s",
				         one->def.name, links[i].name);
			}
			/* It ended meanwhile. */
			err = err == -ENODEV ? 0 : err;
		}
	}
	free(links);
	return err;
}

/* ---- rules and forwarding ---- */

/* Where we keep that it was us who turned forwarding on. */
static void forward_mark_path(const struct switches *s, char *path)
{
	(void)snprintf(path, SWITCH_PATH_MAX, "%s/switch/forwarding", s->cfg.run_dir);
}

static int forward_write(const char *value, struct errbuf *eb)
{
	FILE *f = fopen(FORWARD_PATH, "we");

	if (f == NULL) {
		return errbuf_sys(eb, -errno, FORWARD_PATH);
	}
	(void)fputs(value, f);
	return fclose(f) == 0 ? 0 : errbuf_sys(eb, -errno, FORWARD_PATH);
}

/* Forwarding of IPv4 is one switch for the whole host. If it was off, what we turn on is meant
 * for NAT switches alone, and *@guard tells the rules so; it is off again after the last one. */
static int forward_apply(struct switches *s, bool wanted, bool *guard, struct errbuf *eb)
{
	const struct hostfs host = {0};
	char path[SWITCH_PATH_MAX];
	uint64_t now = 0;
	int err = hostfs_u64(&host, FORWARD_PATH, &now);

	forward_mark_path(s, path);
	*guard = hostfs_exists(&host, path);
	if (err != 0) {
		return wanted ? errbuf_sys(eb, err, FORWARD_PATH) : 0;
	}
	if (wanted && now == 0) {
		err = fs_write(path, "", 0, 0644, eb);
		*guard = true;
		return err != 0 ? err : forward_write("1\n", eb);
	}
	if (!wanted && *guard) {
		err = forward_write("0\n", eb);
		(void)unlink(path);
		*guard = false;
	}
	return err;
}

static int rules_run(const struct switches *s, const char *rules, struct errbuf *eb)
{
	const struct hostfs host = {0};
	char program[SWITCH_PATH_MAX];
	char path[SWITCH_PATH_MAX];
	const char *const argv[] = {program, "-f", path, NULL};
	char said[300];
	int err;

	(void)snprintf(path, sizeof(path), "%s/switch/rules.nft", s->cfg.run_dir);
	if (!hostfs_program(&host, "nft", program, sizeof(program))) {
		err = errbuf_set(eb, -ENOENT,
		                 "nft is not installed; it keeps switches apart from "
		                 "the host and translates addresses");
		errbuf_hint(eb, "apt-get install nftables");
		return err;
	}
	err = fs_write(path, rules, strlen(rules), 0644, eb);
	if (err != 0) {
		return err;
	}
	err = run_capture(argv, NFT_TIMEOUT_NS, said, sizeof(said));
	if (err < 0) {
		return errbuf_sys(eb, err, "cannot run nft");
	}
	if (err > 0) {
		said[strcspn(said, "\n")] = '\0';
		err = errbuf_set(eb, -EIO, "nft refused the rules: %s", said);
		errbuf_hint(eb, "nft -c -f %s shows it again", path);
	}
	return err;
}

int switch_rules_apply(struct switches *s, struct errbuf *eb)
{
	const struct switch_def *defs[SWITCHES_MAX];
	uint32_t count = 0;
	bool nat = false;
	bool guard;
	char *rules;
	int err;

	/* Rules about a bridge that is not there would be refused. */
	for (uint32_t i = 0; i < s->count; i++) {
		struct netlink_link bridge;

		if (switch_bridge_get(s->ones[i], &bridge, NULL) == 0) {
			defs[count++] = &s->ones[i]->def;
			nat = nat || s->ones[i]->def.type == SWITCH_NAT;
		}
	}
	err = forward_apply(s, nat, &guard, eb);
	if (err == 0) {
		err = switch_rules(defs, count, guard, &rules);
		if (err != 0) {
			return errbuf_sys(eb, err, "nft rules");
		}
		err = rules_run(s, rules, eb);
		free(rules);
	}
	return err;
}

/* ---- dnsmasq ---- */

static void dhcp_dir(const struct switch_one *one, char *path)
{
	char id[GUID_TEXT_SIZE];

	(void)snprintf(path, SWITCH_PATH_MAX, "%s/switch/%s", one->owner->cfg.run_dir,
	               guid_format(&one->def.id, id));
}

static void leases_path(const struct switch_one *one, char *path)
{
	char id[GUID_TEXT_SIZE];

	(void)snprintf(path, SWITCH_PATH_MAX, "%s/switch/%s.leases", one->owner->cfg.state_dir,
	               guid_format(&one->def.id, id));
}

static void dhcp_died(void *arg, const char *why)
{
	struct switch_one *one = arg;

	switch_event(one, "switch.dhcp", "dnsmasq ended and is started again: %s", why);
}

static int dhcp_apply(struct switch_one *one, struct errbuf *eb)
{
	char dir[SWITCH_PATH_MAX];
	char leases[SWITCH_PATH_MAX];
	char *config;
	int err;

	if (one->dhcp != NULL || one->def.type != SWITCH_NAT) {
		return 0;
	}
	dhcp_dir(one, dir);
	leases_path(one, leases);
	err = fs_mkdirs(dir, 0755, eb);
	if (err == 0) {
		err = switch_dhcp_config(&one->def, leases, &config);
		if (err != 0) {
			return errbuf_sys(eb, err, "dnsmasq");
		}

		const struct dhcp_cfg cfg = {.loop = one->owner->cfg.loop,
		                             .dir = dir,
		                             .config = config,
		                             .died = dhcp_died,
		                             .arg = one};

		err = dhcp_start(&cfg, &one->dhcp, eb);
		free(config);
	}
	return err;
}

/* ---- all of it ---- */

int switch_apply(struct switch_one *one, struct errbuf *eb)
{
	struct netlink_link bridge;
	int err = bridge_make(one, &bridge, eb);

	if (err == 0) {
		err = switch_rules_apply(one->owner, eb); /* before anything can pass */
	}
	if (err == 0 && one->def.type == SWITCH_EXTERNAL) {
		err = switch_uplinks_join(one, &bridge, eb);
	}
	if (err == 0) {
		err = bridge_address(one, &bridge, eb);
	}
	if (err == 0) {
		err = bridge_replug(one, &bridge, eb);
	}
	if (err == 0) {
		err = dhcp_apply(one, eb);
	}
	return err;
}

int switch_undo(struct switch_one *one, bool keep_leases, struct errbuf *eb)
{
	struct netlink_link bridge;
	char path[SWITCH_PATH_MAX];
	int err = 0;

	dhcp_stop(one->dhcp);
	one->dhcp = NULL;
	if (one->def.type == SWITCH_EXTERNAL) {
		err = switch_uplinks_leave(one, eb);
	}
	if (err == 0) {
		err = switch_bridge_get(one, &bridge, eb);
		if (err == 0) {
			err = netlink_link_delete(one->owner->nl, bridge.index, eb);
		} else if (err == -ENODEV || err == -EEXIST) {
			err = 0; /* there is nothing of ours */
		}
	}
	dhcp_dir(one, path);
	(void)rmdir(path);
	leases_path(one, path);
	if (!keep_leases) {
		(void)unlink(path);
	}
	return err;
}
