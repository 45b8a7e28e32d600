/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/ha/ha.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/loop.h"
#include "cluster/flight/flight.h"
#include "cluster/ha/ha_int.h"
#include "cluster/lead/lead.h"
#include "cluster/member/member.h"
#include "cluster/role/role_table.h"
#include "cluster/vmops.h"

#define JOIN_AGAIN_NS (2 * NS_PER_S)
#define SEQ_GAP 1000u /* renewals that an earlier process may have sent and that are on their way */
#define LATE_NS (3 * HA_TICK_NS) /* our loop stood still: worth a record */
#define PATHS_PATIENCE_NS (5 * NS_PER_S)

const struct role_table *ha_table(const struct ha *ha)
{
	return member_roles(ha->cfg.member);
}

uint64_t ha_now_ms(const struct ha *ha)
{
	uint64_t now_ms = ha->now_base_ms + (clock_boot_ns() - ha->now_base_ns) / NS_PER_MS;
	uint64_t seen_ms = role_table_now_ms(ha_table(ha));

	return now_ms > seen_ms ? now_ms : seen_ms;
}

void ha_kick(struct ha *ha)
{
	loop_timer_arm(ha->timer, 0);
}

void ha_tell_lease(struct ha *ha)
{
	const struct lease *l = &ha->agent->node;
	struct vmops_lease out = {0};

	if (l->held) {
		/* A lease of another length than configured: the shorter counts. */
		struct timing_rungs r;

		timing_rungs(&ha->timing, l->lease_ns, &r);
		out = (struct vmops_lease){
			.since_ns = l->since_ns,
			.lease_ns = l->lease_ns,
			.pause_ns = l->since_ns + r.pause_ns,
			.kill_ns = l->since_ns + r.kill_ns,
			.pet_until_ns = l->since_ns + r.pet_until_ns,
		};
	}
	ha->cfg.vmops->lease(ha->cfg.vmops->arg, &out);
}

void ha_record(struct ha *ha, uint64_t now_ns, enum flight_kind kind, uint32_t node, uint32_t value)
{
	flight_add(ha->cfg.flight,
	           &(struct flight_record){
			   .boot_ns = now_ns, .kind = kind, .node = node, .value = value});
}

void ha_propose(struct ha *ha, const struct role_cmd *cmd, uint64_t timeout_ns)
{
	char text[200];
	int err;

	if (!ha->active) {
		return; /* said again when there is somebody to hear it */
	}
	err = member_propose_role(ha->cfg.member, cmd, timeout_ns, NULL, NULL);
	if (err != 0 && err != -EAGAIN && err != -ENOTCONN) {
		role_cmd_text(cmd, "", text, sizeof(text));
		log_warn(HA_TAG, "not proposed what=\"%s\" error=%s", text, strerrorname_np(-err));
	}
}

/* ---- this node ---- */

static void join(struct ha *ha, uint64_t now_ns)
{
	const struct role_node *n = role_table_node(ha_table(ha), ha->cfg.nodeid);
	struct role_cmd cmd = {
		.verb = ROLE_CMD_JOIN,
		.now_ms = ha_now_ms(ha),
		.at = {.node = ha->cfg.nodeid, .inc = n->inc + 1},
		.arg = {ha->cfg.memory_bytes, ha->cfg.cpus, 0,
	                ha->cfg.lease_proof ? ROLE_NODE_LEASE_PROOF : 0},
	};

	if (!ha->active || now_ns < ha->join_next_ns ||
	    now_ns < ha->timing.cfg.inflight_ms * NS_PER_MS || /* booted just now */
	    !ha->cfg.vmops->clear(ha->cfg.vmops->arg)) {
		return;
	}
	ha->join_next_ns = now_ns + JOIN_AGAIN_NS;
	ha->join_inc = cmd.at.inc;
	ha_propose(ha, &cmd, HA_PROPOSE_NS);
}

static void renew(struct ha *ha, uint64_t now_ns)
{
	struct role_cmd cmd = {
		.verb = ROLE_CMD_RENEW, .now_ms = ha_now_ms(ha), .at = ha->agent->self};

	if (!ha->active || now_ns < ha->next_renew_ns) {
		return;
	}
	ha_record(ha, now_ns, FLIGHT_SENT, ha->cfg.nodeid,
	          ha->sent_ns != 0 ? flight_us(now_ns - ha->sent_ns) : 0);
	ha->sent_ns = now_ns;
	ha->next_renew_ns = now_ns + ha->timing.renew_ns;
	cmd.arg[0] = lease_send(&ha->agent->node, &ha->timing, now_ns);
	cmd.arg[1] = ha->timing.cfg.lease_ms;
	/* A watchdog may have come or gone since this run joined. Said each time: the table does
	 * not know of what is on its way. */
	cmd.arg[3] = ROLE_NODE_SAID | (ha->cfg.lease_proof ? ROLE_NODE_LEASE_PROOF : 0);
	ha_propose(ha, &cmd, ha->timing.lease_ns);
}

/* This run of the node is over: nothing of it may be left, then it joins anew. */
static void reset_run(struct ha *ha)
{
	log_warn(HA_TAG, "this run of the node is over, all its VMs are killed run=%llu",
	         (unsigned long long)ha->agent->self.inc);
	agent_begin(ha->agent, 0);
	ha_tell_lease(ha);
	(void)ha->cfg.vmops->clear(ha->cfg.vmops->arg);
	ha->join_next_ns = 0;
}

static const char *name_of(const struct ha *ha, uint32_t role)
{
	const struct role *r = role_table_role(ha_table(ha), role);

	return r != NULL ? r->name : "?";
}

static void act(struct ha *ha, const struct agent_action *a)
{
	const struct vmops *ops = ha->cfg.vmops;

	switch (a->what) {
	case AGENT_PROPOSE:
		ha_propose(ha, &a->cmd, HA_PROPOSE_NS);
		break;
	case AGENT_VM_START:
		log_info(HA_TAG, "starts vm=%s token=%llu", name_of(ha, a->role),
		         (unsigned long long)a->token);
		ops->start(ops->arg, a->role, a->token, a->incoming);
		break;
	case AGENT_VM_STOP:
		ops->stop(ops->arg, a->role);
		break;
	case AGENT_VM_KILL:
		log_warn(HA_TAG, "kills vm=%s", name_of(ha, a->role));
		ops->kill(ops->arg, a->role);
		break;
	case AGENT_VM_PAUSE: /* done by whoever enforces the lease */
	case AGENT_VM_RESUME:
		log_warn(HA_TAG, "%s vm=%s", a->what == AGENT_VM_PAUSE ? "pauses" : "resumes",
		         name_of(ha, a->role));
		break;
	case AGENT_VM_SEND:
		log_info(HA_TAG, "sends vm=%s node=%u", name_of(ha, a->role), a->node);
		ops->send(ops->arg, a->role, a->node);
		break;
	case AGENT_RESET:
		reset_run(ha);
		break;
	}
}

static void run_agent(struct ha *ha, uint64_t now_ns)
{
	struct agent_action acts[AGENT_ACTIONS_MAX];
	uint32_t count =
		agent_step(ha->agent, ha_table(ha), &ha->timing, now_ns, ha_now_ms(ha), acts);
	enum lease_rung rung = lease_rung(&ha->agent->node, &ha->timing, now_ns);

	for (uint32_t i = 0; i < count; i++) {
		act(ha, &acts[i]);
	}
	if (rung != ha->rung && ha->agent->self.inc != 0) {
		log_info(HA_TAG, "lease was=%s is=%s", lease_rung_name(ha->rung),
		         lease_rung_name(rung));
		ha_record(ha, now_ns, FLIGHT_RUNG, ha->cfg.nodeid, (uint32_t)rung);
	}
	ha->rung = rung;
}

/* ---- all of it ---- */

static void look_at_view(struct ha *ha, uint64_t now_ns)
{
	struct rsm_status s;
	bool leads;

	member_status(ha->cfg.member, &s);
	if (ha->active && (s.state != RSM_ACTIVE || s.stale)) {
		ha_record(ha, now_ns, FLIGHT_NOVIEW, 0, 0);
	}
	ha->active = s.state == RSM_ACTIVE && !s.stale;
	ha->synced = ha->synced || ha->active;
	leads = ha->active && s.leader == ha->cfg.nodeid && ha->agent->self.inc != 0;
	if (ha->active && s.epoch != ha->epoch) {
		ha->epoch = s.epoch;
		ha_record(ha, now_ns, FLIGHT_VIEW, s.leader <= ROLE_NODES_MAX ? s.leader : 0,
		          member_view(ha->cfg.member)->count);
		ha->now_base_ms = role_table_now_ms(ha_table(ha));
		ha->now_base_ns = now_ns;
		ha->leads = false;
	}
	if (leads && !ha->leads) {
		log_info(HA_TAG, "leads epoch=%llu", (unsigned long long)s.epoch);
		lead_begin(ha->lead, now_ns);
	}
	ha->leads = leads;
}

static void on_timer(void *arg)
{
	struct ha *ha = arg;
	uint64_t now_ns = clock_boot_ns();

	if (ha->tick_ns != 0 && now_ns - ha->tick_ns > LATE_NS) {
		ha_record(ha, now_ns, FLIGHT_LATE, 0, flight_us(now_ns - ha->tick_ns - HA_TICK_NS));
	}
	ha->tick_ns = now_ns;
	loop_timer_arm(ha->timer, HA_TICK_NS);
	look_at_view(ha, now_ns);
	ha_wishes_again(ha, now_ns);
	if (ha->agent->self.inc == 0) {
		join(ha, now_ns);
	} else {
		renew(ha, now_ns);
		/* What is on disk may be a second old: it must not undo what came after it. Until
		 * then there is whoever enforces the lease. */
		if (ha->synced) {
			run_agent(ha, now_ns);
		}
	}
	if (ha->leads) {
		ha_run_lead(ha, now_ns);
	}
	if (ha->cfg.changed != NULL) {
		ha->cfg.changed(ha->cfg.arg);
	}
}

/* ---- life ---- */

/* The run that an earlier process of ours began goes on. */
static void resume_run(struct ha *ha)
{
	const struct ha_run *run = &ha->cfg.run;
	const struct role_node *n = role_table_node(ha_table(ha), ha->cfg.nodeid);

	if (run->inc == 0) {
		return;
	}
	agent_begin(ha->agent, run->inc);
	ha->agent->node.seq = n->renew_seq + SEQ_GAP;
	ha->agent->node.held = run->since_ns != 0;
	ha->agent->node.since_ns = run->since_ns;
	ha->agent->node.lease_ns = run->lease_ns;
	log_info(HA_TAG, "goes on run=%llu", (unsigned long long)run->inc);
}

int ha_create(const struct ha_cfg *cfg, struct ha **out, struct errbuf *eb)
{
	struct ha *ha = gw_calloc(1, sizeof(*ha));
	int err = ha != NULL ? 0 : -ENOMEM;

	*out = NULL;
	if (cfg->nodeid == 0 || cfg->nodeid > ROLE_NODES_MAX) {
		free(ha);
		return errbuf_set(eb, -EINVAL,
		                  "node number %u: highly available VMs need one up to %u",
		                  cfg->nodeid, ROLE_NODES_MAX);
	}
	if (err == 0) {
		ha->cfg = *cfg;
		ha->rung = LEASE_OVER;
		err = timing_init(&cfg->timing, &ha->timing, eb);
		if (err != 0) {
			ha_destroy(ha);
			return err;
		}
		err = agent_create(cfg->nodeid, HA_ROLES_MAX, &ha->agent);
	}
	if (err == 0) {
		err = lead_create(HA_ROLES_MAX, &ha->lead);
	}
	if (err == 0) {
		ha->out = gw_calloc(1, sizeof(*ha->out));
		ha->hints = gw_calloc(HA_ROLES_MAX, sizeof(*ha->hints));
		err = ha->out != NULL && ha->hints != NULL ? 0 : -ENOMEM;
	}
	if (err == 0) {
		err = loop_timer_new(cfg->loop, on_timer, ha, &ha->timer);
	}
	if (err != 0) {
		ha_destroy(ha);
		return errbuf_sys(eb, err, "highly available VMs");
	}
	ha->now_base_ns = clock_boot_ns();
	ha->now_base_ms = role_table_now_ms(ha_table(ha));
	ha_watch_all(ha);
	resume_run(ha);
	member_watch_roles(cfg->member, &ha_log_ops, ha);
	ha_kick(ha);
	*out = ha;
	return 0;
}

void ha_destroy(struct ha *ha)
{
	if (ha == NULL) {
		return;
	}
	if (ha->timer != NULL) {
		member_watch_roles(ha->cfg.member, NULL, NULL);
	}
	loop_timer_del(ha->timer);
	agent_destroy(ha->agent);
	lead_destroy(ha->lead);
	free(ha->out);
	free(ha->hints);
	free(ha);
}

void ha_adopt(struct ha *ha, uint32_t role, uint64_t token)
{
	if (role >= 1 && role <= HA_ROLES_MAX) {
		ha->agent->vms[role - 1] =
			(struct agent_vm){.state = AGENT_RUNNING, .token = token};
	}
}

void ha_vm_event(struct ha *ha, uint32_t role, enum agent_event event)
{
	agent_vm_event(ha->agent, role, event);
	ha_kick(ha);
}

/* One that goes for a moment only (a service that is updated) is no reason to move a VM. */
static void say_paths(struct ha *ha, uint64_t paths, uint64_t now_ns)
{
	const struct role_node *n = role_table_node(ha_table(ha), ha->cfg.nodeid);
	struct role_cmd cmd = {
		.verb = ROLE_CMD_PATHS, .now_ms = ha_now_ms(ha), .at = ha->agent->self};

	if ((n->paths & ~paths) == 0) {
		ha->paths_less_ns = 0;
	} else if (ha->paths_less_ns == 0) {
		ha->paths_less_ns = now_ns;
	}
	cmd.arg[0] = ha->paths_less_ns != 0 && now_ns - ha->paths_less_ns < PATHS_PATIENCE_NS
	                     ? paths | n->paths
	                     : paths;
	if (cmd.arg[0] != n->paths && now_ns >= ha->paths_next_ns) {
		ha->paths_next_ns = now_ns + AGENT_AGAIN_NS;
		ha_propose(ha, &cmd, HA_PROPOSE_NS);
	}
}

static void say_acks(struct ha *ha, const struct role *r, uint64_t acks, uint64_t now_ns)
{
	uint64_t *at_ns = &ha->acked_ns[r->id - 1];

	if (now_ns - *at_ns < AGENT_AGAIN_NS) {
		return;
	}
	*at_ns = now_ns;
	for (uint32_t v = 1; v <= ROLE_VOLUMES_MAX; v++) {
		const struct role_cmd cmd = {.verb = ROLE_CMD_ACK,
		                             .role = r->id,
		                             .now_ms = ha_now_ms(ha),
		                             .token = r->token,
		                             .arg = {v}};

		if ((acks & role_bit(v)) != 0) {
			ha_propose(ha, &cmd, HA_PROPOSE_NS);
		}
	}
}

static bool raising(const struct role *r)
{
	return r->id <= HA_ROLES_MAX && r->state == ROLE_RAISING;
}

bool ha_raising(const struct ha *ha)
{
	for (const struct role *r = role_table_next(ha_table(ha), 0); r != NULL;
	     r = role_table_next(ha_table(ha), r->id)) {
		if (raising(r)) {
			return true;
		}
	}
	return false;
}

void ha_volumes(struct ha *ha, uint64_t paths, uint64_t acks)
{
	uint64_t now_ns = clock_boot_ns();

	if (!ha->active || ha->agent->self.inc == 0) {
		return;
	}
	say_paths(ha, paths, now_ns);
	for (const struct role *r = role_table_next(ha_table(ha), 0); r != NULL && acks != 0;
	     r = role_table_next(ha_table(ha), r->id)) {
		uint64_t waits = r->policy.volumes & ~r->acked & acks;

		if (raising(r) && waits != 0) {
			say_acks(ha, r, waits, now_ns);
		}
	}
}

void ha_set_lease_proof(struct ha *ha, bool proof)
{
	if (ha->cfg.lease_proof != proof) {
		ha->cfg.lease_proof = proof;
		ha->next_renew_ns = 0;
		ha_kick(ha);
	}
}

int ha_set_timing(struct ha *ha, const struct timing_cfg *cfg, struct errbuf *eb)
{
	struct timing t;
	int err = timing_init(cfg, &t, eb);

	if (err != 0) {
		return err;
	}
	/* Of a shorter lease the last renewal may be old, as after a ring has formed anew: VMs must
	 * not pay for that. The longer one is what the others wait for anyway. */
	if (ha->agent->node.held && lease_rung(&ha->agent->node, &t, clock_boot_ns()) != LEASE_OK) {
		return -EAGAIN;
	}
	ha->timing = t;
	ha->cfg.timing = *cfg;
	ha->next_renew_ns = 0; /* the others learn of it with the next renewal */
	if (ha->agent->node.held) {
		ha_tell_lease(ha); /* a shorter one ends sooner; a longer one must be sent first */
	}
	ha_kick(ha);
	return 0;
}

uint32_t ha_lease_ms(const struct ha *ha)
{
	const struct lease *l = &ha->agent->node;
	uint64_t ns =
		l->held && l->lease_ns < ha->timing.lease_ns ? l->lease_ns : ha->timing.lease_ns;

	return (uint32_t)(ns / NS_PER_MS);
}

uint64_t ha_changes(const struct ha *ha)
{
	return ha->changes;
}

const struct agent *ha_agent(const struct ha *ha)
{
	return ha->agent;
}

const struct timing *ha_timing(const struct ha *ha)
{
	return &ha->timing;
}

bool ha_synced(const struct ha *ha)
{
	return ha->synced;
}

bool ha_may_start(const struct ha *ha)
{
	const struct role_node *n = role_table_node(ha_table(ha), ha->cfg.nodeid);

	/* Nor while the others take our silence for a proof that it is not any more. */
	return ha->agent->self.inc != 0 && (ha->cfg.lease_proof || !n->lease_proof) &&
	       lease_rung(&ha->agent->node, &ha->timing, clock_boot_ns()) == LEASE_OK;
}
