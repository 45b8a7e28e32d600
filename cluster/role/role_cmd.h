/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLUSTER_ROLE_ROLE_CMD_H
#define CLUSTER_ROLE_ROLE_CMD_H

/*
 * role_cmd - the entries of the cluster database that change roles and nodes; what each expects is
 * said beside it. Format on disk and between nodes: docs/formats/role-cmd.md.
 */

#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "cluster/role/role.h"

struct errbuf;

#define ROLE_CMD_BYTES 80u
#define ROLE_CMD_ARGS 4u

enum role_verb {
	/* About a role. Proposed by: P a person, L the leader, A the agent of the owner. */
	ROLE_CMD_WANT = 1,       /* P: arg0 enum role_want */
	ROLE_CMD_ACK,            /* L: volume arg0 refuses tokens below token. RAISING */
	ROLE_CMD_START,          /* L: at becomes the owner of token. PLACING */
	ROLE_CMD_STARTED,        /* A: it runs. STARTING */
	ROLE_CMD_START_FAILED,   /* A: it does not run. STARTING */
	ROLE_CMD_STOPPED,        /* A: it does not run; arg0 enum role_stop. Any owned state */
	ROLE_CMD_MIGRATE,        /* L: at prepares to take it. ONLINE */
	ROLE_CMD_MIGRATE_CANCEL, /* L, A. MIGRATING */
	ROLE_CMD_SWITCH,         /* A of the source, which has stopped and written all: at owns
	                            token + 1; arg0 since_ms of the move that was sent, 0 = not
	                            said. MIGRATING to at */
	ROLE_CMD_EXPIRE,         /* L: waited long enough. UNMONITORED */
	ROLE_CMD_FREEZE,         /* P: arg0 0 or 1 */
	ROLE_CMD_RELOCATE,       /* L: it stops, and starts elsewhere. ONLINE */

	/* About the node at.node; at.inc must be its incarnation, for JOIN the next. */
	ROLE_CMD_JOIN = 32, /* A: nothing of an earlier incarnation runs; arg0 memory [bytes], arg1
	                       cpus, arg2 volumes it reaches, arg3 ROLE_NODE_... flags */
	ROLE_CMD_LOST,      /* L: left the view; arg0 1 = its slots are still written. UP */
	ROLE_CMD_BACK,      /* L: in the view again, the same incarnation. LOST */
	ROLE_CMD_FENCING,   /* L: from now on it will not be let back. LOST */
	ROLE_CMD_FENCED,    /* L: arg0 enum role_proof, arg1 volumes (of PR only). LOST, FENCING */
	ROLE_CMD_LEAVE,     /* A: nothing runs, it goes in order. UP */
	ROLE_CMD_RENEW,     /* A: arg0 number, arg1 length [ms] of the node lease; arg3 flags: with
	                       ..._SAID ..._LEASE_PROOF is as it is from now on. UP */
	ROLE_CMD_PATHS,     /* A: arg0 volumes it reaches. UP */
	ROLE_CMD_DRAIN,     /* P: arg0 enum role_drain */
	ROLE_CMD_UNQUARANTINE, /* P */
};

enum role_stop {
	ROLE_STOP_ASKED, /* as the database wanted */
	ROLE_STOP_GUEST, /* the guest shut itself down */
	ROLE_STOP_CRASH, /* the worker ended unexpectedly, or was killed by the ladder */
	ROLE_STOP_COUNT
};

/* What shows that a run of a node has stopped. Ordered: later ones say more. */
enum role_proof {
	ROLE_PROOF_NONE,
	ROLE_PROOF_STORAGE,  /* its keys were preempted and aborted on volumes, read back */
	ROLE_PROOF_LEASE,    /* its leases are over, and its watchdog is to be trusted */
	ROLE_PROOF_POWER,    /* a fence device switched it off and read that back */
	ROLE_PROOF_OPERATOR, /* a person said so */
	ROLE_PROOF_CLEAN,    /* it said so itself: left in order, or came back as another run */
	ROLE_PROOF_COUNT
};

enum role_drain {
	ROLE_DRAIN_NONE,   /* takes roles */
	ROLE_DRAIN_ACTIVE, /* takes none and is being emptied */
	ROLE_DRAIN_DONE,   /* verified empty */
	ROLE_DRAIN_COUNT
};

#define ROLE_NODE_LEASE_PROOF 1u /* timing_check_node() was content */
#define ROLE_NODE_SAID 2u        /* RENEW: the flag beside it counts; else nothing changes */

struct role_cmd {
	enum role_verb verb;
	uint32_t role;     /* 0 for nodes */
	uint64_t epoch;    /* must be the current one */
	uint64_t now_ms;   /* cluster time of the proposer */
	uint64_t token;    /* must be the role's, except WANT and FREEZE */
	struct role_at at; /* by A: must be the owner; SWITCH, START, MIGRATE: the node meant */
	uint64_t arg[ROLE_CMD_ARGS];
};

/* role_cmd_encode() - the bytes of an entry. */
void role_cmd_encode(const struct role_cmd *cmd, uint8_t buf[ROLE_CMD_BYTES]);

/*
 * role_cmd_decode() - the only way in.
 * Returns 0; -EMSGSIZE not ROLE_CMD_BYTES; -EPROTO unknown version, verb or value; *out untouched.
 */
MUST_USE int role_cmd_decode(const void *buf, size_t len, struct role_cmd *out, struct errbuf *eb);

/* role_cmd_text() - one line for logs and scenarios: "start web1 on n2#3 token 5". */
void role_cmd_text(const struct role_cmd *cmd, const char *name, char *buf, size_t size);

const char *role_verb_name(enum role_verb verb);
const char *role_proof_name(enum role_proof proof);

#endif
