/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_SWITCH_SWITCH_INT_H
#define HV_SWITCH_SWITCH_INT_H

/* Private to hv/switch: one switch, and what the files about it ask of each other. */

#include "base/errbuf.h"
#include "hv/switch/dhcp.h"
#include "hv/switch/switch.h"
#include "hv/switch/switch_def.h"

#define SWITCH_TAG "switch"
#define SWITCH_PATH_MAX 512

struct switch_one {
	struct switches *owner;
	struct switch_def def;
	struct dhcp *dhcp;   /* owned; NULL = none runs */
	int err;             /* 0: it works; else why not */
	struct errbuf error; /* and in words */
};

struct switches {
	struct switches_cfg cfg;
	struct netlink *nl; /* owned */
	uint32_t count;
	struct switch_one *ones[SWITCHES_MAX]; /* owned, in order of names */
};

/* switch.c */
void switch_event(struct switch_one *one, const char *event, const char *fmt, ...)
	PRINTF_LIKE(3, 4);

/* switch_apply.c: make the kernel follow the definition, or forget it. */
MUST_USE int switch_apply(struct switch_one *one, struct errbuf *eb);
MUST_USE int switch_undo(struct switch_one *one, struct errbuf *eb);
/* Rules and forwarding, of all switches together. */
MUST_USE int switch_rules_apply(struct switches *s, struct errbuf *eb);
/* The switch's bridge. Returns 0; -ENODEV; -EEXIST it is not ours. */
MUST_USE int switch_bridge_get(struct switch_one *one, struct netlink_link *out, struct errbuf *eb);

/* switch_uplink.c: of external switches. Checks need no rights and change nothing. */
MUST_USE int switch_uplinks_check(struct switch_one *one, struct errbuf *eb);
MUST_USE int switch_uplinks_join(struct switch_one *one, const struct netlink_link *bridge,
                                 struct errbuf *eb);
MUST_USE int switch_uplinks_leave(struct switch_one *one, struct errbuf *eb);

#endif
