/* SPDX-License-Identifier: Apache-2.0 */
#include "hv/switch/switch.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/loop.h"
#include "hv/manager/store.h"
#include "hv/switch/netlink.h"
#include "hv/switch/switch_int.h"
#include "hv/switch/tap.h"

#define TAG SWITCH_TAG
#define PAUSE_FIRST_NS (2 * NS_PER_S)
#define PAUSE_MAX_NS (60 * NS_PER_S)

void switch_event(struct switch_one *one, const char *event, const char *fmt, ...)
{
	const struct switches_cfg *cfg = &one->owner->cfg;
	char text[ERRBUF_TEXT_MAX];
	json_t *json;
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	log_info(TAG, "%s switch=%s text=\"%s\"", event, one->def.name, text);
	json = json_pack("{s:s,s:s,s:s,s:I}", "event", event, "switch", one->def.name, "text", text,
	                 "time_ns", (json_int_t)clock_wall_ns());
	if (json != NULL && cfg->event != NULL) {
		cfg->event(cfg->arg, json);
	}
	json_decref(json);
}

/* ---- the set ---- */

struct switch_one *switch_find(const struct switches *s, const char *name)
{
	struct guid id;
	bool is_id = guid_parse(name, &id) == 0;

	for (uint32_t i = 0; i < s->count; i++) {
		if (strcmp(s->ones[i]->def.name, name) == 0 ||
		    (is_id && guid_equal(&s->ones[i]->def.id, &id))) {
			return s->ones[i];
		}
	}
	return NULL;
}

void switch_insert(struct switches *s, struct switch_one *one)
{
	uint32_t at = s->count++;

	while (at > 0 && strcmp(s->ones[at - 1]->def.name, one->def.name) > 0) {
		s->ones[at] = s->ones[at - 1];
		at--;
	}
	s->ones[at] = one;
}

void switch_delete(struct switches *s, struct switch_one *one)
{
	uint32_t at = 0;

	while (s->ones[at] != one) {
		at++;
	}
	s->count--;
	for (; at < s->count; at++) {
		s->ones[at] = s->ones[at + 1];
	}
}

int switch_new(struct switches *s, json_t *json, struct switch_one **out, struct errbuf *eb)
{
	struct switch_one *one = gw_calloc(1, sizeof(*one));
	int err;

	*out = NULL;
	if (one == NULL) {
		(void)errbuf_sys(eb, -ENOMEM, "switch");
		return -ENOMEM;
	}
	err = switch_def_decode(json, &one->def, eb);
	if (err != 0) {
		free(one);
		return err;
	}
	one->owner = s;
	*out = one;
	return 0;
}

void switch_free(struct switch_one *one)
{
	if (one != NULL) {
		dhcp_release(one->dhcp);
		switch_def_fini(&one->def);
		free(one);
	}
}

const char *switches_name(const struct switches *s, const char *name_or_id)
{
	const struct switch_one *one = switch_find(s, name_or_id);

	return one != NULL ? one->def.name : NULL;
}

/* ---- life ---- */

static int switch_load(void *arg, const char *key, json_t *value)
{
	struct switches *s = arg;
	struct errbuf eb = {0};
	struct switch_one *one = NULL;
	int err = s->count < SWITCHES_MAX ? switch_new(s, value, &one, &eb) : -ENOSPC;

	if (err == 0) {
		switch_insert(s, one);
	} else if (err != -ENOMEM) {
		/* Of a newer version, or damaged: it stays in the store, the rest works. */
		log_err(TAG, "a switch cannot be read key=%s text=\"%s\"", key,
		        errbuf_text(&eb, err));
		err = 0;
	}
	return err;
}

/* Apply, and keep what came of it for the status. */
static int switch_try(struct switch_one *one, struct errbuf *eb)
{
	struct errbuf error = {0};
	int err = switch_apply(one, &error);

	if (err != 0 && (one->err != err || strcmp(one->error.text, error.text) != 0)) {
		switch_event(one, "switch.failed", "%s", errbuf_text(&error, err));
	}
	one->err = err;
	one->error = error;
	if (err != 0) {
		loop_timer_arm(one->owner->again, one->owner->pause_ns);
	}
	if (eb != NULL) {
		*eb = error;
	}
	return err;
}

/* A busy host that starts, an uplink that comes late: what failed is tried again, less often each
 * time. */
static void switch_again(void *arg)
{
	struct switches *s = arg;
	bool failed = false;

	s->pause_ns = s->pause_ns * 2 < PAUSE_MAX_NS ? s->pause_ns * 2 : PAUSE_MAX_NS;
	for (uint32_t i = 0; i < s->count; i++) {
		if (s->ones[i]->err != 0) {
			if (switch_try(s->ones[i], NULL) == 0) {
				switch_event(s->ones[i], "switch.restored", "it works now");
			}
			failed = failed || s->ones[i]->err != 0;
		}
	}
	if (!failed) {
		s->pause_ns = PAUSE_FIRST_NS;
	}
}

static int switch_dirs(const struct switches_cfg *cfg, struct errbuf *eb)
{
	char path[SWITCH_PATH_MAX];
	int err;

	if (snprintf(path, sizeof(path), "%s/switch", cfg->run_dir) >= (int)sizeof(path) - 64) {
		return errbuf_set(eb, -ENAMETOOLONG, "the run directory's path is too long");
	}
	err = fs_mkdirs(path, 0755, eb);
	if (err != 0) {
		return err;
	}
	if (snprintf(path, sizeof(path), "%s/switch", cfg->state_dir) >= (int)sizeof(path) - 64) {
		return errbuf_set(eb, -ENAMETOOLONG, "the state directory's path is too long");
	}
	return fs_mkdirs(path, 0755, eb);
}

int switches_create(const struct switches_cfg *cfg, struct switches **out, struct errbuf *eb)
{
	struct switches *s = gw_calloc(1, sizeof(*s));
	int err;

	*out = NULL;
	if (s == NULL) {
		return errbuf_sys(eb, -ENOMEM, "switches");
	}
	s->cfg = *cfg;
	s->pause_ns = PAUSE_FIRST_NS;
	err = switch_dirs(cfg, eb);
	if (err == 0 && loop_timer_new(cfg->loop, switch_again, s, &s->again) != 0) {
		err = errbuf_sys(eb, -ENOMEM, "switches");
	}
	if (err == 0) {
		err = netlink_open(&s->nl, eb);
	}
	if (err == 0) {
		err = cfg->store->ops->each(cfg->store, SWITCH_KIND, switch_load, s, eb);
	}
	if (err != 0) {
		switches_destroy(s);
		return err;
	}
	for (uint32_t i = 0; i < s->count; i++) {
		(void)switch_try(s->ones[i], NULL);
	}
	*out = s;
	return 0;
}

void switches_destroy(struct switches *s)
{
	if (s != NULL) {
		for (uint32_t i = 0; i < s->count; i++) {
			switch_free(s->ones[i]);
		}
		loop_timer_del(s->again);
		netlink_close(s->nl);
		free(s);
	}
}

/* ---- ports ---- */

int switch_ports(struct switch_one *one, switch_port_fn fn, void *arg, struct errbuf *eb)
{
	struct netlink_link *links;
	struct tap_port port;
	uint32_t count;
	int err = netlink_links(one->owner->nl, &links, &count, eb);

	for (uint32_t i = 0; err == 0 && i < count; i++) {
		if (strcmp(links[i].kind, "tun") == 0 &&
		    tap_alias_decode(links[i].alias, &port) == 0 &&
		    guid_equal(&port.switch_id, &one->def.id)) {
			fn(arg, &links[i], &port);
		}
	}
	free(links);
	return err;
}

static void switch_count_port(void *arg, const struct netlink_link *link,
                              const struct tap_port *port)
{
	uint32_t *count = arg;

	(void)link;
	(void)port;
	(*count)++;
}

int switch_ports_count(struct switch_one *one, uint32_t *count, struct errbuf *eb)
{
	*count = 0;
	return switch_ports(one, switch_count_port, count, eb);
}

int switches_remove(struct switches *s, const char *name, struct errbuf *eb)
{
	struct vm_store *store = s->cfg.store;
	struct switch_one *one = switch_find(s, name);
	char id[GUID_TEXT_SIZE];
	uint32_t ports = 0;
	int err;

	if (one == NULL) {
		return errbuf_set(eb, -ENOENT, "there is no switch named %s", name);
	}
	err = switch_ports_count(one, &ports, eb);
	if (err == 0 && ports != 0) {
		err = errbuf_set(eb, -EBUSY, "%u adapter%s plugged into switch %s", ports,
		                 ports == 1 ? " is" : "s are", one->def.name);
		errbuf_hint(eb, "godwit switch show %s lists them; stop those VMs first",
		            one->def.name);
	}
	if (err == 0) {
		err = switch_undo(one, false, eb);
	}
	if (err == 0) {
		err = store->ops->remove(store, SWITCH_KIND, guid_format(&one->def.id, id), eb);
	}
	if (err != 0) {
		return err;
	}
	switch_delete(s, one);
	err = switch_rules_apply(s, eb);
	switch_event(one, "switch.removed", "%s", switch_type_name(one->def.type));
	switch_free(one);
	return err;
}

/* The bridge of a switch that works. One that could not be made, or was taken away, gets another
 * chance. */
static int switch_ready(struct switch_one *one, struct netlink_link *bridge, struct errbuf *eb)
{
	int err = 0;

	if (one->err != 0 || switch_bridge_get(one, bridge, NULL) != 0) {
		err = switch_try(one, eb);
		if (err == 0) {
			err = switch_bridge_get(one, bridge, eb);
		}
	}
	return err;
}

static struct tap_port switch_port_of(const struct switch_one *one,
                                      const struct switch_adapter *adapter)
{
	struct tap_port port = {.nic_id = adapter->id,
	                        .switch_id = one->def.id,
	                        .vlan = adapter->vlan != 0 ? adapter->vlan : one->def.vlan};

	memcpy(port.mac, adapter->mac, sizeof(port.mac));
	return port;
}

static int switch_plug(struct switch_one *one, const struct switch_adapter *adapter, int *fds,
                       uint32_t *mtu_bytes, struct errbuf *eb)
{
	struct tap_port port = switch_port_of(one, adapter);
	struct netlink_link bridge;
	char tap[NETLINK_NAME_MAX + 1];
	int err = switch_ready(one, &bridge, eb);

	if (err != 0) {
		return err;
	}
	if (port.vlan > NETLINK_VLAN_MAX) {
		return errbuf_set(eb, -EINVAL, "there is no VLAN %u", port.vlan);
	}
	if (!bridge.vlans && port.vlan != SWITCH_VLAN_NATIVE) {
		err = errbuf_set(eb, -EOPNOTSUPP, "this kernel's bridges know no VLANs");
		errbuf_hint(eb, "the kernel needs CONFIG_BRIDGE_VLAN_FILTERING");
		return err;
	}
	err = tap_open(tap_name(&adapter->id, tap), adapter->queues, fds, eb);
	if (err != 0) {
		return err;
	}
	err = tap_plug(one->owner->nl, tap, &port, &bridge, bridge.vlans, !adapter->arriving, eb);
	for (uint32_t i = 0; err != 0 && i < adapter->queues; i++) {
		(void)close(fds[i]);
	}
	*mtu_bytes = one->def.mtu_bytes;
	return err;
}

int switches_plug(struct switches *s, const char *name, const struct switch_adapter *adapter,
                  int *fds, uint32_t *mtu_bytes, struct errbuf *eb)
{
	struct switch_one *one = switch_find(s, name);
	char tap[NETLINK_NAME_MAX + 1];
	int err;

	*mtu_bytes = SWITCH_MTU_PRESET;
	if (name[0] == '\0') {
		return tap_open(tap_name(&adapter->id, tap), adapter->queues, fds, eb);
	}
	if (one == NULL) {
		err = errbuf_set(eb, -ENOENT, "there is no switch named %s", name);
		errbuf_hint(eb, "godwit switch list shows those there are");
		return err;
	}
	err = switch_plug(one, adapter, fds, mtu_bytes, eb);
	if (err != 0) {
		errbuf_prepend(eb, "switch %s", one->def.name);
	}
	return err;
}

int switches_claim(struct switches *s, const char *name, const struct switch_adapter *adapter,
                   struct errbuf *eb)
{
	struct switch_one *one = switch_find(s, name);
	struct netlink_link bridge;
	struct tap_port port;
	char tap[NETLINK_NAME_MAX + 1];
	int err;

	if (name[0] == '\0') {
		return 0;
	}
	if (one == NULL) {
		return errbuf_set(eb, -ENOENT, "there is no switch named %s", name);
	}
	port = switch_port_of(one, adapter);
	err = switch_ready(one, &bridge, eb);
	if (err == 0) {
		err = tap_claim(s->nl, tap_name(&adapter->id, tap), &port, bridge.vlans, eb);
	}
	if (err != 0) {
		errbuf_prepend(eb, "switch %s", one->def.name);
	}
	return err;
}

/* ---- status ---- */

static void switch_port_add(void *arg, const struct netlink_link *link, const struct tap_port *port)
{
	struct json_build *ports = arg;
	struct json_build b;
	char id[GUID_TEXT_SIZE];
	const uint8_t *m = port->mac;

	json_build_object(&b);
	json_add_str(&b, "nic", guid_format(&port->nic_id, id));
	json_add_str(&b, "tap", link->name);
	json_add_fmt(&b, "mac", "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4],
	             m[5]);
	json_add_u64(&b, "vlan", port->vlan);
	json_add_bool(&b, "plugged", link->master != 0);
	json_add_build(ports, NULL, &b);
}

static void switch_uplinks_add(struct switch_one *one, struct json_build *b, bool *carrier)
{
	struct json_build list;

	*carrier = one->def.uplink_count == 0;
	json_build_array(&list);
	for (uint32_t i = 0; i < one->def.uplink_count; i++) {
		struct netlink_link link = {0};
		struct json_build u;
		bool there =
			netlink_link_get(one->owner->nl, one->def.uplinks[i], &link, NULL) == 0;

		json_build_object(&u);
		json_add_str(&u, "name", one->def.uplinks[i]);
		json_add_bool(&u, "present", there);
		json_add_bool(&u, "carrier", there && link.carrier);
		json_add_build(&list, NULL, &u);
		*carrier = *carrier || (there && link.carrier);
	}
	json_add_build(b, "uplinks", &list);
}

static void switch_dhcp_add(const struct switch_one *one, struct json_build *b)
{
	struct json_build d;

	if (one->dhcp == NULL) {
		return;
	}
	json_build_object(&d);
	json_add_u64(&d, "pid", (uint64_t)dhcp_pid(one->dhcp));
	json_add_u64(&d, "restarts", dhcp_restarts(one->dhcp));
	json_add_str(&d, "error", dhcp_error(one->dhcp));
	json_add_build(b, "dhcp", &d);
}

/* ok; degraded: part of it does not work; failed: nothing can be plugged in. */
static const char *switch_state(const struct switch_one *one, bool bridge, bool carrier)
{
	if (one->err != 0 || !bridge) {
		return "failed";
	}
	return carrier && (one->dhcp == NULL || dhcp_pid(one->dhcp) != 0) ? "ok" : "degraded";
}

static json_t *switch_status(struct switch_one *one)
{
	struct json_build b;
	struct json_build ports;
	struct netlink_link bridge = {0};
	struct errbuf eb = {0};
	char text[SWITCH_SUBNET_TEXT];
	char name[NETLINK_NAME_MAX + 1];
	bool there = switch_bridge_get(one, &bridge, &eb) == 0;
	bool carrier;
	json_t *out;

	json_build_object(&b);
	json_add_str(&b, "name", one->def.name);
	json_add_strn(&b, "id", guid_format(&one->def.id, (char[GUID_TEXT_SIZE]){0}),
	              GUID_TEXT_SIZE - 1);
	json_add_str(&b, "type", switch_type_name(one->def.type));
	switch_uplinks_add(one, &b, &carrier);
	json_add_str(&b, "state", switch_state(one, there, carrier));
	if (one->err != 0 || !there) {
		const struct errbuf *why = one->err != 0 ? &one->error : &eb;

		json_add_str(&b, "error", errbuf_text(why, one->err));
		json_add_str(&b, "hint", why->hint);
	}
	json_add_str(&b, "bridge", switch_bridge_name(&one->def, name));
	json_add_bool(&b, "vlans", bridge.vlans);
	json_add_u64(&b, "vlan", one->def.vlan);
	json_add_bool(&b, "host", one->def.host);
	json_add_u64(&b, "mtu_bytes", one->def.mtu_bytes);
	if (one->def.uplink_count > 1) {
		json_add(&b, "team", json_incref(json_object_get(one->def.json, "team")));
	}
	if (one->def.subnet.prefix_bits != 0) {
		json_add_str(&b, "subnet", switch_subnet_format(&one->def.subnet, text));
		switch_subnet_addr(&one->def.subnet, 1, text, NULL);
		json_add_str(&b, "address", text);
	}
	switch_dhcp_add(one, &b);
	json_build_array(&ports);
	if (switch_ports(one, switch_port_add, &ports, NULL) != 0) {
		log_warn(TAG, "ports cannot be listed switch=%s", one->def.name);
	}
	json_add_build(&b, "ports", &ports);
	return json_build_end(&b, &out) == 0 ? out : NULL;
}

json_t *switches_status(struct switches *s, const char *name)
{
	struct json_build list;
	json_t *out;

	if (name != NULL) {
		struct switch_one *one = switch_find(s, name);

		return one != NULL ? switch_status(one) : NULL;
	}
	json_build_array(&list);
	for (uint32_t i = 0; i < s->count; i++) {
		json_add(&list, NULL, switch_status(s->ones[i]));
	}
	return json_build_end(&list, &out) == 0 ? out : NULL;
}
