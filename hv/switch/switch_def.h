/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_SWITCH_SWITCH_DEF_H
#define HV_SWITCH_SWITCH_DEF_H

/*
 * switch_def - the definition of a virtual switch: what a user wrote, completed and checked. One
 * JSON object, docs/formats/switch.md. Pure: nothing here looks at the machine.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/guid.h"
#include "base/json.h"
#include "hv/switch/netlink.h"

struct errbuf;

#define SWITCH_NAME_MAX 63u   /* as of VMs */
#define SWITCH_UPLINKS_MAX 8u /* members of one bond: more ports than a team ever has */
#define SWITCH_MTU_MIN 576u   /* what IPv4 asks for at least */
#define SWITCH_MTU_MAX 9216u  /* what the network VSP carries */
#define SWITCH_MTU_PRESET 1500u
#define SWITCH_VLAN_NATIVE 1u /* the network of frames without a tag */

enum switch_type {
	SWITCH_EXTERNAL,
	SWITCH_INTERNAL,
	SWITCH_PRIVATE,
	SWITCH_NAT,
	SWITCH_TYPE_COUNT
};
enum switch_team { SWITCH_TEAM_ACTIVE_BACKUP, SWITCH_TEAM_LACP, SWITCH_TEAM_COUNT };

/* An IPv4 network; prefix_bits 0 = none. Value type. */
struct switch_subnet {
	uint32_t network; /* host byte order */
	uint32_t prefix_bits;
};

/* Strings are borrowed from json, of which the struct holds a reference. */
struct switch_def {
	json_t *json;
	struct guid id;
	const char *name;
	enum switch_type type;
	uint32_t uplink_count; /* external: 1 or more; else 0 */
	const char *uplinks[SWITCH_UPLINKS_MAX];
	enum switch_team team; /* of more than one uplink */
	uint16_t vlan;         /* of adapters that name none, and of the host: 1..4094 */
	/* The host takes part. external: the addresses of the uplink become the switch's. */
	bool host;
	struct switch_subnet subnet; /* the host has its first address */
	uint32_t mtu_bytes;
};

const char *switch_type_name(enum switch_type type);

/* switch_name_check() - 1..63 of [a-zA-Z0-9._-], first a letter or digit. Returns 0; -EINVAL. */
MUST_USE int switch_name_check(const char *name, struct errbuf *eb);

/*
 * switch_def_complete() - fill in what @json (changed in place) leaves open: id, vlan, host, MTU.
 * Not the subnet of a NAT switch: which one is free only the machine knows.
 * Returns 0; -EINVAL; -ENOMEM.
 */
MUST_USE int switch_def_complete(json_t *json, struct errbuf *eb);

/*
 * switch_def_decode() - check a full definition. @json: borrowed, a reference is kept on success.
 * Returns 0; -EINVAL with the member named.
 */
MUST_USE int switch_def_decode(json_t *json, struct switch_def *out, struct errbuf *eb);
void switch_def_fini(struct switch_def *def);

/* switch_subnet_parse() - "10.77.0.0/24", /8 to /29, no bits set behind the prefix.
 * Returns 0; -EINVAL. */
MUST_USE int switch_subnet_parse(const char *text, struct switch_subnet *out, struct errbuf *eb);

#define SWITCH_SUBNET_TEXT 20 /* "255.255.255.255/32" and NUL, and one to spare */
/* switch_subnet_format() - Returns @text. */
const char *switch_subnet_format(const struct switch_subnet *s, char text[SWITCH_SUBNET_TEXT]);

/* switch_subnets_overlap() - do they share an address? */
bool switch_subnets_overlap(const struct switch_subnet *a, const struct switch_subnet *b);

/* switch_subnet_addr() - address number @index in it, as text (SWITCH_SUBNET_TEXT) and as it is in
 * a packet; either may be NULL. */
void switch_subnet_addr(const struct switch_subnet *s, uint32_t index, char *text,
                        uint8_t packet[4]);

/* The names of a switch's interfaces: 32 bits of its id. Return @name. */
const char *switch_bridge_name(const struct switch_def *def, char name[NETLINK_NAME_MAX + 1]);
const char *switch_bond_name(const struct switch_def *def, char name[NETLINK_NAME_MAX + 1]);

#endif
