/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLUSTER_FENCE_FENCE_H
#define CLUSTER_FENCE_FENCE_H

/*
 * fence - one run of a node is to be proven stopped: which ways are tried, and what came of them.
 *
 * The leader of a primary view has a struct fence for each (node, incarnation) whose FENCING is
 * committed. All ways run at the same time; whichever proves first wins:
 *
 *   storage   per volume: PREEMPT AND ABORT of its key, read back; where the disk cannot abort,
 *             plus what it takes to execute what it accepted. Volume by volume, or (.whole) only
 *             when that is so of everything that the run could write
 *   verdict   per volume: a sentence in its verdict slot; it reads that with each renewal of its
 *             volume lease and then stops renewing. No proof, but it makes the next one come
 *   power     levels in order, a level is all its devices: off, read back as off, plus the same;
 *             one whose word is older than the last one's by more than a try may take is asked
 *             again: somebody may have switched it on
 *   lease     its leases are over (cluster/lease), if its silence may be believed
 *
 * A way that fails or hangs is tried again, later and later; a hanging one holds up nobody.
 * fence_step() says what to begin; the caller runs it (fence agents: fence_agent.h) and reports
 * with fence_done(). Nothing here is a safety decision but fence_proof(): only a success that was
 * reported for a try of this very struct counts, so a case that begins again begins with nothing.
 *
 * Pure: no clock, no allocation. Value type, the leader's thread.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "cluster/role/role_cmd.h"

struct timing;

#define FENCE_LEVELS_MAX 3u
#define FENCE_DEVICES_MAX 4u  /* of a level: as many power supplies */
#define FENCE_ACTIONS_MAX 16u /* from one fence_step(); the rest comes with the next */

enum fence_do {
	FENCE_PREEMPT, /* on .volume, from a node that reaches it */
	FENCE_VERDICT, /* on .volume */
	FENCE_OFF      /* .level, .device: switch off and read back */
};

struct fence_action {
	enum fence_do what;
	uint32_t volume;
	uint32_t level;
	uint32_t device;
	uint32_t number; /* of the try; an answer to an older one is not heard */
};

/* What the leader knows now. */
struct fence_view {
	const struct timing *timing; /* borrowed for the call */
	uint64_t volumes;            /* set: those of the VMs that wait for the proof */
	uint64_t reachable;          /* set: volumes that some member reaches */
	uint64_t preemptable;        /* set: keys can be taken away there */
	uint64_t whole; /* set: storage proves nothing before all of these; 0 = each by itself */
	uint32_t devices[FENCE_LEVELS_MAX]; /* power devices of each level; 0 = no such level */
	uint64_t action_ns;                 /* give a try up after so long */
	bool lease_proof;                   /* its silence may be believed */
	uint64_t
		lease_end_ns; /* when all its leases are over for certain; UINT64_MAX = not known */
};

struct fence_try {
	enum { FENCE_IDLE, FENCE_RUNNING, FENCE_GOOD } state;
	uint32_t number; /* tries so far */
	uint64_t at_ns;  /* IDLE: not before; RUNNING: given up at; GOOD: since */
	int err;         /* of the last try */
	bool aborted;    /* GOOD, FENCE_PREEMPT: what had been sent is not executed any more */
};

struct fence {
	struct role_at at;
	uint64_t begin_ns;
	uint32_t level; /* of power, that is tried now */
	struct fence_try preempt[ROLE_VOLUMES_MAX];
	struct fence_try verdict[ROLE_VOLUMES_MAX];
	struct fence_try off[FENCE_LEVELS_MAX][FENCE_DEVICES_MAX];
	uint32_t heard[FENCE_LEVELS_MAX][FENCE_DEVICES_MAX]; /* tries whose failure was acted on */
};

/*
 * fence_init() - begin to fence @at. @delay_ns: let others go first, so that two halves do not
 * shoot each other (priority fencing delay); leases are not delayed.
 */
void fence_init(struct fence *f, struct role_at at, uint64_t delay_ns, uint64_t now_ns);

/* fence_power_changed() - the node has other power devices than before: what was tried with the old
 * ones counts for nothing, nor does what they still answer. */
void fence_power_changed(struct fence *f);

/* fence_storage_changed() - other keys than before are to be taken away: what was done with those
 * counts for nothing, nor does what is still answered about them. */
void fence_storage_changed(struct fence *f);

/*
 * fence_step() - what to begin now.
 * @out[FENCE_ACTIONS_MAX]: actions; each is answered by fence_done() unless it is given up.
 * Returns how many.
 */
size_t fence_step(struct fence *f, const struct fence_view *view, uint64_t now_ns,
                  struct fence_action out[FENCE_ACTIONS_MAX]);

#define FENCE_ABORTED 1

/*
 * fence_done() - @action came to its end.
 * @err: 0 = done and read back; FENCE_ABORTED = and, by what was done then, nothing that was sent
 * under the key is executed any more (of FENCE_PREEMPT); -errno. What the disk can do at another
 * time says nothing about this try.
 */
void fence_done(struct fence *f, const struct fence_action *action, int err, uint64_t now_ns);

/*
 * fence_proof() - what is proven at @now_ns.
 * @volumes: with ROLE_PROOF_STORAGE: on which; only those of view->volumes are needed.
 * Returns the strongest; ROLE_PROOF_NONE.
 */
enum role_proof fence_proof(const struct fence *f, const struct fence_view *view, uint64_t now_ns,
                            uint64_t *volumes);

/* fence_sentenced() - when was the verdict on @volume written; UINT64_MAX = it is not. A lease on
 * that volume which was renewed before is the last one. */
uint64_t fence_sentenced(const struct fence *f, uint32_t volume);

/* fence_next_ns() - when fence_step() or fence_proof() should be called at the latest. */
uint64_t fence_next_ns(const struct fence *f, const struct fence_view *view, uint64_t now_ns);

/* fence_describe() - for people: what is tried, what failed and how long it may still take. */
void fence_describe(const struct fence *f, const struct fence_view *view, uint64_t now_ns,
                    char *buf, size_t size);

#endif
