/* SPDX-License-Identifier: Apache-2.0 */

/*
 * ha_move - VMs of the cluster that change their node alive: between the engine of moves
 * (move_api.h), which copies, and the log, which decides.
 *
 *	MIGRATE committed     the source's agent sends, the destination expects it
 *	all is there          the source's VM stands still; SWITCH is proposed
 *	SWITCH committed      it is the destination's: that takes it, the source lets go
 *	anything else         it stays: the source lets it go on, the destination drops what came
 */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "bin/godwitd/ha_int.h"
#include "bin/godwitd/move_api.h"
#include "cluster/db/db.h"
#include "cluster/db/db_cmd.h"
#include "cluster/ha/maint.h"
#include "hv/manager/vm_move.h"

static const struct role *role_named(const struct ha_api *api, const char *name)
{
	return api->ha == NULL ? NULL
	                       : role_table_role(member_roles(api->place.member),
	                                         member_role_find(api->place.member, name));
}

static bool is_us(const struct ha_api *api, struct role_at at)
{
	const struct agent *a = ha_agent(api->ha);

	return a->self.inc != 0 && at.node == a->self.node && at.inc == a->self.inc;
}

int ha_peer_of(const struct ha_api *api, uint32_t nodeid, struct vm_move_peer *out,
               struct errbuf *eb)
{
	const char *name = ha_node_name(api, nodeid);
	const struct db_object *o = db_get(member_db(api->place.member), DB_NODE, name);
	const char *addr =
		o != NULL ? json_string_value(json_array_get(json_object_get(o->doc, "addrs"), 0))
			  : NULL;
	json_int_t port = o != NULL ? json_integer_value(json_object_get(o->doc, "port")) : 0;

	if (addr == NULL) {
		return errbuf_set(eb, -ENOENT, "there is no such node in the cluster");
	}
	(void)snprintf(out->name, sizeof(out->name), "%s", name);
	(void)snprintf(out->addr, sizeof(out->addr), "%s", addr);
	out->port = port > 0 && port <= UINT16_MAX ? (uint16_t)port : 0;
	return 0;
}

static bool on_owned(void *arg, const char *name)
{
	return ha_api_owns(arg, name);
}

static int can_go(const struct ha_api *api, const struct role *r, uint32_t to, struct errbuf *eb)
{
	const struct role_node *n = role_table_node(member_roles(api->place.member), to);

	if (role_owned(r->state) && !is_us(api, r->owner)) {
		(void)errbuf_set(eb, -EREMOTE, "%s runs on %s", r->name,
		                 ha_node_name(api, r->owner.node));
		errbuf_hint(eb, "ask that node");
		return -EREMOTE;
	}
	if (r->state != ROLE_ONLINE) {
		return errbuf_set(eb, -EBUSY, "cannot move %s: it is %s", r->name,
		                  role_state_name(r->state));
	}
	if (n == NULL || n->state != ROLE_NODE_UP) {
		return errbuf_set(eb, -EHOSTDOWN, "%s is %s", ha_node_name(api, to),
		                  n != NULL ? role_node_state_name(n->state) : "no node");
	}
	if ((r->policy.volumes & ~n->paths) != 0) {
		(void)errbuf_set(eb, -EPERM, "%s does not have all shared volumes of %s",
		                 ha_node_name(api, to), r->name);
		errbuf_hint(eb, "godwit csv list on that node shows what it has");
		return -EPERM;
	}
	if (r->policy.possible != 0 && (r->policy.possible & role_bit(to)) == 0) {
		return errbuf_set(eb, -EPERM, "%s must not run on %s, by its definition", r->name,
		                  ha_node_name(api, to));
	}
	return 0;
}

static int on_ask(void *arg, const char *name, struct vm_move_peer *peer, struct errbuf *eb)
{
	struct ha_api *api = arg;
	const struct db_object *o = db_get(member_db(api->place.member), DB_NODE, peer->name);
	uint32_t to =
		o != NULL ? (uint32_t)json_integer_value(json_object_get(o->doc, "nodeid")) : 0;
	const struct role *r = name != NULL ? role_named(api, name) : NULL;
	int err;

	if (to == 0) {
		(void)errbuf_set(eb, -ENOENT, "there is no node %s in the cluster", peer->name);
		errbuf_hint(eb, "godwit node list shows those there are");
		return -ENOENT;
	}
	err = ha_peer_of(api, to, peer, eb);
	if (err != 0 || name == NULL) {
		return err;
	}
	if (r == NULL) {
		return errbuf_set(eb, -ENOENT, "there is no VM named %s", name);
	}
	err = can_go(api, r, to, eb);
	if (err == 0) {
		err = ha_migrate(api->ha, r->id, to);
		if (err != 0) {
			(void)errbuf_sys(eb, err, "the cluster cannot be asked");
		}
	}
	return err;
}

static void tell(struct ha_api *api, const char *name, enum agent_event event)
{
	const struct role *r = role_named(api, name);

	if (r != NULL) {
		ha_vm_event(api->ha, r->id, event);
	}
}

static void on_sent(void *arg, const char *name)
{
	log_info(HA_TAG, "stands still, all is there vm=%s", name);
	tell(arg, name, AGENT_SENT);
}

static int on_note(void *arg, const struct db_cmd *cmd, uint64_t timeout_ns, rsm_done_fn fn,
                   void *fn_arg)
{
	struct ha_api *api = arg;

	return api->place.member != NULL
	               ? member_propose(api->place.member, cmd, timeout_ns, fn, fn_arg)
	               : -ENOTCONN;
}

static uint64_t at_ms_of(const json_t *one)
{
	json_int_t at_ms = json_integer_value(json_object_get(one, "at_ms"));

	return at_ms > 0 ? (uint64_t)at_ms : 0;
}

/* When the last move that @doc knows of ended or failed; cluster time, 0 = it knows of none. */
static uint64_t last_ms_of(const json_t *doc)
{
	json_t *unmoved = json_object_get(doc, "unmoved");
	uint64_t last_ms = at_ms_of(json_object_get(doc, "moved"));
	const char *node;
	json_t *one;

	json_object_foreach(unmoved, node, one)
	{
		uint64_t at_ms = at_ms_of(one);

		last_ms = at_ms > last_ms ? at_ms : last_ms;
	}
	return last_ms;
}

static bool on_late(void *arg, const char *name, const json_t *patch)
{
	struct ha_api *api = arg;

	return api->place.member != NULL && last_ms_of(ha_doc(api, name)) > last_ms_of(patch);
}

/* Into the VM's document, for people and for whoever empties this node. Takes @patch. */
static void note(struct ha_api *api, const char *name, json_t *patch)
{
	if (api->stopped || api->place.member == NULL) {
		json_decref(patch);
		return;
	}
	ha_note(&api->notes, name, patch, clock_now_ns());
}

static uint32_t number_of_node(const struct ha_api *api, const char *name)
{
	const struct db_object *o = db_get(member_db(api->place.member), DB_NODE, name);

	return o != NULL ? (uint32_t)json_integer_value(json_object_get(o->doc, "nodeid")) : 0;
}

static void on_failed(void *arg, const char *name, const char *to, bool slow, int err,
                      const struct errbuf *eb)
{
	struct ha_api *api = arg;
	uint32_t node = api->ha != NULL ? number_of_node(api, to) : 0;
	char key[16];

	(void)snprintf(key, sizeof(key), "%u", node);
	if (node != 0 && err != -ECANCELED) { /* before the leader may choose again */
		note(api, name,
		     json_pack("{s:{s:{s:s,s:s,s:s,s:b,s:I}}}", "unmoved", key, "node", to, "text",
		               errbuf_text(eb, err), "hint", eb != NULL ? eb->hint : "", "slow",
		               (int)slow, "at_ms", (json_int_t)ha_now_ms(api->ha)));
	}
	tell(api, name, AGENT_SEND_FAILED);
}

static json_int_t figure(const json_t *result, const char *key)
{
	return json_integer_value(json_object_get(result, key));
}

static void on_moved(void *arg, const char *name, const char *to, const json_t *result)
{
	struct ha_api *api = arg;
	const char *mode = json_string_value(json_object_get(result, "mode"));

	if (api->ha != NULL) {
		note(api, name,
		     json_pack("{s:{s:s,s:s,s:s,s:I,s:I,s:I,s:I,s:I},s:n}", "moved", "from",
		               api->node, "to", to, "mode", mode != NULL ? mode : "live", "at_ms",
		               (json_int_t)ha_now_ms(api->ha), "blackout_ns",
		               figure(result, "blackout_ns"), "total_ns",
		               figure(result, "total_ns"), "wire_bytes",
		               figure(result, "wire_bytes"), "rounds", figure(result, "rounds"),
		               "unmoved"));
	}
}

/* Is it to go while it stands still? If it cannot alive, and whoever empties this node wants it. */
static bool go_quick(const struct ha_api *api, const char *name)
{
	const struct db *db = member_db(api->place.member);
	const struct role_node *n =
		role_table_node(member_roles(api->place.member), api->place.nodeid);
	struct maint_drain drain;
	struct lead_hint hint;

	if (n == NULL || n->drain != ROLE_DRAIN_ACTIVE ||
	    !maint_drain_get(db, api->place.nodeid, &drain) ||
	    maint_fallback_of(drain.fallback, ha_doc(api, name)) != MAINT_QUICK) {
		return false;
	}
	maint_hint(ha_doc(api, name), drain.since_ms, ha_now_ms(api->ha), &hint);
	return hint.no_live;
}

static bool on_forward(void *arg, struct api_req *req, const char *name)
{
	return ha_forward_move(arg, req, name);
}

static void on_how(void *arg, const char *name, struct move_how *out)
{
	const struct ha_api *api = arg;
	const struct db *db;
	struct maint_drain drain;

	*out = (struct move_how){.at_once = MOVE_OUT_MAX};
	if (api->ha == NULL) {
		return;
	}
	db = member_db(api->place.member);
	out->at_once = maint_moves(db);
	if (maint_drain_get(db, api->place.nodeid, &drain) && drain.moves > out->at_once) {
		out->at_once = drain.moves;
	}
	if (name != NULL) {
		out->blackout_max_ns = maint_blackout_ns(db, name);
		out->quick = go_quick(api, name);
	}
}

static enum move_word on_leaves(void *arg, const char *name)
{
	const struct ha_api *api = arg;
	const struct role *r = role_named(api, name);

	if (api->ha == NULL || !ha_synced(api->ha)) {
		return MOVE_WAIT;
	}
	if (r == NULL) {
		return MOVE_STAY;
	}
	if (api->sent_token[r->id - 1] != 0 &&
	    api->switched_token[r->id - 1] == api->sent_token[r->id - 1]) {
		return MOVE_GO;
	}
	return r->state == ROLE_MIGRATING && is_us(api, r->owner) ? MOVE_WAIT : MOVE_STAY;
}

static bool is_coming(const struct ha_api *api, const struct role *r)
{
	return r->state == ROLE_MIGRATING && is_us(api, r->dest);
}

static int on_expect(void *arg, const char *name, struct errbuf *eb)
{
	struct ha_api *api = arg;
	const struct role *r = role_named(api, name);

	if (r == NULL || !is_coming(api, r)) {
		return errbuf_set(eb, -EAGAIN, "%s is not expected here yet", name);
	}
	if (!ha_guard_ready(api)) {
		return errbuf_set(eb, -EBUSY, "this node's lease or its guard is not in order");
	}
	return 0;
}

static int on_arriving(void *arg, const struct vm *vm)
{
	struct ha_api *api = arg;
	const struct role *r = role_named(api, vm_config_get(vm)->name);
	struct guard_vm g = {.role = 0};

	if (r == NULL) {
		return -ENOENT;
	}
	g.role = r->id;
	g.token = r->token + 1; /* what SWITCH will make of it */
	api->ended_ns[r->id - 1] = 0;
	return ha_vms_guard(api, &g, vm);
}

static enum move_word on_comes(void *arg, const char *name)
{
	const struct ha_api *api = arg;
	const struct role *r = role_named(api, name);
	struct guard_vm g;

	if (api->ha == NULL || !ha_synced(api->ha)) {
		return MOVE_WAIT;
	}
	if (r == NULL) {
		return MOVE_STAY;
	}
	if (is_coming(api, r)) {
		return MOVE_WAIT;
	}
	return is_us(api, r->owner) && r->incoming && guard_find(api->guard, r->id, &g) &&
	                       g.token == r->token
	               ? MOVE_GO
	               : MOVE_STAY;
}

bool ha_move_expected(const struct ha_api *api, const struct guard_vm *g)
{
	const struct role *r = role_table_role(member_roles(api->place.member), g->role);

	return r != NULL && is_coming(api, r) && g->token == r->token + 1;
}

void ha_move_send(struct ha_api *api, uint32_t role, uint32_t node)
{
	const struct role *r = role_table_role(member_roles(api->place.member), role);
	struct vm *vm = ha_vms_find(api, role);
	struct vm_move_peer peer = {.port = 0};
	struct errbuf eb = {0};

	if (r == NULL || vm == NULL || api->moves == NULL ||
	    ha_peer_of(api, node, &peer, &eb) != 0) {
		log_warn(HA_TAG, "cannot be sent role=%u text=\"%s\"", role, eb.text);
		ha_vm_event(api->ha, role, AGENT_SEND_FAILED);
		return;
	}
	api->sent_token[role - 1] = r->token;
	move_api_send(api->moves, vm, &peer);
}

void ha_move_init(struct ha_api *api)
{
	ha_notes_init(&api->notes, on_note, on_late, api);
	api->move_ops = (struct move_cluster){
		.owned = on_owned,
		.ask = on_ask,
		.sent = on_sent,
		.failed = on_failed,
		.moved = on_moved,
		.how = on_how,
		.forward = on_forward,
		.leaves = on_leaves,
		.expect = on_expect,
		.arriving = on_arriving,
		.comes = on_comes,
		.arg = api,
	};
}

const struct move_cluster *ha_api_moves(struct ha_api *api)
{
	return &api->move_ops;
}

void ha_api_set_moves(struct ha_api *api, struct move_api *moves)
{
	api->moves = moves;
}
