/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/role/role_cmd.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "base/errbuf.h"
#include "base/text.h"
#include "cluster/role/role_wire.h"

/* What each verb may carry. */
struct verb {
	const char *name;
	uint64_t arg_max[ROLE_CMD_ARGS]; /* 0: must be 0 */
	enum role_verb verb;
	bool role; /* about a role; else about a node */
	bool at;   /* names a run of a node */
};

#define ROLE(verb, name, ...)                          \
	{                                              \
		name, {__VA_ARGS__}, verb, true, false \
	}
#define ROLE_AT(verb, name, ...)                      \
	{                                             \
		name, {__VA_ARGS__}, verb, true, true \
	}
#define NODE(verb, name, ...)                          \
	{                                              \
		name, {__VA_ARGS__}, verb, false, true \
	}

/* What each verb may carry. */
static const struct verb verbs[] = {
	ROLE(ROLE_CMD_WANT, "want", ROLE_WANT_ONLINE),
	ROLE(ROLE_CMD_ACK, "ack", ROLE_VOLUMES_MAX),
	ROLE_AT(ROLE_CMD_START, "start", 0),
	ROLE_AT(ROLE_CMD_STARTED, "started", 0),
	ROLE_AT(ROLE_CMD_START_FAILED, "start-failed", 0),
	ROLE_AT(ROLE_CMD_STOPPED, "stopped", ROLE_STOP_COUNT - 1),
	ROLE_AT(ROLE_CMD_MIGRATE, "migrate", 0),
	ROLE(ROLE_CMD_MIGRATE_CANCEL, "migrate-cancel", 0),
	ROLE_AT(ROLE_CMD_SWITCH, "switch", UINT64_MAX),
	ROLE(ROLE_CMD_EXPIRE, "expire", 0),
	ROLE(ROLE_CMD_FREEZE, "freeze", 1),
	ROLE(ROLE_CMD_RELOCATE, "relocate", 0),
	NODE(ROLE_CMD_JOIN, "join", UINT64_MAX, UINT32_MAX, UINT64_MAX, ROLE_NODE_LEASE_PROOF),
	NODE(ROLE_CMD_LOST, "lost", 1),
	NODE(ROLE_CMD_BACK, "back", 0),
	NODE(ROLE_CMD_FENCING, "fencing", 0),
	NODE(ROLE_CMD_FENCED, "fenced", ROLE_PROOF_COUNT - 1, UINT64_MAX),
	NODE(ROLE_CMD_LEAVE, "leave", 0),
	NODE(ROLE_CMD_RENEW, "renew", UINT64_MAX, UINT32_MAX, 0,
             ROLE_NODE_LEASE_PROOF | ROLE_NODE_SAID),
	NODE(ROLE_CMD_PATHS, "paths", UINT64_MAX),
	NODE(ROLE_CMD_DRAIN, "drain", ROLE_DRAIN_COUNT - 1),
	NODE(ROLE_CMD_UNQUARANTINE, "unquarantine", 0),
};

static const struct verb *find(uint32_t verb)
{
	for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
		if ((uint32_t)verbs[i].verb == verb) {
			return &verbs[i];
		}
	}
	return NULL;
}

const char *role_verb_name(enum role_verb verb)
{
	const struct verb *v = find((uint32_t)verb);

	return v != NULL ? v->name : "?";
}

const char *role_proof_name(enum role_proof proof)
{
	static const char *const names[ROLE_PROOF_COUNT] = {"none",  "storage",  "lease",
	                                                    "power", "operator", "clean"};

	return (uint32_t)proof < ROLE_PROOF_COUNT ? names[proof] : "?";
}

void role_cmd_encode(const struct role_cmd *cmd, uint8_t buf[ROLE_CMD_BYTES])
{
	struct role_cmd_wire w = {
		.version = le16_make(ROLE_CMD_VERSION),
		.verb = le16_make((uint16_t)cmd->verb),
		.role = le32_make(cmd->role),
		.epoch = le64_make(cmd->epoch),
		.now_ms = le64_make(cmd->now_ms),
		.token = le64_make(cmd->token),
		.node = le32_make(cmd->at.node),
		.inc = le64_make(cmd->at.inc),
	};

	for (uint32_t i = 0; i < ROLE_CMD_ARGS; i++) {
		w.arg[i] = le64_make(cmd->arg[i]);
	}
	memcpy(buf, &w, sizeof(w));
}

/* Returns NULL, or what is wrong with a command that was decoded. */
static const char *wrong(const struct role_cmd *cmd, const struct verb *v)
{
	if (v->role != (cmd->role != 0) || cmd->role > ROLE_COUNT_MAX) {
		return "role";
	}
	if (v->at ? cmd->at.node == 0 || cmd->at.node > ROLE_NODES_MAX || cmd->at.inc == 0
	          : cmd->at.node != 0 || cmd->at.inc != 0) {
		return "node";
	}
	for (uint32_t i = 0; i < ROLE_CMD_ARGS; i++) {
		if (cmd->arg[i] > v->arg_max[i]) {
			return "argument";
		}
	}
	if (cmd->verb == ROLE_CMD_ACK && cmd->arg[0] == 0) {
		return "volume";
	}
	return NULL;
}

int role_cmd_decode(const void *buf, size_t len, struct role_cmd *out, struct errbuf *eb)
{
	struct role_cmd_wire w;
	struct role_cmd cmd;

	if (len != sizeof(w)) {
		return errbuf_set(eb, -EMSGSIZE, "role command: %zu bytes instead of %zu", len,
		                  sizeof(w));
	}
	memcpy(&w, buf, sizeof(w));
	if (le16_get(w.version) != ROLE_CMD_VERSION || le32_get(w.reserved) != 0) {
		return errbuf_set(eb, -EPROTO, "role command: unknown version %u",
		                  le16_get(w.version));
	}

	const struct verb *v = find(le16_get(w.verb));

	if (v == NULL) {
		return errbuf_set(eb, -EPROTO, "role command: unknown verb %u", le16_get(w.verb));
	}
	cmd = (struct role_cmd){
		.verb = v->verb,
		.role = le32_get(w.role),
		.epoch = le64_get(w.epoch),
		.now_ms = le64_get(w.now_ms),
		.token = le64_get(w.token),
		.at = {.node = le32_get(w.node), .inc = le64_get(w.inc)},
	};
	for (uint32_t i = 0; i < ROLE_CMD_ARGS; i++) {
		cmd.arg[i] = le64_get(w.arg[i]);
	}

	const char *what = wrong(&cmd, v);

	if (what != NULL) {
		return errbuf_set(eb, -EPROTO, "role command: %s: bad %s", v->name, what);
	}
	*out = cmd;
	return 0;
}

void role_cmd_text(const struct role_cmd *cmd, const char *name, char *buf, size_t size)
{
	const struct verb *v = find((uint32_t)cmd->verb);
	struct text text;

	text_init(&text, buf, size);
	text_add(&text, "%s", role_verb_name(cmd->verb));
	if (name != NULL) {
		text_add(&text, " %s", name);
	}
	if (cmd->at.node != 0) {
		text_add(&text, " n%u#%llu", cmd->at.node, (unsigned long long)cmd->at.inc);
	}
	if (v != NULL && v->role && cmd->token != 0) {
		text_add(&text, " token %llu", (unsigned long long)cmd->token);
	}
	if (cmd->verb == ROLE_CMD_FENCED) {
		text_add(&text, " by %s", role_proof_name((enum role_proof)cmd->arg[0]));
	} else if (cmd->verb == ROLE_CMD_ACK) {
		text_add(&text, " volume %llu", (unsigned long long)cmd->arg[0]);
	} else if (cmd->verb == ROLE_CMD_WANT) {
		text_add(&text, " %s", cmd->arg[0] == ROLE_WANT_ONLINE ? "online" : "offline");
	} else if (cmd->verb == ROLE_CMD_STOPPED && cmd->arg[0] != ROLE_STOP_ASKED) {
		text_add(&text, " %s", cmd->arg[0] == ROLE_STOP_GUEST ? "by the guest" : "crashed");
	}
}
