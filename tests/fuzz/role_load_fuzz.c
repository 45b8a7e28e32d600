/* SPDX-License-Identifier: Apache-2.0 */

/* Any bytes as a pair: what loads keeps the invariants of a role, and is saved as it was. */

#include <string.h>

#include "base/check.h"
#include "cluster/role/role_save.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

struct pair {
	const uint8_t *key;
	const uint8_t *value;
	size_t value_len;
	uint32_t seen;
};

static void same(void *arg, const void *key, const void *value, size_t len)
{
	struct pair *p = arg;

	if (memcmp(key, p->key, ROLE_KEY_BYTES) == 0) {
		CHECK(len == p->value_len && memcmp(value, p->value, len) == 0);
		p->seen++;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct role_table *t;

	if (len < ROLE_KEY_BYTES) {
		return 0;
	}
	struct pair p = {
		.key = data, .value = data + ROLE_KEY_BYTES, .value_len = len - ROLE_KEY_BYTES};

	CHECK(role_table_create(&t) == 0);
	if (role_table_load(t, p.key, ROLE_KEY_BYTES, p.value, p.value_len, NULL) == 0) {
		for (const struct role *r = role_table_next(t, 0); r != NULL;
		     r = role_table_next(t, r->id)) {
			CHECK(role_check(r) == NULL);
		}
		role_table_touch_all(t);
		role_table_flush(t, same, &p);
		CHECK(p.seen == 1);
	}
	role_table_destroy(t);
	return 0;
}
