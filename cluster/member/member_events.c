/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/member/member_events.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "cluster/member/vm_doc.h"
#include "cluster/role/role_cmd.h"

#define TEXT_SIZE 300
#define FENCE_PREFIX "fence/"

/* ---- roles and nodes ---- */

void member_events_before(const struct role_table *t, const struct role_cmd *cmd,
                          struct member_before *out)
{
	const struct role *r = cmd->role != 0 ? role_table_role(t, cmd->role) : NULL;
	const struct role_node *n = cmd->at.node != 0 ? role_table_node(t, cmd->at.node) : NULL;

	*out = (struct member_before){.state = ROLE_OFFLINE};
	if (r != NULL) {
		out->state = r->state;
		out->owner = r->owner;
		out->dest = r->dest;
	}
	if (n != NULL) {
		out->drain = n->drain;
		out->quarantined = n->quarantine_until_ms > role_table_now_ms(t);
	}
}

/* The name of a node by its number. @buf[24]: for one without a document. */
static const char *node_name(const struct db *db, uint32_t nodeid, char *buf)
{
	for (size_t i = 0; i < db_count(db, DB_NODE); i++) {
		const struct db_object *o = db_at(db, DB_NODE, i);

		if (json_integer_value(json_object_get(o->doc, "nodeid")) == (json_int_t)nodeid) {
			return o->key;
		}
	}
	(void)snprintf(buf, 24, "node %u", nodeid);
	return buf;
}

/* Why it did not start, if its node has said so. */
static const char *failure_of(const struct db *db, const char *vm, const char *node)
{
	const struct db_object *o = db_get(db, DB_VM, vm);
	const json_t *failed = o != NULL ? json_object_get(o->doc, "failed") : NULL;
	const char *where = json_string_value(json_object_get(failed, "node"));
	const char *text = json_string_value(json_object_get(failed, "text"));

	return where != NULL && text != NULL && strcmp(where, node) == 0 ? text
	                                                                 : "it did not start";
}

struct story {
	const char *event; /* NULL = nothing to tell */
	uint32_t node;     /* it is about; 0 = none */
	char text[TEXT_SIZE];
};

#define TELL(s, ...) (void)snprintf((s)->text, sizeof((s)->text), __VA_ARGS__)

static void tell_want(const struct role *r, const struct role_cmd *cmd, struct story *s)
{
	s->event = "vm.wanted";
	s->node = r->owner.node;
	TELL(s, "is wanted %s", cmd->arg[0] == ROLE_WANT_ONLINE ? "online" : "offline");
}

static void tell_stopped(const struct role *r, const struct role_cmd *cmd,
                         const struct member_before *b, struct story *s)
{
	static const char *const events[ROLE_STOP_COUNT] = {"vm.off", "vm.off", "vm.crashed"};
	static const char *const why[ROLE_STOP_COUNT] = {
		"was stopped", "the guest shut itself down", "its worker ended"};

	s->event = events[cmd->arg[0]];
	s->node = b->owner.node;
	TELL(s, "%s%s", why[cmd->arg[0]],
	     r->state == ROLE_FAILED ? "; too often, it is not started again" : "");
}

/* About a role. */
static void tell_role(const struct db *db, const struct role *r, const struct role_cmd *cmd,
                      const struct member_before *b, struct story *s)
{
	char one[24];
	char other[24];

	switch ((int)cmd->verb) {
	case ROLE_CMD_WANT:
		tell_want(r, cmd, s);
		break;
	case ROLE_CMD_STARTED:
		s->event = r->why == ROLE_WHY_MOVED ? "vm.moved" : "vm.online";
		s->node = r->owner.node;
		TELL(s, "runs with token %" PRIu64, r->token);
		break;
	case ROLE_CMD_START_FAILED:
		s->event = "vm.start-failed";
		s->node = b->owner.node;
		TELL(s, "%s", failure_of(db, r->name, node_name(db, b->owner.node, one)));
		break;
	case ROLE_CMD_STOPPED:
		tell_stopped(r, cmd, b, s);
		break;
	case ROLE_CMD_MIGRATE:
		s->event = "vm.moving";
		s->node = r->owner.node;
		TELL(s, "from %s to %s", node_name(db, r->owner.node, one),
		     node_name(db, r->dest.node, other));
		break;
	case ROLE_CMD_MIGRATE_CANCEL:
		s->event = "vm.stays";
		s->node = r->owner.node;
		TELL(s, "its move to %s has ended without it", node_name(db, b->dest.node, other));
		break;
	case ROLE_CMD_SWITCH:
		s->event = "vm.handed-over";
		s->node = r->owner.node;
		TELL(s, "from %s to %s, token %" PRIu64, node_name(db, b->owner.node, one),
		     node_name(db, r->owner.node, other), r->token);
		break;
	case ROLE_CMD_EXPIRE:
		s->event = "vm.waited";
		s->node = r->owner.node;
		TELL(s, "its node has been out of sight for too long");
		break;
	case ROLE_CMD_FREEZE:
		s->event = cmd->arg[0] != 0 ? "vm.frozen" : "vm.unfrozen";
		s->node = r->owner.node;
		TELL(s, "by a person");
		break;
	default: /* ACK, START: steps of a start, which is told when it has ended */
		break;
	}
}

/* VMs that this run of the node has. */
static uint32_t vms_of(const struct role_table *t, uint32_t node)
{
	uint32_t count = 0;

	for (const struct role *r = role_table_next(t, 0); r != NULL;
	     r = role_table_next(t, r->id)) {
		count += r->owner.node == node;
	}
	return count;
}

static void tell_drain(const struct role_table *t, const struct role_cmd *cmd,
                       const struct member_before *b, struct story *s)
{
	static const char *const events[ROLE_DRAIN_COUNT] = {"node.resumed", "node.draining",
	                                                     "node.drained"};

	if (cmd->arg[0] == b->drain) {
		return;
	}
	s->event = events[cmd->arg[0]];
	if (cmd->arg[0] == ROLE_DRAIN_ACTIVE) {
		TELL(s, "for maintenance; it has %u VMs", vms_of(t, cmd->at.node));
	} else {
		TELL(s, cmd->arg[0] == ROLE_DRAIN_DONE ? "verified empty" : "takes VMs again");
	}
}

/* About a node. */
static void tell_node(const struct role_table *t, const struct role_cmd *cmd,
                      const struct member_before *b, struct story *s)
{
	const struct role_node *n = role_table_node(t, cmd->at.node);

	s->node = cmd->at.node;
	switch ((int)cmd->verb) {
	case ROLE_CMD_JOIN:
		s->event = "node.joined";
		TELL(s, "as run %" PRIu64 "; its silence %s", cmd->at.inc,
		     n->lease_proof ? "proves that it has stopped" : "proves nothing");
		break;
	case ROLE_CMD_LOST:
		s->event = "node.lost";
		TELL(s, "run %" PRIu64 " with %u VMs%s%s", cmd->at.inc, vms_of(t, n->id),
		     cmd->arg[0] != 0 ? "; it still writes to its volumes" : "",
		     n->quarantine_until_ms > role_table_now_ms(t) && !b->quarantined
		             ? "; too often, it is in quarantine"
		             : "");
		break;
	case ROLE_CMD_BACK:
		s->event = "node.back";
		TELL(s, "the same run %" PRIu64, cmd->at.inc);
		break;
	case ROLE_CMD_FENCING:
		s->event = "node.fencing";
		TELL(s, "run %" PRIu64 ": a proof that it has stopped is being made", cmd->at.inc);
		break;
	case ROLE_CMD_FENCED:
		s->event = "node.fenced";
		TELL(s, "run %" PRIu64 " is proven stopped by: %s", cmd->at.inc,
		     role_proof_name((enum role_proof)cmd->arg[0]));
		break;
	case ROLE_CMD_LEAVE:
		s->event = "node.left";
		TELL(s, "in order");
		break;
	case ROLE_CMD_DRAIN:
		tell_drain(t, cmd, b, s);
		break;
	case ROLE_CMD_UNQUARANTINE:
		s->event = b->quarantined ? "node.unquarantined" : NULL;
		TELL(s, "by a person");
		break;
	default: /* RENEW, PATHS: all the time */
		break;
	}
}

int member_events_role(const struct db *db, const struct role_table *t, const struct role_cmd *cmd,
                       const struct member_before *before, json_t **out)
{
	const struct role *r = cmd->role != 0 ? role_table_role(t, cmd->role) : NULL;
	struct story s = {.event = NULL};
	struct json_build b;
	char name[24];

	*out = NULL;
	if (r != NULL) {
		tell_role(db, r, cmd, before, &s);
	} else if (cmd->role == 0 && cmd->at.node != 0) {
		tell_node(t, cmd, before, &s);
	}
	if (s.event == NULL) {
		return 0;
	}
	json_build_object(&b);
	json_add_str(&b, "event", s.event);
	if (r != NULL) {
		json_add_str(&b, "vm", r->name);
	}
	if (s.node != 0) {
		json_add_str(&b, "node", node_name(db, s.node, name));
	}
	json_add_str(&b, "text", s.text);
	return json_build_end(&b, out);
}

/* ---- documents ---- */

/* A document that came, went, or of which this member changed. @what: "vm". */
struct fact {
	const char *event; /* NULL = nothing to tell */
	const char *key;   /* the member that names the object: "vm", "node", "volume" */
	const char *node;  /* beside it; NULL = none */
	char name[DB_KEY_MAX + 1];
	char text[TEXT_SIZE];
};

static const char *word(const json_t *doc, const char *key)
{
	const char *text = json_string_value(json_object_get(doc, key));

	return text != NULL ? text : "";
}

static bool differs(const struct db_change *c, const char *key)
{
	const json_t *before = json_object_get(c->before, key);
	const json_t *after = json_object_get(c->after, key);

	return (before == NULL) != (after == NULL) ||
	       (before != NULL && json_equal(before, after) == 0);
}

static void node_changed(const struct db_change *c, struct fact *f)
{
	f->key = "node";
	if (c->after == NULL) {
		f->event = "node.removed";
		TELL(f, "is no node of the cluster any more");
	} else if (c->before == NULL || differs(c, "state")) {
		f->event = c->before == NULL ? "node.added" : "node.state";
		TELL(f, "is %s", word(c->after, "state"));
	} else if (differs(c, "keys")) {
		f->event = "node.keys";
		TELL(f, "has another key, or one less");
	}
}

static void vm_changed(const struct db_change *c, struct fact *f)
{
	const char *what = c->after == NULL ? "removed" : c->before == NULL ? "created" : "changed";

	f->key = "vm";
	if (c->before != NULL && c->after != NULL && !differs(c, "definition") &&
	    !differs(c, "ha")) {
		return;
	}
	f->event = c->after == NULL    ? "vm.removed"
	           : c->before == NULL ? "vm.created"
	                               : "vm.changed";
	TELL(f, "its definition was %s", what);
}

static void volume_changed(const struct db_change *c, struct fact *f)
{
	f->key = "volume";
	if (c->before == NULL || c->after == NULL) {
		f->event = c->after == NULL ? "volume.removed" : "volume.added";
		TELL(f, "%s", word(c->after != NULL ? c->after : c->before, "device"));
	} else if (differs(c, "term")) {
		f->event = "volume.coordinator";
		TELL(f,
		     "is coordinated by node %" JSON_INTEGER_FORMAT
		     " in term %" JSON_INTEGER_FORMAT,
		     json_integer_value(json_object_get(c->after, "coordinator")),
		     json_integer_value(json_object_get(c->after, "term")));
	}
}

static void witness_changed(const struct db_change *c, struct fact *f)
{
	f->key = "witness";
	if (c->after == NULL) {
		f->event = "witness.removed";
	} else if (c->before == NULL) {
		f->event = "witness.set";
		TELL(f, "%s %s", word(c->after, "type"), word(c->after, "path"));
	} else if (differs(c, "votes")) {
		f->event = "witness.votes";
		TELL(f, "has %" JSON_INTEGER_FORMAT " votes",
		     json_integer_value(json_object_get(c->after, "votes")));
	}
}

/* What of the cluster's own setting people change. */
static void cluster_changed(const struct db_change *c, struct fact *f)
{
	static const char *const told[] = {"token_ms", "lease_ms"};
	struct text t;

	text_init(&t, f->text, sizeof(f->text));
	for (size_t i = 0; c->before != NULL && c->after != NULL && i < ARRAY_LEN(told); i++) {
		if (differs(c, told[i])) {
			f->event = "setting.changed";
			text_add(&t, "%s%s is %" JSON_INTEGER_FORMAT, t.len > 0 ? ", " : "",
			         told[i], json_integer_value(json_object_get(c->after, told[i])));
		}
	}
	f->key = "setting";
}

static void setting_changed(const struct db_change *c, struct fact *f)
{
	const json_t *doc = c->after != NULL ? c->after : c->before;

	if (strcmp(c->key, "cluster") == 0) {
		cluster_changed(c, f);
	} else if (strncmp(c->key, FENCE_PREFIX, strlen(FENCE_PREFIX)) == 0) {
		f->event = c->before == NULL  ? "fence.added"
		           : c->after == NULL ? "fence.removed"
		                              : "fence.changed";
		f->key = "device";
		f->node = word(doc, "node");
		(void)snprintf(f->name, sizeof(f->name), "%s", c->key + strlen(FENCE_PREFIX));
		TELL(f, "%s, %s", f->name, word(doc, "agent"));
	}
}

int member_events_change(const struct db_change *change, json_t **out)
{
	struct fact f = {.event = NULL};
	struct json_build b;

	*out = NULL;
	(void)snprintf(f.name, sizeof(f.name), "%s", change->key);
	switch (change->kind) {
	case DB_NODE:
		node_changed(change, &f);
		break;
	case DB_VM:
		vm_changed(change, &f);
		break;
	case DB_VOLUME:
		volume_changed(change, &f);
		break;
	case DB_WITNESS:
		witness_changed(change, &f);
		break;
	case DB_SETTING:
		setting_changed(change, &f);
		break;
	case DB_NETWORK:
	case DB_JOB:
	case DB_EVENT:
	case DB_KIND_COUNT:
		break;
	}
	if (f.event == NULL) {
		return 0;
	}
	json_build_object(&b);
	json_add_str(&b, "event", f.event);
	json_add_str(&b, f.key, f.name);
	if (f.node != NULL) {
		json_add_str(&b, "node", f.node);
	}
	json_add_str(&b, "text", f.text);
	return json_build_end(&b, out);
}
