/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/place/place_json.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/errbuf.h"
#include "base/fault.h"

#define VERSION 1u

static const char *const node_states[] = {"up", "down", "drain", "quarantine"};
static const char *const priorities[] = {"none", "low", "medium", "high"};
static const char *const fallbacks[] = {"leave", "quick", "shutdown"};

/* Sets go over 63 bits, which JSON integers do not: they are texts of hexadecimal digits. */
static void add_set(struct json_build *b, const char *key, uint64_t set)
{
	json_add_fmt(b, key, "%llx", (unsigned long long)set);
}

static void add_ids(struct json_build *b, const char *key, const uint32_t *ids, uint32_t count)
{
	struct json_build list;

	json_build_array(&list);
	for (uint32_t i = 0; i < count && ids[i] != 0; i++) {
		json_add_u64(&list, NULL, ids[i]);
	}
	json_add_build(b, key, &list);
}

static void add_node(struct json_build *list, const struct place_node *n)
{
	struct json_build b;

	json_build_object(&b);
	json_add_u64(&b, "id", n->id);
	json_add_str(&b, "state", node_states[n->state]);
	json_add_u64(&b, "cpus", n->cpus);
	json_add_u64(&b, "cpu_level", n->cpu_level);
	json_add_u64(&b, "memory", n->memory_bytes);
	add_set(&b, "paths", n->paths);
	json_add_build(list, NULL, &b);
}

static void add_vm(struct json_build *list, const struct place_vm *vm)
{
	const struct role_policy *p = &vm->policy;
	struct json_build b;

	json_build_object(&b);
	json_add_u64(&b, "id", vm->id);
	json_add_str(&b, "name", vm->name);
	json_add_u64(&b, "node", vm->node);
	json_add_bool(&b, "wanted", vm->wanted);
	json_add_bool(&b, "live", vm->live);
	json_add_u64(&b, "cpu_level", vm->cpu_level);
	json_add_u64(&b, "in_place", vm->in_place);
	add_set(&b, "tried", vm->tried);
	json_add_str(&b, "priority", priorities[p->priority]);
	json_add_str(&b, "fallback", fallbacks[p->fallback]);
	add_set(&b, "possible", p->possible);
	add_ids(&b, "preferred", p->preferred, ROLE_PREFERRED_MAX);
	add_ids(&b, "groups", p->groups, ROLE_GROUPS_MAX);
	add_ids(&b, "after", p->after, ROLE_AFTER_MAX);
	add_set(&b, "volumes", p->volumes);
	json_add_u64(&b, "memory", p->memory_bytes);
	json_add_u64(&b, "cpus", p->cpus);
	json_add_build(list, NULL, &b);
}

int place_save(const struct place_in *in, json_t **out)
{
	struct json_build nodes;
	struct json_build vms;
	struct json_build b;

	json_build_object(&b);
	json_add_u64(&b, "version", VERSION);
	json_add_u64(&b, "epoch", in->epoch);
	json_add_u64(&b, "now_ms", in->now_ms);
	json_add_u64(&b, "reserve", in->reserve_bytes);
	json_add_bool(&b, "apart_hard", in->apart_hard);
	if (in->paths_hard) {
		json_add_bool(&b, "paths_hard", true);
	}
	json_add_u64(&b, "starts_per_node", in->starts_per_node);
	json_add_u64(&b, "moves_per_node", in->moves_per_node);
	json_build_array(&nodes);
	for (uint32_t i = 0; i < in->node_count; i++) {
		add_node(&nodes, &in->nodes[i]);
	}
	json_add_build(&b, "nodes", &nodes);
	json_build_array(&vms);
	for (uint32_t i = 0; i < in->vm_count; i++) {
		add_vm(&vms, &in->vms[i]);
	}
	json_add_build(&b, "vms", &vms);
	return json_build_end(&b, out);
}

/* ---- reading; the first error stops all that follows ---- */

struct reader {
	const struct json_at *at;
	struct errbuf *eb;
	int err;
};

static uint64_t get_u64(struct reader *r, const char *key, uint64_t min, uint64_t max)
{
	uint64_t value = min;

	if (r->err == 0) {
		r->err = json_get_u64(r->at, key, min, max, &value, r->eb);
	}
	return value;
}

static uint32_t get_u32(struct reader *r, const char *key, uint32_t min, uint32_t max)
{
	return (uint32_t)get_u64(r, key, min, max);
}

static bool get_bool(struct reader *r, const char *key)
{
	bool value = false;

	if (r->err == 0) {
		r->err = json_get_bool(r->at, key, &value, r->eb);
	}
	return value;
}

static size_t get_word(struct reader *r, const char *key, const char *const words[], size_t count)
{
	size_t value = 0;

	if (r->err == 0) {
		r->err = json_get_word(r->at, key, words, count, &value, r->eb);
	}
	return value;
}

static uint64_t get_set(struct reader *r, const char *key)
{
	const char *text = "";
	uint64_t set = 0;

	if (r->err == 0) {
		r->err = json_get_str(r->at, key, 16, &text, r->eb);
	}
	for (const char *c = text; *c != '\0'; c++) {
		uint32_t digit = *c >= '0' && *c <= '9'   ? (uint32_t)(*c - '0')
		                 : *c >= 'a' && *c <= 'f' ? (uint32_t)(*c - 'a') + 10
		                                          : 16;

		if (digit > 15) {
			r->err = json_error(r->at, r->eb, -EINVAL,
			                    "%s: expected hexadecimal digits", key);
			return 0;
		}
		set = set << 4 | digit;
	}
	return set;
}

static void get_ids(struct reader *r, const char *key, uint32_t *ids, uint32_t count, uint32_t max)
{
	struct json_at list;

	if (r->err == 0) {
		r->err = json_get_array(r->at, key, count, &list, r->eb);
	}
	for (uint32_t i = 0; r->err == 0 && i < json_array_size(list.value); i++) {
		struct json_at element = json_element(&list, i);
		uint64_t id = 0;

		r->err = json_as_u64(&element, 1, max, &id, r->eb);
		ids[i] = (uint32_t)id;
	}
}

static int load_node(const struct json_at *at, struct place_node *n, struct errbuf *eb)
{
	struct reader r = {.at = at, .eb = eb};

	n->id = get_u32(&r, "id", 1, ROLE_NODES_MAX);
	n->state =
		(enum place_node_state)get_word(&r, "state", node_states, ARRAY_LEN(node_states));
	n->cpus = get_u32(&r, "cpus", 0, 1u << 20);
	n->cpu_level = get_u32(&r, "cpu_level", 0, UINT32_MAX);
	n->memory_bytes = get_u64(&r, "memory", 0, 1ull << 52);
	n->paths = get_set(&r, "paths");
	return r.err;
}

static int load_vm(const struct json_at *at, struct place_vm *vm, char *name, struct errbuf *eb)
{
	struct reader r = {.at = at, .eb = eb};
	struct role_policy *p = &vm->policy;
	const char *text = "";

	vm->id = get_u32(&r, "id", 1, ROLE_COUNT_MAX);
	if (r.err == 0) {
		r.err = json_get_str(at, "name", ROLE_NAME_MAX - 1, &text, eb);
	}
	(void)snprintf(name, ROLE_NAME_MAX, "%s", text);
	vm->name = name;
	vm->node = get_u32(&r, "node", 0, ROLE_NODES_MAX);
	vm->wanted = get_bool(&r, "wanted");
	vm->live = get_bool(&r, "live");
	vm->cpu_level = get_u32(&r, "cpu_level", 0, UINT32_MAX);
	vm->in_place = get_u32(&r, "in_place", 0, ROLE_NODES_MAX);
	vm->tried = get_set(&r, "tried");
	p->priority =
		(enum role_priority)get_word(&r, "priority", priorities, ARRAY_LEN(priorities));
	p->fallback = (enum role_fallback)get_word(&r, "fallback", fallbacks, ARRAY_LEN(fallbacks));
	p->possible = get_set(&r, "possible");
	get_ids(&r, "preferred", p->preferred, ROLE_PREFERRED_MAX, ROLE_NODES_MAX);
	get_ids(&r, "groups", p->groups, ROLE_GROUPS_MAX, UINT32_MAX);
	get_ids(&r, "after", p->after, ROLE_AFTER_MAX, ROLE_COUNT_MAX);
	p->volumes = get_set(&r, "volumes");
	p->memory_bytes = get_u64(&r, "memory", 1, ROLE_MEMORY_MAX);
	p->cpus = get_u32(&r, "cpus", 1, ROLE_CPUS_MAX);
	return r.err;
}

static int load_nodes(const struct json_at *at, struct place_saved *s, struct errbuf *eb)
{
	struct json_at list;
	int err = json_get_array(at, "nodes", ROLE_NODES_MAX, &list, eb);

	for (uint32_t i = 0; err == 0 && i < json_array_size(list.value); i++) {
		struct json_at element = json_element(&list, i);

		err = load_node(&element, &s->nodes[i], eb);
		if (err == 0 && i > 0 && s->nodes[i].id <= s->nodes[i - 1].id) {
			err = json_error(&element, eb, -EINVAL, "nodes are not ordered by id");
		}
		s->in.node_count = i + 1;
	}
	s->in.nodes = s->nodes;
	return err;
}

static int load_vms(const struct json_at *at, struct place_saved *s, struct errbuf *eb)
{
	struct json_at list;
	int err = json_get_array(at, "vms", PLACE_VMS_MAX, &list, eb);

	if (err < 0) {
		return err;
	}
	size_t count = json_array_size(list.value);

	s->vms = gw_calloc(count + 1, sizeof(*s->vms));
	s->names = gw_calloc(count + 1, sizeof(*s->names));
	if (s->vms == NULL || s->names == NULL) {
		return -ENOMEM;
	}
	for (uint32_t i = 0; err == 0 && i < count; i++) {
		struct json_at element = json_element(&list, i);

		err = load_vm(&element, &s->vms[i], s->names[i], eb);
		if (err == 0 && i > 0 && s->vms[i].id <= s->vms[i - 1].id) {
			err = json_error(&element, eb, -EINVAL, "VMs are not ordered by id");
		}
	}
	s->in.vm_count = (uint32_t)count;
	s->in.vms = s->vms;
	return err;
}

int place_load(const json_t *value, struct place_saved **out, struct errbuf *eb)
{
	struct json_at at = json_root(value, "placement");
	struct reader r = {.at = &at, .eb = eb};
	struct place_saved *s = gw_calloc(1, sizeof(*s));

	*out = NULL;
	if (s == NULL) {
		return -ENOMEM;
	}
	(void)get_u64(&r, "version", VERSION, VERSION);
	s->in.epoch = get_u64(&r, "epoch", 0, INT64_MAX);
	s->in.now_ms = get_u64(&r, "now_ms", 0, INT64_MAX);
	s->in.reserve_bytes = get_u64(&r, "reserve", 0, 1ull << 50);
	s->in.apart_hard = get_bool(&r, "apart_hard");
	s->in.paths_hard = json_is_true(json_object_get(value, "paths_hard"));
	s->in.starts_per_node = get_u32(&r, "starts_per_node", 0, ROLE_COUNT_MAX);
	s->in.moves_per_node = get_u32(&r, "moves_per_node", 0, ROLE_COUNT_MAX);
	if (r.err == 0) {
		r.err = load_nodes(&at, s, eb);
	}
	if (r.err == 0) {
		r.err = load_vms(&at, s, eb);
	}
	if (r.err < 0) {
		place_saved_free(s);
		return r.err;
	}
	*out = s;
	return 0;
}

void place_saved_free(struct place_saved *saved)
{
	if (saved != NULL) {
		free(saved->vms);
		free(saved->names);
		free(saved);
	}
}
