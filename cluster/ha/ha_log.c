/* SPDX-License-Identifier: Apache-2.0 */

/* ha_log - what the log brings: runs of nodes, their renewals, hand-overs. */
#include "base/clock.h"
#include "base/log.h"
#include "cluster/flight/flight.h"
#include "cluster/ha/ha_int.h"
#include "cluster/lead/lead.h"
#include "cluster/member/member.h"
#include "cluster/role/role_table.h"
#include "cluster/vmops.h"

static void on_joined(struct ha *ha, const struct role_cmd *cmd, uint64_t now_ns)
{
	lead_joined(ha->lead, &ha->timing, cmd->at, ha->timing.cfg.lease_ms, now_ns);
	log_info(HA_TAG, "node joined node=%u run=%llu", cmd->at.node,
	         (unsigned long long)cmd->at.inc);
	if (cmd->at.node == ha->cfg.nodeid && ha->join_inc == cmd->at.inc &&
	    ha->agent->self.inc == 0) {
		ha->join_inc = 0;
		agent_begin(ha->agent, cmd->at.inc);
		ha->next_renew_ns = 0;
		ha->cfg.vmops->began(ha->cfg.vmops->arg, cmd->at.inc);
	}
}

static void on_renewed(struct ha *ha, const struct role_cmd *cmd, uint64_t now_ns)
{
	lead_renewed(ha->lead, &ha->timing, cmd->at, cmd->arg[0], (uint32_t)cmd->arg[1], now_ns);
	if (cmd->at.node == ha->cfg.nodeid && cmd->at.inc == ha->agent->self.inc &&
	    lease_confirm(&ha->agent->node, cmd->arg[0]) == 0) {
		ha_tell_lease(ha);
		ha_record(ha, now_ns, FLIGHT_RENEWED, cmd->at.node,
		          flight_us(now_ns - ha->agent->node.since_ns));
	}
	ha_record(ha, now_ns, FLIGHT_HEARD, cmd->at.node,
	          flight_us(now_ns - ha->peers[cmd->at.node - 1].heard_ns));
}

/* Also of a node that was declared lost, whose renewals do nothing: its own word that it is the
 * same run brings it back. */
static void on_said(void *arg, const struct role_cmd *cmd, uint64_t epoch)
{
	struct ha *ha = arg;
	const struct view_member *m = cmd->at.node >= 1 && cmd->at.node <= ROLE_NODES_MAX
	                                      ? view_find(member_view(ha->cfg.member), cmd->at.node)
	                                      : NULL;
	struct rsm_status s;

	member_status(ha->cfg.member, &s);
	/* Of an earlier view it could be from another process than the one we see. */
	if (m != NULL && m->said && s.epoch == epoch) {
		ha->peers[cmd->at.node - 1].process = m->hello.incarnation;
		ha->peers[cmd->at.node - 1].inc = cmd->at.inc;
	}
}

static void record_fenced(struct ha *ha, const struct role_cmd *cmd, uint64_t now_ns)
{
	uint64_t lost_ns = ha->peers[cmd->at.node - 1].lost_ns;

	flight_add(ha->cfg.flight, &(struct flight_record){
					   .boot_ns = now_ns,
					   .kind = FLIGHT_FENCED,
					   .node = cmd->at.node,
					   .value = (uint32_t)cmd->arg[0],
					   .value2 = lost_ns != 0 ? flight_us(now_ns - lost_ns) : 0,
				   });
}

static void on_applied(void *arg, const struct role_cmd *cmd, uint64_t epoch)
{
	struct ha *ha = arg;
	uint64_t now_ns = clock_boot_ns();
	const struct role *r;
	char text[200];

	if (cmd->verb == ROLE_CMD_JOIN) {
		on_joined(ha, cmd, now_ns);
	} else if (cmd->verb == ROLE_CMD_RENEW) {
		on_renewed(ha, cmd, now_ns);
	} else {
		r = role_table_role(ha_table(ha), cmd->role);
		role_cmd_text(cmd, r != NULL ? r->name : "", text, sizeof(text));
		log_info(HA_TAG, "committed what=\"%s\"", text);
	}
	if (cmd->verb == ROLE_CMD_LOST) {
		ha->peers[cmd->at.node - 1].lost_ns = now_ns;
		ha_record(ha, now_ns, FLIGHT_LOST, cmd->at.node, 0);
	} else if (cmd->verb == ROLE_CMD_FENCED) {
		record_fenced(ha, cmd, now_ns);
	}
	if (cmd->verb == ROLE_CMD_SWITCH) {
		ha->cfg.vmops->switched(ha->cfg.vmops->arg, cmd->role, cmd->token);
	}
	if (cmd->verb == ROLE_CMD_JOIN || cmd->verb == ROLE_CMD_RENEW) {
		ha->peers[cmd->at.node - 1].heard_ns = now_ns;
	}
	if (cmd->verb == ROLE_CMD_JOIN) {
		on_said(ha, cmd, epoch);
	}
	if (cmd->verb != ROLE_CMD_RENEW) {
		ha->changes++;
		ha_kick(ha);
	}
}

static void on_roles_changed(void *arg)
{
	((struct ha *)arg)->changes++;
	ha_kick(arg);
}

/* Nobody told us of renewals until now: whatever was, it can have been this moment. */
void ha_watch_all(struct ha *ha)
{
	uint64_t now_ns = clock_boot_ns();

	for (uint32_t id = 1; id <= ROLE_NODES_MAX; id++) {
		const struct role_node *n = role_table_node(ha_table(ha), id);
		struct role_at at = {.node = id, .inc = n->inc};
		uint32_t lease_ms = n->lease_ms > ha->timing.cfg.lease_ms ? n->lease_ms
		                                                          : ha->timing.cfg.lease_ms;

		if (n->inc != 0) {
			lead_joined(ha->lead, &ha->timing, at, lease_ms, now_ns);
			ha->peers[id - 1].heard_ns = now_ns;
		}
	}
}

static void on_loaded(void *arg)
{
	ha_watch_all(arg);
	ha_kick(arg);
}

const struct member_role_ops ha_log_ops = {
	.applied = on_applied,
	.said = on_said,
	.changed = on_roles_changed,
	.loaded = on_loaded,
};
