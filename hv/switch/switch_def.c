/* SPDX-License-Identifier: Apache-2.0 */
#include "hv/switch/switch_def.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/errbuf.h"
#include "base/parse.h"

#define SUBNET_PREFIX_MIN 8u
#define SUBNET_PREFIX_MAX 29u /* network, host, broadcast, and some for guests */

static const char *const types[SWITCH_TYPE_COUNT] = {"external", "internal", "private", "nat"};
static const char *const teams[SWITCH_TEAM_COUNT] = {"active-backup", "lacp"};

const char *switch_type_name(enum switch_type type)
{
	return types[type];
}

int switch_name_check(const char *name, struct errbuf *eb)
{
	static const char legal[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
				    "._-";
	size_t len = strlen(name);
	int err;

	if (len != 0 && len <= SWITCH_NAME_MAX && strspn(name, legal) == len &&
	    strchr("._-", name[0]) == NULL) {
		return 0;
	}
	err = errbuf_set(eb, -EINVAL, "\"%.80s\" is no name for a switch", name);
	errbuf_hint(eb, "use 1 to %u letters, digits, '.', '_' or '-', the first a letter or digit",
	            SWITCH_NAME_MAX);
	return err;
}

/* ---- subnets ---- */

static uint32_t subnet_mask(uint32_t prefix_bits)
{
	return prefix_bits == 0 ? 0 : UINT32_MAX << (32 - prefix_bits);
}

int switch_subnet_parse(const char *text, struct switch_subnet *out, struct errbuf *eb)
{
	char addr[INET_ADDRSTRLEN];
	const char *slash = strchr(text, '/');
	size_t len = slash != NULL ? (size_t)(slash - text) : 0;
	struct in_addr in;
	uint64_t prefix_bits;
	int err;

	if (slash == NULL || len >= sizeof(addr)) {
		err = errbuf_set(eb, -EINVAL, "\"%.40s\" is no subnet", text);
		errbuf_hint(eb, "write an IPv4 network and its length, such as 10.77.0.0/24");
		return err;
	}
	memcpy(addr, text, len);
	addr[len] = '\0';
	if (inet_pton(AF_INET, addr, &in) != 1) {
		return errbuf_set(eb, -EINVAL, "\"%s\" is no IPv4 address", addr);
	}
	err = parse_u64(slash + 1, SUBNET_PREFIX_MIN, SUBNET_PREFIX_MAX, &prefix_bits, eb);
	if (err != 0) {
		errbuf_prepend(eb, "length of the subnet");
		return -EINVAL;
	}

	struct switch_subnet s = {.network = ntohl(in.s_addr),
	                          .prefix_bits = (uint32_t)prefix_bits};

	if ((s.network & ~subnet_mask(s.prefix_bits)) != 0) {
		char right[SWITCH_SUBNET_TEXT];

		s.network &= subnet_mask(s.prefix_bits);
		err = errbuf_set(eb, -EINVAL, "\"%s\" is an address in a subnet, not the subnet",
		                 text);
		errbuf_hint(eb, "write %s", switch_subnet_format(&s, right));
		return err;
	}
	if (s.network >> 24 == 0 || s.network >> 24 == 127 || s.network >> 24 >= 224) {
		return errbuf_set(eb, -EINVAL, "%s is not for hosts", text);
	}
	*out = s;
	return 0;
}

const char *switch_subnet_format(const struct switch_subnet *s, char text[SWITCH_SUBNET_TEXT])
{
	char addr[SWITCH_SUBNET_TEXT];

	switch_subnet_addr(s, 0, addr, NULL);
	(void)snprintf(text, SWITCH_SUBNET_TEXT, "%.15s/%u", addr, s->prefix_bits % 100);
	return text;
}

bool switch_subnets_overlap(const struct switch_subnet *a, const struct switch_subnet *b)
{
	uint32_t bits = a->prefix_bits < b->prefix_bits ? a->prefix_bits : b->prefix_bits;

	return ((a->network ^ b->network) & subnet_mask(bits)) == 0;
}

void switch_subnet_addr(const struct switch_subnet *s, uint32_t index, char *text,
                        uint8_t packet[4])
{
	struct in_addr in = {.s_addr = htonl(s->network + index)};

	if (text != NULL) {
		(void)inet_ntop(AF_INET, &in, text, SWITCH_SUBNET_TEXT);
	}
	if (packet != NULL) {
		memcpy(packet, &in.s_addr, 4);
	}
}

/* ---- names ---- */

static const char *name_of(const struct switch_def *def, const char *prefix, char *name)
{
	char text[GUID_TEXT_SIZE];

	(void)snprintf(name, NETLINK_NAME_MAX + 1, "%s%.8s", prefix, guid_format(&def->id, text));
	return name;
}

const char *switch_bridge_name(const struct switch_def *def, char name[NETLINK_NAME_MAX + 1])
{
	return name_of(def, "gwb-", name);
}

const char *switch_bond_name(const struct switch_def *def, char name[NETLINK_NAME_MAX + 1])
{
	return name_of(def, "gwo-", name);
}

/* ---- complete ---- */

static int def_preset(json_t *json, const char *key, json_t *value)
{
	if (json_object_get(json, key) != NULL) {
		json_decref(value);
		return 0;
	}
	return value != NULL && json_object_set_new(json, key, value) == 0 ? 0 : -ENOMEM;
}

int switch_def_complete(json_t *json, struct errbuf *eb)
{
	struct json_at root = json_root(json, "switch");
	char id[GUID_TEXT_SIZE];
	struct guid guid;
	size_t type;
	int err = json_get_word(&root, "type", types, ARRAY_LEN(types), &type, eb);

	if (err != 0) {
		return err;
	}
	guid_random(&guid);
	err = def_preset(json, "id", json_string(guid_format(&guid, id)));
	if (err == 0) {
		err = def_preset(json, "vlan", json_integer(SWITCH_VLAN_NATIVE));
	}
	if (err == 0) {
		err = def_preset(json, "host",
		                 json_boolean(type == SWITCH_INTERNAL || type == SWITCH_NAT));
	}
	if (err == 0) {
		err = def_preset(json, "mtu_bytes", json_integer(SWITCH_MTU_PRESET));
	}
	if (err == 0 && json_array_size(json_object_get(json, "uplinks")) > 1) {
		err = def_preset(json, "team", json_string(teams[SWITCH_TEAM_ACTIVE_BACKUP]));
	}
	return err == 0 ? 0 : errbuf_sys(eb, err, "switch");
}

/* ---- decode ---- */

static int def_uplinks(const struct json_at *root, struct switch_def *def, struct errbuf *eb)
{
	struct json_at list;
	int err = json_opt(root, "uplinks", &list, eb);

	if (err != 0 || list.value == NULL) {
		return err;
	}
	err = json_as_array(&list, SWITCH_UPLINKS_MAX, eb);
	for (size_t i = 0; err == 0 && i < json_array_size(list.value); i++) {
		struct json_at one = json_element(&list, i);
		const char *name = "";

		err = json_as_str(&one, NETLINK_NAME_MAX, &name, eb);
		if (err == 0 && (name[0] == '\0' || strpbrk(name, "/ \t\n\"\\") != NULL)) {
			err = json_error(&one, eb, -EINVAL, "\"%s\" is no network interface", name);
		}
		for (uint32_t k = 0; err == 0 && k < def->uplink_count; k++) {
			if (strcmp(def->uplinks[k], name) == 0) {
				err = json_error(&one, eb, -EINVAL, "%s is named twice", name);
			}
		}
		def->uplinks[def->uplink_count++] = name;
	}
	return err;
}

static int def_subnet(const struct json_at *root, struct switch_def *def, struct errbuf *eb)
{
	const char *text = NULL;
	int err = json_opt_str(root, "subnet", SWITCH_SUBNET_TEXT, &text, eb);

	if (err == 0 && text != NULL) {
		err = switch_subnet_parse(text, &def->subnet, eb);
		if (err != 0) {
			errbuf_prepend(eb, "switch.subnet");
		}
	}
	return err;
}

/* What fits together. */
static int def_check(const struct switch_def *def, bool team, struct errbuf *eb)
{
	const char *type = types[def->type];
	bool inside = def->type == SWITCH_INTERNAL || def->type == SWITCH_NAT;
	int err;

	if (def->type == SWITCH_EXTERNAL && def->uplink_count == 0) {
		err = errbuf_set(eb, -EINVAL, "an external switch needs an uplink");
		errbuf_hint(eb, "name a network interface of this host: --uplink eth1");
		return err;
	}
	if (def->type != SWITCH_EXTERNAL && def->uplink_count != 0) {
		err = errbuf_set(eb, -EINVAL, "switches of type %s have no uplinks", type);
		errbuf_hint(eb, "of type external they have");
		return err;
	}
	if (team && def->uplink_count < 2) {
		return errbuf_set(eb, -EINVAL, "a team has two uplinks or more");
	}
	if (def->subnet.prefix_bits != 0 && !inside) {
		err = errbuf_set(eb, -EINVAL, "switches of type %s have no subnet", type);
		errbuf_hint(eb, "of type nat and internal they can have one");
		return err;
	}
	if (def->type == SWITCH_NAT && def->subnet.prefix_bits == 0) {
		return errbuf_set(eb, -EINVAL, "a NAT switch needs a subnet");
	}
	if (inside && !def->host) {
		return errbuf_set(eb, -EINVAL, "the host takes part in switches of type %s", type);
	}
	if (def->type == SWITCH_PRIVATE && def->host) {
		err = errbuf_set(eb, -EINVAL, "the host takes no part in a private switch");
		errbuf_hint(eb, "in one of type internal it does");
		return err;
	}
	return 0;
}

static int def_members(const struct json_at *root, struct switch_def *def, struct errbuf *eb)
{
	static const char *const known[] = {"id",   "name", "type",   "uplinks",  "team",
	                                    "vlan", "host", "subnet", "mtu_bytes"};
	const char *id = "";
	size_t type = 0;
	size_t team = 0;
	uint64_t vlan = 0;
	uint64_t mtu_bytes = 0;
	int err = json_check_members(root, known, ARRAY_LEN(known), eb);

	if (err == 0) {
		err = json_get_str(root, "id", GUID_TEXT_SIZE - 1, &id, eb);
	}
	if (err == 0 && guid_parse(id, &def->id) != 0) {
		err = json_error(root, eb, -EINVAL, "id: \"%s\" is no GUID", id);
	}
	if (err == 0) {
		err = json_get_str(root, "name", SWITCH_NAME_MAX, &def->name, eb);
	}
	if (err == 0) {
		err = switch_name_check(def->name, eb);
	}
	if (err == 0) {
		err = json_get_word(root, "type", types, ARRAY_LEN(types), &type, eb);
	}
	if (err == 0) {
		err = json_opt_word(root, "team", teams, ARRAY_LEN(teams), &team, eb);
	}
	if (err == 0) {
		err = json_get_u64(root, "vlan", 1, NETLINK_VLAN_MAX, &vlan, eb);
	}
	if (err == 0) {
		err = json_get_bool(root, "host", &def->host, eb);
	}
	if (err == 0) {
		err = json_get_u64(root, "mtu_bytes", SWITCH_MTU_MIN, SWITCH_MTU_MAX, &mtu_bytes,
		                   eb);
	}
	if (err == 0) {
		err = def_uplinks(root, def, eb);
	}
	if (err == 0) {
		err = def_subnet(root, def, eb);
	}
	def->type = (enum switch_type)type;
	def->team = (enum switch_team)team;
	def->vlan = (uint16_t)vlan;
	def->mtu_bytes = (uint32_t)mtu_bytes;
	return err;
}

int switch_def_decode(json_t *json, struct switch_def *out, struct errbuf *eb)
{
	struct json_at root = json_root(json, "switch");
	struct switch_def def = {0};
	int err = json_as_object(&root, eb);

	if (err == 0) {
		err = def_members(&root, &def, eb);
	}
	if (err == 0) {
		err = def_check(&def, json_object_get(json, "team") != NULL, eb);
	}
	if (err == 0) {
		def.json = json_incref(json);
		*out = def;
	}
	return err;
}

void switch_def_fini(struct switch_def *def)
{
	json_decref(def->json);
	*def = (struct switch_def){0};
}
