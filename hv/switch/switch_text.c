/* SPDX-License-Identifier: Apache-2.0 */
#include "hv/switch/switch_text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/text.h"
#include "hv/switch/switch_def.h"

#define RULES_BYTES 2048u        /* what does not depend on the number of switches */
#define RULES_SWITCH_BYTES 1024u /* of one switch; the longest are some 600 */
#define DHCP_LEASES_MAX 16384u   /* dnsmasq stops at 1000 unless told */
#define DHCP_BYTES 2048u

/* In nft's language a table must be there before it can be deleted. */
static void rules_replace(struct text *t, const char *family)
{
	text_add(t, "table %s godwit\ndelete table %s godwit\n", family, family);
}

static void rules_nat_of(struct text *t, const struct switch_def *def)
{
	char bridge[NETLINK_NAME_MAX + 1];
	char subnet[SWITCH_SUBNET_TEXT];

	text_add(t, "\t\tip saddr %s oifname != \"%s\" masquerade\n",
	         switch_subnet_format(&def->subnet, subnet), switch_bridge_name(def, bridge));
}

static void rules_forward_of(struct text *t, const struct switch_def *def)
{
	char bridge[NETLINK_NAME_MAX + 1];
	char subnet[SWITCH_SUBNET_TEXT];

	(void)switch_bridge_name(def, bridge);
	text_add(t, "\t\tiifname \"%s\" ip saddr != %s drop\n", bridge,
	         switch_subnet_format(&def->subnet, subnet));
	text_add(t, "\t\tiifname \"%s\" meta nfproto ipv6 drop\n", bridge);
	text_add(t, "\t\toifname \"%s\" ct state established,related accept\n", bridge);
	text_add(t, "\t\toifname \"%s\" drop\n", bridge);
}

static void rules_inet(struct text *t, const struct switch_def *const defs[], uint32_t count,
                       bool guard)
{
	char bridge[NETLINK_NAME_MAX + 1];

	text_add(t, "table inet godwit {\n\tchain nat {\n\t\ttype nat hook postrouting priority "
	            "srcnat; policy accept;\n");
	for (uint32_t i = 0; i < count; i++) {
		if (defs[i]->type == SWITCH_NAT) {
			rules_nat_of(t, defs[i]);
		}
	}
	text_add(t, "\t}\n\tchain forward {\n\t\ttype filter hook forward priority filter; policy "
	            "accept;\n");
	/* With br_netfilter what a bridge forwards comes by here too; it is no routing. */
	for (uint32_t i = 0; i < count; i++) {
		(void)switch_bridge_name(defs[i], bridge);
		text_add(t, "\t\tiifname \"%s\" oifname \"%s\" accept\n", bridge, bridge);
	}
	for (uint32_t i = 0; i < count; i++) {
		if (defs[i]->type == SWITCH_NAT) {
			rules_forward_of(t, defs[i]);
		}
	}
	if (guard) {
		for (uint32_t i = 0; i < count; i++) {
			if (defs[i]->type == SWITCH_NAT) {
				text_add(t, "\t\tiifname \"%s\" accept\n",
				         switch_bridge_name(defs[i], bridge));
			}
		}
		text_add(t, "\t\tmeta nfproto ipv4 drop\n");
	}
	text_add(t, "\t}\n}\n");
}

static void rules_netdev(struct text *t, const struct switch_def *const defs[], uint32_t count)
{
	char bridge[NETLINK_NAME_MAX + 1];

	text_add(t, "table netdev godwit {\n");
	for (uint32_t i = 0; i < count; i++) {
		if (!defs[i]->host) {
			(void)switch_bridge_name(defs[i], bridge);
			text_add(t,
			         "\tchain %s {\n\t\ttype filter hook ingress device \"%s\" "
			         "priority filter; policy drop;\n\t}\n",
			         bridge, bridge);
		}
	}
	text_add(t, "}\n");
}

/* Guests are in one VLAN each: tags, also of bridges that do not know them, are not for them. */
static void rules_bridge(struct text *t)
{
	text_add(t,
	         "table bridge godwit {\n\tchain taps {\n\t\ttype filter hook prerouting priority "
	         "filter; policy accept;\n");
	text_add(t, "\t\tiifname \"gwt-*\" ether daddr 01:80:c2:00:00:00 drop\n");
	text_add(t, "\t\tiifname \"gwt-*\" ether type { 0x8100, 0x88a8 } drop\n\t}\n}\n");
}

int switch_rules(const struct switch_def *const defs[], uint32_t count, bool guard, char **out)
{
	size_t room = RULES_BYTES + (size_t)count * RULES_SWITCH_BYTES;
	char *buf = gw_malloc(room);
	struct text t;

	*out = NULL;
	if (buf == NULL) {
		return -ENOMEM;
	}
	text_init(&t, buf, room);
	rules_replace(&t, "inet");
	rules_replace(&t, "netdev");
	rules_replace(&t, "bridge");
	if (count != 0) {
		rules_inet(&t, defs, count, guard);
		rules_netdev(&t, defs, count);
		rules_bridge(&t);
	}
	if (t.cut) {
		free(buf);
		return -ENOMEM;
	}
	*out = buf;
	return 0;
}

int switch_dhcp_config(const struct switch_def *def, const char *leases, char **out)
{
	size_t room = DHCP_BYTES + strlen(leases);
	char *buf = gw_malloc(room);
	char bridge[NETLINK_NAME_MAX + 1];
	char host[SWITCH_SUBNET_TEXT];
	char first[SWITCH_SUBNET_TEXT];
	char last[SWITCH_SUBNET_TEXT];
	uint32_t hosts = (1u << (32 - def->subnet.prefix_bits)) - 2; /* the last's number */
	struct text t;

	*out = NULL;
	if (buf == NULL) {
		return -ENOMEM;
	}
	switch_subnet_addr(&def->subnet, 1, host, NULL);
	switch_subnet_addr(&def->subnet, 2, first, NULL);
	switch_subnet_addr(&def->subnet, hosts, last, NULL);
	text_init(&t, buf, room);
	text_add(&t, "# Made by godwitd for switch %s; changes are lost.\n", def->name);
	/* Only this bridge, also if other name servers run on the host. */
	text_add(&t, "interface=%s\nexcept-interface=lo\nbind-interfaces\nlisten-address=%s\n",
	         switch_bridge_name(def, bridge), host);
	/* Names of the host's own files are not the guests' business. */
	text_add(&t, "no-hosts\ndomain-needed\nbogus-priv\n");
	text_add(&t, "dhcp-range=%s,%s,12h\ndhcp-lease-max=%u\ndhcp-authoritative\nno-ping\n",
	         first, last, DHCP_LEASES_MAX);
	if (def->mtu_bytes != SWITCH_MTU_PRESET) {
		text_add(&t, "dhcp-option=26,%u\n", def->mtu_bytes);
	}
	text_add(&t, "dhcp-leasefile=%s\n", leases);
	if (t.cut) {
		free(buf);
		return -ENOMEM;
	}
	*out = buf;
	return 0;
}
