/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_SWITCH_NETLINK_INT_H
#define HV_SWITCH_NETLINK_INT_H

/* Private to netlink.c and netlink_addr.c: messages. */

#include <linux/netlink.h>
#include <netlink/attr.h>
#include <netlink/msg.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"

struct errbuf;
struct netlink;

/*
 * netlink_message() - a request with its fixed header @head[len]. NULL = no memory.
 * @flags: NLM_F_CREATE...; NLM_F_REQUEST is added.
 */
struct nl_msg *netlink_message(uint16_t type, int flags, const void *head, size_t len);

/*
 * netlink_call() - send @msg (freed; NULL counts as -ENOMEM) and wait for the answer.
 * @what: what cannot be done, for the error text, or NULL: no text.
 * Returns 0; the kernel's -errno.
 */
MUST_USE int netlink_call(struct netlink *nl, struct nl_msg *msg, const char *what,
                          struct errbuf *eb);

/* Returns 0 to go on; -errno ends the dump with it, after the rest was read. */
typedef int (*netlink_each_fn)(void *arg, struct nlmsghdr *nlh);

/* netlink_dump() - send @msg (freed) and call @fn for each message of the answer.
 * Returns 0; -errno. */
MUST_USE int netlink_dump(struct netlink *nl, struct nl_msg *msg, const char *what,
                          netlink_each_fn fn, void *arg, struct errbuf *eb);

/* netlink_put() - attributes of known room: a message takes 4 KiB, ours are below 1 KiB.
 * Returns 0; -ENOMEM. */
MUST_USE int netlink_put(struct nl_msg *msg, uint16_t type, const void *data, size_t len);
MUST_USE int netlink_put_u8(struct nl_msg *msg, uint16_t type, uint8_t value);
MUST_USE int netlink_put_u16(struct nl_msg *msg, uint16_t type, uint16_t value);
MUST_USE int netlink_put_u32(struct nl_msg *msg, uint16_t type, uint32_t value);
MUST_USE int netlink_put_text(struct nl_msg *msg, uint16_t type, const char *text);

#endif
