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
#include "cluster/lead/lead.h"
#include "cluster/member/member.h"
#include "cluster/role/role_table.h"
#include "cluster/vmops.h"

#define TAG "ha"
#define JOIN_AGAIN_NS (2 * NS_PER_S)
#define SEQ_GAP 1000u /* renewals that an earlier process may have sent and that are on their way */
#define WISHES_MAX 16u /* people's, while a view is being formed */
#define ACTION_NS (20 * NS_PER_S)
#define PER_NODE_MAX 2u /* starts and moves of a node at the same time */

/* What another node said last: which process of it is which run. */
struct ha_peer {
	struct guid process;
	uint64_t inc;
	uint64_t heard_ns;
};

struct ha {
	struct ha_cfg cfg;
	struct timing timing;
	struct agent *agent; /* owned, as the next four */
	struct lead *lead;
	struct lead_out *out;
	struct loop_timer *timer;
	struct ha_peer peers[ROLE_NODES_MAX]; /* [id - 1] */
	uint64_t epoch;                       /* of the view in which we were active last */
	uint64_t now_base_ms;                 /* cluster time when it began; with: */
	uint64_t now_base_ns;
	uint64_t next_renew_ns;
	uint64_t join_next_ns;
	uint64_t join_inc; /* asked for; 0 = nothing */
	struct {
		struct role_cmd cmd;
		uint64_t until_ns; /* 0 = free */
	} wishes[WISHES_MAX];
	bool leads;
	bool active;
	bool synced; /* active once: the table has all that an earlier process of ours was told */
	enum lease_rung rung; /* as told last */
};

static const struct role_table *table_of(const struct ha *ha)
{
	return member_roles(ha->cfg.member);
}

uint64_t ha_now_ms(const struct ha *ha)
{
	uint64_t now_ms = ha->now_base_ms + (clock_boot_ns() - ha->now_base_ns) / NS_PER_MS;
	uint64_t seen_ms = role_table_now_ms(table_of(ha));

	return now_ms > seen_ms ? now_ms : seen_ms;
}

void ha_kick(struct ha *ha)
{
	loop_timer_arm(ha->timer, 0);
}

static void tell_lease(struct ha *ha)
{
	const struct lease *l = &ha->agent->node;
	const struct timing *t = &ha->timing;
	struct vmops_lease out = {0};

	if (l->held) {
		/* A lease of another length than configured: the shorter counts. */
		uint64_t length = l->lease_ns < t->lease_ns ? l->lease_ns : t->lease_ns;

		out = (struct vmops_lease){
			.since_ns = l->since_ns,
			.lease_ns = l->lease_ns,
			.pause_ns = l->since_ns + length / 10 * 6,
			.kill_ns = l->since_ns + length / 10 * 8,
			.pet_until_ns = l->since_ns + length - t->cfg.watchdog_ms * NS_PER_MS,
		};
	}
	ha->cfg.vmops->lease(ha->cfg.vmops->arg, &out);
}

static void propose(struct ha *ha, const struct role_cmd *cmd, uint64_t timeout_ns)
{
	char text[200];
	int err;

	if (!ha->active) {
		return; /* said again when there is somebody to hear it */
	}
	err = member_propose_role(ha->cfg.member, cmd, timeout_ns, NULL, NULL);
	if (err != 0 && err != -EAGAIN && err != -ENOTCONN) {
		role_cmd_text(cmd, "", text, sizeof(text));
		log_warn(TAG, "not proposed what=\"%s\" error=%s", text, strerrorname_np(-err));
	}
}

/* Something that a person asked for: a view that is being formed is no reason to refuse it. */
static int wish(struct ha *ha, const struct role_cmd *cmd)
{
	int err = member_propose_role(ha->cfg.member, cmd, HA_PROPOSE_NS, NULL, NULL);

	for (uint32_t i = 0; err == -EAGAIN && i < WISHES_MAX; i++) {
		if (ha->wishes[i].until_ns == 0) {
			ha->wishes[i].cmd = *cmd;
			ha->wishes[i].until_ns = clock_boot_ns() + HA_PROPOSE_NS;
			err = 0;
		}
	}
	return err;
}

static void wishes_again(struct ha *ha, uint64_t now_ns)
{
	for (uint32_t i = 0; ha->active && i < WISHES_MAX; i++) {
		if (ha->wishes[i].until_ns == 0) {
			continue;
		}
		if (now_ns > ha->wishes[i].until_ns ||
		    member_propose_role(ha->cfg.member, &ha->wishes[i].cmd, HA_PROPOSE_NS, NULL,
		                        NULL) != -EAGAIN) {
			ha->wishes[i].until_ns = 0;
		}
	}
}

/* ---- what the log brings ---- */

static void on_joined(struct ha *ha, const struct role_cmd *cmd, uint64_t now_ns)
{
	lead_joined(ha->lead, &ha->timing, cmd->at, ha->timing.cfg.lease_ms, now_ns);
	log_info(TAG, "node joined node=%u run=%llu", cmd->at.node,
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
		tell_lease(ha);
	}
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
		r = role_table_role(table_of(ha), cmd->role);
		role_cmd_text(cmd, r != NULL ? r->name : "", text, sizeof(text));
		log_info(TAG, "committed what=\"%s\"", text);
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
		ha_kick(ha);
	}
}

static void on_roles_changed(void *arg)
{
	ha_kick(arg);
}

/* Nobody told us of renewals until now: whatever was, it can have been this moment. */
static void watch_all(struct ha *ha)
{
	uint64_t now_ns = clock_boot_ns();

	for (uint32_t id = 1; id <= ROLE_NODES_MAX; id++) {
		const struct role_node *n = role_table_node(table_of(ha), id);
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
	watch_all(arg);
	ha_kick(arg);
}

/* ---- this node ---- */

static void join(struct ha *ha, uint64_t now_ns)
{
	const struct role_node *n = role_table_node(table_of(ha), ha->cfg.nodeid);
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
	propose(ha, &cmd, HA_PROPOSE_NS);
}

static void renew(struct ha *ha, uint64_t now_ns)
{
	struct role_cmd cmd = {
		.verb = ROLE_CMD_RENEW, .now_ms = ha_now_ms(ha), .at = ha->agent->self};

	if (!ha->active || now_ns < ha->next_renew_ns) {
		return;
	}
	ha->next_renew_ns = now_ns + ha->timing.renew_ns;
	cmd.arg[0] = lease_send(&ha->agent->node, &ha->timing, now_ns);
	cmd.arg[1] = ha->timing.cfg.lease_ms;
	propose(ha, &cmd, ha->timing.lease_ns);
}

/* This run of the node is over: nothing of it may be left, then it joins anew. */
static void reset_run(struct ha *ha)
{
	log_warn(TAG, "this run of the node is over, all its VMs are killed run=%llu",
	         (unsigned long long)ha->agent->self.inc);
	agent_begin(ha->agent, 0);
	tell_lease(ha);
	(void)ha->cfg.vmops->clear(ha->cfg.vmops->arg);
	ha->join_next_ns = 0;
}

static const char *name_of(const struct ha *ha, uint32_t role)
{
	const struct role *r = role_table_role(table_of(ha), role);

	return r != NULL ? r->name : "?";
}

static void act(struct ha *ha, const struct agent_action *a)
{
	const struct vmops *ops = ha->cfg.vmops;

	switch (a->what) {
	case AGENT_PROPOSE:
		propose(ha, &a->cmd, HA_PROPOSE_NS);
		break;
	case AGENT_VM_START:
		log_info(TAG, "starts vm=%s token=%llu", name_of(ha, a->role),
		         (unsigned long long)a->token);
		ops->start(ops->arg, a->role, a->token, a->incoming);
		break;
	case AGENT_VM_STOP:
		ops->stop(ops->arg, a->role);
		break;
	case AGENT_VM_KILL:
		log_warn(TAG, "kills vm=%s", name_of(ha, a->role));
		ops->kill(ops->arg, a->role);
		break;
	case AGENT_VM_PAUSE: /* done by whoever enforces the lease */
	case AGENT_VM_RESUME:
		log_warn(TAG, "%s vm=%s", a->what == AGENT_VM_PAUSE ? "pauses" : "resumes",
		         name_of(ha, a->role));
		break;
	case AGENT_VM_SEND:
		log_info(TAG, "sends vm=%s node=%u", name_of(ha, a->role), a->node);
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
		agent_step(ha->agent, table_of(ha), &ha->timing, now_ns, ha_now_ms(ha), acts);
	enum lease_rung rung = lease_rung(&ha->agent->node, &ha->timing, now_ns);

	for (uint32_t i = 0; i < count; i++) {
		act(ha, &acts[i]);
	}
	if (rung != ha->rung && ha->agent->self.inc != 0) {
		log_info(TAG, "lease was=%s is=%s", lease_rung_name(ha->rung),
		         lease_rung_name(rung));
	}
	ha->rung = rung;
}

/* ---- the leader ---- */

static bool in_ring(const struct view *view, uint32_t id)
{
	for (uint32_t i = 0; i < view->ring_count; i++) {
		if (view->ring_members[i] == id) {
			return true;
		}
	}
	return false;
}

/* What the leader sees of a node: is it here, and as which run? */
static void look_at(const struct ha *ha, uint32_t id, uint64_t now_ns, struct lead_view *out)
{
	const struct view *view = member_view(ha->cfg.member);
	const struct view_member *m = view_find(view, id);
	const struct ha_peer *peer = &ha->peers[id - 1];
	const struct role_node *n = role_table_node(table_of(ha), id);
	/* Once lost, only its own word that it is the same run brings it back. */
	bool patient = n->state == ROLE_NODE_UP && now_ns - peer->heard_ns < ha->timing.pause_ns;

	if (m != NULL && m->said && !m->skipped) {
		out->members |= role_bit(id);
		/* A process that has not said yet which run it is: it was started just now. */
		out->run[id - 1] = guid_equal(&peer->process, &m->hello.incarnation) ? peer->inc
		                   : patient                                         ? n->inc
		                                                                     : 0;
	} else if (patient && in_ring(view, id)) {
		out->members |= role_bit(id); /* its service is away, the node is not */
		out->run[id - 1] = n->inc;
	}
}

static void make_view(const struct ha *ha, uint64_t now_ns, struct lead_view *out)
{
	memset(out, 0, sizeof(*out));
	out->table = table_of(ha);
	out->timing = &ha->timing;
	out->action_ns = ACTION_NS;
	out->starts_per_node = PER_NODE_MAX;
	out->moves_per_node = PER_NODE_MAX;
	for (uint32_t id = 1; id <= ROLE_NODES_MAX; id++) {
		if (role_table_node(out->table, id)->state != ROLE_NODE_ABSENT) {
			look_at(ha, id, now_ns, out);
		}
	}
}

static void run_lead(struct ha *ha, uint64_t now_ns)
{
	struct lead_view view;

	make_view(ha, now_ns, &view);
	lead_step(ha->lead, &view, now_ns, ha_now_ms(ha), ha->out);
	for (uint32_t i = 0; i < ha->out->cmd_count; i++) {
		propose(ha, &ha->out->cmds[i], HA_PROPOSE_NS);
	}
	/* No volumes and no power devices are known here yet: no raises, no fences. */
}

/* ---- all of it ---- */

static void look_at_view(struct ha *ha, uint64_t now_ns)
{
	struct rsm_status s;
	bool leads;

	member_status(ha->cfg.member, &s);
	ha->active = s.state == RSM_ACTIVE && !s.stale;
	ha->synced = ha->synced || ha->active;
	leads = ha->active && s.leader == ha->cfg.nodeid && ha->agent->self.inc != 0;
	if (ha->active && s.epoch != ha->epoch) {
		ha->epoch = s.epoch;
		ha->now_base_ms = role_table_now_ms(table_of(ha));
		ha->now_base_ns = now_ns;
		ha->leads = false;
	}
	if (leads && !ha->leads) {
		log_info(TAG, "leads epoch=%llu", (unsigned long long)s.epoch);
		lead_begin(ha->lead, now_ns);
	}
	ha->leads = leads;
}

static void on_timer(void *arg)
{
	struct ha *ha = arg;
	uint64_t now_ns = clock_boot_ns();

	loop_timer_arm(ha->timer, HA_TICK_NS);
	look_at_view(ha, now_ns);
	wishes_again(ha, now_ns);
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
		run_lead(ha, now_ns);
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
	const struct role_node *n = role_table_node(table_of(ha), ha->cfg.nodeid);

	if (run->inc == 0) {
		return;
	}
	agent_begin(ha->agent, run->inc);
	ha->agent->node.seq = n->renew_seq + SEQ_GAP;
	ha->agent->node.held = run->since_ns != 0;
	ha->agent->node.since_ns = run->since_ns;
	ha->agent->node.lease_ns = run->lease_ns;
	log_info(TAG, "goes on run=%llu", (unsigned long long)run->inc);
}

int ha_create(const struct ha_cfg *cfg, struct ha **out, struct errbuf *eb)
{
	static const struct member_role_ops ops = {.applied = on_applied,
	                                           .said = on_said,
	                                           .changed = on_roles_changed,
	                                           .loaded = on_loaded};
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
		err = ha->out != NULL ? 0 : -ENOMEM;
	}
	if (err == 0) {
		err = loop_timer_new(cfg->loop, on_timer, ha, &ha->timer);
	}
	if (err != 0) {
		ha_destroy(ha);
		return errbuf_sys(eb, err, "highly available VMs");
	}
	ha->now_base_ns = clock_boot_ns();
	ha->now_base_ms = role_table_now_ms(table_of(ha));
	watch_all(ha);
	resume_run(ha);
	member_watch_roles(cfg->member, &ops, ha);
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
	return ha->agent->self.inc != 0 &&
	       lease_rung(&ha->agent->node, &ha->timing, clock_boot_ns()) == LEASE_OK;
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
	const struct role *r = role_table_role(table_of(ha), role);
	const struct role_node *n = role_table_node(table_of(ha), node);

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

int ha_drain(struct ha *ha, uint32_t node, bool on)
{
	const struct role_node *n = role_table_node(table_of(ha), node);

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
	const struct role_node *n = role_table_node(table_of(ha), node);

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

	log_warn(TAG, "a person says that it is off node=%u run=%llu", node,
	         (unsigned long long)n->inc);
	return wish(ha, &cmd);
}

void ha_explain(struct ha *ha, uint32_t role, char *buf, size_t size)
{
	uint64_t now_ns = clock_boot_ns();
	struct lead_view view;

	make_view(ha, now_ns, &view);
	lead_explain(ha->lead, role, &view, now_ns, ha_now_ms(ha), buf, size);
}
