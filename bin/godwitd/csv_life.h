/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BIN_GODWITD_CSV_LIFE_H
#define BIN_GODWITD_CSV_LIFE_H

/*
 * csv_life - what follows for this node's godwit-csvd from what godwitd sees of it: the core of
 * csv_wire, without clock, processes and log.
 *
 *	nobody --a process without a run--> ADOPT (guard's page) --inflight_ms--> COMMIT -> TELL
 *	guarded --it has ended--> ENDED --inflight_ms--> GONE (in the log) -> FORGET
 *	guarded --it does not answer for hang_ns, or others ask for it--> KILL -> it has ended
 *
 * Others ask for it: for hang_ns without interruption since it was told all that is to be told. Who
 * was told late only needs some time to give back what it has, and then they ask no longer.
 *
 * What godwitd forgets when it is started again counts from then on: each wait gets longer by that,
 * never shorter. In particular a process has ended when that was *seen*, not when this began to
 * look.
 *
 * Value type; the loop's thread.
 */

#include <stdbool.h>
#include <stdint.h>

enum csv_life_act {
	CSV_LIFE_WAIT,     /* it is told nothing now */
	CSV_LIFE_ADOPT,    /* a process without a run: into the guard's page with it */
	CSV_LIFE_STRANGER, /* a process of a run that the guard does not know: it must end */
	CSV_LIFE_COMMIT,   /* its run may be committed */
	CSV_LIFE_TELL,     /* it may be told: it, and no other process */
	CSV_LIFE_KILL,     /* it must end */
	CSV_LIFE_ENDED,    /* it was seen for the first time that it has ended */
	CSV_LIFE_GONE,     /* and nothing of it is on its way to a device: to be committed */
	CSV_LIFE_FORGET,   /* out of the guard's page; then look again */
};

/* What there is. Runs: 0 = none. */
struct csv_life_seen {
	uint64_t now_ns; /* CLOCK_BOOTTIME */
	uint64_t inflight_ns;
	uint64_t hang_ns;
	uint64_t guarded; /* the run in the guard's page */
	bool lives;       /* its process has not ended, as far as one can know */
	bool answers;     /* some process answered last time */
	bool same;        /* and it is the guarded one */
	uint64_t told;    /* what that process was told that it is */
	uint64_t run;     /* in the log */
	bool gone;        /* in the log: that run has ended */
	uint64_t fence;   /* this run is in the way of others (in the log) */
	bool informed;    /* it has taken all that is true now */
	bool dead;        /* a volume of it was fenced: only a new run goes on */
	bool may;         /* this node has its lease: nobody keeps the process from running */
};

/* Visible for embedding; all 0 = nothing was seen yet. */
struct csv_life {
	uint64_t ended_ns;  /* when the guarded process was first seen to have ended; 0 = was not */
	uint64_t fresh_ns;  /* since when the guarded one waits for its run; 0 = does not */
	uint64_t silent_ns; /* since when it does not answer; 0 = does */
	uint64_t fence_ns;  /* since when others ask for it, and it knows all; 0 = not */
	bool killed;        /* CSV_LIFE_KILL was said of it before */
};

/* csv_life_step() - what is to be done now. Called several times per second. */
enum csv_life_act csv_life_step(struct csv_life *l, const struct csv_life_seen *s);

/*
 * csv_life_clear() - before a new run of this node: is nothing left of the guarded process? One
 * that @lives is killed by the caller.
 */
bool csv_life_clear(struct csv_life *l, bool lives, uint64_t now_ns, uint64_t inflight_ns);

#endif
