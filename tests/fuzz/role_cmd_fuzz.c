/* SPDX-License-Identifier: Apache-2.0 */

/* Any commands, one after the other: what decodes encodes to the same bytes, and no sequence of
 * them breaks the invariants of the table. */

#include <string.h>

#include "base/check.h"
#include "cluster/role/role_table.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static struct role_table *new_table(void)
{
	struct role_table *t;
	struct role_policy p;

	CHECK(role_table_create(&t) == 0);
	CHECK(role_table_view(t, 1) == 0);
	role_policy_default(&p);
	p.volumes = 3;
	for (uint32_t id = 1; id <= 3; id++) {
		CHECK(role_table_add(t, id, "vm", &p, id, NULL) == 0);
		p.volumes >>= 1;
	}
	return t;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct role_table *t = new_table();

	while (len > 0) {
		size_t take = len < ROLE_CMD_BYTES ? len : ROLE_CMD_BYTES;
		uint8_t again[ROLE_CMD_BYTES];
		struct role_cmd cmd;

		if (role_cmd_decode(data, take, &cmd, NULL) == 0) {
			role_cmd_encode(&cmd, again);
			CHECK(memcmp(again, data, take) == 0);
			(void)!role_table_apply(t, &cmd);
			CHECK(role_table_check(t) == NULL);
		}
		data += take;
		len -= take;
	}
	role_table_destroy(t);
	return 0;
}
