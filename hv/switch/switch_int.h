/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_SWITCH_SWITCH_INT_H
#define HV_SWITCH_SWITCH_INT_H

/* Private to hv/switch: one switch, and what the files about it ask of each other. */

#include "base/errbuf.h"
#include "hv/switch/dhcp.h"
#include "hv/switch/switch.h"
#include "hv/switch/switch_def.h"
#include "hv/switch/tap.h"

#define SWITCH_TAG "switch"
#define SWITCH_KIND "switch" /* in the store */
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
	struct netlink *nl;       /* owned */
	struct loop_timer *again; /* owned: another try for those that failed */
	uint64_t pause_ns;        /* before it */
	uint32_t count;
	struct switch_one *ones[SWITCHES_MAX]; /* owned, in order of names */
};

typedef void (*switch_port_fn)(void *arg, const struct netlink_link *link,
                               const struct tap_port *port);

/* switch.c */
struct switch_one *switch_find(const struct switches *s, const char *name);
void switch_insert(struct switches *s, struct switch_one *one); /* takes @one */
void switch_delete(struct switches *s, struct switch_one *one); /* gives it back */
MUST_USE int switch_new(struct switches *s, json_t *json, struct switch_one **out,
                        struct errbuf *eb);
void switch_free(struct switch_one *one); /* what it has in the kernel stays */
/* Adapters of VMs that run. */
MUST_USE int switch_ports(struct switch_one *one, switch_port_fn fn, void *arg, struct errbuf *eb);
MUST_USE int switch_ports_count(struct switch_one *one, uint32_t *count, struct errbuf *eb);
void switch_event(struct switch_one *one, const char *event, const char *fmt, ...)
	PRINTF_LIKE(3, 4);

/* switch_apply.c: make the kernel follow the definition, or forget it. */
MUST_USE int switch_apply(struct switch_one *one, struct errbuf *eb);
/* @keep_leases: addresses given out are remembered. */
MUST_USE int switch_undo(struct switch_one *one, bool keep_leases, struct errbuf *eb);
/* Rules and forwarding, of all switches together. */
MUST_USE int switch_rules_apply(struct switches *s, struct errbuf *eb);
/* The switch's bridge. Returns 0; -ENODEV; -EEXIST it is not ours. */
MUST_USE int switch_bridge_get(const struct switch_one *one, struct netlink_link *out,
                               struct errbuf *eb);

/* switch_uplink.c: of external switches. Checks need no rights and change nothing. */
MUST_USE int switch_uplinks_check(struct switch_one *one, struct errbuf *eb);
MUST_USE int switch_uplinks_join(struct switch_one *one, const struct netlink_link *bridge,
                                 struct errbuf *eb);
MUST_USE int switch_uplinks_leave(struct switch_one *one, struct errbuf *eb);

#endif
