/* SPDX-License-Identifier: Apache-2.0 */
#include "hv/switch/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/errbuf.h"
#include "base/text.h"

#define TUN_PATH "/dev/net/tun"
#define ALIAS_PREFIX "godwit nic="

const char *tap_name(const struct guid *nic_id, char name[NETLINK_NAME_MAX + 1])
{
	char text[GUID_TEXT_SIZE];

	guid_format(nic_id, text);
	/* xxxxxxxx-xxxx-...: without the dash, 11 digits. */
	(void)snprintf(name, NETLINK_NAME_MAX + 1, TAP_NAME_PREFIX "%.8s%.3s", text, text + 9);
	return name;
}

void tap_alias_encode(const struct tap_port *port, char alias[NETLINK_ALIAS_MAX + 1])
{
	char nic[GUID_TEXT_SIZE];
	char where[GUID_TEXT_SIZE];
	const uint8_t *m = port->mac;

	guid_format(&port->nic_id, nic);
	guid_format(&port->switch_id, where);
	(void)snprintf(alias, NETLINK_ALIAS_MAX + 1,
	               ALIAS_PREFIX "%s switch=%s mac=%02x:%02x:%02x:%02x:%02x:%02x vlan=%u", nic,
	               where, m[0], m[1], m[2], m[3], m[4], m[5], port->vlan);
}

int tap_alias_decode(const char *alias, struct tap_port *out)
{
	char nic[GUID_TEXT_SIZE];
	char where[GUID_TEXT_SIZE];
	char again[NETLINK_ALIAS_MAX + 1];
	struct tap_port port;
	unsigned int m[6];
	unsigned int vlan;

	if (sscanf(alias, ALIAS_PREFIX "%36s switch=%36s mac=%2x:%2x:%2x:%2x:%2x:%2x vlan=%4u", nic,
	           where, &m[0], &m[1], &m[2], &m[3], &m[4], &m[5], &vlan) != 9 ||
	    guid_parse(nic, &port.nic_id) != 0 || guid_parse(where, &port.switch_id) != 0 ||
	    vlan < 1 || vlan > NETLINK_VLAN_MAX) {
		return -EINVAL;
	}
	for (uint32_t i = 0; i < 6; i++) {
		port.mac[i] = (uint8_t)m[i];
	}
	port.vlan = (uint16_t)vlan;
	/* Only what we would write ourselves: sscanf() takes more. */
	tap_alias_encode(&port, again);
	if (strcmp(again, alias) != 0) {
		return -EINVAL;
	}
	*out = port;
	return 0;
}

static int tap_open_queue(const char *name, bool many, int *out, struct errbuf *eb)
{
	struct ifreq req = {0};
	int vnet_bytes = TAP_VNET_BYTES;
	int fd = open(TUN_PATH, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	int err;

	if (fd < 0) {
		err = errbuf_sys(eb, -errno, TUN_PATH);
		errbuf_hint(eb, "modprobe tun");
		return err;
	}
	(void)snprintf(req.ifr_name, sizeof(req.ifr_name), "%s", name);
	req.ifr_flags = (short)(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR);
	if (many) {
		req.ifr_flags = (short)(req.ifr_flags | IFF_MULTI_QUEUE);
	} else {
		/* Of one's own: not somebody's tap that was left behind. */
		req.ifr_flags = (short)(req.ifr_flags | (short)IFF_TUN_EXCL);
	}
	if (ioctl(fd, TUNSETIFF, &req) != 0) {
		err = errbuf_sys(eb, -errno, "cannot make the interface %s", name);
		(void)close(fd);
		return err;
	}
	if (ioctl(fd, TUNSETVNETHDRSZ, &vnet_bytes) != 0) {
		err = errbuf_sys(eb, -errno, "the interface %s takes no vnet header of %u bytes",
		                 name, TAP_VNET_BYTES);
		(void)close(fd);
		return err;
	}
	*out = fd;
	return 0;
}

int tap_open(const char *name, uint32_t queues, int *fds, struct errbuf *eb)
{
	uint32_t opened = 0;
	int err = queues >= 1 && queues <= TAP_QUEUES_MAX
	                  ? 0
	                  : errbuf_set(eb, -EINVAL, "a tap has 1 to %u queues", TAP_QUEUES_MAX);

	if (err == 0 && queues > 1 && if_nametoindex(name) != 0) {
		err = errbuf_set(eb, -EBUSY, "the interface %s exists", name);
	}
	while (err == 0 && opened < queues) {
		err = tap_open_queue(name, queues > 1, &fds[opened], eb);
		opened += err == 0;
	}
	if (err != 0) {
		while (opened > 0) {
			(void)close(fds[--opened]);
		}
	}
	return err;
}

int tap_plug(struct netlink *nl, const char *name, const struct tap_port *port,
             const struct netlink_link *bridge, bool vlans, bool claim, struct errbuf *eb)
{
	char alias[NETLINK_ALIAS_MAX + 1];
	struct netlink_link link;
	int err = netlink_link_get(nl, name, &link, eb);

	if (err != 0) {
		return err;
	}
	tap_alias_encode(port, alias);

	const struct netlink_change plug = {
		.set_master = true,
		.master = bridge->index,
		.mtu_bytes = bridge->mtu_bytes,
		.alias = alias,
	};
	const struct netlink_change up = {.set_up = true, .up = true};
	const struct netlink_vlan native = {.first = 1, .last = 1};
	const struct netlink_vlan own = {
		.first = port->vlan, .last = port->vlan, .pvid = true, .untagged = true};

	/* Up at the end: no frame passes before it is in its VLAN and guarded. */
	err = netlink_link_set(nl, link.index, &plug, eb);
	if (err == 0 && vlans && port->vlan != 1) {
		err = netlink_vlan_del(nl, link.index, &native, eb);
	}
	if (err == 0 && vlans) {
		err = netlink_vlan_add(nl, link.index, &own, eb);
	}
	if (err == 0 && claim) {
		err = netlink_fdb_add(nl, link.index, port->mac, vlans ? port->vlan : 0, eb);
	}
	if (err == 0) {
		err = netlink_port_guard(nl, link.index, eb);
	}
	if (err == 0) {
		err = netlink_link_set(nl, link.index, &up, eb);
	}
	if (err != 0) {
		errbuf_prepend(eb, "%s", name);
	}
	return err;
}

int tap_claim(struct netlink *nl, const char *name, const struct tap_port *port, bool vlans,
              struct errbuf *eb)
{
	struct netlink_link link;
	int err = netlink_link_get(nl, name, &link, eb);

	if (err == 0) {
		err = netlink_fdb_add(nl, link.index, port->mac, vlans ? port->vlan : 0, eb);
	}
	if (err != 0) {
		errbuf_prepend(eb, "%s", name);
	}
	return err;
}
