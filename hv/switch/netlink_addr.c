/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Addresses and routes. Moving them keeps the kernel's own messages and changes nothing but the
 * interface's number in them, so that lifetimes, metrics and whatever else an administrator set
 * come along without being understood here.
 */
#include <errno.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/errbuf.h"
#include "base/fault.h"
#include "base/log.h"
#include "hv/switch/netlink.h"
#include "hv/switch/netlink_int.h"

#define TAG "switch"
#define NETLINK_MOVE_MAX 1024u /* addresses, and routes, of one interface */
#define NETLINK_ADDRS_MAX 65536u

int netlink_addr_add(struct netlink *nl, uint32_t index, const uint8_t addr[4],
                     uint32_t prefix_bits, struct errbuf *eb)
{
	const struct ifaddrmsg head = {
		.ifa_family = AF_INET,
		.ifa_prefixlen = (uint8_t)prefix_bits,
		.ifa_index = index,
	};
	struct nl_msg *msg =
		netlink_message(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, &head, sizeof(head));
	uint8_t broadcast[4];
	int err = msg != NULL ? 0 : -ENOMEM;

	for (uint32_t i = 0; i < 4; i++) {
		uint32_t fixed = prefix_bits > i * 8 ? prefix_bits - i * 8 : 0;

		broadcast[i] = (uint8_t)(addr[i] | (fixed < 8 ? 0xffu >> fixed : 0));
	}
	if (err == 0) {
		err = netlink_put(msg, IFA_LOCAL, addr, 4);
	}
	if (err == 0) {
		err = netlink_put(msg, IFA_ADDRESS, addr, 4);
	}
	if (err == 0) {
		err = netlink_put(msg, IFA_BROADCAST, broadcast, 4);
	}
	if (err != 0) {
		nlmsg_free(msg);
		return errbuf_sys(eb, err, "netlink");
	}
	return netlink_call(nl, msg, "give an interface an address", eb);
}

/* ---- list ---- */

struct netlink_addrs_take {
	uint32_t index;
	struct netlink_addr *addrs; /* owned */
	uint32_t count;
	uint32_t room;
};

/* All of them at the doors: the kernel lists every interface's on older kernels. */
static int netlink_addrs_each(void *arg, struct nlmsghdr *nlh)
{
	struct netlink_addrs_take *take = arg;
	struct nlattr *at[IFA_MAX + 1];
	const struct ifaddrmsg *head = nlmsg_data(nlh);
	struct netlink_addr *one;
	struct nlattr *addr;
	uint32_t len;

	if (nlh->nlmsg_type != RTM_NEWADDR ||
	    nlmsg_parse(nlh, sizeof(*head), at, IFA_MAX, NULL) < 0 ||
	    (take->index != 0 && head->ifa_index != take->index)) {
		return 0;
	}
	addr = at[IFA_LOCAL] != NULL ? at[IFA_LOCAL] : at[IFA_ADDRESS];
	len = head->ifa_family == AF_INET ? 4 : 16;
	if (addr == NULL || nla_len(addr) != (int)len) {
		return 0;
	}
	if (take->count == take->room) {
		uint32_t room = take->room != 0 ? take->room * 2 : 32;

		one = take->room < NETLINK_ADDRS_MAX
		              ? gw_realloc_array(take->addrs, room, sizeof(*one))
		              : NULL;
		if (one == NULL) {
			return take->room < NETLINK_ADDRS_MAX ? -ENOMEM : -E2BIG;
		}
		take->addrs = one;
		take->room = room;
	}
	one = &take->addrs[take->count++];
	*one = (struct netlink_addr){
		.index = head->ifa_index,
		.ip6 = head->ifa_family == AF_INET6,
		.scope = head->ifa_scope,
		.prefix_bits = head->ifa_prefixlen,
	};
	memcpy(one->addr, nla_data(addr), len);
	return 0;
}

int netlink_addrs(struct netlink *nl, uint32_t index, struct netlink_addr **out, uint32_t *count,
                  struct errbuf *eb)
{
	const struct ifaddrmsg head = {.ifa_family = AF_UNSPEC};
	struct netlink_addrs_take take;
	int err;

	do {
		take = (struct netlink_addrs_take){.index = index};
		err = netlink_dump(nl, netlink_message(RTM_GETADDR, 0, &head, sizeof(head)),
		                   "list addresses", netlink_addrs_each, &take, eb);
		if (err != 0) {
			free(take.addrs);
		}
	} while (err == -EAGAIN);
	*out = err == 0 ? take.addrs : NULL;
	*count = err == 0 ? take.count : 0;
	return err;
}

/* ---- move ---- */

/* Messages as the kernel sent them. */
struct netlink_kept {
	uint32_t index; /* of the interface they are about */
	uint32_t count;
	struct nlmsghdr *messages[NETLINK_MOVE_MAX]; /* owned */
};

static int netlink_keep(struct netlink_kept *k, const struct nlmsghdr *nlh)
{
	struct nlmsghdr *copy;

	if (k->count == NETLINK_MOVE_MAX) {
		return -E2BIG;
	}
	copy = gw_malloc(nlh->nlmsg_len);
	if (copy == NULL) {
		return -ENOMEM;
	}
	memcpy(copy, nlh, nlh->nlmsg_len);
	k->messages[k->count++] = copy;
	return 0;
}

static void netlink_kept_free(struct netlink_kept *k)
{
	if (k != NULL) {
		for (uint32_t i = 0; i < k->count; i++) {
			free(k->messages[i]);
		}
		free(k);
	}
}

/* Addresses an interface makes itself (link-local, from router advertisements) it makes again on
 * the other one. */
static int netlink_keep_addr(void *arg, struct nlmsghdr *nlh)
{
	struct netlink_kept *k = arg;
	struct nlattr *at[IFA_MAX + 1];
	const struct ifaddrmsg *head = nlmsg_data(nlh);
	uint32_t flags;

	if (nlh->nlmsg_type != RTM_NEWADDR ||
	    nlmsg_parse(nlh, sizeof(*head), at, IFA_MAX, NULL) < 0 || head->ifa_index != k->index ||
	    head->ifa_scope == RT_SCOPE_LINK) {
		return 0;
	}
	flags = at[IFA_FLAGS] != NULL ? nla_get_u32(at[IFA_FLAGS]) : head->ifa_flags;
	if (head->ifa_family == AF_INET6 &&
	    (flags & (IFA_F_MANAGETEMPADDR | IFA_F_TEMPORARY)) != 0) {
		return 0;
	}
	return netlink_keep(k, nlh);
}

/* Routes that somebody made; the kernel's own follow the addresses. */
static int netlink_keep_route(void *arg, struct nlmsghdr *nlh)
{
	struct netlink_kept *k = arg;
	struct nlattr *at[RTA_MAX + 1];
	const struct rtmsg *head = nlmsg_data(nlh);

	if (nlh->nlmsg_type != RTM_NEWROUTE ||
	    nlmsg_parse(nlh, sizeof(*head), at, RTA_MAX, NULL) < 0 ||
	    head->rtm_protocol == RTPROT_KERNEL || head->rtm_protocol == RTPROT_RA ||
	    (head->rtm_flags & RTM_F_CLONED) != 0 || at[RTA_OIF] == NULL ||
	    nla_get_u32(at[RTA_OIF]) != k->index) {
		return 0;
	}
	return netlink_keep(k, nlh);
}

/* The same message, as a request about interface @index: @type RTM_NEWADDR, RTM_DELADDR,
 * RTM_NEWROUTE or RTM_DELROUTE. */
static struct nl_msg *netlink_again(struct nlmsghdr *n, uint16_t type, uint32_t index)
{
	bool route = type == RTM_NEWROUTE || type == RTM_DELROUTE;
	bool make = type == RTM_NEWROUTE || type == RTM_NEWADDR;
	size_t head_len = route ? sizeof(struct rtmsg) : sizeof(struct ifaddrmsg);
	int flags = make ? NLM_F_CREATE | NLM_F_REPLACE : 0;
	struct nl_msg *msg = netlink_message(type, flags, nlmsg_data(n), head_len);
	struct nlattr *at;
	int left;
	int err = msg != NULL ? 0 : -ENOMEM;

	if (err == 0 && !route) {
		((struct ifaddrmsg *)nlmsg_data(nlmsg_hdr(msg)))->ifa_index = index;
	}
	if (err == 0 && route) {
		/* Dead, link down and the like: the kernel's view, not to be set. */
		((struct rtmsg *)nlmsg_data(nlmsg_hdr(msg)))->rtm_flags &= RTNH_F_ONLINK;
		err = netlink_put_u32(msg, RTA_OIF, index);
	}
	nlmsg_for_each_attr(at, n, (int)head_len, left)
	{
		int skip_a = route ? RTA_OIF : IFA_LABEL; /* a label begins with the old name */
		int skip_b = route ? RTA_CACHEINFO : IFA_LABEL;

		if (err == 0 && nla_type(at) != skip_a && nla_type(at) != skip_b) {
			err = netlink_put(msg, (uint16_t)nla_type(at), nla_data(at),
			                  (size_t)nla_len(at));
		}
	}
	if (err != 0) {
		nlmsg_free(msg);
		return NULL;
	}
	return msg;
}

static bool netlink_has_gateway(struct nlmsghdr *n)
{
	return nlmsg_find_attr(n, sizeof(struct rtmsg), RTA_GATEWAY) != NULL ||
	       nlmsg_find_attr(n, sizeof(struct rtmsg), RTA_VIA) != NULL;
}

static int netlink_addrs_make(struct netlink *nl, const struct netlink_kept *addrs, uint32_t index,
                              struct errbuf *eb)
{
	int err = 0;

	for (uint32_t i = 0; err == 0 && i < addrs->count; i++) {
		err = netlink_call(nl, netlink_again(addrs->messages[i], RTM_NEWADDR, index),
		                   "move an address", eb);
	}
	return err;
}

/* The last first: with the first of a network the others would go. What is not there is fine. */
static void netlink_addrs_drop(struct netlink *nl, const struct netlink_kept *addrs, uint32_t index)
{
	for (uint32_t i = addrs->count; i > 0; i--) {
		struct errbuf eb = {0};
		int err =
			netlink_call(nl, netlink_again(addrs->messages[i - 1], RTM_DELADDR, index),
		                     "take an address away", &eb);

		if (err != 0 && err != -EADDRNOTAVAIL) {
			log_warn(TAG, "an address is in two places text=\"%s\"", eb.text);
		}
	}
}

/* Those straight to a network first, since gateways must be reachable through them. A route to the
 * same network with the same metric is replaced: the one at the other interface. */
static int netlink_routes_make(struct netlink *nl, const struct netlink_kept *routes,
                               uint32_t index, struct errbuf *eb)
{
	int err = 0;

	for (uint32_t pass = 0; pass < 2; pass++) {
		for (uint32_t i = 0; err == 0 && i < routes->count; i++) {
			if (netlink_has_gateway(routes->messages[i]) == (pass == 1)) {
				err = netlink_call(
					nl, netlink_again(routes->messages[i], RTM_NEWROUTE, index),
					"move a route", eb);
			}
		}
	}
	return err;
}

/* Those that were not replaced. */
static void netlink_routes_drop(struct netlink *nl, const struct netlink_kept *routes,
                                uint32_t index)
{
	for (uint32_t i = 0; i < routes->count; i++) {
		int err = netlink_call(nl, netlink_again(routes->messages[i], RTM_DELROUTE, index),
		                       NULL, NULL);

		if (err != 0 && err != -ESRCH) {
			log_warn(TAG, "a route is in two places error=%s", strerrorname_np(-err));
		}
	}
}

/* Made there before it is taken away here: whatever stops us in between, the host has its
 * addresses. */
static int netlink_move(struct netlink *nl, const struct netlink_kept *addrs,
                        const struct netlink_kept *routes, uint32_t to, struct errbuf *eb)
{
	struct errbuf worse = {0};
	int err = netlink_addrs_make(nl, addrs, to, eb);

	if (err == 0) {
		err = netlink_routes_make(nl, routes, to, eb);
		if (err != 0 && netlink_routes_make(nl, routes, addrs->index, &worse) != 0) {
			log_err(TAG, "routes could not be given back text=\"%s\"", worse.text);
		}
	}
	if (err != 0) {
		netlink_routes_drop(nl, routes, to);
		netlink_addrs_drop(nl, addrs, to);
		return err;
	}
	netlink_addrs_drop(nl, addrs, addrs->index);
	netlink_routes_drop(nl, routes, addrs->index);
	return 0;
}

int netlink_addrs_move(struct netlink *nl, uint32_t from, uint32_t to, uint32_t *moved,
                       struct errbuf *eb)
{
	const struct ifaddrmsg addr_head = {.ifa_family = AF_UNSPEC};
	const struct rtmsg route_head = {.rtm_family = AF_UNSPEC};
	struct netlink_kept *addrs = gw_calloc(1, sizeof(*addrs));
	struct netlink_kept *routes = gw_calloc(1, sizeof(*routes));
	int err;

	*moved = 0;
	if (addrs == NULL || routes == NULL) {
		netlink_kept_free(addrs);
		netlink_kept_free(routes);
		return errbuf_sys(eb, -ENOMEM, "netlink");
	}
	addrs->index = from;
	routes->index = from;
	err = netlink_dump(nl, netlink_message(RTM_GETADDR, 0, &addr_head, sizeof(addr_head)),
	                   "list addresses", netlink_keep_addr, addrs, eb);
	if (err == 0) {
		err = netlink_dump(
			nl, netlink_message(RTM_GETROUTE, 0, &route_head, sizeof(route_head)),
			"list routes", netlink_keep_route, routes, eb);
	}
	if (err == 0 && addrs->count + routes->count != 0) {
		err = netlink_move(nl, addrs, routes, to, eb);
	}
	if (err == 0) {
		*moved = addrs->count;
	}
	netlink_kept_free(addrs);
	netlink_kept_free(routes);
	return err;
}
