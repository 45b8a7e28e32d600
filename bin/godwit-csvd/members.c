/* SPDX-License-Identifier: Apache-2.0 */

/* members - what the cluster says, from JSON. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "bin/godwit-csvd/csvd_int.h"

#define EPOCH_MAX ((uint64_t)INT64_MAX)

static int get_node(const struct json_at *at, uint32_t *out, struct errbuf *eb)
{
	uint64_t id = 0;
	int err = json_get_u64(at, "id", 0, CSV_MSG_NODES - 1, &id, eb);

	*out = (uint32_t)id;
	return err;
}

static int get_text(const struct json_at *at, const char *key, char *out, size_t room,
                    struct errbuf *eb)
{
	const char *text = "";
	int err = json_get_str(at, key, room - 1, &text, eb);

	(void)snprintf(out, room, "%s", text);
	return err;
}

/* What counts as this node's key. */
static int parse_keys(const struct json_at *at, struct csv_daemon_peer *p, struct errbuf *eb)
{
	struct json_at keys;
	int err = json_opt(at, "keys", &keys, eb);

	if (err != 0 || keys.value == NULL) {
		return err;
	}
	err = json_as_array(&keys, CSV_DAEMON_PINS_MAX, eb);
	for (size_t i = 0; err == 0 && i < json_array_size(keys.value); i++) {
		const struct json_at one = json_element(&keys, i);
		const char *pin = "";

		err = json_as_str(&one, TLS_PIN_MAX - 1, &pin, eb);
		(void)snprintf(p->pins[p->pins_count++], TLS_PIN_MAX, "%s", pin);
	}
	return err;
}

static int parse_member(const struct json_at *at, struct csv_daemon_members *m, struct errbuf *eb)
{
	static const char *const known[] = {"id", "name", "run", "addr", "port", "keys"};
	struct csv_daemon_peer *p;
	const char *addr = "";
	uint64_t port = 0;
	uint32_t id;
	int err = json_check_members(at, known, ARRAY_LEN(known), eb);

	if (err == 0) {
		err = get_node(at, &id, eb);
	}
	if (err != 0) {
		return err;
	}
	p = &m->peers[id];
	if (p->run != 0) {
		return json_error(at, eb, -EINVAL, "node %u is there twice", id);
	}
	err = get_text(at, "name", p->name, sizeof(p->name), eb);
	if (err == 0 && !tls_name_valid(p->name)) {
		err = json_error(at, eb, -EINVAL, "\"%.40s\" cannot be a node's name", p->name);
	}
	if (err == 0) {
		err = json_get_u64(at, "run", 1, EPOCH_MAX, &p->run, eb);
	}
	if (err == 0) {
		err = json_opt_str(at, "addr", sizeof(p->addr) - 1, &addr, eb);
	}
	if (err == 0) {
		err = json_opt_u64(at, "port", 1, 65535, &port, eb);
	}
	(void)snprintf(p->addr, sizeof(p->addr), "%s", addr);
	p->port = (uint16_t)port;
	return err == 0 ? parse_keys(at, p, eb) : err;
}

/* {"id": node, "run": incarnation} */
static int parse_run(const struct json_at *at, struct csv_lock_owner *out, struct errbuf *eb)
{
	static const char *const known[] = {"id", "run"};
	int err = json_check_members(at, known, ARRAY_LEN(known), eb);

	if (err == 0) {
		err = get_node(at, &out->node, eb);
	}
	return err == 0 ? json_get_u64(at, "run", 1, EPOCH_MAX, &out->incarnation, eb) : err;
}

static int parse_id(const struct json_at *at, struct guid *out, struct errbuf *eb)
{
	const char *text = NULL;
	int err = json_opt_str(at, "id", GUID_TEXT_SIZE, &text, eb);

	if (err == 0 && text != NULL && guid_parse(text, out) != 0) {
		err = json_error(at, eb, -EINVAL, "\"%.40s\" is no volume's id", text);
	}
	return err;
}

static int parse_holders(const struct json_at *at, struct csv_daemon_volume *v, struct errbuf *eb)
{
	struct json_at holders;
	int err = json_get_array(at, "holders", CSV_COORD_HOLDERS_MAX, &holders, eb);

	for (size_t i = 0; err == 0 && i < json_array_size(holders.value); i++) {
		const struct json_at one = json_element(&holders, i);

		err = parse_run(&one, &v->holders[v->holders_count++], eb);
	}
	return err;
}

static int parse_volume(const struct json_at *at, struct csv_daemon_volume *v, struct errbuf *eb)
{
	static const char *const known[] = {"name",        "device", "id",      "term",
	                                    "coordinator", "quiet",  "holders", "wait"};
	uint64_t coordinator = CSV_MSG_NODES;
	int err = json_check_members(at, known, ARRAY_LEN(known), eb);

	if (err == 0) {
		err = get_text(at, "name", v->name, sizeof(v->name), eb);
	}
	if (err == 0) {
		err = get_text(at, "device", v->device, sizeof(v->device), eb);
	}
	if (err == 0) {
		err = parse_id(at, &v->id, eb);
	}
	if (err == 0) {
		err = json_get_u64(at, "term", 1, EPOCH_MAX, &v->term, eb);
	}
	if (err == 0) {
		err = json_opt_u64(at, "coordinator", 0, CSV_MSG_NODES - 1, &coordinator, eb);
	}
	if (err == 0) {
		err = json_get_bool(at, "quiet", &v->quiet, eb);
	}
	if (err == 0) {
		err = json_opt_bool(at, "wait", &v->wait, eb);
	}
	if (err == 0) {
		err = parse_holders(at, v, eb);
	}
	v->coordinator = (uint32_t)coordinator;
	return err;
}

static int parse_fenced(const struct json_at *at, struct csv_daemon_members *m, struct errbuf *eb)
{
	struct csv_lock_owner owner = {0};
	int err = parse_run(at, &owner, eb);

	if (err == 0 && owner.incarnation > m->fenced[owner.node]) {
		m->fenced[owner.node] = owner.incarnation;
	}
	return err;
}

static int parse_timing(const struct json_at *root, struct timing_cfg *t, struct errbuf *eb)
{
	const struct {
		const char *key;
		uint32_t *value;
	} fields[] = {
		{"token_ms", &t->token_ms},       {"consensus_ms", &t->consensus_ms},
		{"renew_ms", &t->renew_ms},       {"slot_ms", &t->slot_ms},
		{"lease_ms", &t->lease_ms},       {"watchdog_ms", &t->watchdog_ms},
		{"drift_ppm", &t->drift_ppm},     {"margin_ms", &t->margin_ms},
		{"inflight_ms", &t->inflight_ms}, {"install_ms", &t->install_ms},
	};
	const char *known[ARRAY_LEN(fields)];
	struct json_at at;
	int err = json_opt(root, "timing", &at, eb);

	timing_default(t);
	if (err != 0 || at.value == NULL) {
		return err;
	}
	for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
		known[i] = fields[i].key;
	}
	err = json_check_members(&at, known, ARRAY_LEN(known), eb);
	for (size_t i = 0; err == 0 && i < ARRAY_LEN(fields); i++) {
		uint64_t value = *fields[i].value;

		err = json_opt_u64(&at, fields[i].key, 0, UINT32_MAX, &value, eb);
		*fields[i].value = (uint32_t)value;
	}
	return err;
}

static int parse_lists(const struct json_at *root, struct csv_daemon_members *m, struct errbuf *eb)
{
	struct json_at list;
	int err = json_get_array(root, "members", CSV_MSG_NODES, &list, eb);

	for (size_t i = 0; err == 0 && i < json_array_size(list.value); i++) {
		const struct json_at one = json_element(&list, i);

		err = parse_member(&one, m, eb);
	}
	if (err == 0) {
		err = json_get_array(root, "fenced", 4096, &list, eb);
	}
	for (size_t i = 0; err == 0 && i < json_array_size(list.value); i++) {
		const struct json_at one = json_element(&list, i);

		err = parse_fenced(&one, m, eb);
	}
	if (err == 0) {
		err = json_get_array(root, "volumes", CSV_DAEMON_VOLUMES_MAX, &list, eb);
	}
	for (size_t i = 0; err == 0 && i < json_array_size(list.value); i++) {
		const struct json_at one = json_element(&list, i);

		err = parse_volume(&one, &m->volumes[m->volumes_count++], eb);
	}
	return err;
}

int members_parse(const json_t *json, struct csv_daemon_members *out, struct errbuf *eb)
{
	static const char *const known[] = {"epoch",   "self",   "members", "fenced",
	                                    "volumes", "timing", "to",      "index"};
	const struct json_at root = json_root(json, "");
	uint64_t self = 0;
	int err;

	memset(out, 0, sizeof(*out));
	if (json == NULL) {
		return errbuf_set(eb, -EINVAL, "there is no body");
	}
	err = json_check_members(&root, known, ARRAY_LEN(known), eb);
	if (err == 0) {
		err = json_get_u64(&root, "epoch", 1, EPOCH_MAX, &out->epoch, eb);
	}
	if (err == 0) {
		err = json_opt_u64(&root, "index", 0, EPOCH_MAX, &out->index, eb);
	}
	if (err == 0) {
		err = json_get_u64(&root, "self", 0, CSV_MSG_NODES - 1, &self, eb);
	}
	out->self = (uint32_t)self;
	if (err == 0) {
		err = parse_lists(&root, out, eb);
	}
	return err == 0 ? parse_timing(&root, &out->timing, eb) : err;
}
