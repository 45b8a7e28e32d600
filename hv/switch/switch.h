/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_SWITCH_SWITCH_H
#define HV_SWITCH_SWITCH_H

/*
 * switch - the virtual switches of this host: from definitions to bridges, bonds, rules and
 * dnsmasq, and the adapters of VMs that are plugged in.
 *
 * A switch is a bridge of the kernel, gwb-<id>, with a tap per adapter (tap.h). external: an
 * interface of the host, or a bond of several, is a port of it. internal, nat: the host is. nat:
 * nftables and dnsmasq besides. docs/networks.md is for those who use it.
 *
 * The kernel's state is made to follow the definitions, when one is made and when the service
 * starts; what is right already is not touched, so a restart disturbs nobody. Only interfaces
 * with our names and our alias are changed, and uplinks that a definition names. A switch that
 * cannot be made (its uplink is not there) does not keep the others or the service from working:
 * it says why in its status, and is tried again: after 2 s, then ever less often, and when an
 * adapter wants it.
 *
 * Thread: the loop's. Requests to the kernel and nft(8) are waited for (milliseconds each).
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/guid.h"
#include "base/json.h"

struct errbuf;
struct loop;
struct switches;
struct vm_store;

#define SWITCHES_MAX 256u /* a host has a few; names of interfaces are made of 32 bits */

struct switches_cfg {
	struct loop *loop;      /* borrowed until switches_destroy(), like the rest */
	struct vm_store *store; /* kind "switch" */
	const char *state_dir;  /* what must survive a reboot: addresses given out */
	const char *run_dir;    /* the rest */
	/* What a human would tell: {"event","switch","text","time_ns"}; borrowed. */
	void (*event)(void *arg, const json_t *event);
	void *arg;
};

/*
 * switches_create() - load the definitions and make the kernel follow them.
 * Returns 0, also if some switches cannot be made; -errno of the store; -ENOMEM.
 */
MUST_USE int switches_create(const struct switches_cfg *cfg, struct switches **out,
                             struct errbuf *eb);

/* switches_destroy() - let go; the switches go on. NULL is fine. */
void switches_destroy(struct switches *s);

/*
 * switches_define() - a new switch from @json (completed in place, see switch_def_complete()).
 * @dry_run: check only.
 * Returns 0; -EEXIST the name is taken; -EINVAL; -EBUSY an uplink or subnet is in use; -ENODEV no
 * such uplink; -EOPNOTSUPP this kernel cannot; -ENOENT a program is missing; -ENOSPC; -errno.
 */
MUST_USE int switches_define(struct switches *s, json_t *json, bool dry_run, struct errbuf *eb);

/*
 * switches_change() - replace members of the definition of @name by those of @patch; null: as if
 * it had not been named. Adapters that are plugged in stay so, but VLAN, MTU and subnet do not
 * change under them. If the change cannot be made everything is as before.
 * Returns 0; -ENOENT; -EINVAL also for another id, name or type; -EBUSY adapters are plugged in, or
 * as of switches_define().
 */
MUST_USE int switches_change(struct switches *s, const char *name, const json_t *patch,
                             struct errbuf *eb);

/*
 * switches_remove() - end a switch; uplinks and their addresses are as before.
 * Returns 0; -ENOENT; -EBUSY adapters are plugged in; -errno.
 */
MUST_USE int switches_remove(struct switches *s, const char *name, struct errbuf *eb);

/* switches_status() - one (by name or id) or, with @name NULL, all as an array; a new reference;
 * NULL = there is none, or no memory. */
json_t *switches_status(struct switches *s, const char *name);

/* switches_name() - how the switch @name_or_id is called; NULL = there is none. */
const char *switches_name(const struct switches *s, const char *name_or_id);

struct switch_adapter {
	struct guid id;
	uint8_t mac[6];
	uint16_t vlan;   /* 0 = the switch's */
	uint32_t queues; /* of the tap, 1..TAP_QUEUES_MAX */
	bool arriving;   /* its VM runs elsewhere: nothing passes before switches_claim() */
};

/*
 * switches_plug() - make an adapter's tap and plug it into the switch @name; "" = into none, then
 * it is down and leads nowhere.
 * @fds[adapter->queues]: owned by the caller; closing all of them unplugs.
 * @mtu_bytes: the switch's.
 * Returns 0; -ENOENT no such switch; -EBUSY the adapter is plugged in already; -EOPNOTSUPP a VLAN
 * on a kernel that does not know them; -errno, also why the switch could not be made.
 */
MUST_USE int switches_plug(struct switches *s, const char *name,
                           const struct switch_adapter *adapter, int *fds, uint32_t *mtu_bytes,
                           struct errbuf *eb);

/*
 * switches_claim() - the VM of an adapter that was plugged in as arriving is here now.
 * Returns 0, also for "" and if it was claimed before; -ENOENT no such switch; -ENODEV the adapter
 * is not plugged in; -errno.
 */
MUST_USE int switches_claim(struct switches *s, const char *name,
                            const struct switch_adapter *adapter, struct errbuf *eb);

#endif
