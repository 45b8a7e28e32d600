/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SIM_CLUSTER_CSIM_H
#define TESTS_SIM_CLUSTER_CSIM_H

/*
 * csim - a whole cluster in one process and in virtual time: nodes with clocks that drift, freeze,
 * crash and are reset by their watchdogs; a network that splits; disks with reservations, queues
 * and other nodes' redirected writes; the decisions of cluster/{role,lead,agent,fence,lease}.
 *
 * What is simulated instead of being the real thing: membership (a view comes 2.05 to 2.2 s after
 * the ring broke, as measured), the log (an entry is committed when a majority of the members of
 * the current primary view can be reached from its proposer), and the disks.
 *
 * It watches, always: at most one run of a VM, no write with an older token after one with a newer
 * one, the invariants of role_table_check(). The first that breaks is in .broken. Everything
 * follows from the seed.
 */

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "cluster/agent/agent.h"
#include "cluster/lead/lead.h"
#include "cluster/role/role_table.h"
#include "cluster/timing/timing.h"

#define CSIM_NODES 5u
#define CSIM_ROLES 8u
#define CSIM_VOLUMES 3u
#define CSIM_WRITES 256u /* on their way at one time */
#define CSIM_EVENTS 8192u
#define CSIM_LOG_MAX 200000u

#define CSIM_MS 1000000ull
#define CSIM_S 1000000000ull

/* What is broken on purpose, to see that the simulation notices. */
enum csim_mutation {
	CSIM_MUTATE_NONE,
	CSIM_MUTATE_REPLY,    /* a lease counts from the reply */
	CSIM_MUTATE_PET,      /* the watchdog is always petted */
	CSIM_MUTATE_EARLY,    /* observers wait half of the lease */
	CSIM_MUTATE_NORAISE,  /* volumes acknowledge a token without refusing older ones */
	CSIM_MUTATE_NOCHECK,  /* a redirecting node does not look at the token */
	CSIM_MUTATE_NOABORT,  /* the disk says it aborts, but does not */
	CSIM_MUTATE_LIAR,     /* a power device says off, but is not, and is not read back */
	CSIM_MUTATE_NOPROOF,  /* a node that is out of sight counts as stopped */
	CSIM_MUTATE_INFLIGHT, /* what is in flight is not waited for */
	CSIM_MUTATE_LOCAL,    /* a proof by storage for VMs that also write elsewhere */
	CSIM_MUTATE_COUNT
};

struct csim_node {
	struct role_table *table;
	struct agent *agent;
	struct lead *lead;
	bool alive;
	bool frozen;  /* all of it, the watchdog's clock too if there is none */
	bool stalled; /* user space stands still, vCPUs run on */
	bool deaf;    /* corosync stands still */
	bool stuck;   /* its workers do not react, neither to pause nor to kill */
	bool off;     /* no power until somebody switches it on */
	bool watchdog;
	uint32_t net;             /* nodes of equal numbers hear each other */
	uint64_t paths;           /* volumes it reaches */
	uint64_t lag_ns;          /* it learns of entries so much later */
	double rate;              /* of its clock */
	uint64_t offset_ns;       /* its clock at real time 0 */
	uint64_t pet_ns;          /* last pet, real */
	uint32_t boot;            /* counts; events of an earlier one are not for this one */
	uint64_t epoch;           /* of the view it is in; 0 = none or not primary */
	uint64_t members;         /* of that view */
	uint64_t run[CSIM_NODES]; /* incarnations of the members, as it knows */
	uint32_t applied;         /* entries of the log */
	uint64_t joining_ns;
	uint64_t next_renew_ns; /* local */
	uint64_t next_slot_ns;
	uint64_t now_ms_base; /* cluster time at the last view */
	uint64_t now_ns_base;
	bool running[CSIM_ROLES]; /* its vCPUs run, unless frozen or paused */
	bool paused[CSIM_ROLES];
	uint64_t token[CSIM_ROLES]; /* with which it writes */
	uint64_t sends[CSIM_ROLES]; /* counts: what was sent in an earlier one is old */
};

struct csim_volume {
	bool reserves; /* has persistent reservations */
	bool aborts;
	uint64_t keys;                /* set of nodes */
	uint64_t known[CSIM_ROLES];   /* the token below which redirected writes are refused */
	uint64_t written[CSIM_ROLES]; /* the highest token that reached the disk */
	uint64_t sentence[CSIM_NODES];
	uint64_t slot_inc[CSIM_NODES];
	uint64_t slot_seq[CSIM_NODES];
};

struct csim_write {
	bool used;
	bool redirected; /* accepted from the redirecting node .by */
	uint32_t role;
	uint32_t volume;
	uint32_t from;
	uint32_t by;
	uint64_t token;
};

enum csim_power { CSIM_POWER_NONE, CSIM_POWER_GOOD, CSIM_POWER_FAILS, CSIM_POWER_HANGS };

struct csim_cfg {
	uint64_t seed;
	uint32_t nodes;
	uint32_t roles;
	uint32_t volumes;
	enum csim_mutation mutation;
	enum csim_power power;
	bool reserves;
	bool aborts;
	bool watchdogs;
	bool whole;     /* a proof by storage is one of all volumes or none, as godwitd makes it */
	uint64_t plain; /* set: volumes without reservations, whatever .reserves says */
	uint64_t local; /* set: roles that also write to something that is on no volume */
	bool strict;
	bool isolated_ok;
	uint32_t resiliency_ms;
	bool slow_io; /* disks use all of inflight_ms, redirected writes take seconds */
	bool idle;    /* nobody wants any VM yet */
	const struct role_policy *policies; /* borrowed: [roles]; NULL = a mixture */
	FILE *log; /* what happens, for people and golden files; NULL = not */
};

struct csim_event {
	uint64_t at_ns;
	uint64_t order;
	uint32_t what;
	uint32_t node;
	uint32_t boot;
	uint32_t a;
	uint64_t b;
	uint64_t c;
	struct role_cmd cmd;
	struct fence_action fence;
	uint64_t fence_gen;
};

struct csim {
	struct csim_cfg cfg;
	struct timing timing; /* of the holders */
	struct timing watch;  /* of the observers: differs only when mutated */
	uint64_t rng;
	uint64_t now_ns; /* real */
	uint64_t order;
	struct csim_node nodes[CSIM_NODES];
	struct csim_volume volumes[CSIM_VOLUMES];
	struct csim_write writes[CSIM_WRITES];
	struct csim_event *events; /* a heap */
	uint32_t event_count;
	struct role_cmd *entries; /* the log; .verb 0 = a new epoch */
	uint32_t entry_count;
	struct role_table *truth; /* as of the end of the log */
	uint64_t primary;         /* set: members of the newest primary view */
	uint64_t epoch;
	uint64_t overlap_ns[CSIM_ROLES]; /* since when a VM computes on two nodes; 0 = not */
	uint64_t overlap_max_ns;         /* longest, of those that storage has fenced */
	uint64_t events_done;
	uint64_t failovers;
	const char *broken; /* the first oracle that did not hold */
	char broken_text[200];
};

/* csim_create() - nodes powered on, roles defined and wanted. Fails the test when out of memory. */
struct csim *csim_create(const struct csim_cfg *cfg);
void csim_destroy(struct csim *s);

/* csim_run() - until @until_ns, or an oracle breaks. */
void csim_run(struct csim *s, uint64_t until_ns);

/* Faults; node ids from 1. */
void csim_crash(struct csim *s, uint32_t node); /* power loss; it boots again */
void csim_off(struct csim *s, uint32_t node);   /* power loss that lasts */
void csim_on(struct csim *s, uint32_t node);
void csim_freeze(struct csim *s, uint32_t node, bool frozen);
void csim_stall(struct csim *s, uint32_t node, bool stalled);
void csim_deafen(struct csim *s, uint32_t node, bool deaf);
void csim_stick(struct csim *s, uint32_t node, bool stuck);
void csim_lag(struct csim *s, uint32_t node, uint64_t lag_ns);
void csim_net(struct csim *s, uint32_t node, uint32_t net);
void csim_path(struct csim *s, uint32_t node, uint32_t volume, bool there);
void csim_kill_vm(struct csim *s, uint32_t role);
/* csim_propose() - a person's command, through any member of the primary view. */
void csim_propose(struct csim *s, struct role_cmd cmd);
void csim_heal(struct csim *s);

/* csim_settled() - is every role that is wanted online and running, and only there? */
bool csim_settled(const struct csim *s);

/* csim_random() - below @below. */
uint64_t csim_random(struct csim *s, uint64_t below);

/* csim_say() - one line of the log. */
void csim_say(struct csim *s, const char *fmt, ...) PRINTF_LIKE(2, 3);

#endif
