/* SPDX-License-Identifier: Apache-2.0 */
/* New switches, and other definitions of those there are. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/loop.h"
#include "hv/manager/store.h"
#include "hv/switch/netlink.h"
#include "hv/switch/switch_int.h"

#define TAG SWITCH_TAG

/* The first of 256 networks for NAT switches that name none: 10.77.0.0/24 to 10.77.255.0/24. */
#define NAT_FIRST 0x0a4d0000u
#define NAT_PREFIX 24u
#define NAT_COUNT 256u

/* Does another switch than @except or an interface of the host use a part of @subnet? */
static int subnet_taken(const struct switches *s, const struct switch_one *except,
                        const struct switch_subnet *subnet, const struct netlink_addr *addrs,
                        uint32_t count, struct errbuf *eb)
{
	struct netlink_link own = {0}; /* its address goes with it */
	char text[SWITCH_SUBNET_TEXT];

	if (except != NULL && switch_bridge_get(except, &own, NULL) != 0) {
		own.index = 0;
	}
	for (uint32_t i = 0; i < s->count; i++) {
		const struct switch_subnet *other = &s->ones[i]->def.subnet;

		if (s->ones[i] != except && other->prefix_bits != 0 &&
		    switch_subnets_overlap(other, subnet)) {
			return errbuf_set(eb, -EBUSY, "switch %s has the subnet %s",
			                  s->ones[i]->def.name, switch_subnet_format(other, text));
		}
	}
	for (uint32_t i = 0; i < count; i++) {
		const uint8_t *a = addrs[i].addr;
		const struct switch_subnet other = {
			.network = (uint32_t)a[0] << 24 | (uint32_t)a[1] << 16 |
		                   (uint32_t)a[2] << 8 | a[3],
			.prefix_bits = addrs[i].prefix_bits,
		};

		if (!addrs[i].ip6 && addrs[i].prefix_bits != 0 && addrs[i].index != own.index &&
		    switch_subnets_overlap(&other, subnet)) {
			int err = errbuf_set(eb, -EBUSY, "the host has %s in that subnet",
			                     switch_subnet_format(&other, text));

			errbuf_hint(eb, "choose another one, or leave it out");
			return err;
		}
	}
	return 0;
}

/* Give a NAT switch without a subnet a free one; check the one it has. */
static int subnet_settle(struct switches *s, const struct switch_one *except, json_t *json,
                         struct errbuf *eb)
{
	const char *type = json_string_value(json_object_get(json, "type"));
	const char *given = json_string_value(json_object_get(json, "subnet"));
	struct switch_subnet subnet = {.network = NAT_FIRST, .prefix_bits = NAT_PREFIX};
	struct netlink_addr *addrs = NULL;
	char text[SWITCH_SUBNET_TEXT];
	uint32_t count = 0;
	int err = netlink_addrs(s->nl, 0, &addrs, &count, eb);

	if (err == 0 && given != NULL) {
		err = switch_subnet_parse(given, &subnet, eb);
		if (err == 0) {
			err = subnet_taken(s, except, &subnet, addrs, count, eb);
		}
		if (err != 0) {
			errbuf_prepend(eb, "switch.subnet");
		}
	} else if (err == 0 && type != NULL && strcmp(type, "nat") == 0) {
		err = -EBUSY;
		for (uint32_t i = 0; err == -EBUSY && i < NAT_COUNT; i++) {
			subnet.network = NAT_FIRST + (i << (32 - NAT_PREFIX));
			err = subnet_taken(s, except, &subnet, addrs, count, eb);
		}
		if (err == 0 &&
		    json_object_set_new(json, "subnet",
		                        json_string(switch_subnet_format(&subnet, text))) != 0) {
			err = errbuf_sys(eb, -ENOMEM, "switch");
		}
	}
	free(addrs);
	return err;
}

/* Uplinks of other switches than @except. */
static int uplinks_free(const struct switches *s, const struct switch_def *def,
                        const struct switch_one *except, struct errbuf *eb)
{
	for (uint32_t i = 0; i < s->count; i++) {
		const struct switch_def *other = &s->ones[i]->def;

		for (uint32_t k = 0; s->ones[i] != except && k < other->uplink_count; k++) {
			for (uint32_t n = 0; n < def->uplink_count; n++) {
				if (strcmp(other->uplinks[k], def->uplinks[n]) == 0) {
					int err = errbuf_set(eb, -EBUSY,
					                     "%s is an uplink of switch %s",
					                     def->uplinks[n], other->name);

					errbuf_hint(eb, "adapters share it with the help of "
					                "VLANs: godwit help vm create");
					return err;
				}
			}
		}
	}
	return 0;
}

/* Against the others and the machine. */
static int switch_check(struct switch_one *one, struct errbuf *eb)
{
	struct switches *s = one->owner;
	int err;

	if (switch_find(s, one->def.name) != NULL) {
		return errbuf_set(eb, -EEXIST, "there is a switch named %s already", one->def.name);
	}
	if (s->count == SWITCHES_MAX) {
		return errbuf_set(eb, -ENOSPC, "a host has at most %u switches", SWITCHES_MAX);
	}
	err = uplinks_free(s, &one->def, NULL, eb);
	return err != 0 ? err : switch_uplinks_check(one, eb);
}

/* Kept first, made then: what a crash leaves is a switch that the next start completes. */
static int switch_add(struct switch_one *one, struct errbuf *eb)
{
	struct switches *s = one->owner;
	struct vm_store *store = s->cfg.store;
	char id[GUID_TEXT_SIZE];
	struct errbuf worse = {0};
	int err = store->ops->put(store, SWITCH_KIND, guid_format(&one->def.id, id), one->def.json,
	                          eb);

	if (err != 0) {
		return err;
	}
	switch_insert(s, one);
	err = switch_apply(one, eb);
	if (err == 0) {
		return 0;
	}
	if (switch_undo(one, false, &worse) != 0) {
		log_err(TAG, "a switch is left half done switch=%s text=\"%s\"", one->def.name,
		        worse.text);
	}
	switch_delete(s, one);
	if (switch_rules_apply(s, &worse) != 0) {
		log_err(TAG, "rules are left behind text=\"%s\"", worse.text);
	}
	if (store->ops->remove(store, SWITCH_KIND, id, &worse) != 0) {
		log_err(TAG, "a definition is left behind text=\"%s\"", worse.text);
	}
	return err;
}

int switches_define(struct switches *s, json_t *json, bool dry_run, struct errbuf *eb)
{
	struct switch_one *one = NULL;
	int err = switch_def_complete(json, eb);

	if (err == 0) {
		err = subnet_settle(s, NULL, json, eb);
	}
	if (err == 0) {
		err = switch_new(s, json, &one, eb);
	}
	if (err == 0) {
		err = switch_check(one, eb);
	}
	if (err == 0 && !dry_run) {
		err = switch_add(one, eb);
	}
	if (err != 0 || dry_run) {
		switch_free(one);
		return err;
	}
	switch_event(one, "switch.created", "%s", switch_type_name(one->def.type));
	return 0;
}

/* ---- change ---- */

/* @old with the members of @patch; null: as if it were not named. */
static int change_merge(const json_t *old, const json_t *patch, json_t **out, struct errbuf *eb)
{
	json_t *json = json_deep_copy(old);
	json_t *changes = json_deep_copy(patch);
	const char *key;
	json_t *value;
	int err = json != NULL && changes != NULL ? 0 : -ENOMEM;

	json_object_foreach(changes, key, value)
	{
		if (err != 0) {
			break;
		}
		if (json_is_null(value)) {
			(void)json_object_del(json, key);
		} else {
			err = json_object_set(json, key, value) == 0 ? 0 : -ENOMEM;
		}
	}
	json_decref(changes);
	if (err == 0 && json_array_size(json_object_get(json, "uplinks")) < 2 &&
	    json_object_get(patch, "team") == NULL) {
		(void)json_object_del(json, "team"); /* the last member of a team is none */
	}
	if (err != 0) {
		json_decref(json);
		return errbuf_sys(eb, err, "switch");
	}
	*out = json;
	return 0;
}

/* What guests were told when they started must not become wrong while they run. */
static int change_allowed(struct switch_one *one, const struct switch_def *next, struct errbuf *eb)
{
	const struct switch_def *now = &one->def;
	const char *what = NULL;
	uint32_t ports = 0;
	int err;

	if (!guid_equal(&next->id, &now->id) || next->type != now->type ||
	    strcmp(next->name, now->name) != 0) {
		return errbuf_set(eb, -EINVAL, "id, name and type of a switch never change");
	}
	if (next->vlan != now->vlan) {
		what = "the VLAN";
	} else if (next->mtu_bytes != now->mtu_bytes) {
		what = "the MTU";
	} else if (memcmp(&next->subnet, &now->subnet, sizeof(now->subnet)) != 0) {
		what = "the subnet";
	}
	if (what == NULL) {
		return 0;
	}
	err = switch_ports_count(one, &ports, eb);
	if (err == 0 && ports != 0) {
		err = errbuf_set(eb, -EBUSY, "%s cannot change: %u adapter%s plugged into %s", what,
		                 ports, ports == 1 ? " is" : "s are", now->name);
		errbuf_hint(eb, "godwit switch show %s lists them; stop those VMs first",
		            now->name);
	}
	return err;
}

static void change_swap(struct switches *s, struct switch_one *out, struct switch_one *in)
{
	switch_delete(s, out);
	switch_insert(s, in);
}

/* Taken apart and made anew; taps of VMs that run are plugged in again. On failure: as it was. */
static int change_make(struct switch_one *now, struct switch_one *next, struct errbuf *eb)
{
	struct switches *s = now->owner;
	struct errbuf worse = {0};
	int err = switch_undo(now, true, eb);

	if (err == 0) {
		change_swap(s, now, next);
		err = switch_apply(next, eb);
		if (err != 0) {
			if (switch_undo(next, true, &worse) != 0) {
				log_err(TAG, "a switch is left half done switch=%s text=\"%s\"",
				        now->def.name, worse.text);
			}
			change_swap(s, next, now);
		}
	}
	if (err != 0) {
		now->err = switch_apply(now, &now->error);
		if (now->err != 0) {
			loop_timer_arm(s->again, s->pause_ns);
			log_err(TAG, "a switch cannot be made again switch=%s text=\"%s\"",
			        now->def.name, now->error.text);
		}
	}
	return err;
}

static int change_do(struct switch_one *now, struct switch_one *next, struct errbuf *eb)
{
	struct vm_store *store = now->owner->cfg.store;
	struct errbuf worse = {0};
	char id[GUID_TEXT_SIZE];
	int err = store->ops->put(store, SWITCH_KIND, guid_format(&now->def.id, id), next->def.json,
	                          eb);

	if (err != 0) {
		return err;
	}
	err = change_make(now, next, eb);
	if (err != 0 && store->ops->put(store, SWITCH_KIND, id, now->def.json, &worse) != 0) {
		log_err(TAG, "the wrong definition is kept switch=%s text=\"%s\"", now->def.name,
		        worse.text);
	}
	return err;
}

int switches_change(struct switches *s, const char *name, const json_t *patch, struct errbuf *eb)
{
	struct switch_one *now = switch_find(s, name);
	struct switch_one *next = NULL;
	json_t *json = NULL;
	int err;

	if (now == NULL) {
		return errbuf_set(eb, -ENOENT, "there is no switch named %s", name);
	}
	err = change_merge(now->def.json, patch, &json, eb);
	if (err == 0) {
		err = switch_def_complete(json, eb);
	}
	if (err == 0) {
		err = subnet_settle(s, now, json, eb);
	}
	if (err == 0) {
		err = switch_new(s, json, &next, eb);
	}
	json_decref(json);
	if (err != 0) {
		return err;
	}
	err = change_allowed(now, &next->def, eb);
	if (err == 0) {
		err = uplinks_free(s, &next->def, now, eb);
	}
	if (err == 0) {
		err = change_do(now, next, eb);
	}
	if (err != 0) {
		switch_free(next);
		return err;
	}
	switch_free(now);
	switch_event(next, "switch.changed", "new definition");
	return 0;
}
