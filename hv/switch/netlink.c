/* SPDX-License-Identifier: Apache-2.0 */
#include "hv/switch/netlink.h"

#include <errno.h>
#include <linux/if.h>
#include <linux/if_arp.h>
#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/errbuf.h"
#include "base/fault.h"
#include "hv/switch/netlink_int.h"

#define NETLINK_TEXT_MAX 200  /* of the kernel's own words */
#define NETLINK_TRIES_MAX 16u /* of a dump: so often in a row nobody is disturbed by chance */

struct netlink {
	struct nl_sock *sock; /* owned */
	struct nl_cb *cb;     /* owned: of the requests */
	/* The request that runs. */
	bool done;
	int err;                     /* of the kernel, or 0 */
	char text[NETLINK_TEXT_MAX]; /* "" = it said nothing */
	netlink_each_fn each;        /* NULL: no dump */
	void *arg;
};

/* ---- requests ---- */

/* What the kernel says beside the number: attributes behind the error, since both CAP_ACK (our
 * message is not repeated) and EXT_ACK are on. */
static void netlink_ack_text(struct netlink *nl, struct nlmsgerr *e)
{
	struct nlmsghdr *nlh = (struct nlmsghdr *)(void *)((char *)e - NLMSG_HDRLEN);
	struct nlattr *at;
	int left = (int)nlh->nlmsg_len - NLMSG_HDRLEN - (int)sizeof(*e);

	if ((nlh->nlmsg_flags & NLM_F_ACK_TLVS) == 0 || left <= 0) {
		return;
	}
	at = nla_find((struct nlattr *)(void *)(e + 1), left, NLMSGERR_ATTR_MSG);
	if (at != NULL) {
		(void)nla_strlcpy(nl->text, at, sizeof(nl->text));
	}
}

static int netlink_on_error(struct sockaddr_nl *from, struct nlmsgerr *e, void *arg)
{
	struct netlink *nl = arg;

	(void)from;
	nl->done = true;
	nl->err = e->error;
	netlink_ack_text(nl, e);
	return NL_STOP;
}

static int netlink_on_end(struct nl_msg *msg, void *arg)
{
	struct netlink *nl = arg;

	(void)msg;
	nl->done = true;
	return NL_STOP;
}

static int netlink_on_message(struct nl_msg *msg, void *arg)
{
	struct netlink *nl = arg;

	if (nl->each != NULL && nl->err == 0) {
		nl->err = nl->each(nl->arg, nlmsg_hdr(msg));
	}
	return NL_OK;
}

/* libnl's numbers of what can go wrong on our side of the socket. */
static int netlink_errno(int nle)
{
	switch (-nle) {
	case NLE_NOMEM:
		return -ENOMEM;
	case NLE_INTR:
		return -EINTR;
	case NLE_PERM:
		return -EPERM;
	case NLE_DUMP_INTR: /* what was dumped changed meanwhile */
		return -EAGAIN;
	default: /* of libnl, not of the kernel */
		return -EIO;
	}
}

static int netlink_run(struct netlink *nl, struct nl_msg *msg)
{
	int rc = nl_send_auto(nl->sock, msg);

	nl->done = false;
	nl->err = 0;
	nl->text[0] = '\0';
	while (rc >= 0 && !nl->done) {
		rc = nl_recvmsgs(nl->sock, nl->cb);
		if (rc == -NLE_INTR) {
			rc = 0;
		}
	}
	return nl->err != 0 ? nl->err : (rc < 0 ? netlink_errno(rc) : 0);
}

static int netlink_finish(const struct netlink *nl, int err, const char *what, struct errbuf *eb)
{
	if (err == 0 || what == NULL) {
		return err;
	}
	if (nl->text[0] != '\0') {
		return errbuf_set(eb, err, "cannot %s: %s (%s)", what, nl->text,
		                  strerrordesc_np(-err));
	}
	return errbuf_sys(eb, err, "cannot %s", what);
}

int netlink_call(struct netlink *nl, struct nl_msg *msg, const char *what, struct errbuf *eb)
{
	int err = -ENOMEM;

	nl->text[0] = '\0';
	if (msg != NULL) {
		nl->each = NULL;
		err = netlink_run(nl, msg);
		nlmsg_free(msg);
	}
	return netlink_finish(nl, err, what, eb);
}

int netlink_dump(struct netlink *nl, struct nl_msg *msg, const char *what, netlink_each_fn fn,
                 void *arg, struct errbuf *eb)
{
	int err = -ENOMEM;

	nl->text[0] = '\0';
	if (msg != NULL) {
		nlmsg_hdr(msg)->nlmsg_flags |= NLM_F_DUMP;
		nl->each = fn;
		nl->arg = arg;
		err = netlink_run(nl, msg);
		nlmsg_free(msg);
	}
	return netlink_finish(nl, err, what, eb);
}

struct nl_msg *netlink_message(uint16_t type, int flags, const void *head, size_t len)
{
	struct nl_msg *msg = nlmsg_alloc_simple(type, flags | NLM_F_REQUEST);

	/* libnl's own alignment; its signature wants a pointer that it does not write to. */
	if (msg != NULL) {
		void *at = nlmsg_reserve(msg, len, NLMSG_ALIGNTO);

		if (at == NULL) {
			nlmsg_free(msg);
			return NULL;
		}
		memcpy(at, head, len);
	}
	return msg;
}

int netlink_put(struct nl_msg *msg, uint16_t type, const void *data, size_t len)
{
	return nla_put(msg, type, (int)len, data) == 0 ? 0 : -ENOMEM;
}

int netlink_put_u8(struct nl_msg *msg, uint16_t type, uint8_t value)
{
	return netlink_put(msg, type, &value, sizeof(value));
}

int netlink_put_u16(struct nl_msg *msg, uint16_t type, uint16_t value)
{
	return netlink_put(msg, type, &value, sizeof(value));
}

int netlink_put_u32(struct nl_msg *msg, uint16_t type, uint32_t value)
{
	return netlink_put(msg, type, &value, sizeof(value));
}

int netlink_put_text(struct nl_msg *msg, uint16_t type, const char *text)
{
	return netlink_put(msg, type, text, strlen(text) + 1);
}

/* ---- the socket ---- */

int netlink_open(struct netlink **out, struct errbuf *eb)
{
	struct netlink *nl = gw_calloc(1, sizeof(*nl));
	int on = 1;
	int rc;

	*out = NULL;
	if (nl == NULL) {
		return errbuf_sys(eb, -ENOMEM, "netlink");
	}
	nl->sock = nl_socket_alloc();
	nl->cb = nl_cb_alloc(NL_CB_CUSTOM);
	if (nl->sock == NULL || nl->cb == NULL) {
		netlink_close(nl);
		return errbuf_sys(eb, -ENOMEM, "netlink");
	}
	rc = nl_connect(nl->sock, NETLINK_ROUTE);
	if (rc < 0) {
		int err = netlink_errno(rc);

		netlink_close(nl);
		return errbuf_set(eb, err, "netlink: %s", nl_geterror(rc));
	}
	/* Kernels without these say less, and that is all. */
	(void)setsockopt(nl_socket_get_fd(nl->sock), SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof(on));
	(void)setsockopt(nl_socket_get_fd(nl->sock), SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof(on));
	(void)nl_cb_err(nl->cb, NL_CB_CUSTOM, netlink_on_error, nl);
	(void)nl_cb_set(nl->cb, NL_CB_ACK, NL_CB_CUSTOM, netlink_on_end, nl);
	(void)nl_cb_set(nl->cb, NL_CB_FINISH, NL_CB_CUSTOM, netlink_on_end, nl);
	(void)nl_cb_set(nl->cb, NL_CB_VALID, NL_CB_CUSTOM, netlink_on_message, nl);
	*out = nl;
	return 0;
}

void netlink_close(struct netlink *nl)
{
	if (nl != NULL) {
		nl_cb_put(nl->cb);
		nl_socket_free(nl->sock);
		free(nl);
	}
}

/* ---- interfaces ---- */

static struct nl_msg *netlink_link_message(uint16_t type, int flags, uint8_t family, uint32_t index)
{
	const struct ifinfomsg head = {.ifi_family = family, .ifi_index = (int)index};

	return netlink_message(type, flags, &head, sizeof(head));
}

static void netlink_info_take(struct nlattr *at, struct netlink_link *out)
{
	struct nlattr *info[IFLA_INFO_MAX + 1];
	struct nlattr *data[IFLA_BR_MAX + 1];

	if (nla_parse_nested(info, IFLA_INFO_MAX, at, NULL) < 0 || info[IFLA_INFO_KIND] == NULL) {
		return;
	}
	(void)nla_strlcpy(out->kind, info[IFLA_INFO_KIND], sizeof(out->kind));
	if (strcmp(out->kind, "bridge") == 0 && info[IFLA_INFO_DATA] != NULL &&
	    nla_parse_nested(data, IFLA_BR_MAX, info[IFLA_INFO_DATA], NULL) == 0 &&
	    data[IFLA_BR_VLAN_FILTERING] != NULL) {
		out->vlans = nla_get_u8(data[IFLA_BR_VLAN_FILTERING]) != 0;
	}
}

/* The kernel's word about one interface. Returns false: it is about something else. */
static bool netlink_link_take(struct nlmsghdr *nlh, struct netlink_link *out)
{
	struct nlattr *at[IFLA_MAX + 1];
	const struct ifinfomsg *head;

	if (nlh->nlmsg_type != RTM_NEWLINK ||
	    nlmsg_parse(nlh, sizeof(*head), at, IFLA_MAX, NULL) < 0 || at[IFLA_IFNAME] == NULL) {
		return false;
	}
	head = nlmsg_data(nlh);
	*out = (struct netlink_link){
		.index = (uint32_t)head->ifi_index,
		.up = (head->ifi_flags & IFF_UP) != 0,
		.carrier = (head->ifi_flags & IFF_RUNNING) != 0,
		.loopback = (head->ifi_flags & IFF_LOOPBACK) != 0,
		.ethernet = head->ifi_type == ARPHRD_ETHER,
	};
	(void)nla_strlcpy(out->name, at[IFLA_IFNAME], sizeof(out->name));
	if (at[IFLA_IFALIAS] != NULL) {
		(void)nla_strlcpy(out->alias, at[IFLA_IFALIAS], sizeof(out->alias));
	}
	if (at[IFLA_MASTER] != NULL) {
		out->master = nla_get_u32(at[IFLA_MASTER]);
	}
	if (at[IFLA_MTU] != NULL) {
		out->mtu_bytes = nla_get_u32(at[IFLA_MTU]);
	}
	if (out->ethernet && at[IFLA_ADDRESS] != NULL &&
	    nla_len(at[IFLA_ADDRESS]) == (int)sizeof(out->mac)) {
		memcpy(out->mac, nla_data(at[IFLA_ADDRESS]), sizeof(out->mac));
	}
	if (at[IFLA_LINKINFO] != NULL) {
		netlink_info_take(at[IFLA_LINKINFO], out);
	}
	return true;
}

struct netlink_links_take {
	struct netlink_link *links; /* owned */
	uint32_t count;
	uint32_t room;
};

static int netlink_links_each(void *arg, struct nlmsghdr *nlh)
{
	struct netlink_links_take *take = arg;

	if (take->count == take->room) {
		uint32_t room = take->room != 0 ? take->room * 2 : 64;
		struct netlink_link *more;

		if (take->count == NETLINK_LINKS_MAX) {
			return -E2BIG;
		}
		more = gw_realloc_array(take->links, room, sizeof(*more));
		if (more == NULL) {
			return -ENOMEM;
		}
		take->links = more;
		take->room = room;
	}
	if (netlink_link_take(nlh, &take->links[take->count])) {
		take->count++;
	}
	return 0;
}

int netlink_links(struct netlink *nl, struct netlink_link **out, uint32_t *count, struct errbuf *eb)
{
	struct netlink_links_take take;
	uint32_t tries = 0;
	int err;

	/* A dump that was disturbed by a change starts again; changes are rare. */
	do {
		take = (struct netlink_links_take){0};
		err = netlink_dump(nl, netlink_link_message(RTM_GETLINK, 0, AF_UNSPEC, 0),
		                   "list network interfaces", netlink_links_each, &take, eb);
		if (err != 0) {
			free(take.links);
		}
	} while (err == -EAGAIN && ++tries < NETLINK_TRIES_MAX);
	*out = err == 0 ? take.links : NULL;
	*count = err == 0 ? take.count : 0;
	return err;
}

static int netlink_link_one(void *arg, struct nlmsghdr *nlh)
{
	(void)netlink_link_take(nlh, arg);
	return 0;
}

static int no_interface(const char *name, struct errbuf *eb)
{
	(void)errbuf_set(eb, -ENODEV, "there is no network interface %s", name);
	errbuf_hint(eb, "'ip link' lists those there are");
	return -ENODEV;
}

int netlink_link_get(struct netlink *nl, const char *name, struct netlink_link *out,
                     struct errbuf *eb)
{
	struct netlink_link link = {0};
	struct nl_msg *msg;
	int err;

	if (strlen(name) > NETLINK_NAME_MAX) {
		return no_interface(name, eb);
	}
	msg = netlink_link_message(RTM_GETLINK, NLM_F_ACK, AF_UNSPEC, 0);
	if (msg == NULL || netlink_put_text(msg, IFLA_IFNAME, name) != 0) {
		nlmsg_free(msg);
		return errbuf_sys(eb, -ENOMEM, "netlink");
	}
	nl->each = netlink_link_one;
	nl->arg = &link;
	err = netlink_run(nl, msg);
	nl->each = NULL;
	nl->arg = NULL;
	nlmsg_free(msg);
	if (err == 0 && link.index == 0) {
		err = -ENODEV;
	}
	if (err == -ENODEV) {
		return no_interface(name, eb);
	}
	if (err == 0) {
		*out = link;
	}
	return netlink_finish(nl, err, "look at a network interface", eb);
}

int netlink_link_delete(struct netlink *nl, uint32_t index, struct errbuf *eb)
{
	return netlink_call(nl, netlink_link_message(RTM_DELLINK, 0, AF_UNSPEC, index),
	                    "delete a network interface", eb);
}

int netlink_link_set(struct netlink *nl, uint32_t index, const struct netlink_change *change,
                     struct errbuf *eb)
{
	const struct ifinfomsg head = {
		.ifi_family = AF_UNSPEC,
		.ifi_index = (int)index,
		.ifi_flags = change->set_up && change->up ? IFF_UP : 0,
		.ifi_change = change->set_up ? IFF_UP : 0,
	};
	struct nl_msg *msg = netlink_message(RTM_NEWLINK, 0, &head, sizeof(head));
	int err = msg != NULL ? 0 : -ENOMEM;

	if (err == 0 && change->set_master) {
		err = netlink_put_u32(msg, IFLA_MASTER, change->master);
	}
	if (err == 0 && change->mtu_bytes != 0) {
		err = netlink_put_u32(msg, IFLA_MTU, change->mtu_bytes);
	}
	if (err == 0 && change->mac != NULL) {
		err = netlink_put(msg, IFLA_ADDRESS, change->mac, 6);
	}
	if (err == 0 && change->alias != NULL) {
		err = netlink_put_text(msg, IFLA_IFALIAS, change->alias);
	}
	if (err != 0) {
		nlmsg_free(msg);
		return errbuf_sys(eb, err, "netlink");
	}
	return netlink_call(nl, msg, "change a network interface", eb);
}

/* A new interface of @kind; its own attributes follow at the returned message, between
 * IFLA_LINKINFO and IFLA_INFO_DATA, which netlink_new_end() closes. */
struct netlink_new {
	struct nl_msg *msg;
	struct nlattr *info;
	struct nlattr *data;
};

static int netlink_new_begin(struct netlink_new *n, const char *name, const uint8_t *mac,
                             const char *kind)
{
	int err;

	n->msg = netlink_link_message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, AF_UNSPEC, 0);
	if (n->msg == NULL) {
		return -ENOMEM;
	}
	err = netlink_put_text(n->msg, IFLA_IFNAME, name);
	if (err == 0 && mac != NULL) {
		err = netlink_put(n->msg, IFLA_ADDRESS, mac, 6);
	}
	if (err == 0) {
		n->info = nla_nest_start(n->msg, IFLA_LINKINFO);
		err = n->info != NULL ? netlink_put_text(n->msg, IFLA_INFO_KIND, kind) : -ENOMEM;
	}
	if (err == 0) {
		n->data = nla_nest_start(n->msg, IFLA_INFO_DATA);
		err = n->data != NULL ? 0 : -ENOMEM;
	}
	return err;
}

static int netlink_new_end(struct netlink *nl, struct netlink_new *n, int err, const char *what,
                           struct errbuf *eb)
{
	if (err != 0) {
		nlmsg_free(n->msg);
		return errbuf_sys(eb, err, "netlink");
	}
	(void)nla_nest_end(n->msg, n->data);
	(void)nla_nest_end(n->msg, n->info);
	return netlink_call(nl, n->msg, what, eb);
}

int netlink_bridge_create(struct netlink *nl, const char *name, bool vlans, const uint8_t *mac,
                          struct errbuf *eb)
{
	struct netlink_new n = {0};
	int err = netlink_new_begin(&n, name, mac, "bridge");

	if (err == 0) {
		err = netlink_put_u32(n.msg, IFLA_BR_STP_STATE, 0);
	}
	if (err == 0) {
		/* Ports forward at once: without spanning tree there is nothing to listen for. */
		err = netlink_put_u32(n.msg, IFLA_BR_FORWARD_DELAY, 0);
	}
	if (err == 0 && vlans) {
		err = netlink_put_u8(n.msg, IFLA_BR_VLAN_FILTERING, 1);
	}
	return netlink_new_end(nl, &n, err, "create a bridge", eb);
}

/* Attributes of linux/if_link.h's bond; the numbers of the modes are the driver's. */
int netlink_bond_create(struct netlink *nl, const char *name, enum netlink_bond mode,
                        struct errbuf *eb)
{
	struct netlink_new n = {0};
	int err = netlink_new_begin(&n, name, NULL, "bond");

	if (err == 0) {
		err = netlink_put_u8(n.msg, IFLA_BOND_MODE, mode == NETLINK_BOND_LACP ? 4 : 1);
	}
	if (err == 0) {
		err = netlink_put_u32(n.msg, IFLA_BOND_MIIMON, 100);
	}
	if (err == 0 && mode == NETLINK_BOND_LACP) {
		/* Layer 3+4: the connections of one VM spread over the members. */
		err = netlink_put_u8(n.msg, IFLA_BOND_XMIT_HASH_POLICY, 1);
	}
	return netlink_new_end(nl, &n, err, "create a bond", eb);
}

/* ---- ports ---- */

int netlink_port_guard(struct netlink *nl, uint32_t index, struct errbuf *eb)
{
	static const struct {
		uint16_t type;
		uint8_t value;
	} settings[] = {
		{IFLA_BRPORT_LEARNING, 0},
		{IFLA_BRPORT_UNICAST_FLOOD, 0},
		{IFLA_BRPORT_LOCKED, 1},
	};
	struct nl_msg *msg = netlink_link_message(RTM_SETLINK, 0, AF_BRIDGE, index);
	struct nlattr *info =
		msg != NULL ? nla_nest_start(msg, IFLA_PROTINFO | NLA_F_NESTED) : NULL;
	int err = info != NULL ? 0 : -ENOMEM;

	for (size_t i = 0; err == 0 && i < ARRAY_LEN(settings); i++) {
		err = netlink_put_u8(msg, settings[i].type, settings[i].value);
	}
	if (err != 0) {
		nlmsg_free(msg);
		return errbuf_sys(eb, err, "netlink");
	}
	(void)nla_nest_end(msg, info);
	return netlink_call(nl, msg, "guard a port of a bridge", eb);
}

int netlink_fdb_add(struct netlink *nl, uint32_t index, const uint8_t mac[6], uint16_t vlan,
                    struct errbuf *eb)
{
	const struct ndmsg head = {
		.ndm_family = AF_BRIDGE,
		.ndm_ifindex = (int)index,
		.ndm_state = NUD_NOARP | NUD_REACHABLE, /* static: does not age */
		/* Also if somebody else speaks with this address: it does not wander off. */
		.ndm_flags = NTF_MASTER | NTF_STICKY,
	};
	struct nl_msg *msg =
		netlink_message(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, &head, sizeof(head));
	int err = msg != NULL ? netlink_put(msg, NDA_LLADDR, mac, 6) : -ENOMEM;

	if (err == 0 && vlan != 0) {
		err = netlink_put_u16(msg, NDA_VLAN, vlan);
	}
	if (err != 0) {
		nlmsg_free(msg);
		return errbuf_sys(eb, err, "netlink");
	}
	return netlink_call(nl, msg, "tell a bridge where an address is", eb);
}

static int netlink_vlan_change(struct netlink *nl, uint16_t type, uint32_t index,
                               const struct netlink_vlan *vlan, const char *what, struct errbuf *eb)
{
	struct bridge_vlan_info info = {
		.flags = (uint16_t)((vlan->pvid ? BRIDGE_VLAN_INFO_PVID : 0) |
	                            (vlan->untagged ? BRIDGE_VLAN_INFO_UNTAGGED : 0)),
		.vid = vlan->first,
	};
	uint16_t whose = vlan->self ? BRIDGE_FLAGS_SELF : BRIDGE_FLAGS_MASTER;
	struct nl_msg *msg = netlink_link_message(type, 0, AF_BRIDGE, index);
	struct nlattr *spec = msg != NULL ? nla_nest_start(msg, IFLA_AF_SPEC | NLA_F_NESTED) : NULL;
	int err = spec != NULL ? netlink_put_u16(msg, IFLA_BRIDGE_FLAGS, whose) : -ENOMEM;

	if (err == 0 && vlan->last > vlan->first) {
		info.flags |= BRIDGE_VLAN_INFO_RANGE_BEGIN;
		err = netlink_put(msg, IFLA_BRIDGE_VLAN_INFO, &info, sizeof(info));
		info.flags ^= BRIDGE_VLAN_INFO_RANGE_BEGIN | BRIDGE_VLAN_INFO_RANGE_END;
		info.vid = vlan->last;
	}
	if (err == 0) {
		err = netlink_put(msg, IFLA_BRIDGE_VLAN_INFO, &info, sizeof(info));
	}
	if (err != 0) {
		nlmsg_free(msg);
		return errbuf_sys(eb, err, "netlink");
	}
	(void)nla_nest_end(msg, spec);
	return netlink_call(nl, msg, what, eb);
}

int netlink_vlan_add(struct netlink *nl, uint32_t index, const struct netlink_vlan *vlan,
                     struct errbuf *eb)
{
	return netlink_vlan_change(nl, RTM_SETLINK, index, vlan, "put a port into a VLAN", eb);
}

int netlink_vlan_del(struct netlink *nl, uint32_t index, const struct netlink_vlan *vlan,
                     struct errbuf *eb)
{
	return netlink_vlan_change(nl, RTM_DELLINK, index, vlan, "take a port out of a VLAN", eb);
}
