/* SPDX-License-Identifier: Apache-2.0 */

/* ha_ask - what people want of VMs and nodes, as commands for the log. */
#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "cluster/ha/ha_int.h"
#include "cluster/member/member.h"
#include "cluster/role/role_table.h"

/* Something that a person asked for: a view that is being formed is no reason to refuse it. */
static int wish(struct ha *ha, const struct role_cmd *cmd)
{
	/* One that came before goes before: it may be the opposite. */
	int err = ha->wish_count != 0
	                  ? -EAGAIN
	                  : member_propose_role(ha->cfg.member, cmd, HA_PROPOSE_NS, NULL, NULL);

	if (err == -EAGAIN && ha->wish_count < HA_WISHES_MAX) {
		ha->wishes[ha->wish_count].cmd = *cmd;
		ha->wishes[ha->wish_count].until_ns = clock_boot_ns() + HA_PROPOSE_NS;
		ha->wish_count++;
		err = 0;
	}
	return err;
}

void ha_wishes_again(struct ha *ha, uint64_t now_ns)
{
	uint32_t done = 0;

	while (ha->active && done < ha->wish_count &&
	       (now_ns > ha->wishes[done].until_ns ||
	        member_propose_role(ha->cfg.member, &ha->wishes[done].cmd, HA_PROPOSE_NS, NULL,
	                            NULL) != -EAGAIN)) {
		done++;
	}
	ha->wish_count -= done;
	memmove(ha->wishes, ha->wishes + done, ha->wish_count * sizeof(ha->wishes[0]));
}

int ha_want(struct ha *ha, uint32_t role, bool online)
{
	const struct role_cmd cmd = {.verb = ROLE_CMD_WANT,
	                             .role = role,
	                             .now_ms = ha_now_ms(ha),
	                             .arg = {online ? ROLE_WANT_ONLINE : ROLE_WANT_OFFLINE}};

	return wish(ha, &cmd);
}

int ha_migrate(struct ha *ha, uint32_t role, uint32_t node)
{
	const struct role *r = role_table_role(ha_table(ha), role);
	const struct role_node *n = role_table_node(ha_table(ha), node);

	if (r == NULL || n == NULL) {
		return -ENOENT;
	}

	const struct role_cmd cmd = {.verb = ROLE_CMD_MIGRATE,
	                             .role = role,
	                             .now_ms = ha_now_ms(ha),
	                             .token = r->token,
	                             .at = {.node = node, .inc = n->inc}};

	return wish(ha, &cmd);
}

int ha_stay(struct ha *ha, uint32_t role)
{
	const struct role *r = role_table_role(ha_table(ha), role);

	if (r == NULL) {
		return -ENOENT;
	}

	const struct role_cmd cmd = {.verb = ROLE_CMD_MIGRATE_CANCEL,
	                             .role = role,
	                             .now_ms = ha_now_ms(ha),
	                             .token = r->token};

	return wish(ha, &cmd);
}

int ha_drain(struct ha *ha, uint32_t node, bool on)
{
	const struct role_node *n = role_table_node(ha_table(ha), node);

	if (n == NULL || n->inc == 0) {
		return -ENOENT;
	}

	const struct role_cmd cmd = {.verb = ROLE_CMD_DRAIN,
	                             .now_ms = ha_now_ms(ha),
	                             .at = {.node = node, .inc = n->inc},
	                             .arg = {on ? ROLE_DRAIN_ACTIVE : ROLE_DRAIN_NONE}};

	return wish(ha, &cmd);
}

int ha_confirm(struct ha *ha, uint32_t node)
{
	const struct role_node *n = role_table_node(ha_table(ha), node);

	if (n == NULL || n->inc == 0) {
		return -ENOENT;
	}
	if (n->state != ROLE_NODE_FENCING) {
		return -EBUSY;
	}

	const struct role_cmd cmd = {.verb = ROLE_CMD_FENCED,
	                             .now_ms = ha_now_ms(ha),
	                             .at = {.node = node, .inc = n->inc},
	                             .arg = {ROLE_PROOF_OPERATOR}};

	log_warn(HA_TAG, "a person says that it is off node=%u run=%llu", node,
	         (unsigned long long)n->inc);
	return wish(ha, &cmd);
}
