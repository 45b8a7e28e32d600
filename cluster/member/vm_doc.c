/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/member/vm_doc.h"

#include <errno.h>
#include <string.h>

#include "base/attr.h"
#include "base/crc32c.h"
#include "base/errbuf.h"

#define GROUP_NAME_MAX 63u

bool vm_doc_is_role(const json_t *doc)
{
	return json_is_object(json_object_get(doc, "ha"));
}

uint32_t vm_doc_level(const json_t *doc, const char **what)
{
	static const struct {
		const char *key; /* of "ha" */
		const char *option;
		uint32_t level;
	} newer[] = {
		{"after", "--start-after", 2},
		{"restart_within_ms", "--objective", 2},
		{"wait_ms", "--objective", 2},
	};
	const json_t *ha = json_object_get(doc, "ha");
	const char *option = NULL;
	uint32_t level = 1;

	for (size_t i = 0; i < ARRAY_LEN(newer); i++) {
		if (newer[i].level > level && json_object_get(ha, newer[i].key) != NULL) {
			level = newer[i].level;
			option = newer[i].option;
		}
	}
	if (what != NULL) {
		*what = option;
	}
	return level;
}

static int nodes_of(const struct json_at *ha, const char *key, uint32_t max, uint32_t *out,
                    uint64_t *set, struct errbuf *eb)
{
	struct json_at array;
	size_t count;
	int err;

	*set = 0;
	if (json_object_get(ha->value, key) == NULL) {
		return 0;
	}
	err = json_get_array(ha, key, max, &array, eb);
	count = err == 0 ? json_array_size(array.value) : 0;
	for (size_t i = 0; err == 0 && i < count; i++) {
		const struct json_at element = json_element(&array, i);
		uint64_t id = 0;

		err = json_as_u64(&element, 1, ROLE_NODES_MAX, &id, eb);
		if (err == 0) {
			*set |= role_bit((uint32_t)id);
			if (out != NULL) {
				out[i] = (uint32_t)id;
			}
		}
	}
	return err;
}

/* Groups have names; the role has numbers. Two names with one number would be kept apart for
 * nothing, no more. */
static int groups_of(const struct json_at *ha, struct role_policy *p, struct errbuf *eb)
{
	struct json_at array;
	size_t count;
	int err;

	if (json_object_get(ha->value, "groups") == NULL) {
		return 0;
	}
	err = json_get_array(ha, "groups", ROLE_GROUPS_MAX, &array, eb);
	count = err == 0 ? json_array_size(array.value) : 0;
	for (size_t i = 0; err == 0 && i < count; i++) {
		const struct json_at element = json_element(&array, i);
		const char *name = NULL;

		err = json_as_str(&element, GROUP_NAME_MAX, &name, eb);
		if (err == 0) {
			uint32_t number = crc32c(name, strlen(name));

			p->groups[i] = number != 0 ? number : 1;
		}
	}
	return err;
}

static int size_of(const struct json_at *root, struct role_policy *p, struct errbuf *eb)
{
	struct json_at definition;
	uint64_t cpus = 0;
	int err = json_get_object(root, "definition", &definition, eb);

	if (err == 0) {
		err = json_get_u64(&definition, "memory_bytes", 0, ROLE_MEMORY_MAX,
		                   &p->memory_bytes, eb);
	}
	if (err == 0) {
		err = json_get_u64(&definition, "cpus", 1, ROLE_CPUS_MAX, &cpus, eb);
		p->cpus = (uint32_t)cpus;
	}
	return err;
}

const char *vm_doc_after(const json_t *doc, uint32_t i)
{
	const json_t *names = json_object_get(json_object_get(doc, "ha"), "after");

	return i < ROLE_AFTER_MAX ? json_string_value(json_array_get(names, i)) : NULL;
}

static int after_of(const struct json_at *ha, struct errbuf *eb)
{
	struct json_at array;
	const char *name = NULL;
	int err;

	if (json_object_get(ha->value, "after") == NULL) {
		return 0;
	}
	err = json_get_array(ha, "after", ROLE_AFTER_MAX, &array, eb);
	for (size_t i = 0; err == 0 && i < json_array_size(array.value); i++) {
		const struct json_at element = json_element(&array, i);

		err = json_as_str(&element, ROLE_NAME_MAX - 1, &name, eb);
		if (err == 0 && name[0] == '\0') {
			err = json_error(&element, eb, -EINVAL, "no name");
		}
	}
	return err;
}

/* What people expect when its node is lost. */
static int objective_of(const struct json_at *ha, struct role_policy *p, struct errbuf *eb)
{
	uint64_t within = 0;
	uint64_t wait = 0;
	int err = json_opt_u64(ha, "restart_within_ms", 1000, VM_DOC_WITHIN_MAX_MS, &within, eb);

	if (err == 0) {
		err = json_opt_u64(ha, "wait_ms", 1000, VM_DOC_WAIT_MAX_MS, &wait, eb);
	}
	if (err == 0 && within != 0 && wait != 0) {
		err = json_error(ha, eb, -EINVAL, "restart_within_ms or wait_ms, not both");
	}
	if (err == 0 && wait != 0) {
		p->resiliency_ms = (uint32_t)wait;
		p->patient = true;
	}
	return err;
}

int vm_doc_policy(const json_t *doc, struct role_policy *out, struct errbuf *eb)
{
	static const char *const known[] = {
		"priority", "possible", "preferred",         "groups",  "fallback",
		"volumes",  "after",    "restart_within_ms", "wait_ms", "blackout_max_ns"};
	static const char *const fallbacks[] = {"live", "quick", "shutdown", "leave"};
	static const enum role_fallback ways[] = {ROLE_FALLBACK_LEAVE, ROLE_FALLBACK_QUICK,
	                                          ROLE_FALLBACK_SHUTDOWN, ROLE_FALLBACK_LEAVE};
	static const char *const priorities[] = {"none", "low", "medium", "high"};
	const struct json_at root = json_root(doc, "VM");
	struct role_policy p;
	struct json_at ha;
	uint64_t preferred;
	uint64_t blackout_ns = 0;
	size_t fallback = 0;
	size_t priority;
	int err;

	role_policy_default(&p);
	priority = (size_t)p.priority;
	err = json_get_object(&root, "ha", &ha, eb);
	if (err == 0) {
		err = json_check_members(&ha, known, ARRAY_LEN(known), eb);
	}
	if (err == 0) {
		err = json_opt_word(&ha, "priority", priorities, ARRAY_LEN(priorities), &priority,
		                    eb);
	}
	if (err == 0) {
		err = json_opt_word(&ha, "fallback", fallbacks, ARRAY_LEN(fallbacks), &fallback,
		                    eb);
	}
	if (err == 0) {
		err = json_opt_u64(&ha, "blackout_max_ns", 1, VM_DOC_BLACKOUT_MAX_NS, &blackout_ns,
		                   eb);
	}
	if (err == 0) {
		err = nodes_of(&ha, "possible", ROLE_NODES_MAX, NULL, &p.possible, eb);
	}
	if (err == 0) {
		err = nodes_of(&ha, "preferred", ROLE_PREFERRED_MAX, p.preferred, &preferred, eb);
	}
	if (err == 0) { /* numbers of volumes are as those of nodes: 1 to 64 */
		err = nodes_of(&ha, "volumes", ROLE_VOLUMES_MAX, NULL, &p.volumes, eb);
	}
	if (err == 0) {
		err = groups_of(&ha, &p, eb);
	}
	if (err == 0) {
		err = after_of(&ha, eb);
	}
	if (err == 0) {
		err = objective_of(&ha, &p, eb);
	}
	if (err == 0) {
		err = size_of(&root, &p, eb);
	}
	if (err != 0) {
		return -EINVAL;
	}
	p.priority = (enum role_priority)priority;
	p.fallback = ways[fallback];

	const char *wrong = role_policy_check(&p);

	if (wrong != NULL) {
		return errbuf_set(eb, -EINVAL, "%s", wrong);
	}
	*out = p;
	return 0;
}
