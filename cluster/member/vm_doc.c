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

int vm_doc_policy(const json_t *doc, struct role_policy *out, struct errbuf *eb)
{
	static const char *const known[] = {"priority", "possible", "preferred", "groups"};
	static const char *const priorities[] = {"none", "low", "medium", "high"};
	const struct json_at root = json_root(doc, "VM");
	struct role_policy p;
	struct json_at ha;
	uint64_t preferred;
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
		err = nodes_of(&ha, "possible", ROLE_NODES_MAX, NULL, &p.possible, eb);
	}
	if (err == 0) {
		err = nodes_of(&ha, "preferred", ROLE_PREFERRED_MAX, p.preferred, &preferred, eb);
	}
	if (err == 0) {
		err = groups_of(&ha, &p, eb);
	}
	if (err == 0) {
		err = size_of(&root, &p, eb);
	}
	if (err != 0) {
		return -EINVAL;
	}
	p.priority = (enum role_priority)priority;

	const char *wrong = role_policy_check(&p);

	if (wrong != NULL) {
		return errbuf_set(eb, -EINVAL, "%s", wrong);
	}
	*out = p;
	return 0;
}
